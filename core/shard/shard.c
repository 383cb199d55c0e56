/* shard.c - generations, reclaiming garbage, and freeing memory that no reader sees (shard.h has the picture) */
#include "shard/shard.h"

#define MIN_BATCH 32          /* garbage that pay for a look at all readers */
#define WORTHWHILE (16 << 10) /* or so many bytes: where records are long, a few of them must not wait for many */

void walmap__shard_init(walmap__shard *shard, uint32_t id, const walmap__shard_context *context) {
  memset(shard, 0, sizeof *shard);
  walmap__limbo_init(&shard->limbo);
  shard->id = id;
  shard->memory = context->memory;
  shard->epoch = context->epoch;
  shard->options = context->options;
  shard->order = context->order;
  if (shard->order)
    walmap__order_retain(shard->order);
  shard->map = context->map;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Generations                                                                                                        */

void walmap__generation_free(walmap__memory *memory, walmap__generation *g) {
  if (g->job.copy)
    walmap__log_free_segment(g->job.copy);
  walmap__index_destroy(&g->index);
  walmap__log_destroy(&g->log);
  walmap__garbage_destroy(&g->garbage, memory);
  walmap__order_release(g->order);
  walmap__expiry_destroy(&g->expiry, memory);
  walmap__memory_free(memory, g, sizeof *g);
}

static void free_retired_generation(walmap__memory *memory, walmap__retired *self) {
  walmap__generation_free(memory, (walmap__generation *)self);
}

size_t walmap__longest_segment(const walmap_options *options) {
  enum { PARTS = 64, LEAST = 1024 };
  uint64_t bytes = options->max_bytes / options->shards / PARTS;
  if (bytes == 0 || bytes > WALMAP__MAX_SEGMENT)
    return WALMAP__MAX_SEGMENT;
  return bytes < LEAST ? LEAST : bytes < WALMAP__PAGE ? (size_t)bytes : (size_t)(bytes / WALMAP__PAGE * WALMAP__PAGE);
}

/* Half of what is spared of a shard's share (bounds.h). */
static uint64_t worthwhile_in(const walmap_options *options) {
  uint64_t bytes = options->max_bytes / options->shards / 64;
  return bytes == 0 || bytes > WORTHWHILE ? WORTHWHILE : bytes;
}

walmap__generation *walmap__generation_new(walmap__shard *shard, uint64_t start, uint64_t capacity, uint64_t bytes,
                                           walmap__order *order) {
  walmap__generation *g = walmap__memory_alloc(shard->memory, sizeof *g);
  if (!g)
    return NULL;
  memset(g, 0, sizeof *g);
  g->retired.free = free_retired_generation;
  g->start = start;
  g->worthwhile = worthwhile_in(shard->options);
  walmap__log_init(&g->log, shard->memory, &shard->limbo, start + 1, shard->options->first_segment,
                   walmap__longest_segment(shard->options));
  walmap__log_expect(&g->log, bytes);
  if (walmap__index_init(&g->index, &g->log, shard->memory, &shard->limbo, shard->options, capacity) != WALMAP_OK) {
    walmap__memory_free(shard->memory, g, sizeof *g);
    return NULL;
  }
  g->order = order;
  g->shard_id = shard->id;
  if (order) {
    walmap__order_retain(order);
    atomic_store_explicit(&order->logs[shard->id], &g->log, memory_order_release);
  }
  return g;
}

uint64_t walmap__expected_within_bounds(const walmap_options *o, uint64_t entries) {
  enum { A_BOUNDED_ENTRY = 64 }; /* bytes: a guess */
  if (o->max_entries != 0 && o->max_entries < entries)
    entries = o->max_entries;
  if (o->max_bytes != 0 && o->max_bytes / A_BOUNDED_ENTRY < entries)
    entries = o->max_bytes / A_BOUNDED_ENTRY;
  return entries;
}

/* The expected entries are only a hint that costs memory at once, so there is a limit; beyond it the index grows. */
static uint64_t expected_entries(const walmap__shard *shard) {
  const walmap_options *o = shard->options;
  uint64_t most = 1 << 24; /* of a map: 128 MiB of index */
  return walmap__expected_within_bounds(o, o->capacity < most ? o->capacity : most) / o->shards;
}

static walmap__generation *first_for(walmap__shard *shard, uint64_t capacity, uint64_t bytes) {
  walmap__generation *g = walmap__generation_new(shard, WALMAP__FIRST_LSN - 1, capacity, bytes, shard->order);
  if (!g)
    return NULL;
  walmap__order_release(shard->order); /* the generation keeps it now */
  shard->order = NULL;
  atomic_store_explicit(&shard->generation, g, memory_order_release);
  return g;
}

walmap__generation *walmap__generation_first_empty(walmap__shard *shard) { return first_for(shard, 0, 0); }

/* When there is no memory for the expected entries, the generation begins small. */
walmap__generation *walmap__generation_first(walmap__shard *shard) {
  enum { A_RECORD = 32 }; /* bytes: a guess, for entries that are expected and not yet seen */
  uint64_t capacity = expected_entries(shard);
  walmap__generation *g = first_for(shard, capacity, capacity * A_RECORD);
  return !g && capacity > 0 ? walmap__generation_first_empty(shard) : g;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* The tree                                                                                                           */

static void key_at(const void *log, uint32_t address, const void **key, size_t *key_len) {
  const walmap__record *record = walmap__log_at(log, address);
  walmap_entry e;
  walmap__record_entry(record, walmap__record_meta(record), &e);
  *key = e.key;
  *key_len = e.key_len;
}

static void prefetch_record(const void *log, uint32_t address) { __builtin_prefetch(walmap__log_at(log, address)); }

walmap__order *walmap__generation_new_order(walmap__memory *memory, walmap__epoch *epoch,
                                            const walmap_options *options) {
  const walmap__order_records records = {key_at, prefetch_record};
  return walmap__order_new(memory, epoch, options->shards, options->sort_key, records);
}

WALMAP__NOINLINE walmap__place walmap__generation_reserve_place(walmap__generation *g, const void *key,
                                                                size_t key_len) {
  return walmap__order_reserve(g->order, key, key_len);
}

WALMAP__NOINLINE void walmap__generation_add_to_order(walmap__generation *g, walmap__place place, uint32_t address) {
  walmap__order_add(place, g->shard_id, address);
}

WALMAP__NOINLINE void walmap__generation_move_in_order(walmap__generation *g, uint32_t from, uint32_t to) {
  const void *key;
  size_t key_len;
  key_at(&g->log, to, &key, &key_len);
  walmap__order_move(g->order, key, key_len, g->shard_id, from, to);
}

WALMAP__NOINLINE void walmap__generation_drop_from_order(walmap__generation *g, uint32_t address) {
  const void *key;
  size_t key_len;
  key_at(&g->log, address, &key, &key_len);
  walmap__order_drop(g->order, key, key_len, g->shard_id, address);
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Garbage                                                                                                            */

/* The hash of a dead record, kept from the prefetch to the reclaiming. */
typedef struct known_hash {
  uint32_t address; /* 0: of none */
  uint64_t hash;
} known_hash;

/* Whether the record is a tombstone and the newest record of its key. */
static bool is_last(const walmap__record *record, uint32_t meta) {
  return (meta & WALMAP__TOMB) && walmap__record_next(record) == 0;
}

static void reclaim_entry(walmap__generation *g, uint32_t address, const known_hash *known) {
  walmap__record *record = walmap__log_at(&g->log, address);
  uint32_t meta = walmap__record_meta(record);
  if (is_last(record, meta)) {
    uint64_t hash = known->address == address ? known->hash : walmap__index_hash_of(&g->index, record, meta);
    walmap__slot_ref ref;
    walmap__index_find_address(&g->index, hash, address, &ref);
    walmap__generation_drop(g, hash, &ref);
  }
  walmap__yield("reclaim: not yet dead");
  walmap__record_set_meta(record, meta | WALMAP__DEAD);
}

/* Prefetches the bucket that reclaiming the entry needs. */
static void prefetch_bucket(const walmap__generation *g, uint32_t address, known_hash *known) {
  const walmap__record *record = walmap__log_at(&g->log, address);
  uint32_t meta = walmap__record_meta(record);
  if (!is_last(record, meta))
    return;
  *known = (known_hash){address, walmap__index_hash_of(&g->index, record, meta)};
  walmap__index_prefetch(&g->index, known->hash);
}

/* Reclaims `n` entries of a run of `all`. Meanwhile it prefetches for the next entries: the record, then its bucket. */
static void reclaim_run(walmap__generation *g, const uint32_t *addresses, uint64_t n, uint64_t all) {
  enum { RECORD_AHEAD = 8, BUCKET_AHEAD = 4 };
  known_hash known[BUCKET_AHEAD] = {{0, 0}}; /* of the next entries, each at its number */
  for (uint64_t i = 0; i < n; i++) {
    if (i + RECORD_AHEAD < all)
      __builtin_prefetch(walmap__log_at(&g->log, addresses[i + RECORD_AHEAD]), 1);
    known_hash *mine = &known[i % BUCKET_AHEAD];
    reclaim_entry(g, addresses[i], mine);
    if (i + BUCKET_AHEAD < all)
      prefetch_bucket(g, addresses[i + BUCKET_AHEAD], mine); /* has the same place in `known` */
  }
}

static void reclaim_batch(walmap__generation *g, uint64_t budget) {
  walmap__garbage *d = &g->garbage;
  while (d->first < d->batch_end && budget > 0) {
    uint64_t all, n;
    const uint32_t *addresses = walmap__garbage_run(d, &all);
    n = d->batch_end - d->first < all ? d->batch_end - d->first : all;
    n = budget < n ? budget : n;
    reclaim_run(g, addresses, n, all);
    walmap__garbage_pop(d, g->log.memory, n);
    budget -= n;
  }
}

bool walmap__generation_reclaimed_before(const walmap__generation *g, uint64_t lsn) {
  if (g->garbage.first == g->garbage.end)
    return true;
  uint32_t address = walmap__garbage_oldest(&g->garbage);
  walmap__record *record = walmap__log_at(&g->log, address);
  bool tomb = walmap__record_meta(record) & WALMAP__TOMB;
  uint64_t died_at = walmap__log_lsn(&g->log, tomb ? address : walmap__record_next(record));
  return died_at >= lsn;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Freeing                                                                                                            */

static void free_waiting(walmap__shard *shard, uint64_t blocks) {
  while (shard->waiting && blocks-- > 0) {
    walmap__retired *first = shard->waiting;
    shard->waiting = first->next;
    first->free(shard->memory, first);
  }
}

/* Advancing the clock closes a batch: its memory was unlinked, and its garbage died, before that. */
static void close_batches(walmap__shard *shard, walmap__generation *g, bool force) {
  walmap__garbage *d = &g->garbage;
  uint64_t n = d->end - d->first;
  bool enough = n >= MIN_BATCH || force || g->dead - g->batch_dead >= g->worthwhile;
  bool garbage = d->first == d->batch_end && n > 0 && enough;
  bool memory = !shard->waiting && shard->limbo.first;
  if (!garbage && !memory)
    return;
  uint64_t time = walmap__epoch_advance(shard->epoch);
  walmap__yield("epoch: advanced");
  if (garbage) {
    d->batch_end = d->end;
    d->batch_time = time;
    g->reclaimed_dead = g->batch_dead;
    g->batch_dead = g->dead;
  }
  if (memory) {
    shard->waiting = shard->limbo.first;
    shard->waiting_time = time;
    shard->waiting_bytes = shard->limbo.bytes;
    walmap__limbo_init(&shard->limbo);
  }
}

static void tell_kept(walmap__kept *kept, uint64_t bytes, uint64_t time) {
  atomic_store_explicit(&kept->bytes, bytes, memory_order_relaxed);
  atomic_store_explicit(&kept->time, time, memory_order_relaxed);
}

/*
** All garbage of the queue died after the batch before the present one was closed. What waits behind a batch is kept by
** the same readers. A batch of which no reader is left waits only for the next writes: its time is less than theirs.
*/
static void tell_what_is_kept(walmap__shard *shard, const walmap__generation *g) {
  const walmap__garbage *d = &g->garbage;
  bool garbage = d->first < d->batch_end;
  tell_kept(&shard->garbage_kept, garbage ? g->dead - g->reclaimed_dead : 0, garbage ? d->batch_time : 0);
  tell_kept(&shard->memory_kept, shard->waiting ? shard->waiting_bytes + shard->limbo.bytes : 0,
            shard->waiting ? shard->waiting_time : 0);
}

static void reclaim_of_generation(walmap__shard *shard, walmap__generation *g, uint64_t entries, uint64_t blocks,
                                  bool force) {
  close_batches(shard, g, force || shard->behind);
  walmap__garbage *d = &g->garbage;
  uint64_t garbage_time = d->first < d->batch_end ? d->batch_time : UINT64_MAX;
  uint64_t memory_time = shard->waiting ? shard->waiting_time : UINT64_MAX;
  uint64_t first_time = garbage_time < memory_time ? garbage_time : memory_time;
  if (first_time == UINT64_MAX || (!force && walmap__slot_still_holds(shard->held_by, first_time)))
    return;
  const walmap__slot *by;
  uint64_t oldest = walmap__epoch_oldest_slot(shard->epoch, &by);
  walmap__yield("epoch: oldest known");
  shard->held_by = oldest <= first_time ? by : NULL;
  if (oldest > garbage_time)
    reclaim_batch(g, entries);
  if (oldest > memory_time && !shard->defer_free)
    free_waiting(shard, blocks);
}

void walmap__shard_reclaim(walmap__shard *shard, uint64_t entries, uint64_t blocks, bool force) {
  walmap__generation *g = walmap__shard_generation(shard);
  if (!g)
    return;
  reclaim_of_generation(shard, g, entries, blocks, force);
  tell_what_is_kept(shard, g);
}

void walmap__shard_destroy(walmap__shard *shard) {
  free_waiting(shard, UINT64_MAX);
  shard->waiting = shard->limbo.first;
  free_waiting(shard, UINT64_MAX);
  walmap__generation *g = walmap__shard_generation(shard);
  if (g)
    walmap__generation_free(shard->memory, g);
  walmap__order_release(shard->order);
}
