/*
** bounds.h - max_entries and max_bytes: what a commit must evict, and when a write is refused
**
** The number of entries (N1). `map->entries` is no less than the number of entries of any committed state from now on:
**
**   - A commit that adds entries claims them first, and then commits. It claims at most up to max_entries, in one
**     step; for the rest it evicts as many, in the shards that it has locked.
**   - A commit that removes entries gives them back when it is over, and so does a rollback with what was claimed.
**   - Where error_when_full is set, a write claims its entry at once, or is refused. So open transactions count. Before
**     it is refused, what has expired is taken out of the count (N2): in the shards that no session has locked, but for
**     those that its transaction has changed; in these the first write did so.
**
** So max_entries is never exceeded, but by a commit without memory (below), and no lock is common to the shards. If a
** shard has nothing but what the transaction wrote itself, the commit takes another shard whose lock is free, and
** evicts there; and if none is free, it evicts from what it wrote.
**
** Bytes. Each shard has an equal share of what max_bytes leaves for logs. That is max_bytes less all memory of the map
** but the logs, which is measured when writes do their maintenance, and less a page by which the index may grow until
** then. A log is kept below its share by two means:
**
**   - A commit evicts until at most `live` bytes of the shard's log are alive: nine tenths of the share, without two
**     segments.
**   - From four segments before the share on, compaction begins when a tenth of the log is dead (compact.c). So it has
**     a segment to write to, and one that waits to be freed. Segments are a 64th of the share at most; longer ones are
**     left where a log was much longer once, and a job that copies one is run to its end if the copy does not fit.
**
** Where the log is beyond its share all the same after a commit and its compaction, walmap__bounds_correct evicts once
** more, in a commit of its own, before the shard lock is released.
**
** The links from live records to the ones before them (`prev`) are dead bytes that compaction has no reason to take
** out. Where they alone take the log beyond its share, each commit evicts as much as it adds once more. Where
** error_when_full is set, a write is admitted as if each entry had its link.
**
** While a reader keeps an old state, compaction cannot work, and the memory of dead records grows, and that of their
** keys in the index. Evictions go on as if it did not: only what is alive counts for them, and the memory that is no
** log is what it was before the reader.
**
** A transaction that has added millions of entries evicts as many: walmap_txn_evict asks the session's callback
** meanwhile whether to end. A commit does not ask, since it cannot fail.
**
** Where there is no memory for a tombstone, a single operation and walmap_txn_evict fail, and nothing is changed. A
** commit cannot fail (C7): it leaves the map above its bound, and the next commit evicts what it has left, also if it
** adds nothing (but not walmap_remove). So does a commit after walmap_txn_ignore_bounds: `map->entries` may then be
** more than max_entries.
*/
#ifndef WALMAP_BOUNDS_H
#define WALMAP_BOUNDS_H

#include "base/interrupt.h"
#include "mvcc/evict.h"
#include "mvcc/write.h"

/* What max_bytes allows a shard's log, in bytes. */
typedef struct walmap__share {
  uint64_t log;     /* all of it */
  uint64_t live;    /* of it what is alive: from here on entries are evicted */
  uint64_t segment; /* the longest segment, but for long records */
} walmap__share;

walmap__share walmap__share_of(const walmap__shard *shard);

/* The same if so many bytes of memory are the shard's part of what is no log. */
walmap__share walmap__share_beside(const walmap *map, uint64_t others);

/* Bytes of the generation's live records, if each had a link to the one before it. */
uint64_t walmap__live_with_links(const walmap__generation *g);

/* All memory that is no log, in bytes. */
uint64_t walmap__bounds_others(walmap *map);

/* Measures the memory that is no log, unless a reader holds some of it. */
void walmap__bounds_measure(walmap__shard *shard);

/* The live bytes that a share allows this log: the unused rests of segments count as parts of their records. */
static inline uint64_t walmap__share_live(const walmap__share *share, const walmap__log *log) {
  return log->capacity == 0 ? share->live
                            : (uint64_t)((double)share->live * (double)log->bytes / (double)log->capacity);
}

/*
** Whether a write is allowed at all: OK or FULL. Sweeps the shards whose locks are free rather than refuse. `claimed`
** is what its transaction has claimed so far, `change` by how many entries the transaction has changed the map so far.
*/
int walmap__bounds_admit(walmap__write *w, size_t value_len, uint64_t expires, int64_t change, int64_t *claimed);

/*
** N2: takes what has expired out of what is counted of a shard. The caller holds its lock, and all of its records are
** committed.
*/
void walmap__bounds_sweep(walmap__shard *shard);

/* A commit that is to come, and how it gets at shards that it has not changed yet. */
typedef struct walmap__committer {
  walmap *map;
  walmap__shard *const *shards; /* those that it has changed */
  const uint32_t *n;            /* how many: more when `borrow` adds to them */
  int64_t claimed;              /* in map->entries */
  walmap__listener listener;    /* of its evictions */
  void *ctx;

  /* OK or NOMEM: a shard that was changed is going to be changed more. */
  int (*touch)(void *ctx, walmap__shard *shard);

  /* Takes the lock of another shard if it is free, and adds the shard. */
  bool (*borrow)(void *ctx, walmap__shard *shard);

  walmap__interrupt interrupt; /* asked about every few thousand evictions */
} walmap__committer;

/*
** Evicts what is beyond the bounds, before the commit: OK; NOMEM, INTERRUPT, or what the listener returned. What was
** evicted is to be committed or undone.
*/
int walmap__bounds_keep(walmap__committer *committer);

/*
** After a commit, and its maintenance: where a log is still beyond its share, compacts it, and then evicts once more,
** as commits of their own. That is so after a transaction that has written much: how much memory the rest of the map
** takes then shows late. `may_evict` is false after a transaction that ignores bounds.
*/
void walmap__bounds_correct(walmap__shard *shard, bool may_evict);

/* After a commit, a rollback, or a sweep: map->entries follows the shards' counts, and the claim is given back. */
void walmap__bounds_settle(walmap *map, walmap__shard *const *shards, uint32_t n, int64_t claimed);

#endif
