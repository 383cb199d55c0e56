/*
** map.h - a map: shards, and the commit points that say what is committed
**
** The commit point of a shard is the LSN before which its log is committed. A state is a vector of all commit points,
** taken at one point in time. Why the vector is one state (S1):
**
**   - A transaction that wrote one shard commits by one store of that shard's commit point.
**   - A transaction that wrote several makes `commits` odd, with the new commit points in `pending_commit_points`; that
**     store is the commit. Then it stores the commit points and makes `commits` even again. One such commit runs at a
**     time.
**   - A reader takes, for an odd `commits`, the greater of commit point and pending commit point. It collects the
**     vector twice, until both vectors, and `commits`, are equal. Commit points only grow, so the vector was the state
**     of the moment between the two. The reader starts over only when a commit ended meanwhile: it never waits, even if
**     a committing thread is preempted half way.
**   - A vector that was one state earlier, and is found unchanged after an even `commits` was read, is one again:
**     commit points only grow, so none of them changed in between, and no commit was on its way. That takes one
**     collection.
*/
#ifndef WALMAP_MAP_H
#define WALMAP_MAP_H

#include "shard/shard.h"

/*
** The stats of a shard as of a commit point. Each shard has two: a commit fills the older one and then stores the
** commit point. So a reader finds the stats of the commit point that it collected, or else two commits have passed and
** it collects anew.
*/
typedef struct walmap__shard_stats {
  _Atomic uint64_t commit_point; /* 0: being filled */
  _Atomic uint64_t len, bytes, dead;
  _Atomic uint64_t swept, version; /* of the generation's expiry table (X1) */
  _Atomic uint64_t expirations;
} walmap__shard_stats;

typedef struct walmap__stats {
  uint64_t len, bytes, dead, swept, version, expirations;
} walmap__stats;

/* Padding keeps what different threads write on lines of their own. */
struct walmap { /* NOLINT(clang-analyzer-optin.performance.Padding) */
  walmap__epoch epoch;

  /*
  ** The clock (X2). `now` is the latest time that was read: it never goes back, whatever the system's clock does, and
  ** there is one order of all readings. `horizon` is the latest time for which some shard waits until no reader has an
  ** older one (compact.h).
  */
  _Alignas(64) _Atomic uint64_t now;
  _Atomic uint64_t horizon;
  _Atomic bool expiring; /* an entry that expires was ever written; set before its commit */
  walmap_options options;
  bool bounded; /* it has max_entries or max_bytes */
  uint64_t id;  /* random: tells this map's positions from another's */
  walmap__memory memory;
  uint64_t empty_bytes; /* of memory that the map had when it was made */
  walmap__shard *shards;
  _Atomic uint64_t *commit_points;
  walmap__shard_stats (*stats)[2];

  /* One cache line that every read loads, and that a commit of several shards changes. */
  _Alignas(64) _Atomic uint64_t commits; /* odd while a commit of several shards is on its way */
  uint32_t n_shards;
  uint32_t shard_shift; /* hash >> 1 >> shard_shift is the shard: two shifts, so that one shard works too */
  _Atomic uint64_t *pending_commit_points; /* 0: this shard is not part of the commit */
  _Atomic uint32_t n_waiting;              /* for a commit (wait.c) */
  pthread_mutex_t committing;
  pthread_mutex_t waiting;
  pthread_cond_t committed;
  _Atomic int64_t entries; /* claimed or committed, where max_entries bounds them (bounds.h) */

  /* What is counted (counters.h). */
  pthread_mutex_t counting;          /* guards the list of states and what freed ones have counted */
  walmap_state *states;              /* all that walmap_state_new has made */
  uint64_t freed_hits, freed_misses; /* of those that are freed */
  _Atomic uint64_t busy, deadlocks;  /* waits for a shard lock that ended so */
};

/* For walmap__commit_is_over, when threads wait. */
void walmap__wake_waiting(walmap *map);

/* Wakes the threads that wait for a commit. Call it after a commit, when the shard locks are released. */
static inline void walmap__commit_is_over(walmap *map) {
  if (WALMAP__UNLIKELY(atomic_load(&map->n_waiting) != 0))
    walmap__wake_waiting(map);
}

/* The time, in ms, by the map's clock. */
uint64_t walmap__clock(walmap *map);

/* `ttl` ms after the time `now`, or the last time that there is. */
static inline uint64_t walmap__expires_after(uint64_t now, uint64_t ttl) {
  return ttl < WALMAP_MAX_TIME - now ? now + ttl : WALMAP_MAX_TIME;
}

static inline uint64_t walmap__hash_of(const walmap *map, const void *key, size_t key_len) {
  return map->options.hash(key, key_len, map->options.seed);
}

