/*
** bench_sql.c - through SQL: a walmap table beside SQLite's own table, `WITHOUT ROWID`, both in :memory:
**
**   bench_sql [quick|full]                 the tables of test/bench/README.md
**   bench_sql WORKLOAD ENTRIES [ROUNDS]    one of them: small, wide or large
**
** WALMAP_SO names the extension, default ./walmap.so; MEMSTATUS=0 turns SQLite's memory statistics off; BENCH_CLOCK=cpu
** counts processor time, for machines that are busy. Both sides run the same prepared statements in connections of
** their own, made anew in every round. The keys and values are text. SQLite's table need not overwrite what it deletes
** (secure_delete), which some builds of SQLite make it do.
**
** A third side is a virtual table that does nothing (null_vtab.h). Its ratio is the least that any virtual table can
** have: where it is above a target, only SQLite itself could meet that. A fourth is one over a plain hash table, for
** one connection and without transactions (hash_vtab.h).
*/
#include "first_touch.h"
#include "hash_vtab.h"
#include "null_vtab.h"
#include "report.h"
#include "sql.h"

typedef struct side {
  const char *who;
  sqlite3 *db;
  bool native, bare, plain;
  bare_source source;
} side;

typedef struct data {
  workload w;
  uint32_t n, ops;                  /* entries; single operations in a round */
  key *load, *look, *zipf, *absent; /* in the order of their use */
} data;

enum { SIDES = 4 };
static const char *const sides[SIDES] = {"walmap", "native", "bare", "plain"};

static void side_open(side *s, const data *d, const char *who) {
  static char value[LARGEST_VALUE + 1];
  *s = (side){.who = who};
  s->native = strcmp(who, "native") == 0, s->bare = strcmp(who, "bare") == 0, s->plain = strcmp(who, "plain") == 0;
  MUST(sqlite3_open(":memory:", &s->db) == SQLITE_OK);
  if (s->native) {
    must_sql(s->db, "PRAGMA secure_delete = OFF; CREATE TABLE kv(key PRIMARY KEY, value) WITHOUT ROWID");
  } else if (s->bare || s->plain) {
    value[value_make(d->w, &d->load[0], 0, value)] = 0;
    s->source = (bare_source){d->load, d->n, value};
    bare_create(s->db, s->bare ? &bare_module : plain_module(), &s->source);
  } else {
    must_load_walmap(s->db);
    must_sql(s->db, "CREATE VIRTUAL TABLE kv USING walmap");
  }
}

static bool is_walmap(const side *s) { return !s->native && !s->bare && !s->plain; }

static void side_close(side *s) { MUST(sqlite3_close(s->db) == SQLITE_OK); }

static double per(uint64_t began, uint32_t n) { return (double)(series_ns() - began) / n; }

static char value_buffer[LARGEST_VALUE];
static volatile int64_t sink;

/* ------------------------------------------------------------------------------------------------------------------ */
/* Single operations                                                                                                  */

/* A statement with a key at ?1, and a value at ?2 if `generation` isn't negative, for n keys. ns a key. */
static double run_keys(const data *d, sqlite3_stmt *statement, const key *keys, uint32_t n, int generation,
                       int expected) {
  int64_t sum = 0;
  uint64_t began = series_ns();
  for (uint32_t i = 0; i < n; i++) {
    bind_key(statement, 1, &keys[i]);
    if (generation >= 0) {
      size_t len = value_make(d->w, &keys[i], (uint32_t)generation, value_buffer);
      sqlite3_bind_text(statement, 2, value_buffer, (int)len, SQLITE_STATIC);
    }
    must_step(statement, expected);
    if (expected == SQLITE_ROW)
      sum += *sqlite3_column_text(statement, 0) + sqlite3_column_bytes(statement, 0);
    sqlite3_reset(statement);
  }
  sink += sum;
  return per(began, n);
}

