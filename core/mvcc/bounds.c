/* bounds.c - max_entries and max_bytes (bounds.h has the argument) */
#include "mvcc/bounds.h"
#include "mvcc/maintenance.h"

/* ------------------------------------------------------------------------------------------------------------------ */
/* The number of entries                                                                                              */

/* By how many entries the shards' present content differs from what is counted. */
static int64_t change_in(walmap__shard *const *shards, uint32_t n) {
  int64_t change = 0;
  for (uint32_t i = 0; i < n; i++) {
    const walmap__generation *g = walmap__shard_generation(shards[i]);
    change += (int64_t)(g ? g->len : 0) - (int64_t)shards[i]->counted;
  }
  return change;
}

/* Claims `more` entries as far as the bound allows, and returns how many are beyond it. */
static uint64_t claim(walmap *map, int64_t more, int64_t *claimed) {
  const int64_t most = (int64_t)map->options.max_entries;
  int64_t present = atomic_load(&map->entries), wanted;
  do {
    wanted = present + more < most ? present + more : most;
    walmap__yield("bounds: entries read");
    if (wanted == present)
      break; /* the map is full, as usual: no store to a line that others read */
  } while (!atomic_compare_exchange_weak(&map->entries, &present, wanted));
  *claimed += wanted - present;
  return (uint64_t)(present + more - wanted);
}

