/*
** walk.c - the rows of an ordered map within bounds: see walk.h
*/
#include "table/walk.h"

SQLITE_EXTENSION_INIT3

static const uint8_t first_text[] = {WM_KEY_TEXT, 0}, colon[] = {WM_KEY_TEXT, ':', 0}, first_blob[] = {WM_KEY_BLOB};

static wm_end end_of_key(const wm_key *key, bool inclusive) { return (wm_end){key->data, key->size, inclusive}; }

static wm_end end_of(const wm_bound *bound) {
  return bound->used ? end_of_key(&bound->key, bound->inclusive) : (wm_end){NULL, 0, false};
}

static bool is_text(const wm_bound *bound) { return bound->used && wm_codec_key_is_text(bound->key.data); }

static bool is_blob(const wm_bound *bound) { return bound->used && bound->key.data[0] == WM_KEY_BLOB; }

/* ------------------------------------------------------------------------------------------------------------------ */
/* Bounds without regard to case                                                                                      */

/* The greatest of all spellings: all lower case. */
static void fold_upper(wm_bound *bound) {
  uint8_t *at = (uint8_t *)bound->key.data;
  for (size_t i = 1; i < bound->key.size; i++)
    at[i] = (uint8_t)(at[i] >= 'A' && at[i] <= 'Z' ? at[i] + ('a' - 'A') : at[i]);
}

