/*
** test_compact.c - memory that segments leave unused; and segments that become many: each has an id, of which a shard
** has 16,383, and what is written goes on for ever
**
** That compaction loses nothing and gives all is looked for by the tests of what uses it: test_size.c, test_races.c,
** test_transfers.c, test_model.c. Here it is how the log lies afterwards.
*/
#include "../common/support.h"

#include "mvcc/map.h"

typedef struct fixture {
  walmap *map;
  walmap_session *session;
  walmap_txn *txn;
} fixture;

static fixture open_one_shard(uint32_t auto_compact) {
  fixture f;
  walmap_options options;
  options_init(&options);
  options.shards = 1;
  options.auto_compact = auto_compact;
  MUST_OK(walmap_open(&options, &f.map));
  MUST_OK(walmap_session_new(NULL, NULL, &f.session));
  MUST_OK(walmap_txn_new(f.map, f.session, &f.txn));
  return f;
}

static void close_all(fixture *f) {
  MUST_OK(walmap_verify(f->map, NULL, NULL));
  walmap_txn_free(f->txn);
  walmap_session_free(f->session);
  walmap_close(f->map);
}

static void set(walmap *map, uint32_t key, uint64_t value) { MUST_OK(walmap_set(map, &key, 4, &value, 8)); }

static void must_be(walmap *map, uint32_t key, uint64_t expected) {
  uint64_t value;
  MUST_OK(walmap_get(map, &key, 4, &value, 8, NULL));
  assert_int_equal(value, expected);
}

static unsigned segments(const walmap *map) {
  const walmap__generation *g = walmap__shard_generation(&map->shards[0]);
  unsigned n = 0;
  for (const walmap__segment *s = atomic_load(&g->log.first); s; s = atomic_load(&s->next))
    n++;
  return n;
}

/*
** As many as lie in a log of some hundred KiB whose segments, but for the last few, are an eighth of it, or half that.
*/
enum { FEW = 40 };

/* Each run leaves a new key or none, between counters that are overwritten: a segment of its own for ever. */
static void counters_and_new_keys(void **unused) {
  (void)unused;
  enum { COUNTERS = 8, WRITES = 1000000, EVERY = 1000, COUNTER = 1 << 20 };
  fixture f = open_one_shard(WALMAP_DEFAULT_AUTO_COMPACT);
  unsigned most = 0;
  for (uint32_t i = 0; i < WRITES; i++) {
    if (i % EVERY == 0) {
      set(f.map, i / EVERY, i);
      unsigned n = segments(f.map);
      most = n > most ? n : most;
    } else {
      set(f.map, COUNTER + i % COUNTERS, i);
    }
  }
  printf("  at most %u segments\n", most);
  assert_true(most <= FEW);
  for (uint32_t i = 0; i < WRITES / EVERY; i++)
    must_be(f.map, i, (uint64_t)i * EVERY);
  close_all(&f);
}

/*
** The newest is set, the oldest removed, all compacted: each time a segment at one end, and one that shrinks at the
** other.
*/
static void queue(void **unused) {
  (void)unused;
  enum { LENGTH = 4000, STEPS = 8000 };
  for (uint32_t auto_compact = 0; auto_compact <= 50; auto_compact += 50) {
    fixture f = open_one_shard(auto_compact);
    for (uint32_t i = 0; i < LENGTH; i++)
      set(f.map, i, i);
    unsigned most = 0;
    for (uint32_t i = 0; i < STEPS; i++) {
      set(f.map, LENGTH + i, i);
      MUST_OK(walmap_remove(f.map, &i, 4));
      MUST_OK(walmap_compact(f.map, NULL));
      unsigned n = segments(f.map);
      most = n > most ? n : most;
      assert_int_equal(walmap_reclaimable(f.map), 0);
    }
    printf("  at most %u segments\n", most);
    assert_true(most <= FEW);
    assert_int_equal(walmap_len(f.map), LENGTH);
    close_all(&f);
  }
}

/* What a few long values leave dead is not kept until many have died: the log stays within what DESIGN.md states. */
static void long_values(void **unused) {
  (void)unused;
  enum { LONGEST = 3 << 20, MOST_KEYS = 10, ROUNDS = 60, A_SHARD = 48 << 10 };
  static const uint32_t lengths[] = {1000, 10000, 100000, LONGEST}, keys[] = {1, MOST_KEYS};
  uint8_t *value = calloc(1, LONGEST);
  MUST(value != NULL);
  for (size_t i = 0; i < 8; i++) {
    uint32_t length = lengths[i / 2], n = keys[i % 2];
    fixture f = open_one_shard(WALMAP_DEFAULT_AUTO_COMPACT);
    uint64_t live = (uint64_t)n * length, run = live / 8 > length ? live / 8 : length, most = 0;
    for (uint32_t k = 0; k < ROUNDS * n; k++) {
      uint32_t key = k % n;
      if (k % 3 == 0) {
        walmap_txn_begin(f.txn);
        MUST_OK(walmap_txn_set(f.txn, &key, 4, value, length));
        walmap_txn_commit(f.txn);
      } else {
        MUST_OK(walmap_set(f.map, &key, 4, value, length));
      }
      uint64_t size = walmap_size(f.map);
      most = size > most ? size : most;
    }
    printf("  %u of %u bytes: at most %llu of log\n", (unsigned)n, (unsigned)length, (unsigned long long)most);
    assert_true(most <= 2 * live + run + A_SHARD);
    close_all(&f);
  }
  free(value);
}

static double memory_to_live(walmap *map, uint64_t live) { return (double)walmap_memory(map) / (double)live; }

