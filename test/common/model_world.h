/*
** model_world.h - any operations on a map beside a plain model of it, in one thread: what is written
**
** Transactions of two sessions and several states are open at once; each state has a frozen copy of the content that it
** must go on showing. With a busy_timeout of 0 no call waits, so one thread plays all parties and every run is
** repeatable. The operations are chosen at random, or by a fuzzer's input.
**
** This file has the world, single operations and transactions; model_states.h has states, images, changes, and runs.
*/
#ifndef TEST_CORE_MODEL_WORLD_H
#define TEST_CORE_MODEL_WORLD_H

#include "model.h"

#ifndef KEYS
#define KEYS 220 /* few keys make short traces */
#endif
#define TXNS 2
#define STATES 5
#define LEVELS 6
#define IMAGES 3

/* What a transaction sees: its own writes over the committed content. */
typedef struct overlay {
  uint32_t version[KEYS];
  bool written[KEYS];
  uint32_t evicted, expired; /* by walmap_txn_evict: entries, and how many more of them may have been expired ones */
} overlay;

typedef struct party {
  walmap_session *session;
  walmap_txn *txn;
  overlay now, level[LEVELS];
  bool touched[KEYS]; /* read or written: the party holds the lock of the key's shard */
  bool touched_any;
  bool
      may_own; /* it may hold locks of shards that it did not touch: a call over all shards failed, or compaction ran */
  int levels;
  uint32_t tag;                /* of what it writes */
  uint32_t claims;             /* entries that it has added so far, or more; they count where writes are refused */
  bool evicted;                /* by walmap_txn_evict */
  uint64_t time;               /* at which entries are absent for it */
  uint64_t level_step[LEVELS]; /* when the savepoint was made */
} party;

typedef struct shown {
  walmap_state *state;
  bool begun;
  bool is_committed;           /* begun outside of transactions */
  struct party *of;            /* shows this one's own changes, until it ends */
  uint64_t since;              /* step at which it was begun */
  uint64_t time;               /* at which entries are absent in it */
  walmap_image_stream *stream; /* of its image, or NULL */
  uint8_t *streamed;           /* what came from it */
  size_t streamed_size;
  uint32_t content[KEYS];
} shown;

typedef struct kept_image {
  void *image;
  size_t size;
  uint32_t content[KEYS];
} kept_image;

/* Another map, which has the content that the map under test had at some step. */
typedef struct follower {
  walmap *map;
  walmap_session *session;
  walmap_txn *txn;
  uint64_t step;
  bool bounded; /* it has some of the entries only */
  walmap_state *state;
  void *since; /* the position, or the changes, that led there; NULL at first */
  size_t since_size;
} follower;

typedef struct world {
  universe *u;
  walmap_options options;
  faults allocated; /* by all maps */
  walmap *map;
  uint64_t random;
  const uint8_t *input, *input_end; /* what is left of a fuzzer's input; NULL: all is random */
  uint64_t step;
  uint32_t version; /* the last one given out */
  uint64_t clock;   /* what the maps' clock tells; it may go back, */
  uint64_t time;    /* but not this, the latest time that it has told */
  bool trace;
  uint32_t committed[KEYS];
  party parties[TXNS];
  shown states[STATES];
  kept_image images[IMAGES];
  follower follower;
  bool no_expiry;         /* nothing expires, so that all counts are exact */
  walmap_state *look;     /* at what a commit has left */
  bool pinned;            /* a state was begun since the map was compacted: memory may be beyond its bound */
  uint64_t evictions;     /* that the map has counted */
  uint64_t lost, refused; /* entries, and calls */
  uint64_t looked_at_memory;
  uint64_t busy, compactions, exact, verified, restored, streamed, followed, gone,
      expired; /* that these happened at all */
} world;

/* Below n. */
static inline uint32_t pick(world *w, uint32_t n) {
  if (!w->input)
    return random_below(&w->random, n);
  uint32_t number = 0;
  for (uint32_t most = n - 1; most; most >>= 8)
    number = number << 8 | (w->input < w->input_end ? *w->input++ : 0);
  return number % n;
}

