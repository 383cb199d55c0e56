/*
** verify_order.c - a shard's keys in the tree of an ordered map (verify.h has the order)
**
** All shards share the tree; each answers for its own words. Each of them leads to the newest record of its key, is
** behind the word before it, whatever shard that one belongs to, and lies between the fences of its leaf; and there are
** as many of them as slots in the index. So slots and words are one to one.
*/
#include "order/node.h"
#include "verify/verify.h"

typedef struct tree_walk {
  const walmap__inspection *in;
  walmap__order *order;
  bool others_stay;                    /* the walk is in the epoch: records of other shards may be read */
  uint64_t words;                      /* of the shard */
  uint64_t last;                       /* the last word with an address; 0: none, or one that may not be read */
  const walmap__separator *low, *high; /* the fences of the present leaf */
} tree_walk;

static bool is_mine(const tree_walk *w, uint64_t word) { return walmap__word_shard(word) == w->in->shard->id; }

static bool separator_is_before(const walmap__sort_bytes *key, const walmap__separator *fence) {
  return walmap__compare_bytes(key->bytes, key->len, fence->bytes, fence->len) < 0;
}

/* A word of the shard, whose record is there. */
static bool check_word_key(tree_walk *w, const walmap__leaf *leaf, uint64_t word) {
  walmap__sort_bytes key, last;
  unsigned long address = walmap__word_address(word);
  walmap__order_sort_bytes_at(w->order, word, &key);
  if (walmap__leaf_compare_prefix(leaf, key.bytes, key.len) != 0 ||
      walmap__head24(key.bytes, key.len, leaf->prefix_len) != walmap__word_head(word))
    return walmap__fault(w->in, "the tree has another head for the key at address %08lx", address);
  if ((w->low && separator_is_before(&key, w->low)) || (w->high && !separator_is_before(&key, w->high)))
    return walmap__fault(w->in, "the key at address %08lx is in the wrong leaf of the tree", address);
  if (w->last == 0)
    return true;
  walmap__order_sort_bytes_at(w->order, w->last, &last);
  return walmap__compare_bytes(last.bytes, last.len, key.bytes, key.len) < 0 ||
         walmap__fault(w->in, "the key at address %08lx is out of order in the tree", address);
}

static bool check_word(tree_walk *w, const walmap__leaf *leaf, uint64_t word) {
  if (walmap__word_address(word) == 0)
    return true;
  if (is_mine(w, word)) {
    uint32_t meta, address = walmap__word_address(word);
    const walmap__record *record = walmap__inspect_address(w->in, address, &meta);
    if (!record || meta & (WALMAP__DEAD | WALMAP__MOVED) || walmap__record_next(record) != 0)
      return walmap__fault(w->in, "the tree leads to address %08lx, where no newest record is", (unsigned long)address);
    if (!check_word_key(w, leaf, word))
      return false;
    w->words++;
  }
  w->last = is_mine(w, word) || w->others_stay ? word : 0;
  return true;
}

static bool check_leaf(tree_walk *w, walmap__leaf *leaf) {
  bool good = true;
  uint32_t live = 0;
  uint64_t before = 0;
  walmap__order_lock(&leaf->mutex);
  uint32_t n = atomic_load(&leaf->n);
  if (leaf->is_dead || n > WALMAP__LEAF_WORDS || atomic_load(&leaf->changes) & 1)
    good = walmap__fault(w->in, "the tree has a leaf that cannot be read");
  for (uint32_t i = 0; i < n && good; i++) {
    uint64_t word = atomic_load(&leaf->words[i]);
    live += walmap__word_address(word) != 0;
    if (walmap__word_head(word) < walmap__word_head(before))
      good = walmap__fault(w->in, "the heads of a leaf of the tree are out of order");
    else
      good = check_word(w, leaf, word);
    before = word;
  }
  if (good && live != leaf->live)
    good = walmap__fault(w->in, "a leaf of the tree has %lu keys, but %lu were counted", (unsigned long)leaf->live,
                         (unsigned long)live);
  pthread_mutex_unlock(&leaf->mutex);
  return good;
}

/* Fences narrow on the way down. */
static bool check_node(tree_walk *w, const walmap__node *node, const walmap__separator *low,
                       const walmap__separator *high) {
  for (uint32_t i = 0; i < node->n; i++) {
    const walmap__child *child = &node->children[i];
    const walmap__separator *from = i > 0 ? child->separator : low;
    const walmap__separator *to = i + 1 < node->n ? child[1].separator : high;
    if (from && to && walmap__compare_bytes(from->bytes, from->len, to->bytes, to->len) >= 0)
      return walmap__fault(w->in, "the separators of the tree are out of order");
    walmap__node *below = walmap__node_child(node, i);
    if (node->level > 0 && below->level != node->level - 1)
      return walmap__fault(w->in, "the tree is not equally deep everywhere");
    w->low = from;
    w->high = to;
    if (!(node->level > 0 ? check_node(w, below, from, to) : check_leaf(w, (walmap__leaf *)below)))
      return false;
  }
  return true;
}

bool walmap__verify_order(walmap__inspection *in) {
  walmap__order *order = in->g->order;
  if (!order)
    return true;
  walmap__slot *slot = walmap__epoch_enter(order->epoch, order->memory);
  tree_walk w = {.in = in, .order = order, .others_stay = slot != NULL};
  walmap__order_lock(&order->mutex);
  bool good = check_node(&w, walmap__order_root(order), NULL, NULL);
  pthread_mutex_unlock(&order->mutex);
  if (slot)
    walmap__epoch_leave(slot);
  if (good && w.words != in->recount.slots)
    return walmap__fault(in, "the tree has %llu keys, but the index has %llu", (unsigned long long)w.words,
                         (unsigned long long)in->recount.slots);
  return good;
}
