/*
** interrupt_sweep.c - every statement, interrupted at every opcode
**
** Looks for: a statement that is interrupted and uses memory that SQLite has freed, leaks, changes something all the
** same, or spoils the connection.
**
** An interrupt makes SQLite roll back and drop its whole schema, perhaps in the midst of a statement of the extension's
** own, which runs within xCreate, xDestroy, xRename or a function. So each statement below runs on a fresh connection
** and is interrupted at the Nth opcode, its own or that of a statement within it, for N = 1, 2, 3, ... until it runs
** through. This is done in two ways: by a progress handler, which ends the statement that is running just then, and (at
** each fourth opcode) by sqlite3_interrupt, which ends all that are; and in autocommit, in a transaction that has
** written, behind a savepoint, and in a transaction that has changed the schema. After each interrupt and a ROLLBACK
** the tables must be as before, and the same statement must succeed then; and when the connection is closed, no memory
** may be left. (In autocommit they may be as after the statement: SQLite asks its progress handler once more when it
** has committed.)
**
** SQLite's memory is overwritten when it is freed, so that its use fails also where no sanitizer looks on.
*/
#define _POSIX_C_SOURCE 200809L /* strdup */
#define _GNU_SOURCE             /* mkdtemp */
#include <sqlite3.h>

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "temp_folder.h"

#define DATABASE_FILE "walmap-interrupt.db" /* as below */
#define IMAGE_FILE "walmap-interrupt.image" /* in the temporary folder; removed at the end */

static const char *const setup =
    "PRAGMA journal_mode = MEMORY; PRAGMA synchronous = OFF;"
    "CREATE VIRTUAL TABLE temp.kv USING walmap(map='interrupt', shards=2);"
    "CREATE VIRTUAL TABLE main.own USING walmap(shards=2);"
    "INSERT INTO kv VALUES ('a', 1), ('b', 'two'), (3, x'03'), ('7', 7);"
    "INSERT INTO own VALUES ('a', 1), ('b', 2);"
    "CREATE TABLE images AS SELECT walmap_image(column1, column2) AS i FROM (VALUES ('x', 1), ('y', 'two'));"
    "CREATE TABLE changes AS SELECT walmap_position('kv') AS c;"
    "INSERT INTO kv VALUES ('set', 1); DELETE FROM kv WHERE key = 'a';"
    "UPDATE changes SET c = walmap_changes('kv', c);"
    "INSERT INTO kv VALUES ('a', 1); DELETE FROM kv WHERE key = 'set';"
    "CREATE TABLE natives(k, v); INSERT INTO natives VALUES ('b', 1), (7, 2), ('zz', 3);"
    "CREATE TEMP TRIGGER mirror AFTER INSERT ON natives BEGIN INSERT OR REPLACE INTO kv VALUES (new.k, new.v); END;";

/* These run in a file, too, which decides how they join the transaction (ext/schema/control.c), and in more ways. */
static const char *const schema_changes[] = {
    "CREATE VIRTUAL TABLE made USING walmap",
    "CREATE VIRTUAL TABLE IF NOT EXISTS main.made USING walmap(shards=4, capacity=100)",
    "CREATE VIRTUAL TABLE temp.made USING walmap",
    "CREATE VIRTUAL TABLE temp.made USING walmap(map='interrupt')",
    "CREATE VIRTUAL TABLE temp.made USING walmap(map='other', shards=2)",
    "CREATE VIRTUAL TABLE made USING walmap(ordered=1, max_bytes=1000000, ttl=60)",
    "DROP TABLE own",
    "DROP TABLE kv",
    "ALTER TABLE own RENAME TO moved",
    "ALTER TABLE kv RENAME TO moved",
};

static const char *const statements[] = {
    "INSERT INTO kv VALUES ('p', 1), ('q', 2), (1.5, NULL)",
    "INSERT OR REPLACE INTO own SELECT k, v FROM natives",
    "INSERT INTO natives VALUES ('b', 9), ('new', 1)",
    "INSERT INTO walmap VALUES ('a', 1)",
    "UPDATE kv SET value = 'changed' WHERE key = 'a'",
    "UPDATE own SET key = key || '!' WHERE key IN ('a', 'b')",
    "DELETE FROM kv WHERE key = 'a'",
    "DELETE FROM kv",
    "SELECT * FROM kv ORDER BY key DESC",
    "SELECT count(*) FROM kv WHERE key IN (SELECT k FROM natives)",
    "SELECT walmap_get('kv', 'b')",
    "SELECT walmap_set('kv', 'new', 'a value')",
    "SELECT walmap_remove('own', 'b')",
    "SELECT walmap_set_if_absent('kv', 'new', 1)",
    "SELECT walmap_set_if('kv', 'a', 1, 'other')",
    "SELECT walmap_remove_if('kv', 'a', 1)",
    "SELECT walmap_upsert('kv', 'a', 0, 'value + (SELECT count(*) FROM natives)')",
    "SELECT walmap_len('kv') + walmap_size('kv') + walmap_reclaimable('kv')",
    "SELECT length(walmap_snapshot('kv'))",
    "SELECT length(walmap_compact('kv'))",
    "SELECT walmap_reclaim('kv') >= 0",
    "SELECT walmap_clear('own')",
    "SELECT walmap_restore('kv', i) FROM images",
    "SELECT walmap_snapshot_file('kv', '" IMAGE_FILE "')",
    "SELECT walmap_restore_file('kv', '" IMAGE_FILE "')",
    "SELECT sum(length(chunk)) FROM walmap_chunks('kv', 1024)",
    "SELECT walmap_restore('kv', walmap_unchunk(1, i)) FROM images",
    "SELECT length(walmap_changes('kv', walmap_position('kv')))",
    "SELECT walmap_apply('kv', c) FROM changes",
    "SELECT count(*) FROM images, walmap_each(i)",
    "SELECT length(walmap_image(key, value)) FROM kv",
    "SELECT count(*) FROM walmap_stats WHERE kind = 'named'",
    "SELECT walmap_version()",
};

