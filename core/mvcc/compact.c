/* compact.c - taking dead records out of a shard's log (compact.h has the argument) */
#include "mvcc/compact.h"
#include "mvcc/bounds.h"

#include <assert.h>

/* ------------------------------------------------------------------------------------------------------------------ */
/* Choosing a run                                                                                                     */

static size_t live_bytes(const walmap__segment *s) { return walmap__segment_used(s) - (size_t)s->dead_bytes; }

static walmap__segment *next_of(const walmap__segment *s) {
  return atomic_load_explicit(&s->next, memory_order_relaxed);
}

/*
** Checks K1's first two conditions. A segment may be sealed long before its last record is committed, so this function
** notes the time that counts at its first look: it runs only while all of the shard's records are committed.
*/
static bool may_be_taken(const walmap__generation *g, walmap__segment *s, uint64_t now, uint64_t oldest) {
  if (s == g->log.active)
    return false;
  if (s->sealed_time == 0)
    s->sealed_time = now;
  return oldest > s->sealed_time &&
         walmap__generation_reclaimed_before(g, s->first_lsn + (walmap__segment_used(s) >> 2));
}

/* Whether an entry that expires at this time may be dropped (X3). */
static bool may_be_dropped(const walmap__generation *g, uint64_t expires) {
  return expires != 0 && expires <= g->expiry.droppable && expires <= g->expiry.swept;
}

