/*
** state.h - one committed state of the whole map, for reading
**
** A state is a slot in the epoch, taken first, and the vector of all commit points, collected after it. So all records
** that the commit points make visible stay in memory, and can be found, until the slot is cleared (E1, V1, S1).
**
** A state that is begun inside another one (walmap_state_begin_at) takes no slot: the other one's slot is as old as the
** commit points of any committed state since, and keeps what they make visible.
**
** A state has one time (X2), at which entries are absent. Where the map has entries that expire, the clock is read
** before the commit points are collected and after, until both readings are equal: so the state is what the map was at
** one moment, time included, as if the passing of each time were a commit. The map's clock never goes back: so a writer
** whose commit the state has saw this time or an earlier one, and a writer whose commit it lacks saw this time or a
** later one at its commit. Where no entry ever had an expiry, the state has no time; `expiring` is set before the first
** such entry is committed.
**
** The slot comes first: when a shard waits for all readers to have reached a time (compact.h), it notes the time, and
** then advances the epoch; a reader whose slot is younger than that reads its time from a clock that was there already.
*/
#ifndef WALMAP_STATE_H
#define WALMAP_STATE_H

#include "base/interrupt.h"
#include "mvcc/map.h"

struct walmap_state {
  walmap *map;
  walmap__slot *slot; /* NULL: not begun, or begun inside another state */
  bool was_committed; /* the commit points are of a committed state, the present one or the last */
  uint64_t len;       /* entries, or WALMAP__UNCOUNTED */
  uint64_t now;       /* the time, in ms; 0: no entry expires */

  /* For walmap_get_stats, which finds it in the map's list. */
  walmap__lookups lookups;
  walmap__counter began; /* by walmap__coarse_now; 0: not begun, or an outer state */
  bool is_outer;         /* walmap_state_set_outer */
  walmap_state *next, *previous;

  walmap__interrupt interrupt; /* of long work on the state */
  uint64_t commit_points[];
};

#define WALMAP__UNCOUNTED UINT64_MAX

/* The list of the map's states (counters.h). */
void walmap__state_list(walmap_state *state);
void walmap__state_unlist(walmap_state *state);

/*
** How many entries a shard has as of a commit point and a time: from the stats and the expiry table, or by a walk, if
** these belong to another commit by now (X1). The caller has a slot.
*/
uint64_t walmap__state_shard_len(walmap_state *state, uint32_t shard);
uint64_t walmap__state_len_by(walmap_state *state, uint32_t shard, const walmap__stats *stats); /* from these stats */
uint64_t walmap__state_count(walmap_state *state, uint32_t shard);                              /* by a walk */

/* A state on the stack, for one look. */
typedef union walmap__brief_state {
  walmap_state state;
  uint64_t room[sizeof(walmap_state) / sizeof(uint64_t) + WALMAP_MAX_SHARDS];
} walmap__brief_state;

/* Takes a slot; the caller then fills in the commit points. OK or NOMEM. */
int walmap__state_enter(walmap_state *state);

#endif
