/* test_memory_bound.c - ../test_memory_bound.c with ordered maps: what changes the index must change the tree (B1) */
#define ORDERED 1
#include "../test_memory_bound.c"