/* In a file, where the rows of `own` are kept in the file: these run statements on its shadow table. */
static const char *const durable[] = {
    "INSERT OR REPLACE INTO own SELECT k, v FROM natives",
    "UPDATE own SET key = key || '!' WHERE key IN ('a', 'b')",
    "DELETE FROM own",
    "SELECT * FROM own ORDER BY key",
    "SELECT walmap_get('own', 'b')",
    "SELECT walmap_set('own', 'new', 'a value')",
    "SELECT walmap_upsert('own', 'a', 0, 'value + 1')",
    "SELECT walmap_clear('own')",
    "SELECT walmap_restore('own', i) FROM images",
    "SELECT walmap_apply('own', c) FROM changes",
    "SELECT walmap_checkpoint('own') > 0",
    "SELECT length(walmap_snapshot('own'))",
    "SELECT walmap_touch('own', 'a', 60)",
    "SELECT walmap_reclaim('own') >= 0",
    "PRAGMA integrity_check",
};

static const char *const preludes[] = {
    "",
    "BEGIN; INSERT INTO kv VALUES ('early', 1)",
    "BEGIN; SAVEPOINT s; DELETE FROM own; SAVEPOINT t",
    "BEGIN; CREATE VIRTUAL TABLE early USING walmap; INSERT INTO early VALUES (1, 2); CREATE TABLE n(x)",
};

static const char *database;

/* ------------------------------------------------------------------------------------------------------------------ */
/* Memory that is spoilt when it is freed                                                                             */

static sqlite3_mem_methods real;

static void spoil_and_free(void *block) {
  if (block != NULL)
    memset(block, 0xdd, (size_t)real.xSize(block));
  real.xFree(block);
}

