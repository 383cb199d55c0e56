/*
** commit.c - writing a transaction's changes to the file, and what becomes of them (durable.h)
**
** xSync writes the rows. Whether SQLite then commits the file is not known before xCommit or xRollback, and xRollback
** proves nothing: where a transaction spans several files, one may be committed and the next one fail. So xRollback
** undoes the changes in the map, and the next read looks at the file and applies the rows if they are there. xCommit
** shows them only if the map is still where the transaction began.
*/
#include "durable/durable.h"

#include "codec/block.h"
#include "conn/error.h"
#include "conn/transaction.h"
#include "durable/compaction.h"
#include "durable/log.h"
#include "durable/replay.h"

#include <string.h>

SQLITE_EXTENSION_INIT3

/* ------------------------------------------------------------------------------------------------------------------ */
/* xSync                                                                                                              */

/* Writes one row of the transaction after *version, which is that row then. */
static int write_row(wm_table *table, const uint8_t *records, size_t size, bool more, wm_version *version) {
  if (version->seq >= INT64_MAX) /* no transaction of ours has counted so far */
    return wm_log_damaged(table, version->seq, "no row can come after it");
  uint8_t *block = sqlite3_malloc64(WM_BLOCK_HEAD + size);
  if (block == NULL)
    return wm_log_fail(table, SQLITE_NOMEM, NULL);
  uint64_t bytes = wm_block_append(version->bytes, version->seq + 1, WM_BLOCK_HEAD + size);
  const wm_block_head head = {more, version->first, version->chain, bytes,
                              (uint32_t)(version->seq - table->attachment->base.seq)};
  wm_block_write_head(block, &head, size);
  if (size > 0)
    memcpy(block + WM_BLOCK_HEAD, records, size);
  wm_log_row row = {.seq = version->seq + 1, .block = block, .size = WM_BLOCK_HEAD + size};
  row.chain = wm_block_chain(row.seq, block, row.size);
  int rc = wm_log_insert(table, &row);
  sqlite3_free(block);
  *version = (wm_version){row.seq, row.chain, version->first, bytes};
  return rc;
}

/* All changes of the transaction; a row without any where it has only removed others. */
static int write_rows(wm_table *table, wm_version *version) {
  wm_attachment *attachment = table->attachment;
  const wm_journal *journal = &attachment->journal;
  size_t limit = wm_compaction_block_limit(table), at = 0;
  int rc;
  *version = attachment->base;
  version->first = journal->first;
  version->bytes = journal->bytes;
  do {
    const uint8_t *records = journal->records + at;
    size_t size = journal->size == 0 ? 0 : wm_block_cut(records, journal->records + journal->size, limit);
    at += size;
    rc = write_row(table, records, size, at < journal->size, version);
  } while (rc == SQLITE_OK && at < journal->size);
  return rc;
}

/* R8: notes the removal before it is made. */
static int note_eviction(void *ctx, const walmap_entry *entry) {
  wm_attachment *attachment = ctx;
  int result = wm_attachment_reserve_change(attachment, WM_CHANGE_REMOVE, entry->key_len, 0);
  if (result == WALMAP_OK)
    wm_journal_add(&attachment->journal, WM_CHANGE_REMOVE, entry);
  return result;
}

/* R6: brings the transaction's map within its bounds, unless it has done nothing but a checkpoint (R9). */
static int evict_and_note(wm_attachment *attachment) {
  wm_journal *journal = &attachment->journal;
  const size_t size = journal->size;
  if (attachment->evicted_writes == attachment->writes)
    return WALMAP_OK;
  int result = walmap_txn_evict(attachment->txn, note_eviction, attachment);
  if (result != WALMAP_OK)
    journal->size = size;
  if (journal->size != size)
    wm_attachment_changed(attachment);
  if (result == WALMAP_OK)
    attachment->evicted_writes = attachment->writes;
  return result;
}

