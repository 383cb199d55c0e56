/*
** host_processes.c - what ends or doubles a process that has maps: fork, exit beside threads, exit handlers; and what
** writes into its memory
**
** Looks for: a child process without its copy of the maps; a crash at the end of a process; damage that PRAGMA
** integrity_check does not tell. What cannot be taken back happens in child processes.
*/
#include "host_kit.h"

#include <fcntl.h>
#include <sys/wait.h>

/* ------------------------------------------------------------------------------------------------------------------ */
/* Processes                                                                                                          */

/* Runs the body in a child, which exits as a program does, and must do so with code 0. */
static void in_child(const char *what, void (*body)(void)) {
  fflush(NULL);
  pid_t child = fork();
  if (child == 0) {
    atomic_store(&failures, 0);
    body();
    exit(atomic_load(&failures) > 0);
  }
  int status = -1;
  if (child < 0 || waitpid(child, &status, 0) != child || !WIFEXITED(status) || WEXITSTATUS(status) != 0) {
    fail("%s: the child ended with status %x", what, (unsigned)status);
  }
}

static sqlite3 *inherited;

static void use_copies(void) {
  sqlite3 *db = join_map("forked");
  expect("rows of the child's copy", 1000, ask(db, "SELECT count(*) FROM kv"));
  must(db, "DELETE FROM kv WHERE key <= 300; INSERT INTO kv VALUES('child', 1); SELECT length(walmap_compact('kv'))");
  expect("rows by an inherited connection", 701, ask(inherited, "SELECT count(*) FROM kv"));
  must(inherited, "BEGIN; DELETE FROM kv; ROLLBACK; REPLACE INTO kv VALUES('child', 2)");
  expect("what it wrote", 2, ask(db, "SELECT value FROM kv WHERE key = 'child'"));
  must_close(inherited);
  must_close(db);
  expect_no_map("maps in the child");
}

/* No thread but one, no transaction: the child has a copy of all maps, and neither sees what the other does. */
static void forking(void) {
  inherited = join_map("forked");
  must(inherited, FILL);
  in_child("a child with copies", use_copies);
  expect("rows after the child", 1000, ask(inherited, "SELECT count(*) FROM kv"));
  must(inherited, "DELETE FROM kv WHERE key = 1");
  expect("rows", 999, ask(inherited, "SELECT count(*) FROM kv"));
  must_close(inherited);
}

static void *hammer(void *arg) {
  (void)arg;
  sqlite3 *db = join_map("hammered");
  for (;;) { /* with a deadlock now and then */
    sqlite3_exec(db, "BEGIN; REPLACE INTO kv VALUES(abs(random()) % 1000, 1); SELECT sum(value) FROM kv; COMMIT", NULL,
                 NULL, NULL);
    sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL);
  }
  return NULL;
}

/* The C library runs its exit handlers while other threads go on. */
static void exit_beside_threads(void) {
  sqlite3 *db = join_map("hammered");
  for (int i = 0; i < 2; i++) {
    start(hammer, NULL);
  }
  while (ask(db, "SELECT count(*) FROM kv") < 100) {
  }
  exit(0);
}

static sqlite3 *last;

static void use_at_exit(void) {
  must(last, "INSERT INTO kv VALUES('exit', 1); SELECT length(walmap_snapshot('kv'))");
  if (ask(last, "SELECT count(*) FROM kv") != 1001 || sqlite3_close(last)) {
    _exit(3);
  }
}

/* A handler of the host that was there before the extension runs after the extension's own would. */
static void use_in_exit_handler(void) {
  atexit(use_at_exit);
  last = join_map("last");
  must(last, FILL);
}

static void shut_down(void) {
  for (int i = 0; i < 3; i++) {
    sqlite3 *db = join_map("shut down");
    must(db, FILL);
    must_close(db);
    expect("sqlite3_shutdown", SQLITE_OK, sqlite3_shutdown());
  }
}

