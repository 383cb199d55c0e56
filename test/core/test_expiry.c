/*
** test_expiry.c - entries that expire: to the millisecond, absent everywhere, one time per state and statement, never
** back, and their space again without a reader
**
** What random operations can find, test_model.c looks for; all orders of two operations has test_races.c.
*/
#include "../common/support.h"

#include <pthread.h>

#define START 1000000

static _Atomic uint64_t the_time;

static uint64_t tell_time(void *ctx) {
  (void)ctx;
  return atomic_load(&the_time);
}

static walmap *open_map(uint32_t shards, uint64_t ttl) {
  walmap_options options;
  walmap_options_init(&options);
  options.shards = shards;
  options.first_segment = 256;
  options.busy_timeout = 0;
  options.ttl = ttl;
  options.clock = tell_time;
  atomic_store(&the_time, START);
  walmap *map;
  MUST_OK(walmap_open(&options, &map));
  return map;
}

static void set(walmap *map, uint32_t key, uint64_t expires) {
  MUST_OK(walmap_set_expiring(map, &key, 4, &key, 4, expires));
}

static bool is_there(walmap *map, uint32_t key) {
  int result = walmap_get(map, &key, 4, NULL, 0, NULL);
  MUST(result == WALMAP_OK || result == WALMAP_NOTFOUND);
  return result == WALMAP_OK;
}

static uint64_t expiry_of(walmap *map, uint32_t key) {
  walmap_state *state;
  walmap_entry entry;
  MUST_OK(walmap_state_new(map, &state));
  MUST_OK(walmap_state_begin(state));
  MUST_OK(walmap_state_get(state, &key, 4, &entry));
  walmap_state_free(state);
  return entry.expires;
}

/* ------------------------------------------------------------------------------------------------------------------ */

static void to_the_millisecond(void **unused) {
  (void)unused;
  walmap *map = open_map(1, 0);
  set(map, 1, START + 5);
  set(map, 2, WALMAP_NEVER);
  set(map, 3, UINT64_MAX / 2);
  set(map, 4, START); /* absent at once */
  set(map, 5, 1);     /* long ago */
  assert_int_equal(walmap_len(map), 3);
  atomic_store(&the_time, START + 4);
  assert_true(is_there(map, 1));
  atomic_store(&the_time, START + 5);
  assert_false(is_there(map, 1) || is_there(map, 4) || is_there(map, 5));
  assert_true(is_there(map, 2) && is_there(map, 3));
  assert_int_equal(expiry_of(map, 3), WALMAP_MAX_TIME);
  assert_int_equal(walmap_len(map), 2);
  walmap_close(map);
}

static void absent_for_writes(void **unused) {
  (void)unused;
  walmap *map = open_map(4, 0);
  uint32_t key = 7;
  bool done;
  set(map, key, START + 10);
  assert_int_equal(walmap_set_if_absent(map, &key, 4, "x", 1, &done), WALMAP_OK);
  assert_false(done);
  atomic_store(&the_time, START + 10);
  assert_int_equal(walmap_remove(map, &key, 4), WALMAP_NOTFOUND);
  assert_int_equal(walmap_touch(map, &key, 4, WALMAP_NEVER), WALMAP_NOTFOUND);
  assert_int_equal(walmap_set_if_absent(map, &key, 4, "x", 1, &done), WALMAP_OK);
  assert_true(done);
  assert_int_equal(expiry_of(map, key), WALMAP_NEVER);
  assert_int_equal(walmap_touch(map, &key, 4, START + 20), WALMAP_OK);
  assert_int_equal(expiry_of(map, key), START + 20);
  atomic_store(&the_time, START + 20);
  assert_false(is_there(map, key));
  walmap_close(map);
}

static int one_more(void *ctx, const void *old, size_t old_len, const void **value, size_t *value_len) {
  uint32_t *n = ctx;
  *n = 0;
  if (old)
    memcpy(n, old, old_len);
  ++*n;
  *value = n;
  *value_len = 4;
  return WALMAP_OK;
}

