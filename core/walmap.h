/*
** walmap.h - the public interface of the walmap core library
**
** A walmap is an in-memory key/value map shared by the threads of a process. Keys and values are byte strings of any
** length, the empty one included. The map is split into shards; each shard is an append-only log with a hash index
** over it (Bitcask's design, in memory). Readers take no lock; writers of different shards run side by side.
**
** Sections: maps with their options, bounds and stats; expiry; single operations; states, for reading; transactions;
** compaction; images; changes; damage.
**
** Conventions, valid for every function here unless its comment says otherwise:
**
**  1. Result. Functions that can fail return one of the WALMAP_* codes below; WALMAP_OK is 0. Output parameters are
**     written only on WALMAP_OK (a NULL output parameter is allowed where the comment says "may be NULL").
**  2. Failure changes nothing. After any result but WALMAP_OK the content of the map, and of the transaction if there
**     is one, is as it was before the call. This includes WALMAP_NOMEM. One thing may remain: shards that the call has
**     locked before it failed stay locked until the transaction ends.
**  3. Units. Lengths and sizes are bytes, times are milliseconds.
**  4. Ownership. The map copies what it is given: keys and values passed in may be freed on return. Pointers handed out
**     point into the map's log, are read-only, have no alignment, and live as long as the comment says.
**  5. Threads. A walmap may be used by any number of threads at once. Any other object (a state, transaction, session,
**     cursor, stream, reader, builder) is used by one thread at a time; it may move between threads. No thread needs to
**     register itself.
**  6. NULL. A key or value pointer may be NULL when its length is 0. Other pointers must not be NULL.
**  7. Callbacks run in the calling thread. They must not call back into the same map unless their comment allows it.
**
** The promises C1 to C7. Comments and tests cite them by these names; core/DESIGN.md says what keeps them:
**
**  C1 A reader (walmap_get, walmap_state_*, walmap_cursor_*) never waits for a writer and never fails with WALMAP_BUSY.
**  C2 A walmap_state shows one committed state of the whole map, from walmap_state_begin to walmap_state_end.
**  C3 A transaction is all or nothing, and so is each of its savepoints.
**  C4 What a transaction has read or written stays as it saw it until it ends: it holds the locks of these shards.
**  C5 Writers of different shards run side by side; writers of one shard queue, at most busy_timeout long. A deadlock
**     of transactions is found at once, and its youngest party gets WALMAP_DEADLOCK: the session whose first wait since
**     its last commit began latest.
**  C6 An image is one committed state, taken while writers go on.
**  C7 walmap_txn_commit and walmap_txn_rollback cannot fail. (Where memory is out, a commit may leave a map above its
**     bound until the next one: see "Bounds".)
*/
#ifndef WALMAP_H
#define WALMAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define WALMAP_VERSION "0.1.0"
#define WALMAP_FORMAT_VERSION 1 /* of images: core/FORMAT.md */

enum walmap_result {
  WALMAP_OK = 0,
  WALMAP_NOTFOUND,  /* the key is absent */
  WALMAP_NOMEM,     /* an allocation failed */
  WALMAP_BUSY,      /* another transaction kept the shard for longer than busy_timeout */
  WALMAP_DEADLOCK,  /* two or more transactions wait for one another. Roll back and try again */
  WALMAP_INTERRUPT, /* an interrupt callback returned true, while the call waited or did long work */
  WALMAP_TOOBIG,    /* the key, the value, or the shard's log would exceed a limit (see "Limits" below) */
  WALMAP_CORRUPT,   /* an image is damaged, or its check callback refused an entry; or a map is damaged */
  WALMAP_IO,        /* a read or write callback failed */
  WALMAP_INVALID,   /* an option's value is not allowed */
  WALMAP_GONE,      /* what was committed since a position is no longer known, or the position is another map's */
  WALMAP_EXISTS,    /* the key is there already */
  WALMAP_FULL,      /* the map's bound leaves no room (max_entries, max_bytes) */
};

/* One English phrase for a result code; static storage, never NULL. */
const char *walmap_result_text(int result);

/* "0.1.0": the version of the library that runs, as opposed to the header's. */
const char *walmap_version(void);

/*
** Limits. A key and a value are each at most WALMAP_MAX_LENGTH bytes. One shard's log has at most 16,319 segments of up
** to 1 MiB each; a record longer than 128 KiB may take a segment of its own. So a shard holds 16 GiB of shorter
** records, or 16,319 longer ones at least; a map holds as many times that as it has shards.
*/
#define WALMAP_MAX_LENGTH ((size_t)1 << 33)
#define WALMAP_MAX_SHARDS 256

typedef struct walmap walmap;                 /* a map */
typedef struct walmap_state walmap_state;     /* one committed state of a map, for reading */
typedef struct walmap_txn walmap_txn;         /* a write transaction on one map */
typedef struct walmap_session walmap_session; /* a party to transactions: a thread, or a database connection */

typedef struct walmap_entry {
  const void *key;
  size_t key_len;
  const void *value;
  size_t value_len;
  uint64_t expires; /* Unix time in ms from which on the entry is absent; 0 is never */
} walmap_entry;

/* ------------------------------------------------------------------------------------------------------------------ */
/* Maps                                                                                                               */

/*
** The source of all memory of a map. `alloc` returns `size` bytes aligned to `align` (a power of two), or NULL; `free`
** gets the size and alignment that `alloc` got. Both are called from any thread, also from several at once. The default
** uses malloc for small blocks, and mmap with a request for huge pages for blocks that are aligned to 2 MiB.
*/
typedef struct walmap_allocator {
  void *(*alloc)(void *ctx, size_t size, size_t align);
  void (*free)(void *ctx, void *block, size_t size, size_t align);
  void *ctx;
} walmap_allocator;

