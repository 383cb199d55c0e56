/*
** memory.h - where a map's memory comes from
**
** Three kinds of blocks, told apart by their size:
**
**   small   below one page (8 KiB): from the allocator, cache-line aligned
**   pages   1 to 127 pages: a run of pages in a 2 MiB region, so that log and index lie on huge pages
**   large   above: a block of its own, aligned to 2 MiB when it is that large
**
** A region is 2 MiB, aligned to 2 MiB: its first page holds the address of the region's head, the other 255 are handed
** out by first fit over a bitmap. The first region of a map asks for no huge page, unless as much is expected, so that
** a small map costs only the pages it touches; and a region that is nearly empty gives its free pages back to the
** system one by one.
**
** Threads: all functions may be called at once; a mutex guards the regions. No reader ever takes it.
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
  bool own_allocator;     /* it is the default one */
  _Atomic uint64_t bytes; /* held, sparse regions' free pages not counted */
  pthread_mutex_t mutex;
  struct walmap__region *regions; /* those with free pages, the oldest first */
  uint32_t n_regions;
  uint64_t next_serial;
} walmap__memory;

void walmap__memory_init(walmap__memory *memory, const walmap_allocator *allocator);

/* Gives the regions back. All blocks must have been freed. */
void walmap__memory_destroy(walmap__memory *memory);

/* `size` bytes, not zeroed, aligned to a cache line at least; NULL when there are none. */
void *walmap__memory_alloc(walmap__memory *memory, size_t size);
void walmap__memory_free(walmap__memory *memory, void *block, size_t size);

/*
** So many bytes will be asked for soon: a map that has no region yet gets its first one as they need it, its pages
** already populated or as one huge page, which is cheaper than one page fault after another. A hint: what fails, fails
** later.
*/
void walmap__memory_expect(walmap__memory *memory, uint64_t bytes);

/* What a block of `size` bytes really offers. */
size_t walmap__memory_usable(size_t size);

/*
** The largest size up to this one, and at least half of it, for which no more memory is needed from the system; the
** size itself when there is none, or it is no run of pages.
*/
size_t walmap__memory_fitting(walmap__memory *memory, size_t size);

/* Gives back what lies past the first `to` bytes of a block, where its kind allows it. Returns the block's new size. */
size_t walmap__memory_trim(walmap__memory *memory, void *block, size_t from, size_t to);

/* The default allocator: malloc, and mmap for blocks aligned to 2 MiB. Also used for memory outside of maps. */
extern const walmap_allocator walmap__default_allocator;

#endif
