/*
** test_txn.c - transactions on one thread: all or nothing, ownership, what a key's reads and writes see of each other,
** several maps in one session (C3, C4)
*/
#include "../common/txn_kit.h"

static void begin_commit_rollback(void **unused) {
  (void)unused;
  struct fixture f = fixture_new(16);
  assert_false(walmap_txn_is_begun(f.txn));
  walmap_txn_begin(f.txn);
  assert_true(walmap_txn_is_begun(f.txn));
  assert_string_equal(get(f.txn, "a"), "-");
  assert_int_equal(set(f.txn, "a", "1"), WALMAP_OK);
  assert_int_equal(set(f.txn, "b", "2"), WALMAP_OK);
  assert_int_equal(set(f.txn, "a", "3"), WALMAP_OK);
  assert_string_equal(get(f.txn, "a"), "3");
  assert_string_equal(committed(f.map, "a"), "-");
  assert_int_equal(walmap_txn_len(f.txn), 2);
  assert_int_equal(walmap_len(f.map), 0);
  assert_int_equal(walmap_size(f.map), 0);
  assert_true(walmap_txn_size(f.txn) > 0);
  assert_true(walmap_txn_reclaimable(f.txn) < walmap_txn_size(f.txn));
  walmap_txn_commit(f.txn);
  assert_false(walmap_txn_is_begun(f.txn));
  assert_string_equal(committed(f.map, "a"), "3");
  assert_string_equal(committed(f.map, "b"), "2");

  walmap_txn_begin(f.txn);
  assert_int_equal(remove_key(f.txn, "a"), WALMAP_OK);
  assert_int_equal(remove_key(f.txn, "a"), WALMAP_NOTFOUND);
  assert_int_equal(remove_key(f.txn, "nothing"), WALMAP_NOTFOUND);
  assert_int_equal(set(f.txn, "b", "4"), WALMAP_OK);
  assert_int_equal(set(f.txn, "c", "5"), WALMAP_OK);
  assert_string_equal(get(f.txn, "a"), "-");
  assert_string_equal(committed(f.map, "a"), "3");
  assert_int_equal(walmap_txn_len(f.txn), 2);
  walmap_txn_rollback(f.txn);
  assert_string_equal(committed(f.map, "a"), "3");
  assert_string_equal(committed(f.map, "b"), "2");
  assert_string_equal(committed(f.map, "c"), "-");
  assert_int_equal(walmap_len(f.map), 2);

  walmap_txn_begin(f.txn); /* nothing done */
  walmap_txn_commit(f.txn);
  walmap_txn_begin(f.txn);
  walmap_txn_rollback(f.txn);
  walmap_txn_begin(f.txn); /* `free` rolls back */
  assert_int_equal(set(f.txn, "a", "lost"), WALMAP_OK);
  walmap_txn_free(f.txn);
  f.txn = NULL;
  assert_string_equal(committed(f.map, "a"), "3");
  assert_int_equal(walmap_set(f.map, "a", 1, "6", 1), WALMAP_OK); /* and gives its shards back */
  assert_string_equal(committed(f.map, "a"), "6");
  fixture_free(&f);
}

static void rolled_back_space_is_reclaimed(void **unused) {
  (void)unused;
  struct fixture f = fixture_new(4);
  char value[1000] = {0};
  for (int round = 0; round < 100; round++) {
    walmap_txn_begin(f.txn);
    for (int k = 0; k < 50; k++)
      assert_int_equal(walmap_txn_set(f.txn, &k, sizeof k, value, (size_t)(k * 20)), WALMAP_OK);
    walmap_txn_rollback(f.txn);
  }
  assert_int_equal(walmap_len(f.map), 0);
  assert_int_equal(walmap_reclaimable(f.map), walmap_size(f.map));
  assert_int_equal(walmap_compact(f.map, NULL), WALMAP_OK);
  assert_int_equal(walmap_size(f.map), 0);
  assert_true(walmap_memory(f.map) < 256 * 1024);
  fixture_free(&f);
}

/* A transaction that was begun before is forgotten, with its savepoints. */
static void objects_are_reused(void **unused) {
  (void)unused;
  struct fixture f = fixture_new(4);
  for (int round = 0; round < 100; round++) {
    walmap_txn_begin(f.txn);
    assert_int_equal(set(f.txn, "k", "1"), WALMAP_OK);
    walmap_txn_rollback_to(f.txn, 1); /* marked in the round before, and gone */
    assert_string_equal(get(f.txn, "k"), "1");
    walmap_txn_savepoint(f.txn, 1);
    assert_int_equal(remove_key(f.txn, "k"), WALMAP_OK);
    if (round % 2)
      walmap_txn_commit(f.txn);
    else
      walmap_txn_rollback(f.txn);
  }
  assert_int_equal(walmap_len(f.map), 0);
  fixture_free(&f);
}

