/*
** thread_load.h - threads that load a map for a while: how long, with which random numbers, and their start and end
**
** Such a test runs for a time, not for a count, so that it takes as long under a sanitizer as without: LOAD_MS=n sets
** the time of each, SEED=n the order of operations (the threads' interleaving is the machine's). On a busy machine a
** thread may not have run by then: the load goes on until each kind of work was done.
*/
#ifndef TEST_COMMON_THREAD_LOAD_H
#define TEST_COMMON_THREAD_LOAD_H

#include "support.h"

#include <pthread.h>

#define MS 1000000u /* in ns */

/*
** A busy_timeout, in ms, for waits that must end before it: a machine that stops a thread for long does not make them
** fail. What waits for ever ends here.
*/
#define VERY_LONG_MS 600000u

/* The test's main sets it (announce_seed). */
static uint64_t the_seed;

/* The seed of random numbers that no other thread has. */
static inline uint64_t seed_of_thread(void) {
  static atomic_ullong threads;
  return the_seed + (atomic_fetch_add(&threads, 1) << 32);
}

static inline uint64_t load_ns(void) { return env_number("LOAD_MS", 500) * MS; }

/* A map of small segments, so that a little data has many; busy_timeout in ms. */
static inline walmap *open_map(uint32_t shards, uint32_t busy_timeout) {
  walmap_options options;
  options_init(&options);
  options.shards = shards;
  options.busy_timeout = busy_timeout;
  options.first_segment = 256;
  walmap *map;
  MUST_OK(walmap_open(&options, &map));
  return map;
}

static inline pthread_t start(void *(*body)(void *), void *arg) {
  pthread_t thread;
  MUST(pthread_create(&thread, NULL, body, arg) == 0);
  return thread;
}

static inline void join(pthread_t thread) { MUST(pthread_join(thread, NULL) == 0); }

#endif
