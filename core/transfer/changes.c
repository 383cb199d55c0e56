/* changes.c - what was committed since a position, and applying it to another map (changes.h has the argument) */
#include "transfer/changes.h"

#include "base/why.h"
#include "image/image.h"
#include "mvcc/undo.h"

#include <assert.h>
#include <inttypes.h>

/* ------------------------------------------------------------------------------------------------------------------ */
/* Positions                                                                                                          */

static void put_position(const walmap_state *state, uint8_t *to) {
  const walmap *map = state->map;
  size_t check = POSITION_BYTES(map->n_shards) - 8;
  memcpy(to, POSITION_MAGIC, IMAGE_MAGIC_BYTES);
  image_store32(to + POSITION_VERSION_AT, CHANGES_FORMAT_VERSION);
  image_store32(to + POSITION_SHARDS_AT, map->n_shards);
  walmap__store64(to + POSITION_MAP_AT, map->id);
  for (uint32_t i = 0; i < map->n_shards; i++)
    walmap__store64(to + POSITION_POINTS_AT + 8 * (size_t)i, state->commit_points[i]);
  walmap__store64(to + check, XXH3_64bits(to, check));
}

int walmap_state_position(walmap_state *state, void **position, size_t *size) {
  walmap__image_block block = {NULL, 0};
  size_t bytes = POSITION_BYTES(state->map->n_shards);
  if (!walmap__image_block_grow(&block, bytes))
    return WALMAP_NOMEM;
  put_position(state, block.bytes);
  *position = walmap__image_block_give(&block, bytes);
  *size = bytes;
  return WALMAP_OK;
}

