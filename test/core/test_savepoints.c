/* test_savepoints.c - savepoints that undo too much or too little: nested, marked again, missing below, any number */
#include "../common/txn_kit.h"

#include <limits.h>

static void savepoints(void **unused) {
  (void)unused;
  struct fixture f = fixture_new(16);
  assert_int_equal(walmap_set(f.map, "k", 1, "0", 1), WALMAP_OK);
  walmap_txn_begin(f.txn);
  assert_int_equal(set(f.txn, "k", "1"), WALMAP_OK);
  walmap_txn_savepoint(f.txn, 0); /* level 0: "1" */
  assert_int_equal(set(f.txn, "k", "2"), WALMAP_OK);
  assert_int_equal(set(f.txn, "l", "2"), WALMAP_OK);
  walmap_txn_savepoint(f.txn, 1); /* level 1: "2" */
  assert_int_equal(remove_key(f.txn, "k"), WALMAP_OK);
  assert_int_equal(set(f.txn, "m", "3"), WALMAP_OK);

  walmap_txn_rollback_to(f.txn, 1);
  assert_string_equal(get(f.txn, "k"), "2");
  assert_string_equal(get(f.txn, "l"), "2");
  assert_string_equal(get(f.txn, "m"), "-");
  assert_int_equal(walmap_txn_len(f.txn), 2);
  assert_int_equal(set(f.txn, "k", "4"), WALMAP_OK); /* the level is kept: again */
  walmap_txn_rollback_to(f.txn, 1);
  assert_string_equal(get(f.txn, "k"), "2");

  walmap_txn_release(f.txn, 1); /* keeps the changes */
  assert_string_equal(get(f.txn, "k"), "2");
  assert_int_equal(set(f.txn, "k", "5"), WALMAP_OK);
  walmap_txn_rollback_to(f.txn, 1); /* not held any more: nothing to undo */
  assert_string_equal(get(f.txn, "k"), "5");
  walmap_txn_rollback_to(f.txn, 0);
  assert_string_equal(get(f.txn, "k"), "1");
  assert_string_equal(get(f.txn, "l"), "-");
  assert_int_equal(set(f.txn, "n", "6"), WALMAP_OK);
  walmap_txn_commit(f.txn);
  assert_string_equal(committed(f.map, "k"), "1");
  assert_string_equal(committed(f.map, "l"), "-");
  assert_string_equal(committed(f.map, "n"), "6");
  assert_int_equal(walmap_len(f.map), 2);
  fixture_free(&f);
}

static void savepoint_marked_again(void **unused) {
  (void)unused;
  struct fixture f = fixture_new(2);
  walmap_txn_begin(f.txn);
  for (int level = 0; level < 5; level++) { /* level n: value n */
    char value[2] = {(char)('0' + level), 0};
    assert_int_equal(set(f.txn, "k", value), WALMAP_OK);
    walmap_txn_savepoint(f.txn, level);
  }
  assert_int_equal(set(f.txn, "k", "x"), WALMAP_OK);
  walmap_txn_savepoint(f.txn, 2); /* drops 2, 3, 4, and marks 2 anew */
  assert_int_equal(set(f.txn, "k", "y"), WALMAP_OK);
  walmap_txn_rollback_to(f.txn, 4);
  assert_string_equal(get(f.txn, "k"), "y");
  walmap_txn_rollback_to(f.txn, 3);
  assert_string_equal(get(f.txn, "k"), "y");
  walmap_txn_rollback_to(f.txn, 2);
  assert_string_equal(get(f.txn, "k"), "x");
  walmap_txn_rollback_to(f.txn, 1);
  assert_string_equal(get(f.txn, "k"), "1");
  walmap_txn_rollback_to(f.txn, 2); /* dropped by the rollback to 1 */
  assert_string_equal(get(f.txn, "k"), "1");
  walmap_txn_rollback_to(f.txn, 0);
  assert_string_equal(get(f.txn, "k"), "0");
  walmap_txn_rollback(f.txn);
  assert_string_equal(committed(f.map, "k"), "-");
  fixture_free(&f);
}

