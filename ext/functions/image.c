/*
** image.c - the SQL functions that make and take images of a whole map
*/
#include "conn/error.h"
#include "conn/transaction.h"
#include "functions/functions.h"
#include "functions/read.h"
#include "table/call.h"

#include <string.h>

SQLITE_EXTENSION_INIT3

bool wm_functions_fits(sqlite3_context *context, const char *function, uint64_t size, const char *hint) {
  int limit = sqlite3_limit(sqlite3_context_db_handle(context), SQLITE_LIMIT_LENGTH, -1);
  if (size <= (uint64_t)limit)
    return true;
  wm_functions_fail(context, SQLITE_TOOBIG,
                    sqlite3_mprintf("%s: the image has %llu bytes, and this connection allows %d in a BLOB "
                                    "(SQLITE_LIMIT_LENGTH)%s",
                                    function, (unsigned long long)size, limit, hint));
  return false;
}

void wm_functions_result_image(sqlite3_context *context, const char *function, void *image, size_t size,
                               const char *hint) {
  if (wm_functions_fits(context, function, size, hint))
    sqlite3_result_blob64(context, image, size, walmap_image_free);
  else
    walmap_image_free(image);
}

const void *wm_functions_image(const char *function, sqlite3_value *value, size_t *size, char **err) {
  static const char *const names[] = {"an integer", "a real", "a text", "", "NULL"}; /* by SQLITE_INTEGER to _NULL */
  int type = sqlite3_value_type(value);
  *err = NULL;
  if (type != SQLITE_BLOB) {
    *err = sqlite3_mprintf("%s: the image is %s, not a BLOB", function, names[type - SQLITE_INTEGER]);
    return NULL;
  }
  const void *bytes = sqlite3_value_blob(value);
  *size = (size_t)sqlite3_value_bytes(value);
  if (bytes == NULL && *size == 0)
    return ""; /* an empty BLOB is an image too, a bad one */
  return bytes;
}

/* walmap_snapshot([t]): one committed state with the connection's own changes (T6). */
void wm_function_snapshot(sqlite3_context *context, int argc, sqlite3_value **argv) {
  wm_table *table = wm_functions_table(context, argc, &argv, 0);
  if (table == NULL)
    return;
  wm_read_state *state;
  void *image;
  size_t size;
  int result = wm_read_state_of(context, table->attachment, &state);
  if (result == WALMAP_OK) {
    result = walmap_state_image(state->state, &image, &size);
    wm_read_state_release(state);
  }
  if (result == WALMAP_OK)
    wm_functions_result_image(context, "walmap_snapshot", image, size,
                              "; walmap_snapshot_file and walmap_chunks can take it");
  else
    wm_functions_result(context, result, table);
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* walmap_restore([t,] image)                                                                                         */

/*
** A durable table notes each entry for its file while the image is read: so nothing can fail any more when the map has
** the entries, and the rows in the file are in the image's order. The image is read as a stream then, for a stream is
** read by one thread.
*/
static ptrdiff_t read_image_in_memory(void *ctx, void *buffer, size_t size) {
  wm_restoration *r = ctx;
  size_t n = r->size < size ? r->size : size;
  memcpy(buffer, r->image, n);
  r->image = (const char *)r->image + n;
  r->size -= n;
  return (ptrdiff_t)n;
}

/* What the restore leaves out as expired is not noted. A WALMAP code. */
static int note_entry(wm_attachment *attachment, const walmap_entry *entry) {
  if (entry->expires != 0 && entry->expires <= walmap_txn_clock(attachment->txn))
    return WALMAP_OK;
  int result = wm_attachment_reserve_change(attachment, WM_CHANGE_PUT, entry->key_len, entry->value_len);
  if (result == WALMAP_OK)
    wm_journal_add(&attachment->journal, WM_CHANGE_PUT, entry);
  return result;
}

static const char *check_image_entry(void *ctx, const walmap_entry *entry) {
  wm_restoration *r = ctx;
  const char *wrong = wm_codec_check(NULL, entry);
  if (wrong != NULL)
    return wrong;
  wm_registry_note_key(r->attachment->map, entry->key, entry->key_len);
  if (r->attachment->map->history != NULL)
    r->noted = note_entry(r->attachment, entry);
  return r->noted == WALMAP_OK ? NULL : walmap_result_text(r->noted);
}

/* The map's and, of a durable table, the journal's part; both are as they were after an error. A WALMAP code. */
static int restore_entries(wm_restoration *r, walmap_why *why) {
  wm_attachment *attachment = r->attachment;
  walmap_txn *txn = attachment->txn;
  wm_journal *journal = &attachment->journal;
  const size_t size = journal->size;
  if (attachment->map->history != NULL) {
    int result = wm_attachment_reserve_change(attachment, WM_CHANGE_CLEAR, 0, 0);
    if (result != WALMAP_OK)
      return result;
    wm_journal_add(journal, WM_CHANGE_CLEAR, &(walmap_entry){NULL, 0, NULL, 0});
    if (r->read == NULL) {
      r->read = read_image_in_memory;
      r->read_ctx = r;
    }
  }
  int result = r->read != NULL
                   ? walmap_txn_restore_read(txn, r->read, r->read_ctx, check_image_entry, r, &r->entries, why)
                   : walmap_txn_restore(txn, r->image, r->size, check_image_entry, r, &r->entries, why);
  if (result != WALMAP_OK)
    journal->size = size;
  return r->noted == WALMAP_OK ? result : r->noted;
}

static int do_restore(void *ctx, wm_table *table, char **err) {
  wm_restoration *r = ctx;
  walmap_why why;
  r->attachment = table->attachment;
  int result = restore_entries(r, &why);
  if (result == WALMAP_CORRUPT || result == WALMAP_IO) {
    *err = r->path != NULL ? sqlite3_mprintf("%s: %s: %s", r->function, r->path, why.text)
                           : sqlite3_mprintf("%s: %s", r->function, why.text);
    return result == WALMAP_CORRUPT ? SQLITE_CORRUPT_VTAB : SQLITE_CANTOPEN;
  }
  if (result != WALMAP_OK)
    return wm_call_failed(table, result, err);
  wm_attachment_changed(table->attachment);
  return SQLITE_OK;
}

void wm_functions_restore(sqlite3_context *context, wm_table *table, wm_restoration *restoration) {
  char *err;
  int rc = wm_call_write(table, do_restore, restoration, &err);
  if (rc != SQLITE_OK)
    wm_functions_fail(context, rc, err);
  else
    sqlite3_result_int64(context, (int64_t)restoration->entries);
}

/* Part of the running transaction as every write, so ROLLBACK brings the old content back. */
void wm_function_restore(sqlite3_context *context, int argc, sqlite3_value **argv) {
  wm_restoration restoration = {.function = "walmap_restore"};
  wm_table *table = wm_functions_table(context, argc, &argv, 1);
  if (table == NULL)
    return;
  if ((restoration.read_ctx = wm_unchunk_start(argv[0])) != NULL) {
    restoration.read = wm_unchunk_read;
    wm_functions_restore(context, table, &restoration);
    return;
  }
  char *err;
  restoration.image = wm_functions_image(restoration.function, argv[0], &restoration.size, &err);
  if (restoration.image == NULL)
    wm_functions_fail(context, err != NULL ? SQLITE_MISMATCH : SQLITE_NOMEM, err);
  else
    wm_functions_restore(context, table, &restoration);
}
