/*
** test_give_back.c - memory that is not given back: after a rollback, after all entries are removed, after the reader
** of an old state has ended; and writes that do too much for it
**
** No clock is looked at. What a write does is counted by what it takes out of the garbage queue.
*/
#include "../common/subtables.h"
#include "../common/support.h"

typedef struct fixture {
  walmap *map;
  walmap_session *session;
  walmap_txn *txn;
} fixture;

static fixture open_all(uint32_t shards, const walmap_allocator *allocator) {
  fixture f;
  walmap_options options;
  walmap_options_init(&options);
  options.shards = shards;
  if (allocator)
    options.allocator = *allocator;
  MUST_OK(walmap_open(&options, &f.map));
  MUST_OK(walmap_session_new(NULL, NULL, &f.session));
  MUST_OK(walmap_txn_new(f.map, f.session, &f.txn));
  return f;
}

static void close_all(fixture *f) {
  MUST_OK(walmap_verify(f->map, NULL, NULL));
  walmap_txn_free(f->txn);
  walmap_session_free(f->session);
  walmap_close(f->map);
}

static char value[4096];

static void set(walmap *map, uint32_t key, size_t length) { MUST_OK(walmap_set(map, &key, 4, value, length)); }

/* The keys from `first` on, `n` of them, with the transaction or without. */
static void set_many(fixture *f, bool in_transaction, uint32_t first, uint32_t n, size_t length) {
  for (uint32_t key = first; key < first + n; key++) {
    if (in_transaction)
      MUST_OK(walmap_txn_set(f->txn, &key, 4, value, length));
    else
      set(f->map, key, length);
  }
}

static void remove_many(fixture *f, uint32_t first, uint32_t n) {
  for (uint32_t key = first; key < first + n; key++)
    MUST_OK(walmap_txn_remove(f->txn, &key, 4));
}

