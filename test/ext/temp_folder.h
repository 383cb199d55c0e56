/*
** temp_folder.h - a folder of its own for a test program that names files in SQL: nothing is left behind in the folder
** that it was started in, and two runs do not share a file
*/
#ifndef TEST_TEMP_FOLDER_H
#define TEST_TEMP_FOLDER_H

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static char temp_folder[] = "/tmp/walmap-test-XXXXXX";

/* The extension that WALMAP_SO names, default ./walmap, with an absolute path, since the current folder changes. */
static inline const char *extension_path(void) {
  static char path[4096];
  const char *name = getenv("WALMAP_SO") != NULL ? getenv("WALMAP_SO") : "./walmap";
  char here[2048];
  if (getcwd(here, sizeof here) == NULL)
    abort();
  snprintf(path, sizeof path, "%s%s%s", *name == '/' ? "" : here, *name == '/' ? "" : "/", name);
  return path;
}

static inline void enter_temp_folder(void) {
  if (mkdtemp(temp_folder) == NULL || chdir(temp_folder) != 0) {
    perror(temp_folder);
    exit(1);
  }
}

/* After the program has removed its files; a file that is left makes it fail. */
static inline int leave_temp_folder(void) { return chdir("/") == 0 && rmdir(temp_folder) == 0; }

#endif
