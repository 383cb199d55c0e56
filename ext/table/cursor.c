/*
** cursor.c - cursors of walmap tables: see cursor.h
**
** A cursor walks a state (WM_PLAN_SCAN), or has all its entries from xFilter on: the entries of a walk that are to be
** sorted, or the few entries of a lookup (lookup.h).
**
** In a transaction that has begun on the map, lookups go through the transaction, which locks the keys' shards until it
** ends (T4), and scans read a state of what the transaction sees. Otherwise both read the committed state that the
** connection's open statements share (T2). The cursor holds that state from xOpen, because SQLite may open a subquery's
** cursor anew before it closes the old one. The cursor keeps its state when the connection begins to write meanwhile.
** It takes a newer state at the next xFilter, when the transaction in which it read has ended.
**
** Cursors are pooled, and entries point into the map's log: to read a row allocates no memory.
**
** The functions below xOpen and xFilter return WALMAP codes (error.h); these two turn them into SQLite's.
*/
#include "table/cursor.h"

#include "base/interrupt.h"
#include "codec/expiry.h"
#include "conn/error.h"
#include "conn/transaction.h"
#include "table/lookup.h"
#include "table/plan.h"
#include "table/range.h"
#include "table/sorted.h"
#include "table/vtab.h"
#include "table/walk.h"

#include <string.h>

SQLITE_EXTENSION_INIT3

#define POOLED_CURSORS 16 /* more than a join of many tables has open at once */

typedef struct wm_cursor {
  sqlite3_vtab_cursor base;
  wm_attachment *attachment;
  wm_read_state *state; /* the shared state, kept from xOpen */
  wm_read_state *own;   /* WM_PLAN_SCAN in a transaction; otherwise NULL */
  bool in_transaction;  /* a transaction had begun on the map when `state` was acquired */
  unsigned generation;
  bool is_scan, is_sorted, is_walk, at_end;
  bool is_interrupted;         /* among entries that SQLite sees none of, so that it cannot interrupt by itself */
  walmap__interrupt interrupt; /* asked there */
  walmap_entry entry;          /* the present entry */

  walmap_cursor scan; /* is_scan, or is_sorted at first */
  wm_range range;
  wm_sorted sorted; /* is_sorted */
  wm_walk walk;     /* is_walk */

  wm_lookup lookup;       /* none of them */
  size_t at;              /* in what it found */
  struct wm_cursor *next; /* in the pool */
} wm_cursor;

/* ------------------------------------------------------------------------------------------------------------------ */
/* xOpen, xClose                                                                                                      */

static int acquire_state(wm_cursor *c) {
  int result = wm_read_state_acquire(c->attachment, &c->state);
  if (result == WALMAP_OK) {
    c->in_transaction = wm_attachment_is_begun(c->attachment);
    c->generation = c->attachment->generation;
  }
  return result;
}

static void release_states(wm_cursor *c) {
  wm_read_state_release(c->own);
  wm_read_state_release(c->state);
  c->own = c->state = NULL;
}

/* A cursor from the pool, or a new one. */
static wm_cursor *from_pool(wm_conn *conn) {
  wm_cursor *c = conn->cursors;
  if (c != NULL) {
    conn->cursors = c->next;
    conn->pooled_cursors--;
    return c;
  }
  c = sqlite3_malloc(sizeof *c);
  if (c == NULL)
    return NULL;
  memset(c, 0, sizeof *c);
  return c;
}

static void to_pool(wm_conn *conn, wm_cursor *c) {
  wm_lookup_clear(&c->lookup);
  if (conn->pooled_cursors == POOLED_CURSORS) {
    sqlite3_free(c);
    return;
  }
  c->next = conn->cursors;
  conn->cursors = c;
  conn->pooled_cursors++;
}

void wm_cursor_free_pool(wm_conn *conn) {
  while (conn->cursors != NULL) {
    wm_cursor *c = conn->cursors;
    conn->cursors = c->next;
    sqlite3_free(c);
  }
}

int wm_cursor_open(sqlite3_vtab *vtab, sqlite3_vtab_cursor **out) {
  wm_table *table = ((wm_vtab *)vtab)->table;
  wm_cursor *c = from_pool(table->conn);
  if (c == NULL)
    return SQLITE_NOMEM;
  c->attachment = table->attachment;
  wm_lookup_init(&c->lookup, c->attachment);
  c->at_end = true;
  int result = acquire_state(c);
  if (result != WALMAP_OK) {
    to_pool(table->conn, c);
    return wm_error_table(vtab, result, table);
  }
  *out = &c->base;
  return SQLITE_OK;
}

