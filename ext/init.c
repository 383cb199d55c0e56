/*
** init.c - the entry point of the extension, the only symbol that the library exports
**
** Any number of connections may load the extension, any number of times, and close in any order: the library stays for
** the life of the process (SQLITE_OK_LOAD_PERMANENTLY), because named maps, and threads that use them, outlive the
** connection that loaded it. To load it again on a connection changes nothing. To the system, a second path is a second
** library, with maps of its own; so the library that was loaded first serves there too. Compiled with -DSQLITE_CORE the
** extension is part of an SQLite, which calls sqlite3_walmap_init for each connection, or passes it to
** sqlite3_auto_extension.
**
** Needs SQLite 3.40.0 or later.
*/
#include "conn/conn.h"
#include "durable/durable.h"
#include "durable/log.h"
#include "functions/functions.h"
#include "functions/read.h"
#include "functions/upsert.h"
#include "platform/library.h"
#include "schema/control.h"
#include "schema/ddl.h"
#include "schema/resolve.h"
#include "table/cursor.h"
#include "table/vtab.h"
#include "walmap_sqlite.h"

#include <pthread.h>

SQLITE_EXTENSION_INIT1

#define OLDEST_SQLITE 3040000

#ifndef SQLITE_CORE
static pthread_mutex_t loading = PTHREAD_MUTEX_INITIALIZER; /* guards sqlite3_api until it is set */
#endif

typedef int init_function(sqlite3 *db, char **err, const sqlite3_api_routines *api);

/*
** The entry point of the walmap library that this process loaded first, from another path; NULL when this library is
** the first, or has served already.
*/
static init_function *first_of_process(void) {
#ifdef SQLITE_CORE
  return NULL;
#else
  pthread_mutex_lock(&loading);
  bool serves = sqlite3_api != NULL;
  pthread_mutex_unlock(&loading);
  return serves ? NULL : (init_function *)wm_library_first("sqlite3_" WM_MODULE "_init");
#endif
}

/*
** Takes the host's functions, once: at later loads other threads may be calling them. False when they come from another
** SQLite library than before, since a process may have two: the maps' memory and mutexes belong to the first.
*/
static bool set_api(const sqlite3_api_routines *api) {
#ifdef SQLITE_CORE
  (void)api;
  return true;
#else
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
** Keeps the library in the process also when loading fails. SQLite would unload it, but modules and functions that were
** registered before the failure stay registered, and their destructors are called when the connection closes.
*/
static bool keep_library(void) {
#ifdef SQLITE_CORE
  return true;
#else
  return wm_library_keep();
#endif
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* The hooks: what the folders above conn/ do at events of a connection                                               */

static int set_up(wm_conn *conn) {
  int rc = wm_control_new(conn);
  if (rc == SQLITE_OK)
    rc = wm_ddl_new(conn);
  if (rc == SQLITE_OK)
    rc = wm_resolve_new(conn);
  return rc;
}

static void tear_down(wm_conn *conn) {
  wm_read_free(conn);
  wm_resolve_free(conn);
  wm_ddl_free(conn);
  wm_control_free(conn);
  while (conn->tables != NULL)
    wm_table_unlist(conn->tables);
  wm_cursor_free_pool(conn);
}

static const wm_conn_hooks hooks = {
    .set_up = set_up,
    .tear_down = tear_down,
    .watch_close = wm_control_watch_close,
    .forget_names = wm_resolve_forget,
    .forget_expressions = wm_upsert_forget,
    .end_reads = wm_read_release,
    .forget_log = wm_log_forget,
    .detach = wm_durable_detach,
    .acquire = wm_durable_acquire,
    .commit = wm_durable_commit,
    .rollback = wm_durable_rollback,
};

/* ------------------------------------------------------------------------------------------------------------------ */
/* The entry point                                                                                                    */

#ifdef _WIN32
#define EXPORT __declspec(dllexport)
#elif defined(__GNUC__)
#define EXPORT __attribute__((visibility("default")))
#else
#define EXPORT
#endif

EXPORT int sqlite3_walmap_init(sqlite3 *db, char **err, const sqlite3_api_routines *api) {
  init_function *first = first_of_process();
  if (first != NULL)
    return first(db, err, api);
  if (!set_api(api)) {
    *err = api->mprintf(WM_MODULE ": another SQLite library of this process has loaded it already; connections of one "
                                  "SQLite library alone can use it: open them all by the same binding, or in another "
                                  "process");
    return SQLITE_ERROR;
  }
  if (sqlite3_libversion_number() < OLDEST_SQLITE) {
    *err = sqlite3_mprintf(WM_MODULE ": SQLite %s is too old, 3.40.0 is needed", sqlite3_libversion());
    return SQLITE_ERROR;
  }
  wm_conn *conn;
  int rc = keep_library() ? wm_conn_find(db, &hooks, &conn) : SQLITE_NOMEM;
  if (rc != SQLITE_OK)
    return rc;
  if (!wm_vtab_is_registered(conn)) {
    rc = wm_control_register(conn);
    if (rc == SQLITE_OK)
      rc = wm_functions_register(conn);
    if (rc == SQLITE_OK)
      rc = wm_vtab_register(conn); /* last: it marks the connection as done */
  }
  wm_conn_release(conn);
  return rc == SQLITE_OK ? SQLITE_OK_LOAD_PERMANENTLY : rc;
}