static void measure(report *r, side *s, const data *d, const char *what, const char *sql, const key *keys, uint32_t n,
                    int generation, bool in_transaction) {
  sqlite3_stmt *statement = must_prepare(s->db, sql);
  int expected = sqlite3_column_count(statement) > 0 && keys != d->absent ? SQLITE_ROW : SQLITE_DONE;
  if (in_transaction)
    must_sql(s->db, "BEGIN");
  report_sample(r, what, s->who, run_keys(d, statement, keys, n, generation, expected));
  sqlite3_finalize(statement);
  if (in_transaction)
    must_sql(s->db, "COMMIT");
}

/* An IN list of 100 parameters, a key. */
static void measure_in_list(report *r, side *s, const data *d) {
  char sql[1024] = "SELECT value FROM kv WHERE key IN (?";
  for (int i = 1; i < 100; i++)
    strcat(sql, ",?");
  strcat(sql, ")");
  sqlite3_stmt *statement = must_prepare(s->db, sql);
  uint32_t whole = d->ops / 100 * 100;
  int64_t sum = 0;
  uint64_t began = series_ns();
  for (uint32_t i = 0; i < whole; i += 100) {
    int rows = 0;
    for (uint32_t j = 0; j < 100; j++)
      bind_key(statement, (int)j + 1, &d->look[i + j]);
    for (; sqlite3_step(statement) == SQLITE_ROW; rows++)
      sum += *sqlite3_column_text(statement, 0);
    MUST(rows == 100);
    sqlite3_reset(statement);
  }
  report_sample(r, "IN list of 100, a key", s->who, per(began, whole));
  sqlite3_finalize(statement);
  sink += sum;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Whole tables                                                                                                       */

static int64_t one_number(side *s, const char *sql, double *ns) {
  sqlite3_stmt *statement = must_prepare(s->db, sql);
  uint64_t began = series_ns();
  must_step(statement, SQLITE_ROW);
  int64_t number = sqlite3_column_int64(statement, 0);
  *ns = (double)(series_ns() - began);
  sqlite3_finalize(statement);
  return number;
}

/* A statement that does next to nothing, again and again: beside walmap_len() the cheapest function that SQLite has. */
static void measure_call(report *r, side *s, const char *what, const char *sql) {
  enum { CALLS = 10000 };
  sqlite3_stmt *statement = must_prepare(s->db, sql);
  int64_t sum = 0;
  uint64_t began = series_ns();
  for (int i = 0; i < CALLS; i++) {
    must_step(statement, SQLITE_ROW);
    sum += sqlite3_column_int64(statement, 0);
    sqlite3_reset(statement);
  }
  report_sample(r, what, s->who, per(began, CALLS));
  sqlite3_finalize(statement);
  sink += sum;
}

static void measure_tables(report *r, side *s, const data *d) {
  double ns;
  must_sql(s->db, "CREATE TEMP TABLE probe(key)");
  sqlite3_stmt *insert = must_prepare(s->db, "INSERT INTO probe VALUES(?1)");
  must_sql(s->db, "BEGIN");
  for (uint32_t i = 0; i < d->ops; i++) {
    bind_key(insert, 1, &d->look[i]);
    must_step(insert, SQLITE_DONE);
    sqlite3_reset(insert);
  }
  must_sql(s->db, "COMMIT");
  sqlite3_finalize(insert);
  MUST(one_number(s, "SELECT count(value) FROM probe CROSS JOIN kv USING(key)", &ns) == d->ops);
  report_sample(r, "join probe", s->who, ns / d->ops);
  if (is_walmap(s)) {
    MUST(one_number(s, "SELECT count(walmap_get('kv', key)) FROM probe", &ns) == d->ops);
    report_sample(r, "walmap_get() in a join", s->who, ns / d->ops);
  }
  if (is_walmap(s) || s->native)
    measure_call(r, s, "walmap_len(), a call", s->native ? "SELECT changes()" : "SELECT walmap_len('kv')");
  MUST(one_number(s, "SELECT count(*) FROM kv", &ns) == d->n);
  report_sample(r, "count(*), a row", s->who, ns / d->n);

  sqlite3_stmt *scan = must_prepare(s->db, "SELECT key, value FROM kv");
  uint32_t rows = 0;
  int64_t sum = 0;
  uint64_t began = series_ns();
  for (; sqlite3_step(scan) == SQLITE_ROW; rows++)
    sum += *sqlite3_column_text(scan, 0) + *sqlite3_column_text(scan, 1);
  report_sample(r, "full scan, a row", s->who, per(began, d->n));
  MUST(rows == d->n);
  sqlite3_finalize(scan);
  sink += sum;
}

/* Into a native table, from rows in the order of loading, or from a table that has them in the order of the key. */
static void copy_rows(report *r, side *s, const data *d, const char *what, const char *from) {
  char sql[64];
  snprintf(sql, sizeof sql, "INSERT INTO copy SELECT key, value FROM %s", from);
  must_sql(s->db, "CREATE TABLE copy(key PRIMARY KEY, value) WITHOUT ROWID");
  uint64_t began = series_ns();
  must_sql(s->db, sql);
  report_sample(r, what, s->who, per(began, d->n));
  must_sql(s->db, "DROP TABLE copy");
}

/* The image out, and in again: for SQLite's own table its serialized database, and a copy by INSERT ... SELECT. */
static void measure_image(report *r, side *s, const data *d) {
  uint64_t began;
  size_t bytes = (size_t)d->n * (150 + (d->w == SMALL ? 8 : d->w == WIDE ? 100 : LARGEST_VALUE));
  warm_memory(bytes);
  if (s->native) {
    sqlite3_int64 size;
    began = series_ns();
    unsigned char *image = sqlite3_serialize(s->db, "main", &size, 0);
    report_sample(r, "image out, an entry", s->who, per(began, d->n));
    MUST(image);
    sqlite3_free(image);
    warm_memory(2 * bytes);
    copy_rows(r, s, d, "image in, an entry", "heap");
    copy_rows(r, s, d, "image in, to sorted rows", "kv");
    return;
  }
  sqlite3_stmt *out = must_prepare(s->db, "SELECT walmap_snapshot('kv')"),
               *in = must_prepare(s->db, "SELECT walmap_restore('copy', ?1)");
  must_sql(s->db, "CREATE VIRTUAL TABLE copy USING walmap");
  sqlite3_reset(in);
  began = series_ns();
  must_step(out, SQLITE_ROW);
  report_sample(r, "image out, an entry", s->who, per(began, d->n));
  warm_memory(2 * bytes);
  sqlite3_bind_blob(in, 1, sqlite3_column_blob(out, 0), sqlite3_column_bytes(out, 0), SQLITE_STATIC);
  began = series_ns();
  must_step(in, SQLITE_ROW);
  MUST(sqlite3_column_int64(in, 0) == d->n);
  double ns = per(began, d->n);
  report_sample(r, "image in, an entry", s->who, ns);
  report_sample(r, "image in, to sorted rows", s->who, ns);
  sqlite3_finalize(in);
  sqlite3_finalize(out);
}

#define GET "SELECT value FROM kv WHERE key = ?1"
#define PUT "REPLACE INTO kv VALUES(?1, ?2)"

/* ------------------------------------------------------------------------------------------------------------------ */
/* Many rows by one statement                                                                                         */

static void fill(side *s, const data *d) {
  sqlite3_stmt *statement = must_prepare(s->db, PUT);
  must_sql(s->db, "BEGIN");
  run_keys(d, statement, d->load, d->n, 0, SQLITE_DONE);
  must_sql(s->db, "COMMIT");
  sqlite3_finalize(statement);
}

static void measure_change(report *r, side *s, const data *d, const char *what, const char *sql) {
  uint64_t began = series_ns();
  must_sql(s->db, sql);
  report_sample(r, what, s->who, per(began, d->n));
  MUST((uint32_t)sqlite3_changes(s->db) == d->n);
}

static void measure_many(report *r, side *s, const data *d) {
  double ns;
  fill(s, d);
  MUST(one_number(s, "SELECT count(*) FROM (SELECT key FROM kv ORDER BY key LIMIT -1)", &ns) == d->n);
  report_sample(r, "ORDER BY key, a row", s->who, ns / d->n);
  measure_change(r, s, d, "UPDATE of all rows, a row", "UPDATE kv SET value = value || 'x'");
  if (is_walmap(s)) {
    MUST(one_number(s, "SELECT count(walmap_remove('kv', key)) FROM kv", &ns) == d->n);
    report_sample(r, "walmap_remove() of all rows, a row", s->who, ns / d->n);
    fill(s, d);
  }
  measure_change(r, s, d, "DELETE of all rows, a row",
                 "DELETE FROM kv WHERE value >= ''"); /* or SQLite drops the whole tree, as in the next */
  if (s->bare)
    return;
  fill(s, d);
  uint64_t began = series_ns();
  must_sql(s->db, s->native ? "DELETE FROM kv" : "SELECT walmap_clear('kv')");
  report_sample(r, "all rows dropped", s->who, per(began, 1000000));
}

/* ------------------------------------------------------------------------------------------------------------------ */

static void run_side(report *r, const data *d, const char *who) {
  side s;
  if (d->w == LARGE && strcmp(who, "plain") == 0)
    return;
  side_open(&s, d, who);
  measure(r, &s, d, "insert, one transaction", "INSERT INTO kv VALUES(?1, ?2)", d->load, d->n, 0, true);
  measure(r, &s, d, "get, autocommit", GET, d->look, d->ops, -1, false);
  measure(r, &s, d, "get in a transaction", GET, d->look, d->ops, -1, true);
  measure(r, &s, d, "get, Zipfian", GET, d->zipf, d->ops, -1, false);
  if (!s.bare)
    measure(r, &s, d, "miss", GET, d->absent, d->ops, -1, false);
  if (is_walmap(&s))
    measure(r, &s, d, "walmap_get()", "SELECT walmap_get('kv', ?1)", d->look, d->ops, -1, false);
  measure_in_list(r, &s, d);
  measure_tables(r, &s, d);
  if (s.native) {
    must_sql(s.db, "CREATE TEMP TABLE heap(key, value)");
    measure(r, &s, d, "", "INSERT INTO heap VALUES(?1, ?2)", d->load, d->n, 0, true);
  }
  if (is_walmap(&s) || s.native)
    measure_image(r, &s, d);
  measure(r, &s, d, "replace, one transaction", PUT, d->look, d->ops, 1, true);
  measure(r, &s, d, "replace, autocommit", PUT, d->look, d->ops, 2, false);
  measure(r, &s, d, "update, one transaction", "UPDATE kv SET value = ?2 WHERE key = ?1", d->look, d->ops, 3, true);
  measure(r, &s, d, "delete, one transaction", "DELETE FROM kv WHERE key = ?1", d->look, d->ops, -1, true);
  if (!s.plain) /* it gives no memory back */
    measure_many(r, &s, d);
  side_close(&s);
}

/* What another virtual table takes. */
static void show_other(report *r, const char *measured, const char *who) {
  double ns = report_median(r, measured, who);
  char what[64];
  snprintf(what, sizeof what, "  %s", measured);
  if (!isnan(ns))
    report_values(r, what, "ns", ns, "native", report_median(r, measured, "native"), NO_TARGET, 0);
}

/* The targets by column: 10,000 small, 500,000 small, a million wide; 0 is none. */
static void show(report *r, const data *d) {
  int column = d->n == 10000 && d->w == SMALL    ? 0
               : d->n == 500000 && d->w == SMALL ? 1
               : d->n == 1000000 && d->w == WIDE ? 2
                                                 : -1;
  static const struct {
    const char *what;
    double target[3];
  } rows[] = {
      {"get, autocommit", {0.60, 0.42, 0.27}},
      {"get in a transaction", {0.52, 0.38, 0.24}},
      {"insert, one transaction", {0.28, 0.24, 0.12}},
      {"replace, one transaction", {0.25, 0.24, 0.12}},
      {"replace, autocommit", {0.32, 0.26, 0.16}},
      {"update, one transaction", {0.45, 0.35, 0.17}},
      {"delete, one transaction", {0.45, 0.28, 0.15}},
      {"join probe", {0.48, 0.38, 0.23}},
      {"IN list of 100, a key", {0.55, 0.40, 0.24}},
      {"full scan, a row", {1.1, 1.0, 0.6}},
      {"image out, an entry", {1.0, 1.0, 0.3}},
      {"image in, an entry", {0.03, 0.02, 0.02}},
      {"ORDER BY key, a row", {0, 0, 0}},
      {"UPDATE of all rows, a row", {0, 0, 0}},
      {"DELETE of all rows, a row", {0, 0, 0}},
  };
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
    report_row(r, rows[i].what, "ns", "native", column < 0 || rows[i].target[column] == 0 ? NO_TARGET : RATIO_AT_MOST,
               column < 0 ? 0 : rows[i].target[column]);
  report_row(r, "get, Zipfian", "ns", "native", NO_TARGET, 0);
  report_row(r, "miss", "ns", "native", NO_TARGET, 0);
  report_row(r, "image in, to sorted rows", "ns", "native", NO_TARGET, 0);
  report_row(r, "count(*), a row", "ns", "native", column < 0 ? NO_TARGET : VALUE_AT_MOST, 20);
  report_row(r, "walmap_len(), a call", "ns", "native", NO_TARGET, 0);
  report_values(r, "walmap_get()", "ns", report_median(r, "walmap_get()", "walmap"), "table lookup",
                report_median(r, "get, autocommit", "walmap"), column < 0 ? NO_TARGET : RATIO_AT_MOST, 0.6);
  report_values(r, "walmap_get() in a join", "ns", report_median(r, "walmap_get() in a join", "walmap"), "table",
                report_median(r, "join probe", "walmap"), NO_TARGET, 0);
  report_values(r, "walmap_remove() of all rows, a row", "ns",
                report_median(r, "walmap_remove() of all rows, a row", "walmap"), "DELETE",
                report_median(r, "DELETE of all rows, a row", "walmap"), NO_TARGET, 0);
  report_row(r, "all rows dropped", "ms", "native", NO_TARGET, 0);
  for (int i = 2; i < SIDES; i++) {
    printf("%s:\n", i == 2 ? "what SQLite takes for a virtual table that does nothing"
                           : "for one over a plain hash table, for one connection and without transactions");
    for (size_t row = 0; row < sizeof rows / sizeof *rows; row++)
      show_other(r, rows[row].what, sides[i]);
  }
}

static void run(report *r, workload w, uint32_t n, int rounds) {
  data d = {.w = w, .n = n, .ops = n < 200000 ? n : 200000};
  uint32_t *order = order_shuffled(n, 1);
  d.load = keys_make(w, order, n, 0);
  free(order);
  order = order_shuffled(n, 2);
  d.look = keys_make(w, order, n, 0);
  d.absent = keys_make(w, order, n, n);
  free(order);
  order = order_zipf(n, 3);
  d.zipf = keys_make(w, order, n, 0);
  free(order);
  report_title(r, "%s, %u entries", workload_name[w], n);
  for (int round = 0; round <= rounds; round++)
    for (int turn = 0; turn < SIDES; turn++)
      run_side(r, &d, sides[turn_of(round, turn, SIDES)]);
  show(r, &d);
  free(d.load);
  free(d.look);
  free(d.zipf);
  free(d.absent);
}

int main(int argc, char **argv) {
  const char *what = argc > 1 ? argv[1] : "full";
  bool full = !strcmp(what, "full"), statistics = choose_statistics();
  report *r = report_open("bench_sql", sqlite_version(statistics));
  print_compile_options();
  if (full || !strcmp(what, "quick")) {
    run(r, SMALL, 10000, full ? 15 : 5);
    run(r, SMALL, full ? 100000 : 30000, 5);
    if (full) {
      run(r, SMALL, 500000, 5);
      run(r, SMALL, 1000000, 5);
      run(r, WIDE, 1000000, 5);
    }
    run(r, LARGE, full ? 10000 : 1000, 5);
  } else {
    workload w = SMALL;
    while (w < LARGE && strcmp(what, workload_name[w]) != 0)
      w++;
    MUST(argc > 2 && !strcmp(what, workload_name[w]));
    run(r, w, (uint32_t)atoi(argv[2]), argc > 3 ? atoi(argv[3]) : 5);
  }
  report_close(r);
  return 0;
}
