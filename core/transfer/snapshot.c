/*
** snapshot.c - from a state to an image
**
** C6: the state's commit points say which records are in the image; records that writers append meanwhile lie past
** them. A segment that is clean (no record in it was ever superseded, removed or linked to a previous one) and ends
** before the commit point is copied whole. Writers mark a segment dirty before they change its first flag, so the copy
** of a segment that is clean before and after is exact. Otherwise the copy is thrown away, and the records are taken
** one by one.
*/
#include "image/image.h"
#include "mvcc/state.h"

#include <stdlib.h>

/* ------------------------------------------------------------------------------------------------------------------ */
/* Copying                                                                                                            */

/* Copies words. The copy is complete before is_dirty, called after it, reads the flag. */
#if defined(WALMAP__TSAN)
/* The thread sanitizer should see each word being read. If a word is written meanwhile, the copy is not used. */
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

static bool is_dirty(const walmap__segment *s) {
  return atomic_load_explicit(&s->dirty, memory_order_acquire) ||
         atomic_load_explicit(&s->tagged, memory_order_acquire);
}

/* The head of a record in an image: flags and next are 0. */
static inline void put_head(uint8_t *to, uint32_t meta) {
  /* a record that is kept has no TOMB */
  walmap__store64(to, meta & ~(WALMAP__TAGGED | WALMAP__PREV | WALMAP__MOVED | WALMAP__DEAD));
}

/* Bytes of a record in an image: without tag and `prev`, its last words. */
static inline size_t image_bytes(size_t size, uint32_t meta) {
  return size - walmap__tail_bytes(meta & (WALMAP__TAGGED | WALMAP__PREV));
}

/*
** All bits set if the state has the record, 0 if not. Most records are DEAD, or the newest of their key: they take no
** branch. For the others the LSN of the successor decides.
*/
static inline size_t visible_mask(const walmap__log *log, const walmap__record *record, uint32_t *meta,
                                  uint64_t commit_point, uint64_t now) {
  uint32_t next = walmap__record_next(record);
  *meta = walmap__record_meta(record);      /* after next, as in walmap__record_visible */
  size_t alive = (size_t)(*meta >> 31) - 1; /* DEAD is bit 31 */
  if (WALMAP__UNLIKELY((next | (*meta & (WALMAP__TOMB | WALMAP__EXPIRES))) & alive)) {
    bool is_there = walmap__record_visible(log, record, commit_point);
    return is_there && !walmap__record_is_expired(record, *meta, now) ? SIZE_MAX : 0;
  }
  return alive;
}

/* Adds a segment in one piece, if it is clean, ends before the commit point and has nothing expired. *done: it was. */
static int add_whole(walmap__image_writer *writer, const walmap__segment *s, size_t bytes, uint64_t now, bool *done) {
  uint32_t records = atomic_load_explicit(&s->records, memory_order_acquire);
  *done = !is_dirty(s) && bytes == walmap__segment_used(s); /* then these are the records (log.h) */
  *done = *done && !walmap__segment_may_be_expired(s, now);
  if (!*done)
    return WALMAP_OK;
  uint8_t *to;
  int result = walmap__image_writer_reserve(writer, bytes, &to);
  if (result != WALMAP_OK)
    return result;
  walmap__yield("image: segment was clean");
  copy_words(to, s->base, bytes);
  *done = !is_dirty(s);
  walmap__image_writer_commit(writer, *done ? bytes : 0, *done ? records : 0);
  return WALMAP_OK;
}

/* Records that are taken one by one: from where to where, and how many. */
typedef struct taking {
  const walmap__segment *segment;
  uint64_t commit_point, now;
  const uint8_t *at, *stop;
  uint8_t *to; /* at most as far on as `at` */
  uint32_t records;
} taking;

/*
** Takes records while at least WINDOW bytes before `stop` are left. In a log with many dead records it is a matter of
** chance whether a record is kept, and often how long it is. So WINDOW bytes are copied in any case, to where the next
** kept record lies: that is cheaper than branches that the CPU mispredicts.
*/
static void take_many(taking *t) {
#if !defined(WALMAP__TSAN) /* it copies flags that writers may change, to overwrite them: see copy_words */
  enum { WINDOW = 64 };
  const walmap__log *log = t->segment->log;
  const uint8_t *at = t->at, *stop = t->stop;
  uint8_t *to = t->to;
  uint32_t records = t->records;
  while ((size_t)(stop - at) >= WINDOW) {
    const walmap__record *record = (const walmap__record *)at;
    uint32_t meta;
    size_t keep = visible_mask(log, record, &meta, t->commit_point, t->now);
    const uint8_t *end = walmap__record_end(record, meta);
    size_t size = (size_t)(end - at), bytes = image_bytes(size, meta) & keep;
    memcpy(to, at, WINDOW);
    put_head(to, meta);
    if (WALMAP__UNLIKELY(size > WINDOW)) {
      if (size > (size_t)(stop - at))
        break;
      if (bytes > WINDOW)
        memcpy(to + WINDOW, at + WINDOW, bytes - WINDOW);
    }
    at = end;
    to += bytes;
    records += keep & 1;
  }
  t->at = at;
  t->to = to;
  t->records = records;
#else
  (void)t;
#endif
}

