/* test_oom.c - calls of one operation, and compaction, that run out of memory: every allocation fails in turn */
#include "../common/oom_kit.h"

static void script_open(run *r) {
  walmap_options options = options_of(r);
  options.shards = 16;
  CALL(r, WALMAP_OK, walmap_open(&options, &r->map));
}

static void script_open_with_capacity(run *r) {
  walmap_options options = options_of(r);
  options.capacity = 10000;
  CALL(r, WALMAP_OK, walmap_open(&options, &r->map));
  bytes v = value_bytes(r->u, 1);
  CALL_WITH_LESS(r, walmap_set(r->map, r->u->keys[5].at, r->u->keys[5].len, v.at, v.len));
  r->committed[5] = 1;
}

/* Growth of log and index from nothing to thousands of keys; then all is overwritten and half removed. */
static void script_set_and_remove(run *r) {
  prepare(r, 0);
  for (uint32_t i = 0; i < 2 * KEYS; i++) {
    uint32_t k = i % KEYS;
    bytes v = value_bytes(r->u, i + 1);
    CALL(r, WALMAP_OK, walmap_set(r->map, r->u->keys[k].at, r->u->keys[k].len, v.at, v.len));
    r->committed[k] = i + 1;
  }
  for (uint32_t k = 0; k < KEYS; k += 2) {
    CALL(r, WALMAP_OK, walmap_remove(r->map, r->u->keys[k].at, r->u->keys[k].len));
    r->committed[k] = 0;
    CALL(r, WALMAP_NOTFOUND, walmap_remove(r->map, r->u->keys[k].at, r->u->keys[k].len));
  }
}

/* The same while a state is open, so that old records are kept reachable. */
static void script_set_beside_state(run *r) {
  prepare(r, 600);
  walmap_state *state;
  uint32_t frozen[KEYS];
  memcpy(frozen, r->committed, sizeof frozen);
  CALL(r, WALMAP_OK, walmap_state_new(r->map, &state));
  CALL(r, WALMAP_OK, walmap_state_begin(state));
  for (uint32_t i = 0; i < 1200; i++) {
    uint32_t k = (uint32_t)(mix(i) % 900);
    if (i % 3) {
      bytes v = value_bytes(r->u, 5000 + i);
      CALL(r, WALMAP_OK, walmap_set(r->map, r->u->keys[k].at, r->u->keys[k].len, v.at, v.len));
      r->committed[k] = 5000 + i;
    } else {
      CALL(r, r->committed[k] ? WALMAP_OK : WALMAP_NOTFOUND,
           walmap_remove(r->map, r->u->keys[k].at, r->u->keys[k].len));
      r->committed[k] = 0;
    }
  }
  must_equal(r->u, state, frozen);
  walmap_state_free(state);
}

static bool say_yes(void *ctx, const void *value, size_t len) {
  (void)ctx, (void)value, (void)len;
  return true;
}

static int give_version(void *ctx, const void *old, size_t old_len, const void **value, size_t *len) {
  (void)old, (void)old_len;
  *value = ((bytes *)ctx)->at;
  *len = ((bytes *)ctx)->len;
  return WALMAP_OK;
}

static void script_conditional(run *r) {
  prepare(r, 300);
  for (uint32_t i = 0; i < 1200; i++) {
    uint32_t k = (uint32_t)(mix(i) % 600), version = 5000 + i, old = r->committed[k];
    bytes key = r->u->keys[k], v = value_bytes(r->u, version);
    bool done = false;
    switch (i % 4) {
    case 0:
      CALL(r, WALMAP_OK, walmap_set_if_absent(r->map, key.at, key.len, v.at, v.len, &done));
      break;
    case 1:
      CALL(r, old ? WALMAP_OK : WALMAP_NOTFOUND,
           walmap_set_if(r->map, key.at, key.len, v.at, v.len, say_yes, NULL, &done));
      break;
    case 2:
      CALL(r, old ? WALMAP_OK : WALMAP_NOTFOUND, walmap_remove_if(r->map, key.at, key.len, say_yes, NULL, &done));
      if (done)
        r->committed[k] = 0;
      continue;
    case 3:
      CALL(r, WALMAP_OK, walmap_upsert(r->map, key.at, key.len, give_version, &v));
      done = true;
    }
    if (done)
      r->committed[k] = version;
  }
}

