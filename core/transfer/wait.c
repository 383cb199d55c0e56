/*
** wait.c - waiting for a commit after a position
**
** No wake-up is lost (W1). A waiter counts itself in the map's n_waiting; then it takes the mutex, collects the commit
** points, and sleeps, which gives the mutex up. A writer stores its commit point, releases its shard's lock, which is a
** full barrier, and then reads n_waiting. If it reads a waiter, it takes the mutex before it wakes all: so the waiter
** sleeps by then, or collects after the commit. If it does not, the waiter's counting comes after the barrier, and its
** collecting sees the commit point.
**
** A waiter has no slot and no lock meanwhile, only the mutex when it looks. Writers pay a load of a line that they read
** anyway, as long as there is no waiter.
*/
#include "platform/platform.h"
#include "transfer/changes.h"

static bool has_moved(walmap *map, const uint8_t *since) {
  uint64_t commit_points[WALMAP_MAX_SHARDS] = {0};
  walmap__collect_commit_points(map, commit_points, false);
  for (uint32_t i = 0; i < map->n_shards; i++) {
    if (commit_points[i] != walmap__load64(since + 8 * (size_t)i))
      return true;
  }
  return false;
}

/* OK, or NOTFOUND at the deadline, or INTERRUPT. */
static int wait_until_moved(walmap *map, const uint8_t *since, int64_t deadline, bool (*interrupt)(void *), void *ctx) {
  enum { POLL_NS = 20000000 };
  for (;;) {
    if (interrupt && interrupt(ctx))
      return WALMAP_INTERRUPT;
    walmap__yield("wait: counted");
    pthread_mutex_lock(&map->waiting);
    int64_t now = walmap__monotonic_now(), until = interrupt && now + POLL_NS < deadline ? now + POLL_NS : deadline;
    bool moved = has_moved(map, since);
    if (!moved && now < deadline)
      walmap__condition_wait(&map->committed, &map->waiting, until);
    pthread_mutex_unlock(&map->waiting);
    if (moved || now >= deadline)
      return moved ? WALMAP_OK : WALMAP_NOTFOUND;
  }
}

static int newest_position(walmap *map, void **position, size_t *size) {
  walmap__brief_state brief = {.state = {.map = map}};
  int result = walmap_state_begin(&brief.state);
  if (result != WALMAP_OK)
    return result;
  result = walmap_state_position(&brief.state, position, size);
  walmap_state_end(&brief.state);
  return result;
}

int walmap_wait(walmap *map, const void *since, size_t since_size, uint32_t ms, bool (*interrupt)(void *ctx), void *ctx,
                void **position, size_t *size, walmap_why *why) {
  const uint8_t *commit_points = NULL;
  int result = walmap__changes_read_since(map, since, since_size, &commit_points, why);
  if (result != WALMAP_OK)
    return result;
  int64_t deadline = walmap__monotonic_now() + (int64_t)ms * 1000000;
  atomic_fetch_add(&map->n_waiting, 1); /* W1 */
  result = wait_until_moved(map, commit_points, deadline, interrupt, ctx);
  atomic_fetch_sub(&map->n_waiting, 1);
  return result == WALMAP_OK ? newest_position(map, position, size) : result;
}
