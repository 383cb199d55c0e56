/*
** partition.h - records of an image on their way into new generations of their shards
**
**   image -> records, in no order of shards -> a segment of each shard's log, at once, and its bin: { hash, place,
**   number }
**                                              each shard's bin -> its index, when some bin is full, and at a chunk's
**                                              end
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
#ifndef WALMAP_PARTITION_H
#define WALMAP_PARTITION_H

#include "mvcc/map.h"

/* A generation that several threads fill. */
typedef struct walmap__loading_shard {
  walmap__generation *generation;
  walmap__limbo limbo; /* tables that it has outgrown, which no reader knows */
  pthread_mutex_t mutex;
} walmap__loading_shard;

/* Where the next record of a shard goes, and what its index is still to be told. */
typedef struct walmap__partition_buffer {
  walmap__segment *segment; /* NULL: none yet */
  uint8_t *at, *end;        /* its free bytes */
  uint32_t records;         /* in it */
  uint32_t address;         /* of `at` */
  uint32_t n;
  walmap__index_entry *entries; /* numbered as their records in the chunk */
} walmap__partition_buffer;

typedef struct walmap__partition_buffers {
  walmap__loading_shard *loading_shards; /* of all shards */
  uint32_t n_shards, room;               /* entries of each bin */
  uint32_t first;                        /* the shard whose bin is emptied first: threads should not meet */
  walmap__index_entry *block;
  walmap__partition_buffer buffers[WALMAP_MAX_SHARDS];
} walmap__partition_buffers;

/* OK or NOMEM. */
int walmap__partition_buffers_init(walmap__partition_buffers *buffers, walmap__loading_shard *loading_shards,
                                   uint32_t n_shards, uint32_t first);

/* Tells the segments what is in them, and frees the rest. */
void walmap__partition_buffers_finish(walmap__partition_buffers *buffers);

/* For walmap__partition_buffers_add: makes room for a record of so many bytes, and for its entry. */
int walmap__partition_buffers_make_room(walmap__partition_buffers *buffers, uint32_t shard, size_t size,
                                        uint32_t *number);

/*
** Tells the indexes of all that was added. OK or NOMEM; CORRUPT when a key is there already, with its record's number.
*/
int walmap__partition_buffers_empty(walmap__partition_buffers *buffers, uint32_t *number);

/*
** Adds a verified record, as it lies in the image. As walmap__partition_buffers_empty: *number is its number in the
** chunk, and becomes another's if that one fails. What it writes to are too many addresses at once for a CPU to fetch
** ahead by itself.
*/
static WALMAP__ALWAYS_INLINE int walmap__partition_buffers_add(walmap__partition_buffers *buffers, uint32_t shard,
                                                               const uint8_t *record, size_t size, uint64_t hash,
                                                               uint32_t *number) {
  walmap__partition_buffer *buffer = &buffers->buffers[shard];
  if (WALMAP__UNLIKELY((size_t)(buffer->end - buffer->at) < size || buffer->n == buffers->room)) {
    int result = walmap__partition_buffers_make_room(buffers, shard, size, number);
    if (result != WALMAP_OK)
      return result;
  }
  enum { ENTRIES_AHEAD = 12, BYTES_AHEAD = 192 }; /* three cache lines, either */
  __builtin_prefetch(buffer->entries + buffer->n + ENTRIES_AHEAD, 1);
  __builtin_prefetch(buffer->at + BYTES_AHEAD, 1);
  buffer->entries[buffer->n++] = (walmap__index_entry){hash, buffer->address, *number};
  walmap__copy_bytes(buffer->at, record, size);
  buffer->at += size;
  buffer->address += (uint32_t)(size >> 2);
  buffer->records++;
  return WALMAP_OK;
}

#endif
