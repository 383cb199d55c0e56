/*
** write.h - one change of one key, in a shard that the caller owns
**
** In two steps, so that failing changes nothing: prepare looks the key up and obtains everything that the change
** needs; apply cannot fail. The change is visible to the owner at once, to readers when the tail moves past it.
*/
#ifndef WALMAP_WRITE_H
#define WALMAP_WRITE_H

#include "map.h"

typedef struct walmap__write {
  walmap__shard *shard;
  walmap__generation *generation;
  const void *key;
  size_t key_len;
  uint64_t hash;
  walmap__slot_ref slot;
  walmap__version old;     /* newest version of the key, a tombstone too */
  size_t value_len, bytes; /* of the record that replaces it */
  bool remove;
} walmap__write;

/* Looks the key up. NOMEM only when the shard's first generation must be made. */
int walmap__write_start(walmap__write *write, walmap__shard *shard, uint64_t hash, const void *key, size_t key_len);

/* Whether the key is present; then *entry (may be NULL) is its present entry. */
static inline bool walmap__write_present(const walmap__write *write, walmap_entry *entry) {
  if (!write->old.record || (write->old.meta & WALMAP__TOMB))
    return false;
  if (entry)
    walmap__record_entry(write->old.record, write->old.meta, entry);
  return true;
}

/* Obtains what setting a value of this length, or removing (value_len 0), needs: OK, NOMEM, TOOBIG. */
int walmap__write_prepare(walmap__write *write, size_t value_len, bool remove);

/* Does what was prepared. Returns where the value's bytes go. */
void *walmap__write_apply(const walmap__write *write);

#endif
