/*
** build_bins.h - records of an image on their way into the generations of their shards
**
**   image -> records, in no order of shards -> each shard's log, at once, and its bin: { hash, place, number }
**                                              each shard's bin -> its index, when some bin is full, and at the end
**
** An image's records come in no order of shards: the hash that the image was made with is not this map's. Logs are
** written one record after another, which many can be at a time; an index is written at random. So the indexes are told
** later, one after the other, of many entries each: then what a shard's index uses is in the CPU's first cache, and the
** buckets to come are fetched ahead.
**
** Nobody reads the generations yet, so a record may be in its log before it is known whether its key is new.
*/
#ifndef WALMAP_BUILD_BINS_H
#define WALMAP_BUILD_BINS_H

#include "map.h"

/* What the index is still to be told. */
typedef struct walmap__binned {
  uint64_t hash;
  uint32_t place;
  uint32_t number; /* of the record since the bins were emptied, for error texts */
} walmap__binned;

/* Where the next record of a shard goes, behind what its log knows of. */
typedef struct walmap__bin {
  uint8_t *at, *end; /* free bytes of the log's active segment */
  uint32_t records;  /* before `at`, which the log does not know of yet */
  uint32_t place;    /* of `at` */
  uint32_t n;
  walmap__binned *binned;
} walmap__bin;

typedef struct walmap__bins {
  walmap__generation *const *generations; /* of all shards */
  uint32_t n_shards, room;                /* entries of each bin */
  uint32_t first, step;                   /* the shards that are wanted: first, first + step, ... */
  uint64_t emptied_at;                    /* records before */
  walmap__binned *block;
  walmap__bin bins[WALMAP_MAX_SHARDS];
} walmap__bins;

/* Bins for the shards first, first + step ... of these generations: OK or NOMEM. */
int walmap__bins_init(walmap__bins *bins, walmap__generation *const *generations, uint32_t n_shards, uint32_t first,
                      uint32_t step);
void walmap__bins_free(walmap__bins *bins);

/* For walmap__bins_add: makes room for a record of so many bytes, and for its entry. `number` is that of the last one. */
int walmap__bins_make_room(walmap__bins *bins, uint32_t shard, size_t size, uint64_t *number);

/*
** Tells the logs and the indexes of all that was added. OK or NOMEM; CORRUPT when a key is there already, with the
** record's number. `number` has the number of the last record that was added.
*/
int walmap__bins_empty(walmap__bins *bins, uint64_t *number);

static inline bool walmap__bins_wants(const walmap__bins *bins, uint32_t shard) {
  return bins->bins[shard].binned != NULL;
}

/*
** Adds a verified record, as it lies in the image: its number, from 1, is *number. As walmap__bins_empty. What it writes to
** are too many places at once for a CPU to fetch ahead by itself.
*/
static WALMAP__ALWAYS_INLINE int walmap__bins_add(walmap__bins *bins, uint32_t shard, const uint8_t *record,
                                                  size_t size, uint64_t hash, uint64_t *number) {
  walmap__bin *bin = &bins->bins[shard];
  if (WALMAP__UNLIKELY((size_t)(bin->end - bin->at) < size || bin->n == bins->room)) {
    int result = walmap__bins_make_room(bins, shard, size, number);
    if (result != WALMAP_OK)
      return result;
  }
  enum { ENTRIES_AHEAD = 12, BYTES_AHEAD = 192 }; /* three cache lines, either */
  __builtin_prefetch(bin->binned + bin->n + ENTRIES_AHEAD, 1);
  __builtin_prefetch(bin->at + BYTES_AHEAD, 1);
  bin->binned[bin->n++] = (walmap__binned){hash, bin->place, (uint32_t)(*number - bins->emptied_at)};
  walmap__copy_bytes(bin->at, record, size);
  bin->at += size;
  bin->place += (uint32_t)(size >> 2);
  bin->records++;
  return WALMAP_OK;
}

#endif
