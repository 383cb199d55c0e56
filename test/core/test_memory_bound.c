/*
** test_memory_bound.c - memory that grows under endless overwrite, beside readers that come and go; and what a reader
** that is forgotten keeps, which must go with it
*/
#include "../common/thread_load.h"

typedef struct flood {
  walmap *map;
  atomic_bool stop;
  atomic_ullong writes, scans;
  uint32_t keys;
  size_t value_len;
} flood;

static void *run_overwriter(void *arg) {
  flood *f = arg;
  uint64_t random = seed_of_thread();
  char value[512];
  memset(value, 'v', sizeof value);
  while (!atomic_load(&f->stop)) {
    for (int i = 0; i < 256; i++) {
      uint32_t key = random_below(&random, f->keys);
      MUST_OK(walmap_set(f->map, &key, 4, value, f->value_len));
    }
    atomic_fetch_add(&f->writes, 256);
  }
  return NULL;
}

/* Comes and goes: holds a state as long as a scan takes, then rests. */
static void *run_scanner(void *arg) {
  flood *f = arg;
  walmap_state *state;
  MUST_OK(walmap_state_new(f->map, &state));
  while (!atomic_load(&f->stop)) {
    walmap_cursor cursor;
    walmap_entry entry;
    uint32_t count = 0;
    MUST_OK(walmap_state_begin(state));
    for (walmap_cursor_start(&cursor, state); walmap_cursor_next(&cursor, &entry);)
      count++;
    walmap_state_end(state);
    MUST(count == f->keys);
    atomic_fetch_add(&f->scans, 1);
    sleep_ms(2);
  }
  walmap_state_free(state);
  return NULL;
}

static void flood_of(uint32_t keys, size_t value_len, int writers, int readers, double limit) {
  flood f = {.map = open_map(16, VERY_LONG_MS), .keys = keys, .value_len = value_len};
  char value[512];
  pthread_t threads[8];
  int n = 0;
  memset(value, 'v', sizeof value);
  for (uint32_t key = 0; key < keys; key++)
    MUST_OK(walmap_set(f.map, &key, 4, value, value_len));
  uint64_t loaded = walmap_memory(f.map), most = loaded;
  for (int i = 0; i < writers; i++)
    threads[n++] = start(run_overwriter, &f);
  for (int i = 0; i < readers; i++)
    threads[n++] = start(run_scanner, &f);
  for (uint64_t until = now_ns() + load_ns(); now_ns() < until;) {
    uint64_t memory = walmap_memory(f.map);
    if (memory > most)
      most = memory;
    sleep_ms(1);
  }
  atomic_store(&f.stop, true);
  for (int i = 0; i < n; i++)
    join(threads[i]);
  /* A reader that the machine stops in the middle of a scan holds what dies meanwhile; afterwards that has to go. */
  for (uint32_t i = 0; i < 10 * keys; i++) {
    uint32_t key = i % keys;
    MUST_OK(walmap_set(f.map, &key, 4, value, value_len));
  }
  uint64_t after = walmap_memory(f.map);
  printf("  %6u keys of %3zu bytes, %d writers, %d readers: overwritten %6.1f times, %5llu scans, memory at most %.2f "
         "times that after loading, %.2f afterwards (limit %.1f)\n",
         keys, value_len, writers, readers, (double)f.writes / keys, f.scans, (double)most / (double)loaded,
         (double)after / (double)loaded, limit);
  uint64_t grain = 4 << 20; /* memory is held in regions of 2 MiB, and two more may be partly used */
  uint64_t judged = readers ? after : most;
  MUST((double)judged <= limit * (double)loaded + (double)grain);
  MUST(walmap_len(f.map) == keys);
  walmap_close(f.map);
}

static void memory_is_bounded(void **unused) {
  (void)unused;
  flood_of(20000, 100, 1, 0, 2.0);
  flood_of(20000, 8, 1, 0, 2.0);
  flood_of(20000, 100, 2, 0, 2.0);
  flood_of(20000, 100, 2, 2, 4.0);
  flood_of(2000, 500, 2, 2, 4.0);
}

/* A reader that is forgotten holds memory only as long as it is there. */
static void forgotten_reader(void **unused) {
  (void)unused;
  flood f = {.map = open_map(16, VERY_LONG_MS), .keys = 40000, .value_len = 100};
  walmap_state *state;
  char value[512] = {0};
  for (uint32_t key = 0; key < f.keys; key++)
    MUST_OK(walmap_set(f.map, &key, 4, value, f.value_len));
  uint64_t loaded = walmap_memory(f.map);
  MUST_OK(walmap_state_new(f.map, &state));
  MUST_OK(walmap_state_begin(state));
  for (uint32_t i = 0; i < 20 * f.keys; i++) {
    uint32_t key = i % f.keys;
    MUST_OK(walmap_set(f.map, &key, 4, value, f.value_len));
  }
  uint64_t held = walmap_memory(f.map);
  walmap_state_free(state);
  for (uint32_t i = 0; i < 10 * f.keys; i++) {
    uint32_t key = i % f.keys;
    MUST_OK(walmap_set(f.map, &key, 4, value, f.value_len));
  }
  uint64_t by_itself = walmap_memory(f.map);
  MUST_OK(walmap_compact(f.map, NULL));
  uint64_t compacted = walmap_memory(f.map);
  printf(
      "  memory: %llu KiB loaded, %llu with a forgotten reader, %llu when all was written 10 times after its end, %llu "
      "compacted\n",
      (unsigned long long)loaded / 1024, (unsigned long long)held / 1024, (unsigned long long)by_itself / 1024,
      (unsigned long long)compacted / 1024);
  uint64_t grain =
      4u << 20; /* memory goes back in blocks of 2 MiB, so with so little data two of them count for nothing */
  MUST(by_itself <= 4 * loaded + grain);
  MUST(compacted <= 2 * loaded + grain);
  MUST(held > 2 * (4 * loaded + grain)); /* or the reader would not have held anything */
  walmap_close(f.map);
}

int main(void) {
  the_seed = announce_seed("test_memory_bound");
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(memory_is_bounded),
      cmocka_unit_test(forgotten_reader),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
