/*
** test_races.c - every order of two operations, one held at each named point (core/yield.h) while the other runs past it
**
** Which windows there are need not be known: for each pair of operations the first is held at its 1st, 2nd, 3rd ... point,
** the second runs, whole or up to one of its own points, and then both go on. What the two were told, and what the map
** holds afterwards, must be as if one had run before the other (C1 to C4, C6; linearizability of two operations by
** trying all). Freed memory is spoilt in these builds, so that a reader who still is in it does not read what it should.
**
** SCHEDULES=n holds each operation n times at each point that it passes, SEED=n chooses which times.
*/
#include "held.h"

#include "map.h"

#define SHARDS 4
#define HOT 0u          /* present, in shard 0 */
#define NEAR 1u         /* present, in shard 1 */
#define FAR 2u          /* absent, in shard 2, to which nothing was ever written */
#define FRESH 16000u    /* absent, in shard 0 */
#define USED_SLOT 33u   /* absent, in shard 1 */
#define REPEATED 160u   /* sets after which readers are looked at again (shard.c) */
#define MOST_KEYS 2000u /* of a scene */

static uint64_t the_seed;

/* ------------------------------------------------------------------------------------------------------------------ */
/* Scenes: what the map holds before                                                                                  */

/* Shards by the key's last two bits; three tags only, so that searches meet many candidates. */
static uint64_t hash(const void *key, size_t key_len, uint64_t seed) {
  uint32_t n;
  MUST(key_len == sizeof n && seed == 0);
  memcpy(&n, key, sizeof n);
  return (uint64_t)(n % SHARDS) << 62 | (mix(n) >> 2 & ~(uint64_t)0xFF) | (1 + n / SHARDS % 3);
}

static void put(walmap *map, uint32_t key, uint64_t value) { MUST_OK(walmap_set(map, &key, 4, &value, 8)); }

/*
** Shard 0 has no room for another key in its one bucket; shard 1 has a slot that was used before, by a record whose memory
** is free; shard 3 holds a tombstone.
*/
static void build_small(walmap *map) {
  uint32_t gone = NEAR + 20 * SHARDS;
  put(map, gone, 0);
  MUST_OK(walmap_remove(map, &gone, 4));
  MUST_OK(walmap_compact(map, NULL));
  MUST(walmap_size(map) == 0);
  for (uint32_t i = 0; i < 10; i++)
    put(map, HOT + i * SHARDS, i);
  put(map, NEAR, 7);
  uint32_t removed = 3;
  put(map, removed, 1);
  MUST_OK(walmap_remove(map, &removed, 4));
}

/* The next key in shard 0 splits a subtable and doubles the directory. */
static void build_full(walmap *map) {
  for (uint32_t i = 0; i < 1229; i++)
    put(map, HOT + i * SHARDS, i);
  put(map, NEAR, 7);
}

/* Compaction of shard 0 has copied some of a run; and there are deaths, known to all now, that are to be folded. */
static void build_halfway(walmap *map) {
  for (uint32_t i = 0; i < MOST_KEYS; i++)
    put(map, HOT + i * SHARDS, i);
  put(map, NEAR, 7);
  walmap_state *state;
  MUST_OK(walmap_state_new(map, &state));
  const walmap__job *job = NULL;
  for (uint32_t i = 0; !job || !job->first || job->offset == 0; i++) {
    MUST(i < 2 * MOST_KEYS);
    put(map, HOT + i * 3 % MOST_KEYS * SHARDS, i);
    job = &walmap__shard_generation(&map->shards[0])->job;
  }
  MUST(job->copy != NULL);
  MUST_OK(walmap_state_begin(state));
  for (uint32_t i = 1; i < 100; i++) {
    uint32_t key = HOT + i * 7 * SHARDS;
    if (i % 2) {
      MUST_OK(walmap_remove(map, &key, 4));
    } else {
      put(map, key, i);
    }
  }
  walmap_state_free(state);
}

typedef struct scene {
  const char *name;
  void (*build)(walmap *map);
} scene;

static const scene scenes[] = {{"small", build_small}, {"full", build_full}, {"halfway", build_halfway}};

