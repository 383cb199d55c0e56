/*
** fuzz_operations.c - attacks: the promises of walmap.h hold for any sequence of calls, against a model
**
** An input is the shape of the map, four bytes, and then what is done, a few bytes a call (test/common/model_world.h):
** single operations, two transactions with savepoints, states held open, images and streams of them, restore, changes
** for a follower, compaction. After each call the model's invariants hold, and walmap_verify finds nothing.
** TRACE=1 prints the calls.
*/
#define KEYS 24
#include "../common/model_states.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  enum { SHAPE = 4 };
  static const uint32_t shards[] = {1, 2, 16}, auto_compact[] = {0, 10, 50}, huge_one_in[] = {0, 0, 0, 50};
  if (size < SHAPE)
    return 0;
  walmap_options options = world_options(shards[data[0] % 3], auto_compact[data[1] % 3], data[2] & 1, 1);
  world *w = world_new(options, huge_one_in[data[3] % 4], 1);
  w->input = data + SHAPE;
  w->input_end = data + size;
  while (w->input < w->input_end)
    world_step(w);
  world_free(w);
  return 0;
}
