/* order.c - the tree of a map's keys: making and freeing it, one change of one leaf, copies of leaves (order.h) */
#include "order/order.h"
#include "order/rebuild.h"

#include <assert.h>

/* ------------------------------------------------------------------------------------------------------------------ */
/* Making and freeing                                                                                                 */

static size_t order_bytes(uint32_t n_shards) {
  return sizeof(walmap__order) + n_shards * sizeof(_Atomic(const void *));
}

/* A node with one leaf, both empty. */
static walmap__node *empty_root(const walmap__order *order) {
  walmap__leaf *leaf = walmap__leaf_new(order, NULL, 0, NULL, NULL, NULL);
  if (!leaf)
    return NULL;
  walmap__child child = {leaf, 0, NULL};
  walmap__node *root = walmap__node_new(order, &child, 1, 0);
  if (!root)
    leaf->retired.free(order->memory, &leaf->retired);
  return root;
}

walmap__order *walmap__order_new(walmap__memory *memory, walmap__epoch *epoch, uint32_t n_shards,
                                 walmap_sort_key_fn sort_key, walmap__order_records records) {
  walmap__order *order = walmap__memory_alloc(memory, order_bytes(n_shards));
  if (!order)
    return NULL;
  memset(order, 0, order_bytes(n_shards));
  order->memory = memory;
  order->epoch = epoch;
  order->n_shards = n_shards;
  order->sort_key = sort_key;
  order->records = records;
  atomic_init(&order->references, 1);
  walmap__node *root = empty_root(order);
  if (!root) {
    walmap__memory_free(memory, order, order_bytes(n_shards));
    return NULL;
  }
  atomic_init(&order->root, root);
  pthread_mutex_init(&order->mutex, NULL);
  return order;
}

