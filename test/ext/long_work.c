/*
** long_work.c - long work that does not answer an interrupt, or that leaves something of itself behind
**
** Statements that work on some 20 MiB within one call, where SQLite runs no opcode of its own: images, restores,
** changes, compaction, scans that skip, long lists of keys, a checkpoint, and the opening of a durable table. A
** progress handler counts how often it is asked: as often as the work is long. Then it ends the statement at its first,
** its middle and a late call, in two ways: by its result, and by sqlite3_interrupt; after that it may be asked once
** more at most. So what passes between an interrupt and the end is bounded by work, whatever the clock says. The
** statement has changed nothing then, and succeeds afterwards.
**
** One processor is used, so that a restore has one thread. A last part has as many as there are, and only looks at what
** is left.
**
** Usage: long_work    Environment: WALMAP_SO is the extension (default ./walmap)
*/
#define _GNU_SOURCE /* sched_setaffinity, mkdtemp */
#include <sched.h>
#include <sqlite3.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "temp_folder.h"

#define DATABASE_FILE "long.db"
#define IMAGE_FILE "long.image"

enum { OPCODES = 100 }; /* between two calls of the progress handler */

typedef struct work {
  const char *before; /* SQL that runs each time before it */
  const char *sql;
  int least; /* calls of the progress handler */
  enum {
    COMPACTS = 1,
    REOPENS, /* on a connection that is opened for it, nothing is in memory yet */
    COMMITS  /* what `before` has begun */
  } kind;
} work;

#define ROWS(to) "WITH c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < " #to ") "
#define LONG_VALUE "i || '-' || hex(zeroblob(100))"

/* Of the file: a durable table, many of whose rows are dead; its log is left alone as far as housekeeping allows. */
static const char *const setup_of_file =
    "PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF;"
    "CREATE VIRTUAL TABLE durable USING walmap(shards=2);" ROWS(
        60000) "INSERT INTO durable SELECT i, " LONG_VALUE
               " FROM c;" ROWS(25000) "INSERT OR REPLACE INTO durable SELECT i, " LONG_VALUE " FROM c;";

static const char *const setup =
    "CREATE VIRTUAL TABLE temp.kv USING walmap(map='long', shards=2, auto_compact=0);"
    "CREATE VIRTUAL TABLE temp.sorted USING walmap(map='sorted', ordered=1);"
    "INSERT INTO sorted VALUES(-1, 'one row');" ROWS(80000) "INSERT INTO kv SELECT i, " LONG_VALUE " FROM c;" ROWS(
        40000) "INSERT OR REPLACE INTO kv SELECT 2 * i, " LONG_VALUE " FROM c;"
               "CREATE TEMP TABLE images(image);" ROWS(
                   80000) "INSERT INTO images SELECT walmap_image(-i, " LONG_VALUE ") FROM c;"
                          "CREATE TEMP TABLE kept(position);"
                          "INSERT INTO kept SELECT walmap_position('kv');"
                          "INSERT OR REPLACE INTO kv SELECT key, value || '.' FROM kv;"
                          "CREATE VIRTUAL TABLE temp.signs USING walmap(ordered=1); INSERT INTO signs VALUES('7', "
                          "1);" ROWS(40000) "INSERT INTO signs SELECT '#' || i, " LONG_VALUE " FROM c;"
                                            "CREATE TEMP TABLE applied AS SELECT walmap_changes('kv', position) AS c "
                                            "FROM kept;"
                                            "CREATE VIRTUAL TABLE temp.cache USING walmap(max_entries=1000);"
                                            "CREATE VIRTUAL TABLE temp.small USING walmap(max_bytes=4000000);";

/* Rows that no statement sees any more: removed, removed while a reader of another connection keeps them, expired. */
static const char *const setup_of_unseen =
    "CREATE VIRTUAL TABLE temp.removed USING walmap(shards=2, auto_compact=0);" ROWS(
        80000) "INSERT INTO removed SELECT i, " LONG_VALUE " FROM c; DELETE FROM removed;"
               "CREATE VIRTUAL TABLE temp.expired USING walmap(shards=2, auto_compact=0);" ROWS(
                   80000) "INSERT INTO expired(key, value, expires) SELECT i, " LONG_VALUE ", 1 FROM c;";
