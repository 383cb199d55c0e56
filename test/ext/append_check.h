/*
** append_check.h - whether the transactions of a history (append_history.h) can have run one after another
**
** The method is Elle's (Kingsbury, Alvaro: Elle: inferring isolation anomalies from experimental observations, VLDB
** 2020). A number is appended once, so each list tells which transactions wrote it, in which order, and what a reader
** of it has seen and has not. The lists of a key must be prefixes of its last one. Then one transaction depends on
** another, and must come after it, in these cases:
**
**    ww   it appended to a list right after the other one
**    wr   it read what the other one appended
**    rw   it appended what the other one, which read the list, had not seen
**    rt   it began after the other one had ended
**
** A cycle of such dependencies is a history that no serial order explains. The cycles have Adya's names (Weak
** Consistency, 1999): G0 of ww alone, G1c of ww and wr, G-single with one rw, G2 with more; "real time" needs rt. What
** was rolled back may not have written, but what it read must fit too. So must what a killed process read.
**
** rt holds as SQLite lets a read transaction see all that was committed when it began. In the time of a transaction
** that only reads, it ends when its first read has returned: that fixes what it sees.
*/
#ifndef TEST_APPEND_CHECK_H
#define TEST_APPEND_CHECK_H

#include "append_cycles.h"
#include "append_history.h"

/* ------------------------------------------------------------------------------------------------------------------ */
/* The last lists                                                                                                     */

/* Own appends of a transaction so far, without those that ROLLBACK TO has undone. */
typedef struct own {
  ARRAY(const operation *) appends;
  ARRAY(size_t) savepoints;
} own;

static inline void follow_own(history *h, own *own, const operation *o) {
  if (o->kind == '+')
    ADD(own->appends, o);
  else if (o->kind == '(')
    ADD(own->savepoints, own->appends.n);
  else if (own->savepoints.n > 0 && (o->kind == '/' || o->kind == ')')) {
    size_t mark = own->savepoints.items[--own->savepoints.n];
    while (o->kind == ')' && own->appends.n > mark)
      h->appends.items[own->appends.items[--own->appends.n]->number].undone = true;
  }
}

static inline void note_appends(history *h) {
  own own = {{NULL}};
  for (uint32_t t = 0; t < h->transactions.n; t++) {
    const transaction *tr = &h->transactions.items[t];
    own.appends.n = own.savepoints.n = 0;
    for (size_t i = 0; i < tr->n; i++) {
      const operation *o = &h->operations.items[tr->first + i];
      if (o->kind == '+') {
        size_t known = h->appends.n;
        GROW(h->appends, o->number + 1);
        if (o->number >= known)
          h->appends.n = o->number + 1;
        for (size_t j = known; j < h->appends.n; j++)
          h->appends.items[j].writer = NONE;
        if (h->appends.items[o->number].writer != NONE)
          find(h, t, "made twice", "%u", o->number);
        h->appends.items[o->number] = (appended){.writer = t, .key = o->key};
      }
      follow_own(h, &own, o);
    }
  }
  free(own.appends.items);
  free(own.savepoints.items);
}

/* What is wrong with a number that is in a list of the key, wherever in it; or NULL. */
static inline const char *wrong_number(const history *h, uint32_t number, uint32_t key) {
  if (number >= h->appends.n || h->appends.items[number].writer == NONE)
    return "made up";
  const appended *a = &h->appends.items[number];
  if (a->key != key)
    return "another key's";
  return a->undone || h->transactions.items[a->writer].outcome == 'x' ? "G1a" : NULL;
}

static inline void note_last_lists(history *h) {
  for (uint32_t t = 0; t < h->transactions.n; t++) {
    const transaction *tr = &h->transactions.items[t];
    for (size_t i = 0; tr->is_last && i < tr->n; i++) {
      const operation *o = &h->operations.items[tr->first + i];
      const uint32_t *numbers = h->numbers.items + o->at;
      h->lists.items[o->key] = (last_list){numbers, o->n};
      for (size_t j = 0; j < o->n; j++) {
        const char *wrong = wrong_number(h, numbers[j], o->key);
        if (wrong == NULL && h->appends.items[numbers[j]].is_in_list)
          wrong = "twice in a list";
        if (wrong != NULL) {
          find(h, t, wrong, "%u in the last list of " KEY_FORMAT, numbers[j], KEY_ARGS(o->key));
          h->lists.items[o->key].n = j; /* what follows would be reported for this reason alone */
          break;
        }
        h->appends.items[numbers[j]].is_in_list = true;
        h->transactions.items[h->appends.items[numbers[j]].writer].is_seen = true;
      }
    }
  }
}

