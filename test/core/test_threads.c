/*
** test_threads.c - the guarantees C1, C2, C4, C5 and C6 between threads, compaction running all the while
**
** Each test runs for a time, not for a count, so that it takes as long under a sanitizer as without: LOAD_MS=n sets the
** time of each, SEED=n the order of operations (the threads' interleaving is the machine's).
*/
#include "../common/support.h"

#include <pthread.h>
#include <unistd.h>

#include "mvcc/map.h"

static uint64_t the_seed;

/* Another one for each thread. */
static uint64_t seed_of_thread(void) {
  static atomic_ullong threads;
  return the_seed + (atomic_fetch_add(&threads, 1) << 32);
}

static uint64_t load_ns(void) { return env_number("LOAD_MS", 500) * 1000000u; }

static walmap *open_map(uint32_t shards, uint32_t busy_timeout) {
  walmap_options options;
  options_init(&options);
  options.shards = shards;
  options.busy_timeout = busy_timeout;
  options.first_segment = 256;
  walmap *map;
  MUST_OK(walmap_open(&options, &map));
  return map;
}

static pthread_t start(void *(*body)(void *), void *arg) {
  pthread_t thread;
  MUST(pthread_create(&thread, NULL, body, arg) == 0);
  return thread;
}

static void join(pthread_t thread) { MUST(pthread_join(thread, NULL) == 0); }

/* ------------------------------------------------------------------------------------------------------------------ */
/* Transfers: money moves between accounts in every shard, and the sum stays (C2, C3, C4, C6)                         */

#define ACCOUNTS 64
#define TOTAL (ACCOUNTS * 1000)
#define WRITERS 3

typedef struct bank {
  walmap *map;
  atomic_bool stop;
  atomic_ullong transfers, rollbacks, deadlocks, busy, sums, images, restores, compactions;
  uint64_t seed;
} bank;

typedef struct teller {
  bank *bank;
  int number;
} teller;

/* The sum by the keys' order, of an ordered map (B1). */
static void must_sum_in_order(bank *b, walmap_state *state) {
  walmap_ordered_cursor cursor;
  walmap_entry entry;
  int64_t amount, sum = 0;
  int seen = 0;
  uint8_t last[4];
  walmap_ordered_start(&cursor, state);
  for (bool more = walmap_ordered_seek(&cursor, WALMAP_FIRST, NULL, 0, &entry); more;
       more = walmap_ordered_next(&cursor, &entry), seen++) {
    MUST(seen == 0 || memcmp(last, entry.key, 4) < 0);
    memcpy(last, entry.key, 4);
    memcpy(&amount, entry.value, sizeof amount);
    sum += amount;
  }
  MUST(seen == ACCOUNTS && sum == TOTAL);
  atomic_fetch_add(&b->sums, 1);
}

static void must_sum(bank *b, walmap_state *state) {
  walmap_entry entries[ACCOUNTS], entry;
  walmap_cursor cursor;
  uint32_t numbers[ACCOUNTS];
  int64_t by_scan = 0, by_get = 0, by_many = 0;
  int seen = 0;
  for (walmap_cursor_start(&cursor, state); walmap_cursor_next(&cursor, &entry); seen++) {
    int64_t amount;
    MUST(entry.key_len == 4 && entry.value_len == sizeof amount);
    memcpy(&amount, entry.value, sizeof amount);
    by_scan += amount;
  }
  for (uint32_t a = 0; a < ACCOUNTS; a++) {
    int64_t amount;
    MUST_OK(walmap_state_get(state, &a, 4, &entry));
    memcpy(&amount, entry.value, sizeof amount);
    by_get += amount;
    numbers[a] = a;
    entries[a] = (walmap_entry){.key = &numbers[a], .key_len = 4};
  }
  MUST(walmap_state_get_many(state, entries, ACCOUNTS) == ACCOUNTS);
  for (uint32_t a = 0; a < ACCOUNTS; a++) {
    int64_t amount;
    memcpy(&amount, entries[a].value, sizeof amount);
    by_many += amount;
  }
  MUST(seen == ACCOUNTS && walmap_state_len(state) == ACCOUNTS);
  MUST(by_scan == TOTAL);
  MUST(by_get == TOTAL);
  MUST(by_many == TOTAL);
  if (ORDERED)
    must_sum_in_order(b, state);
  atomic_fetch_add(&b->sums, 3);
}

/* Reads one account in the transaction: false when it was kept out and has to end. */
static bool read_account(bank *b, walmap_txn *txn, uint32_t account, int64_t *amount) {
  walmap_entry entry;
  int result = walmap_txn_get(txn, &account, 4, &entry);
  if (result == WALMAP_DEADLOCK)
    atomic_fetch_add(&b->deadlocks, 1);
  else if (result == WALMAP_BUSY)
    atomic_fetch_add(&b->busy, 1);
  else
    MUST_OK(result);
  if (result == WALMAP_OK)
    memcpy(amount, entry.value, sizeof *amount);
  return result == WALMAP_OK;
}

