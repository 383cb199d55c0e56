/*
** test_order.c - the tree of an ordered map: large ones, keys that are hard for it, memory that comes back, and walks
** beside writers that split and merge its leaves (B1)
**
** That the tree follows every change of the index is for the tests in ordered/, which are those of the other parts of
** the core with ordered maps. LOAD_MS=n sets the time of the test with threads, SEED=n the order of operations.
*/
#define ORDERED 1
#include "../common/support.h"

#include <pthread.h>

#include "mvcc/map.h"

static uint64_t the_seed;

static walmap *open_map(walmap_sort_key_fn sort_key) {
  walmap_options options;
  options_init(&options);
  options.sort_key = sort_key;
  options.busy_timeout = 600000;
  walmap *map;
  MUST_OK(walmap_open(&options, &map));
  return map;
}

static walmap_state *begin_state(walmap *map) {
  walmap_state *state;
  MUST_OK(walmap_state_new(map, &state));
  MUST_OK(walmap_state_begin(state));
  return state;
}

static int compare(const walmap_entry *a, const walmap_entry *b) {
  size_t n = a->key_len < b->key_len ? a->key_len : b->key_len;
  int order = n > 0 ? memcmp(a->key, b->key, n) : 0;
  return order != 0 ? order : (a->key_len > b->key_len) - (a->key_len < b->key_len);
}

