/*
** catalog.c - which walmap tables the connection's databases have: see catalog.h
**
** PRAGMA table_list tells which schemas have something of a name, and whether it is a virtual table. PRAGMA table_info
** makes SQLite connect that table. If it is a walmap table, it is then in the connection's list (schema.c).
*/
#include "schema/catalog.h"

#include "schema/database.h"
#include "schema/schema.h"

#include <string.h>

SQLITE_EXTENSION_INIT3

/* ------------------------------------------------------------------------------------------------------------------ */
/* What SQLite tells                                                                                                  */

static int sqlite_error(const wm_conn *conn, int rc, char **err) {
  *err = sqlite3_mprintf("%s", sqlite3_errmsg(conn->db));
  return rc;
}

const char *wm_catalog_schema(const wm_conn *conn, const char *schema) {
  for (int i = 0; sqlite3_db_name(conn->db, i) != NULL; i++) {
    if (sqlite3_stricmp(sqlite3_db_name(conn->db, i), schema) == 0)
      return sqlite3_db_name(conn->db, i);
  }
  return sqlite3_stricmp(schema, "main") == 0 ? sqlite3_db_name(conn->db, 0) : NULL;
}

bool wm_catalog_is_default(const wm_conn *conn, const char *schema, const char *name) {
  return wm_schema_is_default(wm_conn_schema_name(conn, schema), name);
}

/* Called with each row of a result. A code other than SQLITE_OK ends the PRAGMA, and run_pragma returns it. */
typedef int (*row_fn)(void *context, sqlite3_stmt *row);

/*
** Runs a PRAGMA. A PRAGMA that an authorizer has ignored has no columns: that is an error, unlike a result without
** rows.
*/
static int run_pragma(const wm_conn *conn, const char *format, const char *schema, const char *name, row_fn each,
                      void *context, char **err) {
  char *sql = sqlite3_mprintf(format, schema, name);
  sqlite3_stmt *row = NULL;
  int rc = sql == NULL ? SQLITE_NOMEM : sqlite3_prepare_v2(conn->db, sql, -1, &row, NULL);
  sqlite3_free(sql);
  if (rc != SQLITE_OK)
    return sqlite_error(conn, rc, err);
  if (sqlite3_column_count(row) == 0) {
    sqlite3_finalize(row);
    *err = sqlite3_mprintf("not authorized");
    return SQLITE_AUTH;
  }
  while (rc == SQLITE_OK && sqlite3_step(row) == SQLITE_ROW)
    rc = each != NULL ? each(context, row) : SQLITE_OK;
  int finished = sqlite3_finalize(row);
  return rc == SQLITE_OK && finished != SQLITE_OK ? sqlite_error(conn, finished, err) : rc;
}

/* The kind of object that has the name in the schema. */
typedef enum object_kind { NOTHING, VIRTUAL, SOMETHING_ELSE } object_kind;

/* From a row of PRAGMA table_list, which has no NULLs. */
static int read_kind(void *context, sqlite3_stmt *row) {
  const char *type = (const char *)sqlite3_column_text(row, 2);
  if (type == NULL)
    return SQLITE_NOMEM;
  *(object_kind *)context = strcmp(type, "virtual") == 0 ? VIRTUAL : SOMETHING_ELSE;
  return SQLITE_OK;
}

static int find_kind(const wm_conn *conn, const char *schema, const char *name, object_kind *out, char **err) {
  *out = NOTHING;
  return run_pragma(conn, "PRAGMA \"%w\".table_list(\"%w\")", schema, name, read_kind, out, err);
}

/* Asks SQLite about the table's columns, for which SQLite connects the table unless it is connected. */
static int connect_table(const wm_conn *conn, const char *schema, const char *name, char **err) {
  return run_pragma(conn, "PRAGMA \"%w\".table_info(\"%w\")", schema, name, NULL, NULL, err);
}

