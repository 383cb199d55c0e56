/*
** bench_concurrent.c - connections of one process over one in-memory database: walmap beside what SQLite has for that
**
**   bench_concurrent [quick|full]
**
** Each thread has a connection of its own and a busy_timeout of 5 seconds. A reader looks up keys in a shuffled order,
** a writer replaces values, each statement a transaction, or ten of them. A statement that ends in BUSY or LOCKED is
** counted and tried again, with its transaction; its time is that of all tries together, for that is what a program
** waits. The ways to share:
**
**   walmap           a table in temp with map='...', and the same read through walmap_get()
**   cache=shared     SQLite's shared cache; the same with PRAGMA read_uncommitted
**   memdb            the memdb VFS
**   WAL              a database file in WAL mode in /dev/shm, or in TMPDIR where there is no such folder
**
** WALMAP_SO names the extension. SQLite's memory statistics cost all of them a global mutex: MEMSTATUS=0 turns them
** off, and a full run without MEMSTATUS measures with and without.
*/
#include "report.h"
#include "sql.h"
#include "times.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/wait.h>

typedef enum way { TABLE, FUNCTION, SHARED, UNCOMMITTED, MEMDB, WAL, WAYS } way;
static const char *const way_name[] = {"walmap",           "walmap_get()", "cache=shared",
                                       "read_uncommitted", "memdb",        "WAL file"};

static char wal_file[256];

static sqlite3 *open_way(way w) {
  static const char *const name[] = {":memory:",
                                     ":memory:",
                                     "file:bench?mode=memory&cache=shared",
                                     "file:bench?mode=memory&cache=shared",
                                     "file:/bench?vfs=memdb",
                                     wal_file};
  int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_URI | SQLITE_OPEN_NOMUTEX;
  sqlite3 *db;
  MUST(sqlite3_open_v2(name[w], &db, flags, NULL) == SQLITE_OK);
  sqlite3_busy_timeout(db, 5000);
  if (w == TABLE || w == FUNCTION) {
    must_load_walmap(db);
    must_sql(db, "CREATE VIRTUAL TABLE temp.kv USING walmap(map='bench')");
  } else {
    must_sql(db, "PRAGMA secure_delete = OFF");
    if (w == UNCOMMITTED)
      must_sql(db, "PRAGMA read_uncommitted = 1");
    if (w == WAL)
      must_sql(db, "PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF");
    must_sql(db, "CREATE TABLE IF NOT EXISTS kv(key PRIMARY KEY, value) WITHOUT ROWID");
  }
  return db;
}

/* ------------------------------------------------------------------------------------------------------------------ */

typedef struct worker {
  way way;
  int number;
  bool writes;
  bool in_tens; /* ten statements a transaction */
  sqlite3 *db;
  const key *keys;
  uint32_t n, at, generation; /* another one in each pass, for an equal value may not be written at all */
  atomic_bool *stop;
  uint64_t done, refused, ns;
  bool preempted;
  histogram times;
} worker;

static void bind(worker *w, sqlite3_stmt *statement, const key *k) {
  static _Thread_local char value[LARGEST_VALUE];
  bind_key(statement, 1, k);
  if (w->writes) {
    size_t len = value_make(SMALL, k, w->generation, value);
    sqlite3_bind_text(statement, 2, value, (int)len, SQLITE_STATIC);
  }
}

/* Whether it worked; otherwise it was refused, or the schema was locked. */
static bool step(worker *w, sqlite3_stmt *statement) {
  int result = sqlite3_step(statement);
  if (result == SQLITE_ROW)
    MUST(sqlite3_column_bytes(statement, 0) == w->keys[w->at].len);
  sqlite3_reset(statement);
  if (result == SQLITE_ROW || result == SQLITE_DONE)
    return true;
  int kind = sqlite3_errcode(w->db) & 0xff;
  MUST(kind == SQLITE_BUSY || kind == SQLITE_LOCKED);
  w->refused++;
  return false;
}

enum { BEGIN, COMMIT, ROLLBACK, STATEMENT, STATEMENTS };
enum { TEN = 10 };

static bool run_one(worker *w, sqlite3_stmt *const *statements) {
  bind(w, statements[STATEMENT], &w->keys[w->at]);
  return step(w, statements[STATEMENT]);
}

