/*
** bench_cache.c - maps with bounds: how often a cache misses beside exact LRU, FIFO and SIEVE as it was published, and
** what evicting costs
**
**   bench_cache [quick|full]
**
** A request reads a key, and sets it where it is absent. Traces, each the same for all policies:
**   Zipf s   independent draws, with the exponent s
**   scans    Zipf 1.0, and now and then 20,000 keys that come once
**   shift    Zipf 1.0; after each 100,000 requests a twentieth of the keys, drawn at random, change places with others
**   upheaval Zipf 1.0; after each 500,000 requests all keys change their places
**   loop     the keys in a circle, 1.1 times as many as the cache holds
**
** By entries all policies hold as many. By bytes walmap has 16 shards and max_bytes; the others hold as many entries as
** fit into so many bytes of a map without bounds, in which nothing is dead. Costs are processor time.
*/
#include "report.h"
#include "times.h"

#include <time.h>

#include "walmap.h"

enum { VALUE = 1000, SHORT_VALUE = 100, SCAN = 20000, EACH = 100000, PART = 20 };
static const uint32_t NONE = UINT32_MAX;
static const uint8_t value[VALUE] = {1};

/* ------------------------------------------------------------------------------------------------------------------ */
/* Traces                                                                                                             */

typedef struct trace {
  char name[16];
  uint32_t keys, n; /* all keys are below `keys` */
  uint32_t *at;
} trace;

static trace zipf_trace(uint32_t keys, uint32_t n, double exponent) {
  trace t = {"", keys, n, draw_zipf(keys, n, exponent, 1)};
  snprintf(t.name, sizeof t.name, "Zipf %.1f", exponent);
  return t;
}

/* A third of the requests are scans. */
static trace scan_trace(uint32_t keys, uint32_t n) {
  trace t = {"scans", keys, n, draw_zipf(keys, n, 1.0, 2)};
  for (uint32_t i = 2 * SCAN; i + SCAN <= n; i += 3 * SCAN) {
    for (uint32_t k = 0; k < SCAN; k++)
      t.at[i + k] = t.keys++;
  }
  return t;
}

/* After each `interval` requests, `swaps` keys change places with others. */
static trace shift_trace(const char *name, uint32_t keys, uint32_t n, uint32_t interval, uint32_t swaps) {
  trace t = {"", keys, n, draw_zipf(keys, n, 1.0, 3)};
  snprintf(t.name, sizeof t.name, "%s", name);
  uint32_t *key = order_shuffled(keys, 4);
  uint64_t random = 5;
  for (uint32_t i = 0; i < n; i++) {
    for (uint32_t k = 0; i > 0 && i % interval == 0 && k < swaps; k++) {
      uint32_t a = (uint32_t)(random_next(&random) % keys), b = (uint32_t)(random_next(&random) % keys), old = key[a];
      key[a] = key[b];
      key[b] = old;
    }
    t.at[i] = key[t.at[i]];
  }
  free(key);
  return t;
}

