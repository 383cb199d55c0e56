/*
** soak.c - memory that grows for ever, under everything at once, for as long as one likes
**
** Four threads, each with a connection of its own, do in random order all that a program can do with one shared map
** and with maps of its own: read, write, transact, undo, compact, take images and put them back, follow by changes,
** make and drop maps, open and close connections. How much there is to hold stays the same, so after a warm-up so must
** the memory: in a run with enough figures the last third is held against the one before. Each value begins with its
** key, which every read checks.
**
** Usage: soak [seconds [interval [file]]]     defaults: 2, a quarter of the seconds, standard output
** Writes a line of tab-separated figures every `interval` seconds; with a file as `make soak` draws them.
** Environment: SEED; WALMAP_SO is the extension (default ./walmap)
*/
#define _GNU_SOURCE

#include "threads.h"

#define THREADS 4
#define KEYS 20000
#define HUGE_KEYS 8

static atomic_bool stop;
static atomic_long done; /* operations */

/* ------------------------------------------------------------------------------------------------------------------ */
/* Operations                                                                                                         */

/* A value that does not begin with its key is counted in the second column. */
#define WRONG "sum(CAST(value AS INTEGER) <> key)"

static void check(worker *w, const char *sql, int a, int b) {
  sqlite3_int64 row[2] = {0, 0};
  if (run_ok(w, sql, a, b, row) && row[1] != 0) {
    fail("%s: %lld of %lld values are another key's", sql, (long long)row[1], (long long)row[0]);
  }
}

static int some_key(worker *w) { return pick(w, KEYS); }

static void get(worker *w) {
  check(w, "SELECT count(*), " WRONG " FROM kv WHERE key = ?1", some_key(w), 0);
  check(w, "SELECT 1, CAST(walmap_get('kv', ?1) AS INTEGER) <> ?1", some_key(w), 0);
}

static void scan(worker *w) { check(w, "SELECT count(*), " WRONG " FROM kv", 0, 0); }

static void image(worker *w) { check(w, "SELECT count(*), " WRONG " FROM walmap_each(walmap_snapshot('kv'))", 0, 0); }

#define SET "REPLACE INTO kv VALUES(?1, printf('%-*d', 10 + abs(random()) % 400, ?1))"
#define SET_HUGE "REPLACE INTO kv VALUES(?1, printf('%-*d', 300000 + abs(random()) % 100000, ?1))"
#define SET_MANY                                                                                                       \
  "WITH RECURSIVE n(i) AS (SELECT ?1 UNION ALL SELECT i + 1 FROM n WHERE i < ?2)"                                      \
  " REPLACE INTO kv SELECT i, printf('%-*d', 10 + abs(random()) % 400, i) FROM n"
#define UPSERT "SELECT walmap_upsert('kv', ?1, ?1 || ' ', 'substr(value, 1, 90) || ''x''')"
#define REMOVE "DELETE FROM kv WHERE key = ?1"

static void set(worker *w) { run_or_roll_back(w, SET, some_key(w), 0, NULL); }
static void set_huge(worker *w) { run_or_roll_back(w, SET_HUGE, KEYS + pick(w, HUGE_KEYS), 0, NULL); }
static void take_away(worker *w) { run_or_roll_back(w, REMOVE, some_key(w), 0, NULL); }
static void upsert(worker *w) { run_or_roll_back(w, UPSERT, some_key(w), 0, NULL); }

/* Savepoints inside, a part that is undone, and all that is undone at times. */
static void transact(worker *w) {
  run_ok(w, "BEGIN", 0, 0, NULL);
  int from = some_key(w);
  if (!run_or_roll_back(w, SET_MANY, from, from + pick(w, 200), NULL)) {
    return;
  }
  run_ok(w, "SAVEPOINT s", 0, 0, NULL);
  for (int i = 0; i < 5; i++) {
    if (!run_or_roll_back(w, pick(w, 2) ? REMOVE : SET, some_key(w), 0, NULL)) {
      return;
    }
  }
  run_ok(w, pick(w, 2) ? "ROLLBACK TO s" : "RELEASE s", 0, 0, NULL);
  run_ok(w, pick(w, 4) ? "COMMIT" : "ROLLBACK", 0, 0, NULL);
}

static void compact(worker *w) { run_or_roll_back(w, "SELECT length(walmap_compact('kv'))", 0, 0, NULL); }

static void restore(worker *w) {
  run_or_roll_back(w, "SELECT walmap_restore('kv', walmap_snapshot('kv'))", 0, 0, NULL);
}

