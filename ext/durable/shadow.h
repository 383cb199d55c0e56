/*
** shadow.h - the shadow table of a durable table, as a table: whether there is one; CREATE, DROP, RENAME
**
** The shadow table of kv is kv_log, in the same schema; log.h reads and writes its rows. All return an SQLite code.
*/
#ifndef WM_SHADOW_H
#define WM_SHADOW_H

#include "conn/conn.h"

/* For CREATE, DROP and RENAME of the virtual table, within the same transaction. *err is from sqlite3_malloc. */
int wm_shadow_create(wm_conn *conn, const char *schema, const char *name, char **err);
int wm_shadow_drop(wm_conn *conn, const char *schema, const char *name, char **err);
int wm_shadow_rename(wm_conn *conn, const char *schema, const char *name, const char *to, char **err);

/*
** Whether a table of that name, which has no file, has a shadow table. A user may call a table of his own kv_log, so it
** must be declared as wm_shadow_create does it. `doubted`: the last row must be one that walmap has written, too. On an
** error *err has the text (sqlite3_malloc), or is NULL when memory is out.
*/
int wm_shadow_find(const wm_conn *conn, const char *schema, const char *name, bool doubted, bool *found, char **err);

/* Whether the table's shadow table can be used; an error as in log.h. */
int wm_shadow_check(wm_table *table);

#endif
