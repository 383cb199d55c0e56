/*
** bench_order.c - an ordered walmap table beside SQLite's own table, `WITHOUT ROWID`, both in :memory:
**
**   bench_order [quick|full]            200,000 and 1,000,000 entries; quick: 20,000
**   bench_order ENTRIES [ROUNDS]        so many
**   bench_order slices [ENTRIES]        short ordered reads only: the tables are filled once and read in turns, some ms
**                                       at a time, so that what else the machine does meets all alike; beside them,
**                                       where it can, a virtual table that does nothing (null_vtab.h)
**
** Keys are 16 hexadecimal digits, values 100 bytes (`wide` in bench.h). Environment as for bench_sql.c. Both sides run
** the same statements. A third side is a walmap table without order: what its order costs a map.
*/
#include "null_vtab.h"
#include "report.h"
#include "sql.h"

typedef struct data {
  uint32_t n, ops;  /* entries; single operations in a round */
  key *load, *look; /* in the order of their use */
  key *sorted;
  uint64_t seed; /* of the places of ranges */
} data;

enum { SIDES = 3 };
static const char *const sides[SIDES] = {"walmap", "native", "unordered"};

static volatile int64_t sink;

static sqlite3 *side_open(const char *who) {
  sqlite3 *db;
  MUST(sqlite3_open(":memory:", &db) == SQLITE_OK);
  if (strcmp(who, "native") == 0) {
    must_sql(db, "PRAGMA secure_delete = OFF; CREATE TABLE kv(key PRIMARY KEY, value) WITHOUT ROWID");
    return db;
  }
  must_load_walmap(db);
  must_sql(db, strcmp(who, "walmap") == 0 ? "CREATE VIRTUAL TABLE kv USING walmap(ordered=1)"
                                          : "CREATE VIRTUAL TABLE kv USING walmap");
  return db;
}

static double per(uint64_t began, uint32_t n) { return (double)(series_ns() - began) / n; }

