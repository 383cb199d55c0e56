/* index.c - one shard's hash index: all changes of it (index.h has the picture and the search) */
#include "shard/index.h"

#define MAX_BITS 7 /* 128 buckets: 8 KiB, one page of memory.h */

static size_t bucket_bytes(unsigned bits) { return sizeof(walmap__bucket) << bits; }

/* At four fifths full, a bucket seldom overflows, and there is always a free slot. */
static uint32_t limit_of(unsigned bits) {
  uint32_t slots = (uint32_t)WALMAP__BUCKET_SLOTS << bits;
  return slots - slots / 5;
}

static walmap__directory *directory_of(const walmap__index *index) {
  return atomic_load_explicit(&index->directory, memory_order_relaxed);
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Making and freeing                                                                                                 */

static void free_subtable(walmap__memory *memory, walmap__retired *self) {
  walmap__subtable *t = (walmap__subtable *)self;
  walmap__memory_free(memory, t->buckets, bucket_bytes(t->bits));
  walmap__memory_free(memory, t, sizeof *t);
}

static walmap__subtable *new_subtable(walmap__memory *memory, unsigned bits, unsigned depth) {
  walmap__subtable *t = walmap__memory_alloc(memory, sizeof *t);
  if (!t)
    return NULL;
  memset(t, 0, sizeof *t);
  t->buckets = walmap__memory_alloc(memory, bucket_bytes(bits));
  if (!t->buckets) {
    walmap__memory_free(memory, t, sizeof *t);
    return NULL;
  }
  memset(t->buckets, 0, bucket_bytes(bits));
  t->retired.free = free_subtable;
  t->limit = limit_of(bits);
  t->bits = (uint8_t)bits;
  t->depth = (uint8_t)depth;
  return t;
}

static size_t directory_bytes(unsigned depth) {
  return sizeof(walmap__directory) + (((size_t)1 << depth) * (sizeof(uintptr_t) + sizeof(walmap__subtable *)));
}

static void free_directory(walmap__memory *memory, walmap__retired *self) {
  walmap__directory *d = (walmap__directory *)self;
  walmap__memory_free(memory, d, directory_bytes(d->depth));
}

static walmap__directory *new_directory(const walmap__index *index, unsigned depth) {
  walmap__directory *d = walmap__memory_alloc(index->memory, directory_bytes(depth));
  if (!d)
    return NULL;
  memset(d, 0, directory_bytes(depth));
  d->retired.free = free_directory;
  d->depth = (uint8_t)depth;
  d->mask = ((size_t)1 << depth) - 1;
  unsigned used = index->shard_bits + depth;
  d->shift = (uint8_t)(used == 0 ? 63 : 64 - used);
  d->subtables = (walmap__subtable **)(d->words + ((size_t)1 << depth));
  return d;
}

static void set_word(walmap__directory *d, size_t i, walmap__subtable *t) {
  d->subtables[i] = t;
  walmap__yield("index: word not set");
  atomic_store_explicit(&d->words[i], (uintptr_t)t->buckets | t->bits, memory_order_release);
}

int walmap__index_init(walmap__index *index, const walmap__log *log, walmap__memory *memory, walmap__limbo *limbo,
                       const walmap_options *options, uint64_t capacity) {
  memset(index, 0, sizeof *index);
  index->log = log;
  index->memory = memory;
  index->limbo = limbo;
  index->shard_bits = (uint8_t)__builtin_ctz(options->shards);
  index->keeps_visits = (options->max_entries != 0 || options->max_bytes != 0) && !options->error_when_full;
  index->bounded = options->max_bytes != 0;
  index->hash = options->hash;
  index->seed = options->seed;
  unsigned bits = 0, depth = 0;
  uint64_t room = capacity + capacity / 8; /* chance fills some subtables more than others */
  while (bits < MAX_BITS && limit_of(bits) < room)
    bits++;
  while (depth < 24 && (uint64_t)limit_of(bits) << depth < room)
    depth++;
  walmap__directory *d = new_directory(index, depth);
  if (!d)
    return WALMAP_NOMEM;
  atomic_store_explicit(&index->directory, d, memory_order_release);
  for (size_t i = 0; i < (size_t)1 << depth; i++) {
    walmap__subtable *t = new_subtable(memory, bits, depth);
    if (!t) {
      walmap__index_destroy(index);
      return WALMAP_NOMEM;
    }
    set_word(d, i, t);
    index->n_subtables++;
  }
  index->first_depth = (uint8_t)depth;
  return WALMAP_OK;
}

void walmap__index_destroy(walmap__index *index) {
  walmap__directory *d = directory_of(index);
  if (!d)
    return;
  for (size_t i = 0; i < (size_t)1 << d->depth; i++) {
    walmap__subtable *t = d->subtables[i];
    bool first = i == 0 || d->subtables[i - 1] != t; /* a subtable's words are neighbours */
    if (t && first)
      free_subtable(index->memory, &t->retired);
  }
  free_directory(index->memory, &d->retired);
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Entries                                                                                                            */

/* At UINT16_MAX the number is not known any more, and stays (index.h). */
static void raise_passed(walmap__bucket *bucket, int by) {
  int passed = atomic_load_explicit(&bucket->passed, memory_order_relaxed);
  if (passed != UINT16_MAX)
    atomic_store_explicit(&bucket->passed, (uint16_t)(passed + by), memory_order_release);
}

/* I1: passed first, then the address, then the tag. */
static void fill_slot(walmap__bucket *bucket, unsigned slot, uint64_t hash, uint32_t address) {
  walmap__yield("index: slot empty");
  walmap__slot_forget_visit(bucket, slot);
  atomic_store_explicit(&bucket->address[slot], address, memory_order_release);
  walmap__yield("index: address set");
  atomic_store_explicit(&bucket->tag[slot], (uint8_t)walmap__tag(hash), memory_order_release);
}

static walmap__slot_ref add_to(walmap__subtable *t, uint64_t hash, uint32_t address) {
  uint32_t mask = (1u << t->bits) - 1;
  uint32_t b = (uint32_t)(hash >> 8) & mask;
  uint32_t empty;
  while ((empty = walmap__bucket_match(&t->buckets[b], 0)) == 0) {
    raise_passed(&t->buckets[b], 1);
    b = (b + 1) & mask;
  }
  walmap__slot_ref ref = {.bucket = &t->buckets[b], .slot = (uint32_t)__builtin_ctz(empty)};
  fill_slot(ref.bucket, ref.slot, hash, address);
  t->count++;
  return ref;
}

static walmap__subtable *subtable_of(const walmap__index *index, uint64_t hash) {
  walmap__directory *d = directory_of(index);
  return d->subtables[walmap__directory_slot(d, hash)];
}

void walmap__index_add(walmap__index *index, uint64_t hash, uint32_t address) {
  (void)add_to(subtable_of(index, hash), hash, address);
}

void walmap__index_find_address(const walmap__index *index, uint64_t hash, uint32_t address, walmap__slot_ref *ref) {
  walmap__index_seek(index, hash, ref);
  while (walmap__index_next(ref, hash) != address) {
  }
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Growth                                                                                                             */

static uint64_t hash_at(const walmap__index *index, uint32_t address) {
  const walmap__record *record = walmap__log_at(index->log, address);
  return walmap__index_hash_of(index, record, walmap__record_meta(record));
}

/* A record may begin at the end of a cache line and have its key in the next line. */
static void prefetch_records(const walmap__index *index, const walmap__bucket *bucket) {
  for (unsigned i = 0; i < WALMAP__BUCKET_SLOTS; i++) {
    if (atomic_load_explicit(&bucket->tag[i], memory_order_relaxed) == 0)
      continue;
    uint32_t address = atomic_load_explicit(&bucket->address[i], memory_order_relaxed);
    const uint8_t *record = (const uint8_t *)walmap__log_at(index->log, address);
    __builtin_prefetch(record);
    __builtin_prefetch(record + 2 * WALMAP__RECORD_HEAD);
  }
}

/* Distributes the entries of `from` to `to[0]` and `to[1]`, which may be the same, by a bit of the hash. */
static void spread_entries(const walmap__index *index, const walmap__subtable *from, walmap__subtable *const to[2],
                           unsigned shift) {
  uint32_t n = 1u << from->bits;
  prefetch_records(index, &from->buckets[0]);
  for (uint32_t b = 0; b < n; b++) {
    const walmap__bucket *bucket = &from->buckets[b];
    uint32_t visited = atomic_load_explicit(&bucket->visited, memory_order_relaxed);
    if (b + 1 < n)
      prefetch_records(index, bucket + 1);
    for (unsigned i = 0; i < WALMAP__BUCKET_SLOTS; i++) {
      if (atomic_load_explicit(&bucket->tag[i], memory_order_relaxed) == 0)
        continue;
      uint32_t address = atomic_load_explicit(&bucket->address[i], memory_order_relaxed);
      uint64_t hash = hash_at(index, address);
      walmap__slot_ref ref = add_to(to[(hash >> shift) & 1], hash, address);
      if (visited >> i & 1)
        walmap__slot_visit(&ref);
    }
  }
}

/* Sets the words of the subtable: 2^(directory's depth - subtable's depth) neighbours, to one of which `hash` leads. */
static size_t first_word(const walmap__directory *d, const walmap__subtable *t, uint64_t hash, size_t *n) {
  *n = (size_t)1 << (d->depth - t->depth);
  return walmap__directory_slot(d, hash) & ~(*n - 1);
}

/* An eighth of the limit, so that no split follows soon; where memory is bounded, a third. */
static bool is_nearly_empty(const walmap__index *index, const walmap__subtable *t) {
  enum { PART = 8, PART_OF_BOUNDED = 3 };
  return t->count <= t->limit / (index->bounded ? PART_OF_BOUNDED : PART);
}

/*
** A subtable that has become nearly empty takes in the one that it was split from, or that was split from it, if that
** has become nearly empty too. That needs no memory, and leaves so much room that no split follows soon. Readers in
** `from` see the index as it was, those in `into` more candidates than before (I1). What was made for the expected
** entries stays.
*/
static WALMAP__NOINLINE void merge_subtable(walmap__index *index, walmap__subtable *into, uint64_t hash) {
  walmap__directory *d = directory_of(index);
  if (into->depth <= index->first_depth || into->bits != MAX_BITS)
    return;
  size_t n, first = first_word(d, into, hash, &n);
  walmap__subtable *from = d->subtables[first ^ n];
  if (from->depth != into->depth || from->bits != MAX_BITS || !is_nearly_empty(index, from))
    return;
  spread_entries(index, from, (walmap__subtable *const[2]){into, into}, 0);
  for (size_t i = first ^ n, end = i + n; i < end; i++)
    set_word(d, i, into);
  into->depth--;
  walmap__limbo_add(index->limbo, &from->retired, bucket_bytes(from->bits));
  index->n_subtables--;
}

void walmap__index_remove(walmap__index *index, uint64_t hash, const walmap__slot_ref *ref) {
  walmap__subtable *t = subtable_of(index, hash);
  uint32_t mask = (1u << t->bits) - 1;
  atomic_store_explicit(&ref->bucket->tag[ref->slot], 0, memory_order_release);
  walmap__yield("index: tag cleared");
  for (uint32_t b = (uint32_t)(hash >> 8) & mask; &t->buckets[b] != ref->bucket; b = (b + 1) & mask) {
    raise_passed(&t->buckets[b], -1);
  }
  t->count--;
  if (WALMAP__UNLIKELY(is_nearly_empty(index, t)))
    merge_subtable(index, t, hash);
}

static int double_subtable(walmap__index *index, walmap__subtable *t, uint64_t hash) {
  walmap__subtable *wide = new_subtable(index->memory, t->bits + 1u, t->depth);
  if (!wide)
    return WALMAP_NOMEM;
  spread_entries(index, t, (walmap__subtable *const[2]){wide, wide}, 0);
  walmap__directory *d = directory_of(index);
  size_t n, first = first_word(d, t, hash, &n);
  for (size_t i = first; i < first + n; i++)
    set_word(d, i, wide);
  walmap__limbo_add(index->limbo, &t->retired, bucket_bytes(t->bits));
  return WALMAP_OK;
}

static int double_directory(walmap__index *index) {
  walmap__directory *old = directory_of(index);
  walmap__directory *d = new_directory(index, old->depth + 1u);
  if (!d)
    return WALMAP_NOMEM;
  for (size_t i = 0; i < (size_t)1 << d->depth; i++)
    set_word(d, i, old->subtables[i / 2]);
  walmap__yield("index: directory copied");
  atomic_store_explicit(&index->directory, d, memory_order_release);
  walmap__limbo_add(index->limbo, &old->retired, directory_bytes(old->depth));
  return WALMAP_OK;
}

static int split_subtable(walmap__index *index, walmap__subtable *t, uint64_t hash) {
  walmap__subtable *to[2] = {new_subtable(index->memory, t->bits, t->depth + 1u),
                             new_subtable(index->memory, t->bits, t->depth + 1u)};
  if (!to[0] || !to[1]) {
    for (int i = 0; i < 2; i++) {
      if (to[i])
        free_subtable(index->memory, &to[i]->retired);
    }
    return WALMAP_NOMEM;
  }
  spread_entries(index, t, to, 63u - index->shard_bits - t->depth);
  walmap__directory *d = directory_of(index);
  size_t n, first = first_word(d, t, hash, &n);
  for (size_t i = 0; i < n; i++)
    set_word(d, first + i, to[i >= n / 2]);
  walmap__limbo_add(index->limbo, &t->retired, bucket_bytes(t->bits));
  index->n_subtables++;
  return WALMAP_OK;
}

/* With good hashes the directory has at most about twice as many words as there are subtables. */
static bool directory_may_double(const walmap__index *index) {
  walmap__directory *d = directory_of(index);
  return index->shard_bits + d->depth < 40 && ((uint64_t)1 << d->depth) < 8 + 4 * (uint64_t)index->n_subtables;
}

static inline bool has_room(const walmap__subtable *t, uint32_t n) { return t->count + n <= t->limit; }

/* A split may leave all entries on the side that needs room, so this repeats until there is room. */
static WALMAP__NOINLINE int make_room(walmap__index *index, uint64_t hash, uint32_t n) {
  for (;;) {
    walmap__subtable *t = subtable_of(index, hash);
    if (has_room(t, n))
      return WALMAP_OK;
    int result;
    if (t->bits < MAX_BITS) {
      result = double_subtable(index, t, hash);
    } else if (t->depth < directory_of(index)->depth) {
      result = split_subtable(index, t, hash);
    } else if (directory_may_double(index)) {
      result = double_directory(index);
    } else {
      result = double_subtable(index, t, hash);
    }
    if (result != WALMAP_OK)
      return result;
  }
}

int walmap__index_reserve(walmap__index *index, uint64_t hash, uint32_t n) {
  return WALMAP__LIKELY(has_room(subtable_of(index, hash), n)) ? WALMAP_OK : make_room(index, hash, n);
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Many new entries                                                                                                   */

#define AHEAD 16 /* entries whose home buckets are being fetched */

static WALMAP__NOINLINE bool same_key(const walmap__log *log, uint32_t address, uint32_t other_address) {
  const walmap__record *record = walmap__log_at(log, address), *other = walmap__log_at(log, other_address);
  walmap_entry e;
  walmap__record_entry(record, walmap__record_meta(record), &e);
  return walmap__record_has_key(other, walmap__record_meta(other), e.key, e.key_len);
}

/* Whether one of the bucket's slots `same` has the key of the record at `address`. */
static WALMAP__NOINLINE bool has_key(const walmap__log *log, const walmap__bucket *bucket, uint32_t same,
                                     uint32_t address) {
  for (; same != 0; same &= same - 1) {
    if (same_key(log, atomic_load_explicit(&bucket->address[__builtin_ctz(same)], memory_order_relaxed), address))
      return true;
  }
  return false;
}

static WALMAP__ALWAYS_INLINE walmap__bucket *fetch_home(const walmap__directory *d, uint64_t hash) {
  uint32_t mask;
  walmap__bucket *buckets = walmap__directory_home(d, hash, &mask), *home = buckets + ((uint32_t)(hash >> 8) & mask);
  __builtin_prefetch(home, 1);
  return home;
}

/*
** Without removals a bucket with room was never passed, so the search for the key ends where the search for room does.
*/
static WALMAP__ALWAYS_INLINE bool add_new_to(walmap__subtable *t, walmap__bucket *bucket, const walmap__log *log,
                                             const walmap__index_entry *entry) {
  uint32_t same, empty;
  for (;;) {
    same = walmap__bucket_match(bucket, walmap__tag(entry->hash));
    if (WALMAP__UNLIKELY(same != 0) && has_key(log, bucket, same, entry->address))
      return false;
    empty = walmap__bucket_match(bucket, 0);
    if (WALMAP__LIKELY(empty != 0))
      break;
    raise_passed(bucket, 1);
    bucket = t->buckets + ((uint32_t)(bucket - t->buckets + 1) & ((1u << t->bits) - 1));
  }
  fill_slot(bucket, (unsigned)__builtin_ctz(empty), entry->hash, entry->address);
  t->count++;
  return true;
}

/*
** Adds entries from *added on, until a subtable must grow first: OK or CORRUPT. It changes no directory and no
** subtable.
*/
static int add_while_room(walmap__index *index, const walmap__index_entry *entries, uint32_t n, uint32_t *added) {
  const walmap__directory *d = directory_of(index);
  walmap__bucket *homes[AHEAD]; /* of the next entries, each at its number modulo AHEAD */
  uint32_t i = *added;
  for (uint32_t next = i; next < n && next < i + AHEAD; next++)
    homes[next % AHEAD] = fetch_home(d, entries[next].hash);
  for (; i < n; i++) {
    walmap__subtable *t = d->subtables[walmap__directory_slot(d, entries[i].hash)];
    walmap__bucket *home = homes[i % AHEAD];
    if (i + AHEAD < n)
      homes[i % AHEAD] = fetch_home(d, entries[i + AHEAD].hash);
    if (WALMAP__UNLIKELY(t->count >= t->limit))
      break;
    if (!add_new_to(t, home, index->log, &entries[i])) {
      *added = i;
      return WALMAP_CORRUPT;
    }
  }
  *added = i;
  return WALMAP_OK;
}

int walmap__index_add_all(walmap__index *index, const walmap__index_entry *entries, uint32_t n, uint32_t *added) {
  int result = WALMAP_OK;
  for (*added = 0; *added < n && result == WALMAP_OK;) {
    result = walmap__index_reserve(index, entries[*added].hash, 1);
    if (result == WALMAP_OK)
      result = add_while_room(index, entries, n, added);
  }
  return result;
}
