/* append_cycles.h - cycles of dependencies between transactions; append_check.h says what they mean */
#ifndef TEST_APPEND_CYCLES_H
#define TEST_APPEND_CYCLES_H

#include "append_history.h"

/* What a search knows of a transaction, or of an end of one. */
typedef struct node {
  size_t first;       /* of its edges, which end where those of the next node begin */
  size_t next;        /* the edge to be looked at next */
  uint32_t index;     /* in the order of visits, from 1; 0: not visited */
  uint32_t low;       /* the least index to which the node leads back */
  uint32_t parent;    /* from where the search came */
  uint32_t component; /* 0: none yet */
  const edge *by;     /* the edge by which it was reached */
} node;

typedef struct graph {
  const edge *edges; /* by the nodes that they leave */
  node *nodes;       /* n of them, and one that ends the edges */
  uint32_t n;
  uint32_t *queue; /* has room for all nodes */
} graph;

static inline int compare_edges(const void *a, const void *b) {
  const edge *one = a, *other = b;
  return one->from < other->from ? -1 : one->from > other->from;
}

static inline graph graph_of(history *h, uint32_t n) {
  graph g = {h->edges.items, calloc(n + 1, sizeof *g.nodes), n, calloc(n + 1, sizeof *g.queue)};
  if (g.nodes == NULL || g.queue == NULL)
    abort();
  if (h->edges.n > 0)
    qsort(h->edges.items, h->edges.n, sizeof *h->edges.items, compare_edges);
  for (size_t i = 0, v = 0; v <= n; v++) {
    while (i < h->edges.n && h->edges.items[i].from < v)
      i++;
    g.nodes[v].first = i;
  }
  return g;
}

/* Takes the members of v's component from the stack. Returns whether they are more than one. */
static inline bool close_component(graph *g, uint32_t v, uint32_t *depth, uint32_t component) {
  uint32_t members = 0, member;
  do {
    member = g->queue[--*depth];
    g->nodes[member].component = component;
    members++;
  } while (member != v);
  return members > 1;
}

/* The next node that is not visited, along an edge of v of these kinds; NONE: there is no other. */
static inline uint32_t visit_next(graph *g, uint32_t v, int kinds) {
  node *from = &g->nodes[v];
  while (from->next < from[1].first) {
    const edge *e = &g->edges[from->next++];
    const node *to = &g->nodes[e->to];
    if ((e->kind & kinds) == 0)
      continue;
    if (to->index == 0)
      return e->to;
    if (to->component == 0 && to->index < from->low)
      from->low = to->index;
  }
  return NONE;
}

/*
** Tarjan's search for strongly connected components, along edges of these kinds, without recursion. Returns the number
** of the first component that has more than one node; 0: there is none, and so no cycle.
*/
static inline uint32_t find_component(graph *g, int kinds) {
  uint32_t visits = 0, depth = 0, components = 0;
  for (uint32_t v = 0; v < g->n; v++)
    g->nodes[v].index = g->nodes[v].component = 0;
  for (uint32_t root = 0; root < g->n; root++) {
    uint32_t v = g->nodes[root].index == 0 ? root : NONE, from = NONE;
    while (v != NONE) {
      node *at = &g->nodes[v];
      if (at->index == 0) {
        at->index = at->low = ++visits;
        at->next = at->first;
        at->parent = from;
        g->queue[depth++] = v;
      }
      from = v;
      if ((v = visit_next(g, from, kinds)) != NONE)
        continue;
      if (at->low == at->index && close_component(g, from, &depth, ++components))
        return components;
      v = at->parent;
      if (v != NONE && at->low < g->nodes[v].low)
        g->nodes[v].low = at->low;
    }
  }
  return 0;
}

/* The shortest path within the component along edges of these kinds: its edges, the last one first. */
typedef ARRAY(const edge *) path;

static inline bool find_path(graph *g, uint32_t component, int kinds, uint32_t from, uint32_t to, path *path) {
  uint32_t head = 0, tail = 0;
  for (uint32_t v = 0; v < g->n; v++)
    g->nodes[v].by = NULL;
  g->queue[tail++] = from;
  while (head < tail && g->nodes[to].by == NULL) {
    uint32_t v = g->queue[head++];
    for (size_t i = g->nodes[v].first; i < g->nodes[v + 1].first; i++) {
      const edge *e = &g->edges[i];
      node *next = &g->nodes[e->to];
      if ((e->kind & kinds) == 0 || next->component != component || next->by != NULL || e->to == from)
        continue;
      next->by = e;
      g->queue[tail++] = e->to;
    }
  }
  path->n = 0;
  for (const edge *e = g->nodes[to].by; e != NULL; e = g->nodes[e->from].by)
    ADD(*path, e);
  return path->n > 0;
}

/* A cycle with one rw, if there is one; otherwise any. */
static inline bool find_cycle(graph *g, uint32_t component, int kinds, path *path) {
  enum { TRIES = 1000 };
  for (int pass = 0, tries = 0; pass < 2; pass++) {
    for (size_t i = 0; i < g->nodes[g->n].first && tries < TRIES; i++) {
      const edge *e = &g->edges[i];
      if (g->nodes[e->from].component != component || g->nodes[e->to].component != component ||
          (e->kind & kinds & (pass == 0 ? RW : ~0)) == 0)
        continue;
      tries += pass == 0;
      if (find_path(g, component, pass == 0 ? kinds & ~RW : kinds, e->to, e->from, path)) {
        ADD(*path, e);
        return true;
      }
    }
    tries = 0;
  }
  return false;
}

static inline void print_cycle(const history *h, const path *path) {
  for (size_t i = path->n; i-- > 0;) {
    const edge *e = path->items[i];
    if (e->from < h->transactions.n)
      print_line(h, e->from);
    if (e->kind != RT)
      printf("      %s, %c%u\n", e->kind == WW ? "ww" : e->kind == WR ? "wr" : "rw", KEY_ARGS(e->key));
    else if (e->from < h->transactions.n)
      printf("      rt\n");
  }
}

/* The worst cycle alone is reported: others follow from it as a rule. */
static inline void check_cycles(history *h, uint32_t n) {
  static const int kinds[] = {WW, WW | WR, WW | WR | RW, WW | WR | RW | RT};
  static const char *const names[] = {"G0", "G1c", "G2", "real time"};
  graph g = graph_of(h, n);
  path path = {NULL};
  for (int i = 0; i < 4; i++) {
    uint32_t component = find_component(&g, kinds[i]), rw = 0, t = 0;
    if (component == 0 || !find_cycle(&g, component, kinds[i], &path))
      continue;
    for (size_t j = 0; j < path.n; j++) {
      rw += path.items[j]->kind == RW;
      if (path.items[j]->from < h->transactions.n)
        t = path.items[j]->from;
    }
    find(h, t, i == 2 && rw == 1 ? "G-single" : names[i], "a cycle of %zu dependencies", path.n);
    if (!h->quiet)
      print_cycle(h, &path);
    break;
  }
  free(path.items);
  free(g.nodes);
  free(g.queue);
}

#endif
