/*
** test_image_damage.c - images that are damaged, forged, or come from a bad source, read without a map
**
** Accidents (bits, cuts, additions, chunks in disorder) are found by the checksums, all of them, by exhaustive loops.
** Forgeries have right checksums and wrong content: each rule of "What a reader checks" in core/FORMAT.md has one here,
** and its error names the right place.
*/
#include "../common/image_kit.h"

#include <sys/mman.h>
#include <unistd.h>

/* ------------------------------------------------------------------------------------------------------------------ */
/* Accidents                                                                                                          */

/* Both readers refuse it, with a text; the stream in pieces of several sizes. */
static void must_refuse(void *ctx, bytes damaged, const char *what, size_t where) {
  size_t *count = ctx;
  uint64_t entries;
  walmap_why why = {""};
  bool refused = read_in_place(damaged, &entries, &why) == WALMAP_CORRUPT && why.text[0] != 0;
  for (size_t piece = 0; piece < 3 && refused; piece++) {
    source from = {.all = damaged, .piece = piece * 32, .random = where};
    why.text[0] = 0;
    refused = read_stream_of(&from, &entries, &why) == WALMAP_CORRUPT && why.text[0] != 0;
  }
  if (!refused) {
    fprintf(stderr, "accepted: %s, %zu, of an image of %zu bytes\n", what, where, damaged.size);
    abort();
  }
  ++*count;
}

static void for_small_images(void (*each)(bytes image, damage_fn damage, void *ctx), size_t at_least) {
  size_t count = 0;
  bytes images[] = {made_image(0, 0, 0, 0), made_image(1, 1, 0, 0), made_image(2, 12, 4, 5),
                    made_image(3, 12, 1023, 4)};
  for (size_t i = 0; i < sizeof images / sizeof *images; i++) {
    each(images[i], must_refuse, &count);
    free(images[i].data);
  }
  assert_true(count >= at_least);
}

static void test_flipped_bits(void **unused) {
  (void)unused;
  for_small_images(each_flipped_bit, 10000);
}

static void test_cuts(void **unused) {
  (void)unused;
  for_small_images(each_cut, 1000);
}

static void test_appended_bytes(void **unused) {
  (void)unused;
  for_small_images(each_appended_byte, 1024);
}

static void test_shuffled_chunks(void **unused) {
  (void)unused;
  size_t count = 0;
  bytes image = made_image(9, 12, 5, 1); /* 12 chunks */
  each_shuffled_chunk(image, must_refuse, &count);
  assert_int_equal(count, 12 * 2 + 12 * 11 / 2);
  free(image.data);
}

/* Two chunks of the same bytes: only their addresses in the chain tell them apart. */
static void test_equal_chunks(void **unused) {
  (void)unused;
  walmap__image_writer *writer;
  size_t count = 0;
  MUST_OK(walmap__image_writer_new(0, NULL, NULL, 0, &writer));
  for (int i = 0; i < 3; i++) {
    cut_chunk(writer);
    MUST_OK(walmap__image_writer_add(writer, &(walmap_entry){"same", 4, "same", 4}));
  }
  bytes image = finish(writer);
  each_shuffled_chunk(image, must_refuse, &count);
  assert_int_equal(count, 3 * 2 + 3);
  free(image.data);
}

/* A chunk of another image, which is right in itself. */
static void test_foreign_chunk(void **unused) {
  (void)unused;
  size_t count = 0, at[8];
  bytes one = made_image(1, 3, 4, 1), two = made_image(2, 3, 4, 1);
  assert_int_equal(find_blocks(one, at, 8), 5);
  assert_int_equal(one.size, two.size);
  memcpy(one.data + at[2], two.data + at[2], at[3] - at[2]);
  must_refuse(&count, one, "foreign chunk", 2);
  free(one.data);
  free(two.data);
}

