/*
** test_deferred.c - writes that a transaction puts off are as good as made: nothing that looks can tell them apart
**
** The maps are large enough for writes to be deferred. SEED=n repeats a run.
*/
#include "../common/model.h"

#define KEYS 9000
#define LEVELS 3

typedef struct world {
  faults f;
  universe *u;
  walmap *map;
  walmap_session *session;
  walmap_txn *txn;
  uint64_t random;
  uint32_t version;         /* last one that was given */
  uint32_t recent[8];       /* keys that were set last */
  uint32_t now[KEYS];       /* what the transaction sees */
  uint32_t committed[KEYS]; /* and what others do */
  uint32_t saved[LEVELS][KEYS];
  int levels;
} world;

static uint64_t same_for_many(const void *key, size_t len, uint64_t seed) {
  return (walmap_xxh3(key, len, seed) & 0x3ff) * 0x9e3779b97f4a7c15u;
}

static uint32_t any_key(world *w) { return random_below(&w->random, KEYS); }
static uint32_t recent_key(world *w) { return w->recent[random_below(&w->random, 8)]; }
static bytes key_of(const world *w, uint32_t key) { return w->u->keys[key]; }

/* One record in a hundred is too long to be deferred (value_length). NOMEM leaves the model as it is. */
static int set(world *w, uint32_t key) {
  bytes v = value_bytes(w->u, w->version + 1);
  int result = walmap_txn_set(w->txn, key_of(w, key).at, key_of(w, key).len, v.at, v.len);
  if (result == WALMAP_OK) {
    w->now[key] = ++w->version;
    w->recent[w->version % 8] = key;
  }
  return result;
}

/* Some neighbours and some keys twice, so that a write that is deferred meets another of its key. */
static void set_some(world *w) {
  for (uint32_t n = random_below(&w->random, 40); n > 0; n--)
    MUST_OK(set(w, n % 4 ? any_key(w) : n));
}

static world *world_new(uint32_t shards, walmap_hash_fn hash, uint64_t seed) {
  world *w = calloc(1, sizeof *w);
  MUST(w);
  walmap_options options;
  walmap_options_init(&options);
  options.shards = shards;
  options.allocator = faults_allocator(&w->f);
  if (hash)
    options.hash = hash;
  w->u = universe_new(KEYS, 0);
  w->random = seed;
  MUST_OK(walmap_open(&options, &w->map));
  MUST_OK(walmap_session_new(NULL, NULL, &w->session));
  MUST_OK(walmap_txn_new(w->map, w->session, &w->txn));
  walmap_txn_begin(w->txn);
  for (uint32_t key = 0; key < KEYS * 3 / 4; key++)
    MUST_OK(set(w, key));
  walmap_txn_commit(w->txn);
  memcpy(w->committed, w->now, sizeof w->now);
  MUST(walmap_size(w->map) > 128 * 1024 * shards * 5 / 4); /* from there on writes are deferred */
  return w;
}