static void transfer(bank *b, walmap_txn *txn, uint64_t *random) {
  uint32_t from = random_below(random, ACCOUNTS), to = (from + 1 + random_below(random, ACCOUNTS - 1)) % ACCOUNTS;
  int64_t moved = random_below(random, 100), in_from, in_to;
  bool give_up = random_below(random, 8) == 0, with_savepoint = random_below(random, 4) == 0;
  walmap_txn_begin(txn);
  if (!read_account(b, txn, from, &in_from)) {
    walmap_txn_rollback(txn);
    return;
  }
  in_from -= moved;
  MUST_OK(walmap_txn_set(txn, &from, 4, &in_from, 8));
  if (!read_account(b, txn, to, &in_to)) {
    walmap_txn_rollback(txn);
    return;
  }
  if (with_savepoint) {
    int64_t nonsense = -1;
    walmap_txn_savepoint(txn, 0);
    MUST_OK(walmap_txn_set(txn, &from, 4, &nonsense, 8));
    MUST_OK(walmap_txn_remove(txn, &to, 4));
    walmap_txn_rollback_to(txn, 0);
  }
  int64_t again;
  MUST(read_account(b, txn, from, &again) && again == in_from); /* C4 */
  MUST(read_account(b, txn, to, &again) && again == in_to);
  in_to += moved;
  MUST_OK(walmap_txn_set(txn, &to, 4, &in_to, 8));
  if (give_up)
    walmap_txn_rollback(txn);
  else
    walmap_txn_commit(txn);
  atomic_fetch_add(give_up ? &b->rollbacks : &b->transfers, 1);
}

static void *run_teller(void *arg) {
  teller *t = arg;
  bank *b = t->bank;
  uint64_t random = b->seed + (uint64_t)t->number;
  walmap_session *session;
  walmap_txn *txn;
  MUST_OK(walmap_session_new(NULL, NULL, &session));
  MUST_OK(walmap_txn_new(b->map, session, &txn));
  while (!atomic_load(&b->stop))
    transfer(b, txn, &random);
  walmap_txn_free(txn);
  walmap_session_free(session);
  return NULL;
}

static void *run_auditor(void *arg) {
  bank *b = arg;
  walmap_state *state;
  MUST_OK(walmap_state_new(b->map, &state));
  while (!atomic_load(&b->stop)) {
    MUST_OK(walmap_state_begin(state)); /* C1: never BUSY */
    must_sum(b, state);
    must_sum(b, state);
    walmap_state_end(state);
    MUST(walmap_len(b->map) == ACCOUNTS);
  }
  walmap_state_free(state);
  return NULL;
}

static void *run_copier(void *arg) {
  bank *b = arg;
  walmap *copy = open_map(2, 0);
  walmap_state *state;
  MUST_OK(walmap_state_new(copy, &state));
  while (!atomic_load(&b->stop)) {
    void *image;
    size_t size;
    uint64_t entries;
    MUST_OK(walmap_snapshot(b->map, &image, &size));
    MUST_OK(walmap_restore(copy, image, size, &entries, NULL));
    walmap_image_free(image);
    MUST(entries == ACCOUNTS);
    MUST_OK(walmap_state_begin(state));
    must_sum(b, state);
    walmap_state_end(state);
    atomic_fetch_add(&b->images, 1);
  }
  walmap_state_free(state);
  walmap_close(copy);
  return NULL;
}

static void *run_compactor(void *arg) {
  bank *b = arg;
  while (!atomic_load(&b->stop)) {
    MUST_OK(walmap_compact(b->map, NULL));
    atomic_fetch_add(&b->compactions, 1);
    sleep_ms(1);
  }
  return NULL;
}

/* Puts the map's own content back, changed in no sum, under the readers' eyes. */
static void *run_restorer(void *arg) {
  bank *b = arg;
  walmap_session *session;
  walmap_txn *txn;
  walmap_state *state;
  MUST_OK(walmap_session_new(NULL, NULL, &session));
  MUST_OK(walmap_txn_new(b->map, session, &txn));
  MUST_OK(walmap_state_new(b->map, &state));
  while (!atomic_load(&b->stop)) {
    walmap_txn_begin(txn);
    int result = walmap_txn_state_begin(txn, state);
    if (result == WALMAP_OK) {
      void *image;
      size_t size;
      must_sum(b, state);
      MUST_OK(walmap_state_image(state, &image, &size));
      MUST_OK(walmap_txn_restore(txn, image, size, NULL, NULL, NULL, NULL));
      walmap_image_free(image);
      walmap_state_end(state);
      if (atomic_fetch_add(&b->restores, 1) % 4 == 3)
        walmap_txn_rollback(txn);
      else
        walmap_txn_commit(txn);
    } else {
      MUST(result == WALMAP_DEADLOCK || result == WALMAP_BUSY);
      walmap_txn_rollback(txn);
    }
    sleep_ms(3);
  }
  walmap_state_free(state);
  walmap_txn_free(txn);
  walmap_session_free(session);
  return NULL;
}

