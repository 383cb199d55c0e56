/* test_options.c - options of a map: defaults, what is refused, what is allowed; version and texts of results */
#include "../common/map_kit.h"
#include "platform/platform.h"

static void versions_and_texts(void **unused) {
  (void)unused;
  assert_string_equal(walmap_version(), WALMAP_VERSION);
  for (int i = WALMAP_OK; i <= WALMAP_FULL; i++) {
    assert_non_null(walmap_result_text(i));
    assert_true(*walmap_result_text(i));
    for (int j = WALMAP_OK; j < i; j++)
      assert_string_not_equal(walmap_result_text(i), walmap_result_text(j));
  }
  assert_non_null(walmap_result_text(-1));
  assert_non_null(walmap_result_text(12345));
}

static void options_default(void **unused) {
  (void)unused;
  walmap *a = open_default(), *b = open_default();
  const walmap_options *options = walmap_get_options(a);
  assert_int_equal(options->shards, WALMAP_DEFAULT_SHARDS);
  assert_int_equal(options->first_segment, 1024);
  assert_int_equal(options->auto_compact, WALMAP_DEFAULT_AUTO_COMPACT);
  assert_int_equal(options->busy_timeout, WALMAP_DEFAULT_BUSY_TIMEOUT);
  assert_true(options->hash != NULL);
  assert_true(options->allocator.alloc != NULL && options->allocator.free != NULL);
  assert_true(options->seed != walmap_get_options(b)->seed); /* drawn from the system: equal once in 2^64 runs */
  walmap_close(a);
  walmap_close(b);
  walmap_close(NULL);

  walmap_options given = defaults();
  given.seed_given = true;
  given.seed = 42;
  given.content = 7;
  given.shards = 2;
  walmap *c = open_with(given), *d = open_with(given);
  assert_int_equal(walmap_get_options(c)->seed, 42);
  assert_int_equal(walmap_get_options(c)->content, 7);
  assert_int_equal(walmap_get_options(c)->shards, 2);
  assert_true(walmap_hash(c, "key", 3) == walmap_hash(d, "key", 3));
  assert_true(walmap_hash(c, "key", 3) != walmap_hash(c, "kez", 3));
  assert_true(walmap_hash(c, NULL, 0) == walmap_hash(d, "", 0));
  walmap_close(c);
  walmap_close(d);

  walmap_options zero = {0}; /* 0 and NULL stand for the defaults, but for auto_compact and busy_timeout */
  walmap *e = open_with(zero);
  assert_int_equal(walmap_get_options(e)->shards, WALMAP_DEFAULT_SHARDS);
  assert_int_equal(walmap_get_options(e)->first_segment, 1024);
  assert_int_equal(walmap_get_options(e)->auto_compact, 0);
  assert_int_equal(walmap_get_options(e)->busy_timeout, 0);
  assert_true(walmap_get_options(e)->hash != NULL);
  assert_int_equal(walmap_set(e, "k", 1, "v", 1), WALMAP_OK);
  walmap_close(e);
}

static void options_refused(void **unused) {
  (void)unused;
  walmap *const untouched = (walmap *)(uintptr_t)0x1234;
  for (int i = 0;; i++) {
    walmap_options options = defaults();
    if (i == 0)
      options.shards = 3;
    else if (i == 1)
      options.shards = WALMAP_MAX_SHARDS * 2;
    else if (i == 2)
      options.shards = UINT32_MAX;
    else if (i == 3)
      options.first_segment = 1;
    else if (i == 4)
      options.first_segment = 255;
    else if (i == 5)
      options.first_segment = (1u << 20) + 1;
    else if (i == 6)
      options.first_segment = UINT32_MAX;
    else if (i == 7)
      options.auto_compact = 100;
    else if (i == 8)
      options.auto_compact = UINT32_MAX;
    else if (i == 9)
      options.shards = WALMAP_MAX_SHARDS + 1;
    else if (i == 10)
      options.allocator.free = NULL;
    else
      break;
    walmap *map = untouched;
    assert_int_equal(walmap_open(&options, &map), WALMAP_INVALID);
    assert_ptr_equal(map, untouched);
  }
}

static void options_allowed(void **unused) {
  (void)unused;
  static const uint32_t segments[] = {0, 256, 257, 1000, 1024, 65536, (1u << 20) - 1, 1u << 20};
  static const uint64_t capacities[] = {0, 1, 100, 100000};
  for (uint32_t shards = 1; shards <= WALMAP_MAX_SHARDS; shards *= 2) {
    for (size_t i = 0; i < sizeof segments / sizeof *segments; i++) {
      walmap_options options = defaults();
      options.shards = shards;
      options.first_segment = segments[i];
      options.capacity = capacities[i % 4];
      options.auto_compact = i % 2 ? 1 : 99;
      walmap *map = open_with(options);
      for (int k = 0; k < 300; k++)
        assert_int_equal(walmap_set(map, &k, sizeof k, &k, sizeof k), WALMAP_OK);
      assert_int_equal(walmap_len(map), 300);
      walmap_close(map);
    }
  }
  /* A hint beyond all memory must not harm: the map opens, or says that it can't. */
  walmap_options options = defaults();
  options.capacity = UINT64_MAX;
  walmap *map = NULL;
  int result = walmap_open(&options, &map);
  assert_true(result == WALMAP_OK || result == WALMAP_NOMEM || result == WALMAP_INVALID);
  if (result == WALMAP_OK)
    walmap_close(map);
}

typedef struct limited {
  size_t held, most;
} limited;

static void *alloc_limited(void *ctx, size_t size, size_t align) {
  limited *l = ctx;
  void *block = size > l->most - l->held ? NULL : walmap__alloc_aligned(size, align);
  if (block == NULL)
    return NULL;
  l->held += size;
  return block;
}

static void free_limited(void *ctx, void *block, size_t size, size_t align) {
  limited *l = ctx;
  (void)align;
  l->held -= size;
  walmap__free_aligned(block);
}

/* An absurd number of expected entries takes no more memory than the first entries need, or a little more. */
static void capacity_is_a_hint(void **unused) {
  (void)unused;
  static const uint64_t capacities[] = {10000000, 1000000000, 1000000000000, UINT64_MAX};
  static const size_t megabytes[] = {4, 7, 12, 200};
  enum { KEYS = 1000 };
  for (size_t i = 0; i < 4 * 4; i++) {
    limited l = {0, megabytes[i % 4] << 20};
    walmap_options options = defaults();
    options.shards = 1 << i % 3;
    options.capacity = capacities[i / 4];
    options.allocator = (walmap_allocator){alloc_limited, free_limited, &l};
    walmap *map = open_with(options);
    assert_true(walmap_memory(map) < 32 * 1024); /* nothing is taken before the first write */
    for (uint32_t k = 0; k < KEYS; k++)
      assert_int_equal(walmap_set(map, &k, sizeof k, &k, sizeof k), WALMAP_OK);
    assert_int_equal(walmap_len(map), KEYS);
    assert_int_equal(walmap_verify(map, NULL, NULL), WALMAP_OK);
    assert_true(walmap_memory(map) < 160 << 20);
    walmap_close(map);
    assert_int_equal(l.held, 0);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(versions_and_texts), cmocka_unit_test(options_default),    cmocka_unit_test(options_refused),
      cmocka_unit_test(options_allowed),    cmocka_unit_test(capacity_is_a_hint),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
