/*
** null_vtab.h - a virtual table that does nothing: the least that SQLite takes for any virtual table
**
** Each key that is asked for is there, with one and the same value; a scan gives the keys of a list; a change is
** forgotten. It is declared, planned and called as a walmap table is, so what a statement takes here is what SQLite
** takes for one with walmap, whatever walmap does. Keys and values are handed out without a copy, and nothing is
** allocated but a cursor, of which one is kept.
*/
#ifndef TEST_BENCH_BARE_H
#define TEST_BENCH_BARE_H

#include "bench.h"

#include <sqlite3.h>

typedef struct bare_source {
  const key *keys; /* of a scan */
  uint32_t n;
  const char *value; /* of every key, with a NUL at its end */
  bool sorted;       /* the keys are in order: ORDER BY key needs no sort */
} bare_source;

enum { BARE_LIST = 100, BARE_KEY = 32 };

typedef struct bare_cursor {
  sqlite3_vtab_cursor base;
  uint32_t at, n;
  const char *key; /* of a lookup; NULL: the list's or the scan's */
  int key_len;
  bool is_list;
  char list[BARE_LIST][BARE_KEY];
} bare_cursor;

typedef struct bare_vtab {
  sqlite3_vtab base;
  const bare_source *source;
  size_t cursor_size;
  sqlite3_vtab_cursor *kept;
} bare_vtab;

typedef enum bare_plan { BARE_SCAN, BARE_LOOKUP, BARE_IN } bare_plan;

static inline int bare_connect(sqlite3 *db, void *aux, int argc, const char *const *argv, sqlite3_vtab **out,
                               char **err) {
  (void)argc, (void)argv, (void)err;
  bare_vtab *vtab = calloc(1, sizeof *vtab);
  MUST(vtab);
  vtab->source = aux;
  vtab->cursor_size = sizeof(bare_cursor);
  *out = &vtab->base;
  MUST(sqlite3_declare_vtab(db, "CREATE TABLE x(key PRIMARY KEY, value) WITHOUT ROWID") == SQLITE_OK);
  MUST(sqlite3_vtab_config(db, SQLITE_VTAB_CONSTRAINT_SUPPORT, 1) == SQLITE_OK);
  return SQLITE_OK;
}

static inline int bare_disconnect(sqlite3_vtab *base) {
  free(((bare_vtab *)base)->kept);
  free(base);
  return SQLITE_OK;
}

/* As plan.c of the extension: SQLite looks at each row again. */
static inline int bare_best_index(sqlite3_vtab *base, sqlite3_index_info *info) {
  double rows = ((bare_vtab *)base)->source->n;
  info->estimatedCost = rows;
  info->estimatedRows = (sqlite3_int64)rows;
  info->orderByConsumed = ((bare_vtab *)base)->source->sorted && info->nOrderBy == 1 &&
                          info->aOrderBy[0].iColumn == 0 && !info->aOrderBy[0].desc;
  for (int i = 0; i < info->nConstraint; i++) {
    if (!info->aConstraint[i].usable || info->aConstraint[i].iColumn != 0 ||
        info->aConstraint[i].op != SQLITE_INDEX_CONSTRAINT_EQ)
      continue;
    bool is_list = sqlite3_vtab_in(info, i, 1);
    info->idxNum = is_list ? BARE_IN : BARE_LOOKUP;
    info->aConstraintUsage[i].argvIndex = 1;
    info->idxFlags = is_list ? 0 : SQLITE_INDEX_SCAN_UNIQUE;
    info->estimatedCost = info->estimatedRows = is_list ? 25 : 1;
  }
  return SQLITE_OK;
}

static inline int bare_open(sqlite3_vtab *base, sqlite3_vtab_cursor **out) {
  bare_vtab *vtab = (bare_vtab *)base;
  *out = vtab->kept ? vtab->kept : calloc(1, vtab->cursor_size);
  MUST(*out);
  vtab->kept = NULL;
  return SQLITE_OK;
}

