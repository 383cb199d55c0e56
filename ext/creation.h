/*
** creation.h - whether SQLite makes a table or connects one that exists
*/
#ifndef WM_CREATION_H
#define WM_CREATION_H

#include <sqlite3ext.h>
#include <stdbool.h>

/*
** To be asked by a function that is xCreate and xConnect in one, with the arguments that it got: whether CREATE VIRTUAL
** TABLE calls it to make this table. False when the table is connected, also in the course of another one's creation.
*/
bool wm_creation_is_of(sqlite3 *db, const char *const *argv);

#endif
