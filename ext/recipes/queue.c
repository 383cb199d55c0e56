/*
** queue.c - a queue of jobs between the threads of a process: first in, first out, each job to one worker
**
** Each thread has a connection of its own. A worker without a job sleeps until something is put.
*/
#include <sqlite3.h>
#include <stddef.h>

static const char tables[] = "CREATE VIRTUAL TABLE temp.job USING walmap(map='jobs', ordered=1);"
                             "CREATE VIRTUAL TABLE temp.ticket USING walmap(map='tickets')";

/* An SQLite code. The queue lives as long as some connection to it is open. */
int queue_open(sqlite3 **db) {
  int rc = sqlite3_open(":memory:", db);
  if (rc != SQLITE_OK || (rc = sqlite3_enable_load_extension(*db, 1)) != SQLITE_OK ||
      (rc = sqlite3_load_extension(*db, "./walmap", NULL, NULL)) != SQLITE_OK)
    return rc;
  return sqlite3_exec(*db, tables, NULL, NULL, NULL);
}

/* The first value of the rows that is not NULL, or NULL: a copy, so nothing of the map is held. */
static sqlite3_value *ask(sqlite3 *db, const char *sql, const sqlite3_value *position, int ms) {
  sqlite3_stmt *s = NULL;
  sqlite3_value *answer = NULL;
  sqlite3_prepare_v2(db, sql, -1, &s, NULL);
  if (position != NULL) {
    sqlite3_bind_value(s, 1, position);
    sqlite3_bind_int(s, 2, ms);
  }
  while (answer == NULL && sqlite3_step(s) == SQLITE_ROW) {
    if (sqlite3_column_type(s, 0) != SQLITE_NULL)
      answer = sqlite3_value_dup(sqlite3_column_value(s, 0));
  }
  sqlite3_finalize(s);
  return answer;
}

/* An SQLite code; after SQLITE_BUSY try again. No number comes twice: a worker may walk over keys of a moment ago. */
int queue_put(sqlite3 *db, const char *job) {
  const char *sql = "INSERT INTO job VALUES(walmap_upsert('ticket', 0, 1, 'value + 1'), ?)";
  sqlite3_stmt *s = NULL;
  int rc = sqlite3_prepare_v2(db, sql, -1, &s, NULL);
  sqlite3_bind_text(s, 1, job, -1, SQLITE_STATIC);
  sqlite3_step(s);
  return rc == SQLITE_OK ? sqlite3_finalize(s) : rc;
}

/* Waits `ms` at most. NULL when it got none: call it again. Else sqlite3_value_text tells it; sqlite3_value_free it. */
sqlite3_value *queue_take(sqlite3 *db, int ms) {
  const char *first = "SELECT walmap_remove('job', key) FROM job ORDER BY key"; /* NULL where another was faster */
  sqlite3_value *position = ask(db, "SELECT walmap_position('job')", NULL, 0);  /* before it looks: no put is missed */
  sqlite3_value *job = ask(db, first, NULL, 0);
  sqlite3_value *news = job == NULL ? ask(db, "SELECT walmap_wait('job', ?, ?)", position, ms) : NULL;
  if (news != NULL)
    job = ask(db, first, NULL, 0);
  sqlite3_value_free(position);
  sqlite3_value_free(news);
  return job;
}
