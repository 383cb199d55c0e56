/*
** test_txn_map.c - transactions that take the whole map, on one thread: they read a state, restore, clear and compact
*/
#include "../common/txn_kit.h"
#include "platform/platform.h"

/* A statement over all shards that meets BUSY midway leaves the transaction as it was, but for shards it may keep. */
static void busy_for_all_shards(void **unused) {
  (void)unused;
  struct fixture f = fixture_new(16);
  walmap_session *session;
  walmap_txn *other;
  walmap_state *state;
  void *image;
  size_t size;
  assert_int_equal(walmap_session_new(NULL, NULL, &session), WALMAP_OK);
  assert_int_equal(walmap_txn_new(f.map, session, &other), WALMAP_OK);
  assert_int_equal(walmap_state_new(f.map, &state), WALMAP_OK);
  assert_int_equal(walmap_set(f.map, "k", 1, "0", 1), WALMAP_OK);
  assert_int_equal(walmap_snapshot(f.map, &image, &size), WALMAP_OK);
  walmap_txn_begin(f.txn);
  walmap_txn_begin(other);
  assert_string_equal(get(f.txn, "k"), "0");
  assert_int_equal(walmap_txn_state_begin(other, state), WALMAP_BUSY);
  assert_int_equal(walmap_state_begin(state), WALMAP_OK); /* it was not begun */
  walmap_state_end(state);
  assert_int_equal(walmap_txn_restore(other, image, size, NULL, NULL, NULL, NULL), WALMAP_BUSY);
  assert_int_equal(walmap_restore(f.map, image, size, NULL, NULL), WALMAP_BUSY);
  walmap_txn_rollback(other);
  assert_int_equal(set(f.txn, "k", "1"), WALMAP_OK);
  walmap_txn_commit(f.txn);
  assert_string_equal(committed(f.map, "k"), "1");
  walmap_image_free(image);
  walmap_state_free(state);
  walmap_txn_free(other);
  walmap_session_free(session);
  fixture_free(&f);
}

/* A state begun from a transaction shows what that saw, and goes on doing so after its rollback. */
static void state_of_transaction(void **unused) {
  (void)unused;
  for (int commit = 0; commit < 2; commit++) {
    struct fixture f = fixture_new(16);
    walmap_state *state, *before;
    walmap_entry entry;
    assert_int_equal(walmap_state_new(f.map, &state), WALMAP_OK);
    assert_int_equal(walmap_state_new(f.map, &before), WALMAP_OK);
    for (int k = 0; k < 100; k++)
      assert_int_equal(walmap_set(f.map, &k, sizeof k, "old", 3), WALMAP_OK);
    assert_int_equal(walmap_state_begin(before), WALMAP_OK);
    walmap_txn_begin(f.txn);
    for (int k = 0; k < 100; k += 2)
      assert_int_equal(walmap_txn_set(f.txn, &k, sizeof k, "new", 3), WALMAP_OK);
    for (int k = 1; k < 50; k += 2)
      assert_int_equal(walmap_txn_remove(f.txn, &k, sizeof k), WALMAP_OK);
    assert_int_equal(walmap_txn_state_begin(f.txn, state), WALMAP_OK);
    for (int k = 0; k < 100; k++)
      assert_int_equal(walmap_txn_set(f.txn, &k, sizeof k, "newer", 5), WALMAP_OK);
    if (commit)
      walmap_txn_commit(f.txn);
    else
      walmap_txn_rollback(f.txn);
    for (int churn = 0; churn < 2000; churn++) { /* enough for segments to be freed, were they not held */
      int k = churn % 100;
      assert_int_equal(walmap_set(f.map, &k, sizeof k, "newest", 6), WALMAP_OK);
    }
    assert_int_equal(walmap_compact(f.map, NULL), WALMAP_OK);
    int seen = 0;
    walmap_cursor cursor;
    for (walmap_cursor_start(&cursor, state); walmap_cursor_next(&cursor, &entry); seen++) {
      int k;
      memcpy(&k, entry.key, sizeof k);
      assert_string_equal(text_of(&entry), k % 2 || !commit ? "old" : "new");
    }
    assert_int_equal(seen, commit ? 75 : 100); /* a rollback takes what it undoes out of the state too */
    for (int k = 0; k < 100; k++) {
      assert_int_equal(walmap_state_get(before, &k, sizeof k, &entry), WALMAP_OK);
      assert_string_equal(text_of(&entry), "old");
      int result = walmap_state_get(state, &k, sizeof k, &entry);
      assert_int_equal(result, commit && k % 2 && k < 50 ? WALMAP_NOTFOUND : WALMAP_OK);
      if (result == WALMAP_OK)
        assert_string_equal(text_of(&entry), k % 2 || !commit ? "old" : "new");
    }
    walmap_state_free(state);
    walmap_state_free(before);
    fixture_free(&f);
  }
}