/* Steps to the statement's end: how many rows. */
static uint32_t read_rows(sqlite3_stmt *statement) {
  uint32_t rows = 0;
  int64_t sum = 0;
  for (; sqlite3_step(statement) == SQLITE_ROW; rows++)
    sum += *sqlite3_column_text(statement, 0) + sqlite3_column_bytes(statement, sqlite3_column_count(statement) - 1);
  sqlite3_reset(statement);
  sink += sum;
  return rows;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Single keys                                                                                                        */

static void measure(report *r, sqlite3 *db, const char *who, const char *what, const char *sql, const key *keys,
                    uint32_t n) {
  static char value[LARGEST_VALUE];
  sqlite3_stmt *statement = must_prepare(db, sql);
  bool writes = sqlite3_bind_parameter_count(statement) > 1;
  must_sql(db, "BEGIN");
  uint64_t began = series_ns();
  for (uint32_t i = 0; i < n; i++) {
    bind_key(statement, 1, &keys[i]);
    if (writes)
      sqlite3_bind_text(statement, 2, value, (int)value_make(WIDE, &keys[i], 1, value), SQLITE_STATIC);
    (void)read_rows(statement);
  }
  report_sample(r, what, who, per(began, n));
  sqlite3_finalize(statement);
  must_sql(db, "COMMIT");
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Ranges                                                                                                             */

/* Statements with a lower bound at ?1 and an upper one, so many rows further, at ?2. ns a row. */
static void measure_range(report *r, sqlite3 *db, const char *who, const data *d, const char *what, const char *sql,
                          uint32_t length, uint32_t times) {
  sqlite3_stmt *statement = must_prepare(db, sql);
  uint64_t random = d->seed, rows = 0, began = series_ns();
  for (uint32_t i = 0; i < times; i++) {
    uint32_t first = (uint32_t)(random_next(&random) % (d->n - length));
    bind_key(statement, 1, &d->sorted[first]);
    if (sqlite3_bind_parameter_count(statement) > 1)
      bind_key(statement, 2, &d->sorted[first + length - 1]);
    rows += read_rows(statement);
  }
  MUST(rows == (uint64_t)length * times);
  report_sample(r, what, who, per(began, length * times));
  sqlite3_finalize(statement);
}

/* The bounds, or a prefix of some letters, stand in the statement, which is prepared for them. ns a row. */
static void measure_literal(report *r, sqlite3 *db, const char *who, const data *d, const char *what, bool prefix,
                            uint32_t length, uint32_t times) {
  char sql[200];
  uint64_t random = d->seed, began = series_ns();
  uint32_t rows = 0;
  for (uint32_t i = 0; i < times; i++) {
    uint32_t first;
    do /* SQLite makes no bounds of a prefix that may be a number's */
      first = (uint32_t)(random_next(&random) % (d->n - length));
    while (prefix && d->sorted[first].text[0] <= '9');
    if (prefix)
      snprintf(sql, sizeof sql, "SELECT key, value FROM kv WHERE key GLOB '%.*s*'", (int)length, d->sorted[first].text);
    else
      snprintf(sql, sizeof sql, "SELECT key, value FROM kv WHERE key BETWEEN '%s' AND '%s'", d->sorted[first].text,
               d->sorted[first + length - 1].text);
    sqlite3_stmt *statement = must_prepare(db, sql);
    rows += read_rows(statement);
    sqlite3_finalize(statement);
  }
  MUST(rows > 0);
  report_sample(r, what, who, per(began, rows));
}

/* A statement without parameters. ns, or ns a row. */
static void measure_fixed(report *r, sqlite3 *db, const char *who, const char *what, const char *sql, uint32_t rows,
                          uint32_t times, bool a_row) {
  sqlite3_stmt *statement = must_prepare(db, sql);
  uint64_t began = series_ns();
  for (uint32_t i = 0; i < times; i++)
    MUST(read_rows(statement) == rows);
  report_sample(r, what, who, per(began, a_row ? rows * times : times));
  sqlite3_finalize(statement);
}

/* ------------------------------------------------------------------------------------------------------------------ */

static void run_side(report *r, const data *d, const char *who) {
  sqlite3 *db = side_open(who);
  measure(r, db, who, "insert", "INSERT INTO kv VALUES(?1, ?2)", d->load, d->n);
  measure(r, db, who, "get", "SELECT value FROM kv WHERE key = ?1", d->look, d->ops);
  if (strcmp(who, "unordered") != 0) {
    measure(r, db, who, "next key", "SELECT key FROM kv WHERE key > ?1 ORDER BY key LIMIT 1", d->look, d->ops);
    measure(r, db, who, "previous key", "SELECT key FROM kv WHERE key < ?1 ORDER BY key DESC LIMIT 1", d->look, d->ops);
    measure_range(r, db, who, d, "range of 100, a row", "SELECT key, value FROM kv WHERE key >= ?1 AND key <= ?2", 100,
                  d->ops / 100);
    measure_range(r, db, who, d, "BETWEEN of 1000, a row", "SELECT key, value FROM kv WHERE key BETWEEN ?1 AND ?2",
                  1000, d->ops / 1000);
    measure_literal(r, db, who, d, "range of 100, literal bounds, a row", false, 100, d->ops / 100);
    measure_literal(r, db, who, d, "BETWEEN of 1000, literal bounds, a row", false, 1000, d->ops / 1000);
    measure_literal(r, db, who, d, "prefix of 3 letters, a row", true, 3, d->ops / 100);
    measure_fixed(r, db, who, "first ten", "SELECT key FROM kv ORDER BY key LIMIT 10", 10, d->ops / 10, false);
    measure_fixed(r, db, who, "max", "SELECT max(key) FROM kv", 1, d->ops / 10, false);
    measure_fixed(r, db, who, "all by key, a row", "SELECT key, value FROM kv ORDER BY key", d->n, 1, true);
  }
  measure(r, db, who, "replace", "REPLACE INTO kv VALUES(?1, ?2)", d->look, d->ops);
  measure(r, db, who, "delete", "DELETE FROM kv WHERE key = ?1", d->look, d->ops);
  MUST(sqlite3_close(db) == SQLITE_OK);
}

static int compare_keys(const void *a, const void *b) { return strcmp(((const key *)a)->text, ((const key *)b)->text); }

static data make_data(uint32_t n) {
  data d = {.n = n, .ops = n < 200000 ? n : 200000, .seed = 7};
  uint32_t *order = order_shuffled(n, 1);
  d.load = keys_make(WIDE, order, n, 0);
  d.sorted = keys_make(WIDE, order, n, 0);
  qsort(d.sorted, n, sizeof *d.sorted, compare_keys);
  free(order);
  order = order_shuffled(n, 2);
  d.look = keys_make(WIDE, order, n, 0);
  free(order);
  return d;
}

static void free_data(data *d) {
  free(d->load);
  free(d->look);
  free(d->sorted);
}

static void run(report *r, uint32_t n, int rounds) {
  static const struct {
    const char *what;
    double target;
  } rows[] = {
      {"next key", 0.8},
      {"previous key", 0.8},
      {"range of 100, a row", 1.25},
      {"range of 100, literal bounds, a row", 1.0},
      {"BETWEEN of 1000, a row", 1.35},
      {"BETWEEN of 1000, literal bounds, a row", 1.0},
      {"prefix of 3 letters, a row", 1.35},
      {"first ten", 1.15},
      {"max", 1.05},
      {"all by key, a row", 1.15},
      {"insert", 0.55},
      {"replace", 0.40},
      {"delete", 0.60},
      {"get", 0.65},
  };
  data d = make_data(n);
  report_title(r, "ordered, %u entries", n);
  for (int round = 0; round <= rounds; round++)
    for (int turn = 0; turn < SIDES; turn++)
      run_side(r, &d, sides[turn_of(round, turn, SIDES)]);
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
    report_row(r, rows[i].what, "ns", "native", RATIO_AT_MOST, rows[i].target);
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
    if (!isnan(report_median(r, rows[i].what, "unordered")))
      report_row(r, rows[i].what, "ns", "unordered", NO_TARGET, 0);
  free_data(&d);
}

/* ------------------------------------------------------------------------------------------------------------------ */

static void read_slice(report *r, sqlite3 *db, const char *who, const data *d) {
  measure_fixed(r, db, who, "first ten", "SELECT key FROM kv ORDER BY key LIMIT 10", 10, 2000, false);
  if (strcmp(who, "null") == 0)
    return;
  measure_fixed(r, db, who, "max", "SELECT max(key) FROM kv", 1, 2000, false);
  measure_literal(r, db, who, d, "range of 100, literal bounds, a row", false, 100, 200);
  measure_literal(r, db, who, d, "BETWEEN of 1000, literal bounds, a row", false, 1000, 20);
}

static void run_slices(report *r, uint32_t n) {
  static const char *const rows[] = {"first ten", "max", "range of 100, literal bounds, a row",
                                     "BETWEEN of 1000, literal bounds, a row"};
  static const char *const who[SIDES] = {"walmap", "native", "null"};
  data d = make_data(n);
  bare_source source = {d.sorted, n, "", true};
  sqlite3 *db[SIDES];
  report_title(r, "ordered, %u entries, in slices", n);
  for (int side = 0; side < 2; side++) {
    db[side] = side_open(who[side]);
    measure(r, db[side], who[side], "insert", "INSERT INTO kv VALUES(?1, ?2)", d.load, d.n);
  }
  MUST(sqlite3_open(":memory:", &db[2]) == SQLITE_OK);
  bare_create(db[2], &bare_module, &source);
  for (int slice = 0; slice < MOST_SAMPLES; slice++) {
    d.seed = (uint64_t)slice;
    for (int turn = 0; turn < SIDES; turn++) {
      int side = turn_of(slice, turn, SIDES);
      read_slice(r, db[side], who[side], &d);
    }
  }
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
    report_row(r, rows[i], "ns", "native", NO_TARGET, 0);
  report_row(r, rows[0], "ns", "null", NO_TARGET, 0);
  for (int side = 0; side < SIDES; side++)
    MUST(sqlite3_close(db[side]) == SQLITE_OK);
  free_data(&d);
}

int main(int argc, char **argv) {
  const char *what = argc > 1 ? argv[1] : "full";
  bool statistics = choose_statistics();
  report *r = report_open("bench_order", sqlite_version(statistics));
  if (!strcmp(what, "full")) {
    run(r, 200000, 5);
    run(r, 1000000, 5);
  } else if (!strcmp(what, "quick")) {
    run(r, 20000, 5);
  } else if (!strcmp(what, "slices")) {
    run_slices(r, argc > 2 ? (uint32_t)atoi(argv[2]) : 200000);
  } else {
    MUST(atoi(what) >= 10000);
    run(r, (uint32_t)atoi(what), argc > 2 ? atoi(argv[2]) : 5);
  }
  report_close(r);
  return 0;
}
