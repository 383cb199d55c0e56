/*
** lookup.h - the entries of `key = x` and of `key IN (...)`: of each key the one that is equal, and where x is a number
** the texts that look like it (codec.h)
**
** In a transaction that has begun on the map, lookups go through walmap_txn_get, which locks the key's shard until the
** transaction ends (T4). Otherwise they read a state. Entries point into the map's log, so that to find them allocates
** no memory, unless they are many.
*/
#ifndef WM_LOOKUP_H
#define WM_LOOKUP_H

#include "base/interrupt.h"
#include "conn/conn.h"

#define WM_LOOKUP_BATCH 64 /* keys of an IN list that are looked up together: their cache misses overlap */

typedef struct wm_lookup {
  const wm_attachment *attachment;
  walmap_state *state; /* that is read, unless in_transaction */
  bool in_transaction; /* the attachment's transaction has begun, and is read */
  walmap_entry *found; /* `small` while that is large enough */
  size_t n, room;      /* entries in `found`, and how many it has room for */
  bool may_repeat;     /* a text was found as the look-alike of a number: if the list has it too, it is found twice */
  int n_hashes;        /* of the last number, at which its look-alikes were looked for */
  uint64_t hashes[WM_LOOKALIKES];
  walmap_entry small[WM_LOOKUP_BATCH];
} wm_lookup;

/* Before the first lookup; `lookup` is not moved from then on. */
void wm_lookup_init(wm_lookup *lookup, const wm_attachment *attachment);
void wm_lookup_clear(wm_lookup *lookup);

/* Drops what was found, and says what the next lookups read. */
void wm_lookup_start(wm_lookup *lookup, walmap_state *state, bool in_transaction);

/*
** Adds what is found for a key, or for the right side of IN, which may be long: then `interrupt` is asked. NULL finds
** nothing. WALMAP codes.
*/
int wm_lookup_key(wm_lookup *lookup, sqlite3_value *value);
int wm_lookup_list(wm_lookup *lookup, sqlite3_value *list, walmap__interrupt *interrupt);

/*
** After the lookups, before `found` is read: drops what is there twice, and brings it into the order of keys if the map
** is ordered, whose rows come so.
*/
void wm_lookup_sort(wm_lookup *lookup);

#endif
