/*
** image.h - writing and reading images (internal)
**
** FORMAT.md specifies the bytes. Each part has a file:
**
**   block.c    memory for an image, which grows without a copy and is handed over whole
**   writer.c   entries, or log records as they are, to an image; in memory or to a callback
**   reader.c   an image, from memory or a stream, to verified chunks and records
**   image.c    the functions of walmap.h for images that need no map: reader and builder
**
** Writing the image of a state:
**
**   walmap__image_writer *w;
**   result = walmap__image_writer_new(content, write, ctx, expected_bytes, &w); write NULL: in memory
**   for each run of records, or entry:
**     either  result = walmap__image_writer_reserve(w, n, &to);
**             ... copy at most n bytes of whole records to `to`, mend them there ...
**             walmap__image_writer_commit(w, bytes, records);
**     or      result = walmap__image_writer_add(w, &entry);
**   result = walmap__image_writer_finish(w, &image, &size);                     or walmap__image_writer_abandon(w)
**
** Committed records must have the form that FORMAT.md gives: `next`, bit 26, bits 28 to 31 and the padding are 0, and
** there is neither tag nor `prev`.
**
** Reading one, chunk by chunk:
**
**   walmap__image_decoder d;
**   walmap__image_decoder_start(&d, image, size);  or  walmap__image_decoder_start_read(&d, read, ctx);
**   result = walmap__image_decoder_header(&d, why);                             d.content is valid now
**   while ((result = walmap__image_decoder_next(&d, &chunk, why)) == WALMAP_OK)
**     while ((result = walmap__image_record_next(&chunk, &record, why)) == WALMAP_OK)
**       ... record.entry, record.bytes, record.size ...                         NOTFOUND: the chunk's proper end
**   result == WALMAP_NOTFOUND: trailer and end of input are verified, d.entries is the total
**   walmap__image_decoder_stop(&d);                                             always; frees the buffer
*/
#ifndef WALMAP_IMAGE_H
#define WALMAP_IMAGE_H

#include "shard/record.h"

/* The payload, in bytes, at which the writer begins a new chunk: it stays in a core's cache. */
#define WALMAP__IMAGE_CHUNK ((size_t)256 << 10)

/* ------------------------------------------------------------------------------------------------------------------ */
/* block.c: memory for an image                                                                                 */

/* Begins as {0}: `bytes` is NULL until the first grow. Ends by walmap__image_block_give or walmap_image_free. */
typedef struct walmap__image_block {
  uint8_t *bytes;
  size_t capacity;
} walmap__image_block;

/* Makes the capacity at least `capacity` and keeps the bytes, which may move. False: no memory, nothing changed. */
bool walmap__image_block_grow(walmap__image_block *block, size_t capacity);

/* Frees the memory behind the first `used` bytes and hands over these, for walmap_image_free. Cannot fail. */
void *walmap__image_block_give(walmap__image_block *block, size_t used);

/* ------------------------------------------------------------------------------------------------------------------ */
/* writer.c                                                                                                     */

typedef struct walmap_image_builder walmap__image_writer; /* what walmap.h calls a builder */

/*
** `write` NULL: the image grows in memory, with room for `expected` bytes of records asked for at once (an upper bound
** costs nothing but address space); otherwise pieces of at most 1 MiB go to `write`, and the writer holds one chunk.
** Errors: NOMEM.
*/
int walmap__image_writer_new(uint32_t content, walmap_write_fn write, void *write_ctx, size_t expected,
                             walmap__image_writer **out);

/* Errors: NOMEM, IO, TOOBIG; then nothing was added. After IO the writer can only be abandoned. */
int walmap__image_writer_add(walmap__image_writer *writer, const walmap_entry *entry);

/*
** Sets *to to room for `size` bytes where the next records go (and, in memory, stay), valid until the next call. One
** commit may follow, of whole records and at most `size` bytes. A commit larger than a chunk becomes a chunk of its
** own. Errors: NOMEM, IO.
*/
int walmap__image_writer_reserve(walmap__image_writer *writer, size_t size, uint8_t **to);
void walmap__image_writer_commit(walmap__image_writer *writer, size_t size, uint32_t records);

/*
** For a writer in memory whose image is fetched piece by piece. closed: the final bytes at the front of the image,
** valid until the next call. drop: frees these bytes; the bytes behind them stay.
*/
void walmap__image_writer_closed(walmap__image_writer *writer, const uint8_t **bytes, size_t *size);
void walmap__image_writer_drop(walmap__image_writer *writer);

/*
** Writes the trailer and frees the writer, also on an error. In memory it sets *image (free it with walmap_image_free)
** and *size; with a write callback both may be NULL. Errors: NOMEM, IO.
*/
int walmap__image_writer_finish(walmap__image_writer *writer, void **image, size_t *size);
void walmap__image_writer_abandon(walmap__image_writer *writer); /* NULL is allowed */

/* ------------------------------------------------------------------------------------------------------------------ */
/* reader.c                                                                                                     */

typedef struct walmap__image_decoder {
  walmap_read_fn read; /* NULL: from memory */
  void *read_ctx;
  const uint8_t *image; /* memory: all of it */
  size_t size;          /* memory: its bytes */
  uint8_t *buffer;      /* stream: the present chunk's records */
  size_t capacity;      /* stream: bytes of the buffer */
  uint64_t offset;      /* in the image: of the next block */
  uint64_t check;       /* of the last block, the seed of the next one's */
  uint64_t entries;     /* in the chunks so far */
  uint32_t chunks;      /* so far */
  uint32_t content;
} walmap__image_decoder;

