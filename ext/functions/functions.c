/* functions.c - the table of SQL functions, what they share, and the functions that only read: see functions.h */
#include "functions/functions.h"

#include "conn/error.h"
#include "conn/transaction.h"
#include "durable/durable.h"
#include "functions/read.h"
#include "schema/resolve.h"

#include <string.h>

SQLITE_EXTENSION_INIT3

/* ------------------------------------------------------------------------------------------------------------------ */
/* What functions share                                                                                               */

/*
** Where another connection has changed a file's schema, SQLite reads all schemas again, and takes the temp schema for
** damaged if a CREATE TEMP TABLE ... AS SELECT is running, which has an empty row there. SQLITE_SCHEMA makes SQLite
** undo this statement and run it again, and it reads the schemas first. If one is damaged indeed, it fails with that.
*/
static bool is_schema_being_written(sqlite3 *db) {
  sqlite3_stmt *statement = NULL;
  bool writes = false;
  while (!writes && (statement = sqlite3_next_stmt(db, statement)) != NULL)
    writes = sqlite3_stmt_busy(statement) && !sqlite3_stmt_readonly(statement);
  if (!writes)
    return false;
  int rc = sqlite3_prepare_v2(db, "SELECT 1 FROM temp.sqlite_schema", -1, &statement, NULL);
  sqlite3_finalize(statement);
  return rc == SQLITE_CORRUPT;
}

void wm_functions_fail(sqlite3_context *context, int rc, char *err) {
  if (rc == SQLITE_CORRUPT && is_schema_being_written(sqlite3_context_db_handle(context)))
    rc = SQLITE_SCHEMA;
  if (err != NULL)
    sqlite3_result_error(context, err, -1);
  else
    sqlite3_result_null(context); /* SQLite would take a result that is already set for the text */
  sqlite3_free(err);
  sqlite3_result_error_code(context, rc); /* keeps the text, or sets SQLite's own */
}

void wm_functions_result(sqlite3_context *context, int result, wm_table *table) {
  if (result == -SQLITE_CORRUPT) {
    wm_functions_fail(context, SQLITE_CORRUPT, wm_error_text(result, table->name, table->attachment));
    return;
  }
  if (result != -SQLITE_CORRUPT_VTAB) {
    wm_error_result(context, result, table);
    return;
  }
  char *damage = wm_error_text(result, table->name, table->attachment), *err = NULL;
  wm_table *now = table;
  wm_table_retain(table);
  int rc = wm_resolve_present(&now, &err); /* the failure has made SQLite read the schema again */
  if (rc == SQLITE_OK && now->attachment == table->attachment) {
    rc = -result;
    err = damage;
    damage = NULL;
  } else if (rc == SQLITE_OK) {
    rc = SQLITE_ERROR;
    err = sqlite3_mprintf(WM_MODULE ": %s: another process has made this table anew; run the statement again",
                          table->name);
  }
  wm_table_release(table);
  sqlite3_free(damage);
  wm_functions_fail(context, rc, err);
}

/*
** The table that an argument names which is not the table's name: then it was meant as that, as a rule, and another
** argument was forgotten. NULL: it names none. The default map is there to be meant, used or not.
*/
static const char *find_meant(const wm_table *table, sqlite3_value *value) {
  if (sqlite3_value_type(value) != SQLITE_TEXT)
    return NULL;
  const char *text = (const char *)sqlite3_value_text(value);
  return text == NULL ? NULL : wm_resolve_meant(table, text, (size_t)sqlite3_value_bytes(value));
}

static void refuse_name(sqlite3_context *context, const wm_table *table, const char *name) {
  wm_functions_fail(
      context, SQLITE_ERROR,
      sqlite3_mprintf("an argument is missing after '%q', the name of a walmap table; if it is meant as a "
                      "key, write the table before it: ('%q', '%q', ...)",
                      name, table->name, name));
}

