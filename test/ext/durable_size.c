/*
** durable_size.c - the shadow table of a durable table stays bounded, at little cost (D6)
**
** Looks for: a file that takes more than 2.75 times the live bytes and 1 MiB, counted in pages; more than 1.7 times as
** many bytes written to the log as the changes alone would take, or any more for entries that are only added; in each
** of the ways of writing below, above all where values come back to what they were, so that old rows look alive, and
** where a bound evicts.
**
** Usage: durable_size [transactions]     of each way; default 4000
** Environment: SEED; WALMAP_SO is the extension (default ./walmap)
*/
#define _GNU_SOURCE /* mkdtemp */

#include <math.h>
#include <sqlite3.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { KEYS = 8000, MOST = 4000, ROWS = 20, VALUE = 400, LONGEST = 20000, EACH = 20, WARM_UP = 2 * KEYS / ROWS };

static const char *extension = "./walmap";
static char file[96];
static sqlite3 *db;
static sqlite3_stmt *put, *removal, *lookup, *rows_after;
static uint64_t state;
static long failures;

static struct {
  int present[2 * KEYS]; /* the number that the value begins with; 0: absent */
  sqlite3_int64 seq;     /* of the last row that was counted */
  double changes;        /* bytes that the changes alone take in the log */
  double written;        /* bytes that were written to it */
  double most;           /* file size, in parts of the bound */
  int added, begun;      /* entries; the transaction that a change was made in */
} world;

static int pick(int n) { /* splitmix64 */
  uint64_t z = state += 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return (int)((z ^ (z >> 31)) % (uint64_t)n);
}

static void must(const char *sql) {
  char *err = NULL;
  if (sqlite3_exec(db, sql, NULL, NULL, &err) != SQLITE_OK) {
    printf("cannot go on: %s: %s\n", sql, err);
    exit(2);
  }
}

static sqlite3_stmt *prepare(const char *sql) {
  sqlite3_stmt *statement;
  if (sqlite3_prepare_v2(db, sql, -1, &statement, NULL) != SQLITE_OK) {
    printf("cannot go on: %s: %s\n", sql, sqlite3_errmsg(db));
    exit(2);
  }
  return statement;
}

static sqlite3_int64 number(const char *sql) {
  sqlite3_stmt *statement = prepare(sql);
  sqlite3_int64 n = sqlite3_step(statement) == SQLITE_ROW ? sqlite3_column_int64(statement, 0) : -1;
  sqlite3_finalize(statement);
  return n;
}

static void open_file(void) {
  if (sqlite3_open(file, &db) != SQLITE_OK)
    exit(2);
  sqlite3_enable_load_extension(db, 1);
  if (sqlite3_load_extension(db, extension, NULL, NULL) != SQLITE_OK)
    exit(2);
  must("PRAGMA synchronous = off; PRAGMA journal_mode = wal; CREATE VIRTUAL TABLE IF NOT EXISTS kv USING walmap");
  put = prepare("REPLACE INTO kv VALUES(?1, ?2)");
  removal = prepare("DELETE FROM kv WHERE key = ?1");
  lookup = prepare("SELECT value FROM kv WHERE key = ?1");
  rows_after = prepare("SELECT ifnull(max(seq), ?1), total(length(block)) FROM kv_log WHERE seq > ?1");
}

static void close_file(void) {
  sqlite3_finalize(put);
  sqlite3_finalize(removal);
  sqlite3_finalize(lookup);
  sqlite3_finalize(rows_after);
  if (sqlite3_close(db) != SQLITE_OK)
    exit(2);
}

static void run(sqlite3_stmt *statement) {
  if (sqlite3_step(statement) != SQLITE_DONE) {
    printf("cannot go on: %s\n", sqlite3_errmsg(db));
    exit(2);
  }
  sqlite3_reset(statement);
}

/*
** A text that begins with the value's number. It has two bytes more when it is encoded; the record's head, lengths and
** key take five or more.
*/
static void set_long(int key, int value, int length) {
  char text[LONGEST + 12];
  memset(text, '.', (size_t)length + 12);
  text[snprintf(text, 12, "%d", value)] = '.';
  sqlite3_bind_int(put, 1, key);
  sqlite3_bind_text(put, 2, text, length, SQLITE_TRANSIENT);
  run(put);
  world.present[key] = value;
  world.changes += length + 7;
}

static void set(int key, int value) { set_long(key, value, VALUE); }

