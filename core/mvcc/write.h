/*
** write.h - one change of one key, in a shard that the caller has locked
**
** A change has three steps, so that a failure changes nothing: start looks the key up; prepare obtains everything that
** the change needs; apply cannot fail. The lock's holder sees the change at once, readers when the commit point moves
** past it.
**
** All of it is inline. A write waits for two cache misses, of the bucket and of the old record; with few instructions
** in between, the CPU begins the next write's misses before these are over.
*/
#ifndef WALMAP_WRITE_H
#define WALMAP_WRITE_H

#include "mvcc/map.h"

typedef struct walmap__write {
  walmap__shard *shard;
  walmap__generation *generation;
  const void *key;
  size_t key_len;
  uint64_t hash;
  walmap__slot_ref slot;
  walmap__version old;     /* newest version of the key, a tombstone too */
  size_t value_len, bytes; /* of the record that replaces it */
  uint64_t expires;        /* its; 0: never */
  uint32_t tag;            /* its; 0: none */
  uint64_t now;            /* the time at which entries are absent; 0: the clock was not read yet */
  bool remove;
  walmap__place place; /* in the tree of an ordered map, for a key without a record */
} walmap__write;

/* Looks the key up, as walmap__index_find. NOMEM only when the shard's first generation must be made. */
static WALMAP__ALWAYS_INLINE int walmap__write_start(walmap__write *w, walmap__shard *shard, uint64_t hash,
                                                     const void *key, size_t key_len, bool rest) {
  w->now = 0;
  w->tag = 0;
  walmap__generation *g = walmap__shard_generation(shard);
  if (WALMAP__UNLIKELY(!g) && !(g = walmap__generation_first(shard)))
    return WALMAP_NOMEM;
  w->shard = shard;
  w->generation = g;
  w->key = key;
  w->key_len = key_len;
  w->hash = hash;
  w->old = walmap__index_find(&g->index, hash, key, key_len, rest, &w->slot);
  return WALMAP_OK;
}

static inline uint64_t walmap__write_now(walmap__write *w) {
  if (w->now == 0)
    w->now = walmap__clock(w->shard->map);
  return w->now;
}

/* Whether the key is present. If so, sets *entry, unless `entry` is NULL. */
static inline bool walmap__write_present(walmap__write *w, walmap_entry *entry) {
  if (!w->old.record || (w->old.meta & WALMAP__TOMB))
    return false;
  if (WALMAP__UNLIKELY(w->old.meta & WALMAP__EXPIRES) &&
      walmap__record_is_expired(w->old.record, w->old.meta, walmap__write_now(w)))
    return false;
  if (entry)
    walmap__record_entry(w->old.record, w->old.meta, entry);
  return true;
}

/* The time that `expires` of a write means (walmap.h). */
static inline uint64_t walmap__write_expires(walmap__write *w, uint64_t expires) {
  if (WALMAP__LIKELY(expires < WALMAP_KEEP))
    return expires < WALMAP_MAX_TIME ? expires : WALMAP_MAX_TIME;
  if (expires == WALMAP_KEEP && walmap__write_present(w, NULL))
    return walmap__record_expires(w->old.record, w->old.meta);
  uint64_t ttl = w->shard->options->ttl;
  return WALMAP__LIKELY(ttl == 0) ? 0 : walmap__expires_after(walmap__write_now(w), ttl);
}

/* For prepare, where the entry expires. */
static inline int walmap__write_prepare_expiry(const walmap__write *w) {
  walmap__generation *g = w->generation;
  walmap *map = w->shard->map;
  if (!atomic_load_explicit(&map->expiring, memory_order_relaxed))
    atomic_store_explicit(&map->expiring, true, memory_order_release);
  return walmap__expiry_reserve(&g->expiry, g->log.memory, g->log.limbo, 1);
}

