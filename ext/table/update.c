/*
** update.c - xUpdate: INSERT, UPDATE and DELETE as a native table WITHOUT ROWID does them
**
** T3: what xUpdate changes is all or nothing by itself, for SQLite makes no savepoint around a statement that can
** change one row only. T7: everything that can fail does so here; xCommit and xRollback cannot fail, and xSync can only
** for a durable table or one with bounds (vtab.c).
**
** Conflicts. The module has SQLITE_VTAB_CONSTRAINT_SUPPORT, so it reports a duplicate key under OR IGNORE too, and
** SQLite skips the row; only OR REPLACE is done here.
*/
#include "codec/codec.h"
#include "codec/expiry.h"
#include "conn/error.h"
#include "conn/transaction.h"
#include "durable/durable.h"
#include "schema/control.h"
#include "table/call.h"
#include "table/row.h"
#include "table/vtab.h"

#include <string.h>

SQLITE_EXTENSION_INIT3

/* ------------------------------------------------------------------------------------------------------------------ */
/* Errors                                                                                                             */

static int refuse_row(wm_vtab *vtab, int rc, char *text) {
  if (text == NULL)
    return SQLITE_NOMEM;
  sqlite3_free(vtab->base.zErrMsg);
  vtab->base.zErrMsg = text;
  return rc;
}

static int fail_null(wm_vtab *vtab) {
  return refuse_row(vtab, SQLITE_CONSTRAINT_NOTNULL,
                    sqlite3_mprintf("NOT NULL constraint failed: %s.key", vtab->table->name));
}

static int fail_duplicate(wm_vtab *vtab) {
  return refuse_row(vtab, SQLITE_CONSTRAINT_PRIMARYKEY,
                    sqlite3_mprintf("UNIQUE constraint failed: %s.key", vtab->table->name));
}

