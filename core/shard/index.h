/*
** index.h - one shard's hash index: hash of a key -> address of its newest record
**
**   hash, 64 bits:  [ shard | directory ...        ...     | bucket ... | tag 8 ]
**
**   directory (2^depth words)          subtable                   bucket, one cache line
**   [ ]--------------------------->  [bucket][bucket]...          tag[12]  8 bits of the hash, 0 = empty
**   [ ]--+                             1 to 128 buckets           passed   entries that found no room here
**   [ ]--+------------------------>  [bucket][bucket]...          visited  a bit for each slot: it was read
**                                                                 address[12]
**
** Extendible hashing: a full subtable splits alone, in some 25 us, and no other part moves. While it has less than 128
** buckets it is doubled instead. Two that came from one split are merged when both are nearly empty. An entry goes to
** the first bucket with room from its home bucket on; `passed` of each bucket that it passes counts it, so a search
** ends at the first bucket with passed = 0; at 65,535 it stays for ever, and searches go on. If many keys have one
** hash, splitting does not help: then the directory would outgrow the subtables, and the subtable is doubled instead,
** so that bad hashes cost time, never memory without bound.
**
** Readers take no lock. Why that is right (I1): an address that a reader finds is only a candidate; the record's own
** key decides. A filled slot keeps its key until no reader needs the key (shard.c clears a slot when its tombstone is
** visible to all readers); until then only the slot's address changes, by one store. Filling a slot stores the address
** before the tag. `passed` is raised before the slot is filled. A split builds new subtables aside and then changes the
** directory's words; a reader in the old subtable sees the index as it was before: every record that its state can see
** was committed before the state began, thus indexed before the reader loaded the directory. A merge fills one of the
** two subtables with the other's entries, which are more candidates to its readers, and then swings the other's words;
** a reader still in that one sees the index as it was then, too.
**
** Visits. Where entries are evicted, a reader that finds an entry sets the bit of its slot, and the hand of eviction
** clears it (evict.h). All of them load and store `visited` without a lock, so a bit may be lost or come back, of a
** neighbour in the bucket too; and a split copies what it finds. That does no harm: a bit decides only which entry is
** evicted first (E2). A reader stores only if the bit is not set, so entries that are read often cost no store.
**
** Threads: the holder of the shard lock writes; readers call walmap__index_find and _next, protected by their epoch,
** and walmap__slot_visit.
*/
#ifndef WALMAP_INDEX_H
#define WALMAP_INDEX_H

#include "shard/log.h"

#if defined(__SSE2__) && !defined(WALMAP__TSAN)
#include <emmintrin.h>
#define WALMAP__INDEX_SSE2 1
#endif

#define WALMAP__BUCKET_SLOTS 12

typedef struct walmap__bucket {
  _Alignas(64) _Atomic uint8_t tag[WALMAP__BUCKET_SLOTS];
  _Atomic uint16_t passed;
  _Atomic uint16_t visited;
  _Atomic uint32_t address[WALMAP__BUCKET_SLOTS];
} walmap__bucket;

/* A subtable as the holder of the shard lock sees it; readers see only its buckets. */
typedef struct walmap__subtable {
  walmap__retired retired;
  walmap__bucket *buckets;
  uint32_t count, limit; /* entries; from `limit` on it must grow first */
  uint8_t bits;          /* 2^bits buckets */
  uint8_t depth;         /* bits of the directory that all its entries share */
} walmap__subtable;

typedef struct walmap__directory {
  walmap__retired retired;
  uint8_t depth, shift; /* the slot of a hash is (hash >> shift) & mask */
  size_t mask;
  walmap__subtable **subtables; /* for the lock's holder only; lies behind words */
  _Atomic uintptr_t words[];    /* address of the buckets, and their bits in the low 6 bits */
} walmap__directory;

typedef struct walmap__index {
  _Atomic(walmap__directory *) directory;
  const walmap__log *log;
  bool keeps_visits; /* readers call walmap__slot_visit */
  bool bounded;      /* its memory is: it shrinks sooner */
  uint32_t n_subtables;
  uint8_t shard_bits;
  uint8_t first_depth; /* of the subtables that it began with */
  walmap__memory *memory;
  walmap__limbo *limbo;
  walmap_hash_fn hash;
  uint64_t seed;
} walmap__index;

/* A filled slot, from which the search for further candidates can go on. */
typedef struct walmap__slot_ref {
  walmap__bucket *bucket, *buckets;
  uint32_t mask, steps; /* buckets - 1; buckets that the search has left */
  uint32_t left;        /* bits of the slots in this bucket that also have the tag */
  uint32_t slot;
} walmap__slot_ref;

/* The hash of a record's key. */
static inline uint64_t walmap__index_hash_of(const walmap__index *index, const walmap__record *record, uint32_t meta) {
  walmap_entry e;
  walmap__record_entry(record, meta, &e);
  return index->hash(e.key, e.key_len, index->seed);
}

