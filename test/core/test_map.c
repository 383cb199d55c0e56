/*
** test_map.c - every public call of walmap.h on a map by itself, on one thread: what it returns, and what it changes
*/
#include "../common/map_kit.h"

static void empty_map(void **unused) {
  (void)unused;
  walmap *map = open_default();
  size_t len = 99;
  assert_int_equal(walmap_len(map), 0);
  assert_int_equal(walmap_size(map), 0);
  assert_int_equal(walmap_reclaimable(map), 0);
  printf("an empty map takes %llu bytes\n", (unsigned long long)walmap_memory(map));
  assert_true(walmap_memory(map) <= 32 * 1024);
  assert_int_equal(walmap_get(map, "k", 1, NULL, 0, &len), WALMAP_NOTFOUND);
  assert_int_equal(len, 99);
  assert_int_equal(walmap_get(map, NULL, 0, NULL, 0, &len), WALMAP_NOTFOUND);
  assert_int_equal(remove_key(map, "k"), WALMAP_NOTFOUND);
  assert_int_equal(walmap_remove(map, NULL, 0), WALMAP_NOTFOUND);
  walmap_state *state = state_of(map);
  assert_int_equal(count_entries(state), 0);
  walmap_state_free(state);
  walmap_state_free(NULL);
  assert_int_equal(walmap_compact(map, NULL), WALMAP_OK);
  assert_int_equal(walmap_size(map), 0);
  walmap_close(map);
}

static void set_get_remove(void **unused) {
  (void)unused;
  walmap *map = open_default();
  assert_int_equal(set(map, "foo", "bar"), WALMAP_OK);
  assert_string_equal(get(map, "foo"), "bar");
  assert_null(get(map, "fo"));
  assert_null(get(map, "fooo"));
  assert_int_equal(set(map, "foo", "quux"), WALMAP_OK);
  assert_string_equal(get(map, "foo"), "quux");
  assert_int_equal(walmap_len(map), 1);
  assert_true(walmap_reclaimable(map) > 0);
  assert_int_equal(set(map, "", "empty key"), WALMAP_OK);
  assert_string_equal(get(map, ""), "empty key");
  assert_int_equal(set(map, "empty value", ""), WALMAP_OK);
  assert_string_equal(get(map, "empty value"), "");
  assert_int_equal(walmap_len(map), 3);
  assert_int_equal(walmap_set(map, NULL, 0, NULL, 0), WALMAP_OK);
  assert_string_equal(get(map, ""), "");
  assert_int_equal(walmap_set(map, "a\0b", 3, "c\0d", 3), WALMAP_OK);
  assert_null(get(map, "a"));
  assert_int_equal(walmap_len(map), 4);
  assert_int_equal(remove_key(map, "foo"), WALMAP_OK);
  assert_null(get(map, "foo"));
  assert_int_equal(remove_key(map, "foo"), WALMAP_NOTFOUND);
  assert_int_equal(walmap_remove(map, NULL, 0), WALMAP_OK);
  assert_int_equal(walmap_remove(map, "", 0), WALMAP_NOTFOUND);
  assert_int_equal(walmap_len(map), 2);
  assert_int_equal(set(map, "foo", "again"), WALMAP_OK);
  assert_string_equal(get(map, "foo"), "again");
  walmap_close(map);
}

static void set_if_absent(void **unused) {
  (void)unused;
  walmap *map = open_default();
  bool done = false;
  assert_int_equal(walmap_set_if_absent(map, "k", 1, "one", 3, &done), WALMAP_OK);
  assert_true(done);
  uint64_t size = walmap_size(map);
  assert_int_equal(walmap_set_if_absent(map, "k", 1, "two", 3, &done), WALMAP_OK);
  assert_false(done);
  assert_int_equal(walmap_size(map), size);
  assert_string_equal(get(map, "k"), "one");
  assert_int_equal(walmap_set_if_absent(map, "k", 1, "two", 3, NULL), WALMAP_OK);
  assert_int_equal(remove_key(map, "k"), WALMAP_OK);
  assert_int_equal(walmap_set_if_absent(map, "k", 1, "two", 3, NULL), WALMAP_OK);
  assert_string_equal(get(map, "k"), "two");
  walmap_close(map);
}

