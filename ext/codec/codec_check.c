/*
** codec_check.c - whether bytes from outside are an entry that the codec could have written
**
** Images come from files, tables and networks. Their checksums only prove that they are as their maker made them. An
** entry that passes here is what codec.c writes, byte for byte. So the rest of the extension may rely on codec.h's
** rules: that equal keys have equal bytes, that text ends in a NUL, that a form goes with its key.
*/
#include "base/bytes.h"
#include "codec/codec.h"
#include "codec/codec_number.h"
#include <string.h>

/* An integer in as few bytes as hold it. */
static bool int_is_minimal(const uint8_t *payload, size_t size) {
  return size <= 8 && wm_number_int_size(wm_number_load_int(payload, size)) == size;
}

static const char *check_key(const uint8_t *key, size_t size, uint8_t form) {
  if (size == 0)
    return "an empty key";
  uint8_t tag = key[0];
  const uint8_t *payload = key + 1;
  size--;
  if (form != WM_FORM_PLAIN && tag != (form == WM_FORM_NULS ? WM_KEY_TEXT : WM_KEY_INT))
    return "a key whose form does not go with its type";
  switch (tag) {
  case WM_KEY_INT: {
    int64_t integer, back;
    if (!int_is_minimal(payload, size))
      return "an integer key that is not in its shortest form";
    integer = wm_number_load_int(payload, size);
    if (form == WM_FORM_MINUS && integer != 0)
      return "a key -0.0 that is not zero";
    if (form == WM_FORM_REAL && !(wm_number_is_int((double)integer, &back) && back == integer))
      return "a real key that no real can hold";
    return NULL;
  }
  case WM_KEY_REAL: {
    int64_t integer;
    if (size != 8)
      return "a real key that is not 8 bytes long";
    double number = wm_number_load_real(payload);
    if (number != number)
      return "a key that is not a number (NaN)";
    if (wm_number_is_int(number, &integer))
      return "a real key that should be stored as an integer";
    return NULL;
  }
  case WM_KEY_TEXT:
    if (size == 0 || payload[size - 1] != 0)
      return "a text key without the NUL at its end";
    if (walmap__has_nul(payload, size - 1) != (form == WM_FORM_NULS))
      return "a text key whose form does not say rightly whether it has a NUL inside";
    return NULL;
  case WM_KEY_BLOB:
    return NULL;
  default:
    return "a key of an unknown type";
  }
}

static const char *check_value(const uint8_t *value, size_t size) {
  uint8_t type = value[0] & 7;
  const uint8_t *payload = value + 1;
  if (value[0] >> 5 != 0)
    return "a value whose header byte has unknown bits";
  size--;
  switch (type) {
  case WM_VALUE_INT:
    return int_is_minimal(payload, size) ? NULL : "an integer value that is not in its shortest form";
  case WM_VALUE_REAL: {
    if (size != 8)
      return "a real value that is not 8 bytes long";
    double number = wm_number_load_real(payload);
    return number == number ? NULL : "a value that is not a number (NaN)";
  }
  case WM_VALUE_TEXT:
  case WM_VALUE_NULS:
    if (size == 0 || payload[size - 1] != 0)
      return "a text value without the NUL at its end";
    return walmap__has_nul(payload, size - 1) == (type == WM_VALUE_NULS)
               ? NULL
               : "a text value whose type does not say rightly whether it has a NUL inside";
  case WM_VALUE_BLOB:
    return NULL;
  case WM_VALUE_NULL:
    return size == 0 ? NULL : "a NULL value with bytes";
  default:
    return "a value of an unknown type";
  }
}

/* A head byte, text without a NUL, the NUL at its end. */
static inline bool is_plain_text(const uint8_t *at, size_t size, uint8_t head) {
  return size >= 2 && at[0] == head && at[size - 1] == 0 && !walmap__has_nul(at + 1, size - 2);
}

const char *wm_codec_check(void *unused, const walmap_entry *entry) {
  (void)unused;
  if (is_plain_text(entry->value, entry->value_len, WM_VALUE_TEXT | WM_FORM_PLAIN << 3) &&
      is_plain_text(entry->key, entry->key_len, WM_KEY_TEXT))
    return NULL; /* the most frequent case */
  if (entry->value_len == 0)
    return "a value without a header byte";
  const char *wrong = check_value(entry->value, entry->value_len);
  return wrong != NULL ? wrong : check_key(entry->key, entry->key_len, wm_codec_entry_form(entry));
}

const char *wm_codec_check_key(const void *key, size_t size) {
  const uint8_t *bytes = key;
  bool nuls = size > 2 && bytes[0] == WM_KEY_TEXT && walmap__has_nul(bytes + 1, size - 2);
  return check_key(bytes, size, nuls ? WM_FORM_NULS : WM_FORM_PLAIN);
}
