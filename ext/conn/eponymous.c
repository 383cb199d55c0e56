/*
** eponymous.c - what the tables without CREATE have in common: see eponymous.h
*/
#include "conn/eponymous.h"

#include <string.h>

SQLITE_EXTENSION_INIT3

int wm_eponymous_connect(sqlite3 *db, const char *declaration, int risk, size_t size, sqlite3_vtab **out) {
  int rc = sqlite3_declare_vtab(db, declaration);
  if (rc == SQLITE_OK)
    rc = sqlite3_vtab_config(db, risk);
  if (rc != SQLITE_OK)
    return rc;
  if ((*out = sqlite3_malloc64(size)) == NULL)
    return SQLITE_NOMEM;
  memset(*out, 0, size);
  return SQLITE_OK;
}

int wm_eponymous_disconnect(sqlite3_vtab *table) {
  sqlite3_free(table);
  return SQLITE_OK;
}

int wm_eponymous_open(size_t size, sqlite3_vtab_cursor **out) {
  if ((*out = sqlite3_malloc64(size)) == NULL)
    return SQLITE_NOMEM;
  memset(*out, 0, size);
  return SQLITE_OK;
}
