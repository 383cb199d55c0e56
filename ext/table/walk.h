/*
** walk.h - the rows of an ordered map within bounds, in the order of their keys
**
** A bound lets more keys through than its order alone (range.h). So a walk has up to three spans of keys, in order:
**
**    the bounds      from the lower to the upper bound
**    look-alikes     text behind the upper bound, and behind the lower one, that looks like a number: where the other
**                    side has numeric affinity, SQL compares it as that number, which is less than any text
**    blobs           those between the bounds that SQLite made of LIKE or GLOB, taken as blobs: both match blobs
**
** Text that looks like a number begins with a character before ':', so the second span ends there. It is left out where
** the map has no such text; where the bound is exact, a literal or parameter that is text or a blob; and where the
** bound is itself a text that looks like a number: a column of numeric affinity has none.
**
** In a UTF-16 database text is ordered otherwise than in the map: there a walk with bounds is one over all rows.
*/
#ifndef WM_WALK_H
#define WM_WALK_H

#include "table/range.h"

/* One end of a span: a key, which belongs to the span if `inclusive`; NULL: there is none. */
typedef struct wm_end {
  const uint8_t *key;
  size_t size;
  bool inclusive;
} wm_end;

typedef struct wm_span {
  wm_end from, to;
  bool look_alikes; /* only those */
} wm_span;

/* Filled with zeros, it is one without rows. */
typedef struct wm_walk {
  walmap_ordered_cursor cursor;
  wm_span spans[3];
  int n, at;
  bool descending, entered;
  int n_blobs;
  wm_key blobs[2]; /* ends of the third span */
} wm_walk;

/*
** Puts it before the first row. `state` must be held and `range` kept until the last row; text bounds without regard to
** case are folded in place. `look_alikes`: the map may have text that looks like a number. WALMAP_OK or
** WALMAP_NOMEM; clear it later in both cases.
*/
int wm_walk_start(wm_walk *walk, walmap_state *state, wm_range *range, bool descending, bool look_alikes);
void wm_walk_clear(wm_walk *walk);

/* The next entry: false at the end. *is_row is false where the entry lies among look-alikes and is none. */
bool wm_walk_next(wm_walk *walk, walmap_entry *entry, bool *is_row);

#endif