static void test_garbage(void **unused) {
  (void)unused;
  uint8_t noise[4096];
  uint64_t random = announce_seed("test_image_damage");
  size_t count = 0;
  for (int round = 0; round < 1000; round++) {
    for (size_t i = 0; i < sizeof noise; i++)
      noise[i] = (uint8_t)random_next(&random);
    if (round % 2 == 1)
      memcpy(noise, IMAGE_MAGIC "\1\0\0\0\0\0\0\0", 16);
    if (round % 4 == 3)
      repair((bytes){noise, sizeof noise});
    must_refuse(&count, (bytes){noise, random_below(&random, sizeof noise)}, "garbage", (size_t)round);
  }
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Texts                                                                                                              */

static void assert_why(bytes image, const char *expected) {
  walmap_why why = {""};
  uint64_t entries;
  source from = {.all = image, .piece = 5};
  assert_int_equal(read_in_place(image, &entries, &why), WALMAP_CORRUPT);
  assert_string_equal(why.text, expected);
  assert_int_equal(read_in_place(image, &entries, NULL), WALMAP_CORRUPT); /* `why` may be NULL */
  assert_int_equal(read_stream_of(&from, &entries, &why), WALMAP_CORRUPT);
  assert_string_equal(why.text, expected);
}

static void test_texts(void **unused) {
  (void)unused;
  bytes image = bytes_from_hex("core/FORMAT.md", "## Worked example");
  assert_why((bytes){NULL, 0}, "not a walmap image: it is empty");
  assert_why((bytes){(uint8_t *)"hello, world", 12}, "not a walmap image: it does not begin as one");
  assert_why((bytes){image.data, 8}, "image damaged at byte 8: it ends within the header");
  assert_why((bytes){image.data, 50}, "image damaged at byte 50: it ends before its trailer");
  assert_why((bytes){image.data, 70}, "image damaged at byte 70: it ends within a chunk");
  assert_why((bytes){image.data, 101}, "image damaged at byte 101: it ends before its trailer");
  assert_why((bytes){image.data, 100}, "image damaged at byte 100: it ends before its trailer");
  image.data[17] ^= 1;
  assert_why(image, "image damaged at byte 0: the header's check is wrong");
  image.data[17] ^= 1;
  image.data[32] ^= 1;
  assert_why(image, "image damaged at byte 32: neither a chunk nor the trailer");
  image.data[32] ^= 1;
  image.data[40] ^= 4;
  assert_why(image, "image damaged at byte 32: the check is wrong, of a chunk's frame or the trailer");
  image.data[40] ^= 4;
  image.data[75] ^= 1;
  assert_why(image, "image damaged at byte 32: a chunk's checksum is wrong");
  image.data[75] ^= 1;
  image.data[108] ^= 1;
  assert_why(image, "image damaged at byte 100: the check is wrong, of a chunk's frame or the trailer");
  image.data[108] ^= 1;
  bytes longer = bytes_copy(image.data, image.size);
  longer.data[longer.size++] = 0;
  assert_why(longer, "image damaged at byte 132: it goes on behind its end");
  free(longer.data);
  free(image.data);
}

/* ------------------------------------------------------------------------------------------------------------------ */
/*
** Forgeries of the worked example: the words at some addresses changed, the checksums right
*/

typedef struct change {
  size_t at, bytes; /* 4 or 8; 0 ends the list */
  uint64_t value;
} change;

static void assert_forged(const change *changes, const char *expected) {
  bytes image = bytes_from_hex("core/FORMAT.md", "## Worked example");
  for (; changes->bytes > 0; changes++) {
    if (changes->bytes == 4)
      image_store32(image.data + changes->at, (uint32_t)changes->value);
    if (changes->bytes == 8)
      walmap__store64(image.data + changes->at, changes->value);
  }
  repair(image);
  assert_why(image, expected);
  free(image.data);
}
#define FORGED(expected, ...) assert_forged((const change[]){__VA_ARGS__, {0, 0, 0}}, expected)

static void test_forged_header(void **unused) {
  (void)unused;
  FORGED("image has format version 0, this library reads version 1", {8, 4, 0});
  FORGED("image has format version 2, this library reads version 1", {8, 4, 2});
  FORGED("image has format version 4294967295, this library reads version 1", {8, 4, UINT32_MAX});
  FORGED("image uses features that this library does not know (flags 0x1)", {12, 4, 1});
  FORGED("image uses features that this library does not know (flags 0x80000000)", {12, 4, 0x80000000u});
  FORGED("image uses features that this library does not know (flags 0x0)", {20, 4, 1});
}

static void test_forged_frame(void **unused) {
  (void)unused;
  static const uint64_t impossible[] = {0, 1, 4, 8, 12, 35, 37, 0x7fffffff, 0x80000001, UINT64_MAX};
  static const uint64_t beyond[] = {72,
                                    100,
                                    0x7ffffffc,
                                    0x80000000,
                                    0xfffffffc,
                                    0x100000000,
                                    0x7ffffffffffffffc,
                                    (uint64_t)1 << 63,
                                    UINT64_MAX - 3,
                                    UINT64_MAX - 63};
  for (size_t i = 0; i < sizeof impossible / sizeof *impossible; i++)
    FORGED("image damaged at byte 32: a chunk of an impossible size", {40, 8, impossible[i]});
  for (size_t i = 0; i < sizeof beyond / sizeof *beyond; i++)
    FORGED("image damaged at byte 132: it ends within a chunk", {40, 8, beyond[i]});
  FORGED("image damaged at byte 32: a chunk of an impossible size", {36, 4, 0});
  FORGED("image damaged at byte 32: a chunk of an impossible size", {36, 4, 5});
  FORGED("image damaged at byte 32: a chunk of an impossible size", {36, 4, UINT32_MAX});
  FORGED("image damaged at byte 80: the chunk has more in it than the records it says", {36, 4, 1}, {108, 8, 1});
  FORGED("image damaged at byte 100: the chunk has fewer records than it says", {36, 4, 3}, {108, 8, 3});
  FORGED("image damaged at byte 32: neither a chunk nor the trailer", {32, 4, 0});
}

static void test_forged_trailer(void **unused) {
  (void)unused;
  static const uint64_t numbers[] = {0,         3, 131, 133, (uint64_t)1 << 31, (uint64_t)1 << 32, (uint64_t)1 << 63,
                                     UINT64_MAX};
  for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
    FORGED("image damaged at byte 100: the trailer has another number of chunks", {104, 4, (uint32_t)numbers[i] ^ 4});
    FORGED("image damaged at byte 100: the trailer has another number of entries", {108, 8, numbers[i]});
    FORGED("image damaged at byte 100: the trailer has another size", {116, 8, numbers[i]});
  }
}

