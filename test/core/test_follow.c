/*
** test_follow.c - a follower that applies changes and is not what it follows
**
** It follows a map beside random transactions, rollbacks, savepoints, compaction and restores, with states held open
** meanwhile, for maps of several shapes; and beside writers that do not wait.
*/
#include "../common/changes_kit.h"

#include <pthread.h>

/* ------------------------------------------------------------------------------------------------------------------ */
/* Following                                                                                                          */

#define KEYS 300

typedef struct follow {
  party source, follower;
  uint64_t random;
  blob since; /* a position, or changes */
  walmap_state *held;
  bool holding;
  unsigned gone, followed;
} follow;

static void change_one(follow *f) {
  char key[32], value[600];
  int key_len = snprintf(key, sizeof key, "key %u", random_below(&f->random, KEYS));
  if (random_below(&f->random, 3) == 0) {
    int result = walmap_txn_remove(f->source.txn, key, (size_t)key_len);
    MUST(result == WALMAP_OK || result == WALMAP_NOTFOUND);
    return;
  }
  size_t value_len = random_below(&f->random, random_below(&f->random, 4) == 0 ? sizeof value : 40);
  memset(value, (int)random_below(&f->random, 256), sizeof value);
  MUST_OK(walmap_txn_set(f->source.txn, key, (size_t)key_len, value, value_len));
}

static void restore_source(follow *f) {
  void *image;
  size_t size;
  MUST_OK(walmap_state_begin(f->source.state));
  MUST_OK(walmap_state_image(f->source.state, &image, &size));
  walmap_state_end(f->source.state);
  MUST_OK(walmap_txn_restore(f->source.txn, image, size, NULL, NULL, NULL, NULL));
  walmap_image_free(image);
}

static void change_many(follow *f, bool restores) {
  walmap_txn *txn = f->source.txn;
  walmap_txn_begin(txn);
  unsigned n = random_below(&f->random, 30);
  for (unsigned i = 0; i < n; i++) {
    unsigned kind = random_below(&f->random, 20);
    if (kind == 0)
      walmap_txn_savepoint(txn, (int)random_below(&f->random, 3));
    else if (kind == 1)
      walmap_txn_rollback_to(txn, (int)random_below(&f->random, 3));
    else if (kind == 2)
      walmap_txn_release(txn, (int)random_below(&f->random, 3));
    else if (restores && kind == 3 && random_below(&f->random, 30) == 0)
      restore_source(f);
    else
      change_one(f);
  }
  if (random_below(&f->random, 4) == 0)
    walmap_txn_rollback(txn);
  else
    walmap_txn_commit(txn);
}

/* A reader that comes and goes keeps compaction and reclaiming from what it may see. */
static void hold_or_let_go(follow *f) {
  if (random_below(&f->random, 10) != 0)
    return;
  if (f->holding)
    walmap_state_end(f->held);
  else
    MUST_OK(walmap_state_begin(f->held));
  f->holding = !f->holding;
}

/* An image and its position, from one state. */
static void start_over(follow *f) {
  void *image;
  size_t size;
  walmap_image_free(f->since.data);
  MUST_OK(walmap_state_begin(f->source.state));
  MUST_OK(walmap_state_position(f->source.state, &f->since.data, &f->since.size));
  MUST_OK(walmap_state_image(f->source.state, &image, &size));
  walmap_state_end(f->source.state);
  MUST_OK(walmap_restore(f->follower.map, image, size, NULL, NULL));
  walmap_image_free(image);
}

/* Applies what came since, or starts over; equal to the state that was asked, whatever writers do meanwhile. */
static void catch_up_to_changes(follow *f) {
  walmap_state *state = f->source.state;
  blob changes;
  uint64_t changed = 0;
  MUST_OK(walmap_state_begin(state));
  int result = walmap_state_changes(state, f->since.data, f->since.size, &changes.data, &changes.size, NULL);
  if (result == WALMAP_GONE) {
    walmap_state_end(state);
    f->gone++;
    start_over(f);
    return;
  }
  MUST_OK(result);
  MUST_OK(apply(&f->follower, changes, NULL, NULL));
  MUST(is_equal_to(&f->follower, state));
  walmap_state_end(state);
  if (random_below(&f->random, 4) == 0) {
    MUST_OK(apply(&f->follower, changes, &changed, NULL));
    MUST(changed == 0);
  }
  f->followed++;
  walmap_image_free(f->since.data);
  f->since = changes;
}

/* While no writer is active, the changes lead to the position that the map itself gives. */
static void take_position_instead(follow *f) {
  walmap__changes parts;
  if (!walmap__changes_is(f->since.data, f->since.size))
    return;
  MUST_OK(walmap__changes_open(&parts, f->since.data, f->since.size, NULL));
  blob position = position_of(&f->source);
  MUST(position.size == parts.sizes[PART_POSITION]);
  MUST(memcmp(position.data, parts.parts[PART_POSITION], position.size) == 0);
  walmap_image_free(f->since.data);
  f->since = position;
}

