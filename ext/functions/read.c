/* read.c - what functions read of a map: values by key, its length, a state of it (see read.h) */
#include "functions/read.h"
#include "conn/transaction.h"
#include "durable/durable.h"

SQLITE_EXTENSION_INIT3

/*
** A reader holds what a statement's functions read: one per statement and map, kept by SQLite until the statement ends,
** as auxiliary data with a negative number: SQLite keeps such data per statement, not per function call. The
** documentation reserves negative numbers; SQLite's own JSON functions have used them so since 2015.
*/
#define READERS (-1807416930)

typedef struct wm_reader {
  wm_conn *conn;
  wm_attachment *attachment; /* NULL: unused */
  wm_read_state *state;
  wm_log_hold hold;          /* on the file, which other reads of the statement share */
  struct wm_reader *next;    /* of the same statement, or in the pool */
  struct wm_reader *sibling; /* of the same attachment */
} wm_reader;

static void release_reader(wm_reader *r) {
  wm_read_state *state = r->state;
  if (r->attachment == NULL)
    return;
  wm_reader **at = &r->attachment->readers;
  while (*at != r)
    at = &(*at)->sibling;
  *at = r->sibling;
  r->attachment = NULL;
  r->state = NULL;
  wm_read_state_release(state);
  wm_log_end_hold(&r->hold);
}

void wm_read_release(wm_attachment *attachment) {
  while (attachment->readers != NULL)
    release_reader(attachment->readers);
}

static void drop_readers(void *first) {
  for (wm_reader *r = first, *next; r != NULL; r = next) {
    next = r->next;
    release_reader(r);
    r->next = r->conn->readers;
    r->conn->readers = r;
  }
}

static wm_reader *new_reader(wm_conn *conn) {
  wm_reader *r = conn->readers;
  if (r != NULL) {
    conn->readers = r->next;
  } else if ((r = sqlite3_malloc(sizeof *r)) != NULL) {
    r->conn = conn;
    r->attachment = NULL;
    r->state = NULL;
    r->hold.table = NULL;
  }
  return r;
}

/* Starts reading. On failure the reader is left unused. */
static int begin_reading(wm_reader *r, wm_attachment *attachment) {
  int result = wm_durable_begin_hold(attachment, &r->hold);
  if (result == WALMAP_OK)
    result = wm_read_state_acquire(attachment, &r->state);
  if (result != WALMAP_OK) {
    wm_log_end_hold(&r->hold);
    return result;
  }
  r->attachment = attachment;
  r->sibling = attachment->readers;
  attachment->readers = r;
  return WALMAP_OK;
}

static int find_reader(sqlite3_context *context, wm_attachment *attachment, wm_reader **out) {
  wm_reader *first = sqlite3_get_auxdata(context, READERS), *unused = NULL;
  for (wm_reader *r = first; r != NULL; r = r->next) {
    if (r->attachment == attachment) {
      *out = r;
      return WALMAP_OK;
    }
    if (r->attachment == NULL)
      unused = r;
  }
  if (unused != NULL) {
    *out = unused;
    return begin_reading(unused, attachment);
  }
  wm_reader *r = new_reader(attachment->conn);
  if (r == NULL)
    return WALMAP_NOMEM;
  r->next = NULL;
  int result = begin_reading(r, attachment);
  if (result != WALMAP_OK) {
    drop_readers(r);
    return result;
  }
  if (first != NULL) {
    r->next = first->next;
    first->next = r;
  } else {
    sqlite3_set_auxdata(context, READERS, r, drop_readers);
    if (r->attachment == NULL)
      return WALMAP_NOMEM; /* SQLite dropped the data at once: the reader is in the pool */
  }
  *out = r;
  return WALMAP_OK;
}

int wm_read_get(sqlite3_context *context, wm_attachment *attachment, const void *key, size_t key_len,
                walmap_entry *entry, wm_read_state **pin) {
  wm_reader *r;
  int result = find_reader(context, attachment, &r);
  if (result != WALMAP_OK)
    return result;
  result = wm_attachment_is_begun(attachment) ? walmap_txn_get(attachment->txn, key, key_len, entry)
                                              : walmap_state_get(r->state->state, key, key_len, entry);
  if (result == WALMAP_OK)
    *pin = r->state;
  return result;
}

int wm_read_len(sqlite3_context *context, wm_attachment *attachment, uint64_t *len) {
  wm_reader *r;
  wm_read_state *own;
  if (!wm_attachment_is_begun(attachment)) {
    int result = find_reader(context, attachment, &r);
    if (result == WALMAP_OK)
      *len = walmap_state_len(r->state->state);
    return result;
  }
  int result = wm_read_state_acquire_own(attachment, &own);
  if (result == WALMAP_OK) {
    *len = walmap_state_len(own->state);
    wm_read_state_release(own);
  }
  return result;
}

int wm_read_committed_state(sqlite3_context *context, wm_attachment *attachment, wm_read_state **out) {
  wm_reader *r;
  int result = context != NULL ? find_reader(context, attachment, &r) : WALMAP_OK;
  return result == WALMAP_OK ? wm_read_state_acquire(attachment, out) : result; /* the state that the reader holds */
}

int wm_read_state_of(sqlite3_context *context, wm_attachment *attachment, wm_read_state **out) {
  return wm_attachment_is_begun(attachment) ? wm_read_state_acquire_own(attachment, out)
                                            : wm_read_committed_state(context, attachment, out);
}

/* ------------------------------------------------------------------------------------------------------------------ */

void wm_read_free(wm_conn *conn) {
  while (conn->readers != NULL) {
    wm_reader *r = conn->readers;
    conn->readers = r->next;
    sqlite3_free(r);
  }
}
