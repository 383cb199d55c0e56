/*
** schema.c - which map a walmap table names, and its creation, removal and new name: see schema.h
**
**    table                                     map
**    temp.kv USING walmap(map='name')          the process-wide map of that name
**    kv in a database file                     one for all connections of the process to that file and table name
**    kv in a :memory: or temp database         private to the table; with the rows of its shadow table, if that came
**                                              from a file together with it (sqlite3_backup, sqlite3_deserialize)
**    walmap, without CREATE                    private to the connection
**
** map= is refused outside temp: a database file may come from a stranger, and must not reach a map that its host did
** not hand to it. For the same reason the default map may not be used by triggers and views (vtab.c).
**
** CREATE makes an empty map, a connection finds what is there; creation.c tells which of the two a call means.
*/
#include "schema/schema.h"

#include "conn/error.h"
#include "conn/options.h"
#include "durable/durable.h"
#include "durable/log.h"
#include "durable/shadow.h"
#include "schema/creation.h"
#include "schema/database.h"
#include "schema/ddl.h"

#include <string.h>

SQLITE_EXTENSION_INIT3

/* ------------------------------------------------------------------------------------------------------------------ */
/* Opening                                                                                                            */

/*
** What the arguments say, as far as it is needed after a statement was run within xCreate (ddl.h). If such a statement
** is interrupted, or memory runs out, SQLite rolls back, and may free the arguments together with its schema.
*/
typedef struct wanted {
  char *schema, *table;
  bool created, is_default;
  wm_owner owner; /* of the map */
  char *vfs;      /* owner.vfs */
  wm_options options;
} wanted;

static void free_wanted(wanted *w) {
  sqlite3_free(w->schema);
  sqlite3_free(w->table);
  sqlite3_free(w->vfs);
  wm_options_free(&w->options);
}

bool wm_schema_is_temp(const char *schema) { return sqlite3_stricmp(schema, "temp") == 0; }

bool wm_schema_is_default(const char *schema, const char *name) {
  return sqlite3_stricmp(schema, "main") == 0 && sqlite3_stricmp(name, WM_MODULE) == 0;
}

static int refuse_default_name(char **err) {
  return wm_error_refuse(
      err, sqlite3_mprintf(WM_MODULE ": a table cannot be called " WM_MODULE ": that is the connection's default map"));
}

static bool begins_with(const char *text, const char *prefix) { return strncmp(text, prefix, strlen(prefix)) == 0; }

/*
** The name of the VFS to which a database's path belongs, like "unix" or "memdb", as a text to be freed. SQLite tells
** the names of all VFSs that it goes through, as in "vfstrace/unix-excl": those before the last only pass the path on.
** The VFSs of the operating system differ in how they lock, but have the same files: the name is cut at "-". memdb adds
** something in parentheses, which is cut off too.
*/
static int find_vfs(sqlite3 *db, const char *schema, char **out) {
  char *names = NULL;
  sqlite3_vfs *first = NULL;
  *out = NULL;
  (void)sqlite3_file_control(db, schema, SQLITE_FCNTL_VFSNAME, &names);
  /* A VFS may not know the question, or say that it does and leave the name NULL, as dqlite's does. */
  if (names == NULL && sqlite3_file_control(db, schema, SQLITE_FCNTL_VFS_POINTER, &first) == SQLITE_OK)
    names = sqlite3_mprintf("%s", first->zName);
  if (names == NULL)
    return SQLITE_NOMEM;
  const char *slash = strrchr(names, '/'), *last = slash == NULL ? names : slash + 1;
  size_t size = strcspn(last, begins_with(last, "unix-") || begins_with(last, "win32-") ? "-(" : "(");
  *out = sqlite3_mprintf("%.*s", (int)size, last);
  sqlite3_free(names);
  return *out == NULL ? SQLITE_NOMEM : SQLITE_OK;
}

/*
** Whether the connection knows the table as one that keeps its rows in memory. A shadow table does not make it durable
** then: it is another table of that name, unless walmap has written its rows. That is so when a copy of a file has
** taken the database's place and nothing has told (database.h).
*/
static bool is_known_volatile(wm_conn *conn, const wanted *w) {
  const wm_table *before = wm_conn_listed(conn, w->schema, w->table);
  return before != NULL && before->attachment->map->kind == WM_PRIVATE && before->attachment->map->history == NULL &&
         wm_database_is_same(before);
}

