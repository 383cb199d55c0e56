/*
** test_lock_waits.c - waits for a shard lock: which do not happen, when they end, and what may happen to a waiter whose
** interrupt callback runs (C1, C5)
*/
#include "../common/thread_load.h"

#include <unistd.h>

#include "mvcc/map.h"

/* ------------------------------------------------------------------------------------------------------------------ */
/* Readers, and the writers of other shards, do not wait                                                              */

static bool copy_number(void *ctx, const void *value, size_t len) {
  MUST(len == 8);
  memcpy(ctx, value, 8);
  return true;
}

static void *read_everything(void *arg) {
  walmap *map = arg;
  walmap_state *state;
  MUST_OK(walmap_state_new(map, &state));
  for (int round = 0; round < 200 / SLOWDOWN; round++) {
    uint64_t number;
    size_t len;
    int count = 0;
    MUST_OK(walmap_state_begin(state));
    for (uint32_t key = 0; key < 500; key++) {
      walmap_entry entry;
      MUST_OK(walmap_get(map, &key, 4, &number, 8, &len));
      MUST(number == key);
      MUST_OK(walmap_view(map, &key, 4, copy_number, &number));
      MUST_OK(walmap_state_get(state, &key, 4, &entry));
    }
    walmap_cursor cursor;
    walmap_entry entry;
    for (walmap_cursor_start(&cursor, state); walmap_cursor_next(&cursor, &entry);)
      count++;
    MUST(count == 500 && walmap_len(map) == 500);
    walmap_state_end(state);
    void *image;
    size_t size;
    MUST_OK(walmap_snapshot(map, &image, &size));
    walmap_image_free(image);
  }
  walmap_state_free(state);
  return NULL;
}

/* A transaction that owns every shard, wrote everywhere and does not end, is nothing to a reader. */
static void readers_never_wait(void **unused) {
  (void)unused;
  walmap *map = open_map(16, VERY_LONG_MS);
  walmap_session *session;
  walmap_txn *txn;
  for (uint64_t key = 0; key < 500; key++)
    MUST_OK(walmap_set(map, &key, 4, &key, 8));
  MUST_OK(walmap_session_new(NULL, NULL, &session));
  MUST_OK(walmap_txn_new(map, session, &txn));
  walmap_txn_begin(txn);
  for (uint64_t key = 0; key < 600; key++) {
    uint64_t other = key + 1000000;
    MUST_OK(walmap_txn_set(txn, &key, 4, &other, 8));
  }
  uint64_t began = now_ns();
  join(start(read_everything, map));
  MUST(now_ns() - began < VERY_LONG_MS / 2 * (uint64_t)MS); /* had it waited, it would have been longer */
  walmap_txn_free(txn);
  walmap_session_free(session);
  walmap_close(map);
}

typedef struct probe {
  walmap *map;
  int done, kept_out;
} probe;

static void *set_all(void *arg) {
  probe *p = arg;
  for (uint32_t key = 1; key <= 1000; key++) {
    int result = walmap_set(p->map, &key, 4, "v", 1);
    MUST(result == WALMAP_OK || result == WALMAP_BUSY);
    if (result == WALMAP_OK)
      p->done++;
    else
      p->kept_out++;
  }
  return NULL;
}

