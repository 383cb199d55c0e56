/*
** stress.c - wrong totals, lost increments, readers that fail (T1 to T6), between threads
**
** Every thread has a connection of its own; all use one map. Accounts 0 to 99 hold money that is only ever moved, so
** each committed state has the same total; counters are only ever incremented, so at the end each increment that
** succeeded must be there.
**
**    mover        two-statement transactions, of which some roll back, some partly (savepoints), some read in between
**    incrementer  single statements and walmap_upsert, in turns
**    reader       the total by a scan, a join, subqueries, IN and walmap_get: one state, and never an error
**    imager       the total of an image, by walmap_each and restored elsewhere; replaces the map by an image of it
**    bulk         many and larger values, which come and go
**    visitor      opens, ruins everything in a transaction, and closes without an end; compacts
**    victim       moves money too, and is interrupted at any moment
**    churner      makes and drops tables of other maps, on connections that come and go; interrupts the victim
**
** Usage: stress [seconds [seed]]     defaults: 6, and SEED from the environment or the clock
** Environment: SEED; WALMAP_SO is the extension (default ./walmap)
*/
#define _GNU_SOURCE /* mkdtemp */

#include "threads.h"

#define ACCOUNTS 100
#define MONEY 1000
#define TOTAL ((sqlite3_int64)ACCOUNTS * MONEY)
#define COUNTERS 4
#define FIRST_COUNTER 1000

static char folder[64];
static atomic_bool stop;

/* ------------------------------------------------------------------------------------------------------------------ */
/* What was seen                                                                                                      */

enum check {
  MOVED,
  MOVED_AT_ONCE,
  UNDONE,
  INCREMENTED,
  SCANNED,
  JOINED,
  PROBED,
  LISTED,
  CALLED,
  BULKY,
  IMAGED,
  RESTORED,
  VISITED,
  COMPACTED,
  INTERRUPTED,
  CHURNED,
  CHECKS
};
static const char *const check_names[CHECKS] = {
    "transactions that moved money",
    "statements that moved money",
    "transactions that were undone",
    "increments",
    "totals by scan",
    "totals by join",
    "totals by subqueries",
    "totals by IN",
    "totals by walmap_get",
    "scans of bulk",
    "totals of images",
    "restores beside readers",
    "visits that ended in the middle",
    "compactions",
    "transactions that were interrupted",
    "maps that came and went",
};
static atomic_long seen[CHECKS];

