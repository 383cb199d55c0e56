/*
** resolve.c - which table a function's first argument means: see conn.h
**
** SQLite is asked, by PRAGMA, which schemas have something of that name, and whether it is a virtual table. If it is
** one of ours, SQLite connects it, and then it is in the connection's list (schema.c).
*/
#include "schema/resolve.h"

#include "schema/control.h"
#include "schema/schema.h"

#include <string.h>

SQLITE_EXTENSION_INIT3

/* ------------------------------------------------------------------------------------------------------------------ */
/* The last answers                                                                                                   */

/*
** An answer is valid as long as the connection's tables, their objects and its databases stay the same, and as long as
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

static int databases(const wm_conn *conn) {
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

/* As databases(conn) == last->databases: there always is one. */
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

/* Before names are looked up: what changes from then on is noticed. Without memory nothing is kept. */
static void set_canary(wm_conn *conn) {
  if (conn->canary != NULL && !is_expired(conn->canary))
    return;
  wm_conn_finalize(conn); /* what is kept for functions has expired as well, and keeps tables that have gone */
  if (wm_control_watch_close(conn) == SQLITE_OK)
    (void)sqlite3_prepare(conn->db, "SELECT 1", -1, &conn->canary, NULL); /* not v2: it must not be prepared anew */
}

