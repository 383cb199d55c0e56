/* why.h - the text that says why a call failed: walmap_why of walmap.h */
#ifndef WALMAP_WHY_H
#define WALMAP_WHY_H

#include "base/compiler.h"
#include "walmap.h"

/* Writes the text, cut where walmap_why ends, and returns `result`. `why` may be NULL: then it only returns. */
WALMAP__PRINTF(3, 4) int walmap__explain(walmap_why *why, int result, const char *format, ...);

#endif
