/*
** maintenance.h - what a write pays, after its commit, for the dead records that writes leave behind
**
** Each record that is written pays for more than what dies by it: for 16 entries of the garbage queue, 32 steps of
** compaction (8 records copied, or 32 dead ones passed) and 2 blocks of memory freed. So the log's size stays bounded
** however much is overwritten, and a write's work too. Eight records are paid for together, and a long one counts as
** one for each 2 KiB of it.
**
** When a reader of an old state ends, what it has kept is more than these rates bring down soon. Then each record also
** pays for a sixteenth of what is left over, at least 2,048 and at most 8,192 entries and steps of each (some 100 us);
** writes pay one by one, and go on until less is dead than auto_compact demands. A hundred writes of a shard bring
** 300,000 dead records down to a few thousand.
**
** Where entries expire, a shard to which nothing is written would keep what has expired for ever. So each maintenance of
** a shard is followed by a little for the next other one that no one holds, which at least notices what has expired.
**
** A transaction that is rolled back pays for the records that it wrote in the same way. Then the segments that hold
** nothing else are taken out of the log, whatever the share of dead bytes is, and are freed at once where no reader
** keeps them.
*/
#ifndef WALMAP_MAINTENANCE_H
#define WALMAP_MAINTENANCE_H

#include "mvcc/map.h"

/* Pays the shard's maintenance debt. */
void walmap__shard_maintain(walmap__shard *shard);

/* How many records a long one is paid for as: what it leaves dead some day is as much. */
static inline uint64_t walmap__records_paid(size_t bytes) {
  enum { LONG_BITS = 11 }; /* 2 KiB */
  return 1 + (bytes >> LONG_BITS);
}

/* The same for another shard, a little, if no one holds it. */
void walmap__shard_tend_another(walmap__shard *shard);

/* After a write of so many records, committed, by the shard's owner. */
static inline void walmap__shard_after_commit(walmap__shard *shard, uint64_t records) {
  enum { TOGETHER = 8 };
  shard->maintenance_debt += records;
  if (shard->maintenance_debt < TOGETHER && !shard->behind)
    return;
  walmap__shard_maintain(shard);
  if (WALMAP__UNLIKELY(atomic_load_explicit(&shard->map->expiring, memory_order_relaxed)))
    walmap__shard_tend_another(shard);
}

/* After so many records were undone, and what was written is published, by the shard's owner. */
void walmap__shard_after_rollback(walmap__shard *shard, uint64_t records);

#endif
