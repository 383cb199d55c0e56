/*
** txn_write.c - the changes of a transaction, each of one key: made at once, or deferred (deferred.h)
**
** Each change looks its key up, unless the transaction has just read that key; asks the map's bounds; marks the shard
** for a rollback; and prepares and applies the write (write.h).
*/
#include "mvcc/bounds.h"
#include "mvcc/maintenance.h"
#include "mvcc/txn.h"

/* ------------------------------------------------------------------------------------------------------------------ */
/* Beginning a change                                                                                                 */

/* Whether the key is the one that was just read: usually a change follows the read of its key. */
static bool was_found(const walmap_txn *txn, const void *key, size_t key_len) {
  const walmap__version *old = &txn->found.old;
  return txn->found.shard && walmap__record_has_key(old->record, old->meta, key, key_len);
}

/* Starts a write of the key that was just read, without a second lookup. */
static void start_found_write(walmap_txn *txn, walmap__write *w, const void *key, size_t key_len) {
  *w = txn->found;
  w->key = key;
  w->key_len = key_len;
  w->now = txn->now;
}

static int lock_shard_of(walmap_txn *txn, const void *key, size_t key_len, uint64_t *hash, walmap__shard **shard) {
  *hash = walmap__hash_of(txn->map, key, key_len);
  *shard = walmap__shard_of(txn->map, *hash);
  return walmap__txn_lock(txn, *shard);
}

/* Where nothing expires, the clock is not read. */
static bool needs_time(const walmap_txn *txn, const walmap__write *w) {
  return WALMAP__UNLIKELY((w->old.record && (w->old.meta & WALMAP__EXPIRES)) || txn->map->options.ttl != 0);
}

static int start_write_at(walmap_txn *txn, walmap__write *w, walmap__shard *shard, uint64_t hash, const void *key,
                          size_t key_len) {
  walmap__deferred_flush(txn->deferred);
  int result = walmap__write_start(w, shard, hash, key, key_len, false);
  if (result == WALMAP_OK)
    w->now = needs_time(txn, w) ? walmap__txn_now(txn) : 0;
  return result;
}

