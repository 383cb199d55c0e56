/*
** test_model.c - random operations on a map beside a plain model of it, invariants after every step
**
** model_world.h and model_states.h have the operations and the model. SEED=n test_model repeats the run that printed
** it, STEPS=n sets its length, TRACE=1 prints every call.
*/
#ifndef KEYS
#define KEYS 220 /* few keys make short traces */
#endif
#include "../common/model_states.h"

/* What a run has that options do not say. */
typedef struct kind {
  uint32_t huge_one_in, lengths;
  bool no_expiry;
} kind;

static uint64_t lost, refused, looked_at_memory; /* in all runs of bounded maps */

/* Whether what a run is for has come to pass often enough. */
static bool is_enough(const world *w, kind k, uint64_t steps) {
  return w->exact > 0 && w->verified > steps / 10 && (k.no_expiry || w->expired > steps / 1000);
}

/* A short run goes on until it is enough: chance decides when what is rare comes. */
static void run(walmap_options options, kind k, uint64_t seed, uint64_t steps) {
  enum { MOST_TIMES = 50 };
  world *w = world_new(options, k.huge_one_in, seed);
  w->u->lengths = k.lengths;
  w->no_expiry = k.no_expiry;
  for (uint64_t step = 0; step < steps || (step < MOST_TIMES * steps && !is_enough(w, k, steps)); step++)
    world_step(w);
  settle(w);
  MUST(is_enough(w, k, steps));
  lost += w->lost;
  refused += w->refused;
  looked_at_memory += w->looked_at_memory;
  printf(
      "  shards %2u, auto_compact %2u: %llu steps, kept out %llu times, %llu compactions, %llu streams, followed %llu "
      "times, %llu times in vain, %llu entries expired, %llu evicted, %llu writes refused\n",
      options.shards, options.auto_compact, (unsigned long long)w->step, (unsigned long long)w->busy,
      (unsigned long long)w->compactions, (unsigned long long)w->streamed, (unsigned long long)w->followed,
      (unsigned long long)w->gone, (unsigned long long)w->expired, (unsigned long long)w->lost,
      (unsigned long long)w->refused);
  fflush(stdout);
  world_free(w);
}

static uint64_t the_seed;

static void random_operations(bool few_hashes, uint32_t huge_one_in, uint64_t ttl) {
  static const uint32_t shards[] = {1, 2, 16}, auto_compact[] = {0, 10, 50};
  uint64_t steps = env_number("STEPS", 20000 / SLOWDOWN);
  for (size_t s = 0; s < 3; s++)
    for (size_t a = 0; a < 3; a++) {
      walmap_options options = world_options(shards[s], auto_compact[a], few_hashes, the_seed);
      options.ttl = ttl;
      run(options, (kind){.huge_one_in = huge_one_in}, the_seed + s * 3 + a, steps);
    }
}

static void small_values(void **unused) {
  (void)unused;
  random_operations(false, 0, 0);
}

static void some_huge_values(void **unused) {
  (void)unused;
  random_operations(false, 400, 30);
}

static void colliding_hashes(void **unused) {
  (void)unused;
  random_operations(true, 0, 5000);
}

static void run_bounded(uint64_t seed, uint64_t steps) {
  enum { KIB = 1 << 10, LONG_TTL = 1000000 };
  static const struct {
    uint32_t shards, max_entries, max_bytes;
    bool error;
    kind k;
  } maps[] = {
      {1, 40, 0, false, {0}},
      {1, 40, 0, false, {.no_expiry = true}},
      {2, 60, 0, false, {.no_expiry = true}},
      {16, 30, 0, false, {0}},
      {16, 1, 0, false, {.no_expiry = true}},
      {1, 40, 0, true, {0}},
      {16, 40, 0, true, {.no_expiry = true}},
      {1, 0, 64 * KIB, false, {.lengths = 1500}},
      {2, 0, 128 * KIB, false, {.huge_one_in = 40, .lengths = 1500, .no_expiry = true}},
      {16, 0, 1024 * KIB, false, {.lengths = 9000}},
      {2, 100, 140 * KIB, false, {.lengths = 1500}},
      {1, 0, 80 * KIB, true, {.lengths = 1500, .no_expiry = true}},
      {2, 60, 128 * KIB, true, {.huge_one_in = 40, .lengths = 2000}},
  };
  for (size_t i = 0; i < sizeof maps / sizeof *maps; i++) {
    for (uint32_t ttl = 0; ttl <= LONG_TTL && (ttl == 0 || !maps[i].k.no_expiry); ttl += LONG_TTL) {
      walmap_options options = world_options(maps[i].shards, ttl ? 10 : 50, i % 2, seed);
      options.ttl = ttl;
      options.max_entries = maps[i].max_entries;
      options.max_bytes = maps[i].max_bytes;
      options.error_when_full = maps[i].error;
      run(options, maps[i].k, seed + i, steps);
    }
  }
}

static void bounded(void **unused) {
  (void)unused;
  enum { PART = 3, MOST_ROUNDS = 50 };
  uint64_t steps = env_number("STEPS", 20000 / SLOWDOWN) / PART;
  bool enough = false;
  for (uint64_t round = 0; round < MOST_ROUNDS && !enough; round++) {
    run_bounded(the_seed + 1000 * round, steps);
    enough = lost > steps / 10 && refused > steps / 50 && looked_at_memory > 0;
  }
  MUST(enough);
}

int main(void) {
  the_seed = announce_seed("test_model");
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(small_values),
      cmocka_unit_test(some_huge_values),
      cmocka_unit_test(colliding_hashes),
      cmocka_unit_test(bounded),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
