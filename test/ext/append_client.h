/*
** append_client.h - a connection that appends numbers to lists, in all the ways that there are, and writes down what it
** did and saw: the statements of durable_histories.c
**
** The lists are texts as ",1,2,3" in two durable tables, a and o (which is ordered), and an ordinary one, n. What is
** written down is as append_history.h has it. A list is in use until it is long; then another key takes its place.
*/
#ifndef TEST_APPEND_CLIENT_H
#define TEST_APPEND_CLIENT_H

#include "append_history.h"
#include "processes.h"

#include <time.h>

/* ------------------------------------------------------------------------------------------------------------------ */
/* Writing down what a process does                                                                                   */

enum { SLOTS = 4, LONGEST = 24 }; /* lists of a table that are in use; numbers after which another list takes a place */

static const char tables[] = "aon";

typedef struct board {
  atomic_int next_number;
  atomic_int generation[3][SLOTS]; /* a list's key is that times SLOTS, and its slot */
  atomic_long committed, failures;
  atomic_bool stop;
} board;

static board *told;

static void tell_on_board(bool create) {
  told = map_board(sizeof *told, create);
  complaints = &told->failures;
}

typedef struct client {
  sqlite3 *db;
  uint64_t random;
  bool writes; /* more than it reads */
  int log;
  char *line; /* what is not yet in the log */
  size_t size, room;
  uint64_t first_read; /* when the transaction's first read returned; 0: none has */
} client;

typedef struct list {
  int table, number;
} list;

static uint64_t now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void note(client *c, const char *format, ...) {
  va_list args;
  va_start(args, format);
  char *text = sqlite3_vmprintf(format, args);
  va_end(args);
  size_t size = strlen(text);
  c->line = grow(c->line, &c->room, c->size + size, 1);
  memcpy(c->line + c->size, text, size);
  c->size += size;
  sqlite3_free(text);
}

static void write_down(client *c) {
  if (write(c->log, c->line, c->size) != (ssize_t)c->size)
    complain("the log cannot be written", NULL);
  c->size = 0;
}

static void begin_line(client *c) {
  c->first_read = 0;
  note(c, "T%llu", (unsigned long long)now());
}

static void end_line(client *c, char outcome, uint64_t time) {
  note(c, " %c%llu\n", outcome, (unsigned long long)time);
  write_down(c);
  if (outcome == 'c')
    atomic_fetch_add(&told->committed, 1);
}

/* Before what may commit: from here on the outcome is unknown if the process is killed. */
static void note_try(client *c) {
  note(c, " !");
  write_down(c);
}

/* A list as a table has it: ",1,2,3", or NULL. */
static void note_read(client *c, list l, const char *text) {
  int length = 0;
  for (const char *at = text; at != NULL && *at != 0; at++)
    length += *at == ',';
  note(c, " %c%d=%s", tables[l.table], l.number, text != NULL && *text != 0 ? text + 1 : "");
  int generation = l.number / SLOTS;
  if (length >= LONGEST)
    atomic_compare_exchange_strong(&told->generation[l.table][l.number % SLOTS], &generation, generation + 1);
}

static list pick_list(client *c, int among) {
  list l = {.table = pick(&c->random, among)};
  int slot = pick(&c->random, SLOTS), generation = atomic_load(&told->generation[l.table][slot]);
  l.number = generation * SLOTS + slot;
  return l;
}