/*
** A hash of the key's bytes. Equal keys must have equal hashes; all 64 bits are used. Called from any thread. The
** default is XXH3 of 64 bits. A hash that gives many keys the same value is correct, but slow.
*/
typedef uint64_t (*walmap_hash_fn)(const void *key, size_t key_len, uint64_t seed);

/* The default: XXH3-64 with a seed. */
uint64_t walmap_xxh3(const void *key, size_t key_len, uint64_t seed);

/* Unix time in milliseconds. Called from any thread. The map never goes back to an earlier time than it has had. */
typedef uint64_t (*walmap_clock_fn)(void *ctx);

/* The default: the system's clock. `ctx` is not used. */
uint64_t walmap_system_clock(void *ctx);

/*
** The bytes by which an ordered map orders a key: keys are compared by them as memcmp does, and bytes that go on come
** after those that end. Stores a pointer to them and returns how many: all or part of the key itself, or what was
** written to `buffer`, WALMAP_SORT_BUFFER bytes at most. Different keys must have different bytes. Called from any
** thread.
*/
#define WALMAP_SORT_BUFFER 16
typedef size_t (*walmap_sort_key_fn)(const void *key, size_t key_len, const void **bytes,
                                     uint8_t buffer[WALMAP_SORT_BUFFER]);

typedef struct walmap_options {
  uint32_t shards;        /* a power of two, 1 to WALMAP_MAX_SHARDS; 0 is the default, WALMAP_DEFAULT_SHARDS */
  uint64_t capacity;      /* expected entries, a hint to size segments and the index; 0 is none. See below */
  uint32_t first_segment; /* bytes of a shard's smallest log segments, 256 to 1 MiB; 0 is 1024. See below */
  uint32_t auto_compact;  /* percent of dead bytes in a shard's log that starts compaction, 1 to 99; 0 is off */
  uint32_t busy_timeout;  /* ms that a writer waits for a shard; with 0 it does not wait. See below */
  walmap_hash_fn hash;    /* NULL is walmap_xxh3 */
  bool seed_given;        /* false: the seed is random, drawn from the system; true: it is `seed` */
  uint64_t seed;          /* mixed into every hash */
  uint32_t content;       /* what the keys and values are, in the caller's numbering; written into images */
  uint64_t ttl;           /* ms after which what is written expires, where the writer does not say; 0 is never */
  walmap_clock_fn clock;  /* NULL is the system's clock */
  void *clock_ctx;
  walmap_allocator allocator;  /* alloc NULL is the default */
  bool ordered;                /* the map keeps its keys in order too: walmap_ordered_seek. See below */
  bool error_when_full;        /* a write beyond a bound is refused with FULL. false: the commit evicts */
  walmap_sort_key_fn sort_key; /* of an ordered map; NULL is the keys' own bytes */
  uint64_t max_entries;        /* the most entries of a committed map; 0 is no bound. See "Bounds" */
  uint64_t max_bytes;          /* the most memory of a committed map, as walmap_memory; 0 is no bound */
} walmap_options;

/*
** Some of them in full:
**   capacity       Memory for the expected entries is taken when a shard is first written. More than 2^24 entries count
**                  as 2^24, for which the index of all shards takes 128 MiB. Where memory is short, the hint is
**                  ignored.
**   first_segment  The size of a shard's first log segment; or 32 bytes for each expected entry, if that is more, but
**                  1016 KiB at most. From 8 KiB on a segment may be up to half smaller, so that it leaves no unused
**                  rest in the memory that it is taken from. Later segments are an eighth of the log, if that is more.
**   busy_timeout   The longest wait for one shard. With WALMAP_TIMEOUT_OF_SESSION each session says for itself
**                  (walmap_session_set_timeout), and what has no session waits WALMAP_DEFAULT_BUSY_TIMEOUT. When a
**                  session has met a deadlock, its next transactions wait once more before they own anything, to take
**                  turns with other sessions of the process that met one: until no turn has been taken for 10 ms (or
**                  for this, if it is less), and 100 ms at most.
**   ordered        Costs 11 to 15 bytes an entry, and each write that adds or removes a key, or replaces its value, a
**                  search in a B+tree. Reads by key cost the same.
*/
#define WALMAP_TIMEOUT_OF_SESSION UINT32_MAX
#define WALMAP_DEFAULT_SHARDS 16
#define WALMAP_DEFAULT_AUTO_COMPACT 50
#define WALMAP_DEFAULT_BUSY_TIMEOUT 5000

/* Fills in the defaults. Call it before you set fields: later versions may add some. */
void walmap_options_init(walmap_options *options);

/*
** Makes an empty map of a few KiB. `options` may be NULL for the defaults.
** Errors: NOMEM; INVALID when an option is out of its range.
*/
int walmap_open(const walmap_options *options, walmap **out);

/*
** Frees the map and all its memory. No other call on the map may be running or follow; free its states and transactions
** first. NULL is allowed.
*/
void walmap_close(walmap *map);

/* The map's options, with the defaults and the seed filled in. They never change, and live as long as the map. */
const walmap_options *walmap_get_options(const walmap *map);

/* The map's time: Unix time in ms, as its clock tells it and never earlier than before. */
uint64_t walmap_clock(walmap *map);

