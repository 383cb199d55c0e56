/*
** each.c - walmap_each(image): the rows of an image, without restoring it
**
** A table-valued function, in SQLite's terms an eponymous-only virtual table
**
**    CREATE TABLE x(key, value, image HIDDEN, expires HIDDEN)
**
** that streams: xFilter verifies the whole image once, and each step decodes one entry in place. The bytes of the
** argument may change under a cursor (SQLite may reuse their register), so the cursor keeps a copy. The table reaches
** only its argument, so it is SQLITE_VTAB_INNOCUOUS.
**
** PLAN_BY_KEY: xFilter's argument 1 is a key to compare with (key = ?). SQLite checks the row again, because it knows
** the affinity of the comparison: for a number, text that looks like a number also passes here.
**
** PLAN_NO_IMAGE fails when it runs. It is a plan nevertheless, because SQLite also asks for a plan of each side of key
** = 1 OR value = 2 alone. Its cost keeps SQLite from choosing it where there is another plan.
**
** IN is left to SQLite. Each value would cost a walk, and SQLite would check the rows of each value without affinity,
** where '1' is not 1. SQLite does not tell that a constraint comes from (key, x) IN (SELECT ...). But the term that it
** makes of such an IN comes after the terms of the WHERE, and its value is not known before the statement runs.
*/
#include "codec/expiry.h"
#include "conn/eponymous.h"
#include "conn/error.h"
#include "functions/functions.h"

#include <string.h>

SQLITE_EXTENSION_INIT3

enum { COLUMN_KEY, COLUMN_VALUE, COLUMN_IMAGE, COLUMN_EXPIRES };
enum { PLAN_ALL, PLAN_BY_KEY, PLAN_NO_IMAGE };

#define KEY_COST 3   /* to compare a key */
#define EACH_COST 10 /* to hand a row to SQLite */
#define GUESSED_ENTRIES 10000
#define NEVER_COST 1e99

typedef struct each_cursor {
  sqlite3_vtab_cursor base;
  sqlite3_value *image; /* NULL before xFilter */
  walmap_image_reader reader;
  walmap_entry entry;
  sqlite3_int64 row;
  uint64_t now; /* what has expired by then is no row */
  bool by_key, at_end;
  wm_key key; /* while by_key */
} each_cursor;

/* ------------------------------------------------------------------------------------------------------------------ */
/* The table                                                                                                          */

static int each_connect_table(sqlite3 *db, void *unused, int argc, const char *const *argv, sqlite3_vtab **out,
                              char **err) {
  (void)unused, (void)argc, (void)argv, (void)err;
  return wm_eponymous_connect(db, "CREATE TABLE x(key, value, image HIDDEN, expires HIDDEN)", SQLITE_VTAB_INNOCUOUS,
                              sizeof **out, out);
}

/* Whether the constraint is key = ? and no IN. */
static bool is_by_key(sqlite3_index_info *info, int i) {
  const struct sqlite3_index_constraint *constraint = &info->aConstraint[i];
  sqlite3_value *known;
  return constraint->op == SQLITE_INDEX_CONSTRAINT_EQ && constraint->iColumn == COLUMN_KEY && constraint->usable &&
         (constraint->iTermOffset == 0 || sqlite3_vtab_rhs_value(info, i, &known) == SQLITE_OK) &&
         !sqlite3_vtab_in(info, i, -1) && sqlite3_stricmp(sqlite3_vtab_collation(info, i), "BINARY") == 0;
}

