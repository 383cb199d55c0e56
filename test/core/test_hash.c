/* test_hash.c - hash functions as bad as can be, and walks over the entries of one hash */
#include "../common/map_kit.h"

static uint64_t hash_constant(const void *key, size_t len, uint64_t seed) {
  (void)key, (void)len, (void)seed;
  return 0x5555555555555555u;
}
static uint64_t hash_zero(const void *key, size_t len, uint64_t seed) {
  (void)key, (void)len, (void)seed;
  return 0;
}
static uint64_t hash_ones(const void *key, size_t len, uint64_t seed) {
  (void)key, (void)len, (void)seed;
  return UINT64_MAX;
}

static uint64_t hash_two(const void *key, size_t len, uint64_t seed) {
  return seed ^ (len && first_bytes(key, len) & 1 ? 0x0123456789abcdefu : 0xfedcba9876543210u);
}
static uint64_t hash_low(const void *key, size_t len, uint64_t seed) {
  (void)seed;
  return len ? first_bytes(key, len) : 0;
}
static uint64_t hash_high(const void *key, size_t len, uint64_t seed) {
  (void)seed;
  return len ? (uint64_t)first_bytes(key, len) << 48 : 0;
}
static uint64_t hash_middle(const void *key, size_t len, uint64_t seed) {
  (void)seed;
  return len ? (uint64_t)first_bytes(key, len) << 24 : 0;
}

static void bad_hashes(void **unused) {
  (void)unused;
  static const walmap_hash_fn hashes[] = {hash_constant, hash_zero, hash_ones,  hash_two,
                                          hash_low,      hash_high, hash_middle};
  universe *u = universe_new(1500 / SLOWDOWN, 0);
  uint32_t *content = calloc(u->n, sizeof *content);
  assert_non_null(content);
  for (size_t h = 0; h < sizeof hashes / sizeof *hashes; h++) {
    walmap_options options = defaults();
    options.hash = hashes[h];
    walmap *map = open_with(options), *copy = open_default();
    memset(content, 0, u->n * sizeof *content);
    for (uint32_t step = 1; step < 4 * u->n; step++) {
      uint32_t key = (uint32_t)(mix(step) % u->n);
      const bytes k = u->keys[key], v = value_bytes(u, step);
      if (step % 4 == 3) {
        assert_int_equal(walmap_remove(map, k.at, k.len), content[key] ? WALMAP_OK : WALMAP_NOTFOUND);
        content[key] = 0;
      } else {
        assert_int_equal(walmap_set(map, k.at, k.len, v.at, v.len), WALMAP_OK);
        content[key] = step;
      }
    }
    must_hold(u, map, content);
    assert_int_equal(walmap_compact(map, NULL), WALMAP_OK);
    must_hold(u, map, content);
    void *image;
    size_t size;
    uint64_t entries;
    assert_int_equal(walmap_snapshot(map, &image, &size), WALMAP_OK);
    assert_int_equal(walmap_restore(copy, image, size, &entries, NULL), WALMAP_OK);
    assert_int_equal(entries, content_count(u, content));
    must_hold(u, copy, content);
    assert_int_equal(walmap_restore(map, image, size, &entries, NULL), WALMAP_OK);
    must_hold(u, map, content);
    walmap_image_free(image);
    walmap_close(map);
    walmap_close(copy);
  }
  free(content);
  universe_free(u);
}

struct alike {
  uint32_t seen, stop_after;
  uint64_t sum;
};

static bool count_alike(void *ctx, const walmap_entry *entry) {
  struct alike *a = ctx;
  assert_int_equal(entry->key_len, 4);
  a->seen++;
  a->sum += first_bytes(entry->key, 4);
  return a->seen < a->stop_after;
}

static void each_hash(void **unused) {
  (void)unused;
  walmap_options options = defaults();
  options.hash = hash_two;
  walmap *map = open_with(options);
  uint64_t even = 0;
  for (uint32_t k = 0; k < 200; k++) {
    assert_int_equal(walmap_set(map, &k, 4, "v", 1), WALMAP_OK);
    if (k % 2 == 0)
      even += k;
  }
  for (uint32_t k = 0; k < 200; k += 4) { /* of the even ones every second goes, and comes back in part */
    assert_int_equal(walmap_remove(map, &k, 4), WALMAP_OK);
    if (k % 8 == 0)
      assert_int_equal(walmap_set(map, &k, 4, "w", 1), WALMAP_OK);
    else
      even -= k;
  }
  uint32_t two = 2;
  uint64_t hash = walmap_hash(map, &two, 4);
  assert_true(hash == hash_two(&two, 4, walmap_get_options(map)->seed));
  walmap_state *state = state_of(map);
  struct alike all = {0, UINT32_MAX, 0}, some = {0, 3, 0}, none = {0, UINT32_MAX, 0};
  walmap_state_each_hash(state, hash, count_alike, &all);
  assert_int_equal(all.seen, 75);
  assert_int_equal(all.sum, even);
  walmap_state_each_hash(state, hash, count_alike, &some);
  assert_int_equal(some.seen, 3);
  walmap_state_each_hash(state, ~hash ^ 77, count_alike, &none);
  assert_int_equal(none.seen, 0);
  for (uint32_t k = 0; k < 200; k++)
    walmap_remove(map, &k, 4);
  struct alike still = {0, UINT32_MAX, 0};
  walmap_state_each_hash(state, hash, count_alike, &still); /* C2 */
  assert_int_equal(still.seen, 75);
  assert_int_equal(still.sum, even);
  walmap_state_end(state);
  assert_int_equal(walmap_state_begin(state), WALMAP_OK);
  walmap_state_each_hash(state, hash, count_alike, &none);
  assert_int_equal(none.seen, 0);
  walmap_state_free(state);
  walmap_close(map);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(bad_hashes),
      cmocka_unit_test(each_hash),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
