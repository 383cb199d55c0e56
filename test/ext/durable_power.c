/*
** durable_power.c - power loss, full disks and I/O errors: a durable table and a native one in the same transactions
** (D1)
**
** A VFS between SQLite and the disk keeps what each sector of 512 bytes held when its file was synced last. At the n-th
** call the power fails: of the sectors that were written since, all, none, or some at random go back to what they were,
** and the process ends. Then the file is opened again, without that VFS: the tables k (durable) and n (native) must be
** equal, must be what some transaction left, and no acknowledged transaction may be missing; b, whose bound makes each
** transaction evict an entry, must be of the same one.
**
**    power       as above, for thousands of n, in WAL mode and with a rollback journal
**    lie         the same with a disk that lies about syncing: this must be found out, or the test is blind
**    error       the n-th write, sync or truncation fails with SQLITE_IOERR, or with SQLITE_FULL from then on; k and n
**                stay equal, in the process that goes on and in the next one
**
** Usage: durable_power [trials]     of power, for each mode; default 60
** Environment: SEED; WALMAP_SO is the extension (default ./walmap)
*/
#define _GNU_SOURCE /* mkdtemp, MAP_ANONYMOUS */

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

enum { SECTOR = 512, TRANSACTIONS = 60 };

static const char *extension = "./walmap";
static char folder[64], file[96];
static uint64_t seed, state;

