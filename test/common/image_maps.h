/* image_maps.h - maps with content of their own, into which images are restored */
#ifndef TEST_COMMON_IMAGE_MAPS_H
#define TEST_COMMON_IMAGE_MAPS_H

#include "image_kit.h"

static inline walmap *open_map(uint32_t shards, uint32_t content) {
  walmap_options options;
  walmap *map;
  walmap_options_init(&options);
  options.shards = shards;
  options.content = content;
  MUST_OK(walmap_open(&options, &map));
  return map;
}

/* Whether the map holds exactly these entries, by lookups and by a walk over all. */
static inline bool map_is(walmap *map, const walmap_entry *entries, size_t n) {
  walmap_state *state;
  walmap_cursor cursor;
  walmap_entry entry;
  size_t walked = 0;
  MUST_OK(walmap_state_new(map, &state));
  MUST_OK(walmap_state_begin(state));
  bool same = walmap_len(map) == n;
  for (size_t i = 0; i < n && same; i++)
    same = walmap_state_get(state, entries[i].key, entries[i].key_len, &entry) == WALMAP_OK &&
           same_entry(&entry, &entries[i]);
  walmap_cursor_start(&cursor, state);
  while (walmap_cursor_next(&cursor, &entry))
    walked++;
  walmap_state_free(state);
  return same && walked == n;
}

static const walmap_entry own[] = {{"own", 3, "content", 7}, {"", 0, "empty", 5}, {"third", 5, "", 0}};
enum { N_OWN = sizeof own / sizeof *own };

static inline walmap *open_with_own(uint32_t content) {
  walmap *map = open_map(4, content);
  for (size_t i = 0; i < N_OWN; i++)
    MUST_OK(walmap_set(map, own[i].key, own[i].key_len, own[i].value, own[i].value_len));
  return map;
}

/* Entries with different keys, for images that can be restored: made-up entries with the number in front of the key. */
typedef struct content {
  walmap_entry *entries;
  uint32_t n;
} content;

static inline content content_new(uint32_t n, size_t longest) {
  content c = {calloc(n, sizeof(walmap_entry)), n};
  MUST(c.entries != NULL);
  for (uint32_t i = 0; i < n; i++) {
    walmap_entry entry = made_entry(i, longest);
    uint8_t *key = malloc(entry.key_len + 4);
    MUST(key != NULL);
    memcpy(key, &i, 4);
    memcpy(key + 4, entry.key, entry.key_len);
    c.entries[i] = (walmap_entry){key, entry.key_len + 4, entry.value, entry.value_len};
  }
  return c;
}

static inline void content_free(content c) {
  for (uint32_t i = 0; i < c.n; i++)
    free((void *)c.entries[i].key);
  free(c.entries);
}

static inline bytes image_of(const walmap_entry *entries, size_t n, uint32_t number, uint32_t per_chunk) {
  walmap__image_writer *writer;
  MUST_OK(walmap__image_writer_new(number, NULL, NULL, 0, &writer));
  for (size_t i = 0; i < n; i++) {
    if (per_chunk > 0 && i % per_chunk == 0)
      cut_chunk(writer);
    MUST_OK(walmap__image_writer_add(writer, &entries[i]));
  }
  return finish(writer);
}

static inline int restore_from(walmap *map, source *from, walmap_check_fn check, void *ctx, uint64_t *entries,
                               walmap_why *why) {
  walmap_session *session;
  walmap_txn *txn;
  MUST_OK(walmap_session_new(NULL, NULL, &session));
  MUST_OK(walmap_txn_new(map, session, &txn));
  walmap_txn_begin(txn);
  int rc = walmap_txn_restore_read(txn, read_source, from, check, ctx, entries, why);
  walmap_txn_commit(txn);
  walmap_txn_free(txn);
  walmap_session_free(session);
  return rc;
}

#endif
