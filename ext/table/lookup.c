/* lookup.c - the entries of `key = x` and of `key IN (...)` (lookup.h) */
#include "table/lookup.h"

#include <stdlib.h>
#include <string.h>

SQLITE_EXTENSION_INIT3

void wm_lookup_init(wm_lookup *lookup, const wm_attachment *attachment) {
  lookup->attachment = attachment;
  lookup->found = lookup->small;
  lookup->room = WM_LOOKUP_BATCH;
  lookup->n = 0;
}

void wm_lookup_clear(wm_lookup *lookup) {
  if (lookup->found != lookup->small)
    sqlite3_free(lookup->found);
  lookup->found = lookup->small;
  lookup->room = WM_LOOKUP_BATCH;
  lookup->n = 0;
}

void wm_lookup_start(wm_lookup *lookup, walmap_state *state, bool in_transaction) {
  lookup->state = state;
  lookup->in_transaction = in_transaction;
  lookup->n = 0;
  lookup->n_hashes = 0;
  lookup->may_repeat = false;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Point lookups                                                                                                      */

/* Makes room for `n` more entries. OK or NOMEM. */
static int reserve_entries(wm_lookup *l, size_t n) {
  if (l->n + n <= l->room)
    return WALMAP_OK;
  size_t room = 2 * (l->n + n);
  walmap_entry *larger = sqlite3_realloc64(l->found == l->small ? NULL : l->found, room * sizeof *larger);
  if (larger == NULL)
    return WALMAP_NOMEM;
  if (l->found == l->small)
    memcpy(larger, l->small, l->n * sizeof *larger);
  l->found = larger;
  l->room = room;
  return WALMAP_OK;
}

static int get_entry(wm_lookup *l, const wm_key *key) {
  int result = reserve_entries(l, 1);
  if (result != WALMAP_OK)
    return result;
  walmap_entry *entry = &l->found[l->n];
  result = l->in_transaction ? walmap_txn_get(l->attachment->txn, key->data, key->size, entry)
                             : walmap_state_get(l->state, key->data, key->size, entry);
  l->n += result == WALMAP_OK;
  return result == WALMAP_NOTFOUND ? WALMAP_OK : result;
}

typedef struct collecting {
  wm_lookup *lookup;
  int result;
} collecting;

/* Adds text that looks like a number. SQLite decides whether it is equal to the number that is sought. */
static bool collect_lookalike(void *context, const walmap_entry *entry) {
  collecting *all = context;
  if (!wm_codec_is_lookalike(entry))
    return true;
  if ((all->result = reserve_entries(all->lookup, 1)) != WALMAP_OK)
    return false;
  all->lookup->found[all->lookup->n++] = *entry;
  return true;
}

static bool has_hash(const uint64_t *hashes, int n, uint64_t hash) {
  for (int i = 0; i < n; i++) {
    if (hashes[i] == hash)
      return true;
  }
  return false;
}

/*
** Adds the look-alikes of a number (codec_hash.c), if the map can have any. The numbers of a list come in their order,
** and a hash belongs to numbers that are neighbours: so a hash that was not the last number's is met for the first
** time, and the work is that of the texts that there are, however many numbers share a hash.
*/
static int get_lookalikes(wm_lookup *l, const wm_key *key) {
  if (!wm_codec_key_is_number(key->data) || !atomic_load_explicit(&l->attachment->map->numeric, memory_order_relaxed))
    return WALMAP_OK;
  uint64_t hashes[WM_LOOKALIKES];
  uint64_t seed = walmap_get_options(l->attachment->map->map)->seed;
  int n = wm_codec_lookalikes(key->data, key->size, seed, hashes), result = WALMAP_OK;
  collecting all = {l, WALMAP_OK};
  for (int i = 0; i < n && result == WALMAP_OK; i++) {
    if (has_hash(l->hashes, l->n_hashes, hashes[i]))
      continue;
    if (l->in_transaction)
      result = walmap_txn_each_hash(l->attachment->txn, hashes[i], collect_lookalike, &all);
    else
      walmap_state_each_hash(l->state, hashes[i], collect_lookalike, &all);
    result = result == WALMAP_OK ? all.result : result;
  }
  memcpy(l->hashes, hashes, (size_t)n * sizeof hashes[0]);
  l->n_hashes = n;
  return result;
}

int wm_lookup_key(wm_lookup *l, sqlite3_value *value) {
  wm_key key;
  int rc = wm_codec_encode_key(value, &key);
  if (rc != SQLITE_OK)
    return rc == SQLITE_NOMEM ? WALMAP_NOMEM : WALMAP_OK; /* key = NULL is never true */
  int result = get_entry(l, &key);
  if (result == WALMAP_OK)
    result = get_lookalikes(l, &key);
  wm_codec_release_key(&key);
  return result;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* IN lists                                                                                                           */

typedef struct batch {
  wm_key keys[WM_LOOKUP_BATCH];
  size_t n;
} batch;

/* Adds the entries of the batch's keys. */
static int look_up_batch(wm_lookup *l, batch *b) {
  int result = reserve_entries(l, b->n);
  walmap_entry *entries = &l->found[l->n];
  if (result == WALMAP_OK && l->in_transaction) {
    for (size_t i = 0; i < b->n && result == WALMAP_OK; i++)
      result = get_entry(l, &b->keys[i]);
  } else if (result == WALMAP_OK) {
    for (size_t i = 0; i < b->n; i++)
      entries[i] = (walmap_entry){.key = b->keys[i].data, .key_len = b->keys[i].size};
    walmap_state_get_many(l->state, entries, b->n);
    l->n += b->n;
  }
  size_t kept = (size_t)(entries - l->found);
  for (size_t i = kept; i < l->n; i++) {
    if (l->found[i].key != NULL)
      l->found[kept++] = l->found[i];
  }
  l->n = kept;
  for (size_t i = 0; i < b->n; i++)
    wm_codec_release_key(&b->keys[i]);
  b->n = 0;
  return result;
}

int wm_lookup_list(wm_lookup *l, sqlite3_value *list, walmap__interrupt *interrupt) {
  enum { LOOKUP = 128 }; /* bytes of work */
  batch *b = sqlite3_malloc(sizeof *b);
  if (b == NULL)
    return WALMAP_NOMEM;
  b->n = 0;
  sqlite3_value *value;
  int result = WALMAP_OK, next_in_range = sqlite3_vtab_in_first(list, &value);
  for (; next_in_range == SQLITE_OK && result == WALMAP_OK; next_in_range = sqlite3_vtab_in_next(list, &value)) {
    wm_key *key = &b->keys[b->n];
    int rc = wm_codec_encode_key(value, key);
    if (rc == SQLITE_CONSTRAINT_NOTNULL)
      continue;
    if (rc != SQLITE_OK) {
      result = WALMAP_NOMEM;
      break;
    }
    size_t n_before = l->n;
    result = get_lookalikes(l, key);
    l->may_repeat |= l->n > n_before;
    if (++b->n == WM_LOOKUP_BATCH && result == WALMAP_OK)
      result = look_up_batch(l, b);
    if (result == WALMAP_OK && walmap__interrupt_after(interrupt, LOOKUP))
      result = WALMAP_INTERRUPT;
  }
  if (result == WALMAP_OK && next_in_range == SQLITE_NOMEM)
    result = WALMAP_NOMEM;
  if (result == WALMAP_OK)
    result = look_up_batch(l, b);
  for (size_t i = 0; i < b->n; i++)
    wm_codec_release_key(&b->keys[i]);
  sqlite3_free(b);
  return result;
}

static int compare_entries(const void *a, const void *b) {
  const walmap_entry *one = a, *other = b;
  return wm_codec_compare_keys(one->key, one->key_len, other->key, other->key_len);
}

static void drop_repeated(wm_lookup *l) {
  size_t kept = 1;
  for (size_t i = 1; i < l->n; i++) {
    if (compare_entries(&l->found[i], &l->found[kept - 1]) != 0)
      l->found[kept++] = l->found[i];
  }
  l->n = kept;
}

/* What is found for one number is before its look-alikes already. */
void wm_lookup_sort(wm_lookup *l) {
  if (l->n < 2 || !(l->may_repeat || walmap_get_options(l->attachment->map->map)->ordered))
    return;
  qsort(l->found, l->n, sizeof l->found[0], compare_entries);
  if (l->may_repeat)
    drop_repeated(l);
}
