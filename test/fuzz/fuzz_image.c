/*
** fuzz_image.c - attacks: an image is read as a whole or refused as a whole, whatever bytes it has
**
** An input is one byte, the mode, and an image. Mode bit 0: the checksums are made right first, or nearly every input
** would end at the first of them. The other bits are the piece size of the stream.
**
** Held for every input:
**   - reading in place and from a stream give the same result and the same number of entries (not the same text: in
**     place all checksums come before the first record, and an image may be wrong in several ways)
**   - what a reader refuses, restore refuses; a map that refused an image has its old content
**   - what was restored is what the reader saw, and its snapshot restores to the same
*/
#include "image_mutator.h"

/* ------------------------------------------------------------------------------------------------------------------ */
/* What must hold                                                                                                     */

static walmap *open_map(uint32_t content) {
  walmap_options options;
  walmap *map;
  walmap_options_init(&options);
  options.shards = 2;
  options.content = content;
  options.seed_given = true; /* an input's run should be the same each time */
  options.clock = no_time;
  MUST_OK(walmap_open(&options, &map));
  return map;
}

/* Every entry of the image, which has been read without error, is in the map. */
static void must_have_all(walmap *map, bytes image) {
  walmap_image_reader reader;
  walmap_entry entry, found;
  walmap_state *state;
  MUST_OK(walmap_state_new(map, &state));
  MUST_OK(walmap_state_begin(state));
  MUST_OK(walmap_image_open(&reader, image.data, image.size, NULL));
  MUST(walmap_len(map) == reader.entries);
  while (walmap_image_next(&reader, &entry, NULL) == WALMAP_OK) {
    MUST_OK(walmap_state_get(state, entry.key, entry.key_len, &found));
    MUST(same_entry(&entry, &found));
  }
  walmap_state_free(state);
}

static void must_survive_snapshot(walmap *map, bytes image, uint32_t content) {
  void *again;
  size_t size;
  walmap *other = open_map(content);
  MUST_OK(walmap_snapshot(map, &again, &size));
  MUST_OK(walmap_restore(other, again, size, NULL, NULL));
  must_have_all(other, image);
  walmap_image_free(again);
  walmap_close(other);
}

static void check_image(bytes image, size_t piece) {
  walmap_why in_place = {""}, streamed = {""}, restored = {""};
  uint64_t entries = 0, entries_streamed = 0, entries_restored = 0;
  source from = {.all = image, .piece = piece};
  int rc = read_in_place(image, &entries, &in_place);
  MUST(rc == WALMAP_OK || rc == WALMAP_CORRUPT);
  MUST_RESULT(read_stream_of(&from, &entries_streamed, &streamed), rc);
  MUST((in_place.text[0] != 0) == (rc != WALMAP_OK) && (streamed.text[0] != 0) == (rc != WALMAP_OK));
  MUST(rc != WALMAP_OK || entries == entries_streamed);

  uint32_t content = image.size < IMAGE_BLOCK ? 0 : image_load32(image.data + HEADER_CONTENT);
  walmap *map = open_map(content);
  char value[8];
  size_t len;
  MUST_OK(walmap_set(map, "own", 3, "content", 7));
  int rc_restore = walmap_restore(map, image.data, image.size, &entries_restored, &restored);
  if (rc_restore == WALMAP_OK) {
    MUST(rc == WALMAP_OK && entries == entries_restored);
    must_have_all(map, image);
    must_survive_snapshot(map, image, content);
  } else {
    MUST(rc_restore == WALMAP_CORRUPT && restored.text[0] != 0);
    MUST(rc == WALMAP_CORRUPT || strstr(restored.text, "twice") != NULL);
    MUST(walmap_len(map) == 1);
    MUST_OK(walmap_get(map, "own", 3, value, sizeof value, &len));
    MUST(len == 7 && memcmp(value, "content", 7) == 0);
  }
  walmap_close(map);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (size == 0)
    return 0;
  bytes image = exact_input(data, size);
  if (data[0] & 1)
    repair(image);
  check_image(image, data[0] >> 1);
  free(image.data);
  return 0;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Mutation                                                                                                           */

/* Often with the same key twice, but only if it is long. */
static bytes fresh_image(uint64_t *random) {
  static const size_t longest[] = {3, 5, 255, 1022, 1024};
  uint32_t content = random_below(random, 3), entries = random_below(random, 20), chosen = random_below(random, 5);
  return made_image(content, entries, longest[chosen], random_below(random, 5));
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned int seed) {
  return mutate_image(data, size, max_size, seed, fresh_image);
}
