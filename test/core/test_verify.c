/*
** test_verify.c - damage that walmap_verify does not see, and damage that it sees where there is none
**
** Every kind of damage is done to a sound map, must be told in the words that belong to it, and is taken back, after
** which the map must be sound again. That sound maps pass at every moment is also for test_model.c.
*/
#include "../common/support.h"

#include "mvcc/compact.h"

#include <pthread.h>

/* ------------------------------------------------------------------------------------------------------------------ */
/* Damage that can be taken back                                                                                      */

static struct patch {
  void *at;
  uint8_t bytes[16];
  size_t size;
} patches[4];
static size_t n_patches;

static void keep(void *at, size_t size) {
  MUST(n_patches < sizeof patches / sizeof patches[0] && size <= sizeof patches[0].bytes);
  struct patch *patch = &patches[n_patches++];
  *patch = (struct patch){.at = at, .size = size};
  memcpy(patch->bytes, at, size);
}

static void take_back(void) {
  while (n_patches > 0) {
    const struct patch *patch = &patches[--n_patches];
    memcpy(patch->at, patch->bytes, patch->size);
  }
}

#define PUT(lvalue, value)                                                                                             \
  do {                                                                                                                 \
    keep((void *)&(lvalue), sizeof(lvalue));                                                                           \
    (lvalue) = (value);                                                                                                \
  } while (0)

/* ------------------------------------------------------------------------------------------------------------------ */
/* A map of one shard, in which all that can be damaged is there                                                      */

enum { KEYS = 3000, VALUE = 40 /* without padding */, PADDED = KEYS };

static walmap *map;
static walmap__shard *shard;
static walmap__generation *g;
static walmap_state *old; /* keeps garbage from being reclaimed */

static void set(uint32_t key, char filler) {
  char value[VALUE];
  memset(value, filler, sizeof value);
  MUST_OK(walmap_set(map, &key, sizeof key, value, sizeof value));
}

static void remove_key(uint32_t key) { MUST_OK(walmap_remove(map, &key, sizeof key)); }

/* Dead records, half of a compaction, and garbage that wait: superseded records and tombstones. */
static void make_map(bool ordered) {
  walmap_options options;
  walmap_options_init(&options);
  options.ordered = ordered;
  options.shards = 1;
  options.first_segment = 16384;
  options.auto_compact = 0;
  options.seed_given = true;
  MUST_OK(walmap_open(&options, &map));
  MUST_OK(walmap_set(map, &(uint32_t){PADDED}, sizeof(uint32_t), "p", 1));
  for (uint32_t key = 0; key < KEYS; key++)
    set(key, 'a');
  for (uint32_t key = 0; key < KEYS / 2; key += 2)
    set(key, 'b');
  shard = &map->shards[0];
  g = walmap__shard_generation(shard);
  map->options.auto_compact = 1; /* now, when there is much to do */
  for (int i = 0; i < 4; i++)
    walmap__shard_reclaim(shard, UINT64_MAX, UINT64_MAX, true);
  walmap__compact_some(shard, 200);
  map->options.auto_compact = 0;
  MUST(g->job.copy && g->job.offset > 0);
  MUST_OK(walmap_state_new(map, &old));
  MUST_OK(walmap_state_begin(old));
  for (uint32_t key = KEYS / 2; key < KEYS / 2 + 40; key++)
    set(key, 'c');
  for (uint32_t key = KEYS / 2 + 40; key < KEYS / 2 + 80; key++)
    remove_key(key);
  MUST(g->garbage.end - g->garbage.first >= 120);
}

/* Where a key's newest record is. */
static walmap__slot_ref slot_of(uint32_t key) {
  walmap__slot_ref slot;
  uint64_t hash = walmap_hash(map, &key, sizeof key);
  walmap__index_seek(&g->index, hash, &slot);
  while (walmap__index_next(&slot, hash) != 0) {
    walmap_entry e;
    walmap__record *record = walmap__log_at(&g->log, walmap__slot_address(&slot));
    walmap__record_entry(record, walmap__record_meta(record), &e);
    if (memcmp(e.key, &key, sizeof key) == 0)
      return slot;
  }
  MUST(false);
  return slot;
}

static uint32_t place_of(uint32_t key) {
  walmap__slot_ref slot = slot_of(key);
  return walmap__slot_address(&slot);
}

static walmap__record *record_of(uint32_t key) { return walmap__log_at(&g->log, place_of(key)); }
static walmap__segment *segment_of(uint32_t key) { return walmap__log_entry(&g->log, place_of(key))->segment; }
static walmap__directory *directory(void) { return atomic_load(&g->index.directory); }
static walmap__segment *first_segment(void) { return atomic_load(&g->log.first); }

