/* sorted.c - incremental quicksort of the rows of a scan (sorted.h has the picture) */
#include "table/sorted.h"

#include "codec/codec.h"

SQLITE_EXTENSION_INIT3

#define FIRST_ROOM 256
#define SHORT 24 /* rows of a part that is sorted by insertion */

void wm_sorted_clear(wm_sorted *s, bool descending) {
  sqlite3_free(s->rows);
  s->rows = NULL;
  s->n = s->room = s->at = s->sorted = 0;
  s->parts = 0;
  s->descending = descending;
}

int wm_sorted_add(wm_sorted *s, const walmap_entry *entry) {
  if (s->n == s->room) {
    size_t room = s->room == 0 ? FIRST_ROOM : s->room * 2;
    wm_sorted_row *rows = sqlite3_realloc64(s->rows, room * sizeof *rows);
    if (rows == NULL)
      return WALMAP_NOMEM;
    s->rows = rows;
    s->room = room;
  }
  uint64_t prefix = wm_codec_key_prefix(entry->key, entry->key_len);
  s->rows[s->n++] = (wm_sorted_row){s->descending ? ~prefix : prefix, *entry};
  s->ends[0] = s->n;
  s->parts = 1;
  return WALMAP_OK;
}

/* Whether a comes before b. All keys differ, so the result for equal keys does not matter. */
static inline bool row_is_before(const wm_sorted *s, const wm_sorted_row *a, const wm_sorted_row *b) {
  if (a->prefix != b->prefix)
    return a->prefix < b->prefix;
  int order = wm_codec_compare_keys(a->entry.key, a->entry.key_len, b->entry.key, b->entry.key_len);
  return s->descending ? order > 0 : order < 0;
}

static void swap_rows(wm_sorted_row *a, wm_sorted_row *b) {
  wm_sorted_row row = *a;
  *a = *b;
  *b = row;
}

static void sort_short(wm_sorted *s, size_t first, size_t end) {
  for (size_t i = first + 1; i < end; i++) {
    wm_sorted_row row = s->rows[i];
    size_t to = i;
    for (; to > first && row_is_before(s, &row, &s->rows[to - 1]); to--)
      s->rows[to] = s->rows[to - 1];
    s->rows[to] = row;
  }
}

/*
** Chooses by chance, and the map's random seed decides the order of the scan: so no choice of keys makes all partitions
** lopsided.
*/
static size_t choose_pivot(wm_sorted *s, size_t n) {
  s->random = s->random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
  return (size_t)((s->random >> 33) % n);
}

/* Hoare's partition of at least 2 rows. Returns where the second part starts; neither is empty. */
static size_t partition_rows(wm_sorted *s, size_t first, size_t end) {
  wm_sorted_row *rows = s->rows;
  swap_rows(&rows[first], &rows[first + choose_pivot(s, end - first)]);
  const wm_sorted_row pivot = rows[first];
  size_t i = first, j = end;
  for (;;) {
    do
      j--;
    while (row_is_before(s, &pivot, &rows[j]));
    while (row_is_before(s, &rows[i], &pivot))
      i++;
    if (i >= j)
      return j + 1;
    swap_rows(&rows[i++], &rows[j]);
  }
}

/* Sorts the part that begins at `at`, or its first short part. There are about log2(n) parts, far fewer than fit. */
static void sort_on(wm_sorted *s) {
  while (s->parts < WM_SORTED_PARTS && s->ends[s->parts - 1] - s->at > SHORT) {
    size_t middle = partition_rows(s, s->at, s->ends[s->parts - 1]);
    s->ends[s->parts++] = middle;
  }
  s->sorted = s->ends[--s->parts];
  sort_short(s, s->at, s->sorted);
}

bool wm_sorted_next(wm_sorted *s, walmap_entry *entry) {
  if (s->at == s->n)
    return false;
  if (s->at == s->sorted)
    sort_on(s);
  *entry = s->rows[s->at++].entry;
  return true;
}
