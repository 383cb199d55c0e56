/*
** ddl.c - CREATE, DROP and RENAME of walmap tables inside transactions: see ddl.h
**
** Each change is recorded. The control table hears what becomes of the transaction (control.c), and then the list of
** tables is put back, record by record.
**
**    records   [ created a | dropped b | renamed a | ... ]     newest last
**    marks     records that there were when savepoint level i was marked
**
** What other connections see of a database file's tables (registry.h) changes in xCommit, after SQLite has committed
** the file: until then the COMMIT may fail, and be tried again much later. xSync announces the changes, so that a
** connection that sees the new schema already waits for the changes.
**
** A table that is made in the temp schema in autocommit, the normal way to join a named map, needs no record: only the
** whole statement can be undone then, and SQLite calls the table's own xRollback (vtab.c).
*/
#include "schema/ddl.h"

#include "schema/control.h"
#include "schema/schema.h"

#include <string.h>

SQLITE_EXTENSION_INIT3

typedef struct record {
  enum { CREATED, DROPPED, RENAMED } change;
  wm_table *table; /* with a reference */
  char *name;      /* RENAMED: the table's old name */
  char *map_name;  /* RENAMED: the map's new name until it is published, then its old one */
} record;

struct wm_ddl {
  record *records;
  int n, room;
  int *marks;
  int marks_room;
};

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
  wm_registry_settle(r->table->attachment->map, r->table->conn);
  wm_table_release(r->table);
  sqlite3_free(r->name);
  sqlite3_free(r->map_name);
}

/*
** Tells other connections, before the file is committed, that there will be a change. If the schema's version cannot be
** read, because an authorizer forbids it, another connection may find the old map for a moment; that is no error. Want
** of memory is an error, because SQLite fails then in any case. An SQLite code.
*/
static int announce_change(const record *r) {
  const wm_conn *conn = r->table->conn;
  const wm_map *map = r->table->attachment->map;
  wm_owner owner = {.kind = map->kind, .file = map->file, .vfs = map->vfs};
  int version;
  if (map->kind != WM_FILE)
    return SQLITE_OK;
  int rc = wm_schema_version(conn, r->table->schema, &version);
  if (rc == SQLITE_OK) {
    wm_registry_await(&owner, conn, version); /* changes of other connections come before this one */
    wm_registry_announce(r->table->attachment->map, conn, version);
  }
  return rc == SQLITE_NOMEM ? rc : SQLITE_OK;
}

/* Shows the change to other connections. */
static void publish_change(record *r) {
  wm_map *map = r->table->attachment->map;
  if (r->change == RENAMED)
    wm_registry_rename(map, &r->map_name);
  else if (r->change == CREATED)
    wm_registry_publish(map);
  else
    wm_registry_retract(map);
}

int wm_ddl_announce(wm_conn *conn) {
  int rc = SQLITE_OK;
  for (int i = 0; i < conn->ddl->n && rc == SQLITE_OK; i++)
    rc = announce_change(&conn->ddl->records[i]);
  return rc;
}

void wm_ddl_publish(wm_conn *conn) {
  for (int i = 0; i < conn->ddl->n; i++)
    publish_change(&conn->ddl->records[i]);
}

void wm_ddl_undo(wm_conn *conn, int level) {
  struct wm_ddl *ddl = conn->ddl;
  int n = level < 0 ? 0 : ddl->marks[level];
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

void wm_ddl_forget(wm_conn *conn) {
  struct wm_ddl *ddl = conn->ddl;
  while (ddl->n > 0)
    free_record(&ddl->records[--ddl->n]);
}

void wm_ddl_free(wm_conn *conn) {
  struct wm_ddl *ddl = conn->ddl;
  if (ddl == NULL)
    return;
  wm_ddl_forget(conn);
  sqlite3_free(ddl->records);
  sqlite3_free(ddl->marks);
  sqlite3_free(ddl);
  conn->ddl = NULL;
}

static bool grow_array(void **array, int *room, int needed, size_t item) {
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

int wm_ddl_mark(wm_conn *conn, int first, int last) {
  struct wm_ddl *ddl = conn->ddl;
  if (!grow_array((void **)&ddl->marks, &ddl->marks_room, last + 1, sizeof *ddl->marks))
    return SQLITE_NOMEM;
  for (int level = first; level < last; level++)
    ddl->marks[level] = 0; /* the level was opened before the first record */
  ddl->marks[last] = ddl->n;
  return SQLITE_OK;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Recording                                                                                                          */

/* Whether only one statement of the connection is writing. */
static bool writes_alone(sqlite3 *db) {
  int writers = 0;
  for (sqlite3_stmt *s = sqlite3_next_stmt(db, NULL); s != NULL; s = sqlite3_next_stmt(db, s))
    writers += sqlite3_stmt_busy(s) && !sqlite3_stmt_readonly(s);
  return writers <= 1;
}

bool wm_ddl_can_do_without(wm_conn *conn, const char *schema) {
  return wm_schema_is_temp(schema) && !wm_control_has_joined(conn) && sqlite3_get_autocommit(conn->db) &&
         writes_alone(conn->db);
}

int wm_ddl_prepare(wm_conn *conn, const char *schema, char **err) {
  struct wm_ddl *ddl = conn->ddl;
  if (!grow_array((void **)&ddl->records, &ddl->room, ddl->n + 1, sizeof *ddl->records))
    return SQLITE_NOMEM;
  int rc = wm_control_has_joined(conn) ? SQLITE_OK : wm_control_join(conn, schema);
  if (rc != SQLITE_OK && rc != SQLITE_NOMEM)
    *err = sqlite3_mprintf("its creation, removal or new name is part of the transaction, which table " WM_CONTROL
                           " cannot join: %s",
                           sqlite3_errmsg(conn->db));
  return rc;
}

static record *add_ddl_record(wm_table *table, int change) {
  struct wm_ddl *ddl = table->conn->ddl;
  record *r = &ddl->records[ddl->n++];
  wm_table_retain(table);
  *r = (record){.change = change, .table = table};
  return r;
}

void wm_ddl_created(wm_table *table) { add_ddl_record(table, CREATED); }
void wm_ddl_dropped(wm_table *table) { add_ddl_record(table, DROPPED); }
void wm_ddl_renamed(wm_table *table, char *name, char *map_name) {
  record *r = add_ddl_record(table, RENAMED);
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
