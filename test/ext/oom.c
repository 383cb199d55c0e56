/*
** oom.c - SQL while memory runs out
**
** Looks for: a statement that fails for want of memory and changes something all the same, crashes, leaks, or spoils
** the connection; one that reports another error than SQLITE_NOMEM.
**
** Each statement below runs on a fresh connection with the Nth allocation of SQLite and of the extension failing, once
** or from then on, for N = 1, 2, 3, ... until it runs through without having met it. After each failure the map must be
** as before the statement, or as after it when the statement succeeded; a second run without failures must do the rest.
** Where a statement on a durable table fails within a transaction that commits all the same, the file must have what
** the connection showed. A copy of the file in memory has its rows or no memory, but is never an empty table. (The
** core's allocations fail in test/core/test_oom.c.)
*/
#define _GNU_SOURCE /* mkdtemp */
#include <sqlite3.h>

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "temp_folder.h"

/* What each statement is run with: another encoding, an ordered map. */
static const char *const beginnings[] = {
    "PRAGMA encoding = 'UTF-8'; CREATE VIRTUAL TABLE temp.kv USING walmap(map='oom', shards=2)",
    "PRAGMA encoding = 'UTF-16'; CREATE VIRTUAL TABLE temp.kv USING walmap(map='oom', shards=2)",
    "PRAGMA encoding = 'UTF-8'; CREATE VIRTUAL TABLE temp.kv USING walmap(map='oom', shards=2, ordered=1)",
};
static const char *beginning;

static const char *const durable = "CREATE VIRTUAL TABLE main.kv USING walmap(durable=1, shards=2)";
static const char *const setup =
    "INSERT INTO kv VALUES ('a', 1), ('b', 'two'), (3, x'03'), ('7', 7), (char(65533), 'converted');"
    "CREATE TABLE images AS SELECT walmap_image(column1, column2) AS i FROM (VALUES ('x', 1), ('y', zeroblob(500)));"
    "CREATE TABLE changes AS SELECT walmap_position('kv') AS c;"
    "INSERT INTO kv VALUES ('set', 1), ('removed', 2); DELETE FROM kv WHERE key IN ('a', 'removed');"
    "UPDATE changes SET c = walmap_changes('kv', c);"
    "INSERT INTO kv VALUES ('a', 1), ('removed', 3); DELETE FROM kv WHERE key = 'set';"
    "CREATE TABLE natives(k, v); INSERT INTO natives VALUES ('b', 1), (7, 2), ('zz', 3);";

#define DATABASE_FILE "walmap-oom.db" /* as below */
#define IMAGE_FILE "walmap-oom.image" /* in the temporary folder; removed at the end */

