/* test_txn_map.c - ../test_txn_map.c with ordered maps: what changes the index must change the tree (B1) */
#define ORDERED 1
#include "../test_txn_map.c"
