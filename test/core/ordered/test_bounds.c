/* test_bounds.c - ../test_bounds.c with ordered maps: whatever changes the index changes the tree as well (B1) */
#define ORDERED 1
#include "../test_bounds.c"
