/* lock.c - waiting for shard locks, and deadlocks (lock.h has the argument) */
#include "sync/lock.h"
#include "platform/platform.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SPINS 200       /* before queueing: some microseconds, as long as an operation may take */
#define MORE_SPINS 2000 /* in the queue, before falling asleep: as long as a short transaction may take */
#define NS_PER_MS INT64_C(1000000)
#define POLL_NS INT64_C(10000000)    /* how often `interrupt` is asked */
#define PATIENCE_NS INT64_C(1000000) /* after that a waiter is served first */

struct walmap_session {
  bool (*interrupt)(void *ctx);
  uint32_t (*timeout)(void *ctx); /* NULL: the default */
  void *ctx;
  struct walmap__waiter *waiter; /* NULL: it does not wait. Guarded by the mutex */
  uint64_t age;                  /* O2; less is older; 0: it never had to wait. Other threads read it while it waits */
  uint32_t n_holding;            /* its transactions that hold locks, on any maps */
  uint32_t retries_with_token;   /* how many times it still asks for the retry token */
  bool has_retry_token;          /* only while it holds locks, or is about to take one */
  char label[WALMAP_LABEL_BYTES];
  char blocker[WALMAP_LABEL_BYTES]; /* the label of the session for which it last waited in vain */
};

walmap_session walmap__single_operation, walmap__maintenance;

/*
** The retry token (O2). A session waits for it while it goes round: until it has not changed hands for TOKEN_STANDS_MS,
** because its holder may be in a long transaction, and TOKEN_WAIT_MS at most.
*/
#define RETRIES_WITH_TOKEN 64
#define TOKEN_STANDS_MS 10
#define TOKEN_WAIT_MS 100
static walmap__lock retry_token;
static _Atomic uint64_t token_turns; /* how many times the token was taken */

typedef enum outcome {
  NONE,
  HANDED_OVER, /* its session holds the lock, and it has left the queue */
  GIVES_WAY    /* its session is the youngest of a circle */
} outcome;

typedef struct walmap__waiter {
  struct walmap__waiter *next, *previous;
  walmap__lock *lock;
  walmap_session *session;
  pthread_cond_t wake;
  int64_t since;
  uint64_t turns;           /* token_turns when a wait for the token was last prolonged */
  bool woken;               /* since it last tried the lock */
  _Atomic(outcome) outcome; /* set by other threads, under the mutex */
} walmap__waiter;

static pthread_mutex_t waiting = PTHREAD_MUTEX_INITIALIZER;
static uint64_t n_waited; /* sessions that had to wait since they last committed; guarded by the mutex */

int walmap_session_new(bool (*interrupt)(void *ctx), void *ctx, walmap_session **out) {
  walmap_session *session = calloc(1, sizeof *session);
  if (!session)
    return WALMAP_NOMEM;
  session->interrupt = interrupt;
  session->ctx = ctx;
  *out = session;
  return WALMAP_OK;
}

walmap__interrupt walmap__session_interrupt(const walmap_session *session) {
  return (walmap__interrupt){session->interrupt, session->ctx, 0};
}

/* The session holds no lock any more, but another thread that follows a chain under the mutex may still read it. */
void walmap_session_free(walmap_session *session) {
  pthread_mutex_lock(&waiting);
  pthread_mutex_unlock(&waiting);
  free(session);
}

void walmap_session_set_timeout(walmap_session *session, uint32_t (*timeout)(void *ctx)) { session->timeout = timeout; }

void walmap_session_set_label(walmap_session *session, const char *label) {
  snprintf(session->label, sizeof session->label, "%s", label);
}

const char *walmap_session_blocker(const walmap_session *session) { return session->blocker; }

void walmap__session_committed(walmap_session *session) { session->age = 0; }

static inline void pause_cpu(void) {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#endif
}

/*
** O1: follows the chain from the lock that `me` wants. Returns the youngest session of the circle if the chain leads
** back to `me`, otherwise NULL.
*/
static walmap_session *youngest_in_circle(const walmap__lock *lock, walmap_session *me) {
  walmap_session *youngest = me;
  for (;;) {
    walmap_session *session = atomic_load(&lock->session);
    if (session == me)
      return youngest;
    if (!session || session == &walmap__single_operation || !session->waiter)
      return NULL;
    if (session->waiter->lock == lock || atomic_load(&session->waiter->outcome) == GIVES_WAY)
      return NULL; /* its note is stale, or it is about to release its locks */
    if (session->age > youngest->age)
      youngest = session;
    lock = session->waiter->lock;
  }
}

static void join_queue(walmap__lock *lock, walmap__waiter *w) {
  w->previous = lock->last;
  if (lock->last) {
    lock->last->next = w;
  } else {
    lock->first = w;
  }
  lock->last = w;
}