/* What was committed is in the last list; what may have been committed is there as a whole, or not at all. */
static inline void check_nothing_is_lost(history *h) {
  for (uint32_t number = 0; number < h->appends.n; number++) {
    const appended *a = &h->appends.items[number];
    if (a->writer == NONE || a->undone || a->is_in_list)
      continue;
    const transaction *t = &h->transactions.items[a->writer];
    if (t->outcome == 'c')
      find(h, a->writer, "lost", "%u, which was appended to " KEY_FORMAT, number, KEY_ARGS(a->key));
    else if (t->outcome == '?' && t->is_seen)
      find(h, a->writer, "half a transaction", "without %u of " KEY_FORMAT, number, KEY_ARGS(a->key));
  }
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Dependencies                                                                                                       */

static inline uint32_t writer_at(const history *h, uint32_t key, size_t at) {
  const last_list *list = &h->lists.items[key];
  return at < list->n ? h->appends.items[list->numbers[at]].writer : NONE;
}

static inline void depend(history *h, uint32_t from, uint32_t to, int kind, uint32_t key) {
  if (from == NONE || to == NONE || from == to)
    return;
  ADD(h->edges, (edge){from, to, key, (unsigned char)kind});
  h->dependencies[kind]++;
}

/* What a transaction has read of a key before its own appends: so many numbers. */
typedef struct look {
  uint32_t key;
  size_t n;
} look;
typedef ARRAY(look) looks;

/* Whether the transaction's reads of the key all have found so many numbers of others. */
static inline bool look_again(looks *looks, uint32_t key, size_t n) {
  for (size_t i = 0; i < looks->n; i++)
    if (looks->items[i].key == key)
      return looks->items[i].n == n;
  ADD(*looks, (look){key, n});
  return true;
}

static inline void check_read(history *h, uint32_t t, const operation *o, const own *own, looks *looks) {
  const uint32_t *numbers = h->numbers.items + o->at;
  const last_list *last = &h->lists.items[o->key];
  size_t n = o->n, mine = own->appends.n;
  while (mine-- > 0) { /* its own appends come last */
    const operation *append = own->appends.items[mine];
    if (append->key != o->key)
      continue;
    if (n == 0 || numbers[n - 1] != append->number) {
      find(h, t, "own append not seen", "%u of " KEY_FORMAT, append->number, KEY_ARGS(o->key));
      return;
    }
    n--;
  }
  for (size_t i = 0; i < n; i++) {
    const char *wrong = wrong_number(h, numbers[i], o->key);
    if (wrong == NULL && (i >= last->n || numbers[i] != last->numbers[i]))
      wrong = "not a prefix";
    if (wrong != NULL) {
      find(h, t, wrong, "%u was read in " KEY_FORMAT, numbers[i], KEY_ARGS(o->key));
      return;
    }
  }
  if (!look_again(looks, o->key, n))
    find(h, t, "second look", KEY_FORMAT " has changed", KEY_ARGS(o->key));
  uint32_t writer = n > 0 ? writer_at(h, o->key, n - 1) : NONE, next = writer_at(h, o->key, n);
  if (writer != NONE && writer == next && writer != t)
    find(h, t, "G1b", "after %u of " KEY_FORMAT " its transaction appended more", numbers[n - 1], KEY_ARGS(o->key));
  depend(h, writer, t, WR, o->key);
  depend(h, t, next, RW, o->key);
}

static inline void check_reads(history *h) {
  own own = {{NULL}};
  looks looks = {NULL};
  for (uint32_t t = 0; t < h->transactions.n; t++) {
    const transaction *tr = &h->transactions.items[t];
    own.appends.n = own.savepoints.n = looks.n = 0;
    for (size_t i = 0; !tr->is_last && i < tr->n; i++) {
      const operation *o = &h->operations.items[tr->first + i];
      if (o->kind == '=')
        check_read(h, t, o, &own, &looks);
      else
        follow_own(h, &own, o);
    }
  }
  free(own.appends.items);
  free(own.savepoints.items);
  free(looks.items);
}

static inline void note_orders_of_lists(history *h) {
  for (uint32_t key = 0; key < h->lists.room; key++)
    for (size_t i = 1; i < h->lists.items[key].n; i++)
      depend(h, writer_at(h, key, i - 1), writer_at(h, key, i), WW, key);
}

typedef struct ended {
  uint64_t time;
  uint32_t t;
} ended;

static inline int compare_ends(const void *a, const void *b) {
  const ended *one = a, *other = b;
  return one->time < other->time ? -1 : one->time > other->time;
}

/*
** rt for all pairs would be too many edges. So each end of a transaction is a node too. These nodes are a chain in the
** order of time: a transaction leads to its end, and the last end before its begin leads to it. Returns their number.
*/
static inline uint32_t note_real_time(history *h) {
  ARRAY(ended) ends = {NULL};
  for (uint32_t t = 0; t < h->transactions.n; t++)
    if (h->transactions.items[t].outcome != '?')
      ADD(ends, (ended){h->transactions.items[t].end, t});
  if (ends.n > 0)
    qsort(ends.items, ends.n, sizeof *ends.items, compare_ends);
  const uint32_t first = (uint32_t)h->transactions.n;
  for (uint32_t i = 0; i < ends.n; i++) {
    depend(h, ends.items[i].t, first + i, RT, 0);
    if (i > 0)
      depend(h, first + i - 1, first + i, RT, 0);
  }
  for (uint32_t t = 0; t < h->transactions.n; t++) {
    uint32_t low = 0, high = (uint32_t)ends.n; /* so many ends lie before it */
    while (low < high) {
      uint32_t middle = (low + high) / 2;
      if (ends.items[middle].time < h->transactions.items[t].begin)
        low = middle + 1;
      else
        high = middle;
    }
    if (low > 0)
      depend(h, first + low - 1, t, RT, 0);
  }
  free(ends.items);
  return (uint32_t)ends.n;
}

/* ------------------------------------------------------------------------------------------------------------------ */

/* Checks what was added; history.kinds and history.findings tell the result. */
static inline void history_check(history *h) {
  GROW(h->lists, 1);
  note_appends(h);
  note_last_lists(h);
  check_nothing_is_lost(h);
  note_orders_of_lists(h);
  check_reads(h);
  uint32_t ends = note_real_time(h);
  check_cycles(h, (uint32_t)h->transactions.n + ends);
  for (size_t t = 0; t < h->transactions.n; t++) {
    const transaction *tr = &h->transactions.items[t];
    h->committed += tr->outcome == 'c';
    h->rolled_back += tr->outcome == 'x';
    h->unknown += tr->outcome == '?';
    h->unknown_seen += tr->outcome == '?' && tr->is_seen;
  }
}

#endif
