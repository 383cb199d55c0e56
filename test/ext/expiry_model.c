/*
** expiry_model.c - a walmap table whose entries expire, through SQL, and a plain model of it that say different things
**
** Random statements and functions change a table, and an array of rows with their times. After each the table must have
** the rows of the array that have not expired. The clock is the test's own: this program defines clock_gettime, which
** the extension then calls for the time of the day. It goes on by some ms or seconds between statements, also within
** transactions, and jumps back, which must bring nothing back. Tables are in memory, ordered, or durable: then the file
** is closed and opened again now and then.
**
** Usage: expiry_model [statements [seed]]     defaults: 30000, and SEED from the environment or the clock
*/
#define _GNU_SOURCE
#include "temp_folder.h"

#include <inttypes.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>

/* ------------------------------------------------------------------------------------------------------------------ */
/* The clock                                                                                                          */

static _Atomic uint64_t told; /* ms; 0: the system's */

int clock_gettime(clockid_t clock, struct timespec *t) {
  uint64_t ms = told;
  if (clock != CLOCK_REALTIME || ms == 0)
    return (int)syscall(SYS_clock_gettime, clock, t);
  *t = (struct timespec){(time_t)(ms / 1000), (long)(ms % 1000) * 1000000};
  return 0;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* The model                                                                                                          */

enum { KEYS = 24, LATER = 1000000 };
#define START UINT64_C(1700000000000)
#define NEVER UINT64_C(0)

typedef struct row {
  bool there;
  int value;
  uint64_t expires;
} row;

static row rows[KEYS], at_begin[KEYS], at_savepoint[KEYS];
static uint64_t now, ttl; /* ms; ttl 0: none */
static bool in_transaction, in_savepoint;
static long statements, refused, expired, rolled_back, reopened;

static bool is_there(int key) { return rows[key].there && (rows[key].expires == NEVER || rows[key].expires > now); }
static uint64_t by_ttl(void) { return ttl == 0 ? NEVER : now + ttl; }

static void set(int key, int value, uint64_t expires) { rows[key] = (row){true, value, expires}; }

static uint64_t random_state;

static uint64_t random_next(void) { /* splitmix64 */
  uint64_t z = random_state += UINT64_C(0x9e3779b97f4a7c15);
  z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
  z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
  return z ^ (z >> 31);
}
static int pick(int n) { return (int)(random_next() % (uint64_t)n); }

/* ------------------------------------------------------------------------------------------------------------------ */
/* The table                                                                                                          */

static sqlite3 *db;
static const char *extension, *kind;
static char last_sql[400];

static void fail(const char *format, ...) {
  va_list args;
  va_start(args, format);
  vfprintf(stderr, format, args);
  va_end(args);
  fprintf(stderr, "\n  %s; statement %ld, %s, ttl %" PRIu64 ", time %" PRIu64 "\n  after: %s\n",
          in_transaction ? "in a transaction" : "alone", statements, kind, ttl, now, last_sql);
  exit(1);
}

/* Runs one statement. The first column of its row, or `otherwise` when there is none; or it is NULL. An error: -rc. */
static sqlite3_int64 run(sqlite3_int64 otherwise, const char *format, ...) {
  va_list args;
  va_start(args, format);
  vsnprintf(last_sql, sizeof last_sql, format, args);
  va_end(args);
  sqlite3_stmt *s = NULL;
  sqlite3_int64 result = otherwise;
  if (sqlite3_prepare_v2(db, last_sql, -1, &s, NULL) != SQLITE_OK)
    fail("%s", sqlite3_errmsg(db));
  int rc = sqlite3_step(s);
  if (rc == SQLITE_ROW && sqlite3_column_type(s, 0) != SQLITE_NULL)
    result = sqlite3_column_int64(s, 0);
  while (rc == SQLITE_ROW)
    rc = sqlite3_step(s);
  sqlite3_finalize(s);
  if (rc == SQLITE_CONSTRAINT)
    return -SQLITE_CONSTRAINT;
  if (rc != SQLITE_DONE)
    fail("%s", sqlite3_errmsg(db));
  return result;
}

static void expect(sqlite3_int64 expected, sqlite3_int64 got) {
  if (expected != got)
    fail("expected %lld, got %lld", (long long)expected, (long long)got);
}

static void open_db(const char *file) {
  if (sqlite3_open(file, &db) != SQLITE_OK || sqlite3_enable_load_extension(db, 1) != SQLITE_OK ||
      sqlite3_load_extension(db, extension, NULL, NULL) != SQLITE_OK)
    fail("%s", sqlite3_errmsg(db));
  run(0, "PRAGMA synchronous = off");
}

static uint64_t ms_of(sqlite3_stmt *s, int column) {
  return sqlite3_column_type(s, column) == SQLITE_NULL ? NEVER
                                                       : (uint64_t)(sqlite3_column_double(s, column) * 1000 + 0.5);
}

/* The rows as a scan has them, their number by two other ways, and one by its key. */
static void compare(void) {
  sqlite3_stmt *s = NULL;
  int n = 0, there = 0, key = pick(KEYS);
  static const char sql[] = "SELECT key, value, expires, count(*) OVER (), walmap_len('kv') FROM kv";
  if (sqlite3_prepare_v2(db, sql, -1, &s, NULL) != SQLITE_OK)
    fail("%s", sqlite3_errmsg(db));
  for (int i = 0; i < KEYS; i++)
    there += is_there(i);
  for (; sqlite3_step(s) == SQLITE_ROW; n++) {
    int k = sqlite3_column_int(s, 0);
    if (k == LATER)
      continue;
    if (!is_there(k))
      fail("key %d is there: %s", k, rows[k].there ? "it has expired" : "it was removed, or never set");
    if (sqlite3_column_int(s, 1) != rows[k].value)
      fail("key %d has the value %d, not %d", k, sqlite3_column_int(s, 1), rows[k].value);
    if (ms_of(s, 2) != rows[k].expires)
      fail("key %d expires at %" PRIu64 ", not %" PRIu64, k, ms_of(s, 2), rows[k].expires);
    if (sqlite3_column_int(s, 3) != there + 1 || sqlite3_column_int(s, 4) != there + 1)
      fail("%d rows are counted, length %d, not %d", sqlite3_column_int(s, 3), sqlite3_column_int(s, 4), there + 1);
  }
  if (n != there + 1)
    fail("%d rows, not %d", n, there + 1);
  if (sqlite3_finalize(s) != SQLITE_OK)
    fail("%s", sqlite3_errmsg(db));
  expect(is_there(key) ? rows[key].value : -1, run(-1, "SELECT walmap_get('kv', %d)", key));
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* One change of both                                                                                                 */

static void insert(int key, int value, const char * or, uint64_t expires) {
  bool replaces = strstr(or, "REPLACE") != NULL;
  sqlite3_int64 got;
  if (expires == UINT64_MAX) {
    got = run(0, "INSERT %s INTO kv VALUES(%d, %d)", or, key, value);
    expires = by_ttl();
  } else {
    got = run(0, "INSERT %s INTO kv(key, value, expires) VALUES(%d, %d, %.3f)", or, key, value, (double)expires / 1000);
  }
  if (is_there(key) && !replaces) {
    expect(* or ? 0 : -SQLITE_CONSTRAINT, got);
    refused++;
    return;
  }
  expect(0, got);
  set(key, value, expires);
}

/* A time from a while ago to some seconds from now; for a ttl, its seconds. */
static uint64_t some_time(void) { return now - 500 + (uint64_t)pick(6000); }
static uint64_t some_ttl(void) { return (uint64_t)pick(4000); }

static void update(int key, int value) {
  static const char *const wheres[] = {"key = %d", "key IN (%d, 999)", "+key = %d"};
  char where[40], sql[160];
  uint64_t expires = some_time();
  int other = pick(KEYS);
  bool there = is_there(key);
  snprintf(where, sizeof where, wheres[pick(3)], key);
  switch (pick(4)) {
  case 0:
    run(0, "UPDATE kv SET value = %d WHERE %s", value, where);
    if (there)
      rows[key].value = value;
    break;
  case 1:
    run(0, "UPDATE kv SET expires = %.3f WHERE %s", (double)expires / 1000, where);
    if (there)
      rows[key].expires = expires;
    break;
  case 2:
    run(0, "UPDATE kv SET value = %d, expires = NULL WHERE %s", value, where);
    if (there)
      set(key, value, NEVER);
    break;
  default:
    snprintf(sql, sizeof sql, "UPDATE kv SET key = %d WHERE %s", other, where);
    expect(there && other != key && is_there(other) ? -SQLITE_CONSTRAINT : 0, run(0, "%s", sql));
    if (there && other != key && !is_there(other)) {
      rows[other] = rows[key];
      rows[key].there = false;
    }
  }
}

static void call(int key, int value) {
  bool there = is_there(key);
  uint64_t life = some_ttl(), fresh = now + life;
  double seconds = (double)life / 1000;
  switch (pick(9)) {
  case 0:
    expect(value, run(0, "SELECT walmap_set('kv', %d, %d)", key, value));
    set(key, value, by_ttl());
    break;
  case 1:
    expect(value, run(0, "SELECT walmap_set('kv', %d, %d, %.3f)", key, value, seconds));
    set(key, value, fresh);
    break;
  case 2:
    expect(value, run(0, "SELECT walmap_set('kv', %d, %d, NULL)", key, value));
    set(key, value, NEVER);
    break;
  case 3:
    expect(!there, run(0, "SELECT walmap_set_if_absent('kv', %d, %d, %.3f)", key, value, seconds));
    if (!there)
      set(key, value, fresh);
    break;
  case 4:
    expect(there, run(0, "SELECT walmap_set_if('kv', %d, %d, %d)", key, rows[key].value, value));
    if (there)
      rows[key].value = value;
    break;
  case 5:
    expect(there, run(0, "SELECT walmap_touch('kv', %d, %.3f)", key, seconds));
    if (there)
      rows[key].expires = fresh;
    break;
  case 6:
    expect(there ? rows[key].value + 1 : value,
           run(0, "SELECT walmap_upsert('kv', %d, %d, 'value + 1', %.3f)", key, value, seconds));
    set(key, there ? rows[key].value + 1 : value, there ? rows[key].expires : fresh);
    break;
  case 7:
    expect(there ? rows[key].value : -1, run(-1, "SELECT walmap_remove('kv', %d)", key));
    rows[key].there = false;
    break;
  default:
    expect(there ? 1 : 0, run(0, "SELECT walmap_remove_if('kv', %d, %d)", key, rows[key].value));
    rows[key].there = rows[key].there && !there;
  }
}

/* Times within one statement over many rows are the same. */
static void change_many(void) {
  switch (pick(5)) {
  case 0:
    run(0, "UPDATE kv SET value = value + 1 WHERE key < %d", KEYS);
    for (int i = 0; i < KEYS; i++)
      rows[i].value += is_there(i);
    break;
  case 1:
    run(0, "DELETE FROM kv WHERE key < %d AND value %% 3 = 0", KEYS);
    for (int i = 0; i < KEYS; i++)
      rows[i].there = rows[i].there && !(is_there(i) && rows[i].value % 3 == 0);
    break;
  case 2:
    run(0, "INSERT OR REPLACE INTO kv SELECT key, value + 1 FROM kv WHERE key < %d", KEYS);
    for (int i = 0; i < KEYS; i++) {
      if (is_there(i))
        set(i, rows[i].value + 1, by_ttl());
    }
    break;
  case 3:
    run(0, "SELECT length(walmap_compact('kv'))");
    break;
  default:
    run(0, "SELECT walmap_restore('kv', walmap_snapshot('kv'))");
    for (int i = 0; i < KEYS; i++)
      rows[i].there = is_there(i);
  }
}

static void change_transaction(void) {
  if (!in_transaction) {
    run(0, "BEGIN");
    memcpy(at_begin, rows, sizeof rows);
    in_transaction = true;
  } else if (!in_savepoint && pick(2) == 0) {
    run(0, "SAVEPOINT s");
    memcpy(at_savepoint, rows, sizeof rows);
    in_savepoint = true;
  } else if (in_savepoint && pick(3) > 0) {
    bool back = pick(2) == 0;
    run(0, back ? "ROLLBACK TO s" : "RELEASE s");
    if (back)
      memcpy(rows, at_savepoint, sizeof rows);
    in_savepoint = back;
    rolled_back += back;
  } else {
    bool back = pick(2) == 0;
    run(0, back ? "ROLLBACK" : "COMMIT");
    if (back)
      memcpy(rows, at_begin, sizeof rows);
    in_transaction = in_savepoint = false;
    rolled_back += back;
  }
}

/* What a reader has seen of the time is what must not come back. */
static void pass_time(void) {
  int there = 0, left = 0;
  for (int i = 0; i < KEYS; i++)
    there += is_there(i);
  now += (uint64_t)(pick(3) == 0 ? pick(2000) : pick(40));
  told = now;
  run(0, "SELECT count(*) FROM kv");
  for (int i = 0; i < KEYS; i++)
    left += is_there(i);
  expired += there - left;
  if (pick(4) == 0)
    told = now - (uint64_t)pick(100000);
}

static void change_something(void) {
  static const char *const ors[] = {"", "", "OR IGNORE", "OR REPLACE", "OR REPLACE"};
  int key = pick(KEYS), value = pick(1000);
  switch (pick(10)) {
  case 0:
  case 1:
    insert(key, value, ors[pick(5)], UINT64_MAX);
    break;
  case 2:
  case 3:
    insert(key, value, ors[pick(5)], some_time());
    break;
  case 4:
    update(key, value);
    break;
  case 5:
    change_many();
    break;
  case 6:
    change_transaction();
    break;
  case 7:
    run(0, "DELETE FROM kv WHERE key = %d", key);
    rows[key].there = rows[key].there && !is_there(key);
    break;
  default:
    call(key, value);
  }
}

/* ------------------------------------------------------------------------------------------------------------------ */

static void reopen(void) {
  sqlite3_close(db);
  open_db("model.db");
  reopened++;
}

static void play(long wanted) {
  static const char *const kinds[] = {"temp", "ordered", "durable", "one shard"};
  static const char *const creates[] = {"CREATE VIRTUAL TABLE temp.kv USING walmap(%s)",
                                        "CREATE VIRTUAL TABLE temp.kv USING walmap(ordered=1%s%s)",
                                        "CREATE VIRTUAL TABLE kv USING walmap(%s)",
                                        "CREATE VIRTUAL TABLE temp.kv USING walmap(shards=1, auto_compact=1%s%s)"};
  int which = pick(4);
  char option[32] = "", sql[160];
  kind = kinds[which];
  memset(rows, 0, sizeof rows);
  now = START;
  told = now;
  ttl = pick(2) == 0 ? 0 : 1 + (uint64_t)pick(3000);
  if (ttl != 0)
    snprintf(option, sizeof option, "ttl=%" PRIu64 ".%03" PRIu64, ttl / 1000, ttl % 1000);
  open_db(which == 2 ? "model.db" : ":memory:");
  if (strstr(creates[which], "%s%s") != NULL)
    snprintf(sql, sizeof sql, creates[which], *option ? ", " : "", option);
  else
    snprintf(sql, sizeof sql, creates[which], option);
  run(0, "%s", sql);
  run(0, "INSERT INTO kv(key, value, expires) VALUES(%d, 0, 32503680000)", LATER); /* so that the time is looked at */
  for (long i = 0; i < wanted; i++, statements++) {
    pass_time();
    compare();
    change_something();
    compare();
    if (which == 2 && !in_transaction && pick(40) == 0)
      reopen();
  }
  if (in_transaction)
    run(0, "COMMIT");
  in_transaction = in_savepoint = false;
  compare();
  expect(0, run(0, "SELECT count(*) FROM pragma_integrity_check WHERE integrity_check <> 'ok'"));
  sqlite3_close(db);
  unlink("model.db");
}

int main(int argc, char **argv) {
  long wanted = argc > 1 ? atol(argv[1]) : 30000;
  const char *given = argc > 2 ? argv[2] : getenv("SEED");
  uint64_t seed = given != NULL ? strtoull(given, NULL, 10) : (uint64_t)time(NULL) % 1000000;
  printf("expiry_model: seed %" PRIu64 " (repeat with SEED=)\n", seed);
  fflush(stdout);
  extension = extension_path();
  enter_temp_folder();
  random_state = seed;
  long sequences = 0;
  for (; statements < wanted; sequences++)
    play(300);
  printf("%ld statements, %ld refused, %ld entries expired, %ld times rolled back, %ld times opened again\n",
         statements, refused, expired, rolled_back, reopened);
  bool enough = refused > wanted / 100 && expired > wanted / 20 && rolled_back > wanted / 200 && reopened > 0;
  if (!enough)
    printf("too little was tried\n");
  bool clean = leave_temp_folder();
  printf("%ld passed, %d failed\n", sequences, !enough + !clean);
  return !enough || !clean;
}
