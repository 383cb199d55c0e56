/*
** linearizable.h - whether a history of one key can be explained by operations that took effect one after another
**
** A history is what threads did to a key: each operation with its arguments, its result, and the times of its call and
** its return. It is linearizable (Herlihy, Wing: Linearizability, 1990) if each operation can be given a moment between
** its call and its return such that, done in the order of these moments on a plain variable, all give the results that
** they gave.
**
** The search is Wing and Gong's (Testing and verifying concurrent objects, 1993) in the form that Lowe calls
** just-in-time (Testing for linearizability, 2017): the calls and returns are gone through in the order of time, with
** the set of all configurations that explain them so far: the variable's value, and which of the open operations have
** taken effect. Only a return makes them grow: whatever may take effect before it is tried. The set stays small, since
** few operations are open at once and equal configurations are one. It is empty if and only if there is no explanation.
*/
#ifndef TEST_CORE_LINEARIZABLE_H
#define TEST_CORE_LINEARIZABLE_H

#include "../common/support.h"

#define ABSENT UINT32_MAX
#define MOST_OPEN 16

typedef enum kind { GET, SET, REMOVE, SET_IF, REMOVE_IF, SET_IF_ABSENT, EXCHANGE, KINDS } kind;

/* Values are numbers other than ABSENT. */
typedef struct action {
  kind kind;
  uint32_t expected, value; /* arguments, where the kind has them */
  uint32_t result;          /* GET, EXCHANGE: the value before; SET: 0; else whether it was done, ABSENT: no such key */
  uint64_t call, end;       /* times; no two are equal */
} action;

/* What an action does to a variable, and whether it can have given its result there. */
static inline bool action_fits(const action *a, uint32_t before, uint32_t *after) {
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

/* ------------------------------------------------------------------------------------------------------------------ */
/* The set of configurations                                                                                          */

#define MOST_CONFIGURATIONS 65536

typedef struct configuration {
  uint32_t value;
  uint32_t done; /* a bit for each place among the open actions: it has taken effect */
} configuration;

typedef struct explanations {
  configuration list[MOST_CONFIGURATIONS];
  uint32_t n;
} explanations;

static inline void add_explanation(explanations *e, configuration c) {
  for (uint32_t i = 0; i < e->n; i++) {
    if (e->list[i].value == c.value && e->list[i].done == c.done)
      return;
  }
  MUST(e->n < MOST_CONFIGURATIONS);
  e->list[e->n++] = c;
}

/* Lets open actions take effect in all ways. The list grows while it is gone through. */
static inline void let_take_effect(explanations *e, const action *const open[MOST_OPEN]) {
  for (uint32_t i = 0; i < e->n; i++) {
    for (uint32_t place = 0; place < MOST_OPEN; place++) {
      configuration c = e->list[i];
      if (!open[place] || (c.done >> place & 1) || !action_fits(open[place], c.value, &c.value))
        continue;
      c.done |= 1u << place;
      add_explanation(e, c);
    }
  }
}

/* Drops those in which the action at this place has not taken effect; in the others the place becomes free. */
static inline void demand(explanations *e, uint32_t place) {
  uint32_t n = e->n;
  e->n = 0;
  for (uint32_t i = 0; i < n; i++) {
    configuration c = e->list[i];
    if (!(c.done >> place & 1))
      continue;
    c.done &= ~(1u << place);
    add_explanation(e, c);
  }
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* The check                                                                                                          */

typedef struct event {
  uint64_t time;
  const action *action;
} event;

static inline int compare_events(const void *a, const void *b) {
  const event *one = a, *other = b;
  return one->time < other->time ? -1 : one->time > other->time;
}

/* NULL when the history of a key that is absent at first can be explained; else the first action that has none. */
static inline const action *unexplained(const action *history, size_t n) {
  event *events = malloc((2 * n + 1) * sizeof *events);
  explanations *e = malloc(sizeof *e);
  MUST(events && e);
  for (size_t i = 0; i < n; i++) {
    MUST(history[i].call < history[i].end);
    events[2 * i] = (event){history[i].call, &history[i]};
    events[2 * i + 1] = (event){history[i].end, &history[i]};
  }
  qsort(events, 2 * n, sizeof *events, compare_events);
  const action *open[MOST_OPEN] = {NULL}, *wrong = NULL;
  e->n = 0;
  add_explanation(e, (configuration){ABSENT, 0});
  for (size_t i = 0; i < 2 * n && !wrong; i++) {
    const action *a = events[i].action;
    uint32_t place = 0;
    bool is_call = events[i].time == a->call;
    while (open[place] != (is_call ? NULL : a))
      MUST(++place < MOST_OPEN);
    if (is_call) {
      open[place] = a;
      continue;
    }
    let_take_effect(e, open);
    demand(e, place);
    open[place] = NULL;
    if (e->n == 0)
      wrong = a;
  }
  free(events);
  free(e);
  return wrong;
}

#endif
