/*
** model_bounds.h - what a map with bounds may do that another may not: evict and refuse (part of model_world.h)
**
** The model does not know which entries a commit evicts. It does what a map without bounds would do, looks at what is
** left, and goes on from there. What it demands is:
**
**   - What is left has the value, expiry and key that were written last: nothing old, nothing that was removed.
**   - What is missing is what the map has counted as evictions. Where entries expire, a commit may also have evicted
**     some that nobody saw any more, so then the count is no less than what is missing, and no more than that and what
**     has expired.
**   - No entry is missing that an open transaction has read or written, and none that the commit itself has written, as
**     long as there are others.
**   - The bound is kept, and no more was evicted than it demands.
**   - Whatever is no commit evicts nothing: check_invariants compares length and count after each step.
*/
#ifndef TEST_CORE_MODEL_BOUNDS_H
#define TEST_CORE_MODEL_BOUNDS_H

static inline bool is_bounded(const world *w) { return w->options.max_entries != 0 || w->options.max_bytes != 0; }

static inline uint64_t evictions_of(walmap *map) {
  walmap_stats stats;
  walmap_get_stats(map, &stats);
  return stats.evictions;
}

/* Marks the keys that are left in the map, whose values and expiry must be the committed ones. Returns their number. */
static inline uint32_t find_left(world *w, bool *left) {
  walmap_cursor cursor;
  walmap_entry entry;
  uint32_t n = 0;
  memset(left, 0, KEYS * sizeof *left);
  MUST_OK(walmap_state_begin(w->look));
  for (walmap_cursor_start(&cursor, w->look); walmap_cursor_next(&cursor, &entry); n++) {
    uint32_t key = universe_find(w->u, entry.key, entry.key_len);
    MUST(key < KEYS && !left[key] && version_at(w->u, w->committed[key], w->time) != 0);
    must_be(w->u, WALMAP_OK, &entry, key, w->committed[key]);
    left[key] = true;
  }
  walmap_state_end(w->look);
  return n;
}

/* What a commit has lost. */
typedef struct losses {
  uint32_t n, own;          /* entries, and those of them that the commit wrote */
  uint32_t expired, others; /* that may be in the map but are not seen; entries of others that are left */
} losses;

static inline losses note_losses(world *w, const party *by, const bool *own, const bool *left) {
  losses l = {0};
  for (uint32_t key = 0; key < KEYS; key++) {
    if (w->committed[key] == 0)
      continue;
    if (version_at(w->u, w->committed[key], w->time) == 0) {
      l.expired++;
    } else if (left[key]) {
      l.others += !own[key];
    } else {
      MUST(!is_touched(w, by, key));
      l.n++;
      l.own += own[key];
      w->committed[key] = 0;
    }
  }
  return l;
}

/* Whether a transaction has made room for what it adds: others then have as much less. */
static inline bool has_claims(const world *w) {
  for (int i = 0; i < TXNS; i++)
    if (w->parties[i].evicted)
      return true;
  return false;
}

/* `own`: the keys that the commit has written. w->committed is what it would be without bounds, and becomes what is. */
static inline void take_over(world *w, const party *by, const bool *own) {
  bool left[KEYS];
  if (!is_bounded(w))
    return;
  uint32_t n = find_left(w, left), evicted = by ? by->now.evicted : 0;
  losses l = note_losses(w, by, own, left);
  uint64_t evictions = evictions_of(w->map) - w->evictions;
  w->evictions += evictions;
  w->lost += evictions;
  MUST(evictions >= l.n + evicted && evictions <= l.n + evicted + l.expired + (by ? by->now.expired : 0));
  MUST(evictions == 0 || !w->options.error_when_full);
  if (w->options.max_entries == 0)
    return;
  MUST(n <= w->options.max_entries);
  if (w->options.max_bytes != 0 || has_claims(w))
    return;
  MUST(l.n == 0 || n + l.expired >= w->options.max_entries);
  if (!may_own_any(w, by))
    MUST(l.own == 0 || l.others == 0);
}

/* Entries that the map may count: what is committed, expired or not, and what open transactions have added. */
static inline uint64_t count_at_most(const world *w) {
  uint64_t n = 0;
  for (uint32_t key = 0; key < KEYS; key++)
    n += w->committed[key] != 0;
  for (int i = 0; i < TXNS; i++)
    n += w->parties[i].claims;
  return n;
}

/*
** Returns true when the call got FULL, after a check that this is right. The write would have given the key the version
** `next`. Too long a record is one that does not fit half of what a shard's log may have alive (bounds.h).
*/
static inline bool is_refused(world *w, int result, const party *by, uint32_t key, uint32_t next) {
  const walmap_options *o = &w->options;
  if (result != WALMAP_FULL)
    return false;
  uint32_t now = by ? written_by(w, by, key) : w->committed[key], old = version_at(w->u, now, by ? by->time : w->time);
  size_t length = value_length(w->u, next) + w->u->keys[key].len;
  bool is_long = o->max_bytes != 0 && length > o->max_bytes / o->shards / 64;
  bool is_longer = old == 0 || value_length(w->u, next) > value_length(w->u, old) ||
                   (!w->no_expiry && expires_of(w->u, old) == 0) || tag_of(w->u, old) == 0;
  bool too_many = o->max_entries != 0 && o->error_when_full && old == 0 && count_at_most(w) >= o->max_entries;
  MUST(is_long || too_many || (o->error_when_full && o->max_bytes != 0 && is_longer));
  w->refused++;
  return true;
}

/* Without states and transactions. */
static inline void check_memory(world *w) {
  enum { CHUNK = 8 << 10 }; /* of the queue of garbage: it matters to shares as small as here */
  const walmap_options *o = &w->options;
  if (o->max_bytes == 0)
    return;
  MUST(walmap_memory(w->map) <= o->max_bytes + o->max_bytes / 32 + (w->u->lengths + CHUNK) * o->shards);
  w->looked_at_memory++;
}

#endif