/* One line for each call, when asked for. */
static inline void trace(const world *w, const char *format, ...) {
  if (!w->trace)
    return;
  va_list arguments;
  va_start(arguments, format);
  vprintf(format, arguments);
  va_end(arguments);
  putchar('\n');
  fflush(stdout);
}

static inline int number_of(const world *w, const party *p) { return (int)(p - w->parties); }

static inline uint32_t written_by(const world *w, const party *p, uint32_t key) {
  return p->now.written[key] ? p->now.version[key] : w->committed[key];
}

static inline void see(const world *w, const party *p, uint64_t time, uint32_t *content) {
  for (uint32_t k = 0; k < KEYS; k++)
    content[k] = version_at(w->u, written_by(w, p, k), time);
}

static inline uint32_t seen_by(const world *w, const party *p, uint32_t key) {
  return version_at(w->u, written_by(w, p, key), p->time);
}

/* What is committed now. */
static inline void see_committed(const world *w, uint32_t *content) {
  memcpy(content, w->committed, sizeof w->committed);
  content_at(w->u, content, w->time);
}

static inline uint64_t world_clock(void *ctx) { return *(uint64_t *)ctx; }

/* Soon, later, much later, now or never: what a write may say, and what it means. */
static inline uint64_t pick_expires(world *w, uint64_t now) {
  static const uint32_t later[] = {1, 2, 10, 50, 1000, 100000};
  uint32_t what = pick(w, 12);
  if (w->no_expiry)
    return WALMAP_NEVER;
  return what < 6 ? now + later[what] - pick(w, later[what]) : what == 6 ? 1 + pick(w, 100) : WALMAP_NEVER;
}

static inline uint64_t by_ttl(const world *w, uint64_t now) { return w->options.ttl ? now + w->options.ttl : 0; }

/* The present time for a transaction, which stays until the next call. */
static inline void new_statement(world *w, party *p) {
  walmap_txn_statement(p->txn);
  p->time = walmap_txn_clock(p->txn);
  MUST(p->time == w->time);
}

/* Time passes, or its source jumps back. */
static inline void step_clock(world *w) {
  static const uint32_t most[] = {1, 3, 20, 100, 2000, 200000};
  uint32_t content[KEYS], before, by = 1 + pick(w, most[pick(w, 6)]);
  see_committed(w, content);
  before = content_count(w->u, content);
  if (pick(w, 10) == 0) {
    w->clock -= by < w->clock ? by : w->clock;
  } else {
    w->clock += by;
    if (w->clock > w->time)
      w->time = w->clock;
  }
  trace(w, "clock %llu", (unsigned long long)w->clock);
  MUST(walmap_clock(w->map) == w->time && walmap_clock(w->follower.map) == w->time); /* each remembers what it read */
  for (int i = 0; i < TXNS; i++)
    if (walmap_txn_is_begun(w->parties[i].txn))
      new_statement(w, &w->parties[i]);
  see_committed(w, content);
  w->expired += before - content_count(w->u, content);
}

static inline bool is_touched(const world *w, const party *but, uint32_t key) {
  for (int i = 0; i < TXNS; i++)
    if (&w->parties[i] != but && w->parties[i].touched[key])
      return true;
  return false;
}

static inline bool is_touched_any(const world *w, const party *but) {
  for (int i = 0; i < TXNS; i++)
    if (&w->parties[i] != but && w->parties[i].touched_any)
      return true;
  return false;
}

static inline bool may_own_any(const world *w, const party *but) {
  for (int i = 0; i < TXNS; i++)
    if (&w->parties[i] != but && w->parties[i].may_own)
      return true;
  return is_touched_any(w, but);
}

