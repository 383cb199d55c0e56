/*
** evict.h - which entry goes when a map is full
**
** The policy is SIEVE (Zhang et al., "SIEVE is Simpler than LRU", NSDI '24), in each shard for itself. Entries stand in
** a queue in the order of their writing. Readers mark an entry as visited; they do not move it. A hand goes from the
** oldest entry to the newest. Where it finds an entry that was visited, it clears the mark and goes on; the first that
** was not visited is evicted. At the end it goes on at the oldest.
**
**      hand
**       |
**       v                                     the newest eighth
**   [a][b][ ][c][ ][d][e][ ][f][ ][ ][g][h] | [i][j]             records of the log; gaps are dead ones
**
** The queue is the shard's log, as compaction keeps its order: so no entry needs links. The marks are bits in the index
** (index.h). The hand turns back at the newest eighth of what is alive, as otherwise it would meet entries that had no
** time to be visited ("shift" in test/bench/README.md). After 256 entries that were visited it takes the next one,
** visited or not, so that a write has bounded work. So it does after 2,048 records that are no entries: there are so
** many where a reader of an old state keeps them from being compacted. Segments without entries cost it nothing.
**
** What evictions keep (E2). An eviction is a removal like any other: a tombstone, written by the holder of the shard
** lock, and committed in one step with what made it necessary, or in a step of its own right after that
** (walmap__bounds_correct). So what C1 to C7, and T1 to T7 in SQL, say of removals holds for evictions, and so do V1,
** K1 and F1:
**
**   - A reader's state keeps what it saw: the tombstone lies past its commit point (V1).
**   - A transaction keeps what it has read or written (C4): the hand goes only through shards that the evicting session
**     has locked, and it stops at the shard's commit point, before all records of the running transaction. Only when
**     nothing else is left does the commit itself go on to them: then the transaction has ended.
**   - A rollback evicts nothing, as only a commit does; and it undoes what walmap_txn_evict has evicted before it.
**   - Followers and changes see removals (F1).
**
** The marks decide nothing but which entry goes first. So they may be lost, or be set for a slot's next entry, when
** readers and the hand store at once.
*/
#ifndef WALMAP_EVICT_H
#define WALMAP_EVICT_H

#include "mvcc/map.h"

enum { WALMAP__LOOKS = 256 };

/* Who is told of each eviction before it is made, and may end it (walmap_txn_evict). `told` NULL: no one. */
typedef struct walmap__listener {
  walmap_evict_fn told;
  void *ctx;
} walmap__listener;

/*
** Removes one entry of a shard that is locked, written before this LSN. *looks is how many visited entries it may still
** pass over. OK; NOTFOUND when there is none; NOMEM; what the listener returned.
*/
int walmap__evict_one(walmap__shard *shard, uint64_t before, walmap__listener listener, uint32_t *looks);

#endif