static void install(void) {
  sqlite3_config(SQLITE_CONFIG_GETMALLOC, &real);
  sqlite3_mem_methods spoiling = real;
  spoiling.xFree = spoil_and_free;
  sqlite3_config(SQLITE_CONFIG_MALLOC, &spoiling);
  sqlite3_config(SQLITE_CONFIG_LOOKASIDE, 0, 0); /* it would keep freed memory to itself */
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Interrupts                                                                                                         */

static long countdown;
static bool was_hit, all_at_once;

static int count(void *db) {
  if (--countdown != 0)
    return 0;
  was_hit = true;
  if (all_at_once)
    sqlite3_interrupt(db);
  return !all_at_once;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* The test                                                                                                           */

static int passed, failed;
static const char *extension, *statement, *prelude;

static void judge(bool ok, const char *what, long n, const char *more) {
  passed += ok;
  failed += !ok;
  if (!ok && failed < 40)
    printf("FAILED: %s: %s; %s, in %s, opcode %ld%s: %s\n", what, prelude, statement, database, n,
           all_at_once ? ", by sqlite3_interrupt" : "", more);
}

static sqlite3 *open_connection(void) {
  sqlite3 *db;
  char *err = NULL;
  remove(DATABASE_FILE);
  if (sqlite3_open(database, &db) != SQLITE_OK || sqlite3_enable_load_extension(db, 1) != SQLITE_OK ||
      sqlite3_load_extension(db, extension, NULL, &err) != SQLITE_OK ||
      sqlite3_exec(db, setup, NULL, NULL, &err) != SQLITE_OK) {
    printf("cannot begin: %s\n", err != NULL ? err : sqlite3_errmsg(db));
    exit(1);
  }
  return db;
}

/* Adds the rows of a query to the text. */
static void add_rows(sqlite3 *db, const char *sql, sqlite3_str *text) {
  sqlite3_stmt *query;
  if (sqlite3_prepare_v2(db, sql, -1, &query, NULL) != SQLITE_OK) {
    sqlite3_str_appendf(text, "none ");
    return;
  }
  while (sqlite3_step(query) == SQLITE_ROW)
    sqlite3_str_appendf(text, "%s ", sqlite3_column_text(query, 0));
  if (sqlite3_finalize(query) != SQLITE_OK)
    sqlite3_str_appendf(text, "%s: %s ", sql, sqlite3_errmsg(db));
}

/* Which tables there are, and what is in them; free with sqlite3_free. */
static char *content(sqlite3 *db) {
  static const char *const tables[] = {"kv", "own", "made", "moved", "early", "walmap", "natives"};
  sqlite3_str *text = sqlite3_str_new(db);
  add_rows(db,
           "SELECT name FROM (SELECT name FROM main.sqlite_schema UNION SELECT name FROM temp.sqlite_schema)"
           " WHERE name <> 'walmap_control'",
           text);
  for (size_t i = 0; i < sizeof tables / sizeof tables[0]; i++) {
    char *sql = sqlite3_mprintf("SELECT group_concat(quote(k) || '=' || quote(v)) FROM"
                                " (WITH t(k, v) AS (SELECT * FROM %s) SELECT * FROM t ORDER BY k)",
                                tables[i]);
    add_rows(db, sql, text);
    sqlite3_free(sql);
  }
  return sqlite3_str_finish(text);
}

/* The content of a connection that ran this: free with free, for SQLite's memory is counted. */
static char *content_after(const char *sql) {
  sqlite3 *db = open_connection();
  if (sqlite3_exec(db, sql, NULL, NULL, NULL) != SQLITE_OK) {
    printf("cannot begin: %s: %s\n", sql, sqlite3_errmsg(db));
    exit(1);
  }
  char *text = content(db), *copy = strdup(text);
  sqlite3_free(text);
  sqlite3_close(db);
  return copy;
}

/* One interrupt. False: the statement ran through without having met it. */
static bool interrupt_once(long n, const char *before, const char *after) {
  sqlite3 *db = open_connection();
  int rc = sqlite3_exec(db, prelude, NULL, NULL, NULL);
  judge(rc == SQLITE_OK, "the prelude", n, sqlite3_errmsg(db));
  was_hit = false;
  countdown = n;
  sqlite3_progress_handler(db, 1, count, db);
  rc = sqlite3_exec(db, statement, NULL, NULL, NULL);
  sqlite3_progress_handler(db, 0, NULL, NULL);
  bool is_hit = was_hit;
  bool is_of_parser = all_at_once && rc == SQLITE_ERROR; /* SQLite's own, which says that it cannot read its schema */
  judge(rc == SQLITE_OK || (is_hit && (rc == SQLITE_INTERRUPT || is_of_parser)), "another error", n,
        sqlite3_errmsg(db));
  if (sqlite3_get_autocommit(db) == 0)
    sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL);
  char *now = content(db);
  bool is_before = strcmp(now, before) == 0, is_after = *prelude == 0 && strcmp(now, after) == 0;
  judge(rc == SQLITE_OK && *prelude == 0 ? is_after : is_before || is_after, "another content", n, now);
  sqlite3_free(now);
  if (is_before) {
    judge(sqlite3_exec(db, statement, NULL, NULL, NULL) == SQLITE_OK, "no success later", n, sqlite3_errmsg(db));
    now = content(db);
    judge(strcmp(now, after) == 0, "another content later", n, now);
    sqlite3_free(now);
  }
  judge(sqlite3_close(db) == SQLITE_OK, "a connection that does not close", n, "");
  judge(sqlite3_memory_used() == 0, "a leak", n, "");
  return is_hit;
}

/* All interrupts of the statement behind the prelude; returns how many there were. */
static long sweep(const char *before) {
  long interrupts = 0;
  char *after = content_after(statement);
  for (int way = 0; way < 2; way++) {
    all_at_once = way == 1;
    long n = 1;
    while (n < 100000 && interrupt_once(n, before, after))
      n += all_at_once ? 4 : 1; /* that way goes the same paths, but for their ends */
    interrupts += (n - 1) / (all_at_once ? 4 : 1);
    judge(n > 1, "it was not interrupted", n, "");
  }
  free(after);
  return interrupts;
}

static long sweep_all(const char *where, const char *const *sql, size_t n, size_t n_preludes) {
  long interrupts = 0;
  database = where;
  char *before = content_after("");
  for (size_t i = 0; i < n * n_preludes; i++) {
    statement = sql[i % n];
    prelude = preludes[i / n];
    interrupts += sweep(before);
  }
  free(before);
  return interrupts;
}

int main(void) {
  enum { ALL = sizeof preludes / sizeof preludes[0], FEW = 2, DURABLE_PRELUDES = 3 };
  enum { CHANGES = sizeof schema_changes / sizeof schema_changes[0], REST = sizeof statements / sizeof statements[0] };
  enum { DURABLE = sizeof durable / sizeof durable[0] };
  extension = extension_path();
  enter_temp_folder();
  install();
  long interrupts =
      sweep_all(":memory:", schema_changes, CHANGES, ALL) + sweep_all(DATABASE_FILE, schema_changes, CHANGES, ALL) +
      sweep_all(":memory:", statements, REST, FEW) + sweep_all(DATABASE_FILE, durable, DURABLE, DURABLE_PRELUDES);
  remove(IMAGE_FILE);
  remove(DATABASE_FILE);
  judge(leave_temp_folder(), "a file that is left behind", 0, "");
  printf("%ld interrupts\n%d passed, %d failed\n", interrupts, passed, failed);
  return failed > 0;
}
