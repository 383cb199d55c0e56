/*
** file_windows.c - files for images, as Windows has them (file.h)
**
** Paths are UTF-8 and go to the system in UTF-16, made absolute first: that shows the names of devices (`NUL`, `con`),
** which are in every folder, and makes room for paths of more than 260 characters.
*/
#include "platform/file.h"

#if defined(_WIN32)

#ifndef WIN32_LEAN_AND_MEAN
#define WIN32_LEAN_AND_MEAN
#endif
#include <windows.h>

#include <errno.h>
#include <sqlite3ext.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <wchar.h>

SQLITE_EXTENSION_INIT3

#define TEMPORARY L".walmap-%016llx.tmp"
#define TEMPORARY_SIZE 32
#define LARGEST_PIECE ((size_t)1 << 30) /* of one call */

void wm_file_explain(int error, char *text) {
  if (strerror_s(text, WM_FILE_TEXT_SIZE, error) != 0)
    snprintf(text, WM_FILE_TEXT_SIZE, "error %d", error);
}

static int errno_of(DWORD error) {
  switch (error) {
  case ERROR_FILE_NOT_FOUND:
  case ERROR_PATH_NOT_FOUND:
  case ERROR_INVALID_NAME:
  case ERROR_BAD_PATHNAME:
  case ERROR_INVALID_DRIVE:
  case ERROR_BAD_NETPATH:
  case ERROR_CANT_RESOLVE_FILENAME:
    return ENOENT;
  case ERROR_ACCESS_DENIED:
  case ERROR_SHARING_VIOLATION:
  case ERROR_LOCK_VIOLATION:
  case ERROR_WRITE_PROTECT:
    return EACCES;
  case ERROR_FILE_EXISTS:
  case ERROR_ALREADY_EXISTS:
    return EEXIST;
  case ERROR_DISK_FULL:
  case ERROR_HANDLE_DISK_FULL:
    return ENOSPC;
  case ERROR_NOT_ENOUGH_MEMORY:
  case ERROR_OUTOFMEMORY:
    return ENOMEM;
  case ERROR_TOO_MANY_OPEN_FILES:
    return EMFILE;
  case ERROR_FILENAME_EXCED_RANGE:
  case ERROR_BUFFER_OVERFLOW:
    return ENAMETOOLONG;
  case ERROR_DIRECTORY:
    return ENOTDIR;
  default:
    return EIO;
  }
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Paths                                                                                                              */

/* In UTF-16, from sqlite3_malloc. An errno. */
static int widen(const char *path, wchar_t **out) {
  int n = MultiByteToWideChar(CP_UTF8, MB_ERR_INVALID_CHARS, path, -1, NULL, 0);
  if (n <= 0)
    return EILSEQ;
  wchar_t *wide = sqlite3_malloc64(sizeof *wide * (size_t)n);
  if (wide == NULL)
    return ENOMEM;
  MultiByteToWideChar(CP_UTF8, MB_ERR_INVALID_CHARS, path, -1, wide, n);
  *out = wide;
  return 0;
}

/*
** The absolute path, with the prefix that allows long ones, from sqlite3_malloc. An errno, or IRREGULAR for a device,
** which the system itself turns into \\.\NAME.
*/
static int absolute_path(const char *path, wchar_t **out) {
  static const wchar_t local[] = L"\\\\?\\", network[] = L"\\\\?\\UNC\\";
  enum { PREFIX = 8 }; /* the longer one */
  wchar_t *wide;
  int error = widen(path, &wide);
  if (error != 0)
    return error;
  DWORD n = GetFullPathNameW(wide, 0, NULL, NULL);
  wchar_t *absolute = n == 0 ? NULL : sqlite3_malloc64(sizeof *absolute * ((size_t)n + PREFIX));
  wchar_t *end = absolute == NULL ? NULL : absolute + PREFIX;
  if (n == 0)
    error = errno_of(GetLastError());
  else if (absolute == NULL)
    error = ENOMEM;
  else if (GetFullPathNameW(wide, n, end, NULL) >= n)
    error = EIO; /* the current folder has changed meanwhile */
  else if (wcsncmp(end, L"\\\\.\\", 4) == 0)
    error = WM_FILE_IRREGULAR;
  sqlite3_free(wide);
  if (error != 0) {
    sqlite3_free(absolute);
    return error;
  }
  if (wcsncmp(end, local, 4) == 0)
    wmemmove(absolute, end, wcslen(end) + 1); /* it has the prefix */
  else if (end[0] == L'\\' && end[1] == L'\\') {
    wmemmove(absolute + PREFIX, end + 2, wcslen(end + 2) + 1);
    wmemcpy(absolute, network, PREFIX);
  } else {
    wmemmove(absolute + 4, end, wcslen(end) + 1);
    wmemcpy(absolute, local, 4);
  }
  *out = absolute;
  return 0;
}

/* The path that a link leads to replaces it. An errno, or IRREGULAR if it leads nowhere. */
static int follow_link(wchar_t **path) {
  HANDLE target = CreateFileW(*path, 0, FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE, NULL, OPEN_EXISTING,
                              FILE_FLAG_BACKUP_SEMANTICS, NULL);
  if (target == INVALID_HANDLE_VALUE)
    return WM_FILE_IRREGULAR;
  DWORD n = GetFinalPathNameByHandleW(target, NULL, 0, FILE_NAME_NORMALIZED);
  wchar_t *resolved = n == 0 ? NULL : sqlite3_malloc64(sizeof *resolved * ((size_t)n + 1));
  int error = n == 0 ? errno_of(GetLastError()) : resolved == NULL ? ENOMEM : 0;
  if (error == 0 && GetFinalPathNameByHandleW(target, resolved, n + 1, FILE_NAME_NORMALIZED) > n)
    error = EIO;
  CloseHandle(target);
  if (error != 0) {
    sqlite3_free(resolved);
    return error;
  }
  sqlite3_free(*path);
  *path = resolved;
  return 0;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Reading                                                                                                            */

struct wm_input_file {
  HANDLE handle;
};

/* Whether the path names a file as if it was a folder: `file/`. */
static bool ends_behind_a_file(wchar_t *path) {
  size_t n = wcslen(path);
  if (n == 0 || path[n - 1] != L'\\')
    return false;
  path[n - 1] = 0;
  DWORD attributes = GetFileAttributesW(path);
  path[n - 1] = L'\\';
  return attributes != INVALID_FILE_ATTRIBUTES && (attributes & FILE_ATTRIBUTE_DIRECTORY) == 0;
}

int wm_file_open(const char *path, wm_input_file **out) {
  wchar_t *wide;
  int error = absolute_path(path, &wide);
  if (error != 0)
    return error;
  DWORD attributes = GetFileAttributesW(wide);
  bool is_directory = attributes != INVALID_FILE_ATTRIBUTES && (attributes & FILE_ATTRIBUTE_DIRECTORY) != 0;
  HANDLE handle = is_directory ? INVALID_HANDLE_VALUE
                               : CreateFileW(wide, GENERIC_READ, FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE,
                                             NULL, OPEN_EXISTING, FILE_ATTRIBUTE_NORMAL, NULL);
  DWORD open_error = GetLastError();
  if (is_directory)
    error = WM_FILE_IRREGULAR;
  else if (handle == INVALID_HANDLE_VALUE)
    error = ends_behind_a_file(wide) ? ENOTDIR : errno_of(open_error);
  else if (GetFileType(handle) != FILE_TYPE_DISK)
    error = WM_FILE_IRREGULAR;
  sqlite3_free(wide);
  wm_input_file *file = error == 0 ? sqlite3_malloc(sizeof *file) : NULL;
  if (file == NULL) {
    if (handle != INVALID_HANDLE_VALUE)
      CloseHandle(handle);
    return error != 0 ? error : ENOMEM;
  }
  file->handle = handle;
  *out = file;
  return 0;
}

int wm_file_read(wm_input_file *file, void *buffer, size_t size, size_t *got) {
  DWORD n = 0;
  if (!ReadFile(file->handle, buffer, (DWORD)(size < LARGEST_PIECE ? size : LARGEST_PIECE), &n, NULL))
    return errno_of(GetLastError());
  *got = n;
  return 0;
}

void wm_file_close(wm_input_file *file) {
  CloseHandle(file->handle);
  sqlite3_free(file);
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Replacing                                                                                                          */

struct wm_new_file {
  HANDLE handle;
  wchar_t *target;
  wchar_t *temporary; /* beside it; NULL: there is none */
};

static int prepare_target(wm_new_file *file, const char *path) {
  int error = absolute_path(path, &file->target);
  if (error != 0)
    return error;
  const wchar_t *slash = wcsrchr(file->target, L'\\');
  if (slash != NULL && slash[1] == 0)
    return EISDIR;
  DWORD attributes = GetFileAttributesW(file->target);
  if (attributes == INVALID_FILE_ATTRIBUTES)
    return 0;
  if ((attributes & FILE_ATTRIBUTE_REPARSE_POINT) != 0) {
    error = follow_link(&file->target);
    if (error != 0)
      return error;
    attributes = GetFileAttributesW(file->target);
  }
  return attributes != INVALID_FILE_ATTRIBUTES && (attributes & FILE_ATTRIBUTE_DIRECTORY) != 0 ? WM_FILE_IRREGULAR : 0;
}

static int create_temporary(wm_new_file *file) {
  enum { TRIES = 8 };
  const wchar_t *slash = wcsrchr(file->target, L'\\');
  size_t length = slash == NULL ? 0 : (size_t)(slash + 1 - file->target);
  wchar_t *path = sqlite3_malloc64(sizeof *path * (length + TEMPORARY_SIZE));
  if (path == NULL)
    return ENOMEM;
  wmemcpy(path, file->target, length);
  for (int tries = 0; tries < TRIES; tries++) {
    sqlite3_uint64 number;
    sqlite3_randomness(sizeof number, &number);
    swprintf(path + length, TEMPORARY_SIZE, TEMPORARY, (unsigned long long)number);
    file->handle = CreateFileW(path, GENERIC_WRITE, 0, NULL, CREATE_NEW, FILE_ATTRIBUTE_NORMAL, NULL);
    if (file->handle != INVALID_HANDLE_VALUE) {
      file->temporary = path;
      return 0;
    }
    if (GetLastError() != ERROR_FILE_EXISTS)
      break;
  }
  int error = errno_of(GetLastError());
  sqlite3_free(path);
  return error;
}

int wm_new_file_create(const char *path, wm_new_file **out) {
  wm_new_file *file = sqlite3_malloc(sizeof *file);
  if (file == NULL)
    return ENOMEM;
  *file = (wm_new_file){.handle = INVALID_HANDLE_VALUE};
  int error = prepare_target(file, path);
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
    DWORD n = 0;
    if (!WriteFile(file->handle, at, (DWORD)(size < LARGEST_PIECE ? size : LARGEST_PIECE), &n, NULL))
      return errno_of(GetLastError());
    if (n == 0)
      return EIO;
    at += n;
    size -= n;
  }
  return 0;
}

int wm_new_file_commit(wm_new_file *file) {
  if (!FlushFileBuffers(file->handle))
    return errno_of(GetLastError());
  BOOL closed = CloseHandle(file->handle);
  file->handle = INVALID_HANDLE_VALUE;
  if (!closed || !MoveFileExW(file->temporary, file->target, MOVEFILE_REPLACE_EXISTING | MOVEFILE_WRITE_THROUGH))
    return errno_of(GetLastError());
  sqlite3_free(file->temporary);
  file->temporary = NULL;
  return 0;
}

void wm_new_file_end(wm_new_file *file) {
  if (file == NULL)
    return;
  if (file->handle != INVALID_HANDLE_VALUE)
    CloseHandle(file->handle);
  if (file->temporary != NULL)
    DeleteFileW(file->temporary);
  sqlite3_free(file->temporary);
  sqlite3_free(file->target);
  sqlite3_free(file);
}

#endif
