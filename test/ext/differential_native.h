/*
** differential_native.h - walmap's functions on native tables, for the other side of the differential test
**
** Each does by nested SQL on a native table what its namesake is documented to do on a walmap table. An image is here
** just the name of the table; walmap_restore, which the test always gives a walmap_snapshot, copies that table.
*/
#ifndef DIFFERENTIAL_NATIVE_H
#define DIFFERENTIAL_NATIVE_H

#include <sqlite3.h>

#include <stdbool.h>
#include <stddef.h>

/*
** Runs a statement on the table that argv[0] names, with the other arguments as ?1, ?2, ... False: it failed, and the
** error is the result. `*found` and the value: of the first row, if any; the value is the caller's to free.
*/
static bool native_run(sqlite3_context *context, int argc, sqlite3_value **argv, const char *format, bool *found,
                       sqlite3_value **value) {
  sqlite3 *db = sqlite3_context_db_handle(context);
  char *sql = sqlite3_mprintf(format, sqlite3_value_text(argv[0]));
  sqlite3_stmt *stmt = NULL;
  int rc = sqlite3_prepare_v2(db, sql, -1, &stmt, NULL);
  *found = false;
  *value = NULL;
  for (int i = 1; i < argc && rc == SQLITE_OK && i <= sqlite3_bind_parameter_count(stmt); i++) {
    rc = sqlite3_bind_value(stmt, i, argv[i]);
  }
  if (rc == SQLITE_OK) {
    rc = sqlite3_step(stmt);
    if (rc == SQLITE_ROW) {
      *found = true;
      *value = sqlite3_value_dup(sqlite3_column_value(stmt, 0));
      rc = sqlite3_step(stmt);
    }
  }
  sqlite3_free(sql);
  if (rc != SQLITE_DONE) {
    sqlite3_result_error(context, sqlite3_errmsg(db), -1);
    sqlite3_result_error_code(context, sqlite3_extended_errcode(db));
    sqlite3_finalize(stmt);
    sqlite3_value_free(*value);
    *value = NULL;
    return false;
  }
  sqlite3_finalize(stmt);
  return true;
}

/* The same for a statement whose rows do not matter. */
static bool native_do(sqlite3_context *context, int argc, sqlite3_value **argv, const char *format) {
  bool found;
  sqlite3_value *value;
  bool done = native_run(context, argc, argv, format, &found, &value);
  sqlite3_value_free(value);
  return done;
}

#define NATIVE_SELECT "SELECT value FROM \"%w\" WHERE key = ?1"
#define NATIVE_REPLACE "REPLACE INTO \"%w\" VALUES(?1, ?2)"

static void native_get(sqlite3_context *context, int argc, sqlite3_value **argv) {
  bool found;
  sqlite3_value *value;
  if (native_run(context, argc, argv, NATIVE_SELECT, &found, &value) && found) {
    sqlite3_result_value(context, value);
  }
  sqlite3_value_free(value);
}

static void native_set(sqlite3_context *context, int argc, sqlite3_value **argv) {
  if (native_do(context, argc, argv, NATIVE_REPLACE)) {
    sqlite3_result_value(context, argv[2]);
  }
}

static void native_remove(sqlite3_context *context, int argc, sqlite3_value **argv) {
  bool found;
  sqlite3_value *value;
  if (native_run(context, argc, argv, NATIVE_SELECT, &found, &value) && found &&
      native_do(context, argc, argv, "DELETE FROM \"%w\" WHERE key = ?1")) {
    sqlite3_result_value(context, value);
  }
  sqlite3_value_free(value);
}

static void native_set_if_absent(sqlite3_context *context, int argc, sqlite3_value **argv) {
  bool found;
  sqlite3_value *value;
  if (native_run(context, argc, argv, NATIVE_SELECT, &found, &value) &&
      (found || native_do(context, argc, argv, "INSERT INTO \"%w\" VALUES(?1, ?2)"))) {
    sqlite3_result_int(context, !found);
  }
  sqlite3_value_free(value);
}