/* While one shard is owned, the writers of the other fifteen go on. */
static void other_shards_go_on(void **unused) {
  (void)unused;
  probe p = {open_map(16, 0), 0, 0};
  walmap_session *session;
  walmap_txn *txn;
  uint32_t mine = 0;
  MUST_OK(walmap_session_new(NULL, NULL, &session));
  MUST_OK(walmap_txn_new(p.map, session, &txn));
  walmap_txn_begin(txn);
  MUST_OK(walmap_txn_set(txn, &mine, 4, "v", 1));
  join(start(set_all, &p));
  printf("  of 1000 writes beside the owner of 1 shard in 16, %d were kept out\n", p.kept_out);
  MUST(p.kept_out > 0 && p.kept_out < 200);
  MUST(walmap_len(p.map) == (uint64_t)p.done);
  walmap_txn_commit(txn);
  MUST(walmap_len(p.map) == (uint64_t)p.done + 1);
  walmap_txn_free(txn);
  walmap_session_free(session);
  walmap_close(p.map);
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Waits end with the lock, the timeout, or an interrupt                                                              */

typedef struct waiter {
  walmap *map;
  walmap_session *session;
  int result;
  uint64_t waited_ns;
  walmap_txn *txn;
} waiter;

static void *wait_by_txn(void *arg) {
  waiter *w = arg;
  walmap_txn *txn;
  MUST_OK(walmap_txn_new(w->map, w->session, &txn));
  walmap_txn_begin(txn);
  uint64_t began = now_ns();
  w->result = walmap_txn_set(txn, "k", 1, "2", 1);
  w->waited_ns = now_ns() - began;
  walmap_txn_commit(txn);
  walmap_txn_free(txn);
  return NULL;
}

static void *wait_by_set(void *arg) {
  waiter *w = arg;
  uint64_t began = now_ns();
  w->result = walmap_set(w->map, "k", 1, "2", 1);
  w->waited_ns = now_ns() - began;
  return NULL;
}

static void busy_timeout(void **unused) {
  (void)unused;
  for (int single = 0; single < 2; single++) {
    for (uint32_t timeout = 0; timeout <= 100; timeout += 50) {
      for (int released = 0; released < 2; released++) {
        walmap *map = open_map(4, released ? VERY_LONG_MS : timeout);
        walmap_session *holder, *session;
        walmap_txn *txn;
        MUST_OK(walmap_session_new(NULL, NULL, &holder));
        MUST_OK(walmap_session_new(NULL, NULL, &session));
        MUST_OK(walmap_txn_new(map, holder, &txn));
        walmap_txn_begin(txn);
        MUST_OK(walmap_txn_set(txn, "k", 1, "1", 1));
        waiter w = {map, session, -1, 0, NULL};
        pthread_t thread = start(single ? wait_by_set : wait_by_txn, &w);
        if (released) {
          sleep_ms(timeout);
          walmap_txn_commit(txn);
        }
        join(thread);
        if (released) {
          MUST_OK(w.result);
          MUST(w.waited_ns < VERY_LONG_MS / 2 * (uint64_t)MS);
        } else {
          MUST_RESULT(w.result, WALMAP_BUSY);
          MUST(w.waited_ns >= timeout * (uint64_t)MS);
          for (int tries = 1; w.waited_ns >= (timeout + 5000) * (uint64_t)MS; tries++) {
            MUST(tries < 20); /* a busy machine may make it longer, but not each time */
            join(start(single ? wait_by_set : wait_by_txn, &w));
            MUST_RESULT(w.result, WALMAP_BUSY);
          }
          walmap_txn_commit(txn);
        }
        char value;
        size_t len;
        MUST_OK(walmap_get(map, "k", 1, &value, 1, &len));
        MUST(value == (released ? '2' : '1'));
        walmap_txn_free(txn);
        walmap_session_free(holder);
        walmap_session_free(session);
        walmap_close(map);
      }
    }
  }
}

typedef struct interrupter {
  atomic_bool now;
  atomic_int polls;
} interrupter;

static bool is_interrupted(void *ctx) {
  interrupter *i = ctx;
  atomic_fetch_add(&i->polls, 1);
  return atomic_load(&i->now);
}

static void interrupts(void **unused) {
  (void)unused;
  walmap *map = open_map(4, VERY_LONG_MS);
  walmap_session *holder;
  walmap_txn *txn;
  interrupter i = {false, 0};
  waiter w = {map, NULL, -1, 0, NULL};
  MUST_OK(walmap_session_new(NULL, NULL, &holder));
  MUST_OK(walmap_session_new(is_interrupted, &i, &w.session));
  MUST_OK(walmap_txn_new(map, holder, &txn));
  walmap_txn_begin(txn);
  MUST_OK(walmap_txn_set(txn, "k", 1, "1", 1));
  pthread_t thread = start(wait_by_txn, &w);
  uint64_t began = now_ns();
  while (atomic_load(&i.polls) < 10) {
    MUST_NOT_HANG(began);
    sleep_ms(1);
  }
  double first_polls = (double)(now_ns() - began) / MS;
  atomic_store(&i.now, true);
  uint64_t said = now_ns();
  join(thread);
  MUST_RESULT(w.result, WALMAP_INTERRUPT);
  MUST(now_ns() - said < VERY_LONG_MS / 2 * (uint64_t)MS);
  printf("  polled 10 times in %.1f ms, ended %.1f ms after the interrupt\n", first_polls,
         (double)(now_ns() - said) / MS);
  walmap_txn_free(txn);
  walmap_session_free(holder);
  walmap_session_free(w.session);
  walmap_close(map);
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* A waiter whose callback runs                                                                                       */

/*
** What happens to a waiter while its callback runs, which is not under the mutex of all who wait: the callback uses
** another map, whose shard is owned as well; the shard is handed over to the waiter; or the waiter has to give way.
*/
typedef struct asked {
  walmap *other;
  atomic_bool is_asked, may_answer;
  bool answer;
} asked;

static bool answer_late(void *ctx) {
  asked *a = ctx;
  if (atomic_exchange(&a->is_asked, true))
    return a->answer;
  if (a->other)
    MUST_RESULT(walmap_set(a->other, "k", 1, "3", 1), WALMAP_BUSY);
  while (!atomic_load(&a->may_answer))
    sleep_ms(1);
  return a->answer;
}

typedef struct party {
  walmap *map;
  walmap_session *session;
  walmap_txn *txn;
} party;

static party join_in(walmap *map, bool (*interrupt)(void *ctx), void *ctx) {
  party p = {.map = map};
  MUST_OK(walmap_session_new(interrupt, ctx, &p.session));
  MUST_OK(walmap_txn_new(map, p.session, &p.txn));
  walmap_txn_begin(p.txn);
  return p;
}

static void go_home(party *p) {
  walmap_txn_free(p->txn);
  walmap_session_free(p->session);
}

static void *set_in_txn(void *arg) {
  waiter *w = arg;
  w->result = walmap_txn_set(w->txn, "k", 1, "2", 1);
  return NULL;
}

static void await(atomic_bool *is) {
  for (uint64_t since = now_ns(); !atomic_load(is);) {
    MUST_NOT_HANG(since);
    sleep_ms(1);
  }
}

static void interrupt_uses_another_map(void **unused) {
  (void)unused;
  alarm(VERY_LONG_MS / 1000); /* this hung */
  walmap *map = open_map(1, VERY_LONG_MS), *other = open_map(1, 20);
  party holder = join_in(map, NULL, NULL), other_holder = join_in(other, NULL, NULL);
  asked a = {.other = other, .answer = true, .may_answer = true};
  party asker = join_in(map, answer_late, &a);
  waiter w = {.txn = asker.txn};
  MUST_OK(walmap_txn_set(holder.txn, "k", 1, "1", 1));
  MUST_OK(walmap_txn_set(other_holder.txn, "k", 1, "1", 1));
  join(start(set_in_txn, &w));
  MUST_RESULT(w.result, WALMAP_INTERRUPT);
  go_home(&asker);
  go_home(&holder);
  go_home(&other_holder);
  walmap_close(map);
  walmap_close(other);
  alarm(0);
}

/* Behind the asker another one sleeps: so the release of the shard hands it over to the one that has waited longest. */
static void handed_over_while_asked(void **unused) {
  (void)unused;
  for (int interrupted = 0; interrupted < 2; interrupted++) {
    walmap *map = open_map(1, VERY_LONG_MS);
    asked a = {.answer = interrupted};
    party holder = join_in(map, NULL, NULL), asker = join_in(map, answer_late, &a), sleeper = join_in(map, NULL, NULL);
    waiter w = {.txn = asker.txn}, behind = {.txn = sleeper.txn};
    MUST_OK(walmap_txn_set(holder.txn, "k", 1, "1", 1));
    pthread_t asking = start(set_in_txn, &w);
    await(&a.is_asked);
    pthread_t sleeping = start(set_in_txn, &behind);
    while (atomic_load(&walmap__shard_of(map, 0)->lock.n_asleep) == 0)
      sleep_ms(1);
    sleep_ms(5); /* longer than a waiter's patience */
    walmap_txn_commit(holder.txn);
    MUST(atomic_load(&walmap__shard_of(map, 0)->lock.session) == asker.session);
    atomic_store(&a.may_answer, true);
    join(asking);
    MUST_RESULT(w.result, interrupted ? WALMAP_INTERRUPT : WALMAP_OK);
    go_home(&asker);
    join(sleeping);
    MUST_OK(behind.result);
    go_home(&sleeper);
    go_home(&holder);
    walmap_close(map);
  }
}

/* The other party of the circle had to wait before, and so is the older one. */
static void gives_way_while_asked(void **unused) {
  (void)unused;
  for (int interrupted = 0; interrupted < 2; interrupted++) {
    walmap *map = open_map(1, VERY_LONG_MS), *second = open_map(1, VERY_LONG_MS), *third = open_map(1, 0);
    asked a = {.answer = interrupted};
    party asker = join_in(map, answer_late, &a), older = join_in(map, NULL, NULL),
          in_its_way = join_in(third, NULL, NULL);
    walmap_txn *of_asker, *of_older, *waits;
    MUST_OK(walmap_txn_new(second, asker.session, &of_asker));
    MUST_OK(walmap_txn_new(second, older.session, &of_older));
    MUST_OK(walmap_txn_new(third, older.session, &waits));
    walmap_txn_begin(of_asker);
    walmap_txn_begin(of_older);
    walmap_txn_begin(waits);
    MUST_OK(walmap_txn_set(in_its_way.txn, "k", 1, "1", 1));
    MUST_RESULT(walmap_txn_set(waits, "k", 1, "1", 1), WALMAP_BUSY);
    MUST_OK(walmap_txn_set(of_asker, "k", 1, "1", 1));
    MUST_OK(walmap_txn_set(older.txn, "k", 1, "1", 1));
    waiter w = {.txn = asker.txn}, closes = {.txn = of_older};
    pthread_t asking = start(set_in_txn, &w);
    await(&a.is_asked);
    pthread_t closing = start(set_in_txn, &closes);
    while (atomic_load(&walmap__shard_of(second, 0)->lock.n_asleep) == 0)
      sleep_ms(1);
    atomic_store(&a.may_answer, true);
    join(asking);
    MUST_RESULT(w.result, interrupted ? WALMAP_INTERRUPT : WALMAP_DEADLOCK);
    walmap_txn_free(of_asker);
    join(closing);
    MUST_OK(closes.result);
    walmap_txn_free(of_older);
    walmap_txn_free(waits);
    go_home(&asker);
    go_home(&older);
    go_home(&in_its_way);
    walmap_close(map);
    walmap_close(second);
    walmap_close(third);
  }
}

int main(void) {
  the_seed = announce_seed("test_lock_waits");
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(readers_never_wait),
      cmocka_unit_test(other_shards_go_on),
      cmocka_unit_test(busy_timeout),
      cmocka_unit_test(interrupts),
      cmocka_unit_test(interrupt_uses_another_map),
      cmocka_unit_test(handed_over_while_asked),
      cmocka_unit_test(gives_way_while_asked),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
