/*
** test_wait.c - walmap_wait: a wait that ends too early or too late, burns time, ignores an interrupt, or misses a
** commit among many waiters
**
** test_races.c stops waiter and writer at the named points between which a commit could be missed.
*/
#include "../common/support.h"

#include <pthread.h>
#include <sys/resource.h>

enum { VERY_LONG = 600000, TRIES = 50 };

typedef struct position {
  void *bytes;
  size_t size;
} position;

static position position_of(walmap *map) {
  walmap_state *state;
  position p;
  MUST_OK(walmap_state_new(map, &state));
  MUST_OK(walmap_state_begin(state));
  MUST_OK(walmap_state_position(state, &p.bytes, &p.size));
  walmap_state_free(state);
  return p;
}

static int wait_ms(walmap *map, position *p, uint32_t ms, bool (*interrupt)(void *), void *ctx) {
  position next;
  int result = walmap_wait(map, p->bytes, p->size, ms, interrupt, ctx, &next.bytes, &next.size, NULL);
  if (result != WALMAP_OK)
    return result;
  walmap_image_free(p->bytes);
  *p = next;
  return WALMAP_OK;
}

static uint64_t cpu_ms(void) {
  struct rusage usage;
  MUST(getrusage(RUSAGE_SELF, &usage) == 0);
  return (uint64_t)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000 +
         (uint64_t)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1000;
}

static void waits_as_long_as_told(void **unused) {
  (void)unused;
  walmap *map;
  MUST_OK(walmap_open(NULL, &map));
  position p = position_of(map);
  uint64_t start, least = UINT64_MAX, cpu;
  for (int i = 0; i < TRIES && least >= 200 * 1000000ull; i++) { /* a busy machine may stop it, but not each time */
    start = now_ns();
    assert_int_equal(wait_ms(map, &p, 0, NULL, NULL), WALMAP_NOTFOUND);
    least = now_ns() - start < least ? now_ns() - start : least;
  }
  assert_true(least < 200 * 1000000ull);
  start = now_ns();
  cpu = cpu_ms();
  assert_int_equal(wait_ms(map, &p, 300, NULL, NULL), WALMAP_NOTFOUND);
  assert_true(now_ns() - start >= 300 * 1000000ull);
  assert_true(cpu_ms() - cpu < 100); /* it slept */
  MUST_OK(walmap_set(map, "k", 1, "v", 1));
  assert_int_equal(wait_ms(map, &p, 0, NULL, NULL), WALMAP_OK); /* what is there already */
  assert_int_equal(wait_ms(map, &p, 0, NULL, NULL), WALMAP_NOTFOUND);
  assert_int_equal(walmap_remove(map, "none", 4), WALMAP_NOTFOUND);
  assert_int_equal(wait_ms(map, &p, 0, NULL, NULL), WALMAP_NOTFOUND);
  walmap_why why;
  position other;
  assert_int_equal(walmap_wait(map, "x", 1, 0, NULL, NULL, &other.bytes, &other.size, &why), WALMAP_CORRUPT);
  walmap *stranger;
  MUST_OK(walmap_open(NULL, &stranger));
  assert_int_equal(walmap_wait(stranger, p.bytes, p.size, 0, NULL, NULL, &other.bytes, &other.size, &why), WALMAP_GONE);
  walmap_close(stranger);
  walmap_image_free(p.bytes);
  walmap_close(map);
}

static bool third_time(void *ctx) { return ++*(int *)ctx == 3; }

static void ends_when_interrupted(void **unused) {
  (void)unused;
  walmap *map;
  int times = 0;
  MUST_OK(walmap_open(NULL, &map));
  position p = position_of(map);
  assert_int_equal(wait_ms(map, &p, VERY_LONG, third_time, &times), WALMAP_INTERRUPT);
  assert_int_equal(times, 3);
  walmap_image_free(p.bytes);
  walmap_close(map);
}

enum { ROUNDS = 2000 / SLOWDOWN, WAITERS = 40 };

typedef struct runner {
  walmap *map;
  const char *key, *other;
} runner;

/* Waits until the other one's counter has reached its own, then counts one further. */
static void *run(void *arg) {
  const runner *r = arg;
  for (uint32_t n = 1; n <= ROUNDS; n++) {
    MUST_OK(walmap_set(r->map, r->key, 1, &n, sizeof n));
    for (;;) {
      uint32_t seen = 0;
      position p = position_of(r->map); /* before the look, so that nothing can come between unnoticed */
      int result = walmap_get(r->map, r->other, 1, &seen, sizeof seen, NULL);
      MUST(result == WALMAP_OK || result == WALMAP_NOTFOUND);
      if (seen < n)
        MUST_OK(wait_ms(r->map, &p, VERY_LONG, NULL, NULL));
      walmap_image_free(p.bytes);
      if (seen >= n)
        break;
    }
  }
  return NULL;
}

static void two_run_in_step(void **unused) {
  (void)unused;
  walmap *map;
  pthread_t threads[2];
  MUST_OK(walmap_open(NULL, &map));
  runner runners[2] = {{map, "a", "b"}, {map, "b", "a"}};
  for (int i = 0; i < 2; i++)
    MUST(pthread_create(&threads[i], NULL, run, &runners[i]) == 0);
  for (int i = 0; i < 2; i++)
    pthread_join(threads[i], NULL);
  walmap_close(map);
}

static atomic_int waiting; /* threads that have their positions */

static void *wait_once(void *arg) {
  walmap *map = arg;
  position p = position_of(map);
  uint64_t n = 0;
  MUST_RESULT(walmap_get(map, "go", 2, &n, sizeof n, NULL), WALMAP_NOTFOUND);
  atomic_fetch_add(&waiting, 1);
  MUST_OK(wait_ms(map, &p, VERY_LONG, NULL, NULL));
  walmap_image_free(p.bytes);
  return NULL;
}

static void one_commit_wakes_all(void **unused) {
  (void)unused;
  walmap *map;
  pthread_t threads[WAITERS];
  MUST_OK(walmap_open(NULL, &map));
  for (int i = 0; i < WAITERS; i++)
    MUST(pthread_create(&threads[i], NULL, wait_once, map) == 0);
  for (uint64_t since = now_ns(); atomic_load(&waiting) < WAITERS;) {
    MUST_NOT_HANG(since);
    sleep_ms(1);
  }
  sleep_ms(100); /* so that most of them sleep */
  MUST_OK(walmap_set(map, "go", 2, "12345678", 8));
  for (int i = 0; i < WAITERS; i++)
    pthread_join(threads[i], NULL);
  walmap_close(map);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(waits_as_long_as_told),
      cmocka_unit_test(ends_when_interrupted),
      cmocka_unit_test(two_run_in_step),
      cmocka_unit_test(one_commit_wakes_all),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
