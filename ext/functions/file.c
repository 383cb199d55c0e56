/*
** file.c - images in files: walmap_snapshot_file([t,] path) and walmap_restore_file([t,] path)
**
** Neither function holds an image in memory, so they work for maps of any size. platform/file.h says what a new file
** promises: the path never leads to half an image.
**
** Restoring reads the file and does not map it: a process that makes a mapped file shorter would end the host process
** by a SIGBUS, and one that changes it could do so between the check of a length and its use.
**
** A host may let strangers run SQL and not reach files. SQL reaches files by ATTACH, so these functions may do what
** ATTACH may: a host that has refused that, by SQLITE_LIMIT_ATTACHED, by an authorizer, or for writing by
** SQLITE_DBCONFIG_ENABLE_ATTACH_WRITE or _CREATE, has refused these as well, with SQLITE_AUTH.
**
** Errors are SQLITE_CANTOPEN, never SQLITE_IOERR, after which SQLite would roll back the whole transaction.
*/
#include "platform/file.h"
#include "conn/error.h"
#include "functions/functions.h"
#include "functions/read.h"
#include "table/call.h"

#include <errno.h>
#include <string.h>

SQLITE_EXTENSION_INIT3

/* ------------------------------------------------------------------------------------------------------------------ */
/* Paths and errors                                                                                                   */

/* Sets the error: the function, the path, and why; `error` is one of platform/file.h. */
static void fail_path(sqlite3_context *context, const char *function, const char *path, int error) {
  char reason[WM_FILE_TEXT_SIZE] = "not a regular file";
  if (error == ENOMEM) {
    sqlite3_result_error_nomem(context);
    return;
  }
  if (error != WM_FILE_IRREGULAR)
    wm_file_explain(error, reason);
  wm_functions_fail(context, SQLITE_CANTOPEN, sqlite3_mprintf("%s: %s: %s", function, path, reason));
}

