/* state.c - reading one committed state: by key, by hash, many keys at once; and single reads (state.h) */
#include "mvcc/state.h"
#include "platform/platform.h"

int walmap_state_new(walmap *map, walmap_state **out) {
  walmap_state *s = walmap__memory_alloc(&map->memory, sizeof *s + map->n_shards * sizeof s->commit_points[0]);
  if (!s)
    return WALMAP_NOMEM;
  memset(s, 0, sizeof *s);
  s->map = map;
  walmap__state_list(s);
  *out = s;
  return WALMAP_OK;
}

void walmap_state_free(walmap_state *s) {
  if (!s)
    return;
  if (s->slot)
    walmap_state_end(s);
  walmap__state_unlist(s);
  walmap__memory_free(&s->map->memory, s, sizeof *s + s->map->n_shards * sizeof s->commit_points[0]);
}

static inline void note_begin(walmap_state *s) {
  if (!s->is_outer)
    atomic_store_explicit(&s->began, walmap__coarse_now(), memory_order_relaxed);
}

void walmap_state_set_outer(walmap_state *s) { s->is_outer = true; }

void walmap_state_set_interrupt(walmap_state *s, bool (*interrupt)(void *ctx), void *ctx) {
  s->interrupt = (walmap__interrupt){interrupt, ctx, 0};
}

int walmap__state_enter(walmap_state *s) {
  s->slot = walmap__epoch_enter(&s->map->epoch, &s->map->memory);
  if (!s->slot)
    return WALMAP_NOMEM;
  s->len = WALMAP__UNCOUNTED;
  note_begin(s);
  return WALMAP_OK;
}

/* X2. What was collected already will do, if it is still so when the clock has been read. */
static WALMAP__NOINLINE void read_state_clock(walmap_state *s) {
  do {
    s->now = walmap__clock(s->map);
    walmap__yield("state: clock read");
    walmap__collect_commit_points(s->map, s->commit_points, true);
  } while (walmap__clock(s->map) != s->now);
}

int walmap_state_begin(walmap_state *s) {
  int result = walmap__state_enter(s);
  if (result != WALMAP_OK)
    return result;
  walmap__collect_commit_points(s->map, s->commit_points, s->was_committed);
  s->was_committed = true;
  s->now = 0;
  if (WALMAP__UNLIKELY(atomic_load_explicit(&s->map->expiring, memory_order_acquire)))
    read_state_clock(s);
  return WALMAP_OK;
}

void walmap_state_commit_points(const walmap_state *s, uint64_t *commit_points) {
  memcpy(commit_points, s->commit_points, s->map->n_shards * sizeof s->commit_points[0]);
}

void walmap_state_begin_at(walmap_state *s, const uint64_t *commit_points) {
  memcpy(s->commit_points, commit_points, s->map->n_shards * sizeof s->commit_points[0]);
  s->len = WALMAP__UNCOUNTED;
  s->was_committed = true;
  note_begin(s);
  s->now = atomic_load_explicit(&s->map->expiring, memory_order_acquire) ? walmap__clock(s->map) : 0;
}

