/*
** model.h - a plain model of a map's content, and the comparison of a map with it
**
** Keys are numbers from 0 to n-1, each standing for a byte string: key 0 is the empty string, a few are long, the rest
** short. A value is a version number, standing for a byte string whose length and bytes follow from it; version 0 means
** that the key is absent. A content is then an array of versions, and a frozen copy of it is one memcpy. A version may
** have a life of its own: the value of another version, and a time at which it expires.
*/
#ifndef TEST_CORE_MODEL_H
#define TEST_CORE_MODEL_H

#include "support.h"

typedef struct bytes {
  const uint8_t *at;
  size_t len;
} bytes;

/* All keys of a test and room to make values in. One thread at a time. */
typedef struct universe {
  uint32_t n;
  uint32_t huge_one_in; /* one value in this many is longer than 2^16 bytes; 0 is none */
  uint32_t lengths;     /* the others are evenly shorter than this; 0: mostly below 40 bytes */
  bytes *keys;
  struct life {
    uint32_t value, tag;
    uint64_t expires;
  } * lives; /* of versions below n_lives */
  uint32_t n_lives;
  struct value_room {
    uint8_t *at;
    size_t size;
  } given, compared; /* the bytes that value_bytes gave last, and the bytes that value_is compared with */
} universe;

static inline universe *universe_new(uint32_t n, uint32_t huge_one_in) {
  universe *u = malloc(sizeof *u);
  MUST(u);
  *u = (universe){.n = n, .huge_one_in = huge_one_in, .keys = calloc(n, sizeof *u->keys)};
  MUST(u->keys);
  for (uint32_t i = 1; i < n; i++) {
    size_t len = i == 1 ? 1022 : i == 2 ? 1023 : i == 3 ? 1024 : i == 4 ? 5000 : 4 + mix(i) % 13;
    uint8_t *key = malloc(len);
    MUST(key);
    for (size_t at = 0; at < len; at++)
      key[at] = (uint8_t)(at < 4 ? i >> (8 * at) : mix(i) + at);
    u->keys[i] = (bytes){key, len};
  }
  return u;
}

static inline void universe_free(universe *u) {
  for (uint32_t i = 0; i < u->n; i++)
    free((void *)u->keys[i].at);
  free(u->keys);
  free(u->lives);
  free(u->given.at);
  free(u->compared.at);
  free(u);
}

/* The number of the key with these bytes, or n. */
static inline uint32_t universe_find(const universe *u, const void *key, size_t len) {
  if (!len)
    return 0;
  if (len < 4)
    return u->n;
  const uint8_t *k = key;
  uint32_t i = k[0] | (uint32_t)k[1] << 8 | (uint32_t)k[2] << 16 | (uint32_t)k[3] << 24;
  return i && i < u->n && u->keys[i].len == len && !memcmp(u->keys[i].at, key, len) ? i : u->n;
}

/* The version whose value this one has, and when it expires (0: never). */
static inline uint32_t value_of(const universe *u, uint32_t version) {
  return version < u->n_lives ? u->lives[version].value : version;
}

static inline uint64_t expires_of(const universe *u, uint32_t version) {
  return version < u->n_lives ? u->lives[version].expires : 0;
}

static inline uint32_t tag_of(const universe *u, uint32_t version) {
  return version < u->n_lives ? u->lives[version].tag : 0;
}

static inline void set_life(universe *u, uint32_t version, uint32_t value, uint64_t expires) {
  if (version >= u->n_lives) {
    uint32_t n = 2 * version + 64;
    u->lives = realloc(u->lives, n * sizeof *u->lives);
    MUST(u->lives);
    for (uint32_t i = u->n_lives; i < n; i++)
      u->lives[i] = (struct life){i, 0, 0};
    u->n_lives = n;
  }
  u->lives[version] = (struct life){value_of(u, value), 0, expires};
}

/* Of a version that has a life. */
static inline void set_tag(universe *u, uint32_t version, uint32_t tag) { u->lives[version].tag = tag; }

/* The version at this time: 0 from its expiry on. */
static inline uint32_t version_at(const universe *u, uint32_t version, uint64_t now) {
  uint64_t expires = expires_of(u, version);
  return expires != 0 && expires <= now ? 0 : version;
}

static inline void content_at(const universe *u, uint32_t *content, uint64_t now) {
  for (uint32_t i = 0; i < u->n; i++)
    content[i] = version_at(u, content[i], now);
}

