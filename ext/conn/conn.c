/*
** conn.c - connections, their attachments to maps and their tables: see conn.h
**
** A process-wide list leads from a connection's handle to its wm_conn, because a second load of the extension must find
** the wm_conn of the first (SQLite below 3.44 has no client data). The last reference frees the wm_conn. sqlite3_close
** releases the references of modules and functions, after all statements and tables are gone. sqlite3_drop_modules
** before 3.45 releases a module before its tables, so tables hold references too.
*/
#include "conn/conn.h"

#include "conn/error.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

SQLITE_EXTENSION_INIT3

static pthread_mutex_t conns_mutex = PTHREAD_MUTEX_INITIALIZER;
static wm_conn *all;

/* ------------------------------------------------------------------------------------------------------------------ */
/* Connections                                                                                                        */

/*
** SQLite ends a statement within the running one for both reasons: sqlite3_interrupt, of which it does not tell
** otherwise before version 3.41, and a progress handler. It calls that one whenever statements have run so many
** opcodes, and counts them for each statement by itself, over all its runs. So one statement of some 400 opcodes is
** kept and run each time: then a handler that wants to be asked every 1000 or 10000 is asked as if the work had been
** SQLite's own.
*/
bool wm_conn_is_interrupted(void *data) {
  static const char sql[] =
      "WITH c(i) AS (VALUES(1) UNION ALL SELECT i + 1 FROM c WHERE i < 25) SELECT count(*) FROM c";
  wm_conn *conn = data;
#if SQLITE_VERSION_NUMBER >= 3041000
  if (sqlite3_libversion_number() >= 3041000 && sqlite3_is_interrupted(conn->db))
    return true;
#endif
  if (conn->question == NULL && conn->hooks->watch_close(conn) == SQLITE_OK)
    (void)sqlite3_prepare_v3(conn->db, sql, -1, SQLITE_PREPARE_PERSISTENT, &conn->question, NULL);
  if (conn->question == NULL)
    return sqlite3_exec(conn->db, sql, NULL, NULL, NULL) == SQLITE_INTERRUPT;
  (void)sqlite3_step(conn->question);
  return sqlite3_reset(conn->question) == SQLITE_INTERRUPT; /* what the step has met */
}

static int take_number(void *number, int columns, char **values, char **names) {
  (void)columns, (void)names;
  if (values != NULL && values[0] != NULL)
    *(uint32_t *)number = (uint32_t)strtoul(values[0], NULL, 10);
  return 0;
}

/* A busy handler that is a function (sqlite3_busy_handler) counts as 0: it cannot be called from here. */
uint32_t wm_conn_busy_timeout(void *conn) {
  uint32_t ms = 0;
  (void)sqlite3_exec(((wm_conn *)conn)->db, "PRAGMA busy_timeout", take_number, &ms, NULL);
  return ms > 0 ? ms : WALMAP_DEFAULT_BUSY_TIMEOUT;
}

/* By what others are told that the connection keeps them waiting: its number in the process, and its database. */
static void set_label(wm_conn *conn) {
  enum { LONGEST = 90 };       /* of the path, whose end tells more */
  static unsigned last_number; /* guarded by `mutex` */
  char label[WALMAP_LABEL_BYTES];
  const char *file = sqlite3_db_filename(conn->db, "main");
  size_t size = file != NULL ? strlen(file) : 0;
  const char *end = size > LONGEST ? file + size - LONGEST : file;
  while (size > LONGEST && ((unsigned char)*end & 0xc0) == 0x80)
    end++; /* not within a character */
  sqlite3_snprintf(sizeof label, label, "connection %u, main database %s%s", ++last_number, size > LONGEST ? "..." : "",
                   size > 0 ? end : ":memory:");
  walmap_session_set_label(conn->session, label);
}

static wm_conn *find_known(sqlite3 *db) {
  wm_conn *conn = all;
  while (conn != NULL && conn->db != db)
    conn = conn->next;
  return conn;
}

static void free_conn(wm_conn *conn) {
  conn->hooks->tear_down(conn);
  walmap_session_free(conn->session);
  sqlite3_free(conn);
}

