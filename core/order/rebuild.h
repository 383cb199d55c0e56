/*
** rebuild.h - the tree's structure changes: leaves are split, merged and left out (order.h has the picture)
**
** Each of these runs under the tree's mutex, and publishes what it made by one store. The caller is in the epoch.
*/
#ifndef WALMAP_REBUILD_H
#define WALMAP_REBUILD_H

#include "order/node.h"

/* Rebuilds or splits the leaf of a key that is to be added: it has no room, or no prefix, for it. OK or NOMEM. */
int walmap__order_make_room(walmap__order *order, const walmap__sort_bytes *key);

/* Leaves out the leaf of a key if it is empty, or merges it with a neighbour if both fit in one. Not without memory. */
void walmap__order_merge(walmap__order *order, const walmap__sort_bytes *key);

#endif
