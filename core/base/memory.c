/* memory.c - where a map's memory comes from (memory.h has the picture) */
#include "base/memory.h"

#include "platform/platform.h"

#include <stdlib.h>
#include <string.h>

#define CACHE_LINE ((size_t)64)

/* The head lies outside of its region: heads in the regions' first lines would share a few sets of a CPU's cache. */
typedef struct walmap__region {
  struct walmap__region *next, *previous;
  uint8_t *base;
  uint64_t used[WALMAP__REGION_PAGES / 64]; /* one bit a page; page 0 holds this head's address */
  uint64_t serial;                          /* older regions have smaller ones */
  uint16_t free_pages;
  uint16_t longest; /* no free run is longer */
  bool sparse;      /* its free pages are not held, and not counted */
} walmap__region;

/* ------------------------------------------------------------------------------------------------------------------ */
/* The default allocator                                                                                              */

static size_t round_up(size_t n, size_t unit) { return (n + unit - 1) / unit * unit; }

static void *default_alloc(void *ctx, size_t size, size_t align) {
  (void)ctx;
  if (align >= WALMAP__REGION)
    return walmap__map_pages(round_up(size, WALMAP__PAGE), align);
  return walmap__alloc_aligned(size, align);
}

static void default_free(void *ctx, void *block, size_t size, size_t align) {
  (void)ctx;
  if (align >= WALMAP__REGION) {
    walmap__unmap_pages(block, round_up(size, WALMAP__PAGE));
  } else {
    walmap__free_aligned(block);
  }
}

const walmap_allocator walmap__default_allocator = {default_alloc, default_free, NULL};

/* ------------------------------------------------------------------------------------------------------------------ */
/* Regions                                                                                                            */

static void *allocate_counted(walmap__memory *m, size_t size, size_t align) {
  void *block = m->allocator.alloc(m->allocator.ctx, size, align);
  if (block)
    atomic_fetch_add_explicit(&m->bytes, size, memory_order_relaxed);
  return block;
}

static void free_counted(walmap__memory *m, void *block, size_t size, size_t align) {
  m->allocator.free(m->allocator.ctx, block, size, align);
  atomic_fetch_sub_explicit(&m->bytes, size, memory_order_relaxed);
}

/* Huge pages are asked for, never required; a custom allocator decides for itself. */
static void ask_for_huge_pages(const walmap__memory *m, void *block, size_t size) {
  if (m->own_allocator)
    walmap__want_huge_pages(block, size);
}

static void unlink_region(walmap__memory *m, walmap__region *region) {
  if (region->previous) {
    region->previous->next = region->next;
  } else {
    m->regions = region->next;
  }
  if (region->next)
    region->next->previous = region->previous;
}

/* Regions are listed in the order in which they were made. */
static void link_region(walmap__memory *m, walmap__region *region) {
  walmap__region *before = NULL, *after = m->regions;
  while (after && after->serial < region->serial) {
    before = after;
    after = after->next;
  }
  region->previous = before;
  region->next = after;
  if (before) {
    before->next = region;
  } else {
    m->regions = region;
  }
  if (after)
    after->previous = region;
}

static void count_pages(walmap__memory *m, bool more, size_t pages) {
  uint64_t bytes = pages * WALMAP__PAGE;
  atomic_fetch_add_explicit(&m->bytes, more ? bytes : 0 - bytes, memory_order_relaxed);
}

/* A dense region is counted whole, and asks for a huge page. A sparse region costs only the pages that are touched. */
static walmap__region *new_region(walmap__memory *m, bool sparse) {
  sparse |= m->by_page;
  walmap__region *region = allocate_counted(m, sizeof *region, CACHE_LINE);
  if (!region)
    return NULL;
  memset(region, 0, sizeof *region);
  region->base = allocate_counted(m, WALMAP__REGION, WALMAP__REGION);
  if (!region->base) {
    free_counted(m, region, sizeof *region, CACHE_LINE);
    return NULL;
  }
  if (!sparse)
    ask_for_huge_pages(m, region->base, WALMAP__REGION);
  memcpy(region->base, &region, sizeof region);
  region->used[0] = 1;
  region->free_pages = region->longest = WALMAP__REGION_PAGES - 1;
  region->sparse = sparse && m->own_allocator;
  if (region->sparse)
    count_pages(m, false, region->free_pages);
  region->serial = m->next_serial++;
  m->n_regions++;
  link_region(m, region);
  return region;
}

static bool page_used(const walmap__region *region, unsigned page) {
  return (region->used[page / 64] >> (page % 64)) & 1;
}

