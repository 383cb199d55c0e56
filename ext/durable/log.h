/*
** log.h - the shadow table of a durable table: the statements on it
**
** The shadow table of kv is kv_log(seq INTEGER PRIMARY KEY, chain, block), in the same schema. This file runs SQL on
** its rows, and knows nothing of what is in a block (shadow.h makes and finds the table). The statements run on the
** table's own connection, so they are part of its transaction: they see the snapshot of the file that the running
** statement sees, and what they write is committed and rolled back with everything else.
**
** All return an SQLite code. Where it is an error, the attachment's `failure` has the text. A table that is no such
** shadow table (missing, a view, of other columns) gives SQLITE_CORRUPT_VTAB. Where an authorizer has the statement
** ignored it is SQLITE_AUTH, since nothing was read or written.
*/
#ifndef WM_LOG_H
#define WM_LOG_H

#include "conn/conn.h"

typedef struct wm_log_row {
  uint64_t seq, chain;
  const void *block;
  size_t size;
} wm_log_row;

/* seq and chain of the last row. */
int wm_log_top(wm_table *table, wm_version *version);

/*
** Keeps the snapshot of the file that the connection reads, until wm_log_end_hold: for a caller that may be outside of
** a read transaction and reads more than once. Holds may overlap. *hold must stay where it is; after an error, or when
** all holds of the table were ended before their time, wm_log_end_hold does nothing.
*/
typedef struct wm_log_hold {
  wm_table *table;          /* NULL: nothing is held */
  struct wm_log_hold *next; /* of the same table */
} wm_log_hold;
int wm_log_begin_hold(wm_table *table, wm_log_hold *hold);
void wm_log_end_hold(wm_log_hold *hold);
void wm_log_end_holds(wm_table *table);

/* Calls `each` with the rows from `seq` on, in order, until it returns something else than SQLITE_OK. */
typedef int (*wm_log_row_fn)(void *ctx, const wm_log_row *row);
int wm_log_each(wm_table *table, uint64_t seq, wm_log_row_fn each, void *ctx);

/* The chain of row `seq`; SQLITE_NOTFOUND when there is no such row. */
int wm_log_chain(wm_table *table, uint64_t seq, uint64_t *chain);

int wm_log_insert(wm_table *table, const wm_log_row *row);
int wm_log_remove_before(wm_table *table, uint64_t seq);
int wm_log_remove_after(wm_table *table, uint64_t seq);

/* Finalizes the statements. They must not be running. */
void wm_log_forget(wm_table *table);

/* Sets the attachment's failure (NULL text: out of memory), and returns rc. */
int wm_log_fail(wm_table *table, int rc, char *text);

/* The same with the text of the connection's last error. SQLITE_ERROR: the shadow table is not as it should be. */
int wm_log_fail_as_sqlite(wm_table *table, int rc);

/* What is in the shadow table is damaged: SQLITE_CORRUPT_VTAB. */
int wm_log_damaged(wm_table *table, uint64_t seq, const char *wrong);

#endif
