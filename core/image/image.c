/* image.c - the functions of walmap.h for images that need no map: reading in place, building entry by entry */
#include "image/format.h"

/* ------------------------------------------------------------------------------------------------------------------ */
/* Reader                                                                                                             */

int walmap_image_open(walmap_image_reader *reader, const void *image, size_t size, walmap_why *why) {
  walmap__image_decoder decoder;
  walmap__image_chunk chunk;
  walmap__image_decoder_start(&decoder, image, size);
  int result = walmap__image_decoder_header(&decoder, why);
  while (result == WALMAP_OK)
    result = walmap__image_decoder_next(&decoder, &chunk, why);
  if (result == WALMAP_NOTFOUND) {
    const uint8_t *first = (const uint8_t *)image + IMAGE_BLOCK;
    *reader = (walmap_image_reader){.image = image,
                                    .size = size,
                                    .at = first,
                                    .chunk_end = first,
                                    .entries = decoder.entries,
                                    .content = decoder.content};
    result = WALMAP_OK;
  }
  walmap__image_decoder_stop(&decoder);
  return result;
}

/*
** Moves on to the next chunk: OK, or NOTFOUND at the trailer. walmap_image_open has verified the frame. The chunk's
** size is checked again, so that the reader stays within the image even if the caller has changed the image since: the
** chunk ends in the image, and its size is a multiple of 4, so a record that fits does so with its padding.
*/
static int next_chunk(const walmap_image_reader *reader, walmap__image_chunk *chunk) {
  size_t offset = (size_t)(chunk->end - reader->image), left = reader->size - offset;
  const uint8_t *frame = chunk->end;
  if (left < 2 * IMAGE_BLOCK || image_load32(frame + FRAME_TAG) != FRAME_TAG_VALUE)
    return WALMAP_NOTFOUND;
  uint64_t size = walmap__load64(frame + FRAME_SIZE);
  if (size > left - IMAGE_BLOCK || size % 4 != 0)
    return WALMAP_NOTFOUND;
  chunk->at = frame + IMAGE_BLOCK;
  chunk->end = chunk->at + size;
  chunk->offset = offset + IMAGE_BLOCK + size;
  chunk->records = image_load32(frame + FRAME_RECORDS);
  return WALMAP_OK;
}

int walmap_image_next(walmap_image_reader *reader, walmap_entry *entry, walmap_why *why) {
  walmap__image_chunk chunk = {.at = reader->at,
                               .end = reader->chunk_end,
                               .offset = (uint64_t)(reader->chunk_end - reader->image),
                               .records = (uint32_t)reader->chunk_left};
  walmap__image_record record;
  int result = walmap__image_record_next(&chunk, &record, why);
  if (result == WALMAP_NOTFOUND && (result = next_chunk(reader, &chunk)) == WALMAP_OK)
    result = walmap__image_record_next(&chunk, &record, why);
  if (result != WALMAP_OK)
    return result;
  reader->at = chunk.at;
  reader->chunk_end = chunk.end;
  reader->chunk_left = chunk.records;
  *entry = record.entry;
  return WALMAP_OK;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Builder: a writer in memory, under its public name                                                                 */

int walmap_image_builder_new(uint32_t content, walmap_image_builder **out) {
  return walmap__image_writer_new(content, NULL, NULL, 0, out);
}

int walmap_image_builder_add(walmap_image_builder *builder, const walmap_entry *entry) {
  return walmap__image_writer_add(builder, entry);
}

int walmap_image_builder_finish(walmap_image_builder *builder, void **image, size_t *size) {
  return walmap__image_writer_finish(builder, image, size);
}

void walmap_image_builder_abandon(walmap_image_builder *builder) { walmap__image_writer_abandon(builder); }
