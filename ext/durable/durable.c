/*
** durable.c - bringing the map to what the file has: see durable.h
**
** A read begins with the last row of the shadow table, as the connection's snapshot of the file has it: this is the
** version that the read must see (D2). Then, in this order:
**
**    the map shows it, or did so a moment ago (conn/history.h)      a state of the map
**    the file is ahead, and has the map's row with the map's chain  the rows after it are applied to the map first
**    nothing was loaded yet, or the map went another way            the map is loaded anew, if that hinders no other
**    otherwise                                                      the connection makes a copy of its own
**
** A sequence number alone would not do: a file may come back to an older state and take another course from there (D4).
** The chain of a row depends on all rows before it, so equal chains are equal contents.
**
** The map is moved by one connection at a time, the one that has set `catching_up`, or by a transaction that commits.
** Under load the file's row is often committed a moment before xCommit shows it in the map. Then readers wait for
** xCommit, which is on its way (`committer`). No connection waits for a transaction that is still open: what it has not
** committed to the file is no reader's version.
*/
#include "durable/durable.h"

#include "conn/error.h"
#include "conn/transaction.h"
#include "durable/log.h"
#include "durable/replay.h"
#include "durable/replica.h"
#include "platform/platform.h"

#include <string.h>

SQLITE_EXTENSION_INIT3

static int negate(int rc) { return -rc; }