static void transfers_over(uint32_t shards, bool with_restore) {
  bank *b = calloc(1, sizeof *b);
  MUST(b);
  b->map = open_map(shards, 10000);
  b->seed = the_seed;
  for (uint32_t a = 0; a < ACCOUNTS; a++) {
    int64_t amount = TOTAL / ACCOUNTS;
    MUST_OK(walmap_set(b->map, &a, 4, &amount, 8));
  }
  teller tellers[WRITERS];
  pthread_t threads[WRITERS + 5];
  int n = 0;
  for (int i = 0; i < WRITERS; i++) {
    tellers[i] = (teller){b, i};
    threads[n++] = start(run_teller, &tellers[i]);
  }
  threads[n++] = start(run_auditor, b);
  threads[n++] = start(run_auditor, b);
  threads[n++] = start(run_copier, b);
  threads[n++] = start(run_compactor, b);
  if (with_restore)
    threads[n++] = start(run_restorer, b);
  for (uint64_t until = now_ns() + load_ns(); now_ns() < until;)
    sleep_ms(10);
  atomic_store(&b->stop, true);
  for (int i = 0; i < n; i++)
    join(threads[i]);
  printf("  shards %2u%s: %llu transfers, %llu rolled back, %llu deadlocks, %llu sums, %llu images, %llu restores, "
         "%llu compactions\n",
         shards, with_restore ? " with restore" : "", b->transfers, b->rollbacks, b->deadlocks, b->sums, b->images,
         b->restores, b->compactions);
  MUST(b->transfers > 0 && b->sums > 0 && b->images > 0 && b->compactions > 0);
  MUST(b->busy == 0); /* no transaction holds a shard for ten seconds */
  walmap_state *state;
  MUST_OK(walmap_state_new(b->map, &state));
  MUST_OK(walmap_state_begin(state));
  must_sum(b, state);
  walmap_state_free(state);
  uint64_t size = walmap_size(b->map), reclaimable = walmap_reclaimable(b->map);
  MUST_OK(walmap_compact(b->map, NULL));
  MUST(walmap_size(b->map) == size - reclaimable && walmap_reclaimable(b->map) == 0);
  walmap_close(b->map);
  free(b);
}

static void transfers(void **unused) {
  (void)unused;
  transfers_over(1, false);
  transfers_over(2, false);
  transfers_over(16, false);
}

static void transfers_beside_restore(void **unused) {
  (void)unused;
  transfers_over(2, true);
  transfers_over(16, true);
}

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

static void counters_and_histories(void **unused) {
  (void)unused;
  for (uint32_t shards = 1; shards <= 16; shards *= 16) {
    counters *c = calloc(1, sizeof *c);
    MUST(c);
    c->map = open_map(shards, 10000);
    uint64_t zero = 0, total = 0;
    for (uint32_t key = 0; key < COUNTERS; key++)
      MUST_OK(walmap_set(c->map, &key, 4, &zero, 8));
    pthread_t threads[5];
    for (int i = 0; i < 3; i++)
      threads[i] = start(run_adder, c);
    for (int i = 3; i < 5; i++)
      threads[i] = start(run_watcher, c);
    for (uint64_t until = now_ns() + load_ns(); now_ns() < until;) {
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
    MUST(total > 0 && c->reads > 0);
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
  p->map = open_map(16, 10000);
  uint64_t zero = 0;
  for (uint32_t key = 0; key < PAIRED; key++)
    MUST_OK(walmap_set(p->map, &key, 4, &zero, 8));
  pthread_t threads[] = {start(run_pair_writer, p), start(run_pair_reader, p), start(run_pair_stater, p)};
  for (uint64_t until = now_ns() + load_ns(); now_ns() < until;)
    sleep_ms(10);
  atomic_store(&p->stop, true);
  for (int i = 0; i < 3; i++)
    join(threads[i]);
  printf("  %llu generations, %llu reads\n", p->generation, p->reads);
  MUST(p->generation > 0 && p->reads > 0);
  walmap_close(p->map);
  free(p);
}

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
    p->map = open_map(shards, 10000);
    for (uint32_t key = 0; key < 2 * PAIRS; key += 2)
      MUST_OK(walmap_set(p->map, &key, 4, &key, 4));
    pthread_t threads[] = {start(run_mover, p), start(run_mover, p), start(run_pair_checker, p),
                           start(run_pair_checker, p)};
    for (uint64_t until = now_ns() + load_ns(); now_ns() < until;) {
      MUST_OK(walmap_compact(p->map, NULL));
      sleep_ms(5);
    }
    atomic_store(&p->stop, true);
    for (int i = 0; i < 4; i++)
      join(threads[i]);
    printf("  shards %2u: %llu moves, %llu checks\n", shards, p->moves, p->checks);
    MUST(p->moves > 0 && p->checks > 0);
    walmap_close(p->map);
    free(p);
  }
}