/* Takes the records that are left, and reads and writes no byte outside of them. */
static void take_few(taking *t) {
  while (t->at < t->stop) {
    const walmap__record *record = (const walmap__record *)t->at;
    uint32_t meta;
    size_t keep = visible_mask(t->segment->log, record, &meta, t->commit_point, t->now);
    size_t size = walmap__record_size(record, meta);
    if (size > (size_t)(t->stop - t->at))
      break;
    if (keep != 0) {
      size_t bytes = image_bytes(size, meta);
      put_head(t->to, meta);
      memcpy(t->to + WALMAP__RECORD_HEAD, t->at + WALMAP__RECORD_HEAD, bytes - WALMAP__RECORD_HEAD);
      t->to += bytes;
      t->records++;
    }
    t->at += size;
  }
}

/* Adds records from `at` on one by one, a chunk's worth. Sets *next to where the rest begins. */
static int add_visible(walmap__image_writer *writer, const walmap__segment *s, size_t at, size_t bytes,
                       uint64_t commit_point, uint64_t now, size_t *next) {
  const uint8_t *first = s->base + at;
  size_t want = walmap__record_size((const walmap__record *)first, walmap__record_meta((const walmap__record *)first));
  if (want < WALMAP__IMAGE_CHUNK)
    want = WALMAP__IMAGE_CHUNK;
  if (want > bytes - at)
    want = bytes - at;
  uint8_t *to;
  int result = walmap__image_writer_reserve(writer, want, &to);
  if (result != WALMAP_OK)
    return result;
  taking t = {s, commit_point, now, first, first + want, to, 0};
  take_many(&t);
  take_few(&t);
  walmap__image_writer_commit(writer, (size_t)(t.to - to), t.records);
  *next = (size_t)(t.at - s->base);
  return WALMAP_OK;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* The walk over all segments of all shards, as far as the commit points, in steps                                    */

typedef struct log_walk {
  walmap_state *state;
  uint32_t shard;
  const walmap__segment *segment; /* NULL: before the shard's first */
  size_t at, bytes;               /* in the segment: done, and before the commit point */
} log_walk;

static bool walk_next_segment(log_walk *w) {
  const walmap *map = w->state->map;
  for (; w->shard < map->n_shards; w->shard++, w->segment = NULL) {
    uint64_t commit_point = w->state->commit_points[w->shard];
    const walmap__segment *s = w->segment;
    if (s) {
      s = walmap__segment_next(s);
    } else {
      walmap__generation *g = walmap__shard_at(&map->shards[w->shard], commit_point);
      if (g)
        s = walmap__log_first(&g->log);
    }
    if (s && s->first_lsn < commit_point) {
      w->segment = s;
      w->at = 0;
      w->bytes = walmap__segment_before(s, commit_point);
      return true;
    }
  }
  return false;
}

/* Adds the whole segment, or a chunk's worth of it. */
static int add_of_segment(log_walk *w, walmap__image_writer *writer) {
  if (w->at == 0) {
    bool done;
    int result = add_whole(writer, w->segment, w->bytes, w->state->now, &done);
    if (result != WALMAP_OK || done) {
      w->at = done ? w->bytes : 0;
      return result;
    }
  }
  uint64_t commit_point = w->state->commit_points[w->shard];
  return add_visible(writer, w->segment, w->at, w->bytes, commit_point, w->state->now, &w->at);
}

/* The next step. OK; NOTFOUND at the end; NOMEM, IO, INTERRUPT. */
static int add_step(log_walk *w, walmap__image_writer *writer) {
  while (w->at == w->bytes) {
    if (!walk_next_segment(w))
      return WALMAP_NOTFOUND;
  }
  size_t before = w->at;
  int result = add_of_segment(w, writer);
  if (result == WALMAP_OK && walmap__interrupt_after(&w->state->interrupt, w->at - before))
    result = WALMAP_INTERRUPT;
  return result;
}

/* Adds all segments, and finishes or abandons the writer. */
static int write_all(walmap_state *state, walmap__image_writer *writer, void **image, size_t *size) {
  log_walk w = {.state = state};
  int result;
  do
    result = add_step(&w, writer);
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
  log_walk count = {.state = state};
  while (walk_next_segment(&count))
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
  log_walk walk;
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
static int refill_stream(walmap_image_stream *stream) {
  if (!stream->writer)
    return WALMAP_NOTFOUND;
  walmap__image_writer_drop(stream->writer);
  int result = WALMAP_OK;
  while (result == WALMAP_OK && stream->left == 0) {
    result = add_step(&stream->walk, stream->writer);
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
    int result = stream->left == 0 ? refill_stream(stream) : WALMAP_OK;
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
