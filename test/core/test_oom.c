/*
** test_oom.c - every allocation of the core fails, one after another
**
** Each script is run again and again with the Nth allocation refused, N = 1, 2, 3 ... until a run meets no refusal:
** once with that one allocation refused, and once with all after it refused as well. A call must give NOMEM if and only
** if a refusal happened inside it, change nothing then, and work when it is tried again; what is committed must equal a
** model of it; and closing must give every byte back. Compaction is not automatic here, for it may pass over a refusal.
*/
#include "../common/model.h"

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
static void verify(run *r) {
  bool armed = atomic_exchange(&r->f.armed, false);
  if (r->map)
    must_hold(r->u, r->map, r->committed);
  atomic_store(&r->f.armed, armed);
}

/* One attempt at a call: true when it has to be made again. */
static bool refused(run *r, unsigned long long hits_before, int result) {
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

static walmap_options options_of(run *r) {
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
static void prepare(run *r, uint32_t n) {
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
/* The scripts                                                                                                        */

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

/* All the transaction's calls; what it sees is verified at every refusal and at its end. */
typedef struct party {
  walmap_session *session;
  walmap_txn *txn;
} party;

static party party_new(run *r) {
  party p;
  CALL(r, WALMAP_OK, walmap_session_new(NULL, NULL, &p.session));
  CALL(r, WALMAP_OK, walmap_txn_new(r->map, p.session, &p.txn));
  walmap_txn_begin(p.txn);
  return p;
}

static void party_free(party *p) {
  walmap_txn_free(p->txn);
  walmap_session_free(p->session);
}

static void txn_write(run *r, party *p, uint32_t i) {
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

static void txn_verify(run *r, party *p) {
  walmap_entry entry;
  MUST(walmap_txn_len(p->txn) == content_count(r->u, r->now));
  for (uint32_t k = 0; k < r->u->n; k++) {
    int result;
    CALL(r, r->now[k] ? WALMAP_OK : WALMAP_NOTFOUND,
         result = walmap_txn_get(p->txn, r->u->keys[k].at, r->u->keys[k].len, &entry));
    must_be(r->u, result, &entry, k, r->now[k]);
  }
}

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

/* ------------------------------------------------------------------------------------------------------------------ */

static universe *the_universe;

/* One run; true when it met its fault. */
static bool run_once(script_fn *script, unsigned long long fail_at, bool for_ever) {
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

static void fail_everywhere(const char *name, script_fn *script, unsigned long long at_least) {
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

#define TEST(name, at_least)                                                                                           \
  static void name(void **unused) {                                                                                    \
    (void)unused;                                                                                                      \
    fail_everywhere(#name, script_##name, at_least);                                                                   \
  }
TEST(open, 2)
TEST(open_with_capacity, 2)
TEST(set_and_remove, 20)
TEST(set_beside_state, 10)
TEST(conditional, 10)
TEST(expiring, 20)
TEST(huge_values, 10)
TEST(long_refused, 10)
TEST(get, 2)
TEST(txn_commit, 10)
TEST(txn_rollback, 10)
TEST(savepoints, 10)
TEST(txn_state, 4)
TEST(compact, 2)
TEST(restore, 10)
TEST(restore_read, 10)
TEST(clear, 10)
TEST(apply, 10)
TEST(image, 2)

int main(void) {
  the_universe = universe_new(KEYS, 0);
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(open),           cmocka_unit_test(open_with_capacity),
      cmocka_unit_test(set_and_remove), cmocka_unit_test(set_beside_state),
      cmocka_unit_test(conditional),    cmocka_unit_test(huge_values),
      cmocka_unit_test(long_refused),   cmocka_unit_test(get),
      cmocka_unit_test(txn_commit),     cmocka_unit_test(txn_rollback),
      cmocka_unit_test(savepoints),     cmocka_unit_test(txn_state),
      cmocka_unit_test(compact),        cmocka_unit_test(restore),
      cmocka_unit_test(restore_read),   cmocka_unit_test(apply),
      cmocka_unit_test(image),          cmocka_unit_test(expiring),
      cmocka_unit_test(clear),
  };
  int failed = cmocka_run_group_tests(tests, NULL, NULL);
  universe_free(the_universe);
  return failed;
}
