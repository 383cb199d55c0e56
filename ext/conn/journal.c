/*
** journal.c - the changes of a running transaction on the map of a durable table: see journal.h
*/
#include "conn/journal.h"

#include <sqlite3ext.h>
#include <string.h>

SQLITE_EXTENSION_INIT3

int wm_journal_reserve(wm_journal *j, size_t size) {
  enum { SMALLEST = 512 };
  size_t needed = j->size + size;
  if (needed <= j->room)
    return WALMAP_OK;
  size_t room = needed + needed / 2 + SMALLEST;
  uint8_t *larger = sqlite3_realloc64(j->records, room);
  if (larger == NULL)
    return WALMAP_NOMEM;
  j->records = larger;
  j->room = room;
  return WALMAP_OK;
}

void wm_journal_add(wm_journal *j, wm_change change, const walmap_entry *entry) {
  uint8_t *value =
      wm_record_write(j->records + j->size, change, entry->key, entry->key_len, entry->value_len, entry->expires);
  size_t size = wm_record_size(change, entry->key_len, entry->value_len, entry->expires);
  if (change == WM_CHANGE_PUT)
    memcpy(value, entry->value, entry->value_len);
  j->size += size;
  j->clears |= change == WM_CHANGE_CLEAR;
}

int wm_journal_mark_levels(wm_journal *j, int levels, int n) {
  if (n >= j->marks_room) {
    int room = n + 8;
    wm_journal_mark *larger = sqlite3_realloc64(j->marks, (uint64_t)room * sizeof *larger);
    if (larger == NULL)
      return WALMAP_NOMEM;
    j->marks = larger;
    j->marks_room = room;
  }
  for (int level = levels < n ? levels : n; level <= n; level++)
    j->marks[level] = (wm_journal_mark){j->size, j->first, j->bytes};
  return WALMAP_OK;
}

void wm_journal_cut(wm_journal *j, const wm_journal_mark *mark) {
  j->size = mark->size;
  j->first = mark->first;
  j->bytes = mark->bytes;
}

void wm_journal_clear(wm_journal *j) {
  enum { KEPT = 256 << 10 };
  j->size = 0;
  j->clears = false;
  if (j->room > KEPT)
    wm_journal_free(j);
}

void wm_journal_free(wm_journal *j) {
  sqlite3_free(j->records);
  sqlite3_free(j->marks);
  memset(j, 0, sizeof *j);
}
