/*
** conn.h - what the extension knows of one database connection
**
**   wm_conn         one per sqlite3*: the session that waits for shard locks, the walmap tables, the attachments
**   wm_table        one per walmap table of the connection, from CREATE or first use to DROP, across reconnects
**   wm_attachment   one per (connection, map): the transaction on the map, the read state. Tables of one map share it
**
** SQLite makes and drops sqlite3_vtab objects as it likes (schema changes, VACUUM, rollbacks), so no lasting data lives
** in them. All of this is used under the connection's mutex only.
**
** conn/ uses codec/ and walmap.h. Data that the folders above keep for a connection hangs in pointers of these structs;
** conn.c tells those folders of events by the functions of wm_conn_hooks.
*/
#ifndef WM_CONN_H
#define WM_CONN_H

#include "conn/journal.h"
#include "conn/read_state.h"
#include "conn/registry.h"

#include <sqlite3ext.h>

typedef struct wm_conn wm_conn;
typedef struct wm_attachment wm_attachment;
typedef struct wm_table wm_table;

/* The name of the module, and of each connection's default map. */
#define WM_MODULE "walmap"

/* A run of a statement that may write. */
typedef struct wm_writer {
  sqlite3_stmt *statement; /* NULL: none; to be compared only, for it may be gone */
  int runs;                /* so many times it was run */
  unsigned text;           /* a hash of its text, in case another one is where it was */
} wm_writer;

struct wm_attachment {
  wm_conn *conn;
  wm_map *map;
  walmap_txn *txn;     /* made with the attachment; begun by wm_attachment_begin */
  int levels;          /* savepoint levels that txn holds */
  unsigned generation; /* counts begins, commits and rollbacks: a read state from another generation is outdated */
  unsigned writes;     /* counts the transaction's changes, undone ones included */
  unsigned undone;     /* counts rollbacks, to savepoints too: they take changes out of the transaction's states */

  /* Owned by transaction.c: what tells one statement of a transaction from the next (wm_attachment_statement). */
  bool after_savepoint;
  int changes;
  wm_writer writer; /* statement NULL: the savepoint's release tells its end */
  int updates;      /* of `writer`, since the savepoint */

  /* Owned by read_state.c. */
  wm_read_state *current; /* the committed state that open statements share, or NULL */
  wm_read_state *own;     /* what the transaction saw when `writes` was `own_writes`, or NULL */
  unsigned own_writes;
  wm_read_state *pool;

  /* Of a durable table's map (durable.c). */
  wm_journal journal;         /* the transaction's changes */
  wm_version base;            /* the version that the transaction began with */
  uint32_t tag;               /* of what the transaction sets (walmap_txn_set_tag) */
  bool counted;               /* among the history's writers */
  bool synced;                /* its rows are written, perhaps not all that it has now */
  unsigned synced_writes;     /* `writes` then */
  unsigned evicted_writes;    /* `writes` when there was nothing to evict for: what came after may demand it */
  struct wm_replica *replica; /* a copy of its own, of a version that the map cannot show */
  char *failure;              /* what the last error was, for wm_error_text */

  struct wm_reader *readers; /* of statements that call functions on the map (read.c) */

  int references;      /* of tables and begun states */
  wm_attachment *next; /* in conn->attachments */
};

/* An open database: SQLite's object for its file, and a number that grows with each of its commits. */
typedef struct wm_database {
  sqlite3_file *file;
  unsigned version;
} wm_database;

struct wm_table {
  wm_conn *conn;
  wm_attachment *attachment;
  char *schema, *name;       /* the schema as wm_conn_schema_name has it */
  struct wm_log *log;        /* statements on the table's shadow table, and what is known of it (durable/log.c) */
  wm_database database;      /* in which a private table was last seen (database.c) */
  sqlite3_stmt *statement;   /* leads into xUpdate; kept while it does not run (call.c) */
  struct wm_call *call;      /* work that the next xUpdate of the table does instead of its own (call.c) */
  int calls;                 /* how many such calls are running, one inside the other: the table must stay */
  struct wm_upsert *upserts; /* prepared expressions, kept while they do not run (upsert.c) */
  int references;            /* of conn->tables, sqlite3_vtab objects and undo records */
  bool listed;               /* in conn->tables */
  unsigned seen;             /* the last of conn->refreshes that found it in its database (catalog.c) */
  wm_table *next;
  wm_table *same_bucket; /* the next in conn->buckets whose name has such a hash */
};

#define WM_TABLE_BUCKETS 64

struct wm_conn {
  sqlite3 *db;
  const struct wm_conn_hooks *hooks;
  walmap_session *session;
  wm_table *tables;
  wm_table *buckets[WM_TABLE_BUCKETS]; /* the same tables, by the hash of their names */
  int unnamed; /* so many of them have a map without a name of its own: a file's, or a private one */
  wm_attachment *attachments;
  int references;     /* of modules, functions and sqlite3_vtab objects */
  unsigned refreshes; /* counts the calls of wm_catalog_refresh */
  unsigned changes;   /* counts changes of `tables`, and disconnected objects of them: each outdates resolved names */

