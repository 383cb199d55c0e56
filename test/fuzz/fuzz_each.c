/*
** fuzz_each.c - attacks: walmap_each and walmap_restore are of one opinion about an image, and show the same rows
**
** An input is as for fuzz_image.c. Held for every input:
**   - both take it, or both refuse it with SQLITE_CORRUPT_VTAB and a text; except that walmap_each does not look for
**     keys that come twice
**   - what both took has the same rows, and each is found by its key; with numeric affinity as a full walk finds it
**   - a map whose restore was refused has its old rows
*/
#include "image_mutator.h"
#include "sql_kit.h"

#include "codec/codec.h"

/* ------------------------------------------------------------------------------------------------------------------ */
/* What must hold                                                                                                     */

/* Every query has the image as ?1. */
enum { EACH, RESTORE, DIFFERING, NOT_FOUND, OTHER_LOOKALIKES, IS_UNTOUCHED, QUERIES };

#define ROW "typeof(key), quote(key), hex(key), typeof(value), quote(value), hex(value)"
#define LOOKALIKES(key) "(SELECT count(*) FROM walmap_each(?1) AS e WHERE " key " = CAST(kv.key AS NUMERIC))"

static const char *const texts[QUERIES] = {
    [EACH] = "SELECT count(*) + 0 * sum(length(hex(key)) + length(hex(value))) FROM walmap_each(?1)",
    [RESTORE] = "SELECT walmap_restore('kv', ?1)",
    [DIFFERING] = "SELECT count(*) FROM (SELECT " ROW " FROM kv EXCEPT SELECT " ROW " FROM walmap_each(?1))",
    [NOT_FOUND] = "SELECT count(*) FROM kv WHERE (SELECT count(*) FROM walmap_each(?1) AS e "
                  "WHERE e.key = kv.key AND e.value IS kv.value) <> 1",
    [OTHER_LOOKALIKES] = "SELECT count(*) FROM kv WHERE " LOOKALIKES("e.key") " <> " LOOKALIKES("+e.key"),
    [IS_UNTOUCHED] = "SELECT count(*) = 1 AND min(key) = 'own' AND min(value) = 'content' FROM kv",
};

static sqlite3 *db;
static sqlite3_stmt *queries[QUERIES];

static void open_once(void) {
  if (db != NULL)
    return;
  db = open_walmap();
  run_sql(db, "CREATE VIRTUAL TABLE temp.kv USING walmap(shards=2)");
  for (int i = 0; i < QUERIES; i++)
    queries[i] = prepare_sql(db, texts[i]);
}

/* A refusal's code and text. */
static void must_refuse(int error, const char *who) {
  must_sql(db, error == SQLITE_CORRUPT_VTAB, who);
  must_sql(db, strncmp(sqlite3_errmsg(db), who, strlen(who)) == 0 && strlen(sqlite3_errmsg(db)) > strlen(who), who);
}

static void check_image(bytes image) {
  int error_each, error_restore;
  run_sql(db, "DELETE FROM kv; INSERT INTO kv VALUES ('own', 'content')");
  for (int i = 0; i < QUERIES; i++)
    sqlite3_bind_blob64(queries[i], 1, image.size > 0 ? image.data : (const uint8_t *)"", image.size, SQLITE_STATIC);
  int64_t rows = ask(queries[EACH], &error_each);
  if (error_each != SQLITE_OK)
    must_refuse(error_each, "walmap_each: ");
  int64_t entries = ask(queries[RESTORE], &error_restore);
  if (error_restore != SQLITE_OK) {
    must_refuse(error_restore, "walmap_restore: ");
    MUST(error_each != SQLITE_OK || strstr(sqlite3_errmsg(db), "twice") != NULL);
    MUST(ask(queries[IS_UNTOUCHED], NULL) == 1);
    return;
  }
  MUST(error_each == SQLITE_OK && rows == entries);
  MUST(ask(queries[DIFFERING], NULL) == 0);
  MUST(ask(queries[NOT_FOUND], NULL) == 0);
  MUST(ask(queries[OTHER_LOOKALIKES], NULL) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (size == 0)
    return 0;
  open_once();
  bytes image = exact_input(data, size);
  if (data[0] & 1)
    repair(image);
  check_image(image);
  free(image.data);
  return 0;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Mutation                                                                                                           */

/* Keys and values as the codec writes them, and some as it does not; NUL-terminated but for the last NUL. */
#define BYTES(text) text, sizeof(text) - 1
static const struct {
  const char *at;
  size_t size;
} keys[] =
    {
        {BYTES("\1")},         {BYTES("\1\1")},    {BYTES("\1\200\0")}, {BYTES("\2\0\0\0\0\0\0\340\77")},
        {BYTES("\3\0")},       {BYTES("\0031\0")}, {BYTES("\3 1.0\0")}, {BYTES("\3a\0b\0")},
        {BYTES("\3text\0")},   {BYTES("\4")},      {BYTES("\0041")},    {BYTES("\4\0\377")},
        {BYTES("\00301e0\0")}, {BYTES("\7")},      {BYTES("\1\1\0")},
},
  values[] = {
      {BYTES("\1")},        {BYTES("\1\1")},     {BYTES("\2\0\0\0\0\0\0\340\77")},
      {BYTES("\3value\0")}, {BYTES("\4\0\1")},   {BYTES("\5")},
      {BYTES("\6a\0b\0")},  {BYTES("\11\1")},    {BYTES("\21\1")},
      {BYTES("\31\1")},     {BYTES("\33value")}, {BYTES("\45")},
};
#define COUNT(array) (uint32_t)(sizeof(array) / sizeof *(array))

static bytes fresh_image(uint64_t *random) {
  walmap__image_writer *writer;
  uint32_t entries = random_below(random, 10), content = random_below(random, 8) == 0 ? 0 : WM_CONTENT_SQL;
  uint32_t first = random_below(random, COUNT(keys)), per_chunk = 1 + random_below(random, 4);
  MUST_OK(walmap__image_writer_new(content, NULL, NULL, 0, &writer));
  for (uint32_t i = 0; i < entries; i++) {
    uint32_t k = (first + i) % COUNT(keys), v = random_below(random, COUNT(values));
    if (i % per_chunk == 0)
      cut_chunk(writer);
    MUST_OK(walmap__image_writer_add(writer, &(walmap_entry){keys[k].at, keys[k].size, values[v].at, values[v].size}));
  }
  return finish(writer);
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned int seed) {
  return mutate_image(data, size, max_size, seed, fresh_image);
}
