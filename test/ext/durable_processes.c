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

enum { THREADS = 2, ACCOUNTS = 64, MONEY = 1000, COUNTERS = 4, FIRST_COUNTER = 1000, BULK = 100 };

static long failures; /* over all modes */

/* What the processes tell one another. */
typedef struct board {
  atomic_long started[COUNTERS], acknowledged[COUNTERS]; /* increments */
  atomic_long writes, reads, transactions, failures;
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
    int size = 200 + pick(random, 1500), key = 10000 + pick(random, BULK);
    unsigned fill = (unsigned)pick(random, 1 << 30);
    fine = pick(random, 8) == 0 ? change(db, "DELETE FROM @ WHERE key = %d", key)
                                : change(db, "REPLACE INTO @ VALUES(%d, hex(zeroblob(%d)) || %u)", key, size / 2, fill);
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

/* ------------------------------------------------------------------------------------------------------------------ */
/* Readers                                                                                                            */

static const char equal_sql[] =
    "SELECT (SELECT count(*) FROM (SELECT key, value FROM k EXCEPT SELECT key, value FROM n))"
    " + (SELECT count(*) FROM (SELECT key, value FROM n EXCEPT SELECT key, value FROM k))";
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

static void *work(void *number) {
  uint64_t random = seed + 7919 * (uint64_t)getpid() + (uint64_t)(uintptr_t)number;
  sqlite3 *db = connect_to_file();
  run(db, "PRAGMA synchronous = off");
  while (!atomic_load(&told->stop)) {
    bool writes = ((uintptr_t)number & 1) == 0;
    switch (pick(&random, 8)) {
    case 0:
      sqlite3_close(db);
      db = connect_to_file();
      run(db, "PRAGMA synchronous = off");
      break;
    case 1:
    case 2:
    case 3:
      if (writes)
        increment(db, &random);
      else
        read_twice(db, &random);
      break;
    case 4:
      read_once(db, &random);
      break;
    default:
      if (writes)
        move_money(db, &random);
      else
        read_once(db, &random);
      break;
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
  char sql[600];
  snprintf(sql, sizeof sql,
           "PRAGMA journal_mode = %s; CREATE VIRTUAL TABLE k USING walmap(durable=1);"
           "CREATE TABLE n(key PRIMARY KEY, value) WITHOUT ROWID;"
           "WITH c(x) AS (VALUES(0) UNION ALL SELECT x + 1 FROM c WHERE x < %d) INSERT INTO k SELECT x, %d FROM c;"
           "WITH c(x) AS (VALUES(%d) UNION ALL SELECT x + 1 FROM c WHERE x < %d) INSERT INTO k SELECT x, 0 FROM c;"
           "INSERT INTO n SELECT key, value FROM k",
           mode, ACCOUNTS - 1, MONEY, FIRST_COUNTER, FIRST_COUNTER + COUNTERS - 1);
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

static void one_mode(char *program, const char *mode, int seconds, int kills) {
  enum { BETWEEN_KILLS = 30 }; /* ms */
  char template[] = "/tmp/walmap-processes-XXXXXX";
  name_files(mkdtemp(template));
  tell_on_board(true);
  make_tables(mode);
  run_children(program, kills > 0 ? kills * BETWEEN_KILLS : seconds * 1000, kills, &told->stop);
  check_end(kills);
  long increments = 0;
  for (int i = 0; i < COUNTERS; i++)
    increments += atomic_load(&told->acknowledged[i]);
  long reads = atomic_load(&told->reads), transactions = atomic_load(&told->transactions);
  bool idle = reads == 0 || transactions == 0 || increments == 0;
  if (idle)
    complain("nothing happened", NULL);
  failures += atomic_load(&told->failures);
  printf("%s: %d kills, %ld transfers, %ld increments, %ld reads, %ld failures\n", mode, kills, transactions,
         increments, reads, atomic_load(&told->failures));
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
  printf("%d passed, %ld failed\n", 4 - (failures > 0), failures);
  return failures > 0;
}
