/*
** memory.h - where a map's memory comes from
**
** A block's size decides its kind:
**
**   small   less than one page (8 KiB): from the allocator, aligned to a cache line
**   pages   1 to 127 pages: a run of pages in a 2 MiB region, so that log and index lie on huge pages
**   large   more than 127 pages: a block of its own, aligned to 2 MiB if it has 2 MiB or more
**
** A region is 2 MiB, aligned to 2 MiB. Its first page holds the address of the region's head; the other 255 pages are
** handed out by first fit over a bitmap. The first region of a map asks for no huge page, unless the map expects as
** much, so that a small map costs only the pages that it touches. A nearly empty region gives its free pages back to
** the system one by one. Where memory is bounded, all regions do, so that it is counted by the page; that takes the
** default allocator, as those of others are asked for whole regions.
**
** Threads: all functions may be called at once; a mutex guards the regions. Readers never take it.
*/
#ifndef WALMAP_MEMORY_H
#define WALMAP_MEMORY_H

#include <pthread.h>
#include <stdatomic.h>

#include "walmap.h"

#define WALMAP__PAGE ((size_t)8192)
#define WALMAP__REGION ((size_t)2 << 20)
#define WALMAP__REGION_PAGES 256
#define WALMAP__FREE_PAGES (WALMAP__REGION_PAGES - 1) /* that a region hands out */
#define WALMAP__MAX_RUN 127                           /* pages: two runs and the head fit one region */

struct walmap__region;

typedef struct walmap__memory {
  walmap_allocator allocator;
  bool own_allocator;         /* it is the default one */
  bool by_page;               /* all regions give their free pages back */
  _Atomic uint64_t bytes;     /* obtained and not given back, without the free pages of sparse regions */
  _Atomic uint64_t log_bytes; /* of them, those of logs' segments; log.c counts them */
  pthread_mutex_t mutex;
  struct walmap__region *regions; /* those with free pages, the oldest first */
  uint32_t n_regions;
  uint64_t next_serial;
} walmap__memory;

void walmap__memory_init(walmap__memory *memory, const walmap_allocator *allocator, bool by_page);

/* Gives the regions back. All blocks must have been freed. */
void walmap__memory_destroy(walmap__memory *memory);

/* Returns `size` bytes, not zeroed, aligned to a cache line at least; NULL when memory is out. */
void *walmap__memory_alloc(walmap__memory *memory, size_t size);
void walmap__memory_free(walmap__memory *memory, void *block, size_t size);

/*
** The same for a block that is no run of pages, whatever its size, and has just that size: where a run would leave much
** of a region unused.
*/
void *walmap__memory_alloc_block(walmap__memory *memory, size_t size);
void walmap__memory_free_block(walmap__memory *memory, void *block, size_t size);

/*
** A hint that `bytes` will be asked for soon. A map without a region then gets its first one with these pages
** populated, or as one huge page, which is cheaper than one page fault after another. A failure here has no effect.
*/
void walmap__memory_expect(walmap__memory *memory, uint64_t bytes);

/* The bytes that a block for `size` bytes really has. */
size_t walmap__memory_usable(size_t size);

/*
** The largest size from half of `size` to `size` that fits into the present regions. `size` itself when none fits, or
** when `size` is no run of pages.
*/
size_t walmap__memory_fitting(walmap__memory *memory, size_t size);

/* Shrinks a block from `from` to `to` bytes, if its kind allows that. Returns the block's new size. */
size_t walmap__memory_trim(walmap__memory *memory, void *block, size_t from, size_t to);

/* The default allocator: malloc, and mmap for blocks aligned to 2 MiB. */
extern const walmap_allocator walmap__default_allocator;

#endif
