/*
** plan.c - xBestIndex: see plan.h
*/
#include "table/plan.h"

#include "table/vtab.h"

#include <string.h>

SQLITE_EXTENSION_INIT3

#define SMALL_MAP 1024
#define LIST_LENGTH 25
#define SEEK 8              /* rows that a walk's seek costs as much as */
#define MOST_SORTED 4000000 /* entries: 160 MB of rows (sorted.h) */

/* The chosen constraints, by their index in aConstraint; -1 is none. */
typedef struct choice {
  int key, list, lower, upper;
} choice;

static bool has_collation(sqlite3_index_info *info, int i, const char *name) {
  return sqlite3_stricmp(sqlite3_vtab_collation(info, i), name) == 0;
}

static bool is_bound(sqlite3_index_info *info, int i, int op, const char *collation) {
  return i < info->nConstraint && info->aConstraint[i].iColumn == 0 && info->aConstraint[i].op == op &&
         has_collation(info, i, collation);
}

/* The type of the right side as far as it is known, and itself; SQLITE_NULL: it is not. */
static int known_type(sqlite3_index_info *info, int i, sqlite3_value **value) {
  return sqlite3_vtab_rhs_value(info, i, value) == SQLITE_OK ? sqlite3_value_type(*value) : SQLITE_NULL;
}

/* Whether the right side is known to be a text or blob: then only the entry with that very key matches. */
static bool is_known_bytes(sqlite3_index_info *info, int i) {
  sqlite3_value *value;
  int type = known_type(info, i, &value);
  return type == SQLITE_TEXT || type == SQLITE_BLOB;
}

static int to_lower(int c) { return c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c; }

/*
** Whether the bounds are two texts of which SQLite would make the second of the first, the beginning of a pattern: the
** last byte is one greater, and with NOCASE all letters are lower case.
*/
static bool are_beginning_and_end(sqlite3_index_info *info, int lower, int upper, bool nocase) {
  sqlite3_value *from, *to;
  if (known_type(info, lower, &from) != SQLITE_TEXT || known_type(info, upper, &to) != SQLITE_TEXT)
    return false;
  const unsigned char *a = sqlite3_value_text(from), *b = sqlite3_value_text(to);
  int n = sqlite3_value_bytes(from);
  if (a == NULL || b == NULL || n == 0 || sqlite3_value_bytes(to) != n)
    return false;
  for (int i = 0; i < n; i++) {
    if ((nocase ? to_lower(a[i]) : a[i]) + (i == n - 1) != b[i])
      return false;
  }
  return true;
}

/*
** Whether the bounds i and i + 1 are those that SQLite makes of a pattern: of LIKE 'a%', key >= 'A' and key < 'b' with
** NOCASE; of GLOB 'a*', key >= 'a' and key < 'b'. It puts them right before the pattern. So NOCASE is SQLite's own,
** while in any other bound it is what the application may have put in its place. Where the pattern has no beginning,
** bounds that the statement itself has may lie there, as in key GLOB '*7' AND key >= 5 AND key < 10.
*/
static bool are_of_pattern(sqlite3_index_info *info, int i, int op, const char *collation) {
  const struct sqlite3_index_constraint *all = info->aConstraint;
  return i >= 0 && is_bound(info, i, SQLITE_INDEX_CONSTRAINT_GE, collation) &&
         is_bound(info, i + 1, SQLITE_INDEX_CONSTRAINT_LT, collation) && i + 2 < info->nConstraint &&
         all[i + 2].iColumn == 0 && all[i + 2].op == op && all[i + 2].iTermOffset == all[i].iTermOffset + 2 &&
         are_beginning_and_end(info, i, i + 1, strcmp(collation, "NOCASE") == 0);
}

static bool is_of_like(sqlite3_index_info *info, int i) {
  return are_of_pattern(info, i, SQLITE_INDEX_CONSTRAINT_LIKE, "NOCASE");
}

/* Case-sensitive LIKE is as GLOB. */
static bool is_of_pattern(sqlite3_index_info *info, int i) {
  return is_of_like(info, i) || are_of_pattern(info, i, SQLITE_INDEX_CONSTRAINT_GLOB, "BINARY") ||
         are_of_pattern(info, i, SQLITE_INDEX_CONSTRAINT_LIKE, "BINARY");
}

static void consider_constraint(sqlite3_index_info *info, int i, choice *chosen) {
  bool is_binary = has_collation(info, i, "BINARY");
  switch (info->aConstraint[i].op) {
  case SQLITE_INDEX_CONSTRAINT_EQ:
  case SQLITE_INDEX_CONSTRAINT_IS:
    if (is_binary && sqlite3_vtab_in(info, i, -1))
      chosen->list = i;
    else if (is_binary)
      chosen->key = i;
    break;
  case SQLITE_INDEX_CONSTRAINT_GT:
  case SQLITE_INDEX_CONSTRAINT_GE:
    if (chosen->lower < 0 && (is_binary || is_of_like(info, i)))
      chosen->lower = i;
    break;
  case SQLITE_INDEX_CONSTRAINT_LT:
  case SQLITE_INDEX_CONSTRAINT_LE:
    if (chosen->upper < 0 && (is_binary || is_of_like(info, i - 1)))
      chosen->upper = i;
    break;
  }
}

