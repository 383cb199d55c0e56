/*
** codec.h - SQL values as byte strings and back
**
** To the core, keys and values are byte strings. The functions of this file turn SQL keys and values into bytes and
** back, and no other code knows these bytes. They are part of images (content number WM_CONTENT_SQL), so their meaning
** never changes.
**
** A key is a tag and a payload, and canonical: two keys are equal in SQL (BINARY collation, no affinity) exactly when
** their bytes are equal.
**
**    tag             payload
**    1 WM_KEY_INT    an integer, or a real with the value of a 64-bit integer: little-endian two's complement in as few
**                    bytes as hold it, from none for 0 to 8
**    2 WM_KEY_REAL   any other real: 8 bytes, IEEE 754 binary64, little-endian; never NaN
**    3 WM_KEY_TEXT   UTF-8, then one NUL byte (so that SQLite can be handed the text where it lies)
**    4 WM_KEY_BLOB   the bytes
**
** A value is a header byte and a payload. The header's bits 0 to 2 are the value's type, bits 3 and 4 the form of the
** entry's key (what the key's canonical bytes leave out), bits 5 to 7 are 0.
**
**    type               payload                         form             of a key
**    1 WM_VALUE_INT     as WM_KEY_INT                   0 WM_FORM_PLAIN  as its bytes say
**    2 WM_VALUE_REAL    8 bytes; integral ones too      1 WM_FORM_REAL   WM_KEY_INT that came as a real
**    3 WM_VALUE_TEXT    UTF-8, none of it NUL; NUL      2 WM_FORM_MINUS  WM_KEY_INT 0 that came as -0.0
**    4 WM_VALUE_BLOB    the bytes                       3 WM_FORM_NULS   WM_KEY_TEXT with a NUL inside
**    5 WM_VALUE_NULL    none
**    6 WM_VALUE_NULS    UTF-8, some of it NUL; NUL
**
** Text is taken as it comes: bytes that are not UTF-8 come back bit for bit. Text from a UTF-16 database is converted
** to UTF-8 by SQLite, so that databases of any encoding may share a map; text that is not valid UTF-16 is stored in the
** valid form in which SQLite gives it back.
**
** Needs SQLite 3.40.0 (sqlite3_value_encoding).
*/
#ifndef WM_CODEC_H
#define WM_CODEC_H

#include "walmap.h"
#include <sqlite3ext.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* walmap_options.content of every map and image of the extension. */
#define WM_CONTENT_SQL 1

enum wm_key_tag { WM_KEY_INT = 1, WM_KEY_REAL, WM_KEY_TEXT, WM_KEY_BLOB };
enum wm_value_type { WM_VALUE_INT = 1, WM_VALUE_REAL, WM_VALUE_TEXT, WM_VALUE_BLOB, WM_VALUE_NULL, WM_VALUE_NULS };
enum wm_key_form { WM_FORM_PLAIN, WM_FORM_REAL, WM_FORM_MINUS, WM_FORM_NULS };

/* ------------------------------------------------------------------------------------------------------------------ */
/* From SQLite                                                                                                        */

/* Keys of up to this many bytes are encoded without an allocation. */
#define WM_KEY_SMALL 256

/* An encoded key. `data` points to `small`, or to `heap`; so a wm_key must not be copied by assignment. */
typedef struct wm_key {
  const uint8_t *data;
  size_t size;
  uint8_t form;    /* an enum wm_key_form, for wm_codec_write_value */
  bool from_utf16; /* a text that SQLite had in UTF-16 */
  uint8_t *heap;
  uint8_t small[WM_KEY_SMALL];
} wm_key;

/*
** Encodes a key. On SQLITE_OK release it with wm_codec_release_key; it does not depend on the sqlite3_value. Errors,
** after which there is nothing to release: SQLITE_CONSTRAINT_NOTNULL for NULL, SQLITE_NOMEM.
*/
int wm_codec_encode_key(sqlite3_value *value, wm_key *key);
void wm_codec_release_key(wm_key *key);

