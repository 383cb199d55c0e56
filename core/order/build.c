/* build.c - a tree made in one go, from the keys of an image (order.h) */
#include "order/node.h"

/* So many of 64 are filled: some changes find room. */
enum { FILLED = 56 };

/* So many items are gone over between two questions whether to end. */
enum { ITEMS_AT_ONCE = 1 << 14 };

static bool order_build_is_interrupted(walmap__interrupt *interrupt, size_t items) {
  return walmap__interrupt_after(interrupt, items * sizeof(walmap__order_item));
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Sorting                                                                                                            */

static uint64_t word_of(const walmap__order_item *item) { return walmap__word(0, item->shard, item->address); }

static void sort_bytes(const walmap__order *order, const walmap__order_item *item, walmap__sort_bytes *out) {
  walmap__order_sort_bytes_at(order, word_of(item), out);
}

/* Of the bytes behind what all keys have in common. False: interrupted. */
static bool set_heads(const walmap__order *order, walmap__order_item *items, size_t n, walmap__interrupt *interrupt) {
  enum { AHEAD = 12 };
  walmap__sort_bytes first, key;
  sort_bytes(order, &items[0], &first);
  size_t skip = first.len;
  for (size_t i = 0; i < n; i++) {
    if (i + AHEAD < n)
      walmap__order_prefetch(order, word_of(&items[i + AHEAD]));
    if (i % ITEMS_AT_ONCE == ITEMS_AT_ONCE - 1 && order_build_is_interrupted(interrupt, ITEMS_AT_ONCE))
      return false;
    sort_bytes(order, &items[i], &key);
    size_t common = walmap__common_bytes(first.bytes, skip < first.len ? skip : first.len, key.bytes, key.len);
    skip = common < skip ? common : skip;
  }
  for (size_t i = 0; i < n; i++) {
    if (i % ITEMS_AT_ONCE == ITEMS_AT_ONCE - 1 && order_build_is_interrupted(interrupt, ITEMS_AT_ONCE))
      return false;
    sort_bytes(order, &items[i], &key);
    uint64_t head = 0;
    for (size_t at = skip; at < skip + 8; at++)
      head = head << 8 | (at < key.len ? key.bytes[at] : 0);
    items[i].head = head;
  }
  return true;
}

static bool is_less(const walmap__order *order, const walmap__order_item *a, const walmap__order_item *b) {
  if (WALMAP__LIKELY(a->head != b->head))
    return a->head < b->head;
  walmap__sort_bytes one, other;
  sort_bytes(order, a, &one);
  sort_bytes(order, b, &other);
  return walmap__compare_bytes(one.bytes, one.len, other.bytes, other.len) < 0;
}

/* False: interrupted. */
static bool merge_runs(const walmap__order *order, const walmap__order_item *from, size_t n_left, size_t n,
                       walmap__order_item *to, walmap__interrupt *interrupt) {
  size_t left = 0, right = n_left;
  for (size_t i = 0; i < n; i++) {
    bool takes_right = left == n_left || (right < n && is_less(order, &from[right], &from[left]));
    to[i] = from[takes_right ? right++ : left++];
    if (i % ITEMS_AT_ONCE == ITEMS_AT_ONCE - 1 && order_build_is_interrupted(interrupt, ITEMS_AT_ONCE))
      return false;
  }
  return !order_build_is_interrupted(interrupt, n % ITEMS_AT_ONCE);
}

/* Merge sort: runs of 1, 2, 4 ... become one. Where the sorted items are; NULL: interrupted. */
static walmap__order_item *sort_items(const walmap__order *order, walmap__order_item *items, walmap__order_item *room,
                                      size_t n, walmap__interrupt *interrupt) {
  for (size_t run = 1; run < n; run *= 2) {
    for (size_t at = 0; at < n; at += 2 * run) {
      size_t both = n - at < 2 * run ? n - at : 2 * run;
      if (!merge_runs(order, items + at, both < run ? both : run, both, room + at, interrupt))
        return NULL;
    }
    walmap__order_item *sorted = room;
    room = items;
    items = sorted;
  }
  return items;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Leaves and nodes                                                                                                   */

/* Without memory, or interrupted: everything below these children goes. */
static int give_up(walmap__order *order, walmap__child *children, size_t n, int level) {
  for (size_t i = 0; i < n; i++) {
    walmap__node_free_all(order, atomic_load_explicit(&children[i].to, memory_order_relaxed), level - 1);
    if (children[i].separator)
      children[i].separator->retired.free(order->memory, &children[i].separator->retired);
  }
  return WALMAP_NOMEM;
}

/* The leaf of the next items, and what separates it from the item before: false without memory. */
static bool next_leaf(const walmap__order *order, const walmap__order_item *items, uint32_t n, bool is_first,
                      walmap__child *child) {
  uint64_t words[FILLED];
  walmap__sort_bytes before, first;
  for (uint32_t i = 0; i < n; i++)
    words[i] = word_of(&items[i]);
  *child = (walmap__child){NULL, 0, NULL};
  if (!is_first) {
    sort_bytes(order, items - 1, &before);
    sort_bytes(order, items, &first);
    child->separator = walmap__separator_new(order, &before, &first);
    if (!child->separator)
      return false;
  }
  walmap__leaf *leaf = walmap__leaf_new(order, words, n, NULL, NULL, NULL);
  atomic_init(&child->to, leaf);
  if (!leaf && child->separator)
    child->separator->retired.free(order->memory, &child->separator->retired);
  return leaf != NULL;
}

/* One level above n children, in their place; the first of each node hands its separator on. How many nodes. */
static size_t next_level(const walmap__order *order, walmap__child *children, size_t n, uint32_t level, size_t *done) {
  size_t nodes = 0;
  for (*done = 0; *done < n; nodes++) {
    size_t of = n - *done < FILLED ? n - *done : FILLED;
    walmap__separator *separator = children[*done].separator;
    children[*done].separator = NULL;
    walmap__node *node = walmap__node_new(order, children + *done, (uint32_t)of, level);
    if (!node) {
      children[*done].separator = separator;
      break;
    }
    *done += of;
    children[nodes].separator = separator;
    atomic_init(&children[nodes].to, node);
  }
  return nodes;
}

static int build_nodes(walmap__order *order, walmap__child *children, size_t n) {
  for (uint32_t level = 0;; level++) {
    size_t done, nodes = next_level(order, children, n, level, &done);
    if (done < n) {
      give_up(order, children + done, n - done, (int)level);
      return give_up(order, children, nodes, (int)level + 1);
    }
    n = nodes;
    if (n == 1)
      break;
  }
  walmap__node *empty = walmap__order_root(order);
  walmap__node_free_all(order, empty, (int)empty->level);
  atomic_store_explicit(&order->root, atomic_load_explicit(&children[0].to, memory_order_relaxed),
                        memory_order_release);
  return WALMAP_OK;
}

int walmap__order_build(walmap__order *order, walmap__order_item *items, walmap__order_item *room, size_t n,
                        walmap__interrupt *interrupt) {
  if (n == 0)
    return WALMAP_OK;
  const walmap__order_item *sorted =
      set_heads(order, items, n, interrupt) ? sort_items(order, items, room, n, interrupt) : NULL;
  if (!sorted)
    return WALMAP_INTERRUPT;
  size_t leaves = (n + FILLED - 1) / FILLED, bytes = leaves * sizeof(walmap__child);
  walmap__child *children = walmap__memory_alloc(order->memory, bytes);
  if (!children)
    return WALMAP_NOMEM;
  int result = WALMAP_OK;
  for (size_t i = 0; i < leaves && result == WALMAP_OK; i++) {
    size_t at = i * FILLED, of = n - at < FILLED ? n - at : FILLED;
    if (!next_leaf(order, sorted + at, (uint32_t)of, i == 0, &children[i])) {
      result = give_up(order, children, i, 0);
    } else if (order_build_is_interrupted(interrupt, of)) {
      (void)give_up(order, children, i + 1, 0);
      result = WALMAP_INTERRUPT;
    }
  }
  if (result == WALMAP_OK)
    result = build_nodes(order, children, leaves);
  walmap__memory_free(order->memory, children, bytes);
  return result;
}
