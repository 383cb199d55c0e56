/*
** durable.h - durable tables: the map in memory and the log in the file
**
** The rows of a durable table are the replay of the blocks in its shadow table (log.h, codec/block.h). The map in
** memory is that replay, shared by all connections of the process to the file; reads come from it. A transaction's
** changes are written to the shadow table in xSync, so SQLite commits them together with all else that it does in the
** file. ext/DURABLE.md has the cases, one by one.
**
** Results are WALMAP codes, or SQLite codes negated (error.h).
*/
#ifndef WM_DURABLE_H
#define WM_DURABLE_H

#include "durable/log.h"

static inline bool wm_durable_is(const wm_table *table) { return table->attachment->map->history != NULL; }

/*
** xBegin: brings the map to what the file has, whose write lock the connection holds. Tables that are not durable: OK.
*/
int wm_durable_begin(wm_table *table);

/* xSync: writes what the transaction has changed to the shadow table. May be called again, after more changes. */
int wm_durable_sync(wm_table *table);

/* The same for whatever table of the connection the attachment is of; OK when it was dropped. */
int wm_durable_sync_attachment(wm_attachment *attachment);

/* Brings the map to what the file has for the running statement, if it can, for a function that looks at the map. */
int wm_durable_refresh(wm_table *table);

/*
** For a function that reads in a statement outside of BEGIN. If the statement reads no table of the file, there is no
** read transaction, and each function would find the newest snapshot. Until wm_log_end_hold they all find one (D2).
** Where it is not needed: OK, and nothing is held.
*/
int wm_durable_begin_hold(wm_attachment *attachment, wm_log_hold *hold);

/*
** Before a function of a running statement writes: ends the holds of the connection. SQLite lets no connection write
** that holds a snapshot which others have committed after.
*/
void wm_durable_end_holds(wm_conn *conn);

/* Before walmap_compact: the map need not be able to show anything but its present version. */
void wm_durable_let_go(wm_table *table);

/* walmap_checkpoint: folds the log, in a transaction that has begun on the table; the bytes that it then takes. */
int wm_durable_checkpoint(wm_table *table, uint64_t *bytes);

/*
** PRAGMA integrity_check: what is wrong with the shadow table, or differs between it and the map, from sqlite3_malloc
** in *fault; NULL where nothing is.
*/
int wm_durable_verify(wm_table *table, char **fault);

/* ------------------------------------------------------------------------------------------------------------------ */
/* For the hooks of the connection */

void wm_durable_detach(wm_attachment *attachment);
int wm_durable_acquire(wm_attachment *attachment, wm_read_state **out);
void wm_durable_commit(wm_attachment *attachment);
void wm_durable_rollback(wm_attachment *attachment);

#endif
