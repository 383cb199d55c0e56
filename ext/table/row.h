/*
** row.h - writing one row: what xUpdate and the functions that change one key have in common
**
** The functions that write are for a transaction that has begun on the map (wm_attachment_is_begun), and return WALMAP
** codes.
*/
#ifndef WM_ROW_H
#define WM_ROW_H

#include "codec/codec.h"
#include "conn/conn.h"

/*
** Whether a native table would refuse the row for its length, with SQLITE_TOOBIG. `value_size` is without header byte
** and NUL: wm_value.payload_size, or wm_codec_payload_size. Ask before the row is set.
*/
bool wm_row_is_too_big(sqlite3 *db, const wm_key *key, size_t value_size);

typedef enum wm_when { WM_ALWAYS, WM_IF_ABSENT, WM_IF_PRESENT } wm_when;

/*
** Sets the key to `value`; with NULL to the value of the entry `from`, which may be another key's. EXISTS or NOTFOUND
** when `when` says that the key is left alone. `expires` is as in walmap.h.
*/
int wm_row_set(wm_attachment *attachment, const wm_key *key, const wm_value *value, const walmap_entry *from,
               wm_when when, uint64_t expires);

/* NOTFOUND when the key is absent. */
int wm_row_remove(wm_attachment *attachment, const wm_key *key);

#endif
