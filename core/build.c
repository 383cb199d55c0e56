/* build.c - from an image to new generations of all shards (build.h) */
#define _GNU_SOURCE
#include "build.h"
#include "build_bins.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define MAX_WORKERS 4
#define WORTH_A_THREAD ((size_t)8 << 20) /* bytes of image for each: ms of work, against some 50 us for a thread */

typedef struct worker {
  walmap__build *build;
  walmap__image_decoder decoder;
  uint32_t number, n; /* of this worker, from 0; of all. Shard i is that of worker i % n */
  walmap__bins *bins;
  uint64_t seen; /* records, the others' too */
  int result;
  walmap_why why;
} worker;

void walmap__build_drop(walmap__build *b) {
  for (uint32_t i = 0; i < b->map->n_shards; i++) {
    if (b->generations[i])
      walmap__generation_free(&b->map->memory, b->generations[i]);
    b->generations[i] = NULL;
  }
}

/* Tables that the building outgrows go to the shard's limbo, though no reader knows them: it is their only way. */
static int make_generations(walmap__build *b, uint64_t entries, size_t image) {
  uint64_t bytes = image / b->map->n_shards / 16 * 15; /* a little less, for a segment too long stays so */
  for (uint32_t i = 0; i < b->map->n_shards; i++) {
    walmap__shard *shard = &b->map->shards[i];
    b->generations[i] = walmap__generation_new(shard, walmap__shard_end(shard), entries / b->map->n_shards, bytes);
    if (!b->generations[i])
      return WALMAP_NOMEM;
  }
  return WALMAP_OK;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Records                                                                                                            */

static int refuse(worker *w, uint64_t number, const char *what) {
  snprintf(w->why.text, sizeof w->why.text, "image refused: entry %llu: %s", (unsigned long long)number, what);
  return WALMAP_CORRUPT;
}

static int told(worker *w, int result, uint64_t number) {
  return result == WALMAP_CORRUPT ? refuse(w, number, "its key appears twice") : result;
}

/* Takes the record, if it is this worker's. */
static WALMAP__ALWAYS_INLINE int take(worker *w, const walmap__image_record *record) {
  const walmap__build *b = w->build;
  uint64_t number = ++w->seen, hash = walmap__hash_of(b->map, record->entry.key, record->entry.key_len);
  uint32_t shard = walmap__shard_number(b->map, hash);
  if (!walmap__bins_wants(w->bins, shard))
    return WALMAP_OK;
  if (b->check) {
    walmap_entry entry = record->entry; /* a copy, so that the other can be in registers */
    const char *refused = b->check(b->ctx, &entry);
    if (refused)
      return refuse(w, number, refused);
  }
  return told(w, walmap__bins_add(w->bins, shard, record->bytes, record->size, hash, &number), number);
}

static int add_chunk(worker *w, walmap__image_chunk chunk) {
  walmap__image_record record;
  int result;
  while ((result = walmap__image_record_next(&chunk, &record, &w->why)) == WALMAP_OK) {
    result = take(w, &record);
    if (result != WALMAP_OK)
      return result;
  }
  return result == WALMAP_NOTFOUND ? WALMAP_OK : result;
}

static int add_chunks(worker *w) {
  walmap__image_chunk chunk;
  int result;
  while ((result = walmap__image_decoder_next(&w->decoder, &chunk, &w->why)) == WALMAP_OK) {
    result = add_chunk(w, chunk);
    if (result != WALMAP_OK)
      return result;
  }
  if (result != WALMAP_NOTFOUND)
    return result;
  uint64_t number = w->seen;
  return told(w, walmap__bins_empty(w->bins, &number), number);
}

static void *work(void *arg) {
  worker *w = arg;
  const walmap__build *b = w->build;
  w->bins = malloc(sizeof *w->bins);
  w->result = w->bins ? walmap__bins_init(w->bins, b->generations, b->map->n_shards, w->number, w->n) : WALMAP_NOMEM;
  if (w->result == WALMAP_OK) {
    w->result = add_chunks(w);
    walmap__bins_free(w->bins);
  }
  free(w->bins);
  return NULL;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Workers                                                                                                            */

/* Each has a decoder of its own at the same place. The work of a thread that cannot be had is done here. */
static void run_workers(worker *workers, uint32_t n) {
  pthread_t threads[MAX_WORKERS];
  bool started[MAX_WORKERS] = {false};
  for (uint32_t i = 1; i < n; i++)
    started[i] = pthread_create(&threads[i], NULL, work, &workers[i]) == 0;
  for (uint32_t i = 0; i < n; i++) {
    if (!started[i])
      work(&workers[i]);
  }
  for (uint32_t i = 1; i < n; i++) {
    if (started[i])
      pthread_join(threads[i], NULL);
  }
}

static int start(worker *w) {
  int result = walmap__image_decoder_header(&w->decoder, &w->why);
  if (result != WALMAP_OK)
    return result;
  uint32_t content = w->build->map->options.content;
  if (w->decoder.content != content) {
    snprintf(w->why.text, sizeof w->why.text, "image refused: its content number is %lu, this map's is %lu",
             (unsigned long)w->decoder.content, (unsigned long)content);
    return WALMAP_CORRUPT;
  }
  return make_generations(w->build, walmap__image_decoder_hint(&w->decoder), w->decoder.size);
}

static int build(worker *first, uint32_t n, walmap_why *why) {
  worker workers[MAX_WORKERS];
  worker *failed = NULL;
  first->result = start(first);
  workers[0] = *first;
  if (first->result == WALMAP_OK) {
    for (uint32_t i = 0; i < n; i++) {
      workers[i] = *first;
      workers[i].number = i;
      workers[i].n = n;
    }
    run_workers(workers, n);
  }
  for (uint32_t i = 0; i < (first->result == WALMAP_OK ? n : 1); i++) {
    walmap__image_decoder_stop(&workers[i].decoder);
    if (!failed && workers[i].result != WALMAP_OK)
      failed = &workers[i];
  }
  if (failed) {
    if (why)
      *why = failed->why;
    walmap__build_drop(first->build);
    return failed->result;
  }
  first->build->entries = workers[0].seen;
  return WALMAP_OK;
}

/* Those that this thread, and thus the workers, may run on: a container or taskset may leave fewer than there are. */
static size_t processors(void) {
#ifdef CPU_COUNT
  cpu_set_t allowed;
  if (sched_getaffinity(0, sizeof allowed, &allowed) == 0)
    return (size_t)CPU_COUNT(&allowed);
#endif
  long n = sysconf(_SC_NPROCESSORS_ONLN);
  return n > 0 ? (size_t)n : 1;
}

int walmap__build_from_memory(walmap__build *b, const void *image, size_t size, walmap_why *why) {
  worker first = {.build = b};
  walmap__image_decoder_start(&first.decoder, image, size);
  size_t n = size / WORTH_A_THREAD, most = processors();
  if (n > MAX_WORKERS)
    n = MAX_WORKERS;
  if (n > most)
    n = most;
  if (n > b->map->n_shards)
    n = b->map->n_shards;
  return build(&first, n > 0 ? (uint32_t)n : 1, why);
}

/* A stream has one reader. */
int walmap__build_from_stream(walmap__build *b, walmap_read_fn read, void *read_ctx, walmap_why *why) {
  worker first = {.build = b};
  walmap__image_decoder_start_read(&first.decoder, read, read_ctx);
  return build(&first, 1, why);
}
