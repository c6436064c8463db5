/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The names of XenStore nodes: which are valid, how relative ones become absolute. */
#ifndef HOST_SFD_XS_PATH_H
#define HOST_SFD_XS_PATH_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <xen/io/xs_wire.h>

/* Room for an absolute path with its zero byte. */
#define XS_PATH_SIZE (XENSTORE_ABS_PATH_MAX + 1)
/* Room for /local/domain/<domid> with its zero byte. */
#define XS_HOME_SIZE 24

/* Writes the home of a domain. */
void xs_path_home(char out[XS_HOME_SIZE], unsigned domid);

/* True for one component of a path: not empty, no slash, no character that XenStore forbids. */
bool xs_path_name_valid(const char *name);

/* True for an absolute path, or with `special` for an @event too, within the limits of the wire. */
bool xs_path_valid(const char *path, bool special);

/* Writes the absolute form of `path`, which may be relative to `home`. Return: 0 or -EINVAL. */
int xs_path_resolve(char out[XS_PATH_SIZE], const char *home, const char *path, bool special);

/* Return: the length of the parent's path, 1 (the root) at least. `path` is absolute. */
size_t xs_path_parent_len(const char *path);

/* Writes the parent's path; the root is its own parent. */
void xs_path_parent(char out[XS_PATH_SIZE], const char *path);

/* True if `path` is `top` or lies below it. Both are absolute. */
bool xs_path_below(const char *path, const char *top);

/*
 * Writes `path`, moved if it is `from` or below, to the same place at `to`. A valid path stays
 * valid, because the limits do not count the home. Return: 0, or -EINVAL if it does not fit.
 */
int xs_path_move(char out[XS_PATH_SIZE], const char *path, const char *from, const char *to);

#endif
