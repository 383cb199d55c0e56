/*
** registry.c - the maps of this process: see registry.h
**
** A list under one mutex, and a hash table by name, since a process may have thousands of maps. They are looked at when
** a table is created or connected, never by a read or a write.
*/
#include "conn/registry.h"

#include "platform/platform.h"

#include <limits.h>
#include <pthread.h>
#include <string.h>

SQLITE_EXTENSION_INIT3

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static wm_map *first, *last;  /* in the order of their ids */
static wm_map *buckets[1024]; /* by the hash of the name, the newest first */
static uint64_t last_id;
static int announced; /* maps that have a committer */
static atomic_uint version;

static bool same_text(const char *a, const char *b) { return a == b || (a != NULL && b != NULL && strcmp(a, b) == 0); }

/* Table names are compared as SQLite does, the names of maps and files byte by byte. */
static bool same_name(wm_kind kind, const char *a, const char *b) {
  return kind == WM_FILE ? sqlite3_stricmp(a, b) == 0 : same_text(a, b);
}

unsigned wm_registry_hash(const char *name) {
  unsigned hash = 2166136261u; /* FNV-1a */
  for (; name != NULL && *name != 0; name++)
    hash = (hash ^ (unsigned char)(*name >= 'A' && *name <= 'Z' ? *name + ('a' - 'A') : *name)) * 16777619u;
  return hash ^ hash >> 16;
}

static wm_map **bucket_of(const char *name) {
  return &buckets[wm_registry_hash(name) % (sizeof buckets / sizeof buckets[0])];
}

static void put_in_bucket(wm_map *map) {
  wm_map **bucket = bucket_of(map->name);
  map->same_bucket = *bucket;
  *bucket = map;
}

static void take_out_of_bucket(wm_map *map) {
  wm_map **at = bucket_of(map->name);
  while (*at != map)
    at = &(*at)->same_bucket;
  *at = map->same_bucket;
}

static bool is_of(const wm_map *map, const wm_owner *owner) {
  return map->published && map->kind == owner->kind && same_text(map->file, owner->file) &&
         same_text(map->vfs, owner->vfs) && same_name(owner->kind, map->name, owner->name);
}

static wm_map *find_published(const wm_owner *owner) {
  for (wm_map *map = *bucket_of(owner->name); map != NULL; map = map->same_bucket) {
    if (is_of(map, owner) && (map->history != NULL) == owner->durable &&
        (owner->kind != WM_FILE || wm_options_are_of(owner->options, walmap_get_options(map->map))))
      return map;
  }
  return NULL;
}

static void append_map(wm_map *map) {
  map->previous = last;
  *(last != NULL ? &last->next : &first) = map;
  last = map;
  put_in_bucket(map);
}

static void set_committer(wm_map *map, const void *committer) {
  announced += (committer != NULL) - (map->committer != NULL);
  map->committer = committer;
}

static void take_out_map(wm_map *map) {
  set_committer(map, NULL);
  *(map->previous != NULL ? &map->previous->next : &first) = map->next;
  *(map->next != NULL ? &map->next->previous : &last) = map->previous;
  take_out_of_bucket(map);
}

static void free_map(wm_map *map) {
  wm_history_free(map->history);
  walmap_close(map->map);
  sqlite3_free(map->name);
  sqlite3_free(map->file);
  sqlite3_free(map->vfs);
  sqlite3_free(map);
}

static int copy_text(const char *text, char **out) {
  *out = text == NULL ? NULL : sqlite3_mprintf("%s", text);
  return *out == NULL && text != NULL ? WALMAP_NOMEM : WALMAP_OK;
}

static int new_map(const wm_owner *owner, const walmap_options *options, wm_map **out) {
  wm_map *map = sqlite3_malloc(sizeof *map);
  if (map == NULL)
    return WALMAP_NOMEM;
  memset(map, 0, sizeof *map);
  map->kind = owner->kind;
  map->references = 1;
  atomic_init(&map->attachments, 0);
  atomic_init(&map->numeric, false);
  atomic_init(&map->retracted, false);
  int result = walmap_open(options, &map->map);
  if (result == WALMAP_OK)
    result = copy_text(owner->name, &map->name);
  if (result == WALMAP_OK)
    result = copy_text(owner->file, &map->file);
  if (result == WALMAP_OK)
    result = copy_text(owner->vfs, &map->vfs);
  if (result == WALMAP_OK && owner->durable)
    result = wm_history_new(map->map, &map->history);
  if (result != WALMAP_OK) {
    free_map(map);
    return result;
  }
  *out = map;
  return WALMAP_OK;
}

int wm_registry_open(const wm_owner *owner, bool fresh, const walmap_options *options, wm_map **out) {
  int result = WALMAP_OK;
  pthread_mutex_lock(&mutex);
  wm_map *map = fresh || owner->kind == WM_PRIVATE ? NULL : find_published(owner);
  if (map != NULL) {
    map->references++;
  } else if ((result = new_map(owner, options, &map)) == WALMAP_OK) {
    map->published = !fresh;
    map->id = ++last_id;
    append_map(map);
  }
  pthread_mutex_unlock(&mutex);
  if (result == WALMAP_OK)
    *out = map;
  return result;
}

