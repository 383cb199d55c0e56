/*
** shadow.c - the shadow table of a durable table, as a table: see shadow.h
**
** Whether there is a shadow table is asked of the schema, and an authorizer may have SQLite answer NULL to that, or
** nothing (SQLITE_IGNORE). That is an error, SQLITE_AUTH: "none" would be a table without its rows.
*/
#include "durable/shadow.h"

#include "codec/block.h"
#include "durable/log.h"

#include <string.h>

SQLITE_EXTENSION_INIT3

/* ------------------------------------------------------------------------------------------------------------------ */
/* Whether there is one                                                                                               */

static int fail_as_sqlite(const wm_conn *conn, const char *name, int rc, char **err) {
  *err = rc == SQLITE_NOMEM ? NULL : sqlite3_mprintf(WM_MODULE ": %s: %s", name, sqlite3_errmsg(conn->db));
  return rc;
}

/* Prepares the statement, whose text is freed, and steps to its row; *out is NULL where there is none. */
static int find_row(const wm_conn *conn, const char *name, char *sql, sqlite3_stmt **out, char **err) {
  *out = NULL;
  int rc = sql == NULL ? SQLITE_NOMEM : sqlite3_prepare_v3(conn->db, sql, -1, SQLITE_PREPARE_NO_VTAB, out, NULL);
  sqlite3_free(sql);
  if (rc == SQLITE_OK && sqlite3_step(*out) != SQLITE_ROW) {
    rc = sqlite3_finalize(*out);
    *out = NULL;
  }
  return rc == SQLITE_OK ? rc : fail_as_sqlite(conn, name, rc, err);
}

/*
** A view or a virtual table would run what a stranger has written there. These have no root page in the schema. (To
** ask SQLite about the columns of a virtual table that is not connected would be a mistake: some versions read beyond
** them.) The product is NULL where any factor is; the row of the walmap table has none, if all may be read.
*/
static int find_ordinary(const wm_conn *conn, const char *schema, const char *name, bool *found, char **err) {
  sqlite3_stmt *row;
  char *sql = sqlite3_mprintf("SELECT max((type = 'table') * (rootpage > 0) * (name = '%q_log' COLLATE NOCASE)) "
                              "FROM \"%w\".sqlite_schema",
                              name, schema);
  *found = false;
  int rc = find_row(conn, name, sql, &row, err);
  if (rc != SQLITE_OK)
    return rc;
  bool known = row != NULL && sqlite3_column_type(row, 0) != SQLITE_NULL;
  *found = known && sqlite3_column_int(row, 0) != 0;
  sqlite3_finalize(row);
  if (known)
    return SQLITE_OK;
  *err = sqlite3_mprintf(WM_MODULE ": %s: not authorized to look for its shadow table %s_log", name, name);
  return SQLITE_AUTH;
}

/* Whether the columns are those that wm_shadow_create declares. */
static int check_columns(const wm_conn *conn, const char *schema, const char *name, bool *same, char **err) {
  static const struct {
    const char *name, *type;
    int not_null, is_key;
  } columns[] = {{"seq", "INTEGER", 0, 1}, {"chain", "INTEGER", 1, 0}, {"block", "BLOB", 1, 0}};
  char *log = sqlite3_mprintf("%s_log", name);
  int rc = log == NULL ? SQLITE_NOMEM : SQLITE_OK;
  *same = true;
  for (int i = 0; i < 3 && rc == SQLITE_OK && *same; i++) {
    const char *type = NULL;
    int not_null = 0, is_key = 0;
    rc = sqlite3_table_column_metadata(conn->db, schema, log, columns[i].name, &type, NULL, &not_null, &is_key, NULL);
    *same = rc == SQLITE_OK && type != NULL && sqlite3_stricmp(type, columns[i].type) == 0 &&
            not_null == columns[i].not_null && is_key == columns[i].is_key;
  }
  sqlite3_free(log);
  if (rc == SQLITE_OK || rc == SQLITE_ERROR) /* it has no such column */
    return SQLITE_OK;
  return fail_as_sqlite(conn, name, rc, err);
}

/* Whether the last row is one that walmap has written. */
static int check_last_row(const wm_conn *conn, const char *schema, const char *name, bool *sound, char **err) {
  sqlite3_stmt *row;
  wm_block block;
  char *sql = sqlite3_mprintf("SELECT seq, chain, block FROM \"%w\".\"%w_log\" NOT INDEXED ORDER BY seq DESC LIMIT 1",
                              schema, name);
  int rc = find_row(conn, name, sql, &row, err);
  *sound = false;
  if (row == NULL)
    return rc;
  const void *bytes = sqlite3_column_type(row, 2) == SQLITE_BLOB ? sqlite3_column_blob(row, 2) : NULL;
  *sound = bytes != NULL &&
           wm_block_open(&block, (uint64_t)sqlite3_column_int64(row, 0), (uint64_t)sqlite3_column_int64(row, 1), bytes,
                         (size_t)sqlite3_column_bytes(row, 2)) == NULL;
  sqlite3_finalize(row);
  return rc;
}

