/*
** key_history.h - what operations do to one key, for the check of histories (linearizable.h)
*/
#ifndef TEST_CORE_KEY_HISTORY_H
#define TEST_CORE_KEY_HISTORY_H

#include "../common/support.h"

#define ABSENT UINT32_MAX
#define AT_FIRST ABSENT

typedef enum kind { GET, SET, REMOVE, SET_IF, REMOVE_IF, SET_IF_ABSENT, EXCHANGE, KINDS } kind;

/* Values are numbers other than ABSENT. */
typedef struct action {
  kind kind;
  uint32_t expected, value; /* arguments, where the kind has them */
  uint32_t result;          /* GET, EXCHANGE: the value before; SET: 0; else whether it was done, ABSENT: no such key */
  uint64_t call, end;       /* times */
} action;

/* What an action does to a variable, and whether it can have given its result there. */
static inline bool action_fits(const action *a, uint64_t before, uint64_t *after) {
  *after = before;
  switch (a->kind) {
  case GET:
    return a->result == before;
  case EXCHANGE:
    *after = a->value;
    return a->result == before;
  case SET:
    *after = a->value;
    return true;
  case REMOVE:
    *after = ABSENT;
    return a->result == (before == ABSENT ? ABSENT : 1);
  case SET_IF_ABSENT:
    *after = before == ABSENT ? a->value : before;
    return a->result == (before == ABSENT);
  default: /* SET_IF, REMOVE_IF */
    if (before == ABSENT)
      return a->result == ABSENT;
    if (before == a->expected)
      *after = a->kind == SET_IF ? a->value : ABSENT;
    return a->result == (before == a->expected);
  }
}

#include "linearizable.h"

#endif
