/*
** lock.h - shard locks: who may write a shard, waiting, deadlocks
**
** A session (for a transaction of it), or a single operation, holds the lock of a shard from its first touch of the
** shard to its end: two-phase locking among writers, shard by shard. Readers take no lock.
**
** Guarantee kept here: C5. A session waits for a lock at most `timeout` ms. Of a circle of sessions that wait for one
** another, one session gets WALMAP_DEADLOCK at once.
**
** Why all circles are found (O1): under one process-wide mutex, a session notes the lock for which it waits. A waiting
** session releases no lock, and takes no lock but the one that it awaits. A stale note is recognizable: the session
** already holds the lock that it claims to await. So the last session that joins a circle finds all others of the
** circle waiting, and walks from one to the next. A single operation takes its one lock while it holds no other, so
** every walk ends at it.
**
** One single operation does wait while it holds a lock: that of a walmap_set_if, a walmap_remove_if or a walmap_upsert
** whose callback writes to another map. A circle through it is not found; it ends with BUSY when a timeout is over.
**
** Why a session does not meet deadlocks for ever (O2): the session that must give way is the youngest of the circle. A
** session's age is the time at which it first had to wait since it last committed, so a session that gave way keeps its
** age, and becomes the oldest some day. A session that met a deadlock usually tries again at once, and meets the same
** shards locked by the same other session. So it takes the retry token for its next transactions. The process has one
** token: at most one of the sessions that met a deadlock holds locks, on any maps. The token is a courtesy on which no
** argument depends: a session goes on without it when the token has not changed hands for 10 ms, or after a wait of 100
** ms. A session waits for the token as for a lock, but only while it holds no lock on any map: so no circle leads
** through the token, and O1 holds.
**
** A waiter first spins, for as long as short transactions take: to sleep and be woken takes many times as long. Waiters
** queue. A released lock is free for the first session that takes it, which spares two busy threads a switch for each
** operation. But a waiter that has waited for longer than 1 ms gets the next release handed over, so no waiter starves.
*/
#ifndef WALMAP_LOCK_H
#define WALMAP_LOCK_H

#include <stdatomic.h>

#include "base/compiler.h"
#include "base/interrupt.h"
#include "base/yield.h"
#include "walmap.h"

struct walmap__waiter;

/* The lock of one shard. `session` is NULL while the lock is free. */
typedef struct walmap__lock {
  _Atomic(walmap_session *) session;
  _Atomic uint32_t n_asleep;           /* waiters that a release must wake */
  struct walmap__waiter *first, *last; /* guarded by the process-wide mutex */
} walmap__lock;

/* The session of all single operations. */
extern walmap_session walmap__single_operation;

/*
** The session of maintenance that the writer of one shard does in another (maintenance.h). It never waits, and no
** session waits for it in vain: a timeout that is over meanwhile is over when the lock is free.
*/
extern walmap_session walmap__maintenance;

/* The session's callback, for long work of its transactions. */
walmap__interrupt walmap__session_interrupt(const walmap_session *session);

/* Call it when a transaction of the session has committed: the session's age begins anew (O2). */
void walmap__session_committed(walmap_session *session);

/* Waits for the lock, `timeout` ms at most (or as long as the session says): OK, BUSY, DEADLOCK or INTERRUPT. */
int walmap__lock_wait(walmap__lock *lock, walmap_session *session, uint32_t timeout);

/* For walmap__lock_release, when waiters are asleep: wakes one of them, or gives it the lock. */
void walmap__lock_hand_over(walmap__lock *lock);

/* Takes the lock if it is free. */
static inline bool walmap__lock_try(walmap__lock *lock, walmap_session *session) {
  walmap_session *none = NULL;
  return atomic_compare_exchange_strong(&lock->session, &none, session);
}

static inline int walmap__lock_acquire(walmap__lock *lock, walmap_session *session, uint32_t timeout) {
  if (WALMAP__LIKELY(walmap__lock_try(lock, session)))
    return WALMAP_OK;
  return walmap__lock_wait(lock, session, timeout);
}

/* The exchange is a full barrier: a waiter that falls asleep sees the lock as free, or is counted in n_asleep here. */
static inline void walmap__lock_release(walmap__lock *lock) {
  walmap__yield("lock: releasing");
  atomic_exchange(&lock->session, NULL);
  walmap__yield("lock: released");
  if (WALMAP__UNLIKELY(atomic_load(&lock->n_asleep) != 0))
    walmap__lock_hand_over(lock);
}

/*
** Takes a lock for a transaction of the session. `first`: the transaction holds no lock yet. OK, BUSY, DEADLOCK or
** INTERRUPT. A transaction that held locks calls walmap__session_leave at its end, after it has released them.
*/
int walmap__session_lock(walmap_session *session, walmap__lock *lock, bool first, uint32_t timeout);
void walmap__session_leave(walmap_session *session);

#endif
