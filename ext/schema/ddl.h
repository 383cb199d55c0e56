/*
** ddl.h - CREATE, DROP and RENAME of walmap tables inside transactions
**
** What a connection's tables are (conn->tables) and what they hold must follow ROLLBACK, ROLLBACK TO and a failing
** COMMIT as SQLite's own tables do: a dropped table comes back with its content, a created one goes. See ddl.c for how.
*/
#ifndef WM_DDL_H
#define WM_DDL_H

#include "conn/conn.h"

int wm_ddl_new(wm_conn *conn); /* an SQLite code */
void wm_ddl_free(wm_conn *conn);

/*
** Whether the running creation of a table in `schema` can be undone only together with its statement: then the table's
** own xRollback is enough. All other changes must be recorded.
*/
bool wm_ddl_can_do_without(wm_conn *conn, const char *schema);

/*
** To be called before a change in `schema` that is to be recorded: makes a control table take part in the transaction,
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
/* What becomes of the transaction, for control.c                                                                     */

/* Notes the present as savepoint level `last`, and as levels from `first` on the time before the first record. */
int wm_ddl_mark(wm_conn *conn, int first, int last); /* an SQLite code */

/* Undoes all changes since a savepoint level; since the begin with -1. */
void wm_ddl_undo(wm_conn *conn, int level);

/* Before SQLite commits the file, which may fail: announces to other connections that there will be changes. */
int wm_ddl_announce(wm_conn *conn); /* an SQLite code */

/* Once it is committed: shows the changes to them. */
void wm_ddl_publish(wm_conn *conn);

/* The transaction has ended: drops all records. */
void wm_ddl_forget(wm_conn *conn);

#endif
