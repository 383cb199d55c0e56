/* checksum.c - the checksum of an image's chunks: the baseline, and the choice (checksum.h) */
#include "base/checksum.h"
#include "platform/platform.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

uint64_t walmap__checksum(const void *bytes, size_t n) {
#ifdef WALMAP__CHECKSUM_AVX2
  if (walmap__has_avx2())
    return walmap__checksum_avx2(bytes, n);
#endif
  return XXH3_64bits(bytes, n);
}
