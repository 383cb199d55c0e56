/*
** times.h - the times of single calls, in buckets 1/16 of their size apart: for what only a few of them meet
*/
#ifndef TEST_BENCH_TIMES_H
#define TEST_BENCH_TIMES_H

#include "bench.h"

#define HISTOGRAM_BUCKETS (16 * 40)

typedef struct histogram {
  uint64_t buckets[HISTOGRAM_BUCKETS], n, max;
} histogram;

static inline void histogram_add(histogram *h, uint64_t ns) {
  unsigned bits = 63 - (unsigned)__builtin_clzll(ns | 16);
  unsigned bucket = (bits - 4) * 16 + (unsigned)(ns >> (bits - 4));
  h->buckets[bucket < HISTOGRAM_BUCKETS ? bucket : HISTOGRAM_BUCKETS - 1]++;
  h->n++;
  if (ns > h->max)
    h->max = ns;
}

/* The time in ns that this share of the operations does not exceed. */
static inline double histogram_at(const histogram *h, double share) {
  uint64_t wanted = (uint64_t)ceil((double)h->n * share), seen = 0;
  for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
    seen += h->buckets[i];
    if (seen >= wanted && seen) {
      unsigned step = i < 32 ? 0 : i / 16 - 1;
      double top = (double)((uint64_t)(i - 16 * step + 1) << step);
      return top < (double)h->max ? top : (double)h->max;
    }
  }
  return (double)h->max;
}

#endif
