/*
** bulk_load.h - from an image to new generations of all shards, which no reader sees yet
**
** Several threads load a large image that lies in memory; they end before the call returns. Each takes the next chunk,
** verifies it, and brings its records to their shards (partition.h).
*/
#ifndef WALMAP_BULK_LOAD_H
#define WALMAP_BULK_LOAD_H

#include "image/image.h"
#include "mvcc/map.h"
#include "transfer/partition.h"

typedef struct walmap__bulk_load {
  walmap *map; /* the caller holds the locks of all its shards */
  walmap_check_fn check;
  void *ctx;
  walmap__loading_shard shards[WALMAP_MAX_SHARDS];
  uint64_t entries;
  walmap__order *order;        /* of the new generations; NULL: the map is not ordered */
  uint64_t now;                /* what has expired by then is left out */
  uint32_t tag;                /* that all entries get; 0: none */
  uint64_t others_before;      /* bytes of the map's memory that are no log: for restore.c */
  walmap__interrupt interrupt; /* asked by the caller's thread */

  pthread_mutex_t mutex; /* guards the next two */
  walmap__image_decoder decoder;
  bool is_over; /* no chunk is left, or something failed */

  _Atomic uint64_t expired; /* entries that were left out */
} walmap__bulk_load;

/*
** Load an image from memory, or from a stream. `load` comes with map, check, ctx, now, tag and interrupt set, the rest
** zero. OK, or an error with *why set; then no memory is left to free.
*/
int walmap__bulk_load_from_memory(walmap__bulk_load *load, const void *image, size_t size, walmap_why *why);
int walmap__bulk_load_from_stream(walmap__bulk_load *load, walmap_read_fn read, void *read_ctx, walmap_why *why);

/* Makes generations without entries, as an image of nothing would. `load` as above. OK or NOMEM. */
int walmap__bulk_load_nothing(walmap__bulk_load *load);

/* Frees the generations, when they are not to be linked. */
void walmap__bulk_load_drop(walmap__bulk_load *load);

#endif
