/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The way to the keeper, for sf-mpirun, sf-mpilaunch and libsfmpi: found, or started. */
#ifndef MPI_SHIM_DOOR_H
#define MPI_SHIM_DOOR_H

#include <stddef.h>
#include <stdint.h>

#include "proto/mpi.h"

/*
 * Connects to the keeper and says HELLO as `role`: by MPI_ENV from within a clone, else by its
 * UNIX socket; for an asker there a keeper is started (as a session of its own, from
 * door_program("sf-mpikeeper")) where none answers. Return: a connected, blocking, close-on-exec
 * socket, the caller's; or -errno: -ENOENT no keeper for a launcher, -EPERM it is another user's or
 * the token is wrong, -ENODEV this is no Snowflock VM. Safe in a process with threads.
 */
int door_open(enum mpi_role role);

/*
 * Where a program of the shim is: in the folder that SF_MPI_LIBEXEC names; without that, beside or
 * near the file that has this function, wherever that was moved to; else in the folder it was to be
 * installed to. Return: the path in `path` of `len` bytes; NULL if it does not fit.
 */
char *door_program(const char *name, char *path, size_t len);

/*
 * One WANT and its answer on a connection of an asker. Return: 0 and *grant, *group and *hosts (a
 * string, the caller's to free()); or -errno with a sentence in *sentence (the caller's to free(),
 * NULL for want of memory). What comes meanwhile about earlier groups of the connection is dropped.
 */
int door_want(int sock, const struct mpi_want *want, uint32_t *group, struct mpi_grant *grant,
	      char **hosts, char **sentence);

#endif
