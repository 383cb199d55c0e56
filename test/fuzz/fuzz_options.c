/*
** fuzz_options.c - attacks: CREATE VIRTUAL TABLE ends in a table or in an error that says why, and then leaves nothing
**
** An input is what stands between the parentheses of USING walmap(...). Held for every input:
**   - a table that was made is empty, its map has options in their ranges, a second table agrees to the same options,
**     and DROP takes all away
**   - a statement that was refused has a text, and leaves no table, no map, and no memory of SQLite's behind
*/
#include "sql_kit.h"

static sqlite3 *db;
static sqlite3_stmt *count_tables, *count_maps, *count_maps_amiss;

static void open_once(void) {
  if (db != NULL)
    return;
  db = open_walmap();
  count_tables = prepare_sql(db, "SELECT count(*) FROM sqlite_temp_schema");
  count_maps = prepare_sql(db, "SELECT count(*) FROM walmap_stats");
  count_maps_amiss =
      prepare_sql(db, "SELECT count(*) FROM walmap_stats WHERE entries <> 0 OR shards NOT BETWEEN 1 AND 256 "
                      "OR connections <> 1 OR iif(kind = 'named', length(CAST(name AS BLOB)) NOT BETWEEN 1 "
                      "AND 255, kind <> 'private' OR name IS NOT NULL)");
}

/* Of the first statement in the text, which the input may end early, or go on behind. */
static int create(const char *table, const char *options) {
  char *sql = sqlite3_mprintf("CREATE VIRTUAL TABLE temp.%s USING walmap(%s)", table, options);
  sqlite3_stmt *statement = NULL;
  MUST(sql != NULL);
  int rc = sqlite3_prepare_v2(db, sql, -1, &statement, NULL);
  if (rc == SQLITE_OK)
    rc = sqlite3_step(statement);
  sqlite3_finalize(statement);
  must_sql(db, rc == SQLITE_DONE || (rc == SQLITE_ERROR && strlen(sqlite3_errmsg(db)) > 10), sql);
  sqlite3_free(sql);
  return rc;
}

static void check_options(const char *options) {
  if (create("t", options) == SQLITE_DONE) {
    MUST(ask(count_tables, NULL) == 1 && ask(count_maps, NULL) == 1 && ask(count_maps_amiss, NULL) == 0);
    MUST(create("again", options) == SQLITE_DONE);
    run_sql(db, "SELECT count(*) FROM t JOIN again USING (key); DROP TABLE temp.t; DROP TABLE temp.again");
  }
  MUST(ask(count_tables, NULL) == 0 && ask(count_maps, NULL) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  open_once();
  char *options = malloc(size + 1);
  MUST(options != NULL);
  if (size > 0)
    memcpy(options, data, size);
  options[size] = 0;
  check_options(options); /* the first time it also makes what stays, such as the parser's tables */
  sqlite3_int64 before = sqlite3_memory_used();
  check_options(options);
  MUST(sqlite3_memory_used() == before);
  free(options);
  return 0;
}
