/* partition.c - records of an image on their way into new generations of their shards (partition.h) */
#include "transfer/partition.h"

#include <stdlib.h>

#define ENTRIES 4096  /* in all buffers: 64 KiB */
#define LEAST_ROOM 64 /* of each buffer */

int walmap__partition_buffers_init(walmap__partition_buffers *b, walmap__loading_shard *loading_shards,
                                   uint32_t n_shards) {
  b->loading_shards = loading_shards;
  b->n_shards = n_shards;
  b->room = ENTRIES / n_shards > LEAST_ROOM ? ENTRIES / n_shards : LEAST_ROOM;
  b->block = malloc((size_t)n_shards * b->room * sizeof *b->block);
  if (!b->block)
    return WALMAP_NOMEM;
  for (uint32_t shard = 0; shard < n_shards; shard++)
    b->buffers[shard].entries = b->block + (size_t)shard * b->room;
  return WALMAP_OK;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Logs                                                                                                               */

static void leave_segment(walmap__partition_buffer *buffer) {
  if (buffer->segment && buffer->least_expires != 0)
    walmap__segment_note_expires(buffer->segment, buffer->least_expires);
  if (buffer->segment)
    walmap__log_fill_segment(buffer->segment, (size_t)(buffer->at - buffer->segment->base), buffer->records);
  buffer->segment = NULL;
  buffer->records = 0;
  buffer->least_expires = 0;
}

static int enter_loading_segment(walmap__partition_buffers *b, uint32_t shard, size_t size) {
  walmap__partition_buffer *buffer = &b->buffers[shard];
  walmap__loading_shard *loading_shard = &b->loading_shards[shard];
  int result;
  pthread_mutex_lock(&loading_shard->mutex);
  leave_segment(buffer);
  buffer->segment = walmap__log_add_segment(&loading_shard->generation->log, size, &result);
  pthread_mutex_unlock(&loading_shard->mutex);
  buffer->at = buffer->end = NULL;
  if (!buffer->segment)
    return result;
  buffer->at = buffer->segment->base;
  buffer->end = buffer->at + buffer->segment->capacity;
  buffer->address = walmap__address(buffer->segment, 0);
  if (b->tag != 0)
    atomic_store_explicit(&buffer->segment->tagged, true, memory_order_relaxed); /* no reader knows it yet */
  return WALMAP_OK;
}

int walmap__partition_buffers_make_room(walmap__partition_buffers *b, uint32_t shard, size_t size, uint32_t *number) {
  walmap__partition_buffer *buffer = &b->buffers[shard];
  if (buffer->n == b->room) {
    int result = walmap__partition_buffers_empty(b, number);
    if (result != WALMAP_OK)
      return result;
  }
  return (size_t)(buffer->end - buffer->at) < size ? enter_loading_segment(b, shard, size) : WALMAP_OK;
}

void walmap__partition_buffers_finish(walmap__partition_buffers *b) {
  for (uint32_t shard = 0; shard < b->n_shards; shard++) {
    pthread_mutex_lock(&b->loading_shards[shard].mutex);
    leave_segment(&b->buffers[shard]);
    pthread_mutex_unlock(&b->loading_shards[shard].mutex);
  }
  free(b->block);
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Indexes                                                                                                            */

static int flush_buffer(walmap__partition_buffer *buffer, walmap__loading_shard *loading_shard, uint32_t *number) {
  walmap__generation *g = loading_shard->generation;
  uint32_t added;
  pthread_mutex_lock(&loading_shard->mutex);
  int result = walmap__generation_add_all(g, buffer->entries, buffer->n, &added);
  pthread_mutex_unlock(&loading_shard->mutex);
  if (result != WALMAP_OK)
    *number = buffer->entries[added].number;
  buffer->n = 0;
  return result;
}

int walmap__partition_buffers_empty(walmap__partition_buffers *b, uint32_t *number) {
  int result = WALMAP_OK;
  for (uint32_t i = 0; i < b->n_shards && result == WALMAP_OK; i++) {
    uint32_t shard = (b->first + i) & (b->n_shards - 1);
    result = flush_buffer(&b->buffers[shard], &b->loading_shards[shard], number);
  }
  return result;
}
