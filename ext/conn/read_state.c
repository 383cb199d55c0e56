/*
** read_state.c - counted read states, and the destructors that keep them alive: see read_state.h
**
** SQLite passes to a value's destructor only the pointer to the value's bytes, which lie in the map's log and do not
** tell which state holds them. So there are SLOTS destructor functions that differ in a number: a state with slot i
** hands out function i, which releases the state in slot i. A state object takes a slot when it is made, once or twice
** for each connection and map. When no slot is left, SQLite copies the values of the state (ext/SQL.md, Limits).
*/
#include "conn/read_state.h"
#include "conn/conn.h"
#include "conn/transaction.h"

#include <pthread.h>

SQLITE_EXTENSION_INIT3

/* ------------------------------------------------------------------------------------------------------------------ */
/* Slots                                                                                                              */

#define SLOTS 256

static pthread_mutex_t slots_mutex = PTHREAD_MUTEX_INITIALIZER;
static wm_read_state *slots[SLOTS]; /* written under the mutex; slot i is read by the connection that has it */

/* One function for each number from 0x00 to 0xff. */
#define ONE(digits)                                                                                                    \
  static void release_##digits(void *value) {                                                                          \
    (void)value;                                                                                                       \
    wm_read_state_release(slots[0x##digits]);                                                                          \
  }
#define NAME(digits) release_##digits,

/* clang-format off */
#define SIXTEEN(make, h)                                                                                               \
  make(h##0) make(h##1) make(h##2) make(h##3) make(h##4) make(h##5) make(h##6) make(h##7)                              \
  make(h##8) make(h##9) make(h##a) make(h##b) make(h##c) make(h##d) make(h##e) make(h##f)
#define ALL(make)                                                                                                      \
  SIXTEEN(make, 0) SIXTEEN(make, 1) SIXTEEN(make, 2) SIXTEEN(make, 3) SIXTEEN(make, 4) SIXTEEN(make, 5)                \
  SIXTEEN(make, 6) SIXTEEN(make, 7) SIXTEEN(make, 8) SIXTEEN(make, 9) SIXTEEN(make, a) SIXTEEN(make, b)                \
  SIXTEEN(make, c) SIXTEEN(make, d) SIXTEEN(make, e) SIXTEEN(make, f)
/* clang-format on */

ALL(ONE)
static const sqlite3_destructor_type destructors[SLOTS] = {ALL(NAME)};

static int take_slot(wm_read_state *state) {
  int slot = -1;
  pthread_mutex_lock(&slots_mutex);
  for (int i = 0; i < SLOTS && slot < 0; i++) {
    if (slots[i] == NULL) {
      slots[i] = state;
      slot = i;
    }
  }
  pthread_mutex_unlock(&slots_mutex);
  return slot;
}

static void free_slot(int slot) {
  if (slot < 0)
    return;
  pthread_mutex_lock(&slots_mutex);
  slots[slot] = NULL;
  pthread_mutex_unlock(&slots_mutex);
}

sqlite3_destructor_type wm_read_state_destructor(wm_read_state *state) {
  if (state->slot < 0)
    return SQLITE_TRANSIENT;
  state->references++;
  return destructors[state->slot];
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* States                                                                                                             */

static void destroy_state(wm_read_state *state) {
  free_slot(state->slot);
  walmap_state_free(state->state);
  sqlite3_free(state);
}

static int make_state(wm_attachment *attachment, walmap *map, wm_read_state **out) {
  wm_read_state *state = sqlite3_malloc(sizeof *state);
  if (state == NULL)
    return WALMAP_NOMEM;
  *state = (wm_read_state){.attachment = attachment};
  int result = walmap_state_new(map, &state->state);
  if (result != WALMAP_OK) {
    sqlite3_free(state);
    return result;
  }
  walmap_state_set_interrupt(state->state, wm_conn_is_interrupted, attachment->conn);
  state->slot = take_slot(state);
  *out = state;
  return WALMAP_OK;
}

/* A state that is not begun, from the pool or new. A WALMAP code. */
static int obtain_state(wm_attachment *attachment, wm_read_state **out) {
  wm_read_state *state = attachment->pool;
  if (state == NULL)
    return make_state(attachment, attachment->map->map, out);
  attachment->pool = state->next;
  *out = state;
  return WALMAP_OK;
}

static void put_back(wm_read_state *state) {
  state->next = state->attachment->pool;
  state->attachment->pool = state;
}

/* A begun state holds its wm_attachment, because values may outlive the table. */
static wm_read_state *first_reference(wm_read_state *state) {
  wm_attachment_retain(state->attachment);
  state->references = 1;
  return state;
}

int wm_read_state_acquire(wm_attachment *attachment, wm_read_state **out) {
  if (attachment->map->history != NULL && !wm_attachment_is_begun(attachment))
    return attachment->conn->hooks->acquire(attachment, out);
  if (attachment->current != NULL) {
    attachment->current->references++;
    *out = attachment->current;
    return WALMAP_OK;
  }
  if (wm_attachment_is_begun(attachment))
    wm_attachment_statement(attachment, WM_EVENT_READ);
  wm_read_state *state;
  int result = obtain_state(attachment, &state);
  if (result != WALMAP_OK)
    return result;
  if ((result = walmap_state_begin(state->state)) != WALMAP_OK) {
    put_back(state);
    return result;
  }
  *out = attachment->current = first_reference(state);
  return WALMAP_OK;
}

int wm_read_state_of_version(wm_attachment *attachment, const wm_version *version, wm_read_state **out) {
  wm_read_state *state;
  int result = obtain_state(attachment, &state);
  if (result != WALMAP_OK)
    return result;
  if ((result = wm_history_begin(attachment->map->history, version, state->state, &state->era)) != WALMAP_OK) {
    put_back(state);
    return result;
  }
  state->version = *version;
  *out = attachment->current = first_reference(state);
  return WALMAP_OK;
}

int wm_read_state_of_replica(wm_attachment *attachment, wm_replica *replica, wm_read_state **out) {
  wm_read_state *state;
  int result = make_state(attachment, replica->map, &state);
  if (result != WALMAP_OK)
    return result;
  if ((result = walmap_state_begin(state->state)) != WALMAP_OK) {
    destroy_state(state);
    return result;
  }
  state->version = replica->version;
  state->replica = replica;
  replica->references++;
  *out = attachment->current = first_reference(state);
  return WALMAP_OK;
}

void wm_replica_release(wm_replica *replica) {
  if (replica == NULL || --replica->references > 0)
    return;
  walmap_close(replica->map);
  sqlite3_free(replica);
}

int wm_read_state_acquire_own(wm_attachment *attachment, wm_read_state **out) {
  if (attachment->own != NULL && attachment->own_writes == attachment->writes) {
    attachment->own->references++;
    *out = attachment->own;
    return WALMAP_OK;
  }
  wm_read_state *state;
  int result = obtain_state(attachment, &state);
  if (result != WALMAP_OK)
    return result;
  if ((result = walmap_txn_state_begin(attachment->txn, state->state)) != WALMAP_OK) {
    put_back(state);
    return result;
  }
  attachment->own_writes = attachment->writes;
  *out = attachment->own = first_reference(state);
  return WALMAP_OK;
}

void wm_read_state_release(wm_read_state *state) {
  if (state == NULL || --state->references > 0)
    return;
  wm_attachment *attachment = state->attachment;
  if (attachment->current == state)
    attachment->current = NULL;
  if (attachment->own == state)
    attachment->own = NULL;
  walmap_state_end(state->state);
  if (state->era != NULL)
    wm_history_leave(attachment->map->history, state->era);
  state->era = NULL;
  wm_replica *replica = state->replica;
  if (replica == NULL) {
    put_back(state);
  } else {
    destroy_state(state);
    wm_replica_release(replica);
  }
  wm_attachment_release(attachment); /* maybe the last reference, which frees the pool */
}

void wm_read_state_free_pool(wm_attachment *attachment) {
  while (attachment->pool != NULL) {
    wm_read_state *state = attachment->pool;
    attachment->pool = state->next;
    destroy_state(state);
  }
}
