/* log.c - one shard's append-only log (log.h has the picture) */
#include "shard/log.h"

#define FIRST_TABLE 8
#define KEPT_IDS 64u /* ids that only compaction may take */

void walmap__log_init(walmap__log *log, walmap__memory *memory, walmap__limbo *limbo, uint64_t start,
                      size_t min_segment, size_t max_segment) {
  memset(log, 0, sizeof *log);
  log->memory = memory;
  log->limbo = limbo;
  log->end = start;
  log->min_segment = min_segment;
  log->max_segment = max_segment;
  log->next_id = 1; /* id 0 is never used, so that address 0 means none */
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Ids                                                                                                                */

static size_t table_bytes(uint32_t capacity) {
  return sizeof(walmap__segment_table) + capacity * sizeof(walmap__segment_entry);
}

static void free_table(walmap__memory *memory, walmap__retired *self) {
  walmap__segment_table *table = (walmap__segment_table *)self;
  walmap__memory_free(memory, table, table_bytes(table->capacity));
}

static walmap__segment_table *table_of(const walmap__log *log) {
  return atomic_load_explicit(&log->table, memory_order_relaxed);
}

/* Readers may go on with the old table, which stays right for every address that they know. */
static int grow_table(walmap__log *log) {
  walmap__segment_table *old = table_of(log);
  uint32_t capacity = old ? old->capacity * 2 : FIRST_TABLE;
  if (capacity > WALMAP__MAX_SEGMENTS)
    return WALMAP_TOOBIG;
  walmap__segment_table *table = walmap__memory_alloc(log->memory, table_bytes(capacity));
  if (!table)
    return WALMAP_NOMEM;
  memset(table, 0, table_bytes(capacity));
  table->capacity = capacity;
  table->retired.free = free_table;
  if (old)
    memcpy(table->entries, old->entries, old->capacity * sizeof old->entries[0]);
  walmap__yield("log: table copied");
  atomic_store_explicit(&log->table, table, memory_order_release);
  if (old)
    walmap__limbo_add(log->limbo, &old->retired, table_bytes(old->capacity));
  return WALMAP_OK;
}

/* Finds a free id; 0 with *result set when there is none. Ids are reused in circles, so the next free id is near. */
static uint32_t free_id(walmap__log *log, int *result) {
  for (;;) {
    walmap__segment_table *table = table_of(log);
    uint32_t capacity = table ? table->capacity : 0;
    for (uint32_t i = 0; i < capacity; i++) {
      uint32_t id = (log->next_id + i) % capacity;
      if (id != 0 && !table->entries[id].segment) {
        log->next_id = id + 1;
        return id;
      }
    }
    if ((*result = grow_table(log)) != WALMAP_OK)
      return 0;
    log->next_id = capacity > 0 ? capacity : 1;
  }
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Segments                                                                                                           */

static void count_bytes(const walmap__log *log, size_t before, size_t after) {
  atomic_fetch_add_explicit(&log->memory->log_bytes, (uint64_t)after - before, memory_order_relaxed);
}

void walmap__log_free_segment(walmap__segment *segment) {
  walmap__log *log = segment->log;
  table_of(log)->entries[segment->id].segment = NULL;
  log->n_ids--;
  count_bytes(log, segment->capacity, 0);
  (segment->own_block ? walmap__memory_free_block : walmap__memory_free)(log->memory, segment->base, segment->capacity);
  walmap__memory_free(log->memory, segment, sizeof *segment);
}

static void free_retired_segment(walmap__memory *memory, walmap__retired *self) {
  (void)memory;
  walmap__log_free_segment((walmap__segment *)self);
}

walmap__segment *walmap__log_new_segment(walmap__log *log, size_t bytes, bool own_block, uint64_t first_lsn,
                                         int *result) {
  uint32_t id = free_id(log, result);
  if (id == 0)
    return NULL;
  *result = WALMAP_NOMEM;
  walmap__segment *segment = walmap__memory_alloc(log->memory, sizeof *segment);
  if (!segment)
    return NULL;
  memset(segment, 0, sizeof *segment);
  segment->own_block = own_block;
  segment->capacity = own_block ? bytes : walmap__memory_usable(bytes);
  segment->base = (own_block ? walmap__memory_alloc_block : walmap__memory_alloc)(log->memory, segment->capacity);
  if (!segment->base) {
    walmap__memory_free(log->memory, segment, sizeof *segment);
    return NULL;
  }
  count_bytes(log, 0, segment->capacity);
  segment->retired.free = free_retired_segment;
  segment->log = log;
  segment->first_lsn = first_lsn;
  segment->id = id;
  table_of(log)->entries[id] = (walmap__segment_entry){segment->base, first_lsn, segment};
  log->n_ids++;
  *result = WALMAP_OK;
  return segment;
}

void walmap__segment_trim(walmap__segment *segment) {
  size_t used = atomic_load_explicit(&segment->used, memory_order_relaxed);
  size_t before = segment->capacity;
  if (!segment->own_block)
    segment->capacity = walmap__memory_trim(segment->log->memory, segment->base, before, used);
  count_bytes(segment->log, before, segment->capacity);
}

void walmap__log_seal(walmap__log *log) {
  if (log->active) {
    log->capacity -= log->active->capacity;
    walmap__segment_trim(log->active);
    log->capacity += log->active->capacity;
  }
  log->active = NULL;
}

static void link_last(walmap__log *log, walmap__segment *segment) {
  segment->previous = log->last;
  walmap__yield("log: segment not linked");
  atomic_store_explicit(log->last ? &log->last->next : &log->first, segment, memory_order_release);
  log->last = segment;
  log->n_segments++;
  log->capacity += segment->capacity;
}

/* The largest size, up to this one, of which several fill a region without a rest. */
static size_t whole_part_of_region(size_t size) {
  size_t pages = size / WALMAP__PAGE, parts = WALMAP__FREE_PAGES / (pages + 1) + 1;
  return WALMAP__FREE_PAGES / parts * WALMAP__PAGE;
}

/* Where the longest segment is less than an eighth of the log, it is this part at least: tables of ids stay short. */
#define LEAST_PART 64

static size_t wanted_size(const walmap__log *log) {
  size_t size = log->bytes > 0 ? log->bytes / 8 : log->expected;
  if (size < log->min_segment)
    size = log->min_segment;
  size_t most = log->bytes / LEAST_PART < log->max_segment ? log->max_segment : (size_t)(log->bytes / LEAST_PART);
  most = most < WALMAP__MAX_SEGMENT ? most : WALMAP__MAX_SEGMENT;
  return size < most ? size : most;
}

size_t walmap__log_segment_size(const walmap__log *log) {
  size_t size = wanted_size(log);
  return size < WALMAP__PAGE ? size : walmap__memory_fitting(log->memory, whole_part_of_region(size));
}

/*
** For records that are long beside a segment: of the sizes of which a region holds several without a rest, up to this
** one, that of which they fill the most. The largest of them, so that segments are few.
*/
static size_t size_for_long(size_t size, size_t record) {
  size_t best = record, most = 0;
  for (size_t part = whole_part_of_region(size); part >= record; part = whole_part_of_region(part - WALMAP__PAGE)) {
    size_t filled = WALMAP__FREE_PAGES / (part / WALMAP__PAGE) * (part / record);
    if (filled > most) {
      most = filled;
      best = part;
    }
  }
  return best;
}

walmap__segment *walmap__log_add_segment(walmap__log *log, size_t record, int *result) {
  enum { LONG = 8 }; /* an eighth of the segment may be unused */
  if (log->n_ids >= WALMAP__MAX_SEGMENTS - 1 - KEPT_IDS) {
    *result = WALMAP_TOOBIG;
    return NULL;
  }
  size_t size = wanted_size(log), capacity;
  bool own_block = record > WALMAP__LONG_RUN;
  if (own_block) {
    capacity = record;
  } else if (record > WALMAP__PAGE && record > size / LONG) {
    capacity = size_for_long(size, record);
  } else {
    capacity = walmap__log_segment_size(log);
    capacity = capacity < record ? record : capacity;
  }
  walmap__segment *segment = walmap__log_new_segment(log, capacity, own_block, log->end, result);
  if (segment)
    link_last(log, segment);
  return segment;
}

int walmap__log_new_active(walmap__log *log, size_t bytes) {
  int result;
  walmap__segment *segment = walmap__log_add_segment(log, bytes, &result);
  if (!segment)
    return result;
  walmap__log_seal(log);
  log->active = segment;
  return WALMAP_OK;
}

void walmap__log_fill_segment(walmap__segment *segment, size_t bytes, uint32_t records) {
  atomic_store_explicit(&segment->used, bytes, memory_order_relaxed);
  atomic_store_explicit(&segment->records, records, memory_order_relaxed);
  segment->log->bytes += bytes;
}

void walmap__log_settle(walmap__log *log) {
  walmap__segment *segment = walmap__log_first(log);
  for (; segment; segment = walmap__segment_next(segment)) {
    walmap__log_seal(log);
    segment->first_lsn = table_of(log)->entries[segment->id].first_lsn = log->end;
    log->end += walmap__segment_used(segment) >> 2;
    log->active = segment;
  }
}

/* Readers within the old run go on through its links, which stay as they are. */
void walmap__log_replace(walmap__log *log, walmap__segment *first, walmap__segment *last, walmap__segment *by) {
  walmap__segment *before = first->previous;
  walmap__segment *after = walmap__segment_next(last);
  walmap__segment *to = by ? by : after;
  if (by) {
    by->previous = before;
    atomic_store_explicit(&by->next, after, memory_order_relaxed);
    log->bytes += walmap__segment_used(by);
    log->capacity += by->capacity;
    log->n_segments++;
  }
  if (after) {
    after->previous = by ? by : before;
  } else {
    log->last = by ? by : before;
  }
  walmap__yield("log: run not replaced");
  atomic_store_explicit(before ? &before->next : &log->first, to, memory_order_release);
  walmap__yield("log: run replaced");
  for (walmap__segment *segment = first;;) {
    walmap__segment *next = walmap__segment_next(segment);
    log->bytes -= walmap__segment_used(segment);
    log->capacity -= segment->capacity;
    log->n_segments--;
    walmap__limbo_add(log->limbo, &segment->retired, segment->capacity);
    if (segment == last)
      break;
    segment = next;
  }
}

void walmap__log_destroy(walmap__log *log) {
  walmap__segment *segment = walmap__log_first(log);
  while (segment) {
    walmap__segment *next = walmap__segment_next(segment);
    walmap__log_free_segment(segment);
    segment = next;
  }
  walmap__segment_table *table = table_of(log);
  if (table)
    free_table(log->memory, &table->retired);
}
