/*
** test_transfers.c - money moves between accounts in every shard, and the sum stays: C2, C3, C4 and C6 between threads
**
** Tellers move amounts in transactions, auditors sum states in every way there is, while images are taken and restored
** and compaction runs.
*/
#include "../common/thread_load.h"

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
  b->map = open_map(shards, VERY_LONG_MS);
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
  for (uint64_t until = now_ns() + load_ns(); now_ns() < until || atomic_load(&b->transfers) == 0 ||
                                              atomic_load(&b->sums) == 0 || atomic_load(&b->images) == 0 ||
                                              atomic_load(&b->compactions) == 0 ||
                                              (with_restore && atomic_load(&b->restores) == 0);) {
    MUST_NOT_HANG(until);
    sleep_ms(10);
  }
  atomic_store(&b->stop, true);
  for (int i = 0; i < n; i++)
    join(threads[i]);
  printf("  shards %2u%s: %llu transfers, %llu rolled back, %llu deadlocks, %llu sums, %llu images, %llu restores, "
         "%llu compactions\n",
         shards, with_restore ? " with restore" : "", b->transfers, b->rollbacks, b->deadlocks, b->sums, b->images,
         b->restores, b->compactions);
  MUST(b->busy == 0); /* no transaction waits for ever */
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

int main(void) {
  the_seed = announce_seed("test_transfers");
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(transfers),
      cmocka_unit_test(transfers_beside_restore),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
