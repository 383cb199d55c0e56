/*
** chunks.c - walmap_chunks(t, bytes): the image of a map in BLOBs of a size
**
** A table-valued function, in SQLite's terms an eponymous-only virtual table
**
**    CREATE TABLE x(n INTEGER, chunk BLOB, t HIDDEN, bytes HIDDEN)
**
** The chunks, put together in the order of n, are the image that walmap_snapshot returns, also for a map whose image no
** BLOB can hold. All chunks are of the one state that xFilter takes (T6). Each is made when its row is reached, so
** memory holds one chunk. The table reads maps, so it is SQLITE_VTAB_DIRECTONLY.
*/
#include "conn/eponymous.h"
#include "conn/error.h"
#include "conn/transaction.h"
#include "functions/functions.h"
#include "functions/read.h"
#include "schema/resolve.h"

SQLITE_EXTENSION_INIT3

enum { COLUMN_N, COLUMN_CHUNK, COLUMN_T, COLUMN_BYTES };

#define LEAST_BYTES 1024
#define FIRST_BUFFER ((sqlite3_int64)64 << 10)
#define PLAN_INCOMPLETE 1
#define NEVER_COST 1e99
#define GUESSED_CHUNKS 100

typedef struct chunks_table {
  sqlite3_vtab base;
  wm_conn *conn;
} chunks_table;

typedef struct chunks_cursor {
  sqlite3_vtab_cursor base;
  wm_read_state *state; /* NULL: no image is being read */
  unsigned undone;      /* of the state's attachment, when the state was begun */
  bool own;             /* the state shows changes of a transaction */
  walmap_image_stream *stream;
  sqlite3_value *name;
  sqlite3_int64 bytes, n; /* of a chunk at most; number of the present chunk */
  uint8_t *chunk;
  sqlite3_int64 size, capacity; /* of the chunk */
} chunks_cursor;

/* ------------------------------------------------------------------------------------------------------------------ */
/* The table                                                                                                          */

static int chunks_connect_table(sqlite3 *db, void *conn, int argc, const char *const *argv, sqlite3_vtab **out,
                                char **err) {
  (void)argc, (void)argv, (void)err;
  int rc = wm_eponymous_connect(db, "CREATE TABLE x(n INTEGER, chunk BLOB, t HIDDEN, bytes HIDDEN)",
                                SQLITE_VTAB_DIRECTONLY, sizeof(chunks_table), out);
  if (rc == SQLITE_OK) {
    ((chunks_table *)*out)->conn = conn;
    wm_conn_retain(conn);
  }
  return rc;
}

static int disconnect_table(sqlite3_vtab *base) {
  chunks_table *table = (chunks_table *)base;
  wm_conn_release(table->conn);
  sqlite3_free(table);
  return SQLITE_OK;
}

