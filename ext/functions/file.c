/*
** file.c - images in files: walmap_snapshot_file([t,] path) and walmap_restore_file([t,] path)
**
** Neither function holds an image in memory, so they work for maps of any size.
**
** The path never leads to half an image: the image is written to a new file in the same directory, synced, and then
** renamed, which replaces the old file in one step. The directory is synced too, so that the name survives a crash. A
** failure before the rename removes the new file and leaves the old one as it was.
**
** Restoring reads the file and does not map it: a process that makes a mapped file shorter would end the host process
** by a SIGBUS, and one that changes it could do so between the check of a length and its use.
**
** Who may run SQL may not therefore reach files. SQL reaches them by ATTACH, so these functions may what ATTACH may: a
** host that has refused that, by SQLITE_LIMIT_ATTACHED, by an authorizer, or for writing by
** SQLITE_DBCONFIG_ENABLE_ATTACH_WRITE or _CREATE, has refused these as well, with SQLITE_AUTH.
**
** A symbolic link leads to the file that it names, as it does for a database.
**
** Errors are SQLITE_CANTOPEN, never SQLITE_IOERR, after which SQLite would roll back the whole transaction. Both
** functions can be interrupted at every MiB.
*/
#define _XOPEN_SOURCE 700 /* POSIX of 2008, and realpath */
#include "conn/error.h"
#include "functions/functions.h"
#include "functions/read.h"
#include "table/call.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

SQLITE_EXTENSION_INIT3

/* ------------------------------------------------------------------------------------------------------------------ */
/* Paths and errors                                                                                                   */

/* Sets the error: the function, the path, and why; `error` is an errno. */
static void fail_path(sqlite3_context *context, const char *function, const char *path, int error) {
  char reason[128];
  if (error == ENOMEM) {
    sqlite3_result_error_nomem(context);
    return;
  }
  if (strerror_r(error, reason, sizeof reason) != 0)
    snprintf(reason, sizeof reason, "error %d", error);
  wm_functions_fail(context, SQLITE_CANTOPEN, sqlite3_mprintf("%s: %s: %s", function, path, reason));
}

