/*
** test_block.c - the blocks of a durable table's log (ext/codec/block.h)
**
** Looks for: records that do not come back; a block that is longer than allowed; a flipped bit, a cut or an added byte
** that is not noticed; forged blocks, whose checksum is right, that crash the reader or give it a record that the codec
** would not write; a format other than that of the worked example in ext/DURABLE.md; another count of the pages that
** rows take than SQLite's.
*/
#define SQLITE_CORE 1 /* call SQLite directly, as no extension is loaded here */
#include "codec/block.c"
#include "codec/codec.c"
#include "codec/codec_check.c"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static uint64_t seed = 1;

static uint32_t random_below(uint32_t n) {
  seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
  return (uint32_t)(seed >> 33) % n;
}

/* An entry with a text key and a BLOB value. */
static walmap_entry entry_of(uint8_t *bytes, size_t text, size_t blob) {
  bytes[0] = WM_KEY_TEXT;
  for (size_t i = 0; i < text; i++)
    bytes[1 + i] = (uint8_t)('a' + random_below(26));
  bytes[1 + text] = 0;
  uint8_t *value = bytes + text + 2;
  value[0] = WM_VALUE_BLOB;
  for (size_t i = 0; i < blob; i++)
    value[1 + i] = (uint8_t)random_below(256);
  return (walmap_entry){bytes, text + 2, value, blob + 1, random_below(2) == 0 ? 1 + random_below(1000) : 0};
}

static size_t put(uint8_t *to, wm_change change, const walmap_entry *entry) {
  uint8_t *value = wm_record_write(to, change, entry->key, entry->key_len, entry->value_len, entry->expires);
  if (change == WM_CHANGE_PUT)
    memcpy(value, entry->value, entry->value_len);
  return wm_record_size(change, entry->key_len, entry->value_len, entry->expires);
}

/* The worked example. */
static size_t make_example(uint8_t *block, uint64_t *chain) {
  static const uint8_t key[] = {WM_KEY_INT, 1}, value[] = {WM_VALUE_TEXT, 'o', 'n', 'e', 0};
  static const uint8_t gone[] = {WM_KEY_TEXT, 'x', 0};
  const walmap_entry one = {key, sizeof key, value, sizeof value}, other = {gone, sizeof gone, NULL, 0};
  size_t size = put(block + WM_BLOCK_HEAD, WM_CHANGE_PUT, &one);
  size += put(block + WM_BLOCK_HEAD + size, WM_CHANGE_REMOVE, &other);
  const wm_block_head head = {false, 1, UINT64_C(2254604718017415709), 56 + 71};
  wm_block_write_head(block, &head, size);
  *chain = wm_block_chain(2, block, WM_BLOCK_HEAD + size);
  return WM_BLOCK_HEAD + size;
}

static void test_example(void **state) {
  (void)state;
  static const char expected[] = "776c6f6701000000"
                                 "0100000000000000"
                                 "1d0a59ae0bf7491f"
                                 "7f00000000000000"
                                 "0f00000000000000"
                                 "010205"
                                 "0101"
                                 "036f6e6500"
                                 "0203"
                                 "037800";
  uint8_t block[256];
  char hex[513] = "";
  uint64_t chain;
  size_t size = make_example(block, &chain);
  for (size_t i = 0; i < size; i++)
    snprintf(hex + 2 * i, 3, "%02x", block[i]);
  assert_string_equal(hex, expected);
  assert_int_equal((int64_t)chain, INT64_C(-7912190706116522929));
  wm_block reader;
  wm_record record;
  bool more;
  assert_null(wm_block_open(&reader, 2, chain, block, size));
  assert_false(reader.head.more);
  assert_int_equal(reader.head.first, 1);
  assert_int_equal(reader.head.bytes, 127);
  assert_null(wm_block_next(&reader, &record, &more));
  assert_true(more && record.change == WM_CHANGE_PUT && record.entry.key_len == 2 && record.entry.value_len == 5);
  assert_null(wm_block_next(&reader, &record, &more));
  assert_true(more && record.change == WM_CHANGE_REMOVE && record.entry.key_len == 3);
  assert_null(wm_block_next(&reader, &record, &more));
  assert_false(more);
}

static void test_flipped_bits(void **state) {
  (void)state;
  uint8_t block[256];
  uint64_t chain;
  wm_block reader;
  size_t size = make_example(block, &chain);
  for (size_t bit = 0; bit < 8 * size; bit++) {
    block[bit / 8] ^= (uint8_t)(1 << bit % 8);
    assert_non_null(wm_block_open(&reader, 2, chain, block, size));
    block[bit / 8] ^= (uint8_t)(1 << bit % 8);
  }
  for (size_t cut = 0; cut < size; cut++)
    assert_non_null(wm_block_open(&reader, 2, chain, block, cut));
  block[size] = 0;
  assert_non_null(wm_block_open(&reader, 2, chain, block, size + 1));
  assert_non_null(wm_block_open(&reader, 3, chain, block, size)); /* another row's */
  assert_non_null(wm_block_open(&reader, 2, chain + 1, block, size));
  assert_null(wm_block_open(&reader, 2, chain, block, size));
}

