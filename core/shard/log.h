/*
** log.h - one shard's append-only log: segments, record addresses, LSNs
**
**    first                                                  active
**   [segment 3] ---> [segment 1] ----> [segment 7] -> ... -> [segment 4]
**    first_lsn = 1    first_lsn = 257   first_lsn = 900       first_lsn = ...
**
** A record address (32 bits: segment id, offset in units of 4 bytes) says where a record lies; 0 is no address. An LSN
** (64 bits, units of 4 bytes) says when the record was written: LSNs only grow, and records that a reader could mix up
** never share one. LSN = the segment's first_lsn + offset. Because the two are different things, ids can be reused, and
** compaction can copy the live records of a run of segments into a new segment that covers the same LSNs (compact.h).
**
** A segment never moves once it is published. Segments grow with the log, from first_segment to 127 pages, so that an
** empty map is small and a large one has few. A larger record gets a segment of its own, in which no other record
** begins: an address cannot lead past the first MiB. A sealed segment gives back its unused pages. Compaction merges
** small segments. The last ids are reserved for compaction, so that it can make room when all others are taken.
**
** Threads: the holder of the shard lock writes; readers use the inline functions, protected by their epoch (epoch.h).
*/
#ifndef WALMAP_LOG_H
#define WALMAP_LOG_H

#include "shard/record.h"
#include "sync/epoch.h"

#define WALMAP__OFFSET_BITS 18
#define WALMAP__MAX_SEGMENTS ((uint32_t)1 << (32 - WALMAP__OFFSET_BITS))
#define WALMAP__MAX_SEGMENT (WALMAP__MAX_RUN * WALMAP__PAGE)

/*
** Of longer runs of pages a region has room for three at most, so that up to half of it may stay unused. Short records
** make segments as long as fits a region; one that is longer than this gets a block of its own.
*/
#define WALMAP__LONG_RUN (WALMAP__FREE_PAGES / 4 * WALMAP__PAGE)

/* Things unlinked, to be freed when no reader can see them any more; oldest first (shard.c frees them). */
typedef struct walmap__limbo {
  walmap__retired *first, **last;
  uint64_t bytes;
} walmap__limbo;

static inline void walmap__limbo_init(walmap__limbo *limbo) {
  limbo->first = NULL;
  limbo->last = &limbo->first;
  limbo->bytes = 0;
}

static inline void walmap__limbo_add(walmap__limbo *limbo, walmap__retired *item, size_t bytes) {
  limbo->bytes += bytes;
  item->next = NULL;
  *limbo->last = item;
  limbo->last = &item->next;
}

typedef struct walmap__segment {
  walmap__retired retired;
  struct walmap__log *log;
  uint8_t *base;
  size_t capacity;
  bool own_block; /* its bytes are a block of their own, and no run of pages */
  uint64_t first_lsn;
  _Atomic size_t used;      /* bytes */
  _Atomic uint32_t records; /* in them; stored after `used`: a reader that loads it first gets no more than that */
  _Atomic(struct walmap__segment *) next;
  struct walmap__segment *previous; /* for the holder of the lock only */
  uint32_t id;
  _Atomic bool dirty;  /* a record in it has a PREV, is a TOMB, or was superseded: its bytes are no image */
  _Atomic bool tagged; /* a record in it has a tag: its bytes are no image either, but compaction gains nothing */
  uint64_t dead_bytes; /* superseded, also by the running transaction: a hint for compaction; lock's holder only */
  _Atomic uint64_t least_expires; /* no record in it expires before that; 0: none does */
  uint64_t sealed_time; /* when sealed and committed, or listed; 0: not noted yet (compact_run.c); lock's holder only */
} walmap__segment;

typedef struct walmap__segment_entry {
  uint8_t *base;
  uint64_t first_lsn;
  walmap__segment *segment; /* NULL: the id is free */
} walmap__segment_entry;

typedef struct walmap__segment_table {
  walmap__retired retired;
  uint32_t capacity;
  walmap__segment_entry entries[];
} walmap__segment_table;

