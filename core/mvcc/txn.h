/*
** txn.h - a write transaction: the shard locks that it holds, and how to undo its writes
**
**   txn.c         its begin and end, and its locks
**   txn_read.c    what it reads
**   txn_write.c   what it writes
**   undo.c        marks, savepoints, and undoing
**
** A mark is the state of a shard at the transaction's, or a savepoint's, first write to it: the end of its log, its
** generation and stats. Undoing a mark walks the log from there and points the index at each record's `prev` again; the
** records stay, dead. A mark is made only at the first write of a shard after a savepoint, so a savepoint alone costs
** nothing, and SQLite's many statement savepoints stay cheap.
**
**   level   0       1         1        2
**   marks [shard 3][shard 3][shard 5][shard 3]      level of savepoint n is n + 1; 0 is the begin
*/
#ifndef WALMAP_TXN_H
#define WALMAP_TXN_H

#include "mvcc/deferred.h"

typedef struct walmap__mark {
  walmap__generation *generation;
  walmap__segment *segment; /* the log's last one; NULL: none */
  size_t offset;            /* bytes used in it */
  uint64_t lsn;
  uint64_t garbage_end, len, bytes, dead, expired, expirations, evicting;
  uint32_t shard;
  int64_t level, previous_level; /* of the shard's mark before this one; -1: none */
} walmap__mark;

/* The transaction's part in one shard. */
typedef struct walmap__txn_shard {
  bool locked;
  int64_t level;    /* of its last mark; -1: not written */
  uint64_t written; /* records, undone ones included; long ones count more (walmap__records_paid) */
} walmap__txn_shard;

struct walmap_txn {
  walmap *map;
  walmap_session *session;
  bool begun;
  bool ignores_bounds;
  uint32_t tag;  /* of the records that it writes */
  uint64_t now;  /* its time (walmap_txn_statement); 0: not read yet */
  int64_t level; /* of the innermost savepoint + 1; 0: none */
  walmap__mark *marks;
  uint32_t n_marks, max_marks;
  walmap__write found;        /* what walmap_txn_get found last, for a change of that key; shard NULL: nothing */
  walmap__deferred *deferred; /* NULL until it pays for the first time */
  uint64_t hits, misses;      /* of its lookups by key */
  int64_t claimed;            /* entries, in map->entries (bounds.h) */
  uint32_t n_locked;
  walmap__shard **locked; /* in the order in which they were locked */
  walmap__txn_shard txn_shards[];
};

/* For walmap__txn_lock: the transaction's first touch of the shard. */
int walmap__txn_lock_first(walmap_txn *txn, walmap__shard *shard);

/* Locks a shard, to the transaction's end: OK, BUSY, DEADLOCK, INTERRUPT. */
static inline int walmap__txn_lock(walmap_txn *txn, walmap__shard *shard) {
  return txn->txn_shards[shard->id].locked ? WALMAP_OK : walmap__txn_lock_first(txn, shard);
}

/* Locks all shards, in order. After an error the shards that were locked so far stay locked. */
int walmap__txn_lock_all(walmap_txn *txn);

/* The transaction's time. */
static inline uint64_t walmap__txn_now(walmap_txn *txn) {
  if (txn->now == 0)
    txn->now = walmap__clock(txn->map);
  return txn->now;
}

/* Call it when records or the index may have changed since the lookup. */
static inline void walmap__txn_forget_found(walmap_txn *txn) { txn->found.shard = NULL; }

/* Call it before each change of a locked shard that has a generation. NOMEM. */
int walmap__txn_mark(walmap_txn *txn, walmap__shard *shard);

#endif