/*
** A table without a file of its own. CREATE makes no durable table there, but a copy of a file brings along both the
** table and its shadow table (D5).
*/
static int choose_private(wm_conn *conn, wanted *w, char **err) {
  if (w->created || !w->options.durable)
    return SQLITE_OK;
  return wm_shadow_find(conn, w->schema, w->table, is_known_volatile(conn, w), &w->owner.durable, err);
}

/* A table without map=. Databases of memdb are no files; from 3.41 on SQLite itself gives them no file name. */
static int choose_by_database(wm_conn *conn, wanted *w, char **err) {
  const char *file = wm_schema_is_temp(w->schema) ? NULL : sqlite3_db_filename(conn->db, w->schema);
  if (file == NULL || file[0] == 0)
    return choose_private(conn, w, err);
  int rc = find_vfs(conn->db, w->schema, &w->vfs);
  if (rc != SQLITE_OK || strcmp(w->vfs, "memdb") == 0)
    return rc == SQLITE_OK ? choose_private(conn, w, err) : rc;
  w->owner = (wm_owner){WM_FILE, w->table, file, w->vfs, &w->options, w->options.durable};
  return SQLITE_OK;
}

/* Of a table that has no file. */
static int check_volatile(const wanted *w, char **err) {
  if (!w->options.has_durable || !w->options.durable || w->owner.durable)
    return SQLITE_OK;
  return wm_error_refuse(err, sqlite3_mprintf(WM_MODULE
                                              ": %s: durable=1 needs a database file, and %s is none: it is in memory; "
                                              "leave the option out",
                                              w->table, w->schema));
}

static int choose_owner(wm_conn *conn, int argc, const char *const *argv, wanted *w, char **err) {
  w->schema = sqlite3_mprintf("%s", wm_conn_schema_name(conn, argv[1]));
  w->table = sqlite3_mprintf("%s", argv[2]);
  if (w->schema == NULL || w->table == NULL)
    return SQLITE_NOMEM;
  w->created = wm_creation_is_of(conn->db, argv);
  w->is_default = wm_schema_is_default(w->schema, w->table);
  if (w->is_default) {
    return w->created || argc > 3 ? refuse_default_name(err) : SQLITE_OK;
  }
  if (!wm_schema_is_temp(w->schema) && w->options.core.capacity > WM_CAPACITY_OF_STRANGERS)
    w->options.core.capacity = WM_CAPACITY_OF_STRANGERS;
  if (w->options.map == NULL) {
    int rc = choose_by_database(conn, w, err);
    if (rc != SQLITE_OK)
      return rc;
    return w->owner.kind == WM_FILE || w->owner.durable ? SQLITE_OK : check_volatile(w, err);
  }
  if (!wm_schema_is_temp(w->schema))
    return wm_error_refuse(
        err, sqlite3_mprintf(WM_MODULE ": %s: map='%s' is allowed in the temp schema only; write CREATE VIRTUAL "
                                       "TABLE temp.%s",
                             w->table, w->options.map, w->table));
  w->owner = (wm_owner){.kind = WM_NAMED, .name = w->options.map};
  return check_volatile(w, err);
}

int wm_schema_version(const wm_conn *conn, const char *schema, int *version) {
  char *sql = sqlite3_mprintf("PRAGMA \"%w\".schema_version", schema);
  sqlite3_stmt *statement = NULL;
  int rc = sql == NULL ? SQLITE_NOMEM : sqlite3_prepare_v2(conn->db, sql, -1, &statement, NULL);
  sqlite3_free(sql);
  if (rc != SQLITE_OK)
    return rc;
  bool known = sqlite3_step(statement) == SQLITE_ROW; /* not so when it is ignored */
  if (known)
    *version = sqlite3_column_int(statement, 0);
  rc = sqlite3_finalize(statement);
  return rc == SQLITE_OK && !known ? SQLITE_AUTH : rc;
}

/* Which map it is may be changing just now (registry.h): what the connection can see of that must be done. */
static int await_changes(const wm_conn *conn, const char *schema, const wm_owner *owner) {
  int version;
  if (owner->kind != WM_FILE || !wm_registry_is_changing(owner, conn))
    return SQLITE_OK;
  int rc = wm_schema_version(conn, schema, &version);
  if (rc == SQLITE_OK)
    wm_registry_await(owner, conn, version);
  return rc == SQLITE_AUTH ? SQLITE_OK : rc;
}

