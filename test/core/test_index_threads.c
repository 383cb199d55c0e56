/*
** test_index_threads.c - keys that are lost or doubled while the index splits, forgets and shrinks under readers (C2,
** I1)
*/
#include "../common/subtables.h"
#include "../common/thread_load.h"

/* ------------------------------------------------------------------------------------------------------------------ */
/* Keys that come and go: of each pair one key is there at any time, while the index splits and forgets (C2)          */

#define PAIRS 2000

typedef struct pairs {
  walmap *map;
  atomic_bool stop;
  atomic_ullong moves, checks;
} pairs;

static void *run_mover(void *arg) {
  pairs *p = arg;
  uint64_t random = seed_of_thread();
  walmap_session *session;
  walmap_txn *txn;
  MUST_OK(walmap_session_new(NULL, NULL, &session));
  MUST_OK(walmap_txn_new(p->map, session, &txn));
  while (!atomic_load(&p->stop)) {
    uint32_t here = 2 * random_below(&random, PAIRS), there = here + 1;
    walmap_entry entry;
    walmap_txn_begin(txn);
    int result = walmap_txn_get(txn, &here, 4, &entry);
    if (result == WALMAP_NOTFOUND) { /* then it is the other one, and goes the other way */
      uint32_t swap = here;
      here = there;
      there = swap;
    }
    if (result == WALMAP_OK || result == WALMAP_NOTFOUND)
      result = walmap_txn_remove(txn, &here, 4);
    if (result == WALMAP_OK)
      result = walmap_txn_set(txn, &there, 4, &there, 4);
    if (result == WALMAP_OK && random_below(&random, 10) > 0) {
      walmap_txn_commit(txn);
    } else {
      MUST(result == WALMAP_OK || result == WALMAP_DEADLOCK);
      walmap_txn_rollback(txn);
    }
    atomic_fetch_add(&p->moves, 1);
  }
  walmap_txn_free(txn);
  walmap_session_free(session);
  return NULL;
}

static bool count_one(void *ctx, const walmap_entry *entry) {
  (void)entry;
  ++*(int *)ctx;
  return true;
}

static void *run_pair_checker(void *arg) {
  pairs *p = arg;
  walmap_state *state;
  uint8_t *seen = malloc(PAIRS);
  MUST(seen);
  MUST_OK(walmap_state_new(p->map, &state));
  for (int turn = 0; !atomic_load(&p->stop); turn++) {
    MUST_OK(walmap_state_begin(state));
    if (turn % 3 == 0) {
      walmap_cursor cursor;
      walmap_entry entry;
      int count = 0;
      memset(seen, 0, PAIRS);
      for (walmap_cursor_start(&cursor, state); walmap_cursor_next(&cursor, &entry); count++) {
        uint32_t key;
        MUST(entry.key_len == 4);
        memcpy(&key, entry.key, 4);
        MUST(key < 2 * PAIRS && !seen[key / 2]);
        seen[key / 2] = 1;
      }
      MUST(count == PAIRS);
    } else {
      for (uint32_t pair = 0; pair < PAIRS; pair += 8) {
        uint32_t keys[16];
        walmap_entry entries[16];
        int found = 0;
        for (uint32_t i = 0; i < 16; i++) {
          keys[i] = 2 * pair + i;
          entries[i] = (walmap_entry){.key = &keys[i], .key_len = 4};
        }
        if (turn % 3 == 1) {
          MUST(walmap_state_get_many(state, entries, 16) == 8);
        } else {
          for (uint32_t i = 0; i < 16; i++)
            walmap_state_each_hash(state, walmap_hash(p->map, &keys[i], 4), count_one, &found);
          MUST(found == 8);
          continue;
        }
        for (uint32_t i = 0; i < 16; i += 2)
          MUST(!entries[i].key != !entries[i + 1].key);
      }
    }
    MUST(walmap_len(p->map) == PAIRS);
    walmap_state_end(state);
    atomic_fetch_add(&p->checks, 1);
  }
  walmap_state_free(state);
  free(seen);
  return NULL;
}

