/*
** journal.h - the changes of a running transaction on the map of a durable table, to be written to its file
**
** The changes are collected as records (codec/block.h), one after another, beside those in the map. A savepoint is a
** mark of how many there were; what is undone in the map is cut off here. Functions that can fail return a WALMAP code.
*/
#ifndef WM_JOURNAL_H
#define WM_JOURNAL_H

#include "codec/block.h"

/* What the transaction had made of the log when a savepoint was marked. */
typedef struct wm_journal_mark {
  size_t size;
  uint64_t first, bytes;
} wm_journal_mark;

typedef struct wm_journal {
  uint8_t *records;
  size_t size, room;
  uint64_t first,
      bytes;   /* the log's oldest row, and what the log takes, without the rows that the transaction removed */
  bool clears; /* a change removes all entries; also when that was undone */
  wm_journal_mark *marks;
  int marks_room;
} wm_journal;

/* Room for `size` more bytes of records. */
int wm_journal_reserve(wm_journal *journal, size_t size);

/* Adds a change, for which there must be room. */
void wm_journal_add(wm_journal *journal, wm_change change, const walmap_entry *entry);

/* Marks the present as savepoint level n, and as levels from `levels` to n - 1. */
int wm_journal_mark_levels(wm_journal *journal, int levels, int n);

void wm_journal_cut(wm_journal *journal, const wm_journal_mark *mark);
void wm_journal_clear(wm_journal *journal); /* the transaction has ended; little memory is kept */
void wm_journal_free(wm_journal *journal);

#endif
