/*
** bench_cost.c - what walmap costs a process that hardly uses it: the time to load it, and resident memory with an
** empty map, with one entry, and with many maps of one entry each
**
**   bench_cost [quick|full]
**
** Each sample is a process of its own, which goes through the steps below once: with the extension, or with SQLite's
** own tables. The program's and the library's pages are in the system's cache, as they are where processes come and go.
*/
#include "report.h"
#include "sql.h"

#include <sys/wait.h>

enum { MANY = 100 };

typedef enum step { LOAD, CREATE, FIRST_INSERT, FIRST_GET, MANY_MAPS, STEPS } step;

static const char *const step_name[] = {"loading the extension", "creating an empty table", "the first insert",
                                        "the first get", "100 tables with an entry, each"};

/* What each step took and added, in one process. */
typedef struct cost {
  double us[STEPS], resident[STEPS], own[STEPS]; /* KiB; `own` without the pages that stand in a file */
} cost;

typedef struct memory {
  double resident, own;
} memory;

/* Linux counts in /proc/self/smaps_rollup page by page; what it tells elsewhere lags behind. */
static memory memory_now(void) {
  memory m = {NAN, NAN};
  char line[256];
  FILE *f = fopen("/proc/self/smaps_rollup", "r");
  while (f && fgets(line, sizeof line, f)) {
    sscanf(line, "Rss: %lf", &m.resident);
    sscanf(line, "Anonymous: %lf", &m.own);
  }
  if (f)
    fclose(f);
  return m;
}

static void take_step(sqlite3 *db, step s, bool native) {
  char sql[128];
  const char *create =
      native ? "CREATE TABLE kv%d(key PRIMARY KEY, value) WITHOUT ROWID" : "CREATE VIRTUAL TABLE kv%d USING walmap";
  switch (s) {
  case LOAD:
    if (!native)
      must_load_walmap(db);
    return;
  case CREATE:
    snprintf(sql, sizeof sql, create, 0);
    must_sql(db, sql);
    return;
  case FIRST_INSERT:
    must_sql(db, "INSERT INTO kv0 VALUES('alice', 'online')");
    return;
  case FIRST_GET:
    must_sql(db, "SELECT value FROM kv0 WHERE key = 'alice'");
    return;
  default:
    for (int i = 1; i <= MANY; i++) {
      snprintf(sql, sizeof sql, create, i);
      must_sql(db, sql);
      snprintf(sql, sizeof sql, "INSERT INTO kv%d VALUES('alice', 'online')", i);
      must_sql(db, sql);
    }
  }
}

/* In the process of its own. */
static void measure(bool native, FILE *out) {
  sqlite3 *db;
  cost c;
  choose_statistics();
  MUST(sqlite3_open(":memory:", &db) == SQLITE_OK);
  must_sql(db, "CREATE TABLE other(a); INSERT INTO other VALUES(1); SELECT a FROM other"); /* SQLite is at work */
  for (step s = LOAD; s < STEPS; s++) {
    memory before = memory_now();
    uint64_t began = now_ns();
    take_step(db, s, native);
    c.us[s] = (double)(now_ns() - began) / 1e3;
    memory after = memory_now();
    int parts = s == MANY_MAPS ? MANY : 1;
    c.us[s] /= parts;
    c.resident[s] = (after.resident - before.resident) / parts;
    c.own[s] = (after.own - before.own) / parts;
  }
  MUST(fwrite(&c, sizeof c, 1, out) == 1 && fclose(out) == 0);
}

/* A new process, for what this one has touched before would be there in a copy of it. */
static cost measure_apart(const char *program, const char *who) {
  cost c;
  int ends[2];
  MUST(pipe(ends) == 0);
  fflush(NULL);
  pid_t child = fork();
  MUST(child >= 0);
  if (child == 0) {
    MUST(dup2(ends[1], STDOUT_FILENO) == STDOUT_FILENO);
    execl(program, program, who, (char *)NULL);
    _exit(127);
  }
  close(ends[1]);
  FILE *in = fdopen(ends[0], "r");
  MUST(in && fread(&c, sizeof c, 1, in) == 1);
  fclose(in);
  MUST(waitpid(child, NULL, 0) == child);
  return c;
}

static void sample(report *r, const char *who, const cost *c) {
  char name[64];
  for (step s = LOAD; s < STEPS; s++) {
    report_sample(r, step_name[s], who, c->us[s]);
    snprintf(name, sizeof name, "%s, adds", step_name[s]);
    report_sample(r, name, who, c->resident[s]);
    snprintf(name, sizeof name, "%s, of its own", step_name[s]);
    report_sample(r, name, who, c->own[s]);
  }
}

int main(int argc, char **argv) {
  static const char *const sides[] = {"walmap", "native"};
  const char *what = argc > 1 ? argv[1] : "full";
  for (int i = 0; i < 2; i++) {
    if (!strcmp(what, sides[i])) {
      measure(i == 1, stdout);
      return 0;
    }
  }
  bool full = !strcmp(what, "full");
  MUST(full || !strcmp(what, "quick"));
  report *r = report_open("bench_cost", sqlite_version(choose_statistics()));
  report_title(r, "a process that hardly uses it");
  for (int round = 0; round <= (full ? 51 : 11); round++) {
    for (int turn = 0; turn < 2; turn++) {
      const char *who = sides[turn_of(round, turn, 2)];
      cost c = measure_apart(argv[0], who);
      sample(r, who, &c);
    }
  }
  for (step s = LOAD; s < STEPS; s++) {
    char name[64];
    const char *peer = s == LOAD ? NULL : "native";
    report_row(r, step_name[s], "us", peer, NO_TARGET, 0);
    snprintf(name, sizeof name, "%s, adds", step_name[s]);
    report_row(r, name, "KiB", peer, NO_TARGET, 0);
    snprintf(name, sizeof name, "%s, of its own", step_name[s]);
    report_row(r, name, "KiB", peer, NO_TARGET, 0);
  }
  report_close(r);
  return 0;
}