void walmap__bounds_settle(walmap *map, walmap__shard *const *shards, uint32_t n, int64_t claimed) {
  if (map->options.max_entries == 0)
    return;
  int64_t change = change_in(shards, n) - claimed;
  for (uint32_t i = 0; i < n; i++) {
    const walmap__generation *g = walmap__shard_generation(shards[i]);
    shards[i]->counted = g ? g->len : 0;
  }
  if (change != 0)
    atomic_fetch_add(&map->entries, change);
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Bytes                                                                                                              */

uint64_t walmap__bounds_others(walmap *map) {
  uint64_t all = atomic_load_explicit(&map->memory.bytes, memory_order_relaxed);
  uint64_t logs = atomic_load_explicit(&map->memory.log_bytes, memory_order_relaxed);
  return all > logs ? all - logs : 0;
}

void walmap__bounds_measure(walmap__shard *shard) {
  if (!shard->held_by)
    shard->others = walmap__bounds_others(shard->map) / shard->map->n_shards;
}

walmap__share walmap__share_of(const walmap__shard *shard) { return walmap__share_beside(shard->map, shard->others); }

walmap__share walmap__share_beside(const walmap *map, uint64_t others) {
  enum { SPARE = 2, LEAST = 8, SPLIT = 16 }; /* segments; parts of the share */
  uint64_t share = map->options.max_bytes / map->n_shards;
  uint64_t log = others < share - share / LEAST ? share - others : share / LEAST;
  uint64_t split = log / SPLIT < WALMAP__PAGE ? log / SPLIT : WALMAP__PAGE;
  log -= split;
  uint64_t segment = walmap__longest_segment(&map->options);
  uint64_t room = log > 2 * SPARE * segment ? log - SPARE * segment : log / 2;
  return (walmap__share){log, room / 10 * 9, segment};
}

enum { LINK = 4 }; /* bytes that the link to a record's predecessor takes */

static uint64_t live_in(const walmap__generation *g) { return g->log.bytes - g->dead; }

/* ------------------------------------------------------------------------------------------------------------------ */
/* What a write is allowed                                                                                            */

/* Whether the write adds to the generation's `len`. */
static bool adds(const walmap__write *w) {
  if (!w->old.record || (w->old.meta & WALMAP__TOMB))
    return true;
  uint64_t expires = walmap__record_expires(w->old.record, w->old.meta);
  return expires != 0 && expires <= w->generation->expiry.swept;
}

/* What may be alive in the log (walmap__share_live) when it has this record too, in a new segment if need be. */
static uint64_t live_with(const walmap__share *share, const walmap__log *log, size_t record) {
  const walmap__segment *active = log->active;
  size_t rest = active ? active->capacity - walmap__segment_used(active) : 0;
  double capacity = (double)log->capacity + (record > rest ? (double)record : 0);
  return (uint64_t)((double)share->live * (double)(log->bytes + record) / capacity);
}

uint64_t walmap__live_with_links(const walmap__generation *g) { return live_in(g) + LINK * g->len; }

/*
** A record may be as long as half of what may be alive: it never empties the shard. Where a full map refuses writes,
** each entry counts as if it had its link (`prev`) already: so a value that is no longer than before is never refused.
*/
static int admit_bytes(walmap__write *w, size_t value_len, uint64_t expires) {
  walmap *map = w->shard->map;
  walmap__share share = walmap__share_of(w->shard);
  const walmap__generation *g = w->generation;
  uint32_t flags = walmap__tail_flags(walmap__write_expires(w, expires), w->tag);
  size_t bytes = walmap__record_bytes(w->key_len, value_len, flags) + LINK;
  if (bytes > share.live / 2)
    return WALMAP_FULL;
  if (!map->options.error_when_full)
    return WALMAP_OK;
  uint64_t freed = 0;
  if (!adds(w))
    freed = walmap__record_size(w->old.record, w->old.meta) + (w->old.meta & WALMAP__PREV ? 0 : LINK);
  bool grows = bytes > freed;
  return grows && walmap__live_with_links(g) + bytes - freed > live_with(&share, &g->log, bytes) ? WALMAP_FULL
                                                                                                 : WALMAP_OK;
}

void walmap__bounds_sweep(walmap__shard *shard) {
  walmap *map = shard->map;
  walmap__generation *g = walmap__shard_generation(shard);
  if (!g || !walmap__expiry_is_used(&g->expiry))
    return;
  uint64_t now = walmap__clock(map);
  if (walmap__expiry_count_own(&g->expiry, now) == 0)
    return;
  walmap__generation_sweep(g, now);
  walmap__store_stats(map, shard);
  walmap__bounds_settle(map, &shard, 1, 0);
}

/* False when nothing in the map expires. */
static bool sweep_free_shards(walmap *map) {
  if (!walmap__is_expiring(map))
    return false;
  for (uint32_t i = 0; i < map->n_shards; i++) {
    walmap__shard *shard = &map->shards[i];
    if (!walmap__lock_try(&shard->lock, &walmap__maintenance))
      continue;
    walmap__bounds_sweep(shard);
    walmap__lock_release(&shard->lock);
  }
  return true;
}

/* Claims one entry: OK or FULL. */
static int claim_one(walmap *map, int64_t *claimed) {
  int64_t before = *claimed;
  if (claim(map, 1, claimed) == 0)
    return WALMAP_OK;
  atomic_fetch_add(&map->entries, before - *claimed);
  *claimed = before;
  return WALMAP_FULL;
}

int walmap__bounds_admit(walmap__write *w, size_t value_len, uint64_t expires, int64_t change, int64_t *claimed) {
  walmap *map = w->shard->map;
  if (map->options.max_bytes != 0 && admit_bytes(w, value_len, expires) != WALMAP_OK)
    return WALMAP_FULL;
  if (map->options.max_entries == 0 || !map->options.error_when_full || !adds(w) || change + 1 <= *claimed)
    return WALMAP_OK;
  if (claim_one(map, claimed) == WALMAP_OK || (sweep_free_shards(map) && claim_one(map, claimed) == WALMAP_OK))
    return WALMAP_OK;
  return WALMAP_FULL;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* What a commit evicts                                                                                               */

static uint64_t commit_point_of(const walmap *map, const walmap__shard *shard) {
  return atomic_load_explicit(&map->commit_points[shard->id], memory_order_relaxed);
}

/*
** Evicts up to *n entries written before this LSN, and counts *n down. NOMEM or INTERRUPT; OK also when the shard has
** no more.
*/
static int evict(walmap__committer *c, walmap__shard *shard, uint64_t before, uint64_t *n) {
  enum { EVICTION = 256 }; /* bytes of work that one stands for */
  int result = *n > 0 ? c->touch(c->ctx, shard) : WALMAP_OK;
  for (uint32_t looks; *n > 0 && result == WALMAP_OK; *n -= result == WALMAP_OK) {
    looks = WALMAP__LOOKS;
    result = walmap__evict_one(shard, before, c->listener, &looks);
    shard->evicting += result == WALMAP_OK;
    if (result == WALMAP_OK && walmap__interrupt_after(&c->interrupt, EVICTION))
      return WALMAP_INTERRUPT;
  }
  return result == WALMAP_NOTFOUND ? WALMAP_OK : result;
}

static uint64_t growth_of(walmap__shard *const *shard) {
  int64_t change = change_in(shard, 1);
  return change > 0 ? (uint64_t)change : 0;
}

/* Evicts from the changed shards: first from each in proportion to its growth, then what is left from any. */
static int evict_from_changed(walmap__committer *c, uint64_t *n, bool what_it_wrote) {
  uint64_t grown = 0, all = *n;
  for (uint32_t i = 0; i < *c->n; i++)
    grown += growth_of(&c->shards[i]);
  int result = WALMAP_OK;
  for (uint32_t i = 0; *n != 0 && i < 2 * *c->n && result == WALMAP_OK; i++) {
    walmap__shard *const *shard = &c->shards[i % *c->n];
    uint64_t before = what_it_wrote ? UINT64_MAX : commit_point_of(c->map, *shard), share = *n;
    if (i < *c->n && grown > 0)
      share = (uint64_t)((double)all * (double)growth_of(shard) / (double)grown) + 1;
    uint64_t left = share = share < *n ? share : *n;
    result = evict(c, *shard, before, &left);
    *n -= share - left;
  }
  return result;
}

static bool is_changed(const walmap__committer *c, const walmap__shard *shard) {
  for (uint32_t i = 0; i < *c->n; i++) {
    if (c->shards[i] == shard)
      return true;
  }
  return false;
}

/* Goes on from the shard after the first one that was changed, so that all shards lose entries in turn. */
static int evict_from_others(walmap__committer *c, uint64_t *n) {
  uint32_t n_shards = c->map->n_shards, from = c->shards[0]->id;
  int result = WALMAP_OK;
  for (uint32_t i = 1; *n != 0 && i < n_shards && result == WALMAP_OK; i++) {
    walmap__shard *other = &c->map->shards[(from + i) & (n_shards - 1)];
    if (!is_changed(c, other) && c->borrow(c->ctx, other))
      result = evict(c, other, commit_point_of(c->map, other), n);
  }
  return result;
}

/* Also a commit that adds no entry evicts what an earlier one has left beyond the bound, but for what it removes. */
static int keep_entries(walmap__committer *c) {
  int64_t more = change_in(c->shards, *c->n) - c->claimed;
  uint64_t n = claim(c->map, more > 0 ? more : 0, &c->claimed), removed = more < 0 ? (uint64_t)-more : 0;
  n = n > removed ? n - removed : 0;
  int result = evict_from_changed(c, &n, false);
  if (n > 0 && result == WALMAP_OK)
    result = evict_from_others(c, &n);
  if (n > 0 && result == WALMAP_OK)
    result = evict_from_changed(c, &n, true);
  if (n > 0 && result != WALMAP_INTERRUPT) { /* without memory */
    c->claimed += (int64_t)n;
    atomic_fetch_add(&c->map->entries, (int64_t)n);
  }
  return result;
}

/*
** How many live bytes the shard may have. Where they are few enough, and the log is beyond its share all the same,
** compaction cannot take out the dead bytes (`prev` of each live record, bounds.h): then live bytes must become fewer
** than before the commit, by as many as it added. But if a reader keeps the dead records, it is enough that live bytes
** do not become more.
*/
static uint64_t live_target(walmap *map, const walmap__shard *shard, const walmap__share *share) {
  const walmap__generation *g = walmap__shard_generation(shard);
  walmap__stats before = walmap__committed_stats(map, shard->id);
  uint64_t most = walmap__share_live(share, &g->log), added_capacity = g->log.bytes - before.bytes;
  if (g->log.bytes < before.bytes || g->log.capacity <= share->log + added_capacity)
    return most;
  uint64_t now = live_in(g), live = before.bytes - before.dead, added = now > live ? now - live : 0;
  uint64_t target = shard->held_by ? live : live > added ? live - added : 0;
  if (target < most / 2)
    target = most / 2;
  return target < most ? target : most;
}

/*
** The share by which a caller evicts who is told, after whose commit walmap__bounds_correct may not evict. Where the
** transaction has made much memory beside the log, its index above all, some of it goes with the entries: so each
** number of live bytes has a share of its own, and this is the share of the most live bytes that it allows.
*/
static walmap__share share_of_told(const walmap__shard *shard, const walmap__generation *g) {
  enum { MUCH = 4, STEPS = 8 }; /* a 4th more than was measured before the transaction; steps of a bisection */
  const walmap *map = shard->map;
  uint64_t others = walmap__bounds_others(shard->map) / map->n_shards, live = live_in(g), least = 0, most = live;
  if (shard->held_by || live == 0 || others <= shard->others + shard->others / MUCH)
    return walmap__share_of(shard);
  for (int i = 0; i < STEPS; i++) {
    uint64_t half = least + (most - least) / 2;
    walmap__share share = walmap__share_beside(map, (uint64_t)((double)others * (double)half / (double)live));
    *(half <= walmap__share_live(&share, &g->log) ? &least : &most) = half;
  }
  return walmap__share_beside(map, (uint64_t)((double)others * (double)most / (double)live));
}

static int keep_bytes(walmap__committer *c, walmap__shard *shard) {
  const walmap__generation *g = walmap__shard_generation(shard);
  if (!g)
    return WALMAP_OK;
  const walmap__share kept = c->listener.told ? share_of_told(shard, g) : walmap__share_of(shard), *share = &kept;
  if (g->log.capacity <= share->log && live_in(g) <= walmap__share_live(share, &g->log))
    return WALMAP_OK;
  uint64_t target = live_target(c->map, shard, share), before = commit_point_of(c->map, shard);
  int result = WALMAP_OK;
  while (live_in(g) > target && result == WALMAP_OK) {
    uint64_t n = 1;
    result = evict(c, shard, before, &n);
    if (n == 0)
      continue;
    if (before == UINT64_MAX || live_in(g) <= walmap__share_live(share, &g->log))
      break;
    before = UINT64_MAX; /* nothing is left but what the transaction wrote */
  }
  return result;
}

int walmap__bounds_keep(walmap__committer *c) {
  const walmap_options *options = &c->map->options;
  if (options->error_when_full || *c->n == 0)
    return WALMAP_OK;
  int result = options->max_entries != 0 ? keep_entries(c) : WALMAP_OK;
  if (result != WALMAP_OK || options->max_bytes == 0)
    return result;
  for (uint32_t i = 0; i < *c->n && result == WALMAP_OK; i++)
    result = keep_bytes(c, c->shards[i]);
  return result;
}

/*
** After a commit and its compaction. Where the log is beyond its share still, there are too many live bytes, or too
** many dead ones that compaction cannot take out (live_target): evicts.
*/
void walmap__bounds_correct(walmap__shard *shard, bool may_evict) {
  enum { TRIES = 4 };
  walmap *map = shard->map;
  const walmap__generation *g = walmap__shard_generation(shard);
  if (!shard->behind) /* which tells of a log beyond its share */
    return;
  if (g->order)
    walmap__order_reclaim(g->order);
  if (walmap__shard_compact_to_share(shard) || !may_evict)
    return;
  for (int i = 0; i < TRIES && !shard->held_by; i++) {
    walmap__share share = walmap__share_of(shard);
    if (g->log.capacity <= share.log)
      return;
    uint64_t most = walmap__share_live(&share, &g->log), before = g->len;
    uint32_t looks = WALMAP__LOOKS;
    while (live_in(g) > most &&
           walmap__evict_one(shard, UINT64_MAX, (walmap__listener){NULL, NULL}, &looks) == WALMAP_OK)
      looks = WALMAP__LOOKS;
    if (g->len == before)
      return;
    walmap__count(&shard->evictions, before - g->len);
    walmap__publish_one(map, shard);
    walmap__bounds_settle(map, &shard, 1, 0);
    (void)walmap__shard_compact_to_share(shard);
  }
}