static const char *const statements[] = {
    "SELECT walmap_get('kv', 'b') || walmap_get(3)",
    "SELECT walmap_set('kv', 'new', 'a value that is longer than others')",
    "SELECT max(key) FROM (SELECT key FROM kv ORDER BY key DESC LIMIT 2)",
    "SELECT walmap_remove('kv', 'b')",
    "INSERT INTO kv VALUES (char(233) || 'e', char(233))", /* converted twice in UTF-16 */
    "UPDATE kv SET value = 2 WHERE value = 'converted'",   /* whose key is looked for by what UTF-16 shows */
    "SELECT walmap_set_if_absent('new', 1)",
    "SELECT walmap_set_if('kv', 'a', 1, 'other')",
    "SELECT walmap_remove_if('kv', 'a', 1)",
    "SELECT walmap_upsert('kv', 'a', 0, 'value + 1')",
    "SELECT walmap_upsert('kv', 'c', 'initial', 'value + 1')",
    "SELECT walmap_set('kv', printf('%.1000c', 'k'), 1)",
    "SELECT walmap_len('kv') + walmap_size('kv') + walmap_reclaimable('kv')",
    "SELECT length(walmap_snapshot('kv'))",
    "SELECT length(walmap_compact('kv'))",
    "SELECT walmap_reclaim('kv') >= 0",
    "SELECT walmap_clear('kv')",
    "SELECT walmap_upsert('kv', 'b', printf('%.300c', 'i'), 'value || initial')",
    "SELECT walmap_restore('kv', i) FROM images",
    "SELECT walmap_snapshot_file('kv', '" IMAGE_FILE "')",
    "SELECT walmap_restore_file('kv', '" IMAGE_FILE "')",
    "SELECT sum(length(chunk)) FROM walmap_chunks('kv', 1024)",
    "SELECT walmap_restore('kv', walmap_unchunk(1 + o, substr(i, 1 + 100 * o, 100)))"
    " FROM images, (SELECT 2 AS o UNION ALL SELECT 0 UNION ALL SELECT 1 UNION ALL SELECT 3 UNION ALL SELECT 4"
    " UNION ALL SELECT 5 UNION ALL SELECT 6)",
    "SELECT length(walmap_changes('kv', walmap_position('kv')))",
    "SELECT walmap_apply('kv', c) FROM changes",
    "SELECT sum(length(value)) FROM images, walmap_each(i) WHERE key = 'y'",
    "SELECT length(walmap_image(key, value)) FROM kv",
    "SELECT length(walmap_image(k, v)) FROM natives GROUP BY typeof(k)",
    "SELECT count(*) FROM walmap_stats WHERE kind = 'named'",
    "SELECT walmap_version()",
    "INSERT INTO kv VALUES ('p', 1), ('q', 2), (1.5, NULL)",
    "INSERT OR REPLACE INTO kv SELECT k, v FROM natives",
    "INSERT OR IGNORE INTO kv SELECT k, v FROM natives",
    "UPDATE kv SET value = 'changed' WHERE key = 'a'",
    "UPDATE kv SET key = key || '!' WHERE key IN ('a', 'b')",
    "DELETE FROM kv WHERE key = 'a'",
    "DELETE FROM kv",
    "SELECT value FROM kv WHERE key = 'b'",
    "SELECT sum(v) FROM natives JOIN kv ON key = k",
    "SELECT count(*) FROM kv WHERE key IN (SELECT k FROM natives)",
    "SELECT group_concat(key) FROM kv WHERE key BETWEEN 'a' AND 'z'",
    "SELECT count(*) FROM kv WHERE key LIKE 'a%'",
    "SELECT group_concat(key) FROM kv WHERE key >= printf('%.400c', 'b') OR key GLOB 'b*' ORDER BY key DESC",
};

static const char *const bounded = "CREATE VIRTUAL TABLE main.kv USING walmap(max_entries=3, shards=1)";

/* Of a durable table with a bound: what each leaves does not depend on which entries are evicted first. */
static const char *const bounded_statements[] = {
    "INSERT INTO kv VALUES ('p', 1), ('q', 2), ('r', zeroblob(70000))",
    "BEGIN; INSERT INTO kv VALUES ('p', 1), ('q', 2); SAVEPOINT s; INSERT INTO kv VALUES ('s', 3); ROLLBACK TO s;"
    " INSERT INTO kv VALUES ('r', 3); COMMIT",
};

/* Of a durable table. */
static const char *const durable_statements[] = {
    "SELECT walmap_set('kv', 'new', 'a value that is longer than others')",
    "SELECT walmap_restore('kv', i) FROM images",
    "SELECT walmap_apply('kv', c) FROM changes",
    "SELECT walmap_clear('kv')",
    "UPDATE kv SET key = key || '!' WHERE key IN ('a', 'b')",
    "SELECT sum(v) FROM natives JOIN kv ON key = k",
    "BEGIN; INSERT INTO kv VALUES ('p', 1); SAVEPOINT s; DELETE FROM kv; ROLLBACK TO s; DELETE FROM kv; COMMIT",
    "INSERT INTO kv SELECT value || 'k', zeroblob(40000) FROM (SELECT 1 AS value UNION SELECT 2 UNION SELECT 3)",
    "SELECT walmap_checkpoint('kv')",
};

/* Each in a transaction that goes on. What is restored needs more memory than the transaction has for its changes. */
#define LONG_IMAGE "(SELECT walmap_image(column1, column2) AS i FROM (VALUES ('x', 1), ('y', zeroblob(9000))))"
static const char *const durable_within[] = {
    "SELECT walmap_restore('kv', i) FROM " LONG_IMAGE,
    "SELECT walmap_restore('kv', walmap_unchunk(1, i)) FROM " LONG_IMAGE,
    "SELECT walmap_apply('kv', c) FROM changes",
    "SELECT walmap_clear('kv')",
    "SELECT walmap_checkpoint('kv')",
    "DELETE FROM kv",
    "UPDATE kv SET key = key || '!' WHERE key IN ('a', 'b')",
};

