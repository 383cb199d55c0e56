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

/*
** Copies a record without `prev`, with `next` and the flags zero, if `keep`; the bytes that it takes then. Whether a
** record is kept is a matter of chance where many are dead, so a short one is copied in any case, to where the next one
** will lie: that is cheaper than a branch that is mispredicted. There is room, since the copy is not behind the log.
*/
static size_t copy_clean(uint8_t *to, const walmap__record *record, uint32_t meta, size_t size, bool keep) {
  enum { SHORT = 40 };
  size_t bytes = size - (meta & WALMAP__PREV ? 4 : 0);
  if (WALMAP__LIKELY(bytes <= SHORT || keep)) {
    walmap__store64(to, meta & ~(WALMAP__PREV | WALMAP__MOVED | WALMAP__DEAD)); /* and next */
    walmap__copy_bytes(to + 8, (const uint8_t *)record + 8, bytes - 8);
  }
  return keep ? bytes : 0;
}

/* Most are dead for everybody, or the newest of their key: no branch for those. The rest asks who superseded it. */
static inline bool is_visible(const walmap__log *log, const walmap__record *record, uint32_t *meta, uint64_t tail) {
  uint32_t next = walmap__record_next(record);
  *meta = walmap__record_meta(record); /* after next, as in walmap__record_visible */
  uint32_t dead = (*meta & WALMAP__DEAD) != 0, ended = (next != 0) | ((*meta & WALMAP__TOMB) != 0);
  if (WALMAP__UNLIKELY(ended & ~dead))
    return walmap__record_visible(log, record, tail);
  return !dead;
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
  walmap__yield("image: segment was clean");
  copy_words(to, s->base, bytes);
  *done = !is_dirty(s);
  uint32_t records = atomic_load_explicit(&s->records, memory_order_relaxed);
  walmap__image_writer_commit(writer, *done ? bytes : 0, *done ? records : 0);
  return WALMAP_OK;
}

/* Some of the records from `at` on, a chunk's worth, one by one. *next is where it ended. */
static int add_visible(walmap__image_writer *writer, const walmap__segment *s, size_t at, size_t bytes, uint64_t tail,
                       size_t *next) {
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
    uint32_t meta;
    bool keep = is_visible(s->log, record, &meta, tail);
    size_t size = walmap__record_size(record, meta);
    if (at + size > stop)
      break;
    at += size;
    written += copy_clean(to + written, record, meta, size, keep);
    records += keep;
  }
  walmap__image_writer_commit(writer, written, records);
  *next = at;
  return WALMAP_OK;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* The walk: over all segments of all shards, as far as the tails, in steps                                           */

typedef struct walk {
  walmap_state *state;
  uint32_t shard;
  const walmap__segment *segment; /* NULL: before the shard's first */
  size_t at, bytes;               /* in the segment: done, and before the tail */
} walk;

static bool next_segment(walk *w) {
  const walmap *map = w->state->map;
  for (; w->shard < map->n_shards; w->shard++, w->segment = NULL) {
    uint64_t tail = w->state->tails[w->shard];
    const walmap__segment *s = w->segment;
    if (s) {
      s = atomic_load_explicit(&s->next, memory_order_acquire);
    } else {
      walmap__generation *g = walmap__shard_at(&map->shards[w->shard], tail);
      if (g)
        s = atomic_load_explicit(&g->log.first, memory_order_acquire);
    }
    if (s && s->pos0 < tail) {
      w->segment = s;
      w->at = 0;
      w->bytes = walmap__segment_before(s, tail);
      return true;
    }
  }
  return false;
}

/* Adds a whole segment, or a chunk's worth of one. OK; NOTFOUND at the end; NOMEM, IO. */
static int step(walk *w, walmap__image_writer *writer) {
  while (w->at == w->bytes) {
    if (!next_segment(w))
      return WALMAP_NOTFOUND;
  }
  if (w->at == 0) {
    bool done;
    int result = add_whole(writer, w->segment, w->bytes, &done);
    if (result != WALMAP_OK || done) {
      w->at = done ? w->bytes : 0;
      return result;
    }
  }
  return add_visible(writer, w->segment, w->at, w->bytes, w->state->tails[w->shard], &w->at);
}

