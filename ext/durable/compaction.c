/*
** compaction.c - removing what is dead from the log in the file: see compaction.h
**
** Rows leave the log at its oldest end only. What is still alive in them is put again by the transaction that removes
** them, at the end of its own changes: so the state is always the replay of all rows in order (R1), a removed key needs
** no care (what came before its removal went before it), and ROLLBACK undoes everything together (R3). It happens in
** transactions that write, which have found the map equal to the file (R4), in pieces (R5).
**
** A put is alive if the map's entry of its key carries the tag of the row's transaction, and has that value (R2): so
** an old put whose value has come back is dead. The tag has 32 bits, so once in 2^32 rows a dead put counts as alive,
** and is put again; never the other way, for what is put again gets its new row's tag.
**
** Nothing here depends on the map's order: the same rows give the same rows on every machine.
*/
#include "durable/compaction.h"

#include "codec/block.h"
#include "conn/error.h"
#include "conn/transaction.h"
#include "durable/log.h"
#include "durable/replay.h"

#include <string.h>

SQLITE_EXTENSION_INIT3

enum {
  SLACK = 512 << 10,     /* bytes of a log that are left alone */
  PASS_LEAST = 64 << 10, /* bytes of blocks that one pass removes */
  PASS_MOST = 1 << 20,
  FACTOR = 4, /* of what the transaction writes */
};

typedef struct pass {
  wm_table *table;
  uint64_t budget, removed; /* bytes of blocks */
  uint64_t pages;           /* that go with the rows */
  uint64_t last;            /* seq of the last row that may go */
  uint64_t next;            /* seq of the first row that stays */
} pass;

/* ------------------------------------------------------------------------------------------------------------------ */
/* Figures                                                                                                            */

size_t wm_compaction_block_limit(const wm_table *table) {
  enum { ROW = 64 }; /* of the row beside the block */
  int limit = sqlite3_limit(table->conn->db, SQLITE_LIMIT_LENGTH, -1);
  size_t allowed = limit > ROW + WM_BLOCK_HEAD ? (size_t)limit - ROW : WM_BLOCK_HEAD;
  return allowed < WM_BLOCK_SIZE ? allowed : WM_BLOCK_SIZE;
}

uint64_t wm_compaction_bytes_after(const wm_table *table) {
  const wm_journal *journal = &table->attachment->journal;
  size_t limit = wm_compaction_block_limit(table);
  uint64_t bytes = journal->bytes, seq = table->attachment->base.seq;
  for (size_t at = 0, size; at < journal->size; at += size) {
    size = wm_block_cut(journal->records + at, journal->records + journal->size, limit);
    bytes = wm_block_append(bytes, ++seq, WM_BLOCK_HEAD + size);
  }
  return bytes;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* A pass                                                                                                             */

static int compaction_failed(wm_table *table, int result) {
  return wm_log_fail(table, wm_error_code(result), wm_error_text(result, table->name, table->attachment));
}

static bool is_alive(const walmap_entry *now, uint32_t tag, const walmap_entry *put, uint32_t tag_of_row) {
  return tag == tag_of_row && now->value_len == put->value_len && now->expires == put->expires &&
         memcmp(now->value, put->value, put->value_len) == 0;
}

/* Through the map, whose entry gets the transaction's tag: further puts of the key are dead then. */
static int put_again(const pass *p, const walmap_entry *put, uint32_t tag_of_row) {
  wm_attachment *attachment = p->table->attachment;
  walmap_entry now;
  uint32_t tag;
  void *to;
  int result = walmap_txn_get_tagged(attachment->txn, put->key, put->key_len, &now, &tag);
  if (result == WALMAP_NOTFOUND || (result == WALMAP_OK && !is_alive(&now, tag, put, tag_of_row)))
    return WALMAP_OK;
  if (result == WALMAP_OK)
    result = wm_journal_reserve(&attachment->journal,
                                wm_record_size(WM_CHANGE_PUT, put->key_len, put->value_len, put->expires));
  if (result == WALMAP_OK)
    result = walmap_txn_reserve_expiring(attachment->txn, WALMAP_ALWAYS, put->key, put->key_len, put->value_len,
                                         put->expires, &to);
  if (result != WALMAP_OK)
    return result;
  if (put->value_len > 0)
    memcpy(to, put->value, put->value_len);
  wm_journal_add(&attachment->journal, WM_CHANGE_PUT, put);
  return WALMAP_OK;
}

static int pass_row(void *ctx, const wm_log_row *row) {
  pass *p = ctx;
  wm_block block;
  wm_record record;
  bool more = true;
  if (p->removed >= p->budget || row->seq > p->last)
    return SQLITE_DONE;
  const char *wrong = wm_block_open(&block, row->seq, row->chain, row->block, row->size);
  while (wrong == NULL && more) {
    wrong = wm_block_next(&block, &record, &more);
    if (wrong != NULL || !more || record.change != WM_CHANGE_PUT)
      continue;
    int result = put_again(p, &record.entry, wm_replay_tag(row->seq, block.head.index));
    if (result != WALMAP_OK)
      return compaction_failed(p->table, result);
  }
  if (wrong != NULL)
    return wm_log_damaged(p->table, row->seq, wrong);
  p->removed += row->size;
  p->pages += wm_block_pages(block.head.bytes, row->seq, row->size);
  p->next = row->seq + 1;
  return SQLITE_OK;
}

/*
** What was put again stays in the journal when it fails: the statement, or COMMIT, fails with it. But where a row is
** too long for the connection's SQLITE_LIMIT_LENGTH, the pass ends before it, and the log grows until a connection with
** a higher limit writes.
*/
static int remove_oldest_rows(wm_table *table, uint64_t budget) {
  wm_attachment *attachment = table->attachment;
  wm_journal *journal = &attachment->journal;
  pass p = {.table = table, .budget = budget, .last = attachment->base.seq, .next = journal->first};
  int rc = wm_log_each(table, journal->first, pass_row, &p);
  if (rc == SQLITE_DONE || rc == SQLITE_TOOBIG)
    rc = SQLITE_OK;
  if (rc == SQLITE_OK && p.next > journal->first)
    rc = wm_log_remove_before(table, p.next);
  if (rc == SQLITE_OK && p.next > journal->first) {
    journal->first = p.next;
    journal->bytes = p.next > p.last ? 0 : wm_block_without(journal->bytes, p.pages);
    wm_attachment_changed(attachment); /* the rows are to be written even if they were before */
  }
  return rc;
}

int wm_compaction_some(wm_table *table) {
  wm_attachment *attachment = table->attachment;
  const wm_journal *journal = &attachment->journal;
  uint64_t after = wm_compaction_bytes_after(table), own = after - journal->bytes;
  uint64_t live = walmap_txn_size(attachment->txn) - walmap_txn_reclaimable(attachment->txn);
  if (after <= live / 2 * 5 + SLACK || journal->first > attachment->base.seq)
    return SQLITE_OK;
  uint64_t budget = FACTOR * own;
  budget = budget < PASS_LEAST ? PASS_LEAST : budget;
  return remove_oldest_rows(table, budget < PASS_MOST ? budget : PASS_MOST);
}

int wm_compaction_all(wm_table *table) {
  if (table->attachment->journal.first > table->attachment->base.seq)
    return SQLITE_OK;
  return remove_oldest_rows(table, UINT64_MAX);
}
