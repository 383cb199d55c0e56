/*
** block.c - memory for an image, which grows without a copy and is handed over whole
**
** A small block comes from malloc. Where pages can be moved (Linux), a block of HUGE_PAGE bytes or more is mapped at a
** multiple of the huge page size, with a request for huge pages: the first touch of memory is most of the cost of an
** image, and huge pages cut it to a quarter. A mapped block takes only address space until it is written. So its size
** may be an upper bound, and the block grows by moving its pages, not its bytes.
**
** A prefix in front of the bytes tells walmap_image_free how to free them:
**
**     | prefix: 64 bytes | image ... capacity |
**     ^ malloc'ed, or mapped                  ^ end of what was obtained
*/
#include "image/image.h"
#include "platform/platform.h"

#include <stdlib.h>

#define HUGE_PAGE ((size_t)2 << 20)
#define FIRST_CAPACITY ((size_t)4032) /* with the prefix one page */

typedef union prefix {
  size_t mapped; /* bytes of the mapping, prefix included; 0: malloc'ed */
  char cache_line[64];
} prefix;

static prefix *prefix_of(void *bytes) { return (prefix *)bytes - 1; }

/* Makes the block a mapping of `size` bytes, or resizes its mapping. False: no memory, the block is unchanged. */
static bool map_block(walmap__image_block *block, size_t size) {
  size_t old = block->bytes == NULL ? 0 : prefix_of(block->bytes)->mapped;
  prefix *at = old > 0 ? walmap__resize_pages(prefix_of(block->bytes), old, size, HUGE_PAGE)
                       : walmap__map_address_space(size, HUGE_PAGE);
  if (at == NULL)
    return false;
  if (old == 0 && block->bytes != NULL) {
    memcpy(at + 1, block->bytes, block->capacity);
    free(prefix_of(block->bytes));
  }
  walmap__want_huge_pages(at, size);
  at->mapped = size;
  block->bytes = (uint8_t *)(at + 1);
  block->capacity = size - sizeof(prefix);
  return true;
}

bool walmap__image_block_grow(walmap__image_block *block, size_t capacity) {
  if (capacity <= block->capacity)
    return true;
  if (capacity < FIRST_CAPACITY)
    capacity = FIRST_CAPACITY;
  if (capacity < block->capacity * 2)
    capacity = block->capacity * 2;
  if (capacity > SIZE_MAX / 2 - HUGE_PAGE)
    return false;
  if (WALMAP__PAGES_MOVE && capacity >= HUGE_PAGE)
    return map_block(block, (capacity + sizeof(prefix) + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE);
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
  if (at->mapped > 0) {
    /* Only whole huge pages, which were never touched: splitting one costs more than it gives back. */
    size_t keep = (used + sizeof(prefix) + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE;
    if (keep < at->mapped && walmap__shorten_pages(at, at->mapped, keep))
      at->mapped = keep;
    return at + 1;
  }
  prefix *smaller = realloc(at, sizeof(prefix) + used);
  return (smaller == NULL ? at : smaller) + 1;
}

void walmap_image_free(void *image) {
  if (image == NULL)
    return;
  prefix *at = prefix_of(image);
  if (at->mapped > 0) {
    walmap__unmap_pages(at, at->mapped);
  } else {
    free(at);
  }
}