/* A map of the connection's own follows the shared one; from its image again whenever that was restored. */
static void follow(worker *w) {
  int rc = run(w, "UPDATE place SET seen = walmap_changes('kv', seen)", 0, 0, NULL);
  if (rc == SQLITE_OK) {
    run_ok(w, "SELECT walmap_apply('mine', seen) FROM place", 0, 0, NULL);
  } else {
    run_ok(w, "UPDATE place SET seen = walmap_position('kv')", 0, 0, NULL);
    run_ok(w, "SELECT walmap_restore('mine', walmap_snapshot('kv'))", 0, 0, NULL);
  }
  check(w, "SELECT count(*), " WRONG " FROM mine", 0, 0);
}

static void come_and_go(worker *w) {
  char sql[200];
  snprintf(sql, sizeof sql,
           "CREATE VIRTUAL TABLE temp.other USING walmap(map='other %d', shards=%d);"
           "REPLACE INTO other SELECT key, value FROM kv WHERE key < 1000; DROP TABLE other",
           pick(w, 3), 4);
  int rc = sqlite3_exec(w->db, sql, NULL, NULL, NULL);
  if (rc != SQLITE_OK) {
    if (!is_deadlock(w)) {
      fail("%s: %s", sql, sqlite3_errmsg(w->db));
    }
    must(w->db, "DROP TABLE other");
  }
}

static void open_connection(worker *w) {
  worker_open(w);
  must(w->db, "CREATE VIRTUAL TABLE temp.mine USING walmap; CREATE TEMP TABLE place(seen);"
              "INSERT INTO place VALUES(walmap_position('kv'))");
}

/* In the middle of a transaction at times. */
static void reopen(worker *w) {
  if (pick(w, 2)) {
    run_ok(w, "BEGIN", 0, 0, NULL);
    run_or_roll_back(w, SET, some_key(w), 0, NULL);
  }
  worker_close(w);
  open_connection(w);
}

/* How often each was tried: what writes may end in a deadlock. */
static struct operation {
  const char *name;
  int weight;
  void (*run)(worker *w);
  atomic_long times;
} operations[] = {
    {"gets", 3000, get, 0},
    {"scans", 10, scan, 0},
    {"images that are read", 10, image, 0},
    {"sets", 3000, set, 0},
    {"sets of huge values", 20, set_huge, 0},
    {"removals", 1500, take_away, 0},
    {"upserts", 1500, upsert, 0},
    {"transactions", 400, transact, 0},
    {"compactions", 8, compact, 0},
    {"restores", 8, restore, 0},
    {"changes that are followed", 20, follow, 0},
    {"maps that come and go", 20, come_and_go, 0},
    {"connections that come and go", 20, reopen, 0},
};
enum { OPERATIONS = sizeof operations / sizeof operations[0] };

static struct operation *pick_operation(worker *w) {
  int all = 0;
  for (int i = 0; i < OPERATIONS; i++) {
    all += operations[i].weight;
  }
  struct operation *operation = operations;
  for (int n = pick(w, all); n >= operation->weight; operation++) {
    n -= operation->weight;
  }
  return operation;
}

static void perform(worker *w, struct operation *operation) {
  operation->run(w);
  atomic_fetch_add(&operation->times, 1);
  atomic_fetch_add(&done, 1);
}

