/*
** error.c - the core's results as SQLite's, with a text: see error.h
*/
#include "conn/error.h"

SQLITE_EXTENSION_INIT3

int wm_error_code(int result) {
  if (result < 0)
    return -result;
  switch (result) {
  case WALMAP_OK:
  case WALMAP_NOTFOUND:
    return SQLITE_OK;
  case WALMAP_NOMEM:
    return SQLITE_NOMEM;
  case WALMAP_BUSY:
  case WALMAP_DEADLOCK:
    return SQLITE_BUSY;
  case WALMAP_INTERRUPT:
    return SQLITE_INTERRUPT;
  case WALMAP_TOOBIG:
    return SQLITE_TOOBIG;
  case WALMAP_FULL:
    return SQLITE_FULL;
  case WALMAP_CORRUPT:
    return SQLITE_CORRUPT_VTAB; /* after a plain SQLITE_CORRUPT SQLite lets no COMMIT of the transaction pass */
  default:
    return SQLITE_ERROR;
  }
}

/* For how long, and for whom as far as that is known: a compaction or a single write has no name. */
static char *busy_text(const char *table, const wm_attachment *attachment) {
  uint32_t timeout = walmap_get_options(attachment->map->map)->busy_timeout;
  const char *blocker = walmap_session_blocker(attachment->conn->session);
  if (timeout == WALMAP_TIMEOUT_OF_SESSION)
    timeout = wm_conn_busy_timeout(attachment->conn);
  return sqlite3_mprintf(WM_MODULE ": %s: another transaction holds this part of the map (busy_timeout %u ms)%s%s",
                         table, timeout, *blocker != 0 ? ": that of " : "", blocker);
}

static char *deadlock_text(const char *table, const wm_attachment *attachment) {
  const char *blocker = walmap_session_blocker(attachment->conn->session);
  return sqlite3_mprintf(WM_MODULE ": %s: deadlock: this transaction and another wait for each other; roll back and "
                                   "try again%s%s",
                         table, *blocker != 0 ? ": the other is that of " : "", blocker);
}

/* A key or value of SQLite's is never too long for a map, but a row may be for the shadow table (wm_row_is_too_big). */
static char *toobig_text(const char *table, const wm_attachment *attachment) {
  if (attachment->map->history != NULL)
    return sqlite3_mprintf(WM_MODULE ": %s: the row is too long for a durable table, which takes some hundred bytes "
                                     "less than SQLITE_LIMIT_LENGTH",
                           table);
  return sqlite3_mprintf(WM_MODULE ": %s: this part of the map is full: its log has 16 GiB; remove entries and call "
                                   "walmap_reclaim, or make the map with more shards",
                         table);
}

/* A row that alone is beyond max_bytes is refused by tables that evict, too. */
static char *full_text(const char *table, const wm_attachment *attachment) {
  const walmap_options *options = walmap_get_options(attachment->map->map);
  if (options->max_bytes == 0)
    return sqlite3_mprintf(WM_MODULE ": %s: the table is full: max_entries=%llu", table, options->max_entries);
  if (options->error_when_full)
    return sqlite3_mprintf(WM_MODULE ": %s: the table is full: max_bytes=%llu, max_entries=%llu, shards=%u", table,
                           options->max_bytes, options->max_entries, options->shards);
  return sqlite3_mprintf(WM_MODULE
                         ": %s: the row is too long for max_bytes=%llu in %u shards, of which it would fill a "
                         "third; make the table with a greater max_bytes or fewer shards",
                         table, options->max_bytes, options->shards);
}

char *wm_error_text(int result, const char *table, const wm_attachment *attachment) {
  if (result < 0)
    return attachment->failure != NULL ? sqlite3_mprintf("%s", attachment->failure) : NULL;
  switch (result) {
  case WALMAP_BUSY:
    return busy_text(table, attachment);
  case WALMAP_DEADLOCK:
    return deadlock_text(table, attachment);
  case WALMAP_TOOBIG:
    return toobig_text(table, attachment);
  case WALMAP_FULL:
    return full_text(table, attachment);
  case WALMAP_NOMEM:
  case WALMAP_INTERRUPT:
    return NULL;
  default:
    return sqlite3_mprintf(WM_MODULE ": %s: %s", table, walmap_result_text(result));
  }
}

int wm_error_refuse(char **err, char *text) {
  *err = text;
  return text == NULL ? SQLITE_NOMEM : SQLITE_ERROR;
}

int wm_error_vtab(sqlite3_vtab *vtab, int rc, char *text) {
  sqlite3_free(vtab->zErrMsg);
  vtab->zErrMsg = text;
  return rc;
}

int wm_error_table_failed(sqlite3_vtab *vtab, int result, const wm_table *table) {
  return wm_error_vtab(vtab, wm_error_code(result), wm_error_text(result, table->name, table->attachment));
}

void wm_error_result(sqlite3_context *context, int result, const wm_table *table) {
  if (result == WALMAP_OK || result == WALMAP_NOTFOUND)
    return;
  char *text = wm_error_text(result, table->name, table->attachment);
  if (text != NULL)
    sqlite3_result_error(context, text, -1);
  sqlite3_free(text);
  sqlite3_result_error_code(context, wm_error_code(result)); /* keeps the text, or sets SQLite's own */
}
