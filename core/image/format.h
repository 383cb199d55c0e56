/*
** format.h - the blocks of an image, byte by byte (FORMAT.md), for its writer and its reader
**
** Header, frame and trailer have 32 bytes each. The last 8 are the check: XXH3-64 of the first 24, seeded with the
** check of the block before.
*/
#ifndef WALMAP_IMAGE_FORMAT_H
#define WALMAP_IMAGE_FORMAT_H

#define XXH_INLINE_ALL
#include "base/checksum.h"
#include "image/image.h"

#include <xxhash.h>

#define IMAGE_BLOCK ((size_t)32)
#define IMAGE_CHECK ((size_t)24) /* offset of the check, and how many bytes it covers */

#define HEADER_MAGIC 0
#define HEADER_VERSION 8
#define HEADER_FLAGS 12
#define HEADER_CONTENT 16
#define HEADER_RESERVED 20
#define IMAGE_MAGIC "\x89walmap\n" /* 8 bytes, without the NUL */
#define IMAGE_MAGIC_BYTES ((size_t)8)

#define FRAME_TAG 0
#define FRAME_RECORDS 4
#define FRAME_SIZE 8
#define FRAME_CHECKSUM 16
#define FRAME_TAG_VALUE 0x6b6e6863u /* "chnk" */

#define TRAILER_TAG 0
#define TRAILER_CHUNKS 4
#define TRAILER_ENTRIES 8
#define TRAILER_SIZE 16
#define TRAILER_TAG_VALUE 0x6c696174u /* "tail" */

static inline uint32_t image_load32(const uint8_t *at) {
  uint32_t x;
  memcpy(&x, at, 4);
  return WALMAP__LE32(x);
}
static inline void image_store32(uint8_t *at, uint32_t x) {
  x = WALMAP__LE32(x);
  memcpy(at, &x, 4);
}

/* The check of a block that follows a block with the check `before` (0 for the header). */
static inline uint64_t image_check(const uint8_t *block, uint64_t before) {
  return XXH3_64bits_withSeed(block, IMAGE_CHECK, before);
}

#endif
