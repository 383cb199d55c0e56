/*
** test_races.c - every order of two operations, one held at each named point (core/base/yield.h) while the other runs
**
** Which windows there are need not be known: for each pair of operations the first is held at its 1st, 2nd, 3rd ...
** point, the second runs, whole or up to one of its own points, and then both go on. What the two were told, and what
** the map holds afterwards, must be as if one had run before the other (C1 to C4, C6; linearizability of two operations
** by trying all). Freed memory is spoilt in these builds, so that a reader that is still in it does not read what it
** should.
**
** SCHEDULES=n holds each operation n times at each point that it passes, SEED=n chooses which times.
*/
#include "../common/held_thread.h"
#include "race_operations.h"

static uint64_t the_seed;

/* ------------------------------------------------------------------------------------------------------------------ */
/* Points: their names, and how often each was passed                                                                 */

#define MOST_POINTS 128

typedef struct points {
  struct {
    const char *name;
    uint32_t times;
  } list[MOST_POINTS];
  uint32_t n;
} points;

/* Where it is in the list; n: nowhere. */
static uint32_t find_point(const points *p, const char *name) {
  uint32_t i = 0;
  while (i < p->n && strcmp(p->list[i].name, name) != 0)
    i++;
  return i;
}

static bool was_passed(const points *p, const char *name) { return find_point(p, name) < p->n; }

