/*
** durable_damage.c - shadow tables that are damaged or made up (D7)
**
** Looks for: a bit of the shadow table that can be flipped without an error; a row that can be removed, doubled, moved
** or taken from another table without one; a made-up block, with right checksums, that crashes the reader; a wrong row
** in any of these cases; damage that takes the other tables of the file along.
**
** Environment: SEED; WALMAP_SO is the extension (default ./walmap)
*/
#define SQLITE_CORE 1 /* call SQLite directly */
#define _GNU_SOURCE   /* mkdtemp */
#include "codec/block.c"
#include "codec/codec.c"
#include "codec/codec_check.c"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static const char *extension = "./walmap";
static char file[96];
static sqlite3 *plain; /* without the extension: it changes the shadow table */
static long passed, failed;
static uint64_t state;

static unsigned pick(unsigned n) {
  uint64_t z = state += 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return (unsigned)((z ^ (z >> 31)) % n);
}

static void judge(bool fine, const char *what, const char *how, long which) {
  passed += fine;
  failed += !fine;
  if (!fine && failed < 20)
    printf("FAILED: %s: %s %ld\n", what, how, which);
}

static void must(sqlite3 *db, const char *sql) {
  char *err = NULL;
  if (sqlite3_exec(db, sql, NULL, NULL, &err) != SQLITE_OK) {
    printf("cannot go on: %s: %s\n", sql, err);
    exit(2);
  }
}

static sqlite3 *open_file(bool with_extension) {
  sqlite3 *db;
  if (sqlite3_open(file, &db) != SQLITE_OK)
    exit(2);
  must(db, "PRAGMA synchronous = off");
  sqlite3_enable_load_extension(db, 1);
  if (with_extension && sqlite3_load_extension(db, extension, NULL, NULL) != SQLITE_OK)
    exit(2);
  return db;
}

/* The table's content as a text in `to`; an SQLite code. */
static int read_table(sqlite3 *db, const char *sql, char *to, size_t size) {
  sqlite3_stmt *statement;
  to[0] = 0;
  int rc = sqlite3_prepare_v2(db, sql, -1, &statement, NULL);
  if (rc != SQLITE_OK)
    return rc;
  if ((rc = sqlite3_step(statement)) == SQLITE_ROW) {
    snprintf(to, size, "%s", sqlite3_column_text(statement, 0));
    rc = SQLITE_OK;
  } else {
    rc = sqlite3_extended_errcode(db);
  }
  sqlite3_finalize(statement);
  return rc;
}

#define CONTENT "SELECT group_concat(quote(key) || '=' || quote(value), ' ') FROM (SELECT * FROM kv ORDER BY key)"
static char right[4096];

/* Each connection that opens the file must find the damage, and can use the other tables. */
static void expect_damage(const char *how, long which) {
  char text[4096];
  sqlite3 *db = open_file(true);
  judge(read_table(db, CONTENT, text, sizeof text) == SQLITE_CORRUPT_VTAB, "not found by a read", how, which);
  judge(strstr(sqlite3_errmsg(db), "kv_log") != NULL, "an error that does not name the shadow table", how, which);
  judge(sqlite3_exec(db, "INSERT INTO kv VALUES('more', 1)", NULL, NULL, NULL) != SQLITE_OK, "not found by a write",
        how, which);
  judge(read_table(db, "SELECT walmap_get('kv', 1)", text, sizeof text) == SQLITE_CORRUPT_VTAB,
        "not found by a function", how, which);
  judge(read_table(db, "SELECT count(*) FROM n", text, sizeof text) == SQLITE_OK && strcmp(text, "3") == 0,
        "another table cannot be read", how, which);
  judge(sqlite3_exec(db, "UPDATE n SET key = key", NULL, NULL, NULL) == SQLITE_OK, "another table cannot be written",
        how, which);
  sqlite3_close(db);
}

static void expect_right(const char *how, long which) {
  char text[4096];
  sqlite3 *db = open_file(true);
  judge(read_table(db, CONTENT, text, sizeof text) == SQLITE_OK && strcmp(text, right) == 0, "not as before", how,
        which);
  sqlite3_close(db);
}