static const char *const setup_of_no_keys =
    "CREATE TEMP TABLE no_keys AS " ROWS(20000) "SELECT -1000 - i AS key FROM c";
static const char *const setup_of_kept = "CREATE VIRTUAL TABLE temp.kept_rows USING walmap(map='kept', ordered=1);";
static const char *const fill_kept = ROWS(60000) "INSERT INTO kept_rows SELECT i, i FROM c";

#define FILE_OF_IMAGE "SELECT walmap_snapshot_file('kv', '" IMAGE_FILE "')"

/* SQLite makes the list once, and xFilter looks it up a hundred times. */
#define LONG_LIST                                                                                                      \
  ROWS(100)                                                                                                            \
  "SELECT sum((SELECT count(*) FROM sorted WHERE key IN (SELECT key FROM no_keys) AND value > i)) FROM c"

static const work works[] = {
    {"", "SELECT length(walmap_snapshot('kv'))", 8},
    {"", FILE_OF_IMAGE, 8},
    {"", "SELECT sum(length(chunk)) FROM walmap_chunks('kv', 500000000)", 8},
    {"", "SELECT length(walmap_changes('kv', position)) FROM kept", 8},
    {"", "SELECT walmap_apply('sorted', c) FROM applied", 24},
    {"", "SELECT walmap_apply('durable', c) FROM applied", 24},
    {"", "SELECT count(*) FROM kv WHERE key > 'a'", 8},
    {"", "SELECT min(key) FROM kv", 8},
    {"", "SELECT count(*) FROM signs WHERE key < 0", 8},
    {"", LONG_LIST, 1500}, /* of these 800 while SQLite makes the list */
    {"", "SELECT count(*) FROM removed", 8},
    {"", "SELECT count(*) FROM expired", 8},
    {"", "SELECT count(*) FROM kept_rows", 8},
    {"", "SELECT max(key) FROM kept_rows WHERE key > 7", 8},
    {"INSERT OR REPLACE INTO kv SELECT key, value FROM kv", "SELECT walmap_reclaim('kv') >= 0", 4, COMPACTS},
    {"INSERT OR REPLACE INTO kv SELECT key, value FROM kv", "SELECT length(walmap_compact('kv'))", 8, COMPACTS},
    {"", "SELECT walmap_restore('kv', image) FROM images", 8},
    {"", "SELECT walmap_restore('kv', walmap_unchunk(1, image)) FROM images", 8},
    {"", "SELECT walmap_restore('sorted', image) FROM images", 12},
    {FILE_OF_IMAGE, "SELECT walmap_restore_file('sorted', '" IMAGE_FILE "')", 8},
    {"", "SELECT walmap_restore('durable', image) FROM images", 12},
    {"", "SELECT walmap_checkpoint('durable')", 8},
    {"BEGIN; SELECT walmap_restore('cache', image) FROM images", "COMMIT", 8, COMMITS},
    {"BEGIN; SELECT walmap_restore('small', image) FROM images", "COMMIT", 8, COMMITS},
    {"BEGIN; DELETE FROM cache; INSERT INTO cache SELECT key, 1 FROM walmap_each((SELECT image FROM images))", "COMMIT",
     8, COMMITS},
    {"", "SELECT count(*) FROM durable WHERE key = 7", 8, REOPENS},
    {"", "SELECT walmap_get('main.durable', 7)", 8, REOPENS},
    {"", "INSERT INTO main.durable VALUES(-7, 1)", 8, REOPENS},
};

/* ------------------------------------------------------------------------------------------------------------------ */

static int passed, failed;

static void judge(bool ok, const char *what, const char *sql, long n, const char *more) {
  passed += ok;
  failed += !ok;
  if (!ok && failed < 40)
    printf("FAILED: %s: %s, call %ld: %s\n", what, sql, n, more);
}

static void must(sqlite3 *db, const char *sql) {
  if (sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK)
    return;
  printf("FAILED: %s: %s\n", sql, sqlite3_errmsg(db));
  exit(1);
}

