/*
** test_changes.c - a follower that applies changes and is not what it follows; changes that are damaged and taken
**
** The follower is tested beside random transactions, rollbacks, savepoints, compaction and restores, with states held
** open meanwhile, for maps of several shapes.
*/
#include "image_kit.h"

#include "changes.h"

#include <pthread.h>

/* ------------------------------------------------------------------------------------------------------------------ */
/* Parties                                                                                                            */

typedef struct party {
  walmap *map;
  walmap_session *session;
  walmap_txn *txn;
  walmap_state *state;
} party;

static party party_new(uint32_t shards, uint32_t auto_compact, uint32_t content) {
  party p;
  walmap_options options;
  walmap_options_init(&options);
  options.shards = shards;
  options.auto_compact = auto_compact;
  options.content = content;
  MUST_OK(walmap_open(&options, &p.map));
  MUST_OK(walmap_session_new(NULL, NULL, &p.session));
  MUST_OK(walmap_txn_new(p.map, p.session, &p.txn));
  MUST_OK(walmap_state_new(p.map, &p.state));
  return p;
}

static void party_free(party *p) {
  walmap_state_free(p->state);
  walmap_txn_free(p->txn);
  walmap_session_free(p->session);
  walmap_close(p->map);
}

typedef struct blob {
  void *data;
  size_t size;
} blob;

static blob position_of(party *p) {
  blob b;
  MUST_OK(walmap_state_begin(p->state));
  MUST_OK(walmap_state_position(p->state, &b.data, &b.size));
  walmap_state_end(p->state);
  return b;
}

static int changes_since(party *p, blob since, blob *changes, walmap_why *why) {
  MUST_OK(walmap_state_begin(p->state));
  int result = walmap_state_changes(p->state, since.data, since.size, &changes->data, &changes->size, why);
  walmap_state_end(p->state);
  return result;
}

static int apply(party *p, blob changes, uint64_t *changed, walmap_why *why) {
  walmap_txn_begin(p->txn);
  int result = walmap_txn_apply(p->txn, changes.data, changes.size, NULL, NULL, changed, why);
  if (result == WALMAP_OK)
    walmap_txn_commit(p->txn);
  else
    walmap_txn_rollback(p->txn);
  return result;
}

static uint64_t count_entries(walmap_state *state) {
  walmap_cursor cursor;
  walmap_entry entry;
  uint64_t count = 0;
  for (walmap_cursor_start(&cursor, state); walmap_cursor_next(&cursor, &entry);)
    count++;
  return count;
}

static bool show_the_same(walmap_state *a, walmap_state *b) {
  walmap_cursor cursor;
  walmap_entry entry, other;
  bool equal = count_entries(a) == count_entries(b);
  walmap_cursor_start(&cursor, a);
  while (equal && walmap_cursor_next(&cursor, &entry)) {
    equal = walmap_state_get(b, entry.key, entry.key_len, &other) == WALMAP_OK && other.value_len == entry.value_len &&
            memcmp(other.value, entry.value, entry.value_len) == 0;
  }
  return equal;
}

/* Whether the party shows what the state does. */
static bool is_equal_to(party *p, walmap_state *state) {
  MUST_OK(walmap_state_begin(p->state));
  bool equal = show_the_same(p->state, state);
  walmap_state_end(p->state);
  return equal;
}

static bool are_equal(party *a, party *b) {
  MUST_OK(walmap_state_begin(b->state));
  bool equal = walmap_len(a->map) == walmap_len(b->map) && is_equal_to(a, b->state);
  walmap_state_end(b->state);
  return equal;
}

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

/* A reader that comes and goes keeps compaction and folding from what it may see. */
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

/* The position that changes lead to is the one that the map, when nobody writes to it, gives itself. */
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
  for (uint64_t end = now_ns() + 1000000000; now_ns() < end;) {
    catch_up_to_changes(&f);
    MUST(sum_of(&f.follower) == 0);
  }
  atomic_store(&stop, true);
  for (int i = 0; i < WRITERS; i++)
    MUST(pthread_join(threads[i], NULL) == 0);
  catch_up_to_changes(&f);
  MUST(are_equal(&f.source, &f.follower));
  MUST(f.followed > 0);
  walmap_image_free(f.since.data);
  party_free(&f.source);
  party_free(&f.follower);
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* One by one                                                                                                         */

