/* compact.c - when a write works for compaction, and how much (compact.h has the argument) */
#include "mvcc/bounds.h"
#include "mvcc/compact_job.h"

static bool too_many_dead(const walmap__generation *g, uint32_t percent) {
  return g->dead >= g->worthwhile && g->dead * 100 >= g->log.bytes * percent;
}

/*
** Expired entries may take a quarter of the bytes of the others: less than other dead bytes may, since no reader needs
** them and no option allows for them.
*/
static bool too_many_expired(const walmap__generation *g) {
  return g->expiry.expired >= g->worthwhile && g->expiry.expired >= (g->log.bytes - g->expiry.expired) / 4;
}

/* More than twice as many as full segments would be, and SOME: a log that grows has 90 before its segments are full. */
bool walmap__compact_too_many_segments(const walmap__log *log) {
  enum { SOME = 256 };
  return log->n_segments > SOME + log->bytes / (WALMAP__MAX_SEGMENT / 2);
}

/* If all readers have reached the noted time, `droppable` goes up to it, and the next call notes a new one. */
void walmap__compact_move_horizon(walmap__shard *shard, walmap__generation *g, uint64_t latest) {
  walmap *map = shard->map;
  if (shard->horizon_clock == 0) {
    uint64_t now = walmap__clock(map);
    shard->horizon_clock = now < latest ? now : latest;
    uint64_t horizon = atomic_load(&map->horizon);
    while (horizon < shard->horizon_clock &&
           !atomic_compare_exchange_weak(&map->horizon, &horizon, shard->horizon_clock)) {
    }
    walmap__yield("compact: horizon noted");
    shard->horizon_time = walmap__epoch_advance(&map->epoch);
  }
  if (walmap__epoch_oldest(&map->epoch) <= shard->horizon_time)
    return;
  if (g->expiry.droppable < shard->horizon_clock)
    g->expiry.droppable = shard->horizon_clock;
  shard->horizon_clock = 0;
}

/* The active segment may be of a time when the log was much longer, and hold most of what is dead now. */
static bool seal_oversized(walmap__generation *g, int percent) {
  walmap__log *log = &g->log;
  const walmap__segment *active = log->active;
  if (!active || !walmap__compact_wants(g, active, percent) || active->capacity <= 2 * walmap__log_segment_size(log))
    return false;
  walmap__log_seal(log);
  return true;
}

/* Starts a job if one pays, and tells whether it did. It walks all segments, which no budget counts. */
static bool find_job(walmap__shard *shard, walmap__generation *g, uint32_t percent) {
  int half = (int)(percent + 1) / 2;
  walmap__compact_times times = walmap__compact_read_times(shard);
  walmap__segment *first = too_many_dead(g, percent) ? walmap__compact_deadest(g, times, half) : NULL;
  if (!first && too_many_dead(g, percent) && seal_oversized(g, half))
    first = walmap__compact_deadest(g, times, half);
  if (!first && too_many_expired(g)) {
    walmap__compact_move_horizon(shard, g, UINT64_MAX);
    first = walmap__compact_first_expired(g, times);
  }
  if (!first && walmap__compact_too_many_segments(&g->log))
    first = walmap__compact_two_small(g, times);
  return first && walmap__job_start(g, first, times, half) == WALMAP_OK;
}

/*
** Percent of dead bytes from which on compaction is wanted: less where it is under way to take away what a reader kept,
** or where the log comes near to its share of max_bytes (bounds.h).
*/
static uint32_t wanted_percent(walmap__shard *shard) {
  enum { NEAR_BOUND = 10, SPARE = 4 };
  uint32_t percent = shard->behind ? (shard->options->auto_compact + 1) / 2 : shard->options->auto_compact;
  const walmap__generation *g = walmap__shard_generation(shard);
  if (WALMAP__LIKELY(shard->options->max_bytes == 0) || !g || percent <= NEAR_BOUND)
    return percent;
  walmap__share share = walmap__share_of(shard);
  return g->log.capacity + SPARE * share.segment >= share.log ? NEAR_BOUND : percent;
}

bool walmap__compact_some(walmap__shard *shard, uint64_t budget) {
  walmap__generation *g = walmap__shard_generation(shard);
  uint32_t percent = wanted_percent(shard);
  if (!g || percent == 0)
    return true;
  bool changed = false, found = true;
  while (budget > 0) {
    if (!g->job.first) {
      if (!too_many_dead(g, percent) && !too_many_expired(g) && !walmap__compact_too_many_segments(&g->log))
        break;
      if (!(found = find_job(shard, g, percent)))
        break;
    }
    walmap__job_state state = walmap__job_run(shard, g, &budget);
    if (state == WALMAP__JOB_BLOCKED)
      break;
    changed |= state == WALMAP__JOB_DONE;
  }
  if (changed)
    walmap__store_stats(shard->map, shard);
  return found;
}

uint64_t walmap__compact_backlog(walmap__shard *shard) {
  const walmap__generation *g = walmap__shard_generation(shard);
  uint32_t percent = wanted_percent(shard);
  uint64_t allowed = g && percent > 0 ? g->log.bytes / 100 * percent : UINT64_MAX;
  if (allowed == UINT64_MAX || g->dead <= allowed)
    return 0;
  const walmap__segment *oldest = walmap__log_first(&g->log);
  uint64_t records = atomic_load_explicit(&oldest->records, memory_order_relaxed);
  return (g->dead - allowed) * records / (walmap__segment_used(oldest) + 1);
}

/* Where nothing in the active segment is alive, that one too. */
void walmap__compact_dead(walmap__shard *shard) {
  enum { WHOLLY = 100 };
  walmap__generation *g = walmap__shard_generation(shard);
  if (!g || shard->map->options.auto_compact == 0 || g->job.first || g->dead < g->worthwhile)
    return;
  if (g->log.active && walmap__segment_live(g->log.active) == 0)
    walmap__log_seal(&g->log);
  walmap__compact_times times = walmap__compact_read_times(shard);
  uint64_t unlimited = UINT64_MAX;
  bool changed = false;
  for (walmap__segment *s; !g->job.first && (s = walmap__compact_deadest(g, times, WHOLLY)) != NULL; changed = true) {
    if (walmap__job_start(g, s, times, WHOLLY) != WALMAP_OK ||
        walmap__job_run(shard, g, &unlimited) != WALMAP__JOB_DONE)
      break;
  }
  if (changed)
    walmap__store_stats(shard->map, shard);
}
