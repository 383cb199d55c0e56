/*
** changes.c - following a map: walmap_position([t]), walmap_changes([t,] position), walmap_apply([t,] changes)
**
** The first two see only committed changes. The connection's own transaction may yet be rolled back, and the follower
** could not be told.
*/
#include "conn/error.h"
#include "conn/transaction.h"
#include "functions/functions.h"
#include "functions/read.h"
#include "table/call.h"

#include <string.h>

SQLITE_EXTENSION_INIT3

/* Reads the bytes of a BLOB argument. NULL: the error is set. */
static const void *read_blob(sqlite3_context *context, const char *function, const char *what, sqlite3_value *value,
                             size_t *size) {
  if (sqlite3_value_type(value) != SQLITE_BLOB) {
    wm_functions_fail(context, SQLITE_MISMATCH, sqlite3_mprintf("%s: %s not a BLOB", function, what));
    return NULL;
  }
  const void *bytes = sqlite3_value_blob(value);
  *size = (size_t)sqlite3_value_bytes(value);
  if (bytes == NULL && *size > 0)
    sqlite3_result_error_nomem(context);
  return bytes == NULL && *size == 0 ? "" : bytes;
}

void wm_function_position(sqlite3_context *context, int argc, sqlite3_value **argv) {
  wm_table *table = wm_functions_table(context, argc, &argv, 0);
  if (table == NULL)
    return;
  wm_read_state *state;
  void *position;
  size_t size;
  int result = wm_read_committed_state(context, table->attachment, &state);
  if (result == WALMAP_OK) {
    result = walmap_state_position(state->state, &position, &size);
    wm_read_state_release(state);
  }
  if (result == WALMAP_OK)
    wm_functions_result_image(context, "walmap_position", position, size, "");
  else
    wm_functions_result(context, result, table);
}

/* walmap_wait([t,] position, ms). The connection is the caller's meanwhile, as in any statement. */
void wm_function_wait(sqlite3_context *context, int argc, sqlite3_value **argv) {
  enum { DAY = 86400000 };
  static const char function[] = "walmap_wait";
  wm_table *table = wm_functions_table(context, argc, &argv, 2);
  size_t since_size, size = 0;
  const void *since = table != NULL ? read_blob(context, function, "the position is", argv[0], &since_size) : NULL;
  if (since == NULL)
    return;
  sqlite3_int64 ms = sqlite3_value_int64(argv[1]);
  if (sqlite3_value_type(argv[1]) != SQLITE_INTEGER || ms < 0 || ms > DAY) {
    wm_functions_fail(context, SQLITE_MISMATCH,
                      sqlite3_mprintf("%s: the time must be milliseconds from 0 to %d", function, DAY));
    return;
  }
  void *position = NULL;
  walmap_why why;
  int result = walmap_wait(table->attachment->map->map, since, since_size, (uint32_t)ms, wm_conn_is_interrupted,
                           table->conn, &position, &size, &why);
  if (result == WALMAP_OK)
    wm_functions_result_image(context, function, position, size, "");
  else if (result == WALMAP_CORRUPT || result == WALMAP_GONE)
    wm_functions_fail(context, wm_error_code(result), sqlite3_mprintf("%s: %s", function, why.text));
  else if (result != WALMAP_NOTFOUND)
    wm_functions_result(context, result, table);
}

/*
** A transaction that reads the file in a state that the table's map no longer has, or never had, reads a copy of its
** own (durable/replica.h). That is another map, so no position of the one is mistaken for one of the other.
*/
static const char of_a_copy[] = "this transaction reads an older or other state of the file than the table's map has, "
                                "from a copy, where the position is not known: end the transaction, or take a snapshot";

