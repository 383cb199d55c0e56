/*
** test_model.c - random operations on a map beside a plain model of it, invariants after every step
**
** Small shards and segments, so that growth, compaction, splits and the freeing of segments happen all the time. Two
** sessions' transactions and several states are open at once; each state has a frozen copy of the content that it must
** go on showing. With a busy_timeout of 0 nothing waits, so one thread plays all parties and every run is repeatable:
** SEED=n test_model repeats the run that printed it, STEPS=n sets its length, TRACE=1 prints every call.
*/
#include "model.h"

#ifndef KEYS
#define KEYS 220 /* few keys make short traces */
#endif
#define TXNS 2
#define STATES 5
#define LEVELS 6
#define IMAGES 3

/* What a transaction sees: its own writes over what is committed. */
typedef struct overlay {
  uint32_t version[KEYS];
  bool written[KEYS];
} overlay;

typedef struct party {
  walmap_session *session;
  walmap_txn *txn;
  overlay now, level[LEVELS];
  bool touched[KEYS]; /* read or written: the key's shard is its own */
  bool touched_any;
  bool may_own; /* a call over all shards was kept out midway, or compaction passed: it may own what it didn't touch */
  int levels;
  uint64_t level_step[LEVELS]; /* when the savepoint was made */
} party;

typedef struct shown {
  walmap_state *state;
  bool begun;
  struct party *of; /* shows this one's own changes, until it ends */
  uint64_t since;   /* step at which it was begun */
  uint32_t content[KEYS];
} shown;

typedef struct kept_image {
  void *image;
  size_t size;
  uint32_t content[KEYS];
} kept_image;

typedef struct world {
  universe *u;
  walmap_options options;
  walmap *map;
  uint64_t random;
  uint64_t step;
  uint32_t version; /* the last one given out */
  bool trace;
  uint32_t committed[KEYS];
  party parties[TXNS];
  shown states[STATES];
  kept_image images[IMAGES];
  uint64_t busy, compactions, exact, verified; /* for the summary: that these happened at all */
} world;

static uint32_t pick(world *w, uint32_t n) { return random_below(&w->random, n); }

/* One line for each call, when asked for. */
static void trace(const world *w, const char *format, ...) {
  if (!w->trace)
    return;
  va_list arguments;
  va_start(arguments, format);
  vprintf(format, arguments);
  va_end(arguments);
  putchar('\n');
  fflush(stdout);
}

static int number_of(const world *w, const party *p) { return (int)(p - w->parties); }

static void see(const world *w, const party *p, uint32_t *content) {
  for (uint32_t k = 0; k < KEYS; k++)
    content[k] = p->now.written[k] ? p->now.version[k] : w->committed[k];
}

static uint32_t seen_by(const world *w, const party *p, uint32_t key) {
  return p->now.written[key] ? p->now.version[key] : w->committed[key];
}

static bool is_touched(const world *w, const party *but, uint32_t key) {
  for (int i = 0; i < TXNS; i++)
    if (&w->parties[i] != but && w->parties[i].touched[key])
      return true;
  return false;
}

static bool is_touched_any(const world *w, const party *but) {
  for (int i = 0; i < TXNS; i++)
    if (&w->parties[i] != but && w->parties[i].touched_any)
      return true;
  return false;
}

static bool may_own_any(const world *w, const party *but) {
  for (int i = 0; i < TXNS; i++)
    if (&w->parties[i] != but && w->parties[i].may_own)
      return true;
  return is_touched_any(w, but);
}

/*
** True when the call was kept out by a shard's owner, which is right or wrong according to who touched what: it must be
** when somebody touched the very key, it can't be when nobody owns anything, and with one shard both are one.
*/
static bool kept_out(world *w, int result, const party *by, uint32_t key) {
  bool busy = result == WALMAP_BUSY || result == WALMAP_DEADLOCK;
  if (is_touched(w, by, key))
    MUST(busy);
  if (!may_own_any(w, by))
    MUST(!busy);
  if (w->options.shards == 1 && is_touched_any(w, by))
    MUST(busy);
  w->busy += busy;
  return busy;
}

static void touch(party *p, uint32_t key) { p->touched[key] = p->touched_any = true; }

