/*
** library.h - the library that this code lies in, among those of the process
**
** library_posix.c and library_windows.c do the same in the words of their systems; each is empty elsewhere, and both
** are where the extension is part of its host (SQLITE_CORE).
*/
#ifndef WM_LIBRARY_H
#define WM_LIBRARY_H

#include <stdbool.h>

typedef void wm_library_symbol(void);

/*
** The function of that name in the library that the process loaded first of those that export it. NULL: there is none,
** or it is this library.
*/
wm_library_symbol *wm_library_first(const char *name);

/* Keeps this library in the process until the process ends, whatever unloads it. False: the system refuses. */
bool wm_library_keep(void);

#endif