static int pick_number(client *c, list l) {
  int number = 1 + atomic_fetch_add(&told->next_number, 1);
  note(c, " %c%d+%d", tables[l.table], l.number, number);
  return number;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Statements                                                                                                         */

/* The lists that the columns of a row are; the first row is read, or NULLs if there is none. */
typedef struct columns {
  int n;
  list lists[3];
} columns;

/*
** Runs the statement, and frees its text; notes the lists that it returns. False when the file is locked. *first, if
** not NULL, becomes the first column as text, from sqlite3_malloc: empty where there is none, NULL where it fails.
*/
static bool ask(client *c, const columns *columns, char **first, char *sql) {
  sqlite3_stmt *statement = NULL;
  if (first != NULL)
    *first = NULL;
  int rc = sqlite3_prepare_v2(c->db, sql, -1, &statement, NULL), step = rc == SQLITE_OK ? sqlite3_step(statement) : rc;
  if (step == SQLITE_ROW || step == SQLITE_DONE) {
    for (int i = 0; columns != NULL && i < columns->n; i++)
      note_read(c, columns->lists[i], step == SQLITE_ROW ? (const char *)sqlite3_column_text(statement, i) : NULL);
    if (first != NULL)
      *first = sqlite3_mprintf("%s", step == SQLITE_ROW ? (const char *)sqlite3_column_text(statement, 0) : NULL);
    while (step == SQLITE_ROW)
      step = sqlite3_step(statement);
  }
  if (step != SQLITE_DONE && (step & 0xff) != SQLITE_BUSY)
    complain(sql, c->db);
  sqlite3_finalize(statement);
  sqlite3_free(sql);
  if (c->first_read == 0)
    c->first_read = now();
  return step == SQLITE_DONE;
}

static bool change(client *c, char *sql) { return ask(c, NULL, NULL, sql); }

/* An expression that is the list's value; by a function at times. */
static char *value_of(client *c, list l) {
  return l.table < 2 && pick(&c->random, 2)
             ? sqlite3_mprintf("walmap_get('%c', %d)", tables[l.table], l.number)
             : sqlite3_mprintf("(SELECT value FROM %c WHERE key = %d)", tables[l.table], l.number);
}

/* Lists of several tables in one statement. */
static bool read_together(client *c) {
  columns columns = {1 + pick(&c->random, 3), {{0}}};
  char *sql = NULL;
  for (int i = 0; i < columns.n; i++) {
    columns.lists[i] = pick_list(c, 3);
    char *value = value_of(c, columns.lists[i]);
    sql = i == 0 ? sqlite3_mprintf("SELECT %s", value) : sqlite3_mprintf("%z, %s", sql, value);
    sqlite3_free(value);
  }
  return ask(c, &columns, NULL, sql);
}

/* A range of each table in one statement: as many lists as there are slots, some of them absent perhaps. */
static bool read_ranges(client *c) {
  char *texts[3][SLOTS] = {{NULL}};
  int first[3], step;
  for (int t = 0; t < 3; t++)
    first[t] = atomic_load(&told->generation[t][pick(&c->random, SLOTS)]) * SLOTS;
  char *sql =
      sqlite3_mprintf("SELECT 0, key, value FROM a WHERE key BETWEEN %d AND %d UNION ALL "
                      "SELECT 1, key, value FROM o WHERE key BETWEEN %d AND %d UNION ALL "
                      "SELECT 2, key, value FROM n WHERE key BETWEEN %d AND %d",
                      first[0], first[0] + SLOTS - 1, first[1], first[1] + SLOTS - 1, first[2], first[2] + SLOTS - 1);
  sqlite3_stmt *statement = NULL;
  if ((step = sqlite3_prepare_v2(c->db, sql, -1, &statement, NULL)) == SQLITE_OK)
    step = SQLITE_ROW;
  while (step == SQLITE_ROW && (step = sqlite3_step(statement)) == SQLITE_ROW) {
    int t = sqlite3_column_int(statement, 0);
    texts[t][sqlite3_column_int(statement, 1) - first[t]] = sqlite3_mprintf("%s", sqlite3_column_text(statement, 2));
  }
  if (step != SQLITE_DONE && (step & 0xff) != SQLITE_BUSY)
    complain(sql, c->db);
  sqlite3_finalize(statement);
  sqlite3_free(sql);
  if (c->first_read == 0)
    c->first_read = now();
  for (int t = 0; t < 3; t++) {
    for (int i = 0; i < SLOTS; i++) {
      if (step == SQLITE_DONE)
        note_read(c, (list){t, first[t] + i}, texts[t][i]);
      sqlite3_free(texts[t][i]);
    }
  }
  return step == SQLITE_DONE;
}

static bool read_something(client *c) { return pick(&c->random, 5) == 0 ? read_ranges(c) : read_together(c); }

/* ------------------------------------------------------------------------------------------------------------------ */
/* Appending: false when the file is locked                                                                           */

/* *none: there was no such list, and nothing has been done. */
static bool append_by_update(client *c, list l, int number, bool *none) {
  bool fine = change(
      c, sqlite3_mprintf("UPDATE %c SET value = value || ',%d' WHERE key = %d", tables[l.table], number, l.number));
  *none = fine && sqlite3_changes(c->db) == 0;
  return fine;
}

static bool append_by_replace(client *c, list l, int number) {
  char t = tables[l.table];
  return change(c,
                sqlite3_mprintf("REPLACE INTO %c(key, value) SELECT %d, coalesce((SELECT value FROM %c WHERE key = %d"
                                "), '') || ',%d'",
                                t, l.number, t, l.number, number));
}

static bool append_by_upsert(client *c, list l, int number) {
  const columns result = {1, {l}};
  return ask(c, &result, NULL,
             l.table == 2 ? sqlite3_mprintf("INSERT INTO n VALUES(%d, ',%d') ON CONFLICT DO UPDATE "
                                            "SET value = value || excluded.value RETURNING value",
                                            l.number, number)
                          : sqlite3_mprintf("SELECT walmap_upsert('%c', %d, ',%d', 'value || initial')",
                                            tables[l.table], l.number, number));
}

/* In a transaction, which reads the list first. */
static bool append_to_what_was_read(client *c, list l) {
  const columns result = {1, {l}};
  char *read, t = tables[l.table];
  if (!ask(c, &result, &read, sqlite3_mprintf("SELECT %z", value_of(c, l))))
    return false;
  char *text = sqlite3_mprintf("%s,%d", read, pick_number(c, l));
  bool fine = true;
  switch (pick(&c->random, l.table == 2 ? 2 : 3)) {
  case 0:
    fine = change(c, sqlite3_mprintf("REPLACE INTO %c(key, value) VALUES(%d, '%s')", t, l.number, text));
    break;
  case 1:
    fine = change(c, sqlite3_mprintf("DELETE FROM %c WHERE key = %d", t, l.number)) &&
           change(c, sqlite3_mprintf("INSERT INTO %c(key, value) VALUES(%d, '%s')", t, l.number, text));
    break;
  default:
    fine = change(c, sqlite3_mprintf("SELECT walmap_set('%c', %d, '%s')", t, l.number, text));
    break;
  }
  sqlite3_free(read);
  sqlite3_free(text);
  return fine;
}

static bool append_in_transaction(client *c) {
  list l = pick_list(c, 3);
  int number;
  bool none;
  switch (pick(&c->random, 5)) {
  case 0:
    number = pick_number(c, l);
    if (!append_by_update(c, l, number, &none))
      return false;
    return !none || change(c, sqlite3_mprintf("INSERT INTO %c(key, value) VALUES(%d, ',%d')", tables[l.table], l.number,
                                              number));
  case 1:
    return append_by_replace(c, l, pick_number(c, l));
  case 2:
    return append_by_upsert(c, l, pick_number(c, l));
  case 3:
    l.table = pick(&c->random, 2);
    number = pick_number(c, l);
    return change(c, sqlite3_mprintf("SELECT walmap_set('%c', %d, coalesce(walmap_get('%c', %d), '') || ',%d')",
                                     tables[l.table], l.number, tables[l.table], l.number, number));
  default:
    return append_to_what_was_read(c, l);
  }
}

/* Outside of a transaction. *none: the list was no longer what was read, and nothing has been done. */
static bool append_if_unchanged(client *c, list l, const char *read, int number, bool *none) {
  char *changed, t = tables[l.table];
  bool fine = ask(
      c, NULL, &changed,
      *read == 0 ? sqlite3_mprintf("SELECT walmap_set_if_absent('%c', %d, ',%d')", t, l.number, number)
                 : sqlite3_mprintf("SELECT walmap_set_if('%c', %d, '%s', '%s,%d')", t, l.number, read, read, number));
  *none = fine && strcmp(changed, "0") == 0;
  sqlite3_free(changed);
  return fine;
}

#endif