static void note(points *p, const char *name) {
  uint32_t i = find_point(p, name);
  MUST(i < MOST_POINTS);
  if (i == p->n)
    p->list[p->n++].name = name;
  p->list[i].times++;
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
  MUST(!ORDERED || (walk(state, true) == print && walk(state, false) == print));
  walmap_state_free(state);
  MUST(walmap_len(map) == n);
  MUST_OK(walmap_verify(map, NULL, NULL));
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
  if (p->actor.point)
    note(&held_at, p->actor.point); /* else it waits for the other */
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

/* Holds the first, then the second, then lets the first go on before the second. Notes what the second passed. */
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
  actor_finish_both(&first.actor, &second.actor);
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
** Each point of the first at the first time, the last, and times between; and as many schedules in which both are held
** at any of their points.
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

static void play_with(const scene *s, const operation *reader) {
  for
    EACH(writer, writers) {
      play_pair(s, reader, writer, false);
      play_pair(s, writer, reader, false);
    }
}

/* Of ordered maps only what concerns the tree: the rest is as it is without. */
static void play_scene(const scene *s) {
  schedules = 0;
  for
    EACH(walk, walks) {
      if (ORDERED)
        play_with(s, walk);
    }
  for
    EACH(reader, readers) {
      if (!ORDERED)
        play_with(s, reader);
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

static void leaf(void **unused) {
  (void)unused;
  play_scene(&leaf_scene);
}

static void halfway(void **unused) {
  (void)unused;
  play_scene(&scenes[2]);
}

static void expiring(void **unused) {
  (void)unused;
  play_scene(&scenes[3]);
}

/* Operations whose evictions are the same in each order: those that write to shard 0. */
static void bounded(void **unused) {
  (void)unused;
  for
    EACH(writer, evicters) {
      for
        EACH(reader, readers) {
          play_pair(&bounded_scene, reader, writer, false);
          play_pair(&bounded_scene, writer, reader, false);
        }
      for
        EACH(other, evicters)
      play_pair(&bounded_scene, writer, other, true);
    }
}

static void expired(void **unused) {
  (void)unused;
  play_scene(&scenes[4]);
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Waiters: no release is missed (C5)                                                                                 */

static walmap *open_waiting(void) {
  walmap_options options;
  options_init(&options);
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
  static const char *const points[][2] = {{"lock: will queue", NULL},
                                          {"lock: looked in vain", NULL},
                                          {"lock: will sleep", NULL},
                                          {NULL, "lock: releasing"},
                                          {NULL, "lock: released"}};
  for (unsigned i = 0; i < sizeof points / sizeof *points * 8; i++) {
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

/* ------------------------------------------------------------------------------------------------------------------ */
/* walmap_wait: no commit is missed (W1)                                                                              */

static void *wait_since;
static size_t wait_since_size;

static uint64_t wait_for_commit(walmap *map) {
  enum { VERY_LONG = 600000 };
  void *position;
  size_t size;
  int result = walmap_wait(map, wait_since, wait_since_size, VERY_LONG, NULL, NULL, &position, &size, NULL);
  if (result == WALMAP_OK) {
    MUST(size == wait_since_size && memcmp(position, wait_since, size) != 0);
    walmap_image_free(position);
  }
  return (uint64_t)result;
}

static const operation waits_for_commit = {"wait", wait_for_commit};

/* As no_release_is_missed: a commit that is missed lets the waiter wait for ten minutes. */
static void no_commit_is_missed(void **unused) {
  (void)unused;
  static const char *const points[][2] = {
      {"wait: counted", NULL}, {NULL, "commit point: not stored"}, {NULL, "lock: releasing"}, {NULL, "lock: released"}};
  static const operation singly = {"set hot", set_hot}, together = {"commit", commit};
  for (unsigned i = 0; i < sizeof points / sizeof *points * 16; i++) {
    const char *waiter = points[i / 16][0], *writer = points[i / 16][1];
    walmap *map = open_waiting();
    walmap_state *state = begin_state(map);
    MUST_OK(walmap_state_position(state, &wait_since, &wait_since_size));
    walmap_state_free(state);
    player *held = waiter ? &first : &second, *runs = waiter ? &second : &first;
    first.map = second.map = map;
    first.operation = &waits_for_commit;
    second.operation = i % 2 ? &singly : &together;
    MUST(start(held, 1, waiter ? waiter : writer));
    actor_set_task(&runs->actor, play, runs, NEVER_HELD, NULL);
    actor_post(&runs->actor);
    sleep_ms(i % 8);
    actor_finish(&held->actor);
    MUST(!actor_await(&runs->actor));
    MUST(first.told == WALMAP_OK && second.told == WALMAP_OK);
    walmap_image_free(wait_since);
    walmap_close(map);
  }
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Maintenance of a shard, by the writer of another, is no reason to fail for a writer of that shard (C5)             */

static uint32_t key_of_shard(walmap *map, uint32_t shard) {
  uint32_t key = 0;
  while (walmap__shard_number(map, walmap_hash(map, &key, sizeof key)) != shard)
    key++;
  return key;
}

static uint64_t set_in_shard(walmap *map, uint32_t shard, int times) {
  uint32_t key = key_of_shard(map, shard);
  int result = WALMAP_OK;
  for (int i = 0; i < times && result == WALMAP_OK; i++)
    result = walmap_set(map, &key, sizeof key, "x", 1);
  return (uint64_t)result;
}

static uint64_t set_in_first(walmap *map) { return set_in_shard(map, 0, 16); } /* tends the second, which expires */
static uint64_t set_in_second(walmap *map) { return set_in_shard(map, 1, 1); }

static void not_busy_with_maintenance(void **unused) {
  (void)unused;
  static const operation tends = {"set 16 times", set_in_first}, writes = {"set", set_in_second};
  walmap_options options;
  walmap_options_init(&options);
  options.shards = 2;
  options.busy_timeout = 0;
  walmap *map;
  MUST_OK(walmap_open(&options, &map));
  uint32_t key = key_of_shard(map, 1);
  MUST_OK(walmap_set_expiring(map, &key, sizeof key, "x", 1, walmap_clock(map) + 1000000));
  first.map = second.map = map;
  first.operation = &tends;
  second.operation = &writes;
  MUST(start(&first, 1, "maintenance: of another shard"));
  MUST(start(&second, NEVER_HELD, NULL)); /* it waits */
  actor_finish(&first.actor);
  actor_finish(&second.actor);
  MUST(first.told == WALMAP_OK && second.told == WALMAP_OK);
  walmap_close(map);
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* A successor is undone, and then its record is moved, while a scan has the one and not yet the other (K1)           */

static const char next_read[] = "scan: next read";
static void *beginning; /* the position of a map to which nothing was written */
static size_t beginning_size;

static void note_beginning(walmap *map) {
  walmap_state *state = begin_state(map);
  walmap_image_free(beginning);
  MUST_OK(walmap_state_position(state, &beginning, &beginning_size));
  walmap_state_free(state);
}

static void build_quarter_and_note(walmap *map) {
  note_beginning(map);
  build_quarter(map);
}

/* All that was written since the beginning, applied to an empty map. */
static uint64_t take_changes(walmap *map) {
  walmap_state *state = begin_state(map);
  void *changes;
  size_t size;
  MUST_OK(walmap_state_changes(state, beginning, beginning_size, &changes, &size, NULL));
  walmap_state_free(state);
  walmap *copy;
  walmap_session *session;
  walmap_txn *txn;
  MUST_OK(walmap_open(NULL, &copy));
  MUST_OK(walmap_session_new(NULL, NULL, &session));
  MUST_OK(walmap_txn_new(copy, session, &txn));
  walmap_txn_begin(txn);
  MUST_OK(walmap_txn_apply(txn, changes, size, NULL, NULL, NULL, NULL));
  walmap_txn_commit(txn);
  walmap_txn_free(txn);
  walmap_session_free(session);
  walmap_image_free(changes);
  uint64_t print = scan_once(copy);
  walmap_close(copy);
  return print;
}

/* Whether the key's newest record lies in the run of the job, and is not copied yet. */
static bool is_to_be_copied(const walmap *map, uint32_t key) {
  const walmap__generation *g = walmap__shard_generation(&map->shards[0]);
  walmap__slot_ref slot;
  walmap__version v = walmap__index_find(&g->index, hash(&key, 4, 0), &key, 4, false, &slot);
  const walmap__segment *s = g->job.at;
  if (!s)
    return false;
  uint64_t from = s->first_lsn + (g->job.offset >> 2);
  uint64_t to = g->job.last->first_lsn + (walmap__segment_used(g->job.last) >> 2);
  return v.lsn >= from && v.lsn < to && walmap__log_entry(&g->log, v.address)->segment != g->job.copy;
}

/* Begins a transaction that overwrites what is to be copied: enough for its end to pay for it. *one: such a key. */
static walmap_txn *overwrite_what_is_to_be_copied(walmap *map, walmap_session *session, uint32_t *one) {
  walmap_txn *txn;
  uint32_t n = 0;
  uint64_t value = 500;
  MUST_OK(walmap_txn_new(map, session, &txn));
  walmap_txn_begin(txn);
  for (uint32_t i = 0; i < MOST_KEYS; i += STAYING) {
    uint32_t key = HOT + i * SHARDS;
    if (is_to_be_copied(map, key)) {
      MUST_OK(walmap_txn_remove(txn, &key, 4));
      MUST_OK(walmap_txn_set(txn, &key, 4, &value, 8));
      *one = n++ == 0 ? key : *one;
    }
  }
  MUST(n >= 8);
  walmap_txn_savepoint(txn, 0); /* nothing is deferred any more */
  return txn;
}

/* The reader is held at its nth look at a `next`: whether it came to that. */
static bool undo_and_move_beside(const operation *reader, long nth, bool rest) {
  walmap *map = open_scene(&(scene){"quarter", build_quarter_and_note});
  walmap_session *session;
  MUST_OK(walmap_session_new(NULL, NULL, &session));
  uint32_t one = 0;
  walmap_txn *txn = overwrite_what_is_to_be_copied(map, session, &one);
  uint64_t before = scan_once(map);
  first.map = map;
  first.operation = reader;
  bool is_held = start(&first, nth, next_read);
  walmap_txn_free(txn); /* rolls back, and goes on with the job, as every transaction does that wrote so much */
  MUST(!is_to_be_copied(map, one));
  if (rest)
    MUST_OK(walmap_compact(map, NULL));
  actor_finish(&first.actor);
  if (first.told != before) {
    fprintf(stderr, "\"%s\" held at \"%s\" %ld beside a rollback: not what the state was\n", reader->name, next_read,
            nth);
    abort();
  }
  walmap_session_free(session);
  walmap_close(map);
  return is_held;
}

/* Looks that a walk may need as far as the run's end: at most two a record. */
static long looks_needed(void) {
  walmap *map = open_scene(&(scene){"quarter", build_quarter});
  const walmap__generation *g = walmap__shard_generation(&map->shards[0]);
  const walmap__segment *s = atomic_load(&g->log.first);
  long records = 0;
  for (; s != g->job.last; s = atomic_load(&s->next))
    records += (long)atomic_load(&s->records);
  records += (long)atomic_load(&s->records);
  walmap_close(map);
  return 2 * records;
}

static void undone_and_moved(void **unused) {
  (void)unused;
  static const operation ways[] = {{"scan", scan_once}, {"take image", take_image}, {"take changes", take_changes}};
  long step = 1 + looks_needed() * SLOWDOWN / 300;
  for (unsigned i = 0; i < 6; i++) {
    long n = 1 + (long)(the_seed % (uint64_t)step);
    for (; n <= looks_needed() && undo_and_move_beside(&ways[i / 2], n, i % 2); n += step) {
    }
    MUST(n > step);
  }
}

/* A point at which no actor was ever held tests nothing. Only a run of all schedules can tell, so it comes last. */
static void all_points_were_met(void **unused) {
  (void)unused;
  FILE *names = popen("sed -n 's/.*walmap__yield(\"\\([^\"]*\\)\").*/\\1/p' core/*/*.[ch] | sort -u", "r");
  assert_non_null(names);
  char name[100];
  int all = 0, missed = 0;
  while (fgets(name, sizeof name, names)) {
    name[strcspn(name, "\n")] = 0;
    if ((strncmp(name, "order", 5) == 0) != ORDERED || is_wait(name))
      continue; /* it is for the other test, or only another operation stops there */
    all++;
    bool met = was_passed(&held_at, name);
    if (!met)
      printf("  no actor was held at \"%s\"\n", name);
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
#if ORDERED
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(leaf),
      cmocka_unit_test(small),
      cmocka_unit_test(halfway),
      cmocka_unit_test(all_points_were_met),
  };
  (void)full, (void)bounded, (void)expiring, (void)expired, (void)no_release_is_missed, (void)no_commit_is_missed,
      (void)not_busy_with_maintenance, (void)undone_and_moved;
#else
  (void)leaf;
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(small),
      cmocka_unit_test(full),
      cmocka_unit_test(halfway),
      cmocka_unit_test(expiring),
      cmocka_unit_test(expired),
      cmocka_unit_test(bounded),
      cmocka_unit_test(no_release_is_missed),
      cmocka_unit_test(no_commit_is_missed),
      cmocka_unit_test(not_busy_with_maintenance),
      cmocka_unit_test(undone_and_moved),
      cmocka_unit_test(all_points_were_met),
  };
#endif
  int failed = cmocka_run_group_tests(tests, NULL, NULL);
  actor_dismiss(&first.actor);
  actor_dismiss(&second.actor);
  walmap_image_free(small_image);
  walmap_image_free(beginning);
  return failed;
}
