/*
** compact_run.c - which segments a job of compaction takes: its first one, and the neighbours that join it
**
** compact.h says when a segment may be taken (K1). Of those that may, a job takes the one with the greatest share of
** dead bytes; or the one in which something expired first; or, where segments are too many, two small ones.
*/
#include "mvcc/compact_job.h"

#include <assert.h>

/* ------------------------------------------------------------------------------------------------------------------ */
/* What may be taken, and what is wanted                                                                              */

/*
** The caller's commit was a plain store, perhaps just now. By E1, readers that are not found here have its commit
** point.
*/
walmap__compact_times walmap__compact_read_times(walmap__shard *shard) {
  walmap__epoch *epoch = &shard->map->epoch;
  uint64_t now = walmap__epoch_now(epoch);
  return (walmap__compact_times){now, walmap__epoch_oldest(epoch)};
}

/*
** Checks K1's first two conditions. A segment may be sealed long before its last record is committed, so this function
** notes the time that counts at its first look: it runs only while all of the shard's records are committed.
*/
bool walmap__compact_may_take(const walmap__generation *g, walmap__segment *s, walmap__compact_times times) {
  if (s == g->log.active)
    return false;
  if (s->sealed_time == 0)
    s->sealed_time = times.now;
  return times.oldest > s->sealed_time &&
         walmap__generation_reclaimed_before(g, s->first_lsn + (walmap__segment_used(s) >> 2));
}

static bool has_droppable(const walmap__generation *g, const walmap__segment *s) {
  return walmap__segment_may_be_expired(s, walmap__droppable_until(g));
}

bool walmap__compact_wants(const walmap__generation *g, const walmap__segment *s, int percent) {
  if (percent > 0)
    return s->dead_bytes * 100 >= walmap__segment_used(s) * (uint64_t)percent;
  return percent == WALMAP__ALL_SEGMENTS || atomic_load_explicit(&s->dirty, memory_order_relaxed) ||
         walmap__segment_used(s) == 0 || has_droppable(g, s);
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* The first segment                                                                                                  */

/*
** Whether the share of dead bytes is greater in a than in b. The products of two long segments need more than 64 bits.
*/
static bool is_deader(const walmap__segment *a, const walmap__segment *b) {
  return (double)a->dead_bytes * (double)walmap__segment_used(b) >
         (double)b->dead_bytes * (double)walmap__segment_used(a);
}

walmap__segment *walmap__compact_deadest(const walmap__generation *g, walmap__compact_times times, int percent) {
  walmap__segment *best = NULL;
  for (walmap__segment *s = walmap__log_first(&g->log); s; s = walmap__segment_next(s)) {
    if (!walmap__compact_wants(g, s, percent) || (best && !is_deader(s, best)))
      continue;
    if (walmap__compact_may_take(g, s, times))
      best = s;
  }
  return best;
}

walmap__segment *walmap__compact_first_expired(const walmap__generation *g, walmap__compact_times times) {
  walmap__segment *best = NULL;
  for (walmap__segment *s = walmap__log_first(&g->log); s; s = walmap__segment_next(s)) {
    uint64_t least = atomic_load_explicit(&s->least_expires, memory_order_relaxed);
    if (!has_droppable(g, s) || (best && least >= atomic_load_explicit(&best->least_expires, memory_order_relaxed)))
      continue;
    if (walmap__compact_may_take(g, s, times))
      best = s;
  }
  return best;
}

walmap__segment *walmap__compact_two_small(const walmap__generation *g, walmap__compact_times times) {
  size_t least = walmap__log_segment_size(&g->log) + 1;
  walmap__segment *best = NULL, *s = walmap__log_first(&g->log), *next;
  for (; s && (next = walmap__segment_next(s)) != NULL; s = next) {
    size_t live = walmap__segment_live(s) + walmap__segment_live(next);
    if (live >= least || !walmap__compact_may_take(g, s, times) || !walmap__compact_may_take(g, next, times))
      continue;
    least = live;
    best = walmap__segment_live(s) > walmap__segment_live(next) ? s : next;
  }
  return best;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* The run, and the start of its job                                                                                  */

/* A run that grows. */
typedef struct growing {
  walmap__compact_times times;
  int percent;
  size_t live, most; /* bytes to copy, and the limit for them */
} growing;

/*
** Neighbours join the run on both sides, while their live records fit into one new segment: wanted segments, and every
** segment with no more live bytes than the run so far. So small segments that compaction leaves are merged as the
** digits of a binary counter carry: a record is copied along only into a segment that holds at least twice as much.
*/
static bool joins_run(const walmap__generation *g, const growing *run, walmap__segment *s) {
  if (!s || !(walmap__compact_wants(g, s, run->percent) || walmap__segment_live(s) <= run->live) ||
      run->live + walmap__segment_live(s) > run->most)
    return false;
  return walmap__compact_may_take(g, s, run->times);
}

static size_t extend_run(walmap__generation *g, walmap__compact_times times, int percent) {
  walmap__job *job = &g->job;
  growing run = {times, percent, walmap__segment_live(job->first), walmap__log_segment_size(&g->log)};
  for (walmap__segment *s; joins_run(g, &run, s = walmap__segment_next(job->last)); job->last = s)
    run.live += walmap__segment_live(s);
  for (walmap__segment *s; joins_run(g, &run, s = job->first->previous); job->first = s)
    run.live += walmap__segment_live(s);
  return run.live;
}

/* A copy is as long as its records happen to be: with long ones it may fit a region badly (log.h). */
static bool wants_own_block(const walmap__segment *first, size_t live) {
  enum { LONG_RECORD = 64 << 10 };
  uint32_t records = atomic_load_explicit(&first->records, memory_order_relaxed);
  return live > WALMAP__LONG_RUN && walmap__segment_used(first) > (uint64_t)records * LONG_RECORD;
}

/* The copy has room for what is live now: less is used when more dies meanwhile, and then it is trimmed. */
int walmap__job_start(walmap__generation *g, walmap__segment *first, walmap__compact_times times, int percent) {
  walmap__job *job = &g->job;
  *job = (walmap__job){.first = first, .last = first};
  size_t live = extend_run(g, times, percent);
  job->at = job->first;
  if (live == 0)
    return WALMAP_OK;
  int result;
  job->copy = walmap__log_new_segment(&g->log, live, wants_own_block(first, live), job->first->first_lsn, &result);
  if (!job->copy) {
    assert(result != WALMAP_OK);
    *job = (walmap__job){0};
  }
  return result;
}
