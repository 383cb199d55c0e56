/*
** reader.c - reading an image: from memory or a stream to verified chunks, and chunks to records
**
** The input is hostile until it is checked, in the order that FORMAT.md gives under "What a reader checks". The reader
** allocates no memory for bytes that did not arrive.
*/
#include "base/why.h"
#include "image/format.h"

#include <inttypes.h>
#include <stdlib.h>

#define FIRST_BUFFER ((size_t)64 << 10)

/* ------------------------------------------------------------------------------------------------------------------ */
/* Errors                                                                                                             */

static int report_damage(walmap_why *why, uint64_t at, const char *what) {
  return walmap__explain(why, WALMAP_CORRUPT, "image damaged at byte %" PRIu64 ": %s", at, what);
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Input                                                                                                              */

/* Reads up to `size` bytes from the stream, less only at its end. */
static int read_stream(walmap__image_decoder *decoder, uint8_t *to, size_t size, size_t *got, walmap_why *why) {
  *got = 0;
  while (*got < size) {
    ptrdiff_t n = decoder->read(decoder->read_ctx, to + *got, size - *got);
    if (n == 0)
      break;
    if (n < 0 || (size_t)n > size - *got)
      return walmap__explain(why, WALMAP_IO, "the image's source failed at byte %" PRIu64, decoder->offset + *got);
    *got += (size_t)n;
  }
  return WALMAP_OK;
}

/* Sets *block to the block at decoder->offset: in memory, or read from the stream into `room`. *got: its bytes. */
static int take_block(walmap__image_decoder *decoder, uint8_t *room, const uint8_t **block, size_t *got,
                      walmap_why *why) {
  if (decoder->read != NULL) {
    *block = room;
    return read_stream(decoder, room, IMAGE_BLOCK, got, why);
  }
  size_t left = decoder->size - (size_t)decoder->offset;
  *block = decoder->image + decoder->offset;
  *got = left < IMAGE_BLOCK ? left : IMAGE_BLOCK;
  return WALMAP_OK;
}

/* Reads `size` bytes of records into the buffer, which grows no faster than they arrive. */
static int fill_buffer(walmap__image_decoder *decoder, uint64_t size, walmap_why *why) {
  size_t filled = 0, got;
  while (filled < size) {
    if (filled == decoder->capacity) {
      size_t larger = decoder->capacity == 0 ? FIRST_BUFFER : decoder->capacity * 2;
      uint8_t *buffer = larger < decoder->capacity ? NULL : realloc(decoder->buffer, larger);
      if (buffer == NULL)
        return WALMAP_NOMEM;
      decoder->buffer = buffer;
      decoder->capacity = larger;
    }
    size_t want = decoder->capacity - filled;
    if (want > size - filled)
      want = (size_t)(size - filled);
    int result = read_stream(decoder, decoder->buffer + filled, want, &got, why);
    if (result != WALMAP_OK)
      return result;
    filled += got;
    decoder->offset += got;
    if (got < want)
      return report_damage(why, decoder->offset, "it ends within a chunk");
  }
  return WALMAP_OK;
}

/* `size` bytes of records at decoder->offset, which moves on. */
static int take_records(walmap__image_decoder *decoder, uint64_t size, const uint8_t **records, walmap_why *why) {
  if (decoder->read != NULL) {
    int result = fill_buffer(decoder, size, why);
    *records = decoder->buffer;
    return result;
  }
  if (size > decoder->size - decoder->offset)
    return report_damage(why, decoder->size, "it ends within a chunk");
  *records = decoder->image + decoder->offset;
  decoder->offset += size;
  return WALMAP_OK;
}

/* Checks that the input ends where the image does. */
static int expect_end(walmap__image_decoder *decoder, walmap_why *why) {
  uint8_t extra;
  size_t got = 0;
  int result = WALMAP_OK;
  if (decoder->read != NULL)
    result = read_stream(decoder, &extra, 1, &got, why);
  else
    got = decoder->size - (size_t)decoder->offset;
  if (result == WALMAP_OK && got > 0)
    result = report_damage(why, decoder->offset, "it goes on behind its end");
  return result;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Blocks                                                                                                             */

/* Whether the block's check is right. If so, it becomes the seed of the next block's check. */
static bool check_block(walmap__image_decoder *decoder, const uint8_t *block) {
  uint64_t check = image_check(block, decoder->check);
  if (check != walmap__load64(block + IMAGE_CHECK))
    return false;
  decoder->check = check;
  return true;
}

int walmap__image_decoder_header(walmap__image_decoder *decoder, walmap_why *why) {
  uint8_t room[IMAGE_BLOCK];
  const uint8_t *header;
  size_t got;
  int result = take_block(decoder, room, &header, &got, why);
  if (result != WALMAP_OK)
    return result;
  if (got == 0)
    return walmap__explain(why, WALMAP_CORRUPT, "not a walmap image: it is empty");
  if (memcmp(header, IMAGE_MAGIC, got < IMAGE_MAGIC_BYTES ? got : IMAGE_MAGIC_BYTES) != 0)
    return walmap__explain(why, WALMAP_CORRUPT, "not a walmap image: it does not begin as one");
  if (got < IMAGE_BLOCK)
    return report_damage(why, got, "it ends within the header");
  uint32_t version = image_load32(header + HEADER_VERSION), flags = image_load32(header + HEADER_FLAGS);
  if (version != WALMAP_FORMAT_VERSION)
    return walmap__explain(why, WALMAP_CORRUPT, "image has format version %" PRIu32 ", this library reads version %d",
                           version, WALMAP_FORMAT_VERSION);
  if (!check_block(decoder, header))
    return report_damage(why, 0, "the header's check is wrong");
  if (flags != 0 || image_load32(header + HEADER_RESERVED) != 0)
    return walmap__explain(why, WALMAP_CORRUPT,
                           "image uses features that this library does not know (flags 0x%" PRIx32 ")", flags);
  decoder->content = image_load32(header + HEADER_CONTENT);
  decoder->offset = IMAGE_BLOCK;
  return WALMAP_OK;
}

static int read_trailer(walmap__image_decoder *decoder, const uint8_t *trailer, walmap_why *why) {
  if (image_load32(trailer + TRAILER_CHUNKS) != decoder->chunks)
    return report_damage(why, decoder->offset, "the trailer has another number of chunks");
  if (walmap__load64(trailer + TRAILER_ENTRIES) != decoder->entries)
    return report_damage(why, decoder->offset, "the trailer has another number of entries");
  if (walmap__load64(trailer + TRAILER_SIZE) != decoder->offset + IMAGE_BLOCK)
    return report_damage(why, decoder->offset, "the trailer has another size");
  decoder->offset += IMAGE_BLOCK;
  int result = expect_end(decoder, why);
  return result == WALMAP_OK ? WALMAP_NOTFOUND : result;
}

static int read_chunk(walmap__image_decoder *decoder, const uint8_t *frame, walmap__image_chunk *chunk,
                      walmap_why *why) {
  uint64_t size = walmap__load64(frame + FRAME_SIZE);
  uint32_t records = image_load32(frame + FRAME_RECORDS);
  if (records == 0 || size % 4 != 0 || size / WALMAP__RECORD_HEAD < records)
    return report_damage(why, decoder->offset, "a chunk of an impossible size");
  decoder->offset += IMAGE_BLOCK;
  int result = take_records(decoder, size, &chunk->at, why);
  if (result != WALMAP_OK)
    return result;
  chunk->end = chunk->at + size;
  chunk->offset = decoder->offset;
  chunk->checksum = walmap__load64(frame + FRAME_CHECKSUM);
  chunk->records = records;
  decoder->chunks++;
  decoder->entries += records;
  return WALMAP_OK;
}

int walmap__image_decoder_take(walmap__image_decoder *decoder, walmap__image_chunk *chunk, walmap_why *why) {
  uint8_t room[IMAGE_BLOCK];
  const uint8_t *block;
  size_t got;
  int result = take_block(decoder, room, &block, &got, why);
  if (result != WALMAP_OK)
    return result;
  if (got < IMAGE_BLOCK)
    return report_damage(why, decoder->offset + got, "it ends before its trailer");
  uint32_t tag = image_load32(block + FRAME_TAG);
  if (tag != FRAME_TAG_VALUE && tag != TRAILER_TAG_VALUE)
    return report_damage(why, decoder->offset, "neither a chunk nor the trailer");
  if (!check_block(decoder, block))
    return report_damage(why, decoder->offset, "the check is wrong, of a chunk's frame or the trailer");
  return tag == FRAME_TAG_VALUE ? read_chunk(decoder, block, chunk, why) : read_trailer(decoder, block, why);
}

int walmap__image_chunk_verify(const walmap__image_chunk *chunk, walmap_why *why) {
  size_t size = (size_t)(chunk->end - chunk->at);
  if (walmap__checksum(chunk->at, size) != chunk->checksum)
    return report_damage(why, chunk->offset - size - IMAGE_BLOCK, "a chunk's checksum is wrong");
  return WALMAP_OK;
}

int walmap__image_decoder_next(walmap__image_decoder *decoder, walmap__image_chunk *chunk, walmap_why *why) {
  int result = walmap__image_decoder_take(decoder, chunk, why);
  return result == WALMAP_OK ? walmap__image_chunk_verify(chunk, why) : result;
}

uint64_t walmap__image_decoder_hint(const walmap__image_decoder *decoder) {
  if (decoder->read != NULL || decoder->size < 2 * IMAGE_BLOCK)
    return 0;
  uint64_t entries = walmap__load64(decoder->image + decoder->size - IMAGE_BLOCK + TRAILER_ENTRIES);
  /* Keys differ, so all but one record have a byte of payload at least, padded to four. */
  uint64_t most = 1 + (decoder->size - 2 * IMAGE_BLOCK) / (WALMAP__RECORD_HEAD + 4);
  return entries < most ? entries : most;
}

void walmap__image_decoder_start(walmap__image_decoder *decoder, const void *image, size_t size) {
  *decoder = (walmap__image_decoder){.image = image != NULL ? image : (const uint8_t *)"", .size = size};
}

void walmap__image_decoder_start_read(walmap__image_decoder *decoder, walmap_read_fn read, void *read_ctx) {
  *decoder = (walmap__image_decoder){.read = read, .read_ctx = read_ctx};
}

void walmap__image_decoder_stop(walmap__image_decoder *decoder) {
  free(decoder->buffer);
  decoder->buffer = NULL;
  decoder->capacity = 0;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Records                                                                                                            */

bool walmap__image_record_extended(const walmap__image_chunk *chunk, walmap__image_record *record) {
  size_t left = (size_t)(chunk->end - chunk->at);
  if (left < WALMAP__EXTENDED_HEAD)
    return false;
  uint64_t head = walmap__load64(chunk->at);
  if ((head & ~(uint64_t)WALMAP__EXPIRES) != (uint64_t)WALMAP__KEY_EXTENDED << WALMAP__VALUE_BITS)
    return false;
  size_t tail = head & WALMAP__EXPIRES ? 8 : 0;
  uint64_t key_len = walmap__load64(chunk->at + WALMAP__RECORD_HEAD);
  uint64_t value_len = walmap__load64(chunk->at + WALMAP__RECORD_HEAD + 8);
  left -= WALMAP__EXTENDED_HEAD;
  if (tail > left)
    return false;
  left -= tail;
  if (key_len > WALMAP_MAX_LENGTH || value_len > WALMAP_MAX_LENGTH)
    return false;
  /* A chunk is a multiple of 4, and so is what is left of it: a payload that fits, fits with its padding. */
  if (!walmap__needs_extended(key_len, value_len) || key_len > left || value_len > left - key_len)
    return false;
  size_t payload = (size_t)(key_len + value_len), padded = (payload + 3) & ~(size_t)3;
  if (!walmap__image_padding_is_zero(chunk->at + WALMAP__EXTENDED_HEAD + padded, padded - payload))
    return false;
  record->entry.key = chunk->at + WALMAP__EXTENDED_HEAD;
  record->entry.key_len = (size_t)key_len;
  record->entry.value = chunk->at + WALMAP__EXTENDED_HEAD + key_len;
  record->entry.value_len = (size_t)value_len;
  record->entry.expires = 0;
  record->bytes = chunk->at;
  record->size = WALMAP__EXTENDED_HEAD + padded + tail;
  return tail == 0 || walmap__image_take_expires(chunk->at + WALMAP__EXTENDED_HEAD + padded, &record->entry);
}

void walmap__image_record_damage(const walmap__image_chunk *chunk, walmap_why *why) {
  size_t left = (size_t)(chunk->end - chunk->at);
  const char *what = "a record with wrong lengths, padding or expiry";
  if (left == 0)
    what = "the chunk has fewer records than it says";
  else if (chunk->records == 0)
    what = "the chunk has more in it than the records it says";
  else if (left < WALMAP__RECORD_HEAD)
    what = "a record does not fit into its chunk";
  else if ((walmap__load64(chunk->at) & ~WALMAP__IMAGE_META) != 0)
    what = "a record with marks that images do not have";
  (void)report_damage(why, chunk->offset - left, what);
}
