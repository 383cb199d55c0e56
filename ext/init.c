/*
** init.c - the entry point of the extension, the only symbol that the library exports
**
** It may be loaded any number of times, by any number of connections, which may close in any order: the library stays
** for the life of the process (SQLITE_OK_LOAD_PERMANENTLY), because named maps, and threads that use them, outlive the
** connection that loaded it. Loading it again on a connection changes nothing. Compiled with -DSQLITE_CORE it is part
** of an SQLite, which calls sqlite3_walmap_init for each connection, or passes it to sqlite3_auto_extension.
**
** Needs SQLite 3.40.0 or later.
*/
#define _GNU_SOURCE /* dladdr, RTLD_NODELETE */

#include "conn.h"
#include "ddl.h"
#include "functions.h"
#include "vtab.h"

#ifndef SQLITE_CORE
#include <dlfcn.h>
#endif
#include <pthread.h>

SQLITE_EXTENSION_INIT1

#define OLDEST_SQLITE 3040000

/*
** Takes the host's functions, once: later loads find other threads calling them. False when they come from another
** SQLite library than before, as a process may have two: the maps' memory and mutexes belong to the first.
*/
static bool take_api(const sqlite3_api_routines *api) {
#ifdef SQLITE_CORE
  (void)api;
  return true;
#else
  static pthread_mutex_t loading = PTHREAD_MUTEX_INITIALIZER;
  pthread_mutex_lock(&loading);
  if (sqlite3_api == NULL) {
    SQLITE_EXTENSION_INIT2(api);
  }
  bool taken = sqlite3_api == api;
  pthread_mutex_unlock(&loading);
  return taken;
#endif
}

/*
** Keeps the library in the process also when loading fails. SQLite unloads it then, but what was registered before the
** failure stays registered, and would be called when the connection closes.
*/
static bool stay(void) {
#ifndef SQLITE_CORE
  static const char here;
  Dl_info library;
  return dladdr(&here, &library) != 0 && dlopen(library.dli_fname, RTLD_NOW | RTLD_NOLOAD | RTLD_NODELETE) != NULL;
#else
  return true;
#endif
}

#ifdef _WIN32
#define EXPORT __declspec(dllexport)
#elif defined(__GNUC__)
#define EXPORT __attribute__((visibility("default")))
#else
#define EXPORT
#endif

EXPORT int sqlite3_walmap_init(sqlite3 *db, char **err, const sqlite3_api_routines *api) {
  if (!take_api(api)) {
    *err = api->mprintf(WM_MODULE ": another SQLite library of this process has loaded it already");
    return SQLITE_ERROR;
  }
  if (sqlite3_libversion_number() < OLDEST_SQLITE) {
    *err = sqlite3_mprintf(WM_MODULE ": SQLite %s is too old, 3.40.0 is needed", sqlite3_libversion());
    return SQLITE_ERROR;
  }
  wm_conn *conn;
  int rc = stay() ? wm_conn_find(db, &conn) : SQLITE_NOMEM;
  if (rc != SQLITE_OK)
    return rc;
  if (!wm_vtab_is_registered(conn)) {
    rc = wm_ddl_register(conn);
    if (rc == SQLITE_OK)
      rc = wm_functions_register(conn);
    if (rc == SQLITE_OK)
      rc = wm_vtab_register(conn); /* last: it marks the connection as done */
  }
  wm_conn_release(conn);
  return rc == SQLITE_OK ? SQLITE_OK_LOAD_PERMANENTLY : rc;
}
