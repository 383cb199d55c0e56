/*
** fuzz_durable.c - attacks: the shadow table of a durable table, with whatever rows (D7)
**
** An input is rows: a byte of flags, two bytes of length, and so many bytes of block, which begin with a head. The rows
** get the numbers 1, 2, 3 and so on. With the flag REPAIR the head is made right, so that the records are met; with
** CHAIN the checksum is; SKIP leaves a number out. Held for every input:
**   - a read of the table succeeds, or is refused with SQLITE_CORRUPT_VTAB and a text that names the shadow table; once
**     more, and on another connection, it has the same result
**   - the ordinary table of the file can be read
**   - what was read can be written, and folded (walmap_checkpoint), and is the same when the file is opened again: so
**     compaction and the replay are of one opinion about each record
*/
#include "sql_kit.h"

#include "codec/block.h"

#include <unistd.h>

enum { REPAIR = 1, CHAIN = 2, SKIP = 4, MORE = 8, NEXT_FIRST = 16, LARGEST = 4096 };

static char file[64];
static sqlite3 *plain; /* without walmap: it writes the rows */
static sqlite3_stmt *insertion;

static sqlite3 *open_file(void) {
  sqlite3 *db;
  char *err = NULL;
  MUST(sqlite3_open(file, &db) == SQLITE_OK);
  MUST(sqlite3_walmap_init(db, &err, NULL) == SQLITE_OK_LOAD_PERMANENTLY);
  run_sql(db, "PRAGMA journal_mode = memory; PRAGMA synchronous = off");
  return db;
}

static void remove_file(void) { unlink(file); }

static void make_once(void) {
  char folder[] = "/tmp/walmap-fuzz-XXXXXX";
  if (plain != NULL)
    return;
  MUST(mkdtemp(folder) != NULL);
  snprintf(file, sizeof file, "%s.db", folder);
  MUST(rmdir(folder) == 0);
  atexit(remove_file);
  sqlite3 *db = open_file();
  run_sql(db, "CREATE VIRTUAL TABLE kv USING walmap(shards=2); CREATE TABLE n(key); INSERT INTO n VALUES(1), (2)");
  MUST(sqlite3_close(db) == SQLITE_OK);
  MUST(sqlite3_open(file, &plain) == SQLITE_OK);
  run_sql(plain, "PRAGMA journal_mode = off; PRAGMA synchronous = off");
  insertion = prepare_sql(plain, "INSERT INTO kv_log VALUES(?1, ?2, ?3)");
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* The rows of an input                                                                                               */

typedef struct log {
  uint64_t seq, chain, first, bytes;
  uint32_t index;
  bool more;
} log;

static void put_row(log *l, uint8_t flags, uint8_t *block, size_t size) {
  l->seq += flags & SKIP ? 2 : 1;
  if ((flags & REPAIR) && size >= WM_BLOCK_HEAD) {
    bool more = (flags & MORE) != 0;
    l->index = l->more ? l->index + 1 : 0;
    l->bytes = wm_block_append(l->bytes, l->seq, size);
    wm_block_head head = {more, l->first, l->chain, l->bytes, l->index};
    wm_block_write_head(block, &head, size - WM_BLOCK_HEAD);
    l->more = more;
  }
  l->chain = flags & (REPAIR | CHAIN) ? wm_block_chain(l->seq, block, size) : l->chain * 31 + flags;
  sqlite3_bind_int64(insertion, 1, (sqlite3_int64)l->seq);
  sqlite3_bind_int64(insertion, 2, (sqlite3_int64)l->chain);
  sqlite3_bind_blob(insertion, 3, size > 0 ? block : (const uint8_t *)"", (int)size, SQLITE_STATIC);
  must_sql(plain, sqlite3_step(insertion) == SQLITE_DONE, "a row");
  sqlite3_reset(insertion);
}

static void put_rows(const uint8_t *data, size_t size) {
  uint8_t block[LARGEST];
  log l = {.first = 1};
  run_sql(plain, "BEGIN; DELETE FROM kv_log");
  for (size_t at = 0; at + 3 <= size;) {
    uint8_t flags = data[at];
    size_t length = data[at + 1] | (size_t)data[at + 2] << 8;
    at += 3;
    length = length < size - at ? length : size - at;
    length = length < LARGEST ? length : LARGEST;
    memcpy(block, data + at, length);
    l.first = at == 3 && (flags & NEXT_FIRST) ? l.seq + 1 + (flags & SKIP ? 1 : 0) : l.first;
    put_row(&l, flags, block, length);
    at += length;
  }
  run_sql(plain, "COMMIT");
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* What must hold                                                                                                     */

/* The table as a text, from sqlite3_malloc; NULL where it is refused. */
static char *read_table(sqlite3 *db) {
  sqlite3_stmt *query;
  char *text = NULL;
  int rc = sqlite3_prepare_v2(db,
                              "SELECT coalesce(group_concat(row, ' '), '') FROM (SELECT quote(key) || '=' || "
                              "quote(value) || ':' || quote(expires) AS row FROM kv ORDER BY key)",
                              -1, &query, NULL);
  must_sql(db, rc == SQLITE_OK, "prepare");
  rc = sqlite3_step(query);
  if (rc == SQLITE_ROW) {
    text = sqlite3_mprintf("%s", sqlite3_column_text(query, 0));
  } else {
    must_sql(db, sqlite3_extended_errcode(db) == SQLITE_CORRUPT_VTAB, "another error");
    must_sql(db, strstr(sqlite3_errmsg(db), "kv_log") != NULL, "a text that does not name the shadow table");
  }
  sqlite3_finalize(query);
  return text;
}

static void must_be_equal(char *now, const char *before) {
  MUST((now == NULL) == (before == NULL));
  MUST(now == NULL || strcmp(now, before) == 0);
  sqlite3_free(now);
}

static void look_again(const char *before) {
  sqlite3 *db = open_file();
  must_be_equal(read_table(db), before);
  must_be_equal(read_table(db), before);
  run_sql(db, "SELECT count(*) FROM n");
  MUST(sqlite3_close(db) == SQLITE_OK);
}

static void write_and_fold(void) {
  sqlite3 *db = open_file();
  run_sql(db, "BEGIN; REPLACE INTO kv VALUES('more', 1); SELECT walmap_checkpoint('kv'); COMMIT;"
              "REPLACE INTO kv VALUES('more', 2); DELETE FROM kv WHERE key = 'more'");
  MUST(sqlite3_close(db) == SQLITE_OK);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  make_once();
  put_rows(data, size);
  sqlite3 *db = open_file();
  char *before = read_table(db);
  MUST(sqlite3_close(db) == SQLITE_OK);
  look_again(before);
  if (before != NULL && strstr(before, "'more'=") == NULL) {
    write_and_fold();
    look_again(before);
  }
  sqlite3_free(before);
  return 0;
}
