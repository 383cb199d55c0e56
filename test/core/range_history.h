/*
** range_history.h - what reads of ranges, writes, transactions and restores do to a few keys, for the check of
** histories (linearizable.h)
**
** The value is that of all keys: a byte each, 0 where the key is absent. So every action has one form: it tells the
** values of some keys, and gives values to some.
*/
#ifndef TEST_CORE_RANGE_HISTORY_H
#define TEST_CORE_RANGE_HISTORY_H

#include "../common/support.h"

#define KEYS 8
#define AT_FIRST 0
#define ALL_KEYS UINT64_MAX
#define KEY(i) ((uint64_t)0xff << 8 * (i))             /* for the masks of an action */
#define VALUE(i, value) ((uint64_t)(value) << 8 * (i)) /* for its values */

typedef struct action {
  uint64_t reads, saw;    /* a mask of the keys that it told of, and their values */
  uint64_t writes, wrote; /* a mask of the keys that it changed, and their values from then on */
  uint64_t call, end;     /* times */
} action;

static inline bool action_fits(const action *a, uint64_t before, uint64_t *after) {
  *after = (before & ~a->writes) | a->wrote;
  return (before & a->reads) == a->saw;
}

#include "linearizable.h"

#endif