static inline size_t value_length(const universe *u, uint32_t version) {
  uint64_t h = mix(value_of(u, version) ^ 0x76616c7565u);
  if (u->huge_one_in && h % u->huge_one_in == 0)
    return (1u << 16) - 2 + (h >> 40) % 70000;
  if (u->lengths)
    return (h >> 20) % u->lengths;
  if (h % 61 == 0)
    return (h >> 20) % 4000;
  return (h >> 20) % 40;
}

static inline bytes value_make(const universe *u, struct value_room *room, uint32_t version) {
  size_t len = value_length(u, version);
  if (room->size < len + 8) {
    room->size = 2 * (len + 8);
    room->at = realloc(room->at, room->size);
    MUST(room->at);
  }
  for (size_t at = 0; at < len; at += 8) {
    uint64_t word = mix(((uint64_t)value_of(u, version) << 24) + at);
    memcpy(room->at + at, &word, 8);
  }
  return (bytes){room->at, len};
}

/* The bytes of a version, valid until the next call. */
static inline bytes value_bytes(universe *u, uint32_t version) { return value_make(u, &u->given, version); }

static inline bool value_is(universe *u, const void *value, size_t len, uint32_t version) {
  bytes v = value_make(u, &u->compared, version);
  return v.len == len && (!len || !memcmp(v.at, value, len));
}

static inline uint32_t content_count(const universe *u, const uint32_t *content) {
  uint32_t count = 0;
  for (uint32_t i = 0; i < u->n; i++)
    count += content[i] != 0;
  return count;
}

/* Compares the outcome of one lookup with the model. */
static inline void must_be(universe *u, int result, const walmap_entry *entry, uint32_t key, uint32_t version) {
  MUST_RESULT(result, version ? WALMAP_OK : WALMAP_NOTFOUND);
  if (!version)
    return;
  MUST(entry->key_len == u->keys[key].len && !(entry->key_len && memcmp(entry->key, u->keys[key].at, entry->key_len)));
  MUST(value_is(u, entry->value, entry->value_len, version) && entry->expires == expires_of(u, version));
}

/* Checks that a scan finds every entry of the content once, and no other. `seen` has room for one byte per key. */
static inline void must_scan(universe *u, walmap_state *state, const uint32_t *content, uint8_t *seen) {
  uint32_t found = 0;
  walmap_cursor cursor;
  walmap_entry entry;
  memset(seen, 0, u->n);
  for (walmap_cursor_start(&cursor, state); walmap_cursor_next(&cursor, &entry); found++) {
    uint32_t key = universe_find(u, entry.key, entry.key_len);
    MUST(key < u->n && !seen[key] && content[key]);
    seen[key] = 1;
    MUST(value_is(u, entry.value, entry.value_len, content[key]) && entry.expires == expires_of(u, content[key]));
  }
  MUST(!walmap_cursor_next(&cursor, &entry));
  MUST(found == content_count(u, content));
}

/* Whether the entry comes next on a walk: byte-wise behind the one before, or before it. */
static inline void must_follow(const walmap_entry *before, const walmap_entry *entry, int direction) {
  size_t n = before->key_len < entry->key_len ? before->key_len : entry->key_len;
  int order = n > 0 ? memcmp(before->key, entry->key, n) : 0;
  if (order == 0)
    order = (before->key_len > entry->key_len) - (before->key_len < entry->key_len);
  MUST(order * direction < 0);
}

