/*
** block.c - memory for an image, which grows without a copy and is handed over whole
**
** A small block comes from malloc. On Linux a block of HUGE_PAGE bytes or more is mapped at a multiple of the huge page
** size, with a request for huge pages: the first touch of memory is most of the cost of an image, and huge pages cut it
** to a quarter. A mapped block takes only address space until it is written. So its size may be an upper bound, and the
** block grows by moving its pages, not its bytes.
**
** A prefix in front of the bytes tells walmap_image_free how to free them:
**
**     | prefix: 64 bytes | image ... capacity |
**     ^ malloc'ed, or mapped                  ^ end of what was obtained
*/
#if defined(__linux__) && !defined(_GNU_SOURCE)
#define _GNU_SOURCE /* mremap, MADV_HUGEPAGE */
#endif
#include "image/image.h"

#if defined(__linux__)
#include "base/map_aligned.h"
#endif

#include <stdlib.h>

#define HUGE_PAGE ((size_t)2 << 20)
#define FIRST_CAPACITY ((size_t)4032) /* with the prefix one page */

typedef union prefix {
  size_t mapped; /* bytes of the mapping, prefix included; 0: malloc'ed */
  char cache_line[64];
} prefix;

static prefix *prefix_of(void *bytes) { return (prefix *)bytes - 1; }

#if defined(__linux__)

/* Makes the block a mapping of `size` bytes, or resizes its mapping. False: no memory, the block is unchanged. */
static bool map_block(walmap__image_block *block, size_t size) {
  size_t old = block->bytes == NULL ? 0 : prefix_of(block->bytes)->mapped;
  prefix *at = NULL;
  if (old > 0 && mremap(prefix_of(block->bytes), old, size, 0) != MAP_FAILED) {
    at = prefix_of(block->bytes); /* it grew where it is */
  } else {
    at = walmap__map_aligned(size, HUGE_PAGE, MAP_NORESERVE);
    if (at == NULL)
      return false;
    if (old > 0) {
      /* Moves the pages over the fresh mapping, which keeps them aligned and so keeps huge pages whole. */
      if (mremap(prefix_of(block->bytes), old, size, MREMAP_MAYMOVE | MREMAP_FIXED, at) == MAP_FAILED) {
        munmap(at, size);
        return false;
      }
    } else if (block->bytes != NULL) {
      memcpy(at + 1, block->bytes, block->capacity);
      free(prefix_of(block->bytes));
    }
  }
  madvise(at, size, MADV_HUGEPAGE); /* for speed; a failure does no harm */
  at->mapped = size;
  block->bytes = (uint8_t *)(at + 1);
  block->capacity = size - sizeof(prefix);
  return true;
}

#endif

bool walmap__image_block_grow(walmap__image_block *block, size_t capacity) {
  if (capacity <= block->capacity)
    return true;
  if (capacity < FIRST_CAPACITY)
    capacity = FIRST_CAPACITY;
  if (capacity < block->capacity * 2)
    capacity = block->capacity * 2;
  if (capacity > SIZE_MAX / 2 - HUGE_PAGE)
    return false;
#if defined(__linux__)
  if (capacity >= HUGE_PAGE)
    return map_block(block, (capacity + sizeof(prefix) + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE);
#endif
  prefix *at = realloc(block->bytes == NULL ? NULL : prefix_of(block->bytes), sizeof(prefix) + capacity);
  if (at == NULL)
    return false;
  at->mapped = 0;
  block->bytes = (uint8_t *)(at + 1);
  block->capacity = capacity;
  return true;
}

void *walmap__image_block_give(walmap__image_block *block, size_t used) {
  prefix *at = prefix_of(block->bytes);
  *block = (walmap__image_block){0};
#if defined(__linux__)
  if (at->mapped > 0) {
    /* Only whole huge pages, which were never touched: splitting one costs more than it gives back. */
    size_t keep = (used + sizeof(prefix) + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE;
    if (keep < at->mapped && munmap((uint8_t *)at + keep, at->mapped - keep) == 0)
      at->mapped = keep;
    return at + 1;
  }
#endif
  prefix *smaller = realloc(at, sizeof(prefix) + used);
  return (smaller == NULL ? at : smaller) + 1;
}

void walmap_image_free(void *image) {
  if (image == NULL)
    return;
  prefix *at = prefix_of(image);
#if defined(__linux__)
  if (at->mapped > 0) {
    munmap(at, at->mapped);
    return;
  }
#endif
  free(at);
}
