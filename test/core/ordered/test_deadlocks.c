/* test_deadlocks.c - ../test_deadlocks.c with ordered maps: what changes the index must change the tree (B1) */
#define ORDERED 1
#include "../test_deadlocks.c"