static void fail_irregular(sqlite3_context *context, const char *function, const char *path) {
  wm_functions_fail(context, SQLITE_CANTOPEN, sqlite3_mprintf("%s: %s: not a regular file", function, path));
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
/* Interrupts                                                                                                         */

typedef struct poll {
  sqlite3 *db;
  size_t bytes; /* until SQLite is asked again */
  bool is_interrupted;
} poll;

/*
** Whether sqlite3_interrupt() was called, or a progress handler has asked for an interrupt. Before version 3.41 SQLite
** does not tell; but then it ends a statement that is begun within the running one.
*/
static bool is_interrupted(poll *poll, size_t bytes) {
  enum { EVERY = 1 << 20 };
  if (poll->bytes > bytes) {
    poll->bytes -= bytes;
    return false;
  }
  poll->bytes = EVERY;
  poll->is_interrupted = sqlite3_exec(poll->db, "SELECT 1", NULL, NULL, NULL) == SQLITE_INTERRUPT;
  return poll->is_interrupted;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* walmap_snapshot_file([t,] path)                                                                                    */

#define TEMPORARY ".walmap-%016llx.tmp"
#define TEMPORARY_SIZE (sizeof TEMPORARY + 16)

typedef struct output {
  int directory, file;
  const char *name;               /* in the directory */
  char temporary[TEMPORARY_SIZE]; /* beside it */
  sqlite3_int64 bytes;
  poll poll;
  int error; /* errno of what failed */
} output;

/* The path that a symbolic link at the end of this path leads to, to be freed with free; otherwise NULL. */
static char *resolve_link(const char *path) {
  struct stat about;
  return lstat(path, &about) == 0 && S_ISLNK(about.st_mode) ? realpath(path, NULL) : NULL;
}

/* Opens the directory of the path, so that a rename of it meanwhile does no harm. An errno. */
static int open_directory(output *out, const char *path) {
  const char *slash = strrchr(path, '/');
  out->name = slash != NULL ? slash + 1 : path;
  if (*out->name == 0)
    return EISDIR;
  size_t length = slash == NULL ? 0 : slash == path ? 1 : (size_t)(slash - path);
  char *parent = sqlite3_mprintf("%.*s", (int)length, length > 0 ? path : "");
  if (parent == NULL)
    return ENOMEM;
  out->directory = open(length > 0 ? parent : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  int error = errno;
  sqlite3_free(parent);
  return out->directory >= 0 ? 0 : error;
}

/*
** A new file beside the target. Its mode is the one of the file that it will replace, or what the umask leaves. An
** errno. *irregular: the target is a directory, a device, a link that leads nowhere or the like, which a rename would
** replace.
*/
static int create_temporary(output *out, bool *irregular) {
  enum { TRIES = 8 };
  struct stat old;
  bool exists = fstatat(out->directory, out->name, &old, AT_SYMLINK_NOFOLLOW) == 0;
  *irregular = exists && !S_ISREG(old.st_mode);
  if (*irregular)
    return EEXIST;
  for (int tries = 0; out->file < 0 && tries < TRIES; tries++) {
    sqlite3_uint64 number;
    sqlite3_randomness(sizeof number, &number);
    snprintf(out->temporary, sizeof out->temporary, TEMPORARY, (unsigned long long)number);
    out->file = openat(out->directory, out->temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC,
                       exists ? S_IRUSR | S_IWUSR : 0666);
    if (out->file < 0 && errno != EEXIST)
      return errno;
  }
  if (out->file < 0)
    return EEXIST;
  return exists && fchmod(out->file, old.st_mode & 0777) != 0 ? errno : 0;
}

static int write_piece(void *ctx, const void *data, size_t size) {
  output *out = ctx;
  const char *at = data;
  if (is_interrupted(&out->poll, size))
    return 1;
  while (size > 0) {
    ssize_t n = write(out->file, at, size);
    if (n < 0 && errno == EINTR)
      continue;
    if (n <= 0) {
      out->error = n < 0 ? errno : EIO;
      return 1;
    }
    at += n;
    size -= (size_t)n;
    out->bytes += n;
  }
  return 0;
}

/* Syncs the file, renames it, and syncs the directory. An errno. */
static int put_in_place(output *out) {
  if (fsync(out->file) != 0)
    return errno;
  int closed = close(out->file);
  out->file = -1;
  if (closed != 0 || renameat(out->directory, out->temporary, out->directory, out->name) != 0)
    return errno;
  out->temporary[0] = 0;
  return fsync(out->directory) == 0 || errno == EINVAL ? 0
                                                       : errno; /* EINVAL: the file system cannot sync a directory */
}

/* Closes the files, and removes a temporary file that was not renamed. */
static void close_output(output *out) {
  if (out->file >= 0)
    close(out->file);
  if (out->directory >= 0 && out->temporary[0] != 0)
    unlinkat(out->directory, out->temporary, 0);
  if (out->directory >= 0)
    close(out->directory);
}

/* One state, as walmap_snapshot takes it (T6). A WALMAP code; IO with out->error. */
static int write_image(sqlite3_context *context, output *out, wm_attachment *attachment) {
  wm_read_state *state;
  int result = wm_read_state_of(context, attachment, &state);
  if (result != WALMAP_OK)
    return result;
  result = walmap_state_write(state->state, write_piece, out);
  wm_read_state_release(state);
  if (out->poll.is_interrupted)
    return WALMAP_INTERRUPT;
  if (result == WALMAP_OK && (out->error = put_in_place(out)) != 0)
    result = WALMAP_IO;
  return result;
}

void wm_function_snapshot_file(sqlite3_context *context, int argc, sqlite3_value **argv) {
  static const char function[] = "walmap_snapshot_file";
  wm_table *table = wm_functions_table(context, argc, &argv, 1);
  const char *path = table != NULL ? read_path(context, function, argv[0]) : NULL;
  if (path == NULL || !is_allowed(context, function, path, true))
    return;
  char *target = resolve_link(path);
  output out = {.directory = -1, .file = -1, .poll.db = sqlite3_context_db_handle(context)};
  bool irregular = false;
  int result = WALMAP_IO;
  if ((out.error = open_directory(&out, target != NULL ? target : path)) == 0 &&
      (out.error = create_temporary(&out, &irregular)) == 0)
    result = write_image(context, &out, table->attachment);
  close_output(&out);
  free(target);
  if (result == WALMAP_OK)
    sqlite3_result_int64(context, out.bytes);
  else if (irregular)
    fail_irregular(context, function, path);
  else if (result == WALMAP_IO)
    fail_path(context, function, path, out.error);
  else
    wm_error_result(context, result, table);
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* walmap_restore_file([t,] path)                                                                                     */

typedef struct input {
  int file;
  poll poll;
  int error; /* errno of what failed */
} input;

static ptrdiff_t read_piece(void *ctx, void *buffer, size_t size) {
  input *in = ctx;
  ssize_t n;
  if (is_interrupted(&in->poll, size))
    return -1;
  do
    n = read(in->file, buffer, size < SSIZE_MAX ? size : SSIZE_MAX);
  while (n < 0 && errno == EINTR);
  if (n < 0)
    in->error = errno;
  return n;
}

void wm_function_restore_file(sqlite3_context *context, int argc, sqlite3_value **argv) {
  static const char function[] = "walmap_restore_file";
  wm_table *table = wm_functions_table(context, argc, &argv, 1);
  const char *path = table != NULL ? read_path(context, function, argv[0]) : NULL;
  if (path == NULL || !is_allowed(context, function, path, false))
    return;
  struct stat about;
  input in = {.file = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK), /* the open of a pipe must not wait */
              .poll.db = sqlite3_context_db_handle(context)};
  if (in.file < 0) {
    fail_path(context, function, path, errno);
    return;
  }
  if (fstat(in.file, &about) != 0) {
    fail_path(context, function, path, errno);
  } else if (!S_ISREG(about.st_mode)) {
    fail_irregular(context, function, path);
  } else {
    wm_restoration restoration = {.function = function, .path = path, .read = read_piece, .read_ctx = &in};
    wm_functions_restore(context, table, &restoration);
    if (in.error != 0)
      fail_path(context, function, path, in.error);
    if (in.poll.is_interrupted)
      wm_functions_fail(context, SQLITE_INTERRUPT, NULL);
  }
  close(in.file);
}