static void set(party *p, const char *key, const char *value) {
  MUST_OK(walmap_set(p->map, key, strlen(key), value, strlen(value)));
}

static unsigned count(blob changes, int part) {
  walmap__changes parts;
  walmap_image_reader reader;
  MUST_OK(walmap__changes_open(&parts, changes.data, changes.size, NULL));
  MUST_OK(walmap_image_open(&reader, parts.parts[part], parts.sizes[part], NULL));
  return (unsigned)reader.entries;
}

/* What did not change is not in the changes, as long as nothing was compacted. */
static void test_changes_are_few(void **unused) {
  (void)unused;
  party p = party_new(4, 0, 0);
  blob changes;
  for (int i = 0; i < 1000; i++) {
    char key[16];
    snprintf(key, sizeof key, "%d", i);
    set(&p, key, "value");
  }
  blob since = position_of(&p);
  MUST_OK(changes_since(&p, since, &changes, NULL));
  assert_int_equal(count(changes, PART_SET) + count(changes, PART_REMOVED), 0);
  walmap_image_free(changes.data);
  set(&p, "1", "a");
  set(&p, "1", "b");
  set(&p, "new", "c");
  set(&p, "short-lived", "d");
  MUST_OK(walmap_remove(p.map, "short-lived", 11));
  MUST_OK(walmap_remove(p.map, "2", 1));
  MUST_OK(walmap_remove(p.map, "3", 1));
  set(&p, "3", "again");
  walmap_txn_begin(p.txn);
  MUST_OK(walmap_txn_remove(p.txn, "4", 1));
  walmap_txn_rollback(p.txn);
  MUST_OK(changes_since(&p, since, &changes, NULL));
  assert_int_equal(count(changes, PART_SET), 3);
  assert_int_equal(count(changes, PART_REMOVED), 2);
  walmap_image_free(changes.data);
  walmap_image_free(since.data);
  party_free(&p);
}

/* A key that is set again after the state, and whose tombstone is folded meanwhile, is removed in the state. */
static void test_set_again_later(void **unused) {
  (void)unused;
  party p = party_new(1, 0, 0);
  blob changes;
  walmap_state *older;
  MUST_OK(walmap_state_new(p.map, &older));
  set(&p, "a", "1");
  blob since = position_of(&p);
  MUST_OK(walmap_state_begin(older));
  MUST_OK(walmap_remove(p.map, "a", 1));
  MUST_OK(walmap_compact(p.map, NULL)); /* would fold the tombstone, were it not for the older state */
  MUST_OK(walmap_state_begin(p.state));
  set(&p, "a", "2");
  walmap_state_free(older);
  for (int i = 0; i < 5000; i++)
    set(&p, "b", "each write folds some deaths");
  MUST_OK(walmap_state_changes(p.state, since.data, since.size, &changes.data, &changes.size, NULL));
  walmap_state_end(p.state);
  assert_int_equal(count(changes, PART_SET), 0);
  assert_int_equal(count(changes, PART_REMOVED), 1);
  walmap_image_free(changes.data);
  walmap_image_free(since.data);
  party_free(&p);
}

static void assert_gone(party *p, blob since, const char *text) {
  blob changes;
  walmap_why why = {""};
  assert_int_equal(changes_since(p, since, &changes, &why), WALMAP_GONE);
  if (strstr(why.text, text) == NULL)
    fail_msg("%s", why.text);
}

static void test_gone(void **unused) {
  (void)unused;
  party p = party_new(1, 0, 0), other = party_new(1, 0, 0);
  void *image;
  size_t size;
  set(&p, "a", "1");
  set(&p, "b", "2");
  blob since = position_of(&p), foreign = position_of(&other);
  assert_gone(&p, foreign, "another map");
  MUST_OK(walmap_remove(p.map, "a", 1));
  MUST_OK(walmap_compact(p.map, NULL));
  assert_gone(&p, since, "compaction has passed");
  walmap_image_free(since.data);
  since = position_of(&p);
  MUST_OK(walmap_snapshot(p.map, &image, &size));
  MUST_OK(walmap_restore(p.map, image, size, NULL, NULL));
  assert_gone(&p, since, "restored since");
  MUST_OK(walmap_state_begin(p.state));
  set(&p, "c", "3");
  walmap_image_free(since.data);
  walmap_state *newer;
  MUST_OK(walmap_state_new(p.map, &newer));
  MUST_OK(walmap_state_begin(newer));
  MUST_OK(walmap_state_position(newer, &since.data, &since.size));
  walmap_state_free(newer);
  blob changes;
  walmap_why why;
  assert_int_equal(walmap_state_changes(p.state, since.data, since.size, &changes.data, &changes.size, &why),
                   WALMAP_GONE);
  assert_non_null(strstr(why.text, "newer"));
  walmap_image_free(image);
  walmap_image_free(since.data);
  walmap_image_free(foreign.data);
  party_free(&p);
  party_free(&other);
}

