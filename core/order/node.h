/*
** node.h - nodes of the tree, and the way down through them (order.h has the picture)
*/
#ifndef WALMAP_NODE_H
#define WALMAP_NODE_H

#include "order/leaf.h"

/* Makes a node of these children, not published yet; their heads are set. NULL without memory. */
walmap__node *walmap__node_new(const walmap__order *order, walmap__child *children, uint32_t n, uint32_t level);

/* The shortest bytes that are greater than `left` and not greater than `right`. NULL without memory. */
walmap__separator *walmap__separator_new(const walmap__order *order, const walmap__sort_bytes *left,
                                         const walmap__sort_bytes *right);

/* The child that holds the keys at and after these bytes, or with `before` those right before them. */
uint32_t walmap__node_find(const walmap__node *node, const uint8_t *bytes, size_t len, bool before);

static inline void *walmap__node_child(const walmap__node *node, uint32_t at) {
  return atomic_load_explicit(&node->children[at].to, memory_order_acquire);
}

static inline walmap__node *walmap__order_root(const walmap__order *order) {
  return atomic_load_explicit(&order->root, memory_order_acquire);
}

/* Frees a node and all below it, or a leaf for level -1, with the separators in them. No reader may know them. */
void walmap__node_free_all(walmap__order *order, void *node, int level);

#endif
