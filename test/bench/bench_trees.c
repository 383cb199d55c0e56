/*
** bench_trees.c - an ordered map of the core beside LMDB and GLib's GTree
**
**   bench_trees [quick|full]            200,000 entries; quick: 20,000
**   bench_trees ENTRIES [ROUNDS]        so many
**
** Keys are 16 hexadecimal digits, values 100 bytes (`wide` in bench.h). A single read begins and ends a state in
** walmap, and renews a transaction in LMDB, whose file is as in bench_lmdb.c. GTree is a balanced binary tree for one
** thread: it has neither, and keeps nothing that is overwritten. Its entries are a malloc each, beside the tree's own.
*/
#include "report.h"

#include <glib.h>
#include <lmdb.h>

#include "walmap.h"

#define OK(call) MUST((call) == WALMAP_OK)
#define LMDB(call) MUST((call) == MDB_SUCCESS)

enum { RANGE = 100, VALUE = 100, SIDES = 3 };

typedef struct data {
  uint32_t n, ops;  /* entries; reads in a round */
  key *load, *look; /* in the order of their use */
} data;

static char value_buffer[LARGEST_VALUE];
static volatile uint64_t sink;

static double per(uint64_t began, uint64_t n) { return (double)(series_ns() - began) / (double)n; }

/* ------------------------------------------------------------------------------------------------------------------ */
/* walmap                                                                                                             */

static uint64_t touch(const void *key, const void *value) {
  return *(const uint8_t *)key + (uint64_t) * (const uint8_t *)value;
}

/* At most `most` entries after a key, or from the first on: how many there were. */
static uint32_t walk_walmap(walmap_state *state, walmap_seek seek, const key *from, uint32_t most) {
  walmap_ordered_cursor cursor;
  walmap_entry entry;
  uint64_t sum = 0;
  uint32_t n = 0;
  OK(walmap_state_begin(state));
  walmap_ordered_start(&cursor, state);
  bool more = walmap_ordered_seek(&cursor, seek, from ? from->text : NULL, from ? from->len : 0, &entry);
  while (more) {
    sum += touch(entry.key, entry.value);
    if (++n == most)
      break;
    more = walmap_ordered_next(&cursor, &entry);
  }
  walmap_state_end(state);
  sink += sum;
  return n;
}