static void restore_in_transaction(void **unused) {
  (void)unused;
  struct fixture f = fixture_new(16), g = fixture_new(2);
  void *image;
  size_t size;
  uint64_t entries = 0;
  assert_int_equal(walmap_set(g.map, "from", 4, "image", 5), WALMAP_OK);
  assert_int_equal(walmap_set(g.map, "k", 1, "i", 1), WALMAP_OK);
  assert_int_equal(walmap_snapshot(g.map, &image, &size), WALMAP_OK);
  assert_int_equal(walmap_set(f.map, "k", 1, "0", 1), WALMAP_OK);
  assert_int_equal(walmap_set(f.map, "l", 1, "0", 1), WALMAP_OK);

  walmap_txn_begin(f.txn); /* rolled back as a whole */
  assert_int_equal(walmap_txn_restore(f.txn, image, size, NULL, NULL, &entries, NULL), WALMAP_OK);
  assert_int_equal(entries, 2);
  assert_string_equal(get(f.txn, "from"), "image");
  assert_string_equal(get(f.txn, "l"), "-");
  assert_int_equal(walmap_txn_len(f.txn), 2);
  assert_string_equal(committed(f.map, "k"), "0");
  assert_string_equal(committed(f.map, "from"), "-");
  assert_int_equal(set(f.txn, "after", "1"), WALMAP_OK);
  walmap_txn_rollback(f.txn);
  assert_string_equal(committed(f.map, "k"), "0");
  assert_string_equal(committed(f.map, "l"), "0");
  assert_int_equal(walmap_len(f.map), 2);

  walmap_txn_begin(f.txn); /* and to a savepoint, twice */
  assert_int_equal(set(f.txn, "m", "1"), WALMAP_OK);
  walmap_txn_savepoint(f.txn, 0);
  for (int round = 0; round < 2; round++) {
    assert_int_equal(walmap_txn_restore(f.txn, image, size, NULL, NULL, &entries, NULL), WALMAP_OK);
    assert_int_equal(set(f.txn, "k", "after"), WALMAP_OK);
    walmap_txn_savepoint(f.txn, 1);
    assert_int_equal(walmap_txn_restore(f.txn, image, size, NULL, NULL, &entries, NULL), WALMAP_OK);
    assert_string_equal(get(f.txn, "k"), "i");
    walmap_txn_rollback_to(f.txn, 1);
    assert_string_equal(get(f.txn, "k"), "after");
    walmap_txn_rollback_to(f.txn, 0);
    assert_string_equal(get(f.txn, "k"), "0");
    assert_string_equal(get(f.txn, "m"), "1");
    assert_string_equal(get(f.txn, "from"), "-");
    assert_int_equal(walmap_txn_len(f.txn), 3);
  }
  walmap_state *before;
  assert_int_equal(walmap_state_new(f.map, &before), WALMAP_OK);
  assert_int_equal(walmap_state_begin(before), WALMAP_OK);
  assert_int_equal(walmap_txn_restore(f.txn, image, size, NULL, NULL, &entries, NULL), WALMAP_OK);
  assert_int_equal(set(f.txn, "from", "here"), WALMAP_OK);
  walmap_txn_commit(f.txn);
  assert_string_equal(committed(f.map, "from"), "here");
  assert_string_equal(committed(f.map, "k"), "i");
  assert_string_equal(committed(f.map, "m"), "-");
  assert_int_equal(walmap_len(f.map), 2);
  walmap_entry entry; /* C2: the state is the one before */
  assert_int_equal(walmap_state_get(before, "l", 1, &entry), WALMAP_OK);
  assert_int_equal(walmap_state_get(before, "from", 4, &entry), WALMAP_NOTFOUND);
  walmap_state_free(before);
  uint64_t old_size = walmap_size(f.map), reclaimable = walmap_reclaimable(f.map);
  assert_int_equal(walmap_compact(f.map, NULL), WALMAP_OK);
  assert_int_equal(walmap_size(f.map), old_size - reclaimable);
  walmap_image_free(image);
  fixture_free(&f);
  fixture_free(&g);
}

