/*
** read_state.h - read states of a map, counted, and values that keep them alive
**
** A wm_read_state is a begun walmap_state. References are held by cursors, by statements that call functions, and by
** values that were handed to SQLite without a copy. When the last reference goes, the state is ended and put into the
** pool of its wm_attachment, so that a read allocates nothing. All references belong to one connection, whose mutex
** SQLite holds whenever it calls us, so the count is a plain int.
*/
#ifndef WM_READ_STATE_H
#define WM_READ_STATE_H

#include "conn/history.h"
#include "walmap.h"

#include <sqlite3ext.h>

struct wm_attachment;

/* A copy of a durable table's rows as one version has them, for one connection. */
typedef struct wm_replica {
  walmap *map;
  wm_version version;
  int references; /* of its attachment and of states */
} wm_replica;

typedef struct wm_read_state {
  walmap_state *state;
  struct wm_attachment *attachment;
  wm_version version;  /* of a durable table's map */
  wm_era *era;         /* to which the state belongs, or NULL */
  wm_replica *replica; /* of which it is a state, instead of the attachment's map; or NULL */
  int references;
  int slot;                   /* of the destructor functions; -1 when none was free */
  struct wm_read_state *next; /* in the pool */
} wm_read_state;

/*
** A committed state of the map: the one that the connection's open statements read already, or else the newest (T2). In
** a transaction that has begun on the map, this state is older than the transaction's writes; it serves to keep alive
** what walmap_txn_get returned. The reference is the caller's. Returns WALMAP_OK or NOMEM.
*/
int wm_read_state_acquire(struct wm_attachment *attachment, wm_read_state **out);

/*
** In a transaction that has begun on the map: what the transaction sees now. Locks all shards, so it may fail as writes
** do: the result is a WALMAP code.
*/
int wm_read_state_acquire_own(struct wm_attachment *attachment, wm_read_state **out);

/*
** For durable.c: a state of this version of the map, or of the replica; what the connection's open statements read from
** then on. A WALMAP code; NOTFOUND when the map cannot show the version.
*/
int wm_read_state_of_version(struct wm_attachment *attachment, const wm_version *version, wm_read_state **out);
int wm_read_state_of_replica(struct wm_attachment *attachment, wm_replica *replica, wm_read_state **out);
void wm_replica_release(wm_replica *replica); /* NULL is allowed */

void wm_read_state_release(wm_read_state *state); /* NULL is allowed */

/*
** The destructor to pass to sqlite3_result_text() or _blob() with a pointer that `state` keeps alive. Takes a
** reference, which the destructor releases; so call this once for each value that is handed over. When the state has no
** destructor of its own, it is SQLITE_TRANSIENT, and no reference is taken.
*/
sqlite3_destructor_type wm_read_state_destructor(wm_read_state *state);

/* For wm_attachment: frees the pooled states. All references must be gone. */
void wm_read_state_free_pool(struct wm_attachment *attachment);

#endif
