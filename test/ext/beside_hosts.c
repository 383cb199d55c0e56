/*
** beside_hosts.c - what goes on in a host beside walmap's tables: its own modules, other connections' changes of the
** schema, other names of databases, interrupts
**
** Looks for: a table that is taken for another one, or made anew, because of them; an error of a connection that reads
** between the commits of file and map; a connection that cannot be closed; a wait that no interrupt ends.
*/
#include "host_kit.h"

/* A module whose xCreate runs the statements that are its argument, as FTS4's reads the table that it indexes. */
static int runner_create(sqlite3 *db, void *aux, int argc, const char *const *argv, sqlite3_vtab **out, char **err) {
  (void)aux;
  char *sql = argc > 3 ? sqlite3_mprintf("%.*s", (int)strlen(argv[3]) - 2, argv[3] + 1) : NULL; /* without its quotes */
  int rc = sqlite3_exec(db, sql, NULL, NULL, err);
  sqlite3_free(sql);
  if (rc == SQLITE_OK)
    rc = sqlite3_declare_vtab(db, "CREATE TABLE x(a)");
  if (rc == SQLITE_OK)
    *out = calloc(1, sizeof **out);
  return rc;
}

static int runner_disconnect(sqlite3_vtab *vtab) {
  free(vtab);
  return SQLITE_OK;
}

static int runner_connect(sqlite3 *db, void *aux, int argc, const char *const *argv, sqlite3_vtab **out, char **err) {
  (void)aux, (void)argc, (void)argv, (void)err;
  *out = calloc(1, sizeof **out);
  return sqlite3_declare_vtab(db, "CREATE TABLE x(a)");
}

static sqlite3 *connect_with_runner(const char *file) {
  static const sqlite3_module module = {
      .xCreate = runner_create,
      .xConnect = runner_connect,
      .xDestroy = runner_disconnect,
      .xDisconnect = runner_disconnect,
  };
  sqlite3 *db = connect(file);
  expect("sqlite3_create_module", SQLITE_OK, sqlite3_create_module(db, "runner", &module, NULL));
  return db;
}

/* A table that is first used while another one is created is not made anew. */
static void creations_of_others(void) {
  const char *file = make_file();
  sqlite3 *db = connect_with_runner(file), *other = connect_with_runner(file);
  must(db, "CREATE VIRTUAL TABLE temp.mine USING walmap; INSERT INTO mine VALUES(1, 1)");
  must(db, "CREATE VIRTUAL TABLE kv USING walmap(durable=0); INSERT INTO kv VALUES(1, 1)");
  must(other, "CREATE VIRTUAL TABLE r1 USING runner('SELECT count(*) FROM kv')");
  expect("rows that another connection sees", 1, ask(other, "SELECT count(*) FROM kv"));
  must(db, "VACUUM; CREATE VIRTUAL TABLE temp.kv USING runner('SELECT count(*) FROM main.kv')");
  expect("rows beside a table of the same name", 1, ask(db, "SELECT count(*) FROM main.kv"));
  must(db, "BEGIN; CREATE TEMP TABLE z(a); ROLLBACK; CREATE VIRTUAL TABLE r2 USING runner('SELECT * FROM mine')");
  expect("rows of a temp table", 1, ask(db, "SELECT count(*) FROM mine"));
  must(db, "CREATE VIRTUAL TABLE r3 USING runner('SELECT * FROM walmap')");
  must(db, "CREATE VIRTUAL TABLE r4 USING runner('DROP TABLE main.kv; CREATE VIRTUAL TABLE main.kv USING "
           "walmap(durable=0)')");
  expect("rows of a table that is made anew meanwhile", 0, ask(other, "SELECT count(*) FROM kv"));
  must_close(other);
  must_close(db);
  remove_file();
}

/*
** A module whose xCommit looks at a durable table through another connection: the file is committed, the map not yet.
*/
static struct gap {
  sqlite3 *reader;
  bool waits; /* for the reader's result, in vain: it comes from this thread */
  pthread_t thread;
  int rc;
} gap;

static void *read_in_gap(void *unused) {
  (void)unused;
  gap.rc = sqlite3_exec(gap.reader, "SELECT * FROM kv", NULL, NULL, NULL);
  return NULL;
}

