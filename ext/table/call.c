/*
** call.c - work inside a transaction that SQLite began: see call.h
**
** The statement is prepared by sqlite3_prepare, not by its later versions: SQLite would prepare theirs anew when the
** schema has changed, and insert a row into whatever table has the name now. This statement fails with SQLITE_SCHEMA
** instead, and the name is looked up again.
**
** While the statement runs, only the call has it. After it the table keeps it for the next call, if the connection's
** tables have not changed meanwhile. A kept statement may be finalized at any time; a running one must not.
*/
#include "table/call.h"

#include "conn/error.h"
#include "durable/durable.h"
#include "schema/control.h"
#include "schema/resolve.h"

SQLITE_EXTENSION_INIT3

#define NOT_RUN (-2)
#define TRIES                                                                                                          \
  10 /* other connections may change the schema again and again; SQLite tries its statements about as often */

typedef struct wm_call {
  wm_call_fn work;
  void *ctx;
  int rc; /* of the work, or NOT_RUN */
  char *err;
} wm_call;

bool wm_call_take(wm_table *table, sqlite3_int64 *rowid, int *rc) {
  wm_call *call = table->call;
  if (call == NULL)
    return false;
  table->call = NULL; /* first, because the work may write to the table */
  table->calls++;
  call->rc = call->work(call->ctx, table, &call->err);
  table->calls--;
  *rowid = sqlite3_last_insert_rowid(table->conn->db); /* the statement inserts no row for the user */
  /* Under OR IGNORE a constraint is no error, and changes() does not count it. */
  *rc = call->rc == WM_CALL_UNCHANGED ? SQLITE_CONSTRAINT : call->rc;
  return true;
}

int wm_call_failed(wm_table *table, int result, char **err) {
  *err = wm_error_text(result, table->name, table->attachment);
  return wm_error_code(result);
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* The statement                                                                                                      */

static int prepare_insert(const wm_table *table, sqlite3_stmt **out) {
  char *sql = sqlite3_mprintf("INSERT OR IGNORE INTO \"%w\".\"%w\" VALUES(NULL, NULL)", table->schema, table->name);
  if (sql == NULL)
    return SQLITE_NOMEM;
  int rc = sqlite3_prepare(table->conn->db, sql, -1, out, NULL);
  sqlite3_free(sql);
  return rc;
}

/* Takes the kept statement, or prepares one on the table that has the name now, to which it sets *table. */
static int take_statement(wm_table **table, sqlite3_stmt **out, char **err) {
  *out = (*table)->statement;
  (*table)->statement = NULL;
  if (*out != NULL)
    return SQLITE_OK;
  int rc = wm_resolve_present(table, err);
  return rc == SQLITE_OK ? prepare_insert(*table, out) : rc;
}

static void keep_statement(wm_table *table, sqlite3_stmt *statement, unsigned changes) {
  bool same = changes == table->conn->changes && table->statement == NULL;
  if (same && wm_control_watch_close(table->conn) == SQLITE_OK) {
    table->statement = statement;
  } else {
    sqlite3_finalize(statement);
  }
}

/* An SQLite code, with *err. */
static int run_statement(wm_table *table, wm_call *call, char **err) {
  sqlite3_stmt *statement;
  sqlite3 *db = table->conn->db;
  int rc = take_statement(&table, &statement, err);
  if (rc != SQLITE_OK) {
    if (*err == NULL)
      *err = sqlite3_mprintf("%s", sqlite3_errmsg(db));
    return rc;
  }
  unsigned changes = table->conn->changes;
  wm_table_retain(table);
  wm_durable_end_holds(table->conn);
  table->call = call;
  sqlite3_step(statement);
  table->call = NULL; /* still set when the statement failed before xUpdate */
  rc = sqlite3_reset(statement);
  if (rc != SQLITE_OK)
    *err = sqlite3_mprintf("%s", sqlite3_errmsg(db));
  if (call->rc == NOT_RUN) /* the statement is outdated, or an authorizer that may be removed has it ignored */
    sqlite3_finalize(statement);
  else
    keep_statement(table, statement, changes);
  wm_table_release(table);
  return rc;
}

int wm_call_write(wm_table *table, wm_call_fn work, void *ctx, char **err) {
  wm_call call = {work, ctx, NOT_RUN, NULL};
  int rc, tries = 0;
  wm_table_retain(table); /* each try looks up its name */
  *err = NULL;
  while ((rc = run_statement(table, &call, err)) == SQLITE_SCHEMA && call.rc == NOT_RUN && ++tries < TRIES) {
    sqlite3_free(*err);
    *err = NULL;
  }
  wm_table_release(table);
  if (call.rc == NOT_RUN && rc == SQLITE_OK) { /* the authorizer had the INSERT ignored */
    rc = SQLITE_AUTH;
    *err = sqlite3_mprintf("not authorized");
  } else if (call.rc != NOT_RUN && call.rc != SQLITE_OK && call.rc != WM_CALL_UNCHANGED) {
    sqlite3_free(*err);
    rc = call.rc; /* SQLite may have taken it for a constraint to ignore */
    *err = call.err;
  }
  return rc;
}
