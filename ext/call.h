/*
** call.h - work inside a transaction that SQLite began
**
** A function that writes must be part of SQLite's transaction, or ROLLBACK, savepoints and failing statements would not
** undo it (T3); and it must test and write in one transaction, or two connections could both find a key absent (T4). A
** function cannot begin one: only SQLite does, when a statement writes to the table. So wm_call_write runs a statement,
** INSERT OR IGNORE INTO t VALUES(NULL, NULL), whose xUpdate finds the work that was left at the table and does that
** instead of its own. The statement makes SQLite call xBegin and xSavepoint before and, where no other transaction is
** open, xSync and xCommit after; it asks the authorizer and respects query_only; and what the work reads belongs to the
** transaction that it writes in.
*/
#ifndef WM_CALL_H
#define WM_CALL_H

#include "conn.h"

/* What the work returns besides the WALMAP codes: it succeeded and changed no row, so changes() counts none. */
#define WM_CALL_UNCHANGED (-1)

typedef int (*wm_call_fn)(void *ctx, wm_use *use);

/*
** Runs work(ctx, use of the table) in the running transaction, or in one of its own. `use->txn` is begun meanwhile. The
** result is an SQLite code; other than SQLITE_OK comes with *err, from sqlite3_malloc, or NULL for the text that goes
** with the code. The work may set its own text with *err before it fails.
** It may run SQL, work on the same table included, and must then look at wm_use_is_begun() before it goes on.
*/
int wm_call_write(wm_table *table, wm_call_fn work, void *ctx, char **err);

/* For xUpdate: when work was left at the table, does it, sets *result to what xUpdate shall return, and returns true.
 */
bool wm_call_take(wm_table *table, int *result);

#endif
