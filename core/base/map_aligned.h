/* map_aligned.h - memory from mmap at a multiple of a given size */
#ifndef WALMAP_MAP_ALIGNED_H
#define WALMAP_MAP_ALIGNED_H

#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>

/*
** Maps `size` bytes at a multiple of `align`; both are multiples of the system's page. `flags` are added to those of
** mmap. It maps more than is asked for and unmaps both ends. NULL when the system refuses. Free it with munmap.
*/
static inline void *walmap__map_aligned(size_t size, size_t align, int flags) {
  if (size > SIZE_MAX - align)
    return NULL;
  uint8_t *base = mmap(NULL, size + align, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);
  if (base == MAP_FAILED)
    return NULL;
  size_t before = (align - (uintptr_t)base % align) % align;
  if (before > 0)
    munmap(base, before);
  if (before < align)
    munmap(base + before + size, align - before);
  return base + before;
}

#endif
