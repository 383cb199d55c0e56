/*
** plan.h - how a statement reads a walmap table: xBestIndex, and what it tells xFilter
**
** idxNum says which plan, and what xFilter's arguments are:
**
**    plan           arguments               returns
**    WM_PLAN_SCAN   lower bound, upper      all entries, or the entries within the bounds that the bits below announce
**                   bound, each if there
**    WM_PLAN_KEY    the key                 the entry; for a number also text keys that look like numbers
**    WM_PLAN_LIST   the list of IN          the entries of all keys in it, with their look-alikes, each once
**
** A plan may return more rows than match, never fewer. SQLite checks each row again, unless the key, or the bound in an
** ordered map, is a text or blob that is known when the statement is prepared: such a value has no numeric affinity.
**
** A scan of an ordered map is a walk from bound to bound (walk.h), whose rows are always in the order of keys.
**
** When SQLite asks for the order of the key, a scan returns its rows in that order (sorted.h). That saves SQLite a sort
** of several times the cost. Keys are unique, so terms behind the key in ORDER BY do not matter. SQLite itself sorts in
** two cases: where the order is not that of the bytes (UTF-16); and where the map is so large, when the statement is
** prepared, that the rows would take too much memory: SQLite's own sort can use a file.
**
** The unit of costs is a row that SQLite looks at. n is the number of entries, but at least SMALL_MAP, because
** statements may be prepared before the map is filled. A scan walks over the whole map, whatever its bounds, unless the
** map is ordered: then it costs the rows that it returns, and the search for the first.
**
**    plan           cost              rows                     unique
**    WM_PLAN_KEY    1                 1                        where it may be
**    WM_PLAN_LIST   LIST_LENGTH       LIST_LENGTH
**    WM_PLAN_SCAN   n                 n; with one bound n / 4, with both n / 64
**      sorted       2 n
**      ordered      8 + its rows      as any scan
**
** n / 4 and n / 64 are what SQLite takes for a native table of which it has no statistics. With other shares, a join
** with native tables would be planned otherwise than one of native tables alone.
**
** WM_PLAN_KEY is declared unique, although a number may have look-alikes: otherwise UPDATE and DELETE by key would take
** two passes and several times longer. But a one-pass UPDATE or DELETE stops at the first match: where the right side
** has numeric affinity (key = CAST(x AS INTEGER), key = t.integer_column), a native table would change '1' and '01'
** beside 1. The exact match comes first. A SELECT goes on after the first row in any case, so it gains no speed. It
** would even lose rows: SQLite omits a LEFT JOIN with a unique table of which no column is used, though each look-alike
** would give a row. So in a SELECT the lookup is unique only where the key is a known text or blob. A SELECT that is
** part of another statement cannot be told from a DELETE.
**
** (key, value) IN (SELECT ...) is WM_PLAN_KEY too, with one value at a time: sqlite3_vtab_in does not report it, and
** every call of xBestIndex for such a statement gets the same arguments as for a join on key = column. SQLite compares
** the rows of each value without affinity before it compares the pair, so '1' and '01' are lost where 1 comes from a
** column of numeric affinity. A plan that scans instead would mean a scan for each row of such joins.
*/
#ifndef WM_PLAN_H
#define WM_PLAN_H

#include <sqlite3ext.h>

enum wm_plan_way { WM_PLAN_SCAN, WM_PLAN_KEY, WM_PLAN_LIST };
#define WM_PLAN_WAY(plan) ((plan)&3)

/* Bits of a bound, shifted by WM_PLAN_LOWER or WM_PLAN_UPPER. */
#define WM_PLAN_BOUND 1     /* there is a bound */
#define WM_PLAN_INCLUSIVE 2 /* >= or <= */
#define WM_PLAN_NOCASE 4    /* with SQLite's own collation NOCASE, as LIKE 'a%' gives; otherwise BINARY */
#define WM_PLAN_EXACT 8     /* SQLite does not check it again */
#define WM_PLAN_PATTERN 16  /* SQLite made it of LIKE or GLOB, which take blobs for text */
#define WM_PLAN_LOWER 2
#define WM_PLAN_UPPER 7

/* Bits of a WM_PLAN_SCAN. */
#define WM_PLAN_SORTED 0x1000     /* by key */
#define WM_PLAN_DESCENDING 0x2000 /* greatest first */
#define WM_PLAN_UTF16 0x4000      /* within bounds, in a database that orders text otherwise than the map's UTF-8 */
#define WM_PLAN_ORDERED 0x8000    /* by a walk over an ordered map (walk.h) */

int wm_plan_best_index(sqlite3_vtab *vtab, sqlite3_index_info *info);

#endif
