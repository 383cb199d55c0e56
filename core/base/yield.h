/*
** yield.h - named points at which a test can stop a thread, to meet races that are seldom met
**
** A walmap__yield stands between two steps of which another thread can see one without the other. Builds with
** WALMAP_DEBUG call a hook there. A test's hook holds one thread at the point while another thread runs past it. If the
** environment has WALMAP_YIELD=seed, a hook is set that makes threads give way at random, in any program that uses the
** core. Other builds contain nothing of this.
*/
#ifndef WALMAP_YIELD_H
#define WALMAP_YIELD_H

#ifdef WALMAP_DEBUG
#include <stdatomic.h>

typedef void (*walmap__yield_fn)(const char *point);

/* Called at every point, in the thread that reaches it. NULL: no hook. The hook must not use a map. */
extern _Atomic(walmap__yield_fn) walmap__yield_hook;

/* A hook that gives way now and then. Each thread has its own random numbers, seeded by WALMAP_YIELD, or by 0. */
void walmap__yield_at_random(const char *point);

static inline void walmap__yield(const char *point) {
  walmap__yield_fn hook = atomic_load_explicit(&walmap__yield_hook, memory_order_acquire);
  if (hook)
    hook(point);
}
#else
#define walmap__yield(point) ((void)0)
#endif

#endif
