/* test_size.c - size, reclaimable bytes and memory of a map that are told wrongly, and memory that is not used well */
#include "../common/map_kit.h"

/* What is dead is told exactly, whatever made it dead, and compaction gives just that. */
static void reclaimable_is_exact(void **unused) {
  (void)unused;
  for (uint32_t shards = 1; shards <= 16; shards *= 16) {
    walmap_options options = defaults();
    options.auto_compact = 0;
    options.shards = shards;
    walmap *map = open_with(options);
    uint8_t value[500] = {0};
    uint64_t live_size = 0;
    for (int round = 0; round < 30; round++) {
      for (int k = 0; k < 300; k++) {
        int key = (k * 7 + round) % 300;
        if ((k + round) % 5 == 0)
          walmap_remove(map, &key, sizeof key);
        else
          assert_int_equal(walmap_set(map, &key, sizeof key, value, (size_t)(k * 3 + round) % 500), WALMAP_OK);
        assert_true(walmap_reclaimable(map) <= walmap_size(map));
      }
      if (round % 3)
        continue;
      uint64_t size = walmap_size(map), reclaimable = walmap_reclaimable(map), len = walmap_len(map);
      assert_true((reclaimable > 0) == (round > 0)); /* at first every key is new */
      assert_int_equal(walmap_compact(map, NULL), WALMAP_OK);
      assert_int_equal(walmap_size(map), size - reclaimable);
      assert_int_equal(walmap_reclaimable(map), 0);
      assert_int_equal(walmap_len(map), len);
      live_size = walmap_size(map);
    }
    void *image;
    size_t image_size;
    assert_int_equal(walmap_snapshot(map, &image, &image_size), WALMAP_OK);
    for (int k = 0; k < 300; k++)
      walmap_remove(map, &k, sizeof k);
    assert_int_equal(walmap_reclaimable(map), walmap_size(map));
    assert_int_equal(walmap_restore(map, image, image_size, NULL, NULL), WALMAP_OK);
    assert_true(walmap_size(map) - walmap_reclaimable(map) <= live_size);
    uint64_t size = walmap_size(map), reclaimable = walmap_reclaimable(map);
    assert_int_equal(walmap_compact(map, NULL), WALMAP_OK);
    assert_int_equal(walmap_size(map), size - reclaimable);
    walmap_image_free(image);
    walmap_close(map);
  }
}

static void memory_is_counted(void **unused) {
  (void)unused;
  faults f = {0};
  walmap_options options = defaults();
  options.allocator = faults_allocator(&f);
  walmap *map = open_with(options);
  for (uint32_t k = 0; k < 20000; k++) {
    assert_int_equal(walmap_set(map, &k, 4, &k, 4), WALMAP_OK);
    if (k % 1000 == 0)
      assert_int_equal(walmap_memory(map), f.bytes);
  }
  for (uint32_t k = 0; k < 20000; k++)
    assert_int_equal(walmap_remove(map, &k, 4), WALMAP_OK);
  assert_int_equal(walmap_compact(map, NULL), WALMAP_OK);
  assert_int_equal(walmap_memory(map), f.bytes);
  walmap_close(map);
  assert_int_equal(f.bytes, 0);
  assert_int_equal(f.blocks, 0);
}

/* Little of what a map holds is neither records nor index, whose share is at most 16 bytes an entry. */
static void memory_is_used_well(void **unused) {
  (void)unused;
  enum { N = 300000, VALUE = 112 };
  char value[VALUE] = {0};
  walmap_options options = defaults();
  options.seed_given = true;
  walmap *map = open_with(options);
  for (uint32_t i = 0; i < N; i++) {
    assert_int_equal(walmap_set(map, &i, sizeof i, value, sizeof value), WALMAP_OK);
    if (i % 50000 == 49999)
      assert_true(walmap_memory(map) < walmap_size(map) + 16 * (i + 1) + (2u << 20));
  }
  walmap_close(map);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(reclaimable_is_exact),
      cmocka_unit_test(memory_is_counted),
      cmocka_unit_test(memory_is_used_well),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
