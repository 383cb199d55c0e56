/*
** race_operations.h - what test_races.c sets side by side: scenes, which are maps about to do something rare, and
** operations, each of which is one step to the others and tells what it was told as one number
*/
#ifndef TEST_CORE_RACE_OPERATIONS_H
#define TEST_CORE_RACE_OPERATIONS_H

#include "../common/support.h"

#include "mvcc/map.h"

#define SHARDS 4
#define HOT 0u          /* present, in shard 0 */
#define NEAR 1u         /* present, in shard 1 */
#define FAR 2u          /* absent, in shard 2, to which nothing was ever written */
#define FRESH 16000u    /* absent, in shard 0 */
#define USED_SLOT 33u   /* absent, in shard 1 */
#define REPEATED 160u   /* sets after which readers are looked at again (shard.c) */
#define MOST_KEYS 2000u /* of a scene */
#define STAYING 4u      /* of so many keys of build_quarter one is never overwritten */

/* ------------------------------------------------------------------------------------------------------------------ */
/* Scenes: what the map holds before                                                                                  */

/* Shards by the key's last two bits; three tags only, so that searches meet many candidates. */
static uint64_t hash(const void *key, size_t key_len, uint64_t seed) {
  uint32_t n;
  MUST(key_len == sizeof n && seed == 0);
  memcpy(&n, key, sizeof n);
  return (uint64_t)(n % SHARDS) << 62 | (mix(n) >> 2 & ~(uint64_t)0xFF) | (1 + n / SHARDS % 3);
}

static void put(walmap *map, uint32_t key, uint64_t value) { MUST_OK(walmap_set(map, &key, 4, &value, 8)); }

/*
** Shard 0 has no room for another key in its one bucket; shard 1 has a slot that was used before, by a record whose
** memory is free; shard 3 holds a tombstone.
*/
static void build_small(walmap *map) {
  uint32_t gone = NEAR + 20 * SHARDS;
  put(map, gone, 0);
  MUST_OK(walmap_remove(map, &gone, 4));
  MUST_OK(walmap_compact(map, NULL));
  MUST(walmap_size(map) == 0);
  for (uint32_t i = 0; i < 10; i++)
    put(map, HOT + i * SHARDS, i);
  put(map, NEAR, 7);
  uint32_t removed = 3;
  put(map, removed, 1);
  MUST_OK(walmap_remove(map, &removed, 4));
}

/* The next key in shard 0 splits a subtable and doubles the directory. */
static void build_full(walmap *map) {
  for (uint32_t i = 0; i < 1229; i++)
    put(map, HOT + i * SHARDS, i);
  put(map, NEAR, 7);
}

/* Compaction of shard 0 has copied some of a run; and there are garbage, known to all now, that are to be reclaimed. */
static void build_halfway(walmap *map) {
  for (uint32_t i = 0; i < MOST_KEYS; i++)
    put(map, HOT + i * SHARDS, i);
  put(map, NEAR, 7);
  walmap_state *state;
  MUST_OK(walmap_state_new(map, &state));
  const walmap__job *job = NULL;
  for (uint32_t i = 0; !job || !job->first || job->offset == 0; i++) {
    MUST(i < 2 * MOST_KEYS);
    put(map, HOT + i * 3 % MOST_KEYS * SHARDS, i);
    job = &walmap__shard_generation(&map->shards[0])->job;
  }
  MUST(job->copy != NULL);
  MUST_OK(walmap_state_begin(state));
  for (uint32_t i = 1; i < 100; i++) {
    uint32_t key = HOT + i * 7 * SHARDS;
    if (i % 2) {
      MUST_OK(walmap_remove(map, &key, 4));
    } else {
      put(map, key, i);
    }
  }
  walmap_state_free(state);
}

/*
** The same, with no garbage in the run but those that all know of. Every STAYING-th key is still the record that was
** written first.
*/
static void build_quarter(walmap *map) {
  for (uint32_t i = 0; i < MOST_KEYS; i++)
    put(map, HOT + i * SHARDS, i);
  const walmap__job *job = &walmap__shard_generation(&map->shards[0])->job;
  for (uint32_t i = 0; !job->first || job->offset == 0; i++) {
    MUST(i < 2 * MOST_KEYS);
    if (i % STAYING != 0)
      put(map, HOT + i % MOST_KEYS * SHARDS, i);
  }
  MUST(job->copy != NULL);
}

/* The time of all maps; each scene begins at the same. */
enum { AT_FIRST = 100, SOON = 200, LATER = 250 };
static _Atomic uint64_t the_time;

static uint64_t tell_time(void *ctx) {
  (void)ctx;
  return atomic_load(&the_time);
}

