/*
** order.h - the keys of a map in their order: a B+tree beside the hash indexes of all shards
**
** A map whose options ask for order has one tree for all its shards (a new one with each restore). It leads from a key
** to the shard and the address of the key's newest record: what the index of the shard holds for the same key, at every
** moment between two writes of the holder of the shard lock. Keys are compared by their sort bytes
** (walmap_sort_key_fn): byte by byte, a beginning before what goes on.
**
**            [ node  | 'f' | 'q' ]                 node: children, and between two of them a separator: not greater
**            /          |        \                 than any key to its right, greater than all to its left; as short
**   [leaf ... ]   [leaf ... ]   [leaf ... ]        as can be
**      word = | head of the key, 24 bits | shard, 8 | address, 32 |            0 as address: the key was dropped
**
** A leaf keeps the prefix that its keys have in common, so that 24 bits tell most of them apart; where two heads are
** equal the records are compared. Words lie in the order of their keys. A node never changes, but for the pointers to
** its children; its separators may be part of several nodes, old and new.
**
** Changes. add, move and drop are one change of one leaf, under the leaf's mutex: add shifts the words behind its place
** to the right; move and drop store one word. Whatever else changes the tree is a rebuild, under the tree's mutex: it
** makes new leaves and new nodes, publishes all of them by one store (of the root, or of a pointer to a child), marks
** the leaves that they replace as dead, under their mutexes, and retires what was replaced through the epoch. A leaf is
** rebuilt, or split in two, when it is full, or when a key comes that does not share its prefix; two are merged, or an
** empty one is left out, when keys are dropped. The order of locks: the shard lock, the tree's mutex, leaves from left
** to right, memory. A writer that holds a leaf's mutex does not ask for the tree's.
**
** Nothing of it can fail at a write's end (C7): walmap__order_reserve finds the place of a key to be added, rebuilds
** until there is room for it, which may fail, and keeps the leaf's mutex until walmap__order_add, or _cancel. move and
** drop need no memory; merging does, and is left out where there is none.
**
** Guarantee (B1): a reader that walks the keys of a state in either direction meets each key of its state once, in
** order, and takes no lock, and does nothing twice. Why:
**
**   1. What it must meet, it finds. A record that is visible to a state was added to the tree before its commit point
**      was stored, which the reader has loaded before it looks at the tree. So every leaf and node that the reader gets
**      to holds the key's word, or replaced in its turn one that did, after it was there: rebuilds copy every word that
**      has an address, and take it from the leaf under its mutex. A leaf that was replaced meanwhile is as good as the
**      new one: it lacks only keys that were added after the state began, which the reader would not take.
**   2. What it finds leads to what it must read. The address in a word may be replaced after it was loaded, or after
**      the leaf was: by a successor, then the record that the reader has is at its state or leads to it by `prev`; by
**      its predecessor, when the successor is undone: its record stays where it is, and leads to the predecessor; by
**      its copy (K1), then the record is as good as the copy. A word is dropped when its key is absent for all readers
**      (V1). All of this memory, the leaves and nodes too, was in use after the reader had taken its slot, so none of
**      it is freed before the slot is given back (E1).
**   3. In a leaf. The reader copies the words from left to right, each by one load. An add shifts from the right: it
**      stores a word one place further before it overwrites it. So when the reader finds a word overwritten, the next
**      place has what was there, or it was shifted on in its turn: nothing is missed, for the reader also goes on to
**      the places that are in use when it gets there. Words may be met twice, and words that were shifted onto the
**      reader's next place after greater ones. Such a shift makes `changes` odd before its first store and even after
**      its last one. If the reader finds it odd, or not as before, it takes out what is invisible, sorts its copy by
**      key and takes out what is there twice: it works on its own copy, and reads no word again.
**   4. From leaf to leaf. A descent tells the separators around the leaf, its fences. The reader goes on by a descent
**      for the fence, and takes keys at or after it (or before it, on its way back). So its steps cover neighbouring
**      ranges of keys, whatever is rebuilt between them. Fences stay in memory as leaves do.
**
** Threads: reserve, add, cancel, move and drop are for the holder of the lock of the shard whose keys they change.
** Holders of different shard locks may change one leaf, one after another. Readers need a slot in the epoch.
*/
#ifndef WALMAP_ORDER_H
#define WALMAP_ORDER_H

