/*
** range.c - bounds on keys: see range.h
**
** SQLite orders numbers before text before blobs, and so do encoded keys. Where SQLite does more than compare by that
** order, these keys pass, although the order alone would keep them out:
**
**    text that looks like a number    where the right side has numeric affinity, it is compared as that number
**    a blob below a text bound        LIKE and GLOB take a blob for text, and their bounds do not show it
**    any text, for a text bound       in a UTF-16 database, where text is ordered by its UTF-16 bytes
**    anything but text, for NOCASE    only LIKE brings such bounds
*/
#include "table/range.h"

#include "table/plan.h"

SQLITE_EXTENSION_INIT3

/*
** Whether it is a text or blob that was bound to a parameter: it has no numeric affinity then, for a CAST would have
** made it a number. (As the rest of a compound SELECT, a parameter can have the affinity of the first one's column.
** That is not seen here.)
*/
static bool is_bound_bytes(sqlite3_value *value) {
  int type = sqlite3_value_type(value);
  return (type == SQLITE_TEXT || type == SQLITE_BLOB) && sqlite3_value_frombind(value) != 0;
}

static int set_bound(wm_bound *bound, int bits, bool is_utf16, sqlite3_value *value, bool *is_empty) {
  int rc = wm_codec_encode_key(value, &bound->key);
  if (rc == SQLITE_CONSTRAINT_NOTNULL) {
    *is_empty = true;
    return SQLITE_OK;
  }
  bound->used = rc == SQLITE_OK;
  bound->inclusive = (bits & WM_PLAN_INCLUSIVE) != 0;
  bound->nocase = (bits & WM_PLAN_NOCASE) != 0;
  bound->pattern = (bits & WM_PLAN_PATTERN) != 0;
  bound->exact = (bits & WM_PLAN_EXACT) != 0 || (!bound->pattern && is_bound_bytes(value));
  bound->is_utf16 = is_utf16;
  return rc;
}

int wm_range_set(wm_range *range, int plan, sqlite3_value **argv, bool *is_empty) {
  int lower = plan >> WM_PLAN_LOWER, upper = plan >> WM_PLAN_UPPER, rc = SQLITE_OK;
  bool is_utf16 = (plan & WM_PLAN_UTF16) != 0;
  *is_empty = false;
  wm_range_clear(range);
  if (lower & WM_PLAN_BOUND)
    rc = set_bound(&range->lower, lower, is_utf16, *argv++, is_empty);
  if (rc == SQLITE_OK && (upper & WM_PLAN_BOUND))
    rc = set_bound(&range->upper, upper, is_utf16, *argv, is_empty);
  if (rc != SQLITE_OK || *is_empty)
    wm_range_clear(range);
  return rc;
}

static void clear_bound(wm_bound *bound) {
  if (bound->used)
    wm_codec_release_key(&bound->key);
  bound->used = bound->is_utf16 = bound->pattern = false;
}

void wm_range_clear(wm_range *range) {
  clear_bound(&range->lower);
  clear_bound(&range->upper);
}

/* Compares as SQLite's NOCASE does: text without tag and NUL, by folded letters, then by length. */
static int compare_nocase(const wm_key *bound, const walmap_entry *entry) {
  size_t a = entry->key_len - 2, b = bound->size - 2, common = a < b ? a : b;
  int order = sqlite3_strnicmp((const char *)entry->key + 1, (const char *)bound->data + 1, (int)common);
  return order != 0 ? order : (a > b) - (a < b);
}

/* Compares the entry's key with the bound: < 0, 0, > 0. Sets *passes when the key passes whatever the order. */
static int compare_bound(const wm_bound *bound, const walmap_entry *entry, bool *passes) {
  const wm_key *key = &bound->key;
  bool both_text = wm_codec_key_is_text(entry->key) && wm_codec_key_is_text(key->data);
  if (bound->nocase) {
    *passes = !both_text;
    return *passes ? 0 : compare_nocase(key, entry);
  }
  *passes = both_text && bound->is_utf16;
  return *passes ? 0 : wm_codec_compare_keys(entry->key, entry->key_len, key->data, key->size);
}

static bool is_above(const wm_bound *lower, const walmap_entry *entry) {
  bool passes;
  int order = compare_bound(lower, entry, &passes);
  return passes || order > 0 || (order == 0 && lower->inclusive) || (!lower->exact && wm_codec_is_lookalike(entry));
}

static bool is_below(const wm_bound *upper, const walmap_entry *entry) {
  bool passes;
  int order = compare_bound(upper, entry, &passes);
  if (passes || order < 0 || (order == 0 && upper->inclusive))
    return true;
  if (upper->exact)
    return false;
  if (wm_codec_is_lookalike(entry))
    return true;
  return ((const uint8_t *)entry->key)[0] == WM_KEY_BLOB && wm_codec_key_is_text(upper->key.data);
}

bool wm_range_has(const wm_range *range, const walmap_entry *entry) {
  return (!range->lower.used || is_above(&range->lower, entry)) &&
         (!range->upper.used || is_below(&range->upper, entry));
}
