/*
** restore.c - from an image to the content of a map, inside a transaction
**
** Each shard gets a new generation, built beside the present one, which readers do not know. When the whole image has proved
** good, the generations are linked; they are visible past the present tails, so the commit shows them and a
** rollback drops them (shard.h). Until then an error frees them, and nothing has happened.
*/
#include "image.h"
#include "txn.h"

#include <stdio.h>

typedef struct builder {
  walmap *map;
  walmap__generation *generations[WALMAP_MAX_SHARDS];
  walmap_check_fn check;
  void *ctx;
  uint64_t entries;
  walmap_why *why;
} builder;

static void drop(builder *b) {
  for (uint32_t i = 0; i < b->map->n_shards; i++) {
    if (b->generations[i]) walmap__generation_free(&b->map->memory, b->generations[i]);
  }
}

/* Tables that the building has outgrown go to the shard's limbo, though no reader knows them: it is their only way. */
static int make_generations(builder *b, uint64_t expected) {
  for (uint32_t i = 0; i < b->map->n_shards; i++) {
    walmap__shard *shard = &b->map->shards[i];
    b->generations[i] = walmap__generation_new(shard, walmap__shard_end(shard), expected / b->map->n_shards);
    if (!b->generations[i]) return WALMAP_NOMEM;
  }
  return WALMAP_OK;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Records                                                                                                            */

static int refuse(builder *b, const char *what) {
  if (b->why) {
    snprintf(b->why->text, sizeof b->why->text, "image refused: entry %llu: %s", (unsigned long long)b->entries + 1, what);
  }
  return WALMAP_CORRUPT;
}

/* A group of records goes through in steps, so that their cache misses overlap. */
enum { GROUP = 16 };

typedef struct pending {
  walmap__image_record record;
  uint64_t hash;
  walmap__generation *g;
} pending;

static void prefetch(builder *b, pending *p) {
  const walmap_entry *e = &p->record.entry;
  p->hash = walmap__hash_of(b->map, e->key, e->key_len);
  p->g = b->generations[walmap__shard_of(b->map, p->hash)->id];
  uint32_t mask;
  walmap__bucket *home = walmap__index_home(&p->g->index, p->hash, &mask);
  __builtin_prefetch(home + ((uint32_t)(p->hash >> 8) & mask), 1);
}

static int add(builder *b, const pending *p) {
  const walmap_entry *e = &p->record.entry;
  walmap__generation *g = p->g;
  const char *refused = b->check ? b->check(b->ctx, e) : NULL;
  if (refused) return refuse(b, refused);
  walmap__slot_ref slot;
  uint32_t place;
  if (walmap__index_find(&g->index, p->hash, e->key, e->key_len, &slot, &place)) {
    return refuse(b, "its key appears twice");
  }
  int result = walmap__log_reserve(&g->log, p->record.size);
  if (result == WALMAP_OK) result = walmap__index_reserve(&g->index, p->hash);
  if (result != WALMAP_OK) return result;
  memcpy(walmap__log_append(&g->log, p->record.size, &place), p->record.bytes, p->record.size);
  walmap__index_add(&g->index, p->hash, place);
  g->len++;
  b->entries++;
  return WALMAP_OK;
}

static int add_chunk(builder *b, walmap__image_chunk *chunk) {
  pending group[GROUP];
  for (;;) {
    int n = 0, result = WALMAP_OK;
    while (n < GROUP && (result = walmap__image_record_next(chunk, &group[n].record, b->why)) == WALMAP_OK) {
      prefetch(b, &group[n++]);
    }
    if (result != WALMAP_OK && result != WALMAP_NOTFOUND) return result;
    bool at_end = result == WALMAP_NOTFOUND;
    for (int i = 0; i < n; i++) {
      result = add(b, &group[i]);
      if (result != WALMAP_OK) return result;
    }
    if (at_end) return WALMAP_OK;
  }
}

static int build(builder *b, walmap__image_decoder *decoder) {
  int result = walmap__image_decoder_header(decoder, b->why);
  if (result != WALMAP_OK) return result;
  if (decoder->content != b->map->options.content) {
    if (b->why) {
      snprintf(b->why->text, sizeof b->why->text, "image refused: its content number is %lu, this map's is %lu",
               (unsigned long)decoder->content, (unsigned long)b->map->options.content);
    }
    return WALMAP_CORRUPT;
  }
  walmap__image_chunk chunk;
  while ((result = walmap__image_decoder_next(decoder, &chunk, b->why)) == WALMAP_OK) {
    result = add_chunk(b, &chunk);
    if (result != WALMAP_OK) return result;
  }
  return result == WALMAP_NOTFOUND ? WALMAP_OK : result;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Linking                                                                                                            */

/* A shard that was never written gets an empty generation first, for a rollback to come back to. */
static int mark_all(walmap_txn *txn) {
  for (uint32_t i = 0; i < txn->map->n_shards; i++) {
    walmap__shard *shard = &txn->map->shards[i];
    if (!walmap__shard_generation(shard)) {
      walmap__generation *empty = walmap__generation_new(shard, WALMAP__FIRST_POSITION - 1, 0);
      if (!empty) return WALMAP_NOMEM;
      atomic_store_explicit(&shard->generation, empty, memory_order_release);
    }
    int result = walmap__txn_mark(txn, shard);
    if (result != WALMAP_OK) return result;
  }
  return WALMAP_OK;
}

static void link_all(walmap_txn *txn, builder *b) {
  for (uint32_t i = 0; i < txn->map->n_shards; i++) {
    walmap__shard *shard = &txn->map->shards[i];
    b->generations[i]->previous = walmap__shard_generation(shard);
    atomic_store_explicit(&shard->generation, b->generations[i], memory_order_release);
    txn->shares[i].written++;
  }
}

static int restore(walmap_txn *txn, walmap__image_decoder *decoder, uint64_t expected, walmap_check_fn check, void *ctx,
                   uint64_t *entries, walmap_why *why) {
  builder b = {.map = txn->map, .check = check, .ctx = ctx, .why = why};
  int result = walmap__txn_own_all(txn);
  if (result == WALMAP_OK) result = make_generations(&b, expected);
  if (result == WALMAP_OK) result = build(&b, decoder);
  if (result == WALMAP_OK) result = mark_all(txn);
  walmap__image_decoder_stop(decoder);
  if (result != WALMAP_OK) {
    drop(&b);
    return result;
  }
  link_all(txn, &b);
  if (entries) *entries = b.entries;
  return WALMAP_OK;
}

int walmap_txn_restore(walmap_txn *txn, const void *image, size_t size, walmap_check_fn check, void *ctx,
                       uint64_t *entries, walmap_why *why) {
  walmap__image_decoder decoder;
  walmap__image_decoder_start(&decoder, image, size);
  return restore(txn, &decoder, walmap__image_decoder_hint(&decoder), check, ctx, entries, why);
}

int walmap_txn_restore_read(walmap_txn *txn, walmap_read_fn read, void *read_ctx, walmap_check_fn check, void *ctx,
                            uint64_t *entries, walmap_why *why) {
  walmap__image_decoder decoder;
  walmap__image_decoder_start_read(&decoder, read, read_ctx);
  return restore(txn, &decoder, 0, check, ctx, entries, why);
}

int walmap_restore(walmap *map, const void *image, size_t size, uint64_t *entries, walmap_why *why) {
  walmap_session *session = NULL;
  walmap_txn *txn = NULL;
  int result = walmap_session_new(NULL, NULL, &session);
  if (result == WALMAP_OK) result = walmap_txn_new(map, session, &txn);
  if (result == WALMAP_OK) {
    walmap_txn_begin(txn);
    result = walmap_txn_restore(txn, image, size, NULL, NULL, entries, why);
    if (result == WALMAP_OK) {
      walmap_txn_commit(txn);
    } else {
      walmap_txn_rollback(txn);
    }
  }
  walmap_txn_free(txn);
  walmap_session_free(session);
  return result;
}
