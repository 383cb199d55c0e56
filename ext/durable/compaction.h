/*
** compaction.h - removing what is dead from the log in the file
**
** See compaction.c. Results are SQLite codes; the attachment's `failure` has the text.
*/
#ifndef WM_COMPACTION_H
#define WM_COMPACTION_H

#include "conn/conn.h"

/* In xSync, before the transaction's rows are written: removes old rows, if the log takes too much. */
int wm_compaction_some(wm_table *table);

/* Removes all rows that there were before the transaction. */
int wm_compaction_all(wm_table *table);

/* What the log takes with the rows of the transaction. */
uint64_t wm_compaction_bytes_after(const wm_table *table);

/* Bytes of a block, head included, that the connection allows in a BLOB, WM_BLOCK_SIZE at most. */
size_t wm_compaction_block_limit(const wm_table *table);

#endif