static void erase(int key) {
  sqlite3_bind_int(removal, 1, key);
  run(removal);
  world.changes += world.present[key] != 0 ? 5 : 0;
  world.present[key] = 0;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Ways of writing: one change of transaction t                                                                       */

static void append(int t) {
  (void)t;
  set(world.added++, 1);
}
static void overwrite(int t) { set(pick(KEYS), 2 + t); }
static void hot_and_cold(int t) { set(pick(10) > 0 ? pick(KEYS / 10) : pick(KEYS), 2 + t); }
static void come_and_go(int t) {
  (void)t;
  int key = pick(KEYS);
  if (world.present[key] != 0)
    erase(key);
  else
    set(key, 1);
}

/* Each part of the keys in turn is busy for one transaction, then idle again. */
static void busy_and_idle(int t) {
  static int n;
  int part = t / 2 * ROWS;
  set((part + n++ % ROWS) % KEYS, t % 2 == 0 ? 2 : 1);
}

static void either_value(int t) {
  (void)t;
  set(pick(KEYS), 1 + pick(2));
}

/* Some keys change all the time, back and forth; the others once in a while, to what they are. */
static void flags_among_others(int t) {
  if (pick(8) > 0)
    set(pick(16), 1 + t % 2);
  else
    set(pick(KEYS), 1);
}

static void same_key_again(int t) {
  int key = pick(KEYS), other = 1 + pick(2);
  set(key, other);
  set(key, 2 + t);
  set(key, other);
}

/* To a table that holds MOST of them: about three in four evict another one. */
static void add_to_full(int t) { set(pick(2 * KEYS), 2 + t); }

/* Before it adds one, it looks up some of those that are looked up time and again. */
static void use_and_add(int t) {
  for (int i = 0; i < 4; i++) {
    sqlite3_bind_int(lookup, 1, pick(MOST / 2));
    (void)sqlite3_step(lookup);
    sqlite3_reset(lookup);
  }
  set(pick(4) == 0 ? pick(MOST / 2) : pick(2 * KEYS), 2 + t);
}

static void undone(int t) {
  int key = pick(KEYS), value = world.present[key];
  double changes = world.changes;
  must("SAVEPOINT s");
  set(key, 5);
  must("ROLLBACK TO s; RELEASE s");
  world.changes = changes;
  world.present[key] = value;
  set(key, 1 + t % 2);
}

/* Rows of nearly a page, and tiny ones that do not fit beside them, in turn; half of the keys are there. */
static void add_and_remove(int t) {
  int key;
  do
    key = pick(KEYS / 4);
  while (t >= KEYS / 8 && (world.present[key] != 0) == (t % 2 == 0));
  if (world.present[key] != 0)
    erase(key);
  else
    set_long(key, 1, 3900 + t % 100);
}

static void tiny(int t) { set_long(pick(KEYS), 1 + t % 9, 1); }
static void halves_of_pages(int t) { set_long(pick(KEYS / 4), 2 + t, 2045 + pick(655)); }

static bool is_first_change(int t) {
  bool is_first = world.begun != t;
  world.begun = t;
  return is_first;
}

/* From 1 byte to 20 kB, as many of each order of magnitude; each key has eight values, which come and go. */
static void any_size(int t) {
  int key = pick(KEYS / 4), value = 1 + pick(8);
  if (is_first_change(t) && t % 2000 == 1999)
    world.changes += (double)number("SELECT walmap_checkpoint('kv')"); /* what is written for it is wanted */
  if (pick(4) == 0)
    erase(key);
  else
    set_long(key, value, (int)exp((key * 8 + value) % 1000 * log(LONGEST) / 999));
}

/* The whole table, once in a while; and entries one by one. */
static void restored(int t) {
  if (is_first_change(t) && t % 50 == 0) {
    world.changes += (double)number("SELECT length(walmap_snapshot('kv'))");
    must("SELECT walmap_restore('kv', walmap_snapshot('kv'))");
  }
  set(pick(KEYS / 20), 1 + t % 2);
}

typedef struct way {
  const char *name;
  void (*change)(int t);
  double amplification;
  bool reopen; /* now and then: the map is the replay of the log then, and its entries are as new */
  int rows;    /* changes of a transaction; 0: ROWS, and all keys are there at the beginning */
  int bound;   /* max_entries, MOST; 0: none */
} way;

static const way ways[] = {
    {"entries are added", append, 1.0, false},
    {"any entry gets a new value", overwrite, 1.7, false},
    {"one in ten gets nine in ten", hot_and_cold, 1.7, false},
    {"entries come and go", come_and_go, 1.7, false},
    {"busy for a while, then idle", busy_and_idle, 1.7, false},
    {"the same, reopened", busy_and_idle, 1.7, true},
    {"one of two values", either_value, 1.7, false},
    {"some flags, others stay", flags_among_others, 1.7, true},
    {"back in the same transaction", same_key_again, 1.7, false},
    {"undone before", undone, 1.7, true},
    {"4,000 bytes come and go", add_and_remove, 1.7, false, 1},
    {"tiny rows", tiny, 1.7, false, 1},
    {"halves of pages", halves_of_pages, 1.7, false, 1},
    {"any size, one by one", any_size, 1.7, true, 1},
    {"any size, by threes", any_size, 1.7, false, 3},
    {"restored now and then", restored, 1.7, false, 1},
    {"new entries in a full table", add_to_full, 1.7, true, 0, MOST},
    {"the same, while some are used", use_and_add, 1.7, false, 0, MOST},
};

/* ------------------------------------------------------------------------------------------------------------------ */

static void count_rows(bool warm) {
  sqlite3_bind_int64(rows_after, 1, world.seq);
  if (sqlite3_step(rows_after) != SQLITE_ROW)
    exit(2);
  world.seq = sqlite3_column_int64(rows_after, 0);
  if (warm)
    world.written += sqlite3_column_double(rows_after, 1);
  else
    world.changes = 0;
  sqlite3_reset(rows_after);
}

static void judge(bool fine, const way *w, const char *what) {
  failures += !fine;
  if (!fine)
    printf("FAILED: %s: %s\n", w->name, what);
}

static void look_at_file(void) {
  double live = (double)(number("SELECT walmap_size('kv') - walmap_reclaimable('kv')"));
  double bytes = 4096.0 * (double)(number("PRAGMA page_count") - number("PRAGMA freelist_count"));
  double part = bytes / (2.75 * live + (1 << 20));
  world.most = part > world.most ? part : world.most;
}

/* Of a table with a bound each entry may be absent. */
static bool is_right(const way *w) {
  sqlite3_stmt *statement = prepare("SELECT key, CAST(substr(value, 1, 10) AS INTEGER) FROM kv");
  int expected = 0, n = 0;
  for (int key = 0; key < 2 * KEYS; key++)
    expected += world.present[key] != 0;
  bool fine = true;
  while (sqlite3_step(statement) == SQLITE_ROW) {
    n++;
    fine &= world.present[sqlite3_column_int(statement, 0)] == sqlite3_column_int(statement, 1);
  }
  sqlite3_finalize(statement);
  return fine && (w->bound == 0 ? n == expected : n == w->bound);
}

static void run_way(const way *w, int transactions) {
  memset(&world, 0, sizeof world);
  open_file();
  must(w->bound == 0 ? "DROP TABLE kv; VACUUM; CREATE VIRTUAL TABLE kv USING walmap"
                     : "DROP TABLE kv; VACUUM; CREATE VIRTUAL TABLE kv USING walmap(max_entries=4000)");
  const int rows = w->rows > 0 ? w->rows : ROWS;
  transactions = w->change == append ? KEYS / ROWS : w->rows > 0 ? 3 * transactions : transactions;
  for (int t = 0; t < transactions; t++) {
    bool warm = t >= WARM_UP || w->change == append;
    must("BEGIN");
    for (int i = 0; i < rows; i++)
      w->change == append || w->rows > 0 || t >= KEYS / ROWS ? w->change(t) : set(t * ROWS + i, 1);
    must("COMMIT");
    world.changes += 40;
    count_rows(warm);
    if (t % EACH == 0)
      look_at_file();
    if (w->reopen && t % 150 == 149) {
      close_file();
      open_file();
    }
  }
  double amplification = world.written / world.changes;
  judge(world.most <= 1, w, "the file is larger than 2.75 x live + 1 MiB");
  judge(amplification <= w->amplification + .05, w, "more was written than allowed");
  judge(is_right(w), w, "an entry is wrong");
  close_file();
  open_file();
  judge(is_right(w), w, "an entry is wrong when the file is opened again");
  judge(number("SELECT count(*) FROM pragma_integrity_check WHERE integrity_check = 'ok'") == 1, w, "integrity_check");
  close_file();
  printf("%-30s file at most %.2f of the bound, write amplification %.2f\n", w->name, world.most, amplification);
}

int main(int argc, char **argv) {
  char folder[64] = "/tmp/walmap-size-XXXXXX";
  const char *given = getenv("SEED");
  state = given != NULL ? strtoull(given, NULL, 0) : (uint64_t)time(NULL);
  if (getenv("WALMAP_SO") != NULL)
    extension = getenv("WALMAP_SO");
  printf("durable_size: seed %llu (repeat with SEED=)\n", (unsigned long long)state);
  if (mkdtemp(folder) == NULL)
    return 2;
  snprintf(file, sizeof file, "%s/a.db", folder);
  for (size_t i = 0; i < sizeof ways / sizeof *ways; i++)
    run_way(&ways[i], argc > 1 ? atoi(argv[1]) : 4000);
  char more[120];
  unlink(file);
  snprintf(more, sizeof more, "%s-wal", file);
  unlink(more);
  snprintf(more, sizeof more, "%s-shm", file);
  unlink(more);
  rmdir(folder);
  printf("%zu passed, %ld failed\n", 5 * (sizeof ways / sizeof *ways) - (size_t)failures, failures);
  return failures != 0;
}
