/*
** test_restore_threads.c - a large image in memory that several threads restore otherwise than one would: not whole,
** not refused whole, with another error than the image's first, or by more threads than there are processors
*/
#define _GNU_SOURCE
#include "../common/support.h"

#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

enum { N = 100000, VALUE = 40 }; /* 5 MB: worth several threads, and 20 chunks */

static size_t write_value(char *to, uint32_t key, uint32_t round) {
  memset(to, (int)(key + round) & 0xff, VALUE);
  return VALUE - key % 8;
}

static void *large_image(size_t *size) {
  char value[VALUE];
  walmap_image_builder *builder;
  void *image;
  MUST_OK(walmap_image_builder_new(0, &builder));
  for (uint32_t i = 0; i < N; i++) {
    size_t len = write_value(value, i, 0);
    MUST_OK(walmap_image_builder_add(builder, &(walmap_entry){&i, sizeof i, value, len}));
  }
  MUST_OK(walmap_image_builder_finish(builder, &image, size));
  return image;
}

static int processors(void) {
  cpu_set_t all;
  MUST(sched_getaffinity(0, sizeof all, &all) == 0);
  return CPU_COUNT(&all);
}

/* Who calls the check: the thread that restores, or another one. */
typedef struct callers {
  pthread_t restorer;
  atomic_uint own, others;
  bool wait;           /* the restorer goes on when another has called, or after a while */
  uint32_t refused[2]; /* keys; N: none */
} callers;

static const char *note_caller(void *ctx, const walmap_entry *entry) {
  callers *c = ctx;
  uint32_t key;
  memcpy(&key, entry->key, sizeof key);
  bool own = pthread_equal(pthread_self(), c->restorer);
  atomic_fetch_add(own ? &c->own : &c->others, 1);
  for (int ms = 0; own && c->wait && atomic_load(&c->others) == 0 && ms < 20000; ms++)
    sleep_ms(1);
  return key == c->refused[0] || key == c->refused[1] ? "not this one" : NULL;
}

static callers callers_new(uint32_t refused, uint32_t refused_too) {
  return (callers){.restorer = pthread_self(), .wait = processors() > 1, .refused = {refused, refused_too}};
}

static int restore(walmap *map, const void *image, size_t size, callers *c, walmap_why *why) {
  walmap_session *session;
  walmap_txn *txn;
  MUST_OK(walmap_session_new(NULL, NULL, &session));
  MUST_OK(walmap_txn_new(map, session, &txn));
  walmap_txn_begin(txn);
  int result = walmap_txn_restore(txn, image, size, note_caller, c, NULL, why);
  walmap_txn_commit(txn);
  walmap_txn_free(txn);
  walmap_session_free(session);
  return result;
}

static walmap *open_map(uint32_t shards) {
  walmap_options options;
  walmap *map;
  walmap_options_init(&options);
  options.shards = shards;
  MUST_OK(walmap_open(&options, &map));
  return map;
}

/* Keys below `changed` have another value, those from `kept` on are gone. */
static void check_content(walmap *map, uint32_t changed, uint32_t kept) {
  char value[VALUE], expected[VALUE];
  size_t len;
  walmap_why why;
  MUST_OK(walmap_verify(map, NULL, &why));
  assert_int_equal(walmap_len(map), kept);
  for (uint32_t i = 0; i < N; i++) {
    size_t expected_len = write_value(expected, i, i < changed);
    MUST_RESULT(walmap_get(map, &i, sizeof i, value, sizeof value, &len), i < kept ? WALMAP_OK : WALMAP_NOTFOUND);
    if (i < kept) {
      assert_int_equal(len, expected_len);
      assert_memory_equal(value, expected, len);
    }
  }
}

/* The check has seen every entry once, and the map has them all. */
static void check_whole(const void *image, size_t size, callers *c) {
  walmap *map = open_map(0);
  walmap_why why;
  MUST_OK(restore(map, image, size, c, &why));
  assert_int_equal(c->own + c->others, N);
  check_content(map, 0, N);
  walmap_close(map);
}

static void test_one_processor_one_thread(void **unused) {
  (void)unused;
  cpu_set_t all, one;
  size_t size;
  void *image = large_image(&size);
  callers free_to = callers_new(N, N), alone = free_to;
  MUST(sched_getaffinity(0, sizeof all, &all) == 0);
  check_whole(image, size, &free_to);
  assert_int_equal(free_to.others > 0, CPU_COUNT(&all) > 1);

  CPU_ZERO(&one);
  for (int cpu = 0; cpu < CPU_SETSIZE && CPU_COUNT(&one) == 0; cpu++) {
    if (CPU_ISSET(cpu, &all))
      CPU_SET(cpu, &one);
  }
  MUST(sched_setaffinity(0, sizeof one, &one) == 0);
  alone.wait = false;
  check_whole(image, size, &alone);
  assert_int_equal(alone.others, 0);
  MUST(sched_setaffinity(0, sizeof all, &all) == 0);
  walmap_image_free(image);
}

