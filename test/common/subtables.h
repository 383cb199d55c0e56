/* subtables.h - how far the index of a map has grown */
#ifndef TEST_COMMON_SUBTABLES_H
#define TEST_COMMON_SUBTABLES_H

#include "mvcc/map.h"

/* Subtables of all shards. To be called while no thread writes. */
static inline uint32_t count_subtables(const walmap *map) {
  uint32_t n = 0;
  for (uint32_t i = 0; i < map->n_shards; i++)
    n += walmap__shard_generation(&map->shards[i])->index.n_subtables;
  return n;
}

#endif
