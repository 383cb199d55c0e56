/* verify.c - a shard as a whole: garbage queue, stats, limbo; and walmap_verify (verify.h has the order) */
#include "verify/verify.h"

#include "base/why.h"
#include "mvcc/counters.h"
#include "mvcc/txn.h"

#include <stdarg.h>
#include <stdio.h>

bool walmap__fault(const walmap__inspection *in, const char *format, ...) {
  if (!in->why)
    return false;
  walmap_why fault;
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(fault.text, sizeof fault.text, format, arguments);
  va_end(arguments);
  walmap__explain(in->why, WALMAP_CORRUPT, "shard %u: %s", (unsigned)in->shard->id, fault.text);
  return false;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Garbage queue                                                                                                      */

static bool check_chunks(const walmap__inspection *in) {
  const walmap__garbage *d = &in->g->garbage;
  const walmap__garbage_chunk *before = NULL;
  for (const walmap__garbage_chunk *c = d->oldest; c; before = c, c = c->next) {
    if (c->previous != before)
      return walmap__fault(in, "the garbage queue is linked wrongly");
    uint64_t end = c->next ? c->next->base : d->end;
    if (end < c->base || end - c->base > c->capacity)
      return walmap__fault(in, "a chunk of the garbage queue holds more than it can");
  }
  if (before != d->newest)
    return walmap__fault(in, "the garbage queue is linked wrongly");
  if (d->first > d->batch_end || d->batch_end > d->end ||
      (d->first < d->end && (!d->oldest || d->oldest->base > d->first)))
    return walmap__fault(in, "the garbage queue begins after its end");
  return true;
}

/*
** The time at which the record died: twice the LSN of its successor; for a tombstone twice its own LSN and 1, which is
** right after the record that it supersedes. 0: it is not dead.
*/
static uint64_t time_of_death(const walmap__inspection *in, uint32_t address) {
  uint32_t meta, next_meta;
  const walmap__record *record = walmap__inspect_address(in, address, &meta);
  if (!record || meta & (WALMAP__DEAD | WALMAP__MOVED))
    return 0;
  if (meta & WALMAP__TOMB)
    return 2 * walmap__log_lsn(&in->g->log, address) + 1;
  uint32_t next = walmap__record_next(record);
  return walmap__inspect_address(in, next, &next_meta) ? 2 * walmap__log_lsn(&in->g->log, next) : 0;
}

static bool check_garbage(const walmap__inspection *in) {
  if (!check_chunks(in))
    return false;
  const walmap__garbage *d = &in->g->garbage;
  const walmap__garbage_chunk *c = d->oldest;
  uint64_t latest = 0;
  for (uint64_t i = d->first; i < d->end; i++) {
    while (c->next && i >= c->next->base)
      c = c->next;
    uint64_t time = time_of_death(in, c->addresses[i - c->base]);
    if (time <= latest)
      return walmap__fault(in, "entry %llu of the garbage queue is not dead, or out of order", (unsigned long long)i);
    latest = time;
  }
  if (d->end - d->first != in->recount.waiting)
    return walmap__fault(in, "%llu records are in the garbage queue, but %llu wait to be reclaimed",
                         (unsigned long long)(d->end - d->first), (unsigned long long)in->recount.waiting);
  return true;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Stats                                                                                                              */

static bool check_same(const walmap__inspection *in, const char *what, uint64_t told, uint64_t counted) {
  return told == counted || walmap__fault(in, "%s: %llu, but %llu were counted", what, (unsigned long long)told,
                                          (unsigned long long)counted);
}

/* The expiry table as a whole: a record that counts at a wrong time shows when that has passed. */
static bool check_expiry(const walmap__inspection *in) {
  const walmap__expiry_table *t = atomic_load(&in->g->expiry.table);
  uint64_t count = 0, bytes = 0, used = 0;
  for (size_t i = 0; t && i < (size_t)1 << t->bits; i++) {
    used += atomic_load(&t->times[i]) != 0;
    count += atomic_load(&t->counts[i]);
    bytes += atomic_load(&t->bytes[i]);
  }
  return check_same(in, "entries that expire", count, in->recount.expiring) &&
         check_same(in, "bytes that expire", bytes, in->recount.expiring_bytes) &&
         check_same(in, "bytes that expired", in->g->expiry.expired, in->recount.expired) &&
         check_same(in, "times of expiry", t ? t->used : 0, used);
}

static bool check_stats(const walmap__inspection *in) {
  const walmap__generation *g = in->g;
  const walmap__recount *c = &in->recount;
  return check_same(in, "entries", g->len, c->live) && check_same(in, "bytes of log", g->log.bytes, c->bytes) &&
         check_same(in, "dead bytes", g->dead, c->dead) && check_same(in, "slots of the index", c->slots, c->newest);
}

/* Checks what readers see: the commit point, and the stats of it. */
static bool check_published(const walmap__inspection *in) {
  uint32_t id = in->shard->id;
  walmap__stats told = walmap__committed_stats((walmap *)in->map, id);
  const walmap__recount *c = &in->recount;
  return check_same(in, "commit point", atomic_load(&in->map->commit_points[id]), walmap__shard_end(in->shard)) &&
         check_same(in, "entries published", told.len, c->live) &&
         check_same(in, "bytes published", told.bytes, c->bytes) &&
         check_same(in, "dead bytes published", told.dead, c->dead) &&
         (in->map->options.max_entries == 0 || check_same(in, "entries for the bound", in->shard->counted, c->live));
}

static bool check_limbo(const walmap__inspection *in) {
  const walmap__limbo *limbo = &in->shard->limbo;
  walmap__retired *const *last = &limbo->first;
  while (*last)
    last = &(*last)->next;
  return last == limbo->last || walmap__fault(in, "the list of what waits to be freed is linked wrongly");
}

/* ------------------------------------------------------------------------------------------------------------------ */

static bool check_generation(walmap__inspection *in) {
  const walmap__generation *g = in->g;
  if (atomic_load(&g->tombstone_horizon) > g->log.end)
    return walmap__fault(in, "tombstones were dropped that are not written yet");
  return walmap__verify_segments(in) && walmap__verify_index(in) && walmap__verify_order(in) &&
         walmap__verify_records(in) && check_garbage(in) && check_stats(in) && check_expiry(in);
}

/*
** `committed`: no transaction has changed the shard. A shard that was never written has no generation, and stats of 0.
*/
static int check_shard(walmap *map, const walmap__shard *shard, bool committed, walmap_why *why) {
  walmap__inspection in = {.map = map, .shard = shard, .g = walmap__shard_generation(shard), .why = why};
  bool good = check_limbo(&in) && (!in.g || check_generation(&in)) && (!committed || check_published(&in));
  return good ? WALMAP_OK : WALMAP_CORRUPT;
}

int walmap_verify(walmap *map, walmap_txn *txn, walmap_why *why) {
  if (txn)
    walmap__deferred_flush(txn->deferred);
  walmap_session *session = txn ? txn->session : &walmap__single_operation;
  for (uint32_t i = 0; i < map->n_shards; i++) {
    walmap__shard *shard = &map->shards[i];
    bool locked = txn && txn->txn_shards[i].locked;
    bool committed = !locked || txn->txn_shards[i].written == 0;
    int result = locked ? WALMAP_OK : walmap__lock_acquire(&shard->lock, session, map->options.busy_timeout);
    if (result != WALMAP_OK) {
      walmap__count_wait(map, result);
      return result;
    }
    result = check_shard(map, shard, committed, why);
    if (!locked)
      walmap__lock_release(&shard->lock);
    if (result != WALMAP_OK)
      return result;
  }
  return WALMAP_OK;
}