/* Keys in each condition. */
enum { LIVE = KEYS - 1, OVERWRITTEN = KEYS / 2 + 1, REMOVED = KEYS / 2 + 41 };

static walmap__record *superseded(void) {
  walmap__record *record = record_of(OVERWRITTEN);
  return walmap__log_at(&g->log, walmap__record_prev(record, walmap__record_meta(record)));
}

static walmap__record *moved(void) {
  uint8_t *at = g->job.first->base;
  for (;;) {
    walmap__record *record = (walmap__record *)(void *)at;
    uint32_t meta = walmap__record_meta(record);
    if (meta & WALMAP__MOVED)
      return record;
    at += walmap__record_size(record, meta);
  }
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Kinds of damage                                                                                                    */

static void put_meta(walmap__record *r, uint32_t meta) { PUT(r->meta, WALMAP__LE32(meta)); }
static void add_flag(walmap__record *r, uint32_t flag) { put_meta(r, walmap__record_meta(r) | flag); }
static void put_next(walmap__record *r, uint32_t place) { PUT(r->next, WALMAP__LE32(place)); }

static void flip_key(void) { PUT(((uint8_t *)record_of(LIVE))[WALMAP__RECORD_HEAD], 0xee); }
static void padding(void) { PUT(((uint8_t *)record_of(PADDED))[WALMAP__RECORD_HEAD + sizeof(uint32_t) + 1], 1); }
static void wild_slot(void) { PUT(slot_of(LIVE).bucket->address[slot_of(LIVE).slot], 0x7ffffff0); }
static void crossed_slot(void) { PUT(slot_of(LIVE).bucket->address[slot_of(LIVE).slot], place_of(LIVE - 1)); }
static void empty_slot(void) { PUT(slot_of(LIVE).bucket->tag[slot_of(LIVE).slot], 0); }
static void lost_slot(void) {
  empty_slot();
  uint64_t hash = walmap_hash(map, &(uint32_t){LIVE}, sizeof(uint32_t));
  walmap__subtable *t = directory()->subtables[walmap__directory_slot(directory(), hash)];
  PUT(t->count, t->count - 1);
}
static void passed(void) { PUT(directory()->subtables[0]->buckets[0].passed, 100); }
static void word(void) { PUT(directory()->words[0], atomic_load(&directory()->words[0]) + 64); }
static void subtables(void) { PUT(g->index.n_subtables, g->index.n_subtables + 1); }

static void back_link(void) { PUT(atomic_load(&first_segment()->next)->previous, NULL); }
static void table_base(void) { PUT(walmap__log_entry(&g->log, place_of(LIVE))->base, segment_of(LIVE)->base + 4); }
static void short_used(void) { PUT(segment_of(LIVE)->used, walmap__segment_used(segment_of(LIVE)) - 4); }
static void long_used(void) { PUT(segment_of(LIVE)->used, segment_of(LIVE)->capacity + 4); }
static void low_lsn(void) {
  walmap__segment *s = atomic_load(&first_segment()->next);
  PUT(s->first_lsn, s->first_lsn - 1);
  PUT(atomic_load(&g->log.table)->entries[s->id].first_lsn, s->first_lsn);
}
static void last_segment(void) { PUT(g->log.last, first_segment()); }
static void ids(void) { PUT(g->log.n_ids, g->log.n_ids + 1); }
static void records(void) { PUT(segment_of(LIVE)->records, atomic_load(&segment_of(LIVE)->records) + 1); }
static void dead_bytes(void) { PUT(segment_of(LIVE)->dead_bytes, segment_of(LIVE)->dead_bytes + 4); }
static void clean(void) { PUT(segment_of(REMOVED)->dirty, false); }

static void dead_newest(void) { add_flag(record_of(LIVE), WALMAP__DEAD); }
static void moved_newest(void) { add_flag(record_of(LIVE), WALMAP__MOVED); }
static void moved_dead(void) { add_flag(superseded(), WALMAP__MOVED); }
static void longer(void) { put_meta(superseded(), walmap__record_meta(superseded()) + 60000); }
static void endless(void) { put_meta(superseded(), 0x03ffffff); }
static void revived(void) { put_next(superseded(), 0); }
static void wrong_next(void) { put_next(superseded(), place_of(OVERWRITTEN + 1)); }
static void wild_next(void) { put_next(superseded(), 0x7ffffff0); }
static void wrong_prev(void) {
  walmap__record *r = record_of(OVERWRITTEN);
  uint32_t *prev = (uint32_t *)(void *)((uint8_t *)r + walmap__record_size(r, walmap__record_meta(r)) - 4);
  PUT(*prev, *prev + 1);
}

static void lost_garbage(void) { PUT(g->garbage.end, g->garbage.end - 1); }
static uint32_t *oldest_death(void) {
  return &g->garbage.oldest->addresses[g->garbage.first - g->garbage.oldest->base];
}
static void wrong_death(void) { PUT(*oldest_death(), place_of(LIVE)); }
static void double_death(void) { PUT(oldest_death()[1], *oldest_death()); }
static void garbage_link(void) { PUT(g->garbage.newest->previous, g->garbage.newest); }
static void much_garbage(void) { PUT(g->garbage.oldest->capacity, 1); }
static void garbage_batch(void) { PUT(g->garbage.batch_end, g->garbage.end + 1); }

static void copy_differs(void) { PUT(g->job.copy->base[WALMAP__RECORD_HEAD + 20], 0xee); }
static void copy_elsewhere(void) { put_next(moved(), place_of(LIVE)); }
static void left_behind(void) { PUT(g->job.offset, walmap__segment_used(g->job.at)); }
static void job_outside(void) { PUT(g->job.at, g->log.last); }
static void job_active(void) { PUT(g->job.last, NULL); }
static void copy_lsn(void) { PUT(g->job.copy->first_lsn, g->job.copy->first_lsn + 1); }

static void entries(void) { PUT(g->len, g->len + 1); }
static void bytes_of_log(void) { PUT(g->log.bytes, g->log.bytes + 4); }
static void dead_of_log(void) { PUT(g->dead, g->dead + 4); }
static void published(void) {
  walmap__shard_stats *two = map->stats[0];
  walmap__shard_stats *f = &two[atomic_load(&two[0].commit_point) != atomic_load(&map->commit_points[0])];
  PUT(f->len, atomic_load(&f->len) + 1);
}
static void commit_point(void) { PUT(map->commit_points[0], atomic_load(&map->commit_points[0]) + 1); }
static void limbo(void) { PUT(shard->limbo.last, NULL); }
static void dropped(void) { PUT(g->tombstone_horizon, g->log.end + 1); }

struct kind {
  const char *what;
  void (*damage)(void);
  const char *text;
};

static const struct kind kinds[] = {
    {"a bit of a key", flip_key, "does not lead to its slot"},
    {"a bit of a record's padding", padding, "padding is not zero"},
    {"a slot that leads nowhere", wild_slot, "where no record is"},
    {"a slot that leads to another key", crossed_slot, "does not lead to its slot"},
    {"a slot that was emptied", empty_slot, "a subtable of the index has"},
    {"a key without a slot", lost_slot, "not found by its key"},
    {"a bucket that was not passed", passed, "buckets, but"},
    {"a word of the directory", word, "directory leads to another subtable"},
    {"the number of subtables", subtables, "counts its subtables wrongly"},
    {"a link back", back_link, "is linked wrongly"},
    {"an address in the table of ids", table_base, "not what the table of ids holds"},
    {"a segment that ends too early", short_used, "where no record is"},
    {"a segment that ends too late", long_used, "that is no end of a segment"},
    {"an LSN that is used twice", low_lsn, "LSNs that are not its own"},
    {"the last segment", last_segment, "another segment than its last"},
    {"the number of ids", ids, "counts its ids wrongly"},
    {"the number of a segment's records", records, "records, but"},
    {"a segment's dead bytes", dead_bytes, "dead bytes, but"},
    {"a segment that counts as clean", clean, "counts as an image"},
    {"a newest record that is dead", dead_newest, "is not the newest"},
    {"a newest record that is moved", moved_newest, "is not the newest"},
    {"a moved record where nothing moves", moved_dead, "where nothing is moved"},
    {"a record's length", longer, "does not end in its segment"},
    {"a record's lengths", endless, "does not end in its segment"},
    {"a superseded record that lives", revived, "not found by its key"},
    {"a successor of another key", wrong_next, "successor is none"},
    {"a successor that is nowhere", wild_next, "successor is none"},
    {"a way back", wrong_prev, "does not lead back"},
    {"a garbage entry that is lost", lost_garbage, "are in the garbage queue"},
    {"a garbage entry that is not dead", wrong_death, "is not dead, or out of order"},
    {"a garbage entry that is there twice", double_death, "is not dead, or out of order"},
    {"a link between garbage chunks", garbage_link, "garbage queue is linked wrongly"},
    {"a garbage chunk", much_garbage, "holds more than it can"},
    {"a garbage batch", garbage_batch, "begins after its end"},
    {"a copy that differs", copy_differs, "a moved record and its copy differ"},
    {"a copy that is elsewhere", copy_elsewhere, "a moved record and its copy differ"},
    {"a record that was not copied", left_behind, "has left the record behind"},
    {"compaction outside of its run", job_outside, "outside of its run"},
    {"compaction of an endless run", job_active, "a run that is not of the log"},
    {"the copy's first LSN", copy_lsn, "compaction copies into segment"},
    {"the number of entries", entries, "entries: "},
    {"the bytes of the log", bytes_of_log, "bytes of log: "},
    {"the dead bytes of the log", dead_of_log, "dead bytes: "},
    {"figures that readers see", published, "entries published: "},
    {"the commit point", commit_point, "commit point: "},
    {"the list of what waits", limbo, "waits to be freed"},
    {"tombstones that were dropped", dropped, "not written yet"},
};

/* ------------------------------------------------------------------------------------------------------------------ */
/* Damage to the tree of an ordered map                                                                               */

static walmap__node *some_node(void) {
  walmap__node *node = atomic_load(&g->order->root);
  while (node->level > 0)
    node = atomic_load(&node->children[0].to);
  MUST(node->n > 5);
  return node;
}

static walmap__leaf *some_leaf(void) { return atomic_load(&some_node()->children[3].to); }

static void swap_words(void) {
  walmap__leaf *leaf = some_leaf();
  uint64_t word = leaf->words[4], next = leaf->words[5];
  PUT(leaf->words[4], next);
  PUT(leaf->words[5], word);
}

/* The keys differ in what their heads have. */
static void swap_addresses(void) {
  walmap__leaf *leaf = some_leaf();
  uint64_t word = leaf->words[4], next = leaf->words[5], head = ~(uint64_t)0 << 40;
  PUT(leaf->words[4], (word & head) | (next & ~head));
  PUT(leaf->words[5], (next & head) | (word & ~head));
}

static void lose_word(void) {
  walmap__leaf *leaf = some_leaf();
  PUT(leaf->words[4], leaf->words[4] >> 32 << 32);
  PUT(leaf->live, leaf->live - 1);
}

static void wild_word(void) { PUT(some_leaf()->words[4], some_leaf()->words[4] | 0xFFFFFF00u); }
static void count_leaf(void) { PUT(some_leaf()->live, some_leaf()->live + 1); }
static void dead_leaf(void) { PUT(some_leaf()->is_dead, true); }
static void half_shifted(void) { PUT(some_leaf()->changes, some_leaf()->changes + 1); }

static void cross_leaves(void) {
  walmap__child *children = some_node()->children;
  void *leaf = children[3].to, *next = children[4].to;
  PUT(children[3].to, next);
  PUT(children[4].to, leaf);
}

static void cross_separators(void) {
  walmap__child *children = some_node()->children;
  walmap__separator *separator = children[3].separator;
  PUT(children[3].separator, children[4].separator);
  PUT(children[4].separator, separator);
}

static const struct kind tree_kinds[] = {
    {"two words in the wrong order", swap_words, "out of order"},
    {"two words with each other's address", swap_addresses, "another head"},
    {"a word that was lost", lose_word, "the tree has"},
    {"a word that leads nowhere", wild_word, "where no newest record is"},
    {"the number of a leaf's keys", count_leaf, "a leaf of the tree has"},
    {"a leaf that was replaced", dead_leaf, "cannot be read"},
    {"a leaf that is being shifted", half_shifted, "cannot be read"},
    {"leaves in each other's place", cross_leaves, "of the tree"},
    {"separators in each other's place", cross_separators, "separators of the tree"},
};

static int failed;

static void check(const char *what, int expected, const char *text) {
  walmap_why why = {""};
  int result = walmap_verify(map, NULL, &why);
  if (result == expected && strstr(why.text, text) && walmap_verify(map, NULL, NULL) == expected)
    return;
  printf("%s: %s; expected: %s\n", what, result == WALMAP_OK ? "no fault found" : why.text, text);
  failed++;
}

static void must_be_told(const struct kind *all, size_t n) {
  check("a sound map", WALMAP_OK, "");
  for (size_t i = 0; i < n; i++) {
    all[i].damage();
    check(all[i].what, WALMAP_CORRUPT, all[i].text);
    take_back();
    check("after it was mended", WALMAP_OK, "");
  }
  walmap_state_free(old);
  walmap_close(map);
  assert_int_equal(failed, 0);
}

static void damage_is_told(void **unused) {
  (void)unused;
  make_map(false);
  must_be_told(kinds, sizeof kinds / sizeof kinds[0]);
}

static void damage_of_the_tree_is_told(void **unused) {
  (void)unused;
  make_map(true);
  must_be_told(tree_kinds, sizeof tree_kinds / sizeof tree_kinds[0]);
}

/* The owner of a shard keeps the look at it waiting, but not one through its own transaction. */
static void waits_as_a_writer(void **unused) {
  (void)unused;
  walmap_options options;
  walmap_options_init(&options);
  options.busy_timeout = 0;
  walmap_session *session;
  walmap_txn *txn;
  MUST_OK(walmap_open(&options, &map));
  MUST_OK(walmap_session_new(NULL, NULL, &session));
  MUST_OK(walmap_txn_new(map, session, &txn));
  assert_int_equal(walmap_verify(map, NULL, NULL), WALMAP_OK); /* nothing was ever written */
  for (uint32_t key = 0; key < 100; key++)
    set(key, 'a');
  walmap_txn_begin(txn);
  assert_int_equal(walmap_txn_remove(txn, &(uint32_t){7}, sizeof(uint32_t)), WALMAP_OK);
  assert_int_equal(walmap_verify(map, NULL, NULL), WALMAP_BUSY);
  assert_int_equal(walmap_verify(map, txn, NULL), WALMAP_OK);
  walmap_txn_rollback(txn);
  assert_int_equal(walmap_verify(map, NULL, NULL), WALMAP_OK);
  assert_int_equal(walmap_len(map), 100);
  walmap_txn_free(txn);
  walmap_session_free(session);
  walmap_close(map);
}

/* A writer of all shards in transactions that come to nothing half of the time, and of single keys; it compacts too. */
static atomic_bool stop;

static void *write_on(void *arg) {
  uint64_t random = (uint64_t)(uintptr_t)arg;
  walmap_session *session;
  walmap_txn *txn;
  MUST_OK(walmap_session_new(NULL, NULL, &session));
  MUST_OK(walmap_txn_new(map, session, &txn));
  while (!atomic_load(&stop)) {
    walmap_txn_begin(txn);
    int result = WALMAP_OK;
    for (uint32_t i = 0; i < 10 && result == WALMAP_OK; i++) {
      uint32_t key = random_below(&random, KEYS);
      result = random_below(&random, 3) ? walmap_txn_set(txn, &key, sizeof key, "value", random_below(&random, 6))
                                        : walmap_txn_remove(txn, &key, sizeof key);
      if (result == WALMAP_NOTFOUND)
        result = WALMAP_OK;
    }
    MUST(result == WALMAP_OK || result == WALMAP_DEADLOCK);
    if (result == WALMAP_OK && random_below(&random, 2))
      walmap_txn_commit(txn);
    else
      walmap_txn_rollback(txn);
    set(random_below(&random, KEYS), 'x');
    if (random_below(&random, 100) == 0)
      MUST_OK(walmap_compact(map, NULL));
  }
  walmap_txn_free(txn);
  walmap_session_free(session);
  return NULL;
}

static void beside_writers(void **unused) {
  (void)unused;
  enum { WRITERS = 2, LOOKS = 1000 / SLOWDOWN };
  walmap_options options;
  walmap_options_init(&options);
  options.shards = 4;
  options.first_segment = 256;
  options.auto_compact = 5;
  options.busy_timeout = 600000;
  MUST_OK(walmap_open(&options, &map));
  pthread_t threads[WRITERS];
  atomic_store(&stop, false);
  for (uintptr_t i = 0; i < WRITERS; i++)
    MUST(pthread_create(&threads[i], NULL, write_on, (void *)(i + 1)) == 0);
  for (int i = 0; i < LOOKS; i++) {
    walmap_why why = {""};
    int result = walmap_verify(map, NULL, &why);
    if (result == WALMAP_CORRUPT)
      printf("%s\n", why.text);
    MUST_OK(result);
  }
  atomic_store(&stop, true);
  for (int i = 0; i < WRITERS; i++)
    MUST(pthread_join(threads[i], NULL) == 0);
  walmap_close(map);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(damage_is_told),
      cmocka_unit_test(damage_of_the_tree_is_told),
      cmocka_unit_test(waits_as_a_writer),
      cmocka_unit_test(beside_writers),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
