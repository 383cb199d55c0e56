/*
** bench.h - what the benchmarks share: clock, data, samples, medians and the report
**
** Every figure is taken in rounds in which walmap and its peers take turns; the first round is thrown away (first touch
** of memory costs what it likes) and the median of the others counts. A row of the report shows walmap's figure, the
** peer's, their ratio, and the target beside it. The same rows go, tab-separated, to the file named by BENCH_TSV.
*/
#ifndef TEST_BENCH_BENCH_H
#define TEST_BENCH_BENCH_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <math.h>
#include <sched.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#define MUST(condition)                                                                                                \
  do {                                                                                                                 \
    if (!(condition)) {                                                                                                \
      fprintf(stderr, "%s:%d: failed: %s\n", __FILE__, __LINE__, #condition);                                          \
      exit(1);                                                                                                         \
    }                                                                                                                  \
  } while (0)

static inline uint64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/*
** The clock of a series of operations on one thread: the wall's, or with BENCH_CLOCK=cpu the processor time that the
** process got, all threads together: on a machine that is busy with other work that is the fairer one.
*/
static inline uint64_t series_ns(void) {
  static clockid_t clock = CLOCK_MONOTONIC;
  static bool chosen;
  struct timespec t;
  if (!chosen) {
    const char *wanted = getenv("BENCH_CLOCK");
    if (wanted && !strcmp(wanted, "cpu"))
      clock = CLOCK_PROCESS_CPUTIME_ID;
    chosen = true;
  }
  clock_gettime(clock, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static inline uint64_t mix(uint64_t x) {
  x ^= x >> 32;
  x *= 0xd6e8feb86659fd93u;
  x ^= x >> 32;
  x *= 0xd6e8feb86659fd93u;
  return x ^ x >> 32;
}

static inline uint64_t random_next(uint64_t *state) {
  *state += 0x9e3779b97f4a7c15u;
  return mix(*state);
}

/* The calling thread stays on a core of its own: left to itself the system may start two on one, and takes its time to part them. */
static inline void pin_thread(int number) {
#ifdef CPU_SETSIZE
  cpu_set_t allowed, one;
  if (sched_getaffinity(0, sizeof allowed, &allowed) != 0)
    return;
  number %= CPU_COUNT(&allowed);
  for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
    if (!CPU_ISSET(cpu, &allowed) || number-- > 0)
      continue;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    (void)sched_setaffinity(0, sizeof one, &one);
    return;
  }
#else
  (void)number;
#endif
}

static inline void *must_alloc(size_t size) {
  void *block = malloc(size ? size : 1);
  MUST(block);
  return block;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Orders                                                                                                             */

/* The numbers from 0 to n-1, shuffled. */
static inline uint32_t *order_shuffled(uint32_t n, uint64_t seed) {
  uint32_t *order = must_alloc(n * sizeof *order);
  for (uint32_t i = 0; i < n; i++) {
    uint32_t j = (uint32_t)(random_next(&seed) % (i + 1));
    order[i] = order[j];
    order[j] = i;
  }
  return order;
}

/*
** n draws from a Zipfian distribution over n numbers, exponent 0.99, the frequent ones spread over the range: by
** inversion of the cumulated weights, so that it is the distribution itself and no approximation of it.
*/
static inline uint32_t *order_zipf(uint32_t n, uint64_t seed) {
  uint32_t *order = must_alloc(n * sizeof *order), *spread = order_shuffled(n, seed + 1);
  double *cumulated = must_alloc(n * sizeof *cumulated), sum = 0;
  for (uint32_t i = 0; i < n; i++)
    cumulated[i] = sum += pow(i + 1.0, -0.99);
  for (uint32_t i = 0; i < n; i++) {
    double at = (double)(random_next(&seed) >> 11) * 0x1p-53 * sum;
    uint32_t low = 0, high = n - 1;
    while (low < high) {
      uint32_t middle = low + (high - low) / 2;
      if (cumulated[middle] < at)
        low = middle + 1;
      else
        high = middle;
    }
    order[i] = spread[low];
  }
  free(cumulated);
  free(spread);
  return order;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Workloads                                                                                                          */

/*
** small: decimal keys of 6 or 7 digits (8 from 10 million entries on), the value the same
** wide:  16 hexadecimal digits, a value of 100 bytes
** large: keys as small, a value of 16 KiB
*/
typedef enum workload { SMALL, WIDE, LARGE } workload;
static const char *const workload_name[] = {"small", "wide", "large"};

typedef struct key {
  char text[20]; /* NUL-terminated */
  uint8_t len;
} key;

static inline key key_make(workload w, uint32_t number) {
  key k;
  int len = w == WIDE ? snprintf(k.text, sizeof k.text, "%016llx", (unsigned long long)mix(number + 1))
                      : snprintf(k.text, sizeof k.text, "%u", 100000 + number);
  k.len = (uint8_t)len;
  return k;
}

/*
** The keys themselves in the given order, so that fetching the next one costs no cache miss of its own. With `offset`
** n they are keys that are absent from a map of n.
*/
static inline key *keys_make(workload w, const uint32_t *order, uint32_t n, uint32_t offset) {
  key *keys = must_alloc(n * sizeof *keys);
  for (uint32_t i = 0; i < n; i++)
    keys[i] = key_make(w, order[i] + offset);
  return keys;
}

#define LARGEST_VALUE (16 * 1024)

/* The value of a key; `generation` changes its bytes and not its length. `buffer` holds LARGEST_VALUE bytes. */
static inline size_t value_make(workload w, const key *k, uint32_t generation, char *buffer) {
  size_t len = w == SMALL ? k->len : w == WIDE ? 100 : LARGEST_VALUE;
  if (len > 64 && buffer[64] != 'v')
    memset(buffer, 'v', len); /* once for each buffer */
  memcpy(buffer, k->text, k->len);
  buffer[k->len - 1] = (char)(buffer[k->len - 1] + (char)generation);
  return len;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Samples and the report                                                                                             */

#define MOST_SAMPLES 64
#define MOST_FIGURES 512

typedef struct figure {
  char what[64], who[24];
  double samples[MOST_SAMPLES];
  int n;
} figure;

typedef struct report {
  const char *bench;
  char title[96];
  figure figures[MOST_FIGURES];
  int n, missed, met;
  FILE *tsv;
} report;

typedef enum target_kind {
  NO_TARGET,
  RATIO_AT_MOST, /* walmap's figure divided by the peer's */
  RATIO_AT_LEAST,
  VALUE_AT_MOST, /* walmap's figure itself */
} target_kind;

/* The line that tells where the figures come from; `versions` names the peers. */
static inline report *report_open(const char *bench, const char *versions) {
  report *r = calloc(1, sizeof *r);
  MUST(r);
  struct utsname system;
  char cpu[128] = "unknown processor", line[256], huge[64] = "";
  FILE *info = fopen("/proc/cpuinfo", "r");
  while (info && fgets(line, sizeof line, info))
    if (sscanf(line, "model name : %127[^\n]", cpu) == 1)
      break;
  if (info)
    fclose(info);
  info = fopen("/sys/kernel/mm/transparent_hugepage/enabled", "r");
  if (info && fgets(huge, sizeof huge, info))
    huge[strcspn(huge, "\n")] = 0;
  if (info)
    fclose(info);
  MUST(uname(&system) == 0);
  const char *clock = getenv("BENCH_CLOCK");
  printf("%s: %s, %ld cores, %s %s, huge pages: %s; %s%s\n", bench, cpu, sysconf(_SC_NPROCESSORS_ONLN), system.sysname,
         system.release, *huge ? huge : "none", versions, clock && !strcmp(clock, "cpu") ? "; processor time" : "");
  fflush(stdout);
  r->bench = bench;
  const char *file = getenv("BENCH_TSV");
  if (file && *file) {
    MUST(r->tsv = fopen(file, "a"));
    fprintf(r->tsv, "#\t%s\t%s, %ld cores, %s\t%s\n", bench, cpu, sysconf(_SC_NPROCESSORS_ONLN), system.release,
            versions);
  }
  return r;
}

/* Begins a table; the samples of the one before are forgotten. */
static inline void report_title(report *r, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(r->title, sizeof r->title, format, arguments);
  va_end(arguments);
  r->n = 0;
  printf("\n%-44s %12s %12s %8s  %s\n", r->title, "walmap", "peer", "ratio", "target");
  fflush(stdout);
}

static inline figure *report_find(report *r, const char *what, const char *who, bool add) {
  for (int i = 0; i < r->n; i++)
    if (!strcmp(r->figures[i].what, what) && !strcmp(r->figures[i].who, who))
      return &r->figures[i];
  if (!add)
    return NULL;
  MUST(r->n < MOST_FIGURES);
  figure *f = &r->figures[r->n++];
  *f = (figure){.n = 0};
  snprintf(f->what, sizeof f->what, "%s", what);
  snprintf(f->who, sizeof f->who, "%s", who);
  return f;
}

static inline void report_sample(report *r, const char *what, const char *who, double value) {
  figure *f = report_find(r, what, who, true);
  MUST(f->n < MOST_SAMPLES);
  f->samples[f->n++] = value;
}

static inline int compare_doubles(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

/* The median of all rounds but the first; of the only one where there is no other. NAN where there is none. */
static inline double report_median(report *r, const char *what, const char *who) {
  figure *f = report_find(r, what, who, false);
  if (!f || !f->n)
    return NAN;
  double sorted[MOST_SAMPLES];
  int skip = f->n > 1, n = f->n - skip;
  memcpy(sorted, f->samples + skip, (size_t)n * sizeof *sorted);
  qsort(sorted, (size_t)n, sizeof *sorted, compare_doubles);
  return n % 2 ? sorted[n / 2] : (sorted[n / 2 - 1] + sorted[n / 2]) / 2;
}

static inline void format_figure(char *text, size_t size, double value) {
  if (isnan(value))
    snprintf(text, size, "-");
  else
    snprintf(text, size, value >= 1000 ? "%.0f" : value >= 10 ? "%.1f" : "%.2f", value);
}

/* One row with these two figures, however they came about. */
static inline void report_values(report *r, const char *what, const char *unit, double ours, const char *peer,
                                 double theirs, target_kind kind, double target) {
  double ratio = ours / theirs;
  char name[160], a[32], b[32], c[32], d[64] = "";
  double judged = kind == VALUE_AT_MOST ? ours : ratio;
  snprintf(name, sizeof name, "%s%s%s%s%s%s", what, *unit ? ", " : "", unit, peer ? " (" : "", peer ? peer : "",
           peer ? ")" : "");
  format_figure(a, sizeof a, ours);
  format_figure(b, sizeof b, theirs);
  format_figure(c, sizeof c, ratio);
  if (kind != NO_TARGET && !isnan(judged)) {
    bool met = kind == RATIO_AT_LEAST ? judged >= target : judged <= target;
    snprintf(d, sizeof d, "%s %g%s %s", kind == RATIO_AT_LEAST ? ">=" : "<=", target, kind == VALUE_AT_MOST ? "" : "x",
             met ? "met" : "MISSED");
    *(met ? &r->met : &r->missed) += 1;
  }
  printf("%-44s %12s %12s %8s  %s\n", name, a, b, c, d);
  fflush(stdout);
  if (r->tsv) {
    fprintf(r->tsv, "%s\t%s\t%s\t%s\t%.6g\t%s\t%.6g\t%.4g\t%s\n", r->bench, r->title, what, unit, ours,
            peer ? peer : "", theirs, ratio, d);
    fflush(r->tsv);
  }
}

/* One row from the medians of walmap and of a peer, which may be NULL. */
static inline void report_row(report *r, const char *what, const char *unit, const char *peer, target_kind kind,
                              double target) {
  double ours = report_median(r, what, "walmap");
  if (isnan(ours))
    return;
  report_values(r, what, unit, ours, peer, peer ? report_median(r, what, peer) : NAN, kind, target);
}

static inline void report_close(report *r) {
  printf("\n%s: %d targets met, %d missed\n", r->bench, r->met, r->missed);
  if (r->tsv)
    fclose(r->tsv);
  free(r);
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Times of single operations, in buckets 1/16 of their size apart                                                    */

#define HISTOGRAM_BUCKETS (16 * 40)

typedef struct histogram {
  uint64_t buckets[HISTOGRAM_BUCKETS], n, max;
} histogram;

static inline void histogram_add(histogram *h, uint64_t ns) {
  unsigned bits = 63 - (unsigned)__builtin_clzll(ns | 16);
  unsigned bucket = (bits - 4) * 16 + (unsigned)(ns >> (bits - 4));
  h->buckets[bucket < HISTOGRAM_BUCKETS ? bucket : HISTOGRAM_BUCKETS - 1]++;
  h->n++;
  if (ns > h->max)
    h->max = ns;
}

/* The time in ns that this share of the operations does not exceed. */
static inline double histogram_at(const histogram *h, double share) {
  uint64_t wanted = (uint64_t)ceil((double)h->n * share), seen = 0;
  for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
    seen += h->buckets[i];
    if (seen >= wanted && seen) {
      unsigned step = i < 32 ? 0 : i / 16 - 1;
      double top = (double)((uint64_t)(i - 16 * step + 1) << step);
      return top < (double)h->max ? top : (double)h->max;
    }
  }
  return (double)h->max;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Memory                                                                                                             */

static inline uint64_t resident_bytes(void) {
  unsigned long long pages, resident = 0;
  FILE *f = fopen("/proc/self/statm", "r");
  MUST(f && fscanf(f, "%llu %llu", &pages, &resident) == 2);
  fclose(f);
  return resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

#define HUGE_PAGE ((size_t)2 << 20)

/* Memory that was never touched, on huge pages where the system has them: where a copy is as fast as it can be. */
typedef struct fresh {
  char *start, *at;
  size_t mapped;
} fresh;

static inline fresh fresh_new(size_t size) {
  fresh f;
  f.mapped = ((size + HUGE_PAGE - 1) & ~(HUGE_PAGE - 1)) + HUGE_PAGE;
  f.start = mmap(NULL, f.mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  MUST(f.start != MAP_FAILED);
  f.at = (char *)(((uintptr_t)f.start + HUGE_PAGE - 1) & ~(HUGE_PAGE - 1));
#ifdef MADV_HUGEPAGE
  madvise(f.at, f.mapped - HUGE_PAGE, MADV_HUGEPAGE); /* asked for; what comes is the system's choice */
#endif
  return f;
}

static inline void fresh_free(fresh *f) { munmap(f->start, f->mapped); }

/*
** In a virtual machine the first touch of a page since the host lent it out can cost more than all that is measured
** here. So before a figure that takes fresh memory, as much is touched and given back to the system.
*/
static inline void warm_memory(size_t size) {
  fresh f = fresh_new(size);
  for (size_t at = 0; at < size; at += 4096)
    f.at[at] = 1;
  fresh_free(&f);
}

#endif
