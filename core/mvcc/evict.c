/* evict.c - the hand that finds an entry to evict (evict.h has the policy and the argument) */
#include "mvcc/evict.h"
#include "mvcc/write.h"

enum { NEWEST = 8 };         /* an eighth */
enum { MOST_PASSED = 2048 }; /* records that are no entries */

/* The hand comes to the segment's begin. How many bytes lie behind it changes with later writes: a hint will do. */
static void enter(walmap__hand *hand, walmap__segment *segment) {
  hand->segment = segment;
  hand->offset = 0;
  hand->behind = 0;
  for (walmap__segment *s = segment ? walmap__segment_next(segment) : NULL; s; s = walmap__segment_next(s))
    hand->behind += walmap__segment_used(s) - s->dead_bytes;
}

static bool is_at_newest(const walmap__generation *g, const walmap__hand *hand, size_t used) {
  return (hand->behind + used - hand->offset) * NEWEST <= g->log.bytes - g->dead;
}

/* This segment, or the next one of which something is alive. NULL: there is none. */
static walmap__segment *alive_from(walmap__segment *s) {
  while (s && s->dead_bytes == walmap__segment_used(s))
    s = walmap__segment_next(s);
  return s;
}

/* A search goes round the log up to four times: twice as the policy says, then past the newest eighth too. */
typedef struct search {
  uint64_t before;
  int rounds;
  uint32_t passed; /* records that are no entries */
} search;

enum { BY_POLICY = 2, ROUNDS = 4 };

static bool start_again(walmap__generation *g, search *search) {
  walmap__segment *first = alive_from(walmap__log_first(&g->log));
  enter(&g->hand, first);
  return first && ++search->rounds < ROUNDS;
}

/* Moves the hand to the next record before the LSN, and tells whether there is one. */
static bool reach_record(walmap__generation *g, search *search) {
  walmap__hand *hand = &g->hand;
  for (;;) {
    if (!hand->segment && !start_again(g, search))
      return false;
    size_t used = walmap__segment_used(hand->segment);
    bool beyond = hand->segment->first_lsn + (hand->offset >> 2) >= search->before;
    if (beyond || (search->rounds < BY_POLICY && is_at_newest(g, hand, used)))
      hand->segment = NULL;
    else if (hand->offset == used || hand->segment->dead_bytes == used)
      enter(hand, alive_from(walmap__segment_next(hand->segment)));
    else
      return true;
  }
}

/* Whether the record is its key's newest one, and an entry that counts. Compaction takes out those that were swept. */
static bool is_entry(const walmap__generation *g, const walmap__record *record, uint32_t meta) {
  if ((meta & (WALMAP__DEAD | WALMAP__TOMB)) || walmap__record_next(record) != 0)
    return false;
  uint64_t expires = walmap__record_expires(record, meta);
  return expires == 0 || expires > g->expiry.swept;
}

/* Finds the next entry, and makes `w` ready to remove it. The hand stays before it. */
static bool find_entry(walmap__generation *g, search *search, walmap__write *w) {
  walmap__hand *hand = &g->hand;
  while (reach_record(g, search)) {
    uint32_t address = walmap__address(hand->segment, hand->offset);
    walmap__record *record = walmap__segment_record(hand->segment, hand->offset);
    uint32_t meta = walmap__record_meta(record);
    if (is_entry(g, record, meta)) {
      walmap_entry e;
      walmap__record_entry(record, meta, &e);
      w->key = e.key;
      w->key_len = e.key_len;
      w->hash = g->index.hash(e.key, e.key_len, g->index.seed);
      w->old = (walmap__version){record, address, meta, walmap__log_lsn(&g->log, address)};
      walmap__index_find_address(&g->index, w->hash, address, &w->slot);
      return true;
    }
    hand->offset += walmap__record_size(record, meta);
    search->passed++;
  }
  return false;
}

/* Fetches the bucket of the record that comes next, for the next eviction. */
static void prefetch_next(const walmap__generation *g) {
  const walmap__hand *hand = &g->hand;
  if (!hand->segment || hand->offset >= walmap__segment_used(hand->segment))
    return;
  const walmap__record *record = walmap__segment_record(hand->segment, hand->offset);
  walmap__index_prefetch(&g->index, walmap__index_hash_of(&g->index, record, walmap__record_meta(record)));
}

/* The entry that `w` is to remove. */
static int tell(walmap__listener listener, const walmap__write *w) {
  walmap_entry e;
  if (!listener.told)
    return WALMAP_OK;
  walmap__record_entry(w->old.record, w->old.meta, &e);
  return listener.told(listener.ctx, &e);
}

int walmap__evict_one(walmap__shard *shard, uint64_t before, walmap__listener listener, uint32_t *looks) {
  walmap__generation *g = walmap__shard_generation(shard);
  if (!g || g->len == 0)
    return WALMAP_NOTFOUND;
  search search = {.before = before};
  walmap__write w = {.shard = shard, .generation = g};
  for (;;) {
    if (!find_entry(g, &search, &w))
      return WALMAP_NOTFOUND;
    if (*looks == 0 || search.passed >= MOST_PASSED || !walmap__slot_is_visited(&w.slot))
      break;
    --*looks;
    walmap__slot_forget_visit(w.slot.bucket, w.slot.slot);
    walmap__yield("evict: visit forgotten");
    g->hand.offset += walmap__record_size(w.old.record, w.old.meta);
  }
  int result = tell(listener, &w);
  if (result == WALMAP_OK)
    result = walmap__write_prepare(&w, 0, WALMAP_NEVER, true);
  if (result != WALMAP_OK)
    return result;
  g->hand.offset += walmap__record_size(w.old.record, w.old.meta);
  walmap__yield("evict: chosen, not removed");
  walmap__write_apply(&w);
  prefetch_next(g);
  return WALMAP_OK;
}