struct expectation {
  const char *text;
  int calls;
};

static bool is_text(void *ctx, const void *value, size_t len) {
  struct expectation *e = ctx;
  e->calls++;
  assert_non_null(value);
  return len == strlen(e->text) && !memcmp(value, e->text, len);
}

static void set_if_and_remove_if(void **unused) {
  (void)unused;
  walmap *map = open_default();
  bool done = true;
  struct expectation e = {"one", 0};
  assert_int_equal(walmap_set_if(map, "k", 1, "two", 3, is_text, &e, &done), WALMAP_NOTFOUND);
  assert_int_equal(walmap_remove_if(map, "k", 1, is_text, &e, &done), WALMAP_NOTFOUND);
  assert_true(done);
  assert_int_equal(e.calls, 0);
  assert_int_equal(set(map, "k", "one"), WALMAP_OK);
  assert_int_equal(walmap_set_if(map, "k", 1, "two", 3, is_text, &e, &done), WALMAP_OK);
  assert_true(done);
  assert_int_equal(e.calls, 1);
  assert_string_equal(get(map, "k"), "two");
  uint64_t size = walmap_size(map);
  assert_int_equal(walmap_set_if(map, "k", 1, "three", 5, is_text, &e, &done), WALMAP_OK);
  assert_false(done);
  assert_int_equal(walmap_remove_if(map, "k", 1, is_text, &e, &done), WALMAP_OK);
  assert_false(done);
  assert_int_equal(e.calls, 3);
  assert_int_equal(walmap_size(map), size);
  assert_string_equal(get(map, "k"), "two");
  e.text = "two";
  assert_int_equal(walmap_remove_if(map, "k", 1, is_text, &e, &done), WALMAP_OK);
  assert_true(done);
  assert_null(get(map, "k"));
  assert_int_equal(walmap_len(map), 0);
  assert_int_equal(set(map, "k", ""), WALMAP_OK);
  e.text = "";
  assert_int_equal(walmap_set_if(map, "k", 1, "x", 1, is_text, &e, NULL), WALMAP_OK);
  assert_string_equal(get(map, "k"), "x");
  e.text = "x";
  assert_int_equal(walmap_remove_if(map, "k", 1, is_text, &e, NULL), WALMAP_OK);
  assert_int_equal(walmap_len(map), 0);
  walmap_close(map);
}

struct change {
  const char *expected; /* NULL: the key is to be absent */
  const char *new_value;
  int result;
  int calls;
};

static int change_to(void *ctx, const void *old, size_t old_len, const void **value, size_t *len) {
  struct change *c = ctx;
  c->calls++;
  if (c->expected) {
    assert_non_null(old); /* also for an empty value: only absence is NULL */
    assert_int_equal(old_len, strlen(c->expected));
    assert_true(!old_len || !memcmp(old, c->expected, old_len));
  } else {
    assert_null(old);
  }
  if (c->new_value) {
    *value = c->new_value;
    *len = strlen(c->new_value);
  }
  return c->result;
}

static int keep_as_it_is(void *ctx, const void *old, size_t old_len, const void **value, size_t *len) {
  ++*(int *)ctx;
  *value = old;
  *len = old_len;
  return WALMAP_OK;
}