/* From every key of an ordered state on, present or not, its neighbours; and its whole walk, both ways. */
static inline void must_walk(universe *u, walmap_state *state, const uint32_t *content) {
  walmap_ordered_cursor cursor;
  walmap_entry *all = calloc(u->n + 1, sizeof *all), entry;
  uint32_t n = 0, count = content_count(u, content);
  MUST(all);
  walmap_ordered_start(&cursor, state);
  for (bool more = walmap_ordered_seek(&cursor, WALMAP_FIRST, NULL, 0, &entry); more;
       more = walmap_ordered_next(&cursor, &entry)) {
    uint32_t key = universe_find(u, entry.key, entry.key_len);
    MUST(key < u->n && n < count);
    must_be(u, WALMAP_OK, &entry, key, content[key]);
    if (n > 0)
      must_follow(&all[n - 1], &entry, 1);
    all[n++] = entry;
  }
  MUST(n == count);
  for (uint32_t i = n; i > 0; i--)
    MUST(walmap_ordered_previous(&cursor, &entry) && entry.key == all[i - 1].key);
  MUST(!walmap_ordered_previous(&cursor, &entry) && !walmap_ordered_previous(&cursor, &entry));
  MUST(walmap_ordered_next(&cursor, &entry) == (n > 0) && (n == 0 || entry.key == all[0].key));
  MUST(walmap_ordered_seek(&cursor, WALMAP_LAST, NULL, 0, &entry) == (n > 0));
  MUST(n == 0 || entry.key == all[n - 1].key);
  for (uint32_t key = 0; key < u->n; key += 1 + u->n / 512) {
    bytes k = u->keys[key];
    uint32_t low = 0, high = n;
    while (low < high) {
      uint32_t middle = (low + high) / 2;
      size_t common = k.len < all[middle].key_len ? k.len : all[middle].key_len;
      int order = common > 0 ? memcmp(all[middle].key, k.at, common) : 0;
      if (order < 0 || (order == 0 && all[middle].key_len < k.len))
        low = middle + 1;
      else
        high = middle;
    }
    uint32_t behind = low + (content[key] != 0);
    MUST(walmap_ordered_seek(&cursor, WALMAP_AT_OR_AFTER, k.at, k.len, &entry) == (low < n));
    MUST(low == n || entry.key == all[low].key);
    MUST(walmap_ordered_previous(&cursor, &entry) == (low > 0) && (low == 0 || entry.key == all[low - 1].key));
    MUST(walmap_ordered_seek(&cursor, WALMAP_AFTER, k.at, k.len, &entry) == (behind < n));
    MUST(behind == n || entry.key == all[behind].key);
    MUST(walmap_ordered_seek(&cursor, WALMAP_BEFORE, k.at, k.len, &entry) == (low > 0));
    MUST(low == 0 || entry.key == all[low - 1].key);
    MUST(walmap_ordered_seek(&cursor, WALMAP_AT_OR_BEFORE, k.at, k.len, &entry) == (behind > 0));
    MUST(behind == 0 || entry.key == all[behind - 1].key);
    MUST(walmap_ordered_next(&cursor, &entry) == (behind < n) && (behind == n || entry.key == all[behind].key));
  }
  free(all);
}

/* All keys, looked up `batch` at a time. */
static inline void must_get_many(universe *u, walmap_state *state, const uint32_t *content, uint32_t batch) {
  walmap_entry entries[64];
  MUST(batch && batch <= 64);
  for (uint32_t first = 0; first < u->n; first += batch) {
    uint32_t n = u->n - first < batch ? u->n - first : batch, expected = 0;
    for (uint32_t i = 0; i < n; i++)
      entries[i] = (walmap_entry){.key = u->keys[first + i].at, .key_len = u->keys[first + i].len};
    size_t found = walmap_state_get_many(state, entries, n);
    for (uint32_t i = 0; i < n; i++) {
      uint32_t version = content[first + i];
      expected += version != 0;
      if (!version)
        MUST(!entries[i].key && !entries[i].key_len);
      else {
        MUST(entries[i].key);
        must_be(u, WALMAP_OK, &entries[i], first + i, version);
      }
    }
    MUST(found == expected);
  }
}

static inline void must_get_each(universe *u, walmap_state *state, const uint32_t *content) {
  for (uint32_t key = 0; key < u->n; key++) {
    walmap_entry entry;
    int result = walmap_state_get(state, u->keys[key].at, u->keys[key].len, &entry);
    must_be(u, result, &entry, key, content[key]);
  }
}

/* Compares a begun state with a content, by every way to read it. */
static inline void must_equal(universe *u, walmap_state *state, const uint32_t *content) {
  uint8_t *seen = malloc(u->n);
  MUST(seen);
  must_scan(u, state, content, seen);
  must_get_many(u, state, content, 16);
  must_get_each(u, state, content);
  if (ORDERED)
    must_walk(u, state, content);
  free(seen);
}

/* Compares the newest committed state of the map with a content. */
static inline void must_hold(universe *u, walmap *map, const uint32_t *content) {
  walmap_state *state;
  MUST_OK(walmap_state_new(map, &state));
  MUST_OK(walmap_state_begin(state));
  must_equal(u, state, content);
  walmap_state_free(state);
  MUST(walmap_len(map) == content_count(u, content));
}

#endif
