/*
** checksum.h - the checksum of an image's chunks: XXH3, 64 bits, unseeded
**
** The result is the same on every machine. The build is for the baseline; walmap__checksum asks the CPU at run time,
** and takes the version for AVX2, which is about twice as fast, where it can. The amalgamation has the baseline alone,
** unless all of it is compiled for AVX2.
*/
#ifndef WALMAP_CHECKSUM_H
#define WALMAP_CHECKSUM_H

#include <stddef.h>
#include <stdint.h>

#if defined(__x86_64__) && defined(__GNUC__) && !defined(WALMAP_AMALGAMATION)
#define WALMAP__CHECKSUM_AVX2 1
uint64_t walmap__checksum_avx2(const void *bytes, size_t n); /* only where the CPU has AVX2 */
#endif

uint64_t walmap__checksum(const void *bytes, size_t n);

#endif
