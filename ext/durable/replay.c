/*
** replay.c - the rows of a shadow table, applied to a map: see replay.h
*/
#include "durable/replay.h"

#include "codec/block.h"
#include "conn/error.h"

#include <string.h>

SQLITE_EXTENSION_INIT3

/* With the expiry that it has, whatever the map's ttl is. */
static int put_entry(walmap_txn *txn, const walmap_entry *entry) {
  void *to;
  int result = walmap_txn_reserve_expiring(txn, WALMAP_ALWAYS, entry->key, entry->key_len, entry->value_len,
                                           entry->expires, &to);
  if (result == WALMAP_OK && entry->value_len > 0)
    memcpy(to, entry->value, entry->value_len);
  return result;
}

static int apply(wm_replay *r, const wm_record *record) {
  const walmap_entry *entry = &record->entry;
  switch (record->change) {
  case WM_CHANGE_PUT:
    wm_registry_note_key(r->table->attachment->map, entry->key, entry->key_len);
    return put_entry(r->txn, entry);
  case WM_CHANGE_REMOVE: {
    int result = walmap_txn_remove(r->txn, entry->key, entry->key_len);
    return result == WALMAP_NOTFOUND ? WALMAP_OK : result;
  }
  default:
    r->clears = true;
    return walmap_txn_clear(r->txn, NULL);
  }
}

/* What contradicts the row before, or NULL. */
static const char *check_order(const wm_replay *r, const wm_log_row *row, const wm_block_head *head) {
  if (r->at.seq == 0)
    return NULL;
  if (row->seq != r->at.seq + 1)
    return "the row before it is missing";
  if (head->previous != r->at.chain)
    return "it does not follow the row before it";
  if (head->first < r->at.first)
    return "it names an older row as the oldest than the row before it";
  if (head->index != (r->more ? r->index + 1 : 0))
    return "it is not the row of a transaction that it says to be";
  return NULL;
}

uint64_t wm_replay_piece(const walmap *map) {
  enum { PARTS = 8 };
  return walmap_get_options(map)->max_bytes / PARTS;
}

static void commit_piece(wm_replay *r) {
  walmap_txn_commit(r->txn);
  walmap_txn_begin(r->txn);
  walmap_txn_ignore_bounds(r->txn);
  r->kept = r->read;
}

static int replay_row(void *ctx, const wm_log_row *row) {
  wm_replay *r = ctx;
  wm_block block;
  wm_record record;
  bool more = true;
  const char *wrong = wm_block_open(&block, row->seq, row->chain, row->block, row->size);
  if (wrong == NULL)
    wrong = check_order(r, row, &block.head);
  if (wrong != NULL)
    return wm_log_damaged(r->table, row->seq, wrong);
  walmap_txn_set_tag(r->txn, wm_replay_tag(row->seq, block.head.index));
  while (wrong == NULL && more) {
    wrong = wm_block_next(&block, &record, &more);
    if (wrong != NULL || !more)
      continue;
    int result = apply(r, &record);
    if (result != WALMAP_OK)
      return wm_log_fail(r->table, wm_error_code(result), wm_error_text(result, r->table->name, r->table->attachment));
  }
  if (wrong != NULL)
    return wm_log_damaged(r->table, row->seq, wrong);
  if (r->oldest == 0)
    r->oldest = row->seq;
  r->at = (wm_version){row->seq, row->chain, block.head.first, block.head.bytes};
  r->more = block.head.more;
  r->index = block.head.index;
  r->read += row->size;
  if (r->piece != 0 && r->read - r->kept >= r->piece)
    commit_piece(r);
  return SQLITE_OK;
}

int wm_replay_run(wm_replay *r) {
  bool whole = r->at.seq == 0;
  int rc = wm_log_each(r->table, r->at.seq + 1, replay_row, r);
  if (rc != SQLITE_OK)
    return rc;
  if (r->oldest == 0 && whole)
    return wm_log_damaged(r->table, 1, "there are no rows");
  if (whole && r->oldest != r->at.first)
    return wm_log_damaged(r->table, r->at.first, "it is missing, or should have been removed");
  if (r->more)
    return wm_log_damaged(r->table, r->at.seq + 1, "it is missing, and the transaction in the row before goes on");
  return SQLITE_OK;
}
