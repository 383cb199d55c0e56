/*
** lookup.c - what functions ask of a connection: tables by name, statements on them, values by key (see conn.h)
*/
#include "lookup.h"

#include "ddl.h"
#include "schema.h"

#include <string.h>

SQLITE_EXTENSION_INIT3

/* ------------------------------------------------------------------------------------------------------------------ */
/* The last answers                                                                                                   */

/* They hold while the connection's tables and its databases stay the same. */

typedef struct wm_resolved {
  char name[128]; /* longer ones are looked up each time */
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

static bool is_valid(const wm_conn *conn, const wm_resolved *last) {
  return last->table != NULL && last->changes == conn->changes && last->databases == databases(conn) &&
         last->version == wm_registry_version();
}

static void keep(const wm_conn *conn, wm_resolved *last, const char *name, wm_table *table) {
  size_t size = strlen(name) + 1;
  if (size > sizeof last->name)
    return;
  memcpy(last->name, name, size);
  last->table = table;
  last->changes = conn->changes;
  last->databases = databases(conn);
  last->version = wm_registry_version();
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Tables by name                                                                                                     */

static int fail(char **err, char *text) {
  *err = text;
  return text == NULL ? SQLITE_NOMEM : SQLITE_ERROR;
}

static bool is_default(const char *schema, const char *name) {
  return sqlite3_stricmp(name, WM_MODULE) == 0 && sqlite3_stricmp(schema, "main") == 0;
}

/* In doubt, as when memory is out, it does. */
static bool exists(const wm_conn *conn, const char *schema, const char *name) {
  return sqlite3_table_column_metadata(conn->db, schema, name, NULL, NULL, NULL, NULL, NULL, NULL) != SQLITE_ERROR;
}

/* Asks SQLite about the table, whereupon it reads the schema if it has changed, and connects the table. */
static int connect(wm_conn *conn, const char *schema, const char *name) {
  char *sql = sqlite3_mprintf("PRAGMA \"%w\".table_info(\"%w\")", schema, name);
  int rc = sql == NULL ? SQLITE_NOMEM : sqlite3_exec(conn->db, sql, NULL, NULL, NULL);
  sqlite3_free(sql);
  return rc;
}

/* What schema.name is: *found tells whether there is such a table, *out is set when it is one of ours. */
static int look(wm_conn *conn, const char *schema, const char *name, bool *found, wm_table **out) {
  if (connect(conn, schema, name) == SQLITE_NOMEM)
    return SQLITE_NOMEM;
  *found = exists(conn, schema, name);
  *out = wm_conn_listed(conn, schema, name);
  if (*out != NULL && ((!*found && !is_default(schema, name)) || !wm_schema_is_current(*out))) {
    wm_table_unlist(*out); /* it was dropped or renamed elsewhere, or its database was detached */
    *out = NULL;
  }
  *found |= *out != NULL;
  return SQLITE_OK;
}

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

/* "kv" or "temp.kv": *schema stays NULL when the name has none. */
static int split(const char *text, char **schema, char **name) {
  *schema = NULL;
  *name = take_part(&text);
  if (*name != NULL && *text == '.') {
    text++;
    *schema = *name;
    *name = take_part(&text);
  }
  return *name == NULL ? SQLITE_NOMEM : SQLITE_OK;
}

static int look_everywhere(wm_conn *conn, const char *name, bool *found, wm_table **out) {
  static const int order[] = {1, 0}; /* temp, main; then attached ones as they come */
  for (int i = 0; sqlite3_db_name(conn->db, i) != NULL; i++) {
    int rc = look(conn, sqlite3_db_name(conn->db, i < 2 ? order[i] : i), name, found, out);
    if (rc != SQLITE_OK || *found)
      return rc;
  }
  return SQLITE_OK;
}

static int find_named(wm_conn *conn, const char *text, wm_table **out, char **err) {
  char *schema, *name;
  bool found = false;
  wm_table *table = NULL;
  int rc = split(text, &schema, &name);
  if (rc == SQLITE_OK)
    rc = schema != NULL ? look(conn, schema, name, &found, &table) : look_everywhere(conn, name, &found, &table);
  sqlite3_free(schema);
  sqlite3_free(name);
  if (rc != SQLITE_OK)
    return rc;
  if (table == NULL)
    return fail(
        err, sqlite3_mprintf(found ? WM_MODULE ": %s is not a walmap table" : WM_MODULE ": no such table: %s", text));
  *out = table;
  return SQLITE_OK;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* The only table                                                                                                     */

static int look_at_row(void *context, int columns, char **values, char **names) {
  (void)columns, (void)names;
  wm_conn *conn = context;
  bool found;
  wm_table *table;
  if (values[0] == NULL || values[1] == NULL || values[2] == NULL || strcmp(values[2], "virtual") != 0)
    return 0;
  return look(conn, values[0], values[1], &found, &table) != SQLITE_OK;
}

/* Connects all tables that the connection's databases have, and forgets those that they no longer have. */
static int look_at_all(wm_conn *conn) {
  int rc = sqlite3_exec(conn->db, "PRAGMA table_list", look_at_row, conn, NULL);
  if (rc == SQLITE_NOMEM || rc == SQLITE_ABORT)
    return SQLITE_NOMEM;
  for (wm_table *table = conn->tables, *next; table != NULL; table = next) {
    next = table->next;
    if (!is_default(table->schema, table->name) && !exists(conn, table->schema, table->name))
      wm_table_unlist(table);
  }
  return SQLITE_OK;
}

static char *list_tables(const wm_conn *conn) {
  char *list = NULL;
  for (const wm_table *table = conn->tables; table != NULL; table = table->next) {
    char *longer = sqlite3_mprintf("%s%s%s%s%s", list == NULL ? "" : list, list == NULL ? "" : ", ",
                                   is_default(table->schema, table->name) ? "" : table->schema,
                                   is_default(table->schema, table->name) ? "" : ".", table->name);
    sqlite3_free(list);
    if (longer == NULL)
      return NULL;
    list = longer;
  }
  return list;
}

static int find_only(wm_conn *conn, wm_table **out, char **err) {
  int rc = look_at_all(conn);
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

int wm_conn_table(wm_conn *conn, const char *name, wm_table **out, char **err) {
  wm_resolved *last = &conn->resolved[name == NULL];
  if ((name == NULL || strcmp(name, last->name) == 0) && is_valid(conn, last)) {
    *out = last->table;
    return SQLITE_OK;
  }
  *err = NULL;
  int rc = name == NULL ? find_only(conn, out, err) : find_named(conn, name, out, err);
  if (rc == SQLITE_OK)
    keep(conn, last, name == NULL ? "" : name, *out);
  return rc;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Statements                                                                                                         */

static int prepare(const wm_table *table, wm_statement which, sqlite3_stmt **out) {
  static const char *const texts[WM_STATEMENTS] = {
      [WM_STATEMENT_CALL] = "INSERT OR IGNORE INTO \"%w\".\"%w\" VALUES(NULL, NULL)",
  };
  char *sql = sqlite3_mprintf(texts[which], table->schema, table->name);
  if (sql == NULL)
    return SQLITE_NOMEM;
  int rc = sqlite3_prepare_v3(table->conn->db, sql, -1, SQLITE_PREPARE_PERSISTENT, out, NULL);
  sqlite3_free(sql);
  return rc;
}

int wm_conn_statement(wm_table *table, wm_statement which, sqlite3_stmt **out, bool *temporary) {
  sqlite3_stmt *kept = table->statements[which];
  *temporary = kept != NULL && sqlite3_stmt_busy(kept);
  if (*temporary)
    return prepare(table, which, out);
  if (kept == NULL) {
    int rc = wm_ddl_watch_close(table->conn);
    if (rc == SQLITE_OK)
      rc = prepare(table, which, &kept);
    if (rc != SQLITE_OK)
      return rc;
    table->statements[which] = kept;
  }
  *out = kept;
  return SQLITE_OK;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Reading                                                                                                            */

/*
** What a statement's functions read: one per statement and map, kept by SQLite until the statement ends. SQLite keeps
** auxiliary data with a negative number per statement, not per function call. Documentation reserves that; SQLite's own
** JSON functions have done so since 2015.
*/
#define READERS (-1807416930)

typedef struct wm_reader {
  wm_conn *conn;
  wm_use *use; /* NULL: unused */
  wm_state *state;
  unsigned generation;
  struct wm_reader *next; /* of the same statement, or in the pool */
} wm_reader;

static void drop_readers(void *first) {
  for (wm_reader *r = first, *next; r != NULL; r = next) {
    next = r->next;
    r->next = r->conn->readers;
    r->conn->readers = r;
    r->use = NULL;
    wm_state_release(r->state);
    r->state = NULL;
  }
}

static wm_reader *new_reader(wm_conn *conn) {
  wm_reader *r = conn->readers;
  if (r != NULL) {
    conn->readers = r->next;
  } else if ((r = sqlite3_malloc(sizeof *r)) != NULL) {
    r->conn = conn;
    r->use = NULL;
    r->state = NULL;
  }
  return r;
}

/* (Re)starts reading. On failure the reader is left unused. */
static int refresh(wm_reader *r, wm_use *use) {
  wm_state_release(r->state);
  r->use = NULL;
  r->state = NULL;
  int rc = wm_state_acquire(use, &r->state);
  if (rc == WALMAP_OK) {
    r->use = use;
    r->generation = use->generation;
  }
  return rc;
}

static int reader_of(sqlite3_context *context, wm_use *use, wm_reader **out) {
  wm_reader *first = sqlite3_get_auxdata(context, READERS);
  for (wm_reader *r = first; r != NULL; r = r->next) {
    if (r->use == use) {
      *out = r;
      return r->generation == use->generation ? WALMAP_OK : refresh(r, use);
    }
  }
  wm_reader *r = new_reader(use->conn);
  if (r == NULL)
    return WALMAP_NOMEM;
  r->next = NULL;
  int rc = refresh(r, use);
  if (rc != WALMAP_OK) {
    drop_readers(r);
    return rc;
  }
  if (first != NULL) {
    r->next = first->next;
    first->next = r;
  } else {
    sqlite3_set_auxdata(context, READERS, r, drop_readers);
    if (sqlite3_get_auxdata(context, READERS) != r)
      return WALMAP_NOMEM; /* SQLite dropped it at once */
  }
  *out = r;
  return WALMAP_OK;
}

int wm_use_get(sqlite3_context *context, wm_use *use, const void *key, size_t key_len, walmap_entry *entry,
               wm_state **pin) {
  wm_reader *r;
  int rc = reader_of(context, use, &r);
  if (rc != WALMAP_OK)
    return rc;
  rc = wm_use_is_begun(use) ? walmap_txn_get(use->txn, key, key_len, entry)
                            : walmap_state_get(r->state->state, key, key_len, entry);
  if (rc == WALMAP_OK)
    *pin = r->state;
  return rc;
}

int wm_use_state(wm_use *use, wm_state **out) {
  return wm_use_is_begun(use) ? wm_state_acquire_own(use, out) : wm_state_acquire(use, out);
}

/* ------------------------------------------------------------------------------------------------------------------ */

int wm_lookup_new(wm_conn *conn) {
  conn->resolved = sqlite3_malloc(2 * sizeof *conn->resolved);
  if (conn->resolved == NULL)
    return SQLITE_NOMEM;
  memset(conn->resolved, 0, 2 * sizeof *conn->resolved);
  return SQLITE_OK;
}

void wm_lookup_free(wm_conn *conn) {
  sqlite3_free(conn->resolved);
  while (conn->readers != NULL) {
    wm_reader *r = conn->readers;
    conn->readers = r->next;
    sqlite3_free(r);
  }
}