static unsigned pick(unsigned n) {
  uint64_t z = state += 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return (unsigned)((z ^ (z >> 31)) % n);
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* The disk                                                                                                           */

typedef struct sector {
  sqlite3_int64 at;
  struct sector *next;
  uint8_t bytes[SECTOR];
} sector;

typedef struct disk_file {
  sqlite3_file base;
  sector *unsynced; /* what these sectors held when the file was synced last */
  sqlite3_int64 synced_size;
  struct disk_file *next; /* open files */
  sqlite3_file *real;     /* behind this struct */
} disk_file;

typedef enum fault { NO_FAULT, POWER, LIE, IO_ERROR, FULL_DISK, READ_ERROR } fault;

static sqlite3_vfs *real_vfs;
static disk_file *open_files;
static fault kind;
static long calls, fault_at; /* 0: never */
static bool hit;
static enum { DROP_ALL, KEEP_ALL, DROP_SOME } after_cut;

static sqlite3_file *real(sqlite3_file *f) { return ((disk_file *)f)->real; }

static void forget_sectors(disk_file *f) {
  while (f->unsynced != NULL) {
    sector *s = f->unsynced;
    f->unsynced = s->next;
    free(s);
  }
  f->real->pMethods->xFileSize(f->real, &f->synced_size);
}

static void restore(disk_file *f) {
  static const uint8_t zeros[SECTOR];
  for (sector *s = f->unsynced; s != NULL; s = s->next) {
    if (after_cut == KEEP_ALL || (after_cut == DROP_SOME && pick(2)))
      continue;
    int size = s->at >= f->synced_size ? 0 : s->at + SECTOR > f->synced_size ? (int)(f->synced_size - s->at) : SECTOR;
    if (size > 0)
      f->real->pMethods->xWrite(f->real, s->bytes, size, s->at);
    else if (after_cut == DROP_SOME)
      f->real->pMethods->xWrite(f->real, zeros, SECTOR, s->at);
  }
  if (after_cut == DROP_ALL)
    f->real->pMethods->xTruncate(f->real, f->synced_size);
}

/* Before a call that changes the disk. Other than SQLITE_OK: it fails. */
static int tick(void) {
  if (fault_at == 0 || kind == READ_ERROR || ++calls < fault_at)
    return SQLITE_OK;
  hit = true;
  switch (kind) {
  case IO_ERROR:
    return calls == fault_at ? SQLITE_IOERR_WRITE : SQLITE_OK;
  case FULL_DISK:
    return SQLITE_FULL;
  default:
    for (disk_file *f = open_files; f != NULL; f = f->next)
      restore(f);
    _exit(77);
  }
}

static void save(disk_file *f, sqlite3_int64 from, sqlite3_int64 to) {
  for (sqlite3_int64 at = from - from % SECTOR; at < to; at += SECTOR) {
    sector *s = f->unsynced;
    while (s != NULL && s->at != at)
      s = s->next;
    if (s != NULL)
      continue;
    s = calloc(1, sizeof *s);
    s->at = at;
    f->real->pMethods->xRead(f->real, s->bytes, SECTOR, at); /* past the end: zeros */
    s->next = f->unsynced;
    f->unsynced = s;
  }
}

static int disk_close(sqlite3_file *base) {
  disk_file *f = (disk_file *)base, **at = &open_files;
  while (*at != f)
    at = &(*at)->next;
  *at = f->next;
  forget_sectors(f); /* a simplification: what was closed is not lost */
  return f->real->pMethods->xClose(f->real);
}

static int disk_read(sqlite3_file *f, void *to, int size, sqlite3_int64 at) {
  if (kind == READ_ERROR && fault_at > 0 && ++calls == fault_at) {
    hit = true;
    return SQLITE_IOERR_READ;
  }
  return real(f)->pMethods->xRead(real(f), to, size, at);
}

static int disk_write(sqlite3_file *base, const void *from, int size, sqlite3_int64 at) {
  disk_file *f = (disk_file *)base;
  int rc = tick();
  if (rc != SQLITE_OK)
    return rc;
  if (kind == POWER || kind == LIE)
    save(f, at, at + size);
  return f->real->pMethods->xWrite(f->real, from, size, at);
}

static int disk_truncate(sqlite3_file *base, sqlite3_int64 size) {
  disk_file *f = (disk_file *)base;
  sqlite3_int64 before = 0;
  int rc = tick();
  if (rc != SQLITE_OK)
    return rc == SQLITE_FULL ? SQLITE_IOERR_TRUNCATE : rc;
  f->real->pMethods->xFileSize(f->real, &before);
  if (kind == POWER || kind == LIE)
    save(f, size, before);
  return f->real->pMethods->xTruncate(f->real, size);
}

static int disk_sync(sqlite3_file *base, int flags) {
  disk_file *f = (disk_file *)base;
  int rc = tick();
  (void)flags;
  if (rc != SQLITE_OK)
    return rc == SQLITE_FULL ? SQLITE_IOERR_FSYNC : rc;
  if (kind == POWER)
    forget_sectors(f);
  return SQLITE_OK; /* nothing here needs the real disk's sync */
}

static int disk_size(sqlite3_file *f, sqlite3_int64 *size) { return real(f)->pMethods->xFileSize(real(f), size); }
static int disk_lock(sqlite3_file *f, int lock) { return real(f)->pMethods->xLock(real(f), lock); }
static int disk_unlock(sqlite3_file *f, int lock) { return real(f)->pMethods->xUnlock(real(f), lock); }
static int disk_reserved(sqlite3_file *f, int *out) { return real(f)->pMethods->xCheckReservedLock(real(f), out); }
static int disk_control(sqlite3_file *f, int op, void *arg) {
  if (op == SQLITE_FCNTL_VFSNAME)
    return SQLITE_OK; /* and the name stays NULL, as with dqlite's VFS */
  return real(f)->pMethods->xFileControl(real(f), op, arg);
}
static int disk_sector_size(sqlite3_file *f) {
  (void)f;
  return SECTOR;
}
static int disk_characteristics(sqlite3_file *f) {
  (void)f;
  return 0; /* nothing is promised */
}
static int disk_shm_map(sqlite3_file *f, int page, int size, int extend, void volatile **out) {
  return real(f)->pMethods->xShmMap(real(f), page, size, extend, out);
}
static int disk_shm_lock(sqlite3_file *f, int at, int n, int flags) {
  return real(f)->pMethods->xShmLock(real(f), at, n, flags);
}
static void disk_shm_barrier(sqlite3_file *f) { real(f)->pMethods->xShmBarrier(real(f)); }
static int disk_shm_unmap(sqlite3_file *f, int remove) { return real(f)->pMethods->xShmUnmap(real(f), remove); }

static const sqlite3_io_methods methods = {2,
                                           disk_close,
                                           disk_read,
                                           disk_write,
                                           disk_truncate,
                                           disk_sync,
                                           disk_size,
                                           disk_lock,
                                           disk_unlock,
                                           disk_reserved,
                                           disk_control,
                                           disk_sector_size,
                                           disk_characteristics,
                                           disk_shm_map,
                                           disk_shm_lock,
                                           disk_shm_barrier,
                                           disk_shm_unmap,
                                           NULL,
                                           NULL};

static int disk_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *base, int flags, int *out) {
  disk_file *f = (disk_file *)base;
  (void)vfs;
  memset(f, 0, sizeof *f);
  f->real = (sqlite3_file *)(f + 1);
  int rc = real_vfs->xOpen(real_vfs, name, f->real, flags, out);
  if (rc != SQLITE_OK)
    return rc;
  f->base.pMethods = &methods;
  f->next = open_files;
  open_files = f;
  forget_sectors(f);
  return SQLITE_OK;
}

