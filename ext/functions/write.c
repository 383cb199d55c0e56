/*
** write.c - the SQL functions that change one key
**
** Each function tests and writes in one transaction (call.h). The test is walmap_txn_peek, which locks the key's shard,
** so no other connection can write between the test and the write (T4): of any number of connections that call
** walmap_set_if_absent for one key, one gets 1; a value that walmap_remove returns was removed by this very call.
*/
#include "codec/expiry.h"
#include "conn/transaction.h"
#include "functions/functions.h"
#include "functions/upsert.h"
#include "table/call.h"
#include "table/row.h"

SQLITE_EXTENSION_INIT3

/* The input and the result of a function's work. */
typedef struct change {
  sqlite3_context *context; /* for results that must be set inside the work */
  wm_key key;
  wm_value value, expected;
  sqlite3_value *result; /* to return, when `value` is set */
  sqlite3_value *expression;
  sqlite3_value *ttl;   /* the argument; NULL: there is none */
  const char *function; /* for the text of its error */
  bool done;            /* the test held */
} change;

/* Whether the key may be NULL. No entry has the key NULL: to remove it removes nothing, to set it is an error. */
typedef enum null_key { NULL_KEY_IS_ABSENT, NULL_KEY_IS_AN_ERROR } null_key;

/* Encodes the key. False: the result is set, and there is no work to do. Otherwise the key must be released. */
static bool encode_key(sqlite3_context *context, wm_table *table, sqlite3_value *value, null_key null, change *change) {
  int rc = wm_codec_encode_key(value, &change->key);
  if (rc == SQLITE_OK)
    return true;
  if (rc != SQLITE_CONSTRAINT_NOTNULL)
    wm_functions_fail(context, rc, NULL);
  else if (null == NULL_KEY_IS_AN_ERROR)
    wm_functions_fail(context, rc, sqlite3_mprintf("NOT NULL constraint failed: %s.key", table->name));
  return false;
}

