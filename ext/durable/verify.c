/*
** verify.c - PRAGMA integrity_check: the shadow table and the map against each other (durable.h)
**
** The whole log is replayed, with all checks of a replay, into a map of its own; then both must have the same entries.
*/
#include "durable/durable.h"

#include "codec/codec.h"
#include "conn/error.h"
#include "conn/transaction.h"
#include "durable/log.h"
#include "durable/replica.h"

#include <string.h>

SQLITE_EXTENSION_INIT3

typedef struct differences {
  uint64_t n;
  walmap_entry first; /* where a state has it */
} differences;

/*
** Whether the state has not what the file has. The two states were begun one after the other, so an entry that expires
** may be there in one of them alone.
*/
static bool is_missing(walmap_state *state, const walmap_entry *entry) {
  walmap_entry found;
  if (walmap_state_peek(state, entry->key, entry->key_len, &found) != WALMAP_OK)
    return entry->expires == 0;
  return found.value_len != entry->value_len || found.expires != entry->expires ||
         memcmp(found.value, entry->value, found.value_len) != 0;
}

/* Whether the file has no entry of this key. That one with another value is_missing has told. */
static bool is_beyond(walmap_state *file, const walmap_entry *entry) {
  walmap_entry found;
  return entry->expires == 0 && walmap_state_peek(file, entry->key, entry->key_len, &found) != WALMAP_OK;
}

/* Entries of `from` which, in the other state, differ. OK or INTERRUPT. */
static int find_differences(walmap_state *from, walmap_state *other,
                            bool (*differs)(walmap_state *, const walmap_entry *), differences *found) {
  walmap_cursor cursor;
  walmap_entry entry;
  walmap_cursor_start(&cursor, from);
  while (walmap_cursor_next(&cursor, &entry)) {
    if (differs(other, &entry) && found->n++ == 0)
      found->first = entry;
  }
  return walmap_cursor_is_interrupted(&cursor) ? WALMAP_INTERRUPT : WALMAP_OK;
}

/* The beginning of an SQL literal, from sqlite3_malloc; NULL when memory is out. */
static char *quote_key(sqlite3 *db, const walmap_entry *entry) {
  static const uint8_t null[] = {WM_VALUE_NULL};
  const walmap_entry key = {entry->key, entry->key_len, null, sizeof null};
  sqlite3_stmt *statement = NULL;
  char *text = NULL;
  if (wm_codec_check_key(key.key, key.key_len) != NULL)
    return sqlite3_mprintf("one that is damaged");
  int rc = sqlite3_prepare_v2(db, "SELECT substr(quote(?1), 1, 60), ?2", -1, &statement, NULL);
  if (rc == SQLITE_OK && wm_codec_bind(statement, 1, &key) == SQLITE_OK && sqlite3_step(statement) == SQLITE_ROW)
    text = sqlite3_mprintf("%s", sqlite3_column_text(statement, 0));
  sqlite3_finalize(statement);
  return text;
}

static int tell_differences(wm_table *table, const differences *found, char **fault) {
  if (found->n == 0)
    return WALMAP_OK;
  char *key = quote_key(table->conn->db, &found->first);
  if (key != NULL)
    *fault =
        sqlite3_mprintf("entries that differ between the map and the shadow table %s_log: %lld; one has the key %s",
                        table->name, (sqlite3_int64)found->n, key);
  sqlite3_free(key);
  return *fault != NULL ? WALMAP_OK : WALMAP_NOMEM;
}

static int compare(wm_table *table, walmap_state *map, const wm_replica *replica, char **fault) {
  differences found = {0};
  walmap_state *file;
  int result = walmap_state_new(replica->map, &file);
  if (result != WALMAP_OK)
    return result;
  result = walmap_state_begin(file);
  if (result == WALMAP_OK)
    result = find_differences(file, map, is_missing, &found);
  if (result == WALMAP_OK)
    result = find_differences(map, file, is_beyond, &found);
  if (result == WALMAP_OK)
    result = tell_differences(table, &found, fault);
  walmap_state_free(file);
  return result;
}

/* A damaged log is what is looked for, not a failure. */
static int tell_fault(wm_table *table, int result, char **fault) {
  if (result != -SQLITE_CORRUPT_VTAB)
    return result;
  *fault = wm_error_text(result, table->name, table->attachment);
  return *fault != NULL ? WALMAP_OK : WALMAP_NOMEM;
}

int wm_durable_verify(wm_table *table, char **fault) {
  wm_replica *replica = NULL;
  wm_read_state *state;
  *fault = NULL;
  if (!wm_durable_is(table) || wm_attachment_is_begun(table->attachment))
    return WALMAP_OK; /* what a transaction has changed is not in the file yet */
  int result = wm_replica_make(table, &replica);
  if (result == WALMAP_OK && (result = wm_durable_acquire(table->attachment, &state)) == WALMAP_OK) {
    result = compare(table, state->state, replica, fault);
    wm_read_state_release(state);
  }
  wm_replica_release(replica);
  return tell_fault(table, result, fault);
}