/* Whether it is an error or not, nothing crashes; what is read once is read again. */
static bool survives(const char *how, long which) {
  char text[4096], again[4096];
  sqlite3 *db = open_file(true);
  int rc = read_table(db, CONTENT, text, sizeof text);
  judge(rc == SQLITE_OK || rc == SQLITE_CORRUPT_VTAB, "another error", how, which);
  judge(read_table(db, CONTENT, again, sizeof again) == rc && strcmp(text, again) == 0, "another answer", how, which);
  read_table(db, "SELECT sum(length(value)) + count(walmap_get('kv', key)) FROM kv", again, sizeof again);
  if (rc == SQLITE_OK)
    judge(sqlite3_exec(db, "BEGIN; INSERT OR REPLACE INTO kv VALUES('more', 1); ROLLBACK", NULL, NULL, NULL) ==
              SQLITE_OK,
          "cannot be written", how, which);
  sqlite3_close(db);
  return rc == SQLITE_OK;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Rows                                                                                                               */

enum { ROWS = 6 };
typedef struct row {
  sqlite3_int64 chain;
  uint8_t block[1024];
  int size;
} row;
static row rows[ROWS + 1]; /* from 1 on */

static void load_rows(void) {
  sqlite3_stmt *statement;
  sqlite3_prepare_v2(plain, "SELECT seq, chain, block FROM kv_log ORDER BY seq", -1, &statement, NULL);
  int n = 0;
  while (sqlite3_step(statement) == SQLITE_ROW) {
    row *r = &rows[sqlite3_column_int(statement, 0)];
    r->chain = sqlite3_column_int64(statement, 1);
    r->size = sqlite3_column_bytes(statement, 2);
    memcpy(r->block, sqlite3_column_blob(statement, 2), (size_t)r->size);
    n++;
  }
  sqlite3_finalize(statement);
  if (n != ROWS) {
    printf("cannot go on: %d rows\n", n);
    exit(2);
  }
}

static void put_row(int seq, sqlite3_int64 chain, const void *block, int size) {
  static sqlite3_stmt *statement;
  if (statement == NULL)
    sqlite3_prepare_v2(plain, "REPLACE INTO kv_log VALUES(?1, ?2, ?3)", -1, &statement, NULL);
  sqlite3_bind_int(statement, 1, seq);
  sqlite3_bind_int64(statement, 2, chain);
  sqlite3_bind_blob(statement, 3, block, size, SQLITE_TRANSIENT);
  if (sqlite3_step(statement) != SQLITE_DONE)
    exit(2);
  sqlite3_reset(statement);
}

static void restore_rows(void) {
  must(plain, "BEGIN; DELETE FROM kv_log");
  for (int i = 1; i <= ROWS; i++)
    put_row(i, rows[i].chain, rows[i].block, rows[i].size);
  must(plain, "COMMIT");
}

static void make(void) {
  char text[64];
  sqlite3 *db = open_file(true);
  must(db, "CREATE VIRTUAL TABLE kv USING walmap(durable=1); CREATE VIRTUAL TABLE other USING walmap(durable=1);"
           "CREATE TABLE n(key); INSERT INTO n VALUES(1), (2), (3);"
           "INSERT INTO kv VALUES(1, 'one'), ('two', 2.5); INSERT INTO kv VALUES(x'03', NULL);"
           "UPDATE kv SET value = 'eins' WHERE key = 1; DELETE FROM kv WHERE key = 'two';"
           "INSERT INTO kv VALUES('five', 'a' || char(0) || 'b'), (-1, -1);"
           "INSERT INTO other VALUES(1, 1); INSERT INTO other VALUES(2, 2); INSERT INTO other VALUES(3, 3);"
           "INSERT INTO other VALUES(4, 4); INSERT INTO other VALUES(5, 5)");
  read_table(db, CONTENT, right, sizeof right);
  judge(read_table(db, "SELECT count(*) FROM kv", text, sizeof text) == SQLITE_OK && strcmp(text, "4") == 0, "made", "",
        0);
  sqlite3_close(db);
}

/* ------------------------------------------------------------------------------------------------------------------ */

static void flip_bits(void) {
  for (int i = 1; i <= ROWS; i++) {
    row *r = &rows[i];
    for (long bit = 0; bit < 8L * r->size; bit += 1 + (long)pick(3)) { /* all bits in three runs */
      r->block[bit / 8] ^= (uint8_t)(1 << bit % 8);
      put_row(i, r->chain, r->block, r->size);
      expect_damage("bit of a block", 10000L * i + bit);
      r->block[bit / 8] ^= (uint8_t)(1 << bit % 8);
      put_row(i, r->chain, r->block, r->size);
    }
    for (int bit = 0; bit < 64; bit++) {
      put_row(i, r->chain ^ (sqlite3_int64)(UINT64_C(1) << bit), r->block, r->size);
      expect_damage("bit of a chain", 100L * i + bit);
    }
    put_row(i, r->chain, r->block, r->size);
  }
  expect_right("flipped back", 0);
}

static void move_rows(void) {
  char sql[200];
  for (int i = 1; i < ROWS; i++) {
    snprintf(sql, sizeof sql, "DELETE FROM kv_log WHERE seq = %d", i);
    must(plain, sql);
    expect_damage("row removed", i);
    restore_rows();
    snprintf(sql, sizeof sql, "DELETE FROM kv_log WHERE seq <= %d", i);
    must(plain, sql);
    expect_damage("rows removed to", i);
    restore_rows();
    snprintf(sql, sizeof sql, "REPLACE INTO kv_log SELECT %d, chain, block FROM kv_log WHERE seq = %d", ROWS + 1, i);
    must(plain, sql);
    expect_damage("row doubled", i);
    restore_rows();
    put_row(i, rows[i + 1].chain, rows[i + 1].block, rows[i + 1].size);
    put_row(i + 1, rows[i].chain, rows[i].block, rows[i].size);
    expect_damage("rows swapped", i);
    restore_rows();
    if (i > 1) {
      snprintf(sql, sizeof sql, "REPLACE INTO kv_log SELECT * FROM other_log WHERE seq = %d", i);
      must(plain, sql);
      expect_damage("row of another table", i);
      restore_rows();
    }
    snprintf(sql, sizeof sql, "UPDATE kv_log SET block = CAST(block AS TEXT) WHERE seq = %d", i);
    must(plain, sql);
    expect_damage("block that is a text", i);
    restore_rows();
  }
  must(plain, "DELETE FROM kv_log");
  expect_damage("all rows removed", 0);
  restore_rows();
  must(plain, "UPDATE kv_log SET seq = seq - 1");
  expect_damage("rows from 0 on", 0);
  restore_rows();
  must(plain, "UPDATE kv_log SET seq = -seq");
  expect_damage("negative rows", 0);
  restore_rows();
  /* The newest row: the state before it, which the table had. */
  must(plain, "DELETE FROM kv_log WHERE seq = 6");
  judge(survives("newest row removed", 0), "an older state is refused", "", 0);
  restore_rows();
  expect_right("rows restored", 0);
}

/* A row that says to be another one of its transaction, of which it is the only one. */
static void forge_index(void) {
  for (uint32_t index = 1; index <= ROWS; index++) {
    row r = rows[ROWS];
    store(r.block + 36, index, 4);
    put_row(ROWS, (sqlite3_int64)wm_block_chain(ROWS, r.block, (size_t)r.size), r.block, r.size);
    expect_damage("index", index);
  }
  restore_rows();
}

/* Made-up blocks with right checksums, in the last row, so that nothing after it contradicts them. */
static void forge(long trials) {
  long accepted = 0;
  for (long i = 0; i < trials; i++) {
    row r = rows[ROWS];
    for (unsigned n = 1 + pick(4); n > 0; n--) {
      switch (pick(4)) {
      case 0:
        r.block[pick((unsigned)r.size)] = (uint8_t)pick(256);
        break;
      case 1:
        r.block[WM_BLOCK_HEAD + pick((unsigned)(r.size - WM_BLOCK_HEAD))] = (uint8_t)pick(8);
        break;
      case 2:
        r.block[pick((unsigned)r.size)] ^= (uint8_t)(1 << pick(8));
        break;
      default:
        r.size = WM_BLOCK_HEAD + 1 + (int)pick((unsigned)(r.size - WM_BLOCK_HEAD));
        store(r.block + 32, (uint64_t)(r.size - WM_BLOCK_HEAD), 4);
        break;
      }
    }
    put_row(ROWS, (sqlite3_int64)wm_block_chain(ROWS, r.block, (size_t)r.size), r.block, r.size);
    accepted += survives("forged", i);
  }
  judge(accepted > trials / 100 && accepted < trials, "forging was not tried", "", accepted);
  restore_rows();
  expect_right("forged rows replaced", 0);
}

int main(void) {
  char template[] = "/tmp/walmap-damage-XXXXXX", command[120];
  if (getenv("WALMAP_SO") != NULL)
    extension = getenv("WALMAP_SO");
  state = getenv("SEED") != NULL ? strtoull(getenv("SEED"), NULL, 10) : (uint64_t)time(NULL);
  printf("seed %llu (repeat with SEED=)\n", (unsigned long long)state);
  snprintf(file, sizeof file, "%s/a.db", mkdtemp(template));
  make();
  plain = open_file(false);
  load_rows();
  expect_right("untouched", 0);
  flip_bits();
  move_rows();
  forge_index();
  forge(3000);
  sqlite3_close_v2(plain);
  snprintf(command, sizeof command, "rm -rf %s", template);
  if (system(command) != 0)
    printf("%s stays\n", template);
  printf("%ld passed, %ld failed\n", passed, failed);
  return failed > 0;
}
