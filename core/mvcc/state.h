/*
** state.h - one committed state of the whole map, for reading
**
** A state is a slot in the epoch, taken first, and the vector of all commit points, collected after. So everything that
** the commit points make visible stays in memory, and stays findable, until the slot is given back (E1, V1, S1).
**
** A state that is begun inside another one (walmap_state_begin_at) takes no slot: the other one's slot is as old as the
** commit points of any committed state since, and keeps what they make visible.
*/
#ifndef WALMAP_STATE_H
#define WALMAP_STATE_H

#include "mvcc/map.h"

struct walmap_state {
  walmap *map;
  walmap__slot *slot; /* NULL: not begun, or begun inside another state */
  bool was_committed; /* the commit points are those of a committed state, of now or the last time */
  uint64_t len;       /* entries, or WALMAP__UNCOUNTED */
  uint64_t commit_points[];
};

#define WALMAP__UNCOUNTED UINT64_MAX

/* Takes a slot; the caller fills in the commit points. OK or NOMEM. */
int walmap__state_enter(walmap_state *state);

#endif