static void upsert(void **unused) {
  (void)unused;
  walmap *map = open_default();
  struct change change = {NULL, "1", WALMAP_OK, 0};
  assert_int_equal(walmap_upsert(map, "k", 1, change_to, &change), WALMAP_OK);
  assert_string_equal(get(map, "k"), "1");
  change = (struct change){"1", "", WALMAP_OK, 0};
  assert_int_equal(walmap_upsert(map, "k", 1, change_to, &change), WALMAP_OK);
  assert_string_equal(get(map, "k"), "");
  change = (struct change){"", "three", WALMAP_OK, 0};
  assert_int_equal(walmap_upsert(map, "k", 1, change_to, &change), WALMAP_OK);
  assert_string_equal(get(map, "k"), "three");
  assert_int_equal(change.calls, 1);

  uint64_t size = walmap_size(map);
  static const int refusals[] = {WALMAP_NOTFOUND, WALMAP_NOMEM, WALMAP_INVALID, WALMAP_IO, 4711, -1};
  for (size_t i = 0; i < sizeof refusals / sizeof *refusals; i++) {
    change = (struct change){"three", "four", refusals[i], 0};
    assert_int_equal(walmap_upsert(map, "k", 1, change_to, &change), refusals[i]);
    change = (struct change){NULL, NULL, refusals[i], 0};
    assert_int_equal(walmap_upsert(map, "absent", 6, change_to, &change), refusals[i]);
  }
  assert_int_equal(walmap_size(map), size);
  assert_string_equal(get(map, "k"), "three");
  assert_int_equal(walmap_len(map), 1);

  /* The old value may be the new one: it stays where it is for the length of the call. */
  int calls = 0;
  for (int i = 0; i < 5000; i++)
    assert_int_equal(walmap_upsert(map, "k", 1, keep_as_it_is, &calls), WALMAP_OK);
  assert_int_equal(calls, 5000);
  assert_string_equal(get(map, "k"), "three");
  walmap_close(map);
}

/* Values read from a state may be written again, though the log that they lie in moves on meanwhile. */
static void write_from_state(void **unused) {
  (void)unused;
  walmap *map = open_default();
  for (int k = 0; k < 500; k++)
    assert_int_equal(walmap_set(map, &k, sizeof k, &k, sizeof k), WALMAP_OK);
  for (int round = 0; round < 20; round++) {
    walmap_state *state = state_of(map);
    walmap_cursor cursor;
    walmap_entry entry;
    for (walmap_cursor_start(&cursor, state); walmap_cursor_next(&cursor, &entry);)
      assert_int_equal(walmap_set(map, entry.key, entry.key_len, entry.value, entry.value_len), WALMAP_OK);
    walmap_state_free(state);
  }
  assert_int_equal(walmap_len(map), 500);
  for (int k = 0; k < 500; k++) {
    int value = -1;
    size_t len;
    assert_int_equal(walmap_get(map, &k, sizeof k, &value, sizeof value, &len), WALMAP_OK);
    assert_int_equal(value, k);
  }
  walmap_close(map);
}

