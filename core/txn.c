/* txn.c - transactions: begin and end, reads and writes (undo.c has marks and savepoints) */
#include "txn.h"
#include "compact.h"
#include "state.h"
#include "undo.h"

/* ------------------------------------------------------------------------------------------------------------------ */
/* Making                                                                                                             */

static size_t txn_bytes(const walmap *map) {
  return sizeof(walmap_txn) + map->n_shards * (sizeof(walmap__share) + sizeof(walmap__shard *));
}

int walmap_txn_new(walmap *map, walmap_session *session, walmap_txn **out) {
  walmap_txn *txn = walmap__memory_alloc(&map->memory, txn_bytes(map));
  if (!txn)
    return WALMAP_NOMEM;
  memset(txn, 0, txn_bytes(map));
  txn->map = map;
  txn->session = session;
  txn->owned = (walmap__shard **)(txn->shares + map->n_shards);
  for (uint32_t i = 0; i < map->n_shards; i++)
    txn->shares[i].level = -1;
  *out = txn;
  return WALMAP_OK;
}

void walmap_txn_free(walmap_txn *txn) {
  if (!txn)
    return;
  if (txn->begun)
    walmap_txn_rollback(txn);
  walmap__undo_free(txn);
  walmap__pending_free(&txn->map->memory, txn->pending);
  walmap__memory_free(&txn->map->memory, txn, txn_bytes(txn->map));
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Turns                                                                                                              */

/*
** O2: whoever met a deadlock tries again at once, as a rule, and meets the same shards in the hands of the same other.
** So its next transactions take turns with those of others whom it happened to: then they do not fail each other. A
** turn is asked for while nothing of the map is owned. It is a courtesy, and nothing hangs on it: who waits for long
** goes without.
*/
enum { TURNS = 64, TURN_TIMEOUT = 10 /* ms */ };

static void take_turn(walmap_txn *txn) {
  uint32_t timeout = txn->map->options.busy_timeout < TURN_TIMEOUT ? txn->map->options.busy_timeout : TURN_TIMEOUT;
  txn->has_turn = walmap__owner_acquire(&txn->map->turn, &walmap__single_operation, timeout) == WALMAP_OK;
  txn->takes_turn = txn->has_turn ? txn->takes_turn - 1 : 0;
}

static void end_turn(walmap_txn *txn) {
  if (txn->has_turn)
    walmap__owner_release(&txn->map->turn);
  txn->has_turn = false;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Begin and end                                                                                                      */

void walmap_txn_begin(walmap_txn *txn) {
  txn->begun = true;
  txn->level = 0;
}

bool walmap_txn_is_begun(const walmap_txn *txn) { return txn->begun; }

/*
** The pointers that the transaction has handed out end with it (walmap_txn_get), and with them what they may lead to.
*/
static void free_what_was_kept(walmap__shard *shard) {
  if (!shard->keeps)
    return;
  shard->keeps = false;
  walmap__shard_tidy(shard, UINT64_MAX, true); /* what is in a batch */
  walmap__shard_tidy(shard, UINT64_MAX, true); /* what was not yet */
}

/*
** C3 and C7: publishing is a few stores. Rolled-back records are published too: they are dead, and a tail that is the
** log's end is what compaction starts from.
*/
static void end(walmap_txn *txn) {
  walmap__shard *changed[WALMAP_MAX_SHARDS];
  uint32_t n = 0;
  for (uint32_t i = 0; i < txn->n_owned; i++) {
    if (txn->shares[txn->owned[i]->id].written > 0)
      changed[n++] = txn->owned[i];
  }
  if (n > 0) {
    walmap__undo_retire_generations(txn);
    if (n == 1) {
      walmap__publish_one(txn->map, changed[0]);
    } else {
      walmap__publish_many(txn->map, changed, n);
    }
  }
  for (uint32_t i = 0; i < txn->n_owned; i++) {
    walmap__shard *shard = txn->owned[i];
    walmap__share *share = &txn->shares[shard->id];
    free_what_was_kept(shard);
    if (share->written > 0)
      walmap__shard_after_commit(shard, share->written);
    *share = (walmap__share){.level = -1};
    walmap__owner_release(&shard->owner);
  }
  txn->n_owned = 0;
  walmap__txn_forget_found(txn);
  end_turn(txn);
  txn->begun = false;
  walmap__undo_forget(txn);
}

void walmap_txn_commit(walmap_txn *txn) {
  walmap__pending_settle(txn->pending);
  walmap__session_committed(txn->session);
  end(txn);
}

void walmap_txn_rollback(walmap_txn *txn) {
  walmap_txn_rollback_to(txn, -1);
  end(txn);
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Ownership                                                                                                          */

int walmap__txn_own(walmap_txn *txn, walmap__shard *shard) {
  walmap__share *share = &txn->shares[shard->id];
  if (share->owned)
    return WALMAP_OK;
  if (WALMAP__UNLIKELY(txn->takes_turn > 0) && txn->n_owned == 0 && !txn->has_turn)
    take_turn(txn);
  int result = walmap__owner_acquire(&shard->owner, txn->session, txn->map->options.busy_timeout);
  if (result == WALMAP_DEADLOCK)
    txn->takes_turn = TURNS;
  if (result != WALMAP_OK)
    return result;
  share->owned = true;
  txn->owned[txn->n_owned++] = shard;
  return WALMAP_OK;
}

int walmap__txn_own_all(walmap_txn *txn) {
  int result = WALMAP_OK;
  for (uint32_t i = 0; i < txn->map->n_shards && result == WALMAP_OK; i++) {
    result = walmap__txn_own(txn, &txn->map->shards[i]);
  }
  return result;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Reads                                                                                                              */

int walmap_txn_get(walmap_txn *txn, const void *key, size_t key_len, walmap_entry *entry) {
  uint64_t hash = walmap__hash_of(txn->map, key, key_len);
  walmap__shard *shard = walmap__shard_of(txn->map, hash);
  int result = walmap__txn_own(txn, shard);
  if (result != WALMAP_OK)
    return result;
  walmap__pending_settle(txn->pending);
  walmap__generation *g = walmap__shard_generation(shard);
  if (!g)
    return WALMAP_NOTFOUND;
  walmap__write *found = &txn->found;
  found->shard = NULL;
  found->old = walmap__index_find(&g->index, hash, key, key_len, false, &found->slot);
  if (!found->old.record || (found->old.meta & WALMAP__TOMB))
    return WALMAP_NOTFOUND;
  found->shard = shard;
  found->generation = g;
  found->hash = hash;
  walmap__record_entry(found->old.record, found->old.meta, entry);
  return WALMAP_OK;
}

int walmap_txn_each_hash(walmap_txn *txn, uint64_t hash, walmap_each_fn each, void *ctx) {
  walmap__shard *shard = walmap__shard_of(txn->map, hash);
  int result = walmap__txn_own(txn, shard);
  walmap__pending_settle(txn->pending);
  walmap__generation *g = walmap__shard_generation(shard);
  if (result != WALMAP_OK || !g)
    return result;
  walmap__slot_ref slot;
  uint32_t place;
  walmap__index_seek(&g->index, hash, &slot);
  while ((place = walmap__index_next(&slot, hash)) != 0) {
    walmap__record *record = walmap__log_at(&g->log, place);
    uint32_t meta = walmap__record_meta(record);
    walmap_entry entry;
    walmap__record_entry(record, meta, &entry);
    if ((meta & WALMAP__TOMB) || walmap__hash_of(txn->map, entry.key, entry.key_len) != hash)
      continue;
    if (!each(ctx, &entry))
      break;
  }
  return WALMAP_OK;
}

/* The ends of all logs take the tails' place: what is uncommitted here is the transaction's own. */
int walmap_txn_state_begin(walmap_txn *txn, walmap_state *state) {
  int result = walmap__txn_own_all(txn);
  if (result == WALMAP_OK)
    result = walmap__state_enter(state);
  if (result != WALMAP_OK)
    return result;
  state->was_committed = false;
  walmap__pending_settle(txn->pending);
  state->len = 0;
  for (uint32_t i = 0; i < txn->map->n_shards; i++) {
    const walmap__generation *g = walmap__shard_generation(&txn->map->shards[i]);
    state->tails[i] = walmap__shard_end(&txn->map->shards[i]);
    state->len += g ? g->len : 0;
  }
  return WALMAP_OK;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Writes                                                                                                             */

/* Whether the key is the one that was just got: as a rule, where it is changed because of what it was. */
static bool was_found(const walmap_txn *txn, const void *key, size_t key_len) {
  const walmap__version *old = &txn->found.old;
  return txn->found.shard && walmap__record_has_key(old->record, old->meta, key, key_len);
}

/* For the key that was just got. */
static void start_at_found(const walmap_txn *txn, walmap__write *w, const void *key, size_t key_len) {
  *w = txn->found;
  w->key = key;
  w->key_len = key_len;
}

static int own_shard_of(walmap_txn *txn, const void *key, size_t key_len, uint64_t *hash, walmap__shard **shard) {
  *hash = walmap__hash_of(txn->map, key, key_len);
  *shard = walmap__shard_of(txn->map, *hash);
  return walmap__txn_own(txn, *shard);
}

static int start_at(walmap_txn *txn, walmap__write *w, walmap__shard *shard, uint64_t hash, const void *key,
                    size_t key_len) {
  walmap__pending_settle(txn->pending);
  return walmap__write_start(w, shard, hash, key, key_len, false);
}

/* Too great lengths are refused before a byte is looked at. */
static int start(walmap_txn *txn, walmap__write *w, const void *key, size_t key_len, size_t value_len) {
  if (key_len > WALMAP_MAX_LENGTH || value_len > WALMAP_MAX_LENGTH)
    return WALMAP_TOOBIG;
  if (was_found(txn, key, key_len)) {
    start_at_found(txn, w, key, key_len);
    return WALMAP_OK;
  }
  uint64_t hash;
  walmap__shard *shard;
  int result = own_shard_of(txn, key, key_len, &hash, &shard);
  return result == WALMAP_OK ? start_at(txn, w, shard, hash, key, key_len) : result;
}

/*
** The mark first: when the write is prepared, nothing may fail any more (write.h). One that nothing follows does no
** harm.
*/
static int prepare(walmap_txn *txn, walmap__write *w, size_t value_len, bool remove) {
  walmap__txn_forget_found(txn);
  int result = walmap__txn_mark(txn, w->shard);
  if (result == WALMAP_OK)
    result = walmap__write_prepare(w, value_len, remove);
  if (result == WALMAP_OK)
    txn->shares[w->shard->id].written += walmap__records_paid(w->bytes);
  return result;
}

static int put_off(walmap_txn *txn, walmap__shard *shard, uint64_t hash, const void *key, size_t key_len,
                   size_t value_len, void **value) {
  walmap__txn_forget_found(txn);
  if (!txn->pending && !(txn->pending = walmap__pending_new(&txn->map->memory)))
    return WALMAP_NOMEM;
  int result = walmap__txn_mark(txn, shard);
  if (result == WALMAP_OK)
    result = walmap__pending_reserve(txn->pending, shard, hash, key_len, value_len);
  if (result != WALMAP_OK)
    return result;
  txn->shares[shard->id].written++;
  *value = walmap__pending_add(txn->pending, shard, hash, key, key_len, value_len);
  return WALMAP_OK;
}

int walmap_txn_reserve(walmap_txn *txn, const void *key, size_t key_len, size_t value_len, void **value) {
  if (key_len > WALMAP_MAX_LENGTH || value_len > WALMAP_MAX_LENGTH)
    return WALMAP_TOOBIG;
  walmap__write w;
  int result = WALMAP_OK;
  if (was_found(txn, key, key_len)) {
    start_at_found(txn, &w, key, key_len);
  } else {
    uint64_t hash;
    walmap__shard *shard;
    result = own_shard_of(txn, key, key_len, &hash, &shard);
    if (result != WALMAP_OK)
      return result;
    if (walmap__pending_pays(walmap__shard_generation(shard), key_len, value_len))
      return put_off(txn, shard, hash, key, key_len, value_len, value);
    result = start_at(txn, &w, shard, hash, key, key_len);
  }
  if (result == WALMAP_OK)
    result = prepare(txn, &w, value_len, false);
  if (result == WALMAP_OK)
    *value = walmap__write_apply(&w);
  return result;
}

int walmap_txn_reserve_if(walmap_txn *txn, bool present, const void *key, size_t key_len, size_t value_len,
                          void **value) {
  walmap__write w;
  int result = start(txn, &w, key, key_len, value_len);
  if (result != WALMAP_OK)
    return result;
  if (walmap__write_present(&w, NULL) != present)
    return present ? WALMAP_NOTFOUND : WALMAP_EXISTS;
  result = prepare(txn, &w, value_len, false);
  if (result == WALMAP_OK)
    *value = walmap__write_apply(&w);
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
  int result = start(txn, &w, key, key_len, 0);
  if (result != WALMAP_OK)
    return result;
  if (!walmap__write_present(&w, NULL))
    return WALMAP_NOTFOUND;
  result = prepare(txn, &w, 0, true);
  if (result == WALMAP_OK)
    walmap__write_apply(&w);
  return result;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Figures                                                                                                            */

/* The committed sums, with the present figures of the shards that the transaction has written in place of theirs. */
static walmap__sums sums_of(walmap_txn *txn) {
  walmap__pending_settle(txn->pending);
  walmap__sums sums = walmap__collect_sums(txn->map);
  for (uint32_t i = 0; i < txn->n_owned; i++) {
    const walmap__shard *shard = txn->owned[i];
    if (txn->shares[shard->id].written == 0)
      continue;
    const walmap__generation *now = walmap__shard_generation(shard);
    walmap__sums committed = walmap__shard_sums(txn->map, shard->id);
    sums.len += now->len - committed.len;
    sums.bytes += now->log.bytes - committed.bytes;
    sums.dead += now->dead - committed.dead;
  }
  return sums;
}

uint64_t walmap_txn_len(walmap_txn *txn) { return sums_of(txn).len; }
uint64_t walmap_txn_size(walmap_txn *txn) { return sums_of(txn).bytes; }
uint64_t walmap_txn_reclaimable(walmap_txn *txn) { return sums_of(txn).dead; }

/* ------------------------------------------------------------------------------------------------------------------ */
/* Compaction                                                                                                         */

/*
** A shard that the transaction has changed is left alone: its uncommitted records must stay where they are. From one
** that it only owns it may have got pointers, so the copied records are freed at its end.
*/
int walmap_compact(walmap *map, walmap_txn *txn) {
  if (txn)
    walmap__txn_forget_found(txn);
  walmap_session *session = txn ? txn->session : &walmap__single_operation;
  for (uint32_t i = 0; i < map->n_shards; i++) {
    walmap__shard *shard = &map->shards[i];
    bool owned = txn && txn->shares[i].owned;
    if (owned && (txn->shares[i].written > 0 || txn->shares[i].level != -1))
      continue;
    int result = owned ? WALMAP_OK : walmap__owner_acquire(&shard->owner, session, map->options.busy_timeout);
    if (result != WALMAP_OK)
      return result;
    shard->keeps = owned;
    result = walmap__compact_all(shard);
    if (!owned)
      walmap__owner_release(&shard->owner);
    if (result != WALMAP_OK)
      return result;
  }
  return WALMAP_OK;
}
