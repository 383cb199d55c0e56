/*
** fuzz_changes.c - attacks: changes are applied as a whole or refused as a whole; a position never makes up a change
**
** An input is one byte, the mode, and changes. Mode bit 0: all checks are made right first. Bit 1: the position in it
** gets the map's own number, so that it is looked at.
**
** Held for every input:
**   - applying is OK or CORRUPT; what was refused leaves the transaction as it was
**   - what was applied is what a model makes of it, and the number of keys that changed too; also when applied again
**   - the changes since any position, applied to the map itself, change nothing (F1), and lead to a position that none
**     come after
*/
#include "../common/changes_kit.h"
#include "image_mutator.h"

static party map_of_an_input(void) {
  walmap_options options;
  walmap_options_init(&options);
  options.shards = 2;
  options.first_segment = 256;
  options.seed_given = true; /* an input's run should be the same each time */
  options.clock = no_time;
  return party_open(&options);
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* A model of a map: a list of entries, which lie where they were found                                               */

typedef struct model {
  walmap_entry *entries;
  size_t count, capacity;
} model;

static walmap_entry *model_find(const model *m, const walmap_entry *like) {
  for (size_t i = 0; i < m->count; i++) {
    walmap_entry *entry = &m->entries[i];
    if (entry->key_len == like->key_len && memcmp(entry->key, like->key, like->key_len) == 0)
      return entry;
  }
  return NULL;
}

/* Whether that changes anything; the same below. */
static bool model_set(model *m, const walmap_entry *entry) {
  walmap_entry *old = model_find(m, entry);
  if (old == NULL) {
    if (m->count == m->capacity) {
      m->capacity = 2 * m->capacity + 16;
      m->entries = realloc(m->entries, m->capacity * sizeof *m->entries);
      MUST(m->entries != NULL);
    }
    m->entries[m->count++] = *entry;
    return true;
  }
  bool differs = !same_entry(old, entry);
  *old = *entry;
  return differs;
}

static bool model_remove(model *m, const walmap_entry *like) {
  walmap_entry *old = model_find(m, like);
  if (old != NULL)
    *old = m->entries[--m->count];
  return old != NULL;
}

static uint64_t model_apply(model *m, bytes input) {
  static const int order[] = {PART_REMOVED, PART_SET};
  walmap__changes changes;
  walmap_image_reader reader;
  walmap_entry entry;
  uint64_t changed = 0;
  MUST_OK(walmap__changes_open(&changes, input.data, input.size, NULL));
  for (int i = 0; i < 2; i++) {
    MUST_OK(walmap_image_open(&reader, changes.parts[order[i]], changes.sizes[order[i]], NULL));
    while (walmap_image_next(&reader, &entry, NULL) == WALMAP_OK) {
      MUST(order[i] == PART_SET || entry.value_len == 0);
      changed += order[i] == PART_SET ? model_set(m, &entry) : model_remove(m, &entry);
    }
  }
  return changed;
}

static void must_equal(const model *m, walmap_state *state) {
  walmap_cursor cursor;
  walmap_entry entry;
  size_t count = 0;
  for (walmap_cursor_start(&cursor, state); walmap_cursor_next(&cursor, &entry); count++) {
    walmap_entry *expected = model_find(m, &entry);
    MUST(expected != NULL && same_entry(expected, &entry));
  }
  MUST(count == m->count);
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Applying                                                                                                           */

/* The content that every input meets: committed, and then the transaction's own. */
#define COMMITTED 24
#define OWN 3
#define LONGEST 4

static void fill(party *p, model *m) {
  for (uint32_t i = 0; i < COMMITTED + OWN; i++) {
    walmap_entry entry = made_entry(i, LONGEST);
    if (i == COMMITTED)
      walmap_txn_begin(p->txn);
    if (i < COMMITTED) {
      MUST_OK(walmap_set_expiring(p->map, entry.key, entry.key_len, entry.value, entry.value_len, entry.expires));
    } else {
      void *value;
      MUST_OK(walmap_txn_reserve_expiring(p->txn, WALMAP_ALWAYS, entry.key, entry.key_len, entry.value_len,
                                          entry.expires, &value));
      memcpy(value, entry.value, entry.value_len);
    }
    model_set(m, &entry);
  }
}

static void check_apply(bytes input) {
  party p = map_of_an_input();
  model m = {0};
  walmap_why why = {""};
  uint64_t changed;
  fill(&p, &m);
  int result = walmap_txn_apply(p.txn, input.data, input.size, NULL, NULL, &changed, &why);
  MUST(result == WALMAP_OK || (result == WALMAP_CORRUPT && why.text[0] != 0));
  MUST(result != WALMAP_OK || changed == model_apply(&m, input));
  MUST_OK(walmap_txn_state_begin(p.txn, p.state));
  must_equal(&m, p.state);
  walmap_state_end(p.state);
  MUST_RESULT(walmap_txn_apply(p.txn, input.data, input.size, NULL, NULL, &changed, NULL), result);
  MUST(result != WALMAP_OK || changed == model_apply(&m, input));
  walmap_txn_commit(p.txn);
  MUST_OK(walmap_state_begin(p.state));
  must_equal(&m, p.state);
  party_free(&p);
  free(m.entries);
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Positions                                                                                                          */

/* Makes the number of the map in the input's position that of this map. */
static void adopt(bytes input, party *p) {
  void *position;
  size_t size;
  if (input.size < CHANGES_HEAD_BYTES + POSITION_POINTS_AT)
    return;
  MUST_OK(walmap_state_position(p->state, &position, &size));
  memcpy(input.data + CHANGES_HEAD_BYTES + POSITION_SHARDS_AT, (uint8_t *)position + POSITION_SHARDS_AT,
         POSITION_POINTS_AT - POSITION_SHARDS_AT);
  walmap_image_free(position);
}

static void check_position(party *p, bytes input) {
  void *changes, *none;
  size_t size, size_of_none;
  uint64_t changed;
  walmap_why why = {""};
  int result = walmap_state_changes(p->state, input.data, input.size, &changes, &size, &why);
  MUST(result == WALMAP_OK || ((result == WALMAP_CORRUPT || result == WALMAP_GONE) && why.text[0] != 0));
  if (result != WALMAP_OK)
    return;
  walmap_txn_begin(p->txn);
  MUST_OK(walmap_txn_apply(p->txn, changes, size, NULL, NULL, &changed, NULL));
  MUST(changed == 0);
  walmap_txn_rollback(p->txn);
  MUST_OK(walmap_state_changes(p->state, changes, size, &none, &size_of_none, NULL));
  model m = {0};
  MUST(model_apply(&m, (bytes){none, size_of_none}) == 0);
  MUST(size_of_none == CHANGES_HEAD_BYTES + POSITION_BYTES(2) + 2 * 2 * IMAGE_BLOCK);
  walmap_image_free(none);
  walmap_image_free(changes);
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Inputs                                                                                                             */

/* Makes all checks of changes right, as far as their sizes hold together. */
static void repair_changes(bytes input) {
  uint8_t *head = input.data;
  size_t at = CHANGES_HEAD_BYTES;
  if (input.size < CHANGES_HEAD_BYTES)
    return;
  for (int i = 0; i < PARTS; i++) {
    uint64_t size = walmap__load64(head + CHANGES_SIZES_AT + 8 * (size_t)i);
    if (size < 8 || size > input.size - at)
      break;
    bytes part = {head + at, (size_t)size};
    if (i == PART_POSITION)
      walmap__store64(part.data + part.size - 8, XXH3_64bits(part.data, part.size - 8));
    else
      repair(part);
    at += part.size;
    walmap__store64(head + CHANGES_CHECKS_AT + 8 * (size_t)i, walmap__load64(head + at - 8));
  }
  walmap__store64(head + CHANGES_CHECK_AT, XXH3_64bits(head, CHANGES_CHECK_AT));
}

/* A map whose logs have all that a position can lie between: records set, superseded, removed, rolled back. */
static party party_with_history(void) {
  party p = map_of_an_input();
  model unused = {0};
  fill(&p, &unused);
  walmap_txn_rollback(p.txn);
  for (uint32_t i = 0; i < COMMITTED; i++) {
    walmap_entry entry = made_entry(i, LONGEST);
    if (i % 3 == 0)
      MUST_OK(walmap_set(p.map, entry.key, entry.key_len, "later", 5));
    else if (i % 3 == 1 && walmap_remove(p.map, entry.key, entry.key_len) == WALMAP_OK && i % 2 == 0)
      MUST_OK(walmap_set(p.map, entry.key, entry.key_len, entry.value, entry.value_len));
  }
  MUST_OK(walmap_state_begin(p.state));
  free(unused.entries);
  return p;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (size == 0)
    return 0;
  bytes input = exact_input(data, size);
  party leader = party_with_history();
  if (data[0] & 2)
    adopt(input, &leader);
  if (data[0] & 1)
    repair_changes(input);
  check_position(&leader, input);
  check_apply(input);
  party_free(&leader);
  free(input.data);
  return 0;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Mutation                                                                                                           */

/* Changes of a map that did a few things. */
static bytes fresh_changes(uint64_t *random) {
  party p = map_of_an_input();
  void *since, *changes;
  size_t since_size, size;
  model unused = {0};
  fill(&p, &unused);
  walmap_txn_rollback(p.txn);
  MUST_OK(walmap_state_begin(p.state));
  MUST_OK(walmap_state_position(p.state, &since, &since_size));
  walmap_state_end(p.state);
  for (uint32_t n = random_below(random, 12); n > 0; n--) {
    walmap_entry entry = made_entry(random_below(random, COMMITTED + OWN), LONGEST);
    if (random_below(random, 3) == 0)
      (void)walmap_remove(p.map, entry.key, entry.key_len); /* it may be absent */
    else
      MUST_OK(walmap_set(p.map, entry.key, entry.key_len, "new", 1 + random_below(random, 3)));
  }
  MUST_OK(walmap_state_begin(p.state));
  MUST_OK(walmap_state_changes(p.state, since, since_size, &changes, &size, NULL));
  bytes copy = bytes_copy(changes, size);
  walmap_image_free(since);
  walmap_image_free(changes);
  party_free(&p);
  free(unused.entries);
  return copy;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned int seed) {
  return mutate_image(data, size, max_size, seed, fresh_changes);
}