/*
** Bounds. Where max_entries or max_bytes is set, a committed map is within them: the commit evicts entries, or, with
** error_when_full, writes beyond a bound are refused with FULL. A transaction may go beyond until it ends, and what it
** wrote is not evicted before that; a rollback evicts nothing. Evicted entries are removed as by walmap_remove: states
** keep what they saw, and changes tell of it. Which entries go is core/mvcc/evict.h's matter: mostly those that were
** not read, by walmap_get, _view, _state_get, _state_get_many or _txn_get, since the hand of eviction passed them last.
**   max_entries      Is never exceeded while there is memory. Entries that have expired and were not noticed yet count.
**   max_bytes        Counts what walmap_memory counts, at least WALMAP_LEAST_SHARE for each shard. Each shard has an
**                    equal share. It is exceeded by a 32nd, and for each shard by a record and 8 KiB, at most; but
**                    while an old state is open, what it keeps comes on top. A record longer than about a third of a
**                    shard's share is refused with FULL, and evicts nothing: with fewer shards longer ones fit. With an
**                    allocator of your own memory is counted in regions of 2 MiB, which come on top too. auto_compact
**                    must not be 0. Tables that do not shrink may come on top after a transaction that has written many
**                    times the bound: some 50 bytes for each thousand entries that it wrote.
**   error_when_full  Also what open transactions have added counts. The call that gives FULL changes nothing, and its
**                    transaction may go on. Entries that have expired make room before a write is refused, except in
**                    shards that an open transaction has changed. A present key may always get a value that is no
**                    longer, unless it gets an expiry or a tag for the first time, and the map its own image.
** A restored image may be larger than the bounds: the commit evicts what is too much, oldest entries first; with
** error_when_full the restore is refused with FULL. Where memory is short, single operations fail with NOMEM and evict
** nothing, and a commit leaves the map beyond its bound until the next one; see walmap_txn_evict.
*/
#define WALMAP_LEAST_SHARE ((uint64_t)64 << 10)

/*
** Stats of the newest committed state, in O(shards); a begun walmap_state may be an older one.
**   len          entries that have not expired. Where entries expire it takes longer: it walks over a shard that a
**                transaction is just changing, and else over the times of expiry since the shard's last write
**   size         bytes of log records, dead ones included
**   reclaimable  how many of these bytes compaction frees while no older state is being read: exact, not an estimate.
**                An entry that has expired counts from the next write to its shard on
**   memory       bytes obtained from the allocator and not given back: log, index and all the rest
** They take no shard lock, and cannot fail.
*/
uint64_t walmap_len(walmap *map);
uint64_t walmap_size(walmap *map);
uint64_t walmap_reclaimable(walmap *map);
uint64_t walmap_memory(walmap *map);

/*
** What a map has counted since walmap_open, and what its readers hold.
**   hits, misses    lookups of keys that found an entry, and that found none or one that had expired: by walmap_get,
**                   walmap_view, walmap_state_get, walmap_state_get_many and walmap_txn_get. A transaction's count when
**                   it ends. What a write looks up does not count, nor what a cursor walks over
**   evictions       entries that commits have evicted
**   expirations     entries that have expired, noticed or not
**   commits         transactions that were committed and had written something, and single operations that did
**   rollbacks       transactions that were rolled back and had written something
**   busy, deadlocks calls that ended in WALMAP_BUSY or WALMAP_DEADLOCK
**   compacted       bytes of log that compaction has freed
**   oldest_reader   ms since the oldest of the begun states was begun, to some ms; 0 when none is
**   pinned          bytes of memory that are kept only because begun states may still read them: records that were
**                   superseded, removed or expired, and replaced parts of log and index. What has died in a shard since
**                   its last maintenance (16 KiB or one record at most) is not counted yet, and replaced parts of an
**                   ordered map's tree are never
*/
typedef struct walmap_stats {
  uint64_t hits, misses;
  uint64_t evictions, expirations;
  uint64_t commits, rollbacks;
  uint64_t busy, deadlocks;
  uint64_t compacted;
  uint64_t oldest_reader;
  uint64_t pinned;
} walmap_stats;

/*
** Fills in all fields, in O(shards and states); where entries expire, it takes as long as walmap_len. Takes no shard
** lock, and cannot fail. It counts all that happened before the call (in another thread: before something that orders
** the two, as pthread_join does), and perhaps some of what happens meanwhile.
*/
void walmap_get_stats(walmap *map, walmap_stats *stats);

/* ------------------------------------------------------------------------------------------------------------------ */
/*
** Expiry
**
** An entry may have a time from which on it is absent for everything: reads, scans, counts, images, changes, and for
** writes that ask whether it is present. Each state has one time, read when it is begun, and so has each transaction
** (walmap_txn_statement). The functions that end in _expiring are told when the entry expires; the others follow
** options.ttl where they write an entry anew, and keep the present entry's expiry where they change its value. Space of
** expired entries comes back by compaction, as that of removed ones does.
**
** An `expires` is a Unix time in ms, or one of these. A time that has passed makes an entry that is absent at once.
*/
#define WALMAP_NEVER UINT64_C(0)
#define WALMAP_MAX_TIME (UINT64_MAX / 4) /* later times count as this one */
#define WALMAP_BY_TTL UINT64_MAX         /* options.ttl from now on */
#define WALMAP_KEEP (UINT64_MAX - 1)     /* as the present entry; WALMAP_BY_TTL where there is none */

/* ------------------------------------------------------------------------------------------------------------------ */
/* Single operations: each is a transaction of its own, on one shard                                                  */

/*
** The functions that write may wait for a transaction that holds the lock of the key's shard, up to the map's
** busy_timeout. Errors: NOMEM, BUSY, TOOBIG, and FULL (see "Bounds"). A thread that has a transaction open on the map
** must write through that transaction: here it would wait for itself, and get BUSY.
*/