int wm_shadow_find(const wm_conn *conn, const char *schema, const char *name, bool doubted, bool *found, char **err) {
  *err = NULL;
  int rc = find_ordinary(conn, schema, name, found, err);
  if (rc == SQLITE_OK && *found)
    rc = check_columns(conn, schema, name, found, err);
  if (rc == SQLITE_OK && *found && doubted)
    rc = check_last_row(conn, schema, name, found, err);
  return rc;
}

static int check_seq_is_key(wm_table *table) {
  const char *type = NULL;
  int is_key = 0;
  char *name = sqlite3_mprintf("%s_log", table->name);
  int rc = name == NULL ? SQLITE_NOMEM
                        : sqlite3_table_column_metadata(table->conn->db, table->schema, name, "seq", &type, NULL, NULL,
                                                        &is_key, NULL);
  if (rc == SQLITE_OK && (!is_key || type == NULL || sqlite3_stricmp(type, "INTEGER") != 0))
    rc = wm_log_damaged(table, 0, "its column seq is no INTEGER PRIMARY KEY");
  else if (rc != SQLITE_OK)
    rc = wm_log_fail_as_sqlite(table, rc);
  sqlite3_free(name);
  return rc;
}

int wm_shadow_check(wm_table *table) {
  bool found;
  char *err = NULL;
  int rc = find_ordinary(table->conn, table->schema, table->name, &found, &err);
  if (rc == SQLITE_AUTH)
    return wm_log_fail(table, rc, err);
  sqlite3_free(err);
  if (rc != SQLITE_OK)
    return wm_log_fail_as_sqlite(table, rc);
  if (found)
    return check_seq_is_key(table);
  return wm_log_fail(table, SQLITE_CORRUPT_VTAB,
                     sqlite3_mprintf(WM_MODULE
                                     ": %s: its shadow table %s_log is missing, or is no table; DROP TABLE %s "
                                     "and create it anew",
                                     table->name, table->name, table->name));
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* CREATE, DROP, RENAME                                                                                               */

/* Runs statements, and frees their text. */
static int execute(wm_conn *conn, char *sql, char **err) {
  sqlite3_int64 rowid = sqlite3_last_insert_rowid(conn->db);
  if (sql == NULL)
    return SQLITE_NOMEM;
  int rc = sqlite3_exec(conn->db, sql, NULL, NULL, NULL);
  if (rc != SQLITE_OK && rc != SQLITE_NOMEM)
    *err = sqlite3_mprintf("%s", sqlite3_errmsg(conn->db));
  sqlite3_free(sql);
  sqlite3_set_last_insert_rowid(conn->db, rowid);
  return rc;
}

/* The first row has no changes: a log without rows is a damaged one. */
int wm_shadow_create(wm_conn *conn, const char *schema, const char *name, char **err) {
  const wm_block_head head = {.first = 1, .bytes = wm_block_append(0, 1, WM_BLOCK_HEAD)};
  uint8_t block[WM_BLOCK_HEAD];
  char hex[2 * WM_BLOCK_HEAD + 1];
  wm_block_write_head(block, &head, 0);
  for (int i = 0; i < WM_BLOCK_HEAD; i++)
    sqlite3_snprintf(3, hex + 2 * i, "%02x", block[i]);
  return execute(conn,
                 sqlite3_mprintf("CREATE TABLE \"%w\".\"%w_log\"(seq INTEGER PRIMARY KEY, chain INTEGER NOT NULL, "
                                 "block BLOB NOT NULL);"
                                 "INSERT INTO \"%w\".\"%w_log\" VALUES(1, %lld, x'%s')",
                                 schema, name, schema, name, (sqlite3_int64)wm_block_chain(1, block, sizeof block),
                                 hex),
                 err);
}

int wm_shadow_drop(wm_conn *conn, const char *schema, const char *name, char **err) {
  return execute(conn, sqlite3_mprintf("DROP TABLE IF EXISTS \"%w\".\"%w_log\"", schema, name), err);
}

int wm_shadow_rename(wm_conn *conn, const char *schema, const char *name, const char *to, char **err) {
  return execute(conn, sqlite3_mprintf("ALTER TABLE \"%w\".\"%w_log\" RENAME TO \"%w_log\"", schema, name, to), err);
}
