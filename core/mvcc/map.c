/* map.c - making and closing maps, commit points and stats (map.h has the argument) */
#include "mvcc/map.h"
#include "platform/platform.h"

#include <stdlib.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

static WALMAP__NOINLINE uint64_t xxh3_long(const void *key, size_t key_len, uint64_t seed) {
  return XXH3_64bits_withSeed(key, key_len, seed);
}

/* Short keys take half the instructions when the rest of XXH3, which saves registers, is a call. */
WALMAP__FLATTEN uint64_t walmap_xxh3(const void *key, size_t key_len, uint64_t seed) {
  return key_len <= 16 ? XXH3_64bits_withSeed(key, key_len, seed) : xxh3_long(key, key_len, seed);
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Options                                                                                                            */

#define DEFAULT_FIRST_SEGMENT 1024

uint64_t walmap_system_clock(void *ctx) {
  (void)ctx;
  return walmap__wall_clock_now();
}

void walmap_options_init(walmap_options *o) {
  memset(o, 0, sizeof *o);
  o->shards = WALMAP_DEFAULT_SHARDS;
  o->first_segment = DEFAULT_FIRST_SEGMENT;
  o->auto_compact = WALMAP_DEFAULT_AUTO_COMPACT;
  o->busy_timeout = WALMAP_DEFAULT_BUSY_TIMEOUT;
  o->hash = walmap_xxh3;
  o->clock = walmap_system_clock;
  o->allocator = walmap__default_allocator;
}

/* A random seed keeps strangers from choosing keys that collide. */
static uint64_t random_number(void) {
  uint64_t seed;
  if (walmap__random_bytes(&seed, sizeof seed))
    return seed;
  seed = (uint64_t)walmap__monotonic_now() ^ (uint64_t)(uintptr_t)&seed << 32;
  return XXH3_64bits(&seed, sizeof seed);
}

static int check_bounds(const walmap_options *o) {
  if (o->max_entries > INT64_MAX || (o->error_when_full && o->max_entries == 0 && o->max_bytes == 0))
    return WALMAP_INVALID;
  if (o->max_bytes == 0)
    return WALMAP_OK;
  if (o->max_bytes / o->shards < WALMAP_LEAST_SHARE || o->auto_compact == 0)
    return WALMAP_INVALID;
  return WALMAP_OK;
}

static int check_options(const walmap_options *given, walmap_options *o) {
  if (given) {
    *o = *given;
  } else {
    walmap_options_init(o);
  }
  if (o->shards == 0)
    o->shards = WALMAP_DEFAULT_SHARDS;
  if (o->first_segment == 0)
    o->first_segment = DEFAULT_FIRST_SEGMENT;
  if (!o->hash)
    o->hash = walmap_xxh3;
  if (!o->clock)
    o->clock = walmap_system_clock;
  if (!o->allocator.alloc)
    o->allocator = walmap__default_allocator;
  if (!o->seed_given)
    o->seed = random_number();
  if (o->shards > WALMAP_MAX_SHARDS || (o->shards & (o->shards - 1)) != 0)
    return WALMAP_INVALID;
  if (o->first_segment < 256 || o->first_segment > 1 << 20)
    return WALMAP_INVALID;
  if (o->auto_compact > 99)
    return WALMAP_INVALID;
  if (!o->allocator.free)
    return WALMAP_INVALID;
  if (o->ttl > WALMAP_MAX_TIME)
    return WALMAP_INVALID;
  return check_bounds(o);
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Making and closing                                                                                                 */

/* One block holds the map, its shards and the arrays, each part beginning at a cache line. */
typedef struct layout {
  size_t shards, commit_points, pending, stats, bytes;
} layout;

static size_t lay_out_part(size_t *at, size_t bytes) {
  size_t start = *at;
  *at += (bytes + 63) & ~(size_t)63;
  return start;
}

static layout layout_of(uint32_t shards) {
  size_t at = 0;
  lay_out_part(&at, sizeof(walmap));
  layout l;
  l.shards = lay_out_part(&at, shards * sizeof(walmap__shard));
  l.commit_points = lay_out_part(&at, shards * sizeof(uint64_t));
  l.pending = lay_out_part(&at, shards * sizeof(uint64_t));
  l.stats = lay_out_part(&at, shards * sizeof(walmap__shard_stats[2]));
  l.bytes = at;
  return l;
}

int walmap_open(const walmap_options *options, walmap **out) {
  walmap_options o;
  int result = check_options(options, &o);
  if (result != WALMAP_OK)
    return result;
  layout l = layout_of(o.shards);
  uint8_t *block = o.allocator.alloc(o.allocator.ctx, l.bytes, 64);
  if (!block)
    return WALMAP_NOMEM;
  memset(block, 0, l.bytes);
  walmap *map = (walmap *)block;
  map->options = o;
  map->bounded = o.max_entries != 0 || o.max_bytes != 0;
  map->id = random_number();
  map->n_shards = o.shards;
  map->shard_shift = 63u - (uint32_t)__builtin_ctz(o.shards);
  map->shards = (walmap__shard *)(block + l.shards);
  map->commit_points = (_Atomic uint64_t *)(block + l.commit_points);
  map->pending_commit_points = (_Atomic uint64_t *)(block + l.pending);
  map->stats = (walmap__shard_stats(*)[2])(block + l.stats);
  walmap__epoch_init(&map->epoch);
  walmap__memory_init(&map->memory, &o.allocator, o.max_bytes != 0);
  atomic_fetch_add(&map->memory.bytes, l.bytes);
  pthread_mutex_init(&map->committing, NULL);
  pthread_mutex_init(&map->waiting, NULL);
  pthread_mutex_init(&map->counting, NULL);
  walmap__condition_init(&map->committed);
  walmap__order *order = NULL;
  if (o.ordered && !(order = walmap__generation_new_order(&map->memory, &map->epoch, &map->options))) {
    walmap_close(map);
    return WALMAP_NOMEM;
  }
  const walmap__shard_context context = {&map->memory, &map->epoch, &map->options, order, map};
  for (uint32_t i = 0; i < o.shards; i++) {
    walmap__shard_init(&map->shards[i], i, &context);
    atomic_init(&map->commit_points[i], WALMAP__FIRST_LSN);
    atomic_init(&map->stats[i][0].commit_point, WALMAP__FIRST_LSN);
  }
  walmap__order_release(order); /* the shards keep it */
  map->empty_bytes = walmap_memory(map);
  *out = map;
  return WALMAP_OK;
}

void walmap_close(walmap *map) {
  if (!map)
    return;
  for (uint32_t i = 0; i < map->n_shards; i++)
    walmap__shard_destroy(&map->shards[i]);
  walmap__epoch_destroy(&map->epoch, &map->memory);
  walmap__memory_destroy(&map->memory);
  pthread_cond_destroy(&map->committed);
  pthread_mutex_destroy(&map->waiting);
  pthread_mutex_destroy(&map->counting);
  pthread_mutex_destroy(&map->committing);
  walmap_allocator allocator = map->options.allocator;
  allocator.free(allocator.ctx, map, layout_of(map->n_shards).bytes, 64);
}

const walmap_options *walmap_get_options(const walmap *map) { return &map->options; }

uint64_t walmap_hash(const walmap *map, const void *key, size_t key_len) { return walmap__hash_of(map, key, key_len); }

uint64_t walmap_memory(walmap *map) { return atomic_load_explicit(&map->memory.bytes, memory_order_relaxed); }

/* ------------------------------------------------------------------------------------------------------------------ */
/* Commit points                                                                                                      */

uint64_t walmap__commit_point_while_committing(walmap *map, uint32_t shard) {
  for (;;) {
    uint64_t commits = atomic_load_explicit(&map->commits, memory_order_acquire);
    uint64_t commit_point = atomic_load_explicit(&map->commit_points[shard], memory_order_acquire);
    if (!(commits & 1))
      return commit_point;
    walmap__yield("commit point: read");
    uint64_t pending = atomic_load_explicit(&map->pending_commit_points[shard], memory_order_acquire);
    walmap__yield("commit point: pending read");
    if (atomic_load_explicit(&map->commits, memory_order_acquire) == commits)
      return pending > commit_point ? pending : commit_point;
  }
}

static inline uint64_t load_commit_point(walmap *map, bool committing, uint32_t shard) {
  uint64_t commit_point = atomic_load_explicit(&map->commit_points[shard], memory_order_acquire);
  if (!committing)
    return commit_point;
  uint64_t pending = atomic_load_explicit(&map->pending_commit_points[shard], memory_order_acquire);
  return pending > commit_point ? pending : commit_point;
}

/* Collects the vector twice. Returns whether it was the same (S1). */
static bool collect_twice(walmap *map, bool committing, uint64_t *commit_points) {
  uint64_t changed = 0;
  for (uint32_t i = 0; i < map->n_shards; i++) {
    commit_points[i] = load_commit_point(map, committing, i);
    walmap__yield("commit point: one of all read");
  }
  walmap__yield("commit point: collected once");
  for (uint32_t i = 0; i < map->n_shards; i++)
    changed |= commit_points[i] ^ load_commit_point(map, committing, i);
  return changed == 0;
}

#ifdef WALMAP__INDEX_SSE2
/*
** The usual case, which every statement pays for. x86 loads each 8-byte half of an aligned vector at once, and in the
** order of the program; the fences keep the compiler to that order.
*/
static bool is_unchanged(const walmap *map, const uint64_t *commit_points) {
  const __m128i *now = (const __m128i *)(const void *)map->commit_points,
                *then = (const __m128i *)(const void *)commit_points;
  __m128i changed = _mm_setzero_si128();
  uint32_t pairs = map->n_shards / 2;
  for (uint32_t i = 0; i < pairs; i++)
    changed = _mm_or_si128(changed, _mm_xor_si128(_mm_loadu_si128(&then[i]), _mm_load_si128(&now[i])));
  atomic_thread_fence(memory_order_acquire);
  return _mm_movemask_epi8(_mm_cmpeq_epi8(changed, _mm_setzero_si128())) == 0xffff;
}

static bool collect_quickly(walmap *map, uint64_t *commit_points) {
  const __m128i *from = (const __m128i *)(const void *)map->commit_points;
  __m128i *to = (__m128i *)(void *)commit_points;
  uint32_t pairs = map->n_shards / 2;
  for (uint32_t i = 0; i < pairs; i++) {
    _mm_storeu_si128(&to[i], _mm_load_si128(&from[i]));
    walmap__yield("commit point: one of all read");
  }
  walmap__yield("commit point: collected once");
  atomic_thread_fence(memory_order_acquire);
  return is_unchanged(map, commit_points);
}
#else
static bool is_unchanged(walmap *map, const uint64_t *commit_points) {
  uint64_t changed = 0;
  for (uint32_t i = 0; i < map->n_shards; i++)
    changed |= commit_points[i] ^ load_commit_point(map, false, i);
  return changed == 0;
}

static bool collect_quickly(walmap *map, uint64_t *commit_points) { return collect_twice(map, false, commit_points); }
#endif

void walmap__collect_commit_points(walmap *map, uint64_t *commit_points, bool known) {
  for (;;) {
    uint64_t commits = atomic_load_explicit(&map->commits, memory_order_acquire);
    bool quick = !(commits & 1) && map->n_shards > 1;
    walmap__yield("commit point: commits read");
    if (quick && known && is_unchanged(map, commit_points))
      return;
    known = false;
    bool same = quick ? collect_quickly(map, commit_points) : collect_twice(map, commits & 1, commit_points);
    walmap__yield("commit point: collected twice");
    if (same && atomic_load_explicit(&map->commits, memory_order_acquire) == commits)
      return;
  }
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* The clock                                                                                                          */

/* X2: what is returned is what `now` was at the time of the exchange, or of the load. */
uint64_t walmap__clock(walmap *map) {
  uint64_t time = map->options.clock(map->options.clock_ctx);
  if (time > WALMAP_MAX_TIME)
    time = WALMAP_MAX_TIME;
  walmap__yield("clock: told");
  uint64_t latest = atomic_load(&map->now);
  while (latest < time && !atomic_compare_exchange_weak(&map->now, &latest, time)) {
  }
  return latest < time ? time : latest;
}

uint64_t walmap_clock(walmap *map) { return walmap__clock(map); }

/* ------------------------------------------------------------------------------------------------------------------ */
/* Stats                                                                                                              */

void walmap__store_stats(walmap *map, const walmap__shard *shard) {
  walmap__fill_stats(map, shard, walmap__shard_generation(shard));
}

bool walmap__load_stats(walmap *map, uint32_t shard, uint64_t commit_point, walmap__stats *stats) {
  for (int i = 0; i < 2; i++) {
    walmap__shard_stats *f = &map->stats[shard][i];
    if (atomic_load_explicit(&f->commit_point, memory_order_acquire) != commit_point)
      continue;
    walmap__stats s = {atomic_load_explicit(&f->len, memory_order_acquire),
                       atomic_load_explicit(&f->bytes, memory_order_acquire),
                       atomic_load_explicit(&f->dead, memory_order_acquire),
                       atomic_load_explicit(&f->swept, memory_order_acquire),
                       atomic_load_explicit(&f->version, memory_order_acquire),
                       atomic_load_explicit(&f->expirations, memory_order_acquire)};
    walmap__yield("stats: read");
    if (atomic_load_explicit(&f->commit_point, memory_order_acquire) != commit_point)
      return false;
    stats->len += s.len;
    stats->bytes += s.bytes;
    stats->dead += s.dead;
    stats->swept = s.swept;
    stats->version = s.version;
    stats->expirations += s.expirations;
    return true;
  }
  return false;
}

walmap__stats walmap__committed_stats(walmap *map, uint32_t shard) {
  walmap__stats stats = {0};
  (void)walmap__load_stats(map, shard, atomic_load_explicit(&map->commit_points[shard], memory_order_relaxed), &stats);
  return stats;
}

walmap__stats walmap__collect_stats(walmap *map) {
  uint64_t commit_points[WALMAP_MAX_SHARDS] = {0};
  for (;;) {
    walmap__collect_commit_points(map, commit_points, false);
    walmap__stats stats = {0};
    uint32_t i = 0;
    while (i < map->n_shards && walmap__load_stats(map, i, commit_points[i], &stats))
      i++;
    if (i == map->n_shards)
      return stats;
  }
}

uint64_t walmap_size(walmap *map) { return walmap__collect_stats(map).bytes; }
uint64_t walmap_reclaimable(walmap *map) { return walmap__collect_stats(map).dead; }

/* ------------------------------------------------------------------------------------------------------------------ */
/* Commits                                                                                                            */

WALMAP__NOINLINE void walmap__sweep(walmap *map, walmap__generation *g) {
  walmap__generation_sweep(g, walmap__clock(map));
}

void walmap__publish_many(walmap *map, walmap__shard *const *shards, uint32_t n) {
  for (uint32_t i = 0; i < n; i++)
    walmap__prepare_stats(map, shards[i]);
  pthread_mutex_lock(&map->committing);
  uint64_t commits = atomic_load_explicit(&map->commits, memory_order_relaxed);
  for (uint32_t i = 0; i < map->n_shards; i++) {
    atomic_store_explicit(&map->pending_commit_points[i], 0, memory_order_release);
  }
  for (uint32_t i = 0; i < n; i++) {
    atomic_store_explicit(&map->pending_commit_points[shards[i]->id], walmap__shard_end(shards[i]),
                          memory_order_release);
  }
  walmap__yield("commit point: pending");
  atomic_store_explicit(&map->commits, commits + 1, memory_order_release); /* this is the commit */
  for (uint32_t i = 0; i < n; i++)
    walmap__store_commit_point(map, shards[i]);
  walmap__yield("commit point: all stored");
  atomic_store_explicit(&map->commits, commits + 2, memory_order_release);
  pthread_mutex_unlock(&map->committing);
}

/* W1 (wait.c) */
void walmap__wake_waiting(walmap *map) {
  pthread_mutex_lock(&map->waiting);
  pthread_cond_broadcast(&map->committed);
  pthread_mutex_unlock(&map->waiting);
}
