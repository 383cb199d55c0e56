/*
** deaths.h - a queue of the places of dead records, in the order of their deaths
**
** Entries are counted from the queue's making: `first` is the oldest that is left, `end` is one past the newest. They
** lie in a list of chunks, so a burst takes and gives back memory without any copy:
**
**   [base 0: 54 places] -> [base 54: 108 places] -> [base 160: ...]      a chunk may be left before it is full
**
** Threads: the shard's owner.
*/
#ifndef WALMAP_DEATHS_H
#define WALMAP_DEATHS_H

#include "memory.h"

typedef struct walmap__death_chunk {
  struct walmap__death_chunk *next, *previous;
  uint64_t base; /* number of its first entry */
  uint32_t capacity;
  uint32_t places[];
} walmap__death_chunk;

typedef struct walmap__deaths {
  walmap__death_chunk *oldest, *newest;
  uint64_t first, end;
  uint64_t batch_end;  /* entries before it died before batch_time */
  uint64_t batch_time; /* of the epoch's clock */
} walmap__deaths;

void walmap__deaths_destroy(walmap__deaths *deaths, walmap__memory *memory);

/* For walmap__deaths_reserve: the newest chunk is full, or there is none. */
bool walmap__deaths_new_chunk(walmap__deaths *deaths, walmap__memory *memory, unsigned n);

/* Room for n pushes: false when there is no memory. */
static inline bool walmap__deaths_reserve(walmap__deaths *deaths, walmap__memory *memory, unsigned n) {
  const walmap__death_chunk *newest = deaths->newest;
  return (newest && newest->base + newest->capacity - deaths->end >= n) || walmap__deaths_new_chunk(deaths, memory, n);
}

static inline void walmap__deaths_push(walmap__deaths *deaths, uint32_t place) {
  walmap__death_chunk *chunk = deaths->newest;
  chunk->places[deaths->end++ - chunk->base] = place;
}

/* The oldest entry; there must be one. */
static inline uint32_t walmap__deaths_oldest(const walmap__deaths *deaths) {
  return deaths->oldest->places[deaths->first - deaths->oldest->base];
}

/* The entries from the oldest on that lie together: *n of them, at least 1; there must be one. */
static inline const uint32_t *walmap__deaths_run(const walmap__deaths *deaths, uint64_t *n) {
  const walmap__death_chunk *chunk = deaths->oldest;
  *n = (chunk->next ? chunk->next->base : deaths->end) - deaths->first;
  return &chunk->places[deaths->first - chunk->base];
}

/* Takes the n oldest entries away, all of one run. */
void walmap__deaths_pop(walmap__deaths *deaths, walmap__memory *memory, uint64_t n);

/* Forgets the entries from `end` on. */
void walmap__deaths_truncate(walmap__deaths *deaths, walmap__memory *memory, uint64_t end);

#endif
