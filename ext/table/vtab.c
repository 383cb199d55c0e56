/*
** vtab.c - the module's methods, but for the planner (plan.c), cursors (cursor.c) and xUpdate (update.c)
**
** xCreate and xConnect are one function, which is what makes the table "walmap" exist without CREATE: creation.c tells
** the two apart. An sqlite3_vtab holds nothing but a reference to its wm_table.
**
** Transactions. SQLite calls, for each object that a transaction writes to,
**
**    xBegin [xSavepoint] { xUpdate | xSavepoint | xRelease | xRollbackTo | xSync }... xSync xCommit   or ... xRollback
**
** where the first xSavepoint, right after xBegin, catches up with savepoints that are open already; an object made by
** the transaction starts without xBegin; and xSync may be followed by more writes when the COMMIT fails after it.
** Builds with WALMAP_DEBUG assert this order, on which transaction.c relies.
*/
#include "table/vtab.h"

#include "conn/error.h"
#include "conn/transaction.h"
#include "durable/durable.h"
#include "durable/log.h"
#include "schema/database.h"
#include "schema/schema.h"
#include "table/cursor.h"
#include "table/plan.h"

#include <assert.h>
#include <stddef.h>
#include <string.h>

SQLITE_EXTENSION_INIT3

/* ------------------------------------------------------------------------------------------------------------------ */
/* The order of calls                                                                                                 */

enum { OUTSIDE, INSIDE, SYNCED };

#ifdef WALMAP_DEBUG
static void enter_phase(wm_vtab *vtab, bool allowed, int phase) {
  assert(allowed);
  vtab->phase = phase;
}
#else
#define enter_phase(vtab, allowed, next_phase) ((void)(vtab))
#endif

/* ------------------------------------------------------------------------------------------------------------------ */
/* xCreate, xConnect, xDisconnect, xDestroy, xRename                                                                  */

/*
** Triggers and views may use a table, also those of a database that SQLite does not trust: it leads nowhere but to the
** database's own content. The default map is the host's, so they may not use that.
*/
static int declare_table(sqlite3 *db, bool is_default) {
  int rc = sqlite3_declare_vtab(db, "CREATE TABLE x(key PRIMARY KEY, value, expires HIDDEN) WITHOUT ROWID");
  if (rc == SQLITE_OK)
    rc = sqlite3_vtab_config(db, SQLITE_VTAB_CONSTRAINT_SUPPORT, 1);
  if (rc == SQLITE_OK)
    rc = sqlite3_vtab_config(db, is_default ? SQLITE_VTAB_DIRECTONLY : SQLITE_VTAB_INNOCUOUS);
  return rc;
}

static int vtab_connect(sqlite3 *db, void *aux, int argc, const char *const *argv, sqlite3_vtab **out, char **err) {
  wm_conn *conn = aux;
  wm_vtab *vtab = sqlite3_malloc(sizeof *vtab);
  if (vtab == NULL)
    return SQLITE_NOMEM;
  memset(vtab, 0, sizeof *vtab);
  wm_opening opening;
  int rc = wm_schema_open(conn, argc, argv, &opening, err);
  if (rc == SQLITE_OK && (rc = declare_table(db, opening.is_default)) != SQLITE_OK) {
    if (opening.created && !opening.recorded)
      wm_schema_forget(opening.table);
    wm_table_release(opening.table);
  }
  if (rc != SQLITE_OK) {
    sqlite3_free(vtab);
    return rc;
  }
  vtab->table = opening.table;
  vtab->unrecorded = opening.created && !opening.recorded;
  vtab->phase = opening.created ? INSIDE : OUTSIDE;
  wm_conn_retain(conn);
  *out = &vtab->base;
  return SQLITE_OK;
}

static int vtab_disconnect(sqlite3_vtab *base) {
  wm_vtab *vtab = (wm_vtab *)base;
  wm_conn *conn = vtab->table->conn;
  conn->changes++; /* the table's database may be another one now */
  wm_log_forget(vtab->table);
  wm_database_disconnected(vtab->table);
  wm_table_release(vtab->table);
  wm_conn_release(conn);
  sqlite3_free(base->zErrMsg); /* SQLite does not fetch the text of each method that may fail */
  sqlite3_free(vtab);
  return SQLITE_OK;
}

