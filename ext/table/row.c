/*
** row.c - writing one row: see row.h
*/
#include "table/row.h"
#include "conn/transaction.h"

#include <string.h>

SQLITE_EXTENSION_INIT3

/* ------------------------------------------------------------------------------------------------------------------ */
/* The length limit                                                                                                   */

static size_t varint_size(uint64_t number) {
  size_t size = 1;
  while (size < 9 && (number >>= 7) != 0)
    size++;
  return size;
}

/*
** A native table limits the record: the payloads, and a header that holds its own length and one varint for each
** column, which tells the column's type and length. The bytes of numbers, here up to 8 each, matter only to a limit of
** less than a few dozen bytes more than the row.
*/
bool wm_row_is_too_big(sqlite3 *db, const wm_key *key, size_t value_size) {
  uint64_t limit = (uint64_t)sqlite3_limit(db, SQLITE_LIMIT_LENGTH, -1);
  uint64_t key_payload = key->size - 1 - wm_codec_key_is_text(key->data);
  uint64_t header = 1 + varint_size(13 + 2 * key_payload) + varint_size(13 + 2 * (uint64_t)value_size);
  return header + key_payload + value_size > limit;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Writing                                                                                                            */

/* Of a durable table: the time that the journal notes. A WALMAP code, also of looking at the present entry. */
static int resolve_expires(wm_attachment *attachment, const wm_key *key, uint64_t *expires) {
  walmap_entry present;
  int result = WALMAP_OK;
  if (*expires == WALMAP_KEEP) {
    result = walmap_txn_peek(attachment->txn, key->data, key->size, &present);
    *expires = result == WALMAP_OK ? present.expires : WALMAP_BY_TTL;
  }
  if (*expires == WALMAP_BY_TTL) {
    uint64_t ttl = walmap_get_options(attachment->map->map)->ttl;
    *expires = ttl != 0 ? walmap_txn_clock(attachment->txn) + ttl : WALMAP_NEVER;
  }
  return result == WALMAP_NOTFOUND ? WALMAP_OK : result;
}

int wm_row_set(wm_attachment *attachment, const wm_key *key, const wm_value *value, const walmap_entry *from,
               wm_when when, uint64_t expires) {
  size_t size = value != NULL ? wm_codec_value_size(value) : from->value_len;
  void *to;
  if (attachment->map->history != NULL) {
    int reserved = wm_attachment_reserve_change(attachment, WM_CHANGE_PUT, key->size, size);
    if (reserved == WALMAP_OK)
      reserved = resolve_expires(attachment, key, &expires);
    if (reserved != WALMAP_OK)
      return reserved;
  }
  wm_registry_note_key(attachment->map, key->data, key->size);
  static const walmap_when whens[] = {
      [WM_ALWAYS] = WALMAP_ALWAYS, [WM_IF_ABSENT] = WALMAP_IF_ABSENT, [WM_IF_PRESENT] = WALMAP_IF_PRESENT};
  int result = walmap_txn_reserve_expiring(attachment->txn, whens[when], key->data, key->size, size, expires, &to);
  if (result != WALMAP_OK)
    return result;
  wm_attachment_changed(attachment);
  if (value != NULL) {
    wm_codec_write_value(value, key->form, to);
  } else {
    memcpy(to, from->value, size);
    wm_codec_set_form(to, key->form);
  }
  if (attachment->map->history != NULL)
    wm_journal_add(&attachment->journal, WM_CHANGE_PUT, &(walmap_entry){key->data, key->size, to, size, expires});
  return WALMAP_OK;
}

int wm_row_remove(wm_attachment *attachment, const wm_key *key) {
  if (attachment->map->history != NULL) {
    int reserved = wm_attachment_reserve_change(attachment, WM_CHANGE_REMOVE, key->size, 0);
    if (reserved != WALMAP_OK)
      return reserved;
  }
  int result = walmap_txn_remove(attachment->txn, key->data, key->size);
  if (result != WALMAP_OK)
    return result;
  wm_attachment_changed(attachment);
  if (attachment->map->history != NULL)
    wm_journal_add(&attachment->journal, WM_CHANGE_REMOVE, &(walmap_entry){key->data, key->size, NULL, 0});
  return WALMAP_OK;
}
