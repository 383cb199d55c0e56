/*
** test_codec.c - SQL values as bytes (ext/codec/codec.h), judged by SQLite itself
**
** Looks for: values that do not come back bit for bit; keys that are equal in SQL and not in bytes, or the reverse; a
** wrong order; a look-alike that a numeric lookup would miss; hostile bytes that pass wm_codec_check and are not what
** the codec writes; reads past the end of hostile bytes (in the address-sanitizer build).
*/
#define SQLITE_CORE 1 /* call SQLite directly, as no extension is loaded here */
#include "codec/codec.c"
#include "codec/codec_check.c"
#include "codec/codec_compare.c"
#include "codec/codec_hash.c"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>

#include <cmocka.h>

static sqlite3 *db;
static int handed_over, let_go_of; /* results of key_of and value_of, and calls of their destructor */

static void count_let_go(void *bytes) {
  (void)bytes;
  let_go_of++;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* The codec as SQL functions                                                                                         */

/* key_bytes(x): the encoded key, then its form. */
static void key_bytes(sqlite3_context *context, int argc, sqlite3_value **argv) {
  (void)argc;
  wm_key key;
  int rc = wm_codec_encode_key(argv[0], &key);
  if (rc != SQLITE_OK) {
    sqlite3_result_error_code(context, rc);
    return;
  }
  uint8_t *bytes = malloc(key.size + 1);
  memcpy(bytes, key.data, key.size);
  bytes[key.size] = key.form;
  sqlite3_result_blob64(context, bytes, key.size + 1, free);
  wm_codec_release_key(&key);
}

/* value_bytes(x): the encoded value, beside a plain key. */
static void value_bytes(sqlite3_context *context, int argc, sqlite3_value **argv) {
  (void)argc;
  wm_value value;
  assert_int_equal(wm_codec_read_value(argv[0], &value), SQLITE_OK);
  size_t size = wm_codec_value_size(&value);
  uint8_t *bytes = malloc(size);
  wm_codec_write_value(&value, WM_FORM_PLAIN, bytes);
  sqlite3_result_blob64(context, bytes, size, free);
}

/*
** key_of(key_bytes) and value_of(value_bytes): the SQL value again, handed over with a destructor. The bytes are
** copied to a block of exactly their size (a sanitizer sees a read past it), which lives until the next call.
*/
static uint8_t *exact;
static const uint8_t *exact_copy(const void *bytes, size_t size) {
  free(exact);
  exact = malloc(size);
  memcpy(exact, bytes, size);
  return exact;
}

static void key_of(sqlite3_context *context, int argc, sqlite3_value **argv) {
  (void)argc;
  size_t size = (size_t)sqlite3_value_bytes(argv[0]) - 1;
  const uint8_t *bytes = sqlite3_value_blob(argv[0]);
  uint8_t header = (uint8_t)(WM_VALUE_NULL | bytes[size] << 3);
  walmap_entry entry = {exact_copy(bytes, size), size, &header, 1};
  handed_over++;
  wm_codec_result_key(context, &entry, count_let_go);
}

static void value_of(sqlite3_context *context, int argc, sqlite3_value **argv) {
  (void)argc;
  size_t size = (size_t)sqlite3_value_bytes(argv[0]);
  walmap_entry entry = {NULL, 0, exact_copy(sqlite3_value_blob(argv[0]), size), size};
  handed_over++;
  wm_codec_result_value(context, &entry, count_let_go);
}

/* The order of two keys by their sort bytes. */
static int compare_sort_keys(const wm_key *a, const wm_key *b) {
  const void *x, *y;
  uint8_t x_buffer[WALMAP_SORT_BUFFER], y_buffer[WALMAP_SORT_BUFFER];
  size_t n = wm_codec_sort_key(a->data, a->size, &x, x_buffer), m = wm_codec_sort_key(b->data, b->size, &y, y_buffer);
  int order = memcmp(x, y, n < m ? n : m);
  order = order != 0 ? order : (n > m) - (n < m);
  return (order > 0) - (order < 0);
}

/* compare(a, b), value_is(a, b): of values, through their bytes. */
static void compare(sqlite3_context *context, int argc, sqlite3_value **argv) {
  (void)argc;
  wm_key a, b;
  assert_int_equal(wm_codec_encode_key(argv[0], &a), SQLITE_OK);
  assert_int_equal(wm_codec_encode_key(argv[1], &b), SQLITE_OK);
  int order = wm_codec_compare_keys(a.data, a.size, b.data, b.size);
  assert_int_equal(order == 0, a.size == b.size && memcmp(a.data, b.data, a.size) == 0);
  uint64_t p = wm_codec_key_prefix(a.data, a.size), q = wm_codec_key_prefix(b.data, b.size);
  assert_true(p == q || (p < q) == (order < 0));
  assert_int_equal(compare_sort_keys(&a, &b), (order > 0) - (order < 0));
  sqlite3_result_int(context, (order > 0) - (order < 0));
  wm_codec_release_key(&a);
  wm_codec_release_key(&b);
}

static void value_is(sqlite3_context *context, int argc, sqlite3_value **argv) {
  (void)argc;
  wm_value a, b;
  assert_int_equal(wm_codec_read_value(argv[0], &a), SQLITE_OK);
  assert_int_equal(wm_codec_read_value(argv[1], &b), SQLITE_OK);
  size_t size = wm_codec_value_size(&a);
  uint8_t *bytes = malloc(size);
  wm_codec_write_value(&a, WM_FORM_REAL, bytes);
  sqlite3_result_int(context, wm_codec_value_is(bytes, size, &b));
  free(bytes);
}

/* numeric(text): wm_codec_looks_numeric. found(number, text): whether a lookup with the number meets the text. */
static void numeric(sqlite3_context *context, int argc, sqlite3_value **argv) {
  (void)argc;
  wm_key key;
  assert_int_equal(wm_codec_encode_key(argv[0], &key), SQLITE_OK);
  sqlite3_result_int(context, wm_codec_looks_numeric(key.data, key.size));
  wm_codec_release_key(&key);
}

static void found(sqlite3_context *context, int argc, sqlite3_value **argv) {
  (void)argc;
  const uint64_t seed = 0x9e3779b97f4a7c15;
  wm_key number, text;
  assert_int_equal(wm_codec_encode_key(argv[0], &number), SQLITE_OK);
  assert_int_equal(wm_codec_encode_key(argv[1], &text), SQLITE_OK);
  uint64_t hashes[WM_LOOKALIKES], hash = wm_codec_hash(text.data, text.size, seed);
  int n = wm_codec_lookalikes(number.data, number.size, seed, hashes);
  assert_in_range(n, 1, WM_LOOKALIKES);
  bool is_found = false;
  for (int i = 0; i < n; i++) {
    is_found |= hashes[i] == hash;
    for (int j = 0; j < i; j++)
      assert_true(hashes[i] != hashes[j]);
  }
  if (number.data[0] == WM_KEY_INT)
    assert_true(hashes[0] == wm_codec_hash(number.data, number.size, seed));
  sqlite3_result_int(context, is_found);
  wm_codec_release_key(&number);
  wm_codec_release_key(&text);
}

static int open_database(const char *encoding) {
  static const struct {
    const char *name;
    int argc;
    void (*call)(sqlite3_context *, int, sqlite3_value **);
  } functions[] = {
      {"key_bytes", 1, key_bytes}, {"value_bytes", 1, value_bytes}, {"key_of", 1, key_of},   {"value_of", 1, value_of},
      {"compare", 2, compare},     {"value_is", 2, value_is},       {"numeric", 1, numeric}, {"found", 2, found}};
  char pragma[64];
  assert_int_equal(sqlite3_open(":memory:", &db), SQLITE_OK);
  snprintf(pragma, sizeof pragma, "PRAGMA encoding = '%s'", encoding);
  assert_int_equal(sqlite3_exec(db, pragma, NULL, NULL, NULL), SQLITE_OK);
  for (size_t i = 0; i < sizeof functions / sizeof functions[0]; i++)
    assert_int_equal(sqlite3_create_function(db, functions[i].name, functions[i].argc, SQLITE_UTF8, NULL,
                                             functions[i].call, NULL, NULL),
                     SQLITE_OK);
  return sqlite3_exec(db, "CREATE TABLE converted(n NUMERIC)", NULL, NULL, NULL);
}

static int close_database(void **state) {
  (void)state;
  free(exact);
  exact = NULL;
  return sqlite3_close(db);
}

static int open_utf8(void **state) {
  (void)state;
  return open_database("UTF-8");
}

static int open_utf16(void **state) {
  (void)state;
  return open_database("UTF-16le");
}

/* The one number that `sql` returns; ?1 and ?2 are bound to the text if it is not NULL. */
static int64_t ask(const char *sql, const char *text, int size) {
  sqlite3_stmt *statement;
  assert_int_equal(sqlite3_prepare_v2(db, sql, -1, &statement, NULL), SQLITE_OK);
  if (text != NULL)
    sqlite3_bind_text(statement, 1, text, size, SQLITE_STATIC);
  if (sqlite3_step(statement) != SQLITE_ROW)
    fail_msg("%s: %s", sql, sqlite3_errmsg(db));
  int64_t answer = sqlite3_column_int64(statement, 0);
  sqlite3_finalize(statement);
  return answer;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Values that differ in as many ways as there are */

static const char *const values[] = {"0",
                                     "0.0",
                                     "-0.0",
                                     "1",
                                     "1.0",
                                     "-1",
                                     "-1.0",
                                     "127",
                                     "128",
                                     "-128",
                                     "-129",
                                     "255",
                                     "256",
                                     "32767",
                                     "32768",
                                     "-32768",
                                     "-32769",
                                     "8388607",
                                     "8388608",
                                     "-8388609",
                                     "2147483647",
                                     "2147483648",
                                     "-2147483649",
                                     "9007199254740991",
                                     "9007199254740992",
                                     "9007199254740993",
                                     "9007199254740992.0",
                                     "9007199254740994.0",
                                     "-9007199254740993",
                                     "-9007199254740992.0",
                                     "4611686018427387904",
                                     "4611686018427387904.0",
                                     "9223372036854775807",
                                     "-9223372036854775808",
                                     "-9223372036854775807",
                                     "9223372036854775807.0",
                                     "9223372036854774784.0",
                                     "-9223372036854775808.0",
                                     "-9223372036854777856.0",
                                     "1e19",
                                     "-1e19",
                                     "1e308",
                                     "-1e308",
                                     "9e999",
                                     "-9e999",
                                     "0.5",
                                     "-0.5",
                                     "1.5",
                                     "-1.5",
                                     "0.1",
                                     "5e-324",
                                     "-5e-324",
                                     "2.2250738585072014e-308",
                                     "''",
                                     "'1'",
                                     "'01'",
                                     "'a'",
                                     "'A'",
                                     "'ab'",
                                     "'a' || char(0)",
                                     "'a' || char(0) || 'b'",
                                     "char(0)",
                                     "char(0,0)",
                                     "char(233)",
                                     "char(128512)",
                                     "printf('%.300c','x')",
                                     "printf('%.255c','x')",
                                     "printf('%.254c','x')",
                                     "x''",
                                     "x'00'",
                                     "x'0000'",
                                     "x'31'",
                                     "x'ff'",
                                     "zeroblob(300)",
                                     "zeroblob(3)"};
static const char *const ill_formed[] = {"CAST(x'ff' AS TEXT)", "CAST(x'c328' AS TEXT)", "CAST(x'61eda080' AS TEXT)",
                                         "CAST(x'ff00fe' AS TEXT)", "CAST(x'f5' AS TEXT)"};
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/*
** Types, bytes and all digits are compared; quote() and printf tell 0.0 from -0.0 no better than = does, so the sign of
** a zero is compared through the encoded bytes.
*/
static void check_round_trip(const char *value) {
  static const char *const ways[][2] = {{"value_of", "value_bytes"}, {"key_of", "key_bytes"}};
  char sql[600];
  for (int i = 0; i < (strcmp(value, "NULL") == 0 ? 1 : 2); i++) {
    snprintf(sql, sizeof sql,
             "SELECT typeof(v) = typeof(b) AND CAST(v AS BLOB) IS CAST(b AS BLOB) AND v IS b AND "
             "value_bytes(v) IS value_bytes(b) FROM (SELECT v, %s(%s(v)) AS b FROM (SELECT %s AS v))",
             ways[i][0], ways[i][1], value);
    if (ask(sql, NULL, 0) != 1)
      fail_msg("%s does not come back from %s", value, ways[i][1]);
    assert_int_equal(handed_over, let_go_of); /* exactly once each */
  }
}

static void test_round_trip(void **state) {
  (void)state;
  for (size_t i = 0; i < COUNT(values); i++)
    check_round_trip(values[i]);
  check_round_trip("NULL");
}

static void test_ill_formed_text(void **state) {
  (void)state;
  for (size_t i = 0; i < COUNT(ill_formed); i++)
    check_round_trip(ill_formed[i]);
}

static void test_refuses_null_key(void **state) {
  (void)state;
  sqlite3_stmt *statement;
  assert_int_equal(sqlite3_prepare_v2(db, "SELECT key_bytes(NULL)", -1, &statement, NULL), SQLITE_OK);
  assert_int_equal(sqlite3_step(statement), SQLITE_CONSTRAINT);
  assert_int_equal(sqlite3_extended_errcode(db), SQLITE_CONSTRAINT_NOTNULL);
  sqlite3_finalize(statement);
}

/* Every pair, against SQLite's own comparison. */
static void test_order(void **state) {
  (void)state;
  for (size_t i = 0; i < COUNT(values); i++) {
    for (size_t j = 0; j < COUNT(values); j++) {
      char sql[400];
      snprintf(sql, sizeof sql,
               "SELECT compare(a, b) = (a > b) - (a < b) AND value_is(a, b) = (a IS b) FROM (SELECT %s AS a, %s AS b)",
               values[i], values[j]);
      if (ask(sql, NULL, 0) != 1)
        fail_msg("%s and %s compare otherwise than in SQLite", values[i], values[j]);
    }
    char sql[200];
    snprintf(sql, sizeof sql, "SELECT value_is(%s, NULL) = 0 AND value_is(NULL, %s) = 0", values[i], values[i]);
    assert_int_equal(ask(sql, NULL, 0), 1);
  }
  assert_int_equal(ask("SELECT value_is(NULL, NULL)", NULL, 0), 1);
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Text that looks like a number                                                                                      */

static uint64_t random_state;

static uint32_t random_below(uint32_t n) {
  random_state = random_state * 6364136223846793005u + 1442695040888963407u;
  return (uint32_t)((random_state >> 33) % n);
}

/*
** SQLite's word on whether a text is a number, and which, is what a NUMERIC column makes of it. Its versions differ on
** text with a NUL inside, which the codec takes for a number when one of them does.
*/
static void check_text(const char *text, int size) {
  sqlite3_int64 ours = ask("SELECT numeric(?1)", text, size);
  sqlite3_int64 theirs = ask("SELECT typeof(n) <> 'text' FROM converted", NULL, 0);
  if (memchr(text, 0, (size_t)size) != NULL ? ours < theirs : ours != theirs)
    fail_msg("'%.*s' looks like a number to one and not to the other", size, text);
  if (ask("SELECT typeof(n) <> 'text' AND NOT found(n, ?1) FROM converted", text, size))
    fail_msg("a lookup with its number does not find '%.*s'", size, text);
}

static void check_as_number(const char *text, int size) {
  assert_int_equal(sqlite3_exec(db, "DELETE FROM converted", NULL, NULL, NULL), SQLITE_OK);
  ask("INSERT INTO converted VALUES(?1) RETURNING 1", text, size);
  check_text(text, size);
}

static void test_lookalikes(void **state) {
  (void)state;
  static const char *const texts[] = {
      "1",
      "01",
      "1.0",
      " 1",
      "1 ",
      "\t\n\v\f\r 1\r",
      "+1",
      "-1",
      "--1",
      "1e0",
      "1E+0",
      "10e-1",
      "0.1e1",
      ".1e1",
      "1.",
      ".",
      "",
      " ",
      "+",
      "e1",
      "1e",
      "1e+",
      "1x",
      "x1",
      "0x1",
      "1_0",
      "1 2",
      "inf",
      "nan",
      "-0",
      "-0.0",
      "0.0",
      "00",
      "1e400",
      "-1e400",
      "1e-400",
      "9223372036854775807",
      "9223372036854775808",
      "-9223372036854775808",
      "-9223372036854775809",
      "18446744073709551615",
      "18446744073709551616",
      "9007199254740993",
      "9007199254740993.0",
      "0.99999999999999999999",
      "6.9999999999999999",
      "123456789012345678.9",
      "70368744177664",
      "70368744177663.9999999999",
      "70368744177664.0",
      "1e22",
      "1e23",
      "1.7976931348623157e308",
      "5e-324",
      "2.2250738585072011e-308",
      "0.1",
      "1e00000000000000000000001",
      "1e99999999999999999999",
      "4.35",
      "2460000.123456",
      "0.00000000000000000000000000000000000000000000000000000000000000000000000000000000001e83",
      "10000000000000000000000000000000000000000000000000000000000000000000000000000000000000e-86"};
  for (size_t i = 0; i < COUNT(texts); i++)
    check_as_number(texts[i], (int)strlen(texts[i]));
  check_as_number("1\0", 2);
  check_as_number("1\0"
                  "2",
                  3);
}

static void test_random_lookalikes(void **state) {
  (void)state;
  static const char alphabet[] = "0123456789012345678900++--..eE \t\nx";
  char text[64];
  for (int i = 0; i < 20000; i++) {
    int size = 0;
    if (random_below(2) == 0) { /* a number, spelt at random */
      size = snprintf(text, sizeof text, "%s%u%0*d.%u%se%d%s", random_below(2) ? "-" : "", random_below(1000000000),
                      (int)random_below(12), 7, random_below(1000000000), random_below(2) ? "000" : "",
                      (int)random_below(700) - 350, random_below(2) ? " " : "");
    } else { /* mostly nonsense */
      for (int n = (int)random_below(8); size < n; size++)
        text[size] = alphabet[random_below(sizeof alphabet - 1)];
    }
    check_as_number(text, size);
  }
}

/* One seed's hashes say nothing of another's, look-alikes included: a flood must not be prepared in advance. */
/* Digits are read eight at a time: each byte in each place among digits, and one digit for another. */
static void test_one_byte_among_digits(void **state) {
  (void)state;
  for (int len = 1; len <= 20; len++) {
    char text[20];
    for (int at = 0; at < len; at++) {
      for (int byte = 0; byte < 256; byte++) {
        for (int i = 0; i < len; i++)
          text[i] = (char)('0' + (7 * i + at + byte) % 10);
        text[at] = (char)byte;
        check_as_number(text, len);
      }
    }
  }
}

static void test_hash_is_seeded(void **state) {
  (void)state;
  static const uint8_t keys[][9] = {
      {WM_KEY_INT, 7}, {WM_KEY_TEXT, 'a', 0}, {WM_KEY_TEXT, '7', 0}, {WM_KEY_TEXT, '.', '3', 0}};
  static const size_t sizes[] = {2, 3, 3, 4};
  for (size_t i = 0; i < COUNT(sizes); i++)
    assert_true(wm_codec_hash(keys[i], sizes[i], 1) != wm_codec_hash(keys[i], sizes[i], 2));
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Hostile bytes                                                                                                      */

/* Whether the entry is accepted; if so, its key and value must survive SQL with the same bytes. */
static bool check_entry(const uint8_t *key, size_t key_size, const uint8_t *value, size_t value_size) {
  uint8_t *k = malloc(key_size + 1), *v = malloc(value_size + 1);
  /* At the end of their blocks, so that a sanitizer sees a read past them. */
  memcpy(k + 1, key, key_size);
  memcpy(v + 1, value, value_size);
  walmap_entry entry = {k + 1, key_size, v + 1, value_size};
  const char *wrong = wm_codec_check(NULL, &entry);
  wm_codec_hash(entry.key, key_size, 1);
  if (wrong == NULL) {
    sqlite3_stmt *statement;
    uint8_t with_form[64];
    memcpy(with_form, key, key_size);
    with_form[key_size] = wm_codec_entry_form(&entry);
    uint8_t plain[64];
    memcpy(plain, value, value_size);
    plain[0] &= 7;
    assert_int_equal(sqlite3_prepare_v2(db, "SELECT key_bytes(key_of(?1)) IS ?1 AND value_bytes(value_of(?2)) IS ?2",
                                        -1, &statement, NULL),
                     SQLITE_OK);
    sqlite3_bind_blob(statement, 1, with_form, (int)key_size + 1, SQLITE_STATIC);
    sqlite3_bind_blob(statement, 2, plain, (int)value_size, SQLITE_STATIC);
    assert_int_equal(sqlite3_step(statement), SQLITE_ROW);
    assert_int_equal(sqlite3_column_int(statement, 0), 1);
    sqlite3_finalize(statement);
  }
  free(k);
  free(v);
  return wrong == NULL;
}

static void test_hostile_entries(void **state) {
  (void)state;
#define BYTES(...) (const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__})
  static const uint8_t null_value[] = {WM_VALUE_NULL};
  assert_true(check_entry(BYTES(1), null_value, 1));
  assert_true(check_entry(BYTES(1, 5), BYTES(WM_VALUE_NULL | WM_FORM_REAL << 3)));
  assert_true(check_entry(BYTES(1), BYTES(WM_VALUE_NULL | WM_FORM_MINUS << 3)));
  assert_true(check_entry(BYTES(3, 0), BYTES(WM_VALUE_TEXT, 0)));
  assert_true(check_entry(BYTES(3, 0, 0), BYTES(WM_VALUE_NULS | WM_FORM_NULS << 3, 0, 0)));

  assert_false(check_entry(BYTES(1), BYTES(0))); /* types */
  assert_false(check_entry(BYTES(1), BYTES(7)));
  assert_false(check_entry(BYTES(0), null_value, 1));
  assert_false(check_entry(BYTES(5), null_value, 1));
  assert_false(check_entry(BYTES(1), BYTES(WM_VALUE_NULL | 0x20))); /* header bits */
  assert_false(check_entry(BYTES(1), BYTES(WM_VALUE_NULL | 0x80)));
  assert_false(check_entry(BYTES(1, 0), null_value, 1)); /* non-minimal integers */
  assert_false(check_entry(BYTES(1, 5, 0), null_value, 1));
  assert_false(check_entry(BYTES(1, 0x80, 0xff), null_value, 1));
  assert_false(check_entry(BYTES(1, 1, 2, 3, 4, 5, 6, 7, 8, 9), null_value, 1));
  assert_false(check_entry(BYTES(1), BYTES(WM_VALUE_INT, 0)));
  assert_false(check_entry(BYTES(2, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f), null_value, 1)); /* 1.0 as a real key */
  assert_false(check_entry(BYTES(2, 0, 0, 0, 0, 0, 0, 0, 0x80), null_value, 1));    /* -0.0 */
  assert_false(check_entry(BYTES(2, 1, 0, 0, 0, 0, 0, 0xf8, 0x7f), null_value, 1)); /* NaN */
  assert_false(check_entry(BYTES(1), BYTES(2, 1, 0, 0, 0, 0, 0, 0xf8, 0xff)));
  assert_false(check_entry(BYTES(2, 1, 2, 3), null_value, 1)); /* sizes */
  assert_false(check_entry(BYTES(1), BYTES(WM_VALUE_REAL, 1, 2, 3)));
  assert_false(check_entry(BYTES(1), BYTES(WM_VALUE_NULL, 0)));
  assert_false(check_entry(BYTES(3), null_value, 1)); /* NULs */
  assert_false(check_entry(BYTES(3, 'a'), null_value, 1));
  assert_false(check_entry(BYTES(3, 0, 'a', 0), null_value, 1));
  assert_false(check_entry(BYTES(3, 'a', 0), BYTES(WM_VALUE_NULL | WM_FORM_NULS << 3)));
  assert_false(check_entry(BYTES(1), BYTES(WM_VALUE_TEXT, 'a')));
  assert_false(check_entry(BYTES(1), BYTES(WM_VALUE_TEXT)));
  assert_false(check_entry(BYTES(1), BYTES(WM_VALUE_TEXT, 0, 0)));
  assert_false(check_entry(BYTES(1), BYTES(WM_VALUE_NULS, 'a', 0)));
  assert_false(check_entry(BYTES(1, 1), BYTES(WM_VALUE_NULL | WM_FORM_MINUS << 3))); /* forms */
  assert_false(check_entry(BYTES(1, 1), BYTES(WM_VALUE_NULL | WM_FORM_NULS << 3)));
  assert_false(check_entry(BYTES(3, 0), BYTES(WM_VALUE_NULL | WM_FORM_REAL << 3)));
  assert_false(check_entry(BYTES(4, 0), BYTES(WM_VALUE_NULL | WM_FORM_NULS << 3)));
  assert_false(check_entry(BYTES(1, 1, 0, 0, 0, 0, 0, 0x20), BYTES(WM_VALUE_NULL | WM_FORM_REAL << 3))); /* 2^53 + 1 */
  assert_false(check_entry(BYTES(1, 255, 255, 255, 255, 255, 255, 255, 127), BYTES(WM_VALUE_NULL | WM_FORM_REAL << 3)));
  assert_false(check_entry((const uint8_t *)"", 0, null_value, 1)); /* nothing */
  assert_false(check_entry(BYTES(1), (const uint8_t *)"", 0));
}

static void test_random_entries(void **state) {
  (void)state;
  static const uint8_t common[] = {0, 1, 2, 3, 4, 5, 6, 0x0d, 0x15, 0x1e, 0x1d, 0x3f, 0x7f, 0x80, 0xf0, 0xf8, 0xff};
  int accepted = 0;
  for (int i = 0; i < 200000; i++) {
    uint8_t bytes[2][12];
    size_t sizes[2];
    for (int j = 0; j < 2; j++) {
      sizes[j] = random_below(12);
      for (size_t k = 0; k < sizes[j]; k++)
        bytes[j][k] = random_below(3) == 0 ? (uint8_t)random_below(256) : common[random_below(sizeof common)];
    }
    accepted += check_entry(bytes[0], sizes[0], bytes[1], sizes[1]);
  }
  assert_in_range(accepted, 100, 199999); /* the test has met both kinds */
}

int main(void) {
  const char *given = getenv("SEED");
  random_state = given != NULL ? strtoull(given, NULL, 10) : (uint64_t)time(NULL);
  printf("seed %llu (repeat with SEED=)\n", (unsigned long long)random_state);
#define EACH(test) cmocka_unit_test_setup_teardown(test, open_utf8, close_database)
#define EACH_UTF16(test)                                                                                               \
  { #test " (UTF-16)", test, open_utf16, close_database, NULL }
  const struct CMUnitTest tests[] = {
      EACH(test_round_trip),
      EACH_UTF16(test_round_trip),
      EACH(test_ill_formed_text),
      EACH(test_refuses_null_key),
      EACH(test_order),
      EACH(test_lookalikes),
      EACH_UTF16(test_lookalikes),
      EACH(test_random_lookalikes),
      EACH(test_one_byte_among_digits),
      EACH(test_hash_is_seeded),
      EACH(test_hostile_entries),
      EACH(test_random_entries),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