static void keys_come_and_go(void **unused) {
  (void)unused;
  for (uint32_t shards = 1; shards <= 16; shards *= 16) {
    pairs *p = calloc(1, sizeof *p);
    MUST(p);
    p->map = open_map(shards, VERY_LONG_MS);
    for (uint32_t key = 0; key < 2 * PAIRS; key += 2)
      MUST_OK(walmap_set(p->map, &key, 4, &key, 4));
    pthread_t threads[] = {start(run_mover, p), start(run_mover, p), start(run_pair_checker, p),
                           start(run_pair_checker, p)};
    for (uint64_t until = now_ns() + load_ns();
         now_ns() < until || atomic_load(&p->moves) == 0 || atomic_load(&p->checks) == 0;) {
      MUST_NOT_HANG(until);
      MUST_OK(walmap_compact(p->map, NULL));
      sleep_ms(5);
    }
    atomic_store(&p->stop, true);
    for (int i = 0; i < 4; i++)
      join(threads[i]);
    printf("  shards %2u: %llu moves, %llu checks\n", shards, p->moves, p->checks);
    walmap_close(p->map);
    free(p);
  }
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Growth: what a writer has put in is found, however often the index splits meanwhile                                */

typedef struct growth {
  walmap *map;
  atomic_uint loaded; /* keys below it are in */
  atomic_bool stop;
  atomic_ullong reads;
} growth;

static void *run_grower(void *arg) {
  growth *g = arg;
  for (uint32_t key = 0; !atomic_load(&g->stop) && key < 2000000; key++) {
    MUST_OK(walmap_set(g->map, &key, 4, &key, 4));
    atomic_store(&g->loaded, key + 1);
  }
  return NULL;
}

static void *run_growth_reader(void *arg) {
  growth *g = arg;
  uint64_t random = seed_of_thread();
  walmap_state *state;
  MUST_OK(walmap_state_new(g->map, &state));
  while (!atomic_load(&g->stop)) {
    uint32_t loaded = atomic_load(&g->loaded), keys[16];
    walmap_entry entries[16];
    if (!loaded)
      continue;
    for (int i = 0; i < 64; i++) {
      uint32_t key =
          i % 2 ? loaded - 1 - random_below(&random, loaded < 100 ? loaded : 100) : random_below(&random, loaded);
      uint32_t value;
      size_t len;
      MUST_OK(walmap_get(g->map, &key, 4, &value, 4, &len));
      MUST(len == 4 && value == key);
    }
    MUST_OK(walmap_state_begin(state));
    for (int i = 0; i < 16; i++) {
      keys[i] = random_below(&random, loaded);
      entries[i] = (walmap_entry){.key = &keys[i], .key_len = 4};
    }
    MUST(walmap_state_get_many(state, entries, 16) == 16);
    walmap_state_end(state);
    atomic_fetch_add(&g->reads, 80);
  }
  walmap_state_free(state);
  return NULL;
}

static void growth_under_readers(void **unused) {
  (void)unused;
  for (uint32_t shards = 1; shards <= 16; shards *= 16) {
    growth *g = calloc(1, sizeof *g);
    MUST(g);
    g->map = open_map(shards, VERY_LONG_MS);
    pthread_t threads[] = {start(run_grower, g), start(run_growth_reader, g), start(run_growth_reader, g)};
    for (uint64_t until = now_ns() + load_ns(); now_ns() < until || atomic_load(&g->reads) == 0;) {
      MUST_NOT_HANG(until);
      sleep_ms(10);
    }
    atomic_store(&g->stop, true);
    for (int i = 0; i < 3; i++)
      join(threads[i]);
    printf("  shards %2u: %u inserts, %llu reads\n", shards, g->loaded, g->reads);
    MUST(walmap_len(g->map) == g->loaded);
    walmap_close(g->map);
    free(g);
  }
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Waves: the index shrinks with its entries, and grows again; keys that stay are found all the while                 */

enum { STABLE = 500 };

typedef struct wave {
  walmap *map;
  atomic_bool stop;
  atomic_ullong reads;
} wave;

static void *read_stable_keys(void *arg) {
  wave *w = arg;
  uint32_t value;
  walmap_state *state;
  walmap_entry entry;
  MUST_OK(walmap_state_new(w->map, &state));
  while (!atomic_load(&w->stop)) {
    for (uint32_t key = 0; key < STABLE; key++)
      MUST_OK(walmap_get(w->map, &key, 4, &value, 4, NULL));
    MUST_OK(walmap_state_begin(state));
    for (uint32_t key = 0; key < STABLE; key++)
      MUST_OK(walmap_state_get(state, &key, 4, &entry));
    walmap_state_end(state);
    atomic_fetch_add(&w->reads, 1);
  }
  walmap_state_free(state);
  return NULL;
}

static void index_shrinks_under_readers(void **unused) {
  (void)unused;
  enum { WAVES = 6, LAST = STABLE + 30000 / SLOWDOWN + 5000 };
  wave w = {.map = open_map(2, 10000)};
  walmap_session *session;
  walmap_txn *txn;
  MUST_OK(walmap_session_new(NULL, NULL, &session));
  MUST_OK(walmap_txn_new(w.map, session, &txn));
  for (uint32_t key = 0; key < STABLE; key++)
    MUST_OK(walmap_set(w.map, &key, 4, &key, 4));
  pthread_t threads[] = {start(read_stable_keys, &w), start(read_stable_keys, &w)};
  uint32_t most = 0;
  for (int i = 0; i < WAVES; i++) {
    walmap_txn_begin(txn);
    for (uint32_t key = STABLE; key < LAST; key++)
      MUST_OK(walmap_txn_set(txn, &key, 4, &key, 4));
    most = count_subtables(w.map);
    MUST(most > 4);
    if (i % 2) {
      walmap_txn_rollback(txn);
      continue;
    }
    walmap_txn_commit(txn);
    walmap_txn_begin(txn);
    for (uint32_t key = STABLE; key < LAST; key++)
      MUST_OK(walmap_txn_remove(txn, &key, 4));
    walmap_txn_commit(txn);
    MUST_OK(walmap_verify(w.map, NULL, NULL));
  }
  for (uint64_t since = now_ns(); atomic_load(&w.reads) < 10;) {
    MUST_NOT_HANG(since);
    sleep_ms(1);
  }
  atomic_store(&w.stop, true);
  for (int i = 0; i < 2; i++)
    join(threads[i]);
  MUST_OK(walmap_compact(w.map, NULL));
  printf("  %u subtables at most, %u at last\n", most, count_subtables(w.map));
  MUST(count_subtables(w.map) <= 4);
  walmap_txn_free(txn);
  walmap_session_free(session);
  walmap_close(w.map);
}

int main(void) {
  the_seed = announce_seed("test_index_threads");
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(keys_come_and_go),
      cmocka_unit_test(growth_under_readers),
      cmocka_unit_test(index_shrinks_under_readers),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
