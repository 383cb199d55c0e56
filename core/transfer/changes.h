/*
** changes.h - positions and changes, byte by byte (FORMAT.md has the tables)
**
** A position is a vector of commit points, which is what a state is. The changes since a position P, as of a state with
** the commit points Q, are found in the logs, for these are in the order of writing. Per shard (F1):
**
**   - A record at a position from P to Q is a change, if it is its key's version at Q: a set if the scan of the state
**     would take it, a removal if it is a tombstone and its key is absent at Q.
**   - Compaction moves live records to lower positions of their run. So if a segment does not fill the positions up to
**     the next one, and P lies between the two, all that is in it counts as changed: more than was, which does no harm.
**   - Compaction drops tombstones. The generation's `floor` lies past each tombstone that was dropped; it is raised
**     before the run leaves the list, and looked at after the walk, so whoever missed one finds P below the floor.
**   - A restore begins a new generation and writes no tombstones: P must lie past the generation's start.
**
** Whether the key is absent at Q is looked up, because the tombstone's flags and `next` do not tell: it may have been
** rolled back, it may have been superseded after it had left the index, and it gets DEAD before its successor is
** committed or after. So a key that was removed several times may occur as often.
*/
#ifndef WALMAP_CHANGES_H
#define WALMAP_CHANGES_H

#include "image/format.h"
#include "mvcc/state.h"

#define CHANGES_VERSION 1

/* A position: head, 8 bytes for the commit point of each shard, check. */
#define POSITION_MAGIC "\x89walpos\n" /* 8 bytes, without the NUL, as CHANGES_MAGIC */
#define POSITION_VERSION 8
#define POSITION_SHARDS 12
#define POSITION_MAP 16
#define POSITION_TAILS 24
#define POSITION_BYTES(shards) (POSITION_TAILS + 8 * (size_t)(shards) + 8)

/* Changes: head, position, image of what was set, image of what was removed. */
#define CHANGES_MAGIC "\x89walchg\n"
#define CHANGES_VERSION_AT 8
#define CHANGES_FLAGS 12
#define CHANGES_SIZES 16  /* of each part */
#define CHANGES_CHECKS 40 /* the last 8 bytes of each part */
#define CHANGES_CHECK 64
#define CHANGES_HEAD ((size_t)72)

enum { PART_POSITION, PART_SET, PART_REMOVED, PARTS };

typedef struct walmap__changes {
  const uint8_t *parts[PARTS];
  size_t sizes[PARTS];
} walmap__changes;

/* Whether it begins as changes do. */
bool walmap__changes_is(const void *bytes, size_t size);

/* Verifies the head, and finds the parts; each is still to be verified by itself. OK or CORRUPT. */
int walmap__changes_open(walmap__changes *changes, const void *bytes, size_t size, walmap_why *why);

#endif
