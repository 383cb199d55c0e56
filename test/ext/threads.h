/*
** threads.h - threads that each have a connection: what stress.c, soak.c, deadlock.c and host_kit.h share
*/
#ifndef THREADS_H
#define THREADS_H

#include <pthread.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const char *extension = "./walmap";
static uint64_t seed;
static atomic_long failures;
static atomic_long busy; /* SQLITE_BUSY where it is allowed: writers that would have waited for each other */

static void fail(const char *format, ...) {
  va_list args;
  va_start(args, format);
  if (atomic_fetch_add(&failures, 1) < 20) {
    flockfile(stdout);
    printf("FAILED: ");
    vprintf(format, args);
    printf("\n");
    funlockfile(stdout);
  }
  va_end(args);
}

/* Where a worker's table is, and how it is made. */
typedef struct phase {
  const char *name, *file, *create;
} phase;

typedef struct worker {
  const phase *phase;
  sqlite3 *db;
  uint64_t random;
  sqlite3_int64 counted[4]; /* what its role counts */
  struct {
    const char *sql;
    sqlite3_stmt *stmt;
  } cache[24]; /* by the address of the text */
} worker;

static uint64_t random_next(worker *w) { /* splitmix64 */
  uint64_t z = w->random += 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

static inline int pick(worker *w, int n) { return (int)(random_next(w) % (uint64_t)n); }

/*
** Of waits that must end before, for a lock of the file or a shard: a machine that stops a thread for long does not
** make them fail.
*/
enum { VERY_LONG_MS = 600000 };

static void must(sqlite3 *db, const char *sql) {
  char *error = NULL;
  if (sqlite3_exec(db, sql, NULL, NULL, &error)) {
    fprintf(stderr, "%s: %s\n", sql, error);
    exit(2);
  }
}

static sqlite3 *connect(const char *file) {
  sqlite3 *db;
  char *error = NULL;
  if (sqlite3_open(file, &db)) {
    fprintf(stderr, "%s: %s\n", file, sqlite3_errmsg(db));
    exit(2);
  }
  sqlite3_busy_timeout(db, VERY_LONG_MS);
  sqlite3_db_config(db, SQLITE_DBCONFIG_ENABLE_LOAD_EXTENSION, 1, NULL);
  if (sqlite3_load_extension(db, extension, NULL, &error)) {
    fprintf(stderr, "cannot load %s: %s\n", extension, error);
    exit(2);
  }
  return db;
}

static inline void worker_open(worker *w) {
  w->db = connect(w->phase->file ? w->phase->file : ":memory:");
  must(w->db, "PRAGMA synchronous = off");
  must(w->db, w->phase->create);
}

static inline void worker_close(worker *w) {
  for (size_t i = 0; i < sizeof w->cache / sizeof w->cache[0]; i++) {
    sqlite3_finalize(w->cache[i].stmt);
    w->cache[i].sql = NULL;
    w->cache[i].stmt = NULL;
  }
  sqlite3_close(w->db);
}

static sqlite3_stmt *prepare(worker *w, const char *sql) {
  size_t i = 0;
  while (w->cache[i].sql && w->cache[i].sql != sql) {
    i++;
  }
  if (w->cache[i].sql == NULL) {
    if (sqlite3_prepare_v2(w->db, sql, -1, &w->cache[i].stmt, NULL)) {
      fail("%s: %s", sql, sqlite3_errmsg(w->db));
      return NULL;
    }
    w->cache[i].sql = sql;
  }
  return w->cache[i].stmt;
}

/* Runs a statement with parameters a and b; the first row's first two columns go to `out`. Returns the primary code. */
static int run(worker *w, const char *sql, sqlite3_int64 a, sqlite3_int64 b, sqlite3_int64 out[2]) {
  sqlite3_stmt *stmt = prepare(w, sql);
  if (stmt == NULL) {
    return SQLITE_ERROR;
  }
  sqlite3_bind_int64(stmt, 1, a);
  sqlite3_bind_int64(stmt, 2, b);
  int rc;
  while ((rc = sqlite3_step(stmt)) == SQLITE_ROW) {
    if (out) {
      out[0] = sqlite3_column_int64(stmt, 0);
      out[1] = sqlite3_column_count(stmt) > 1 ? sqlite3_column_int64(stmt, 1) : 0;
    }
  }
  sqlite3_reset(stmt);
  return rc == SQLITE_DONE ? SQLITE_OK : rc & 0xff;
}

/* For what may never fail. */
static bool run_ok(worker *w, const char *sql, sqlite3_int64 a, sqlite3_int64 b, sqlite3_int64 out[2]) {
  int rc = run(w, sql, a, b, out);
  if (rc != SQLITE_OK) {
    fail("%s: %s: %s (%d)", w->phase->name, sql, sqlite3_errmsg(w->db), rc);
  }
  return rc == SQLITE_OK;
}

/* Whether the last error is a deadlock: the text tells it from a timeout. */
static bool is_deadlock(const worker *w) {
  return sqlite3_errcode(w->db) == SQLITE_BUSY && strstr(sqlite3_errmsg(w->db), "deadlock") != NULL;
}

/* For a write in a transaction: a deadlock is allowed, and ends it. */
static inline bool run_or_roll_back(worker *w, const char *sql, sqlite3_int64 a, sqlite3_int64 b,
                                    sqlite3_int64 out[2]) {
  int rc = run(w, sql, a, b, out);
  if (rc == SQLITE_OK) {
    return true;
  }
  if (!is_deadlock(w)) {
    fail("%s: %s: %s (%d)", w->phase->name, sql, sqlite3_errmsg(w->db), rc);
  }
  atomic_fetch_add(&busy, 1);
  if (!sqlite3_get_autocommit(w->db)) {
    run_ok(w, "ROLLBACK", 0, 0, NULL);
  }
  return false;
}

/* Seed and extension, from the arguments and the environment. */
static void take_settings(const char *name, const char *given_seed) {
  const char *given = given_seed ? given_seed : getenv("SEED");
  seed = given ? strtoull(given, NULL, 10) : (uint64_t)time(NULL);
  if (getenv("WALMAP_SO")) {
    extension = getenv("WALMAP_SO");
  }
  printf("%s: SQLite %s, seed %llu (repeat with SEED=)\n", name, sqlite3_libversion(), (unsigned long long)seed);
}

#endif
