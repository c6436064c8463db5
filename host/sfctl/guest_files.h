/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which files a guest has before anything is put into it. */
#ifndef HOST_SFCTL_GUEST_FILES_H
#define HOST_SFCTL_GUEST_FILES_H

#include <limits.h>
#include <stdbool.h>

struct guest_files;

/*
 * Reads the list of a guest image: `initrd` (NULL: initrd.img in `dir`), an uncompressed cpio
 * archive, or, if that cannot be read, the file `manifest` in `dir`, one path a line. Return: the
 * caller's, or NULL if it is not known.
 */
struct guest_files *guest_files_read(const char *dir, const char *initrd);
void guest_files_free(struct guest_files *files);

/* Is there such a file? The path is a canonical one. */
bool guest_files_have(const struct guest_files *files, const char *path);

/* One name for a file: absolute, with /usr/lib for /lib. */
void guest_path(const char *path, char canonical[PATH_MAX]);

#endif
