/*
** error.h - the core's result codes as SQLite's, with a text
**
** Both SQLite and the core report how a call went by an int, and 0 is success in both. Throughout ext/ the name tells
** them apart: `rc` holds an SQLITE_* code, `result` a WALMAP_* code. The functions below turn the second into the
** first. The other way go running out of memory, and the errors of the file that a durable table is in: a negative
** `result` is an SQLite code, negated, whose text is the attachment's `failure`.
*/
#ifndef WM_ERROR_H
#define WM_ERROR_H

#include "conn/conn.h"

/*
** The SQLite code of a WALMAP_* code: NOMEM, TOOBIG, CORRUPT and INTERRUPT keep their kind, BUSY and DEADLOCK are
** SQLITE_BUSY, which leaves the transaction open, NOTFOUND is SQLITE_OK: absence is no error.
*/
int wm_error_code(int result);

/*
** What went wrong on the map of the attachment, called `table` in SQL, from sqlite3_malloc; NULL when memory is out, or
** when SQLite's own text for wm_error_code(result) is enough.
*/
char *wm_error_text(int result, const char *table, const wm_attachment *attachment);

/* Sets *err to a text from sqlite3_mprintf and returns SQLITE_ERROR; SQLITE_NOMEM where there was no memory for it. */
int wm_error_refuse(char **err, char *text);

/*
** Sets the object's error text (sqlite3_malloc), which it takes over, and returns rc. NULL: SQLite's own text for rc.
*/
int wm_error_vtab(sqlite3_vtab *vtab, int rc, char *text);

/*
** The same for a WALMAP_* code: returns the SQLite code. WALMAP_OK and NOTFOUND are no errors: that part is inline, for
** each call of a table's method ends here.
*/
int wm_error_table_failed(sqlite3_vtab *vtab, int result, const wm_table *table);
static inline int wm_error_table(sqlite3_vtab *vtab, int result, const wm_table *table) {
  if (result == WALMAP_OK || result == WALMAP_NOTFOUND)
    return SQLITE_OK;
  return wm_error_table_failed(vtab, result, table);
}

/* Makes the function fail. */
void wm_error_result(sqlite3_context *context, int result, const wm_table *table);

#endif
