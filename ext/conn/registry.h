/*
** registry.h - the maps of this process, and which tables may join which map
**
** A map is named (map='name', joined by temp tables of any connection), belongs to a table in a database file (one map
** for all connections of the process to that file and table), or is private to one table of one connection. References
** to it are counted, and the last release closes it. Everything here may be called from any thread.
*/
#ifndef WM_REGISTRY_H
#define WM_REGISTRY_H

#include "codec/codec.h"
#include "conn/history.h"
#include "conn/options.h"
#include "walmap.h"

#include <stdatomic.h>
#include <stdbool.h>

typedef enum wm_kind { WM_NAMED, WM_FILE, WM_PRIVATE } wm_kind;

typedef struct wm_map {
  walmap *map;
  wm_kind kind;
  char *name;             /* WM_NAMED: the map's; WM_FILE: the table's; WM_PRIVATE: NULL */
  char *file;             /* WM_FILE: full path of the database; otherwise NULL */
  char *vfs;              /* WM_FILE: the VFS to which that path belongs; otherwise NULL */
  wm_history *history;    /* WM_FILE: of a table whose rows are kept in the file; otherwise NULL */
  uint64_t id;            /* 1, 2, 3, ... over all maps that the process ever had */
  atomic_int attachments; /* connections that have it (conn.c) */
  atomic_bool numeric;    /* it may have a text key that looks like a number; never reset. See wm_registry_note_key */

  /* Owned by registry.c, under its mutex. */
  int references;
  bool published;
  const void *committer; /* a connection that is committing a change of its table, or NULL */
  bool dated;            /* changed_in tells of the last change */
  int changed_in;        /* the version of the file's schema with it */
  atomic_bool retracted; /* read without the mutex */
  struct wm_map *next, *previous;
  struct wm_map *same_bucket; /* the next map whose name has such a hash */
} wm_map;

/*
** What a map belongs to; fields as in wm_map. If a file's table finds a map with other options than its own, that map
** belongs to an earlier table of the same name, which another process has dropped.
*/
typedef struct wm_owner {
  wm_kind kind;
  const char *name, *file, *vfs;
  const wm_options *options; /* WM_FILE; otherwise not looked at */
  bool durable;              /* its map has a history */
} wm_owner;

/*
** The published map of that owner, or a new map made with `options`. With WM_PRIVATE, or with `fresh`, the map is
** always new; a fresh map is not published yet. The reference is the caller's. Returns WALMAP_OK, or NOMEM or INVALID
** as walmap_open.
*/
int wm_registry_open(const wm_owner *owner, bool fresh, const walmap_options *options, wm_map **out);

void wm_registry_retain(wm_map *map);
void wm_registry_release(wm_map *map); /* NULL is allowed */

/*
** Show the CREATE, DROP or RENAME of a table in a database file to other connections, once it is committed. They cannot
** fail, and leave maps of other kinds alone.
**   publish  from now on wm_registry_open finds this map, and no other map of its file and name, whatever its options
**   retract  wm_registry_open does not find the map any more; connections that have it ask wm_registry_is_retracted
**   rename   swaps the map's name and *name; wm_registry_open finds no other map by the new name
*/
void wm_registry_publish(wm_map *map);
void wm_registry_retract(wm_map *map);
void wm_registry_rename(wm_map *map, char **name);
static inline bool wm_registry_is_retracted(wm_map *map) {
  return atomic_load_explicit(&map->retracted, memory_order_relaxed);
}
bool wm_registry_is_named(wm_map *map, const char *name);

/*
** Such a change shows in the file before it does here, and its COMMIT may fail. So `committer` announces it before
** SQLite commits the file, with the version that the file's schema will have (PRAGMA schema_version), and settles it
** after the calls above, or when the COMMIT has failed.
**   is_changing  whether another committer has announced a change of a table of the file
**   await        waits, 1 s at most, for other committers whose announced version the file's schema has reached: they
**                have committed the file, and will soon call publish, retract or rename
**   is_older     whether the version is from before the map's last change
*/
void wm_registry_announce(wm_map *map, const void *committer, int version);
void wm_registry_settle(wm_map *map, const void *committer);
bool wm_registry_is_changing(const wm_owner *owner, const void *committer);
void wm_registry_await(const wm_owner *owner, const void *committer, int version);
bool wm_registry_is_older(int version, const wm_map *map);

/* A hash of a name, whose letters count alike in both cases. */
unsigned wm_registry_hash(const char *name);

/* Grows with each publish, retract and rename. */
unsigned wm_registry_version(void);

/*
** For walmap_stats: the map that was made next after `map`, to which the caller has a reference; the first with NULL.
** The result has a reference that is the caller's; NULL at the end.
*/
wm_map *wm_registry_next(const wm_map *map);

/* For walmap_stats: a copy (sqlite3_malloc) of the map's name, which others may change meanwhile. OK or NOMEM. */
int wm_registry_copy_name(wm_map *map, char **name); /* *name is NULL when it has none */

/*
** Call it with every encoded key before the key is written to the map, also for the keys of an image that is restored.
** While no text key that looks like a number was ever written, a lookup with a number need not look for look-alikes
** (codec_hash.c). A reader that sees the entry sees the flag too, because the commit publishes both.
*/
static inline void wm_registry_note_key(wm_map *map, const void *key, size_t key_size) {
  if (wm_codec_key_is_text(key) && !atomic_load_explicit(&map->numeric, memory_order_relaxed) &&
      wm_codec_looks_numeric(key, key_size))
    atomic_store_explicit(&map->numeric, true, memory_order_relaxed);
}

#endif
