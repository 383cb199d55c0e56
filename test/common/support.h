/*
** support.h - what the core's tests share: seeds, random numbers, clocks, a failing allocator, checks for threads
**
** cmocka's asserts jump out of the test, so only the main thread may use them. MUST() is for all other threads: it
** prints where it failed and ends the process. Neither depends on NDEBUG.
*/
#ifndef TEST_CORE_SUPPORT_H
#define TEST_CORE_SUPPORT_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* clocks and sleep */
#endif

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "walmap.h"

/* A test of which there is another file for ordered maps, which defines this. */
#ifndef ORDERED
#define ORDERED 0
#endif

static inline void options_init(walmap_options *options) {
  walmap_options_init(options);
  options->ordered = ORDERED;
}

/* Tests divide their work by this under sanitizers that watch every access. */
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define SLOWDOWN 8
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer) || __has_feature(address_sanitizer)
#define SLOWDOWN 8
#endif
#endif
#ifndef SLOWDOWN
#define SLOWDOWN 1
#endif

#define MUST(condition)                                                                                                \
  do {                                                                                                                 \
    if (!(condition)) {                                                                                                \
      fprintf(stderr, "%s:%d: failed: %s\n", __FILE__, __LINE__, #condition);                                          \
      fflush(NULL);                                                                                                    \
      abort();                                                                                                         \
    }                                                                                                                  \
  } while (0)

/* The same for a result code, whose name it prints. */
#define MUST_RESULT(call, expected)                                                                                    \
  do {                                                                                                                 \
    int got_ = (call);                                                                                                 \
    if (got_ != (expected)) {                                                                                          \
      fprintf(stderr, "%s:%d: %s\n  gave %d (%s), not %s\n", __FILE__, __LINE__, #call, got_,                          \
              walmap_result_text(got_), #expected);                                                                    \
      fflush(NULL);                                                                                                    \
      abort();                                                                                                         \
    }                                                                                                                  \
  } while (0)
#define MUST_OK(call) MUST_RESULT(call, WALMAP_OK)

/*
** In a loop that waits for another thread: what has not come ten minutes after `since`, which is of now_ns() and may be
** later than now, never comes. That is less than the time that test/tools/run gives to a file.
*/
#define MUST_NOT_HANG(since) MUST((int64_t)(now_ns() - (since)) < (int64_t)600 * 1000000000)

/* An integer from the environment, or the default. */
static inline uint64_t env_number(const char *name, uint64_t otherwise) {
  const char *text = getenv(name);
  return text && *text ? strtoull(text, NULL, 0) : otherwise;
}

static inline uint64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static inline void sleep_ms(unsigned ms) {
  struct timespec t = {ms / 1000, (long)(ms % 1000) * 1000000};
  nanosleep(&t, NULL);
}

/* The seed of the run: from the environment, else from the clock. It is printed, so that a failure can be repeated. */
static inline uint64_t announce_seed(const char *test) {
  uint64_t seed = env_number("SEED", now_ns() % 1000000000u);
  printf("%s: SEED=%llu\n", test, (unsigned long long)seed);
  fflush(stdout);
  return seed;
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

static inline uint32_t random_below(uint64_t *state, uint32_t n) { return (uint32_t)(random_next(state) % n); }

/* By a walk. */
static inline uint64_t count_entries(walmap_state *state) {
  walmap_cursor cursor;
  walmap_entry entry;
  uint64_t count = 0;
  for (walmap_cursor_start(&cursor, state); walmap_cursor_next(&cursor, &entry);)
    count++;
  return count;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* An allocator that counts, checks what it gets back, and fails when it is told to                                   */

typedef struct faults {
  atomic_llong bytes, blocks; /* outstanding */
  atomic_ullong calls;        /* allocations asked for while armed */
  atomic_ullong hits;         /* allocations refused */
  unsigned long long fail_at; /* the number of the call, from 1, that is refused; 0 is none */
  bool for_ever;              /* and all after it */
  atomic_bool armed;
} faults;

/* Lies in front of every block, so that `free` can be compared with `alloc`. */
typedef struct faults_head {
  void *start;
  size_t size, align;
  uint64_t magic;
} faults_head;

#define FAULTS_MAGIC 0x626c6f636b686561u

static inline void *faults_alloc(void *ctx, size_t size, size_t align) {
  faults *f = ctx;
  if (atomic_load(&f->armed)) {
    unsigned long long call = atomic_fetch_add(&f->calls, 1) + 1;
    if (f->fail_at && (f->for_ever ? call >= f->fail_at : call == f->fail_at)) {
      atomic_fetch_add(&f->hits, 1);
      return NULL;
    }
  }
  MUST(align && !(align & (align - 1)));
  size_t room = align < sizeof(faults_head) ? sizeof(faults_head) : align;
  if (size > SIZE_MAX - 2 * room)
    return NULL;
  char *start = malloc(size + room + align);
  if (!start)
    return NULL;
  char *block = (char *)(((uintptr_t)start + room + align - 1) & ~(uintptr_t)(align - 1));
  faults_head head = {start, size, align, FAULTS_MAGIC};
  memcpy(block - sizeof head, &head, sizeof head);
  atomic_fetch_add(&f->bytes, (long long)size);
  atomic_fetch_add(&f->blocks, 1);
  return block;
}

static inline void faults_free(void *ctx, void *block, size_t size, size_t align) {
  faults *f = ctx;
  faults_head head;
  memcpy(&head, (char *)block - sizeof head, sizeof head);
  MUST(head.magic == FAULTS_MAGIC && head.size == size && head.align == align);
  head.magic = 0;
  memcpy((char *)block - sizeof head, &head, sizeof head);
  atomic_fetch_sub(&f->bytes, (long long)size);
  atomic_fetch_sub(&f->blocks, 1);
  free(head.start);
}

static inline walmap_allocator faults_allocator(faults *f) { return (walmap_allocator){faults_alloc, faults_free, f}; }

static inline void faults_arm(faults *f, unsigned long long fail_at, bool for_ever) {
  f->fail_at = fail_at;
  f->for_ever = for_ever;
  atomic_store(&f->calls, 0);
  atomic_store(&f->hits, 0);
  atomic_store(&f->armed, true);
}

#endif
