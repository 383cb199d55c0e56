/*
** unchunk.c - walmap_unchunk(n, chunk): the chunks of walmap_chunks, in any order, as an image for walmap_restore
**
** The chunks are kept apart, because together they may be longer than any BLOB. So the aggregate's result is a pointer
** (sqlite3_result_pointer), which only walmap_restore understands; every other function sees NULL.
**
** The aggregate does not restore the image itself, because SQLite also calls xFinal when the statement has failed,
** without a sign of that.
*/
#include "functions/functions.h"

#include <stdlib.h>
#include <string.h>

SQLITE_EXTENSION_INIT3

#define POINTER_TYPE "walmap_unchunk"

typedef struct chunk {
  sqlite3_int64 n;
  uint8_t *bytes; /* NULL when there are none */
  size_t size;
} chunk;

struct wm_chunks {
  chunk *list;
  size_t count, capacity;
  size_t present, offset; /* the chunk, and the byte in it, that is read next */
};

static void free_chunks(void *pointer) {
  wm_chunks *chunks = pointer;
  if (chunks == NULL)
    return;
  for (size_t i = 0; i < chunks->count; i++)
    sqlite3_free(chunks->list[i].bytes);
  sqlite3_free(chunks->list);
  sqlite3_free(chunks);
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Collecting                                                                                                         */

static bool add_chunk(wm_chunks *chunks, sqlite3_int64 n, const void *bytes, size_t size) {
  enum { FIRST_CAPACITY = 16 };
  if (chunks->count == chunks->capacity) {
    size_t capacity = chunks->capacity == 0 ? FIRST_CAPACITY : 2 * chunks->capacity;
    chunk *larger = sqlite3_realloc64(chunks->list, capacity * sizeof *larger);
    if (larger == NULL)
      return false;
    chunks->list = larger;
    chunks->capacity = capacity;
  }
  uint8_t *copy = sqlite3_malloc64(size); /* NULL for no bytes */
  if (size > 0) {
    if (copy == NULL)
      return false;
    memcpy(copy, bytes, size);
  }
  chunks->list[chunks->count++] = (chunk){n, copy, size};
  return true;
}

void wm_unchunk_step(sqlite3_context *context, int argc, sqlite3_value **argv) {
  (void)argc;
  wm_chunks **chunks = sqlite3_aggregate_context(context, sizeof *chunks);
  if (sqlite3_value_type(argv[0]) != SQLITE_INTEGER || sqlite3_value_type(argv[1]) != SQLITE_BLOB) {
    wm_functions_fail(
        context, SQLITE_MISMATCH,
        sqlite3_mprintf("walmap_unchunk: a row is not the number of a chunk, an integer, and the chunk, a "
                        "BLOB"));
    return;
  }
  if (chunks != NULL && *chunks == NULL && (*chunks = sqlite3_malloc(sizeof **chunks)) != NULL)
    memset(*chunks, 0, sizeof **chunks);
  const void *bytes = sqlite3_value_blob(argv[1]);
  size_t size = (size_t)sqlite3_value_bytes(argv[1]);
  if (chunks == NULL || *chunks == NULL || (bytes == NULL && size > 0) ||
      !add_chunk(*chunks, sqlite3_value_int64(argv[0]), bytes, size))
    sqlite3_result_error_nomem(context);
}

static int compare_chunks(const void *a, const void *b) {
  sqlite3_int64 left = ((const chunk *)a)->n, right = ((const chunk *)b)->n;
  return (left > right) - (left < right);
}

/* What is wrong with the numbers, which must be 1, 2, 3, ...; NULL if they are right. */
static char *check_numbers(const wm_chunks *chunks) {
  for (size_t i = 0; i < chunks->count; i++) {
    sqlite3_int64 expected = (sqlite3_int64)i + 1, n = chunks->list[i].n;
    if (n > expected)
      return sqlite3_mprintf("walmap_unchunk: chunk %lld is missing", expected);
    if (n < expected)
      return n < 1 ? sqlite3_mprintf("walmap_unchunk: there is a chunk %lld, but the first one is 1", n)
                   : sqlite3_mprintf("walmap_unchunk: chunk %lld comes twice", n);
  }
  return NULL;
}

/* Called for every group, also when the statement fails midway. A group without rows is NULL. */
void wm_unchunk_final(sqlite3_context *context) {
  wm_chunks **context_of = sqlite3_aggregate_context(context, 0);
  wm_chunks *chunks = context_of != NULL ? *context_of : NULL;
  if (chunks == NULL)
    return;
  if (chunks->count > 0)
    qsort(chunks->list, chunks->count, sizeof *chunks->list, compare_chunks);
  char *wrong = check_numbers(chunks);
  if (wrong == NULL) {
    sqlite3_result_pointer(context, chunks, POINTER_TYPE, free_chunks);
    return;
  }
  free_chunks(chunks);
  wm_functions_fail(context, SQLITE_MISMATCH, wrong);
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Reading                                                                                                            */

wm_chunks *wm_unchunk_start(sqlite3_value *value) {
  wm_chunks *chunks = sqlite3_value_pointer(value, POINTER_TYPE);
  if (chunks != NULL)
    chunks->present = chunks->offset = 0;
  return chunks;
}

ptrdiff_t wm_unchunk_read(void *ctx, void *buffer, size_t size) {
  wm_chunks *chunks = ctx;
  while (chunks->present < chunks->count && chunks->offset == chunks->list[chunks->present].size) {
    chunks->present++;
    chunks->offset = 0;
  }
  if (chunks->present == chunks->count)
    return 0;
  const chunk *present = &chunks->list[chunks->present];
  size_t piece = present->size - chunks->offset < size ? present->size - chunks->offset : size;
  memcpy(buffer, present->bytes + chunks->offset, piece);
  chunks->offset += piece;
  return (ptrdiff_t)piece;
}
