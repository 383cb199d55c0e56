/*
** expiry.h - the time at which an entry expires, and the time that it has to live, as SQL values
**
** In SQL both are seconds, a number with fractions down to 1/1000 s; in the core both are milliseconds. NULL is never.
*/
#ifndef WM_EXPIRY_H
#define WM_EXPIRY_H

#include "walmap.h"

#include <sqlite3ext.h>
#include <stdbool.h>

#define WM_TTL_MAX 1000000000 /* seconds of the option ttl, some 31 years */

/* The core's expiry for a value of the column `expires`. False when the value is neither a number nor NULL. */
bool wm_expiry_read(sqlite3_value *value, uint64_t *expires);

/* The column's value. */
void wm_expiry_result(sqlite3_context *context, uint64_t expires);

/* The core's expiry for a ttl argument at the time `now`. False when it is neither NULL nor a number from 0 on. */
bool wm_expiry_after(sqlite3_value *ttl, uint64_t now, uint64_t *expires);

#endif
