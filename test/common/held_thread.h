/*
** held_thread.h - threads that can be stopped at the nth named point (core/base/yield.h) that they pass
**
** An actor is a thread that runs one task after another, while the caller waits. A task either ends, or is held at a
** point until the caller releases it; in both cases the caller goes on alone. So at any time just one thread runs, and
** the test decides the order of all steps.
*/
#ifndef TEST_CORE_HELD_H
#define TEST_CORE_HELD_H

#include "support.h"

#include <limits.h>
#include <pthread.h>

#include "base/yield.h"

typedef struct actor {
  pthread_t thread;
  pthread_mutex_t mutex;
  pthread_cond_t changed;
  enum { ACTOR_RESTS, ACTOR_RUNS, ACTOR_IS_HELD, ACTOR_IS_DISMISSED } phase;
  void (*task)(void *arg);
  void *arg;
  const char *at;                  /* the only points that count, NULL: all */
  long left;                       /* how many points to pass until it is held */
  void (*pass)(const char *point); /* called at every point, if it is not NULL */
  const char *point;               /* where it was held last */
} actor;

#define NEVER_HELD LONG_MAX

static _Thread_local actor *held_me;

static inline void actor_tell(actor *a, int phase) {
  a->phase = phase;
  pthread_cond_broadcast(&a->changed);
}

static inline void actor_await_change(actor *a, int phase) {
  while ((int)a->phase == phase)
    pthread_cond_wait(&a->changed, &a->mutex);
}

/* Whether there it waits for another actor, which is held. */
static inline bool is_wait(const char *point) {
  return strcmp(point, "order: mutex is taken") == 0 || strcmp(point, "lock: waits for maintenance") == 0;
}

/* The hook. */
static inline void hold_here(const char *point) {
  actor *me = held_me;
  if (!me)
    return;
  if (me->pass)
    me->pass(point);
  bool waits = is_wait(point);
  if (!waits && ((me->at && strcmp(me->at, point) != 0) || me->left == NEVER_HELD || --me->left > 0))
    return;
  pthread_mutex_lock(&me->mutex);
  if (!waits) {
    me->left = NEVER_HELD;
    me->point = point;
  }
  actor_tell(me, ACTOR_IS_HELD);
  actor_await_change(me, ACTOR_IS_HELD);
  pthread_mutex_unlock(&me->mutex);
}

static inline void *actor_body(void *arg) {
  actor *me = arg;
  held_me = me;
  pthread_mutex_lock(&me->mutex);
  for (;;) {
    actor_await_change(me, ACTOR_RESTS);
    if (me->phase == ACTOR_IS_DISMISSED)
      break;
    pthread_mutex_unlock(&me->mutex);
    me->task(me->arg);
    pthread_mutex_lock(&me->mutex);
    actor_tell(me, ACTOR_RESTS);
  }
  pthread_mutex_unlock(&me->mutex);
  return NULL;
}

static inline void actor_hire(actor *a) {
  memset(a, 0, sizeof *a);
  MUST(pthread_mutex_init(&a->mutex, NULL) == 0 && pthread_cond_init(&a->changed, NULL) == 0);
  MUST(pthread_create(&a->thread, NULL, actor_body, a) == 0);
}

static inline void actor_dismiss(actor *a) {
  pthread_mutex_lock(&a->mutex);
  MUST(a->phase == ACTOR_RESTS);
  actor_tell(a, ACTOR_IS_DISMISSED);
  pthread_mutex_unlock(&a->mutex);
  MUST(pthread_join(a->thread, NULL) == 0);
  pthread_mutex_destroy(&a->mutex);
  pthread_cond_destroy(&a->changed);
}

/* Releases the actor, which goes on beside the caller. */
static inline void actor_post(actor *a) {
  pthread_mutex_lock(&a->mutex);
  actor_tell(a, ACTOR_RUNS);
  pthread_mutex_unlock(&a->mutex);
}

/* Waits until the actor is held or has ended. Returns whether it is held. */
static inline bool actor_await(actor *a) {
  pthread_mutex_lock(&a->mutex);
  actor_await_change(a, ACTOR_RUNS);
  bool is_held = a->phase == ACTOR_IS_HELD;
  pthread_mutex_unlock(&a->mutex);
  return is_held;
}

/* Starts a task, to be held at the nth point, from 1; `at` NULL: of all points, else of the points with this name. */
static inline void actor_set_task(actor *a, void (*task)(void *), void *arg, long nth, const char *at) {
  MUST(a->phase == ACTOR_RESTS && nth > 0);
  a->task = task;
  a->arg = arg;
  a->left = nth;
  a->at = at;
  a->point = NULL;
}

/* Lets both go on to their ends, if they are held: where one waits for what the other has, the other first. */
static inline void actor_finish_both(actor *a, actor *b) {
  for (int turn = 0; a->phase == ACTOR_IS_HELD || b->phase == ACTOR_IS_HELD; turn++) {
    actor *next = turn % 2 == 0 ? a : b;
    MUST(turn < 100);
    if (next->phase == ACTOR_IS_HELD) {
      actor_post(next);
      actor_await(next);
    }
  }
}

/* Lets the task run to its end, if it is held. */
static inline void actor_finish(actor *a) {
  if (a->phase != ACTOR_IS_HELD)
    return;
  actor_post(a);
  MUST(!actor_await(a));
}

#endif