/* Adds all, and finishes or abandons the writer. */
static int write_all(walmap_state *state, walmap__image_writer *writer, void **image, size_t *size) {
  walk w = {.state = state};
  int result;
  do
    result = step(&w, writer);
  while (result == WALMAP_OK);
  if (result == WALMAP_NOTFOUND)
    return walmap__image_writer_finish(writer, image, size);
  walmap__image_writer_abandon(writer);
  return result;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Images: in memory, to a callback                                                                                   */

int walmap_state_image(walmap_state *state, void **image, size_t *size) {
  size_t bytes = 0;
  walmap__image_writer *writer;
  walk count = {.state = state};
  while (next_segment(&count))
    bytes += count.bytes;
  int result = walmap__image_writer_new(state->map->options.content, NULL, NULL, bytes, &writer);
  return result == WALMAP_OK ? write_all(state, writer, image, size) : result;
}

int walmap_state_write(walmap_state *state, walmap_write_fn write, void *ctx) {
  walmap__image_writer *writer;
  int result = walmap__image_writer_new(state->map->options.content, write, ctx, 0, &writer);
  return result == WALMAP_OK ? write_all(state, writer, NULL, NULL) : result;
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

/* ------------------------------------------------------------------------------------------------------------------ */
/* Images on demand                                                                                                   */

struct walmap_image_stream {
  walk walk;
  walmap__image_writer *writer; /* NULL: all is written, or an error was met */
  void *rest;                   /* then: what the writer gave at its end */
  const uint8_t *at;            /* what is to be handed out next, in the writer's memory or in `rest` */
  size_t left;
};

int walmap_image_stream_new(walmap_state *state, walmap_image_stream **out) {
  walmap_image_stream *stream = calloc(1, sizeof *stream);
  if (!stream)
    return WALMAP_NOMEM;
  stream->walk.state = state;
  int result = walmap__image_writer_new(state->map->options.content, NULL, NULL, 0, &stream->writer);
  if (result != WALMAP_OK) {
    free(stream);
    return result;
  }
  walmap__image_writer_closed(stream->writer, &stream->at, &stream->left); /* the header */
  *out = stream;
  return WALMAP_OK;
}

void walmap_image_stream_free(walmap_image_stream *stream) {
  if (!stream)
    return;
  walmap__image_writer_abandon(stream->writer);
  walmap_image_free(stream->rest);
  free(stream);
}

/* Goes on with the walk until a chunk is closed. NOTFOUND: all was handed out. */
static int refill(walmap_image_stream *stream) {
  if (!stream->writer)
    return WALMAP_NOTFOUND;
  walmap__image_writer_drop(stream->writer);
  int result = WALMAP_OK;
  while (result == WALMAP_OK && stream->left == 0) {
    result = step(&stream->walk, stream->writer);
    walmap__image_writer_closed(stream->writer, &stream->at, &stream->left);
  }
  if (result != WALMAP_NOTFOUND)
    return result;
  walmap__image_writer *writer = stream->writer;
  stream->writer = NULL;
  result = walmap__image_writer_finish(writer, &stream->rest, &stream->left);
  stream->at = stream->rest;
  return result;
}

int walmap_image_stream_read(walmap_image_stream *stream, void *buffer, size_t size, size_t *got) {
  size_t done = 0;
  while (done < size) {
    int result = stream->left == 0 ? refill(stream) : WALMAP_OK;
    if (result == WALMAP_NOTFOUND)
      break;
    if (result != WALMAP_OK)
      return result;
    size_t piece = stream->left < size - done ? stream->left : size - done;
    memcpy((uint8_t *)buffer + done, stream->at, piece);
    stream->at += piece;
    stream->left -= piece;
    done += piece;
  }
  *got = done;
  return WALMAP_OK;
}
