/* library_windows.c - this library among those of the process, as Windows has them (library.h) */
#include "platform/library.h"

#if defined(_WIN32) && !defined(SQLITE_CORE)

#ifndef WIN32_LEAN_AND_MEAN
#define WIN32_LEAN_AND_MEAN
#endif
#include <windows.h>

#include <psapi.h>
#include <stdlib.h>
#include <string.h>

static const char here;

static HMODULE module_of(const void *address, DWORD flags) {
  HMODULE module = NULL;
  return GetModuleHandleExW(GET_MODULE_HANDLE_EX_FLAG_FROM_ADDRESS | flags, address, &module) ? module : NULL;
}

/* The modules of the process in the order in which they were loaded, from malloc; *n of them. */
static HMODULE *all_modules(size_t *n) {
  DWORD bytes = 0, needed = 1 << 12;
  HMODULE *modules = NULL;
  while (bytes < needed) {
    bytes = needed;
    HMODULE *more = realloc(modules, bytes);
    if (more == NULL || !K32EnumProcessModules(GetCurrentProcess(), more, bytes, &needed)) {
      free(more != NULL ? more : modules);
      return NULL;
    }
    modules = more;
  }
  *n = needed / sizeof *modules;
  return modules;
}

wm_library_symbol *wm_library_first(const char *name) {
  size_t n = 0;
  HMODULE *modules = all_modules(&n), mine = module_of(&here, GET_MODULE_HANDLE_EX_FLAG_UNCHANGED_REFCOUNT);
  wm_library_symbol *first = NULL;
  for (size_t i = 0; i < n && first == NULL && modules[i] != mine; i++) {
    FARPROC symbol = GetProcAddress(modules[i], name);
    memcpy(&first, &symbol, sizeof first);
  }
  free(modules);
  return first;
}

bool wm_library_keep(void) { return module_of(&here, GET_MODULE_HANDLE_EX_FLAG_PIN) != NULL; }

#endif
