/*
** verify.c - PRAGMA integrity_check: the shadow table and the map against each other (durable.h)
**
** The whole log is replayed, with all checks of a replay, into a map of its own; then both must have the same entries.
*/
#include "durable/durable.h"

#include "conn/error.h"
#include "conn/transaction.h"
#include "durable/log.h"
#include "durable/replica.h"

#include <string.h>

SQLITE_EXTENSION_INIT3

/* The two states were begun one after the other, so an entry that expires may be there in one of them alone. */
static bool is_missing(walmap_state *state, const walmap_entry *entry) {
  walmap_entry found;
  if (walmap_state_peek(state, entry->key, entry->key_len, &found) != WALMAP_OK)
    return entry->expires == 0;
  return found.value_len != entry->value_len || found.expires != entry->expires ||
         memcmp(found.value, entry->value, found.value_len) != 0;
}

/* Adds the entries of `a` that `b` has not, or has with another value: OK or INTERRUPT. */
static int count_missing(walmap_state *a, walmap_state *b, uint64_t *n) {
  walmap_cursor cursor;
  walmap_entry entry;
  walmap_cursor_start(&cursor, a);
  while (walmap_cursor_next(&cursor, &entry))
    *n += is_missing(b, &entry);
  return walmap_cursor_is_interrupted(&cursor) ? WALMAP_INTERRUPT : WALMAP_OK;
}

static int compare(wm_table *table, walmap_state *state, const wm_replica *replica, char **fault) {
  walmap_state *other;
  int result = walmap_state_new(replica->map, &other);
  if (result != WALMAP_OK)
    return result;
  uint64_t differences = 0;
  if ((result = walmap_state_begin(other)) == WALMAP_OK &&
      (result = count_missing(state, other, &differences)) == WALMAP_OK &&
      (result = count_missing(other, state, &differences)) == WALMAP_OK) {
    if (differences > 0 && (*fault = sqlite3_mprintf("%lld entries differ between the map and the shadow table %s_log",
                                                     (sqlite3_int64)differences, table->name)) == NULL)
      result = WALMAP_NOMEM;
  }
  walmap_state_free(other);
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