/* X3: notes the present time, `latest` at most; or raises `droppable`, if all readers have reached the noted time. */
static void move_horizon(walmap__shard *shard, walmap__generation *g, uint64_t latest) {
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

/* The `percent` of is_wanted: the least share of dead bytes, from 1 on; or one of these. */
enum { ANY_DEAD = 0, ALL = -1 };

static bool has_droppable(const walmap__generation *g, const walmap__segment *s) {
  const walmap__expiry *e = &g->expiry;
  return walmap__segment_may_be_expired(s, e->droppable < e->swept ? e->droppable : e->swept);
}

static bool is_wanted(const walmap__generation *g, const walmap__segment *s, int percent) {
  if (percent > 0)
    return s->dead_bytes * 100 >= walmap__segment_used(s) * (uint64_t)percent;
  return percent == ALL || atomic_load_explicit(&s->dirty, memory_order_relaxed) || walmap__segment_used(s) == 0 ||
         has_droppable(g, s);
}

typedef struct clock_reading {
  uint64_t now, oldest;
} clock_reading;

/*
** The caller's commit was a plain store, perhaps just now. By E1, readers that are not found here have its commit
** point.
*/
static clock_reading compaction_clock(walmap__shard *shard) {
  walmap__epoch *epoch = &shard->map->epoch;
  uint64_t now = walmap__epoch_now(epoch);
  return (clock_reading){now, walmap__epoch_oldest(epoch)};
}

/* A run, and how far it may grow. */
typedef struct growing {
  clock_reading clock;
  int percent;
  size_t live, most; /* bytes to copy, and the limit for them */
} growing;

/*
** Neighbours join the run on both sides, while their live records fit into one new segment: wanted segments, and every
** segment with no more live bytes than the run so far. So small segments that compaction leaves are merged as the
** digits of a binary counter carry: a record is copied along only into a segment that holds at least twice as much.
*/
static bool joins(const walmap__generation *g, const growing *run, walmap__segment *s) {
  if (!s || !(is_wanted(g, s, run->percent) || live_bytes(s) <= run->live) || run->live + live_bytes(s) > run->most)
    return false;
  return may_be_taken(g, s, run->clock.now, run->clock.oldest);
}

static size_t extend_run(walmap__generation *g, clock_reading clock, int percent) {
  walmap__job *job = &g->job;
  growing run = {clock, percent, live_bytes(job->first), walmap__log_segment_size(&g->log)};
  for (walmap__segment *s; joins(g, &run, s = next_of(job->last)); job->last = s)
    run.live += live_bytes(s);
  for (walmap__segment *s; joins(g, &run, s = job->first->previous); job->first = s)
    run.live += live_bytes(s);
  return run.live;
}

/*
** Whether the share of dead bytes is greater in a than in b. The products of two long segments need more than 64 bits.
*/
static bool is_deader(const walmap__segment *a, const walmap__segment *b) {
  return (double)a->dead_bytes * (double)walmap__segment_used(b) >
         (double)b->dead_bytes * (double)walmap__segment_used(a);
}

/* The wanted segment with the greatest share of dead bytes. */
static walmap__segment *deadest(const walmap__generation *g, clock_reading clock, int percent) {
  walmap__segment *best = NULL;
  for (walmap__segment *s = atomic_load_explicit(&g->log.first, memory_order_relaxed); s; s = next_of(s)) {
    if (!is_wanted(g, s, percent) || (best && !is_deader(s, best)))
      continue;
    if (may_be_taken(g, s, clock.now, clock.oldest))
      best = s;
  }
  return best;
}

/* The segment in which something expired first. */
static walmap__segment *first_expired(const walmap__generation *g, clock_reading clock) {
  walmap__segment *best = NULL;
  for (walmap__segment *s = atomic_load_explicit(&g->log.first, memory_order_relaxed); s; s = next_of(s)) {
    uint64_t least = atomic_load_explicit(&s->least_expires, memory_order_relaxed);
    if (!has_droppable(g, s) || (best && least >= atomic_load_explicit(&best->least_expires, memory_order_relaxed)))
      continue;
    if (may_be_taken(g, s, clock.now, clock.oldest))
      best = s;
  }
  return best;
}

/*
** Finds the two neighbours with the fewest live bytes, whose live records fit into one segment. Returns the larger one,
** which the other joins.
*/
static walmap__segment *smallest(const walmap__generation *g, clock_reading clock) {
  size_t least = walmap__log_segment_size(&g->log) + 1;
  walmap__segment *best = NULL, *s = atomic_load_explicit(&g->log.first, memory_order_relaxed), *next;
  for (; s && (next = next_of(s)) != NULL; s = next) {
    size_t live = live_bytes(s) + live_bytes(next);
    if (live >= least || !may_be_taken(g, s, clock.now, clock.oldest) ||
        !may_be_taken(g, next, clock.now, clock.oldest))
      continue;
    least = live;
    best = live_bytes(s) > live_bytes(next) ? s : next;
  }
  return best;
}

/* A copy is as long as its records happen to be: with long ones it may fit a region badly (log.h). */
static bool wants_own_block(const walmap__segment *first, size_t live) {
  enum { LONG_RECORD = 64 << 10 };
  uint32_t records = atomic_load_explicit(&first->records, memory_order_relaxed);
  return live > WALMAP__LONG_RUN && walmap__segment_used(first) > (uint64_t)records * LONG_RECORD;
}

/* The copy has room for what is live now: less is used when more dies meanwhile, and then it is trimmed. */
static int start_job(walmap__generation *g, walmap__segment *first, clock_reading clock, int percent) {
  walmap__job *job = &g->job;
  *job = (walmap__job){.first = first, .last = first};
  size_t live = extend_run(g, clock, percent);
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

/* ------------------------------------------------------------------------------------------------------------------ */
/* Copying                                                                                                            */

/* A live record to copy, whose bucket is being fetched. */
typedef struct candidate {
  walmap__segment *segment;
  walmap__record *record;
  uint64_t hash;
  uint32_t meta, address;
  walmap_entry entry;
} candidate;

enum step { STEP_ON, STEP_DONE, STEP_BLOCKED };
enum { COST_OF_COPY = 4, BATCH = 16 };

static void prefetch_candidate(const walmap__generation *g, candidate *c) {
  walmap__record_entry(c->record, c->meta, &c->entry);
  c->hash = g->index.hash(c->entry.key, c->entry.key_len, g->index.seed);
  walmap__index_prefetch(&g->index, c->hash);
}

/* Changes since a position at or before a dropped tombstone are not known any more (changes.h). */
static void raise_tombstone_horizon(walmap__generation *g, uint64_t lsn) {
  if (atomic_load_explicit(&g->tombstone_horizon, memory_order_relaxed) <= lsn)
    atomic_store_explicit(&g->tombstone_horizon, lsn + 1, memory_order_release);
}

/*
** X3: drops an expired entry. Changes since a position before the entry was written are not known any more. Compaction
** may have copied the record to a lower LSN, but never out of the LSNs that its segment covers.
*/
static void drop_expired(walmap__generation *g, walmap__segment *s, walmap__record *record, uint32_t meta) {
  walmap__slot_ref slot;
  size_t size = walmap__record_size(record, meta), offset = (size_t)((const uint8_t *)record - s->base);
  uint64_t hash = walmap__index_hash_of(&g->index, record, meta);
  const walmap__segment *next = next_of(s);
  raise_tombstone_horizon(g, (next ? next->first_lsn : g->log.end) - 1);
  walmap__index_find_address(&g->index, hash, walmap__address(s, offset), &slot);
  walmap__generation_drop(g, hash, &slot);
  walmap__yield("compact: expired, not dead");
  walmap__segment_set_dirty(s);
  walmap__record_set_meta(record, meta | WALMAP__DEAD);
  s->dead_bytes += size;
  g->expiry.expired -= size - (meta & WALMAP__PREV ? 4 : 0);
}

/* Passes over dead records from this offset on, 1 of the budget each. Returns the offset behind them. */
static size_t pass_dead(walmap__generation *g, const walmap__segment *s, size_t offset, uint64_t *budget) {
  size_t used = walmap__segment_used(s), tomb = SIZE_MAX;
  while (*budget > 0 && offset != used) {
    const walmap__record *record = (const walmap__record *)(s->base + offset);
    uint32_t meta = walmap__record_meta(record);
    if (!(meta & WALMAP__DEAD))
      break;
    if (meta & WALMAP__TOMB)
      tomb = offset;
    offset += walmap__record_size(record, meta);
    --*budget;
  }
  if (tomb != SIZE_MAX)
    raise_tombstone_horizon(g, s->first_lsn + (tomb >> 2)); /* the last tombstone's LSN is enough */
  return offset;
}

/*
** Walks over the next records of the run and gathers the live ones, until the budget is used up, the batch is full, or
** the job must rest. A copied record costs several times as much as a dead one.
*/
static enum step gather(walmap__generation *g, candidate *batch, unsigned *n, uint64_t *budget) {
  walmap__job *job = &g->job;
  for (*n = 0; *budget > 0 && *n < BATCH;) {
    job->offset = pass_dead(g, job->at, job->offset, budget);
    if (job->offset == walmap__segment_used(job->at)) {
      if (job->at == job->last)
        return STEP_DONE;
      job->at = next_of(job->at);
      job->offset = 0;
      continue;
    }
    if (*budget == 0)
      break;
    walmap__record *record = (walmap__record *)(job->at->base + job->offset);
    uint32_t meta = walmap__record_meta(record);
    if (walmap__record_next(record) != 0 || (meta & WALMAP__TOMB))
      return STEP_BLOCKED;
    if (may_be_dropped(g, walmap__record_expires(record, meta))) {
      drop_expired(g, job->at, record, meta);
      continue;
    }
    candidate *c = &batch[(*n)++];
    *c = (candidate){job->at, record, 0, meta, walmap__address(job->at, job->offset), {NULL, 0, NULL, 0, 0}};
    prefetch_candidate(g, c);
    job->offset += walmap__record_size(record, meta);
    *budget -= COST_OF_COPY < *budget ? COST_OF_COPY : *budget;
  }
  return STEP_ON;
}

/* Whether the hand of eviction has passed the record: then it goes on behind the copy (evict.h). */
static bool is_before_hand(const walmap__generation *g, const candidate *c) {
  const walmap__hand *hand = &g->hand;
  return hand->segment && walmap__log_lsn(&g->log, c->address) < hand->segment->first_lsn + (hand->offset >> 2);
}

static void copy_record(walmap__generation *g, const candidate *c) {
  walmap__segment *copy = g->job.copy;
  walmap__slot_ref slot;
  walmap__index_find_address(&g->index, c->hash, c->address, &slot);

  size_t used = atomic_load_explicit(&copy->used, memory_order_relaxed);
  const walmap_entry *e = &c->entry;
  uint32_t flags = c->meta & (WALMAP__EXPIRES | WALMAP__TAGGED);
  const walmap__record_tail tail = {e->expires, walmap__record_tag(c->record, c->meta), 0};
  size_t size = walmap__record_bytes(e->key_len, e->value_len, flags);
  uint8_t *value = walmap__record_write(copy->base + used, size, e->key, e->key_len, e->value_len, flags, &tail);
  walmap__copy_bytes(value, e->value, e->value_len);
  if (flags & WALMAP__TAGGED)
    atomic_store_explicit(&copy->tagged, true, memory_order_relaxed); /* it is not listed yet */
  if (e->expires != 0)
    walmap__segment_note_expires(copy, e->expires);
  uint32_t to = walmap__address(copy, used);
  used += size;
  if (is_before_hand(g, c))
    g->job.hand_offset = used;
  uint32_t records = atomic_load_explicit(&copy->records, memory_order_relaxed);
  atomic_store_explicit(&copy->records, records + 1, memory_order_relaxed);
  atomic_store_explicit(&copy->used, used, memory_order_release);

  walmap__segment_set_dirty(c->segment);
  walmap__yield("compact: copied, not moved");
  walmap__record_set_meta(c->record, c->meta | WALMAP__MOVED); /* before next */
  walmap__yield("compact: moved, next not set");
  walmap__record_set_next(c->record, to);
  walmap__yield("compact: next set, slot not");
  walmap__generation_move(g, &slot, to);
}

/* The hand stands in the run, which is going to be replaced by the copy. */
static void move_hand(walmap__generation *g, walmap__segment *copy) {
  const walmap__job *job = &g->job;
  for (const walmap__segment *s = job->first;; s = next_of(s)) {
    if (s == g->hand.segment) {
      g->hand.segment = copy ? copy : next_of(job->last);
      g->hand.offset = copy ? job->hand_offset : 0;
      return;
    }
    if (s == job->last)
      return;
  }
}

/* Replaces the run by the copy. The difference of their bytes was dead records and `prev` words. */
static void finish_job(walmap__shard *shard, walmap__generation *g) {
  walmap__job *job = &g->job;
  walmap__segment *copy = job->copy;
  if (copy && walmap__segment_used(copy) == 0) {
    walmap__log_free_segment(copy);
    copy = NULL;
  }
  if (copy)
    walmap__segment_trim(copy);
  uint64_t before = g->log.bytes;
  move_hand(g, copy);
  walmap__log_replace(&g->log, job->first, job->last, copy);
  if (copy)
    copy->sealed_time = walmap__epoch_now(&shard->map->epoch); /* readers with a later time do not find the run */
  uint64_t freed = before - g->log.bytes;
  g->dead -= freed;
  g->batch_dead -= freed;
  g->reclaimed_dead -= freed;
  walmap__count(&shard->compacted, freed);
  *job = (walmap__job){0};
}

/* Only this function changes the shard meanwhile: it copies the gathered records before it gathers more. */
static enum step run_job(walmap__shard *shard, walmap__generation *g, uint64_t *budget) {
  candidate batch[BATCH];
  enum step step = STEP_ON;
  while (*budget > 0 && step == STEP_ON) {
    unsigned n;
    step = gather(g, batch, &n, budget);
    for (unsigned i = 0; i < n; i++)
      copy_record(g, &batch[i]);
  }
  if (step == STEP_DONE)
    finish_job(shard, g);
  return step;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Some steps, or the whole shard                                                                                     */

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
static bool too_many_segments(const walmap__log *log) {
  enum { SOME = 256 };
  return log->n_segments > SOME + log->bytes / (WALMAP__MAX_SEGMENT / 2);
}

/* The active segment may be of a time when the log was much longer, and hold most of what is dead now. */
static bool seal_oversized(walmap__generation *g, int percent) {
  walmap__log *log = &g->log;
  const walmap__segment *active = log->active;
  if (!active || !is_wanted(g, active, percent) || active->capacity <= 2 * walmap__log_segment_size(log))
    return false;
  walmap__log_seal(log);
  return true;
}

/* Starts a job if one pays, and tells whether it did. It walks all segments, which no budget counts. */
static bool find_job(walmap__shard *shard, walmap__generation *g, uint32_t percent) {
  int half = (int)(percent + 1) / 2;
  clock_reading clock = compaction_clock(shard);
  walmap__segment *first = too_many_dead(g, percent) ? deadest(g, clock, half) : NULL;
  if (!first && too_many_dead(g, percent) && seal_oversized(g, half))
    first = deadest(g, clock, half);
  if (!first && too_many_expired(g)) {
    move_horizon(shard, g, UINT64_MAX);
    first = first_expired(g, clock);
  }
  if (!first && too_many_segments(&g->log))
    first = smallest(g, clock);
  return first && start_job(g, first, clock, half) == WALMAP_OK;
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
      if (!too_many_dead(g, percent) && !too_many_expired(g) && !too_many_segments(&g->log))
        break;
      if (!(found = find_job(shard, g, percent)))
        break;
    }
    enum step step = run_job(shard, g, &budget);
    if (step == STEP_BLOCKED)
      break;
    changed |= step == STEP_DONE;
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
  const walmap__segment *oldest = atomic_load_explicit(&g->log.first, memory_order_relaxed);
  uint64_t records = atomic_load_explicit(&oldest->records, memory_order_relaxed);
  return (g->dead - allowed) * records / (walmap__segment_used(oldest) + 1);
}

/* Where nothing in the active segment is alive, that one too. */
void walmap__compact_dead(walmap__shard *shard) {
  enum { WHOLLY = 100 };
  walmap__generation *g = walmap__shard_generation(shard);
  if (!g || shard->map->options.auto_compact == 0 || g->job.first || g->dead < g->worthwhile)
    return;
  if (g->log.active && live_bytes(g->log.active) == 0)
    walmap__log_seal(&g->log);
  clock_reading clock = compaction_clock(shard);
  uint64_t unlimited = UINT64_MAX;
  bool changed = false;
  for (walmap__segment *s; !g->job.first && (s = deadest(g, clock, WHOLLY)) != NULL; changed = true) {
    if (start_job(g, s, clock, WHOLLY) != WALMAP_OK || run_job(shard, g, &unlimited) != STEP_DONE)
      break;
  }
  if (changed)
    walmap__store_stats(shard->map, shard);
}

/* Runs the job to its end. OK; INTERRUPT; NOTFOUND when it must rest. */
static int run_whole_job(walmap__shard *shard, walmap__generation *g, walmap__interrupt *interrupt) {
  enum { AT_ONCE = 1 << 14, BYTES = 64 }; /* budget between two questions; bytes that one of it stands for, about */
  for (;;) {
    uint64_t left = AT_ONCE;
    enum step step = run_job(shard, g, &left);
    if (walmap__interrupt_after(interrupt, (size_t)(AT_ONCE - left) * BYTES))
      return WALMAP_INTERRUPT;
    if (step != STEP_ON)
      return step == STEP_DONE ? WALMAP_OK : WALMAP_NOTFOUND;
  }
}

static bool may_be_taken_now(walmap__shard *shard, const walmap__generation *g, walmap__segment *s,
                             clock_reading *clock) {
  *clock = compaction_clock(shard);
  return may_be_taken(g, s, clock->now, clock->oldest);
}

/*
** Runs one job after another, over the list as it was at the start. OK, NOMEM, INTERRUPT; TOOBIG when ids are short. It
** reads the clock for each job, since a run may begin with the copy of the job before.
*/
static int compact_list(walmap__shard *shard, walmap__generation *g, int percent, walmap__interrupt *interrupt) {
  const walmap__segment *end = g->log.last;
  walmap__segment *s = atomic_load_explicit(&g->log.first, memory_order_relaxed);
  for (bool at_end = !s; !at_end;) {
    const walmap__segment *last = s;
    walmap__segment *next = next_of(s);
    clock_reading clock;
    if (is_wanted(g, s, percent) && may_be_taken_now(shard, g, s, &clock)) {
      int result = start_job(g, s, clock, percent);
      if (result != WALMAP_OK)
        return result;
      last = g->job.last;
      next = next_of(last);
      if ((result = run_whole_job(shard, g, interrupt)) != WALMAP_OK)
        return result == WALMAP_NOTFOUND ? WALMAP_OK : result;
    }
    at_end = last == end;
    s = next;
  }
  return WALMAP_OK;
}

/* Seals all segments and notes the time, so that jobs may take them when no reader is as old. */
static void seal_all(walmap__shard *shard, walmap__generation *g) {
  walmap__log_seal(&g->log);
  clock_reading before = compaction_clock(shard);
  walmap__segment *s = atomic_load_explicit(&g->log.first, memory_order_relaxed);
  for (; s; s = next_of(s))
    (void)may_be_taken(g, s, before.now, 0); /* notes the time */
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
  move_horizon(shard, g, latest);
}

/* What a transaction that calls this has read as present must stay, even if it is droppable for all others. */
static uint64_t limit_drops(walmap__generation *g, uint64_t latest) {
  uint64_t droppable = g->expiry.droppable;
  if (latest < droppable)
    g->expiry.droppable = latest;
  return droppable;
}

int walmap__compact_all(walmap__shard *shard, uint64_t latest, walmap__interrupt *interrupt) {
  walmap__generation *g = walmap__shard_generation(shard);
  if (!g)
    return WALMAP_OK;
  if (walmap__expiry_is_used(&g->expiry))
    expire_all(shard, g, latest);
  uint64_t droppable = limit_drops(g, latest);
  walmap__shard_reclaim_all(shard);
  int result = g->job.first ? run_whole_job(shard, g, interrupt) : WALMAP_OK;
  int percent = too_many_segments(&g->log) ? ALL : ANY_DEAD;
  if (result == WALMAP_OK && (g->dead > 0 || percent == ALL)) {
    seal_all(shard, g);
    result = compact_while_ids(shard, g, percent, interrupt);
  }
  if (result == WALMAP_NOTFOUND) /* a job that must rest */
    result = WALMAP_OK;
  if (g->order)
    walmap__order_reclaim(g->order);
  g->expiry.droppable = droppable;
  walmap__store_stats(shard->map, shard);
  if (shard->map->bounded)
    walmap__bounds_settle(shard->map, &shard, 1, 0);
  return result;
}