/* Both arguments are needed; their values go to xFilter in the order of the columns. */
static int chunks_best_index(sqlite3_vtab *table, sqlite3_index_info *info) {
  (void)table;
  int at[] = {-1, -1};
  for (int i = 0; i < info->nConstraint; i++) {
    const struct sqlite3_index_constraint *constraint = &info->aConstraint[i];
    if (constraint->op != SQLITE_INDEX_CONSTRAINT_EQ || constraint->iColumn < COLUMN_T)
      continue;
    if (!constraint->usable)
      return SQLITE_CONSTRAINT; /* the planner must read what the argument depends on first */
    at[constraint->iColumn - COLUMN_T] = i;
  }
  if (at[0] < 0 || at[1] < 0) { /* the plan fails when it runs: SQLite also asks for plans of each side of an OR */
    info->idxNum = PLAN_INCOMPLETE;
    info->estimatedCost = NEVER_COST;
    return SQLITE_OK;
  }
  for (int i = 0; i < 2; i++) {
    info->aConstraintUsage[at[i]].argvIndex = i + 1;
    info->aConstraintUsage[at[i]].omit = 1;
  }
  info->estimatedCost = info->estimatedRows = GUESSED_CHUNKS;
  if (info->nOrderBy == 1 && info->aOrderBy[0].iColumn == COLUMN_N && !info->aOrderBy[0].desc)
    info->orderByConsumed = 1;
  return SQLITE_OK;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* The cursor                                                                                                         */

static int chunks_open_cursor(sqlite3_vtab *table, sqlite3_vtab_cursor **out) {
  (void)table;
  return wm_eponymous_open(sizeof(chunks_cursor), out);
}

/* Resets the cursor to the state before xFilter. */
static void chunks_clear_cursor(chunks_cursor *cursor) {
  walmap_image_stream_free(cursor->stream);
  wm_read_state_release(cursor->state);
  sqlite3_value_free(cursor->name);
  sqlite3_free(cursor->chunk);
  *cursor = (chunks_cursor){.base = cursor->base};
}

static int chunks_close_cursor(sqlite3_vtab_cursor *base) {
  chunks_cursor *cursor = (chunks_cursor *)base;
  chunks_clear_cursor(cursor);
  sqlite3_free(cursor);
  return SQLITE_OK;
}

static int fail_chunks(chunks_cursor *cursor, int rc, char *text) {
  sqlite3_vtab *table = cursor->base.pVtab;
  chunks_clear_cursor(cursor);
  return wm_error_vtab(table, rc, text);
}

/* Reads the next chunk into a buffer that grows as the bytes come, since the last chunk may be much smaller. */
static int chunks_read_chunk(chunks_cursor *cursor) {
  cursor->size = 0;
  while (cursor->size < cursor->bytes) {
    if (cursor->size == cursor->capacity) {
      sqlite3_int64 capacity = cursor->capacity == 0 ? FIRST_BUFFER : 2 * cursor->capacity;
      if (capacity > cursor->bytes)
        capacity = cursor->bytes;
      uint8_t *larger = sqlite3_realloc64(cursor->chunk, (sqlite3_uint64)capacity);
      if (larger == NULL)
        return WALMAP_NOMEM;
      cursor->chunk = larger;
      cursor->capacity = capacity;
    }
    size_t want = (size_t)(cursor->capacity - cursor->size), got;
    int result = walmap_image_stream_read(cursor->stream, cursor->chunk + cursor->size, want, &got);
    if (result != WALMAP_OK)
      return result;
    cursor->size += (sqlite3_int64)got;
    if (got < want)
      break;
  }
  return WALMAP_OK;
}

static int chunks_next_row(sqlite3_vtab_cursor *base) {
  chunks_cursor *cursor = (chunks_cursor *)base;
  if (cursor->own && cursor->undone != cursor->state->attachment->undone)
    return fail_chunks(cursor, SQLITE_ABORT_ROLLBACK,
                       sqlite3_mprintf("walmap_chunks: changes that belong to this image were rolled back"));
  int result = chunks_read_chunk(cursor);
  if (result != WALMAP_OK)
    return fail_chunks(cursor, wm_error_code(result), NULL);
  cursor->n++;
  if (cursor->size == 0)
    chunks_clear_cursor(cursor); /* the state ends now, not with the statement */
  return SQLITE_OK;
}

/* Takes the state that walmap_snapshot would take, and opens the stream of its image. */
static int open_stream(chunks_cursor *cursor, wm_table *table) {
  wm_attachment *attachment = table->attachment;
  int result = wm_read_state_of(NULL, attachment, &cursor->state);
  if (result == WALMAP_OK) {
    cursor->own = wm_attachment_is_begun(attachment);
    cursor->undone = attachment->undone;
    result = walmap_image_stream_new(cursor->state->state, &cursor->stream);
  }
  if (result == WALMAP_OK)
    return SQLITE_OK;
  chunks_clear_cursor(cursor);
  return wm_error_table(cursor->base.pVtab, result, table);
}

static int chunks_filter(sqlite3_vtab_cursor *base, int plan, const char *unused, int argc, sqlite3_value **argv) {
  (void)unused, (void)argc;
  chunks_cursor *cursor = (chunks_cursor *)base;
  wm_conn *conn = ((chunks_table *)base->pVtab)->conn;
  chunks_clear_cursor(cursor);
  if (plan == PLAN_INCOMPLETE)
    return fail_chunks(cursor, SQLITE_ERROR,
                       sqlite3_mprintf("walmap_chunks needs a table and a size: walmap_chunks('kv', 1000000)"));
  if (sqlite3_value_type(argv[0]) != SQLITE_TEXT)
    return fail_chunks(cursor, SQLITE_MISMATCH, sqlite3_mprintf("walmap_chunks: the name of the table is not a text"));
  int most = sqlite3_limit(conn->db, SQLITE_LIMIT_LENGTH, -1);
  cursor->bytes = sqlite3_value_int64(argv[1]);
  if (sqlite3_value_numeric_type(argv[1]) != SQLITE_INTEGER || cursor->bytes < LEAST_BYTES || cursor->bytes > most)
    return fail_chunks(cursor, SQLITE_RANGE,
                       sqlite3_mprintf("walmap_chunks: the size is not an integer from %d to %d", LEAST_BYTES, most));
  if ((cursor->name = sqlite3_value_dup(argv[0])) == NULL)
    return SQLITE_NOMEM;
  const char *name = (const char *)sqlite3_value_text(cursor->name);
  if (name == NULL)
    return SQLITE_NOMEM;
  wm_table *table;
  char *err = NULL;
  int rc = wm_resolve_table(conn, name, (size_t)sqlite3_value_bytes(cursor->name), &table, &err);
  if (rc != SQLITE_OK)
    return fail_chunks(cursor, rc, err);
  rc = open_stream(cursor, table);
  return rc == SQLITE_OK ? chunks_next_row(base) : rc;
}

static int chunks_at_end(sqlite3_vtab_cursor *base) { return ((chunks_cursor *)base)->stream == NULL; }

static int chunks_column(sqlite3_vtab_cursor *base, sqlite3_context *context, int which) {
  chunks_cursor *cursor = (chunks_cursor *)base;
  if (which == COLUMN_N)
    sqlite3_result_int64(context, cursor->n);
  else if (which == COLUMN_CHUNK)
    sqlite3_result_blob64(context, cursor->chunk, (sqlite3_uint64)cursor->size, SQLITE_TRANSIENT);
  else if (which == COLUMN_T)
    sqlite3_result_value(context, cursor->name);
  else
    sqlite3_result_int64(context, cursor->bytes);
  return SQLITE_OK;
}

static int chunks_rowid(sqlite3_vtab_cursor *base, sqlite3_int64 *out) {
  *out = ((chunks_cursor *)base)->n;
  return SQLITE_OK;
}

static const sqlite3_module chunks_module = {
    .xConnect = chunks_connect_table, /* and no xCreate: CREATE VIRTUAL TABLE is refused */
    .xBestIndex = chunks_best_index,
    .xDisconnect = disconnect_table,
    .xOpen = chunks_open_cursor,
    .xClose = chunks_close_cursor,
    .xFilter = chunks_filter,
    .xNext = chunks_next_row,
    .xEof = chunks_at_end,
    .xColumn = chunks_column,
    .xRowid = chunks_rowid,
};

int wm_chunks_register(wm_conn *conn) {
  wm_conn_retain(conn); /* released by SQLite, failing or not */
  return sqlite3_create_module_v2(conn->db, "walmap_chunks", &chunks_module, conn, wm_conn_release);
}
