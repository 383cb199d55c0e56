/*
** block.h - the blocks of a durable table's log, byte by byte
**
** A durable table keeps its changes in rows (seq, chain, block) of its shadow table; ext/DURABLE.md has the format and
** a worked example. This file knows the bytes of a block and nothing of tables, maps and transactions.
**
** A block is a head and records. A record is a change: an entry that was put, a key that was removed, or the removal of
** all entries before it. The records of a transaction are collected one after another (conn/journal.h) and cut into
** blocks when it commits.
**
** Blocks come from a file, so the reader trusts nothing: it returns what is wrong as a text, reads no byte outside of
** the block, and needs no memory.
*/
#ifndef WM_BLOCK_H
#define WM_BLOCK_H

#include "walmap.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WM_BLOCK_VERSION 1
#define WM_BLOCK_HEAD 40      /* bytes */
#define WM_BLOCK_MORE 1       /* flag: the transaction goes on in the next row */
#define WM_BLOCK_SIZE 65536   /* bytes of a block at which its writer begins the next one */
#define WM_RECORD_OVERHEAD 27 /* bytes of a record beside its key and value, at most */

typedef enum wm_change { WM_CHANGE_PUT = 1, WM_CHANGE_REMOVE, WM_CHANGE_CLEAR } wm_change;

typedef struct wm_block_head {
  bool more;
  uint64_t first;    /* seq of the oldest row of the log, once this block is committed */
  uint64_t previous; /* chain of the row before this one; 0 for row 1 */
  uint64_t bytes;    /* what the rows from `first` to this one take in the file: wm_block_append */
  uint32_t index;    /* rows that the transaction has before this one */
} wm_block_head;

typedef struct wm_record {
  wm_change change;
  walmap_entry entry; /* PUT; the key alone of REMOVE */
} wm_record;

/* A block that is being read. Its fields are private but for the head. */
typedef struct wm_block {
  wm_block_head head;
  const uint8_t *at, *end;
} wm_block;

/* ------------------------------------------------------------------------------------------------------------------ */
/* Writing                                                                                                            */

/* Bytes of a record; `expires` as in walmap_entry, which only a put has. */
size_t wm_record_size(wm_change change, size_t key_len, size_t value_len, uint64_t expires);

/* Writes a record but for its value, whose bytes go to the returned address. */
uint8_t *wm_record_write(uint8_t *to, wm_change change, const void *key, size_t key_len, size_t value_len,
                         uint64_t expires);

/* Bytes of the records from `at` that go into one block of at most `limit` bytes with its head; at least one record. */
size_t wm_block_cut(const uint8_t *at, const uint8_t *end, size_t limit);

/* Writes the head of a block of `size` bytes of records, WM_BLOCK_HEAD bytes. */
void wm_block_write_head(uint8_t *to, const wm_block_head *head, size_t size);

/* The chain of row `seq`, which holds this block. */
uint64_t wm_block_chain(uint64_t seq, const void *block, size_t size);

/*
** `bytes` of wm_block_head, which ext/DURABLE.md defines: when another row is added, with a block of this size; the
** pages that a row has begun, where `bytes` is its own head's; and when the rows that began so many pages are gone.
*/
uint64_t wm_block_append(uint64_t bytes, uint64_t seq, size_t size);
uint64_t wm_block_pages(uint64_t bytes, uint64_t seq, size_t size);
uint64_t wm_block_without(uint64_t bytes, uint64_t pages);

/* ------------------------------------------------------------------------------------------------------------------ */
/* Reading                                                                                                            */

/* Opens the block of row `seq`. NULL, or what is wrong with it. */
const char *wm_block_open(wm_block *block, uint64_t seq, uint64_t chain, const void *bytes, size_t size);

/* The next record; its pointers lead into the block. *more is false at the end. NULL, or what is wrong. */
const char *wm_block_next(wm_block *block, wm_record *record, bool *more);

#endif
