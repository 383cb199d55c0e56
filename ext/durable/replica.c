/*
** replica.c - a copy of a durable table's rows for one connection: see replica.h
*/
#include "durable/replica.h"

#include "durable/replay.h"

SQLITE_EXTENSION_INIT3

static int fill(wm_table *table, wm_replica *replica) {
  walmap_txn *txn;
  int result = walmap_txn_new(replica->map, table->conn->session, &txn);
  if (result != WALMAP_OK)
    return result;
  wm_replay replay = {.table = table, .txn = txn, .piece = wm_replay_piece(replica->map)};
  walmap_txn_begin(txn);
  walmap_txn_ignore_bounds(txn); /* R7 */
  int rc = wm_replay_run(&replay);
  if (rc == SQLITE_OK)
    walmap_txn_commit(txn);
  walmap_txn_free(txn);
  replica->version = replay.at;
  return -rc;
}

int wm_replica_make(wm_table *table, wm_replica **out) {
  walmap_options options = *walmap_get_options(table->attachment->map->map);
  options.seed_given = true;
  wm_replica *replica = sqlite3_malloc(sizeof *replica);
  if (replica == NULL)
    return WALMAP_NOMEM;
  *replica = (wm_replica){.references = 1};
  int result = walmap_open(&options, &replica->map);
  if (result != WALMAP_OK) {
    sqlite3_free(replica);
    return result;
  }
  if ((result = fill(table, replica)) != WALMAP_OK) {
    wm_replica_release(replica);
    return result;
  }
  *out = replica;
  return WALMAP_OK;
}