/* A table of the attachment, by which its shadow table is reached. NULL: it was dropped. */
static wm_table *table_of_attachment(const wm_attachment *attachment) {
  wm_table *table = attachment->conn->tables;
  while (table != NULL && table->attachment != attachment)
    table = table->next;
  return table;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Waiting for another connection                                                                                     */

typedef struct patience {
  bool known;
  uint32_t left; /* ms */
} patience;

/* At least the default: what a connection waits for here are short steps of others, and no open transaction. */
static uint32_t busy_timeout_of(const wm_attachment *attachment) {
  uint32_t timeout = walmap_get_options(attachment->map->map)->busy_timeout;
  if (timeout == WALMAP_TIMEOUT_OF_SESSION)
    timeout = wm_conn_busy_timeout(attachment->conn);
  return timeout > WALMAP_DEFAULT_BUSY_TIMEOUT ? timeout : WALMAP_DEFAULT_BUSY_TIMEOUT;
}

/* Under the mutex. Some ms, or less if something changes. WALMAP_OK, BUSY or INTERRUPT. */
static int wait_a_little(const wm_attachment *attachment, wm_history *h, patience *patience) {
  enum { SLICE = 5 };
  if (!patience->known) { /* the question runs a statement */
    pthread_mutex_unlock(&h->mutex);
    *patience = (struct patience){true, busy_timeout_of(attachment)};
    pthread_mutex_lock(&h->mutex);
    return WALMAP_OK;
  }
  if (patience->left == 0)
    return WALMAP_BUSY;
  patience->left -= patience->left < SLICE ? patience->left : SLICE;
  walmap__condition_wait(&h->changed, &h->mutex, walmap__monotonic_now() + SLICE * INT64_C(1000000));
  pthread_mutex_unlock(&h->mutex); /* the question may run a statement */
  bool interrupted = wm_conn_is_interrupted(attachment->conn);
  pthread_mutex_lock(&h->mutex);
  return interrupted ? WALMAP_INTERRUPT : WALMAP_OK;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Moving the map                                                                                                     */

typedef enum way { READY, APPLY, LOAD, COPY } way;

/*
** Under the mutex, which it gives up while it waits: what is to be done for this version. With APPLY and LOAD it has
** set `catching_up`, so no other connection moves the map until the caller clears that.
*/
static int choose_way(wm_attachment *attachment, const wm_version *version, bool writes, way *way) {
  wm_history *h = attachment->map->history;
  patience patience = {.known = false};
  for (;;) {
    bool moving = h->catching_up || (h->committer != NULL && h->committer != attachment);
    if (wm_version_is(&h->head, version) ? !(writes && h->catching_up) : (!writes && wm_history_has(h, version))) {
      *way = READY;
      return WALMAP_OK;
    }
    if (!moving)
      break;
    if (!writes && !h->catching_up && version->seq < h->pending.seq) {
      *way = COPY; /* what is committed now does not concern it */
      return WALMAP_OK;
    }
    int result = wait_a_little(attachment, h, &patience);
    *way = COPY;
    if (result != WALMAP_OK) /* a reader that has waited in vain need not fail */
      return result == WALMAP_BUSY && !writes ? WALMAP_OK : result;
  }
  *way = LOAD;
  if (h->head.seq > 0 && version->seq > h->head.seq)
    *way = APPLY;
  else if (h->head.seq > 0 && !writes)
    *way = COPY;
  h->catching_up = *way != COPY;
  return WALMAP_OK;
}

/* Whether the file goes on from the version that the map shows. An SQLite code. */
static int find_continuation(wm_table *table, const wm_version *head, bool *found) {
  uint64_t chain;
  int rc = wm_log_chain(table, head->seq, &chain);
  *found = rc == SQLITE_OK && chain == head->chain;
  return rc == SQLITE_NOTFOUND ? SQLITE_OK : rc;
}

/* Whether the map may be loaded anew by a connection that only reads: not when a transaction has changes in it. */
static bool may_load(const wm_history *h, bool writes) { return writes || h->writers == 0; }

/* Applies rows to the map, in a transaction of its own. An SQLite code. */
static int move_map(wm_table *table, const wm_version *from) {
  wm_attachment *attachment = table->attachment;
  wm_history *h = attachment->map->history;
  wm_replay replay = {.table = table, .txn = attachment->txn};
  walmap_txn_begin(attachment->txn);
  walmap_txn_ignore_bounds(attachment->txn); /* R7 */
  int rc = SQLITE_OK;
  if (from != NULL)
    replay.at = *from;
  else if (walmap_size(h->map) > 0) /* of another version, or of a loading that failed */
    rc = wm_error_code(walmap_txn_clear(attachment->txn, NULL));
  if (h->head.seq == 0)
    replay.piece = wm_replay_piece(h->map);
  if (rc == SQLITE_OK)
    rc = wm_replay_run(&replay);
  if (rc != SQLITE_OK) {
    /* After some errors SQLite has rolled everything back, and told the control table, which did the same here. */
    if (walmap_txn_is_begun(attachment->txn))
      walmap_txn_rollback(attachment->txn);
    return rc;
  }
  pthread_mutex_lock(&h->mutex);
  wm_history_make_room(h, attachment->txn, from == NULL || replay.clears); /* R11 */
  walmap_txn_commit(attachment->txn);
  wm_history_advance(h, &replay.at, replay.read);
  pthread_mutex_unlock(&h->mutex);
  return SQLITE_OK;
}

/* APPLY and LOAD; *copy: the map is better left alone. An SQLite code. */
static int move(wm_table *table, way way, bool writes, bool *copy) {
  wm_history *h = table->attachment->map->history;
  wm_version head = h->head; /* which no other connection changes now */
  bool continues = false;
  int rc = way == APPLY ? find_continuation(table, &head, &continues) : SQLITE_OK;
  if (rc != SQLITE_OK)
    return rc;
  if (continues)
    return move_map(table, &head);
  pthread_mutex_lock(&h->mutex);
  *copy = h->head.seq > 0 && !may_load(h, writes);
  pthread_mutex_unlock(&h->mutex);
  return *copy ? SQLITE_OK : move_map(table, NULL);
}

/* Makes the map show this version, the file's, or have it at hand; or *copy. A result as in durable.h. */
static int catch_up(wm_table *table, const wm_version *version, bool writes, bool *copy) {
  wm_attachment *attachment = table->attachment;
  wm_history *h = attachment->map->history;
  way way;
  pthread_mutex_lock(&h->mutex);
  int result = choose_way(attachment, version, writes, &way);
  pthread_mutex_unlock(&h->mutex);
  *copy = result == WALMAP_OK && way == COPY;
  if (result != WALMAP_OK || way == READY || way == COPY)
    return result;
  int rc = move(table, way, writes, copy);
  pthread_mutex_lock(&h->mutex);
  h->catching_up = false;
  pthread_cond_broadcast(&h->changed);
  pthread_mutex_unlock(&h->mutex);
  return negate(rc);
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Reading                                                                                                            */

static int acquire_copy(wm_table *table, const wm_version *version, wm_read_state **out) {
  wm_attachment *attachment = table->attachment;
  if (attachment->replica == NULL || !wm_version_is(&attachment->replica->version, version)) {
    wm_replica_release(attachment->replica);
    attachment->replica = NULL;
    int result = wm_replica_make(table, &attachment->replica);
    if (result != WALMAP_OK)
      return result;
  }
  return wm_read_state_of_replica(attachment, attachment->replica, out);
}

static int fail_dropped(wm_attachment *attachment) {
  sqlite3_free(attachment->failure);
  attachment->failure = sqlite3_mprintf(WM_MODULE ": the durable table of this statement was dropped");
  return -SQLITE_SCHEMA;
}

/* A state of this version, if there is one at hand. NOTFOUND if not. */
static int acquire_known(wm_attachment *attachment, const wm_version *version, wm_read_state **out) {
  if (attachment->current != NULL && wm_version_is(&attachment->current->version, version)) {
    attachment->current->references++;
    *out = attachment->current;
    return WALMAP_OK;
  }
  return wm_read_state_of_version(attachment, version, out);
}

/* Within a read transaction. What is at hand may be forgotten before it is begun, where others commit thousands. */
static int acquire_any(wm_table *table, const wm_version *version, wm_read_state **out) {
  enum { TRIES = 3 };
  bool copy = false;
  for (int i = 0; i < TRIES && !copy; i++) {
    int result = catch_up(table, version, false, &copy);
    copy |= result == -SQLITE_BUSY; /* a part of the map stayed locked, by a compaction perhaps */
    if (result == WALMAP_OK && !copy)
      result = acquire_known(table->attachment, version, out);
    if (result != WALMAP_NOTFOUND && !copy)
      return result;
  }
  return acquire_copy(table, version, out);
}

int wm_durable_acquire(wm_attachment *attachment, wm_read_state **out) {
  wm_table *table = table_of_attachment(attachment);
  wm_version version;
  if (table == NULL)
    return fail_dropped(attachment);
  int rc = wm_log_top(table, &version);
  if (rc != SQLITE_OK)
    return negate(rc);
  int result = acquire_known(attachment, &version, out);
  if (result != WALMAP_NOTFOUND)
    return result;
  wm_log_hold hold;
  rc = wm_log_begin_hold(table, &hold);
  if (rc == SQLITE_OK)
    rc = wm_log_top(table, &version);
  result = rc == SQLITE_OK ? acquire_any(table, &version, out) : negate(rc);
  wm_log_end_hold(&hold);
  return result;
}

/* A read transaction that another statement has begun counts, though that statement may end before this one. */
int wm_durable_begin_hold(wm_attachment *attachment, wm_log_hold *hold) {
  sqlite3 *db = attachment->conn->db;
  hold->table = NULL;
  if (attachment->map->history == NULL || wm_attachment_is_begun(attachment) || !sqlite3_get_autocommit(db))
    return WALMAP_OK;
  wm_table *table = table_of_attachment(attachment);
  if (table == NULL || sqlite3_txn_state(db, table->schema) != SQLITE_TXN_NONE)
    return WALMAP_OK;
  return negate(wm_log_begin_hold(table, hold));
}

void wm_durable_end_holds(wm_conn *conn) {
  for (wm_table *table = conn->tables; table != NULL; table = table->next)
    wm_log_end_holds(table);
}

int wm_durable_refresh(wm_table *table) {
  wm_read_state *state = NULL;
  if (!wm_durable_is(table) || wm_attachment_is_begun(table->attachment))
    return WALMAP_OK;
  int result = wm_durable_acquire(table->attachment, &state);
  if (result == WALMAP_OK)
    wm_read_state_release(state);
  return result;
}

void wm_durable_let_go(wm_table *table) {
  wm_history *h = table->attachment->map->history;
  if (h == NULL)
    return;
  pthread_mutex_lock(&h->mutex);
  wm_history_forget(h);
  pthread_mutex_unlock(&h->mutex);
}

void wm_durable_detach(wm_attachment *attachment) {
  wm_replica_release(attachment->replica);
  wm_journal_free(&attachment->journal);
  sqlite3_free(attachment->failure);
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Writing                                                                                                            */

/*
** Another connection may move the map between two steps, and then this one tries again. But in a damaged file the last
** row may be another one for each statement that looks for it.
*/
int wm_durable_begin(wm_table *table) {
  enum { TRIES = 100 };
  wm_attachment *attachment = table->attachment;
  wm_history *h = attachment->map->history;
  wm_version version;
  bool copy;
  if (h == NULL || wm_attachment_is_begun(attachment))
    return WALMAP_OK;
  for (int tries = 0;; tries++) {
    int rc = wm_log_top(table, &version);
    if (rc == SQLITE_OK && tries == TRIES)
      rc = wm_log_damaged(table, version.seq, "it is the last one of the table, but not of a scan");
    if (rc != SQLITE_OK)
      return negate(rc);
    int result = catch_up(table, &version, true, &copy);
    if (result != WALMAP_OK)
      return result;
    pthread_mutex_lock(&h->mutex);
    bool ready = wm_version_is(&h->head, &version) && !h->catching_up;
    if (ready) {
      h->writers++;
      attachment->counted = true;
      attachment->base = h->head;
    }
    pthread_mutex_unlock(&h->mutex);
    if (ready)
      break;
  }
  wm_replica_release(attachment->replica); /* of a version before */
  attachment->replica = NULL;
  wm_journal_clear(&attachment->journal);
  attachment->journal.first = attachment->base.first;
  attachment->journal.bytes = attachment->base.bytes;
  attachment->synced = false;
  attachment->evicted_writes = attachment->writes;
  attachment->tag = wm_replay_tag(attachment->base.seq + 1, 0);
  return WALMAP_OK;
}
