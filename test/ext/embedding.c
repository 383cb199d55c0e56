/*
** embedding.c - what hosts do to their extensions: load it from many threads at once, close in any order, fork, exit
**
** Looks for: a first load that races; a map that dies early, late or never; a crash in an order of closing, dropping or
** exiting that SQLite allows; a child process without its copy of the maps; damage that PRAGMA integrity_check does not
** tell. What cannot be taken back, such as the end of the process, happens in child processes.
**
** Environment: WALMAP_SO is the extension (default ./walmap); SANITIZER what it was built with
*/
#define _GNU_SOURCE /* memmem, mkdtemp, RTLD_NOLOAD */

#include "threads.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <sys/wait.h>

static pthread_t start(void *(*body)(void *), void *arg) {
  pthread_t thread;
  if (pthread_create(&thread, NULL, body, arg)) {
    fprintf(stderr, "cannot make a thread\n");
    exit(2);
  }
  return thread;
}

static sqlite3_stmt *query(sqlite3 *db, const char *sql) {
  sqlite3_stmt *stmt = NULL;
  if (sqlite3_prepare_v2(db, sql, -1, &stmt, NULL)) {
    fail("%s: %s", sql, sqlite3_errmsg(db));
  }
  return stmt;
}

/* The number that a query gives; -1 when it gives none. */
static sqlite3_int64 ask(sqlite3 *db, const char *sql) {
  sqlite3_stmt *stmt = query(db, sql);
  sqlite3_int64 answer = sqlite3_step(stmt) == SQLITE_ROW ? sqlite3_column_int64(stmt, 0) : -1;
  sqlite3_finalize(stmt);
  return answer;
}

static void expect(const char *what, sqlite3_int64 expected, sqlite3_int64 got) {
  if (got != expected) {
    fail("%s: %lld, not %lld", what, (long long)got, (long long)expected);
  }
}

/* A connection with the table kv of the map of that name. */
static sqlite3 *join_map(const char *name) {
  char sql[100];
  sqlite3 *db = connect(":memory:");
  snprintf(sql, sizeof sql, "CREATE VIRTUAL TABLE temp.kv USING walmap(map='%s')", name);
  must(db, sql);
  return db;
}

#define FILL                                                                                                           \
  "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 1000) INSERT INTO kv SELECT i, i FROM n"

static void expect_no_map(const char *when) {
  sqlite3 *db = connect(":memory:");
  expect(when, 0, ask(db, "SELECT count(*) FROM walmap_stats"));
  sqlite3_close(db);
}

static void must_close(sqlite3 *db) { expect("sqlite3_close", SQLITE_OK, sqlite3_close(db)); }

/* A database file in a folder of its own; remove_file ends both. */
static char file_folder[100], file_path[120];

static const char *make_file(void) {
  strcpy(file_folder, "/tmp/walmap-hosts-XXXXXX");
  if (mkdtemp(file_folder) == NULL) {
    fprintf(stderr, "cannot make a folder\n");
    exit(2);
  }
  snprintf(file_path, sizeof file_path, "%s/file.db", file_folder);
  return file_path;
}

static void remove_file(void) {
  unlink(file_path);
  rmdir(file_folder);
}

/* Whether each access is watched; test/run tells. */
static bool sanitized(void) {
  const char *sanitizer = getenv("SANITIZER");
  return sanitizer != NULL && *sanitizer != 0;
}

static long resident_kib(void) {
  long pages = 0;
  FILE *file = fopen("/proc/self/statm", "r");
  if (file == NULL || fscanf(file, "%*d %ld", &pages) != 1) {
    fail("cannot read /proc/self/statm");
  }
  fclose(file);
  return pages * (sysconf(_SC_PAGESIZE) / 1024);
}

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

/* ------------------------------------------------------------------------------------------------------------------ */
/* Processes                                                                                                          */

/* Runs the body in a child, which exits as a program does, and must do so with code 0. */
static void in_child(const char *what, void (*body)(void)) {
  fflush(NULL);
  pid_t child = fork();
  if (child == 0) {
    atomic_store(&failures, 0);
    body();
    exit(atomic_load(&failures) > 0);
  }
  int status = -1;
  if (child < 0 || waitpid(child, &status, 0) != child || !WIFEXITED(status) || WEXITSTATUS(status) != 0) {
    fail("%s: the child ended with status %x", what, (unsigned)status);
  }
}

static sqlite3 *inherited;

