/* undo.c - marks and savepoints of a transaction, and undoing (txn.h has the picture) */
#include "mvcc/undo.h"

#include <assert.h>

#define FIRST_MARKS 16
#define KEPT_MARKS 1024 /* room that a transaction object keeps between transactions */

/* ------------------------------------------------------------------------------------------------------------------ */
/* Marks                                                                                                              */

static int reserve_mark(walmap_txn *txn) {
  if (txn->n_marks < txn->max_marks)
    return WALMAP_OK;
  uint32_t max = txn->max_marks ? txn->max_marks * 2 : FIRST_MARKS;
  walmap__mark *marks = walmap__memory_alloc(&txn->map->memory, max * sizeof *marks);
  if (!marks)
    return WALMAP_NOMEM;
  if (txn->n_marks > 0)
    memcpy(marks, txn->marks, txn->n_marks * sizeof *marks);
  walmap__undo_free(txn);
  txn->marks = marks;
  txn->max_marks = max;
  return WALMAP_OK;
}

void walmap__mark_shard(const walmap__shard *shard, walmap__mark *mark) {
  walmap__generation *g = walmap__shard_generation(shard);
  walmap__segment *last = g->log.last;
  *mark = (walmap__mark){
      .generation = g,
      .segment = last,
      .offset = last ? walmap__segment_used(last) : 0,
      .lsn = g->log.end,
      .garbage_end = g->garbage.end,
      .len = g->len,
      .bytes = g->log.bytes,
      .dead = g->dead,
      .expired = g->expiry.expired,
      .expirations = g->expirations,
      .evicting = shard->evicting,
      .shard = shard->id,
      .previous_level = -1,
  };
}

int walmap__txn_mark(walmap_txn *txn, walmap__shard *shard) {
  walmap__txn_shard *txn_shard = &txn->txn_shards[shard->id];
  if (txn_shard->level == txn->level)
    return WALMAP_OK;
  if (reserve_mark(txn) != WALMAP_OK)
    return WALMAP_NOMEM;
  walmap__mark *mark = &txn->marks[txn->n_marks++];
  walmap__mark_shard(shard, mark);
  mark->level = txn->level;
  mark->previous_level = txn_shard->level;
  txn_shard->level = txn->level;
  return WALMAP_OK;
}

void walmap__undo_free(walmap_txn *txn) {
  if (txn->marks)
    walmap__memory_free(&txn->map->memory, txn->marks, txn->max_marks * sizeof *txn->marks);
  txn->marks = NULL;
  txn->max_marks = 0;
}