/*
** Returns true when the call got BUSY, after a check that this is right: the call must get BUSY when another party has
** touched the very key; it must not when no party holds a lock; with one shard, any touched key stands for all.
*/
static inline bool kept_out(world *w, int result, const party *by, uint32_t key) {
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

static inline void touch(party *p, uint32_t key) { p->touched[key] = p->touched_any = true; }

static inline void touch_all(party *p) {
  memset(p->touched, true, sizeof p->touched);
  p->touched_any = true;
}

#include "model_bounds.h"

/* ------------------------------------------------------------------------------------------------------------------ */
/* Single operations                                                                                                  */

struct expected_value {
  world *w;
  uint32_t version; /* 0: absent */
  uint32_t replacement;
  bool answer;
  int result, calls;
};

static inline bool test_value(void *ctx, const void *value, size_t len) {
  struct expected_value *e = ctx;
  e->calls++;
  MUST(e->version && value_is(e->w->u, value, len, e->version));
  return e->answer;
}

static inline int upsert_value(void *ctx, const void *old, size_t old_len, const void **value, size_t *len) {
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

/* Of one key, which gets the version `next` if anything is written. */
static inline void single_operation(world *w, uint32_t key, uint32_t next) {
  uint32_t old = version_at(w->u, w->committed[key], w->time);
  bool done = false, answer = pick(w, 2), told = pick(w, 2);
  uint64_t told_expires = pick_expires(w, w->time);
  uint64_t expires = told ? told_expires : by_ttl(w, w->time), kept = old ? expires_of(w->u, old) : expires;
  set_life(w->u, next, next, expires);
  bytes k = w->u->keys[key], v = value_bytes(w->u, next);
  struct expected_value e = {w, old, next, answer, answer ? WALMAP_OK : WALMAP_IO, 0};
  int result, what = (int)pick(w, 9);
  trace(w, "single %d: key %u, version %u, answer %d", what, key, next, answer);
  switch (what) {
  case 0:
  case 1:
  case 2:
    result = told ? walmap_set_expiring(w->map, k.at, k.len, v.at, v.len, expires)
                  : walmap_set(w->map, k.at, k.len, v.at, v.len);
    if (kept_out(w, result, NULL, key) || is_refused(w, result, NULL, key, next))
      return;
    MUST_OK(result);
    w->committed[key] = next;
    return;
  case 3:
    result = walmap_remove(w->map, k.at, k.len);
    if (kept_out(w, result, NULL, key))
      return;
    MUST_RESULT(result, old ? WALMAP_OK : WALMAP_NOTFOUND);
    if (old) /* what has expired stays until it is noticed */
      w->committed[key] = 0;
    return;
  case 4:
    result = told ? walmap_set_if_absent_expiring(w->map, k.at, k.len, v.at, v.len, expires, &done)
                  : walmap_set_if_absent(w->map, k.at, k.len, v.at, v.len, &done);
    if (kept_out(w, result, NULL, key) || is_refused(w, result, NULL, key, next))
      return;
    MUST_OK(result);
    MUST(done == !old);
    if (done)
      w->committed[key] = next;
    return;
  case 5:
    result = walmap_set_if(w->map, k.at, k.len, v.at, v.len, test_value, &e, &done);
    if (kept_out(w, result, NULL, key) || is_refused(w, result, NULL, key, next))
      return;
    MUST_RESULT(result, old ? WALMAP_OK : WALMAP_NOTFOUND);
    MUST(done == (old && answer) && e.calls == (old != 0));
    set_life(w->u, next, next, kept);
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
    result = told ? walmap_upsert_expiring(w->map, k.at, k.len, upsert_value, &e, expires)
                  : walmap_upsert(w->map, k.at, k.len, upsert_value, &e);
    set_life(w->u, next, next, kept);
    if (kept_out(w, result, NULL, key) || is_refused(w, result, NULL, key, next))
      return;
    MUST_RESULT(result, e.result);
    MUST(e.calls == 1);
    if (result == WALMAP_OK)
      w->committed[key] = next;
    return;
  case 8:
    result = walmap_touch(w->map, k.at, k.len, told_expires);
    if (kept_out(w, result, NULL, key) || is_refused(w, result, NULL, key, next))
      return;
    MUST_RESULT(result, old ? WALMAP_OK : WALMAP_NOTFOUND);
    set_life(w->u, next, old, told_expires);
    if (old)
      w->committed[key] = next;
    return;
  }
}

static inline void step_single(world *w) {
  uint32_t key = pick(w, KEYS), next = ++w->version;
  single_operation(w, key, next);
  bool own[KEYS] = {false};
  own[key] = w->committed[key] == next;
  take_over(w, NULL, own);
}

static inline void step_get(world *w) {
  uint32_t key = pick(w, KEYS), version = version_at(w->u, w->committed[key], w->time);
  bytes k = w->u->keys[key];
  static uint8_t buffer[400000];
  size_t len = 0;
  int result = walmap_get(w->map, k.at, k.len, buffer, sizeof buffer, &len);
  walmap_entry entry = {k.at, k.len, buffer, len, expires_of(w->u, version)};
  must_be(w->u, result, &entry, key, version);
  struct expected_value e = {w, version, 0, pick(w, 2), 0, 0};
  MUST_RESULT(walmap_view(w->map, k.at, k.len, test_value, &e), version ? WALMAP_OK : WALMAP_NOTFOUND);
  MUST(e.calls == (version != 0));
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Transactions                                                                                                       */

static inline void end_stream(shown *s) {
  walmap_image_stream_free(s->stream);
  free(s->streamed);
  s->stream = NULL;
  s->streamed = NULL;
  s->streamed_size = 0;
}

/* Changes that `p` undoes disappear from its states (walmap_txn_state_begin), whose streams may not be read further. */
static inline void undone(world *w, party *p, uint64_t since) {
  for (int i = 0; i < STATES; i++) {
    shown *s = &w->states[i];
    if (!s->begun || s->of != p)
      continue;
    end_stream(s);
    if (s->since > since)
      see(w, p, s->time, s->content);
  }
}

static inline void end_party(world *w, party *p) {
  for (int i = 0; i < STATES; i++)
    if (w->states[i].of == p)
      w->states[i].of = NULL;
  memset(&p->now, 0, sizeof p->now);
  memset(p->touched, 0, sizeof p->touched);
  p->touched_any = p->may_own = p->evicted = false;
  p->levels = 0;
  p->claims = p->tag = 0;
}

static inline void step_write(world *w, party *p) {
  uint32_t key = pick(w, KEYS), old = seen_by(w, p, key);
  bytes k = w->u->keys[key];
  int result;
  uint32_t what = pick(w, 5);
  uint32_t next = ++w->version;
  uint64_t told = pick_expires(w, p->time);
  if (what == 0) {
    trace(w, "txn %d: remove %u", number_of(w, p), key);
    result = walmap_txn_remove(p->txn, k.at, k.len);
    if (kept_out(w, result, p, key))
      return;
    MUST_RESULT(result, old ? WALMAP_OK : WALMAP_NOTFOUND);
    touch(p, key);
    if (!old)
      return;
    p->now.version[key] = 0;
  } else if (what == 1) {
    trace(w, "txn %d: touch %u, %llu", number_of(w, p), key, (unsigned long long)told);
    set_life(w->u, next, old, told);
    set_tag(w->u, next, p->tag);
    result = walmap_txn_touch(p->txn, k.at, k.len, told);
    if (kept_out(w, result, p, key))
      return;
    touch(p, key);
    if (is_refused(w, result, p, key, next))
      return;
    MUST_RESULT(result, old ? WALMAP_OK : WALMAP_NOTFOUND);
    if (!old)
      return;
    p->now.version[key] = next;
  } else {
    void *room = NULL;
    uint32_t way = pick(w, 4);
    walmap_when when = (walmap_when)pick(w, 3);
    bool conditional = way < 2 && when != WALMAP_ALWAYS, present = when == WALMAP_IF_PRESENT;
    bool keeps = way == 0 && conditional && old;
    set_life(w->u, next, next, way == 1 ? told : keeps ? expires_of(w->u, old) : by_ttl(w, p->time));
    set_tag(w->u, next, p->tag);
    bytes v = value_bytes(w->u, next);
    trace(w, "txn %d: way %u, %s %u, version %u, expires %llu", number_of(w, p), way,
          !conditional ? "always"
          : present    ? "if present"
                       : "if absent",
          key, next, (unsigned long long)expires_of(w->u, next));
    if (way == 0)
      result = conditional ? walmap_txn_reserve_if(p->txn, present, k.at, k.len, v.len, &room)
                           : walmap_txn_reserve(p->txn, k.at, k.len, v.len, &room);
    else
      result = way == 1 ? walmap_txn_reserve_expiring(p->txn, when, k.at, k.len, v.len, told, &room)
                        : walmap_txn_set(p->txn, k.at, k.len, v.at, v.len);
    if (kept_out(w, result, p, key))
      return;
    if (is_refused(w, result, p, key, next)) {
      touch(p, key);
      return;
    }
    if (conditional && present != (old != 0)) {
      MUST_RESULT(result, old ? WALMAP_EXISTS : WALMAP_NOTFOUND);
      touch(p, key);
      return;
    }
    MUST_OK(result);
    if (way < 2 && v.len)
      memcpy(room, v.at, v.len);
    p->now.version[key] = next;
    p->claims += old == 0;
  }
  p->now.written[key] = true;
  touch(p, key);
}

static inline void step_txn_get(world *w, party *p) {
  uint32_t key = pick(w, KEYS);
  walmap_entry entry;
  bytes k = w->u->keys[key];
  bool tagged = pick(w, 2);
  uint32_t tag = 0;
  trace(w, "txn %d: get %u", number_of(w, p), key);
  int result =
      tagged ? walmap_txn_get_tagged(p->txn, k.at, k.len, &entry, &tag) : walmap_txn_get(p->txn, k.at, k.len, &entry);
  if (kept_out(w, result, p, key))
    return;
  must_be(w->u, result, &entry, key, seen_by(w, p, key));
  MUST(!tagged || result != WALMAP_OK || tag == tag_of(w->u, seen_by(w, p, key)));
  touch(p, key);
}

struct alike {
  world *w;
  const uint32_t *content;
  uint64_t hash;
  uint32_t seen;
};

static inline bool check_alike(void *ctx, const walmap_entry *entry) {
  struct alike *a = ctx;
  uint32_t key = universe_find(a->w->u, entry->key, entry->key_len);
  MUST(key < KEYS && walmap_hash(a->w->map, entry->key, entry->key_len) == a->hash);
  must_be(a->w->u, WALMAP_OK, entry, key, a->content[key]);
  a->seen++;
  return true;
}

static inline uint32_t count_alike(const struct alike *a) {
  uint32_t count = 0;
  for (uint32_t k = 0; k < KEYS; k++) {
    bytes key = a->w->u->keys[k];
    count += a->content[k] && walmap_hash(a->w->map, key.at, key.len) == a->hash;
  }
  return count;
}

static inline void step_each_hash(world *w, party *p) {
  uint32_t key = pick(w, KEYS), content[KEYS];
  see(w, p, p->time, content);
  struct alike a = {w, content, walmap_hash(w->map, w->u->keys[key].at, w->u->keys[key].len), 0};
  if (kept_out(w, walmap_txn_each_hash(p->txn, a.hash, check_alike, &a), p, key))
    return;
  MUST(a.seen == count_alike(&a));
  touch(p, key);
}

static inline void step_savepoint(world *w, party *p) {
  int n = (int)pick(w, LEVELS);
  trace(w, "txn %d: savepoint %d", number_of(w, p), n);
  walmap_txn_savepoint(p->txn, n);
  for (int i = p->levels < n ? p->levels : n; i <= n; i++) {
    p->level[i] = p->now;
    p->level_step[i] = w->step;
  }
  p->levels = n + 1;
}

static inline void step_release(world *w, party *p) {
  int n = (int)pick(w, LEVELS);
  trace(w, "txn %d: release %d", number_of(w, p), n);
  walmap_txn_release(p->txn, n);
  if (p->levels > n)
    p->levels = n;
}

static inline void step_rollback_to(world *w, party *p) {
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

/* Returns true when a call over all shards was kept out. */
static inline bool all_kept_out(world *w, int result, party *p) {
  if (result != WALMAP_BUSY && result != WALMAP_DEADLOCK)
    return false;
  MUST(may_own_any(w, p));
  p->may_own = true;
  w->busy++;
  return true;
}

/* Its entries are versions of their own: they have the transaction's tag, for tags are not in images. */
static inline void step_restore(world *w, party *p) {
  kept_image *i = &w->images[pick(w, IMAGES)];
  uint64_t entries = 0;
  uint32_t content[KEYS];
  if (!i->image)
    return;
  trace(w, "txn %d: restore image %d", number_of(w, p), (int)(i - w->images));
  int result = walmap_txn_restore(p->txn, i->image, i->size, NULL, NULL, &entries, NULL);
  if (all_kept_out(w, result, p))
    return;
  memcpy(content, i->content, sizeof content);
  content_at(w->u, content, p->time);
  uint32_t count = content_count(w->u, content);
  touch_all(p);
  if (result == WALMAP_FULL) {
    MUST(w->options.error_when_full && (w->options.max_bytes != 0 || count > w->options.max_entries));
    w->refused++;
    return;
  }
  MUST_OK(result);
  MUST(entries == count);
  for (uint32_t k = 0; k < KEYS; k++) {
    p->now.version[k] = i->content[k] ? ++w->version : 0;
    if (i->content[k]) {
      set_life(w->u, w->version, i->content[k], expires_of(w->u, i->content[k]));
      set_tag(w->u, w->version, p->tag);
    }
  }
  memset(p->now.written, true, sizeof p->now.written);
  p->claims += count;
  w->restored++;
}

static inline void step_clear(world *w, party *p) {
  uint32_t content[KEYS];
  uint64_t removed = 0;
  trace(w, "txn %d: clear", number_of(w, p));
  int result = walmap_txn_clear(p->txn, &removed);
  if (all_kept_out(w, result, p))
    return;
  MUST_OK(result);
  see(w, p, p->time, content);
  MUST(removed == content_count(w->u, content));
  memset(p->now.version, 0, sizeof p->now.version);
  memset(p->now.written, true, sizeof p->now.written);
  touch_all(p);
  w->restored++;
}

/* What the commit would evict is gone for the transaction. To know it, it reads all keys that it may. */
static inline void step_evict(world *w, party *p) {
  trace(w, "txn %d: evict", number_of(w, p));
  MUST_OK(walmap_txn_evict(p->txn, NULL, NULL));
  p->may_own = p->evicted = true;
  for (uint32_t key = 0; key < KEYS; key++) {
    walmap_entry entry;
    uint32_t seen = seen_by(w, p, key);
    int result = walmap_txn_get(p->txn, w->u->keys[key].at, w->u->keys[key].len, &entry);
    if (kept_out(w, result, p, key))
      continue;
    touch(p, key);
    p->now.expired += seen == 0 && written_by(w, p, key) != 0;
    if (seen != 0 && result == WALMAP_NOTFOUND && is_bounded(w) && !w->options.error_when_full) {
      p->now.version[key] = 0;
      p->now.written[key] = true;
      p->now.evicted++;
    } else {
      must_be(w->u, result, &entry, key, seen);
    }
  }
}

static inline void step_tag(world *w, party *p) {
  p->tag = pick(w, 3) ? pick(w, 1000) : 0;
  trace(w, "txn %d: tag %u", number_of(w, p), p->tag);
  walmap_txn_set_tag(p->txn, p->tag);
}

static inline void step_rollback(world *w, party *p) {
  trace(w, "txn %d: rollback", number_of(w, p));
  walmap_txn_rollback(p->txn);
  memset(&p->now, 0, sizeof p->now);
  undone(w, p, 0);
  end_party(w, p);
}

static inline void step_commit(world *w, party *p) {
  trace(w, "txn %d: commit", number_of(w, p));
  walmap_txn_commit(p->txn);
  bool own[KEYS];
  for (uint32_t k = 0; k < KEYS; k++) {
    own[k] = p->now.written[k] && p->now.version[k] != 0;
    if (p->now.written[k])
      w->committed[k] = p->now.version[k];
  }
  take_over(w, p, own);
  end_party(w, p);
}

static inline void step_txn(world *w) {
  party *p = &w->parties[pick(w, TXNS)];
  if (!walmap_txn_is_begun(p->txn)) {
    if (pick(w, 8) == 0) {
      trace(w, "txn %d: begin", number_of(w, p));
      walmap_txn_begin(p->txn);
      new_statement(w, p);
    }
    return;
  }
  switch (pick(w, 67)) {
  case 64:
    step_evict(w, p);
    return;
  case 65:
    step_tag(w, p);
    return;
  case 66:
    if (pick(w, 8) == 0)
      step_clear(w, p);
    return;
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

#endif
