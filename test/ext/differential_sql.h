/*
** differential_sql.h - random SQL for the differential test: what it may say, and what it must not
**
** sql_setup() is the schema that every sequence starts from, sql_statement() one random statement on it. The schema
** has two walmap tables (kv, and kv2 or the eponymous walmap), two more names that DDL creates and drops (kv3, kv4),
** typed and untyped native tables to join with, a table whose triggers write the walmap tables and RAISE, and a
** deferred foreign key.
**
** Of tables that are not ordered every statement must have one right outcome whatever the order in which rows are
** visited. Hence: an UPDATE of many keys maps them one to one into a range that no row of it comes from, or maps them
** to one constant with ABORT or ROLLBACK; INSERT ... SELECT is ordered; no LIMIT without a complete ORDER BY; no
** aggregate of which ties or rounding could be seen; no scalar subquery that finds two rows. Ordered tables get such
** statements too (sql_change_in_order), and a SELECT of one table must give its rows in the same order. Two more things
** are left out because the documentation names them as differing: UPDATE and DELETE by `key = <expression with numeric
** affinity>`, and UPDATE OR REPLACE of several keys.
*/
#ifndef DIFFERENTIAL_SQL_H
#define DIFFERENTIAL_SQL_H

#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SQL_MAX 1200

/*
** CALL is a SELECT with functions that change something. SELECT_BY_KEY has no ORDER BY, and the order of keys all the
** same where the table is ordered.
*/
enum statement_kind { CONTENT, SELECT_UNORDERED, SELECT_ORDERED, SELECT_BY_KEY, CALL, CHANGE, CONTROL, SCHEMA };

typedef struct statement {
  enum statement_kind kind;
  char sql[SQL_MAX];
  char bind[80];  /* literal for ?1, or empty */
  int connection; /* which of the two, where there are two */
} statement;

/* What differs between sequences. */
typedef struct setting {
  bool utf16, temp, file, eponymous, case_sensitive_like, check_each;
  bool ordered; /* all walmap tables are; in a UTF-16 database that does not show */
  bool twins;   /* two connections to the file */
  bool durable; /* the rows are in the file: it is closed and opened again now and then */
  bool wal;
  bool big;            /* thousands of rows, so that index and log grow and shrink */
  bool ttl;            /* all rows expire, in thirty years: which changes nothing */
  bool bounded;        /* the tables have bounds that they do not come near, */
  bool refuses;        /* and would refuse writes beyond them: which changes nothing either */
  const char *options; /* of the table kv */
} setting;

/* ------------------------------------------------------------------------------------------------------------------ */
/* Random choice                                                                                                      */

static uint64_t random_state;