wm_table *wm_functions_table(sqlite3_context *context, int argc, sqlite3_value ***argv, int fixed) {
  const char *name = NULL;
  size_t size = 0;
  if (argc > fixed) {
    sqlite3_value *value = *(*argv)++;
    if (sqlite3_value_type(value) != SQLITE_TEXT) {
      sqlite3_result_error(context, "the first argument is not the name of a walmap table, which is a text", -1);
      return NULL;
    }
    if ((name = (const char *)sqlite3_value_text(value)) == NULL) {
      sqlite3_result_error_nomem(context);
      return NULL;
    }
    size = (size_t)sqlite3_value_bytes(value);
  }
  wm_table *table;
  char *err = NULL;
  int rc = wm_resolve_table(sqlite3_user_data(context), name, size, &table, &err);
  if (rc != SQLITE_OK) {
    wm_functions_fail(context, rc, err);
    return NULL;
  }
  const char *meant = name == NULL && argc > 0 ? find_meant(table, (*argv)[0]) : NULL;
  if (meant != NULL) {
    refuse_name(context, table, meant);
    return NULL;
  }
  return table;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Functions that read                                                                                                */

/*
** walmap_get([t,] key). Encodes the key on the stack, and hands the value over where it lies in the log. The state that
** holds the value is the one that all calls of the statement share (T2, see wm_read_get).
*/
static void get(sqlite3_context *context, int argc, sqlite3_value **argv) {
  wm_table *table = wm_functions_table(context, argc, &argv, 1);
  if (table == NULL)
    return;
  wm_key key;
  int rc = wm_codec_encode_key(argv[0], &key);
  if (rc == SQLITE_CONSTRAINT_NOTNULL)
    return; /* no key is NULL: the result is NULL */
  if (rc != SQLITE_OK) {
    sqlite3_result_error_code(context, rc);
    return;
  }
  walmap_entry entry;
  wm_read_state *pin;
  int result = wm_read_get(context, table->attachment, key.data, key.size, &entry, &pin);
  wm_codec_release_key(&key);
  if (result == WALMAP_OK)
    wm_codec_result_value(context, &entry, wm_read_state_destructor(pin));
  else
    wm_functions_result(context, result, table);
}

/* walmap_len([t]): the entries of the state that the statement reads (T2), with the transaction's changes (T4). */
static void len(sqlite3_context *context, int argc, sqlite3_value **argv) {
  wm_table *table = wm_functions_table(context, argc, &argv, 0);
  if (table == NULL)
    return;
  uint64_t n = 0;
  int result = wm_read_len(context, table->attachment, &n);
  if (result == WALMAP_OK)
    sqlite3_result_int64(context, (int64_t)n);
  else
    wm_functions_result(context, result, table);
}

/* walmap_size([t]), walmap_reclaimable([t]): of the present log, not of the state that the statement reads. */
static void figure(sqlite3_context *context, int argc, sqlite3_value **argv, uint64_t (*of_map)(walmap *),
                   uint64_t (*of_txn)(walmap_txn *)) {
  wm_table *table = wm_functions_table(context, argc, &argv, 0);
  if (table == NULL)
    return;
  wm_attachment *attachment = table->attachment;
  int result = wm_durable_refresh(table);
  if (result != WALMAP_OK) {
    wm_functions_result(context, result, table);
    return;
  }
  sqlite3_result_int64(
      context, (int64_t)(wm_attachment_is_begun(attachment) ? of_txn(attachment->txn) : of_map(attachment->map->map)));
}

static void size(sqlite3_context *context, int argc, sqlite3_value **argv) {
  figure(context, argc, argv, walmap_size, walmap_txn_size);
}

static void reclaimable(sqlite3_context *context, int argc, sqlite3_value **argv) {
  figure(context, argc, argv, walmap_reclaimable, walmap_txn_reclaimable);
}

/* walmap_version() */
static void version_function(sqlite3_context *context, int argc, sqlite3_value **argv) {
  (void)argc, (void)argv;
  char *text = sqlite3_mprintf("%s, image format %d", walmap_version(), WALMAP_FORMAT_VERSION);
  if (text != NULL)
    sqlite3_result_text(context, text, -1, sqlite3_free);
  else
    sqlite3_result_error_nomem(context);
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Registration                                                                                                       */

#define REACHES_MAPS (SQLITE_UTF8 | SQLITE_DIRECTONLY)

static const struct {
  const char *name;
  int argc; /* without the table's name */
  int more; /* it is registered with so many more as well: 1 for the table's name, 2 for that and a ttl */
  int flags;
  void (*call)(sqlite3_context *, int, sqlite3_value **); /* of an aggregate, for each row */
  void (*final)(sqlite3_context *);
} functions[] = {
    {"walmap_get", 1, 1, REACHES_MAPS, get, NULL},
    {"walmap_set", 2, 2, REACHES_MAPS, wm_function_set, NULL},
    {"walmap_remove", 1, 1, REACHES_MAPS, wm_function_remove, NULL},
    {"walmap_set_if_absent", 2, 2, REACHES_MAPS, wm_function_set_if_absent, NULL},
    {"walmap_touch", 2, 1, REACHES_MAPS, wm_function_touch, NULL},
    {"walmap_set_if", 3, 1, REACHES_MAPS, wm_function_set_if, NULL},
    {"walmap_remove_if", 2, 1, REACHES_MAPS, wm_function_remove_if, NULL},
    {"walmap_upsert", 3, 2, REACHES_MAPS, wm_function_upsert, NULL},
    {"walmap_len", 0, 1, REACHES_MAPS, len, NULL},
    {"walmap_size", 0, 1, REACHES_MAPS, size, NULL},
    {"walmap_reclaimable", 0, 1, REACHES_MAPS, reclaimable, NULL},
    {"walmap_compact", 0, 1, REACHES_MAPS, wm_function_compact, NULL},
    {"walmap_checkpoint", 0, 1, REACHES_MAPS, wm_function_checkpoint, NULL},
    {"walmap_reclaim", 0, 1, REACHES_MAPS, wm_function_reclaim, NULL},
    {"walmap_clear", 0, 1, REACHES_MAPS, wm_function_clear, NULL},
    {"walmap_snapshot", 0, 1, REACHES_MAPS, wm_function_snapshot, NULL},
    {"walmap_restore", 1, 1, REACHES_MAPS, wm_function_restore, NULL},
    {"walmap_snapshot_file", 1, 1, REACHES_MAPS, wm_function_snapshot_file, NULL},
    {"walmap_restore_file", 1, 1, REACHES_MAPS, wm_function_restore_file, NULL},
    {"walmap_position", 0, 1, REACHES_MAPS, wm_function_position, NULL},
    {"walmap_wait", 2, 1, REACHES_MAPS, wm_function_wait, NULL},
    {"walmap_changes", 1, 1, REACHES_MAPS, wm_function_changes, NULL},
    {"walmap_apply", 1, 1, REACHES_MAPS, wm_function_apply, NULL},
    {"walmap_image", 2, 0, SQLITE_UTF8 | SQLITE_INNOCUOUS, wm_aggregate_step, wm_aggregate_final},
    {"walmap_unchunk", 2, 0, SQLITE_UTF8 | SQLITE_INNOCUOUS, wm_unchunk_step, wm_unchunk_final},
    /* As sqlite_version(), not SQLITE_DETERMINISTIC: an index on it would be damaged by a newer library. */
    {"walmap_version", 0, 0, SQLITE_UTF8 | SQLITE_INNOCUOUS, version_function, NULL},
};

int wm_functions_register(wm_conn *conn) {
  int rc = SQLITE_OK;
  for (size_t i = 0; i < sizeof functions / sizeof functions[0]; i++) {
    for (int n = 0; n <= functions[i].more && rc == SQLITE_OK; n++) {
      bool is_aggregate = functions[i].final != NULL;
      wm_conn_retain(conn); /* released by SQLite, failing or not */
      rc = sqlite3_create_function_v2(conn->db, functions[i].name, functions[i].argc + n, functions[i].flags, conn,
                                      is_aggregate ? NULL : functions[i].call, is_aggregate ? functions[i].call : NULL,
                                      functions[i].final, wm_conn_release);
    }
  }
  if (rc == SQLITE_OK)
    rc = wm_chunks_register(conn);
  if (rc == SQLITE_OK)
    rc = wm_each_register(conn);
  if (rc == SQLITE_OK)
    rc = wm_stats_register(conn);
  return rc;
}
