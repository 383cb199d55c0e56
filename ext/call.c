/*
** call.c - work inside a transaction that SQLite began: see call.h
*/
#include "call.h"

#include "error.h"

SQLITE_EXTENSION_INIT3

typedef struct wm_call {
  wm_call_fn work;
  void *ctx;
  int result; /* of the work, SQLITE_OK before it ran */
  char *err;
} wm_call;

bool wm_call_take(wm_table *table, sqlite3_int64 *rowid, int *result) {
  wm_call *call = table->call;
  if (call == NULL)
    return false;
  table->call = NULL; /* first, for the work may write to the table */
  call->result = call->work(call->ctx, table, &call->err);
  *rowid = sqlite3_last_insert_rowid(table->conn->db); /* no row of the user's own was inserted */
  /* Under OR IGNORE a constraint is not an error, and not counted by changes() either. */
  *result = call->result == WM_CALL_UNCHANGED ? SQLITE_CONSTRAINT : call->result;
  return true;
}

int wm_call_failed(wm_table *table, int result, char **err) {
  *err = wm_error_text(result, table->name, table->use);
  return wm_error_code(result);
}

int wm_call_write(wm_table *table, wm_call_fn work, void *ctx, char **err) {
  wm_call call = {work, ctx, SQLITE_OK, NULL};
  sqlite3 *db = table->conn->db;
  sqlite3_stmt *statement;
  bool temporary;
  *err = NULL;
  int rc = wm_conn_statement(table, WM_STATEMENT_CALL, &statement, &temporary);
  if (rc != SQLITE_OK) {
    *err = sqlite3_mprintf("%s", sqlite3_errmsg(db));
    return rc;
  }
  wm_table_retain(table);
  table->call = &call;
  sqlite3_step(statement);
  table->call = NULL; /* it is there still when the statement failed before xUpdate */
  rc = sqlite3_reset(statement);
  if (call.result != SQLITE_OK && call.result != WM_CALL_UNCHANGED) {
    rc = call.result; /* SQLite may have taken it for a constraint to ignore */
    *err = call.err;
  } else if (rc != SQLITE_OK) {
    *err = sqlite3_mprintf("%s", sqlite3_errmsg(db));
  }
  if (temporary)
    sqlite3_finalize(statement);
  wm_table_release(table);
  return rc;
}