static void ending_processes(void) {
  for (int i = 0; i < (sanitized() ? 3 : 10); i++) {
    in_child("exit beside threads", exit_beside_threads);
  }
  in_child("exit handler", use_in_exit_handler);
  in_child("sqlite3_shutdown", shut_down);
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Stray writes                                                                                                       */

#define NEEDLE "a key that is written nowhere else but in a map"

/* Changes a byte of each copy of the needle in the process's writable memory, but for one: the constant's. */
static int stray_write(void) {
  int found = 0, memory = open("/proc/self/mem", O_RDWR);
  FILE *maps = fopen("/proc/self/maps", "r");
  char line[500];
  while (maps != NULL && fgets(line, sizeof line, maps)) {
    unsigned long begin, end;
    char mode[5];
    if (sscanf(line, "%lx-%lx %4s", &begin, &end, mode) != 3 || mode[1] != 'w' || end - begin > 64 << 20) {
      continue;
    }
    char *copy = malloc(end - begin);
    ssize_t size = copy ? pread(memory, copy, end - begin, (off_t)begin) : 0;
    for (char *at = copy; size > 0 && (at = memmem(at, (size_t)(copy + size - at), NEEDLE, sizeof NEEDLE - 1)); at++) {
      found += pwrite(memory, "?", 1, (off_t)(begin + (unsigned long)(at - copy))) == 1;
    }
    free(copy);
  }
  fclose(maps);
  close(memory);
  return found;
}

static void integrity(void) {
  sqlite3 *db = join_map("stray");
  must(db, FILL);
  must(db, "INSERT INTO kv VALUES('" NEEDLE "', 1)");
  if (stray_write() == 0) {
    fail("the key is not found in memory");
  }
  sqlite3_stmt *check = query(db, "PRAGMA integrity_check");
  expect("a row", SQLITE_ROW, sqlite3_step(check));
  const char *told = (const char *)sqlite3_column_text(check, 0);
  bool asked = sqlite3_libversion_number() >= 3044000; /* before that SQLite does not ask virtual tables */
  if (asked ? strstr(told, "walmap table temp.kv: shard ") != told : strcmp(told, "ok") != 0) {
    fail("PRAGMA integrity_check after a stray write: %s", told);
  }
  sqlite3_finalize(check);
  must_close(db);
}

/* A stray write to a value is found where a file has the value too: the map is sound, but not what the file has. */
static void integrity_with_a_file(void) {
  make_file();
  sqlite3 *db = connect(file_path);
  must(db, "CREATE VIRTUAL TABLE kv USING walmap");
  must(db, FILL);
  must(db, "INSERT INTO kv VALUES('who''s', '" NEEDLE "'), ('other', 'value')");
  must(db, "PRAGMA shrink_memory"); /* SQLite's pages have it too */
  if (stray_write() == 0) {
    fail("the value is not found in memory");
  }
  for (int i = 0; i < 2; i++) {
    sqlite3_stmt *check = query(db, "PRAGMA integrity_check");
    expect("a row", SQLITE_ROW, sqlite3_step(check));
    const char *told = (const char *)sqlite3_column_text(check, 0);
    static const char expected[] = "walmap table main.kv: entries that differ between the map and the shadow table "
                                   "kv_log: 1; one has the key 'who''s'";
    if (strcmp(told, sqlite3_libversion_number() >= 3044000 ? expected : "ok") != 0) {
      fail("PRAGMA integrity_check after a stray write to a value: %s", told);
    }
    sqlite3_finalize(check);
  }
  must_close(db);
  db = connect(file_path); /* the file is as it was */
  sqlite3_stmt *check = query(db, "SELECT value = '" NEEDLE "' FROM kv WHERE key = 'who''s'");
  expect("a row", SQLITE_ROW, sqlite3_step(check));
  expect("the value in the file", 1, sqlite3_column_int(check, 0));
  sqlite3_finalize(check);
  must_close(db);
  remove_file();
}

int main(void) {
  static const host_test tests[] = {
      {"fork", forking},
      {"ends of processes", ending_processes},
      {"stray writes", integrity},
      {"stray writes, and a file", integrity_with_a_file},
  };
  return run_host_tests("host_processes", tests, sizeof tests / sizeof tests[0]);
}