/* What is refused leaves the key as it is, and takes its shard as every look at a key does. */
static void reserve_if(void **unused) {
  (void)unused;
  struct fixture f = fixture_new(16);
  void *value;
  walmap_txn_begin(f.txn);
  assert_int_equal(walmap_txn_reserve_if(f.txn, true, "k", 1, 1, &value), WALMAP_NOTFOUND);
  assert_string_equal(get(f.txn, "k"), "-");
  assert_int_equal(walmap_set(f.map, "k", 1, "x", 1), WALMAP_BUSY);
  assert_int_equal(walmap_txn_reserve_if(f.txn, false, "k", 1, 1, &value), WALMAP_OK);
  memcpy(value, "1", 1);
  assert_int_equal(walmap_txn_reserve_if(f.txn, false, "k", 1, 1, &value), WALMAP_EXISTS);
  assert_string_equal(get(f.txn, "k"), "1");
  assert_int_equal(walmap_txn_reserve_if(f.txn, true, "k", 1, 2, &value), WALMAP_OK);
  memcpy(value, "22", 2);
  assert_string_equal(get(f.txn, "k"), "22");
  assert_int_equal(walmap_txn_remove(f.txn, "k", 1), WALMAP_OK);
  assert_int_equal(walmap_txn_reserve_if(f.txn, true, "k", 1, 1, &value), WALMAP_NOTFOUND); /* a tombstone is none */
  assert_int_equal(walmap_txn_reserve_if(f.txn, false, "k", 1, 1, &value), WALMAP_OK);
  memcpy(value, "3", 1);
  assert_int_equal(walmap_txn_reserve_if(f.txn, true, "k", 1, WALMAP_MAX_LENGTH + 1, &value), WALMAP_TOOBIG);
  walmap_txn_commit(f.txn);
  assert_string_equal(committed(f.map, "k"), "3");
  fixture_free(&f);
}

static void reserve(void **unused) {
  (void)unused;
  struct fixture f = fixture_new(16);
  void *value;
  size_t huge = 3 << 20;
  walmap_txn_begin(f.txn);
  assert_int_equal(walmap_txn_reserve(f.txn, "k", 1, 5, &value), WALMAP_OK);
  memcpy(value, "12345", 5);
  assert_string_equal(get(f.txn, "k"), "12345");
  assert_int_equal(walmap_txn_reserve(f.txn, "k", 1, 2, &value), WALMAP_OK);
  memcpy(value, "67", 2);
  assert_int_equal(walmap_txn_reserve(f.txn, "l", 1, 0, &value), WALMAP_OK);
  assert_int_equal(walmap_txn_reserve(f.txn, "m", 1, huge, &value), WALMAP_OK);
  memset(value, 'x', huge);
  assert_int_equal(walmap_txn_reserve(f.txn, "n", 1, WALMAP_MAX_LENGTH + 1, &value), WALMAP_TOOBIG);
  assert_string_equal(get(f.txn, "n"), "-");
  assert_string_equal(get(f.txn, "k"), "67");
  walmap_txn_commit(f.txn);
  assert_string_equal(committed(f.map, "k"), "67");
  assert_string_equal(committed(f.map, "l"), "");
  size_t len;
  assert_int_equal(walmap_get(f.map, "m", 1, NULL, 0, &len), WALMAP_OK);
  assert_int_equal(len, huge);
  fixture_free(&f);
}