static void test_forged_record(void **unused) {
  (void)unused;
  const char *marks = "image damaged at byte 64: a record with marks that images do not have";
  const char *lengths = "image damaged at byte 64: a record with wrong lengths, padding or expiry";
  const uint32_t meta = 3u << WALMAP__VALUE_BITS | 3;
  for (uint32_t bit = WALMAP__PREV; bit != 0; bit <<= 1)
    FORGED(marks, {64, 4, meta | bit});
  FORGED(marks, {64, 4, meta | WALMAP__TAGGED});
  for (uint32_t bit = 1; bit != 0; bit <<= 1)
    FORGED(marks, {68, 4, bit});
  FORGED(lengths, {64, 4, 3u << WALMAP__VALUE_BITS | 7}); /* up to byte 81, and 82 is not zero */
  FORGED(lengths, {64, 4, 3u << WALMAP__VALUE_BITS | 18});
  FORGED(lengths, {64, 4, (1u << WALMAP__VALUE_BITS) - 1});
  FORGED(lengths, {64, 4, 1022u << WALMAP__VALUE_BITS});
  FORGED(lengths, {64, 4, 3u << WALMAP__VALUE_BITS | 18 | WALMAP__EXPIRES}); /* the expiry does not fit */
  FORGED("image damaged at byte 80: a record with wrong lengths, padding or expiry", {92, 8, 0});
  for (unsigned bit = 16; bit < 32; bit++) /* the bytes 78 and 79 */
    FORGED(lengths, {76, 4, 0x7261 | (uint64_t)1 << bit});
  FORGED("image damaged at byte 80: a record with wrong lengths, padding or expiry", {88, 4, 0x6b | 1 << 8});
  FORGED("image damaged at byte 80: a record with wrong lengths, padding or expiry", {88, 4, 0x6b | 1u << 31});
  FORGED("image damaged at byte 80: a record with wrong lengths, padding or expiry",
         {80, 4, WALMAP__KEY_EXTENDED << WALMAP__VALUE_BITS});
  /* A first record that takes up all but 4 bytes of the chunk. */
  FORGED("image damaged at byte 96: a record does not fit into its chunk", {64, 4, 24}, {80, 8, 0}, {88, 8, 0});
}

