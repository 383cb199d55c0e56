/*
** test_races.c - every order of two operations, one held at each named point (core/yield.h) while the other runs
**
** Which windows there are need not be known: for each pair of operations the first is held at its 1st, 2nd, 3rd ...
** point, the second runs, whole or up to one of its own points, and then both go on. What the two were told, and what
** the map holds afterwards, must be as if one had run before the other (C1 to C4, C6; linearizability of two operations
** by trying all). Freed memory is spoilt in these builds, so that a reader who still is in it does not read what it
** should.
**
** SCHEDULES=n holds each operation n times at each point that it passes, SEED=n chooses which times.
*/
#include "held.h"
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
  static const char *const points[][2] = {{"owner: will queue", NULL},
                                          {"owner: looked in vain", NULL},
                                          {"owner: will sleep", NULL},
                                          {NULL, "owner: releasing"},
                                          {NULL, "owner: released"}};
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
