/*
** compact_job.h - a job of compaction from the choice of its run to its end, for the files of compaction alone
**
**   compact.c       when a write works for compaction, and how much
**   compact_all.c   walmap_compact: all that readers allow, at once
**   compact_run.c   which segments a job takes, and its start
**   compact_job.c   the steps of a job: it copies the run's live records, and replaces the run by the copy
**
** The caller holds the shard lock, and all of the shard's records are committed.
*/
#ifndef WALMAP_COMPACT_JOB_H
#define WALMAP_COMPACT_JOB_H

#include "mvcc/compact.h"

/* The epoch's clock (epoch.h), and the time of its oldest reader. */
typedef struct walmap__compact_times {
  uint64_t now, oldest;
} walmap__compact_times;

walmap__compact_times walmap__compact_read_times(walmap__shard *shard);

/*
** Which segments a job is wanted for, by `percent`: those of which at least so many percent are dead, from 1 on; those
** that have something to drop; or all.
*/
enum { WALMAP__ANY_DEAD = 0, WALMAP__ALL_SEGMENTS = -1 };

bool walmap__compact_wants(const walmap__generation *g, const walmap__segment *s, int percent);

/* Whether K1's first two conditions hold. The first look at a sealed segment notes the time that counts for K1. */
bool walmap__compact_may_take(const walmap__generation *g, walmap__segment *s, walmap__compact_times times);

/*
** The segment to begin with, of those that may be taken; NULL: there is none. Each walks over the whole list.
**   deadest         the wanted one with the greatest share of dead bytes
**   first_expired   the one in which something expired first
**   two_small       of the two neighbours with the fewest live bytes, which fit into one segment, the larger one: the
**                   other joins it
*/
walmap__segment *walmap__compact_deadest(const walmap__generation *g, walmap__compact_times times, int percent);
walmap__segment *walmap__compact_first_expired(const walmap__generation *g, walmap__compact_times times);
walmap__segment *walmap__compact_two_small(const walmap__generation *g, walmap__compact_times times);

/* Starts a job with the run of `first` and of the neighbours that join it: OK, NOMEM, TOOBIG (ids are short). */
int walmap__job_start(walmap__generation *g, walmap__segment *first, walmap__compact_times times, int percent);

/* A job that is blocked must rest until a record in its run is reclaimed. */
typedef enum walmap__job_state { WALMAP__JOB_ON, WALMAP__JOB_DONE, WALMAP__JOB_BLOCKED } walmap__job_state;

/* Runs the job until it is done or blocked, or the budget is used up: 1 for a dead record, 4 for a copied one. */
walmap__job_state walmap__job_run(walmap__shard *shard, walmap__generation *g, uint64_t *budget);

/* Whether there are so many segments that clean ones are to be merged. */
bool walmap__compact_too_many_segments(const walmap__log *log);

/* X3: notes the map's time, `latest` (ms) at most; or makes the noted one droppable, if all readers have reached it. */
void walmap__compact_move_horizon(walmap__shard *shard, walmap__generation *g, uint64_t latest);

/* X3: entries that expire up to this time may be dropped. */
static inline uint64_t walmap__droppable_until(const walmap__generation *g) {
  const walmap__expiry *e = &g->expiry;
  return e->droppable < e->swept ? e->droppable : e->swept;
}

static inline size_t walmap__segment_live(const walmap__segment *s) {
  return walmap__segment_used(s) - (size_t)s->dead_bytes;
}

#endif