void walmap_state_end(walmap_state *s) {
  atomic_store_explicit(&s->began, 0, memory_order_relaxed);
  if (s->slot)
    walmap__epoch_leave(s->slot);
  s->slot = NULL;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* By key                                                                                                             */

/*
** NOTFOUND when the key has no version at the commit point, or it has expired at this time; 0 is the clock's, which is
** read only if it matters.
*/
static WALMAP__ALWAYS_INLINE int look_up(walmap *map, const walmap__generation *g, uint64_t hash, const void *key,
                                         size_t key_len, uint64_t commit_point, uint64_t now, walmap_entry *entry) {
  if (!g)
    return WALMAP_NOTFOUND;
  walmap__slot_ref ref;
  walmap__version version = walmap__index_find(&g->index, hash, key, key_len, true, &ref);
  if (!version.record || !walmap__version_at(&g->log, &version, commit_point))
    return WALMAP_NOTFOUND;
  if (WALMAP__UNLIKELY(g->index.keeps_visits))
    walmap__slot_visit(&ref);
  walmap__record_lasting_entry(version.record, version.meta, entry);
  if (WALMAP__LIKELY(!(version.meta & WALMAP__EXPIRES)))
    return WALMAP_OK;
  entry->expires = walmap__record_expires(version.record, version.meta);
  return entry->expires > (now != 0 ? now : walmap__clock(map)) ? WALMAP_OK : WALMAP_NOTFOUND;
}

/* Branches, and no choice of an address: that would depend on the lookup's cache misses (walmap__copy_late). */
static WALMAP__ALWAYS_INLINE void count_lookup(walmap__lookups *lookups, int result) {
  if (result == WALMAP_OK) {
    walmap__count(&lookups->hits, 1);
  } else {
    walmap__count(&lookups->misses, 1);
  }
}

static WALMAP__ALWAYS_INLINE int look_up_in_state(walmap_state *s, const void *key, size_t key_len,
                                                  walmap_entry *entry) {
  uint64_t hash = walmap__hash_of(s->map, key, key_len);
  walmap__shard *shard = walmap__shard_of(s->map, hash);
  uint64_t commit_point = s->commit_points[shard->id];
  return look_up(s->map, walmap__shard_at(shard, commit_point), hash, key, key_len, commit_point, s->now, entry);
}

int walmap_state_peek(walmap_state *s, const void *key, size_t key_len, walmap_entry *entry) {
  return look_up_in_state(s, key, key_len, entry);
}

int walmap_state_get(walmap_state *s, const void *key, size_t key_len, walmap_entry *entry) {
  int result = look_up_in_state(s, key, key_len, entry);
  count_lookup(&s->lookups, result);
  return result;
}

void walmap_state_each_hash(walmap_state *s, uint64_t hash, walmap_each_fn each, void *ctx) {
  walmap__shard *shard = walmap__shard_of(s->map, hash);
  uint64_t commit_point = s->commit_points[shard->id];
  walmap__generation *g = walmap__shard_at(shard, commit_point);
  if (!g)
    return;
  walmap__slot_ref ref;
  uint32_t address;
  walmap__index_seek(&g->index, hash, &ref);
  while ((address = walmap__index_next(&ref, hash)) != 0) {
    walmap__version version = walmap__log_version(&g->log, address);
    walmap_entry entry;
    walmap__record_entry(version.record, version.meta, &entry);
    if (walmap__hash_of(s->map, entry.key, entry.key_len) != hash ||
        !walmap__version_at(&g->log, &version, commit_point))
      continue;
    if (walmap__record_is_expired(version.record, version.meta, s->now))
      continue;
    walmap__record_entry(version.record, version.meta, &entry);
    if (!each(ctx, &entry))
      return;
  }
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Many keys                                                                                                          */

/* One lookup of several. Each step prefetches what the next step loads. */
typedef struct probe {
  walmap__generation *g;
  uint64_t hash, commit_point;
  walmap__bucket *bucket;
} probe;

enum { GROUP = 16 };

static void prefetch_probe(walmap_state *s, const walmap_entry *e, probe *p) {
  p->hash = walmap__hash_of(s->map, e->key, e->key_len);
  walmap__shard *shard = walmap__shard_of(s->map, p->hash);
  p->commit_point = s->commit_points[shard->id];
  p->g = walmap__shard_at(shard, p->commit_point);
  if (!p->g)
    return;
  p->bucket = walmap__index_home_bucket(&p->g->index, p->hash);
  __builtin_prefetch(p->bucket);
}

size_t walmap_state_get_many(walmap_state *s, walmap_entry *entries, size_t n) {
  size_t found = 0;
  probe probes[GROUP];
  for (size_t first = 0; first < n; first += GROUP) {
    size_t group = n - first < GROUP ? n - first : GROUP;
    walmap_entry *e = entries + first;
    for (size_t i = 0; i < group; i++)
      prefetch_probe(s, &e[i], &probes[i]);
    for (size_t i = 0; i < group; i++) {
      const probe *p = &probes[i];
      if (p->g)
        walmap__index_prefetch_record(&p->g->index, p->bucket, p->hash, e[i].key_len);
    }
    for (size_t i = 0; i < group; i++) {
      const probe *p = &probes[i];
      if (look_up(s->map, p->g, p->hash, e[i].key, e[i].key_len, p->commit_point, s->now, &e[i]) == WALMAP_OK) {
        found++;
      } else {
        e[i] = (walmap_entry){NULL, 0, NULL, 0, 0};
      }
    }
  }
  walmap__count(&s->lookups.hits, found);
  walmap__count(&s->lookups.misses, n - found);
  return found;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Scans                                                                                                              */

static void enter_segment(walmap_cursor *c, const walmap__segment *segment, uint64_t commit_point) {
  c->segment = segment;
  c->at = segment->base;
  c->end = segment->base + walmap__segment_before(segment, commit_point);
}

/* Moves to the next segment with records before the commit point, of this shard or a later one. */
static bool next_segment(walmap_cursor *c) {
  walmap_state *s = c->state;
  for (;;) {
    const walmap__segment *segment = c->segment;
    walmap__yield("scan: segment done");
    if (segment) {
      segment = walmap__segment_next(segment);
    } else {
      if (c->shard == s->map->n_shards)
        return false;
      walmap__generation *g = walmap__shard_at(&s->map->shards[c->shard], s->commit_points[c->shard]);
      if (g)
        segment = walmap__log_first(&g->log);
    }
    if (segment && segment->first_lsn < s->commit_points[c->shard]) {
      enter_segment(c, segment, s->commit_points[c->shard]);
      return true;
    }
    c->segment = NULL;
    c->shard++;
  }
}

/*
** In the segment that was entered; *passed is how much of the segment before was passed over by the same call. So a
** scan that finds entries asks nothing, and one that finds none asks about every MiB. Returns whether it goes on.
*/
static bool goes_on(walmap_cursor *c, size_t *passed) {
  walmap_state *s = c->state;
  if (*passed != 0 && walmap__interrupt_after(&s->interrupt, *passed)) {
    *c = (walmap_cursor){.state = s, .shard = s->map->n_shards, .interrupted = true};
    return false;
  }
  *passed = (size_t)(c->end - c->at);
  return true;
}

void walmap_cursor_start(walmap_cursor *c, walmap_state *s) { *c = (walmap_cursor){.state = s}; }

bool walmap_cursor_is_interrupted(const walmap_cursor *c) { return c->interrupted; }

bool walmap_cursor_next(walmap_cursor *c, walmap_entry *entry) {
  size_t passed = 0;
  for (;;) {
    while (c->at < c->end) {
      const walmap__record *record = (const walmap__record *)c->at;
      uint32_t next = walmap__record_next(record);
      walmap__yield("scan: next read");
      uint32_t meta = walmap__record_meta(record); /* after next, as in walmap__record_visible */
      c->at = walmap__record_end(record, meta);
      if (next == 0 && !(meta & (WALMAP__TOMB | WALMAP__DEAD | WALMAP__EXPIRES))) {
        walmap__record_lasting_entry(record, meta, entry);
        return true;
      }
      const walmap__segment *segment = c->segment;
      if (!(meta & WALMAP__DEAD) && walmap__record_visible(segment->log, record, c->state->commit_points[c->shard]) &&
          !walmap__record_is_expired(record, meta, c->state->now)) {
        walmap__record_entry(record, meta, entry);
        return true;
      }
    }
    if (!next_segment(c) || !goes_on(c, &passed))
      return false;
  }
}

/* Not to be interrupted: a count that ends early would be a wrong one. */
uint64_t walmap__state_count(walmap_state *s, uint32_t shard) {
  walmap_cursor c = {.state = s, .shard = shard};
  walmap_entry entry;
  uint64_t n = 0;
  const walmap__interrupt interrupt = s->interrupt;
  s->interrupt = (walmap__interrupt){0};
  while (walmap_cursor_next(&c, &entry) && c.shard == shard)
    n++;
  s->interrupt = interrupt;
  return n;
}

/* X1 */
uint64_t walmap__state_len_by(walmap_state *s, uint32_t shard, const walmap__stats *stats) {
  uint64_t expired = 0;
  walmap__generation *g = walmap__shard_at(&s->map->shards[shard], s->commit_points[shard]);
  if (!g || s->now == 0 || atomic_load_explicit(&g->expiry.table, memory_order_acquire) == NULL)
    return stats->len;
  if (s->now < stats->swept || !walmap__expiry_count(&g->expiry, stats->version, stats->swept, s->now, &expired))
    return walmap__state_count(s, shard);
  return stats->len - expired;
}

/* Two commits that have passed the commit point have overwritten its stats (map.h). */
uint64_t walmap__state_shard_len(walmap_state *s, uint32_t shard) {
  walmap__stats stats = {0};
  if (!walmap__load_stats(s->map, shard, s->commit_points[shard], &stats))
    return walmap__state_count(s, shard);
  return walmap__state_len_by(s, shard, &stats);
}

uint64_t walmap_state_len(walmap_state *s) {
  if (s->len == WALMAP__UNCOUNTED) {
    uint64_t len = 0;
    for (uint32_t i = 0; i < s->map->n_shards; i++)
      len += walmap__state_shard_len(s, i);
    s->len = len;
  }
  return s->len;
}

/* Without memory for a slot, which only more readers at once than ever before can need, what expired may be counted. */
uint64_t walmap_len(walmap *map) {
  walmap__brief_state brief = {.state = {.map = map}};
  if (!atomic_load_explicit(&map->expiring, memory_order_acquire) || walmap_state_begin(&brief.state) != WALMAP_OK)
    return walmap__collect_stats(map).len;
  uint64_t len = walmap_state_len(&brief.state);
  walmap_state_end(&brief.state);
  return len;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Single reads: one key lies in one shard, whose commit point alone is a state                                       */

/* On OK the entry stays readable until the slot is cleared; on an error no slot is taken. */
static WALMAP__ALWAYS_INLINE int read_one(walmap *map, const void *key, size_t key_len, walmap_entry *entry,
                                          walmap__slot **slot) {
  uint64_t hash = walmap__hash_of(map, key, key_len);
  walmap__shard *shard = walmap__shard_of(map, hash);
  *slot = walmap__epoch_enter(&map->epoch, &map->memory);
  if (!*slot)
    return WALMAP_NOMEM;
  uint64_t commit_point = walmap__commit_point(map, shard->id);
  int result = look_up(map, walmap__shard_at(shard, commit_point), hash, key, key_len, commit_point, 0, entry);
  count_lookup(&(*slot)->lookups, result);
  if (result != WALMAP_OK)
    walmap__epoch_leave(*slot);
  return result;
}

int walmap_view(walmap *map, const void *key, size_t key_len, walmap_test_fn view, void *ctx) {
  walmap__slot *slot;
  walmap_entry entry;
  int result = read_one(map, key, key_len, &entry, &slot);
  if (result != WALMAP_OK)
    return result;
  (void)view(ctx, entry.value, entry.value_len);
  walmap__epoch_leave(slot);
  return WALMAP_OK;
}

int walmap_get(walmap *map, const void *key, size_t key_len, void *buffer, size_t buffer_size, size_t *value_len) {
  walmap__slot *slot;
  walmap_entry entry;
  int result = read_one(map, key, key_len, &entry, &slot);
  if (result != WALMAP_OK)
    return result;
  size_t n = entry.value_len < buffer_size ? entry.value_len : buffer_size;
  walmap__copy_late(buffer, entry.value, n);
  if (value_len)
    *value_len = entry.value_len;
  walmap__epoch_leave(slot);
  return WALMAP_OK;
}