/* SQLite marks level 3 in a table that it touches for the first time when three savepoints are open already. */
static void savepoints_missing_below(void **unused) {
  (void)unused;
  struct fixture f = fixture_new(16);
  assert_int_equal(walmap_set(f.map, "k", 1, "0", 1), WALMAP_OK);
  walmap_txn_begin(f.txn);
  walmap_txn_savepoint(f.txn, 3);
  assert_int_equal(set(f.txn, "k", "1"), WALMAP_OK);
  walmap_txn_savepoint(f.txn, 5); /* 4 is missing: it is marked as well */
  assert_int_equal(set(f.txn, "k", "2"), WALMAP_OK);
  walmap_txn_rollback_to(f.txn, 5);
  assert_string_equal(get(f.txn, "k"), "1");
  assert_int_equal(set(f.txn, "k", "2"), WALMAP_OK);
  walmap_txn_rollback_to(f.txn, 4);
  assert_string_equal(get(f.txn, "k"), "1");
  walmap_txn_rollback_to(f.txn, 1); /* marked with level 3, before the first change */
  assert_string_equal(get(f.txn, "k"), "0");
  assert_int_equal(set(f.txn, "k", "4"), WALMAP_OK);
  walmap_txn_release(f.txn, 1);
  walmap_txn_rollback_to(f.txn, 0);
  assert_string_equal(get(f.txn, "k"), "0");
  walmap_txn_rollback(f.txn);

  /* Only what is missing is marked: level 0 keeps what it was marked with */
  walmap_txn_begin(f.txn);
  assert_int_equal(set(f.txn, "k", "5"), WALMAP_OK);
  walmap_txn_savepoint(f.txn, 0);
  assert_int_equal(set(f.txn, "k", "6"), WALMAP_OK);
  walmap_txn_savepoint(f.txn, 2);
  assert_int_equal(set(f.txn, "k", "7"), WALMAP_OK);
  walmap_txn_rollback_to(f.txn, 1);
  assert_string_equal(get(f.txn, "k"), "6");
  walmap_txn_rollback_to(f.txn, 0);
  assert_string_equal(get(f.txn, "k"), "5");
  walmap_txn_commit(f.txn);
  assert_string_equal(committed(f.map, "k"), "5");
  fixture_free(&f);
}

static void rollback_to_begin(void **unused) {
  (void)unused;
  struct fixture f = fixture_new(16);
  assert_int_equal(walmap_set(f.map, "k", 1, "0", 1), WALMAP_OK);
  walmap_txn_begin(f.txn);
  walmap_txn_rollback_to(f.txn, -1); /* nothing to undo yet */
  walmap_txn_rollback_to(f.txn, 7);
  walmap_txn_release(f.txn, 7);
  walmap_txn_release(f.txn, 0);
  assert_int_equal(set(f.txn, "k", "1"), WALMAP_OK);
  walmap_txn_savepoint(f.txn, 0);
  assert_int_equal(set(f.txn, "k", "2"), WALMAP_OK);
  walmap_txn_rollback_to(f.txn, -1);
  assert_string_equal(get(f.txn, "k"), "0");
  assert_true(walmap_txn_is_begun(f.txn));
  assert_int_equal(set(f.txn, "k", "3"), WALMAP_OK);
  walmap_txn_rollback_to(f.txn, 0); /* level 0 was dropped: nothing to undo */
  assert_string_equal(get(f.txn, "k"), "3");
  walmap_txn_commit(f.txn);
  assert_string_equal(committed(f.map, "k"), "3");

  walmap_txn_begin(f.txn);
  assert_int_equal(set(f.txn, "l", "1"), WALMAP_OK);
  walmap_txn_rollback_to(f.txn, -1);
  walmap_txn_savepoint(f.txn, 0);
  assert_int_equal(set(f.txn, "m", "1"), WALMAP_OK);
  walmap_txn_release(f.txn, 0);
  walmap_txn_commit(f.txn);
  assert_string_equal(committed(f.map, "l"), "-");
  assert_string_equal(committed(f.map, "m"), "1");
  fixture_free(&f);
}

static void release_of_several(void **unused) {
  (void)unused;
  struct fixture f = fixture_new(1);
  walmap_txn_begin(f.txn);
  for (int level = 0; level < 100; level++) {
    char value[12];
    snprintf(value, sizeof value, "%d", level);
    walmap_txn_savepoint(f.txn, level);
    assert_int_equal(set(f.txn, "k", value), WALMAP_OK);
    assert_int_equal(set(f.txn, value, "v"), WALMAP_OK);
  }
  walmap_txn_release(f.txn, 10);
  assert_string_equal(get(f.txn, "k"), "99");
  assert_int_equal(walmap_txn_len(f.txn), 101);
  walmap_txn_rollback_to(f.txn, 50);
  assert_string_equal(get(f.txn, "k"), "99");
  walmap_txn_rollback_to(f.txn, 9);
  assert_string_equal(get(f.txn, "k"), "8");
  assert_int_equal(walmap_txn_len(f.txn), 10);
  walmap_txn_release(f.txn, 0);
  walmap_txn_commit(f.txn);
  assert_string_equal(committed(f.map, "k"), "8");
  assert_int_equal(walmap_len(f.map), 10);
  fixture_free(&f);
}

