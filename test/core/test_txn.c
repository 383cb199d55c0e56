/*
** test_txn.c - transactions on one thread: all or nothing, savepoints in detail, ownership, several maps in one session
**
** Several sessions take part in turn; with a busy_timeout of 0 nothing waits. What waits is in test_threads.c.
*/
#include "../common/model.h"
#include "platform/platform.h"

#include <limits.h>

static walmap *open_map(uint32_t shards) {
  walmap_options options;
  options_init(&options);
  options.shards = shards;
  options.busy_timeout = 0;
  walmap *map;
  assert_int_equal(walmap_open(&options, &map), WALMAP_OK);
  return map;
}

struct fixture {
  walmap *map;
  walmap_session *session;
  walmap_txn *txn;
};

static struct fixture fixture_new(uint32_t shards) {
  struct fixture f;
  f.map = open_map(shards);
  assert_int_equal(walmap_session_new(NULL, NULL, &f.session), WALMAP_OK);
  assert_int_equal(walmap_txn_new(f.map, f.session, &f.txn), WALMAP_OK);
  return f;
}

static void fixture_free(struct fixture *f) {
  walmap_txn_free(f->txn);
  walmap_session_free(f->session);
  walmap_close(f->map);
}

static int set(walmap_txn *txn, const char *key, const char *value) {
  return walmap_txn_set(txn, key, strlen(key), value, strlen(value));
}

static int remove_key(walmap_txn *txn, const char *key) { return walmap_txn_remove(txn, key, strlen(key)); }

static const char *text_of(const walmap_entry *entry) {
  static char buffer[64];
  assert_true(entry->value_len < sizeof buffer);
  memcpy(buffer, entry->value, entry->value_len);
  buffer[entry->value_len] = 0;
  return buffer;
}

/* The value that the transaction sees, "-" when absent. */
static const char *get(walmap_txn *txn, const char *key) {
  walmap_entry entry;
  int result = walmap_txn_get(txn, key, strlen(key), &entry);
  if (result == WALMAP_NOTFOUND)
    return "-";
  assert_int_equal(result, WALMAP_OK);
  return text_of(&entry);
}

/* The committed value, "-" when absent. */
static const char *committed(walmap *map, const char *key) {
  static char buffer[64];
  size_t len;
  int result = walmap_get(map, key, strlen(key), buffer, sizeof buffer - 1, &len);
  if (result == WALMAP_NOTFOUND)
    return "-";
  assert_int_equal(result, WALMAP_OK);
  buffer[len] = 0;
  return buffer;
}

static void begin_commit_rollback(void **unused) {
  (void)unused;
  struct fixture f = fixture_new(16);
  assert_false(walmap_txn_is_begun(f.txn));
  walmap_txn_begin(f.txn);
  assert_true(walmap_txn_is_begun(f.txn));
  assert_string_equal(get(f.txn, "a"), "-");
  assert_int_equal(set(f.txn, "a", "1"), WALMAP_OK);
  assert_int_equal(set(f.txn, "b", "2"), WALMAP_OK);
  assert_int_equal(set(f.txn, "a", "3"), WALMAP_OK);
  assert_string_equal(get(f.txn, "a"), "3");
  assert_string_equal(committed(f.map, "a"), "-");
  assert_int_equal(walmap_txn_len(f.txn), 2);
  assert_int_equal(walmap_len(f.map), 0);
  assert_int_equal(walmap_size(f.map), 0);
  assert_true(walmap_txn_size(f.txn) > 0);
  assert_true(walmap_txn_reclaimable(f.txn) < walmap_txn_size(f.txn));
  walmap_txn_commit(f.txn);
  assert_false(walmap_txn_is_begun(f.txn));
  assert_string_equal(committed(f.map, "a"), "3");
  assert_string_equal(committed(f.map, "b"), "2");

  walmap_txn_begin(f.txn);
  assert_int_equal(remove_key(f.txn, "a"), WALMAP_OK);
  assert_int_equal(remove_key(f.txn, "a"), WALMAP_NOTFOUND);
  assert_int_equal(remove_key(f.txn, "nothing"), WALMAP_NOTFOUND);
  assert_int_equal(set(f.txn, "b", "4"), WALMAP_OK);
  assert_int_equal(set(f.txn, "c", "5"), WALMAP_OK);
  assert_string_equal(get(f.txn, "a"), "-");
  assert_string_equal(committed(f.map, "a"), "3");
  assert_int_equal(walmap_txn_len(f.txn), 2);
  walmap_txn_rollback(f.txn);
  assert_string_equal(committed(f.map, "a"), "3");
  assert_string_equal(committed(f.map, "b"), "2");
  assert_string_equal(committed(f.map, "c"), "-");
  assert_int_equal(walmap_len(f.map), 2);

  walmap_txn_begin(f.txn); /* nothing done */
  walmap_txn_commit(f.txn);
  walmap_txn_begin(f.txn);
  walmap_txn_rollback(f.txn);
  walmap_txn_begin(f.txn); /* `free` rolls back */
  assert_int_equal(set(f.txn, "a", "lost"), WALMAP_OK);
  walmap_txn_free(f.txn);
  f.txn = NULL;
  assert_string_equal(committed(f.map, "a"), "3");
  assert_int_equal(walmap_set(f.map, "a", 1, "6", 1), WALMAP_OK); /* and gives its shards back */
  assert_string_equal(committed(f.map, "a"), "6");
  fixture_free(&f);
}