/* Every bit flipped, every cut, bytes behind the end: an error, the map untouched. */
static void test_damage(void **unused) {
  (void)unused;
  party p = party_new(2, 0, 7), other = party_new(2, 0, 7), strange = party_new(2, 0, 8);
  blob since = position_of(&p), good, ignored;
  walmap_why why;
  set(&p, "a", "1");
  set(&p, "b", "2");
  MUST_OK(walmap_remove(p.map, "b", 1));
  MUST_OK(changes_since(&p, since, &good, NULL));
  assert_int_equal(apply(&strange, good, NULL, &why), WALMAP_CORRUPT);
  uint8_t *bytes = malloc(good.size + 1);
  MUST(bytes != NULL);
  memcpy(bytes, good.data, good.size);
  bytes[good.size] = 0;
  for (size_t bit = 0; bit < 8 * good.size; bit++) {
    bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
    assert_int_equal(apply(&other, (blob){bytes, good.size}, NULL, &why), WALMAP_CORRUPT);
    if (bit < 8 * (CHANGES_HEAD + POSITION_BYTES(2)))
      assert_int_not_equal(changes_since(&p, (blob){bytes, good.size}, &ignored, &why), WALMAP_OK);
    bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
  }
  for (size_t size = 0; size < good.size; size++)
    assert_int_equal(apply(&other, (blob){bytes, size}, NULL, &why), WALMAP_CORRUPT);
  assert_int_equal(apply(&other, (blob){bytes, good.size + 1}, NULL, &why), WALMAP_CORRUPT);
  for (size_t bit = 0; bit < 8 * since.size; bit++) {
    memcpy(bytes, since.data, since.size);
    bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
    assert_int_equal(changes_since(&p, (blob){bytes, since.size}, &ignored, &why), WALMAP_CORRUPT);
  }
  for (size_t size = 0; size < since.size; size++)
    assert_int_equal(changes_since(&p, (blob){since.data, size}, &ignored, &why), WALMAP_CORRUPT);
  assert_int_equal(walmap_len(other.map), 0);
  MUST_OK(apply(&other, good, NULL, NULL));
  assert_true(are_equal(&p, &other));
  free(bytes);
  walmap_image_free(good.data);
  walmap_image_free(since.data);
  party_free(&p);
  party_free(&other);
  party_free(&strange);
}

/* A position whose check is right and whose tails are lies reads nothing that is no record. */
static void test_lying_position(void **unused) {
  (void)unused;
  party p = party_new(1, 0, 0);
  for (int i = 0; i < 200; i++) {
    char key[16];
    snprintf(key, sizeof key, "%d", i);
    set(&p, key, "some value");
  }
  blob since = position_of(&p), changes;
  uint8_t *bytes = since.data;
  uint64_t end = walmap__load64(bytes + POSITION_TAILS);
  for (uint64_t tail = 0; tail < end + 3; tail++) {
    walmap__store64(bytes + POSITION_TAILS, tail);
    walmap__store64(bytes + since.size - 8, XXH3_64bits(bytes, since.size - 8));
    int result = changes_since(&p, since, &changes, NULL);
    assert_int_equal(result, tail == 0 || tail > end ? WALMAP_GONE : WALMAP_OK);
    if (result == WALMAP_OK)
      walmap_image_free(changes.data);
  }
  walmap_image_free(since.data);
  party_free(&p);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_changes_are_few),
      cmocka_unit_test(test_set_again_later),
      cmocka_unit_test(test_gone),
      cmocka_unit_test(test_damage),
      cmocka_unit_test(test_lying_position),
      cmocka_unit_test(test_follower_is_equal),
      cmocka_unit_test(test_follower_beside_writers),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
