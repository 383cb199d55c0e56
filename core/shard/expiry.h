/*
** expiry.h - how many entries of a generation expire at each time, so that counts are exact at any moment
**
** A table from a time (ms) to the number of live entries that expire then, and the bytes that compaction frees with
** them. `swept` is the time up to which the owner has taken entries that expired out of the generation's `len`, and
** their bytes into `dead` and `expired`; the table has what expires later. So at the time t the generation has `len`
** entries less those of the table up to t.
**
** Exact counts without a lock (X1). The owner makes `version` odd before it changes the table or sweeps, and even again
** when it stores the stats of the commit point that shows all of that (map.h), which name the version. A reader that has
** found the stats of its commit point sums up the table, and looks at `version` before and after: if it is the one in
** the stats both times, nothing has changed meanwhile, so the sum belongs to these stats. Otherwise the reader counts the
** shard's entries by a walk, as it does for a state that is older than the stats. It waits in neither case (C1).
**
** Undoing needs no memory: a time comes back only where a later one goes (undo.c), and a table never shrinks.
**
** Threads: the shard's owner changes it; readers call walmap__expiry_count, protected by their epoch.
*/
#ifndef WALMAP_EXPIRY_H
#define WALMAP_EXPIRY_H

#include "shard/log.h"

/* Open addressing; 20 bytes a cell. A time of 0 is an empty cell. */
typedef struct walmap__expiry_table {
  walmap__retired retired;
  uint32_t bits, used; /* 2^bits cells, at most four fifths of them used */
  _Atomic uint64_t *times;
  _Atomic uint64_t *bytes;
  _Atomic uint32_t *counts;
} walmap__expiry_table;

typedef struct walmap__expiry {
  _Atomic(walmap__expiry_table *) table; /* NULL: nothing that expires was ever written */
  _Atomic uint64_t version;              /* odd while it is being changed, and not yet committed */
  uint64_t swept;
  uint64_t expired;   /* bytes of entries that were swept, and are neither superseded nor dropped yet */
  uint64_t droppable; /* no reader's clock is before this time: entries that expired may be dropped (compact.h) */
} walmap__expiry;

void walmap__expiry_destroy(walmap__expiry *expiry, walmap__memory *memory);

/* Room for n more times: OK or NOMEM. */
int walmap__expiry_reserve(walmap__expiry *expiry, walmap__memory *memory, walmap__limbo *limbo, uint32_t n);

/* An entry that expires later than `swept` comes, with room reserved, or goes. */
void walmap__expiry_add(walmap__expiry *expiry, uint64_t time, size_t bytes);
void walmap__expiry_remove(walmap__expiry *expiry, uint64_t time, size_t bytes);

/* Takes the times up to `now` out of the table: how many entries, and their bytes, which are now `expired`. */
uint64_t walmap__expiry_sweep(walmap__expiry *expiry, uint64_t now, uint64_t *bytes);

/* For store_stats: what has changed is committed with it. Returns the version. */
static inline uint64_t walmap__expiry_settle(walmap__expiry *expiry) {
  uint64_t version = atomic_load_explicit(&expiry->version, memory_order_relaxed);
  if (version & 1)
    atomic_store_explicit(&expiry->version, ++version, memory_order_release);
  return version;
}

/* Entries that expire after `from`, up to `to`: those of the owner, or of this version (X1). False: it has changed. */
bool walmap__expiry_count(walmap__expiry *expiry, uint64_t version, uint64_t from, uint64_t to, uint64_t *count);

/* The owner's. */
static inline uint64_t walmap__expiry_count_own(walmap__expiry *expiry, uint64_t to) {
  uint64_t count = 0;
  (void)walmap__expiry_count(expiry, atomic_load_explicit(&expiry->version, memory_order_relaxed), expiry->swept, to,
                             &count);
  return count;
}

static inline bool walmap__expiry_is_used(const walmap__expiry *expiry) {
  return WALMAP__UNLIKELY(atomic_load_explicit(&expiry->table, memory_order_relaxed) != NULL);
}

/* Whether the record's entry is absent at this time. */
static WALMAP__ALWAYS_INLINE bool walmap__record_is_expired(const walmap__record *record, uint32_t meta, uint64_t now) {
  return WALMAP__UNLIKELY(meta & WALMAP__EXPIRES) && walmap__record_expires(record, meta) <= now;
}

#endif
