/*
** epoch.h - when memory may be freed
**
** A reader announces itself in a slot before it looks at anything that can be unlinked, and clears the slot when it is
** done. A slot belongs to the call or the state that set it, not to a thread: threads register nothing, and a state may
** end in another thread than the one that began it.
**
** The clock `now` counts up. To retire memory: (1) publish the unlink; (2) t = clock++; (3) free it once every active
** reader's time is greater than t. Readers whose time is at most t may still see the memory; readers that begin later
** cannot find it.
**
** Why (E1): let W unlink x, then advance the clock from t to t+1 (seq_cst), then read slot s as empty (seq_cst); let R
** then announce itself in s (seq_cst) and then read the clock (seq_cst). In the total order of seq_cst operations R's
** read comes after W's advance, so R reads t+1 or later, which makes everything that W did before the advance visible
** to R: R does not find x. If W reads R's slot as set instead, W sees R's time. R may have taken that time from the
** clock before it was preempted, so the time can be too old, never too new: then memory is kept for longer than needed.
**
** The same holds for every store that W made before, even a plain release store such as a commit point: R's read of the
** clock takes its value from W's change of the clock, or from a later one. For that W need not advance the clock; it is
** enough to add 0 to it before W reads the slots (walmap__epoch_now). A load of the clock is not enough: the slots
** could then be read before other threads see the store, and W could miss a reader that does not see the store either.
**
** A search that began at the time B, and found T as the oldest time, tells all threads of it if T <= B (E3): what was
** retired at a time t < T was then unlinked, and the clock advanced to t+1, before the search read B, and so before it
** read any slot; by E1, readers that it has missed do not find it. That stays so. While the slot in which T was found
** still has T, a new search would find no later time, so the slots need not be looked at again: else each write beside
** thousands of open states would look at all of them. Where T > B, only the thread that searched may use T, for what it
** retired itself before it searched: a reader may have come at the time B to a slot that was looked at already, and
** something that this reader sees may have been retired at B since, by a thread that did not search.
*/
#ifndef WALMAP_EPOCH_H
#define WALMAP_EPOCH_H

#include <stdatomic.h>

#include "base/compiler.h"
#include "base/counter.h"
#include "base/memory.h"
#include "base/yield.h"

#define WALMAP__FIRST_SLOTS 16
#define WALMAP__MORE_SLOTS 64

struct walmap__more_slots;

/* One reader, in a cache line of its own, so that readers on different CPUs do not disturb each other. 0 is empty. */
typedef struct walmap__slot {
  _Alignas(64) _Atomic uint64_t time;
  _Atomic(struct walmap__slot *) last; /* of a first slot: what was taken last when this one was not free; NULL: none */
  struct walmap__more_slots *block;    /* of any other: where it is */
  walmap__lookups lookups;             /* of all readers that had the slot; the one that has it counts */
} walmap__slot;
_Static_assert(sizeof(walmap__slot) == 64, "a read stores to no line but its slot's");

typedef struct walmap__epoch {
  walmap__slot slots[WALMAP__FIRST_SLOTS];
  _Alignas(64) _Atomic uint64_t now;
  _Atomic(struct walmap__more_slots *) more;
  _Alignas(64) _Atomic(const walmap__slot *) oldest; /* what the last search found, if there are more slots; or NULL */
  _Atomic uint64_t oldest_time;
} walmap__epoch;

void walmap__epoch_init(walmap__epoch *epoch);
void walmap__epoch_destroy(walmap__epoch *epoch, walmap__memory *memory);

/* For walmap__epoch_enter, when the slot that the hint led to is taken. */
walmap__slot *walmap__epoch_enter_slow(walmap__epoch *epoch, walmap__memory *memory, unsigned hint);

/*
** Announces a reader in this slot; false when the slot is taken. It does not load the slot first: a load of the word
** that the last read has just stored makes this read wait for that one, and then their cache misses do not overlap.
*/
static inline bool walmap__slot_take(walmap__slot *slot, walmap__epoch *epoch) {
  uint64_t empty = 0, now = atomic_load_explicit(&epoch->now, memory_order_relaxed);
  walmap__yield("epoch: time read");
  if (!atomic_compare_exchange_strong(&slot->time, &empty, now))
    return false;
  walmap__yield("epoch: announced");
  (void)atomic_load(&epoch->now); /* E1 */
  return true;
}

/*
** Announces a reader. NULL only when there are more readers than slots and memory is out. The address of the thread's
** stack spreads threads over the slots.
*/
static inline walmap__slot *walmap__epoch_enter(walmap__epoch *epoch, walmap__memory *memory) {
  uint64_t stack = (uint64_t)(uintptr_t)&epoch;
  unsigned hint = (unsigned)(((stack >> 12) * UINT64_C(0x9E3779B97F4A7C15)) >> 60);
  walmap__slot *slot = &epoch->slots[hint % WALMAP__FIRST_SLOTS];
  return WALMAP__LIKELY(walmap__slot_take(slot, epoch)) ? slot : walmap__epoch_enter_slow(epoch, memory, hint);
}

static inline void walmap__epoch_leave(walmap__slot *slot) {
  walmap__yield("epoch: leaving");
  atomic_store_explicit(&slot->time, 0, memory_order_release);
}

/* Advances the clock. Returns the time before. */
static inline uint64_t walmap__epoch_advance(walmap__epoch *epoch) { return atomic_fetch_add(&epoch->now, 1); }

/*
** Returns the time t, to be called before the slots are read: readers that are then not found, or are found with a time
** greater than t, see every store that the caller has made (E1).
*/
static inline uint64_t walmap__epoch_now(walmap__epoch *epoch) { return atomic_fetch_add(&epoch->now, 0); }

/* Adds the lookups that were counted in all slots. */
void walmap__epoch_add_lookups(walmap__epoch *epoch, uint64_t *hits, uint64_t *misses);

/*
** The oldest announced time, and the slot that has it; UINT64_MAX and NULL without readers. The caller may free what it
** retired at an earlier time before the call. Readers that do not see this may be missed (E1, E3).
*/
uint64_t walmap__epoch_oldest_slot(walmap__epoch *epoch, const walmap__slot **slot);

static inline uint64_t walmap__epoch_oldest(walmap__epoch *epoch) {
  const walmap__slot *slot;
  return walmap__epoch_oldest_slot(epoch, &slot);
}

/*
** Whether a slot that had the oldest time still keeps what died, or was unlinked, at this time: then all slots need not
** be looked at. Slots live as long as the epoch. NULL: there was none.
*/
static inline bool walmap__slot_still_holds(const walmap__slot *slot, uint64_t time) {
  uint64_t announced = slot ? atomic_load(&slot->time) : 0;
  return announced != 0 && announced <= time;
}

/* The head of memory that is freed later; the first member of its struct. */
typedef struct walmap__retired {
  struct walmap__retired *next;
  void (*free)(walmap__memory *memory, struct walmap__retired *self);
} walmap__retired;

/* Frees a list of retired memory that no reader can see any more. */
void walmap__retired_free(walmap__memory *memory, walmap__retired *first);

#endif
