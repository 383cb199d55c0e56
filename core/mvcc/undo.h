/* undo.h - marks and savepoints of a transaction (txn.h has the picture) */
#ifndef WALMAP_UNDO_H
#define WALMAP_UNDO_H

#include "mvcc/txn.h"

/* As walmap_txn_savepoint and so on. Numbers are wider, so that there is one above each that the user can give. */
void walmap__txn_savepoint(walmap_txn *txn, int64_t n);
void walmap__txn_release(walmap_txn *txn, int64_t n);
void walmap__txn_rollback_to(walmap_txn *txn, int64_t n);

/* Notes what the shard is like now, and brings it back to that. The shard has a generation. */
void walmap__mark_shard(const walmap__shard *shard, walmap__mark *mark);
void walmap__undo_to_mark(walmap__shard *shard, const walmap__mark *mark);

/* At the end: generations that a restore in this transaction has replaced are freed when no reader sees them. */
void walmap__undo_retire_generations(walmap_txn *txn);

/* Drops all marks, when the transaction has ended. */
void walmap__undo_forget(walmap_txn *txn);
void walmap__undo_free(walmap_txn *txn);

#endif