int wm_cursor_close(sqlite3_vtab_cursor *base) {
  wm_cursor *c = (wm_cursor *)base;
  wm_conn *conn = ((wm_vtab *)base->pVtab)->table->conn;
  wm_range_clear(&c->range);
  wm_walk_clear(&c->walk);
  if (c->sorted.rows != NULL)
    wm_sorted_clear(&c->sorted, false);
  release_states(c);
  to_pool(conn, c);
  return SQLITE_OK;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* xFilter to xColumn                                                                                                 */

static bool in_own_transaction(const wm_cursor *c) {
  return c->in_transaction && c->generation == c->attachment->generation;
}

/* After an entry that SQLite does not see now. */
static bool cursor_is_interrupted(wm_cursor *c, const walmap_entry *entry) {
  enum { RECORD = 16 };
  c->is_interrupted = walmap__interrupt_after(&c->interrupt, RECORD + entry->key_len + entry->value_len);
  return c->is_interrupted;
}

/* Moves to the next entry within the range. False at the end, or when it is interrupted. */
static bool next_in_range(wm_cursor *c, walmap_entry *entry) {
  while (walmap_cursor_next(&c->scan, entry)) {
    if (!wm_range_is_used(&c->range) || wm_range_has(&c->range, entry))
      return true;
    if (cursor_is_interrupted(c, entry))
      return false;
  }
  c->is_interrupted = walmap_cursor_is_interrupted(&c->scan);
  return false;
}

/* The same of a walk, which keeps to the bounds itself but where text is ordered otherwise. */
static bool step_walk(wm_cursor *c, walmap_entry *entry) {
  bool is_row;
  while (wm_walk_next(&c->walk, entry, &is_row)) {
    if (is_row && (!(c->range.lower.is_utf16 || c->range.upper.is_utf16) || wm_range_has(&c->range, entry)))
      return true;
    if (cursor_is_interrupted(c, entry))
      return false;
  }
  c->is_interrupted = walmap_ordered_is_interrupted(&c->walk.cursor);
  return false;
}

static int sort_entries(wm_cursor *c, bool descending) {
  walmap_entry entry;
  int result = WALMAP_OK;
  wm_sorted_clear(&c->sorted, descending);
  while (result == WALMAP_OK && next_in_range(c, &entry)) {
    result = wm_sorted_add(&c->sorted, &entry);
    if (result == WALMAP_OK && cursor_is_interrupted(c, &entry))
      break;
  }
  return result;
}

static int start_scan(wm_cursor *c, int plan, sqlite3_value **argv) {
  bool is_empty;
  wm_read_state *state = c->state;
  if (wm_range_set(&c->range, plan, argv, &is_empty) != SQLITE_OK)
    return WALMAP_NOMEM;
  if (is_empty)
    return WALMAP_OK;
  if (in_own_transaction(c)) {
    wm_read_state *before = c->own; /* the same state, if no write came between */
    int result = wm_read_state_acquire_own(c->attachment, &state);
    if (result != WALMAP_OK)
      return result;
    c->own = state;
    wm_read_state_release(before);
  }
  bool descending = (plan & WM_PLAN_DESCENDING) != 0;
  const wm_map *map = c->attachment->map;
  c->is_walk = (plan & WM_PLAN_ORDERED) && walmap_get_options(map->map)->ordered;
  if (c->is_walk) {
    bool look_alikes = atomic_load_explicit(&map->numeric, memory_order_relaxed);
    return wm_walk_start(&c->walk, state->state, &c->range, descending, look_alikes);
  }
  walmap_cursor_start(&c->scan, state->state);
  c->is_sorted = (plan & WM_PLAN_SORTED) != 0;
  c->is_scan = !c->is_sorted;
  return c->is_sorted ? sort_entries(c, descending) : WALMAP_OK;
}

int wm_cursor_filter(sqlite3_vtab_cursor *base, int plan, const char *unused, int argc, sqlite3_value **argv) {
  (void)unused, (void)argc;
  wm_cursor *c = (wm_cursor *)base;
  const wm_table *table = ((wm_vtab *)base->pVtab)->table;
  int result = WALMAP_OK;
  c->is_scan = c->is_sorted = c->is_walk = c->is_interrupted = false;
  c->interrupt = (walmap__interrupt){wm_conn_is_interrupted, table->conn, 0};
  c->at = 0;
  wm_walk_clear(&c->walk);
  if (c->in_transaction && c->generation != c->attachment->generation) { /* the transaction has ended */
    release_states(c);
    result = acquire_state(c);
  }
  if (result == WALMAP_OK) {
    wm_lookup_start(&c->lookup, c->state->state, in_own_transaction(c));
    switch (WM_PLAN_WAY(plan)) {
    case WM_PLAN_KEY:
      result = wm_lookup_key(&c->lookup, argv[0]);
      wm_lookup_sort(&c->lookup);
      break;
    case WM_PLAN_LIST:
      result = wm_lookup_list(&c->lookup, argv[0], &c->interrupt);
      wm_lookup_sort(&c->lookup);
      break;
    default:
      result = start_scan(c, plan, argv);
      break;
    }
  }
  if (result != WALMAP_OK) {
    c->at_end = true;
    return wm_error_table(base->pVtab, result, table);
  }
  return wm_cursor_next(base);
}

int wm_cursor_next(sqlite3_vtab_cursor *base) {
  wm_cursor *c = (wm_cursor *)base;
  if (c->is_scan) {
    c->at_end = !next_in_range(c, &c->entry);
  } else if (c->is_walk) {
    c->at_end = !step_walk(c, &c->entry);
  } else if (c->is_sorted) {
    c->at_end = !wm_sorted_next(&c->sorted, &c->entry);
  } else {
    c->at_end = c->at == c->lookup.n;
    if (!c->at_end)
      c->entry = c->lookup.found[c->at++];
  }
  return c->is_interrupted ? SQLITE_INTERRUPT : SQLITE_OK;
}

int wm_cursor_eof(sqlite3_vtab_cursor *base) { return ((wm_cursor *)base)->at_end; }

int wm_cursor_column(sqlite3_vtab_cursor *base, sqlite3_context *context, int column) {
  wm_cursor *c = (wm_cursor *)base;
  wm_read_state *state = c->own != NULL ? c->own : c->state;
  if (sqlite3_vtab_nochange(context))
    return SQLITE_OK; /* UPDATE that leaves the column: xUpdate knows the key, and takes the value from the map */
  if (column == 0)
    wm_codec_result_key(context, &c->entry, wm_read_state_destructor(state));
  else if (column == 1)
    wm_codec_result_value(context, &c->entry, wm_read_state_destructor(state));
  else
    wm_expiry_result(context, c->entry.expires);
  return SQLITE_OK;
}
