/*
** durable_histories.c - transactions of several processes over one file that no serial order explains (D1, D2, D3, T3,
** T4)
**
** Four processes, some of two threads, each thread with a connection, append numbers to lists: in two durable tables,
** one of them ordered, and in an ordinary one (append_client.h). Two of the processes write more than they read. They
** run transactions of both kinds, with savepoints, and single statements; roll back, close and open, and clean up. Some
** are killed by SIGKILL and replaced. In the end what they wrote down is joined and checked (append_check.h, which
** test_append_history.c tries): all three tables together are strictly serializable, which is what SQLite promises for
** ordinary ones, in WAL mode and with a rollback journal.
**
** Usage: durable_histories [seconds [kills]]     for each mode; defaults: 4 and 12
** Environment: SEED; WALMAP_SO is the extension (default ./walmap)
*/
#define _GNU_SOURCE /* mkdtemp */

#include "append_check.h"
#include "append_client.h"

#include <dirent.h>
#include <pthread.h>
#include <sys/stat.h>

static long passed, failed;

static void count(bool fine, const char *what) {
  if (!fine)
    printf("FAILED: %s\n", what);
  passed += fine;
  failed += !fine;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Transactions                                                                                                       */

static void roll_back(client *c) {
  if (!sqlite3_get_autocommit(c->db))
    run(c->db, "ROLLBACK");
  end_line(c, 'x', now());
}

/* With a rollback journal COMMIT waits for readers, and leaves the transaction open when it does so in vain. */
static void commit_or_roll_back(client *c) {
  bool committed = false;
  note_try(c);
  for (int i = 0; i < 3 && !committed; i++)
    committed = run(c->db, "COMMIT");
  if (committed)
    end_line(c, 'c', now());
  else
    roll_back(c);
}

static bool change_savepoint(client *c, bool *in_savepoint) {
  if (!*in_savepoint) {
    *in_savepoint = true;
    note(c, " (");
    return run(c->db, "SAVEPOINT s");
  }
  *in_savepoint = false;
  bool undo = pick(&c->random, 2);
  note(c, undo ? " )" : " /");
  return (!undo || run(c->db, "ROLLBACK TO s")) && run(c->db, "RELEASE s");
}

static void write_transaction(client *c) {
  bool immediate = pick(&c->random, 2), in_savepoint = false, fine = true;
  if (!immediate)
    begin_line(c);
  if (!run(c->db, immediate ? "BEGIN IMMEDIATE" : "BEGIN")) {
    c->size = 0;
    return;
  }
  if (immediate) /* what was committed until now is seen */
    begin_line(c);
  for (int n = 1 + pick(&c->random, 5); fine && n > 0; n--) {
    if (pick(&c->random, 4) == 0)
      fine = change_savepoint(c, &in_savepoint);
    if (fine)
      fine = pick(&c->random, 3) == 0 ? read_something(c) : append_in_transaction(c);
    if (pick(&c->random, 8) == 0)
      usleep((useconds_t)pick(&c->random, 2000));
  }
  if (fine && pick(&c->random, 10) != 0)
    commit_or_roll_back(c);
  else
    roll_back(c);
}

static void read_transaction(client *c) {
  begin_line(c);
  if (run(c->db, "BEGIN")) {
    for (int n = 1 + pick(&c->random, 4); n > 0 && read_something(c); n--)
      usleep((useconds_t)pick(&c->random, 2000));
    run(c->db, "COMMIT");
  }
  end_line(c, 'c', c->first_read != 0 ? c->first_read : now());
}

static void read_statement(client *c) {
  begin_line(c);
  read_something(c);
  end_line(c, 'c', now());
}

static void write_statement(client *c) {
  int way = pick(&c->random, 4);
  list l = pick_list(c, way == 3 ? 2 : 3);
  const columns result = {1, {l}};
  bool none = false, fine = true;
  char *read = NULL;
  begin_line(c);
  if (way == 3) {
    fine = ask(c, &result, &read, sqlite3_mprintf("SELECT walmap_get('%c', %d)", tables[l.table], l.number));
    end_line(c, 'c', now());
    begin_line(c);
  }
  int number = pick_number(c, l);
  note_try(c);
  if (way == 0)
    fine = append_by_update(c, l, number, &none);
  else if (way == 1)
    fine = append_by_replace(c, l, number);
  else if (way == 2)
    fine = append_by_upsert(c, l, number);
  else if (fine)
    fine = append_if_unchanged(c, l, read, number, &none);
  sqlite3_free(read);
  end_line(c, fine && !none ? 'c' : 'x', now());
}

/* A map of the connection's own makes the change, which is then applied, if the list is still what it was. */
static void append_by_changes(client *c) {
  list l = pick_list(c, 2);
  const columns result = {1, {l}};
  char *then = NULL, *again = NULL;
  int number = 1 + atomic_fetch_add(&told->next_number, 1);
  begin_line(c);
  bool fine = ask(c, &result, &then, sqlite3_mprintf("SELECT %z", value_of(c, l)));
  end_line(c, 'c', now());
  fine = fine && run(c->db, "DELETE FROM place; INSERT INTO place SELECT walmap_position('mine')") &&
         change(c, sqlite3_mprintf("REPLACE INTO mine VALUES(%d, '%s,%d')", l.number, then, number));
  if (fine && run(c->db, "BEGIN IMMEDIATE")) {
    begin_line(c);
    fine = ask(c, &result, &again, sqlite3_mprintf("SELECT %z", value_of(c, l)));
    if (fine && strcmp(then, again) == 0) {
      note(c, " %c%d+%d", tables[l.table], l.number, number);
      fine = change(c, sqlite3_mprintf("SELECT walmap_apply('%c', walmap_changes('mine', position)) FROM place",
                                       tables[l.table]));
    }
    if (fine)
      commit_or_roll_back(c);
    else
      roll_back(c);
  }
  sqlite3_free(then);
  sqlite3_free(again);
}

/* What changes no list. */
static void clean_up(client *c) {
  static const char *const all[] = {
      "SELECT walmap_checkpoint('a')",
      "SELECT walmap_checkpoint('o')",
      "SELECT length(walmap_compact('a'))",
      "SELECT walmap_reclaim('o')",
      "PRAGMA wal_checkpoint(PASSIVE)",
      "PRAGMA wal_checkpoint(TRUNCATE)",
      "BEGIN IMMEDIATE; SELECT walmap_restore('a', walmap_snapshot('a')); COMMIT",
      "BEGIN IMMEDIATE; SELECT walmap_touch('o', key, NULL) FROM o; COMMIT",
      "VACUUM",
  };
  run(c->db, all[pick(&c->random, (int)(sizeof all / sizeof *all))]);
  if (!sqlite3_get_autocommit(c->db))
    run(c->db, "ROLLBACK");
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Processes                                                                                                          */

/* Some connections have no patience, and get SQLITE_BUSY often. */
static void open_connection(client *c) {
  static const int timeouts[] = {0, 20, 20000, 20000};
  c->db = connect_to_file();
  run(c->db, "PRAGMA synchronous = off; CREATE VIRTUAL TABLE temp.mine USING walmap;"
             "CREATE TEMP TABLE place(position)");
  sqlite3_busy_timeout(c->db, timeouts[pick(&c->random, 4)]);
}

static void step(client *c) {
  int choice = pick(&c->random, 100);
  if (choice < 2) {
    sqlite3_close(c->db);
    open_connection(c);
  } else if (choice < 4) {
    clean_up(c);
  } else if (choice < (c->writes ? 45 : 15)) {
    write_transaction(c);
  } else if (choice < (c->writes ? 65 : 20)) {
    write_statement(c);
  } else if (choice < (c->writes ? 70 : 21)) {
    append_by_changes(c);
  } else if (choice < 80) {
    read_statement(c);
  } else {
    read_transaction(c);
  }
}

static int this_child;

static void *work(void *thread) {
  char name[200];
  snprintf(name, sizeof name, "%s/history-%d-%d", folder, this_child, (int)(uintptr_t)thread);
  client c = {.random = seed + 7919 * (uint64_t)this_child + 104729 * (uint64_t)(uintptr_t)thread,
              .writes = this_child % PROCESSES < 2};
  c.log = open(name, O_WRONLY | O_CREAT | O_EXCL, 0600);
  if (c.log < 0)
    complain("the log cannot be made", NULL);
  open_connection(&c);
  while (!atomic_load(&told->stop))
    step(&c);
  sqlite3_close(c.db);
  close(c.log);
  free(c.line);
  return NULL;
}

/* Every other process has two threads. */
static int be_child(const char *number) {
  pthread_t other;
  this_child = atoi(number);
  tell_on_board(false);
  bool two = this_child % 2 == 0;
  if (two && pthread_create(&other, NULL, work, (void *)1) != 0)
    return 1;
  work((void *)0);
  if (two)
    pthread_join(other, NULL);
  return 0;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* The whole                                                                                                          */

static void make_tables(const char *mode) {
  sqlite3 *db = connect_to_file();
  char *sql = sqlite3_mprintf("PRAGMA journal_mode = %s; CREATE VIRTUAL TABLE a USING walmap;"
                              "CREATE VIRTUAL TABLE o USING walmap(ordered=1);"
                              "CREATE TABLE n(key PRIMARY KEY, value) WITHOUT ROWID",
                              mode);
  run(db, sql);
  sqlite3_free(sql);
  sqlite3_close(db);
}

/* The last lists, as a process finds them that opens the file when all others have ended. */
static char *read_last_lists(void) {
  client c = {.db = connect_to_file()};
  sqlite3_stmt *statement;
  note(&c, "F%llu", (unsigned long long)now());
  if (sqlite3_prepare_v2(c.db,
                         "SELECT 0, key, value FROM a UNION ALL SELECT 1, key, value FROM o UNION ALL "
                         "SELECT 2, key, value FROM n",
                         -1, &statement, NULL) != SQLITE_OK)
    complain("the last lists", c.db);
  while (sqlite3_step(statement) == SQLITE_ROW)
    note(&c, " %c%d=%s", tables[sqlite3_column_int(statement, 0)], sqlite3_column_int(statement, 1),
         (const char *)sqlite3_column_text(statement, 2) + 1);
  note(&c, " c%llu\n%c", (unsigned long long)now(), 0);
  sqlite3_finalize(statement);
  sqlite3_close(c.db);
  return c.line;
}

static char *read_log(const char *name) {
  char path[400];
  struct stat is;
  snprintf(path, sizeof path, "%s/%s", folder, name);
  int fd = open(path, O_RDONLY);
  if (fd < 0 || fstat(fd, &is) != 0)
    exit(2);
  char *text = calloc((size_t)is.st_size + 1, 1);
  if (text == NULL || read(fd, text, (size_t)is.st_size) != is.st_size)
    exit(2);
  close(fd);
  return text;
}

static void check_histories(const char *mode, int kills) {
  history h = {.quiet = false};
  ARRAY(char *) texts = {NULL};
  DIR *logs = opendir(folder);
  for (const struct dirent *log; (log = readdir(logs)) != NULL;)
    if (strncmp(log->d_name, "history-", 8) == 0)
      ADD(texts, read_log(log->d_name));
  closedir(logs);
  ADD(texts, read_last_lists());
  for (size_t i = 0; i < texts.n; i++)
    history_add(&h, texts.items[i]);
  history_check(&h);
  printf("%s: %d kills; %zu transactions committed, %zu rolled back, %zu unknown, of which %zu are in the file; "
         "dependencies: %zu ww, %zu wr, %zu rw; %d findings\n",
         mode, kills, h.committed, h.rolled_back, h.unknown, h.unknown_seen, h.dependencies[WW], h.dependencies[WR],
         h.dependencies[RW], h.findings);
  count(h.findings == 0, "a history that no serial order explains");
  count(h.dependencies[WW] > 20 && h.dependencies[WR] > 20 && h.dependencies[RW] > 20, "too little has happened");
  for (size_t i = 0; i < texts.n; i++)
    free(texts.items[i]);
  free(texts.items);
  history_free(&h);
}

/* Some ten times as many as make the dependencies that are demanded. */
static bool is_enough(void) { return atomic_load(&told->committed) >= 500; }

static void one_mode(char *program, const char *mode, int seconds, int kills) {
  char template[] = "/tmp/walmap-histories-XXXXXX";
  long failed_before = failed;
  name_files(mkdtemp(template));
  tell_on_board(true);
  make_tables(mode);
  run_children(program, seconds * 1000, kills, is_enough, &told->stop);
  check_histories(mode, kills);
  count(atomic_load(&told->failures) == 0, "a process has met an error");
  munmap(told, sizeof *told);
  if (failed == failed_before)
    remove_folder();
  else
    printf("%s has the file and the histories\n", folder);
}

int main(int argc, char **argv) {
  const char *number = child_number(argc, argv);
  if (number != NULL)
    return be_child(number);
  int seconds = argc > 1 ? atoi(argv[1]) : 4, kills = argc > 2 ? atoi(argv[2]) : 12;
  seed = getenv("SEED") != NULL ? strtoull(getenv("SEED"), NULL, 10) : (uint64_t)time(NULL);
  printf("SQLite %s, seed %llu (SEED= sets it)\n", sqlite3_libversion(), (unsigned long long)seed);
  one_mode(argv[0], "wal", seconds, kills);
  one_mode(argv[0], "delete", seconds, kills);
  printf("%ld passed, %ld failed\n", passed, failed);
  return failed > 0;
}
