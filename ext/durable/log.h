/*
** log.h - the shadow table of a durable table: the statements on it
**
** The shadow table of kv is kv_log(seq INTEGER PRIMARY KEY, chain, block), in the same schema. This file runs SQL on
** it, and knows nothing of what is in a block. The statements run on the table's own connection, so they are part of
** its transaction: they see the snapshot of the file that the running statement sees, and what they write is committed
** and rolled back with everything else.
**
** All return an SQLite code. Where it is an error, the attachment's `failure` has the text. A table that is no such
** shadow table (missing, a view, of other columns) gives SQLITE_CORRUPT_VTAB.
*/
#ifndef WM_LOG_H
#define WM_LOG_H

#include "conn/conn.h"

typedef struct wm_log_row {
  uint64_t seq, chain;
  const void *block;
  size_t size;
} wm_log_row;

/* For CREATE, DROP and RENAME of the virtual table, within the same transaction. *err is from sqlite3_malloc. */
int wm_log_create(wm_conn *conn, const char *schema, const char *name, char **err);
int wm_log_drop(wm_conn *conn, const char *schema, const char *name, char **err);
int wm_log_rename(wm_conn *conn, const char *schema, const char *name, const char *to, char **err);

/*
** Whether the schema has what looks like the shadow table of a table of that name. The columns decide: a user may call
** a table of his own kv_log. On an error sqlite3_errmsg() has the text.
*/
int wm_log_find(const wm_conn *conn, const char *schema, const char *name, bool *found);

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

/* What is in the shadow table is damaged: SQLITE_CORRUPT_VTAB. */
int wm_log_damaged(wm_table *table, uint64_t seq, const char *wrong);

#endif
