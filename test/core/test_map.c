/*
** test_map.c - every public call of walmap.h by itself, on one thread: results, edges of lengths and options,
** collisions
**
** Transactions have test_txn.c, images test_image.c, failing allocations test_oom.c, threads test_threads.c.
*/
#include "../common/model.h"
#include "platform/platform.h"

static walmap *open_default(void) {
  walmap *map;
  assert_int_equal(walmap_open(NULL, &map), WALMAP_OK);
  return map;
}

static walmap *open_with(walmap_options options) {
  walmap *map;
  assert_int_equal(walmap_open(&options, &map), WALMAP_OK);
  return map;
}

static walmap_options defaults(void) {
  walmap_options options;
  walmap_options_init(&options);
  return options;
}

static int set(walmap *map, const char *key, const char *value) {
  return walmap_set(map, key, strlen(key), value, strlen(value));
}

static int remove_key(walmap *map, const char *key) { return walmap_remove(map, key, strlen(key)); }

/* The committed value as a C string, NULL when absent. */
static const char *get(walmap *map, const char *key) {
  static char buffer[256];
  size_t len;
  int result = walmap_get(map, key, strlen(key), buffer, sizeof buffer - 1, &len);
  if (result == WALMAP_NOTFOUND)
    return NULL;
  assert_int_equal(result, WALMAP_OK);
  assert_true(len < sizeof buffer);
  buffer[len] = 0;
  return buffer;
}

static walmap_state *state_of(walmap *map) {
  walmap_state *state;
  assert_int_equal(walmap_state_new(map, &state), WALMAP_OK);
  assert_int_equal(walmap_state_begin(state), WALMAP_OK);
  return state;
}

