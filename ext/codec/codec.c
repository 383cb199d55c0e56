/*
** codec.c - SQL values as byte strings and back: see codec.h for the bytes
**
** This file encodes and decodes. Encoded keys are compared in codec_compare.c, hashed in codec_hash.c; the check of
** hostile bytes is in codec_check.c, what UTF-16 databases see of UTF-8 text in codec_utf16.c.
*/
#include "codec/codec.h"
#include "base/bytes.h"
#include "codec/codec_number.h"
#include <string.h>

SQLITE_EXTENSION_INIT3

#define SQLITE_UTF8_ZERO_TERMINATED 16 /* SQLITE_UTF8_ZT, which headers before 3.53 lack */

/* ------------------------------------------------------------------------------------------------------------------ */
/* From SQLite                                                                                                        */

/* Whether the value is text of a UTF-16 database that was not yet read as UTF-8. */
static inline bool is_utf16(sqlite3_value *from, int type) {
  return type == SQLITE_TEXT && sqlite3_value_encoding(from) != SQLITE_UTF8;
}

/*
** The bytes of a text or blob value that is not in UTF-16. Text is read with sqlite3_value_blob, because
** sqlite3_value_text may copy it to add a NUL.
*/
static int read_bytes(sqlite3_value *from, const void **bytes, size_t *size) {
  *bytes = sqlite3_value_blob(from);
  *size = (size_t)sqlite3_value_bytes(from); /* after it, for a zeroblob is expanded */
  return *bytes == NULL && *size > 0 ? SQLITE_NOMEM : SQLITE_OK;
}

static bool is_ascii(const uint8_t *text, size_t size) {
  uint8_t all = 0;
  for (size_t i = 0; i < size; i++)
    all |= text[i];
  return all < 0x80;
}

/*
** The same for text in UTF-16. Text that is not valid UTF-16 (half a surrogate pair), and two characters that SQLite
** takes for invalid (U+FFFE, U+FFFF), change when SQLite converts them to UTF-8, and again on the way back to UTF-16,
** but not after that. So such text is converted both ways first: the stored key must be the key that SQLite will pass
** when it updates or deletes the row.
*/
static int read_utf16(sqlite3_value *from, const void **bytes, size_t *size) {
  *bytes = sqlite3_value_text(from);
  *size = (size_t)sqlite3_value_bytes(from);
  if (*bytes != NULL && !is_ascii(*bytes, *size)) {
    *bytes = sqlite3_value_text16(from) == NULL ? NULL : sqlite3_value_text(from);
    *size = (size_t)sqlite3_value_bytes(from);
  }
  if (*bytes != NULL)
    return SQLITE_OK;
  *size = 0;
  return SQLITE_NOMEM;
}

/* Room for `size` bytes of key: the small buffer or the heap. NULL when memory is out. */
static uint8_t *key_room(wm_key *key, size_t size) {
  key->heap = NULL;
  if (size > sizeof key->small && (key->heap = sqlite3_malloc64(size)) == NULL)
    return NULL;
  uint8_t *room = key->heap != NULL ? key->heap : key->small;
  key->data = room;
  key->size = size;
  key->form = WM_FORM_PLAIN;
  key->from_utf16 = false;
  return room;
}

static void encode_int_key(wm_key *key, int64_t number) {
  uint8_t *to = key_room(key, 1 + wm_number_int_size(number));
  to[0] = WM_KEY_INT;
  wm_number_store_int(number, to + 1);
}

static void encode_real_key(wm_key *key, double number) {
  int64_t integer;
  if (wm_number_is_int(number, &integer)) {
    encode_int_key(key, integer);
    key->form = wm_number_is_minus_zero(number) ? WM_FORM_MINUS : WM_FORM_REAL;
  } else {
    uint8_t *to = key_room(key, 1 + 8);
    to[0] = WM_KEY_REAL;
    wm_number_store_real(number, to + 1);
  }
}

static int fill_text_key(wm_key *key, const void *text, size_t size) {
  uint8_t *to = key_room(key, 1 + size + 1);
  if (to == NULL)
    return SQLITE_NOMEM;
  to[0] = WM_KEY_TEXT;
  walmap__copy_bytes(to + 1, text, size);
  to[1 + size] = 0;
  key->form = walmap__has_nul(to + 1, size) ? WM_FORM_NULS : WM_FORM_PLAIN;
  return SQLITE_OK;
}

static int fill_blob_key(wm_key *key, const void *bytes, size_t size) {
  uint8_t *to = key_room(key, 1 + size);
  if (to == NULL)
    return SQLITE_NOMEM;
  to[0] = WM_KEY_BLOB;
  walmap__copy_bytes(to + 1, bytes, size);
  return SQLITE_OK;
}

