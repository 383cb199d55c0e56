/*
** test_image_faults.c - images when memory runs out, at every allocation; and that no damaged length asks for much
**
** The sources are compiled into this test with allocation calls of its own, so the library's copies are not linked.
*/
#include "../common/image_kit.h"

#include <sys/mman.h>

/* ------------------------------------------------------------------------------------------------------------------ */
/* Allocation that fails when told to, and keeps count                                                                */

static struct {
  uint64_t calls, fail_at; /* the number of the call, from 1, that fails; 0: none */
  bool for_ever;           /* and all after it */
  uint64_t hits;           /* calls refused */
  int64_t blocks, mapped;  /* outstanding: malloc's blocks, mmap's bytes */
  size_t largest;          /* asked for */
} fault;

static void arm(uint64_t fail_at, bool for_ever) {
  fault.calls = fault.hits = fault.largest = 0;
  fault.fail_at = fail_at;
  fault.for_ever = for_ever;
}

static bool refused(size_t size) {
  uint64_t call = ++fault.calls;
  if (size > fault.largest)
    fault.largest = size;
  bool refuse = fault.fail_at > 0 && (fault.for_ever ? call >= fault.fail_at : call == fault.fail_at);
  fault.hits += refuse;
  return refuse;
}

static void *fault_calloc(size_t n, size_t size) {
  void *block = refused(n * size) ? NULL : calloc(n, size);
  fault.blocks += block != NULL;
  return block;
}

static void *fault_realloc(void *old, size_t size) {
  void *block = refused(size) ? NULL : realloc(old, size);
  fault.blocks += old == NULL && block != NULL;
  return block;
}

static void fault_free(void *block) {
  fault.blocks -= block != NULL;
  free(block);
}

static void *fault_mmap(void *at, size_t size, int protection, int flags, int file, off_t offset) {
  void *mapping = refused(size) ? MAP_FAILED : mmap(at, size, protection, flags, file, offset);
  if (mapping != MAP_FAILED)
    fault.mapped += (int64_t)size;
  return mapping;
}

static int fault_munmap(void *at, size_t size) {
  fault.mapped -= (int64_t)size;
  return munmap(at, size);
}

#if defined(__linux__)
static void *fault_mremap(void *at, size_t from_size, size_t to_size, int flags, ...) {
  if (refused(to_size))
    return MAP_FAILED;
  if (!(flags & MREMAP_FIXED)) {
    void *mapping = mremap(at, from_size, to_size, flags);
    if (mapping != MAP_FAILED)
      fault.mapped += (int64_t)to_size - (int64_t)from_size;
    return mapping;
  }
  va_list rest;
  va_start(rest, flags);
  void *mapping = mremap(at, from_size, to_size, flags, va_arg(rest, void *));
  va_end(rest);
  if (mapping != MAP_FAILED)
    fault.mapped -= (int64_t)from_size; /* what was mapped there before is gone */
  return mapping;
}
#define mremap fault_mremap
#endif

#define calloc fault_calloc
#define realloc fault_realloc
#define free fault_free
#define mmap fault_mmap
#define munmap fault_munmap
#include "platform/platform_posix.c"

#include "image/block.c"
#include "image/image.c"
#include "image/reader.c"
#include "image/writer.c"
#undef calloc
#undef realloc
#undef free

/* ------------------------------------------------------------------------------------------------------------------ */
/* Writing                                                                                                            */

#define ENTRIES 80
#define LONGEST 300000 /* 5 MB in all: malloc, realloc, mmap, mremap, each is taken */

static int discard(void *ctx, const void *data, size_t size) {
  (void)ctx, (void)data, (void)size;
  return 0;
}

/*
** Writes the made-up image. What fails for want of memory is tried again, as a caller may that has freed some: it must
** have changed nothing. `failed` counts NOMEM. Any other result ends the process.
*/
static int write_with_faults(walmap_write_fn write, size_t expected, void **image, size_t *size, uint64_t *failed) {
  walmap__image_writer *writer = NULL;
  int rc = walmap__image_writer_new(5, write, NULL, expected, &writer);
  for (uint32_t i = 0; i < ENTRIES && rc == WALMAP_OK;) {
    walmap_entry entry = made_entry(i, LONGEST);
    rc = walmap__image_writer_add(writer, &entry);
    i += rc == WALMAP_OK;
    if (rc == WALMAP_NOMEM && !fault.for_ever) {
      ++*failed;
      rc = WALMAP_OK;
    }
  }
  if (rc == WALMAP_OK)
    rc = walmap__image_writer_finish(writer, image, size);
  else
    walmap__image_writer_abandon(writer);
  *failed += rc == WALMAP_NOMEM;
  MUST(rc == WALMAP_OK || rc == WALMAP_NOMEM);
  return rc;
}

