/*
** static.c - a host that has walmap inside: nothing to load
**
**    cc -O2 -DSQLITE_CORE -o static static.c walmap.c -lsqlite3 -lpthread
**
** Instead of -lsqlite3 there may be the host's own sqlite3.c.
*/
#include "walmap.h"

#include <sqlite3.h>
#include <stdio.h>

static int print_row(void *unused, int columns, char **values, char **names) {
  (void)unused, (void)columns, (void)names;
  return puts(values[0]) < 0;
}

int main(void) {
  sqlite3 *db = NULL;
  char *error = NULL;
  /* For each connection from now on */
  int rc = sqlite3_auto_extension((void (*)(void))sqlite3_walmap_init);
  if (rc == SQLITE_OK)
    rc = sqlite3_open(":memory:", &db);
  if (rc == SQLITE_OK)
    rc = sqlite3_exec(db, "INSERT INTO walmap VALUES('alice', 'online'); SELECT walmap_get('alice')", print_row, NULL,
                      &error);
  if (rc != SQLITE_OK)
    fprintf(stderr, "%s\n", error ? error : sqlite3_errstr(rc));
  sqlite3_free(error);
  sqlite3_close(db);
  return rc != SQLITE_OK;
}
