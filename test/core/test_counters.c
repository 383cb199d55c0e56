/*
** test_counters.c - what walmap_get_stats tells: each event is counted once, by whichever call and thread, and nothing
** that is undone, or a look of the library's own, is; what readers hold is told while they hold it
*/
#include "../common/held_thread.h"

#include "platform/platform.h"

#define START 1000000

static _Atomic uint64_t the_time;

static uint64_t tell_time(void *ctx) {
  (void)ctx;
  return atomic_load(&the_time);
}

static walmap *open_map(uint32_t shards) {
  walmap_options options;
  options_init(&options);
  options.shards = shards;
  options.busy_timeout = 0;
  options.clock = tell_time;
  options.seed_given = true; /* where the keys lie decides which write tends another shard, which a look reads again */
  options.seed = 1;
  atomic_store(&the_time, START);
  walmap *map;
  MUST_OK(walmap_open(&options, &map));
  return map;
}

static walmap_stats stats_of(walmap *map) {
  walmap_stats stats;
  walmap_get_stats(map, &stats);
  return stats;
}

static void set(walmap *map, uint32_t key, uint64_t expires) {
  MUST_OK(walmap_set_expiring(map, &key, 4, &key, 4, expires));
}

static bool get(walmap *map, uint32_t key) { return walmap_get(map, &key, 4, NULL, 0, NULL) == WALMAP_OK; }

static bool ignore(void *ctx, const void *value, size_t value_len) {
  (void)ctx, (void)value, (void)value_len;
  return true;
}

#define assert_lookups(map, h, m)                                                                                      \
  do {                                                                                                                 \
    walmap_stats got_ = stats_of(map);                                                                                 \
    assert_int_equal(got_.hits, h);                                                                                    \
    assert_int_equal(got_.misses, m);                                                                                  \
  } while (0)

/* ------------------------------------------------------------------------------------------------------------------ */

static void each_lookup_once(void **unused) {
  (void)unused;
  walmap *map = open_map(4);
  walmap_state *state;
  walmap_entry entry, many[40];
  assert_lookups(map, 0, 0);
  set(map, 1, WALMAP_NEVER);
  set(map, 2, START + 10);
  assert_true(get(map, 1) && get(map, 2) && !get(map, 3));
  assert_lookups(map, 2, 1);
  uint32_t key = 1;
  assert_int_equal(walmap_view(map, &key, 4, ignore, NULL), WALMAP_OK);
  assert_lookups(map, 3, 1);
  atomic_store(&the_time, START + 10);
  assert_false(get(map, 2)); /* expired: a miss */
  assert_lookups(map, 3, 2);

  MUST_OK(walmap_state_new(map, &state));
  MUST_OK(walmap_state_begin(state));
  MUST_OK(walmap_state_get(state, &key, 4, &entry));
  MUST_OK(walmap_state_peek(state, &key, 4, &entry));
  uint32_t keys[40];
  for (uint32_t i = 0; i < 40; i++) {
    keys[i] = i;
    many[i] = (walmap_entry){.key = &keys[i], .key_len = 4};
  }
  assert_int_equal(walmap_state_get_many(state, many, 40), 1);
  assert_lookups(map, 5, 41);
  walmap_state_end(state);
  assert_lookups(map, 5, 41);
  walmap_state_free(state);
  assert_lookups(map, 5, 41);
  walmap_close(map);
}

static void not_by_writes(void **unused) {
  (void)unused;
  walmap *map = open_map(4);
  uint32_t key = 1;
  bool done;
  set(map, 1, WALMAP_NEVER);
  MUST_OK(walmap_set_if_absent(map, &key, 4, "x", 1, &done));
  MUST_OK(walmap_set_if(map, &key, 4, "y", 1, ignore, NULL, &done));
  MUST_OK(walmap_touch(map, &key, 4, WALMAP_NEVER));
  MUST_OK(walmap_remove(map, &key, 4));
  assert_int_equal(walmap_remove(map, &key, 4), WALMAP_NOTFOUND);
  assert_lookups(map, 0, 0);
  assert_int_equal(stats_of(map).commits, 4);
  walmap_close(map);
}