/* Copies an entry's key. SQLITE_OK, then release it as above; or SQLITE_NOMEM. */
int wm_codec_copy_key(const walmap_entry *entry, wm_key *key);

/*
** A value on its way in. It is measured before it is written, so that it can be written straight into the log
** (walmap_txn_reserve). It points to text and blobs where SQLite has them: the sqlite3_value must outlive the wm_value,
** unchanged.
*/
typedef struct wm_value {
  uint8_t type;        /* an enum wm_value_type */
  uint8_t number[8];   /* the payload of WM_VALUE_INT and WM_VALUE_REAL */
  const void *bytes;   /* the payload of the rest, without the NUL that ends text */
  size_t payload_size; /* of the payload as above, without that NUL */
} wm_value;

/* SQLITE_OK or SQLITE_NOMEM. There is nothing to release. */
int wm_codec_read_value(sqlite3_value *from, wm_value *value);

/* Bytes of the encoded value, header included. */
size_t wm_codec_value_size(const wm_value *value);

/* Writes the encoded value to `to`. `key_form` is wm_key.form of the entry's key. */
void wm_codec_write_value(const wm_value *value, uint8_t key_form, void *to);

/* ------------------------------------------------------------------------------------------------------------------ */
/* To SQLite                                                                                                          */

/*
** Set the result to the entry's key or value, with the type and the bits that it was written with. Text and blobs are
** handed over where they lie, with `destructor`, which is called exactly once in all cases: by SQLite when it releases
** the pointer (also on an error), or at once when there is no pointer to hand over, as for numbers. SQLITE_TRANSIENT
** makes SQLite copy instead; SQLITE_STATIC neither copies nor calls. The entry must come from a map or image of content
** WM_CONTENT_SQL whose entries wm_codec_check accepted.
*/
void wm_codec_result_key(sqlite3_context *context, const walmap_entry *entry, void (*destructor)(void *));
void wm_codec_result_value(sqlite3_context *context, const walmap_entry *entry, void (*destructor)(void *));

/*
** Binds the entry's key to the parameter `index` and its value to the next. Text and blobs are not copied: the entry
** must live until the bindings are cleared. An SQLite code.
*/
int wm_codec_bind(sqlite3_stmt *statement, int index, const walmap_entry *entry);

/* ------------------------------------------------------------------------------------------------------------------ */
/* On encoded bytes                                                                                                   */

static inline bool wm_codec_key_is_number(const void *key) { return ((const uint8_t *)key)[0] <= WM_KEY_REAL; }
static inline bool wm_codec_key_is_text(const void *key) { return ((const uint8_t *)key)[0] == WM_KEY_TEXT; }

/* The form of an entry's key, as its value's header byte has it. */
static inline uint8_t wm_codec_entry_form(const walmap_entry *entry) {
  return (uint8_t)(((const uint8_t *)entry->value)[0] >> 3 & 3);
}

/* Sets the form in an encoded value that was copied to an entry whose key has another form. */
static inline void wm_codec_set_form(void *value, uint8_t key_form) {
  uint8_t *header = value;
  *header = (uint8_t)((*header & 7) | key_form << 3);
}

static inline bool wm_codec_value_is_text(const walmap_entry *entry) {
  uint8_t type = ((const uint8_t *)entry->value)[0] & 7;
  return type == WM_VALUE_TEXT || type == WM_VALUE_NULS;
}

/* Bytes of the entry's value without the header byte and the NUL that ends text. */
static inline size_t wm_codec_payload_size(const walmap_entry *entry) {
  return entry->value_len - 1 - wm_codec_value_is_text(entry);
}

/*
** SQL's order of two keys (BINARY, no affinity): < 0, 0 or > 0. Integers and reals compare exactly. Text compares as
** UTF-8; UTF-16 databases order text otherwise, so text bounds must not be pushed down there.
*/
int wm_codec_compare_keys(const void *a, size_t a_size, const void *b, size_t b_size);

