/*
** bench_core.c - the core on one thread: single operations, scans, images and memory, beside a plain hash table and the
** machine's limits
**
**   bench_core [quick|full]            the tables of test/bench/README.md
**   bench_core WORKLOAD ENTRIES [ROUNDS]    one of them: small, wide or large
**   BENCH_CLOCK=cpu counts processor time, for machines that are busy
**
** The hash table is uthash with the same hash function (XXH3) and a malloc for each entry and each value: what a C
** program uses that needs a map and no more. It has no transactions, no snapshots, no threads. The limits are memcpy of
** the same number of bytes into fresh huge pages, and XXH3 over them.
*/
#include "first_touch.h"
#include "report.h"

#include <malloc.h>
#include <sys/wait.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#define HASH_FUNCTION(start, len, out) (out) = (unsigned)XXH3_64bits(start, len)
#include <uthash.h>

#include "walmap.h"

#define TEXT_OF_(tokens) #tokens
#define TEXT_OF(macro) TEXT_OF_(macro)
#define OK(call) MUST((call) == WALMAP_OK)

#define TOGETHER_ROW "overwrite, 1,000 a transaction"

typedef struct data {
  workload w;
  uint32_t n;
  key *load, *look, *zipf, *absent; /* in the order of their use */
} data;

static data data_make(workload w, uint32_t n) {
  data d = {.w = w, .n = n};
  uint32_t *order = order_shuffled(n, 1);
  d.load = keys_make(w, order, n, 0);
  free(order);
  order = order_shuffled(n, 2);
  d.look = keys_make(w, order, n, 0);
  d.absent = keys_make(w, order, n, n);
  free(order);
  order = order_zipf(n, 3);
  d.zipf = keys_make(w, order, n, 0);
  free(order);
  return d;
}

/* About what a map of these takes, peers' included. */
static size_t bytes_of(const data *d) {
  size_t value = d->w == SMALL ? 8 : d->w == WIDE ? 100 : LARGEST_VALUE;
  return d->n * (value + 150);
}

static void data_free(data *d) {
  free(d->load);
  free(d->look);
  free(d->zipf);
  free(d->absent);
}

static char value_buffer[LARGEST_VALUE];
static volatile uint64_t sink; /* keeps the compiler from dropping what was read */

static double per(uint64_t began, uint32_t n) { return (double)(series_ns() - began) / n; }

/* ------------------------------------------------------------------------------------------------------------------ */
/* walmap                                                                                                             */

static walmap *map_open(void) {
  walmap *map;
  OK(walmap_open(NULL, &map));
  return map;
}

static void map_set_all(walmap *map, const data *d, const key *keys, uint32_t generation) {
  for (uint32_t i = 0; i < d->n; i++) {
    size_t len = value_make(d->w, &keys[i], generation, value_buffer);
    OK(walmap_set(map, keys[i].text, keys[i].len, value_buffer, len));
  }
}

/* The same in transactions of 1,000 keys each. */
static void map_set_all_in_transactions(walmap *map, const data *d, const key *keys, uint32_t generation) {
  enum { TOGETHER = 1000 };
  walmap_session *session;
  walmap_txn *txn;
  OK(walmap_session_new(NULL, NULL, &session));
  OK(walmap_txn_new(map, session, &txn));
  for (uint32_t i = 0; i < d->n; i++) {
    if (i % TOGETHER == 0)
      walmap_txn_begin(txn);
    size_t len = value_make(d->w, &keys[i], generation, value_buffer);
    OK(walmap_txn_set(txn, keys[i].text, keys[i].len, value_buffer, len));
    if (i % TOGETHER == TOGETHER - 1 || i == d->n - 1)
      walmap_txn_commit(txn);
  }
  walmap_txn_free(txn);
  walmap_session_free(session);
}

static double map_get_all(walmap *map, const data *d, const key *keys, int expected) {
  static char out[LARGEST_VALUE];
  size_t len = 0;
  uint64_t sum = 0, began = series_ns();
  for (uint32_t i = 0; i < d->n; i++) {
    MUST(walmap_get(map, keys[i].text, keys[i].len, out, sizeof out, &len) == expected);
    sum += (uint8_t)out[0];
  }
  sink += sum;
  return per(began, d->n);
}