static void run_walmap(report *r, const data *d) {
  walmap_options options;
  walmap *map;
  walmap_session *session;
  walmap_txn *txn;
  walmap_state *state;
  walmap_options_init(&options);
  options.ordered = true;
  OK(walmap_open(&options, &map));
  OK(walmap_session_new(NULL, NULL, &session));
  OK(walmap_txn_new(map, session, &txn));
  OK(walmap_state_new(map, &state));
  uint64_t began = series_ns();
  walmap_txn_begin(txn);
  for (uint32_t i = 0; i < d->n; i++) {
    size_t len = value_make(WIDE, &d->load[i], 0, value_buffer);
    OK(walmap_txn_set(txn, d->load[i].text, d->load[i].len, value_buffer, len));
  }
  walmap_txn_commit(txn);
  report_sample(r, "insert, one transaction", "walmap", per(began, d->n));

  began = series_ns();
  for (uint32_t i = 0; i < d->ops; i++)
    (void)walk_walmap(state, WALMAP_AFTER, &d->look[i], 1);
  report_sample(r, "next key", "walmap", per(began, d->ops));

  uint64_t rows = 0;
  began = series_ns();
  for (uint32_t i = 0; i < d->ops / RANGE; i++)
    rows += walk_walmap(state, WALMAP_AT_OR_AFTER, &d->look[i], RANGE);
  report_sample(r, "range of 100, an entry", "walmap", per(began, rows));

  began = series_ns();
  MUST(walk_walmap(state, WALMAP_FIRST, NULL, UINT32_MAX) == d->n);
  report_sample(r, "all by key, an entry", "walmap", per(began, d->n));
  walmap_state_free(state);
  walmap_txn_free(txn);
  walmap_session_free(session);
  walmap_close(map);
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* LMDB                                                                                                               */

static char file[256];

static MDB_val key_of(const key *k) { return (MDB_val){k->len, (void *)(uintptr_t)k->text}; }

/* As walk_walmap: after the key, or with `at` from the key on. */
static uint32_t walk_lmdb(MDB_txn *txn, MDB_cursor *cursor, const key *from, bool at, uint32_t most) {
  uint64_t sum = 0;
  uint32_t n = 0;
  MDB_val found = from ? key_of(from) : (MDB_val){0, NULL}, value;
  LMDB(mdb_txn_renew(txn));
  LMDB(mdb_cursor_renew(txn, cursor));
  int result = mdb_cursor_get(cursor, &found, &value, from ? MDB_SET_RANGE : MDB_FIRST);
  if (from && !at && result == MDB_SUCCESS && found.mv_size == from->len &&
      memcmp(found.mv_data, from->text, from->len) == 0)
    result = mdb_cursor_get(cursor, &found, &value, MDB_NEXT);
  while (result == MDB_SUCCESS) {
    sum += touch(found.mv_data, value.mv_data);
    if (++n == most)
      break;
    result = mdb_cursor_get(cursor, &found, &value, MDB_NEXT);
  }
  mdb_txn_reset(txn);
  sink += sum;
  return n;
}

static void remove_file(void) {
  char lock[300];
  snprintf(lock, sizeof lock, "%s-lock", file);
  unlink(file);
  unlink(lock);
}

static void run_lmdb(report *r, const data *d) {
  MDB_env *env;
  MDB_txn *txn;
  MDB_dbi table;
  MDB_cursor *cursor;
  remove_file();
  LMDB(mdb_env_create(&env));
  LMDB(mdb_env_set_mapsize(env, (size_t)d->n * 400 + ((size_t)64 << 20)));
  LMDB(mdb_env_open(env, file, MDB_NOSUBDIR | MDB_NOSYNC | MDB_WRITEMAP, 0600));
  LMDB(mdb_txn_begin(env, NULL, 0, &txn));
  LMDB(mdb_dbi_open(txn, NULL, 0, &table));
  uint64_t began = series_ns();
  for (uint32_t i = 0; i < d->n; i++) {
    MDB_val key = key_of(&d->load[i]), value = {value_make(WIDE, &d->load[i], 0, value_buffer), value_buffer};
    LMDB(mdb_put(txn, table, &key, &value, 0));
  }
  LMDB(mdb_txn_commit(txn));
  report_sample(r, "insert, one transaction", "LMDB", per(began, d->n));

  LMDB(mdb_txn_begin(env, NULL, MDB_RDONLY, &txn));
  LMDB(mdb_cursor_open(txn, table, &cursor));
  mdb_txn_reset(txn);
  began = series_ns();
  for (uint32_t i = 0; i < d->ops; i++)
    (void)walk_lmdb(txn, cursor, &d->look[i], false, 1);
  report_sample(r, "next key", "LMDB", per(began, d->ops));

  uint64_t rows = 0;
  began = series_ns();
  for (uint32_t i = 0; i < d->ops / RANGE; i++)
    rows += walk_lmdb(txn, cursor, &d->look[i], true, RANGE);
  report_sample(r, "range of 100, an entry", "LMDB", per(began, rows));

  began = series_ns();
  MUST(walk_lmdb(txn, cursor, NULL, true, UINT32_MAX) == d->n);
  report_sample(r, "all by key, an entry", "LMDB", per(began, d->n));
  mdb_cursor_close(cursor);
  mdb_txn_abort(txn);
  mdb_env_close(env);
  remove_file();
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* GTree                                                                                                              */

typedef struct pair {
  char key[16], value[VALUE];
} pair;

static gint compare_pairs(gconstpointer a, gconstpointer b, gpointer unused) {
  (void)unused;
  return memcmp(((const pair *)a)->key, ((const pair *)b)->key, sizeof((const pair *)a)->key);
}

static uint32_t walk_gtree(GTreeNode *node, uint32_t most) {
  uint64_t sum = 0;
  uint32_t n = 0;
  for (; node; node = g_tree_node_next(node)) {
    const pair *p = g_tree_node_key(node);
    sum += touch(p->key, p->value);
    if (++n == most)
      break;
  }
  sink += sum;
  return n;
}

static pair pair_of(const key *k) {
  pair p;
  MUST(k->len == sizeof p.key);
  memcpy(p.key, k->text, sizeof p.key);
  return p;
}

static void run_gtree(report *r, const data *d) {
  GTree *tree = g_tree_new_full(compare_pairs, NULL, free, NULL);
  uint64_t began = series_ns();
  for (uint32_t i = 0; i < d->n; i++) {
    pair *p = must_alloc(sizeof *p);
    MUST(value_make(WIDE, &d->load[i], 0, value_buffer) == sizeof p->value);
    memcpy(p->key, d->load[i].text, sizeof p->key);
    memcpy(p->value, value_buffer, sizeof p->value);
    g_tree_replace(tree, p, p);
  }
  report_sample(r, "insert, one transaction", "GTree", per(began, d->n));

  began = series_ns();
  for (uint32_t i = 0; i < d->ops; i++) {
    pair p = pair_of(&d->look[i]);
    (void)walk_gtree(g_tree_upper_bound(tree, &p), 1);
  }
  report_sample(r, "next key", "GTree", per(began, d->ops));

  uint64_t rows = 0;
  began = series_ns();
  for (uint32_t i = 0; i < d->ops / RANGE; i++) {
    pair p = pair_of(&d->look[i]);
    rows += walk_gtree(g_tree_lower_bound(tree, &p), RANGE);
  }
  report_sample(r, "range of 100, an entry", "GTree", per(began, rows));

  began = series_ns();
  MUST(walk_gtree(g_tree_node_first(tree), UINT32_MAX) == d->n);
  report_sample(r, "all by key, an entry", "GTree", per(began, d->n));
  g_tree_destroy(tree);
}

/* ------------------------------------------------------------------------------------------------------------------ */

static void run(report *r, uint32_t n, int rounds) {
  static void (*const sides[SIDES])(report *, const data *) = {run_walmap, run_lmdb, run_gtree};
  static const char *const peers[] = {"LMDB", "GTree"};
  static const char *const rows[] = {"insert, one transaction", "next key", "range of 100, an entry",
                                     "all by key, an entry"};
  data d = {.n = n, .ops = n < 200000 ? n : 200000};
  uint32_t *order = order_shuffled(n, 1);
  d.load = keys_make(WIDE, order, n, 0);
  free(order);
  order = order_shuffled(n, 2);
  d.look = keys_make(WIDE, order, n, 0);
  free(order);
  report_title(r, "ordered, %u entries", n);
  for (int round = 0; round <= rounds; round++)
    for (int turn = 0; turn < SIDES; turn++)
      sides[turn_of(round, turn, SIDES)](r, &d);
  for (size_t p = 0; p < sizeof peers / sizeof *peers; p++)
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
      report_row(r, rows[i], "ns", peers[p], NO_TARGET, 0);
  free(d.load);
  free(d.look);
}

int main(int argc, char **argv) {
  const char *what = argc > 1 ? argv[1] : "full", *folder = getenv("TMPDIR");
  bool full = strcmp(what, "full") == 0, quick = strcmp(what, "quick") == 0;
  char versions[128];
  if (access("/dev/shm", W_OK) == 0)
    folder = "/dev/shm";
  snprintf(file, sizeof file, "%s/walmap-bench-%ld.mdb", folder ? folder : "/tmp", (long)getpid());
  snprintf(versions, sizeof versions, "walmap %s, LMDB %d.%d.%d, GLib %u.%u.%u", walmap_version(), MDB_VERSION_MAJOR,
           MDB_VERSION_MINOR, MDB_VERSION_PATCH, glib_major_version, glib_minor_version, glib_micro_version);
  report *r = report_open("bench_trees", versions);
  uint32_t n = full ? 200000 : quick ? 20000 : (uint32_t)atoi(what);
  MUST(n >= 10000);
  run(r, n, argc > 2 ? atoi(argv[2]) : 5);
  report_close(r);
  return 0;
}
