/*
** codec_utf16.c - which texts of a map look the same to a UTF-16 database
**
** SQLite converts UTF-8 to UTF-16 character by character, and accepts any bytes. The code below follows its rules: the
** macro READ_UTF8 and, for characters that UTF-16 has no room for, WRITE_UTF16LE. Two texts are the same in UTF-16 if
** they are the same characters by these rules.
*/
#include "codec/codec.h"
#include <string.h>

#define REPLACEMENT 0xFFFD

static bool is_continuation(uint8_t byte) { return (byte & 0xC0) == 0x80; }

/* The bits of a character that its first byte has. */
static uint32_t utf8_leading_bits(uint8_t byte) {
  if (byte < 0xE0)
    return byte & 0x1F;
  if (byte < 0xF0)
    return byte & 0x0F;
  if (byte < 0xF8)
    return byte & 0x07;
  return byte < 0xFC ? byte & 0x03 : byte < 0xFE ? byte & 0x01 : 0;
}

static uint32_t next_character(const uint8_t **at, const uint8_t *end) {
  uint32_t c = *(*at)++;
  if (c >= 0xC0) {
    c = utf8_leading_bits((uint8_t)c);
    while (*at < end && is_continuation(**at))
      c = (c << 6) + (*(*at)++ & 0x3F);
    if (c < 0x80 || (c & 0xFFFFF800) == 0xD800 || (c & 0xFFFFFFFE) == 0xFFFE)
      c = REPLACEMENT;
  }
  return c <= 0xFFFF ? c : 0x10000 + ((c - 0x10000) & 0xFFFFF);
}

static bool same_characters(const uint8_t *a, size_t a_size, const uint8_t *b, size_t b_size) {
  const uint8_t *a_end = a + a_size, *b_end = b + b_size;
  while (a < a_end && b < b_end) {
    if (next_character(&a, a_end) != next_character(&b, b_end))
      return false;
  }
  return a == a_end && b == b_end;
}

bool wm_codec_may_be_shown(const wm_key *key) {
  for (size_t i = 1; i < key->size; i++) {
    if (key->data[i] >= 0x80)
      return key->from_utf16;
  }
  return false;
}

bool wm_codec_has_replacement(const wm_key *key) {
  for (size_t i = 1; i + 3 < key->size; i++) {
    if (memcmp(key->data + i, "\xEF\xBF\xBD", 3) == 0)
      return true;
  }
  return false;
}

/* Tag at the front, NUL at the end. */
bool wm_codec_is_shown_as(const walmap_entry *entry, const wm_key *key) {
  if (!wm_codec_key_is_text(entry->key) ||
      (entry->key_len == key->size && memcmp(entry->key, key->data, key->size) == 0))
    return false;
  return same_characters((const uint8_t *)entry->key + 1, entry->key_len - 2, key->data + 1, key->size - 2);
}