/* A number that agrees with that order: a key with a smaller number is less. Equal numbers decide nothing. */
uint64_t wm_codec_key_prefix(const void *key, size_t size);

/* Bytes that are ordered, byte by byte, as the keys are: the walmap_sort_key_fn of the extension's ordered maps. */
size_t wm_codec_sort_key(const void *key, size_t size, const void **bytes, uint8_t buffer[WALMAP_SORT_BUFFER]);

/* Whether an encoded value IS the other one, in SQL's sense: NULL IS NULL, 1 IS 1.0, 1 IS NOT '1'. */
bool wm_codec_value_is(const void *encoded, size_t size, const wm_value *value);

/*
** A walmap_check_fn: what is wrong with an entry of an image, or NULL. Every entry from outside must pass it first. So
** the extension's maps hold only accepted entries, and code that reads maps need not check again.
*/
const char *wm_codec_check(void *unused, const walmap_entry *entry);

/* The same for the key of a removal: what is wrong with it, or NULL when an entry can have this key. */
const char *wm_codec_check_key(const void *key, size_t size);

/* ------------------------------------------------------------------------------------------------------------------ */
/* Hash, and keys that look alike (codec_hash.c)                                                                      */

/*
** The walmap_hash_fn of all maps of the extension: XXH3, seeded, of the key's bytes; except that text which looks like
** a number is hashed as that number. Where the other side of a comparison has numeric affinity, SQL lets a text key
** '01' or ' 1.0 ' equal 1, and a virtual table cannot see the affinity. So a lookup with a number also returns texts
** that look like it, and SQLite chooses. Text that cannot be a number costs one test of its first character.
**
** All spellings of one number ('1', '01', '001' ...) must have the same hash, whatever the seed. A map with thousands
** of them is correct, but slow.
*/
uint64_t wm_codec_hash(const void *key, size_t key_size, uint64_t seed);

/* Whether SQLite would take the text key for a number: '01', ' 1.0 ', '1e0', '.5'; not '1x', '0x1', 'inf', ''. */
bool wm_codec_looks_numeric(const void *key, size_t key_size);

/* The same for the key of an entry, which need not be text. */
static inline bool wm_codec_is_lookalike(const walmap_entry *entry) {
  return wm_codec_key_is_text(entry->key) && wm_codec_looks_numeric(entry->key, entry->key_len);
}

/*
** The hashes at which text look-alikes of an encoded number are found with walmap_state_each_hash and
** walmap_txn_each_hash. Returns how many, 1 to WM_LOOKALIKES, all different. Other keys may have these hashes too: take
** only text that looks like a number. For WM_KEY_INT the first hash is the key's own, so that the same walk finds the
** key itself; for integers within 2^46 of 0 it is the only one.
*/
#define WM_LOOKALIKES 3
int wm_codec_lookalikes(const void *key, size_t key_size, uint64_t seed, uint64_t hashes[WM_LOOKALIKES]);

/* ------------------------------------------------------------------------------------------------------------------ */
/* What a UTF-16 database sees (codec_utf16.c)                                                                        */

/*
** A map may have text keys that are not valid UTF-8, from a UTF-8 database or an image. In a UTF-16 database they are
** shown as other keys, and several of them may be shown as the same one.
*/

/* Whether a UTF-16 database may show another key as this one, which came from UTF-16. Not if this one is ASCII. */
bool wm_codec_may_be_shown(const wm_key *key);

/* Whether such a key contains U+FFFD, which replaces most invalid text. */
bool wm_codec_has_replacement(const wm_key *key);

/* Whether the entry's key differs from `key`, but a UTF-16 database shows it as `key`. */
bool wm_codec_is_shown_as(const walmap_entry *entry, const wm_key *key);

#endif
