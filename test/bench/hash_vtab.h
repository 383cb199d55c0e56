/*
** hash_vtab.h - a virtual table over a plain hash table: what keeping rows takes, and nothing else
**
** Text keys and values in a log, and an open-addressed table of hashes and addresses. It has nothing else: one
** connection, no transaction that could be undone, no states, no savepoints, no memory that is given back, and room for
** all from the beginning. What a statement takes here beyond null_vtab.h's table is what keeping rows costs, where each
** key is looked up when it is asked for. What walmap takes beyond this one is what its promises cost; it takes less
** where it looks up many keys together (IN lists, and the writes of a transaction).
*/
#ifndef TEST_BENCH_HASH_VTAB_H
#define TEST_BENCH_HASH_VTAB_H

#include "first_touch.h"
#include "null_vtab.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

/* Lengths, then the key and the value, each with a NUL at its end. */
typedef struct plain_record {
  uint32_t key_len, value_len, size; /* of the whole */
  bool dead;
  char text[];
} plain_record;

/* 16 bits of the hash, and the place in the log plus 1; 0 is empty. A slot keeps its key when the key is removed. */
typedef uint64_t plain_slot;

typedef struct plain_store {
  fresh memory, table;
  plain_slot *slots;
  uint64_t mask;
  size_t used, room;
} plain_store;

typedef struct plain_cursor {
  sqlite3_vtab_cursor base;
  const plain_record *row; /* NULL: at the end */
  const plain_record *list[BARE_LIST];
  uint32_t at, n; /* of the list */
  bool is_scan;
} plain_cursor;

typedef struct plain_vtab {
  bare_vtab bare; /* plans, opens and closes as that one */
  plain_store store;
} plain_vtab;

/* ------------------------------------------------------------------------------------------------------------------ */
/* The hash table                                                                                                     */

static inline plain_record *plain_at(const plain_store *s, size_t place) {
  return (plain_record *)(s->memory.at + place);
}

/* The slot with the key, or the empty one where it would be. */
static inline plain_slot *plain_find(const plain_store *s, const char *key, uint32_t len, uint64_t hash) {
  for (uint64_t i = hash & s->mask;; i = (i + 1) & s->mask) {
    plain_slot slot = s->slots[i];
    if (slot == 0)
      return &s->slots[i];
    const plain_record *r = plain_at(s, (slot & 0xffffffffffff) - 1);
    if (slot >> 48 == hash >> 48 && r->key_len == len && memcmp(r->text, key, len) == 0)
      return &s->slots[i];
  }
}

static inline plain_record *plain_get(const plain_store *s, const char *key, uint32_t len) {
  plain_slot slot = *plain_find(s, key, len, XXH3_64bits(key, len));
  plain_record *r = slot == 0 ? NULL : plain_at(s, (slot & 0xffffffffffff) - 1);
  return r == NULL || r->dead ? NULL : r;
}

static inline void plain_put(plain_store *s, const char *key, uint32_t key_len, const char *value, uint32_t value_len) {
  uint64_t hash = XXH3_64bits(key, key_len);
  plain_slot *slot = plain_find(s, key, key_len, hash);
  if (*slot != 0)
    plain_at(s, (*slot & 0xffffffffffff) - 1)->dead = true;
  plain_record *r = plain_at(s, s->used);
  uint32_t size = (uint32_t)(sizeof *r + key_len + value_len + 2 + 7) & ~7u;
  MUST(s->used + size <= s->room);
  *r = (plain_record){key_len, value_len, size, false};
  memcpy(r->text, key, key_len);
  r->text[key_len] = 0;
  memcpy(r->text + key_len + 1, value, value_len);
  r->text[key_len + 1 + value_len] = 0;
  *slot = (hash >> 48) << 48 | (s->used + 1);
  s->used += size;
}

