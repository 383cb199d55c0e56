/*
** build_bins.h - records of an image on their way into new generations of their shards
**
**   image -> records, in no order of shards -> a segment of each shard's log, at once, and its bin: { hash, place, number }
**                                              each shard's bin -> its index, when some bin is full, and at a chunk's end
**
** An image's records come in no order of shards: the hash that the image was made with is not this map's. Logs are
** written one record after another, which many can be at a time; an index is written at random. So the indexes are told
** later, one after the other, of many entries each: then what a shard's index uses is in the CPU's first cache, and the
** buckets to come are fetched ahead.
**
** Nobody reads the generations yet, so a record may be in its log before it is known whether its key is new.
**
** Threads: each has bins of its own, and segments of its own that it writes without a lock. A log's list of segments
** and the index are shared, under the building's mutex. A place goes to the index only after its record was written,
** both by the same thread, so whoever finds it there under the mutex may read the record.
*/
#ifndef WALMAP_BUILD_BINS_H
#define WALMAP_BUILD_BINS_H

#include "map.h"

/* A generation that several threads fill. */
typedef struct walmap__building {
  walmap__generation *generation;
  walmap__limbo limbo; /* tables that it has outgrown, which no reader knows */
  pthread_mutex_t mutex;
} walmap__building;

/* Where the next record of a shard goes, and what its index is still to be told. */
typedef struct walmap__bin {
  walmap__segment *segment; /* NULL: none yet */
  uint8_t *at, *end;        /* its free bytes */
  uint32_t records;         /* in it */
  uint32_t place;           /* of `at` */
  uint32_t n;
  walmap__index_entry *entries; /* numbered as their records in the chunk */
} walmap__bin;

typedef struct walmap__bins {
  walmap__building *buildings; /* of all shards */
  uint32_t n_shards, room;     /* entries of each bin */
  uint32_t first;              /* the shard whose bin is emptied first: threads should not meet */
  walmap__index_entry *block;
  walmap__bin bins[WALMAP_MAX_SHARDS];
} walmap__bins;

/* OK or NOMEM. */
int walmap__bins_init(walmap__bins *bins, walmap__building *buildings, uint32_t n_shards, uint32_t first);

/* Tells the segments what is in them, and frees the rest. */
void walmap__bins_finish(walmap__bins *bins);

/* For walmap__bins_add: makes room for a record of so many bytes, and for its entry. */
int walmap__bins_make_room(walmap__bins *bins, uint32_t shard, size_t size, uint32_t *number);

/*
** Tells the indexes of all that was added. OK or NOMEM; CORRUPT when a key is there already, with its record's number.
*/
int walmap__bins_empty(walmap__bins *bins, uint32_t *number);

/*
** Adds a verified record, as it lies in the image. As walmap__bins_empty: *number is its number in the chunk, and
** becomes another's if that one fails. What it writes to are too many places at once for a CPU to fetch ahead by
** itself.
*/
static WALMAP__ALWAYS_INLINE int walmap__bins_add(walmap__bins *bins, uint32_t shard, const uint8_t *record,
                                                  size_t size, uint64_t hash, uint32_t *number) {
  walmap__bin *bin = &bins->bins[shard];
  if (WALMAP__UNLIKELY((size_t)(bin->end - bin->at) < size || bin->n == bins->room)) {
    int result = walmap__bins_make_room(bins, shard, size, number);
    if (result != WALMAP_OK)
      return result;
  }
  enum { ENTRIES_AHEAD = 12, BYTES_AHEAD = 192 }; /* three cache lines, either */
  __builtin_prefetch(bin->entries + bin->n + ENTRIES_AHEAD, 1);
  __builtin_prefetch(bin->at + BYTES_AHEAD, 1);
  bin->entries[bin->n++] = (walmap__index_entry){hash, bin->place, *number};
  walmap__copy_bytes(bin->at, record, size);
  bin->at += size;
  bin->place += (uint32_t)(size >> 2);
  bin->records++;
  return WALMAP_OK;
}

#endif
