/* txn.c - a transaction's begin and end, and the shard locks that it takes on its way */
#include "mvcc/txn.h"
#include "mvcc/bounds.h"
#include "mvcc/counters.h"
#include "mvcc/maintenance.h"
#include "mvcc/undo.h"

/* ------------------------------------------------------------------------------------------------------------------ */
/* Making                                                                                                             */

static size_t txn_bytes(const walmap *map) {
  return sizeof(walmap_txn) + map->n_shards * (sizeof(walmap__txn_shard) + sizeof(walmap__shard *));
}

int walmap_txn_new(walmap *map, walmap_session *session, walmap_txn **out) {
  walmap_txn *txn = walmap__memory_alloc(&map->memory, txn_bytes(map));
  if (!txn)
    return WALMAP_NOMEM;
  memset(txn, 0, txn_bytes(map));
  txn->map = map;
  txn->session = session;
  txn->locked = (walmap__shard **)(txn->txn_shards + map->n_shards);
  for (uint32_t i = 0; i < map->n_shards; i++)
    txn->txn_shards[i].level = -1;
  *out = txn;
  return WALMAP_OK;
}

void walmap_txn_free(walmap_txn *txn) {
  if (!txn)
    return;
  if (txn->begun)
    walmap_txn_rollback(txn);
  walmap__undo_free(txn);
  walmap__deferred_free(&txn->map->memory, txn->deferred);
  walmap__memory_free(&txn->map->memory, txn, txn_bytes(txn->map));
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Locks                                                                                                              */

static void note_locked(walmap_txn *txn, walmap__shard *shard) {
  txn->txn_shards[shard->id].locked = true;
  txn->locked[txn->n_locked++] = shard;
}

int walmap__txn_lock_first(walmap_txn *txn, walmap__shard *shard) {
  int result = walmap__session_lock(txn->session, &shard->lock, txn->n_locked == 0, txn->map->options.busy_timeout);
  if (result != WALMAP_OK) {
    walmap__count_wait(txn->map, result);
    return result;
  }
  note_locked(txn, shard);
  return WALMAP_OK;
}

int walmap__txn_lock_all(walmap_txn *txn) {
  int result = WALMAP_OK;
  for (uint32_t i = 0; i < txn->map->n_shards && result == WALMAP_OK; i++) {
    result = walmap__txn_lock(txn, &txn->map->shards[i]);
  }
  return result;
}

/* Fills in those of the locked shards that the transaction has written, and returns how many. */
static uint32_t changed_shards(const walmap_txn *txn, walmap__shard **changed) {
  uint32_t n = 0;
  for (uint32_t i = 0; i < txn->n_locked; i++) {
    if (txn->txn_shards[txn->locked[i]->id].written > 0)
      changed[n++] = txn->locked[i];
  }
  return n;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Eviction                                                                                                           */

/* What walmap__bounds_keep needs of a transaction: the shards that it has changed, and more of them. */
typedef struct keeping {
  walmap_txn *txn;
  walmap__shard *changed[WALMAP_MAX_SHARDS];
  uint32_t n;
} keeping;

static int touch_shard(void *ctx, walmap__shard *shard) {
  walmap_txn *txn = ((keeping *)ctx)->txn;
  int result = walmap__txn_mark(txn, shard);
  if (result == WALMAP_OK)
    txn->txn_shards[shard->id].written++;
  return result;
}

static bool borrow_shard(void *ctx, walmap__shard *shard) {
  keeping *k = ctx;
  walmap_txn *txn = k->txn;
  const bool *locked = &txn->txn_shards[shard->id].locked;
  if (!*locked && walmap__lock_try(&shard->lock, txn->session))
    note_locked(txn, shard);
  if (!*locked || !walmap__shard_generation(shard))
    return false;
  k->changed[k->n++] = shard;
  return true;
}

static int keep_bounds(walmap_txn *txn, walmap__listener listener, walmap__interrupt interrupt) {
  walmap__txn_forget_found(txn);
  keeping k = {.txn = txn};
  k.n = changed_shards(txn, k.changed);
  walmap__committer committer = {txn->map, k.changed,   &k.n,         txn->claimed, listener,
                                 &k,       touch_shard, borrow_shard, interrupt};
  int result = walmap__bounds_keep(&committer);
  txn->claimed = committer.claimed;
  return result;
}

/* A savepoint makes the call all or nothing. */
int walmap_txn_evict(walmap_txn *txn, walmap_evict_fn told, void *ctx) {
  int64_t savepoint = txn->level, claimed = txn->claimed;
  walmap__deferred_flush(txn->deferred);
  if (!txn->map->bounded || txn->ignores_bounds)
    return WALMAP_OK;
  walmap__txn_savepoint(txn, savepoint);
  int result = keep_bounds(txn, (walmap__listener){told, ctx}, walmap__session_interrupt(txn->session));
  if (result != WALMAP_OK) {
    walmap__txn_rollback_to(txn, savepoint);
    atomic_fetch_sub(&txn->map->entries, txn->claimed - claimed);
    txn->claimed = claimed;
  }
  walmap__txn_release(txn, savepoint);
  return result;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Begin and end                                                                                                      */

void walmap_txn_begin(walmap_txn *txn) {
  txn->begun = true;
  txn->level = 0;
  txn->now = 0;
  txn->tag = 0;
  txn->ignores_bounds = false;
}

void walmap_txn_ignore_bounds(walmap_txn *txn) { txn->ignores_bounds = true; }

/* Deferred writes have the tag that was set when they came. */
void walmap_txn_set_tag(walmap_txn *txn, uint32_t tag) { txn->tag = tag; }

/* Deferred writes know when their entries expire, and ask for nothing else. */
void walmap_txn_statement(walmap_txn *txn) {
  walmap__txn_forget_found(txn);
  txn->now = 0;
}

uint64_t walmap_txn_clock(walmap_txn *txn) { return walmap__txn_now(txn); }

bool walmap_txn_is_begun(const walmap_txn *txn) { return txn->begun; }

/* Frees memory into which the transaction may have handed out pointers (walmap_txn_get): they end with it. */
static void free_unlinked(walmap__shard *shard) {
  if (!shard->defer_free)
    return;
  shard->defer_free = false;
  walmap__shard_reclaim_all(shard);
}

/* The locks are still held. A transaction counts as a commit, or a rollback, if it had written. */
static void count_end(walmap_txn *txn, walmap__shard *changed, bool undone) {
  if (changed)
    walmap__count(undone ? &changed->rollbacks : &changed->commits, 1);
  if (txn->hits + txn->misses == 0)
    return;
  walmap__lookups *lookups = &txn->locked[0]->lookups; /* a lookup locks a shard */
  walmap__count(&lookups->hits, txn->hits);
  walmap__count(&lookups->misses, txn->misses);
  txn->hits = txn->misses = 0;
}

/* The bounds' part of a transaction's end. */
static void settle_bounds(walmap_txn *txn, walmap__shard *const *changed, uint32_t n) {
  for (uint32_t i = 0; i < n; i++) {
    walmap__count(&changed[i]->evictions, changed[i]->evicting);
    changed[i]->evicting = 0;
  }
  walmap__bounds_settle(txn->map, changed, n, txn->claimed);
  txn->claimed = 0;
}

/*
** C3 and C7: publishing is a few stores. Rolled-back records are published too: they are dead, and a commit point that
** is the log's end is what compaction starts from.
*/
static void end_txn(walmap_txn *txn, bool undone) {
  walmap__shard *changed[WALMAP_MAX_SHARDS];
  uint32_t n = changed_shards(txn, changed);
  if (n > 0) {
    walmap__undo_retire_generations(txn);
    if (n == 1) {
      walmap__publish_one(txn->map, changed[0]);
    } else {
      walmap__publish_many(txn->map, changed, n);
    }
  }
  count_end(txn, n > 0 ? changed[0] : NULL, undone);
  if (WALMAP__UNLIKELY(txn->map->bounded))
    settle_bounds(txn, changed, n);
  bool correct = WALMAP__UNLIKELY(txn->map->options.max_bytes != 0) && !undone && !txn->map->options.error_when_full;
  for (uint32_t i = 0; i < txn->n_locked; i++) {
    walmap__shard *shard = txn->locked[i];
    walmap__txn_shard *txn_shard = &txn->txn_shards[shard->id];
    free_unlinked(shard);
    if (txn_shard->written > 0)
      (undone ? walmap__shard_after_rollback : walmap__shard_after_commit)(shard, txn_shard->written);
    *txn_shard = (walmap__txn_shard){.level = -1};
    if (!correct)
      walmap__lock_release(&shard->lock);
  }
  for (uint32_t i = 0; i < n && correct; i++)
    walmap__bounds_correct(changed[i], !txn->ignores_bounds);
  for (uint32_t i = 0; i < txn->n_locked && correct; i++)
    walmap__lock_release(&txn->locked[i]->lock);
  if (n > 0)
    walmap__commit_is_over(txn->map);
  if (txn->n_locked > 0)
    walmap__session_leave(txn->session);
  txn->n_locked = 0;
  walmap__txn_forget_found(txn);
  txn->begun = false;
  walmap__undo_forget(txn);
}

/* Without memory evictions are left to the next commit (bounds.h). */
void walmap_txn_commit(walmap_txn *txn) {
  walmap__deferred_flush(txn->deferred);
  if (WALMAP__UNLIKELY(txn->map->bounded) && !txn->ignores_bounds)
    (void)keep_bounds(txn, (walmap__listener){0}, (walmap__interrupt){0});
  walmap__session_committed(txn->session);
  end_txn(txn, false);
}

void walmap_txn_rollback(walmap_txn *txn) {
  walmap_txn_rollback_to(txn, -1);
  end_txn(txn, true);
}
