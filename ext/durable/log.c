/*
** log.c - the shadow table of a durable table: see log.h
**
** Statements are prepared when they are first needed, and kept: a read of the table runs one. They have the flag
** NO_VTAB, so that a schema that a stranger made cannot put a virtual table, and its code, in the shadow table's
** place; and they say NOT INDEXED, since an index in a stranger's file may have other rows than the table. They are
** reset at once, for a statement that is on its way keeps a VACUUM or a COMMIT from working; but for HOLD, which is on
** its way as long as the table has holds.
*/
#include "durable/log.h"

#include "durable/shadow.h"

#include <string.h>

SQLITE_EXTENSION_INIT3

enum { TOP, HOLD, EACH, CHAIN, INSERT, REMOVE_BEFORE, REMOVE_AFTER, STATEMENTS };

static const char *const sql_of[STATEMENTS] = {
    [TOP] = "SELECT seq, chain FROM \"%w\".\"%w_log\" NOT INDEXED ORDER BY seq DESC LIMIT 1",
    [HOLD] = "SELECT 1 FROM \"%w\".\"%w_log\" NOT INDEXED LIMIT 1",
    [EACH] = "SELECT seq, chain, block FROM \"%w\".\"%w_log\" NOT INDEXED WHERE seq >= ?1 ORDER BY seq",
    [CHAIN] = "SELECT seq, chain FROM \"%w\".\"%w_log\" NOT INDEXED WHERE seq = ?1",
    [INSERT] = "INSERT INTO \"%w\".\"%w_log\"(seq, chain, block) VALUES(?1, ?2, ?3)",
    [REMOVE_BEFORE] = "DELETE FROM \"%w\".\"%w_log\" NOT INDEXED WHERE seq < ?1",
    [REMOVE_AFTER] = "DELETE FROM \"%w\".\"%w_log\" NOT INDEXED WHERE seq > ?1",
};

struct wm_log {
  sqlite3_stmt *statements[STATEMENTS];
  int running;  /* statements; one that SQLite prepares anew may disconnect the table, but must stay */
  bool expired; /* so they are finalized when it has run */
  wm_log_hold *holds;
  bool known; /* what the last row is, as long as SQLite's data version of the file is this one */
  unsigned data_version;
  wm_version top;
};

/* ------------------------------------------------------------------------------------------------------------------ */
/* Errors                                                                                                             */

int wm_log_fail(wm_table *table, int rc, char *text) {
  wm_attachment *attachment = table->attachment;
  sqlite3_free(attachment->failure);
  attachment->failure = text;
  return rc;
}

int wm_log_damaged(wm_table *table, uint64_t seq, const char *wrong) {
  return wm_log_fail(table, SQLITE_CORRUPT_VTAB,
                     sqlite3_mprintf(WM_MODULE ": %s: its shadow table %s_log is damaged: row %lld: %s", table->name,
                                     table->name, (sqlite3_int64)seq, wrong));
}

