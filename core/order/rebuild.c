/* rebuild.c - the tree's structure changes (rebuild.h) */
#include "order/rebuild.h"

#include <assert.h>

/* Words in a leaf that is made of another's, or of two: so many changes can come before the next rebuild. */
enum { MOST_PACKED = WALMAP__LEAF_WORDS / 4 * 3 };

/* ------------------------------------------------------------------------------------------------------------------ */
/* What a rebuild makes and replaces                                                                                  */

/* The nodes on the way to a leaf, the root first, and the child that the way takes in each. */
typedef struct path {
  int last; /* the node above the leaf */
  walmap__node *nodes[WALMAP__ORDER_DEPTH];
  uint32_t at[WALMAP__ORDER_DEPTH];
  walmap__leaf *leaf;
} path;

typedef struct rebuild {
  walmap__order *order;
  path path;
  walmap__retired *made; /* leaves and nodes that are not published yet */
  walmap__retired *replaced[2 * WALMAP__ORDER_DEPTH + 4];
  uint32_t n_replaced;
  _Atomic(void *) *link; /* to store `top` here publishes what was made */
  void *top;
} rebuild;

static void start_rebuild(rebuild *r, walmap__order *order, const walmap__sort_bytes *key) {
  *r = (rebuild){.order = order};
  walmap__node *node = walmap__order_root(order);
  for (int depth = 0;; depth++) {
    r->path.nodes[depth] = node;
    r->path.at[depth] = walmap__node_find(node, key->bytes, key->len, false);
    void *child = walmap__node_child(node, r->path.at[depth]);
    if (node->level == 0) {
      r->path.last = depth;
      r->path.leaf = child;
      return;
    }
    node = child;
  }
}

/* Whether there was memory for it. */
static bool note_made(rebuild *r, walmap__retired *it) {
  if (!it)
    return false;
  it->next = r->made;
  r->made = it;
  return true;
}

static void note_replaced(rebuild *r, walmap__retired *it) { r->replaced[r->n_replaced++] = it; }

