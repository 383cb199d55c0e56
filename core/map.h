/*
** map.h - a map: shards, and the tails that say what is committed
**
** The tail of a shard is the position up to which its log is committed. A state is a vector of all tails, taken at one
** point in time. Why the vector is one state (S1):
**
**   - A transaction that wrote one shard commits by one store of that shard's tail.
**   - One that wrote several makes `commits` odd, with the new tails in `pending_tails`; that store is the commit. Then
**     it stores the tails and makes `commits` even again. One such commit runs at a time.
**   - A reader takes, for an odd `commits`, the greater of tail and pending tail. It collects the vector twice, until
**     nothing changed in between, `commits` included. Tails only grow, so if both collections are equal, the vector was
**     just that at the moment between them. It starts over only when somebody committed meanwhile: it waits for nobody,
**     even if a committing thread is preempted half way.
**   - A vector that was one state some time ago, and is found unchanged after an even `commits` was read, is one again:
**     tails only grow, so none of them was another in between, and no commit was on its way. That takes one look.
*/
#ifndef WALMAP_MAP_H
#define WALMAP_MAP_H

#include "shard.h"

/*
** Figures of a shard as of a tail. Two for each shard: a commit fills the one that is out of date and then stores the
** tail, so a reader finds the figures of the tail that it collected, or else two commits have passed and it collects
** anew.
*/
typedef struct walmap__figures {
  _Atomic uint64_t tail; /* 0: being filled */
  _Atomic uint64_t len, bytes, dead;
} walmap__figures;

typedef struct walmap__sums {
  uint64_t len, bytes, dead;
} walmap__sums;

struct walmap {
  walmap__epoch epoch;
  walmap_options options;
  uint64_t id; /* random: tells this map's positions from another's */
  walmap__memory memory;
  walmap__shard *shards;
  _Atomic uint64_t *tails;
  walmap__figures (*figures)[2];
  walmap__owner turn; /* of the transactions that take turns after deadlocks (txn.c) */

  /* One cache line: what every read looks at, and what a commit of several shards changes. */
  _Alignas(64) _Atomic uint64_t commits; /* odd while a commit of several shards is on its way */
  uint32_t n_shards;
  uint32_t shard_shift;            /* hash >> 1 >> this is the shard: two shifts, so that one shard works too */
  _Atomic uint64_t *pending_tails; /* 0: this shard is not part of the commit */
  pthread_mutex_t committing;
};

static inline uint64_t walmap__hash_of(const walmap *map, const void *key, size_t key_len) {
  return map->options.hash(key, key_len, map->options.seed);
}

static inline uint32_t walmap__shard_number(const walmap *map, uint64_t hash) {
  return (uint32_t)(hash >> 1 >> map->shard_shift);
}

static inline walmap__shard *walmap__shard_of(const walmap *map, uint64_t hash) {
  return &map->shards[walmap__shard_number(map, hash)];
}

/* The committed tail of one shard, a commit on its way included (S1). */
uint64_t walmap__tail_while_committing(walmap *map, uint32_t shard);
static inline uint64_t walmap__tail(walmap *map, uint32_t shard) {
  if (WALMAP__UNLIKELY(atomic_load_explicit(&map->commits, memory_order_acquire) & 1)) {
    return walmap__tail_while_committing(map, shard);
  }
  return atomic_load_explicit(&map->tails[shard], memory_order_acquire);
}

/* The vector of all tails (S1). `known`: what is there already was such a vector of this map, earlier. */
void walmap__collect_tails(walmap *map, uint64_t *tails, bool known);

/* Adds the shard's figures as of this tail. False when they are not there any more, or being filled. */
bool walmap__load_figures(walmap *map, uint32_t shard, uint64_t tail, walmap__sums *sums);

/* The sums of all shards' figures, of one committed state. */
walmap__sums walmap__collect_sums(walmap *map);

/* Those of one shard as of its tail. The caller owns it. */
walmap__sums walmap__shard_sums(walmap *map, uint32_t shard);

/* Commits what the shard holds up to now, or the shards hold, in one step. The caller owns them. */
void walmap__publish_one(walmap *map, const walmap__shard *shard);
void walmap__publish_many(walmap *map, walmap__shard *const *shards, uint32_t n);

/* Notes the figures as of now for the tail that would commit all that the shard holds. The caller owns it. */
void walmap__store_figures(walmap *map, const walmap__shard *shard);

/* Pays what the shard owes: freeing, folding, and compaction steps in proportion to what was written. */
void walmap__shard_pay(walmap__shard *shard);

/* How many records a long one is paid for as: what it leaves dead some day is as much. */
static inline uint64_t walmap__records_paid(size_t bytes) {
  enum { LONG_BITS = 11 }; /* 2 KiB */
  return 1 + (bytes >> LONG_BITS);
}

/* After a write of so many records, committed, by the shard's owner. Small debts are paid together. */
static inline void walmap__shard_after_commit(walmap__shard *shard, uint64_t records) {
  enum { TOGETHER = 8 };
  shard->owed += records;
  if (shard->owed >= TOGETHER)
    walmap__shard_pay(shard);
}

#endif
