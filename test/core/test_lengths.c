/* test_lengths.c - keys, values and buffers of all lengths: at the edges of a record's head, a segment, a huge page */
#include "../common/map_kit.h"

static void get_with_small_buffer(void **unused) {
  (void)unused;
  walmap *map = open_default();
  char buffer[8] = "-------";
  size_t len = 0;
  assert_int_equal(set(map, "k", "value"), WALMAP_OK);
  assert_int_equal(walmap_get(map, "k", 1, NULL, 0, &len), WALMAP_OK);
  assert_int_equal(len, 5);
  assert_int_equal(walmap_get(map, "k", 1, buffer, 2, &len), WALMAP_OK);
  assert_int_equal(len, 5);
  assert_string_equal(buffer, "va-----");
  assert_int_equal(walmap_get(map, "k", 1, buffer, 5, &len), WALMAP_OK);
  assert_string_equal(buffer, "value--");
  assert_int_equal(walmap_get(map, "k", 1, buffer, sizeof buffer, &len), WALMAP_OK);
  assert_int_equal(len, 5);
  assert_string_equal(buffer, "value--");
  walmap_close(map);
}

/* Values and buffers of all sizes around those that are copied in ways of their own: not a byte too few or too many. */
static void get_of_all_lengths(void **unused) {
  (void)unused;
  enum { MOST = 300, GUARD = 0xa5 };
  uint8_t value[MOST], buffer[MOST + 1];
  walmap *map;
  assert_int_equal(walmap_open(NULL, &map), WALMAP_OK);
  for (size_t i = 0; i < MOST; i++)
    value[i] = (uint8_t)(mix(i) >> 40);
  for (size_t n = 0; n <= MOST; n++) {
    assert_int_equal(walmap_set(map, "k", 1, value, n), WALMAP_OK);
    for (size_t room = 0; room <= MOST; room++) {
      size_t len, copied = n < room ? n : room;
      memset(buffer, GUARD, sizeof buffer);
      assert_int_equal(walmap_get(map, "k", 1, buffer, room, &len), WALMAP_OK);
      assert_int_equal(len, n);
      assert_memory_equal(buffer, value, copied);
      for (size_t i = copied; i < sizeof buffer; i++)
        assert_int_equal(buffer[i], GUARD);
    }
  }
  walmap_close(map);
}

/* Lengths at which the record's header, a segment, or a huge page comes to its end. */
static const size_t lengths[] = {
    0,    1,    2,    3,    4,    5,     7,     8,      9,      200,    255,    256,     1000,    1021,
    1022, 1023, 1024, 1025, 4096, 65535, 65536, 262142, 262143, 262144, 262145, 1 << 20, 2 << 20, (2 << 20) + 1};
#define LENGTHS (sizeof lengths / sizeof *lengths)

static void must_have(walmap *map, const uint8_t *data, size_t key_len, size_t value_len) {
  walmap_state *state = state_of(map);
  walmap_entry entry;
  assert_int_equal(walmap_state_get(state, data, key_len, &entry), WALMAP_OK);
  assert_int_equal(entry.key_len, key_len);
  assert_int_equal(entry.value_len, value_len);
  assert_true(!key_len || !memcmp(entry.key, data, key_len));
  assert_true(!value_len || !memcmp(entry.value, data + key_len % 251, value_len));
  walmap_state_free(state);
}

static void all_lengths(void **unused) {
  (void)unused;
  size_t most = 4 << 20;
  uint8_t *data = malloc(most);
  assert_non_null(data);
  for (size_t i = 0; i < most; i++)
    data[i] = (uint8_t)mix(i);
  for (uint32_t first_segment = 256; first_segment <= 1 << 20; first_segment *= 64) {
    walmap_options options = defaults();
    options.first_segment = first_segment;
    options.shards = 4;
    walmap *map = open_with(options);
    for (size_t round = 0; round < 3; round++) {
      for (size_t k = 0; k < LENGTHS; k++) {
        size_t value_len = lengths[(k * 7 + round * 5) % LENGTHS];
        assert_int_equal(walmap_set(map, data, lengths[k], data + lengths[k] % 251, value_len), WALMAP_OK);
        must_have(map, data, lengths[k], value_len);
      }
      assert_int_equal(walmap_len(map), LENGTHS);
      for (int compacted = 0; compacted < 2; compacted++) {
        for (size_t k = 0; k < LENGTHS; k++)
          must_have(map, data, lengths[k], lengths[(k * 7 + round * 5) % LENGTHS]);
        uint64_t size = walmap_size(map), reclaimable = walmap_reclaimable(map);
        assert_int_equal(walmap_compact(map, NULL), WALMAP_OK);
        assert_int_equal(walmap_size(map), size - reclaimable);
        assert_int_equal(walmap_reclaimable(map), 0);
      }
    }
    for (size_t k = 0; k < LENGTHS; k++)
      assert_int_equal(walmap_remove(map, data, lengths[k]), WALMAP_OK);
    assert_int_equal(walmap_len(map), 0);
    assert_int_equal(walmap_reclaimable(map), walmap_size(map));
    assert_int_equal(walmap_compact(map, NULL), WALMAP_OK);
    assert_int_equal(walmap_size(map), 0);
    walmap_close(map);
  }
  free(data);
}

