/*
** record.h - the bytes of one log record
**
**   u32 meta | u32 next | [u64 key length | u64 value length] | key | value | zeros to a multiple of 4 | tail
**                          only if EXTENDED
**   tail:  [u64 expires] | [u32 tag]      | [u32 prev]
**          only if EXPIRES  only if TAGGED  only if PREV
**
**   meta   bits 0-15   value length            26  TAGGED   the tail has a tag
**          bits 16-25  key length, or          27  EXPIRES  the entry is absent from `expires` on
**                      1023 = EXTENDED         28  PREV     a previous record of the key is linked at the end
**                                              29  TOMB     the key is removed; no value
**                                              30  MOVED    `next` is an identical copy made by compaction
**                                              31  DEAD     no reader can see the record any more
**   next     address of the record that superseded this one (or of its copy, if MOVED); 0 while there is none
**   expires  Unix time in milliseconds, not 0
**   tag      a number of the caller's, not 0 (walmap_txn_set_tag)
**   prev     address of the record that this one superseded
**
** The offsets of key and value do not depend on flags. The parts that images leave out (tag, prev) come last. All
** integers are little-endian, so that an image can be a copy of the log. EXTENDED is used only where the lengths do not
** fit. During the record's life only the holder of the shard lock writes meta and next, one word at a time; the other
** bytes never change once readers can reach the record.
*/
#ifndef WALMAP_RECORD_H
#define WALMAP_RECORD_H

#include <stdatomic.h>
#include <string.h>

#include "base/bytes.h"
#include "walmap.h"

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
#define WALMAP__LE32(x) __builtin_bswap32(x)
#define WALMAP__LE64(x) __builtin_bswap64(x)
#else
#define WALMAP__LE32(x) (x)
#define WALMAP__LE64(x) (x)
#endif

#define WALMAP__VALUE_BITS 16
#define WALMAP__KEY_EXTENDED 1023u
#define WALMAP__TAGGED ((uint32_t)1 << 26)
#define WALMAP__EXPIRES ((uint32_t)1 << 27)
#define WALMAP__PREV ((uint32_t)1 << 28)
#define WALMAP__TOMB ((uint32_t)1 << 29)
#define WALMAP__MOVED ((uint32_t)1 << 30)
#define WALMAP__DEAD ((uint32_t)1 << 31)

#define WALMAP__RECORD_HEAD ((size_t)8)
#define WALMAP__EXTENDED_HEAD ((size_t)24)

typedef struct walmap__record {
  _Atomic uint32_t meta;
  _Atomic uint32_t next;
} walmap__record;

static inline uint32_t walmap__record_meta(const walmap__record *r) {
  return WALMAP__LE32(atomic_load_explicit(&r->meta, memory_order_acquire));
}
static inline void walmap__record_set_meta(walmap__record *r, uint32_t meta) {
  atomic_store_explicit(&r->meta, WALMAP__LE32(meta), memory_order_release);
}
static inline uint32_t walmap__record_next(const walmap__record *r) {
  return WALMAP__LE32(atomic_load_explicit(&r->next, memory_order_acquire));
}
static inline void walmap__record_set_next(walmap__record *r, uint32_t address) {
  atomic_store_explicit(&r->next, WALMAP__LE32(address), memory_order_release);
}

static inline uint64_t walmap__load64(const void *at) {
  uint64_t x;
  memcpy(&x, at, 8);
  return WALMAP__LE64(x);
}
static inline void walmap__store64(void *at, uint64_t x) {
  x = WALMAP__LE64(x);
  memcpy(at, &x, 8);
}

static inline bool walmap__meta_extended(uint32_t meta) {
  return ((meta >> WALMAP__VALUE_BITS) & WALMAP__KEY_EXTENDED) == WALMAP__KEY_EXTENDED;
}

/* Whether these lengths need the EXTENDED form. */
static inline bool walmap__needs_extended(uint64_t key_len, uint64_t value_len) {
  return key_len >= WALMAP__KEY_EXTENDED || value_len >= (uint32_t)1 << WALMAP__VALUE_BITS;
}

/* What lies behind the padding; which words are there is what the flags in meta say. */
typedef struct walmap__record_tail {
  uint64_t expires;
  uint32_t tag, prev;
} walmap__record_tail;

