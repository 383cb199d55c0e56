/*
** range.h - bounds on keys, tested inside a scan without decoding keys
**
** Every key that SQLite might accept passes a bound, whatever affinity the right side has; SQLite tests each row again,
** unless the bound is exact.
*/
#ifndef WM_RANGE_H
#define WM_RANGE_H

#include "codec/codec.h"

typedef struct wm_bound {
  bool used, inclusive, nocase;
  bool exact;    /* only the order counts: WM_PLAN_EXACT, or bytes that were bound to a parameter */
  bool pattern;  /* WM_PLAN_PATTERN */
  bool is_utf16; /* WM_PLAN_UTF16 */
  wm_key key;
} wm_bound;

typedef struct wm_range {
  wm_bound lower, upper;
} wm_range;

/*
** Sets the range for a WM_PLAN_SCAN and its arguments. *is_empty: a bound is NULL, so no key is within. On SQLITE_OK
** clear the range later; SQLITE_NOMEM leaves it cleared.
*/
int wm_range_set(wm_range *range, int plan, sqlite3_value **argv, bool *is_empty);
void wm_range_clear(wm_range *range);

static inline bool wm_range_is_used(const wm_range *range) { return range->lower.used || range->upper.used; }
bool wm_range_has(const wm_range *range, const walmap_entry *entry);

#endif
