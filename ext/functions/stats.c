/*
** stats.c - walmap_stats: one row per map of the process
**
** An eponymous-only virtual table that walks over the registry. Each row is read when it is reached, so the rows are of
** different moments. What is counted (walmap_get_stats) is read once for a row, so these columns are of one moment. The
** table shows maps of other connections, so it is SQLITE_VTAB_DIRECTONLY: views and triggers of a stranger's schema
** cannot read it.
*/
#include "conn/eponymous.h"
#include "functions/functions.h"

SQLITE_EXTENSION_INIT3

enum {
  COLUMN_NAME, /* of the map or, for a map of a database file, of its table; NULL for a private map */
  COLUMN_KIND,
  COLUMN_FILE,
  COLUMN_ENTRIES,
  COLUMN_SIZE,
  COLUMN_RECLAIMABLE,
  COLUMN_MEMORY,
  COLUMN_SHARDS,
  COLUMN_CONNECTIONS,
  COLUMN_HITS, /* the first of those that walmap_get_stats has */
  COLUMN_MISSES,
  COLUMN_EVICTIONS,
  COLUMN_EXPIRATIONS,
  COLUMN_COMMITS,
  COLUMN_ROLLBACKS,
  COLUMN_BUSY,
  COLUMN_DEADLOCKS,
  COLUMN_COMPACTED,
  COLUMN_OLDEST_READER,
  COLUMN_PINNED,
};
#define DECLARATION                                                                                                    \
  "CREATE TABLE x(name, kind TEXT, file TEXT, entries INTEGER, size INTEGER, reclaimable INTEGER, memory INTEGER,"     \
  " shards INTEGER, connections INTEGER, hits INTEGER, misses INTEGER, evictions INTEGER, expirations INTEGER,"        \
  " commits INTEGER, rollbacks INTEGER, busy INTEGER, deadlocks INTEGER, compacted INTEGER, oldest_reader REAL, "      \
  "pinned INTEGER)"

typedef struct stats_cursor {
  sqlite3_vtab_cursor base;
  wm_map *map; /* of the row, with a reference; NULL at the end */
  bool has_stats;
  walmap_stats stats;
} stats_cursor;

static int stats_connect_table(sqlite3 *db, void *unused, int argc, const char *const *argv, sqlite3_vtab **out,
                               char **err) {
  (void)unused, (void)argc, (void)argv, (void)err;
  return wm_eponymous_connect(db, DECLARATION, SQLITE_VTAB_DIRECTONLY, sizeof **out, out);
}

/* There is one plan. */
static int stats_best_index(sqlite3_vtab *table, sqlite3_index_info *info) {
  (void)table;
  info->estimatedCost = info->estimatedRows = 100;
  return SQLITE_OK;
}

static int stats_open_cursor(sqlite3_vtab *table, sqlite3_vtab_cursor **out) {
  (void)table;
  return wm_eponymous_open(sizeof(stats_cursor), out);
}

/* To the next younger map. Others may come and go meanwhile, but not the one of the row, which the cursor holds. */
static void move_on(stats_cursor *cursor) {
  wm_map *next = wm_registry_next(cursor->map);
  wm_registry_release(cursor->map);
  cursor->map = next;
  cursor->has_stats = false;
}

static int stats_close_cursor(sqlite3_vtab_cursor *base) {
  stats_cursor *cursor = (stats_cursor *)base;
  wm_registry_release(cursor->map);
  sqlite3_free(cursor);
  return SQLITE_OK;
}

static int stats_filter(sqlite3_vtab_cursor *base, int plan, const char *unused, int argc, sqlite3_value **argv) {
  (void)plan, (void)unused, (void)argc, (void)argv;
  stats_cursor *cursor = (stats_cursor *)base;
  wm_registry_release(cursor->map);
  cursor->map = NULL;
  move_on(cursor);
  return SQLITE_OK;
}

static int stats_next_row(sqlite3_vtab_cursor *base) {
  move_on((stats_cursor *)base);
  return SQLITE_OK;
}

