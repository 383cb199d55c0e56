/*
** deadlock.c - a deadlock that lasts, is not told as one, or ends for both parties (T5)
**
** Threads, each with a connection, take each other's shards in a circle, round after round: two shards of one map in
** opposite order, and three maps in a circle of three. One thread gets SQLITE_BUSY at once, with a text that says why,
** and rolls back; the others commit. Then more threads move money between three maps and the table of a file, meet
** deadlocks in any order, and all of them get on (core/sync/lock.h, O2).
**
** Usage: deadlock [seed]     Environment: SEED; WALMAP_SO is the extension (default ./walmap)
*/
#define _GNU_SOURCE /* pthread_barrier_t */

#include "threads.h"

#define DEADLOCK_ROUNDS 200
#define PARTIES 3
#define DEADLOCK_MS (VERY_LONG_MS / 2) /* less than the busy_timeout, much more than it takes */

static int rounds;

static double now_ms(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static pthread_barrier_t barrier;

typedef struct party {
  worker worker;
  const char *first, *second; /* statements that own one shard each */
  int rc;
  bool says_deadlock;
  double ms;
} party;

static void *take_both(void *arg) {
  party *p = arg;
  for (int i = 0; i < DEADLOCK_ROUNDS; i++) {
    pthread_barrier_wait(&barrier);
    run_ok(&p->worker, "BEGIN", 0, 0, NULL);
    run_ok(&p->worker, p->first, 0, 0, NULL);
    pthread_barrier_wait(&barrier); /* each owns one now */
    double start = now_ms();
    p->rc = run(&p->worker, p->second, 0, 0, NULL);
    p->ms = now_ms() - start;
    p->says_deadlock = is_deadlock(&p->worker);
    run_ok(&p->worker, p->rc == SQLITE_OK ? "COMMIT" : "ROLLBACK", 0, 0, NULL);
    pthread_barrier_wait(&barrier); /* the main thread looks at all */
  }
  return NULL;
}

/* Whether two statements own the same shard, which another connection learns by trying. */
static bool collide(worker *a, worker *b, const char *first, const char *second) {
  sqlite3_busy_timeout(b->db, 1);
  must(a->db, "BEGIN");
  must(a->db, first);
  must(b->db, "BEGIN");
  int rc = sqlite3_exec(b->db, second, NULL, NULL, NULL);
  must(a->db, "ROLLBACK");
  must(b->db, "ROLLBACK");
  return rc != SQLITE_OK;
}

/* `statements[i]` owns a shard of its own; party i takes it first, and then the next party's. */
static void run_circle(const phase *phase, int n, const char *const *statements) {
  party parties[PARTIES];
  pthread_t threads[PARTIES];
  double longest = 0;
  pthread_barrier_init(&barrier, NULL, (unsigned)n + 1);
  for (int i = 0; i < n; i++) {
    parties[i] = (party){.worker = {.phase = phase}, .first = statements[i], .second = statements[(i + 1) % n]};
    worker_open(&parties[i].worker);
  }
  for (int i = 0; i < n; i++) {
    pthread_create(&threads[i], NULL, take_both, &parties[i]);
  }
  for (int round = 0; round < DEADLOCK_ROUNDS; round++) {
    int lost = 0;
    for (int i = 0; i < 3; i++) {
      pthread_barrier_wait(&barrier);
    }
    for (int i = 0; i < n; i++) {
      const party *p = &parties[i];
      if (p->rc == SQLITE_OK) {
        continue;
      }
      lost++;
      longest = p->ms > longest ? p->ms : longest;
      if (p->rc != SQLITE_BUSY || !p->says_deadlock || p->ms > DEADLOCK_MS) {
        fail("%s: round %d: code %d after %.0f ms", phase->name, round, p->rc, p->ms);
      }
    }
    if (lost != 1) {
      fail("%s: round %d: %d of %d parties lost", phase->name, round, lost, n);
    }
    rounds++;
  }
  for (int i = 0; i < n; i++) {
    pthread_join(threads[i], NULL);
    worker_close(&parties[i].worker);
  }
  pthread_barrier_destroy(&barrier);
  printf("%s: %d deadlocks, the longest %.3f ms\n", phase->name, DEADLOCK_ROUNDS, longest);
}

/* Which keys have shards of their own is different for each map, so two such keys are looked for. */
static void run_shards(const phase *phase) {
  const char *statements[2] = {"REPLACE INTO kv VALUES(1, 1)", NULL};
  worker holder = {.phase = phase}, other = {.phase = phase};
  char second[64];
  int key = 2;
  worker_open(&holder);
  worker_open(&other);
  do {
    snprintf(second, sizeof second, "REPLACE INTO kv VALUES(%d, 1)", key++);
    if (key > 1000) {
      fail("%s: all keys are in one shard", phase->name);
      exit(1);
    }
  } while (collide(&holder, &other, statements[0], second));
  statements[1] = second;
  run_circle(phase, 2, statements);
  worker_close(&holder);
  worker_close(&other);
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Three maps and a file                                                                                              */

enum { MOVERS = 8, ACCOUNTS = 50, MONEY = 1000, ENOUGH = 40, MAPS = 3 };

#define TAKE(t) "UPDATE " #t " SET value = value - ?2 WHERE key = ?1"
#define GIVE(t) "UPDATE " #t " SET value = value + ?2 WHERE key = ?1"
static const char *const take_from[] = {TAKE(a), TAKE(b), TAKE(c), TAKE(main.f)};
static const char *const give_to[] = {GIVE(a), GIVE(b), GIVE(c), GIVE(main.f)};

static atomic_int satisfied; /* movers that have committed often enough */

/* Two movements, which start with the file's table if that is part of them: the file's own lock comes first. */
static bool move_money(worker *w) {
  int table = pick(w, MAPS + 1) == 0 ? MAPS : pick(w, MAPS);
  run_ok(w, table == MAPS ? "BEGIN IMMEDIATE" : "BEGIN", 0, 0, NULL);
  for (int i = 0; i < 2; i++) {
    int to = pick(w, MAPS), amount = pick(w, 100);
    if (!run_or_roll_back(w, take_from[table], pick(w, ACCOUNTS), amount, NULL) ||
        !run_or_roll_back(w, give_to[to], pick(w, ACCOUNTS), amount, NULL)) {
      return false;
    }
    table = pick(w, MAPS);
  }
  return run_ok(w, pick(w, 16) ? "COMMIT" : "ROLLBACK", 0, 0, NULL);
}

static void *mover(void *arg) {
  worker *w = arg;
  double start = now_ms();
  bool is_satisfied = false;
  worker_open(w);
  while (atomic_load(&satisfied) < MOVERS && now_ms() - start < VERY_LONG_MS) {
    w->counted[0] += move_money(w);
    if (!is_satisfied && w->counted[0] >= ENOUGH) {
      is_satisfied = true;
      atomic_fetch_add(&satisfied, 1);
    }
  }
  if (!is_satisfied) {
    fail("%s: a mover committed %lld times only", w->phase->name, w->counted[0]);
  }
  worker_close(w);
  return NULL;
}

static void run_movers(const phase *phase) {
  static const char total[] =
      "SELECT (SELECT sum(value) FROM a) + (SELECT sum(value) FROM b) + (SELECT sum(value) FROM c)"
      " + (SELECT sum(value) FROM main.f)";
  static const char *const fill[] = {"INSERT INTO a VALUES(?1, ?2)", "INSERT INTO b VALUES(?1, ?2)",
                                     "INSERT INTO c VALUES(?1, ?2)", "INSERT INTO main.f VALUES(?1, ?2)"};
  worker movers[MOVERS], keeper = {.phase = phase};
  pthread_t threads[MOVERS];
  sqlite3_int64 sum[2], least = INT64_MAX, most = 0;
  worker_open(&keeper);
  for (int i = 0; i < ACCOUNTS * (MAPS + 1); i++) {
    run_ok(&keeper, fill[i % (MAPS + 1)], i / (MAPS + 1), MONEY, NULL);
  }
  for (int i = 0; i < MOVERS; i++) {
    movers[i] = (worker){.phase = phase, .random = seed * 1000 + (uint64_t)i};
    pthread_create(&threads[i], NULL, mover, &movers[i]);
  }
  for (int i = 0; i < MOVERS; i++) {
    pthread_join(threads[i], NULL);
    least = movers[i].counted[0] < least ? movers[i].counted[0] : least;
    most = movers[i].counted[0] > most ? movers[i].counted[0] : most;
  }
  if (run_ok(&keeper, total, 0, 0, sum) && sum[0] != ACCOUNTS * (MAPS + 1) * MONEY) {
    fail("%s: the sum is %lld", phase->name, sum[0]);
  }
  worker_close(&keeper);
  rounds++;
  printf("%s: %lld to %lld commits of each, %ld deadlocks\n", phase->name, least, most, atomic_load(&busy));
}

int main(int argc, char **argv) {
  static const phase maps = {.name = "three maps",
                             .create = "CREATE VIRTUAL TABLE temp.a USING walmap(map='a', shards=1);"
                                       "CREATE VIRTUAL TABLE temp.b USING walmap(map='b', shards=1);"
                                       "CREATE VIRTUAL TABLE temp.c USING walmap(map='c', shards=1)"};
  static const phase shards = {.name = "two shards",
                               .create = "CREATE VIRTUAL TABLE temp.kv USING walmap(map='wide', shards=256)"};
  static const char *const circle[PARTIES] = {"REPLACE INTO a VALUES(1, 1)", "REPLACE INTO b VALUES(1, 1)",
                                              "REPLACE INTO c VALUES(1, 1)"};
  take_settings("deadlock", argc > 1 ? argv[1] : NULL);
  run_shards(&shards);
  run_circle(&maps, PARTIES, circle);
  char folder[] = "/tmp/walmap-deadlock-XXXXXX", file[100];
  if (mkdtemp(folder) == NULL) {
    perror(folder);
    return 2;
  }
  snprintf(file, sizeof file, "%s/deadlock.db", folder);
  const phase banks = {.name = "three maps and a file",
                       .file = file,
                       .create = "PRAGMA main.journal_mode = memory;"
                                 "CREATE VIRTUAL TABLE temp.a USING walmap(map='bank a');"
                                 "CREATE VIRTUAL TABLE temp.b USING walmap(map='bank b');"
                                 "CREATE VIRTUAL TABLE temp.c USING walmap(map='bank c');"
                                 "CREATE VIRTUAL TABLE IF NOT EXISTS main.f USING walmap"};
  run_movers(&banks);
  unlink(file);
  rmdir(folder);
  printf("%d passed, %ld failed\n", rounds, atomic_load(&failures));
  return atomic_load(&failures) > 0;
}
