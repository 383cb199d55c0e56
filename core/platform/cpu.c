/*
** cpu.c - what the processor can do beyond the baseline of its kind (platform.h)
**
** By the instruction itself: __builtin_cpu_supports needs a library of the compiler's, which not every linker is given.
** The instruction takes microseconds in a virtual machine, so its answer is kept.
*/
#include "platform/platform.h"

#if defined(__x86_64__) && defined(__GNUC__)

#include <cpuid.h>
#include <stdatomic.h>

enum { OSXSAVE = 1 << 27, AVX = 1 << 28, AVX2 = 1 << 5, SSE_AND_AVX_STATE = 6 };

/* Which registers the system saves when it changes threads. */
static unsigned saved_registers(void) {
  unsigned low, high;
  __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return low;
}

static bool ask_for_avx2(void) {
  unsigned a, b, c, d;
  if (!__get_cpuid(1, &a, &b, &c, &d) || (c & OSXSAVE) == 0 || (c & AVX) == 0 ||
      (saved_registers() & SSE_AND_AVX_STATE) != SSE_AND_AVX_STATE)
    return false;
  return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b & AVX2) != 0;
}

bool walmap__has_avx2(void) {
  enum { UNKNOWN, NO, YES };
  static _Atomic int answer;
  int known = atomic_load_explicit(&answer, memory_order_relaxed);
  if (known == UNKNOWN) {
    known = ask_for_avx2() ? YES : NO;
    atomic_store_explicit(&answer, known, memory_order_relaxed);
  }
  return known == YES;
}

#else

bool walmap__has_avx2(void) { return false; }

#endif
