/*
** aggregate.c - walmap_image(key, value): an image of any query's rows
**
** The rows go into a map of their own, where a later row replaces an earlier row of the same key, as INSERT OR REPLACE
** does. The result is the image of that map. The map has one shard, because it has one writer.
*/
#include "functions/functions.h"

SQLITE_EXTENSION_INIT3

typedef struct group {
  walmap *map; /* NULL before the first row, and after a failure */
} group;

static int open_map(walmap **map) {
  walmap_options options;
  walmap_options_init(&options);
  options.shards = 1;
  options.auto_compact = 0; /* the map is closed before compaction would pay */
  options.hash = wm_codec_hash;
  options.content = WM_CONTENT_SQL;
  return walmap_open(&options, map);
}

static void fail_aggregate(sqlite3_context *context, int result) {
  if (result == WALMAP_TOOBIG)
    sqlite3_result_error_toobig(context);
  else if (result == WALMAP_NOMEM)
    sqlite3_result_error_nomem(context);
  else
    sqlite3_result_error(context, walmap_result_text(result), -1);
}

static int set_group_row(walmap *map, const wm_key *key, const wm_value *value) {
  size_t size = wm_codec_value_size(value);
  uint8_t *bytes = sqlite3_malloc64(size);
  if (bytes == NULL)
    return WALMAP_NOMEM;
  wm_codec_write_value(value, key->form, bytes);
  int result = walmap_set(map, key->data, key->size, bytes, size);
  sqlite3_free(bytes);
  return result;
}

void wm_aggregate_step(sqlite3_context *context, int argc, sqlite3_value **argv) {
  (void)argc;
  wm_key key;
  wm_value value;
  group *group = sqlite3_aggregate_context(context, sizeof *group);
  int rc = group == NULL ? SQLITE_NOMEM : wm_codec_encode_key(argv[0], &key);
  if (rc == SQLITE_CONSTRAINT_NOTNULL)
    wm_functions_fail(context, rc, sqlite3_mprintf("NOT NULL constraint failed: walmap_image.key"));
  else if (rc != SQLITE_OK)
    sqlite3_result_error_nomem(context);
  if (rc != SQLITE_OK)
    return;
  int result = wm_codec_read_value(argv[1], &value) != SQLITE_OK ? WALMAP_NOMEM : WALMAP_OK;
  if (result == WALMAP_OK && group->map == NULL)
    result = open_map(&group->map);
  if (result == WALMAP_OK)
    result = set_group_row(group->map, &key, &value);
  wm_codec_release_key(&key);
  if (result != WALMAP_OK)
    fail_aggregate(context, result);
}

/* Called for every group, also when the statement fails midway. A group without rows has an empty image. */
void wm_aggregate_final(sqlite3_context *context) {
  group *group = sqlite3_aggregate_context(context, 0);
  walmap *map = group != NULL ? group->map : NULL;
  void *image;
  size_t size;
  int result = map == NULL ? open_map(&map) : WALMAP_OK;
  if (result == WALMAP_OK)
    result = walmap_snapshot(map, &image, &size);
  if (result == WALMAP_OK)
    wm_functions_result_image(context, "walmap_image", image, size, "");
  else
    fail_aggregate(context, result);
  walmap_close(map);
}
