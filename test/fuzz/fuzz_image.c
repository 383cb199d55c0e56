/*
** fuzz_image.c - images that nobody foresaw: all readers of them, and what they must agree on
**
**   make fuzz && build/test/fuzz/fuzz_image -max_total_time=60 [folder for the corpus]
**
** An input is one byte, the mode, and an image. Mode bit 0: the checksums are made right first, or nearly every input
** would end at the first of them. The other bits are the piece size of the stream. No corpus is kept: the mutator
** starts from images that the library makes, with all the record forms in them, and knows where the numbers are.
**
** Held for every input:
**   - reading in place and from a stream give the same result and the same number of entries (not the same text: in
**     place all checksums come before the first record, and an image may be wrong in several ways)
**   - what a reader refuses, restore refuses; a map that refused an image has its old content
**   - what was restored is what the reader saw, and its snapshot restores to the same
*/
#include "../core/image_kit.h"

/* ------------------------------------------------------------------------------------------------------------------ */
/* What must hold                                                                                                     */

static walmap *open_map(uint32_t content) {
  walmap_options options;
  walmap *map;
  walmap_options_init(&options);
  options.shards = 2;
  options.content = content;
  options.seed_given = true; /* an input's run should be the same each time */
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

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (size == 0)
    return 0;
  bytes image = {malloc(size - 1), size - 1}; /* of its exact size, for the sanitizer to see what lies beyond */
  MUST(image.data != NULL || size == 1);
  if (size > 1)
    memcpy(image.data, data + 1, size - 1);
  if (data[0] & 1)
    repair(image);
  check_image(image, data[0] >> 1);
  free(image.data);
  return 0;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Mutation                                                                                                           */

size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned int seed);

/* A fresh image, often with the same key twice only if it is long; 0 when it has no room. */
static size_t fresh_image(uint8_t *data, size_t max_size, uint64_t *random) {
  static const size_t longest[] = {3, 5, 255, 1022, 1024};
  bytes image = made_image(random_below(random, 3), random_below(random, 20), longest[random_below(random, 5)],
                           random_below(random, 5));
  size_t size = image.size + 1 <= max_size ? image.size + 1 : 0;
  if (size > 0)
    memcpy(data + 1, image.data, image.size);
  data[0] = (uint8_t)random_next(random);
  free(image.data);
  return size;
}

/* Sets one number, at a place where an image may have one, to one that may be trouble. */
static void set_number(uint8_t *image, size_t size, uint64_t *random) {
  static const uint64_t numbers[] = {0, 1, 2, 3, 4, 7, 8, 31, 32, 33, 1022, 1023, 1024, 0x3ffff, 0x40000};
  size_t at = random_below(random, (uint32_t)(size / 4)) * 4;
  uint64_t number = numbers[random_below(random, sizeof numbers / sizeof *numbers)];
  switch (random_below(random, 6)) {
  case 0:
    number = (uint64_t)1 << random_below(random, 64);
    break;
  case 1:
    number = ~number;
    break;
  case 2:
    number = image_load32(image + at) + number;
    break;
  case 3:
    number = image_load32(image + at) - number;
    break;
  case 4:
    number = (uint64_t)WALMAP__KEY_EXTENDED << WALMAP__VALUE_BITS;
    break;
  default:
    break;
  }
  if (random_below(random, 2) == 0 && at + 8 <= size)
    walmap__store64(image + at, number);
  else
    image_store32(image + at, (uint32_t)number);
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned int seed) {
  uint64_t random = seed;
  if (size <= 2 * IMAGE_BLOCK || random_below(&random, 50) == 0) {
    size_t fresh = fresh_image(data, max_size, &random);
    if (fresh > 0)
      return fresh;
  }
  if (size > IMAGE_BLOCK && random_below(&random, 2) == 0) {
    set_number(data + 1, size - 1, &random);
    return size;
  }
  return LLVMFuzzerMutate(data, size, max_size);
}