/* An image of one record with 64-bit lengths, which lie at 72 and 80; 24 + 1023 + 1 bytes. */
static void test_forged_extended(void **unused) {
  (void)unused;
  static const uint8_t key[1023] = {1};
  static const uint64_t numbers[] = {0,
                                     1,
                                     1022,
                                     1023,
                                     1024,
                                     1025,
                                     (uint64_t)1 << 16,
                                     (uint64_t)1 << 31,
                                     (uint64_t)1 << 32,
                                     (uint64_t)1 << 63,
                                     UINT64_MAX - 1046,
                                     UINT64_MAX - 1022,
                                     UINT64_MAX - 2,
                                     UINT64_MAX};
  walmap__image_writer *writer;
  uint64_t entries;
  size_t accepted = 0;
  MUST_OK(walmap__image_writer_new(0, NULL, NULL, 0, &writer));
  MUST_OK(walmap__image_writer_add(writer, &(walmap_entry){key, sizeof key, "", 0}));
  bytes image = finish(writer);
  for (size_t k = 0; k < sizeof numbers / sizeof *numbers; k++) {
    for (size_t v = 0; v < sizeof numbers / sizeof *numbers; v++) {
      walmap__store64(image.data + 72, numbers[k]);
      walmap__store64(image.data + 80, numbers[v]);
      repair(image);
      bool right = numbers[k] >= 1023 && numbers[k] <= 1024 && numbers[v] <= 1024 - numbers[k];
      accepted += right;
      if (right)
        assert_int_equal(read_in_place(image, &entries, NULL), WALMAP_OK);
      else
        assert_why(image, "image damaged at byte 64: a record with wrong lengths, padding or expiry");
    }
  }
  assert_int_equal(accepted, 3);
  walmap__store64(image.data + 72, 1023);
  walmap__store64(image.data + 80, 0);
  image_store32(image.data + 64, WALMAP__KEY_EXTENDED << WALMAP__VALUE_BITS | 1); /* a value length in meta as well */
  repair(image);
  assert_why(image, "image damaged at byte 64: a record with wrong lengths, padding or expiry");
  image_store32(image.data + 64, WALMAP__KEY_EXTENDED << WALMAP__VALUE_BITS);
  image.data[64 + 24 + 1023] = 1; /* padding */
  repair(image);
  assert_why(image, "image damaged at byte 64: a record with wrong lengths, padding or expiry");
  free(image.data);
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Bad sources                                                                                                        */

/* Fails at every byte: by an error, or by a count that is larger than what was asked for. */
static void test_failing_source(void **unused) {
  (void)unused;
  bytes image = made_image(3, 6, 255, 2);
  for (size_t at = 0; at <= image.size; at++) {
    static const ptrdiff_t fails[] = {-1, PTRDIFF_MIN, 1};
    for (size_t f = 0; f < 3; f++) {
      source from = {.all = image, .fail_at = at, .fails = fails[f]};
      walmap_why why = {""};
      uint64_t entries;
      char expected[100];
      snprintf(expected, sizeof expected, "the image's source failed at byte %zu", at);
      assert_int_equal(read_stream_of(&from, &entries, &why), WALMAP_IO);
      assert_string_equal(why.text, expected);
    }
  }
  free(image.data);
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Changed after `open`: what is verified no more is not believed either                                              */

/* A copy whose end is the end of the memory that may be read. */
static uint8_t *copy_before_guard(bytes image, uint8_t **pages, size_t *n) {
  size_t page = (size_t)sysconf(_SC_PAGESIZE);
  *n = (image.size + page - 1) / page * page + page;
  *pages = mmap(NULL, *n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  MUST(*pages != MAP_FAILED && mprotect(*pages + *n - page, page, PROT_NONE) == 0);
  return memcpy(*pages + *n - page - image.size, image.data, image.size);
}

/* Every entry that is still given lies in the image. */
static void walk_changed(walmap_image_reader reader, const uint8_t *image, size_t size) {
  walmap_entry e;
  walmap_why why;
  for (size_t i = 0; i < size && walmap_image_next(&reader, &e, &why) == WALMAP_OK; i++) {
    const uint8_t *key = e.key, *value = e.value;
    MUST(key >= image && value >= key && e.key_len == (size_t)(value - key));
    MUST(value <= image + size && e.value_len <= (size_t)(image + size - value));
  }
}

/*
** A chunk of two records, of which the second has 64-bit lengths: the chunk is made to end in the image's last bytes,
** at no multiple of 4, and the record to end with it. And each bit is flipped.
*/
static void test_changed_after_open(void **unused) {
  (void)unused;
  static const uint8_t key[1024] = {1}, value[976] = {0};
  enum { RECORDS = 64, SECOND = RECORDS + 12, FRAME = 32 };
  walmap__image_writer *writer;
  MUST_OK(walmap__image_writer_new(0, NULL, NULL, 0, &writer));
  MUST_OK(walmap__image_writer_add(writer, &(walmap_entry){"a", 1, "b", 1}));
  MUST_OK(walmap__image_writer_add(writer, &(walmap_entry){key, sizeof key, value, sizeof value}));
  bytes image = finish(writer);
  uint8_t *pages;
  size_t n;
  uint8_t *copy = copy_before_guard(image, &pages, &n);
  walmap_image_reader reader;
  MUST_OK(walmap_image_open(&reader, copy, image.size, NULL));
  for (uint64_t cut = 0; cut < 8; cut++) {
    uint64_t size = image.size - RECORDS - cut;
    walmap__store64(copy + FRAME + FRAME_SIZE, size);
    image_store32(copy + FRAME + FRAME_RECORDS, 9);
    walmap__store64(copy + SECOND + 16, RECORDS + size - SECOND - WALMAP__EXTENDED_HEAD - sizeof key);
    memset(copy + image.size - 8, 0, 8);
    walk_changed(reader, copy, image.size);
    memcpy(copy, image.data, image.size);
  }
  for (size_t bit = 0; bit < 8 * image.size; bit++) {
    copy[bit / 8] ^= (uint8_t)(1 << bit % 8);
    walk_changed(reader, copy, image.size);
    copy[bit / 8] ^= (uint8_t)(1 << bit % 8);
  }
  munmap(pages, n);
  free(image.data);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_flipped_bits),
      cmocka_unit_test(test_cuts),
      cmocka_unit_test(test_appended_bytes),
      cmocka_unit_test(test_shuffled_chunks),
      cmocka_unit_test(test_equal_chunks),
      cmocka_unit_test(test_foreign_chunk),
      cmocka_unit_test(test_garbage),
      cmocka_unit_test(test_texts),
      cmocka_unit_test(test_forged_header),
      cmocka_unit_test(test_forged_frame),
      cmocka_unit_test(test_forged_trailer),
      cmocka_unit_test(test_forged_record),
      cmocka_unit_test(test_forged_extended),
      cmocka_unit_test(test_failing_source),
      cmocka_unit_test(test_changed_after_open),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
