/*
** compact.h - taking dead records out of a shard's log
**
** A job takes a run of neighbouring sealed segments and copies their live records, a few at a time, into one new
** segment, the copy, which covers the same LSNs: its first_lsn is the run's, and it holds no more than the run
** did. The index leads to each record's copy from the moment it is made. When all are copied, the copy takes the run's
** place in the list, and the run is retired.
**
** A job takes segments for their dead bytes. Small neighbours join the run on both sides, so that segments do not
** become many (each has an id, log.h); when they are many all the same, clean ones are merged too.
**
** Guarantee (K1): at every moment each reader finds each entry of its state once, at its value. Why:
**
**   - A run is taken only if every reader began after each of its segments was sealed and committed (or came into the
**     list). So every reader's commit point is past the run, and it makes no difference to a reader where within the
**     run's LSNs a record lies.
**   - A run is taken only if all garbage before its end is reclaimed. So a record in it is DEAD (no reader sees it), or
**     live, or was superseded later than the run's end; in that case the job rests until the record is reclaimed too. A
**     copied record is live, and its copy has no `prev`: all readers see it, so none looks further back. For the same
**     reason no reader follows a `next` or `prev` into the run once it is retired.
**   - By key: the index gives the record or its copy, which are identical.
**   - By scan: the list leads to the run or to its copy, never to both. A scan in the run finds the copied records
**     MOVED, and asks the copy whether it was superseded before the scan's commit point, because from then on the
**     copy's `next` is set. No job takes the copy while such a scan may live: the copy counts as sealed when it came
**     into the list.
**   - MOVED is stored before `next`, and scans load `next` before the flags, so a scan never takes a `next` that leads
**     to a copy for a successor. Nor a successor for a copy: between the two loads the successor may have been undone
**     and the record moved. But a record is copied while its `next` is 0, and `next` stays 0 until it leads to the
**     copy, because the index no longer leads to the record. So a scan that sees MOVED loads `next` once more: it finds
**     0, when the copy was not yet superseded, or the copy. (A `next` that was 0 before the flags were loaded is
**     enough: the record, or its copy, was superseded later than the scan's commit point.)
**
** An expired entry is dropped without a tombstone: its record gets DEAD, and its key leaves the index. That is right
** once no reader has a clock before the expiry (X3):
**
**   - A shard that wants to drop entries notes the map's time in horizon_clock, and notes in the map that it waits for
**     that time (horizon). Then it advances the epoch. Later readers have that time or a later one: a committed state
**     reads the clock after it has taken its slot (X2), and a transaction's state reads the map's horizon then
**     (txn_read.c), so no reader reads a clock before it has a slot. When no older slot is taken, entries up to that
**     time are droppable.
**   - An entry is dropped only after it was swept (expiry.h), so it is in `dead` already, and no longer in `len`.
**   - A transaction that holds the shard lock has read no entry in it that is dropped: jobs run after its commit, or in
**     walmap_compact before it, which then drops no entry whose expiry the transaction's own time has not passed.
**   - A follower has the entry with its expiry, or a position before it was written. So the drop moves the tombstone
**     horizon past the LSNs at which the entry may have been written (changes.h).
**
** The holder of the shard lock runs jobs, while no transaction has changed the shard. Transactions and rollbacks find
** records through the index, so a half-done job does not concern them.
*/
#ifndef WALMAP_COMPACT_H
#define WALMAP_COMPACT_H

#include "mvcc/map.h"

/*
** Does as much work as the dead bytes, or the number of segments, demand, `budget` at most: 1 for a dead record, 4 for
** a copied record. The search for a run is not counted. False when a run is wanted and none was found. Does nothing
** when memory is short.
*/
bool walmap__compact_some(walmap__shard *shard, uint64_t budget);

/* Takes all segments out whose records are all dead, as far as readers allow. Needs no memory. */
void walmap__compact_dead(walmap__shard *shard);

/* How many records of the log would have to be passed over until no more bytes are dead than are allowed. */
uint64_t walmap__compact_backlog(walmap__shard *shard);

#endif
