/* txn_read.c - what a transaction reads: entries by key, states with its own changes, counts */
#include "mvcc/counters.h"
#include "mvcc/state.h"
#include "mvcc/txn.h"

/* ------------------------------------------------------------------------------------------------------------------ */
/* Entries by key                                                                                                     */

static WALMAP__ALWAYS_INLINE int look_up_in_txn(walmap_txn *txn, const void *key, size_t key_len, walmap_entry *entry) {
  uint64_t hash = walmap__hash_of(txn->map, key, key_len);
  walmap__shard *shard = walmap__shard_of(txn->map, hash);
  int result = walmap__txn_lock(txn, shard);
  if (result != WALMAP_OK)
    return result;
  walmap__deferred_flush(txn->deferred);
  walmap__generation *g = walmap__shard_generation(shard);
  if (!g)
    return WALMAP_NOTFOUND;
  walmap__write *found = &txn->found;
  found->shard = NULL;
  found->old = walmap__index_find(&g->index, hash, key, key_len, false, &found->slot);
  if (!found->old.record || (found->old.meta & WALMAP__TOMB))
    return WALMAP_NOTFOUND;
  if (WALMAP__UNLIKELY(found->old.meta & WALMAP__EXPIRES) &&
      walmap__record_is_expired(found->old.record, found->old.meta, walmap__txn_now(txn)))
    return WALMAP_NOTFOUND;
  if (WALMAP__UNLIKELY(g->index.keeps_visits))
    walmap__slot_visit(&found->slot);
  found->shard = shard;
  found->generation = g;
  found->hash = hash;
  walmap__record_entry(found->old.record, found->old.meta, entry);
  return WALMAP_OK;
}

int walmap_txn_peek(walmap_txn *txn, const void *key, size_t key_len, walmap_entry *entry) {
  return look_up_in_txn(txn, key, key_len, entry);
}

int walmap_txn_get(walmap_txn *txn, const void *key, size_t key_len, walmap_entry *entry) {
  int result = look_up_in_txn(txn, key, key_len, entry);
  if (result == WALMAP_OK) {
    txn->hits++;
  } else if (result == WALMAP_NOTFOUND) {
    txn->misses++;
  }
  return result;
}

int walmap_txn_get_tagged(walmap_txn *txn, const void *key, size_t key_len, walmap_entry *entry, uint32_t *tag) {
  int result = walmap_txn_peek(txn, key, key_len, entry);
  if (result == WALMAP_OK)
    *tag = walmap__record_tag(txn->found.old.record, txn->found.old.meta);
  return result;
}

int walmap_txn_each_hash(walmap_txn *txn, uint64_t hash, walmap_each_fn each, void *ctx) {
  walmap__shard *shard = walmap__shard_of(txn->map, hash);
  int result = walmap__txn_lock(txn, shard);
  walmap__deferred_flush(txn->deferred);
  walmap__generation *g = walmap__shard_generation(shard);
  if (result != WALMAP_OK || !g)
    return result;
  walmap__slot_ref slot;
  uint32_t address;
  walmap__index_seek(&g->index, hash, &slot);
  while ((address = walmap__index_next(&slot, hash)) != 0) {
    walmap__record *record = walmap__log_at(&g->log, address);
    uint32_t meta = walmap__record_meta(record);
    walmap_entry entry;
    walmap__record_entry(record, meta, &entry);
    if ((meta & WALMAP__TOMB) || walmap__hash_of(txn->map, entry.key, entry.key_len) != hash ||
        (entry.expires != 0 && entry.expires <= walmap__txn_now(txn)))
      continue;
    if (!each(ctx, &entry))
      break;
  }
  return WALMAP_OK;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* States                                                                                                             */

/*
** The state's time is the transaction's, unless a shard waits for all readers to have reached a later one (compact.h):
** what it may drop then, the transaction takes for expired from here on. It looks after its slot is taken; a shard that
** begins to wait later finds the slot.
*/
static void read_txn_clock(walmap_txn *txn, walmap_state *state) {
  state->now = 0;
  if (!atomic_load_explicit(&txn->map->expiring, memory_order_acquire))
    return;
  uint64_t horizon = atomic_load(&txn->map->horizon);
  if (walmap__txn_now(txn) < horizon)
    txn->now = horizon;
  state->now = txn->now;
}

/* The entries of a shard that the transaction has locked. */
static uint64_t shard_len(walmap_state *state, uint32_t shard) {
  walmap__generation *g = walmap__shard_generation(&state->map->shards[shard]);
  if (!g || state->now == 0)
    return g ? g->len : 0;
  if (state->now < g->expiry.swept) /* another's later time */
    return walmap__state_count(state, shard);
  return g->len - walmap__expiry_count_own(&g->expiry, state->now);
}

/* The ends of all logs serve as commit points: all uncommitted records are the transaction's own. */
int walmap_txn_state_begin(walmap_txn *txn, walmap_state *state) {
  int result = walmap__txn_lock_all(txn);
  if (result == WALMAP_OK)
    result = walmap__state_enter(state);
  if (result != WALMAP_OK)
    return result;
  state->was_committed = false;
  walmap__deferred_flush(txn->deferred);
  read_txn_clock(txn, state);
  for (uint32_t i = 0; i < txn->map->n_shards; i++)
    state->commit_points[i] = walmap__shard_end(&txn->map->shards[i]);
  state->len = 0;
  for (uint32_t i = 0; i < txn->map->n_shards; i++)
    state->len += shard_len(state, i);
  return WALMAP_OK;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Counts                                                                                                             */

/* The committed stats of all shards, but the present stats of shards that the transaction has written. */
static walmap__stats stats_of(walmap_txn *txn) {
  walmap__deferred_flush(txn->deferred);
  walmap__stats stats = walmap__collect_stats(txn->map);
  for (uint32_t i = 0; i < txn->n_locked; i++) {
    const walmap__shard *shard = txn->locked[i];
    if (txn->txn_shards[shard->id].written == 0)
      continue;
    const walmap__generation *now = walmap__shard_generation(shard);
    walmap__stats committed = walmap__committed_stats(txn->map, shard->id);
    stats.len += now->len - committed.len;
    stats.bytes += now->log.bytes - committed.bytes;
    stats.dead += now->dead - committed.dead;
  }
  return stats;
}

/* Where entries expire: the newest committed state at the transaction's time, with its own shards as it sees them. */
static bool len_at_time(walmap_txn *txn, uint64_t *len) {
  walmap__brief_state brief = {.state = {.map = txn->map}};
  walmap_state *state = &brief.state;
  if (walmap__state_enter(state) != WALMAP_OK)
    return false;
  walmap__collect_commit_points(txn->map, state->commit_points, false);
  read_txn_clock(txn, state);
  *len = 0;
  for (uint32_t i = 0; i < txn->map->n_shards; i++) {
    bool own = txn->txn_shards[i].locked;
    if (own)
      state->commit_points[i] = walmap__shard_end(&txn->map->shards[i]);
    *len += own ? shard_len(state, i) : walmap__state_shard_len(state, i);
  }
  walmap_state_end(state);
  return true;
}

uint64_t walmap_txn_len(walmap_txn *txn) {
  uint64_t len;
  walmap__deferred_flush(txn->deferred);
  if (!atomic_load_explicit(&txn->map->expiring, memory_order_acquire) || !len_at_time(txn, &len))
    return stats_of(txn).len;
  return len;
}

uint64_t walmap_txn_size(walmap_txn *txn) { return stats_of(txn).bytes; }
uint64_t walmap_txn_reclaimable(walmap_txn *txn) { return stats_of(txn).dead; }