/*
** A text not before any that NOCASE, which compares in lower case, puts at or behind the bound: letters in upper case.
** Where the bound has one of [ \ ] ^ _ `, which lie between the cases, all upper-case letters are behind it.
*/
static void fold_lower(wm_bound *bound) {
  uint8_t *at = (uint8_t *)bound->key.data;
  for (size_t i = 1; i + 1 < bound->key.size; i++) {
    if (at[i] > 'Z' && at[i] < 'a') {
      at[i] = 'A';
      at[i + 1] = 0;
      bound->key.size = i + 2;
    } else if (at[i] >= 'a' && at[i] <= 'z') {
      at[i] = (uint8_t)(at[i] - ('a' - 'A'));
    }
  }
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Spans                                                                                                              */

static int compare_ends(wm_end a, wm_end b) { return wm_codec_compare_keys(a.key, a.size, b.key, b.size); }

static void add_span(wm_walk *walk, wm_end from, wm_end to, bool look_alikes) {
  if (from.key == NULL || to.key == NULL || compare_ends(from, to) <= 0)
    walk->spans[walk->n++] = (wm_span){from, to, look_alikes};
}

/* Behind both bounds. A lower bound that is a blob keeps all text out, whatever it is compared as. */
static void add_look_alikes(wm_walk *walk, const wm_range *range) {
  const wm_bound *lower = &range->lower, *upper = &range->upper;
  if (!upper->used || upper->exact || upper->pattern || is_blob(upper) || is_blob(lower) ||
      (is_text(upper) && wm_codec_looks_numeric(upper->key.data, upper->key.size)))
    return;
  wm_end from = is_text(upper) ? end_of_key(&upper->key, false) : (wm_end){first_text, sizeof first_text, true};
  if (is_text(lower) && compare_ends(from, end_of(lower)) < 0)
    from = end_of(lower);
  add_span(walk, from, (wm_end){colon, sizeof colon, false}, true);
}

/* A text key as a blob of the same bytes. What the value says of a key's form is of no account here. */
static int copy_as_blob(const wm_key *text, wm_key *blob) {
  static const uint8_t any_value[] = {WM_VALUE_NULL};
  const walmap_entry entry = {text->data, text->size, any_value, sizeof any_value};
  if (wm_codec_copy_key(&entry, blob) != SQLITE_OK)
    return WALMAP_NOMEM;
  ((uint8_t *)blob->data)[0] = WM_KEY_BLOB;
  blob->size--;
  return WALMAP_OK;
}

static int add_blobs(wm_walk *walk, const wm_range *range) {
  const wm_bound *lower = &range->lower, *upper = &range->upper;
  if (!upper->used || !upper->pattern || !is_text(upper))
    return WALMAP_OK;
  wm_end from = is_blob(lower) ? end_of(lower) : (wm_end){first_blob, sizeof first_blob, true};
  if (lower->used && lower->pattern && is_text(lower)) {
    if (copy_as_blob(&lower->key, &walk->blobs[walk->n_blobs]) != WALMAP_OK)
      return WALMAP_NOMEM;
    from = end_of_key(&walk->blobs[walk->n_blobs++], true);
  }
  if (copy_as_blob(&upper->key, &walk->blobs[walk->n_blobs]) != WALMAP_OK)
    return WALMAP_NOMEM;
  add_span(walk, from, end_of_key(&walk->blobs[walk->n_blobs++], false), false);
  return WALMAP_OK;
}

int wm_walk_start(wm_walk *walk, walmap_state *state, wm_range *range, bool descending, bool look_alikes) {
  walk->n = walk->at = 0;
  walk->n_blobs = 0;
  walk->entered = false;
  walk->descending = descending;
  walmap_ordered_start(&walk->cursor, state);
  if (range->lower.is_utf16 || range->upper.is_utf16) {
    walk->spans[walk->n++] = (wm_span){{NULL, 0, false}, {NULL, 0, false}, false};
    return WALMAP_OK;
  }
  if (range->lower.used && range->lower.nocase)
    fold_lower(&range->lower);
  if (range->upper.used && range->upper.nocase)
    fold_upper(&range->upper);
  add_span(walk, end_of(&range->lower), end_of(&range->upper), false);
  if (look_alikes)
    add_look_alikes(walk, range);
  return add_blobs(walk, range);
}

void wm_walk_clear(wm_walk *walk) {
  while (walk->n_blobs > 0)
    wm_codec_release_key(&walk->blobs[--walk->n_blobs]);
  walk->n = walk->at = 0;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Rows                                                                                                               */

static bool enter_span(wm_walk *walk, const wm_span *span, walmap_entry *entry) {
  wm_end end = walk->descending ? span->to : span->from;
  walmap_seek seek;
  if (end.key == NULL)
    seek = walk->descending ? WALMAP_LAST : WALMAP_FIRST;
  else if (walk->descending)
    seek = end.inclusive ? WALMAP_AT_OR_BEFORE : WALMAP_BEFORE;
  else
    seek = end.inclusive ? WALMAP_AT_OR_AFTER : WALMAP_AFTER;
  walk->entered = true;
  return walmap_ordered_seek(&walk->cursor, seek, end.key, end.size, entry);
}

static bool is_past_span(const wm_walk *walk, const wm_span *span, const walmap_entry *entry) {
  wm_end end = walk->descending ? span->from : span->to;
  if (end.key == NULL)
    return false;
  int order = wm_codec_compare_keys(entry->key, entry->key_len, end.key, end.size);
  return order == 0 ? !end.inclusive : (order > 0) != walk->descending;
}

static bool step_in_span(wm_walk *walk, const wm_span *span, walmap_entry *entry) {
  bool more = !walk->entered     ? enter_span(walk, span, entry)
              : walk->descending ? walmap_ordered_previous(&walk->cursor, entry)
                                 : walmap_ordered_next(&walk->cursor, entry);
  return more && !is_past_span(walk, span, entry);
}

bool wm_walk_next(wm_walk *walk, walmap_entry *entry, bool *is_row) {
  for (; walk->at < walk->n; walk->at++, walk->entered = false) {
    const wm_span *span = &walk->spans[walk->descending ? walk->n - 1 - walk->at : walk->at];
    if (step_in_span(walk, span, entry)) {
      *is_row = !span->look_alikes || wm_codec_looks_numeric(entry->key, entry->key_len);
      return true;
    }
    if (walmap_ordered_is_interrupted(&walk->cursor))
      break;
  }
  return false;
}
