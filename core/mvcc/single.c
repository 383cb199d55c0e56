/* single.c - operations that are a transaction of their own, on one key */
#include "mvcc/bounds.h"
#include "mvcc/counters.h"
#include "mvcc/maintenance.h"
#include "mvcc/undo.h"
#include "mvcc/write.h"

/* Too great lengths are refused before a byte is looked at. */
static WALMAP__ALWAYS_INLINE int start_single(walmap *map, const void *key, size_t key_len, size_t value_len,
                                              walmap__write *w) {
  if (key_len > WALMAP_MAX_LENGTH || value_len > WALMAP_MAX_LENGTH)
    return WALMAP_TOOBIG;
  uint64_t hash = walmap__hash_of(map, key, key_len);
  walmap__shard *shard = walmap__shard_of(map, hash);
  int result = walmap__lock_acquire(&shard->lock, &walmap__single_operation, map->options.busy_timeout);
  if (result != WALMAP_OK) {
    walmap__count_wait(map, result);
    return result;
  }
  result = walmap__write_start(w, shard, hash, key, key_len, true);
  if (result != WALMAP_OK)
    walmap__lock_release(&shard->lock);
  return result;
}

static WALMAP__ALWAYS_INLINE int finish_single(const walmap__write *w, int result) {
  walmap__lock_release(&w->shard->lock);
  return result;
}