/*
** Records of all sizes, cut into blocks, come back in order; no block is longer than allowed but for one long record.
*/
static void test_round_trip(void **state) {
  (void)state;
  enum { RECORDS = 3000, LIMIT = 4096, LONGEST = 9000 };
  static uint8_t records[RECORDS * 2200], bytes[2 * LONGEST], block[WM_BLOCK_HEAD + 2 * LONGEST];
  static wm_change changes[RECORDS];
  static size_t offsets[RECORDS + 1];
  size_t size = 0;
  for (int i = 0; i < RECORDS; i++) {
    changes[i] = (wm_change)(1 + random_below(3));
    uint32_t longest = random_below(20) == 0 ? LONGEST : 200;
    walmap_entry entry = entry_of(bytes, random_below(longest), random_below(longest));
    if (changes[i] == WM_CHANGE_CLEAR)
      entry = (walmap_entry){NULL, 0, NULL, 0};
    offsets[i] = size;
    size += put(records + size, changes[i], &entry);
    assert_true(size < sizeof records - sizeof bytes);
  }
  offsets[RECORDS] = size;
  int n = 0;
  for (size_t at = 0; at < size;) {
    size_t cut = wm_block_cut(records + at, records + size, LIMIT);
    const wm_block_head head = {at + cut < size, 1, 7, 9};
    memcpy(block + WM_BLOCK_HEAD, records + at, cut);
    wm_block_write_head(block, &head, cut);
    wm_block reader;
    wm_record record;
    bool more;
    int first = n;
    assert_null(wm_block_open(&reader, 5, wm_block_chain(5, block, WM_BLOCK_HEAD + cut), block, WM_BLOCK_HEAD + cut));
    assert_int_equal(reader.head.more, at + cut < size);
    for (;;) {
      assert_null(wm_block_next(&reader, &record, &more));
      if (!more)
        break;
      assert_int_equal(record.change, changes[n]);
      size_t length = wm_record_size(record.change, record.entry.key_len, record.entry.value_len, record.entry.expires);
      assert_int_equal(length, offsets[n + 1] - offsets[n]);
      if (record.change == WM_CHANGE_PUT)
        assert_memory_equal(record.entry.key, records + offsets[n + 1] - record.entry.key_len - record.entry.value_len,
                            record.entry.key_len + record.entry.value_len);
      n++;
    }
    assert_true(n > first && (WM_BLOCK_HEAD + cut <= LIMIT || n == first + 1));
    at += cut;
  }
  assert_int_equal(n, RECORDS);
}

