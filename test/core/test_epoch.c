/*
** test_epoch.c - readers' slots: a read that looks for its slot the longer, the more states are open, or a write that
** looks at all of them; slots that are not used again; an oldest reader that is missed
**
** What a search does is told by the slot that it leads to, not by a clock.
*/
#include "../common/support.h"

#include <pthread.h>

#include "platform/platform.h"
#include "sync/epoch.h"

typedef struct fixture {
  walmap__memory memory;
  walmap__epoch *epoch;
} fixture;

static fixture *open_epoch(void) {
  fixture *f = calloc(1, sizeof *f);
  MUST(f != NULL && (f->epoch = walmap__alloc_aligned(sizeof *f->epoch, 64)) != NULL);
  walmap__memory_init(&f->memory, &walmap__default_allocator, false);
  walmap__epoch_init(f->epoch);
  return f;
}

static void close_epoch(fixture *f) {
  walmap__epoch_destroy(f->epoch, &f->memory);
  assert_int_equal(atomic_load(&f->memory.bytes), 0);
  walmap__memory_destroy(&f->memory);
  walmap__free_aligned(f->epoch);
  free(f);
}

static walmap__slot *enter(fixture *f) {
  walmap__slot *slot = walmap__epoch_enter(f->epoch, &f->memory);
  MUST(slot != NULL);
  return slot;
}

enum { STATES = 5000 };

/* Beside states that stay open, each read gets the slot that the read before it has left: it looks at one or two. */
static void reads_beside_states(void **unused) {
  (void)unused;
  fixture *f = open_epoch();
  walmap__slot *states[STATES];
  for (int i = 0; i < STATES; i++)
    states[i] = enter(f);
  walmap__slot *first = enter(f);
  walmap__epoch_leave(first);
  for (int i = 0; i < 1000; i++) {
    walmap__slot *slot = enter(f);
    assert_ptr_equal(slot, first);
    walmap__epoch_leave(slot);
  }
  walmap__slot *stays = enter(f); /* it has the reads' slot now: they find the next one, and keep to that */
  assert_ptr_equal(stays, first);
  walmap__slot *next = enter(f);
  assert_ptr_equal(next, first + 1);
  walmap__epoch_leave(next);
  assert_ptr_equal(enter(f), next);
  walmap__epoch_leave(next);
  walmap__epoch_leave(stays);
  for (int i = 0; i < STATES; i++)
    walmap__epoch_leave(states[i]);
  close_epoch(f);
}

/* All slots are different; those that are left are taken again, wherever they are, before there are new ones. */
static void slots_are_used_again(void **unused) {
  (void)unused;
  fixture *f = open_epoch();
  static walmap__slot *states[STATES];
  uint64_t random = announce_seed("slots_are_used_again"), bytes = 0;
  for (int i = 0; i < STATES; i++)
    states[i] = enter(f);
  bytes = atomic_load(&f->memory.bytes);
  for (int round = 0; round < 20; round++) {
    for (int i = 0; i < STATES; i++) {
      if (random_below(&random, 3) == 0) {
        walmap__epoch_leave(states[i]);
        states[i] = NULL;
      }
    }
    for (int i = 0; i < STATES; i++) {
      if (!states[i])
        states[i] = enter(f);
    }
    for (int i = 0; i < STATES; i++)
      assert_int_not_equal(atomic_load(&states[i]->time), 0);
    assert_int_equal(atomic_load(&f->memory.bytes), bytes);
  }
  for (int i = 0; i < STATES; i++) {
    assert_int_not_equal(atomic_load(&states[i]->time), 0); /* no two were the same */
    walmap__epoch_leave(states[i]);
  }
  close_epoch(f);
}

/* The oldest is that of a model, with its slot. */
static void oldest(void **unused) {
  (void)unused;
  enum { READERS = 300, STEPS = 20000 };
  fixture *f = open_epoch();
  walmap__slot *readers[READERS] = {NULL};
  uint64_t random = announce_seed("oldest");
  for (int step = 0; step < STEPS; step++) {
    uint32_t i = random_below(&random, READERS);
    if (readers[i]) {
      walmap__epoch_leave(readers[i]);
      readers[i] = NULL;
    } else {
      readers[i] = enter(f);
    }
    if (step % 3 == 0)
      walmap__epoch_advance(f->epoch);
    if (step % 10)
      continue;
    uint64_t expected = UINT64_MAX;
    for (int r = 0; r < READERS; r++) {
      if (readers[r] && atomic_load(&readers[r]->time) < expected)
        expected = atomic_load(&readers[r]->time);
    }
    const walmap__slot *slot;
    assert_int_equal(walmap__epoch_oldest_slot(f->epoch, &slot), expected);
    assert_true(expected == UINT64_MAX ? slot == NULL : atomic_load(&slot->time) == expected);
    if (slot) {
      assert_true(walmap__slot_still_holds(slot, expected));
      assert_false(walmap__slot_still_holds(slot, expected - 1));
    }
  }
  for (int r = 0; r < READERS; r++) {
    if (readers[r])
      walmap__epoch_leave(readers[r]);
  }
  close_epoch(f);
}