/* The greatest number is one like any other; and what marks a level of its own within a call has one above it. */
static void savepoint_of_the_greatest_number(void **unused) {
  (void)unused;
  struct fixture f = fixture_new(1);
  walmap_txn_begin(f.txn);
  assert_int_equal(set(f.txn, "k", "1"), WALMAP_OK);
  walmap_txn_savepoint(f.txn, INT_MAX);
  assert_int_equal(set(f.txn, "k", "2"), WALMAP_OK);
  assert_int_equal(walmap_txn_apply(f.txn, "no changes", 10, NULL, NULL, NULL, NULL), WALMAP_CORRUPT);
  void *position, *changes;
  size_t size, changes_size;
  walmap_state *state;
  assert_int_equal(walmap_state_new(f.map, &state), WALMAP_OK);
  assert_int_equal(walmap_state_begin(state), WALMAP_OK);
  assert_int_equal(walmap_state_position(state, &position, &size), WALMAP_OK);
  assert_int_equal(walmap_state_changes(state, position, size, &changes, &changes_size, NULL), WALMAP_OK);
  assert_int_equal(walmap_txn_apply(f.txn, changes, changes_size, NULL, NULL, NULL, NULL), WALMAP_OK);
  walmap_image_free(position);
  walmap_image_free(changes);
  walmap_state_free(state);
  assert_string_equal(get(f.txn, "k"), "2");
  walmap_txn_rollback_to(f.txn, INT_MAX);
  assert_string_equal(get(f.txn, "k"), "1");
  assert_int_equal(set(f.txn, "k", "3"), WALMAP_OK);
  walmap_txn_release(f.txn, INT_MAX);
  assert_string_equal(get(f.txn, "k"), "3");
  walmap_txn_savepoint(f.txn, 0);
  assert_int_equal(set(f.txn, "k", "4"), WALMAP_OK);
  walmap_txn_rollback_to(f.txn, 0);
  assert_string_equal(get(f.txn, "k"), "3");
  walmap_txn_commit(f.txn);
  fixture_free(&f);
}

/* Many keys under nested savepoints, against a model; more than one segment of each shard takes part. */
static void savepoints_over_many_keys(void **unused) {
  (void)unused;
  universe *u = universe_new(1000, 0);
  uint32_t *content = calloc(6 * u->n, sizeof *content), *at[5], version = 0;
  assert_non_null(content);
  for (int i = 0; i < 5; i++)
    at[i] = content + (size_t)(i + 1) * u->n;
  struct fixture f = fixture_new(16);
  walmap_txn_begin(f.txn);
  for (int level = 0; level < 5; level++) {
    memcpy(at[level], content, u->n * sizeof *content);
    walmap_txn_savepoint(f.txn, level);
    for (uint32_t i = 0; i < 2 * u->n; i++) {
      uint32_t key = (uint32_t)(mix(++version) % u->n);
      bytes k = u->keys[key];
      if (version % 5 == 0) {
        assert_int_equal(walmap_txn_remove(f.txn, k.at, k.len), content[key] ? WALMAP_OK : WALMAP_NOTFOUND);
        content[key] = 0;
      } else {
        bytes v = value_bytes(u, content[key] = version);
        assert_int_equal(walmap_txn_set(f.txn, k.at, k.len, v.at, v.len), WALMAP_OK);
      }
    }
    assert_int_equal(walmap_txn_len(f.txn), content_count(u, content));
  }
  walmap_state *state;
  assert_int_equal(walmap_state_new(f.map, &state), WALMAP_OK);
  assert_int_equal(walmap_txn_state_begin(f.txn, state), WALMAP_OK);
  must_equal(u, state, content);
  walmap_state_end(state);
  for (int level = 4; level >= 0; level -= 2) {
    walmap_txn_rollback_to(f.txn, level);
    assert_int_equal(walmap_txn_len(f.txn), content_count(u, at[level]));
    assert_int_equal(walmap_txn_state_begin(f.txn, state), WALMAP_OK);
    must_equal(u, state, at[level]);
    walmap_state_end(state);
    if (level == 2)
      break;
  }
  walmap_txn_commit(f.txn);
  must_hold(u, f.map, at[2]);
  walmap_state_free(state);
  fixture_free(&f);
  free(content);
  universe_free(u);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(savepoints),
      cmocka_unit_test(savepoint_marked_again),
      cmocka_unit_test(savepoints_missing_below),
      cmocka_unit_test(rollback_to_begin),
      cmocka_unit_test(release_of_several),
      cmocka_unit_test(savepoint_of_the_greatest_number),
      cmocka_unit_test(savepoints_over_many_keys),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