static trace loop_trace(uint32_t cache, uint32_t n) {
  trace t = {"loop", cache + cache / 10, n, must_alloc(n * sizeof(uint32_t))};
  for (uint32_t i = 0; i < n; i++)
    t.at[i] = i % t.keys;
  return t;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* The others: a queue of entries                                                                                     */

typedef enum policy { LRU, FIFO, SIEVE } policy;

/* Doubly linked by key; `older` and `newer` of a key that is not held mean nothing. */
typedef struct queue {
  uint32_t *older, *newer, oldest, newest, hand, n;
  uint8_t *held, *visited;
} queue;

static void link_newest(queue *q, uint32_t key) {
  q->older[key] = q->newest;
  q->newer[key] = NONE;
  if (q->newest != NONE)
    q->newer[q->newest] = key;
  else
    q->oldest = key;
  q->newest = key;
}

static void unlink_key(queue *q, uint32_t key) {
  uint32_t older = q->older[key], newer = q->newer[key];
  if (older != NONE)
    q->newer[older] = newer;
  else
    q->oldest = newer;
  if (newer != NONE)
    q->older[newer] = older;
  else
    q->newest = older;
}

static uint32_t victim_of(queue *q, policy p) {
  if (p != SIEVE)
    return q->oldest;
  uint32_t at = q->hand != NONE ? q->hand : q->oldest;
  for (; q->visited[at]; at = q->newer[at] != NONE ? q->newer[at] : q->oldest)
    q->visited[at] = 0;
  q->hand = q->newer[at];
  return at;
}

static double misses_of(policy p, const trace *t, uint32_t capacity) {
  queue q = {must_alloc(t->keys * sizeof(uint32_t)),
             must_alloc(t->keys * sizeof(uint32_t)),
             NONE,
             NONE,
             NONE,
             0,
             calloc(t->keys, 1),
             calloc(t->keys, 1)};
  uint32_t misses = 0;
  for (uint32_t i = 0; i < t->n; i++) {
    uint32_t key = t->at[i];
    if (q.held[key]) {
      q.visited[key] = 1;
      if (p == LRU) {
        unlink_key(&q, key);
        link_newest(&q, key);
      }
      continue;
    }
    misses++;
    if (q.n == capacity) {
      uint32_t victim = victim_of(&q, p);
      unlink_key(&q, victim);
      q.held[victim] = 0;
      q.n--;
    }
    link_newest(&q, key);
    q.held[key] = 1;
    q.visited[key] = 0;
    q.n++;
  }
  free(q.older);
  free(q.newer);
  free(q.held);
  free(q.visited);
  return (double)misses / t->n;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* walmap                                                                                                             */

static walmap *open_cache(uint64_t max_entries, uint64_t max_bytes) {
  walmap_options o;
  walmap *map;
  walmap_options_init(&o);
  o.max_entries = max_entries;
  o.max_bytes = max_bytes;
  MUST(walmap_open(&o, &map) == WALMAP_OK);
  return map;
}

static void set_key(walmap *map, uint32_t key) { MUST(walmap_set(map, &key, sizeof key, value, VALUE) == WALMAP_OK); }

static double walmap_misses(const trace *t, uint64_t max_entries, uint64_t max_bytes) {
  walmap *map = open_cache(max_entries, max_bytes);
  uint32_t misses = 0;
  for (uint32_t i = 0; i < t->n; i++) {
    if (walmap_get(map, &t->at[i], sizeof t->at[i], NULL, 0, NULL) == WALMAP_OK)
      continue;
    misses++;
    set_key(map, t->at[i]);
    MUST(max_entries != 0 || walmap_memory(map) <= max_bytes / 32 * 33 + 16 * (VALUE + 32));
  }
  MUST(max_entries == 0 || walmap_len(map) <= max_entries);
  walmap_close(map);
  return (double)misses / t->n;
}

/* The memory of so many entries in a map without bounds, by that of many: its regions are counted whole. */
static uint64_t bytes_for(uint32_t entries) {
  uint32_t many = entries < 1000000 ? 1000000 : entries;
  walmap *map = open_cache(0, 0);
  for (uint32_t key = 0; key < many; key++)
    set_key(map, key);
  uint64_t bytes = (uint64_t)((double)walmap_memory(map) * entries / many);
  walmap_close(map);
  return bytes;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Miss ratios                                                                                                        */

/* One trace; `target` is for the ratio to the misses of LRU, 0: none. */
static void measure_trace(report *r, const trace *t, uint32_t capacity, uint64_t bytes, double target) {
  static const char *const ways[] = {"walmap, entries", "walmap, bytes", "SIEVE", "LRU", "FIFO"};
  double misses[] = {walmap_misses(t, capacity, 0), walmap_misses(t, 0, bytes), misses_of(SIEVE, t, capacity),
                     misses_of(LRU, t, capacity), misses_of(FIFO, t, capacity)};
  for (int i = 0; i < 5; i++)
    report_sample(r, t->name, ways[i], 100 * misses[i]);
  report_ways(r, t->name, "% missed", ways, 5);
  target_kind kind = target > 0 ? RATIO_AT_MOST : NO_TARGET;
  report_values(r, t->name, "by entries", 100 * misses[0], "LRU", 100 * misses[3], kind, target);
  report_values(r, t->name, "by bytes", 100 * misses[1], "LRU", 100 * misses[3], kind, target);
}

static void measure_misses(report *r, uint32_t keys, uint32_t n, uint32_t part, double target) {
  static const double exponents[] = {0.6, 0.8, 1.0, 1.2};
  uint32_t capacity = keys / part;
  uint64_t bytes = bytes_for(capacity);
  report_title(r, "misses, %u keys, %u in the cache", keys, capacity);
  for (int i = 0; i < 8; i++) {
    trace t = i < 4    ? zipf_trace(keys, n, exponents[i])
              : i == 4 ? scan_trace(keys, n)
              : i == 5 ? shift_trace("shift", keys, n, EACH, keys / PART)
              : i == 6 ? shift_trace("upheaval", keys, n, 5 * EACH, keys)
                       : loop_trace(capacity, n);
    measure_trace(r, &t, capacity, bytes, i == 2 || i == 4 || i == 5 ? target : i > 5 ? 0 : 1.05);
    free(t.at);
  }
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Costs                                                                                                              */

static double cpu_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

/* Keys from `from` on, in any order. Of a map with bounds, those that are there. */
static double time_gets(walmap *map, uint32_t from, uint32_t n, uint64_t seed) {
  uint8_t buffer[VALUE];
  uint32_t *order = order_shuffled(n, seed);
  double start = cpu_ns();
  for (uint32_t i = 0; i < n; i++) {
    uint32_t key = from + order[i];
    (void)walmap_get(map, &key, sizeof key, buffer, sizeof buffer, NULL);
  }
  double ns = (cpu_ns() - start) / n;
  free(order);
  return ns;
}

static double time_sets(walmap *map, uint32_t from, uint32_t n, uint64_t seed) {
  uint32_t *order = order_shuffled(n, seed);
  double start = cpu_ns();
  for (uint32_t i = 0; i < n; i++) {
    uint32_t key = from + order[i];
    MUST(walmap_set(map, &key, sizeof key, value, SHORT_VALUE) == WALMAP_OK);
  }
  double ns = (cpu_ns() - start) / n;
  free(order);
  return ns;
}

/* The same after each fourth key was removed and set again, so that its first get must mark it as visited. */
static double time_gets_of_unread(walmap *map, uint32_t from, uint32_t n) {
  double ns = 0;
  for (uint32_t part = 0; part < 4; part++) {
    for (uint32_t i = part; i < n; i += 4) {
      uint32_t key = from + i;
      MUST(walmap_remove(map, &key, sizeof key) == WALMAP_OK);
      MUST(walmap_set(map, &key, sizeof key, value, SHORT_VALUE) == WALMAP_OK);
    }
    ns += time_gets(map, from, n, 7 + part) / 4;
  }
  return ns;
}

/*
** All maps are full, and have been overwritten once. Then: present keys are set again, until compaction has nothing new
** to it; and new keys, each of which evicts another where there are bounds.
*/
static void measure_way(report *r, const char *name, uint32_t keys, uint64_t max_entries, uint64_t max_bytes) {
  walmap *map = open_cache(max_entries, max_bytes);
  uint32_t from = 0;
  for (int i = 0; i < 3; i++, from += keys)
    (void)time_sets(map, max_entries || max_bytes ? from : 0, keys, 1);
  uint32_t newest = max_entries || max_bytes ? from - keys : 0, some = keys / 2;
  (void)time_sets(map, newest + some, some, 2);
  report_sample(r, "set of a present key", name, time_sets(map, newest + some, some, 3));
  (void)time_gets(map, newest + some, some, 4);
  report_sample(r, "get", name, time_gets(map, newest + some, some, 5));
  if (!max_bytes)
    report_sample(r, "get, a quarter unread", name, time_gets_of_unread(map, newest + some, some));
  report_sample(r, "set of another key", name, time_sets(map, from, some, 6));
  walmap_close(map);
}

static void measure_costs(report *r, uint32_t keys) {
  enum { ROUNDS = 7 };
  report_title(r, "costs, %u entries of %d bytes", keys, SHORT_VALUE);
  uint64_t bytes = (uint64_t)keys * 160;
  for (int round = 0; round < ROUNDS; round++) {
    measure_way(r, "no bounds", keys, 0, 0);
    measure_way(r, "max_entries", keys, keys, 0);
    measure_way(r, "max_bytes", keys, 0, bytes);
  }
  report_values(r, "get, a quarter unread, max_entries", "ns", report_median(r, "get, a quarter unread", "max_entries"),
                "no bounds", report_median(r, "get, a quarter unread", "no bounds"), RATIO_AT_MOST, 1.10);
  for (int way = 0; way < 2; way++) {
    const char *name = way ? "max_bytes" : "max_entries";
    report_values(r, way ? "get, max_bytes" : "get, max_entries", "ns", report_median(r, "get", name), "no bounds",
                  report_median(r, "get", "no bounds"), RATIO_AT_MOST, 1.03);
    report_values(r, way ? "set that evicts, max_bytes" : "set that evicts, max_entries", "ns",
                  report_median(r, "set of another key", name), "set of a present key, no bounds",
                  report_median(r, "set of a present key", "no bounds"), RATIO_AT_MOST, 1.5);
    report_values(r, way ? "set of a present key, max_bytes" : "set of a present key, max_entries", "ns",
                  report_median(r, "set of a present key", name), "no bounds",
                  report_median(r, "set of a present key", "no bounds"), NO_TARGET, 0);
  }
}

/*
** The times of single sets of new keys, a quarter of which expire after 20 ms: in a map with bounds each evicts, and
** what expires comes in between. Of the calls among which the thread was preempted, 256 are dropped.
*/
static void measure_longest(report *r, const char *name, uint32_t keys, uint64_t max_bytes) {
  enum { CHUNK = 256, LIFE = 20 };
  walmap *map = open_cache(0, max_bytes);
  histogram *all = must_alloc(sizeof *all);
  memset(all, 0, sizeof *all);
  (void)time_sets(map, 0, keys, 1);
  for (uint32_t key = keys; key < 6 * keys;) {
    uint64_t times[CHUNK];
    long before = preemptions();
    for (uint32_t i = 0; i < CHUNK; i++, key++) {
      uint64_t expires = key % 4 == 0 ? walmap_clock(map) + LIFE : WALMAP_NEVER, start = now_ns();
      MUST(walmap_set_expiring(map, &key, sizeof key, value, SHORT_VALUE, expires) == WALMAP_OK);
      times[i] = now_ns() - start;
    }
    for (uint32_t i = 0; i < CHUNK && preemptions() == before; i++)
      histogram_add(all, times[i]);
  }
  report_sample(r, "set", name, histogram_at(all, 0.5) / 1e3);
  report_sample(r, "p99.9", name, histogram_at(all, 0.999) / 1e3);
  report_sample(r, "p99.99", name, histogram_at(all, 0.9999) / 1e3);
  free(all);
  walmap_close(map);
}

static void measure_stalls(report *r, uint32_t keys) {
  enum { ROUNDS = 5 };
  report_title(r, "single sets, %u entries of %d bytes, a quarter expire", keys, SHORT_VALUE);
  for (int round = 0; round < ROUNDS; round++) {
    measure_longest(r, "no bounds", keys, 0);
    measure_longest(r, "max_bytes", keys, (uint64_t)keys * 160);
  }
  static const char *const names[] = {"max_bytes", "no bounds"};
  report_ways(r, "set", "us", names, 2);
  report_ways(r, "p99.9", "us", names, 2);
  report_ways(r, "p99.99", "us", names, 2);
}

int main(int argc, char **argv) {
  bool quick = argc > 1 && strcmp(argv[1], "quick") == 0;
  report *r = report_open("bench_cache", "LRU, FIFO and SIEVE of its own");
  uint32_t n = quick ? 300000 : 3000000;
  measure_misses(r, 200000, n, 10, 0.90);
  measure_misses(r, 1000000, n, 100, 0.93);
  measure_costs(r, quick ? 50000 : 200000);
  measure_stalls(r, quick ? 50000 : 200000);
  report_close(r);
  return 0;
}
