/*
** cursor.h - cursors of walmap tables: xOpen to xClose
*/
#ifndef WM_CURSOR_H
#define WM_CURSOR_H

#include "conn/conn.h"

int wm_cursor_open(sqlite3_vtab *vtab, sqlite3_vtab_cursor **out);
int wm_cursor_close(sqlite3_vtab_cursor *base);
int wm_cursor_filter(sqlite3_vtab_cursor *base, int plan, const char *unused, int argc, sqlite3_value **argv);
int wm_cursor_next(sqlite3_vtab_cursor *base);
int wm_cursor_eof(sqlite3_vtab_cursor *base);
int wm_cursor_column(sqlite3_vtab_cursor *base, sqlite3_context *context, int column);

void wm_cursor_free_pool(wm_conn *conn);

#endif
