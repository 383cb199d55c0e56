/* counters.c - what a map counts, added up (counters.h says who counts where) */
#include "mvcc/counters.h"
#include "platform/platform.h"

#include <stddef.h>

void walmap__count_wait(walmap *map, int result) {
  if (result == WALMAP_BUSY)
    atomic_fetch_add_explicit(&map->busy, 1, memory_order_relaxed);
  if (result == WALMAP_DEADLOCK)
    atomic_fetch_add_explicit(&map->deadlocks, 1, memory_order_relaxed);
}

_Static_assert(offsetof(walmap__shard, lookups) / 64 != offsetof(walmap__shard, generation) / 64 &&
                   offsetof(walmap__shard, commits) / 64 != offsetof(walmap__shard, generation) / 64,
               "each read of the shard loads the line of `generation`");

/* ------------------------------------------------------------------------------------------------------------------ */
/* The list of states                                                                                                 */

void walmap__state_list(walmap_state *s) {
  walmap *map = s->map;
  pthread_mutex_lock(&map->counting);
  s->next = map->states;
  if (s->next)
    s->next->previous = s;
  map->states = s;
  pthread_mutex_unlock(&map->counting);
}

void walmap__state_unlist(walmap_state *s) {
  walmap *map = s->map;
  pthread_mutex_lock(&map->counting);
  map->freed_hits += walmap__counted(&s->lookups.hits);
  map->freed_misses += walmap__counted(&s->lookups.misses);
  if (s->next)
    s->next->previous = s->previous;
  if (s->previous) {
    s->previous->next = s->next;
  } else {
    map->states = s->next;
  }
  pthread_mutex_unlock(&map->counting);
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Sums                                                                                                               */

static void add_states(walmap *map, walmap_stats *stats) {
  uint64_t now = walmap__coarse_now(), oldest = now;
  pthread_mutex_lock(&map->counting);
  stats->hits += map->freed_hits;
  stats->misses += map->freed_misses;
  for (const walmap_state *s = map->states; s; s = s->next) {
    uint64_t began = walmap__counted(&s->began);
    stats->hits += walmap__counted(&s->lookups.hits);
    stats->misses += walmap__counted(&s->lookups.misses);
    oldest = began != 0 && began < oldest ? began : oldest;
  }
  pthread_mutex_unlock(&map->counting);
  stats->oldest_reader = now - oldest;
}

static uint64_t still_kept(const walmap__kept *what, uint64_t oldest) {
  return oldest <= walmap__counted(&what->time) ? walmap__counted(&what->bytes) : 0;
}

static void add_shards(walmap *map, walmap_stats *stats) {
  uint64_t oldest = walmap__epoch_oldest(&map->epoch);
  for (uint32_t i = 0; i < map->n_shards; i++) {
    const walmap__shard *shard = &map->shards[i];
    stats->hits += walmap__counted(&shard->lookups.hits);
    stats->misses += walmap__counted(&shard->lookups.misses);
    stats->evictions += walmap__counted(&shard->evictions);
    stats->commits += walmap__counted(&shard->commits);
    stats->rollbacks += walmap__counted(&shard->rollbacks);
    stats->compacted += walmap__counted(&shard->compacted);
    stats->pinned += still_kept(&shard->garbage_kept, oldest) + still_kept(&shard->memory_kept, oldest);
  }
}

/*
** The shard's, as of a commit point that is read here and whose stats are read at once: two commits must come between
** to overwrite them. (One commit point for all shards would be outdated before the last of them is looked at, again and
** again, where one shard is written all the time.) What the stats have and the state's time does not has expired since.
** If the shard was swept at a later time than the state's, the state gets the present time.
*/
static uint64_t expirations_of_shard(walmap_state *s, uint32_t shard) {
  walmap__stats stats;
  bool loaded;
  do {
    stats = (walmap__stats){0};
    s->commit_points[shard] = walmap__commit_point(s->map, shard);
    walmap__yield("stats: commit point read");
    loaded = walmap__load_stats(s->map, shard, s->commit_points[shard], &stats);
    if (loaded && stats.swept > s->now)
      s->now = walmap__clock(s->map);
  } while (!loaded);
  return stats.expirations + (stats.len - walmap__state_len_by(s, shard, &stats));
}

/* Without memory for a slot, as walmap_len: what no write has noticed yet is left out. */
static uint64_t sum_expirations(walmap *map) {
  walmap__brief_state brief = {.state = {.map = map}};
  if (walmap__state_enter(&brief.state) != WALMAP_OK)
    return walmap__collect_stats(map).expirations;
  uint64_t sum = 0;
  brief.state.now = walmap__clock(map);
  walmap__collect_commit_points(map, brief.state.commit_points, false); /* a walk over a shard looks at the next one */
  for (uint32_t i = 0; i < map->n_shards; i++)
    sum += expirations_of_shard(&brief.state, i);
  walmap_state_end(&brief.state);
  return sum;
}

void walmap_get_stats(walmap *map, walmap_stats *stats) {
  *stats = (walmap_stats){0};
  walmap__epoch_add_lookups(&map->epoch, &stats->hits, &stats->misses);
  add_states(map, stats);
  add_shards(map, stats);
  stats->busy = atomic_load_explicit(&map->busy, memory_order_relaxed);
  stats->deadlocks = atomic_load_explicit(&map->deadlocks, memory_order_relaxed);
  if (atomic_load_explicit(&map->expiring, memory_order_acquire))
    stats->expirations = sum_expirations(map);
}