/* The path argument. NULL: the error is set. */
static const char *read_path(sqlite3_context *context, const char *function, sqlite3_value *value) {
  if (sqlite3_value_type(value) != SQLITE_TEXT) {
    wm_functions_fail(context, SQLITE_MISMATCH, sqlite3_mprintf("%s: the path is not a text", function));
    return NULL;
  }
  const char *path = (const char *)sqlite3_value_text(value);
  if (path == NULL) {
    sqlite3_result_error_nomem(context);
    return NULL;
  }
  if (*path == 0 || strlen(path) != (size_t)sqlite3_value_bytes(value)) {
    wm_functions_fail(context, SQLITE_CANTOPEN,
                      sqlite3_mprintf("%s: the path is empty, or has a NUL inside", function));
    return NULL;
  }
  return path;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Whether the host allows it                                                                                         */

enum { ENABLE_ATTACH_CREATE = 1020, ENABLE_ATTACH_WRITE = 1021 }; /* SQLITE_DBCONFIG_..., from 3.49 on */

static bool is_switched_off(sqlite3 *db, int option) {
  int on = 1;
  return sqlite3_libversion_number() >= 3049000 && sqlite3_db_config(db, option, -1, &on) == SQLITE_OK && on == 0;
}

/*
** Asks the authorizer by preparing ATTACH with the path. It is asked while that is prepared, so nothing is run. What an
** authorizer ignores (SQLITE_IGNORE) is prepared all the same, but without its instruction, a call of the function that
** attaches; EXPLAIN shows that. An SQLite code.
*/
static int ask_authorizer(sqlite3 *db, const char *path) {
  char *sql = sqlite3_mprintf("EXPLAIN ATTACH %Q AS walmap", path);
  sqlite3_stmt *statement = NULL;
  int rc = sql == NULL ? SQLITE_NOMEM : sqlite3_prepare_v2(db, sql, -1, &statement, NULL);
  bool attaches = false;
  sqlite3_free(sql);
  while (rc == SQLITE_OK && !attaches && sqlite3_step(statement) == SQLITE_ROW) {
    const char *instruction = (const char *)sqlite3_column_text(statement, 1);
    attaches = instruction != NULL && strcmp(instruction, "Function") == 0;
  }
  int finalized = sqlite3_finalize(statement);
  rc = rc == SQLITE_OK ? finalized : rc;
  return rc == SQLITE_OK && !attaches ? SQLITE_AUTH : rc;
}

/* False: the error is set. */
static bool is_allowed(sqlite3_context *context, const char *function, const char *path, bool writes) {
  sqlite3 *db = sqlite3_context_db_handle(context);
  int rc = SQLITE_AUTH;
  if (sqlite3_limit(db, SQLITE_LIMIT_ATTACHED, -1) > 0 &&
      !(writes && (is_switched_off(db, ENABLE_ATTACH_CREATE) || is_switched_off(db, ENABLE_ATTACH_WRITE))))
    rc = ask_authorizer(db, path);
  if (rc == SQLITE_AUTH)
    wm_functions_fail(context, rc, sqlite3_mprintf("%s: %s: not authorized, for ATTACH is not either", function, path));
  else if (rc != SQLITE_OK)
    wm_functions_fail(context, rc, NULL);
  return rc == SQLITE_OK;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* walmap_snapshot_file([t,] path)                                                                                    */

typedef struct output {
  wm_new_file *file;
  sqlite3_int64 bytes;
  int error; /* of what failed: see platform/file.h */
} output;

static int write_piece(void *ctx, const void *data, size_t size) {
  output *out = ctx;
  out->error = wm_new_file_write(out->file, data, size);
  out->bytes += (sqlite3_int64)size;
  return out->error != 0;
}

/* One state, as walmap_snapshot takes it (T6). A WALMAP code; IO with out->error. */
static int write_image(sqlite3_context *context, output *out, wm_attachment *attachment) {
  wm_read_state *state;
  int result = wm_read_state_of(context, attachment, &state);
  if (result != WALMAP_OK)
    return result;
  result = walmap_state_write(state->state, write_piece, out);
  wm_read_state_release(state);
  if (result == WALMAP_OK && (out->error = wm_new_file_commit(out->file)) != 0)
    result = WALMAP_IO;
  return result;
}

void wm_function_snapshot_file(sqlite3_context *context, int argc, sqlite3_value **argv) {
  static const char function[] = "walmap_snapshot_file";
  wm_table *table = wm_functions_table(context, argc, &argv, 1);
  const char *path = table != NULL ? read_path(context, function, argv[0]) : NULL;
  if (path == NULL || !is_allowed(context, function, path, true))
    return;
  output out = {.file = NULL};
  out.error = wm_new_file_create(path, &out.file);
  int result = out.error == 0 ? write_image(context, &out, table->attachment) : WALMAP_IO;
  wm_new_file_end(out.file);
  if (result == WALMAP_OK)
    sqlite3_result_int64(context, out.bytes);
  else if (result == WALMAP_IO)
    fail_path(context, function, path, out.error);
  else
    wm_functions_result(context, result, table);
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* walmap_restore_file([t,] path)                                                                                     */

typedef struct input {
  wm_input_file *file;
  int error; /* of what failed: see platform/file.h */
} input;

static ptrdiff_t read_piece(void *ctx, void *buffer, size_t size) {
  input *in = ctx;
  size_t got = 0;
  in->error = wm_file_read(in->file, buffer, size, &got);
  return in->error != 0 ? -1 : (ptrdiff_t)got;
}

void wm_function_restore_file(sqlite3_context *context, int argc, sqlite3_value **argv) {
  static const char function[] = "walmap_restore_file";
  wm_table *table = wm_functions_table(context, argc, &argv, 1);
  const char *path = table != NULL ? read_path(context, function, argv[0]) : NULL;
  if (path == NULL || !is_allowed(context, function, path, false))
    return;
  input in = {.file = NULL};
  in.error = wm_file_open(path, &in.file);
  if (in.error == 0) {
    wm_restoration restoration = {.function = function, .path = path, .read = read_piece, .read_ctx = &in};
    wm_functions_restore(context, table, &restoration);
    wm_file_close(in.file);
  }
  if (in.error != 0)
    fail_path(context, function, path, in.error);
}
