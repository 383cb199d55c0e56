/*
** ddl.c - CREATE, DROP and RENAME of walmap tables inside transactions: see ddl.h
**
** SQLite does not tell a virtual table what becomes of it: after DROP its object hears nothing more, not even ROLLBACK;
** a table made after a savepoint gets no xRollbackTo for it; a rolled back RENAME is not called back. So each
** connection has a table of its own, the control table "walmap_control", which always has no rows. Each of xCreate,
** xDestroy and xRename first runs a DELETE on it that does nothing, whereupon it takes part in the transaction and gets
** every later event. Here they undo the list of tables, record by record, and the transactions on their maps.
**
**    records   [ created a | dropped b | renamed a | ... ]     newest last
**    marks     records that there were when savepoint level i was marked
**
** What other connections see of a database file's tables (registry.h) changes in xSync, before SQLite commits the file:
** then they find the new map under the new name as soon as they can see the new schema.
**
** It is eponymous, so it is there without CREATE. But such a table belongs to the main database, whose file's write lock
** the DELETE takes. A change in another schema should need no more than that schema's own. For those the control table
** is one in the temp schema, made when it is first needed; it stays there for all to see, since SQLite has no way to take
** part in a transaction but with a table of its schemas. (SQLite calls no xBegin for the object that CREATE makes, nor an
** xSavepoint for levels that are open; but the DELETE after it opens a level of its own, of which it is told, and from
** then on of all.)
**
** A table that is made in the temp schema in autocommit, the normal way to join a named map, does without: nothing but
** the statement as a whole can be undone then, and xRollback of the table itself tells of that (vtab.c).
*/
#include "ddl.h"

#include "creation.h"
#include "eponymous.h"
#include "error.h"
#include "schema.h"

#include <string.h>

SQLITE_EXTENSION_INIT3

#define CONTROL "walmap_control"

typedef struct record {
  enum { CREATED, DROPPED, RENAMED } change;
  wm_table *table; /* with a reference */
  char *name;      /* RENAMED: the table's other name, of after or before */
  char *map_name;  /* RENAMED: the same for the map */
} record;

struct wm_ddl {
  record *records;
  int n, room;
  int published; /* records[0 .. published) are what other connections see */
  int *marks;
  int levels, marks_room;
  bool joined;   /* a control table is in the transaction */
  bool fresh;    /* it has just joined: the next savepoint is one to catch up with */
  bool created;  /* one was made in the temp schema */
  int connected; /* sqlite3_vtab objects of the eponymous one */
};

typedef struct control {
  sqlite3_vtab base;
  wm_conn *conn;
  bool is_temp;
} control;

static wm_conn *conn_of(sqlite3_vtab *vtab) { return ((control *)vtab)->conn; }