/* C4: what a transaction touched, also by reading, is its own until it ends. */
static void ownership(void **unused) {
  (void)unused;
  struct fixture f = fixture_new(1);
  walmap_session *session;
  walmap_txn *other;
  walmap_entry entry;
  assert_int_equal(walmap_session_new(NULL, NULL, &session), WALMAP_OK);
  assert_int_equal(walmap_txn_new(f.map, session, &other), WALMAP_OK);
  assert_int_equal(walmap_set(f.map, "k", 1, "0", 1), WALMAP_OK);
  for (int how = 0; how < 5; how++) {
    walmap_state *state = NULL;
    walmap_txn_begin(f.txn);
    walmap_txn_begin(other);
    assert_string_equal(get(other, "k"), "0");
    walmap_txn_commit(other);
    if (how == 0)
      assert_string_equal(get(f.txn, "k"), "0");
    if (how == 1)
      assert_string_equal(get(f.txn, "absent"), "-");
    if (how == 2)
      assert_int_equal(remove_key(f.txn, "absent"), WALMAP_NOTFOUND);
    if (how == 3)
      assert_int_equal(set(f.txn, "k", "1"), WALMAP_OK);
    if (how == 4) {
      assert_int_equal(walmap_state_new(f.map, &state), WALMAP_OK);
      assert_int_equal(walmap_txn_state_begin(f.txn, state), WALMAP_OK);
    }
    walmap_txn_begin(other);
    assert_int_equal(walmap_txn_get(other, "k", 1, &entry), WALMAP_BUSY);
    assert_int_equal(set(other, "k", "2"), WALMAP_BUSY);
    assert_int_equal(remove_key(other, "k"), WALMAP_BUSY);
    assert_int_equal(walmap_set(f.map, "k", 1, "3", 1), WALMAP_BUSY); /* this thread would wait for itself */
    assert_int_equal(walmap_remove(f.map, "k", 1), WALMAP_BUSY);
    assert_int_equal(walmap_set_if_absent(f.map, "k", 1, "3", 1, NULL), WALMAP_BUSY);
    assert_string_equal(committed(f.map, "k"), "0"); /* C1 */
    assert_true(walmap_txn_is_begun(other));
    walmap_txn_rollback_to(f.txn, -1); /* shards stay owned */
    assert_int_equal(set(other, "k", "2"), WALMAP_BUSY);
    walmap_txn_rollback(f.txn);
    assert_int_equal(set(other, "k", "2"), WALMAP_OK); /* the one that met BUSY goes on */
    walmap_txn_rollback(other);
    walmap_state_free(state);
  }
  walmap_txn_free(other);
  walmap_session_free(session);
  fixture_free(&f);
}

/* Pointers from walmap_txn_get live until the transaction ends, whatever it does meanwhile. */
static void pointers_live(void **unused) {
  (void)unused;
  struct fixture f = fixture_new(2);
  walmap_entry entries[100];
  for (int k = 0; k < 100; k++)
    assert_int_equal(walmap_set(f.map, &k, sizeof k, &k, sizeof k), WALMAP_OK);
  walmap_txn_begin(f.txn);
  for (int k = 0; k < 100; k++)
    assert_int_equal(walmap_txn_get(f.txn, &k, sizeof k, &entries[k]), WALMAP_OK);
  for (int round = 0; round < 50; round++) {
    for (int k = 0; k < 100; k++) {
      assert_int_equal(walmap_txn_set(f.txn, &k, sizeof k, &round, sizeof round), WALMAP_OK);
      if (round % 10 == 5)
        assert_int_equal(walmap_txn_remove(f.txn, &k, sizeof k), WALMAP_OK);
    }
    if (round % 20 == 10)
      assert_int_equal(walmap_compact(f.map, f.txn), WALMAP_OK);
    if (round == 30)
      walmap_txn_rollback_to(f.txn, -1);
  }
  for (int k = 0; k < 100; k++) {
    assert_memory_equal(entries[k].key, &k, sizeof k);
    assert_memory_equal(entries[k].value, &k, sizeof k);
  }
  walmap_txn_commit(f.txn);
  fixture_free(&f);
}

static uint64_t hash_same(const void *key, size_t len, uint64_t seed) {
  (void)key, (void)len;
  return seed;
}

static bool count_entry(void *ctx, const walmap_entry *entry) {
  assert_int_equal(entry->key_len, 4);
  return ++*(int *)ctx != 1000;
}