int wm_log_fail_as_sqlite(wm_table *table, int rc) {
  const char *text = sqlite3_errmsg(table->conn->db);
  if (rc != SQLITE_ERROR)
    return wm_log_fail(table, rc, sqlite3_mprintf("%s", text));
  return wm_log_fail(table, SQLITE_CORRUPT_VTAB,
                     sqlite3_mprintf(WM_MODULE ": %s: its shadow table %s_log: %s", table->name, table->name, text));
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Statements                                                                                                         */

static int obtain_log(wm_table *table, struct wm_log **out) {
  if (table->log == NULL) {
    int rc = wm_shadow_check(table);
    if (rc != SQLITE_OK)
      return rc;
    if ((table->log = sqlite3_malloc(sizeof *table->log)) == NULL)
      return wm_log_fail(table, SQLITE_NOMEM, NULL);
    memset(table->log, 0, sizeof *table->log);
  }
  *out = table->log;
  return SQLITE_OK;
}

/* The statement, ready to be bound and run; `reset` must follow. */
static int prepared_statement(wm_table *table, int which, sqlite3_stmt **out) {
  struct wm_log *log = NULL;
  int rc = obtain_log(table, &log);
  if (rc != SQLITE_OK)
    return rc;
  if (log->statements[which] == NULL) {
    char *sql = sqlite3_mprintf(sql_of[which], table->schema, table->name);
    if (sql == NULL)
      return wm_log_fail(table, SQLITE_NOMEM, NULL);
    rc = sqlite3_prepare_v3(table->conn->db, sql, -1, SQLITE_PREPARE_PERSISTENT | SQLITE_PREPARE_NO_VTAB,
                            &log->statements[which], NULL);
    sqlite3_free(sql);
    if (rc != SQLITE_OK)
      return wm_log_fail_as_sqlite(table, rc);
  }
  log->running++;
  *out = log->statements[which];
  return SQLITE_OK;
}

void wm_log_forget(wm_table *table) {
  struct wm_log *log = table->log;
  if (log == NULL)
    return;
  log->expired = log->running > 0;
  if (log->expired)
    return;
  table->log = NULL; /* first, for finalizing may disconnect the table */
  for (int i = 0; i < STATEMENTS; i++)
    sqlite3_finalize(log->statements[i]);
  sqlite3_free(log);
}

/*
** Whether an authorizer has SQLite ignore the statement: a SELECT has no columns then, and an INSERT writes nothing. (A
** DELETE is never ignored.) It shows after the statement has run, for SQLite prepares it anew when there is another
** authorizer.
*/
static bool is_ignored(sqlite3_stmt *statement) {
  return sqlite3_column_count(statement) == 0 && sqlite3_stmt_readonly(statement);
}

/* After the last step, whose result is rc: SQLITE_OK where that was DONE or ROW. */
static int reset(wm_table *table, sqlite3_stmt *statement, int rc) {
  bool ignored = rc == SQLITE_DONE && is_ignored(statement), fine = rc == SQLITE_DONE || rc == SQLITE_ROW;
  rc = sqlite3_reset(statement);
  rc = fine || rc == SQLITE_OK ? SQLITE_OK : wm_log_fail_as_sqlite(table, rc);
  if (ignored)
    rc = wm_log_fail(
        table, SQLITE_AUTH,
        sqlite3_mprintf(WM_MODULE ": %s: not authorized to use its shadow table %s_log", table->name, table->name));
  table->log->running--;
  if (table->log->expired)
    wm_log_forget(table);
  return rc;
}

/* Runs one that writes. The rowid of the user's last INSERT stays what it was. */
static int run(wm_table *table, sqlite3_stmt *statement) {
  sqlite3 *db = table->conn->db;
  sqlite3_int64 rowid = sqlite3_last_insert_rowid(db);
  int rc = reset(table, statement, sqlite3_step(statement));
  sqlite3_clear_bindings(statement);
  sqlite3_set_last_insert_rowid(db, rowid);
  return rc;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Reading                                                                                                            */

/*
** SQLite's data version of the file changes with every commit that a read transaction sees for the first time, so it
** tells that the last row is the one that was found before. It says nothing outside of a read transaction, nor of what
** a transaction has written itself.
*/
static bool is_known(const wm_table *table, unsigned *data_version) {
  const struct wm_log *log = table->log;
  sqlite3 *db = table->conn->db;
  return sqlite3_txn_state(db, table->schema) == SQLITE_TXN_READ &&
         sqlite3_file_control(db, table->schema, SQLITE_FCNTL_DATA_VERSION, data_version) == SQLITE_OK && log != NULL &&
         log->known && log->data_version == *data_version;
}

static int fail_empty(wm_table *table) { return wm_log_damaged(table, 1, "there are no rows"); }

static int read_top(wm_table *table, sqlite3_stmt *statement, wm_version *version) {
  int rc = sqlite3_step(statement);
  bool found = rc == SQLITE_ROW, sound = false;
  if (found) {
    *version = (wm_version){.seq = (uint64_t)sqlite3_column_int64(statement, 0),
                            .chain = (uint64_t)sqlite3_column_int64(statement, 1)};
    sound = sqlite3_column_type(statement, 1) == SQLITE_INTEGER && (sqlite3_int64)version->seq > 0;
  }
  rc = reset(table, statement, rc);
  if (rc != SQLITE_OK || sound)
    return rc;
  return found ? wm_log_damaged(table, version->seq, "a number is not what it should be") : fail_empty(table);
}

/* A statement that is on its way keeps the read transaction that it has begun or found. */
static int step_hold(wm_table *table) {
  sqlite3_stmt *statement;
  int rc = prepared_statement(table, HOLD, &statement);
  if (rc != SQLITE_OK || (rc = sqlite3_step(statement)) == SQLITE_ROW)
    return rc == SQLITE_ROW ? SQLITE_OK : rc;
  rc = reset(table, statement, rc);
  return rc == SQLITE_OK ? fail_empty(table) : rc;
}

int wm_log_begin_hold(wm_table *table, wm_log_hold *hold) {
  hold->table = NULL;
  if (table->log == NULL || table->log->holds == NULL) {
    int rc = step_hold(table);
    if (rc != SQLITE_OK)
      return rc;
  }
  wm_table_retain(table);
  *hold = (wm_log_hold){table, table->log->holds};
  table->log->holds = hold;
  return SQLITE_OK;
}

void wm_log_end_hold(wm_log_hold *hold) {
  wm_table *table = hold->table;
  if (table == NULL)
    return;
  struct wm_log *log = table->log; /* not freed, for HOLD is running */
  wm_log_hold **at = &log->holds;
  while (*at != hold)
    at = &(*at)->next;
  *at = hold->next;
  hold->table = NULL;
  if (log->holds == NULL)
    (void)reset(table, log->statements[HOLD], SQLITE_ROW);
  wm_table_release(table);
}

void wm_log_end_holds(wm_table *table) {
  while (table->log != NULL && table->log->holds != NULL)
    wm_log_end_hold(table->log->holds);
}

int wm_log_top(wm_table *table, wm_version *version) {
  unsigned data_version = 0;
  sqlite3_stmt *statement;
  if (is_known(table, &data_version)) {
    *version = table->log->top;
    return SQLITE_OK;
  }
  bool may_be_kept = sqlite3_txn_state(table->conn->db, table->schema) == SQLITE_TXN_READ;
  int rc = prepared_statement(table, TOP, &statement);
  if (rc == SQLITE_OK)
    rc = read_top(table, statement, version);
  struct wm_log *log = table->log;
  if (rc == SQLITE_OK && log != NULL) {
    log->known = may_be_kept;
    log->data_version = data_version;
    log->top = *version;
  }
  return rc;
}

static int read_row(wm_table *table, sqlite3_stmt *statement, wm_log_row *row) {
  row->seq = (uint64_t)sqlite3_column_int64(statement, 0);
  if (sqlite3_column_type(statement, 1) != SQLITE_INTEGER || sqlite3_column_type(statement, 2) != SQLITE_BLOB)
    return wm_log_damaged(table, row->seq, "a column has another type than it should have");
  row->chain = (uint64_t)sqlite3_column_int64(statement, 1);
  row->block = sqlite3_column_blob(statement, 2);
  row->size = (size_t)sqlite3_column_bytes(statement, 2);
  return row->block == NULL && row->size > 0 ? wm_log_fail(table, SQLITE_NOMEM, NULL) : SQLITE_OK;
}

int wm_log_each(wm_table *table, uint64_t seq, wm_log_row_fn each, void *ctx) {
  sqlite3_stmt *statement;
  int step, rc = prepared_statement(table, EACH, &statement);
  if (rc != SQLITE_OK)
    return rc;
  sqlite3_bind_int64(statement, 1, (sqlite3_int64)seq);
  while ((step = sqlite3_step(statement)) == SQLITE_ROW && rc == SQLITE_OK) {
    wm_log_row row;
    rc = read_row(table, statement, &row);
    if (rc == SQLITE_OK)
      rc = each(ctx, &row);
  }
  int finished = reset(table, statement, step);
  return rc == SQLITE_OK ? finished : rc;
}

int wm_log_chain(wm_table *table, uint64_t seq, uint64_t *chain) {
  sqlite3_stmt *statement;
  int rc = prepared_statement(table, CHAIN, &statement);
  if (rc != SQLITE_OK)
    return rc;
  sqlite3_bind_int64(statement, 1, (sqlite3_int64)seq);
  int step = sqlite3_step(statement);
  bool found = step == SQLITE_ROW;
  if (found)
    *chain = (uint64_t)sqlite3_column_int64(statement, 1);
  rc = reset(table, statement, step);
  return rc == SQLITE_OK && !found ? SQLITE_NOTFOUND : rc;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Writing                                                                                                            */

int wm_log_insert(wm_table *table, const wm_log_row *row) {
  sqlite3_stmt *statement;
  int rc = prepared_statement(table, INSERT, &statement);
  if (rc != SQLITE_OK)
    return rc;
  sqlite3_bind_int64(statement, 1, (sqlite3_int64)row->seq);
  sqlite3_bind_int64(statement, 2, (sqlite3_int64)row->chain);
  rc = sqlite3_bind_blob64(statement, 3, row->block, row->size, SQLITE_STATIC);
  if (rc == SQLITE_OK)
    return run(table, statement);
  (void)reset(table, statement, SQLITE_DONE);
  return wm_log_fail_as_sqlite(table, rc);
}

static int remove_log_rows(wm_table *table, int which, uint64_t seq) {
  sqlite3_stmt *statement;
  int rc = prepared_statement(table, which, &statement);
  if (rc != SQLITE_OK)
    return rc;
  sqlite3_bind_int64(statement, 1, (sqlite3_int64)seq);
  return run(table, statement);
}

int wm_log_remove_before(wm_table *table, uint64_t seq) { return remove_log_rows(table, REMOVE_BEFORE, seq); }
int wm_log_remove_after(wm_table *table, uint64_t seq) { return remove_log_rows(table, REMOVE_AFTER, seq); }