static walmap *open_scene(const scene *s) {
  walmap_options options;
  walmap_options_init(&options);
  options.shards = SHARDS;
  options.first_segment = 256;
  options.auto_compact = 30;
  options.busy_timeout = 0;
  options.hash = hash;
  options.seed_given = true;
  walmap *map;
  MUST_OK(walmap_open(&options, &map));
  s->build(map);
  return map;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* What is seen, as one number                                                                                        */

static uint64_t print_of(uint32_t key, uint64_t value) { return mix((uint64_t)key << 32 ^ mix(value + 1)); }

static uint64_t print_of_entry(const walmap_entry *e) {
  uint32_t key;
  uint64_t value;
  MUST(e->key_len == sizeof key && e->value_len == sizeof value);
  memcpy(&key, e->key, sizeof key);
  memcpy(&value, e->value, sizeof value);
  return print_of(key, value);
}

static uint64_t scan(walmap_state *state, uint64_t *n) {
  uint64_t print = 0;
  walmap_cursor cursor;
  walmap_entry entry;
  *n = 0;
  for (walmap_cursor_start(&cursor, state); walmap_cursor_next(&cursor, &entry); ++*n)
    print += print_of_entry(&entry);
  return print + *n;
}

static uint64_t image_print(walmap_state *state) {
  void *image;
  size_t size;
  walmap_image_reader reader;
  walmap_entry entry;
  walmap_why why;
  MUST_OK(walmap_state_image(state, &image, &size));
  MUST_OK(walmap_image_open(&reader, image, size, &why));
  uint64_t print = reader.entries;
  while (walmap_image_next(&reader, &entry, &why) == WALMAP_OK)
    print += print_of_entry(&entry);
  walmap_image_free(image);
  return print;
}

static uint64_t by_key(walmap_state *state, uint32_t key) {
  walmap_entry entry;
  int result = walmap_state_get(state, &key, 4, &entry);
  return result == WALMAP_OK ? print_of_entry(&entry) : (uint64_t)result;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Operations: each is one step to the others, and returns what it was told                                           */

static walmap_state *begin_state(walmap *map) {
  walmap_state *state;
  MUST_OK(walmap_state_new(map, &state));
  MUST_OK(walmap_state_begin(state));
  return state;
}

static uint64_t get(walmap *map, uint32_t key) {
  uint64_t value;
  size_t len;
  int result = walmap_get(map, &key, 4, &value, sizeof value, &len);
  return result == WALMAP_OK ? print_of(key, value) : (uint64_t)result;
}

static uint64_t get_hot(walmap *map) { return get(map, HOT); }
static uint64_t get_fresh(walmap *map) { return get(map, FRESH); }

static uint64_t get_used_slot(walmap *map) { return get(map, USED_SLOT); }

static uint64_t read_len(walmap *map) { return walmap_len(map); }

/* All ways to read a state must show the same, however much is written meanwhile (C2). */
static uint64_t read_state(walmap *map) {
  static const uint32_t keys[] = {HOT, NEAR, FAR, FRESH, HOT + 20, HOT + 28, 3};
  enum { KEYS = sizeof keys / sizeof *keys };
  walmap_state *state = begin_state(map);
  uint64_t before[KEYS], n, n_again;
  for (unsigned i = 0; i < KEYS; i++)
    before[i] = by_key(state, keys[i]);
  uint64_t print = scan(state, &n);
  walmap_entry entries[KEYS];
  for (unsigned i = 0; i < KEYS; i++)
    entries[i] = (walmap_entry){.key = &keys[i], .key_len = 4};
  walmap_state_get_many(state, entries, KEYS);
  for (unsigned i = 0; i < KEYS; i++) {
    MUST(by_key(state, keys[i]) == before[i]);
    MUST((entries[i].key ? print_of_entry(&entries[i]) : WALMAP_NOTFOUND) == before[i]);
  }
  MUST(scan(state, &n_again) == print && n_again == n);
  walmap_state_free(state);
  return print;
}

static uint64_t take_image(walmap *map) {
  walmap_state *state = begin_state(map);
  uint64_t n, print = image_print(state);
  MUST(scan(state, &n) == print);
  walmap_state_free(state);
  return print;
}

static uint64_t set(walmap *map, uint32_t key, uint64_t value) { return (uint64_t)walmap_set(map, &key, 4, &value, 8); }

static uint64_t set_hot(walmap *map) { return set(map, HOT, 100); }
static uint64_t set_fresh(walmap *map) { return set(map, FRESH, 100); }

static uint64_t set_used_slot(walmap *map) { return set(map, USED_SLOT, 100); }

static uint64_t remove_hot(walmap *map) {
  uint32_t key = HOT;
  return (uint64_t)walmap_remove(map, &key, 4);
}

static bool is_zero(void *ctx, const void *value, size_t value_len) {
  (void)ctx;
  uint64_t zero = 0;
  return value_len == sizeof zero && memcmp(value, &zero, sizeof zero) == 0;
}

static uint64_t compare_and_set(walmap *map) {
  uint32_t key = HOT;
  uint64_t value = 200;
  bool done = false;
  int result = walmap_set_if(map, &key, 4, &value, 8, is_zero, NULL, &done);
  return result == WALMAP_OK ? 100 + (uint64_t)done : (uint64_t)result;
}

static int keep(void *ctx, const void *old, size_t old_len, const void **value, size_t *value_len) {
  (void)ctx;
  *value = old;
  *value_len = old_len;
  return old ? WALMAP_OK : WALMAP_NOTFOUND;
}

/* One change, and then much that changes nothing but has old things folded, compacted and freed. */
static uint64_t set_and_tidy(walmap *map) {
  uint64_t result = set(map, HOT, 300);
  for (uint32_t i = 0; i < REPEATED; i++) {
    uint32_t key = HOT + (1 + i % 9) * SHARDS;
    (void)walmap_upsert(map, &key, 4, keep, NULL);
  }
  return result;
}

static uint64_t compact(walmap *map) { return (uint64_t)walmap_compact(map, NULL); }

typedef enum ending { COMMITTED, ROLLED_BACK, PARTLY_ROLLED_BACK } ending;

/* In three shards, one of which holds nothing before. */
static uint64_t transaction(walmap *map, ending how) {
  static const uint32_t keys[] = {HOT, NEAR, FAR, FRESH};
  walmap_session *session;
  walmap_txn *txn;
  uint64_t value = 400;
  MUST_OK(walmap_session_new(NULL, NULL, &session));
  MUST_OK(walmap_txn_new(map, session, &txn));
  walmap_txn_begin(txn);
  int result = WALMAP_OK;
  for (unsigned i = 0; i < 4 && result == WALMAP_OK; i++)
    result = walmap_txn_set(txn, &keys[i], 4, &value, 8);
  if (result == WALMAP_OK && how == PARTLY_ROLLED_BACK) {
    walmap_txn_savepoint(txn, 0);
    MUST_OK(walmap_txn_remove(txn, &keys[0], 4));
    MUST_OK(walmap_txn_remove(txn, &keys[3], 4));
    MUST_OK(walmap_txn_set(txn, &keys[0], 4, &value, 8));
    walmap_txn_rollback_to(txn, 0);
  }
  if (result != WALMAP_OK || how == ROLLED_BACK) {
    walmap_txn_rollback(txn);
  } else {
    walmap_txn_commit(txn);
  }
  walmap_txn_free(txn);
  walmap_session_free(session);
  return (uint64_t)result;
}

static uint64_t commit(walmap *map) { return transaction(map, COMMITTED); }
static uint64_t roll_back(walmap *map) { return transaction(map, ROLLED_BACK); }
static uint64_t roll_back_partly(walmap *map) { return transaction(map, PARTLY_ROLLED_BACK); }

static void *small_image;
static size_t small_image_size;

static uint64_t restore(walmap *map) {
  return (uint64_t)walmap_restore(map, small_image, small_image_size, NULL, NULL);
}

typedef struct operation {
  const char *name;
  uint64_t (*run)(walmap *map);
} operation;

static const operation readers[] = {
    {"get hot", get_hot},       {"get fresh", get_fresh},   {"len", read_len}, {"get used slot", get_used_slot},
    {"read state", read_state}, {"take image", take_image},
};
static const operation writers[] = {
    {"set hot", set_hot},
    {"set fresh", set_fresh},
    {"set used slot", set_used_slot},
    {"remove hot", remove_hot},
    {"compare and set", compare_and_set},
    {"set and tidy", set_and_tidy},
    {"compact", compact},
    {"commit", commit},
    {"roll back", roll_back},
    {"restore", restore},
    {"roll back partly", roll_back_partly},
};

/* ------------------------------------------------------------------------------------------------------------------ */
/* Points: their names, and how often each was passed                                                                 */

#define MOST_POINTS 128

typedef struct points {
  struct {
    const char *name;
    uint32_t times;
  } list[MOST_POINTS];
  uint32_t n, all;
} points;

static void note(points *p, const char *name) {
  uint32_t i = 0;
  while (i < p->n && strcmp(p->list[i].name, name) != 0)
    i++;
  MUST(i < MOST_POINTS);
  if (i == p->n)
    p->list[p->n++].name = name;
  p->list[i].times++;
  p->all++;
}

static bool was_passed(const points *p, const char *name) {
  uint32_t i = 0;
  while (i < p->n && strcmp(p->list[i].name, name) != 0)
    i++;
  return i < p->n;
}

static points held_at, passed; /* by all so far; by one operation */

static void note_passed(const char *name) { note(&passed, name); }

/* ------------------------------------------------------------------------------------------------------------------ */
/* One schedule                                                                                                       */

typedef struct player {
  actor actor;
  walmap *map;
  const operation *operation;
  uint64_t told;
} player;

static void play(void *arg) {
  player *p = arg;
  p->told = p->operation->run(p->map);
}

typedef struct outcome {
  uint64_t first, second, after;
} outcome;

static bool same_outcome(const outcome *a, const outcome *b) {
  return a->first == b->first && a->second == b->second && a->after == b->after;
}

/* What the map holds at the end, by all ways to ask; and all that is dead can be freed now. */
static uint64_t content(walmap *map) {
  uint64_t n, print = read_state(map);
  walmap_state *state = begin_state(map);
  MUST(scan(state, &n) == print && image_print(state) == print);
  walmap_state_free(state);
  MUST(walmap_len(map) == n);
  MUST_OK(walmap_compact(map, NULL));
  MUST(read_state(map) == print && walmap_len(map) == n);
  MUST(walmap_reclaimable(map) == 0);
  return print;
}

static player first, second;
static unsigned long long schedules;

/* Runs it until it is held or has ended: whether it is held. */
static bool start(player *p, long nth, const char *at) {
  actor_set_task(&p->actor, play, p, nth, at);
  actor_post(&p->actor);
  if (!actor_await(&p->actor))
    return false;
  note(&held_at, p->actor.point);
  return true;
}

typedef struct pair {
  const scene *scene;
  const operation *first, *second;
  outcome legal[4];
  unsigned n_legal;
  points points[2]; /* that each passes when it runs alone */
} pair;

static void note_legal(pair *p, outcome o) { p->legal[p->n_legal++] = o; }

/* One after the other, in both orders; and of two writers one may find the other in its way, and change nothing. */
static void find_legal(pair *p, bool both_write) {
  p->n_legal = 0;
  for (int swapped = 0; swapped < 2; swapped++) {
    for (int refused = 0; refused <= both_write; refused++) {
      outcome o;
      walmap *map = open_scene(p->scene);
      uint64_t *one = swapped ? &o.second : &o.first, *other = swapped ? &o.first : &o.second;
      *one = (swapped ? p->second : p->first)->run(map);
      *other = refused ? WALMAP_BUSY : (swapped ? p->first : p->second)->run(map);
      o.after = content(map);
      walmap_close(map);
      note_legal(p, o);
    }
  }
}

/* Where one is held: the nth time at a point of this name, NULL: the nth point; nth NEVER_HELD: nowhere. */
typedef struct stop {
  const char *at;
  long nth;
} stop;

/* Holds the first, then the second, then lets the first go on before the second. Notes what the second passed till then. */
static void play_schedule(const pair *p, stop one, stop other) {
  walmap *map = open_scene(p->scene);
  first.map = second.map = map;
  first.operation = p->first;
  second.operation = p->second;
  start(&first, one.nth, one.at);
  passed = (points){.n = 0};
  second.actor.pass = note_passed;
  start(&second, other.nth, other.at);
  second.actor.pass = NULL;
  actor_finish(&first.actor);
  actor_finish(&second.actor);
  schedules++;
  outcome o = {first.told, second.told, content(map)};
  walmap_close(map);
  for (unsigned k = 0; k < p->n_legal; k++) {
    if (same_outcome(&o, &p->legal[k]))
      return;
  }
  fprintf(stderr, "scene %s: \"%s\" held at \"%s\" %ld beside \"%s\" held at \"%s\" %ld: no order gives that\n",
          p->scene->name, p->first->name, first.actor.point ? first.actor.point : "-", one.nth, p->second->name,
          second.actor.point ? second.actor.point : "-", other.nth);
  fprintf(stderr, "told %llx and %llx, content %llx\n", (unsigned long long)o.first, (unsigned long long)o.second,
          (unsigned long long)o.after);
  for (unsigned k = 0; k < p->n_legal; k++) {
    fprintf(stderr, "  allowed: %llx and %llx, content %llx\n", (unsigned long long)p->legal[k].first,
            (unsigned long long)p->legal[k].second, (unsigned long long)p->legal[k].after);
  }
  abort();
}

static points points_of(const scene *s, const operation *o) {
  passed = (points){.n = 0};
  first.map = open_scene(s);
  first.operation = o;
  first.actor.pass = note_passed;
  MUST(!start(&first, NEVER_HELD, NULL));
  first.actor.pass = NULL;
  walmap_close(first.map);
  return passed;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* All schedules                                                                                                      */

static const stop nowhere = {NULL, NEVER_HELD};

static stop random_stop(const points *p, uint64_t *random) {
  uint32_t i = random_below(random, p->n);
  return (stop){p->list[i].name, 1 + random_below(random, p->list[i].times)};
}

/* The first held there, the second whole, and then held at each point that it passes only beside the first. */
static void play_beside(const pair *p, stop one) {
  play_schedule(p, one, nowhere);
  points beside = passed;
  for (uint32_t i = 0; i < beside.n; i++) {
    if (!was_passed(&p->points[1], beside.list[i].name))
      play_schedule(p, one, (stop){beside.list[i].name, 1});
  }
}

/*
** Each point of the first at the first time, the last, and times between; and as many schedules in which both are held at
** any of their points.
*/
static void play_pair(const scene *s, const operation *one, const operation *other, bool both_write) {
  static uint64_t random;
  long most = (long)env_number("SCHEDULES", both_write || SLOWDOWN > 1 ? 1 : 2);
  pair p = {.scene = s, .first = one, .second = other, .points = {points_of(s, one), points_of(s, other)}};
  find_legal(&p, both_write);
  random ^= the_seed;
  for (uint32_t i = 0; i < p.points[0].n; i++) {
    uint32_t times = p.points[0].list[i].times;
    const char *name = p.points[0].list[i].name;
    for (long n = 0; n < most && n < times; n++) {
      play_beside(&p, (stop){name, n == 0 ? 1 : n == 1 ? times : 1 + random_below(&random, times)});
      play_schedule(&p, random_stop(&p.points[0], &random), random_stop(&p.points[1], &random));
    }
  }
}

#define EACH(item, array) (const operation *item = (array); item < (array) + sizeof(array) / sizeof *(array); item++)

static void play_scene(const scene *s) {
  schedules = 0;
  for
    EACH(reader, readers) {
    for
      EACH(writer, writers) {
        play_pair(s, reader, writer, false);
        play_pair(s, writer, reader, false);
      }
    }
  for
    EACH(writer, writers) {
    for
      EACH(other, writers)
    play_pair(s, writer, other, true);
    }
  printf("  %llu schedules\n", schedules);
}

static void small(void **unused) {
  (void)unused;
  play_scene(&scenes[0]);
}

static void full(void **unused) {
  (void)unused;
  play_scene(&scenes[1]);
}

static void halfway(void **unused) {
  (void)unused;
  play_scene(&scenes[2]);
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Waiters: no release is missed (C5)                                                                                 */

static walmap *open_waiting(void) {
  walmap_options options;
  walmap_options_init(&options);
  options.shards = SHARDS;
  options.busy_timeout = 600000;
  options.hash = hash;
  options.seed_given = true;
  walmap *map;
  MUST_OK(walmap_open(&options, &map));
  return map;
}

static uint64_t commit_begun(walmap *map);
static const operation end_of_transaction = {"commit", commit_begun}, waits = {"set hot", set_hot};
static walmap_txn *begun;

static uint64_t commit_begun(walmap *map) {
  (void)map;
  walmap_txn_commit(begun);
  return 0;
}

/* One waits for what the other owns; each is held at one of these points, while the other goes as far as it can. */
static void no_release_is_missed(void **unused) {
  (void)unused;
  static const char *const points[][2] = {
      {"owner: will queue", NULL}, {"owner: will sleep", NULL}, {NULL, "owner: releasing"}, {NULL, "owner: released"}};
  for (unsigned i = 0; i < 4 * 8; i++) {
    const char *waiter = points[i / 8][0], *owner = points[i / 8][1];
    walmap *map = open_waiting();
    walmap_session *session;
    uint32_t key = HOT;
    uint64_t value = 1;
    MUST_OK(walmap_session_new(NULL, NULL, &session));
    MUST_OK(walmap_txn_new(map, session, &begun));
    walmap_txn_begin(begun);
    MUST_OK(walmap_txn_set(begun, &key, 4, &value, 8));
    player *held = waiter ? &first : &second, *runs = waiter ? &second : &first;
    first.map = second.map = map;
    first.operation = &waits;
    second.operation = &end_of_transaction;
    MUST(start(held, 1, waiter ? waiter : owner));
    actor_set_task(&runs->actor, play, runs, NEVER_HELD, NULL);
    actor_post(&runs->actor);
    sleep_ms(i % 8);
    actor_finish(&held->actor);
    MUST(!actor_await(&runs->actor));
    MUST(first.told == WALMAP_OK && get(map, HOT) == print_of(HOT, 100));
    walmap_txn_free(begun);
    walmap_session_free(session);
    walmap_close(map);
  }
}

/* A point that nobody was ever held at looks for nothing. Only a test of all schedules can say so, so it comes last. */
static void all_points_were_met(void **unused) {
  (void)unused;
  FILE *names = popen("sed -n 's/.*walmap__yield(\"\\([^\"]*\\)\").*/\\1/p' core/*.[ch] | sort -u", "r");
  assert_non_null(names);
  char name[100];
  int all = 0, missed = 0;
  for (; fgets(name, sizeof name, names); all++) {
    name[strcspn(name, "\n")] = 0;
    bool met = was_passed(&held_at, name);
    if (!met)
      printf("  nobody was held at \"%s\"\n", name);
    missed += !met;
  }
  pclose(names);
  assert_true(all > 0);
  assert_int_equal(missed, 0);
}

int main(void) {
  the_seed = announce_seed("test_races");
  walmap *map = open_scene(&scenes[0]);
  MUST_OK(walmap_snapshot(map, &small_image, &small_image_size));
  walmap_close(map);
  atomic_store(&walmap__yield_hook, hold_here);
  actor_hire(&first.actor);
  actor_hire(&second.actor);
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(small),
      cmocka_unit_test(full),
      cmocka_unit_test(halfway),
      cmocka_unit_test(no_release_is_missed),
      cmocka_unit_test(all_points_were_met),
  };
  int failed = cmocka_run_group_tests(tests, NULL, NULL);
  actor_dismiss(&first.actor);
  actor_dismiss(&second.actor);
  walmap_image_free(small_image);
  return failed;
}
