/*
** lookup.h - the parts of a wm_conn that lookup.c owns; what it offers to functions is in conn.h
*/
#ifndef WM_LOOKUP_H
#define WM_LOOKUP_H

#include "conn.h"

int wm_lookup_new(wm_conn *conn); /* an SQLite code */
void wm_lookup_free(wm_conn *conn);
void wm_lookup_forget(wm_conn *conn); /* what was looked up, and the statement kept for it */

#endif
