/* unbuffered.c - is linked with a shell, whose rows and errors, two streams, then come in order */
#include <stdio.h>

__attribute__((constructor)) static void unbuffer(void) { setvbuf(stdout, NULL, _IONBF, 0); }