static int encode_utf16_key(wm_key *key, sqlite3_value *value) {
  const void *text;
  size_t size;
  int rc = read_utf16(value, &text, &size);
  if (rc == SQLITE_OK)
    rc = fill_text_key(key, text, size);
  if (rc == SQLITE_OK)
    key->from_utf16 = true;
  return rc;
}

static int encode_bytes_key(wm_key *key, sqlite3_value *value, int type) {
  const void *bytes;
  size_t size;
  if (is_utf16(value, type))
    return encode_utf16_key(key, value);
  int rc = read_bytes(value, &bytes, &size);
  if (rc != SQLITE_OK)
    return rc;
  return type == SQLITE_TEXT ? fill_text_key(key, bytes, size) : fill_blob_key(key, bytes, size);
}

int wm_codec_encode_key(sqlite3_value *value, wm_key *key) {
  int type = sqlite3_value_type(value);
  switch (type) {
  case SQLITE_NULL:
    return SQLITE_CONSTRAINT_NOTNULL;
  case SQLITE_INTEGER:
    encode_int_key(key, sqlite3_value_int64(value));
    return SQLITE_OK;
  case SQLITE_FLOAT:
    encode_real_key(key, sqlite3_value_double(value));
    return SQLITE_OK;
  default:
    return encode_bytes_key(key, value, type);
  }
}

int wm_codec_copy_key(const walmap_entry *entry, wm_key *key) {
  uint8_t *to = key_room(key, entry->key_len);
  if (to == NULL)
    return SQLITE_NOMEM;
  walmap__copy_bytes(to, entry->key, entry->key_len);
  key->form = wm_codec_entry_form(entry);
  return SQLITE_OK;
}

void wm_codec_release_key(wm_key *key) {
  if (key->heap != NULL)
    sqlite3_free(key->heap);
}

int wm_codec_read_value(sqlite3_value *from, wm_value *value) {
  int type = sqlite3_value_type(from);
  value->bytes = NULL;
  value->payload_size = 0;
  switch (type) {
  case SQLITE_NULL:
    value->type = WM_VALUE_NULL;
    return SQLITE_OK;
  case SQLITE_INTEGER: {
    int64_t number = sqlite3_value_int64(from);
    value->type = WM_VALUE_INT;
    value->payload_size = wm_number_int_size(number);
    wm_number_store_int(number, value->number);
    return SQLITE_OK;
  }
  case SQLITE_FLOAT:
    value->type = WM_VALUE_REAL;
    value->payload_size = 8;
    wm_number_store_real(sqlite3_value_double(from), value->number);
    return SQLITE_OK;
  default: {
    int rc = is_utf16(from, type) ? read_utf16(from, &value->bytes, &value->payload_size)
                                  : read_bytes(from, &value->bytes, &value->payload_size);
    if (type == SQLITE_BLOB)
      value->type = WM_VALUE_BLOB;
    else if (walmap__has_nul(value->bytes, value->payload_size))
      value->type = WM_VALUE_NULS;
    else
      value->type = WM_VALUE_TEXT;
    return rc;
  }
  }
}

static inline bool type_is_text(uint8_t type) { return type == WM_VALUE_TEXT || type == WM_VALUE_NULS; }

/* The address of the payload. A wm_value may be copied, so it holds no pointer into itself. */
static inline const void *payload_of(const wm_value *value) {
  return value->type <= WM_VALUE_REAL ? value->number : value->bytes;
}

size_t wm_codec_value_size(const wm_value *value) { return 1 + value->payload_size + type_is_text(value->type); }

