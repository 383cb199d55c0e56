/*
** bytes.h - memcmp, memcpy and memchr for short byte strings, which most keys and values are: without a call
**
** Strings of up to 16 bytes (32 for a copy) are handled as two words that overlap. Longer ones go to the C library.
** walmap__copy_late is for a copy whose length was just read from memory.
*/
#ifndef WALMAP_BYTES_H
#define WALMAP_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/compiler.h"

static inline uint64_t walmap__word8(const uint8_t *at) {
  uint64_t word;
  memcpy(&word, at, 8);
  return word;
}

static inline uint32_t walmap__word4(const uint8_t *at) {
  uint32_t word;
  memcpy(&word, at, 4);
  return word;
}

static WALMAP__ALWAYS_INLINE bool walmap__same_bytes(const uint8_t *a, const uint8_t *b, size_t n) {
  if (WALMAP__UNLIKELY(n > 16))
    return memcmp(a, b, n) == 0;
  if (n >= 8)
    return ((walmap__word8(a) ^ walmap__word8(b)) | (walmap__word8(a + n - 8) ^ walmap__word8(b + n - 8))) == 0;
  if (n >= 4)
    return ((walmap__word4(a) ^ walmap__word4(b)) | (walmap__word4(a + n - 4) ^ walmap__word4(b + n - 4))) == 0;
  return n == 0 || (a[0] == b[0] && a[n / 2] == b[n / 2] && a[n - 1] == b[n - 1]);
}

static WALMAP__ALWAYS_INLINE void walmap__copy_bytes(uint8_t *to, const uint8_t *from, size_t n) {
  if (n > 16) {
    if (WALMAP__UNLIKELY(n > 32)) {
      memcpy(to, from, n);
      return;
    }
    struct {
      uint64_t half[2];
    } first, last;
    memcpy(&first, from, 16), memcpy(&last, from + n - 16, 16);
    memcpy(to, &first, 16), memcpy(to + n - 16, &last, 16);
  } else if (n >= 8) {
    uint64_t first = walmap__word8(from), last = walmap__word8(from + n - 8);
    memcpy(to, &first, 8), memcpy(to + n - 8, &last, 8);
  } else if (n >= 4) {
    uint32_t first = walmap__word4(from), last = walmap__word4(from + n - 4);
    memcpy(to, &first, 4), memcpy(to + n - 4, &last, 4);
  } else if (n > 0) {
    uint8_t first = from[0], middle = from[n / 2], last = from[n - 1];
    to[0] = first, to[n / 2] = middle, to[n - 1] = last;
  }
}

/*
** The same as walmap__copy_bytes, for a length that was just read from memory. The addresses of its stores follow from
** branches, which the CPU predicts, and not from the length, which a cache miss delays. A store whose address is not
** known keeps the next atomic operation from beginning, so this miss would not overlap with the next call's. With it a
** walmap_get takes 1.1 times a get from a state, without it 2.0 times (bench_core small 1000000).
*/
static WALMAP__ALWAYS_INLINE void walmap__copy_late(uint8_t *to, const uint8_t *from, size_t n) {
  enum { MOST = 128 };
  if (WALMAP__UNLIKELY(n > MOST)) {
    memcpy(to, from, n);
    return;
  }
  for (; n > 16; n -= 16, from += 16, to += 16)
    memcpy(to, from, 16);
#define WALMAP__COPY(size)                                                                                             \
  case size:                                                                                                           \
    memcpy(to, from, size);                                                                                            \
    break;
  switch (n) {
    WALMAP__COPY(1)
    WALMAP__COPY(2)
    WALMAP__COPY(3)
    WALMAP__COPY(4)
    WALMAP__COPY(5)
    WALMAP__COPY(6)
    WALMAP__COPY(7)
    WALMAP__COPY(8)
    WALMAP__COPY(9)
    WALMAP__COPY(10)
    WALMAP__COPY(11)
    WALMAP__COPY(12)
    WALMAP__COPY(13)
    WALMAP__COPY(14)
    WALMAP__COPY(15)
    WALMAP__COPY(16)
  }
#undef WALMAP__COPY
}

/* Whether some byte is 0: subtracting 1 from each byte borrows through those below 0x80 only where one is 0. */
static WALMAP__ALWAYS_INLINE bool walmap__has_nul(const uint8_t *at, size_t n) {
  if (WALMAP__UNLIKELY(n > 16))
    return memchr(at, 0, n) != NULL;
  if (n >= 8) {
    uint64_t a = walmap__word8(at), b = walmap__word8(at + n - 8), ones = UINT64_C(0x0101010101010101);
    return (((a - ones) & ~a) | ((b - ones) & ~b)) & ones << 7;
  }
  if (n >= 4) {
    uint32_t a = walmap__word4(at), b = walmap__word4(at + n - 4), ones = UINT32_C(0x01010101);
    return (((a - ones) & ~a) | ((b - ones) & ~b)) & ones << 7;
  }
  return n > 0 && (at[0] == 0 || at[n / 2] == 0 || at[n - 1] == 0);
}

/* Compares byte by byte, a beginning before what goes on: < 0, 0 or > 0. Neither pointer may be NULL. */
static inline int walmap__compare_bytes(const uint8_t *a, size_t a_len, const uint8_t *b, size_t b_len) {
  int order = memcmp(a, b, a_len < b_len ? a_len : b_len);
  return order != 0 ? order : (a_len > b_len) - (a_len < b_len);
}

#endif
