/*
** codec_hash.c - the hash of keys, and which hashes the look-alikes of a number have: see codec.h for the purpose
**
** A text that looks like a number has the hash of a class, and a lookup with a number walks the classes in which its
** look-alikes can be.
**
**    text                                                 class
**    an integer that fits 64 bits ('7', '-07', ' 7 ')     that integer
**    any other number, within INT_REACH of an integer     that integer
**    below 2^46 ('7.0', '7e0', '6.9999999999999999')
**    any other number ('7.5', '1e300')                    its cell: the real with its CELL_BITS lowest bits cut off
**
** The class of an integer is the hash of the integer's own key: of its 64 bits.
**
** Why cells: a key is equal to a number if SQLite's conversion of its text gives that number, and SQLite's conversion
** is not the C library's. Both are near the exact value: strtod to half a unit in the last place (ulp), SQLite to less
** than ERROR_ULPS (its worst case: SQLite before 3.43 where long double is no wider than double, and huge exponents).
** So SQLite's number for a text lies within ERROR_ULPS of the number computed here, and a lookup that visits every
** class with a member that near misses no key.
*/
#include "base/bytes.h"
#include "codec/codec.h"
#include "codec/codec_number.h"
#include <stdlib.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#define ERROR_ULPS 16
#define INT_REACH (2 * ERROR_ULPS)
#define CELL_BITS 7
#define CELL_SEED UINT64_C(0x9E3779B97F4A7C15)
#define SMALL_INT ((int64_t)1 << 46)

/* ------------------------------------------------------------------------------------------------------------------ */
/* Text that looks like a number: the rule of SQLite's sqlite3AtoF */

#define MAX_DIGITS 40         /* more do not change the nearest real by half an ulp */
#define MAX_EXPONENT 10000    /* SQLite's own bound on a written exponent */
#define CERTAIN_EXPONENT 2000 /* beyond it MAX_DIGITS digits are 0 or infinity */

typedef struct number {
  bool is_int;
  bool negative;
  uint64_t magnitude; /* of an integer */
  double real;        /* else: not negative */
} number;

static inline bool is_digit(uint8_t c) { return (unsigned)c - '0' <= 9; }
static inline bool is_space(uint8_t c) { return c == ' ' || (unsigned)c - '\t' <= '\r' - '\t'; }

/* Every character that can start a number is below ':', so this one test excludes nearly all other text. */
static inline bool may_start_number(const uint8_t *text, size_t size) { return size > 0 && text[0] <= '9'; }

/* The decimal digits of a real while it is read: digits x 10^exponent. */
typedef struct decimal {
  char digits[MAX_DIGITS];
  int n;
  int64_t exponent;
} decimal;

static void take_digit(decimal *d, uint8_t c, bool in_fraction) {
  bool is_leading_zero = d->n == 0 && c == '0';
  bool is_kept = !is_leading_zero && d->n < MAX_DIGITS;
  if (is_kept)
    d->digits[d->n++] = (char)c;
  if (in_fraction && (is_kept || is_leading_zero))
    d->exponent--;
  else if (!in_fraction && !is_kept && !is_leading_zero)
    d->exponent++;
}

/* The nearest real. The text for strtod has no decimal point, so strtod reads it the same in every locale. */
static double decimal_to_real(const decimal *d) {
  if (d->n == 0)
    return 0;
  char text[MAX_DIGITS + 8];
  memcpy(text, d->digits, (size_t)d->n);
  int exponent = (int)(d->exponent > CERTAIN_EXPONENT    ? CERTAIN_EXPONENT
                       : d->exponent < -CERTAIN_EXPONENT ? -CERTAIN_EXPONENT
                                                         : d->exponent);
  char *at = text + d->n;
  *at++ = 'e';
  *at++ = exponent < 0 ? '-' : '+';
  unsigned rest = (unsigned)(exponent < 0 ? -exponent : exponent);
  for (unsigned unit = 1000; unit > 0; unit /= 10)
    *at++ = (char)('0' + rest / unit % 10);
  *at = 0;
  return strtod(text, NULL);
}

