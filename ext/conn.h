/*
** conn.h - what the extension knows of one database connection
**
**   wm_conn    one per sqlite3*: the session (who waits for whom), the connection's walmap tables, its maps
**   wm_table   one per walmap table of the connection, from CREATE or first use to DROP, across reconnects
**   wm_use     one per (connection, map): the transaction on the map, the read state. Two tables of one map share it
**
** SQLite makes and drops sqlite3_vtab objects as it likes (schema changes, VACUUM, rollbacks), so nothing that must
** last lives in them. Everything here is used under the connection's mutex only.
**
** conn.c implements connections, uses and tables; transaction.c the transactions of uses; names.c and lookup.c what
** functions need: finding their table, and reading from it.
*/
#ifndef WM_CONN_H
#define WM_CONN_H

#include "registry.h"
#include "state.h"

#include <sqlite3ext.h>

typedef struct wm_conn wm_conn;
typedef struct wm_use wm_use;
typedef struct wm_table wm_table;

/* The name of the module, and of each connection's default map. */
#define WM_MODULE "walmap"

struct wm_use {
  wm_conn *conn;
  wm_map *map;
  walmap_txn *txn;     /* made with the use; begun by wm_use_begin */
  int levels;          /* savepoint levels that txn holds */
  unsigned generation; /* counts begins, commits and rollbacks: a read state from another generation is outdated */
  unsigned writes;     /* counts the transaction's changes, undone ones included */
  unsigned undone;     /* counts rollbacks, to savepoints too: they take changes out of the transaction's states */

  /* Owned by state.c. */
  wm_state *current; /* the committed state that open statements share, or NULL */
  wm_state *own;     /* what the transaction saw when `writes` was `own_writes`, or NULL */
  unsigned own_writes;
  wm_state *pool;

  struct wm_reader *readers; /* which statements have for their functions (lookup.c) */

  int references; /* of tables and begun states */
  wm_use *next;   /* in conn->uses */
};

struct wm_table {
  wm_conn *conn;
  wm_use *use;
  char *schema, *name;       /* the schema as wm_schema_name has it */
  sqlite3_stmt *statement;   /* the way into xUpdate, kept while it does not run (call.c) */
  struct wm_call *call;      /* work that the next xUpdate of the table does instead of its own (call.c) */
  int calls;                 /* how many pieces of such work are running, one inside the other: the table must stay */
  struct wm_upsert *upserts; /* prepared expressions, kept while they do not run (upsert.c) */
  int references;            /* of conn->tables, sqlite3_vtab objects and undo records */
  bool listed;               /* in conn->tables */
  wm_table *next;
};

struct wm_conn {
  sqlite3 *db;
  walmap_session *session;
  wm_table *tables;
  wm_use *uses;
  int references;   /* of modules, functions and sqlite3_vtab objects */
  unsigned changes; /* counts changes of `tables`, and disconnected objects of them: each outdates resolved names */

  struct wm_ddl *ddl;           /* schema changes of the running transaction (ddl.c) */
  struct wm_control *control;   /* the control table's part in the running transaction (control.c) */
  struct wm_cursor *cursors;    /* the pool of cursor.c */
  int pooled_cursors;           /* their number */
  struct wm_reader *readers;    /* the pool of lookup.c */
  struct wm_resolved *resolved; /* the last names looked up (names.c) */
  sqlite3_stmt *canary;         /* expires when these names may have got another meaning (names.c) */
  bool registered;              /* the module "walmap" is registered (vtab.c) */
  wm_conn *next;                /* in the process-wide list */
};

/* ------------------------------------------------------------------------------------------------------------------ */
/* Connections. sqlite3_walmap_init passes the wm_conn as user data to every module and function, each with one
** reference, and wm_conn_release as their destructor.                                                                */

int wm_conn_find(sqlite3 *db, wm_conn **out); /* finds or makes it, and takes a reference. An SQLite code */
void wm_conn_retain(wm_conn *conn);
void wm_conn_release(void *conn);

/*
** Whether the connection's databases order text by UTF-16 bytes. It runs a statement. As long as the main database is
** empty, the answer may change (PRAGMA encoding, a backup into it). So ask in xBestIndex: after such a change SQLite
** prepares all statements again.
*/
bool wm_conn_is_utf16(const wm_conn *conn);

/* ------------------------------------------------------------------------------------------------------------------ */
/* Tables, for functions (names.c)                                                                                    */

