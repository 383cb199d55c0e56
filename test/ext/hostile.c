/*
** hostile.c - images and changes that are whole, checksums and all, and hold what the extension would never write; and
** hosts that allow less (SQLITE_LIMIT_LENGTH) than is in the map
**
** Looks for: an entry that walmap_restore, walmap_each or walmap_apply takes though codec.h forbids it, a map that is
** changed by what is refused, a value longer than the host allows that is written or read all the same, a crash on the
** way (in the address-sanitizer build). Images and changes are made with the C library, which takes any bytes.
*/
#include "walmap.h"

#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define CONTENT_SQL 1 /* WM_CONTENT_SQL of ext/codec/codec.h */

static sqlite3 *db;
static int passed, failed;

static void judge(bool ok, const char *what, const char *detail) {
  passed += ok;
  failed += !ok;
  if (!ok)
    printf("FAILED: %s: %s (%s)\n", what, detail, sqlite3_errmsg(db));
}

static void must(bool ok, const char *what) {
  if (!ok) {
    printf("cannot go on: %s: %s\n", what, db != NULL ? sqlite3_errmsg(db) : "");
    exit(1);
  }
}

static void open_database(const char *extension, const char *sql) {
  must(sqlite3_open(":memory:", &db) == SQLITE_OK, "open");
  must(sqlite3_enable_load_extension(db, 1) == SQLITE_OK, "enable_load_extension");
  must(sqlite3_load_extension(db, extension, NULL, NULL) == SQLITE_OK, extension);
  must(sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK, sql);
}

typedef struct image {
  void *bytes;
  size_t size;
} image;

static image make(uint32_t content, const walmap_entry *entries, size_t n) {
  walmap_image_builder *builder;
  image made;
  must(walmap_image_builder_new(content, &builder) == WALMAP_OK, "image builder");
  for (size_t i = 0; i < n; i++)
    must(walmap_image_builder_add(builder, &entries[i]) == WALMAP_OK, "image builder");
  must(walmap_image_builder_finish(builder, &made.bytes, &made.size) == WALMAP_OK, "image builder");
  return made;
}

/* Runs a query with the image as its parameter: its one number, or -1 with the code and text in `db`. */
static sqlite3_int64 ask(const char *sql, const image *image) {
  sqlite3_stmt *query;
  sqlite3_int64 answer = -1;
  must(sqlite3_prepare_v2(db, sql, -1, &query, NULL) == SQLITE_OK, sql);
  if (image != NULL)
    sqlite3_bind_blob64(query, 1, image->bytes, image->size, SQLITE_STATIC);
  if (sqlite3_step(query) == SQLITE_ROW)
    answer = sqlite3_column_int64(query, 0);
  sqlite3_finalize(query);
  return answer;
}

static sqlite3_int64 restore(const image *image) { return ask("SELECT walmap_restore('kv', ?1)", image); }

/* Reads every byte of every row. */
static sqlite3_int64 each(const image *image) {
  return ask("SELECT count(*) + 0 * sum(length(quote(key)) + length(hex(key)) + length(quote(value)) + "
             "length(hex(value))) FROM walmap_each(?1)",
             image);
}

static bool is_untouched(void) {
  return ask("SELECT count(*) = 1 AND min(key) = 'here' AND min(value) = 'before' FROM kv", NULL) == 1;
}

