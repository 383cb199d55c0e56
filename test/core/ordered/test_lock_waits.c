/* test_lock_waits.c - ../test_lock_waits.c with ordered maps: what changes the index must change the tree (B1) */
#define ORDERED 1
#include "../test_lock_waits.c"
