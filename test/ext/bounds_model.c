/*
** bounds_model.c - tables with small bounds, and a plain model of them, that say different things after random SQL
**
** Transactions over three tables with bounds (hashed, ordered, of one shard) and an ordinary one. What a COMMIT evicts
** is not foreseen; the rest is:
**
**   - Until a transaction ends all its rows are there, in all tables; ROLLBACK and ROLLBACK TO undo exactly what they
**     undo in the ordinary table, and evict nothing.
**   - After a COMMIT each table is within its bound. Each of its rows has the value that was written last. What is
**     missing is what `walmap_stats` counts as evictions. If the transaction itself wrote no more than the bound, all
**     of that is there.
**   - A SELECT that another connection has open goes on to see what it saw.
**
** Usage: bounds_model [statements [seed]]     defaults: 20000, and SEED from the environment or the clock
*/
#define _GNU_SOURCE /* mkdtemp */
#include "temp_folder.h"

#include <sqlite3.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

enum { TABLES = 4, PLAIN = 3, KEYS = 40 };

static const char *const names[TABLES] = {"hashed", "ordered", "single", "plain"};
static const char *const options[PLAIN] = {"max_entries=12", "max_entries=9, ordered=1", "max_entries=5, shards=1"};
static const int bounds[PLAIN] = {12, 9, 5};

typedef struct content {
  int value[TABLES][KEYS]; /* 0: there is no such row */
  bool own[TABLES][KEYS];  /* written by the transaction */
} content;

static content now, at_begin, at_savepoint;
static bool in_transaction, in_savepoint;
static long statements, evicted, rolled_back, commits, looks;
static sqlite3_int64 counted[PLAIN]; /* evictions */

static sqlite3 *db, *other;
static sqlite3_stmt *open_select; /* of the other connection: of one table's rows */
static int seen[KEYS], seen_table, seen_rows;
static char last_sql[300];

static uint64_t random_state;

static int pick(int n) { /* splitmix64 */
  uint64_t z = random_state += UINT64_C(0x9e3779b97f4a7c15);
  z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
  z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
  return (int)((z ^ (z >> 31)) % (uint64_t)n);
}

static void differ(const char *format, ...) {
  va_list args;
  va_start(args, format);
  vfprintf(stderr, format, args);
  va_end(args);
  fprintf(stderr, "\n  statement %ld, %s\n  after: %s\n", statements, in_transaction ? "in a transaction" : "alone",
          last_sql);
  exit(1);
}

static sqlite3_stmt *prepare(sqlite3 *on, const char *sql) {
  sqlite3_stmt *statement;
  if (sqlite3_prepare_v2(on, sql, -1, &statement, NULL) != SQLITE_OK)
    differ("%s: %s", sql, sqlite3_errmsg(on));
  return statement;
}

static void run(const char *format, ...) {
  va_list args;
  va_start(args, format);
  vsnprintf(last_sql, sizeof last_sql, format, args);
  va_end(args);
  if (sqlite3_exec(db, last_sql, NULL, NULL, NULL) != SQLITE_OK)
    differ("%s", sqlite3_errmsg(db));
}

/* The rows of one table: *n of them. */
static void read_rows(int table, int *value, int *n) {
  char sql[60];
  snprintf(sql, sizeof sql, "SELECT key, value FROM %s", names[table]);
  sqlite3_stmt *rows = prepare(db, sql);
  memset(value, 0, KEYS * sizeof *value);
  for (*n = 0; sqlite3_step(rows) == SQLITE_ROW; ++*n) {
    int key = sqlite3_column_int(rows, 0);
    if (key < 0 || key >= KEYS || value[key] != 0)
      differ("%s has a row of key %d that nobody wrote, or two", names[table], key);
    value[key] = sqlite3_column_int(rows, 1);
  }
  if (sqlite3_finalize(rows) != SQLITE_OK)
    differ("%s", sqlite3_errmsg(db));
}

/* All tables are as the model says. */
static void compare(void) {
  for (int t = 0; t < TABLES; t++) {
    int value[KEYS], n;
    read_rows(t, value, &n);
    for (int key = 0; key < KEYS; key++) {
      if (value[key] != now.value[t][key])
        differ("%s has %d for key %d, not %d", names[t], value[key], key, now.value[t][key]);
    }
  }
}