static void expect_refusal(const char *what, const image *image, bool by_each) {
  judge(restore(image) == -1 && sqlite3_errcode(db) == SQLITE_CORRUPT, "walmap_restore takes it", what);
  judge(strncmp(sqlite3_errmsg(db), "walmap_restore: ", 16) == 0, "walmap_restore does not say why", what);
  judge(is_untouched(), "walmap_restore changes the map", what);
  if (by_each) {
    judge(each(image) == -1 && sqlite3_errcode(db) == SQLITE_CORRUPT, "walmap_each takes it", what);
    judge(strncmp(sqlite3_errmsg(db), "walmap_each: ", 13) == 0, "walmap_each does not say why", what);
  }
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* One bad entry behind many good ones                                                                                */

#define BYTES(text) text, sizeof(text) - 1

static const struct {
  const char *what;
  const char *key;
  size_t key_len;
  const char *value;
  size_t value_len;
} bad[] = {
    {"an empty key", BYTES(""), BYTES("\5")},
    {"an empty value", BYTES("\1\1"), BYTES("")},
    {"a key of an unknown type", BYTES("\7\1"), BYTES("\5")},
    {"a NULL key", BYTES("\5"), BYTES("\5")},
    {"a value of an unknown type", BYTES("\1\1"), BYTES("\7")},
    {"unknown header bits", BYTES("\1\1"), BYTES("\45")},
    {"an integer key that is not minimal", BYTES("\1\1\0"), BYTES("\5")},
    {"an integer value of nine bytes", BYTES("\1\1"), BYTES("\1\1\2\3\4\5\6\7\10\11")},
    {"an integral real key", BYTES("\2\0\0\0\0\0\0\360\77"), BYTES("\5")},
    {"a NaN key", BYTES("\2\0\0\0\0\0\0\370\177"), BYTES("\5")},
    {"a short real value", BYTES("\1\1"), BYTES("\2\0\0")},
    {"a text key without its NUL", BYTES("\3abc"), BYTES("\5")},
    {"a text key with an undeclared NUL", BYTES("\3a\0b\0"), BYTES("\5")},
    {"a text value without its NUL", BYTES("\1\1"), BYTES("\3abc")},
    {"a text value with an undeclared NUL", BYTES("\1\1"), BYTES("\3a\0b\0")},
    {"a NULL value with bytes", BYTES("\1\1"), BYTES("\5x")},
    {"-0.0 that is not zero", BYTES("\1\1"), BYTES("\25")},
};

static void test_bad_entries(void) {
  enum { GOOD = 1000 };
  static char keys[GOOD][8];
  static walmap_entry entries[GOOD + 1];
  for (size_t i = 0; i < GOOD; i++) {
    size_t size = (size_t)snprintf(keys[i], sizeof keys[i], "\3g%zu", i) + 1;
    entries[i] = (walmap_entry){keys[i], size, "\5", 1};
  }
  image made = make(CONTENT_SQL, entries, GOOD);
  judge(each(&made) == GOOD, "walmap_each refuses it", "good entries");
  walmap_image_free(made.bytes);
  for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
    entries[GOOD] = (walmap_entry){bad[i].key, bad[i].key_len, bad[i].value, bad[i].value_len};
    made = make(CONTENT_SQL, entries, GOOD + 1);
    expect_refusal(bad[i].what, &made, true);
    walmap_image_free(made.bytes);
  }
  made = make(CONTENT_SQL + 1, entries, GOOD);
  expect_refusal("another content", &made, true);
  walmap_image_free(made.bytes);
  entries[GOOD] = entries[0];
  made = make(CONTENT_SQL, entries, GOOD + 1);
  expect_refusal("a duplicate key", &made, false); /* walmap_each does not look for them */
  walmap_image_free(made.bytes);
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* The same in changes: set, and removed                                                                              */

static const struct {
  const char *what;
  const char *at;
  size_t size;
} bad_keys[] = {
    {"an empty key", BYTES("")},
    {"a key of an unknown type", BYTES("\7\1")},
    {"a NULL key", BYTES("\5")},
    {"an integer key that is not minimal", BYTES("\1\1\0")},
    {"an integral real key", BYTES("\2\0\0\0\0\0\0\360\77")},
    {"a NaN key", BYTES("\2\0\0\0\0\0\0\370\177")},
    {"a text key without its NUL", BYTES("\3abc")},
};

/* Changes that set the entry, or remove its key, and set a good one. */
static image change(const walmap_entry *entry, bool remove) {
  walmap_options options;
  walmap *map;
  walmap_state *state = NULL;
  image position, made;
  walmap_options_init(&options);
  options.content = CONTENT_SQL;
  must(walmap_open(&options, &map) == WALMAP_OK && walmap_state_new(map, &state) == WALMAP_OK, "map");
  must(walmap_set(map, entry->key, entry->key_len, "", 0) == WALMAP_OK, "set");
  must(walmap_state_begin(state) == WALMAP_OK, "state");
  must(walmap_state_position(state, &position.bytes, &position.size) == WALMAP_OK, "position");
  walmap_state_end(state);
  must(walmap_set(map, BYTES("\3here\0"), BYTES("\5")) == WALMAP_OK, "set");
  must((remove ? walmap_remove(map, entry->key, entry->key_len)
               : walmap_set(map, entry->key, entry->key_len, entry->value, entry->value_len)) == WALMAP_OK,
       "change");
  must(walmap_state_begin(state) == WALMAP_OK, "state");
  must(walmap_state_changes(state, position.bytes, position.size, &made.bytes, &made.size, NULL) == WALMAP_OK,
       "changes");
  walmap_state_free(state);
  walmap_close(map);
  walmap_image_free(position.bytes);
  return made;
}

static void expect_no_change(const char *what, const walmap_entry *entry, bool remove) {
  image made = change(entry, remove);
  judge(ask("SELECT walmap_apply('kv', ?1)", &made) == -1 && sqlite3_errcode(db) == SQLITE_CORRUPT,
        remove ? "walmap_apply removes it" : "walmap_apply sets it", what);
  judge(strncmp(sqlite3_errmsg(db), "walmap_apply: ", 14) == 0, "walmap_apply does not say why", what);
  judge(is_untouched(), "walmap_apply changes the map", what);
  walmap_image_free(made.bytes);
}

static void test_bad_changes(void) {
  for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
    expect_no_change(bad[i].what, &(walmap_entry){bad[i].key, bad[i].key_len, bad[i].value, bad[i].value_len}, false);
  for (size_t i = 0; i < sizeof bad_keys / sizeof bad_keys[0]; i++)
    expect_no_change(bad_keys[i].what, &(walmap_entry){bad_keys[i].at, bad_keys[i].size, NULL, 0}, true);
  image good = change(&(walmap_entry){BYTES("\1\1"), BYTES("\5")}, true);
  judge(ask("SELECT walmap_apply('kv', ?1)", &good) == 1, "walmap_apply refuses it", "a good change");
  judge(ask("UPDATE kv SET value = 'before' WHERE key = 'here'", NULL) == -1 && is_untouched(), "not put back", "kv");
  walmap_image_free(good.bytes);
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Entries of random bytes: both functions must be of one opinion                                                     */

static uint64_t random_state;

static uint32_t random_below(uint32_t n) {
  random_state = random_state * 6364136223846793005u + 1442695040888963407u;
  return (uint32_t)((random_state >> 33) % n);
}

/* The first byte, a key's tag or a value's header, is mostly one of the `kinds` that there are. */
static size_t random_bytes(uint8_t *bytes, size_t max, uint32_t kinds) {
  static const uint8_t common[] = {0, 1, 2, 3, 4, 5, 6, 0x0d, 0x15, 0x1e, 0x7f, 0x80, 0xf0, 0xff};
  size_t size = 1 + random_below((uint32_t)max);
  for (size_t i = 0; i < size; i++)
    bytes[i] = random_below(3) == 0 ? (uint8_t)random_below(256) : common[random_below(sizeof common)];
  if (random_below(8) > 0)
    bytes[0] = (uint8_t)(1 + random_below(kinds));
  return size;
}

static void test_random_entries(void) {
  int accepted = 0;
  for (int i = 0; i < 20000; i++) {
    uint8_t key[12], value[12];
    walmap_entry entry = {key, random_bytes(key, sizeof key, 4), value, random_bytes(value, sizeof value, 6)};
    image made = make(CONTENT_SQL, &entry, 1);
    sqlite3_int64 rows = each(&made);
    must(sqlite3_exec(db, "BEGIN", NULL, NULL, NULL) == SQLITE_OK, "BEGIN");
    sqlite3_int64 entries = restore(&made);
    judge(rows == entries, "walmap_each and walmap_restore differ", "random entry");
    if (entries == 1)
      judge(ask("SELECT walmap_get('kv', key) IS value FROM kv", NULL) == 1, "it is not found", "random entry");
    must(sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL) == SQLITE_OK, "ROLLBACK");
    accepted += entries == 1;
    walmap_image_free(made.bytes);
  }
  judge(accepted > 500 && accepted < 19500, "one kind only", "random entries");
  judge(is_untouched(), "the map is changed", "random entries");
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* A connection whose host allows less than others do                                                                 */

enum { LIMIT = 1000 };

/* What needs a value that is too long: all are refused with SQLITE_TOOBIG, whether they read or write. */
static const char *const too_big[] = {
    "SELECT value FROM kv WHERE key = 'long'",
    "SELECT length(value) FROM kv WHERE key = 'long'",
    "SELECT * FROM kv WHERE value > 'x'",
    "SELECT walmap_get('kv', 'long')",
    "SELECT walmap_remove('kv', 'long')",
    "SELECT walmap_remove_if('kv', 'long', walmap_get('kv', 'long'))",
    "SELECT walmap_upsert('kv', 'long', 1, 'value || 1')",
    "SELECT walmap_snapshot('kv')",
    "SELECT walmap_compact('kv')",
    "SELECT walmap_image(key, value) FROM kv",
    "SELECT walmap_changes('kv', position) FROM temp.place",
    "UPDATE kv SET value = value || 1 WHERE key = 'long'",
    "INSERT INTO kv SELECT key || '2', value FROM kv",
    "INSERT INTO kv VALUES ('new', zeroblob(1001))",
    "INSERT INTO kv VALUES (printf('%.*c', 990, 'k') || 'and more than', 1)",
    "INSERT INTO kv VALUES ('new', zeroblob(998))", /* with its key it is */
    "SELECT walmap_set('kv', 'new', zeroblob(998))",
    "SELECT walmap_set_if_absent('kv', 'new', zeroblob(998))",
    "SELECT walmap_set_if('kv', 'here', 'before', zeroblob(998))",
    "SELECT walmap_upsert('kv', 'new', zeroblob(998), '1')",
    "SELECT walmap_upsert('kv', 'here', 1, 'zeroblob(998)')",
    "SELECT walmap_set('kv', 'new', zeroblob(999) || 'ab')",
    "SELECT walmap_upsert('kv', 'new', zeroblob(999) || 'ab', '1')",
    "SELECT walmap_upsert('kv', 'here', 1, 'zeroblob(999) || ''ab''')",
};

static void test_length_limit(void) {
  must(sqlite3_exec(db,
                    "CREATE TEMP TABLE place AS SELECT walmap_position('kv') AS position;"
                    "INSERT INTO kv VALUES ('long', printf('%.*c', 5000, 'x'))",
                    NULL, NULL, NULL) == SQLITE_OK,
       "a long value");
  int before = sqlite3_limit(db, SQLITE_LIMIT_LENGTH, LIMIT);
  for (size_t i = 0; i < sizeof too_big / sizeof too_big[0]; i++) {
    int rc = sqlite3_exec(db, too_big[i], NULL, NULL, NULL);
    judge((rc & 0xff) == SQLITE_TOOBIG, "it is not too big", too_big[i]);
  }
  judge(ask("SELECT count(*) FROM kv", NULL) == 2, "the map is changed", "a length limit");
  judge(ask("SELECT walmap_set('kv', 'new', zeroblob(990)) IS NOT NULL", NULL) == 1, "it is refused",
        "what is allowed");
  judge(ask("SELECT walmap_remove_if('kv', 'new', zeroblob(990))", NULL) == 1, "it is refused", "what is allowed");
  must(sqlite3_exec(db, "DELETE FROM kv WHERE key = 'long'", NULL, NULL, NULL) == SQLITE_OK, "DELETE");
  sqlite3_limit(db, SQLITE_LIMIT_LENGTH, before);
  judge(is_untouched(), "the map is changed", "a length limit");
}

/* Whether the row is too big for the table. It does not stay. */
static bool is_too_big(const char *table, const char *form, int key_size, int value_size) {
  char values[100], sql[200];
  snprintf(values, sizeof values, form, key_size, value_size);
  snprintf(sql, sizeof sql, "INSERT INTO %s VALUES (%s)", table, values);
  int rc = sqlite3_exec(db, sql, NULL, NULL, NULL);
  snprintf(sql, sizeof sql, "DELETE FROM %s WHERE key <> 'here'", table);
  must(sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK, "DELETE");
  return rc == SQLITE_TOOBIG;
}

/*
** The longest row is as long as a native table's, whose record tells the length of a key from 58 bytes on in two bytes.
*/
static void test_longest_row(void) {
  static const char *const forms[] = {"zeroblob(%d), zeroblob(%d)", "printf('%%.*c', %d, 'k'), zeroblob(%d)"};
  must(sqlite3_exec(db, "CREATE TEMP TABLE native(key PRIMARY KEY, value) WITHOUT ROWID", NULL, NULL, NULL) ==
           SQLITE_OK,
       "a native table");
  int before = sqlite3_limit(db, SQLITE_LIMIT_LENGTH, LIMIT), too_big = 0;
  for (int i = 0; i < 2 * 15 * 9; i++) {
    const char *form = forms[i % 2];
    int key = 50 + i / 2 % 15, value = LIMIT - key - i / 30;
    bool native = is_too_big("native", form, key, value);
    judge(is_too_big("kv", form, key, value) == native, "not as a native table", "the longest row");
    too_big += native;
  }
  sqlite3_limit(db, SQLITE_LIMIT_LENGTH, before);
  judge(too_big > 2 * 15 * 3 && too_big < 2 * 15 * 6, "one kind only", "the longest row");
  judge(is_untouched(), "the map is changed", "the longest row");
}

/* In UTF-16 a text may be twice as long as in the map: it is not removed either before it is known to be returned. */
static void test_length_limit_utf16(const char *extension) {
  sqlite3 *utf8 = db;
  open_database(extension, "PRAGMA encoding = 'UTF-16'; CREATE VIRTUAL TABLE kv USING walmap;"
                           "INSERT INTO kv VALUES ('here', 'before'), ('long', printf('%.*c', 600, 'x'))");
  int before = sqlite3_limit(db, SQLITE_LIMIT_LENGTH, LIMIT);
  judge(ask("SELECT walmap_remove('kv', 'long')", NULL) == -1 && sqlite3_errcode(db) == SQLITE_TOOBIG,
        "it is not too big", "walmap_remove");
  judge(ask("SELECT length(walmap_set('kv', 'blob', zeroblob(600)))", NULL) == 600, "it is refused", "a blob");
  judge(ask("SELECT length(walmap_remove('kv', 'blob'))", NULL) == 600, "it is refused", "a blob");
  sqlite3_limit(db, SQLITE_LIMIT_LENGTH, before);
  judge(ask("SELECT length(walmap_remove('kv', 'long'))", NULL) == 600, "it was removed", "walmap_remove");
  judge(is_untouched(), "the map is changed", "a length limit");
  sqlite3_close(db);
  db = utf8;
}

int main(void) {
  const char *extension = getenv("WALMAP_SO") != NULL ? getenv("WALMAP_SO") : "./walmap";
  const char *seed = getenv("SEED");
  random_state = seed != NULL ? strtoull(seed, NULL, 10) : (uint64_t)time(NULL);
  printf("seed %llu (repeat with SEED=)\n", (unsigned long long)random_state);
  open_database(extension, "CREATE VIRTUAL TABLE kv USING walmap; INSERT INTO kv VALUES ('here', 'before')");
  test_bad_entries();
  test_bad_changes();
  test_random_entries();
  test_length_limit();
  test_longest_row();
  test_length_limit_utf16(extension);
  sqlite3_close(db);
  printf("%d passed, %d failed\n", passed, failed);
  return failed > 0;
}