static void rolled_back_space_is_reclaimed(void **unused) {
  (void)unused;
  struct fixture f = fixture_new(4);
  char value[1000] = {0};
  for (int round = 0; round < 100; round++) {
    walmap_txn_begin(f.txn);
    for (int k = 0; k < 50; k++)
      assert_int_equal(walmap_txn_set(f.txn, &k, sizeof k, value, (size_t)(k * 20)), WALMAP_OK);
    walmap_txn_rollback(f.txn);
  }
  assert_int_equal(walmap_len(f.map), 0);
  assert_int_equal(walmap_reclaimable(f.map), walmap_size(f.map));
  assert_int_equal(walmap_compact(f.map, NULL), WALMAP_OK);
  assert_int_equal(walmap_size(f.map), 0);
  assert_true(walmap_memory(f.map) < 256 * 1024);
  fixture_free(&f);
}

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

/* A transaction that was begun before is forgotten, with its savepoints. */
static void objects_are_reused(void **unused) {
  (void)unused;
  struct fixture f = fixture_new(4);
  for (int round = 0; round < 100; round++) {
    walmap_txn_begin(f.txn);
    assert_int_equal(set(f.txn, "k", "1"), WALMAP_OK);
    walmap_txn_rollback_to(f.txn, 1); /* marked in the round before, and gone */
    assert_string_equal(get(f.txn, "k"), "1");
    walmap_txn_savepoint(f.txn, 1);
    assert_int_equal(remove_key(f.txn, "k"), WALMAP_OK);
    if (round % 2)
      walmap_txn_commit(f.txn);
    else
      walmap_txn_rollback(f.txn);
  }
  assert_int_equal(walmap_len(f.map), 0);
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

/* What is refused leaves the key as it is, and takes its shard as every look at a key does. */
static void reserve_if(void **unused) {
  (void)unused;
  struct fixture f = fixture_new(16);
  void *value;
  walmap_txn_begin(f.txn);
  assert_int_equal(walmap_txn_reserve_if(f.txn, true, "k", 1, 1, &value), WALMAP_NOTFOUND);
  assert_string_equal(get(f.txn, "k"), "-");
  assert_int_equal(walmap_set(f.map, "k", 1, "x", 1), WALMAP_BUSY);
  assert_int_equal(walmap_txn_reserve_if(f.txn, false, "k", 1, 1, &value), WALMAP_OK);
  memcpy(value, "1", 1);
  assert_int_equal(walmap_txn_reserve_if(f.txn, false, "k", 1, 1, &value), WALMAP_EXISTS);
  assert_string_equal(get(f.txn, "k"), "1");
  assert_int_equal(walmap_txn_reserve_if(f.txn, true, "k", 1, 2, &value), WALMAP_OK);
  memcpy(value, "22", 2);
  assert_string_equal(get(f.txn, "k"), "22");
  assert_int_equal(walmap_txn_remove(f.txn, "k", 1), WALMAP_OK);
  assert_int_equal(walmap_txn_reserve_if(f.txn, true, "k", 1, 1, &value), WALMAP_NOTFOUND); /* a tombstone is none */
  assert_int_equal(walmap_txn_reserve_if(f.txn, false, "k", 1, 1, &value), WALMAP_OK);
  memcpy(value, "3", 1);
  assert_int_equal(walmap_txn_reserve_if(f.txn, true, "k", 1, WALMAP_MAX_LENGTH + 1, &value), WALMAP_TOOBIG);
  walmap_txn_commit(f.txn);
  assert_string_equal(committed(f.map, "k"), "3");
  fixture_free(&f);
}

static void reserve(void **unused) {
  (void)unused;
  struct fixture f = fixture_new(16);
  void *value;
  size_t huge = 3 << 20;
  walmap_txn_begin(f.txn);
  assert_int_equal(walmap_txn_reserve(f.txn, "k", 1, 5, &value), WALMAP_OK);
  memcpy(value, "12345", 5);
  assert_string_equal(get(f.txn, "k"), "12345");
  assert_int_equal(walmap_txn_reserve(f.txn, "k", 1, 2, &value), WALMAP_OK);
  memcpy(value, "67", 2);
  assert_int_equal(walmap_txn_reserve(f.txn, "l", 1, 0, &value), WALMAP_OK);
  assert_int_equal(walmap_txn_reserve(f.txn, "m", 1, huge, &value), WALMAP_OK);
  memset(value, 'x', huge);
  assert_int_equal(walmap_txn_reserve(f.txn, "n", 1, WALMAP_MAX_LENGTH + 1, &value), WALMAP_TOOBIG);
  assert_string_equal(get(f.txn, "n"), "-");
  assert_string_equal(get(f.txn, "k"), "67");
  walmap_txn_commit(f.txn);
  assert_string_equal(committed(f.map, "k"), "67");
  assert_string_equal(committed(f.map, "l"), "");
  size_t len;
  assert_int_equal(walmap_get(f.map, "m", 1, NULL, 0, &len), WALMAP_OK);
  assert_int_equal(len, huge);
  fixture_free(&f);
}

/* C4: what a transaction touched, also by reading, is its own until it ends. */
static void ownership(void **unused) {
  (void)unused;
  struct fixture f = fixture_new(1);
  walmap_session *session;
  walmap_txn *other;
  walmap_entry entry;
  assert_int_equal(walmap_session_new(NULL, NULL, &session), WALMAP_OK);
  assert_int_equal(walmap_txn_new(f.map, session, &other), WALMAP_OK);
  assert_int_equal(walmap_set(f.map, "k", 1, "0", 1), WALMAP_OK);
  for (int how = 0; how < 5; how++) {
    walmap_state *state = NULL;
    walmap_txn_begin(f.txn);
    walmap_txn_begin(other);
    assert_string_equal(get(other, "k"), "0");
    walmap_txn_commit(other);
    if (how == 0)
      assert_string_equal(get(f.txn, "k"), "0");
    if (how == 1)
      assert_string_equal(get(f.txn, "absent"), "-");
    if (how == 2)
      assert_int_equal(remove_key(f.txn, "absent"), WALMAP_NOTFOUND);
    if (how == 3)
      assert_int_equal(set(f.txn, "k", "1"), WALMAP_OK);
    if (how == 4) {
      assert_int_equal(walmap_state_new(f.map, &state), WALMAP_OK);
      assert_int_equal(walmap_txn_state_begin(f.txn, state), WALMAP_OK);
    }
    walmap_txn_begin(other);
    assert_int_equal(walmap_txn_get(other, "k", 1, &entry), WALMAP_BUSY);
    assert_int_equal(set(other, "k", "2"), WALMAP_BUSY);
    assert_int_equal(remove_key(other, "k"), WALMAP_BUSY);
    assert_int_equal(walmap_set(f.map, "k", 1, "3", 1), WALMAP_BUSY); /* this thread would wait for itself */
    assert_int_equal(walmap_remove(f.map, "k", 1), WALMAP_BUSY);
    assert_int_equal(walmap_set_if_absent(f.map, "k", 1, "3", 1, NULL), WALMAP_BUSY);
    assert_string_equal(committed(f.map, "k"), "0"); /* C1 */
    assert_true(walmap_txn_is_begun(other));
    walmap_txn_rollback_to(f.txn, -1); /* shards stay owned */
    assert_int_equal(set(other, "k", "2"), WALMAP_BUSY);
    walmap_txn_rollback(f.txn);
    assert_int_equal(set(other, "k", "2"), WALMAP_OK); /* the one that met BUSY goes on */
    walmap_txn_rollback(other);
    walmap_state_free(state);
  }
  walmap_txn_free(other);
  walmap_session_free(session);
  fixture_free(&f);
}

/* A statement over all shards that meets BUSY midway leaves the transaction as it was, but for shards it may keep. */
static void busy_for_all_shards(void **unused) {
  (void)unused;
  struct fixture f = fixture_new(16);
  walmap_session *session;
  walmap_txn *other;
  walmap_state *state;
  void *image;
  size_t size;
  assert_int_equal(walmap_session_new(NULL, NULL, &session), WALMAP_OK);
  assert_int_equal(walmap_txn_new(f.map, session, &other), WALMAP_OK);
  assert_int_equal(walmap_state_new(f.map, &state), WALMAP_OK);
  assert_int_equal(walmap_set(f.map, "k", 1, "0", 1), WALMAP_OK);
  assert_int_equal(walmap_snapshot(f.map, &image, &size), WALMAP_OK);
  walmap_txn_begin(f.txn);
  walmap_txn_begin(other);
  assert_string_equal(get(f.txn, "k"), "0");
  assert_int_equal(walmap_txn_state_begin(other, state), WALMAP_BUSY);
  assert_int_equal(walmap_state_begin(state), WALMAP_OK); /* it was not begun */
  walmap_state_end(state);
  assert_int_equal(walmap_txn_restore(other, image, size, NULL, NULL, NULL, NULL), WALMAP_BUSY);
  assert_int_equal(walmap_restore(f.map, image, size, NULL, NULL), WALMAP_BUSY);
  walmap_txn_rollback(other);
  assert_int_equal(set(f.txn, "k", "1"), WALMAP_OK);
  walmap_txn_commit(f.txn);
  assert_string_equal(committed(f.map, "k"), "1");
  walmap_image_free(image);
  walmap_state_free(state);
  walmap_txn_free(other);
  walmap_session_free(session);
  fixture_free(&f);
}

/* A state begun from a transaction shows what that saw, and goes on doing so after its rollback. */
static void state_of_transaction(void **unused) {
  (void)unused;
  for (int commit = 0; commit < 2; commit++) {
    struct fixture f = fixture_new(16);
    walmap_state *state, *before;
    walmap_entry entry;
    assert_int_equal(walmap_state_new(f.map, &state), WALMAP_OK);
    assert_int_equal(walmap_state_new(f.map, &before), WALMAP_OK);
    for (int k = 0; k < 100; k++)
      assert_int_equal(walmap_set(f.map, &k, sizeof k, "old", 3), WALMAP_OK);
    assert_int_equal(walmap_state_begin(before), WALMAP_OK);
    walmap_txn_begin(f.txn);
    for (int k = 0; k < 100; k += 2)
      assert_int_equal(walmap_txn_set(f.txn, &k, sizeof k, "new", 3), WALMAP_OK);
    for (int k = 1; k < 50; k += 2)
      assert_int_equal(walmap_txn_remove(f.txn, &k, sizeof k), WALMAP_OK);
    assert_int_equal(walmap_txn_state_begin(f.txn, state), WALMAP_OK);
    for (int k = 0; k < 100; k++)
      assert_int_equal(walmap_txn_set(f.txn, &k, sizeof k, "newer", 5), WALMAP_OK);
    if (commit)
      walmap_txn_commit(f.txn);
    else
      walmap_txn_rollback(f.txn);
    for (int churn = 0; churn < 2000; churn++) { /* enough for segments to be freed, were they not held */
      int k = churn % 100;
      assert_int_equal(walmap_set(f.map, &k, sizeof k, "newest", 6), WALMAP_OK);
    }
    assert_int_equal(walmap_compact(f.map, NULL), WALMAP_OK);
    int seen = 0;
    walmap_cursor cursor;
    for (walmap_cursor_start(&cursor, state); walmap_cursor_next(&cursor, &entry); seen++) {
      int k;
      memcpy(&k, entry.key, sizeof k);
      assert_string_equal(text_of(&entry), k % 2 || !commit ? "old" : "new");
    }
    assert_int_equal(seen, commit ? 75 : 100); /* a rollback takes what it undoes out of the state too */
    for (int k = 0; k < 100; k++) {
      assert_int_equal(walmap_state_get(before, &k, sizeof k, &entry), WALMAP_OK);
      assert_string_equal(text_of(&entry), "old");
      int result = walmap_state_get(state, &k, sizeof k, &entry);
      assert_int_equal(result, commit && k % 2 && k < 50 ? WALMAP_NOTFOUND : WALMAP_OK);
      if (result == WALMAP_OK)
        assert_string_equal(text_of(&entry), k % 2 || !commit ? "old" : "new");
    }
    walmap_state_free(state);
    walmap_state_free(before);
    fixture_free(&f);
  }
}

/* Pointers from walmap_txn_get live until the transaction ends, whatever it does meanwhile. */
static void pointers_live(void **unused) {
  (void)unused;
  struct fixture f = fixture_new(2);
  walmap_entry entries[100];
  for (int k = 0; k < 100; k++)
    assert_int_equal(walmap_set(f.map, &k, sizeof k, &k, sizeof k), WALMAP_OK);
  walmap_txn_begin(f.txn);
  for (int k = 0; k < 100; k++)
    assert_int_equal(walmap_txn_get(f.txn, &k, sizeof k, &entries[k]), WALMAP_OK);
  for (int round = 0; round < 50; round++) {
    for (int k = 0; k < 100; k++) {
      assert_int_equal(walmap_txn_set(f.txn, &k, sizeof k, &round, sizeof round), WALMAP_OK);
      if (round % 10 == 5)
        assert_int_equal(walmap_txn_remove(f.txn, &k, sizeof k), WALMAP_OK);
    }
    if (round % 20 == 10)
      assert_int_equal(walmap_compact(f.map, f.txn), WALMAP_OK);
    if (round == 30)
      walmap_txn_rollback_to(f.txn, -1);
  }
  for (int k = 0; k < 100; k++) {
    assert_memory_equal(entries[k].key, &k, sizeof k);
    assert_memory_equal(entries[k].value, &k, sizeof k);
  }
  walmap_txn_commit(f.txn);
  fixture_free(&f);
}

static uint64_t hash_same(const void *key, size_t len, uint64_t seed) {
  (void)key, (void)len;
  return seed;
}

static bool count_entry(void *ctx, const walmap_entry *entry) {
  assert_int_equal(entry->key_len, 4);
  return ++*(int *)ctx != 1000;
}

static void each_hash_in_transaction(void **unused) {
  (void)unused;
  walmap_options options;
  options_init(&options);
  options.hash = hash_same;
  walmap *map;
  walmap_session *session;
  walmap_txn *txn;
  int count = 0;
  assert_int_equal(walmap_open(&options, &map), WALMAP_OK);
  assert_int_equal(walmap_session_new(NULL, NULL, &session), WALMAP_OK);
  assert_int_equal(walmap_txn_new(map, session, &txn), WALMAP_OK);
  for (int k = 0; k < 20; k++)
    assert_int_equal(walmap_set(map, &k, 4, "v", 1), WALMAP_OK);
  walmap_txn_begin(txn);
  for (int k = 10; k < 40; k++)
    assert_int_equal(walmap_txn_set(txn, &k, 4, "w", 1), WALMAP_OK);
  for (int k = 0; k < 5; k++)
    assert_int_equal(walmap_txn_remove(txn, &k, 4), WALMAP_OK);
  uint64_t hash = walmap_hash(map, &count, 4);
  assert_int_equal(walmap_txn_each_hash(txn, hash, count_entry, &count), WALMAP_OK);
  assert_int_equal(count, 35);
  count = 990; /* the callback stops at 1000 */
  assert_int_equal(walmap_txn_each_hash(txn, hash, count_entry, &count), WALMAP_OK);
  assert_int_equal(count, 1000);
  walmap_txn_rollback(txn);
  walmap_txn_begin(txn);
  count = 0;
  assert_int_equal(walmap_txn_each_hash(txn, hash, count_entry, &count), WALMAP_OK);
  assert_int_equal(count, 20);
  walmap_txn_free(txn);
  walmap_session_free(session);
  walmap_close(map);
}

static void restore_in_transaction(void **unused) {
  (void)unused;
  struct fixture f = fixture_new(16), g = fixture_new(2);
  void *image;
  size_t size;
  uint64_t entries = 0;
  assert_int_equal(walmap_set(g.map, "from", 4, "image", 5), WALMAP_OK);
  assert_int_equal(walmap_set(g.map, "k", 1, "i", 1), WALMAP_OK);
  assert_int_equal(walmap_snapshot(g.map, &image, &size), WALMAP_OK);
  assert_int_equal(walmap_set(f.map, "k", 1, "0", 1), WALMAP_OK);
  assert_int_equal(walmap_set(f.map, "l", 1, "0", 1), WALMAP_OK);

  walmap_txn_begin(f.txn); /* rolled back as a whole */
  assert_int_equal(walmap_txn_restore(f.txn, image, size, NULL, NULL, &entries, NULL), WALMAP_OK);
  assert_int_equal(entries, 2);
  assert_string_equal(get(f.txn, "from"), "image");
  assert_string_equal(get(f.txn, "l"), "-");
  assert_int_equal(walmap_txn_len(f.txn), 2);
  assert_string_equal(committed(f.map, "k"), "0");
  assert_string_equal(committed(f.map, "from"), "-");
  assert_int_equal(set(f.txn, "after", "1"), WALMAP_OK);
  walmap_txn_rollback(f.txn);
  assert_string_equal(committed(f.map, "k"), "0");
  assert_string_equal(committed(f.map, "l"), "0");
  assert_int_equal(walmap_len(f.map), 2);

  walmap_txn_begin(f.txn); /* and to a savepoint, twice */
  assert_int_equal(set(f.txn, "m", "1"), WALMAP_OK);
  walmap_txn_savepoint(f.txn, 0);
  for (int round = 0; round < 2; round++) {
    assert_int_equal(walmap_txn_restore(f.txn, image, size, NULL, NULL, &entries, NULL), WALMAP_OK);
    assert_int_equal(set(f.txn, "k", "after"), WALMAP_OK);
    walmap_txn_savepoint(f.txn, 1);
    assert_int_equal(walmap_txn_restore(f.txn, image, size, NULL, NULL, &entries, NULL), WALMAP_OK);
    assert_string_equal(get(f.txn, "k"), "i");
    walmap_txn_rollback_to(f.txn, 1);
    assert_string_equal(get(f.txn, "k"), "after");
    walmap_txn_rollback_to(f.txn, 0);
    assert_string_equal(get(f.txn, "k"), "0");
    assert_string_equal(get(f.txn, "m"), "1");
    assert_string_equal(get(f.txn, "from"), "-");
    assert_int_equal(walmap_txn_len(f.txn), 3);
  }
  walmap_state *before;
  assert_int_equal(walmap_state_new(f.map, &before), WALMAP_OK);
  assert_int_equal(walmap_state_begin(before), WALMAP_OK);
  assert_int_equal(walmap_txn_restore(f.txn, image, size, NULL, NULL, &entries, NULL), WALMAP_OK);
  assert_int_equal(set(f.txn, "from", "here"), WALMAP_OK);
  walmap_txn_commit(f.txn);
  assert_string_equal(committed(f.map, "from"), "here");
  assert_string_equal(committed(f.map, "k"), "i");
  assert_string_equal(committed(f.map, "m"), "-");
  assert_int_equal(walmap_len(f.map), 2);
  walmap_entry entry; /* C2: the state is the one before */
  assert_int_equal(walmap_state_get(before, "l", 1, &entry), WALMAP_OK);
  assert_int_equal(walmap_state_get(before, "from", 4, &entry), WALMAP_NOTFOUND);
  walmap_state_free(before);
  uint64_t old_size = walmap_size(f.map), reclaimable = walmap_reclaimable(f.map);
  assert_int_equal(walmap_compact(f.map, NULL), WALMAP_OK);
  assert_int_equal(walmap_size(f.map), old_size - reclaimable);
  walmap_image_free(image);
  fixture_free(&f);
  fixture_free(&g);
}

static void compact_in_transaction(void **unused) {
  (void)unused;
  struct fixture f = fixture_new(4);
  universe *u = universe_new(400, 0);
  uint32_t *content = calloc(u->n, sizeof *content), *before = calloc(u->n, sizeof *before), version = 0;
  assert_true(content && before);
  for (uint32_t i = 0; i < 5 * u->n; i++) {
    uint32_t key = (uint32_t)(mix(++version) % u->n);
    bytes v = value_bytes(u, before[key] = version);
    assert_int_equal(walmap_set(f.map, u->keys[key].at, u->keys[key].len, v.at, v.len), WALMAP_OK);
  }
  memcpy(content, before, u->n * sizeof *content);
  walmap_txn_begin(f.txn);
  for (int level = 0; level < 4; level++) {
    walmap_txn_savepoint(f.txn, level);
    for (uint32_t i = 0; i < u->n; i++) {
      uint32_t key = (uint32_t)(mix(++version) % u->n);
      bytes v = value_bytes(u, content[key] = version);
      assert_int_equal(walmap_txn_set(f.txn, u->keys[key].at, u->keys[key].len, v.at, v.len), WALMAP_OK);
    }
    assert_int_equal(walmap_compact(f.map, f.txn), WALMAP_OK);
    must_hold(u, f.map, before);
  }
  walmap_state *state;
  assert_int_equal(walmap_state_new(f.map, &state), WALMAP_OK);
  assert_int_equal(walmap_txn_state_begin(f.txn, state), WALMAP_OK);
  must_equal(u, state, content);
  assert_int_equal(walmap_compact(f.map, f.txn), WALMAP_OK);
  must_equal(u, state, content);
  walmap_state_free(state);
  walmap_txn_rollback(f.txn);
  must_hold(u, f.map, before);
  uint64_t size = walmap_size(f.map), reclaimable = walmap_reclaimable(f.map);
  assert_int_equal(walmap_compact(f.map, NULL), WALMAP_OK);
  assert_int_equal(walmap_size(f.map), size - reclaimable);
  must_hold(u, f.map, before);
  free(content);
  free(before);
  universe_free(u);
  fixture_free(&f);
}

static void *alloc_plain(void *ctx, size_t size, size_t align) {
  (void)ctx;
  return walmap__alloc_aligned(size, align);
}

static void free_spoilt(void *ctx, void *block, size_t size, size_t align) {
  (void)ctx, (void)align;
  for (size_t i = 0; i < size; i++)
    ((volatile uint8_t *)block)[i] = 0xDB; /* volatile: or it would be left out, since the block is freed */
  walmap__free_aligned(block);
}

/*
** What walmap_txn_get and walmap_txn_each_hash gave is good until the transaction ends, compacted as often as it may
** be.
*/
static void pointers_outlive_compaction(void **unused) {
  (void)unused;
  enum { KEYS = 100 };
  struct fixture f;
  walmap_options options;
  options_init(&options);
  options.shards = 1;
  options.allocator = (walmap_allocator){alloc_plain, free_spoilt, NULL};
  assert_int_equal(walmap_open(&options, &f.map), WALMAP_OK);
  assert_int_equal(walmap_session_new(NULL, NULL, &f.session), WALMAP_OK);
  assert_int_equal(walmap_txn_new(f.map, f.session, &f.txn), WALMAP_OK);
  for (uint32_t i = 0; i < 3 * KEYS; i++) {
    uint32_t key = i % KEYS, value = key + 1;
    assert_int_equal(walmap_set(f.map, &key, 4, &value, 4), WALMAP_OK);
  }
  uint64_t memory = walmap_memory(f.map), size = walmap_size(f.map), reclaimable = walmap_reclaimable(f.map);
  assert_true(reclaimable > size / 2);
  for (int commits = 0; commits < 2; commits++) {
    walmap_txn_begin(f.txn);
    walmap_entry entries[KEYS];
    for (uint32_t key = 0; key < KEYS; key++)
      assert_int_equal(walmap_txn_get(f.txn, &key, 4, &entries[key]), WALMAP_OK);
    for (int times = 0; times < 3; times++) {
      assert_int_equal(walmap_compact(f.map, f.txn), WALMAP_OK);
      assert_int_equal(walmap_reclaimable(f.map), 0);
      assert_int_equal(walmap_size(f.map), size - reclaimable);
      for (uint32_t key = 0; key < KEYS; key++) {
        uint32_t value = key + 1;
        assert_memory_equal(entries[key].key, &key, 4);
        assert_memory_equal(entries[key].value, &value, 4);
      }
    }
    if (commits) {
      walmap_txn_commit(f.txn);
    } else {
      walmap_txn_rollback(f.txn);
    }
    assert_true(walmap_memory(f.map) < memory - reclaimable / 2);
  }
  assert_int_equal(walmap_verify(f.map, NULL, NULL), WALMAP_OK);
  fixture_free(&f);
}

/*
** What was got, and then changed or lost in some other way, is looked up anew: nothing is written beside its newest
** record.
*/
static void changed_after_get(void **unused) {
  (void)unused;
  struct fixture f = fixture_new(1);
  void *image;
  size_t size;
  char key[16];
  assert_int_equal(walmap_set(f.map, "k", 1, "0", 1), WALMAP_OK);
  assert_int_equal(walmap_set(f.map, "other", 5, "0", 1), WALMAP_OK);
  assert_int_equal(walmap_snapshot(f.map, &image, &size), WALMAP_OK);
  walmap_txn_begin(f.txn);

  assert_string_equal(get(f.txn, "k"), "0"); /* the change of what was got itself, again and again */
  for (int i = 1; i <= 3; i++) {
    snprintf(key, sizeof key, "%d", i);
    assert_int_equal(set(f.txn, "k", key), WALMAP_OK);
    assert_string_equal(get(f.txn, "k"), key);
  }
  assert_string_equal(get(f.txn, "k"), "3"); /* another key, and one that begins alike */
  assert_int_equal(set(f.txn, "other", "1"), WALMAP_OK);
  assert_int_equal(set(f.txn, "kk", "1"), WALMAP_OK);
  assert_string_equal(get(f.txn, "k"), "3");

  assert_string_equal(get(f.txn, "k"), "3"); /* the index grows, and splits */
  for (int i = 0; i < 5000; i++) {
    snprintf(key, sizeof key, "%d", i);
    assert_int_equal(set(f.txn, key, "x"), WALMAP_OK);
  }
  assert_int_equal(set(f.txn, "k", "4"), WALMAP_OK);
  assert_string_equal(get(f.txn, "k"), "4");

  walmap_txn_savepoint(f.txn, 0); /* it is undone */
  assert_int_equal(set(f.txn, "k", "5"), WALMAP_OK);
  assert_string_equal(get(f.txn, "k"), "5");
  walmap_txn_rollback_to(f.txn, 0);
  assert_int_equal(remove_key(f.txn, "k"), WALMAP_OK);
  assert_string_equal(get(f.txn, "k"), "-");
  assert_int_equal(remove_key(f.txn, "k"), WALMAP_NOTFOUND);
  walmap_txn_rollback_to(f.txn, 0);
  assert_string_equal(get(f.txn, "k"), "4");

  assert_int_equal(walmap_txn_restore(f.txn, image, size, NULL, NULL, NULL, NULL), WALMAP_OK); /* all is replaced */
  assert_int_equal(set(f.txn, "k", "6"), WALMAP_OK);
  assert_string_equal(get(f.txn, "k"), "6");
  assert_int_equal(walmap_txn_len(f.txn), 2);
  walmap_txn_commit(f.txn);
  assert_string_equal(committed(f.map, "k"), "6");

  for (int i = 0; i < 2000; i++) /* a transaction later, and compacted */
    assert_int_equal(walmap_set(f.map, "other", 5, "2", 1), WALMAP_OK);
  walmap_txn_begin(f.txn);
  assert_string_equal(get(f.txn, "k"), "6");
  assert_int_equal(walmap_compact(f.map, f.txn), WALMAP_OK);
  assert_int_equal(set(f.txn, "k", "7"), WALMAP_OK);
  walmap_txn_commit(f.txn);
  assert_string_equal(committed(f.map, "k"), "7");
  assert_string_equal(committed(f.map, "other"), "2");
  assert_int_equal(walmap_set(f.map, "k", 1, "8", 1), WALMAP_OK);
  walmap_txn_begin(f.txn);
  assert_int_equal(remove_key(f.txn, "k"), WALMAP_OK);
  walmap_txn_commit(f.txn);
  assert_string_equal(committed(f.map, "k"), "-");
  walmap_image_free(image);
  fixture_free(&f);
}

/* Two maps, one session: each transaction ends by itself, and one party may own shards of both. */
static void two_maps_one_session(void **unused) {
  (void)unused;
  struct fixture f = fixture_new(1);
  walmap *second = open_map(1);
  walmap_txn *txn;
  assert_int_equal(walmap_txn_new(second, f.session, &txn), WALMAP_OK);
  walmap_txn_begin(f.txn);
  walmap_txn_begin(txn);
  assert_int_equal(set(f.txn, "k", "1"), WALMAP_OK);
  assert_int_equal(set(txn, "k", "2"), WALMAP_OK);
  assert_string_equal(get(f.txn, "k"), "1");
  assert_string_equal(get(txn, "k"), "2");
  walmap_txn_commit(f.txn);
  assert_string_equal(committed(f.map, "k"), "1");
  assert_string_equal(committed(second, "k"), "-");
  assert_int_equal(walmap_set(f.map, "k", 1, "3", 1), WALMAP_OK); /* the first map's shard is free again */
  assert_int_equal(walmap_set(second, "k", 1, "3", 1), WALMAP_BUSY);
  walmap_txn_rollback(txn);
  assert_string_equal(committed(second, "k"), "-");
  walmap_txn_free(txn);
  walmap_close(second);
  fixture_free(&f);
}

/* Clearing: undone by a rollback, as a whole and to a savepoint; readers keep their state; memory is given back. */
static void clear_in_transaction(void **unused) {
  (void)unused;
  enum { KEYS = 20000 };
  struct fixture f = fixture_new(16);
  uint64_t removed = 99, used = 0;
  char key[16];
  walmap_txn_begin(f.txn); /* a map that was never written */
  assert_int_equal(walmap_txn_clear(f.txn, &removed), WALMAP_OK);
  assert_int_equal(removed, 0);
  walmap_txn_commit(f.txn);
  for (int i = 0; i < KEYS; i++) {
    snprintf(key, sizeof key, "%d", i);
    assert_int_equal(walmap_set(f.map, key, strlen(key), "a value of some length", 22), WALMAP_OK);
  }
  used = walmap_memory(f.map);

  walmap_txn_begin(f.txn); /* rolled back as a whole */
  assert_int_equal(set(f.txn, "own", "1"), WALMAP_OK);
  assert_int_equal(walmap_txn_clear(f.txn, &removed), WALMAP_OK);
  assert_int_equal(removed, KEYS + 1);
  assert_int_equal(walmap_txn_len(f.txn), 0);
  assert_string_equal(get(f.txn, "7"), "-");
  assert_string_equal(get(f.txn, "own"), "-");
  assert_int_equal(set(f.txn, "7", "after"), WALMAP_OK);
  assert_int_equal(walmap_len(f.map), KEYS);
  walmap_txn_rollback(f.txn);
  assert_int_equal(walmap_len(f.map), KEYS);
  assert_string_equal(committed(f.map, "7"), "a value of some length");

  walmap_txn_begin(f.txn); /* and to a savepoint, twice */
  assert_int_equal(set(f.txn, "m", "1"), WALMAP_OK);
  walmap_txn_savepoint(f.txn, 0);
  for (int round = 0; round < 2; round++) {
    assert_int_equal(walmap_txn_clear(f.txn, NULL), WALMAP_OK);
    assert_int_equal(set(f.txn, "7", "after"), WALMAP_OK);
    walmap_txn_savepoint(f.txn, 1);
    assert_int_equal(walmap_txn_clear(f.txn, &removed), WALMAP_OK);
    assert_int_equal(removed, 1);
    walmap_txn_rollback_to(f.txn, 1);
    assert_string_equal(get(f.txn, "7"), "after");
    assert_int_equal(walmap_txn_len(f.txn), 1);
    walmap_txn_rollback_to(f.txn, 0);
    assert_string_equal(get(f.txn, "m"), "1");
    assert_int_equal(walmap_txn_len(f.txn), KEYS + 1);
  }
  walmap_state *before;
  walmap_entry entry;
  assert_int_equal(walmap_state_new(f.map, &before), WALMAP_OK);
  assert_int_equal(walmap_state_begin(before), WALMAP_OK);
  assert_int_equal(walmap_txn_clear(f.txn, &removed), WALMAP_OK);
  assert_int_equal(removed, KEYS + 1);
  assert_int_equal(set(f.txn, "new", "1"), WALMAP_OK);
  walmap_txn_commit(f.txn);
  assert_int_equal(walmap_len(f.map), 1);
  assert_string_equal(committed(f.map, "7"), "-");
  assert_string_equal(committed(f.map, "new"), "1");
  assert_int_equal(walmap_state_get(before, "7", 1, &entry), WALMAP_OK);
  assert_int_equal(walmap_state_len(before), KEYS);
  walmap_state_free(before);
  assert_int_equal(walmap_verify(f.map, NULL, NULL), WALMAP_OK);
  assert_int_equal(walmap_compact(f.map, NULL), WALMAP_OK);
  assert_true(walmap_memory(f.map) < used / 10);
  fixture_free(&f);
}

static uint32_t ask_timeout(void *ctx) {
  ++*(int *)ctx;
  return 30;
}

/* On a map that leaves the timeout to the session it is asked, when it must wait; and it is told for whom it waited. */
static void timeout_of_session(void **state) {
  (void)state;
  walmap_options options;
  walmap_options_init(&options);
  options.shards = 1;
  options.busy_timeout = WALMAP_TIMEOUT_OF_SESSION;
  walmap *map;
  walmap_session *one, *two;
  walmap_txn *a, *b;
  int asked = 0;
  char label[300];
  memset(label, 'x', sizeof label);
  label[sizeof label - 1] = 0;
  assert_int_equal(walmap_open(&options, &map), WALMAP_OK);
  assert_int_equal(walmap_session_new(NULL, NULL, &one), WALMAP_OK);
  assert_int_equal(walmap_session_new(NULL, &asked, &two), WALMAP_OK);
  walmap_session_set_label(one, "the first");
  walmap_session_set_label(two, label);
  walmap_session_set_timeout(two, ask_timeout);
  assert_int_equal(walmap_txn_new(map, one, &a), WALMAP_OK);
  assert_int_equal(walmap_txn_new(map, two, &b), WALMAP_OK);
  walmap_txn_begin(a);
  walmap_txn_begin(b);
  assert_int_equal(set(a, "k", "1"), WALMAP_OK);
  assert_int_equal(asked, 0);
  assert_string_equal(walmap_session_blocker(two), "");
  uint64_t since = now_ns();
  assert_int_equal(set(b, "k", "2"), WALMAP_BUSY);
  uint64_t ms = (now_ns() - since) / 1000000;
  assert_in_range(ms, 30, 3000);
  assert_int_equal(asked, 1);
  assert_string_equal(walmap_session_blocker(two), "the first");
  walmap_txn_rollback(a);
  assert_int_equal(set(b, "k", "2"), WALMAP_OK);
  assert_int_equal(asked, 1);
  walmap_txn_commit(b);
  walmap_txn_free(a);
  walmap_txn_free(b);
  walmap_session_free(one);
  walmap_session_free(two);
  walmap_close(map);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(begin_commit_rollback),
      cmocka_unit_test(rolled_back_space_is_reclaimed),
      cmocka_unit_test(savepoints),
      cmocka_unit_test(savepoint_marked_again),
      cmocka_unit_test(savepoints_missing_below),
      cmocka_unit_test(savepoint_of_the_greatest_number),
      cmocka_unit_test(rollback_to_begin),
      cmocka_unit_test(release_of_several),
      cmocka_unit_test(objects_are_reused),
      cmocka_unit_test(savepoints_over_many_keys),
      cmocka_unit_test(reserve),
      cmocka_unit_test(reserve_if),
      cmocka_unit_test(ownership),
      cmocka_unit_test(busy_for_all_shards),
      cmocka_unit_test(state_of_transaction),
      cmocka_unit_test(pointers_live),
      cmocka_unit_test(each_hash_in_transaction),
      cmocka_unit_test(restore_in_transaction),
      cmocka_unit_test(compact_in_transaction),
      cmocka_unit_test(pointers_outlive_compaction),
      cmocka_unit_test(changed_after_get),
      cmocka_unit_test(two_maps_one_session),
      cmocka_unit_test(clear_in_transaction),
      cmocka_unit_test(timeout_of_session),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
