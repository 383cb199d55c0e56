/*
** cluster.c - a durable table in a cluster: dqlite, three processes on this machine (D4, D5)
**
** The cluster commits a transaction when a majority of its nodes has it; then it survives the loss of the others. Each
** node has the database file in its memory and walmap on its connections, but only the leader runs SQL: the others
** apply pages, below walmap's feet. Every change is made to a durable table kv and to an ordinary one n alike.
**
** Looked for, after each of the following: kv that is not n, on the node that leads now, whichever that is; a change
** that was acknowledged and is lost; one that was refused, or of which nothing is known, and is there in half.
**
**    the leadership is handed to each node in turn                      each has applied pages that it did not write
**    the leader is killed while clients write                           another one takes over
**    it comes back, and leads again                                     its map is from the log on its disk
**    the others are down while the leader commits                       no client sees a change without a majority, nor
**                                                                       one that the next leader does not have
**    a node falls so far behind that it is sent a snapshot
**    all are killed at once, and started again
**
** Usage: cluster NODE     the program that is one node (node.c)
** Environment: SEED; WALMAP_SO is the extension
*/
#define _GNU_SOURCE

#include "client.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

/* s: for an election, and for a node to catch up */
enum { NODES = 3, PATIENCE = 15, CATCH_UP = 45 };

typedef struct node {
  uint64_t id;
  int port;
  char address[24], folder[80];
  pid_t process; /* 0: it is not running */
  bool stopped;
} node;

static node nodes[NODES];
static const char *program, *extension;
static char folder[64];
static uint64_t state;
static long passed, failures;
static int64_t next_change; /* number of the next change; each is a row of its own as well */

