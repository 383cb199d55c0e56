/*
** test_linearizable_ranges.c - histories of several keys of an ordered map, recorded from threads that read ranges
** while others write, restore and compact, of which no order explains what a range had (C1, C2, B1); and a checker
** (linearizable.h, range_history.h) that would take a wrong history
**
** SEED=n sets the order of operations, LOAD_MS=n how long each load runs.
*/
#define ORDERED 1
#include "range_history.h"

#include "base/yield.h"

#include <pthread.h>
#include <sched.h>

static uint64_t the_seed;

/* ------------------------------------------------------------------------------------------------------------------ */
/* The checker: histories by hand, and beside all orders of short ones                                                */

#define WRITE(mask, values, call, end)                                                                                 \
  { 0, 0, mask, values, call, end }
#define READ(mask, values, call, end)                                                                                  \
  { mask, values, 0, 0, call, end }

static void checker_by_hand(void **unused) {
  (void)unused;
  uint64_t both = KEY(0) | KEY(1);
  EXPLAINED(WRITE(KEY(0), VALUE(0, 1), 1, 2), WRITE(KEY(1), VALUE(1, 2), 3, 4), READ(both, 0x201, 5, 6));
  EXPLAINED(WRITE(KEY(0), VALUE(0, 1), 1, 4), WRITE(KEY(1), VALUE(1, 2), 2, 5), READ(both, 0x200, 3, 6));
  EXPLAINED(WRITE(both, 0x201, 1, 2), READ(ALL_KEYS, 0x201, 3, 4), WRITE(ALL_KEYS, 0, 5, 6), READ(both, 0, 7, 8));
  EXPLAINED(WRITE(both, 0x201, 1, 2), {KEY(0), 1, KEY(1), 0x300, 3, 4}, READ(both, 0x301, 5, 6));
  REFUSED(WRITE(KEY(0), VALUE(0, 1), 1, 2), READ(both, 0, 3, 4));                                       /* missed */
  REFUSED(WRITE(KEY(0), VALUE(0, 1), 1, 2), WRITE(KEY(0), 0, 3, 4), READ(both, 1, 5, 6));               /* revived */
  REFUSED(WRITE(KEY(0), VALUE(0, 1), 1, 3), WRITE(KEY(1), VALUE(1, 2), 4, 5), READ(both, 0x200, 2, 6)); /* the second
                                                                                       without the one before it */
  REFUSED(WRITE(both, 0x201, 1, 6), READ(both, 0x001, 2, 5));                               /* half a transaction */
  REFUSED(WRITE(both, 0x201, 1, 6), READ(both, 0x201, 2, 3), READ(both, 0, 4, 5));          /* new, then old */
  REFUSED(WRITE(both, 0x201, 1, 6), READ(KEY(0), 1, 2, 3), READ(KEY(1), 0, 4, 5));          /* the same in two ranges */
  REFUSED(WRITE(both, 0x201, 1, 2), WRITE(ALL_KEYS, 0x403, 3, 6), READ(both, 0x203, 4, 5)); /* half a restore */
  REFUSED({both, 0, KEY(0), 1, 1, 4}, {both, 0, KEY(1), 0x100, 2, 3});                      /* write skew */
}

