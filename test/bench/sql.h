/*
** sql.h - what the benchmarks through SQL share: connections, statements, and how the SQLite under them was built
*/
#ifndef TEST_BENCH_SQL_H
#define TEST_BENCH_SQL_H

#include "bench.h"

#include <sqlite3.h>

static inline void must_sql(sqlite3 *db, const char *sql) {
  char *error = NULL;
  if (sqlite3_exec(db, sql, NULL, NULL, &error) == SQLITE_OK)
    return;
  fprintf(stderr, "%s\n  in: %s\n", error, sql);
  exit(1);
}

static inline sqlite3_stmt *must_prepare(sqlite3 *db, const char *sql) {
  sqlite3_stmt *statement;
  if (sqlite3_prepare_v2(db, sql, -1, &statement, NULL) != SQLITE_OK) {
    fprintf(stderr, "%s\n  in: %s\n", sqlite3_errmsg(db), sql);
    exit(1);
  }
  return statement;
}

static inline void must_step(sqlite3_stmt *statement, int expected) {
  if (sqlite3_step(statement) == expected)
    return;
  fprintf(stderr, "%s\n  in: %s\n", sqlite3_errmsg(sqlite3_db_handle(statement)), sqlite3_sql(statement));
  exit(1);
}

static inline void must_load_walmap(sqlite3 *db) {
  const char *library = getenv("WALMAP_SO");
  char *error = NULL;
  MUST(sqlite3_enable_load_extension(db, 1) == SQLITE_OK);
  if (sqlite3_load_extension(db, library ? library : "./walmap.so", NULL, &error) == SQLITE_OK)
    return;
  fprintf(stderr, "%s\n", error);
  exit(1);
}

static inline void bind_key(sqlite3_stmt *statement, int at, const key *k) {
  sqlite3_bind_text(statement, at, k->text, k->len, SQLITE_STATIC);
}

/*
** Before anything else of SQLite's: its memory statistics, which cost every allocation a global mutex, are on as they
** are by default, or off with MEMSTATUS=0 in the environment.
*/
static inline bool choose_statistics(void) {
  const char *memstatus = getenv("MEMSTATUS");
  bool statistics = !memstatus || strcmp(memstatus, "0") != 0;
  MUST(sqlite3_config(SQLITE_CONFIG_MEMSTATUS, (int)statistics) == SQLITE_OK);
  return statistics;
}

static inline const char *sqlite_version(bool statistics) {
  static char text[128];
  snprintf(text, sizeof text, "SQLite %s, memory statistics %s", sqlite3_libversion(), statistics ? "on" : "off");
  return text;
}

/* Its stats hang on how it was built. */
static inline void print_compile_options(void) {
  const char *option;
  int column = printf("  SQLite was built with");
  for (int i = 0; (option = sqlite3_compileoption_get(i)) != NULL; i++) {
    if (column + 1 + strlen(option) > 120)
      column = printf("\n   ") - 1;
    column += printf(" %s", option);
  }
  printf("\n");
}

#endif
