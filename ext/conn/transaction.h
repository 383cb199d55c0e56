/*
** transaction.h - the transactions of a connection on its maps
*/
#ifndef WM_TRANSACTION_H
#define WM_TRANSACTION_H

#include "conn/conn.h"

/*
** SQLite's calls come in through vtab.c. A function that writes does so in wm_call_write (call.h). While
** wm_attachment_is_begun, one key is written there by row.h; what writes many at once through attachment->txn (a
** restore, changes) calls wm_registry_note_key for each key before, and wm_attachment_changed after.
*/

static inline bool wm_attachment_is_begun(const wm_attachment *attachment) {
  return walmap_txn_is_begun(attachment->txn);
}
static inline void wm_attachment_changed(wm_attachment *attachment) { attachment->writes++; }

/*
** Of a durable table's map: room in the journal for one more change. NOMEM; TOOBIG when it does not fit into a BLOB of
** the shadow table.
*/
int wm_attachment_reserve_change(wm_attachment *attachment, wm_change change, size_t key_len, size_t value_len);

/*
** One time per statement. SQLite tells a virtual table nothing of statements, so before each xUpdate, and before a read
** in a transaction that no other read is open beside, it is found out whether a new one has begun: then the
** transaction's time is read anew. It is the same one
**   - in autocommit, where the transaction is the statement;
**   - while a read of it is open, which every UPDATE and DELETE has;
**   - between a savepoint that SQLite makes around a statement that may write several rows, and its release, as long as
**     sqlite3_total_changes does not move: it does at the end of a statement that has changed something. A SAVEPOINT of
**     the user's own is told apart by there being no statement that writes.
** Where a table joins the transaction late, the savepoint may be either: by it SQLite lets the table catch up with the
** savepoints that there are. If there is one around the statement, it will be released. If not, the statement writes
** one row. So the statement is remembered; and when it writes a second row, there is one.
**
** A trigger's statements may have a time each.
*/
typedef enum wm_event { WM_EVENT_READ, WM_EVENT_UPDATE } wm_event;
void wm_attachment_statement(wm_attachment *attachment, wm_event event);
void wm_attachment_note_savepoint(wm_attachment *attachment, bool catching_up);
void wm_attachment_note_release(wm_attachment *attachment);

/*
** The rest is for vtab.c, update.c and control.c. Each is idempotent: several tables of one map report the same event.
*/
void wm_attachment_begin(wm_attachment *attachment);
int wm_attachment_evict(wm_attachment *attachment); /* before commit, which cannot fail: OK or NOMEM */
void wm_attachment_commit(wm_attachment *attachment);
void wm_attachment_rollback(wm_attachment *attachment);
int wm_attachment_savepoint(wm_attachment *attachment, int n, bool catching_up); /* a WALMAP code */
void wm_attachment_release_to(wm_attachment *attachment, int n);
void wm_attachment_rollback_to(wm_attachment *attachment, int n);

/*
** For work that changes no entry and is no part of SQLite's transaction (compaction, verification): begin the core's
** transaction, unless it has begun, and end it again. The work then waits under the connection's session: the wait for
** a shard can be interrupted, and a deadlock with shards that the connection holds on other maps is found (T5).
*/
bool wm_attachment_begin_aside(wm_attachment *attachment);
void wm_attachment_end_aside(wm_attachment *attachment, bool began);

#endif
