/*
** verify.h - looking for damage in a shard: what is true of it between two writes
**
** Nothing is repaired, nothing is changed. Each part relies only on the parts that were found good before it:
**
**   segments   the list, the table of ids, LSNs that grow                                                verify_log.c
**   index      directory and subtables; each slot's address is a record whose key leads to this slot     verify_index.c
**   order      of an ordered map: the tree has the same addresses, and their keys in order               verify_order.c
**   records    they fill the segments; the newest of each key is found by the key; `next` and `prev`
**              agree; flags fit what compaction and reclaiming have done so far                          verify_log.c
**   stats      the counters of the shard are what the walk over the records has counted                  verify.c
**
** There is a slot for each newest record, found by its key, and no other slot: so slots and keys are one to one. The
** garbage queue has as many entries as there are records to reclaim, each with another time of death: so these are one
** to one as well.
**
** Threads: the caller holds the shard lock. Readers go on: they change only their own slots of the epoch.
*/
#ifndef WALMAP_VERIFY_H
#define WALMAP_VERIFY_H

#include "mvcc/map.h"

/* The counters of the walk. */
typedef struct walmap__recount {
  uint64_t slots;   /* of the index that are filled */
  uint64_t newest;  /* records that the index should lead to */
  uint64_t live;    /* newest records that are no tombstones */
  uint64_t waiting; /* records that died and are not reclaimed */
  uint64_t bytes, dead;
  uint64_t expired;                  /* bytes of newest records that were swept */
  uint64_t expiring, expiring_bytes; /* newest records that expire later */
} walmap__recount;

typedef struct walmap__inspection {
  const walmap *map;
  const walmap__shard *shard;
  const walmap__generation *g;
  walmap__recount recount;
  walmap_why *why;
} walmap__inspection;

/* Writes what is wrong to in->why. Returns false. */
WALMAP__PRINTF(2, 3) bool walmap__fault(const walmap__inspection *in, const char *format, ...);

/* The record at an address; NULL unless it lies in the used bytes of a segment that exists. */
const walmap__record *walmap__inspect_address(const walmap__inspection *in, uint32_t address, uint32_t *meta);

/* Each returns false after it has written the first fault. */
bool walmap__verify_segments(walmap__inspection *in);
bool walmap__verify_index(walmap__inspection *in);
bool walmap__verify_order(walmap__inspection *in);
bool walmap__verify_records(walmap__inspection *in);

#endif
