/*
** restore.c - an image, or nothing, becomes the content of a map, inside a transaction
**
** Each shard gets a new generation, built beside the present one; readers do not see it. When the whole image has
** proved good, the generations are linked. They are visible past the present commit points, so the commit shows them
** and a rollback drops them (shard.h). An error before that frees them and leaves the map as it was.
*/
#include "mvcc/bounds.h"
#include "mvcc/txn.h"
#include "transfer/bulk_load.h"

/* A shard that was never written first gets an empty generation, to which a rollback can go back. */
static int mark_all(walmap_txn *txn) {
  for (uint32_t i = 0; i < txn->map->n_shards; i++) {
    walmap__shard *shard = &txn->map->shards[i];
    if (!walmap__shard_generation(shard) && !walmap__generation_first_empty(shard))
      return WALMAP_NOMEM;
    int result = walmap__txn_mark(txn, shard);
    if (result != WALMAP_OK)
      return result;
  }
  return WALMAP_OK;
}

static void link_all(walmap_txn *txn, const walmap__bulk_load *b) {
  walmap__txn_forget_found(txn);
  for (uint32_t i = 0; i < txn->map->n_shards; i++) {
    walmap__shard *shard = &txn->map->shards[i];
    walmap__generation *from = walmap__shard_generation(shard), *to = b->shards[i].generation;
    to->previous = from;
    to->expirations =
        from->expirations +
        (walmap__expiry_is_used(&from->expiry) ? walmap__expiry_count_own(&from->expiry, walmap__txn_now(txn)) : 0);
    atomic_store_explicit(&shard->generation, to, memory_order_release);
    txn->txn_shards[i].written++;
  }
}

/* The new generations begin at the logs' ends, so from here on no record may be written to the present ones. */
static int lock_and_flush(walmap_txn *txn, walmap__bulk_load *b) {
  int result = walmap__txn_lock_all(txn);
  walmap__deferred_flush(txn->deferred);
  b->others_before = walmap__bounds_others(txn->map);
  return result;
}

/*
** Whether the shards' logs are within their shares of max_bytes, once the generations that they replace are freed: what
** the load has added to the memory is what will be there then. Indexes differ a little from load to load, so that the
** shares may be exceeded as much as max_bytes may be.
*/
static bool logs_are_within(walmap_txn *txn, const walmap__bulk_load *b) {
  enum { TOLERANCE = 32 };
  walmap *map = txn->map;
  uint64_t others = walmap__bounds_others(map);
  others = map->empty_bytes + (others > b->others_before ? others - b->others_before : 0);
  walmap__share share = walmap__share_beside(map, others / map->n_shards);
  for (uint32_t i = 0; i < map->n_shards; i++) {
    if (walmap__live_with_links(b->shards[i].generation) > share.live + share.live / TOLERANCE)
      return false;
  }
  return true;
}

/*
** Where error_when_full is set: FULL when there are more entries, or bytes of a shard, than the bounds allow. The
** transaction has locked all shards, so the entries that are claimed are its own.
*/
static int admit_loaded(walmap_txn *txn, const walmap__bulk_load *b) {
  walmap *map = txn->map;
  if (!map->options.error_when_full || txn->ignores_bounds)
    return WALMAP_OK;
  if (map->options.max_entries != 0 && b->entries > map->options.max_entries)
    return WALMAP_FULL;
  if (map->options.max_bytes != 0 && !logs_are_within(txn, b))
    return WALMAP_FULL;
  int64_t claimed = map->options.max_entries == 0 ? 0 : (int64_t)b->entries;
  int64_t more = claimed - atomic_load(&map->entries);
  if (more > 0) {
    atomic_fetch_add(&map->entries, more);
    txn->claimed += more;
  }
  return WALMAP_OK;
}

static int link_loaded(walmap_txn *txn, walmap__bulk_load *b, int result, uint64_t *entries) {
  if (result != WALMAP_OK)
    return result;
  result = admit_loaded(txn, b);
  if (result == WALMAP_OK)
    result = mark_all(txn);
  if (result != WALMAP_OK) {
    walmap__bulk_load_drop(b);
    return result;
  }
  link_all(txn, b);
  if (entries)
    *entries = b->entries;
  return WALMAP_OK;
}

static walmap__bulk_load bulk_load_of(walmap_txn *txn, walmap_check_fn check, void *ctx) {
  return (walmap__bulk_load){.map = txn->map,
                             .check = check,
                             .ctx = ctx,
                             .now = walmap__txn_now(txn),
                             .tag = txn->tag,
                             .interrupt = walmap__session_interrupt(txn->session)};
}

int walmap_txn_restore(walmap_txn *txn, const void *image, size_t size, walmap_check_fn check, void *ctx,
                       uint64_t *entries, walmap_why *why) {
  walmap__bulk_load b = bulk_load_of(txn, check, ctx);
  int result = lock_and_flush(txn, &b);
  if (result == WALMAP_OK)
    result = walmap__bulk_load_from_memory(&b, image, size, why);
  return link_loaded(txn, &b, result, entries);
}

int walmap_txn_restore_read(walmap_txn *txn, walmap_read_fn read, void *read_ctx, walmap_check_fn check, void *ctx,
                            uint64_t *entries, walmap_why *why) {
  walmap__bulk_load b = bulk_load_of(txn, check, ctx);
  int result = lock_and_flush(txn, &b);
  if (result == WALMAP_OK)
    result = walmap__bulk_load_from_stream(&b, read, read_ctx, why);
  return link_loaded(txn, &b, result, entries);
}

/* All shards, also those without entries: the generations that a state sees are made together (ordered.c). */
int walmap_txn_clear(walmap_txn *txn, uint64_t *removed) {
  walmap__bulk_load b = {.map = txn->map};
  int result = lock_and_flush(txn, &b);
  if (result != WALMAP_OK)
    return result;
  uint64_t entries = walmap_txn_len(txn);
  if (entries > 0)
    result = link_loaded(txn, &b, walmap__bulk_load_nothing(&b), NULL);
  if (result == WALMAP_OK && removed)
    *removed = entries;
  return result;
}

int walmap_restore(walmap *map, const void *image, size_t size, uint64_t *entries, walmap_why *why) {
  walmap_session *session = NULL;
  walmap_txn *txn = NULL;
  int result = walmap_session_new(NULL, NULL, &session);
  if (result == WALMAP_OK)
    result = walmap_txn_new(map, session, &txn);
  if (result == WALMAP_OK) {
    walmap_txn_begin(txn);
    result = walmap_txn_restore(txn, image, size, NULL, NULL, entries, why);
    if (result == WALMAP_OK) {
      walmap_txn_commit(txn);
    } else {
      walmap_txn_rollback(txn);
    }
  }
  walmap_txn_free(txn);
  walmap_session_free(session);
  return result;
}