static sqlite3 *open_connection(const char *sql) {
  sqlite3 *db;
  char *err = NULL;
  if (sqlite3_open(DATABASE_FILE, &db) != SQLITE_OK || sqlite3_enable_load_extension(db, 1) != SQLITE_OK ||
      sqlite3_load_extension(db, getenv("LONG_WORK_EXTENSION"), NULL, &err) != SQLITE_OK) {
    printf("cannot begin: %s\n", err != NULL ? err : sqlite3_errmsg(db));
    exit(1);
  }
  must(db, sql);
  return db;
}

static void no_more_file(void) {
  remove(DATABASE_FILE);
  remove(DATABASE_FILE "-wal");
  remove(DATABASE_FILE "-shm");
}

/* What the tables hold, as one text: free with sqlite3_free. */
static char *content(sqlite3 *db) {
  static const char *const tables[] = {"temp.kv", "temp.sorted", "temp.cache", "temp.small", "main.durable"};
  sqlite3_str *text = sqlite3_str_new(db);
  for (size_t i = 0; i < sizeof tables / sizeof tables[0]; i++) {
    sqlite3_stmt *query;
    char *sql =
        sqlite3_mprintf("SELECT count(*), sum(key), sum(length(value)), sum(CAST(value AS INTEGER) * key %% 9973)"
                        " FROM %s",
                        tables[i]);
    if (sqlite3_prepare_v2(db, sql, -1, &query, NULL) == SQLITE_OK && sqlite3_step(query) == SQLITE_ROW) {
      for (int column = 0; column < 4; column++)
        sqlite3_str_appendf(text, "%s ", sqlite3_column_text(query, column));
    }
    sqlite3_finalize(query);
    sqlite3_free(sql);
  }
  return sqlite3_str_finish(text);
}

static long calls, end_at;
static bool by_interrupt;

static int progress(void *db) {
  if (++calls != end_at)
    return 0;
  if (by_interrupt)
    sqlite3_interrupt(db);
  return !by_interrupt;
}

static int run_with_handler(sqlite3 *db, const char *sql, long at) {
  calls = 0;
  end_at = at;
  sqlite3_progress_handler(db, OPCODES, progress, db);
  int rc = sqlite3_exec(db, sql, NULL, NULL, NULL);
  sqlite3_progress_handler(db, 0, NULL, NULL);
  return rc;
}

/* One interrupt, at call n. */
static void interrupt_at(sqlite3 *db, const work *w, long n) {
  char *before = w->kind == COMMITS ? content(db) : NULL;
  if (db != NULL)
    must(db, w->before);
  sqlite3 *fresh = w->kind == REOPENS ? open_connection("") : db;
  if (w->kind != REOPENS && w->kind != COMMITS)
    before = content(db);
  int rc = run_with_handler(fresh, w->sql, n);
  judge(rc == SQLITE_INTERRUPT, "another result", w->sql, n, sqlite3_errmsg(fresh));
  judge(calls <= n + 1, "it went on", w->sql, n, by_interrupt ? "sqlite3_interrupt" : "its result");
  judge(sqlite3_get_autocommit(fresh) != 0, "a transaction is left", w->sql, n, "");
  if (w->kind == REOPENS) {
    must(fresh, "BEGIN; SELECT key FROM durable LIMIT 1; COMMIT");
    judge(sqlite3_close(fresh) == SQLITE_OK, "it does not close", w->sql, n, "");
    return;
  }
  char *after = content(db);
  judge(strcmp(before, after) == 0, "another content", w->sql, n, after);
  sqlite3_free(before);
  sqlite3_free(after);
}

/* How many calls there are when it is not interrupted; what it changed is put back, but by a COMMIT. */
static long count_calls(sqlite3 *db, const work *w) {
  if (db != NULL)
    must(db, w->before);
  sqlite3 *fresh = w->kind == REOPENS ? open_connection("") : db;
  if (w->kind != COMMITS)
    must(fresh, "BEGIN");
  int rc = run_with_handler(fresh, w->sql, -1);
  judge(rc == SQLITE_OK, "an error", w->sql, 0, sqlite3_errmsg(fresh));
  if (w->kind != COMMITS)
    must(fresh, "ROLLBACK");
  if (w->kind == REOPENS)
    sqlite3_close(fresh);
  return calls;
}

