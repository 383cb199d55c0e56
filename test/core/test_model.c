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

static void run(walmap_options options, uint32_t huge_one_in, uint64_t seed, uint64_t steps) {
  world *w = world_new(options, huge_one_in, seed);
  for (uint64_t step = 0; step < steps; step++)
    world_step(w);
  settle(w);
  MUST(w->exact > 0 && w->verified > steps / 10 && w->expired > steps / 1000);
  printf(
      "  shards %2u, auto_compact %2u: %llu steps, kept out %llu times, %llu compactions, %llu streams, followed %llu "
      "times, %llu times in vain, %llu entries expired\n",
      options.shards, options.auto_compact, (unsigned long long)steps, (unsigned long long)w->busy,
      (unsigned long long)w->compactions, (unsigned long long)w->streamed, (unsigned long long)w->followed,
      (unsigned long long)w->gone, (unsigned long long)w->expired);
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
      run(options, huge_one_in, the_seed + s * 3 + a, steps);
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

int main(void) {
  the_seed = announce_seed("test_model");
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(small_values),
      cmocka_unit_test(some_huge_values),
      cmocka_unit_test(colliding_hashes),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
