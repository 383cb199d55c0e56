/*
** eponymous.h - what the tables without CREATE have in common: walmap_stats, walmap_each, walmap_chunks, walmap_control
**
** SQLite calls a virtual table eponymous when it exists under its module's name, without CREATE. Each such table has
** its own structs for the table and the cursor, which begin with SQLite's. These functions allocate them, `size` bytes
** of zeros. All return an SQLite code.
*/
#ifndef WM_EPONYMOUS_H
#define WM_EPONYMOUS_H

#include <sqlite3ext.h>
#include <stddef.h>

/* For xConnect: declares the table. `risk` is SQLITE_VTAB_INNOCUOUS or SQLITE_VTAB_DIRECTONLY. */
int wm_eponymous_connect(sqlite3 *db, const char *declaration, int risk, size_t size, sqlite3_vtab **out);

/* xDisconnect of a table that holds nothing else. */
int wm_eponymous_disconnect(sqlite3_vtab *table);

/* For xOpen. */
int wm_eponymous_open(size_t size, sqlite3_vtab_cursor **out);

#endif