void wm_function_changes(sqlite3_context *context, int argc, sqlite3_value **argv) {
  static const char function[] = "walmap_changes";
  wm_table *table = wm_functions_table(context, argc, &argv, 1);
  size_t since_size, size = 0;
  const void *since = table != NULL ? read_blob(context, function, "the position is", argv[0], &since_size) : NULL;
  if (since == NULL)
    return;
  wm_read_state *state;
  void *changes = NULL;
  walmap_why why;
  int result = wm_read_committed_state(context, table->attachment, &state);
  bool is_copy = false;
  if (result == WALMAP_OK) {
    result = walmap_state_changes(state->state, since, since_size, &changes, &size, &why);
    is_copy = state->replica != NULL;
    wm_read_state_release(state);
  }
  if (result == WALMAP_OK)
    wm_functions_result_image(context, function, changes, size, "; take a snapshot");
  else if (result == WALMAP_GONE && is_copy)
    wm_functions_fail(context, wm_error_code(result), sqlite3_mprintf("%s: %s", function, of_a_copy));
  else if (result == WALMAP_CORRUPT || result == WALMAP_GONE)
    wm_functions_fail(context, wm_error_code(result), sqlite3_mprintf("%s: %s", function, why.text));
  else
    wm_functions_result(context, result, table);
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* walmap_apply([t,] changes)                                                                                         */

typedef struct changes_application {
  const void *changes;
  size_t size;
  wm_map *map;
  wm_attachment *attachment;
  int result; /* of noting a change that is to be written to a durable table's file */
  uint64_t changed;
} changes_application;

/*
** Notes the change for a durable table's file, unless the map has it already: then walmap_txn_apply does not write it
** either. The newest put of a key in the log must be the one from which the map's entry has its tag (ext/DURABLE.md,
** R2).
*/
static int note_change(changes_application *a, wm_change change, const walmap_entry *entry) {
  wm_attachment *attachment = a->attachment;
  walmap_entry present;
  int result = walmap_txn_peek(attachment->txn, entry->key, entry->key_len, &present);
  if (result == WALMAP_NOTFOUND && change == WM_CHANGE_REMOVE)
    return WALMAP_OK;
  if (result == WALMAP_OK && change == WM_CHANGE_PUT && present.expires == entry->expires &&
      present.value_len == entry->value_len && memcmp(present.value, entry->value, entry->value_len) == 0)
    return WALMAP_OK;
  if (result == WALMAP_OK || result == WALMAP_NOTFOUND)
    result = wm_attachment_reserve_change(attachment, change, entry->key_len, entry->value_len);
  if (result == WALMAP_OK)
    wm_journal_add(&attachment->journal, change, entry);
  return result;
}

static const char *check_change(void *ctx, const walmap_entry *entry) {
  changes_application *a = ctx;
  wm_change change = entry->value == NULL ? WM_CHANGE_REMOVE : WM_CHANGE_PUT;
  const char *wrong =
      change == WM_CHANGE_PUT ? wm_codec_check(NULL, entry) : wm_codec_check_key(entry->key, entry->key_len);
  if (wrong != NULL)
    return wrong;
  if (change == WM_CHANGE_PUT)
    wm_registry_note_key(a->map, entry->key, entry->key_len);
  if (a->attachment->map->history != NULL) {
    a->result = note_change(a, change, entry);
    if (a->result != WALMAP_OK)
      return walmap_result_text(a->result);
  }
  return NULL;
}

static int do_apply(void *ctx, wm_table *table, char **err) {
  changes_application *a = ctx;
  walmap_why why;
  wm_journal *journal = &table->attachment->journal;
  const size_t size = journal->size;
  a->map = table->attachment->map;
  a->attachment = table->attachment;
  int result = walmap_txn_apply(table->attachment->txn, a->changes, a->size, check_change, a, &a->changed, &why);
  if (result != WALMAP_OK || a->changed == 0)
    journal->size = size;
  if (result == WALMAP_CORRUPT && a->result != WALMAP_OK)
    result = a->result;
  if (result == WALMAP_CORRUPT) {
    *err = sqlite3_mprintf("walmap_apply: %s", why.text);
    return wm_error_code(result);
  }
  if (result != WALMAP_OK)
    return wm_call_failed(table, result, err);
  if (a->changed == 0)
    return WM_CALL_UNCHANGED;
  wm_attachment_changed(table->attachment);
  return SQLITE_OK;
}

/* Part of the running transaction, as every write. */
void wm_function_apply(sqlite3_context *context, int argc, sqlite3_value **argv) {
  changes_application a = {0};
  wm_table *table = wm_functions_table(context, argc, &argv, 1);
  a.changes = table != NULL ? read_blob(context, "walmap_apply", "the changes are", argv[0], &a.size) : NULL;
  if (a.changes == NULL)
    return;
  char *err;
  int rc = wm_call_write(table, do_apply, &a, &err);
  if (rc != SQLITE_OK)
    wm_functions_fail(context, rc, err);
  else
    sqlite3_result_int64(context, (int64_t)a.changed);
}
