/*
** history.c - the versions of a durable table's map: see history.h
*/
#include "conn/history.h"

#include "platform/platform.h"

#include <sqlite3ext.h>
#include <string.h>

SQLITE_EXTENSION_INIT3

enum {
  ERA_VERSIONS = 512,
  ERA_BYTES = 256 << 10, /* of log, after which the next era begins */
  ERAS = 8,
  PART = 512, /* of max_bytes, for all eras together */
};

struct wm_era {
  walmap_state *state; /* begun when the era's first version was the head, or before */
  int references;      /* of readers, and of the history */
  uint64_t written;    /* to the log in the file since it began */
  uint64_t died;       /* of the log in memory since then, as far as wm_history_make_room was told */
  int n, room;
  wm_version *versions;
  uint64_t *commit_points; /* of each, as many as the map has shards */
  wm_era *next;            /* older */
};

static uint32_t shards(const wm_history *h) { return walmap_get_options(h->map)->shards; }

/* ------------------------------------------------------------------------------------------------------------------ */
/* Making                                                                                                             */

int wm_history_new(walmap *map, wm_history **out) {
  wm_history *h = sqlite3_malloc(sizeof *h);
  if (h == NULL)
    return WALMAP_NOMEM;
  memset(h, 0, sizeof *h);
  int result = walmap_state_new(map, &h->scratch);
  if (result != WALMAP_OK) {
    sqlite3_free(h);
    return result;
  }
  h->map = map;
  pthread_mutex_init(&h->mutex, NULL);
  walmap__condition_init(&h->changed);
  *out = h;
  return WALMAP_OK;
}

void wm_history_free(wm_history *h) {
  if (h == NULL)
    return;
  wm_history_forget(h);
  walmap_state_free(h->scratch);
  pthread_cond_destroy(&h->changed);
  pthread_mutex_destroy(&h->mutex);
  sqlite3_free(h);
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Eras                                                                                                               */

static void release_era(wm_era *era) {
  if (--era->references > 0)
    return;
  walmap_state_free(era->state);
  sqlite3_free(era->versions);
  sqlite3_free(era->commit_points);
  sqlite3_free(era);
}

/* Drops the eras after the `kept` newest. */
static void drop_eras(wm_history *h, int kept) {
  wm_era **at = &h->eras;
  while (*at != NULL && kept-- > 0)
    at = &(*at)->next;
  wm_era *era = *at;
  *at = NULL;
  while (era != NULL) {
    wm_era *next = era->next;
    release_era(era);
    era = next;
  }
}

void wm_history_forget(wm_history *h) { drop_eras(h, 0); }

/* What all eras together may keep; UINT64_MAX: there is no bound. */
static uint64_t most_kept(const wm_history *h) {
  uint64_t bound = walmap_get_options(h->map)->max_bytes;
  return bound != 0 ? bound / PART : UINT64_MAX;
}

void wm_history_make_room(wm_history *h, walmap_txn *txn, bool clears) {
  uint64_t most = most_kept(h);
  if (most == UINT64_MAX)
    return;
  uint64_t dying = clears ? UINT64_MAX : walmap_txn_reclaimable(txn) - walmap_reclaimable(h->map), died = dying;
  int kept = 0;
  for (const wm_era *era = h->eras; era != NULL && died <= most; era = era->next) {
    died += era->died;
    kept += died <= most;
  }
  drop_eras(h, kept);
  if (h->eras != NULL)
    h->eras->died += dying;
}

static bool is_full(const wm_history *h, const wm_era *era) {
  return era->n >= ERA_VERSIONS || era->written >= ERA_BYTES || era->died >= most_kept(h) / ERAS;
}

/* The newest era, or a new one when that is full. NULL without memory. */
static wm_era *present_era(wm_history *h) {
  wm_era *newest = h->eras;
  if (newest != NULL && !is_full(h, newest))
    return newest;
  wm_era *era = sqlite3_malloc(sizeof *era);
  if (era == NULL)
    return NULL;
  memset(era, 0, sizeof *era);
  int result = walmap_state_new(h->map, &era->state);
  if (result == WALMAP_OK) {
    walmap_state_set_outer(era->state);
    result = walmap_state_begin(era->state);
  }
  if (result != WALMAP_OK) {
    walmap_state_free(era->state);
    sqlite3_free(era);
    return NULL;
  }
  era->references = 1;
  era->next = newest;
  h->eras = era;
  drop_eras(h, ERAS);
  return era;
}

static bool grow_era(const wm_history *h, wm_era *era) {
  if (era->n < era->room)
    return true;
  int room = era->room == 0 ? 4 : 2 * era->room;
  wm_version *versions = sqlite3_realloc64(era->versions, (uint64_t)room * sizeof *versions);
  if (versions == NULL)
    return false;
  era->versions = versions;
  uint64_t *commit_points = sqlite3_realloc64(era->commit_points, (uint64_t)room * shards(h) * sizeof *commit_points);
  if (commit_points == NULL)
    return false;
  era->commit_points = commit_points;
  era->room = room;
  return true;
}

/* The era's state is not younger than the commit points: a reader collects them after that state was begun. */
void wm_history_advance(wm_history *h, const wm_version *version, uint64_t written) {
  h->head = *version;
  wm_era *era = present_era(h);
  if (era == NULL || !grow_era(h, era) || walmap_state_begin(h->scratch) != WALMAP_OK)
    return;
  walmap_state_commit_points(h->scratch, &era->commit_points[(size_t)era->n * shards(h)]);
  walmap_state_end(h->scratch);
  era->versions[era->n++] = *version;
  era->written += written;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Readers                                                                                                            */

/* The newest entry of the version. False when there is none. */
static bool find_version(const wm_history *h, const wm_version *version, wm_era **era, int *at) {
  for (*era = h->eras; *era != NULL; *era = (*era)->next) {
    for (*at = (*era)->n - 1; *at >= 0; (*at)--) {
      if (wm_version_is(&(*era)->versions[*at], version))
        return true;
    }
  }
  return false;
}

bool wm_history_has(const wm_history *h, const wm_version *version) {
  wm_era *era;
  int at;
  return wm_version_is(&h->head, version) || find_version(h, version, &era, &at);
}

int wm_history_begin(wm_history *h, const wm_version *version, walmap_state *state, wm_era **out) {
  int result = WALMAP_OK, at;
  wm_era *era = NULL;
  pthread_mutex_lock(&h->mutex);
  if (wm_version_is(&h->head, version)) {
    result = walmap_state_begin(state);
  } else if (find_version(h, version, &era, &at)) {
    walmap_state_begin_at(state, &era->commit_points[(size_t)at * shards(h)]);
    era->references++;
  } else {
    result = WALMAP_NOTFOUND;
  }
  pthread_mutex_unlock(&h->mutex);
  if (result == WALMAP_OK)
    *out = era;
  return result;
}

void wm_history_leave(wm_history *h, wm_era *era) {
  if (era == NULL)
    return;
  pthread_mutex_lock(&h->mutex);
  release_era(era);
  pthread_mutex_unlock(&h->mutex);
}