static void in_transactions(void **unused) {
  (void)unused;
  walmap *map = open_map(4);
  walmap_session *session;
  walmap_txn *txn;
  walmap_entry entry;
  uint32_t key = 1, other = 2;
  MUST_OK(walmap_session_new(NULL, NULL, &session));
  MUST_OK(walmap_txn_new(map, session, &txn));
  for (int round = 0; round < 4; round++) {
    walmap_txn_begin(txn);
    assert_int_equal(walmap_txn_get(txn, &other, 4, &entry), WALMAP_NOTFOUND);
    if (round > 0) {
      for (uint32_t i = 10; i < 30; i++) /* of all shards: one transaction all the same */
        MUST_OK(walmap_txn_set(txn, &i, 4, "x", 1));
      MUST_OK(walmap_txn_set(txn, &key, 4, "x", 1));
      MUST_OK(walmap_txn_get(txn, &key, 4, &entry));
      MUST_OK(walmap_txn_peek(txn, &key, 4, &entry));
    }
    (round % 2 ? walmap_txn_rollback : walmap_txn_commit)(txn);
    assert_lookups(map, round, round + 1);
  }
  walmap_stats stats = stats_of(map);
  assert_int_equal(stats.commits, 1); /* the first had not written */
  assert_int_equal(stats.rollbacks, 2);
  walmap_txn_free(txn);
  walmap_session_free(session);
  walmap_close(map);
}

static void waits_in_vain(void **unused) {
  (void)unused;
  walmap *map = open_map(1);
  walmap_session *sessions[2];
  walmap_txn *txns[2];
  uint32_t key = 1;
  for (int i = 0; i < 2; i++) {
    MUST_OK(walmap_session_new(NULL, NULL, &sessions[i]));
    MUST_OK(walmap_txn_new(map, sessions[i], &txns[i]));
    walmap_txn_begin(txns[i]);
  }
  MUST_OK(walmap_txn_set(txns[0], &key, 4, "x", 1));
  assert_int_equal(walmap_txn_set(txns[1], &key, 4, "x", 1), WALMAP_BUSY);
  assert_int_equal(walmap_set(map, &key, 4, "x", 1), WALMAP_BUSY);
  assert_int_equal(walmap_compact(map, NULL), WALMAP_BUSY);
  assert_int_equal(walmap_verify(map, NULL, NULL), WALMAP_BUSY);
  assert_int_equal(stats_of(map).busy, 4);
  assert_int_equal(stats_of(map).deadlocks, 0);
  for (int i = 0; i < 2; i++) {
    walmap_txn_free(txns[i]);
    walmap_session_free(sessions[i]);
  }
  walmap_close(map);
}

/* A key of the shard, of two. */
static uint32_t key_of(walmap *map, uint32_t shard) {
  uint32_t key = 0;
  while (walmap_hash(map, &key, 4) >> 63 != shard)
    key++;
  return key;
}

typedef struct party {
  walmap_txn *txn;
  walmap *map;
  uint32_t wants;
  _Atomic int result;
} party;

static void *want(void *ctx) {
  party *p = ctx;
  uint32_t key = key_of(p->map, p->wants);
  atomic_store(&p->result, walmap_txn_set(p->txn, &key, 4, "x", 1));
  walmap_txn_rollback(p->txn);
  return NULL;
}

/* Two that wait for each other: one of them must give way. */
static void deadlocks(void **unused) {
  (void)unused;
  walmap_options options;
  options_init(&options);
  options.shards = 2;
  options.busy_timeout = 600000; /* one may have to wait until the other's thread runs */
  walmap *map;
  MUST_OK(walmap_open(&options, &map));
  walmap_session *sessions[2];
  party parties[2];
  pthread_t threads[2];
  for (uint32_t i = 0; i < 2; i++) {
    uint32_t key = key_of(map, i);
    parties[i] = (party){.map = map, .wants = 1 - i};
    MUST_OK(walmap_session_new(NULL, NULL, &sessions[i]));
    MUST_OK(walmap_txn_new(map, sessions[i], &parties[i].txn));
    walmap_txn_begin(parties[i].txn);
    MUST_OK(walmap_txn_set(parties[i].txn, &key, 4, "x", 1));
  }
  for (int i = 0; i < 2; i++)
    MUST(pthread_create(&threads[i], NULL, want, &parties[i]) == 0);
  for (int i = 0; i < 2; i++)
    MUST(pthread_join(threads[i], NULL) == 0);
  assert_true((parties[0].result == WALMAP_DEADLOCK) + (parties[1].result == WALMAP_DEADLOCK) == 1);
  walmap_stats stats = stats_of(map);
  assert_int_equal(stats.deadlocks, 1);
  assert_int_equal(stats.busy, 0);
  assert_int_equal(stats.rollbacks, 2);
  for (int i = 0; i < 2; i++) {
    walmap_txn_free(parties[i].txn);
    walmap_session_free(sessions[i]);
  }
  walmap_close(map);
}

