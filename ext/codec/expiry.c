/*
** expiry.c - the time at which an entry expires, as an SQL value: see expiry.h
*/
#include "codec/expiry.h"

SQLITE_EXTENSION_INIT3

static const uint64_t most_seconds = WALMAP_MAX_TIME / 1000;

/* Milliseconds of a number of seconds, rounded to the nearest one. Times before 1970 are past as well as 1 ms after. */
static uint64_t milliseconds(double seconds) {
  if (!(seconds > 0.0005))
    return 1;
  return seconds < (double)most_seconds ? (uint64_t)(seconds * 1000 + 0.5) : WALMAP_MAX_TIME;
}

bool wm_expiry_read(sqlite3_value *value, uint64_t *expires) {
  sqlite3_int64 seconds;
  switch (sqlite3_value_type(value)) {
  case SQLITE_NULL:
    *expires = WALMAP_NEVER;
    return true;
  case SQLITE_INTEGER:
    seconds = sqlite3_value_int64(value);
    *expires = seconds <= 0                                 ? 1
               : (uint64_t)seconds < WALMAP_MAX_TIME / 1000 ? (uint64_t)seconds * 1000
                                                            : WALMAP_MAX_TIME;
    return true;
  case SQLITE_FLOAT:
    *expires = milliseconds(sqlite3_value_double(value));
    return true;
  default:
    return false;
  }
}

void wm_expiry_result(sqlite3_context *context, uint64_t expires) {
  if (expires == WALMAP_NEVER)
    sqlite3_result_null(context);
  else if (expires % 1000 == 0)
    sqlite3_result_int64(context, (sqlite3_int64)(expires / 1000));
  else
    sqlite3_result_double(context, (double)expires / 1000);
}

bool wm_expiry_after(sqlite3_value *ttl, uint64_t now, uint64_t *expires) {
  int type = sqlite3_value_type(ttl);
  *expires = WALMAP_NEVER;
  if (type == SQLITE_NULL)
    return true;
  double seconds = sqlite3_value_double(ttl);
  if ((type != SQLITE_INTEGER && type != SQLITE_FLOAT) || seconds < 0)
    return false;
  double left = (double)(WALMAP_MAX_TIME - now) / 1000;
  *expires = seconds < left ? now + (uint64_t)(seconds * 1000 + 0.5) : WALMAP_MAX_TIME;
  return true;
}
