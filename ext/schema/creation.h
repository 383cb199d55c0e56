/*
** creation.h - whether SQLite makes a table or connects one that exists
*/
#ifndef WM_CREATION_H
#define WM_CREATION_H

#include <sqlite3ext.h>
#include <stdbool.h>

/*
** For a function that is both xCreate and xConnect, with the arguments that it got: whether a CREATE VIRTUAL TABLE of
** this very table calls it. False when the table is connected, also while another table is created.
*/
bool wm_creation_is_of(sqlite3 *db, const char *const *argv);

#endif
