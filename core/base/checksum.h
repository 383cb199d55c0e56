/*
** checksum.h - the checksum of an image's chunks: XXH3, 64 bits, unseeded
**
** The same number on every machine; about twice as fast where the CPU has AVX2, which is asked at run time: the build
** is for the baseline.
*/
#ifndef WALMAP_CHECKSUM_H
#define WALMAP_CHECKSUM_H

#include <stddef.h>
#include <stdint.h>

#if defined(__x86_64__) && defined(__GNUC__)
#define WALMAP__CHECKSUM_AVX2 1
uint64_t walmap__checksum_avx2(const void *bytes, size_t n); /* only where the CPU has AVX2 */
#endif

uint64_t walmap__checksum(const void *bytes, size_t n);

#endif