static int fail_same(wm_vtab *vtab) {
  return refuse_row(vtab, SQLITE_ERROR,
                    sqlite3_mprintf(WM_MODULE
                                    ": %s: several keys look the same here, for they are not valid UTF-8 and this "
                                    "database is UTF-16; change them in a UTF-8 database",
                                    vtab->table->name));
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Writing                                                                                                            */

/*
** Makes sure that the transaction on the map has begun. SQLite calls xBegin before xUpdate, but not for a table that
** the transaction has created: nor does it announce the savepoints that are open then.
*/
static int begin_on_map(wm_table *table) {
  wm_attachment *attachment = table->attachment;
  if (wm_attachment_is_begun(attachment))
    return WALMAP_OK;
  int begun = wm_durable_begin(table);
  if (begun != WALMAP_OK)
    return begun;
  wm_attachment_begin(attachment);
  int levels = wm_control_levels(attachment->conn);
  int result = levels > 0 ? wm_attachment_savepoint(attachment, levels - 1, false) : WALMAP_OK;
  if (result != WALMAP_OK)
    wm_attachment_rollback(attachment);
  return result;
}

/* What becomes the entry's value: the sqlite3_value, or what another entry has when that is NULL. */
typedef struct content {
  wm_value value;
  bool is_entry;
  walmap_entry entry;
  uint64_t expires; /* as in walmap.h */
} content;

static int put_row(wm_attachment *attachment, const wm_key *key, const content *from, wm_when when) {
  return wm_row_set(attachment, key, from->is_entry ? NULL : &from->value, &from->entry, when, from->expires);
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Which row                                                                                                          */

/*
** Gives `key` the key that the transaction sees in the map and UTF-16 shows as `key`, if there is one. `is_present`:
** `key` itself is in the map too.
*/
static int find_shown(wm_vtab *vtab, bool is_present, wm_key *key) {
  wm_read_state *state;
  walmap_cursor cursor;
  walmap_entry entry, shown = {0};
  int n = 0, rc = wm_error_table(&vtab->base, wm_read_state_acquire_own(vtab->table->attachment, &state), vtab->table);
  if (rc != SQLITE_OK)
    return rc;
  walmap_cursor_start(&cursor, state->state);
  while (walmap_cursor_next(&cursor, &entry)) {
    if (wm_codec_is_shown_as(&entry, key)) {
      shown = entry;
      n++;
    }
  }
  if (walmap_cursor_is_interrupted(&cursor)) {
    rc = SQLITE_INTERRUPT;
  } else if (n + is_present > 1) {
    rc = fail_same(vtab);
  } else if (n == 1) {
    wm_codec_release_key(key);
    rc = wm_codec_copy_key(&shown, key);
  }
  wm_read_state_release(state);
  return rc;
}

/*
** The key of the row that SQLite wants to update or delete. It has read the row, so it tells the key as it got it. In a
** UTF-16 database that is another one than the map has if that is not valid UTF-8: such keys come from other databases
** and from images. Only the rows themselves can tell then. SQLITE_CONSTRAINT_NOTNULL: there is no such row.
*/
static int read_row_key(wm_vtab *vtab, sqlite3_value *value, wm_key *key) {
  walmap_entry entry;
  int rc = wm_codec_encode_key(value, key);
  if (rc != SQLITE_OK || !key->from_utf16 || !wm_codec_may_be_shown(key))
    return rc;
  int result = walmap_txn_peek(vtab->table->attachment->txn, key->data, key->size, &entry);
  if (result != WALMAP_OK && result != WALMAP_NOTFOUND)
    rc = wm_error_table(&vtab->base, result, vtab->table);
  else if (result == WALMAP_NOTFOUND || wm_codec_has_replacement(key))
    rc = find_shown(vtab, result == WALMAP_OK, key);
  if (rc != SQLITE_OK)
    wm_codec_release_key(key);
  return rc;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* The three statements                                                                                               */

static int delete_row(wm_vtab *vtab, sqlite3_value **argv) {
  wm_key key;
  int rc = read_row_key(vtab, argv[0], &key);
  if (rc != SQLITE_OK)
    return rc == SQLITE_CONSTRAINT_NOTNULL ? SQLITE_OK : rc;
  rc = wm_error_table(&vtab->base, wm_row_remove(vtab->table->attachment, &key), vtab->table);
  wm_codec_release_key(&key);
  return rc;
}

static int insert_row(wm_vtab *vtab, const wm_key *key, const content *from, bool replace) {
  int result = put_row(vtab->table->attachment, key, from, replace ? WM_ALWAYS : WM_IF_ABSENT);
  return result == WALMAP_EXISTS ? fail_duplicate(vtab) : wm_error_table(&vtab->base, result, vtab->table);
}

/*
** Gives the entry of key `old` the key `key`. Two changes, of which the second may want for memory. The old row goes
** first: a full table has no room for both.
*/
static int move_row(wm_vtab *vtab, const wm_key *old, const wm_key *key, const content *from, bool replace) {
  wm_attachment *attachment = vtab->table->attachment;
  int level = attachment->levels;
  int rc = wm_error_table(&vtab->base, wm_attachment_savepoint(attachment, level, false), vtab->table);
  if (rc != SQLITE_OK)
    return rc;
  rc = wm_error_table(&vtab->base, wm_row_remove(attachment, old), vtab->table);
  if (rc == SQLITE_OK)
    rc = insert_row(vtab, key, from, replace);
  if (rc != SQLITE_OK)
    wm_attachment_rollback_to(attachment, level);
  wm_attachment_release_to(attachment, level);
  return rc;
}

/*
** A row that is gone by now, because an earlier row of the statement replaced it, stays gone. A value that the
** statement does not set is the one that the row has now, not the one that it had when the statement read it.
*/
static int update_row(wm_vtab *vtab, const wm_key *old, const wm_key *key, content *from, bool replace) {
  wm_attachment *attachment = vtab->table->attachment;
  bool same = old == key || (old->size == key->size && memcmp(old->data, key->data, key->size) == 0);
  if (same && !from->is_entry) /* the usual one */
    return wm_error_table(&vtab->base, put_row(attachment, key, from, WM_IF_PRESENT), vtab->table);
  int result = walmap_txn_peek(attachment->txn, old->data, old->size, &from->entry);
  if (result != WALMAP_OK)
    return wm_error_table(&vtab->base, result, vtab->table);
  if (from->expires == WALMAP_KEEP)
    from->expires = from->entry.expires;
  if (from->is_entry && wm_row_is_too_big(vtab->table->conn->db, key, wm_codec_payload_size(&from->entry)))
    return SQLITE_TOOBIG;
  if (same)
    return wm_error_table(&vtab->base, put_row(attachment, key, from, WM_ALWAYS), vtab->table);
  return move_row(vtab, old, key, from, replace);
}

static int fail_expires(wm_vtab *vtab, sqlite3_value *value) {
  const char *type = sqlite3_value_type(value) == SQLITE_TEXT ? "TEXT" : "BLOB";
  return refuse_row(
      vtab, SQLITE_CONSTRAINT_DATATYPE,
      sqlite3_mprintf("cannot store %s value in column %s.expires: allowed is a Unix time in seconds, or NULL "
                      "for never",
                      type, vtab->table->name));
}

/*
** The new expiry. An INSERT that does not name the column gives NULL for it, as one that says NULL does: then it is the
** table's ttl. In an UPDATE NULL is never.
*/
static int read_expires(wm_vtab *vtab, sqlite3_value *value, bool is_update, content *from) {
  from->expires = WALMAP_KEEP;
  if (is_update && sqlite3_value_nochange(value))
    return SQLITE_OK;
  from->expires = is_update ? WALMAP_NEVER : WALMAP_BY_TTL;
  if (sqlite3_value_type(value) == SQLITE_NULL)
    return SQLITE_OK;
  return wm_expiry_read(value, &from->expires) ? SQLITE_OK : fail_expires(vtab, value);
}

/* The new value, unless the statement does not set it: then the entry has it. */
static int read_content(sqlite3 *db, sqlite3_value *value, bool is_update, const wm_key *key, content *from) {
  from->is_entry = is_update && sqlite3_value_nochange(value);
  if (from->is_entry)
    return SQLITE_OK;
  int rc = wm_codec_read_value(value, &from->value);
  return rc == SQLITE_OK && wm_row_is_too_big(db, key, from->value.payload_size) ? SQLITE_TOOBIG : rc;
}

static int insert_arguments(wm_vtab *vtab, sqlite3_value **argv, bool replace) {
  wm_key key;
  content from;
  int rc = wm_codec_encode_key(argv[2], &key);
  if (rc != SQLITE_OK)
    return rc == SQLITE_CONSTRAINT_NOTNULL ? fail_null(vtab) : rc;
  rc = read_expires(vtab, argv[4], false, &from);
  if (rc == SQLITE_OK)
    rc = read_content(vtab->table->conn->db, argv[3], false, &key, &from);
  if (rc == SQLITE_OK)
    rc = insert_row(vtab, &key, &from, replace);
  wm_codec_release_key(&key);
  return rc;
}

/* A key that the statement does not set is not given again (wm_cursor_column). */
static int update_arguments(wm_vtab *vtab, sqlite3_value **argv, bool replace) {
  wm_key old, fresh;
  content from;
  int rc = read_row_key(vtab, argv[0], &old);
  if (rc != SQLITE_OK)
    return rc == SQLITE_CONSTRAINT_NOTNULL ? SQLITE_OK : rc;
  const wm_key *key = &old;
  if (!sqlite3_value_nochange(argv[2])) {
    key = &fresh;
    rc = wm_codec_encode_key(argv[2], &fresh);
    if (rc != SQLITE_OK) {
      wm_codec_release_key(&old);
      return rc == SQLITE_CONSTRAINT_NOTNULL ? fail_null(vtab) : rc;
    }
  }
  rc = read_expires(vtab, argv[4], true, &from);
  if (rc == SQLITE_OK)
    rc = read_content(vtab->table->conn->db, argv[3], true, key, &from);
  if (rc == SQLITE_OK)
    rc = update_row(vtab, &old, key, &from, replace);
  if (key != &old)
    wm_codec_release_key(&fresh);
  wm_codec_release_key(&old);
  return rc;
}

/*
** Whether it is an UPDATE that has found no row. An aggregate over nothing gives one row all the same, as in UPDATE kv
** SET key = 1, value = (SELECT sum(e.x)) FROM e, where e is empty: then the old key is NULL. If the new one is NULL
** too, it cannot be told from an INSERT, and fails as that does.
*/
static bool is_update_of_nothing(sqlite3_value **argv) {
  return sqlite3_value_type(argv[1]) != SQLITE_NULL || sqlite3_value_nochange(argv[2]);
}

/*
** Whether it may be an INSERT that gives a rowid, which is an integer. SQLite refuses that, as for a native table
** WITHOUT ROWID, unless the connection had not used the table when it compiled the statement: then it did not know the
** declaration. To xUpdate it looks as an UPDATE that has found no row does, if the rowid is the key.
*/
static bool may_have_rowid(sqlite3_value **argv) {
  return sqlite3_value_type(argv[1]) == SQLITE_INTEGER && !sqlite3_value_nochange(argv[2]);
}

/* Has SQLite compile the statement anew, which refuses an INSERT that gives a rowid, and runs an UPDATE once more. */
static int compile_again(wm_vtab *vtab) {
  vtab->compiled_again = true;
  return SQLITE_SCHEMA;
}

/* DELETE: old key. INSERT: NULL, NULL, key, value, expires. UPDATE: old key, new key, new key, value, expires. */
int wm_update(sqlite3_vtab *base, int argc, sqlite3_value **argv, sqlite3_int64 *rowid) {
  wm_vtab *vtab = (wm_vtab *)base;
  int rc = wm_error_table(base, begin_on_map(vtab->table), vtab->table);
  if (rc != SQLITE_OK)
    return rc;
  wm_attachment_statement(vtab->table->attachment, WM_EVENT_UPDATE);
  if (wm_call_take(vtab->table, rowid, &rc))
    return rc;
  *rowid = sqlite3_last_insert_rowid(vtab->table->conn->db); /* SQLite sets it to this: native tables leave it alone */
  if (argc == 1)
    return delete_row(vtab, argv);
  bool replace = sqlite3_vtab_on_conflict(vtab->table->conn->db) == SQLITE_REPLACE;
  if (sqlite3_value_type(argv[0]) != SQLITE_NULL)
    return update_arguments(vtab, argv, replace);
  if (may_have_rowid(argv) && !vtab->compiled_again)
    return compile_again(vtab);
  return is_update_of_nothing(argv) ? SQLITE_OK : insert_arguments(vtab, argv, replace);
}
