/* test_state.c - states that change under their reader, on one thread: lookups, many at once, cursors, many states */
#include "../common/map_kit.h"

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

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(state_stays),
      cmocka_unit_test(get_many),
      cmocka_unit_test(cursors),
      cmocka_unit_test(many_states),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
