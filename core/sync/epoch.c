/* epoch.c - when memory may be freed (epoch.h has the argument) */
#include "sync/epoch.h"

typedef struct walmap__more_slots {
  walmap__slot slots[WALMAP__MORE_SLOTS];
  _Atomic(struct walmap__more_slots *) next;
} walmap__more_slots;

void walmap__epoch_init(walmap__epoch *e) {
  for (int i = 0; i < WALMAP__FIRST_SLOTS; i++)
    atomic_init(&e->slots[i].time, 0);
  atomic_init(&e->now, 1);
  atomic_init(&e->more, NULL);
}

void walmap__epoch_destroy(walmap__epoch *e, walmap__memory *memory) {
  walmap__more_slots *block = atomic_load(&e->more);
  while (block) {
    walmap__more_slots *next = atomic_load(&block->next);
    walmap__memory_free(memory, block, sizeof *block);
    block = next;
  }
}

static walmap__slot *enter_one_of(walmap__epoch *e, walmap__slot *slots, unsigned n, unsigned first) {
  for (unsigned i = 0; i < n; i++) {
    walmap__slot *slot = &slots[(first + i) % n];
    if (atomic_load_explicit(&slot->time, memory_order_relaxed) == 0 && walmap__slot_take(slot, e))
      return slot;
  }
  return NULL;
}

/* Blocks of slots are only ever added, so that the list can be walked without a lock. */
walmap__slot *walmap__epoch_enter_slow(walmap__epoch *e, walmap__memory *memory, unsigned hint) {
  walmap__slot *slot = enter_one_of(e, e->slots, WALMAP__FIRST_SLOTS, hint + 1);
  if (slot)
    return slot;
  _Atomic(walmap__more_slots *) *link = &e->more;
  for (;;) {
    walmap__more_slots *block = atomic_load(link);
    if (!block) {
      walmap__more_slots *fresh = walmap__memory_alloc(memory, sizeof *fresh);
      if (!fresh)
        return NULL;
      for (int i = 0; i < WALMAP__MORE_SLOTS; i++)
        atomic_init(&fresh->slots[i].time, 0);
      atomic_init(&fresh->next, NULL);
      if (atomic_compare_exchange_strong(link, &block, fresh)) {
        block = fresh;
      } else {
        walmap__memory_free(memory, fresh, sizeof *fresh); /* another thread added one: `block` is it */
      }
    }
    slot = enter_one_of(e, block->slots, WALMAP__MORE_SLOTS, 0);
    if (slot)
      return slot;
    link = &block->next;
  }
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

uint64_t walmap__epoch_oldest_slot(walmap__epoch *e, const walmap__slot **by) {
  uint64_t oldest = UINT64_MAX;
  *by = NULL;
  look_for_oldest(e->slots, WALMAP__FIRST_SLOTS, &oldest, by);
  for (walmap__more_slots *block = atomic_load(&e->more); block; block = atomic_load(&block->next))
    look_for_oldest(block->slots, WALMAP__MORE_SLOTS, &oldest, by);
  return oldest;
}

void walmap__retired_free(walmap__memory *memory, walmap__retired *first) {
  while (first) {
    walmap__retired *next = first->next;
    first->free(memory, first);
    first = next;
  }
}
