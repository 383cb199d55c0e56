/*
** deferred.h - writes of a transaction that wait for memory together
**
** A write waits for two cache misses, of the bucket and of the old record. Where a transaction sets one key after the
** other in a large map, the writes are deferred, up to 16 of them, and then made in one go, so that all their misses
** overlap:
**
**   add     after a reservation of all that the write can need: copies key and value to the staging area, fetches the
**           bucket
**   flush   fetches the old records of all deferred writes; then makes the writes, in their order
**
** A deferred write cannot fail (C7), and no caller can tell it from one that was made (C4): every function that reads,
** marks or commits the transaction's shards flushes first. Undoing discards the deferred writes, all of which are newer
** than the innermost savepoint.
**
** The reservations hold together: the active segment has room for the records of all deferred writes, the subtable of
** each for all that were deferred up to it, the garbage queue for one each, and for one more that write.h asks for; the
** expiry table has room for those that expire.
*/
#ifndef WALMAP_DEFERRED_H
#define WALMAP_DEFERRED_H

#include "mvcc/write.h"

enum { WALMAP__MAX_DEFERRED = 16, WALMAP__STAGING = 4096 };

typedef struct walmap__deferred_write {
  walmap__shard *shard;
  uint64_t hash;
  uint64_t expires;
  uint32_t key_len, value_len;
  uint32_t at; /* in the staging area: the key, then the value */
  uint32_t tag;
} walmap__deferred_write;

typedef struct walmap__deferred {
  uint32_t n;
  uint32_t staged;  /* bytes of the staging area that are taken */
  uint32_t records; /* bytes of log records that the writes may take */
  walmap__deferred_write writes[WALMAP__MAX_DEFERRED];
  uint8_t staging[WALMAP__STAGING];
} walmap__deferred;

/* A shard's log with more bytes is in no near cache. Builds with assert() treat all logs so. */
#ifndef NDEBUG
#define WALMAP__LARGE_LOG 0
#else
#define WALMAP__LARGE_LOG ((uint64_t)128 * 1024)
#endif

/*
** Whether a write to this generation is to be deferred. A place in a tree cannot be reserved ahead (order.h). Long
** entries wait for their copying rather than for misses.
*/
static inline bool walmap__deferred_pays(const walmap__generation *g, size_t key_len, size_t value_len) {
  enum { SHORT = 512 };
  return g && !g->order && g->log.bytes > WALMAP__LARGE_LOG && key_len < SHORT && value_len < SHORT;
}

walmap__deferred *walmap__deferred_new(walmap__memory *memory); /* NULL without memory */
void walmap__deferred_free(walmap__memory *memory, walmap__deferred *deferred);

/* Reserves all that one more write can need, and may flush for it: OK, NOMEM, TOOBIG. The shard must be locked. */
int walmap__deferred_reserve(walmap__deferred *deferred, walmap__shard *shard, uint64_t hash, size_t key_len,
                             size_t value_len, uint64_t expires, uint32_t tag);

/* Adds the write that was reserved. Returns where its value's bytes go, before the next call. */
void *walmap__deferred_add(walmap__deferred *deferred, walmap__shard *shard, uint64_t hash, const void *key,
                           size_t key_len, size_t value_len, uint64_t expires, uint32_t tag);

void walmap__deferred_apply(walmap__deferred *deferred);

/* Makes the deferred writes. NULL, for none, is allowed here and below. */
static inline void walmap__deferred_flush(walmap__deferred *deferred) {
  if (deferred && deferred->n > 0)
    walmap__deferred_apply(deferred);
}

static inline void walmap__deferred_discard(walmap__deferred *deferred) {
  if (deferred)
    deferred->n = deferred->staged = deferred->records = 0;
}

#endif