/* An index of one bucket, or with room for `capacity` entries: OK or NOMEM. */
int walmap__index_init(walmap__index *index, const walmap__log *log, walmap__memory *memory, walmap__limbo *limbo,
                       const walmap_options *options, uint64_t capacity);
void walmap__index_destroy(walmap__index *index);

/*
** Makes room for `n` entries, one of them with this hash: OK or NOMEM. Then walmap__index_add of that entry cannot
** fail, nor of entries for which this function made room before, as long as no more than `n` are added.
*/
int walmap__index_reserve(walmap__index *index, uint64_t hash, uint32_t n);

/* Adds an entry for a key that has none. */
void walmap__index_add(walmap__index *index, uint64_t hash, uint32_t address);

/* An entry that is to be added; its number is the caller's. */
typedef struct walmap__index_entry {
  uint64_t hash;
  uint32_t address;
  uint32_t number;
} walmap__index_entry;

/*
** Adds `n` entries, and makes the room for them, in an index from which no entry was ever removed. OK; NOMEM; CORRUPT
** for a key that is there already. *added is the number of entries before the one that failed, which were added.
*/
int walmap__index_add_all(walmap__index *index, const walmap__index_entry *entries, uint32_t n, uint32_t *added);

/* Empties a slot. */
void walmap__index_remove(walmap__index *index, uint64_t hash, const walmap__slot_ref *ref);

/* Finds the slot of a hash that holds this address; it must exist. */
void walmap__index_find_address(const walmap__index *index, uint64_t hash, uint32_t address, walmap__slot_ref *ref);

static inline void walmap__slot_set(const walmap__slot_ref *ref, uint32_t address) {
  atomic_store_explicit(&ref->bucket->address[ref->slot], address, memory_order_release);
}
static inline uint32_t walmap__slot_address(const walmap__slot_ref *ref) {
  return atomic_load_explicit(&ref->bucket->address[ref->slot], memory_order_acquire);
}

static inline bool walmap__slot_is_visited(const walmap__slot_ref *ref) {
  return atomic_load_explicit(&ref->bucket->visited, memory_order_relaxed) >> ref->slot & 1;
}

/* A reader has found the entry. */
static inline void walmap__slot_visit(const walmap__slot_ref *ref) {
  uint32_t visited = atomic_load_explicit(&ref->bucket->visited, memory_order_relaxed);
  if (visited >> ref->slot & 1)
    return;
  walmap__yield("index: visit not noted");
  atomic_store_explicit(&ref->bucket->visited, (uint16_t)(visited | 1u << ref->slot), memory_order_relaxed);
}

