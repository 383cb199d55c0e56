/*
** test_image.c - images as core/FORMAT.md specifies them: the worked example, the golden file, the writer's two ways
** in and two ways out, the reader
**
** Damage has test_image_damage.c, failing allocations test_image_faults.c, restoring test_image_restore.c.
*/
#include "../common/image_kit.h"

#include <sys/mman.h>

/* ------------------------------------------------------------------------------------------------------------------ */
/* The format                                                                                                         */

static void assert_bytes(bytes got, bytes expected) {
  if (got.size != expected.size || memcmp(got.data, expected.data, got.size) != 0)
    print_hex(got);
  assert_int_equal(got.size, expected.size);
  assert_memory_equal(got.data, expected.data, got.size);
}

static void test_worked_example(void **unused) {
  (void)unused;
  bytes expected = bytes_from_hex("core/FORMAT.md", "## Worked example");
  walmap_image_builder *builder;
  assert_int_equal(walmap_image_builder_new(7, &builder), WALMAP_OK);
  assert_int_equal(walmap_image_builder_add(builder, &(walmap_entry){"foo", 3, "bar", 3, 0}), WALMAP_OK);
  assert_int_equal(walmap_image_builder_add(builder, &(walmap_entry){"k", 1, NULL, 0, 1700000000123}), WALMAP_OK);
  void *image;
  size_t size;
  assert_int_equal(walmap_image_builder_finish(builder, &image, &size), WALMAP_OK);
  assert_bytes((bytes){image, size}, expected);

  walmap_image_reader reader;
  walmap_entry entry;
  assert_int_equal(walmap_image_open(&reader, expected.data, expected.size, NULL), WALMAP_OK);
  assert_int_equal(reader.content, 7);
  assert_int_equal(reader.entries, 2);
  assert_int_equal(walmap_image_next(&reader, &entry, NULL), WALMAP_OK);
  assert_true(same_entry(&entry, &(walmap_entry){"foo", 3, "bar", 3, 0}));
  assert_int_equal(walmap_image_next(&reader, &entry, NULL), WALMAP_OK);
  assert_true(same_entry(&entry, &(walmap_entry){"k", 1, "", 0, 1700000000123}));
  assert_int_equal(walmap_image_next(&reader, &entry, NULL), WALMAP_NOTFOUND);
  assert_int_equal(walmap_image_next(&reader, &entry, NULL), WALMAP_NOTFOUND);
  walmap_image_free(image);
  free(expected.data);
}

#define GOLDEN_CONTENT 0x77616c31u
#define GOLDEN_ENTRIES 8

/* What test/golden/v1.hex holds; a chunk is cut before the fourth. Never to be changed. */
static walmap_entry golden_entry(int i) {
  static uint8_t long_key[1023], other_key[1023], long_value[300];
  memset(other_key, 'X', sizeof other_key);
  memset(long_key, 'K', sizeof long_key);
  memset(long_value, 0xa5, sizeof long_value);
  const walmap_entry entries[GOLDEN_ENTRIES] = {
      {"", 0, "empty key", 9, 0},      {"empty value", 11, "", 0, 0}, {"a\0b", 3, "c\0\0", 3, 0},
      {"n\xc3\xbc", 3, "1", 1, 0},     {long_key, 1023, "", 0, 0},    {"long value", 10, long_value, 300, 0},
      {"k", 1, "v", 1, 1700000000123}, {other_key, 1023, "", 0, 1},
  };
  return entries[i];
}

static bytes golden_image(void) {
  walmap__image_writer *writer;
  MUST_OK(walmap__image_writer_new(GOLDEN_CONTENT, NULL, NULL, 0, &writer));
  for (int i = 0; i < GOLDEN_ENTRIES; i++) {
    walmap_entry entry = golden_entry(i);
    if (i == 3)
      cut_chunk(writer);
    MUST_OK(walmap__image_writer_add(writer, &entry));
  }
  return finish(writer);
}

/* Both ways: what was written once is read for ever, and what is written now is what readers out there know. */
static void test_golden_v1(void **unused) {
  (void)unused;
  bytes golden = bytes_from_hex("test/golden/v1.hex", NULL), now = golden_image();
  walmap_image_reader reader;
  walmap_entry entry;
  assert_int_equal(walmap_image_open(&reader, golden.data, golden.size, NULL), WALMAP_OK);
  assert_int_equal(reader.content, GOLDEN_CONTENT);
  assert_int_equal(reader.entries, GOLDEN_ENTRIES);
  for (int i = 0; i < GOLDEN_ENTRIES; i++) {
    walmap_entry expected = golden_entry(i);
    assert_int_equal(walmap_image_next(&reader, &entry, NULL), WALMAP_OK);
    assert_true(same_entry(&entry, &expected));
  }
  assert_int_equal(walmap_image_next(&reader, &entry, NULL), WALMAP_NOTFOUND);
  assert_bytes(now, golden);
  free(golden.data);
  free(now.data);
}

