/*
** shard.h - one shard: its lock, and generations of log and index
**
**   shard -> generation -> previous generation -> ...
**              |  start, log, index, garbage, counters, compaction job
**
** A generation is what a shard holds between two restores. It begins at the LSN `start` and is visible to a reader
** whose commit point is greater; a reader with a smaller commit point uses the previous generation. So a replacement of
** all content is committed, and rolled back, by the same commit point as every other change.
**
** Visibility (V1). Let P be a reader's commit point for the shard: every record before P was committed when the reader
** began. The version of a key at P is found from the index's newest record by following `prev` to the first record with
** an LSN < P; a tombstone there means absent. A scan meets records in the log's order and takes a record with an LSN <
** P unless it is a tombstone, or expired, or DEAD, or superseded by a record with an LSN < P (`next`; for a MOVED
** record the copy decides). Both are right because only the holder of the shard lock changes `next`, the flags and the
** index, and writes them before the commit point that commits them.
**
** Garbage. Superseded records, and tombstones themselves, are queued in the order of the LSNs at which they died. An
** entry is reclaimed when every reader that may have a commit point before that LSN has gone (epoch.h): the record gets
** DEAD, and a tombstone that is still the newest record of its key leaves the index. So DEAD means: no reader can see
** the record, now or later.
**
** Threads: all functions but the readers' part at the end are for the holder of the shard lock.
*/
#ifndef WALMAP_SHARD_H
#define WALMAP_SHARD_H

#include "order/order.h"
#include "shard/expiry.h"
#include "shard/garbage.h"
#include "shard/index.h"
#include "sync/lock.h"

/* A run of segments whose live records are copied, a few at a time (compact_job.c). first NULL: there is no job. */
typedef struct walmap__job {
  walmap__segment *first, *last, *copy;
  walmap__segment *at;
  size_t offset;
  size_t hand_offset; /* in the copy: where the hand of eviction is to go on, if it is in the run */
} walmap__job;

/* Where eviction goes on looking (evict.h). */
typedef struct walmap__hand {
  walmap__segment *segment; /* NULL: at the log's begin */
  size_t offset;
  uint64_t behind; /* bytes of the log's later segments, as it came to this one */
} walmap__hand;

typedef struct walmap__generation {
  walmap__retired retired;
  uint64_t start;
  struct walmap__generation *previous;
  walmap__log log;
  walmap__index index;
  walmap__garbage garbage;
  walmap__job job;
  walmap__hand hand;
  walmap__expiry expiry;
  _Atomic uint64_t tombstone_horizon; /* past every tombstone that compaction has dropped (changes.h) */
  uint64_t len;                       /* live entries, without those that were swept (expiry.h) */
  uint64_t dead; /* bytes that compaction would free: records that died or were swept, `prev` words of live ones */
  walmap__order *order; /* the tree of its keys, which is the map's; NULL: the map is not ordered */
  uint32_t shard_id;
  uint64_t worthwhile;  /* dead bytes: fewer are left alone, as a few pages are not worth the work */
  uint64_t expirations; /* entries that were swept, or superseded after they had expired, since the map was made */

  /* `dead` when the present batch of garbage was closed, and the one before, without what compaction has freed since */
  uint64_t batch_dead, reclaimed_dead;
} walmap__generation;

/*
** What a shard keeps for old readers (walmap_stats.pinned). Other threads read it: each of the two may be a moment old,
** and they need not be of one moment.
*/
typedef struct walmap__kept {
  walmap__counter bytes, time; /* until no reader is as old as the time */
} walmap__kept;

typedef struct walmap__shard {
  /* What each write needs, in one cache line. */
  _Alignas(64) walmap__lock lock;
  _Atomic(walmap__generation *) generation; /* NULL: empty, nothing was written yet */
  struct walmap *map;                       /* for mvcc/; the files of shard/ do not look into it */
  const walmap_options *options;
  uint32_t id;
  bool behind;     /* much is to be reclaimed, and may be: each write works, however small its debt */
  bool defer_free; /* the transaction that holds the lock may hold pointers into unlinked memory */

  /* What each write changes. */
  uint64_t maintenance_debt; /* records written for which maintenance has not yet worked; long ones count more */
  walmap__counter commits;   /* beside the debt, whose line a commit writes anyway */

  walmap__limbo limbo;      /* unlinked since the last batch */
  walmap__retired *waiting; /* the last batch: freed when no reader is as old as waiting_time */
  uint64_t waiting_time;
  uint64_t waiting_bytes;      /* of the whole batch, though some of it may be freed already */
  const walmap__slot *held_by; /* the reader for whom the oldest garbage and memory wait; NULL: they wait for none */
  uint64_t compact_rest;       /* records that will be written until a run is looked for again, after a look in vain */
  uint32_t tended;   /* the other shard whose maintenance writers of this one did last: its number (maintenance.h) */
  uint64_t others;   /* bytes: its part of the memory that is no log, when no reader held any (bounds.h) */
  uint64_t counted;  /* entries of this shard in map->entries (bounds.h) */
  uint64_t evicting; /* entries that the running transaction has evicted */
  walmap__counter evictions; /* that were committed */
  uint64_t horizon_clock;    /* X3: the map's time in ms that all readers are to reach; 0: none */
  uint64_t horizon_time;     /* of the epoch, when it was noted: they have, once no reader is as old */
  walmap__memory *memory;
  walmap__epoch *epoch;
  walmap__order *order; /* of the first generation, until that is made; NULL: the map is not ordered */

  /* Counted by the holder of the lock (mvcc/counters.h). */
  walmap__lookups lookups; /* of transactions */
  walmap__counter rollbacks, compacted;
  walmap__kept garbage_kept, memory_kept;
} walmap__shard;