/* Each entry expires at a time of its own, in a few hundred years; some are written in a transaction that is undone. */
static void script_expiring(run *r) {
  const uint64_t then = UINT64_C(10000000000000);
  walmap_session *session = NULL;
  walmap_txn *txn = NULL;
  prepare(r, 300);
  for (uint32_t i = 0; i < 1200; i++) {
    uint32_t k = (uint32_t)(mix(i) % 600), version = 20000 + i, old = r->committed[k];
    bytes key = r->u->keys[k], v = value_bytes(r->u, version);
    if (i % 4 == 3) {
      CALL(r, old ? WALMAP_OK : WALMAP_NOTFOUND, walmap_touch(r->map, key.at, key.len, then + i));
      set_life(r->u, version, old, then + i);
      r->committed[k] = old ? version : 0;
    } else {
      set_life(r->u, version, version, then + i);
      CALL(r, WALMAP_OK, walmap_set_expiring(r->map, key.at, key.len, v.at, v.len, then + i));
      r->committed[k] = version;
    }
  }
  CALL(r, WALMAP_OK, walmap_session_new(NULL, NULL, &session));
  CALL(r, WALMAP_OK, walmap_txn_new(r->map, session, &txn));
  walmap_txn_begin(txn);
  for (uint32_t k = 0; k < 500; k++) {
    void *to;
    CALL(r, WALMAP_OK,
         walmap_txn_reserve_expiring(txn, WALMAP_ALWAYS, r->u->keys[k].at, r->u->keys[k].len, 0, then + 5000 + k, &to));
  }
  walmap_txn_rollback(txn);
  walmap_txn_free(txn);
  walmap_session_free(session);
  void *image;
  size_t size;
  bool armed = atomic_exchange(&r->f.armed, false);
  MUST_OK(walmap_snapshot(r->map, &image, &size));
  atomic_store(&r->f.armed, armed);
  CALL(r, WALMAP_OK, walmap_restore(r->map, image, size, NULL, NULL));
  walmap_image_free(image);
}

static void script_huge_values(run *r) {
  prepare(r, 10);
  size_t huge = 3 << 20;
  uint8_t *data = malloc(huge);
  MUST(data);
  memset(data, 'h', huge);
  for (int i = 0; i < 6; i++) {
    CALL(r, WALMAP_OK, walmap_set(r->map, "huge value", 10, data, huge - (size_t)i));
    atomic_bool armed = atomic_exchange(&r->f.armed, false);
    MUST_OK(walmap_remove(r->map, "huge value", 10)); /* the model has no such key */
    atomic_store(&r->f.armed, armed);
  }
  free(data);
}

/*
** A long value that was refused has had its segment, perhaps: short ones that come instead must not go there, where
** addresses are for one record only. `txn` may be NULL. The model has no such key.
*/
static void short_ones_instead(run *r, walmap_txn *txn) {
  enum { TIMES = 20, LENGTH = 60000 }; /* more than 1 MiB */
  static uint8_t data[LENGTH];
  bool armed = atomic_exchange(&r->f.armed, false);
  for (int i = 0; i < TIMES; i++)
    MUST_OK(txn ? walmap_txn_set(txn, "long", 4, data, LENGTH) : walmap_set(r->map, "long", 4, data, LENGTH));
  MUST_OK(walmap_verify(r->map, txn, NULL));
  MUST_OK(txn ? walmap_txn_remove(txn, "long", 4) : walmap_remove(r->map, "long", 4));
  atomic_store(&r->f.armed, armed);
}

