/*
** node.c - one node of a dqlite cluster, with walmap on each of its connections
**
** Usage: node ID ADDRESS FOLDER EXTENSION     runs until it is killed; node 1 of a new FOLDER begins a cluster
*/
#define _GNU_SOURCE

#include <dlfcn.h>
#include <dqlite.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>

/* ms; log entries: so many that only a node that is far behind is sent a snapshot */
enum { LATENCY = 40, SNAPSHOT_AFTER = 128, ENTRIES_KEPT = 512 };

static int quit(const char *what, const char *why) {
  fprintf(stderr, "node: %s: %s\n", what, why);
  return 1;
}

int main(int argc, char **argv) {
  dqlite_node *node;
  void (*entry)(void);
  if (argc != 5)
    return quit("usage", "node ID ADDRESS FOLDER EXTENSION");
  prctl(PR_SET_PDEATHSIG, SIGKILL); /* it does not outlive the test */
  signal(SIGPIPE, SIG_IGN);
  void *library = dlopen(argv[4], RTLD_NOW);
  if (library == NULL)
    return quit("dlopen", dlerror());
  *(void **)&entry = dlsym(library, "sqlite3_walmap_init");
  if (entry == NULL || sqlite3_auto_extension(entry) != SQLITE_OK)
    return quit("the extension", "cannot be registered");
  if (dqlite_node_create(strtoull(argv[1], NULL, 10), argv[2], argv[3], &node) != 0)
    return quit("dqlite_node_create", dqlite_node_errmsg(node));
  if (dqlite_node_set_bind_address(node, argv[2]) != 0 || dqlite_node_set_network_latency_ms(node, LATENCY) != 0 ||
      dqlite_node_set_snapshot_params(node, SNAPSHOT_AFTER, ENTRIES_KEPT) != 0 || dqlite_node_start(node) != 0)
    return quit("dqlite_node_start", dqlite_node_errmsg(node));
  for (;;)
    pause();
}
