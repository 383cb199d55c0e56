/*
** differential.c - a walmap table that behaves unlike a native table
**
** Runs random SQL (differential_sql.h) on two connections: on one the tables are walmap tables, on the other each is
** CREATE TABLE kv(key PRIMARY KEY, value) WITHOUT ROWID. After every statement the two must agree in
**   - the rows with types and bits (as a multiset where neither an ORDER BY nor an ordered table asks for more),
**   - the extended result code and the error text,
**   - changes(), the growth of total_changes(), last_insert_rowid and the transaction state,
**   - the content of all tables.
** In a third of the sequences all rows expire, in thirty years, and in a third all tables have bounds that they do not
** come near: which changes nothing.
** With tables in a database file there are two connections on each side, which take turns between transactions; while
** one is in a transaction the other goes on reading. On the native side walmap's functions are differential_native.h.
**
** A sequence of statements that shows a difference is cut down to the statements that are needed for it, and printed.
**
** Usage: differential [statements [seed]]     defaults: 120000, and SEED from the environment or the clock
** Environment: SEED; WALMAP_SO is the extension (default ./walmap); ORDERED=1 makes all tables ordered, and compares
** the order of rows in every sequence, where half of them do otherwise; BOUNDED=1 gives all tables bounds.
** WALMAP_SO=none takes a native table that is visited in descending order instead: a difference is then an error of the
** generator, not of walmap.
*/
#define _GNU_SOURCE /* mkdtemp */

#include "differential_native.h"
#include "differential_sql.h"

#include <sqlite3.h>
#include <time.h>
#include <unistd.h>

#define SEQUENCE 150     /* statements on one pair of connections */
#define FAILURES_SHOWN 5 /* sequences with a difference, then stop */
#define NATIVE_COLUMNS "(key PRIMARY KEY, value) WITHOUT ROWID"
#define REVERSE_COLUMNS "(key PRIMARY KEY DESC, value) WITHOUT ROWID"

enum side { OURS, NATIVE };

static const char *extension = "./walmap";
static char folder[64];
static bool rows_have_order; /* of SELECT_BY_KEY, in the present sequence */
static bool sabotage;        /* the self-test: lets the native side lose a row */

/* How much of what was tried, so that a run that tries nothing cannot pass for a good one. */
static struct { long statements, failed, rows, in_transaction, bound, beside, reopened; } tally;

/* A string that grows. */
typedef struct text {
  char *data;
  size_t length, room;
} text;

static void text_append(text *t, const void *data, size_t length) {
  if (t->length + length + 1 > t->room) {
    t->room = 2 * (t->length + length) + 64;
    t->data = realloc(t->data, t->room);
    if (t->data == NULL) {
      abort();
    }
  }
  memcpy(t->data + t->length, data, length);
  t->length += length;
  t->data[t->length] = 0;
}

