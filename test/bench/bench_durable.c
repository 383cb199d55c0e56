/*
** bench_durable.c - a durable table beside a native WITHOUT ROWID table of the same file
**
** Each measure alternates between the two tables, in rounds; the smallest time of each counts, and their ratio is what
** to look at. Catching up with what another process has written is measured alone. Keys are texts of 16 hexadecimal
** digits, values BLOBs of 100 bytes. The native side gets 256 MB of cache.
**
** Usage: bench_durable quick|full [folder [WAL|DELETE [NORMAL|FULL]]]     20,000 or 1,000,000 rows; /dev/shm WAL NORMAL
** Environment: BENCH_CLOCK=cpu; WALMAP_SO is the extension (default ./walmap)
*/
#include "bench.h"

#include <sqlite3.h>

enum { ROUNDS = 5 };

static const char *extension = "./walmap";
static char file[200];
static const char *mode = "WAL", *synchronous = "NORMAL";
static uint32_t rows;
static uint64_t counter;

static void must(sqlite3 *db, const char *sql) {
  if (sqlite3_exec(db, sql, NULL, NULL, NULL) != SQLITE_OK) {
    fprintf(stderr, "%s: %s\n", sql, sqlite3_errmsg(db));
    exit(1);
  }
}

static sqlite3 *connect_to_file(void) {
  sqlite3 *db;
  char sql[160];
  MUST(sqlite3_open(file, &db) == SQLITE_OK);
  sqlite3_enable_load_extension(db, 1);
  MUST(sqlite3_load_extension(db, extension, NULL, NULL) == SQLITE_OK);
  snprintf(sql, sizeof sql, "PRAGMA journal_mode = %s; PRAGMA synchronous = %s; PRAGMA cache_size = -262144", mode,
           synchronous);
  must(db, sql);
  return db;
}

static void bind_key(sqlite3_stmt *s, uint32_t row) {
  char key[17];
  snprintf(key, sizeof key, "%016llx", (unsigned long long)mix(row + UINT64_C(1)));
  sqlite3_bind_text(s, 1, key, 16, SQLITE_TRANSIENT);
}

static void set_row(sqlite3_stmt *s, uint32_t row) {
  uint64_t value[13] = {counter++};
  bind_key(s, row);
  sqlite3_bind_blob(s, 2, value, 100, SQLITE_TRANSIENT);
  MUST(sqlite3_step(s) == SQLITE_DONE);
  sqlite3_reset(s);
}

static void get_row(sqlite3_stmt *s, uint32_t row) {
  bind_key(s, row);
  MUST(sqlite3_step(s) == SQLITE_ROW && sqlite3_column_bytes(s, 0) == 100);
  sqlite3_reset(s);
}

typedef struct side {
  sqlite3 *db;
  sqlite3_stmt *set, *get;
  const char *table;
} side;

static sqlite3_stmt *prepare(sqlite3 *db, const char *format, const char *table) {
  char sql[120];
  sqlite3_stmt *statement;
  snprintf(sql, sizeof sql, format, table);
  MUST(sqlite3_prepare_v2(db, sql, -1, &statement, NULL) == SQLITE_OK);
  return statement;
}

static void load(side *s) {
  must(s->db, "BEGIN");
  for (uint32_t i = 0; i < rows; i++)
    set_row(s->set, i);
  must(s->db, "COMMIT");
}

static void commits(side *s) {
  for (int i = 0; i < 1000; i++)
    set_row(s->set, (uint32_t)(mix(counter) % rows));
}

static void transactions(side *s, int transactions, int size) {
  for (int t = 0; t < transactions; t++) {
    must(s->db, "BEGIN");
    for (int i = 0; i < size; i++)
      set_row(s->set, (uint32_t)(mix(counter) % rows));
    must(s->db, "COMMIT");
  }
}

static void tens(side *s) { transactions(s, 200, 10); }
static void thousands(side *s) { transactions(s, 10, 1000); }

static void gets(side *s) {
  for (uint32_t i = 0; i < 20000; i++)
    get_row(s->get, (uint32_t)(mix(counter++) % rows));
}

static void gets_in_begin(side *s) {
  must(s->db, "BEGIN");
  gets(s);
  must(s->db, "COMMIT");
}

static void measure(side sides[2], const char *what, void (*work)(side *), int rounds) {
  uint64_t best[2] = {UINT64_MAX, UINT64_MAX};
  for (int round = 0; round < rounds; round++) {
    for (int i = 0; i < 2; i++) {
      uint64_t start = series_ns();
      work(&sides[i]);
      uint64_t took = series_ns() - start;
      best[i] = took < best[i] ? took : best[i];
    }
  }
  printf("%-28s %12.3f ms %12.3f ms   %.2f\n", what, (double)best[0] / 1e6, (double)best[1] / 1e6,
         (double)best[0] / (double)best[1]);
  fflush(stdout);
}