static void world_free(world *w) {
  walmap_why why;
  MUST_OK(walmap_verify(w->map, NULL, &why));
  walmap_txn_free(w->txn);
  walmap_session_free(w->session);
  walmap_close(w->map);
  MUST(atomic_load(&w->f.blocks) == 0);
  universe_free(w->u);
  free(w);
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Each way to look at the transaction, or to go on with it, right after some writes                                  */

static void look_get(world *w) {
  walmap_entry e;
  uint32_t key = recent_key(w);
  must_be(w->u, walmap_txn_get(w->txn, key_of(w, key).at, key_of(w, key).len, &e), &e, key, w->now[key]);
}

typedef struct sought {
  world *w;
  uint32_t key;
  bool found;
} sought;

static bool is_sought(void *ctx, const walmap_entry *e) {
  sought *s = ctx;
  if (universe_find(s->w->u, e->key, e->key_len) == s->key) {
    must_be(s->w->u, WALMAP_OK, e, s->key, s->w->now[s->key]);
    s->found = true;
  }
  return true;
}

static void look_each_hash(world *w) {
  sought s = {w, recent_key(w), false};
  const walmap_options *options = walmap_get_options(w->map);
  uint64_t hash = options->hash(key_of(w, s.key).at, key_of(w, s.key).len, options->seed);
  MUST_OK(walmap_txn_each_hash(w->txn, hash, is_sought, &s));
  MUST(s.found == (w->now[s.key] != 0));
}

static void look_state(world *w) {
  walmap_state *state;
  MUST_OK(walmap_state_new(w->map, &state));
  MUST_OK(walmap_txn_state_begin(w->txn, state));
  MUST_OK(set(w, 5)); /* the state does not see it */
  uint32_t at = 5, was = w->version;
  walmap_entry e;
  if (walmap_state_get(state, key_of(w, at).at, key_of(w, at).len, &e) == WALMAP_OK)
    MUST(!value_is(w->u, e.value, e.value_len, was) || value_length(w->u, was) == 0);
  for (int i = 0; i < 50; i++) {
    uint32_t key = 6 + random_below(&w->random, KEYS - 6);
    must_be(w->u, walmap_state_get(state, key_of(w, key).at, key_of(w, key).len, &e), &e, key, w->now[key]);
  }
  walmap_state_free(state);
}

static void look_len(world *w) { MUST(walmap_txn_len(w->txn) == content_count(w->u, w->now)); }

static void look_verify(world *w) {
  walmap_why why;
  MUST_OK(walmap_verify(w->map, w->txn, &why));
}

static void go_on_remove(world *w) {
  uint32_t key = recent_key(w);
  MUST_RESULT(walmap_txn_remove(w->txn, key_of(w, key).at, key_of(w, key).len),
              w->now[key] ? WALMAP_OK : WALMAP_NOTFOUND);
  w->now[key] = 0;
}

static void go_on_reserve_if(world *w) {
  uint32_t key = recent_key(w);
  bool present = w->now[key] != 0, wanted = random_below(&w->random, 2);
  bytes v = value_bytes(w->u, w->version + 1);
  void *to;
  int result = walmap_txn_reserve_if(w->txn, wanted, key_of(w, key).at, key_of(w, key).len, v.len, &to);
  MUST_RESULT(result, wanted == present ? WALMAP_OK : present ? WALMAP_EXISTS : WALMAP_NOTFOUND);
  if (result == WALMAP_OK) {
    memcpy(to, v.at, v.len);
    w->now[key] = ++w->version;
  }
}

static void go_on_compact(world *w) { MUST_OK(walmap_compact(w->map, w->txn)); }

static void go_on_savepoint(world *w) {
  int n = (int)random_below(&w->random, (uint32_t)w->levels + 1);
  n = n == LEVELS ? LEVELS - 1 : n;
  walmap_txn_savepoint(w->txn, n);
  memcpy(w->saved[n], w->now, sizeof w->now);
  w->levels = n + 1;
}

static void go_on_release(world *w) {
  int n = (int)random_below(&w->random, LEVELS);
  walmap_txn_release(w->txn, n);
  w->levels = n < w->levels ? n : w->levels;
}

static void go_on_rollback_to(world *w) {
  int n = (int)random_below(&w->random, LEVELS);
  walmap_txn_rollback_to(w->txn, n);
  if (n >= w->levels)
    return;
  memcpy(w->now, w->saved[n], sizeof w->now);
  w->levels = n + 1;
}

/* Replaced by what is committed: writes before it are gone, those after it are not. */
static void go_on_image(world *w) {
  walmap_state *state;
  void *image;
  size_t size;
  walmap_why why;
  MUST_OK(walmap_state_new(w->map, &state));
  MUST_OK(walmap_state_begin(state));
  MUST_OK(walmap_state_image(state, &image, &size));
  MUST_OK(walmap_txn_restore(w->txn, image, size, NULL, NULL, NULL, &why));
  memcpy(w->now, w->committed, sizeof w->now);
  walmap_image_free(image);
  walmap_state_free(state);
}

static void end_transaction(world *w) {
  if (random_below(&w->random, 2)) {
    walmap_txn_commit(w->txn);
    memcpy(w->committed, w->now, sizeof w->now);
  } else {
    walmap_txn_rollback(w->txn);
    memcpy(w->now, w->committed, sizeof w->now);
  }
  w->levels = 0;
  if (random_below(&w->random, 4) == 0)
    must_hold(w->u, w->map, w->committed);
  walmap_txn_begin(w->txn);
}

static void (*const steps[])(world *) = {
    look_get,      look_each_hash, look_state,      look_len,      look_verify,       go_on_remove, go_on_reserve_if,
    go_on_compact, go_on_release,  go_on_savepoint, go_on_release, go_on_rollback_to, go_on_image,  end_transaction};

/*
** An image of next to nothing: the positions of what it brings must lie behind those of the writes before it all the
** same.
*/
static void go_on_little_image(world *w) {
  walmap_image_builder *builder;
  void *image;
  size_t size;
  walmap_why why;
  uint32_t key = any_key(w);
  bytes v = value_bytes(w->u, w->version + 1);
  walmap_entry entry = {key_of(w, key).at, key_of(w, key).len, v.at, v.len};
  MUST_OK(walmap_image_builder_new(0, &builder));
  MUST_OK(walmap_image_builder_add(builder, &entry));
  MUST_OK(walmap_image_builder_finish(builder, &image, &size));
  walmap_txn_savepoint(w->txn, 0);
  memcpy(w->saved[0], w->now, sizeof w->now);
  set_some(w);
  MUST_OK(walmap_txn_restore(w->txn, image, size, NULL, NULL, NULL, &why));
  memset(w->now, 0, sizeof w->now);
  w->now[key] = ++w->version;
  look_verify(w);
  set_some(w);
  look_verify(w);
  walmap_txn_rollback_to(w->txn, 0);
  memcpy(w->now, w->saved[0], sizeof w->now);
  w->levels = 1;
  look_verify(w);
  walmap_image_free(image);
}

static uint64_t the_seed;

static void go(uint32_t shards, walmap_hash_fn hash) {
  world *w = world_new(shards, hash, the_seed);
  walmap_txn_begin(w->txn);
  for (int i = 0; i < 4000 / SLOWDOWN; i++) {
    set_some(w);
    uint32_t step = random_below(&w->random, sizeof steps / sizeof *steps);
    if (steps[step] != go_on_image || i % 16 == 0)
      steps[step](w);
    if (i % 50 == 0)
      go_on_little_image(w);
  }
  walmap_txn_rollback(w->txn);
  must_hold(w->u, w->map, w->committed);
  world_free(w);
}

static void one_shard(void **unused) {
  (void)unused;
  go(1, NULL);
}

static void two_shards(void **unused) {
  (void)unused;
  go(2, NULL);
}

static void colliding_hashes(void **unused) {
  (void)unused;
  go(1, same_for_many);
}

/* ------------------------------------------------------------------------------------------------------------------ */

/* Keys that the model does not have; some values are too long for many of them to be deferred together. */
static size_t numbered_value(uint32_t i, uint8_t value[500]) {
  size_t len = i / 50 % 3 == 0 ? 500 : 4;
  for (size_t at = 0; at < len; at++)
    value[at] = (uint8_t)(i >> (at % 3 * 8));
  return len;
}

static int set_numbered(world *w, uint32_t i) {
  uint8_t value[500];
  size_t len = numbered_value(i, value);
  return walmap_txn_set(w->txn, &i, 3, value, len);
}

static void must_have_numbered(world *w, uint32_t n) {
  for (uint32_t i = 0; i < n; i++) {
    uint8_t expected[500], value[500];
    size_t len, expected_len = numbered_value(i, expected);
    MUST_OK(walmap_get(w->map, &i, 3, value, sizeof value, &len));
    MUST(len == expected_len && memcmp(value, expected, len) == 0);
  }
  MUST(walmap_len(w->map) == n + content_count(w->u, w->committed));
}

/* The index grows, and segments are begun, under what is pending. */
static void many_new_keys(void **unused) {
  (void)unused;
  enum { MANY = 60000 };
  world *w = world_new(1, NULL, the_seed);
  walmap_txn_begin(w->txn);
  for (uint32_t i = 0; i < MANY; i++)
    MUST_OK(set_numbered(w, i));
  walmap_txn_commit(w->txn);
  must_have_numbered(w, MANY);
  world_free(w);
}

/*
** Memory is refused sooner or later, and then for ever: the call that met it says NOMEM and has changed nothing. What
** was deferred before is made all the same (C7), though there is not a byte to be had any more.
*/
static void no_memory(void **unused) {
  (void)unused;
  world *w = world_new(1, NULL, the_seed);
  uint32_t n = 0;
  for (int round = 0; round < 2000 / SLOWDOWN; round++) {
    walmap_txn_begin(w->txn);
    faults_arm(&w->f, 1 + random_below(&w->random, 3), true);
    while (atomic_load(&w->f.hits) == 0) {
      uint32_t i = random_below(&w->random, 2) ? n : random_below(&w->random, n + 1); /* a new key, or any */
      int result = set_numbered(w, i);
      MUST(result == (atomic_load(&w->f.hits) > 0 ? WALMAP_NOMEM : WALMAP_OK));
      n += result == WALMAP_OK && i == n;
    }
    walmap_txn_commit(w->txn);
    atomic_store(&w->f.armed, false);
    MUST(walmap_len(w->map) == n + content_count(w->u, w->committed));
  }
  must_have_numbered(w, n);
  world_free(w);
}

int main(void) {
  the_seed = announce_seed("test_pending");
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(one_shard),     cmocka_unit_test(two_shards), cmocka_unit_test(colliding_hashes),
      cmocka_unit_test(many_new_keys), cmocka_unit_test(no_memory),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
