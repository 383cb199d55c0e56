/*
** test_bounds.c - maps with max_entries or max_bytes: never beyond after a commit, nothing evicted that must stay, the
** right entry evicted, refused where refusing was asked for, and nothing changed where memory was out
**
** A model knows what was set last for each key. A key of a bounded map may be absent, but if it is present it has the
** model's value; what may not be absent is checked where the commit could not evict it.
*/
#include "../common/support.h"

#include <pthread.h>

#include "base/yield.h"

static _Atomic uint64_t the_time = 1000;

static uint64_t tell_time(void *ctx) {
  (void)ctx;
  return atomic_load(&the_time);
}

static walmap_options bounded(uint32_t shards, uint64_t max_entries, uint64_t max_bytes) {
  walmap_options o;
  options_init(&o);
  o.shards = shards;
  o.first_segment = 256;
  o.busy_timeout = 0;
  o.max_entries = max_entries;
  o.max_bytes = max_bytes;
  o.clock = tell_time;
  return o;
}

static walmap *open_map(walmap_options o) {
  walmap *map;
  MUST_OK(walmap_open(&o, &map));
  return map;
}

static int set(walmap *map, uint32_t key, uint32_t value) { return walmap_set(map, &key, 4, &value, 4); }

static void fill(walmap *map, uint32_t from, uint32_t n) {
  for (uint32_t i = from; i < from + n; i++)
    MUST_OK(set(map, i, i + 1));
}

/* The value, or 0. */
static uint32_t get(walmap *map, uint32_t key) {
  uint32_t value = 0;
  int result = walmap_get(map, &key, 4, &value, 4, NULL);
  MUST(result == WALMAP_OK || result == WALMAP_NOTFOUND);
  return value;
}

static void verify(walmap *map) {
  walmap_why why = {"?"};
  int result = walmap_verify(map, NULL, &why);
  if (result != WALMAP_OK)
    fprintf(stderr, "%s\n", why.text);
  MUST_OK(result);
}

static uint64_t evictions_of(walmap *map) {
  walmap_stats stats;
  walmap_get_stats(map, &stats);
  return stats.evictions;
}

/* A transaction and its session. */
typedef struct party {
  walmap_session *session;
  walmap_txn *txn;
} party;

static party party_of(walmap *map) {
  party p;
  MUST_OK(walmap_session_new(NULL, NULL, &p.session));
  MUST_OK(walmap_txn_new(map, p.session, &p.txn));
  return p;
}

static void party_free(party p) {
  walmap_txn_free(p.txn);
  walmap_session_free(p.session);
}

static int txn_set(party p, uint32_t key, uint32_t value) { return walmap_txn_set(p.txn, &key, 4, &value, 4); }

