/*
** model_states.h - any operations on a map beside a plain model of it: states, images, changes, compaction, and runs
**
** world_new, any number of world_step, world_free.
*/
#ifndef TEST_CORE_MODEL_STATES_H
#define TEST_CORE_MODEL_STATES_H

#include "model_world.h"

/* ------------------------------------------------------------------------------------------------------------------ */
/* States and images                                                                                                  */

static inline void end_state(shown *s) {
  end_stream(s);
  walmap_state_end(s->state);
  s->begun = false;
}

static inline void step_state(world *w) {
  shown *s = &w->states[pick(w, STATES)];
  if (s->begun) {
    trace(w, "state %d: end", (int)(s - w->states));
    end_state(s);
    return;
  }
  party *p = &w->parties[pick(w, TXNS)];
  if (walmap_txn_is_begun(p->txn) && pick(w, 2)) {
    trace(w, "state %d: begin in txn %d", (int)(s - w->states), number_of(w, p));
    int result = walmap_txn_state_begin(p->txn, s->state);
    if (all_kept_out(w, result, p))
      return;
    MUST_OK(result);
    MUST(walmap_txn_clock(p->txn) == p->time); /* no shard waits for a later time than the clock has told */
    s->time = p->time;
    see(w, p, s->time, s->content);
    touch_all(p);
    MUST(walmap_state_len(s->state) == content_count(w->u, s->content));
    s->of = p;
    s->is_committed = false;
  } else {
    s->of = NULL;
    s->is_committed = true;
    trace(w, "state %d: begin", (int)(s - w->states));
    MUST_OK(walmap_state_begin(s->state));
    s->time = w->time;
    see_committed(w, s->content);
  }
  s->begun = w->pinned = true;
  s->since = w->step;
}

static inline void step_read_state(world *w) {
  shown *s = &w->states[pick(w, STATES)];
  if (!s->begun)
    return;
  uint8_t seen[KEYS];
  uint32_t key = pick(w, KEYS);
  int what = (int)pick(w, 5);
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
  case 3:
    if (s->is_committed)
      MUST(walmap_state_len(s->state) == content_count(w->u, s->content));
    return;
  default: {
    struct alike a = {w, s->content, walmap_hash(w->map, w->u->keys[key].at, w->u->keys[key].len), 0};
    walmap_state_each_hash(s->state, a.hash, check_alike, &a);
    MUST(a.seen == count_alike(&a));
  }
  }
}