static void reopen(side *s) {
  sqlite3 *db = connect_to_file();
  sqlite3_stmt *statement = prepare(db, "SELECT value FROM %s WHERE key = ?1", s->table);
  bind_key(statement, 1);
  MUST(sqlite3_step(statement) == SQLITE_ROW);
  sqlite3_finalize(statement);
  sqlite3_close(db);
}

/* Another process, which is this program once more, changes rows; here the next read applies them to the map. */
static void catch_up(const char *program) {
  enum { CHANGED = 20000 };
  char command[500];
  sqlite3 *db = connect_to_file();
  sqlite3_stmt *get = prepare(db, "SELECT value FROM %s WHERE key = ?1", "kv");
  uint64_t best = UINT64_MAX;
  get_row(get, 1);
  for (int round = 0; round < ROUNDS; round++) {
    snprintf(command, sizeof command, "'%s' writer '%s' %u %u", program, file, (unsigned)rows, (unsigned)CHANGED);
    MUST(system(command) == 0);
    uint64_t start = series_ns();
    get_row(get, 1);
    uint64_t took = series_ns() - start;
    best = took < best ? took : best;
  }
  sqlite3_finalize(get);
  sqlite3_close(db);
  printf("%-28s %12.3f us a changed row\n", "catching up", (double)best / 1e3 / CHANGED);
}

static int write_as_other(char **argv) {
  snprintf(file, sizeof file, "%s", argv[2]);
  rows = (uint32_t)strtoul(argv[3], NULL, 10);
  counter = now_ns();
  side other = {.db = connect_to_file(), .table = "kv"};
  other.set = prepare(other.db, "REPLACE INTO %s VALUES(?1, ?2)", other.table);
  transactions(&other, 20, atoi(argv[4]) / 20);
  sqlite3_finalize(other.set);
  return sqlite3_close(other.db);
}

int main(int argc, char **argv) {
  if (getenv("WALMAP_SO") != NULL)
    extension = getenv("WALMAP_SO");
  if (argc == 5 && strcmp(argv[1], "writer") == 0)
    return write_as_other(argv);
  rows = argc > 1 && strcmp(argv[1], "full") == 0 ? 1000000 : 20000;
  const char *folder = argc > 2 ? argv[2] : "/dev/shm";
  if (argc > 3)
    mode = argv[3];
  if (argc > 4)
    synchronous = argv[4];
  snprintf(file, sizeof file, "%s/bench_durable-%d.db", folder, (int)getpid());
  side sides[2] = {{.table = "kv"}, {.table = "n"}};
  sqlite3 *db = connect_to_file();
  must(db, "CREATE VIRTUAL TABLE kv USING walmap; CREATE TABLE n(key PRIMARY KEY, value) WITHOUT ROWID");
  for (int i = 0; i < 2; i++) {
    sides[i].db = db;
    sides[i].set = prepare(db, "REPLACE INTO %s VALUES(?1, ?2)", sides[i].table);
    sides[i].get = prepare(db, "SELECT value FROM %s WHERE key = ?1", sides[i].table);
  }
  printf("%u rows, %s, journal mode %s, synchronous %s\n%-28s %15s %15s   %s\n", rows, folder, mode, synchronous, "",
         "durable", "native", "ratio");
  measure(sides, "bulk load", load, 1);
  measure(sides, "1,000 commits of one row", commits, ROUNDS);
  measure(sides, "200 transactions of 10", tens, ROUNDS);
  measure(sides, "10 transactions of 1,000", thousands, ROUNDS);
  measure(sides, "20,000 autocommit gets", gets, ROUNDS);
  measure(sides, "20,000 gets in BEGIN", gets_in_begin, ROUNDS);
  for (int i = 0; i < 2; i++) {
    sqlite3_finalize(sides[i].set);
    sqlite3_finalize(sides[i].get);
  }
  sqlite3_close(db);
  measure(sides, "open and read one row", reopen, ROUNDS);
  catch_up(argv[0]);
  db = connect_to_file();
  sqlite3_stmt *sizes =
      prepare(db,
              "SELECT (SELECT sum(length(block)) FROM kv_log), (SELECT sum(length(key) + length(value)) "
              "FROM %s)",
              "n");
  MUST(sqlite3_step(sizes) == SQLITE_ROW);
  printf("%-28s %12.2f MB, %.2f times the live bytes\n", "the log in the file", sqlite3_column_double(sizes, 0) / 1e6,
         sqlite3_column_double(sizes, 0) / sqlite3_column_double(sizes, 1));
  sqlite3_finalize(sizes);
  sqlite3_close(db);
  static const char *const suffixes[] = {"", "-wal", "-shm", "-journal"};
  for (int i = 0; i < 4; i++) {
    char path[220];
    snprintf(path, sizeof path, "%s%s", file, suffixes[i]);
    unlink(path);
  }
  return 0;
}