bool wm_schema_is_current(const wm_table *table) {
  wm_map *map = table->attachment->map;
  return map->kind != WM_FILE ||
         (!wm_registry_is_retracted(map) && (wm_registry_is_named(map, table->name) || wm_ddl_is_renamed(table)));
}

bool wm_schema_is_meant(const wm_table *table) {
  const wm_map *map = table->attachment->map;
  wm_owner owner = {.kind = map->kind, .file = map->file, .vfs = map->vfs};
  int version;
  /* Where the file cannot be read, nothing is known to differ. */
  (void)await_changes(table->conn, table->schema, &owner);
  return wm_schema_is_current(table) ||
         (wm_schema_version(table->conn, table->schema, &version) == SQLITE_OK && wm_registry_is_older(version, map));
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Opening a table                                                                                                    */

/* Whether a table of the connection, which was there before SQLite dropped its object, has the map that is wanted. */
static bool is_same_table(const wm_table *table, const wanted *w) {
  const wm_map *map = table->attachment->map;
  const wm_owner *owner = &w->owner;
  if (map->kind != owner->kind || (map->history != NULL) != owner->durable || !wm_schema_is_meant(table))
    return false;
  if (owner->kind == WM_FILE)
    return strcmp(map->file, owner->file) == 0 && strcmp(map->vfs, owner->vfs) == 0 &&
           wm_options_are_of(&w->options, walmap_get_options(map->map));
  if (owner->kind == WM_NAMED)
    return strcmp(map->name, owner->name) == 0;
  return w->is_default || (wm_database_is_same(table) && wm_options_are_of(&w->options, walmap_get_options(map->map)));
}

/* A new table of the connection on its map. */
static int make_table(wm_conn *conn, const wanted *w, wm_table **out, char **err) {
  wm_map *map = NULL;
  wm_attachment *attachment = NULL;
  bool fresh = w->created && w->owner.kind == WM_FILE;
  int result = wm_registry_open(&w->owner, fresh, &w->options.core, &map);
  if (result == WALMAP_OK)
    result = wm_conn_attach(conn, map, &attachment);
  int rc = wm_error_code(result);
  if (rc == SQLITE_OK)
    rc = wm_options_agree(&w->options, walmap_get_options(map->map), err);
  else if (rc != SQLITE_NOMEM)
    *err = sqlite3_mprintf("%s", walmap_result_text(result));
  if (rc == SQLITE_OK && (*out = wm_table_new(attachment, w->schema, w->table)) == NULL)
    rc = SQLITE_NOMEM;
  if (attachment != NULL)
    wm_attachment_release(attachment);
  wm_registry_release(map);
  return rc;
}

/*
** A file may be attached twice. Then the same durable table has two names, but the connection has one transaction on
** the map, and reads one state of it, where SQLite has two of each for the file. So one of the names is usable. A name
** whose database was detached is forgotten, also if another file was attached under it, which has another shadow table.
*/
static int refuse_second_name(const wm_table *table, char **err) {
  if (table->attachment->map->kind != WM_FILE || !wm_durable_is(table))
    return SQLITE_OK;
  for (wm_table *other = table->conn->tables, *next; other != NULL; other = next) {
    next = other->next;
    if (other->attachment != table->attachment || sqlite3_stricmp(other->schema, table->schema) == 0)
      continue;
    if (wm_database_has(other)) {
      const char *free = sqlite3_stricmp(other->schema, "main") == 0 ? table->schema : other->schema;
      return wm_error_refuse(
          err, sqlite3_mprintf("the file is attached twice, and the table is in use as %s.%s; use it by that name, or "
                               "DETACH %s",
                               other->schema, other->name, free));
    }
    wm_table_unlist(other);
    next = table->conn->tables; /* what is finalized for one table may let go of others */
  }
  return SQLITE_OK;
}

static int open_table(wm_conn *conn, const wanted *w, wm_opening *out, char **err) {
  int rc = SQLITE_OK;
  out->created = w->created;
  out->is_default = w->is_default;
  out->recorded = w->created && !wm_ddl_can_do_without(conn, w->schema);
  if ((rc = await_changes(conn, w->schema, &w->owner)) != SQLITE_OK) {
    *err = sqlite3_mprintf("%s", sqlite3_errmsg(conn->db));
    return rc;
  }
  wm_database_forget_gone(conn);
  if (out->recorded && (rc = wm_ddl_prepare(conn, w->schema, err)) != SQLITE_OK)
    return rc;
  wm_table *before = wm_conn_listed(conn, w->schema, w->table);
  if (before != NULL && !w->created && is_same_table(before, w)) {
    rc = wm_options_agree(&w->options, walmap_get_options(before->attachment->map->map), err);
    if (rc == SQLITE_OK)
      rc = refuse_second_name(before, err);
    if (rc == SQLITE_OK) {
      wm_log_forget(before); /* the file may have been detached and attached again, and changed meanwhile */
      wm_table_retain(out->table = before);
      wm_database_note(before);
    }
    return rc;
  }
  wm_table *table;
  if (w->created && w->owner.durable && (rc = wm_shadow_create(conn, w->schema, w->table, err)) != SQLITE_OK)
    return rc;
  if ((rc = make_table(conn, w, &table, err)) != SQLITE_OK)
    return rc;
  if ((rc = refuse_second_name(table, err)) != SQLITE_OK) {
    wm_table_release(table);
    return rc;
  }
  before = wm_conn_listed(conn, w->schema, w->table); /* it may have gone with a name that was forgotten */
  if (before != NULL) /* of a database that was detached, or dropped by another connection */
    wm_table_unlist(before);
  wm_table_list(table);
  wm_database_note(table);
  if (out->recorded)
    wm_ddl_created(table);
  out->table = table;
  return SQLITE_OK;
}

/* Puts the module's and the table's name before a text, which is freed. */
static void explain_with_table(const char *table, char *why, char **err) {
  if (why != NULL)
    *err = sqlite3_mprintf(WM_MODULE ": %s: %s", table, why);
  sqlite3_free(why);
}

int wm_schema_open(wm_conn *conn, int argc, const char *const *argv, wm_opening *out, char **err) {
  wanted w = {.owner.kind = WM_PRIVATE};
  char *why = NULL;
  *out = (wm_opening){.table = NULL};
  int rc = wm_options_parse(argc - 3, argv + 3, &w.options, &why);
  if (rc != SQLITE_OK) {
    explain_with_table(argv[2], why, err);
    return rc;
  }
  rc = choose_owner(conn, argc, argv, &w, err);
  if (rc == SQLITE_OK) {
    rc = open_table(conn, &w, out, &why);
    explain_with_table(w.table, why, err);
  }
  free_wanted(&w);
  return rc;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Dropping and renaming                                                                                              */

/*
** As wm_ddl_prepare, whose error is about the table; what it undoes may take the table away. The shadow table of a
** durable one is dropped, or gets the name that goes with `name`.
*/
static int prepare_change(wm_table *table, const char *name, char **err) {
  char *why = NULL;
  wm_table_retain(table);
  int rc = wm_ddl_prepare(table->conn, table->schema, &why);
  if (rc == SQLITE_OK && wm_durable_is(table)) {
    if (name != NULL)
      wm_log_end_holds(table); /* their statements have the old name, which another table may get */
    wm_log_forget(table);
    rc = name == NULL ? wm_shadow_drop(table->conn, table->schema, table->name, &why)
                      : wm_shadow_rename(table->conn, table->schema, table->name, name, &why);
  }
  explain_with_table(table->name, why, err);
  wm_table_release(table);
  return rc;
}

int wm_schema_drop(wm_table *table, char **err) {
  int rc = prepare_change(table, NULL, err);
  if (rc != SQLITE_OK)
    return rc;
  wm_ddl_dropped(table);
  if (table->listed)
    wm_table_unlist(table);
  return SQLITE_OK;
}

int wm_schema_rename(wm_table *table, const char *name, char **err) {
  if (wm_schema_is_default(table->schema, name))
    return refuse_default_name(err);
  char *table_name = sqlite3_mprintf("%s", name), *map_name = sqlite3_mprintf("%s", name);
  int rc = table_name == NULL || map_name == NULL ? SQLITE_NOMEM : SQLITE_OK;
  if (rc == SQLITE_OK)
    rc = prepare_change(table, name, err);
  if (rc != SQLITE_OK) {
    sqlite3_free(table_name);
    sqlite3_free(map_name);
    return rc;
  }
  wm_table_rename(table, &table_name);
  wm_ddl_renamed(table, table_name, map_name);
  return SQLITE_OK;
}

void wm_schema_forget(wm_table *table) {
  if (table->listed)
    wm_table_unlist(table);
}