static int gap_commit(sqlite3_vtab *vtab) {
  (void)vtab;
  if (!gap.reader)
    return SQLITE_OK; /* CREATE commits as well */
  if (gap.waits) {
    read_in_gap(NULL);
  } else {
    gap.thread = start(read_in_gap, NULL);
    sqlite3_sleep(50);
  }
  return SQLITE_OK;
}

static int gap_begin(sqlite3_vtab *vtab) {
  (void)vtab;
  return SQLITE_OK;
}

static int gap_update(sqlite3_vtab *vtab, int argc, sqlite3_value **argv, sqlite3_int64 *rowid) {
  (void)vtab, (void)argc, (void)argv, (void)rowid;
  return SQLITE_OK;
}

/* Who reads a durable table gets no error between the commit of the file and that of the map. */
static void reads_between_commits(void) {
  static const sqlite3_module module = {
      .xConnect = runner_connect,
      .xCreate = runner_connect,
      .xDisconnect = runner_disconnect,
      .xDestroy = runner_disconnect,
      .xUpdate = gap_update,
      .xBegin = gap_begin,
      .xCommit = gap_commit,
  };
  const char *file = make_file();
  sqlite3 *db = connect(file);
  must(db,
       "PRAGMA journal_mode=wal; CREATE VIRTUAL TABLE kv USING walmap(busy_timeout=0); INSERT INTO kv VALUES(1, 0)");
  expect("sqlite3_create_module", SQLITE_OK, sqlite3_create_module(db, "gap", &module, NULL));
  must(db, "CREATE VIRTUAL TABLE temp.first USING gap");
  for (int i = 1; i <= 2; i++) {
    gap = (struct gap){.reader = connect(file), .waits = i == 2, .rc = -1};
    must(db, "BEGIN; INSERT INTO first VALUES(1); UPDATE kv SET value = value + 1; COMMIT");
    if (!gap.waits) {
      pthread_join(gap.thread, NULL);
    }
    expect("a read between two commits", SQLITE_OK, gap.rc);
    expect("the value", i, ask(gap.reader, "SELECT value FROM kv"));
    must_close(gap.reader);
  }
  must_close(db);
  remove_file();
}

/* A CREATE that waits for the file has not begun, and a table that another connection made meanwhile is not its own. */
static void creation_that_waits(void) {
  const char *file = make_file();
  sqlite3 *db = connect(file), *other = connect(file);
  sqlite3_busy_timeout(db, 0);
  must(other, "BEGIN IMMEDIATE");
  sqlite3_stmt *waits = query(db, "CREATE VIRTUAL TABLE kv USING walmap");
  expect("the locked file", SQLITE_BUSY, sqlite3_step(waits));
  must(other, "CREATE VIRTUAL TABLE kv USING walmap; INSERT INTO kv VALUES(1, 1); COMMIT");
  expect("rows beside the statement that waits", 1, ask(db, "SELECT count(*) FROM kv"));
  expect("its next try", SQLITE_ERROR, sqlite3_step(waits));
  sqlite3_finalize(waits);
  expect("rows that the other sees", 1, ask(other, "SELECT count(*) FROM kv"));
  must_close(other);
  must_close(db);
  remove_file();
}

/* The main database by another name, given before and after tables were used. */
static void main_by_another_name(void) {
  const char *file = make_file();
  sqlite3 *db = connect(file), *other = connect(file);
  must(other, "CREATE VIRTUAL TABLE kv USING walmap; INSERT INTO kv VALUES(1, 1); INSERT INTO walmap VALUES(1, 1)");
  sqlite3_db_config(db, SQLITE_DBCONFIG_MAINDBNAME, "boss");
  sqlite3_db_config(other, SQLITE_DBCONFIG_MAINDBNAME, "head");
  must(db, "INSERT INTO walmap VALUES(2, 2), (3, 3)");
  must(db, "CREATE VIEW boss.v AS SELECT * FROM walmap");
  expect("entries of a default map", 2, ask(db, "SELECT count(*) FROM walmap"));
  expect("entries of the other's", 1, ask(other, "SELECT count(*) FROM walmap"));
  expect("entries by a function", 1, ask(other, "SELECT walmap_len('walmap')"));
  expect("a view of the file's on it", SQLITE_ERROR, sqlite3_exec(db, "SELECT * FROM v", NULL, NULL, NULL));
  expect("entries of the file's table", 1, ask(db, "SELECT count(*) FROM boss.kv"));
  must(db, "DROP VIEW v; BEGIN; ALTER TABLE boss.kv RENAME TO kv2; SAVEPOINT s; DROP TABLE kv2; ROLLBACK TO s; COMMIT");
  expect("entries by a name that the other changed", 1, ask(other, "SELECT walmap_len('head.kv2')"));
  must_close(other);
  must_close(db);
  remove_file();

  db = connect(":memory:");
  must(db, "CREATE VIRTUAL TABLE kv USING walmap; INSERT INTO kv VALUES(1, 1)");
  sqlite3_db_config(db, SQLITE_DBCONFIG_MAINDBNAME, "boss");
  must(db, "VACUUM"); /* after which tables are connected anew */
  expect("entries of a private map", 1, ask(db, "SELECT count(*) FROM kv"));
  expect("the same by a function", 1, ask(db, "SELECT walmap_len('boss.kv') * walmap_len('main.kv')"));
  must(db, "BEGIN; DROP TABLE kv; CREATE VIRTUAL TABLE boss.kv USING walmap; COMMIT");
  expect("entries of one that is made anew", 0, ask(db, "SELECT count(*) FROM kv"));
  must_close(db);
}

