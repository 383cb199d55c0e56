/*
** test_tag.c - tags of entries: with the write or the restore that made them, through compaction and undoing, and in no
** image
*/
#include "../common/support.h"

typedef struct world {
  walmap *map;
  walmap_session *session;
  walmap_txn *txn;
} world;

static void open_world(world *w, uint32_t shards) {
  walmap_options options;
  options_init(&options);
  options.shards = shards;
  options.first_segment = 256;
  options.auto_compact = 0;
  MUST_OK(walmap_open(&options, &w->map));
  MUST_OK(walmap_session_new(NULL, NULL, &w->session));
  MUST_OK(walmap_txn_new(w->map, w->session, &w->txn));
}

static void close_world(world *w) {
  walmap_why why;
  MUST_OK(walmap_verify(w->map, NULL, &why));
  walmap_txn_free(w->txn);
  walmap_session_free(w->session);
  walmap_close(w->map);
}

static void set(world *w, uint32_t key, size_t value_len) {
  static uint8_t value[70000];
  memset(value, (int)key, value_len);
  MUST_OK(walmap_txn_set(w->txn, &key, 4, value, value_len));
}

/* In the transaction that is begun. The entry must be what set() made. */
static uint32_t tag_of(world *w, uint32_t key, size_t value_len) {
  walmap_entry entry;
  uint32_t tag = 12345;
  MUST_OK(walmap_txn_get_tagged(w->txn, &key, 4, &entry, &tag));
  MUST(entry.value_len == value_len);
  for (size_t i = 0; i < value_len; i++)
    MUST(((const uint8_t *)entry.value)[i] == (uint8_t)key);
  return tag;
}

static void of_the_write(void **unused) {
  (void)unused;
  world w;
  open_world(&w, 4);
  walmap_txn_begin(w.txn);
  set(&w, 1, 3);
  walmap_txn_set_tag(w.txn, 7);
  set(&w, 2, 3);
  set(&w, 3, 70000);
  walmap_txn_set_tag(w.txn, UINT32_MAX);
  set(&w, 2, 5);
  assert_int_equal(tag_of(&w, 1, 3), 0);
  assert_int_equal(tag_of(&w, 2, 5), UINT32_MAX);
  assert_int_equal(tag_of(&w, 3, 70000), 7);
  walmap_txn_commit(w.txn);
  walmap_txn_begin(w.txn); /* without one */
  set(&w, 3, 4);
  uint32_t key = 2;
  assert_int_equal(walmap_txn_touch(w.txn, &key, 4, WALMAP_NEVER), WALMAP_OK);
  assert_int_equal(tag_of(&w, 2, 5), 0);
  assert_int_equal(tag_of(&w, 3, 4), 0);
  walmap_txn_rollback(w.txn);
  walmap_txn_begin(w.txn);
  assert_int_equal(tag_of(&w, 2, 5), UINT32_MAX);
  assert_int_equal(tag_of(&w, 3, 70000), 7);
  assert_int_equal(walmap_txn_remove(w.txn, &key, 4), WALMAP_OK);
  walmap_entry entry;
  uint32_t tag;
  assert_int_equal(walmap_txn_get_tagged(w.txn, &key, 4, &entry, &tag), WALMAP_NOTFOUND);
  walmap_txn_rollback(w.txn);
  assert_int_equal(walmap_set(w.map, &key, 4, "x", 1), WALMAP_OK); /* an operation of its own */
  walmap_txn_begin(w.txn);
  assert_int_equal(walmap_txn_get_tagged(w.txn, &key, 4, &entry, &tag), WALMAP_OK);
  assert_int_equal(tag, 0);
  walmap_txn_rollback(w.txn);
  close_world(&w);
}

/* Each savepoint's writes have a tag of their own, and are undone; in a map so large that writes are deferred. */
static void undone(void **unused) {
  (void)unused;
  enum { KEYS = 6000 };
  world w;
  open_world(&w, 1);
  walmap_txn_begin(w.txn);
  for (uint32_t key = 0; key < KEYS; key++) {
    walmap_txn_set_tag(w.txn, 1000 + key);
    set(&w, key, 60);
  }
  walmap_txn_commit(w.txn);
  MUST(walmap_size(w.map) > 256 * 1024);
  walmap_txn_begin(w.txn);
  walmap_txn_set_tag(w.txn, 1);
  for (uint32_t key = 0; key < KEYS; key += 3)
    set(&w, key, 60);
  walmap_txn_savepoint(w.txn, 0);
  walmap_txn_set_tag(w.txn, 2);
  for (uint32_t key = 0; key < KEYS; key += 2)
    set(&w, key, 20);
  walmap_txn_rollback_to(w.txn, 0);
  for (uint32_t key = 0; key < KEYS; key += 5) /* the tag is not part of what is undone */
    set(&w, key, 60);
  for (uint32_t key = 0; key < KEYS; key++)
    assert_int_equal(tag_of(&w, key, 60), key % 5 == 0 ? 2 : key % 3 == 0 ? 1 : 1000 + key);
  walmap_txn_commit(w.txn);
  close_world(&w);
}