/*
** The walmap table called `name` ("kv", "temp.kv", "walmap"; quoting as in SQL is understood, case does not matter), or
** with NULL the connection's only one. `size` is the name's length in bytes, 0 for NULL. An unqualified name means what
** it means in SQL: temp before main before attached ones. A table that the connection has not used yet is connected.
** Returns an SQLite code; any but SQLITE_OK comes with *err, from sqlite3_malloc (NULL when memory is out). *out lives
** until the function that asked returns.
*/
int wm_conn_table(wm_conn *conn, const char *name, size_t size, wm_table **out, char **err);

/*
** What the table's schema and name mean now: *table itself, or another walmap table, which takes its place. Otherwise
** an SQLite code with *err, as wm_conn_table.
*/
int wm_conn_present(wm_table **table, char **err);

/* ------------------------------------------------------------------------------------------------------------------ */
/* Reading from a function (lookup.c)                                                                                 */

/*
** The value of an encoded key as the statement that calls the function sees it. In a transaction that has begun on the
** map, it is what the transaction sees, and the key's shard is the transaction's own until it ends (T4). Otherwise all
** calls of the statement read one committed state (T2), until the connection itself writes. Returns what walmap_txn_get
** and walmap_state_get return, or WALMAP_NOMEM. On WALMAP_OK *pin keeps entry's pointers alive at least until the
** function returns; to hand over a value without a copy, use wm_state_destructor(*pin).
*/
int wm_use_get(sqlite3_context *context, wm_use *use, const void *key, size_t key_len, walmap_entry *entry,
               wm_state **pin);

/*
** The number of entries, in the state that wm_use_get would read. In a transaction that has begun on the map it takes
** all shards, as a scan does (T4). A WALMAP code.
*/
int wm_use_len(sqlite3_context *context, wm_use *use, uint64_t *len);

/*
** A state for a function that reads the whole map: what the transaction that has begun on it sees, otherwise the
** committed state in which wm_use_get would look. Release it with wm_state_release. A WALMAP code. `context` may be
** NULL, for a caller that keeps the state itself until the statement ends.
*/
int wm_use_state(sqlite3_context *context, wm_use *use, wm_state **out);

/* The same, but always a committed state. */
int wm_use_committed_state(sqlite3_context *context, wm_use *use, wm_state **out);

/* ------------------------------------------------------------------------------------------------------------------ */
/* Transactions (transaction.c)                                                                                       */

/*
** SQLite's calls come in through vtab.c. A function that writes does so in wm_call_write (call.h). While
** wm_use_is_begun, one key is written there by row.h; what writes many at once through use->txn (a restore, changes)
** calls wm_registry_note_key for each key before, and wm_use_changed after.
*/

static inline bool wm_use_is_begun(const wm_use *use) { return walmap_txn_is_begun(use->txn); }
static inline void wm_use_changed(wm_use *use) { use->writes++; }

/*
** The rest is for vtab.c, update.c and control.c. Each is idempotent: several tables of one map report the same event.
*/
void wm_use_begin(wm_use *use);
void wm_use_commit(wm_use *use);
void wm_use_rollback(wm_use *use);
int wm_use_savepoint(wm_use *use, int n, bool catching_up); /* a WALMAP code */
void wm_use_release_to(wm_use *use, int n);
void wm_use_rollback_to(wm_use *use, int n);

/*
** For work that changes no entry and is no part of SQLite's transactions: begins the core's, unless it has begun, and
** ends it again. For its session: then the wait for a shard can be interrupted, and one that would end in a deadlock,
** because the connection holds shards of other maps, is found (T5).
*/
bool wm_use_begin_aside(wm_use *use);
void wm_use_end_aside(wm_use *use, bool began);

/* ------------------------------------------------------------------------------------------------------------------ */
/* Uses and tables, for schema.c and ddl.c (conn.c)                                                                   */

/* The connection's use of the map, made if need be, with a reference. A WALMAP code. */
int wm_conn_use(wm_conn *conn, wm_map *map, wm_use **out);
void wm_use_retain(wm_use *use);
void wm_use_release(wm_use *use);

/* A new table, not listed, with a reference; `use` gets a reference. NULL when memory is out. */
wm_table *wm_table_new(wm_use *use, const char *schema, const char *name);
void wm_table_retain(wm_table *table);
void wm_table_release(wm_table *table);

wm_table *wm_conn_listed(wm_conn *conn, const char *schema, const char *name); /* NULL when there is none */
void wm_table_list(wm_table *table); /* adds it to conn->tables, which gets a reference */

/* The next three finalize statements that are kept for functions: the table's, or all of the connection. */
void wm_table_unlist(wm_table *table);              /* takes it out of conn->tables, which loses its reference */
void wm_table_rename(wm_table *table, char **name); /* swaps the table's name and *name */
void wm_conn_finalize(wm_conn *conn);

#endif
