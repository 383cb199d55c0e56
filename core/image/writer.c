/*
** writer.c - writing an image, as FORMAT.md specifies it
**
** The writer has one open chunk at most, at the end of its block. The chunk's frame lies first, blank until the
** chunk is closed, because it needs the checksum of what follows.
**
**   in memory       | header | closed chunk | closed chunk | frame, records |      `used` is the end of the records
**   to a callback                                          | frame, records |      what was closed has left the block
**
** Chunks are small so that the checksum is taken while the bytes are still in the cache.
*/
#include "image/format.h"

#include <stdlib.h>

#define MAX_PIECE ((size_t)1 << 20) /* of what a write callback gets at once */

struct walmap_image_builder {
  walmap_write_fn write; /* NULL: in memory */
  void *write_ctx;
  walmap__image_block block;
  size_t used;      /* bytes of the block */
  size_t frame;     /* where the open chunk's frame is in it */
  bool open;        /* there is an open chunk */
  uint32_t records; /* in the open chunk */
  uint32_t chunks;  /* closed */
  uint64_t entries; /* in them */
  uint64_t sent;    /* bytes that have left the block, to the callback or by drop */
  uint64_t check;   /* of the last block */
  int result;       /* of what failed for good: after it no whole image can come */
};

/* Makes room for `size` more bytes in the block. */
static bool make_chunk_room(walmap__image_writer *writer, size_t size) {
  if (size <= writer->block.capacity - writer->used)
    return true;
  return size <= SIZE_MAX - writer->used && walmap__image_block_grow(&writer->block, writer->used + size);
}

static int emit_bytes(walmap__image_writer *writer, const uint8_t *bytes, size_t size) {
  writer->sent += size;
  while (size > 0 && writer->result == WALMAP_OK) {
    size_t piece = size < MAX_PIECE ? size : MAX_PIECE;
    if (writer->write(writer->write_ctx, bytes, piece) != 0)
      writer->result = WALMAP_IO;
    bytes += piece;
    size -= piece;
  }
  return writer->result;
}

/* Sends off the block, if there is a callback. */
static int flush_block(walmap__image_writer *writer) {
  if (writer->write == NULL)
    return writer->result;
  size_t size = writer->used;
  writer->used = 0;
  return emit_bytes(writer, writer->block.bytes, size);
}

/* Puts the check into a block, which is the image's next. */
static void seal_block(walmap__image_writer *writer, uint8_t *block) {
  writer->check = image_check(block, writer->check);
  walmap__store64(block + IMAGE_CHECK, writer->check);
}

static void put_header(walmap__image_writer *writer, uint32_t content) {
  uint8_t *header = writer->block.bytes;
  memcpy(header + HEADER_MAGIC, IMAGE_MAGIC, IMAGE_MAGIC_BYTES);
  image_store32(header + HEADER_VERSION, WALMAP_FORMAT_VERSION);
  image_store32(header + HEADER_FLAGS, 0);
  image_store32(header + HEADER_CONTENT, content);
  image_store32(header + HEADER_RESERVED, 0);
  seal_block(writer, header);
  writer->used = IMAGE_BLOCK;
}

static void put_frame(walmap__image_writer *writer, uint8_t *frame, uint32_t records, size_t size, uint64_t checksum) {
  image_store32(frame + FRAME_TAG, FRAME_TAG_VALUE);
  image_store32(frame + FRAME_RECORDS, records);
  walmap__store64(frame + FRAME_SIZE, size);
  walmap__store64(frame + FRAME_CHECKSUM, checksum);
  seal_block(writer, frame);
  writer->chunks++;
  writer->entries += records;
}

static void put_trailer(walmap__image_writer *writer) {
  uint8_t *trailer = writer->block.bytes + writer->used;
  writer->used += IMAGE_BLOCK;
  image_store32(trailer + TRAILER_TAG, TRAILER_TAG_VALUE);
  image_store32(trailer + TRAILER_CHUNKS, writer->chunks);
  walmap__store64(trailer + TRAILER_ENTRIES, writer->entries);
  walmap__store64(trailer + TRAILER_SIZE, writer->sent + writer->used);
  seal_block(writer, trailer);
}

/* Bytes of records in the open chunk. */
static size_t payload_bytes(const walmap__image_writer *writer) { return writer->used - writer->frame - IMAGE_BLOCK; }

/* Closes the open chunk, if there is one; one without records vanishes. */
static int close_chunk(walmap__image_writer *writer) {
  if (!writer->open)
    return writer->result;
  writer->open = false;
  if (payload_bytes(writer) == 0) {
    writer->used = writer->frame;
    return writer->result;
  }
  uint8_t *frame = writer->block.bytes + writer->frame;
  put_frame(writer, frame, writer->records, payload_bytes(writer),
            walmap__checksum(frame + IMAGE_BLOCK, payload_bytes(writer)));
  return flush_block(writer);
}

