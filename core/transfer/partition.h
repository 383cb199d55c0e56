/*
** partition.h - records of an image on their way into new generations of their shards
**
**   image -> records, in no order of shards
**              |-> at once: into a segment of the shard's log
**              '-> its { hash, address, number }: into the shard's buffer -> when some buffer is full, and at a chunk's
**                  end: all buffers, one after another, into their shards' indexes
**
** An image's records come in no order of shards: the hash that the image was made with is not this map's. A log is
** written one record after another, and many logs can be written at a time; an index is written at random. So each
** index gets many entries together: then what it uses is in the CPU's first cache, and its next buckets are fetched
** ahead.
**
** No reader sees the generations yet, so a record may be in its log before it is known whether its key is new.
**
** Threads: each has its own buffers, and its own segments, which it writes without a lock. A log's list of segments and
** the index are shared, under the loading shard's mutex. A thread adds an address to the index only after it wrote the
** record, so a thread that finds the address there under the mutex may read the record.
*/
#ifndef WALMAP_PARTITION_H
#define WALMAP_PARTITION_H

#include "image/image.h"
#include "mvcc/map.h"

/* A generation that several threads fill. */
typedef struct walmap__loading_shard {
  walmap__generation *generation;
  walmap__limbo limbo; /* tables that the generation has outgrown; no reader knows them */
  pthread_mutex_t mutex;
} walmap__loading_shard;

/* Where the next record of a shard goes, and the entries that its index has not got yet. */
typedef struct walmap__partition_buffer {
  walmap__segment *segment; /* NULL: none yet */
  uint8_t *at, *end;        /* its free bytes */
  uint64_t least_expires;   /* of them; 0: none expires */
  uint32_t records;         /* in it */
  uint32_t address;         /* of `at` */
  uint32_t n;
  walmap__index_entry *entries; /* numbered as their records in the chunk */
} walmap__partition_buffer;

typedef struct walmap__partition_buffers {
  walmap__loading_shard *loading_shards; /* of all shards */
  uint32_t n_shards, room;               /* entries of each buffer */
  uint32_t first;                        /* the shard whose buffer is emptied first: threads should not meet */
  uint32_t tag;                          /* that each record gets; 0: none */
  walmap__index_entry *block;
  walmap__partition_buffer buffers[WALMAP_MAX_SHARDS];
} walmap__partition_buffers;

/* `buffers` comes with `first` and `tag` set. OK or NOMEM. */
int walmap__partition_buffers_init(walmap__partition_buffers *buffers, walmap__loading_shard *loading_shards,
                                   uint32_t n_shards);

/* Notes in the segments how much they hold, and frees the buffers. */
void walmap__partition_buffers_finish(walmap__partition_buffers *buffers);

/* For walmap__partition_buffers_add: makes room for a record of so many bytes, and for its entry. */
int walmap__partition_buffers_make_room(walmap__partition_buffers *buffers, uint32_t shard, size_t size,
                                        uint32_t *number);

/*
** Adds the buffered entries to the indexes. OK; NOMEM; CORRUPT when a key is there already, with *number its record's.
*/
int walmap__partition_buffers_empty(walmap__partition_buffers *buffers, uint32_t *number);

/*
** Adds a verified record, as it lies in the image. *number is its number in the chunk; results as of
** walmap__partition_buffers_empty, which may set *number to another record's. It prefetches, because it writes to more
** addresses at once than a CPU fetches ahead by itself.
*/
static WALMAP__ALWAYS_INLINE int walmap__partition_buffers_add(walmap__partition_buffers *buffers, uint32_t shard,
                                                               const walmap__image_record *record, uint64_t hash,
                                                               uint32_t *number) {
  size_t size = record->size + walmap__tail_bytes(walmap__tail_flags(0, buffers->tag));
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
  walmap__copy_bytes(buffer->at, record->bytes, record->size);
  if (WALMAP__UNLIKELY(buffers->tag != 0))
    walmap__record_add_tag((walmap__record *)(void *)buffer->at, buffer->at + size, buffers->tag);
  if (WALMAP__UNLIKELY(record->entry.expires != 0) &&
      (buffer->least_expires == 0 || record->entry.expires < buffer->least_expires))
    buffer->least_expires = record->entry.expires;
  buffer->at += size;
  buffer->address += (uint32_t)(size >> 2);
  buffer->records++;
  return WALMAP_OK;
}

#endif
