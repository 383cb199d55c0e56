/*
** test_image_refused.c - images that are refused, whatever is wrong with them: the map is as it was
**
** The damages of test_image_damage.c are all tried on a map with content of its own.
*/
#include "../common/image_maps.h"

typedef struct victim {
  walmap *map;
  size_t count;
} victim;

/* Refused from memory and from a stream; the map is what it was. */
static void must_not_restore(void *ctx, bytes damaged, const char *what, size_t where) {
  victim *v = ctx;
  walmap_why why = {""};
  uint64_t entries = 4711;
  source from = {.all = damaged, .random = where};
  bool refused = walmap_restore(v->map, damaged.data, damaged.size, &entries, &why) == WALMAP_CORRUPT &&
                 why.text[0] != 0 && restore_from(v->map, &from, NULL, NULL, &entries, &why) == WALMAP_CORRUPT;
  if (!refused || entries != 4711 || !map_is(v->map, own, N_OWN)) {
    fprintf(stderr, "restored, or the map changed: %s, %zu, of an image of %zu bytes\n", what, where, damaged.size);
    abort();
  }
  v->count++;
}

static void test_damaged_images(void **unused) {
  (void)unused;
  content c = content_new(9, 5);
  bytes image = image_of(c.entries, c.n, 7, 2);
  victim v = {open_with_own(7), 0};
  each_flipped_bit(image, must_not_restore, &v);
  each_cut(image, must_not_restore, &v);
  each_appended_byte(image, must_not_restore, &v);
  each_shuffled_chunk(image, must_not_restore, &v);
  assert_int_equal(v.count, image.size * 9 + 256 + 5 * 2 + 5 * 4 / 2);
  MUST_OK(walmap_restore(v.map, image.data, image.size, NULL, NULL));
  assert_true(map_is(v.map, c.entries, c.n));
  walmap_close(v.map);
  free(image.data);
  content_free(c);
}

/* As above, with the checksums right: an image may be good then, but never crash, and never change the map if not. */
static void test_forged_images(void **unused) {
  (void)unused;
  content c = content_new(9, 5);
  bytes image = image_of(c.entries, c.n, 7, 2);
  walmap *map = open_with_own(7);
  size_t refused = 0;
  for (size_t bit = 0; bit < image.size * 8; bit++) {
    bytes forged = bytes_copy(image.data, image.size);
    walmap_why why = {""};
    uint64_t entries;
    forged.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
    repair(forged);
    int rc = walmap_restore(map, forged.data, forged.size, &entries, &why);
    assert_true(rc == WALMAP_OK || rc == WALMAP_CORRUPT);
    if (rc == WALMAP_OK) {
      assert_int_equal(walmap_len(map), entries);
      walmap_close(map);
      map = open_with_own(7);
    } else {
      refused++;
      assert_true(why.text[0] != 0 && map_is(map, own, N_OWN));
    }
    free(forged.data);
  }
  assert_true(refused > 1000);
  walmap_close(map);
  free(image.data);
  content_free(c);
}

static void assert_refused(const walmap_entry *entries, size_t n, uint32_t number, walmap_check_fn check, void *ctx,
                           const char *text) {
  walmap *map = open_with_own(7);
  bytes image = image_of(entries, n, number, 0);
  source from = {.all = image};
  walmap_why why = {""};
  assert_int_equal(restore_from(map, &from, check, ctx, NULL, &why), WALMAP_CORRUPT);
  assert_string_equal(why.text, text);
  assert_true(map_is(map, own, N_OWN));
  walmap_close(map);
  free(image.data);
}

static const char *check_no_x(void *ctx, const walmap_entry *entry) {
  ++*(int *)ctx;
  return entry->key_len > 0 && *(const char *)entry->key == 'x' ? "x is not allowed" : NULL;
}

static void test_refused_content(void **unused) {
  (void)unused;
  const walmap_entry twice[] = {{"a", 1, "1", 1}, {"b", 1, "2", 1}, {"a", 1, "3", 1}};
  const walmap_entry with_x[] = {{"a", 1, "1", 1}, {"x", 1, "2", 1}, {"c", 1, "3", 1}};
  int calls = 0;
  assert_refused(twice, 3, 7, NULL, NULL, "image refused: entry 3: its key appears twice");
  assert_refused(with_x, 3, 7, check_no_x, &calls, "image refused: entry 2: x is not allowed");
  assert_int_equal(calls, 2);
  assert_refused(twice, 2, 8, NULL, NULL, "image refused: its content number is 8, this map's is 7");
}

/* A source that fails at any byte: IO, and the map is what it was. */
static void test_failing_source(void **unused) {
  (void)unused;
  content c = content_new(9, 5);
  bytes image = image_of(c.entries, c.n, 7, 2);
  walmap *map = open_with_own(7);
  for (size_t at = 0; at <= image.size; at++) {
    source from = {.all = image, .fail_at = at, .fails = -1};
    walmap_why why = {""};
    assert_int_equal(restore_from(map, &from, NULL, NULL, NULL, &why), WALMAP_IO);
    assert_true(why.text[0] != 0);
  }
  assert_true(map_is(map, own, N_OWN));
  walmap_close(map);
  free(image.data);
  content_free(c);
}