/* These take the table away. Which database is main decides how they join the transaction (ext/schema/control.c). */
static const char *const schema_changes[] = {
    "ALTER TABLE kv RENAME TO moved",
    "DROP TABLE kv",
    "CREATE VIRTUAL TABLE moved USING walmap",
};
static const char *database = ":memory:";

/* ------------------------------------------------------------------------------------------------------------------ */
/* Allocations that fail                                                                                              */

static sqlite3_mem_methods real;
static long countdown; /* allocations until one fails; 0: none does */
static bool for_ever, was_hit;

static bool fails(void) {
  if (countdown == 0 || --countdown > 0)
    return false;
  was_hit = true;
  countdown = for_ever; /* 1: the next one fails as well */
  return true;
}

static void *failing_malloc(int size) { return fails() ? NULL : real.xMalloc(size); }
static void *failing_realloc(void *block, int size) { return fails() ? NULL : real.xRealloc(block, size); }

static void install(void) {
  sqlite3_config(SQLITE_CONFIG_GETMALLOC, &real);
  sqlite3_mem_methods failing = real;
  failing.xMalloc = failing_malloc;
  failing.xRealloc = failing_realloc;
  sqlite3_config(SQLITE_CONFIG_MALLOC, &failing);
  sqlite3_config(SQLITE_CONFIG_LOOKASIDE, 0, 0); /* it would hide allocations */
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* The test                                                                                                           */

static int passed, failed;

static void judge(bool ok, const char *what, const char *statement, long n, sqlite3 *db) {
  passed += ok;
  failed += !ok;
  if (!ok)
    printf("FAILED: %s: %s, allocation %ld%s: %s\n", what, statement, n, for_ever ? " and all after it" : "",
           db != NULL ? sqlite3_errmsg(db) : "");
}

static sqlite3 *reopen_connection(const char *extension) {
  sqlite3 *db;
  if (sqlite3_open(database, &db) != SQLITE_OK || sqlite3_enable_load_extension(db, 1) != SQLITE_OK ||
      sqlite3_load_extension(db, extension, NULL, NULL) != SQLITE_OK) {
    printf("cannot open again: %s\n", sqlite3_errmsg(db));
    exit(1);
  }
  return db;
}

static sqlite3 *open_connection(const char *extension) {
  sqlite3 *db;
  char *err = NULL;
  remove(DATABASE_FILE);
  if (sqlite3_open(database, &db) != SQLITE_OK || sqlite3_enable_load_extension(db, 1) != SQLITE_OK ||
      sqlite3_load_extension(db, extension, NULL, &err) != SQLITE_OK ||
      sqlite3_exec(db, "PRAGMA synchronous = off", NULL, NULL, &err) != SQLITE_OK ||
      sqlite3_exec(db, beginning, NULL, NULL, &err) != SQLITE_OK ||
      sqlite3_exec(db, setup, NULL, NULL, &err) != SQLITE_OK) {
    printf("cannot begin: %s\n", err != NULL ? err : sqlite3_errmsg(db));
    exit(1);
  }
  return db;
}

/* A table's content as text, "none" without the table; free with sqlite3_free. */
static char *content_of(sqlite3 *db, const char *table) {
  char *sql = sqlite3_mprintf("SELECT group_concat(quote(key) || '=' || quote(value), ' ') "
                              "FROM (SELECT key, value FROM %s ORDER BY key)",
                              table);
  char *text = NULL;
  sqlite3_stmt *query;
  if (sqlite3_prepare_v2(db, sql, -1, &query, NULL) != SQLITE_OK)
    text = sqlite3_mprintf("none");
  else if (sqlite3_step(query) == SQLITE_ROW)
    text = sqlite3_mprintf("%s", sqlite3_column_text(query, 0));
  sqlite3_finalize(query);
  sqlite3_free(sql);
  return text;
}

static char *content(sqlite3 *db) {
  char *kv = content_of(db, "kv"), *moved = content_of(db, "moved");
  char *both = kv != NULL && moved != NULL ? sqlite3_mprintf("%s, moved: %s", kv, moved) : NULL;
  sqlite3_free(kv);
  sqlite3_free(moved);
  return both;
}

static char *content_after(const char *extension, const char *statement) {
  sqlite3 *db = open_connection(extension);
  sqlite3_exec(db, statement, NULL, NULL, NULL);
  char *text = content(db);
  sqlite3_close(db);
  return text;
}

/* A durable table's file has what the table had. Loading the rows runs out of memory as well, for some n. */
static void check_reopened(const char *extension, const char *statement, long n, const char *after) {
  sqlite3 *db = reopen_connection(extension);
  was_hit = false;
  countdown = 1 + n % 200;
  char *now = content(db);
  countdown = 0;
  if (was_hit) {
    sqlite3_free(now);
    now = content(db);
  }
  judge(now != NULL && strcmp(now, after) == 0, "another content in the file", statement, n, db);
  sqlite3_free(now);
  judge(sqlite3_close(db) == SQLITE_OK, "a connection that does not close", statement, n, NULL);
}

/* One failure. False: the statement ran through without having met it. */
static bool fail_once(const char *extension, const char *statement, long n, const char *before, const char *after) {
  sqlite3 *db = open_connection(extension);
  was_hit = false;
  countdown = n;
  int rc = sqlite3_exec(db, statement, NULL, NULL, NULL);
  countdown = 0;
  bool is_hit = was_hit;
  if (rc != SQLITE_OK && strncmp(statement, "BEGIN", 5) == 0)
    sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL); /* SQLite may have done so itself */
  judge(rc == SQLITE_OK || (is_hit && rc == SQLITE_NOMEM), "another error", statement, n, db);
  char *now = content(db);
  judge(now != NULL && strcmp(now, rc == SQLITE_OK ? after : before) == 0, "another content", statement, n, db);
  sqlite3_free(now);
  if (rc != SQLITE_OK) {
    judge(sqlite3_get_autocommit(db) != 0, "a transaction left open", statement, n, db);
    judge(sqlite3_exec(db, statement, NULL, NULL, NULL) == SQLITE_OK, "no success later", statement, n, db);
    now = content(db);
    judge(now != NULL && strcmp(now, after) == 0, "another content later", statement, n, db);
    sqlite3_free(now);
  }
  judge(sqlite3_close(db) == SQLITE_OK, "a connection that does not close", statement, n, NULL);
  if (beginning == durable || beginning == bounded)
    check_reopened(extension, statement, n, after);
  return is_hit;
}