static int new_conn(sqlite3 *db, const wm_conn_hooks *hooks, wm_conn **out) {
  wm_conn *conn = sqlite3_malloc(sizeof *conn);
  if (conn == NULL)
    return SQLITE_NOMEM;
  memset(conn, 0, sizeof *conn);
  conn->db = db;
  conn->hooks = hooks;
  conn->references = 1;
  int rc = wm_error_code(walmap_session_new(wm_conn_is_interrupted, conn, &conn->session));
  if (rc == SQLITE_OK) {
    walmap_session_set_timeout(conn->session, wm_conn_busy_timeout);
    set_label(conn);
    rc = hooks->set_up(conn);
  }
  if (rc != SQLITE_OK) {
    free_conn(conn);
    return rc;
  }
  *out = conn;
  return SQLITE_OK;
}

int wm_conn_find(sqlite3 *db, const wm_conn_hooks *hooks, wm_conn **out) {
  int rc = SQLITE_OK;
  pthread_mutex_lock(&conns_mutex);
  wm_conn *conn = find_known(db);
  if (conn != NULL) {
    conn->references++;
  } else if ((rc = new_conn(db, hooks, &conn)) == SQLITE_OK) {
    conn->next = all;
    all = conn;
  }
  pthread_mutex_unlock(&conns_mutex);
  if (rc == SQLITE_OK)
    *out = conn;
  return rc;
}

void wm_conn_retain(wm_conn *conn) { conn->references++; }

void wm_conn_release(void *data) {
  wm_conn *conn = data;
  if (--conn->references > 0)
    return;
  pthread_mutex_lock(&conns_mutex);
  wm_conn **at = &all;
  while (*at != conn)
    at = &(*at)->next;
  *at = conn->next;
  pthread_mutex_unlock(&conns_mutex);
  free_conn(conn);
}

static int read_encoding(void *is_utf16, int columns, char **values, char **names) {
  (void)columns, (void)names;
  if (values != NULL && values[0] != NULL)
    *(bool *)is_utf16 = strcmp(values[0], "UTF-8") != 0;
  return 0;
}

/* The encoding of a value does not tell: it changes when the value is read in another encoding. */
bool wm_conn_is_utf16(const wm_conn *conn) {
  bool is_utf16 = true; /* in doubt: then more is read than needed, and no row is missed */
  sqlite3_exec(conn->db, "PRAGMA encoding", read_encoding, &is_utf16, NULL);
  return is_utf16;
}

