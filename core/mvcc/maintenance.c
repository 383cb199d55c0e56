/* maintenance.c - what a write pays for the dead records that writes leave behind (maintenance.h has the rates) */
#include "mvcc/maintenance.h"
#include "mvcc/bounds.h"
#include "mvcc/compact.h"

enum { ENTRIES_PER_RECORD = 16, STEPS_PER_RECORD = 32, BLOCKS_PER_RECORD = 2 };
enum { MUCH = 2048, LITTLE = 64 };          /* entries, or steps: much is brought down faster, until little is left */
enum { REST_RECORDS = 64, SHORT_REST = 8 }; /* written until a run is looked for again, after a look in vain */

/* What one record pays beside the usual rate, while the shard is behind: part of the backlog, or a small one whole */
static uint64_t extra_per_record(uint64_t backlog) {
  enum { PART = 16, MOST = 8192 };
  if (backlog < MUCH)
    return backlog;
  uint64_t part = backlog / PART;
  return part < MUCH ? MUCH : part > MOST ? MOST : part;
}

static uint64_t times(uint64_t a, uint64_t b) { return a > UINT64_MAX / b ? UINT64_MAX : a * b; }

static uint64_t garbage_backlog(const walmap__shard *shard) {
  const walmap__generation *g = walmap__shard_generation(shard);
  return g ? g->garbage.end - g->garbage.first : 0;
}

/*
** `soon`: garbage is being reclaimed, or a few entries are left of it, behind which a whole segment may wait: so a run
** that is not found now may be there after a few more records.
*/
static void pay_for_compaction(walmap__shard *shard, uint64_t records, bool soon) {
  if (shard->compact_rest > records) {
    shard->compact_rest -= records;
    return;
  }
  uint64_t extra = shard->behind ? extra_per_record(walmap__compact_backlog(shard)) : 0;
  uint64_t steps = times(records, STEPS_PER_RECORD + extra);
  shard->compact_rest = walmap__compact_some(shard, steps) ? 0 : soon ? SHORT_REST : REST_RECORDS;
}

/* Bytes of the log's segments, and of the one that a job fills: with a run of long segments that is much. */
static uint64_t log_memory(const walmap__generation *g) {
  return g->log.capacity + (g->job.copy ? g->job.copy->capacity : 0);
}

/*
** The log may be beyond its share of max_bytes, when a transaction has written much, or a reader has ended. Compacts
** until the log is within its share (true), or there is nothing left to compact (false).
*/
bool walmap__shard_compact_to_share(walmap__shard *shard) {
  enum { STEPS = 4096, SPARE = 2 };
  const walmap__generation *g = walmap__shard_generation(shard);
  if (WALMAP__LIKELY(shard->options->max_bytes == 0) || !g)
    return true;
  walmap__bounds_measure(shard);
  walmap__share share = walmap__share_of(shard);
  while (g->log.capacity + SPARE * share.segment > share.log || log_memory(g) > share.log) {
    walmap__job job = g->job;
    uint64_t capacity = g->log.capacity;
    walmap__shard_reclaim(shard, UINT64_MAX, UINT64_MAX, true);
    (void)walmap__compact_some(shard, STEPS);
    if (g->log.capacity == capacity && g->job.at == job.at && g->job.offset == job.offset)
      break;
  }
  walmap__shard_reclaim(shard, 0, UINT64_MAX, true);
  walmap__bounds_measure(shard);
  share = walmap__share_of(shard);
  return log_memory(g) <= share.log;
}

void walmap__shard_maintain(walmap__shard *shard) {
  uint64_t records = shard->maintenance_debt, blocks = times(records, BLOCKS_PER_RECORD);
  uint64_t garbage = garbage_backlog(shard), much = shard->behind ? LITTLE : MUCH;
  shard->maintenance_debt = 0;
  walmap__shard_reclaim(shard, times(records, ENTRIES_PER_RECORD + (shard->behind ? extra_per_record(garbage) : 0)),
                        blocks, false);
  bool much_garbage = !shard->held_by && garbage >= much;
  if (much_garbage && !shard->behind)
    shard->compact_rest = 0;
  pay_for_compaction(shard, records, much_garbage || (shard->behind && !shard->held_by));
  if (shard->limbo.first)
    walmap__shard_reclaim(shard, 0, blocks, false); /* what compaction has unlinked */
  bool within = walmap__shard_compact_to_share(shard);
  bool more_to_compact = shard->compact_rest == 0 && walmap__compact_backlog(shard) >= much;
  shard->behind = !within || much_garbage || (!shard->held_by && (more_to_compact || shard->waiting));
}

void walmap__shard_tend_another(walmap__shard *shard) {
  enum { RECORDS = 8 };
  walmap *map = shard->map;
  shard->tended = (shard->tended + 1) & (map->n_shards - 1);
  walmap__shard *other = &map->shards[shard->tended];
  if (other == shard || !walmap__lock_try(&other->lock, &walmap__maintenance))
    return;
  walmap__yield("maintenance: of another shard");
  walmap__generation *g = walmap__shard_generation(other);
  if (g && walmap__expiry_is_used(&g->expiry)) {
    walmap__bounds_sweep(other);
    other->maintenance_debt += RECORDS;
    walmap__shard_maintain(other);
  }
  walmap__lock_release(&other->lock);
}

void walmap__shard_after_rollback(walmap__shard *shard, uint64_t records) {
  walmap__shard_after_commit(shard, records);
  walmap__compact_dead(shard);
  walmap__shard_reclaim(shard, 0, UINT64_MAX, false);
}