/* Connects the table, if it is a virtual one. *out: what is listed under the name; *outdated: it no longer is this. */
static int find_listed(wm_conn *conn, const char *schema, const char *name, object_kind kind, wm_table **out,
                       bool *outdated, char **err) {
  int rc = kind == VIRTUAL ? connect_table(conn, schema, name, err) : SQLITE_OK;
  if (rc != SQLITE_OK)
    return rc;
  wm_table *table = wm_catalog_is_default(conn, schema, name) ? NULL : wm_conn_listed(conn, schema, name);
  *outdated = table != NULL && (kind != VIRTUAL || !wm_schema_is_meant(table) || !wm_database_has(table));
  *out = table;
  return SQLITE_OK;
}

/* If another connection changes some table meanwhile, SQLite's view of the schema may be outdated: it looks again. */
int wm_catalog_find(wm_conn *conn, const char *schema, const char *name, bool *found, wm_table **out, char **err) {
  object_kind kind;
  wm_table *table = NULL;
  unsigned version;
  bool outdated = false;
  do {
    version = wm_registry_version();
    int rc = find_kind(conn, schema, name, &kind, err);
    if (rc == SQLITE_OK)
      rc = find_listed(conn, schema, name, kind, &table, &outdated, err);
    if (rc != SQLITE_OK)
      return rc;
  } while (outdated && version != wm_registry_version());
  if (outdated) {
    wm_table_unlist(table); /* another connection dropped or renamed it, or its database was detached */
    table = NULL;
  }
  *found = kind != NOTHING;
  *out = table;
  return SQLITE_OK;
}

int wm_catalog_find_default(wm_conn *conn, wm_table **out, char **err) {
  const char *schema = sqlite3_db_name(conn->db, 0);
  int rc = connect_table(conn, schema, WM_MODULE, err);
  *out = wm_conn_listed(conn, schema, WM_MODULE);
  return rc;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* All tables                                                                                                         */

/*
** SQLite is asked for the list of all tables once, and not for each table: to answer, it looks at all of its own each
** time. A table of the connection's list that is in SQLite's gets the number of this call in `seen`.
*/
typedef struct listing {
  wm_conn *conn;
  char **err;
} listing;

static int connect_listed(void *context, sqlite3_stmt *row) {
  listing *l = context;
  object_kind kind;
  bool found, outdated = false;
  wm_table *table = NULL;
  const char *schema = (const char *)sqlite3_column_text(row, 0), *name = (const char *)sqlite3_column_text(row, 1);
  int rc = schema == NULL || name == NULL ? SQLITE_NOMEM : read_kind(&kind, row);
  if (rc != SQLITE_OK || kind != VIRTUAL)
    return rc;
  rc = find_listed(l->conn, schema, name, kind, &table, &outdated, l->err);
  if (rc == SQLITE_OK && outdated)
    rc = wm_catalog_find(l->conn, schema, name, &found, &table, l->err);
  if (rc == SQLITE_OK && table != NULL)
    table->seen = l->conn->refreshes;
  return rc;
}

static int forget_if_gone(wm_conn *conn, wm_table *table, char **err) {
  object_kind kind = NOTHING;
  int rc = SQLITE_OK;
  if (table->seen == conn->refreshes || wm_catalog_is_default(conn, table->schema, table->name))
    return SQLITE_OK;
  wm_table_retain(table);
  if (wm_catalog_schema(conn, table->schema) != NULL)
    rc = find_kind(conn, table->schema, table->name, &kind, err);
  if (rc == SQLITE_OK && table->listed && (kind != VIRTUAL || !wm_database_has(table)))
    wm_table_unlist(table);
  wm_table_release(table);
  return rc;
}

int wm_catalog_refresh(wm_conn *conn, char **err) {
  listing l = {conn, err};
  conn->refreshes++;
  int rc = run_pragma(conn, "PRAGMA table_list", NULL, NULL, connect_listed, &l, err);
  for (wm_table *table = conn->tables, *next; table != NULL && rc == SQLITE_OK; table = next) {
    next = table->next;
    if (next != NULL)
      wm_table_retain(next); /* SQLite may connect a table meanwhile, and so have `next` released */
    rc = forget_if_gone(conn, table, err);
    if (next != NULL)
      wm_table_release(next);
  }
  return rc;
}
