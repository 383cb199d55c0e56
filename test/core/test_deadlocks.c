/*
** test_deadlocks.c - circles of waiting transactions: each is found soon and costs one of them (O1), and most of the
** transactions that keep meeting succeed (O2)
*/
#include "../common/thread_load.h"

#define MOST_PARTIES 4

typedef struct ring {
  walmap *maps[MOST_PARTIES];  /* one map several times, or several maps */
  uint32_t keys[MOST_PARTIES]; /* each in a shard of its own */
  int parties;
  pthread_barrier_t barrier;
  atomic_int deadlocks, successes;
  uint64_t longest_ns; /* until the deadlock was told, over all rounds */
  uint64_t sum_ns;
  int rounds;
} ring;

typedef struct ring_party {
  ring *ring;
  int number;
} ring_party;

/* Takes its own key, then its neighbour's: in each round that closes a ring. */
static void *run_ring_party(void *arg) {
  ring_party *p = arg;
  ring *r = p->ring;
  int own = p->number, next = (own + 1) % r->parties;
  walmap_session *session;
  walmap_txn *first, *second;
  MUST_OK(walmap_session_new(NULL, NULL, &session));
  MUST_OK(walmap_txn_new(r->maps[own], session, &first));
  second = first;
  if (r->maps[next] != r->maps[own])
    MUST_OK(walmap_txn_new(r->maps[next], session, &second));
  for (int round = 0; round < r->rounds; round++) {
    walmap_txn_begin(first);
    if (second != first)
      walmap_txn_begin(second);
    MUST_OK(walmap_txn_set(first, &r->keys[own], 4, &round, sizeof round));
    pthread_barrier_wait(&r->barrier);
    uint64_t began = now_ns();
    int result = walmap_txn_set(second, &r->keys[next], 4, &own, sizeof own);
    if (result == WALMAP_DEADLOCK) {
      uint64_t took = now_ns() - began;
      if (took > r->longest_ns)
        r->longest_ns = took; /* by one party of a round, as is checked below */
      r->sum_ns += took;
      atomic_fetch_add(&r->deadlocks, 1);
      walmap_txn_rollback(second);
      if (second != first)
        walmap_txn_rollback(first);
    } else {
      MUST_OK(result);
      atomic_fetch_add(&r->successes, 1);
      walmap_txn_commit(second);
      if (second != first)
        walmap_txn_commit(first);
    }
    pthread_barrier_wait(&r->barrier);
    if (own == 0) {
      MUST(atomic_load(&r->deadlocks) == round + 1);
      MUST(atomic_load(&r->successes) == (round + 1) * (r->parties - 1));
    }
    pthread_barrier_wait(&r->barrier);
  }
  if (second != first)
    walmap_txn_free(second);
  walmap_txn_free(first);
  walmap_session_free(session);
  return NULL;
}

/* Keys in shards that differ, found by trying: with a timeout of 0 another session is kept out of an owned shard. */
static void find_keys(walmap *map, uint32_t *keys, int n) {
  walmap_session *a, *b;
  walmap_txn *owner, *other;
  walmap_entry entry;
  MUST_OK(walmap_session_new(NULL, NULL, &a));
  MUST_OK(walmap_session_new(NULL, NULL, &b));
  MUST_OK(walmap_txn_new(map, a, &owner));
  MUST_OK(walmap_txn_new(map, b, &other));
  walmap_txn_begin(owner);
  uint32_t key = 0;
  for (int found = 0; found < n; key++) {
    walmap_txn_begin(other);
    int result = walmap_txn_get(other, &key, 4, &entry);
    walmap_txn_rollback(other);
    if (result == WALMAP_BUSY)
      continue;
    keys[found++] = key;
    MUST_RESULT(walmap_txn_get(owner, &key, 4, &entry), WALMAP_NOTFOUND);
  }
  walmap_txn_free(owner);
  walmap_txn_free(other);
  walmap_session_free(a);
  walmap_session_free(b);
}