static WALMAP__ALWAYS_INLINE int commit_single(const walmap__write *w) {
  walmap__shard *shard = w->shard;
  walmap__publish_one(shard->map, shard);
  walmap__count(&shard->commits, 1);
  if (WALMAP__UNLIKELY(shard->map->bounded))
    walmap__bounds_settle(shard->map, &shard, 1, 0);
  walmap__shard_after_commit(shard, walmap__records_paid(w->bytes));
  walmap__lock_release(&shard->lock);
  walmap__commit_is_over(shard->map);
  return WALMAP_OK;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Writes to a bounded map (bounds.h)                                                                                 */

/* The shards of one write: the key's, and the one in which it evicts if that has nothing else. */
typedef struct bounded_write {
  walmap__shard *shards[2];
  walmap__mark marks[2];
  uint32_t n;
} bounded_write;

static int touch_marked(void *ctx, walmap__shard *shard) {
  (void)ctx;
  (void)shard;
  return WALMAP_OK;
}

static bool borrow_other(void *ctx, walmap__shard *shard) {
  bounded_write *b = ctx;
  if (b->n == 2 || !walmap__lock_try(&shard->lock, &walmap__single_operation))
    return false;
  const walmap__generation *g = walmap__shard_generation(shard);
  if (!g || g->len == 0) {
    walmap__lock_release(&shard->lock);
    return false;
  }
  b->shards[1] = shard;
  walmap__mark_shard(shard, &b->marks[1]);
  b->n = 2;
  return true;
}

/* Makes the write, and evicts for it. An error leaves the marks to go back to. */
static int write_and_evict(bounded_write *b, walmap__write *w, const void *value, size_t value_len, uint64_t expires,
                           int64_t *claimed) {
  int result = walmap__bounds_admit(w, value_len, expires, 0, claimed);
  if (result == WALMAP_OK)
    result = walmap__write_prepare(w, value_len, expires, false);
  if (result != WALMAP_OK)
    return result;
  walmap__copy_bytes(walmap__write_apply(w), value, value_len);
  walmap__committer committer = {w->shard->map, b->shards, &b->n,        *claimed,
                                 {NULL, NULL},  b,         touch_marked, borrow_other};
  result = walmap__bounds_keep(&committer);
  *claimed = committer.claimed;
  return result;
}

static WALMAP__NOINLINE int set_bounded(walmap__write *w, const void *value, size_t value_len, uint64_t expires) {
  walmap *map = w->shard->map;
  bounded_write b = {.shards = {w->shard}, .n = 1};
  int64_t claimed = 0;
  if (map->options.error_when_full)
    walmap__bounds_sweep(w->shard);
  walmap__mark_shard(w->shard, &b.marks[0]);
  uint64_t records = walmap__records_paid(w->key_len + value_len), lsn = walmap__shard_end(w->shard);
  int result = write_and_evict(&b, w, value, value_len, expires, &claimed);
  for (uint32_t i = 0; i < b.n && result != WALMAP_OK; i++)
    walmap__undo_to_mark(b.shards[i], &b.marks[i]);
  bool written = walmap__shard_end(w->shard) != lsn;
  for (uint32_t i = 0; i < b.n; i++) {
    walmap__count(&b.shards[i]->evictions, b.shards[i]->evicting);
    b.shards[i]->evicting = 0;
  }
  if (written)
    walmap__count(result == WALMAP_OK ? &w->shard->commits : &w->shard->rollbacks, 1);
  if (b.n == 2)
    walmap__publish_many(map, b.shards, 2);
  else if (written)
    walmap__publish_one(map, w->shard);
  walmap__bounds_settle(map, b.shards, b.n, claimed);
  for (uint32_t i = b.n; i-- > 0;) {
    if (written)
      (result == WALMAP_OK ? walmap__shard_after_commit : walmap__shard_after_rollback)(b.shards[i], records);
    if (map->options.max_bytes != 0 && !map->options.error_when_full && result == WALMAP_OK)
      walmap__bounds_correct(b.shards[i], true);
    walmap__lock_release(&b.shards[i]->lock);
  }
  if (written)
    walmap__commit_is_over(map);
  return result;
}

static WALMAP__ALWAYS_INLINE int set_single(walmap__write *w, const void *value, size_t value_len, uint64_t expires) {
  if (WALMAP__UNLIKELY(w->shard->map->bounded)) {
    walmap__write copy = *w; /* a call with `w` would keep all of it in memory, for maps without bounds too */
    return set_bounded(&copy, value, value_len, expires);
  }
  int result = walmap__write_prepare(w, value_len, expires, false);
  if (result != WALMAP_OK)
    return finish_single(w, result);
  walmap__copy_bytes(walmap__write_apply(w), value, value_len);
  return commit_single(w);
}

static WALMAP__ALWAYS_INLINE int remove_single(walmap__write *w) {
  int result = walmap__write_prepare(w, 0, WALMAP_NEVER, true);
  if (result != WALMAP_OK)
    return finish_single(w, result);
  walmap__write_apply(w);
  return commit_single(w);
}

static WALMAP__ALWAYS_INLINE int set_always(walmap *map, const void *key, size_t key_len, const void *value,
                                            size_t value_len, uint64_t expires) {
  walmap__write w;
  int result = start_single(map, key, key_len, value_len, &w);
  return result == WALMAP_OK ? set_single(&w, value, value_len, expires) : result;
}

int walmap_set(walmap *map, const void *key, size_t key_len, const void *value, size_t value_len) {
  return set_always(map, key, key_len, value, value_len, WALMAP_BY_TTL);
}

int walmap_set_expiring(walmap *map, const void *key, size_t key_len, const void *value, size_t value_len,
                        uint64_t expires) {
  return set_always(map, key, key_len, value, value_len, expires);
}

int walmap_touch(walmap *map, const void *key, size_t key_len, uint64_t expires) {
  walmap__write w;
  walmap_entry e;
  int result = start_single(map, key, key_len, 0, &w);
  if (result != WALMAP_OK)
    return result;
  return walmap__write_present(&w, &e) ? set_single(&w, e.value, e.value_len, expires)
                                       : finish_single(&w, WALMAP_NOTFOUND);
}

int walmap_remove(walmap *map, const void *key, size_t key_len) {
  walmap__write w;
  int result = start_single(map, key, key_len, 0, &w);
  if (result != WALMAP_OK)
    return result;
  return walmap__write_present(&w, NULL) ? remove_single(&w) : finish_single(&w, WALMAP_NOTFOUND);
}

static int tell_done(int result, bool did, bool *done) {
  if (result == WALMAP_OK && done)
    *done = did;
  return result;
}

int walmap_set_if_absent_expiring(walmap *map, const void *key, size_t key_len, const void *value, size_t value_len,
                                  uint64_t expires, bool *done) {
  walmap__write w;
  int result = start_single(map, key, key_len, value_len, &w);
  if (result != WALMAP_OK)
    return result;
  if (walmap__write_present(&w, NULL))
    return tell_done(finish_single(&w, WALMAP_OK), false, done);
  return tell_done(set_single(&w, value, value_len, expires), true, done);
}

int walmap_set_if_absent(walmap *map, const void *key, size_t key_len, const void *value, size_t value_len,
                         bool *done) {
  return walmap_set_if_absent_expiring(map, key, key_len, value, value_len, WALMAP_BY_TTL, done);
}

/* Starts a write of a present key for whose value `test` is true. *passed: it is; else the lock is released again. */
static int start_tested(walmap *map, const void *key, size_t key_len, size_t value_len, walmap_test_fn test, void *ctx,
                        walmap__write *w, bool *passed) {
  walmap_entry e;
  *passed = false;
  int result = start_single(map, key, key_len, value_len, w);
  if (result != WALMAP_OK)
    return result;
  if (!walmap__write_present(w, &e))
    return finish_single(w, WALMAP_NOTFOUND);
  *passed = test(ctx, e.value, e.value_len);
  return *passed ? WALMAP_OK : finish_single(w, WALMAP_OK);
}

int walmap_set_if(walmap *map, const void *key, size_t key_len, const void *value, size_t value_len,
                  walmap_test_fn test, void *ctx, bool *done) {
  walmap__write w;
  bool passed;
  int result = start_tested(map, key, key_len, value_len, test, ctx, &w, &passed);
  if (passed)
    result = set_single(&w, value, value_len, WALMAP_KEEP);
  return tell_done(result, passed, done);
}

int walmap_remove_if(walmap *map, const void *key, size_t key_len, walmap_test_fn test, void *ctx, bool *done) {
  walmap__write w;
  bool passed;
  int result = start_tested(map, key, key_len, 0, test, ctx, &w, &passed);
  if (passed)
    result = remove_single(&w);
  return tell_done(result, passed, done);
}

int walmap_upsert_expiring(walmap *map, const void *key, size_t key_len, walmap_upsert_fn upsert, void *ctx,
                           uint64_t expires) {
  walmap__write w;
  walmap_entry e = {NULL, 0, NULL, 0, 0};
  int result = start_single(map, key, key_len, 0, &w);
  if (result != WALMAP_OK)
    return result;
  bool present = walmap__write_present(&w, &e);
  const void *value = NULL;
  size_t value_len = 0;
  result = upsert(ctx, present ? e.value : NULL, e.value_len, &value, &value_len);
  if (result != WALMAP_OK)
    return finish_single(&w, result);
  return set_single(&w, value, value_len, present ? e.expires : expires);
}

int walmap_upsert(walmap *map, const void *key, size_t key_len, walmap_upsert_fn upsert, void *ctx) {
  return walmap_upsert_expiring(map, key, key_len, upsert, ctx, WALMAP_BY_TTL);
}