/* ------------------------------------------------------------------------------------------------------------------ */

#define assert_expirations(map, n) assert_int_equal(stats_of(map).expirations, n)

static void each_expiry_once(void **unused) {
  (void)unused;
  walmap *map = open_map(1);
  for (uint32_t i = 0; i < 8; i++)
    set(map, i, START + 10);
  set(map, 100, WALMAP_NEVER);
  assert_expirations(map, 0);
  atomic_store(&the_time, START + 10);
  assert_expirations(map, 8); /* though no write has noticed it */
  set(map, 0, START + 20);    /* over one that had expired */
  assert_expirations(map, 8);
  set(map, 0, WALMAP_NEVER); /* over one that had not */
  set(map, 1, START + 20);
  set(map, 2, START + 20);
  assert_expirations(map, 8);
  MUST_OK(walmap_compact(map, NULL));
  assert_expirations(map, 8);
  atomic_store(&the_time, START + 30);
  assert_expirations(map, 10);
  set(map, 3, START); /* absent at once */
  assert_expirations(map, 11);
  atomic_store(&the_time, START); /* back: nothing comes back */
  assert_expirations(map, 11);
  assert_int_equal(walmap_len(map), 2);
  walmap_close(map);
}

static void not_what_is_undone(void **unused) {
  (void)unused;
  walmap *map = open_map(2);
  walmap_session *session;
  walmap_txn *txn;
  uint64_t removed;
  MUST_OK(walmap_session_new(NULL, NULL, &session));
  MUST_OK(walmap_txn_new(map, session, &txn));
  for (uint32_t i = 0; i < 16; i++)
    set(map, i, START + 10);
  set(map, 100, WALMAP_NEVER);
  for (int round = 0; round < 2; round++) {
    atomic_store(&the_time, START + 10);
    walmap_txn_begin(txn);
    walmap_txn_savepoint(txn, 0);
    for (uint32_t i = 0; i < 16; i++)
      MUST_OK(walmap_txn_set(txn, &i, 4, "x", 1));
    walmap_txn_rollback_to(txn, 0);
    if (round == 1) {
      for (uint32_t i = 0; i < 16; i++)
        MUST_OK(walmap_txn_set(txn, &i, 4, "x", 1));
    }
    MUST_OK(walmap_txn_clear(txn, &removed));
    (round == 0 ? walmap_txn_rollback : walmap_txn_commit)(txn);
    assert_expirations(map, 16);
  }
  set(map, 7, START + 20);
  atomic_store(&the_time, START + 20);
  assert_expirations(map, 17);
  void *image;
  size_t size;
  uint64_t entries;
  set(map, 8, WALMAP_NEVER);
  set(map, 9, START + 25);
  MUST_OK(walmap_snapshot(map, &image, &size));
  atomic_store(&the_time, START + 25);
  MUST_OK(walmap_restore(map, image, size, &entries, NULL)); /* over what had expired unnoticed */
  assert_expirations(map, 18);
  walmap_image_free(image);
  walmap_txn_free(txn);
  walmap_session_free(session);
  walmap_close(map);
}

/* ------------------------------------------------------------------------------------------------------------------ */

enum { ENTRIES = 2000, VALUE = 1000 };

static void overwrite(walmap *map, int times) {
  static const uint8_t value[VALUE];
  for (uint32_t i = 0; i < (uint32_t)(ENTRIES * times); i++) {
    uint32_t key = i % ENTRIES;
    MUST_OK(walmap_set(map, &key, 4, value, sizeof value));
  }
}

