/*
** compact.h - taking dead records out of a shard's log
**
** A job takes a run of neighbouring sealed segments and copies their live records, a few at a time, into one new
** segment, the copy, which covers the same positions: its first_lsn is the run's, and it holds no more than the run
** did. The index leads to each record's copy from the moment it is made. When all are copied, the copy takes the run's
** place in the list, and the run is retired.
**
** Segments are wanted for their dead bytes. So that they do not become many (each has an id, log.h), small neighbours
** join the run as well, on both sides; and when they are many all the same, clean ones are merged.
**
** Guarantee (K1): at every moment each reader finds each entry of its state once, at its value. Why:
**
**   - A run is taken only if every reader began after each of its segments was sealed and committed (or came into the
**     list), so every reader's commit point is past the run: where in the run's positions a record lies makes no
**     difference to it.
**   - A run is taken only if all garbage before its end are reclaimed. So a record in it is DEAD (nobody sees it), or
**     live, or was superseded later than the run's end; then the job rests until that death is reclaimed too. What is
**     copied is live, and drops its `prev`: all readers see it, so none looks further back. For the same reason no
**     `next` or `prev` that anybody still follows leads into the run once it is retired.
**   - By key: the index gives the record or its copy, which are identical.
**   - By scan: the list leads to the run or to its copy, never to both. A scan in the run finds the copied records
**     MOVED, and asks the copy whether it was superseded before the scan's commit point, because garbage are noted
**     there from then on. The copy is not taken by a job itself while such a scan may live: it counts as sealed when it
**     came into the list.
**   - MOVED is stored before `next`, and scans load `next` before the flags, so a `next` that leads to a copy is never
**     taken for a successor. Nor the other way round: a successor that was loaded may have been undone, and its record
**     moved, before the flags were. But a record is copied when its `next` is 0, and keeps that one until it leads to
**     the copy, since nothing else leads to it any more. So scans that see MOVED load `next` once more: it is 0, when
**     the copy was not yet superseded, or the copy. (A `next` that was 0 before the flags were loaded tells enough:
**     what superseded the record, or its copy, came later than the scan's commit point.)
**
** Entries that have expired are dropped without a tombstone: their record gets DEAD, and their key leaves the index. That
** may be done when no reader has a clock before their expiry (X3):
**
**   - A shard that wants to drop notes the map's time (horizon_clock), and in the map that it waits for it (horizon).
**     Then it advances the epoch. Readers that come later have that time at least: a committed state reads the clock
**     after its slot is taken (X2), a transaction's state looks at the map's horizon then (txn.c), and so does nobody
**     read a clock before a slot. When no older slot is taken, the time is droppable.
**   - An entry is dropped only when it was swept too (expiry.h), so it is in `dead` already, and no longer in `len`.
**   - A transaction that holds the shard lock has read nothing in it that is dropped: jobs run after its commit, or in
**     walmap_compact before it, which then drops nothing that the transaction's own time has not passed.
**   - Followers: they have the entry with its expiry, or a position before it was written. So the drop moves the tombstone
**     horizon past the positions in which the entry may have been written (changes.h).
**
** The owner of the shard runs jobs, when no transaction has changed the shard. Transactions and rollbacks find records
** through the index, so a half-done job does not concern them.
*/
#ifndef WALMAP_COMPACT_H
#define WALMAP_COMPACT_H

#include "mvcc/map.h"

/*
** Works as the dead bytes, or the number of segments, demand, `budget` at most: 1 for a dead record, 4 for one that is
** copied. To look for a run is not counted. False when none was found, though it is wanted. Does nothing when memory is
** short.
*/
bool walmap__compact_some(walmap__shard *shard, uint64_t budget);

/* Takes all segments out whose records are all dead, as far as readers allow. Needs no memory. */
void walmap__compact_dead(walmap__shard *shard);

/* Compacts the whole shard, as far as readers allow; what expires after `latest` stays. OK or NOMEM. */
int walmap__compact_all(walmap__shard *shard, uint64_t latest);

/* How many records of the log would have to be passed over until no more bytes are dead than are allowed. */
uint64_t walmap__compact_backlog(const walmap__shard *shard);

#endif
