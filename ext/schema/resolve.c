/*
** resolve.c - which table a function's first argument means: see resolve.h
**
** The name is looked up as SQLite looks up names (catalog.h), and the last results are kept.
*/
#include "schema/resolve.h"

#include "conn/error.h"
#include "conn/quoted.h"
#include "schema/catalog.h"
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
    int rc = wm_catalog_find(conn, sqlite3_db_name(conn->db, i < 2 ? order[i] : i), name, found, out, err);
    if (rc != SQLITE_OK || *found)
      return rc;
  }
  return SQLITE_OK;
}

/* Resolves as SQLite does: the name of the default map means that map if no table has the name. */
static int find_by_name(wm_conn *conn, const char *schema, const char *name, bool *found, wm_table **out, char **err) {
  if (schema != NULL && (schema = wm_catalog_schema(conn, schema)) == NULL)
    return SQLITE_OK;
  int rc = schema != NULL ? wm_catalog_find(conn, schema, name, found, out, err)
                          : find_in_any_schema(conn, name, found, out, err);
  if (rc == SQLITE_OK && !*found && sqlite3_stricmp(name, WM_MODULE) == 0)
    rc = wm_catalog_find_default(conn, out, err);
  return rc;
}

/* The error for a name without a walmap table. `found`: something else has the name. */
static int no_such_table(bool found, const char *name, char **err) {
  const char *format = found ? WM_MODULE ": %s is not a walmap table" : WM_MODULE ": no such table: %s";
  return wm_error_refuse(err, sqlite3_mprintf(format, name));
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

/* Moves past one part of a name, and tells whether that is `name`; if not, *at is anywhere. */
static bool take_part(const char **at, const char *end, const char *name) {
  wm_quoted quoted;
  bool is_quoted = wm_quoted_start(&quoted, *at, end);
  while (is_quoted || (quoted.at != end && *quoted.at != '.')) {
    int c = is_quoted ? wm_quoted_next(&quoted) : (unsigned char)*quoted.at++;
    if (c < 0)
      break;
    const char byte = (char)c;
    if (*name == 0 || sqlite3_strnicmp(&byte, name++, 1) != 0)
      return false;
  }
  *at = quoted.at;
  return *name == 0;
}

static bool is_name_of(const char *text, const char *end, const char *schema, const char *table) {
  const char *at = text;
  if (take_part(&at, end, table) && at == end)
    return true;
  at = text;
  if (!take_part(&at, end, schema) || at == end || *at++ != '.')
    return false;
  return take_part(&at, end, table) && at == end;
}

const char *wm_resolve_meant(const wm_table *table, const char *text, size_t size) {
  if (is_name_of(text, text + size, table->schema, table->name))
    return table->name;
  return is_name_of(text, text + size, "main", WM_MODULE) ? WM_MODULE : NULL;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* The only table                                                                                                     */

/* The names of the connection's first tables, and in *more how many others there are: there may be thousands. */
static char *list_tables(const wm_conn *conn, int *more) {
  enum { MOST = 5 };
  sqlite3_str *list = sqlite3_str_new(NULL);
  int n = 0;
  for (const wm_table *table = conn->tables; table != NULL; table = table->next, n++) {
    bool plain = wm_catalog_is_default(conn, table->schema, table->name);
    if (n < MOST)
      sqlite3_str_appendf(list, "%s%s%s%s", n == 0 ? "" : ", ", plain ? "" : table->schema, plain ? "" : ".",
                          table->name);
  }
  *more = n > MOST ? n - MOST : 0;
  return sqlite3_str_finish(list);
}

static int find_only(wm_conn *conn, wm_table **out, char **err) {
  int rc = wm_catalog_refresh(conn, err);
  if (rc != SQLITE_OK)
    return rc;
  if (conn->tables == NULL)
    return wm_error_refuse(err,
                           sqlite3_mprintf(WM_MODULE ": this connection has no walmap table yet; name one, '" WM_MODULE
                                                     "' is the default map"));
  if (conn->tables->next == NULL) {
    *out = conn->tables;
    return SQLITE_OK;
  }
  int more;
  char *list = list_tables(conn, &more);
  if (list == NULL)
    return SQLITE_NOMEM;
  const char *format = more == 0 ? WM_MODULE ": this connection has several walmap tables, so name one: %s"
                                 : WM_MODULE ": this connection has several walmap tables, so name one: %s and %d more";
  rc = wm_error_refuse(err, sqlite3_mprintf(format, list, more));
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
    return wm_error_refuse(
        err, sqlite3_mprintf("the first argument is not the name of a walmap table: it has a NUL inside"));
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
