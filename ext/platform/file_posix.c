/* file_posix.c - files for images, as POSIX has them (file.h) */
#if !defined(_XOPEN_SOURCE) && !defined(_GNU_SOURCE)
#define _XOPEN_SOURCE 700 /* POSIX of 2008, and realpath */
#endif
#include "platform/file.h"

#if !defined(_WIN32)

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sqlite3ext.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

SQLITE_EXTENSION_INIT3

#define TEMPORARY ".walmap-%016llx.tmp"
#define TEMPORARY_SIZE (sizeof TEMPORARY + 16)

/* glibc has two functions strerror_r: with _GNU_SOURCE it is the one that returns the text. */
void wm_file_explain(int error, char *text) {
#if defined(__GLIBC__) && defined(_GNU_SOURCE)
  snprintf(text, WM_FILE_TEXT_SIZE, "%s", strerror_r(error, text, WM_FILE_TEXT_SIZE));
#else
  if (strerror_r(error, text, WM_FILE_TEXT_SIZE) != 0)
    snprintf(text, WM_FILE_TEXT_SIZE, "error %d", error);
#endif
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Reading                                                                                                            */

struct wm_input_file {
  int descriptor;
};

int wm_file_open(const char *path, wm_input_file **out) {
  struct stat about;
  wm_input_file *file = sqlite3_malloc(sizeof *file);
  if (file == NULL)
    return ENOMEM;
  file->descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK); /* the open of a pipe must not wait */
  int error = file->descriptor < 0 || fstat(file->descriptor, &about) != 0 ? errno
              : S_ISREG(about.st_mode)                                     ? 0
                                                                           : WM_FILE_IRREGULAR;
  if (error != 0) {
    wm_file_close(file);
    return error;
  }
  *out = file;
  return 0;
}

int wm_file_read(wm_input_file *file, void *buffer, size_t size, size_t *got) {
  ssize_t n;
  do
    n = read(file->descriptor, buffer, size < SSIZE_MAX ? size : SSIZE_MAX);
  while (n < 0 && errno == EINTR);
  if (n < 0)
    return errno;
  *got = (size_t)n;
  return 0;
}

void wm_file_close(wm_input_file *file) {
  if (file->descriptor >= 0)
    close(file->descriptor);
  sqlite3_free(file);
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Replacing                                                                                                          */

struct wm_new_file {
  int directory, descriptor;
  char *target;                   /* the path, with a link at its end resolved; from malloc */
  const char *name;               /* in the directory */
  char temporary[TEMPORARY_SIZE]; /* beside it; empty: there is none */
};

/* The path that a symbolic link at the end of this path leads to, or the path, to be freed with free. */
static char *resolve_link(const char *path) {
  struct stat about;
  char *target = lstat(path, &about) == 0 && S_ISLNK(about.st_mode) ? realpath(path, NULL) : NULL;
  return target != NULL ? target : strdup(path); /* a link that leads nowhere is refused later */
}

/* Opens the directory of the path, so that a rename of it meanwhile does no harm. An errno. */
static int open_directory(wm_new_file *file) {
  const char *path = file->target, *slash = strrchr(path, '/');
  file->name = slash != NULL ? slash + 1 : path;
  if (*file->name == 0)
    return EISDIR;
  size_t length = slash == NULL ? 0 : slash == path ? 1 : (size_t)(slash - path);
  char *parent = sqlite3_mprintf("%.*s", (int)length, length > 0 ? path : "");
  if (parent == NULL)
    return ENOMEM;
  file->directory = open(length > 0 ? parent : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  int error = errno;
  sqlite3_free(parent);
  return file->directory >= 0 ? 0 : error;
}

/* Its mode is the one of the file that it will replace, or what the umask leaves. An errno. */
static int create_temporary(wm_new_file *file) {
  enum { TRIES = 8 };
  struct stat old;
  bool exists = fstatat(file->directory, file->name, &old, AT_SYMLINK_NOFOLLOW) == 0;
  if (exists && !S_ISREG(old.st_mode))
    return WM_FILE_IRREGULAR;
  for (int tries = 0; file->descriptor < 0 && tries < TRIES; tries++) {
    sqlite3_uint64 number;
    sqlite3_randomness(sizeof number, &number);
    snprintf(file->temporary, sizeof file->temporary, TEMPORARY, (unsigned long long)number);
    file->descriptor = openat(file->directory, file->temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC,
                              exists ? S_IRUSR | S_IWUSR : 0666);
    if (file->descriptor < 0) {
      file->temporary[0] = 0;
      if (errno != EEXIST)
        return errno;
    }
  }
  if (file->descriptor < 0)
    return EEXIST;
  return exists && fchmod(file->descriptor, old.st_mode & 0777) != 0 ? errno : 0;
}

int wm_new_file_create(const char *path, wm_new_file **out) {
  wm_new_file *file = sqlite3_malloc(sizeof *file);
  if (file == NULL)
    return ENOMEM;
  *file = (wm_new_file){.directory = -1, .descriptor = -1, .target = resolve_link(path)};
  int error = file->target == NULL ? ENOMEM : open_directory(file);
  if (error == 0)
    error = create_temporary(file);
  if (error != 0) {
    wm_new_file_end(file);
    return error;
  }
  *out = file;
  return 0;
}

int wm_new_file_write(wm_new_file *file, const void *data, size_t size) {
  const char *at = data;
  while (size > 0) {
    ssize_t n = write(file->descriptor, at, size);
    if (n < 0 && errno == EINTR)
      continue;
    if (n <= 0)
      return n < 0 ? errno : EIO;
    at += n;
    size -= (size_t)n;
  }
  return 0;
}

int wm_new_file_commit(wm_new_file *file) {
  if (fsync(file->descriptor) != 0)
    return errno;
  int closed = close(file->descriptor);
  file->descriptor = -1;
  if (closed != 0 || renameat(file->directory, file->temporary, file->directory, file->name) != 0)
    return errno;
  file->temporary[0] = 0;
  if (fsync(file->directory) == 0 || errno == EINVAL) /* the file system cannot sync a directory */
    return 0;
  return errno;
}

void wm_new_file_end(wm_new_file *file) {
  if (file == NULL)
    return;
  if (file->descriptor >= 0)
    close(file->descriptor);
  if (file->directory >= 0 && file->temporary[0] != 0)
    unlinkat(file->directory, file->temporary, 0);
  if (file->directory >= 0)
    close(file->directory);
  free(file->target);
  sqlite3_free(file);
}

#endif