static void text_format(text *t, const char *format, ...) {
  va_list args;
  va_start(args, format);
  char *s = sqlite3_vmprintf(format, args);
  va_end(args);
  text_append(t, s, strlen(s));
  sqlite3_free(s);
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* One statement on one side                                                                                          */

/* All that a statement shows. `rows` is a canonical text, sorted unless the statement asks for an order. */
typedef struct outcome {
  int code, changes, total_changes, autocommit;
  sqlite3_int64 rowid;
  text rows;
  char error[300];
} outcome;

/* One value: type, length and bits, and for people what quote() would show. */
static void value_append(text *t, sqlite3_stmt *stmt, int column) {
  int type = sqlite3_column_type(stmt, column);
  if (type == SQLITE_INTEGER) {
    text_format(t, "%lld", sqlite3_column_int64(stmt, column));
  } else if (type == SQLITE_FLOAT) {
    double d = sqlite3_column_double(stmt, column);
    uint64_t bits;
    memcpy(&bits, &d, 8);
    text_format(t, "%!.17g{%016llx}", d, (unsigned long long)bits);
  } else if (type == SQLITE_NULL) {
    text_append(t, "NULL", 4);
  } else {
    const unsigned char *bytes =
        type == SQLITE_TEXT ? sqlite3_column_text(stmt, column) : sqlite3_column_blob(stmt, column);
    int length = sqlite3_column_bytes(stmt, column);
    text_append(t, type == SQLITE_TEXT ? "'" : "x'", type == SQLITE_TEXT ? 1 : 2);
    for (int i = 0; i < length; i++) {
      if (type == SQLITE_TEXT && bytes[i] >= ' ' && bytes[i] != '\\') {
        text_append(t, bytes + i, 1);
      } else {
        text_format(t, type == SQLITE_TEXT ? "\\x%02x" : "%02x", bytes[i]);
      }
    }
    text_append(t, "'", 1);
  }
}

static int compare_lines(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

/* Sorts the lines of a text. */
static void text_sort(text *t) {
  size_t n = 0, room = 1;
  for (size_t i = 0; i < t->length; i++) {
    room += t->data[i] == '\n';
  }
  char **lines = malloc(room * sizeof *lines);
  char *copy = malloc(t->length + 1);
  if (lines == NULL || copy == NULL) {
    abort();
  }
  memcpy(copy, t->data ? t->data : "", t->length);
  copy[t->length] = 0;
  for (char *line = strtok(copy, "\n"); line; line = strtok(NULL, "\n")) {
    lines[n++] = line;
  }
  qsort(lines, n, sizeof *lines, compare_lines);
  t->length = 0;
  for (size_t i = 0; i < n; i++) {
    text_append(t, lines[i], strlen(lines[i]));
    text_append(t, "\n", 1);
  }
  free(lines);
  free(copy);
}

/* The text of a statement on one side. Returns false when there is nothing to do there. */
static bool translate(const statement *st, enum side side, char *out, size_t size) {
  const char *columns = side == NATIVE ? NATIVE_COLUMNS : REVERSE_COLUMNS;
  bool native = side == NATIVE || extension == NULL;
  char name[40];
  if (sscanf(st->sql, "EPONYMOUS %39s", name) == 1) {
    snprintf(out, size, "CREATE TABLE %s%s", name, columns);
    return native;
  }
  if (native && sscanf(st->sql, "CREATE VIRTUAL TABLE %39s", name) == 1) {
    snprintf(out, size, "CREATE TABLE %s%s", name, columns);
  } else {
    snprintf(out, size, "%s", st->sql);
  }
  return true;
}

static void bind_literal(sqlite3 *db, sqlite3_stmt *stmt, const char *literal) {
  char sql[128];
  sqlite3_stmt *value;
  snprintf(sql, sizeof sql, "SELECT %s", literal);
  if (sqlite3_prepare_v2(db, sql, -1, &value, NULL) || sqlite3_step(value) != SQLITE_ROW) {
    fprintf(stderr, "cannot evaluate %s: %s\n", literal, sqlite3_errmsg(db));
    abort();
  }
  sqlite3_bind_value(stmt, 1, sqlite3_column_value(value, 0));
  sqlite3_finalize(value);
}

static void execute(sqlite3 *db, const statement *st, enum side side, outcome *out) {
  char sql[SQL_MAX + 64];
  sqlite3_stmt *stmt = NULL;
  bool ran = false;
  int before = sqlite3_total_changes(db);
  out->rows.length = 0;
  out->error[0] = 0;
  out->code = SQLITE_OK;
  if (translate(st, side, sql, sizeof sql)) {
    out->code = sqlite3_prepare_v2(db, sql, -1, &stmt, NULL);
    if (out->code == SQLITE_OK) {
      if (st->bind[0]) {
        bind_literal(db, stmt, st->bind);
      }
      while ((out->code = sqlite3_step(stmt)) == SQLITE_ROW) {
        for (int i = 0; i < sqlite3_column_count(stmt); i++) {
          value_append(&out->rows, stmt, i);
          text_append(&out->rows, " ", 1);
        }
        text_append(&out->rows, "\n", 1);
        tally.rows += side == OURS;
      }
    }
    if (out->code != SQLITE_DONE) {
      out->code = sqlite3_extended_errcode(db);
      snprintf(out->error, sizeof out->error, "%s", sqlite3_errmsg(db));
    }
    ran = stmt != NULL;
    sqlite3_finalize(stmt);
  }
  if (st->kind == SELECT_UNORDERED || (st->kind == SELECT_BY_KEY && !rows_have_order)) {
    text_sort(&out->rows);
  }
  /* A statement that was not even prepared leaves changes() alone, also what a schema change left there. */
  out->changes = st->kind == CHANGE && ran ? sqlite3_changes(db) : 0;
  out->total_changes = st->kind == CHANGE ? sqlite3_total_changes(db) - before : 0;
  if (st->kind == SCHEMA) {
    sqlite3_set_last_insert_rowid(db, 0); /* VACUUM leaves the number of schema entries there */
  }
  out->rowid = sqlite3_last_insert_rowid(db);
  out->autocommit = sqlite3_get_autocommit(db);
}

static void outcome_print(text *out, const char *who, const outcome *o) {
  text_format(out, "%s: code %d %s, changes %d, total +%d, rowid %lld, autocommit %d, rows:\n%s", who, o->code,
              o->error, o->changes, o->total_changes, o->rowid, o->autocommit, o->rows.length ? o->rows.data : "");
}

/* total_changes() counts the rows of durable tables' shadow tables, too. */
static bool counts_rows_of_logs;

static bool outcome_same(const outcome *a, const outcome *b) {
  bool same_code = a->code == b->code || (a->code == SQLITE_OK && b->code == SQLITE_DONE) ||
                   (a->code == SQLITE_DONE && b->code == SQLITE_OK);
  return same_code && strcmp(a->error, b->error) == 0 && a->changes == b->changes &&
         (counts_rows_of_logs || a->total_changes == b->total_changes) && a->rowid == b->rowid &&
         a->autocommit == b->autocommit && a->rows.length == b->rows.length &&
         (a->rows.length == 0 || memcmp(a->rows.data, b->rows.data, a->rows.length) == 0);
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* One sequence on both sides                                                                                         */

/* Both sides' connections; `at` is the one in use. */
typedef struct pair {
  sqlite3 *db[2][2]; /* by side and connection */
  int connections, at;
} pair;

static sqlite3 *connect(const setting *s, enum side side) {
  sqlite3 *db;
  char path[100] = ":memory:";
  if (s->file) {
    snprintf(path, sizeof path, "%s/%s.db", folder, side == OURS ? "ours" : "native");
  }
  if (sqlite3_open(path, &db)) {
    fprintf(stderr, "cannot open %s: %s\n", path, sqlite3_errmsg(db));
    exit(2);
  }
  if (side == OURS && extension) {
    char *error = NULL;
    sqlite3_db_config(db, SQLITE_DBCONFIG_ENABLE_LOAD_EXTENSION, 1, NULL);
    if (sqlite3_load_extension(db, extension, NULL, &error)) {
      fprintf(stderr, "cannot load %s: %s\n", extension, error);
      exit(2);
    }
  } else {
    native_functions(db);
  }
  return db;
}

static void unlink_files(void) {
  static const char *const files[] = {"ours.db",       "native.db",   "ours.db-wal",
                                      "native.db-wal", "ours.db-shm", "native.db-shm"};
  char path[100];
  for (int i = 0; i < COUNT(files); i++) {
    snprintf(path, sizeof path, "%s/%s", folder, files[i]);
    unlink(path);
  }
}

static void pair_open(pair *p, const setting *s) {
  unlink_files();
  p->connections = s->twins ? 2 : 1;
  p->at = 0;
  for (int side = 0; side < 2; side++) {
    for (int i = 0; i < p->connections; i++) {
      p->db[side][i] = connect(s, side);
    }
  }
}

static void pair_close(pair *p) {
  for (int side = 0; side < 2; side++) {
    for (int i = 0; i < p->connections; i++) {
      sqlite3_close_v2(p->db[side][i]);
    }
  }
}

static bool pair_in_transaction(const pair *p) { return !sqlite3_get_autocommit(p->db[OURS][p->at]); }

/* One statement on both sides; returns false and describes it when they differ. */
static bool agree(pair *p, int connection, const statement *st, text *report) {
  static outcome o[2];
  execute(p->db[OURS][connection], st, OURS, &o[OURS]);
  execute(p->db[NATIVE][connection], st, NATIVE, &o[NATIVE]);
  if (st->kind != CONTENT) {
    tally.failed += o[NATIVE].error[0] != 0;
    tally.in_transaction += !o[NATIVE].autocommit;
    tally.bound += st->bind[0] != 0;
    tally.beside += connection != p->at;
  }
  if (outcome_same(&o[OURS], &o[NATIVE])) {
    return true;
  }
  if (report) {
    text_format(report, "%s;%s%s", st->sql, st->bind[0] ? " -- ?1 is " : "", st->bind);
    text_format(report, p->connections > 1 ? " -- on connection %d\n" : "\n", connection);
    outcome_print(report, "ours", &o[OURS]);
    outcome_print(report, "native", &o[NATIVE]);
  }
  return false;
}

/* The settings of a connection that are not in the file. */
static bool pair_reopen(pair *p, const setting *s, text *report) {
  statement st;
  bool same = true;
  pair_close(p);
  for (int side = 0; side < 2; side++) {
    for (int i = 0; i < p->connections; i++) {
      p->db[side][i] = connect(s, side);
    }
  }
  for (int j = 0; same && sql_setup(s, j, &st); j++) {
    for (int c = 0; st.kind == CONTROL && c < p->connections; c++) {
      same = same && agree(p, c, &st, report);
    }
  }
  tally.reopened++;
  return same;
}

/* The contents of all tables, as statements. */
static bool agree_contents(pair *p, const setting *s, text *report) {
  const char *const tables[] = {"kv", other(s), "kv3", "kv4"};
  statement st = {.kind = CONTENT};
  for (int c = 0; c < p->connections; c++) {
    for (int i = 0; i < COUNT(tables); i++) {
      snprintf(st.sql, sizeof st.sql, "SELECT key, value FROM %s ORDER BY key", tables[i]);
      if (!agree(p, c, &st, report)) {
        return false;
      }
    }
    snprintf(st.sql, sizeof st.sql, "SELECT a, b FROM tr ORDER BY rowid");
    if (!agree(p, c, &st, report)) {
      return false;
    }
  }
  return true;
}

/* One statement of a sequence, on the connection where it may run. */
static bool agree_in_turn(pair *p, const statement *st, text *report) {
  int connection = p->connections > 1 ? st->connection : 0;
  if (!pair_in_transaction(p)) {
    p->at = connection;
  } else if (st->kind < SELECT_UNORDERED || st->kind > SELECT_BY_KEY) {
    connection = p->at; /* beside a transaction of the other there is only reading, for SQLite locks the file */
  }
  return agree(p, connection, st, report);
}

/*
** Runs the statements that `keep` marks (NULL: all). Returns the index of the first that shows a difference, or n when
** there is none.
*/
static int run_sequence(const setting *s, const statement *sts, const bool *keep, int n, text *report) {
  pair p;
  statement st;
  bool same = true;
  int i = 0;
  rows_have_order = s->ordered && !s->utf16;
  counts_rows_of_logs = s->file && !s->temp;
  pair_open(&p, s);
  for (int j = 0; same && sql_setup(s, j, &st); j++) {
    for (int c = 0; c < (st.kind == CONTROL ? p.connections : 1); c++) {
      same = same && agree(&p, c, &st, report);
    }
  }
  if (sabotage) {
    sqlite3_exec(p.db[NATIVE][0], "INSERT INTO kv VALUES('sabotage', 1)", NULL, NULL, NULL);
  }
  for (i = 0; same && i < n; i++) {
    if (keep && !keep[i]) {
      continue;
    }
    tally.statements++;
    if (s->durable && !s->eponymous && i % 6 == 5 && !pair_in_transaction(&p)) {
      same = pair_reopen(&p, s, report) && agree_contents(&p, s, report);
      if (!same) {
        break;
      }
    }
    same = agree_in_turn(&p, &sts[i], report);
    if (same && sts[i].kind >= CALL && (s->check_each || i == n - 1 || !pair_in_transaction(&p))) {
      same = agree_contents(&p, s, report);
    }
    if (!same) {
      break;
    }
  }
  pair_close(&p);
  return same ? n : i;
}

/* Finds a part of the sequence that shows a difference and does not without any one of its statements. */
static int minimise(const setting *s, const statement *sts, bool *keep, int n) {
  for (int step = n / 2 > 0 ? n / 2 : 1; step > 0;) {
    bool shorter = false;
    for (int from = 0; from < n; from += step) {
      bool saved[SEQUENCE];
      memcpy(saved, keep, sizeof saved);
      bool any = false;
      for (int i = from; i < from + step && i < n; i++) {
        any |= keep[i];
        keep[i] = false;
      }
      int at = any ? run_sequence(s, sts, keep, n, NULL) : n;
      if (at == n) {
        memcpy(keep, saved, sizeof saved);
      } else {
        for (int i = at + 1; i < n; i++) {
          keep[i] = false;
        }
        shorter = true;
      }
    }
    if (!shorter || step > 1) {
      step /= 2;
    }
  }
  return run_sequence(s, sts, keep, n, NULL);
}

static void show_difference(const setting *s, const statement *sts, int n, uint64_t seed) {
  bool keep[SEQUENCE] = {false};
  statement st;
  text report = {0};
  for (int i = 0; i < n; i++) {
    keep[i] = true;
  }
  minimise(s, sts, keep, n);
  printf("-- DIFFERENCE in the sequence with seed %llu\n", (unsigned long long)seed);
  printf("-- database: %s\n", s->file ? "file" : ":memory:");
  for (int j = 0; sql_setup(s, j, &st); j++) {
    printf("%s;\n", st.sql);
  }
  printf("-- from here on\n");
  for (int i = 0; i < n; i++) {
    if (keep[i]) {
      printf("%s;%s%s", sts[i].sql, sts[i].bind[0] ? " -- ?1 is " : "", sts[i].bind);
      printf(s->twins ? " -- on connection %d, or the one in a transaction\n" : "\n", sts[i].connection);
    }
  }
  run_sequence(s, sts, keep, n, &report);
  printf("-- and they differ after\n%s\n", report.length ? report.data : "nothing: the difference did not come again");
  free(report.data);
}

/* The test must see a difference where there is one. */
static bool self_test(void) {
  setting s = {.check_each = true, .options = ""};
  statement st = {.kind = CHANGE, .sql = "INSERT INTO kv VALUES(1, 2)"};
  sabotage = true;
  bool seen = run_sequence(&s, &st, NULL, 1, NULL) == 0;
  sabotage = false;
  return seen;
}

int main(int argc, char **argv) {
  static statement sts[SEQUENCE];
  long wanted = argc > 1 ? atol(argv[1]) : 120000, passed = 0, failed = 0;
  const char *given = argc > 2 ? argv[2] : getenv("SEED");
  uint64_t seed = given ? strtoull(given, NULL, 10) : (uint64_t)time(NULL) * 1000 % 1000000000;
  const char *so = getenv("WALMAP_SO"), *order = getenv("ORDERED"), *bounds = getenv("BOUNDED");
  bool ordered = order && atoi(order), bounded = bounds && atoi(bounds);
  if (so) {
    extension = strcmp(so, "none") == 0 ? NULL : so;
  }
  snprintf(folder, sizeof folder, "/tmp/walmap-differential-XXXXXX");
  if (mkdtemp(folder) == NULL) {
    perror(folder);
    return 2;
  }
  printf("differential: SQLite %s, seed %llu (repeat with SEED=)\n", sqlite3_libversion(), (unsigned long long)seed);

  if (!self_test()) {
    printf("self-test: a difference was not seen\n");
    failed++;
  }
  memset(&tally, 0, sizeof tally);
  for (; tally.statements < wanted && failed < FAILURES_SHOWN; seed++) {
    setting s;
    random_state = seed;
    sql_setting(&s, ordered, bounded);
    for (int i = 0; i < SEQUENCE; i++) {
      sql_statement(&s, &sts[i]);
    }
    int at = run_sequence(&s, sts, NULL, SEQUENCE, NULL);
    if (at == SEQUENCE) {
      passed++;
    } else {
      failed++;
      show_difference(&s, sts, at + 1, seed);
    }
  }
  unlink_files();
  rmdir(folder);
  printf("%ld statements, %ld of them failed alike, %ld in transactions, %ld beside another's, %ld bound, %ld rows, "
         "%ld times closed and opened\n",
         tally.statements, tally.failed, tally.in_transaction, tally.beside, tally.bound, tally.rows, tally.reopened);
  if (failed == 0 && (tally.rows < tally.statements || tally.reopened < tally.statements / 1000 ||
                      tally.in_transaction < tally.statements / 10)) {
    printf("too little was tried\n");
    failed++;
  }
  printf("%ld passed, %ld failed\n", passed, failed);
  return failed > 0;
}