static void mark_pages(walmap__region *region, unsigned first, unsigned n, bool used) {
  for (unsigned page = first; page < first + n; page++) {
    uint64_t bit = (uint64_t)1 << (page % 64);
    if (used) {
      region->used[page / 64] |= bit;
    } else {
      region->used[page / 64] &= ~bit;
    }
  }
  region->free_pages = (uint16_t)(used ? region->free_pages - n : region->free_pages + n);
  if (!used)
    region->longest = WALMAP__REGION_PAGES - 1; /* an upper bound: the run may have joined its neighbours */
}

/* First page of the first free run of n pages, or 0. */
static unsigned find_run(const walmap__region *region, unsigned n) {
  unsigned run = 0;
  for (unsigned page = 1; page < WALMAP__REGION_PAGES; page++) {
    if (page % 64 == 0 && region->used[page / 64] == UINT64_MAX) {
      run = 0;
      page += 63;
      continue;
    }
    run = page_used(region, page) ? 0 : run + 1;
    if (run == n)
      return page + 1 - n;
  }
  return 0;
}

/*
** A full region leaves the list until one of its pages is freed, so the search sees only regions with room. It takes
** the oldest region that has a long enough run, so that the younger regions run empty and are given back.
*/
static walmap__region *find_region(walmap__memory *m, unsigned n, unsigned *first) {
  for (walmap__region *region = m->regions; region; region = region->next) {
    if (region->free_pages < n || region->longest < n)
      continue;
    if ((*first = find_run(region, n)) != 0)
      return region;
    region->longest = (uint16_t)(n - 1);
  }
  return NULL;
}

/* The number of pages in the longest free run. */
static unsigned longest_run(const walmap__region *region) {
  unsigned run = 0, longest = 0;
  for (unsigned page = 1; page < WALMAP__REGION_PAGES; page++) {
    run = page_used(region, page) ? 0 : run + 1;
    longest = run > longest ? run : longest;
  }
  return longest;
}

static void drop_pages(walmap__region *region, unsigned first, unsigned n) {
  walmap__drop_pages(region->base + first * WALMAP__PAGE, n * WALMAP__PAGE);
}

static void make_sparse(walmap__memory *m, walmap__region *region) {
  for (unsigned page = 1; page < WALMAP__REGION_PAGES; page++) {
    if (!page_used(region, page))
      drop_pages(region, page, 1);
  }
  region->sparse = true;
  count_pages(m, false, region->free_pages);
}

static void make_dense(walmap__memory *m, walmap__region *region) {
  region->sparse = false;
  count_pages(m, true, region->free_pages);
}

static void *alloc_pages(walmap__memory *m, unsigned n) {
  pthread_mutex_lock(&m->mutex);
  unsigned first;
  walmap__region *region = find_region(m, n, &first);
  if (!region && (region = new_region(m, m->n_regions == 0)) != NULL)
    first = 1;
  void *block = NULL;
  if (region) {
    mark_pages(region, first, n, true);
    if (region->sparse)
      count_pages(m, true, n);
    if (region->sparse && !m->by_page && region->free_pages < WALMAP__REGION_PAGES / 2)
      make_dense(m, region);
    if (region->free_pages == 0)
      unlink_region(m, region);
    block = region->base + first * WALMAP__PAGE;
  }
  pthread_mutex_unlock(&m->mutex);
  return block;
}

static void touch_pages(const walmap__memory *m, uint8_t *block, size_t size) {
  if (m->own_allocator)
    walmap__populate_pages(block, size);
}

void walmap__memory_expect(walmap__memory *m, uint64_t bytes) {
  uint64_t pages = 1 + bytes / WALMAP__PAGE;
  pthread_mutex_lock(&m->mutex);
  if (m->n_regions == 0 && pages > 1) {
    bool sparse = pages < WALMAP__REGION_PAGES / 2;
    walmap__region *region = new_region(m, sparse);
    if (region && sparse)
      touch_pages(m, region->base, pages * WALMAP__PAGE);
  }
  pthread_mutex_unlock(&m->mutex);
}

static void give_back_region(walmap__memory *m, walmap__region *region) {
  if (region->sparse)
    make_dense(m, region);
  free_counted(m, region->base, WALMAP__REGION, WALMAP__REGION);
  free_counted(m, region, sizeof *region, CACHE_LINE);
}

