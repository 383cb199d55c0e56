/* owner.c - waiting for shards, and deadlocks (owner.h has the argument) */
#define _GNU_SOURCE
#include "owner.h"

#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#define SPINS 200
#define POLL_NS INT64_C(10000000)    /* how often `interrupt` is asked */
#define PATIENCE_NS INT64_C(1000000) /* after that a waiter is served first */
#define LONG_AGO (INT64_MIN / 2)

struct walmap_session {
  bool (*interrupt)(void *ctx);
  void *ctx;
  walmap__owner *waits_for; /* guarded by the mutex */
};

walmap_session walmap__single_operation;

typedef struct walmap__waiter {
  struct walmap__waiter *next, *previous;
  walmap_session *session;
  pthread_cond_t wake;
  int64_t since;
  bool woken;       /* since it last looked */
  bool handed_over; /* it owns the shard, and is out of the queue */
} walmap__waiter;

static pthread_mutex_t waiting = PTHREAD_MUTEX_INITIALIZER;

int walmap_session_new(bool (*interrupt)(void *ctx), void *ctx, walmap_session **out) {
  walmap_session *session = calloc(1, sizeof *session);
  if (!session)
    return WALMAP_NOMEM;
  session->interrupt = interrupt;
  session->ctx = ctx;
  *out = session;
  return WALMAP_OK;
}

void walmap_session_free(walmap_session *session) { free(session); }

static int64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static inline void pause_cpu(void) {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#endif
}

/*
** O1: follows the chain from the shard that `me` wants; true when it leads back to `me`. Then whoever waits for the last
** shard of the circle gets it when `me` gives it up: `me` may try again at once, and would meet the same circle.
*/
static bool closes_circle(walmap__owner *owner, const walmap_session *me) {
  while (owner) {
    walmap_session *session = atomic_load(&owner->session);
    if (session == me) {
      owner->first->since = LONG_AGO;
      return true;
    }
    if (!session || session == &walmap__single_operation)
      return false;
    owner = session->waits_for;
  }
  return false;
}

static void join_queue(walmap__owner *owner, walmap__waiter *w) {
  w->previous = owner->last;
  if (owner->last) {
    owner->last->next = w;
  } else {
    owner->first = w;
  }
  owner->last = w;
  atomic_fetch_add(&owner->n_waiters, 1);
}

static void leave_queue(walmap__owner *owner, walmap__waiter *w) {
  if (w->previous) {
    w->previous->next = w->next;
  } else {
    owner->first = w->next;
  }
  if (w->next) {
    w->next->previous = w->previous;
  } else {
    owner->last = w->previous;
  }
  atomic_fetch_sub(&owner->n_waiters, 1);
}

static void sleep_until(walmap__waiter *w, int64_t when) {
  struct timespec t = {.tv_sec = (time_t)(when / 1000000000), .tv_nsec = (long)(when % 1000000000)};
  pthread_cond_timedwait(&w->wake, &waiting, &t);
}

static void wake(walmap__waiter *w) {
  w->woken = true;
  pthread_cond_signal(&w->wake);
}

/* Called with the mutex held, which is given up only while asleep. The caller takes the waiter out of the queue. */
static int wait_in_queue(walmap__owner *owner, walmap__waiter *w, int64_t deadline) {
  walmap_session *me = w->session;
  for (;;) {
    if (w->handed_over || walmap__owner_try(owner, me))
      return WALMAP_OK;
    if (me != &walmap__single_operation && closes_circle(owner, me))
      return WALMAP_DEADLOCK;
    int64_t now = now_ns();
    if (now >= deadline)
      return WALMAP_BUSY;
    if (me->interrupt && me->interrupt(me->ctx))
      return WALMAP_INTERRUPT;
    walmap__yield("owner: will sleep");
    w->woken = false;
    int64_t poll = now + POLL_NS;
    sleep_until(w, me->interrupt && poll < deadline ? poll : deadline);
  }
}

int walmap__owner_wait(walmap__owner *owner, walmap_session *session, uint32_t timeout) {
  for (int i = 0; i < SPINS; i++) {
    if (atomic_load_explicit(&owner->session, memory_order_relaxed) == NULL && walmap__owner_try(owner, session)) {
      return WALMAP_OK;
    }
    pause_cpu();
  }
  walmap__yield("owner: will queue");
  walmap__waiter w = {.session = session, .since = now_ns()};
  pthread_condattr_t monotonic;
  pthread_condattr_init(&monotonic);
  pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
  pthread_cond_init(&w.wake, &monotonic);
  pthread_condattr_destroy(&monotonic);

  pthread_mutex_lock(&waiting);
  join_queue(owner, &w);
  if (session != &walmap__single_operation)
    session->waits_for = owner;
  int result = wait_in_queue(owner, &w, w.since + (int64_t)timeout * 1000000);
  if (!w.handed_over)
    leave_queue(owner, &w);
  if (result != WALMAP_OK && owner->first)
    wake(owner->first); /* the last release may have woken us in vain */
  if (session != &walmap__single_operation)
    session->waits_for = NULL;
  pthread_mutex_unlock(&waiting);
  pthread_cond_destroy(&w.wake);
  return result;
}

/* The shard was just released, and somebody waits for it (or did). */
void walmap__owner_hand_over(walmap__owner *owner) {
  pthread_mutex_lock(&waiting);
  walmap__waiter *w = owner->first;
  if (w && now_ns() - w->since > PATIENCE_NS) {
    if (walmap__owner_try(owner, w->session)) {
      leave_queue(owner, w);
      if (w->session != &walmap__single_operation)
        w->session->waits_for = NULL;
      w->handed_over = true;
      wake(w);
    }
  } else if (w && !w->woken) {
    wake(w);
  }
  pthread_mutex_unlock(&waiting);
}
