/* leaf.c - leaves of the tree (leaf.h) */
#include "order/leaf.h"

#include <assert.h>

static size_t leaf_bytes(size_t prefix_len) { return sizeof(walmap__leaf) + prefix_len; }

static void free_leaf(walmap__memory *memory, walmap__retired *self) {
  walmap__leaf *leaf = (walmap__leaf *)self;
  pthread_mutex_destroy(&leaf->mutex);
  walmap__memory_free(memory, leaf, leaf_bytes(leaf->prefix_len));
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Making                                                                                                             */

static size_t common(const walmap__sort_bytes *a, const walmap__sort_bytes *b) {
  return walmap__common_bytes(a->bytes, a->len, b->bytes, b->len);
}

static uint64_t with_head(const walmap__order *order, uint64_t word, size_t prefix_len) {
  walmap__sort_bytes key;
  walmap__order_sort_bytes_at(order, word, &key);
  uint32_t head = walmap__head24(key.bytes, key.len, prefix_len);
  return walmap__word(head, walmap__word_shard(word), walmap__word_address(word));
}

/* The heads are of another prefix: all records are read, and their misses overlap. */
static void store_with_heads(const walmap__order *order, walmap__leaf *leaf, const uint64_t *words, uint32_t n) {
  for (uint32_t i = 0; i < n; i++)
    walmap__order_prefetch(order, words[i]);
  for (uint32_t i = 0; i < n; i++)
    atomic_init(&leaf->words[i], with_head(order, words[i], leaf->prefix_len));
}

static walmap__leaf *empty_leaf(const walmap__order *order, const uint8_t *prefix, size_t prefix_len) {
  walmap__leaf *leaf = walmap__memory_alloc(order->memory, leaf_bytes(prefix_len));
  if (!leaf)
    return NULL;
  memset(leaf, 0, sizeof *leaf);
  leaf->retired.free = free_leaf;
  pthread_mutex_init(&leaf->mutex, NULL);
  leaf->prefix_len = (uint16_t)prefix_len;
  if (prefix_len > 0)
    memcpy(leaf->prefix, prefix, prefix_len);
  return leaf;
}

walmap__leaf *walmap__leaf_new(const walmap__order *order, const uint64_t *words, uint32_t n,
                               const walmap__sort_bytes *key, const walmap__sort_bytes *near, const walmap__leaf *old) {
  walmap__sort_bytes first, last;
  const uint8_t *prefix = NULL;
  size_t prefix_len = 0;
  if (n > 0) {
    walmap__order_sort_bytes_at(order, words[0], &first);
    walmap__order_sort_bytes_at(order, words[n - 1], &last);
    prefix = first.bytes;
    prefix_len = common(&first, &last);
    if (key && common(&first, key) < prefix_len)
      prefix_len = common(&first, key);
  } else if (key && near) {
    prefix = key->bytes;
    prefix_len = common(key, near);
  }
  if (prefix_len > WALMAP__PREFIX_MAX)
    prefix_len = WALMAP__PREFIX_MAX;
  walmap__leaf *leaf = empty_leaf(order, prefix, prefix_len);
  if (!leaf)
    return NULL;
  if (old && old->prefix_len == prefix_len) {
    for (uint32_t i = 0; i < n; i++)
      atomic_init(&leaf->words[i], words[i]);
  } else {
    store_with_heads(order, leaf, words, n);
  }
  leaf->live = n;
  atomic_init(&leaf->n, n);
  return leaf;
}

uint32_t walmap__leaf_live_words(const walmap__leaf *leaf, uint64_t *words) {
  uint32_t n = atomic_load_explicit(&leaf->n, memory_order_relaxed), live = 0;
  for (uint32_t i = 0; i < n; i++) {
    uint64_t word = atomic_load_explicit(&leaf->words[i], memory_order_relaxed);
    if (walmap__word_address(word) != 0)
      words[live++] = word;
  }
  return live;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Searching                                                                                                          */

int walmap__leaf_compare_prefix(const walmap__leaf *leaf, const uint8_t *bytes, size_t len) {
  if (len >= leaf->prefix_len)
    return memcmp(bytes, leaf->prefix, leaf->prefix_len);
  int order = memcmp(bytes, leaf->prefix, len);
  return order != 0 ? order : -1;
}

/* How many words, which are sorted by their heads, have a head below this one. */
static uint32_t lower_bound(const uint64_t *words, uint32_t n, uint64_t head) {
  uint32_t low = 0, high = n;
  while (low < high) {
    uint32_t middle = (low + high) / 2;
    if (walmap__word_head(words[middle]) < head)
      low = middle + 1;
    else
      high = middle;
  }
  return low;
}

static bool is_before(const walmap__order *order, uint64_t word, const uint8_t *bytes, size_t len) {
  walmap__sort_bytes key;
  walmap__order_sort_bytes_at(order, word, &key);
  return walmap__compare_bytes(key.bytes, key.len, bytes, len) < 0;
}

/* Among words low .. high - 1, of one head. Those without an address have no key, and may be on either side. */
static uint32_t find_by_key(const walmap__order *order, const uint64_t *words, uint32_t low, uint32_t high,
                            const uint8_t *bytes, size_t len) {
  while (low < high) {
    uint32_t middle = (low + high) / 2, at = middle;
    while (at < high && walmap__word_address(words[at]) == 0)
      at++;
    if (at < high && is_before(order, words[at], bytes, len))
      low = at + 1;
    else
      high = middle;
  }
  return low;
}

static uint32_t find_word(const walmap__order *order, const uint64_t *words, uint32_t n, size_t prefix_len,
                          const uint8_t *bytes, size_t len) {
  uint32_t head = walmap__head24(bytes, len, prefix_len);
  uint32_t low = lower_bound(words, n, head);
  if (low == n || walmap__word_head(words[low]) != head)
    return low;
  uint32_t high = low + lower_bound(words + low, n - low, (uint64_t)head + 1);
  return find_by_key(order, words, low, high, bytes, len);
}

uint32_t walmap__leaf_copy_find(const walmap__order *order, const walmap__leaf_copy *copy, const uint64_t *words,
                                const uint8_t *bytes, size_t len) {
  int side = walmap__leaf_compare_prefix(copy->leaf, bytes, len);
  if (side != 0)
    return side < 0 ? 0 : copy->n;
  return find_word(order, words, copy->n, copy->leaf->prefix_len, bytes, len);
}

uint32_t walmap__leaf_find(const walmap__order *order, const walmap__leaf *leaf, const uint8_t *bytes, size_t len) {
  uint64_t words[WALMAP__LEAF_WORDS];
  uint32_t n = atomic_load_explicit(&leaf->n, memory_order_relaxed);
  for (uint32_t i = 0; i < n; i++)
    words[i] = atomic_load_explicit(&leaf->words[i], memory_order_relaxed);
  return find_word(order, words, n, leaf->prefix_len, bytes, len);
}

_Atomic uint64_t *walmap__leaf_word_of(walmap__leaf *leaf, uint32_t shard, uint32_t address) {
  uint32_t n = atomic_load_explicit(&leaf->n, memory_order_relaxed), i = 0;
  uint64_t sought = walmap__word(0, shard, address) << 24;
  while (i < n && atomic_load_explicit(&leaf->words[i], memory_order_relaxed) << 24 != sought)
    i++;
  assert(i < n);
  return &leaf->words[i];
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Changing                                                                                                           */

/* Each word is stored one place further before it is overwritten; `n` tells of the new last place before that. */
void walmap__leaf_insert(walmap__leaf *leaf, uint32_t at, uint64_t word) {
  uint32_t n = atomic_load_explicit(&leaf->n, memory_order_relaxed);
  uint32_t changes = atomic_load_explicit(&leaf->changes, memory_order_relaxed);
  atomic_store_explicit(&leaf->changes, changes + 1, memory_order_relaxed); /* seen with any of the stores below */
  for (uint32_t i = n; i > at; i--) {
    atomic_store_explicit(&leaf->words[i], atomic_load_explicit(&leaf->words[i - 1], memory_order_relaxed),
                          memory_order_release);
    if (i == n)
      atomic_store_explicit(&leaf->n, n + 1, memory_order_release);
    walmap__yield("order: words are being shifted");
  }
  atomic_store_explicit(&leaf->words[at], word, memory_order_release);
  if (at == n)
    atomic_store_explicit(&leaf->n, n + 1, memory_order_release);
  leaf->live++;
  walmap__yield("order: shifted, not told");
  atomic_store_explicit(&leaf->changes, changes + 2, memory_order_release);
}