/* A counter with a limited life neither loses its end nor begins it anew with each increment. */
static void increments_keep_the_expiry(void **unused) {
  (void)unused;
  walmap *map = open_map(4, 50);
  uint32_t n;
  for (uint32_t i = 1; i <= 10; i++) {
    assert_int_equal(walmap_upsert(map, "n", 1, one_more, &n), WALMAP_OK);
    assert_int_equal(n, i);
    atomic_fetch_add(&the_time, 4);
  }
  atomic_store(&the_time, START + 50);
  assert_int_equal(walmap_upsert(map, "n", 1, one_more, &n), WALMAP_OK);
  assert_int_equal(n, 1);
  assert_int_equal(walmap_upsert_expiring(map, "m", 1, one_more, &n, START + 60), WALMAP_OK);
  assert_int_equal(walmap_upsert_expiring(map, "m", 1, one_more, &n, START + 99), WALMAP_OK);
  atomic_store(&the_time, START + 60);
  assert_int_equal(walmap_get(map, "m", 1, NULL, 0, NULL), WALMAP_NOTFOUND);
  walmap_close(map);
}

static void set_begins_anew(void **unused) {
  (void)unused;
  walmap *map = open_map(4, 30);
  uint32_t key = 1;
  MUST_OK(walmap_set(map, &key, 4, "a", 1));
  assert_int_equal(expiry_of(map, key), START + 30);
  atomic_store(&the_time, START + 20);
  MUST_OK(walmap_set(map, &key, 4, "b", 1));
  assert_int_equal(expiry_of(map, key), START + 50);
  set(map, key, WALMAP_NEVER);
  assert_int_equal(expiry_of(map, key), WALMAP_NEVER);
  walmap_close(map);
}

static void clock_that_jumps_back(void **unused) {
  (void)unused;
  walmap *map = open_map(4, 0);
  set(map, 1, START + 10);
  atomic_store(&the_time, START + 10);
  assert_false(is_there(map, 1));
  atomic_store(&the_time, START - 1000);
  assert_false(is_there(map, 1));
  assert_int_equal(walmap_len(map), 0);
  assert_int_equal(walmap_clock(map), START + 10);
  walmap_close(map);
}

/* A state's time stands still, in spite of writers, compaction and what other states saw. */
static void time_of_a_state(void **unused) {
  (void)unused;
  walmap *map = open_map(2, 0);
  walmap_state *old, *young;
  for (uint32_t key = 0; key < 2000; key++)
    set(map, key, START + 1 + key % 10);
  MUST_OK(walmap_state_new(map, &old));
  MUST_OK(walmap_state_new(map, &young));
  atomic_store(&the_time, START + 5);
  MUST_OK(walmap_state_begin(old));
  atomic_store(&the_time, START + 8);
  MUST_OK(walmap_state_begin(young));
  for (uint32_t key = 5000; key < 9000; key++)
    set(map, key, START + 9);
  atomic_store(&the_time, START + 1000);
  set(map, 1, START + 2000);
  MUST_OK(walmap_compact(map, NULL));
  assert_int_equal(walmap_state_len(old), 1000);
  assert_int_equal(count_entries(old), 1000);
  assert_int_equal(walmap_state_len(young), 400);
  assert_int_equal(count_entries(young), 400);
  void *image;
  size_t size;
  uint64_t entries;
  MUST_OK(walmap_state_image(old, &image, &size));
  walmap_state_end(old);
  MUST_OK(walmap_state_begin(old));
  assert_int_equal(walmap_state_len(old), 1);
  MUST_OK(walmap_restore(map, image, size, &entries, NULL));
  assert_int_equal(entries, 0); /* all 1,000 have expired meanwhile */
  assert_int_equal(walmap_len(map), 0);
  atomic_store(&the_time, 0);
  walmap *young_map = open_map(2, 0);
  MUST_OK(walmap_restore(young_map, image, size, &entries, NULL));
  assert_int_equal(entries, 1000);
  assert_int_equal(walmap_len(young_map), 1000);
  atomic_store(&the_time, START + 6);
  assert_int_equal(walmap_len(young_map), 800);
  MUST_OK(walmap_verify(young_map, NULL, NULL));
  atomic_store(&the_time, START + 20);
  MUST_OK(walmap_compact(young_map, NULL));
  assert_int_equal(walmap_size(young_map), 0);
  walmap_image_free(image);
  walmap_state_free(old);
  walmap_state_free(young);
  walmap_close(young_map);
  walmap_close(map);
}

