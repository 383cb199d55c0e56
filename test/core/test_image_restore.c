/*
** test_image_restore.c - images into and out of maps: nothing is lost, and nothing that was removed comes back
**
** C6 beside writers is test_transfers.c's, running out of memory test_oom_image.c's.
*/
#include "../common/image_maps.h"

static void test_restored_is_what_was_written(void **unused) {
  (void)unused;
  static const uint32_t shards[] = {1, 4, 256};
  content c = content_new(2000, 1024);
  for (size_t s = 0; s < 3; s++) {
    for (size_t piece = 0; piece < 3; piece++) {
      bytes image = image_of(c.entries, c.n, 7, (uint32_t)piece * 90);
      walmap *map = open_map(shards[s], 7);
      uint64_t entries = 0;
      walmap_why why = {""};
      MUST_OK(walmap_set(map, "old", 3, "content", 7));
      if (piece == 0) {
        MUST_OK(walmap_restore(map, image.data, image.size, &entries, &why));
      } else {
        source from = {.all = image, .piece = piece == 1 ? 0 : 4096};
        MUST_OK(restore_from(map, &from, NULL, NULL, &entries, &why));
      }
      assert_int_equal(entries, c.n);
      assert_true(map_is(map, c.entries, c.n));
      assert_int_equal(walmap_get(map, "old", 3, NULL, 0, &(size_t){0}), WALMAP_NOTFOUND);
      assert_int_equal(walmap_reclaimable(map), 0);
      walmap_close(map);
      free(image.data);
    }
  }
  content_free(c);
}

static void test_long_values(void **unused) {
  (void)unused;
  content c = content_new(169, 300000);
  bytes image = image_of(c.entries, c.n, 0, 0);
  walmap *map = open_map(2, 0);
  source from = {.all = image, .piece = 100000};
  MUST_OK(walmap_restore(map, image.data, image.size, NULL, NULL));
  assert_true(map_is(map, c.entries, c.n));
  MUST_OK(restore_from(map, &from, NULL, NULL, NULL, NULL));
  assert_true(map_is(map, c.entries, c.n));
  walmap_close(map);
  free(image.data);
  content_free(c);
}

/* A map that was written, overwritten and removed from: its image, in any map, is its live content and nothing else. */
static void test_removed_keys_stay_away(void **unused) {
  (void)unused;
  content c = content_new(1500, 255);
  walmap *map = open_map(4, 0);
  for (uint32_t round = 0; round < 3; round++) {
    for (uint32_t i = 0; i < c.n; i++)
      MUST_OK(walmap_set(map, c.entries[i].key, c.entries[i].key_len, c.entries[i].value,
                         round < 2 ? round : c.entries[i].value_len));
  }
  for (uint32_t i = 1000; i < c.n; i++)
    MUST_OK(walmap_remove(map, c.entries[i].key, c.entries[i].key_len));
  for (int compacted = 0; compacted < 2; compacted++) {
    void *image;
    size_t size;
    uint64_t entries;
    if (compacted) {
      uint64_t before = walmap_size(map), reclaimable = walmap_reclaimable(map);
      MUST_OK(walmap_compact(map, NULL));
      assert_int_equal(before - walmap_size(map), reclaimable);
    }
    MUST_OK(walmap_snapshot(map, &image, &size));
    walmap *other = open_map(16, 0);
    MUST_OK(walmap_restore(other, image, size, &entries, NULL));
    assert_int_equal(entries, 1000);
    assert_true(map_is(other, c.entries, 1000));
    assert_true(map_is(map, c.entries, 1000));
    walmap_close(other);
    walmap_image_free(image);
  }
  walmap_close(map);
  content_free(c);
}