static void each_hash_in_transaction(void **unused) {
  (void)unused;
  walmap_options options;
  options_init(&options);
  options.hash = hash_same;
  walmap *map;
  walmap_session *session;
  walmap_txn *txn;
  int count = 0;
  assert_int_equal(walmap_open(&options, &map), WALMAP_OK);
  assert_int_equal(walmap_session_new(NULL, NULL, &session), WALMAP_OK);
  assert_int_equal(walmap_txn_new(map, session, &txn), WALMAP_OK);
  for (int k = 0; k < 20; k++)
    assert_int_equal(walmap_set(map, &k, 4, "v", 1), WALMAP_OK);
  walmap_txn_begin(txn);
  for (int k = 10; k < 40; k++)
    assert_int_equal(walmap_txn_set(txn, &k, 4, "w", 1), WALMAP_OK);
  for (int k = 0; k < 5; k++)
    assert_int_equal(walmap_txn_remove(txn, &k, 4), WALMAP_OK);
  uint64_t hash = walmap_hash(map, &count, 4);
  assert_int_equal(walmap_txn_each_hash(txn, hash, count_entry, &count), WALMAP_OK);
  assert_int_equal(count, 35);
  count = 990; /* the callback stops at 1000 */
  assert_int_equal(walmap_txn_each_hash(txn, hash, count_entry, &count), WALMAP_OK);
  assert_int_equal(count, 1000);
  walmap_txn_rollback(txn);
  walmap_txn_begin(txn);
  count = 0;
  assert_int_equal(walmap_txn_each_hash(txn, hash, count_entry, &count), WALMAP_OK);
  assert_int_equal(count, 20);
  walmap_txn_free(txn);
  walmap_session_free(session);
  walmap_close(map);
}

/*
** What was got, and then changed or lost in some other way, is looked up anew: nothing is written beside its newest
** record.
*/
static void changed_after_get(void **unused) {
  (void)unused;
  struct fixture f = fixture_new(1);
  void *image;
  size_t size;
  char key[16];
  assert_int_equal(walmap_set(f.map, "k", 1, "0", 1), WALMAP_OK);
  assert_int_equal(walmap_set(f.map, "other", 5, "0", 1), WALMAP_OK);
  assert_int_equal(walmap_snapshot(f.map, &image, &size), WALMAP_OK);
  walmap_txn_begin(f.txn);

  assert_string_equal(get(f.txn, "k"), "0"); /* the change of what was got itself, again and again */
  for (int i = 1; i <= 3; i++) {
    snprintf(key, sizeof key, "%d", i);
    assert_int_equal(set(f.txn, "k", key), WALMAP_OK);
    assert_string_equal(get(f.txn, "k"), key);
  }
  assert_string_equal(get(f.txn, "k"), "3"); /* another key, and one that begins alike */
  assert_int_equal(set(f.txn, "other", "1"), WALMAP_OK);
  assert_int_equal(set(f.txn, "kk", "1"), WALMAP_OK);
  assert_string_equal(get(f.txn, "k"), "3");

  assert_string_equal(get(f.txn, "k"), "3"); /* the index grows, and splits */
  for (int i = 0; i < 5000; i++) {
    snprintf(key, sizeof key, "%d", i);
    assert_int_equal(set(f.txn, key, "x"), WALMAP_OK);
  }
  assert_int_equal(set(f.txn, "k", "4"), WALMAP_OK);
  assert_string_equal(get(f.txn, "k"), "4");

  walmap_txn_savepoint(f.txn, 0); /* it is undone */
  assert_int_equal(set(f.txn, "k", "5"), WALMAP_OK);
  assert_string_equal(get(f.txn, "k"), "5");
  walmap_txn_rollback_to(f.txn, 0);
  assert_int_equal(remove_key(f.txn, "k"), WALMAP_OK);
  assert_string_equal(get(f.txn, "k"), "-");
  assert_int_equal(remove_key(f.txn, "k"), WALMAP_NOTFOUND);
  walmap_txn_rollback_to(f.txn, 0);
  assert_string_equal(get(f.txn, "k"), "4");

  assert_int_equal(walmap_txn_restore(f.txn, image, size, NULL, NULL, NULL, NULL), WALMAP_OK); /* all is replaced */
  assert_int_equal(set(f.txn, "k", "6"), WALMAP_OK);
  assert_string_equal(get(f.txn, "k"), "6");
  assert_int_equal(walmap_txn_len(f.txn), 2);
  walmap_txn_commit(f.txn);
  assert_string_equal(committed(f.map, "k"), "6");

  for (int i = 0; i < 2000; i++) /* a transaction later, and compacted */
    assert_int_equal(walmap_set(f.map, "other", 5, "2", 1), WALMAP_OK);
  walmap_txn_begin(f.txn);
  assert_string_equal(get(f.txn, "k"), "6");
  assert_int_equal(walmap_compact(f.map, f.txn), WALMAP_OK);
  assert_int_equal(set(f.txn, "k", "7"), WALMAP_OK);
  walmap_txn_commit(f.txn);
  assert_string_equal(committed(f.map, "k"), "7");
  assert_string_equal(committed(f.map, "other"), "2");
  assert_int_equal(walmap_set(f.map, "k", 1, "8", 1), WALMAP_OK);
  walmap_txn_begin(f.txn);
  assert_int_equal(remove_key(f.txn, "k"), WALMAP_OK);
  walmap_txn_commit(f.txn);
  assert_string_equal(committed(f.map, "k"), "-");
  walmap_image_free(image);
  fixture_free(&f);
}