static bool run_ten(worker *w, sqlite3_stmt *const *statements) {
  if (!step(w, statements[BEGIN]))
    return false;
  bool worked = true;
  for (uint32_t i = 0; i < TEN && worked; i++) {
    bind(w, statements[STATEMENT], &w->keys[(w->at + i) % w->n]);
    worked = step(w, statements[STATEMENT]);
  }
  if (worked && step(w, statements[COMMIT]))
    return true;
  MUST(step(w, statements[ROLLBACK]));
  return false;
}

/* One transaction, tried until it works or the time is over. */
static void run_transaction(worker *w, sqlite3_stmt *const *statements) {
  uint64_t began = now_ns();
  while (!(w->in_tens ? run_ten(w, statements) : run_one(w, statements)) && !atomic_load(w->stop)) {
  }
  histogram_add(&w->times, now_ns() - began);
  w->done++;
}

/* False when the schema stays locked until the time is over. */
static bool prepare(worker *w, const char *sql, sqlite3_stmt **statement) {
  int result;
  while ((result = sqlite3_prepare_v2(w->db, sql, -1, statement, NULL)) != SQLITE_OK) {
    MUST((result & 0xff) == SQLITE_BUSY || (result & 0xff) == SQLITE_LOCKED);
    w->refused++;
    if (atomic_load(w->stop))
      return false;
  }
  return true;
}

/* SQLite's own ways take the lock at once: one that read first could not go on to write. */
static void *run_worker(void *arg) {
  worker *w = arg;
  sqlite3_stmt *statements[STATEMENTS] = {NULL};
  const char *read = w->way == FUNCTION ? "SELECT walmap_get('kv', ?1)" : "SELECT value FROM kv WHERE key = ?1";
  const char *sql[STATEMENTS] = {w->way <= FUNCTION ? "BEGIN" : "BEGIN IMMEDIATE", "COMMIT", "ROLLBACK",
                                 w->writes ? "REPLACE INTO kv VALUES(?1, ?2)" : read};
  bool prepared = true;
  pin_thread(w->number);
  for (int i = 0; i < STATEMENTS && prepared; i++)
    prepared = prepare(w, sql[i], &statements[i]);
  long before = preemptions();
  uint64_t began = now_ns();
  while (prepared && !atomic_load(w->stop)) {
    run_transaction(w, statements);
    w->at += w->in_tens ? TEN : 1;
    if (w->at >= w->n) {
      w->at = 0;
      w->generation = (w->generation + 1) % 8;
    }
  }
  w->ns = now_ns() - began;
  w->preempted = preemptions() != before;
  for (int i = 0; i < STATEMENTS; i++)
    sqlite3_finalize(statements[i]);
  return NULL;
}

static double per_second(const worker *w) { return w->ns ? (double)w->done * 1e6 / (double)w->ns : 0; } /* thousands */

/* One of the parties: reads or writes its part of the keys, in a connection that stays open. */
typedef struct scene {
  way way;
  sqlite3 *db[2];
  const key *keys;
  uint32_t n, generation;
  bool in_tens;
} scene;

static void run_parties(scene *s, worker *workers, int n, bool first_writes, bool second_writes, unsigned ms) {
  pthread_t threads[2];
  atomic_bool stop = false;
  for (int i = 0; i < n; i++) {
    workers[i] = (worker){.way = s->way,
                          .number = i,
                          .writes = i ? second_writes : first_writes,
                          .in_tens = s->in_tens,
                          .db = s->db[i],
                          .keys = s->keys + (size_t)i * (s->n / 2),
                          .n = s->n / 2,
                          .generation = s->generation++ % 8,
                          .stop = &stop};
    MUST(pthread_create(&threads[i], NULL, run_worker, &workers[i]) == 0);
  }
  struct timespec t = {ms / 1000, (long)(ms % 1000) * 1000000};
  nanosleep(&t, NULL);
  atomic_store(&stop, true);
  for (int i = 0; i < n; i++)
    MUST(pthread_join(threads[i], NULL) == 0);
}

static unsigned slices, slices_preempted;
static int most_tries;

/*
** The same, up to so many times until no thread has to leave its core: then the figures include no other process's
** work.
*/
static void run_clean(scene *s, worker *workers, int n, bool first_writes, bool second_writes, unsigned ms) {
  bool preempted = true;
  for (int i = 0; i < most_tries && preempted; i++) {
    run_parties(s, workers, n, first_writes, second_writes, ms);
    preempted = workers[0].preempted || (n > 1 && workers[1].preempted);
  }
  slices++;
  slices_preempted += preempted;
}