static void use_copies(void) {
  sqlite3 *db = join_map("forked");
  expect("rows of the child's copy", 1000, ask(db, "SELECT count(*) FROM kv"));
  must(db, "DELETE FROM kv WHERE key <= 300; INSERT INTO kv VALUES('child', 1); SELECT length(walmap_compact('kv'))");
  expect("rows by an inherited connection", 701, ask(inherited, "SELECT count(*) FROM kv"));
  must(inherited, "BEGIN; DELETE FROM kv; ROLLBACK; REPLACE INTO kv VALUES('child', 2)");
  expect("what it wrote", 2, ask(db, "SELECT value FROM kv WHERE key = 'child'"));
  must_close(inherited);
  must_close(db);
  expect_no_map("maps in the child");
}

/* No thread but one, no transaction: the child has a copy of all maps, and neither sees what the other does. */
static void forking(void) {
  inherited = join_map("forked");
  must(inherited, FILL);
  in_child("a child with copies", use_copies);
  expect("rows after the child", 1000, ask(inherited, "SELECT count(*) FROM kv"));
  must(inherited, "DELETE FROM kv WHERE key = 1");
  expect("rows", 999, ask(inherited, "SELECT count(*) FROM kv"));
  must_close(inherited);
}

static void *hammer(void *arg) {
  (void)arg;
  sqlite3 *db = join_map("hammered");
  for (;;) { /* with a deadlock now and then */
    sqlite3_exec(db, "BEGIN; REPLACE INTO kv VALUES(abs(random()) % 1000, 1); SELECT sum(value) FROM kv; COMMIT", NULL,
                 NULL, NULL);
    sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL);
  }
  return NULL;
}

/* The C library runs its exit handlers while other threads go on. */
static void exit_beside_threads(void) {
  sqlite3 *db = join_map("hammered");
  for (int i = 0; i < 2; i++) {
    start(hammer, NULL);
  }
  while (ask(db, "SELECT count(*) FROM kv") < 100) {
  }
  exit(0);
}

static sqlite3 *last;

static void use_at_exit(void) {
  must(last, "INSERT INTO kv VALUES('exit', 1); SELECT length(walmap_snapshot('kv'))");
  if (ask(last, "SELECT count(*) FROM kv") != 1001 || sqlite3_close(last)) {
    _exit(3);
  }
}

/* A handler of the host that was there before the extension runs after the extension's own would. */
static void use_in_exit_handler(void) {
  atexit(use_at_exit);
  last = join_map("last");
  must(last, FILL);
}

static void shut_down(void) {
  for (int i = 0; i < 3; i++) {
    sqlite3 *db = join_map("shut down");
    must(db, FILL);
    must_close(db);
    expect("sqlite3_shutdown", SQLITE_OK, sqlite3_shutdown());
  }
}

