/*
** upsert.h - the expressions of walmap_upsert
**
** An expression over `key`, `value` and `initial` is prepared as a SELECT of one row. Each table keeps the statements
** of the last few expressions.
*/
#ifndef WM_UPSERT_H
#define WM_UPSERT_H

#include "codec/codec.h"
#include "conn/conn.h"

/* An expression in use. */
typedef struct wm_upsert_run {
  struct wm_upsert *upsert;
  unsigned changes;     /* of the connection's tables, when it began */
  sqlite3_value *value; /* the result, from wm_upsert_evaluate to wm_upsert_end */
} wm_upsert_run;

/*
** Prepares the expression (a text). An SQLite code; any but SQLITE_OK comes with *err (sqlite3_malloc, NULL when memory
** is out), and then wm_upsert_end must not be called.
*/
int wm_upsert_begin(wm_table *table, sqlite3_value *expression, wm_upsert_run *run, char **err);

/*
** Evaluates the expression once, for an entry whose bytes live until wm_upsert_end, and the function's argument
** `initial`. An SQLite code, as above.
*/
int wm_upsert_evaluate(wm_table *table, const walmap_entry *entry, sqlite3_value *initial, wm_upsert_run *run,
                       char **err);

void wm_upsert_end(wm_table *table, wm_upsert_run *run);

/* Finalizes the table's expressions that are not in use. */
void wm_upsert_forget(wm_table *table);

#endif