/* Bytes of the tail of a record with these flags. */
static inline size_t walmap__tail_bytes(uint32_t meta) {
  return (meta >> 24 & 12) + (meta >> 26 & 4); /* TAGGED is worth 4, EXPIRES 8; PREV 4 */
}

/* The flags for an expiry and a tag; 0 is none. */
static inline uint32_t walmap__tail_flags(uint64_t expires, uint32_t tag) {
  return (expires != 0 ? WALMAP__EXPIRES : 0) | (tag != 0 ? WALMAP__TAGGED : 0);
}

/* Bytes of a record with these lengths and flags. */
static inline size_t walmap__record_bytes(size_t key_len, size_t value_len, uint32_t flags) {
  size_t head = walmap__needs_extended(key_len, value_len) ? WALMAP__EXTENDED_HEAD : WALMAP__RECORD_HEAD;
  return head + ((key_len + value_len + 3) & ~(size_t)3) + walmap__tail_bytes(flags);
}

/* Bytes of the record at r, whose meta is given. */
static inline size_t walmap__record_size(const walmap__record *r, uint32_t meta) {
  size_t tail = walmap__tail_bytes(meta);
  if (WALMAP__UNLIKELY(walmap__meta_extended(meta))) {
    const uint8_t *at = (const uint8_t *)r + WALMAP__RECORD_HEAD;
    return WALMAP__EXTENDED_HEAD + ((walmap__load64(at) + walmap__load64(at + 8) + 3) & ~(uint64_t)3) + tail;
  }
  size_t payload = (meta & (((uint32_t)1 << WALMAP__VALUE_BITS) - 1)) + ((meta >> WALMAP__VALUE_BITS) & 1023);
  return WALMAP__RECORD_HEAD + ((payload + 3) & ~(size_t)3) + tail;
}

/*
** Where the next record starts: walmap__record_size for walks, which are no faster than one of these after the other.
*/
static WALMAP__ALWAYS_INLINE const uint8_t *walmap__record_end(const walmap__record *r, uint32_t meta) {
  if (WALMAP__UNLIKELY(walmap__meta_extended(meta)))
    return (const uint8_t *)r + walmap__record_size(r, meta);
  const uint8_t *payload = (const uint8_t *)r + WALMAP__RECORD_HEAD + walmap__tail_bytes(meta);
  size_t value = (meta & (((uint32_t)1 << WALMAP__VALUE_BITS) - 1)) + 3;
  WALMAP__MEANWHILE(payload);
  WALMAP__MEANWHILE(value);
  return payload + ((value + ((meta >> WALMAP__VALUE_BITS) & 1023)) & ~(size_t)3);
}

/* When the record's entry expires; 0 is never. */
static inline uint64_t walmap__record_expires(const walmap__record *r, uint32_t meta) {
  if (WALMAP__LIKELY(!(meta & WALMAP__EXPIRES)))
    return 0;
  return walmap__load64((const uint8_t *)r + walmap__record_size(r, meta) - walmap__tail_bytes(meta));
}

/* The entry, key and value where they lie, of a record without EXPIRES. */
static inline void walmap__record_lasting_entry(const walmap__record *r, uint32_t meta, walmap_entry *e) {
  const uint8_t *at = (const uint8_t *)r + WALMAP__RECORD_HEAD;
  if (WALMAP__UNLIKELY(walmap__meta_extended(meta))) {
    e->key_len = walmap__load64(at);
    e->value_len = walmap__load64(at + 8);
    at += WALMAP__EXTENDED_HEAD - WALMAP__RECORD_HEAD;
  } else {
    e->key_len = (meta >> WALMAP__VALUE_BITS) & 1023;
    e->value_len = meta & (((uint32_t)1 << WALMAP__VALUE_BITS) - 1);
  }
  e->key = at;
  e->value = at + e->key_len;
  e->expires = 0;
}

/* The entry of any record. */
static inline void walmap__record_entry(const walmap__record *r, uint32_t meta, walmap_entry *e) {
  walmap__record_lasting_entry(r, meta, e);
  e->expires = walmap__record_expires(r, meta);
}