static sqlite3_int64 count_evictions(int table) {
  char sql[100];
  snprintf(sql, sizeof sql, "SELECT evictions FROM walmap_stats WHERE name = '%s'", names[table]);
  sqlite3_stmt *count = prepare(db, sql);
  if (sqlite3_step(count) != SQLITE_ROW)
    differ("no map %s", names[table]);
  sqlite3_int64 n = sqlite3_column_int64(count, 0);
  sqlite3_finalize(count);
  return n;
}

/* Takes over what a COMMIT has left of one table. */
static void take_over(int table) {
  int value[KEYS], n, missing = 0, own = 0, own_missing = 0;
  read_rows(table, value, &n);
  for (int key = 0; key < KEYS; key++) {
    bool is_own = now.own[table][key] && now.value[table][key] != 0;
    own += is_own;
    if (value[key] == now.value[table][key])
      continue;
    if (value[key] != 0)
      differ("%s has %d for key %d, not %d", names[table], value[key], key, now.value[table][key]);
    missing++;
    own_missing += is_own;
    now.value[table][key] = 0;
  }
  sqlite3_int64 count = count_evictions(table);
  if (count - counted[table] != missing)
    differ("%s: %d rows are missing, evictions %lld", names[table], missing, (long long)(count - counted[table]));
  if (n > bounds[table] || (missing > 0 && n < bounds[table]))
    differ("%s has %d rows, its bound is %d", names[table], n, bounds[table]);
  if (own_missing > 0 && own <= bounds[table])
    differ("%s has lost %d of %d rows of the transaction", names[table], own_missing, own);
  counted[table] = count;
  evicted += missing;
}

static void after_commit(void) {
  in_transaction = in_savepoint = false;
  for (int t = 0; t < PLAIN; t++)
    take_over(t);
  memset(now.own, 0, sizeof now.own);
  compare();
  commits++;
}

/* ------------------------------------------------------------------------------------------------------------------ */

static void set(int table, int key, int value) {
  now.value[table][key] = value;
  now.own[table][key] = true;
}

static void change(void) {
  int t = pick(TABLES), key = pick(KEYS), value = 1 + pick(1000000), from, to;
  switch (pick(9)) {
  case 0:
    run("DELETE FROM %s WHERE key = %d", names[t], key);
    set(t, key, 0);
    break;
  case 1:
    run("UPDATE %s SET value = %d WHERE key = %d", names[t], value, key);
    if (now.value[t][key] != 0)
      set(t, key, value);
    break;
  case 2: /* from one table to another: no row is left out, whatever is evicted later */
    from = pick(TABLES);
    if (from == t)
      return;
    run("INSERT OR REPLACE INTO %s SELECT key, value FROM %s", names[t], names[from]);
    for (int k = 0; k < KEYS; k++) {
      if (now.value[from][k] != 0)
        set(t, k, now.value[from][k]);
    }
    break;
  case 3:
    from = pick(KEYS);
    to = from + pick(KEYS - from);
    run("WITH c(i) AS (SELECT %d UNION ALL SELECT i + 1 FROM c WHERE i < %d) "
        "INSERT OR REPLACE INTO %s SELECT i, i + %d FROM c",
        from, to, names[t], value);
    for (int k = from; k <= to; k++)
      set(t, k, k + value);
    break;
  case 4:
    if (t == PLAIN)
      return;
    run("SELECT walmap_restore('%s', walmap_image(key, value)) FROM plain", names[t]);
    for (int k = 0; k < KEYS; k++)
      set(t, k, now.value[PLAIN][k]);
    break;
  default:
    run("INSERT OR REPLACE INTO %s VALUES(%d, %d)", names[t], key, value);
    set(t, key, value);
  }
  if (!in_transaction)
    after_commit();
}

