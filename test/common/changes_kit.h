/*
** changes_kit.h - what the tests and the fuzzer of changes share: a map with a party to it, its position and changes,
** and the comparison of two maps
*/
#ifndef TEST_CORE_CHANGES_KIT_H
#define TEST_CORE_CHANGES_KIT_H

#include "image_kit.h"

#include "transfer/changes.h"

/* ------------------------------------------------------------------------------------------------------------------ */
/* Parties                                                                                                            */

typedef struct party {
  walmap *map;
  walmap_session *session;
  walmap_txn *txn;
  walmap_state *state;
} party;

static inline party party_open(const walmap_options *options) {
  party p;
  MUST_OK(walmap_open(options, &p.map));
  MUST_OK(walmap_session_new(NULL, NULL, &p.session));
  MUST_OK(walmap_txn_new(p.map, p.session, &p.txn));
  MUST_OK(walmap_state_new(p.map, &p.state));
  return p;
}

static inline party party_new(uint32_t shards, uint32_t auto_compact, uint32_t content) {
  walmap_options options;
  walmap_options_init(&options);
  options.shards = shards;
  options.auto_compact = auto_compact;
  options.content = content;
  return party_open(&options);
}

static inline void party_free(party *p) {
  walmap_state_free(p->state);
  walmap_txn_free(p->txn);
  walmap_session_free(p->session);
  walmap_close(p->map);
}

typedef struct blob {
  void *data;
  size_t size;
} blob;

static inline blob position_of(party *p) {
  blob b;
  MUST_OK(walmap_state_begin(p->state));
  MUST_OK(walmap_state_position(p->state, &b.data, &b.size));
  walmap_state_end(p->state);
  return b;
}

static inline int changes_since(party *p, blob since, blob *changes, walmap_why *why) {
  MUST_OK(walmap_state_begin(p->state));
  int result = walmap_state_changes(p->state, since.data, since.size, &changes->data, &changes->size, why);
  walmap_state_end(p->state);
  return result;
}

static inline int apply(party *p, blob changes, uint64_t *changed, walmap_why *why) {
  walmap_txn_begin(p->txn);
  int result = walmap_txn_apply(p->txn, changes.data, changes.size, NULL, NULL, changed, why);
  if (result == WALMAP_OK)
    walmap_txn_commit(p->txn);
  else
    walmap_txn_rollback(p->txn);
  return result;
}

static inline bool show_the_same(walmap_state *a, walmap_state *b) {
  walmap_cursor cursor;
  walmap_entry entry, other;
  bool equal = count_entries(a) == count_entries(b);
  walmap_cursor_start(&cursor, a);
  while (equal && walmap_cursor_next(&cursor, &entry)) {
    equal = walmap_state_get(b, entry.key, entry.key_len, &other) == WALMAP_OK && other.value_len == entry.value_len &&
            memcmp(other.value, entry.value, entry.value_len) == 0;
  }
  return equal;
}

/* Whether the party shows what the state does. */
static inline bool is_equal_to(party *p, walmap_state *state) {
  MUST_OK(walmap_state_begin(p->state));
  bool equal = show_the_same(p->state, state);
  walmap_state_end(p->state);
  return equal;
}

static inline bool are_equal(party *a, party *b) {
  MUST_OK(walmap_state_begin(b->state));
  bool equal = walmap_len(a->map) == walmap_len(b->map) && is_equal_to(a, b->state);
  walmap_state_end(b->state);
  return equal;
}

#endif