/* Makes room for `size` bytes of records in the open chunk, or in a new one when it would grow too large. */
static int open_chunk(walmap__image_writer *writer, size_t size) {
  if (writer->open && payload_bytes(writer) > 0 &&
      (size > WALMAP__IMAGE_CHUNK || payload_bytes(writer) > WALMAP__IMAGE_CHUNK - size))
    close_chunk(writer);
  if (writer->result != WALMAP_OK)
    return writer->result;
  size_t frame = writer->open ? 0 : IMAGE_BLOCK;
  if (size > SIZE_MAX - frame || !make_chunk_room(writer, frame + size))
    return WALMAP_NOMEM;
  if (!writer->open) {
    writer->open = true;
    writer->frame = writer->used;
    writer->used += IMAGE_BLOCK;
    writer->records = 0;
  }
  return WALMAP_OK;
}

int walmap__image_writer_reserve(walmap__image_writer *writer, size_t size, uint8_t **to) {
  int result = open_chunk(writer, size);
  if (result == WALMAP_OK)
    *to = writer->block.bytes + writer->used;
  return result;
}

void walmap__image_writer_commit(walmap__image_writer *writer, size_t size, uint32_t records) {
  writer->used += size;
  writer->records += records;
}

int walmap__image_writer_add(walmap__image_writer *writer, const walmap_entry *entry) {
  if (entry->key_len > WALMAP_MAX_LENGTH || entry->value_len > WALMAP_MAX_LENGTH)
    return WALMAP_TOOBIG;
  uint32_t flags = entry->expires != 0 ? WALMAP__EXPIRES : 0;
  const walmap__record_tail tail = {.expires = entry->expires < WALMAP_MAX_TIME ? entry->expires : WALMAP_MAX_TIME};
  size_t size = walmap__record_bytes(entry->key_len, entry->value_len, flags);
  int result = open_chunk(writer, size);
  if (result != WALMAP_OK)
    return result;
  uint8_t *value = walmap__record_write(writer->block.bytes + writer->used, size, entry->key, entry->key_len,
                                        entry->value_len, flags, &tail);
  if (entry->value_len > 0)
    memcpy(value, entry->value, entry->value_len);
  walmap__image_writer_commit(writer, size, 1);
  return WALMAP_OK;
}

int walmap__image_writer_new(uint32_t content, walmap_write_fn write, void *write_ctx, size_t expected,
                             walmap__image_writer **out) {
  walmap__image_writer *writer = calloc(1, sizeof(*writer));
  if (writer == NULL)
    return WALMAP_NOMEM;
  writer->write = write;
  writer->write_ctx = write_ctx;
  /* The blocks come on top of the records: header, trailer, and a frame for each half chunk at most. */
  size_t blocks = 2 * IMAGE_BLOCK + expected / (WALMAP__IMAGE_CHUNK / 2) * IMAGE_BLOCK;
  if (!walmap__image_block_grow(&writer->block, expected + blocks)) {
    walmap__image_writer_abandon(writer);
    return WALMAP_NOMEM;
  }
  put_header(writer, content);
  *out = writer;
  return WALMAP_OK;
}

void walmap__image_writer_closed(walmap__image_writer *writer, const uint8_t **bytes, size_t *size) {
  if (writer->open && payload_bytes(writer) >= WALMAP__IMAGE_CHUNK)
    close_chunk(writer);
  *bytes = writer->block.bytes;
  *size = writer->open ? writer->frame : writer->used;
}

void walmap__image_writer_drop(walmap__image_writer *writer) {
  size_t closed = writer->open ? writer->frame : writer->used;
  writer->used -= closed;
  writer->sent += closed;
  writer->frame = 0;
  memmove(writer->block.bytes, writer->block.bytes + closed, writer->used);
}

int walmap__image_writer_finish(walmap__image_writer *writer, void **image, size_t *size) {
  int result = close_chunk(writer);
  if (result == WALMAP_OK && !make_chunk_room(writer, IMAGE_BLOCK))
    result = WALMAP_NOMEM;
  if (result == WALMAP_OK) {
    put_trailer(writer);
    result = flush_block(writer);
  }
  if (result == WALMAP_OK && writer->write == NULL) {
    *size = writer->used;
    *image = walmap__image_block_give(&writer->block, writer->used);
  }
  walmap__image_writer_abandon(writer);
  return result;
}

void walmap__image_writer_abandon(walmap__image_writer *writer) {
  if (writer == NULL)
    return;
  walmap_image_free(writer->block.bytes);
  free(writer);
}
