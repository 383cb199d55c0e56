/*
** leaf.h - leaves of the tree: their words, and searching among them (order.h has the picture)
**
** Threads: a leaf's mutex is held for what changes its words, or needs them in order.
*/
#ifndef WALMAP_LEAF_H
#define WALMAP_LEAF_H

#include "order/order.h"

#define WALMAP__PREFIX_MAX 128

static inline uint64_t walmap__word(uint32_t head, uint32_t shard, uint32_t address) {
  return (uint64_t)head << 40 | (uint64_t)shard << 32 | address;
}
static inline uint32_t walmap__word_head(uint64_t word) { return (uint32_t)(word >> 40); }

static inline size_t walmap__common_bytes(const uint8_t *a, size_t a_len, const uint8_t *b, size_t b_len) {
  size_t n = a_len < b_len ? a_len : b_len, i = 0;
  while (i < n && a[i] == b[i])
    i++;
  return i;
}

/* The first 24 bits behind so many bytes. What is not there counts as 0. */
static inline uint32_t walmap__head24(const uint8_t *bytes, size_t len, size_t skip) {
  uint32_t head = 0;
  for (size_t i = skip; i < skip + 3; i++)
    head = head << 8 | (i < len ? bytes[i] : 0);
  return head;
}

/*
** A leaf with n words, in order and all with an address, that no other thread knows yet. Its prefix is what its keys
** have in common, with `key` too, which is to be added (NULL: none); where it has no words, what `key` and `near` have.
** `old` is the leaf whose words they are; NULL: they are of several. NULL without memory.
*/
walmap__leaf *walmap__leaf_new(const walmap__order *order, const uint64_t *words, uint32_t n,
                               const walmap__sort_bytes *key, const walmap__sort_bytes *near, const walmap__leaf *old);

/* Copies the words that have an address; how many they are. */
uint32_t walmap__leaf_live_words(const walmap__leaf *leaf, uint64_t *words);

/* Compares the key with the leaf's prefix: 0 when it has the prefix, < 0 or > 0 when it is before or after its keys. */
int walmap__leaf_compare_prefix(const walmap__leaf *leaf, const uint8_t *bytes, size_t len);

/* How many words come before a key that has the prefix, among those in use. */
uint32_t walmap__leaf_find(const walmap__order *order, const walmap__leaf *leaf, const uint8_t *bytes, size_t len);

/* The word that leads to this record; it must be there. */
_Atomic uint64_t *walmap__leaf_word_of(walmap__leaf *leaf, uint32_t shard, uint32_t address);

/* Shifts what is behind the place, and stores the word (B1). */
void walmap__leaf_insert(walmap__leaf *leaf, uint32_t at, uint64_t word);

#endif
