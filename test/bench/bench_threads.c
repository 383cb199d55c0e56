/*
** bench_threads.c - the core between two threads: how readers scale, what a writer costs a reader, what writers cost
** one another, and the longest that a call takes while a map grows
**
**   bench_threads [quick|full]
**
** Throughput and times of single calls are measured in slices of their own, for the clock costs as much as half a get.
** The peer of a row is the same work with one thread fewer. Where a thread was preempted, a figure says more of the
** machine's other work than of walmap. So a slice of throughput with that in it is taken again, some times at most; and
** of the times of single calls, the 256 among which it happened are dropped. How often is printed.
*/
#include "report.h"
#include "times.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

#include "walmap.h"

#define OK(call) MUST((call) == WALMAP_OK)

typedef struct shared {
  walmap *map;
  const key *keys; /* n of them, in a shuffled order */
  uint32_t n;
  atomic_bool go, stop;
  atomic_int ready;
  atomic_uint loaded; /* keys that an inserter has set so far */
} shared;

#define CHUNK 256

typedef struct worker worker;
typedef uint64_t (*work_fn)(worker *w); /* CHUNK operations or fewer; their number */

struct worker {
  shared *shared;
  work_fn work;
  int number;
  uint32_t at, from, to; /* position in the keys, and the part that is this worker's */
  uint32_t generation;
  uint64_t done, ns;
  bool preempted;
  histogram *times;      /* NULL: throughput only */
  uint64_t chunk[CHUNK]; /* the times that are not in it yet */
  unsigned in_chunk;
};

static void note_time(worker *w, uint64_t ns) { w->chunk[w->in_chunk++] = ns; }

static void get_one(worker *w, const key *k) {
  char value[128];
  size_t len;
  uint64_t began = w->times ? now_ns() : 0;
  OK(walmap_get(w->shared->map, k->text, k->len, value, sizeof value, &len));
  if (w->times)
    note_time(w, now_ns() - began);
}

static void set_one(worker *w, const key *k) {
  char value[LARGEST_VALUE];
  value[64] = 'v';
  size_t len = value_make(SMALL, k, w->generation, value);
  uint64_t began = w->times ? now_ns() : 0;
  OK(walmap_set(w->shared->map, k->text, k->len, value, len));
  if (w->times)
    note_time(w, now_ns() - began);
}

static const key *next_key(worker *w) {
  if (w->at == w->to) {
    w->at = w->from;
    w->generation = (w->generation + 1) % 8;
  }
  return &w->shared->keys[w->at++];
}

static uint64_t work_get(worker *w) {
  for (int i = 0; i < CHUNK; i++)
    get_one(w, next_key(w));
  return CHUNK;
}

static uint64_t work_set(worker *w) {
  for (int i = 0; i < CHUNK; i++)
    set_one(w, next_key(w));
  return CHUNK;
}

/* Inserts until all is in, then nothing more. */
static uint64_t work_insert(worker *w) {
  uint64_t n = 0;
  for (; n < CHUNK && w->at < w->to; n++)
    set_one(w, &w->shared->keys[w->at++]);
  atomic_store(&w->shared->loaded, w->at);
  if (n == 0)
    atomic_store(&w->shared->stop, true);
  return n;
}

/* Gets keys that are in already. */
static uint64_t work_get_loaded(worker *w) {
  uint32_t loaded = atomic_load(&w->shared->loaded);
  if (loaded == 0)
    return 0;
  for (int i = 0; i < CHUNK; i++) {
    w->at = (uint32_t)(mix(w->at + 1) % loaded);
    get_one(w, &w->shared->keys[w->at]);
  }
  return CHUNK;
}

static atomic_uint chunks, chunks_dropped;

static void keep_chunk(worker *w, bool clean) {
  w->preempted |= !clean;
  if (w->in_chunk == 0)
    return;
  atomic_fetch_add(clean ? &chunks : &chunks_dropped, 1);
  for (unsigned i = 0; i < w->in_chunk && clean; i++)
    histogram_add(w->times, w->chunk[i]);
}

static void *run_worker(void *arg) {
  worker *w = arg;
  pin_thread(w->number);
  atomic_fetch_add(&w->shared->ready, 1);
  while (!atomic_load(&w->shared->go)) {
  }
  uint64_t began = now_ns();
  w->preempted = false;
  for (long before = preemptions(); !atomic_load(&w->shared->stop);) {
    w->in_chunk = 0;
    w->done += w->work(w);
    long after = preemptions();
    keep_chunk(w, after == before);
    before = after;
  }
  w->ns = now_ns() - began;
  w->preempted |= w->done == 0;
  return NULL;
}

