/* bulk_load.c - from an image to new generations of all shards (bulk_load.h) */
#include "transfer/bulk_load.h"

#include "base/why.h"
#include "platform/platform.h"

#include <stdlib.h>

#define MAX_WORKERS 4
#define WORTH_A_THREAD ((size_t)1 << 20) /* bytes of image: a ms of work, beside 50 us to start a thread */

typedef struct worker {
  walmap__bulk_load *load;
  walmap__partition_buffers *buffers;
  uint64_t before; /* entries in the chunks before its present one */
  uint32_t chunk;  /* the present chunk's number, from 1 */
  uint32_t number; /* the worker's number, from 0 */
  int result;
  walmap_why why;
} worker;

/* ------------------------------------------------------------------------------------------------------------------ */
/* Generations                                                                                                        */

void walmap__bulk_load_drop(walmap__bulk_load *b) {
  for (uint32_t i = 0; i < b->map->n_shards; i++) {
    if (b->shards[i].generation)
      walmap__generation_free(&b->map->memory, b->shards[i].generation);
    b->shards[i].generation = NULL;
  }
}

static int make_generations(walmap__bulk_load *b, uint64_t entries, size_t image, uint32_t workers) {
  image += (size_t)entries * walmap__tail_bytes(walmap__tail_flags(0, b->tag));
  uint64_t bytes =
      image / b->map->n_shards / workers / 16 * 15; /* a little less: a segment that is too long stays so */
  if (bytes >= WALMAP__PAGE)                        /* smaller blocks take no pages */
    walmap__memory_expect(&b->map->memory, image + entries * sizeof(walmap__bucket) / WALMAP__BUCKET_SLOTS);
  if (b->map->options.ordered) {
    b->order = walmap__generation_new_order(&b->map->memory, &b->map->epoch, &b->map->options);
    if (!b->order)
      return WALMAP_NOMEM;
  }
  uint64_t expected = walmap__expected_within_bounds(&b->map->options, entries) / b->map->n_shards;
  for (uint32_t i = 0; i < b->map->n_shards; i++) {
    walmap__shard *shard = &b->map->shards[i];
    walmap__loading_shard *loading_shard = &b->shards[i];
    loading_shard->generation = walmap__generation_new(shard, walmap__shard_end(shard), expected, bytes, b->order);
    if (!loading_shard->generation)
      return WALMAP_NOMEM;
    walmap__limbo_init(&loading_shard->limbo);
    loading_shard->generation->log.limbo = loading_shard->generation->index.limbo = &loading_shard->limbo;
  }
  return WALMAP_OK;
}

/*
** Frees tables that the generations have outgrown. The shards' limbos would keep them until the next write, and after a
** refused image none may come.
*/
static void free_outgrown_tables(walmap__bulk_load *b) {
  for (uint32_t i = 0; i < b->map->n_shards; i++) {
    walmap__loading_shard *loading_shard = &b->shards[i];
    walmap__retired_free(&b->map->memory, loading_shard->limbo.first);
    if (loading_shard->generation)
      loading_shard->generation->log.limbo = loading_shard->generation->index.limbo = &b->map->shards[i].limbo;
  }
}

/* The entries of a segment begin to count in the expiry table. OK or NOMEM. */
static int count_expiring(walmap__generation *g, const walmap__segment *segment) {
  const uint8_t *at = segment->base, *end = at + walmap__segment_used(segment);
  int result = WALMAP_OK;
  while (at < end && result == WALMAP_OK) {
    const walmap__record *record = (const walmap__record *)at;
    uint32_t meta = walmap__record_meta(record);
    uint64_t expires = walmap__record_expires(record, meta);
    size_t size = walmap__record_size(record, meta);
    if (expires != 0)
      result = walmap__expiry_reserve(&g->expiry, g->log.memory, g->log.limbo, 1);
    if (expires != 0 && result == WALMAP_OK)
      walmap__expiry_add(&g->expiry, expires, size);
    at += size;
  }
  return result;
}

static int settle_logs(walmap__bulk_load *b) {
  int result = WALMAP_OK;
  for (uint32_t i = 0; i < b->map->n_shards; i++) {
    walmap__generation *g = b->shards[i].generation;
    walmap__log_settle(&g->log);
    const walmap__segment *s = walmap__log_first(&g->log);
    for (; s && result == WALMAP_OK; s = walmap__segment_next(s)) {
      if (!walmap__segment_may_be_expired(s, UINT64_MAX))
        continue;
      atomic_store_explicit(&b->map->expiring, true, memory_order_release);
      result = count_expiring(g, s);
      if (result == WALMAP_OK && walmap__interrupt_after(&b->interrupt, walmap__segment_used(s)))
        result = WALMAP_INTERRUPT;
    }
  }
  return result;
}