void walmap__undo_forget(walmap_txn *txn) {
  txn->n_marks = 0;
  if (txn->max_marks > KEPT_MARKS)
    walmap__undo_free(txn);
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Undoing                                                                                                            */

/*
** A generation may be large, so it is freed at the transaction's end if no reader sees it: the next write may be far.
*/
static void retire_generation(walmap__shard *shard, walmap__generation *g) {
  walmap__limbo_add(&shard->limbo, &g->retired, g->log.bytes);
  shard->defer_free = true;
}

void walmap__undo_retire_generations(walmap_txn *txn) {
  for (uint32_t i = 0; i < txn->n_marks; i++) {
    const walmap__mark *mark = &txn->marks[i];
    if (mark->previous_level != -1)
      continue; /* only the shard's first mark */
    walmap__shard *shard = &txn->map->shards[mark->shard];
    walmap__generation *g = walmap__shard_generation(shard);
    while (g != mark->generation) {
      g = g->previous;
      retire_generation(shard, g);
    }
  }
}

/* The LSNs of the dropped generations are not reused: a state of this transaction may have its commit point there. */
static void drop_newer_generations(walmap__shard *shard, const walmap__mark *mark) {
  walmap__generation *g = walmap__shard_generation(shard);
  if (g == mark->generation)
    return;
  walmap__log_seal(&mark->generation->log);
  mark->generation->log.end = g->log.end;
  atomic_store_explicit(&shard->generation, mark->generation, memory_order_release);
  while (g != mark->generation) {
    walmap__generation *previous = g->previous;
    retire_generation(shard, g);
    g = previous;
  }
}

/* Makes the record the newest of its key again. */
static void revive_record(walmap__generation *g, uint32_t address) {
  walmap__record *record = walmap__log_at(&g->log, address);
  uint32_t meta = walmap__record_meta(record);
  walmap__record_set_next(record, 0);
  if (meta & WALMAP__TOMB)
    return;
  size_t size = walmap__record_size(record, meta);
  uint64_t expires = walmap__record_expires(record, meta);
  walmap__log_entry(&g->log, address)->segment->dead_bytes -= size;
  if (expires > g->expiry.swept)
    walmap__expiry_add(&g->expiry, expires, size - (meta & WALMAP__PREV ? 4 : 0));
}

/* One record of those that are undone. */
typedef struct undoing {
  walmap__generation *generation;
  walmap__segment *segment;
  walmap__record *record;
  uint32_t meta, prev;
  uint64_t mark_lsn;
} undoing;

/* Calls `step` for the log's records from the mark on, but for dead ones. */
static void each_since(walmap__generation *g, const walmap__mark *mark, void (*step)(const undoing *)) {
  undoing u = {.generation = g, .segment = mark->segment, .mark_lsn = mark->lsn};
  if (!u.segment)
    u.segment = walmap__log_first(&g->log);
  size_t offset = mark->offset;
  for (; u.segment; u.segment = walmap__segment_next(u.segment), offset = 0) {
    size_t used = walmap__segment_used(u.segment);
    while (offset < used) {
      u.record = walmap__segment_record(u.segment, offset);
      u.meta = walmap__record_meta(u.record);
      u.prev = walmap__record_prev(u.record, u.meta);
      if (!(u.meta & WALMAP__DEAD))
        step(&u);
      offset += walmap__record_size(u.record, u.meta);
    }
  }
}

/* Whether the key has no older record since the mark: this one stands for all that the key has. */
static bool is_first_of_key(const undoing *u) {
  return u->prev == 0 || walmap__log_lsn(&u->generation->log, u->prev) < u->mark_lsn;
}

/* The slot of the record's key, and its newest record. */
static walmap__version find_newest(const undoing *u, uint64_t *hash, walmap__slot_ref *slot) {
  walmap__generation *g = u->generation;
  walmap_entry e;
  walmap__record_entry(u->record, u->meta, &e);
  *hash = g->index.hash(e.key, e.key_len, g->index.seed);
  walmap__version newest = walmap__index_find(&g->index, *hash, e.key, e.key_len, false, slot);
  assert(newest.record); /* the record is not undone yet, so the index holds its key */
  return newest;
}

/* The key's newest record goes. */
static void forget_expiry(const undoing *u) {
  if (!is_first_of_key(u))
    return;
  walmap__generation *g = u->generation;
  uint64_t hash;
  walmap__slot_ref slot;
  walmap__version newest = find_newest(u, &hash, &slot);
  uint64_t expires = walmap__record_expires(newest.record, newest.meta);
  size_t size = walmap__record_size(newest.record, newest.meta);
  if (expires > g->expiry.swept)
    walmap__expiry_remove(&g->expiry, expires, size - (newest.meta & WALMAP__PREV ? 4 : 0));
}

/*
** Of several records of a key, only the first has a `prev` before the mark, or none: that one the index holds again.
** Meanwhile readers follow `prev` past all of them, since all lie past the readers' commit points.
*/
static void undo_record(const undoing *u) {
  walmap__generation *g = u->generation;
  if (is_first_of_key(u)) {
    uint64_t hash;
    walmap__slot_ref slot;
    (void)find_newest(u, &hash, &slot);
    if (u->prev != 0) {
      walmap__generation_move(g, &slot, u->prev);
      walmap__yield("undo: slot set back, next not");
      revive_record(g, u->prev);
    } else {
      walmap__generation_drop(g, hash, &slot);
    }
  }
  bool counted = (u->meta & WALMAP__TOMB) || walmap__record_next(u->record) != 0;
  if (!counted)
    u->segment->dead_bytes += walmap__record_size(u->record, u->meta);
  walmap__segment_set_dirty(u->segment);
  walmap__record_set_meta(u->record, u->meta | WALMAP__DEAD);
}

/* All new times go before an old one comes back: so the table has room for those, as it had at the mark (expiry.h). */
void walmap__undo_to_mark(walmap__shard *shard, const walmap__mark *mark) {
  walmap__generation *g = mark->generation;
  drop_newer_generations(shard, mark);
  if (walmap__expiry_is_used(&g->expiry))
    each_since(g, mark, forget_expiry);
  each_since(g, mark, undo_record);
  walmap__garbage_truncate(&g->garbage, g->log.memory, mark->garbage_end);
  g->len = mark->len;
  g->dead = mark->dead + (g->log.bytes - mark->bytes);
  g->expiry.expired = mark->expired;
  g->expirations = mark->expirations;
  shard->evicting = mark->evicting;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Savepoints                                                                                                         */

void walmap__txn_savepoint(walmap_txn *txn, int64_t n) {
  walmap__deferred_flush(txn->deferred);
  walmap__txn_release(txn, n);
  txn->level = n + 1;
}

/*
** Marks above the level now belong to it. If a shard has a mark at the level already, its later marks are dropped: so
** marks do not pile up over the statements of a long transaction.
*/
void walmap__txn_release(walmap_txn *txn, int64_t n) {
  if (txn->level <= n)
    return;
  txn->level = n;
  uint32_t first = txn->n_marks;
  while (first > 0 && txn->marks[first - 1].level > n)
    first--;
  for (uint32_t i = first; i < txn->n_marks; i++) {
    walmap__mark *mark = &txn->marks[i];
    if (mark->previous_level <= n)
      txn->txn_shards[mark->shard].level = mark->previous_level;
  }
  uint32_t kept = first;
  for (uint32_t i = first; i < txn->n_marks; i++) {
    walmap__mark mark = txn->marks[i];
    walmap__txn_shard *txn_shard = &txn->txn_shards[mark.shard];
    if (txn_shard->level == n)
      continue;
    mark.previous_level = txn_shard->level;
    mark.level = n;
    txn_shard->level = n;
    txn->marks[kept++] = mark;
  }
  txn->n_marks = kept;
}

void walmap__txn_rollback_to(walmap_txn *txn, int64_t n) {
  if (txn->level <= n)
    return;
  walmap__txn_forget_found(txn);
  walmap__deferred_discard(txn->deferred);
  while (txn->n_marks > 0 && txn->marks[txn->n_marks - 1].level > n) {
    const walmap__mark *mark = &txn->marks[--txn->n_marks];
    walmap__undo_to_mark(&txn->map->shards[mark->shard], mark);
    txn->txn_shards[mark->shard].level = mark->previous_level;
  }
  txn->level = n + 1;
}

void walmap_txn_savepoint(walmap_txn *txn, int n) { walmap__txn_savepoint(txn, n); }
void walmap_txn_release(walmap_txn *txn, int n) { walmap__txn_release(txn, n); }
void walmap_txn_rollback_to(walmap_txn *txn, int n) { walmap__txn_rollback_to(txn, n); }
