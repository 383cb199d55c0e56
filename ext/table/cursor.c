/*
** cursor.c - cursors of walmap tables: see cursor.h
**
** A cursor walks a state (WM_PLAN_SCAN), or has all its entries from xFilter on: the entries of a walk that are to be
** sorted, or the few entries of the other plans.
**
** In a transaction that has begun on the map, point lookups go through walmap_txn_get, which locks the key's shard
** until the transaction ends (T4), and scans read a state of what the transaction sees. Otherwise both read the
** committed state that the connection's open statements share (T2). The cursor holds that state from xOpen, because
** SQLite may open a subquery's cursor anew before it closes the old one. The cursor keeps its state when the connection
** begins to write meanwhile. It takes a newer state at the next xFilter, when the transaction in which it read has
** ended.
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
#include "table/plan.h"
#include "table/range.h"
#include "table/sorted.h"
#include "table/vtab.h"
#include "table/walk.h"

#include <stdlib.h>
#include <string.h>

SQLITE_EXTENSION_INIT3

#define POOLED_CURSORS 16 /* more than a join of many tables has open at once */
#define BATCH 64          /* keys of an IN list that are looked up together: their cache misses overlap */

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

  walmap_entry *found; /* none of them: all entries */
  size_t n_found, at, room;
  walmap_entry small[BATCH]; /* serves as `found` while it is large enough */
  struct wm_cursor *next;    /* in the pool */
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
  c->found = c->small;
  c->room = BATCH;
  return c;
}

static void free_found(wm_cursor *c) {
  if (c->found != c->small)
    sqlite3_free(c->found);
  c->found = c->small;
  c->room = BATCH;
}

