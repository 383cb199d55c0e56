/*
** recipe_queue.c - the recipe ext/recipes/queue.c: a job that is lost, done twice or out of order, a worker that does
** not sleep, or sleeps on beside a job
*/
#define _GNU_SOURCE
#include "../../ext/recipes/queue.c"
#include "temp_folder.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

enum { PRODUCERS = 3, WORKERS = 4, JOBS = 400 };

static _Atomic int passed, failed;

static void judge(bool good, const char *what) {
  passed += good;
  failed += !good;
  if (!good)
    fprintf(stderr, "recipe_queue: %s\n", what);
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static double cpu_of_thread(void) {
  struct rusage usage;
  getrusage(RUSAGE_THREAD, &usage);
  return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
         (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static sqlite3 *open_or_die(void) {
  sqlite3 *db;
  if (queue_open(&db) != SQLITE_OK) {
    fprintf(stderr, "recipe_queue: %s\n", sqlite3_errmsg(db));
    exit(1);
  }
  return db;
}

/* ------------------------------------------------------------------------------------------------------------------ */

static _Atomic int done[PRODUCERS][JOBS];
static _Atomic int n_done, out_of_order;

static void *produce(void *arg) {
  sqlite3 *db = open_or_die();
  int producer = (int)(intptr_t)arg;
  for (int i = 0; i < JOBS; i++) {
    char job[32];
    snprintf(job, sizeof job, "%d %d", producer, i);
    int rc;
    while ((rc = queue_put(db, job)) == SQLITE_BUSY) {
    }
    if (rc != SQLITE_OK)
      exit(1);
  }
  sqlite3_close(db);
  return NULL;
}

/* What one worker gets of one producer comes in the order in which it was put. */
static void *work(void *arg) {
  sqlite3 *db = open_or_die();
  int last[PRODUCERS] = {-1, -1, -1}, producer, i;
  while (n_done < PRODUCERS * JOBS) {
    sqlite3_value *job = queue_take(db, 50);
    if (job == NULL)
      continue;
    if (sscanf((const char *)sqlite3_value_text(job), "%d %d", &producer, &i) != 2)
      exit(1);
    sqlite3_value_free(job);
    out_of_order += i <= last[producer];
    last[producer] = i;
    done[producer][i]++;
    n_done++;
  }
  sqlite3_close(db);
  return arg;
}

static void each_job_once(void) {
  pthread_t threads[PRODUCERS + WORKERS];
  for (int i = 0; i < PRODUCERS + WORKERS; i++)
    pthread_create(&threads[i], NULL, i < PRODUCERS ? produce : work, (void *)(intptr_t)i);
  for (int i = 0; i < PRODUCERS + WORKERS; i++)
    pthread_join(threads[i], NULL);
  int once = 0;
  for (int p = 0; p < PRODUCERS; p++) {
    for (int i = 0; i < JOBS; i++)
      once += done[p][i] == 1;
  }
  judge(once == PRODUCERS * JOBS, "a job was lost, or done twice");
  judge(out_of_order == 0, "jobs came out of order");
}

/* ------------------------------------------------------------------------------------------------------------------ */

enum { VERY_LONG_MS = 600000 };
static double woken, cpu;

static void *sleeper(void *arg) {
  sqlite3 *db = open_or_die();
  double before = cpu_of_thread();
  sqlite3_value *job = queue_take(db, VERY_LONG_MS);
  cpu = cpu_of_thread() - before;
  woken = now();
  judge(job != NULL && strcmp((const char *)sqlite3_value_text(job), "late") == 0, "it was woken without the job");
  sqlite3_value_free(job);
  sqlite3_close(db);
  return arg;
}

/* Whether no state is kept; tried for a while, for on a busy machine the sleeper may be late. */
static bool is_no_reader_left(sqlite3 *db) {
  sqlite3_stmt *s = NULL;
  double oldest = -1;
  sqlite3_prepare_v2(db, "SELECT oldest_reader FROM walmap_stats WHERE name = 'jobs'", -1, &s, NULL);
  for (int i = 0; i < 500 && oldest != 0; i++) {
    nanosleep(&(struct timespec){.tv_nsec = i > 0 ? 20000000 : 0}, NULL);
    oldest = sqlite3_step(s) == SQLITE_ROW ? sqlite3_column_double(s, 0) : -1;
    sqlite3_reset(s);
  }
  sqlite3_finalize(s);
  return oldest == 0;
}

static void idle_worker_sleeps(void) {
  sqlite3 *db = open_or_die();
  pthread_t thread;
  double begin = now();
  judge(queue_take(db, 100) == NULL, "a job of nobody");
  judge(now() - begin >= 0.09, "it did not wait");
  pthread_create(&thread, NULL, sleeper, NULL);
  nanosleep(&(struct timespec){.tv_nsec = 400000000}, NULL);
  judge(is_no_reader_left(db), "it keeps a state while it sleeps");
  double put = now();
  judge(queue_put(db, "late") == SQLITE_OK, "put");
  pthread_join(thread, NULL);
  judge(woken - put < VERY_LONG_MS / 2e3, "it slept on");
  judge(cpu < 0.2, "it did not sleep");
  sqlite3_exec(db, "DROP TABLE job", NULL, NULL, NULL);
  judge(queue_put(db, "nowhere") == SQLITE_ERROR, "an error is not told");
  sqlite3_close(db);
}

/* As the recipe has it: ./walmap */
static void link_extension(const char *extension) {
  static const char *const suffixes[] = {"", ".so", ".dylib"};
  char file[4200];
  for (int i = 0; i < 3; i++) {
    snprintf(file, sizeof file, "%s%s", extension, suffixes[i]);
    if (access(file, F_OK) == 0 && symlink(file, "walmap") == 0)
      return;
  }
  perror(extension);
  exit(1);
}

int main(void) {
  const char *extension = extension_path();
  enter_temp_folder();
  link_extension(extension);
  sqlite3 *keeper = open_or_die();
  each_job_once();
  idle_worker_sleeps();
  sqlite3_close(keeper);
  unlink("walmap");
  judge(leave_temp_folder(), "a file is left");
  printf("%d passed, %d failed\n", passed, failed);
  return failed > 0;
}
