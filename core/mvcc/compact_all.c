/* compact_all.c - walmap_compact: all that readers allow, of each shard, at once (compact.h has the argument) */
#include "mvcc/bounds.h"
#include "mvcc/compact_job.h"
#include "mvcc/counters.h"
#include "mvcc/txn.h"

/* Runs the job to its end: OK; INTERRUPT; NOTFOUND when it is blocked. */
static int run_whole_job(walmap__shard *shard, walmap__generation *g, walmap__interrupt *interrupt) {
  enum { AT_ONCE = 1 << 14, BYTES = 64 }; /* budget between two questions; bytes of work that 1 stands for, about */
  for (;;) {
    uint64_t left = AT_ONCE;
    walmap__job_state state = walmap__job_run(shard, g, &left);
    if (walmap__interrupt_after(interrupt, (size_t)(AT_ONCE - left) * BYTES))
      return WALMAP_INTERRUPT;
    if (state != WALMAP__JOB_ON)
      return state == WALMAP__JOB_DONE ? WALMAP_OK : WALMAP_NOTFOUND;
  }
}

static bool may_take_now(walmap__shard *shard, const walmap__generation *g, walmap__segment *s,
                         walmap__compact_times *times) {
  *times = walmap__compact_read_times(shard);
  return walmap__compact_may_take(g, s, *times);
}

/*
** Runs one job after another, over the list as it was at the start. OK, NOMEM, INTERRUPT; TOOBIG when ids are short. It
** reads the times for each job, since a run may begin with the copy of the job before.
*/
static int compact_list(walmap__shard *shard, walmap__generation *g, int percent, walmap__interrupt *interrupt) {
  const walmap__segment *end = g->log.last;
  walmap__segment *s = walmap__log_first(&g->log);
  for (bool at_end = !s; !at_end;) {
    const walmap__segment *last = s;
    walmap__segment *next = walmap__segment_next(s);
    walmap__compact_times times;
    if (walmap__compact_wants(g, s, percent) && may_take_now(shard, g, s, &times)) {
      int result = walmap__job_start(g, s, times, percent);
      if (result != WALMAP_OK)
        return result;
      last = g->job.last;
      next = walmap__segment_next(last);
      if ((result = run_whole_job(shard, g, interrupt)) != WALMAP_OK)
        return result == WALMAP_NOTFOUND ? WALMAP_OK : result;
    }
    at_end = last == end;
    s = next;
  }
  return WALMAP_OK;
}

/* Seals all segments, and has the time noted, so that jobs may take them when no reader is as old. */
static void seal_all(walmap__shard *shard, walmap__generation *g) {
  walmap__log_seal(&g->log);
  walmap__compact_times times = walmap__compact_read_times(shard);
  walmap__segment *s = walmap__log_first(&g->log);
  for (; s; s = walmap__segment_next(s))
    (void)walmap__compact_may_take(g, s, times);
  walmap__epoch_advance(&shard->map->epoch);
}

/*
** When ids run short, the ids of copied runs come back as these are freed. If a reader holds them, the rest must wait
** for another compaction.
*/
static int compact_while_ids(walmap__shard *shard, walmap__generation *g, int percent, walmap__interrupt *interrupt) {
  int result;
  uint32_t ids;
  do {
    ids = g->log.n_ids;
    result = compact_list(shard, g, percent, interrupt);
    if (result != WALMAP_INTERRUPT)
      walmap__shard_reclaim_all(shard);
  } while (result == WALMAP_TOOBIG && g->log.n_ids < ids);
  return result == WALMAP_TOOBIG ? WALMAP_OK : result;
}

/* A time that was asked for before may be an earlier one, so the present one is asked for anew. */
static void expire_all(walmap__shard *shard, walmap__generation *g, uint64_t latest) {
  walmap__generation_sweep(g, walmap__clock(shard->map));
  shard->horizon_clock = 0;
  walmap__compact_move_horizon(shard, g, latest);
}

/* What a transaction that calls this has read as present must stay, even if it is droppable for all others. */
static uint64_t limit_drops(walmap__generation *g, uint64_t latest) {
  uint64_t droppable = g->expiry.droppable;
  if (latest < droppable)
    g->expiry.droppable = latest;
  return droppable;
}

/*
** Compacts one shard, as far as readers allow; what expires after `latest` (ms) stays. OK, NOMEM, or INTERRUPT: then a
** job may be half done, as one is whose budget is used up, and later writes finish it.
*/
static int compact_shard(walmap__shard *shard, uint64_t latest, walmap__interrupt *interrupt) {
  walmap__generation *g = walmap__shard_generation(shard);
  if (!g)
    return WALMAP_OK;
  if (walmap__expiry_is_used(&g->expiry))
    expire_all(shard, g, latest);
  uint64_t droppable = limit_drops(g, latest);
  walmap__shard_reclaim_all(shard);
  int result = g->job.first ? run_whole_job(shard, g, interrupt) : WALMAP_OK;
  int percent = walmap__compact_too_many_segments(&g->log) ? WALMAP__ALL_SEGMENTS : WALMAP__ANY_DEAD;
  if (result == WALMAP_OK && (g->dead > 0 || percent == WALMAP__ALL_SEGMENTS)) {
    seal_all(shard, g);
    result = compact_while_ids(shard, g, percent, interrupt);
  }
  if (result == WALMAP_NOTFOUND) /* a job is blocked */
    result = WALMAP_OK;
  if (g->order)
    walmap__order_reclaim(g->order);
  g->expiry.droppable = droppable;
  walmap__store_stats(shard->map, shard);
  if (shard->map->bounded)
    walmap__bounds_settle(shard->map, &shard, 1, 0);
  return result;
}

/*
** A shard that the transaction has changed is left alone: its uncommitted records must stay where they are. The
** transaction may have got pointers into a shard that it has only locked, so there the copied records are freed at its
** end.
*/
int walmap_compact(walmap *map, walmap_txn *txn) {
  if (txn)
    walmap__txn_forget_found(txn);
  walmap_session *session = txn ? txn->session : &walmap__single_operation;
  walmap__interrupt interrupt = walmap__session_interrupt(session);
  for (uint32_t i = 0; i < map->n_shards; i++) {
    walmap__shard *shard = &map->shards[i];
    bool locked = txn && txn->txn_shards[i].locked;
    if (locked && (txn->txn_shards[i].written > 0 || txn->txn_shards[i].level != -1))
      continue;
    int result = locked ? WALMAP_OK : walmap__lock_acquire(&shard->lock, session, map->options.busy_timeout);
    if (result != WALMAP_OK) {
      walmap__count_wait(map, result);
      return result;
    }
    shard->defer_free = locked;
    result = compact_shard(shard, txn && txn->now != 0 ? txn->now : UINT64_MAX, &interrupt);
    if (!locked)
      walmap__lock_release(&shard->lock);
    if (result != WALMAP_OK)
      return result;
  }
  return WALMAP_OK;
}
