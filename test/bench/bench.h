/*
** bench.h - what all benchmarks share: clocks, threads on cores of their own, whose turn it is, orders, keys and values
*/
#ifndef TEST_BENCH_BENCH_H
#define TEST_BENCH_BENCH_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <math.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
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

/*
** The calling thread stays on a core of its own: left to itself the system may start two on one, and takes its time to
** part them.
*/
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

/* How often the calling thread had to leave its core to another one. */
static inline long preemptions(void) {
#ifdef RUSAGE_THREAD
  struct rusage usage;
  MUST(getrusage(RUSAGE_THREAD, &usage) == 0);
  return usage.ru_nivcsw;
#else
  return 0;
#endif
}

/*
** Which of n sides takes this turn of the round: forwards in even rounds, backwards in odd ones, so that no side always
** follows the same other side.
*/
static inline int turn_of(int round, int turn, int n) { return round % 2 ? n - 1 - turn : turn; }

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
** n draws from a Zipfian distribution over the numbers below `numbers`, 0 the most frequent: by inversion of the
** cumulated weights, so that it is the distribution itself and no approximation of it.
*/
static inline uint32_t *draw_zipf(uint32_t numbers, uint32_t n, double exponent, uint64_t seed) {
  double *cumulated = must_alloc(numbers * sizeof *cumulated), sum = 0;
  uint32_t *drawn = must_alloc(n * sizeof *drawn);
  for (uint32_t i = 0; i < numbers; i++)
    cumulated[i] = sum += pow(i + 1.0, -exponent);
  for (uint32_t i = 0; i < n; i++) {
    double at = (double)(random_next(&seed) >> 11) * 0x1p-53 * sum;
    uint32_t low = 0, high = numbers - 1;
    while (low < high) {
      uint32_t middle = low + (high - low) / 2;
      if (cumulated[middle] < at)
        low = middle + 1;
      else
        high = middle;
    }
    drawn[i] = low;
  }
  free(cumulated);
  return drawn;
}

/* n draws from such a distribution over n numbers, exponent 0.99, the frequent ones spread over the range. */
static inline uint32_t *order_zipf(uint32_t n, uint64_t seed) {
  uint32_t *spread = order_shuffled(n, seed + 1), *order = draw_zipf(n, n, 0.99, seed);
  for (uint32_t i = 0; i < n; i++)
    order[i] = spread[order[i]];
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

#endif
