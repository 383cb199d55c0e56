/* build_bins.c - records of an image on their way into new generations of their shards (build_bins.h) */
#include "build_bins.h"

#include <stdlib.h>

#define ENTRIES 4096  /* in all bins: 64 KiB */
#define LEAST_ROOM 64 /* of each bin */

int walmap__bins_init(walmap__bins *b, walmap__building *buildings, uint32_t n_shards, uint32_t first) {
  memset(b, 0, sizeof *b);
  b->buildings = buildings;
  b->n_shards = n_shards;
  b->room = ENTRIES / n_shards > LEAST_ROOM ? ENTRIES / n_shards : LEAST_ROOM;
  b->first = first;
  b->block = malloc((size_t)n_shards * b->room * sizeof *b->block);
  if (!b->block)
    return WALMAP_NOMEM;
  for (uint32_t shard = 0; shard < n_shards; shard++)
    b->bins[shard].entries = b->block + (size_t)shard * b->room;
  return WALMAP_OK;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Logs                                                                                                               */

static void leave_segment(walmap__bin *bin) {
  if (bin->segment)
    walmap__log_fill_segment(bin->segment, (size_t)(bin->at - bin->segment->base), bin->records);
  bin->segment = NULL;
  bin->records = 0;
}

static int enter_segment(walmap__bin *bin, walmap__building *building, size_t size) {
  int result;
  pthread_mutex_lock(&building->mutex);
  leave_segment(bin);
  bin->segment = walmap__log_add_segment(&building->generation->log, size, &result);
  pthread_mutex_unlock(&building->mutex);
  bin->at = bin->end = NULL;
  if (!bin->segment)
    return result;
  bin->at = bin->segment->base;
  bin->end = bin->at + bin->segment->capacity;
  bin->place = walmap__place(bin->segment, 0);
  return WALMAP_OK;
}

int walmap__bins_make_room(walmap__bins *b, uint32_t shard, size_t size, uint32_t *number) {
  walmap__bin *bin = &b->bins[shard];
  if (bin->n == b->room) {
    int result = walmap__bins_empty(b, number);
    if (result != WALMAP_OK)
      return result;
  }
  return (size_t)(bin->end - bin->at) < size ? enter_segment(bin, &b->buildings[shard], size) : WALMAP_OK;
}

void walmap__bins_finish(walmap__bins *b) {
  for (uint32_t shard = 0; shard < b->n_shards; shard++) {
    pthread_mutex_lock(&b->buildings[shard].mutex);
    leave_segment(&b->bins[shard]);
    pthread_mutex_unlock(&b->buildings[shard].mutex);
  }
  free(b->block);
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Indexes                                                                                                            */

static int empty_bin(walmap__bin *bin, walmap__building *building, uint32_t *number) {
  walmap__generation *g = building->generation;
  uint32_t added;
  pthread_mutex_lock(&building->mutex);
  int result = walmap__index_add_all(&g->index, bin->entries, bin->n, &added);
  g->len += added;
  pthread_mutex_unlock(&building->mutex);
  if (result != WALMAP_OK)
    *number = bin->entries[added].number;
  bin->n = 0;
  return result;
}

int walmap__bins_empty(walmap__bins *b, uint32_t *number) {
  int result = WALMAP_OK;
  for (uint32_t i = 0; i < b->n_shards && result == WALMAP_OK; i++) {
    uint32_t shard = (b->first + i) & (b->n_shards - 1);
    result = empty_bin(&b->bins[shard], &b->buildings[shard], number);
  }
  return result;
}
