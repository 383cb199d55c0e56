/*
** test_restore_threads.c - a large image in memory is restored by several threads, but by none of which no processor is
** free for; whoever restores it, it is whole, or refused whole
*/
#define _GNU_SOURCE
#include "support.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

enum { N = 20000, VALUE = 2000 }; /* 40 MB: worth several threads */

static void *large_image(size_t *size) {
  static char value[VALUE];
  walmap *map;
  void *image;
  MUST_OK(walmap_open(NULL, &map));
  for (uint32_t i = 0; i < N; i++) {
    memcpy(value, &i, sizeof i);
    MUST_OK(walmap_set(map, &i, sizeof i, value, sizeof value));
  }
  MUST_OK(walmap_snapshot(map, &image, size));
  walmap_close(map);
  return image;
}

/* Who calls the check: the thread that restores, or another one. */
typedef struct callers {
  pthread_t restorer;
  atomic_uint own, others;
  uint32_t refused; /* this key, or N: none */
} callers;

static const char *note_caller(void *ctx, const walmap_entry *entry) {
  callers *c = ctx;
  uint32_t key;
  memcpy(&key, entry->key, sizeof key);
  atomic_fetch_add(pthread_equal(pthread_self(), c->restorer) ? &c->own : &c->others, 1);
  return key == c->refused ? "not this one" : NULL;
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

/* The check has seen every entry once, and the map has them all. */
static void check_whole(const void *image, size_t size, callers *c) {
  walmap *map;
  char value[VALUE];
  size_t len;
  walmap_why why;
  MUST_OK(walmap_open(NULL, &map));
  MUST_OK(restore(map, image, size, c, &why));
  assert_int_equal(c->own + c->others, N);
  assert_int_equal(walmap_len(map), N);
  for (uint32_t i = 0; i < N; i++) {
    MUST_OK(walmap_get(map, &i, sizeof i, value, sizeof value, &len));
    assert_int_equal(len, VALUE);
    assert_memory_equal(value, &i, sizeof i);
  }
  walmap_close(map);
}

static void test_one_processor_one_thread(void **unused) {
  (void)unused;
  cpu_set_t all, one;
  size_t size;
  void *image = large_image(&size);
  callers alone = {.restorer = pthread_self(), .refused = N}, free_to = alone;
  MUST(sched_getaffinity(0, sizeof all, &all) == 0);
  check_whole(image, size, &free_to);
  assert_int_equal(free_to.others > 0, CPU_COUNT(&all) > 1);

  CPU_ZERO(&one);
  for (int cpu = 0; cpu < CPU_SETSIZE && CPU_COUNT(&one) == 0; cpu++) {
    if (CPU_ISSET(cpu, &all))
      CPU_SET(cpu, &one);
  }
  MUST(sched_setaffinity(0, sizeof one, &one) == 0);
  check_whole(image, size, &alone);
  assert_int_equal(alone.others, 0);
  MUST(sched_setaffinity(0, sizeof all, &all) == 0);
  walmap_image_free(image);
}

/* Whichever thread meets the entry that is refused: nothing of the image is taken. */
static void test_refused_by_one_of_them(void **unused) {
  (void)unused;
  size_t size;
  void *image = large_image(&size);
  walmap *map;
  MUST_OK(walmap_open(NULL, &map));
  MUST_OK(walmap_set(map, "own", 3, "content", 7));
  for (uint32_t key = 0; key < 8; key++) {
    callers c = {.restorer = pthread_self(), .refused = key};
    walmap_why why;
    assert_int_equal(restore(map, image, size, &c, &why), WALMAP_CORRUPT);
    assert_non_null(strstr(why.text, "not this one"));
    assert_int_equal(walmap_len(map), 1);
  }
  walmap_close(map);
  walmap_image_free(image);
}

int main(void) {
  static const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_one_processor_one_thread),
      cmocka_unit_test(test_refused_by_one_of_them),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