static void what_readers_hold(void **unused) {
  (void)unused;
  enum { TIMES = 8 };
  const uint64_t bytes = (uint64_t)ENTRIES * VALUE, slack = (uint64_t)4 * (16 << 10) + bytes / 8;
  walmap *map = open_map(4);
  walmap_state *state, *outer;
  MUST_OK(walmap_state_new(map, &state));
  MUST_OK(walmap_state_new(map, &outer));
  walmap_state_set_outer(outer);
  overwrite(map, 4);
  assert_int_equal(stats_of(map).pinned, 0);
  assert_true(stats_of(map).compacted > 2 * bytes);

  MUST_OK(walmap_state_begin(state));
  overwrite(map, TIMES);
  sleep_ms(30);
  walmap_stats stats = stats_of(map);
  assert_in_range(stats.pinned, TIMES * bytes - slack, TIMES * (bytes + ENTRIES * 32) + slack);
  assert_in_range(stats.oldest_reader, 20, 60000);
  walmap_state_end(state);
  stats = stats_of(map); /* at once, without a write */
  assert_int_equal(stats.pinned, 0);
  assert_int_equal(stats.oldest_reader, 0);

  overwrite(map, 2); /* gives it back */
  MUST_OK(walmap_state_begin(outer));
  sleep_ms(30);
  assert_int_equal(stats_of(map).oldest_reader, 0); /* an outer state holds nothing for itself */
  uint64_t commit_points[4];
  walmap_state_commit_points(outer, commit_points);
  walmap_state_begin_at(state, commit_points);
  sleep_ms(30);
  assert_in_range(stats_of(map).oldest_reader, 20, 60000);
  walmap_state_end(state);
  assert_int_equal(stats_of(map).oldest_reader, 0);
  overwrite(map, TIMES);
  assert_true(stats_of(map).pinned > TIMES * bytes - slack); /* but for others */
  walmap_state_free(outer);
  assert_int_equal(stats_of(map).pinned, 0);
  walmap_state_free(state);
  walmap_close(map);
}

/* What a map held before it was cleared is a generation as a whole. */
static void a_cleared_map(void **unused) {
  (void)unused;
  const uint64_t bytes = (uint64_t)ENTRIES * VALUE;
  walmap *map = open_map(4);
  walmap_state *state;
  walmap_session *session;
  walmap_txn *txn;
  MUST_OK(walmap_state_new(map, &state));
  MUST_OK(walmap_session_new(NULL, NULL, &session));
  MUST_OK(walmap_txn_new(map, session, &txn));
  overwrite(map, 1);
  MUST_OK(walmap_state_begin(state));
  walmap_txn_begin(txn);
  MUST_OK(walmap_txn_clear(txn, NULL));
  walmap_txn_commit(txn);
  assert_in_range(stats_of(map).pinned, bytes, bytes + bytes / 4);
  walmap_state_free(state);
  assert_int_equal(stats_of(map).pinned, 0);
  walmap_txn_free(txn);
  walmap_session_free(session);
  walmap_close(map);
}

static void *alloc_plainly(void *ctx, size_t size, size_t align) {
  (void)ctx;
  void *block = NULL;
  return posix_memalign(&block, align < sizeof block ? sizeof block : align, size) == 0 ? block : NULL;
}

static void free_overwritten(void *ctx, void *block, size_t size, size_t align) {
  (void)ctx, (void)align;
  memset(block, 0xa5, size);
  free(block);
}

/*
** A shard whose entries are just changing is walked over. The walk ends at the next shard, of which it must not look at
** a generation that was freed.
*/
static void beside_a_shard_that_was_cleared(void **unused) {
  (void)unused;
  walmap_options options;
  options_init(&options);
  options.shards = 2;
  options.clock = tell_time;
  options.allocator = (walmap_allocator){alloc_plainly, free_overwritten, NULL};
  atomic_store(&the_time, START);
  walmap *map;
  walmap_session *session;
  walmap_txn *txn;
  MUST_OK(walmap_open(&options, &map));
  MUST_OK(walmap_session_new(NULL, NULL, &session));
  MUST_OK(walmap_txn_new(map, session, &txn));
  for (int round = 0; round < 3; round++) {
    for (uint32_t key = 0; key < 20; key++)
      set(map, key, START + 1000);
    walmap_txn_begin(txn);
    if (round < 2) {
      MUST_OK(walmap_txn_clear(txn, NULL));
    } else {
      for (uint32_t key = 0; key < 20; key++)
        MUST_OK(walmap_txn_remove(txn, &key, 4));
      assert_int_equal(stats_of(map).expirations, 0);
    }
    walmap_txn_commit(txn);
  }
  walmap_txn_free(txn);
  walmap_session_free(session);
  walmap_close(map);
}

static void bytes_compacted(void **unused) {
  (void)unused;
  walmap_options options;
  options_init(&options);
  options.auto_compact = 0;
  walmap *map;
  MUST_OK(walmap_open(&options, &map));
  overwrite(map, 3);
  assert_int_equal(stats_of(map).compacted, 0);
  uint64_t before = walmap_size(map);
  MUST_OK(walmap_compact(map, NULL));
  assert_int_equal(stats_of(map).compacted, before - walmap_size(map));
  assert_true(walmap_size(map) < before / 2);
  walmap_close(map);
}

