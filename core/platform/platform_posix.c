/* platform_posix.c - the operating system as POSIX has it, with what Linux and macOS add (platform.h) */
#if !defined(_GNU_SOURCE)
#define _GNU_SOURCE /* mremap, MADV_HUGEPAGE, CPU_COUNT */
#endif
#include "platform/platform.h"

#if !defined(_WIN32)

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#if defined(__linux__)
#include <sys/syscall.h>
#endif

#ifndef MAP_NORESERVE
#define MAP_NORESERVE 0
#endif
#ifndef MAP_ANONYMOUS
#define MAP_ANONYMOUS MAP_ANON
#endif

/* ------------------------------------------------------------------------------------------------------------------ */
/* Pages                                                                                                              */

/* Maps more than is asked for and unmaps both ends. */
static void *map_aligned(size_t size, size_t align, int flags) {
  if (size > SIZE_MAX - align)
    return NULL;
  uint8_t *base = mmap(NULL, size + align, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);
  if (base == MAP_FAILED)
    return NULL;
  size_t before = (align - (uintptr_t)base % align) % align;
  if (before > 0)
    munmap(base, before);
  if (before < align)
    munmap(base + before + size, align - before);
  return base + before;
}

void *walmap__map_pages(size_t size, size_t align) { return map_aligned(size, align, 0); }

void *walmap__map_address_space(size_t size, size_t align) { return map_aligned(size, align, MAP_NORESERVE); }

void walmap__unmap_pages(void *at, size_t size) { munmap(at, size); }

#if WALMAP__PAGES_MOVE
void *walmap__resize_pages(void *at, size_t old_size, size_t size, size_t align) {
  if (mremap(at, old_size, size, 0) != MAP_FAILED)
    return at; /* it grew where it is */
  void *new = walmap__map_address_space(size, align);
  /* Moves the pages over the fresh mapping, which keeps them aligned and so keeps huge pages whole. */
  if (new == NULL || mremap(at, old_size, size, MREMAP_MAYMOVE | MREMAP_FIXED, new) != MAP_FAILED)
    return new;
  munmap(new, size);
  return NULL;
}

bool walmap__shorten_pages(void *at, size_t old_size, size_t size) {
  return munmap((uint8_t *)at + size, old_size - size) == 0;
}
#else
void *walmap__resize_pages(void *at, size_t old_size, size_t size, size_t align) {
  (void)at, (void)old_size, (void)size, (void)align;
  return NULL;
}

bool walmap__shorten_pages(void *at, size_t old_size, size_t size) {
  (void)at, (void)old_size, (void)size;
  return false;
}
#endif

void walmap__want_huge_pages(void *at, size_t size) {
#ifdef MADV_HUGEPAGE
  (void)madvise(at, size, MADV_HUGEPAGE);
#else
  (void)at, (void)size;
#endif
}

/* Kernels before Linux 5.14 refuse the call. */
void walmap__populate_pages(void *at, size_t size) {
#ifdef MADV_POPULATE_WRITE
  enum { SYSTEM_PAGE = 4096 };
  size_t before = (SYSTEM_PAGE - (uintptr_t)at % SYSTEM_PAGE) % SYSTEM_PAGE;
  if (before < size)
    (void)madvise((uint8_t *)at + before, (size - before) / SYSTEM_PAGE * SYSTEM_PAGE, MADV_POPULATE_WRITE);
#else
  (void)at, (void)size;
#endif
}

/* Linux supplies zeroed pages when they are touched again. macOS takes them only when it needs memory. */
void walmap__drop_pages(void *at, size_t size) {
#if defined(__APPLE__)
  (void)madvise(at, size, MADV_FREE);
#elif defined(MADV_DONTNEED)
  (void)madvise(at, size, MADV_DONTNEED);
#else
  (void)at, (void)size;
#endif
}

void *walmap__alloc_aligned(size_t size, size_t align) {
  void *block = NULL;
  return posix_memalign(&block, align, size) == 0 ? block : NULL;
}

void walmap__free_aligned(void *block) { free(block); }

/* ------------------------------------------------------------------------------------------------------------------ */
/* Random numbers, time, processors                                                                                   */

/* By the system call where there is one: glibc before 2.25 has no function for it. Otherwise by the file. */
bool walmap__random_bytes(void *bytes, size_t n) {
#if defined(SYS_getrandom)
  if (syscall(SYS_getrandom, bytes, n, 0) == (long)n)
    return true;
#endif
  int file = open("/dev/urandom", O_RDONLY | O_CLOEXEC);
  if (file < 0)
    return false;
  ssize_t got;
  do
    got = read(file, bytes, n);
  while (got < 0 && errno == EINTR);
  close(file);
  return got == (ssize_t)n;
}

int64_t walmap__monotonic_now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

uint64_t walmap__coarse_now(void) {
#ifdef CLOCK_MONOTONIC_COARSE
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC_COARSE, &t);
  return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000 + 1;
#else
  return (uint64_t)walmap__monotonic_now() / 1000000 + 1;
#endif
}

uint64_t walmap__wall_clock_now(void) {
  struct timespec t;
  clock_gettime(CLOCK_REALTIME, &t);
  return t.tv_sec < 0 ? 0 : (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static struct timespec timespec_of(int64_t ns) {
  return (struct timespec){.tv_sec = (time_t)(ns / 1000000000), .tv_nsec = (long)(ns % 1000000000)};
}

void walmap__sleep(int64_t ns) {
  struct timespec left = timespec_of(ns);
  while (nanosleep(&left, &left) != 0 && errno == EINTR)
    ;
}

void walmap__give_way(void) { sched_yield(); }

size_t walmap__processors(void) {
#ifdef CPU_COUNT
  cpu_set_t allowed;
  if (sched_getaffinity(0, sizeof allowed, &allowed) == 0)
    return (size_t)CPU_COUNT(&allowed);
#endif
  long n = sysconf(_SC_NPROCESSORS_ONLN);
  return n > 0 ? (size_t)n : 1;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Conditions                                                                                                         */

#if defined(__APPLE__)
/* macOS has no condition that uses the monotonic clock, but one that waits for a length of time. */
void walmap__condition_init(pthread_cond_t *condition) { pthread_cond_init(condition, NULL); }

void walmap__condition_wait(pthread_cond_t *condition, pthread_mutex_t *mutex, int64_t when) {
  int64_t left = when - walmap__monotonic_now();
  struct timespec t = timespec_of(left > 0 ? left : 0);
  pthread_cond_timedwait_relative_np(condition, mutex, &t);
}
#else
void walmap__condition_init(pthread_cond_t *condition) {
  pthread_condattr_t monotonic;
  pthread_condattr_init(&monotonic);
  pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
  pthread_cond_init(condition, &monotonic);
  pthread_condattr_destroy(&monotonic);
}

void walmap__condition_wait(pthread_cond_t *condition, pthread_mutex_t *mutex, int64_t when) {
  struct timespec t = timespec_of(when);
  pthread_cond_timedwait(condition, mutex, &t);
}
#endif

#endif
