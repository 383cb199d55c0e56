/*
** creation.h - whether SQLite makes a table or connects one that exists
*/
#ifndef WM_CREATION_H
#define WM_CREATION_H

#include <sqlite3ext.h>
#include <stdbool.h>

/*
** For a function that is xCreate and xConnect in one, with the arguments that it got: whether it is called by a CREATE
** VIRTUAL TABLE that creates this very table. False when the table is connected, even if that happens while another
** table is created.
*/
bool wm_creation_is_of(sqlite3 *db, const char *const *argv);

#endif
