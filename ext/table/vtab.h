/*
** vtab.h - the virtual-table module "walmap"
*/
#ifndef WM_VTAB_H
#define WM_VTAB_H

#include "conn/conn.h"

typedef struct wm_vtab {
  sqlite3_vtab base;
  wm_table *table; /* with a reference */
  bool fresh;      /* it has just joined the transaction: the next xSavepoint catches up with savepoints open before */
  bool unrecorded; /* created by the running statement, and ddl.c has no record of it: xRollback must undo that */
  bool noted;      /* wm_database_note was called for it: the creation is committed */
  bool compiled_again; /* a statement was, as it might have given a rowid (update.c): statements know the declaration */
  int phase;           /* of the transaction, in builds with WALMAP_DEBUG (vtab.c) */
} wm_vtab;

/* Registers the module on the connection. An SQLite code. It is registered until SQLite drops it. */
int wm_vtab_register(wm_conn *conn);
static inline bool wm_vtab_is_registered(const wm_conn *conn) { return conn->registered; }

/* xUpdate (update.c) */
int wm_update(sqlite3_vtab *vtab, int argc, sqlite3_value **argv, sqlite3_int64 *rowid);

#endif