static int deny_control(void *unused, int code, const char *first, const char *second, const char *schema,
                        const char *trigger) {
  (void)unused, (void)code, (void)second, (void)schema, (void)trigger;
  return first != NULL && strcmp(first, "walmap_control") == 0 ? SQLITE_DENY : SQLITE_OK;
}

/*
** The control table's name belongs to a table of the host, or may not be used. What functions keep would hinder
** sqlite3_close then, so they must keep nothing.
*/
static void control_by_another(void) {
  static const char *const takers[] = {"", "CREATE TABLE walmap_control(a)",
                                       "CREATE VIEW walmap_control AS SELECT 1 AS a"};
  for (size_t i = 0; i < sizeof takers / sizeof takers[0]; i++) {
    sqlite3 *db = connect(":memory:");
    must(db, takers[i]);
    must(db, "CREATE VIRTUAL TABLE temp.kv USING walmap; INSERT INTO kv VALUES(1, 1)");
    if (i == 0) {
      sqlite3_set_authorizer(db, deny_control, NULL);
    } else {
      must(db, "BEGIN; CREATE VIRTUAL TABLE main.kv2 USING walmap; INSERT INTO kv2 VALUES(1, 1); SAVEPOINT s;"
               "DROP TABLE kv2; DROP TABLE temp.kv; ROLLBACK TO s; COMMIT");
      expect("entries of a table after ROLLBACK TO", 1, ask(db, "SELECT count(*) FROM kv2"));
    }
    expect("a result by functions", 5,
           ask(db, "SELECT walmap_get('kv', 1) + walmap_set('kv', 2, 2) + walmap_upsert('kv', 1, 0, 'value + 1')"));
    must_close(db);
  }
}

/* The same for a durable table that COMMIT finds without an object: sqlite3_close finds no statement of it either. */
static void closing_after_rollback_to(void) {
  const char *file = make_file();
  sqlite3 *db = connect(file);
  must(db, "CREATE TABLE walmap_control(a); CREATE VIRTUAL TABLE kv USING walmap; INSERT INTO kv VALUES(1, 1)");
  must_close(db);
  db = connect(file);
  must(db, "BEGIN; INSERT INTO kv VALUES(2, 2); SAVEPOINT s; DROP TABLE kv; ROLLBACK TO s; COMMIT");
  must_close(db);
  db = connect(file);
  expect("rows", 2, ask(db, "SELECT count(*) FROM kv"));
  must_close(db);
  remove_file();
}

/* Each transaction makes the file's table anew, in one of several ways, with the number of the change in it. */
enum { CHANGES = 300 };
static atomic_int changes_begun, changes_done;

static void *change_tables(void *arg) {
  static const char *const ways[] = {
      "DROP TABLE kv; CREATE VIRTUAL TABLE kv USING walmap; INSERT INTO kv VALUES(1, %d)",
      "ALTER TABLE kv RENAME TO old; CREATE VIRTUAL TABLE kv USING walmap; INSERT INTO kv VALUES(1, %d); DROP TABLE "
      "old",
      "CREATE VIRTUAL TABLE new USING walmap; INSERT INTO new VALUES(1, %d); DROP TABLE kv; ALTER TABLE new RENAME TO "
      "kv",
      "UPDATE kv SET value = %d; SAVEPOINT s; DROP TABLE kv; CREATE VIRTUAL TABLE kv USING walmap; ROLLBACK TO s",
  };
  for (int i = 1; i <= CHANGES; i++) {
    char sql[200];
    atomic_store(&changes_begun, i);
    must(arg, "BEGIN IMMEDIATE");
    snprintf(sql, sizeof sql, ways[i * 7 / 3 % 4], i);
    must(arg, sql);
    must(arg, "COMMIT");
    atomic_store(&changes_done, i);
  }
  return NULL;
}

