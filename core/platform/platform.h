/*
** platform.h - what the core asks of the operating system: pages, random numbers, time, waiting, processors
**
** platform_posix.c has it for Linux, macOS and the like, platform_windows.c for Windows; each is empty elsewhere. cpu.c
** asks the processor, and is for all. No other file of core/ looks at the system. Threads and mutexes are those of
** pthread.h, which MinGW brings for Windows, atomics those of C11.
**
** The extension has a layer of its own, for files and libraries: ext/platform/.
*/
#ifndef WALMAP_PLATFORM_H
#define WALMAP_PLATFORM_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ------------------------------------------------------------------------------------------------------------------ */
/* Pages: sizes and alignments are multiples of 4096 (`align` also a power of two)                                    */

/* Maps zeroed memory at a multiple of `align`; NULL when the system refuses. */
void *walmap__map_pages(size_t size, size_t align);

/* The same, but it takes only address space until it is written, where the system can do that. */
void *walmap__map_address_space(size_t size, size_t align);

/* Unmaps what one of these returned: the whole of it. */
void walmap__unmap_pages(void *at, size_t size);

#if defined(__linux__)
#define WALMAP__PAGES_MOVE 1
#else
#define WALMAP__PAGES_MOVE 0
#endif

/*
** Where WALMAP__PAGES_MOVE: resizes a mapping, at a multiple of `align` still, by moving its pages, not its bytes.
** Returns where it is now; NULL when the system refuses, and then it is as it was. Elsewhere always NULL.
*/
void *walmap__resize_pages(void *at, size_t old_size, size_t size, size_t align);

/* Where WALMAP__PAGES_MOVE: unmaps the end of a mapping. False: it has its old size. Elsewhere always false. */
bool walmap__shorten_pages(void *at, size_t old_size, size_t size);

/* Hints, which change nothing but the speed, and may have no effect. Huge pages have 2 MiB. */
void walmap__want_huge_pages(void *at, size_t size);
void walmap__populate_pages(void *at, size_t size); /* one system call instead of many page faults; any address */

/* Gives the memory under the pages back, where the system can. Their content is undefined then; they can be written. */
void walmap__drop_pages(void *at, size_t size);

/* For blocks that are too small to be mapped. NULL when memory is out. Free with walmap__free_aligned. */
void *walmap__alloc_aligned(size_t size, size_t align);
void walmap__free_aligned(void *block);

/* ------------------------------------------------------------------------------------------------------------------ */
/* Random numbers, time, processors                                                                                   */

/* Fills the bytes from the system's source of random numbers. False: it has none. */
bool walmap__random_bytes(void *bytes, size_t n);

int64_t walmap__monotonic_now(void);   /* in ns, since some time in the past; it is never set */
uint64_t walmap__coarse_now(void);     /* the same in ms, right to some ms, and cheap where the system can. Not 0 */
uint64_t walmap__wall_clock_now(void); /* in ms since 1970, UTC */

void walmap__sleep(int64_t ns); /* for so long at least */
void walmap__give_way(void);    /* lets another thread run that waits for this processor */

/* How many processors this thread may run on: a container or taskset may allow fewer than there are. */
size_t walmap__processors(void);

/* Whether the processor and the system have AVX2. Cheap: it is asked once. */
bool walmap__has_avx2(void);

/* ------------------------------------------------------------------------------------------------------------------ */
/* Conditions that wait until a time (ns) of walmap__monotonic_now; pthread_cond_signal, _broadcast, _destroy serve   */

void walmap__condition_init(pthread_cond_t *condition);
void walmap__condition_wait(pthread_cond_t *condition, pthread_mutex_t *mutex, int64_t when);

#endif