/*
** Obtains all that setting a value of this length, or removing (value_len 0), needs: OK, NOMEM, TOOBIG. `expires` is as
** in walmap.h. The log comes last, and no step fails after it: a segment that was made for a long record must get that
** record (log.h).
*/
static WALMAP__ALWAYS_INLINE int walmap__write_prepare(walmap__write *w, size_t value_len, uint64_t expires,
                                                       bool remove) {
  if (value_len > WALMAP_MAX_LENGTH)
    return WALMAP_TOOBIG;
  walmap__generation *g = w->generation;
  w->remove = remove;
  w->value_len = value_len;
  w->expires = walmap__write_expires(w, expires);
  if (w->old.record && WALMAP__UNLIKELY(w->old.meta & WALMAP__EXPIRES))
    walmap__write_now(w); /* to count what had expired */
  uint32_t flags = (w->old.record ? WALMAP__PREV : 0) | walmap__tail_flags(w->expires, w->tag);
  w->bytes = walmap__record_bytes(w->key_len, value_len, flags);
  int result = WALMAP_OK;
  if (WALMAP__UNLIKELY(w->expires != 0) && walmap__write_prepare_expiry(w) != WALMAP_OK)
    return WALMAP_NOMEM;
  if (!w->old.record) {
    result = walmap__generation_reserve(g, w->hash, w->key, w->key_len, &w->place);
  } else if (!walmap__garbage_reserve(&g->garbage, g->log.memory, 2)) {
    result = WALMAP_NOMEM;
  }
  if (result != WALMAP_OK)
    return result;
  result = walmap__log_reserve(&g->log, w->bytes);
  if (WALMAP__UNLIKELY(result != WALMAP_OK) && !w->old.record)
    walmap__generation_cancel(g, w->place);
  return result;
}

/*
** For apply: the old record dies. A tombstone died when it was written. Returns the bytes that are dead now, without
** the `prev` word, which was counted when the record was written; 0 for a tombstone.
*/
static WALMAP__ALWAYS_INLINE size_t walmap__write_supersede(const walmap__write *w, uint32_t by) {
  walmap__generation *g = w->generation;
  const walmap__version *old = &w->old;
  walmap__segment *segment = walmap__log_entry(&g->log, old->address)->segment;
  walmap__segment_set_dirty(segment);
  walmap__yield("write: dirty, next not set");
  walmap__record_set_next(old->record, by);
  walmap__yield("write: next set, slot not");
  if (old->meta & WALMAP__TOMB)
    return 0;
  size_t size = walmap__record_size(old->record, old->meta);
  segment->dead_bytes += size;
  walmap__garbage_push(&g->garbage, old->address);
  return size - (old->meta & WALMAP__PREV ? 4 : 0);
}

/* For apply: the generation's counters. `died`: what walmap__write_supersede returned, 0 for a key without a record. */
static WALMAP__ALWAYS_INLINE void walmap__write_count(const walmap__write *w, size_t died) {
  walmap__generation *g = w->generation;
  size_t word = w->old.record ? 4 : 0; /* `prev` */
  if (WALMAP__LIKELY(died != 0 && !w->remove && w->expires == 0 && !(w->old.meta & WALMAP__EXPIRES))) {
    g->dead += died + word; /* one entry for another */
    return;
  }
  if (died != 0)
    walmap__generation_count_out(g, walmap__record_expires(w->old.record, w->old.meta), w->now, died);
  if (w->remove) {
    g->dead += w->bytes;
  } else {
    g->dead += word;
    walmap__generation_count_in(g, w->expires, w->bytes - word);
  }
}

/* Makes the change that was prepared. Returns where the value's bytes go. */
static WALMAP__ALWAYS_INLINE void *walmap__write_apply(const walmap__write *w) {
  walmap__generation *g = w->generation;
  bool prev = w->old.record != NULL;
  uint32_t flags = (prev ? WALMAP__PREV : 0) | (w->remove ? WALMAP__TOMB : 0);
  uint32_t address;
  if (flags != 0)
    walmap__segment_set_dirty(g->log.active);
  if (WALMAP__UNLIKELY(w->tag != 0)) {
    flags |= WALMAP__TAGGED;
    atomic_store_explicit(&g->log.active->tagged, true, memory_order_release);
  }
  if (WALMAP__UNLIKELY(w->expires != 0)) {
    flags |= WALMAP__EXPIRES;
    walmap__segment_note_expires(g->log.active, w->expires);
  }
  void *record = walmap__log_append(&g->log, w->bytes, &address);
  const walmap__record_tail tail = {w->expires, w->tag, w->old.address};
  void *value = walmap__record_write(record, w->bytes, w->key, w->key_len, w->value_len, flags, &tail);
  size_t died = 0;
  if (prev) {
    died = walmap__write_supersede(w, address);
    walmap__generation_move(g, &w->slot, address);
  } else {
    walmap__generation_add(g, w->hash, w->place, address);
  }
  if (w->remove) {
    g->log.active->dead_bytes += w->bytes;
    walmap__garbage_push(&g->garbage, address);
  }
  walmap__write_count(w, died);
  return value;
}

#endif