#include "base/bytes.h"
#include "base/interrupt.h"
#include "sync/epoch.h"
#include "walmap.h"

#define WALMAP__LEAF_WORDS 64
#define WALMAP__NODE_CHILDREN 64
#define WALMAP__ORDER_DEPTH 16 /* levels of nodes: more than there can be, if only the root has fewer than 2 children */

/* The sort bytes of a key: its own, or those in the buffer. So it must not be copied by assignment. */
typedef struct walmap__sort_bytes {
  const uint8_t *bytes;
  size_t len;
  uint8_t buffer[WALMAP_SORT_BUFFER];
} walmap__sort_bytes;

/* Reading the records of shards, whose logs are in a layer above: the key of one, and to have one fetched. */
typedef struct walmap__order_records {
  void (*key_at)(const void *log, uint32_t address, const void **key, size_t *key_len);
  void (*prefetch)(const void *log, uint32_t address);
} walmap__order_records;

typedef struct walmap__leaf {
  walmap__retired retired;
  pthread_mutex_t mutex;
  uint32_t live;            /* words that have an address; under the mutex */
  bool is_dead;             /* it was replaced: there is nothing to change in it any more; under the mutex */
  uint16_t prefix_len;      /* constant, as the prefix is */
  _Atomic uint32_t changes; /* odd while words are shifted */
  _Atomic uint32_t n;       /* words in use */
  _Atomic uint64_t words[WALMAP__LEAF_WORDS];
  uint8_t prefix[];
} walmap__leaf;

typedef struct walmap__separator {
  walmap__retired retired;
  size_t len;
  uint8_t bytes[];
} walmap__separator;

typedef struct walmap__child {
  _Atomic(void *) to;           /* a leaf, or a node of the level below */
  uint64_t head;                /* of the separator, behind the node's prefix */
  walmap__separator *separator; /* between the child before this one and this one; none (NULL) at the first */
} walmap__child;

typedef struct walmap__node {
  walmap__retired retired;
  uint32_t n;        /* children, at least 1 */
  uint32_t level;    /* 0: they are leaves */
  size_t prefix_len; /* of all separators */
  walmap__child children[];
} walmap__node;

typedef struct walmap__order {
  _Atomic(void *) root; /* a node */
  walmap__memory *memory;
  walmap__epoch *epoch;
  walmap_sort_key_fn sort_key; /* NULL: the keys' own bytes */
  walmap__order_records records;
  uint32_t n_shards;
  _Atomic uint32_t references; /* of generations, and others: the last one frees the tree */

  _Alignas(64) pthread_mutex_t mutex;
  walmap__retired *limbo;   /* replaced since the last batch */
  walmap__retired *waiting; /* the last batch: freed when no reader is as old as waiting_time */
  uint64_t waiting_time;
  _Atomic(const void *) logs[]; /* of the shards, for `records`; NULL: nothing of the shard is in the tree */
} walmap__order;

/* A tree without keys, with one reference. NULL without memory. */
walmap__order *walmap__order_new(walmap__memory *memory, walmap__epoch *epoch, uint32_t n_shards,
                                 walmap_sort_key_fn sort_key, walmap__order_records records);
static inline void walmap__order_retain(walmap__order *order) {
  atomic_fetch_add_explicit(&order->references, 1, memory_order_relaxed);
}
void walmap__order_release(walmap__order *order); /* NULL is allowed */

/* Frees what was replaced and no reader can see any more. */
void walmap__order_reclaim(walmap__order *order);

