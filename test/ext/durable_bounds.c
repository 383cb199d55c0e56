/*
** durable_bounds.c - a durable table with a bound that several processes write, read and are killed over (R6 to R10)
**
** Processes of two threads each, every thread with a connection, write rows to a durable table k with max_entries, and
** the same ones to a native table n, which keeps them all. Looked for, in WAL mode and with a rollback journal:
**
**    more entries than the bound in what is committed
**    an entry of k that n does not have like this: one that was evicted, deleted or undone, and came back
**    two processes that see different entries in one version of the log: one that has evicted, one that has applied
**    the rows since, or one that has just begun and has replayed the file
**    a table that is not full in the end
**    any error but that the file is locked
**    all of this when processes are killed by SIGKILL at any moment
**
** Usage: durable_bounds [seconds [kills]]     for each mode; defaults: 2 and 30
** Environment: SEED; WALMAP_SO is the extension (default ./walmap)
*/
#define _GNU_SOURCE /* mkdtemp, MAP_ANONYMOUS */

#include "processes.h"

#include <pthread.h>

enum { THREADS = 2, MOST = 60, KEYS = 400, SLOTS = 1 << 16 };

/* What the processes tell one another. */
typedef struct board {
  _Atomic uint64_t versions[SLOTS]; /* of each version: the log's last seq, and 32 bits of what its entries are */
  atomic_long commits, looks, compared, failures;
  atomic_bool stop;
} board;

static board *told;
static long failures, commits, compared; /* over all modes: a slow machine does little in one */

