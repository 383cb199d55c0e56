/* build.c - from an image to new generations of all shards (build.h) */
#define _GNU_SOURCE
#include "build.h"

#include <sched.h>
#include <stdio.h>
#include <unistd.h>

#define MAX_WORKERS 4
#define WORTH_A_THREAD ((size_t)8 << 20) /* bytes of image for each: ms of work, against some 50 us for a thread */

typedef struct worker {
  walmap__build *build;
  walmap__image_decoder decoder;
  uint32_t me, workers; /* its shards: those whose number is `me` modulo `workers` */
  uint64_t seen;        /* records, the others' too */
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
static int make_generations(walmap__build *b, uint64_t expected) {
  for (uint32_t i = 0; i < b->map->n_shards; i++) {
    walmap__shard *shard = &b->map->shards[i];
    b->generations[i] = walmap__generation_new(shard, walmap__shard_end(shard), expected / b->map->n_shards);
    if (!b->generations[i])
      return WALMAP_NOMEM;
  }
  return WALMAP_OK;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Records                                                                                                            */

/* A record on its way: its bucket is being fetched while the ones before it are added. */
typedef struct pending {
  walmap__image_record record;
  uint64_t hash, number;
  walmap__generation *g;
} pending;

enum { AHEAD = 32 };

/* False: another worker's. */
static bool take(worker *w, pending *p) {
  walmap *map = w->build->map;
  const walmap_entry *e = &p->record.entry;
  p->number = ++w->seen;
  p->hash = walmap__hash_of(map, e->key, e->key_len);
  uint32_t shard = walmap__shard_of(map, p->hash)->id;
  if (shard % w->workers != w->me)
    return false;
  p->g = w->build->generations[shard];
  walmap__index_prefetch(&p->g->index, p->hash);
  return true;
}

static int refuse(worker *w, const pending *p, const char *what) {
  snprintf(w->why.text, sizeof w->why.text, "image refused: entry %llu: %s", (unsigned long long)p->number, what);
  return WALMAP_CORRUPT;
}

static int add(worker *w, const pending *p) {
  const walmap__build *b = w->build;
  const walmap_entry *e = &p->record.entry;
  walmap__generation *g = p->g;
  const char *refused = b->check ? b->check(b->ctx, e) : NULL;
  if (refused)
    return refuse(w, p, refused);
  int result = walmap__log_reserve(&g->log, p->record.size);
  if (result == WALMAP_OK)
    result = walmap__index_reserve(&g->index, p->hash);
  if (result != WALMAP_OK)
    return result;
  uint32_t place;
  memcpy(walmap__log_append(&g->log, p->record.size, &place), p->record.bytes, p->record.size);
  if (!walmap__index_add_new(&g->index, p->hash, e->key, e->key_len, place)) {
    return refuse(w, p, "its key appears twice");
  }
  g->len++;
  return WALMAP_OK;
}

static int add_chunk(worker *w, walmap__image_chunk *chunk) {
  pending ring[AHEAD];
  uint32_t added = 0, taken = 0;
  int result;
  while ((result = walmap__image_record_next(chunk, &ring[taken % AHEAD].record, &w->why)) == WALMAP_OK) {
    if (!take(w, &ring[taken % AHEAD]))
      continue;
    if (++taken - added < AHEAD)
      continue;
    result = add(w, &ring[added++ % AHEAD]);
    if (result != WALMAP_OK)
      return result;
  }
  if (result != WALMAP_NOTFOUND)
    return result;
  for (result = WALMAP_OK; added < taken && result == WALMAP_OK; added++)
    result = add(w, &ring[added % AHEAD]);
  return result;
}

static void *add_chunks(void *arg) {
  worker *w = arg;
  walmap__image_chunk chunk;
  int result;
  while ((result = walmap__image_decoder_next(&w->decoder, &chunk, &w->why)) == WALMAP_OK) {
    result = add_chunk(w, &chunk);
    if (result != WALMAP_OK)
      break;
  }
  w->result = result == WALMAP_NOTFOUND ? WALMAP_OK : result;
  return NULL;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Workers                                                                                                            */

/* Each has a decoder of its own at the same place. The work of a thread that cannot be had is done here. */
static void run_workers(worker *workers, uint32_t n) {
  pthread_t threads[MAX_WORKERS];
  bool started[MAX_WORKERS] = {false};
  for (uint32_t i = 1; i < n; i++)
    started[i] = pthread_create(&threads[i], NULL, add_chunks, &workers[i]) == 0;
  for (uint32_t i = 0; i < n; i++) {
    if (!started[i])
      add_chunks(&workers[i]);
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
  return make_generations(w->build, walmap__image_decoder_hint(&w->decoder));
}

static int build(worker *first, uint32_t n, walmap_why *why) {
  worker workers[MAX_WORKERS];
  worker *failed = NULL;
  first->result = start(first);
  workers[0] = *first;
  if (first->result == WALMAP_OK) {
    for (uint32_t i = 0; i < n; i++) {
      workers[i] = *first;
      workers[i].me = i;
      workers[i].workers = n;
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
