/* build_bins.c - records of an image on their way into the generations of their shards (build_bins.h) */
#include "build_bins.h"

#include <stdlib.h>

#define ENTRIES 4096  /* in all bins: 64 KiB */
#define LEAST_ROOM 64 /* of each bin */
#define AHEAD 16      /* entries whose buckets are on their way */

int walmap__bins_init(walmap__bins *b, walmap__generation *const *generations, uint32_t n_shards, uint32_t first,
                      uint32_t step) {
  memset(b, 0, sizeof *b);
  b->generations = generations;
  b->n_shards = n_shards;
  b->room = ENTRIES / n_shards > LEAST_ROOM ? ENTRIES / n_shards : LEAST_ROOM;
  b->first = first;
  b->step = step;
  b->block = malloc((size_t)n_shards * b->room * sizeof *b->block);
  if (!b->block)
    return WALMAP_NOMEM;
  for (uint32_t shard = first; shard < n_shards; shard += step)
    b->bins[shard].binned = b->block + (size_t)shard * b->room;
  return WALMAP_OK;
}

void walmap__bins_free(walmap__bins *b) { free(b->block); }

/* ------------------------------------------------------------------------------------------------------------------ */
/* Logs                                                                                                               */

static void tell_log(walmap__bin *bin, walmap__log *log) {
  if (bin->records == 0)
    return;
  size_t used = walmap__segment_used(log->active);
  walmap__log_advance(log, (size_t)(bin->at - log->active->base) - used, bin->records);
  bin->records = 0;
}

static int make_room_in_log(walmap__bin *bin, walmap__log *log, size_t size) {
  tell_log(bin, log);
  int result = walmap__log_reserve(log, size);
  if (result != WALMAP_OK)
    return result;
  size_t used = walmap__segment_used(log->active);
  bin->at = log->active->base + used;
  bin->end = log->active->base + log->active->capacity;
  bin->place = walmap__place(log->active, used);
  return WALMAP_OK;
}

int walmap__bins_make_room(walmap__bins *b, uint32_t shard, size_t size, uint64_t *number) {
  walmap__bin *bin = &b->bins[shard];
  if (bin->n == b->room) {
    uint64_t last = *number - 1;
    int result = walmap__bins_empty(b, &last);
    if (result != WALMAP_OK) {
      *number = last;
      return result;
    }
  }
  return (size_t)(bin->end - bin->at) < size ? make_room_in_log(bin, &b->generations[shard]->log, size) : WALMAP_OK;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Indexes                                                                                                            */

/* `n` the entries before the one whose key is there already, if there is one. */
static int fill_index(walmap__generation *g, const walmap__binned *binned, uint32_t *n) {
  uint32_t all = *n;
  for (uint32_t i = 0; i < AHEAD && i < all; i++)
    walmap__index_prefetch(&g->index, binned[i].hash);
  for (uint32_t i = 0; i < all; i++) {
    if (i + AHEAD < all)
      walmap__index_prefetch(&g->index, binned[i + AHEAD].hash);
    int result = walmap__index_add_new(&g->index, binned[i].hash, binned[i].place);
    if (result != WALMAP_OK) {
      *n = i;
      return result;
    }
  }
  g->len += all;
  return WALMAP_OK;
}

int walmap__bins_empty(walmap__bins *b, uint64_t *number) {
  for (uint32_t shard = b->first; shard < b->n_shards; shard += b->step) {
    walmap__bin *bin = &b->bins[shard];
    walmap__generation *g = b->generations[shard];
    uint32_t n = bin->n;
    tell_log(bin, &g->log);
    int result = fill_index(g, bin->binned, &n);
    if (result != WALMAP_OK) {
      *number = b->emptied_at + bin->binned[n].number;
      return result;
    }
    bin->n = 0;
  }
  b->emptied_at = *number;
  return WALMAP_OK;
}