/*
** [sign] digits [. digits] [e [sign] digits], at least one digit before the exponent, space around. Characters behind a
** NUL do not count, as in SQLite 3.53, which makes a real of such a text, digits alone included: '74185296307418529'
** with a NUL behind is 74185296307418528 there. In 3.40 a text with a NUL is no number. One look-alike too many does no
** harm, because SQLite compares again; one too few would be missed.
*/
static bool parse_number(const uint8_t *at, size_t size, number *out) {
  const uint8_t *nul = memchr(at, 0, size), *end = nul != NULL ? nul : at + size;
  while (at < end && is_space(*at))
    at++;
  while (end > at && is_space(end[-1]))
    end--;
  out->negative = at < end && *at == '-';
  if (at < end && (*at == '-' || *at == '+'))
    at++;

  const uint8_t *start = at;
  uint64_t magnitude = 0;
  bool overflow = false;
  for (; at < end && is_digit(*at); at++) {
    overflow |= magnitude > (UINT64_MAX - 9) / 10;
    magnitude = magnitude * 10 + (*at - '0');
  }
  size_t whole_digits = (size_t)(at - start);
  if (at == end && nul == NULL && whole_digits > 0 && !overflow && magnitude <= (uint64_t)INT64_MAX + out->negative) {
    out->is_int = true;
    out->magnitude = magnitude;
    return true;
  }

  const uint8_t *fraction = at, *fraction_end = at;
  if (at < end && *at == '.') {
    fraction = ++at;
    while (at < end && is_digit(*at))
      at++;
    fraction_end = at;
  }
  if (whole_digits == 0 && fraction == fraction_end)
    return false;
  int64_t exponent = 0;
  if (at < end && (*at == 'e' || *at == 'E')) {
    at++;
    bool is_negative = at < end && *at == '-';
    if (at < end && (*at == '-' || *at == '+'))
      at++;
    if (at == end)
      return false;
    for (; at < end && is_digit(*at); at++)
      exponent = exponent < MAX_EXPONENT ? exponent * 10 + (*at - '0') : MAX_EXPONENT;
    exponent = is_negative ? -exponent : exponent;
  }
  if (at != end)
    return false;

  decimal d = {.n = 0, .exponent = exponent};
  for (const uint8_t *p = start; p < start + whole_digits; p++)
    take_digit(&d, *p, false);
  for (const uint8_t *p = fraction; p < fraction_end; p++)
    take_digit(&d, *p, true);
  out->is_int = false;
  out->real = decimal_to_real(&d);
  return true;
}

/*
** 4 to 8 digits at once; false when one character is no digit. After D. Lemire, "Quickly parsing eight digits" (2018).
*/
static inline bool read_digits(const uint8_t *at, size_t size, uint64_t *magnitude) {
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
  unsigned missing = 8 * (8 - (unsigned)size); /* bits, which become zeros in front: '0' is 0x30 */
  uint64_t zeros = UINT64_C(0x3030303030303030), front = (uint64_t)walmap__word4(at) << missing & UINT32_MAX;
  uint64_t word = (uint64_t)walmap__word4(at + size - 4) << 32 | front | (zeros & ~(UINT64_MAX << missing));
  if ((word & (word + UINT64_C(0x0606060606060606)) & UINT64_C(0xF0F0F0F0F0F0F0F0)) != zeros)
    return false;
  word = (word & UINT64_C(0x0F0F0F0F0F0F0F0F)) * 2561 >> 8;
  word = (word & UINT64_C(0x00FF00FF00FF00FF)) * 6553601 >> 16;
  *magnitude = (word & UINT64_C(0x0000FFFF0000FFFF)) * UINT64_C(42949672960001) >> 32;
  return true;
#else
  (void)at, (void)size, (void)magnitude;
  return false;
#endif
}

/*
** A quick look at text that begins with a digit. DIGITS: digits only, few enough to fit, *magnitude is set. NO_NUMBER.
** PERHAPS: parse_number decides. Most text is decided here: dates, hexadecimal, words behind a number.
*/
typedef enum shape { NO_NUMBER, DIGITS, PERHAPS } shape;

static inline shape glance_at(const uint8_t *at, size_t size, uint64_t *magnitude) {
  enum { FIT = 18 };
  if (!may_start_number(at, size))
    return NO_NUMBER;
  if (size >= 4 && size <= 8 && read_digits(at, size, magnitude))
    return DIGITS;
  uint64_t value = 0;
  for (size_t i = 0; i < size; i++) {
    uint8_t c = at[i];
    if (!is_digit(c)) /* behind digits only these go on with a number */
      return i == 0 || c == '.' || c == 'e' || c == 'E' || c == 0 || is_space(c) ? PERHAPS : NO_NUMBER;
    value = value * 10 + (c - '0'); /* may overflow where it is not used */
  }
  *magnitude = value;
  return size <= FIT ? DIGITS : PERHAPS;
}

