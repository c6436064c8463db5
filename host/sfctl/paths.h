/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where the other programs are: installed, or in the build tree that this sfctl runs from.
 *
 * $SF_LIBEXEC, a folder with sfd and its helpers, and $SF_GUEST, one with the guest image, come
 * before both.
 */
#ifndef HOST_SFCTL_PATHS_H
#define HOST_SFCTL_PATHS_H

#include <limits.h>
#include <stdbool.h>

/* The build tree this program lies in. Return: false if it is installed. */
bool paths_build_tree(char dir[PATH_MAX]);

/* The daemon's program. */
void paths_sfd(char path[PATH_MAX]);

/* The folder to give to sfd as --libexec-dir. Return: false if sfd knows it by itself. */
bool paths_libexec(char dir[PATH_MAX]);

/* Where `name`, one of sfd's helper programs or modules, is. */
void paths_helper(const char *name, char path[PATH_MAX]);

/* The folder with the guest image: `wanted`, or where it is by default. */
void paths_guest(const char *wanted, char dir[PATH_MAX]);

#endif
