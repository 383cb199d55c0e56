/*
** bench_redis.c - the core beside Redis, the map that programs share through a server
**
**   bench_redis [quick|full]
**
** The server is started anew in each round, in a folder of its own in /dev/shm (or TMPDIR), on a socket in it, with
** nothing saved by itself; client and server have the machine to themselves. Its times hold a system call each way,
** which is the price of a server and not of its map: therefore the pipelined stats. Its SAVE and walmap's image both
** go to a file in that folder, and come back from it; the time that an empty server takes to start is taken off its
** load.
*/
#include "report.h"

#include <fcntl.h>
#include <hiredis/hiredis.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#ifdef __linux__
#include <sys/prctl.h>
#endif

#include "walmap.h"

#define OK(call) MUST((call) == WALMAP_OK)
#define AT_ONCE 16

typedef struct data {
  uint32_t n, ops; /* entries; single operations in a round */
  key *load, *look;
} data;

static char folder[200], socket_path[256], image_path[256];
static char value_buffer[LARGEST_VALUE];
static volatile uint64_t sink;

static double per(uint64_t began, uint32_t n) { return (double)(now_ns() - began) / n; }
static double ms_since(uint64_t began) { return (double)(now_ns() - began) / 1e6; }

/* ------------------------------------------------------------------------------------------------------------------ */
/* walmap                                                                                                             */

static int write_all(void *ctx, const void *bytes, size_t size) {
  return write(*(int *)ctx, bytes, size) == (ssize_t)size ? 0 : -1;
}

static ptrdiff_t read_some(void *ctx, void *buffer, size_t size) { return read(*(int *)ctx, buffer, size); }

