/*
** bench_lmdb.c - the core beside LMDB, the map that programs embed when they want readers without locks and
** transactions
**
**   bench_lmdb [quick|full]
**
** LMDB's file is in /dev/shm (or TMPDIR), never synced, its readers renew one transaction: its fastest settings. It
** keeps its keys in order and survives the process, which walmap does not.
*/
#include "report.h"

#include <lmdb.h>

#include "walmap.h"

#define OK(call) MUST((call) == WALMAP_OK)
#define LMDB(call) MUST((call) == MDB_SUCCESS)

typedef struct data {
  uint32_t n;
  key *load, *look;
} data;

static char value_buffer[LARGEST_VALUE];
static volatile uint64_t sink;

static double per(uint64_t began, uint32_t n) { return (double)(series_ns() - began) / n; }

static void run_walmap(report *r, const data *d) {
  walmap *map;
  walmap_session *session;
  walmap_txn *txn;
  OK(walmap_open(NULL, &map));
  OK(walmap_session_new(NULL, NULL, &session));
  OK(walmap_txn_new(map, session, &txn));
  uint64_t sum = 0, began = series_ns();
  walmap_txn_begin(txn);
  for (uint32_t i = 0; i < d->n; i++) {
    size_t len = value_make(SMALL, &d->load[i], 0, value_buffer);
    OK(walmap_txn_set(txn, d->load[i].text, d->load[i].len, value_buffer, len));
  }
  walmap_txn_commit(txn);
  report_sample(r, "insert, one transaction", "walmap", per(began, d->n));

  began = series_ns();
  for (uint32_t i = 0; i < d->n; i++) {
    char value[16];
    size_t len;
    OK(walmap_get(map, d->look[i].text, d->look[i].len, value, sizeof value, &len));
    sum += (uint8_t)value[0];
  }
  report_sample(r, "get", "walmap", per(began, d->n));

  began = series_ns();
  for (uint32_t i = 0; i < d->n; i++) {
    size_t len = value_make(SMALL, &d->look[i], 1, value_buffer);
    OK(walmap_set(map, d->look[i].text, d->look[i].len, value_buffer, len));
  }
  report_sample(r, "overwrite, a transaction each", "walmap", per(began, d->n));

  walmap_state *state;
  walmap_cursor cursor;
  walmap_entry entry;
  uint32_t seen = 0;
  OK(walmap_state_new(map, &state));
  OK(walmap_state_begin(state));
  began = series_ns();
  for (walmap_cursor_start(&cursor, state); walmap_cursor_next(&cursor, &entry); seen++)
    sum += *(const uint8_t *)entry.value;
  report_sample(r, "scan, an entry", "walmap", per(began, d->n));
  MUST(seen == d->n);
  sink += sum;
  walmap_state_free(state);
  walmap_txn_free(txn);
  walmap_session_free(session);
  walmap_close(map);
}

static MDB_val key_of(const key *k) { return (MDB_val){k->len, (void *)(uintptr_t)k->text}; }

static void put(MDB_txn *txn, MDB_dbi table, const key *k, uint32_t generation) {
  MDB_val key = key_of(k), value = {value_make(SMALL, k, generation, value_buffer), value_buffer};
  LMDB(mdb_put(txn, table, &key, &value, 0));
}

