/*
** host.c - what a platform may do in its own way, asked of an extension that is loaded there
**
**    host LIBRARY COPY      two paths of the extension, the second a copy of the first, without suffix
**
** Threads that count in one map; a writer that waits as long as busy_timeout says; a restore with threads; images in
** files with names that are not ASCII, that replace one another, and that are open meanwhile; the first library of the
** process, which serves those that load a copy; a library that stays after its last connection. It links only with
** SQLite and pthread, so that it can be built for a platform without a test library.
*/
#include <pthread.h>
#include <sqlite3.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>

static int passed, failed;

static void check(const char *what, bool good, const char *got) {
  printf("%s %s%s%s\n", good ? "ok" : "FAILED", what, good ? "" : ": ", good ? "" : got);
  if (good)
    passed++;
  else
    failed++;
}

static const char *library, *copy;

static sqlite3 *open_with(const char *path) {
  sqlite3 *db;
  char *error = NULL;
  if (sqlite3_open(":memory:", &db) != SQLITE_OK || sqlite3_enable_load_extension(db, 1) != SQLITE_OK ||
      sqlite3_load_extension(db, path, NULL, &error) != SQLITE_OK) {
    printf("%s: %s\n", path, error ? error : sqlite3_errmsg(db));
    exit(1);
  }
  return db;
}

/* The first column of the last row, or the error; valid until the next call of the same thread's turn. */
static char *ask(sqlite3 *db, char *answer, size_t size, const char *sql) {
  *answer = 0;
  while (*sql != 0) {
    sqlite3_stmt *statement;
    if (sqlite3_prepare_v2(db, sql, -1, &statement, &sql) == SQLITE_OK && statement == NULL)
      break;
    int rc;
    while ((rc = sqlite3_step(statement)) == SQLITE_ROW)
      snprintf(answer, size, "%s", (const char *)sqlite3_column_text(statement, 0));
    if (rc != SQLITE_DONE) {
      snprintf(answer, size, "%s", sqlite3_errmsg(db));
      sqlite3_finalize(statement);
      break;
    }
    sqlite3_finalize(statement);
  }
  return answer;
}

static void expect(const char *what, sqlite3 *db, const char *sql, const char *expected) {
  char answer[300];
  ask(db, answer, sizeof answer, sql);
  check(what, strcmp(answer, expected) == 0, answer);
}

#define OPEN_MAP "CREATE VIRTUAL TABLE temp.kv USING walmap(map='m');"

static double now(void) {
  struct timeval t;
  gettimeofday(&t, NULL);
  return (double)t.tv_sec + (double)t.tv_usec / 1e6;
}

enum { THREADS = 4, INCREMENTS = 3000 };

static void *count(void *unused) {
  (void)unused;
  char answer[300];
  sqlite3 *db = open_with(library);
  ask(db, answer, sizeof answer, OPEN_MAP);
  for (int i = 0; i < INCREMENTS; i++)
    ask(db, answer, sizeof answer, "SELECT walmap_upsert('kv', 'n', 1, 'value + 1')");
  sqlite3_close(db);
  return NULL;
}

static void test_threads(sqlite3 *db) {
  pthread_t threads[THREADS];
  for (int i = 0; i < THREADS; i++)
    pthread_create(&threads[i], NULL, count, NULL);
  for (int i = 0; i < THREADS; i++)
    pthread_join(threads[i], NULL);
  char all[20];
  snprintf(all, sizeof all, "%d", THREADS * INCREMENTS);
  expect("no increment of several threads is lost", db, "SELECT value FROM kv WHERE key = 'n'", all);
}

static void test_timeout(sqlite3 *db) {
  sqlite3 *other = open_with(library);
  expect("a writer", db, "BEGIN; INSERT OR REPLACE INTO kv VALUES('n', 0); SELECT 'holds'", "holds");
  double begin = now();
  char answer[300], took[60];
  ask(other, answer, sizeof answer, OPEN_MAP "PRAGMA busy_timeout=300; INSERT OR REPLACE INTO kv VALUES('n', 1)");
  double seconds = now() - begin;
  snprintf(took, sizeof took, "%.3f s", seconds);
  check("another one gives up", strstr(answer, "(busy_timeout 300 ms)") != NULL, answer);
  check("after its busy_timeout", seconds >= 0.29 && seconds < 3, took);
  expect("the first one goes on", db, "COMMIT; SELECT value FROM kv WHERE key = 'n'", "0");
  sqlite3_close(other);
}