static void load(sqlite3 *db, const key *keys, uint32_t n) {
  sqlite3_stmt *insert;
  char value[LARGEST_VALUE];
  MUST(sqlite3_prepare_v2(db, "REPLACE INTO kv VALUES(?1, ?2)", -1, &insert, NULL) == SQLITE_OK);
  must_sql(db, "BEGIN");
  for (uint32_t i = 0; i < n; i++) {
    size_t len = value_make(SMALL, &keys[i], 0, value);
    bind_key(insert, 1, &keys[i]);
    sqlite3_bind_text(insert, 2, value, (int)len, SQLITE_STATIC);
    MUST(sqlite3_step(insert) == SQLITE_DONE);
    sqlite3_reset(insert);
  }
  must_sql(db, "COMMIT");
  sqlite3_finalize(insert);
}

/* ------------------------------------------------------------------------------------------------------------------ */

static void sample(report *r, const char *what, way w, double value) { report_sample(r, what, way_name[w], value); }

static void sample_scene(report *r, scene *s, unsigned ms) {
  static worker w[2]; /* they hold histograms */
  run_clean(s, w, 1, false, false, ms);
  double one = per_second(&w[0]);
  sample(r, "reader alone", s->way, one);
  run_clean(s, w, 2, false, false, ms);
  sample(r, "two readers", s->way, per_second(&w[0]) + per_second(&w[1]));
  sample(r, "two readers to one", s->way, (per_second(&w[0]) + per_second(&w[1])) / one);
  run_clean(s, w, 2, false, true, ms);
  sample(r, "reader beside a writer", s->way, per_second(&w[0]));
  sample(r, "the same, to alone", s->way, per_second(&w[0]) / one);
  sample(r, "its p50, us", s->way, histogram_at(&w[0].times, 0.5) / 1e3);
  sample(r, "its p90, us", s->way, histogram_at(&w[0].times, 0.9) / 1e3);
  sample(r, "its p99, us", s->way, histogram_at(&w[0].times, 0.99) / 1e3);
  sample(r, "its p99.9, us", s->way, histogram_at(&w[0].times, 0.999) / 1e3);
  sample(r, "its p99.99, us", s->way, histogram_at(&w[0].times, 0.9999) / 1e3);
  sample(r, "its longest, us", s->way, (double)w[0].times.max / 1e3);
  sample(r, "BUSY or LOCKED to it", s->way, (double)w[0].refused);
  sample(r, "the writer beside it", s->way, per_second(&w[1]));
  sample(r, "BUSY or LOCKED to the writer", s->way, (double)w[1].refused);
  run_clean(s, w, 1, true, true, ms);
  one = per_second(&w[0]);
  sample(r, "writer alone", s->way, one);
  run_clean(s, w, 2, true, true, ms);
  sample(r, "two writers", s->way, per_second(&w[0]) + per_second(&w[1]));
  sample(r, "two writers to one", s->way, (per_second(&w[0]) + per_second(&w[1])) / one);
  sample(r, "BUSY or LOCKED to writers", s->way, (double)(w[0].refused + w[1].refused));
  s->in_tens = true;
  run_clean(s, w, 1, true, true, ms);
  one = per_second(&w[0]);
  sample(r, "transactions of ten, one writer", s->way, one);
  run_clean(s, w, 2, true, true, ms);
  sample(r, "the same, two writers", s->way, per_second(&w[0]) + per_second(&w[1]));
  sample(r, "the same, two to one", s->way, (per_second(&w[0]) + per_second(&w[1])) / one);
  sample(r, "BUSY or LOCKED to these", s->way, (double)(w[0].refused + w[1].refused));
  s->in_tens = false;
}

static void show(report *r, const char *what, const char *unit) { report_ways(r, what, unit, way_name, WAYS); }

static void show_target(report *r, const char *what, way w, target_kind kind, double target) {
  char name[128];
  double value = report_median(r, what, way_name[w]);
  snprintf(name, sizeof name, "%s: %s", way_name[w], what);
  /* what is judged is a ratio already */
  report_values(r, name, "", value, NULL, kind == VALUE_AT_MOST ? NAN : 1, kind, target);
}

