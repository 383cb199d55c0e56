/*
** file.h - files for images: one that is read, and one that replaces another in one step
**
** file_posix.c and file_windows.c do the same in the words of their systems; each is empty elsewhere.
**
** The path of a new file never leads to half of it. It is written beside the target, synced, and then renamed over it.
** On POSIX the directory is synced too, so that the name survives a crash; Windows is asked to write the rename
** through. A failure before the rename removes the new file and leaves the old one as it was.
**
** A symbolic link leads to the file that it names, as it does for a database. What is no regular file (a directory, a
** device, a pipe, a link that leads nowhere) is neither read nor replaced. Paths are UTF-8 on Windows; on POSIX they
** are the bytes that they are.
**
** Errors are those of errno.h, 0 for success. WM_FILE_IRREGULAR: no regular file.
**
** What differs on Windows: a file that another handle has open cannot be replaced, also not one that is being restored
** from (EACCES), and the new file has the permissions of its folder, not those of the file that it replaces.
*/
#ifndef WM_FILE_H
#define WM_FILE_H

#include <stddef.h>
#include <stdint.h>

enum { WM_FILE_IRREGULAR = -1 };

#define WM_FILE_TEXT_SIZE 128

/* What an error means, in the system's words; `text` has WM_FILE_TEXT_SIZE bytes. */
void wm_file_explain(int error, char *text);

/* A file that is read from its beginning on. Opening does not wait, even for a pipe. */
typedef struct wm_input_file wm_input_file;

int wm_file_open(const char *path, wm_input_file **out);
int wm_file_read(wm_input_file *file, void *buffer, size_t size, size_t *got); /* *got: 0 at its end */
void wm_file_close(wm_input_file *file);

/*
** A new file. Its permissions are those of the file that it will replace (POSIX), or the default. A failed write or
** commit leaves it to wm_new_file_end, which closes it, and removes it unless wm_new_file_commit has put it in place.
*/
typedef struct wm_new_file wm_new_file;

int wm_new_file_create(const char *path, wm_new_file **out);
int wm_new_file_write(wm_new_file *file, const void *data, size_t size); /* all of it */
int wm_new_file_commit(wm_new_file *file);                               /* syncs it and renames it */
void wm_new_file_end(wm_new_file *file);                                 /* NULL is allowed */

#endif