static void ending_processes(void) {
  for (int i = 0; i < (sanitized() ? 3 : 10); i++) {
    in_child("exit beside threads", exit_beside_threads);
  }
  in_child("exit handler", use_in_exit_handler);
  in_child("sqlite3_shutdown", shut_down);
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Stray writes                                                                                                       */

#define NEEDLE "a key that is written nowhere else but in a map"

/* Changes a byte of each copy of the needle in the process's writable memory, but for one: the constant's. */
static int stray_write(void) {
  int found = 0, memory = open("/proc/self/mem", O_RDWR);
  FILE *maps = fopen("/proc/self/maps", "r");
  char line[500];
  while (maps != NULL && fgets(line, sizeof line, maps)) {
    unsigned long begin, end;
    char mode[5];
    if (sscanf(line, "%lx-%lx %4s", &begin, &end, mode) != 3 || mode[1] != 'w' || end - begin > 64 << 20) {
      continue;
    }
    char *copy = malloc(end - begin);
    ssize_t size = copy ? pread(memory, copy, end - begin, (off_t)begin) : 0;
    for (char *at = copy; size > 0 && (at = memmem(at, (size_t)(copy + size - at), NEEDLE, sizeof NEEDLE - 1)); at++) {
      found += pwrite(memory, "?", 1, (off_t)(begin + (unsigned long)(at - copy))) == 1;
    }
    free(copy);
  }
  fclose(maps);
  close(memory);
  return found;
}

static void integrity(void) {
  sqlite3 *db = join_map("stray");
  must(db, FILL);
  must(db, "INSERT INTO kv VALUES('" NEEDLE "', 1)");
  if (stray_write() == 0) {
    fail("the key is not found in memory");
  }
  sqlite3_stmt *check = query(db, "PRAGMA integrity_check");
  expect("a row", SQLITE_ROW, sqlite3_step(check));
  const char *told = (const char *)sqlite3_column_text(check, 0);
  bool asked = sqlite3_libversion_number() >= 3044000; /* before that SQLite does not ask virtual tables */
  if (asked ? strstr(told, "walmap table temp.kv: shard ") != told : strcmp(told, "ok") != 0) {
    fail("PRAGMA integrity_check after a stray write: %s", told);
  }
  sqlite3_finalize(check);
  must_close(db);
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Beside the host's own modules and statements                                                                       */

/* A module whose xCreate runs the statements that are its argument, as FTS4's reads the table that it indexes. */
static int runner_create(sqlite3 *db, void *aux, int argc, const char *const *argv, sqlite3_vtab **out, char **err) {
  (void)aux;
  char *sql = argc > 3 ? sqlite3_mprintf("%.*s", (int)strlen(argv[3]) - 2, argv[3] + 1) : NULL; /* without its quotes */
  int rc = sqlite3_exec(db, sql, NULL, NULL, err);
  sqlite3_free(sql);
  if (rc == SQLITE_OK)
    rc = sqlite3_declare_vtab(db, "CREATE TABLE x(a)");
  if (rc == SQLITE_OK)
    *out = calloc(1, sizeof **out);
  return rc;
}

static int runner_disconnect(sqlite3_vtab *vtab) {
  free(vtab);
  return SQLITE_OK;
}

static int runner_connect(sqlite3 *db, void *aux, int argc, const char *const *argv, sqlite3_vtab **out, char **err) {
  (void)aux, (void)argc, (void)argv, (void)err;
  *out = calloc(1, sizeof **out);
  return sqlite3_declare_vtab(db, "CREATE TABLE x(a)");
}

static sqlite3 *connect_with_runner(const char *file) {
  static const sqlite3_module module = {
      .xCreate = runner_create,
      .xConnect = runner_connect,
      .xDestroy = runner_disconnect,
      .xDisconnect = runner_disconnect,
  };
  sqlite3 *db = connect(file);
  expect("sqlite3_create_module", SQLITE_OK, sqlite3_create_module(db, "runner", &module, NULL));
  return db;
}

/* A table that is first used while another one is created is not made anew. */
static void creations_of_others(void) {
  const char *file = make_file();
  sqlite3 *db = connect_with_runner(file), *other = connect_with_runner(file);
  must(db, "CREATE VIRTUAL TABLE temp.mine USING walmap; INSERT INTO mine VALUES(1, 1)");
  must(db, "CREATE VIRTUAL TABLE kv USING walmap(durable=0); INSERT INTO kv VALUES(1, 1)");
  must(other, "CREATE VIRTUAL TABLE r1 USING runner('SELECT count(*) FROM kv')");
  expect("rows that another connection sees", 1, ask(other, "SELECT count(*) FROM kv"));
  must(db, "VACUUM; CREATE VIRTUAL TABLE temp.kv USING runner('SELECT count(*) FROM main.kv')");
  expect("rows beside a table of the same name", 1, ask(db, "SELECT count(*) FROM main.kv"));
  must(db, "BEGIN; CREATE TEMP TABLE z(a); ROLLBACK; CREATE VIRTUAL TABLE r2 USING runner('SELECT * FROM mine')");
  expect("rows of a temp table", 1, ask(db, "SELECT count(*) FROM mine"));
  must(db, "CREATE VIRTUAL TABLE r3 USING runner('SELECT * FROM walmap')");
  must(db, "CREATE VIRTUAL TABLE r4 USING runner('DROP TABLE main.kv; CREATE VIRTUAL TABLE main.kv USING "
           "walmap(durable=0)')");
  expect("rows of a table that is made anew meanwhile", 0, ask(other, "SELECT count(*) FROM kv"));
  must_close(other);
  must_close(db);
  remove_file();
}

/*
** A module whose xCommit looks at a durable table through another connection: the file is committed, the map not yet.
*/
static struct gap {
  sqlite3 *reader;
  bool waits; /* for the reader's result, in vain: it comes from this thread */
  pthread_t thread;
  int rc;
} gap;

static void *read_in_gap(void *unused) {
  (void)unused;
  gap.rc = sqlite3_exec(gap.reader, "SELECT * FROM kv", NULL, NULL, NULL);
  return NULL;
}

static int gap_commit(sqlite3_vtab *vtab) {
  (void)vtab;
  if (!gap.reader)
    return SQLITE_OK; /* CREATE commits as well */
  if (gap.waits) {
    read_in_gap(NULL);
  } else {
    gap.thread = start(read_in_gap, NULL);
    sqlite3_sleep(50);
  }
  return SQLITE_OK;
}

static int gap_begin(sqlite3_vtab *vtab) {
  (void)vtab;
  return SQLITE_OK;
}

static int gap_update(sqlite3_vtab *vtab, int argc, sqlite3_value **argv, sqlite3_int64 *rowid) {
  (void)vtab, (void)argc, (void)argv, (void)rowid;
  return SQLITE_OK;
}

/* Who reads a durable table gets no error between the commit of the file and that of the map. */
static void reads_between_commits(void) {
  static const sqlite3_module module = {
      .xConnect = runner_connect,
      .xCreate = runner_connect,
      .xDisconnect = runner_disconnect,
      .xDestroy = runner_disconnect,
      .xUpdate = gap_update,
      .xBegin = gap_begin,
      .xCommit = gap_commit,
  };
  const char *file = make_file();
  sqlite3 *db = connect(file);
  must(db,
       "PRAGMA journal_mode=wal; CREATE VIRTUAL TABLE kv USING walmap(busy_timeout=0); INSERT INTO kv VALUES(1, 0)");
  expect("sqlite3_create_module", SQLITE_OK, sqlite3_create_module(db, "gap", &module, NULL));
  must(db, "CREATE VIRTUAL TABLE temp.first USING gap");
  for (int i = 1; i <= 2; i++) {
    gap = (struct gap){.reader = connect(file), .waits = i == 2, .rc = -1};
    must(db, "BEGIN; INSERT INTO first VALUES(1); UPDATE kv SET value = value + 1; COMMIT");
    if (!gap.waits) {
      pthread_join(gap.thread, NULL);
    }
    expect("a read between two commits", SQLITE_OK, gap.rc);
    expect("the value", i, ask(gap.reader, "SELECT value FROM kv"));
    must_close(gap.reader);
  }
  must_close(db);
  remove_file();
}

/* A CREATE that waits for the file has not begun, and a table that another connection made meanwhile is not its own. */
static void creation_that_waits(void) {
  const char *file = make_file();
  sqlite3 *db = connect(file), *other = connect(file);
  sqlite3_busy_timeout(db, 0);
  must(other, "BEGIN IMMEDIATE");
  sqlite3_stmt *waits = query(db, "CREATE VIRTUAL TABLE kv USING walmap");
  expect("the locked file", SQLITE_BUSY, sqlite3_step(waits));
  must(other, "CREATE VIRTUAL TABLE kv USING walmap; INSERT INTO kv VALUES(1, 1); COMMIT");
  expect("rows beside the statement that waits", 1, ask(db, "SELECT count(*) FROM kv"));
  expect("its next try", SQLITE_ERROR, sqlite3_step(waits));
  sqlite3_finalize(waits);
  expect("rows that the other sees", 1, ask(other, "SELECT count(*) FROM kv"));
  must_close(other);
  must_close(db);
  remove_file();
}

/* The main database by another name, given before and after tables were used. */
static void main_by_another_name(void) {
  const char *file = make_file();
  sqlite3 *db = connect(file), *other = connect(file);
  must(other, "CREATE VIRTUAL TABLE kv USING walmap; INSERT INTO kv VALUES(1, 1); INSERT INTO walmap VALUES(1, 1)");
  sqlite3_db_config(db, SQLITE_DBCONFIG_MAINDBNAME, "boss");
  sqlite3_db_config(other, SQLITE_DBCONFIG_MAINDBNAME, "head");
  must(db, "INSERT INTO walmap VALUES(2, 2), (3, 3)");
  must(db, "CREATE VIEW boss.v AS SELECT * FROM walmap");
  expect("entries of a default map", 2, ask(db, "SELECT count(*) FROM walmap"));
  expect("entries of the other's", 1, ask(other, "SELECT count(*) FROM walmap"));
  expect("entries by a function", 1, ask(other, "SELECT walmap_len('walmap')"));
  expect("a view of the file's on it", SQLITE_ERROR, sqlite3_exec(db, "SELECT * FROM v", NULL, NULL, NULL));
  expect("entries of the file's table", 1, ask(db, "SELECT count(*) FROM boss.kv"));
  must(db, "DROP VIEW v; BEGIN; ALTER TABLE boss.kv RENAME TO kv2; SAVEPOINT s; DROP TABLE kv2; ROLLBACK TO s; COMMIT");
  expect("entries by a name that the other changed", 1, ask(other, "SELECT walmap_len('head.kv2')"));
  must_close(other);
  must_close(db);
  remove_file();

  db = connect(":memory:");
  must(db, "CREATE VIRTUAL TABLE kv USING walmap; INSERT INTO kv VALUES(1, 1)");
  sqlite3_db_config(db, SQLITE_DBCONFIG_MAINDBNAME, "boss");
  must(db, "VACUUM"); /* after which tables are connected anew */
  expect("entries of a private map", 1, ask(db, "SELECT count(*) FROM kv"));
  expect("the same by a function", 1, ask(db, "SELECT walmap_len('boss.kv') * walmap_len('main.kv')"));
  must(db, "BEGIN; DROP TABLE kv; CREATE VIRTUAL TABLE boss.kv USING walmap; COMMIT");
  expect("entries of one that is made anew", 0, ask(db, "SELECT count(*) FROM kv"));
  must_close(db);
}

static int deny_control(void *unused, int code, const char *first, const char *second, const char *schema,
                        const char *trigger) {
  (void)unused, (void)code, (void)second, (void)schema, (void)trigger;
  return first != NULL && strcmp(first, "walmap_control") == 0 ? SQLITE_DENY : SQLITE_OK;
}

/*
** The control table's name belongs to a table of the host, or may not be used. What functions keep would hinder
** sqlite3_close then, so they must keep nothing.
*/
static void control_by_another(void) {
  static const char *const takers[] = {"", "CREATE TABLE walmap_control(a)",
                                       "CREATE VIEW walmap_control AS SELECT 1 AS a"};
  for (size_t i = 0; i < sizeof takers / sizeof takers[0]; i++) {
    sqlite3 *db = connect(":memory:");
    must(db, takers[i]);
    must(db, "CREATE VIRTUAL TABLE temp.kv USING walmap; INSERT INTO kv VALUES(1, 1)");
    if (i == 0) {
      sqlite3_set_authorizer(db, deny_control, NULL);
    } else {
      must(db, "BEGIN; CREATE VIRTUAL TABLE main.kv2 USING walmap; INSERT INTO kv2 VALUES(1, 1); SAVEPOINT s;"
               "DROP TABLE kv2; DROP TABLE temp.kv; ROLLBACK TO s; COMMIT");
      expect("entries of a table after ROLLBACK TO", 1, ask(db, "SELECT count(*) FROM kv2"));
    }
    expect("a result by functions", 5,
           ask(db, "SELECT walmap_get('kv', 1) + walmap_set('kv', 2, 2) + walmap_upsert('kv', 1, 0, 'value + 1')"));
    must_close(db);
  }
}

/* The same for a durable table that COMMIT finds without an object: sqlite3_close finds no statement of it either. */
static void closing_after_rollback_to(void) {
  const char *file = make_file();
  sqlite3 *db = connect(file);
  must(db, "CREATE TABLE walmap_control(a); CREATE VIRTUAL TABLE kv USING walmap; INSERT INTO kv VALUES(1, 1)");
  must_close(db);
  db = connect(file);
  must(db, "BEGIN; INSERT INTO kv VALUES(2, 2); SAVEPOINT s; DROP TABLE kv; ROLLBACK TO s; COMMIT");
  must_close(db);
  db = connect(file);
  expect("rows", 2, ask(db, "SELECT count(*) FROM kv"));
  must_close(db);
  remove_file();
}

/* Each transaction makes the file's table anew, in one of several ways, with the number of the change in it. */
enum { CHANGES = 300 };
static atomic_int changes_begun, changes_done;

static void *change_tables(void *arg) {
  static const char *const ways[] = {
      "DROP TABLE kv; CREATE VIRTUAL TABLE kv USING walmap; INSERT INTO kv VALUES(1, %d)",
      "ALTER TABLE kv RENAME TO old; CREATE VIRTUAL TABLE kv USING walmap; INSERT INTO kv VALUES(1, %d); DROP TABLE "
      "old",
      "CREATE VIRTUAL TABLE new USING walmap; INSERT INTO new VALUES(1, %d); DROP TABLE kv; ALTER TABLE new RENAME TO "
      "kv",
      "UPDATE kv SET value = %d; SAVEPOINT s; DROP TABLE kv; CREATE VIRTUAL TABLE kv USING walmap; ROLLBACK TO s",
  };
  for (int i = 1; i <= CHANGES; i++) {
    char sql[200];
    atomic_store(&changes_begun, i);
    must(arg, "BEGIN IMMEDIATE");
    snprintf(sql, sizeof sql, ways[i * 7 / 3 % 4], i);
    must(arg, sql);
    must(arg, "COMMIT");
    atomic_store(&changes_done, i);
  }
  return NULL;
}

/* Whatever is committed when a statement begins, it sees, by the table as by functions. */
static void *read_changing_tables(void *arg) {
  sqlite3 *db = connect(arg);
  while (atomic_load(&changes_done) < CHANGES) {
    for (int i = 0; i < 3; i++) {
      static const char *const ways[] = {"SELECT value FROM kv WHERE key = 1", "SELECT walmap_get('kv', 1)",
                                         "SELECT walmap_get(key) FROM kv"};
      int least = atomic_load(&changes_done);
      sqlite3_int64 got = ask(db, ways[i]);
      if (got < least || got > atomic_load(&changes_begun)) {
        fail("%s: change %lld, after %d was committed", ways[i], (long long)got, least);
      }
    }
  }
  must_close(db);
  return NULL;
}

static void tables_made_anew(void) {
  static const char *const journals[] = {"PRAGMA journal_mode = delete", "PRAGMA journal_mode = wal"};
  for (int i = 0; i < 2; i++) {
    sqlite3 *db = connect(make_file());
    must(db, journals[i]);
    must(db, "PRAGMA synchronous = off; CREATE VIRTUAL TABLE kv USING walmap; INSERT INTO kv VALUES(1, 0)");
    atomic_store(&changes_begun, 0);
    atomic_store(&changes_done, 0);
    pthread_t threads[] = {start(change_tables, db), start(read_changing_tables, file_path),
                           start(read_changing_tables, file_path)};
    for (int t = 0; t < 3; t++) {
      pthread_join(threads[t], NULL);
    }
    expect("maps", 1, ask(db, "SELECT count(*) FROM walmap_stats"));
    must_close(db);
    remove_file();
  }
}

static void *interrupt_later(void *db) {
  usleep(100000);
  sqlite3_interrupt(db);
  return NULL;
}

static double seconds_now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* sqlite3_interrupt() ends a wait for another transaction long before its time is over. */
static void interrupted_waits(void) {
  static const char *const waits[] = {
      "UPDATE kv SET value = 3 WHERE key = 1",
      "SELECT walmap_set('kv', 1, 3)",
      "SELECT walmap_restore('kv', walmap_snapshot('kv'))",
      "SELECT walmap_compact('kv')",
      "PRAGMA integrity_check", /* waits from SQLite 3.44 on */
  };
  sqlite3 *db = join_map("waits"), *other = join_map("waits");
  must(other, "INSERT INTO kv VALUES(1, 1); BEGIN; UPDATE kv SET value = 2; SELECT count(*) FROM kv");
  for (int i = 0; i < (sqlite3_libversion_number() < 3044000 ? 4 : 5); i++) {
    double before = seconds_now();
    pthread_t thread = start(interrupt_later, db);
    expect(waits[i], SQLITE_INTERRUPT, sqlite3_exec(db, waits[i], NULL, NULL, NULL));
    pthread_join(thread, NULL);
    if (seconds_now() - before > 4) {
      fail("%s: interrupted after %.1f s", waits[i], seconds_now() - before);
    }
  }
  must(other, "COMMIT");
  must(db, waits[0]);
  must_close(other);
  must_close(db);
}

/* ------------------------------------------------------------------------------------------------------------------ */

static const struct {
  const char *name;
  void (*run)(void);
} tests[] = {
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
    {"fork", forking},
    {"ends of processes", ending_processes},
    {"stray writes", integrity},
    {"creations of other modules' tables", creations_of_others},
    {"a creation that waits", creation_that_waits},
    {"reads between the commits of file and map", reads_between_commits},
    {"a main database by another name", main_by_another_name},
    {"a control table by another", control_by_another},
    {"closing after ROLLBACK TO", closing_after_rollback_to},
    {"tables that are made anew beside readers", tables_made_anew},
    {"waits that are interrupted", interrupted_waits},
};

int main(void) {
  int passed = 0, failed = 0;
  take_settings("hosts", NULL);
  for (size_t i = 0; i < sizeof tests / sizeof tests[0]; i++) {
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