/*
** Whether the statement that is being prepared, the connection's newest, returns rows to its caller. A SELECT does,
** unless it is part of an INSERT, of CREATE TABLE ... AS or of a trigger.
*/
static bool gives_rows(sqlite3_vtab *base) {
  return sqlite3_column_count(sqlite3_next_stmt(((wm_vtab *)base)->table->conn->db, NULL)) > 0;
}

static void plan_key(sqlite3_vtab *base, sqlite3_index_info *info, int i) {
  bool is_exact = is_known_bytes(info, i);
  info->idxNum = WM_PLAN_KEY;
  info->aConstraintUsage[i].argvIndex = 1;
  info->aConstraintUsage[i].omit = is_exact;
  info->idxFlags = is_exact || !gives_rows(base) ? SQLITE_INDEX_SCAN_UNIQUE : 0;
  info->estimatedCost = 1;
  info->estimatedRows = 1;
}

/* `i` is its place in aConstraint, `pattern` the place of the first bound of the pattern that it may be of. */
static int use_bound(sqlite3_index_info *info, int i, int pattern, bool may_be_exact, int *argument) {
  if (i < 0)
    return 0;
  int op = info->aConstraint[i].op;
  bool is_pattern = is_of_pattern(info, pattern), is_exact = may_be_exact && !is_pattern && is_known_bytes(info, i);
  info->aConstraintUsage[i].argvIndex = ++*argument;
  info->aConstraintUsage[i].omit = is_exact;
  return WM_PLAN_BOUND | (has_collation(info, i, "NOCASE") ? WM_PLAN_NOCASE : 0) |
         (op == SQLITE_INDEX_CONSTRAINT_GE || op == SQLITE_INDEX_CONSTRAINT_LE ? WM_PLAN_INCLUSIVE : 0) |
         (is_exact ? WM_PLAN_EXACT : 0) | (is_pattern ? WM_PLAN_PATTERN : 0);
}

static bool wants_order(const sqlite3_index_info *info) { return info->nOrderBy > 0 && info->aOrderBy[0].iColumn == 0; }

static void plan_scan(sqlite3_vtab *base, sqlite3_index_info *info, const choice *chosen) {
  const wm_table *table = ((wm_vtab *)base)->table;
  walmap *map = table->attachment->map->map;
  bool is_ordered = walmap_get_options(map)->ordered;
  uint64_t entries = walmap_len(map);
  double rows = entries < SMALL_MAP ? SMALL_MAP : (double)entries;
  bool has_bounds = chosen->lower >= 0 || chosen->upper >= 0;
  bool sorted = wants_order(info) && (is_ordered || entries <= MOST_SORTED);
  bool is_utf16 = (sorted || has_bounds) && wm_conn_is_utf16(table->conn);
  bool may_be_exact = is_ordered && !is_utf16;
  int arguments = 0;
  int plan = WM_PLAN_SCAN | use_bound(info, chosen->lower, chosen->lower, may_be_exact, &arguments) << WM_PLAN_LOWER |
             use_bound(info, chosen->upper, chosen->upper - 1, may_be_exact, &arguments) << WM_PLAN_UPPER;
  plan |= is_ordered ? WM_PLAN_ORDERED : 0;
  if (is_utf16) {
    plan |= WM_PLAN_UTF16;
    sorted = false;
  }
  if (sorted) {
    plan |= WM_PLAN_SORTED | (info->aOrderBy[0].desc ? WM_PLAN_DESCENDING : 0);
    info->orderByConsumed = 1;
  }
  info->idxNum = plan;
  info->estimatedCost = sorted && !is_ordered ? 2 * rows : rows;
  rows /= arguments == 2 ? 64 : arguments == 1 ? 4 : 1;
  if (is_ordered && !is_utf16)
    info->estimatedCost = SEEK + rows;
  info->estimatedRows = rows < 1 ? 1 : (sqlite3_int64)rows;
}

int wm_plan_best_index(sqlite3_vtab *vtab, sqlite3_index_info *info) {
  choice chosen = {-1, -1, -1, -1};
  for (int i = 0; i < info->nConstraint; i++) {
    if (info->aConstraint[i].usable && info->aConstraint[i].iColumn == 0)
      consider_constraint(info, i, &chosen);
  }
  if (chosen.key >= 0) {
    plan_key(vtab, info, chosen.key);
  } else if (chosen.list >= 0) {
    sqlite3_vtab_in(info, chosen.list, 1);
    info->idxNum = WM_PLAN_LIST;
    info->aConstraintUsage[chosen.list].argvIndex = 1;
    info->estimatedCost = LIST_LENGTH;
    info->estimatedRows = LIST_LENGTH;
  } else {
    plan_scan(vtab, info, &chosen);
  }
  return SQLITE_OK;
}
