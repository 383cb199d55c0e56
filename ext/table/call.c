/*
** call.c - work inside a transaction that SQLite began: see call.h
**
** The statement is prepared by sqlite3_prepare, not by its later versions, whose statements SQLite prepares anew by
** itself when the schema has changed: then it would insert a row into whatever has the table's name now. This one fails
** with SQLITE_SCHEMA instead, and the name is looked up again.
**
** While it runs it is nobody's but the call's, which keeps it for the next one, if the connection's tables have not
** changed meanwhile: what is kept may be finalized at any time, and what runs must not.
*/
#include "table/call.h"

#include "conn/error.h"
#include "schema/control.h"
#include "schema/resolve.h"

SQLITE_EXTENSION_INIT3

#define NOT_RUN (-2)
#define TRIES 10 /* as SQLite has for its own statements, nearly: other connections may change the schema on and on */

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
  table->call = NULL; /* first, for the work may write to the table */
  table->calls++;
  call->rc = call->work(call->ctx, table, &call->err);
  table->calls--;
  *rowid = sqlite3_last_insert_rowid(table->conn->db); /* no row of the user's own was inserted */
  /* Under OR IGNORE a constraint is not an error, and not counted by changes() either. */
  *rc = call->rc == WM_CALL_UNCHANGED ? SQLITE_CONSTRAINT : call->rc;
  return true;
}

int wm_call_failed(wm_table *table, int result, char **err) {
  *err = wm_error_text(result, table->name, table->attachment);
  return wm_error_code(result);
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* The statement                                                                                                      */

static int prepare(const wm_table *table, sqlite3_stmt **out) {
  char *sql = sqlite3_mprintf("INSERT OR IGNORE INTO \"%w\".\"%w\" VALUES(NULL, NULL)", table->schema, table->name);
  if (sql == NULL)
    return SQLITE_NOMEM;
  int rc = sqlite3_prepare(table->conn->db, sql, -1, out, NULL);
  sqlite3_free(sql);
  return rc;
}

/* The one that is kept, or a new one: on the table that has the name now, which is *table from then on. */
static int take(wm_table **table, sqlite3_stmt **out, char **err) {
  *out = (*table)->statement;
  (*table)->statement = NULL;
  if (*out != NULL)
    return SQLITE_OK;
  int rc = wm_resolve_present(table, err);
  return rc == SQLITE_OK ? prepare(*table, out) : rc;
}

static void keep(wm_table *table, sqlite3_stmt *statement, unsigned changes) {
  bool same = changes == table->conn->changes && table->statement == NULL;
  if (same && wm_control_watch_close(table->conn) == SQLITE_OK) {
    table->statement = statement;
  } else {
    sqlite3_finalize(statement);
  }
}

/* An SQLite code, with *err. */
static int run(wm_table *table, wm_call *call, char **err) {
  sqlite3_stmt *statement;
  sqlite3 *db = table->conn->db;
  int rc = take(&table, &statement, err);
  if (rc != SQLITE_OK) {
    if (*err == NULL)
      *err = sqlite3_mprintf("%s", sqlite3_errmsg(db));
    return rc;
  }
  unsigned changes = table->conn->changes;
  wm_table_retain(table);
  table->call = call;
  sqlite3_step(statement);
  table->call = NULL; /* it is there still when the statement failed before xUpdate */
  rc = sqlite3_reset(statement);
  if (rc != SQLITE_OK)
    *err = sqlite3_mprintf("%s", sqlite3_errmsg(db));
  if (call->rc == NOT_RUN) /* it is outdated, or an authorizer made nothing of it, who may go */
    sqlite3_finalize(statement);
  else
    keep(table, statement, changes);
  wm_table_release(table);
  return rc;
}

int wm_call_write(wm_table *table, wm_call_fn work, void *ctx, char **err) {
  wm_call call = {work, ctx, NOT_RUN, NULL};
  int rc, tries = 0;
  wm_table_retain(table); /* each try begins with its name */
  *err = NULL;
  while ((rc = run(table, &call, err)) == SQLITE_SCHEMA && call.rc == NOT_RUN && ++tries < TRIES) {
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