/* Does the work, and releases the key. False: the work failed, and the error is set as the result. */
static bool do_work(sqlite3_context *context, wm_table *table, wm_call_fn work, change *change) {
  char *err;
  int rc = wm_call_write(table, work, change, &err);
  wm_codec_release_key(&change->key);
  if (rc != SQLITE_OK)
    wm_functions_fail(context, rc, err);
  return rc == SQLITE_OK;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* The work                                                                                                           */

/* When what is written anew expires. */
static int read_ttl(wm_table *table, const change *change, uint64_t *expires, char **err) {
  *expires = WALMAP_BY_TTL;
  if (change->ttl == NULL || wm_expiry_after(change->ttl, walmap_txn_clock(table->attachment->txn), expires))
    return SQLITE_OK;
  *err = sqlite3_mprintf("%s: the ttl must be a number of seconds from 0 on, or NULL for never", change->function);
  return SQLITE_ERROR;
}

static int set_row(wm_table *table, const wm_key *key, const wm_value *value, uint64_t expires, char **err) {
  if (wm_row_is_too_big(table->conn->db, key, value->payload_size))
    return SQLITE_TOOBIG;
  int result = wm_row_set(table->attachment, key, value, NULL, WM_ALWAYS, expires);
  return result == WALMAP_OK ? SQLITE_OK : wm_call_failed(table, result, err);
}

static int remove_row(wm_table *table, const wm_key *key, char **err) {
  int result = wm_row_remove(table->attachment, key);
  return result == WALMAP_OK ? SQLITE_OK : wm_call_failed(table, result, err);
}

/* Looks the key up: WALMAP_OK, NOTFOUND or an error. From then on the transaction holds the shard's lock. */
static int look_up_key(wm_table *table, const wm_key *key, walmap_entry *entry) {
  return walmap_txn_peek(table->attachment->txn, key->data, key->size, entry);
}

/*
** A result that needs memory is set inside the work: if memory is out, the statement around the work fails too, and the
** change is undone.
*/
static int set_anew(change *change, wm_table *table, uint64_t expires, char **err) {
  sqlite3_result_value(change->context, change->result);
  return set_row(table, &change->key, &change->value, expires, err);
}

static int do_set(void *ctx, wm_table *table, char **err) {
  uint64_t expires;
  int rc = read_ttl(table, ctx, &expires, err);
  return rc == SQLITE_OK ? set_anew(ctx, table, expires, err) : rc;
}

/*
** Whether the connection allows a result of this size. Otherwise the result would fail after the commit of the removal.
*/
static bool is_returnable(const wm_table *table, const walmap_entry *entry) {
  size_t limit = (size_t)sqlite3_limit(table->conn->db, SQLITE_LIMIT_LENGTH, -1), size = wm_codec_payload_size(entry);
  if (size > limit / 2 && wm_codec_value_is_text(entry) && wm_conn_is_utf16(table->conn))
    size *= 2; /* the most that UTF-16 takes */
  return size <= limit;
}

/* Copies the removed value for the result: the value dies with the transaction, which may end with this work. */
static int do_remove(void *ctx, wm_table *table, char **err) {
  change *change = ctx;
  walmap_entry entry;
  int result = look_up_key(table, &change->key, &entry);
  if (result == WALMAP_NOTFOUND)
    return WM_CALL_UNCHANGED;
  if (result == WALMAP_OK && !is_returnable(table, &entry))
    result = WALMAP_TOOBIG;
  if (result != WALMAP_OK)
    return wm_call_failed(table, result, err);
  wm_codec_result_value(change->context, &entry, SQLITE_TRANSIENT);
  return remove_row(table, &change->key, err);
}

static int do_set_if_absent(void *ctx, wm_table *table, char **err) {
  change *change = ctx;
  walmap_entry entry;
  uint64_t expires;
  int rc = read_ttl(table, change, &expires, err); /* first: a ttl that is wrong is an error, present or not */
  if (rc != SQLITE_OK)
    return rc;
  int result = look_up_key(table, &change->key, &entry);
  if (result == WALMAP_OK)
    return WM_CALL_UNCHANGED;
  if (result != WALMAP_NOTFOUND)
    return wm_call_failed(table, result, err);
  change->done = true;
  return set_row(table, &change->key, &change->value, expires, err);
}

/* SQLITE_OK if the key is present with the expected value, WM_CALL_UNCHANGED if not; or an error. */
static int expect_value(wm_table *table, change *change, char **err) {
  walmap_entry entry;
  int result = look_up_key(table, &change->key, &entry);
  if (result != WALMAP_OK && result != WALMAP_NOTFOUND)
    return wm_call_failed(table, result, err);
  change->done = result == WALMAP_OK && wm_codec_value_is(entry.value, entry.value_len, &change->expected);
  if (change->done)
    change->key.form = wm_codec_entry_form(&entry); /* as with UPDATE */
  return change->done ? SQLITE_OK : WM_CALL_UNCHANGED;
}

static int do_set_if(void *ctx, wm_table *table, char **err) {
  change *change = ctx;
  int rc = expect_value(table, change, err);
  return rc == SQLITE_OK ? set_row(table, &change->key, &change->value, WALMAP_KEEP, err) : rc;
}

static int do_touch(void *ctx, wm_table *table, char **err) {
  change *change = ctx;
  walmap_entry entry;
  uint64_t expires;
  int rc = read_ttl(table, change, &expires, err);
  if (rc != SQLITE_OK)
    return rc;
  int result = look_up_key(table, &change->key, &entry);
  if (result == WALMAP_NOTFOUND)
    return WM_CALL_UNCHANGED;
  if (result == WALMAP_OK)
    change->key.form = wm_codec_entry_form(&entry); /* as with UPDATE */
  if (result == WALMAP_OK)
    result = wm_row_set(table->attachment, &change->key, NULL, &entry, WM_ALWAYS, expires);
  change->done = result == WALMAP_OK;
  return result == WALMAP_OK ? SQLITE_OK : wm_call_failed(table, result, err);
}

static int do_remove_if(void *ctx, wm_table *table, char **err) {
  change *change = ctx;
  int rc = expect_value(table, change, err);
  return rc == SQLITE_OK ? remove_row(table, &change->key, err) : rc;
}

/*
** Sets the key to the value of the expression over its entry, whose expiry stays. If the expression has removed the
** entry, or it has expired meanwhile, the key begins anew, as with `initial`.
*/
static int set_computed(change *change, wm_table *table, wm_upsert_run *run, const walmap_entry *old, uint64_t expires,
                        char **err) {
  int rc = wm_upsert_evaluate(table, old, change->result, run, err);
  if (rc != SQLITE_OK)
    return rc;
  if (!wm_attachment_is_begun(table->attachment)) {
    *err = sqlite3_mprintf("walmap_upsert: the expression ended the transaction");
    return SQLITE_ABORT;
  }
  walmap_entry now;
  int result = change->ttl != NULL ? look_up_key(table, &change->key, &now) : WALMAP_OK;
  if (result != WALMAP_OK && result != WALMAP_NOTFOUND)
    return wm_call_failed(table, result, err);
  change->key.form = wm_codec_entry_form(old); /* a present key keeps its form, as with UPDATE */
  rc = wm_codec_read_value(run->value, &change->value);
  if (rc == SQLITE_OK)
    rc = set_row(table, &change->key, &change->value, result == WALMAP_OK ? WALMAP_KEEP : expires, err);
  if (rc == SQLITE_OK)
    sqlite3_result_value(change->context, run->value);
  return rc;
}

/*
** The expression may run any SQL, which may write to this very key or roll the transaction back. A read state that is
** begun before the lookup keeps the bytes of the old value alive meanwhile.
*/
static int do_upsert(void *ctx, wm_table *table, char **err) {
  change *change = ctx;
  walmap_entry old;
  wm_read_state *pin;
  wm_upsert_run run;
  uint64_t expires;
  int rc = read_ttl(table, change, &expires, err);
  if (rc == SQLITE_OK)
    rc = wm_upsert_begin(table, change->expression, &run, err);
  if (rc != SQLITE_OK)
    return rc;
  int result = wm_read_state_acquire(table->attachment, &pin);
  if (result != WALMAP_OK) {
    wm_upsert_end(table, &run);
    return wm_call_failed(table, result, err);
  }
  result = look_up_key(table, &change->key, &old);
  if (result == WALMAP_OK)
    rc = set_computed(change, table, &run, &old, expires, err);
  else if (result == WALMAP_NOTFOUND)
    rc = set_anew(change, table, expires, err);
  else
    rc = wm_call_failed(table, result, err);
  wm_upsert_end(table, &run); /* first, because the statement refers to the old value */
  wm_read_state_release(pin);
  return rc;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* The functions                                                                                                      */

/* walmap_set([t,] key, value), or with the table's name and a ttl */
void wm_function_set(sqlite3_context *context, int argc, sqlite3_value **argv) {
  sqlite3_value *ttl = argc == 4 ? argv[3] : NULL;
  wm_table *table = wm_functions_table(context, argc, &argv, 2);
  change change = {.context = context, .result = argv[1], .ttl = ttl, .function = "walmap_set"};
  if (table == NULL || !encode_key(context, table, argv[0], NULL_KEY_IS_AN_ERROR, &change))
    return;
  if (wm_codec_read_value(argv[1], &change.value) != SQLITE_OK) {
    wm_codec_release_key(&change.key);
    sqlite3_result_error_nomem(context);
    return;
  }
  do_work(context, table, do_set, &change);
}

/* walmap_remove([t,] key) */
void wm_function_remove(sqlite3_context *context, int argc, sqlite3_value **argv) {
  change change = {.context = context};
  wm_table *table = wm_functions_table(context, argc, &argv, 1);
  if (table != NULL && encode_key(context, table, argv[0], NULL_KEY_IS_ABSENT, &change))
    do_work(context, table, do_remove, &change);
}

/* For the functions that return 1 or 0. A NULL key that is no error counts as not done. */
static void call_conditional(sqlite3_context *context, wm_table *table, sqlite3_value *key, null_key null,
                             sqlite3_value *expected, sqlite3_value *value, wm_call_fn work, change change) {
  change.context = context;
  if (null == NULL_KEY_IS_ABSENT)
    sqlite3_result_int(context, 0);
  if (!encode_key(context, table, key, null, &change))
    return;
  if ((expected != NULL && wm_codec_read_value(expected, &change.expected) != SQLITE_OK) ||
      (value != NULL && wm_codec_read_value(value, &change.value) != SQLITE_OK)) {
    wm_codec_release_key(&change.key);
    sqlite3_result_error_nomem(context);
    return;
  }
  if (do_work(context, table, work, &change))
    sqlite3_result_int(context, change.done);
}

/* walmap_set_if_absent([t,] key, value), or with the table's name and a ttl */
void wm_function_set_if_absent(sqlite3_context *context, int argc, sqlite3_value **argv) {
  const change change = {.ttl = argc == 4 ? argv[3] : NULL, .function = "walmap_set_if_absent"};
  wm_table *table = wm_functions_table(context, argc, &argv, 2);
  if (table != NULL)
    call_conditional(context, table, argv[0], NULL_KEY_IS_AN_ERROR, NULL, argv[1], do_set_if_absent, change);
}

/* walmap_touch([t,] key, ttl) */
void wm_function_touch(sqlite3_context *context, int argc, sqlite3_value **argv) {
  const change change = {.ttl = argv[argc - 1], .function = "walmap_touch"};
  wm_table *table = wm_functions_table(context, argc, &argv, 2);
  if (table != NULL)
    call_conditional(context, table, argv[0], NULL_KEY_IS_ABSENT, NULL, NULL, do_touch, change);
}

/* walmap_set_if([t,] key, expected, value) */
void wm_function_set_if(sqlite3_context *context, int argc, sqlite3_value **argv) {
  wm_table *table = wm_functions_table(context, argc, &argv, 3);
  if (table != NULL)
    call_conditional(context, table, argv[0], NULL_KEY_IS_ABSENT, argv[1], argv[2], do_set_if, (change){0});
}

/* walmap_remove_if([t,] key, expected) */
void wm_function_remove_if(sqlite3_context *context, int argc, sqlite3_value **argv) {
  wm_table *table = wm_functions_table(context, argc, &argv, 2);
  if (table != NULL)
    call_conditional(context, table, argv[0], NULL_KEY_IS_ABSENT, argv[1], NULL, do_remove_if, (change){0});
}

/* walmap_upsert([t,] key, initial, expression), or with the table's name and a ttl for `initial` */
void wm_function_upsert(sqlite3_context *context, int argc, sqlite3_value **argv) {
  sqlite3_value *ttl = argc == 5 ? argv[4] : NULL;
  wm_table *table = wm_functions_table(context, argc, &argv, 3);
  if (table == NULL)
    return;
  change change = {
      .context = context, .result = argv[1], .expression = argv[2], .ttl = ttl, .function = "walmap_upsert"};
  if (sqlite3_value_type(argv[2]) != SQLITE_TEXT) {
    sqlite3_result_error(context, "walmap_upsert: the expression is not a text, as in 'value + 1'", -1);
    return;
  }
  if (!encode_key(context, table, argv[0], NULL_KEY_IS_AN_ERROR, &change))
    return;
  if (wm_codec_read_value(argv[1], &change.value) != SQLITE_OK) {
    wm_codec_release_key(&change.key);
    sqlite3_result_error_nomem(context);
    return;
  }
  do_work(context, table, do_upsert, &change);
}
