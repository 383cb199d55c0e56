/*
** durable_processes.c - a durable table that several processes write, read and are killed over (D1, D2, D3)
**
** Processes of two threads each, every thread with a connection, change a durable table k and a native table n of one
** file alike. Looked for, in WAL mode and with a rollback journal:
**
**    k and n that are not equal, in one statement or in a transaction, in either direction: older or newer
**    a read transaction whose second look differs from its first
**    a sum of money that is not what it was: half a transaction
**    an increment that was acknowledged and is lost, or one that no process made
**    a value or an expiry that came back, by whatever function, in the map of one process and not in another's (R2)
**    any error but that the file is locked
**    all of this when processes are killed by SIGKILL at any moment
**
** Usage: durable_processes [seconds [kills]]     for each mode; defaults: 3 and 40
** Environment: SEED; WALMAP_SO is the extension (default ./walmap)
*/
#define _GNU_SOURCE /* mkdtemp, MAP_ANONYMOUS */

#include "processes.h"

#include <pthread.h>
#include <stdarg.h>

enum {
  THREADS = 2,
  ACCOUNTS = 64, /* keys from 0 on */
  MONEY = 1000,  /* of each at first */
  COUNTERS = 4,
  FIRST_COUNTER = 1000,
  BULK = 100, /* long values */
  FIRST_BULK = 10000,
  FLAGS = 500, /* one of two short values, which come back */
  FIRST_FLAG = 20000,
};

/* Over all modes: failures, and what was done of each kind. */
enum { KINDS = 4 };
static long failures, done[KINDS];

/* What the processes tell one another. */
typedef struct board {
  atomic_long started[COUNTERS], acknowledged[COUNTERS]; /* increments */
  atomic_long flags, reads, transactions, failures;
  atomic_bool stop;
} board;

static board *told;