static void deadlock_of(int parties, bool several_maps) {
  ring r = {.parties = parties, .rounds = 200 / SLOWDOWN};
  /* Which shard a key is in depends on nothing but hash, seed and their number: found in one map, used in another. */
  walmap_options options;
  options_init(&options);
  options.busy_timeout = 0;
  options.seed_given = true;
  options.seed = the_seed;
  walmap *probe_map;
  MUST_OK(walmap_open(&options, &probe_map));
  find_keys(probe_map, r.keys, parties);
  walmap_close(probe_map);
  options.busy_timeout = VERY_LONG_MS;
  for (int i = 0; i < parties; i++) {
    if (i && !several_maps)
      r.maps[i] = r.maps[0];
    else
      MUST_OK(walmap_open(&options, &r.maps[i]));
  }
  MUST(pthread_barrier_init(&r.barrier, NULL, (unsigned)parties) == 0);
  ring_party members[MOST_PARTIES];
  pthread_t threads[MOST_PARTIES];
  for (int i = 0; i < parties; i++) {
    members[i] = (ring_party){&r, i};
    threads[i] = start(run_ring_party, &members[i]);
  }
  for (int i = 0; i < parties; i++)
    join(threads[i]);
  printf("  %d parties, %s: %d deadlocks told after %.3f ms on average, %.3f ms at most\n", parties,
         several_maps ? "a map each" : "one map", r.deadlocks, (double)r.sum_ns / r.rounds / MS,
         (double)r.longest_ns / MS);
  MUST(r.longest_ns < VERY_LONG_MS / 2 * (uint64_t)MS); /* and not at the end of busy_timeout */
  pthread_barrier_destroy(&r.barrier);
  for (int i = 0; i < parties; i++)
    if (i == 0 || several_maps)
      walmap_close(r.maps[i]);
}

static void deadlocks(void **unused) {
  (void)unused;
  for (int parties = 2; parties <= MOST_PARTIES; parties++) {
    deadlock_of(parties, false);
    deadlock_of(parties, true);
  }
}

/*
** Transactions of many keys in no order, by threads that try again at once: nearly each of them meets the others'. Most
** must succeed all the same (O2).
*/
enum { STORM_THREADS = 4, STORM_KEYS = 10, STORM_COMMITS = 1000 };

typedef struct storm {
  walmap *map;
  atomic_bool stop;
  atomic_ullong commits, deadlocks;
  atomic_uint satisfied; /* threads that have committed */
} storm;

static void *run_storm(void *arg) {
  storm *s = arg;
  uint64_t random = seed_of_thread();
  bool is_satisfied = false;
  walmap_session *session;
  walmap_txn *txn;
  MUST_OK(walmap_session_new(NULL, NULL, &session));
  MUST_OK(walmap_txn_new(s->map, session, &txn));
  while (!atomic_load(&s->stop)) {
    int result = WALMAP_OK;
    walmap_txn_begin(txn);
    for (int i = 0; i < STORM_KEYS && result == WALMAP_OK; i++) {
      uint32_t key = random_below(&random, 1000);
      result = walmap_txn_set(txn, &key, sizeof key, &key, sizeof key);
    }
    if (result == WALMAP_OK) {
      walmap_txn_commit(txn);
      atomic_fetch_add(&s->commits, 1);
      if (!is_satisfied)
        atomic_fetch_add(&s->satisfied, 1);
      is_satisfied = true;
    } else {
      MUST_RESULT(result, WALMAP_DEADLOCK);
      walmap_txn_rollback(txn);
      atomic_fetch_add(&s->deadlocks, 1);
    }
  }
  walmap_txn_free(txn);
  walmap_session_free(session);
  return NULL;
}

static void deadlocks_are_few(void **unused) {
  (void)unused;
  storm s = {.map = open_map(16, VERY_LONG_MS)};
  pthread_t threads[STORM_THREADS];
  for (int i = 0; i < STORM_THREADS; i++)
    threads[i] = start(run_storm, &s);
  sleep_ms((unsigned)(load_ns() / MS));
  /* So many commits that the share of deadlocks does not depend on a few of them */
  for (uint64_t since = now_ns();
       atomic_load(&s.satisfied) < STORM_THREADS || atomic_load(&s.commits) < STORM_COMMITS;) {
    MUST_NOT_HANG(since);
    sleep_ms(10);
  }
  atomic_store(&s.stop, true);
  for (int i = 0; i < STORM_THREADS; i++)
    join(threads[i]);
  printf("  %llu transactions, %llu deadlocks\n", s.commits, s.deadlocks);
  MUST(s.deadlocks < s.commits);
  walmap_close(s.map);
}

int main(void) {
  the_seed = announce_seed("test_deadlocks");
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(deadlocks),
      cmocka_unit_test(deadlocks_are_few),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