static void walmap_to_file(report *r, walmap *map) {
  walmap_state *state;
  int file = open(image_path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
  MUST(file >= 0);
  uint64_t began = now_ns();
  OK(walmap_state_new(map, &state));
  OK(walmap_state_begin(state));
  OK(walmap_state_write(state, write_all, &file));
  walmap_state_free(state);
  MUST(close(file) == 0);
  report_sample(r, "image to a file", "walmap", ms_since(began));
}

static void walmap_from_file(report *r, const data *d) {
  walmap *copy;
  walmap_session *session;
  walmap_txn *txn;
  uint64_t entries;
  OK(walmap_open(NULL, &copy));
  OK(walmap_session_new(NULL, NULL, &session));
  OK(walmap_txn_new(copy, session, &txn));
  int file = open(image_path, O_RDONLY);
  MUST(file >= 0);
  uint64_t began = now_ns();
  walmap_txn_begin(txn);
  OK(walmap_txn_restore_read(txn, read_some, &file, NULL, NULL, &entries, NULL));
  walmap_txn_commit(txn);
  report_sample(r, "image from a file", "walmap", ms_since(began));
  MUST(entries == d->n && close(file) == 0 && unlink(image_path) == 0);
  walmap_txn_free(txn);
  walmap_session_free(session);
  walmap_close(copy);
}

static void run_walmap(report *r, const data *d) {
  walmap *map;
  walmap_state *state;
  walmap_entry entries[AT_ONCE];
  char value[LARGEST_VALUE];
  size_t len;
  uint64_t sum = 0, began = now_ns();
  OK(walmap_open(NULL, &map));
  for (uint32_t i = 0; i < d->n; i++) {
    len = value_make(SMALL, &d->load[i], 0, value_buffer);
    OK(walmap_set(map, d->load[i].text, d->load[i].len, value_buffer, len));
  }
  report_sample(r, "set, many at once", "walmap", per(began, d->n));
  report_sample(r, "memory, an entry", "walmap", (double)walmap_memory(map) / d->n);

  began = now_ns();
  for (uint32_t i = 0; i < d->ops; i++) {
    len = value_make(SMALL, &d->look[i], 1, value_buffer);
    OK(walmap_set(map, d->look[i].text, d->look[i].len, value_buffer, len));
  }
  report_sample(r, "set, one at a time", "walmap", per(began, d->ops));

  began = now_ns();
  for (uint32_t i = 0; i < d->ops; i++) {
    OK(walmap_get(map, d->look[i].text, d->look[i].len, value, sizeof value, &len));
    sum += (uint8_t)value[0];
  }
  report_sample(r, "get, one at a time", "walmap", per(began, d->ops));

  OK(walmap_state_new(map, &state));
  OK(walmap_state_begin(state));
  began = now_ns();
  for (uint32_t i = 0; i < d->n; i += AT_ONCE) {
    for (uint32_t j = 0; j < AT_ONCE; j++)
      entries[j] = (walmap_entry){.key = d->look[i + j].text, .key_len = d->look[i + j].len};
    MUST(walmap_state_get_many(state, entries, AT_ONCE) == AT_ONCE);
    for (uint32_t j = 0; j < AT_ONCE; j++)
      sum += *(const uint8_t *)entries[j].value;
  }
  report_sample(r, "get, many at once", "walmap", per(began, d->n));
  walmap_state_free(state);
  sink += sum;
  walmap_to_file(r, map);
  walmap_close(map);
  walmap_from_file(r, d);
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Redis                                                                                                              */

static pid_t server = -1;
static redisContext *client;

static void server_kill(void) {
  if (server <= 0)
    return;
  kill(server, SIGKILL);
  waitpid(server, NULL, 0);
  server = -1;
}

static redisReply *command(const char *text) {
  redisReply *reply = redisCommand(client, text);
  MUST(reply);
  return reply;
}

/* Sends it; the reply must be "OK". */
static void must_ok(const char *text) {
  redisReply *reply = command(text);
  if (reply->type != REDIS_REPLY_STATUS || strcmp(reply->str, "OK") != 0) {
    fprintf(stderr, "Redis: %s: %s\n", text, reply->str ? reply->str : "no answer");
    exit(1);
  }
  freeReplyObject(reply);
}

/* True as soon as there is a server that has loaded its file. */
static bool server_answers(void) {
  if (!client)
    client = redisConnectUnix(socket_path);
  if (!client || client->err) {
    redisFree(client);
    client = NULL;
    return false;
  }
  redisReply *reply = command("PING");
  bool ready = reply->type == REDIS_REPLY_STATUS && !strcmp(reply->str, "PONG");
  freeReplyObject(reply);
  return ready;
}

/* Starts a server that loads dump.rdb if there is one. ms until it answers. */
static double server_start(void) {
  uint64_t began = now_ns();
  fflush(NULL);
  server = fork();
  MUST(server >= 0);
  if (server == 0) {
#ifdef __linux__
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* nothing stays behind, whatever ends this process */
#endif
    execlp("redis-server", "redis-server", "--port", "0", "--unixsocket", socket_path, "--dir", folder, "--save", "",
           "--appendonly", "no", "--logfile", "log", "--daemonize", "no", (char *)NULL);
    _exit(127);
  }
  while (!server_answers()) {
    MUST(waitpid(server, NULL, WNOHANG) == 0); /* it is alive */
    usleep(200);
  }
  return ms_since(began);
}

static void server_stop(void) {
  redisFree(client);
  client = NULL;
  MUST(kill(server, SIGTERM) == 0);
  MUST(waitpid(server, NULL, 0) == server);
  server = -1;
}

/* The number behind "name:" in what INFO tells. */
static double server_info(const char *name) {
  redisReply *reply = command("INFO");
  const char *at = strstr(reply->str, name);
  MUST(at);
  double number = atof(at + strlen(name) + 1);
  freeReplyObject(reply);
  return number;
}

static void append(const char *name, const key *k, int generation) {
  const char *words[3] = {name, k->text, value_buffer};
  size_t lengths[3] = {3, k->len, 0};
  if (generation >= 0)
    lengths[2] = value_make(SMALL, k, (uint32_t)generation, value_buffer);
  MUST(redisAppendCommandArgv(client, generation >= 0 ? 3 : 2, words, lengths) == REDIS_OK);
}

static void must_reply(int type) {
  redisReply *reply;
  MUST(redisGetReply(client, (void **)&reply) == REDIS_OK && reply->type == type);
  sink += (uint64_t)*reply->str;
  freeReplyObject(reply);
}

/* SET if `generation` isn't negative, else GET, so many before their replies are read. ns a key. */
static double run_keys(const key *keys, uint32_t n, int generation, uint32_t at_once) {
  uint64_t began = now_ns();
  for (uint32_t i = 0; i < n; i += at_once) {
    for (uint32_t j = 0; j < at_once; j++)
      append(generation >= 0 ? "SET" : "GET", &keys[i + j], generation);
    for (uint32_t j = 0; j < at_once; j++)
      must_reply(generation >= 0 ? REDIS_REPLY_STATUS : REDIS_REPLY_STRING);
  }
  return per(began, n);
}

static void run_redis(report *r, const data *d) {
  double empty = server_start(), memory = server_info("used_memory");
  report_sample(r, "set, many at once", "Redis", run_keys(d->load, d->n, 0, AT_ONCE));
  report_sample(r, "memory, an entry", "Redis", (server_info("used_memory") - memory) / d->n);
  report_sample(r, "set, one at a time", "Redis", run_keys(d->look, d->ops, 1, 1));
  report_sample(r, "get, one at a time", "Redis", run_keys(d->look, d->ops, -1, 1));
  report_sample(r, "get, many at once", "Redis", run_keys(d->look, d->n, -1, AT_ONCE));

  uint64_t began = now_ns();
  must_ok("SAVE");
  report_sample(r, "image to a file", "Redis SAVE", ms_since(began));
  began = now_ns();
  freeReplyObject(command("BGSAVE"));
  while (server_info("rdb_bgsave_in_progress") > 0)
    usleep(500);
  report_sample(r, "image to a file", "Redis BGSAVE", ms_since(began));
  server_stop();
  double load = server_start() - empty;
  report_sample(r, "image from a file", "Redis", load);
  redisReply *reply = command("DBSIZE");
  MUST(reply->integer == (long long)d->n);
  freeReplyObject(reply);
  server_stop();
}

static void clear_folder(void) {
  static const char *const names[] = {"dump.rdb", "log", "socket"};
  char path[256];
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
    snprintf(path, sizeof path, "%s/%s", folder, names[i]);
    unlink(path);
  }
}

static void clean_up(void) {
  server_kill();
  clear_folder();
  unlink(image_path);
  rmdir(folder);
}

/* ------------------------------------------------------------------------------------------------------------------ */

/* The version that the installed server tells; false when there is none. */
static bool server_version(char text[32]) {
  FILE *out = popen("redis-server --version 2>/dev/null", "r");
  char line[256] = "";
  bool there = out && fgets(line, sizeof line, out) && sscanf(line, "Redis server v=%31s", text) == 1;
  if (out)
    pclose(out);
  return there;
}

int main(int argc, char **argv) {
  const char *what = argc > 1 ? argv[1] : "full", *place = getenv("TMPDIR");
  bool full = !strcmp(what, "full");
  char version[32], versions[128];
  MUST(full || !strcmp(what, "quick"));
  if (!server_version(version)) {
    printf("bench_redis: skipped, for there is no redis-server (Debian's package of that name)\n");
    return 0;
  }
  if (access("/dev/shm", W_OK) == 0)
    place = "/dev/shm";
  snprintf(folder, sizeof folder, "%.100s/walmap-bench-%ld", place ? place : "/tmp", (long)getpid());
  snprintf(socket_path, sizeof socket_path, "%s/socket", folder);
  snprintf(image_path, sizeof image_path, "%s/image", folder);
  MUST(mkdir(folder, 0700) == 0);
  MUST(atexit(clean_up) == 0);
  snprintf(versions, sizeof versions, "walmap %s, Redis %s", walmap_version(), version);
  report *r = report_open("bench_redis", versions);

  data d = {.n = full ? 500000 : 50000, .ops = full ? 50000 : 10000};
  uint32_t *order = order_shuffled(d.n, 1);
  d.load = keys_make(SMALL, order, d.n, 0);
  free(order);
  order = order_shuffled(d.n, 2);
  d.look = keys_make(SMALL, order, d.n, 0);
  free(order);
  report_title(r, "small, %u entries", d.n);
  for (int round = 0; round <= 5; round++) {
    for (int turn = 0; turn < 2; turn++)
      (turn_of(round, turn, 2) == 0 ? run_walmap : run_redis)(r, &d);
    clear_folder();
  }
  report_row(r, "get, one at a time", "ns", "Redis", NO_TARGET, 0);
  report_row(r, "get, many at once", "ns", "Redis", NO_TARGET, 0);
  report_row(r, "set, one at a time", "ns", "Redis", NO_TARGET, 0);
  report_row(r, "set, many at once", "ns", "Redis", NO_TARGET, 0);
  report_row(r, "image to a file", "ms", "Redis SAVE", NO_TARGET, 0);
  report_row(r, "image to a file", "ms", "Redis BGSAVE", NO_TARGET, 0);
  report_row(r, "image from a file", "ms", "Redis", NO_TARGET, 0);
  report_row(r, "memory, an entry", "bytes", "Redis", NO_TARGET, 0);
  report_close(r);
  free(d.load);
  free(d.look);
  return 0;
}