  struct wm_ddl *ddl;           /* schema changes of the running transaction (ddl.c) */
  struct wm_control *control;   /* the control table's part in the running transaction (control.c) */
  struct wm_cursor *cursors;    /* the pool of cursor.c */
  int pooled_cursors;           /* their number */
  struct wm_reader *readers;    /* the pool of read.c */
  struct wm_resolved *resolved; /* the last names looked up (resolve.c) */
  sqlite3_stmt *canary;         /* expires when these names may have got another meaning (resolve.c) */
  sqlite3_stmt *question;       /* asks SQLite whether to go on (wm_conn_is_interrupted) */
  bool registered;              /* the module "walmap" is registered (vtab.c) */
  wm_conn *next;                /* in the process-wide list */
};

/* ------------------------------------------------------------------------------------------------------------------ */
/* Connections. sqlite3_walmap_init passes the wm_conn as user data to every module and function, each with one
** reference, and wm_conn_release as their destructor.                                                                */

/* Functions of the folders above, called at events of a connection. */
typedef struct wm_conn_hooks {
  int (*set_up)(wm_conn *conn);        /* the connection is new: makes their parts. An SQLite code */
  void (*tear_down)(wm_conn *conn);    /* frees their parts, also after set_up has failed half way */
  int (*watch_close)(wm_conn *conn);   /* before a statement is kept: sees to wm_conn_finalize. An SQLite code */
  void (*forget_names)(wm_conn *conn); /* finalizes the statement that is kept beside resolved names */
  void (*forget_expressions)(wm_table *table);  /* finalizes the table's expressions, but for those in use */
  void (*end_reads)(wm_attachment *attachment); /* a transaction on the map has begun or ended */

  /* Of tables whose rows are kept in the file. */
  void (*forget_log)(wm_table *table);                            /* finalizes the statements on the shadow table */
  void (*detach)(wm_attachment *attachment);                      /* frees what the attachment has for it */
  int (*acquire)(wm_attachment *attachment, wm_read_state **out); /* as wm_read_state_acquire, the file's snapshot */
  void (*commit)(wm_attachment *attachment);                      /* ends the core's transaction */
  void (*rollback)(wm_attachment *attachment);                    /* ends the core's transaction */
} wm_conn_hooks;

/* Finds the connection, or makes it with these hooks, and takes a reference. An SQLite code. */
int wm_conn_find(sqlite3 *db, const wm_conn_hooks *hooks, wm_conn **out);
void wm_conn_retain(wm_conn *conn);
void wm_conn_release(void *conn);

/*
** Whether the connection's databases order text by UTF-16 bytes. It runs a statement. As long as the main database is
** empty, the answer may change (PRAGMA encoding, a backup into it). So ask in xBestIndex: after such a change SQLite
** prepares all statements again.
*/
bool wm_conn_is_utf16(const wm_conn *conn);

/* Whether what the connection (`conn`, a wm_conn) does now shall end: by sqlite3_interrupt or its progress handler. */
bool wm_conn_is_interrupted(void *conn);

/*
** How long the connection's writers wait for a shard, in ms, where the table has no option busy_timeout: PRAGMA
** busy_timeout, which the host sets by sqlite3_busy_timeout(); if that is 0 or cannot be asked, 5000. It runs a
** statement.
*/
uint32_t wm_conn_busy_timeout(void *conn);

/*
** The schema's name as a wm_table has it: its own, but always "main" for the main database, which may have been given
** another name (SQLITE_DBCONFIG_MAINDBNAME) and answers to both.
*/
const char *wm_conn_schema_name(const wm_conn *conn, const char *schema);

/* ------------------------------------------------------------------------------------------------------------------ */
/* Attachments and tables, for schema/                                                                                */

/* The connection's attachment to the map, made if need be, with a reference. A WALMAP code. */
int wm_conn_attach(wm_conn *conn, wm_map *map, wm_attachment **out);
void wm_attachment_retain(wm_attachment *attachment);
void wm_attachment_release(wm_attachment *attachment);

/* A new table, not listed, with a reference. It takes a reference to the attachment. NULL when memory is out. */
wm_table *wm_table_new(wm_attachment *attachment, const char *schema, const char *name);
void wm_table_retain(wm_table *table);
void wm_table_release(wm_table *table);

wm_table *wm_conn_listed(wm_conn *conn, const char *schema, const char *name); /* NULL when there is none */
void wm_table_list(wm_table *table); /* adds it to conn->tables, which gets a reference */

/* The next three finalize statements that are kept for functions: of the table, or of the whole connection. */
void wm_table_unlist(wm_table *table);              /* takes it out of conn->tables, which loses its reference */
void wm_table_rename(wm_table *table, char **name); /* swaps the table's name and *name */
void wm_conn_finalize(wm_conn *conn);

#endif
