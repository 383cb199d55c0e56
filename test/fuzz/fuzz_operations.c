/*
** fuzz_operations.c - attacks: the promises of walmap.h hold for any sequence of calls, against a model
**
** An input is the shape of the map, four bytes, bounds among them, and then what is done, a few bytes a call
** (test/common/model_world.h): single operations, two transactions with savepoints, states held open, images and
** streams of them, restore, changes for a follower, compaction. After each call the model's invariants hold, and
** walmap_verify finds nothing. TRACE=1 prints the calls.
*/
#define KEYS 24
#include "../common/model_states.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  enum { SHAPE = 4, LONG_VALUES = 12000 };
  static const uint32_t shards[] = {1, 2, 16}, auto_compact[] = {0, 10, 50}, huge_one_in[] = {0, 0, 0, 50};
  if (size < SHAPE)
    return 0;
  static const struct {
    uint64_t max_entries, max_bytes; /* of a shard */
    bool error_when_full;
  } bounds[] = {
      {0}, {8, 0, false}, {1, 0, false}, {8, 0, true}, {0, 65536, false}, {12, 65536, false}, {0, 65536, true}};
  walmap_options options = world_options(shards[data[0] % 3], auto_compact[data[1] % 3], data[2] & 1, 1);
  unsigned bound = (data[2] >> 1) % (sizeof bounds / sizeof *bounds);
  options.max_entries = bounds[bound].max_entries;
  options.max_bytes = bounds[bound].max_bytes * options.shards;
  options.error_when_full = bounds[bound].error_when_full;
  if (options.max_bytes != 0 && options.auto_compact == 0)
    options.auto_compact = 1;
  world *w = world_new(options, huge_one_in[data[3] % 4], 1);
  w->u->lengths = options.max_bytes != 0 ? LONG_VALUES : 0;
  w->input = data + SHAPE;
  w->input_end = data + size;
  while (w->input < w->input_end)
    world_step(w);
  world_free(w);
  return 0;
}