typedef struct walmap__log {
  _Atomic(walmap__segment_table *) table;
  _Atomic(walmap__segment *) first;
  walmap__segment *active; /* NULL: the next append makes one */
  walmap__segment *last;   /* of the list; equal to active, if that is not NULL */
  uint64_t end;            /* LSN of the next record; it never goes back */
  size_t min_segment, max_segment;
  size_t expected;     /* bytes: the size of the first segment, as far as allowed */
  uint32_t next_id;    /* where the search for a free id starts */
  uint32_t n_ids;      /* taken: by segments in the list, in a job of compaction, or not yet freed */
  uint32_t n_segments; /* in the list */
  uint64_t bytes;      /* of all records in the list */
  uint64_t capacity;   /* of all segments in the list */
  walmap__memory *memory;
  walmap__limbo *limbo;
} walmap__log;

void walmap__log_init(walmap__log *log, walmap__memory *memory, walmap__limbo *limbo, uint64_t start,
                      size_t min_segment, size_t max_segment);

/* Call it before the first append: so many bytes of records are expected. */
static inline void walmap__log_expect(walmap__log *log, uint64_t bytes) {
  log->expected = bytes < WALMAP__MAX_SEGMENT ? (size_t)bytes : WALMAP__MAX_SEGMENT;
}

/* Frees all segments that are linked, and the table. No reader may be left. */
void walmap__log_destroy(walmap__log *log);

/*
** The size of a new segment: an eighth of the log, so that at most this much is unused, or being compacted; at first
** the expected bytes. From a page on it is up to half less, so that regions have no rest (memory.h).
*/
size_t walmap__log_segment_size(const walmap__log *log);

/* For walmap__log_reserve: the active segment is full, or there is none. */
int walmap__log_new_active(walmap__log *log, size_t bytes);

/* Ends the active segment, so that compaction may take it. */
void walmap__log_seal(walmap__log *log);

/*
** For filling several segments at a time, in a log that no reader sees yet (partition.h):
**   add_segment   appends a segment with room for `bytes` to the list. NULL with *result set
**   fill_segment  notes how many bytes and records were written to a segment
**   settle        when all are filled: gives LSNs in the order of the list, and makes the last segment active
*/
walmap__segment *walmap__log_add_segment(walmap__log *log, size_t bytes, int *result);
void walmap__log_fill_segment(walmap__segment *segment, size_t bytes, uint32_t records);
void walmap__log_settle(walmap__log *log);

/*
** A segment outside of the list, with an id of its own: for compaction to fill. `own_block`: its bytes are to be a
** block of their own. NULL with *result set.
*/
walmap__segment *walmap__log_new_segment(walmap__log *log, size_t bytes, bool own_block, uint64_t first_lsn,
                                         int *result);

/* Gives back the pages that it does not use, where it has pages: it is full. */
void walmap__segment_trim(walmap__segment *segment);

/* Frees a segment at once: no reader may know it. */
void walmap__log_free_segment(walmap__segment *segment);

/* Replaces the run first..last in the list by the segment `by` (NULL: by none), and retires the run. */
void walmap__log_replace(walmap__log *log, walmap__segment *first, walmap__segment *last, walmap__segment *by);

static inline uint32_t walmap__address(const walmap__segment *segment, size_t offset) {
  return segment->id << WALMAP__OFFSET_BITS | (uint32_t)(offset >> 2);
}

static inline size_t walmap__address_offset(uint32_t address) {
  return (size_t)(address & (((uint32_t)1 << WALMAP__OFFSET_BITS) - 1)) << 2;
}

static inline walmap__segment_entry *walmap__log_entry(const walmap__log *log, uint32_t address) {
  walmap__segment_table *table = atomic_load_explicit(&log->table, memory_order_acquire);
  return &table->entries[address >> WALMAP__OFFSET_BITS];
}

static inline walmap__record *walmap__log_at(const walmap__log *log, uint32_t address) {
  return (walmap__record *)(walmap__log_entry(log, address)->base + walmap__address_offset(address));
}

/* Fetches the cache line behind the line in which the record begins. */
static inline void walmap__log_prefetch_rest(const walmap__log *log, uint32_t address) {
  enum { CACHE_LINE = 64 };
  __builtin_prefetch((const uint8_t *)walmap__log_at(log, address) + CACHE_LINE);
}

static inline uint64_t walmap__log_lsn(const walmap__log *log, uint32_t address) {
  return walmap__log_entry(log, address)->first_lsn + (walmap__address_offset(address) >> 2);
}

/* One version of a key: its record, address and LSN. */
typedef struct walmap__version {
  walmap__record *record; /* NULL: there is none */
  uint32_t address, meta;
  uint64_t lsn;
} walmap__version;