/* A restored map is a map like any other: it is written, overwritten, compacted, and gives images. */
static void test_restored_map_lives_on(void **unused) {
  (void)unused;
  content c = content_new(800, 255);
  bytes image = image_of(c.entries, 500, 0, 0);
  walmap *map = open_map(4, 0);
  for (int round = 0; round < 3; round++) {
    void *again;
    size_t size;
    MUST_OK(walmap_restore(map, image.data, image.size, NULL, NULL));
    assert_true(map_is(map, c.entries, 500));
    for (uint32_t i = 400; i < 800; i++)
      MUST_OK(walmap_set(map, c.entries[i].key, c.entries[i].key_len, "new", 3));
    for (uint32_t i = 400; i < 800; i++)
      MUST_OK(walmap_set(map, c.entries[i].key, c.entries[i].key_len, c.entries[i].value, c.entries[i].value_len));
    assert_true(map_is(map, c.entries, 800));
    MUST_OK(walmap_compact(map, NULL));
    assert_int_equal(walmap_reclaimable(map), 0);
    for (uint32_t i = 500; i < 800; i++)
      MUST_OK(walmap_remove(map, c.entries[i].key, c.entries[i].key_len));
    MUST_OK(walmap_snapshot(map, &again, &size));
    MUST_OK(walmap_restore(map, again, size, NULL, NULL));
    walmap_image_free(again);
    assert_true(map_is(map, c.entries, 500));
  }
  walmap_close(map);
  free(image.data);
  content_free(c);
}

static int append_bytes(void *ctx, const void *data, size_t size) {
  bytes *all = ctx;
  MUST(size <= 1 << 20);
  all->data = realloc(all->data, all->size + size);
  MUST(all->data != NULL);
  memcpy(all->data + all->size, data, size);
  all->size += size;
  return 0;
}

static int refuse_bytes(void *ctx, const void *data, size_t size) {
  (void)ctx, (void)data, (void)size;
  return -1;
}

/* Fetched in pieces of a size, the image is the same; at its end, nothing comes any more. */
static void assert_streams(walmap_state *state, size_t piece, const void *image, size_t size) {
  walmap_image_stream *stream;
  uint8_t *all = malloc(size + piece);
  size_t at = 0, got;
  MUST(all != NULL);
  MUST_OK(walmap_image_stream_new(state, &stream));
  do {
    MUST_OK(walmap_image_stream_read(stream, all + at, piece, &got));
    at += got;
    MUST(got == piece || at == size);
  } while (got > 0);
  assert_int_equal(at, size);
  assert_memory_equal(all, image, size);
  walmap_image_stream_free(stream);
  free(all);
}

/* An image is the same through a callback, in pieces and in memory, and as often as it is asked for. */
static void test_image_is_deterministic(void **unused) {
  (void)unused;
  content c = content_new(6000, 1024);
  walmap *map = open_map(4, 3);
  walmap_state *state;
  void *image, *again;
  size_t size, size_again;
  bytes written = bytes_copy(NULL, 0);
  for (uint32_t i = 0; i < c.n; i++)
    MUST_OK(walmap_set(map, c.entries[i].key, c.entries[i].key_len, c.entries[i].value, c.entries[i].value_len));
  MUST_OK(walmap_state_new(map, &state));
  MUST_OK(walmap_state_begin(state));
  MUST_OK(walmap_state_image(state, &image, &size));
  MUST_OK(walmap_state_image(state, &again, &size_again));
  MUST_OK(walmap_state_write(state, append_bytes, &written));
  assert_int_equal(walmap_state_write(state, refuse_bytes, NULL), WALMAP_IO);
  assert_int_equal(size, size_again);
  assert_memory_equal(image, again, size);
  assert_int_equal(size, written.size);
  assert_memory_equal(image, written.data, size);
  static const size_t pieces[] = {1, 1000, 65536, 300000, 100000000};
  for (size_t i = 0; i < sizeof pieces / sizeof pieces[0]; i++)
    assert_streams(state, pieces[i], image, size);
  walmap_image_free(image);
  walmap_image_free(again);
  free(written.data);
  walmap_state_free(state);
  walmap_close(map);
  content_free(c);
}

