/*
** control.h - the control table: how a connection takes part in transactions that change its schema
**
** Schema changes must follow ROLLBACK, ROLLBACK TO and a failing COMMIT (ddl.h), but a virtual table gets only some of
** these events. The connection's control table gets every event of a transaction in which it takes part. See control.c.
*/
#ifndef WM_CONTROL_H
#define WM_CONTROL_H

#include "conn/conn.h"

/* The name of the table and of its module. */
#define WM_CONTROL "walmap_control"

int wm_control_new(wm_conn *conn); /* an SQLite code */
void wm_control_free(wm_conn *conn);

/* Registers the module on the connection. An SQLite code. */
int wm_control_register(wm_conn *conn);

/* Makes a control table take part in the running transaction, which changes `schema`. An SQLite code. */
int wm_control_join(wm_conn *conn, const char *schema);

/* Whether a control table takes part in the running transaction. */
bool wm_control_has_joined(const wm_conn *conn);

/* How many savepoint levels are open in the transaction. 0, for unknown, if no control table has joined it. */
int wm_control_levels(const wm_conn *conn);

/*
** Call it before a statement is kept, which would make sqlite3_close fail. It connects the control table: sqlite3_close
** begins by disconnecting that table, which finalizes all kept statements. An SQLite code.
*/
int wm_control_watch_close(wm_conn *conn);

#endif
