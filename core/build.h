/*
** build.h - from an image to new generations of all shards, which nobody sees yet
**
** Large images that lie in memory are built by several threads, which exist only meanwhile: each of them walks the
** whole image, and takes the records of its own shards. So they share nothing but the image, and need no lock.
*/
#ifndef WALMAP_BUILD_H
#define WALMAP_BUILD_H

#include "image.h"
#include "map.h"

typedef struct walmap__build {
  walmap *map; /* all its shards are owned by the caller */
  walmap_check_fn check;
  void *ctx;
  walmap__generation *generations[WALMAP_MAX_SHARDS];
  uint64_t entries;
} walmap__build;

/* From memory, or from a stream. OK, or an error with *why set; then nothing is left behind. */
int walmap__build_from_memory(walmap__build *build, const void *image, size_t size, walmap_why *why);
int walmap__build_from_stream(walmap__build *build, walmap_read_fn read, void *read_ctx, walmap_why *why);

/* Frees the generations: they are not wanted. */
void walmap__build_drop(walmap__build *build);

#endif
