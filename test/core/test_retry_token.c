/*
** test_retry_token.c - transactions over several maps that meet in deadlocks: the retry token of a session (O2)
**
** The first tests count, by the named points (core/base/yield.h), how often a call has queued for something: with it
** they tell a wait for the token from none, without a clock. The last one has threads move money between three maps.
*/
#include "../common/support.h"

#include <pthread.h>

#include "base/yield.h"

static _Thread_local unsigned queued; /* so many times the thread has queued */
static atomic_bool winner_sleeps;
static _Thread_local bool is_winner;

static void watch(const char *point) {
  queued += strcmp(point, "lock: will queue") == 0;
  if (is_winner && strcmp(point, "lock: will sleep") == 0)
    atomic_store(&winner_sleeps, true);
}

static walmap *open_map(uint32_t busy_timeout) {
  walmap_options options;
  walmap_options_init(&options);
  options.busy_timeout = busy_timeout;
  walmap *map;
  MUST_OK(walmap_open(&options, &map));
  return map;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* A session with a transaction object on each of two maps                                                            */

enum { MAPS = 2, PATIENCE_S = 600 /* no machine stops a thread for so long */ };

typedef struct party {
  walmap_session *session;
  walmap_txn *txns[MAPS];
} party;

static party new_party(walmap *const *maps, bool (*interrupt)(void *)) {
  party p;
  MUST_OK(walmap_session_new(interrupt, NULL, &p.session));
  for (int m = 0; m < MAPS; m++)
    MUST_OK(walmap_txn_new(maps[m], p.session, &p.txns[m]));
  return p;
}

static void free_party(party *p) {
  for (int m = 0; m < MAPS; m++)
    walmap_txn_free(p->txns[m]);
  walmap_session_free(p->session);
}

static void begin_all(party *p) {
  for (int m = 0; m < MAPS; m++)
    walmap_txn_begin(p->txns[m]);
}

static void roll_back_all(party *p) {
  for (int m = 0; m < MAPS; m++)
    walmap_txn_rollback(p->txns[m]);
}

static int touch(walmap_txn *txn, uint32_t key) {
  walmap_entry entry;
  int result = walmap_txn_get(txn, &key, sizeof key, &entry);
  return result == WALMAP_NOTFOUND ? WALMAP_OK : result;
}

/* Whether the touch queued, for a shard or for the token. It must succeed. */
static bool queues(walmap_txn *txn, uint32_t key) {
  unsigned before = queued;
  MUST_OK(touch(txn, key));
  return queued != before;
}

/* Two keys in different shards of the map: with them, and in this order, a deadlock is made. */
static void find_two_keys(walmap *map, uint32_t keys[2]) {
  uint32_t shards[2];
  keys[0] = keys[1] = 0;
  do {
    for (int i = 0; i < 2; i++)
      shards[i] = (uint32_t)(walmap_hash(map, &keys[i], sizeof keys[i]) >> 60); /* of 16 shards */
  } while (shards[0] == shards[1] && ++keys[1]);
}

typedef struct winner {
  walmap *map;
  uint32_t keys[2];
  pthread_barrier_t barrier;
} winner;

/* Owns the second key's shard and waits for the first one's. */
static void *win(void *arg) {
  winner *w = arg;
  walmap *maps[MAPS] = {w->map, w->map};
  party p = new_party(maps, NULL);
  is_winner = true;
  walmap_txn_begin(p.txns[0]);
  MUST_OK(touch(p.txns[0], w->keys[1]));
  pthread_barrier_wait(&w->barrier);
  MUST_OK(touch(p.txns[0], w->keys[0]));
  walmap_txn_rollback(p.txns[0]);
  free_party(&p);
  return NULL;
}

/* The transaction meets a deadlock on the map, and is rolled back. */
static void meet_deadlock(walmap *map, walmap_txn *txn) {
  winner w = {.map = map};
  pthread_t thread;
  find_two_keys(map, w.keys);
  MUST(pthread_barrier_init(&w.barrier, NULL, 2) == 0);
  atomic_store(&winner_sleeps, false);
  walmap_txn_begin(txn);
  MUST_OK(touch(txn, w.keys[0]));
  MUST(pthread_create(&thread, NULL, win, &w) == 0);
  pthread_barrier_wait(&w.barrier);
  while (!atomic_load(&winner_sleeps))
    sleep_ms(1);
  MUST_RESULT(touch(txn, w.keys[1]), WALMAP_DEADLOCK);
  walmap_txn_rollback(txn);
  MUST(pthread_join(thread, NULL) == 0);
  pthread_barrier_destroy(&w.barrier);
}

typedef struct fixture {
  walmap *maps[MAPS];
  party a, b; /* both have met a deadlock on the second map */
} fixture;

static fixture two_losers(uint32_t first_timeout) {
  fixture f = {.maps = {open_map(first_timeout), open_map(PATIENCE_S * 1000)}};
  f.a = new_party(f.maps, NULL);
  f.b = new_party(f.maps, NULL);
  meet_deadlock(f.maps[1], f.a.txns[1]);
  meet_deadlock(f.maps[1], f.b.txns[1]);
  return f;
}

static void close_all(fixture *f) {
  free_party(&f->a);
  free_party(&f->b);
  for (int m = 0; m < MAPS; m++)
    walmap_close(f->maps[m]);
}

/* ------------------------------------------------------------------------------------------------------------------ */

/* A session that owns shards of one map and touches another map's does not ask there: the shard is free. */
static void no_wait_while_owning(void **unused) {
  (void)unused;
  fixture f = two_losers(PATIENCE_S * 1000);
  uint32_t keys[2];
  find_two_keys(f.maps[1], keys);
  begin_all(&f.b);
  assert_false(queues(f.b.txns[1], keys[0])); /* it has the token, and keeps it */
  begin_all(&f.a);
  MUST_OK(touch(f.a.txns[0], 0));
  assert_false(queues(f.a.txns[1], keys[1]));
  roll_back_all(&f.b);
  roll_back_all(&f.a);
  close_all(&f);
}

/* There is one token, whatever maps the deadlocks were on; the session has it until it owns nothing on any map. */
static void one_for_the_process(void **unused) {
  (void)unused;
  fixture f = two_losers(PATIENCE_S * 1000);
  begin_all(&f.a);
  begin_all(&f.b);
  assert_false(queues(f.a.txns[0], 0));
  assert_false(queues(f.a.txns[1], 0));
  walmap_txn_commit(f.a.txns[1]);
  assert_true(queues(f.b.txns[1], 0)); /* for the token only: it goes without after a while */
  walmap_txn_commit(f.a.txns[0]);
  roll_back_all(&f.b);
  party c = new_party(f.maps, NULL);
  meet_deadlock(f.maps[0], c.txns[0]);
  begin_all(&c);
  assert_false(queues(c.txns[0], 0)); /* it was given back */
  roll_back_all(&c);
  free_party(&c);
  close_all(&f);
}

/* Who did not get the shard for which it took the token does not keep it. */
static void not_kept_for_nothing(void **unused) {
  (void)unused;
  fixture f = two_losers(0);
  party other = new_party(f.maps, NULL);
  begin_all(&other);
  MUST_OK(touch(other.txns[0], 0));
  begin_all(&f.a);
  MUST_RESULT(touch(f.a.txns[0], 0), WALMAP_BUSY);
  begin_all(&f.b);
  assert_false(queues(f.b.txns[1], 0));
  roll_back_all(&f.b);
  roll_back_all(&f.a);
  roll_back_all(&other);
  free_party(&other);
  close_all(&f);
}

static bool yes(void *unused) {
  (void)unused;
  return true;
}

/* The wait for the token is a wait like any other: it can be interrupted. */
static void interrupted(void **unused) {
  (void)unused;
  fixture f = two_losers(PATIENCE_S * 1000);
  party c = new_party(f.maps, yes);
  meet_deadlock(f.maps[1], c.txns[1]);
  begin_all(&f.b);
  MUST_OK(touch(f.b.txns[1], 0));
  begin_all(&c);
  MUST_RESULT(touch(c.txns[0], 0), WALMAP_INTERRUPT);
  roll_back_all(&f.b);
  MUST_OK(touch(c.txns[0], 0));
  roll_back_all(&c);
  free_party(&c);
  close_all(&f);
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Threads: money moves between the accounts of three maps                                                            */

enum { BANKS = 3, ACCOUNTS = 64, MONEY = 1000, WRITERS = 16, ENOUGH = 50 };

typedef struct world {
  walmap *banks[BANKS];
  atomic_uint satisfied; /* writers that have committed often enough */
  atomic_ullong deadlocks;
} world;

typedef struct writer {
  world *world;
  walmap_session *session;
  walmap_txn *txns[BANKS];
  uint64_t random, commits;
} writer;

/* False: a deadlock, and nothing was changed. */
static bool add(writer *w, int bank, uint32_t account, int64_t amount) {
  walmap_entry entry;
  int64_t money;
  int result = walmap_txn_get(w->txns[bank], &account, sizeof account, &entry);
  if (result == WALMAP_DEADLOCK)
    return false;
  MUST_OK(result);
  memcpy(&money, entry.value, sizeof money);
  money += amount;
  MUST_OK(walmap_txn_set(w->txns[bank], &account, sizeof account, &money, sizeof money));
  return true;
}

/* From an account of each bank to one of the next. */
static bool move_round(writer *w) {
  for (int i = 0, bank = (int)random_below(&w->random, BANKS); i < BANKS; i++, bank = (bank + 1) % BANKS) {
    int64_t amount = random_below(&w->random, 100);
    if (!add(w, bank, random_below(&w->random, ACCOUNTS), -amount) ||
        !add(w, (bank + 1) % BANKS, random_below(&w->random, ACCOUNTS), amount))
      return false;
  }
  return true;
}

/* What all accounts hold, in a transaction that sees them in one state. 0: a deadlock. */
static int64_t total(writer *w) {
  int64_t sum = 0;
  for (int bank = 0; bank < BANKS; bank++) {
    for (uint32_t account = 0; account < ACCOUNTS; account++) {
      walmap_entry entry;
      int64_t money;
      int result = walmap_txn_get(w->txns[bank], &account, sizeof account, &entry);
      if (result == WALMAP_DEADLOCK)
        return 0;
      MUST_OK(result);
      memcpy(&money, entry.value, sizeof money);
      sum += money;
    }
  }
  MUST(sum == (int64_t)BANKS * ACCOUNTS * MONEY);
  return sum;
}

static void write_once(writer *w) {
  for (int bank = 0; bank < BANKS; bank++)
    walmap_txn_begin(w->txns[bank]);
  bool audits = random_below(&w->random, 16) == 0;
  bool done = audits ? total(w) != 0 : move_round(w);
  bool commit = done && random_below(&w->random, 16) != 0;
  for (int bank = 0; bank < BANKS; bank++)
    (commit ? walmap_txn_commit : walmap_txn_rollback)(w->txns[bank]);
  w->commits += commit;
  atomic_fetch_add(&w->world->deadlocks, !done);
}

static void *run_writer(void *arg) {
  writer *w = arg;
  uint64_t until = now_ns() + (uint64_t)PATIENCE_S * 1000000000u;
  bool satisfied = false;
  MUST_OK(walmap_session_new(NULL, NULL, &w->session));
  for (int bank = 0; bank < BANKS; bank++)
    MUST_OK(walmap_txn_new(w->world->banks[bank], w->session, &w->txns[bank]));
  /* On one processor it may take a while until a writer is stopped within a transaction. */
  while (atomic_load(&w->world->satisfied) < WRITERS || atomic_load(&w->world->deadlocks) == 0) {
    write_once(w);
    MUST(now_ns() < until); /* a writer starves */
    if (!satisfied && w->commits >= ENOUGH) {
      satisfied = true;
      atomic_fetch_add(&w->world->satisfied, 1);
    }
  }
  for (int bank = 0; bank < BANKS; bank++)
    walmap_txn_free(w->txns[bank]);
  walmap_session_free(w->session);
  return NULL;
}

static void three_banks(void **unused) {
  (void)unused;
  static writer writers[WRITERS];
  pthread_t threads[WRITERS];
  world world = {.satisfied = 0};
  uint64_t seed = announce_seed("three_banks"), commits = 0, least = UINT64_MAX, most = 0;
  for (int bank = 0; bank < BANKS; bank++) {
    world.banks[bank] = open_map(PATIENCE_S * 1000);
    for (uint32_t account = 0; account < ACCOUNTS; account++) {
      int64_t money = MONEY;
      MUST_OK(walmap_set(world.banks[bank], &account, sizeof account, &money, sizeof money));
    }
  }
  for (int i = 0; i < WRITERS; i++) {
    writers[i] = (writer){.world = &world, .random = mix(seed + (uint64_t)i)};
    MUST(pthread_create(&threads[i], NULL, run_writer, &writers[i]) == 0);
  }
  for (int i = 0; i < WRITERS; i++) {
    MUST(pthread_join(threads[i], NULL) == 0);
    commits += writers[i].commits;
    least = writers[i].commits < least ? writers[i].commits : least;
    most = writers[i].commits > most ? writers[i].commits : most;
  }
  printf("  %llu commits, of a writer %llu to %llu; %llu deadlocks\n", (unsigned long long)commits,
         (unsigned long long)least, (unsigned long long)most, atomic_load(&world.deadlocks));
  for (int bank = 0; bank < BANKS; bank++) {
    MUST_OK(walmap_verify(world.banks[bank], NULL, NULL));
    walmap_close(world.banks[bank]);
  }
}

int main(void) {
  atomic_store(&walmap__yield_hook, watch);
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(no_wait_while_owning), cmocka_unit_test(one_for_the_process),
      cmocka_unit_test(not_kept_for_nothing), cmocka_unit_test(interrupted),
      cmocka_unit_test(three_banks),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
