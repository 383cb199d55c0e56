/*
** test_threads.c - what a thread sees of the others' writes: no increment is lost, no reader sees a value go back, and
** a commit over many keys shows in one step (C2, C3, C4)
*/
#include "../common/thread_load.h"

/* ------------------------------------------------------------------------------------------------------------------ */
/* Counters: no increment is lost, and no reader sees a counter go back                                               */

#define COUNTERS 8

typedef struct counters {
  walmap *map;
  atomic_bool stop;
  atomic_ullong added[COUNTERS], reads;
  atomic_int next_way; /* each writer has a way of its own to add */
} counters;

static int add_one(void *ctx, const void *old, size_t old_len, const void **value, size_t *len) {
  uint64_t *number = ctx;
  MUST(old && old_len == 8);
  memcpy(number, old, 8);
  ++*number;
  *value = number;
  *len = 8;
  return WALMAP_OK;
}

static bool is_number(void *ctx, const void *value, size_t len) { return len == 8 && !memcmp(value, ctx, 8); }

static bool add_by_txn(walmap_txn *txn, uint32_t key) {
  walmap_entry entry;
  uint64_t number;
  walmap_txn_begin(txn);
  MUST_OK(walmap_txn_get(txn, &key, 4, &entry)); /* one shard each: no deadlock */
  memcpy(&number, entry.value, 8);
  number++;
  MUST_OK(walmap_txn_set(txn, &key, 4, &number, 8));
  walmap_txn_commit(txn);
  return true;
}

static bool add_by_set_if(walmap *map, uint32_t key) {
  uint64_t number;
  size_t len;
  bool done;
  MUST_OK(walmap_get(map, &key, 4, &number, 8, &len));
  uint64_t next = number + 1;
  MUST_OK(walmap_set_if(map, &key, 4, &next, 8, is_number, &number, &done));
  return done;
}

static void *run_adder(void *arg) {
  counters *c = arg;
  int way = atomic_fetch_add(&c->next_way, 1);
  uint64_t random = the_seed + (uint64_t)way, scratch;
  walmap_session *session;
  walmap_txn *txn;
  MUST_OK(walmap_session_new(NULL, NULL, &session));
  MUST_OK(walmap_txn_new(c->map, session, &txn));
  while (!atomic_load(&c->stop)) {
    uint32_t key = random_below(&random, COUNTERS);
    bool added = true;
    if (way == 0)
      added = add_by_txn(txn, key);
    else if (way == 1)
      added = add_by_set_if(c->map, key);
    else
      MUST_OK(walmap_upsert(c->map, &key, 4, add_one, &scratch));
    if (added)
      atomic_fetch_add(&c->added[key], 1);
  }
  walmap_txn_free(txn);
  walmap_session_free(session);
  return NULL;
}

static bool copy_number(void *ctx, const void *value, size_t len) {
  MUST(len == 8);
  memcpy(ctx, value, 8);
  return true;
}

/* Reads the counters in turn by every call: each value is at least what was seen before, by whatever call. */
static void *run_watcher(void *arg) {
  counters *c = arg;
  uint64_t seen[COUNTERS] = {0};
  walmap_state *state;
  walmap_entry entry;
  MUST_OK(walmap_state_new(c->map, &state));
  for (uint64_t turn = 0; !atomic_load(&c->stop); turn++) {
    for (uint32_t key = 0; key < COUNTERS; key++) {
      uint64_t floor = atomic_load(&c->added[key]), number = 0;
      size_t len;
      if (turn % 3 == 0) {
        MUST_OK(walmap_get(c->map, &key, 4, &number, 8, &len));
      } else if (turn % 3 == 1) {
        MUST_OK(walmap_view(c->map, &key, 4, copy_number, &number));
      } else {
        MUST_OK(walmap_state_begin(state));
        MUST_OK(walmap_state_get(state, &key, 4, &entry));
        memcpy(&number, entry.value, 8);
        walmap_state_end(state);
      }
      MUST(number >= floor); /* what was done before the read began is seen by it */
      MUST(number >= seen[key]);
      seen[key] = number;
    }
    atomic_fetch_add(&c->reads, COUNTERS);
  }
  walmap_state_free(state);
  return NULL;
}

/* Whether the counters were incremented and read. */
static bool is_each_at_work(counters *c) {
  unsigned long long added = 0;
  for (uint32_t key = 0; key < COUNTERS; key++)
    added += atomic_load(&c->added[key]);
  return added > 0 && atomic_load(&c->reads) > 0;
}