/* Sets the value of a key that is present or absent. */
int walmap_set(walmap *map, const void *key, size_t key_len, const void *value, size_t value_len);
int walmap_set_expiring(walmap *map, const void *key, size_t key_len, const void *value, size_t value_len,
                        uint64_t expires);

/* Removes a key. NOTFOUND when it is absent. */
int walmap_remove(walmap *map, const void *key, size_t key_len);

/* *done (may be NULL) tells whether the key was absent and is now set. */
int walmap_set_if_absent(walmap *map, const void *key, size_t key_len, const void *value, size_t value_len, bool *done);
int walmap_set_if_absent_expiring(walmap *map, const void *key, size_t key_len, const void *value, size_t value_len,
                                  uint64_t expires, bool *done);

/* Gives a present key another expiry, without a change of its value. NOTFOUND when the key is absent. */
int walmap_touch(walmap *map, const void *key, size_t key_len, uint64_t expires);

/*
** A callback that gets a present value; the value lives until the callback returns. For walmap_set_if and
** walmap_remove_if its result says whether to go on. The call holds the shard lock meanwhile, so the value is the
** latest and cannot change. A callback of these functions, or of walmap_upsert, that writes to another map may wait
** there while its call holds the lock here. A deadlock with such a wait in it is not found; it ends when a busy_timeout
** is over.
*/
typedef bool (*walmap_test_fn)(void *ctx, const void *value, size_t value_len);

/*
** Replaces the value of a present key for which `test` is true; the expiry stays. *done may be NULL. NOTFOUND when the
** key is absent.
*/
int walmap_set_if(walmap *map, const void *key, size_t key_len, const void *value, size_t value_len,
                  walmap_test_fn test, void *ctx, bool *done);

/* Removes a present key for whose value `test` is true. *done may be NULL. NOTFOUND when the key is absent. */
int walmap_remove_if(walmap *map, const void *key, size_t key_len, walmap_test_fn test, void *ctx, bool *done);

/*
** Computes the new value for a key. `old` is NULL when the key is absent, and else lives until the callback returns.
** The callback stores the new value's length and a pointer to it, which must stay valid until walmap_upsert returns.
** Any result but WALMAP_OK ends the upsert with that result and changes nothing.
*/
typedef int (*walmap_upsert_fn)(void *ctx, const void *old, size_t old_len, const void **value, size_t *value_len);
int walmap_upsert(walmap *map, const void *key, size_t key_len, walmap_upsert_fn upsert, void *ctx);

/* `expires` is for a key that is absent, or WALMAP_BY_TTL; a present one keeps what it has. */
int walmap_upsert_expiring(walmap *map, const void *key, size_t key_len, walmap_upsert_fn upsert, void *ctx,
                           uint64_t expires);

/*
** Copies the committed value: at most `buffer_size` bytes of it. *value_len is the whole length, so a call with
** buffer_size 0 asks for the length. NOTFOUND when absent. Never waits. NOMEM only when more readers are active than
** ever before, and there is no memory for one more slot.
*/
int walmap_get(walmap *map, const void *key, size_t key_len, void *buffer, size_t buffer_size, size_t *value_len);

/*
** Shows the committed value to `view`, without a copy; the callback's result is ignored. NOTFOUND when absent. Never
** waits.
*/
int walmap_view(walmap *map, const void *key, size_t key_len, walmap_test_fn view, void *ctx);

/* ------------------------------------------------------------------------------------------------------------------ */
/* States: reading one committed state of the whole map (C2)                                                          */

/*
** A state object is made once and used for many reads: begin, read, end, begin, ... While it is begun, memory that it
** can see is not freed, and compaction keeps the records that it needs: so end it soon. `new` may fail with NOMEM.
** `free` first ends the state if it is begun; NULL is allowed.
*/
int walmap_state_new(walmap *map, walmap_state **out);
void walmap_state_free(walmap_state *state);

/*
** `interrupt` (NULL, as at first: none) is asked about every MiB of work while an image or changes are made of the
** state, in the thread that makes them; if it returns true, the call ends with WALMAP_INTERRUPT. It is also asked while
** a cursor passes over about as many records of which none is an entry of the state; then the cursor ends, and
** walmap_cursor_is_interrupted tells. Set it between calls.
*/
void walmap_state_set_interrupt(walmap_state *state, bool (*interrupt)(void *ctx), void *ctx);

/* Begins to show the newest committed state. Never waits; NOMEM as walmap_get. The state must not be begun already. */
int walmap_state_begin(walmap_state *state);

/* Ends a begun state. All pointers that were read from it become invalid. */
void walmap_state_end(walmap_state *state);

/*
** Return to a committed state that was the newest earlier. So it costs little to keep thousands of states: one begun
** state, the outer one, and the numbers of each. None of the three can fail.
**   commit_points   copies the numbers that identify a begun state, as many as options.shards
**   begin_at        begins `state` as the state of these numbers, with the present as its time. The outer state must
**                   have been begun, by walmap_state_begin, before or when the numbers were those of the newest state,
**                   and must end after `state` does
**   set_outer       says of a state that is not begun that it will serve as an outer one only:
**                   walmap_stats.oldest_reader then leaves it out
*/
void walmap_state_commit_points(const walmap_state *state, uint64_t *commit_points);
void walmap_state_begin_at(walmap_state *state, const uint64_t *commit_points);
void walmap_state_set_outer(walmap_state *state);

