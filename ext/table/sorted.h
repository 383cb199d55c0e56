/*
** sorted.h - the rows of a scan in the order of their keys, for ORDER BY key
**
** All rows are collected, and then sorted only as far as they are read. The first row comes after a few passes over all
** rows, so min(key), or a page of a few rows, costs little more than a walk. The method is incremental quicksort (G.
** Navarro, R. Paredes, "On Sorting, Heaps, and Minimum Spanning Trees", 2010): rows are partitioned until the first
** part is short.
**
**   rows  [ read | in order |   part   |     part     |          part          ]
**              at ^  sorted ^      ends ^         ends ^                   ends ^      each part before the next
**
** A row takes 40 bytes while the cursor is open. Entries are not copied: the caller holds the state that the scan
** reads.
*/
#ifndef WM_SORTED_H
#define WM_SORTED_H

#include "walmap.h"

#define WM_SORTED_PARTS 128

typedef struct wm_sorted_row {
  uint64_t prefix; /* wm_codec_key_prefix; for a descending order, with all bits inverted */
  walmap_entry entry;
} wm_sorted_row;

/* Zeros are a valid value, without rows. */
typedef struct wm_sorted {
  wm_sorted_row *rows;
  size_t n, room;
  size_t at, sorted;
  size_t ends[WM_SORTED_PARTS];
  int parts;
  bool descending;
  uint64_t random;
} wm_sorted;

/* Frees all rows. Rows that are added from now on come in this order. */
void wm_sorted_clear(wm_sorted *sorted, bool descending);

/* One more row, before the first is read: WALMAP_OK or WALMAP_NOMEM. */
int wm_sorted_add(wm_sorted *sorted, const walmap_entry *entry);

/* The next row: false at the end. */
bool wm_sorted_next(wm_sorted *sorted, walmap_entry *entry);

#endif
