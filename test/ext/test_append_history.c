/*
** test_append_history.c - a checker of histories (append_check.h) that accepts a wrong history, or refuses a right one:
** histories by hand for each kind of finding
*/
#include "append_check.h"

static int passed, failed;

static void expect_kinds(const char *kinds, const char *text) {
  history h = {.quiet = true};
  history_add(&h, text);
  history_check(&h);
  if (strcmp(h.kinds, kinds) != 0)
    printf("\"%s\", and not \"%s\":\n%s", h.kinds, kinds, text);
  passed += strcmp(h.kinds, kinds) == 0;
  failed += strcmp(h.kinds, kinds) != 0;
  history_free(&h);
}

int main(void) {
  /* nothing is wrong */
  expect_kinds("", "T1 a1= a1+1 ! c2\nT3 a1=1 a1+2 n1+3 ! c4\nF9 a1=1,2 n1=3 c10\n");
  expect_kinds("", "T1 a1+1 n1+2 ! c5\nT2 a1= n1= c5\nT2 a1=1 n1=2 c4\nF9 a1=1 n1=2 c10\n");
  expect_kinds("", "T1 a1+1 ( a1+2 a1=1,2 ) a1=1 ( a1+3 / a1=1,3 ! c2\nF9 a1=1,3 c10\n");
  expect_kinds("", "T1 a1+1 n1+2 !\nT2 a1= n1= a1+3 ! c8\nT9 a1=3,1 n1=2 c9\nF9 a1=3,1 n1=2 c10\n");
  expect_kinds("", "T1 a1+1 n1+2 !\nT2 a1+3\nT9 a1= n1= c9\nF9 a1= n1= c10\n");
  expect_kinds("", "T1 a1+1 a1=1 x2\nT3 a1= c4\nF9 a1= c10\n");
  /* what is in the lists */
  expect_kinds("lost", "T1 a1= a1+1 ! c3\nT2 a1= a1+2 ! c4\nF9 a1=2 c10\n");
  expect_kinds("lost", "T1 a1+1 n1+2 ! c3\nF9 n1=2 c10\n");
  expect_kinds("half a transaction", "T1 a1+1 n1+2 !\nF9 a1=1 n1= c10\n");
  expect_kinds("twice in a list", "T1 a1+1 ! c2\nF9 a1=1,1 c10\n");
  expect_kinds("made twice", "T1 a1+1 ! c2\nT3 a1+1 ! x4\nF9 a1= c10\n");
  expect_kinds("made up", "T1 a1+1 ! c2\nF9 a1=1,7 c10\n");
  expect_kinds("another key's", "T1 a1+1 n1+2 ! c2\nT3 a1=2 c4\nF9 a1=1 n1=2 c10\n");
  expect_kinds("not a prefix", "T1 a1+1 ! c8\nT1 a1+2 ! c8\nT1 a1=2 c8\nF9 a1=1,2 c10\n");
  expect_kinds("not a prefix", "T1 a1+1 !\nT2 a1=1 c3\nF9 a1= c10\n");
  /* what a transaction reads */
  expect_kinds("G1a", "T1 a1+1 x5\nT2 a1=1 c3\nF9 a1= c10\n");
  expect_kinds("G1a", "T1 ( a1+1 ) n1+2 ! c5\nT2 a1=1 c3\nF9 n1=2 c10\n");
  expect_kinds("G1a", "T1 a1+1 x5\nF9 a1=1 c10\n");
  expect_kinds("G1b, G-single", "T1 a1+1 a1+2 ! c5\nT2 a1=1 x3\nF9 a1=1,2 c10\n");
  expect_kinds("own append not seen", "T1 a1+1 a1= ! c2\nF9 a1=1 c10\n");
  expect_kinds("own append not seen", "T1 ( a1+1 / a1+2 ( a1+3 ) a1=2 ! c2\nF9 a1=1,2 c10\n");
  expect_kinds("second look, G-single", "T1 a1+1 ! c8\nT1 a1= a1=1 c8\nF9 a1=1 c10\n");
  /* cycles */
  expect_kinds("G0", "T1 a1+1 n1+3 ! c8\nT1 a1+2 n1+4 ! c8\nF9 a1=1,2 n1=4,3 c10\n");
  expect_kinds("G1c", "T1 a1+1 n1=2 ! c8\nT1 n1+2 a1=1 ! c8\nF9 a1=1 n1=2 c10\n");
  expect_kinds("G-single", "T1 a1= a1+1 ! c8\nT1 a1= a1+2 ! c8\nF9 a1=1,2 c10\n");
  expect_kinds("G-single", "T1 a1+1 n1+2 ! c8\nT1 a1=1 n1= c8\nF9 a1=1 n1=2 c10\n"); /* n is behind */
  expect_kinds("G-single", "T1 a1+1 n1+2 ! c8\nT1 a1= n1=2 x8\nF9 a1=1 n1=2 c10\n"); /* a is behind */
  expect_kinds("G2", "T1 a1= n1= a1+1 ! c8\nT1 a1= n1= n1+2 ! c8\nF9 a1=1 n1=2 c10\n");
  expect_kinds("G2", "T1 a1+1 ! c8\nT1 n1+2 ! c8\nT1 a1=1 n1= c8\nT1 a1= n1=2 c8\nF9 a1=1 n1=2 c10\n");
  expect_kinds("real time", "T1 a1+1 ! c2\nT3 a1= c4\nF9 a1=1 c10\n");  /* an old state */
  expect_kinds("real time", "T5 a1+1 ! c8\nT3 a1=1 c4\nF9 a1=1 c10\n"); /* of later than its snapshot */
  expect_kinds("real time", "T1 a1+1 ! c2\nT3 n1+2 ! c4\nT2 a1= n1=2 c8\nF9 a1=1 n1=2 c10\n");
  expect_kinds("real time", "T1 a1+1 ! c2\nT3 a1+2 ! c4\nF9 a1=2,1 c10\n");
  printf("%d passed, %d failed\n", passed, failed);
  return failed > 0;
}
