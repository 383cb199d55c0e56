/*
** database.h - databases that go, or make room for another one
**
** A private table's rows belong to one database, and must not show in another one that takes its place under the same
** schema's name. SQLite does not tell when that happens, and it drops and makes a table's object for many other
** reasons. What it does can be told by this:
**
**    DETACH, then maybe ATTACH      when the object is dropped, the schema's name is gone. An object that an unfinished
**                                   statement keeps is dropped later: then the new database has another file object,
**                                   or one that has seen fewer commits
**    sqlite3_deserialize            the same, but for the name
**    sqlite3_backup into it         the object is dropped while the database is being written, although no statement
**                                   runs and there is no BEGIN. (Not noticed if a statement keeps the object.)
*/
#ifndef WM_DATABASE_H
#define WM_DATABASE_H

#include "conn/conn.h"

/*
** To be called when a transaction on the table has been committed, at least once after its creation: notes which
** database a private table is in.
*/
void wm_database_note(wm_table *table);

/* Whether the table's schema has the database that was noted. */
bool wm_database_is_same(const wm_table *table);

/* Whether the schema still is the table's file: another one may have been attached under its name, or none. */
bool wm_database_has(const wm_table *table);

/* To be called in xDisconnect: lets go of a private table whose database is being detached or replaced. */
void wm_database_disconnected(wm_table *table);

/*
** Lets go of private tables whose database was detached, whose rows are given back even if statements keep the object,
** and of file tables that others dropped or renamed.
*/
void wm_database_forget_gone(wm_conn *conn);

#endif