/* ------------------------------------------------------------------------------------------------------------------ */
/* Changes                                                                                                            */

/* Where a key is to be added; the leaf's mutex is held. Two words, for registers: a write must not be in memory. */
typedef struct walmap__place {
  walmap__leaf *leaf; /* NULL: none */
  uint32_t at;
  uint32_t head;
} walmap__place;

/* Finds and keeps a place for a key that the tree does not hold; none without memory. add or cancel must follow. */
walmap__place walmap__order_reserve(walmap__order *order, const void *key, size_t key_len);
void walmap__order_add(walmap__place place, uint32_t shard, uint32_t address);
void walmap__order_cancel(walmap__place place);

/* The key's record is at another address now. */
void walmap__order_move(walmap__order *order, const void *key, size_t key_len, uint32_t shard, uint32_t from,
                        uint32_t to);

/* The key has no record any more. */
void walmap__order_drop(walmap__order *order, const void *key, size_t key_len, uint32_t shard, uint32_t address);

/* A key for walmap__order_build. */
typedef struct walmap__order_item {
  uint64_t head; /* set by the build */
  uint32_t shard, address;
} walmap__order_item;

/*
** Fills an empty tree that no reader sees yet with n keys, all different, in any order: OK, NOMEM or INTERRUPT. `items`
** is sorted; `room` has space for as many.
*/
int walmap__order_build(walmap__order *order, walmap__order_item *items, walmap__order_item *room, size_t n,
                        walmap__interrupt *interrupt);

/* ------------------------------------------------------------------------------------------------------------------ */
/* Reading                                                                                                            */

/* A copy of a leaf's words that have an address, and what is known of the leaf. */
typedef struct walmap__leaf_copy {
  const walmap__leaf *leaf;
  const walmap__separator *low, *high; /* the fences; NULL where the tree ends */
  uint32_t n;
  bool was_shifted; /* meanwhile: the words may be out of order, and some may be there twice (B1) */
} walmap__leaf_copy;

/*
** Copies the leaf that holds the keys at and after these sort bytes or, with `before`, those right before them. NULL
** bytes: the first leaf, or with `before` the last one. `words` has room for WALMAP__LEAF_WORDS.
*/
walmap__leaf_copy walmap__order_copy_leaf(walmap__order *order, const uint8_t *bytes, size_t len, bool before,
                                          uint64_t *words);

/* How many of the copied words, which are in order, have a key before these sort bytes. */
uint32_t walmap__leaf_copy_find(const walmap__order *order, const walmap__leaf_copy *copy, const uint64_t *words,
                                const uint8_t *bytes, size_t len);

static inline uint32_t walmap__word_address(uint64_t word) { return (uint32_t)word; }
static inline uint32_t walmap__word_shard(uint64_t word) { return (uint8_t)(word >> 32); }

/* The sort bytes of a key, and of the key that a word leads to. */
void walmap__order_sort_bytes(const walmap__order *order, const void *key, size_t key_len, walmap__sort_bytes *out);
void walmap__order_sort_bytes_at(const walmap__order *order, uint64_t word, walmap__sort_bytes *out);

static inline const void *walmap__order_log(const walmap__order *order, uint64_t word) {
  return atomic_load_explicit(&order->logs[walmap__word_shard(word)], memory_order_acquire);
}

/* Takes a mutex of the tree. Builds with yields tell a test when another thread has it, which may be held there. */
static inline void walmap__order_lock(pthread_mutex_t *mutex) {
#ifdef WALMAP_DEBUG
  while (pthread_mutex_trylock(mutex) != 0)
    walmap__yield("order: mutex is taken");
#else
  pthread_mutex_lock(mutex);
#endif
}

/* Fetches the record of a word: call it some words ahead. */
static WALMAP__ALWAYS_INLINE void walmap__order_prefetch(const walmap__order *order, uint64_t word) {
  order->records.prefetch(walmap__order_log(order, word), walmap__word_address(word));
}

#endif