/* walmap_set_if and walmap_remove_if: 1 when the statement found its row. */
static void native_if(sqlite3_context *context, int argc, sqlite3_value **argv) {
  const char *condition = "SELECT 1 FROM \"%w\" WHERE key = ?1 AND value IS ?2";
  const char *change = argc == 4 ? "UPDATE \"%w\" SET value = ?3 WHERE key = ?1" : "DELETE FROM \"%w\" WHERE key = ?1";
  bool found;
  sqlite3_value *value;
  if (native_run(context, argc, argv, condition, &found, &value) &&
      (!found || native_do(context, argc, argv, change))) {
    sqlite3_result_int(context, found);
  }
  sqlite3_value_free(value);
}

/*
** The expression gets copies of key and value, as from walmap_upsert: SQLite reads a BLOB as a number in the database's
** encoding when it comes from a table, and as UTF-8 when it is bound.
*/
static void native_upsert(sqlite3_context *context, int argc, sqlite3_value **argv) {
  bool found;
  sqlite3_value *key = NULL, *value = NULL;
  char *update = sqlite3_mprintf("UPDATE \"%%w\" SET value = (SELECT (%s) FROM (SELECT ?2 AS key, ?3 AS value)) "
                                 "WHERE key = ?1",
                                 sqlite3_value_text(argv[3]));
  if (native_run(context, argc, argv, "SELECT key FROM \"%w\" WHERE key = ?1", &found, &key) &&
      native_run(context, argc, argv, NATIVE_SELECT, &found, &value)) {
    sqlite3_value *copies[] = {argv[0], argv[1], key, value};
    if (native_do(context, argc, found ? copies : argv, found ? update : "INSERT INTO \"%w\" VALUES(?1, ?2)"))
      native_get(context, argc, argv);
  }
  sqlite3_free(update);
  sqlite3_value_free(key);
  sqlite3_value_free(value);
}

static void native_len(sqlite3_context *context, int argc, sqlite3_value **argv) {
  bool found;
  sqlite3_value *value;
  if (native_run(context, argc, argv, "SELECT count(*) FROM \"%w\"", &found, &value)) {
    sqlite3_result_value(context, value);
  }
  sqlite3_value_free(value);
}

static void native_snapshot(sqlite3_context *context, int argc, sqlite3_value **argv) {
  (void)argc;
  sqlite3_result_value(context, argv[0]);
}

static void native_restore(sqlite3_context *context, int argc, sqlite3_value **argv) {
  char *copy = sqlite3_mprintf("INSERT INTO \"%%w\" SELECT * FROM \"%w\"", sqlite3_value_text(argv[1]));
  bool itself =
      sqlite3_stricmp((const char *)sqlite3_value_text(argv[0]), (const char *)sqlite3_value_text(argv[1])) == 0;
  if (itself || (native_do(context, 1, argv, "DELETE FROM \"%w\"") && native_do(context, 1, argv, copy))) {
    native_len(context, argc, argv);
  }
  sqlite3_free(copy);
}

static void native_functions(sqlite3 *db) {
  static const struct {
    const char *name;
    int argc;
    void (*function)(sqlite3_context *, int, sqlite3_value **);
  } functions[] = {
      {"walmap_get", 2, native_get},           {"walmap_set", 3, native_set},
      {"walmap_remove", 2, native_remove},     {"walmap_set_if_absent", 3, native_set_if_absent},
      {"walmap_set_if", 4, native_if},         {"walmap_remove_if", 3, native_if},
      {"walmap_upsert", 4, native_upsert},     {"walmap_len", 1, native_len},
      {"walmap_snapshot", 1, native_snapshot}, {"walmap_restore", 2, native_restore},
  };
  for (size_t i = 0; i < sizeof functions / sizeof functions[0]; i++) {
    sqlite3_create_function(db, functions[i].name, functions[i].argc, SQLITE_UTF8 | SQLITE_DIRECTONLY, NULL,
                            functions[i].function, NULL, NULL);
  }
}

#endif
