/*
** transaction.c - the transactions of a connection on its maps
**
** SQLite calls transaction methods per sqlite3_vtab object. One map may have several objects in a transaction: two
** tables of one named map, or two objects of one table, since a rolled back schema change makes SQLite connect a table
** anew while the old object is still in the transaction. Each event then arrives several times, and no other event
** between. So all functions here are idempotent: begin once, commit at the first xCommit, mark a savepoint twice at the
** same point. One call is no repetition: the xSavepoint by which SQLite lets an object catch up when it joins late. It
** must not move a level that the map holds already.
**
** T3, T7: walmap_txn_commit and walmap_txn_rollback cannot fail. Everything that can fail did so in the write that
** needed it, or in xSync: evictions (wm_attachment_evict), and the rows of a durable table (durable/commit.c). T2:
** begin, commit and rollback change the generation, so that statements which start later read a newer state.
*/
#include "conn/transaction.h"

SQLITE_EXTENSION_INIT3

static void next_generation(wm_attachment *attachment) {
  attachment->generation++;
  attachment->current = attachment->own = NULL;   /* cursors and statements that read them hold references */
  attachment->conn->hooks->end_reads(attachment); /* functions read the next state */
}

/* The run of a statement that may write now: SAVEPOINT is none, and cannot run beside one. NULL: there is none. */
static sqlite3_stmt *find_writer(sqlite3 *db) {
  sqlite3_stmt *statement = NULL;
  while ((statement = sqlite3_next_stmt(db, statement)) != NULL) {
    if (sqlite3_stmt_busy(statement) && !sqlite3_stmt_readonly(statement))
      return statement;
  }
  return NULL;
}

static wm_writer describe_writer(sqlite3_stmt *statement) {
  wm_writer writer = {statement, 0, 0};
  if (statement != NULL) {
    writer.runs = sqlite3_stmt_status(statement, SQLITE_STMTSTATUS_RUN, 0);
    for (const char *at = sqlite3_sql(statement); at != NULL && *at != 0; at++)
      writer.text = writer.text * 31 + (unsigned char)*at;
  }
  return writer;
}

/* Whether the statement of the savepoint still runs. At its second row it is known that its release will come. */
static bool is_in_savepoint(wm_attachment *attachment, wm_event event) {
  const wm_writer *then = &attachment->writer;
  if (then->statement == NULL)
    return true;
  wm_writer now = describe_writer(find_writer(attachment->conn->db));
  if (now.statement != then->statement || now.runs != then->runs || now.text != then->text)
    return false;
  attachment->updates += event == WM_EVENT_UPDATE;
  if (attachment->updates > 1)
    attachment->writer.statement = NULL;
  return true;
}

void wm_attachment_statement(wm_attachment *attachment, wm_event event) {
  sqlite3 *db = attachment->conn->db;
  int changes = sqlite3_total_changes(db);
  bool is_same = sqlite3_get_autocommit(db) || attachment->current != NULL || attachment->own != NULL ||
                 (attachment->after_savepoint && changes == attachment->changes && is_in_savepoint(attachment, event));
  attachment->changes = changes;
  if (is_same)
    return;
  attachment->after_savepoint = false;
  walmap_txn_statement(attachment->txn);
}

void wm_attachment_note_savepoint(wm_attachment *attachment, bool catching_up) {
  attachment->after_savepoint = false;
  wm_attachment_statement(attachment, WM_EVENT_READ);
  sqlite3_stmt *writer = find_writer(attachment->conn->db);
  attachment->after_savepoint = writer != NULL;
  attachment->writer = catching_up ? describe_writer(writer) : (wm_writer){0};
  attachment->updates = 0;
}

void wm_attachment_note_release(wm_attachment *attachment) { attachment->after_savepoint = false; }

void wm_attachment_begin(wm_attachment *attachment) {
  if (wm_attachment_is_begun(attachment))
    return;
  walmap_txn_begin(attachment->txn);
  walmap_txn_set_tag(attachment->txn, attachment->tag);
  attachment->levels = 0;
  next_generation(attachment);
}

/* A durable table's evictions belong into its file, and were made when its rows were written (durable/commit.c). */
int wm_attachment_evict(wm_attachment *attachment) {
  if (!wm_attachment_is_begun(attachment) || attachment->map->history != NULL)
    return WALMAP_OK;
  return walmap_txn_evict(attachment->txn, NULL, NULL);
}

void wm_attachment_commit(wm_attachment *attachment) {
  if (!wm_attachment_is_begun(attachment))
    return;
  if (attachment->map->history != NULL)
    attachment->conn->hooks->commit(attachment);
  else
    walmap_txn_commit(attachment->txn);
  next_generation(attachment);
}

void wm_attachment_rollback(wm_attachment *attachment) {
  if (!wm_attachment_is_begun(attachment))
    return;
  if (attachment->map->history != NULL)
    attachment->conn->hooks->rollback(attachment);
  else
    walmap_txn_rollback(attachment->txn);
  attachment->undone++;
  next_generation(attachment);
}

int wm_attachment_savepoint(wm_attachment *attachment, int n, bool catching_up) {
  if (!wm_attachment_is_begun(attachment) || (catching_up && n < attachment->levels))
    return WALMAP_OK;
  if (attachment->map->history != NULL) {
    int result = wm_journal_mark_levels(&attachment->journal, attachment->levels, n);
    if (result != WALMAP_OK)
      return result;
  }
  walmap_txn_savepoint(attachment->txn, n);
  attachment->levels = n + 1;
  return WALMAP_OK;
}

void wm_attachment_release_to(wm_attachment *attachment, int n) {
  if (!wm_attachment_is_begun(attachment) || n >= attachment->levels)
    return;
  walmap_txn_release(attachment->txn, n);
  attachment->levels = n;
}

void wm_attachment_rollback_to(wm_attachment *attachment, int n) {
  if (!wm_attachment_is_begun(attachment) || n >= attachment->levels)
    return;
  walmap_txn_rollback_to(attachment->txn, n);
  if (attachment->map->history != NULL) {
    const wm_journal_mark begin = {0, attachment->base.first, attachment->base.bytes};
    wm_journal_cut(&attachment->journal, n < 0 ? &begin : &attachment->journal.marks[n]);
  }
  attachment->levels = n + 1;
  attachment->undone++;
  wm_attachment_changed(attachment);
}

int wm_attachment_reserve_change(wm_attachment *attachment, wm_change change, size_t key_len, size_t value_len) {
  enum { BESIDE = 128 }; /* bytes that the shadow table's row has beside the record, with some to spare */
  uint64_t limit = (uint64_t)sqlite3_limit(attachment->conn->db, SQLITE_LIMIT_LENGTH, -1);
  size_t size = wm_record_size(change, key_len, value_len, WALMAP_MAX_TIME); /* it may expire */
  return size + BESIDE > limit ? WALMAP_TOOBIG : wm_journal_reserve(&attachment->journal, size);
}

bool wm_attachment_begin_aside(wm_attachment *attachment) {
  if (wm_attachment_is_begun(attachment))
    return false;
  walmap_txn_begin(attachment->txn);
  return true;
}

void wm_attachment_end_aside(wm_attachment *attachment, bool began) {
  if (began)
    walmap_txn_rollback(attachment->txn);
}