static void compact_in_transaction(void **unused) {
  (void)unused;
  struct fixture f = fixture_new(4);
  universe *u = universe_new(400, 0);
  uint32_t *content = calloc(u->n, sizeof *content), *before = calloc(u->n, sizeof *before), version = 0;
  assert_true(content && before);
  for (uint32_t i = 0; i < 5 * u->n; i++) {
    uint32_t key = (uint32_t)(mix(++version) % u->n);
    bytes v = value_bytes(u, before[key] = version);
    assert_int_equal(walmap_set(f.map, u->keys[key].at, u->keys[key].len, v.at, v.len), WALMAP_OK);
  }
  memcpy(content, before, u->n * sizeof *content);
  walmap_txn_begin(f.txn);
  for (int level = 0; level < 4; level++) {
    walmap_txn_savepoint(f.txn, level);
    for (uint32_t i = 0; i < u->n; i++) {
      uint32_t key = (uint32_t)(mix(++version) % u->n);
      bytes v = value_bytes(u, content[key] = version);
      assert_int_equal(walmap_txn_set(f.txn, u->keys[key].at, u->keys[key].len, v.at, v.len), WALMAP_OK);
    }
    assert_int_equal(walmap_compact(f.map, f.txn), WALMAP_OK);
    must_hold(u, f.map, before);
  }
  walmap_state *state;
  assert_int_equal(walmap_state_new(f.map, &state), WALMAP_OK);
  assert_int_equal(walmap_txn_state_begin(f.txn, state), WALMAP_OK);
  must_equal(u, state, content);
  assert_int_equal(walmap_compact(f.map, f.txn), WALMAP_OK);
  must_equal(u, state, content);
  walmap_state_free(state);
  walmap_txn_rollback(f.txn);
  must_hold(u, f.map, before);
  uint64_t size = walmap_size(f.map), reclaimable = walmap_reclaimable(f.map);
  assert_int_equal(walmap_compact(f.map, NULL), WALMAP_OK);
  assert_int_equal(walmap_size(f.map), size - reclaimable);
  must_hold(u, f.map, before);
  free(content);
  free(before);
  universe_free(u);
  fixture_free(&f);
}

static void *alloc_plain(void *ctx, size_t size, size_t align) {
  (void)ctx;
  return walmap__alloc_aligned(size, align);
}

static void free_spoilt(void *ctx, void *block, size_t size, size_t align) {
  (void)ctx, (void)align;
  for (size_t i = 0; i < size; i++)
    ((volatile uint8_t *)block)[i] = 0xDB; /* volatile: or it would be left out, since the block is freed */
  walmap__free_aligned(block);
}

/*
** What walmap_txn_get and walmap_txn_each_hash gave is good until the transaction ends, compacted as often as it may
** be.
*/
static void pointers_outlive_compaction(void **unused) {
  (void)unused;
  enum { KEYS = 100 };
  struct fixture f;
  walmap_options options;
  options_init(&options);
  options.shards = 1;
  options.allocator = (walmap_allocator){alloc_plain, free_spoilt, NULL};
  assert_int_equal(walmap_open(&options, &f.map), WALMAP_OK);
  assert_int_equal(walmap_session_new(NULL, NULL, &f.session), WALMAP_OK);
  assert_int_equal(walmap_txn_new(f.map, f.session, &f.txn), WALMAP_OK);
  for (uint32_t i = 0; i < 3 * KEYS; i++) {
    uint32_t key = i % KEYS, value = key + 1;
    assert_int_equal(walmap_set(f.map, &key, 4, &value, 4), WALMAP_OK);
  }
  uint64_t memory = walmap_memory(f.map), size = walmap_size(f.map), reclaimable = walmap_reclaimable(f.map);
  assert_true(reclaimable > size / 2);
  for (int commits = 0; commits < 2; commits++) {
    walmap_txn_begin(f.txn);
    walmap_entry entries[KEYS];
    for (uint32_t key = 0; key < KEYS; key++)
      assert_int_equal(walmap_txn_get(f.txn, &key, 4, &entries[key]), WALMAP_OK);
    for (int times = 0; times < 3; times++) {
      assert_int_equal(walmap_compact(f.map, f.txn), WALMAP_OK);
      assert_int_equal(walmap_reclaimable(f.map), 0);
      assert_int_equal(walmap_size(f.map), size - reclaimable);
      for (uint32_t key = 0; key < KEYS; key++) {
        uint32_t value = key + 1;
        assert_memory_equal(entries[key].key, &key, 4);
        assert_memory_equal(entries[key].value, &value, 4);
      }
    }
    if (commits) {
      walmap_txn_commit(f.txn);
    } else {
      walmap_txn_rollback(f.txn);
    }
    assert_true(walmap_memory(f.map) < memory - reclaimable / 2);
  }
  assert_int_equal(walmap_verify(f.map, NULL, NULL), WALMAP_OK);
  fixture_free(&f);
}