static uint64_t count_by_cursor(walmap_state *state) {
  walmap_cursor cursor;
  walmap_entry entry;
  uint64_t count = 0;
  for (walmap_cursor_start(&cursor, state); walmap_cursor_next(&cursor, &entry);)
    count++;
  return count;
}

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
  assert_int_equal(count_by_cursor(state), 0);
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
/* Hash functions                                                                                                     */

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
static uint32_t first_bytes(const void *key, size_t len) {
  uint32_t word = 0;
  memcpy(&word, key, len < 4 ? len : 4);
  return word;
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

/* ------------------------------------------------------------------------------------------------------------------ */
/* Figures                                                                                                            */

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

/* ------------------------------------------------------------------------------------------------------------------ */
/* States and cursors                                                                                                 */

static void state_stays(void **unused) {
  (void)unused;
  universe *u = universe_new(300, 0);
  uint32_t *content = calloc(u->n, sizeof *content), *frozen = calloc(u->n, sizeof *frozen);
  assert_true(content && frozen);
  walmap *map = open_default();
  for (uint32_t k = 0; k < u->n; k += 2) {
    bytes v = value_bytes(u, content[k] = k + 1);
    assert_int_equal(walmap_set(map, u->keys[k].at, u->keys[k].len, v.at, v.len), WALMAP_OK);
  }
  memcpy(frozen, content, u->n * sizeof *content);
  walmap_state *old = state_of(map);
  for (uint32_t step = 1000; step < 6000; step++) {
    uint32_t k = (uint32_t)(mix(step) % u->n);
    if (step % 3 == 0) {
      walmap_remove(map, u->keys[k].at, u->keys[k].len);
      content[k] = 0;
    } else {
      bytes v = value_bytes(u, content[k] = step);
      assert_int_equal(walmap_set(map, u->keys[k].at, u->keys[k].len, v.at, v.len), WALMAP_OK);
    }
    if (step % 500 == 0)
      must_equal(u, old, frozen);
    if (step % 1500 == 0)
      assert_int_equal(walmap_compact(map, NULL), WALMAP_OK);
  }
  must_equal(u, old, frozen);
  must_hold(u, map, content);
  walmap_state_end(old);
  assert_int_equal(walmap_state_begin(old), WALMAP_OK);
  must_equal(u, old, content);
  walmap_state_free(old);
  walmap_close(map);
  free(content);
  free(frozen);
  universe_free(u);
}

static void get_many(void **unused) {
  (void)unused;
  walmap *map = open_default();
  for (uint32_t k = 0; k < 1000; k += 2)
    assert_int_equal(walmap_set(map, &k, 4, &k, 4), WALMAP_OK);
  walmap_state *state = state_of(map);
  assert_int_equal(walmap_state_get_many(state, NULL, 0), 0);
  for (size_t n = 1; n <= 100; n++) {
    uint32_t keys[100];
    walmap_entry entries[100];
    size_t expected = 0;
    for (size_t i = 0; i < n; i++) {
      keys[i] = (uint32_t)(mix(n * 100 + i / 2) % 1000); /* each key twice */
      expected += keys[i] % 2 == 0;
      entries[i] = (walmap_entry){.key = &keys[i], .key_len = 4, .value = "rubbish", .value_len = 7};
    }
    assert_int_equal(walmap_state_get_many(state, entries, n), expected);
    for (size_t i = 0; i < n; i++) {
      if (keys[i] % 2) {
        assert_null(entries[i].key);
        assert_int_equal(entries[i].key_len, 0);
      } else {
        assert_int_equal(entries[i].value_len, 4);
        assert_memory_equal(entries[i].value, &keys[i], 4);
        assert_memory_equal(entries[i].key, &keys[i], 4);
        assert_ptr_not_equal(entries[i].key, &keys[i]);
      }
    }
  }
  walmap_state_free(state);
  walmap_close(map);
}

static void cursors(void **unused) {
  (void)unused;
  walmap *map = open_default();
  uint8_t seen[3000] = {0};
  for (uint32_t k = 0; k < 3000; k++)
    assert_int_equal(walmap_set(map, &k, 4, &k, 4), WALMAP_OK);
  walmap_state *state = state_of(map);
  walmap_cursor a, b;
  walmap_entry x, y;
  walmap_cursor_start(&a, state);
  for (uint32_t i = 0; i < 1500; i++) {
    assert_true(walmap_cursor_next(&a, &x));
    seen[first_bytes(x.key, 4)]++;
  }
  b = a; /* a cursor is a place, so a copy goes on from it */
  while (walmap_cursor_next(&a, &x)) {
    assert_true(walmap_cursor_next(&b, &y));
    assert_ptr_equal(x.key, y.key);
    assert_int_equal(first_bytes(x.value, 4), first_bytes(x.key, 4));
    seen[first_bytes(x.key, 4)]++;
  }
  assert_false(walmap_cursor_next(&b, &y));
  for (uint32_t k = 0; k < 3000; k++)
    assert_int_equal(seen[k], 1);
  walmap_cursor_start(&a, state);
  assert_true(walmap_cursor_next(&a, &x));
  walmap_state_free(state);
  walmap_close(map);
}

static void many_states(void **unused) {
  (void)unused;
  walmap *map = open_default();
  static walmap_state *states[4097];
  char buffer[8];
  size_t len;
  for (int i = 0; i < 4097; i++) {
    assert_int_equal(walmap_state_new(map, &states[i]), WALMAP_OK);
    if (i == 4096)
      break;
    assert_int_equal(walmap_set(map, "k", 1, &i, sizeof i), WALMAP_OK);
    assert_int_equal(walmap_state_begin(states[i]), WALMAP_OK);
  }
  int result = walmap_state_begin(states[4096]);
  assert_true(result == WALMAP_OK || result == WALMAP_NOMEM);
  if (result == WALMAP_OK)
    walmap_state_end(states[4096]);
  result = walmap_get(map, "k", 1, buffer, sizeof buffer, &len);
  assert_true(result == WALMAP_OK || result == WALMAP_NOMEM);
  for (int i = 0; i < 4096; i++) {
    walmap_entry entry;
    assert_int_equal(walmap_state_get(states[i], "k", 1, &entry), WALMAP_OK);
    assert_memory_equal(entry.value, &i, sizeof i);
  }
  walmap_state_end(states[0]);
  assert_int_equal(walmap_get(map, "k", 1, buffer, sizeof buffer, &len), WALMAP_OK);
  assert_int_equal(walmap_state_begin(states[4096]), WALMAP_OK);
  for (int i = 0; i < 4097; i++)
    walmap_state_free(states[i]);
  uint64_t size = walmap_size(map), reclaimable = walmap_reclaimable(map);
  assert_int_equal(walmap_compact(map, NULL), WALMAP_OK);
  assert_int_equal(walmap_size(map), size - reclaimable);
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
      assert_int_equal(count_by_cursor(before), 1);
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
      cmocka_unit_test(versions_and_texts),
      cmocka_unit_test(options_default),
      cmocka_unit_test(options_refused),
      cmocka_unit_test(options_allowed),
      cmocka_unit_test(capacity_is_a_hint),
      cmocka_unit_test(empty_map),
      cmocka_unit_test(set_get_remove),
      cmocka_unit_test(get_with_small_buffer),
      cmocka_unit_test(all_lengths),
      cmocka_unit_test(header_limits),
      cmocka_unit_test(huge_values),
      cmocka_unit_test(too_big),
      cmocka_unit_test(set_if_absent),
      cmocka_unit_test(set_if_and_remove_if),
      cmocka_unit_test(upsert),
      cmocka_unit_test(write_from_state),
      cmocka_unit_test(view),
      cmocka_unit_test(bad_hashes),
      cmocka_unit_test(each_hash),
      cmocka_unit_test(reclaimable_is_exact),
      cmocka_unit_test(memory_is_counted),
      cmocka_unit_test(state_stays),
      cmocka_unit_test(get_many),
      cmocka_unit_test(cursors),
      cmocka_unit_test(many_states),
      cmocka_unit_test(removed_key_stays_removed),
      cmocka_unit_test(restore_across_options),
      cmocka_unit_test(get_of_all_lengths),
      cmocka_unit_test(restore_refused),
      cmocka_unit_test(memory_is_used_well),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