/* Walks the map both ways, and has it verified: how many keys there are. */
static uint64_t must_be_ordered(walmap *map) {
  walmap_why why;
  int result = walmap_verify(map, NULL, &why);
  if (result != WALMAP_OK)
    print_error("%s\n", why.text);
  MUST_OK(result);
  walmap_state *state = begin_state(map);
  walmap_ordered_cursor cursor;
  walmap_entry entry, last = {NULL, 0, NULL, 0};
  uint64_t n = 0, back = 0;
  walmap_ordered_start(&cursor, state);
  for (bool more = walmap_ordered_seek(&cursor, WALMAP_FIRST, NULL, 0, &entry); more;
       more = walmap_ordered_next(&cursor, &entry), n++) {
    MUST(n == 0 || compare(&last, &entry) < 0);
    last = entry;
  }
  for (bool more = walmap_ordered_seek(&cursor, WALMAP_LAST, NULL, 0, &entry); more;
       more = walmap_ordered_previous(&cursor, &entry), back++) {
    MUST(back == 0 || compare(&last, &entry) > 0);
    last = entry;
  }
  walmap_state_free(state);
  MUST(n == back && n == walmap_len(map));
  return n;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Keys in all orders                                                                                                 */

enum { MANY = 60000 / SLOWDOWN };

static void set_text(walmap *map, const char *format, uint64_t number) {
  char key[400];
  int len = snprintf(key, sizeof key, format, (unsigned long long)number);
  MUST_OK(walmap_set(map, key, (size_t)len, &number, sizeof number));
}

static void remove_text(walmap *map, const char *format, uint64_t number) {
  char key[400];
  int len = snprintf(key, sizeof key, format, (unsigned long long)number);
  MUST_OK(walmap_remove(map, key, (size_t)len));
}

static void ascending_descending_and_scattered(void **unused) {
  (void)unused;
  for (int how = 0; how < 3; how++) {
    walmap *map = open_map(NULL);
    for (uint64_t i = 0; i < MANY; i++)
      set_text(map, "user:%012llu", how == 0 ? i : how == 1 ? MANY - i : mix(i) % 1000000000000);
    MUST(must_be_ordered(map) == MANY);
    walmap_close(map);
  }
}

/* What all keys have in common is longer than a leaf's prefix can be, or ends and begins anew from key to key. */
static void prefixes(void **unused) {
  (void)unused;
  static const char *const formats[] = {"%0300llu", "%llu", "a", "", "a:%llu:x", "%llx%0200llx"};
  walmap *map = open_map(NULL);
  uint64_t n = 0;
  for (size_t f = 0; f < sizeof formats / sizeof *formats; f++) {
    bool many = strchr(formats[f], '%') != NULL;
    for (uint64_t i = 0; i < (many ? 3000 / SLOWDOWN : 1); i++, n++) {
      char key[600];
      uint64_t number = mix(i) >> i % 48;
      int len = snprintf(key, sizeof key, formats[f], (unsigned long long)number, (unsigned long long)number);
      MUST_OK(walmap_set(map, key, (size_t)len, "", 0));
    }
  }
  char zeros[200] = {0};
  for (size_t len = 1; len < sizeof zeros; len++, n++)
    MUST_OK(walmap_set(map, zeros, len, "", 0));
  MUST(must_be_ordered(map) > n / 2);
  walmap_close(map);
}

/* The order that the map was given: by the last byte first. Bytes come from the buffer. */
static size_t reversed(const void *key, size_t key_len, const void **bytes, uint8_t buffer[WALMAP_SORT_BUFFER]) {
  MUST(key_len <= WALMAP_SORT_BUFFER);
  for (size_t i = 0; i < key_len; i++)
    buffer[i] = ((const uint8_t *)key)[key_len - 1 - i];
  *bytes = buffer;
  return key_len;
}

static void another_order(void **unused) {
  (void)unused;
  walmap *map = open_map(reversed);
  for (uint64_t i = 0; i < 20000 / SLOWDOWN; i++) {
    uint64_t key = mix(i) >> 16; /* little-endian: reversed, it is in the order of numbers */
    MUST_OK(walmap_set(map, &key, sizeof key, "", 0));
  }
  MUST_OK(walmap_verify(map, NULL, NULL));
  walmap_state *state = begin_state(map);
  walmap_ordered_cursor cursor;
  walmap_entry entry;
  uint64_t last = 0, key, n = 0, middle = (uint64_t)1 << 47;
  walmap_ordered_start(&cursor, state);
  for (bool more = walmap_ordered_seek(&cursor, WALMAP_FIRST, NULL, 0, &entry); more;
       more = walmap_ordered_next(&cursor, &entry), n++) {
    memcpy(&key, entry.key, sizeof key);
    MUST(n == 0 || key > last);
    last = key;
  }
  MUST(n == walmap_len(map));
  MUST(walmap_ordered_seek(&cursor, WALMAP_AT_OR_AFTER, &middle, sizeof middle, &entry));
  memcpy(&key, entry.key, sizeof key);
  MUST(key >= middle && walmap_ordered_previous(&cursor, &entry));
  memcpy(&key, entry.key, sizeof key);
  MUST(key < middle);
  walmap_state_free(state);
  walmap_close(map);
}

static void not_ordered(void **unused) {
  (void)unused;
  walmap *map;
  MUST_OK(walmap_open(NULL, &map));
  MUST_OK(walmap_set(map, "a", 1, "", 0));
  walmap_state *state = begin_state(map);
  walmap_ordered_cursor cursor;
  walmap_entry entry;
  walmap_ordered_start(&cursor, state);
  MUST(!walmap_ordered_seek(&cursor, WALMAP_FIRST, NULL, 0, &entry));
  MUST(!walmap_ordered_seek(&cursor, WALMAP_AT_OR_AFTER, "a", 1, &entry));
  MUST(!walmap_ordered_next(&cursor, &entry) && !walmap_ordered_previous(&cursor, &entry));
  walmap_state_free(state);
  walmap_close(map);
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Memory                                                                                                             */

static uint64_t count_leaves(const walmap__node *node) {
  uint64_t n = 0;
  for (uint32_t i = 0; i < node->n; i++)
    n += node->level == 0 ? 1 : count_leaves(atomic_load(&node->children[i].to));
  return n;
}

static uint64_t leaves_of(walmap *map) {
  return count_leaves(atomic_load(&walmap__shard_generation(&map->shards[0])->order->root));
}

/* Keys go at the low end and come at the high one: the first key is not behind thousands of empty leaves. */
static void a_queue_stays_short(void **unused) {
  (void)unused;
  enum { LENGTH = 500 };
  walmap *map = open_map(NULL);
  for (uint64_t i = 0; i < MANY; i++) {
    set_text(map, "%016llu", i);
    if (i >= LENGTH)
      remove_text(map, "%016llu", i - LENGTH);
  }
  MUST(must_be_ordered(map) == LENGTH);
  MUST(leaves_of(map) < 80); /* tombstones wait for their batch: some 32 in each of 16 shards */
  walmap_close(map);
}

static void leaves_go_with_their_keys(void **unused) {
  (void)unused;
  walmap *map = open_map(NULL);
  for (uint64_t i = 0; i < MANY; i++)
    set_text(map, "%016llx", mix(i));
  uint64_t full = walmap_memory(map), leaves = leaves_of(map);
  for (uint64_t i = 0; i < MANY; i++) {
    if (i % 20 != 0)
      remove_text(map, "%016llx", mix(i));
  }
  MUST_OK(walmap_compact(map, NULL));
  MUST(must_be_ordered(map) == (MANY + 19) / 20);
  MUST(leaves_of(map) < leaves / 4);
  for (uint64_t i = 0; i < MANY; i += 20)
    remove_text(map, "%016llx", mix(i));
  MUST_OK(walmap_compact(map, NULL));
  MUST(must_be_ordered(map) == 0);
  MUST(leaves_of(map) == 1 && walmap_memory(map) < full / 3 * 2); /* the hash indexes stay as they are */
  walmap_close(map);
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Restore: the tree is built in one go, and then it is changed like any other                                        */

static void built_from_an_image(void **unused) {
  (void)unused;
  static const uint64_t sizes[] = {0, 1, 55, 56, 57, 3136, 3137, MANY};
  for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
    walmap *from = open_map(NULL), *to = open_map(NULL);
    for (uint64_t i = 0; i < sizes[s]; i++)
      set_text(from, "key:%016llx", mix(i));
    void *image;
    size_t size;
    uint64_t entries;
    MUST_OK(walmap_snapshot(from, &image, &size));
    for (uint64_t i = 0; i < 1000; i++)
      set_text(to, "old:%llu", i);
    MUST_OK(walmap_restore(to, image, size, &entries, NULL));
    MUST(entries == sizes[s] && must_be_ordered(to) == sizes[s]);
    for (uint64_t i = 0; i < sizes[s]; i++) {
      set_text(to, "key:%016llx", mix(i + MANY));
      if (i % 3 != 0)
        remove_text(to, "key:%016llx", mix(i));
    }
    MUST(must_be_ordered(to) == sizes[s] + (sizes[s] + 2) / 3);
    walmap_image_free(image);
    walmap_close(from);
    walmap_close(to);
  }
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Tokens: each is at one place of many, and moves to another in a transaction; every state has each of them once     */

enum { TOKENS = 3000, PLACES = 1 << 24, MOVERS = 3, WALKERS = 2 };

typedef struct board {
  walmap *map;
  atomic_bool stop;
  atomic_ullong moves, walks, restores;
} board;

typedef struct mover {
  board *board;
  uint32_t number;
  uint32_t places[TOKENS]; /* of its own tokens: every MOVERS-th */
} mover;

/* Big-endian, so that the order is that of places. */
static void key_of(uint32_t place, uint32_t token, uint8_t key[8]) {
  for (int i = 0; i < 4; i++) {
    key[i] = (uint8_t)(place >> (24 - 8 * i));
    key[4 + i] = (uint8_t)(token >> (24 - 8 * i));
  }
}

static uint32_t token_of(const uint8_t *key) {
  return (uint32_t)key[4] << 24 | (uint32_t)key[5] << 16 | (uint32_t)key[6] << 8 | key[7];
}

/* Tokens crowd at one place after another, so that leaves split there and are merged where the crowd was. */
static uint32_t next_place(uint64_t *random, uint64_t step) {
  uint32_t crowd = (uint32_t)(step / 2000) * 40503u % PLACES;
  return (crowd + random_below(random, 50000)) % PLACES;
}

static void *move_tokens(void *arg) {
  mover *m = arg;
  board *b = m->board;
  uint64_t random = the_seed + m->number;
  walmap_session *session;
  walmap_txn *txn;
  MUST_OK(walmap_session_new(NULL, NULL, &session));
  MUST_OK(walmap_txn_new(b->map, session, &txn));
  for (uint64_t step = 0; !atomic_load(&b->stop); step++) {
    uint32_t token = random_below(&random, TOKENS / MOVERS) * MOVERS + m->number;
    uint32_t to = next_place(&random, step);
    uint8_t old_key[8], new_key[8];
    if (to == m->places[token])
      continue;
    key_of(m->places[token], token, old_key);
    key_of(to, token, new_key);
    walmap_txn_begin(txn);
    int result = walmap_txn_remove(txn, old_key, 8);
    if (result == WALMAP_OK)
      result = walmap_txn_set(txn, new_key, 8, &step, sizeof step);
    if (result == WALMAP_OK && random_below(&random, 8) > 0) {
      walmap_txn_commit(txn);
      m->places[token] = to;
      atomic_fetch_add(&b->moves, 1);
    } else {
      MUST(result == WALMAP_OK || result == WALMAP_DEADLOCK || result == WALMAP_BUSY);
      walmap_txn_rollback(txn);
    }
  }
  walmap_txn_free(txn);
  walmap_session_free(session);
  return NULL;
}

static void must_see_all(walmap_state *state, bool forward, uint64_t *random) {
  uint8_t seen[TOKENS] = {0}, last[8] = {0};
  uint32_t n = 0;
  walmap_ordered_cursor cursor;
  walmap_entry entry;
  walmap_ordered_start(&cursor, state);
  for (bool more = walmap_ordered_seek(&cursor, forward ? WALMAP_FIRST : WALMAP_LAST, NULL, 0, &entry); more; n++) {
    uint32_t token = token_of(entry.key);
    MUST(token < TOKENS && !seen[token]);
    seen[token] = 1;
    MUST(n == 0 || (memcmp(last, entry.key, 8) < 0) == forward);
    memcpy(last, entry.key, 8);
    if (random_below(random, 200) == 0) { /* from here anew */
      walmap_ordered_start(&cursor, state);
      more = walmap_ordered_seek(&cursor, forward ? WALMAP_AFTER : WALMAP_BEFORE, last, 8, &entry);
    } else {
      more = forward ? walmap_ordered_next(&cursor, &entry) : walmap_ordered_previous(&cursor, &entry);
    }
  }
  MUST(n == TOKENS);
}

static void *walk_tokens(void *arg) {
  board *b = arg;
  uint64_t random = the_seed + 77;
  while (!atomic_load(&b->stop)) {
    walmap_state *state = begin_state(b->map);
    must_see_all(state, true, &random);
    must_see_all(state, false, &random);
    walmap_state_free(state);
    atomic_fetch_add(&b->walks, 2);
  }
  return NULL;
}

/* Compacts, verifies, and replaces the content by itself. */
static void *keep_house(void *arg) {
  board *b = arg;
  walmap_session *session;
  walmap_txn *txn;
  walmap_state *state;
  MUST_OK(walmap_session_new(NULL, NULL, &session));
  MUST_OK(walmap_txn_new(b->map, session, &txn));
  MUST_OK(walmap_state_new(b->map, &state));
  while (!atomic_load(&b->stop)) {
    walmap_why why;
    int result = walmap_verify(b->map, NULL, &why);
    if (result == WALMAP_CORRUPT)
      print_error("%s\n", why.text);
    MUST(result == WALMAP_OK || result == WALMAP_BUSY);
    MUST_OK(walmap_compact(b->map, NULL));
    walmap_txn_begin(txn);
    void *image;
    size_t size;
    result = walmap_txn_state_begin(txn, state);
    if (result == WALMAP_OK) {
      MUST_OK(walmap_state_image(state, &image, &size));
      walmap_state_end(state);
      MUST_OK(walmap_txn_restore(txn, image, size, NULL, NULL, NULL, NULL));
      walmap_image_free(image);
      if (atomic_fetch_add(&b->restores, 1) % 3 == 0)
        walmap_txn_rollback(txn);
      else
        walmap_txn_commit(txn);
    } else {
      walmap_txn_rollback(txn);
    }
    sleep_ms(5);
  }
  walmap_state_free(state);
  walmap_txn_free(txn);
  walmap_session_free(session);
  return NULL;
}

static void walks_beside_writers(void **unused) {
  (void)unused;
  static mover movers[MOVERS];
  board b = {.map = open_map(NULL)};
  uint8_t key[8];
  for (uint32_t token = 0; token < TOKENS; token++) {
    uint32_t place = (uint32_t)mix(token) % PLACES;
    movers[token % MOVERS].places[token] = place;
    key_of(place, token, key);
    MUST_OK(walmap_set(b.map, key, 8, "", 0));
  }
  pthread_t threads[MOVERS + WALKERS + 1];
  for (uint32_t i = 0; i < MOVERS; i++) {
    movers[i].board = &b;
    movers[i].number = i;
    MUST(pthread_create(&threads[i], NULL, move_tokens, &movers[i]) == 0);
  }
  for (uint32_t i = 0; i < WALKERS; i++)
    MUST(pthread_create(&threads[MOVERS + i], NULL, walk_tokens, &b) == 0);
  MUST(pthread_create(&threads[MOVERS + WALKERS], NULL, keep_house, &b) == 0);
  sleep_ms((unsigned)env_number("LOAD_MS", 2000));
  /* On a busy machine a thread may not have run by now. */
  for (uint64_t since = now_ns();
       atomic_load(&b.moves) <= 100 || atomic_load(&b.walks) <= 1 || atomic_load(&b.restores) == 0;) {
    MUST_NOT_HANG(since);
    sleep_ms(10);
  }
  atomic_store(&b.stop, true);
  for (uint32_t i = 0; i < MOVERS + WALKERS + 1; i++)
    MUST(pthread_join(threads[i], NULL) == 0);
  printf("  %llu moves, %llu walks, %llu restores\n", atomic_load(&b.moves), atomic_load(&b.walks),
         atomic_load(&b.restores));
  MUST(must_be_ordered(b.map) == TOKENS);
  walmap_close(b.map);
}

int main(void) {
  the_seed = announce_seed("test_order");
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(ascending_descending_and_scattered),
      cmocka_unit_test(prefixes),
      cmocka_unit_test(another_order),
      cmocka_unit_test(not_ordered),
      cmocka_unit_test(a_queue_stays_short),
      cmocka_unit_test(leaves_go_with_their_keys),
      cmocka_unit_test(built_from_an_image),
      cmocka_unit_test(walks_beside_writers),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