/* The parts of a map that its shards use. They outlive the shards. */
typedef struct walmap__shard_context {
  walmap__memory *memory;
  walmap__epoch *epoch;
  const walmap_options *options;
  walmap__order *order; /* of all shards' first generations; NULL: the map is not ordered */
  struct walmap *map;
} walmap__shard_context;

void walmap__shard_init(walmap__shard *shard, uint32_t id, const walmap__shard_context *context);
void walmap__shard_destroy(walmap__shard *shard);

/* The longest segment of a map with these options, but for long records: where max_bytes is set, a 64th of a share. */
size_t walmap__longest_segment(const walmap_options *options);

/*
** Makes an empty generation, not linked yet. `start` is the LSN before its first record. It has room for `capacity`
** entries, and its log begins with a segment of `bytes` (within the allowed sizes). All generations between two
** restores share one tree, `order`, NULL where the map is not ordered.
*/
walmap__generation *walmap__generation_new(walmap__shard *shard, uint64_t start, uint64_t capacity, uint64_t bytes,
                                           walmap__order *order);
void walmap__generation_free(walmap__memory *memory, walmap__generation *generation);

/* Makes and links the shard's first generation, for options.capacity, or for nothing. NULL without memory. */
walmap__generation *walmap__generation_first(walmap__shard *shard);
walmap__generation *walmap__generation_first_empty(walmap__shard *shard);

/*
** So many entries, or fewer: what is expected must not take what a bound allows, and what an index began with it keeps.
*/
uint64_t walmap__expected_within_bounds(const walmap_options *options, uint64_t entries);

/* A tree without keys for new generations of all shards, with one reference. NULL without memory. */
walmap__order *walmap__generation_new_order(walmap__memory *memory, walmap__epoch *epoch,
                                            const walmap_options *options);

/*
** Reclaims at most `entries` of the garbage queue that no reader can see any more, and frees at most `blocks` of
** unlinked memory, except while defer_free is set. `force`: also when it hardly pays. Call it only while all of the
** shard's records are committed.
*/
void walmap__shard_reclaim(walmap__shard *shard, uint64_t entries, uint64_t blocks, bool force);

/* The same without limits: the closed batch of garbage, and then the rest. */
static inline void walmap__shard_reclaim_all(walmap__shard *shard) {
  walmap__shard_reclaim(shard, UINT64_MAX, UINT64_MAX, true);
  walmap__shard_reclaim(shard, UINT64_MAX, UINT64_MAX, true);
}

/* Whether all garbage that died before this LSN is reclaimed. */
bool walmap__generation_reclaimed_before(const walmap__generation *generation, uint64_t lsn);

/* The present generation, for the holder of the lock. */
static inline walmap__generation *walmap__shard_generation(const walmap__shard *shard) {
  return atomic_load_explicit(&shard->generation, memory_order_relaxed);
}

