/* epoch.c - when memory may be freed (epoch.h has the argument) */
#include "sync/epoch.h"

typedef struct walmap__more_slots {
  walmap__slot slots[WALMAP__MORE_SLOTS];
  struct walmap__more_slots *next;
} walmap__more_slots;

static void init_slots(walmap__slot *slots, int n, walmap__more_slots *block) {
  for (int i = 0; i < n; i++) {
    atomic_init(&slots[i].time, 0);
    atomic_init(&slots[i].last, NULL);
    atomic_init(&slots[i].lookups.hits, 0);
    atomic_init(&slots[i].lookups.misses, 0);
    slots[i].block = block;
  }
}

void walmap__epoch_init(walmap__epoch *e) {
  init_slots(e->slots, WALMAP__FIRST_SLOTS, NULL);
  atomic_init(&e->now, 1);
  atomic_init(&e->more, NULL);
  atomic_init(&e->oldest, NULL);
  atomic_init(&e->oldest_time, 0);
}

void walmap__epoch_destroy(walmap__epoch *e, walmap__memory *memory) {
  walmap__more_slots *block = atomic_load(&e->more);
  while (block) {
    walmap__more_slots *next = block->next;
    walmap__memory_free(memory, block, sizeof *block);
    block = next;
  }
}

static bool take_if_empty(walmap__epoch *e, walmap__slot *slot) {
  return atomic_load_explicit(&slot->time, memory_order_relaxed) == 0 && walmap__slot_take(slot, e);
}

static walmap__slot *enter_one_of(walmap__epoch *e, walmap__slot *slots, unsigned n, unsigned first) {
  for (unsigned i = 0; i < n; i++) {
    walmap__slot *slot = &slots[(first + i) % n];
    if (take_if_empty(e, slot))
      return slot;
  }
  return NULL;
}

/* In the blocks from `from` up to `to`. */
static walmap__slot *enter_blocks(walmap__epoch *e, walmap__more_slots *from, const walmap__more_slots *to) {
  walmap__slot *slot = NULL;
  for (; from != to && !slot; from = from->next)
    slot = enter_one_of(e, from->slots, WALMAP__MORE_SLOTS, 0);
  return slot;
}

/*
** The blocks are searched in a circle, from the slot that was taken last: beside many states that last, a read finds
** the slot that the read before it has left, or the next one.
*/
static walmap__slot *enter_circle(walmap__epoch *e, const walmap__slot *last) {
  walmap__more_slots *newest = atomic_load(&e->more);
  if (!last)
    return enter_blocks(e, newest, NULL);
  walmap__more_slots *block = last->block;
  walmap__slot *slot = enter_one_of(e, block->slots, WALMAP__MORE_SLOTS, (unsigned)(last - block->slots) + 1);
  if (!slot)                                   /* a last slot is always one of a block */
    slot = enter_blocks(e, block->next, NULL); /* NOLINT(clang-analyzer-core.NullDereference) */
  return slot ? slot : enter_blocks(e, newest, block);
}

/*
** Blocks of slots are only ever added, in front, so that the list can be walked without a lock. A walk that misses one
** began before it was there, and its reader reads the clock after that (E1). The first slot is taken beforehand, so
** that no other reader takes it.
*/
static walmap__slot *enter_new_block(walmap__epoch *e, walmap__memory *memory) {
  walmap__more_slots *fresh = walmap__memory_alloc(memory, sizeof *fresh);
  if (!fresh)
    return NULL;
  init_slots(fresh->slots, WALMAP__MORE_SLOTS, fresh);
  atomic_init(&fresh->slots[0].time, atomic_load(&e->now));
  fresh->next = atomic_load(&e->more);
  while (!atomic_compare_exchange_weak(&e->more, &fresh->next, fresh)) {
  }
  (void)atomic_load(&e->now); /* E1 */
  return &fresh->slots[0];
}

walmap__slot *walmap__epoch_enter_slow(walmap__epoch *e, walmap__memory *memory, unsigned hint) {
  walmap__slot *home = &e->slots[hint % WALMAP__FIRST_SLOTS];
  walmap__slot *last = atomic_load_explicit(&home->last, memory_order_acquire);
  if (last && take_if_empty(e, last))
    return last;
  walmap__slot *slot = enter_one_of(e, e->slots, WALMAP__FIRST_SLOTS, hint + 1);
  if (slot)
    return slot;
  slot = enter_circle(e, last);
  if (!slot)
    slot = enter_new_block(e, memory);
  if (slot)
    atomic_store_explicit(&home->last, slot, memory_order_release);
  return slot;
}

static void look_for_oldest(const walmap__slot *slots, int n, uint64_t *oldest, const walmap__slot **by) {
  for (int i = 0; i < n; i++) {
    uint64_t time = atomic_load(&slots[i].time);
    walmap__yield("epoch: slot looked at");
    if (time != 0 && time < *oldest) {
      *oldest = time;
      *by = &slots[i];
    }
  }
}

/*
** Slot and time are two words, which may be of two searches: each time is good by itself (E3), whatever slot has it. No
** slot has the time 0.
*/
static uint64_t known_oldest(walmap__epoch *e, const walmap__slot **by) {
  *by = atomic_load(&e->oldest);
  uint64_t time = atomic_load(&e->oldest_time);
  return *by && atomic_load(&(*by)->time) == time ? time : 0;
}

uint64_t walmap__epoch_oldest_slot(walmap__epoch *e, const walmap__slot **by) {
  uint64_t oldest = known_oldest(e, by);
  if (oldest != 0)
    return oldest;
  uint64_t began = atomic_load(&e->now); /* E3: before any slot is looked at */
  walmap__more_slots *more = atomic_load(&e->more);
  oldest = UINT64_MAX;
  *by = NULL;
  look_for_oldest(e->slots, WALMAP__FIRST_SLOTS, &oldest, by);
  for (walmap__more_slots *block = more; block; block = block->next)
    look_for_oldest(block->slots, WALMAP__MORE_SLOTS, &oldest, by);
  /* A search of the first slots alone costs less than to tell other threads of it. */
  if (more && *by && oldest <= began) {
    atomic_store(&e->oldest_time, oldest);
    atomic_store(&e->oldest, *by);
  }
  return oldest;
}

static void add_lookups(const walmap__slot *slots, int n, uint64_t *hits, uint64_t *misses) {
  for (int i = 0; i < n; i++) {
    *hits += walmap__counted(&slots[i].lookups.hits);
    *misses += walmap__counted(&slots[i].lookups.misses);
  }
}

void walmap__epoch_add_lookups(walmap__epoch *e, uint64_t *hits, uint64_t *misses) {
  add_lookups(e->slots, WALMAP__FIRST_SLOTS, hits, misses);
  for (walmap__more_slots *block = atomic_load(&e->more); block; block = block->next)
    add_lookups(block->slots, WALMAP__MORE_SLOTS, hits, misses);
}

void walmap__retired_free(walmap__memory *memory, walmap__retired *first) {
  while (first) {
    walmap__retired *next = first->next;
    first->free(memory, first);
    first = next;
  }
}
