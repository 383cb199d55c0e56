/*
** bench_threads.c - the core between two threads: how readers scale, what a writer costs a reader, what writers cost
** one another, and the longest that a call takes while a map grows
**
**   bench_threads [quick|full]
**
** Throughput and times of single calls are measured in slices of their own, for the clock costs as much as half a get.
** The peer of a row is the same work with one thread fewer. A slice in which one of the threads was preempted says more
** of the machine's other work than of walmap: it is taken again, some times at most, and how many were kept all the
** same is printed.
*/
#include "report.h"
#include "times.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/resource.h>

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

typedef struct worker worker;
typedef uint64_t (*work_fn)(worker *w); /* a few hundred operations; their number */

struct worker {
  shared *shared;
  work_fn work;
  int number;
  uint32_t at, from, to; /* position in the keys, and the part that is this worker's */
  uint32_t generation;
  uint64_t done, ns;
  bool preempted;
  histogram *times; /* NULL: throughput only */
};

#define CHUNK 256

static void get_one(worker *w, const key *k) {
  char value[128];
  size_t len;
  uint64_t began = w->times ? now_ns() : 0;
  OK(walmap_get(w->shared->map, k->text, k->len, value, sizeof value, &len));
  if (w->times)
    histogram_add(w->times, now_ns() - began);
}