/* What a writer has put in is found, however often the index splits meanwhile. */
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
    g->map = open_map(shards, 10000);
    pthread_t threads[] = {start(run_grower, g), start(run_growth_reader, g), start(run_growth_reader, g)};
    for (uint64_t until = now_ns() + load_ns(); now_ns() < until;)
      sleep_ms(10);
    atomic_store(&g->stop, true);
    for (int i = 0; i < 3; i++)
      join(threads[i]);
    printf("  shards %2u: %u inserts, %llu reads\n", shards, g->loaded, g->reads);
    MUST(g->loaded > 0 && g->reads > 0);
    MUST(walmap_len(g->map) == g->loaded);
    walmap_close(g->map);
    free(g);
  }
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Waiting and not waiting (C1, C5)                                                                                   */

static void *read_everything(void *arg) {
  walmap *map = arg;
  walmap_state *state;
  MUST_OK(walmap_state_new(map, &state));
  for (int round = 0; round < 200 / SLOWDOWN; round++) {
    uint64_t number;
    size_t len;
    int count = 0;
    MUST_OK(walmap_state_begin(state));
    for (uint32_t key = 0; key < 500; key++) {
      walmap_entry entry;
      MUST_OK(walmap_get(map, &key, 4, &number, 8, &len));
      MUST(number == key);
      MUST_OK(walmap_view(map, &key, 4, copy_number, &number));
      MUST_OK(walmap_state_get(state, &key, 4, &entry));
    }
    walmap_cursor cursor;
    walmap_entry entry;
    for (walmap_cursor_start(&cursor, state); walmap_cursor_next(&cursor, &entry);)
      count++;
    MUST(count == 500 && walmap_len(map) == 500);
    walmap_state_end(state);
    void *image;
    size_t size;
    MUST_OK(walmap_snapshot(map, &image, &size));
    walmap_image_free(image);
  }
  walmap_state_free(state);
  return NULL;
}

/* A transaction that owns every shard, wrote everywhere and does not end, is nothing to a reader. */
static void readers_never_wait(void **unused) {
  (void)unused;
  walmap *map = open_map(16, 60000);
  walmap_session *session;
  walmap_txn *txn;
  for (uint64_t key = 0; key < 500; key++)
    MUST_OK(walmap_set(map, &key, 4, &key, 8));
  MUST_OK(walmap_session_new(NULL, NULL, &session));
  MUST_OK(walmap_txn_new(map, session, &txn));
  walmap_txn_begin(txn);
  for (uint64_t key = 0; key < 600; key++) {
    uint64_t other = key + 1000000;
    MUST_OK(walmap_txn_set(txn, &key, 4, &other, 8));
  }
  uint64_t began = now_ns();
  join(start(read_everything, map));
  MUST(now_ns() - began < 30u * 1000000000u); /* had it waited, it would have been a minute */
  walmap_txn_free(txn);
  walmap_session_free(session);
  walmap_close(map);
}

typedef struct probe {
  walmap *map;
  int done, kept_out;
} probe;

static void *set_all(void *arg) {
  probe *p = arg;
  for (uint32_t key = 1; key <= 1000; key++) {
    int result = walmap_set(p->map, &key, 4, "v", 1);
    MUST(result == WALMAP_OK || result == WALMAP_BUSY);
    if (result == WALMAP_OK)
      p->done++;
    else
      p->kept_out++;
  }
  return NULL;
}

/* While one shard is owned, the writers of the other fifteen go on. */
static void other_shards_go_on(void **unused) {
  (void)unused;
  probe p = {open_map(16, 0), 0, 0};
  walmap_session *session;
  walmap_txn *txn;
  uint32_t mine = 0;
  MUST_OK(walmap_session_new(NULL, NULL, &session));
  MUST_OK(walmap_txn_new(p.map, session, &txn));
  walmap_txn_begin(txn);
  MUST_OK(walmap_txn_set(txn, &mine, 4, "v", 1));
  join(start(set_all, &p));
  printf("  of 1000 writes beside the owner of 1 shard in 16, %d were kept out\n", p.kept_out);
  MUST(p.kept_out > 0 && p.kept_out < 200);
  MUST(walmap_len(p.map) == (uint64_t)p.done);
  walmap_txn_commit(txn);
  MUST(walmap_len(p.map) == (uint64_t)p.done + 1);
  walmap_txn_free(txn);
  walmap_session_free(session);
  walmap_close(p.map);
}

