/* compact_job.c - the steps of a job: copies the live records of its run, and replaces the run (compact.h: K1, X3) */
#include "mvcc/compact_job.h"

/* A live record to copy, whose bucket is being fetched. */
typedef struct candidate {
  walmap__segment *segment;
  walmap__record *record;
  uint64_t hash;
  uint32_t meta, address;
  walmap_entry entry;
} candidate;

enum { COST_OF_COPY = 4, BATCH = 16 };

/* Fetches the bucket that copy_record is going to change. */
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
  const walmap__segment *next = walmap__segment_next(s);
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
    const walmap__record *record = walmap__segment_record(s, offset);
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
** the job is blocked. A copied record costs several times as much as a dead one.
*/
static walmap__job_state gather_batch(walmap__generation *g, candidate *batch, unsigned *n, uint64_t *budget) {
  walmap__job *job = &g->job;
  for (*n = 0; *budget > 0 && *n < BATCH;) {
    job->offset = pass_dead(g, job->at, job->offset, budget);
    if (job->offset == walmap__segment_used(job->at)) {
      if (job->at == job->last)
        return WALMAP__JOB_DONE;
      job->at = walmap__segment_next(job->at);
      job->offset = 0;
      continue;
    }
    if (*budget == 0)
      break;
    walmap__record *record = walmap__segment_record(job->at, job->offset);
    uint32_t meta = walmap__record_meta(record);
    if (walmap__record_next(record) != 0 || (meta & WALMAP__TOMB))
      return WALMAP__JOB_BLOCKED;
    uint64_t expires = walmap__record_expires(record, meta);
    if (expires != 0 && expires <= walmap__droppable_until(g)) {
      drop_expired(g, job->at, record, meta);
      continue;
    }
    candidate *c = &batch[(*n)++];
    *c = (candidate){job->at, record, 0, meta, walmap__address(job->at, job->offset), {NULL, 0, NULL, 0, 0}};
    prefetch_candidate(g, c);
    job->offset += walmap__record_size(record, meta);
    *budget -= COST_OF_COPY < *budget ? COST_OF_COPY : *budget;
  }
  return WALMAP__JOB_ON;
}

/* Whether the hand of eviction has passed the record: then it goes on behind the copy (evict.h). */
static bool is_before_hand(const walmap__generation *g, const candidate *c) {
  const walmap__hand *hand = &g->hand;
  return hand->segment && walmap__log_lsn(&g->log, c->address) < hand->segment->first_lsn + (hand->offset >> 2);
}

/* Appends the record, without its `prev`, to the copy, which no reader knows. Returns its address there. */
static uint32_t append_to_copy(walmap__generation *g, const candidate *c) {
  walmap__segment *copy = g->job.copy;
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
  if (is_before_hand(g, c))
    g->job.hand_offset = used + size;
  uint32_t records = atomic_load_explicit(&copy->records, memory_order_relaxed);
  atomic_store_explicit(&copy->records, records + 1, memory_order_relaxed);
  atomic_store_explicit(&copy->used, used + size, memory_order_release);
  return walmap__address(copy, used);
}

/* From its flag on the record leads readers to the copy (K1). */
static void copy_record(walmap__generation *g, const candidate *c) {
  walmap__slot_ref slot;
  walmap__index_find_address(&g->index, c->hash, c->address, &slot);
  uint32_t to = append_to_copy(g, c);
  walmap__segment_set_dirty(c->segment);
  walmap__yield("compact: copied, not moved");
  walmap__record_set_meta(c->record, c->meta | WALMAP__MOVED); /* before next */
  walmap__yield("compact: moved, next not set");
  walmap__record_set_next(c->record, to);
  walmap__yield("compact: next set, slot not");
  walmap__generation_move(g, &slot, to);
}

/* Where the hand of eviction stands in the run, it goes on in the copy, which is NULL if it would be empty. */
static void move_hand(walmap__generation *g, walmap__segment *copy) {
  const walmap__job *job = &g->job;
  for (const walmap__segment *s = job->first;; s = walmap__segment_next(s)) {
    if (s == g->hand.segment) {
      g->hand.segment = copy ? copy : walmap__segment_next(job->last);
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

/* A batch is copied before more is gathered, and nothing else changes the shard meanwhile: its records stay live. */
walmap__job_state walmap__job_run(walmap__shard *shard, walmap__generation *g, uint64_t *budget) {
  candidate batch[BATCH];
  walmap__job_state state = WALMAP__JOB_ON;
  while (*budget > 0 && state == WALMAP__JOB_ON) {
    unsigned n;
    state = gather_batch(g, batch, &n, budget);
    for (unsigned i = 0; i < n; i++)
      copy_record(g, &batch[i]);
  }
  if (state == WALMAP__JOB_DONE)
    finish_job(shard, g);
  return state;
}
