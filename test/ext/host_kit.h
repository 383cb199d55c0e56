/*
** host_kit.h - what the tests of hosts share: queries, maps and files that are there for one test, and a run of tests
**
** Environment: WALMAP_SO is the extension (default ./walmap); SANITIZER what it was built with
*/
#ifndef TEST_EXT_HOST_KIT_H
#define TEST_EXT_HOST_KIT_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* memmem, mkdtemp, RTLD_NOLOAD */
#endif

#include "threads.h"

static inline pthread_t start(void *(*body)(void *), void *arg) {
  pthread_t thread;
  if (pthread_create(&thread, NULL, body, arg)) {
    fprintf(stderr, "cannot make a thread\n");
    exit(2);
  }
  return thread;
}

static inline sqlite3_stmt *query(sqlite3 *db, const char *sql) {
  sqlite3_stmt *stmt = NULL;
  if (sqlite3_prepare_v2(db, sql, -1, &stmt, NULL)) {
    fail("%s: %s", sql, sqlite3_errmsg(db));
  }
  return stmt;
}

/* The number that a query gives; -1 when it gives none. */
static inline sqlite3_int64 ask(sqlite3 *db, const char *sql) {
  sqlite3_stmt *stmt = query(db, sql);
  sqlite3_int64 answer = sqlite3_step(stmt) == SQLITE_ROW ? sqlite3_column_int64(stmt, 0) : -1;
  sqlite3_finalize(stmt);
  return answer;
}

static inline void expect(const char *what, sqlite3_int64 expected, sqlite3_int64 got) {
  if (got != expected) {
    fail("%s: %lld, not %lld", what, (long long)got, (long long)expected);
  }
}

/* A connection with the table kv of the map of that name. */
static inline sqlite3 *join_map(const char *name) {
  char sql[100];
  sqlite3 *db = connect(":memory:");
  snprintf(sql, sizeof sql, "CREATE VIRTUAL TABLE temp.kv USING walmap(map='%s')", name);
  must(db, sql);
  return db;
}

#define FILL                                                                                                           \
  "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 1000) INSERT INTO kv SELECT i, i FROM n"

static inline void expect_no_map(const char *when) {
  sqlite3 *db = connect(":memory:");
  expect(when, 0, ask(db, "SELECT count(*) FROM walmap_stats"));
  sqlite3_close(db);
}

static inline void must_close(sqlite3 *db) { expect("sqlite3_close", SQLITE_OK, sqlite3_close(db)); }

/* A database file in a folder of its own; remove_file ends both. */
static char file_folder[100], file_path[120];

static inline const char *make_file(void) {
  strcpy(file_folder, "/tmp/walmap-hosts-XXXXXX");
  if (mkdtemp(file_folder) == NULL) {
    fprintf(stderr, "cannot make a folder\n");
    exit(2);
  }
  snprintf(file_path, sizeof file_path, "%s/file.db", file_folder);
  return file_path;
}

static inline void remove_file(void) {
  unlink(file_path);
  rmdir(file_folder);
}

/* Whether each access is watched; test/run tells. */
static inline bool sanitized(void) {
  const char *sanitizer = getenv("SANITIZER");
  return sanitizer != NULL && *sanitizer != 0;
}

static inline long resident_kib(void) {
  long pages = 0;
  FILE *file = fopen("/proc/self/statm", "r");
  if (file == NULL || fscanf(file, "%*d %ld", &pages) != 1) {
    fail("cannot read /proc/self/statm");
  }
  fclose(file);
  return pages * (sysconf(_SC_PAGESIZE) / 1024);
}

typedef struct host_test {
  const char *name;
  void (*run)(void);
} host_test;

/* Runs them, prints what passed, and returns the program's exit code. */
static inline int run_host_tests(const char *program, const host_test *tests, size_t n) {
  int passed = 0, failed = 0;
  take_settings(program, NULL);
  for (size_t i = 0; i < n; i++) {
    long before = atomic_load(&failures);
    tests[i].run();
    bool ok = atomic_load(&failures) == before;
    printf("%s... %s\n", tests[i].name, ok ? "ok" : "FAILED");
    passed += ok;
    failed += !ok;
  }
  printf("%d passed, %d failed\n", passed, failed);
  return failed > 0;
}

#endif