/* All failures of one statement; returns how many there were. */
static long test_statement(const char *extension, const char *statement) {
  long failures = 0;
  char *before = content_after(extension, ""), *after = content_after(extension, statement);
  for (int kind = 0; kind < 2; kind++) {
    for_ever = kind == 1;
    long n = 1;
    while (n < 100000 && fail_once(extension, statement, n, before, after))
      n++;
    failures += n - 1;
    judge(n > 1, "no allocation failed", statement, n, NULL);
  }
  sqlite3_free(before);
  sqlite3_free(after);
  return failures;
}

/* One failure within a transaction, which is committed then. False: the statement ran through without having met it. */
static bool fail_within(const char *extension, const char *statement, long n, const char *before, const char *after) {
  sqlite3 *db = open_connection(extension);
  judge(sqlite3_exec(db, "BEGIN; INSERT INTO kv VALUES ('early', 1)", NULL, NULL, NULL) == SQLITE_OK, "the beginning",
        statement, n, db);
  was_hit = false;
  countdown = n;
  int rc = sqlite3_exec(db, statement, NULL, NULL, NULL);
  countdown = 0;
  bool is_hit = was_hit, is_open = sqlite3_get_autocommit(db) == 0;
  judge(rc == SQLITE_OK || (is_hit && rc == SQLITE_NOMEM), "another error", statement, n, db);
  char *shown = content(db);
  if (is_open)
    judge(shown != NULL && strcmp(shown, rc == SQLITE_OK ? after : before) == 0, "another content", statement, n, db);
  if (is_open)
    judge(sqlite3_exec(db, "COMMIT", NULL, NULL, NULL) == SQLITE_OK, "no commit", statement, n, db);
  judge(sqlite3_close(db) == SQLITE_OK, "a connection that does not close", statement, n, NULL);
  check_reopened(extension, statement, n, shown);
  sqlite3_free(shown);
  return is_hit;
}

static long test_within(const char *extension, const char *statement) {
  char *sql = sqlite3_mprintf("INSERT INTO kv VALUES ('early', 1); %s", statement);
  char *before = content_after(extension, "INSERT INTO kv VALUES ('early', 1)"), *after = content_after(extension, sql);
  long n = 1;
  for_ever = false;
  while (n < 100000 && fail_within(extension, statement, n, before, after))
    n++;
  judge(n > 1, "no allocation failed", statement, n, NULL);
  sqlite3_free(before);
  sqlite3_free(after);
  sqlite3_free(sql);
  return n - 1;
}

