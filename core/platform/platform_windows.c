/* platform_windows.c - the operating system as Windows has it, for MinGW (platform.h) */
#include "platform/platform.h"

#if defined(_WIN32)

#ifndef WIN32_LEAN_AND_MEAN
#define WIN32_LEAN_AND_MEAN
#endif
#include <windows.h>

#include <malloc.h>
#include <ntsecapi.h> /* RtlGenRandom */
#include <pthread_time.h>

/* ------------------------------------------------------------------------------------------------------------------ */
/* Pages                                                                                                              */

/*
** Windows takes back a reservation only whole, so its ends cannot be cut off. A longer one tells where there is room;
** then that place is taken. Another thread may be quicker: look again.
*/
void *walmap__map_pages(size_t size, size_t align) {
  enum { TRIES = 16 };
  if (size > SIZE_MAX - align)
    return NULL;
  for (int i = 0; i < TRIES; i++) {
    uint8_t *base = VirtualAlloc(NULL, size + align, MEM_RESERVE, PAGE_NOACCESS);
    if (base == NULL)
      return NULL;
    uint8_t *aligned = base + (align - (uintptr_t)base % align) % align;
    VirtualFree(base, 0, MEM_RELEASE);
    void *at = VirtualAlloc(aligned, size, MEM_RESERVE | MEM_COMMIT, PAGE_READWRITE);
    if (at != NULL)
      return at;
    if (GetLastError() == ERROR_NOT_ENOUGH_MEMORY || GetLastError() == ERROR_COMMITMENT_LIMIT)
      return NULL;
  }
  return NULL;
}

void *walmap__map_address_space(size_t size, size_t align) { return walmap__map_pages(size, align); }

void walmap__unmap_pages(void *at, size_t size) {
  (void)size;
  VirtualFree(at, 0, MEM_RELEASE);
}

void *walmap__resize_pages(void *at, size_t old_size, size_t size, size_t align) {
  (void)at, (void)old_size, (void)size, (void)align;
  return NULL;
}

bool walmap__shorten_pages(void *at, size_t old_size, size_t size) {
  (void)at, (void)old_size, (void)size;
  return false;
}

/* Huge pages are a privilege of few accounts. Neither hint has a call here. */
void walmap__want_huge_pages(void *at, size_t size) { (void)at, (void)size; }

void walmap__populate_pages(void *at, size_t size) { (void)at, (void)size; }

/*
** The system may take the memory under the pages, and need not write it out before. They stay committed, so a write to
** them later cannot fail.
*/
void walmap__drop_pages(void *at, size_t size) { VirtualAlloc(at, size, MEM_RESET, PAGE_READWRITE); }

void *walmap__alloc_aligned(size_t size, size_t align) { return _aligned_malloc(size > 0 ? size : 1, align); }

void walmap__free_aligned(void *block) { _aligned_free(block); }

/* ------------------------------------------------------------------------------------------------------------------ */
/* Random numbers, time, processors                                                                                   */

bool walmap__random_bytes(void *bytes, size_t n) { return RtlGenRandom(bytes, (ULONG)n) != 0; }

int64_t walmap__monotonic_now(void) {
  LARGE_INTEGER frequency, ticks;
  QueryPerformanceFrequency(&frequency); /* both succeed since Windows XP */
  QueryPerformanceCounter(&ticks);
  int64_t seconds = ticks.QuadPart / frequency.QuadPart, rest = ticks.QuadPart % frequency.QuadPart;
  return seconds * 1000000000 + rest * 1000000000 / frequency.QuadPart;
}

uint64_t walmap__coarse_now(void) { return GetTickCount64() + 1; }

uint64_t walmap__wall_clock_now(void) {
  static const uint64_t until_1970 = UINT64_C(116444736000000000); /* in units of 100 ns, from 1601 on */
  FILETIME time;
  GetSystemTimeAsFileTime(&time);
  uint64_t now = (uint64_t)time.dwHighDateTime << 32 | time.dwLowDateTime;
  return now < until_1970 ? 0 : (now - until_1970) / 10000;
}

/* Sleep knows milliseconds, and ends with a tick of the system's clock. */
void walmap__sleep(int64_t ns) { Sleep((DWORD)((ns + 999999) / 1000000)); }

void walmap__give_way(void) { SwitchToThread(); }

size_t walmap__processors(void) {
  DWORD_PTR process, machine;
  if (!GetProcessAffinityMask(GetCurrentProcess(), &process, &machine) || process == 0)
    return 1;
  return (size_t)__builtin_popcountll(process);
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Conditions                                                                                                         */

void walmap__condition_init(pthread_cond_t *condition) { pthread_cond_init(condition, NULL); }

void walmap__condition_wait(pthread_cond_t *condition, pthread_mutex_t *mutex, int64_t when) {
  int64_t left = when - walmap__monotonic_now();
  left = left > 0 ? left : 0;
  struct timespec t = {.tv_sec = (time_t)(left / 1000000000), .tv_nsec = (long)(left % 1000000000)};
  pthread_cond_timedwait_relative_np(condition, mutex, &t);
}

#endif
