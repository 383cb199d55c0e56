/*
** resolve.c - which table a function's first argument means: see resolve.h
**
** PRAGMA table_list tells which schemas have something of that name, and whether it is a virtual table. PRAGMA
** table_info makes SQLite connect that table. If it is a walmap table, it is then in the connection's list (schema.c).
*/
#include "schema/resolve.h"

#include "conn/quoted.h"
#include "schema/control.h"
#include "schema/schema.h"

SQLITE_EXTENSION_INIT3

/* ------------------------------------------------------------------------------------------------------------------ */
/* The last results                                                                                                   */

/*
** A result is valid as long as the connection's tables, their objects and its databases stay the same, and as long as
** SQLite takes its statements to be up to date. SQLite lets all statements expire when a database is detached, when the
** temp schema changes, and (before 3.41 or so) when it drops the object of a virtual table. The canary is a statement
** that is kept only to see whether it has expired. One case is missed: a database is replaced as a whole, by
** sqlite3_backup or another process, while some statement keeps the table's object. Then functions read the old map
** until that statement is finalized, or until one of them writes.
*/

typedef struct wm_resolved {
  char name[128]; /* longer ones are looked up each time */
  size_t size;    /* of the name */
  wm_table *table;
  unsigned changes;
  int databases;
  unsigned version; /* of the registry */
} wm_resolved;      /* two: [0] for a name, [1] for none */

static int count_databases(const wm_conn *conn) {
  int n = 0;
  while (sqlite3_db_name(conn->db, n) != NULL)
    n++;
  return n;
}

/* sqlite3_expired() is deprecated, and left out of some builds of SQLite: there the canary must run to tell. */
static bool is_expired(sqlite3_stmt *canary) {
#if !defined(SQLITE_OMIT_DEPRECATED) && defined(SQLITE_CORE)
  return sqlite3_expired(canary) != 0;
#else
#if !defined(SQLITE_OMIT_DEPRECATED)
  if (sqlite3_api->expired != NULL)
    return sqlite3_expired(canary) != 0;
#endif
  sqlite3_step(canary);
  return sqlite3_reset(canary) != SQLITE_OK;
#endif
}

/* The same as count_databases(conn) == last->databases, without the count: there always is one database. */
static bool has_as_many_databases(const wm_conn *conn, const wm_resolved *last) {
  return sqlite3_db_name(conn->db, last->databases) == NULL && sqlite3_db_name(conn->db, last->databases - 1) != NULL;
}

static bool is_valid(const wm_conn *conn, const wm_resolved *last) {
  return last->table != NULL && last->changes == conn->changes && has_as_many_databases(conn, last) &&
         last->version == wm_registry_version() && conn->canary != NULL && !is_expired(conn->canary);
}

void wm_resolve_forget(wm_conn *conn) {
  sqlite3_stmt *canary = conn->canary;
  conn->canary = NULL; /* first, for finalizing may disconnect tables */
  sqlite3_finalize(canary);
  for (int i = 0; i < 2; i++)
    conn->resolved[i].table = NULL;
}

/* Called before a name is looked up, so that later changes are noticed. Without memory the result is not kept. */
static void set_canary(wm_conn *conn) {
  if (conn->canary != NULL && !is_expired(conn->canary))
    return;
  wm_conn_finalize(conn); /* statements kept for functions have expired too, and keep dropped tables connected */
  if (wm_control_watch_close(conn) == SQLITE_OK)
    (void)sqlite3_prepare(conn->db, "SELECT 1", -1, &conn->canary, NULL); /* not v2, which SQLite prepares anew */
}