static int pick(int n) { /* splitmix64 */
  uint64_t z = state += 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return (int)((z ^ (z >> 31)) % (uint64_t)n);
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void pause_ms(int ms) {
  const struct timespec t = {ms / 1000, ms % 1000 * 1000000L};
  nanosleep(&t, NULL);
}

static void check(bool fine, const char *format, ...) {
  va_list args;
  passed += fine;
  failures += !fine;
  if (fine)
    return;
  va_start(args, format);
  printf("FAILED: ");
  vprintf(format, args);
  printf("\n");
  va_end(args);
}

static void give_up(const char *what, const char *why) {
  printf("cannot go on: %s: %s\n", what, why);
  exit(2);
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Nodes                                                                                                              */

static int free_port(void) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t size = sizeof address;
  int s = socket(AF_INET, SOCK_STREAM, 0);
  if (bind(s, (struct sockaddr *)&address, size) != 0 || getsockname(s, (struct sockaddr *)&address, &size) != 0)
    give_up("port", "none is free");
  close(s);
  return ntohs(address.sin_port);
}

static void start_node(node *n) {
  char id[24], log[120];
  snprintf(id, sizeof id, "%d", (int)n->id);
  snprintf(log, sizeof log, "%s/node%s.log", folder, id);
  fflush(NULL);
  n->process = fork();
  if (n->process != 0)
    return;
  int out = open(log, O_WRONLY | O_CREAT | O_APPEND, 0600);
  dup2(out, 1);
  dup2(out, 2);
  execl(program, program, id, n->address, n->folder, extension, (char *)NULL);
  _exit(127);
}

static void signal_node(node *n, int signal) {
  if (n->process == 0)
    return;
  kill(n->process, signal);
  n->stopped = signal == SIGSTOP;
  if (signal == SIGKILL) {
    waitpid(n->process, NULL, 0);
    n->process = 0;
  }
}

/* A node that ends by itself has crashed, which would look like one that was killed. */
static void check_running(void) {
  for (int i = 0; i < NODES; i++) {
    if (nodes[i].process != 0 && waitpid(nodes[i].process, NULL, WNOHANG) != 0) {
      check(false, "node %d has ended by itself", i + 1);
      nodes[i].process = 0;
    }
  }
}

/* The node that says that it leads itself, and lets the database be opened. */
static node *find_leader(client *c) {
  for (double end = now() + PATIENCE; now() < end; pause_ms(50)) {
    check_running();
    for (int i = 0; i < NODES; i++) {
      uint64_t id = 0;
      if (nodes[i].process == 0 || nodes[i].stopped || client_connect(c, nodes[i].port, PATIENCE) != 0)
        continue;
      if (client_leader(c, &id) == 0 && id == nodes[i].id && client_open(c, "data") == 0)
        return &nodes[i];
      client_close(c);
    }
  }
  give_up("leader", "there is none");
  return NULL;
}

/*
** dqlite's leader may wait for half a minute for a node that it has sent a snapshot to, and send nothing else. Another
** leader begins anew with that node, so where the handing over fails, the leadership takes a way round.
*/
static void lead(node *n) {
  client c = {-1, ""};
  for (double end = now() + CATCH_UP; now() < end; pause_ms(100)) {
    node *leader = find_leader(&c);
    if (leader != n && client_transfer(&c, n->id) != 0)
      client_transfer(&c, NODES * (NODES + 1) / 2 - n->id - leader->id); /* the third one */
    client_close(&c);
    if (leader == n)
      return;
  }
  give_up("the leadership cannot be handed over", c.error);
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Changes                                                                                                            */

/* A transaction that changes kv and n alike. Its number, which is returned, is in a row of its own in both then. */
static int64_t make_sql(char *sql, size_t size) {
  int key = pick(300), other = pick(300), length = pick(200);
  long long id = next_change++;
  snprintf(
      sql, size,
      "BEGIN IMMEDIATE;"
      "INSERT INTO kv VALUES('change' || %lld, %lld); INSERT INTO n VALUES('change' || %lld, %lld);"
      "REPLACE INTO kv VALUES(%d, %lld || hex(zeroblob(%d))); REPLACE INTO n VALUES(%d, %lld || hex(zeroblob(%d)));"
      "UPDATE kv SET value = key || value WHERE key = %d; UPDATE n SET value = key || value WHERE key = %d;"
      "DELETE FROM kv WHERE key = %d; DELETE FROM n WHERE key = %d;"
      "COMMIT",
      id, id, id, id, key, id, length, key, id, length, other, other, other + 1, other + 1);
  return id;
}

/* 0, an error of dqlite's, or CLIENT_LOST. */
static int change(client *c, int64_t *id) {
  char sql[900];
  *id = make_sql(sql, sizeof sql);
  int code = client_exec(c, sql);
  if (code != 0 && code != CLIENT_LOST)
    client_exec(c, "ROLLBACK");
  return code;
}

/* What a client knows of its changes. */
typedef struct fates {
  int64_t acknowledged[4000];
  int n, refused, unknown;
} fates;
static fates made;

/* So many changes, by a client that looks for the leader again when it has lost it; `meanwhile` in the middle. */
static void make_changes(int n, void (*meanwhile)(void)) {
  client c;
  find_leader(&c);
  for (int i = 0; i < n; i++) {
    int64_t id;
    int code = change(&c, &id);
    if (code == 0)
      made.acknowledged[made.n++ % 4000] = id;
    else if (code == CLIENT_NOT_LEADER)
      made.refused++;
    else
      made.unknown++;
    if (code != 0) {
      client_close(&c);
      find_leader(&c);
    }
    if (i == n / 2 && meanwhile != NULL)
      meanwhile();
  }
  client_close(&c);
}

static int64_t ask(client *c, const char *sql) {
  int64_t number = -1;
  int code = client_number(c, sql, &number);
  if (code != 0)
    check(false, "%s: error %d: %s", sql, code, c->error);
  return number;
}

#define DIFFERENCES                                                                                                    \
  "SELECT (SELECT count(*) FROM (SELECT * FROM kv EXCEPT SELECT * FROM n)) + "                                         \
  "(SELECT count(*) FROM (SELECT * FROM n EXCEPT SELECT * FROM kv))"

/* On the node that leads now. */
static void check_equal(const char *when) {
  client c;
  char sql[200];
  node *leader = find_leader(&c);
  int64_t rows = ask(&c, "SELECT count(*) FROM n");
  check(ask(&c, DIFFERENCES) == 0, "%s: node %d: kv is not n", when, (int)leader->id);
  check(rows >= made.n && rows == ask(&c, "SELECT count(*) FROM kv"), "%s: node %d: rows", when, (int)leader->id);
  check(ask(&c, "SELECT count(*) FROM n WHERE walmap_get('kv', key) IS value") == rows, "%s: node %d: walmap_get", when,
        (int)leader->id);
  check(ask(&c, "SELECT count(*) FROM pragma_integrity_check WHERE integrity_check = 'ok'") == 1,
        "%s: node %d: integrity_check", when, (int)leader->id);
  int lost = 0;
  for (int i = 0; i < made.n && i < 4000; i++) {
    snprintf(sql, sizeof sql, "SELECT count(*) FROM kv WHERE key = 'change' || %lld", (long long)made.acknowledged[i]);
    lost += i % 7 == made.n % 7 && ask(&c, sql) != 1; /* one in seven, and others the next time */
  }
  check(lost == 0, "%s: node %d: %d acknowledged changes are lost", when, (int)leader->id, lost);
  client_close(&c);
  check_running();
}

static void check_each_node(const char *when) {
  for (int i = 0; i < NODES; i++) {
    lead(&nodes[i]);
    check_equal(when);
  }
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* What happens to the cluster                                                                                        */

static void begin(void) {
  client c;
  for (int i = 0; i < NODES; i++) {
    node *n = &nodes[i];
    n->id = (uint64_t)i + 1;
    n->port = free_port();
    snprintf(n->address, sizeof n->address, "127.0.0.1:%d", n->port);
    snprintf(n->folder, sizeof n->folder, "%s/%d", folder, i + 1);
    mkdir(n->folder, 0700);
    start_node(n);
    if (i == 0)
      find_leader(&c);
    else if (client_add(&c, n->id, n->address) != 0)
      give_up("a node joins", c.error);
  }
  if (client_exec(&c, "CREATE VIRTUAL TABLE kv USING walmap(durable=1);"
                      "CREATE TABLE n(key PRIMARY KEY NOT NULL, value) WITHOUT ROWID") != 0)
    give_up("CREATE", c.error);
  client_close(&c);
}

static node *victim;

static void kill_leader(void) {
  client c;
  victim = find_leader(&c);
  client_close(&c);
  signal_node(victim, SIGKILL);
}

static void replaced_leader(void) {
  make_changes(300, kill_leader);
  check_equal("the leader was killed");
  start_node(victim);
  lead(victim);
  make_changes(50, NULL);
  check_equal("the killed one leads again");
}

static void signal_others(const node *one, int signal) {
  for (int i = 0; i < NODES; i++) {
    if (&nodes[i] != one)
      signal_node(&nodes[i], signal);
  }
}

/* Another client of the leader looks while the change waits for a majority. */
static void look_meanwhile(client *other, const char *sql) {
  int looks = 0;
  int64_t seen = 0, differences = 0;
  for (double end = now() + PATIENCE; now() < end; looks++) { /* until the node notices that it leads no more */
    if (client_number(other, sql, &seen) != 0 || client_number(other, DIFFERENCES, &differences) != 0)
      break;
    check(seen == 0 && differences == 0, "a change without a majority was seen");
  }
  check(looks > 0, "the leader could not be asked");
}

/*
** The leader commits, and no other node hears of it, for they are killed: what is sent to one that only stands still
** reaches it when it goes on. xCommit has put the change into the leader's map, but no client may see it. Then another
** node leads, and makes other changes; and the first one leads again.
*/
static void without_majority(void) {
  client c, other;
  char change_sql[900], sql[100];
  node *leader = find_leader(&c);
  client_connect(&other, leader->port, PATIENCE);
  client_open(&other, "data");
  ask(&other, DIFFERENCES);
  signal_others(leader, SIGKILL);
  int64_t id = make_sql(change_sql, sizeof change_sql);
  snprintf(sql, sizeof sql, "SELECT count(*) FROM kv WHERE key = 'change' || %lld", (long long)id);
  client_start(&c, change_sql);
  look_meanwhile(&other, sql);
  check(client_finish(&c) != 0, "a commit without a majority was acknowledged");
  client_close(&other);
  client_close(&c);

  signal_node(leader, SIGSTOP);
  for (int i = 0; i < NODES; i++) {
    if (&nodes[i] != leader)
      start_node(&nodes[i]);
  }
  find_leader(&c);
  check(ask(&c, sql) == 0, "the change was to be lost with the leadership");
  client_close(&c);
  make_changes(1, NULL);
  signal_node(leader, SIGCONT);
  lead(leader);
  find_leader(&c);
  check(ask(&c, sql) == 0, "a change that was lost is there again");
  client_close(&c);
  check_equal("the leadership came back");
  make_changes(20, NULL);
  check_each_node("no majority");
}

/* Newest entry that a node's folder has a snapshot of. */
static long snapshot_of(const node *n) {
  DIR *d = opendir(n->folder);
  struct dirent *e;
  long newest = 0, term, entry;
  while (d != NULL && (e = readdir(d)) != NULL) {
    if (sscanf(e->d_name, "snapshot-%ld-%ld-", &term, &entry) == 2 && entry > newest)
      newest = entry;
  }
  if (d != NULL)
    closedir(d);
  return newest;
}

static void fallen_behind(void) {
  client c;
  node *leader = find_leader(&c), *behind = &nodes[leader == &nodes[0]];
  client_close(&c);
  signal_node(behind, SIGKILL);
  long had = snapshot_of(behind);
  make_changes(800, NULL);
  long old = snapshot_of(leader);
  check(old > had, "the leader has made no snapshot");
  start_node(behind);
  for (double end = now() + PATIENCE; now() < end && snapshot_of(behind) <= had; pause_ms(100))
    continue;
  check(snapshot_of(behind) > had, "the node that fell behind was sent no snapshot");
  lead(behind);
  make_changes(20, NULL);
  check_equal("from a snapshot");
}

static void all_killed(void) {
  for (int i = 0; i < NODES; i++)
    signal_node(&nodes[i], SIGKILL);
  for (int i = 0; i < NODES; i++)
    start_node(&nodes[i]);
  check_equal("all were killed");
  make_changes(50, NULL);
  check_each_node("all were killed, and more was written");
}

static void end(void) {
  char command[120];
  for (int i = 0; i < NODES; i++)
    signal_node(&nodes[i], SIGKILL);
  snprintf(command, sizeof command, failures > 0 ? "tail -n 5 %s/*.log" : "rm -rf %s", folder);
  if (system(command) != 0)
    printf("%s stays\n", folder);
}

int main(int argc, char **argv) {
  const char *seed = getenv("SEED");
  program = argc > 1 ? argv[1] : "build/test/cluster/node";
  extension = getenv("WALMAP_SO") != NULL ? getenv("WALMAP_SO") : "./walmap.so";
  state = seed != NULL ? strtoull(seed, NULL, 10) : (uint64_t)time(NULL);
  printf("cluster: seed %llu (repeat with SEED=)\n", (unsigned long long)state);
  snprintf(folder, sizeof folder, "/tmp/walmap-cluster-XXXXXX");
  if (mkdtemp(folder) == NULL)
    give_up("folder", "cannot be made");
  begin();
  make_changes(200, NULL);
  check_each_node("handed over");
  replaced_leader();
  without_majority();
  fallen_behind();
  all_killed();
  end();
  printf("%d changes acknowledged, %d refused, of %d nothing was known\n", made.n, made.refused, made.unknown);
  printf("%ld passed, %ld failed\n", passed, failures);
  return failures != 0;
}
