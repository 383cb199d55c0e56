/* write.c - one change of one key (write.h) */
#include "write.h"

#define A_RECORD 32 /* bytes: a guess, for entries that are expected and not yet seen */

int walmap__write_start(walmap__write *w, walmap__shard *shard, uint64_t hash, const void *key, size_t key_len) {
  walmap__generation *g = walmap__shard_generation(shard);
  if (!g) {
    uint64_t capacity = shard->map->options.capacity / shard->map->n_shards;
    g = walmap__generation_new(shard, WALMAP__FIRST_POSITION - 1, capacity, capacity * A_RECORD);
    if (!g)
      return WALMAP_NOMEM;
    atomic_store_explicit(&shard->generation, g, memory_order_release);
  }
  w->shard = shard;
  w->generation = g;
  w->key = key;
  w->key_len = key_len;
  w->hash = hash;
  w->old = walmap__index_find(&g->index, hash, key, key_len, &w->slot);
  return WALMAP_OK;
}

int walmap__write_prepare(walmap__write *w, size_t value_len, bool remove) {
  if (value_len > WALMAP_MAX_LENGTH)
    return WALMAP_TOOBIG;
  walmap__generation *g = w->generation;
  w->remove = remove;
  w->value_len = value_len;
  w->bytes = walmap__record_bytes(w->key_len, value_len, w->old.record != NULL);
  int result = walmap__log_reserve(&g->log, w->bytes);
  if (result != WALMAP_OK)
    return result;
  if (!w->old.record)
    return walmap__index_reserve(&g->index, w->hash);
  return walmap__deaths_reserve(&g->deaths, g->log.memory, 2) ? WALMAP_OK : WALMAP_NOMEM;
}

/* The old record dies; a tombstone did so when it was written. */
static void supersede(const walmap__write *w, uint32_t by) {
  walmap__generation *g = w->generation;
  const walmap__version *old = &w->old;
  walmap__segment *segment = walmap__log_entry(&g->log, old->place)->segment;
  walmap__segment_set_dirty(segment);
  walmap__yield("write: dirty, next not set");
  walmap__record_set_next(old->record, by);
  walmap__yield("write: next set, slot not");
  if (old->meta & WALMAP__TOMB)
    return;
  size_t size = walmap__record_size(old->record, old->meta);
  segment->dead_bytes += size;
  g->dead += size - (old->meta & WALMAP__PREV ? 4 : 0); /* its prev word was counted when it was written */
  g->len--;
  walmap__deaths_push(&g->deaths, old->place);
}

void *walmap__write_apply(const walmap__write *w) {
  walmap__generation *g = w->generation;
  bool prev = w->old.record != NULL;
  uint32_t flags = (prev ? WALMAP__PREV : 0) | (w->remove ? WALMAP__TOMB : 0);
  uint32_t place;
  if (flags != 0)
    walmap__segment_set_dirty(g->log.active);
  void *record = walmap__log_append(&g->log, w->bytes, &place);
  void *value = walmap__record_write(record, w->bytes, w->key, w->key_len, w->value_len, flags, w->old.place);
  if (prev) {
    supersede(w, place);
    walmap__slot_set(&w->slot, place);
  } else {
    walmap__index_add(&g->index, w->hash, place);
  }
  if (w->remove) {
    g->log.active->dead_bytes += w->bytes;
    g->dead += w->bytes;
    walmap__deaths_push(&g->deaths, place);
  } else {
    g->dead += prev ? 4 : 0;
    g->len++;
  }
  return value;
}