typedef struct waiter {
  walmap *map;
  walmap_session *session;
  int result;
  uint64_t waited_ns;
  walmap_txn *txn;
} waiter;

static void *wait_by_txn(void *arg) {
  waiter *w = arg;
  walmap_txn *txn;
  MUST_OK(walmap_txn_new(w->map, w->session, &txn));
  walmap_txn_begin(txn);
  uint64_t began = now_ns();
  w->result = walmap_txn_set(txn, "k", 1, "2", 1);
  w->waited_ns = now_ns() - began;
  walmap_txn_commit(txn);
  walmap_txn_free(txn);
  return NULL;
}

static void *wait_by_set(void *arg) {
  waiter *w = arg;
  uint64_t began = now_ns();
  w->result = walmap_set(w->map, "k", 1, "2", 1);
  w->waited_ns = now_ns() - began;
  return NULL;
}

#define MS 1000000u

static void busy_timeout(void **unused) {
  (void)unused;
  for (int single = 0; single < 2; single++) {
    for (uint32_t timeout = 0; timeout <= 100; timeout += 50) {
      for (int released = 0; released < 2; released++) {
        walmap *map = open_map(4, released ? 60000 : timeout);
        walmap_session *holder, *session;
        walmap_txn *txn;
        MUST_OK(walmap_session_new(NULL, NULL, &holder));
        MUST_OK(walmap_session_new(NULL, NULL, &session));
        MUST_OK(walmap_txn_new(map, holder, &txn));
        walmap_txn_begin(txn);
        MUST_OK(walmap_txn_set(txn, "k", 1, "1", 1));
        waiter w = {map, session, -1, 0, NULL};
        pthread_t thread = start(single ? wait_by_set : wait_by_txn, &w);
        if (released) {
          sleep_ms(timeout);
          walmap_txn_commit(txn);
        }
        join(thread);
        if (released) {
          MUST_OK(w.result);
          MUST(w.waited_ns < (timeout + 5000) * (uint64_t)MS);
        } else {
          MUST_RESULT(w.result, WALMAP_BUSY);
          MUST(w.waited_ns >= timeout * (uint64_t)MS);
          MUST(w.waited_ns < (timeout + 5000) * (uint64_t)MS);
          walmap_txn_commit(txn);
        }
        char value;
        size_t len;
        MUST_OK(walmap_get(map, "k", 1, &value, 1, &len));
        MUST(value == (released ? '2' : '1'));
        walmap_txn_free(txn);
        walmap_session_free(holder);
        walmap_session_free(session);
        walmap_close(map);
      }
    }
  }
}

typedef struct interrupter {
  atomic_bool now;
  atomic_int polls;
} interrupter;

static bool is_interrupted(void *ctx) {
  interrupter *i = ctx;
  atomic_fetch_add(&i->polls, 1);
  return atomic_load(&i->now);
}

static void interrupts(void **unused) {
  (void)unused;
  walmap *map = open_map(4, 60000);
  walmap_session *holder;
  walmap_txn *txn;
  interrupter i = {false, 0};
  waiter w = {map, NULL, -1, 0, NULL};
  MUST_OK(walmap_session_new(NULL, NULL, &holder));
  MUST_OK(walmap_session_new(is_interrupted, &i, &w.session));
  MUST_OK(walmap_txn_new(map, holder, &txn));
  walmap_txn_begin(txn);
  MUST_OK(walmap_txn_set(txn, "k", 1, "1", 1));
  pthread_t thread = start(wait_by_txn, &w);
  uint64_t began = now_ns();
  while (atomic_load(&i.polls) < 10 && now_ns() - began < 30000ull * MS)
    sleep_ms(1);
  double first_polls = (double)(now_ns() - began) / MS;
  atomic_store(&i.now, true);
  uint64_t said = now_ns();
  join(thread);
  MUST_RESULT(w.result, WALMAP_INTERRUPT);
  MUST(now_ns() - said < 5000ull * MS);
  printf("  polled 10 times in %.1f ms, ended %.1f ms after the interrupt\n", first_polls,
         (double)(now_ns() - said) / MS);
  MUST(i.polls >= 10);
  walmap_txn_free(txn);
  walmap_session_free(holder);
  walmap_session_free(w.session);
  walmap_close(map);
}

/*
** What happens to a waiter while its callback runs, which is not under the mutex of all who wait: the callback uses
** another map, whose shard is owned as well; the shard is handed over to the waiter; or the waiter has to give way.
*/
typedef struct asked {
  walmap *other;
  atomic_bool is_asked, may_answer;
  bool answer;
} asked;

