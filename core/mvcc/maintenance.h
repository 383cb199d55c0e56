/*
** maintenance.h - the work that a write does, after its commit, against the dead records that writes leave behind
**
** Each written record pays for more work than it causes: for 16 entries of the garbage queue, 32 steps of compaction (8
** records copied, or 32 dead ones passed) and 2 blocks of memory freed. So both the log's size and a write's work stay
** bounded. Eight records are paid for together, and a long record counts as one for each 2 KiB.
**
** When a reader of an old state ends, it leaves more garbage than these rates clear soon. Then each record also pays
** for a sixteenth of the backlog, at least 2,048 and at most 8,192 entries and steps (some 100 us); writes pay one by
** one, until fewer bytes are dead than auto_compact demands. A hundred writes of a shard bring 300,000 dead records
** down to a few thousand.
**
** A shard without writes would keep expired entries for ever. So in a map with entries that expire, each maintenance of
** a shard also does a little work for the next other shard that is not locked; at least it notices the expired entries.
**
** A transaction that is rolled back pays for its records in the same way. Then segments that hold only its records are
** taken out of the log, whatever the share of dead bytes, and are freed at once unless a reader keeps them.
*/
#ifndef WALMAP_MAINTENANCE_H
#define WALMAP_MAINTENANCE_H

#include "mvcc/map.h"

/* Pays the shard's maintenance debt. */
void walmap__shard_maintain(walmap__shard *shard);

/* Brings the log within its share of max_bytes as far as compaction can (bounds.h). Returns whether it is. */
bool walmap__shard_compact_to_share(walmap__shard *shard);

/* How many records a record of this size counts as. */
static inline uint64_t walmap__records_paid(size_t bytes) {
  enum { LONG_BITS = 11 }; /* 2 KiB */
  return 1 + (bytes >> LONG_BITS);
}

/* Does a little maintenance of another shard, if its lock is free. */
void walmap__shard_tend_another(walmap__shard *shard);

/* Call it with the shard lock held, after a committed write of so many records. */
static inline void walmap__shard_after_commit(walmap__shard *shard, uint64_t records) {
  enum { TOGETHER = 8 };
  shard->maintenance_debt += records;
  if (shard->maintenance_debt < TOGETHER && !shard->behind)
    return;
  walmap__shard_maintain(shard);
  if (WALMAP__UNLIKELY(atomic_load_explicit(&shard->map->expiring, memory_order_relaxed)))
    walmap__shard_tend_another(shard);
}

/* Call it with the shard lock held, after so many records were undone and published. */
void walmap__shard_after_rollback(walmap__shard *shard, uint64_t records);

#endif
