/* library_posix.c - this library among those of the process, as POSIX systems have them (library.h) */
#if !defined(_GNU_SOURCE)
#define _GNU_SOURCE /* dladdr, RTLD_NODELETE */
#endif
#include "platform/library.h"

#if !defined(_WIN32) && !defined(SQLITE_CORE)

#include <dlfcn.h>
#include <string.h>

static const char here;

/* SQLite makes the symbols of a loaded library known to the whole process, so the name leads to the first one. */
wm_library_symbol *wm_library_first(const char *name) {
  Dl_info mine, its;
  wm_library_symbol *first = NULL;
  void *symbol = dlsym(RTLD_DEFAULT, name);
  if (symbol != NULL && dladdr(symbol, &its) != 0 && dladdr(&here, &mine) != 0 && its.dli_fbase != mine.dli_fbase)
    memcpy(&first, &symbol, sizeof first); /* C has no conversion from an object's address to a function's */
  return first;
}

bool wm_library_keep(void) {
  Dl_info library;
  return dladdr(&here, &library) != 0 && dlopen(library.dli_fname, RTLD_NOW | RTLD_NOLOAD | RTLD_NODELETE) != NULL;
}

#endif