/*
** A region that is less than a quarter full becomes sparse; at half full it becomes dense again. The last empty region
** is kept: a map whose size goes up and down by a page must not map and unmap a region each time.
*/
static void free_pages(walmap__memory *m, void *block, unsigned n) {
  size_t offset = (uintptr_t)block % WALMAP__REGION;
  walmap__region *region;
  memcpy(&region, (uint8_t *)block - offset, sizeof region);
  unsigned first = (unsigned)(offset / WALMAP__PAGE);
  pthread_mutex_lock(&m->mutex);
  bool was_full = region->free_pages == 0;
  mark_pages(region, first, n, false);
  if (was_full)
    link_region(m, region);
  if (region->sparse) {
    drop_pages(region, first, n);
    count_pages(m, false, n);
  } else if (m->own_allocator && region->free_pages > WALMAP__REGION_PAGES / 4 * 3) {
    make_sparse(m, region);
  }
  if (region->free_pages == WALMAP__REGION_PAGES - 1 && m->n_regions > 1) {
    unlink_region(m, region);
    m->n_regions--;
    give_back_region(m, region);
  }
  pthread_mutex_unlock(&m->mutex);
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Blocks                                                                                                             */

static unsigned pages_of(size_t size) { return (unsigned)((size + WALMAP__PAGE - 1) / WALMAP__PAGE); }

static bool is_small(size_t size) { return size < WALMAP__PAGE; }
static bool is_run(size_t size) { return size <= WALMAP__MAX_RUN * WALMAP__PAGE; }

static size_t large_align(size_t size) { return size >= WALMAP__REGION ? WALMAP__REGION : CACHE_LINE; }

size_t walmap__memory_usable(size_t size) {
  return is_small(size) || !is_run(size) ? size : pages_of(size) * WALMAP__PAGE;
}

void *walmap__memory_alloc_block(walmap__memory *m, size_t size) {
  void *block = allocate_counted(m, size, large_align(size));
  if (block && large_align(size) == WALMAP__REGION) {
    ask_for_huge_pages(m, block, size);
  } else if (block && size > WALMAP__REGION / 4) {
    touch_pages(m, block, size);
  }
  return block;
}

void *walmap__memory_alloc(walmap__memory *m, size_t size) {
  return is_run(size) && !is_small(size) ? alloc_pages(m, pages_of(size)) : walmap__memory_alloc_block(m, size);
}

#ifdef WALMAP_DEBUG
/* A reader of freed memory must not find what it looks for. */
static void spoil_block(void *block, size_t size) { memset(block, 0xDB, size); }
#else
#define spoil_block(block, size) ((void)0)
#endif

void walmap__memory_free_block(walmap__memory *m, void *block, size_t size) {
  spoil_block(block, size);
  free_counted(m, block, size, large_align(size));
}

void walmap__memory_free(walmap__memory *m, void *block, size_t size) {
  if (is_small(size) || !is_run(size)) {
    walmap__memory_free_block(m, block, size);
    return;
  }
  spoil_block(block, size);
  free_pages(m, block, pages_of(size));
}

size_t walmap__memory_fitting(walmap__memory *m, size_t size) {
  if (is_small(size) || !is_run(size))
    return size;
  unsigned pages = pages_of(size), best = 0;
  pthread_mutex_lock(&m->mutex);
  for (walmap__region *region = m->regions; region && best < pages; region = region->next) {
    if (region->longest <= best)
      continue;
    region->longest = (uint16_t)longest_run(region); /* it was an upper bound */
    if (region->longest > best)
      best = region->longest;
  }
  pthread_mutex_unlock(&m->mutex);
  return best < pages && best >= (pages + 1) / 2 ? best * WALMAP__PAGE : size;
}

size_t walmap__memory_trim(walmap__memory *m, void *block, size_t from, size_t to) {
  if (is_small(from) || !is_run(from))
    return from;
  if (to < WALMAP__PAGE)
    to = WALMAP__PAGE;
  unsigned old_pages = pages_of(from), new_pages = pages_of(to);
  if (new_pages < old_pages) {
    free_pages(m, (uint8_t *)block + new_pages * WALMAP__PAGE, old_pages - new_pages);
  }
  return new_pages * WALMAP__PAGE;
}

void walmap__memory_init(walmap__memory *m, const walmap_allocator *allocator, bool by_page) {
  memset(m, 0, sizeof *m);
  m->own_allocator = allocator->alloc == walmap__default_allocator.alloc;
  m->allocator = *allocator;
  m->by_page = by_page && m->own_allocator;
  pthread_mutex_init(&m->mutex, NULL);
}

void walmap__memory_destroy(walmap__memory *m) {
  while (m->regions) {
    walmap__region *region = m->regions;
    unlink_region(m, region);
    give_back_region(m, region);
  }
  pthread_mutex_destroy(&m->mutex);
}