static void through_compaction_and_not_into_images(void **unused) {
  (void)unused;
  enum { KEYS = 500 };
  world w;
  open_world(&w, 2);
  walmap_txn_begin(w.txn);
  walmap_txn_set_tag(w.txn, 9);
  for (int round = 0; round < 3; round++) {
    for (uint32_t key = 0; key < KEYS; key++)
      set(&w, key, key % 90);
  }
  walmap_txn_commit(w.txn);
  for (int times = 0; times < 2; times++) {
    assert_int_equal(walmap_compact(w.map, NULL), WALMAP_OK);
    assert_int_equal(walmap_reclaimable(w.map), 0);
  }
  walmap_txn_begin(w.txn);
  for (uint32_t key = 0; key < KEYS; key++)
    assert_int_equal(tag_of(&w, key, key % 90), 9);
  walmap_txn_rollback(w.txn);

  void *image;
  size_t size;
  walmap_why why;
  uint64_t entries;
  assert_int_equal(walmap_snapshot(w.map, &image, &size), WALMAP_OK);
  walmap_txn_begin(w.txn);
  assert_int_equal(walmap_txn_restore(w.txn, image, size, NULL, NULL, &entries, &why), WALMAP_OK);
  assert_int_equal(entries, KEYS);
  for (uint32_t key = 0; key < KEYS; key++)
    assert_int_equal(tag_of(&w, key, key % 90), 0);
  walmap_txn_commit(w.txn);
  walmap_image_free(image);
  close_world(&w);
}

typedef struct source {
  const uint8_t *at;
  size_t left;
} source;

static ptrdiff_t read_source(void *ctx, void *buffer, size_t size) {
  source *s = ctx;
  size_t n = size < s->left ? size : s->left;
  memcpy(buffer, s->at, n);
  s->at += n;
  s->left -= n;
  return (ptrdiff_t)n;
}

/* Short, long and expiring entries; of a length that makes several threads load them. The image is the same again. */
static void of_the_restore(void **unused) {
  (void)unused;
  enum { KEYS = 20000, EXPIRING = 7, LONG = 70000 };
  world w;
  void *image, *again;
  size_t size, size_again;
  walmap_why why;
  uint64_t entries;
  static uint8_t value[LONG];
  const uint64_t expires = WALMAP_MAX_TIME;
  walmap_image_builder *builder;
  MUST_OK(walmap_image_builder_new(0, &builder));
  for (uint32_t key = 0; key < KEYS; key++) {
    size_t length = key == 5 ? LONG : 50 + key % 90;
    memset(value, (int)key, length);
    const walmap_entry entry = {&key, 4, value, length, key % EXPIRING == 0 ? expires : WALMAP_NEVER};
    MUST_OK(walmap_image_builder_add(builder, &entry));
  }
  MUST_OK(walmap_image_builder_finish(builder, &image, &size));
  MUST(size > 2 << 20);
  for (int way = 0; way < 2; way++) {
    source s = {image, size};
    open_world(&w, 4);
    walmap_txn_begin(w.txn);
    walmap_txn_set_tag(w.txn, 77);
    if (way == 0)
      assert_int_equal(walmap_txn_restore(w.txn, image, size, NULL, NULL, &entries, &why), WALMAP_OK);
    else
      assert_int_equal(walmap_txn_restore_read(w.txn, read_source, &s, NULL, NULL, &entries, &why), WALMAP_OK);
    assert_int_equal(entries, KEYS);
    walmap_txn_commit(w.txn);
    for (int times = 0; times < 2; times++) { /* as it was restored, and copied by compaction */
      walmap_txn_begin(w.txn);
      for (uint32_t key = 0; key < KEYS; key++)
        assert_int_equal(tag_of(&w, key, key == 5 ? LONG : 50 + key % 90), times == 1 && key % 2 == 0 ? 78 : 77);
      walmap_entry entry;
      uint32_t key = EXPIRING;
      assert_int_equal(walmap_txn_peek(w.txn, &key, 4, &entry), WALMAP_OK);
      assert_int_equal(entry.expires, expires);
      walmap_txn_set_tag(w.txn, 78);
      for (key = 0; key < KEYS && times == 0; key += 2) {
        void *to;
        assert_int_equal(walmap_txn_peek(w.txn, &key, 4, &entry), WALMAP_OK);
        assert_int_equal(
            walmap_txn_reserve_expiring(w.txn, WALMAP_ALWAYS, &key, 4, entry.value_len, entry.expires, &to), WALMAP_OK);
        memcpy(to, entry.value, entry.value_len);
      }
      walmap_txn_commit(w.txn);
      assert_int_equal(walmap_verify(w.map, NULL, &why), WALMAP_OK);
      assert_int_equal(walmap_compact(w.map, NULL), WALMAP_OK);
    }
    assert_int_equal(walmap_snapshot(w.map, &again, &size_again), WALMAP_OK);
    walmap_image_reader reader;
    walmap_entry entry;
    assert_int_equal(walmap_image_open(&reader, again, size_again, &why), WALMAP_OK);
    for (entries = 0; walmap_image_next(&reader, &entry, &why) == WALMAP_OK; entries++) {
      uint32_t key;
      memcpy(&key, entry.key, 4);
      MUST(entry.expires == (key % EXPIRING == 0 ? expires : WALMAP_NEVER));
    }
    assert_int_equal(entries, KEYS);
    walmap_image_free(again);
    close_world(&w);
  }
  walmap_image_free(image);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(of_the_write),
      cmocka_unit_test(undone),
      cmocka_unit_test(through_compaction_and_not_into_images),
      cmocka_unit_test(of_the_restore),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