static void run_lmdb(report *r, const data *d, const char *file) {
  MDB_env *env;
  MDB_txn *txn;
  MDB_dbi table;
  MDB_val key, value;
  LMDB(mdb_env_create(&env));
  LMDB(mdb_env_set_mapsize(env, (size_t)d->n * 200 + ((size_t)64 << 20)));
  LMDB(mdb_env_open(env, file, MDB_NOSUBDIR | MDB_NOSYNC | MDB_WRITEMAP, 0600));
  LMDB(mdb_txn_begin(env, NULL, 0, &txn));
  LMDB(mdb_dbi_open(txn, NULL, 0, &table));
  uint64_t sum = 0, began = series_ns();
  for (uint32_t i = 0; i < d->n; i++)
    put(txn, table, &d->load[i], 0);
  LMDB(mdb_txn_commit(txn));
  report_sample(r, "insert, one transaction", "LMDB", per(began, d->n));

  LMDB(mdb_txn_begin(env, NULL, MDB_RDONLY, &txn));
  began = series_ns();
  for (uint32_t i = 0; i < d->n; i++) {
    mdb_txn_reset(txn);
    LMDB(mdb_txn_renew(txn));
    key = key_of(&d->look[i]);
    LMDB(mdb_get(txn, table, &key, &value));
    memcpy(value_buffer, value.mv_data, value.mv_size);
    sum += (uint8_t)value_buffer[0];
  }
  report_sample(r, "get", "LMDB", per(began, d->n));
  mdb_txn_abort(txn);

  uint32_t some = d->n / 10; /* each is slow */
  began = series_ns();
  for (uint32_t i = 0; i < some; i++) {
    LMDB(mdb_txn_begin(env, NULL, 0, &txn));
    put(txn, table, &d->look[i], 1);
    LMDB(mdb_txn_commit(txn));
  }
  report_sample(r, "overwrite, a transaction each", "LMDB", per(began, some));

  MDB_cursor *cursor;
  uint32_t seen = 0;
  LMDB(mdb_txn_begin(env, NULL, MDB_RDONLY, &txn));
  LMDB(mdb_cursor_open(txn, table, &cursor));
  began = series_ns();
  for (; mdb_cursor_get(cursor, &key, &value, MDB_NEXT) == MDB_SUCCESS; seen++)
    sum += *(const uint8_t *)value.mv_data;
  report_sample(r, "scan, an entry", "LMDB", per(began, d->n));
  MUST(seen == d->n);
  sink += sum;
  mdb_cursor_close(cursor);
  mdb_txn_abort(txn);
  mdb_env_close(env);
}

static void remove_file(const char *file) {
  char lock[300];
  snprintf(lock, sizeof lock, "%s-lock", file);
  unlink(file);
  unlink(lock);
}

int main(int argc, char **argv) {
  const char *what = argc > 1 ? argv[1] : "full", *folder = getenv("TMPDIR");
  bool full = !strcmp(what, "full");
  char versions[128], file[256];
  MUST(full || !strcmp(what, "quick"));
  if (access("/dev/shm", W_OK) == 0)
    folder = "/dev/shm";
  snprintf(file, sizeof file, "%s/walmap-bench-%ld.mdb", folder ? folder : "/tmp", (long)getpid());
  snprintf(versions, sizeof versions, "walmap %s, LMDB %d.%d.%d", walmap_version(), MDB_VERSION_MAJOR,
           MDB_VERSION_MINOR, MDB_VERSION_PATCH);
  report *r = report_open("bench_lmdb", versions);

  data d = {.n = full ? 500000 : 100000};
  uint32_t *order = order_shuffled(d.n, 1);
  d.load = keys_make(SMALL, order, d.n, 0);
  free(order);
  order = order_shuffled(d.n, 2);
  d.look = keys_make(SMALL, order, d.n, 0);
  free(order);
  report_title(r, "small, %u entries", d.n);
  for (int round = 0; round <= 5; round++) {
    for (int turn = 0; turn < 2; turn++) {
      if (turn_of(round, turn, 2) == 0)
        run_walmap(r, &d);
      else
        run_lmdb(r, &d, file);
    }
    remove_file(file);
  }
  report_row(r, "insert, one transaction", "ns", "LMDB", NO_TARGET, 0);
  report_row(r, "get", "ns", "LMDB", NO_TARGET, 0);
  report_row(r, "overwrite, a transaction each", "ns", "LMDB", NO_TARGET, 0);
  report_row(r, "scan, an entry", "ns", "LMDB", NO_TARGET, 0);
  report_close(r);
  free(d.load);
  free(d.look);
  return 0;
}