static int disk_delete(sqlite3_vfs *vfs, const char *name, int sync) {
  (void)vfs;
  int rc = tick();
  return rc != SQLITE_OK ? SQLITE_IOERR_DELETE : real_vfs->xDelete(real_vfs, name, sync);
}

static void use_disk(void) {
  static sqlite3_vfs vfs;
  real_vfs = sqlite3_vfs_find(NULL);
  vfs = *real_vfs;
  vfs.zName = "unix-power";
  vfs.szOsFile = (int)sizeof(disk_file) + real_vfs->szOsFile;
  vfs.xOpen = disk_open;
  vfs.xDelete = disk_delete;
  sqlite3_vfs_register(&vfs, 1);
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* The work                                                                                                           */

static atomic_long *acknowledged; /* number of the last transaction that was committed */

static sqlite3 *connect_to_file(void) {
  sqlite3 *db;
  char *err = NULL;
  if (sqlite3_open(file, &db) != SQLITE_OK)
    exit(3);
  sqlite3_enable_load_extension(db, 1);
  if (sqlite3_load_extension(db, extension, NULL, &err) != SQLITE_OK) {
    printf("FAILED: %s\n", err);
    exit(3);
  }
  return db;
}

static bool run(sqlite3 *db, const char *sql) { return sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK; }

static sqlite3_int64 ask(sqlite3 *db, const char *sql) {
  sqlite3_stmt *statement;
  sqlite3_int64 answer = -1;
  if (sqlite3_prepare_v2(db, sql, -1, &statement, NULL) == SQLITE_OK && sqlite3_step(statement) == SQLITE_ROW)
    answer = sqlite3_column_int64(statement, 0);
  sqlite3_finalize(statement);
  return answer;
}

static bool make_tables(sqlite3 *db, const char *mode) {
  char sql[200];
  snprintf(sql, sizeof sql, "PRAGMA journal_mode = %s; PRAGMA synchronous = full; PRAGMA wal_autocheckpoint = 40;",
           mode);
  return run(db, sql) && run(db, "CREATE VIRTUAL TABLE IF NOT EXISTS k USING walmap(durable=1);"
                                 "CREATE TABLE IF NOT EXISTS n(key PRIMARY KEY, value) WITHOUT ROWID;"
                                 "CREATE VIRTUAL TABLE IF NOT EXISTS b USING walmap(max_entries=4)");
}

/*
** BEGIN, and the changes of one transaction: its number goes into all tables, and a few random changes into k and n.
** From b its COMMIT evicts an earlier number. False when one of the statements failed.
*/
static bool begin_and_change(sqlite3 *db, long number) {
  char sql[4][400];
  bool fine = run(db, "BEGIN");
  for (int i = 0; fine && i < 3; i++) {
    unsigned key = pick(30), size = pick(40) == 0 ? 60000 : pick(3000), what = pick(5);
    for (int t = 0; t < 2; t++) {
      const char *table = t == 0 ? "k" : "n";
      if (what == 0)
        snprintf(sql[t], sizeof sql[t], "DELETE FROM %s WHERE key = %u", table, key);
      else
        snprintf(sql[t], sizeof sql[t], "REPLACE INTO %s VALUES(%u, %ld || hex(zeroblob(%u)))", table, key, number,
                 size / 2);
      fine = fine && run(db, sql[t]);
    }
  }
  for (int t = 0; t < 2 && fine; t++) {
    snprintf(sql[t], sizeof sql[t], "REPLACE INTO %s VALUES('last', %ld)", t == 0 ? "k" : "n", number);
    fine = run(db, sql[t]);
  }
  snprintf(sql[0], sizeof sql[0], "INSERT INTO b VALUES(%ld, %ld)", number, number);
  return fine && run(db, sql[0]);
}

/* COMMIT, or ROLLBACK when it is not wanted or fails. True when the transaction was committed. */
static bool end_transaction(sqlite3 *db, bool wanted) {
  if (wanted && run(db, "COMMIT"))
    return true;
  if (!sqlite3_get_autocommit(db))
    run(db, "ROLLBACK");
  return false;
}

/* One transaction; now and then with a checkpoint, now and then rolled back. True when it was committed. */
static bool transact(sqlite3 *db, long number) {
  bool fine = begin_and_change(db, number);
  if (fine && pick(30) == 0)
    fine = run(db, "SELECT walmap_checkpoint('k')");
  return end_transaction(db, fine && pick(8) != 0);
}

static sqlite3_int64 differences(sqlite3 *db) {
  return ask(db, "SELECT (SELECT count(*) FROM (SELECT key, value FROM k EXCEPT SELECT key, value FROM n))"
                 " + (SELECT count(*) FROM (SELECT key, value FROM n EXCEPT SELECT key, value FROM k))");
}

/* Whether b has the last number that was committed, earlier ones, and no more than its bound. It may not be there. */
static bool bounded_is_right(sqlite3 *db, sqlite3_int64 last) {
  sqlite3_int64 tables = ask(db, "SELECT count(*) FROM sqlite_schema WHERE name IN ('b', 'b_log')");
  if (tables == 0)
    return last == 0;
  return tables == 2 && ask(db, "SELECT count(*) FROM b") <= 4 &&
         ask(db, "SELECT coalesce(max(key), 0) FROM b") == last &&
         ask(db, "SELECT count(*) FROM b WHERE value <> key") == 0;
}

/* After a failure: whether all is right. The tables may not be there yet. */
static int check_file(void) {
  sqlite3 *db = connect_to_file();
  sqlite3_int64 tables = ask(db, "SELECT count(*) FROM sqlite_schema WHERE name IN ('k', 'k_log', 'n')");
  bool fine = tables == 0 || tables == 2 || tables == 3; /* CREATE of k and of n are two transactions */
  if (tables == 3) {
    sqlite3_int64 last = ask(db, "SELECT coalesce(max(value), 0) FROM k WHERE key = 'last'");
    fine = differences(db) == 0 && last >= atomic_load(acknowledged) &&
           ask(db, "SELECT count(*) FROM n WHERE key = 'last'") <= 1 && bounded_is_right(db, last);
  } else {
    fine = fine && atomic_load(acknowledged) == 0;
  }
  sqlite3_stmt *statement;
  if (sqlite3_prepare_v2(db, "PRAGMA integrity_check", -1, &statement, NULL) != SQLITE_OK ||
      sqlite3_step(statement) != SQLITE_ROW || strcmp((const char *)sqlite3_column_text(statement, 0), "ok") != 0)
    fine = false;
  sqlite3_finalize(statement);
  sqlite3_close(db);
  return fine ? 0 : 1;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Trials                                                                                                             */

static int status_of(pid_t pid) {
  int status = 0;
  waitpid(pid, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

static void remove_files(void) {
  char command[160];
  snprintf(command, sizeof command, "rm -f %s*", file);
  if (system(command) != 0)
    exit(2);
}

/* The power fails in a process of its own. True when what is left is right. */
static bool try_power(fault what, const char *mode, long at, int after, bool *cut) {
  char shm[110];
  remove_files();
  atomic_store(acknowledged, 0);
  pid_t pid = fork();
  if (pid == 0) {
    state = seed + (uint64_t)at;
    use_disk();
    kind = what;
    after_cut = after;
    fault_at = at;
    sqlite3 *db = connect_to_file();
    make_tables(db, mode);
    for (long number = 1; number <= TRANSACTIONS; number++) {
      if (transact(db, number))
        atomic_store(acknowledged, number);
    }
    _exit(0);
  }
  int status = status_of(pid);
  *cut = status == 77;
  if (status != 77 && status != 0)
    return false;
  snprintf(shm, sizeof shm, "%s-shm", file);
  unlink(shm); /* it is memory */
  if ((pid = fork()) == 0)
    _exit(check_file());
  return status_of(pid) == 0;
}

/* Calls of a run without a fault. */
static long count_calls(const char *mode) {
  long *count = mmap(NULL, sizeof *count, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  remove_files();
  if (fork() == 0) {
    state = seed;
    use_disk();
    fault_at = 1L << 60;
    sqlite3 *db = connect_to_file();
    make_tables(db, mode);
    for (long number = 1; number <= TRANSACTIONS; number++)
      transact(db, number);
    *count = calls;
    _exit(0);
  }
  int status;
  wait(&status);
  long n = *count;
  munmap(count, sizeof *count);
  return n;
}

static int cut_power(const char *mode, long trials) {
  long all = count_calls(mode), cuts = 0, wrong = 0;
  for (long i = 0; i < trials; i++) {
    bool cut;
    long at = 1 + (long)pick((unsigned)all);
    int after = (int)pick(3);
    if (!try_power(POWER, mode, at, after, &cut)) {
      printf("FAILED: %s, power off at call %ld, mode %d, seed %llu\n", mode, at, after, (unsigned long long)seed);
      wrong++;
    }
    cuts += cut;
  }
  printf("%s: %ld power failures of %ld trials in %ld calls, %ld wrong\n", mode, cuts, trials, all, wrong);
  return wrong > 0 || cuts < trials / 2;
}

/* A blind test would find nothing here. */
static int cut_power_of_liar(const char *mode) {
  long all = count_calls(mode), found = 0;
  for (long i = 0; i < 40 && found < 3; i++) {
    bool cut;
    found += !try_power(LIE, mode, 1 + (long)pick((unsigned)all), 2, &cut);
  }
  printf("%s: a disk that lies about syncing was found out %ld times\n", mode, found);
  return found == 0;
}

/* Every n-th call fails, for all n of a short run. */
static int fail_calls(const char *mode, fault what, long step) {
  long wrong = 0, hits = 0;
  bool go_on = true;
  for (long at = 1 + (long)pick((unsigned)step); go_on; at += step) {
    remove_files();
    atomic_store(acknowledged, 0);
    pid_t pid = fork();
    if (pid == 0) {
      state = seed;
      use_disk();
      sqlite3 *db = connect_to_file();
      if (!make_tables(db, mode))
        _exit(9);
      kind = what;
      fault_at = at;
      for (long number = 1; number <= 12; number++) {
        if (transact(db, number))
          atomic_store(acknowledged, number);
        if (calls < fault_at || what == IO_ERROR) {
          if (differences(db) != 0)
            _exit(9);
        }
      }
      bool was_hit = hit;
      fault_at = 0; /* there is room again */
      bool goes_on = differences(db) == 0 && end_transaction(db, begin_and_change(db, 13)) && differences(db) == 0;
      if (!goes_on)
        _exit(9);
      sqlite3_close(db);
      _exit(was_hit ? 77 : 0);
    }
    int status = status_of(pid);
    go_on = status == 77;
    hits += status == 77;
    if ((pid = fork()) == 0)
      _exit(check_file());
    if (status_of(pid) != 0 || (status != 0 && status != 77)) {
      printf("FAILED: %s, %s at call %ld, status %d, seed %llu\n", mode, what == FULL_DISK ? "full disk" : "I/O error",
             at, status, (unsigned long long)seed);
      wrong++;
      go_on = wrong < 5;
    }
  }
  printf("%s: %ld %s, %ld wrong\n", mode, hits, what == FULL_DISK ? "full disks" : "I/O errors", wrong);
  return wrong > 0 || hits < 10;
}

/*
** The rows are loaded while every n-th read fails, inside a transaction that SQLite rolls back then, and that the
** control table is part of. Afterwards the rows are there, for reading and for writing, on this connection and another.
*/
static int fail_reads(const char *mode) {
  long wrong = 0, hits = 0;
  bool go_on = true;
  for (long at = 1; go_on && at < 3000; at++) {
    remove_files();
    pid_t pid = fork();
    if (pid == 0) {
      state = seed;
      use_disk();
      sqlite3 *db = connect_to_file(), *other;
      if (!make_tables(db, mode))
        _exit(9);
      for (long number = 1; number <= 12; number++)
        transact(db, number);
      sqlite3_close(db);
      db = connect_to_file();
      run(db, "PRAGMA cache_size = 1; BEGIN; CREATE VIRTUAL TABLE main.other USING walmap");
      kind = READ_ERROR;
      fault_at = at;
      sqlite3_int64 seen = differences(db);
      fault_at = 0;
      if (seen > 0)
        _exit(9);
      if (!sqlite3_get_autocommit(db))
        run(db, "COMMIT");
      other = connect_to_file();
      bool fine = differences(db) == 0 && differences(other) == 0 && run(db, "INSERT INTO k VALUES('after', 1)") &&
                  run(other, "UPDATE k SET value = value + 1 WHERE key = 'after'; INSERT INTO n VALUES('after', 2)") &&
                  differences(db) == 0;
      sqlite3_close(other);
      sqlite3_close(db);
      _exit(!fine ? 9 : hit ? 77 : 0);
    }
    int status = status_of(pid);
    go_on = status == 77;
    hits += status == 77;
    if (status != 77 && status != 0) {
      printf("FAILED: %s, read error at call %ld, status %d, seed %llu\n", mode, at, status, (unsigned long long)seed);
      wrong++;
    }
  }
  printf("%s: %ld read errors, %ld wrong\n", mode, hits, wrong);
  return wrong > 0 || hits < 5;
}

int main(int argc, char **argv) {
  static const char *const modes[] = {"wal", "delete"};
  char template[] = "/tmp/walmap-power-XXXXXX";
  const char *given = getenv("WALMAP_SO");
  if (given != NULL)
    extension = given;
  long trials = argc > 1 ? atol(argv[1]) : 60;
  seed = getenv("SEED") != NULL ? strtoull(getenv("SEED"), NULL, 10) : (uint64_t)time(NULL);
  printf("seed %llu (repeat with SEED=)\n", (unsigned long long)seed);
  fflush(stdout);
  state = seed;
  snprintf(folder, sizeof folder, "%s", mkdtemp(template));
  snprintf(file, sizeof file, "%s/a.db", folder);
  acknowledged = mmap(NULL, sizeof *acknowledged, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  int failed = 0;
  for (int i = 0; i < 2; i++) {
    failed += cut_power(modes[i], trials);
    failed += cut_power_of_liar(modes[i]);
    failed += fail_calls(modes[i], IO_ERROR, 3);
    failed += fail_calls(modes[i], FULL_DISK, 3);
    failed += fail_reads(modes[i]);
    fflush(stdout);
  }
  remove_files();
  rmdir(folder);
  printf("%d passed, %d failed\n", 10 - failed, failed);
  return failed > 0;
}