static void to_pool(wm_conn *conn, wm_cursor *c) {
  free_found(c);
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
/* Point lookups                                                                                                      */

/* Room for `n` more entries. A WALMAP code. */
static int reserve_entries(wm_cursor *c, size_t n) {
  if (c->n_found + n <= c->room)
    return WALMAP_OK;
  size_t room = 2 * (c->n_found + n);
  walmap_entry *larger = sqlite3_realloc64(c->found == c->small ? NULL : c->found, room * sizeof *larger);
  if (larger == NULL)
    return WALMAP_NOMEM;
  if (c->found == c->small)
    memcpy(larger, c->small, c->n_found * sizeof *larger);
  c->found = larger;
  c->room = room;
  return WALMAP_OK;
}

static bool in_own_transaction(const wm_cursor *c) {
  return c->in_transaction && c->generation == c->attachment->generation;
}

static int get_entry(wm_cursor *c, const wm_key *key) {
  int result = reserve_entries(c, 1);
  if (result != WALMAP_OK)
    return result;
  walmap_entry *entry = &c->found[c->n_found];
  result = in_own_transaction(c) ? walmap_txn_get(c->attachment->txn, key->data, key->size, entry)
                                 : walmap_state_get(c->state->state, key->data, key->size, entry);
  c->n_found += result == WALMAP_OK;
  return result == WALMAP_NOTFOUND ? WALMAP_OK : result;
}

static bool same_entry_key(const walmap_entry *a, const walmap_entry *b) {
  return a->key_len == b->key_len && memcmp(a->key, b->key, a->key_len) == 0;
}

static bool is_found(const wm_cursor *c, size_t n, const walmap_entry *entry) {
  for (size_t i = 0; i < n; i++) {
    if (same_entry_key(&c->found[i], entry))
      return true;
  }
  return false;
}

typedef struct collecting {
  wm_cursor *cursor;
  size_t n_before; /* how many entries at the start of `found` may be look-alikes of other numbers */
  int result;
} collecting;

/* Adds text that looks like a number. SQLite decides whether it is equal to the number that is sought. */
static bool collect_lookalike(void *context, const walmap_entry *entry) {
  collecting *all = context;
  if (!wm_codec_is_lookalike(entry) || is_found(all->cursor, all->n_before, entry))
    return true;
  if ((all->result = reserve_entries(all->cursor, 1)) != WALMAP_OK)
    return false;
  all->cursor->found[all->cursor->n_found++] = *entry;
  return true;
}

/* Adds the look-alikes of a number (codec_hash.c), if the map can have any. */
static int get_lookalikes(wm_cursor *c, const wm_key *key, size_t n_before) {
  if (!wm_codec_key_is_number(key->data) || !atomic_load_explicit(&c->attachment->map->numeric, memory_order_relaxed))
    return WALMAP_OK;
  uint64_t hashes[WM_LOOKALIKES];
  uint64_t seed = walmap_get_options(c->attachment->map->map)->seed;
  int n = wm_codec_lookalikes(key->data, key->size, seed, hashes), result = WALMAP_OK;
  collecting all = {c, n_before, WALMAP_OK};
  for (int i = 0; i < n && result == WALMAP_OK; i++) {
    if (in_own_transaction(c))
      result = walmap_txn_each_hash(c->attachment->txn, hashes[i], collect_lookalike, &all);
    else
      walmap_state_each_hash(c->state->state, hashes[i], collect_lookalike, &all);
    result = result == WALMAP_OK ? all.result : result;
  }
  return result;
}

static int find_key(wm_cursor *c, sqlite3_value *value) {
  wm_key key;
  int rc = wm_codec_encode_key(value, &key);
  if (rc != SQLITE_OK)
    return rc == SQLITE_NOMEM ? WALMAP_NOMEM : WALMAP_OK; /* key = NULL is never true */
  int result = get_entry(c, &key);
  if (result == WALMAP_OK)
    result = get_lookalikes(c, &key, 0);
  wm_codec_release_key(&key);
  return result;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* IN lists                                                                                                           */

typedef struct batch {
  wm_key keys[BATCH];
  size_t n;
} batch;

/*
** Adds the entries of the batch's keys. The list has each value once, but an entry that was found as a number's
** look-alike may be in the list itself. Such entries are among the first `n_lookalikes`: the list is sorted, and
** numbers come before text.
*/
static int look_up_batch(wm_cursor *c, batch *b, size_t n_lookalikes) {
  int result = reserve_entries(c, b->n);
  walmap_entry *entries = &c->found[c->n_found];
  if (result == WALMAP_OK && in_own_transaction(c)) {
    for (size_t i = 0; i < b->n && result == WALMAP_OK; i++)
      result = get_entry(c, &b->keys[i]);
  } else if (result == WALMAP_OK) {
    for (size_t i = 0; i < b->n; i++)
      entries[i] = (walmap_entry){.key = b->keys[i].data, .key_len = b->keys[i].size};
    walmap_state_get_many(c->state->state, entries, b->n);
    c->n_found += b->n;
  }
  size_t kept = (size_t)(entries - c->found);
  for (size_t i = kept; i < c->n_found; i++) {
    const walmap_entry *entry = &c->found[i];
    if (entry->key != NULL && (n_lookalikes == 0 || !wm_codec_is_lookalike(entry) || !is_found(c, n_lookalikes, entry)))
      c->found[kept++] = *entry;
  }
  c->n_found = kept;
  for (size_t i = 0; i < b->n; i++)
    wm_codec_release_key(&b->keys[i]);
  b->n = 0;
  return result;
}

static int find_list(wm_cursor *c, sqlite3_value *list) {
  batch *b = sqlite3_malloc(sizeof *b);
  if (b == NULL)
    return WALMAP_NOMEM;
  b->n = 0;
  sqlite3_value *value;
  size_t n_lookalikes = 0;
  int result = WALMAP_OK, next_in_range = sqlite3_vtab_in_first(list, &value);
  for (; next_in_range == SQLITE_OK && result == WALMAP_OK; next_in_range = sqlite3_vtab_in_next(list, &value)) {
    wm_key *key = &b->keys[b->n];
    int rc = wm_codec_encode_key(value, key);
    if (rc == SQLITE_CONSTRAINT_NOTNULL)
      continue;
    if (rc != SQLITE_OK) {
      result = WALMAP_NOMEM;
      break;
    }
    size_t n_before = c->n_found;
    result = get_lookalikes(c, key, n_lookalikes);
    if (c->n_found > n_before)
      n_lookalikes = c->n_found;
    if (++b->n == BATCH && result == WALMAP_OK)
      result = look_up_batch(c, b, n_lookalikes);
  }
  if (result == WALMAP_OK && next_in_range == SQLITE_NOMEM)
    result = WALMAP_NOMEM;
  if (result == WALMAP_OK)
    result = look_up_batch(c, b, n_lookalikes);
  for (size_t i = 0; i < b->n; i++)
    wm_codec_release_key(&b->keys[i]);
  sqlite3_free(b);
  return result;
}

static int compare_entries(const void *a, const void *b) {
  const walmap_entry *one = a, *other = b;
  return wm_codec_compare_keys(one->key, one->key_len, other->key, other->key_len);
}

/* The rows of an ordered map are in the order of keys. What is found for a number is so before its look-alikes too. */
static void sort_found(wm_cursor *c) {
  if (c->n_found > 1 && walmap_get_options(c->attachment->map->map)->ordered)
    qsort(c->found, c->n_found, sizeof c->found[0], compare_entries);
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* xFilter to xColumn                                                                                                 */

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
      break;
  }
  return false;
}

/* The same of a walk, which keeps to the bounds itself but where text is ordered otherwise. */
static bool step_walk(wm_cursor *c, walmap_entry *entry) {
  bool is_row;
  while (wm_walk_next(&c->walk, entry, &is_row)) {
    if (is_row && (!(c->range.lower.is_utf16 || c->range.upper.is_utf16) || wm_range_has(&c->range, entry)))
      return true;
    if (cursor_is_interrupted(c, entry))
      break;
  }
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
  c->n_found = c->at = 0;
  wm_walk_clear(&c->walk);
  if (c->in_transaction && c->generation != c->attachment->generation) { /* the transaction has ended */
    release_states(c);
    result = acquire_state(c);
  }
  if (result == WALMAP_OK) {
    switch (WM_PLAN_WAY(plan)) {
    case WM_PLAN_KEY:
      result = find_key(c, argv[0]);
      sort_found(c);
      break;
    case WM_PLAN_LIST:
      result = find_list(c, argv[0]);
      sort_found(c);
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
    c->at_end = c->at == c->n_found;
    if (!c->at_end)
      c->entry = c->found[c->at++];
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
