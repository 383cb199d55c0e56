/*
** embedding.c - what hosts do to their extensions: load it from many threads at once, close in any order, end threads
**
** Looks for: a first load that races; a map that dies early, late or never; a crash in an order of closing or dropping
** that SQLite allows.
*/
#include "host_kit.h"

#include <dlfcn.h>
#include <fcntl.h>

/* ------------------------------------------------------------------------------------------------------------------ */
/* Loading                                                                                                            */

enum { LOADERS = 8 };
static pthread_barrier_t barrier;

static void *load_at_once(void *arg) {
  (void)arg;
  pthread_barrier_wait(&barrier);
  sqlite3 *db = join_map("race");
  must(db, "SELECT walmap_upsert('kv', 'n', 1, 'value + 1')");
  pthread_barrier_wait(&barrier);
  expect("increments by all who loaded", LOADERS, ask(db, "SELECT value FROM kv"));
  pthread_barrier_wait(&barrier);
  must_close(db);
  return NULL;
}

/* Must be the first test: nothing is loaded yet. */
static void first_load(void) {
  pthread_t threads[LOADERS];
  pthread_barrier_init(&barrier, NULL, LOADERS);
  for (int i = 0; i < LOADERS; i++) {
    threads[i] = start(load_at_once, NULL);
  }
  for (int i = 0; i < LOADERS; i++) {
    pthread_join(threads[i], NULL);
  }
  pthread_barrier_destroy(&barrier);
  expect_no_map("maps after all who loaded have closed");
}

static const char *extension_file(void) {
  static char file[1000];
  snprintf(file, sizeof file, "%s%s", extension, strstr(extension, ".so") ? "" : ".so");
  return file;
}

/* SQLite would unload it with the connection that loaded it, a host by hand, more often than it has loaded it. */
static void unloading(void) {
  void *handle = dlopen(extension_file(), RTLD_NOW);
  for (int i = 0; handle != NULL && i < 4 * LOADERS; i++) {
    dlclose(handle);
  }
  if (handle == NULL || dlopen(extension_file(), RTLD_NOW | RTLD_NOLOAD) == NULL) {
    fail("%s", dlerror());
    return;
  }
  sqlite3 *db = join_map("unloading");
  must(db, FILL);
  must_close(db);
}

static void copy_file(const char *from, const char *to) {
  char buffer[1 << 16];
  FILE *in = fopen(from, "rb"), *out = fopen(to, "wb");
  size_t size;
  while (in != NULL && out != NULL && (size = fread(buffer, 1, sizeof buffer, in)) > 0) {
    fwrite(buffer, 1, size, out);
  }
  if (in == NULL || out == NULL || fclose(out) || fclose(in)) {
    fail("cannot copy %s to %s", from, to);
  }
}

/* From another path it is another library to the system: the one that was loaded first serves for both. */
static void two_paths(void) {
  char folder[] = "/tmp/walmap-hosts-XXXXXX", file[100];
  if (mkdtemp(folder) == NULL) {
    fail("cannot make %s", folder);
    return;
  }
  snprintf(file, sizeof file, "%s/walmap.so", folder);
  copy_file(extension_file(), file);
  const char *first_path = extension;
  sqlite3 *first = join_map("two paths");
  must(first, FILL);
  extension = file;
  sqlite3 *second = join_map("two paths");
  expect("rows seen from the other path", 1000, ask(second, "SELECT count(*) FROM kv"));
  must(second, "DELETE FROM kv WHERE key > 10");
  expect("rows after a write from the other path", 10, ask(first, "SELECT count(*) FROM kv"));
  expect("maps", 1, ask(second, "SELECT count(*) FROM walmap_stats"));
  expect("both paths on one connection", SQLITE_OK, sqlite3_load_extension(first, file, NULL, NULL));
  expect("both paths on one connection", SQLITE_OK, sqlite3_load_extension(second, first_path, NULL, NULL));
  must(first, "INSERT INTO kv VALUES(11, 11)");
  expect("rows", 11, ask(second, "SELECT walmap_len('kv')"));
  extension = first_path;
  must_close(first);
  must_close(second);
  expect_no_map("maps after two paths");
  unlink(file);
  rmdir(folder);
}