/*
** Values that are long beside a segment leave little of the memory unused that they are put into, whatever their
** length.
*/
static void lengths_beside_a_segment(void **unused) {
  (void)unused;
  enum { LIVE = 60 << 20, LONGEST = 1100000, STEP = 37000 * (SLOWDOWN > 1 ? 5 : 1), HEAD = 64 };
  uint8_t *value = calloc(1, LONGEST);
  MUST(value != NULL);
  double most = 0, most_restored = 0;
  for (uint32_t length = 130000; length <= LONGEST; length += STEP) {
    fixture f = open_one_shard(WALMAP_DEFAULT_AUTO_COMPACT);
    uint64_t n = LIVE / length, live = n * (length + HEAD);
    for (uint32_t key = 0; key < n; key++)
      MUST_OK(walmap_set(f.map, &key, 4, value, length));
    double set_ratio = memory_to_live(f.map, live);
    void *image;
    size_t size;
    MUST_OK(walmap_snapshot(f.map, &image, &size));
    MUST_OK(walmap_restore(f.map, image, size, NULL, NULL));
    MUST_OK(walmap_compact(f.map, NULL)); /* what was there before the restore goes */
    walmap_image_free(image);
    double restored = memory_to_live(f.map, live);
    most = set_ratio > most ? set_ratio : most;
    most_restored = restored > most_restored ? restored : most_restored;
    close_all(&f);
  }
  printf("  at most %.2f of the live bytes; restored %.2f\n", most, most_restored);
  assert_true(most < 1.35 && most_restored < 1.35);
  free(value);
}

/* Values of any length, overwritten for ever: half of the log may be dead, and little else is unused. */
static void any_length(void **unused) {
  (void)unused;
  enum { KEYS = 100, WRITES = KEYS * 20 / (SLOWDOWN > 1 ? 2 : 1), LONGEST = 1 << 20 };
  uint8_t *value = calloc(1, LONGEST);
  MUST(value != NULL);
  fixture f = open_one_shard(WALMAP_DEFAULT_AUTO_COMPACT);
  uint32_t lengths[KEYS] = {0};
  uint64_t random = 1, live = 0;
  double sum = 0;
  for (uint32_t i = 0, measured = 0; i < WRITES; i++) {
    uint32_t key = random_below(&random, KEYS), length = random_below(&random, LONGEST + 1);
    MUST_OK(walmap_set(f.map, &key, 4, value, length));
    live += length - (uint64_t)lengths[key];
    lengths[key] = length;
    if (i < WRITES / 4)
      continue;
    sum += memory_to_live(f.map, live);
    if (++measured == WRITES - WRITES / 4)
      printf("  %.2f of the live bytes\n", sum / measured);
  }
  assert_true(sum / (WRITES - WRITES / 4) < 2.35);
  close_all(&f);
  free(value);
}

static void restore_and_roll_back(fixture *f, const void *image, size_t size) {
  walmap_txn_begin(f->txn);
  MUST_OK(walmap_txn_restore(f->txn, image, size, NULL, NULL, NULL, NULL));
  walmap_txn_rollback(f->txn);
}

/* A restore that is undone ends the segment in which it found the log, and nothing in there is dead. */
static void undone_restores(void **unused) {
  (void)unused;
  enum { TIMES = 2000, MANY = 300 };
  fixture f = open_one_shard(WALMAP_DEFAULT_AUTO_COMPACT);
  void *image;
  size_t size;
  MUST_OK(walmap_snapshot(f.map, &image, &size));
  unsigned most = 0;
  for (uint32_t i = 0; i < TIMES; i++) {
    set(f.map, i, i);
    restore_and_roll_back(&f, image, size);
    unsigned n = segments(f.map);
    most = n > most ? n : most;
  }
  printf("  at most %u segments\n", most);
  assert_true(most <= MANY);
  for (uint32_t i = 0; i < TIMES; i++)
    must_be(f.map, i, i);
  walmap_image_free(image);
  close_all(&f);
}

/* Without compaction ids run out. It can still be asked for, and makes room, though it needs ids itself. */
static void all_ids_taken(void **unused) {
  (void)unused;
  fixture f = open_one_shard(0);
  void *image;
  size_t size;
  MUST_OK(walmap_snapshot(f.map, &image, &size));
  uint32_t n = 0;
  uint64_t value = 1;
  int result;
  while ((result = walmap_set(f.map, &n, 4, &value, 8)) == WALMAP_OK) {
    MUST(n++ < WALMAP__MAX_SEGMENTS);
    restore_and_roll_back(&f, image, size);
  }
  assert_int_equal(result, WALMAP_TOOBIG);
  assert_true(segments(f.map) > WALMAP__MAX_SEGMENTS - 100);
  MUST_OK(walmap_verify(f.map, NULL, NULL));

  walmap_state *state; /* leaves all as it is */
  MUST_OK(walmap_state_new(f.map, &state));
  MUST_OK(walmap_state_begin(state));
  MUST_OK(walmap_compact(f.map, NULL));
  walmap_state_free(state);
  MUST_OK(walmap_compact(f.map, NULL));
  assert_true(segments(f.map) <= FEW);
  set(f.map, n, value);
  for (uint32_t i = 0; i <= n; i++)
    must_be(f.map, i, value);
  walmap_image_free(image);
  close_all(&f);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(counters_and_new_keys),
      cmocka_unit_test(queue),
      cmocka_unit_test(long_values),
      cmocka_unit_test(lengths_beside_a_segment),
      cmocka_unit_test(any_length),
      cmocka_unit_test(undone_restores),
      cmocka_unit_test(all_ids_taken),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
