/*
** registry.h - the maps of this process, and who may join which
**
** A map is named (map='name', joined by temp tables of any connection), belongs to a table in a database file (one map
** for all connections of the process to that file and table), or is private to one table of one connection. It is
** counted: the last connection to let go of it closes it. Everything here may be called from any thread.
*/
#ifndef WM_REGISTRY_H
#define WM_REGISTRY_H

#include "../core/walmap.h"

#include <stdatomic.h>
#include <stdbool.h>

typedef enum wm_kind { WM_NAMED, WM_FILE, WM_PRIVATE } wm_kind;

typedef struct wm_map {
  walmap *map;
  wm_kind kind;
  char *name;          /* WM_NAMED: the map's; WM_FILE: the table's; WM_PRIVATE: NULL */
  char *file;          /* WM_FILE: full path of the database; otherwise NULL */
  uint64_t id;         /* 1, 2, 3, ... over all maps that the process ever had */
  atomic_bool numeric; /* a text key that looks like a number may be in it; never reset (see cursor.h) */

  /* Owned by registry.c, under its mutex. */
  int references;
  bool published; /* found by wm_registry_open */
  struct wm_map *next;
} wm_map;

/*
** The published map of that kind, name and file, or a new one made with `options`. WM_PRIVATE, and `fresh`, always make
** a new one, and a fresh WM_FILE map is not published yet (wm_registry_publish). The reference is the caller's.
** Returns WALMAP_OK, or NOMEM or INVALID as walmap_open.
*/
int wm_registry_open(wm_kind kind, const char *file, const char *name, bool fresh, const walmap_options *options,
                     wm_map **out);

void wm_registry_retain(wm_map *map);
void wm_registry_release(wm_map *map); /* NULL is allowed */

/*
** What DROP, CREATE and RENAME of a table in a database file mean to other connections. None can fail.
** publish: later wm_registry_open calls find the map, and no older one of its file and name.
** retract: they do not.
** rename: swaps the map's name for *name.
** All three leave maps that are not WM_FILE alone.
*/
void wm_registry_publish(wm_map *map);
void wm_registry_retract(wm_map *map);
void wm_registry_rename(wm_map *map, char **name);
bool wm_registry_is_published(wm_map *map);

/*
** Walks over all maps of the process, for walmap_stats: the map with the smallest id above `id`, with a reference that
** is the caller's, or NULL.
*/
wm_map *wm_registry_next(uint64_t id);

#endif