static inline uint32_t walmap__shard_number(const walmap *map, uint64_t hash) {
  return (uint32_t)(hash >> 1 >> map->shard_shift);
}

static inline walmap__shard *walmap__shard_of(const walmap *map, uint64_t hash) {
  return &map->shards[walmap__shard_number(map, hash)];
}

/* The commit point of one shard, a commit on its way included (S1). */
uint64_t walmap__commit_point_while_committing(walmap *map, uint32_t shard);
static inline uint64_t walmap__commit_point(walmap *map, uint32_t shard) {
  if (WALMAP__UNLIKELY(atomic_load_explicit(&map->commits, memory_order_acquire) & 1)) {
    return walmap__commit_point_while_committing(map, shard);
  }
  return atomic_load_explicit(&map->commit_points[shard], memory_order_acquire);
}

/* Collects the vector of all commit points (S1). `known`: commit_points already holds such a vector, an earlier one. */
void walmap__collect_commit_points(walmap *map, uint64_t *commit_points, bool known);

/*
** Adds the shard's stats as of this commit point; swept and version are set. False when they are not there any more, or
** being filled.
*/
bool walmap__load_stats(walmap *map, uint32_t shard, uint64_t commit_point, walmap__stats *stats);

/* The sums of all shards' stats, of one committed state. */
walmap__stats walmap__collect_stats(walmap *map);

/* The stats of one shard as of its commit point. The caller holds the shard lock. */
walmap__stats walmap__committed_stats(walmap *map, uint32_t shard);

/* Exact for the holder of a shard lock, as far as that shard's entries go. */
static inline bool walmap__is_expiring(const walmap *map) {
  return atomic_load_explicit(&map->expiring, memory_order_relaxed);
}

/* A commit has few stores: more than the CPU can queue would keep it from beginning the next write (write.h). */
static WALMAP__ALWAYS_INLINE void walmap__fill_stats(walmap *map, const walmap__shard *shard, walmap__generation *g) {
  uint64_t present = atomic_load_explicit(&map->commit_points[shard->id], memory_order_relaxed);
  uint64_t commit_point = walmap__shard_end(shard);
  walmap__shard_stats *two = map->stats[shard->id];
  unsigned stale = atomic_load_explicit(&two[0].commit_point, memory_order_relaxed) == present;
  walmap__shard_stats *f = &two[stale];
  atomic_store_explicit(&f->commit_point, 0, memory_order_release);
  walmap__yield("stats: being filled");
  atomic_store_explicit(&f->len, g->len, memory_order_release);
  atomic_store_explicit(&f->bytes, g->log.bytes, memory_order_release);
  atomic_store_explicit(&f->dead, g->dead, memory_order_release);
  if (WALMAP__UNLIKELY(walmap__is_expiring(map))) { /* until then all of these are 0 */
    atomic_store_explicit(&f->swept, g->expiry.swept, memory_order_release);
    atomic_store_explicit(&f->version, walmap__expiry_settle(&g->expiry), memory_order_release);
    atomic_store_explicit(&f->expirations, g->expirations, memory_order_release);
  }
  atomic_store_explicit(&f->commit_point, commit_point, memory_order_release);
  if (commit_point == present)
    atomic_store_explicit(&two[1 - stale].commit_point, 0, memory_order_release);
}

/* For walmap__prepare_stats: takes entries that have expired out of the generation's stats. */
void walmap__sweep(walmap *map, walmap__generation *g);

static WALMAP__ALWAYS_INLINE void walmap__prepare_stats(walmap *map, const walmap__shard *shard) {
  walmap__generation *g = walmap__shard_generation(shard);
  if (walmap__expiry_is_used(&g->expiry))
    walmap__sweep(map, g);
  walmap__fill_stats(map, shard, g);
}

static inline void walmap__store_commit_point(walmap *map, const walmap__shard *shard) {
  walmap__yield("commit point: not stored");
  atomic_store_explicit(&map->commit_points[shard->id], walmap__shard_end(shard), memory_order_release);
}

/* Commits all records of the shard, whose lock the caller holds. Inline, for the same reason as all of write.h. */
static WALMAP__ALWAYS_INLINE void walmap__publish_one(walmap *map, const walmap__shard *shard) {
  walmap__prepare_stats(map, shard);
  walmap__store_commit_point(map, shard);
}

/* Commits all records of the shards in one step. The caller holds their locks. */
void walmap__publish_many(walmap *map, walmap__shard *const *shards, uint32_t n);

/* Stores the present stats for the commit point that would commit all records. The caller holds the shard lock. */
void walmap__store_stats(walmap *map, const walmap__shard *shard);

#endif