/*
** Right checksums over wrong content: the reader ends, within the block, and gives nothing that wm_codec_check refuses.
*/
static void test_forged(void **state) {
  (void)state;
  enum { TRIALS = 200000 };
  static uint8_t bytes[512], block[WM_BLOCK_HEAD + 2048];
  uint64_t accepted = 0, refused = 0;
  for (int trial = 0; trial < TRIALS; trial++) {
    size_t size = 0;
    for (uint32_t n = random_below(6); n > 0; n--) {
      walmap_entry entry = entry_of(bytes, random_below(20), random_below(20));
      size += put(block + WM_BLOCK_HEAD + size, (wm_change)(1 + random_below(2)), &entry);
    }
    const wm_block_head head = {false, 1, 7, 9};
    wm_block_write_head(block, &head, size);
    for (uint32_t n = random_below(4); n > 0; n--)
      block[random_below((uint32_t)(WM_BLOCK_HEAD + size))] = (uint8_t)random_below(256);
    /* A copy of exactly this size, for the address sanitizer to watch. */
    uint8_t *copy = malloc(WM_BLOCK_HEAD + size);
    memcpy(copy, block, WM_BLOCK_HEAD + size);
    wm_block reader;
    wm_record record;
    bool more = true;
    const char *wrong =
        wm_block_open(&reader, 5, wm_block_chain(5, copy, WM_BLOCK_HEAD + size), copy, WM_BLOCK_HEAD + size);
    while (wrong == NULL && more) {
      wrong = wm_block_next(&reader, &record, &more);
      if (wrong == NULL && more && record.change == WM_CHANGE_PUT)
        assert_null(wm_codec_check(NULL, &record.entry));
    }
    free(copy);
    accepted += wrong == NULL;
    refused += wrong != NULL;
  }
  assert_true(accepted > TRIALS / 20 && refused > TRIALS / 20);
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Pages                                                                                                              */

typedef struct counted_log {
  sqlite3 *db;
  sqlite3_stmt *insertion, *removal, *pages;
  sqlite3_int64 first, last; /* seq */
  uint64_t bytes;
  size_t sizes[4096];
  uint64_t bytes_of[4096];
} counted_log;

static void must_run(sqlite3_stmt *statement) {
  assert_int_equal(sqlite3_step(statement), SQLITE_DONE);
  sqlite3_reset(statement);
}

static void open_log(counted_log *l, sqlite3_int64 seq) {
  *l = (counted_log){.first = seq, .last = seq - 1};
  assert_int_equal(sqlite3_open(":memory:", &l->db), SQLITE_OK);
  assert_int_equal(
      sqlite3_exec(l->db,
                   "PRAGMA page_size = 4096;"
                   "CREATE TABLE log(seq INTEGER PRIMARY KEY, chain INTEGER NOT NULL, block BLOB NOT NULL)",
                   NULL, NULL, NULL),
      SQLITE_OK);
  sqlite3_prepare_v2(l->db, "INSERT INTO log VALUES(?1, ?2, zeroblob(?3))", -1, &l->insertion, NULL);
  sqlite3_prepare_v2(l->db, "DELETE FROM log WHERE seq < ?1", -1, &l->removal, NULL);
  sqlite3_prepare_v2(l->db, "SELECT page_count - freelist_count - 1 FROM pragma_page_count, pragma_freelist_count", -1,
                     &l->pages, NULL);
}

static void close_log(counted_log *l) {
  sqlite3_finalize(l->insertion);
  sqlite3_finalize(l->removal);
  sqlite3_finalize(l->pages);
  assert_int_equal(sqlite3_close(l->db), SQLITE_OK);
}

static int64_t number_of_pages(counted_log *l) {
  assert_int_equal(sqlite3_step(l->pages), SQLITE_ROW);
  int64_t pages = sqlite3_column_int64(l->pages, 0);
  sqlite3_reset(l->pages);
  return pages;
}

static void add_row(counted_log *l, size_t size) {
  enum { ROOM = sizeof l->sizes / sizeof *l->sizes };
  l->last++;
  l->bytes = wm_block_append(l->bytes, (uint64_t)l->last, size);
  l->sizes[l->last % ROOM] = size;
  l->bytes_of[l->last % ROOM] = l->bytes;
  sqlite3_bind_int64(l->insertion, 1, l->last);
  sqlite3_bind_int64(l->insertion, 2, INT64_MIN + random_below(1000));
  sqlite3_bind_int64(l->insertion, 3, (sqlite3_int64)size);
  must_run(l->insertion);
}

static void remove_rows(counted_log *l, int n) {
  enum { ROOM = sizeof l->sizes / sizeof *l->sizes };
  uint64_t pages = 0;
  for (; n > 0 && l->first < l->last; n--, l->first++)
    pages += wm_block_pages(l->bytes_of[l->first % ROOM], (uint64_t)l->first, l->sizes[l->first % ROOM]);
  l->bytes = wm_block_without(l->bytes, pages);
  sqlite3_bind_int64(l->removal, 1, l->first);
  must_run(l->removal);
}

static size_t size_of_row(int way, int i) {
  switch (way) {
  case 0:
    return 52;
  case 1:
    return i % 2 == 0 ? 4000 : 52;
  case 2:
    return 2000 + random_below(700);
  case 3:
    return random_below(2) == 0 ? 4020 + random_below(60) : 50 + random_below(20); /* as much as fits into a leaf */
  case 4:
    return random_below(3) == 0 ? 4020 + random_below(60) + 4092 * random_below(16) : 50 + random_below(4000);
  default:
    return WM_BLOCK_HEAD + random_below(1u << random_below(17));
  }
}

/* Beside the pages that are counted there are interior ones, and the first leaf, when its first row is gone. */
static void test_pages(void **state) {
  (void)state;
  enum { WAYS = 6, ROWS = 6000, KEPT = 1500, STEP = 40, FEWEST_CHILDREN = 250 };
  static counted_log l;
  for (int way = 0; way < 2 * WAYS; way++) {
    open_log(&l, way < WAYS ? 1 : INT64_MAX - ROWS);
    for (int i = 0; i < ROWS; i++) {
      add_row(&l, size_of_row(way % WAYS, i));
      if (l.last - l.first > KEPT && i % STEP == 0)
        remove_rows(&l, (int)random_below(3 * STEP));
      int64_t counted = (int64_t)(l.bytes / 4096) + 1, pages = i % STEP == 0 ? number_of_pages(&l) : counted;
      if (counted < pages - 3 - pages / FEWEST_CHILDREN || counted > pages)
        fail_msg("way %d, row %d: %lld pages counted, not %lld", way, i, (long long)counted, (long long)pages);
    }
    close_log(&l);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_example), cmocka_unit_test(test_flipped_bits), cmocka_unit_test(test_round_trip),
      cmocka_unit_test(test_forged),  cmocka_unit_test(test_pages),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
