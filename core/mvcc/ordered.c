/*
** ordered.c - walking a state of an ordered map by key (order.h has the argument, B1)
**
** The cursor has a copy of one leaf's words. Where they end, the next leaf is found by the fence of the one before. A
** word leads to the newest record of its key, and that one to the record of the state, or to none (V1).
*/
#include "mvcc/state.h"

_Static_assert(sizeof((walmap_ordered_cursor *)0)->words == WALMAP__LEAF_WORDS * sizeof(uint64_t), "one leaf");

/* All generations that a state sees were made together, so they share one tree. NULL: the state is empty. */
static walmap__order *order_of(const walmap_state *s) {
  for (uint32_t i = 0; i < s->map->n_shards; i++) {
    const walmap__generation *g = walmap__shard_at(&s->map->shards[i], s->commit_points[i]);
    if (g)
      return g->order;
  }
  return NULL;
}

void walmap_ordered_start(walmap_ordered_cursor *c, walmap_state *s) {
  c->state = s;
  c->order = order_of(s);
  c->leaf = c->low = c->high = NULL;
  c->n = c->steps = 0;
  c->at = 0;
  c->interrupted = false;
}

bool walmap_ordered_is_interrupted(const walmap_ordered_cursor *c) { return c->interrupted; }

/* The entry of a word's key in the state: false when there is none. */
static bool entry_of(const walmap_ordered_cursor *c, uint64_t word, walmap_entry *entry) {
  const walmap__log *log = walmap__order_log(c->order, word);
  walmap__version version = walmap__log_version(log, walmap__word_address(word));
  if (!walmap__version_at(log, &version, c->state->commit_points[walmap__word_shard(word)]))
    return false;
  if (walmap__record_is_expired(version.record, version.meta, c->state->now))
    return false;
  walmap__record_entry(version.record, version.meta, entry);
  return true;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Leaves                                                                                                             */

static int compare_words(const walmap_ordered_cursor *c, uint64_t a, uint64_t b) {
  walmap__sort_bytes one, other;
  walmap__order_sort_bytes_at(c->order, a, &one);
  walmap__order_sort_bytes_at(c->order, b, &other);
  return walmap__compare_bytes(one.bytes, one.len, other.bytes, other.len);
}

/*
** The words were shifted while they were copied (B1). Of several words of a key all that lead to an entry of the state
** lead to the same one; words that lead to none go first, so that none of them stands for one that does.
*/
static void tidy_words(walmap_ordered_cursor *c) {
  uint32_t n = 0;
  walmap_entry entry;
  for (uint32_t i = 0; i < c->n; i++) {
    uint64_t word = c->words[i];
    if (!entry_of(c, word, &entry))
      continue;
    uint32_t at = n;
    int order = 1;
    while (at > 0 && (order = compare_words(c, c->words[at - 1], word)) > 0)
      at--;
    if (at > 0 && order == 0)
      continue;
    for (uint32_t j = n++; j > at; j--)
      c->words[j] = c->words[j - 1];
    c->words[at] = word;
  }
  c->n = n;
}

static void copy_leaf(walmap_ordered_cursor *c, const uint8_t *bytes, size_t len, bool before) {
  walmap__leaf_copy copy = walmap__order_copy_leaf(c->order, bytes, len, before, c->words);
  c->leaf = copy.leaf;
  c->low = copy.low;
  c->high = copy.high;
  c->n = copy.n;
  if (copy.was_shifted)
    tidy_words(c);
}

/* How many words of the copy have a key before these bytes. */
static uint32_t find_in_leaf(const walmap_ordered_cursor *c, const uint8_t *bytes, size_t len) {
  const walmap__leaf_copy copy = {c->leaf, c->low, c->high, c->n, false};
  return walmap__leaf_copy_find(c->order, &copy, c->words, bytes, len);
}

/* To the leaf behind the fence, before its first key: false when the tree ends there. */
static bool enter_next_leaf(walmap_ordered_cursor *c) {
  const walmap__separator *fence = c->high;
  if (!fence)
    return false;
  walmap__yield("ordered: leaf done");
  copy_leaf(c, fence->bytes, fence->len, false);
  c->at = (int32_t)find_in_leaf(c, fence->bytes, fence->len) - 1;
  return true;
}

/* To the leaf before the fence, behind its last key that is before the fence. */
static bool previous_leaf(walmap_ordered_cursor *c) {
  const walmap__separator *fence = c->low;
  if (!fence)
    return false;
  walmap__yield("ordered: leaf done");
  copy_leaf(c, fence->bytes, fence->len, true);
  c->at = (int32_t)find_in_leaf(c, fence->bytes, fence->len);
  return true;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Steps                                                                                                              */

enum { AHEAD = 8 };

/* Records are fetched ahead once the walk goes on: a seek alone, which may be all, fetches none. */
static void fetch_ahead(walmap_ordered_cursor *c, int32_t direction) {
  if (++c->steps == 1)
    return;
  for (int32_t ahead = c->steps == 2 ? 1 : AHEAD; ahead <= AHEAD; ahead++) {
    int32_t at = c->at + direction * ahead;
    if (at < 0 || at >= (int32_t)c->n)
      return;
    uint64_t word = c->words[at];
    __builtin_prefetch(walmap__log_at(walmap__order_log(c->order, word), walmap__word_address(word)));
  }
}

/* In a new leaf all that lies ahead is fetched again. */
static void fetch_anew(walmap_ordered_cursor *c) { c->steps = c->steps > 1; }

/*
** After a leaf of which the same call has passed over all keys: their records lie at random places. An interrupted
** cursor has no leaf until the next seek, so that it comes here at each step.
*/
static bool goes_past_leaf(walmap_ordered_cursor *c, uint32_t leaves) {
  enum { LEAF = WALMAP__LEAF_WORDS * 128 }; /* bytes of work */
  if (leaves > 0 && walmap__interrupt_after(&c->state->interrupt, LEAF)) {
    c->interrupted = true;
    c->low = c->high = NULL;
    c->n = 0;
    c->at = 0;
  }
  return !c->interrupted;
}

bool walmap_ordered_next(walmap_ordered_cursor *c, walmap_entry *entry) {
  for (uint32_t leaves = 0;; leaves++) {
    while (++c->at < (int32_t)c->n) {
      fetch_ahead(c, 1);
      if (entry_of(c, c->words[c->at], entry))
        return true;
    }
    c->at = (int32_t)c->n;
    if (!goes_past_leaf(c, leaves) || !enter_next_leaf(c))
      return false;
    fetch_anew(c);
  }
}

bool walmap_ordered_previous(walmap_ordered_cursor *c, walmap_entry *entry) {
  for (uint32_t leaves = 0;; leaves++) {
    while (--c->at >= 0) {
      fetch_ahead(c, -1);
      if (entry_of(c, c->words[c->at], entry))
        return true;
    }
    c->at = -1;
    if (!goes_past_leaf(c, leaves) || !previous_leaf(c))
      return false;
    fetch_anew(c);
  }
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Seeking                                                                                                            */

static bool is_at(const walmap_ordered_cursor *c, int32_t at, const walmap__sort_bytes *key) {
  if (at >= (int32_t)c->n)
    return false;
  walmap__sort_bytes found;
  walmap__order_sort_bytes_at(c->order, c->words[at], &found);
  return walmap__compare_bytes(found.bytes, found.len, key->bytes, key->len) == 0;
}

/* Next to where the key is, or would be: before it, or behind it. */
static void seek_key(walmap_ordered_cursor *c, const void *key, size_t key_len, bool behind) {
  walmap__sort_bytes sought;
  walmap__order_sort_bytes(c->order, key, key_len, &sought);
  copy_leaf(c, sought.bytes, sought.len, false);
  c->at = (int32_t)find_in_leaf(c, sought.bytes, sought.len);
  if (behind && is_at(c, c->at, &sought))
    c->at++;
}

bool walmap_ordered_seek(walmap_ordered_cursor *c, walmap_seek seek, const void *key, size_t key_len,
                         walmap_entry *entry) {
  bool forward = seek == WALMAP_FIRST || seek == WALMAP_AT_OR_AFTER || seek == WALMAP_AFTER;
  if (!c->order)
    return false;
  c->steps = 0;
  c->interrupted = false;
  if (seek == WALMAP_FIRST || seek == WALMAP_LAST) {
    copy_leaf(c, NULL, 0, !forward);
    c->at = forward ? 0 : (int32_t)c->n;
  } else {
    seek_key(c, key, key_len, seek == WALMAP_AFTER || seek == WALMAP_AT_OR_BEFORE);
  }
  if (!forward)
    return walmap_ordered_previous(c, entry);
  c->at--;
  return walmap_ordered_next(c, entry);
}
