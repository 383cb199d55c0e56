/* test_oom_image.c - ../test_oom_image.c with ordered maps: what changes the index must change the tree (B1) */
#define ORDERED 1
#include "../test_oom_image.c"
