/*
** lock.h - who may write a shard: ownership, waiting, deadlocks
**
** A shard is owned by one session (a transaction of it), or by one single operation, from its first touch to its end:
** two-phase locking among writers, shard by shard. Readers own nothing.
**
** Guarantees kept here: C5. An owned shard is waited for at most `timeout`. Of a circle of sessions that wait for each
** other one gets WALMAP_DEADLOCK at once.
**
** Why all circles are found (O1): sessions note what they wait for under one process-wide mutex. A session that waits
** gives up no shard, and takes none but the one that it waits for; until it has noted that it took it, that one is its
** own, by which the note is known to be outdated. So the last one to join a circle finds the rest of it standing still,
** and walks it. A single operation takes its one shard when it owns nothing else, so it ends every walk.
**
** One thing that owns like a single operation does wait: the callback of a walmap_set_if, a walmap_remove_if or a
** walmap_upsert may write to another map. A circle by way of such a one is not found, and ends when somebody's timeout
** is over, with BUSY.
**
** Why they do not come back for ever (O2): the one that must give way is the youngest. A session's age is the time at
** which it first had to wait since it last committed, so one that gave way keeps its age, and is some day the oldest.
** And a session that met a deadlock, which as a rule tries again at once and meets the same shards in the hands of the
** same other, takes the retry token for its next transactions. There is one token for the whole process, so at most one
** of the sessions that met a deadlock owns shards, of whatever maps. The token is a courtesy, and no argument hangs on
** it: a session goes without when the token has not changed hands for 10 ms, or when it has waited for 100 ms. It waits
** as for a shard, but only while it owns no shard of any map: so no circle leads through the token, and O1 holds.
**
** A waiter first looks on, for as long as short transactions take: to sleep and be woken takes many times as long.
** Waiters of a shard queue. A released shard is free for whoever comes first, which spares two busy threads a switch
** for each operation; but a waiter that has waited for longer than 1 ms gets the next release handed over, so nobody
** starves.
*/
#ifndef WALMAP_LOCK_H
#define WALMAP_LOCK_H

#include <stdatomic.h>

#include "base/compiler.h"
#include "base/yield.h"
#include "walmap.h"

struct walmap__waiter;

/* One a shard. `session` is NULL while the shard is free. */
typedef struct walmap__lock {
  _Atomic(walmap_session *) session;
  _Atomic uint32_t n_asleep;           /* waiters that must be woken */
  struct walmap__waiter *first, *last; /* guarded by the process-wide mutex */
} walmap__lock;

/* Stands for any single operation as an owner. */
extern walmap_session walmap__single_operation;

/* A transaction of the session has committed: what it had to wait for is forgotten (O2). */
void walmap__session_committed(walmap_session *session);

/* OK, BUSY, DEADLOCK or INTERRUPT. */
int walmap__lock_wait(walmap__lock *lock, walmap_session *session, uint32_t timeout);
void walmap__lock_hand_over(walmap__lock *lock);

static inline bool walmap__lock_try(walmap__lock *lock, walmap_session *session) {
  walmap_session *nobody = NULL;
  return atomic_compare_exchange_strong(&lock->session, &nobody, session);
}

static inline int walmap__lock_acquire(walmap__lock *lock, walmap_session *session, uint32_t timeout) {
  if (WALMAP__LIKELY(walmap__lock_try(lock, session)))
    return WALMAP_OK;
  return walmap__lock_wait(lock, session, timeout);
}

/* The exchange is a full barrier: whoever falls asleep sees the shard as free, or is seen here. */
static inline void walmap__lock_release(walmap__lock *lock) {
  walmap__yield("lock: releasing");
  atomic_exchange(&lock->session, NULL);
  walmap__yield("lock: released");
  if (WALMAP__UNLIKELY(atomic_load(&lock->n_asleep) != 0))
    walmap__lock_hand_over(lock);
}

/*
** A shard for a transaction of the session; `first`: that transaction owns none yet. OK, BUSY, DEADLOCK or INTERRUPT.
** When a transaction that owned shards ends, and has released them, its session leaves.
*/
int walmap__session_lock(walmap_session *session, walmap__lock *lock, bool first, uint32_t timeout);
void walmap__session_leave(walmap_session *session);

#endif
