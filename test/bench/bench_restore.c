/*
** bench_restore.c - an image in memory into a map: on one processor and on all, and from a stream, beside the same
** number of bytes copied
**
**   bench_restore [quick|full]
**
** The map decides by itself how many threads restore. What it does with one processor is measured by giving the process
** just one.
*/
#include "first_touch.h"
#include "report.h"

#include <sched.h>

#include "walmap.h"

#define OK(call) MUST((call) == WALMAP_OK)

static void *make_image(workload w, uint32_t n, size_t *size) {
  uint32_t *order = order_shuffled(n, 1);
  key *keys = keys_make(w, order, n, 0);
  char value[LARGEST_VALUE];
  walmap *map;
  void *image;
  value[64] = 'v';
  OK(walmap_open(NULL, &map));
  for (uint32_t i = 0; i < n; i++) {
    size_t len = value_make(w, &keys[i], 0, value);
    OK(walmap_set(map, keys[i].text, keys[i].len, value, len));
  }
  OK(walmap_snapshot(map, &image, size));
  walmap_close(map);
  free(keys);
  free(order);
  return image;
}

typedef struct stream {
  const char *at;
  size_t left;
} stream;

static ptrdiff_t read_stream(void *ctx, void *buffer, size_t size) {
  stream *s = ctx;
  if (size > s->left)
    size = s->left;
  memcpy(buffer, s->at, size);
  s->at += size;
  s->left -= size;
  return (ptrdiff_t)size;
}

enum { ALL, ONE, STREAM, COPY, WAYS };

/* ms */
static double restore(int way, const void *image, size_t size, uint32_t n) {
  walmap *map;
  walmap_session *session;
  walmap_txn *txn;
  uint64_t entries = 0;
  OK(walmap_open(NULL, &map));
  OK(walmap_session_new(NULL, NULL, &session));
  OK(walmap_txn_new(map, session, &txn));
  warm_memory(4 * size);
  uint64_t began = now_ns();
  walmap_txn_begin(txn);
  if (way == STREAM) {
    stream s = {image, size};
    OK(walmap_txn_restore_read(txn, read_stream, &s, NULL, NULL, &entries, NULL));
  } else {
    OK(walmap_txn_restore(txn, image, size, NULL, NULL, &entries, NULL));
  }
  walmap_txn_commit(txn);
  double ms = (double)(now_ns() - began) / 1e6;
  MUST(entries == n);
  walmap_txn_free(txn);
  walmap_session_free(session);
  walmap_close(map);
  return ms;
}

static double copy(const void *image, size_t size) {
  warm_memory(size);
  fresh f = fresh_new(size);
  uint64_t began = now_ns();
  memcpy(f.at, image, size);
  double ms = (double)(now_ns() - began) / 1e6;
  fresh_free(&f);
  return ms;
}

static void run(report *r, workload w, uint32_t n, int rounds) {
  size_t size;
  cpu_set_t all;
  void *image = make_image(w, n, &size);
  MUST(sched_getaffinity(0, sizeof all, &all) == 0);
  report_title(r, "%s, %u entries", workload_name[w], n);
  for (int round = 0; round <= rounds; round++) {
    for (int turn = 0; turn < WAYS; turn++) {
      int way = turn_of(round, turn, WAYS);
      if (way == COPY) {
        report_sample(r, "restore", "memcpy", copy(image, size));
        continue;
      }
      if (way == ONE)
        pin_thread(0);
      double ms = restore(way, image, size, n);
      MUST(sched_setaffinity(0, sizeof all, &all) == 0);
      if (way == ALL)
        report_sample(r, "restore", "walmap", ms);
      if (way == ONE)
        report_sample(r, "restore", "one processor", ms);
      if (way == STREAM)
        report_sample(r, "restore from a stream", "walmap", ms);
    }
  }
  double all_ms = report_median(r, "restore", "walmap"), one_ms = report_median(r, "restore", "one processor");
  report_row(r, "restore", "ms", "memcpy", NO_TARGET, 0);
  report_row(r, "restore", "ms", "one processor", NO_TARGET, 0);
  report_values(r, "speed on all processors", "entries/us", n / all_ms / 1e3, "one processor", n / one_ms / 1e3,
                w == WIDE && n == 1000000 && CPU_COUNT(&all) == 2 ? RATIO_AT_LEAST : NO_TARGET, 1.5);
  report_row(r, "restore from a stream", "ms", NULL, NO_TARGET, 0);
  walmap_image_free(image);
}

int main(int argc, char **argv) {
  const char *what = argc > 1 ? argv[1] : "full";
  bool full = !strcmp(what, "full");
  char versions[64];
  MUST(full || !strcmp(what, "quick"));
  snprintf(versions, sizeof versions, "walmap %s", walmap_version());
  report *r = report_open("bench_restore", versions);
  if (full) {
    run(r, SMALL, 500000, 9);
    run(r, SMALL, 1000000, 9);
    run(r, WIDE, 1000000, 9);
    run(r, SMALL, 10000000, 5);
  } else {
    run(r, WIDE, 200000, 5);
  }
  report_close(r);
  return 0;
}
