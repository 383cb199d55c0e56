/* test_oom_image.c - images, changes and what replaces all content, without memory: every allocation fails in turn */
#include "../common/oom_kit.h"

static void script_restore(run *r) {
  prepare(r, 1000);
  bool armed = atomic_exchange(&r->f.armed, false);
  void *image;
  size_t size;
  uint32_t in_image[KEYS];
  MUST_OK(walmap_snapshot(r->map, &image, &size));
  memcpy(in_image, r->committed, sizeof in_image);
  for (uint32_t k = 500; k < 1200; k++) {
    bytes v = value_bytes(r->u, r->committed[k] = 50000 + k);
    MUST_OK(walmap_set(r->map, r->u->keys[k].at, r->u->keys[k].len, v.at, v.len));
  }
  memcpy(r->now, r->committed, sizeof r->now);
  atomic_store(&r->f.armed, armed);

  uint64_t entries = 0;
  party p = party_new(r);
  for (uint32_t i = 0; i < 100; i++)
    txn_write(r, &p, i);
  walmap_txn_savepoint(p.txn, 0);
  uint32_t marked[KEYS];
  memcpy(marked, r->now, sizeof marked);
  CALL(r, WALMAP_OK, walmap_txn_restore(p.txn, image, size, NULL, NULL, &entries, NULL));
  MUST(entries == content_count(r->u, in_image));
  memcpy(r->now, in_image, sizeof r->now);
  for (uint32_t i = 0; i < 100; i++)
    txn_write(r, &p, 900 + i);
  txn_verify(r, &p);
  walmap_txn_rollback_to(p.txn, 0);
  memcpy(r->now, marked, sizeof r->now);
  txn_verify(r, &p);
  walmap_txn_commit(p.txn);
  memcpy(r->committed, r->now, sizeof r->now);
  verify(r);
  CALL(r, WALMAP_OK, walmap_restore(r->map, image, size, &entries, NULL));
  memcpy(r->committed, in_image, sizeof r->now);
  walmap_image_free(image);
  party_free(&p);
}

static void script_clear(run *r) {
  prepare(r, 1000);
  memcpy(r->now, r->committed, sizeof r->now);
  uint64_t removed = 0;
  party p = party_new(r);
  for (uint32_t i = 0; i < 100; i++)
    txn_write(r, &p, i);
  walmap_txn_savepoint(p.txn, 0);
  uint32_t marked[KEYS];
  memcpy(marked, r->now, sizeof marked);
  CALL(r, WALMAP_OK, walmap_txn_clear(p.txn, &removed));
  MUST(removed == content_count(r->u, marked));
  memset(r->now, 0, sizeof r->now);
  for (uint32_t i = 0; i < 100; i++)
    txn_write(r, &p, 900 + i);
  txn_verify(r, &p);
  walmap_txn_rollback_to(p.txn, 0);
  memcpy(r->now, marked, sizeof r->now);
  txn_verify(r, &p);
  CALL(r, WALMAP_OK, walmap_txn_clear(p.txn, &removed));
  memset(r->now, 0, sizeof r->now);
  walmap_txn_commit(p.txn);
  memcpy(r->committed, r->now, sizeof r->now);
  party_free(&p);
}

typedef struct stream {
  const uint8_t *at;
  size_t left, most;
} stream;

static ptrdiff_t read_stream(void *ctx, void *buffer, size_t size) {
  stream *s = ctx;
  size_t n = size < s->left ? size : s->left;
  if (n > s->most)
    n = s->most;
  memcpy(buffer, s->at, n);
  s->at += n;
  s->left -= n;
  return (ptrdiff_t)n;
}

static void script_restore_read(run *r) {
  prepare(r, 1000);
  bool armed = atomic_exchange(&r->f.armed, false);
  void *image;
  size_t size;
  MUST_OK(walmap_snapshot(r->map, &image, &size));
  atomic_store(&r->f.armed, armed);
  uint64_t entries;
  party p = party_new(r);
  stream s;
  CALL(r, WALMAP_OK,
       (s = (stream){image, size, 1000}, walmap_txn_restore_read(p.txn, read_stream, &s, NULL, NULL, &entries, NULL)));
  MUST(entries == 1000);
  txn_verify(r, &p);
  walmap_txn_commit(p.txn);
  walmap_image_free(image);
  party_free(&p);
}

/* Changes that set the even keys and remove the odd ones. */
static void script_apply(run *r) {
  prepare(r, 1000);
  bool armed = atomic_exchange(&r->f.armed, false);
  walmap *source;
  walmap_state *state;
  void *since, *changes;
  size_t since_size, size;
  uint64_t changed, most = 0;
  walmap_options options;
  options_init(&options);
  options.auto_compact = 0; /* or it may drop tombstones, after which the changes are not known */
  MUST_OK(walmap_open(&options, &source));
  MUST_OK(walmap_state_new(source, &state));
  MUST_OK(walmap_state_begin(state));
  MUST_OK(walmap_state_position(state, &since, &since_size));
  walmap_state_end(state);
  for (uint32_t k = 0; k < 1200; k++) {
    bytes key = r->u->keys[k], v = value_bytes(r->u, 20000 + k);
    MUST_OK(walmap_set(source, key.at, key.len, v.at, v.len));
    if (k % 2 != 0)
      MUST_OK(walmap_remove(source, key.at, key.len));
    most += k % 2 == 0 || r->now[k] != 0;
    r->now[k] = k % 2 == 0 ? 20000 + k : 0;
  }
  MUST_OK(walmap_state_begin(state));
  MUST_OK(walmap_state_changes(state, since, since_size, &changes, &size, NULL));
  atomic_store(&r->f.armed, armed);
  party p = party_new(r);
  CALL(r, WALMAP_OK, walmap_txn_apply(p.txn, changes, size, NULL, NULL, &changed, NULL));
  MUST(changed > 0 && changed <= most); /* two versions may have one value */
  txn_verify(r, &p);
  walmap_txn_commit(p.txn);
  memcpy(r->committed, r->now, sizeof r->committed);
  walmap_image_free(since);
  walmap_image_free(changes);
  walmap_state_free(state);
  walmap_close(source);
  party_free(&p);
}

static int count_bytes(void *ctx, const void *data, size_t size) {
  (void)data;
  *(size_t *)ctx += size;
  return 0;
}

static void script_image(run *r) {
  prepare(r, 1000);
  walmap_state *state;
  void *image;
  size_t size, written;
  CALL(r, WALMAP_OK, walmap_state_new(r->map, &state));
  CALL(r, WALMAP_OK, walmap_state_begin(state));
  CALL(r, WALMAP_OK, walmap_state_image(state, &image, &size));
  walmap_image_free(image);
  CALL(r, WALMAP_OK, (written = 0, walmap_state_write(state, count_bytes, &written)));
  MUST(written == size);
  walmap_image_stream *stream;
  CALL(r, WALMAP_OK, walmap_image_stream_new(state, &stream));
  walmap_image_stream_free(stream);
  walmap_state_free(state);
  CALL(r, WALMAP_OK, walmap_snapshot(r->map, &image, &size));
  walmap_image_free(image);
}

OOM_TEST(restore, 10)
OOM_TEST(clear, 10)
OOM_TEST(restore_read, 10)
OOM_TEST(apply, 10)
OOM_TEST(image, 2)

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(restore), cmocka_unit_test(clear), cmocka_unit_test(restore_read),
      cmocka_unit_test(apply),   cmocka_unit_test(image),
  };
  return cmocka_run_group_tests(tests, make_universe, free_universe);
}
