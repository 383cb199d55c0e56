/* node.c - nodes of the tree (node.h) */
#include "order/node.h"

static size_t node_bytes(uint32_t n) { return sizeof(walmap__node) + n * sizeof(walmap__child); }

static void free_node(walmap__memory *memory, walmap__retired *self) {
  walmap__node *node = (walmap__node *)self;
  walmap__memory_free(memory, node, node_bytes(node->n));
}

static void free_separator(walmap__memory *memory, walmap__retired *self) {
  walmap__separator *separator = (walmap__separator *)self;
  walmap__memory_free(memory, separator, sizeof *separator + separator->len);
}

static uint64_t head64(const walmap__separator *separator, size_t skip) {
  uint64_t head = 0;
  for (size_t i = skip; i < skip + 8; i++)
    head = head << 8 | (i < separator->len ? separator->bytes[i] : 0);
  return head;
}

/* The separators are in order, so what the first and the last have in common all have. */
walmap__node *walmap__node_new(const walmap__order *order, walmap__child *children, uint32_t n, uint32_t level) {
  walmap__node *node = walmap__memory_alloc(order->memory, node_bytes(n));
  if (!node)
    return NULL;
  *node = (walmap__node){.retired = {NULL, free_node}, .n = n, .level = level};
  if (n > 1) {
    const walmap__separator *first = children[1].separator, *last = children[n - 1].separator;
    node->prefix_len = walmap__common_bytes(first->bytes, first->len, last->bytes, last->len);
  }
  for (uint32_t i = 0; i < n; i++) {
    walmap__child *child = &node->children[i];
    atomic_init(&child->to, atomic_load_explicit(&children[i].to, memory_order_relaxed));
    child->separator = children[i].separator;
    child->head = i > 0 ? head64(child->separator, node->prefix_len) : 0;
  }
  return node;
}

walmap__separator *walmap__separator_new(const walmap__order *order, const walmap__sort_bytes *left,
                                         const walmap__sort_bytes *right) {
  size_t len = walmap__common_bytes(left->bytes, left->len, right->bytes, right->len) + 1;
  walmap__separator *separator = walmap__memory_alloc(order->memory, sizeof *separator + len);
  if (!separator)
    return NULL;
  separator->retired = (walmap__retired){NULL, free_separator};
  separator->len = len;
  memcpy(separator->bytes, right->bytes, len);
  return separator;
}

/* Whether the separator of a child is past the key: then the key is to its left. */
static bool is_past(const walmap__separator *separator, const uint8_t *bytes, size_t len, bool before) {
  int order = walmap__compare_bytes(separator->bytes, separator->len, bytes, len);
  return order > 0 || (order == 0 && before);
}

/* < 0 or > 0 when the key is before or after all separators, by the node's prefix. */
static int compare_prefix(const walmap__node *node, const uint8_t *bytes, size_t len) {
  size_t n = len < node->prefix_len ? len : node->prefix_len;
  int order = memcmp(bytes, node->children[1].separator->bytes, n);
  return order != 0 ? order : -(n < node->prefix_len);
}

uint32_t walmap__node_find(const walmap__node *node, const uint8_t *bytes, size_t len, bool before) {
  uint32_t low = 1, high = node->n; /* the first child whose separator is past the key is in low .. high */
  if (high == 1)
    return 0;
  if (node->prefix_len > 0) {
    int side = compare_prefix(node, bytes, len);
    if (side != 0)
      return side < 0 ? 0 : high - 1;
  }
  uint64_t head = 0;
  for (size_t i = node->prefix_len; i < node->prefix_len + 8; i++)
    head = head << 8 | (i < len ? bytes[i] : 0);
  while (low < high) {
    uint32_t middle = (low + high) / 2;
    const walmap__child *child = &node->children[middle];
    bool past = child->head != head ? child->head > head : is_past(child->separator, bytes, len, before);
    if (past)
      high = middle;
    else
      low = middle + 1;
  }
  return low - 1;
}

void walmap__node_free_all(walmap__order *order, void *at, int level) {
  walmap__retired *self = at;
  if (level >= 0) {
    walmap__node *node = at;
    for (uint32_t i = 0; i < node->n; i++) {
      walmap__node_free_all(order, walmap__node_child(node, i), level - 1);
      if (node->children[i].separator)
        free_separator(order->memory, &node->children[i].separator->retired);
    }
  }
  self->free(order->memory, self);
}
