/*
** processes.h - processes over one file, some of which are killed and replaced: what durable_processes.c and
** durable_histories.c share
**
** A program starts itself again, with the arguments "child", the folder, the seed and the child's number. The processes
** tell one another what they know in a file that all of them map.
*/
#ifndef TEST_PROCESSES_H
#define TEST_PROCESSES_H

#include <fcntl.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { PROCESSES = 4, MOST_PATIENCE_MS = 300000 };

static const char *extension = "./walmap";
static uint64_t seed;
static char folder[64], file[96], board_file[96];
static atomic_long *complaints; /* on the board */

static inline int pick(uint64_t *random, int n) { /* splitmix64 */
  uint64_t z = *random += 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return (int)((z ^ (z >> 31)) % (uint64_t)n);
}

static inline void complain(const char *what, sqlite3 *db) {
  printf("FAILED: process %d: %s%s%s\n", (int)getpid(), what, db != NULL ? ": " : "",
         db != NULL ? sqlite3_errmsg(db) : "");
  fflush(stdout);
  atomic_fetch_add(complaints, 1);
}

static inline sqlite3 *connect_to_file(void) {
  sqlite3 *db;
  if (sqlite3_open(file, &db) != SQLITE_OK)
    complain("open", db);
  sqlite3_busy_timeout(db, MOST_PATIENCE_MS);
  sqlite3_enable_load_extension(db, 1);
  char *err = NULL;
  if (sqlite3_load_extension(db, extension, NULL, &err) != SQLITE_OK) {
    printf("FAILED: %s\n", err);
    exit(2);
  }
  return db;
}

/*
** False when it failed because the file is locked, which SQLite says after a snapshot too old to write; else complains.
*/
static inline bool run(sqlite3 *db, const char *sql) {
  int rc = sqlite3_exec(db, sql, NULL, NULL, NULL);
  if (rc == SQLITE_OK)
    return true;
  if (rc != SQLITE_BUSY)
    complain(sql, db);
  return false;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Processes                                                                                                          */

static inline void name_files(const char *in) {
  snprintf(folder, sizeof folder, "%s", in);
  snprintf(file, sizeof file, "%s/a.db", in);
  snprintf(board_file, sizeof board_file, "%s/board", in);
}

static inline void *map_board(size_t size, bool create) {
  int fd = open(board_file, O_RDWR | (create ? O_CREAT : 0), 0600);
  if (fd < 0 || (create && ftruncate(fd, (off_t)size) != 0))
    exit(2);
  void *board = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (board == MAP_FAILED)
    exit(2);
  close(fd);
  return board;
}

/* In a child: the arguments of start_child; NULL in the program that was started by hand. */
static inline const char *child_number(int argc, char **argv) {
  if (getenv("WALMAP_SO") != NULL)
    extension = getenv("WALMAP_SO");
  if (argc != 5 || strcmp(argv[1], "child") != 0)
    return NULL;
  name_files(argv[2]);
  seed = strtoull(argv[3], NULL, 10);
  return argv[4];
}

static inline pid_t start_child(char *program, int number) {
  pid_t pid = fork();
  if (pid == 0) {
    char seed_text[32], number_text[16];
    snprintf(seed_text, sizeof seed_text, "%llu", (unsigned long long)seed);
    snprintf(number_text, sizeof number_text, "%d", number);
    execl(program, program, "child", folder, seed_text, number_text, (char *)NULL);
    _exit(127);
  }
  return pid;
}

/*
** Runs children for `milliseconds`, and kills so many of them at random moments of that time. The number of a child
** modulo PROCESSES is that of the child that it replaces. *stop tells them to end; not before is_enough(), for on a
** busy machine they may do little in that time. It complains if that never comes.
*/
static inline void run_children(char *program, int milliseconds, int kills, bool (*is_enough)(void),
                                atomic_bool *stop) {
  pid_t children[PROCESSES];
  int numbers[PROCESSES];
  uint64_t random = seed;
  for (int i = 0; i < PROCESSES; i++)
    children[i] = start_child(program, numbers[i] = i);
  for (int i = 0; i < kills; i++) {
    usleep(1000 * (useconds_t)pick(&random, 2 * milliseconds / kills + 1));
    int victim = pick(&random, PROCESSES);
    kill(children[victim], SIGKILL);
    waitpid(children[victim], NULL, 0);
    children[victim] = start_child(program, numbers[victim] += PROCESSES);
  }
  if (kills == 0)
    usleep(1000 * (useconds_t)milliseconds);
  for (int ms = 0; !is_enough() && ms < MOST_PATIENCE_MS; ms += 10)
    usleep(10000);
  if (!is_enough())
    complain("the processes have done too little", NULL);
  atomic_store(stop, true);
  for (int i = 0; i < PROCESSES; i++) {
    int status = 0;
    waitpid(children[i], &status, 0);
    if (status != 0)
      complain("a process ended badly", NULL);
  }
}

static inline void remove_folder(void) {
  char command[96];
  snprintf(command, sizeof command, "rm -rf %s", folder);
  if (system(command) != 0)
    printf("%s stays\n", folder);
}

#endif