/* Looks a key up. NOTFOUND when it is absent. entry->key and entry->value live until walmap_state_end. */
int walmap_state_get(walmap_state *state, const void *key, size_t key_len, walmap_entry *entry);

/* The same, but walmap_get_stats does not count it. */
int walmap_state_peek(walmap_state *state, const void *key, size_t key_len, walmap_entry *entry);

/*
** Looks up `n` keys at once, overlapping their cache misses: several times faster than n calls. entries[i].key and
** entries[i].key_len hold the key to look up on entry; on return entries[i] is the present entry, or has key NULL and
** key_len 0 where it is absent. Returns how many were found.
*/
size_t walmap_state_get_many(walmap_state *state, walmap_entry *entries, size_t n);

/*
** The number of entries of the state; for a transaction's state, the number when it began, whatever was undone since.
** In O(shards), except that a shard with several commits since the state began is walked over, once for each begun
** state.
*/
uint64_t walmap_state_len(walmap_state *state);

/*
** Calls `each` for every present entry whose key has this hash, until `each` returns false. For callers whose hash
** function gives one hash to keys that look alike. walmap_hash gives the hash of a key in this map.
*/
typedef bool (*walmap_each_fn)(void *ctx, const walmap_entry *entry);
void walmap_state_each_hash(walmap_state *state, uint64_t hash, walmap_each_fn each, void *ctx);
uint64_t walmap_hash(const walmap *map, const void *key, size_t key_len);

/*
** A walk over all entries of a state, each once, in no particular order. The cursor holds no memory and need not be
** freed. Its fields are private. Start it on a begun state. walmap_cursor_next returns false at the end, or when the
** state's callback has interrupted it: then walmap_cursor_is_interrupted is true, and later calls return false too. The
** entry's pointers live until walmap_state_end.
*/
typedef struct walmap_cursor {
  walmap_state *state;
  const void *segment;
  const uint8_t *at, *end;
  uint32_t shard;
  bool interrupted;
} walmap_cursor;
void walmap_cursor_start(walmap_cursor *cursor, walmap_state *state);
bool walmap_cursor_next(walmap_cursor *cursor, walmap_entry *entry);
bool walmap_cursor_is_interrupted(const walmap_cursor *cursor);

/*
** A walk over the entries of a state of an ordered map in the order of their keys, in both directions. As a
** walmap_cursor, it holds no memory and its fields are private. Reads take no lock. To read in a transaction, begin the
** state by walmap_txn_state_begin.
**
** walmap_ordered_start puts it on a begun state, at no entry. walmap_ordered_seek goes to the entry that is sought; key
** is NULL and key_len 0 for the first and the last. _next and _previous go on from the entry where the cursor is. Each
** is false when there is no such entry; then the cursor is behind the last one, or before the first, and the opposite
** direction leads back. On a state of a map without options.ordered all are false. They are false, too, when the
** state's callback has interrupted them: then walmap_ordered_is_interrupted is true until the next seek, and the cursor
** is at no entry. The entry's pointers live until walmap_state_end.
*/
typedef enum walmap_seek {
  WALMAP_FIRST,
  WALMAP_LAST,
  WALMAP_AT_OR_AFTER,
  WALMAP_AFTER,
  WALMAP_AT_OR_BEFORE,
  WALMAP_BEFORE
} walmap_seek;

typedef struct walmap_ordered_cursor {
  walmap_state *state;
  void *order;
  const void *leaf, *low, *high;
  uint32_t n, steps;
  int32_t at;
  bool interrupted;
  uint64_t words[64];
} walmap_ordered_cursor;
void walmap_ordered_start(walmap_ordered_cursor *cursor, walmap_state *state);
bool walmap_ordered_seek(walmap_ordered_cursor *cursor, walmap_seek seek, const void *key, size_t key_len,
                         walmap_entry *entry);
bool walmap_ordered_next(walmap_ordered_cursor *cursor, walmap_entry *entry);
bool walmap_ordered_previous(walmap_ordered_cursor *cursor, walmap_entry *entry);
bool walmap_ordered_is_interrupted(const walmap_ordered_cursor *cursor);

/* ------------------------------------------------------------------------------------------------------------------ */
/* Transactions                                                                                                       */

/*
** A session is a party that waits for shard locks and that other sessions wait for. All transactions that one thread
** (or one database connection) has open at the same time, on any maps, must belong to one session: then deadlocks are
** found across maps. `interrupt` (may be NULL) is polled every few ms while a transaction of the session waits, and
** about every MiB of work in walmap_txn_restore, walmap_txn_restore_read, walmap_txn_apply, walmap_txn_evict and
** walmap_compact; if it returns true, the call ends with WALMAP_INTERRUPT. It must not use transactions of the session,
** but may use other maps. The session must outlive its transactions. Errors of new: NOMEM. NULL is allowed for free.
*/
int walmap_session_new(bool (*interrupt)(void *ctx), void *ctx, walmap_session **out);
void walmap_session_free(walmap_session *session);

/*
** For maps whose busy_timeout is WALMAP_TIMEOUT_OF_SESSION: `timeout` is called with the session's ctx when a
** transaction of the session must wait, in the thread that waits, and says for how many ms. NULL, as at first, is
** WALMAP_DEFAULT_BUSY_TIMEOUT. Set it before the session has transactions.
*/
void walmap_session_set_timeout(walmap_session *session, uint32_t (*timeout)(void *ctx));

/*
** For error texts: what other sessions are told of this one when they get BUSY or DEADLOCK because of it. The label is
** copied, up to WALMAP_LABEL_BYTES - 1 bytes of it. Set it before the session has transactions.
*/
#define WALMAP_LABEL_BYTES 128
void walmap_session_set_label(walmap_session *session, const char *label);