/* Clearing: undone by a rollback, as a whole and to a savepoint; readers keep their state; memory is given back. */
static void clear_in_transaction(void **unused) {
  (void)unused;
  enum { KEYS = 20000 };
  struct fixture f = fixture_new(16);
  uint64_t removed = 99, used = 0;
  char key[16];
  walmap_txn_begin(f.txn); /* a map that was never written */
  assert_int_equal(walmap_txn_clear(f.txn, &removed), WALMAP_OK);
  assert_int_equal(removed, 0);
  walmap_txn_commit(f.txn);
  for (int i = 0; i < KEYS; i++) {
    snprintf(key, sizeof key, "%d", i);
    assert_int_equal(walmap_set(f.map, key, strlen(key), "a value of some length", 22), WALMAP_OK);
  }
  used = walmap_memory(f.map);

  walmap_txn_begin(f.txn); /* rolled back as a whole */
  assert_int_equal(set(f.txn, "own", "1"), WALMAP_OK);
  assert_int_equal(walmap_txn_clear(f.txn, &removed), WALMAP_OK);
  assert_int_equal(removed, KEYS + 1);
  assert_int_equal(walmap_txn_len(f.txn), 0);
  assert_string_equal(get(f.txn, "7"), "-");
  assert_string_equal(get(f.txn, "own"), "-");
  assert_int_equal(set(f.txn, "7", "after"), WALMAP_OK);
  assert_int_equal(walmap_len(f.map), KEYS);
  walmap_txn_rollback(f.txn);
  assert_int_equal(walmap_len(f.map), KEYS);
  assert_string_equal(committed(f.map, "7"), "a value of some length");

  walmap_txn_begin(f.txn); /* and to a savepoint, twice */
  assert_int_equal(set(f.txn, "m", "1"), WALMAP_OK);
  walmap_txn_savepoint(f.txn, 0);
  for (int round = 0; round < 2; round++) {
    assert_int_equal(walmap_txn_clear(f.txn, NULL), WALMAP_OK);
    assert_int_equal(set(f.txn, "7", "after"), WALMAP_OK);
    walmap_txn_savepoint(f.txn, 1);
    assert_int_equal(walmap_txn_clear(f.txn, &removed), WALMAP_OK);
    assert_int_equal(removed, 1);
    walmap_txn_rollback_to(f.txn, 1);
    assert_string_equal(get(f.txn, "7"), "after");
    assert_int_equal(walmap_txn_len(f.txn), 1);
    walmap_txn_rollback_to(f.txn, 0);
    assert_string_equal(get(f.txn, "m"), "1");
    assert_int_equal(walmap_txn_len(f.txn), KEYS + 1);
  }
  walmap_state *before;
  walmap_entry entry;
  assert_int_equal(walmap_state_new(f.map, &before), WALMAP_OK);
  assert_int_equal(walmap_state_begin(before), WALMAP_OK);
  assert_int_equal(walmap_txn_clear(f.txn, &removed), WALMAP_OK);
  assert_int_equal(removed, KEYS + 1);
  assert_int_equal(set(f.txn, "new", "1"), WALMAP_OK);
  walmap_txn_commit(f.txn);
  assert_int_equal(walmap_len(f.map), 1);
  assert_string_equal(committed(f.map, "7"), "-");
  assert_string_equal(committed(f.map, "new"), "1");
  assert_int_equal(walmap_state_get(before, "7", 1, &entry), WALMAP_OK);
  assert_int_equal(walmap_state_len(before), KEYS);
  walmap_state_free(before);
  assert_int_equal(walmap_verify(f.map, NULL, NULL), WALMAP_OK);
  assert_int_equal(walmap_compact(f.map, NULL), WALMAP_OK);
  assert_true(walmap_memory(f.map) < used / 10);
  fixture_free(&f);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(busy_for_all_shards),         cmocka_unit_test(state_of_transaction),
      cmocka_unit_test(restore_in_transaction),      cmocka_unit_test(compact_in_transaction),
      cmocka_unit_test(pointers_outlive_compaction), cmocka_unit_test(clear_in_transaction),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