static int set_error(sqlite3_vtab *vtab, int rc, char *text) {
  if (text != NULL) {
    sqlite3_free(vtab->zErrMsg);
    vtab->zErrMsg = text;
  }
  return rc;
}

/* Work inside xUpdate may run SQL (call.h), and SQLite uses the object after it. As for a table that is being read. */
static bool is_busy(sqlite3_vtab *base) { return ((wm_vtab *)base)->table->calls > 0; }

static int vtab_destroy(sqlite3_vtab *base) {
  char *err = NULL;
  if (is_busy(base))
    return SQLITE_LOCKED;
  int rc = wm_schema_drop(((wm_vtab *)base)->table, &err);
  if (rc != SQLITE_OK)
    return set_error(base, rc, err);
  return vtab_disconnect(base);
}

static int vtab_rename(sqlite3_vtab *base, const char *name) {
  char *err = NULL;
  if (is_busy(base))
    return SQLITE_LOCKED;
  int rc = wm_schema_rename(((wm_vtab *)base)->table, name, &err);
  return set_error(base, rc, err);
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Transactions                                                                                                       */

static int vtab_begin(sqlite3_vtab *base) {
  wm_vtab *vtab = (wm_vtab *)base;
  int result = wm_durable_begin(vtab->table);
  if (result != WALMAP_OK)
    return wm_error_table(base, result, vtab->table);
  enter_phase(vtab, vtab->phase == OUTSIDE, INSIDE);
  wm_attachment_begin(vtab->table->attachment);
  vtab->fresh = true;
  return SQLITE_OK;
}

static int vtab_update(sqlite3_vtab *base, int argc, sqlite3_value **argv, sqlite3_int64 *rowid) {
  wm_vtab *vtab = (wm_vtab *)base;
  enter_phase(vtab, vtab->phase != OUTSIDE, INSIDE);
  vtab->fresh = false;
  return wm_update(base, argc, argv, rowid);
}

static int vtab_sync(sqlite3_vtab *base) {
  wm_vtab *vtab = (wm_vtab *)base;
  enter_phase(vtab, vtab->phase != OUTSIDE, SYNCED);
  int result = wm_durable_sync(vtab->table);
  if (result == WALMAP_OK)
    result = wm_attachment_evict(vtab->table->attachment);
  return wm_error_table(base, result, vtab->table); /* T7: after it nothing can fail */
}

static int vtab_commit(sqlite3_vtab *base) {
  wm_vtab *vtab = (wm_vtab *)base;
  enter_phase(vtab, vtab->phase == SYNCED, OUTSIDE);
  vtab->unrecorded = vtab->fresh = false;
  wm_attachment_commit(vtab->table->attachment);
  if (!vtab->noted)
    wm_database_note(vtab->table);
  vtab->noted = true;
  return SQLITE_OK;
}

static int vtab_rollback(sqlite3_vtab *base) {
  wm_vtab *vtab = (wm_vtab *)base;
  enter_phase(vtab, vtab->phase != OUTSIDE, OUTSIDE);
  wm_attachment_rollback(vtab->table->attachment);
  if (vtab->unrecorded)
    wm_schema_forget(vtab->table);
  vtab->unrecorded = vtab->fresh = false;
  return SQLITE_OK;
}

static int vtab_savepoint(sqlite3_vtab *base, int n) {
  wm_vtab *vtab = (wm_vtab *)base;
  enter_phase(vtab, vtab->phase != OUTSIDE, vtab->phase);
  bool catching_up = vtab->fresh;
  vtab->fresh = false;
  wm_attachment_note_savepoint(vtab->table->attachment, catching_up);
  return wm_error_table(base, wm_attachment_savepoint(vtab->table->attachment, n, catching_up), vtab->table);
}

static int vtab_release(sqlite3_vtab *base, int n) {
  wm_vtab *vtab = (wm_vtab *)base;
  enter_phase(vtab, vtab->phase != OUTSIDE, vtab->phase);
  wm_attachment_note_release(vtab->table->attachment);
  wm_attachment_release_to(vtab->table->attachment, n);
  return SQLITE_OK;
}

static int vtab_rollback_to(sqlite3_vtab *base, int n) {
  wm_vtab *vtab = (wm_vtab *)base;
  enter_phase(vtab, vtab->phase != OUTSIDE, vtab->phase);
  wm_attachment_rollback_to(vtab->table->attachment, n);
  return SQLITE_OK;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* PRAGMA integrity_check                                                                                             */

/* It waits for other writers, and fails with SQLITE_BUSY as they do: then the map was not looked at. */
static int vtab_integrity(sqlite3_vtab *base, const char *schema, const char *name, int flags, char **err) {
  (void)flags; /* PRAGMA quick_check: there is nothing to leave out */
  wm_table *table = ((wm_vtab *)base)->table;
  wm_attachment *attachment = table->attachment;
  walmap_why why;
  bool began = wm_attachment_begin_aside(attachment);
  int result = walmap_verify(attachment->map->map, attachment->txn, &why);
  wm_attachment_end_aside(attachment, began);
  char *fault = NULL;
  if (result == WALMAP_OK)
    result = wm_durable_verify(table, &fault);
  if (result != WALMAP_CORRUPT && fault == NULL)
    return wm_error_code(result);
  *err = sqlite3_mprintf(WM_MODULE " table %s.%s: %s", schema, name, fault != NULL ? fault : why.text);
  sqlite3_free(fault);
  return *err != NULL ? SQLITE_OK : SQLITE_NOMEM;
}

/* ------------------------------------------------------------------------------------------------------------------ */

/* Whether kv_SUFFIX is a table of ours: SQLite protects it in defensive mode. */
static int vtab_shadow_name(const char *suffix) { return sqlite3_stricmp(suffix, "log") == 0; }

/*
** A module as SQLite 3.44 and later knows it, whatever headers this is compiled with: older ones end before xIntegrity.
** Older libraries do not look at it; newer ones do, as iVersion tells them.
*/
typedef struct wm_module {
  sqlite3_module base;
#if SQLITE_VERSION_NUMBER < 3044000
  int (*xIntegrity)(sqlite3_vtab *, const char *, const char *, int, char **);
#endif
} wm_module;

#if SQLITE_VERSION_NUMBER < 3044000
_Static_assert(offsetof(wm_module, xIntegrity) == offsetof(sqlite3_module, xShadowName) + sizeof(void (*)(void)),
               "xIntegrity comes right after xShadowName");
#define INTEGRITY .xIntegrity
#else
#define INTEGRITY .base.xIntegrity
#endif

static const wm_module module = {
    .base.iVersion = 4, /* 2: savepoints, 3: xShadowName, 4: xIntegrity */
    .base.xCreate = vtab_connect,
    .base.xConnect = vtab_connect,
    .base.xBestIndex = wm_plan_best_index,
    .base.xDisconnect = vtab_disconnect,
    .base.xDestroy = vtab_destroy,
    .base.xOpen = wm_cursor_open,
    .base.xClose = wm_cursor_close,
    .base.xFilter = wm_cursor_filter,
    .base.xNext = wm_cursor_next,
    .base.xEof = wm_cursor_eof,
    .base.xColumn = wm_cursor_column,
    .base.xUpdate = vtab_update,
    .base.xBegin = vtab_begin,
    .base.xSync = vtab_sync,
    .base.xCommit = vtab_commit,
    .base.xRollback = vtab_rollback,
    .base.xRename = vtab_rename,
    .base.xSavepoint = vtab_savepoint,
    .base.xRelease = vtab_release,
    .base.xRollbackTo = vtab_rollback_to,
    .base.xShadowName = vtab_shadow_name,
    INTEGRITY = vtab_integrity,
};

static void unregister_module(void *aux) {
  wm_conn *conn = aux;
  conn->registered = false;
  wm_conn_release(conn);
}

int wm_vtab_register(wm_conn *conn) {
  wm_conn_retain(conn);
  conn->registered = true;
  return sqlite3_create_module_v2(conn->db, WM_MODULE, &module.base, conn, unregister_module); /* calls it on failure */
}