/*
** The label of the session that had the shard when a call of a transaction of this session last gave BUSY or DEADLOCK.
** "" when that session has no label, or had just released it, or when a call without a session had it. The text is
** valid until the session's next call.
*/
const char *walmap_session_blocker(const walmap_session *session);

/*
** A transaction object is made once and used for many transactions, one after another. Errors of new: NOMEM. `free`
** first rolls back if a transaction is begun; NULL is allowed.
*/
int walmap_txn_new(walmap *map, walmap_session *session, walmap_txn **out);
void walmap_txn_free(walmap_txn *txn);

/* Begins. Locks nothing yet, cannot fail. The transaction must not be begun already. */
void walmap_txn_begin(walmap_txn *txn);

/* Whether it is begun, and neither committed nor rolled back yet. */
bool walmap_txn_is_begun(const walmap_txn *txn);

/* Makes all changes visible to other readers in one step, and ends the transaction. Cannot fail (C7). */
void walmap_txn_commit(walmap_txn *txn);

/*
** Evicts what the commit would evict (see "Bounds"), so that the commit itself has nothing left to do for which memory
** may be short, or which takes long. What is evicted is removed in the transaction, and comes back if that is rolled
** back, or rolled back to a savepoint from before the call. Locks shards that are free at most, and does not wait.
**   told   may be NULL; called with each entry right before it is evicted. The entry's pointers live until it returns.
**          A result other than WALMAP_OK ends the call with that result; NOTFOUND is not allowed
** Errors: NOMEM, INTERRUPT, and those of `told`. Then nothing is evicted, though `told` was called.
*/
typedef int (*walmap_evict_fn)(void *ctx, const walmap_entry *entry);
int walmap_txn_evict(walmap_txn *txn, walmap_evict_fn told, void *ctx);

/*
** From here to the transaction's end bounds neither refuse its writes nor make its commit evict: for a transaction that
** repeats what another map has done, evictions included, or that is to commit nothing but what walmap_txn_evict has
** told. If the map is beyond its bounds then, the next transaction or set without this call that changes something
** evicts what is too much: of max_entries wherever it is, of max_bytes in the shards that it changes.
*/
void walmap_txn_ignore_bounds(walmap_txn *txn);

/* Undoes all changes, and ends the transaction. Cannot fail (C7). */
void walmap_txn_rollback(walmap_txn *txn);

/*
** Savepoints, numbered from 0 to INT_MAX as SQLite numbers them for virtual tables. None of the three calls can fail,
** and shards stay locked.
**   savepoint(n)    drops the levels n and above, then marks the present state as level n, and as every level below n
**                   that is missing
**   release(n)      drops the levels n and above, and keeps the changes
**   rollback_to(n)  restores the state at level n, drops the levels above n, and keeps level n. If there is no level n,
**                   nothing is undone; n = -1 means the state at begin
*/
void walmap_txn_savepoint(walmap_txn *txn, int n);
void walmap_txn_release(walmap_txn *txn, int n);
void walmap_txn_rollback_to(walmap_txn *txn, int n);

/*
** Reads and writes see the transaction's own changes. The first touch of a key's shard, to read or to write, locks the
** shard until the transaction ends, waiting up to busy_timeout. Errors of all of them: BUSY, DEADLOCK, INTERRUPT, after
** which the transaction is still begun; of the functions that write, also NOMEM, TOOBIG, and FULL (see "Bounds").
**
** Lifetime of the pointers in `entry`: until the transaction ends; and if a state of the same map was begun before the
** call, until that state ends.
*/
int walmap_txn_get(walmap_txn *txn, const void *key, size_t key_len, walmap_entry *entry);  /* NOTFOUND */
int walmap_txn_peek(walmap_txn *txn, const void *key, size_t key_len, walmap_entry *entry); /* not counted in stats */

/* As walmap_state_each_hash. */
int walmap_txn_each_hash(walmap_txn *txn, uint64_t hash, walmap_each_fn each, void *ctx);

/* As walmap_set and walmap_remove. */
int walmap_txn_set(walmap_txn *txn, const void *key, size_t key_len, const void *value, size_t value_len);
int walmap_txn_remove(walmap_txn *txn, const void *key, size_t key_len);

/*
** As walmap_txn_set, but the value's `value_len` bytes are left for the caller to fill in, at *value, before its next
** call on this transaction. That saves a copy. In a large map several sets are collected and then made together, so
** that their cache misses overlap: it is fastest to set many keys without reading others in between.
*/
int walmap_txn_reserve(walmap_txn *txn, const void *key, size_t key_len, size_t value_len, void **value);

/*
** The same for a key that is present, whose expiry stays, or one that is absent; otherwise NOTFOUND or EXISTS, and
** nothing is changed.
*/
int walmap_txn_reserve_if(walmap_txn *txn, bool present, const void *key, size_t key_len, size_t value_len,
                          void **value);

/* Both, with the expiry told. */
typedef enum walmap_when { WALMAP_ALWAYS, WALMAP_IF_PRESENT, WALMAP_IF_ABSENT } walmap_when;
int walmap_txn_reserve_expiring(walmap_txn *txn, walmap_when when, const void *key, size_t key_len, size_t value_len,
                                uint64_t expires, void **value);

/* As walmap_touch. */
int walmap_txn_touch(walmap_txn *txn, const void *key, size_t key_len, uint64_t expires);

