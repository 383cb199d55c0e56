/*
** options.h - the options of CREATE VIRTUAL TABLE ... USING walmap(...)
**
** Each argument is name=value. Names are case-insensitive, space is allowed around both, and a value may be quoted as
** SQL quotes strings and names ('...', "...", `...`, [...]).
**
**    map='name'          1 to WM_MAP_NAME_MAX bytes: the process-wide map of that name
**    shards=N            a power of two, 1 to WALMAP_MAX_SHARDS
**    capacity=N          expected entries, 0 to WM_CAPACITY_MAX
**    busy_timeout=MS     0 to WM_BUSY_TIMEOUT_MAX; not given: WALMAP_TIMEOUT_OF_SESSION, see wm_conn_busy_timeout
**    auto_compact=PCT    0 (off) to 99
**    ttl=SECONDS         above 0 to WM_TTL_MAX, with up to three decimals: how long entries live by default
**    max_entries=N       1 to WM_BOUND_MAX: the most entries of a committed table
**    max_bytes=N         WALMAP_LEAST_SHARE for each shard, to WM_BOUND_MAX: the most memory of a committed table
**    on_full=...         evict or error: what a bound does
**    durable=0|1         whether the table's rows are kept in its database file; only a table in a file can do so
**    ordered=0|1         whether the map keeps its keys in order
**
** A map with bounds whose shards are not given has as many as leave each WM_ENTRIES_A_SHARD or WM_BYTES_A_SHARD.
*/
#ifndef WM_OPTIONS_H
#define WM_OPTIONS_H

#include "walmap.h"
#include <sqlite3ext.h>
#include <stdbool.h>

#define WM_MAP_NAME_MAX 255
#define WM_CAPACITY_MAX 1000000000000
#define WM_CAPACITY_OF_STRANGERS 1000000 /* outside of temp: a schema may come from a file, memory is the host's */
#define WM_BUSY_TIMEOUT_MAX 86400000     /* a day */
#define WM_BOUND_MAX 1000000000000000
#define WM_ENTRIES_A_SHARD 64
#define WM_BYTES_A_SHARD ((uint64_t)256 << 10)
#define WM_DURABLE_BY_DEFAULT true /* of tables in a database file */

typedef struct wm_options {
  char *map; /* the name, NULL when it was not given; from sqlite3_malloc, freed by wm_options_free */
  bool has_shards, has_capacity, has_busy_timeout, has_auto_compact, has_ttl, has_durable, has_ordered;
  bool has_max_entries, has_max_bytes, has_on_full;
  bool durable; /* as given; WM_DURABLE_BY_DEFAULT if not */
  /* The defaults of walmap_options_init with the given ones over them; hash, sort_key, content are the extension's. */
  walmap_options core;
} wm_options;

/*
** Parses the `argc` arguments (xCreate's from argv[3] on). On SQLITE_OK free them with wm_options_free. SQLITE_ERROR
** for an unknown name, one given twice, a bad value: *error is then a text (sqlite3_malloc) that says which and what is
** allowed. SQLITE_NOMEM. *error is not written otherwise.
*/
int wm_options_parse(int argc, const char *const *argv, wm_options *options, char **error);
void wm_options_free(wm_options *options);

/*
** Whether the options that were given agree with those of an existing map: SQLITE_OK; SQLITE_ERROR with a text that
** names the first one that differs and the map's own value; or SQLITE_NOMEM.
*/
int wm_options_agree(const wm_options *options, const walmap_options *existing, char **error);
bool wm_options_are_of(const wm_options *options, const walmap_options *existing); /* the same, without a text */

#endif