/* All records that were loaded are live: the records of the logs are the keys of the tree. */
static walmap__order_item *list_records(const walmap__log *log, uint32_t shard, walmap__order_item *items) {
  const walmap__segment *segment = walmap__log_first(log);
  for (; segment; segment = walmap__segment_next(segment)) {
    const uint8_t *at = segment->base, *end = at + walmap__segment_used(segment);
    while (at < end) {
      const walmap__record *record = (const walmap__record *)at;
      *items++ = (walmap__order_item){0, shard, walmap__address(segment, (size_t)(at - segment->base))};
      at = walmap__record_end(record, walmap__record_meta(record));
    }
  }
  return items;
}

static int build_order(walmap__bulk_load *b) {
  uint64_t n = 0;
  for (uint32_t i = 0; i < b->map->n_shards; i++)
    n += b->shards[i].generation->len;
  if (!b->order || n == 0)
    return WALMAP_OK;
  size_t bytes = (size_t)n * 2 * sizeof(walmap__order_item);
  walmap__order_item *items = walmap__memory_alloc(&b->map->memory, bytes), *end = items;
  if (!items)
    return WALMAP_NOMEM;
  for (uint32_t i = 0; i < b->map->n_shards; i++)
    end = list_records(&b->shards[i].generation->log, i, end);
  int result = walmap__order_build(b->order, items, end, (size_t)n, &b->interrupt);
  walmap__memory_free(&b->map->memory, items, bytes);
  return result;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Chunks                                                                                                             */

static int refuse_entry(worker *w, uint64_t number, const char *what) {
  return walmap__explain(&w->why, WALMAP_CORRUPT, "image refused: entry %llu: %s", (unsigned long long)number, what);
}

static int explain_duplicate(worker *w, int result, uint32_t number) {
  return result == WALMAP_CORRUPT ? refuse_entry(w, w->before + number, "its key appears twice") : result;
}

static WALMAP__ALWAYS_INLINE int load_record(worker *w, const walmap__image_record *record, uint32_t number) {
  const walmap__bulk_load *b = w->load;
  uint64_t hash = walmap__hash_of(b->map, record->entry.key, record->entry.key_len);
  if (b->check) {
    walmap_entry entry = record->entry; /* a copy, so that the original can stay in registers */
    const char *refused = b->check(b->ctx, &entry);
    if (refused)
      return refuse_entry(w, w->before + number, refused);
  }
  if (WALMAP__UNLIKELY(record->entry.expires != 0) && record->entry.expires <= b->now) {
    atomic_fetch_add(&w->load->expired, 1);
    return WALMAP_OK;
  }
  uint32_t shard = walmap__shard_number(b->map, hash);
  int result = walmap__partition_buffers_add(w->buffers, shard, record, hash, &number);
  return explain_duplicate(w, result, number);
}

static int load_chunk_records(worker *w, walmap__image_chunk chunk) {
  walmap__image_record record;
  uint32_t records = chunk.records, number = 0;
  int result = walmap__image_chunk_verify(&chunk, &w->why);
  while (result == WALMAP_OK && (result = walmap__image_record_next(&chunk, &record, &w->why)) == WALMAP_OK)
    result = load_record(w, &record, records - chunk.records);
  if (result != WALMAP_NOTFOUND)
    return result;
  result = walmap__partition_buffers_empty(w->buffers, &number);
  return explain_duplicate(w, result, number);
}

static int take_next_chunk(worker *w, walmap__image_chunk *chunk) {
  walmap__bulk_load *b = w->load;
  int result = WALMAP_NOTFOUND;
  pthread_mutex_lock(&b->mutex);
  if (!b->is_over) {
    w->chunk = b->decoder.chunks + 1;
    w->before = b->decoder.entries;
    result = walmap__image_decoder_take(&b->decoder, chunk, &w->why);
    b->is_over = result != WALMAP_OK;
  }
  pthread_mutex_unlock(&b->mutex);
  return result;
}

static void stop_workers(walmap__bulk_load *b) {
  pthread_mutex_lock(&b->mutex);
  b->is_over = true;
  pthread_mutex_unlock(&b->mutex);
}

static int add_chunks(worker *w) {
  walmap__image_chunk chunk = {0}; /* GCC does not see that it is set where it is used */
  int result;
  while ((result = take_next_chunk(w, &chunk)) == WALMAP_OK && (result = load_chunk_records(w, chunk)) == WALMAP_OK) {
    if (w->number == 0 && walmap__interrupt_after(&w->load->interrupt, (size_t)(chunk.end - chunk.at)))
      result = WALMAP_INTERRUPT;
    if (result != WALMAP_OK)
      break;
  }
  if (result == WALMAP_NOTFOUND)
    return WALMAP_OK;
  stop_workers(w->load);
  return result;
}

static void *run_worker(void *arg) {
  worker *w = arg;
  walmap *map = w->load->map;
  w->result = WALMAP_NOMEM;
  w->buffers = calloc(1, sizeof *w->buffers);
  if (w->buffers) {
    w->buffers->first = w->number * (map->n_shards / MAX_WORKERS) % map->n_shards;
    w->buffers->tag = w->load->tag;
    w->result = walmap__partition_buffers_init(w->buffers, w->load->shards, map->n_shards);
  }
  if (w->result == WALMAP_OK) {
    w->result = add_chunks(w);
    walmap__partition_buffers_finish(w->buffers);
  }
  free(w->buffers);
  return NULL;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Workers                                                                                                            */

/* A thread that cannot be started, or has no memory for its buffers, is not missed: the first worker does its work. */
static void run_workers(worker *workers, uint32_t n) {
  pthread_t threads[MAX_WORKERS];
  bool started[MAX_WORKERS] = {false};
  for (uint32_t i = 1; i < n; i++)
    started[i] = pthread_create(&threads[i], NULL, run_worker, &workers[i]) == 0;
  run_worker(&workers[0]);
  for (uint32_t i = 1; i < n; i++) {
    if (started[i])
      pthread_join(threads[i], NULL);
  }
}

/* The worker whose error is the first in the image: all chunks before it are good. NULL: no worker has failed. */
static const worker *first_failed(const worker *workers, uint32_t n) {
  const worker *first = NULL;
  for (uint32_t i = 0; i < n; i++) {
    const worker *w = &workers[i];
    bool missed = i > 0 && w->chunk == 0; /* it never began */
    if (w->result != WALMAP_OK && !missed && (!first || w->chunk < first->chunk))
      first = w;
  }
  return first;
}

static int read_header(walmap__bulk_load *b, uint32_t n, walmap_why *why) {
  int result = walmap__image_decoder_header(&b->decoder, why);
  if (result != WALMAP_OK)
    return result;
  uint32_t content = b->map->options.content;
  if (b->decoder.content != content)
    return walmap__explain(why, WALMAP_CORRUPT, "image refused: its content number is %lu, this map's is %lu",
                           (unsigned long)b->decoder.content, (unsigned long)content);
  return make_generations(b, walmap__image_decoder_hint(&b->decoder), b->decoder.size, n);
}

static int load_chunks(walmap__bulk_load *b, uint32_t n, walmap_why *why) {
  worker workers[MAX_WORKERS];
  for (uint32_t i = 0; i < n; i++)
    workers[i] = (worker){.load = b, .number = i};
  run_workers(workers, n);
  const worker *failed = first_failed(workers, n);
  if (!failed)
    return WALMAP_OK;
  *why = failed->why;
  return failed->result;
}

static int load_image(walmap__bulk_load *b, uint32_t n, walmap_why *why) {
  walmap_why unread;
  if (!why)
    why = &unread;
  pthread_mutex_init(&b->mutex, NULL);
  for (uint32_t i = 0; i < b->map->n_shards; i++)
    pthread_mutex_init(&b->shards[i].mutex, NULL);
  int result = read_header(b, n, why);
  if (result == WALMAP_OK)
    result = load_chunks(b, n, why);
  if (result == WALMAP_OK)
    result = settle_logs(b);
  free_outgrown_tables(b);
  if (result == WALMAP_OK)
    result = build_order(b);
  b->entries = b->decoder.entries - atomic_load(&b->expired);
  if (result != WALMAP_OK)
    walmap__bulk_load_drop(b);
  walmap__order_release(b->order); /* the generations keep it */
  for (uint32_t i = 0; i < b->map->n_shards; i++)
    pthread_mutex_destroy(&b->shards[i].mutex);
  pthread_mutex_destroy(&b->mutex);
  walmap__image_decoder_stop(&b->decoder);
  return result;
}

int walmap__bulk_load_nothing(walmap__bulk_load *b) {
  int result = make_generations(b, 0, 0, 1);
  free_outgrown_tables(b);
  if (result != WALMAP_OK)
    walmap__bulk_load_drop(b);
  walmap__order_release(b->order); /* the generations keep it */
  return result;
}

int walmap__bulk_load_from_memory(walmap__bulk_load *b, const void *image, size_t size, walmap_why *why) {
  size_t n = size / WORTH_A_THREAD, most = walmap__processors();
  if (n > MAX_WORKERS)
    n = MAX_WORKERS;
  if (n > most)
    n = most;
  walmap__image_decoder_start(&b->decoder, image, size);
  return load_image(b, n > 0 ? (uint32_t)n : 1, why);
}

/* A stream has one reader, so there is one worker. */
int walmap__bulk_load_from_stream(walmap__bulk_load *b, walmap_read_fn read, void *read_ctx, walmap_why *why) {
  walmap__image_decoder_start_read(&b->decoder, read, read_ctx);
  return load_image(b, 1, why);
}