static void test_empty_image(void **unused) {
  (void)unused;
  bytes image = made_image(0, 0, 0, 0);
  uint64_t entries;
  assert_int_equal(image.size, 2 * IMAGE_BLOCK);
  assert_int_equal(read_in_place(image, &entries, NULL), WALMAP_OK);
  assert_int_equal(entries, 0);
  free(image.data);
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Writer and reader together                                                                                         */

/* Reads the image in place, and from a stream in pieces, and compares with the first n made-up entries. */
static void assert_content(bytes image, uint32_t n, size_t longest, size_t piece) {
  walmap_image_reader reader;
  walmap_entry entry;
  walmap_why why = {""};
  assert_int_equal(walmap_image_open(&reader, image.data, image.size, &why), WALMAP_OK);
  assert_int_equal(reader.entries, n);
  for (uint32_t i = 0; i < n; i++) {
    walmap_entry expected = made_entry(i, longest);
    assert_int_equal(walmap_image_next(&reader, &entry, &why), WALMAP_OK);
    assert_true(same_entry(&entry, &expected));
  }
  assert_int_equal(walmap_image_next(&reader, &entry, &why), WALMAP_NOTFOUND);

  source from = {.all = image, .piece = piece};
  walmap__image_decoder decoder;
  walmap__image_chunk chunk;
  walmap__image_record record;
  uint32_t i = 0;
  int rc;
  walmap__image_decoder_start_read(&decoder, read_source, &from);
  assert_int_equal(walmap__image_decoder_header(&decoder, &why), WALMAP_OK);
  while ((rc = walmap__image_decoder_next(&decoder, &chunk, &why)) == WALMAP_OK) {
    while ((rc = walmap__image_record_next(&chunk, &record, &why)) == WALMAP_OK) {
      walmap_entry expected = made_entry(i++, longest);
      assert_true(same_entry(&record.entry, &expected));
      assert_int_equal(record.size, walmap__record_bytes(expected.key_len, expected.value_len,
                                                         expected.expires ? WALMAP__EXPIRES : 0));
    }
    assert_int_equal(rc, WALMAP_NOTFOUND);
  }
  assert_int_equal(rc, WALMAP_NOTFOUND);
  assert_int_equal(i, n);
  assert_int_equal(decoder.entries, n);
  walmap__image_decoder_stop(&decoder);
}

static void test_all_lengths(void **unused) {
  (void)unused;
  bytes image = made_image(1, 169, 300000, 0); /* 13 key lengths by 13 value lengths */
  assert_content(image, 169, 300000, 0);
  assert_content(image, 169, 300000, 65536);
  free(image.data);
}

static void test_chunks_of_one(void **unused) {
  (void)unused;
  bytes image = made_image(1, 200, 255, 1);
  size_t at[300];
  assert_int_equal(find_blocks(image, at, 300), 202);
  for (size_t piece = 0; piece < 70; piece++)
    assert_content(image, 200, 255, piece);
  free(image.data);
}

/* A chunk is closed before the record that would take it past its limit, never later and never sooner. */
static void test_chunk_limit(void **unused) {
  (void)unused;
  static uint8_t value[WALMAP__IMAGE_CHUNK];
  for (size_t over = 0; over < 3; over++) {
    walmap__image_writer *writer;
    walmap_entry half = {"", 0, value, WALMAP__IMAGE_CHUNK / 2 - WALMAP__EXTENDED_HEAD};
    MUST_OK(walmap__image_writer_new(0, NULL, NULL, 0, &writer));
    MUST_OK(walmap__image_writer_add(writer, &half));
    half.value_len += over == 1 ? 1 : 0;
    MUST_OK(walmap__image_writer_add(writer, &half));
    if (over == 2)
      MUST_OK(walmap__image_writer_add(writer, &(walmap_entry){"", 0, "", 0}));
    bytes image = finish(writer);
    size_t at[8];
    assert_int_equal(find_blocks(image, at, 8), over == 0 ? 3 : 4);
    free(image.data);
  }
}

/* The reader does not care where an image lies. */
static void test_any_alignment(void **unused) {
  (void)unused;
  bytes image = made_image(1, 60, 1024, 9);
  uint8_t *moved = malloc(image.size + 8);
  for (size_t shift = 0; shift < 8; shift++) {
    memcpy(moved + shift, image.data, image.size);
    assert_content((bytes){moved + shift, image.size}, 60, 1024, 0);
  }
  free(moved);
  free(image.data);
}

typedef struct sink {
  bytes all;
  size_t largest, calls, fail_at; /* fail_at: the call, from 1, that fails */
} sink;

static int write_sink(void *ctx, const void *data, size_t size) {
  sink *to = ctx;
  if (++to->calls == to->fail_at)
    return 1;
  if (size > to->largest)
    to->largest = size;
  to->all.data = realloc(to->all.data, to->all.size + size);
  MUST(to->all.data != NULL);
  memcpy(to->all.data + to->all.size, data, size);
  to->all.size += size;
  return 0;
}

/* Adds the made-up entries: way 0 one by one; way 1 by reserve and commit, per_run at a time. */
static int add_made(walmap__image_writer *writer, uint32_t n, size_t longest, int way, uint32_t per_run) {
  static uint8_t run[8 << 20];
  size_t used = 0;
  uint32_t count = 0;
  for (uint32_t i = 0; i < n; i++) {
    walmap_entry entry = made_entry(i, longest);
    if (way == 0) {
      int rc = walmap__image_writer_add(writer, &entry);
      if (rc != WALMAP_OK)
        return rc;
      continue;
    }
    uint32_t flags = entry.expires != 0 ? WALMAP__EXPIRES : 0;
    const walmap__record_tail tail = {.expires = entry.expires};
    size_t size = walmap__record_bytes(entry.key_len, entry.value_len, flags);
    uint8_t *value = walmap__record_write(run + used, size, entry.key, entry.key_len, entry.value_len, flags, &tail);
    if (entry.value_len > 0)
      memcpy(value, entry.value, entry.value_len);
    used += size;
    count++;
    MUST(used < sizeof run - 700000);
    if (count < per_run && i + 1 < n)
      continue;
    uint8_t *to;
    int rc = walmap__image_writer_reserve(writer, used + 100, &to);
    if (rc != WALMAP_OK)
      return rc;
    memcpy(to, run, used);
    walmap__image_writer_commit(writer, used, count);
    used = count = 0;
  }
  return WALMAP_OK;
}

/* Every way in and out makes an image of the same content; memory and callback make the same bytes. */
static void test_ways_of_writing(void **unused) {
  (void)unused;
  static const uint32_t per_run[] = {1, 7, 100};
  for (int way = 0; way < 2; way++) {
    for (size_t r = 0; r < 3; r++) {
      for (size_t expected = 0; expected <= (size_t)8 << 20; expected += (size_t)4 << 20) {
        walmap__image_writer *writer;
        sink to = {.all = bytes_copy(NULL, 0)};
        MUST_OK(walmap__image_writer_new(3, NULL, NULL, expected, &writer));
        MUST_OK(add_made(writer, 3000, 1024, way, per_run[r]));
        bytes image = finish(writer);
        MUST_OK(walmap__image_writer_new(3, write_sink, &to, 0, &writer));
        MUST_OK(add_made(writer, 3000, 1024, way, per_run[r]));
        MUST_OK(walmap__image_writer_finish(writer, NULL, NULL));
        assert_content(image, 3000, 1024, 0);
        assert_bytes(to.all, image);
        assert_true(to.largest <= 1 << 20);
        free(image.data);
        free(to.all.data);
      }
    }
  }
}

/* Runs and records larger than a chunk are chunks of their own, between others and at the ends. */
static void test_large_runs(void **unused) {
  (void)unused;
  for (int way = 0; way < 2; way++) {
    walmap__image_writer *writer;
    sink to = {.all = bytes_copy(NULL, 0)};
    MUST_OK(walmap__image_writer_new(3, NULL, NULL, 0, &writer));
    MUST_OK(add_made(writer, 169, 300000, way, 12));
    bytes image = finish(writer);
    assert_true(image.size > 10000000);
    assert_content(image, 169, 300000, 0);
    MUST_OK(walmap__image_writer_new(3, write_sink, &to, 0, &writer));
    MUST_OK(add_made(writer, 169, 300000, way, 12));
    MUST_OK(walmap__image_writer_finish(writer, NULL, NULL));
    assert_bytes(to.all, image);
    assert_true(to.largest <= 1 << 20);
    free(image.data);
    free(to.all.data);
  }
}

/* A reservation that is not used leaves nothing behind. */
static void test_empty_reservations(void **unused) {
  (void)unused;
  walmap__image_writer *writer;
  uint8_t *room;
  bytes plain = made_image(0, 5, 5, 0);
  MUST_OK(walmap__image_writer_new(0, NULL, NULL, 0, &writer));
  MUST_OK(walmap__image_writer_reserve(writer, 10, &room));
  MUST_OK(walmap__image_writer_reserve(writer, 10 << 20, &room));
  walmap__image_writer_commit(writer, 0, 0);
  MUST_OK(add_made(writer, 5, 5, 0, 0));
  MUST_OK(walmap__image_writer_reserve(writer, 10 << 20, &room));
  bytes image = finish(writer);
  assert_bytes(image, plain);
  MUST_OK(walmap__image_writer_new(0, NULL, NULL, 0, &writer));
  MUST_OK(walmap__image_writer_reserve(writer, 10, &room));
  bytes empty = finish(writer);
  assert_int_equal(empty.size, 2 * IMAGE_BLOCK);
  free(plain.data);
  free(image.data);
  free(empty.data);
}

/* A callback that fails at any of its calls ends the writing with IO, once and for all. */
static void test_failing_callback(void **unused) {
  (void)unused;
  for (int way = 0; way < 2; way++) {
    size_t fail_at = 1;
    for (int rc = WALMAP_IO; rc == WALMAP_IO; fail_at++) {
      walmap__image_writer *writer;
      sink to = {.all = bytes_copy(NULL, 0), .fail_at = fail_at};
      MUST_OK(walmap__image_writer_new(3, write_sink, &to, 0, &writer));
      rc = add_made(writer, 400, 300000, way, 12);
      size_t calls = to.calls;
      if (rc == WALMAP_IO) {
        assert_int_equal(walmap__image_writer_add(writer, &(walmap_entry){"", 0, "", 0}), WALMAP_IO);
        assert_int_equal(walmap__image_writer_finish(writer, NULL, NULL), WALMAP_IO);
        assert_int_equal(to.calls, calls);
      } else {
        assert_int_equal(rc, WALMAP_OK);
        rc = walmap__image_writer_finish(writer, NULL, NULL);
      }
      free(to.all.data);
    }
    assert_true(fail_at > 20);
  }
}

static void test_too_big(void **unused) {
  (void)unused;
  walmap_image_builder *builder;
  assert_int_equal(walmap_image_builder_new(0, &builder), WALMAP_OK);
  assert_int_equal(walmap_image_builder_add(builder, &(walmap_entry){"", WALMAP_MAX_LENGTH + 1, "", 0}), WALMAP_TOOBIG);
  assert_int_equal(walmap_image_builder_add(builder, &(walmap_entry){"", 0, "", SIZE_MAX}), WALMAP_TOOBIG);
  walmap_image_builder_abandon(builder);
  walmap_image_builder_abandon(NULL);
  walmap_image_free(NULL);
}

/* A key or a value that no map takes is none in an image. Only a few pages of all these bytes are touched. */
static void test_too_big_to_read(void **unused) {
  (void)unused;
  size_t size = WALMAP__EXTENDED_HEAD + WALMAP_MAX_LENGTH + 4;
  uint8_t *record = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (record == MAP_FAILED)
    skip();
  image_store32(record, WALMAP__KEY_EXTENDED << WALMAP__VALUE_BITS);
  for (size_t over = 0; over < 2; over++) {
    for (size_t part = 0; part < 2; part++) {
      walmap__store64(record + WALMAP__RECORD_HEAD + 8 * part, WALMAP_MAX_LENGTH + over);
      walmap__store64(record + WALMAP__RECORD_HEAD + 8 * (1 - part), 0);
      walmap__image_chunk chunk = {.at = record, .end = record + size - (over ? 0 : 4), .records = 1};
      walmap__image_record taken;
      assert_int_equal(walmap__image_record_next(&chunk, &taken, NULL), over ? WALMAP_CORRUPT : WALMAP_OK);
    }
  }
  munmap(record, size);
}

/* With whatever instructions it is computed, at every length around those that XXH3 treats apart. */
static void test_checksum(void **unused) {
  (void)unused;
  enum { MOST = 40000 };
  static uint8_t all[MOST];
  for (size_t i = 0; i < MOST; i++)
    all[i] = (uint8_t)(mix(i) >> 24);
  for (size_t n = 0; n <= MOST; n += n < 3000 ? 1 : 977)
    assert_true(walmap__checksum(all + MOST - n, n) == XXH3_64bits(all + MOST - n, n));
}

int main(int argc, char **argv) {
  if (argc > 1 && strcmp(argv[1], "--print-golden") == 0) {
    bytes image = golden_image();
    print_hex(image);
    free(image.data);
    return 0;
  }
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_checksum),
      cmocka_unit_test(test_worked_example),
      cmocka_unit_test(test_golden_v1),
      cmocka_unit_test(test_empty_image),
      cmocka_unit_test(test_all_lengths),
      cmocka_unit_test(test_chunks_of_one),
      cmocka_unit_test(test_chunk_limit),
      cmocka_unit_test(test_any_alignment),
      cmocka_unit_test(test_ways_of_writing),
      cmocka_unit_test(test_large_runs),
      cmocka_unit_test(test_empty_reservations),
      cmocka_unit_test(test_failing_callback),
      cmocka_unit_test(test_too_big),
      cmocka_unit_test(test_too_big_to_read),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
