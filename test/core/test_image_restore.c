/*
** test_image_restore.c - images into and out of maps: nothing is lost or comes back, a bad one changes nothing
**
** An image that is refused leaves the map as it was, whatever is wrong with it: the damages of test_image_damage.c are
** all tried on a map with content of its own. C6 beside writers is test_transfers.c's, running out of
** memory test_oom_image.c's.
*/
#include "../common/image_kit.h"

/* ------------------------------------------------------------------------------------------------------------------ */
/* Maps                                                                                                               */

static walmap *open_map(uint32_t shards, uint32_t content) {
  walmap_options options;
  walmap *map;
  walmap_options_init(&options);
  options.shards = shards;
  options.content = content;
  MUST_OK(walmap_open(&options, &map));
  return map;
}

/* Whether the map holds exactly these entries, by lookups and by a walk over all. */
static bool map_is(walmap *map, const walmap_entry *entries, size_t n) {
  walmap_state *state;
  walmap_cursor cursor;
  walmap_entry entry;
  size_t walked = 0;
  MUST_OK(walmap_state_new(map, &state));
  MUST_OK(walmap_state_begin(state));
  bool same = walmap_len(map) == n;
  for (size_t i = 0; i < n && same; i++)
    same = walmap_state_get(state, entries[i].key, entries[i].key_len, &entry) == WALMAP_OK &&
           same_entry(&entry, &entries[i]);
  walmap_cursor_start(&cursor, state);
  while (walmap_cursor_next(&cursor, &entry))
    walked++;
  walmap_state_free(state);
  return same && walked == n;
}

static const walmap_entry own[] = {{"own", 3, "content", 7}, {"", 0, "empty", 5}, {"third", 5, "", 0}};
enum { N_OWN = sizeof own / sizeof *own };

static walmap *open_with_own(uint32_t content) {
  walmap *map = open_map(4, content);
  for (size_t i = 0; i < N_OWN; i++)
    MUST_OK(walmap_set(map, own[i].key, own[i].key_len, own[i].value, own[i].value_len));
  return map;
}

/* Entries with different keys, for images that can be restored: made-up entries with the number in front of the key. */
typedef struct content {
  walmap_entry *entries;
  uint32_t n;
} content;

static content content_new(uint32_t n, size_t longest) {
  content c = {calloc(n, sizeof(walmap_entry)), n};
  MUST(c.entries != NULL);
  for (uint32_t i = 0; i < n; i++) {
    walmap_entry entry = made_entry(i, longest);
    uint8_t *key = malloc(entry.key_len + 4);
    MUST(key != NULL);
    memcpy(key, &i, 4);
    memcpy(key + 4, entry.key, entry.key_len);
    c.entries[i] = (walmap_entry){key, entry.key_len + 4, entry.value, entry.value_len};
  }
  return c;
}

static void content_free(content c) {
  for (uint32_t i = 0; i < c.n; i++)
    free((void *)c.entries[i].key);
  free(c.entries);
}

static bytes image_of(const walmap_entry *entries, size_t n, uint32_t number, uint32_t per_chunk) {
  walmap__image_writer *writer;
  MUST_OK(walmap__image_writer_new(number, NULL, NULL, 0, &writer));
  for (size_t i = 0; i < n; i++) {
    if (per_chunk > 0 && i % per_chunk == 0)
      cut_chunk(writer);
    MUST_OK(walmap__image_writer_add(writer, &entries[i]));
  }
  return finish(writer);
}

