/*
** test_interrupt.c - long work that is not ended by its interrupt callback, asks for it too seldom, or leaves damage
**
** A map of 8 MiB. Each call is interrupted when it asks for the first, second ... time, until it runs through; it has
** asked at least once for every 2 MiB then. After each interrupt the map is sound, and as it was.
*/
#include "../common/support.h"

enum { ENTRIES = 64 << 10, VALUE = 112 };

static int asked, answer_at;

static bool interrupt(void *ctx) {
  (void)ctx;
  return ++asked == answer_at;
}

static walmap *full_map(bool ordered) {
  walmap *map;
  walmap_options options;
  options_init(&options);
  options.shards = 4;
  options.auto_compact = 0;
  options.ordered = ordered;
  options.max_entries = ENTRIES;
  MUST_OK(walmap_open(&options, &map));
  char value[VALUE] = {1};
  for (uint32_t i = 0; i < ENTRIES; i++) {
    memcpy(value, &i, sizeof i);
    MUST_OK(walmap_set(map, &i, sizeof i, value, sizeof value));
  }
  return map;
}

typedef struct world {
  walmap *map;
  walmap_state *state;
  walmap_session *session;
  walmap_txn *txn;
  void *image, *position;
  size_t image_size, position_size;
  size_t read; /* bytes of the image */
} world;

static int make_image(world *w) {
  void *image;
  size_t size;
  int result = walmap_state_image(w->state, &image, &size);
  if (result == WALMAP_OK)
    walmap_image_free(image);
  return result;
}

static int ignore_piece(void *ctx, const void *data, size_t size) {
  (void)ctx, (void)data, (void)size;
  return 0;
}

static int write_image(world *w) { return walmap_state_write(w->state, ignore_piece, NULL); }

static int stream_image(world *w) {
  static uint8_t buffer[1 << 20];
  walmap_image_stream *stream;
  size_t got = 1;
  MUST_OK(walmap_image_stream_new(w->state, &stream));
  int result = WALMAP_OK;
  while (result == WALMAP_OK && got > 0)
    result = walmap_image_stream_read(stream, buffer, sizeof buffer, &got);
  walmap_image_stream_free(stream);
  return result;
}

static int make_changes(world *w) {
  void *changes;
  size_t size;
  int result = walmap_state_changes(w->state, w->position, w->position_size, &changes, &size, NULL);
  if (result == WALMAP_OK)
    walmap_image_free(changes);
  return result;
}

/* What was restored is undone, so that it is as before every time. */
static int undone(world *w, int result) {
  walmap_txn_rollback(w->txn);
  return result;
}

static int restore(world *w) {
  walmap_txn_begin(w->txn);
  return undone(w, walmap_txn_restore(w->txn, w->image, w->image_size, NULL, NULL, NULL, NULL));
}

static ptrdiff_t read_image(void *ctx, void *buffer, size_t size) {
  world *w = ctx;
  size_t n = w->image_size - w->read < size ? w->image_size - w->read : size;
  memcpy(buffer, (const uint8_t *)w->image + w->read, n);
  w->read += n;
  return (ptrdiff_t)n;
}

static int restore_read(world *w) {
  w->read = 0;
  walmap_txn_begin(w->txn);
  return undone(w, walmap_txn_restore_read(w->txn, read_image, w, NULL, NULL, NULL, NULL));
}

/* Half of the entries die first, so that there is something to do. */
static int compact(world *w) {
  char value[VALUE] = {2};
  for (uint32_t i = 0; i < ENTRIES; i += 2) {
    memcpy(value, &i, sizeof i);
    MUST_OK(walmap_set(w->map, &i, sizeof i, value, sizeof value));
  }
  walmap_state_end(w->state); /* it would keep them */
  walmap_txn_begin(w->txn);
  int result = walmap_compact(w->map, w->txn);
  walmap_txn_rollback(w->txn);
  MUST_OK(walmap_state_begin(w->state));
  return result;
}

/* As many entries again must give way. */
static int evict(world *w) {
  walmap_txn_begin(w->txn);
  for (uint32_t i = ENTRIES; i < 2 * ENTRIES; i++)
    MUST_OK(walmap_txn_set(w->txn, &i, sizeof i, NULL, 0));
  return undone(w, walmap_txn_evict(w->txn, NULL, NULL));
}

/* In a state of the transaction that has no entries, for it has removed all. */
static int look_in_vain(world *w, int (*look)(walmap_state *)) {
  walmap_state *empty;
  MUST_OK(walmap_state_new(w->map, &empty));
  walmap_state_set_interrupt(empty, interrupt, NULL);
  walmap_txn_begin(w->txn);
  for (uint32_t i = 0; i < ENTRIES; i++)
    MUST_OK(walmap_txn_remove(w->txn, &i, sizeof i));
  MUST_OK(walmap_txn_state_begin(w->txn, empty));
  int result = look(empty);
  walmap_state_free(empty);
  return undone(w, result);
}

static int scan_state(walmap_state *state) {
  walmap_cursor cursor;
  walmap_entry entry;
  walmap_cursor_start(&cursor, state);
  assert_false(walmap_cursor_next(&cursor, &entry));
  assert_false(walmap_cursor_next(&cursor, &entry));
  return walmap_cursor_is_interrupted(&cursor) ? WALMAP_INTERRUPT : WALMAP_OK;
}

/* An interrupted cursor has no entry in either direction until the next seek. */
static bool walk_is_interrupted(walmap_ordered_cursor *cursor) {
  walmap_entry entry;
  if (!walmap_ordered_is_interrupted(cursor))
    return false;
  for (int i = 0; i < 4; i++) {
    assert_false(i < 2 ? walmap_ordered_next(cursor, &entry) : walmap_ordered_previous(cursor, &entry));
    assert_true(walmap_ordered_is_interrupted(cursor));
  }
  return true;
}