static inline walmap__version walmap__log_version(const walmap__log *log, uint32_t address) {
  const walmap__segment_entry *entry = walmap__log_entry(log, address);
  size_t offset = walmap__address_offset(address);
  walmap__record *record = (walmap__record *)(entry->base + offset);
  return (walmap__version){record, address, walmap__record_meta(record), entry->first_lsn + (offset >> 2)};
}

/* The list of segments, for readers and for the holder of the shard lock; NULL at its end. */
static inline walmap__segment *walmap__log_first(const walmap__log *log) {
  return atomic_load_explicit(&log->first, memory_order_acquire);
}

static inline walmap__segment *walmap__segment_next(const walmap__segment *segment) {
  return atomic_load_explicit(&segment->next, memory_order_acquire);
}

/* The record that begins at this offset, in bytes. */
static inline walmap__record *walmap__segment_record(const walmap__segment *segment, size_t offset) {
  return (walmap__record *)(segment->base + offset);
}

/* Bytes in use, as a reader may see them. */
static inline size_t walmap__segment_used(const walmap__segment *segment) {
  return atomic_load_explicit(&segment->used, memory_order_acquire);
}

/* Bytes of the segment that a reader with this commit point may read. */
static inline size_t walmap__segment_before(const walmap__segment *segment, uint64_t commit_point) {
  if (segment->first_lsn >= commit_point)
    return 0;
  uint64_t before_commit_point = (commit_point - segment->first_lsn) << 2;
  size_t used = walmap__segment_used(segment);
  return before_commit_point < used ? (size_t)before_commit_point : used;
}

/*
** Makes room for one record: OK, NOMEM, TOOBIG. The next append of at most so many bytes cannot fail. If `bytes` is
** more than WALMAP__MAX_SEGMENT, the append must follow: another record must not take the segment.
*/
static inline int walmap__log_reserve(walmap__log *log, size_t bytes) {
  const walmap__segment *active = log->active;
  if (WALMAP__LIKELY(active && active->capacity - atomic_load_explicit(&active->used, memory_order_relaxed) >= bytes))
    return WALMAP_OK;
  return walmap__log_new_active(log, bytes);
}

/* Makes bytes that were written behind the active segment's end, into reserved room, part of the log. */
static inline void walmap__log_advance(walmap__log *log, size_t bytes, uint32_t records) {
  walmap__segment *segment = log->active;
  size_t used = atomic_load_explicit(&segment->used, memory_order_relaxed);
  atomic_store_explicit(&segment->used, used + bytes, memory_order_release);
  records += atomic_load_explicit(&segment->records, memory_order_relaxed);
  atomic_store_explicit(&segment->records, records, memory_order_release);
  log->bytes += bytes;
  log->end += bytes >> 2;
}

/*
** Returns room for a record of so many bytes, which were reserved before. Fetches a cache line for the records to come:
** a lock cannot be released before what was written is in the cache, and the CPU does not foresee the ends of many
** logs.
*/
#define WALMAP__LINES_AHEAD 64
static inline void *walmap__log_append(walmap__log *log, size_t bytes, uint32_t *address) {
  walmap__segment *segment = log->active;
  size_t used = atomic_load_explicit(&segment->used, memory_order_relaxed);
  *address = walmap__address(segment, used);
  __builtin_prefetch(segment->base + used + bytes + WALMAP__LINES_AHEAD, 1);
  walmap__log_advance(log, bytes, 1);
  walmap__yield("log: record not written");
  return segment->base + used;
}

/* Before a record that expires then comes into the segment, so that readers that see the record know. */
static inline void walmap__segment_note_expires(walmap__segment *segment, uint64_t expires) {
  uint64_t least = atomic_load_explicit(&segment->least_expires, memory_order_relaxed);
  if (least == 0 || expires < least)
    atomic_store_explicit(&segment->least_expires, expires, memory_order_release);
}

/* Whether an entry in it may have expired at this time. */
static inline bool walmap__segment_may_be_expired(const walmap__segment *segment, uint64_t now) {
  uint64_t least = atomic_load_explicit(&segment->least_expires, memory_order_acquire);
  return least != 0 && least <= now;
}

static inline void walmap__segment_set_dirty(walmap__segment *segment) {
  if (!atomic_load_explicit(&segment->dirty, memory_order_relaxed)) {
    atomic_store_explicit(&segment->dirty, true, memory_order_release);
  }
}

#endif
