/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Where the programs that sfd starts are: installed, or in the tree that sfd was built in. */
#ifndef HOST_SFD_PATHS_H
#define HOST_SFD_PATHS_H

#include "host/sfd/daemon.h"

/* The path of one of our programs or modules, "sf-memtap" or "sf-uffd-shim.so". */
void paths_libexec(const struct daemon *d, const char *name, char *path, size_t path_bytes);

/* A file of the guest image. */
void paths_guest(const struct daemon *d, const char *name, char *path, size_t path_bytes);

#endif