static inline void check_image(world *w, const void *image, size_t size, const uint32_t *content) {
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

static inline void step_image(world *w) {
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

/* Reads the next piece of a state's image; at its end checks the whole image. */
static inline void step_stream(world *w) {
  shown *s = &w->states[pick(w, STATES)];
  size_t piece = pick(w, 2) ? 1 + pick(w, 100) : 1 + pick(w, 60000), got;
  if (!s->begun)
    return;
  trace(w, "state %d: %d bytes of its image", (int)(s - w->states), (int)piece);
  if (!s->stream)
    MUST_OK(walmap_image_stream_new(s->state, &s->stream));
  s->streamed = realloc(s->streamed, s->streamed_size + piece);
  MUST(s->streamed);
  MUST_OK(walmap_image_stream_read(s->stream, s->streamed + s->streamed_size, piece, &got));
  s->streamed_size += got;
  if (got == piece)
    return;
  check_image(w, s->streamed, s->streamed_size, s->content);
  end_stream(s);
  w->streamed++;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Changes                                                                                                            */

static inline void start_following(world *w, shown *s) {
  follower *f = &w->follower;
  void *image;
  size_t size;
  if (f->since)
    walmap_image_free(f->since);
  MUST_OK(walmap_state_position(s->state, &f->since, &f->since_size));
  MUST_OK(walmap_state_image(s->state, &image, &size));
  MUST_OK(walmap_restore(f->map, image, size, NULL, NULL));
  walmap_image_free(image);
  f->step = s->since;
}

/* Entries of the content that a bound has left, and no others. */
static inline void must_hold_some(world *w, walmap *map, const uint32_t *content) {
  walmap_cursor cursor;
  walmap_entry entry;
  uint64_t n = 0;
  MUST_OK(walmap_state_begin(w->follower.state));
  for (walmap_cursor_start(&cursor, w->follower.state); walmap_cursor_next(&cursor, &entry); n++) {
    uint32_t key = universe_find(w->u, entry.key, entry.key_len);
    MUST(key < KEYS);
    must_be(w->u, WALMAP_OK, &entry, key, content[key]);
  }
  walmap_state_end(w->follower.state);
  MUST(n == walmap_len(map) && n <= walmap_get_options(map)->max_entries);
}

/*
** Applies the changes up to a state to the follower, and checks that the follower is equal to the state (F1), or has a
** part of it.
*/
static inline void step_follow(world *w) {
  follower *f = &w->follower;
  shown *s = &w->states[pick(w, STATES)];
  void *changes;
  size_t size;
  if (!s->begun || !s->is_committed)
    return;
  trace(w, "follow state %d", (int)(s - w->states));
  int result = f->since ? walmap_state_changes(s->state, f->since, f->since_size, &changes, &size, NULL) : WALMAP_GONE;
  if (result == WALMAP_GONE) {
    MUST(!f->since || w->options.auto_compact || w->compactions || w->restored || s->since < f->step);
    w->gone += f->since != NULL;
    start_following(w, s);
    return;
  }
  MUST_OK(result);
  walmap_txn_begin(f->txn);
  MUST_OK(walmap_txn_apply(f->txn, changes, size, NULL, NULL, NULL, NULL));
  walmap_txn_commit(f->txn);
  uint32_t content[KEYS];
  memcpy(content, s->content, sizeof content);
  content_at(w->u, content, w->time);
  (f->bounded ? must_hold_some(w, f->map, content) : must_hold(w->u, f->map, content));
  walmap_image_free(f->since);
  f->since = changes;
  f->since_size = size;
  f->step = s->since;
  w->followed++;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Compaction                                                                                                         */

static inline bool is_quiet(const world *w) {
  for (int i = 0; i < TXNS; i++)
    if (walmap_txn_is_begun(w->parties[i].txn))
      return false;
  for (int i = 0; i < STATES; i++)
    if (w->states[i].begun)
      return false;
  return true;
}

/* Of the records of what is committed and has not expired. */
static inline uint64_t live_bytes(const world *w) {
  uint64_t all = 0;
  for (uint32_t k = 0; k < KEYS; k++) {
    uint32_t version = version_at(w->u, w->committed[k], w->time);
    size_t key = w->u->keys[k].len, value = value_length(w->u, version);
    size_t head = key >= 1023 || value >= 1 << 16 ? 24 : 8;
    size_t tail = (expires_of(w->u, version) ? 8 : 0) + (tag_of(w->u, version) ? 4 : 0);
    all += version ? head + ((key + value + 3) & ~(size_t)3) + tail : 0;
  }
  return all;
}

static inline void step_compact(world *w) {
  party *p = &w->parties[pick(w, TXNS)];
  bool own = walmap_txn_is_begun(p->txn);
  uint64_t size = walmap_size(w->map), reclaimable = walmap_reclaimable(w->map);
  trace(w, "compact%s", own ? " in a transaction" : "");
  int result = walmap_compact(w->map, own ? p->txn : NULL);
  w->compactions++; /* if it is kept out of a shard, those before it stay compacted */
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
  if (!is_quiet(w))
    return;
  MUST(walmap_size(w->map) == live_bytes(w) && walmap_size(w->map) <= size - reclaimable);
  MUST(walmap_reclaimable(w->map) == 0);
  w->exact++;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* What is true at all times                                                                                          */

/* Verifies the map: outside of transactions, or in that of a party, which may look at shards that it has locked. */
static inline void verify(world *w) {
  uint32_t as = pick(w, TXNS + 1);
  const party *p = as < TXNS && walmap_txn_is_begun(w->parties[as].txn) ? &w->parties[as] : NULL;
  walmap_why why = {""};
  int result = walmap_verify(w->map, p ? p->txn : NULL, &why);
  if (result == WALMAP_CORRUPT)
    printf("step %llu: %s\n", (unsigned long long)w->step, why.text);
  MUST(result == WALMAP_OK || ((result == WALMAP_BUSY || result == WALMAP_DEADLOCK) && may_own_any(w, p)));
  w->verified += result == WALMAP_OK;
}

static inline void check_invariants(world *w) {
  uint32_t content[KEYS];
  uint64_t size = walmap_size(w->map), memory = walmap_memory(w->map);
  see_committed(w, content);
  MUST(walmap_len(w->map) == content_count(w->u, content));
  MUST(!is_bounded(w) || evictions_of(w->map) == w->evictions);
  MUST(walmap_reclaimable(w->map) <= size && size <= memory);
  for (int i = 0; i < TXNS; i++) {
    party *p = &w->parties[i];
    if (!walmap_txn_is_begun(p->txn))
      continue;
    see(w, p, p->time, content);
    MUST(walmap_txn_len(p->txn) == content_count(w->u, content));
    if (w->options.error_when_full && w->options.max_entries != 0)
      MUST(content_count(w->u, content) <= w->options.max_entries);
    MUST(walmap_txn_reclaimable(p->txn) <= walmap_txn_size(p->txn));
  }
  if (is_quiet(w) && !w->pinned)
    check_memory(w);
  verify(w);
}

/* Tables that have grown while a reader kept much stay: a write to each shard makes room for them. */
static inline void write_everywhere(world *w) {
  for (uint32_t i = 0; i < 8 * w->options.shards; i++)
    step_single(w);
}

/*
** Ends all that is open. Then checks the committed content, and that compaction frees just what walmap_reclaimable
** says.
*/
static inline void settle(world *w) {
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
    end_state(s);
  }
  uint32_t content[KEYS];
  see_committed(w, content);
  must_hold(w->u, w->map, content);
  step_compact(w);
  must_hold(w->u, w->map, content);
  if (w->options.max_bytes == 0)
    return;
  write_everywhere(w);
  w->pinned = false;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Runs                                                                                                               */

static inline uint64_t hash_few(const void *key, size_t len, uint64_t seed) {
  const uint8_t *k = key;
  return mix(seed + (len ? k[0] % 5u : 9)) << 7;
}

/* Small segments, so that growth, compaction, splits and the freeing of segments happen all the time. */
static inline walmap_options world_options(uint32_t shards, uint32_t auto_compact, bool few_hashes, uint64_t seed) {
  walmap_options options;
  options_init(&options);
  options.shards = shards;
  options.auto_compact = auto_compact;
  options.first_segment = 256;
  options.busy_timeout = 0;
  options.hash = few_hashes ? hash_few : NULL;
  options.seed_given = true;
  options.seed = seed;
  options.content = 3;
  return options;
}

static inline void make_follower(world *w) {
  walmap_options options = w->options;
  options.shards = 1;
  options.max_bytes = 0;
  options.max_entries = w->follower.bounded ? options.max_entries / 2 : 0;
  options.error_when_full = false;
  MUST_OK(walmap_open(&options, &w->follower.map));
  MUST_OK(walmap_state_new(w->follower.map, &w->follower.state));
  MUST_OK(walmap_session_new(NULL, NULL, &w->follower.session));
  MUST_OK(walmap_txn_new(w->follower.map, w->follower.session, &w->follower.txn));
}

/* All choices come from `seed`, until the caller sets an input. */
static inline world *world_new(walmap_options options, uint32_t huge_one_in, uint64_t seed) {
  world *w = calloc(1, sizeof *w);
  MUST(w);
  w->u = universe_new(KEYS, huge_one_in);
  w->options = options;
  if (options.max_bytes == 0) /* otherwise memory would count in regions */
    w->options.allocator = faults_allocator(&w->allocated);
  w->options.clock = world_clock;
  w->options.clock_ctx = &w->clock;
  w->clock = w->time = 1000000;
  w->random = seed;
  w->trace = env_number("TRACE", 0);
  MUST_OK(walmap_open(&w->options, &w->map));
  for (int i = 0; i < TXNS; i++) {
    MUST_OK(walmap_session_new(NULL, NULL, &w->parties[i].session));
    MUST_OK(walmap_txn_new(w->map, w->parties[i].session, &w->parties[i].txn));
  }
  for (int i = 0; i < STATES; i++)
    MUST_OK(walmap_state_new(w->map, &w->states[i].state));
  MUST_OK(walmap_state_new(w->map, &w->look));
  w->follower.bounded = options.max_entries > 1 && !options.error_when_full && options.shards > 1;
  make_follower(w);
  MUST(walmap_clock(w->map) == w->time && walmap_clock(w->follower.map) == w->time);
  return w;
}

static inline void world_step(world *w) {
  w->step++;
  uint32_t what = pick(w, 100);
  if (what < 3)
    step_clock(w);
  else if (what < 28)
    step_single(w);
  else if (what < 78)
    step_txn(w);
  else if (what < 84)
    step_get(w);
  else if (what < 88)
    step_state(w);
  else if (what < 93)
    step_read_state(w);
  else if (what < 94)
    step_image(w);
  else if (what < 96)
    step_stream(w);
  else if (what < 98)
    step_follow(w);
  else if (what < 99)
    step_compact(w);
  else if (pick(w, 4) == 0)
    settle(w);
  check_invariants(w);
}

/* After a last look at everything. */
static inline void world_free(world *w) {
  settle(w);
  for (int i = 0; i < STATES; i++)
    walmap_state_free(w->states[i].state);
  walmap_state_free(w->look);
  walmap_state_free(w->follower.state);
  for (int i = 0; i < TXNS; i++) {
    walmap_txn_free(w->parties[i].txn);
    walmap_session_free(w->parties[i].session);
  }
  for (int i = 0; i < IMAGES; i++)
    if (w->images[i].image)
      walmap_image_free(w->images[i].image);
  if (w->follower.since)
    walmap_image_free(w->follower.since);
  walmap_txn_free(w->follower.txn);
  walmap_session_free(w->follower.session);
  walmap_close(w->follower.map);
  walmap_close(w->map);
  MUST(w->allocated.bytes == 0 && w->allocated.blocks == 0);
  universe_free(w->u);
  free(w);
}

#endif