static void tell_on_board(bool create) {
  told = map_board(sizeof *told, create);
  complaints = &told->failures;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Writers                                                                                                            */

static bool change(sqlite3 *db, uint64_t *random) {
  int key = pick(random, KEYS), what = pick(random, 12);
  char *sql;
  if (what == 0)
    sql = sqlite3_mprintf("DELETE FROM k WHERE key = %d; DELETE FROM n WHERE key = %d", key, key);
  else if (what == 1)
    sql = sqlite3_mprintf("SAVEPOINT s; INSERT OR REPLACE INTO k VALUES(%d, 'undone'); ROLLBACK TO s; RELEASE s", key);
  else if (what < 4)
    sql = sqlite3_mprintf("SELECT value FROM k WHERE key BETWEEN %d AND %d", key, key + 20);
  else if (what < 7)
    sql = sqlite3_mprintf("SELECT value FROM k WHERE key = %d", key / 10);
  else
    sql = sqlite3_mprintf("REPLACE INTO n VALUES(%d, '%d:' || hex(zeroblob(%d)));"
                          "REPLACE INTO k SELECT key, value FROM n WHERE key = %d",
                          key, pick(random, 1 << 30), pick(random, 900), key);
  bool fine = run(db, sql);
  sqlite3_free(sql);
  return fine;
}

static void write_some(sqlite3 *db, uint64_t *random) {
  if (!run(db, pick(random, 2) ? "BEGIN IMMEDIATE" : "BEGIN"))
    return;
  bool fine = true;
  int changes = pick(random, 20) == 0 ? 3 * MOST : 1 + pick(random, 8);
  for (int i = 0; fine && i < changes; i++)
    fine = change(db, random);
  if (fine && pick(random, 40) == 0)
    fine = run(db, "SELECT walmap_checkpoint('k')");
  if (fine && pick(random, 10) != 0 && run(db, "COMMIT"))
    atomic_fetch_add(&told->commits, 1);
  if (!sqlite3_get_autocommit(db))
    run(db, "ROLLBACK");
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Readers                                                                                                            */

/* Two numbers; false when the file is locked. */
static bool ask(sqlite3 *db, const char *sql, sqlite3_int64 answer[2]) {
  sqlite3_stmt *statement;
  int rc = sqlite3_prepare_v2(db, sql, -1, &statement, NULL);
  if (rc == SQLITE_OK && (rc = sqlite3_step(statement)) == SQLITE_ROW) {
    for (int i = 0; i < 2; i++)
      answer[i] = sqlite3_column_int64(statement, i);
  }
  if (rc != SQLITE_ROW && rc != SQLITE_BUSY)
    complain(sql, db);
  sqlite3_finalize(statement);
  return rc == SQLITE_ROW;
}

/* The first to see a version notes what it has; all others compare. */
static void compare(uint64_t seq, uint64_t sum) {
  _Atomic uint64_t *slot = &told->versions[seq % SLOTS];
  uint64_t mine = seq << 32 | (sum & UINT32_MAX), theirs = atomic_load(slot);
  while (theirs >> 32 < seq) {
    if (atomic_compare_exchange_weak(slot, &theirs, mine))
      return;
  }
  if (theirs >> 32 != seq)
    return;
  atomic_fetch_add(&told->compared, 1);
  if (theirs != mine)
    complain("another process saw other entries in this version", NULL);
}

static void look(sqlite3 *db) {
  sqlite3_int64 version[2] = {0}, entries[2] = {0}, strange[2] = {0};
  if (!run(db, "BEGIN"))
    return;
  if (ask(db, "SELECT max(seq), 0 FROM k_log", version) &&
      ask(db, "SELECT count(*), sum((key + 1) * (CAST(value AS INTEGER) % 999983 + 1) + length(value) * 7919) FROM k",
          entries) &&
      ask(db, "SELECT count(*), 0 FROM k WHERE value IS NOT (SELECT value FROM n WHERE n.key = k.key)", strange)) {
    if (entries[0] > MOST)
      complain("more entries than the bound", NULL);
    if (strange[0] > 0)
      complain("entries that the native table does not have", NULL);
    compare((uint64_t)version[0], (uint64_t)entries[1]);
    atomic_fetch_add(&told->looks, 1);
  }
  run(db, "COMMIT");
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Processes                                                                                                          */

static void *work(void *number) {
  uint64_t random = seed + 7919 * (uint64_t)getpid() + (uint64_t)(uintptr_t)number;
  sqlite3 *db = connect_to_file();
  run(db, "PRAGMA synchronous = off");
  while (!atomic_load(&told->stop)) {
    if (pick(&random, 30) == 0) {
      sqlite3_close(db);
      db = connect_to_file();
      run(db, "PRAGMA synchronous = off");
    }
    if (pick(&random, 3) == 0)
      write_some(db, &random);
    else
      look(db);
  }
  sqlite3_close(db);
  return NULL;
}

static int be_child(void) {
  pthread_t threads[THREADS];
  for (uintptr_t i = 0; i < THREADS; i++)
    pthread_create(&threads[i], NULL, work, (void *)i);
  for (int i = 0; i < THREADS; i++)
    pthread_join(threads[i], NULL);
  return 0;
}

static void make_tables(const char *mode, const char *more) {
  sqlite3 *db = connect_to_file();
  char *sql =
      sqlite3_mprintf("PRAGMA journal_mode = %s; CREATE VIRTUAL TABLE k USING walmap(max_entries=%d, shards=4%s);"
                      "CREATE TABLE n(key PRIMARY KEY, value) WITHOUT ROWID;"
                      "WITH c(x) AS (VALUES(0) UNION ALL SELECT x + 1 FROM c WHERE x < %d)"
                      " INSERT INTO n SELECT x, '0:' FROM c; INSERT INTO k SELECT * FROM n",
                      mode, MOST, more, KEYS - 1);
  run(db, sql);
  sqlite3_free(sql);
  sqlite3_close(db);
}

static bool is_enough(void) { return atomic_load(&told->commits) > 0 && atomic_load(&told->compared) > 0; }

static void one_mode(char *program, const char *mode, int milliseconds, int kills) {
  char template[] = "/tmp/walmap-bounds-XXXXXX";
  name_files(mkdtemp(template));
  tell_on_board(true);
  make_tables(mode, kills > 0 ? ", max_bytes=262144" : "");
  run_children(program, milliseconds, kills, is_enough, &told->stop);
  sqlite3 *db = connect_to_file();
  sqlite3_int64 entries[2] = {0};
  look(db);
  if (ask(db, "SELECT count(*), (SELECT count(*) FROM n) FROM k", entries) && entries[0] < MOST / 2)
    complain("the table is not full", NULL);
  sqlite3_close(db);
  commits += atomic_load(&told->commits);
  compared += atomic_load(&told->compared);
  failures += atomic_load(&told->failures);
  printf("%s: %d kills, %ld commits, %ld looks, %ld of a version that another had seen, %ld failures\n", mode, kills,
         atomic_load(&told->commits), atomic_load(&told->looks), atomic_load(&told->compared),
         atomic_load(&told->failures));
  munmap(told, sizeof *told);
  if (failures == 0)
    remove_folder();
}

int main(int argc, char **argv) {
  enum { BETWEEN_KILLS = 30 }; /* ms */
  if (child_number(argc, argv) != NULL) {
    tell_on_board(false);
    return be_child();
  }
  int seconds = argc > 1 ? atoi(argv[1]) : 2, kills = argc > 2 ? atoi(argv[2]) : 30;
  const char *given = getenv("SEED");
  seed = given != NULL ? strtoull(given, NULL, 10) : (uint64_t)time(NULL);
  printf("seed %llu (repeat with SEED=)\n", (unsigned long long)seed);
  static const char *const modes[] = {"wal", "delete"};
  for (int i = 0; i < 2; i++) {
    one_mode(argv[0], modes[i], seconds * 1000, 0);
    one_mode(argv[0], modes[i], kills * BETWEEN_KILLS, kills);
  }
  if (commits == 0 || compared == 0) {
    printf("FAILED: nothing happened\n");
    failures++;
  }
  printf("%d passed, %ld failed\n", 4 - (failures > 0), failures);
  return failures > 0;
}