/* All workers at once, for this long (0: until one of them says stop). */
static void run_workers(shared *s, worker *workers, int n, unsigned ms) {
  pthread_t threads[4];
  MUST(n <= 4);
  atomic_store(&s->go, false);
  atomic_store(&s->ready, 0);
  atomic_store(&s->stop, false);
  for (int i = 0; i < n; i++) {
    workers[i].shared = s;
    workers[i].done = 0;
    workers[i].number = i;
    MUST(pthread_create(&threads[i], NULL, run_worker, &workers[i]) == 0);
  }
  while (atomic_load(&s->ready) < n)
    sched_yield();
  atomic_store(&s->go, true);
  if (ms) {
    struct timespec t = {ms / 1000, (long)(ms % 1000) * 1000000};
    nanosleep(&t, NULL);
    atomic_store(&s->stop, true);
  }
  for (int i = 0; i < n; i++)
    MUST(pthread_join(threads[i], NULL) == 0);
}

static unsigned slices, slices_preempted;
static int most_tries;

/* The same for throughput, up to so many times until no worker is preempted. */
static void run_clean(shared *s, worker *workers, int n, unsigned ms) {
  bool preempted = true;
  for (int i = 0; i < most_tries && preempted; i++) {
    preempted = false;
    run_workers(s, workers, n, ms);
    for (int j = 0; j < n; j++)
      preempted |= workers[j].preempted;
  }
  slices++;
  slices_preempted += preempted;
}

static double per_second(const worker *w) { return (double)w->done * 1e3 / (double)w->ns; } /* in millions */

/* ------------------------------------------------------------------------------------------------------------------ */
/* Scaling                                                                                                            */

/* A worker over one half of the keys: 0 or 1; 2 is all of them. */
static worker over(const shared *s, work_fn work, int half, histogram *times) {
  uint32_t middle = s->n / 2;
  worker w = {.work = work, .from = half == 1 ? middle : 0, .to = half == 0 ? middle : s->n, .times = times};
  w.at = w.from;
  return w;
}

/* Millions a second of one worker, or of each of two on halves of their own. */
static void run_pair(shared *s, work_fn first, work_fn second, unsigned ms, double speed[2]) {
  worker workers[] = {over(s, first, 0, NULL), over(s, second, 1, NULL)};
  int n = second ? 2 : 1;
  run_clean(s, workers, n, ms);
  for (int i = 0; i < n; i++)
    speed[i] = per_second(&workers[i]);
}