static void set_one(worker *w, const key *k) {
  char value[LARGEST_VALUE];
  value[64] = 'v';
  size_t len = value_make(SMALL, k, w->generation, value);
  uint64_t began = w->times ? now_ns() : 0;
  OK(walmap_set(w->shared->map, k->text, k->len, value, len));
  if (w->times)
    histogram_add(w->times, now_ns() - began);
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

static long preemptions(void) {
#ifdef RUSAGE_THREAD
  struct rusage usage;
  MUST(getrusage(RUSAGE_THREAD, &usage) == 0);
  return usage.ru_nivcsw;
#else
  return 0;
#endif
}

static void *run_worker(void *arg) {
  worker *w = arg;
  pin_thread(w->number);
  atomic_fetch_add(&w->shared->ready, 1);
  while (!atomic_load(&w->shared->go)) {
  }
  long before = preemptions();
  uint64_t began = now_ns();
  while (!atomic_load(&w->shared->stop))
    w->done += w->work(w);
  w->ns = now_ns() - began;
  w->preempted = preemptions() != before || w->done == 0;
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

static unsigned kept_preempted, kept;
static int most_tries;

/* The same, up to so many times until no worker is preempted. */
static void run_clean(shared *s, worker *workers, int n, unsigned ms) {
  bool preempted = true;
  for (int i = 0; i < most_tries && preempted; i++) {
    preempted = false;
    for (int j = 0; j < n; j++)
      if (workers[j].times)
        *workers[j].times = (histogram){.n = 0};
    run_workers(s, workers, n, ms);
    for (int j = 0; j < n; j++)
      preempted |= workers[j].preempted;
  }
  kept++;
  kept_preempted += preempted;
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

static void sample_throughput(report *r, shared *s, unsigned ms) {
  worker one[] = {over(s, work_get, 0, NULL)};
  run_clean(s, one, 1, ms);
  report_sample(r, "two readers to one", "one", per_second(&one[0]));
  report_sample(r, "a reader beside a writer", "alone", per_second(&one[0]));

  worker two[] = {over(s, work_get, 0, NULL), over(s, work_get, 1, NULL)};
  run_clean(s, two, 2, ms);
  report_sample(r, "two readers to one", "walmap", per_second(&two[0]) + per_second(&two[1]));

  worker both[] = {over(s, work_get, 0, NULL), over(s, work_set, 1, NULL)};
  run_clean(s, both, 2, ms);
  report_sample(r, "a reader beside a writer", "walmap", per_second(&both[0]));
  report_sample(r, "a writer beside a reader", "walmap", per_second(&both[1]));

  worker writer[] = {over(s, work_set, 0, NULL)};
  run_clean(s, writer, 1, ms);
  report_sample(r, "two writers to one", "one", per_second(&writer[0]));
  report_sample(r, "a writer beside a reader", "alone", per_second(&writer[0]));

  worker writers[] = {over(s, work_set, 0, NULL), over(s, work_set, 1, NULL)};
  run_clean(s, writers, 2, ms);
  report_sample(r, "two writers to one", "walmap", per_second(&writers[0]) + per_second(&writers[1]));
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Times                                                                                                              */

static const struct {
  const char *name;
  double share;
} points[] = {{"p50", 0.5}, {"p99", 0.99}, {"p99.9", 0.999}, {"p99.99", 0.9999}, {"max", 1}};
#define POINTS (sizeof points / sizeof *points)

static void sample_times(report *r, const char *what, const char *who, const histogram *h) {
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

static void sample_latency(report *r, shared *s, unsigned ms) {
  histogram *alone = calloc(1, sizeof *alone), *beside = calloc(1, sizeof *beside), *write = calloc(1, sizeof *write);
  MUST(alone && beside && write);
  worker one[] = {over(s, work_get, 0, alone)};
  run_clean(s, one, 1, ms);
  worker both[] = {over(s, work_get, 0, beside), over(s, work_set, 1, write)};
  run_clean(s, both, 2, ms);
  sample_times(r, "get beside a writer", "alone", alone);
  sample_times(r, "get beside a writer", "walmap", beside);
  sample_times(r, "overwrite beside a reader", "walmap", write);
  free(alone);
  free(beside);
  free(write);
}

/* What the machine alone does to two threads that only read the clock: no call can be held to less. */
static uint64_t work_nothing(worker *w) {
  for (int i = 0; i < CHUNK; i++) {
    uint64_t began = now_ns();
    histogram_add(w->times, now_ns() - began);
  }
  return CHUNK;
}

static void sample_machine(report *r, shared *s, unsigned ms) {
  histogram *h = calloc(2, sizeof *h);
  MUST(h);
  worker two[] = {over(s, work_nothing, 0, &h[0]), over(s, work_nothing, 0, &h[1])};
  run_clean(s, two, 2, ms);
  sample_times(r, "reading the clock", "walmap", &h[0]);
  sample_times(r, "insert while it grows", "clock", &h[0]);
  sample_times(r, "get while it grows", "clock", &h[1]);
  free(h);
}

static void sample_growth(report *r, const shared *loaded) {
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
  unsigned ms = 10, rounds = full ? 31 : 9;
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
  for (unsigned round = 0; round <= rounds; round++)
    sample_throughput(r, &s, ms);
  report_row(r, "two readers to one", "M/s", "one", RATIO_AT_LEAST, 1.9);
  report_row(r, "a reader beside a writer", "M/s", "alone", RATIO_AT_LEAST, 0.9);
  report_row(r, "a writer beside a reader", "M/s", "alone", NO_TARGET, 0);
  report_row(r, "two writers to one", "M/s", "one", RATIO_AT_LEAST, 1.6);

  report_title(r, "small, %u entries, time of a call", n);
  for (unsigned round = 0; round <= rounds; round++) {
    sample_latency(r, &s, ms);
    sample_machine(r, &s, ms);
  }
  show_times(r, "reading the clock", NULL, NULL, 0);
  show_times(r, "get beside a writer", "alone", "p99.9", 50000);
  show_times(r, "overwrite beside a reader", NULL, NULL, 0);
  walmap_close(s.map);
  free(keys);

  n = full ? 10000000 : 1000000;
  order = order_shuffled(n, 2);
  keys = keys_make(SMALL, order, n, 0);
  free(order);
  s = (shared){.keys = keys, .n = n};
  report_title(r, "small, %u entries being loaded", n);
  for (unsigned round = 0; round <= (full ? 5 : 3); round++) {
    sample_growth(r, &s);
    sample_machine(r, &s, ms);
  }
  show_times(r, "insert while it grows", "clock", "p99.99", 50000);
  show_times(r, "get while it grows", "clock", "p99.99", 30000);
  free(keys);
  printf("\n%u of %u slices were kept though a thread was preempted in them\n", kept_preempted, kept);
  report_close(r);
  return 0;
}
