/* build_batch.c - a batch of an image's records, into the generations of their shards (build_batch.h) */
#include "build_batch.h"

#define AHEAD 16 /* records whose buckets are on their way: a miss takes as long as some ten are added */

/* Counting sort, stable. */
static void sort_by_shard(walmap__batch *b) {
  uint16_t starts[WALMAP_MAX_SHARDS + 1] = {0};
  for (uint32_t i = 0; i < b->n; i++)
    starts[b->shards[i] + 1]++;
  for (uint32_t shard = 0; shard < b->n_shards; shard++)
    starts[shard + 1] += starts[shard];
  for (uint32_t i = 0; i < b->n; i++)
    b->order[starts[b->shards[i]]++] = (uint16_t)i;
}

static void prefetch(const walmap__batch *b, uint32_t i) {
  const walmap__generation *g = b->generations[b->shards[i]];
  walmap__index_prefetch(&g->index, b->hashes[i]);
}

/* Nobody reads the generation yet, so the record may be there before it is known whether its key is new. */
static int add(walmap__generation *g, const walmap__record *record, uint64_t hash) {
  uint32_t place;
  size_t size = walmap__record_size(record, walmap__record_meta(record));
  int result = walmap__log_reserve(&g->log, size);
  if (result != WALMAP_OK)
    return result;
  walmap__copy_bytes(walmap__log_append(&g->log, size, &place), (const uint8_t *)record, size);
  g->len++;
  return walmap__index_add_new(&g->index, hash, record, place);
}

int walmap__batch_add(walmap__batch *b, uint64_t *number) {
  sort_by_shard(b);
  uint32_t n = b->n;
  b->n = 0;
  for (uint32_t k = 0; k < AHEAD && k < n; k++)
    prefetch(b, b->order[k]);
  for (uint32_t k = 0; k < n; k++) {
    if (k + AHEAD < n)
      prefetch(b, b->order[k + AHEAD]);
    uint32_t i = b->order[k];
    const walmap__record *record = (const walmap__record *)(const void *)b->records[i];
    int result = add(b->generations[b->shards[i]], record, b->hashes[i]);
    if (result != WALMAP_OK) {
      *number = b->numbers[i];
      return result;
    }
  }
  return WALMAP_OK;
}
