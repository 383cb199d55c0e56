/*
** replica.h - a copy of a durable table's rows for one connection
**
** For a version that the map of all connections cannot show (durable.c), and to hold the map against the file.
*/
#ifndef WM_REPLICA_H
#define WM_REPLICA_H

#include "conn/conn.h"

/*
** Replays the whole log, as the connection's snapshot of the file has it, into a map of its own. Its hashes are those
** of the attachment's map, so a lookup by hash need not know whose state it reads. The caller owns the reference.
** Results as in durable.h.
*/
int wm_replica_make(wm_table *table, wm_replica **out);

#endif
