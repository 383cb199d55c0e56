/*
** resolve.h - which table the first argument of a function names
*/
#ifndef WM_RESOLVE_H
#define WM_RESOLVE_H

#include "conn/conn.h"

/*
** The walmap table called `name` ("kv", "temp.kv", "walmap"; quoting as in SQL is understood, case does not matter), or
** with NULL the connection's only one. `size` is the name's length in bytes, 0 for NULL. An unqualified name means what
** it means in SQL: temp before main before attached ones. A table that the connection has not used yet is connected.
** Returns an SQLite code; any but SQLITE_OK comes with *err, from sqlite3_malloc (NULL when memory is out). *out lives
** until the function that asked returns.
*/
int wm_resolve_table(wm_conn *conn, const char *name, size_t size, wm_table **out, char **err);

/*
** What the table's schema and name mean now: *table itself, or another walmap table, which takes its place. Otherwise
** an SQLite code with *err, as wm_resolve_table.
*/
int wm_resolve_present(wm_table **table, char **err);

/* ------------------------------------------------------------------------------------------------------------------ */
/* For the hooks of the connection                                                                                    */

int wm_resolve_new(wm_conn *conn); /* an SQLite code */
void wm_resolve_free(wm_conn *conn);
void wm_resolve_forget(wm_conn *conn); /* what was looked up, and the statement kept for it */

#endif