/*
** `version`: of the registry, before the table was looked up. A table that another connection has dropped or renamed
** since the transaction began to read the file is still the transaction's, but no longer after it: it is not kept.
*/
static void keep_result(const wm_conn *conn, wm_resolved *last, const char *name, wm_table *table, unsigned version) {
  size_t size = strlen(name);
  if (size > sizeof last->name || !wm_schema_is_current(table))
    return;
  memcpy(last->name, name, size);
  last->size = size;
  last->table = table;
  last->changes = conn->changes;
  last->databases = count_databases(conn);
  last->version = version;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* What a schema has                                                                                                  */

static int error_text(char **err, char *text) {
  *err = text;
  return text == NULL ? SQLITE_NOMEM : SQLITE_ERROR;
}

static int sqlite_error(const wm_conn *conn, int rc, char **err) {
  *err = sqlite3_mprintf("%s", sqlite3_errmsg(conn->db));
  return rc;
}

/* The database's name as SQLite has it, or NULL: "main" may have been given another one, and means it all the same. */
static const char *find_schema(const wm_conn *conn, const char *schema) {
  for (int i = 0; sqlite3_db_name(conn->db, i) != NULL; i++) {
    if (sqlite3_stricmp(sqlite3_db_name(conn->db, i), schema) == 0)
      return sqlite3_db_name(conn->db, i);
  }
  return sqlite3_stricmp(schema, "main") == 0 ? sqlite3_db_name(conn->db, 0) : NULL;
}

static bool is_default(const wm_conn *conn, const char *schema, const char *name) {
  return sqlite3_stricmp(name, WM_MODULE) == 0 && sqlite3_stricmp(wm_conn_schema_name(conn, schema), "main") == 0;
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

/* Whether the schema still is the table's database: another database may have been attached under that name. */
static bool is_of_database(const wm_table *table) {
  const wm_map *map = table->attachment->map;
  const char *file = sqlite3_db_filename(table->conn->db, table->schema);
  return map->kind != WM_FILE || (file != NULL && strcmp(map->file, file) == 0);
}

/*
** Finds the walmap table of that name in the schema; *out is NULL when there is none. *found: something has the name.
** If another connection changes some table meanwhile, it looks again, because SQLite's view of the schema may be
** outdated.
*/
static int find_in_schema(wm_conn *conn, const char *schema, const char *name, bool *found, wm_table **out,
                          char **err) {
  object_kind kind;
  wm_table *table;
  unsigned version;
  bool outdated;
  do {
    version = wm_registry_version();
    int rc = find_kind(conn, schema, name, &kind, err);
    if (rc == SQLITE_OK && kind == VIRTUAL)
      rc = connect_table(conn, schema, name, err);
    if (rc != SQLITE_OK)
      return rc;
    table = is_default(conn, schema, name) ? NULL : wm_conn_listed(conn, schema, name);
    outdated = table != NULL && (kind != VIRTUAL || !wm_schema_is_meant(table) || !is_of_database(table));
  } while (outdated && version != wm_registry_version());
  if (outdated) {
    wm_table_unlist(table); /* another connection dropped or renamed it, or its database was detached */
    table = NULL;
  }
  *found = kind != NOTHING;
  *out = table;
  return SQLITE_OK;
}

/* Finds the default map's table, whatever schema the caller named. */
static int find_default(wm_conn *conn, wm_table **out, char **err) {
  const char *schema = sqlite3_db_name(conn->db, 0);
  int rc = connect_table(conn, schema, WM_MODULE, err);
  *out = wm_conn_listed(conn, schema, WM_MODULE);
  return rc;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Tables by name                                                                                                     */

/* Copies one part of a name, without its quotes, from *at (sqlite3_malloc), and moves *at past it. */
static char *copy_name_part(const char **at) {
  size_t size = strlen(*at), n = 0;
  char *part = sqlite3_malloc64(size + 1);
  if (part == NULL)
    return NULL;
  wm_quoted quoted;
  if (wm_quoted_start(&quoted, *at, *at + size)) {
    for (int c; (c = wm_quoted_next(&quoted)) >= 0;)
      part[n++] = (char)c;
  } else {
    while (quoted.at != quoted.end && *quoted.at != '.')
      part[n++] = *quoted.at++;
  }
  part[n] = 0;
  *at = quoted.at;
  return part;
}

/* Splits "kv" or "temp.kv"; *schema is NULL when there is none. *whole: no text follows the name. */
static int split_name(const char *text, char **schema, char **name, bool *whole) {
  *schema = NULL;
  *name = copy_name_part(&text);
  if (*name != NULL && *text == '.') {
    text++;
    *schema = *name;
    *name = copy_name_part(&text);
  }
  *whole = *text == 0;
  return *name == NULL ? SQLITE_NOMEM : SQLITE_OK;
}

static int find_in_any_schema(wm_conn *conn, const char *name, bool *found, wm_table **out, char **err) {
  static const int order[] = {1, 0}; /* temp, main; then attached ones as they come */
  for (int i = 0; sqlite3_db_name(conn->db, i) != NULL; i++) {
    int rc = find_in_schema(conn, sqlite3_db_name(conn->db, i < 2 ? order[i] : i), name, found, out, err);
    if (rc != SQLITE_OK || *found)
      return rc;
  }
  return SQLITE_OK;
}

/* Resolves as SQLite does: the name of the default map means that map if no table has the name. */
static int find_by_name(wm_conn *conn, const char *schema, const char *name, bool *found, wm_table **out, char **err) {
  if (schema != NULL && (schema = find_schema(conn, schema)) == NULL)
    return SQLITE_OK;
  int rc = schema != NULL ? find_in_schema(conn, schema, name, found, out, err)
                          : find_in_any_schema(conn, name, found, out, err);
  if (rc == SQLITE_OK && !*found && sqlite3_stricmp(name, WM_MODULE) == 0)
    rc = find_default(conn, out, err);
  return rc;
}

/* The error for a name without a walmap table. `found`: something else has the name. */
static int no_such_table(bool found, const char *name, char **err) {
  const char *format = found ? WM_MODULE ": %s is not a walmap table" : WM_MODULE ": no such table: %s";
  return error_text(err, sqlite3_mprintf(format, name));
}

/*
** Whether it is noticed when another table takes the name. It is not where a name without schema means a table of an
** attached database: SQLite does not tell when main, or a database attached before, gets a table or view of that name.
*/
static bool is_noticed(const char *schema, const wm_table *table) {
  return schema != NULL || sqlite3_stricmp(table->schema, "main") == 0 || sqlite3_stricmp(table->schema, "temp") == 0;
}

/* *lasts: the result may be kept. */
static int find_named(wm_conn *conn, const char *text, wm_table **out, bool *lasts, char **err) {
  char *schema, *name;
  bool found = false, whole;
  wm_table *table = NULL;
  int rc = split_name(text, &schema, &name, &whole);
  if (rc == SQLITE_OK && whole)
    rc = find_by_name(conn, schema, name, &found, &table, err);
  *lasts = table != NULL && is_noticed(schema, table);
  sqlite3_free(schema);
  sqlite3_free(name);
  if (rc != SQLITE_OK)
    return rc;
  if (table == NULL)
    return no_such_table(found, text, err);
  *out = table;
  return SQLITE_OK;
}

int wm_resolve_present(wm_table **table, char **err) {
  wm_conn *conn = (*table)->conn;
  char *schema = sqlite3_mprintf("%s", (*table)->schema), *name = sqlite3_mprintf("%s", (*table)->name);
  bool found = false;
  wm_table *now = NULL;
  int rc = schema == NULL || name == NULL ? SQLITE_NOMEM : find_by_name(conn, schema, name, &found, &now, err);
  if (rc == SQLITE_OK && now == NULL)
    rc = no_such_table(found, name, err);
  if (rc == SQLITE_OK)
    *table = now;
  sqlite3_free(schema);
  sqlite3_free(name);
  return rc;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* The only table                                                                                                     */

typedef struct listing {
  wm_conn *conn;
  char **err;
} listing;

static int connect_listed(void *context, sqlite3_stmt *row) {
  listing *l = context;
  object_kind kind;
  bool found;
  wm_table *table;
  const char *schema = (const char *)sqlite3_column_text(row, 0), *name = (const char *)sqlite3_column_text(row, 1);
  int rc = schema == NULL || name == NULL ? SQLITE_NOMEM : read_kind(&kind, row);
  return rc == SQLITE_OK && kind == VIRTUAL ? find_in_schema(l->conn, schema, name, &found, &table, l->err) : rc;
}

static int forget_if_gone(wm_conn *conn, wm_table *table, char **err) {
  object_kind kind = NOTHING;
  int rc = SQLITE_OK;
  if (is_default(conn, table->schema, table->name))
    return SQLITE_OK;
  wm_table_retain(table);
  if (find_schema(conn, table->schema) != NULL)
    rc = find_kind(conn, table->schema, table->name, &kind, err);
  if (rc == SQLITE_OK && table->listed && (kind != VIRTUAL || !is_of_database(table)))
    wm_table_unlist(table);
  wm_table_release(table);
  return rc;
}

/* Connects all tables that the connection's databases have, and forgets tables that they no longer have. */
static int refresh_tables(wm_conn *conn, char **err) {
  listing l = {conn, err};
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

static char *list_tables(const wm_conn *conn) {
  char *list = NULL;
  for (const wm_table *table = conn->tables; table != NULL; table = table->next) {
    bool plain = is_default(conn, table->schema, table->name);
    char *longer = sqlite3_mprintf("%s%s%s%s%s", list == NULL ? "" : list, list == NULL ? "" : ", ",
                                   plain ? "" : table->schema, plain ? "" : ".", table->name);
    sqlite3_free(list);
    if (longer == NULL)
      return NULL;
    list = longer;
  }
  return list;
}

static int find_only(wm_conn *conn, wm_table **out, char **err) {
  int rc = refresh_tables(conn, err);
  if (rc != SQLITE_OK)
    return rc;
  if (conn->tables == NULL)
    return error_text(err, sqlite3_mprintf(WM_MODULE ": this connection has no walmap table yet; name one, '" WM_MODULE
                                                     "' is the default map"));
  if (conn->tables->next == NULL) {
    *out = conn->tables;
    return SQLITE_OK;
  }
  char *list = list_tables(conn);
  if (list == NULL)
    return SQLITE_NOMEM;
  rc = error_text(err, sqlite3_mprintf(WM_MODULE ": this connection has several walmap tables, so name one: %s", list));
  sqlite3_free(list);
  return rc;
}

int wm_resolve_table(wm_conn *conn, const char *name, size_t size, wm_table **out, char **err) {
  wm_resolved *last = &conn->resolved[name == NULL];
  bool is_same = last->size == size && memcmp(name != NULL ? name : "", last->name, size) == 0;
  if (is_same && is_valid(conn, last)) {
    *out = last->table;
    return SQLITE_OK;
  }
  if (name != NULL && strlen(name) != size)
    return error_text(err,
                      sqlite3_mprintf("the first argument is not the name of a walmap table: it has a NUL inside"));
  *err = NULL;
  set_canary(conn);
  unsigned version = wm_registry_version();
  bool lasts = true;
  int rc = name == NULL ? find_only(conn, out, err) : find_named(conn, name, out, &lasts, err);
  if (rc == SQLITE_OK && lasts)
    keep_result(conn, last, name == NULL ? "" : name, *out, version);
  return rc;
}

/* ------------------------------------------------------------------------------------------------------------------ */

int wm_resolve_new(wm_conn *conn) {
  conn->resolved = sqlite3_malloc(2 * sizeof *conn->resolved);
  if (conn->resolved == NULL)
    return SQLITE_NOMEM;
  memset(conn->resolved, 0, 2 * sizeof *conn->resolved);
  return SQLITE_OK;
}

void wm_resolve_free(wm_conn *conn) { sqlite3_free(conn->resolved); }