/* Two maps, one session: each transaction ends by itself, and one party may own shards of both. */
static void two_maps_one_session(void **unused) {
  (void)unused;
  struct fixture f = fixture_new(1);
  walmap *second = open_map(1);
  walmap_txn *txn;
  assert_int_equal(walmap_txn_new(second, f.session, &txn), WALMAP_OK);
  walmap_txn_begin(f.txn);
  walmap_txn_begin(txn);
  assert_int_equal(set(f.txn, "k", "1"), WALMAP_OK);
  assert_int_equal(set(txn, "k", "2"), WALMAP_OK);
  assert_string_equal(get(f.txn, "k"), "1");
  assert_string_equal(get(txn, "k"), "2");
  walmap_txn_commit(f.txn);
  assert_string_equal(committed(f.map, "k"), "1");
  assert_string_equal(committed(second, "k"), "-");
  assert_int_equal(walmap_set(f.map, "k", 1, "3", 1), WALMAP_OK); /* the first map's shard is free again */
  assert_int_equal(walmap_set(second, "k", 1, "3", 1), WALMAP_BUSY);
  walmap_txn_rollback(txn);
  assert_string_equal(committed(second, "k"), "-");
  walmap_txn_free(txn);
  walmap_close(second);
  fixture_free(&f);
}

static uint32_t ask_timeout(void *ctx) {
  ++*(int *)ctx;
  return 30;
}

/* On a map that leaves the timeout to the session it is asked, when it must wait; and it is told for whom it waited. */
static void timeout_of_session(void **state) {
  (void)state;
  walmap_options options;
  walmap_options_init(&options);
  options.shards = 1;
  options.busy_timeout = WALMAP_TIMEOUT_OF_SESSION;
  walmap *map;
  walmap_session *one, *two;
  walmap_txn *a, *b;
  int asked = 0;
  char label[300];
  memset(label, 'x', sizeof label);
  label[sizeof label - 1] = 0;
  assert_int_equal(walmap_open(&options, &map), WALMAP_OK);
  assert_int_equal(walmap_session_new(NULL, NULL, &one), WALMAP_OK);
  assert_int_equal(walmap_session_new(NULL, &asked, &two), WALMAP_OK);
  walmap_session_set_label(one, "the first");
  walmap_session_set_label(two, label);
  walmap_session_set_timeout(two, ask_timeout);
  assert_int_equal(walmap_txn_new(map, one, &a), WALMAP_OK);
  assert_int_equal(walmap_txn_new(map, two, &b), WALMAP_OK);
  walmap_txn_begin(a);
  walmap_txn_begin(b);
  assert_int_equal(set(a, "k", "1"), WALMAP_OK);
  assert_int_equal(asked, 0);
  assert_string_equal(walmap_session_blocker(two), "");
  int tries = 0;
  for (uint64_t ms = UINT64_MAX; ms > 3000;) { /* a busy machine may make it longer, but not each time */
    uint64_t since = now_ns();
    assert_int_equal(set(b, "k", "2"), WALMAP_BUSY);
    ms = (now_ns() - since) / 1000000;
    assert_true(ms >= 30 && ++tries < 20);
    assert_int_equal(asked, tries);
  }
  assert_string_equal(walmap_session_blocker(two), "the first");
  walmap_txn_rollback(a);
  assert_int_equal(set(b, "k", "2"), WALMAP_OK);
  assert_int_equal(asked, tries);
  walmap_txn_commit(b);
  walmap_txn_free(a);
  walmap_txn_free(b);
  walmap_session_free(one);
  walmap_session_free(two);
  walmap_close(map);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(begin_commit_rollback),
      cmocka_unit_test(rolled_back_space_is_reclaimed),
      cmocka_unit_test(objects_are_reused),
      cmocka_unit_test(reserve_if),
      cmocka_unit_test(reserve),
      cmocka_unit_test(ownership),
      cmocka_unit_test(pointers_live),
      cmocka_unit_test(each_hash_in_transaction),
      cmocka_unit_test(changed_after_get),
      cmocka_unit_test(two_maps_one_session),
      cmocka_unit_test(timeout_of_session),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