/* Refuses lengths that are too great before it reads a byte. */
static int start_write(walmap_txn *txn, walmap__write *w, const void *key, size_t key_len, size_t value_len) {
  if (key_len > WALMAP_MAX_LENGTH || value_len > WALMAP_MAX_LENGTH)
    return WALMAP_TOOBIG;
  if (was_found(txn, key, key_len)) {
    start_found_write(txn, w, key, key_len);
    return WALMAP_OK;
  }
  uint64_t hash;
  walmap__shard *shard;
  int result = lock_shard_of(txn, key, key_len, &hash, &shard);
  return result == WALMAP_OK ? start_write_at(txn, w, shard, hash, key, key_len) : result;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Bounds                                                                                                             */

/* By how many entries the transaction has changed the shards that it has locked. */
static int64_t change_of(const walmap_txn *txn) {
  int64_t change = 0;
  for (uint32_t i = 0; i < txn->n_locked; i++) {
    const walmap__generation *g = walmap__shard_generation(txn->locked[i]);
    change += (int64_t)(g ? g->len : 0) - (int64_t)txn->locked[i]->counted;
  }
  return change;
}

/* N2: sweeps a shard that the transaction has locked, unless it has changed it. */
static void sweep_unchanged(const walmap_txn *txn, walmap__shard *shard) {
  const walmap__txn_shard *txn_shard = &txn->txn_shards[shard->id];
  if (txn_shard->written == 0 && txn_shard->level == -1)
    walmap__bounds_sweep(shard);
}

static WALMAP__NOINLINE int admit_write(walmap_txn *txn, walmap__write *w, size_t value_len, uint64_t expires) {
  if (!txn->map->options.error_when_full)
    return walmap__bounds_admit(w, value_len, expires, 0, &txn->claimed);
  sweep_unchanged(txn, w->shard);
  int result = walmap__bounds_admit(w, value_len, expires, change_of(txn), &txn->claimed);
  if (result != WALMAP_FULL || !walmap__is_expiring(txn->map))
    return result;
  for (uint32_t i = 0; i < txn->n_locked; i++)
    sweep_unchanged(txn, txn->locked[i]);
  return walmap__bounds_admit(w, value_len, expires, change_of(txn), &txn->claimed);
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Preparing, or deferring                                                                                            */

/* Makes the mark first: after the write is prepared no step may fail (write.h). A mark without a write does no harm. */
static int prepare_write(walmap_txn *txn, walmap__write *w, size_t value_len, uint64_t expires, bool remove) {
  walmap__txn_forget_found(txn);
  w->tag = remove ? 0 : txn->tag;
  int result = WALMAP_OK;
  if (WALMAP__UNLIKELY(txn->map->bounded) && !remove && !txn->ignores_bounds)
    result = admit_write(txn, w, value_len, expires);
  if (result == WALMAP_OK)
    result = walmap__txn_mark(txn, w->shard);
  if (result == WALMAP_OK)
    result = walmap__write_prepare(w, value_len, expires, remove);
  if (result == WALMAP_OK)
    txn->txn_shards[w->shard->id].written += walmap__records_paid(w->bytes);
  return result;
}

static int defer_write(walmap_txn *txn, walmap__shard *shard, uint64_t hash, const void *key, size_t key_len,
                       size_t value_len, uint64_t expires, void **value) {
  walmap__txn_forget_found(txn);
  if (!txn->deferred && !(txn->deferred = walmap__deferred_new(&txn->map->memory)))
    return WALMAP_NOMEM;
  int result = walmap__txn_mark(txn, shard);
  if (result == WALMAP_OK)
    result = walmap__deferred_reserve(txn->deferred, shard, hash, key_len, value_len, expires, txn->tag);
  if (result != WALMAP_OK)
    return result;
  txn->txn_shards[shard->id].written++;
  *value = walmap__deferred_add(txn->deferred, shard, hash, key, key_len, value_len, expires, txn->tag);
  return WALMAP_OK;
}

/* The time that WALMAP_BY_TTL means now: a deferred write does not ask for it later. */
static uint64_t expires_of_new(walmap_txn *txn, uint64_t expires) {
  if (WALMAP__LIKELY(expires != WALMAP_BY_TTL))
    return expires;
  uint64_t ttl = txn->map->options.ttl;
  return WALMAP__LIKELY(ttl == 0) ? WALMAP_NEVER : walmap__expires_after(walmap__txn_now(txn), ttl);
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* The changes                                                                                                        */

static int reserve_always(walmap_txn *txn, const void *key, size_t key_len, size_t value_len, uint64_t expires,
                          void **value) {
  if (key_len > WALMAP_MAX_LENGTH || value_len > WALMAP_MAX_LENGTH)
    return WALMAP_TOOBIG;
  walmap__write w;
  int result = WALMAP_OK;
  expires = expires_of_new(txn, expires);
  if (was_found(txn, key, key_len)) {
    start_found_write(txn, &w, key, key_len);
  } else {
    uint64_t hash;
    walmap__shard *shard;
    result = lock_shard_of(txn, key, key_len, &hash, &shard);
    if (result != WALMAP_OK)
      return result;
    if (expires != WALMAP_KEEP && !txn->map->options.error_when_full &&
        walmap__deferred_pays(walmap__shard_generation(shard), key_len, value_len))
      return defer_write(txn, shard, hash, key, key_len, value_len, expires, value);
    result = start_write_at(txn, &w, shard, hash, key, key_len);
  }
  if (result == WALMAP_OK)
    result = prepare_write(txn, &w, value_len, expires, false);
  if (result == WALMAP_OK)
    *value = walmap__write_apply(&w);
  return result;
}

int walmap_txn_reserve(walmap_txn *txn, const void *key, size_t key_len, size_t value_len, void **value) {
  return reserve_always(txn, key, key_len, value_len, WALMAP_BY_TTL, value);
}

int walmap_txn_reserve_expiring(walmap_txn *txn, walmap_when when, const void *key, size_t key_len, size_t value_len,
                                uint64_t expires, void **value) {
  if (when == WALMAP_ALWAYS)
    return reserve_always(txn, key, key_len, value_len, expires, value);
  walmap__write w;
  int result = start_write(txn, &w, key, key_len, value_len);
  if (result != WALMAP_OK)
    return result;
  if (walmap__write_present(&w, NULL) != (when == WALMAP_IF_PRESENT))
    return when == WALMAP_IF_PRESENT ? WALMAP_NOTFOUND : WALMAP_EXISTS;
  result = prepare_write(txn, &w, value_len, expires, false);
  if (result == WALMAP_OK)
    *value = walmap__write_apply(&w);
  return result;
}

int walmap_txn_reserve_if(walmap_txn *txn, bool present, const void *key, size_t key_len, size_t value_len,
                          void **value) {
  return walmap_txn_reserve_expiring(txn, present ? WALMAP_IF_PRESENT : WALMAP_IF_ABSENT, key, key_len, value_len,
                                     WALMAP_KEEP, value);
}

/* The old record stays where it is while the new one is written. */
int walmap_txn_touch(walmap_txn *txn, const void *key, size_t key_len, uint64_t expires) {
  walmap__write w;
  walmap_entry e;
  int result = start_write(txn, &w, key, key_len, 0);
  if (result != WALMAP_OK)
    return result;
  if (!walmap__write_present(&w, &e))
    return WALMAP_NOTFOUND;
  result = prepare_write(txn, &w, e.value_len, expires, false);
  if (result == WALMAP_OK)
    walmap__copy_bytes(walmap__write_apply(&w), e.value, e.value_len);
  return result;
}

int walmap_txn_set(walmap_txn *txn, const void *key, size_t key_len, const void *value, size_t value_len) {
  void *to;
  int result = walmap_txn_reserve(txn, key, key_len, value_len, &to);
  if (result == WALMAP_OK)
    walmap__copy_bytes(to, value, value_len);
  return result;
}

int walmap_txn_remove(walmap_txn *txn, const void *key, size_t key_len) {
  walmap__write w;
  int result = start_write(txn, &w, key, key_len, 0);
  if (result != WALMAP_OK)
    return result;
  if (!walmap__write_present(&w, NULL))
    return WALMAP_NOTFOUND;
  result = prepare_write(txn, &w, 0, WALMAP_NEVER, true);
  if (result == WALMAP_OK)
    walmap__write_apply(&w);
  return result;
}
