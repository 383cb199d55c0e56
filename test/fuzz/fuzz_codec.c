/*
** fuzz_codec.c - attacks: codec.h's rules for the bytes of keys and values, SQLite being the judge
**
** An input is one byte, the mode, and either two SQL values or the bytes of an entry.
**
** Mode bit 0 clear, held for any two values x and y:
**   - the bytes of the keys are equal exactly when x IS y, and are ordered as x and y are
**   - wm_codec_value_is(x, y) is x IS y
**   - what was encoded passes wm_codec_check, and comes back with its type and bits, as a result and as a parameter
**   - if x as a number equals y, y a text, then y looks numeric and its hash is among x's look-alikes
** Mode bit 0 set, held for any entry that wm_codec_check takes: encoding what it decodes to gives its bytes again.
*/
#include "sql_kit.h"

#include "codec/codec.h"

/* ------------------------------------------------------------------------------------------------------------------ */
/* Encoding                                                                                                           */

/* An entry, in memory of its exact size. */
typedef struct encoded {
  walmap_entry entry;
  uint8_t *key, *value;
} encoded;

static uint8_t *exact_copy(const void *from, size_t size) {
  uint8_t *copy = malloc(size);
  MUST(copy != NULL || size == 0);
  if (size > 0)
    memcpy(copy, from, size);
  return copy;
}

static encoded encode(sqlite3_value *key, sqlite3_value *value) {
  encoded e;
  wm_key k;
  wm_value v;
  MUST(wm_codec_encode_key(key, &k) == SQLITE_OK);
  MUST(wm_codec_read_value(value, &v) == SQLITE_OK);
  e.key = exact_copy(k.data, k.size);
  e.value = malloc(wm_codec_value_size(&v));
  MUST(e.value != NULL);
  wm_codec_write_value(&v, k.form, e.value);
  e.entry = (walmap_entry){e.key, k.size, e.value, wm_codec_value_size(&v)};
  wm_codec_release_key(&k);
  return e;
}

static void let_go(encoded *e) {
  free(e->key);
  free(e->value);
}

static bool same_bytes(const void *a, size_t a_size, const void *b, size_t b_size) {
  return a_size == b_size && memcmp(a, b, a_size) == 0;
}

