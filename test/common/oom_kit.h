/*
** oom_kit.h - a script of calls that is run again and again, while every allocation of the core fails in turn
**
** Each script is run with the Nth allocation refused, N = 1, 2, 3 ... until a run meets no refusal: once with that one
** allocation refused, and once with all after it refused as well. A call must give NOMEM if and only if a refusal
** happened inside it, change nothing then, and work when it is tried again; what is committed must equal a model of it;
** and closing must give every byte back. Compaction is not automatic here, for it may pass over a refusal.
*/
#ifndef TEST_COMMON_OOM_KIT_H
#define TEST_COMMON_OOM_KIT_H

#include "model.h"

#define KEYS 3000

typedef struct run {
  faults f;
  universe *u;
  walmap *map;
  uint32_t committed[KEYS], now[KEYS]; /* the model: what is committed, and what the transaction sees */
  uint64_t refused;                    /* NOMEM seen */
} run;

typedef void script_fn(run *r);

/* What is committed, looked at with no faults. */
static inline void verify(run *r) {
  bool armed = atomic_exchange(&r->f.armed, false);
  if (r->map)
    must_hold(r->u, r->map, r->committed);
  atomic_store(&r->f.armed, armed);
}

/* One attempt at a call: true when it has to be made again. */
static inline bool refused(run *r, unsigned long long hits_before, int result) {
  bool hit = atomic_load(&r->f.hits) != hits_before;
  if (hit && ORDERED && result != WALMAP_NOMEM)
    return false; /* leaves of the tree were not merged */
  if (hit)
    MUST_RESULT(result, WALMAP_NOMEM);
  else
    MUST(result != WALMAP_NOMEM);
  if (!hit)
    return false;
  r->refused++;
  verify(r);
  if (r->f.for_ever)
    atomic_store(&r->f.armed, false);
  return true;
}

/* Makes the call until it isn't refused, and holds its last result against `expected`. */
#define CALL(r, expected, call)                                                                                        \
  do {                                                                                                                 \
    unsigned long long hits_;                                                                                          \
    int result_;                                                                                                       \
    do {                                                                                                               \
      hits_ = atomic_load(&(r)->f.hits);                                                                               \
      result_ = (call);                                                                                                \
    } while (refused(r, hits_, result_));                                                                              \
    MUST_RESULT(result_, expected);                                                                                    \
  } while (0)

/* A call that may do with less memory than it would like: it may work beside refusals as well. */
#define CALL_WITH_LESS(r, call)                                                                                        \
  do {                                                                                                                 \
    unsigned long long hits_;                                                                                          \
    int result_;                                                                                                       \
    while (hits_ = atomic_load(&(r)->f.hits), (result_ = (call)) == WALMAP_NOMEM)                                      \
      MUST(refused(r, hits_, result_));                                                                                \
    MUST_OK(result_);                                                                                                  \
    (r)->refused += atomic_load(&(r)->f.hits) - hits_;                                                                 \
  } while (0)

static inline walmap_options options_of(run *r) {
  walmap_options options;
  options_init(&options);
  options.shards = 2;
  options.first_segment = 256;
  options.auto_compact = 0;
  options.busy_timeout = 0;
  options.seed_given = true;
  options.seed = 1;
  options.allocator = faults_allocator(&r->f);
  return options;
}