static void publish_rebuild(rebuild *r) {
  walmap__order *order = r->order;
  walmap__yield("order: rebuilt, not published");
  atomic_store_explicit(r->link, r->top, memory_order_release);
  for (uint32_t i = 0; i < r->n_replaced; i++) {
    r->replaced[i]->next = order->limbo;
    order->limbo = r->replaced[i];
  }
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Nodes                                                                                                              */

static bool replace_children(rebuild *r, int depth, uint32_t n_old, void *const *children, uint32_t n_new,
                             walmap__separator *between);

/* The root has only one child: that one becomes the root, or in its turn its only child. */
static void *without_single_roots(rebuild *r, void *child) {
  walmap__node *node = child;
  while (node->n == 1 && node->level > 0) {
    note_replaced(r, &node->retired);
    node = walmap__node_child(node, 0);
  }
  return node;
}

/* The node at this depth becomes one of these children, or two, which may go on upwards. */
static bool replace_node(rebuild *r, int depth, walmap__child *children, uint32_t n) {
  walmap__node *old = r->path.nodes[depth], *halves[2] = {NULL, NULL};
  note_replaced(r, &old->retired);
  if (depth == 0 && n == 1 && old->level > 0) {
    r->link = &r->order->root;
    r->top = without_single_roots(r, atomic_load_explicit(&children[0].to, memory_order_relaxed));
    return true;
  }
  uint32_t half = n <= WALMAP__NODE_CHILDREN ? n : r->path.at[depth] + 2 >= n ? n - 2 : n / 2;
  halves[0] = walmap__node_new(r->order, children, half, old->level);
  if (!note_made(r, halves[0] ? &halves[0]->retired : NULL))
    return false;
  walmap__separator *between = NULL;
  if (half < n) {
    between = children[half].separator;
    children[half].separator = NULL;
    halves[1] = walmap__node_new(r->order, children + half, n - half, old->level);
    if (!note_made(r, halves[1] ? &halves[1]->retired : NULL))
      return false;
  }
  if (depth > 0)
    return replace_children(r, depth - 1, 1, (void *const *)halves, between ? 2 : 1, between);
  r->link = &r->order->root;
  r->top = halves[0];
  if (between) {
    walmap__child both[2] = {{halves[0], 0, NULL}, {halves[1], 0, between}};
    walmap__node *root = walmap__node_new(r->order, both, 2, old->level + 1);
    if (!note_made(r, root ? &root->retired : NULL))
      return false;
    r->top = root;
  }
  return true;
}

/*
** In the node at this depth n_old children from the path's on become n_new others, 2 at most; `between` separates two.
** False without memory. A node that would have no child goes itself; the caller sees to it that the root has one.
*/
static bool replace_children(rebuild *r, int depth, uint32_t n_old, void *const *children, uint32_t n_new,
                             walmap__separator *between) {
  walmap__node *node = r->path.nodes[depth];
  uint32_t at = r->path.at[depth], n = 0;
  if (n_old == 1 && n_new == 1) {
    r->link = &node->children[at].to;
    r->top = children[0];
    return true;
  }
  if (n_old == node->n && n_new == 0) {
    note_replaced(r, &node->retired);
    return replace_children(r, depth - 1, 1, NULL, 0, NULL);
  }
  walmap__child all[WALMAP__NODE_CHILDREN + 1];
  for (uint32_t i = 0; i < at; i++)
    all[n++] = node->children[i];
  for (uint32_t i = 0; i < n_new; i++)
    all[n++] = (walmap__child){children[i], 0, i == 0 ? node->children[at].separator : between};
  for (uint32_t i = at + n_old; i < node->n; i++)
    all[n++] = node->children[i];
  for (uint32_t i = at + n_new; i < at + n_old; i++) { /* at most one separator has nothing to separate */
    walmap__separator *gone = node->children[n_new > 0 || at > 0 ? i : 1].separator;
    note_replaced(r, &gone->retired);
  }
  all[0].separator = NULL;
  return replace_node(r, depth, all, n);
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Room for a key                                                                                                     */

static bool make_leaf(rebuild *r, void **leaf, const uint64_t *words, uint32_t n, const walmap__sort_bytes *key,
                      const walmap__sort_bytes *near, const walmap__leaf *old) {
  walmap__leaf *it = walmap__leaf_new(r->order, words, n, key, near, old);
  *leaf = it;
  return note_made(r, it ? &it->retired : NULL);
}

/* Behind all words: what was there stays together, for the keys to come may well be behind this one. */
static bool split_off(rebuild *r, const uint64_t *words, uint32_t n, const walmap__sort_bytes *key) {
  void *leaves[2];
  walmap__sort_bytes last;
  walmap__order_sort_bytes_at(r->order, words[n - 1], &last);
  walmap__separator *between = walmap__separator_new(r->order, &last, key);
  return note_made(r, between ? &between->retired : NULL) &&
         make_leaf(r, &leaves[0], words, n, NULL, NULL, r->path.leaf) &&
         make_leaf(r, &leaves[1], NULL, 0, key, &last, NULL) &&
         replace_children(r, r->path.last, 1, leaves, 2, between);
}

static bool split_in_halves(rebuild *r, const uint64_t *words, uint32_t n, const walmap__sort_bytes *key) {
  void *leaves[2];
  walmap__sort_bytes left, right;
  walmap__order_sort_bytes_at(r->order, words[n / 2 - 1], &left);
  walmap__order_sort_bytes_at(r->order, words[n / 2], &right);
  walmap__separator *between = walmap__separator_new(r->order, &left, &right);
  if (!note_made(r, between ? &between->retired : NULL))
    return false;
  bool goes_left = walmap__compare_bytes(key->bytes, key->len, between->bytes, between->len) < 0;
  return make_leaf(r, &leaves[0], words, n / 2, goes_left ? key : NULL, NULL, r->path.leaf) &&
         make_leaf(r, &leaves[1], words + n / 2, n - n / 2, goes_left ? NULL : key, NULL, r->path.leaf) &&
         replace_children(r, r->path.last, 1, leaves, 2, between);
}

static bool is_behind_all(const rebuild *r, const uint64_t *words, uint32_t n, const walmap__sort_bytes *key) {
  walmap__sort_bytes last;
  walmap__order_sort_bytes_at(r->order, words[n - 1], &last);
  return walmap__compare_bytes(key->bytes, key->len, last.bytes, last.len) > 0;
}

static bool make_room_in(rebuild *r, const walmap__sort_bytes *key) {
  uint64_t words[WALMAP__LEAF_WORDS];
  uint32_t n = walmap__leaf_live_words(r->path.leaf, words);
  if (n <= MOST_PACKED) {
    void *leaf;
    return make_leaf(r, &leaf, words, n, key, NULL, r->path.leaf) &&
           replace_children(r, r->path.last, 1, &leaf, 1, NULL);
  }
  return is_behind_all(r, words, n, key) ? split_off(r, words, n, key) : split_in_halves(r, words, n, key);
}

/* The leaf's mutex is held: publishes, or gives up what was made. */
static bool finish_rebuild(rebuild *r, bool good) {
  if (!good) {
    walmap__retired_free(r->order->memory, r->made);
    return false;
  }
  publish_rebuild(r);
  return true;
}

static void free_unseen(walmap__order *order) {
  if (!order->waiting && order->limbo) {
    order->waiting = order->limbo;
    order->limbo = NULL;
    order->waiting_time = walmap__epoch_advance(order->epoch);
  }
  if (order->waiting && walmap__epoch_oldest(order->epoch) > order->waiting_time) {
    walmap__retired_free(order->memory, order->waiting);
    order->waiting = NULL;
  }
}

int walmap__order_make_room(walmap__order *order, const walmap__sort_bytes *key) {
  rebuild r;
  walmap__order_lock(&order->mutex);
  start_rebuild(&r, order, key);
  walmap__leaf *leaf = r.path.leaf;
  walmap__order_lock(&leaf->mutex);
  bool has_room = atomic_load_explicit(&leaf->n, memory_order_relaxed) < WALMAP__LEAF_WORDS &&
                  walmap__leaf_compare_prefix(leaf, key->bytes, key->len) == 0; /* another writer was here */
  bool good = has_room || make_room_in(&r, key);
  if (!has_room) {
    note_replaced(&r, &leaf->retired);
    leaf->is_dead = good = finish_rebuild(&r, good);
  }
  pthread_mutex_unlock(&leaf->mutex);
  free_unseen(order);
  pthread_mutex_unlock(&order->mutex);
  return good ? WALMAP_OK : WALMAP_NOMEM;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Merging                                                                                                            */

static bool is_only_leaf(const rebuild *r) {
  for (int depth = 0; depth <= r->path.last; depth++) {
    if (r->path.nodes[depth]->n > 1)
      return false;
  }
  return true;
}

/* Its mutex is held. */
static void leave_out(rebuild *r) {
  walmap__leaf *leaf = r->path.leaf;
  note_replaced(r, &leaf->retired);
  if (!is_only_leaf(r))
    leaf->is_dead = finish_rebuild(r, replace_children(r, r->path.last, 1, NULL, 0, NULL));
}

/* Both mutexes are held. */
static void join_leaves(rebuild *r, walmap__leaf *left, walmap__leaf *right) {
  uint64_t words[2 * WALMAP__LEAF_WORDS];
  void *leaf;
  uint32_t n = walmap__leaf_live_words(left, words);
  n += walmap__leaf_live_words(right, words + n);
  note_replaced(r, &left->retired);
  note_replaced(r, &right->retired);
  left->is_dead = right->is_dead = finish_rebuild(r, make_leaf(r, &leaf, words, n, NULL, NULL, NULL) &&
                                                         replace_children(r, r->path.last, 2, &leaf, 1, NULL));
}

/* With the next leaf below the same node, or else the one before. */
static void merge_with_neighbour(rebuild *r) {
  walmap__node *node = r->path.nodes[r->path.last];
  uint32_t *at = &r->path.at[r->path.last];
  if (node->n == 1)
    return;
  if (*at + 1 == node->n)
    --*at;
  walmap__leaf *left = walmap__node_child(node, *at), *right = walmap__node_child(node, *at + 1);
  walmap__order_lock(&left->mutex);
  walmap__order_lock(&right->mutex);
  if (left->live + right->live <= MOST_PACKED)
    join_leaves(r, left, right);
  pthread_mutex_unlock(&right->mutex);
  pthread_mutex_unlock(&left->mutex);
}

void walmap__order_merge(walmap__order *order, const walmap__sort_bytes *key) {
  rebuild r;
  walmap__order_lock(&order->mutex);
  start_rebuild(&r, order, key);
  walmap__leaf *leaf = r.path.leaf;
  walmap__order_lock(&leaf->mutex);
  bool is_empty = leaf->live == 0;
  if (is_empty)
    leave_out(&r);
  pthread_mutex_unlock(&leaf->mutex);
  if (!is_empty)
    merge_with_neighbour(&r);
  free_unseen(order);
  pthread_mutex_unlock(&order->mutex);
}

void walmap__order_reclaim(walmap__order *order) {
  walmap__order_lock(&order->mutex);
  free_unseen(order); /* what is in a batch */
  free_unseen(order); /* what was not yet */
  pthread_mutex_unlock(&order->mutex);
}