/*
** `version`: of the registry, before the table was looked up. A table that another connection has changed since the
** transaction began to read the file is still the transaction's, but nobody's after it, so it is not kept.
*/
static void keep(const wm_conn *conn, wm_resolved *last, const char *name, wm_table *table, unsigned version) {
  size_t size = strlen(name);
  if (size > sizeof last->name || !wm_schema_is_current(table))
    return;
  memcpy(last->name, name, size);
  last->size = size;
  last->table = table;
  last->changes = conn->changes;
  last->databases = databases(conn);
  last->version = version;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* What a schema has                                                                                                  */

static int fail(char **err, char *text) {
  *err = text;
  return text == NULL ? SQLITE_NOMEM : SQLITE_ERROR;
}

static int fail_as_sqlite(const wm_conn *conn, int rc, char **err) {
  *err = sqlite3_mprintf("%s", sqlite3_errmsg(conn->db));
  return rc;
}

/* The database's name as SQLite has it, or NULL: "main" may have been given another one, and means it all the same. */
static const char *schema_called(const wm_conn *conn, const char *schema) {
  for (int i = 0; sqlite3_db_name(conn->db, i) != NULL; i++) {
    if (sqlite3_stricmp(sqlite3_db_name(conn->db, i), schema) == 0)
      return sqlite3_db_name(conn->db, i);
  }
  return sqlite3_stricmp(schema, "main") == 0 ? sqlite3_db_name(conn->db, 0) : NULL;
}

static bool is_default(const wm_conn *conn, const char *schema, const char *name) {
  return sqlite3_stricmp(name, WM_MODULE) == 0 && sqlite3_stricmp(wm_conn_schema_name(conn, schema), "main") == 0;
}

/* What is done with each row of a result. Other than SQLITE_OK ends it, and is the result of `run`. */
typedef int (*row_fn)(void *context, sqlite3_stmt *row);

/*
** Runs a PRAGMA. One that an authorizer has ignored comes back without columns: that is no answer, and not to be taken
** for one without rows.
*/
static int run(const wm_conn *conn, const char *format, const char *schema, const char *name, row_fn each,
               void *context, char **err) {
  char *sql = sqlite3_mprintf(format, schema, name);
  sqlite3_stmt *row = NULL;
  int rc = sql == NULL ? SQLITE_NOMEM : sqlite3_prepare_v2(conn->db, sql, -1, &row, NULL);
  sqlite3_free(sql);
  if (rc != SQLITE_OK)
    return fail_as_sqlite(conn, rc, err);
  if (sqlite3_column_count(row) == 0) {
    sqlite3_finalize(row);
    *err = sqlite3_mprintf("not authorized");
    return SQLITE_AUTH;
  }
  while (rc == SQLITE_OK && sqlite3_step(row) == SQLITE_ROW)
    rc = each != NULL ? each(context, row) : SQLITE_OK;
  int finished = sqlite3_finalize(row);
  return rc == SQLITE_OK && finished != SQLITE_OK ? fail_as_sqlite(conn, finished, err) : rc;
}

/* What has the name in the schema. */
typedef enum what { NOTHING, VIRTUAL, SOMETHING_ELSE } what;

/* From a row of PRAGMA table_list, which has no NULLs. */
static int take_type(void *context, sqlite3_stmt *row) {
  const char *type = (const char *)sqlite3_column_text(row, 2);
  if (type == NULL)
    return SQLITE_NOMEM;
  *(what *)context = strcmp(type, "virtual") == 0 ? VIRTUAL : SOMETHING_ELSE;
  return SQLITE_OK;
}

static int ask(const wm_conn *conn, const char *schema, const char *name, what *out, char **err) {
  *out = NOTHING;
  return run(conn, "PRAGMA \"%w\".table_list(\"%w\")", schema, name, take_type, out, err);
}

/* Asks SQLite about the table's columns, for which it connects the table if it has not. */
static int connect(const wm_conn *conn, const char *schema, const char *name, char **err) {
  return run(conn, "PRAGMA \"%w\".table_info(\"%w\")", schema, name, NULL, NULL, err);
}

/* Whether the table is of the database that the schema is now: another one may have been attached in its place. */
static bool is_of_database(const wm_table *table) {
  const wm_map *map = table->attachment->map;
  const char *file = sqlite3_db_filename(table->conn->db, table->schema);
  return map->kind != WM_FILE || (file != NULL && strcmp(map->file, file) == 0);
}

/*
** The schema's table of the name: *out stays NULL when it is none of ours. *found: something has the name. It is looked
** at anew when another connection changes some table meanwhile, for what SQLite knew of the schema may be what is
** outdated.
*/
static int look(wm_conn *conn, const char *schema, const char *name, bool *found, wm_table **out, char **err) {
  what what;
  wm_table *table;
  unsigned version;
  bool outdated;
  do {
    version = wm_registry_version();
    int rc = ask(conn, schema, name, &what, err);
    if (rc == SQLITE_OK && what == VIRTUAL)
      rc = connect(conn, schema, name, err);
    if (rc != SQLITE_OK)
      return rc;
    table = is_default(conn, schema, name) ? NULL : wm_conn_listed(conn, schema, name);
    outdated = table != NULL && (what != VIRTUAL || !wm_schema_is_meant(table) || !is_of_database(table));
  } while (outdated && version != wm_registry_version());
  if (outdated) {
    wm_table_unlist(table); /* it was dropped or renamed elsewhere, or its database was detached */
    table = NULL;
  }
  *found = what != NOTHING;
  *out = table;
  return SQLITE_OK;
}

/* The default map, under which schema's name it may have been asked for. */
static int look_at_default(wm_conn *conn, wm_table **out, char **err) {
  const char *schema = sqlite3_db_name(conn->db, 0);
  int rc = connect(conn, schema, WM_MODULE, err);
  *out = wm_conn_listed(conn, schema, WM_MODULE);
  return rc;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Tables by name                                                                                                     */

/* One part of a name, without its quotes, as a text of its own at *at; moves past it. */
static char *take_part(const char **at) {
  static const char opening[] = "\"'`[", closing[] = "\"'`]";
  const char *kind = **at != 0 ? strchr(opening, **at) : NULL;
  char *part = sqlite3_malloc64(strlen(*at) + 1);
  if (part == NULL)
    return NULL;
  size_t n = 0;
  if (kind == NULL) {
    while (**at != 0 && **at != '.')
      part[n++] = *(*at)++;
  } else {
    char quote = closing[kind - opening];
    for ((*at)++; **at != 0; part[n++] = *(*at)++) {
      if (**at == quote && (*++*at != quote || quote == ']'))
        break;
    }
  }
  part[n] = 0;
  return part;
}

/* "kv" or "temp.kv": *schema stays NULL when the name has none. *whole: nothing comes after it. */
static int split(const char *text, char **schema, char **name, bool *whole) {
  *schema = NULL;
  *name = take_part(&text);
  if (*name != NULL && *text == '.') {
    text++;
    *schema = *name;
    *name = take_part(&text);
  }
  *whole = *text == 0;
  return *name == NULL ? SQLITE_NOMEM : SQLITE_OK;
}

static int look_everywhere(wm_conn *conn, const char *name, bool *found, wm_table **out, char **err) {
  static const int order[] = {1, 0}; /* temp, main; then attached ones as they come */
  for (int i = 0; sqlite3_db_name(conn->db, i) != NULL; i++) {
    int rc = look(conn, sqlite3_db_name(conn->db, i < 2 ? order[i] : i), name, found, out, err);
    if (rc != SQLITE_OK || *found)
      return rc;
  }
  return SQLITE_OK;
}

/* As SQLite does: the default map is what the name means where no table has it, in whatever schema. */
static int look_for(wm_conn *conn, const char *schema, const char *name, bool *found, wm_table **out, char **err) {
  if (schema != NULL && (schema = schema_called(conn, schema)) == NULL)
    return SQLITE_OK;
  int rc = schema != NULL ? look(conn, schema, name, found, out, err) : look_everywhere(conn, name, found, out, err);
  if (rc == SQLITE_OK && !*found && sqlite3_stricmp(name, WM_MODULE) == 0)
    rc = look_at_default(conn, out, err);
  return rc;
}

/* None of ours. `found`: but something has the name. */
static int refuse(bool found, const char *name, char **err) {
  const char *format = found ? WM_MODULE ": %s is not a walmap table" : WM_MODULE ": no such table: %s";
  return fail(err, sqlite3_mprintf(format, name));
}

/*
** Whether another table that takes the name is noticed. Not where the name is that of an attached database's table,
** without the schema: then SQLite does not tell when main, or a database attached before, gets a table or view of that
** name.
*/
static bool is_noticed(const char *schema, const wm_table *table) {
  return schema != NULL || sqlite3_stricmp(table->schema, "main") == 0 || sqlite3_stricmp(table->schema, "temp") == 0;
}

/* *lasts: the answer may be kept. */
static int find_named(wm_conn *conn, const char *text, wm_table **out, bool *lasts, char **err) {
  char *schema, *name;
  bool found = false, whole;
  wm_table *table = NULL;
  int rc = split(text, &schema, &name, &whole);
  if (rc == SQLITE_OK && whole)
    rc = look_for(conn, schema, name, &found, &table, err);
  *lasts = table != NULL && is_noticed(schema, table);
  sqlite3_free(schema);
  sqlite3_free(name);
  if (rc != SQLITE_OK)
    return rc;
  if (table == NULL)
    return refuse(found, text, err);
  *out = table;
  return SQLITE_OK;
}

int wm_resolve_present(wm_table **table, char **err) {
  wm_conn *conn = (*table)->conn;
  char *schema = sqlite3_mprintf("%s", (*table)->schema), *name = sqlite3_mprintf("%s", (*table)->name);
  bool found = false;
  wm_table *now = NULL;
  int rc = schema == NULL || name == NULL ? SQLITE_NOMEM : look_for(conn, schema, name, &found, &now, err);
  if (rc == SQLITE_OK && now == NULL)
    rc = refuse(found, name, err);
  if (rc == SQLITE_OK)
    *table = now;
  sqlite3_free(schema);
  sqlite3_free(name);
  return rc;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* The only table                                                                                                     */

typedef struct looking {
  wm_conn *conn;
  char **err;
} looking;

static int look_at_row(void *context, sqlite3_stmt *row) {
  looking *l = context;
  what what;
  bool found;
  wm_table *table;
  const char *schema = (const char *)sqlite3_column_text(row, 0), *name = (const char *)sqlite3_column_text(row, 1);
  int rc = schema == NULL || name == NULL ? SQLITE_NOMEM : take_type(&what, row);
  return rc == SQLITE_OK && what == VIRTUAL ? look(l->conn, schema, name, &found, &table, l->err) : rc;
}

static int forget_if_gone(wm_conn *conn, wm_table *table, char **err) {
  what what = NOTHING;
  int rc = SQLITE_OK;
  if (is_default(conn, table->schema, table->name))
    return SQLITE_OK;
  wm_table_retain(table);
  if (schema_called(conn, table->schema) != NULL)
    rc = ask(conn, table->schema, table->name, &what, err);
  if (rc == SQLITE_OK && table->listed && (what != VIRTUAL || !is_of_database(table)))
    wm_table_unlist(table);
  wm_table_release(table);
  return rc;
}

/* Connects all tables that the connection's databases have, and forgets those that they no longer have. */
static int look_at_all(wm_conn *conn, char **err) {
  looking l = {conn, err};
  int rc = run(conn, "PRAGMA table_list", NULL, NULL, look_at_row, &l, err);
  for (wm_table *table = conn->tables, *next; table != NULL && rc == SQLITE_OK; table = next) {
    next = table->next;
    if (next != NULL)
      wm_table_retain(next); /* or it might be let go of as well, when SQLite connects a table meanwhile */
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
  int rc = look_at_all(conn, err);
  if (rc != SQLITE_OK)
    return rc;
  if (conn->tables == NULL)
    return fail(err, sqlite3_mprintf(WM_MODULE ": this connection has no walmap table yet; name one, '" WM_MODULE
                                               "' is the default map"));
  if (conn->tables->next == NULL) {
    *out = conn->tables;
    return SQLITE_OK;
  }
  char *list = list_tables(conn);
  if (list == NULL)
    return SQLITE_NOMEM;
  rc = fail(err, sqlite3_mprintf(WM_MODULE ": this connection has several walmap tables, so name one: %s", list));
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
    return fail(err, sqlite3_mprintf("the first argument is not the name of a walmap table: it has a NUL inside"));
  *err = NULL;
  set_canary(conn);
  unsigned version = wm_registry_version();
  bool lasts = true;
  int rc = name == NULL ? find_only(conn, out, err) : find_named(conn, name, out, &lasts, err);
  if (rc == SQLITE_OK && lasts)
    keep(conn, last, name == NULL ? "" : name, *out, version);
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