/* The map of every script but the first: made before the faults begin, with `n` keys. */
static inline void prepare(run *r, uint32_t n) {
  walmap_options options = options_of(r);
  bool armed = atomic_exchange(&r->f.armed, false);
  MUST_OK(walmap_open(&options, &r->map));
  for (uint32_t k = 0; k < n; k++) {
    bytes v = value_bytes(r->u, r->committed[k] = r->now[k] = k + 1);
    MUST_OK(walmap_set(r->map, r->u->keys[k].at, r->u->keys[k].len, v.at, v.len));
  }
  atomic_store(&r->f.armed, armed);
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* The runs                                                                                                           */

static universe *the_universe;

/* One run; true when it met its fault. */
static inline bool run_once(script_fn *script, unsigned long long fail_at, bool for_ever) {
  run *r = calloc(1, sizeof *r);
  MUST(r);
  r->u = the_universe;
  faults_arm(&r->f, fail_at, for_ever);
  script(r);
  verify(r);
  bool hit = atomic_load(&r->f.hits) > 0;
  MUST(ORDERED ? hit || r->refused == 0 : hit == (r->refused > 0));
  atomic_store(&r->f.armed, false);
  walmap_close(r->map);
  if (r->f.bytes || r->f.blocks)
    fprintf(stderr, "fault at %llu%s: %lld bytes in %lld blocks leaked\n", fail_at, for_ever ? " and after" : "",
            (long long)r->f.bytes, (long long)r->f.blocks);
  MUST(r->f.bytes == 0 && r->f.blocks == 0);
  free(r);
  return hit;
}

static inline void fail_everywhere(const char *name, script_fn *script, unsigned long long at_least) {
  unsigned long long injected = 0;
  for (int for_ever = 0; for_ever < 2; for_ever++) {
    unsigned long long n = 1;
    while (run_once(script, n, for_ever))
      n++;
    injected += n - 1;
  }
  printf("  %-22s %llu faults injected\n", name, injected);
  fflush(stdout);
  MUST(injected >= at_least); /* a script that allocates nothing tests nothing */
}

/* A test that runs script_NAME; it must meet so many faults at least. */
#define OOM_TEST(name, at_least)                                                                                       \
  static void name(void **unused) {                                                                                    \
    (void)unused;                                                                                                      \
    fail_everywhere(#name, script_##name, at_least);                                                                   \
  }

/* For cmocka_run_group_tests: before and after all tests. */
static inline int make_universe(void **unused) {
  (void)unused;
  the_universe = universe_new(KEYS, 0);
  return 0;
}

static inline int free_universe(void **unused) {
  (void)unused;
  universe_free(the_universe);
  return 0;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* A transaction, beside the model of what it sees                                                                    */

typedef struct party {
  walmap_session *session;
  walmap_txn *txn;
} party;

static inline party party_new(run *r) {
  party p;
  CALL(r, WALMAP_OK, walmap_session_new(NULL, NULL, &p.session));
  CALL(r, WALMAP_OK, walmap_txn_new(r->map, p.session, &p.txn));
  walmap_txn_begin(p.txn);
  return p;
}

static inline void party_free(party *p) {
  walmap_txn_free(p->txn);
  walmap_session_free(p->session);
}

static inline void txn_write(run *r, party *p, uint32_t i) {
  uint32_t k = (uint32_t)(mix(i) % 1500), version = 10000 + i;
  bytes key = r->u->keys[k], v = value_bytes(r->u, version);
  void *room = NULL;
  if (i % 4 == 0) {
    CALL(r, r->now[k] ? WALMAP_OK : WALMAP_NOTFOUND, walmap_txn_remove(p->txn, key.at, key.len));
    version = 0;
  } else if (i % 4 == 1) {
    CALL(r, WALMAP_OK, walmap_txn_reserve(p->txn, key.at, key.len, v.len, &room));
    if (v.len)
      memcpy(room, v.at, v.len);
  } else {
    CALL(r, WALMAP_OK, walmap_txn_set(p->txn, key.at, key.len, v.at, v.len));
  }
  r->now[k] = version;
}

static inline void txn_verify(run *r, party *p) {
  walmap_entry entry;
  MUST(walmap_txn_len(p->txn) == content_count(r->u, r->now));
  for (uint32_t k = 0; k < r->u->n; k++) {
    int result;
    CALL(r, r->now[k] ? WALMAP_OK : WALMAP_NOTFOUND,
         result = walmap_txn_get(p->txn, r->u->keys[k].at, r->u->keys[k].len, &entry));
    must_be(r->u, result, &entry, k, r->now[k]);
  }
}

#endif