/* An SQLite code. */
static int count_entries(sqlite3 *db, int *n) {
  sqlite3_stmt *query = NULL;
  int rc = sqlite3_prepare_v2(db, "SELECT count(*) FROM kv", -1, &query, NULL);
  if (rc == SQLITE_OK && sqlite3_step(query) == SQLITE_ROW)
    *n = sqlite3_column_int(query, 0);
  int finished = sqlite3_finalize(query);
  return rc != SQLITE_OK ? rc : finished;
}

/* One failure at the first use of a copy. False: it was used without having met it. */
static bool fail_in_copy(const char *extension, sqlite3 *file, long n, int expected) {
  static const char use[] = "a copy in memory";
  int entries = -1;
  sqlite3 *copy = reopen_connection(extension);
  sqlite3_backup *backup = sqlite3_backup_init(copy, "main", file, "main");
  judge(backup != NULL && sqlite3_backup_step(backup, -1) == SQLITE_DONE, "no backup", use, n, copy);
  sqlite3_backup_finish(backup);
  was_hit = false;
  countdown = n;
  int rc = count_entries(copy, &entries);
  countdown = 0;
  bool is_hit = was_hit;
  judge(rc == SQLITE_OK ? entries == expected : is_hit && rc == SQLITE_NOMEM, "another content", use, n, copy);
  judge(count_entries(copy, &entries) == SQLITE_OK && entries == expected, "another content later", use, n, copy);
  judge(sqlite3_close(copy) == SQLITE_OK, "a connection that does not close", use, n, NULL);
  return is_hit;
}

/* Of a durable table's file. */
static long test_copy(const char *extension) {
  long failures = 0;
  int expected = 0;
  sqlite3 *file = open_connection(extension);
  judge(count_entries(file, &expected) == SQLITE_OK && expected > 0, "no rows", "a copy in memory", 0, file);
  database = ":memory:";
  for (int kind = 0; kind < 2; kind++) {
    for_ever = kind == 1;
    long n = 1;
    while (n < 100000 && fail_in_copy(extension, file, n, expected))
      n++;
    failures += n - 1;
  }
  database = DATABASE_FILE;
  sqlite3_close(file);
  return failures;
}

int main(void) {
  const char *extension = extension_path();
  long failures = 0;
  enter_temp_folder();
  install();
  for (size_t b = 0; b < sizeof beginnings / sizeof beginnings[0]; b++) {
    beginning = beginnings[b];
    for (size_t i = 0; i < sizeof statements / sizeof statements[0]; i++)
      failures += test_statement(extension, statements[i]);
  }
  beginning = durable;
  database = DATABASE_FILE;
  for (size_t i = 0; i < sizeof durable_statements / sizeof durable_statements[0]; i++)
    failures += test_statement(extension, durable_statements[i]);
  for (size_t i = 0; i < sizeof durable_within / sizeof durable_within[0]; i++)
    failures += test_within(extension, durable_within[i]);
  failures += test_copy(extension);
  for (size_t i = 0; i < sizeof schema_changes / sizeof schema_changes[0]; i++)
    failures += test_statement(extension, schema_changes[i]);
  beginning = bounded;
  for (size_t i = 0; i < sizeof bounded_statements / sizeof bounded_statements[0]; i++)
    failures += test_statement(extension, bounded_statements[i]);
  beginning = beginnings[sizeof beginnings / sizeof beginnings[0] - 1];
  static const char *const databases[] = {":memory:", DATABASE_FILE};
  for (size_t d = 0; d < sizeof databases / sizeof databases[0]; d++) {
    database = databases[d];
    for (size_t i = 0; i < sizeof schema_changes / sizeof schema_changes[0]; i++)
      failures += test_statement(extension, schema_changes[i]);
  }
  remove(IMAGE_FILE);
  remove(DATABASE_FILE);
  judge(leave_temp_folder(), "a file that is left behind", "all", 0, NULL);
  judge(failures > 2000, "too few failures", "all", failures, NULL);
  judge(sqlite3_memory_used() == 0, "a leak", "all", (long)sqlite3_memory_used(), NULL);
  printf("%ld allocations failed\n%d passed, %d failed\n", failures, passed, failed);
  return failed > 0;
}