/* Sets *since to the vector of commit points, where it lies. */
static int read_position(const walmap *map, const uint8_t *at, size_t size, const uint8_t **since, walmap_why *why) {
  if (size < POSITION_BYTES(0) || memcmp(at, POSITION_MAGIC, IMAGE_MAGIC_BYTES) != 0)
    return walmap__explain(why, WALMAP_CORRUPT, "not a walmap position");
  if (image_load32(at + POSITION_VERSION_AT) != CHANGES_FORMAT_VERSION)
    return walmap__explain(why, WALMAP_CORRUPT, "the position has a format version that this library does not know");
  if (walmap__load64(at + size - 8) != XXH3_64bits(at, size - 8))
    return walmap__explain(why, WALMAP_CORRUPT, "the position is damaged: its check is wrong");
  uint32_t shards = image_load32(at + POSITION_SHARDS_AT);
  if (shards > WALMAP_MAX_SHARDS || size != POSITION_BYTES(shards))
    return walmap__explain(why, WALMAP_CORRUPT, "the position is damaged: its size is wrong");
  if (walmap__load64(at + POSITION_MAP_AT) != map->id || shards != map->n_shards)
    return walmap__explain(why, WALMAP_GONE, "the position is of another map: take a snapshot");
  *since = at + POSITION_POINTS_AT;
  return WALMAP_OK;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Collecting                                                                                                         */

typedef struct collection {
  walmap_state *state;
  walmap__image_writer *set, *removed;
} collection;

static int collect_record(const collection *c, const walmap__log *log, const walmap__record *record, uint32_t meta,
                          uint64_t commit_point) {
  walmap_entry entry, present;
  walmap__record_entry(record, meta, &entry);
  if (!(meta & WALMAP__TOMB)) {
    if (!walmap__record_visible(log, record, commit_point))
      return WALMAP_OK;
    if (!walmap__record_is_expired(record, meta, c->state->now))
      return walmap__image_writer_add(c->set, &entry);
    entry.value_len = 0; /* a key that has expired is absent */
    entry.expires = 0;
    return walmap__image_writer_add(c->removed, &entry);
  }
  if (walmap_state_peek(c->state, entry.key, entry.key_len, &present) == WALMAP_OK)
    return WALMAP_OK;
  return walmap__image_writer_add(c->removed, &entry);
}

/* Adds the records of a segment at LSNs from `since` on, and before the commit point. */
static int add_segment(const collection *c, const walmap__segment *s, uint64_t since, uint64_t commit_point) {
  size_t used = walmap__segment_used(s);
  int result = WALMAP_OK;
  for (size_t at = 0; at < used && result == WALMAP_OK;) {
    uint64_t lsn = s->first_lsn + (at >> 2);
    if (lsn >= commit_point)
      break;
    const walmap__record *record = walmap__segment_record(s, at);
    uint32_t meta = walmap__record_meta(record);
    size_t size = walmap__record_size(record, meta);
    if (lsn >= since)
      result = collect_record(c, s->log, record, meta, commit_point);
    if (result == WALMAP_OK && walmap__interrupt_after(&c->state->interrupt, size))
      result = WALMAP_INTERRUPT;
    at += size;
  }
  return result;
}

static int add_shard(const collection *c, uint32_t shard, uint64_t since, walmap_why *why) {
  uint64_t commit_point = c->state->commit_points[shard];
  if (since == commit_point)
    return WALMAP_OK;
  if (since > commit_point)
    return walmap__explain(why, WALMAP_GONE, "the position is newer than the state that is being read");
  walmap__generation *g = walmap__shard_at(&c->state->map->shards[shard], commit_point);
  if (!g || since <= g->start)
    return walmap__explain(why, WALMAP_GONE, "the map was restored or cleared since that position: take a snapshot");
  const walmap__segment *s = walmap__log_first(&g->log), *next;
  for (; s && s->first_lsn < commit_point; s = next) {
    next = walmap__segment_next(s);
    uint64_t covers = next && next->first_lsn < commit_point ? next->first_lsn : commit_point;
    if (covers <= since)
      continue;
    bool is_full = s->first_lsn + (walmap__segment_used(s) >> 2) >= covers;
    int result = add_segment(c, s, is_full ? since : 0, commit_point);
    if (result != WALMAP_OK)
      return result;
  }
  if (since < atomic_load_explicit(&g->tombstone_horizon, memory_order_acquire))
    return walmap__explain(why, WALMAP_GONE, "compaction has passed that position: take a snapshot");
  return WALMAP_OK;
}

static int add_all(const collection *c, const uint8_t *since, walmap_why *why) {
  int result = WALMAP_OK;
  for (uint32_t i = 0; i < c->state->map->n_shards && result == WALMAP_OK; i++)
    result = add_shard(c, i, walmap__load64(since + 8 * (size_t)i), why);
  return result;
}

/* Puts the parts together. */
static int assemble_changes(const walmap_state *state, const walmap__changes *images, void **changes, size_t *size) {
  walmap__image_block block = {NULL, 0};
  size_t position = POSITION_BYTES(state->map->n_shards);
  size_t total = CHANGES_HEAD_BYTES + position + images->sizes[PART_SET] + images->sizes[PART_REMOVED];
  if (!walmap__image_block_grow(&block, total))
    return WALMAP_NOMEM;
  uint8_t *head = block.bytes, *at = head + CHANGES_HEAD_BYTES;
  memcpy(head, CHANGES_MAGIC, IMAGE_MAGIC_BYTES);
  image_store32(head + CHANGES_VERSION_AT, CHANGES_FORMAT_VERSION);
  image_store32(head + CHANGES_FLAGS_AT, 0);
  put_position(state, at);
  for (int i = 0; i < PARTS; i++) {
    size_t bytes = i == PART_POSITION ? position : images->sizes[i];
    if (i != PART_POSITION)
      memcpy(at, images->parts[i], bytes);
    at += bytes;
    walmap__store64(head + CHANGES_SIZES_AT + 8 * (size_t)i, bytes);
    walmap__store64(head + CHANGES_CHECKS_AT + 8 * (size_t)i, walmap__load64(at - 8));
  }
  walmap__store64(head + CHANGES_CHECK_AT, XXH3_64bits(head, CHANGES_CHECK_AT));
  *changes = walmap__image_block_give(&block, total);
  *size = total;
  return WALMAP_OK;
}

static int finish_changes(const collection *c, void **changes, size_t *size) {
  walmap__changes images = {{NULL}, {0}};
  void *set = NULL, *removed = NULL;
  int result = walmap__image_writer_finish(c->set, &set, &images.sizes[PART_SET]);
  int second = walmap__image_writer_finish(c->removed, &removed, &images.sizes[PART_REMOVED]);
  images.parts[PART_SET] = set;
  images.parts[PART_REMOVED] = removed;
  if (result == WALMAP_OK)
    result = second;
  if (result == WALMAP_OK)
    result = assemble_changes(c->state, &images, changes, size);
  walmap_image_free(set);
  walmap_image_free(removed);
  return result;
}

int walmap__changes_read_since(const walmap *map, const void *since, size_t since_size, const uint8_t **commit_points,
                               walmap_why *why) {
  walmap__changes older = {{since}, {since_size}};
  int result = WALMAP_OK;
  if (walmap__changes_is(since, since_size))
    result = walmap__changes_open(&older, since, since_size, why);
  if (result != WALMAP_OK)
    return result;
  return read_position(map, older.parts[PART_POSITION], older.sizes[PART_POSITION], commit_points, why);
}

int walmap_state_changes(walmap_state *state, const void *since, size_t since_size, void **changes, size_t *size,
                         walmap_why *why) {
  collection c = {.state = state};
  uint32_t content = state->map->options.content;
  const uint8_t *commit_points = NULL;
  int result = walmap__changes_read_since(state->map, since, since_size, &commit_points, why);
  assert(result != WALMAP_OK || commit_points != NULL);
  if (result == WALMAP_OK)
    result = walmap__image_writer_new(content, NULL, NULL, 0, &c.set);
  if (result == WALMAP_OK)
    result = walmap__image_writer_new(content, NULL, NULL, 0, &c.removed);
  if (result == WALMAP_OK)
    result = add_all(&c, commit_points, why);
  if (result == WALMAP_OK)
    return finish_changes(&c, changes, size);
  walmap__image_writer_abandon(c.set);
  walmap__image_writer_abandon(c.removed);
  return result;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Reading                                                                                                            */

bool walmap__changes_is(const void *bytes, size_t size) {
  return size >= IMAGE_MAGIC_BYTES && memcmp(bytes, CHANGES_MAGIC, IMAGE_MAGIC_BYTES) == 0;
}

int walmap__changes_open(walmap__changes *changes, const void *bytes, size_t size, walmap_why *why) {
  const uint8_t *head = bytes;
  if (!walmap__changes_is(bytes, size))
    return walmap__explain(why, WALMAP_CORRUPT, "not changes of a walmap: they do not begin as such");
  if (size < CHANGES_HEAD_BYTES)
    return walmap__explain(why, WALMAP_CORRUPT, "the changes are damaged: they end within their head");
  if (image_load32(head + CHANGES_VERSION_AT) != CHANGES_FORMAT_VERSION)
    return walmap__explain(why, WALMAP_CORRUPT, "the changes have a format version that this library does not know");
  if (walmap__load64(head + CHANGES_CHECK_AT) != XXH3_64bits(head, CHANGES_CHECK_AT))
    return walmap__explain(why, WALMAP_CORRUPT, "the changes are damaged: the check of their head is wrong");
  if (image_load32(head + CHANGES_FLAGS_AT) != 0)
    return walmap__explain(why, WALMAP_CORRUPT, "the changes use features that this library does not know");
  size_t at = CHANGES_HEAD_BYTES;
  for (int i = 0; i < PARTS; i++) {
    uint64_t bytes_of_part = walmap__load64(head + CHANGES_SIZES_AT + 8 * (size_t)i);
    if (bytes_of_part < 8 || bytes_of_part > size - at)
      return walmap__explain(why, WALMAP_CORRUPT, "the changes are damaged: they end within a part");
    changes->parts[i] = head + at;
    changes->sizes[i] = (size_t)bytes_of_part;
    at += (size_t)bytes_of_part;
    if (walmap__load64(head + at - 8) != walmap__load64(head + CHANGES_CHECKS_AT + 8 * (size_t)i))
      return walmap__explain(why, WALMAP_CORRUPT, "the changes are damaged: a part is not the one that was there");
  }
  if (at != size)
    return walmap__explain(why, WALMAP_CORRUPT, "the changes are damaged: they go on behind their end");
  const uint8_t *position = changes->parts[PART_POSITION];
  size_t check = changes->sizes[PART_POSITION] - 8; /* the images verify themselves */
  if (walmap__load64(position + check) != XXH3_64bits(position, check))
    return walmap__explain(why, WALMAP_CORRUPT, "the changes are damaged: the check of their position is wrong");
  return WALMAP_OK;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Applying                                                                                                           */

/* The keys that are set, by their places in the changes: open addressing, at most half full. */
typedef struct key_slot {
  const void *key; /* NULL: free */
  size_t key_len;
} key_slot;

typedef struct key_set {
  key_slot *slots;
  size_t n_slots; /* a power of two */
} key_set;

typedef struct application {
  walmap_txn *txn;
  walmap__changes changes;
  walmap_check_fn check;
  void *ctx;
  uint64_t n_set;
  key_set keys;
  uint64_t changed;
  walmap__interrupt interrupt;
} application;

/* Takes the part's next entry. OK; NOTFOUND at the end; CORRUPT; INTERRUPT. */
static int next_entry(application *a, walmap_image_reader *reader, walmap_entry *entry, walmap_why *why) {
  int result = walmap_image_next(reader, entry, why);
  if (result == WALMAP_OK && walmap__interrupt_after(&a->interrupt, entry->key_len + entry->value_len))
    return WALMAP_INTERRUPT;
  return result;
}

static int refuse_content(walmap_why *why, const char *wrong) {
  return walmap__explain(why, WALMAP_CORRUPT, "the changes hold %s", wrong);
}

static int check_entry(const application *a, int part, walmap_entry *entry, walmap_why *why) {
  if (part == PART_REMOVED) {
    if (entry->value_len != 0)
      return refuse_content(why, "a removed key with a value");
    entry->value = NULL;
  }
  const char *wrong = a->check ? a->check(a->ctx, entry) : NULL;
  return wrong ? refuse_content(why, wrong) : WALMAP_OK;
}

/* Checks all entries of a part, before any entry is applied. */
static int check_part(application *a, int part, walmap_why *why) {
  walmap_image_reader reader;
  walmap_entry entry;
  int result = walmap_image_open(&reader, a->changes.parts[part], a->changes.sizes[part], why);
  if (result == WALMAP_OK && reader.content != a->txn->map->options.content)
    return refuse_content(why, "another kind of content than the map");
  while (result == WALMAP_OK && (result = next_entry(a, &reader, &entry, why)) == WALMAP_OK) {
    result = check_entry(a, part, &entry, why);
    a->n_set += part == PART_SET;
  }
  return result == WALMAP_NOTFOUND ? WALMAP_OK : result;
}

/*
** The slot that has the key, or the free one where it belongs. The map's hash does not serve: it may have been made to
** give many keys one value. The seed is the map's, which the changes' author does not know.
*/
static key_slot *find_slot(const application *a, const walmap_entry *entry) {
  size_t mask = a->keys.n_slots - 1;
  size_t at = (size_t)XXH3_64bits_withSeed(entry->key, entry->key_len, a->txn->map->options.seed) & mask;
  key_slot *slot = &a->keys.slots[at];
  while (slot->key && (slot->key_len != entry->key_len || memcmp(slot->key, entry->key, slot->key_len) != 0)) {
    at = (at + 1) & mask;
    slot = &a->keys.slots[at];
  }
  return slot;
}

static int check_key_once(const application *a, int part, const walmap_entry *entry, walmap_why *why) {
  key_slot *slot = find_slot(a, entry);
  if (slot->key)
    return refuse_content(why, part == PART_SET ? "a key that is set twice" : "a key that is both set and removed");
  if (part == PART_SET)
    *slot = (key_slot){entry->key, entry->key_len};
  return WALMAP_OK;
}

static int check_keys_of(application *a, int part, walmap_why *why) {
  walmap_image_reader reader;
  walmap_entry entry;
  int result = walmap_image_open(&reader, a->changes.parts[part], a->changes.sizes[part], why);
  while (result == WALMAP_OK && (result = next_entry(a, &reader, &entry, why)) == WALMAP_OK)
    result = check_key_once(a, part, &entry, why);
  return result == WALMAP_NOTFOUND ? WALMAP_OK : result;
}

/* A key is set once, and not removed as well. */
static int check_keys(application *a, walmap_why *why) {
  walmap__memory *memory = &a->txn->map->memory;
  key_set *keys = &a->keys;
  for (keys->n_slots = 2; keys->n_slots / 2 < a->n_set; keys->n_slots *= 2)
    ;
  size_t bytes = keys->n_slots * sizeof *keys->slots;
  if (!(keys->slots = walmap__memory_alloc(memory, bytes)))
    return WALMAP_NOMEM;
  memset(keys->slots, 0, bytes);
  int result = check_keys_of(a, PART_SET, why);
  if (result == WALMAP_OK)
    result = check_keys_of(a, PART_REMOVED, why);
  walmap__memory_free(memory, keys->slots, bytes);
  return result;
}

/* An entry that the map has already is not written again: the changes may be more than was needed (F1). */
static int apply_set(application *a, const walmap_entry *entry) {
  walmap_entry present;
  int result = walmap_txn_peek(a->txn, entry->key, entry->key_len, &present);
  if (result == WALMAP_OK && present.value_len == entry->value_len && present.expires == entry->expires &&
      (entry->value_len == 0 || memcmp(present.value, entry->value, entry->value_len) == 0))
    return WALMAP_OK;
  if (result == WALMAP_OK || result == WALMAP_NOTFOUND) {
    void *to;
    result = walmap_txn_reserve_expiring(a->txn, WALMAP_ALWAYS, entry->key, entry->key_len, entry->value_len,
                                         entry->expires, &to);
    if (result == WALMAP_OK)
      walmap__copy_bytes(to, entry->value, entry->value_len);
  }
  a->changed += result == WALMAP_OK;
  return result;
}

static int apply_removal(application *a, const walmap_entry *entry) {
  int result = walmap_txn_remove(a->txn, entry->key, entry->key_len);
  a->changed += result == WALMAP_OK;
  return result == WALMAP_NOTFOUND ? WALMAP_OK : result;
}

static int apply_part(application *a, int part, walmap_why *why) {
  walmap_image_reader reader;
  walmap_entry entry;
  int result = walmap_image_open(&reader, a->changes.parts[part], a->changes.sizes[part], why);
  while (result == WALMAP_OK && (result = next_entry(a, &reader, &entry, why)) == WALMAP_OK)
    result = part == PART_SET ? apply_set(a, &entry) : apply_removal(a, &entry);
  return result == WALMAP_NOTFOUND ? WALMAP_OK : result;
}

/* A savepoint makes the call all or nothing (C3) within the transaction. */
static int apply_parts(application *a, walmap_why *why) {
  int64_t savepoint = a->txn->level;
  walmap__txn_savepoint(a->txn, savepoint);
  int result = apply_part(a, PART_REMOVED, why);
  if (result == WALMAP_OK)
    result = apply_part(a, PART_SET, why);
  if (result != WALMAP_OK)
    walmap__txn_rollback_to(a->txn, savepoint);
  walmap__txn_release(a->txn, savepoint);
  return result;
}

int walmap_txn_apply(walmap_txn *txn, const void *changes, size_t size, walmap_check_fn check, void *ctx,
                     uint64_t *changed, walmap_why *why) {
  application a = {.txn = txn, .check = check, .ctx = ctx, .interrupt = walmap__session_interrupt(txn->session)};
  int result = walmap__changes_open(&a.changes, changes, size, why);
  if (result == WALMAP_OK)
    result = check_part(&a, PART_SET, why);
  if (result == WALMAP_OK)
    result = check_part(&a, PART_REMOVED, why);
  if (result == WALMAP_OK)
    result = check_keys(&a, why);
  if (result == WALMAP_OK)
    result = apply_parts(&a, why);
  if (result == WALMAP_OK && changed)
    *changed = a.changed;
  return result;
}