static int each_best_index(sqlite3_vtab *table, sqlite3_index_info *info) {
  (void)table;
  int image = -1;
  bool image_unusable = false;
  for (int i = 0; i < info->nConstraint; i++) {
    const struct sqlite3_index_constraint *constraint = &info->aConstraint[i];
    if (constraint->op == SQLITE_INDEX_CONSTRAINT_EQ && constraint->iColumn == COLUMN_IMAGE) {
      image_unusable |= !constraint->usable;
      image = constraint->usable ? i : image;
    }
  }
  if (image_unusable)
    return SQLITE_CONSTRAINT; /* the planner must read what the image depends on first */
  if (image < 0) {
    info->idxNum = PLAN_NO_IMAGE;
    info->estimatedCost = NEVER_COST;
    return SQLITE_OK;
  }
  info->aConstraintUsage[image].argvIndex = 1;
  info->aConstraintUsage[image].omit = 1;
  info->estimatedRows = GUESSED_ENTRIES;
  info->estimatedCost = (double)GUESSED_ENTRIES * EACH_COST;
  for (int i = 0; i < info->nConstraint && info->idxNum == 0; i++) {
    if (is_by_key(info, i)) {
      info->aConstraintUsage[i].argvIndex = 2;
      info->idxNum = PLAN_BY_KEY;
      info->estimatedRows = 1;
      info->estimatedCost = (double)GUESSED_ENTRIES * KEY_COST;
    }
  }
  return SQLITE_OK;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* The cursor                                                                                                         */

static int each_open_cursor(sqlite3_vtab *table, sqlite3_vtab_cursor **out) {
  (void)table;
  return wm_eponymous_open(sizeof(each_cursor), out);
}

static void each_clear_cursor(each_cursor *cursor) {
  sqlite3_value_free(cursor->image);
  cursor->image = NULL;
  if (cursor->by_key)
    wm_codec_release_key(&cursor->key);
  cursor->by_key = false;
}

static int each_close_cursor(sqlite3_vtab_cursor *base) {
  each_cursor *cursor = (each_cursor *)base;
  each_clear_cursor(cursor);
  sqlite3_free(cursor);
  return SQLITE_OK;
}

static int fail_each(each_cursor *cursor, int rc, char *text) {
  cursor->at_end = true;
  return wm_error_vtab(cursor->base.pVtab, rc, text);
}

/* Whether the row may match: its key is equal, or looks alike. */
static bool may_match(const each_cursor *cursor) {
  const wm_key *key = &cursor->key;
  const walmap_entry *entry = &cursor->entry;
  if (!cursor->by_key)
    return true;
  if (entry->key_len == key->size && memcmp(entry->key, key->data, key->size) == 0)
    return true;
  return wm_codec_key_is_number(key->data) && wm_codec_looks_numeric(entry->key, entry->key_len);
}

static int each_next_row(sqlite3_vtab_cursor *base) {
  each_cursor *cursor = (each_cursor *)base;
  walmap_why why;
  const char *wrong;
  do {
    int result = walmap_image_next(&cursor->reader, &cursor->entry, &why);
    if (result == WALMAP_NOTFOUND) {
      cursor->at_end = true;
      return SQLITE_OK;
    }
    if (result != WALMAP_OK)
      return fail_each(cursor, SQLITE_CORRUPT_VTAB, sqlite3_mprintf("walmap_each: %s", why.text));
    if ((wrong = wm_codec_check(NULL, &cursor->entry)) != NULL)
      return fail_each(cursor, SQLITE_CORRUPT_VTAB, sqlite3_mprintf("walmap_each: the image holds %s", wrong));
    cursor->row++;
  } while ((cursor->entry.expires != 0 && cursor->entry.expires <= cursor->now) || !may_match(cursor));
  return SQLITE_OK;
}

static int open_image(each_cursor *cursor, sqlite3_value *value) {
  size_t size;
  char *err;
  walmap_why why;
  if ((cursor->image = sqlite3_value_dup(value)) == NULL)
    return SQLITE_NOMEM;
  const void *bytes = wm_functions_image("walmap_each", cursor->image, &size, &err);
  if (bytes == NULL)
    return err != NULL ? fail_each(cursor, SQLITE_MISMATCH, err) : SQLITE_NOMEM;
  if (walmap_image_open(&cursor->reader, bytes, size, &why) != WALMAP_OK)
    return fail_each(cursor, SQLITE_CORRUPT_VTAB, sqlite3_mprintf("walmap_each: %s", why.text));
  if (cursor->reader.content != WM_CONTENT_SQL)
    return fail_each(cursor, SQLITE_CORRUPT_VTAB,
                     sqlite3_mprintf("walmap_each: the image's content is of kind %u, not SQL values (kind %d)",
                                     cursor->reader.content, WM_CONTENT_SQL));
  return SQLITE_OK;
}

static int each_filter(sqlite3_vtab_cursor *base, int plan, const char *unused, int argc, sqlite3_value **argv) {
  (void)unused, (void)argc;
  each_cursor *cursor = (each_cursor *)base;
  each_clear_cursor(cursor);
  cursor->at_end = false;
  cursor->row = 0;
  cursor->now = walmap_system_clock(NULL);
  if (plan == PLAN_NO_IMAGE)
    return fail_each(cursor, SQLITE_ERROR, sqlite3_mprintf("walmap_each needs an image: walmap_each(image)"));
  int rc = open_image(cursor, argv[0]);
  if (rc == SQLITE_OK && plan == PLAN_BY_KEY) {
    rc = wm_codec_encode_key(argv[1], &cursor->key);
    cursor->by_key = rc == SQLITE_OK;
    if (rc == SQLITE_CONSTRAINT_NOTNULL) { /* nothing equals NULL */
      cursor->at_end = true;
      return SQLITE_OK;
    }
  }
  return rc == SQLITE_OK ? each_next_row(base) : rc;
}

static int each_at_end(sqlite3_vtab_cursor *base) { return ((each_cursor *)base)->at_end; }

static int each_column(sqlite3_vtab_cursor *base, sqlite3_context *context, int which) {
  each_cursor *cursor = (each_cursor *)base;
  if (which == COLUMN_KEY)
    wm_codec_result_key(context, &cursor->entry, SQLITE_TRANSIENT);
  else if (which == COLUMN_VALUE)
    wm_codec_result_value(context, &cursor->entry, SQLITE_TRANSIENT);
  else if (which == COLUMN_IMAGE)
    sqlite3_result_value(context, cursor->image);
  else
    wm_expiry_result(context, cursor->entry.expires);
  return SQLITE_OK;
}

static int each_rowid(sqlite3_vtab_cursor *base, sqlite3_int64 *out) {
  *out = ((each_cursor *)base)->row;
  return SQLITE_OK;
}

static const sqlite3_module each_module = {
    .xConnect = each_connect_table, /* and no xCreate: CREATE VIRTUAL TABLE is refused */
    .xBestIndex = each_best_index,
    .xDisconnect = wm_eponymous_disconnect,
    .xOpen = each_open_cursor,
    .xClose = each_close_cursor,
    .xFilter = each_filter,
    .xNext = each_next_row,
    .xEof = each_at_end,
    .xColumn = each_column,
    .xRowid = each_rowid,
};

int wm_each_register(wm_conn *conn) {
  return sqlite3_create_module_v2(conn->db, "walmap_each", &each_module, NULL, NULL);
}
