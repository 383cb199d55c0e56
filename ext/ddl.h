/*
** ddl.h - CREATE, DROP and RENAME of walmap tables inside transactions
**
** What a connection's tables are (conn->tables) and what they hold must follow ROLLBACK, ROLLBACK TO and a failing
** COMMIT as SQLite's own tables do: a dropped table comes back with its content, a created one goes. See ddl.c for how.
*/
#ifndef WM_DDL_H
#define WM_DDL_H

#include "conn.h"

/* Registers the control module on the connection. An SQLite code. */
int wm_ddl_register(wm_conn *conn);

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

/* How many savepoint levels are open in the transaction. 0 if no schema change was recorded: then nobody can know. */
int wm_ddl_levels(const wm_conn *conn);

/*
** To be called before a statement is kept, which would make sqlite3_close fail: connects the control table, because
** sqlite3_close begins by disconnecting it, and that finalizes all kept statements. An SQLite code.
*/
int wm_ddl_watch_close(wm_conn *conn);

#endif
