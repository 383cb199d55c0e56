/*
** transaction.c - the transactions of a connection on its maps
**
** SQLite calls transaction methods per sqlite3_vtab object. Of one map there may be several in a transaction: two
** tables of one named map, or two objects of one table, since a rolled back schema change makes SQLite connect a table
** anew while the old object is still in the transaction. Each event then arrives several times, with nothing in
** between, so all of these are idempotent: begin once, commit at the first xCommit, and a savepoint that is marked
** twice is marked at the same place. The one call that is not a repetition is the xSavepoint by which SQLite lets an
** object catch up when it joins late: it must not move a level that the map holds already.
**
** T3, T7: walmap_txn_commit and walmap_txn_rollback cannot fail; whatever can did so in the write that needed it.
** T2: begin, commit and rollback change the generation, so that statements which start later read a newer state.
*/
#include "lookup.h"

static void next_generation(wm_use *use) {
  use->generation++;
  use->current = use->own = NULL; /* whoever reads them holds references */
  wm_lookup_release(use);         /* these read no more */
}

void wm_use_begin(wm_use *use) {
  if (wm_use_is_begun(use))
    return;
  walmap_txn_begin(use->txn);
  use->levels = 0;
  next_generation(use);
}

void wm_use_commit(wm_use *use) {
  if (!wm_use_is_begun(use))
    return;
  walmap_txn_commit(use->txn);
  next_generation(use);
}

void wm_use_rollback(wm_use *use) {
  if (!wm_use_is_begun(use))
    return;
  walmap_txn_rollback(use->txn);
  use->undone++;
  next_generation(use);
}

int wm_use_savepoint(wm_use *use, int n, bool catching_up) {
  if (!wm_use_is_begun(use) || (catching_up && n < use->levels))
    return WALMAP_OK;
  walmap_txn_savepoint(use->txn, n);
  use->levels = n + 1;
  return WALMAP_OK;
}

void wm_use_release_to(wm_use *use, int n) {
  if (!wm_use_is_begun(use) || n >= use->levels)
    return;
  walmap_txn_release(use->txn, n);
  use->levels = n;
}

void wm_use_rollback_to(wm_use *use, int n) {
  if (!wm_use_is_begun(use) || n >= use->levels)
    return;
  walmap_txn_rollback_to(use->txn, n);
  use->levels = n + 1;
  use->undone++;
  wm_use_changed(use);
}

bool wm_use_begin_aside(wm_use *use) {
  if (wm_use_is_begun(use))
    return false;
  walmap_txn_begin(use->txn);
  return true;
}

void wm_use_end_aside(wm_use *use, bool began) {
  if (began)
    walmap_txn_rollback(use->txn);
}