static void test_empty_map(void **unused) {
  (void)unused;
  walmap *map = open_map(16, 0), *other = open_with_own(0);
  void *image;
  size_t size;
  uint64_t entries = 1;
  MUST_OK(walmap_snapshot(map, &image, &size));
  assert_int_equal(size, 2 * IMAGE_BLOCK);
  MUST_OK(walmap_restore(other, image, size, &entries, NULL));
  assert_int_equal(entries, 0);
  assert_true(map_is(other, NULL, 0));
  walmap_image_free(image);
  walmap_close(map);
  walmap_close(other);
}

static uint64_t long_ago(void *ctx) {
  (void)ctx;
  return 0;
}

/* Two of its entries have expired by now. */
static void test_golden_images(void **unused) {
  (void)unused;
  bytes golden = bytes_from_hex("test/golden/v1.hex", NULL);
  walmap *map = open_map(1, image_load32(golden.data + HEADER_CONTENT)), *old_map;
  walmap_options options = *walmap_get_options(map);
  uint64_t entries;
  MUST_OK(walmap_restore(map, golden.data, golden.size, &entries, NULL));
  assert_int_equal(entries, 6);
  options.clock = long_ago;
  MUST_OK(walmap_open(&options, &old_map));
  MUST_OK(walmap_restore(old_map, golden.data, golden.size, &entries, NULL));
  assert_int_equal(entries, 8);
  assert_int_equal(walmap_len(old_map), 8);
  walmap_close(old_map);
  walmap_close(map);
  free(golden.data);
}

/* Readers see the old content until the commit; after a rollback, or a rollback to a savepoint, for ever. */
static void test_restore_in_transaction(void **unused) {
  (void)unused;
  content c = content_new(300, 255);
  bytes image = image_of(c.entries, c.n, 0, 0);
  for (int end = 0; end < 3; end++) {
    walmap *map = open_with_own(0);
    walmap_session *session;
    walmap_txn *txn;
    walmap_state *before;
    walmap_entry entry;
    MUST_OK(walmap_state_new(map, &before));
    MUST_OK(walmap_state_begin(before));
    MUST_OK(walmap_session_new(NULL, NULL, &session));
    MUST_OK(walmap_txn_new(map, session, &txn));
    walmap_txn_begin(txn);
    walmap_txn_savepoint(txn, 1);
    MUST_OK(walmap_txn_restore(txn, image.data, image.size, NULL, NULL, NULL, NULL));
    assert_true(map_is(map, own, N_OWN));
    MUST_OK(walmap_txn_get(txn, c.entries[9].key, c.entries[9].key_len, &entry));
    assert_true(same_entry(&entry, &c.entries[9]));
    assert_int_equal(walmap_txn_get(txn, "own", 3, &entry), WALMAP_NOTFOUND);
    assert_int_equal(walmap_txn_len(txn), c.n);
    if (end == 0)
      walmap_txn_commit(txn);
    if (end == 1)
      walmap_txn_rollback(txn);
    if (end == 2) {
      walmap_txn_rollback_to(txn, 1);
      MUST_OK(walmap_txn_get(txn, "own", 3, &entry));
      walmap_txn_commit(txn);
    }
    assert_true(end == 0 ? map_is(map, c.entries, c.n) : map_is(map, own, N_OWN));
    MUST_OK(walmap_state_get(before, "own", 3, &entry));
    assert_true(same_entry(&entry, &own[0]));
    walmap_state_free(before);
    walmap_txn_free(txn);
    walmap_session_free(session);
    walmap_close(map);
  }
  free(image.data);
  content_free(c);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_restored_is_what_was_written),
      cmocka_unit_test(test_long_values),
      cmocka_unit_test(test_removed_keys_stay_away),
      cmocka_unit_test(test_restored_map_lives_on),
      cmocka_unit_test(test_image_is_deterministic),
      cmocka_unit_test(test_empty_map),
      cmocka_unit_test(test_golden_images),
      cmocka_unit_test(test_restore_in_transaction),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