static bool is_all_seen(void) {
  int n = 0;
  for (int i = 0; i < CHECKS; i++) {
    n += atomic_load(&seen[i]) > 0;
  }
  return n == CHECKS;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Roles                                                                                                              */

#define TAKE "UPDATE kv SET value = value - ?2 WHERE key = ?1"
#define GIVE "UPDATE kv SET value = value + ?2 WHERE key = ?1"
#define MOVE "UPDATE kv SET value = value + CASE key WHEN ?1 THEN -7 ELSE 7 END WHERE key IN (?1, ?2)"
#define MOVE_BY_SELECT                                                                                                 \
  "REPLACE INTO kv SELECT key, value + CASE key WHEN ?1 THEN -3 ELSE 3 END FROM kv WHERE key IN (?1, ?2)"

static void *mover(void *arg) {
  worker *w = arg;
  worker_open(w);
  while (!atomic_load(&stop)) {
    int from = pick(w, ACCOUNTS), to = pick(w, ACCOUNTS), amount = pick(w, 100), how = pick(w, 8);
    sqlite3_int64 value[2];
    if (from != to && pick(w, 6) == 0) { /* one statement, whose reading part is bound to its writing part */
      atomic_fetch_add(&seen[MOVED_AT_ONCE], run_or_roll_back(w, pick(w, 2) ? MOVE : MOVE_BY_SELECT, from, to, NULL));
      continue;
    }
    run_ok(w, "BEGIN", 0, 0, NULL);
    if (!run_or_roll_back(w, TAKE, from, amount, NULL)) {
      continue;
    }
    if (how == 0) { /* a part that is undone */
      run_ok(w, "SAVEPOINT s", 0, 0, NULL);
      if (!run_or_roll_back(w, GIVE, pick(w, ACCOUNTS), 7777, NULL) ||
          !run_or_roll_back(w, "DELETE FROM kv WHERE key = ?1", pick(w, ACCOUNTS), 0, NULL)) {
        continue;
      }
      run_ok(w, "ROLLBACK TO s", 0, 0, NULL);
    }
    if (how == 1) { /* T4: what was read stays as it was read */
      if (!run_or_roll_back(w, "SELECT value FROM kv WHERE key = ?1", to, 0, value) ||
          !run_or_roll_back(w, "UPDATE kv SET value = ?2 WHERE key = ?1", to, value[0] + amount, NULL)) {
        continue;
      }
    } else if (how == 2) { /* a key that goes and comes back */
      if (!run_or_roll_back(w, "SELECT value FROM kv WHERE key = ?1", to, 0, value) ||
          !run_or_roll_back(w, "DELETE FROM kv WHERE key = ?1", to, 0, NULL) ||
          !run_or_roll_back(w, "INSERT INTO kv VALUES(?1, ?2)", to, value[0] + amount, NULL)) {
        continue;
      }
    } else if (!run_or_roll_back(w, GIVE, to, amount, NULL)) {
      continue;
    }
    if (how >= 6) {
      run_ok(w, "ROLLBACK", 0, 0, NULL);
      atomic_fetch_add(&seen[UNDONE], 1);
    } else if (run_ok(w, "COMMIT", 0, 0, NULL)) {
      atomic_fetch_add(&seen[MOVED], 1);
    }
  }
  worker_close(w);
  return NULL;
}

static void *incrementer(void *arg) {
  worker *w = arg;
  worker_open(w);
  while (!atomic_load(&stop)) {
    int counter = pick(w, COUNTERS);
    const char *sql = pick(w, 2) ? "UPDATE kv SET value = value + 1 WHERE key = ?1"
                                 : "SELECT walmap_upsert('kv', ?1, 1, 'value + 1')";
    if (run_ok(w, sql, FIRST_COUNTER + counter, 0, NULL)) {
      w->counted[counter]++;
      atomic_fetch_add(&seen[INCREMENTED], 1);
    }
  }
  worker_close(w);
  return NULL;
}

static const struct {
  enum check check;
  const char *sql;
} totals[] = {
    {SCANNED, "SELECT sum(value), count(*) FROM kv WHERE key < 1000"},
    {JOINED, "SELECT sum(kv.value), count(*) FROM temp.ids JOIN kv ON kv.key = ids.k"},
    {PROBED, "SELECT sum((SELECT value FROM kv WHERE key = k)), count(*) FROM temp.ids"},
    {LISTED, "SELECT sum(value), count(*) FROM kv WHERE key IN (SELECT k FROM temp.ids)"},
    {BULKY, "SELECT 100000 + count(*), 100 FROM kv WHERE key >= 10000 AND CAST(value AS INTEGER) <> key"},
    {CALLED, "SELECT sum(walmap_get('kv', k)), count(*) FROM temp.ids"},
};

static void check_total(worker *w, enum check check, const char *sql) {
  sqlite3_int64 row[2];
  if (run_ok(w, sql, 0, 0, row)) {
    if (row[0] != TOTAL || row[1] != ACCOUNTS) {
      fail("%s: %s: total %lld of %lld, accounts %lld of %d", w->phase->name, sql, row[0], TOTAL, row[1], ACCOUNTS);
    }
    atomic_fetch_add(&seen[check], 1);
  }
}

static void *reader(void *arg) {
  worker *w = arg;
  worker_open(w);
  must(w->db, "CREATE TEMP TABLE ids(k); WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n LIMIT 100)"
              " INSERT INTO ids SELECT i FROM n");
  while (!atomic_load(&stop)) {
    size_t i = (size_t)pick(w, sizeof totals / sizeof totals[0]);
    bool in_transaction = pick(w, 4) == 0; /* which reads only */
    if (in_transaction) {
      run_ok(w, "BEGIN", 0, 0, NULL);
    }
    check_total(w, totals[i].check, totals[i].sql);
    if (in_transaction) {
      run_ok(w, "COMMIT", 0, 0, NULL);
    }
  }
  worker_close(w);
  return NULL;
}

/* Makes the log and the index grow and shrink. Each value tells its key. */
static void *bulk(void *arg) {
  worker *w = arg;
  worker_open(w);
  while (!atomic_load(&stop)) {
    int from = 10000 + pick(w, 3000), n = pick(w, 300);
    const char *sql = pick(w, 4) ? "WITH RECURSIVE n(i) AS (SELECT ?1 UNION ALL SELECT i + 1 FROM n WHERE i < ?2)"
                                   " REPLACE INTO kv SELECT i, printf('%0*d', abs(random()) % 500, i) FROM n"
                                 : "DELETE FROM kv WHERE key BETWEEN ?1 AND ?2";
    run_ok(w, "BEGIN", 0, 0, NULL);
    if (run_or_roll_back(w, sql, from, from + n, NULL)) {
      run_ok(w, pick(w, 4) ? "COMMIT" : "ROLLBACK", 0, 0, NULL);
    }
  }
  while (!run_or_roll_back(w, "DELETE FROM kv WHERE key >= 10000", 0, 0, NULL)) {
  }
  worker_close(w);
  return NULL;
}

/* The map's own image; and one in which all accounts have the same, so that a mixture of old and new shows. */
#define RESTORE_SAME "SELECT walmap_restore('kv', walmap_snapshot('kv'))"
#define RESTORE_EVEN                                                                                                   \
  "SELECT walmap_restore('kv', (SELECT walmap_image(key, CASE WHEN key < 1000 THEN 1000 ELSE value END) FROM kv))"

static void *imager(void *arg) {
  worker *w = arg;
  worker_open(w);
  must(w->db, "CREATE VIRTUAL TABLE temp.mine USING walmap");
  while (!atomic_load(&stop)) {
    switch (pick(w, 5)) {
    case 0:
      if (run_ok(w, "SELECT walmap_restore('mine', walmap_snapshot('kv'))", 0, 0, NULL)) {
        check_total(w, IMAGED, "SELECT sum(value), count(*) FROM mine WHERE key < 1000");
      }
      break;
    case 1: /* replaces the map, after it has read all of it: nothing may be lost */
      run_ok(w, "BEGIN", 0, 0, NULL);
      if (run_or_roll_back(w, "DELETE FROM kv WHERE key = 'nothing'", 0, 0, NULL) &&
          run_or_roll_back(w, "SELECT sum(value) FROM kv", 0, 0, NULL) &&
          run_or_roll_back(w, pick(w, 2) ? RESTORE_SAME : RESTORE_EVEN, 0, 0, NULL)) {
        run_ok(w, pick(w, 3) ? "COMMIT" : "ROLLBACK", 0, 0, NULL);
        atomic_fetch_add(&seen[RESTORED], 1);
      }
      break;
    default:
      check_total(w, IMAGED,
                  "SELECT sum(value), count(*) FROM walmap_each((SELECT walmap_snapshot('kv'))) WHERE key < 1000");
    }
  }
  worker_close(w);
  return NULL;
}

static void *visitor(void *arg) {
  worker *w = arg;
  while (!atomic_load(&stop)) {
    worker_open(w);
    check_total(w, SCANNED, "SELECT sum(value), count(*) FROM kv WHERE key < 1000");
    if (pick(w, 2)) {
      run_ok(w, "BEGIN", 0, 0, NULL);
      if (run_or_roll_back(w, "UPDATE kv SET value = -1", 0, 0, NULL) &&
          run_or_roll_back(w, "DELETE FROM kv WHERE key % 2", 0, 0, NULL)) {
        atomic_fetch_add(&seen[VISITED], 1);
      }
    } else if (run_or_roll_back(w, "SELECT length(walmap_compact('kv'))", 0, 0, NULL)) {
      atomic_fetch_add(&seen[COMPACTED], 1);
    }
    worker_close(w); /* in the middle of the transaction */
  }
  return NULL;
}

/* The connection to interrupt, or NULL. */
static sqlite3 *victims_db;
static pthread_mutex_t victims_mutex = PTHREAD_MUTEX_INITIALIZER;

static void victim_set(sqlite3 *db) {
  pthread_mutex_lock(&victims_mutex);
  victims_db = db;
  pthread_mutex_unlock(&victims_mutex);
}

static void victim_interrupt(void) {
  pthread_mutex_lock(&victims_mutex);
  if (victims_db) {
    sqlite3_interrupt(victims_db);
  }
  pthread_mutex_unlock(&victims_mutex);
}

/* Parsing can be interrupted as well, so the statements are prepared before the churner learns of the connection. */
static void *victim(void *arg) {
  static const char *const statements[] = {"BEGIN", TAKE, "SELECT sum(value) FROM kv", GIVE, "COMMIT", "ROLLBACK"};
  worker *w = arg;
  worker_open(w);
  for (size_t i = 0; i < sizeof statements / sizeof statements[0]; i++) {
    prepare(w, statements[i]);
  }
  victim_set(w->db);
  while (!atomic_load(&stop)) {
    int account[] = {0, pick(w, ACCOUNTS), 0, pick(w, ACCOUNTS), 0}, amount = pick(w, 100), rc = SQLITE_OK;
    for (int i = 0; i < 5 && rc == SQLITE_OK; i++) {
      rc = i == 2 && amount % 4 ? SQLITE_OK : run(w, statements[i], account[i], amount, NULL);
    }
    if (rc == SQLITE_INTERRUPT) {
      atomic_fetch_add(&seen[INTERRUPTED], 1);
    } else if (rc != SQLITE_OK && !is_deadlock(w)) {
      fail("%s: the victim got %d: %s", w->phase->name, rc, sqlite3_errmsg(w->db));
    }
    while (!sqlite3_get_autocommit(w->db)) {
      run(w, "ROLLBACK", 0, 0, NULL); /* which may be interrupted too */
    }
  }
  victim_set(NULL);
  worker_close(w);
  return NULL;
}

/* Each of the churned maps holds one key, whose value is the map's number: a map that is another's shows. */
static void *churner(void *arg) {
  worker *w = arg;
  while (!atomic_load(&stop)) {
    char sql[200];
    int map = pick(w, 3);
    sqlite3_int64 row[2] = {map, 1};
    w->db = connect(":memory:");
    victim_interrupt();
    snprintf(sql, sizeof sql, "CREATE VIRTUAL TABLE temp.c USING walmap(map='churn %d', shards=%d)", map, 1 << map);
    if (pick(w, 3) == 0) {
      must(w->db, "BEGIN");
      must(w->db, sql);
      must(w->db, "INSERT INTO c VALUES(-1, -1); ROLLBACK");
    }
    must(w->db, sql);
    run_ok(w, "REPLACE INTO c VALUES(1, ?1)", map, 0, NULL);
    if (run_ok(w, "SELECT max(value), count(*) FROM c", 0, 0, row) && (row[0] != map || row[1] != 1)) {
      fail("map %d holds %lld, and %lld keys", map, row[0], row[1]);
    }
    run_ok(w, "SELECT count(*), sum(memory) FROM walmap_stats", 0, 0, row);
    victim_interrupt();
    switch (pick(w, 3)) {
    case 0:
      run_ok(w, "DROP TABLE c", 0, 0, NULL);
      break;
    case 1:
      must(w->db, "ALTER TABLE c RENAME TO d; BEGIN; DROP TABLE d");
      break;
    }
    atomic_fetch_add(&seen[CHURNED], 1);
    worker_close(w);
  }
  return NULL;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* The phases                                                                                                         */

/* The last phase goes on until everything has been seen: on a busy machine a thread may do little in seconds. */
static void run_phase(const phase *phase, double seconds, bool is_last) {
  static void *(*const roles[])(void *) = {mover,  mover,   incrementer, incrementer, reader,  reader,
                                           imager, visitor, victim,      bulk,        churner, churner};
  enum { THREADS = sizeof roles / sizeof roles[0] };
  worker workers[THREADS], keeper = {.phase = phase};
  pthread_t threads[THREADS];
  sqlite3_int64 row[2];
  atomic_store(&stop, false);
  worker_open(&keeper);
  for (int i = 0; i < ACCOUNTS; i++) {
    run_ok(&keeper, "INSERT INTO kv VALUES(?1, ?2)", i, MONEY, NULL);
  }
  for (int i = 0; i < COUNTERS; i++) {
    run_ok(&keeper, "INSERT INTO kv VALUES(?1, ?2)", FIRST_COUNTER + i, 0, NULL);
  }
  for (int i = 0; i < THREADS; i++) {
    workers[i] = (worker){.phase = phase, .random = seed * 1000 + (uint64_t)i};
    if (pthread_create(&threads[i], NULL, roles[i], &workers[i])) {
      fprintf(stderr, "cannot make a thread\n");
      exit(2);
    }
  }
  usleep((useconds_t)(seconds * 1e6));
  for (int ms = 0; is_last && !is_all_seen() && ms < VERY_LONG_MS; ms += 10) {
    usleep(10000);
  }
  atomic_store(&stop, true);
  for (int i = 0; i < THREADS; i++) {
    pthread_join(threads[i], NULL);
  }
  check_total(&keeper, SCANNED, "SELECT sum(value), count(*) FROM kv WHERE key < 1000");
  for (int c = 0; c < COUNTERS; c++) {
    sqlite3_int64 sum = 0;
    for (int i = 0; i < THREADS; i++) {
      sum += workers[i].counted[c];
    }
    if (run_ok(&keeper, "SELECT value FROM kv WHERE key = ?1", FIRST_COUNTER + c, 0, row) && row[0] != sum) {
      fail("%s: counter %d is %lld after %lld increments", phase->name, c, row[0], sum);
    }
  }
  if (run_ok(&keeper, "SELECT count(*) FROM pragma_integrity_check WHERE integrity_check <> 'ok'", 0, 0, row) &&
      row[0]) {
    fail("%s: the map is damaged", phase->name);
  }
  if (run_ok(&keeper, "SELECT walmap_len('kv'), walmap_size('kv')", 0, 0, row) && row[0] != ACCOUNTS + COUNTERS) {
    fail("%s: walmap_len is %lld of %d", phase->name, row[0], ACCOUNTS + COUNTERS);
  }
  printf("%s: log of %lld bytes at the end", phase->name, row[1]);
  if (run_ok(&keeper, "SELECT length(walmap_compact('kv'))", 0, 0, NULL) &&
      run_ok(&keeper, "SELECT walmap_size('kv'), walmap_reclaimable('kv')", 0, 0, row)) {
    printf(", %lld when compacted\n", row[0]);
    if (row[1] != 0) {
      fail("%s: %lld bytes reclaimable after compaction", phase->name, row[1]);
    }
  }
  worker_close(&keeper);
}

int main(int argc, char **argv) {
  double seconds = argc > 1 ? atof(argv[1]) : 6;
  take_settings("stress", argc > 2 ? argv[2] : NULL);
  snprintf(folder, sizeof folder, "/tmp/walmap-stress-XXXXXX");
  if (mkdtemp(folder) == NULL) {
    perror(folder);
    return 2;
  }
  char file[100];
  snprintf(file, sizeof file, "%s/stress.db", folder);

  const phase phases[] = {
      {"many shards", NULL,
       "CREATE VIRTUAL TABLE temp.kv USING walmap(map='many', shards=16, auto_compact=20, busy_timeout=600000)"},
      {"one shard", NULL, "CREATE VIRTUAL TABLE temp.kv USING walmap(map='single', shards=1, busy_timeout=600000)"},
      {"ordered", NULL, "CREATE VIRTUAL TABLE temp.kv USING walmap(map='ordered', ordered=1, busy_timeout=600000)"},
      {"database file", file, "CREATE VIRTUAL TABLE IF NOT EXISTS kv USING walmap(shards=4, busy_timeout=600000)"},
  };
  enum { PHASES = sizeof phases / sizeof phases[0] };
  for (int i = 0; i < PHASES; i++) {
    run_phase(&phases[i], seconds / PHASES, i == PHASES - 1);
  }

  unlink(file);
  rmdir(folder);
  int passed = 0, failed = 0;
  for (int i = 0; i < CHECKS; i++) {
    long n = atomic_load(&seen[i]);
    printf("%10ld %s%s\n", n, check_names[i], n ? "" : ": FAILED, never happened");
    passed += n > 0;
    failed += n == 0;
  }
  printf("%10ld deadlocks among the movers\n", atomic_load(&busy));
  if (atomic_load(&failures)) {
    failed += (int)atomic_load(&failures);
  }
  printf("%d passed, %d failed\n", passed, failed);
  return failed > 0;
}