static void map_reads(report *r, const data *d, walmap *map) {
  report_sample(r, "get", "walmap", map_get_all(map, d, d->look, WALMAP_OK));
  report_sample(r, "get, Zipfian", "walmap", map_get_all(map, d, d->zipf, WALMAP_OK));
  report_sample(r, "miss", "walmap", map_get_all(map, d, d->absent, WALMAP_NOTFOUND));

  walmap_state *state;
  walmap_entry entry, entries[16];
  uint64_t sum = 0, began;
  OK(walmap_state_new(map, &state));
  OK(walmap_state_begin(state));
  began = series_ns();
  for (uint32_t i = 0; i < d->n; i++) {
    OK(walmap_state_get(state, d->look[i].text, d->look[i].len, &entry));
    sum += *(const uint8_t *)entry.value;
  }
  report_sample(r, "get from a state", "walmap", per(began, d->n));

  began = series_ns();
  uint32_t whole = d->n / 16 * 16;
  for (uint32_t i = 0; i < whole; i += 16) {
    for (uint32_t j = 0; j < 16; j++) {
      entries[j].key = d->look[i + j].text;
      entries[j].key_len = d->look[i + j].len;
    }
    MUST(walmap_state_get_many(state, entries, 16) == 16);
    for (uint32_t j = 0; j < 16; j++)
      sum += *(const uint8_t *)entries[j].value;
  }
  report_sample(r, "get_many of 16, a key", "walmap", per(began, whole));

  walmap_cursor cursor;
  uint32_t seen = 0;
  began = series_ns();
  for (walmap_cursor_start(&cursor, state); walmap_cursor_next(&cursor, &entry); seen++)
    sum += *(const uint8_t *)entry.value;
  report_sample(r, "scan, an entry", "walmap", per(began, d->n));
  MUST(seen == d->n);
  walmap_state_free(state);
  sink += sum;
}

/* Takes the image, and sets it beside the same number of bytes copied, and hashed. Returns the image. */
static void *map_image(report *r, walmap *map, const char *what, size_t *size) {
  walmap_state *state;
  void *image;
  OK(walmap_state_new(map, &state));
  OK(walmap_state_begin(state));
  warm_memory(2 * walmap_size(map));
  uint64_t began = series_ns();
  OK(walmap_state_image(state, &image, size));
  report_sample(r, what, "walmap", per(began, 1) / 1e6);
  walmap_state_free(state);

  warm_memory(*size);
  fresh f = fresh_new(*size);
  began = series_ns();
  memcpy(f.at, image, *size);
  report_sample(r, what, "memcpy", per(began, 1) / 1e6);
  fresh_free(&f);

  began = series_ns();
  sink += XXH3_64bits(image, *size);
  report_sample(r, what, "XXH3", per(began, 1) / 1e6);
  return image;
}

static void map_restore(report *r, const data *d, const void *image, size_t size) {
  walmap *copy = map_open();
  warm_memory(4 * size);
  uint64_t entries, began = series_ns();
  OK(walmap_restore(copy, image, size, &entries, NULL));
  uint64_t took = series_ns() - began;
  MUST(entries == d->n);
  report_sample(r, "restore", "walmap", (double)took / 1e6);
  report_sample(r, "restore, an entry", "walmap", (double)took / d->n);
  warm_memory(size);
  fresh f = fresh_new(size);
  began = series_ns();
  memcpy(f.at, image, size);
  report_sample(r, "restore", "memcpy", per(began, 1) / 1e6);
  fresh_free(&f);
  walmap_close(copy);
}