/*
** Without memory: a state that could not be made is in no list; with all slots taken the sums are there all the same,
** only what has expired unnoticed is left out.
*/
static void without_memory(void **unused) {
  (void)unused;
  enum { MOST = 200 };
  faults f = {0};
  walmap_options options;
  options_init(&options);
  options.shards = 1;
  options.clock = tell_time;
  options.allocator = faults_allocator(&f);
  atomic_store(&the_time, START);
  walmap *map;
  MUST_OK(walmap_open(&options, &map));
  set(map, 1, START + 10);
  set(map, 2, WALMAP_NEVER);
  faults_arm(&f, 1, true);
  walmap_state *none;
  assert_int_equal(walmap_state_new(map, &none), WALMAP_NOMEM);
  assert_true(get(map, 2));
  atomic_store(&f.armed, false);
  walmap_state *states[MOST];
  for (int i = 0; i < MOST; i++)
    MUST_OK(walmap_state_new(map, &states[i]));
  faults_arm(&f, 1, true);
  int n = 0;
  while (walmap_state_begin(states[n]) == WALMAP_OK)
    n++;
  assert_true(n < MOST);
  atomic_store(&the_time, START + 10);
  walmap_stats stats = stats_of(map);
  assert_int_equal(stats.hits, 1);
  assert_int_equal(stats.commits, 2);
  assert_int_equal(stats.expirations, 0);
  assert_false(get(map, 2)); /* no slot either, which is no miss */
  walmap_state_end(states[0]);
  stats = stats_of(map);
  assert_int_equal(stats.misses, 0);
  assert_int_equal(stats.expirations, 1);
  for (int i = 1; i < n; i++)
    walmap_state_end(states[i]);
  walmap__sleep(50000000);                          /* many ticks of the coarse clock */
  assert_int_equal(stats_of(map).oldest_reader, 0); /* the state that could not begin holds nothing */
  for (int i = 0; i < MOST; i++)
    walmap_state_free(states[i]);
  walmap_close(map);
  assert_int_equal(f.blocks, 0);
}

/* ------------------------------------------------------------------------------------------------------------------ */

typedef struct look {
  walmap *map;
  walmap_stats stats;
} look;

static void take_stats(void *ctx) {
  look *l = ctx;
  walmap_get_stats(l->map, &l->stats);
}

/* One shard is written all the time. The look at it must not wait for a pause, nor begin anew with all shards. */
static void beside_a_busy_shard(void **unused) {
  (void)unused;
  enum { SHARDS = 4, KEYS = 100, MOST_HOLDS = 4 * SHARDS };
  look l = {.map = open_map(SHARDS)};
  uint32_t last = 0; /* a key of the last shard */
  for (uint32_t key = 0; key < KEYS; key++) {
    set(l.map, key, START + 10);
    if (walmap_hash(l.map, &key, 4) > walmap_hash(l.map, &last, 4))
      last = key;
  }
  atomic_store(&the_time, START + 10);
  actor reader;
  int holds = 0;
  atomic_store(&walmap__yield_hook, hold_here);
  actor_hire(&reader);
  actor_set_task(&reader, take_stats, &l, 1, "stats: read");
  actor_post(&reader);
  while (actor_await(&reader)) {
    MUST(++holds <= MOST_HOLDS);
    for (int i = 0; i < 2 && holds % SHARDS == 1; i++) /* it has read the first shard, and not yet the last one */
      set(l.map, last, START + 1000);
    reader.left = 1;
    actor_post(&reader);
  }
  actor_dismiss(&reader);
  atomic_store(&walmap__yield_hook, (walmap__yield_fn)NULL);
  assert_int_equal(holds, SHARDS);
  assert_int_equal(l.stats.expirations, KEYS);
  walmap_close(l.map);
}

/*
** Threads with everything that counts, on one map; another reads the sums meanwhile, which never go back. States are
** begun, ended and freed in other threads than the ones that count next in their slots.
*/
enum { THREADS = 8, ROUNDS = 4000 / SLOWDOWN };

typedef struct worker {
  pthread_t thread;
  walmap *map;
  uint32_t number;
  uint64_t hits, misses, commits, rollbacks, busy;
} worker;