static inline int bare_close(sqlite3_vtab_cursor *base) {
  bare_vtab *vtab = (bare_vtab *)base->pVtab;
  free(vtab->kept);
  vtab->kept = base;
  return SQLITE_OK;
}

static inline int bare_filter(sqlite3_vtab_cursor *base, int plan, const char *unused, int argc, sqlite3_value **argv) {
  (void)unused, (void)argc;
  bare_cursor *c = (bare_cursor *)base;
  sqlite3_value *value;
  c->at = 0;
  c->n = plan == BARE_SCAN ? ((bare_vtab *)base->pVtab)->source->n : 1;
  c->key = NULL;
  c->is_list = plan == BARE_IN;
  if (plan == BARE_LOOKUP) {
    c->key = sqlite3_value_blob(argv[0]);
    c->key_len = sqlite3_value_bytes(argv[0]);
  }
  if (plan != BARE_IN)
    return SQLITE_OK;
  c->n = 0;
  for (int rc = sqlite3_vtab_in_first(argv[0], &value); rc == SQLITE_OK; rc = sqlite3_vtab_in_next(argv[0], &value)) {
    const char *text = sqlite3_value_blob(value);
    int len = sqlite3_value_bytes(value);
    MUST(c->n < BARE_LIST && len < BARE_KEY);
    memcpy(c->list[c->n], text, (size_t)len);
    c->list[c->n++][len] = 0;
  }
  return SQLITE_OK;
}

static inline int bare_next(sqlite3_vtab_cursor *base) {
  ((bare_cursor *)base)->at++;
  return SQLITE_OK;
}

static inline int bare_eof(sqlite3_vtab_cursor *base) {
  const bare_cursor *c = (bare_cursor *)base;
  return c->at >= c->n;
}

static inline int bare_column(sqlite3_vtab_cursor *base, sqlite3_context *context, int column) {
  const bare_cursor *c = (bare_cursor *)base;
  const bare_source *source = ((bare_vtab *)base->pVtab)->source;
  if (sqlite3_vtab_nochange(context))
    return SQLITE_OK;
  if (column == 1)
    sqlite3_result_text(context, source->value, -1, SQLITE_STATIC);
  else if (c->key)
    sqlite3_result_text(context, c->key, c->key_len, SQLITE_STATIC);
  else
    sqlite3_result_text(context, c->is_list ? c->list[c->at] : source->keys[c->at].text, -1, SQLITE_STATIC);
  return SQLITE_OK;
}

static inline int bare_update(sqlite3_vtab *base, int argc, sqlite3_value **argv, sqlite3_int64 *rowid) {
  (void)base, (void)argc, (void)argv, (void)rowid;
  return SQLITE_OK;
}

static inline int bare_do_nothing(sqlite3_vtab *base) {
  (void)base;
  return SQLITE_OK;
}

static const sqlite3_module bare_module = {
    .iVersion = 1,
    .xCreate = bare_connect,
    .xConnect = bare_connect,
    .xBestIndex = bare_best_index,
    .xDisconnect = bare_disconnect,
    .xDestroy = bare_disconnect,
    .xOpen = bare_open,
    .xClose = bare_close,
    .xFilter = bare_filter,
    .xNext = bare_next,
    .xEof = bare_eof,
    .xColumn = bare_column,
    .xUpdate = bare_update,
    .xBegin = bare_do_nothing,
    .xSync = bare_do_nothing,
    .xCommit = bare_do_nothing,
    .xRollback = bare_do_nothing,
};

/* A table kv of the module. `source` must outlive the connection, and the module too. */
static inline void bare_create(sqlite3 *db, const sqlite3_module *module, bare_source *source) {
  MUST(sqlite3_create_module(db, "bare", module, source) == SQLITE_OK);
  MUST(sqlite3_exec(db, "CREATE VIRTUAL TABLE kv USING bare", NULL, NULL, NULL) == SQLITE_OK);
}

#endif
