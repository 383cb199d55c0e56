/*
** interrupt.h - long work asks now and then whether it shall end
**
** By work, not by the clock: about every MiB that was read or copied, so that what passes between an interrupt and its
** effect does not depend on the size of the map. Only the thread that made the call asks: the callback belongs to it.
*/
#ifndef WALMAP_INTERRUPT_H
#define WALMAP_INTERRUPT_H

#include <stdbool.h>
#include <stddef.h>

typedef struct walmap__interrupt {
  bool (*ask)(void *ctx); /* NULL: the work goes on to its end */
  void *ctx;
  size_t done; /* bytes since it was asked */
} walmap__interrupt;

#define WALMAP__INTERRUPT_EVERY ((size_t)1 << 20)

/* Adds `bytes` of work; true when the work shall end. */
static inline bool walmap__interrupt_after(walmap__interrupt *interrupt, size_t bytes) {
  interrupt->done += bytes;
  if (!interrupt->ask || interrupt->done < WALMAP__INTERRUPT_EVERY)
    return false;
  interrupt->done = 0;
  return interrupt->ask(interrupt->ctx);
}

#endif
