/*
** garbage.h - the garbage queue: addresses of dead records, in the order of their deaths
**
** Entries are numbered from the queue's making: `first` is the oldest that is left, `end` is one past the newest. They
** lie in a list of chunks, so a burst takes and gives back memory without a copy:
**
**   [base 0: 54 addresses] -> [base 54: 108 addresses] -> [base 160: ...]      a chunk may be left before it is full
**
** Threads: the holder of the shard lock.
*/
#ifndef WALMAP_GARBAGE_H
#define WALMAP_GARBAGE_H

#include "base/memory.h"

typedef struct walmap__garbage_chunk {
  struct walmap__garbage_chunk *next, *previous;
  uint64_t base; /* number of its first entry */
  uint32_t capacity;
  uint32_t addresses[];
} walmap__garbage_chunk;

typedef struct walmap__garbage {
  walmap__garbage_chunk *oldest, *newest;
  uint64_t first, end;
  uint64_t batch_end;  /* entries before it died before batch_time */
  uint64_t batch_time; /* of the epoch's clock */
} walmap__garbage;

void walmap__garbage_destroy(walmap__garbage *garbage, walmap__memory *memory);

/* For walmap__garbage_reserve: the newest chunk is full, or there is none. */
bool walmap__garbage_new_chunk(walmap__garbage *garbage, walmap__memory *memory, unsigned n);

/* Makes room for n pushes. False when memory is out. */
static inline bool walmap__garbage_reserve(walmap__garbage *garbage, walmap__memory *memory, unsigned n) {
  const walmap__garbage_chunk *newest = garbage->newest;
  return (newest && newest->base + newest->capacity - garbage->end >= n) ||
         walmap__garbage_new_chunk(garbage, memory, n);
}

static inline void walmap__garbage_push(walmap__garbage *garbage, uint32_t address) {
  walmap__garbage_chunk *chunk = garbage->newest;
  chunk->addresses[garbage->end++ - chunk->base] = address;
}

/* The oldest entry. The queue must not be empty. */
static inline uint32_t walmap__garbage_oldest(const walmap__garbage *garbage) {
  return garbage->oldest->addresses[garbage->first - garbage->oldest->base];
}

/* The entries from the oldest on that lie in one chunk: *n of them, at least 1. The queue must not be empty. */
static inline const uint32_t *walmap__garbage_run(const walmap__garbage *garbage, uint64_t *n) {
  const walmap__garbage_chunk *chunk = garbage->oldest;
  *n = (chunk->next ? chunk->next->base : garbage->end) - garbage->first;
  return &chunk->addresses[garbage->first - chunk->base];
}

/* Removes the n oldest entries, all of one walmap__garbage_run. */
void walmap__garbage_pop(walmap__garbage *garbage, walmap__memory *memory, uint64_t n);

/* Removes the entries from `end` on. */
void walmap__garbage_truncate(walmap__garbage *garbage, walmap__memory *memory, uint64_t end);

#endif
