/* counter.h - numbers that one thread at a time changes, and that others read at any time */
#ifndef WALMAP_COUNTER_H
#define WALMAP_COUNTER_H

#include <stdatomic.h>
#include <stdint.h>

typedef _Atomic uint64_t walmap__counter;

/* No atomic addition, which would be a full barrier: there is one writer. */
static inline void walmap__count(walmap__counter *counter, uint64_t n) {
  atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + n, memory_order_relaxed);
}

static inline uint64_t walmap__counted(const walmap__counter *counter) {
  return atomic_load_explicit(counter, memory_order_relaxed);
}

/* Lookups by key that found an entry, and that did not. */
typedef struct walmap__lookups {
  walmap__counter hits, misses;
} walmap__lookups;

#endif
