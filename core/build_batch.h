/*
** build_batch.h - a batch of an image's records, on its way into the generations of their shards
**
** An image's records come in no order of shards: the hash that the image was made with is not this map's. Adding
** them one by one would touch another shard's log, index and counters each time. So records are gathered by the thousand,
** and added shard by shard: what a shard's adding uses stays in the CPU's first cache, and the buckets to come are
** fetched ahead.
*/
#ifndef WALMAP_BUILD_BATCH_H
#define WALMAP_BUILD_BATCH_H

#include "image.h"
#include "map.h"

#define WALMAP__BATCH 1024

typedef struct walmap__batch {
  walmap__generation *const *generations; /* of all shards */
  uint32_t n_shards, n;
  const uint8_t *records[WALMAP__BATCH]; /* as they lie in the image, verified */
  uint64_t hashes[WALMAP__BATCH];
  uint64_t numbers[WALMAP__BATCH]; /* in the image, from 1, for error texts */
  uint8_t shards[WALMAP__BATCH];
  uint16_t order[WALMAP__BATCH]; /* of the records, by shards */
} walmap__batch;

/* `wanted` false: does not keep it. That is not an if, for it would be mispredicted half the time. */
static inline void walmap__batch_put(walmap__batch *batch, const uint8_t *record, uint64_t hash, uint64_t number,
                                     uint32_t shard, bool wanted) {
  uint32_t i = batch->n;
  batch->n += wanted;
  batch->shards[i] = (uint8_t)shard;
  batch->records[i] = record;
  batch->hashes[i] = hash;
  batch->numbers[i] = number;
}

/*
** Adds all of the batch to the generations, and empties it: OK or NOMEM; CORRUPT when a key is there already, with the
** entry's number.
*/
int walmap__batch_add(walmap__batch *batch, uint64_t *number);

#endif