/* Of the same type and bits. */
static bool same_value(sqlite3_value *a, sqlite3_value *b) {
  int type = sqlite3_value_type(a);
  if (sqlite3_value_type(b) != type)
    return false;
  if (type == SQLITE_INTEGER)
    return sqlite3_value_int64(a) == sqlite3_value_int64(b);
  if (type == SQLITE_FLOAT) {
    double x = sqlite3_value_double(a), y = sqlite3_value_double(b);
    return memcmp(&x, &y, sizeof x) == 0;
  }
  const void *x = sqlite3_value_blob(a), *y = sqlite3_value_blob(b);
  size_t size = (size_t)sqlite3_value_bytes(a);
  return size == (size_t)sqlite3_value_bytes(b) && (size == 0 || memcmp(x, y, size) == 0);
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* The codec as SQL functions                                                                                         */

static sqlite3 *db;
static sqlite3_stmt *compare_two, *give_back, *bound;
static walmap_entry given; /* what given_key() and given_value() return */

static void given_key(sqlite3_context *context, int argc, sqlite3_value **argv) {
  (void)argc, (void)argv;
  wm_codec_result_key(context, &given, SQLITE_TRANSIENT);
}

static void given_value(sqlite3_context *context, int argc, sqlite3_value **argv) {
  (void)argc, (void)argv;
  wm_codec_result_value(context, &given, SQLITE_TRANSIENT);
}

/* judge(x, y, x IS y, x < y, x as a number = y): what must hold of two keys. NULLs are values only. */
static void judge(sqlite3_context *context, int argc, sqlite3_value **argv) {
  (void)context, (void)argc;
  bool are_equal = sqlite3_value_int(argv[2]), is_less = sqlite3_value_int(argv[3]);
  encoded x = encode(argv[0], argv[0]), y = encode(argv[1], argv[1]);
  MUST(same_bytes(x.key, x.entry.key_len, y.key, y.entry.key_len) == are_equal);
  int order = wm_codec_compare_keys(x.key, x.entry.key_len, y.key, y.entry.key_len);
  MUST((order == 0) == are_equal && (order < 0) == is_less);
  uint64_t p = wm_codec_key_prefix(x.key, x.entry.key_len), q = wm_codec_key_prefix(y.key, y.entry.key_len);
  MUST(p == q || (p < q) == is_less);
  if (are_equal)
    MUST(wm_codec_hash(x.key, x.entry.key_len, 1) == wm_codec_hash(y.key, y.entry.key_len, 1));
  if (sqlite3_value_int(argv[4]) && wm_codec_key_is_number(x.key) && wm_codec_key_is_text(y.key)) {
    uint64_t hashes[WM_LOOKALIKES], hash = wm_codec_hash(y.key, y.entry.key_len, 1);
    bool is_found = false;
    for (int n = wm_codec_lookalikes(x.key, x.entry.key_len, 1, hashes); n > 0; n--)
      is_found |= hashes[n - 1] == hash;
    MUST(is_found && wm_codec_looks_numeric(y.key, y.entry.key_len));
  }
  let_go(&x);
  let_go(&y);
}

/* judge_values(x, y, x IS y) */
static void judge_values(sqlite3_context *context, int argc, sqlite3_value **argv) {
  (void)context, (void)argc;
  wm_value x, y;
  MUST(wm_codec_read_value(argv[0], &x) == SQLITE_OK && wm_codec_read_value(argv[1], &y) == SQLITE_OK);
  uint8_t *bytes = malloc(wm_codec_value_size(&x));
  MUST(bytes != NULL);
  wm_codec_write_value(&x, WM_FORM_PLAIN, bytes);
  MUST(wm_codec_value_is(bytes, wm_codec_value_size(&x), &y) == (sqlite3_value_int(argv[2]) != 0));
  free(bytes);
}

static void define(const char *name, int arguments, void (*function)(sqlite3_context *, int, sqlite3_value **)) {
  MUST(sqlite3_create_function(db, name, arguments, SQLITE_UTF8, NULL, function, NULL, NULL) == SQLITE_OK);
}

static void open_once(void) {
  if (db != NULL)
    return;
  db = open_walmap();
  define("given_key", 0, given_key);
  define("given_value", 0, given_value);
  define("judge", 5, judge);
  define("judge_values", 3, judge_values);
  compare_two =
      prepare_sql(db, "SELECT judge_values(?1, ?2, ?1 IS ?2), CASE WHEN ?1 IS NOT NULL AND ?2 IS NOT NULL THEN "
                      "judge(?1, ?2, ?1 IS ?2, ?1 < ?2, CAST(?1 AS NUMERIC) = ?2) END");
  give_back = prepare_sql(db, "SELECT given_key(), given_value()");
  bound = prepare_sql(db, "SELECT ?1, ?2");
}

/* Runs a query of one row; its two columns are there until the query is reset. */
static void step_to_row(sqlite3_stmt *query) { must_sql(db, sqlite3_step(query) == SQLITE_ROW, sqlite3_sql(query)); }

/* ------------------------------------------------------------------------------------------------------------------ */
/* Two values                                                                                                         */

typedef struct reader {
  const uint8_t *at, *end;
} reader;

/* Up to 8 bytes as a number. */
static uint64_t take(reader *from, size_t bytes) {
  uint64_t number = 0;
  for (size_t i = 0; i < bytes && from->at < from->end; i++)
    number |= (uint64_t)*from->at++ << 8 * i;
  return number;
}

enum { TAKE_INT, TAKE_SMALL, TAKE_REAL, TAKE_REAL_OF_INT, TAKE_TEXT, TAKE_LOOKALIKE, TAKE_BLOB, TAKE_ZEROS, TAKE_NULL };

/* One of many spellings of a number, as text. */
static void bind_lookalike(sqlite3_stmt *query, int index, uint64_t spelling, sqlite3_value *of) {
  static const char *const of_int[] = {"%lld", " %lld ", "%lld.0", "0%lld", "+%lld", "%lldE0", "%lld0e-1", "%lld.0e+0"};
  static const char *const of_real[] = {"%!.17g",    "%!.15g",  "\t%!.17e", "%!.20f",
                                        "0%!.17g\n", "+%!.17g", "%!.19e",   "%!.26g"};
  char *text = sqlite3_value_type(of) == SQLITE_INTEGER
                   ? sqlite3_mprintf(of_int[spelling % 8], sqlite3_value_int64(of))
                   : sqlite3_mprintf(of_real[spelling % 8], sqlite3_value_double(of));
  MUST(text != NULL && sqlite3_bind_text(query, index, text, -1, sqlite3_free) == SQLITE_OK);
}

/* The next value of the input, bound to parameter `index`. */
static void bind_next(sqlite3_stmt *query, int index, reader *from, sqlite3_value *earlier) {
  uint64_t kind = take(from, 1) % (TAKE_NULL + 1), number;
  double real;
  size_t size;
  switch (kind) {
  case TAKE_INT:
    sqlite3_bind_int64(query, index, (sqlite3_int64)take(from, 8));
    return;
  case TAKE_SMALL:
    sqlite3_bind_int64(query, index, (int8_t)take(from, 1));
    return;
  case TAKE_REAL:
    number = take(from, 8);
    memcpy(&real, &number, sizeof real);
    sqlite3_bind_double(query, index, real); /* NaN is NULL */
    return;
  case TAKE_REAL_OF_INT:
    sqlite3_bind_double(query, index, (double)(int64_t)take(from, 8));
    return;
  case TAKE_LOOKALIKE:
    if (earlier != NULL)
      bind_lookalike(query, index, take(from, 1), earlier);
    else
      sqlite3_bind_null(query, index);
    return;
  case TAKE_TEXT:
  case TAKE_BLOB:
    size = (size_t)take(from, 1);
    if (size > (size_t)(from->end - from->at))
      size = (size_t)(from->end - from->at);
    if (kind == TAKE_TEXT)
      sqlite3_bind_text64(query, index, (const char *)from->at, size, SQLITE_TRANSIENT, SQLITE_UTF8);
    else
      sqlite3_bind_blob64(query, index, from->at, size, SQLITE_TRANSIENT);
    from->at += size;
    return;
  case TAKE_ZEROS:
    sqlite3_bind_zeroblob(query, index, (int)take(from, 2));
    return;
  default:
    sqlite3_bind_null(query, index);
    return;
  }
}

/* A value of the input; `earlier`, which may be NULL, is what a look-alike looks like. */
static sqlite3_value *take_value(reader *from, sqlite3_value *earlier) {
  bind_next(bound, 1, from, earlier);
  step_to_row(bound);
  sqlite3_value *value = sqlite3_value_dup(sqlite3_column_value(bound, 0));
  MUST(value != NULL);
  sqlite3_reset(bound);
  return value;
}

/* The two columns of the query are the value that was encoded, twice. */
static void must_be_back(sqlite3_stmt *query, sqlite3_value *key, sqlite3_value *value) {
  step_to_row(query);
  MUST(same_value(sqlite3_column_value(query, 0), key) && same_value(sqlite3_column_value(query, 1), value));
  sqlite3_reset(query);
}

static void check_values(reader from) {
  sqlite3_value *x = take_value(&from, NULL);
  sqlite3_value *y = take_value(&from, x);
  MUST(sqlite3_bind_value(compare_two, 1, x) == SQLITE_OK && sqlite3_bind_value(compare_two, 2, y) == SQLITE_OK);
  step_to_row(compare_two);
  sqlite3_reset(compare_two);
  if (sqlite3_value_type(x) != SQLITE_NULL) {
    encoded e = encode(x, y);
    MUST(wm_codec_check(NULL, &e.entry) == NULL && wm_codec_check_key(e.key, e.entry.key_len) == NULL);
    given = e.entry;
    must_be_back(give_back, x, y);
    MUST(wm_codec_bind(bound, 1, &e.entry) == SQLITE_OK);
    must_be_back(bound, x, y);
    sqlite3_clear_bindings(bound);
    let_go(&e);
  }
  sqlite3_value_free(x);
  sqlite3_value_free(y);
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* The bytes of an entry                                                                                              */

static void check_bytes(reader from) {
  size_t key_len = (size_t)take(&from, 1), left = (size_t)(from.end - from.at);
  if (key_len > left)
    key_len = left;
  uint8_t *key = exact_copy(from.at, key_len), *value = exact_copy(from.at + key_len, left - key_len);
  given = (walmap_entry){key, key_len, value, left - key_len};
  if (wm_codec_check(NULL, &given) == NULL) {
    MUST(wm_codec_check_key(key, key_len) == NULL);
    step_to_row(give_back);
    encoded again = encode(sqlite3_column_value(give_back, 0), sqlite3_column_value(give_back, 1));
    MUST(same_bytes(key, given.key_len, again.key, again.entry.key_len));
    MUST(same_bytes(value, given.value_len, again.value, again.entry.value_len));
    sqlite3_reset(give_back);
    let_go(&again);
  }
  (void)wm_codec_check_key(key, key_len); /* of a removed key: reads no further than it is long */
  free(key);
  free(value);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (size == 0)
    return 0;
  open_once();
  reader from = {data + 1, data + size};
  if (data[0] & 1)
    check_bytes(from);
  else
    check_values(from);
  return 0;
}
