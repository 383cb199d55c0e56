/* pending.c - writes of a transaction that wait for memory together (pending.h has the picture) */
#include "pending.h"

#include <assert.h>

walmap__pending *walmap__pending_new(walmap__memory *memory) {
  walmap__pending *pending = walmap__memory_alloc(memory, sizeof *pending);
  walmap__pending_drop(pending);
  return pending;
}

void walmap__pending_free(walmap__memory *memory, walmap__pending *pending) {
  if (pending)
    walmap__memory_free(memory, pending, sizeof *pending);
}

/* Whether the record of one more write fits into the shard's active segment behind those of all that are pending. */
static bool fits(const walmap__pending *pending, const walmap__log *log, size_t record) {
  const walmap__segment *active = log->active;
  return active && active->capacity - walmap__segment_used(active) >= pending->records + record;
}

/* For one more write beside all that are pending. Their records fit, or there are none. */
static int reserve(const walmap__pending *pending, walmap__generation *g, uint64_t hash, size_t record) {
  int result = walmap__log_reserve(&g->log, record);
  if (result == WALMAP_OK)
    result = walmap__index_reserve(&g->index, hash, pending->n + 1);
  if (result == WALMAP_OK && !walmap__deaths_reserve(&g->deaths, g->log.memory, pending->n + 2))
    result = WALMAP_NOMEM;
  return result;
}

int walmap__pending_reserve(walmap__pending *pending, walmap__shard *shard, uint64_t hash, size_t key_len,
                            size_t value_len) {
  walmap__generation *g = walmap__shard_generation(shard);
  size_t record = walmap__record_bytes(key_len, value_len, true);
  if (pending->n == WALMAP__MAX_PENDING || WALMAP__STAGING - pending->staged < key_len + value_len ||
      !fits(pending, &g->log, record))
    walmap__pending_settle(pending);
  return reserve(pending, g, hash, record);
}

void *walmap__pending_add(walmap__pending *pending, walmap__shard *shard, uint64_t hash, const void *key,
                          size_t key_len, size_t value_len) {
  walmap__index_prefetch(&walmap__shard_generation(shard)->index, hash);
  uint8_t *to = pending->staging + pending->staged;
  pending->writes[pending->n++] =
      (walmap__pending_write){shard, hash, (uint32_t)key_len, (uint32_t)value_len, pending->staged};
  pending->staged += (uint32_t)(key_len + value_len);
  pending->records += (uint32_t)walmap__record_bytes(key_len, value_len, true);
  walmap__copy_bytes(to, key, key_len);
  return to + key_len;
}

static void make(const walmap__pending *pending, const walmap__pending_write *p) {
  const uint8_t *key = pending->staging + p->at;
  walmap__write w;
  int result = walmap__write_start(&w, p->shard, p->hash, key, p->key_len, false);
  if (result == WALMAP_OK)
    result = walmap__write_prepare(&w, p->value_len, false);
  assert(result == WALMAP_OK); /* everything was reserved */
  if (result == WALMAP_OK)
    walmap__copy_bytes(walmap__write_apply(&w), key + p->key_len, p->value_len);
}

static void fetch_record(const walmap__pending_write *p) {
  const walmap__index *index = &walmap__shard_generation(p->shard)->index;
  walmap__index_prefetch_record(index, walmap__index_home_bucket(index, p->hash), p->hash, p->key_len);
}

void walmap__pending_make(walmap__pending *pending) {
  for (uint32_t i = 0; i < pending->n && pending->n > 1; i++)
    fetch_record(&pending->writes[i]);
  for (uint32_t i = 0; i < pending->n; i++)
    make(pending, &pending->writes[i]);
  walmap__pending_drop(pending);
}
