/*
** catalog.h - which walmap tables the connection's databases have now
**
** SQLite knows, and other connections may change it: so each call asks SQLite, and brings the connection's list of
** tables up to date. The functions that return int give an SQLite code; any but SQLITE_OK comes with *err, from
** sqlite3_malloc (NULL when memory is out).
*/
#ifndef WM_CATALOG_H
#define WM_CATALOG_H

#include "conn/conn.h"

/* The schema's name as SQLite has it, or NULL: "main" may have been given another one, and means it all the same. */
const char *wm_catalog_schema(const wm_conn *conn, const char *schema);

/* Whether this is the connection's default map, which is there without CREATE. */
bool wm_catalog_is_default(const wm_conn *conn, const char *schema, const char *name);

/* Finds the walmap table of that name in the schema; *out is NULL if there is none. *found: something has the name. */
int wm_catalog_find(wm_conn *conn, const char *schema, const char *name, bool *found, wm_table **out, char **err);

/* Finds the default map's table. */
int wm_catalog_find_default(wm_conn *conn, wm_table **out, char **err);

/* Connects all tables that the connection's databases have, and forgets tables that they no longer have. */
int wm_catalog_refresh(wm_conn *conn, char **err);

#endif