void wm_codec_write_value(const wm_value *value, uint8_t key_form, void *to) {
  uint8_t *at = to;
  *at++ = (uint8_t)(value->type | key_form << 3);
  walmap__copy_bytes(at, payload_of(value), value->payload_size);
  if (type_is_text(value->type))
    at[value->payload_size] = 0;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* To SQLite                                                                                                          */

/* A key or value on its way out. */
typedef struct decoded {
  uint8_t type; /* an enum wm_value_type */
  int64_t integer;
  double real;
  const void *bytes; /* of text (a NUL follows) and blobs */
  size_t size;
} decoded;

static void decode_key(const walmap_entry *entry, decoded *out) {
  const uint8_t *key = entry->key;
  uint8_t form = wm_codec_entry_form(entry);
  out->bytes = key + 1;
  out->size = entry->key_len - 1;
  switch (key[0]) {
  case WM_KEY_INT:
    out->integer = wm_number_load_int(key + 1, out->size);
    out->real = form == WM_FORM_MINUS ? -0.0 : (double)out->integer;
    out->type = form == WM_FORM_PLAIN ? WM_VALUE_INT : WM_VALUE_REAL;
    break;
  case WM_KEY_REAL:
    out->real = wm_number_load_real(key + 1);
    out->type = WM_VALUE_REAL;
    break;
  case WM_KEY_TEXT:
    out->size--;
    out->type = form == WM_FORM_NULS ? WM_VALUE_NULS : WM_VALUE_TEXT;
    break;
  default:
    out->type = WM_VALUE_BLOB;
    break;
  }
}

static void decode_value(const walmap_entry *entry, decoded *out) {
  const uint8_t *value = entry->value;
  out->type = value[0] & 7;
  out->bytes = value + 1;
  out->size = entry->value_len - 1;
  if (out->type == WM_VALUE_INT)
    out->integer = wm_number_load_int(value + 1, out->size);
  else if (out->type == WM_VALUE_REAL)
    out->real = wm_number_load_real(value + 1);
  else if (type_is_text(out->type))
    out->size--;
}

/* Calls the destructor for a result to which SQLite keeps no pointer. */
static void let_go(const void *bytes, void (*destructor)(void *)) {
  if (destructor != SQLITE_TRANSIENT && destructor != SQLITE_STATIC)
    destructor((void *)(uintptr_t)bytes);
}

/*
** Hands text over together with the NUL that follows it, so that sqlite3_column_text need not copy it to add one. From
** SQLite 3.53 on a flag says that the NUL is there. Older versions learn it only from a length of -1, for text without
** NULs inside; they would take the flag for UTF-16.
*/
static inline void result_text(sqlite3_context *context, const void *text, size_t size, bool has_nuls,
                               void (*destructor)(void *)) {
  if (sqlite3_libversion_number() >= 3053000)
    sqlite3_result_text64(context, text, size, destructor, SQLITE_UTF8_ZERO_TERMINATED);
  else if (has_nuls)
    sqlite3_result_text64(context, text, size, destructor, SQLITE_UTF8);
  else
    sqlite3_result_text(context, text, -1, destructor);
}

static void set_result(sqlite3_context *context, const decoded *from, void (*destructor)(void *)) {
  switch (from->type) {
  case WM_VALUE_INT:
    sqlite3_result_int64(context, from->integer);
    let_go(from->bytes, destructor);
    break;
  case WM_VALUE_REAL:
    sqlite3_result_double(context, from->real);
    let_go(from->bytes, destructor);
    break;
  case WM_VALUE_TEXT:
  case WM_VALUE_NULS:
    result_text(context, from->bytes, from->size, from->type == WM_VALUE_NULS, destructor);
    break;
  case WM_VALUE_BLOB:
    sqlite3_result_blob64(context, from->bytes, from->size, destructor);
    break;
  default:
    sqlite3_result_null(context);
    let_go(from->bytes, destructor);
    break;
  }
}

static int bind_decoded(sqlite3_stmt *statement, int index, const decoded *from) {
  switch (from->type) {
  case WM_VALUE_INT:
    return sqlite3_bind_int64(statement, index, from->integer);
  case WM_VALUE_REAL:
    return sqlite3_bind_double(statement, index, from->real);
  case WM_VALUE_TEXT:
  case WM_VALUE_NULS:
    return sqlite3_bind_text64(statement, index, from->bytes, from->size, SQLITE_STATIC, SQLITE_UTF8);
  case WM_VALUE_BLOB:
    return sqlite3_bind_blob64(statement, index, from->bytes, from->size, SQLITE_STATIC);
  default:
    return sqlite3_bind_null(statement, index);
  }
}

void wm_codec_result_key(sqlite3_context *context, const walmap_entry *entry, void (*destructor)(void *)) {
  const uint8_t *bytes = entry->key;
  if (bytes[0] == WM_KEY_TEXT && wm_codec_entry_form(entry) == WM_FORM_PLAIN) { /* first, because most keys are text */
    result_text(context, bytes + 1, entry->key_len - 2, false, destructor);
    return;
  }
  decoded key;
  decode_key(entry, &key);
  set_result(context, &key, destructor);
}

void wm_codec_result_value(sqlite3_context *context, const walmap_entry *entry, void (*destructor)(void *)) {
  const uint8_t *bytes = entry->value;
  if ((bytes[0] & 7) == WM_VALUE_TEXT) { /* most values are text too */
    result_text(context, bytes + 1, entry->value_len - 2, false, destructor);
    return;
  }
  decoded value;
  decode_value(entry, &value);
  set_result(context, &value, destructor);
}

int wm_codec_bind(sqlite3_stmt *statement, int index, const walmap_entry *entry) {
  decoded key, value;
  decode_key(entry, &key);
  decode_value(entry, &value);
  int rc = bind_decoded(statement, index, &key);
  return rc == SQLITE_OK ? bind_decoded(statement, index + 1, &value) : rc;
}
