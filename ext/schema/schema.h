/*
** schema.h - which map a walmap table names, and its creation, removal and new name
*/
#ifndef WM_SCHEMA_H
#define WM_SCHEMA_H

#include "conn/conn.h"

typedef struct wm_opening {
  wm_table *table; /* with a reference */
  bool created;    /* by CREATE VIRTUAL TABLE, as opposed to a reconnection */
  bool is_default; /* it is the connection's default map */
  bool recorded;   /* ddl.c undoes the creation; if not, that is up to the caller (wm_schema_forget) */
} wm_opening;

/* Whether it is the connection's temp schema, which no other connection sees. */
bool wm_schema_is_temp(const char *schema);

/* Whether this is the name of a connection's default map, the schema being as wm_conn_schema_name has it. */
bool wm_schema_is_default(const char *schema, const char *name);

/*
** The table for xCreate's or xConnect's arguments. argv is [module, schema, table, options...].
** An SQLite code; any but SQLITE_OK comes with *err (sqlite3_malloc), unless memory is out.
*/
int wm_schema_open(wm_conn *conn, int argc, const char *const *argv, wm_opening *out, char **err);

/*
** is_current: whether the table still has the map that it had when it was connected last. Not so when another
** connection has dropped or renamed it in the file, and perhaps created another one with its name. is_meant: whether it
** has it as far as the connection can see, whose transaction may have begun to read the file before such a change.
*/
bool wm_schema_is_current(const wm_table *table);
bool wm_schema_is_meant(const wm_table *table);

/* DROP TABLE and ALTER TABLE ... RENAME TO. SQLite codes, with *err as above. */
int wm_schema_drop(wm_table *table, char **err);
int wm_schema_rename(wm_table *table, const char *name, char **err);

/*
** PRAGMA schema_version of the schema's database, as the connection's transaction sees it. An SQLite code: SQLITE_AUTH
** when an authorizer does not let it be asked.
*/
int wm_schema_version(const wm_conn *conn, const char *schema, int *version);

/* The creation of the table was rolled back, and nothing recorded it. */
void wm_schema_forget(wm_table *table);

#endif
