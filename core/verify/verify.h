/*
** verify.h - looking for damage in a shard: what holds of it whenever its owner is between two writes
**
** Nothing is repaired, nothing is changed. It is looked at in an order in which each part needs only what was found
** good before it:
**
**   segments   the list, the table of ids, positions that grow                                          verify_log.c
**   index      directory and subtables; each slot's place is a record whose key leads to this slot      verify_index.c
**   records    they fill the segments; the newest of each key is found by the key; `next` and `prev`
**              agree; flags fit what compaction and garbage have done so far                             verify_log.c
**   stats    what the shard says of itself is what the walk over the records has counted                  verify.c
**
** A slot for each newest record, found by its key, and no slot more: so slots and keys are one to one. As many garbage
** in the queue as records that wait for their reclaiming, and each of another time: so these are one to one as well.
**
** Threads: the shard's owner. Readers go on: all that they may change are their own slots.
*/
#ifndef WALMAP_VERIFY_H
#define WALMAP_VERIFY_H

#include "mvcc/map.h"

/* What the walk counts. */
typedef struct walmap__recount {
  uint64_t slots;   /* of the index that are filled */
  uint64_t newest;  /* records that the index should lead to */
  uint64_t live;    /* of these, those that are no tombstones */
  uint64_t waiting; /* records that died and are not reclaimed */
  uint64_t bytes, dead;
} walmap__recount;

typedef struct walmap__inspection {
  const walmap *map;
  const walmap__shard *shard;
  const walmap__generation *g;
  walmap__recount recount;
  walmap_why *why;
} walmap__inspection;

/* Writes what is wrong, and is false. */
__attribute__((format(printf, 2, 3))) bool walmap__fault(const walmap__inspection *in, const char *format, ...);

/* The record at a place, or NULL if there can be none: it must lie in the used bytes of a segment that exists. */
const walmap__record *walmap__inspect_address(const walmap__inspection *in, uint32_t address, uint32_t *meta);

/* Each is false with the first fault told. */
bool walmap__verify_segments(walmap__inspection *in);
bool walmap__verify_index(walmap__inspection *in);
bool walmap__verify_records(walmap__inspection *in);

#endif
