/*
** control.c - the control table: see control.h
**
** SQLite does not tell a virtual table about changes of its schema. After DROP its object gets no more calls, not even
** xRollback; a table made after a savepoint gets no xRollbackTo for that savepoint; a RENAME that is rolled back causes
** no call. So each connection has a table for that, the control table "walmap_control", which never has rows. Before a
** change of the schema, the connection runs a DELETE on the control table that deletes no row: with it the table joins
** the transaction, and from then on it gets every event. It passes each event to ddl.c, which undoes changes of the
** schema, and to the transactions on all maps of the connection, including maps whose tables were dropped.
**
** The control table is eponymous, so it exists without CREATE. But an eponymous table belongs to the main database, and
** the DELETE takes the write lock of main's file. A change in another schema should lock that schema alone. For such
** changes the control table is a table in the temp schema, made when it is first needed. It stays there visibly, since
** only a table of a schema can take part in a transaction. It also serves where main has its own table or view called
** walmap_control.
**
** SQLite calls no xBegin for the object that CREATE makes, nor xSavepoint for levels that are open then. But the DELETE
** that follows opens a level of its own; SQLite announces that level, and from then on all levels.
*/
#include "schema/control.h"

#include "conn/eponymous.h"
#include "conn/error.h"
#include "conn/transaction.h"
#include "durable/durable.h"
#include "schema/creation.h"
#include "schema/ddl.h"
#include "schema/schema.h"

SQLITE_EXTENSION_INIT3

struct wm_control {
  bool joined;   /* a control table is in the transaction */
  bool fresh;    /* it has just joined: the next xSavepoint catches up with savepoints that were open before */
  bool created;  /* a control table was made in the temp schema */
  int levels;    /* savepoint levels that are open, as far as announced */
  int connected; /* sqlite3_vtab objects of the eponymous table */
};

typedef struct control_table {
  sqlite3_vtab base;
  wm_conn *conn;
  bool is_temp;
} control_table;

static wm_conn *conn_of(sqlite3_vtab *vtab) { return ((control_table *)vtab)->conn; }

int wm_control_new(wm_conn *conn) {
  conn->control = sqlite3_malloc(sizeof *conn->control);
  if (conn->control == NULL)
    return SQLITE_NOMEM;
  *conn->control = (struct wm_control){.joined = false};
  return SQLITE_OK;
}

void wm_control_free(wm_conn *conn) {
  sqlite3_free(conn->control);
  conn->control = NULL;
}

bool wm_control_has_joined(const wm_conn *conn) { return conn->control->joined; }

int wm_control_levels(const wm_conn *conn) { return conn->control->joined ? conn->control->levels : 0; }

/* ------------------------------------------------------------------------------------------------------------------ */
/* Joining the transaction                                                                                            */

/* Whether a write to the main database, which the eponymous control table makes, disturbs no other connection. */
static bool is_main_free(sqlite3 *db) {
  const char *file = sqlite3_db_filename(db, "main");
  return sqlite3_txn_state(db, "main") == SQLITE_TXN_WRITE ||
         ((file == NULL || file[0] == 0) && sqlite3_db_readonly(db, "main") == 0);
}

static int join_main(wm_conn *conn) {
  return sqlite3_exec(conn->db, "DELETE FROM main." WM_CONTROL " WHERE 0", NULL, NULL, NULL);
}

static int join_temp(wm_conn *conn) {
  struct wm_control *control = conn->control;
  control->created = false;
  int rc = sqlite3_exec(conn->db, "CREATE VIRTUAL TABLE IF NOT EXISTS temp." WM_CONTROL " USING " WM_CONTROL, NULL,
                        NULL, NULL);
  if (rc != SQLITE_OK)
    return rc;
  if (control->created) {
    control->joined = true;
    control->levels = 0;
  }
  return sqlite3_exec(conn->db, "DELETE FROM temp." WM_CONTROL " WHERE 0", NULL, NULL, NULL);
}