/* A fault is told, unless there was another way: then the image is as if nothing had been. */
static void write_at_each_fault(walmap_write_fn write, size_t expected, uint64_t at_least) {
  bytes right = made_image(5, ENTRIES, LONGEST, 0);
  uint64_t hits = 0, told = 0;
  for (int for_ever = 0; for_ever < 2; for_ever++) {
    uint64_t n = 1;
    do {
      void *image = NULL;
      size_t size = 0;
      uint64_t failed = 0;
      arm(n++, for_ever);
      int rc = write_with_faults(write, expected, &image, &size, &failed);
      assert_true(failed == 0 || fault.hits > 0);
      hits += fault.hits > 0;
      told += failed > 0;
      if (rc == WALMAP_OK && write == NULL) {
        assert_int_equal(size, right.size);
        assert_memory_equal(image, right.data, size);
        walmap_image_free(image);
      }
      assert_int_equal(fault.blocks, 0);
      assert_int_equal(fault.mapped, 0);
    } while (fault.hits > 0);
  }
  assert_true(told >= at_least && hits >= told);
  arm(0, false);
  free(right.data);
}

static void test_writing_in_memory(void **unused) {
  (void)unused;
  write_at_each_fault(NULL, 0, 16);
}

static void test_writing_with_expected_size(void **unused) {
  (void)unused;
  write_at_each_fault(NULL, (size_t)6 << 20, 4);
}

static void test_writing_to_callback(void **unused) {
  (void)unused;
  write_at_each_fault(discard, 0, 6);
}

/* An image that fills its block to the last byte: the trailer is what there is no memory for. */
static void test_no_room_for_trailer(void **unused) {
  (void)unused;
  static const uint8_t value[4032];
  walmap__image_writer *writer;
  void *image = NULL;
  size_t size;
  arm(0, false);
  MUST_OK(walmap__image_writer_new(0, NULL, NULL, 0, &writer));
  walmap_entry entry = {"", 0, value, writer->block.capacity - 2 * IMAGE_BLOCK - WALMAP__RECORD_HEAD};
  MUST_OK(walmap__image_writer_add(writer, &entry));
  assert_int_equal(writer->used, writer->block.capacity);
  arm(1, true);
  assert_int_equal(walmap__image_writer_finish(writer, &image, &size), WALMAP_NOMEM);
  assert_null(image);
  assert_int_equal(fault.blocks, 0);
  arm(0, false);
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Reading                                                                                                            */

static void test_reading_stream(void **unused) {
  (void)unused;
  bytes image = made_image(5, ENTRIES, LONGEST, 0);
  for (int for_ever = 0; for_ever < 2; for_ever++) {
    uint64_t n = 1, entries;
    int rc;
    do {
      source from = {.all = image, .piece = 10000};
      arm(n++, for_ever);
      rc = read_stream_of(&from, &entries, NULL);
      assert_int_equal(rc, fault.hits > 0 ? WALMAP_NOMEM : WALMAP_OK);
      assert_int_equal(fault.blocks, 0);
    } while (rc == WALMAP_NOMEM);
    assert_int_equal(entries, ENTRIES);
    assert_true(n > 4);
  }
  arm(0, false);
  free(image.data);
}

static void test_reading_in_place_allocates_nothing(void **unused) {
  (void)unused;
  bytes image = made_image(5, ENTRIES, LONGEST, 0);
  uint64_t entries;
  arm(1, true);
  assert_int_equal(read_in_place(image, &entries, NULL), WALMAP_OK);
  assert_int_equal(fault.calls, 0);
  arm(0, false);
  free(image.data);
}

/* A forged frame that claims any size: memory follows what arrives, up to twice of it and 64 KiB. */
static void test_claimed_sizes(void **unused) {
  (void)unused;
  bytes image = made_image(5, ENTRIES, LONGEST, ENTRIES); /* one chunk */
  for (unsigned bit = 16; bit < 64; bit++) {
    for (size_t arrives = 2 * IMAGE_BLOCK; arrives < image.size; arrives = arrives * 3 + 1) {
      walmap_why why;
      uint64_t entries;
      bytes cut = bytes_copy(image.data, arrives);
      source from = {.all = cut, .piece = 50000};
      walmap__store64(cut.data + IMAGE_BLOCK + FRAME_SIZE, (uint64_t)1 << bit);
      repair(cut);
      arm(0, false);
      assert_int_equal(read_stream_of(&from, &entries, &why), WALMAP_CORRUPT);
      assert_true(fault.largest <= 2 * arrives + (64 << 10));
      assert_int_equal(fault.blocks, 0);
      free(cut.data);
    }
  }
  free(image.data);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_writing_in_memory),   cmocka_unit_test(test_writing_with_expected_size),
      cmocka_unit_test(test_writing_to_callback), cmocka_unit_test(test_no_room_for_trailer),
      cmocka_unit_test(test_reading_stream),      cmocka_unit_test(test_reading_in_place_allocates_nothing),
      cmocka_unit_test(test_claimed_sizes),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