static void touch_all(party *p) {
  memset(p->touched, true, sizeof p->touched);
  p->touched_any = true;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Single operations                                                                                                  */

struct expected_value {
  world *w;
  uint32_t version; /* 0: absent */
  uint32_t replacement;
  bool answer;
  int result, calls;
};

static bool test_value(void *ctx, const void *value, size_t len) {
  struct expected_value *e = ctx;
  e->calls++;
  MUST(e->version && value_is(e->w->u, value, len, e->version));
  return e->answer;
}

static int upsert_value(void *ctx, const void *old, size_t old_len, const void **value, size_t *len) {
  struct expected_value *e = ctx;
  e->calls++;
  MUST(!old == !e->version);
  if (old)
    MUST(value_is(e->w->u, old, old_len, e->version));
  bytes v = value_bytes(e->w->u, e->replacement);
  *value = v.at;
  *len = v.len;
  return e->result;
}

static void step_single(world *w) {
  uint32_t key = pick(w, KEYS), old = w->committed[key], next = ++w->version;
  bytes k = w->u->keys[key], v = value_bytes(w->u, next);
  bool done = false, answer = pick(w, 2);
  struct expected_value e = {w, old, next, answer, answer ? WALMAP_OK : WALMAP_IO, 0};
  int result, what = (int)pick(w, 8);
  trace(w, "single %d: key %u, version %u, answer %d", what, key, next, answer);
  switch (what) {
  case 0:
  case 1:
  case 2:
    result = walmap_set(w->map, k.at, k.len, v.at, v.len);
    if (kept_out(w, result, NULL, key))
      return;
    MUST_OK(result);
    w->committed[key] = next;
    return;
  case 3:
    result = walmap_remove(w->map, k.at, k.len);
    if (kept_out(w, result, NULL, key))
      return;
    MUST_RESULT(result, old ? WALMAP_OK : WALMAP_NOTFOUND);
    w->committed[key] = 0;
    return;
  case 4:
    result = walmap_set_if_absent(w->map, k.at, k.len, v.at, v.len, &done);
    if (kept_out(w, result, NULL, key))
      return;
    MUST_OK(result);
    MUST(done == !old);
    if (done)
      w->committed[key] = next;
    return;
  case 5:
    result = walmap_set_if(w->map, k.at, k.len, v.at, v.len, test_value, &e, &done);
    if (kept_out(w, result, NULL, key))
      return;
    MUST_RESULT(result, old ? WALMAP_OK : WALMAP_NOTFOUND);
    MUST(done == (old && answer) && e.calls == (old != 0));
    if (done)
      w->committed[key] = next;
    return;
  case 6:
    result = walmap_remove_if(w->map, k.at, k.len, test_value, &e, &done);
    if (kept_out(w, result, NULL, key))
      return;
    MUST_RESULT(result, old ? WALMAP_OK : WALMAP_NOTFOUND);
    MUST(done == (old && answer) && e.calls == (old != 0));
    if (done)
      w->committed[key] = 0;
    return;
  case 7:
    result = walmap_upsert(w->map, k.at, k.len, upsert_value, &e);
    if (kept_out(w, result, NULL, key))
      return;
    MUST_RESULT(result, e.result);
    MUST(e.calls == 1);
    if (result == WALMAP_OK)
      w->committed[key] = next;
    return;
  }
}

static void step_get(world *w) {
  uint32_t key = pick(w, KEYS), version = w->committed[key];
  bytes k = w->u->keys[key];
  static uint8_t buffer[400000];
  size_t len = 0;
  int result = walmap_get(w->map, k.at, k.len, buffer, sizeof buffer, &len);
  walmap_entry entry = {k.at, k.len, buffer, len};
  must_be(w->u, result, &entry, key, version);
  struct expected_value e = {w, version, 0, pick(w, 2), 0, 0};
  MUST_RESULT(walmap_view(w->map, k.at, k.len, test_value, &e), version ? WALMAP_OK : WALMAP_NOTFOUND);
  MUST(e.calls == (version != 0));
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Transactions                                                                                                       */

/* States that show what `p` has done since are shown without it (walmap_txn_state_begin). */
static void undone(world *w, party *p, uint64_t since) {
  for (int i = 0; i < STATES; i++)
    if (w->states[i].begun && w->states[i].of == p && w->states[i].since > since)
      see(w, p, w->states[i].content);
}

static void end_party(world *w, party *p) {
  for (int i = 0; i < STATES; i++)
    if (w->states[i].of == p)
      w->states[i].of = NULL;
  memset(&p->now, 0, sizeof p->now);
  memset(p->touched, 0, sizeof p->touched);
  p->touched_any = p->may_own = false;
  p->levels = 0;
}

static void step_write(world *w, party *p) {
  uint32_t key = pick(w, KEYS), old = seen_by(w, p, key);
  bytes k = w->u->keys[key];
  int result;
  if (pick(w, 4) == 0) {
    trace(w, "txn %d: remove %u", number_of(w, p), key);
    result = walmap_txn_remove(p->txn, k.at, k.len);
    if (kept_out(w, result, p, key))
      return;
    MUST_RESULT(result, old ? WALMAP_OK : WALMAP_NOTFOUND);
    p->now.version[key] = 0;
  } else {
    uint32_t next = ++w->version;
    bytes v = value_bytes(w->u, next);
    void *room = NULL;
    bool reserve = pick(w, 3) == 0;
    trace(w, "txn %d: %s %u, version %u", number_of(w, p), reserve ? "reserve" : "set", key, next);
    result = reserve ? walmap_txn_reserve(p->txn, k.at, k.len, v.len, &room)
                     : walmap_txn_set(p->txn, k.at, k.len, v.at, v.len);
    if (kept_out(w, result, p, key))
      return;
    MUST_OK(result);
    if (reserve && v.len)
      memcpy(room, v.at, v.len);
    p->now.version[key] = next;
  }
  p->now.written[key] = true;
  touch(p, key);
}

static void step_txn_get(world *w, party *p) {
  uint32_t key = pick(w, KEYS);
  walmap_entry entry;
  trace(w, "txn %d: get %u", number_of(w, p), key);
  int result = walmap_txn_get(p->txn, w->u->keys[key].at, w->u->keys[key].len, &entry);
  if (kept_out(w, result, p, key))
    return;
  must_be(w->u, result, &entry, key, seen_by(w, p, key));
  touch(p, key);
}

struct alike {
  world *w;
  const uint32_t *content;
  uint64_t hash;
  uint32_t seen;
};

static bool check_alike(void *ctx, const walmap_entry *entry) {
  struct alike *a = ctx;
  uint32_t key = universe_find(a->w->u, entry->key, entry->key_len);
  MUST(key < KEYS && walmap_hash(a->w->map, entry->key, entry->key_len) == a->hash);
  must_be(a->w->u, WALMAP_OK, entry, key, a->content[key]);
  a->seen++;
  return true;
}

static uint32_t count_alike(const struct alike *a) {
  uint32_t count = 0;
  for (uint32_t k = 0; k < KEYS; k++) {
    bytes key = a->w->u->keys[k];
    count += a->content[k] && walmap_hash(a->w->map, key.at, key.len) == a->hash;
  }
  return count;
}

static void step_each_hash(world *w, party *p) {
  uint32_t key = pick(w, KEYS), content[KEYS];
  see(w, p, content);
  struct alike a = {w, content, walmap_hash(w->map, w->u->keys[key].at, w->u->keys[key].len), 0};
  if (kept_out(w, walmap_txn_each_hash(p->txn, a.hash, check_alike, &a), p, key))
    return;
  MUST(a.seen == count_alike(&a));
  touch(p, key);
}

static void step_savepoint(world *w, party *p) {
  int n = (int)pick(w, LEVELS);
  trace(w, "txn %d: savepoint %d", number_of(w, p), n);
  walmap_txn_savepoint(p->txn, n);
  for (int i = p->levels < n ? p->levels : n; i <= n; i++) {
    p->level[i] = p->now;
    p->level_step[i] = w->step;
  }
  p->levels = n + 1;
}

static void step_release(world *w, party *p) {
  int n = (int)pick(w, LEVELS);
  trace(w, "txn %d: release %d", number_of(w, p), n);
  walmap_txn_release(p->txn, n);
  if (p->levels > n)
    p->levels = n;
}

static void step_rollback_to(world *w, party *p) {
  int n = (int)pick(w, LEVELS + 1) - 1;
  trace(w, "txn %d: rollback to %d", number_of(w, p), n);
  walmap_txn_rollback_to(p->txn, n);
  if (n < 0) {
    memset(&p->now, 0, sizeof p->now);
    p->levels = 0;
    undone(w, p, 0);
  } else if (n < p->levels) {
    p->now = p->level[n];
    p->levels = n + 1;
    undone(w, p, p->level_step[n]);
  }
}

static void step_restore(world *w, party *p) {
  kept_image *i = &w->images[pick(w, IMAGES)];
  uint64_t entries = 0;
  if (!i->image)
    return;
  trace(w, "txn %d: restore image %d", number_of(w, p), (int)(i - w->images));
  int result = walmap_txn_restore(p->txn, i->image, i->size, NULL, NULL, &entries, NULL);
  if (result == WALMAP_BUSY || result == WALMAP_DEADLOCK) {
    MUST(may_own_any(w, p));
    p->may_own = true;
    w->busy++;
    return;
  }
  MUST_OK(result);
  MUST(entries == content_count(w->u, i->content));
  memcpy(p->now.version, i->content, sizeof i->content);
  memset(p->now.written, true, sizeof p->now.written);
  touch_all(p);
}

static void step_rollback(world *w, party *p) {
  trace(w, "txn %d: rollback", number_of(w, p));
  walmap_txn_rollback(p->txn);
  memset(&p->now, 0, sizeof p->now);
  undone(w, p, 0);
  end_party(w, p);
}

static void step_commit(world *w, party *p) {
  trace(w, "txn %d: commit", number_of(w, p));
  walmap_txn_commit(p->txn);
  for (uint32_t k = 0; k < KEYS; k++)
    if (p->now.written[k])
      w->committed[k] = p->now.version[k];
  end_party(w, p);
}

static void step_txn(world *w) {
  party *p = &w->parties[pick(w, TXNS)];
  if (!walmap_txn_is_begun(p->txn)) {
    if (pick(w, 8) == 0) {
      trace(w, "txn %d: begin", number_of(w, p));
      walmap_txn_begin(p->txn);
    }
    return;
  }
  switch (pick(w, 64)) {
  case 0:
  case 1:
    step_commit(w, p);
    return;
  case 2:
    step_rollback(w, p);
    return;
  case 3:
    step_restore(w, p);
    return;
  case 4:
  case 5:
  case 6:
    step_savepoint(w, p);
    return;
  case 7:
  case 8:
    step_release(w, p);
    return;
  case 9:
  case 10:
  case 11:
    step_rollback_to(w, p);
    return;
  case 12:
  case 13:
  case 14:
    step_each_hash(w, p);
    return;
  default:
    if (pick(w, 3))
      step_write(w, p);
    else
      step_txn_get(w, p);
  }
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* States, images, compaction                                                                                         */

static void step_state(world *w) {
  shown *s = &w->states[pick(w, STATES)];
  if (s->begun) {
    trace(w, "state %d: end", (int)(s - w->states));
    walmap_state_end(s->state);
    s->begun = false;
    return;
  }
  party *p = &w->parties[pick(w, TXNS)];
  if (walmap_txn_is_begun(p->txn) && pick(w, 2)) {
    trace(w, "state %d: begin in txn %d", (int)(s - w->states), number_of(w, p));
    int result = walmap_txn_state_begin(p->txn, s->state);
    if (result == WALMAP_BUSY || result == WALMAP_DEADLOCK) {
      MUST(may_own_any(w, p));
      p->may_own = true;
      w->busy++;
      return;
    }
    MUST_OK(result);
    see(w, p, s->content);
    touch_all(p);
    s->of = p;
    s->since = w->step;
  } else {
    s->of = NULL;
    trace(w, "state %d: begin", (int)(s - w->states));
    MUST_OK(walmap_state_begin(s->state));
    memcpy(s->content, w->committed, sizeof w->committed);
  }
  s->begun = true;
}

static void step_read_state(world *w) {
  shown *s = &w->states[pick(w, STATES)];
  if (!s->begun)
    return;
  uint8_t seen[KEYS];
  uint32_t key = pick(w, KEYS);
  int what = (int)pick(w, 4);
  trace(w, "state %d: read %d", (int)(s - w->states), what);
  switch (what) {
  case 0:
    must_scan(w->u, s->state, s->content, seen);
    return;
  case 1:
    must_get_many(w->u, s->state, s->content, 1 + pick(w, 64));
    return;
  case 2:
    must_get_each(w->u, s->state, s->content);
    return;
  case 3: {
    struct alike a = {w, s->content, walmap_hash(w->map, w->u->keys[key].at, w->u->keys[key].len), 0};
    walmap_state_each_hash(s->state, a.hash, check_alike, &a);
    MUST(a.seen == count_alike(&a));
  }
  }
}

static void check_image(world *w, const void *image, size_t size, const uint32_t *content) {
  walmap_image_reader reader;
  walmap_entry entry;
  walmap_why why;
  uint8_t seen[KEYS] = {0};
  MUST_OK(walmap_image_open(&reader, image, size, &why));
  MUST(reader.entries == content_count(w->u, content) && reader.content == w->options.content);
  int result;
  while ((result = walmap_image_next(&reader, &entry, &why)) == WALMAP_OK) {
    uint32_t key = universe_find(w->u, entry.key, entry.key_len);
    MUST(key < KEYS && !seen[key]);
    seen[key] = 1;
    must_be(w->u, WALMAP_OK, &entry, key, content[key]);
  }
  MUST_RESULT(result, WALMAP_NOTFOUND);
}

static void step_image(world *w) {
  shown *s = &w->states[pick(w, STATES)];
  kept_image *i = &w->images[pick(w, IMAGES)];
  if (!s->begun)
    return;
  if (i->image)
    walmap_image_free(i->image);
  trace(w, "state %d: image %d", (int)(s - w->states), (int)(i - w->images));
  MUST_OK(walmap_state_image(s->state, &i->image, &i->size));
  memcpy(i->content, s->content, sizeof i->content);
  check_image(w, i->image, i->size, i->content);
}

static bool is_quiet(const world *w) {
  for (int i = 0; i < TXNS; i++)
    if (walmap_txn_is_begun(w->parties[i].txn))
      return false;
  for (int i = 0; i < STATES; i++)
    if (w->states[i].begun)
      return false;
  return true;
}

static void step_compact(world *w) {
  party *p = &w->parties[pick(w, TXNS)];
  bool own = walmap_txn_is_begun(p->txn);
  uint64_t size = walmap_size(w->map), reclaimable = walmap_reclaimable(w->map);
  trace(w, "compact%s", own ? " in a transaction" : "");
  int result = walmap_compact(w->map, own ? p->txn : NULL);
  if (result == WALMAP_BUSY || result == WALMAP_DEADLOCK) {
    MUST(may_own_any(w, own ? p : NULL));
    if (own)
      p->may_own = true;
    w->busy++;
    return;
  }
  MUST_OK(result);
  if (own)
    p->may_own = true;
  w->compactions++;
  if (!is_quiet(w))
    return;
  MUST(walmap_size(w->map) == size - reclaimable);
  MUST(walmap_reclaimable(w->map) == 0);
  w->exact++;
}

/* ------------------------------------------------------------------------------------------------------------------ */

/* As nobody, or as one of the parties, which may look at what it owns. */
static void verify(world *w) {
  uint32_t as = pick(w, TXNS + 1);
  const party *p = as < TXNS && walmap_txn_is_begun(w->parties[as].txn) ? &w->parties[as] : NULL;
  walmap_why why = {""};
  int result = walmap_verify(w->map, p ? p->txn : NULL, &why);
  if (result == WALMAP_CORRUPT)
    printf("step %llu: %s\n", (unsigned long long)w->step, why.text);
  MUST(result == WALMAP_OK || ((result == WALMAP_BUSY || result == WALMAP_DEADLOCK) && may_own_any(w, p)));
  w->verified += result == WALMAP_OK;
}

static void check_invariants(world *w) {
  uint32_t content[KEYS];
  uint64_t size = walmap_size(w->map), memory = walmap_memory(w->map);
  MUST(walmap_len(w->map) == content_count(w->u, w->committed));
  MUST(walmap_reclaimable(w->map) <= size && size <= memory);
  for (int i = 0; i < TXNS; i++) {
    party *p = &w->parties[i];
    if (!walmap_txn_is_begun(p->txn))
      continue;
    see(w, p, content);
    MUST(walmap_txn_len(p->txn) == content_count(w->u, content));
    MUST(walmap_txn_reclaimable(p->txn) <= walmap_txn_size(p->txn));
  }
  verify(w);
}

/* Ends all that is open, then: what is committed is there, and compaction frees just what was told. */
static void settle(world *w) {
  trace(w, "settle");
  for (int i = 0; i < TXNS; i++) {
    party *p = &w->parties[i];
    if (!walmap_txn_is_begun(p->txn))
      continue;
    if (pick(w, 2))
      step_commit(w, p);
    else
      step_rollback(w, p);
  }
  for (int i = 0; i < STATES; i++) {
    shown *s = &w->states[i];
    if (!s->begun)
      continue;
    must_equal(w->u, s->state, s->content);
    walmap_state_end(s->state);
    s->begun = false;
  }
  must_hold(w->u, w->map, w->committed);
  step_compact(w);
  must_hold(w->u, w->map, w->committed);
}

static void run(walmap_options options, uint32_t huge_one_in, uint64_t seed, uint64_t steps) {
  world *w = calloc(1, sizeof *w);
  faults f = {0};
  MUST(w);
  w->u = universe_new(KEYS, huge_one_in);
  w->options = options;
  w->options.allocator = faults_allocator(&f);
  w->random = seed;
  w->trace = env_number("TRACE", 0);
  MUST_OK(walmap_open(&w->options, &w->map));
  for (int i = 0; i < TXNS; i++) {
    MUST_OK(walmap_session_new(NULL, NULL, &w->parties[i].session));
    MUST_OK(walmap_txn_new(w->map, w->parties[i].session, &w->parties[i].txn));
  }
  for (int i = 0; i < STATES; i++)
    MUST_OK(walmap_state_new(w->map, &w->states[i].state));

  for (uint64_t step = 0; step < steps; step++) {
    w->step = step + 1;
    uint32_t what = pick(w, 100);
    if (what < 30)
      step_single(w);
    else if (what < 80)
      step_txn(w);
    else if (what < 86)
      step_get(w);
    else if (what < 90)
      step_state(w);
    else if (what < 96)
      step_read_state(w);
    else if (what < 97)
      step_image(w);
    else if (what < 98)
      step_compact(w);
    else if (what < 99 && pick(w, 4) == 0)
      settle(w);
    check_invariants(w);
  }
  settle(w);
  MUST(w->exact > 0 && w->verified > steps / 10);
  for (int i = 0; i < STATES; i++)
    walmap_state_free(w->states[i].state);
  for (int i = 0; i < TXNS; i++) {
    walmap_txn_free(w->parties[i].txn);
    walmap_session_free(w->parties[i].session);
  }
  for (int i = 0; i < IMAGES; i++)
    if (w->images[i].image)
      walmap_image_free(w->images[i].image);
  walmap_close(w->map);
  MUST(f.bytes == 0 && f.blocks == 0);
  printf("  shards %2u, auto_compact %2u: %llu steps, kept out %llu times, %llu compactions\n", options.shards,
         options.auto_compact, (unsigned long long)steps, (unsigned long long)w->busy,
         (unsigned long long)w->compactions);
  fflush(stdout);
  universe_free(w->u);
  free(w);
}

static uint64_t hash_few(const void *key, size_t len, uint64_t seed) {
  const uint8_t *k = key;
  return mix(seed + (len ? k[0] % 5u : 9)) << 7;
}

static uint64_t the_seed;

static void random_operations(walmap_hash_fn hash, uint32_t huge_one_in) {
  static const uint32_t shards[] = {1, 2, 16}, auto_compact[] = {0, 10, 50};
  uint64_t steps = env_number("STEPS", 20000 / SLOWDOWN);
  for (size_t s = 0; s < 3; s++) {
    for (size_t a = 0; a < 3; a++) {
      walmap_options options;
      walmap_options_init(&options);
      options.shards = shards[s];
      options.auto_compact = auto_compact[a];
      options.first_segment = 256;
      options.busy_timeout = 0;
      options.hash = hash;
      options.seed_given = true;
      options.seed = the_seed;
      options.content = 3;
      run(options, huge_one_in, the_seed + s * 3 + a, steps);
    }
  }
}

static void small_values(void **unused) {
  (void)unused;
  random_operations(NULL, 0);
}

static void some_huge_values(void **unused) {
  (void)unused;
  random_operations(NULL, 400);
}

static void colliding_hashes(void **unused) {
  (void)unused;
  random_operations(hash_few, 0);
}

int main(void) {
  the_seed = announce_seed("test_model");
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(small_values),
      cmocka_unit_test(some_huge_values),
      cmocka_unit_test(colliding_hashes),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