static void note(worker *w, int result) {
  w->hits += result == WALMAP_OK;
  w->misses += result == WALMAP_NOTFOUND;
  w->busy += result == WALMAP_BUSY;
}

static void one_round(worker *w, walmap_txn *txn, int round) {
  walmap_entry entry;
  uint32_t key = (uint32_t)(round * 7 + (int)w->number) % 64;
  note(w, walmap_get(w->map, &key, 4, NULL, 0, NULL));
  note(w, walmap_view(w->map, &key, 4, ignore, NULL));
  if (round % 3 == 0) {
    walmap_state *state;
    MUST_OK(walmap_state_new(w->map, &state));
    MUST_OK(walmap_state_begin(state));
    note(w, walmap_state_get(state, &key, 4, &entry));
    walmap_state_free(state);
  }
  if (round % 2 == 0) {
    int result = walmap_set(w->map, &key, 4, &key, 4);
    w->commits += result == WALMAP_OK;
    w->busy += result == WALMAP_BUSY;
    return;
  }
  walmap_txn_begin(txn);
  note(w, walmap_txn_get(txn, &key, 4, &entry));
  int result = walmap_txn_set(txn, &key, 4, &key, 4);
  w->busy += result == WALMAP_BUSY;
  if (round % 8 == 1) {
    walmap_txn_rollback(txn);
    w->rollbacks += result == WALMAP_OK;
  } else {
    walmap_txn_commit(txn);
    w->commits += result == WALMAP_OK;
  }
}

static void *work(void *ctx) {
  worker *w = ctx;
  walmap_session *session;
  walmap_txn *txn;
  MUST_OK(walmap_session_new(NULL, NULL, &session));
  MUST_OK(walmap_txn_new(w->map, session, &txn));
  for (int i = 0; i < ROUNDS; i++)
    one_round(w, txn, i);
  walmap_txn_free(txn);
  walmap_session_free(session);
  return NULL;
}

static _Atomic bool watching;

static void *watch(void *ctx) {
  walmap_stats last = {0};
  while (atomic_load(&watching)) {
    walmap_stats s = stats_of(ctx);
    MUST(s.commits >= last.commits && s.rollbacks >= last.rollbacks && s.compacted >= last.compacted);
    MUST(s.busy >= last.busy);
    last = s;
  }
  return NULL;
}

static void exact_after_threads(void **unused) {
  (void)unused;
  walmap *map = open_map(2);
  static worker workers[THREADS];
  pthread_t watcher;
  worker sum = {0};
  atomic_store(&watching, true);
  MUST(pthread_create(&watcher, NULL, watch, map) == 0);
  for (uint32_t i = 0; i < THREADS; i++) {
    workers[i] = (worker){.map = map, .number = i};
    MUST(pthread_create(&workers[i].thread, NULL, work, &workers[i]) == 0);
  }
  for (uint32_t i = 0; i < THREADS; i++) {
    MUST(pthread_join(workers[i].thread, NULL) == 0);
    sum.hits += workers[i].hits;
    sum.misses += workers[i].misses;
    sum.commits += workers[i].commits;
    sum.rollbacks += workers[i].rollbacks;
    sum.busy += workers[i].busy;
  }
  atomic_store(&watching, false);
  MUST(pthread_join(watcher, NULL) == 0);
  walmap_stats stats = stats_of(map);
  assert_int_equal(stats.hits, sum.hits);
  assert_int_equal(stats.misses, sum.misses);
  assert_int_equal(stats.commits, sum.commits);
  assert_int_equal(stats.rollbacks, sum.rollbacks);
  assert_int_equal(stats.busy, sum.busy);
  assert_int_equal(stats.deadlocks, 0);
  walmap_close(map);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(each_lookup_once),    cmocka_unit_test(not_by_writes),
      cmocka_unit_test(in_transactions),     cmocka_unit_test(waits_in_vain),
      cmocka_unit_test(deadlocks),           cmocka_unit_test(each_expiry_once),
      cmocka_unit_test(not_what_is_undone),  cmocka_unit_test(what_readers_hold),
      cmocka_unit_test(a_cleared_map),       cmocka_unit_test(bytes_compacted),
      cmocka_unit_test(without_memory),      cmocka_unit_test(exact_after_threads),
      cmocka_unit_test(beside_a_busy_shard), cmocka_unit_test(beside_a_shard_that_was_cleared),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
