/*
** ddl.h - CREATE, DROP and RENAME of walmap tables inside transactions
**
** The list of a connection's tables (conn->tables) and their content must follow ROLLBACK, ROLLBACK TO and a failing
** COMMIT as SQLite's own tables do: a dropped table comes back with its content, a created table goes. ddl.c says how.
*/
#ifndef WM_DDL_H
#define WM_DDL_H

#include "conn/conn.h"

int wm_ddl_new(wm_conn *conn); /* an SQLite code */
void wm_ddl_free(wm_conn *conn);

/*
** Whether the running creation of a table in `schema` can only be undone together with its statement: then the table's
** own xRollback is enough. All other changes must be recorded.
*/
bool wm_ddl_can_do_without(wm_conn *conn, const char *schema);

/*
** Call it before a change in `schema` that is to be recorded. It makes a control table take part in the transaction,
** and reserves room for one record, so that recording cannot fail. An SQLite code, with *err (sqlite3_malloc).
*/
int wm_ddl_prepare(wm_conn *conn, const char *schema, char **err);

void wm_ddl_created(wm_table *table); /* after wm_table_list */
void wm_ddl_dropped(wm_table *table); /* before wm_table_unlist */
/* After wm_table_rename: `name` is the table's old name, `map_name` the new one for its map; both are taken over. */
void wm_ddl_renamed(wm_table *table, char *name, char *map_name);

/* Whether the running transaction has renamed the table; its map still has the old name then. */
bool wm_ddl_is_renamed(const wm_table *table);

/* ------------------------------------------------------------------------------------------------------------------ */
/* Events of the transaction, for control.c                                                                           */

/* Marks the present as savepoint level `last`, and the time before the first record as levels from `first` to it. */
int wm_ddl_mark(wm_conn *conn, int first, int last); /* an SQLite code */

/* Undoes all changes since a savepoint level; since the begin with -1. */
void wm_ddl_undo(wm_conn *conn, int level);

/* Announces to other connections that there will be changes, before SQLite commits the file, which may fail. */
int wm_ddl_announce(wm_conn *conn); /* an SQLite code */

/* Shows the changes to other connections, after SQLite has committed the file. */
void wm_ddl_publish(wm_conn *conn);

/* Drops all records: the transaction has ended. */
void wm_ddl_forget(wm_conn *conn);

#endif
