/* garbage.c - a queue of the addresses of dead records (garbage.h has the picture) */
#include "shard/garbage.h"

#define FIRST_CHUNK 54  /* 256 bytes with the head */
#define MAX_CHUNK 2040u /* just under one page */

static size_t chunk_bytes(uint32_t capacity) { return sizeof(walmap__garbage_chunk) + capacity * sizeof(uint32_t); }

static void free_chunk(walmap__memory *memory, walmap__garbage_chunk *chunk) {
  walmap__memory_free(memory, chunk, chunk_bytes(chunk->capacity));
}

void walmap__garbage_destroy(walmap__garbage *d, walmap__memory *memory) {
  while (d->oldest) {
    walmap__garbage_chunk *next = d->oldest->next;
    free_chunk(memory, d->oldest);
    d->oldest = next;
  }
}

bool walmap__garbage_new_chunk(walmap__garbage *d, walmap__memory *memory, unsigned n) {
  walmap__garbage_chunk *newest = d->newest;
  if (newest && d->first == d->end && d->oldest == newest && newest->capacity >= n) {
    newest->base = d->end; /* the queue is empty: the chunk is filled from its start again */
    return true;
  }
  uint32_t capacity = newest ? newest->capacity * 2 : FIRST_CHUNK;
  if (capacity > MAX_CHUNK)
    capacity = MAX_CHUNK;
  walmap__garbage_chunk *chunk = walmap__memory_alloc(memory, chunk_bytes(capacity));
  if (!chunk)
    return false;
  chunk->next = NULL;
  chunk->previous = newest;
  chunk->base = d->end;
  chunk->capacity = capacity;
  if (newest) {
    newest->next = chunk;
  } else {
    d->oldest = chunk;
  }
  d->newest = chunk;
  return true;
}

void walmap__garbage_pop(walmap__garbage *d, walmap__memory *memory, uint64_t n) {
  d->first += n;
  walmap__garbage_chunk *chunk = d->oldest;
  if (!chunk->next || d->first < chunk->next->base)
    return;
  d->oldest = chunk->next;
  d->oldest->previous = NULL;
  free_chunk(memory, chunk);
}

void walmap__garbage_truncate(walmap__garbage *d, walmap__memory *memory, uint64_t end) {
  d->end = end;
  while (d->newest && d->newest->previous && d->newest->base >= end) {
    walmap__garbage_chunk *chunk = d->newest;
    d->newest = chunk->previous;
    d->newest->next = NULL;
    free_chunk(memory, chunk);
  }
}