const char *wm_conn_schema_name(const wm_conn *conn, const char *schema) {
  return sqlite3_stricmp(schema, sqlite3_db_name(conn->db, 0)) == 0 ? "main" : schema;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Attachments                                                                                                        */

int wm_conn_attach(wm_conn *conn, wm_map *map, wm_attachment **out) {
  bool is_new = atomic_load(&map->attachments) == 0; /* then no connection has it, so the list need not be searched */
  for (wm_attachment *attachment = is_new ? NULL : conn->attachments; attachment != NULL;
       attachment = attachment->next) {
    if (attachment->map == map) {
      attachment->references++;
      *out = attachment;
      return WALMAP_OK;
    }
  }
  wm_attachment *attachment = sqlite3_malloc(sizeof *attachment);
  if (attachment == NULL)
    return WALMAP_NOMEM;
  memset(attachment, 0, sizeof *attachment);
  int result = walmap_txn_new(map->map, conn->session, &attachment->txn);
  if (result != WALMAP_OK) {
    sqlite3_free(attachment);
    return result;
  }
  wm_registry_retain(map);
  atomic_fetch_add(&map->attachments, 1);
  attachment->conn = conn;
  attachment->map = map;
  attachment->references = 1;
  attachment->next = conn->attachments;
  conn->attachments = attachment;
  *out = attachment;
  return WALMAP_OK;
}

void wm_attachment_retain(wm_attachment *attachment) { attachment->references++; }

void wm_attachment_release(wm_attachment *attachment) {
  if (--attachment->references > 0)
    return;
  wm_attachment **at = &attachment->conn->attachments;
  while (*at != attachment)
    at = &(*at)->next;
  *at = attachment->next;
  if (attachment->map->history != NULL)
    attachment->conn->hooks->detach(attachment);
  walmap_txn_free(attachment->txn);
  wm_read_state_free_pool(attachment);
  atomic_fetch_sub(&attachment->map->attachments, 1);
  wm_registry_release(attachment->map);
  sqlite3_free(attachment);
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Tables                                                                                                             */

/*
** Finalizes the statements that are kept for functions of the table. A running statement is not kept: its caller sees
** that the table has changed, and finalizes it (call.c, upsert.c).
*/
static void finalize_kept(wm_table *table) {
  table->conn->hooks->forget_expressions(table);
  sqlite3_stmt *statement = table->statement;
  table->statement = NULL; /* first, because finalizing may disconnect the table */
  sqlite3_finalize(statement);
  table->conn->hooks->forget_expressions(table);
  table->conn->hooks->forget_log(table);
}

wm_table *wm_table_new(wm_attachment *attachment, const char *schema, const char *name) {
  wm_table *table = sqlite3_malloc(sizeof *table);
  if (table == NULL)
    return NULL;
  memset(table, 0, sizeof *table);
  table->conn = attachment->conn;
  table->references = 1;
  table->schema = sqlite3_mprintf("%s", schema);
  table->name = sqlite3_mprintf("%s", name);
  table->attachment = attachment;
  wm_attachment_retain(attachment);
  if (table->schema == NULL || table->name == NULL) {
    wm_table_release(table);
    return NULL;
  }
  return table;
}

void wm_table_retain(wm_table *table) { table->references++; }

void wm_table_release(wm_table *table) {
  if (--table->references > 0)
    return;
  table->conn->hooks->forget_log(table);
  wm_attachment_release(table->attachment);
  sqlite3_free(table->schema);
  sqlite3_free(table->name);
  sqlite3_free(table);
}

static wm_table **table_bucket_of(wm_conn *conn, const char *name) {
  return &conn->buckets[wm_registry_hash(name) % WM_TABLE_BUCKETS];
}

static void put_table_in_bucket(wm_table *table) {
  wm_table **bucket = table_bucket_of(table->conn, table->name);
  table->same_bucket = *bucket;
  *bucket = table;
}

static void take_table_out_of_bucket(wm_table *table) {
  wm_table **at = table_bucket_of(table->conn, table->name);
  while (*at != table)
    at = &(*at)->same_bucket;
  *at = table->same_bucket;
}

wm_table *wm_conn_listed(wm_conn *conn, const char *schema, const char *name) {
  schema = wm_conn_schema_name(conn, schema);
  for (wm_table *table = *table_bucket_of(conn, name); table != NULL; table = table->same_bucket) {
    if (sqlite3_stricmp(table->name, name) == 0 && sqlite3_stricmp(table->schema, schema) == 0)
      return table;
  }
  return NULL;
}

void wm_table_list(wm_table *table) {
  wm_conn *conn = table->conn;
  wm_table_retain(table);
  table->listed = true;
  table->next = conn->tables;
  conn->tables = table;
  put_table_in_bucket(table);
  conn->unnamed += table->attachment->map->kind != WM_NAMED;
  conn->changes++;
}

void wm_table_unlist(wm_table *table) {
  wm_conn *conn = table->conn;
  wm_table **at = &conn->tables;
  while (*at != table)
    at = &(*at)->next;
  *at = table->next;
  take_table_out_of_bucket(table);
  table->listed = false;
  conn->unnamed -= table->attachment->map->kind != WM_NAMED;
  conn->changes++;
  finalize_kept(table);
  wm_table_release(table);
}

void wm_table_rename(wm_table *table, char **name) {
  char *old = table->name;
  if (table->listed)
    take_table_out_of_bucket(table);
  table->name = *name;
  if (table->listed)
    put_table_in_bucket(table);
  *name = old;
  table->conn->changes++;
  finalize_kept(table);
}

void wm_conn_finalize(wm_conn *conn) {
  sqlite3_finalize(conn->question);
  conn->question = NULL;
  conn->hooks->forget_names(conn);
  for (wm_table *table = conn->tables; table != NULL; table = table->next)
    finalize_kept(table);
}
