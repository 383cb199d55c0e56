/*
** functions.h - the SQL functions, and what they share
**
** Functions that touch maps are SQLITE_DIRECTONLY: a schema may come from a stranger, and its views and triggers must
** not reach maps. What the functions share:
**
**    the table's name   may come first and may be left out while the connection has one walmap table; the number of
**                       arguments tells. Each function is registered with both numbers. Where it is left out, and the
**                       first argument is that table's name, the call is refused: an argument was forgotten.
**    errors             carry the SQLite code of what happened and a text that starts with the function's name, or
**                       SQLite's own text where a statement on the table would get it too
**    writes             are work inside a statement on the table (call.h)
*/
#ifndef WM_FUNCTIONS_H
#define WM_FUNCTIONS_H

#include "codec/codec.h"
#include "conn/conn.h"

/* Registers all functions and table-valued functions on the connection. An SQLite code. */
int wm_functions_register(wm_conn *conn);

/*
** The table that a call is for. `fixed` is the number of arguments without the table's name; *argv is moved past the
** name. NULL: the error is set as the result.
*/
wm_table *wm_functions_table(sqlite3_context *context, int argc, sqlite3_value ***argv, int fixed);

/* Sets the error; frees `err`, which may be NULL for SQLite's own text. */
void wm_functions_fail(sqlite3_context *context, int rc, char *err);

/*
** Sets the error of a WALMAP code, as wm_error_result does. When another process has dropped or renamed a durable
** table, functions still know it until SQLite reads the schema again, and find no shadow table: that is an error about
** the table's name, and no damage.
*/
void wm_functions_result(sqlite3_context *context, int result, wm_table *table);

/*
** Takes an image over as the result, or fails because it is longer than the connection allows; frees it in both cases.
** `hint` ends the error's text.
*/
void wm_functions_result_image(sqlite3_context *context, const char *function, void *image, size_t size,
                               const char *hint);

/* Whether a BLOB of this size is allowed; if not, sets that error. */
bool wm_functions_fits(sqlite3_context *context, const char *function, uint64_t size, const char *hint);

/*
** The bytes of an image argument. NULL when it is not a BLOB: the error is set in *err (sqlite3_malloc, NULL when
** memory is out).
*/
const void *wm_functions_image(const char *function, sqlite3_value *value, size_t *size, char **err);

/* The source of an image that is to be restored: memory, or a stream. */
typedef struct wm_restoration {
  const char *function; /* begins the texts of errors */
  const char *path;     /* follows it there, if it is not NULL */
  const void *image;    /* while read is NULL */
  size_t size;
  walmap_read_fn read;
  void *read_ctx;

  wm_attachment *attachment; /* of the table; set by wm_functions_restore, as what follows */
  int noted;                 /* a WALMAP code: of noting an entry for a durable table's file */
  uint64_t entries;
} wm_restoration;

/* Restores inside the running transaction; the result is the number of entries, or an error. */
void wm_functions_restore(sqlite3_context *context, wm_table *table, wm_restoration *restoration);

/* write.c: walmap_set and all others that change one key */
void wm_function_set(sqlite3_context *context, int argc, sqlite3_value **argv);
void wm_function_remove(sqlite3_context *context, int argc, sqlite3_value **argv);
void wm_function_touch(sqlite3_context *context, int argc, sqlite3_value **argv);
void wm_function_set_if_absent(sqlite3_context *context, int argc, sqlite3_value **argv);
void wm_function_set_if(sqlite3_context *context, int argc, sqlite3_value **argv);
void wm_function_remove_if(sqlite3_context *context, int argc, sqlite3_value **argv);
void wm_function_upsert(sqlite3_context *context, int argc, sqlite3_value **argv);

/* space.c */
void wm_function_compact(sqlite3_context *context, int argc, sqlite3_value **argv);
void wm_function_reclaim(sqlite3_context *context, int argc, sqlite3_value **argv);
void wm_function_clear(sqlite3_context *context, int argc, sqlite3_value **argv);
void wm_function_checkpoint(sqlite3_context *context, int argc, sqlite3_value **argv);

/* image.c */
void wm_function_snapshot(sqlite3_context *context, int argc, sqlite3_value **argv);
void wm_function_restore(sqlite3_context *context, int argc, sqlite3_value **argv);

/* file.c */
void wm_function_snapshot_file(sqlite3_context *context, int argc, sqlite3_value **argv);
void wm_function_restore_file(sqlite3_context *context, int argc, sqlite3_value **argv);

/* changes.c */
void wm_function_position(sqlite3_context *context, int argc, sqlite3_value **argv);
void wm_function_wait(sqlite3_context *context, int argc, sqlite3_value **argv);
void wm_function_changes(sqlite3_context *context, int argc, sqlite3_value **argv);
void wm_function_apply(sqlite3_context *context, int argc, sqlite3_value **argv);

/* aggregate.c: walmap_image */
void wm_aggregate_step(sqlite3_context *context, int argc, sqlite3_value **argv);
void wm_aggregate_final(sqlite3_context *context);

/* unchunk.c: walmap_unchunk, and its result as a source for wm_functions_restore */
typedef struct wm_chunks wm_chunks;
void wm_unchunk_step(sqlite3_context *context, int argc, sqlite3_value **argv);
void wm_unchunk_final(sqlite3_context *context);
wm_chunks *wm_unchunk_start(sqlite3_value *value); /* NULL when the value is none of walmap_unchunk's */
ptrdiff_t wm_unchunk_read(void *chunks, void *buffer, size_t size); /* a walmap_read_fn */

/* chunks.c, each.c, stats.c: an SQLite code each */
int wm_chunks_register(wm_conn *conn);
int wm_each_register(wm_conn *conn);
int wm_stats_register(wm_conn *conn);

#endif
