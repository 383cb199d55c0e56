/* codec_compare.c - encoded keys and values compared, and the order of keys as bytes and as a number (codec.h) */
#include "base/bytes.h"
#include "base/compiler.h"
#include "codec/codec.h"
#include "codec/codec_number.h"

#include <string.h>

/* Compares two encoded numbers, each an integer or a real. */
static int compare_numbers(bool a_is_int, const uint8_t *a, size_t a_size, bool b_is_int, const uint8_t *b,
                           size_t b_size) {
  if (a_is_int && b_is_int) {
    int64_t i = wm_number_load_int(a, a_size), j = wm_number_load_int(b, b_size);
    return (i > j) - (i < j);
  }
  if (a_is_int)
    return wm_number_compare(wm_number_load_int(a, a_size), wm_number_load_real(b));
  if (b_is_int)
    return -wm_number_compare(wm_number_load_int(b, b_size), wm_number_load_real(a));
  double x = wm_number_load_real(a), y = wm_number_load_real(b);
  return (x > y) - (x < y);
}

int wm_codec_compare_keys(const void *a, size_t a_size, const void *b, size_t b_size) {
  const uint8_t *x = a, *y = b;
  if (x[0] <= WM_KEY_REAL && y[0] <= WM_KEY_REAL)
    return compare_numbers(x[0] == WM_KEY_INT, x + 1, a_size - 1, y[0] == WM_KEY_INT, y + 1, b_size - 1);
  /* The tags rise in SQL's order of types. The NUL that ends text sorts a prefix first, as SQL does. */
  return walmap__compare_bytes(x, a_size, y, b_size);
}

/* Seven bytes as a number, the first the highest; zeros, the lowest bytes, behind their end. */
static uint64_t leading_bytes(const uint8_t *bytes, size_t size) {
  uint64_t leading = 0;
  for (size_t i = 0; i < 7; i++)
    leading = leading << 8 | (i < size ? bytes[i] : 0);
  return leading;
}

/* The bits of a real (IEEE 754), changed so that they rise with the real; and back. */
static uint64_t rising_bits(double real) {
  uint64_t bits = wm_number_bits(real), sign = (uint64_t)1 << 63;
  return bits & sign ? ~bits : bits | sign;
}

static double real_of_rising(uint64_t rising) {
  uint64_t sign = (uint64_t)1 << 63, bits = rising & sign ? rising & ~sign : ~rising;
  double real;
  memcpy(&real, &bits, sizeof real);
  return real;
}

/* The seven highest bytes of them. */
static uint64_t leading_bits(double real) { return rising_bits(real) >> 8; }

uint64_t wm_codec_key_prefix(const void *key, size_t size) {
  const uint8_t *at = key;
  uint64_t tag = at[0]; /* they rise in SQL's order of types, but for the two of numbers */
  switch (tag) {
  case WM_KEY_INT: /* the nearest real rises with it, though not for each integer */
    return (uint64_t)WM_KEY_INT << 56 | leading_bits((double)wm_number_load_int(at + 1, size - 1));
  case WM_KEY_REAL:
    return (uint64_t)WM_KEY_INT << 56 | leading_bits(wm_number_load_real(at + 1));
  default:
    return tag << 56 | leading_bytes(at + 1, size - 1);
  }
}

/* The greatest real that is not greater than the integer, and how far the integer is above it: less than 2^11. */
static uint64_t split_int(int64_t integer, unsigned *above) {
  uint64_t rising = rising_bits((double)integer);
  *above = 0;
  if (integer >= -((int64_t)1 << 53) && integer <= (int64_t)1 << 53)
    return rising;
  if (wm_number_compare(integer, real_of_rising(rising)) < 0)
    rising--;
  *above = (unsigned)((uint64_t)integer - (uint64_t)(int64_t)real_of_rising(rising));
  return rising;
}

/*
** Text and blobs are in the order of their bytes as they are. A number becomes one tag for all numbers, the rising bits
** of a real, and what an integer has above that real.
*/
size_t wm_codec_sort_key(const void *key, size_t size, const void **bytes, uint8_t buffer[WALMAP_SORT_BUFFER]) {
  const uint8_t *at = key;
  unsigned above = 0;
  uint64_t rising;
  if (WALMAP__LIKELY(at[0] > WM_KEY_REAL)) {
    *bytes = key;
    return size;
  }
  if (at[0] == WM_KEY_INT)
    rising = split_int(wm_number_load_int(at + 1, size - 1), &above);
  else
    rising = rising_bits(wm_number_load_real(at + 1));
  buffer[0] = WM_KEY_INT;
  for (int i = 0; i < 8; i++)
    buffer[1 + i] = (uint8_t)(rising >> (56 - 8 * i));
  buffer[9] = (uint8_t)(above >> 8);
  buffer[10] = (uint8_t)above;
  *bytes = buffer;
  return 11;
}

bool wm_codec_value_is(const void *encoded, size_t size, const wm_value *value) {
  const uint8_t *at = encoded;
  uint8_t type = *at++ & 7;
  if (type <= WM_VALUE_REAL && value->type <= WM_VALUE_REAL)
    return compare_numbers(type == WM_VALUE_INT, at, size - 1, value->type == WM_VALUE_INT, value->number,
                           value->payload_size) == 0;
  return type == value->type && size == wm_codec_value_size(value) &&
         (value->payload_size == 0 || memcmp(at, value->bytes, value->payload_size) == 0);
}
