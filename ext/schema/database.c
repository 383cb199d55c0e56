/* database.c - whether a table's database is still the one that it was made in: see database.h */
#include "schema/database.h"

#include "conn/transaction.h"
#include "schema/schema.h"

#include <string.h>

SQLITE_EXTENSION_INIT3

static wm_database database_of(const wm_conn *conn, const char *schema) {
  wm_database database = {NULL, 0};
  (void)sqlite3_file_control(conn->db, schema, SQLITE_FCNTL_FILE_POINTER, &database.file);
  (void)sqlite3_file_control(conn->db, schema, SQLITE_FCNTL_DATA_VERSION, &database.version);
  return database;
}

static bool is_private(const wm_table *table) {
  return table->attachment->map->kind == WM_PRIVATE && !wm_schema_is_default(table->schema, table->name);
}

bool wm_database_is_same(const wm_table *table) {
  wm_database now = database_of(table->conn, table->schema);
  return now.file == table->database.file && now.version >= table->database.version;
}

bool wm_database_has(const wm_table *table) {
  const wm_map *map = table->attachment->map;
  const char *file = sqlite3_db_filename(table->conn->db, table->schema);
  return map->kind != WM_FILE || (file != NULL && strcmp(map->file, file) == 0);
}

static bool is_attached(const wm_table *table) { return sqlite3_txn_state(table->conn->db, table->schema) >= 0; }

static bool runs_statement(sqlite3 *db) {
  for (sqlite3_stmt *s = sqlite3_next_stmt(db, NULL); s != NULL; s = sqlite3_next_stmt(db, s)) {
    if (sqlite3_stmt_busy(s))
      return true;
  }
  return false;
}

static bool is_being_replaced(const wm_table *table) {
  sqlite3 *db = table->conn->db;
  return sqlite3_txn_state(db, table->schema) == SQLITE_TXN_WRITE && sqlite3_get_autocommit(db) && !runs_statement(db);
}

void wm_database_note(wm_table *table) {
  if (is_private(table))
    table->database = database_of(table->conn, table->schema);
}

void wm_database_disconnected(wm_table *table) {
  if (table->listed && is_private(table) && (!is_attached(table) || is_being_replaced(table)))
    wm_table_unlist(table);
}

static bool is_gone(const wm_table *table) {
  return is_private(table) ? !is_attached(table) : table->references == 1 && !wm_schema_is_meant(table);
}

/*
** Statements that the host has not finalized keep the object of a private table whose database was detached, and so the
** map, but cannot read it again: its rows are given back. If memory is out, they go with the object instead.
*/
static void empty_map(wm_table *table) {
  wm_attachment *attachment = table->attachment;
  if (attachment->map->kind != WM_PRIVATE || wm_attachment_is_begun(attachment))
    return;
  walmap_txn_begin(attachment->txn);
  (void)walmap_txn_clear(attachment->txn, NULL);
  walmap_txn_commit(attachment->txn);
  bool began = wm_attachment_begin_aside(attachment);
  (void)walmap_compact(attachment->map->map, attachment->txn);
  wm_attachment_end_aside(attachment, began);
}

void wm_database_forget_gone(wm_conn *conn) {
  wm_table *table = conn->unnamed > 0 ? conn->tables : NULL;
  while (table != NULL) {
    bool gone = is_gone(table);
    wm_table *next = table->next;
    if (gone) {
      wm_table_retain(table); /* long work asks by a statement whether to go on, and that may disconnect the table */
      empty_map(table);
      if (table->listed)
        wm_table_unlist(table);
      wm_table_release(table);
    }
    table = gone ? conn->tables : next; /* what is finalized for one table may let go of others */
  }
}