static void test_files(sqlite3 *db) {
  expect("200000 rows", db,
         "INSERT OR REPLACE INTO kv WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < 200000) "
         "SELECT i, 'value ' || i FROM c; DELETE FROM kv WHERE key = 'n'; SELECT walmap_len('kv')",
         "200000");
  expect(
      "an image in a file whose name is not ASCII", db,
      "SELECT walmap_snapshot_file('kv', 'gr\xc3\xb6\xc3\x9f\x65 \xe6\x97\xa5\xe6\x9c\xac \xf0\x9f\x97\xba.img') > 0",
      "1");
  expect(
      "is replaced", db,
      "DELETE FROM kv WHERE key > 100000;"
      "SELECT walmap_snapshot_file('kv', 'gr\xc3\xb6\xc3\x9f\x65 \xe6\x97\xa5\xe6\x9c\xac \xf0\x9f\x97\xba.img') > 0",
      "1");
  expect("and comes back", db,
         "SELECT walmap_clear('kv');"
         "SELECT walmap_restore_file('kv', 'gr\xc3\xb6\xc3\x9f\x65 \xe6\x97\xa5\xe6\x9c\xac \xf0\x9f\x97\xba.img')",
         "100000");
  expect("sound", db, "PRAGMA temp.integrity_check('kv')", "ok");
  expect("a restore by several threads", db,
         "CREATE TABLE i AS SELECT walmap_snapshot('kv') AS image; SELECT walmap_restore('kv', image) FROM i",
         "100000");
  expect("a folder that is not there", db, "SELECT walmap_snapshot_file('kv', 'no/such/file')",
         "walmap_snapshot_file: no/such/file: No such file or directory");
  expect("a folder is no file", db, "SELECT walmap_snapshot_file('kv', '.')",
         "walmap_snapshot_file: .: not a regular file");

  /* While another handle has the file open: POSIX replaces it, Windows refuses and leaves it as it was */
  FILE *image = fopen("open.img", "wb");
  fputs("old", image);
  fflush(image);
  char answer[300], content[4] = "";
  ask(db, answer, sizeof answer, "SELECT walmap_snapshot_file('kv', 'open.img') > 3");
  fclose(image);
  image = fopen("open.img", "rb");
  bool is_old = fread(content, 1, 3, image) == 3 && memcmp(content, "old", 3) == 0;
  fclose(image);
#ifdef _WIN32
  check("a file that is open is not replaced",
        is_old && strcmp(answer, "walmap_snapshot_file: open.img: Permission denied") == 0, answer);
  expect("a device is no file", db, "SELECT walmap_snapshot_file('kv', 'NUL')",
         "walmap_snapshot_file: NUL: not a regular file");
#else
  check("a file that is open is replaced", !is_old && strcmp(answer, "1") == 0, answer);
#endif
}

static void test_libraries(sqlite3 *db) {
  expect("a map of the first library", db, "SELECT walmap_set('kv', 'who', 'first'); SELECT walmap_get('kv', 'who')",
         "first");
  sqlite3 *other = open_with(copy);
  expect("is that of a copy, too", other, OPEN_MAP "SELECT walmap_get('kv', 'who')", "first");
  sqlite3_close(other);
}

int main(int argc, char **argv) {
  if (argc != 3)
    return 2;
  library = argv[1];
  copy = argv[2];
  setvbuf(stdout, NULL, _IONBF, 0);
  sqlite3 *db = open_with(library);
  expect("loads", db, OPEN_MAP "SELECT typeof(walmap_version())", "text");
  test_threads(db);
  test_timeout(db);
  test_files(db);
  test_libraries(db);
  sqlite3_close(db);
  db = open_with(library);
  expect("loads again after the last connection", db, "SELECT walmap_set('walmap', 'a', 1); SELECT walmap_get('a')",
         "1");
  sqlite3_close(db);
  printf("%d passed, %d failed\n", passed, failed);
  return failed != 0;
}
