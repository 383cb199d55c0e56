/* yield.c - stopping at named points, in builds with WALMAP_DEBUG (yield.h) */
#include "base/yield.h"
#include "platform/platform.h"

#ifdef WALMAP_DEBUG
#include <stdint.h>
#include <stdlib.h>

_Atomic(walmap__yield_fn) walmap__yield_hook;

static uint64_t first_seed;
static _Atomic uint64_t threads;
static _Thread_local uint64_t state;

/* splitmix64, by Sebastiano Vigna */
static uint64_t next_random(void) {
  if (state == 0)
    state = first_seed + (atomic_fetch_add(&threads, 1) + 1) * UINT64_C(0xD1342543DE82EF95);
  uint64_t x = state += UINT64_C(0x9E3779B97F4A7C15);
  x = (x ^ x >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
  x = (x ^ x >> 27) * UINT64_C(0x94D049BB133111EB);
  return x ^ x >> 31;
}

/* Often spins for a few steps, seldom yields the CPU, very seldom sleeps while other threads do many operations. */
void walmap__yield_at_random(const char *point) {
  enum { SPIN_OF = 1 << 4, ASIDE_OF = 1 << 8, REST_OF = 1 << 12, MOST_SPINS = 512, MOST_REST_NS = 1 << 18 };
  (void)point;
  uint64_t random = next_random(), amount = random >> 32;
  if (random % REST_OF == 0) {
    walmap__sleep((int64_t)(amount % MOST_REST_NS));
  } else if (random % ASIDE_OF == 0) {
    walmap__give_way();
  } else if (random % SPIN_OF == 0) {
    for (uint64_t n = amount % MOST_SPINS; n > 0; n--)
      atomic_signal_fence(memory_order_seq_cst);
  }
}

__attribute__((constructor)) static void read_environment(void) {
  const char *seed = getenv("WALMAP_YIELD");
  if (!seed)
    return;
  first_seed = strtoull(seed, NULL, 0);
  atomic_store(&walmap__yield_hook, walmap__yield_at_random);
}
#endif