/* Every pair of a key's and a value's length around the limits of the short header. */
static void header_limits(void **unused) {
  (void)unused;
  static const size_t keys[] = {0, 1, 1022, 1023, 1024, 1025};
  static const size_t values[] = {0, 1, (1 << 16) - 2, (1 << 16) - 1, 1 << 16, (1 << 16) + 1};
  size_t room = (1 << 16) + 300;
  uint8_t *data = malloc(room);
  assert_non_null(data);
  for (size_t i = 0; i < room; i++)
    data[i] = (uint8_t)(mix(i) >> 3);
  walmap *map = open_default();
  for (size_t k = 0; k < 6; k++) {
    for (size_t v = 0; v < 6; v++) {
      assert_int_equal(walmap_set(map, data, keys[k], data + keys[k] % 251, values[v]), WALMAP_OK);
      must_have(map, data, keys[k], values[v]);
      walmap_state *before = state_of(map); /* while it is open, the next record of the key has a `prev` */
      size_t other = values[(v + 1) % 6];
      assert_int_equal(walmap_set(map, data, keys[k], data + keys[k] % 251, other), WALMAP_OK);
      must_have(map, data, keys[k], other);
      walmap_entry entry;
      assert_int_equal(walmap_state_get(before, data, keys[k], &entry), WALMAP_OK);
      assert_int_equal(entry.value_len, values[v]);
      walmap_state_free(before);
    }
  }
  assert_int_equal(walmap_compact(map, NULL), WALMAP_OK);
  for (size_t k = 0; k < 6; k++)
    must_have(map, data, keys[k], values[0]);
  walmap_close(map);
  free(data);
}

static void huge_values(void **unused) {
  (void)unused;
  size_t most = 20u << 20;
  uint8_t *data = malloc(most + 251);
  assert_non_null(data);
  for (size_t i = 0; i < most + 251; i++)
    data[i] = (uint8_t)(i * 31 + (i >> 12));
  walmap *map = open_default();
  for (int round = 0; round < 3; round++) {
    assert_int_equal(walmap_set(map, data, 3, data + 3, most), WALMAP_OK);
    assert_int_equal(walmap_set(map, data, 4, data + 4, 10), WALMAP_OK);
    assert_int_equal(walmap_set(map, data, 5 << 20, data + (5 << 20) % 251, most), WALMAP_OK);
    must_have(map, data, 3, most);
    must_have(map, data, 4, 10);
    must_have(map, data, 5 << 20, most);
  }
  assert_int_equal(walmap_compact(map, NULL), WALMAP_OK);
  must_have(map, data, 3, most);
  must_have(map, data, 5 << 20, most);
  assert_int_equal(walmap_remove(map, data, 3), WALMAP_OK);
  assert_int_equal(walmap_remove(map, data, 5 << 20), WALMAP_OK);
  assert_int_equal(walmap_compact(map, NULL), WALMAP_OK);
  must_have(map, data, 4, 10);
  assert_true(walmap_memory(map) < 4u << 20); /* what is freed goes back */
  walmap_close(map);
  free(data);
}

static bool always(void *ctx, const void *value, size_t len) {
  (void)value, (void)len;
  return *(bool *)ctx;
}

static int never_asked(void *ctx, const void *old, size_t old_len, const void **value, size_t *len) {
  (void)old, (void)old_len, (void)value, (void)len;
  *(bool *)ctx = true;
  return WALMAP_OK;
}

/* The lengths are told before anything is read, so the bytes need not exist. */
static void too_big(void **unused) {
  (void)unused;
  walmap *map = open_default();
  bool done = true, yes = true;
  assert_int_equal(set(map, "k", "v"), WALMAP_OK);
  uint64_t size = walmap_size(map), memory = walmap_memory(map);
  for (int i = 0; i < 2; i++) {
    size_t over = i ? SIZE_MAX : WALMAP_MAX_LENGTH + 1;
    assert_int_equal(walmap_set(map, "k", 1, "v", over), WALMAP_TOOBIG);
    assert_int_equal(walmap_set(map, "k", over, "v", 1), WALMAP_TOOBIG);
    assert_int_equal(walmap_set_if_absent(map, "l", 1, "v", over, &done), WALMAP_TOOBIG);
    assert_int_equal(walmap_set_if_absent(map, "l", over, "v", 1, &done), WALMAP_TOOBIG);
    assert_int_equal(walmap_set_if(map, "k", 1, "v", over, always, &yes, &done), WALMAP_TOOBIG);
    assert_true(done);
    assert_int_equal(walmap_upsert(map, "k", over, never_asked, &done), WALMAP_TOOBIG);
  }
  assert_string_equal(get(map, "k"), "v");
  assert_int_equal(walmap_len(map), 1);
  assert_int_equal(walmap_size(map), size);
  assert_int_equal(walmap_memory(map), memory);
  walmap_close(map);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(get_with_small_buffer), cmocka_unit_test(get_of_all_lengths), cmocka_unit_test(all_lengths),
      cmocka_unit_test(header_limits),         cmocka_unit_test(huge_values),        cmocka_unit_test(too_big),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