static void counters_and_histories(void **unused) {
  (void)unused;
  for (uint32_t shards = 1; shards <= 16; shards *= 16) {
    counters *c = calloc(1, sizeof *c);
    MUST(c);
    c->map = open_map(shards, VERY_LONG_MS);
    uint64_t zero = 0, total = 0;
    for (uint32_t key = 0; key < COUNTERS; key++)
      MUST_OK(walmap_set(c->map, &key, 4, &zero, 8));
    pthread_t threads[5];
    for (int i = 0; i < 3; i++)
      threads[i] = start(run_adder, c);
    for (int i = 3; i < 5; i++)
      threads[i] = start(run_watcher, c);
    for (uint64_t until = now_ns() + load_ns(); now_ns() < until || !is_each_at_work(c);) {
      MUST_NOT_HANG(until);
      MUST_OK(walmap_compact(c->map, NULL));
      sleep_ms(2);
    }
    atomic_store(&c->stop, true);
    for (int i = 0; i < 5; i++)
      join(threads[i]);
    for (uint32_t key = 0; key < COUNTERS; key++) {
      uint64_t number;
      size_t len;
      MUST_OK(walmap_get(c->map, &key, 4, &number, 8, &len));
      MUST(number == c->added[key]);
      total += number;
    }
    printf("  shards %2u: %llu increments, %llu reads\n", shards, (unsigned long long)total, c->reads);
    walmap_close(c->map);
    free(c);
  }
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* One step: a commit over many keys in many shards shows at once, to single gets as well                             */

#define PAIRED 32

typedef struct paired {
  walmap *map;
  atomic_bool stop;
  atomic_ullong generation, reads;
} paired;

static void *run_pair_writer(void *arg) {
  paired *p = arg;
  walmap_session *session;
  walmap_txn *txn;
  MUST_OK(walmap_session_new(NULL, NULL, &session));
  MUST_OK(walmap_txn_new(p->map, session, &txn));
  for (uint64_t generation = 1; !atomic_load(&p->stop); generation++) {
    walmap_txn_begin(txn);
    for (uint32_t key = 0; key < PAIRED; key++)
      MUST_OK(walmap_txn_set(txn, &key, 4, &generation, 8));
    walmap_txn_commit(txn);
    atomic_store(&p->generation, generation);
  }
  walmap_txn_free(txn);
  walmap_session_free(session);
  return NULL;
}

/* Once one key is seen in a generation, no key may be seen in an older one. */
static void *run_pair_reader(void *arg) {
  paired *p = arg;
  uint64_t random = the_seed, newest = 0;
  while (!atomic_load(&p->stop)) {
    uint32_t key = random_below(&random, PAIRED);
    uint64_t generation;
    size_t len;
    MUST_OK(walmap_get(p->map, &key, 4, &generation, 8, &len));
    MUST(generation >= newest);
    newest = generation;
    atomic_fetch_add(&p->reads, 1);
  }
  return NULL;
}

/* A state is of one generation, and of the newest that was committed when it was begun, or a later one. */
static void *run_pair_stater(void *arg) {
  paired *p = arg;
  walmap_state *state;
  MUST_OK(walmap_state_new(p->map, &state));
  while (!atomic_load(&p->stop)) {
    uint64_t floor = atomic_load(&p->generation), first = 0;
    MUST_OK(walmap_state_begin(state));
    for (uint32_t key = 0; key < PAIRED; key++) {
      walmap_entry entry;
      uint64_t generation;
      MUST_OK(walmap_state_get(state, &key, 4, &entry));
      memcpy(&generation, entry.value, 8);
      if (key == 0)
        first = generation;
      MUST(generation == first);
    }
    MUST(first >= floor);
    walmap_state_end(state);
    atomic_fetch_add(&p->reads, 1);
  }
  walmap_state_free(state);
  return NULL;
}

static void commit_is_one_step(void **unused) {
  (void)unused;
  paired *p = calloc(1, sizeof *p);
  MUST(p);
  p->map = open_map(16, VERY_LONG_MS);
  uint64_t zero = 0;
  for (uint32_t key = 0; key < PAIRED; key++)
    MUST_OK(walmap_set(p->map, &key, 4, &zero, 8));
  pthread_t threads[] = {start(run_pair_writer, p), start(run_pair_reader, p), start(run_pair_stater, p)};
  for (uint64_t until = now_ns() + load_ns();
       now_ns() < until || atomic_load(&p->generation) == 0 || atomic_load(&p->reads) == 0;) {
    MUST_NOT_HANG(until);
    sleep_ms(10);
  }
  atomic_store(&p->stop, true);
  for (int i = 0; i < 3; i++)
    join(threads[i]);
  printf("  %llu generations, %llu reads\n", p->generation, p->reads);
  walmap_close(p->map);
  free(p);
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Threads that come, use the map once, and go: none has to say good-bye                                              */

static void *visit(void *arg) {
  walmap *map = arg;
  uint32_t key = 1;
  uint64_t number;
  size_t len;
  MUST_OK(walmap_get(map, &key, 4, &number, 8, &len));
  MUST_OK(walmap_set(map, &key, 4, &number, 8));
  return NULL;
}

static void threads_come_and_go(void **unused) {
  (void)unused;
  walmap *map = open_map(2, VERY_LONG_MS);
  uint64_t key = 1;
  MUST_OK(walmap_set(map, &key, 4, &key, 8));
  uint64_t before = 0;
  for (int round = 0; round < 1000 / SLOWDOWN; round++) {
    pthread_t threads[4];
    for (int i = 0; i < 4; i++)
      threads[i] = start(visit, map);
    for (int i = 0; i < 4; i++)
      join(threads[i]);
    if (round == 10)
      before = walmap_memory(map);
  }
  MUST(walmap_memory(map) <= 2 * before + 65536);
  walmap_close(map);
}

int main(void) {
  the_seed = announce_seed("test_threads");
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(commit_is_one_step),
      cmocka_unit_test(counters_and_histories),
      cmocka_unit_test(threads_come_and_go),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
