/*
** snapshot.c - from a state to an image
**
** C6: the state's tails say what is in the image; what writers append meanwhile lies past them. A sealed segment that
** is clean (no record in it was ever superseded, removed or linked to a previous one) is copied whole. Writers make a
** segment dirty before they change the first flag in it, so a copy that was clean before and is clean after is exact;
** else it is thrown away and the records are taken one by one.
*/
#include "image.h"
#include "state.h"

#include <stdlib.h>

/* ------------------------------------------------------------------------------------------------------------------ */
/* Copying                                                                                                            */

/* What is copied here is read before what is_dirty reads after it. */
#if defined(WALMAP__INDEX_SCALAR)
/* The thread sanitizer should see each word being read: if one is written meanwhile, the copy is not used. */
static void copy_words(uint8_t *to, const uint8_t *from, size_t bytes) {
  for (size_t i = 0; i < bytes; i += 4) {
    uint32_t word = atomic_load_explicit((const _Atomic uint32_t *)(const void *)(from + i), memory_order_acquire);
    memcpy(to + i, &word, 4);
  }
}
#else
static void copy_words(uint8_t *to, const uint8_t *from, size_t bytes) {
  memcpy(to, from, bytes);
  atomic_thread_fence(memory_order_acquire);
}
#endif

static bool is_dirty(const walmap__segment *s) { return atomic_load_explicit(&s->dirty, memory_order_acquire); }

/* Copies a record without `prev`, with `next` and the flags zero. Returns its bytes. */
static size_t copy_clean(uint8_t *to, const walmap__record *record, uint32_t meta) {
  size_t bytes = walmap__record_size(record, meta) - (meta & WALMAP__PREV ? 4 : 0);
  uint32_t clean = WALMAP__LE32(meta & ~(WALMAP__PREV | WALMAP__MOVED));
  uint32_t zero = 0;
  memcpy(to, &clean, 4);
  memcpy(to + 4, &zero, 4);
  memcpy(to + 8, (const uint8_t *)record + 8, bytes - 8);
  return bytes;
}

/* Whole segments that are clean and final. *done: it was one. */
static int add_whole(walmap__image_writer *writer, const walmap__segment *s, size_t bytes, bool *done) {
  bool final = atomic_load_explicit(&s->next, memory_order_acquire) != NULL;
  *done = final && !is_dirty(s) && bytes == walmap__segment_used(s);
  if (!*done)
    return WALMAP_OK;
  uint8_t *to;
  int result = walmap__image_writer_reserve(writer, bytes, &to);
  if (result != WALMAP_OK)
    return result;
  copy_words(to, s->base, bytes);
  *done = !is_dirty(s);
  uint32_t records = atomic_load_explicit(&s->records, memory_order_relaxed);
  walmap__image_writer_commit(writer, *done ? bytes : 0, *done ? records : 0);
  return WALMAP_OK;
}

/* Record by record, a chunk's worth at a time. */
static int add_visible(walmap__image_writer *writer, const walmap__segment *s, size_t bytes, uint64_t tail) {
  size_t at = 0;
  while (at < bytes) {
    const walmap__record *first = (const walmap__record *)(s->base + at);
    size_t want = walmap__record_size(first, walmap__record_meta(first));
    if (want < WALMAP__IMAGE_CHUNK)
      want = WALMAP__IMAGE_CHUNK;
    if (want > bytes - at)
      want = bytes - at;
    uint8_t *to;
    int result = walmap__image_writer_reserve(writer, want, &to);
    if (result != WALMAP_OK)
      return result;
    size_t written = 0, stop = at + want;
    uint32_t records = 0;
    while (at < stop) {
      const walmap__record *record = (const walmap__record *)(s->base + at);
      uint32_t meta = walmap__record_meta(record);
      size_t size = walmap__record_size(record, meta);
      if (at + size > stop)
        break;
      at += size;
      if ((meta & WALMAP__DEAD) || !walmap__record_visible(s->log, record, tail))
        continue;
      written += copy_clean(to + written, record, meta);
      records++;
    }
    walmap__image_writer_commit(writer, written, records);
  }
  return WALMAP_OK;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* The walk                                                                                                           */

static size_t bytes_before(const walmap__segment *s, uint64_t tail) {
  uint64_t before_tail = (tail - s->pos0) << 2;
  size_t used = walmap__segment_used(s);
  return before_tail < used ? (size_t)before_tail : used;
}

typedef int (*segment_fn)(void *ctx, const walmap__segment *segment, size_t bytes, uint64_t tail);

static int each_segment(walmap_state *state, segment_fn fn, void *ctx) {
  for (uint32_t i = 0; i < state->map->n_shards; i++) {
    uint64_t tail = state->tails[i];
    walmap__generation *g = walmap__shard_at(&state->map->shards[i], tail);
    if (!g)
      continue;
    const walmap__segment *s = atomic_load_explicit(&g->log.first, memory_order_acquire);
    for (; s && s->pos0 < tail; s = atomic_load_explicit(&s->next, memory_order_acquire)) {
      int result = fn(ctx, s, bytes_before(s, tail), tail);
      if (result != WALMAP_OK)
        return result;
    }
  }
  return WALMAP_OK;
}

static int add_segment(void *ctx, const walmap__segment *s, size_t bytes, uint64_t tail) {
  walmap__image_writer *writer = ctx;
  bool done;
  int result = add_whole(writer, s, bytes, &done);
  if (result == WALMAP_OK && !done)
    result = add_visible(writer, s, bytes, tail);
  return result;
}

static int count_bytes(void *ctx, const walmap__segment *s, size_t bytes, uint64_t tail) {
  (void)s, (void)tail;
  *(size_t *)ctx += bytes;
  return WALMAP_OK;
}

int walmap_state_image(walmap_state *state, void **image, size_t *size) {
  size_t bytes = 0;
  walmap__image_writer *writer;
  (void)each_segment(state, count_bytes, &bytes);
  int result = walmap__image_writer_new(state->map->options.content, NULL, NULL, bytes, &writer);
  if (result != WALMAP_OK)
    return result;
  result = each_segment(state, add_segment, writer);
  if (result == WALMAP_OK)
    return walmap__image_writer_finish(writer, image, size);
  walmap__image_writer_abandon(writer);
  return result;
}

int walmap_state_write(walmap_state *state, walmap_write_fn write, void *ctx) {
  walmap__image_writer *writer;
  int result = walmap__image_writer_new(state->map->options.content, write, ctx, 0, &writer);
  if (result != WALMAP_OK)
    return result;
  result = each_segment(state, add_segment, writer);
  if (result == WALMAP_OK)
    return walmap__image_writer_finish(writer, NULL, NULL);
  walmap__image_writer_abandon(writer);
  return result;
}

int walmap_snapshot(walmap *map, void **image, size_t *size) {
  walmap_state *state;
  int result = walmap_state_new(map, &state);
  if (result != WALMAP_OK)
    return result;
  result = walmap_state_begin(state);
  if (result == WALMAP_OK)
    result = walmap_state_image(state, image, size);
  walmap_state_free(state);
  return result;
}