int wm_control_join(wm_conn *conn, const char *schema) {
  struct wm_control *control = conn->control;
  bool is_main = sqlite3_stricmp(schema, "main") == 0;
  int rc = is_main || is_main_free(conn->db) ? join_main(conn) : SQLITE_OK;
  if (!control->joined && (rc == SQLITE_OK || rc == SQLITE_ERROR)) /* main may have a table of that name, or a view */
    rc = join_temp(conn);
  control->fresh = false; /* the savepoint to catch up with, if any, was announced meanwhile */
  return rc == SQLITE_OK && !control->joined ? SQLITE_ERROR : rc;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Events of the transaction                                                                                          */

/* The tables of a map may also report an event themselves, which does no harm (transaction.c). */

static int control_begin(sqlite3_vtab *vtab) {
  struct wm_control *control = conn_of(vtab)->control;
  if (!control->joined)
    control->levels = 0;
  control->joined = control->fresh = true;
  return SQLITE_OK;
}

/* A table that was dropped and came back by ROLLBACK TO may not be told of its own. */
static int control_sync(sqlite3_vtab *vtab) {
  wm_conn *conn = conn_of(vtab);
  for (wm_attachment *attachment = conn->attachments; attachment != NULL; attachment = attachment->next) {
    int result = wm_durable_sync_attachment(attachment);
    if (result == WALMAP_OK)
      result = wm_attachment_evict(attachment);
    if (result != WALMAP_OK) {
      vtab->zErrMsg = wm_error_text(result, WM_CONTROL, attachment);
      return wm_error_code(result);
    }
  }
  return wm_ddl_announce(conn);
}

static void end_transaction(wm_conn *conn) {
  wm_ddl_forget(conn);
  conn->control->levels = 0;
  conn->control->joined = false;
}

static int control_commit(sqlite3_vtab *vtab) {
  wm_conn *conn = conn_of(vtab);
  for (wm_attachment *attachment = conn->attachments; attachment != NULL; attachment = attachment->next)
    wm_attachment_commit(attachment);
  wm_ddl_publish(conn);
  end_transaction(conn);
  return SQLITE_OK;
}

static int control_rollback(sqlite3_vtab *vtab) {
  wm_conn *conn = conn_of(vtab);
  for (wm_attachment *attachment = conn->attachments; attachment != NULL; attachment = attachment->next)
    wm_attachment_rollback(attachment);
  wm_ddl_undo(conn, -1);
  end_transaction(conn);
  return SQLITE_OK;
}

static int control_savepoint(sqlite3_vtab *vtab, int n) {
  wm_conn *conn = conn_of(vtab);
  struct wm_control *control = conn->control;
  bool catching_up = control->fresh;
  control->fresh = false;
  if (catching_up && n < control->levels)
    return SQLITE_OK; /* another control table is in the transaction and was told */
  int rc = wm_ddl_mark(conn, control->levels < n ? control->levels : n, n);
  if (rc != SQLITE_OK)
    return rc;
  control->levels = n + 1;
  for (wm_attachment *attachment = conn->attachments; attachment != NULL && !catching_up;
       attachment = attachment->next) {
    rc = wm_error_code(wm_attachment_savepoint(attachment, n, false));
    if (rc != SQLITE_OK)
      return rc;
  }
  return SQLITE_OK;
}

static int control_release(sqlite3_vtab *vtab, int n) {
  wm_conn *conn = conn_of(vtab);
  for (wm_attachment *attachment = conn->attachments; attachment != NULL; attachment = attachment->next)
    wm_attachment_release_to(attachment, n);
  if (conn->control->levels > n)
    conn->control->levels = n;
  return SQLITE_OK;
}

static int control_rollback_to(sqlite3_vtab *vtab, int n) {
  wm_conn *conn = conn_of(vtab);
  for (wm_attachment *attachment = conn->attachments; attachment != NULL; attachment = attachment->next)
    wm_attachment_rollback_to(attachment, n);
  if (n < conn->control->levels) {
    wm_ddl_undo(conn, n);
    conn->control->levels = n + 1;
  }
  return SQLITE_OK;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* The control table as a table: one column, no rows                                                                  */

/* xCreate is the same function, or there would be no eponymous table. Only join_temp may create one. */
static int control_connect(sqlite3 *db, void *aux, int argc, const char *const *argv, sqlite3_vtab **out, char **err) {
  (void)argc;
  wm_conn *conn = aux;
  bool created = wm_creation_is_of(db, argv);
  if (sqlite3_stricmp(argv[2], WM_CONTROL) != 0 || (created && !wm_schema_is_temp(argv[1])))
    return wm_error_refuse(err, sqlite3_mprintf("no table can be made of " WM_CONTROL ", by which walmap learns of "
                                                "transactions; write CREATE VIRTUAL TABLE ... USING walmap"));
  int rc = wm_eponymous_connect(db, "CREATE TABLE x(none)", SQLITE_VTAB_DIRECTONLY, sizeof(control_table), out);
  if (rc != SQLITE_OK)
    return rc;
  control_table *table = (control_table *)*out;
  table->conn = conn;
  table->is_temp = wm_schema_is_temp(argv[1]);
  wm_conn_retain(conn);
  conn->control->created |= created;
  conn->control->connected += !table->is_temp;
  return SQLITE_OK;
}

static int control_disconnect(sqlite3_vtab *vtab) {
  wm_conn *conn = conn_of(vtab);
  if (!((control_table *)vtab)->is_temp) {
    wm_conn_finalize(conn);
    conn->control->connected--;
  }
  wm_conn_release(conn);
  sqlite3_free(vtab);
  return SQLITE_OK;
}

/* The records of a running transaction rely on the object. */
static int control_destroy(sqlite3_vtab *vtab) {
  return conn_of(vtab)->control->joined ? SQLITE_LOCKED : control_disconnect(vtab);
}

static int control_best_index(sqlite3_vtab *vtab, sqlite3_index_info *info) {
  (void)vtab;
  info->estimatedCost = 1;
  info->estimatedRows = 1;
  return SQLITE_OK;
}

static int control_open(sqlite3_vtab *vtab, sqlite3_vtab_cursor **out) {
  (void)vtab;
  return wm_eponymous_open(sizeof **out, out);
}

static int control_close(sqlite3_vtab_cursor *cursor) {
  sqlite3_free(cursor);
  return SQLITE_OK;
}

static int control_filter(sqlite3_vtab_cursor *cursor, int plan, const char *text, int argc, sqlite3_value **argv) {
  (void)cursor, (void)plan, (void)text, (void)argc, (void)argv;
  return SQLITE_OK;
}

static int control_next(sqlite3_vtab_cursor *cursor) {
  (void)cursor;
  return SQLITE_OK;
}

static int control_eof(sqlite3_vtab_cursor *cursor) {
  (void)cursor;
  return 1;
}

static int control_column(sqlite3_vtab_cursor *cursor, sqlite3_context *context, int column) {
  (void)cursor, (void)context, (void)column;
  return SQLITE_OK;
}

static int control_rowid(sqlite3_vtab_cursor *cursor, sqlite3_int64 *rowid) {
  (void)cursor;
  *rowid = 0;
  return SQLITE_OK;
}

static int control_update(sqlite3_vtab *vtab, int argc, sqlite3_value **argv, sqlite3_int64 *rowid) {
  (void)argc, (void)argv, (void)rowid;
  return wm_error_vtab(vtab, SQLITE_READONLY, sqlite3_mprintf("table " WM_CONTROL " may not be modified"));
}

static const sqlite3_module control_module = {
    .iVersion = 2,
    .xCreate = control_connect,
    .xConnect = control_connect,
    .xBestIndex = control_best_index,
    .xDisconnect = control_disconnect,
    .xDestroy = control_destroy,
    .xOpen = control_open,
    .xClose = control_close,
    .xFilter = control_filter,
    .xNext = control_next,
    .xEof = control_eof,
    .xColumn = control_column,
    .xRowid = control_rowid,
    .xUpdate = control_update,
    .xBegin = control_begin,
    .xSync = control_sync,
    .xCommit = control_commit,
    .xRollback = control_rollback,
    .xSavepoint = control_savepoint,
    .xRelease = control_release,
    .xRollbackTo = control_rollback_to,
};

int wm_control_register(wm_conn *conn) {
  wm_conn_retain(conn);
  return sqlite3_create_module_v2(conn->db, WM_CONTROL, &control_module, conn, wm_conn_release);
}

int wm_control_watch_close(wm_conn *conn) {
  if (conn->control->connected > 0)
    return SQLITE_OK;
  sqlite3_stmt *statement;
  int rc = sqlite3_prepare_v2(conn->db, "SELECT * FROM main." WM_CONTROL, -1, &statement, NULL);
  sqlite3_finalize(statement);
  bool is_other = rc == SQLITE_OK && conn->control->connected == 0; /* a table of main has the name */
  return is_other ? SQLITE_ERROR : rc;
}
