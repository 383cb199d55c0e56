/*
** checksum_avx2.c - the checksum of an image's chunks with AVX2 (checksum.h)
**
** All functions below the pragma are compiled for AVX2, including those of xxhash.h, which are static. So no other
** header may be included behind the pragma, and a caller must first ask the CPU whether it has AVX2.
*/
#include "base/checksum.h"

#ifdef WALMAP__CHECKSUM_AVX2

#include <immintrin.h>
#include <stdlib.h>
#include <string.h>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2")
#endif

#define XXH_INLINE_ALL
#define XXH_VECTOR 2 /* XXH_AVX2 */
#include <xxhash.h>

uint64_t walmap__checksum_avx2(const void *bytes, size_t n) { return XXH3_64bits(bytes, n); }

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

#endif