/*
** In shard 0, that of HOT, entries expire soon, one later, and some never; one more has expired and is not swept yet.
*/
static void build_expiring(walmap *map) {
  build_small(map);
  for (uint32_t i = 0; i < 5; i++) {
    uint32_t key = HOT + i * SHARDS;
    uint64_t value = i == 0 ? 0 : 50 + i;
    MUST_OK(walmap_set_expiring(map, &key, 4, &value, 8, i < 4 ? SOON : 2 * LATER));
  }
  MUST_OK(walmap_compact(map, NULL));
}

/* All that expires soon has, and was not swept yet. */
static void build_expired(walmap *map) {
  build_expiring(map);
  atomic_store(&the_time, LATER);
}

typedef struct scene {
  const char *name;
  void (*build)(walmap *map);
  uint64_t max_entries; /* 0: no bound */
} scene;

/* The tree of an ordered map has one leaf, which the next key splits; shard 0 has keys in front of and behind all. */
static void build_leaf(walmap *map) {
  for (uint32_t i = 0; i < 63; i++)
    put(map, HOT + i * SHARDS, i);
  put(map, NEAR, 7);
}

/*
** A full map: the hand of eviction, in shard 0, passes one entry that was visited, and then finds others that no
** operation reads. So which entries go does not depend on reads at the same time.
*/
enum { SPARE_KEYS = 8, BOUND = SPARE_KEYS + 2 };

static void build_bounded(walmap *map) {
  for (uint32_t i = 0; i < SPARE_KEYS; i++)
    put(map, HOT + (20 + i) * SHARDS, i);
  put(map, HOT, 0);
  put(map, NEAR, 7);
  uint32_t visited = HOT + 20 * SHARDS;
  MUST_OK(walmap_get(map, &visited, 4, NULL, 0, NULL));
}

static const scene bounded_scene = {"bounded", build_bounded, BOUND};
static const scene leaf_scene = {"leaf", build_leaf};
static const scene scenes[] = {{"small", build_small, 0},
                               {"full", build_full},
                               {"halfway", build_halfway},
                               {"expiring", build_expiring},
                               {"expired", build_expired}};