static void follow_map(uint64_t seed, uint32_t shards, uint32_t auto_compact, bool restores, unsigned *gone) {
  follow f = {.source = party_new(shards, auto_compact, 0), .follower = party_new(4, 50, 0), .random = seed};
  unsigned steps = 1500 / SLOWDOWN;
  MUST_OK(walmap_state_new(f.source.map, &f.held));
  start_over(&f);
  for (unsigned i = 0; i < steps; i++) {
    for (unsigned n = random_below(&f.random, 8); n > 0; n--) {
      change_many(&f, restores);
      hold_or_let_go(&f);
    }
    if (random_below(&f.random, 40) == 0)
      MUST_OK(walmap_compact(f.source.map, NULL));
    catch_up_to_changes(&f);
    if (random_below(&f.random, 2) == 0)
      take_position_instead(&f);
    MUST(are_equal(&f.source, &f.follower));
  }
  *gone += f.gone;
  MUST(f.followed > f.gone);
  walmap_image_free(f.since.data);
  walmap_state_free(f.held);
  party_free(&f.source);
  party_free(&f.follower);
}

static void test_follower_is_equal(void **unused) {
  (void)unused;
  uint64_t seed = announce_seed("test_follower_is_equal");
  static const uint32_t shards[] = {1, 2, 16}, percents[] = {0, 10, 50};
  unsigned gone = 0;
  for (int i = 0; i < 9; i++)
    follow_map(seed + (uint64_t)i, shards[i % 3], percents[i / 3], i % 2 != 0, &gone);
  assert_true(gone > 0); /* else compaction has not been met */
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Following writers that do not wait                                                                                 */

#define WRITERS 2

typedef struct writer {
  walmap *map;
  uint64_t random;
  atomic_bool *stop;
} writer;

/* Moves a unit from one account to another: the sum of all is 0 in every committed state. */
static void transfer(writer *w, walmap_txn *txn) {
  unsigned from = random_below(&w->random, KEYS), to = random_below(&w->random, KEYS);
  if (from == to)
    return;
  for (int i = 0; i < 2; i++) {
    unsigned key = i == 0 ? from : to;
    walmap_entry entry;
    int64_t amount = 0;
    int result = walmap_txn_get(txn, &key, sizeof key, &entry);
    if (result == WALMAP_OK)
      memcpy(&amount, entry.value, sizeof amount);
    else if (result != WALMAP_NOTFOUND)
      return;
    amount += i == 0 ? -1 : 1;
    /* An empty account is removed, so that there are tombstones. */
    result = amount != 0 ? walmap_txn_set(txn, &key, sizeof key, &amount, sizeof amount)
                         : walmap_txn_remove(txn, &key, sizeof key);
    if (result != WALMAP_OK)
      return;
    if (i == 1 && random_below(&w->random, 8) != 0)
      walmap_txn_commit(txn);
  }
}

static void *write_on(void *ctx) {
  writer *w = ctx;
  walmap_session *session;
  walmap_txn *txn;
  MUST_OK(walmap_session_new(NULL, NULL, &session));
  MUST_OK(walmap_txn_new(w->map, session, &txn));
  while (!atomic_load(w->stop)) {
    walmap_txn_begin(txn);
    transfer(w, txn);
    if (walmap_txn_is_begun(txn))
      walmap_txn_rollback(txn);
  }
  walmap_txn_free(txn);
  walmap_session_free(session);
  return NULL;
}

static int64_t sum_of(party *p) {
  walmap_cursor cursor;
  walmap_entry entry;
  int64_t sum = 0, amount;
  MUST_OK(walmap_state_begin(p->state));
  walmap_cursor_start(&cursor, p->state);
  while (walmap_cursor_next(&cursor, &entry)) {
    memcpy(&amount, entry.value, sizeof amount);
    sum += amount;
  }
  walmap_state_end(p->state);
  return sum;
}

static void test_follower_beside_writers(void **unused) {
  (void)unused;
  uint64_t seed = announce_seed("test_follower_beside_writers");
  follow f = {.source = party_new(4, 10, 0), .follower = party_new(1, 50, 0), .random = seed};
  pthread_t threads[WRITERS];
  writer writers[WRITERS];
  atomic_bool stop = false;
  start_over(&f);
  for (int i = 0; i < WRITERS; i++) {
    writers[i] = (writer){f.source.map, seed + 1 + (uint64_t)i, &stop};
    MUST(pthread_create(&threads[i], NULL, write_on, &writers[i]) == 0);
  }
  /* Where each time compaction has passed, as it may when this thread seldom runs, nothing was followed. */
  for (uint64_t end = now_ns() + 1000000000; now_ns() < end || f.followed == 0;) {
    MUST_NOT_HANG(end);
    catch_up_to_changes(&f);
    MUST(sum_of(&f.follower) == 0);
  }
  atomic_store(&stop, true);
  for (int i = 0; i < WRITERS; i++)
    MUST(pthread_join(threads[i], NULL) == 0);
  catch_up_to_changes(&f);
  MUST(are_equal(&f.source, &f.follower));
  walmap_image_free(f.since.data);
  party_free(&f.source);
  party_free(&f.follower);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_follower_is_equal),
      cmocka_unit_test(test_follower_beside_writers),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