/* What several threads have built is a map like any other: it is overwritten, removed from, compacted, gives images. */
static void test_restored_map_lives_on(void **unused) {
  (void)unused;
  static const uint32_t shards[] = {1, 16, WALMAP_MAX_SHARDS};
  size_t size, again_size;
  void *image = large_image(&size), *again;
  char value[VALUE];
  for (size_t s = 0; s < sizeof shards / sizeof shards[0]; s++) {
    walmap *map = open_map(shards[s]), *other = open_map(0);
    callers c = callers_new(N, N);
    walmap_why why;
    MUST_OK(walmap_set(map, "own", 3, "content", 7));
    MUST_OK(restore(map, image, size, &c, &why));
    check_content(map, 0, N);
    for (uint32_t i = 0; i < N / 2; i++) {
      size_t len = write_value(value, i, 1);
      MUST_OK(walmap_set(map, &i, sizeof i, value, len));
    }
    for (uint32_t i = N / 4 * 3; i < N; i++)
      MUST_OK(walmap_remove(map, &i, sizeof i));
    check_content(map, N / 2, N / 4 * 3);
    MUST_OK(walmap_compact(map, NULL));
    check_content(map, N / 2, N / 4 * 3);
    MUST_OK(walmap_snapshot(map, &again, &again_size));
    MUST_OK(walmap_restore(other, again, again_size, NULL, &why));
    check_content(other, N / 2, N / 4 * 3);
    walmap_image_free(again);
    walmap_close(other);
    walmap_close(map);
  }
  walmap_image_free(image);
}

/* Refused with this text, and nothing of the image is taken. */
static void assert_refused(const void *image, size_t size, callers *c, const char *text) {
  walmap *map = open_map(0);
  walmap_why why;
  MUST_OK(walmap_set(map, "own", 3, "content", 7));
  assert_int_equal(restore(map, image, size, c, &why), WALMAP_CORRUPT);
  assert_string_equal(why.text, text);
  assert_int_equal(walmap_len(map), 1);
  walmap_close(map);
}

/* Whichever threads meet two entries that are refused, in which order: the first in the image is named. */
static void test_first_error_is_told(void **unused) {
  (void)unused;
  size_t size;
  void *image = large_image(&size);
  for (uint32_t first = 0; first + 5000 < N; first += 7919) {
    char text[64];
    snprintf(text, sizeof text, "image refused: entry %u: not this one", first + 1);
    for (uint32_t apart = 1; first + apart < N; apart *= 17) {
      callers c = callers_new(first + apart, first);
      assert_refused(image, size, &c, text);
    }
  }
  walmap_image_free(image);
}

/* A damaged chunk behind an entry that is refused is not told of, and the other way round. */
static void test_damage_is_told_in_order(void **unused) {
  (void)unused;
  size_t size;
  uint8_t *image = large_image(&size);
  image[size / 2] ^= 1;
  callers before = callers_new(N / 8, N), after = callers_new(N - 1, N);
  walmap *map = open_map(0);
  walmap_why why;
  char text[64];
  snprintf(text, sizeof text, "image refused: entry %d: not this one", N / 8 + 1);
  assert_refused(image, size, &before, text);
  assert_int_equal(restore(map, image, size, &after, &why), WALMAP_CORRUPT);
  assert_non_null(strstr(why.text, "a chunk's checksum is wrong"));
  walmap_close(map);
  walmap_image_free(image);
}

/* A key that comes again in a chunk that perhaps another thread has. */
static void test_key_that_comes_twice(void **unused) {
  (void)unused;
  for (uint32_t again = 1; again < N; again *= 7) {
    walmap_image_builder *builder;
    char value[VALUE];
    void *image;
    size_t size;
    uint64_t number = 0;
    MUST_OK(walmap_image_builder_new(0, &builder));
    for (uint32_t i = 0; i < N; i++) {
      uint32_t key = i == again ? 0 : i;
      size_t len = write_value(value, i, 0);
      MUST_OK(walmap_image_builder_add(builder, &(walmap_entry){&key, sizeof key, value, len}));
    }
    MUST_OK(walmap_image_builder_finish(builder, &image, &size));
    callers c = callers_new(N, N);
    walmap *map = open_map(0);
    walmap_why why;
    assert_int_equal(restore(map, image, size, &c, &why), WALMAP_CORRUPT);
    assert_int_equal(sscanf(why.text, "image refused: entry %" SCNu64 ": its key appears twice", &number), 1);
    assert_true(number == 1 || number == again + 1u); /* the one that came later */
    assert_int_equal(walmap_len(map), 0);
    walmap_close(map);
    walmap_image_free(image);
  }
}

int main(void) {
  static const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_one_processor_one_thread), cmocka_unit_test(test_restored_map_lives_on),
      cmocka_unit_test(test_first_error_is_told),      cmocka_unit_test(test_damage_is_told_in_order),
      cmocka_unit_test(test_key_that_comes_twice),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
