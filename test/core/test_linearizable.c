/*
** test_linearizable.c - histories of single keys, recorded from threads, that no order of the operations explains (C1
** to C4); and a checker (linearizable.h) that would take a wrong history
**
** SEED=n sets the order of operations, LOAD_MS=n how long each load runs.
*/
#include "key_history.h"

#include "base/yield.h"

#include <pthread.h>

static uint64_t the_seed;

/* ------------------------------------------------------------------------------------------------------------------ */
/* The checker: histories by hand                                                                                     */

static void checker_by_hand(void **unused) {
  (void)unused;
  /* one after another */
  EXPLAINED({SET, 0, 1, 0, 1, 2}, {GET, 0, 0, 1, 3, 4}, {REMOVE, 0, 0, 1, 5, 6}, {GET, 0, 0, ABSENT, 7, 8});
  EXPLAINED({REMOVE, 0, 0, ABSENT, 1, 2}, {SET_IF_ABSENT, 0, 5, 1, 3, 4}, {EXCHANGE, 0, 6, 5, 5, 6});
  EXPLAINED({SET, 0, 1, 0, 1, 2}, {SET_IF, 1, 2, 1, 3, 4}, {SET_IF, 1, 3, 0, 5, 6}, {REMOVE_IF, 2, 0, 1, 7, 8},
            {SET_IF, 1, 3, ABSENT, 9, 10});
  REFUSED({GET, 0, 0, 1, 1, 2});                                                   /* never written */
  REFUSED({SET, 0, 1, 0, 1, 2}, {SET, 0, 2, 0, 3, 4}, {GET, 0, 0, 1, 5, 6});       /* an old value */
  REFUSED({SET, 0, 1, 0, 1, 2}, {REMOVE, 0, 0, 1, 3, 4}, {GET, 0, 0, 1, 5, 6});    /* revived */
  REFUSED({SET, 0, 1, 0, 1, 2}, {REMOVE, 0, 0, 1, 3, 4}, {REMOVE, 0, 0, 1, 5, 6}); /* removed twice */
  REFUSED({SET, 0, 1, 0, 1, 2}, {GET, 0, 0, ABSENT, 3, 4});                        /* lost */
  REFUSED({SET, 0, 1, 0, 1, 2}, {SET_IF, 2, 3, 1, 3, 4});                          /* not what it expects */
  REFUSED({SET, 0, 1, 0, 1, 2}, {SET_IF, 1, 3, 0, 3, 4});                          /* just that */
  REFUSED({SET, 0, 1, 0, 1, 2}, {SET_IF_ABSENT, 0, 3, 1, 3, 4});                   /* not absent */
  /* side by side */
  EXPLAINED({SET, 0, 1, 0, 1, 4}, {GET, 0, 0, 1, 2, 3});
  EXPLAINED({SET, 0, 1, 0, 1, 4}, {GET, 0, 0, ABSENT, 2, 3});
  EXPLAINED({SET, 0, 1, 0, 1, 8}, {GET, 0, 0, ABSENT, 2, 3}, {GET, 0, 0, 1, 4, 5}, {GET, 0, 0, 1, 6, 7});
  EXPLAINED({SET, 0, 1, 0, 1, 6}, {SET, 0, 2, 0, 2, 7}, {GET, 0, 0, 1, 3, 8}, {GET, 0, 0, 2, 4, 9});
  REFUSED({SET, 0, 1, 0, 1, 8}, {GET, 0, 0, 1, 2, 3}, {GET, 0, 0, ABSENT, 4, 5});      /* new, then old */
  REFUSED({SET, 0, 0, 0, 1, 2}, {EXCHANGE, 0, 1, 0, 3, 6}, {EXCHANGE, 0, 2, 0, 4, 5}); /* a lost update */
  REFUSED({SET, 0, 0, 0, 1, 2}, {SET_IF, 0, 1, 1, 3, 6}, {SET_IF, 0, 2, 1, 4, 5});     /* two winners */
  REFUSED({SET_IF_ABSENT, 0, 1, 1, 1, 4}, {SET_IF_ABSENT, 0, 2, 1, 2, 3});             /* two were first */
  REFUSED({SET, 0, 1, 0, 1, 4}, {SET, 0, 2, 0, 2, 3}, {GET, 0, 0, 1, 5, 10}, {GET, 0, 0, 2, 6, 7},
          {GET, 0, 0, 1, 8, 9}); /* there and back */
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* The checker: beside all orders of short histories                                                                 */

/* With results from values so few that many fit. */
static void make_short_history(action *history, uint64_t *random) {
  for (uint32_t i = 0; i < SHORT; i++) {
    uint32_t value = random_below(random, 3);
    history[i] = (action){.kind = random_below(random, KINDS),
                          .expected = random_below(random, 2),
                          .value = random_below(random, 2),
                          .result = value == 2 ? ABSENT : value};
  }
  set_random_times(history, random);
}

static void checker_beside_all_orders(void **unused) {
  (void)unused;
  check_beside_all_orders(make_short_history, the_seed);
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Recording                                                                                                          */

#define THREADS 4
#define KEYS 3             /* the first two with one hash */
#define MOST_ACTIONS 60000 /* of one thread, on all keys */
#define VALUES 4
#define CROWD 4096 /* other keys, which come and go, so that the index grows and the log is compacted */

typedef struct load {
  walmap *map;
  atomic_ullong clock;
  atomic_bool stop;
} load;

typedef struct recorder {
  load *load;
  uint64_t random;
  uint32_t n[KEYS];
  action *actions[KEYS];
  walmap_session *session;
  walmap_txn *txn;
  walmap_state *state;
} recorder;

/* A value is its number, many times over, so that half a value would be seen. */
typedef struct padded {
  uint32_t words[12];
} padded;

static padded pad(uint32_t number) {
  padded p;
  for (unsigned i = 0; i < 12; i++)
    p.words[i] = number;
  return p;
}

static uint32_t number_of(const void *value, size_t value_len) {
  padded p;
  MUST(value_len == sizeof p);
  memcpy(&p, value, sizeof p);
  for (unsigned i = 1; i < 12; i++)
    MUST(p.words[i] == p.words[0]);
  return p.words[0];
}

/* Keys 0 and 1 differ in nothing but their bytes. */
static uint64_t hash(const void *key, size_t key_len, uint64_t seed) {
  uint32_t n;
  MUST(key_len == sizeof n);
  memcpy(&n, key, sizeof n);
  return mix((n == 0 ? 1 : n) ^ seed);
}

static uint32_t read_key(recorder *r, uint32_t key) {
  walmap_entry entry = {.key = &key, .key_len = sizeof key};
  padded value;
  size_t len;
  int result;
  switch (random_below(&r->random, 4)) {
  case 0:
    result = walmap_get(r->load->map, &key, sizeof key, &value, sizeof value, &len);
    return result == WALMAP_OK ? number_of(&value, len) : ABSENT;
  case 1:
    MUST_OK(walmap_state_begin(r->state));
    result = walmap_state_get(r->state, &key, sizeof key, &entry);
    break;
  case 2:
    MUST_OK(walmap_state_begin(r->state));
    result = walmap_state_get_many(r->state, &entry, 1) == 1 ? WALMAP_OK : WALMAP_NOTFOUND;
    break;
  default:
    MUST_OK(walmap_state_begin(r->state));
    result = WALMAP_NOTFOUND;
    walmap_cursor cursor;
    for (walmap_cursor_start(&cursor, r->state); result != WALMAP_OK && walmap_cursor_next(&cursor, &entry);)
      result = memcmp(entry.key, &key, sizeof key) == 0 ? WALMAP_OK : WALMAP_NOTFOUND;
  }
  uint32_t number = result == WALMAP_OK ? number_of(entry.value, entry.value_len) : ABSENT;
  walmap_state_end(r->state);
  return number;
}

static bool is_expected(void *ctx, const void *value, size_t value_len) {
  const uint32_t *expected = ctx;
  return number_of(value, value_len) == *expected;
}

/* The value before, and another in its place: by a transaction that reads and then writes. */
static uint32_t exchange(recorder *r, uint32_t key, const padded *value) {
  walmap_entry entry;
  walmap_txn_begin(r->txn);
  int result = walmap_txn_get(r->txn, &key, sizeof key, &entry);
  uint32_t before = result == WALMAP_OK ? number_of(entry.value, entry.value_len) : ABSENT;
  if (result != WALMAP_OK)
    MUST_RESULT(result, WALMAP_NOTFOUND);
  MUST_OK(walmap_txn_set(r->txn, &key, sizeof key, value, sizeof *value));
  if (random_below(&r->random, 2)) { /* no trace of this */
    walmap_txn_savepoint(r->txn, 0);
    MUST_OK(walmap_txn_remove(r->txn, &key, sizeof key));
    walmap_txn_rollback_to(r->txn, 0);
  }
  walmap_txn_commit(r->txn);
  return before;
}

static uint32_t told(int result, bool done) {
  if (result == WALMAP_NOTFOUND)
    return ABSENT;
  MUST_OK(result);
  return done;
}

static uint32_t act(recorder *r, uint32_t key, kind what, uint32_t expected, uint32_t number) {
  walmap *map = r->load->map;
  padded value = pad(number);
  bool done = true;
  int result;
  switch (what) {
  case GET:
    return read_key(r, key);
  case SET:
    MUST_OK(walmap_set(map, &key, sizeof key, &value, sizeof value));
    return 0;
  case REMOVE:
    return told(walmap_remove(map, &key, sizeof key), true);
  case SET_IF:
    result = walmap_set_if(map, &key, sizeof key, &value, sizeof value, is_expected, &expected, &done);
    return told(result, done);
  case REMOVE_IF:
    result = walmap_remove_if(map, &key, sizeof key, is_expected, &expected, &done);
    return told(result, done);
  case SET_IF_ABSENT:
    MUST_OK(walmap_set_if_absent(map, &key, sizeof key, &value, sizeof value, &done));
    return done;
  default:
    return exchange(r, key, &value);
  }
}

/* What is not recorded: other keys, and compaction. */
static void disturb(recorder *r) {
  walmap *map = r->load->map;
  uint32_t key = KEYS + random_below(&r->random, CROWD), what = random_below(&r->random, 256);
  padded value = pad(key);
  if (what == 0) {
    MUST_OK(walmap_compact(map, NULL));
  } else if (what < 128) {
    MUST_OK(walmap_set(map, &key, sizeof key, &value, sizeof value));
  } else {
    (void)walmap_remove(map, &key, sizeof key);
  }
}

static void *record(void *arg) {
  recorder *r = arg;
  load *l = r->load;
  while (!atomic_load(&l->stop)) {
    uint32_t key = random_below(&r->random, KEYS);
    if (r->n[key] == MOST_ACTIONS)
      break;
    action *a = &r->actions[key][r->n[key]++];
    uint32_t choice = random_below(&r->random, 2 * KINDS);
    a->kind = choice < KINDS ? (kind)choice : GET;
    a->expected = random_below(&r->random, VALUES);
    a->value = random_below(&r->random, VALUES);
    a->call = atomic_fetch_add(&l->clock, 1);
    a->result = act(r, key, a->kind, a->expected, a->value);
    a->end = atomic_fetch_add(&l->clock, 1);
    if (random_below(&r->random, 4) == 0)
      disturb(r);
  }
  return NULL;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Loads                                                                                                              */

static void must_be_explained(recorder *recorders, uint32_t key, uint64_t *checked) {
  size_t n = 0;
  action *all = malloc(THREADS * MOST_ACTIONS * sizeof *all);
  MUST(all);
  for (int t = 0; t < THREADS; t++) {
    memcpy(all + n, recorders[t].actions[key], recorders[t].n[key] * sizeof *all);
    n += recorders[t].n[key];
  }
  const action *wrong = unexplained(all, n);
  if (wrong) {
    printf("  key %u: no order explains (kind expected value result call end), of those that were open then:\n", key);
    for (size_t i = 0; i < n; i++) {
      const action *a = &all[i];
      if (a->end + 40 > wrong->call && a->call < wrong->end)
        printf("  %d %d %d %d %llu %llu%s\n", a->kind, (int)a->expected, (int)a->value, (int)a->result,
               (unsigned long long)a->call, (unsigned long long)a->end, a == wrong ? " <-" : "");
    }
  }
  assert_null(wrong);
  *checked += n;
  free(all);
}

static void run_load(uint64_t seed, uint64_t *checked) {
  static recorder recorders[THREADS];
  load l = {.stop = false};
  walmap_options options;
  options_init(&options);
  options.shards = 4;
  options.first_segment = 256;
  options.busy_timeout = 600000;
  options.hash = hash;
  MUST_OK(walmap_open(&options, &l.map));
  pthread_t threads[THREADS];
  for (int t = 0; t < THREADS; t++) {
    recorder *r = &recorders[t];
    *r = (recorder){.load = &l, .random = seed + ((uint64_t)t << 32)};
    for (int k = 0; k < KEYS; k++)
      MUST((r->actions[k] = malloc(MOST_ACTIONS * sizeof(action))) != NULL);
    MUST_OK(walmap_session_new(NULL, NULL, &r->session));
    MUST_OK(walmap_txn_new(l.map, r->session, &r->txn));
    MUST_OK(walmap_state_new(l.map, &r->state));
  }
  for (int t = 0; t < THREADS; t++)
    MUST(pthread_create(&threads[t], NULL, record, &recorders[t]) == 0);
  sleep_ms((unsigned)env_number("LOAD_MS", 300));
  atomic_store(&l.stop, true);
  for (int t = 0; t < THREADS; t++)
    MUST(pthread_join(threads[t], NULL) == 0);
  for (uint32_t key = 0; key < KEYS; key++)
    must_be_explained(recorders, key, checked);
  for (int t = 0; t < THREADS; t++) {
    for (int k = 0; k < KEYS; k++)
      free(recorders[t].actions[k]);
    walmap_txn_free(recorders[t].txn);
    walmap_session_free(recorders[t].session);
    walmap_state_free(recorders[t].state);
  }
  walmap_close(l.map);
}

static void run_loads(walmap__yield_fn hook, uint64_t seed) {
  uint64_t checked = 0;
  atomic_store(&walmap__yield_hook, hook);
  for (int i = 0; i < 4 || checked < 1000; i++)
    run_load(mix(seed + (uint64_t)i), &checked);
  atomic_store(&walmap__yield_hook, NULL);
  printf("  %llu operations explained\n", (unsigned long long)checked);
}

static void at_full_speed(void **unused) {
  (void)unused;
  run_loads(NULL, the_seed);
}

static void with_yields(void **unused) {
  (void)unused;
  run_loads(walmap__yield_at_random, the_seed + 100);
}

int main(void) {
  the_seed = announce_seed("test_linearizable");
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(checker_by_hand),
      cmocka_unit_test(checker_beside_all_orders),
      cmocka_unit_test(at_full_speed),
      cmocka_unit_test(with_yields),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