static void show(const char *what, uint64_t before, uint64_t most, uint64_t after) {
  printf("  %s: %llu KiB before, %llu at most, %llu after\n", what, (unsigned long long)before >> 10,
         (unsigned long long)most >> 10, (unsigned long long)after >> 10);
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Rollbacks                                                                                                          */

/* A region that is a quarter full counts as a whole (memory.h). */
enum { FEW = 2000, MANY = 200000, SLACK = 9 << 18 };

/* The map is small or large beside what is undone: a share of dead bytes decides nothing. */
static void rolled_back(void **unused) {
  (void)unused;
  static const struct {
    uint32_t present, inserted, overwritten;
  } cases[] = {{0, MANY, 0}, {FEW, MANY, 0}, {MANY, 0, MANY}, {MANY, FEW * 10, FEW}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    fixture f = open_all(WALMAP_DEFAULT_SHARDS, NULL);
    set_many(&f, false, 0, cases[i].present, 100);
    uint64_t before = walmap_memory(f.map);
    walmap_txn_begin(f.txn);
    set_many(&f, true, cases[i].present, cases[i].inserted, 100);
    set_many(&f, true, 0, cases[i].overwritten, 100);
    uint64_t most = walmap_memory(f.map);
    walmap_txn_rollback(f.txn);
    uint64_t after = walmap_memory(f.map);
    show("rolled back", before, most, after);
    assert_true(after <= before + before / 16 + SLACK);
    close_all(&f);
  }
}

/* A rollback gives back though there is no memory. */
static void rolled_back_without_memory(void **unused) {
  (void)unused;
  faults f = {0};
  walmap_allocator allocator = faults_allocator(&f);
  fixture x = open_all(4, &allocator);
  set_many(&x, false, 0, FEW, 100);
  uint64_t size = walmap_size(x.map);
  walmap_txn_begin(x.txn);
  set_many(&x, true, FEW, 10 * FEW, 100);
  uint64_t wrote = walmap_txn_size(x.txn) - size;
  faults_arm(&f, 1, true);
  walmap_txn_rollback(x.txn);
  atomic_store(&f.armed, false);
  assert_true(walmap_size(x.map) <= size + wrote / 4);
  close_all(&x);
  assert_int_equal(f.blocks, 0);
}

/* A state that the transaction took of itself keeps what it can see, until it ends. */
static void rolled_back_under_a_state(void **unused) {
  (void)unused;
  fixture f = open_all(4, NULL);
  walmap_state *state;
  walmap_entry entry;
  MUST_OK(walmap_state_new(f.map, &state));
  set_many(&f, false, 0, FEW, 100);
  uint64_t before = walmap_memory(f.map);
  walmap_txn_begin(f.txn);
  set_many(&f, true, FEW, 10 * FEW, 100);
  MUST_OK(walmap_txn_state_begin(f.txn, state));
  walmap_txn_rollback(f.txn);
  for (uint32_t key = 0; key < FEW; key++)
    MUST_OK(walmap_state_get(state, &key, 4, &entry));
  walmap_cursor cursor;
  uint32_t seen = 0;
  for (walmap_cursor_start(&cursor, state); walmap_cursor_next(&cursor, &entry);)
    seen++;
  assert_int_equal(seen, FEW);
  walmap_state_end(state);
  for (uint32_t i = 0; i < 500; i++)
    set(f.map, i % FEW, 100);
  assert_true(walmap_memory(f.map) <= 2 * before + SLACK);
  walmap_state_free(state);
  close_all(&f);
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Removals                                                                                                           */

static void all_removed(void **unused) {
  (void)unused;
  static const size_t lengths[] = {8, 100, 1000};
  for (size_t i = 0; i < 3; i++) {
    fixture f = open_all(WALMAP_DEFAULT_SHARDS, NULL);
    set_many(&f, false, 0, MANY, lengths[i]);
    uint64_t before = walmap_memory(f.map);
    walmap_txn_begin(f.txn);
    remove_many(&f, 0, MANY);
    uint64_t most = walmap_memory(f.map);
    walmap_txn_commit(f.txn);
    set(f.map, 0, lengths[i]);
    show("all removed", before, most, walmap_memory(f.map));
    assert_true(walmap_memory(f.map) <= before / 4);
    close_all(&f);
  }
}

/* What options.capacity asked for is not taken back by the first removal. */
static void expected_entries_keep_their_room(void **unused) {
  (void)unused;
  walmap_options options;
  walmap_options_init(&options);
  options.capacity = 100000;
  fixture f = {.map = NULL};
  MUST_OK(walmap_open(&options, &f.map));
  for (uint32_t i = 0; i < 1000; i++)
    set(f.map, i, 8);
  uint32_t before = count_subtables(f.map);
  for (uint32_t i = 0; i < 1000; i++)
    MUST_OK(walmap_remove(f.map, &i, 4));
  MUST_OK(walmap_compact(f.map, NULL));
  assert_int_equal(count_subtables(f.map), before);
  walmap_close(f.map);
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* A reader of an old state                                                                                           */

static uint64_t garbage_of(const walmap *map) {
  uint64_t n = 0;
  for (uint32_t i = 0; i < map->n_shards; i++)
    n += walmap__shard_generation(&map->shards[i])->garbage.first;
  return n;
}

/* So much of the garbage queue one write may take: what maintenance.h says of eight records and of one. */
enum { MOST_ENTRIES = 8 * 16 + 8192 + 16 };

static void reader_ends(void **unused) {
  (void)unused;
  enum { KEYS = 50000 / SLOWDOWN, WRITES = 20 * KEYS, AFTER = 2000 };
  static const size_t lengths[] = {20, 200};
  for (size_t i = 0; i < 2; i++) {
    fixture f = open_all(WALMAP_DEFAULT_SHARDS, NULL);
    uint64_t random = i, most_taken = 0;
    walmap_state *state;
    set_many(&f, false, 0, KEYS, lengths[i]);
    MUST_OK(walmap_state_new(f.map, &state));
    MUST_OK(walmap_state_begin(state));
    uint64_t before = walmap_memory(f.map);
    for (uint32_t n = 0; n < WRITES; n++)
      set(f.map, random_below(&random, KEYS), lengths[i]);
    uint64_t most = walmap_memory(f.map);
    assert_true(most > 3 * before);
    walmap_state_end(state);
    for (uint32_t n = 0; n < AFTER; n++) {
      uint64_t garbage = garbage_of(f.map);
      set(f.map, random_below(&random, KEYS), lengths[i]);
      uint64_t taken = garbage_of(f.map) - garbage;
      most_taken = taken > most_taken ? taken : most_taken;
    }
    show("a reader ended", before, most, walmap_memory(f.map));
    printf("  a write took %llu entries at most\n", (unsigned long long)most_taken);
    uint64_t regions = SLOWDOWN > 1 ? 2 * SLACK : 0; /* they weigh more where there are fewer entries */
    assert_true(walmap_memory(f.map) < 3 * before + regions);
    assert_true(most_taken <= MOST_ENTRIES);
    walmap_state_free(state);
    close_all(&f);
  }
}

/*
** The same for one shard with segments of all lengths, short as they are with max_bytes: the last dead records of a
** long one are reclaimed one by one, and are not waited for longer than it takes.
*/
static void reader_of_a_shard_ends(void **unused) {
  (void)unused;
  enum { LEAST = 5000, MOST = 8000, STEP = 500, OVERWRITTEN = 50, AFTER = 140, LENGTH = 12 };
  for (uint32_t keys = LEAST; keys <= MOST; keys += STEP) {
    walmap_options options;
    walmap_state *state;
    uint64_t random = 1;
    walmap_options_init(&options);
    options.shards = 1;
    options.max_bytes = (uint64_t)512 << 20;
    fixture f = {.map = NULL};
    MUST_OK(walmap_open(&options, &f.map));
    set_many(&f, false, 0, keys, LENGTH);
    MUST_OK(walmap_state_new(f.map, &state));
    MUST_OK(walmap_state_begin(state));
    uint64_t before = walmap_size(f.map);
    for (uint32_t n = 0; n < OVERWRITTEN * keys; n++)
      set(f.map, random_below(&random, keys), LENGTH);
    uint64_t most = walmap_size(f.map);
    walmap_state_end(state);
    for (uint32_t n = 0; n < AFTER; n++)
      set(f.map, random_below(&random, keys), LENGTH);
    show("a shard's reader ended", before, most, walmap_size(f.map));
    assert_true(walmap_size(f.map) <= 2 * before);
    walmap_state_free(state);
    MUST_OK(walmap_verify(f.map, NULL, NULL));
    walmap_close(f.map);
  }
}

/* The next reader of an old state holds what came since it began, and no more. */
static void readers_take_turns(void **unused) {
  (void)unused;
  enum { KEYS = 2000, TURNS = 200, WRITES = 3000 / SLOWDOWN + 500 };
  fixture f = open_all(1, NULL);
  walmap_state *states[2];
  uint64_t random = 1, most = 0, before;
  set_many(&f, false, 0, KEYS, 100);
  before = walmap_size(f.map);
  for (int i = 0; i < 2; i++)
    MUST_OK(walmap_state_new(f.map, &states[i]));
  MUST_OK(walmap_state_begin(states[0]));
  for (uint32_t turn = 1; turn <= TURNS; turn++) {
    for (uint32_t n = 0; n < WRITES; n++)
      set(f.map, random_below(&random, KEYS), 100);
    MUST_OK(walmap_state_begin(states[turn % 2]));
    walmap_state_end(states[(turn + 1) % 2]);
    most = walmap_size(f.map) > most ? walmap_size(f.map) : most;
  }
  show("readers took turns", before, most, walmap_size(f.map));
  assert_true(most <= 2 * before + 16 * WRITES * 120 + SLACK / 2); /* it is some ten turns' worth */
  for (int i = 0; i < 2; i++)
    walmap_state_free(states[i]);
  close_all(&f);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(rolled_back),
      cmocka_unit_test(rolled_back_without_memory),
      cmocka_unit_test(rolled_back_under_a_state),
      cmocka_unit_test(all_removed),
      cmocka_unit_test(expected_entries_keep_their_room),
      cmocka_unit_test(reader_ends),
      cmocka_unit_test(reader_of_a_shard_ends),
      cmocka_unit_test(readers_take_turns),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