static WALMAP__ALWAYS_INLINE bool walmap__record_has_key(const walmap__record *r, uint32_t meta, const void *key,
                                                         size_t key_len) {
  const uint8_t *at = (const uint8_t *)r + WALMAP__RECORD_HEAD;
  size_t len = (meta >> WALMAP__VALUE_BITS) & WALMAP__KEY_EXTENDED;
  if (WALMAP__UNLIKELY(len == WALMAP__KEY_EXTENDED)) {
    len = walmap__load64(at);
    at += WALMAP__EXTENDED_HEAD - WALMAP__RECORD_HEAD;
  }
  return len == key_len && walmap__same_bytes(at, key, key_len);
}

/* The record's tag, 0 if it has none. */
static inline uint32_t walmap__record_tag(const walmap__record *r, uint32_t meta) {
  if (WALMAP__LIKELY(!(meta & WALMAP__TAGGED)))
    return 0;
  uint32_t tag;
  memcpy(&tag, (const uint8_t *)r + walmap__record_size(r, meta) - (meta & WALMAP__PREV ? 8 : 4), 4);
  return WALMAP__LE32(tag);
}

/* Address of the record that r superseded, 0 if none. */
static inline uint32_t walmap__record_prev(const walmap__record *r, uint32_t meta) {
  if (!(meta & WALMAP__PREV))
    return 0;
  uint32_t address;
  memcpy(&address, (const uint8_t *)r + walmap__record_size(r, meta) - 4, 4);
  return WALMAP__LE32(address);
}

/* Writes the tail's words that the flags ask for, before `end`; returns where the tail begins. */
static WALMAP__ALWAYS_INLINE uint8_t *walmap__record_put_tail(uint8_t *end, uint32_t flags,
                                                              const walmap__record_tail *tail) {
  const uint32_t prev = WALMAP__LE32(tail->prev), tag = WALMAP__LE32(tail->tag);
  if (flags & WALMAP__PREV)
    memcpy(end -= 4, &prev, 4);
  if (WALMAP__UNLIKELY(flags & WALMAP__TAGGED))
    memcpy(end -= 4, &tag, 4);
  if (WALMAP__UNLIKELY(flags & WALMAP__EXPIRES))
    walmap__store64(end -= 8, tail->expires);
  return end;
}

/* Gives a tag to a record that came from an image, so it has no tag and no `prev`; 4 bytes before `end` are free. */
static inline void walmap__record_add_tag(walmap__record *r, uint8_t *end, uint32_t tag) {
  walmap__record_put_tail(end, WALMAP__TAGGED, &(walmap__record_tail){.tag = tag});
  uint32_t meta = WALMAP__LE32(atomic_load_explicit(&r->meta, memory_order_relaxed)) | WALMAP__TAGGED;
  atomic_store_explicit(&r->meta, WALMAP__LE32(meta), memory_order_relaxed);
}

/*
** Writes a record's bytes but for the value's, which start at the returned address. `size` is walmap__record_bytes() of
** the record, `flags` are meta's flag bits, which say what of the tail is written. The record is not yet reachable, so
** plain stores will do.
*/
static WALMAP__ALWAYS_INLINE uint8_t *walmap__record_write(void *to, size_t size, const void *key, size_t key_len,
                                                           size_t value_len, uint32_t flags,
                                                           const walmap__record_tail *tail) {
  walmap__record *r = to;
  uint8_t *at = (uint8_t *)to + WALMAP__RECORD_HEAD;
  uint8_t *end = walmap__record_put_tail((uint8_t *)to + size, flags, tail);
  const uint32_t zero = 0;
  uint32_t meta = flags | (uint32_t)key_len << WALMAP__VALUE_BITS | (uint32_t)value_len;
  memcpy(end - 4, &zero, 4); /* the padding's zeros; what else this hits is written below, or by the caller */
  if (WALMAP__UNLIKELY(walmap__needs_extended(key_len, value_len))) {
    meta = flags | WALMAP__KEY_EXTENDED << WALMAP__VALUE_BITS;
    walmap__store64(at, key_len);
    walmap__store64(at + 8, value_len);
    at += WALMAP__EXTENDED_HEAD - WALMAP__RECORD_HEAD;
  }
  walmap__copy_bytes(at, key, key_len);
  atomic_store_explicit(&r->next, 0, memory_order_relaxed);
  atomic_store_explicit(&r->meta, WALMAP__LE32(meta), memory_order_relaxed);
  return at + key_len;
}

#endif