static walmap *open_scene(const scene *s) {
  walmap_options options;
  options_init(&options);
  options.shards = SHARDS;
  options.first_segment = 256;
  options.auto_compact = 30;
  options.busy_timeout = 0;
  options.hash = hash;
  options.seed_given = true;
  options.clock = tell_time;
  options.max_entries = s->max_entries;
  atomic_store(&the_time, AT_FIRST);
  walmap *map;
  MUST_OK(walmap_open(&options, &map));
  s->build(map);
  return map;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* What is seen, as one number                                                                                        */

static uint64_t print_of(uint32_t key, uint64_t value) { return mix((uint64_t)key << 32 ^ mix(value + 1)); }

static uint64_t print_of_entry(const walmap_entry *e) {
  uint32_t key;
  uint64_t value;
  MUST(e->key_len == sizeof key && e->value_len == sizeof value);
  memcpy(&key, e->key, sizeof key);
  memcpy(&value, e->value, sizeof value);
  return print_of(key, value);
}

static uint64_t scan(walmap_state *state, uint64_t *n) {
  uint64_t print = 0;
  walmap_cursor cursor;
  walmap_entry entry;
  *n = 0;
  for (walmap_cursor_start(&cursor, state); walmap_cursor_next(&cursor, &entry); ++*n)
    print += print_of_entry(&entry);
  return print + *n;
}

/* By the keys' order, in which no key is twice. */
static uint64_t walk(walmap_state *state, bool forward) {
  uint64_t print = 0, n = 0;
  uint8_t last[4];
  walmap_ordered_cursor cursor;
  walmap_entry entry;
  walmap_ordered_start(&cursor, state);
  for (bool more = walmap_ordered_seek(&cursor, forward ? WALMAP_FIRST : WALMAP_LAST, NULL, 0, &entry); more;
       more = forward ? walmap_ordered_next(&cursor, &entry) : walmap_ordered_previous(&cursor, &entry)) {
    MUST(n == 0 || (memcmp(last, entry.key, 4) < 0) == forward);
    memcpy(last, entry.key, 4);
    print += print_of_entry(&entry);
    n++;
  }
  return print + n;
}

static uint64_t image_print(walmap_state *state) {
  void *image;
  size_t size;
  walmap_image_reader reader;
  walmap_entry entry;
  walmap_why why;
  MUST_OK(walmap_state_image(state, &image, &size));
  MUST_OK(walmap_image_open(&reader, image, size, &why));
  uint64_t print = reader.entries;
  while (walmap_image_next(&reader, &entry, &why) == WALMAP_OK)
    print += print_of_entry(&entry);
  walmap_image_free(image);
  return print;
}

static uint64_t by_key(walmap_state *state, uint32_t key) {
  walmap_entry entry;
  int result = walmap_state_get(state, &key, 4, &entry);
  return result == WALMAP_OK ? print_of_entry(&entry) : (uint64_t)result;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Operations: each is one step to the others, and returns what it was told                                           */

static walmap_state *begin_state(walmap *map) {
  walmap_state *state;
  MUST_OK(walmap_state_new(map, &state));
  MUST_OK(walmap_state_begin(state));
  return state;
}

static uint64_t get(walmap *map, uint32_t key) {
  uint64_t value;
  size_t len;
  int result = walmap_get(map, &key, 4, &value, sizeof value, &len);
  return result == WALMAP_OK ? print_of(key, value) : (uint64_t)result;
}

static uint64_t get_hot(walmap *map) { return get(map, HOT); }
static uint64_t get_fresh(walmap *map) { return get(map, FRESH); }

static uint64_t get_used_slot(walmap *map) { return get(map, USED_SLOT); }

static uint64_t read_len(walmap *map) { return walmap_len(map); }

/* Exact at any moment, as the length is (X1). */
static uint64_t read_expirations(walmap *map) {
  walmap_stats stats;
  walmap_get_stats(map, &stats);
  return stats.expirations;
}

/* All ways to read a state must show the same, however much is written meanwhile (C2). */
static uint64_t read_state(walmap *map) {
  static const uint32_t keys[] = {HOT, NEAR, FAR, FRESH, HOT + 20, HOT + 28, 3};
  enum { KEYS = sizeof keys / sizeof *keys };
  walmap_state *state = begin_state(map);
  uint64_t before[KEYS], n, n_again;
  for (unsigned i = 0; i < KEYS; i++)
    before[i] = by_key(state, keys[i]);
  uint64_t print = scan(state, &n);
  walmap_entry entries[KEYS];
  for (unsigned i = 0; i < KEYS; i++)
    entries[i] = (walmap_entry){.key = &keys[i], .key_len = 4};
  walmap_state_get_many(state, entries, KEYS);
  for (unsigned i = 0; i < KEYS; i++) {
    MUST(by_key(state, keys[i]) == before[i]);
    MUST((entries[i].key ? print_of_entry(&entries[i]) : WALMAP_NOTFOUND) == before[i]);
  }
  MUST(scan(state, &n_again) == print && n_again == n);
  walmap_state_free(state);
  return print;
}

static uint64_t scan_once(walmap *map) {
  walmap_state *state = begin_state(map);
  uint64_t n, print = scan(state, &n);
  walmap_state_free(state);
  return print;
}

static uint64_t walk_forward(walmap *map) {
  walmap_state *state = begin_state(map);
  uint64_t print = walk(state, true);
  walmap_state_free(state);
  return print;
}

static uint64_t walk_back(walmap *map) {
  walmap_state *state = begin_state(map);
  uint64_t print = walk(state, false);
  walmap_state_free(state);
  return print;
}

static uint64_t take_image(walmap *map) {
  walmap_state *state = begin_state(map);
  uint64_t n, print = image_print(state);
  MUST(scan(state, &n) == print);
  walmap_state_free(state);
  return print;
}

static uint64_t set(walmap *map, uint32_t key, uint64_t value) { return (uint64_t)walmap_set(map, &key, 4, &value, 8); }

static uint64_t set_hot(walmap *map) { return set(map, HOT, 100); }
static uint64_t set_fresh(walmap *map) { return set(map, FRESH, 100); }

static uint64_t set_used_slot(walmap *map) { return set(map, USED_SLOT, 100); }

/* Two keys that are absent, in shard 0. */
static uint64_t add_two(walmap *map) {
  walmap_session *session;
  walmap_txn *txn;
  int result = WALMAP_OK;
  MUST_OK(walmap_session_new(NULL, NULL, &session));
  MUST_OK(walmap_txn_new(map, session, &txn));
  walmap_txn_begin(txn);
  for (uint32_t key = FRESH + SHARDS; key <= FRESH + 2 * SHARDS && result == WALMAP_OK; key += SHARDS) {
    uint64_t value = key;
    result = walmap_txn_set(txn, &key, 4, &value, 8);
  }
  if (result == WALMAP_OK)
    walmap_txn_commit(txn);
  walmap_txn_free(txn);
  walmap_session_free(session);
  return (uint64_t)result;
}

static uint64_t remove_hot(walmap *map) {
  uint32_t key = HOT;
  return (uint64_t)walmap_remove(map, &key, 4);
}

static bool is_zero(void *ctx, const void *value, size_t value_len) {
  (void)ctx;
  uint64_t zero = 0;
  return value_len == sizeof zero && memcmp(value, &zero, sizeof zero) == 0;
}

static uint64_t compare_and_set(walmap *map) {
  uint32_t key = HOT;
  uint64_t value = 200;
  bool done = false;
  int result = walmap_set_if(map, &key, 4, &value, 8, is_zero, NULL, &done);
  return result == WALMAP_OK ? 100 + (uint64_t)done : (uint64_t)result;
}

static int keep(void *ctx, const void *old, size_t old_len, const void **value, size_t *value_len) {
  (void)ctx;
  *value = old;
  *value_len = old_len;
  return old ? WALMAP_OK : WALMAP_NOTFOUND;
}

/* One change, and then much that changes nothing but has old things reclaimed, compacted and freed. */
static uint64_t set_and_tidy(walmap *map) {
  uint64_t result = set(map, HOT, 300);
  for (uint32_t i = 0; i < REPEATED; i++) {
    uint32_t key = HOT + (1 + i % 9) * SHARDS;
    (void)walmap_upsert(map, &key, 4, keep, NULL);
  }
  return result;
}

static uint64_t compact(walmap *map) { return (uint64_t)walmap_compact(map, NULL); }

static uint64_t let_time_pass(walmap *map) {
  atomic_store(&the_time, LATER);
  MUST(walmap_clock(map) == LATER);
  return 0;
}

static uint64_t set_expiring_hot(walmap *map) {
  uint32_t key = HOT;
  uint64_t value = 500;
  return (uint64_t)walmap_set_expiring(map, &key, 4, &value, 8, 2 * LATER);
}

typedef enum ending { COMMITTED, ROLLED_BACK, PARTLY_ROLLED_BACK } ending;

/* In three shards, one of which holds nothing before. */
static uint64_t transaction(walmap *map, ending how) {
  static const uint32_t keys[] = {HOT, NEAR, FAR, FRESH};
  walmap_session *session;
  walmap_txn *txn;
  uint64_t value = 400;
  MUST_OK(walmap_session_new(NULL, NULL, &session));
  MUST_OK(walmap_txn_new(map, session, &txn));
  walmap_txn_begin(txn);
  int result = WALMAP_OK;
  for (unsigned i = 0; i < 4 && result == WALMAP_OK; i++)
    result = walmap_txn_set(txn, &keys[i], 4, &value, 8);
  if (result == WALMAP_OK && how == PARTLY_ROLLED_BACK) {
    walmap_txn_savepoint(txn, 0);
    MUST_OK(walmap_txn_remove(txn, &keys[0], 4));
    MUST_OK(walmap_txn_remove(txn, &keys[3], 4));
    MUST_OK(walmap_txn_set(txn, &keys[0], 4, &value, 8));
    walmap_txn_rollback_to(txn, 0);
  }
  if (result != WALMAP_OK || how == ROLLED_BACK) {
    walmap_txn_rollback(txn);
  } else {
    walmap_txn_commit(txn);
  }
  walmap_txn_free(txn);
  walmap_session_free(session);
  return (uint64_t)result;
}

static uint64_t commit(walmap *map) { return transaction(map, COMMITTED); }
static uint64_t roll_back(walmap *map) { return transaction(map, ROLLED_BACK); }
static uint64_t roll_back_partly(walmap *map) { return transaction(map, PARTLY_ROLLED_BACK); }

static void *small_image;
static size_t small_image_size;

static uint64_t restore(walmap *map) {
  return (uint64_t)walmap_restore(map, small_image, small_image_size, NULL, NULL);
}

typedef struct operation {
  const char *name;
  uint64_t (*run)(walmap *map);
} operation;

static const operation walks[] = {{"walk", walk_forward}, {"walk back", walk_back}};
static const operation readers[] = {
    {"get hot", get_hot},
    {"get fresh", get_fresh},
    {"len", read_len},
    {"get used slot", get_used_slot},
    {"read state", read_state},
    {"take image", take_image},
    {"expirations", read_expirations},
};
static const operation writers[] = {
    {"set hot", set_hot},
    {"set fresh", set_fresh},
    {"set used slot", set_used_slot},
    {"remove hot", remove_hot},
    {"compare and set", compare_and_set},
    {"set and tidy", set_and_tidy},
    {"compact", compact},
    {"commit", commit},
    {"roll back", roll_back},
    {"restore", restore},
    {"roll back partly", roll_back_partly},
    {"let time pass", let_time_pass},
    {"set expiring hot", set_expiring_hot},
};
static const operation evicters[] = {{"set fresh", set_fresh},
                                     {"add two", add_two},
                                     {"set hot", set_hot},
                                     {"remove hot", remove_hot},
                                     {"compact", compact}};

#endif
