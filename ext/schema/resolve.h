/*
** resolve.h - which table the first argument of a function names
*/
#ifndef WM_RESOLVE_H
#define WM_RESOLVE_H

#include "conn/conn.h"

/*
** Finds the walmap table called `name` ("kv", "temp.kv", "walmap"; quoted as in SQL, case does not matter), or with
** NULL the connection's only walmap table. `size` is the name's length in bytes, 0 for NULL. A name without schema
** means what it means in SQL: temp before main before attached databases. A table that the connection has not used yet
** is connected. Returns an SQLite code; any but SQLITE_OK comes with *err, from sqlite3_malloc (NULL when memory is
** out). *out lives until the SQL function that called returns.
*/
int wm_resolve_table(wm_conn *conn, const char *name, size_t size, wm_table **out, char **err);

/*
** Sets *table to the walmap table that its schema and name mean now: itself, or another. Otherwise an SQLite code with
** *err, as wm_resolve_table.
*/
int wm_resolve_present(wm_table **table, char **err);

/*
** The name that a text of `size` bytes means, as wm_resolve_table reads it: that of the table, or of the default map.
** NULL: neither.
*/
const char *wm_resolve_meant(const wm_table *table, const char *text, size_t size);

/* ------------------------------------------------------------------------------------------------------------------ */
/* For the hooks of the connection                                                                                    */

int wm_resolve_new(wm_conn *conn); /* an SQLite code */
void wm_resolve_free(wm_conn *conn);
void wm_resolve_forget(wm_conn *conn); /* drops the results, and the statement that is kept beside them */

#endif
