/*
** changes.h - positions and changes, byte by byte (FORMAT.md has the tables)
**
** A position is a vector of commit points, as a state has one. The logs are in the order of writing, so the changes
** since a position P, as of a state with the commit points Q, are found there. Per shard (F1):
**
**   - A record at an LSN from P to Q is a change, if it is its key's version at Q: a set if the scan of the state would
**     take it, a removal if it is a tombstone and its key is absent at Q.
**   - Compaction moves live records to lower LSNs of their run. So if a segment does not fill the LSNs up to the next
**     segment, and P lies between the two, all records of the segment count as changed: more than were, which does no
**     harm.
**   - An entry that has expired by the state's time is a removal. The follower has another clock, but what it has of
**     such an entry expires there as well; an earlier version of the key must not come back.
**   - Compaction drops tombstones, and entries that have expired. The generation's tombstone horizon lies past each
**     that was dropped. It is raised before the record goes, and read after the walk, so a walk that missed one finds P
**     below the horizon, and is refused.
**   - A restore begins a new generation and writes no tombstones: P must lie past the generation's start.
**
** Whether the key is absent at Q is looked up, because the tombstone's flags and `next` do not tell: the tombstone may
** have been rolled back, it may have been superseded after it had left the index, and it gets DEAD before its successor
** is committed or after. So a key that was removed several times may occur as often.
*/
#ifndef WALMAP_CHANGES_H
#define WALMAP_CHANGES_H

#include "image/format.h"
#include "mvcc/state.h"

#define CHANGES_FORMAT_VERSION 1

/* Names that end in _AT are offsets. A position: head, 8 bytes for the commit point of each shard, check. */
#define POSITION_MAGIC "\x89walpos\n" /* 8 bytes, without the NUL, as CHANGES_MAGIC */
#define POSITION_VERSION_AT 8
#define POSITION_SHARDS_AT 12
#define POSITION_MAP_AT 16
#define POSITION_POINTS_AT 24
#define POSITION_BYTES(shards) (POSITION_POINTS_AT + 8 * (size_t)(shards) + 8)

/* Changes: head, position, image of what was set, image of what was removed. */
#define CHANGES_MAGIC "\x89walchg\n"
#define CHANGES_VERSION_AT 8
#define CHANGES_FLAGS_AT 12
#define CHANGES_SIZES_AT 16  /* of each part */
#define CHANGES_CHECKS_AT 40 /* the last 8 bytes of each part */
#define CHANGES_CHECK_AT 64
#define CHANGES_HEAD_BYTES ((size_t)72)

enum { PART_POSITION, PART_SET, PART_REMOVED, PARTS };

typedef struct walmap__changes {
  const uint8_t *parts[PARTS];
  size_t sizes[PARTS];
} walmap__changes;

/*
** The vector of a position, or of the position in changes, of this map: where its numbers of 8 bytes lie. OK; CORRUPT
** or GONE, with *why set.
*/
int walmap__changes_read_since(const walmap *map, const void *since, size_t since_size, const uint8_t **commit_points,
                               walmap_why *why);

/* Whether the bytes begin as changes do. */
bool walmap__changes_is(const void *bytes, size_t size);

/* Verifies the head and the position, and finds the parts. The two images verify themselves. OK or CORRUPT. */
int walmap__changes_open(walmap__changes *changes, const void *bytes, size_t size, walmap_why *why);

#endif