static bool answer_late(void *ctx) {
  asked *a = ctx;
  if (atomic_exchange(&a->is_asked, true))
    return a->answer;
  if (a->other)
    MUST_RESULT(walmap_set(a->other, "k", 1, "3", 1), WALMAP_BUSY);
  while (!atomic_load(&a->may_answer))
    sleep_ms(1);
  return a->answer;
}

typedef struct party {
  walmap *map;
  walmap_session *session;
  walmap_txn *txn;
} party;

static party join_in(walmap *map, bool (*interrupt)(void *ctx), void *ctx) {
  party p = {.map = map};
  MUST_OK(walmap_session_new(interrupt, ctx, &p.session));
  MUST_OK(walmap_txn_new(map, p.session, &p.txn));
  walmap_txn_begin(p.txn);
  return p;
}

static void go_home(party *p) {
  walmap_txn_free(p->txn);
  walmap_session_free(p->session);
}

static void *set_in_txn(void *arg) {
  waiter *w = arg;
  w->result = walmap_txn_set(w->txn, "k", 1, "2", 1);
  return NULL;
}

static void await(atomic_bool *is) {
  while (!atomic_load(is))
    sleep_ms(1);
}

static void interrupt_uses_another_map(void **unused) {
  (void)unused;
  alarm(30); /* this hung */
  walmap *map = open_map(1, 60000), *other = open_map(1, 20);
  party holder = join_in(map, NULL, NULL), other_holder = join_in(other, NULL, NULL);
  asked a = {.other = other, .answer = true, .may_answer = true};
  party asker = join_in(map, answer_late, &a);
  waiter w = {.txn = asker.txn};
  MUST_OK(walmap_txn_set(holder.txn, "k", 1, "1", 1));
  MUST_OK(walmap_txn_set(other_holder.txn, "k", 1, "1", 1));
  join(start(set_in_txn, &w));
  MUST_RESULT(w.result, WALMAP_INTERRUPT);
  go_home(&asker);
  go_home(&holder);
  go_home(&other_holder);
  walmap_close(map);
  walmap_close(other);
  alarm(0);
}

/* Behind the asker another one sleeps: so the release of the shard hands it over to the one that has waited longest. */
static void handed_over_while_asked(void **unused) {
  (void)unused;
  for (int interrupted = 0; interrupted < 2; interrupted++) {
    walmap *map = open_map(1, 60000);
    asked a = {.answer = interrupted};
    party holder = join_in(map, NULL, NULL), asker = join_in(map, answer_late, &a), sleeper = join_in(map, NULL, NULL);
    waiter w = {.txn = asker.txn}, behind = {.txn = sleeper.txn};
    MUST_OK(walmap_txn_set(holder.txn, "k", 1, "1", 1));
    pthread_t asking = start(set_in_txn, &w);
    await(&a.is_asked);
    pthread_t sleeping = start(set_in_txn, &behind);
    while (atomic_load(&walmap__shard_of(map, 0)->lock.n_asleep) == 0)
      sleep_ms(1);
    sleep_ms(5); /* longer than a waiter's patience */
    walmap_txn_commit(holder.txn);
    MUST(atomic_load(&walmap__shard_of(map, 0)->lock.session) == asker.session);
    atomic_store(&a.may_answer, true);
    join(asking);
    MUST_RESULT(w.result, interrupted ? WALMAP_INTERRUPT : WALMAP_OK);
    go_home(&asker);
    join(sleeping);
    MUST_OK(behind.result);
    go_home(&sleeper);
    go_home(&holder);
    walmap_close(map);
  }
}