void wm_registry_retain(wm_map *map) {
  pthread_mutex_lock(&mutex);
  map->references++;
  pthread_mutex_unlock(&mutex);
}

void wm_registry_release(wm_map *map) {
  if (map == NULL)
    return;
  pthread_mutex_lock(&mutex);
  bool was_last = --map->references == 0;
  if (was_last)
    take_out_map(map);
  pthread_mutex_unlock(&mutex);
  if (was_last) /* outside of the mutex: it may take long, and no other thread can find the map any more */
    free_map(map);
}

/*
** From now on the name is this map's alone. Other maps of the name belong to tables that another process has dropped,
** or were made by a connection that used an outdated schema between two changes of one transaction.
*/
static void retract_others(const wm_map *map) {
  wm_owner owner = {.kind = map->kind, .name = map->name, .file = map->file, .vfs = map->vfs};
  for (wm_map *other = *bucket_of(map->name); other != NULL; other = other->same_bucket) {
    if (other != map && is_of(other, &owner)) {
      other->published = other->dated = false;
      atomic_store(&other->retracted, true);
    }
  }
}

void wm_registry_publish(wm_map *map) {
  if (map->kind != WM_FILE)
    return;
  pthread_mutex_lock(&mutex);
  retract_others(map);
  map->published = true;
  atomic_fetch_add(&version, 1);
  atomic_store(&map->retracted, false);
  pthread_mutex_unlock(&mutex);
}

void wm_registry_retract(wm_map *map) {
  if (map->kind != WM_FILE)
    return;
  pthread_mutex_lock(&mutex);
  map->published = false;
  atomic_fetch_add(&version, 1);
  atomic_store(&map->retracted, true);
  pthread_mutex_unlock(&mutex);
}

void wm_registry_rename(wm_map *map, char **name) {
  if (map->kind != WM_FILE)
    return;
  pthread_mutex_lock(&mutex);
  char *old = map->name;
  take_out_of_bucket(map);
  map->name = *name;
  put_in_bucket(map);
  *name = old;
  retract_others(map);
  atomic_fetch_add(&version, 1);
  pthread_mutex_unlock(&mutex);
}

bool wm_registry_is_named(wm_map *map, const char *name) {
  pthread_mutex_lock(&mutex);
  bool named = same_name(map->kind, map->name, name);
  pthread_mutex_unlock(&mutex);
  return named;
}

void wm_registry_announce(wm_map *map, const void *committer, int schema_version) {
  if (map->kind != WM_FILE)
    return;
  pthread_mutex_lock(&mutex);
  set_committer(map, committer);
  map->dated = true;
  map->changed_in = schema_version;
  pthread_mutex_unlock(&mutex);
}

void wm_registry_settle(wm_map *map, const void *committer) {
  pthread_mutex_lock(&mutex);
  if (map->committer == committer)
    set_committer(map, NULL);
  pthread_mutex_unlock(&mutex);
}

/* Versions are numbers of 32 bits that wrap around. */
static bool has_reached(int version, int other) { return (unsigned)version - (unsigned)other <= INT_MAX; }

static bool is_announced(const wm_owner *owner, const void *committer, const int *schema_version) {
  bool found = false;
  pthread_mutex_lock(&mutex);
  for (const wm_map *map = announced > 0 ? first : NULL; map != NULL && !found; map = map->next) {
    found = map->committer != NULL && map->committer != committer && same_text(map->file, owner->file) &&
            same_text(map->vfs, owner->vfs) &&
            (schema_version == NULL || has_reached(*schema_version, map->changed_in));
  }
  pthread_mutex_unlock(&mutex);
  return found;
}

bool wm_registry_is_changing(const wm_owner *owner, const void *committer) {
  return is_announced(owner, committer, NULL);
}

/* The committer is between the file's commit and the map's: microseconds, if its thread runs. */
void wm_registry_await(const wm_owner *owner, const void *committer, int schema_version) {
  for (int i = 0; i < 10000 && is_announced(owner, committer, &schema_version); i++)
    walmap__sleep(100000);
}

bool wm_registry_is_older(int schema_version, const wm_map *map) {
  pthread_mutex_lock(&mutex);
  bool older = map->dated && !has_reached(schema_version, map->changed_in);
  pthread_mutex_unlock(&mutex);
  return older;
}

unsigned wm_registry_version(void) { return atomic_load(&version); }

wm_map *wm_registry_next(const wm_map *map) {
  pthread_mutex_lock(&mutex);
  wm_map *next = map == NULL ? first : map->next;
  if (next != NULL)
    next->references++;
  pthread_mutex_unlock(&mutex);
  return next;
}

int wm_registry_copy_name(wm_map *map, char **name) {
  pthread_mutex_lock(&mutex);
  int result = copy_text(map->name, name);
  pthread_mutex_unlock(&mutex);
  return result;
}