static void script_long_refused(run *r) {
  enum { LONG = 3 << 20, TIMES = 12 };
  prepare(r, 10);
  uint8_t *data = calloc(1, LONG);
  MUST(data);
  walmap_session *session;
  walmap_txn *txn;
  CALL(r, WALMAP_OK, walmap_session_new(NULL, NULL, &session));
  CALL(r, WALMAP_OK, walmap_txn_new(r->map, session, &txn));
  for (int i = 0; i < TIMES; i++) {
    unsigned long long hits = atomic_load(&r->f.hits);
    if (i % 2) {
      walmap_txn_begin(txn);
      (void)refused(r, hits, walmap_txn_set(txn, "long", 4, data, LONG));
      short_ones_instead(r, txn);
      walmap_txn_commit(txn);
    } else {
      (void)refused(r, hits, walmap_set(r->map, "long", 4, data, LONG));
      short_ones_instead(r, NULL);
    }
  }
  walmap_txn_free(txn);
  walmap_session_free(session);
  free(data);
}

static void script_get(run *r) {
  prepare(r, 100);
  walmap_state *state, *second;
  char buffer[10];
  size_t len;
  CALL(r, WALMAP_OK, walmap_get(r->map, r->u->keys[3].at, r->u->keys[3].len, buffer, sizeof buffer, &len));
  CALL(r, WALMAP_OK, walmap_view(r->map, r->u->keys[3].at, r->u->keys[3].len, say_yes, NULL));
  CALL(r, WALMAP_OK, walmap_state_new(r->map, &state));
  CALL(r, WALMAP_OK, walmap_state_new(r->map, &second));
  for (int i = 0; i < 3; i++) {
    CALL(r, WALMAP_OK, walmap_state_begin(state));
    CALL(r, WALMAP_OK, walmap_state_begin(second));
    must_equal(r->u, state, r->committed);
    walmap_state_end(state);
    walmap_state_end(second);
  }
  walmap_state_free(state);
  walmap_state_free(second);
}

static void script_compact(run *r) {
  prepare(r, 1500);
  bool armed = atomic_exchange(&r->f.armed, false);
  for (uint32_t k = 0; k < 1500; k += 2) {
    MUST_OK(walmap_remove(r->map, r->u->keys[k].at, r->u->keys[k].len));
    r->committed[k] = 0;
  }
  uint64_t size = walmap_size(r->map), reclaimable = walmap_reclaimable(r->map);
  atomic_store(&r->f.armed, armed);
  CALL(r, WALMAP_OK, walmap_compact(r->map, NULL)); /* what was compacted before a refusal stays so */
  MUST(walmap_size(r->map) == size - reclaimable && walmap_reclaimable(r->map) == 0);
  memcpy(r->now, r->committed, sizeof r->now);
  party p = party_new(r);
  for (uint32_t i = 0; i < 300; i++)
    txn_write(r, &p, i);
  CALL(r, WALMAP_OK, walmap_compact(r->map, p.txn));
  txn_verify(r, &p);
  walmap_txn_commit(p.txn);
  memcpy(r->committed, r->now, sizeof r->now);
  party_free(&p);
}

OOM_TEST(open, 2)
OOM_TEST(open_with_capacity, 2)
OOM_TEST(set_and_remove, 20)
OOM_TEST(set_beside_state, 10)
OOM_TEST(conditional, 10)
OOM_TEST(expiring, 20)
OOM_TEST(huge_values, 10)
OOM_TEST(long_refused, 10)
OOM_TEST(get, 2)
OOM_TEST(compact, 2)

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(open),
      cmocka_unit_test(open_with_capacity),
      cmocka_unit_test(set_and_remove),
      cmocka_unit_test(set_beside_state),
      cmocka_unit_test(conditional),
      cmocka_unit_test(expiring),
      cmocka_unit_test(huge_values),
      cmocka_unit_test(long_refused),
      cmocka_unit_test(get),
      cmocka_unit_test(compact),
  };
  return cmocka_run_group_tests(tests, make_universe, free_universe);
}