void walmap__order_release(walmap__order *order) {
  if (!order || atomic_fetch_sub_explicit(&order->references, 1, memory_order_acq_rel) > 1)
    return;
  walmap__node *root = walmap__order_root(order);
  walmap__node_free_all(order, root, (int)root->level);
  walmap__retired_free(order->memory, order->waiting);
  walmap__retired_free(order->memory, order->limbo);
  pthread_mutex_destroy(&order->mutex);
  walmap__memory_free(order->memory, order, order_bytes(order->n_shards));
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Keys                                                                                                               */

void walmap__order_sort_bytes(const walmap__order *order, const void *key, size_t key_len, walmap__sort_bytes *out) {
  if (order->sort_key) {
    const void *bytes;
    out->len = order->sort_key(key, key_len, &bytes, out->buffer);
    out->bytes = bytes;
  } else {
    out->bytes = key_len > 0 ? key : out->buffer; /* no NULL for memcmp */
    out->len = key_len;
  }
}

void walmap__order_sort_bytes_at(const walmap__order *order, uint64_t word, walmap__sort_bytes *out) {
  const void *key;
  size_t key_len;
  order->records.key_at(walmap__order_log(order, word), walmap__word_address(word), &key, &key_len);
  walmap__order_sort_bytes(order, key, key_len, out);
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Changes of one leaf                                                                                                */

static walmap__leaf *leaf_of(const walmap__order *order, const walmap__sort_bytes *key) {
  const walmap__node *node = walmap__order_root(order);
  for (;;) {
    walmap__yield("order: writer on its way down");
    void *child = walmap__node_child(node, walmap__node_find(node, key->bytes, key->len, false));
    if (node->level == 0)
      return child;
    node = child;
  }
}

/* The leaf of a key, with its mutex. One that was replaced meanwhile has been by another, which is found then. */
static walmap__leaf *lock_leaf_of(const walmap__order *order, const walmap__sort_bytes *key) {
  for (;;) {
    walmap__leaf *leaf = leaf_of(order, key);
    walmap__yield("order: leaf not locked");
    walmap__order_lock(&leaf->mutex);
    if (!leaf->is_dead)
      return leaf;
    pthread_mutex_unlock(&leaf->mutex);
  }
}

/* In the leaf as it is; none where it has no room for the key. */
static walmap__place find_place(const walmap__order *order, walmap__leaf *leaf, const walmap__sort_bytes *key) {
  uint32_t n = atomic_load_explicit(&leaf->n, memory_order_relaxed);
  if (n == WALMAP__LEAF_WORDS || walmap__leaf_compare_prefix(leaf, key->bytes, key->len) != 0)
    return (walmap__place){NULL, 0, 0};
  return (walmap__place){leaf, walmap__leaf_find(order, leaf, key->bytes, key->len),
                         walmap__head24(key->bytes, key->len, leaf->prefix_len)};
}

/* The slot is for the nodes on the way, and for the records of other shards with which the key is compared. */
walmap__place walmap__order_reserve(walmap__order *order, const void *key, size_t key_len) {
  walmap__place place = {NULL, 0, 0};
  walmap__sort_bytes sought;
  walmap__order_sort_bytes(order, key, key_len, &sought);
  walmap__slot *slot = walmap__epoch_enter(order->epoch, order->memory);
  if (!slot)
    return place;
  do {
    walmap__leaf *leaf = lock_leaf_of(order, &sought);
    place = find_place(order, leaf, &sought);
    if (place.leaf)
      break;
    pthread_mutex_unlock(&leaf->mutex);
    walmap__yield("order: no room yet");
  } while (walmap__order_make_room(order, &sought) == WALMAP_OK);
  walmap__epoch_leave(slot);
  return place;
}

void walmap__order_add(walmap__place place, uint32_t shard, uint32_t address) {
  walmap__leaf_insert(place.leaf, place.at, walmap__word(place.head, shard, address));
  pthread_mutex_unlock(&place.leaf->mutex);
}

void walmap__order_cancel(walmap__place place) { pthread_mutex_unlock(&place.leaf->mutex); }

/*
** For changes that cannot fail: where there is no memory for one more slot, the tree's mutex keeps what was replaced
** from being freed.
*/
static walmap__slot *enter_epoch(walmap__order *order) {
  walmap__slot *slot = walmap__epoch_enter(order->epoch, order->memory);
  if (!slot)
    walmap__order_lock(&order->mutex);
  return slot;
}

static void leave_order(walmap__order *order, walmap__slot *slot) {
  if (slot)
    walmap__epoch_leave(slot);
  else
    pthread_mutex_unlock(&order->mutex);
}

/* Stores another address in the word that leads to this one; 0: the key is dropped. How many keys the leaf has then. */
static uint32_t store_address(walmap__order *order, const walmap__sort_bytes *key, uint32_t shard, uint32_t from,
                              uint32_t to) {
  walmap__leaf *leaf = lock_leaf_of(order, key);
  _Atomic uint64_t *at = walmap__leaf_word_of(leaf, shard, from);
  uint64_t word = atomic_load_explicit(at, memory_order_relaxed);
  atomic_store_explicit(at, walmap__word(walmap__word_head(word), shard, to), memory_order_release);
  leaf->live -= to == 0;
  uint32_t live = leaf->live;
  pthread_mutex_unlock(&leaf->mutex);
  return live;
}

void walmap__order_move(walmap__order *order, const void *key, size_t key_len, uint32_t shard, uint32_t from,
                        uint32_t to) {
  walmap__sort_bytes sought;
  walmap__order_sort_bytes(order, key, key_len, &sought);
  walmap__slot *slot = enter_epoch(order);
  store_address(order, &sought, shard, from, to);
  leave_order(order, slot);
}

/* Not at each key below a quarter is it worth while to look whether the leaf fits into its neighbour. */
void walmap__order_drop(walmap__order *order, const void *key, size_t key_len, uint32_t shard, uint32_t address) {
  enum { QUARTER = WALMAP__LEAF_WORDS / 4, EVERY = 8 };
  walmap__sort_bytes sought;
  walmap__order_sort_bytes(order, key, key_len, &sought);
  walmap__slot *slot = enter_epoch(order);
  uint32_t live = store_address(order, &sought, shard, address, 0);
  if (slot && live <= QUARTER && live % EVERY == 0)
    walmap__order_merge(order, &sought);
  leave_order(order, slot);
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Copies of leaves                                                                                                   */

static const walmap__leaf *find_leaf_to_copy(const walmap__order *order, const uint8_t *bytes, size_t len, bool before,
                                             walmap__leaf_copy *copy) {
  const walmap__node *node = walmap__order_root(order);
  for (;;) {
    uint32_t at = before ? node->n - 1 : 0;
    if (bytes)
      at = walmap__node_find(node, bytes, len, before);
    if (at > 0)
      copy->low = node->children[at].separator;
    if (at + 1 < node->n)
      copy->high = node->children[at + 1].separator;
    walmap__yield("order: reader on its way down");
    const void *child = walmap__node_child(node, at);
    if (node->level == 0)
      return child;
    node = child;
  }
}

static WALMAP__ALWAYS_INLINE void fetch_words(const walmap__leaf *leaf) {
  enum { CACHE_LINE = 64 };
  for (size_t at = 0; at < sizeof *leaf; at += CACHE_LINE)
    __builtin_prefetch((const uint8_t *)leaf + at);
}

walmap__leaf_copy walmap__order_copy_leaf(walmap__order *order, const uint8_t *bytes, size_t len, bool before,
                                          uint64_t *words) {
  walmap__leaf_copy copy = {NULL, NULL, NULL, 0, false};
  const walmap__leaf *leaf = copy.leaf = find_leaf_to_copy(order, bytes, len, before, &copy);
  fetch_words(leaf);
  uint32_t changes = atomic_load_explicit(&leaf->changes, memory_order_acquire);
  walmap__yield("order: leaf not copied");
  uint32_t n = atomic_load_explicit(&leaf->n, memory_order_acquire);
  for (uint32_t i = 0; i < n; i++) {
    uint64_t word = atomic_load_explicit(&leaf->words[i], memory_order_acquire);
    walmap__yield("order: word copied");
    words[copy.n] = word;
    copy.n += walmap__word_address(word) != 0;
    if (i + 1 == n)
      n = atomic_load_explicit(&leaf->n, memory_order_acquire);
  }
  copy.was_shifted = (changes & 1) || atomic_load_explicit(&leaf->changes, memory_order_acquire) != changes;
  return copy;
}
