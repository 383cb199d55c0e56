/*
** yield.h - named points at which a thread may be made to stop, so that tests meet the races that are seldom met
**
** Builds with WALMAP_DEBUG call a hook at each walmap__yield, which stands in a window: between two steps of which
** another thread can see one without the other. A test's hook holds one thread there while another runs past it. The
** hook that is there already, if the environment has WALMAP_YIELD=seed, makes threads give way at random: with it any
** program that uses the core can be run. Other builds have no trace of it.
*/
#ifndef WALMAP_YIELD_H
#define WALMAP_YIELD_H

#ifdef WALMAP_DEBUG
#include <stdatomic.h>

typedef void (*walmap__yield_fn)(const char *point);

/* Called at every point, in the thread that gets there; NULL: nothing is. It must not use a map. */
extern _Atomic(walmap__yield_fn) walmap__yield_hook;

/* A hook: gives way now and then. Each thread has random numbers of its own, which follow from WALMAP_YIELD or 0. */
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