/* `db` has the tables, or is NULL: then no connection does. */
static void try(sqlite3 *db, const work *w) {
  long all = count_calls(db, w);
  char text[64];
  snprintf(text, sizeof text, "%ld calls, not %d", all, w->least);
  judge(all >= w->least, "the handler is not asked", w->sql, all, text);
  for (int way = 0; way < 2; way++) {
    by_interrupt = way == 1;
    interrupt_at(db, w, 1);
    interrupt_at(db, w, w->kind == COMPACTS ? w->least / 2 : all / 2); /* each compaction has less to do */
    if (way == 0 && w->kind != COMPACTS)
      interrupt_at(db, w, all * 3 / 4); /* not near its end: the next time may ask some calls more or less */
  }
  by_interrupt = false;
  (void)count_calls(db, w); /* it succeeds now */
}

/* A statement that has read one row and keeps its state of the map. */
static sqlite3_stmt *keep_rows(sqlite3 *holder) {
  sqlite3_stmt *reader;
  if (sqlite3_prepare_v2(holder, "SELECT key FROM kept_rows", -1, &reader, NULL) != SQLITE_OK ||
      sqlite3_step(reader) != SQLITE_ROW) {
    printf("FAILED: no row: %s\n", sqlite3_errmsg(holder));
    exit(1);
  }
  return reader;
}

/* Those that need the tables in memory, and those that need them not to be there. */
static void try_all(void) {
  sqlite3 *db = open_connection(setup_of_file), *holder = open_connection(setup_of_kept);
  must(db, setup);
  must(db, setup_of_unseen);
  must(db, setup_of_no_keys);
  must(db, setup_of_kept);
  must(db, fill_kept);
  sqlite3_stmt *reader = keep_rows(holder);
  must(db, "DELETE FROM kept_rows");
  for (size_t i = 0; i < sizeof works / sizeof works[0]; i++) {
    if (works[i].kind != REOPENS)
      try(db, &works[i]);
  }
  sqlite3_finalize(reader);
  sqlite3_close(holder);
  judge(sqlite3_close(db) == SQLITE_OK, "it does not close", "", 0, "");
  for (size_t i = 0; i < sizeof works / sizeof works[0]; i++) {
    if (works[i].kind == REOPENS)
      try(NULL, &works[i]);
  }
  no_more_file();
}

/* Several threads restore: it may be too late for an interrupt, but there is no half of a restore. */
static void try_threads(void) {
  sqlite3 *db = open_connection(setup_of_file);
  must(db, setup);
  char *before = content(db);
  for (long n = 1; n < 12; n++) {
    const char *sql = "SELECT walmap_restore('sorted', image) FROM images";
    must(db, "BEGIN");
    int rc = run_with_handler(db, sql, n);
    judge(rc == SQLITE_OK || rc == SQLITE_INTERRUPT, "another result, threads", sql, n, sqlite3_errmsg(db));
    if (sqlite3_get_autocommit(db) == 0)
      must(db, "ROLLBACK");
    char *after = content(db);
    judge(strcmp(before, after) == 0, "another content, threads", sql, n, after);
    sqlite3_free(after);
  }
  sqlite3_free(before);
  sqlite3_close(db);
}

int main(void) {
  setenv("LONG_WORK_EXTENSION", extension_path(), 1);
  enter_temp_folder();
  cpu_set_t all, one;
  sched_getaffinity(0, sizeof all, &all);
  CPU_ZERO(&one);
  for (int i = 0; i < CPU_SETSIZE && CPU_COUNT(&one) == 0; i++) {
    if (CPU_ISSET(i, &all))
      CPU_SET(i, &one);
  }
  sched_setaffinity(0, sizeof one, &one);
  try_all();
  sched_setaffinity(0, sizeof all, &all);
  try_threads();
  no_more_file();
  remove(IMAGE_FILE);
  judge(leave_temp_folder(), "a file that is left behind", "", 0, "");
  printf("%d passed, %d failed\n", passed, failed);
  return failed > 0;
}