static int walk_state(walmap_state *state) {
  walmap_ordered_cursor cursor;
  walmap_entry entry;
  walmap_ordered_start(&cursor, state);
  assert_false(walmap_ordered_seek(&cursor, WALMAP_FIRST, NULL, 0, &entry));
  if (walk_is_interrupted(&cursor))
    return WALMAP_INTERRUPT;
  assert_false(walmap_ordered_previous(&cursor, &entry)); /* all the way back */
  return walk_is_interrupted(&cursor) ? WALMAP_INTERRUPT : WALMAP_OK;
}

static int scan(world *w) { return look_in_vain(w, scan_state); }
static int walk(world *w) { return look_in_vain(w, walk_state); }

static void check(world *w) {
  walmap_why why;
  char value[VALUE];
  size_t len;
  if (walmap_verify(w->map, NULL, &why) != WALMAP_OK)
    fail_msg("%s", why.text);
  assert_int_equal(walmap_len(w->map), ENTRIES);
  for (uint32_t i = 0; i < ENTRIES; i += 97) {
    MUST_OK(walmap_get(w->map, &i, sizeof i, value, sizeof value, &len));
    assert_memory_equal(value, &i, sizeof i);
  }
}

static void sweep(bool ordered, int (*work)(world *), int least) {
  world w = {.map = full_map(ordered)};
  MUST_OK(walmap_state_new(w.map, &w.state));
  MUST_OK(walmap_state_begin(w.state));
  MUST_OK(walmap_state_image(w.state, &w.image, &w.image_size));
  MUST_OK(walmap_state_position(w.state, &w.position, &w.position_size)); /* from which on all is written once more */
  walmap_state_end(w.state);
  for (uint32_t i = 0; i < ENTRIES; i++) {
    char value[VALUE] = {3};
    memcpy(value, &i, sizeof i);
    MUST_OK(walmap_set(w.map, &i, sizeof i, value, sizeof value));
  }
  MUST_OK(walmap_state_begin(w.state));
  walmap_state_set_interrupt(w.state, interrupt, NULL);
  MUST_OK(walmap_session_new(interrupt, NULL, &w.session));
  MUST_OK(walmap_txn_new(w.map, w.session, &w.txn));
  int result = WALMAP_INTERRUPT;
  for (answer_at = 1; result == WALMAP_INTERRUPT; answer_at++) {
    asked = 0;
    result = work(&w);
    assert_true(result == WALMAP_INTERRUPT || result == WALMAP_OK);
    assert_int_equal(result == WALMAP_INTERRUPT, asked == answer_at);
    check(&w);
  }
  assert_true(answer_at - 2 >= least);
  walmap_txn_free(w.txn);
  walmap_session_free(w.session);
  walmap_state_free(w.state);
  walmap_image_free(w.image);
  walmap_image_free(w.position);
  walmap_close(w.map);
}

static void test_image(void **unused) { (void)unused, sweep(false, make_image, 4); }
static void test_write(void **unused) { (void)unused, sweep(false, write_image, 4); }
static void test_stream(void **unused) { (void)unused, sweep(false, stream_image, 4); }
static void test_changes(void **unused) { (void)unused, sweep(false, make_changes, 4); }
static void test_restore_read(void **unused) { (void)unused, sweep(false, restore_read, 4); }
static void test_restore_ordered(void **unused) { (void)unused, sweep(true, restore_read, 8); }
static void test_compact(void **unused) { (void)unused, sweep(false, compact, 1); }
static void test_evict(void **unused) { (void)unused, sweep(false, evict, 8); }
static void test_scan(void **unused) { (void)unused, sweep(false, scan, 4); }
static void test_walk(void **unused) { (void)unused, sweep(true, walk, 8); }

/* Several threads may do the work, of which the caller's alone asks: so often, or not at all. */
static void test_restore(void **unused) { (void)unused, sweep(false, restore, 0); }

/* A count has no result that could say that it was interrupted. It walks once two commits have followed the state. */
static void test_count(void **unused) {
  (void)unused;
  enum { LEFT = 10 };
  walmap *map = full_map(false);
  walmap_state *state;
  for (uint32_t i = 0; i < ENTRIES; i++)
    MUST_OK(walmap_remove(map, &i, sizeof i));
  for (uint32_t i = 0; i < LEFT; i++)
    MUST_OK(walmap_set(map, &i, sizeof i, NULL, 0));
  MUST_OK(walmap_state_new(map, &state));
  MUST_OK(walmap_state_begin(state));
  for (uint32_t i = LEFT; i < 100; i++)
    MUST_OK(walmap_set(map, &i, sizeof i, NULL, 0));
  walmap_state_set_interrupt(state, interrupt, NULL);
  asked = 0;
  answer_at = 1;
  assert_int_equal(walmap_state_len(state), LEFT);
  assert_int_equal(asked, 0);
  walmap_state_free(state);
  walmap_close(map);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_image),
      cmocka_unit_test(test_write),
      cmocka_unit_test(test_stream),
      cmocka_unit_test(test_changes),
      cmocka_unit_test(test_restore),
      cmocka_unit_test(test_restore_read),
      cmocka_unit_test(test_restore_ordered),
      cmocka_unit_test(test_compact),
      cmocka_unit_test(test_evict),
      cmocka_unit_test(test_scan),
      cmocka_unit_test(test_walk),
      cmocka_unit_test(test_count),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
