/*
** call.h - work inside a transaction that SQLite began
**
** A function that writes must be part of SQLite's transaction, or ROLLBACK, savepoints and failing statements would not
** undo it (T3). It must also test and write in one transaction, or two connections could both find a key absent (T4). A
** function cannot begin a transaction: only SQLite does, when a statement writes to the table. So wm_call_write leaves
** the work at the table and runs the statement INSERT OR IGNORE INTO t VALUES(NULL, NULL), whose xUpdate finds the work
** and does it. For the statement, SQLite calls xBegin and xSavepoint before and, where no other transaction is open,
** xSync and xCommit after; it asks the authorizer and respects query_only; and the work reads in the transaction in
** which it writes.
*/
#ifndef WM_CALL_H
#define WM_CALL_H

#include "conn/conn.h"

/*
** The work. It returns an SQLite code, with a text in *err (sqlite3_malloc), or with NULL there for SQLite's own text;
** or WM_CALL_UNCHANGED when it succeeded and changed no row, so that changes() counts none. It may run SQL, even work
** on the same table; after that it must check wm_attachment_is_begun() before it goes on.
*/
#define WM_CALL_UNCHANGED (-1)
typedef int (*wm_call_fn)(void *ctx, wm_table *table, char **err);

/*
** Runs the work in the running transaction, or in a transaction of its own; table->attachment->txn is begun meanwhile.
** Returns the code of the work (SQLITE_OK for WM_CALL_UNCHANGED), or the error with which the statement around it
** failed.
*/
int wm_call_write(wm_table *table, wm_call_fn work, void *ctx, char **err);

/* For work in which the core failed with a WALMAP code: sets the text in *err, and returns the SQLite code. */
int wm_call_failed(wm_table *table, int result, char **err);

/* For xUpdate: if work was left at the table, does it, sets *rc to the code for xUpdate, and returns true. */
bool wm_call_take(wm_table *table, sqlite3_int64 *rowid, int *rc);

#endif
