/*
** names.h - the parts of a wm_conn that names.c owns; what it offers to functions is in conn.h
*/
#ifndef WM_NAMES_H
#define WM_NAMES_H

#include "conn.h"

int wm_names_new(wm_conn *conn); /* an SQLite code */
void wm_names_free(wm_conn *conn);
void wm_names_forget(wm_conn *conn); /* what was looked up, and the statement kept for it */

#endif