static sqlite3_int64 ask(sqlite3 *db, const char *sql) {
  sqlite3_stmt *statement;
  sqlite3_int64 answer = -1;
  int rc = sqlite3_prepare_v2(db, sql, -1, &statement, NULL);
  if (rc == SQLITE_OK && (rc = sqlite3_step(statement)) == SQLITE_ROW)
    answer = sqlite3_column_int64(statement, 0);
  if (rc != SQLITE_ROW && rc != SQLITE_BUSY)
    complain(sql, db);
  if (rc == SQLITE_BUSY)
    answer = -2;
  sqlite3_finalize(statement);
  return answer;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Writers                                                                                                            */

static bool change(sqlite3 *db, const char *format, ...) {
  char *sql[2];
  va_list args;
  bool fine = true;
  for (int i = 0; i < 2; i++) {
    va_start(args, format);
    char *text = sqlite3_vmprintf(format, args);
    va_end(args);
    for (char *at = text; (at = strchr(at, '@')) != NULL;) /* the table's name: @ is k or n */
      *at = i == 0 ? 'k' : 'n';
    sql[i] = text;
  }
  fine = run(db, sql[0]) && run(db, sql[1]);
  sqlite3_free(sql[0]);
  sqlite3_free(sql[1]);
  return fine;
}

static void move_money(sqlite3 *db, uint64_t *random) {
  int from = pick(random, ACCOUNTS), to = pick(random, ACCOUNTS), amount = pick(random, 50);
  if (!run(db, pick(random, 2) ? "BEGIN IMMEDIATE" : "BEGIN"))
    return;
  bool fine = change(db, "UPDATE @ SET value = value - %d WHERE key = %d", amount, from) &&
              change(db, "UPDATE @ SET value = value + %d WHERE key = %d", amount, to);
  if (fine && pick(random, 4) == 0) {
    fine = run(db, "SAVEPOINT s") && change(db, "DELETE FROM @ WHERE key < %d", pick(random, ACCOUNTS)) &&
           run(db, "ROLLBACK TO s");
  }
  for (int i = 0; fine && i < 3; i++) {
    int size = 200 + pick(random, 1500), key = FIRST_BULK + pick(random, BULK);
    unsigned fill = (unsigned)pick(random, 1 << 30);
    fine = pick(random, 8) == 0
               ? change(db, "DELETE FROM @ WHERE key = %d", key)
               : change(db, "REPLACE INTO @(key, value) VALUES(%d, hex(zeroblob(%d)) || %u)", key, size / 2, fill);
  }
  if (fine && pick(random, 10) != 0 && run(db, "COMMIT"))
    atomic_fetch_add(&told->transactions, 1);
  if (!sqlite3_get_autocommit(db))
    run(db, "ROLLBACK");
}

static void increment(sqlite3 *db, uint64_t *random) {
  int counter = pick(random, COUNTERS);
  if (!run(db, "BEGIN IMMEDIATE"))
    return;
  bool fine = change(db, "UPDATE @ SET value = value + 1 WHERE key = %d", FIRST_COUNTER + counter);
  atomic_fetch_add(&told->started[counter], 1);
  if (fine && run(db, "COMMIT")) {
    atomic_fetch_add(&told->acknowledged[counter], 1);
    return;
  }
  if (!sqlite3_get_autocommit(db))
    run(db, "ROLLBACK");
}

static int pick_flag(uint64_t *random) { return FIRST_FLAG + pick(random, FLAGS); }

static const char *pick_value(uint64_t *random) { return pick(random, 2) ? "up" : "down"; }

/* Runs the first statement, on k; then the second one does the same to n. */
static bool change_alike(sqlite3 *db, char *k, char *n) {
  bool fine = run(db, k) && run(db, n);
  sqlite3_free(k);
  sqlite3_free(n);
  return fine;
}

/* One of the statements and functions that put a value, remove it, or leave it as it is. */
static bool change_flag(sqlite3 *db, uint64_t *random) {
  int key = pick_flag(random);
  const char *value = pick_value(random), *other = pick_value(random);
  switch (pick(random, 12)) {
  case 0:
    return change(db, "DELETE FROM @ WHERE key = %d", key);
  case 1:
    return change(db, "UPDATE @ SET value = '%s' WHERE key BETWEEN %d AND %d", value, key, key + 10);
  case 2:
    return change_alike(
        db, sqlite3_mprintf("SELECT walmap_touch('k', %d, %s)", key, pick(random, 2) ? "100000" : "NULL"),
        sqlite3_mprintf("UPDATE n SET expires = (SELECT expires FROM k WHERE key = %d) WHERE key = %d", key, key));
  case 3:
    return change_alike(
        db, sqlite3_mprintf("SELECT walmap_upsert('k', %d, '%s', 'value')", key, value),
        sqlite3_mprintf("INSERT INTO n(key, value) VALUES(%d, '%s') ON CONFLICT DO NOTHING", key, value));
  case 4:
    return change_alike(
        db, sqlite3_mprintf("SELECT walmap_set_if('k', %d, '%s', '%s')", key, value, other),
        sqlite3_mprintf("UPDATE n SET value = '%s' WHERE key = %d AND value = '%s'", other, key, value));
  case 5:
    return pick(random, 30) != 0 || run(db, "SELECT walmap_restore('k', walmap_snapshot('k'))");
  case 6:
    return pick(random, 30) != 0 || run(db, "SELECT walmap_checkpoint('k')");
  case 7:
  case 8:
  case 9: /* fills the log: most flags stay as they are while all of it is compacted */
    return change(db, "REPLACE INTO @(key, value) VALUES(%d, hex(zeroblob(20000)))", FIRST_BULK - 1 - key % 3);
  default:
    return change(db, "REPLACE INTO @(key, value) VALUES(%d, '%s')", key, value);
  }
}

/*
** Changes the connection's own map: one key is removed, and some are put, a few of which have that value in k already.
** `place` has the map's position before. The changes are applied to k.
*/
static bool change_another_map(sqlite3 *db, int first, const char *value) {
  char *sql =
      sqlite3_mprintf("REPLACE INTO mine VALUES(%d, 1); DELETE FROM place;"
                      "INSERT INTO place SELECT walmap_position('mine');"
                      "REPLACE INTO mine VALUES(%d, '%s'), (%d, '%s'), (%d, '%s'); DELETE FROM mine WHERE key = %d",
                      first, first + 1, value, first + 2, value, first + 3, value, first);
  bool fine = run(db, sql);
  sqlite3_free(sql);
  return fine;
}

static bool apply_changes(sqlite3 *db, int first, const char *value) {
  return change_alike(db, sqlite3_mprintf("SELECT walmap_apply('k', walmap_changes('mine', position)) FROM place"),
                      sqlite3_mprintf("REPLACE INTO n(key, value) VALUES(%d, '%s'), (%d, '%s'), (%d, '%s');"
                                      "DELETE FROM n WHERE key = %d",
                                      first + 1, value, first + 2, value, first + 3, value, first));
}

static void change_flags(sqlite3 *db, uint64_t *random) {
  int first = pick_flag(random);
  const char *value = pick_value(random);
  bool fine = true, applies = pick(random, 3) == 0;
  if (applies && !change_another_map(db, first, value))
    return;
  if (!run(db, pick(random, 2) ? "BEGIN IMMEDIATE" : "BEGIN"))
    return;
  for (int i = pick(random, 4); fine && i > 0; i--)
    fine = change_flag(db, random);
  if (fine && applies)
    fine = apply_changes(db, first, value);
  if (fine && pick(random, 3) == 0) {
    fine = run(db, "SAVEPOINT s") && change_flag(db, random) && change_flag(db, random) &&
           (pick(random, 4) != 0 ||
            change_alike(db, sqlite3_mprintf("SELECT walmap_clear('k')"), sqlite3_mprintf("DELETE FROM n"))) &&
           run(db, "ROLLBACK TO s");
  }
  if (fine)
    fine = change_flag(db, random);
  if (fine && pick(random, 10) != 0 && run(db, "COMMIT"))
    atomic_fetch_add(&told->flags, 1);
  if (!sqlite3_get_autocommit(db))
    run(db, "ROLLBACK");
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Readers                                                                                                            */

static const char equal_sql[] =
    "SELECT (SELECT count(*) FROM (SELECT key, value, expires FROM k EXCEPT SELECT key, value, expires FROM n))"
    " + (SELECT count(*) FROM (SELECT key, value, expires FROM n EXCEPT SELECT key, value, expires FROM k))";
static const char money_sql[] = "SELECT sum(value) FROM k WHERE key < 1000";
static const char joined_sql[] = "SELECT count(*) FROM n WHERE value IS NOT (SELECT value FROM k WHERE k.key = n.key)";
static const char called_sql[] = "SELECT count(*) FROM n WHERE value IS NOT walmap_get('k', key)";

static void expect(sqlite3 *db, const char *sql, sqlite3_int64 expected) {
  sqlite3_int64 got = ask(db, sql);
  if (got == -2 || got == expected)
    return;
  char text[300];
  snprintf(text, sizeof text, "%s: %lld, and not %lld", sql, (long long)got, (long long)expected);
  complain(text, NULL);
}

static void read_once(sqlite3 *db, uint64_t *random) {
  static const char *const sqls[] = {equal_sql, joined_sql, called_sql};
  if (pick(random, 4) == 0)
    expect(db, money_sql, ACCOUNTS * MONEY);
  else
    expect(db, sqls[pick(random, 3)], 0);
  atomic_fetch_add(&told->reads, 1);
}

/* In a transaction everything stays as it was at first. */
static void read_twice(sqlite3 *db, uint64_t *random) {
  if (!run(db, "BEGIN"))
    return;
  sqlite3_int64 sum = -1;
  for (int i = 0; i < 4; i++) {
    sqlite3_int64 k = ask(db, "SELECT sum(length(value) * key) FROM k");
    sqlite3_int64 n = ask(db, "SELECT sum(length(value) * key) FROM n");
    if (k < 0 || n < 0)
      break; /* the file is locked */
    if (k != n || (sum != -1 && sum != k))
      complain("a read transaction saw k, n or the first look differ", NULL);
    sum = k;
    read_once(db, random);
    usleep((useconds_t)pick(random, 3000));
  }
  run(db, "COMMIT");
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Processes                                                                                                          */

static sqlite3 *connect_worker(void) {
  sqlite3 *db = connect_to_file();
  run(db, "PRAGMA synchronous = off; CREATE VIRTUAL TABLE temp.mine USING walmap; CREATE TEMP TABLE place(position)");
  return db;
}

static void write_something(sqlite3 *db, uint64_t *random) {
  switch (pick(random, 3)) {
  case 0:
    increment(db, random);
    break;
  case 1:
    move_money(db, random);
    break;
  default:
    change_flags(db, random);
    break;
  }
}

static void *work(void *number) {
  uint64_t random = seed + 7919 * (uint64_t)getpid() + (uint64_t)(uintptr_t)number;
  bool writes = ((uintptr_t)number & 1) == 0;
  sqlite3 *db = connect_worker();
  while (!atomic_load(&told->stop)) {
    int choice = pick(&random, 8);
    if (choice == 0) {
      sqlite3_close(db);
      db = connect_worker();
    } else if (choice == 1 || (!writes && choice > 4)) {
      read_once(db, &random);
    } else if (writes) {
      write_something(db, &random);
    } else {
      read_twice(db, &random);
    }
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

static void tell_on_board(bool create) {
  told = map_board(sizeof *told, create);
  complaints = &told->failures;
}

static void make_tables(const char *mode) {
  sqlite3 *db = connect_to_file();
  char sql[800];
  snprintf(sql, sizeof sql,
           "PRAGMA journal_mode = %s; CREATE VIRTUAL TABLE k USING walmap(durable=1);"
           "CREATE TABLE n(key PRIMARY KEY, value, expires) WITHOUT ROWID;"
           "WITH c(x) AS (VALUES(0) UNION ALL SELECT x + 1 FROM c WHERE x < %d) INSERT INTO k SELECT x, %d FROM c;"
           "WITH c(x) AS (VALUES(%d) UNION ALL SELECT x + 1 FROM c WHERE x < %d) INSERT INTO k SELECT x, 0 FROM c;"
           "WITH c(x) AS (VALUES(%d) UNION ALL SELECT x + 1 FROM c WHERE x < %d) INSERT INTO k SELECT x, 'up' FROM c;"
           "INSERT INTO n SELECT key, value, NULL FROM k",
           mode, ACCOUNTS - 1, MONEY, FIRST_COUNTER, FIRST_COUNTER + COUNTERS - 1, FIRST_FLAG, FIRST_FLAG + FLAGS - 1);
  run(db, sql);
  sqlite3_close(db);
}

/* What is left when all have ended. */
static void check_end(long killed) {
  sqlite3 *db = connect_to_file();
  expect(db, equal_sql, 0);
  expect(db, money_sql, ACCOUNTS * MONEY);
  for (int i = 0; i < COUNTERS; i++) {
    char sql[64];
    snprintf(sql, sizeof sql, "SELECT value FROM k WHERE key = %d", FIRST_COUNTER + i);
    sqlite3_int64 value = ask(db, sql);
    if (value < atomic_load(&told->acknowledged[i]) || value > atomic_load(&told->started[i]))
      complain("a counter has lost increments, or has more than were made", NULL);
    if (killed == 0 && value != atomic_load(&told->acknowledged[i]))
      complain("a counter is not what was acknowledged", NULL);
  }
  sqlite3_int64 bytes = ask(db, "SELECT sum(length(block)) FROM k_log");
  sqlite3_int64 live = ask(db, "SELECT sum(length(key) + length(value)) FROM k");
  if (bytes > live * 11 / 4 + (1 << 20))
    complain("the shadow table is larger than it may be", NULL);
  sqlite3_close(db);
}

static long increments_done(void) {
  long n = 0;
  for (int i = 0; i < COUNTERS; i++)
    n += atomic_load(&told->acknowledged[i]);
  return n;
}

/* Each kind of work was done in this mode. */
static bool is_enough(void) {
  return increments_done() > 0 && atomic_load(&told->transactions) > 0 && atomic_load(&told->flags) > 0 &&
         atomic_load(&told->reads) > 0;
}

static void one_mode(char *program, const char *mode, int seconds, int kills) {
  enum { BETWEEN_KILLS = 30 }; /* ms */
  char template[] = "/tmp/walmap-processes-XXXXXX";
  name_files(mkdtemp(template));
  tell_on_board(true);
  make_tables(mode);
  run_children(program, kills > 0 ? kills * BETWEEN_KILLS : seconds * 1000, kills, is_enough, &told->stop);
  check_end(kills);
  long increments = increments_done();
  long reads = atomic_load(&told->reads), transactions = atomic_load(&told->transactions);
  long flags = atomic_load(&told->flags);
  const long all[KINDS] = {transactions, increments, flags, reads};
  for (int i = 0; i < KINDS; i++)
    done[i] += all[i];
  failures += atomic_load(&told->failures);
  printf("%s: %d kills, %ld transfers, %ld increments, %ld changes of flags, %ld reads, %ld failures\n", mode, kills,
         transactions, increments, flags, reads, atomic_load(&told->failures));
  munmap(told, sizeof *told);
  if (failures == 0)
    remove_folder();
}

int main(int argc, char **argv) {
  if (child_number(argc, argv) != NULL) {
    tell_on_board(false);
    return be_child();
  }
  int seconds = argc > 1 ? atoi(argv[1]) : 3, kills = argc > 2 ? atoi(argv[2]) : 40;
  seed = getenv("SEED") != NULL ? strtoull(getenv("SEED"), NULL, 10) : (uint64_t)time(NULL);
  printf("seed %llu (repeat with SEED=)\n", (unsigned long long)seed);
  static const char *const modes[] = {"wal", "delete"};
  for (int i = 0; i < 2; i++) {
    one_mode(argv[0], modes[i], seconds, 0);
    one_mode(argv[0], modes[i], seconds, kills);
  }
  for (int i = 0; i < KINDS; i++)
    failures += done[i] == 0; /* some kind of change, or reading, has not been tried */
  printf("%d passed, %ld failed\n", 4 - (failures > 0), failures);
  return failures > 0;
}