static void control(void) {
  bool back = pick(2) == 0;
  if (!in_transaction) {
    run("BEGIN");
    at_begin = now;
    in_transaction = true;
  } else if (!in_savepoint && pick(2) == 0) {
    run("SAVEPOINT s");
    at_savepoint = now;
    in_savepoint = true;
  } else if (in_savepoint && pick(3) > 0) {
    run(back ? "ROLLBACK TO s" : "RELEASE s");
    if (back)
      now = at_savepoint;
    in_savepoint = back;
    rolled_back += back;
  } else if (back) {
    run("ROLLBACK");
    now = at_begin;
    in_transaction = in_savepoint = false;
    rolled_back++;
  } else {
    run("COMMIT");
    after_commit();
  }
}

/* The other connection begins a SELECT of what is committed, and reads on later. */
static void look_from_elsewhere(void) {
  if (open_select == NULL && !in_transaction) {
    char sql[60];
    seen_table = pick(PLAIN);
    memcpy(seen, now.value[seen_table], sizeof seen);
    snprintf(sql, sizeof sql, "SELECT key, value FROM %s", names[seen_table]);
    open_select = prepare(other, sql);
    seen_rows = 0;
  }
  int steps = 1 + pick(6);
  while (open_select != NULL && steps-- > 0) {
    if (sqlite3_step(open_select) == SQLITE_ROW) {
      int key = sqlite3_column_int(open_select, 0);
      if (seen[key] == 0 || seen[key] != sqlite3_column_int(open_select, 1))
        differ("an open SELECT of %s finds another row of key %d", names[seen_table], key);
      seen[key] = 0;
      seen_rows++;
      continue;
    }
    for (int key = 0; key < KEYS; key++) {
      if (seen[key] != 0)
        differ("an open SELECT of %s has lost key %d", names[seen_table], key);
    }
    if (sqlite3_finalize(open_select) != SQLITE_OK)
      differ("%s", sqlite3_errmsg(other));
    open_select = NULL;
    looks += seen_rows;
  }
}

static sqlite3 *open_tables(const char *extension) {
  sqlite3 *opened;
  char sql[160];
  if (sqlite3_open(":memory:", &opened) != SQLITE_OK || sqlite3_enable_load_extension(opened, 1) != SQLITE_OK ||
      sqlite3_load_extension(opened, extension, NULL, NULL) != SQLITE_OK)
    differ("%s", sqlite3_errmsg(opened));
  for (int t = 0; t < PLAIN; t++) {
    snprintf(sql, sizeof sql, "CREATE VIRTUAL TABLE temp.%s USING walmap(map='%s', %s)", names[t], names[t],
             options[t]);
    if (sqlite3_exec(opened, sql, NULL, NULL, NULL) != SQLITE_OK)
      differ("%s", sqlite3_errmsg(opened));
  }
  return opened;
}

int main(int argc, char **argv) {
  long wanted = argc > 1 ? atol(argv[1]) : 20000;
  const char *given = argc > 2 ? argv[2] : getenv("SEED");
  uint64_t seed = given != NULL ? strtoull(given, NULL, 10) : (uint64_t)time(NULL) % 1000000;
  printf("bounds_model: seed %llu (repeat with SEED=)\n", (unsigned long long)seed);
  fflush(stdout);
  random_state = seed;
  db = open_tables(extension_path());
  other = open_tables(extension_path());
  run("CREATE TABLE plain(key PRIMARY KEY, value) WITHOUT ROWID");
  for (; statements < wanted; statements++) {
    int what = pick(10);
    if (what < 6)
      change();
    else if (what < 8)
      control();
    else
      look_from_elsewhere();
    compare();
  }
  sqlite3_finalize(open_select);
  if (in_transaction) {
    run("COMMIT");
    after_commit();
  }
  sqlite3_close(other);
  sqlite3_close(db);
  printf("%ld statements, %ld commits, %ld rows evicted, %ld times rolled back, %ld rows read by an open SELECT\n",
         statements, commits, evicted, rolled_back, looks);
  bool enough = commits > wanted / 10 && evicted > wanted / 4 && rolled_back > wanted / 50 && looks > wanted / 50;
  if (!enough)
    printf("too little was tried\n");
  printf("1 passed, %d failed\n", !enough);
  return !enough;
}
