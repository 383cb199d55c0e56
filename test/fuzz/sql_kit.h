/*
** sql_kit.h - what the fuzzers of the extension share: a connection with walmap inside, and one-number questions to it
*/
#ifndef TEST_FUZZ_SQL_KIT_H
#define TEST_FUZZ_SQL_KIT_H

#include "../common/support.h"

#include <sqlite3.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int sqlite3_walmap_init(sqlite3 *db, char **err, const void *api);

/* Fails the run, with SQLite's text. */
static inline void must_sql(sqlite3 *db, bool ok, const char *sql) {
  if (ok)
    return;
  fprintf(stderr, "%s\n  %s (%d)\n", sql, sqlite3_errmsg(db), sqlite3_extended_errcode(db));
  fflush(NULL);
  abort();
}

static inline void run_sql(sqlite3 *db, const char *sql) {
  must_sql(db, sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK, sql);
}

static inline sqlite3 *open_walmap(void) {
  sqlite3 *db;
  char *err = NULL;
  MUST(sqlite3_open(":memory:", &db) == SQLITE_OK);
  MUST(sqlite3_walmap_init(db, &err, NULL) == SQLITE_OK_LOAD_PERMANENTLY);
  return db;
}

/* Never finalized: a fuzzer's connection lasts as long as its process. */
static inline sqlite3_stmt *prepare_sql(sqlite3 *db, const char *sql) {
  sqlite3_stmt *query;
  must_sql(db, sqlite3_prepare_v3(db, sql, -1, SQLITE_PREPARE_PERSISTENT, &query, NULL) == SQLITE_OK, sql);
  return query;
}

/* The first number of the only row. On an error its extended code is in *error, or the run fails if that is NULL. */
static inline int64_t ask(sqlite3_stmt *query, int *error) {
  sqlite3 *db = sqlite3_db_handle(query);
  int64_t answer = 0;
  int rc = sqlite3_step(query);
  if (rc == SQLITE_ROW) {
    answer = sqlite3_column_int64(query, 0);
    rc = sqlite3_step(query);
  }
  must_sql(db, rc == SQLITE_DONE || error != NULL, sqlite3_sql(query));
  if (error != NULL)
    *error = rc == SQLITE_DONE ? SQLITE_OK : sqlite3_extended_errcode(db);
  sqlite3_reset(query); /* which leaves the error's text */
  return answer;
}

#endif