int wm_ddl_new(wm_conn *conn) {
  conn->ddl = sqlite3_malloc(sizeof *conn->ddl);
  if (conn->ddl == NULL)
    return SQLITE_NOMEM;
  memset(conn->ddl, 0, sizeof *conn->ddl);
  return SQLITE_OK;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Records                                                                                                            */

static void free_record(record *r) {
  wm_table_release(r->table);
  sqlite3_free(r->name);
  sqlite3_free(r->map_name);
}

/* Shows the change to other connections, or hides it again. */
static void publish(record *r, bool forward) {
  wm_map *map = r->table->use->map;
  if (r->change == RENAMED)
    wm_registry_rename(map, &r->map_name);
  else if ((r->change == CREATED) == forward)
    wm_registry_publish(map);
  else
    wm_registry_retract(map);
}

static void unpublish(struct wm_ddl *ddl, int n) {
  while (ddl->published > n)
    publish(&ddl->records[--ddl->published], false);
}

/* Undoes all records but the first n. */
static void undo(wm_conn *conn, int n) {
  struct wm_ddl *ddl = conn->ddl;
  unpublish(ddl, n);
  while (ddl->n > n) {
    record *r = &ddl->records[--ddl->n];
    if (r->change == DROPPED)
      wm_table_list(r->table);
    else if (r->change == RENAMED)
      wm_table_rename(r->table, &r->name);
    else if (r->table->listed)
      wm_table_unlist(r->table);
    free_record(r);
  }
}

static void forget(struct wm_ddl *ddl) {
  while (ddl->n > 0)
    free_record(&ddl->records[--ddl->n]);
  ddl->published = ddl->levels = 0;
  ddl->joined = false;
}

void wm_ddl_free(wm_conn *conn) {
  struct wm_ddl *ddl = conn->ddl;
  if (ddl == NULL)
    return;
  forget(ddl);
  sqlite3_free(ddl->records);
  sqlite3_free(ddl->marks);
  sqlite3_free(ddl);
  conn->ddl = NULL;
}

static bool grow(void **array, int *room, int needed, size_t item) {
  if (needed <= *room)
    return true;
  int wanted = needed + 8;
  void *larger = sqlite3_realloc64(*array, item * (size_t)wanted);
  if (larger == NULL)
    return false;
  *array = larger;
  *room = wanted;
  return true;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Joining the transaction                                                                                            */

/* Whether one statement writes, and no other one around it. */
static bool writes_alone(sqlite3 *db) {
  int writers = 0;
  for (sqlite3_stmt *s = sqlite3_next_stmt(db, NULL); s != NULL; s = sqlite3_next_stmt(db, s))
    writers += sqlite3_stmt_busy(s) && !sqlite3_stmt_readonly(s);
  return writers <= 1;
}

bool wm_ddl_can_do_without(wm_conn *conn, const char *schema) {
  return wm_schema_is_temp(schema) && !conn->ddl->joined && sqlite3_get_autocommit(conn->db) && writes_alone(conn->db);
}

/* Whether writing to the main database, as the eponymous control table does, keeps nobody from anything. */
static bool is_main_free(sqlite3 *db) {
  const char *file = sqlite3_db_filename(db, "main");
  return sqlite3_txn_state(db, "main") == SQLITE_TXN_WRITE ||
         ((file == NULL || file[0] == 0) && sqlite3_db_readonly(db, "main") == 0);
}

static int join_main(wm_conn *conn) {
  return sqlite3_exec(conn->db, "DELETE FROM main." CONTROL " WHERE 0", NULL, NULL, NULL);
}

static int join_temp(wm_conn *conn) {
  struct wm_ddl *ddl = conn->ddl;
  ddl->created = false;
  int rc =
      sqlite3_exec(conn->db, "CREATE VIRTUAL TABLE IF NOT EXISTS temp." CONTROL " USING " CONTROL, NULL, NULL, NULL);
  if (rc != SQLITE_OK)
    return rc;
  if (ddl->created) {
    ddl->joined = true;
    ddl->levels = 0;
  }
  return sqlite3_exec(conn->db, "DELETE FROM temp." CONTROL " WHERE 0", NULL, NULL, NULL);
}

static int join(wm_conn *conn, const char *schema) {
  struct wm_ddl *ddl = conn->ddl;
  bool is_main = sqlite3_stricmp(schema, "main") == 0;
  int rc = is_main || is_main_free(conn->db) ? join_main(conn) : join_temp(conn);
  ddl->fresh = false; /* the savepoint to catch up with, if any, was announced meanwhile */
  return rc == SQLITE_OK && !ddl->joined ? SQLITE_ERROR : rc;
}

int wm_ddl_prepare(wm_conn *conn, const char *schema, char **err) {
  struct wm_ddl *ddl = conn->ddl;
  if (!grow((void **)&ddl->records, &ddl->room, ddl->n + 1, sizeof *ddl->records))
    return SQLITE_NOMEM;
  int rc = ddl->joined ? SQLITE_OK : join(conn, schema);
  if (rc != SQLITE_OK && rc != SQLITE_NOMEM)
    *err = sqlite3_mprintf("its creation, removal or new name is part of the transaction, which table " CONTROL
                           " cannot join: %s",
                           sqlite3_errmsg(conn->db));
  return rc;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* What is done                                                                                                       */

static record *add(wm_table *table, int change) {
  struct wm_ddl *ddl = table->conn->ddl;
  record *r = &ddl->records[ddl->n++];
  wm_table_retain(table);
  *r = (record){.change = change, .table = table};
  return r;
}

void wm_ddl_created(wm_table *table) { add(table, CREATED); }
void wm_ddl_dropped(wm_table *table) { add(table, DROPPED); }
void wm_ddl_renamed(wm_table *table, char *name, char *map_name) {
  record *r = add(table, RENAMED);
  r->name = name;
  r->map_name = map_name;
}

bool wm_ddl_is_renamed(const wm_table *table) {
  const struct wm_ddl *ddl = table->conn->ddl;
  for (int i = 0; i < ddl->n; i++) {
    if (ddl->records[i].table == table && ddl->records[i].change == RENAMED)
      return true;
  }
  return false;
}

int wm_ddl_levels(const wm_conn *conn) { return conn->ddl->joined ? conn->ddl->levels : 0; }

/* ------------------------------------------------------------------------------------------------------------------ */
/* The control table's part in transactions                                                                           */

/*
** It speaks for tables that were dropped too, so each event goes to all maps of the connection; those whose tables hear
** of it themselves do not mind (transaction.c).
*/

static int control_begin(sqlite3_vtab *vtab) {
  struct wm_ddl *ddl = conn_of(vtab)->ddl;
  if (!ddl->joined)
    ddl->levels = 0;
  ddl->joined = ddl->fresh = true;
  return SQLITE_OK;
}

static int control_sync(sqlite3_vtab *vtab) {
  struct wm_ddl *ddl = conn_of(vtab)->ddl;
  for (; ddl->published < ddl->n; ddl->published++)
    publish(&ddl->records[ddl->published], true);
  return SQLITE_OK;
}

static int control_commit(sqlite3_vtab *vtab) {
  wm_conn *conn = conn_of(vtab);
  for (wm_use *use = conn->uses; use != NULL; use = use->next)
    wm_use_commit(use);
  forget(conn->ddl);
  return SQLITE_OK;
}

static int control_rollback(sqlite3_vtab *vtab) {
  wm_conn *conn = conn_of(vtab);
  for (wm_use *use = conn->uses; use != NULL; use = use->next)
    wm_use_rollback(use);
  undo(conn, 0);
  forget(conn->ddl);
  return SQLITE_OK;
}

static int control_savepoint(sqlite3_vtab *vtab, int n) {
  wm_conn *conn = conn_of(vtab);
  struct wm_ddl *ddl = conn->ddl;
  bool catching_up = ddl->fresh;
  ddl->fresh = false;
  if (catching_up && n < ddl->levels)
    return SQLITE_OK; /* another control table is in the transaction and was told */
  if (!grow((void **)&ddl->marks, &ddl->marks_room, n + 1, sizeof *ddl->marks))
    return SQLITE_NOMEM;
  if (ddl->levels > n)
    ddl->levels = n;
  while (ddl->levels < n)
    ddl->marks[ddl->levels++] = 0; /* a level from before the first record */
  ddl->marks[ddl->levels++] = ddl->n;
  for (wm_use *use = conn->uses; use != NULL && !catching_up; use = use->next) {
    int rc = wm_error_code(wm_use_savepoint(use, n, false));
    if (rc != SQLITE_OK)
      return rc;
  }
  return SQLITE_OK;
}

static int control_release(sqlite3_vtab *vtab, int n) {
  wm_conn *conn = conn_of(vtab);
  for (wm_use *use = conn->uses; use != NULL; use = use->next)
    wm_use_release_to(use, n);
  if (conn->ddl->levels > n)
    conn->ddl->levels = n;
  return SQLITE_OK;
}

static int control_rollback_to(sqlite3_vtab *vtab, int n) {
  wm_conn *conn = conn_of(vtab);
  struct wm_ddl *ddl = conn->ddl;
  for (wm_use *use = conn->uses; use != NULL; use = use->next)
    wm_use_rollback_to(use, n);
  if (n < ddl->levels) {
    undo(conn, n < 0 ? 0 : ddl->marks[n]);
    ddl->levels = n + 1;
  }
  return SQLITE_OK;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* The control table as a table: one column, no rows                                                                  */

/* xCreate as well, or there would be no eponymous table; but only we make one, in the temp schema. */
static int control_connect(sqlite3 *db, void *aux, int argc, const char *const *argv, sqlite3_vtab **out, char **err) {
  (void)argc;
  wm_conn *conn = aux;
  bool created = wm_creation_is_of(db, argv);
  if (sqlite3_stricmp(argv[2], CONTROL) != 0 || (created && !wm_schema_is_temp(argv[1]))) {
    *err = sqlite3_mprintf("module " CONTROL " is for walmap's own use");
    return *err == NULL ? SQLITE_NOMEM : SQLITE_ERROR;
  }
  int rc = wm_eponymous_connect(db, "CREATE TABLE x(none)", SQLITE_VTAB_DIRECTONLY, sizeof(control), out);
  if (rc != SQLITE_OK)
    return rc;
  control *table = (control *)*out;
  table->conn = conn;
  table->is_temp = wm_schema_is_temp(argv[1]);
  wm_conn_retain(conn);
  conn->ddl->created |= created;
  conn->ddl->connected += !table->is_temp;
  return SQLITE_OK;
}

static int control_disconnect(sqlite3_vtab *vtab) {
  wm_conn *conn = conn_of(vtab);
  if (!((control *)vtab)->is_temp) {
    wm_conn_finalize(conn);
    conn->ddl->connected--;
  }
  wm_conn_release(conn);
  sqlite3_free(vtab);
  return SQLITE_OK;
}

/* The records of the transaction rely on the object. */
static int control_destroy(sqlite3_vtab *vtab) {
  return conn_of(vtab)->ddl->joined ? SQLITE_LOCKED : control_disconnect(vtab);
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
  vtab->zErrMsg = sqlite3_mprintf("table " CONTROL " may not be modified");
  return vtab->zErrMsg == NULL ? SQLITE_NOMEM : SQLITE_READONLY;
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

int wm_ddl_register(wm_conn *conn) {
  wm_conn_retain(conn);
  return sqlite3_create_module_v2(conn->db, CONTROL, &control_module, conn, wm_conn_release);
}

int wm_ddl_watch_close(wm_conn *conn) {
  if (conn->ddl->connected > 0)
    return SQLITE_OK;
  sqlite3_stmt *statement;
  int rc = sqlite3_prepare_v2(conn->db, "SELECT * FROM main." CONTROL, -1, &statement, NULL);
  sqlite3_finalize(statement);
  return rc;
}
