/*
** history.h - which state of its file the map of a durable table shows, and the states that it showed before
**
** The rows of a durable table are the replay of the log in its file (durable/). A version is a state of that log: the
** number of its last row and that row's chain, a checksum over all rows before. The map shows one version, the head. A
** reader's snapshot of the file may be a little older than the head, as other connections commit meanwhile; so the
** versions of the last commits are kept at hand. Of each there are the commit points of the map (walmap.h); what they
** make visible is kept by the era to which they belong, a state of the map that stays begun.
**
**    eras     oldest [ v v v v v v ] [ v v v v v v ] [ v v v ] newest      a version for each commit
**
** An era goes when there are too many, or too much was written since. Readers of its versions keep its state; a reader
** that comes later with such a version reads the file (durable/durable.c). What eras keep is memory beside the present
** rows: where max_bytes is set, a 512th of it at most (R11, ext/DURABLE.md).
**
** All connections call these functions, from any thread. `mutex` is held for moments only: nothing waits while holding
** it, and no SQL runs.
*/
#ifndef WM_HISTORY_H
#define WM_HISTORY_H

#include "walmap.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct wm_version {
  uint64_t seq;   /* of the log's last row; 0: nothing was loaded yet */
  uint64_t chain; /* of that row */
  uint64_t first; /* seq of the log's oldest row */
  uint64_t bytes; /* what the log takes in the file, as wm_block_head has it */
} wm_version;

static inline bool wm_version_is(const wm_version *a, const wm_version *b) {
  return a->seq == b->seq && a->chain == b->chain;
}

typedef struct wm_era wm_era;

typedef struct wm_history {
  walmap *map;
  pthread_mutex_t mutex;
  pthread_cond_t changed; /* `catching_up`, `committer` or the head */

  /* Under the mutex. */
  wm_version head;
  bool catching_up;      /* a connection applies rows of the file to the map */
  int writers;           /* connections in a transaction that writes to the map */
  const void *committer; /* the one of them that has written its rows and may have committed the file, or NULL */
  wm_version pending;    /* the version that it commits */
  wm_era *eras;          /* newest first */
  walmap_state *scratch;
} wm_history;

/* A WALMAP code. The history is of an empty map, and is freed before the map is closed. */
int wm_history_new(walmap *map, wm_history **out);
void wm_history_free(wm_history *history); /* NULL is allowed */

/*
** Under the mutex, after a commit on the map: it shows `version` now, for which `written` bytes of log were written.
** Cannot fail: without memory there is no going back to this version later.
*/
void wm_history_advance(wm_history *history, const wm_version *version, uint64_t written);

/* Under the mutex: forgets all versions but the head, so that compaction can free what they need. */
void wm_history_forget(wm_history *history);

/*
** Under the mutex, before this transaction commits: forgets the oldest versions, as many as would keep too much once
** the transaction's dead bytes come to theirs; all, if it has removed all entries at once (walmap_txn_clear). Does
** nothing where max_bytes is not set.
*/
void wm_history_make_room(wm_history *history, walmap_txn *txn, bool clears);

/* Under the mutex: whether wm_history_begin would find the version. */
bool wm_history_has(const wm_history *history, const wm_version *version);

/*
** Begins `state` as this version, if it is the head or at hand. OK, NOTFOUND or NOMEM. *era is to be given back, after
** walmap_state_end, by wm_history_leave; NULL is allowed there.
*/
int wm_history_begin(wm_history *history, const wm_version *version, walmap_state *state, wm_era **era);
void wm_history_leave(wm_history *history, wm_era *era);

#endif
