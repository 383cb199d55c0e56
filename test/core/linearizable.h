/*
** linearizable.h - whether a history can be explained by operations that took effect one after another
**
** A history is what threads did: each operation with its arguments, its result, and the times of its call and its
** return. It is linearizable (Herlihy, Wing: Linearizability, 1990) if each operation can be given a moment between its
** call and its return such that, done in the order of these moments by one thread, all give the results that they gave.
**
** The search is Wing and Gong's (Testing and verifying concurrent objects, 1993) in the form that Lowe calls
** just-in-time (Testing for linearizability, 2017): the calls and returns are gone through in the order of time, with
** the set of all configurations that explain them so far: the value, and which of the open operations have taken
** effect. Only a return makes them grow: whatever may take effect before it is tried. The set stays small, since few
** operations are open at once and equal configurations are one. It is empty if and only if there is no explanation.
**
** What the operations are comes from key_history.h (on one key) or range_history.h (on several, and on ranges), which
** include this file: `action`, with times `call` and `end` of which no two are equal; action_fits(), which tells what
** an action makes of a value and whether it can have given its result there; and AT_FIRST, the value at first.
*/
#ifndef TEST_CORE_LINEARIZABLE_H
#define TEST_CORE_LINEARIZABLE_H

#define MOST_OPEN 16

/* ------------------------------------------------------------------------------------------------------------------ */
/* The set of configurations                                                                                          */

#define MOST_CONFIGURATIONS 65536

typedef struct configuration {
  uint64_t value;
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

/* NULL when the history can be explained; else the first action that has no explanation. */
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
  add_explanation(e, (configuration){AT_FIRST, 0});
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

/* ------------------------------------------------------------------------------------------------------------------ */
/* The same by trying all orders, to check the check                                                                  */

#define SHORT 6

static inline bool some_order_fits(const action *history, uint32_t left, uint64_t value) {
  if (left == 0)
    return true;
  for (uint32_t i = 0; i < SHORT; i++) {
    uint64_t after;
    bool comes_next = left >> i & 1;
    for (uint32_t j = 0; j < SHORT && comes_next; j++)
      comes_next = !(left >> j & 1) || history[j].end > history[i].call; /* no operation ended before it was called */
    if (comes_next && action_fits(&history[i], value, &after) && some_order_fits(history, left & ~(1u << i), after))
      return true;
  }
  return false;
}

static inline void set_random_times(action *history, uint64_t *random) {
  uint64_t times[2 * SHORT];
  for (uint32_t i = 0; i < 2 * SHORT; i++) {
    uint32_t j = random_below(random, i + 1);
    times[i] = times[j];
    times[j] = i + 1;
  }
  for (uint32_t i = 0; i < SHORT; i++) {
    uint64_t one = times[2 * i], other = times[2 * i + 1];
    history[i].call = one < other ? one : other;
    history[i].end = one < other ? other : one;
  }
}

/* A history by hand, which has an explanation, or has none. */
#define EXPLAINED(...) assert_null(unexplained((const action[]){__VA_ARGS__}, COUNT(__VA_ARGS__)))
#define REFUSED(...) assert_non_null(unexplained((const action[]){__VA_ARGS__}, COUNT(__VA_ARGS__)))
#define COUNT(...) (sizeof((const action[]){__VA_ARGS__}) / sizeof(action))

/* The check and all orders must be of one opinion about short histories, which `make` makes at random. */
static inline void check_beside_all_orders(void (*make)(action *history, uint64_t *random), uint64_t random) {
  uint32_t explained = 0, refused = 0;
  for (int i = 0; i < 20000 / SLOWDOWN; i++) {
    action history[SHORT];
    make(history, &random);
    bool fits = some_order_fits(history, (1u << SHORT) - 1, AT_FIRST);
    assert_int_equal(unexplained(history, SHORT) == NULL, fits);
    explained += fits;
    refused += !fits;
  }
  printf("  %u explained, %u refused\n", explained, refused);
  assert_true(explained > 100 && refused > 100);
}

#endif
