/* test_oom_txn.c - transactions, savepoints and their states that run out of memory: every allocation fails in turn */
#include "../common/oom_kit.h"

static void script_txn_commit(run *r) {
  prepare(r, 800);
  party p = party_new(r);
  for (uint32_t i = 0; i < 1500; i++)
    txn_write(r, &p, i);
  txn_verify(r, &p);
  unsigned long long hits = atomic_load(&r->f.hits);
  walmap_txn_commit(p.txn); /* C7: nothing is left to it that could fail */
  MUST(atomic_load(&r->f.hits) == hits);
  memcpy(r->committed, r->now, sizeof r->now);
  party_free(&p);
}

static void script_txn_rollback(run *r) {
  prepare(r, 800);
  party p = party_new(r);
  for (uint32_t i = 0; i < 1500; i++)
    txn_write(r, &p, i);
  unsigned long long hits = atomic_load(&r->f.hits);
  walmap_txn_rollback(p.txn);
  MUST(atomic_load(&r->f.hits) == hits);
  memcpy(r->now, r->committed, sizeof r->now);
  walmap_txn_begin(p.txn);
  for (uint32_t i = 0; i < 500; i++)
    txn_write(r, &p, i + 7);
  walmap_txn_free(p.txn);
  walmap_session_free(p.session);
}

static void script_savepoints(run *r) {
  prepare(r, 500);
  party p = party_new(r);
  static uint32_t level[4][KEYS];
  for (int n = 0; n < 4; n++) {
    walmap_txn_savepoint(p.txn, n);
    memcpy(level[n], r->now, sizeof r->now);
    for (uint32_t i = 0; i < 300; i++)
      txn_write(r, &p, (uint32_t)n * 1000 + i);
  }
  walmap_txn_savepoint(p.txn, 40);
  unsigned long long hits = atomic_load(&r->f.hits);
  walmap_txn_release(p.txn, 20);
  walmap_txn_release(p.txn, 3);
  walmap_txn_rollback_to(p.txn, 2);
  MUST(atomic_load(&r->f.hits) == hits);
  memcpy(r->now, level[2], sizeof r->now);
  txn_verify(r, &p);
  for (uint32_t i = 0; i < 300; i++)
    txn_write(r, &p, 77000 + i);
  walmap_txn_rollback_to(p.txn, 1);
  memcpy(r->now, level[1], sizeof r->now);
  txn_verify(r, &p);
  walmap_txn_commit(p.txn);
  memcpy(r->committed, r->now, sizeof r->now);
  party_free(&p);
}

static void script_txn_state(run *r) {
  prepare(r, 400);
  party p = party_new(r);
  walmap_state *state;
  uint32_t frozen[KEYS];
  for (uint32_t i = 0; i < 400; i++)
    txn_write(r, &p, i);
  CALL(r, WALMAP_OK, walmap_state_new(r->map, &state));
  CALL(r, WALMAP_OK, walmap_txn_state_begin(p.txn, state));
  memcpy(frozen, r->now, sizeof frozen);
  for (uint32_t i = 0; i < 800; i++)
    txn_write(r, &p, 3000 + i);
  must_equal(r->u, state, frozen);
  walmap_txn_commit(p.txn);
  memcpy(r->committed, r->now, sizeof r->now);
  must_equal(r->u, state, frozen);
  walmap_state_free(state);
  party_free(&p);
}

OOM_TEST(txn_commit, 10)
OOM_TEST(txn_rollback, 10)
OOM_TEST(savepoints, 10)
OOM_TEST(txn_state, 4)

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(txn_commit),
      cmocka_unit_test(txn_rollback),
      cmocka_unit_test(savepoints),
      cmocka_unit_test(txn_state),
  };
  return cmocka_run_group_tests(tests, make_universe, free_universe);
}
