/*
** txn_kit.h - transactions on one thread, with keys and values of text
**
** Several sessions take part in turn; with a busy_timeout of 0 nothing waits.
*/
#ifndef TEST_COMMON_TXN_KIT_H
#define TEST_COMMON_TXN_KIT_H

#include "model.h"

static inline walmap *open_map(uint32_t shards) {
  walmap_options options;
  options_init(&options);
  options.shards = shards;
  options.busy_timeout = 0;
  walmap *map;
  assert_int_equal(walmap_open(&options, &map), WALMAP_OK);
  return map;
}

struct fixture {
  walmap *map;
  walmap_session *session;
  walmap_txn *txn;
};

static inline struct fixture fixture_new(uint32_t shards) {
  struct fixture f;
  f.map = open_map(shards);
  assert_int_equal(walmap_session_new(NULL, NULL, &f.session), WALMAP_OK);
  assert_int_equal(walmap_txn_new(f.map, f.session, &f.txn), WALMAP_OK);
  return f;
}

static inline void fixture_free(struct fixture *f) {
  walmap_txn_free(f->txn);
  walmap_session_free(f->session);
  walmap_close(f->map);
}

static inline int set(walmap_txn *txn, const char *key, const char *value) {
  return walmap_txn_set(txn, key, strlen(key), value, strlen(value));
}

static inline int remove_key(walmap_txn *txn, const char *key) { return walmap_txn_remove(txn, key, strlen(key)); }

static inline const char *text_of(const walmap_entry *entry) {
  static char buffer[64];
  assert_true(entry->value_len < sizeof buffer);
  memcpy(buffer, entry->value, entry->value_len);
  buffer[entry->value_len] = 0;
  return buffer;
}

/* The value that the transaction sees, "-" when absent. */
static inline const char *get(walmap_txn *txn, const char *key) {
  walmap_entry entry;
  int result = walmap_txn_get(txn, key, strlen(key), &entry);
  if (result == WALMAP_NOTFOUND)
    return "-";
  assert_int_equal(result, WALMAP_OK);
  return text_of(&entry);
}

/* The committed value, "-" when absent. */
static inline const char *committed(walmap *map, const char *key) {
  static char buffer[64];
  size_t len;
  int result = walmap_get(map, key, strlen(key), buffer, sizeof buffer - 1, &len);
  if (result == WALMAP_NOTFOUND)
    return "-";
  assert_int_equal(result, WALMAP_OK);
  buffer[len] = 0;
  return buffer;
}

#endif
