/*
** lookup.h - the part of a wm_conn that lookup.c owns; what it offers to functions is in conn.h
*/
#ifndef WM_LOOKUP_H
#define WM_LOOKUP_H

#include "conn.h"

/* A transaction on the map has begun or ended: what functions of running statements read is outdated, and let go of. */
void wm_lookup_release(wm_use *use);

void wm_lookup_free(wm_conn *conn);

#endif
