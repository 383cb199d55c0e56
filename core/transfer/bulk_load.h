/*
** bulk_load.h - from an image to new generations of all shards, which nobody sees yet
**
** Large images that lie in memory are built by several threads, which exist only meanwhile. Each takes the next chunk,
** verifies it, and brings its records to where they belong (partition.h).
*/
#ifndef WALMAP_BULK_LOAD_H
#define WALMAP_BULK_LOAD_H

#include "image/image.h"
#include "mvcc/map.h"
#include "transfer/partition.h"

typedef struct walmap__bulk_load {
  walmap *map; /* all its shards are owned by the caller */
  walmap_check_fn check;
  void *ctx;
  walmap__loading_shard shards[WALMAP_MAX_SHARDS];
  uint64_t entries;

  pthread_mutex_t mutex; /* guards the next two */
  walmap__image_decoder decoder;
  bool is_over; /* no chunk is left, or something failed */
} walmap__bulk_load;

/*
** From memory, or from a stream: `build` with map, check and ctx set, the rest zero. OK, or an error with *why set;
** then nothing is left behind.
*/
int walmap__bulk_load_from_memory(walmap__bulk_load *build, const void *image, size_t size, walmap_why *why);
int walmap__bulk_load_from_stream(walmap__bulk_load *build, walmap_read_fn read, void *read_ctx, walmap_why *why);

/* Frees the generations: they are not wanted. */
void walmap__bulk_load_drop(walmap__bulk_load *build);

#endif
