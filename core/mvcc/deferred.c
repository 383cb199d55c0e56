/* deferred.c - writes of a transaction that wait for memory together (deferred.h has the picture) */
#include "mvcc/deferred.h"

#include <assert.h>

walmap__deferred *walmap__deferred_new(walmap__memory *memory) {
  walmap__deferred *deferred = walmap__memory_alloc(memory, sizeof *deferred);
  walmap__deferred_discard(deferred);
  return deferred;
}

void walmap__deferred_free(walmap__memory *memory, walmap__deferred *deferred) {
  if (deferred)
    walmap__memory_free(memory, deferred, sizeof *deferred);
}

/* Whether the record of one more write fits into the shard's active segment behind those of all deferred writes. */
static bool record_fits(const walmap__deferred *deferred, const walmap__log *log, size_t record) {
  const walmap__segment *active = log->active;
  return active && active->capacity - walmap__segment_used(active) >= deferred->records + record;
}

/* Reserves for one more write, beside all deferred writes; their records fit, or there are none. */
static int reserve_write(const walmap__deferred *deferred, walmap__generation *g, uint64_t hash, size_t record,
                         uint64_t expires) {
  int result = walmap__log_reserve(&g->log, record);
  if (result == WALMAP_OK)
    result = walmap__index_reserve(&g->index, hash, deferred->n + 1);
  if (result == WALMAP_OK && !walmap__garbage_reserve(&g->garbage, g->log.memory, deferred->n + 2))
    result = WALMAP_NOMEM;
  if (result == WALMAP_OK && expires != 0)
    result = walmap__expiry_reserve(&g->expiry, g->log.memory, g->log.limbo, deferred->n + 1);
  return result;
}

static size_t record_bytes(size_t key_len, size_t value_len, uint64_t expires, uint32_t tag) {
  return walmap__record_bytes(key_len, value_len, WALMAP__PREV | walmap__tail_flags(expires, tag));
}

int walmap__deferred_reserve(walmap__deferred *deferred, walmap__shard *shard, uint64_t hash, size_t key_len,
                             size_t value_len, uint64_t expires, uint32_t tag) {
  walmap__generation *g = walmap__shard_generation(shard);
  size_t record = record_bytes(key_len, value_len, expires, tag);
  if (deferred->n == WALMAP__MAX_DEFERRED || WALMAP__STAGING - deferred->staged < key_len + value_len ||
      !record_fits(deferred, &g->log, record))
    walmap__deferred_flush(deferred);
  return reserve_write(deferred, g, hash, record, expires);
}

void *walmap__deferred_add(walmap__deferred *deferred, walmap__shard *shard, uint64_t hash, const void *key,
                           size_t key_len, size_t value_len, uint64_t expires, uint32_t tag) {
  walmap__index_prefetch(&walmap__shard_generation(shard)->index, hash);
  uint8_t *to = deferred->staging + deferred->staged;
  deferred->writes[deferred->n++] =
      (walmap__deferred_write){shard, hash, expires, (uint32_t)key_len, (uint32_t)value_len, deferred->staged, tag};
  deferred->staged += (uint32_t)(key_len + value_len);
  deferred->records += (uint32_t)record_bytes(key_len, value_len, expires, tag);
  walmap__copy_bytes(to, key, key_len);
  return to + key_len;
}

static void make_write(const walmap__deferred *deferred, const walmap__deferred_write *p, uint64_t now) {
  const uint8_t *key = deferred->staging + p->at;
  walmap__write w;
  int result = walmap__write_start(&w, p->shard, p->hash, key, p->key_len, false);
  w.tag = p->tag;
  w.now = now;
  if (result == WALMAP_OK)
    result = walmap__write_prepare(&w, p->value_len, p->expires, false);
  assert(result == WALMAP_OK); /* all was reserved */
  if (result == WALMAP_OK)
    walmap__copy_bytes(walmap__write_apply(&w), key + p->key_len, p->value_len);
}

static void fetch_record(const walmap__deferred_write *p) {
  const walmap__index *index = &walmap__shard_generation(p->shard)->index;
  walmap__index_prefetch_record(index, walmap__index_home_bucket(index, p->hash), p->hash, p->key_len);
}

void walmap__deferred_apply(walmap__deferred *deferred) {
  for (uint32_t i = 0; i < deferred->n && deferred->n > 1; i++)
    fetch_record(&deferred->writes[i]);
  walmap *map = deferred->writes[0].shard->map;
  uint64_t now = atomic_load_explicit(&map->expiring, memory_order_relaxed) ? walmap__clock(map) : 0;
  for (uint32_t i = 0; i < deferred->n; i++)
    make_write(deferred, &deferred->writes[i], now);
  walmap__deferred_discard(deferred);
}
