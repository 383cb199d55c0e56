/* expiry.c - how many entries of a generation expire at each time (expiry.h has the argument) */
#include "shard/expiry.h"

#include <assert.h>

#define FIRST_BITS 4
#define MAX_BITS 31

enum { CELL = 2 * sizeof(uint64_t) + sizeof(uint32_t) };

static size_t expiry_table_bytes(uint32_t bits) { return sizeof(walmap__expiry_table) + ((size_t)CELL << bits); }

static uint32_t expiry_limit_of(const walmap__expiry_table *t) {
  uint32_t cells = (uint32_t)1 << t->bits;
  return cells - cells / 5;
}

static walmap__expiry_table *expiry_table_of(const walmap__expiry *expiry) {
  return atomic_load_explicit(&expiry->table, memory_order_relaxed);
}

static uint64_t time_of(const walmap__expiry_table *t, uint32_t i) {
  return atomic_load_explicit(&t->times[i], memory_order_relaxed);
}

/* Times follow one another closely: the multiplication spreads them (Knuth, "The Art of Computer Programming", 6.4). */
static uint32_t home_of(const walmap__expiry_table *t, uint64_t time) {
  return (uint32_t)(time * UINT64_C(0x9E3779B97F4A7C15) >> (64 - t->bits));
}

/* The time's cell, or the empty one where it would be. */
static uint32_t find_second(const walmap__expiry_table *t, uint64_t time) {
  uint32_t mask = ((uint32_t)1 << t->bits) - 1, i = home_of(t, time);
  for (uint32_t steps = 0; steps <= mask; steps++, i = (i + 1) & mask) {
    uint64_t found = time_of(t, i);
    if (found == time || found == 0)
      return i;
  }
  return home_of(t, time); /* a reader of a table that is being changed may come here: its version is outdated */
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Making and freeing                                                                                                 */

static void free_expiry_table(walmap__memory *memory, walmap__retired *self) {
  walmap__expiry_table *t = (walmap__expiry_table *)self;
  walmap__memory_free(memory, t, expiry_table_bytes(t->bits));
}

static walmap__expiry_table *new_table(walmap__memory *memory, uint32_t bits) {
  walmap__expiry_table *t = walmap__memory_alloc(memory, expiry_table_bytes(bits));
  if (!t)
    return NULL;
  memset(t, 0, expiry_table_bytes(bits));
  t->retired.free = free_expiry_table;
  t->bits = bits;
  t->times = (_Atomic uint64_t *)(t + 1);
  t->bytes = t->times + ((size_t)1 << bits);
  t->counts = (_Atomic uint32_t *)(t->bytes + ((size_t)1 << bits));
  return t;
}

void walmap__expiry_destroy(walmap__expiry *expiry, walmap__memory *memory) {
  walmap__expiry_table *t = expiry_table_of(expiry);
  if (t)
    free_expiry_table(memory, &t->retired);
}

/* A reader that finds the version odd, or another, does not use what it has read. */
static void start_change(walmap__expiry *expiry) {
  uint64_t version = atomic_load_explicit(&expiry->version, memory_order_relaxed);
  if (version & 1)
    return;
  atomic_store_explicit(&expiry->version, version + 1, memory_order_relaxed);
  atomic_thread_fence(memory_order_release);
  walmap__yield("expiry: being changed");
}

static void set_cell(walmap__expiry_table *t, uint32_t i, uint64_t time, uint64_t bytes, uint32_t count) {
  atomic_store_explicit(&t->times[i], time, memory_order_relaxed);
  atomic_store_explicit(&t->bytes[i], bytes, memory_order_relaxed);
  atomic_store_explicit(&t->counts[i], count, memory_order_relaxed);
}

static uint64_t bytes_of(const walmap__expiry_table *t, uint32_t i) {
  return atomic_load_explicit(&t->bytes[i], memory_order_relaxed);
}

static uint32_t count_of(const walmap__expiry_table *t, uint32_t i) {
  return atomic_load_explicit(&t->counts[i], memory_order_relaxed);
}

static int grow_expiry_table(walmap__expiry *expiry, walmap__memory *memory, walmap__limbo *limbo, uint32_t bits) {
  walmap__expiry_table *old = expiry_table_of(expiry), *t = bits <= MAX_BITS ? new_table(memory, bits) : NULL;
  if (!t)
    return WALMAP_NOMEM;
  for (uint32_t i = 0; old && i < (uint32_t)1 << old->bits; i++) {
    uint64_t time = time_of(old, i);
    if (time != 0)
      set_cell(t, find_second(t, time), time, bytes_of(old, i), count_of(old, i));
  }
  t->used = old ? old->used : 0;
  atomic_store_explicit(&expiry->table, t, memory_order_release); /* the same content: readers may take either */
  if (old)
    walmap__limbo_add(limbo, &old->retired, expiry_table_bytes(old->bits));
  return WALMAP_OK;
}

int walmap__expiry_reserve(walmap__expiry *expiry, walmap__memory *memory, walmap__limbo *limbo, uint32_t n) {
  const walmap__expiry_table *t = expiry_table_of(expiry);
  if (WALMAP__LIKELY(t && (uint64_t)t->used + n <= expiry_limit_of(t)))
    return WALMAP_OK;
  uint32_t bits = t ? t->bits + 1 : FIRST_BITS;
  uint64_t want = (t ? t->used : 0) + (uint64_t)n;
  while (bits <= MAX_BITS && ((uint64_t)1 << bits) - ((uint64_t)1 << bits) / 5 < want)
    bits++;
  return grow_expiry_table(expiry, memory, limbo, bits);
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Changing                                                                                                           */

void walmap__expiry_add(walmap__expiry *expiry, uint64_t time, size_t bytes) {
  walmap__expiry_table *t = expiry_table_of(expiry);
  start_change(expiry);
  uint32_t i = find_second(t, time);
  if (time_of(t, i) == 0) {
    assert(t->used < expiry_limit_of(t)); /* reserved */
    t->used++;
    set_cell(t, i, time, bytes, 1);
    return;
  }
  set_cell(t, i, time, bytes_of(t, i) + bytes, count_of(t, i) + 1);
}

/* Empties a cell. Cells that a search would no longer find move up (Knuth, 6.4, algorithm R). */
static void empty_cell(walmap__expiry_table *t, uint32_t hole) {
  uint32_t mask = ((uint32_t)1 << t->bits) - 1;
  for (uint32_t i = (hole + 1) & mask; time_of(t, i) != 0; i = (i + 1) & mask) {
    uint32_t home = home_of(t, time_of(t, i));
    if (((i - home) & mask) < ((i - hole) & mask))
      continue;
    set_cell(t, hole, time_of(t, i), bytes_of(t, i), count_of(t, i));
    hole = i;
  }
  set_cell(t, hole, 0, 0, 0);
  t->used--;
}

void walmap__expiry_remove(walmap__expiry *expiry, uint64_t time, size_t bytes) {
  walmap__expiry_table *t = expiry_table_of(expiry);
  start_change(expiry);
  uint32_t i = find_second(t, time), count = count_of(t, i);
  assert(time_of(t, i) == time && bytes_of(t, i) >= bytes);
  if (count > 1)
    set_cell(t, i, time, bytes_of(t, i) - bytes, count - 1);
  else
    empty_cell(t, i);
}

static uint64_t take_out_second(walmap__expiry_table *t, uint32_t i, uint64_t *bytes) {
  uint64_t count = count_of(t, i);
  *bytes += bytes_of(t, i);
  empty_cell(t, i);
  return count;
}

/* Looks up each time since the last sweep, if these are fewer than the table's cells; else walks over the table. */
uint64_t walmap__expiry_sweep(walmap__expiry *expiry, uint64_t now, uint64_t *bytes) {
  walmap__expiry_table *t = expiry_table_of(expiry);
  uint64_t count = 0, from = expiry->swept;
  *bytes = 0;
  if (!t || now <= from)
    return 0;
  start_change(expiry);
  uint32_t cells = (uint32_t)1 << t->bits;
  if (now - from < cells) {
    for (uint64_t time = from + 1; time <= now && t->used > 0; time++) {
      uint32_t i = find_second(t, time);
      if (time_of(t, i) == time)
        count += take_out_second(t, i, bytes);
    }
  } else {
    for (uint32_t i = 0; i < cells;) {
      uint64_t time = time_of(t, i);
      if (time != 0 && time <= now)
        /* Another may have moved here. One that moved to the table's end is passed again. */
        count += take_out_second(t, i, bytes);
      else
        i++;
    }
  }
  expiry->swept = now;
  expiry->expired += *bytes;
  return count;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Counting                                                                                                           */

static uint64_t sum_of_times(const walmap__expiry_table *t, uint64_t from, uint64_t to) {
  uint64_t count = 0;
  uint32_t cells = (uint32_t)1 << t->bits;
  if (to - from < cells) {
    for (uint64_t time = from + 1; time <= to; time++) {
      uint32_t i = find_second(t, time);
      count += time_of(t, i) == time ? count_of(t, i) : 0;
    }
    return count;
  }
  for (uint32_t i = 0; i < cells; i++) {
    uint64_t time = time_of(t, i);
    count += time > from && time <= to ? count_of(t, i) : 0;
  }
  return count;
}

bool walmap__expiry_count(walmap__expiry *expiry, uint64_t version, uint64_t from, uint64_t to, uint64_t *count) {
  if (atomic_load_explicit(&expiry->version, memory_order_acquire) != version)
    return false;
  walmap__yield("expiry: version read");
  const walmap__expiry_table *t = atomic_load_explicit(&expiry->table, memory_order_acquire);
  *count = t && to > from ? sum_of_times(t, from, to) : 0;
  atomic_thread_fence(memory_order_acquire);
  return atomic_load_explicit(&expiry->version, memory_order_relaxed) == version;
}