static bool map_is_unchanged(const wm_attachment *attachment) {
  if (attachment->synced)
    return attachment->synced_writes == attachment->writes;
  return attachment->journal.size == 0 && attachment->journal.first == attachment->base.first;
}

int wm_durable_sync(wm_table *table) {
  wm_attachment *attachment = table->attachment;
  wm_history *h = attachment->map->history;
  wm_version version;
  if (h == NULL || !wm_attachment_is_begun(attachment) || map_is_unchanged(attachment))
    return WALMAP_OK;
  if (!table->listed)
    return WALMAP_OK; /* it was dropped, which SQLite does not tell older objects of it; another may have its name */
  int rc = attachment->synced ? wm_log_remove_after(table, attachment->base.seq) : SQLITE_OK;
  int result = rc == SQLITE_OK ? evict_and_note(attachment) : WALMAP_OK;
  if (result != WALMAP_OK)
    return result;
  if (rc == SQLITE_OK)
    rc = wm_compaction_some(table); /* R9: after the evictions */
  if (rc == SQLITE_OK)
    rc = write_rows(table, &version);
  if (rc != SQLITE_OK)
    return -rc;
  attachment->synced = true;
  attachment->synced_writes = attachment->writes;
  pthread_mutex_lock(&h->mutex);
  h->committer = attachment;
  h->pending = version;
  pthread_mutex_unlock(&h->mutex);
  return WALMAP_OK;
}

int wm_durable_sync_attachment(wm_attachment *attachment) {
  wm_table *table = attachment->conn->tables;
  while (table != NULL && table->attachment != attachment)
    table = table->next;
  if (table == NULL)
    return WALMAP_OK;
  int result = wm_durable_sync(table);
  wm_log_forget(table); /* it may have no sqlite3_vtab object, whose end would finalize the statements */
  return result;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* xCommit, xRollback                                                                                                 */

/* Under the mutex. */
static void end(wm_attachment *attachment) {
  wm_history *h = attachment->map->history;
  if (h->committer == attachment)
    h->committer = NULL;
  h->writers -= attachment->counted;
  attachment->counted = false;
  pthread_cond_broadcast(&h->changed);
  attachment->synced = false;
}

void wm_durable_commit(wm_attachment *attachment) {
  wm_history *h = attachment->map->history;
  walmap_txn_ignore_bounds(attachment->txn); /* R7 */
  pthread_mutex_lock(&h->mutex);
  if (!attachment->synced && map_is_unchanged(attachment)) {
    walmap_txn_commit(attachment->txn);
  } else if (attachment->synced && h->committer == attachment && wm_version_is(&h->head, &attachment->base)) {
    wm_history_make_room(h, attachment->txn, attachment->journal.clears); /* R11 */
    walmap_txn_commit(attachment->txn);
    wm_history_advance(h, &h->pending, attachment->journal.size);
  } else {
    walmap_txn_rollback(
        attachment->txn); /* the table was dropped, or another connection has seen more of the file already */
  }
  end(attachment);
  pthread_mutex_unlock(&h->mutex);
  wm_journal_clear(&attachment->journal);
}

void wm_durable_rollback(wm_attachment *attachment) {
  wm_history *h = attachment->map->history;
  walmap_txn_rollback(attachment->txn);
  pthread_mutex_lock(&h->mutex);
  end(attachment);
  pthread_mutex_unlock(&h->mutex);
  wm_journal_clear(&attachment->journal);
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Folding                                                                                                            */

/* R9: what it puts again is no reason to evict. */
int wm_durable_checkpoint(wm_table *table, uint64_t *bytes) {
  wm_attachment *attachment = table->attachment;
  bool within_bounds = attachment->evicted_writes == attachment->writes;
  int rc = wm_compaction_all(table);
  if (within_bounds)
    attachment->evicted_writes = attachment->writes;
  *bytes = wm_compaction_bytes_after(table);
  return -rc;
}