static int stats_at_end(sqlite3_vtab_cursor *base) { return ((stats_cursor *)base)->map == NULL; }

static int result_name(sqlite3_context *context, wm_map *map) {
  char *name;
  if (wm_registry_copy_name(map, &name) != WALMAP_OK)
    return SQLITE_NOMEM;
  sqlite3_result_text(context, name, -1, sqlite3_free); /* NULL gives NULL */
  return SQLITE_OK;
}

static void result_counted(sqlite3_context *context, stats_cursor *cursor, int which) {
  walmap_stats *s = &cursor->stats;
  if (!cursor->has_stats)
    walmap_get_stats(cursor->map->map, s);
  cursor->has_stats = true;
  const uint64_t counted[] = {
      [COLUMN_HITS] = s->hits,           [COLUMN_MISSES] = s->misses,
      [COLUMN_EVICTIONS] = s->evictions, [COLUMN_EXPIRATIONS] = s->expirations,
      [COLUMN_COMMITS] = s->commits,     [COLUMN_ROLLBACKS] = s->rollbacks,
      [COLUMN_BUSY] = s->busy,           [COLUMN_DEADLOCKS] = s->deadlocks,
      [COLUMN_COMPACTED] = s->compacted, [COLUMN_PINNED] = s->pinned,
  };
  if (which == COLUMN_OLDEST_READER)
    sqlite3_result_double(context, (double)s->oldest_reader / 1000);
  else
    sqlite3_result_int64(context, (int64_t)counted[which]);
}

static int stats_column(sqlite3_vtab_cursor *base, sqlite3_context *context, int which) {
  static const char *const kinds[] = {[WM_NAMED] = "named", [WM_FILE] = "file", [WM_PRIVATE] = "private"};
  wm_map *map = ((stats_cursor *)base)->map;
  uint64_t figure;
  switch (which) {
  case COLUMN_NAME:
    return result_name(context, map);
  case COLUMN_KIND:
    sqlite3_result_text(context, kinds[map->kind], -1, SQLITE_STATIC);
    return SQLITE_OK;
  case COLUMN_FILE:
    sqlite3_result_text(context, map->file, -1, SQLITE_TRANSIENT); /* NULL gives NULL */
    return SQLITE_OK;
  case COLUMN_ENTRIES:
    figure = walmap_len(map->map);
    break;
  case COLUMN_SIZE:
    figure = walmap_size(map->map);
    break;
  case COLUMN_RECLAIMABLE:
    figure = walmap_reclaimable(map->map);
    break;
  case COLUMN_MEMORY:
    figure = walmap_memory(map->map);
    break;
  case COLUMN_SHARDS:
    figure = walmap_get_options(map->map)->shards;
    break;
  case COLUMN_CONNECTIONS:
    figure = (uint64_t)atomic_load(&map->attachments);
    break;
  default:
    result_counted(context, (stats_cursor *)base, which);
    return SQLITE_OK;
  }
  sqlite3_result_int64(context, (int64_t)figure);
  return SQLITE_OK;
}

static int stats_rowid(sqlite3_vtab_cursor *base, sqlite3_int64 *out) {
  *out = (int64_t)((stats_cursor *)base)->map->id;
  return SQLITE_OK;
}

static const sqlite3_module stats_module = {
    .xConnect = stats_connect_table, /* and no xCreate: CREATE VIRTUAL TABLE is refused */
    .xBestIndex = stats_best_index,
    .xDisconnect = wm_eponymous_disconnect,
    .xOpen = stats_open_cursor,
    .xClose = stats_close_cursor,
    .xFilter = stats_filter,
    .xNext = stats_next_row,
    .xEof = stats_at_end,
    .xColumn = stats_column,
    .xRowid = stats_rowid,
};

int wm_stats_register(wm_conn *conn) {
  return sqlite3_create_module_v2(conn->db, "walmap_stats", &stats_module, NULL, NULL);
}
