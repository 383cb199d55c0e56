/*
** counters.h - what a map counts (walmap_get_stats), who counts where, and what is added up on demand
**
** Nothing that counts writes to a cache line that another thread writes, or that others read at each get:
**
**   hits, misses     of a single read: in the reader's slot of the epoch, whose line the read has taken anyway
**                    of a state: in the state, which is one thread's; it adds them to the map's when it is freed
**                    of a transaction: in the transaction, until it ends and adds them to a shard that it has locked
**   commits, ...     in the shard, by the holder of its lock; a transaction's in the first shard that it has changed
**   expirations      in the shard's stats (map.h), so that they belong to a commit point: what was superseded after it
**                    had expired, and what was swept; what has expired since is found by the expiry table (X1)
**   busy, deadlocks  in the map: a call that has waited in vain can afford that
**
** Each counter but the last two has one writer at a time, which adds by a load and a store (base/counter.h). All are
** read at any time. So the sums are exact for all that happened before the call, in the order that threads have.
*/
#ifndef WALMAP_COUNTERS_H
#define WALMAP_COUNTERS_H

#include "mvcc/state.h"

/* Counts a wait for a shard lock that ended in this result, if that is BUSY or DEADLOCK. */
void walmap__count_wait(walmap *map, int result);

#endif
