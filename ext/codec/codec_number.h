/*
** codec_number.h - integers and reals as bytes, for the codec's own files
**
** All comparisons are exact: 9007199254740993 and 9007199254740992.0 are different. No conversion leaves the range of
** its target, which C does not define.
*/
#ifndef WM_CODEC_NUMBER_H
#define WM_CODEC_NUMBER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Bytes of little-endian two's complement that hold `number`: 0 for 0, else 1 to 8. */
static inline size_t wm_number_int_size(int64_t number) {
  uint64_t magnitude = (uint64_t)(number < 0 ? ~number : number);
  if (magnitude == 0)
    return number == 0 ? 0 : 1;
  size_t bits = 64 - (size_t)__builtin_clzll(magnitude);
  return bits / 8 + 1; /* one bit more is the sign's */
}

/* Stores 8 bytes, of which the first wm_number_int_size(number) are the number. */
static inline void wm_number_store_int8(int64_t number, uint8_t *to) {
  uint64_t bits = (uint64_t)number;
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
  bits = __builtin_bswap64(bits);
#endif
  memcpy(to, &bits, sizeof bits);
}

/* Stores wm_number_int_size(number) bytes. */
static inline void wm_number_store_int(int64_t number, uint8_t *to) {
  uint8_t bytes[8];
  wm_number_store_int8(number, bytes);
  memcpy(to, bytes, wm_number_int_size(number));
}

/* `size` is at most 8. */
static inline int64_t wm_number_load_int(const uint8_t *from, size_t size) {
  uint64_t bits = size > 0 && from[size - 1] >= 0x80 ? UINT64_MAX : 0;
  for (size_t i = size; i-- > 0;)
    bits = bits << 8 | from[i];
  return (int64_t)bits;
}

static inline uint64_t wm_number_bits(double number) {
  uint64_t bits;
  memcpy(&bits, &number, sizeof bits);
  return bits;
}

static inline void wm_number_store_real(double number, uint8_t *to) {
  uint64_t bits = wm_number_bits(number);
  for (int i = 0; i < 8; i++)
    to[i] = (uint8_t)(bits >> 8 * i);
}

static inline double wm_number_load_real(const uint8_t *from) {
  uint64_t bits = 0;
  for (int i = 8; i-- > 0;)
    bits = bits << 8 | from[i];
  double number;
  memcpy(&number, &bits, sizeof number);
  return number;
}

static inline bool wm_number_is_minus_zero(double number) { return wm_number_bits(number) == (uint64_t)1 << 63; }

/* Whether a real has the value of a 64-bit integer; if so, sets *integer. False for NaN. */
static inline bool wm_number_is_int(double number, int64_t *integer) {
  if (!(number >= -9223372036854775808.0 && number < 9223372036854775808.0))
    return false;
  *integer = (int64_t)number;
  return (double)*integer == number; /* exact: a truncated real needs no more bits than it had */
}

/* < 0, 0, > 0 as the integer is less than, equal to, greater than the real, which is not NaN. */
static inline int wm_number_compare(int64_t integer, double real) {
  if (real >= 9223372036854775808.0)
    return -1;
  if (real < -9223372036854775808.0)
    return 1;
  int64_t whole = (int64_t)real; /* towards zero */
  if (integer != whole)
    return integer < whole ? -1 : 1;
  double fraction = real - (double)whole;
  return (fraction < 0) - (fraction > 0);
}

#endif
