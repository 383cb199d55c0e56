/*
** upsert.h - the expressions of walmap_upsert
**
** An expression over `key` and `value` is prepared once per table as a SELECT of one row, and a few are kept.
*/
#ifndef WM_UPSERT_H
#define WM_UPSERT_H

#include "codec.h"
#include "conn.h"

/* An evaluation. `value` lives until wm_upsert_end. */
typedef struct wm_upsert_run {
  sqlite3_value *value;
  sqlite3_stmt *statement;
  bool temporary; /* not kept: it was busy with an outer call, or could not be */
} wm_upsert_run;

/*
** Evaluates the expression (a text) for an entry, whose bytes must live until wm_upsert_end. An SQLite code; other than
** SQLITE_OK comes with *err (sqlite3_malloc, NULL when memory is out), and there is nothing to end.
*/
int wm_upsert_begin(wm_table *table, sqlite3_value *expression, const walmap_entry *entry, wm_upsert_run *run,
                    char **err);
void wm_upsert_end(wm_upsert_run *run);

/* Finalizes the table's expressions. */
void wm_upsert_forget(wm_table *table);

#endif