static void run_walmap(report *r, const data *d) {
  size_t size;
  warm_memory(bytes_of(d));
  walmap *map = map_open();
  uint64_t began = series_ns();
  map_set_all(map, d, d->load, 0);
  report_sample(r, "insert", "walmap", per(began, d->n));
  MUST(walmap_len(map) == d->n);
  report_sample(r, "memory, an entry", "walmap", (double)walmap_memory(map) / d->n);
  map_reads(r, d, map);

  void *image = map_image(r, map, "image, nothing dead", &size);
  map_restore(r, d, image, size);
  walmap_image_free(image);

  began = series_ns();
  map_set_all(map, d, d->look, 1);
  report_sample(r, "overwrite", "walmap", per(began, d->n));
  began = series_ns();
  map_set_all_in_transactions(map, d, d->look, 2);
  report_sample(r, TOGETHER_ROW, "walmap", per(began, d->n));
  MUST(walmap_len(map) == d->n);

  began = series_ns();
  for (uint32_t i = 0; i < d->n; i++)
    OK(walmap_remove(map, d->load[i].text, d->load[i].len));
  report_sample(r, "remove", "walmap", per(began, d->n));
  walmap_close(map);

  walmap_options options; /* 30 of 100 records dead, and left so */
  walmap_options_init(&options);
  options.auto_compact = 0;
  OK(walmap_open(&options, &map));
  map_set_all(map, d, d->load, 0);
  uint32_t dead = (uint32_t)(d->n * 0.3 / 0.7);
  for (uint32_t i = 0; i < dead; i++) {
    size_t len = value_make(d->w, &d->look[i], 1, value_buffer);
    OK(walmap_set(map, d->look[i].text, d->look[i].len, value_buffer, len));
  }
  image = map_image(r, map, "image, 30 % dead", &size);
  walmap_image_free(image);
  walmap_close(map);
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* uthash                                                                                                             */

typedef struct peer_entry {
  UT_hash_handle hh;
  char *value;
  uint32_t value_len;
  uint8_t key_len;
  char key_text[];
} peer_entry;

static peer_entry *peer_find(peer_entry *table, const key *k) {
  peer_entry *e;
  HASH_FIND(hh, table, k->text, k->len, e);
  return e;
}

static void peer_set(peer_entry **table, const key *k, const char *value, size_t len) {
  peer_entry *e = peer_find(*table, k);
  if (e) {
    free(e->value);
  } else {
    e = must_alloc(sizeof *e + k->len);
    e->key_len = k->len;
    memcpy(e->key_text, k->text, k->len);
    HASH_ADD_KEYPTR(hh, *table, e->key_text, k->len, e);
  }
  e->value = must_alloc(len);
  e->value_len = (uint32_t)len;
  memcpy(e->value, value, len);
}

static void peer_remove(peer_entry **table, const key *k) {
  peer_entry *e = peer_find(*table, k);
  MUST(e);
  HASH_DEL(*table, e);
  free(e->value);
  free(e);
}

static void peer_set_all(peer_entry **table, const data *d, const key *keys, uint32_t generation) {
  for (uint32_t i = 0; i < d->n; i++) {
    size_t len = value_make(d->w, &keys[i], generation, value_buffer);
    peer_set(table, &keys[i], value_buffer, len);
  }
}

static double peer_get_all(peer_entry *table, const data *d, const key *keys, bool expected) {
  static char out[LARGEST_VALUE];
  uint64_t sum = 0, began = series_ns();
  for (uint32_t i = 0; i < d->n; i++) {
    peer_entry *e = peer_find(table, &keys[i]);
    MUST(!e == !expected);
    if (e)
      memcpy(out, e->value, e->value_len);
    sum += (uint8_t)out[0];
  }
  sink += sum;
  return per(began, d->n);
}

static void run_peer(report *r, const data *d) {
  warm_memory(bytes_of(d));
  peer_entry *table = NULL;
  uint64_t sum = 0, began = series_ns();
  peer_set_all(&table, d, d->load, 0);
  report_sample(r, "insert", "uthash", per(began, d->n));
  double get = peer_get_all(table, d, d->look, true);
  report_sample(r, "get", "uthash", get);
  report_sample(r, "get from a state", "uthash", get);
  report_sample(r, "get_many of 16, a key", "uthash", get);
  report_sample(r, "get, Zipfian", "uthash", peer_get_all(table, d, d->zipf, true));
  report_sample(r, "miss", "uthash", peer_get_all(table, d, d->absent, false));
  began = series_ns();
  for (peer_entry *e = table; e; e = e->hh.next)
    sum += (uint8_t)*e->value;
  report_sample(r, "scan, an entry", "uthash", per(began, d->n));
  sink += sum;
  began = series_ns();
  peer_set_all(&table, d, d->look, 1);
  double took = per(began, d->n);
  report_sample(r, "overwrite", "uthash", took);
  report_sample(r, TOGETHER_ROW, "uthash", took); /* it has none */
  began = series_ns();
  for (uint32_t i = 0; i < d->n; i++)
    peer_remove(&table, &d->load[i]);
  report_sample(r, "remove", "uthash", per(began, d->n));
  MUST(!table);
  malloc_trim(0);
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Memory, in processes of their own                                                                                  */

typedef struct footprint {
  double resident, counted, after_overwrites; /* bytes an entry; the first for both, the others for walmap */
} footprint;

static footprint measure_footprint(const data *d, bool peer) {
  int ends[2];
  footprint out = {0};
  MUST(pipe(ends) == 0);
  fflush(NULL);
  pid_t child = fork();
  MUST(child >= 0);
  if (child == 0) {
    uint64_t before = resident_bytes();
    if (peer) {
      peer_entry *table = NULL;
      peer_set_all(&table, d, d->load, 0);
      out.resident = (double)(resident_bytes() - before) / d->n;
    } else {
      walmap *map = map_open();
      map_set_all(map, d, d->load, 0);
      out.resident = (double)(resident_bytes() - before) / d->n;
      out.counted = (double)walmap_memory(map) / d->n;
      for (uint32_t i = 1; i <= 10; i++)
        map_set_all(map, d, i % 2 ? d->look : d->load, i);
      out.after_overwrites = (double)walmap_memory(map) / d->n;
    }
    MUST(write(ends[1], &out, sizeof out) == sizeof out);
    _exit(0);
  }
  close(ends[1]);
  MUST(read(ends[0], &out, sizeof out) == sizeof out);
  close(ends[0]);
  MUST(waitpid(child, NULL, 0) == child);
  return out;
}

/* ------------------------------------------------------------------------------------------------------------------ */

/* Targets stand where there is one for this workload and size; 10 million may cost 1.5 times what a million does. */
static void show(report *r, const data *d) {
  bool small = d->w == SMALL, million = small && d->n == 1000000, ten = small && d->n == 10000000;
  target_kind by_size = million || ten ? VALUE_AT_MOST : NO_TARGET;
  double scale = ten ? 1.5 : 1;
  report_row(r, "insert", "ns", "uthash", by_size, 150 * scale);
  report_row(r, "overwrite", "ns", "uthash", by_size, 200 * scale);
  report_row(r, TOGETHER_ROW, "ns", "uthash", NO_TARGET, 0);
  report_row(r, "remove", "ns", "uthash", by_size, 140 * scale);
  report_row(r, "get", "ns", "uthash", by_size, 125 * scale);
  report_row(r, "get, Zipfian", "ns", "uthash", NO_TARGET, 0);
  report_row(r, "get from a state", "ns", "uthash", NO_TARGET, 0);
  report_row(r, "get_many of 16, a key", "ns", "uthash", by_size, ten ? 55 : 40);
  report_row(r, "miss", "ns", "uthash", by_size, 50 * scale);
  report_row(r, "scan, an entry", "ns", "uthash", small ? VALUE_AT_MOST : NO_TARGET, 3.5);
  report_row(r, "image, nothing dead", "ms", "memcpy", RATIO_AT_MOST, 1.8);
  report_row(r, "image, nothing dead", "ms", "XXH3", NO_TARGET, 0);
  report_row(r, "image, 30 % dead", "ms", "memcpy", RATIO_AT_MOST, small ? 3.5 : 2);
  report_row(r, "restore", "ms", "memcpy", NO_TARGET, 0);
  report_row(r, "restore, an entry", "ns", NULL, small && d->n == 500000 ? VALUE_AT_MOST : NO_TARGET, 15);
  if (small && d->n == 500000) { /* the Go original, as measured on this kind of machine */
    report_values(r, "image", "ms", report_median(r, "image, nothing dead", "walmap"), "Go, quoted", 44, RATIO_AT_MOST,
                  0.05);
    report_values(r, "restore", "ms", report_median(r, "restore", "walmap"), "Go, quoted", 180, RATIO_AT_MOST, 0.05);
  }
  footprint ours = measure_footprint(d, false), theirs = measure_footprint(d, true);
  target_kind memory = d->n == 1000000 && d->w != LARGE ? VALUE_AT_MOST : NO_TARGET;
  report_values(r, "memory counted, an entry", "bytes", ours.counted, NULL, NAN, memory, small ? 42 : 150);
  report_values(r, "memory resident, an entry", "bytes", ours.resident, "uthash", theirs.resident, NO_TARGET, 0);
  report_values(r, "after ten overwrites of all", "bytes", ours.after_overwrites, "loaded", ours.counted, RATIO_AT_MOST,
                2);
}

static void run(report *r, workload w, uint32_t n, int rounds) {
  data d = data_make(w, n);
  report_title(r, "%s, %u entries", workload_name[w], n);
  for (int round = 0; round <= rounds; round++)
    for (int turn = 0; turn < 2; turn++)
      (turn_of(round, turn, 2) == 0 ? run_walmap : run_peer)(r, &d);
  show(r, &d);
  data_free(&d);
}

int main(int argc, char **argv) {
  const char *what = argc > 1 ? argv[1] : "full";
  char versions[128];
  snprintf(versions, sizeof versions, "walmap %s, uthash %s, xxHash %u.%u.%u, %s", walmap_version(),
           TEXT_OF(UTHASH_VERSION), XXH_VERSION_MAJOR, XXH_VERSION_MINOR, XXH_VERSION_RELEASE, __VERSION__);
  report *r = report_open("bench_core", versions);
  for (workload w = SMALL; w <= LARGE; w++) {
    if (strcmp(what, workload_name[w]))
      continue;
    MUST(argc > 2);
    run(r, w, (uint32_t)atoi(argv[2]), argc > 3 ? atoi(argv[3]) : 5);
    report_close(r);
    return 0;
  }
  bool full = !strcmp(what, "full");
  MUST(full || !strcmp(what, "quick"));
  if (full)
    run(r, SMALL, 1000, 15);
  run(r, SMALL, 10000, full ? 15 : 5);
  run(r, SMALL, 100000, 5);
  run(r, SMALL, 500000, 5);
  if (full) {
    run(r, SMALL, 1000000, 5);
    run(r, WIDE, 1000000, 5);
    run(r, SMALL, 10000000, 5);
  }
  run(r, LARGE, full ? 10000 : 1000, 5);
  report_close(r);
  return 0;
}