/* A sanitizer takes time, and memory of its own. */
static void many_connections(void) {
  const int connections = sanitized() ? 1000 : 10000;
  long warm = 0;
  sqlite3_int64 memory = sqlite3_memory_used();
  for (int i = 0; i < connections; i++) {
    sqlite3 *db = join_map("coming");
    must(db, "INSERT INTO kv VALUES(1, 1); INSERT INTO walmap VALUES(1, 1)");
    must_close(db);
    if (i == connections / 10) {
      warm = resident_kib();
    }
  }
  long grown = resident_kib() - warm;
  if (!sanitized() && grown > 4096 + warm / 10) {
    fail("%ld KiB more are resident after %d connections than after a tenth of them, %ld", grown, connections, warm);
  }
  expect("bytes of SQLite's memory after all connections", memory, sqlite3_memory_used());
  expect_no_map("maps after all connections");
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Many maps, and tables that go                                                                                      */

static void many_maps(void) {
  enum { MAPS = 1000 };
  char sql[200];
  sqlite3 *db = connect(":memory:"), *other = connect(":memory:");
  for (int i = 0; i < MAPS; i++) {
    snprintf(sql, sizeof sql, "CREATE VIRTUAL TABLE temp.t%d USING walmap(map='many %d')", i, i);
    must(db, sql);
    must(other, sql);
  }
  for (int round = 0; round < 3; round++) { /* one transaction over all of them */
    must(db, "BEGIN");
    for (int i = 0; i < MAPS; i++) {
      snprintf(sql, sizeof sql, "REPLACE INTO t%d VALUES(1, %d)", i, i + round);
      must(db, sql);
    }
    must(db, round == 1 ? "ROLLBACK" : "COMMIT");
  }
  sqlite3_int64 sum = 0;
  for (int i = 0; i < MAPS; i++) {
    snprintf(sql, sizeof sql, "SELECT value FROM t%d WHERE key = 1", i);
    sum += ask(other, sql);
  }
  expect("what all maps hold", (sqlite3_int64)MAPS * (MAPS - 1) / 2 + 2 * MAPS, sum);
  expect("maps", MAPS, ask(other, "SELECT count(*) FROM walmap_stats WHERE entries = 1 AND connections = 2"));
  must_close(db);
  expect("maps of one connection", MAPS, ask(other, "SELECT count(*) FROM walmap_stats WHERE connections = 1"));
  must_close(other);
  expect_no_map("maps after many");
}

/* SQLite does not let a connection drop what it reads; what others read stays until they are done. */
static void dropping(void) {
  sqlite3 *db = join_map("dropped"), *other = join_map("dropped");
  must(db, FILL);
  sqlite3_stmt *own = query(db, "SELECT value FROM kv"), *others = query(other, "SELECT value FROM kv");
  sqlite3_step(own);
  sqlite3_step(others);
  expect("DROP under an own cursor", SQLITE_LOCKED, sqlite3_exec(db, "DROP TABLE kv", NULL, NULL, NULL));
  sqlite3_reset(own);
  must(db, "DELETE FROM kv; DROP TABLE kv");
  expect("a statement on a dropped table", SQLITE_ERROR, sqlite3_step(own));
  sqlite3_finalize(own);
  must_close(db);
  int rows = 1;
  while (sqlite3_step(others) == SQLITE_ROW) {
    rows++;
  }
  expect("rows of a cursor whose map was emptied and left by another", 1000, rows);
  sqlite3_finalize(others);
  must_close(other);
  expect_no_map("maps after a drop");
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Threads that end                                                                                                   */

typedef struct heritage {
  sqlite3 *db;
  sqlite3_stmt *scan;
} heritage;

static void *leave_things_open(void *arg) {
  heritage *left = arg;
  left->db = join_map("heritage");
  must(left->db, FILL);
  left->scan = query(left->db, "SELECT value FROM kv");
  for (int i = 0; i < 10; i++) {
    sqlite3_step(left->scan);
  }
  must(left->db, "BEGIN; UPDATE kv SET value = -1 WHERE key = 1000; SAVEPOINT s; DELETE FROM kv WHERE key = 999");
  return NULL;
}

/* A cursor and a transaction go on in another thread than the one that began them, which has ended. */
static void thread_exit(void) {
  heritage left;
  pthread_join(start(leave_things_open, &left), NULL);
  sqlite3 *db = join_map("heritage");
  expect("rows that others see", 1000, ask(db, "SELECT count(*) FROM kv"));
  int rows = 10;
  while (sqlite3_step(left.scan) == SQLITE_ROW) {
    rows++;
  }
  if (rows < 999 || rows > 1000) { /* SQLite leaves open whether a cursor meets its own connection's writes */
    fail("%d rows of an inherited cursor", rows);
  }
  sqlite3_finalize(left.scan);
  must(left.db, "ROLLBACK TO s; COMMIT");
  expect("rows", 1000, ask(db, "SELECT count(*) FROM kv"));
  expect("what was committed", -1, ask(db, "SELECT value FROM kv WHERE key = 1000"));
  must_close(left.db);
  must_close(db);
  expect_no_map("maps after a thread's end");
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Orders of closing                                                                                                  */

/* sqlite3_close_v2 leaves a connection to its statements: the last one closes it. */
static void zombies(void) {
  sqlite3 *db = join_map("zombie"), *other = join_map("zombie");
  must(db, FILL);
  sqlite3_stmt *scan = query(db, "SELECT value FROM kv"), *write = query(db, "DELETE FROM kv WHERE key < 500");
  must(db, "BEGIN; DELETE FROM kv WHERE key > 500");
  sqlite3_step(scan);
  expect("sqlite3_close with statements", SQLITE_BUSY, sqlite3_close(db));
  expect("sqlite3_close_v2", SQLITE_OK, sqlite3_close_v2(db));
  expect("connections", 2, ask(other, "SELECT connections FROM walmap_stats"));
  expect("a statement that writes", SQLITE_DONE, sqlite3_step(write));
  expect("a cursor", SQLITE_ROW, sqlite3_step(scan));
  sqlite3_finalize(scan);
  sqlite3_finalize(write); /* and so the connection is closed, in the middle of its transaction */
  expect("connections", 1, ask(other, "SELECT connections FROM walmap_stats"));
  expect("rows", 1000, ask(other, "SELECT count(*) FROM kv"));
  must(other, "DELETE FROM kv");
  must_close(other);
  expect_no_map("maps after a zombie");
}

/* A function of a statement that is left open holds a snapshot of the file, until the statement ends. */
static void zombie_with_a_snapshot(void) {
  const char *file = make_file();
  sqlite3 *db = connect(file), *other = connect(file);
  must(other, "PRAGMA journal_mode = wal; CREATE VIRTUAL TABLE kv USING walmap; INSERT INTO kv VALUES(1, 1), (2, 2)");
  sqlite3_stmt *statement = query(db, "SELECT walmap_get('kv', column1) FROM (VALUES(1), (2))");
  expect("a row", SQLITE_ROW, sqlite3_step(statement));
  sqlite3_busy_timeout(other, 0);
  must(other, "UPDATE kv SET value = 3");
  expect("a checkpoint meanwhile", 1, ask(other, "PRAGMA wal_checkpoint(TRUNCATE)"));
  expect("sqlite3_close_v2", SQLITE_OK, sqlite3_close_v2(db));
  expect("a function", SQLITE_MISUSE, sqlite3_step(statement));
  sqlite3_finalize(statement);
  expect("a checkpoint after it", 0, ask(other, "PRAGMA wal_checkpoint(TRUNCATE)"));
  expect("the value", 3, ask(other, "SELECT value FROM kv WHERE key = 1"));
  must_close(other);
  remove_file();
  expect_no_map("maps after a zombie with a snapshot");
}

/* What must happen before a connection can close, in every order. */
static void orders_of_ending(void) {
  enum { ENDS = 5, ORDERS = 120 };
  for (int order = 0; order < ORDERS; order++) {
    sqlite3 *db = join_map("orders");
    must(db, FILL);
    sqlite3_stmt *scans[3] = {
        query(db, "SELECT * FROM kv"), query(db, "SELECT * FROM kv WHERE key = 5"),
        query(db, "SELECT walmap_get('kv', key), walmap_upsert('kv', 0, 1, 'value + 1') FROM kv")};
    must(db, "BEGIN; INSERT INTO kv VALUES('new', 1)");
    for (int i = 0; i < 3; i++) {
      expect("a step", SQLITE_ROW, sqlite3_step(scans[i]));
    }
    int left[ENDS] = {0, 1, 2, 3, 4};
    for (int n = ENDS, number = order; n > 0; number /= n--) {
      int i = number % n, end = left[i];
      left[i] = left[n - 1];
      if (end < 3) {
        sqlite3_reset(scans[end]);
        sqlite3_finalize(scans[end]);
      } else if (end == 3) {
        must(db, order % 2 ? "COMMIT" : "ROLLBACK");
      } else {
        sqlite3_exec(db, "DROP TABLE kv", NULL, NULL, NULL); /* which SQLite refuses while one reads */
      }
      sqlite3_db_release_memory(db);
    }
    must_close(db);
  }
  expect_no_map("maps after all orders");
}

static void releasing_memory(void) {
  sqlite3 *db = join_map("release");
  must(db, FILL);
  sqlite3_stmt *scan = query(db, "SELECT value FROM kv");
  int rows = 0;
  must(db, "BEGIN; INSERT INTO kv VALUES('new', 1)");
  while (sqlite3_step(scan) == SQLITE_ROW) {
    rows++;
    sqlite3_db_release_memory(db);
    sqlite3_release_memory(1 << 30);
  }
  if (rows < 1000 || rows > 1001) {
    fail("%d rows while memory is released", rows);
  }
  sqlite3_finalize(scan);
  must(db, "ROLLBACK; PRAGMA shrink_memory; VACUUM");
  expect("rows", 1000, ask(db, "SELECT count(*) FROM kv"));
  must_close(db);
}

int main(void) {
  static const host_test tests[] = {
      {"first load by several threads at once", first_load},
      {"unloading", unloading},
      {"two paths", two_paths},
      {"10,000 connections", many_connections},
      {"1,000 maps", many_maps},
      {"tables dropped under cursors", dropping},
      {"threads that end with cursors and transactions", thread_exit},
      {"connections that their statements outlive", zombies},
      {"a connection that a statement with a snapshot outlives", zombie_with_a_snapshot},
      {"orders of ending", orders_of_ending},
      {"memory that SQLite asks back", releasing_memory},
  };
  return run_host_tests("embedding", tests, sizeof tests / sizeof tests[0]);
}