/*
** Removes all entries: locks all shards, and takes O(shards), not O(entries). *removed (may be NULL) is how many
** entries there were. When the transaction is committed and no reader is left, the entries' memory is given back. For
** walmap_state_changes it is as a restore: a position from before is GONE. Errors: NOMEM, BUSY, DEADLOCK, INTERRUPT.
*/
int walmap_txn_clear(walmap_txn *txn, uint64_t *removed);

/*
** Lets time go on. A transaction sees entries expire as of one time (see "Expiry"), which its first call reads from the
** clock; after walmap_txn_statement the next call reads it anew. Cannot fail.
*/
void walmap_txn_statement(walmap_txn *txn);

/* The transaction's time, in ms. */
uint64_t walmap_txn_clock(walmap_txn *txn);

/*
** A tag is a number of the caller's that an entry carries, for 4 bytes: which write, or which place elsewhere, it came
** from. All entries that the transaction sets, restores or applies from here on get it, until the next call or the
** transaction's end; 0, with which a transaction begins, is none. Images and changes do not have it.
** walmap_txn_get_tagged is as walmap_txn_peek, and tells the tag. Setting cannot fail.
*/
void walmap_txn_set_tag(walmap_txn *txn, uint32_t tag);
int walmap_txn_get_tagged(walmap_txn *txn, const void *key, size_t key_len, walmap_entry *entry, uint32_t *tag);

/*
** Begins `state` (of the same map, not begun) as what the transaction sees now, its own changes included. Locks all
** shards, in order. Later changes of the transaction do not show in the state, which may outlive the transaction; but
** changes that the transaction undoes, by rollback or rollback_to, disappear from the state too. Errors: BUSY,
** DEADLOCK, INTERRUPT, and NOMEM as walmap_state_begin.
*/
int walmap_txn_state_begin(walmap_txn *txn, walmap_state *state);

/* As walmap_len, _size and _reclaimable, with the transaction's own changes. They lock no shard. */
uint64_t walmap_txn_len(walmap_txn *txn);
uint64_t walmap_txn_size(walmap_txn *txn);
uint64_t walmap_txn_reclaimable(walmap_txn *txn);

/* ------------------------------------------------------------------------------------------------------------------ */
/* Compaction                                                                                                         */

/*
** Compacts all shards now, one after another, beside readers and the writers of the other shards. Dead records that
** older readers may still need stay until a later compaction. `txn` may be NULL; otherwise it is a begun transaction of
** the calling thread on this map. Then shards that the transaction has written are left alone, and its pointers into
** other shards stay valid until it ends. Errors: NOMEM, BUSY, DEADLOCK, INTERRUPT; what was compacted before the error
** stays compacted. Without this call compaction runs in small steps inside writes, as the option auto_compact says.
*/
int walmap_compact(walmap *map, walmap_txn *txn);

/* ------------------------------------------------------------------------------------------------------------------ */
/* Images: core/FORMAT.md                                                                                             */

/* What is wrong with an image, or why a call failed: one line of English, without a newline. */
typedef struct walmap_why {
  char text[160];
} walmap_why;

/*
** The image of a begun state, as one block of memory that the caller frees with walmap_image_free(). Takes no lock.
** The map's allocator is not used: the block comes from malloc or mmap. Errors: NOMEM, INTERRUPT.
*/
int walmap_state_image(walmap_state *state, void **image, size_t *size);
void walmap_image_free(void *image); /* NULL is allowed */

/*
** The same image, written in pieces of at most 1 MiB. `write` returns 0, or anything else to stop, which gives
** WALMAP_IO. Errors: IO, NOMEM, INTERRUPT.
*/
typedef int (*walmap_write_fn)(void *ctx, const void *data, size_t size);
int walmap_state_write(walmap_state *state, walmap_write_fn write, void *ctx);

/*
** The same image, on demand: read fills `size` bytes of `buffer`, and fewer only at the image's end; after the end *got
** is 0. As long as the stream is read, the state must stay begun, and its transaction, if it has one, must undo
** nothing. The stream holds one chunk of the image in memory: 256 KiB, a segment of the log or one record, whichever is
** largest. After an error the stream can only be freed. Errors: NOMEM, INTERRUPT.
*/
typedef struct walmap_image_stream walmap_image_stream;
int walmap_image_stream_new(walmap_state *state, walmap_image_stream **out);
int walmap_image_stream_read(walmap_image_stream *stream, void *buffer, size_t size, size_t *got);
void walmap_image_stream_free(walmap_image_stream *stream); /* NULL is allowed */

/*
** Replaces the map's content with the image's, inside the transaction: locks all shards, and readers see the old
** content until commit. The image may come from any version, machine, shard count or seed.
**   check    may be NULL; called for each entry; a result other than NULL refuses the image with that text. Several
**            threads restore a large image in memory, and call it at the same time; they end before the call returns
**   entries  may be NULL; their number
**   why      may be NULL; set on CORRUPT and IO
** Errors: CORRUPT (damage, a content number other than the map's, a duplicate key, a refused entry), NOMEM, BUSY,
** DEADLOCK, INTERRUPT, TOOBIG, and FULL (see "Bounds"). Memory allocated is bounded by a small multiple of `size`.
*/
typedef const char *(*walmap_check_fn)(void *ctx, const walmap_entry *entry);
int walmap_txn_restore(walmap_txn *txn, const void *image, size_t size, walmap_check_fn check, void *ctx,
                       uint64_t *entries, walmap_why *why);