/* SQLite's statistics are chosen once in a process, so each setting gets one. */
static int both_settings(const char *program, const char *what) {
  for (int statistics = 1; statistics >= 0; statistics--) {
    int status;
    fflush(NULL);
    pid_t child = fork();
    MUST(child >= 0);
    if (child == 0) {
      setenv("MEMSTATUS", statistics ? "1" : "0", 1);
      execl(program, program, what, (char *)NULL);
      _exit(127);
    }
    MUST(waitpid(child, &status, 0) == child);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
      return 1;
  }
  return 0;
}

int main(int argc, char **argv) {
  const char *what = argc > 1 ? argv[1] : "full";
  bool full = !strcmp(what, "full");
  MUST(full || !strcmp(what, "quick"));
  if (full && !getenv("MEMSTATUS"))
    return both_settings(argv[0], what);
  bool statistics = choose_statistics();
  uint32_t n = 100000;
  unsigned ms = full ? 50 : 30;
  most_tries = full ? 6 : 1;
  int rounds = full ? 9 : 5;
  const char *folder = getenv("TMPDIR");
  if (access("/dev/shm", W_OK) == 0)
    folder = "/dev/shm";
  snprintf(wal_file, sizeof wal_file, "%s/walmap-bench-%ld.db", folder ? folder : "/tmp", (long)getpid());
  report *r = report_open(statistics ? "bench_concurrent" : "bench_concurrent_nostat", sqlite_version(statistics));
  print_compile_options();
  report_title(r, "%u entries, thousands a second", n);

  uint32_t *order = order_shuffled(n, 1);
  key *keys = keys_make(SMALL, order, n, 0);
  free(order);
  scene scenes[WAYS];
  for (way w = TABLE; w < WAYS; w++) {
    scenes[w] = (scene){.way = w, .keys = keys, .n = n};
    for (int i = 0; i < 2; i++)
      scenes[w].db[i] = open_way(w);
    load(scenes[w].db[0], keys, n);
  }
  for (int round = 0; round <= rounds; round++)
    for (int turn = 0; turn < WAYS; turn++)
      sample_scene(r, &scenes[turn_of(round, turn, WAYS)], ms);

  report_columns(way_name, WAYS);
  show(r, "reader alone", "k/s");
  show(r, "two readers", "k/s");
  show(r, "two readers to one", "");
  show(r, "reader beside a writer", "k/s");
  show(r, "the same, to alone", "");
  show(r, "its p50, us", "");
  show(r, "its p90, us", "");
  show(r, "its p99, us", "");
  show(r, "its p99.9, us", "");
  show(r, "its p99.99, us", "");
  show(r, "its longest, us", "");
  show(r, "BUSY or LOCKED to it", "");
  show(r, "the writer beside it", "k/s");
  show(r, "BUSY or LOCKED to the writer", "");
  show(r, "writer alone", "k/s");
  show(r, "two writers", "k/s");
  show(r, "two writers to one", "");
  show(r, "BUSY or LOCKED to writers", "");
  show(r, "transactions of ten, one writer", "k/s");
  show(r, "the same, two writers", "k/s");
  show(r, "the same, two to one", "");
  show(r, "BUSY or LOCKED to these", "");
  printf("\n");
  show_target(r, "two readers to one", TABLE, RATIO_AT_LEAST, statistics ? 1.45 : 1.9);
  show_target(r, "two readers to one", FUNCTION, RATIO_AT_LEAST, statistics ? 1.85 : 1.9);
  show_target(r, "the same, to alone", TABLE, RATIO_AT_LEAST, 0.9);
  show_target(r, "its p99.9, us", TABLE, VALUE_AT_MOST, 50);
  show_target(r, "BUSY or LOCKED to it", TABLE, VALUE_AT_MOST, 0);
  show_target(r, "two writers to one", TABLE, RATIO_AT_LEAST, 1.6);
  printf("\nA thread was preempted in %u of %u slices\n", slices_preempted, slices);
  report_close(r);

  for (way w = TABLE; w < WAYS; w++)
    for (int i = 0; i < 2; i++)
      MUST(sqlite3_close(scenes[w].db[i]) == SQLITE_OK);
  unlink(wal_file);
  free(keys);
  return 0;
}
