/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A command in a clone: a session of its own, with its output in pipes. */
#ifndef MPI_SHIM_COMMAND_H
#define MPI_SHIM_COMMAND_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "proto/mpi.h"

/* What to run. The arrays end with NULL; all is the caller's. */
struct command_request {
	const char *cwd;
	char **argv, **env;
};

struct command {
	pid_t pid;
	int out[2]; /* its standard output and error, to read, not blocking; the caller's to close */
};

/*
 * Takes a START's payload apart: `extra` is put behind its environment, "" for none. Return: 0 or
 * -EPROTO, -ENOMEM; *memory is what the request points into, the caller's to free().
 */
int command_parse(const uint8_t *payload, size_t len, const char *extra,
		  struct command_request *request, void **memory);

/* Return: 0; or -errno, with a sentence in `why`, if it could not be started. */
int command_start(const struct command_request *request, struct command *command, char *why,
		  size_t why_len);

/* Sends a signal to every process of the command: its session, and all that they started. */
void command_signal(pid_t pid, int signal);

#endif
