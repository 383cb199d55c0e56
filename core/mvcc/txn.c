/* txn.c - transactions: begin and end, reads and writes (undo.c has marks and savepoints) */
#include "mvcc/txn.h"
#include "mvcc/bounds.h"
#include "mvcc/compact.h"
#include "mvcc/counters.h"
#include "mvcc/maintenance.h"
#include "mvcc/state.h"
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
/* Begin and end                                                                                                      */

void walmap_txn_begin(walmap_txn *txn) {
  txn->begun = true;
  txn->level = 0;
  txn->now = 0;
  txn->tag = 0;
}

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

static uint32_t changed_shards(const walmap_txn *txn, walmap__shard **changed) {
  uint32_t n = 0;
  for (uint32_t i = 0; i < txn->n_locked; i++) {
    if (txn->txn_shards[txn->locked[i]->id].written > 0)
      changed[n++] = txn->locked[i];
  }
  return n;
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
    walmap__bounds_correct(changed[i]);
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

/* What bounds_keep needs of a transaction: the shards that it has changed, and more of them. */
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
  bool *locked = &txn->txn_shards[shard->id].locked;
  if (!*locked && walmap__lock_try(&shard->lock, txn->session)) {
    *locked = true;
    txn->locked[txn->n_locked++] = shard;
  }
  if (!*locked || !walmap__shard_generation(shard))
    return false;
  k->changed[k->n++] = shard;
  return true;
}

int walmap_txn_evict(walmap_txn *txn) {
  walmap__deferred_flush(txn->deferred);
  if (!txn->map->bounded)
    return WALMAP_OK;
  walmap__txn_forget_found(txn);
  keeping k = {.txn = txn};
  k.n = changed_shards(txn, k.changed);
  walmap__committer committer = {txn->map, k.changed, &k.n, txn->claimed, &k, touch_shard, borrow_shard};
  int result = walmap__bounds_keep(&committer);
  txn->claimed = committer.claimed;
  return result;
}

void walmap_txn_commit(walmap_txn *txn) {
  (void)walmap_txn_evict(txn); /* flushes; without memory it leaves the rest to the next commit (bounds.h) */
  walmap__session_committed(txn->session);
  end_txn(txn, false);
}

void walmap_txn_rollback(walmap_txn *txn) {
  walmap_txn_rollback_to(txn, -1);
  end_txn(txn, true);
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Locks                                                                                                              */

int walmap__txn_lock(walmap_txn *txn, walmap__shard *shard) {
  walmap__txn_shard *txn_shard = &txn->txn_shards[shard->id];
  if (txn_shard->locked)
    return WALMAP_OK;
  int result = walmap__session_lock(txn->session, &shard->lock, txn->n_locked == 0, txn->map->options.busy_timeout);
  if (result != WALMAP_OK) {
    walmap__count_wait(txn->map, result);
    return result;
  }
  txn_shard->locked = true;
  txn->locked[txn->n_locked++] = shard;
  return WALMAP_OK;
}

int walmap__txn_lock_all(walmap_txn *txn) {
  int result = WALMAP_OK;
  for (uint32_t i = 0; i < txn->map->n_shards && result == WALMAP_OK; i++) {
    result = walmap__txn_lock(txn, &txn->map->shards[i]);
  }
  return result;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Reads                                                                                                              */

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
/* Writes                                                                                                             */

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

/* Makes the mark first: after the write is prepared no step may fail (write.h). A mark without a write does no harm. */
static int prepare_write(walmap_txn *txn, walmap__write *w, size_t value_len, uint64_t expires, bool remove) {
  walmap__txn_forget_found(txn);
  w->tag = remove ? 0 : txn->tag;
  int result = WALMAP_OK;
  if (WALMAP__UNLIKELY(txn->map->bounded) && !remove)
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

/* ------------------------------------------------------------------------------------------------------------------ */
/* Stats                                                                                                              */

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

/* ------------------------------------------------------------------------------------------------------------------ */
/* Compaction                                                                                                         */

/*
** A shard that the transaction has changed is left alone: its uncommitted records must stay where they are. The
** transaction may have got pointers into a shard that it has only locked, so there the copied records are freed at its
** end.
*/
int walmap_compact(walmap *map, walmap_txn *txn) {
  if (txn)
    walmap__txn_forget_found(txn);
  walmap_session *session = txn ? txn->session : &walmap__single_operation;
  walmap__interrupt interrupt = walmap__session_interrupt(session);
  for (uint32_t i = 0; i < map->n_shards; i++) {
    walmap__shard *shard = &map->shards[i];
    bool locked = txn && txn->txn_shards[i].locked;
    if (locked && (txn->txn_shards[i].written > 0 || txn->txn_shards[i].level != -1))
      continue;
    int result = locked ? WALMAP_OK : walmap__lock_acquire(&shard->lock, session, map->options.busy_timeout);
    if (result != WALMAP_OK) {
      walmap__count_wait(map, result);
      return result;
    }
    shard->defer_free = locked;
    result = walmap__compact_all(shard, txn && txn->now != 0 ? txn->now : UINT64_MAX, &interrupt);
    if (!locked)
      walmap__lock_release(&shard->lock);
    if (result != WALMAP_OK)
      return result;
  }
  return WALMAP_OK;
}
