/*
** bench_shards.c - what the number of shards costs and brings: the measurement behind WALMAP_DEFAULT_SHARDS
**
**   bench_shards [quick|full]
**
** The same work on maps of 1 to 64 shards, in the core and through SQL. More shards let more writers work side by side;
** each one is a commit point that a state must collect, and memory of its own.
*/
#include "report.h"
#include "sql.h"

#include <pthread.h>
#include <stdatomic.h>

#include "walmap.h"

#define OK(call) MUST((call) == WALMAP_OK)

static const uint32_t counts[] = {WALMAP_DEFAULT_SHARDS, 1, 4, 8, 32, 64}; /* the default first: the others' measure */
#define COUNTS ((int)(sizeof counts / sizeof *counts))
static char names[COUNTS][24];
static const char *name_list[COUNTS];

typedef struct data {
  uint32_t n;
  key *load, *look, *absent;
} data;

static char value_buffer[LARGEST_VALUE];
static volatile uint64_t sink;

static double per(uint64_t began, uint32_t n) { return (double)(series_ns() - began) / n; }

static walmap *map_open(uint32_t shards) {
  walmap_options options;
  walmap *map;
  walmap_options_init(&options);
  options.shards = shards;
  OK(walmap_open(&options, &map));
  return map;
}

static void map_set(walmap *map, const key *k, uint32_t generation) {
  size_t len = value_make(SMALL, k, generation, value_buffer);
  OK(walmap_set(map, k->text, k->len, value_buffer, len));
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* One thread                                                                                                         */

static void sample_states(report *r, const char *who, walmap *map, uint32_t n) {
  enum { STATES = 100000 };
  walmap_state *state;
  walmap_cursor cursor;
  walmap_entry entry;
  uint64_t sum = 0;
  OK(walmap_state_new(map, &state));
  uint64_t began = series_ns();
  for (int i = 0; i < STATES; i++) {
    OK(walmap_state_begin(state));
    walmap_state_end(state);
  }
  report_sample(r, "begin and end a state", who, per(began, STATES));
  OK(walmap_state_begin(state));
  began = series_ns();
  for (walmap_cursor_start(&cursor, state); walmap_cursor_next(&cursor, &entry);)
    sum += *(const uint8_t *)entry.value;
  report_sample(r, "scan, an entry", who, per(began, n));
  walmap_state_free(state);
  sink += sum;
}

static void sample_images(report *r, const char *who, walmap *map, uint32_t shards, uint32_t n) {
  void *image;
  size_t size;
  uint64_t began = series_ns();
  OK(walmap_snapshot(map, &image, &size));
  report_sample(r, "image, an entry", who, per(began, n));
  walmap *copy = map_open(shards);
  began = series_ns();
  OK(walmap_restore(copy, image, size, NULL, NULL));
  report_sample(r, "restore, an entry", who, per(began, n));
  walmap_close(copy);
  walmap_image_free(image);
}

static walmap *sample_operations(report *r, const char *who, uint32_t shards, const data *d) {
  char out[LARGEST_VALUE];
  size_t len;
  walmap *map = map_open(shards);
  report_sample(r, "memory of an empty map", who, (double)walmap_memory(map));
  uint64_t began = series_ns();
  for (uint32_t i = 0; i < d->n; i++)
    map_set(map, &d->load[i], 0);
  report_sample(r, "insert", who, per(began, d->n));
  report_sample(r, "memory, an entry", who, (double)walmap_memory(map) / d->n);
  began = series_ns();
  for (uint32_t i = 0; i < d->n; i++) {
    OK(walmap_get(map, d->look[i].text, d->look[i].len, out, sizeof out, &len));
    sink += (uint8_t)out[0];
  }
  report_sample(r, "get", who, per(began, d->n));
  began = series_ns();
  for (uint32_t i = 0; i < d->n; i++)
    MUST(walmap_get(map, d->absent[i].text, d->absent[i].len, out, sizeof out, &len) == WALMAP_NOTFOUND);
  report_sample(r, "miss", who, per(began, d->n));
  sample_images(r, who, map, shards, d->n);
  began = series_ns();
  for (uint32_t i = 0; i < d->n; i++)
    map_set(map, &d->look[i], 1);
  report_sample(r, "overwrite", who, per(began, d->n));
  sample_states(r, who, map, d->n);
  return map;
}

/* The memory of a map that holds little. */
static void sample_small(report *r, const char *who, uint32_t shards, const data *d) {
  enum { FEW = 1000 };
  walmap *map = map_open(shards);
  for (uint32_t i = 0; i < FEW; i++)
    map_set(map, &d->load[i], 0);
  report_sample(r, "memory, an entry of 1000", who, (double)walmap_memory(map) / FEW);
  walmap_close(map);
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Two writers                                                                                                        */

typedef struct writer {
  walmap *map;
  const key *keys;
  uint32_t n;
  int number, in_transaction; /* keys in each transaction */
  atomic_bool *go, *stop;
  uint64_t done, again, ns;
  bool preempted;
} writer;

/* One transaction over the next keys. False: it met the other's in a deadlock. */
static bool write_some(writer *w, walmap_txn *txn, uint32_t at, uint32_t generation) {
  char value[LARGEST_VALUE];
  value[64] = 'v';
  walmap_txn_begin(txn);
  for (int i = 0; i < w->in_transaction; i++) {
    const key *k = &w->keys[(at + (uint32_t)i) % w->n];
    size_t len = value_make(SMALL, k, generation, value);
    int result = walmap_txn_set(txn, k->text, k->len, value, len);
    if (result != WALMAP_OK) {
      MUST(result == WALMAP_DEADLOCK);
      walmap_txn_rollback(txn);
      return false;
    }
  }
  walmap_txn_commit(txn);
  return true;
}

static void *run_writer(void *arg) {
  writer *w = arg;
  walmap_session *session;
  walmap_txn *txn;
  uint32_t at = 0, generation = 2;
  OK(walmap_session_new(NULL, NULL, &session));
  OK(walmap_txn_new(w->map, session, &txn));
  pin_thread(w->number);
  while (!atomic_load(w->go)) {
  }
  long before = preemptions();
  uint64_t began = now_ns();
  while (!atomic_load(w->stop)) {
    if (!write_some(w, txn, at, generation)) {
      w->again++;
      continue;
    }
    w->done++;
    at += (uint32_t)w->in_transaction;
    if (at >= w->n) {
      at = 0;
      generation = (generation + 1) % 8;
    }
  }
  w->ns = now_ns() - began;
  w->preempted = preemptions() != before;
  walmap_txn_free(txn);
  walmap_session_free(session);
  return NULL;
}

static bool run_once(writer *writers, int n) {
  pthread_t threads[2];
  atomic_bool go = false, stop = false;
  bool preempted = false;
  for (int i = 0; i < n; i++) {
    writers[i].go = &go;
    writers[i].stop = &stop;
    writers[i].done = writers[i].again = 0;
    MUST(pthread_create(&threads[i], NULL, run_writer, &writers[i]) == 0);
  }
  struct timespec t = {0, 10000000};
  atomic_store(&go, true);
  nanosleep(&t, NULL);
  atomic_store(&stop, true);
  for (int i = 0; i < n; i++) {
    MUST(pthread_join(threads[i], NULL) == 0);
    preempted |= writers[i].preempted;
  }
  return !preempted;
}

static unsigned slices, slices_preempted;

/*
** Thousands of transactions a second of n writers on keys of their own, if possible while no other process takes a core
** from them.
*/
static double run_writers(walmap *map, const data *d, int n, int in_transaction, double *again) {
  enum { MOST_TRIES = 20 };
  writer writers[2];
  bool clean = false;
  for (int i = 0; i < n; i++)
    writers[i] = (writer){.map = map,
                          .keys = d->look + (size_t)i * (d->n / 2),
                          .n = d->n / 2,
                          .number = i,
                          .in_transaction = in_transaction};
  for (int i = 0; i < MOST_TRIES && !clean; i++)
    clean = run_once(writers, n);
  slices++;
  slices_preempted += !clean;
  double speed = 0, done = 0, repeated = 0;
  for (int i = 0; i < n; i++) {
    speed += (double)writers[i].done * 1e6 / (double)writers[i].ns;
    done += (double)writers[i].done;
    repeated += (double)writers[i].again;
  }
  *again = 100 * repeated / done;
  return speed;
}

static void sample_writers(report *r, const char *who, walmap *map, const data *d) {
  double again, one = run_writers(map, d, 1, 1, &again), two = run_writers(map, d, 2, 1, &again);
  report_sample(r, "one writer", who, one);
  report_sample(r, "two writers", who, two);
  report_sample(r, "two writers to one", who, two / one);
  one = run_writers(map, d, 1, 10, &again);
  two = run_writers(map, d, 2, 10, &again);
  report_sample(r, "one writer of ten keys at once", who, one);
  report_sample(r, "two writers of ten keys at once", who, two);
  report_sample(r, "two to one, of ten keys at once", who, two / one);
  report_sample(r, "of these met a deadlock", who, again);
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Through SQL                                                                                                        */

static void sample_statement(report *r, const char *who, sqlite3 *db, const data *d, const char *what,
                             const char *sql) {
  sqlite3_stmt *statement = must_prepare(db, sql);
  uint32_t n = d->n < 200000 ? d->n : 200000;
  bool reads = sqlite3_column_count(statement) > 0;
  uint64_t began = series_ns();
  for (uint32_t i = 0; i < n; i++) {
    bind_key(statement, 1, &d->look[i]);
    must_step(statement, reads ? SQLITE_ROW : SQLITE_DONE);
    sqlite3_reset(statement);
  }
  report_sample(r, what, who, per(began, n));
  sqlite3_finalize(statement);
}

static void sample_sql(report *r, const char *who, uint32_t shards, const data *d) {
  sqlite3 *db;
  char sql[128];
  MUST(sqlite3_open(":memory:", &db) == SQLITE_OK);
  must_load_walmap(db);
  snprintf(sql, sizeof sql, "CREATE VIRTUAL TABLE kv USING walmap(shards=%u)", shards);
  must_sql(db, sql);
  sample_statement(r, who, db, d, "SQL: set, autocommit", "REPLACE INTO kv VALUES(?1, ?1)");
  sample_statement(r, who, db, d, "SQL: get, autocommit", "SELECT value FROM kv WHERE key = ?1");
  sample_statement(r, who, db, d, "SQL: replace, autocommit", "REPLACE INTO kv VALUES(?1, ?1 || 'x')");
  MUST(sqlite3_close(db) == SQLITE_OK);
}

/* ------------------------------------------------------------------------------------------------------------------ */

static const struct {
  const char *what, *unit;
} rows[] = {
    {"insert", "ns"},
    {"get", "ns"},
    {"miss", "ns"},
    {"overwrite", "ns"},
    {"scan, an entry", "ns"},
    {"begin and end a state", "ns"},
    {"image, an entry", "ns"},
    {"restore, an entry", "ns"},
    {"SQL: get, autocommit", "ns"},
    {"SQL: set, autocommit", "ns"},
    {"SQL: replace, autocommit", "ns"},
    {"one writer", "k/s"},
    {"two writers", "k/s"},
    {"two writers to one", ""},
    {"one writer of ten keys at once", "k/s"},
    {"two writers of ten keys at once", "k/s"},
    {"two to one, of ten keys at once", ""},
    {"of these met a deadlock", "%"},
    {"memory of an empty map", "bytes"},
    {"memory, an entry of 1000", "bytes"},
    {"memory, an entry", "bytes"},
};

int main(int argc, char **argv) {
  const char *what = argc > 1 ? argv[1] : "full";
  bool full = !strcmp(what, "full");
  MUST(full || !strcmp(what, "quick"));
  report *r = report_open("bench_shards", sqlite_version(choose_statistics()));
  data d = {.n = full ? 500000 : 50000};
  uint32_t *order = order_shuffled(d.n, 1);
  d.load = keys_make(SMALL, order, d.n, 0);
  free(order);
  order = order_shuffled(d.n, 2);
  d.look = keys_make(SMALL, order, d.n, 0);
  d.absent = keys_make(SMALL, order, d.n, d.n);
  free(order);
  for (int i = 0; i < COUNTS; i++) {
    snprintf(names[i], sizeof names[i], "%u%s", counts[i], i ? "" : " shards");
    name_list[i] = names[i];
  }
  report_title(r, "small, %u entries, by number of shards", d.n);
  for (int round = 0; round <= (full ? 9 : 5); round++) {
    for (int turn = 0; turn < COUNTS; turn++) {
      int i = turn_of(round, turn, COUNTS);
      walmap *map = sample_operations(r, names[i], counts[i], &d);
      sample_writers(r, names[i], map, &d);
      walmap_close(map);
      sample_small(r, names[i], counts[i], &d);
      sample_sql(r, names[i], counts[i], &d);
    }
  }
  report_columns(name_list, COUNTS);
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
    report_ways(r, rows[i].what, rows[i].unit, name_list, COUNTS);
  printf("\nA thread was preempted in %u of %u slices\n", slices_preempted, slices);
  report_close(r);
  free(d.load);
  free(d.look);
  free(d.absent);
  return 0;
}