static int restore_from(walmap *map, source *from, walmap_check_fn check, void *ctx, uint64_t *entries,
                        walmap_why *why) {
  walmap_session *session;
  walmap_txn *txn;
  MUST_OK(walmap_session_new(NULL, NULL, &session));
  MUST_OK(walmap_txn_new(map, session, &txn));
  walmap_txn_begin(txn);
  int rc = walmap_txn_restore_read(txn, read_source, from, check, ctx, entries, why);
  walmap_txn_commit(txn);
  walmap_txn_free(txn);
  walmap_session_free(session);
  return rc;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Good images                                                                                                        */

static void test_restored_is_what_was_written(void **unused) {
  (void)unused;
  static const uint32_t shards[] = {1, 4, 256};
  content c = content_new(2000, 1024);
  for (size_t s = 0; s < 3; s++) {
    for (size_t piece = 0; piece < 3; piece++) {
      bytes image = image_of(c.entries, c.n, 7, (uint32_t)piece * 90);
      walmap *map = open_map(shards[s], 7);
      uint64_t entries = 0;
      walmap_why why = {""};
      MUST_OK(walmap_set(map, "old", 3, "content", 7));
      if (piece == 0) {
        MUST_OK(walmap_restore(map, image.data, image.size, &entries, &why));
      } else {
        source from = {.all = image, .piece = piece == 1 ? 0 : 4096};
        MUST_OK(restore_from(map, &from, NULL, NULL, &entries, &why));
      }
      assert_int_equal(entries, c.n);
      assert_true(map_is(map, c.entries, c.n));
      assert_int_equal(walmap_get(map, "old", 3, NULL, 0, &(size_t){0}), WALMAP_NOTFOUND);
      assert_int_equal(walmap_reclaimable(map), 0);
      walmap_close(map);
      free(image.data);
    }
  }
  content_free(c);
}

static void test_long_values(void **unused) {
  (void)unused;
  content c = content_new(169, 300000);
  bytes image = image_of(c.entries, c.n, 0, 0);
  walmap *map = open_map(2, 0);
  source from = {.all = image, .piece = 100000};
  MUST_OK(walmap_restore(map, image.data, image.size, NULL, NULL));
  assert_true(map_is(map, c.entries, c.n));
  MUST_OK(restore_from(map, &from, NULL, NULL, NULL, NULL));
  assert_true(map_is(map, c.entries, c.n));
  walmap_close(map);
  free(image.data);
  content_free(c);
}

/* A map that was written, overwritten and removed from: its image, in any map, is its live content and nothing else. */
static void test_removed_keys_stay_away(void **unused) {
  (void)unused;
  content c = content_new(1500, 255);
  walmap *map = open_map(4, 0);
  for (uint32_t round = 0; round < 3; round++) {
    for (uint32_t i = 0; i < c.n; i++)
      MUST_OK(walmap_set(map, c.entries[i].key, c.entries[i].key_len, c.entries[i].value,
                         round < 2 ? round : c.entries[i].value_len));
  }
  for (uint32_t i = 1000; i < c.n; i++)
    MUST_OK(walmap_remove(map, c.entries[i].key, c.entries[i].key_len));
  for (int compacted = 0; compacted < 2; compacted++) {
    void *image;
    size_t size;
    uint64_t entries;
    if (compacted) {
      uint64_t before = walmap_size(map), reclaimable = walmap_reclaimable(map);
      MUST_OK(walmap_compact(map, NULL));
      assert_int_equal(before - walmap_size(map), reclaimable);
    }
    MUST_OK(walmap_snapshot(map, &image, &size));
    walmap *other = open_map(16, 0);
    MUST_OK(walmap_restore(other, image, size, &entries, NULL));
    assert_int_equal(entries, 1000);
    assert_true(map_is(other, c.entries, 1000));
    assert_true(map_is(map, c.entries, 1000));
    walmap_close(other);
    walmap_image_free(image);
  }
  walmap_close(map);
  content_free(c);
}

/* A restored map is a map like any other: it is written, overwritten, compacted, and gives images. */
static void test_restored_map_lives_on(void **unused) {
  (void)unused;
  content c = content_new(800, 255);
  bytes image = image_of(c.entries, 500, 0, 0);
  walmap *map = open_map(4, 0);
  for (int round = 0; round < 3; round++) {
    void *again;
    size_t size;
    MUST_OK(walmap_restore(map, image.data, image.size, NULL, NULL));
    assert_true(map_is(map, c.entries, 500));
    for (uint32_t i = 400; i < 800; i++)
      MUST_OK(walmap_set(map, c.entries[i].key, c.entries[i].key_len, "new", 3));
    for (uint32_t i = 400; i < 800; i++)
      MUST_OK(walmap_set(map, c.entries[i].key, c.entries[i].key_len, c.entries[i].value, c.entries[i].value_len));
    assert_true(map_is(map, c.entries, 800));
    MUST_OK(walmap_compact(map, NULL));
    assert_int_equal(walmap_reclaimable(map), 0);
    for (uint32_t i = 500; i < 800; i++)
      MUST_OK(walmap_remove(map, c.entries[i].key, c.entries[i].key_len));
    MUST_OK(walmap_snapshot(map, &again, &size));
    MUST_OK(walmap_restore(map, again, size, NULL, NULL));
    walmap_image_free(again);
    assert_true(map_is(map, c.entries, 500));
  }
  walmap_close(map);
  free(image.data);
  content_free(c);
}

static int append_bytes(void *ctx, const void *data, size_t size) {
  bytes *all = ctx;
  MUST(size <= 1 << 20);
  all->data = realloc(all->data, all->size + size);
  MUST(all->data != NULL);
  memcpy(all->data + all->size, data, size);
  all->size += size;
  return 0;
}

static int refuse_bytes(void *ctx, const void *data, size_t size) {
  (void)ctx, (void)data, (void)size;
  return -1;
}

/* Fetched in pieces of a size, the image is the same; at its end, nothing comes any more. */
static void assert_streams(walmap_state *state, size_t piece, const void *image, size_t size) {
  walmap_image_stream *stream;
  uint8_t *all = malloc(size + piece);
  size_t at = 0, got;
  MUST(all != NULL);
  MUST_OK(walmap_image_stream_new(state, &stream));
  do {
    MUST_OK(walmap_image_stream_read(stream, all + at, piece, &got));
    at += got;
    MUST(got == piece || at == size);
  } while (got > 0);
  assert_int_equal(at, size);
  assert_memory_equal(all, image, size);
  walmap_image_stream_free(stream);
  free(all);
}

/* An image is the same through a callback, in pieces and in memory, and as often as it is asked for. */
static void test_image_is_deterministic(void **unused) {
  (void)unused;
  content c = content_new(6000, 1024);
  walmap *map = open_map(4, 3);
  walmap_state *state;
  void *image, *again;
  size_t size, size_again;
  bytes written = bytes_copy(NULL, 0);
  for (uint32_t i = 0; i < c.n; i++)
    MUST_OK(walmap_set(map, c.entries[i].key, c.entries[i].key_len, c.entries[i].value, c.entries[i].value_len));
  MUST_OK(walmap_state_new(map, &state));
  MUST_OK(walmap_state_begin(state));
  MUST_OK(walmap_state_image(state, &image, &size));
  MUST_OK(walmap_state_image(state, &again, &size_again));
  MUST_OK(walmap_state_write(state, append_bytes, &written));
  assert_int_equal(walmap_state_write(state, refuse_bytes, NULL), WALMAP_IO);
  assert_int_equal(size, size_again);
  assert_memory_equal(image, again, size);
  assert_int_equal(size, written.size);
  assert_memory_equal(image, written.data, size);
  static const size_t pieces[] = {1, 1000, 65536, 300000, 100000000};
  for (size_t i = 0; i < sizeof pieces / sizeof pieces[0]; i++)
    assert_streams(state, pieces[i], image, size);
  walmap_image_free(image);
  walmap_image_free(again);
  free(written.data);
  walmap_state_free(state);
  walmap_close(map);
  content_free(c);
}

static void test_empty_map(void **unused) {
  (void)unused;
  walmap *map = open_map(16, 0), *other = open_with_own(0);
  void *image;
  size_t size;
  uint64_t entries = 1;
  MUST_OK(walmap_snapshot(map, &image, &size));
  assert_int_equal(size, 2 * IMAGE_BLOCK);
  MUST_OK(walmap_restore(other, image, size, &entries, NULL));
  assert_int_equal(entries, 0);
  assert_true(map_is(other, NULL, 0));
  walmap_image_free(image);
  walmap_close(map);
  walmap_close(other);
}

static uint64_t long_ago(void *ctx) {
  (void)ctx;
  return 0;
}

/* Two of its entries have expired by now. */
static void test_golden_images(void **unused) {
  (void)unused;
  bytes golden = bytes_from_hex("test/golden/v1.hex", NULL);
  walmap *map = open_map(1, image_load32(golden.data + HEADER_CONTENT)), *old_map;
  walmap_options options = *walmap_get_options(map);
  uint64_t entries;
  MUST_OK(walmap_restore(map, golden.data, golden.size, &entries, NULL));
  assert_int_equal(entries, 6);
  options.clock = long_ago;
  MUST_OK(walmap_open(&options, &old_map));
  MUST_OK(walmap_restore(old_map, golden.data, golden.size, &entries, NULL));
  assert_int_equal(entries, 8);
  assert_int_equal(walmap_len(old_map), 8);
  walmap_close(old_map);
  walmap_close(map);
  free(golden.data);
}

/* Readers see the old content until the commit; after a rollback, or a rollback to a savepoint, for ever. */
static void test_restore_in_transaction(void **unused) {
  (void)unused;
  content c = content_new(300, 255);
  bytes image = image_of(c.entries, c.n, 0, 0);
  for (int end = 0; end < 3; end++) {
    walmap *map = open_with_own(0);
    walmap_session *session;
    walmap_txn *txn;
    walmap_state *before;
    walmap_entry entry;
    MUST_OK(walmap_state_new(map, &before));
    MUST_OK(walmap_state_begin(before));
    MUST_OK(walmap_session_new(NULL, NULL, &session));
    MUST_OK(walmap_txn_new(map, session, &txn));
    walmap_txn_begin(txn);
    walmap_txn_savepoint(txn, 1);
    MUST_OK(walmap_txn_restore(txn, image.data, image.size, NULL, NULL, NULL, NULL));
    assert_true(map_is(map, own, N_OWN));
    MUST_OK(walmap_txn_get(txn, c.entries[9].key, c.entries[9].key_len, &entry));
    assert_true(same_entry(&entry, &c.entries[9]));
    assert_int_equal(walmap_txn_get(txn, "own", 3, &entry), WALMAP_NOTFOUND);
    assert_int_equal(walmap_txn_len(txn), c.n);
    if (end == 0)
      walmap_txn_commit(txn);
    if (end == 1)
      walmap_txn_rollback(txn);
    if (end == 2) {
      walmap_txn_rollback_to(txn, 1);
      MUST_OK(walmap_txn_get(txn, "own", 3, &entry));
      walmap_txn_commit(txn);
    }
    assert_true(end == 0 ? map_is(map, c.entries, c.n) : map_is(map, own, N_OWN));
    MUST_OK(walmap_state_get(before, "own", 3, &entry));
    assert_true(same_entry(&entry, &own[0]));
    walmap_state_free(before);
    walmap_txn_free(txn);
    walmap_session_free(session);
    walmap_close(map);
  }
  free(image.data);
  content_free(c);
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Bad images                                                                                                         */

typedef struct victim {
  walmap *map;
  size_t count;
} victim;

/* Refused from memory and from a stream; the map is what it was. */
static void must_not_restore(void *ctx, bytes damaged, const char *what, size_t where) {
  victim *v = ctx;
  walmap_why why = {""};
  uint64_t entries = 4711;
  source from = {.all = damaged, .random = where};
  bool refused = walmap_restore(v->map, damaged.data, damaged.size, &entries, &why) == WALMAP_CORRUPT &&
                 why.text[0] != 0 && restore_from(v->map, &from, NULL, NULL, &entries, &why) == WALMAP_CORRUPT;
  if (!refused || entries != 4711 || !map_is(v->map, own, N_OWN)) {
    fprintf(stderr, "restored, or the map changed: %s, %zu, of an image of %zu bytes\n", what, where, damaged.size);
    abort();
  }
  v->count++;
}

static void test_damaged_images(void **unused) {
  (void)unused;
  content c = content_new(9, 5);
  bytes image = image_of(c.entries, c.n, 7, 2);
  victim v = {open_with_own(7), 0};
  each_flipped_bit(image, must_not_restore, &v);
  each_cut(image, must_not_restore, &v);
  each_appended_byte(image, must_not_restore, &v);
  each_shuffled_chunk(image, must_not_restore, &v);
  assert_int_equal(v.count, image.size * 9 + 256 + 5 * 2 + 5 * 4 / 2);
  MUST_OK(walmap_restore(v.map, image.data, image.size, NULL, NULL));
  assert_true(map_is(v.map, c.entries, c.n));
  walmap_close(v.map);
  free(image.data);
  content_free(c);
}

/* As above, with the checksums right: an image may be good then, but never crash, and never change the map if not. */
static void test_forged_images(void **unused) {
  (void)unused;
  content c = content_new(9, 5);
  bytes image = image_of(c.entries, c.n, 7, 2);
  walmap *map = open_with_own(7);
  size_t refused = 0;
  for (size_t bit = 0; bit < image.size * 8; bit++) {
    bytes forged = bytes_copy(image.data, image.size);
    walmap_why why = {""};
    uint64_t entries;
    forged.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
    repair(forged);
    int rc = walmap_restore(map, forged.data, forged.size, &entries, &why);
    assert_true(rc == WALMAP_OK || rc == WALMAP_CORRUPT);
    if (rc == WALMAP_OK) {
      assert_int_equal(walmap_len(map), entries);
      walmap_close(map);
      map = open_with_own(7);
    } else {
      refused++;
      assert_true(why.text[0] != 0 && map_is(map, own, N_OWN));
    }
    free(forged.data);
  }
  assert_true(refused > 1000);
  walmap_close(map);
  free(image.data);
  content_free(c);
}

static void assert_refused(const walmap_entry *entries, size_t n, uint32_t number, walmap_check_fn check, void *ctx,
                           const char *text) {
  walmap *map = open_with_own(7);
  bytes image = image_of(entries, n, number, 0);
  source from = {.all = image};
  walmap_why why = {""};
  assert_int_equal(restore_from(map, &from, check, ctx, NULL, &why), WALMAP_CORRUPT);
  assert_string_equal(why.text, text);
  assert_true(map_is(map, own, N_OWN));
  walmap_close(map);
  free(image.data);
}

static const char *check_no_x(void *ctx, const walmap_entry *entry) {
  ++*(int *)ctx;
  return entry->key_len > 0 && *(const char *)entry->key == 'x' ? "x is not allowed" : NULL;
}

static void test_refused_content(void **unused) {
  (void)unused;
  const walmap_entry twice[] = {{"a", 1, "1", 1}, {"b", 1, "2", 1}, {"a", 1, "3", 1}};
  const walmap_entry with_x[] = {{"a", 1, "1", 1}, {"x", 1, "2", 1}, {"c", 1, "3", 1}};
  int calls = 0;
  assert_refused(twice, 3, 7, NULL, NULL, "image refused: entry 3: its key appears twice");
  assert_refused(with_x, 3, 7, check_no_x, &calls, "image refused: entry 2: x is not allowed");
  assert_int_equal(calls, 2);
  assert_refused(twice, 2, 8, NULL, NULL, "image refused: its content number is 8, this map's is 7");
}

/* A source that fails at any byte: IO, and the map is what it was. */
static void test_failing_source(void **unused) {
  (void)unused;
  content c = content_new(9, 5);
  bytes image = image_of(c.entries, c.n, 7, 2);
  walmap *map = open_with_own(7);
  for (size_t at = 0; at <= image.size; at++) {
    source from = {.all = image, .fail_at = at, .fails = -1};
    walmap_why why = {""};
    assert_int_equal(restore_from(map, &from, NULL, NULL, NULL, &why), WALMAP_IO);
    assert_true(why.text[0] != 0);
  }
  assert_true(map_is(map, own, N_OWN));
  walmap_close(map);
  free(image.data);
  content_free(c);
}

/* A lying length gets no memory: what the map's allocator gave for a forged image is bounded by the image. */
static void test_memory_is_bounded(void **unused) {
  (void)unused;
  faults f = {0};
  walmap_options options;
  walmap *map;
  content c = content_new(30, 5);
  bytes image = image_of(c.entries, c.n, 0, 0);
  walmap_options_init(&options);
  options.allocator = faults_allocator(&f);
  options.shards = 1;
  MUST_OK(walmap_open(&options, &map));
  long long before = f.bytes;
  MUST_OK(walmap_restore(map, image.data, image.size, NULL, NULL));
  assert_true(f.bytes - before < 64 << 10);
  before = f.bytes;
  for (size_t at = IMAGE_BLOCK; at < 6 * IMAGE_BLOCK; at += 4) {
    for (unsigned bit = 16; bit < 32; bit++) {
      bytes forged = bytes_copy(image.data, image.size);
      image_store32(forged.data + at, (uint32_t)1 << bit);
      repair(forged);
      faults_arm(&f, 0, false);
      (void)walmap_restore(map, forged.data, forged.size, NULL, NULL);
      assert_true(f.bytes - before < 64 << 10);
      free(forged.data);
    }
  }
  walmap_close(map);
  assert_int_equal(f.blocks, 0);
  free(image.data);
  content_free(c);
}

static const char *refuse_last(void *ctx, const walmap_entry *entry) {
  uint32_t *left = ctx;
  (void)entry;
  return --*left == 0 ? "the last one" : NULL;
}

/*
** Neither what a restore has replaced, nor one that was undone, nor an image that was refused at its end waits for
** writes to come: their memory is given back, if no reader sees them.
*/
static void test_nothing_is_left_behind(void **unused) {
  (void)unused;
  enum { COMMITTED, UNDONE, REFUSED, WAYS, TIMES = 20 };
  faults f = {0};
  walmap_options options;
  walmap *map;
  walmap_session *session;
  walmap_txn *txn;
  content c = content_new(20000, 5);
  bytes image = image_of(c.entries, c.n, 0, 0);
  walmap_options_init(&options);
  options.allocator = faults_allocator(&f);
  options.shards = 2;
  MUST_OK(walmap_open(&options, &map));
  MUST_OK(walmap_session_new(NULL, NULL, &session));
  MUST_OK(walmap_txn_new(map, session, &txn));
  for (int way = COMMITTED; way < WAYS; way++) {
    long long before = 0;
    for (int i = 0; i < TIMES; i++) {
      uint32_t left = c.n;
      source from = {.all = image, .random = (uint64_t)i};
      walmap_txn_begin(txn);
      assert_int_equal(
          walmap_txn_restore_read(txn, read_source, &from, way == REFUSED ? refuse_last : NULL, &left, NULL, NULL),
          way == REFUSED ? WALMAP_CORRUPT : WALMAP_OK);
      if (way == COMMITTED)
        walmap_txn_commit(txn);
      else
        walmap_txn_rollback(txn);
      if (i == 1)
        before = f.bytes;
    }
    assert_true(f.bytes <= before);
    assert_true(map_is(map, c.entries, c.n));
  }
  walmap_txn_free(txn);
  walmap_session_free(session);
  walmap_close(map);
  assert_int_equal(f.blocks, 0);
  free(image.data);
  content_free(c);
}

typedef struct high_water {
  faults *f;
  atomic_llong bytes;
} high_water;

static const char *measure(void *ctx, const walmap_entry *entry) {
  high_water *h = ctx;
  (void)entry;
  long long now = h->f->bytes, most = h->bytes;
  while (now > most && !atomic_compare_exchange_weak(&h->bytes, &most, now)) {
  }
  return NULL;
}

/* A trailer that lies about the number of entries gets an index for as many as the image could hold, not more. */
static void test_lying_trailer(void **unused) {
  (void)unused;
  faults f = {0};
  walmap_options options;
  walmap *map;
  walmap_session *session;
  walmap_txn *txn;
  walmap_why why;
  content c = content_new(50, 300000);
  bytes image = image_of(c.entries, c.n, 0, 0);
  high_water h = {&f, 0};
  walmap_options_init(&options);
  options.allocator = faults_allocator(&f);
  walmap__store64(image.data + image.size - IMAGE_BLOCK + TRAILER_ENTRIES, UINT64_MAX);
  repair(image);
  MUST_OK(walmap_open(&options, &map));
  MUST_OK(walmap_session_new(NULL, NULL, &session));
  MUST_OK(walmap_txn_new(map, session, &txn));
  walmap_txn_begin(txn);
  assert_int_equal(walmap_txn_restore(txn, image.data, image.size, measure, &h, NULL, &why), WALMAP_CORRUPT);
  walmap_txn_rollback(txn);
  assert_true(h.bytes > 0 && (uint64_t)h.bytes < 8 * image.size + (64 << 10));
  walmap_txn_free(txn);
  walmap_session_free(session);
  walmap_close(map);
  assert_int_equal(f.blocks, 0);
  free(image.data);
  content_free(c);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_restored_is_what_was_written),
      cmocka_unit_test(test_long_values),
      cmocka_unit_test(test_removed_keys_stay_away),
      cmocka_unit_test(test_restored_map_lives_on),
      cmocka_unit_test(test_image_is_deterministic),
      cmocka_unit_test(test_empty_map),
      cmocka_unit_test(test_golden_images),
      cmocka_unit_test(test_restore_in_transaction),
      cmocka_unit_test(test_damaged_images),
      cmocka_unit_test(test_forged_images),
      cmocka_unit_test(test_refused_content),
      cmocka_unit_test(test_failing_source),
      cmocka_unit_test(test_memory_is_bounded),
      cmocka_unit_test(test_nothing_is_left_behind),
      cmocka_unit_test(test_lying_trailer),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