/*
** The key begins with its tag and ends with a NUL. An image's keys are hashed before they are checked: so test the
** size.
*/
static inline shape glance_at_key(const uint8_t *key, size_t key_size, uint64_t *magnitude) {
  return key_size >= 2 && key[0] == WM_KEY_TEXT ? glance_at(key + 1, key_size - 2, magnitude) : NO_NUMBER;
}

bool wm_codec_looks_numeric(const void *key, size_t key_size) {
  const uint8_t *at = key;
  number number;
  shape shape = glance_at_key(at, key_size, &number.magnitude);
  return shape == DIGITS || (shape == PERHAPS && parse_number(at + 1, key_size - 2, &number));
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Classes                                                                                                            */

/* Flat, or XXH3 for any length is called. */
static WALMAP__FLATTEN uint64_t hash_word(uint64_t word, uint64_t seed) { return XXH3_64bits_withSeed(&word, 8, seed); }

static uint64_t hash_int(int64_t integer, uint64_t seed) { return hash_word((uint64_t)integer, seed); }

/* Apart from the integers by its seed. */
static uint64_t hash_cell(bool negative, uint64_t cell, uint64_t seed) {
  return hash_word(cell, seed ^ (negative ? CELL_SEED : ~CELL_SEED));
}

/* Whether an integer below SMALL_INT lies within `reach` ulps of a real that is not negative, and which. */
static bool near_int(double real, uint64_t reach, int64_t *integer) {
  if (!(real < (double)SMALL_INT))
    return false;
  *integer = (int64_t)(real + 0.5);
  uint64_t a = wm_number_bits(real), b = wm_number_bits((double)*integer);
  return (a > b ? a - b : b - a) <= reach;
}

static uint64_t hash_number(const number *n, uint64_t seed) {
  int64_t integer;
  if (n->is_int) /* the subtraction is unsigned: -2^63 has no positive counterpart */
    return hash_int((int64_t)(n->negative ? 0 - n->magnitude : n->magnitude), seed);
  if (near_int(n->real, INT_REACH, &integer))
    return hash_int(n->negative ? -integer : integer, seed);
  return hash_cell(n->negative, wm_number_bits(n->real) >> CELL_BITS, seed);
}

uint64_t wm_codec_hash(const void *key, size_t key_size, uint64_t seed) {
  const uint8_t *at = key;
  number number;
  shape shape = glance_at_key(at, key_size, &number.magnitude);
  if (shape == DIGITS)
    return hash_int((int64_t)number.magnitude, seed);
  if (shape == PERHAPS && parse_number(at + 1, key_size - 2, &number))
    return hash_number(&number, seed);
  if (key_size >= 1 && at[0] == WM_KEY_INT && key_size <= 1 + 8)
    return hash_int(wm_number_load_int(at + 1, key_size - 1), seed);
  return walmap_xxh3(key, key_size, seed);
}

int wm_codec_lookalikes(const void *key, size_t key_size, uint64_t seed, uint64_t hashes[WM_LOOKALIKES]) {
  const uint8_t *at = key;
  bool is_int = at[0] == WM_KEY_INT;
  int64_t integer = is_int ? wm_number_load_int(at + 1, key_size - 1) : 0;
  double real = is_int ? (double)integer : wm_number_load_real(at + 1);
  bool negative = real < 0;
  double magnitude = negative ? -real : real;
  int n = 0;
  if (is_int) {
    hashes[n++] = hash_int(integer, seed);
    if (magnitude < (double)SMALL_INT)
      return n; /* all texts within ERROR_ULPS are in its class */
  } else if (near_int(magnitude, INT_REACH + ERROR_ULPS, &integer)) {
    hashes[n++] = hash_int(negative ? -integer : integer, seed);
  }
  uint64_t bits = wm_number_bits(magnitude);
  uint64_t low = (bits > ERROR_ULPS ? bits - ERROR_ULPS : 0) >> CELL_BITS, high = (bits + ERROR_ULPS) >> CELL_BITS;
  hashes[n++] = hash_cell(negative, low, seed);
  if (high != low)
    hashes[n++] = hash_cell(negative, high, seed);
  return n;
}
