/*
** replay.h - the rows of a shadow table, applied to a map
**
** Each row is checked before its changes are made: the block by itself (codec/block.h), and that it comes after the row
** before. So what a map shows is what some connection has committed, or the replay ends with an error.
*/
#ifndef WM_REPLAY_H
#define WM_REPLAY_H

#include "durable/log.h"

typedef struct wm_replay {
  wm_table *table;
  walmap_txn *txn; /* begun; the caller commits it, or rolls it back */
  wm_version at;   /* the last row that was applied; seq 0 at first: the whole log is replayed, into an empty map */
  uint64_t oldest; /* seq of the first row that was met; 0: none */
  uint64_t read;   /* bytes of blocks */
  uint64_t piece;  /* after so many bytes the transaction commits what it has, and goes on; 0: never */
  uint64_t kept;   /* bytes that were committed like this */
  bool clears;     /* a row has removed all entries */
  bool more;       /* the transaction of that row goes on */
  uint32_t index;  /* that row's, among those of its transaction */
} wm_replay;

/*
** The tag (walmap.h) of an entry that was put by row `seq`, which has so many rows of its transaction before it: the
** seq of the transaction's first row, so that it is known before the transaction is cut into rows.
*/
static inline uint32_t wm_replay_tag(uint64_t seq, uint32_t index) { return (uint32_t)(seq - index); }

/*
** R12: the pieces in which a log may be loaded into a map that no reader sees yet, where max_bytes is set: so what is
** dead in the log need not find room in memory, all at once. If the loading fails, a part of the entries may stay.
*/
uint64_t wm_replay_piece(const walmap *map);

/* Applies all rows after replay->at. An SQLite code; the attachment's `failure` has the text. */
int wm_replay_run(wm_replay *replay);

#endif
