/* map_kit.h - maps of text for tests on one thread: their making, and calls that say what a test means */
#ifndef TEST_COMMON_MAP_KIT_H
#define TEST_COMMON_MAP_KIT_H

#include "model.h"

static inline walmap *open_default(void) {
  walmap *map;
  assert_int_equal(walmap_open(NULL, &map), WALMAP_OK);
  return map;
}

static inline walmap *open_with(walmap_options options) {
  walmap *map;
  assert_int_equal(walmap_open(&options, &map), WALMAP_OK);
  return map;
}

static inline walmap_options defaults(void) {
  walmap_options options;
  walmap_options_init(&options);
  return options;
}

static inline int set(walmap *map, const char *key, const char *value) {
  return walmap_set(map, key, strlen(key), value, strlen(value));
}

static inline int remove_key(walmap *map, const char *key) { return walmap_remove(map, key, strlen(key)); }

/* The committed value as a C string, NULL when absent. */
static inline const char *get(walmap *map, const char *key) {
  static char buffer[256];
  size_t len;
  int result = walmap_get(map, key, strlen(key), buffer, sizeof buffer - 1, &len);
  if (result == WALMAP_NOTFOUND)
    return NULL;
  assert_int_equal(result, WALMAP_OK);
  assert_true(len < sizeof buffer);
  buffer[len] = 0;
  return buffer;
}

static inline walmap_state *state_of(walmap *map) {
  walmap_state *state;
  assert_int_equal(walmap_state_new(map, &state), WALMAP_OK);
  assert_int_equal(walmap_state_begin(state), WALMAP_OK);
  return state;
}

/* The first four bytes of a key or value as a number; of fewer, 0 for those that lack. */
static inline uint32_t first_bytes(const void *key, size_t len) {
  uint32_t word = 0;
  memcpy(&word, key, len < 4 ? len : 4);
  return word;
}

#endif
