/*
** core_init.c - registers walmap in every connection of an SQLite that has it inside
**
** SQLite calls this function from sqlite3_initialize() when it is compiled with -DSQLITE_EXTRA_INIT=core_init.
*/
#include "walmap_sqlite.h"

int core_init(const char *unused) {
  (void)unused;
  return sqlite3_auto_extension((void (*)(void))sqlite3_walmap_init);
}