/* A chunk. Verifying it checks its checksum; its records are checked one by one as they are walked. */
typedef struct walmap__image_chunk {
  const uint8_t *at, *end;
  uint64_t offset;   /* in the image: of `end`, for error texts */
  uint64_t checksum; /* as the frame has it */
  uint32_t records;  /* left to walk */
} walmap__image_chunk;

typedef struct walmap__image_record {
  walmap_entry entry;
  const uint8_t *bytes; /* the record as it lies in the image: in a log's form too */
  size_t size;          /* with the padding */
} walmap__image_record;

/* These cannot fail: the first error comes from walmap__image_decoder_header. `why` may be NULL in all that follow. */
void walmap__image_decoder_start(walmap__image_decoder *decoder, const void *image, size_t size);
void walmap__image_decoder_start_read(walmap__image_decoder *decoder, walmap_read_fn read, void *read_ctx);
void walmap__image_decoder_stop(walmap__image_decoder *decoder);

/*
** How many entries to expect: the trailer's number, not verified, but no more than the image has bytes for. 0 from a
** stream, whose end is not known.
*/
uint64_t walmap__image_decoder_hint(const walmap__image_decoder *decoder);

/* Reads and verifies the header. OK, CORRUPT, IO. */
int walmap__image_decoder_header(walmap__image_decoder *decoder, walmap_why *why);

/*
** The next chunk, verified: from memory in place, from a stream in the decoder's buffer until the next call.
** OK; NOTFOUND when the trailer and the end of the input are verified; CORRUPT, IO, NOMEM.
*/
int walmap__image_decoder_next(walmap__image_decoder *decoder, walmap__image_chunk *chunk, walmap_why *why);

/* The same in two steps. The second needs no decoder, so several threads can verify chunks. */
int walmap__image_decoder_take(walmap__image_decoder *decoder, walmap__image_chunk *chunk, walmap_why *why);
int walmap__image_chunk_verify(const walmap__image_chunk *chunk, walmap_why *why); /* OK or CORRUPT */

/* Says what is wrong with the record at chunk->at. */
void walmap__image_record_damage(const walmap__image_chunk *chunk, walmap_why *why);

/* Takes apart a record with 64-bit lengths, leaving it on the chunk; false when it is damaged. */
bool walmap__image_record_extended(const walmap__image_chunk *chunk, walmap__image_record *record);

/* What a record's first 8 bytes may have in an image: meta, but for the bits of a running map; and no `next`. */
#define WALMAP__IMAGE_META ((uint64_t)(((uint32_t)1 << 26) - 1) | WALMAP__EXPIRES)

/* Whether the last `n` bytes, 0 to 3, before `end` are zero; at least 4 bytes lie before `end`. */
static inline bool walmap__image_padding_is_zero(const uint8_t *end, size_t n) {
  uint32_t word;
  memcpy(&word, end - 4, 4);
  return (uint64_t)WALMAP__LE32(word) >> 8 * (4 - n) == 0;
}

/* False when it is none that an image may have. */
static inline bool walmap__image_take_expires(const uint8_t *at, walmap_entry *entry) {
  entry->expires = walmap__load64(at);
  return entry->expires != 0 && entry->expires <= WALMAP_MAX_TIME;
}

/*
** Takes the next record off the chunk. OK; NOTFOUND when all are taken and the chunk ends there; CORRUPT. Checks all
** that FORMAT.md asks of a record. It is inline because a restore walks every record through it; rare paths get copies
** of chunk and record, so that the frequent path can hold them in registers.
*/
static WALMAP__ALWAYS_INLINE int walmap__image_record_next(walmap__image_chunk *chunk, walmap__image_record *record,
                                                           walmap_why *why) {
  walmap__image_chunk copy;
  size_t left = (size_t)(chunk->end - chunk->at);
  if (chunk->records == 0 && left == 0)
    return WALMAP_NOTFOUND;
  if (chunk->records == 0 || left < WALMAP__RECORD_HEAD)
    goto damaged;
  uint64_t head = walmap__load64(chunk->at); /* meta, and next above it */
  if (WALMAP__UNLIKELY(walmap__meta_extended((uint32_t)head))) {
    walmap__image_record extended;
    copy = *chunk;
    if (!walmap__image_record_extended(&copy, &extended))
      goto damaged;
    *record = extended;
  } else {
    size_t value_len = (size_t)(head & (((uint32_t)1 << WALMAP__VALUE_BITS) - 1));
    size_t key_len = (size_t)(head >> WALMAP__VALUE_BITS & WALMAP__KEY_EXTENDED);
    size_t payload = key_len + value_len, padded = (payload + 3) & ~(size_t)3;
    size_t tail = head >> 24 & 8; /* EXPIRES is worth 8 */
    if ((head & ~WALMAP__IMAGE_META) != 0 || padded + tail > left - WALMAP__RECORD_HEAD ||
        !walmap__image_padding_is_zero(chunk->at + WALMAP__RECORD_HEAD + padded, padded - payload))
      goto damaged;
    record->entry.key = chunk->at + WALMAP__RECORD_HEAD;
    record->entry.key_len = key_len;
    record->entry.value = chunk->at + WALMAP__RECORD_HEAD + key_len;
    record->entry.value_len = value_len;
    record->entry.expires = 0;
    record->bytes = chunk->at;
    record->size = WALMAP__RECORD_HEAD + padded + tail;
    if (WALMAP__UNLIKELY(tail != 0) &&
        !walmap__image_take_expires(chunk->at + WALMAP__RECORD_HEAD + padded, &record->entry))
      goto damaged;
  }
  chunk->at += record->size;
  chunk->records--;
  return WALMAP_OK;
damaged:
  copy = *chunk;
  walmap__image_record_damage(&copy, why);
  return WALMAP_CORRUPT;
}

#endif