static void leave_queue(walmap__lock *lock, walmap__waiter *w) {
  if (w->previous) {
    w->previous->next = w->next;
  } else {
    lock->first = w->next;
  }
  if (w->next) {
    w->next->previous = w->previous;
  } else {
    lock->last = w->previous;
  }
}

static void wake_waiter(walmap__waiter *w) {
  w->woken = true;
  pthread_cond_signal(&w->wake);
}

/* Spins on the lock for a while. Returns true when the session has got it. `w`: NULL before the waiter queues. */
static bool spin_on_lock(walmap__lock *lock, walmap_session *session, const walmap__waiter *w, int spins) {
  enum { UNTIL_YIELD = 32 }; /* spins; the holder may be waiting for this CPU */
  for (int i = 1; i <= spins; i++) {
    if (w && atomic_load_explicit(&w->outcome, memory_order_relaxed) != NONE)
      return false;
    if (atomic_load_explicit(&lock->session, memory_order_relaxed) == NULL && walmap__lock_try(lock, session))
      return true;
    if (w && i % UNTIL_YIELD == 0) {
      walmap__give_way();
    } else {
      pause_cpu();
    }
  }
  return false;
}

/* Called with the mutex held, as all functions below. Returns false when `when` came before a wake. */
static bool sleep_until(walmap__waiter *w, int64_t when) {
  walmap__yield("lock: will sleep");
  w->woken = false;
  walmap__condition_wait(&w->wake, &waiting, when);
  return w->woken;
}

/* DEADLOCK when the session itself must give way. If it is another session of the circle, wakes that one. */
static int break_circle(const walmap__lock *lock, walmap_session *me) {
  walmap_session *youngest = me == &walmap__single_operation ? NULL : youngest_in_circle(lock, me);
  if (youngest == me)
    return WALMAP_DEADLOCK;
  if (youngest) {
    atomic_store(&youngest->waiter->outcome, GIVES_WAY);
    wake_waiter(youngest->waiter);
  }
  return WALMAP_OK;
}

static bool spin_in_queue(walmap__lock *lock, walmap__waiter *w) {
  pthread_mutex_unlock(&waiting);
  bool taken = spin_on_lock(lock, w->session, w, MORE_SPINS);
  pthread_mutex_lock(&waiting);
  return taken;
}

/* Without the mutex: the callback may be slow, and may use other maps, whose waits need the mutex. */
static bool session_is_interrupted(const walmap_session *me) {
  if (!me->interrupt)
    return false;
  pthread_mutex_unlock(&waiting);
  bool is = me->interrupt(me->ctx);
  pthread_mutex_lock(&waiting);
  return is;
}

/* Whether the deadline of a wait for the retry token is moved, because the token goes round. */
static bool prolongs_wait(walmap__waiter *w, int64_t now, int64_t *deadline) {
  uint64_t turns = atomic_load_explicit(&token_turns, memory_order_relaxed);
  if (w->lock != &retry_token || turns == w->turns || now - w->since > TOKEN_WAIT_MS * NS_PER_MS)
    return false;
  w->turns = turns;
  *deadline = now + TOKEN_STANDS_MS * NS_PER_MS;
  return true;
}

/* It takes microseconds, unless the thread that does it waits for this CPU. */
static void give_way_to_maintenance(void) {
  pthread_mutex_unlock(&waiting);
  walmap__yield("lock: waits for maintenance");
  walmap__give_way();
  pthread_mutex_lock(&waiting);
}

/*
** The waiter releases the mutex while it spins, asks for an interrupt, and sleeps. So it reads its outcome after each
** of these, under the mutex. It tries the lock once more after it is counted in n_asleep and before it sleeps, because
** a release wakes only waiters that are counted. The caller takes the waiter out of the queue.
*/
static int wait_in_queue(walmap__lock *lock, walmap__waiter *w, int64_t deadline) {
  walmap_session *me = w->session;
  int result = break_circle(lock, me);
  bool woken = deadline > w->since; /* with a timeout of 0 it does not spin */
  while (result == WALMAP_OK) {
    if (woken && spin_in_queue(lock, w))
      return WALMAP_OK;
    if (w->outcome == GIVES_WAY)
      return WALMAP_DEADLOCK;
    if (w->outcome == HANDED_OVER)
      return WALMAP_OK;
    int64_t now = walmap__monotonic_now();
    if (session_is_interrupted(me)) {
      result = WALMAP_INTERRUPT;
    } else if (w->outcome != NONE) {
      continue; /* another thread has set the outcome */
    } else if (now >= deadline && atomic_load(&lock->session) == &walmap__maintenance) {
      give_way_to_maintenance();
      if (walmap__lock_try(lock, me))
        return WALMAP_OK;
    } else if (now >= deadline && !prolongs_wait(w, now, &deadline)) {
      result = WALMAP_BUSY;
    } else {
      walmap__yield("lock: looked in vain");
      atomic_fetch_add(&lock->n_asleep, 1); /* before the last try, see walmap__lock_release */
      if (walmap__lock_try(lock, me)) {
        atomic_fetch_sub(&lock->n_asleep, 1);
        return WALMAP_OK;
      }
      int64_t poll = now + POLL_NS;
      woken = sleep_until(w, me->interrupt && poll < deadline ? poll : deadline);
      atomic_fetch_sub(&lock->n_asleep, 1);
    }
  }
  return result;
}