/* The other party of the circle had to wait before, and so is the older one. */
static void gives_way_while_asked(void **unused) {
  (void)unused;
  for (int interrupted = 0; interrupted < 2; interrupted++) {
    walmap *map = open_map(1, 60000), *second = open_map(1, 60000), *third = open_map(1, 0);
    asked a = {.answer = interrupted};
    party asker = join_in(map, answer_late, &a), older = join_in(map, NULL, NULL),
          in_its_way = join_in(third, NULL, NULL);
    walmap_txn *of_asker, *of_older, *waits;
    MUST_OK(walmap_txn_new(second, asker.session, &of_asker));
    MUST_OK(walmap_txn_new(second, older.session, &of_older));
    MUST_OK(walmap_txn_new(third, older.session, &waits));
    walmap_txn_begin(of_asker);
    walmap_txn_begin(of_older);
    walmap_txn_begin(waits);
    MUST_OK(walmap_txn_set(in_its_way.txn, "k", 1, "1", 1));
    MUST_RESULT(walmap_txn_set(waits, "k", 1, "1", 1), WALMAP_BUSY);
    MUST_OK(walmap_txn_set(of_asker, "k", 1, "1", 1));
    MUST_OK(walmap_txn_set(older.txn, "k", 1, "1", 1));
    waiter w = {.txn = asker.txn}, closes = {.txn = of_older};
    pthread_t asking = start(set_in_txn, &w);
    await(&a.is_asked);
    pthread_t closing = start(set_in_txn, &closes);
    while (atomic_load(&walmap__shard_of(second, 0)->lock.n_asleep) == 0)
      sleep_ms(1);
    atomic_store(&a.may_answer, true);
    join(asking);
    MUST_RESULT(w.result, interrupted ? WALMAP_INTERRUPT : WALMAP_DEADLOCK);
    walmap_txn_free(of_asker);
    join(closing);
    MUST_OK(closes.result);
    walmap_txn_free(of_older);
    walmap_txn_free(waits);
    go_home(&asker);
    go_home(&older);
    go_home(&in_its_way);
    walmap_close(map);
    walmap_close(second);
    walmap_close(third);
  }
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Deadlocks                                                                                                          */

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
  options.busy_timeout = 60000;
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
  MUST(r.longest_ns < 5000ull * MS); /* and not the minute of busy_timeout */
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
enum { STORM_THREADS = 4, STORM_KEYS = 10 };

typedef struct storm {
  walmap *map;
  atomic_bool stop;
  atomic_ullong commits, deadlocks;
} storm;

static void *run_storm(void *arg) {
  storm *s = arg;
  uint64_t random = seed_of_thread(), commits = 0, deadlocks = 0;
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
      commits++;
    } else {
      MUST_RESULT(result, WALMAP_DEADLOCK);
      walmap_txn_rollback(txn);
      deadlocks++;
    }
  }
  walmap_txn_free(txn);
  walmap_session_free(session);
  MUST(commits > 0);
  atomic_fetch_add(&s->commits, commits);
  atomic_fetch_add(&s->deadlocks, deadlocks);
  return NULL;
}