/* Within a transaction time stands still from statement to statement, for what it wrote itself too. */
static void time_of_a_transaction(void **unused) {
  (void)unused;
  walmap *map = open_map(4, 0);
  walmap_session *session;
  walmap_txn *txn;
  walmap_state *state;
  walmap_entry entry;
  MUST_OK(walmap_session_new(NULL, NULL, &session));
  MUST_OK(walmap_txn_new(map, session, &txn));
  MUST_OK(walmap_state_new(map, &state));
  set(map, 1, START + 10);
  walmap_txn_begin(txn);
  assert_int_equal(walmap_txn_clock(txn), START);
  uint32_t keys[] = {1, 2};
  void *to;
  MUST_OK(walmap_txn_reserve_expiring(txn, WALMAP_IF_ABSENT, &keys[1], 4, 0, START + 10, &to));
  atomic_store(&the_time, START + 10);
  for (int i = 0; i < 2; i++) {
    assert_int_equal(walmap_txn_get(txn, &keys[i], 4, &entry), WALMAP_OK);
    assert_int_equal(entry.expires, START + 10);
  }
  assert_int_equal(walmap_txn_len(txn), 2);
  MUST_OK(walmap_compact(map, txn)); /* drops nothing that the transaction has read */
  MUST_OK(walmap_txn_state_begin(txn, state));
  assert_int_equal(count_entries(state), 2);
  walmap_txn_statement(txn);
  for (int i = 0; i < 2; i++)
    assert_int_equal(walmap_txn_get(txn, &keys[i], 4, &entry), WALMAP_NOTFOUND);
  assert_int_equal(walmap_txn_reserve_if(txn, true, &keys[0], 4, 0, &to), WALMAP_NOTFOUND);
  assert_int_equal(walmap_txn_touch(txn, &keys[0], 4, 0), WALMAP_NOTFOUND);
  assert_int_equal(walmap_txn_len(txn), 0);
  assert_int_equal(walmap_state_len(state), 2);
  walmap_txn_commit(txn);
  assert_int_equal(count_entries(state), 2);
  walmap_state_free(state);
  walmap_txn_free(txn);
  walmap_session_free(session);
  walmap_close(map);
}