static uint32_t timeout_of(const walmap_session *session, uint32_t timeout) {
  if (timeout != WALMAP_TIMEOUT_OF_SESSION)
    return timeout;
  return session->timeout ? session->timeout(session->ctx) : WALMAP_DEFAULT_BUSY_TIMEOUT;
}

/* Called with the mutex held, so the lock's owner is not freed meanwhile. */
static void note_blocker(const walmap__lock *lock, walmap_session *me) {
  const walmap_session *blocker = atomic_load(&lock->session);
  memcpy(me->blocker, blocker ? blocker->label : "", blocker ? sizeof me->blocker : 1);
}

int walmap__lock_wait(walmap__lock *lock, walmap_session *session, uint32_t timeout) {
  if (spin_on_lock(lock, session, NULL, SPINS))
    return WALMAP_OK;
  timeout = timeout_of(session, timeout);
  walmap__yield("lock: will queue");
  walmap__waiter w = {.lock = lock, .session = session, .since = walmap__monotonic_now()};
  w.turns = atomic_load_explicit(&token_turns, memory_order_relaxed);
  walmap__condition_init(&w.wake);
  pthread_mutex_lock(&waiting);
  join_queue(lock, &w);
  if (session != &walmap__single_operation) {
    session->waiter = &w;
    if (session->age == 0)
      session->age = ++n_waited;
  }
  int result = wait_in_queue(lock, &w, w.since + timeout * NS_PER_MS);
  if (w.outcome != HANDED_OVER)
    leave_queue(lock, &w);
  if (result != WALMAP_OK && lock->first)
    wake_waiter(lock->first); /* the last release may have woken this waiter, which does not take the lock */
  if (session != &walmap__single_operation) {
    session->waiter = NULL;
    if (result != WALMAP_OK)
      note_blocker(lock, session);
  }
  pthread_mutex_unlock(&waiting);
  pthread_cond_destroy(&w.wake);
  if (result != WALMAP_OK && w.outcome == HANDED_OVER)
    walmap__lock_release(lock); /* the lock was handed over while the wait was being interrupted */
  return result;
}

/* Wakes the first waiter, or hands the lock over to it: the lock was just released, and n_asleep was not 0. */
void walmap__lock_hand_over(walmap__lock *lock) {
  pthread_mutex_lock(&waiting);
  walmap__waiter *w = lock->first;
  if (w && walmap__monotonic_now() - w->since > PATIENCE_NS) {
    if (atomic_load(&w->outcome) == NONE && walmap__lock_try(lock, w->session)) {
      leave_queue(lock, w);
      atomic_store(&w->outcome, HANDED_OVER);
      wake_waiter(w);
    }
  } else if (w && !w->woken) {
    wake_waiter(w);
  }
  pthread_mutex_unlock(&waiting);
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Retry token (O2)                                                                                                   */

/* OK, also when the session goes on without the token; or INTERRUPT. */
static int take_retry_token(walmap_session *session, uint32_t timeout) {
  uint32_t patience = timeout < TOKEN_STANDS_MS ? timeout : TOKEN_STANDS_MS;
  int result = walmap__lock_acquire(&retry_token, session, patience);
  session->has_retry_token = result == WALMAP_OK;
  session->retries_with_token = session->has_retry_token ? session->retries_with_token - 1 : 0;
  if (session->has_retry_token)
    atomic_fetch_add_explicit(&token_turns, 1, memory_order_relaxed);
  return result == WALMAP_INTERRUPT ? WALMAP_INTERRUPT : WALMAP_OK;
}

static void release_retry_token(walmap_session *session) {
  session->has_retry_token = false;
  walmap__lock_release(&retry_token);
}

int walmap__session_lock(walmap_session *session, walmap__lock *lock, bool first, uint32_t timeout) {
  if (WALMAP__UNLIKELY(session->retries_with_token > 0) && session->n_holding == 0) {
    int result = take_retry_token(session, timeout);
    if (result != WALMAP_OK)
      return result;
  }
  int result = walmap__lock_acquire(lock, session, timeout);
  if (result == WALMAP_OK)
    session->n_holding += first;
  if (result == WALMAP_DEADLOCK)
    session->retries_with_token = RETRIES_WITH_TOKEN;
  if (WALMAP__UNLIKELY(session->has_retry_token) && session->n_holding == 0)
    release_retry_token(session);
  return result;
}

void walmap__session_leave(walmap_session *session) {
  session->n_holding--;
  if (WALMAP__UNLIKELY(session->has_retry_token) && session->n_holding == 0)
    release_retry_token(session);
}
