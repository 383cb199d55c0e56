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
** Whether the creation of a table in `schema`, which is running, can be undone with the statement only, of which the
** table itself is told. All other changes must be recorded.
*/
bool wm_ddl_can_do_without(wm_conn *conn, const char *schema);

/*
** To be called before a change in `schema` that is recorded: makes a control table take part in the transaction, and room
** for one record, which then cannot fail. An SQLite code, with *err (sqlite3_malloc).
*/
int wm_ddl_prepare(wm_conn *conn, const char *schema, char **err);

void wm_ddl_created(wm_table *table); /* after wm_table_list */
void wm_ddl_dropped(wm_table *table); /* before wm_table_unlist */
/* After wm_table_rename: `name` is the table's old name, `map_name` the new one for its map; both are taken over. */
void wm_ddl_renamed(wm_table *table, char *name, char *map_name);

/* Whether the running transaction has renamed the table, which its map does not know yet. */
bool wm_ddl_is_renamed(const wm_table *table);

/* Savepoint levels that are open in the transaction as far as known, which is so when a schema change was recorded. */
int wm_ddl_levels(const wm_conn *conn);

/*
** Makes the connection close without trouble when it keeps statements: from then on the control table is connected, and
** its disconnection, with which sqlite3_close begins, finalizes them. An SQLite code.
*/
int wm_ddl_watch_close(wm_conn *conn);

#endif
