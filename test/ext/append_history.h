/*
** append_history.h - histories: transactions on lists, recorded by several processes
**
** A history is text, a line for each transaction:
**
**    T10 a1=1,2 a1+3 ( n7+4 ) o2= ! c20
**
**    T10       it began at 10, by a clock that all processes share
**    a1=1,2    it read key 1 of table a, and found the list 1, 2; "o2=" is an empty list, or an absent key
**    a1+3      it appended 3 to that list; all appended numbers of a history differ
**    ( ) /     SAVEPOINT; ROLLBACK TO and RELEASE of the last one; RELEASE of the last one
**    !         it is about to commit: without this and without an outcome the line is left out
**    c20, x20  it was committed, or rolled back, before 20. Neither: the process was killed, so it may be either
**
** A line that begins with F instead of T is the transaction that reads all keys when all is over.
**
** append_check.h checks it.
*/
#ifndef TEST_APPEND_HISTORY_H
#define TEST_APPEND_HISTORY_H

#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WW = 1, WR = 2, RW = 4, RT = 8, TABLES = 26, MOST_FINDINGS = 10 };

typedef struct operation {
  char kind;       /* '+', '=', '(', ')' or '/' */
  uint32_t key;    /* its number * TABLES + its table */
  uint32_t number; /* '+' */
  size_t at, n;    /* '=': the list, in history.numbers */
} operation;

typedef struct transaction {
  const char *line;
  uint64_t begin, end;
  char outcome;    /* 'c', 'x' or '?' */
  bool is_last;    /* it reads all keys when all is over */
  bool is_seen;    /* something that it appended is in a last list */
  size_t first, n; /* in history.operations */
} transaction;

typedef struct appended {
  uint32_t writer; /* the transaction; NONE: no transaction appended this number */
  uint32_t key;
  bool undone;     /* by ROLLBACK TO */
  bool is_in_list; /* in the last list of its key */
} appended;

typedef struct edge {
  uint32_t from, to, key;
  unsigned char kind;
} edge;

/* An array that grows. */
#define ARRAY(type)                                                                                                    \
  struct {                                                                                                             \
    type *items;                                                                                                       \
    size_t n, room;                                                                                                    \
  }
#define NONE UINT32_MAX

typedef struct last_list {
  const uint32_t *numbers; /* NULL: empty */
  size_t n;
} last_list;

typedef struct history {
  ARRAY(transaction) transactions;
  ARRAY(operation) operations;
  ARRAY(uint32_t) numbers;
  ARRAY(appended) appends; /* by number */
  ARRAY(last_list) lists;  /* by key */
  ARRAY(edge) edges;
  size_t committed, rolled_back, unknown, unknown_seen, dependencies[RT + 1];
  int findings;
  char kinds[200]; /* of the findings, each once */
  bool quiet;
} history;

static inline void *grow(void *items, size_t *room, size_t n, size_t size) {
  if (n <= *room)
    return items;
  size_t more = n + n / 2 + 64;
  items = realloc(items, more * size);
  if (items == NULL)
    abort();
  memset((char *)items + *room * size, 0, (more - *room) * size);
  *room = more;
  return items;
}

#define GROW(array, count) ((array).items = grow((array).items, &(array).room, (count), sizeof *(array).items))
#define ADD(array, ...) (GROW(array, (array).n + 1), (array).items[(array).n++] = (__VA_ARGS__))

static inline void history_free(history *h) {
  free(h->transactions.items);
  free(h->operations.items);
  free(h->numbers.items);
  free(h->appends.items);
  free(h->lists.items);
  free(h->edges.items);
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Findings                                                                                                           */

static inline void print_line(const history *h, uint32_t t) {
  enum { MOST = 1000 };
  const char *line = h->transactions.items[t].line;
  int size = (int)strcspn(line, "\n");
  printf("    %.*s%s\n", size < MOST ? size : MOST, line, size < MOST ? "" : "...");
}

/* Something is wrong with transaction t. */
static inline void find(history *h, uint32_t t, const char *kind, const char *format, ...) {
  if (strstr(h->kinds, kind) == NULL) {
    size_t n = strlen(h->kinds);
    snprintf(h->kinds + n, sizeof h->kinds - n, "%s%s", n > 0 ? ", " : "", kind);
  }
  if (h->findings++ >= MOST_FINDINGS || h->quiet)
    return;
  va_list args;
  va_start(args, format);
  printf("FAILED: %s: ", kind);
  vprintf(format, args);
  printf("\n");
  va_end(args);
  print_line(h, t);
}

#define KEY_FORMAT "%c%u"
#define KEY_ARGS(key) (char)('a' + (key) % TABLES), (key) / TABLES

/* ------------------------------------------------------------------------------------------------------------------ */
/* Reading the text                                                                                                   */

static inline void read_list(history *h, operation *o, char *at) {
  o->at = h->numbers.n;
  while (*at >= '0' && *at <= '9') {
    ADD(h->numbers, (uint32_t)strtoul(at, &at, 10));
    at += *at == ',';
  }
  o->n = h->numbers.n - o->at;
}

static inline void read_operation(history *h, const char *word) {
  operation o = {.kind = *word};
  if (*word >= 'a' && *word <= 'z') {
    char *at;
    o.key = (uint32_t)(strtoul(word + 1, &at, 10) * TABLES + (unsigned)(*word - 'a'));
    o.kind = *at++;
    if (o.kind == '+')
      o.number = (uint32_t)strtoul(at, NULL, 10);
    else
      read_list(h, &o, at);
    GROW(h->lists, o.key + 1);
  }
  ADD(h->operations, o);
}

/* Adds the transactions of a text, which must stay and have a newline before its end. */
static inline void history_add(history *h, const char *text) {
  const char *end;
  for (const char *line = text; *line != 0; line = *end == 0 ? end : end + 1) {
    transaction t = {line, strtoull(line + 1, NULL, 10), UINT64_MAX, '?', *line == 'F', false, h->operations.n, 0};
    bool tried = false;
    end = line + strcspn(line, "\n");
    for (const char *word = line + strcspn(line, " \n"); word < end; word += strcspn(word, " \n")) {
      word++;
      if (*word == '!')
        tried = true;
      else if ((*word == 'c' || *word == 'x') && *end == '\n' && memchr(word, ' ', (size_t)(end - word)) == NULL) {
        t.outcome = *word;
        t.end = strtoull(word + 1, NULL, 10);
      } else
        read_operation(h, word);
    }
    t.n = h->operations.n - t.first;
    if (tried || t.outcome != '?')
      ADD(h->transactions, t);
  }
}

#endif
