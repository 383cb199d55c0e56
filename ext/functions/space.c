/*
** space.c - the SQL functions that give space back: walmap_compact, walmap_reclaim, walmap_clear, walmap_checkpoint
**
** Compaction changes no entry and is not undone by ROLLBACK, so SQLite need not begin a transaction for it. The others
** are writes (call.h).
*/
#include "conn/error.h"
#include "conn/transaction.h"
#include "durable/durable.h"
#include "functions/functions.h"
#include "functions/read.h"
#include "table/call.h"

SQLITE_EXTENSION_INIT3

/* Compacts the table's map. A WALMAP code. */
static int compact_table(wm_table *table) {
  wm_attachment *attachment = table->attachment;
  int result = wm_durable_refresh(table);
  if (result != WALMAP_OK)
    return result;
  wm_durable_let_go(table);
  bool began = wm_attachment_begin_aside(attachment);
  result = walmap_compact(attachment->map->map, attachment->txn);
  wm_attachment_end_aside(attachment, began);
  return result;
}

/*
** The image of what the connection sees. It holds the same before compaction and after it, and is made before: if it is
** too long for a BLOB, nothing has been done yet. The state that it is made from must have ended when compaction
** begins, or would keep it from freeing anything; so it is not the one that the statement's functions share.
*/
static int make_image(const wm_table *table, void **image, size_t *size) {
  wm_read_state *state;
  int result = wm_read_state_of(NULL, table->attachment, &state);
  if (result == WALMAP_OK) {
    result = walmap_state_image(state->state, image, size);
    wm_read_state_release(state);
  }
  return result;
}

/* walmap_compact([t]) */
void wm_function_compact(sqlite3_context *context, int argc, sqlite3_value **argv) {
  static const char function[] = "walmap_compact",
                    hint[] = "; nothing was compacted: walmap_reclaim compacts without an image";
  wm_table *table = wm_functions_table(context, argc, &argv, 0);
  void *image;
  size_t size;
  if (table == NULL)
    return;
  int result = make_image(table, &image, &size);
  if (result == WALMAP_OK && !wm_functions_fits(context, function, size, hint)) {
    walmap_image_free(image);
    return;
  }
  if (result == WALMAP_OK && (result = compact_table(table)) != WALMAP_OK)
    walmap_image_free(image);
  if (result == WALMAP_OK)
    wm_functions_result_image(context, function, image, size, hint);
  else
    wm_functions_result(context, result, table);
}

/*
** walmap_reclaim([t]): the bytes by which the map's memory shrank. Other connections may write meanwhile, and then it
** is how much smaller the map has become in spite of that.
*/
void wm_function_reclaim(sqlite3_context *context, int argc, sqlite3_value **argv) {
  wm_table *table = wm_functions_table(context, argc, &argv, 0);
  if (table == NULL)
    return;
  walmap *map = table->attachment->map->map;
  uint64_t before = walmap_memory(map);
  int result = compact_table(table);
  uint64_t after = walmap_memory(map);
  if (result == WALMAP_OK)
    sqlite3_result_int64(context, before > after ? (int64_t)(before - after) : 0);
  else
    wm_functions_result(context, result, table);
}

static int do_clear(void *ctx, wm_table *table, char **err) {
  uint64_t *removed = ctx;
  wm_attachment *attachment = table->attachment;
  int result = WALMAP_OK;
  if (wm_durable_is(table))
    result = wm_attachment_reserve_change(attachment, WM_CHANGE_CLEAR, 0, 0);
  if (result == WALMAP_OK)
    result = walmap_txn_clear(attachment->txn, removed);
  if (result != WALMAP_OK)
    return wm_call_failed(table, result, err);
  if (*removed == 0)
    return WM_CALL_UNCHANGED;
  wm_attachment_changed(attachment);
  if (wm_durable_is(table))
    wm_journal_add(&attachment->journal, WM_CHANGE_CLEAR, &(walmap_entry){NULL, 0, NULL, 0});
  return SQLITE_OK;
}

/* walmap_clear([t]): how many entries there were. */
void wm_function_clear(sqlite3_context *context, int argc, sqlite3_value **argv) {
  wm_table *table = wm_functions_table(context, argc, &argv, 0);
  uint64_t removed = 0;
  char *err;
  if (table == NULL)
    return;
  int rc = wm_call_write(table, do_clear, &removed, &err);
  if (rc != SQLITE_OK)
    wm_functions_fail(context, rc, err);
  else
    sqlite3_result_int64(context, (int64_t)removed);
}

static int refuse_volatile(const wm_table *table, char **err) {
  *err = sqlite3_mprintf("walmap_checkpoint: %s is not durable: it has nothing in a file", table->name);
  return *err == NULL ? SQLITE_NOMEM : SQLITE_ERROR;
}

static int do_checkpoint(void *ctx, wm_table *table, char **err) {
  if (!wm_durable_is(table)) /* another process has made it anew */
    return refuse_volatile(table, err);
  int result = wm_durable_checkpoint(table, ctx);
  return result == WALMAP_OK ? SQLITE_OK : wm_call_failed(table, result, err);
}

/* walmap_checkpoint([t]): the log in the file, as far as it goes; changes no entry, so changes() counts none. */
void wm_function_checkpoint(sqlite3_context *context, int argc, sqlite3_value **argv) {
  wm_table *table = wm_functions_table(context, argc, &argv, 0);
  uint64_t bytes = 0;
  char *err;
  if (table == NULL)
    return;
  int rc = wm_durable_is(table) ? wm_call_write(table, do_checkpoint, &bytes, &err) : refuse_volatile(table, &err);
  if (rc != SQLITE_OK)
    wm_functions_fail(context, rc, err);
  else
    sqlite3_result_int64(context, (int64_t)bytes);
}