static void view(void **unused) {
  (void)unused;
  walmap *map = open_default();
  struct expectation e = {"value", 0};
  assert_int_equal(walmap_view(map, "k", 1, is_text, &e), WALMAP_NOTFOUND);
  assert_int_equal(e.calls, 0);
  assert_int_equal(set(map, "k", "value"), WALMAP_OK);
  assert_int_equal(walmap_view(map, "k", 1, is_text, &e), WALMAP_OK);
  e.text = "other";
  assert_int_equal(walmap_view(map, "k", 1, is_text, &e), WALMAP_OK); /* the callback's answer doesn't matter */
  assert_int_equal(e.calls, 2);
  walmap_close(map);
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Images, as far as the map is concerned                                                                             */

static void removed_key_stays_removed(void **unused) {
  (void)unused;
  walmap *map = open_default(), *other = open_default();
  for (int compacted = 0; compacted < 2; compacted++) {
    assert_int_equal(set(map, "stays", "1"), WALMAP_OK);
    assert_int_equal(set(map, "goes", "2"), WALMAP_OK);
    assert_int_equal(set(map, "goes", "3"), WALMAP_OK);
    assert_int_equal(remove_key(map, "goes"), WALMAP_OK);
    assert_true(walmap_reclaimable(map) > 0);
    if (compacted)
      assert_int_equal(walmap_compact(map, NULL), WALMAP_OK);
    void *image;
    size_t size;
    uint64_t entries = 0;
    assert_int_equal(walmap_snapshot(map, &image, &size), WALMAP_OK);
    assert_int_equal(walmap_restore(other, image, size, &entries, NULL), WALMAP_OK);
    walmap_image_free(image);
    assert_int_equal(entries, 1);
    assert_int_equal(walmap_len(other), 1);
    assert_string_equal(get(other, "stays"), "1");
    assert_null(get(other, "goes"));
    /* and the restored map is one like any other */
    assert_int_equal(set(other, "new", "4"), WALMAP_OK);
    assert_int_equal(set(other, "stays", "5"), WALMAP_OK);
    assert_true(walmap_reclaimable(other) > 0);
    assert_int_equal(walmap_compact(other, NULL), WALMAP_OK);
    assert_int_equal(walmap_reclaimable(other), 0);
    assert_string_equal(get(other, "stays"), "5");
  }
  walmap_close(map);
  walmap_close(other);
}

static void restore_across_options(void **unused) {
  (void)unused;
  universe *u = universe_new(2000 / SLOWDOWN, 500);
  uint32_t *content = calloc(u->n, sizeof *content);
  assert_non_null(content);
  for (uint32_t k = 0; k < u->n; k++)
    content[k] = k + 1;
  for (uint32_t from = 1; from <= WALMAP_MAX_SHARDS; from *= 16) {
    for (uint32_t to = 1; to <= WALMAP_MAX_SHARDS; to *= 16) {
      walmap_options options = defaults();
      options.shards = from;
      walmap *map = open_with(options);
      options.shards = to;
      walmap *other = open_with(options);
      for (uint32_t k = 0; k < u->n; k++) {
        bytes v = value_bytes(u, content[k]);
        assert_int_equal(walmap_set(map, u->keys[k].at, u->keys[k].len, v.at, v.len), WALMAP_OK);
      }
      assert_int_equal(set(other, "old", "content"), WALMAP_OK);
      walmap_state *before = state_of(other);
      void *image;
      size_t size;
      assert_int_equal(walmap_snapshot(map, &image, &size), WALMAP_OK);
      assert_int_equal(walmap_restore(other, image, size, NULL, NULL), WALMAP_OK);
      must_hold(u, other, content);
      walmap_entry entry;
      assert_int_equal(walmap_state_get(before, "old", 3, &entry), WALMAP_OK); /* C2 */
      assert_int_equal(count_entries(before), 1);
      walmap_state_free(before);
      walmap_image_free(image);
      walmap_close(map);
      walmap_close(other);
    }
  }
  free(content);
  universe_free(u);
}

static void restore_refused(void **unused) {
  (void)unused;
  walmap_options options = defaults();
  options.content = 1;
  walmap *map = open_with(options);
  options.content = 2;
  walmap *other = open_with(options);
  assert_int_equal(set(map, "k", "v"), WALMAP_OK);
  assert_int_equal(set(other, "mine", "stays"), WALMAP_OK);
  void *image;
  size_t size;
  uint64_t entries = 77;
  walmap_why why = {""};
  assert_int_equal(walmap_snapshot(map, &image, &size), WALMAP_OK);
  assert_int_equal(walmap_restore(other, image, size, &entries, &why), WALMAP_CORRUPT);
  assert_true(why.text[0]);
  assert_int_equal(walmap_restore(other, "rubbish", 7, &entries, &why), WALMAP_CORRUPT);
  assert_int_equal(walmap_restore(other, "", 0, &entries, NULL), WALMAP_CORRUPT);
  assert_int_equal(entries, 77);
  assert_int_equal(walmap_len(other), 1);
  assert_string_equal(get(other, "mine"), "stays");
  walmap_image_free(image);
  walmap_close(map);
  walmap_close(other);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(empty_map),
      cmocka_unit_test(set_get_remove),
      cmocka_unit_test(set_if_absent),
      cmocka_unit_test(set_if_and_remove_if),
      cmocka_unit_test(upsert),
      cmocka_unit_test(write_from_state),
      cmocka_unit_test(view),
      cmocka_unit_test(removed_key_stays_removed),
      cmocka_unit_test(restore_across_options),
      cmocka_unit_test(restore_refused),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