/* A follower that had an older entry of the key must not keep it when a newer one has expired, and was dropped. */
static void followers(void **unused) {
  (void)unused;
  for (int compacts = 0; compacts < 2; compacts++) {
    walmap *map = open_map(1, 0), *follower = open_map(1, 0);
    walmap_session *session;
    walmap_txn *txn;
    walmap_state *state;
    void *position, *changes = NULL;
    size_t size, changes_size;
    uint32_t key = 1;
    MUST_OK(walmap_session_new(NULL, NULL, &session));
    MUST_OK(walmap_txn_new(follower, session, &txn));
    MUST_OK(walmap_state_new(map, &state));
    set(map, key, WALMAP_NEVER);
    set(follower, key, WALMAP_NEVER);
    MUST_OK(walmap_state_begin(state));
    MUST_OK(walmap_state_position(state, &position, &size));
    walmap_state_end(state);
    set(map, key, START + 10);
    atomic_store(&the_time, START + 10);
    if (compacts)
      MUST_OK(walmap_compact(map, NULL));
    MUST_OK(walmap_state_begin(state));
    int result = walmap_state_changes(state, position, size, &changes, &changes_size, NULL);
    assert_int_equal(result, compacts ? WALMAP_GONE : WALMAP_OK);
    if (!compacts) {
      walmap_txn_begin(txn);
      MUST_OK(walmap_txn_apply(txn, changes, changes_size, NULL, NULL, NULL, NULL));
      walmap_txn_commit(txn);
      assert_int_equal(walmap_len(follower), 0);
      walmap_image_free(changes);
    }
    walmap_image_free(position);
    walmap_state_free(state);
    walmap_txn_free(txn);
    walmap_session_free(session);
    walmap_close(map);
    walmap_close(follower);
  }
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Space                                                                                                              */

/* Written for ever with mixed lives and never read: a third more than what lives, and a segment a shard. */
static void space_without_readers(void **unused) {
  (void)unused;
  enum { SHARDS = 4, WRITES = 400000 / SLOWDOWN, VALUE = 100, RECORD = 8 + 4 + VALUE + 8 };
  static const uint32_t lives[] = {50, 500, 5000, 20000};
  static const uint8_t value[VALUE];
  walmap *map = open_map(SHARDS, 0);
  uint64_t random = announce_seed("test_expiry"), most_over = 0;
  for (uint32_t i = 0; i < WRITES; i++) {
    uint64_t now = START + i / 4;
    atomic_store(&the_time, now);
    MUST_OK(walmap_set_expiring(map, &i, 4, value, VALUE, now + 1 + random_below(&random, lives[i % 4])));
    if (i % 1000 != 999)
      continue;
    uint64_t live = walmap_len(map) * RECORD, size = walmap_size(map),
             allowed = live / 3 + live / 8 + SHARDS * 48 * 1024;
    if (size > live && size - live > most_over)
      most_over = size - live;
    if (size > live + allowed)
      fail_msg("write %u: %llu bytes of log, %llu live", i, (unsigned long long)size, (unsigned long long)live);
  }
  MUST_OK(walmap_verify(map, NULL, NULL));
  printf("  %llu live at the end, at most %llu bytes more\n", (unsigned long long)walmap_len(map),
         (unsigned long long)most_over);
  walmap_close(map);
}

/* Writes to one key pay for what has expired in all shards. */
static void space_of_other_shards(void **unused) {
  (void)unused;
  walmap *map = open_map(16, 0);
  static const uint8_t value[500];
  for (uint32_t i = 0; i < 20000; i++)
    MUST_OK(walmap_set_expiring(map, &i, 4, value, sizeof value, START + 10));
  uint64_t before = walmap_memory(map);
  atomic_store(&the_time, START + 10);
  for (uint32_t i = 0; i < 100000; i++)
    MUST_OK(walmap_set(map, "k", 1, "v", 1));
  assert_int_equal(walmap_len(map), 1);
  assert_in_range(walmap_size(map), 0, 16 * 64 * 1024); /* a segment or two a shard */
  assert_in_range(walmap_memory(map), 0, before / 4);
  walmap_close(map);
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Threads                                                                                                            */

enum { TOGETHER = 40 };
static atomic_bool over;
static atomic_int seen_by; /* readers that have seen entries */

/* TOGETHER entries are written by one transaction, to expire at one time: a state has all or none (X1, X2). */
static void *read_together(void *arg) {
  walmap *map = arg;
  walmap_state *state;
  uint64_t all = 0;
  MUST_OK(walmap_state_new(map, &state));
  while (!atomic_load(&over)) {
    uint64_t len = walmap_len(map);
    MUST(len % TOGETHER == 0);
    MUST_OK(walmap_state_begin(state));
    len = walmap_state_len(state);
    MUST(len % TOGETHER == 0 && count_entries(state) == len);
    walmap_state_end(state);
    if (all == 0 && len > 0)
      atomic_fetch_add(&seen_by, 1);
    all += len;
  }
  walmap_state_free(state);
  return NULL;
}

static void all_or_none(void **unused) {
  (void)unused;
  enum { READERS = 2 };
  walmap *map = open_map(4, 0);
  walmap_session *session;
  walmap_txn *txn;
  pthread_t threads[READERS];
  atomic_store(&over, false);
  MUST_OK(walmap_session_new(NULL, NULL, &session));
  MUST_OK(walmap_txn_new(map, session, &txn));
  for (int i = 0; i < READERS; i++)
    MUST(pthread_create(&threads[i], NULL, read_together, map) == 0);
  uint64_t end = now_ns() + 1500 * 1000000ull;
  for (uint32_t round = 0; now_ns() < end || atomic_load(&seen_by) < READERS; round++) {
    MUST_NOT_HANG(end);
    atomic_fetch_add(&the_time, 1);
    walmap_txn_begin(txn);
    uint64_t expires = walmap_txn_clock(txn) + 1 + round % 3;
    for (uint32_t i = 0; i < TOGETHER; i++) {
      uint32_t key = round % 7 * TOGETHER + i;
      void *to;
      MUST_OK(walmap_txn_reserve_expiring(txn, WALMAP_ALWAYS, &key, 4, 0, expires, &to));
    }
    if (round % 5 == 0)
      walmap_txn_rollback(txn);
    else
      walmap_txn_commit(txn);
  }
  atomic_store(&over, true);
  for (int i = 0; i < READERS; i++)
    pthread_join(threads[i], NULL);
  MUST_OK(walmap_verify(map, NULL, NULL));
  walmap_txn_free(txn);
  walmap_session_free(session);
  walmap_close(map);
}

/* The old times come back, though the new ones have taken their places in the table. */
static void undone_times(void **unused) {
  (void)unused;
  enum { N = 100 };
  walmap *map = open_map(1, 0);
  for (uint32_t key = 0; key < N; key++)
    set(map, key, START + 10 + key);
  walmap_session *session;
  walmap_txn *txn;
  MUST_OK(walmap_session_new(NULL, NULL, &session));
  MUST_OK(walmap_txn_new(map, session, &txn));
  for (int round = 0; round < 3; round++) {
    walmap_txn_begin(txn);
    walmap_txn_savepoint(txn, 0);
    for (uint32_t key = 0; key < N; key++)
      MUST_OK(walmap_txn_remove(txn, &key, 4));
    for (uint32_t key = N; key < 2 * N; key++) {
      void *to;
      uint64_t expires = START + (uint64_t)1000 * (round + 1) + key;
      MUST_OK(walmap_txn_reserve_expiring(txn, WALMAP_ALWAYS, &key, 4, 0, expires, &to));
    }
    walmap_txn_rollback_to(txn, 0);
    assert_int_equal(walmap_txn_len(txn), N);
    walmap_txn_rollback(txn);
    MUST_OK(walmap_verify(map, NULL, NULL));
  }
  for (uint32_t gone = 0; gone <= N; gone++) {
    atomic_store(&the_time, START + 9 + gone);
    assert_int_equal(walmap_len(map), N - gone);
  }
  walmap_txn_free(txn);
  walmap_session_free(session);
  walmap_close(map);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(to_the_millisecond),
      cmocka_unit_test(absent_for_writes),
      cmocka_unit_test(increments_keep_the_expiry),
      cmocka_unit_test(set_begins_anew),
      cmocka_unit_test(clock_that_jumps_back),
      cmocka_unit_test(time_of_a_state),
      cmocka_unit_test(time_of_a_transaction),
      cmocka_unit_test(followers),
      cmocka_unit_test(space_without_readers),
      cmocka_unit_test(space_of_other_shards),
      cmocka_unit_test(all_or_none),
      cmocka_unit_test(undone_times),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