static uint32_t txn_get(party p, uint32_t key) {
  walmap_entry e;
  uint32_t value = 0;
  int result = walmap_txn_get(p.txn, &key, 4, &e);
  MUST(result == WALMAP_OK || result == WALMAP_NOTFOUND);
  if (result == WALMAP_OK)
    memcpy(&value, e.value, 4);
  return value;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Options                                                                                                            */

static int try_options(walmap_options o) {
  walmap *map = NULL;
  int result = walmap_open(&o, &map);
  if (result == WALMAP_OK)
    walmap_close(map);
  return result;
}

static void options_that_contradict(void **unused) {
  (void)unused;
  walmap_options o = bounded(16, 0, 16 * WALMAP_LEAST_SHARE);
  assert_int_equal(try_options(o), WALMAP_OK);
  o.max_bytes--;
  assert_int_equal(try_options(o), WALMAP_INVALID);
  o = bounded(16, 0, 16 * WALMAP_LEAST_SHARE);
  o.auto_compact = 0;
  assert_int_equal(try_options(o), WALMAP_INVALID);
  o = bounded(1, 0, 0);
  o.error_when_full = true;
  assert_int_equal(try_options(o), WALMAP_INVALID);
  o = bounded(1, UINT64_MAX, 0);
  assert_int_equal(try_options(o), WALMAP_INVALID);
  o = bounded(1, 10, 0);
  o.capacity = UINT64_MAX; /* a hint, not beyond the bound */
  assert_int_equal(try_options(o), WALMAP_OK);
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Which entry goes                                                                                                   */

static void the_unvisited_go_first(void **unused) {
  (void)unused;
  walmap *map = open_map(bounded(1, 16, 0));
  for (uint32_t i = 0; i < 16; i++)
    MUST_OK(set(map, i, i + 1));
  for (uint32_t i = 0; i < 16; i += 2)
    assert_int_equal(get(map, i), i + 1);
  for (uint32_t i = 16; i < 22; i++)
    MUST_OK(set(map, i, i + 1));
  for (uint32_t i = 0; i < 12; i += 2)
    assert_int_equal(get(map, i), i + 1);
  for (uint32_t i = 1; i < 12; i += 2)
    assert_int_equal(get(map, i), 0);
  assert_int_equal(walmap_len(map), 16);
  assert_int_equal(evictions_of(map), 6);
  verify(map);
  walmap_close(map);
}

/* A scan of keys that are not read again does not push out what is read. */
static void what_is_read_outlives_a_scan(void **unused) {
  (void)unused;
  walmap *map = open_map(bounded(4, 1000, 0));
  for (uint32_t i = 0; i < 500; i++)
    MUST_OK(set(map, i, 1));
  for (uint32_t scan = 0; scan < 5000; scan++) {
    MUST_OK(set(map, 10000 + scan, 1));
    for (uint32_t i = 0; i < 4; i++)
      (void)get(map, (scan * 4 + i) % 500);
  }
  uint32_t left = 0;
  for (uint32_t i = 0; i < 500; i++)
    left += get(map, i) != 0;
  assert_in_range(left, 450, 500);
  walmap_close(map);
}

static _Atomic uint64_t visits_noted;

static void count_visits(const char *point) {
  if (strcmp(point, "index: visit not noted") == 0)
    atomic_fetch_add(&visits_noted, 1);
}

/* Readers store to a bucket only at the first visit, and in a map without bounds never. */
static void hot_gets_store_nothing(void **unused) {
  (void)unused;
  for (uint64_t bound = 0; bound <= 200; bound += 100) {
    walmap_options o = bounded(4, bound, 0);
    o.error_when_full = bound == 200;
    walmap *map = open_map(o);
    walmap_state *state;
    MUST_OK(walmap_state_new(map, &state));
    for (uint32_t i = 0; i < 50; i++)
      MUST_OK(set(map, i, 1));
    atomic_store(&visits_noted, 0);
    atomic_store(&walmap__yield_hook, count_visits);
    for (int round = 0; round < 10; round++) {
      MUST_OK(walmap_state_begin(state));
      for (uint32_t i = 0; i < 50; i++) {
        walmap_entry e = {.key = &i, .key_len = 4};
        MUST(get(map, i) == 1 && walmap_state_get_many(state, &e, 1) == 1);
      }
      walmap_state_end(state);
    }
    atomic_store(&walmap__yield_hook, (walmap__yield_fn)NULL);
    assert_int_equal(atomic_load(&visits_noted), bound == 100 ? 50 : 0);
    verify(map);
    walmap_state_free(state);
    walmap_close(map);
  }
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Transactions                                                                                                       */

static void own_writes_stay_until_the_end(void **unused) {
  (void)unused;
  walmap *map = open_map(bounded(4, 20, 0));
  for (uint32_t i = 0; i < 20; i++)
    MUST_OK(set(map, i, i + 1));
  party p = party_of(map);
  walmap_txn_begin(p.txn);
  for (uint32_t i = 100; i < 115; i++)
    MUST_OK(txn_set(p, i, i));
  assert_int_equal(walmap_txn_len(p.txn), 35);
  walmap_txn_rollback(p.txn);
  assert_int_equal(evictions_of(map), 0);
  for (uint32_t i = 0; i < 20; i++)
    assert_int_equal(get(map, i), i + 1);
  verify(map);

  walmap_txn_begin(p.txn);
  for (uint32_t i = 100; i < 115; i++)
    MUST_OK(txn_set(p, i, i));
  walmap_txn_savepoint(p.txn, 0);
  for (uint32_t i = 200; i < 250; i++)
    MUST_OK(txn_set(p, i, i));
  walmap_txn_rollback_to(p.txn, 0);
  for (uint32_t i = 100; i < 115; i++)
    assert_int_equal(txn_get(p, i), i);
  walmap_txn_commit(p.txn);
  assert_int_equal(walmap_len(map), 20);
  for (uint32_t i = 100; i < 115; i++)
    assert_int_equal(get(map, i), i); /* 15 of the others could go */
  assert_int_equal(evictions_of(map), 15);

  walmap_txn_begin(p.txn); /* more than the bound: the commit evicts from what was written */
  for (uint32_t i = 300; i < 400; i++)
    MUST_OK(txn_set(p, i, i));
  assert_int_equal(walmap_txn_len(p.txn), 120);
  walmap_txn_commit(p.txn);
  assert_int_equal(walmap_len(map), 20);
  verify(map);
  walmap_txn_begin(p.txn); /* adds and removes as many */
  uint64_t evictions = evictions_of(map);
  for (uint32_t i = 500; i < 600; i++)
    MUST_OK(txn_set(p, i, i));
  for (uint32_t i = 500; i < 600; i++)
    MUST_OK(walmap_txn_remove(p.txn, &i, 4));
  walmap_txn_commit(p.txn);
  assert_int_equal(evictions_of(map), evictions);
  party_free(p);
  walmap_close(map);
}

/* What walmap_txn_evict removes is the transaction's: a rollback brings it back. */
static void eviction_ahead_is_undone(void **unused) {
  (void)unused;
  walmap *map = open_map(bounded(2, 10, 0));
  for (uint32_t i = 0; i < 10; i++)
    MUST_OK(set(map, i, i + 1));
  party p = party_of(map);
  for (int commit = 0; commit < 2; commit++) {
    walmap_txn_begin(p.txn);
    for (uint32_t i = 100; i < 104; i++)
      MUST_OK(txn_set(p, i, i));
    MUST_OK(walmap_txn_evict(p.txn, NULL, NULL));
    assert_int_equal(walmap_txn_len(p.txn), 10);
    MUST_OK(txn_set(p, 104, 104)); /* after it */
    MUST_OK(walmap_txn_evict(p.txn, NULL, NULL));
    assert_int_equal(walmap_txn_len(p.txn), 10);
    if (commit)
      walmap_txn_commit(p.txn);
    else
      walmap_txn_rollback(p.txn);
    for (uint32_t i = 0; i < 10 && !commit; i++)
      assert_int_equal(get(map, i), i + 1);
    assert_int_equal(walmap_len(map), 10);
    assert_int_equal(evictions_of(map), commit ? 5 : 0);
    verify(map);
  }
  party_free(p);
  walmap_close(map);
}

/* What is undone later does not take evictions out of the count that stay. */
static void eviction_before_a_savepoint(void **unused) {
  (void)unused;
  walmap *map = open_map(bounded(1, 10, 0));
  fill(map, 0, 10);
  party p = party_of(map);
  walmap_txn_begin(p.txn);
  for (uint32_t i = 100; i < 104; i++)
    MUST_OK(txn_set(p, i, i));
  MUST_OK(walmap_txn_evict(p.txn, NULL, NULL));
  walmap_txn_savepoint(p.txn, 0);
  for (uint32_t i = 200; i < 203; i++)
    MUST_OK(txn_set(p, i, i));
  MUST_OK(walmap_txn_evict(p.txn, NULL, NULL));
  walmap_txn_rollback_to(p.txn, 0);
  walmap_txn_commit(p.txn);
  assert_int_equal(walmap_len(map), 10);
  assert_int_equal(evictions_of(map), 4);
  verify(map);
  party_free(p);
  walmap_close(map);
}

static bool at_once(void *ctx) {
  (void)ctx;
  return true;
}

/* It evicts nothing; the commit makes up for that. */
static void an_interrupted_eviction(void **unused) {
  (void)unused;
  enum { N = 10000 };
  for (int commit = 0; commit < 2; commit++) {
    walmap *map = open_map(bounded(4, N, 0));
    fill(map, 0, N);
    party p;
    MUST_OK(walmap_session_new(at_once, NULL, &p.session));
    MUST_OK(walmap_txn_new(map, p.session, &p.txn));
    walmap_txn_begin(p.txn);
    for (uint32_t i = N; i < 2 * N; i++)
      MUST_OK(txn_set(p, i, i));
    MUST_RESULT(walmap_txn_evict(p.txn, NULL, NULL), WALMAP_INTERRUPT);
    assert_int_equal(walmap_txn_len(p.txn), 2 * N);
    (commit ? walmap_txn_commit : walmap_txn_rollback)(p.txn);
    assert_int_equal(walmap_len(map), N);
    assert_int_equal(evictions_of(map), commit ? N : 0);
    fill(map, 3 * N, 1);
    assert_int_equal(walmap_len(map), N);
    verify(map);
    party_free(p);
    walmap_close(map);
  }
}

/* Who is told of evictions, and ends them at one. */
typedef struct told {
  uint32_t keys[64], n, end_at;
} told;

static int note(void *ctx, const walmap_entry *entry) {
  told *t = ctx;
  uint32_t value;
  if (t->n == t->end_at)
    return WALMAP_INTERRUPT;
  MUST(entry->key_len == 4 && entry->value_len == 4);
  memcpy(&t->keys[t->n++], entry->key, 4);
  memcpy(&value, entry->value, 4);
  MUST(value == t->keys[t->n - 1] + 1);
  return WALMAP_OK;
}

/* The caller is told what goes, and may end it; then nothing has gone, and the next call evicts all of it. */
static void evictions_are_told(void **unused) {
  (void)unused;
  for (uint32_t end_at = 0; end_at < 12; end_at++) {
    walmap *map = open_map(bounded(4, 40, 0));
    for (uint32_t i = 0; i < 40; i++)
      MUST_OK(set(map, i, i + 1));
    party p = party_of(map);
    walmap_txn_begin(p.txn);
    for (uint32_t i = 100; i < 108; i++)
      MUST_OK(txn_set(p, i, i + 1));
    walmap_txn_savepoint(p.txn, 0);
    for (uint32_t i = 108; i < 112; i++)
      MUST_OK(txn_set(p, i, i + 1));
    told ended = {.end_at = end_at}, all = {.end_at = UINT32_MAX};
    assert_int_equal(walmap_txn_evict(p.txn, note, &ended), WALMAP_INTERRUPT);
    assert_int_equal(ended.n, end_at);
    assert_int_equal(walmap_txn_len(p.txn), 52);
    for (uint32_t i = 0; i < 40; i++)
      MUST(txn_get(p, i) == i + 1);
    MUST_OK(walmap_txn_evict(p.txn, note, &all));
    assert_int_equal(all.n, 12);
    assert_int_equal(walmap_txn_len(p.txn), 40);
    for (uint32_t i = 0; i < all.n; i++)
      MUST(all.keys[i] < 40 && txn_get(p, all.keys[i]) == 0);
    MUST_OK(walmap_txn_evict(p.txn, note, &all)); /* nothing is left to do */
    assert_int_equal(all.n, 12);
    if (end_at % 2) {
      walmap_txn_rollback_to(p.txn, 0); /* four rows fewer, and all that went comes back */
      assert_int_equal(walmap_txn_len(p.txn), 48);
      all.n = 0;
      MUST_OK(walmap_txn_evict(p.txn, note, &all));
      assert_int_equal(all.n, 8);
    }
    walmap_txn_ignore_bounds(p.txn);
    walmap_txn_commit(p.txn);
    assert_int_equal(walmap_len(map), 40);
    assert_int_equal(evictions_of(map), all.n);
    for (uint32_t i = 0; i < all.n; i++)
      MUST(get(map, all.keys[i]) == 0);
    verify(map);
    party_free(p);
    walmap_close(map);
  }
}

/* What repeats another map's changes is neither refused nor evicts; the next commit makes up for it. */
static void bounds_are_ignored(void **unused) {
  (void)unused;
  for (int by_bytes = 0; by_bytes < 2; by_bytes++) {
    for (int refusing = 0; refusing < 2; refusing++) {
      walmap_options o = by_bytes ? bounded(1, 0, WALMAP_LEAST_SHARE) : bounded(1, 10, 0);
      o.error_when_full = refusing;
      walmap *map = open_map(o);
      party p = party_of(map);
      uint32_t n = by_bytes ? 8000 : 30;
      walmap_txn_begin(p.txn);
      walmap_txn_ignore_bounds(p.txn);
      for (uint32_t i = 0; i < n; i++)
        MUST_OK(txn_set(p, i, i + 1));
      told none = {.end_at = 0};
      MUST_OK(walmap_txn_evict(p.txn, note, &none));
      walmap_txn_commit(p.txn);
      assert_int_equal(walmap_len(map), n);
      assert_int_equal(evictions_of(map), 0);
      verify(map);
      walmap_txn_begin(p.txn); /* which has forgotten it */
      int result = txn_set(p, n, n + 1);
      assert_int_equal(result, refusing ? WALMAP_FULL : WALMAP_OK);
      walmap_txn_commit(p.txn);
      if (!refusing && !by_bytes)
        assert_int_equal(walmap_len(map), 10);
      MUST(refusing || !by_bytes || (walmap_len(map) < n / 2 && get(map, n) == n + 1));
      verify(map);
      party_free(p);
      walmap_close(map);
    }
  }
}

/* A restore is a write as others are. */
static void restore_ignores_bounds(void **unused) {
  (void)unused;
  enum { N = 8000 };
  void *image;
  size_t size;
  walmap *whole = open_map(bounded(1, 0, 0));
  fill(whole, 0, N);
  MUST_OK(walmap_snapshot(whole, &image, &size));
  for (int by_bytes = 0; by_bytes < 2; by_bytes++) {
    walmap_options o = by_bytes ? bounded(1, 0, WALMAP_LEAST_SHARE) : bounded(1, 10, 0);
    o.error_when_full = true;
    walmap *map = open_map(o);
    party p = party_of(map);
    for (int ignored = 0; ignored < 2; ignored++) {
      walmap_txn_begin(p.txn);
      if (ignored)
        walmap_txn_ignore_bounds(p.txn);
      MUST_RESULT(walmap_txn_restore(p.txn, image, size, NULL, NULL, NULL, NULL), ignored ? WALMAP_OK : WALMAP_FULL);
      walmap_txn_commit(p.txn);
      assert_int_equal(walmap_len(map), ignored ? N : 0);
      verify(map);
    }
    MUST_RESULT(set(map, N, 1), WALMAP_FULL);
    party_free(p);
    walmap_close(map);
  }
  walmap_image_free(image);
  walmap_close(whole);
}

/* Commits that add no entry make up for it too. */
static void bounds_are_kept_by_updates(void **unused) {
  (void)unused;
  enum { MOST = 10, N = 30 };
  uint32_t key = 3;
  for (int kind = 0; kind < 4; kind++) {
    walmap *map = open_map(bounded(1, MOST, 0));
    party p = party_of(map);
    walmap_txn_begin(p.txn);
    walmap_txn_ignore_bounds(p.txn);
    for (uint32_t i = 0; i < N; i++)
      MUST_OK(txn_set(p, i, i + 1));
    walmap_txn_commit(p.txn);
    assert_int_equal(walmap_len(map), N);
    walmap_txn_begin(p.txn);
    if (kind == 0)
      MUST_OK(txn_set(p, key, 1));
    for (uint32_t i = 0; i < (kind == 2 ? 5 : kind == 3 ? 25 : 0); i++)
      MUST_OK(walmap_txn_remove(p.txn, &i, 4));
    walmap_txn_commit(p.txn);
    if (kind == 1)
      MUST_OK(set(map, key, 1)); /* the transaction has changed nothing */
    assert_int_equal(walmap_len(map), kind == 3 ? N - 25 : MOST);
    verify(map);
    for (uint32_t i = 0; i < 2 * MOST; i++)
      MUST_OK(set(map, 100 + i, 1));
    assert_int_equal(walmap_len(map), MOST); /* what is counted is right */
    verify(map);
    party_free(p);
    walmap_close(map);
  }
}

/* The shard of a write has nothing else: another gives way. When none is free, what was written goes. */
static void another_shard_gives_way(void **unused) {
  (void)unused;
  walmap *map = open_map(bounded(16, 1, 0));
  for (uint32_t i = 0; i < 100; i++) {
    MUST_OK(set(map, i, i + 1));
    assert_int_equal(get(map, i), i + 1);
    assert_int_equal(walmap_len(map), 1);
  }
  party holder = party_of(map);
  walmap_txn_begin(holder.txn);
  assert_int_equal(txn_get(holder, 99), 100); /* locks its shard */
  for (uint32_t i = 0; i < 20; i++) {
    int result = set(map, i, 1);
    MUST(result == WALMAP_OK || result == WALMAP_BUSY);
    assert_int_equal(walmap_len(map), 1);
  }
  assert_int_equal(txn_get(holder, 99), 100);
  walmap_txn_commit(holder.txn);
  assert_int_equal(get(map, 99), 100);
  verify(map);
  party_free(holder);
  walmap_close(map);
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Refusing                                                                                                           */

static void refused_when_full(void **unused) {
  (void)unused;
  walmap_options o = bounded(4, 10, 0);
  o.error_when_full = true;
  walmap *map = open_map(o);
  for (uint32_t i = 0; i < 10; i++)
    MUST_OK(set(map, i, i + 1));
  MUST_RESULT(set(map, 10, 1), WALMAP_FULL);
  MUST_OK(set(map, 3, 33));
  uint32_t key = 3;
  MUST_OK(walmap_remove(map, &key, 4));
  party p = party_of(map), q = party_of(map);
  walmap_txn_begin(p.txn);
  MUST_OK(txn_set(p, 11, 1));
  MUST_RESULT(txn_set(p, 12, 1), WALMAP_FULL);
  MUST_RESULT(set(map, 10, 1) == WALMAP_BUSY ? WALMAP_FULL : set(map, 10, 1), WALMAP_FULL);
  MUST_OK(walmap_txn_remove(p.txn, (key = 11, &key), 4));
  MUST_OK(txn_set(p, 12, 1)); /* in its place */
  MUST_RESULT(txn_set(p, 11, 1), WALMAP_FULL);
  walmap_txn_rollback(p.txn);
  walmap_txn_begin(p.txn);
  walmap_txn_begin(q.txn);
  int first = txn_set(p, 20, 1), second = txn_set(q, 23, 1);
  MUST(first == WALMAP_OK && (second == WALMAP_FULL || second == WALMAP_BUSY));
  walmap_txn_commit(p.txn);
  walmap_txn_commit(q.txn);
  assert_int_equal(walmap_len(map), 10);
  assert_int_equal(evictions_of(map), 0);
  verify(map);
  party_free(p);
  party_free(q);
  walmap_close(map);
}

static uint8_t long_value[1 << 20];

static void a_big_entry_is_refused(void **unused) {
  (void)unused;
  for (int error = 0; error < 2; error++) {
    walmap_options o = bounded(1, 0, (uint64_t)1 << 20);
    o.error_when_full = error;
    walmap *map = open_map(o);
    for (uint32_t i = 0; i < 100; i++)
      MUST_OK(walmap_set(map, &i, 4, long_value, 1000));
    uint32_t key = 1000;
    MUST_RESULT(walmap_set(map, &key, 4, long_value, sizeof long_value), WALMAP_FULL);
    MUST_RESULT(walmap_set(map, &key, 4, long_value, sizeof long_value / 2), WALMAP_FULL);
    party p = party_of(map);
    walmap_txn_begin(p.txn);
    MUST_RESULT(walmap_txn_set(p.txn, &key, 4, long_value, sizeof long_value / 2), WALMAP_FULL);
    walmap_txn_commit(p.txn);
    party_free(p);
    assert_int_equal(walmap_len(map), 100);
    MUST_OK(walmap_set(map, &key, 4, long_value, sizeof long_value / 4));
    verify(map);
    walmap_close(map);
  }
}

static void bytes_refused_when_full(void **unused) {
  (void)unused;
  walmap_options o = bounded(2, 0, (uint64_t)1 << 20);
  o.error_when_full = true;
  walmap *map = open_map(o);
  uint32_t n = 0, refused = 0;
  for (uint32_t i = 0; i < 20000; i++) {
    int result = walmap_set(map, &i, 4, long_value, 100);
    MUST(result == WALMAP_OK || result == WALMAP_FULL);
    n += result == WALMAP_OK;
    refused += result == WALMAP_FULL;
    MUST(walmap_memory(map) <= (uint64_t)33 << 15);
  }
  assert_true(refused > 0);
  assert_in_range(n, 4000, 9000);
  assert_int_equal(walmap_len(map), n);
  verify(map);
  walmap_close(map);
}

static int set_tagged(party p, uint32_t key, size_t value_len) {
  walmap_txn_begin(p.txn);
  walmap_txn_set_tag(p.txn, 1);
  int result = walmap_txn_set(p.txn, &key, 4, long_value, value_len);
  MUST(result == WALMAP_OK || result == WALMAP_FULL);
  walmap_txn_commit(p.txn);
  return result;
}

/* A tag takes room as other bytes do: in a full map a value may not grow by as little as a tag, again and again. */
static void tags_take_room(void **unused) {
  (void)unused;
  walmap_options o = bounded(1, 0, (uint64_t)1 << 20);
  o.error_when_full = true;
  walmap *map = open_map(o);
  party p = party_of(map);
  uint32_t n = 0;
  while (set_tagged(p, n, 4) == WALMAP_OK)
    n++;
  for (uint32_t i = 0; i < n; i++)
    MUST_OK(set_tagged(p, i, 4));
  uint32_t grown = 0;
  while (grown < n && set_tagged(p, grown, 8) == WALMAP_OK)
    grown++;
  assert_in_range(grown, 0, n / 8); /* what the fullest segments leave */
  MUST(walmap_memory(map) <= (uint64_t)33 << 15);
  verify(map);
  party_free(p);
  walmap_close(map);
}

/* What has expired does not keep a full map full, whichever shard it is in. */
static void expired_entries_give_way(void **unused) {
  (void)unused;
  enum { N = 10 };
  for (uint32_t shards = 1; shards <= 8; shards *= 8) {
    walmap_options o = bounded(shards, N, 0);
    o.error_when_full = true;
    o.ttl = 10;
    walmap *map = open_map(o);
    party p = party_of(map);
    for (uint32_t round = 0; round < 4; round++) {
      bool in_txn = round % 2 == 1;
      if (in_txn)
        walmap_txn_begin(p.txn);
      for (uint32_t i = 0; i <= N; i++) {
        uint32_t key = round * 100 + i;
        int result = in_txn ? txn_set(p, key, 1) : set(map, key, 1);
        MUST_RESULT(result, i < N ? WALMAP_OK : WALMAP_FULL);
      }
      if (in_txn)
        walmap_txn_commit(p.txn);
      assert_int_equal(walmap_len(map), N);
      atomic_fetch_add(&the_time, 20);
      verify(map);
    }
    walmap_txn_begin(p.txn); /* that owns all shards */
    walmap_state *state;
    MUST_OK(walmap_state_new(map, &state));
    MUST_OK(walmap_txn_state_begin(p.txn, state));
    for (uint32_t key = 1000; key < 1000 + N; key++)
      MUST_OK(txn_set(p, key, 1));
    MUST_RESULT(txn_set(p, 2000, 1), WALMAP_FULL);
    walmap_state_free(state);
    walmap_txn_rollback(p.txn);
    assert_int_equal(walmap_len(map), 0);
    party_free(p);
    verify(map);
    walmap_close(map);
  }
}

/* Unused room in the one segment of a map that is nearly empty is no reason. */
static void a_long_entry_after_a_short_one(void **unused) {
  (void)unused;
  for (size_t len = 1 << 10; len <= sizeof long_value; len *= 2) {
    walmap_options o = bounded(1, 0, (uint64_t)8 << 20);
    o.first_segment = 1024;
    o.error_when_full = true;
    walmap *map = open_map(o);
    MUST_OK(set(map, 1, 1));
    MUST_OK(walmap_set(map, "long", 4, long_value, len));
    verify(map);
    walmap_close(map);
  }
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* The model                                                                                                          */

enum { KEYS = 400, STATES = 3 };

typedef struct model {
  walmap *map, *follower;
  party leader, other;
  uint64_t random, max_entries, max_bytes;
  uint32_t now[KEYS]; /* what was set last; 0: removed */
  uint32_t present[STATES][KEYS];
  walmap_state *states[STATES];
  bool begun[STATES];
  void *since;
  size_t since_size;
  uint32_t version;
} model;

static uint32_t value_length(const model *m, uint32_t version) {
  return 4 + (m->max_bytes ? mix(version) % 1500 : mix(version) % 30);
}

static int model_set(model *m, uint32_t key, uint32_t version, uint64_t expires) {
  uint8_t value[2000] = {0};
  memcpy(value, &version, 4);
  void *to;
  uint32_t len = value_length(m, version);
  int result = walmap_txn_reserve_expiring(m->leader.txn, WALMAP_ALWAYS, &key, 4, len, expires, &to);
  if (result == WALMAP_OK)
    memcpy(to, value, len);
  return result;
}

static uint32_t version_in(walmap_state *s, uint32_t key) {
  walmap_entry e;
  uint32_t version = 0;
  if (walmap_state_get(s, &key, 4, &e) == WALMAP_OK)
    memcpy(&version, e.value, 4);
  return version;
}

/* Beside a 32nd and a record a shard: the queue of garbage grows by chunks, which matter to shares as small as here. */
static void check_bounds(model *m, uint64_t pinned_free) {
  enum { CHUNK = 8 << 10 };
  if (m->max_entries)
    MUST(walmap_len(m->map) <= m->max_entries);
  if (m->max_bytes && pinned_free)
    MUST(walmap_memory(m->map) <= m->max_bytes + m->max_bytes / 32 + (1600 + CHUNK) * 4);
}

/* The follower takes the changes, and is equal. */
static void follow(model *m) {
  walmap_state *s;
  void *changes;
  size_t size;
  MUST_OK(walmap_state_new(m->map, &s));
  MUST_OK(walmap_state_begin(s));
  party p = party_of(m->follower);
  walmap_txn_begin(p.txn);
  int result = m->since ? walmap_state_changes(s, m->since, m->since_size, &changes, &size, NULL) : WALMAP_GONE;
  if (result == WALMAP_OK) {
    MUST_OK(walmap_txn_apply(p.txn, changes, size, NULL, NULL, NULL, NULL));
    walmap_image_free(m->since);
    m->since = changes;
    m->since_size = size;
  } else {
    void *image;
    MUST_RESULT(result, WALMAP_GONE);
    MUST_OK(walmap_state_image(s, &image, &size));
    MUST_OK(walmap_txn_restore(p.txn, image, size, NULL, NULL, NULL, NULL));
    walmap_image_free(image);
    walmap_image_free(m->since);
    MUST_OK(walmap_state_position(s, &m->since, &m->since_size));
  }
  walmap_txn_commit(p.txn);
  party_free(p);
  MUST(walmap_state_len(s) == walmap_len(m->follower));
  for (uint32_t i = 0; i < KEYS; i++)
    MUST(version_in(s, i) == get(m->follower, i));
  walmap_state_free(s);
}

/* What is there is what was set last. `may_miss`: what a commit may have evicted. */
static void check_content(model *m) {
  walmap_state *s;
  MUST_OK(walmap_state_new(m->map, &s));
  MUST_OK(walmap_state_begin(s));
  uint32_t n = 0;
  for (uint32_t i = 0; i < KEYS; i++) {
    uint32_t version = version_in(s, i);
    MUST(version == 0 || version == m->now[i]);
    n += version != 0;
    m->now[i] = version; /* what was evicted is gone */
  }
  MUST(n == walmap_state_len(s));
  walmap_state_free(s);
}

static void change(model *m, uint32_t *now, bool *own) {
  uint32_t key = random_below(&m->random, KEYS), version = ++m->version;
  if (random_below(&m->random, 4) == 0) {
    int result = walmap_txn_remove(m->leader.txn, &key, 4);
    MUST_RESULT(result, now[key] ? WALMAP_OK : WALMAP_NOTFOUND);
    now[key] = 0;
  } else {
    MUST_OK(model_set(m, key, version, WALMAP_NEVER));
    now[key] = version;
  }
  own[key] = true;
}

static void transaction(model *m) {
  uint32_t now[KEYS], saved[KEYS], before[KEYS];
  bool own[KEYS] = {false};
  memcpy(now, m->now, sizeof now);
  memcpy(before, m->now, sizeof before);
  walmap_txn_begin(m->leader.txn);
  uint32_t n = random_below(&m->random, random_below(&m->random, 10) == 0 ? 600 : 20), at = n / 2;
  bool back = random_below(&m->random, 3) == 0, undone = random_below(&m->random, 4) == 0;
  for (uint32_t i = 0; i < n; i++) {
    if (i == at) {
      walmap_txn_savepoint(m->leader.txn, 0);
      memcpy(saved, now, sizeof now);
    }
    change(m, now, own);
  }
  if (back && n > 0) {
    walmap_txn_rollback_to(m->leader.txn, 0);
    memcpy(now, saved, sizeof now);
  }
  for (uint32_t i = 0; i < KEYS; i++) {
    if (own[i])
      MUST(txn_get(m->leader, i) == now[i]);
  }
  if (undone)
    walmap_txn_rollback(m->leader.txn);
  else
    walmap_txn_commit(m->leader.txn);
  memcpy(m->now, undone ? before : now, sizeof now);
  if (undone) {
    for (uint32_t i = 0; i < KEYS; i++)
      MUST(get(m->map, i) == before[i]);
  }
}

static void write_one(model *m, uint32_t key) {
  uint32_t version = ++m->version;
  uint8_t value[2000] = {0};
  memcpy(value, &version, 4);
  MUST_OK(walmap_set(m->map, &key, 4, value, value_length(m, version)));
  MUST(get(m->map, key) == version); /* what was just written is not what goes */
  m->now[key] = version;
}

static void single(model *m) {
  uint32_t key = random_below(&m->random, KEYS);
  switch (random_below(&m->random, 4)) {
  case 0: {
    int result = walmap_remove(m->map, &key, 4);
    MUST_RESULT(result, m->now[key] ? WALMAP_OK : WALMAP_NOTFOUND);
    m->now[key] = 0;
    break;
  }
  case 1:
    MUST(get(m->map, key) == m->now[key]);
    break;
  default:
    write_one(m, key);
  }
}

static void hold_state(model *m) {
  uint32_t i = random_below(&m->random, STATES);
  if (m->begun[i]) {
    for (uint32_t key = 0; key < KEYS; key++)
      MUST(version_in(m->states[i], key) == m->present[i][key]);
    walmap_state_end(m->states[i]);
    MUST_OK(walmap_compact(m->map, NULL)); /* what it kept goes at once, and not by later writes */
    /* Tables that have grown meanwhile stay: a write to each shard makes room for them. */
    for (uint32_t key = 0; key < 8 * walmap_get_options(m->map)->shards; key++)
      write_one(m, key);
  } else {
    MUST_OK(walmap_state_begin(m->states[i]));
    memcpy(m->present[i], m->now, sizeof m->now);
  }
  m->begun[i] = !m->begun[i];
}

static void image_again(model *m) {
  void *image;
  size_t size;
  MUST_OK(walmap_snapshot(m->map, &image, &size));
  MUST_OK(walmap_restore(m->map, image, size, NULL, NULL));
  walmap_image_free(image);
}

static void run_model(uint32_t shards, uint64_t max_entries, uint64_t max_bytes, uint64_t seed) {
  model m = {.random = seed, .max_entries = max_entries, .max_bytes = max_bytes};
  m.map = open_map(bounded(shards, max_entries, max_bytes));
  m.follower = open_map(bounded(2, 0, 0));
  m.leader = party_of(m.map);
  for (uint32_t i = 0; i < STATES; i++)
    MUST_OK(walmap_state_new(m.map, &m.states[i]));
  for (uint32_t step = 0; step < 1500 / SLOWDOWN; step++) {
    uint32_t kind = random_below(&m.random, 40);
    if (kind < 10)
      transaction(&m);
    else if (kind == 10)
      hold_state(&m);
    else if (kind == 11)
      follow(&m);
    else if (kind == 12)
      MUST_OK(walmap_compact(m.map, NULL));
    else if (kind == 13 && random_below(&m.random, 10) == 0)
      image_again(&m);
    else
      single(&m);
    check_bounds(&m, kind != 13 && !m.begun[0] && !m.begun[1] && !m.begun[2]);
    check_content(&m);
    if (step % 16 == 0)
      verify(m.map);
  }
  MUST(evictions_of(m.map) > 0);
  for (uint32_t i = 0; i < STATES; i++)
    walmap_state_free(m.states[i]);
  walmap_image_free(m.since);
  party_free(m.leader);
  walmap_close(m.map);
  walmap_close(m.follower);
}

static void as_the_model_says(void **unused) {
  (void)unused;
  uint64_t seed = announce_seed("test_bounds");
  run_model(1, 50, 0, seed);
  run_model(4, 50, 0, seed + 1);
  run_model(16, 20, 0, seed + 2);
  run_model(1, 0, 160 << 10, seed + 3);
  run_model(4, 0, 400 << 10, seed + 4);
  run_model(2, 100, 256 << 10, seed + 5);
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Memory                                                                                                             */

/* Never beyond, whatever the lengths, and not far below either. */
static void memory_stays_within(void **unused) {
  (void)unused;
  static const struct {
    uint32_t shards, longest, keys;
    uint64_t max_bytes;
  } cases[] = {{1, 8, 200000, 1 << 20},   {1, 100, 50000, 1 << 20},  {4, 300, 60000, 4 << 20},
               {16, 40, 400000, 3 << 20}, {2, 4000, 20000, 4 << 20}, {16, 1, 1000000, 3 << 19}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    walmap *map = open_map(bounded(cases[i].shards, 0, cases[i].max_bytes));
    uint64_t random = i, most = 0, least = UINT64_MAX, bound = cases[i].max_bytes;
    for (uint32_t n = 0; n < 120000 / SLOWDOWN; n++) {
      uint32_t key = random_below(&random, cases[i].keys);
      MUST_OK(walmap_set(map, &key, 4, long_value, random_below(&random, cases[i].longest)));
      uint64_t memory = walmap_memory(map);
      most = memory > most ? memory : most;
      if (n > 100000 / SLOWDOWN)
        least = memory < least ? memory : least;
    }
    printf("shards %u, values to %u: %.3f of max_bytes at most, %.3f at least, %llu entries\n", cases[i].shards,
           cases[i].longest, (double)most / (double)bound, (double)least / (double)bound,
           (unsigned long long)walmap_len(map));
    MUST(most <= bound + bound / 32 + (uint64_t)cases[i].shards * (cases[i].longest + 32));
    verify(map);
    walmap_close(map);
  }
}

static _Atomic uint64_t visits_forgotten;

static void count_forgotten(const char *point) {
  if (strcmp(point, "evict: visit forgotten") == 0)
    atomic_fetch_add(&visits_forgotten, 1);
}

/*
** Between entries lie many dead records, which a reader keeps: the hand does not pass over hundreds of entries, and the
** dead ones with them, to find one that was not visited.
*/
static void the_hand_has_a_budget(void **unused) {
  (void)unused;
  enum { ENTRIES = 1000, DEAD = 100, MOST = 100 }; /* segments without entries take nothing of the budget */
  walmap *map = open_map(bounded(1, ENTRIES, 0));
  walmap_state *state;
  MUST_OK(walmap_state_new(map, &state));
  MUST_OK(walmap_state_begin(state));
  for (uint32_t i = 1; i < ENTRIES; i++) {
    MUST_OK(set(map, i, i));
    for (uint32_t dead = 0; dead < DEAD; dead++)
      MUST_OK(set(map, 0, dead));
  }
  uint64_t most = 0;
  for (uint32_t i = ENTRIES; i < ENTRIES + 100; i++) {
    for (uint32_t key = 0; key < i; key++)
      (void)get(map, key);
    atomic_store(&visits_forgotten, 0);
    atomic_store(&walmap__yield_hook, count_forgotten);
    MUST_OK(set(map, i, i));
    atomic_store(&walmap__yield_hook, (walmap__yield_fn)NULL);
    most = atomic_load(&visits_forgotten) > most ? atomic_load(&visits_forgotten) : most;
    assert_true(walmap_len(map) <= ENTRIES);
  }
  assert_in_range(most, 1, MOST);
  walmap_state_free(state);
  verify(map);
  walmap_close(map);
}

static void an_image_beyond_the_bound(void **unused) {
  (void)unused;
  walmap *from = open_map(bounded(4, 0, 0));
  for (uint32_t i = 0; i < 5000; i++)
    MUST_OK(walmap_set(from, &i, 4, long_value, 200));
  void *image;
  size_t size;
  MUST_OK(walmap_snapshot(from, &image, &size));
  for (int bytes = 0; bytes < 2; bytes++) {
    walmap_options o = bounded(4, bytes ? 0 : 100, bytes ? 512 << 10 : 0);
    walmap *map = open_map(o);
    MUST_OK(set(map, 1, 1));
    MUST_OK(walmap_restore(map, image, size, NULL, NULL));
    if (bytes)
      MUST(walmap_memory(map) <= (512 << 10) / 32 * 33 + 1000);
    else
      assert_int_equal(walmap_len(map), 100);
    assert_in_range(walmap_len(map), 100, 2500);
    verify(map);
    walmap_close(map);
    o.error_when_full = true;
    map = open_map(o);
    MUST_OK(set(map, 1, 1));
    MUST_RESULT(walmap_restore(map, image, size, NULL, NULL), WALMAP_FULL);
    assert_int_equal(walmap_len(map), 1);
    assert_int_equal(get(map, 1), 1);
    for (uint32_t i = 0; i < 50; i++)
      MUST_OK(set(map, i, 1));
    verify(map);
    walmap_close(map);
  }
  walmap_image_free(image);
  walmap_close(from);
}

/* The index that the loaded entries took shrinks with them. */
static void memory_after_a_large_image(void **unused) {
  (void)unused;
  enum { N = 300000 };
  const uint64_t bytes = (uint64_t)2 << 20;
  walmap *from = open_map(bounded(4, 0, 0));
  for (uint32_t i = 0; i < N; i++)
    MUST_OK(set(from, i, i));
  void *image;
  size_t size;
  MUST_OK(walmap_snapshot(from, &image, &size));
  walmap_close(from);
  for (int by_bytes = 0; by_bytes < 2; by_bytes++) {
    walmap *map = open_map(bounded(4, by_bytes ? 0 : 100, by_bytes ? bytes : 0));
    MUST_OK(walmap_restore(map, image, size, NULL, NULL));
    for (uint32_t i = N; i < N + N / 2; i++)
      MUST_OK(set(map, i, i));
    MUST_OK(walmap_compact(map, NULL));
    assert_true(walmap_memory(map) <= (by_bytes ? bytes / 32 * 33 : bytes / 4));
    assert_true(walmap_len(map) >= (by_bytes ? bytes / (ORDERED ? 60 : 40) : 100));
    verify(map);
    walmap_close(map);
  }
  walmap_image_free(image);
}

/* A map that refuses more takes what it has itself: values of the same length, and its own image. */
static void a_full_map_takes_its_own_image(void **unused) {
  (void)unused;
  for (uint32_t shards = 1; shards <= 16; shards *= 4) {
    for (size_t len = 4; len <= 4000; len *= 10) {
      walmap_options o = bounded(shards, 0, (uint64_t)2 << 20);
      o.error_when_full = true;
      o.ordered = len == 40;
      walmap *map = open_map(o);
      o.seed_given = true; /* with another seed other shards would be full */
      o.seed = walmap_get_options(map)->seed;
      walmap *other = open_map(o);
      uint32_t n = 0;
      while (walmap_set(map, &n, 4, long_value, len) == WALMAP_OK)
        n++;
      for (uint32_t i = 0; i < n; i++) /* no longer than before */
        MUST_OK(walmap_set(map, &i, 4, long_value, len));
      void *image;
      size_t size;
      MUST_OK(walmap_snapshot(map, &image, &size));
      for (int round = 0; round < 3; round++)
        MUST_OK(walmap_restore(map, image, size, NULL, NULL));
      MUST_OK(walmap_restore(other, image, size, NULL, NULL));
      for (uint32_t i = 0; i < n; i++) {
        MUST_OK(walmap_set(map, &i, 4, long_value, len));
        MUST(walmap_set(map, &(uint32_t){n + i}, 4, long_value, len) != WALMAP_NOMEM);
      }
      assert_true(walmap_memory(map) <= ((uint64_t)2 << 20) / 32 * 33 + shards * len);
      assert_true(walmap_len(map) >= n);
      verify(map);
      walmap_image_free(image);
      walmap_close(map);
      walmap_close(other);
    }
  }
}

/* Old states pin what is dead; what is alive does not go for that. */
static void an_old_state_evicts_nothing_more(void **unused) {
  (void)unused;
  walmap *map = open_map(bounded(1, 0, 1 << 20));
  walmap_state *state;
  MUST_OK(walmap_state_new(map, &state));
  for (uint32_t i = 0; i < 20000; i++)
    MUST_OK(walmap_set(map, &i, 4, long_value, 100));
  uint64_t before = walmap_len(map);
  MUST_OK(walmap_state_begin(state));
  for (uint32_t i = 20000; i < 60000; i++)
    MUST_OK(walmap_set(map, &i, 4, long_value, 100));
  assert_true(walmap_memory(map) > 2 << 20);
  assert_in_range(walmap_len(map), before * 8 / 10, before * 12 / 10);
  assert_int_equal(walmap_state_len(state), before);
  walmap_state_end(state);
  for (uint32_t i = 60000; i < 60100; i++)
    MUST_OK(walmap_set(map, &i, 4, long_value, 100));
  assert_true(walmap_memory(map) <= (1 << 20) / 32 * 33);
  walmap_state_free(state);
  verify(map);
  walmap_close(map);
}

/* What an old state kept made the log's segments long: they do not take a second share while they are copied. */
static void long_segments_are_copied(void **unused) {
  (void)unused;
  enum { KEYS_HERE = 2000, LEN = 60 };
  const uint64_t bytes = 160 << 10;
  walmap *map = open_map(bounded(1, 0, bytes));
  walmap_state *state;
  MUST_OK(walmap_state_new(map, &state));
  uint64_t random = 1;
  for (int round = 0; round < 10; round++) {
    MUST_OK(walmap_state_begin(state));
    for (uint32_t i = 0; i < 40000; i++)
      MUST_OK(walmap_set(map, &(uint32_t){random_below(&random, KEYS_HERE)}, 4, long_value, LEN));
    walmap_state_end(state);
    MUST_OK(walmap_compact(map, NULL));
    for (uint32_t i = 0; i < 4000; i++) {
      MUST_OK(walmap_set(map, &(uint32_t){random_below(&random, KEYS_HERE)}, 4, long_value, LEN));
      MUST(walmap_memory(map) <= bytes + bytes / 32 + LEN + (i < 50 ? bytes : 0));
    }
  }
  walmap_state_free(state);
  verify(map);
  walmap_close(map);
}

/* Expired entries make room before others do. */
static void expired_entries_go_first(void **unused) {
  (void)unused;
  walmap *map = open_map(bounded(1, 100, 0));
  for (uint32_t i = 0; i < 100; i++)
    MUST_OK(walmap_set_expiring(map, &i, 4, &i, 4, i < 50 ? atomic_load(&the_time) + 10 : WALMAP_NEVER));
  atomic_fetch_add(&the_time, 20);
  uint32_t removed = 99;
  MUST_OK(walmap_remove(map, &removed, 4)); /* a commit notices what has expired */
  for (uint32_t i = 100; i < 150; i++)
    MUST_OK(set(map, i, i));
  assert_int_equal(evictions_of(map), 0);
  assert_int_equal(walmap_len(map), 99);
  verify(map);
  walmap_close(map);
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Memory that is out, and threads                                                                                    */

static void without_memory(void **unused) {
  (void)unused;
  for (int for_ever = 0; for_ever < 2; for_ever++) {
    unsigned long long hits = 1;
    for (unsigned long long fail_at = 1; hits > 0; fail_at++) {
      faults f = {0};
      walmap_options o = bounded(2, 64, 0);
      o.allocator = faults_allocator(&f);
      walmap *map = open_map(o);
      fill(map, 0, 64);
      party p = party_of(map);
      faults_arm(&f, fail_at, for_ever);
      uint32_t key;
      int result = WALMAP_OK;
      for (key = 1000; key < 1040 && result == WALMAP_OK; key++)
        result = set(map, key, key);
      atomic_store(&f.armed, false);
      hits = atomic_load(&f.hits);
      MUST(result == WALMAP_OK || result == WALMAP_NOMEM);
      MUST(walmap_len(map) == 64);
      if (result == WALMAP_NOMEM) {
        uint64_t evictions = evictions_of(map);
        MUST(get(map, key - 1) == 0);
        MUST(evictions == key - 1001);
      }
      verify(map);

      walmap_txn_begin(p.txn);
      for (uint32_t i = 2000; i < 2200; i++)
        MUST_OK(txn_set(p, i, i));
      faults_arm(&f, fail_at, for_ever);
      result = walmap_txn_evict(p.txn, NULL, NULL);
      atomic_store(&f.armed, false);
      hits += atomic_load(&f.hits);
      MUST(result == WALMAP_OK || result == WALMAP_NOMEM);
      MUST(walmap_txn_len(p.txn) == (result == WALMAP_OK ? 64 : 264));
      if (result == WALMAP_NOMEM && fail_at % 2)
        result = walmap_txn_evict(p.txn, NULL, NULL);
      MUST(walmap_txn_len(p.txn) == (result == WALMAP_OK ? 64 : 264));
      if (result == WALMAP_OK)
        walmap_txn_commit(p.txn);
      else
        walmap_txn_rollback(p.txn);
      MUST(walmap_len(map) == 64);
      verify(map);

      walmap_txn_begin(p.txn); /* the commit cannot fail, and the next one makes up for it */
      for (uint32_t i = 3000; i < 3200; i++)
        MUST_OK(txn_set(p, i, i));
      faults_arm(&f, fail_at, for_ever);
      walmap_txn_commit(p.txn);
      atomic_store(&f.armed, false);
      hits += atomic_load(&f.hits);
      MUST(walmap_len(map) <= 264);
      verify(map);
      fill(map, 5000, 1);
      MUST(walmap_len(map) <= 64);
      verify(map);
      party_free(p);
      walmap_close(map);
      MUST(atomic_load(&f.blocks) == 0);
    }
  }
}

enum { WRITERS = 4, MOST = 200 };

typedef struct crowd {
  walmap *map;
  _Atomic bool done;
  _Atomic uint64_t looks;
} crowd;

static void *write_much(void *arg) {
  crowd *c = arg;
  uint64_t random = (uint64_t)(uintptr_t)&random;
  party p = party_of(c->map);
  for (int i = 0; i < 20000 / SLOWDOWN; i++) {
    uint32_t key = random_below(&random, 2000);
    int result = WALMAP_OK;
    if (random_below(&random, 4) > 0) {
      result = random_below(&random, 5) ? set(c->map, key, 1) : walmap_remove(c->map, &key, 4);
      MUST(result == WALMAP_OK || result == WALMAP_NOTFOUND || result == WALMAP_BUSY || result == WALMAP_FULL);
      continue;
    }
    walmap_txn_begin(p.txn);
    for (int n = 0; n < 10 && (result == WALMAP_OK || result == WALMAP_FULL); n++)
      result = txn_set(p, random_below(&random, 2000), 1);
    if (result == WALMAP_OK && random_below(&random, 5))
      walmap_txn_commit(p.txn);
    else
      walmap_txn_rollback(p.txn);
  }
  party_free(p);
  return NULL;
}

static void *look(void *arg) {
  crowd *c = arg;
  walmap_state *s;
  MUST_OK(walmap_state_new(c->map, &s));
  while (!atomic_load(&c->done)) {
    walmap_cursor cursor;
    walmap_entry e;
    uint64_t n = 0;
    MUST_OK(walmap_state_begin(s));
    for (walmap_cursor_start(&cursor, s); walmap_cursor_next(&cursor, &e);)
      n++;
    MUST(n <= MOST && n == walmap_state_len(s));
    walmap_state_end(s);
    for (uint32_t i = 0; i < 50; i++)
      (void)get(c->map, i);
    atomic_fetch_add(&c->looks, 1);
  }
  walmap_state_free(s);
  return NULL;
}

/* No state of any moment has more entries than allowed, and none are lost from the count. */
static void never_beyond_among_threads(void **unused) {
  (void)unused;
  for (int error = 0; error < 2; error++) {
    walmap_options o = bounded(8, MOST, 0);
    o.busy_timeout = 1000;
    o.error_when_full = error;
    crowd c = {.map = open_map(o)};
    pthread_t writers[WRITERS], looker;
    MUST(pthread_create(&looker, NULL, look, &c) == 0);
    for (int i = 0; i < WRITERS; i++)
      MUST(pthread_create(&writers[i], NULL, write_much, &c) == 0);
    for (int i = 0; i < WRITERS; i++)
      pthread_join(writers[i], NULL);
    while (atomic_load(&c.looks) == 0)
      sched_yield(); /* on a busy machine the writers may end before the looker begins */
    atomic_store(&c.done, true);
    pthread_join(looker, NULL);
    for (uint32_t i = 0; i < 2 * MOST; i++) { /* the count is exact: as many as allowed find room */
      int result = set(c.map, 100000 + i, 1);
      MUST(result == WALMAP_OK || (error && result == WALMAP_FULL));
    }
    assert_int_equal(walmap_len(c.map), MOST);
    MUST((evictions_of(c.map) > 0) == !error);
    verify(c.map);
    walmap_close(c.map);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(options_that_contradict),
      cmocka_unit_test(the_unvisited_go_first),
      cmocka_unit_test(what_is_read_outlives_a_scan),
      cmocka_unit_test(hot_gets_store_nothing),
      cmocka_unit_test(own_writes_stay_until_the_end),
      cmocka_unit_test(eviction_ahead_is_undone),
      cmocka_unit_test(eviction_before_a_savepoint),
      cmocka_unit_test(an_interrupted_eviction),
      cmocka_unit_test(evictions_are_told),
      cmocka_unit_test(bounds_are_ignored),
      cmocka_unit_test(restore_ignores_bounds),
      cmocka_unit_test(bounds_are_kept_by_updates),
      cmocka_unit_test(another_shard_gives_way),
      cmocka_unit_test(refused_when_full),
      cmocka_unit_test(a_big_entry_is_refused),
      cmocka_unit_test(bytes_refused_when_full),
      cmocka_unit_test(tags_take_room),
      cmocka_unit_test(expired_entries_give_way),
      cmocka_unit_test(a_long_entry_after_a_short_one),
      cmocka_unit_test(as_the_model_says),
      cmocka_unit_test(memory_stays_within),
      cmocka_unit_test(the_hand_has_a_budget),
      cmocka_unit_test(an_image_beyond_the_bound),
      cmocka_unit_test(memory_after_a_large_image),
      cmocka_unit_test(a_full_map_takes_its_own_image),
      cmocka_unit_test(an_old_state_evicts_nothing_more),
      cmocka_unit_test(long_segments_are_copied),
      cmocka_unit_test(expired_entries_go_first),
      cmocka_unit_test(without_memory),
      cmocka_unit_test(never_beyond_among_threads),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
