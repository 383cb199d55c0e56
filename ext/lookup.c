/*
** lookup.c - what functions read of a map: values by key, its length, a state of it (see conn.h)
*/
#include "lookup.h"

SQLITE_EXTENSION_INIT3

/*
** What a statement's functions read: one per statement and map, kept by SQLite until the statement ends. SQLite keeps
** auxiliary data with a negative number per statement, not per function call. Documentation reserves that; SQLite's own
** JSON functions have done so since 2015.
*/
#define READERS (-1807416930)

typedef struct wm_reader {
  wm_conn *conn;
  wm_use *use; /* NULL: unused */
  wm_state *state;
  struct wm_reader *next;    /* of the same statement, or in the pool */
  struct wm_reader *sibling; /* of the same use */
} wm_reader;

static void release(wm_reader *r) {
  wm_state *state = r->state;
  if (r->use == NULL)
    return;
  wm_reader **at = &r->use->readers;
  while (*at != r)
    at = &(*at)->sibling;
  *at = r->sibling;
  r->use = NULL;
  r->state = NULL;
  wm_state_release(state);
}

void wm_lookup_release(wm_use *use) {
  while (use->readers != NULL)
    release(use->readers);
}

static void drop_readers(void *first) {
  for (wm_reader *r = first, *next; r != NULL; r = next) {
    next = r->next;
    release(r);
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
    r->use = NULL;
    r->state = NULL;
  }
  return r;
}

/* Starts reading. On failure the reader is left unused. */
static int begin(wm_reader *r, wm_use *use) {
  int result = wm_state_acquire(use, &r->state);
  if (result == WALMAP_OK) {
    r->use = use;
    r->sibling = use->readers;
    use->readers = r;
  }
  return result;
}

static int reader_of(sqlite3_context *context, wm_use *use, wm_reader **out) {
  wm_reader *first = sqlite3_get_auxdata(context, READERS), *unused = NULL;
  for (wm_reader *r = first; r != NULL; r = r->next) {
    if (r->use == use) {
      *out = r;
      return WALMAP_OK;
    }
    if (r->use == NULL)
      unused = r;
  }
  if (unused != NULL) {
    *out = unused;
    return begin(unused, use);
  }
  wm_reader *r = new_reader(use->conn);
  if (r == NULL)
    return WALMAP_NOMEM;
  r->next = NULL;
  int result = begin(r, use);
  if (result != WALMAP_OK) {
    drop_readers(r);
    return result;
  }
  if (first != NULL) {
    r->next = first->next;
    first->next = r;
  } else {
    sqlite3_set_auxdata(context, READERS, r, drop_readers);
    if (r->use == NULL)
      return WALMAP_NOMEM; /* SQLite dropped it at once: it is in the pool */
  }
  *out = r;
  return WALMAP_OK;
}

int wm_use_get(sqlite3_context *context, wm_use *use, const void *key, size_t key_len, walmap_entry *entry,
               wm_state **pin) {
  wm_reader *r;
  int result = reader_of(context, use, &r);
  if (result != WALMAP_OK)
    return result;
  result = wm_use_is_begun(use) ? walmap_txn_get(use->txn, key, key_len, entry)
                                : walmap_state_get(r->state->state, key, key_len, entry);
  if (result == WALMAP_OK)
    *pin = r->state;
  return result;
}

int wm_use_len(sqlite3_context *context, wm_use *use, uint64_t *len) {
  wm_reader *r;
  wm_state *own;
  if (!wm_use_is_begun(use)) {
    int result = reader_of(context, use, &r);
    if (result == WALMAP_OK)
      *len = walmap_state_len(r->state->state);
    return result;
  }
  int result = wm_state_acquire_own(use, &own);
  if (result == WALMAP_OK) {
    *len = walmap_state_len(own->state);
    wm_state_release(own);
  }
  return result;
}

int wm_use_committed_state(sqlite3_context *context, wm_use *use, wm_state **out) {
  wm_reader *r;
  int result = context != NULL ? reader_of(context, use, &r) : WALMAP_OK;
  return result == WALMAP_OK ? wm_state_acquire(use, out) : result; /* which is now the reader's */
}

int wm_use_state(sqlite3_context *context, wm_use *use, wm_state **out) {
  return wm_use_is_begun(use) ? wm_state_acquire_own(use, out) : wm_use_committed_state(context, use, out);
}

/* ------------------------------------------------------------------------------------------------------------------ */

void wm_lookup_free(wm_conn *conn) {
  while (conn->readers != NULL) {
    wm_reader *r = conn->readers;
    conn->readers = r->next;
    sqlite3_free(r);
  }
}
