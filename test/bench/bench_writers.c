/*
** bench_writers.c - transactions that meet: many writers, each transaction over keys of one map or of several
**
**   bench_writers [quick|full]
**
** A transaction sets four random keys, of maps in turn, and starts over when it meets another one in a deadlock. Most
** writers have no core of their own, so what is judged are ratios: several maps beside one, and of the writers the one
** that committed least beside the one that committed most.
*/
#include "report.h"

#include <pthread.h>
#include <stdatomic.h>

#include "walmap.h"

#define OK(call) MUST((call) == WALMAP_OK)

enum { MOST_WRITERS = 64, MOST_MAPS = 3, KEYS = 10000, KEYS_EACH = 4 };

static const int counts[] = {2, 4, 16, 64};
#define COUNTS ((int)(sizeof counts / sizeof *counts))

typedef struct writer {
  walmap **maps;
  int n_maps;
  uint64_t random;
  atomic_bool *go, *stop;
  uint64_t done, again, ns;
} writer;

static bool set_keys(writer *w, walmap_txn **txns) {
  for (int i = 0; i < KEYS_EACH; i++) {
    uint32_t key = (uint32_t)(random_next(&w->random) % KEYS);
    int result = walmap_txn_set(txns[i % w->n_maps], &key, sizeof key, &w->done, sizeof w->done);
    MUST(result == WALMAP_OK || result == WALMAP_DEADLOCK);
    if (result != WALMAP_OK)
      return false;
  }
  return true;
}

static void write_once(writer *w, walmap_txn **txns) {
  for (int m = 0; m < w->n_maps; m++)
    walmap_txn_begin(txns[m]);
  bool all_set = set_keys(w, txns);
  for (int m = 0; m < w->n_maps; m++)
    (all_set ? walmap_txn_commit : walmap_txn_rollback)(txns[m]);
  *(all_set ? &w->done : &w->again) += 1;
}

static void *run_writer(void *arg) {
  writer *w = arg;
  walmap_session *session;
  walmap_txn *txns[MOST_MAPS];
  OK(walmap_session_new(NULL, NULL, &session));
  for (int m = 0; m < w->n_maps; m++)
    OK(walmap_txn_new(w->maps[m], session, &txns[m]));
  while (!atomic_load(w->go))
    sched_yield();
  uint64_t began = now_ns();
  while (!atomic_load(w->stop))
    write_once(w, txns);
  w->ns = now_ns() - began;
  for (int m = 0; m < w->n_maps; m++)
    walmap_txn_free(txns[m]);
  walmap_session_free(session);
  return NULL;
}

typedef struct outcome {
  double speed, again, least_to_most, least; /* thousands a second; of a hundred commits; */
} outcome;

static outcome run_writers(walmap **maps, int n_maps, int n_writers, unsigned ms, uint64_t seed) {
  static writer writers[MOST_WRITERS];
  pthread_t threads[MOST_WRITERS];
  atomic_bool go = false, stop = false;
  for (int i = 0; i < n_writers; i++) {
    writers[i] = (writer){.maps = maps, .n_maps = n_maps, .random = mix(seed + (uint64_t)i), .go = &go, .stop = &stop};
    MUST(pthread_create(&threads[i], NULL, run_writer, &writers[i]) == 0);
  }
  atomic_store(&go, true);
  struct timespec t = {ms / 1000, (long)(ms % 1000) * 1000000};
  nanosleep(&t, NULL);
  atomic_store(&stop, true);
  double done = 0, again = 0, speed = 0, least = INFINITY, most = 0;
  for (int i = 0; i < n_writers; i++) {
    const writer *w = &writers[i];
    MUST(pthread_join(threads[i], NULL) == 0);
    done += (double)w->done;
    again += (double)w->again;
    speed += (double)w->done * 1e6 / (double)w->ns;
    least = fmin(least, (double)w->done);
    most = fmax(most, (double)w->done);
  }
  return (outcome){speed, done > 0 ? 100 * again / done : INFINITY, least / most, least};
}

static void name_row(char *name, size_t size, int n_writers, const char *what) {
  snprintf(name, size, "%d writers, %s", n_writers, what);
}

static void sample_maps(report *r, walmap **maps, int n_maps, unsigned ms, int round) {
  static const char *const names[] = {"one map", "two maps", "three maps"};
  for (int c = 0; c < COUNTS; c++) {
    char row[64];
    outcome o = run_writers(maps, n_maps, counts[c], ms, (uint64_t)round << 32);
    name_row(row, sizeof row, counts[c], "transactions");
    report_sample(r, row, names[n_maps - 1], o.speed);
    name_row(row, sizeof row, counts[c], "least to most");
    report_sample(r, row, names[n_maps - 1], o.least_to_most);
    name_row(row, sizeof row, counts[c], "deadlocks");
    report_sample(r, row, names[n_maps - 1], o.again);
  }
}

static void show(report *r) {
  static const char *const names[] = {"one map", "two maps", "three maps"};
  static const char *const rows[][2] = {{"transactions", "k/s"}, {"least to most", ""}, {"deadlocks", "%"}};
  report_columns(names, MOST_MAPS);
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    for (int c = 0; c < COUNTS; c++) {
      char row[64];
      name_row(row, sizeof row, counts[c], rows[i][0]);
      report_ways(r, row, rows[i][1], names, MOST_MAPS);
    }
  }
  printf("\n");
  for (int c = 0; c < COUNTS; c++) {
    char row[64], name[96];
    name_row(row, sizeof row, counts[c], "transactions");
    for (int m = 1; m < MOST_MAPS; m++) {
      snprintf(name, sizeof name, "%d writers, %s beside one", counts[c], names[m]);
      report_values(r, name, "k/s", report_median(r, row, names[m]), names[0], report_median(r, row, names[0]),
                    m == 1 ? RATIO_AT_LEAST : NO_TARGET, 0.7);
    }
  }
}

int main(int argc, char **argv) {
  const char *what = argc > 1 ? argv[1] : "full";
  bool full = !strcmp(what, "full");
  MUST(full || !strcmp(what, "quick"));
  report *r = report_open("bench_writers", "itself with one map");
  walmap *maps[MOST_MAPS];
  for (int m = 0; m < MOST_MAPS; m++)
    OK(walmap_open(NULL, &maps[m]));
  report_title(r, "%d random keys a transaction, %d in each map", KEYS_EACH, KEYS);
  for (int round = 0; round <= (full ? 5 : 2); round++) {
    for (int turn = 0; turn < MOST_MAPS; turn++)
      sample_maps(r, maps, turn_of(round, turn, MOST_MAPS) + 1, full ? 500 : 100, round);
  }
  show(r);
  for (int m = 0; m < MOST_MAPS; m++)
    walmap_close(maps[m]);
  report_close(r);
  return 0;
}