/* The first living record from `place` on. */
static inline const plain_record *plain_living(const plain_store *s, size_t place) {
  while (place < s->used && plain_at(s, place)->dead)
    place += plain_at(s, place)->size;
  return place < s->used ? plain_at(s, place) : NULL;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* The virtual table                                                                                                  */

static inline int plain_connect(sqlite3 *db, void *aux, int argc, const char *const *argv, sqlite3_vtab **out,
                                char **err) {
  const bare_source *source = aux;
  sqlite3_vtab *declared;
  int rc = bare_connect(db, aux, argc, argv, &declared, err);
  free(declared);
  plain_vtab *vtab = calloc(1, sizeof *vtab);
  MUST(vtab);
  vtab->bare.source = source;
  vtab->bare.cursor_size = sizeof(plain_cursor);
  size_t slots = 64;
  while (slots < 2 * (size_t)source->n)
    slots *= 2;
  vtab->store.mask = slots - 1;
  vtab->store.room = (size_t)4 * source->n * (sizeof(plain_record) + BARE_KEY + strlen(source->value) + 8);
  vtab->store.memory = fresh_new(vtab->store.room);
  vtab->store.table = fresh_new(slots * sizeof(plain_slot));
  memset(vtab->store.memory.at, 0, vtab->store.room); /* the page faults, which are not what is measured */
  memset(vtab->store.table.at, 0, slots * sizeof(plain_slot));
  vtab->store.slots = (plain_slot *)(void *)vtab->store.table.at;
  *out = &vtab->bare.base;
  return rc;
}

static inline int plain_disconnect(sqlite3_vtab *base) {
  plain_vtab *vtab = (plain_vtab *)base;
  fresh_free(&vtab->store.memory);
  fresh_free(&vtab->store.table);
  return bare_disconnect(base);
}

static inline const plain_record *plain_look_up(const plain_store *s, sqlite3_value *key) {
  if (sqlite3_value_type(key) != SQLITE_TEXT)
    return NULL;
  const char *text = sqlite3_value_blob(key);
  return plain_get(s, text, (uint32_t)sqlite3_value_bytes(key));
}

static inline int plain_next(sqlite3_vtab_cursor *base) {
  plain_cursor *c = (plain_cursor *)base;
  const plain_store *s = &((plain_vtab *)base->pVtab)->store;
  if (c->is_scan)
    c->row = plain_living(s, (size_t)((const char *)c->row - s->memory.at) + c->row->size);
  else
    c->row = ++c->at < c->n ? c->list[c->at] : NULL;
  return SQLITE_OK;
}

static inline int plain_filter(sqlite3_vtab_cursor *base, int plan, const char *unused, int argc,
                               sqlite3_value **argv) {
  (void)unused, (void)argc;
  plain_cursor *c = (plain_cursor *)base;
  const plain_store *s = &((plain_vtab *)base->pVtab)->store;
  sqlite3_value *value;
  c->is_scan = plan == BARE_SCAN;
  c->at = c->n = 0;
  if (plan == BARE_SCAN) {
    c->row = plain_living(s, 0);
  } else if (plan == BARE_LOOKUP) {
    c->row = plain_look_up(s, argv[0]);
  } else {
    for (int rc = sqlite3_vtab_in_first(argv[0], &value); rc == SQLITE_OK; rc = sqlite3_vtab_in_next(argv[0], &value)) {
      MUST(c->n < BARE_LIST);
      if ((c->list[c->n] = plain_look_up(s, value)) != NULL)
        c->n++;
    }
    c->row = c->n > 0 ? c->list[0] : NULL;
  }
  return SQLITE_OK;
}

static inline int plain_eof(sqlite3_vtab_cursor *base) { return ((plain_cursor *)base)->row == NULL; }

static inline int plain_column(sqlite3_vtab_cursor *base, sqlite3_context *context, int column) {
  const plain_record *r = ((plain_cursor *)base)->row;
  if (!sqlite3_vtab_nochange(context))
    sqlite3_result_text(context, r->text + (column == 1 ? r->key_len + 1 : 0), -1, SQLITE_STATIC);
  return SQLITE_OK;
}

/* As far as the benchmarks go: text keys that an UPDATE leaves, and INSERTs that meet no other row. */
static inline int plain_update(sqlite3_vtab *base, int argc, sqlite3_value **argv, sqlite3_int64 *rowid) {
  (void)rowid;
  plain_store *s = &((plain_vtab *)base)->store;
  bool is_insert = sqlite3_value_type(argv[0]) == SQLITE_NULL;
  sqlite3_value *key_value = is_insert ? argv[2] : argv[0];
  const char *key = sqlite3_value_blob(key_value);
  uint32_t key_len = (uint32_t)sqlite3_value_bytes(key_value);
  if (argc == 1) {
    plain_record *r = plain_get(s, key, key_len);
    if (r != NULL)
      r->dead = true;
    return SQLITE_OK;
  }
  MUST(sqlite3_value_type(argv[3]) == SQLITE_TEXT);
  const char *value = sqlite3_value_blob(argv[3]);
  plain_put(s, key, key_len, value, (uint32_t)sqlite3_value_bytes(argv[3]));
  return SQLITE_OK;
}

/* For bare_create; the source's value is as long as any. */
static inline const sqlite3_module *plain_module(void) {
  static sqlite3_module module;
  module = bare_module;
  module.xCreate = module.xConnect = plain_connect;
  module.xDisconnect = module.xDestroy = plain_disconnect;
  module.xFilter = plain_filter;
  module.xNext = plain_next;
  module.xEof = plain_eof;
  module.xColumn = plain_column;
  module.xUpdate = plain_update;
  return &module;
}

#endif