/* With values so few that many fit. */
static void make_short_history(action *history, uint64_t *random) {
  static const uint64_t masks[] = {0, KEY(0), KEY(1), KEY(0) | KEY(1)};
  for (uint32_t i = 0; i < SHORT; i++) {
    uint64_t reads = masks[random_below(random, 4)], writes = masks[random_below(random, 4)];
    uint64_t value = VALUE(0, random_below(random, 2)) | VALUE(1, random_below(random, 2));
    history[i] = (action){.reads = reads, .saw = value & reads, .writes = writes, .wrote = value & writes};
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
#define MOST_ACTIONS 60000 /* of one thread */
#define VALUES 6
#define GAP 128 /* from key to key, in numbers: the others come and go, so that leaves split and are merged */
#define IMAGES 4

typedef struct load {
  walmap *map;
  atomic_ullong clock;
  atomic_bool stop;
  void *images[IMAGES]; /* to restore */
  size_t image_sizes[IMAGES];
  uint64_t image_values[IMAGES];
} load;

typedef struct recorder {
  load *load;
  uint64_t random;
  uint32_t n;
  action *actions;
  walmap_session *session;
  walmap_txn *txn;
  walmap_state *state;
} recorder;

typedef struct tally {
  uint64_t actions, ranges, restores;
} tally;

/* A key is a number, big-endian, so that the order of keys is that of numbers. */
typedef struct name {
  uint8_t bytes[4];
} name;

static name name_of(uint32_t number) {
  return (name){{(uint8_t)(number >> 24), (uint8_t)(number >> 16), (uint8_t)(number >> 8), (uint8_t)number}};
}

static name name_of_key(unsigned key) { return name_of((key + 1) * GAP); }

static uint32_t number_of(const walmap_entry *entry) {
  const uint8_t *at = entry->key;
  MUST(entry->key_len == sizeof(name));
  return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

static uint8_t value_of(const walmap_entry *entry) {
  MUST(entry->value_len == 1);
  return *(const uint8_t *)entry->value;
}

/* To the first entry of a range, in one of the ways that lead there; the opposite way it is the last one. */
static bool seek(recorder *r, walmap_ordered_cursor *c, unsigned first, unsigned last, bool forward,
                 walmap_entry *entry) {
  unsigned from = forward ? first : last;
  if (from == (forward ? 0 : KEYS - 1) && random_below(&r->random, 4) == 0)
    return walmap_ordered_seek(c, forward ? WALMAP_FIRST : WALMAP_LAST, NULL, 0, entry);
  if (random_below(&r->random, 2)) {
    name at = name_of_key(from);
    return walmap_ordered_seek(c, forward ? WALMAP_AT_OR_AFTER : WALMAP_AT_OR_BEFORE, &at, sizeof at, entry);
  }
  name beside = name_of((from + 1) * GAP + (forward ? -1u : 1u));
  return walmap_ordered_seek(c, forward ? WALMAP_AFTER : WALMAP_BEFORE, &beside, sizeof beside, entry);
}

/* The values of the keys from `first` to `last`, by a walk that begins anew at some entries. */
static uint64_t walk(recorder *r, walmap_state *state, unsigned first, unsigned last, bool forward) {
  walmap_ordered_cursor c;
  walmap_entry entry;
  uint64_t saw = 0;
  uint32_t before = forward ? 0 : UINT32_MAX;
  walmap_ordered_start(&c, state);
  for (bool more = seek(r, &c, first, last, forward, &entry); more;) {
    uint32_t number = number_of(&entry);
    MUST(forward ? number > before : number < before);
    before = number;
    if (forward ? number > (last + 1) * GAP : number < (first + 1) * GAP)
      break;
    if (number % GAP == 0 && number > first * GAP && number <= (last + 1) * GAP)
      saw |= VALUE(number / GAP - 1, value_of(&entry));
    if (random_below(&r->random, 100) == 0) {
      name here = name_of(number);
      walmap_ordered_start(&c, state);
      more = walmap_ordered_seek(&c, forward ? WALMAP_AFTER : WALMAP_BEFORE, &here, sizeof here, &entry);
    } else {
      more = forward ? walmap_ordered_next(&c, &entry) : walmap_ordered_previous(&c, &entry);
    }
  }
  return saw;
}

/* A range of a state that has begun, in one direction or both; the state ends. */
static void read_range(recorder *r, action *a) {
  unsigned first = random_below(&r->random, KEYS), last = first + random_below(&r->random, KEYS - first);
  bool forward = random_below(&r->random, 2);
  for (unsigned key = first; key <= last; key++)
    a->reads |= KEY(key);
  a->saw = walk(r, r->state, first, last, forward);
  if (random_below(&r->random, 4) == 0)
    MUST(walk(r, r->state, first, last, !forward) == a->saw);
  walmap_state_end(r->state);
}

/* Tells the value before, and replaces it. */
typedef struct exchange {
  uint8_t before, value;
} exchange;

static int exchange_value(void *ctx, const void *old, size_t old_len, const void **value, size_t *value_len) {
  exchange *e = ctx;
  MUST(old == NULL || old_len == 1);
  e->before = old ? *(const uint8_t *)old : 0;
  *value = &e->value;
  *value_len = 1;
  return WALMAP_OK;
}

static void write_key(recorder *r, action *a) {
  walmap *map = r->load->map;
  unsigned key = random_below(&r->random, KEYS);
  name name = name_of_key(key);
  exchange e = {.value = (uint8_t)(1 + random_below(&r->random, VALUES))};
  a->writes = KEY(key);
  a->wrote = VALUE(key, e.value);
  switch (random_below(&r->random, 4)) {
  case 0:
    MUST_OK(walmap_set(map, &name, sizeof name, &e.value, 1));
    return;
  case 1:
    MUST_OK(walmap_upsert(map, &name, sizeof name, exchange_value, &e));
    a->reads = KEY(key);
    a->saw = VALUE(key, e.before);
    return;
  default: /* often, for absent keys are what walks must get right */
    a->wrote = 0;
    if (walmap_remove(map, &name, sizeof name) == WALMAP_NOTFOUND)
      a->reads = KEY(key);
    return;
  }
}

static int change_in_transaction(recorder *r, action *a) {
  unsigned key = random_below(&r->random, KEYS);
  name name = name_of_key(key);
  uint8_t value = random_below(&r->random, 2) ? (uint8_t)(1 + random_below(&r->random, VALUES)) : 0;
  a->writes |= KEY(key);
  a->wrote = (a->wrote & ~KEY(key)) | VALUE(key, value);
  if (value != 0)
    return walmap_txn_set(r->txn, &name, sizeof name, &value, 1);
  int result = walmap_txn_remove(r->txn, &name, sizeof name);
  return result == WALMAP_NOTFOUND ? WALMAP_OK : result;
}

static int restore(recorder *r, action *a) {
  load *l = r->load;
  unsigned image = random_below(&r->random, IMAGES);
  a->writes = ALL_KEYS;
  a->wrote = l->image_values[image];
  return walmap_txn_restore(r->txn, l->images[image], l->image_sizes[image], NULL, NULL, NULL, NULL);
}

/* Reads a range or nothing, then changes some keys or restores; committed, or rolled back, which changes nothing. */
static void transact(recorder *r, action *a) {
  int result = WALMAP_OK;
  walmap_txn_begin(r->txn);
  if (random_below(&r->random, 3) == 0) {
    result = walmap_txn_state_begin(r->txn, r->state);
    if (result == WALMAP_OK)
      read_range(r, a);
  }
  if (result == WALMAP_OK && random_below(&r->random, 20) == 0)
    result = restore(r, a);
  for (unsigned n = 2 + random_below(&r->random, 3); n > 0 && result == WALMAP_OK; n--)
    result = change_in_transaction(r, a);
  if (result == WALMAP_OK && random_below(&r->random, 8) > 0) {
    walmap_txn_commit(r->txn);
    return;
  }
  MUST(result == WALMAP_OK || result == WALMAP_DEADLOCK);
  walmap_txn_rollback(r->txn);
  a->writes = a->wrote = 0;
}

/* What is not recorded: other keys, many of them next to each other for a while, and compaction. */
static void disturb(recorder *r) {
  walmap *map = r->load->map;
  uint32_t what = random_below(&r->random, 512);
  uint32_t crowd = r->n / 64 * 40503u, number = (crowd + random_below(&r->random, 4 * GAP)) % ((KEYS + 1) * GAP);
  name name = name_of(number);
  uint8_t value = 99;
  if (what == 0)
    MUST_OK(walmap_compact(map, NULL));
  if (number % GAP == 0)
    return;
  if (what < 256)
    MUST_OK(walmap_set(map, &name, sizeof name, &value, 1));
  else
    (void)walmap_remove(map, &name, sizeof name);
}

static void *record(void *arg) {
  recorder *r = arg;
  load *l = r->load;
  while (!atomic_load(&l->stop) && r->n < MOST_ACTIONS) {
    action *a = &r->actions[r->n++];
    *a = (action){.call = atomic_fetch_add(&l->clock, 1)};
    uint32_t choice = random_below(&r->random, 8);
    if (choice < 4) {
      MUST_OK(walmap_state_begin(r->state));
      read_range(r, a);
    } else if (choice < 6) {
      write_key(r, a);
    } else {
      transact(r, a);
    }
    a->end = atomic_fetch_add(&l->clock, 1);
    for (int i = 0; i < 4; i++)
      disturb(r);
  }
  return NULL;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Loads                                                                                                              */

static walmap *open_map(void) {
  walmap_options options;
  options_init(&options);
  options.shards = 4;
  options.first_segment = 256;
  options.busy_timeout = 600000;
  walmap *map;
  MUST_OK(walmap_open(&options, &map));
  return map;
}

/* Each has other keys, and others of the rest. */
static void make_images(load *l, uint64_t *random) {
  for (unsigned i = 0; i < IMAGES; i++) {
    walmap *map = open_map();
    l->image_values[i] = 0;
    for (uint32_t number = 1; number < (KEYS + 1) * GAP; number++) {
      name name = name_of(number);
      uint8_t value = (uint8_t)(1 + random_below(random, VALUES));
      if (random_below(random, 2))
        continue;
      MUST_OK(walmap_set(map, &name, sizeof name, &value, 1));
      if (number % GAP == 0)
        l->image_values[i] |= VALUE(number / GAP - 1, value);
    }
    MUST_OK(walmap_snapshot(map, &l->images[i], &l->image_sizes[i]));
    walmap_close(map);
  }
}

static void must_be_explained(const recorder *recorders, tally *checked) {
  size_t n = 0;
  action *all = malloc(THREADS * MOST_ACTIONS * sizeof *all);
  MUST(all);
  for (int t = 0; t < THREADS; t++) {
    memcpy(all + n, recorders[t].actions, recorders[t].n * sizeof *all);
    n += recorders[t].n;
  }
  const action *wrong = unexplained(all, n);
  if (wrong)
    printf("  no order explains (reads saw writes wrote call end), of those that were open then:\n");
  for (size_t i = 0; i < n; i++) {
    const action *a = &all[i];
    if (wrong && a->end + 20 > wrong->call && a->call < wrong->end)
      printf("  %016llx %016llx %016llx %016llx %llu %llu%s\n", (unsigned long long)a->reads,
             (unsigned long long)a->saw, (unsigned long long)a->writes, (unsigned long long)a->wrote,
             (unsigned long long)a->call, (unsigned long long)a->end, a == wrong ? " <-" : "");
    checked->ranges += a->reads != 0 && a->writes == 0;
    checked->restores += a->writes == ALL_KEYS;
  }
  assert_null(wrong);
  checked->actions += n;
  free(all);
}

static void run_load(uint64_t seed, tally *checked) {
  static recorder recorders[THREADS];
  load l = {.map = open_map()};
  make_images(&l, &seed);
  pthread_t threads[THREADS];
  for (int t = 0; t < THREADS; t++) {
    recorder *r = &recorders[t];
    *r = (recorder){.load = &l, .random = seed + ((uint64_t)t << 32)};
    MUST((r->actions = malloc(MOST_ACTIONS * sizeof(action))) != NULL);
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
  must_be_explained(recorders, checked);
  MUST_OK(walmap_verify(l.map, NULL, NULL));
  for (int t = 0; t < THREADS; t++) {
    free(recorders[t].actions);
    walmap_txn_free(recorders[t].txn);
    walmap_session_free(recorders[t].session);
    walmap_state_free(recorders[t].state);
  }
  for (int i = 0; i < IMAGES; i++)
    walmap_image_free(l.images[i]);
  walmap_close(l.map);
}

/* Gives way mostly while commit points are stored and collected, which takes too little time to be met otherwise. */
static void yield_at_commit_points(const char *point) {
  static const char of_commits[] = "commit point:";
  static _Thread_local uint64_t random;
  if (strncmp(point, of_commits, sizeof of_commits - 1) != 0)
    return;
  if (random == 0)
    random = the_seed ^ (uintptr_t)&random;
  uint32_t chance = random_below(&random, 64);
  if (chance == 0)
    sleep_ms(1);
  else if (chance < 16)
    sched_yield();
}

static void run_loads(walmap__yield_fn hook, uint64_t seed) {
  tally checked = {0};
  atomic_store(&walmap__yield_hook, hook);
  for (int i = 0; i < 4 || checked.ranges < 1000 || checked.restores == 0; i++)
    run_load(mix(seed + (uint64_t)i), &checked);
  atomic_store(&walmap__yield_hook, NULL);
  printf("  %llu operations explained, of them %llu reads of ranges, %llu restores\n",
         (unsigned long long)checked.actions, (unsigned long long)checked.ranges, (unsigned long long)checked.restores);
}

static void at_full_speed(void **unused) {
  (void)unused;
  run_loads(NULL, the_seed);
}

static void with_yields(void **unused) {
  (void)unused;
  run_loads(walmap__yield_at_random, the_seed + 100);
}

static void with_yields_at_commit_points(void **unused) {
  (void)unused;
  run_loads(yield_at_commit_points, the_seed + 200);
}

int main(void) {
  the_seed = announce_seed("test_linearizable_ranges");
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(checker_by_hand),
      cmocka_unit_test(checker_beside_all_orders),
      cmocka_unit_test(at_full_speed),
      cmocka_unit_test(with_yields),
      cmocka_unit_test(with_yields_at_commit_points),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