/* A lying length gets no memory: what the map's allocator gave for a forged image is bounded by the image. */
static void test_memory_is_bounded(void **unused) {
  (void)unused;
  faults f = {0};
  walmap_options options;
  walmap *map;
  content c = content_new(30, 5);
  bytes image = image_of(c.entries, c.n, 0, 0);
  walmap_options_init(&options);
  options.allocator = faults_allocator(&f);
  options.shards = 1;
  MUST_OK(walmap_open(&options, &map));
  long long before = f.bytes;
  MUST_OK(walmap_restore(map, image.data, image.size, NULL, NULL));
  assert_true(f.bytes - before < 64 << 10);
  before = f.bytes;
  for (size_t at = IMAGE_BLOCK; at < 6 * IMAGE_BLOCK; at += 4) {
    for (unsigned bit = 16; bit < 32; bit++) {
      bytes forged = bytes_copy(image.data, image.size);
      image_store32(forged.data + at, (uint32_t)1 << bit);
      repair(forged);
      faults_arm(&f, 0, false);
      (void)walmap_restore(map, forged.data, forged.size, NULL, NULL);
      assert_true(f.bytes - before < 64 << 10);
      free(forged.data);
    }
  }
  walmap_close(map);
  assert_int_equal(f.blocks, 0);
  free(image.data);
  content_free(c);
}

static const char *refuse_last(void *ctx, const walmap_entry *entry) {
  uint32_t *left = ctx;
  (void)entry;
  return --*left == 0 ? "the last one" : NULL;
}

/*
** Neither what a restore has replaced, nor one that was undone, nor an image that was refused at its end waits for
** writes to come: their memory is given back, if no reader sees them.
*/
static void test_nothing_is_left_behind(void **unused) {
  (void)unused;
  enum { COMMITTED, UNDONE, REFUSED, WAYS, TIMES = 20 };
  faults f = {0};
  walmap_options options;
  walmap *map;
  walmap_session *session;
  walmap_txn *txn;
  content c = content_new(20000, 5);
  bytes image = image_of(c.entries, c.n, 0, 0);
  walmap_options_init(&options);
  options.allocator = faults_allocator(&f);
  options.shards = 2;
  MUST_OK(walmap_open(&options, &map));
  MUST_OK(walmap_session_new(NULL, NULL, &session));
  MUST_OK(walmap_txn_new(map, session, &txn));
  for (int way = COMMITTED; way < WAYS; way++) {
    long long before = 0;
    for (int i = 0; i < TIMES; i++) {
      uint32_t left = c.n;
      source from = {.all = image, .random = (uint64_t)i};
      walmap_txn_begin(txn);
      assert_int_equal(
          walmap_txn_restore_read(txn, read_source, &from, way == REFUSED ? refuse_last : NULL, &left, NULL, NULL),
          way == REFUSED ? WALMAP_CORRUPT : WALMAP_OK);
      if (way == COMMITTED)
        walmap_txn_commit(txn);
      else
        walmap_txn_rollback(txn);
      if (i == 1)
        before = f.bytes;
    }
    assert_true(f.bytes <= before);
    assert_true(map_is(map, c.entries, c.n));
  }
  walmap_txn_free(txn);
  walmap_session_free(session);
  walmap_close(map);
  assert_int_equal(f.blocks, 0);
  free(image.data);
  content_free(c);
}

typedef struct high_water {
  faults *f;
  atomic_llong bytes;
} high_water;

static const char *measure(void *ctx, const walmap_entry *entry) {
  high_water *h = ctx;
  (void)entry;
  long long now = h->f->bytes, most = h->bytes;
  while (now > most && !atomic_compare_exchange_weak(&h->bytes, &most, now)) {
  }
  return NULL;
}

/* A trailer that lies about the number of entries gets an index for as many as the image could hold, not more. */
static void test_lying_trailer(void **unused) {
  (void)unused;
  faults f = {0};
  walmap_options options;
  walmap *map;
  walmap_session *session;
  walmap_txn *txn;
  walmap_why why;
  content c = content_new(50, 300000);
  bytes image = image_of(c.entries, c.n, 0, 0);
  high_water h = {&f, 0};
  walmap_options_init(&options);
  options.allocator = faults_allocator(&f);
  walmap__store64(image.data + image.size - IMAGE_BLOCK + TRAILER_ENTRIES, UINT64_MAX);
  repair(image);
  MUST_OK(walmap_open(&options, &map));
  MUST_OK(walmap_session_new(NULL, NULL, &session));
  MUST_OK(walmap_txn_new(map, session, &txn));
  walmap_txn_begin(txn);
  assert_int_equal(walmap_txn_restore(txn, image.data, image.size, measure, &h, NULL, &why), WALMAP_CORRUPT);
  walmap_txn_rollback(txn);
  assert_true(h.bytes > 0 && (uint64_t)h.bytes < 8 * image.size + (64 << 10));
  walmap_txn_free(txn);
  walmap_session_free(session);
  walmap_close(map);
  assert_int_equal(f.blocks, 0);
  free(image.data);
  content_free(c);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_damaged_images),    cmocka_unit_test(test_forged_images),
      cmocka_unit_test(test_refused_content),   cmocka_unit_test(test_failing_source),
      cmocka_unit_test(test_memory_is_bounded), cmocka_unit_test(test_nothing_is_left_behind),
      cmocka_unit_test(test_lying_trailer),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