static inline void walmap__slot_forget_visit(walmap__bucket *bucket, unsigned slot) {
  uint32_t visited = atomic_load_explicit(&bucket->visited, memory_order_relaxed);
  if (visited >> slot & 1)
    atomic_store_explicit(&bucket->visited, (uint16_t)(visited & ~(1u << slot)), memory_order_relaxed);
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* The search                                                                                                         */

/* The tag in a whole register: a byte that is spilled and loaded again as a word stalls the CPU. */
static inline uint32_t walmap__tag(uint64_t hash) {
  uint32_t tag = (uint8_t)hash;
  return tag + (tag == 0);
}

static inline size_t walmap__directory_slot(const walmap__directory *d, uint64_t hash) {
  return (size_t)(hash >> d->shift) & d->mask;
}

/* One bit for each slot of the bucket that has the tag. Tags are read before addresses. */
#if defined(WALMAP__INDEX_SSE2)
static inline uint32_t walmap__bucket_match(const walmap__bucket *bucket, uint32_t tag) {
  __m128i tags = _mm_load_si128((const __m128i *)(const void *)bucket);
  uint32_t match = (uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(tags, _mm_set1_epi32((int)(tag * 0x01010101u))));
  atomic_thread_fence(memory_order_acquire);
  return match & ((1u << WALMAP__BUCKET_SLOTS) - 1);
}
#elif !defined(WALMAP__TSAN)
/* Of eight bytes from `at` on, in a word (H. S. Warren, "Hacker's Delight", 6-1). */
static inline uint32_t walmap__match_eight(const _Atomic uint8_t *at, uint32_t tag) {
  const uint64_t ones = UINT64_C(0x0101010101010101), low = ones * 0x7f;
  uint64_t word = atomic_load_explicit((const _Atomic uint64_t *)(const void *)at, memory_order_acquire);
  uint64_t x = WALMAP__LE64(word) ^ ones * tag;
  uint64_t same = ~(((x & low) + low) | x | low);                      /* 0x80 in each byte of x that is 0 */
  return (uint32_t)((same >> 7) * UINT64_C(0x0102040810204080) >> 56); /* bit 8 * i goes to 56 + i */
}

static inline uint32_t walmap__bucket_match(const walmap__bucket *bucket, uint32_t tag) {
  uint32_t match = walmap__match_eight(&bucket->tag[0], tag) | walmap__match_eight(&bucket->tag[8], tag) << 8;
  return match & ((1u << WALMAP__BUCKET_SLOTS) - 1);
}
#else
static inline uint32_t walmap__bucket_match(const walmap__bucket *bucket, uint32_t tag) {
  uint32_t match = 0;
  for (unsigned i = 0; i < WALMAP__BUCKET_SLOTS; i++) {
    match |= (uint32_t)(atomic_load_explicit(&bucket->tag[i], memory_order_acquire) == tag) << i;
  }
  return match;
}
#endif

static inline walmap__bucket *walmap__directory_home(const walmap__directory *d, uint64_t hash, uint32_t *mask) {
  uintptr_t word = atomic_load_explicit(&d->words[walmap__directory_slot(d, hash)], memory_order_acquire);
  walmap__yield("index: word read");
  *mask = (1u << (word & 63)) - 1;
  return (walmap__bucket *)(word & ~(uintptr_t)63);
}

/* The buckets of the hash's subtable; their number is *mask + 1. */
static inline walmap__bucket *walmap__index_home(const walmap__index *index, uint64_t hash, uint32_t *mask) {
  walmap__directory *d = atomic_load_explicit(&index->directory, memory_order_acquire);
  walmap__yield("index: directory read");
  return walmap__directory_home(d, hash, mask);
}

/* Where a search for the hash begins. */
static inline walmap__bucket *walmap__index_home_bucket(const walmap__index *index, uint64_t hash) {
  uint32_t mask;
  walmap__bucket *buckets = walmap__index_home(index, hash, &mask);
  return buckets + ((uint32_t)(hash >> 8) & mask);
}

/* Fetches the home bucket of a hash, which is soon to be changed. */
static inline void walmap__index_prefetch(const walmap__index *index, uint64_t hash) {
  __builtin_prefetch(walmap__index_home_bucket(index, hash), 1);
}

/*
** Fetches the record that a search for the hash finds first, and the cache line of its key, which may be the next one.
*/
static inline void walmap__index_prefetch_record(const walmap__index *index, const walmap__bucket *home, uint64_t hash,
                                                 size_t key_len) {
  uint32_t match = walmap__bucket_match(home, walmap__tag(hash));
  if (match == 0)
    return;
  uint32_t address = atomic_load_explicit(&home->address[__builtin_ctz(match)], memory_order_acquire);
  if (address == 0)
    return;
  const uint8_t *record = (const uint8_t *)walmap__log_at(index->log, address);
  __builtin_prefetch(record);
  __builtin_prefetch(record + WALMAP__RECORD_HEAD + key_len);
}

/* Starts a search for the entries with this hash's tag; walmap__index_next gives them. */
static inline void walmap__index_seek(const walmap__index *index, uint64_t hash, walmap__slot_ref *ref) {
  ref->buckets = walmap__index_home(index, hash, &ref->mask);
  ref->bucket = ref->buckets + ((uint32_t)(hash >> 8) & ref->mask);
  ref->steps = ref->slot = 0;
  ref->left = walmap__bucket_match(ref->bucket, walmap__tag(hash));
}

/* The address of the next candidate, or 0 at the end. */
static inline uint32_t walmap__index_next(walmap__slot_ref *ref, uint64_t hash) {
  for (;;) {
    if (ref->left != 0) {
      ref->slot = (uint32_t)__builtin_ctz(ref->left);
      ref->left &= ref->left - 1;
      walmap__yield("index: tag read");
      return walmap__slot_address(ref); /* not 0: it was stored before the tag */
    }
    if (atomic_load_explicit(&ref->bucket->passed, memory_order_acquire) == 0 || ref->steps == ref->mask)
      return 0;
    walmap__yield("index: bucket passed");
    ref->steps++;
    ref->bucket = ref->buckets + ((uint32_t)(ref->bucket - ref->buckets + 1) & ref->mask);
    ref->left = walmap__bucket_match(ref->bucket, walmap__tag(hash));
  }
}

/*
** The newest version of a key, committed or not, also a tombstone; its record is NULL when the index has none. `rest`
** also fetches the cache line behind the line in which the record begins: the record often goes on there, and its head
** tells so too late. That pays where one lookup follows another; between SQL statements it only takes room in the
** cache.
*/
static WALMAP__ALWAYS_INLINE walmap__version walmap__index_find(const walmap__index *index, uint64_t hash,
                                                                const void *key, size_t key_len, bool rest,
                                                                walmap__slot_ref *ref) {
  uint32_t address;
  walmap__index_seek(index, hash, ref);
  while ((address = walmap__index_next(ref, hash)) != 0) {
    if (rest)
      walmap__log_prefetch_rest(index->log, address);
    walmap__version version = walmap__log_version(index->log, address);
    if (WALMAP__LIKELY(walmap__record_has_key(version.record, version.meta, key, key_len)))
      return version;
  }
  return (walmap__version){NULL, 0, 0, 0};
}

#endif