/* Each operation once, so that a short run, or a slow one, has them all; then as they come. */
static void *work(void *arg) {
  worker *w = arg;
  open_connection(w);
  for (int i = 0; i < OPERATIONS; i++) {
    perform(w, &operations[i]);
  }
  while (!atomic_load(&stop)) {
    perform(w, pick_operation(w));
  }
  worker_close(w);
  return NULL;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Figures                                                                                                            */

static long resident_kib(void) {
  long pages = 0;
  FILE *file = fopen("/proc/self/statm", "r");
  if (file == NULL || fscanf(file, "%*d %ld", &pages) != 1) {
    fprintf(stderr, "cannot read /proc/self/statm\n");
    exit(2);
  }
  fclose(file);
  return pages * (sysconf(_SC_PAGESIZE) / 1024);
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* From SQLite 3.44 on this looks at the map; before, it says ok. */
#define DAMAGE "SELECT count(*), count(*) FROM pragma_integrity_check WHERE integrity_check <> 'ok'"
#define OF_ALL_MAPS "SELECT sum(memory) >> 10, count(*) FROM walmap_stats"
#define OF_THE_MAP "SELECT entries, size >> 10 FROM walmap_stats WHERE name = 'soak'"

/* The sum of the resident memory in each third of the run, and how often it was read. */
enum { ENOUGH = 30 };
static struct third {
  double kib;
  int n;
} thirds[3];

static void report(FILE *out, worker *keeper, double seconds, double all_seconds) {
  struct third *third = &thirds[seconds < all_seconds ? (int)(3 * seconds / all_seconds) : 2];
  long resident = resident_kib();
  third->kib += (double)resident;
  third->n++;
  sqlite3_int64 all[2] = {0, 0}, map[2] = {0, 0};
  run_ok(keeper, OF_ALL_MAPS, 0, 0, all);
  run_ok(keeper, OF_THE_MAP, 0, 0, map);
  check(keeper, DAMAGE, 0, 0);
  fprintf(out, "%.1f\t%ld\t%lld\t%lld\t%lld\t%lld\t%lld\t%ld\n", seconds, resident, (long long)all[0],
          (long long)sqlite3_memory_used() >> 10, (long long)map[1], (long long)map[0], (long long)all[1],
          atomic_load(&done));
  fflush(out);
}

static void soak(FILE *out, worker *keeper, double seconds, double interval) {
  pthread_t threads[THREADS];
  worker workers[THREADS];
  for (int i = 0; i < THREADS; i++) {
    workers[i] = (worker){.phase = keeper->phase, .random = seed * 1000 + (uint64_t)i};
    if (pthread_create(&threads[i], NULL, work, &workers[i])) {
      fprintf(stderr, "cannot make a thread\n");
      exit(2);
    }
  }
  fprintf(out, "seconds\tresident_kib\tmaps_kib\tsqlite_kib\tlog_kib\tentries\tmaps\toperations\n");
  double begin = now();
  for (double at = interval; now() - begin < seconds; at += interval) {
    double wait = begin + at - now();
    usleep((useconds_t)((wait > 0 ? wait : 0) * 1e6));
    report(out, keeper, now() - begin, seconds);
  }
  atomic_store(&stop, true);
  for (int i = 0; i < THREADS; i++) {
    pthread_join(threads[i], NULL);
  }
}

/* The figures go up and down by half; their means over twenty minutes differ by a few percent. */
static bool is_flat(void) {
  if (thirds[1].n < ENOUGH || thirds[2].n < ENOUGH) {
    return true;
  }
  double before = thirds[1].kib / thirds[1].n, last = thirds[2].kib / thirds[2].n;
  printf("resident: %.0f KiB in the second third, %.0f KiB in the last\n", before, last);
  return last < 1.25 * before;
}

/* What the threads had is given back: their maps, and SQLite's memory. */
static bool is_all_given_back(worker *keeper, sqlite3_int64 sqlite_before) {
  sqlite3_int64 all[2];
  must(keeper->db, "DELETE FROM kv");
  run_ok(keeper, "SELECT length(walmap_compact('kv'))", 0, 0, NULL);
  run_ok(keeper, OF_ALL_MAPS, 0, 0, all);
  sqlite3_int64 sqlite_after = sqlite3_memory_used();
  printf("at the end: %lld map of %lld KiB, %lld bytes of SQLite's memory more than before\n", (long long)all[1],
         (long long)all[0], (long long)(sqlite_after - sqlite_before));
  return all[1] == 1 && sqlite_after - sqlite_before < 64 << 10;
}

int main(int argc, char **argv) {
  double seconds = argc > 1 ? atof(argv[1]) : 2, interval = argc > 2 ? atof(argv[2]) : seconds / 4;
  FILE *out = argc > 3 ? fopen(argv[3], "w") : stdout;
  if (seconds <= 0 || interval <= 0 || out == NULL) {
    fprintf(stderr, "usage: soak [seconds [interval [file]]]\n");
    return 2;
  }
  take_settings("soak", NULL);
  const phase phase = {"soak", NULL, "CREATE VIRTUAL TABLE temp.kv USING walmap(map='soak', busy_timeout=300000)"};
  worker keeper = {.phase = &phase};
  worker_open(&keeper);
  must(keeper.db, "SELECT count(*) FROM walmap_stats");
  sqlite3_int64 sqlite_before = sqlite3_memory_used();
  soak(out, &keeper, seconds, interval);
  bool given_back = is_all_given_back(&keeper, sqlite_before);
  worker_close(&keeper);

  int passed = 0, failed = (int)atomic_load(&failures);
  for (int i = 0; i < OPERATIONS; i++) {
    long n = atomic_load(&operations[i].times);
    printf("%10ld %s%s\n", n, operations[i].name, n ? "" : ": FAILED, never happened");
    passed += n > 0;
    failed += n == 0;
  }
  printf("%10ld deadlocks\n", atomic_load(&busy));
  bool flat = is_flat();
  if (!flat) {
    printf("FAILED: memory grows\n");
  }
  passed += given_back + flat;
  failed += !given_back + !flat;
  if (!given_back) {
    printf("FAILED: something was not given back\n");
  }
  printf("%d passed, %d failed\n", passed, failed);
  return failed > 0;
}
