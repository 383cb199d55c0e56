/*
** walmap_sqlite.h - for hosts that link the extension in instead of loading it
**
** Compile the sources in core/ and ext/ with -DSQLITE_CORE. Then call sqlite3_walmap_init for each connection, with
** NULL for `api`, or let SQLite do so for all connections that are opened from now on:
**
**    sqlite3_auto_extension((void (*)(void))sqlite3_walmap_init);
**
** The functions of the C library are in walmap.h.
*/
#ifndef WALMAP_SQLITE_H
#define WALMAP_SQLITE_H

#ifdef __cplusplus
extern "C" {
#endif

/*
** Registers walmap's table and functions on the connection; a second call changes nothing. SQLITE_OK_LOAD_PERMANENTLY,
** which to SQLite is success; or an error with *error, to be freed with sqlite3_free, unless memory is out.
*/
struct sqlite3;
struct sqlite3_api_routines;
int sqlite3_walmap_init(struct sqlite3 *db, char **error, const struct sqlite3_api_routines *api);

#ifdef __cplusplus
}
#endif

#endif
