/* test_savepoints.c - ../test_savepoints.c with ordered maps: what changes the index must change the tree (B1) */
#define ORDERED 1
#include "../test_savepoints.c"
