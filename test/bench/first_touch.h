/*
** first_touch.h - memory: how much the process holds, and memory that was never touched
*/
#ifndef TEST_BENCH_FRESH_H
#define TEST_BENCH_FRESH_H

#include "bench.h"

#include <sys/mman.h>

static inline uint64_t resident_bytes(void) {
  unsigned long long pages, resident = 0;
  FILE *f = fopen("/proc/self/statm", "r");
  MUST(f && fscanf(f, "%llu %llu", &pages, &resident) == 2);
  fclose(f);
  return resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

#define HUGE_PAGE ((size_t)2 << 20)

/* Memory that was never touched, on huge pages where the system has them: where a copy is as fast as it can be. */
typedef struct fresh {
  char *start, *at;
  size_t mapped;
} fresh;

static inline fresh fresh_new(size_t size) {
  fresh f;
  f.mapped = ((size + HUGE_PAGE - 1) & ~(HUGE_PAGE - 1)) + HUGE_PAGE;
  f.start = mmap(NULL, f.mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  MUST(f.start != MAP_FAILED);
  f.at = (char *)(((uintptr_t)f.start + HUGE_PAGE - 1) & ~(HUGE_PAGE - 1));
#ifdef MADV_HUGEPAGE
  madvise(f.at, f.mapped - HUGE_PAGE, MADV_HUGEPAGE); /* asked for; what comes is the system's choice */
#endif
  return f;
}

static inline void fresh_free(fresh *f) { munmap(f->start, f->mapped); }

/*
** In a virtual machine the first touch of a page since the host lent it out can cost more than all that is measured
** here. So before a figure that takes fresh memory, as much is touched and given back to the system.
*/
static inline void warm_memory(size_t size) {
  fresh f = fresh_new(size);
  for (size_t at = 0; at < size; at += 4096)
    f.at[at] = 1;
  fresh_free(&f);
}

#endif
