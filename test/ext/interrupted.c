/*
** interrupted.c - a transaction that is broken off in the middle and leaves half of itself behind (T3)
**
** Triggers keep a walmap table in step with a native one, in the same transaction. Statements are interrupted after 1,
** 2, 3 ... steps, and run out of memory at one limit after another, in autocommit, in a transaction and behind a
** savepoint, until they succeed. Whatever SQLite undoes of the native table, it must undo of the walmap table: both
** hold the same rows after every failure, and after the COMMIT or ROLLBACK that follows. At last a connection is closed
** with its transaction open, while another one has the map.
**
** Usage: interrupted    Environment: WALMAP_SO is the extension (default ./walmap)
*/
#include <sqlite3.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

static int passed, failed;

static void check(bool ok, const char *what, int n) {
  if (ok)
    passed++;
  else if (failed++ < 20)
    printf("FAILED: %s, at %d\n", what, n);
}

static void must(sqlite3 *db, const char *sql) {
  if (sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK)
    return;
  printf("FAILED: %s: %s\n", sql, sqlite3_errmsg(db));
  exit(1);
}

static sqlite3_int64 number(sqlite3 *db, const char *sql) {
  sqlite3_stmt *stmt = NULL;
  sqlite3_int64 n = -1;
  if (sqlite3_prepare_v2(db, sql, -1, &stmt, NULL) == SQLITE_OK && sqlite3_step(stmt) == SQLITE_ROW)
    n = sqlite3_column_int64(stmt, 0);
  sqlite3_finalize(stmt);
  return n;
}

static sqlite3 *open_with_map(void) {
  sqlite3 *db = NULL;
  char *err = NULL;
  const char *extension = getenv("WALMAP_SO");
  if (sqlite3_open(":memory:", &db) != SQLITE_OK || sqlite3_enable_load_extension(db, 1) != SQLITE_OK ||
      sqlite3_load_extension(db, extension != NULL ? extension : "./walmap", NULL, &err) != SQLITE_OK) {
    printf("FAILED: cannot load the extension: %s\n", err != NULL ? err : "");
    exit(1);
  }
  must(db, "CREATE VIRTUAL TABLE temp.kv USING walmap(map='broken off')");
  return db;
}

/* Rows that one table has and the other has not. */
static sqlite3_int64 differences(sqlite3 *db) {
  return number(db, "SELECT (SELECT count(*) FROM (SELECT * FROM n EXCEPT SELECT * FROM kv)) + "
                    "(SELECT count(*) FROM (SELECT * FROM kv EXCEPT SELECT * FROM n))");
}

#define FORTY "WITH c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < 40) "
static const char *const statements[] = {
    FORTY "INSERT OR REPLACE INTO n SELECT i, i * ?1 FROM c",
    "UPDATE n SET value = value || ?1 WHERE key % 3 = 0",
    "DELETE FROM n WHERE key % 2 = ?1 % 2",
};

static const char *const preludes[] = {
    "",
    "BEGIN; INSERT OR REPLACE INTO n VALUES (100, 'before')",
    "BEGIN; INSERT OR REPLACE INTO n VALUES (100, 'before'); SAVEPOINT s; DELETE FROM n WHERE key = 7",
};

enum { WAYS = 2 };
static int steps_left;

static int interrupt(void *unused) {
  (void)unused;
  return steps_left-- == 0;
}

/* Lets the next statement fail at the nth occasion. */
static void arm(sqlite3 *db, int way, int n) {
  if (way == 0) {
    steps_left = n;
    sqlite3_progress_handler(db, 5, interrupt, NULL);
  } else {
    sqlite3_hard_heap_limit64(sqlite3_memory_used() + 64 * n);
  }
}

static void disarm(sqlite3 *db) {
  sqlite3_progress_handler(db, 0, NULL, NULL);
  sqlite3_hard_heap_limit64(0);
}

static void end(sqlite3 *db, int n) {
  if (sqlite3_get_autocommit(db))
    return; /* SQLite has rolled back everything, or there was no BEGIN */
  must(db, n % 3 == 0 ? "ROLLBACK" : "COMMIT");
}

/* True when the statement succeeded: then there is no later occasion. */
static bool break_off(sqlite3 *db, const char *prelude, const char *statement, int way, int n) {
  static const int expected[WAYS] = {SQLITE_INTERRUPT, SQLITE_NOMEM};
  sqlite3_stmt *stmt = NULL;
  must(db, prelude);
  if (sqlite3_prepare_v2(db, statement, -1, &stmt, NULL) != SQLITE_OK)
    exit(1);
  sqlite3_bind_int(stmt, 1, n);
  arm(db, way, n);
  int rc = sqlite3_step(stmt);
  disarm(db);
  sqlite3_finalize(stmt);
  check(rc == SQLITE_DONE || rc == expected[way], "the error is what was done to it", rc);
  check(differences(db) == 0, "the tables are the same after the statement", n);
  end(db, n);
  check(differences(db) == 0, "the tables are the same after the transaction", n);
  return rc == SQLITE_DONE;
}

static void break_off_all(sqlite3 *db, int way, int *faults) {
  for (size_t p = 0; p < sizeof preludes / sizeof preludes[0]; p++) {
    for (size_t s = 0; s < sizeof statements / sizeof statements[0]; s++) {
      int n = 0;
      while (!break_off(db, preludes[p], statements[s], way, n) && n < 10000)
        n++;
      check(n < 10000, "the statement succeeds at last", (int)s);
      *faults += n;
    }
  }
}

static void close_in_transaction(void) {
  sqlite3 *stays = open_with_map(), *goes = open_with_map();
  must(stays, "DELETE FROM kv; INSERT INTO kv VALUES (1, 'kept'), (2, 'kept too')");
  must(goes, "BEGIN; DELETE FROM kv; INSERT INTO kv VALUES (3, 'lost')");
  check(sqlite3_close(goes) == SQLITE_OK, "a connection closes with its transaction open", 0);
  check(number(stays, "SELECT count(*) FROM kv WHERE value LIKE 'kept%'") == 2, "its changes are gone", 0);
  must(stays, "UPDATE kv SET value = 'free' WHERE key < 3");
  check(number(stays, "SELECT count(*) FROM kv WHERE value = 'free'") == 2, "and its shards are free", 0);
  sqlite3_close(stays);
}

int main(void) {
  sqlite3 *db = open_with_map();
  int faults[WAYS] = {0, 0};
  must(db, "CREATE TABLE n(key PRIMARY KEY, value) WITHOUT ROWID;"
           "CREATE TEMP TRIGGER i AFTER INSERT ON n BEGIN INSERT OR REPLACE INTO kv VALUES (new.key, new.value); END;"
           "CREATE TEMP TRIGGER u AFTER UPDATE ON n BEGIN UPDATE kv SET value = new.value WHERE key = new.key; END;"
           "CREATE TEMP TRIGGER d AFTER DELETE ON n BEGIN DELETE FROM kv WHERE key = old.key; END;");
  for (int way = 0; way < WAYS; way++)
    break_off_all(db, way, &faults[way]);
  check(faults[0] > 0 && faults[1] > 0, "faults were injected", 0);
  printf("%d interrupts, %d times out of memory\n", faults[0], faults[1]);
  sqlite3_close(db);
  close_in_transaction();
  printf("%d passed, %d failed\n", passed, failed);
  return failed > 0;
}
