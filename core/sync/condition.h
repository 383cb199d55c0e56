/* condition.h - condition variables that wait until a time of the monotonic clock */
#ifndef WALMAP_CONDITION_H
#define WALMAP_CONDITION_H

#include <pthread.h>
#include <stdint.h>
#include <time.h>

/* Nanoseconds of the monotonic clock. */
static inline int64_t walmap__monotonic_now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

#if defined(__APPLE__)
/* macOS has no condition that uses the monotonic clock, but one that waits for a length of time. */
static inline void walmap__condition_init(pthread_cond_t *condition) { pthread_cond_init(condition, NULL); }

static inline void walmap__condition_wait(pthread_cond_t *condition, pthread_mutex_t *mutex, int64_t when) {
  int64_t left = when - walmap__monotonic_now();
  left = left > 0 ? left : 0;
  struct timespec t = {.tv_sec = (time_t)(left / 1000000000), .tv_nsec = (long)(left % 1000000000)};
  pthread_cond_timedwait_relative_np(condition, mutex, &t);
}
#else
static inline void walmap__condition_init(pthread_cond_t *condition) {
  pthread_condattr_t monotonic;
  pthread_condattr_init(&monotonic);
  pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
  pthread_cond_init(condition, &monotonic);
  pthread_condattr_destroy(&monotonic);
}

static inline void walmap__condition_wait(pthread_cond_t *condition, pthread_mutex_t *mutex, int64_t when) {
  struct timespec t = {.tv_sec = (time_t)(when / 1000000000), .tv_nsec = (long)(when % 1000000000)};
  pthread_cond_timedwait(condition, mutex, &t);
}
#endif

#endif