static void deadlocks_are_few(void **unused) {
  (void)unused;
  storm s = {.map = open_map(16, 60000)};
  pthread_t threads[STORM_THREADS];
  for (int i = 0; i < STORM_THREADS; i++)
    threads[i] = start(run_storm, &s);
  sleep_ms((unsigned)(load_ns() / MS));
  atomic_store(&s.stop, true);
  for (int i = 0; i < STORM_THREADS; i++)
    join(threads[i]);
  printf("  %llu transactions, %llu deadlocks\n", s.commits, s.deadlocks);
  MUST(s.deadlocks < s.commits);
  walmap_close(s.map);
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Memory under endless overwrite                                                                                     */

typedef struct flood {
  walmap *map;
  atomic_bool stop;
  atomic_ullong writes, scans;
  uint32_t keys;
  size_t value_len;
} flood;

static void *run_overwriter(void *arg) {
  flood *f = arg;
  uint64_t random = seed_of_thread();
  char value[512];
  memset(value, 'v', sizeof value);
  while (!atomic_load(&f->stop)) {
    for (int i = 0; i < 256; i++) {
      uint32_t key = random_below(&random, f->keys);
      MUST_OK(walmap_set(f->map, &key, 4, value, f->value_len));
    }
    atomic_fetch_add(&f->writes, 256);
  }
  return NULL;
}

/* Comes and goes: holds a state as long as a scan takes, then rests. */
static void *run_scanner(void *arg) {
  flood *f = arg;
  walmap_state *state;
  MUST_OK(walmap_state_new(f->map, &state));
  while (!atomic_load(&f->stop)) {
    walmap_cursor cursor;
    walmap_entry entry;
    uint32_t count = 0;
    MUST_OK(walmap_state_begin(state));
    for (walmap_cursor_start(&cursor, state); walmap_cursor_next(&cursor, &entry);)
      count++;
    walmap_state_end(state);
    MUST(count == f->keys);
    atomic_fetch_add(&f->scans, 1);
    sleep_ms(2);
  }
  walmap_state_free(state);
  return NULL;
}

static void flood_of(uint32_t keys, size_t value_len, int writers, int readers, double limit) {
  flood f = {.map = open_map(16, 10000), .keys = keys, .value_len = value_len};
  char value[512];
  pthread_t threads[8];
  int n = 0;
  memset(value, 'v', sizeof value);
  for (uint32_t key = 0; key < keys; key++)
    MUST_OK(walmap_set(f.map, &key, 4, value, value_len));
  uint64_t loaded = walmap_memory(f.map), most = loaded;
  for (int i = 0; i < writers; i++)
    threads[n++] = start(run_overwriter, &f);
  for (int i = 0; i < readers; i++)
    threads[n++] = start(run_scanner, &f);
  for (uint64_t until = now_ns() + load_ns(); now_ns() < until;) {
    uint64_t memory = walmap_memory(f.map);
    if (memory > most)
      most = memory;
    sleep_ms(1);
  }
  atomic_store(&f.stop, true);
  for (int i = 0; i < n; i++)
    join(threads[i]);
  /* A reader that the machine stops in the middle of a scan holds what dies meanwhile; afterwards that has to go. */
  for (uint32_t i = 0; i < 10 * keys; i++) {
    uint32_t key = i % keys;
    MUST_OK(walmap_set(f.map, &key, 4, value, value_len));
  }
  uint64_t after = walmap_memory(f.map);
  printf("  %6u keys of %3zu bytes, %d writers, %d readers: overwritten %6.1f times, %5llu scans, memory at most %.2f "
         "times that after loading, %.2f afterwards (limit %.1f)\n",
         keys, value_len, writers, readers, (double)f.writes / keys, f.scans, (double)most / (double)loaded,
         (double)after / (double)loaded, limit);
  uint64_t grain = 4 << 20; /* memory is held in regions of 2 MiB, and two more may be partly used */
  uint64_t judged = readers ? after : most;
  MUST((double)judged <= limit * (double)loaded + (double)grain);
  MUST(walmap_len(f.map) == keys);
  walmap_close(f.map);
}

static void memory_is_bounded(void **unused) {
  (void)unused;
  flood_of(20000, 100, 1, 0, 2.0);
  flood_of(20000, 8, 1, 0, 2.0);
  flood_of(20000, 100, 2, 0, 2.0);
  flood_of(20000, 100, 2, 2, 4.0);
  flood_of(2000, 500, 2, 2, 4.0);
}

/* A reader that is forgotten holds memory only as long as it is there. */
static void forgotten_reader(void **unused) {
  (void)unused;
  flood f = {.map = open_map(16, 10000), .keys = 40000, .value_len = 100};
  walmap_state *state;
  char value[512] = {0};
  for (uint32_t key = 0; key < f.keys; key++)
    MUST_OK(walmap_set(f.map, &key, 4, value, f.value_len));
  uint64_t loaded = walmap_memory(f.map);
  MUST_OK(walmap_state_new(f.map, &state));
  MUST_OK(walmap_state_begin(state));
  for (uint32_t i = 0; i < 20 * f.keys; i++) {
    uint32_t key = i % f.keys;
    MUST_OK(walmap_set(f.map, &key, 4, value, f.value_len));
  }
  uint64_t held = walmap_memory(f.map);
  walmap_state_free(state);
  for (uint32_t i = 0; i < 10 * f.keys; i++) {
    uint32_t key = i % f.keys;
    MUST_OK(walmap_set(f.map, &key, 4, value, f.value_len));
  }
  uint64_t by_itself = walmap_memory(f.map);
  MUST_OK(walmap_compact(f.map, NULL));
  uint64_t compacted = walmap_memory(f.map);
  printf(
      "  memory: %llu KiB loaded, %llu with a forgotten reader, %llu when all was written 10 times after its end, %llu "
      "compacted\n",
      (unsigned long long)loaded / 1024, (unsigned long long)held / 1024, (unsigned long long)by_itself / 1024,
      (unsigned long long)compacted / 1024);
  uint64_t grain =
      4u << 20; /* memory goes back in blocks of 2 MiB, so with so little data two of them count for nothing */
  MUST(by_itself <= 4 * loaded + grain);
  MUST(compacted <= 2 * loaded + grain);
  MUST(held > 2 * (4 * loaded + grain)); /* or the reader would not have held anything */
  walmap_close(f.map);
}

/* Threads that come, use the map once, and go: none has to say good-bye. */
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
  walmap *map = open_map(2, 10000);
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
      cmocka_unit_test(transfers),
      cmocka_unit_test(transfers_beside_restore),
      cmocka_unit_test(commit_is_one_step),
      cmocka_unit_test(counters_and_histories),
      cmocka_unit_test(keys_come_and_go),
      cmocka_unit_test(growth_under_readers),
      cmocka_unit_test(readers_never_wait),
      cmocka_unit_test(other_shards_go_on),
      cmocka_unit_test(busy_timeout),
      cmocka_unit_test(interrupts),
      cmocka_unit_test(interrupt_uses_another_map),
      cmocka_unit_test(handed_over_while_asked),
      cmocka_unit_test(gives_way_while_asked),
      cmocka_unit_test(deadlocks),
      cmocka_unit_test(deadlocks_are_few),
      cmocka_unit_test(memory_is_bounded),
      cmocka_unit_test(forgotten_reader),
      cmocka_unit_test(threads_come_and_go),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