/* splitmix64 */
static uint64_t random_next(void) {
  uint64_t z = random_state += 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

static int pick(int n) { return (int)(random_next() % (uint64_t)n); }
static bool one_in(int n) { return pick(n) == 0; }

#define COUNT(array) ((int)(sizeof(array) / sizeof((array)[0])))
#define ANY(array) ((array)[pick(COUNT(array))])

/* clang-format off */

/* Keys that are equal, look equal, or are next to each other, and the ends of every type. */
static const char *const literals[] = {
    "0", "1", "2", "3", "5", "7", "-1", "-2", "10", "11", "100", "255", "256", "-128", "65536", "9007199254740992",
    "9007199254740993", "9223372036854775807", "-9223372036854775807-1", "4611686018427387904", "0.0", "-0.0", "1.0",
    "2.0", "3.0", "1.5", "0.5", "-1.0", "1e300", "-1e-300", "9e999", "-9e999", "9007199254740992.0",
    "9223372036854775807.0", "-9223372036854775808.0", "9223372036854774784.0", "10.0", "1e18", "1e19", "5e-324",
    "''", "'1'", "'01'", "'1.0'", "' 1.0 '", "' 1'", "'1 '", "'1e0'", "'+1'", "'-1'", "'1.'", "'.5'", "'0.5'",
    "'0x1'", "'1x'", "'-0'", "'0'", "'0.0'", "'10'", "'1e1'", "'2'", "'9007199254740993'", "'9007199254740992.0'",
    "'1e300'", "'9223372036854775807'", "'9223372036854775808'", "'-9223372036854775808'", "'inf'", "'1e999'", "'e1'",
    "'-'", "'.'", "char(10)||'1'", "'1'||char(0)", "char(160)||'1'", "char(0)", "char(97,0,98)", "'  '", "'a'", "'A'",
    "'aa'", "'ab'", "'aB'", "'Ab'", "'b'", "'B'", "'abc'", "'z'", "'a%'", "'a_'", "'a*'", "'%'", "'_'", "'\xc3\xa9'",
    "'\xc3\x89'", "'\xc4\x80'", "'\xef\xbf\xbd'", "'\xf0\x9f\x98\x80'", "'\xee\x80\x80'", "'a\xc3\xa9'", "x''",
    "x'31'", "x'61'", "x'00'", "x'0000'", "x'ff'", "x'3100'", "zeroblob(3)", "x'c3a9'", "x'616263'",
    "replace(hex(zeroblob(150)),'00','long')", "zeroblob(300)",
};

/* A key or value; NULL now and then. */
static const char *literal(void) { return one_in(25) ? "NULL" : one_in(3) ? literals[pick(8)] : ANY(literals); }

static const char *const patterns[] = {
    "'a%'", "'A%'", "'%'", "'a_'", "'ab%'", "'1%'", "'%b'", "''", "'a'", "'_'", "'\xc3\xa9%'", "' %'", "'9007%'",
    "'-%'",
};
static const char *const globs[] = {
    "'a*'", "'A*'", "'*'", "'a?'", "'[ab]*'", "'1*'", "''", "'ab*'", "'\xc3\xa9*'", "'a'", "'-*'",
    "'\xf0\x9f\x98\x80*'",
};
static const char *const operators[] = {
    "<", "<=", ">", ">=", "=", "<>", "IS", "IS NOT", "==",
};
static const char *const ranges[] = {"<", "<=", ">", ">="};
static const char *const clauses[] = {
    "", "", "", " OR ABORT", " OR FAIL", " OR IGNORE", " OR REPLACE", " OR ROLLBACK",
};
static const char *const strict_clauses[] = {"", " OR ABORT", " OR ROLLBACK"};
static const char *const disjoint_clauses[] = {"", " OR ABORT", " OR IGNORE", " OR REPLACE", " OR ROLLBACK"};
static const char *const columns[] = {"i", "r", "t", "b", "n", "x", "any"};
static const char *const affinities[] = {"INTEGER", "REAL", "TEXT", "NUMERIC", "BLOB"};
static const char *const savepoints[] = {"a", "b", "c"};
static const char *const raises[] = {"'abort'", "'fail'", "'ignore'", "'rollback'"};

/* One of the two standing walmap tables. */
static const char *table(const setting *s) { return one_in(3) ? (s->eponymous ? "walmap" : "kv2") : "kv"; }
static const char *other(const setting *s) { return s->eponymous ? "walmap" : "kv2"; }

static void put(statement *out, enum statement_kind kind, const char *format, ...) {
  va_list args;
  va_start(args, format);
  out->kind = kind;
  int n = vsnprintf(out->sql, SQL_MAX, format, args);
  va_end(args);
  if (n >= SQL_MAX) {
    fprintf(stderr, "statement too long: %s\n", out->sql);
    abort();
  }
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* The schema                                                                                                         */

/* Bounds that no table comes near. Those of bytes need compaction. */
static const char *far_bounds(const setting *s, const char *options) {
  if (!s->bounded)
    return "";
  if (strstr(options, "auto_compact=0"))
    return "max_entries=1000000000, ";
  return s->refuses ? "max_bytes=1000000000000, max_entries=1000000000, on_full=error, "
                    : "max_bytes=1000000000000, max_entries=1000000000, ";
}

/* A walmap table; `options` in parentheses, or empty. */
static void put_walmap(const setting *s, statement *out, const char *name, const char *options) {
  char all[200], *end;
  snprintf(all, sizeof all, "(%s%s%s", s->ttl ? "ttl=1000000000, " : "", far_bounds(s, options),
           *options ? options + 1 : ")");
  end = strstr(all, ", )");
  if (end)
    strcpy(end, ")");
  put(out, SCHEMA, "CREATE VIRTUAL TABLE %s%s USING walmap%s", s->temp ? "temp." : "", name,
      strcmp(all, "()") == 0 ? "" : all);
}

/* The i-th statement of the schema; false after the last. */
static bool sql_setup(const setting *s, int i, statement *out) {
  const char *temp = s->temp ? "TEMP " : "";
  const char *second = other(s);
  out->bind[0] = 0;
  switch (i) {
  case 0: put(out, CONTROL, "PRAGMA encoding='%s'", s->utf16 ? "UTF-16le" : "UTF-8"); return true;
  case 1: put(out, CONTROL, "PRAGMA foreign_keys=ON"); return true;
  case 2: put(out, CONTROL, "PRAGMA case_sensitive_like=%d", s->case_sensitive_like); return true;
  case 3: put(out, CONTROL, "PRAGMA synchronous=off"); return true;
  case 4: put(out, CONTROL, "PRAGMA journal_mode=%s", s->wal ? "wal" : "delete"); return true;
  case 5: put(out, CONTROL, "PRAGMA recursive_triggers=1"); return true;
  case 6: put_walmap(s, out, "kv", s->options); return true;
  case 7:
    if (s->eponymous) {
      put(out, SCHEMA, "EPONYMOUS walmap");
    } else {
      static const char *const of_kv2[2][2] = {{"(ordered=0)", "(ordered=0, durable=0)"},
                                               {"(ordered=1)", "(ordered=1, durable=0)"}};
      put_walmap(s, out, "kv2", of_kv2[s->ordered][s->file && !s->durable]);
    }
    return true;
  case 8:
    put(out, SCHEMA, "CREATE TABLE tt(i INTEGER, r REAL, t TEXT, b BLOB, n NUMERIC, x, \"any\" ANY)");
    return true;
  case 9:
    put(out, CHANGE,
        "INSERT INTO tt VALUES(1,1,1,1,1,1,1),(2,1.5,'01','1','01','1',x'31'),(NULL,'x','a','a','a','a','a'),"
        "('1',0.5,1.0,x'31','1e0','01','01'),(-1,'-1',' 1',1.0,9007199254740993,2.0,' 1.0 '),"
        "('abc','9007199254740993','9007199254740993',9007199254740993,'ab',9007199254740992.0,NULL)");
    return true;
  case 10: put(out, SCHEMA, "CREATE TABLE p(id INTEGER PRIMARY KEY)"); return true;
  case 11: put(out, SCHEMA, "CREATE TABLE c(x REFERENCES p(id) DEFERRABLE INITIALLY DEFERRED, k)"); return true;
  case 12: put(out, SCHEMA, "CREATE TABLE tr(a, b)"); return true;
  case 13:
    put(out, SCHEMA,
        "CREATE %sTRIGGER tr_ai AFTER INSERT ON tr BEGIN INSERT OR REPLACE INTO kv VALUES(new.a, new.b);"
        " SELECT CASE new.b WHEN 'abort' THEN RAISE(ABORT,'raised') WHEN 'fail' THEN RAISE(FAIL,'raised')"
        " WHEN 'rollback' THEN RAISE(ROLLBACK,'raised') WHEN 'ignore' THEN RAISE(IGNORE) END;"
        " DELETE FROM %s WHERE key = new.a; END",
        temp, s->eponymous ? "kv" : second);
    return true;
  case 14:
    put(out, SCHEMA, "CREATE %sTRIGGER tr_bd BEFORE DELETE ON tr BEGIN DELETE FROM kv WHERE key = old.a; END", temp);
    return true;
  case 15:
    put(out, SCHEMA,
        "CREATE %sTRIGGER tr_au AFTER UPDATE ON tr BEGIN UPDATE kv SET value = new.b WHERE key = old.a;"
        " INSERT INTO kv VALUES(new.a, old.b); END",
        temp);
    return true;
  case 16:
    put(out, SCHEMA, "CREATE %sTRIGGER c_ai AFTER INSERT ON c BEGIN INSERT OR IGNORE INTO kv VALUES(new.k, new.x); END",
        temp);
    return true;
  default:
    return false;
  }
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Conditions and values                                                                                              */

/*
** A condition on a walmap table's row; may be any nonsense that has one meaning. LIKE and GLOB in a UTF-16 database
** have two before SQLite 3.53: by an index x'616263' is like 'a%', without one (hence the +) it is not.
*/
static void condition(const setting *s, char *out, size_t size) {
  const char *no_index = s->utf16 ? "+" : "";
  switch (pick(22)) {
  case 0: snprintf(out, size, "key = %s", literal()); break;
  case 1: snprintf(out, size, "key %s %s", ANY(operators), literal()); break;
  case 2: snprintf(out, size, "key IN (%s, %s, %s)", literal(), literal(), literal()); break;
  case 3: snprintf(out, size, "key NOT IN (%s, %s)", literal(), ANY(literals)); break;
  case 4: snprintf(out, size, "key BETWEEN %s AND %s", literal(), literal()); break;
  case 5: snprintf(out, size, "key %s %s AND key %s %s", ANY(ranges), literal(), ANY(ranges), literal()); break;
  case 6: snprintf(out, size, "%skey %sLIKE %s", no_index, one_in(4) ? "NOT " : "", ANY(patterns)); break;
  case 7: snprintf(out, size, "%skey GLOB %s", no_index, ANY(globs)); break;
  case 8: snprintf(out, size, "key = %s OR key = %s OR value = %s", literal(), literal(), literal()); break;
  case 9: snprintf(out, size, "value %s %s", ANY(operators), literal()); break;
  case 10: snprintf(out, size, "key = %s AND value %s %s", literal(), ANY(operators), literal()); break;
  case 11: snprintf(out, size, "(key, value) %s (%s, %s)", ANY(ranges), literal(), literal()); break;
  case 12: snprintf(out, size, "key IN (SELECT %s FROM tt)", ANY(columns)); break;
  case 13: snprintf(out, size, "key IN (SELECT DISTINCT %s FROM %s)", one_in(2) ? "key" : "value", other(s)); break;
  case 14: snprintf(out, size, "key IS %sNULL", one_in(2) ? "NOT " : ""); break;
  case 15: snprintf(out, size, "typeof(key) = 'integer' AND key > %s", literal()); break;
  case 16: snprintf(out, size, "key %s %s COLLATE NOCASE", ANY(operators), literal()); break;
  case 17: snprintf(out, size, "key COLLATE NOCASE IN (%s, %s)", literal(), literal()); break;
  case 18: snprintf(out, size, "key > %s AND key IN (%s, %s, %s)", literal(), literal(), literal(), literal()); break;
  case 19: snprintf(out, size, "EXISTS (SELECT 1 FROM %s AS o WHERE o.key = kv_.value)", other(s)); break;
  case 20:
    snprintf(out, size, "(key, value) IN (VALUES(%s, %s), (%s, %s))", literal(), literal(), literal(), literal());
    break;
  default: snprintf(out, size, "+key = %s OR typeof(value) = 'text'", literal()); break;
  }
}

/* Conditions whose other side has an affinity: for SELECT only. */
static void typed_condition(char *out, size_t size) {
  switch (pick(6)) {
  case 0: snprintf(out, size, "key %s CAST(%s AS %s)", ANY(operators), literal(), ANY(affinities)); break;
  case 1: snprintf(out, size, "key = (SELECT %s FROM tt WHERE rowid = %d)", ANY(columns), pick(7)); break;
  case 2:
    snprintf(out, size, "key %s (SELECT %s FROM tt WHERE rowid = %d)", ANY(operators), ANY(columns), pick(7));
    break;
  case 3:
    snprintf(out, size, "key BETWEEN CAST(%s AS %s) AND CAST(%s AS %s)", literal(), ANY(affinities), literal(),
             ANY(affinities));
    break;
  case 4: snprintf(out, size, "CAST(%s AS %s) = key AND value IS NOT NULL", literal(), ANY(affinities)); break;
  default: snprintf(out, size, "key = CAST(%s AS NUMERIC) OR key = %s", literal(), literal()); break;
  }
}

/* A new value for a row of a walmap table. */
static void new_value(const setting *s, char *out, size_t size) {
  switch (pick(6)) {
  case 0:
    snprintf(out, size, "CASE typeof(value) WHEN 'integer' THEN value + 1 WHEN 'text' THEN value || 'x' ELSE key END");
    break;
  case 1: snprintf(out, size, "key"); break;
  case 2: snprintf(out, size, "(SELECT count(*) FROM %s)", table(s)); break;
  case 3: snprintf(out, size, "(SELECT value FROM %s AS o WHERE o.key = kv_.key)", other(s)); break;
  default: snprintf(out, size, "%s", literal()); break;
  }
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Statements                                                                                                         */

static void sql_insert(const setting *s, statement *out) {
  const char *t = table(s), *verb = one_in(6) ? "REPLACE" : "INSERT", *clause = *verb == 'R' ? "" : ANY(clauses);
  switch (pick(9)) {
  case 0:
    put(out, CHANGE, "%s%s INTO %s VALUES(%s, %s), (%s, %s), (%s, %s)", verb, clause, t, literal(), literal(),
        literal(), literal(), literal(), literal());
    break;
  case 1: put(out, CHANGE, "%s%s INTO %s SELECT key, value FROM %s ORDER BY key", verb, clause, t, table(s)); break;
  case 2: put(out, CHANGE, "%s%s INTO %s SELECT %s, i FROM tt ORDER BY rowid", verb, clause, t, ANY(columns)); break;
  case 3: put(out, CHANGE, "%s%s INTO %s(value) VALUES(%s)", verb, clause, t, literal()); break;
  case 4:
    put(out, CHANGE, "%s%s INTO %s VALUES(%s, (SELECT count(*) FROM %s)), (%s, (SELECT count(*) FROM %s))", verb,
        clause, t, literal(), t, literal(), t);
    break;
  case 5:
    put(out, CHANGE, "%s%s INTO %s(value, key) VALUES(%s, ?1)", verb, clause, t, literal());
    snprintf(out->bind, sizeof out->bind, "%s", literal());
    break;
  case 6:
    put(out, CHANGE,
        "WITH RECURSIVE n(i) AS (SELECT %d UNION ALL SELECT i + 1 FROM n LIMIT %d) %s%s INTO %s"
        " SELECT %si, printf('n%%.*c', i %% %d, 'x') FROM n",
        pick(s->big ? 3000 : 40), 1 + pick(s->big ? 1500 : 30), verb, clause, t, one_in(3) ? "'t' || " : "",
        one_in(3) ? 300 : 3);
    break;
  default: put(out, CHANGE, "%s%s INTO %s VALUES(%s, %s)", verb, clause, t, literal(), literal()); break;
  }
}

/* What depends on the order in which rows are visited. Several keys with REPLACE are a documented difference. */
static void sql_change_in_order(const setting *s, statement *out) {
  static const char *const some[] = {"", "", " OR ABORT", " OR FAIL", " OR IGNORE", " OR ROLLBACK"};
  static const char *const numbers[] = {"key + 1", "key - 1", "-key", "key / 2", "abs(key)"};
  const char *t = table(s);
  switch (pick(5)) {
  case 0: put(out, CHANGE, "UPDATE%s %s SET key = %s WHERE typeof(key) = 'integer'", ANY(some), t, ANY(numbers)); break;
  case 1:
    put(out, CHANGE, "UPDATE%s %s SET key = %s WHERE key BETWEEN %d AND %d", ANY(some), t, ANY(numbers), pick(9) - 9,
        pick(20));
    break;
  case 2: put(out, CHANGE, "UPDATE%s %s SET key = %s WHERE key > %s", ANY(some), t, literal(), literal()); break;
  case 3: put(out, CHANGE, "INSERT%s INTO %s SELECT value, key FROM %s", ANY(clauses), t, other(s)); break;
  default: put(out, CHANGE, "INSERT INTO tr SELECT key, value FROM %s WHERE key >= %s", t, literal()); break;
  }
}

static void sql_update(const setting *s, statement *out) {
  char where[400], value[200];
  const char *t = table(s);
  if (s->ordered && !s->utf16 && one_in(4)) {
    sql_change_in_order(s, out);
    return;
  }
  condition(s, where, sizeof where);
  new_value(s, value, sizeof value);
  switch (pick(9)) {
  case 0:
    put(out, CHANGE, "UPDATE%s %s AS kv_ SET key = %s WHERE key = %s", ANY(clauses), t, literal(), literal());
    break;
  case 1:
    put(out, CHANGE, "UPDATE%s %s AS kv_ SET value = %s, key = %s WHERE key = %s", ANY(clauses), t, value, literal(),
        literal());
    break;
  case 2: put(out, CHANGE, "UPDATE%s %s AS kv_ SET key = %s WHERE %s", ANY(strict_clauses), t, literal(), where); break;
  case 3:
    put(out, CHANGE, "UPDATE%s %s AS kv_ SET key = 'u' || key WHERE typeof(key) = 'integer' AND (%s)",
        ANY(disjoint_clauses), t, where);
    break;
  case 4:
    put(out, CHANGE,
        "UPDATE%s %s AS kv_ SET key = key + 1000, value = %s WHERE typeof(key) = 'integer' AND key BETWEEN %d AND %d",
        ANY(disjoint_clauses), t, value, pick(20) - 10, pick(30));
    break;
  case 5:
    put(out, CHANGE, "UPDATE %s AS kv_ SET value = o.value FROM %s AS o WHERE kv_.key = o.key", t, other(s));
    break;
  case 6:
    put(out, CHANGE, "UPDATE%s %s AS kv_ SET value = %s WHERE key = ?1", ANY(clauses), t, value);
    snprintf(out->bind, sizeof out->bind, "%s", literal());
    break;
  default: put(out, CHANGE, "UPDATE%s %s AS kv_ SET value = %s WHERE %s", ANY(clauses), t, value, where); break;
  }
}

static void sql_delete(const setting *s, statement *out) {
  char where[400];
  const char *t = table(s);
  condition(s, where, sizeof where);
  switch (pick(6)) {
  case 0: put(out, CHANGE, "DELETE FROM %s WHERE key = %s", t, literal()); break;
  case 1:
    if (one_in(8)) {
      put(out, CHANGE, "DELETE FROM %s", t);
      break;
    } /* fall through */
  case 2:
    put(out, CHANGE, "DELETE FROM %s WHERE key = ?1", t);
    snprintf(out->bind, sizeof out->bind, "%s", literal());
    break;
  case 3:
    if (s->big) {
      int from = pick(3000);
      put(out, CHANGE, "DELETE FROM %s WHERE key BETWEEN %d AND %d", t, from, from + pick(2000));
      break;
    } /* fall through */
  default: put(out, CHANGE, "DELETE FROM %s AS kv_ WHERE %s", t, where); break;
  }
}

/* SQLite may visit a table once for each side of an OR, in whatever order costs it less. */
static enum statement_kind kind_of(const char *where) {
  return strstr(where, " OR ") ? SELECT_UNORDERED : SELECT_BY_KEY;
}

static void sql_select(const setting *s, statement *out) {
  char where[400];
  const char *t = table(s), *o = other(s);
  condition(s, where, sizeof where);
  switch (pick(26)) {
  case 0: put(out, SELECT_BY_KEY, "SELECT value FROM %s WHERE key = %s", t, literal()); break;
  case 1:
    put(out, SELECT_UNORDERED, "SELECT count(*), count(value), min(key), max(key) FROM %s AS kv_ WHERE %s", t, where);
    break;
  case 2: put(out, SELECT_ORDERED, "SELECT key, value FROM %s AS kv_ WHERE %s ORDER BY key", t, where); break;
  case 3:
    put(out, SELECT_ORDERED, "SELECT key, value FROM %s AS kv_ WHERE %s ORDER BY key DESC LIMIT %d OFFSET %d", t, where,
        pick(5) - 1, pick(4));
    break;
  case 4:
    put(out, SELECT_UNORDERED, "SELECT tt.rowid, key, value FROM tt JOIN %s ON key = tt.%s", t, ANY(columns));
    break;
  case 5:
    put(out, SELECT_UNORDERED, "SELECT tt.rowid, key, value FROM tt LEFT JOIN %s ON tt.%s = key", t, ANY(columns));
    break;
  case 6: put(out, SELECT_UNORDERED, "SELECT x.key, y.value FROM %s AS x JOIN %s AS y ON x.key = y.key", t, o); break;
  case 7: put(out, SELECT_UNORDERED, "SELECT x.key, y.key FROM %s AS x JOIN %s AS y ON x.value = y.key", t, o); break;
  case 8: put(out, SELECT_UNORDERED, "SELECT count(*) FROM %s AS x, %s AS y WHERE x.key < y.key", t, o); break;
  case 9:
    put(out, SELECT_UNORDERED, "SELECT tt.rowid, (SELECT count(*) FROM %s WHERE key = tt.%s) FROM tt", t, ANY(columns));
    break;
  case 10:
    put(out, SELECT_UNORDERED, "SELECT rowid FROM tt WHERE EXISTS (SELECT 1 FROM %s WHERE key %s tt.%s)", t,
        ANY(ranges), ANY(columns));
    break;
  case 11: put(out, SELECT_UNORDERED, "SELECT rowid FROM tt WHERE %s IN (SELECT key FROM %s)", ANY(columns), t); break;
  case 12: put(out, SELECT_UNORDERED, "SELECT typeof(key), count(*), min(key) FROM %s GROUP BY typeof(key)", t); break;
  case 13:
    put(out, SELECT_ORDERED, "SELECT key, row_number() OVER (ORDER BY key) FROM %s AS kv_ WHERE %s ORDER BY key", t,
        where);
    break;
  case 14: put(out, SELECT_UNORDERED, "SELECT quote(key) FROM %s UNION SELECT quote(value) FROM %s", t, o); break;
  case 15: put(out, SELECT_UNORDERED, "SELECT quote(key) FROM %s EXCEPT SELECT quote(key) FROM %s", t, o); break;
  case 16:
    put(out, SELECT_BY_KEY, "SELECT key, value FROM %s WHERE key %s ?1", t, ANY(operators));
    snprintf(out->bind, sizeof out->bind, "%s", literal());
    break;
  case 17: put(out, SELECT_ORDERED, "SELECT key FROM %s ORDER BY key COLLATE NOCASE, quote(key)", t); break;
  case 18:
    put(out, SELECT_UNORDERED, "SELECT x.key, x.value, y.value FROM %s AS x %s JOIN %s AS y USING(key)", t,
        one_in(2) ? "LEFT" : "", o);
    break;
  case 19: put(out, kind_of(where), "SELECT key, value FROM %s AS kv_ WHERE %s", t, where); break;
  default:
    /* ORDER BY is of no use here: SQLite drops it after `key =`, though several keys may be equal to a number. */
    typed_condition(where, sizeof where);
    put(out, kind_of(where), "SELECT key, value FROM %s AS kv_ WHERE %s", t, where);
    break;
  }
}

/* Functions that write, and those that read, inside of SELECT and of other statements. */
static void sql_call(const setting *s, statement *out) {
  const char *t = table(s), *o = other(s);
  static const char *const expressions[] = {"value + 1", "value || ''x''", "key", "NULL", "coalesce(value, key)"};
  switch (pick(16)) {
  case 0: case 1: put(out, CALL, "SELECT walmap_set('%s', %s, %s)", t, literal(), literal()); break;
  case 2: put(out, CALL, "SELECT walmap_remove('%s', %s)", t, literal()); break;
  case 3: put(out, CALL, "SELECT walmap_set_if_absent('%s', %s, %s)", t, literal(), literal()); break;
  case 4: put(out, CALL, "SELECT walmap_set_if('%s', %s, %s, %s)", t, literal(), literal(), literal()); break;
  case 5: put(out, CALL, "SELECT walmap_remove_if('%s', %s, %s)", t, literal(), literal()); break;
  case 6: put(out, CALL, "SELECT walmap_upsert('%s', %s, %s, '%s')", t, literal(), literal(), ANY(expressions)); break;
  case 7: put(out, CALL, "SELECT tt.rowid, walmap_upsert('%s', %s, 1, '%s') FROM tt ORDER BY tt.rowid", t,
              ANY(columns), ANY(expressions));
    break;
  case 8:
    put(out, CALL, "SELECT tt.rowid, walmap_set('%s', %s, tt.rowid), walmap_len('%s') FROM tt", t, ANY(columns), t);
    break;
  case 9: put(out, SELECT_UNORDERED, "SELECT walmap_get('%s', %s), walmap_len('%s')", t, literal(), t); break;
  case 10: put(out, SELECT_UNORDERED, "SELECT key, walmap_get('%s', value) FROM %s", t, o); break;
  case 11: put(out, CALL, "SELECT walmap_restore('%s', walmap_snapshot('%s'))", t, table(s)); break;
  case 12: put(out, CHANGE, "UPDATE %s SET value = walmap_get('%s', key) WHERE key > %s", t, o, literal()); break;
  case 13:
    put(out, CHANGE, "INSERT%s INTO tr SELECT walmap_upsert('kv', %s, 1, 'value + 1'), %s FROM tt ORDER BY rowid",
        ANY(clauses), ANY(columns), one_in(2) ? ANY(raises) : "1");
    break;
  case 14:
    put(out, CHANGE, "INSERT%s INTO %s VALUES(%s, walmap_set('%s', %s, %s))", ANY(clauses), t, literal(), t,
        literal(), literal());
    break;
  default:
    put(out, CHANGE, "INSERT%s INTO %s VALUES(%s, 1), (%s, walmap_remove('%s', %s))", ANY(clauses), t, literal(),
        literal(), t, literal());
    break;
  }
}

static void sql_control(statement *out) {
  switch (pick(10)) {
  case 0:
  case 1: put(out, CONTROL, one_in(3) ? "BEGIN IMMEDIATE" : "BEGIN"); break;
  case 2:
  case 3: put(out, CONTROL, "COMMIT"); break;
  case 4: put(out, CONTROL, "ROLLBACK"); break;
  case 5:
  case 6: put(out, CONTROL, "SAVEPOINT %s", ANY(savepoints)); break;
  case 7: put(out, CONTROL, "RELEASE %s", ANY(savepoints)); break;
  default: put(out, CONTROL, "ROLLBACK TO %s", ANY(savepoints)); break;
  }
}

/* Statements on native tables that write walmap tables through triggers, or make COMMIT fail. */
static void sql_trigger(statement *out) {
  switch (pick(10)) {
  case 0:
  case 1: put(out, CHANGE, "INSERT%s INTO tr VALUES(%s, %s)", ANY(clauses), literal(), ANY(raises)); break;
  case 2:
    put(out, CHANGE, "INSERT%s INTO tr VALUES(%s, 1), (%s, %s), (%s, 2)", ANY(clauses), literal(), literal(),
        ANY(raises), literal());
    break;
  case 3: put(out, CHANGE, "INSERT%s INTO tr VALUES(%s, 1), (%s, 2)", ANY(clauses), literal(), literal()); break;
  case 4: put(out, CHANGE, "DELETE FROM tr WHERE rowid %% 2 = %d", pick(2)); break;
  case 5: put(out, CHANGE, "UPDATE%s tr SET a = %s WHERE rowid = %d", ANY(clauses), literal(), 1 + pick(5)); break;
  case 6: put(out, CHANGE, "UPDATE%s tr SET b = b WHERE rowid < %d", ANY(clauses), pick(5)); break;
  case 7: put(out, CHANGE, "INSERT INTO c VALUES(%d, %s)", pick(6), literal()); break;
  case 8: put(out, CHANGE, "INSERT OR IGNORE INTO p VALUES(%d)", pick(6)); break;
  default: put(out, CHANGE, "DELETE FROM %s WHERE rowid = %d", one_in(2) ? "p" : "c", pick(6)); break;
  }
}

static void sql_schema(const setting *s, statement *out) {
  const char *t = one_in(3) ? "kv4" : "kv3";
  switch (pick(10)) {
  case 0:
  case 1:
    put_walmap(s, out, t, s->ordered ? "(ordered=1)" : "");
    break;
  case 2: put(out, SCHEMA, "DROP TABLE %s", t); break;
  case 3: put(out, SCHEMA, "ALTER TABLE %s RENAME TO %s", t, one_in(2) ? "kv3" : "kv4"); break;
  case 4: put(out, SCHEMA, one_in(2) ? "CREATE TABLE q(x)" : "DROP TABLE q"); break;
  case 5: put(out, SCHEMA, one_in(3) ? "VACUUM" : "CREATE INDEX tt_i ON tt(i)"); break;
  case 6: put(out, SCHEMA, "DROP INDEX tt_i"); break;
  case 7: put(out, CHANGE, "INSERT OR REPLACE INTO kv SELECT key, value FROM %s ORDER BY key", t); break;
  default: put(out, CHANGE, "INSERT%s INTO %s VALUES(%s, %s)", ANY(clauses), t, literal(), literal()); break;
  }
}

/* clang-format on */

static void sql_statement(const setting *s, statement *out) {
  out->bind[0] = 0;
  out->connection = pick(2);
  int what = pick(106);
  if (what < 24) {
    sql_insert(s, out);
  } else if (what < 39) {
    sql_update(s, out);
  } else if (what < 45) {
    sql_delete(s, out);
  } else if (what < 70) {
    sql_select(s, out);
  } else if (what < 83) {
    sql_control(out);
  } else if (what < 94) {
    sql_trigger(out);
  } else if (what < 100) {
    sql_schema(s, out);
  } else {
    sql_call(s, out);
  }
}

/* With `ordered`, all tables are ordered, and in a database whose text has that order: rows must come in it. */
/* `ordered`, `bounded`: all tables are; otherwise some. */
static void sql_setting(setting *s, bool ordered, bool bounded) {
  static const char *const options[] = {
      "",
      "",
      "(shards=1)",
      "(shards=2)",
      "(shards=64)",
      "(auto_compact=1)",
      "(auto_compact=0)",
      "(shards=1, auto_compact=1)",
      "(shards=2, auto_compact=99)",
      "(capacity=5000)",
  };
  static const char *const ordered_options[] = {
      "(ordered=1)",
      "(ordered=1, shards=1)",
      "(ordered=1, shards=64)",
      "(ordered=1, auto_compact=1)",
  };
  s->utf16 = one_in(5) && !ordered;
  s->temp = one_in(3);
  s->file = one_in(3);
  s->ordered = one_in(2) || ordered;
  s->eponymous = !s->ordered && one_in(4);
  s->case_sensitive_like = one_in(3);
  s->check_each = !one_in(4);
  s->options = s->ordered ? ANY(ordered_options) : ANY(options);
  s->big = one_in(12);
  s->wal = s->file && one_in(2);
  s->durable = s->file && !s->temp && !one_in(3);
  if (s->file && !s->durable)
    s->options = s->ordered ? "(ordered=1, durable=0)" : "(durable=0)";
  s->ttl = one_in(3);
  s->bounded = one_in(3) || bounded;
  s->refuses = one_in(2);
  s->twins = s->file && !s->temp && !s->eponymous; /* the other two are each connection's own */
}

#endif
