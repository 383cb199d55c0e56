/*
** expiry.h - how many entries of a generation expire at each time, so that counts are exact at any moment
**
** A table from a time (ms) to the number of live entries that expire then, and to the bytes that compaction frees with
** them. `swept` is a time: the holder of the shard lock has taken entries that expired up to it out of the generation's
** `len`, and their bytes into `dead` and `expired`; the table has the entries that expire later. So at the time t the
** generation has `len` entries less those of the table up to t.
**
** Exact counts without a lock (X1). The lock's holder makes `version` odd before it changes the table or sweeps, and
** even again when it stores the stats of the commit point that shows these changes (map.h); the stats name the version.
** A reader that has found the stats of its commit point sums up the table, and loads `version` before and after: if
** both are the version in the stats, the table has not changed meanwhile, so the sum belongs to these stats. Otherwise
** the reader counts the shard's entries by a walk, as it does for a state older than the stats. It never waits (C1).
**
** Undoing needs no memory: all times that came later go before the first one comes back (undo.c), and a table never
** shrinks.
**
** Threads: the holder of the shard lock changes the table; readers call walmap__expiry_count, protected by their epoch.
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
  _Atomic(walmap__expiry_table *) table; /* NULL: no entry that expires was ever written */
  _Atomic uint64_t version;              /* odd while it is being changed, and not yet committed */
  uint64_t swept;
  uint64_t expired;   /* bytes of entries that were swept, and are neither superseded nor dropped yet */
  uint64_t droppable; /* no reader's clock is before this time: entries that expired may be dropped (compact.h) */
} walmap__expiry;

void walmap__expiry_destroy(walmap__expiry *expiry, walmap__memory *memory);

/* Room for n more times: OK or NOMEM. */
int walmap__expiry_reserve(walmap__expiry *expiry, walmap__memory *memory, walmap__limbo *limbo, uint32_t n);

/* Adds an entry that expires later than `swept`, for which room was reserved; or removes one. */
void walmap__expiry_add(walmap__expiry *expiry, uint64_t time, size_t bytes);
void walmap__expiry_remove(walmap__expiry *expiry, uint64_t time, size_t bytes);

/*
** Takes the times up to `now` out of the table. Returns the number of entries; *bytes, their bytes, are now `expired`.
*/
uint64_t walmap__expiry_sweep(walmap__expiry *expiry, uint64_t now, uint64_t *bytes);

/* For walmap__store_stats: the changes are committed with the stats. Returns the version. */
static inline uint64_t walmap__expiry_settle(walmap__expiry *expiry) {
  uint64_t version = atomic_load_explicit(&expiry->version, memory_order_relaxed);
  if (version & 1)
    atomic_store_explicit(&expiry->version, ++version, memory_order_release);
  return version;
}

/*
** Counts the entries that expire after `from`, up to `to` (ms), in the table of this version (X1). False when the table
** has changed meanwhile, which it does not for the holder of the shard lock.
*/
bool walmap__expiry_count(walmap__expiry *expiry, uint64_t version, uint64_t from, uint64_t to, uint64_t *count);

/* The same from `swept` on, for the holder of the shard lock. */
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
