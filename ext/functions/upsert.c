/*
** upsert.c - the expressions of walmap_upsert: see upsert.h
**
** The cache is a list of at most KEPT expressions, the last used one first. An expression leaves the list while it is
** evaluated: it may run any SQL, which may have the expressions of the list finalized.
*/
#include "functions/upsert.h"

#include "schema/control.h"

#include <string.h>

SQLITE_EXTENSION_INIT3

#define KEPT 8

typedef struct wm_upsert {
  sqlite3_stmt *statement;
  struct wm_upsert *next;
  bool may_use_initial; /* binding it may cost a copy */
  int size;
  char text[]; /* of `size` bytes */
} wm_upsert;

/* ------------------------------------------------------------------------------------------------------------------ */
/* Preparing                                                                                                          */

static int refuse_expression(char **err, const char *why) {
  *err =
      sqlite3_mprintf("walmap_upsert: the third argument must be one expression over key, value and initial: %s", why);
  return SQLITE_ERROR;
}

static bool is_blank(const char *text) {
  while (*text == ' ' || (*text >= '\t' && *text <= '\r'))
    text++;
  return *text == 0;
}

/* Prepares the expression in a form. The form has a line end behind the expression, which ends a comment in it. */
static int prepare_over(sqlite3 *db, const char *form, const char *text, int size, sqlite3_stmt **out, char **err) {
  char *sql = sqlite3_mprintf(form, size, text);
  if (sql == NULL)
    return SQLITE_NOMEM;
  const char *tail;
  int rc = sqlite3_prepare_v3(db, sql, -1, SQLITE_PREPARE_PERSISTENT, out, &tail);
  if (rc != SQLITE_OK)
    rc = rc == SQLITE_ERROR ? refuse_expression(err, sqlite3_errmsg(db)) : rc;
  else if (!is_blank(tail))
    rc = refuse_expression(err, "it is more than one statement");
  else if (sqlite3_column_count(*out) != 1)
    rc = refuse_expression(err, "it is more than one value");
  sqlite3_free(sql);
  return rc;
}

/*
** Checks the text in two pairs of parentheses, where prepare_expression uses one. Text that closes a parenthesis and
** goes on, like '1) UNION SELECT (2', fails in one of the two. It may have no parameters: they would be taken for
** walmap's.
*/
static int check_expression(sqlite3 *db, const char *text, int size, char **err) {
  sqlite3_stmt *statement = NULL;
  int rc = prepare_over(db, "SELECT ((%.*s\n)) FROM (SELECT NULL AS key, NULL AS value, NULL AS initial)", text, size,
                        &statement, err);
  if (rc == SQLITE_OK && sqlite3_bind_parameter_count(statement) > 0)
    rc = refuse_expression(err, "it has parameters");
  sqlite3_finalize(statement);
  return rc;
}

static int prepare_expression(sqlite3 *db, const char *text, int size, sqlite3_stmt **out, char **err) {
  if (memchr(text, 0, (size_t)size) != NULL)
    return refuse_expression(err, "it has a NUL inside");
  sqlite3_stmt *statement = NULL;
  int rc = check_expression(db, text, size, err);
  if (rc == SQLITE_OK)
    rc = prepare_over(db, "SELECT (%.*s\n) FROM (SELECT ?1 AS key, ?2 AS value, ?3 AS initial)", text, size, &statement,
                      err);
  if (rc != SQLITE_OK)
    sqlite3_finalize(statement);
  else
    *out = statement;
  return rc;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* The cache                                                                                                          */

static void free_upsert(wm_upsert *upsert) {
  sqlite3_finalize(upsert->statement);
  sqlite3_free(upsert);
}

void wm_upsert_forget(wm_table *table) {
  while (table->upserts != NULL) {
    wm_upsert *upsert = table->upserts;
    table->upserts = upsert->next; /* first, because finalizing may disconnect the table */
    free_upsert(upsert);
  }
}

/* Takes the expression out of the list. NULL when it is not there. */
static wm_upsert *take_kept(wm_table *table, const char *text, int size) {
  for (wm_upsert **at = &table->upserts; *at != NULL; at = &(*at)->next) {
    wm_upsert *upsert = *at;
    if (upsert->size == size && memcmp(upsert->text, text, (size_t)size) == 0) {
      *at = upsert->next;
      return upsert;
    }
  }
  return NULL;
}

static void put_first(wm_table *table, wm_upsert *upsert) {
  upsert->next = table->upserts;
  table->upserts = upsert;
  wm_upsert **at = &upsert->next;
  for (int n = 1; n < KEPT && *at != NULL; n++)
    at = &(*at)->next;
  wm_upsert *last = *at;
  if (last != NULL) {
    *at = last->next;
    free_upsert(last);
  }
}

static bool has_word(const char *text, int size, const char *word) {
  int length = (int)strlen(word);
  for (int i = 0; i + length <= size; i++) {
    if (sqlite3_strnicmp(text + i, word, length) == 0)
      return true;
  }
  return false;
}

/* Takes the expression from the list, or prepares it. */
static int obtain_upsert(wm_table *table, const char *text, int size, wm_upsert **out, char **err) {
  wm_upsert *upsert = take_kept(table, text, size);
  int rc = SQLITE_OK;
  if (upsert == NULL) {
    upsert = sqlite3_malloc64(sizeof *upsert + (size_t)size);
    if (upsert == NULL)
      return SQLITE_NOMEM;
    upsert->size = size;
    memcpy(upsert->text, text, (size_t)size);
    upsert->may_use_initial = has_word(text, size, "initial");
    rc = prepare_expression(table->conn->db, text, size, &upsert->statement, err);
  }
  if (rc == SQLITE_OK)
    *out = upsert;
  else
    sqlite3_free(upsert);
  return rc;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Evaluating                                                                                                         */

int wm_upsert_begin(wm_table *table, sqlite3_value *expression, wm_upsert_run *run, char **err) {
  const char *text = (const char *)sqlite3_value_text(expression);
  run->changes = table->conn->changes;
  return text == NULL ? SQLITE_NOMEM : obtain_upsert(table, text, sqlite3_value_bytes(expression), &run->upsert, err);
}

int wm_upsert_evaluate(wm_table *table, const walmap_entry *entry, sqlite3_value *initial, wm_upsert_run *run,
                       char **err) {
  sqlite3_stmt *statement = run->upsert->statement;
  int rc = wm_codec_bind(statement, 1, entry);
  if (rc == SQLITE_OK && run->upsert->may_use_initial)
    rc = sqlite3_bind_value(statement, 3, initial);
  if (rc == SQLITE_OK && (rc = sqlite3_step(statement)) == SQLITE_ROW) {
    run->value = sqlite3_column_value(statement, 0);
    return SQLITE_OK;
  }
  if (rc == SQLITE_DONE)
    return refuse_expression(err, "it has no value");
  *err = sqlite3_mprintf("%s", sqlite3_errmsg(table->conn->db));
  return rc;
}

void wm_upsert_end(wm_table *table, wm_upsert_run *run) {
  sqlite3_reset(run->upsert->statement);
  sqlite3_clear_bindings(run->upsert->statement);
  if (run->changes == table->conn->changes && wm_control_watch_close(table->conn) == SQLITE_OK)
    put_first(table, run->upsert);
  else
    free_upsert(run->upsert); /* the table may be gone */
}