/*
** While the oldest state of many lasts, no slot but its own is looked at: one that gets an older time, which no reader
** can have announced before the search, is not found before that state has ended.
*/
static void oldest_is_remembered(void **unused) {
  (void)unused;
  fixture *f = open_epoch();
  walmap__slot *states[STATES];
  const walmap__slot *slot;
  for (int i = 0; i < 10; i++)
    walmap__epoch_advance(f->epoch);
  for (int i = 0; i < STATES; i++) {
    states[i] = enter(f);
    walmap__epoch_advance(f->epoch);
  }
  uint64_t oldest = atomic_load(&states[0]->time);
  assert_int_equal(walmap__epoch_oldest_slot(f->epoch, &slot), oldest);
  assert_ptr_equal(slot, states[0]);
  atomic_store(&states[STATES - 1]->time, oldest - 1);
  assert_int_equal(walmap__epoch_oldest_slot(f->epoch, &slot), oldest);
  assert_ptr_equal(slot, states[0]);
  walmap__epoch_leave(states[0]);
  assert_int_equal(walmap__epoch_oldest_slot(f->epoch, &slot), oldest - 1);
  assert_ptr_equal(slot, states[STATES - 1]);
  walmap__epoch_leave(states[STATES - 1]);
  states[0] = enter(f); /* in one of the two, with a new time */
  assert_int_equal(walmap__epoch_oldest_slot(f->epoch, &slot), atomic_load(&states[1]->time));
  assert_ptr_equal(slot, states[1]);
  for (int i = 0; i < STATES - 1; i++)
    walmap__epoch_leave(states[i]);
  assert_int_equal(walmap__epoch_oldest_slot(f->epoch, &slot), UINT64_MAX);
  assert_null(slot);
  close_epoch(f);
}

/*
** A reader comes to a slot that a search has passed, another thread retires what this reader sees, and the search goes
** on to a reader that came after that. What the search found is right for the searching thread. The other one, which
** has retired something since the search began, must find the first reader.
*/
static struct {
  walmap__epoch *epoch;
  walmap__slot *first, *second;
  uint64_t retired;
} passed;

static void come_behind_the_search(const char *point) {
  if (strcmp(point, "epoch: slot looked at") != 0)
    return;
  atomic_store(&walmap__yield_hook, (walmap__yield_fn)NULL);
  MUST(walmap__slot_take(passed.first, passed.epoch));
  passed.retired = walmap__epoch_advance(passed.epoch);
  MUST(walmap__slot_take(passed.second, passed.epoch));
}

static void reader_behind_a_search(void **unused) {
  (void)unused;
  fixture *f = open_epoch();
  walmap__slot *states[WALMAP__FIRST_SLOTS + 1];
  const walmap__slot *slot;
  for (int i = 0; i <= WALMAP__FIRST_SLOTS; i++) /* so that there are more slots, and searches are remembered */
    states[i] = enter(f);
  for (int i = 0; i <= WALMAP__FIRST_SLOTS; i++)
    walmap__epoch_leave(states[i]);
  passed.epoch = f->epoch;
  passed.first = &f->epoch->slots[0];
  passed.second = &f->epoch->slots[1];
  atomic_store(&walmap__yield_hook, come_behind_the_search);
  uint64_t found = walmap__epoch_oldest_slot(f->epoch, &slot);
  assert_int_equal(found, passed.retired + 1);
  assert_ptr_equal(slot, passed.second);
  found = walmap__epoch_oldest_slot(f->epoch, &slot);
  assert_int_equal(found, passed.retired);
  assert_ptr_equal(slot, passed.first);
  walmap__epoch_leave(passed.first);
  walmap__epoch_leave(passed.second);
  close_epoch(f);
}

/* Threads take slots at once, more than there are at first: no slot is given twice. */
typedef struct crowd {
  fixture *f;
  pthread_barrier_t barrier;
} crowd;

enum { THREADS = 8, EACH = 100, ROUNDS = 50 };

static void *take_many(void *arg) {
  crowd *c = arg;
  walmap__slot *mine[EACH];
  for (int round = 0; round < ROUNDS; round++) {
    pthread_barrier_wait(&c->barrier);
    for (int i = 0; i < EACH; i++)
      mine[i] = enter(c->f);
    for (int i = 0; i < EACH; i++) {
      MUST(atomic_load(&mine[i]->time) != 0); /* it is cleared once for each that got it */
      walmap__epoch_leave(mine[i]);
    }
  }
  return NULL;
}

static void crowds(void **unused) {
  (void)unused;
  crowd c = {.f = open_epoch()};
  pthread_t threads[THREADS];
  MUST(pthread_barrier_init(&c.barrier, NULL, THREADS) == 0);
  for (int i = 0; i < THREADS; i++)
    MUST(pthread_create(&threads[i], NULL, take_many, &c) == 0);
  for (int i = 0; i < THREADS; i++)
    MUST(pthread_join(threads[i], NULL) == 0);
  pthread_barrier_destroy(&c.barrier);
  assert_int_equal(walmap__epoch_oldest(c.f->epoch), UINT64_MAX);
  close_epoch(c.f);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(reads_beside_states),  cmocka_unit_test(slots_are_used_again),   cmocka_unit_test(oldest),
      cmocka_unit_test(oldest_is_remembered), cmocka_unit_test(reader_behind_a_search), cmocka_unit_test(crowds),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