static void sample_throughput(report *r, shared *s, int round, unsigned ms) {
  enum { READER, READERS, READER_AND_WRITER, WRITER, WRITERS, SCENES };
  double speed[2];
  for (int turn = 0; turn < SCENES; turn++) {
    switch (turn_of(round, turn, SCENES)) {
    case READER:
      run_pair(s, work_get, NULL, ms, speed);
      report_sample(r, "two readers to one", "one", speed[0]);
      report_sample(r, "a reader beside a writer", "alone", speed[0]);
      break;
    case READERS:
      run_pair(s, work_get, work_get, ms, speed);
      report_sample(r, "two readers to one", "walmap", speed[0] + speed[1]);
      break;
    case READER_AND_WRITER:
      run_pair(s, work_get, work_set, ms, speed);
      report_sample(r, "a reader beside a writer", "walmap", speed[0]);
      report_sample(r, "a writer beside a reader", "walmap", speed[1]);
      break;
    case WRITER:
      run_pair(s, work_set, NULL, ms, speed);
      report_sample(r, "two writers to one", "one", speed[0]);
      report_sample(r, "a writer beside a reader", "alone", speed[0]);
      break;
    case WRITERS:
      run_pair(s, work_set, work_set, ms, speed);
      report_sample(r, "two writers to one", "walmap", speed[0] + speed[1]);
    }
  }
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Times                                                                                                              */

static const struct {
  const char *name;
  double share;
} points[] = {{"p50", 0.5}, {"p99", 0.99}, {"p99.9", 0.999}, {"p99.99", 0.9999}, {"max", 1}};
#define POINTS (sizeof points / sizeof *points)

/* A slice that was preempted all the time says nothing. */
static void sample_times(report *r, const char *what, const char *who, const histogram *h) {
  if (h->n == 0)
    return;
  for (size_t i = 0; i < POINTS; i++) {
    char name[64];
    snprintf(name, sizeof name, "%s, %s", what, points[i].name);
    report_sample(r, name, who, points[i].share < 1 ? histogram_at(h, points[i].share) : (double)h->max);
  }
}

/* `judged` names the point that has a target, in ns. */
static void show_times(report *r, const char *what, const char *peer, const char *judged, double target) {
  for (size_t i = 0; i < POINTS; i++) {
    char name[64];
    snprintf(name, sizeof name, "%s, %s", what, points[i].name);
    bool here = judged && !strcmp(judged, points[i].name);
    report_row(r, name, "ns", peer, here ? VALUE_AT_MOST : NO_TARGET, target);
  }
}

static void sample_alone(report *r, shared *s, unsigned ms) {
  histogram *alone = calloc(1, sizeof *alone);
  MUST(alone);
  worker one[] = {over(s, work_get, 0, alone)};
  run_workers(s, one, 1, ms);
  sample_times(r, "get beside a writer", "alone", alone);
  free(alone);
}

static void sample_beside(report *r, shared *s, unsigned ms) {
  histogram *get = calloc(1, sizeof *get), *set = calloc(1, sizeof *set);
  MUST(get && set);
  worker both[] = {over(s, work_get, 0, get), over(s, work_set, 1, set)};
  run_workers(s, both, 2, ms);
  sample_times(r, "get beside a writer", "walmap", get);
  sample_times(r, "overwrite beside a reader", "walmap", set);
  free(get);
  free(set);
}

/* What the machine alone does to two threads that only read the clock: no call can be held to less. */
static uint64_t work_nothing(worker *w) {
  for (int i = 0; i < CHUNK; i++) {
    uint64_t began = now_ns();
    note_time(w, now_ns() - began);
  }
  return CHUNK;
}

static void sample_machine(report *r, shared *s, unsigned ms) {
  histogram *h = calloc(2, sizeof *h);
  MUST(h);
  worker two[] = {over(s, work_nothing, 0, &h[0]), over(s, work_nothing, 0, &h[1])};
  run_workers(s, two, 2, ms);
  sample_times(r, "reading the clock", "walmap", &h[0]);
  sample_times(r, "insert while it grows", "clock", &h[0]);
  sample_times(r, "get while it grows", "clock", &h[1]);
  free(h);
}

static void sample_growth(report *r, shared *loaded, unsigned ms) { /* ends when all is in */
  (void)ms;
  shared s = {.keys = loaded->keys, .n = loaded->n};
  histogram *set = calloc(1, sizeof *set), *get = calloc(1, sizeof *get);
  MUST(set && get);
  OK(walmap_open(NULL, &s.map));
  worker both[] = {over(&s, work_insert, 2, set), over(&s, work_get_loaded, 2, get)};
  run_workers(&s, both, 2, 0);
  MUST(walmap_len(s.map) == s.n);
  sample_times(r, "insert while it grows", "walmap", set);
  sample_times(r, "get while it grows", "walmap", get);
  walmap_close(s.map);
  free(set);
  free(get);
}

int main(int argc, char **argv) {
  const char *what = argc > 1 ? argv[1] : "full";
  bool full = !strcmp(what, "full");
  MUST(full || !strcmp(what, "quick"));
  static void (*const latencies[])(report *, shared *, unsigned) = {sample_alone, sample_beside, sample_machine};
  unsigned ms = 10;
  int rounds = full ? 31 : 9;
  most_tries = full ? 50 : 5;
  char versions[64];
  snprintf(versions, sizeof versions, "walmap %s", walmap_version());
  report *r = report_open("bench_threads", versions);

  uint32_t n = full ? 1000000 : 200000;
  uint32_t *order = order_shuffled(n, 1);
  key *keys = keys_make(SMALL, order, n, 0);
  free(order);
  shared s = {.keys = keys, .n = n};
  OK(walmap_open(NULL, &s.map));
  worker loader = {.shared = &s, .work = work_insert, .to = n};
  while (work_insert(&loader) > 0) {
  }
  report_title(r, "small, %u entries, millions a second", n);
  for (int round = 0; round <= rounds; round++)
    sample_throughput(r, &s, round, ms);
  report_row(r, "two readers to one", "M/s", "one", RATIO_AT_LEAST, 1.9);
  report_row(r, "a reader beside a writer", "M/s", "alone", RATIO_AT_LEAST, 0.9);
  report_row(r, "a writer beside a reader", "M/s", "alone", NO_TARGET, 0);
  report_row(r, "two writers to one", "M/s", "one", RATIO_AT_LEAST, 1.6);

  report_title(r, "small, %u entries, time of a call", n);
  for (int round = 0; round <= rounds; round++)
    for (int turn = 0; turn < 3; turn++)
      latencies[turn_of(round, turn, 3)](r, &s, ms);
  show_times(r, "reading the clock", NULL, NULL, 0);
  show_times(r, "get beside a writer", "alone", "p99.9", 50000);
  show_times(r, "overwrite beside a reader", NULL, NULL, 0);
  walmap_close(s.map);
  free(keys);

  n = full ? 10000000 : 500000;
  order = order_shuffled(n, 2);
  keys = keys_make(SMALL, order, n, 0);
  free(order);
  s = (shared){.keys = keys, .n = n};
  report_title(r, "small, %u entries being loaded", n);
  for (int round = 0; round <= 5; round++)
    for (int turn = 0; turn < 2; turn++)
      (turn_of(round, turn, 2) == 0 ? sample_growth : sample_machine)(r, &s, ms);
  show_times(r, "insert while it grows", "clock", "p99.99", 50000);
  show_times(r, "get while it grows", "clock", "p99.99", 30000);
  free(keys);
  printf("\nA thread was preempted in %u of the %u slices of throughput, and in %u of the %u chunks of single calls\n",
         slices_preempted, slices, chunks_dropped, chunks + chunks_dropped);
  report_close(r);
  return 0;
}