/* Whatever is committed when a statement begins, it sees, by the table as by functions. */
static void *read_changing_tables(void *arg) {
  sqlite3 *db = connect(arg);
  while (atomic_load(&changes_done) < CHANGES) {
    for (int i = 0; i < 3; i++) {
      static const char *const ways[] = {"SELECT value FROM kv WHERE key = 1", "SELECT walmap_get('kv', 1)",
                                         "SELECT walmap_get(key) FROM kv"};
      int least = atomic_load(&changes_done);
      sqlite3_int64 got = ask(db, ways[i]);
      if (got < least || got > atomic_load(&changes_begun)) {
        fail("%s: change %lld, after %d was committed", ways[i], (long long)got, least);
      }
    }
  }
  must_close(db);
  return NULL;
}

static void tables_made_anew(void) {
  static const char *const journals[] = {"PRAGMA journal_mode = delete", "PRAGMA journal_mode = wal"};
  for (int i = 0; i < 2; i++) {
    sqlite3 *db = connect(make_file());
    must(db, journals[i]);
    must(db, "PRAGMA synchronous = off; CREATE VIRTUAL TABLE kv USING walmap; INSERT INTO kv VALUES(1, 0)");
    atomic_store(&changes_begun, 0);
    atomic_store(&changes_done, 0);
    pthread_t threads[] = {start(change_tables, db), start(read_changing_tables, file_path),
                           start(read_changing_tables, file_path)};
    for (int t = 0; t < 3; t++) {
      pthread_join(threads[t], NULL);
    }
    expect("maps", 1, ask(db, "SELECT count(*) FROM walmap_stats"));
    must_close(db);
    remove_file();
  }
}

static atomic_bool has_ended;

/* Again and again: on a busy machine the statement may begin later than the first one. */
static void *interrupt_later(void *db) {
  do {
    usleep(100000);
    sqlite3_interrupt(db);
  } while (!atomic_load(&has_ended));
  return NULL;
}

static double seconds_now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* sqlite3_interrupt() ends a wait for another transaction long before its time is over. */
static void interrupted_waits(void) {
  static const char *const waits[] = {
      "UPDATE kv SET value = 3 WHERE key = 1",
      "SELECT walmap_set('kv', 1, 3)",
      "SELECT walmap_restore('kv', walmap_snapshot('kv'))",
      "SELECT walmap_compact('kv')",
      "PRAGMA integrity_check", /* waits from SQLite 3.44 on */
  };
  sqlite3 *db = join_map("waits"), *other = join_map("waits");
  must(other, "INSERT INTO kv VALUES(1, 1); BEGIN; UPDATE kv SET value = 2; SELECT count(*) FROM kv");
  for (int i = 0; i < (sqlite3_libversion_number() < 3044000 ? 4 : 5); i++) {
    double before = seconds_now();
    atomic_store(&has_ended, false);
    pthread_t thread = start(interrupt_later, db);
    expect(waits[i], SQLITE_INTERRUPT, sqlite3_exec(db, waits[i], NULL, NULL, NULL));
    atomic_store(&has_ended, true);
    pthread_join(thread, NULL);
    if (seconds_now() - before > VERY_LONG_MS / 2e3) {
      fail("%s: interrupted after %.1f s", waits[i], seconds_now() - before);
    }
  }
  must(other, "COMMIT");
  must(db, waits[0]);
  must_close(other);
  must_close(db);
}

int main(void) {
  static const host_test tests[] = {
      {"creations of other modules' tables", creations_of_others},
      {"a creation that waits", creation_that_waits},
      {"reads between the commits of file and map", reads_between_commits},
      {"a main database by another name", main_by_another_name},
      {"a control table by another", control_by_another},
      {"closing after ROLLBACK TO", closing_after_rollback_to},
      {"tables that are made anew beside readers", tables_made_anew},
      {"waits that are interrupted", interrupted_waits},
  };
  return run_host_tests("beside_hosts", tests, sizeof tests / sizeof tests[0]);
}