/*
** The same from a stream. `read` stores up to `size` bytes at `buffer` and returns how many: any number from 1 to
** `size`, 0 at the end, or -1 for an error (WALMAP_IO). The calling thread alone calls `read` and, in the image's
** order, `check`.
*/
typedef ptrdiff_t (*walmap_read_fn)(void *ctx, void *buffer, size_t size);
int walmap_txn_restore_read(walmap_txn *txn, walmap_read_fn read, void *read_ctx, walmap_check_fn check, void *ctx,
                            uint64_t *entries, walmap_why *why);

/* The same in one call: the image of the newest committed state, and a restore that is a transaction of its own. */
int walmap_snapshot(walmap *map, void **image, size_t *size);
int walmap_restore(walmap *map, const void *image, size_t size, uint64_t *entries, walmap_why *why);

/*
** Reading an image without a map. `open` verifies the header, the frame of every chunk, all checksums and the trailer;
** `next` then walks the entries in place. The reader holds no memory, the image must outlive it, its fields are
** private. next: OK, NOTFOUND at the end, CORRUPT. Duplicate keys are not looked for.
*/
typedef struct walmap_image_reader {
  const uint8_t *image, *at, *chunk_end;
  size_t size;
  uint64_t entries, chunk_left; /* entries: of the whole image, valid after open */
  uint32_t content;             /* valid after open */
} walmap_image_reader;
int walmap_image_open(walmap_image_reader *reader, const void *image, size_t size, walmap_why *why);
int walmap_image_next(walmap_image_reader *reader, walmap_entry *entry, walmap_why *why);

/*
** Building an image without a map, entry by entry. Keys must differ: a duplicate makes an image that restore refuses.
** finish hands over the image (free it with walmap_image_free) and frees the builder, also when it fails; abandon only
** frees the builder. Errors: NOMEM, TOOBIG.
*/
typedef struct walmap_image_builder walmap_image_builder;
int walmap_image_builder_new(uint32_t content, walmap_image_builder **out);
int walmap_image_builder_add(walmap_image_builder *builder, const walmap_entry *entry);
int walmap_image_builder_finish(walmap_image_builder *builder, void **image, size_t *size);
void walmap_image_builder_abandon(walmap_image_builder *builder);

/* ------------------------------------------------------------------------------------------------------------------ */
/* Changes: core/FORMAT.md                                                                                            */

/*
** A position: bytes that say which state of which map this is, to ask later for the changes since. The state must have
** been begun by walmap_state_begin. Free the position with walmap_image_free. Errors: NOMEM.
*/
int walmap_state_position(walmap_state *state, void **position, size_t *size);

/*
** The changes that were committed from the position `since` to this state (begun by walmap_state_begin): the entries
** that were set, and the keys that were removed, each in its last version. They may be more than needed, never fewer:
** if a map was equal to this one at the position, or at any time from then to the state, applying the changes makes it
** equal to the state. `since` may also be the changes of the last call; then the result is the changes since those.
** Free it with walmap_image_free.
**   why      may be NULL; set on CORRUPT and GONE
** Errors: NOMEM; INTERRUPT; CORRUPT when `since` is no position; GONE when compaction has dropped tombstones that came
** after the position, when the map was restored or cleared since, or when the position is another map's: then take an
** image.
*/
int walmap_state_changes(walmap_state *state, const void *since, size_t since_size, void **changes, size_t *size,
                         walmap_why *why);

/*
** Waits until a transaction has committed after the position `since` (which may be changes, too), at most `ms`: then
** *position is the newest one, to be freed with walmap_image_free. Sleeps meanwhile, and holds neither a state nor a
** lock, so any number of threads may wait. A rollback may end the wait as well; an entry that expires does not. A
** thread that holds the locks of shards waits in vain for their writers.
**   interrupt  may be NULL; is polled every 20 ms, and ends the wait with WALMAP_INTERRUPT when it returns true
**   why        may be NULL; set on CORRUPT and GONE
** Errors: NOTFOUND when the time is over; INTERRUPT; NOMEM; CORRUPT when `since` is no position, GONE when it is
** another map's.
*/
int walmap_wait(walmap *map, const void *since, size_t since_size, uint32_t ms, bool (*interrupt)(void *ctx), void *ctx,
                void **position, size_t *size, walmap_why *why);

/*
** Applies changes of any map inside the transaction. All or nothing; to apply them twice does no harm.
**   check    may be NULL; called for each entry before any is applied, with value NULL for a key that is removed; a
**            result other than NULL refuses the changes with that text
**   changed  may be NULL; the number of keys that were not yet as the changes say
**   why      may be NULL; set on CORRUPT
** Errors: CORRUPT; INTERRUPT, by the session's callback, about every MiB; and those of walmap_txn_set.
*/
int walmap_txn_apply(walmap_txn *txn, const void *changes, size_t size, walmap_check_fn check, void *ctx,
                     uint64_t *changed, walmap_why *why);

/* ------------------------------------------------------------------------------------------------------------------ */
/* Looking for damage                                                                                                 */

/*
** Checks log and index of all shards against each other and against the map's stats: each entry is found by its key, no
** other entry is found, and every counter is right. Damage comes from a mistake in this library, or from a stray write
** of the program; close a damaged map. Changes nothing. Locks one shard after another, so it waits as a writer does;
** readers and the writers of the other shards go on. `txn` is as for walmap_compact; its uncommitted changes are
** checked too. Takes as long as looking up every key once, or up to half as long again.
**   why   may be NULL; set on CORRUPT to the first fault
** Errors: CORRUPT, BUSY, DEADLOCK, INTERRUPT.
*/
int walmap_verify(walmap *map, walmap_txn *txn, walmap_why *why);

#ifdef __cplusplus
}
#endif
#endif
