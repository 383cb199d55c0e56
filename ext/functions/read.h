/*
** read.h - what functions read of a map: values by key, its length, a state of it
*/
#ifndef WM_READ_H
#define WM_READ_H

#include "conn/conn.h"

/*
** The value of an encoded key as the statement that calls the function sees it. In a transaction that has begun on the
** map, that is what the transaction sees, and the key's shard stays locked until the transaction ends (T4). Otherwise
** all calls of the statement read one committed state (T2), until the connection itself writes. Returns the codes of
** walmap_txn_get and walmap_state_get, or WALMAP_NOMEM. On WALMAP_OK *pin keeps entry's pointers alive at least until
** the function returns; to hand over a value without a copy, use wm_read_state_destructor(*pin).
*/
int wm_read_get(sqlite3_context *context, wm_attachment *attachment, const void *key, size_t key_len,
                walmap_entry *entry, wm_read_state **pin);

/*
** The number of entries in the state that wm_read_get would read. In a transaction that has begun on the map it locks
** all shards, as a scan does (T4). A WALMAP code.
*/
int wm_read_len(sqlite3_context *context, wm_attachment *attachment, uint64_t *len);

/*
** A state for a function that reads the whole map: what the transaction that has begun on it sees, otherwise the
** committed state in which wm_read_get would look. Release it with wm_read_state_release. A WALMAP code. `context` may
** be NULL, for a caller that keeps the state itself until the statement ends.
*/
int wm_read_state_of(sqlite3_context *context, wm_attachment *attachment, wm_read_state **out);

/* The same, but always a committed state. */
int wm_read_committed_state(sqlite3_context *context, wm_attachment *attachment, wm_read_state **out);

/* ------------------------------------------------------------------------------------------------------------------ */
/* For the hooks of the connection                                                                                    */

/* A transaction on the map has begun or ended: releases the outdated states of functions in running statements. */
void wm_read_release(wm_attachment *attachment);

void wm_read_free(wm_conn *conn);

#endif