/* The LSN of the next record: the commit point that would commit all records. */
#define WALMAP__FIRST_LSN 1
static inline uint64_t walmap__shard_end(const walmap__shard *shard) {
  walmap__generation *generation = walmap__shard_generation(shard);
  return generation ? generation->log.end : WALMAP__FIRST_LSN;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/*
** The keys of a generation and the addresses of their newest records. All changes of the index go through these
** functions, so that index and tree (order.h) lead to the same records. None but reserve and add_all can fail.
*/

/* For the three below: the same in the tree. */
walmap__place walmap__generation_reserve_place(walmap__generation *g, const void *key, size_t key_len);
void walmap__generation_add_to_order(walmap__generation *g, walmap__place place, uint32_t address);
void walmap__generation_move_in_order(walmap__generation *g, uint32_t from, uint32_t to);
void walmap__generation_drop_from_order(walmap__generation *g, uint32_t address);

/* Makes room for a key that has no record yet: OK or NOMEM. add or cancel must follow. */
static WALMAP__ALWAYS_INLINE int walmap__generation_reserve(walmap__generation *g, uint64_t hash, const void *key,
                                                            size_t key_len, walmap__place *place) {
  int result = walmap__index_reserve(&g->index, hash, 1);
  if (WALMAP__UNLIKELY(g->order != NULL) && result == WALMAP_OK) {
    *place = walmap__generation_reserve_place(g, key, key_len);
    result = place->leaf ? WALMAP_OK : WALMAP_NOMEM;
  }
  return result;
}

static inline void walmap__generation_cancel(walmap__generation *g, walmap__place place) {
  if (g->order)
    walmap__order_cancel(place); /* NOLINT(clang-analyzer-core.CallAndMessage): reserve has set it */
}

/* The key gets its first record. */
static WALMAP__ALWAYS_INLINE void walmap__generation_add(walmap__generation *g, uint64_t hash, walmap__place place,
                                                         uint32_t address) {
  walmap__index_add(&g->index, hash, address);
  if (WALMAP__UNLIKELY(g->order != NULL))
    walmap__generation_add_to_order(g, place, address); /* NOLINT(clang-analyzer-core.CallAndMessage): as above */
}

/* The key's newest record becomes its successor, its predecessor again, or its copy. */
static WALMAP__ALWAYS_INLINE void walmap__generation_move(walmap__generation *g, const walmap__slot_ref *slot,
                                                          uint32_t to) {
  if (WALMAP__UNLIKELY(g->order != NULL))
    walmap__generation_move_in_order(g, walmap__slot_address(slot), to);
  walmap__slot_set(slot, to);
}

/* The key loses its last record. */
static inline void walmap__generation_drop(walmap__generation *g, uint64_t hash, const walmap__slot_ref *slot) {
  if (WALMAP__UNLIKELY(g->order != NULL))
    walmap__generation_drop_from_order(g, walmap__slot_address(slot));
  walmap__index_remove(&g->index, hash, slot);
}

/* A key has a new newest record, which is no tombstone. `bytes`: the record's, without its `prev` word. */
static inline void walmap__generation_count_in(walmap__generation *g, uint64_t expires, size_t bytes) {
  if (WALMAP__UNLIKELY(expires != 0)) {
    if (expires <= g->expiry.swept) {
      g->expiry.expired += bytes;
      g->dead += bytes;
      g->expirations++;
      return;
    }
    walmap__expiry_add(&g->expiry, expires, bytes);
  }
  g->len++;
}

/* Such a record is superseded at this time, which matters only where it expires. */
static inline void walmap__generation_count_out(walmap__generation *g, uint64_t expires, uint64_t now, size_t bytes) {
  if (WALMAP__UNLIKELY(expires != 0)) {
    if (expires <= g->expiry.swept) {
      g->expiry.expired -= bytes;
      return;
    }
    g->expirations += expires <= now;
    walmap__expiry_remove(&g->expiry, expires, bytes);
  }
  g->len--;
  g->dead += bytes;
}

/* Takes expired entries out of the counters. Call it only while all of the shard's records are committed. */
static inline void walmap__generation_sweep(walmap__generation *g, uint64_t now) {
  uint64_t bytes;
  uint64_t expired = walmap__expiry_sweep(&g->expiry, now, &bytes);
  g->len -= expired;
  g->expirations += expired;
  g->dead += bytes;
}

/* Adds many keys to a generation that no reader sees yet, as walmap__index_add_all; its tree is built after all. */
static inline int walmap__generation_add_all(walmap__generation *g, const walmap__index_entry *entries, uint32_t n,
                                             uint32_t *added) {
  int result = walmap__index_add_all(&g->index, entries, n, added);
  g->len += *added;
  return result;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Readers                                                                                                            */

/* The generation that a reader with this commit point sees; NULL: an empty one. */
static inline walmap__generation *walmap__shard_at(const walmap__shard *shard, uint64_t commit_point) {
  walmap__generation *g = atomic_load_explicit(&shard->generation, memory_order_acquire);
  while (g && g->start >= commit_point)
    g = g->previous;
  return g;
}

/* V1: from the newest version of a key to its version at the commit point; false when the key is absent there. */
static inline bool walmap__version_at(const walmap__log *log, walmap__version *version, uint64_t commit_point) {
  while (WALMAP__UNLIKELY(version->lsn >= commit_point)) {
    walmap__yield("reader: goes to prev");
    uint32_t address = walmap__record_prev(version->record, version->meta);
    if (address == 0)
      return false;
    *version = walmap__log_version(log, address);
  }
  return !(version->meta & WALMAP__TOMB);
}

/*
** V1: whether a scan at the commit point takes this record, whose LSN is less.
**
** A `next` that was loaded before MOVED was seen may be a successor that was undone since, so it is loaded again (K1):
** once a record is MOVED, its `next` leads to the copy, or is still 0.
*/
static inline bool walmap__record_visible(const walmap__log *log, const walmap__record *record, uint64_t commit_point) {
  for (;;) {
    uint32_t next = walmap__record_next(record);
    walmap__yield("scan: next read");
    uint32_t meta = walmap__record_meta(record); /* after next: a next that is a copy's comes with MOVED (K1) */
    if (meta & (WALMAP__TOMB | WALMAP__DEAD))
      return false;
    if (next == 0)
      return true;
    if (!(meta & WALMAP__MOVED))
      return walmap__log_lsn(log, next) >= commit_point;
    next = walmap__record_next(record);
    if (next == 0)
      return true;
    record = walmap__log_at(log, next);
  }
}

#endif
