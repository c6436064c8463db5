/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the keeper is in a clone: runs the commands that it is told to. */
#ifndef MPI_SHIM_EXECUTOR_H
#define MPI_SHIM_EXECUTOR_H

#include <netinet/in.h>
#include <stdint.h>

#include "proto/mpi.h"
#include "libsf/silence.h"

struct executor_order {
	struct sockaddr_in keeper; /* in ID 0 */
	uint8_t token[MPI_TOKEN_BYTES];
	uint32_t group, id;
	const char *env;	 /* MPI_ENV=… for commands */
	struct silence *silence; /* kept; may be NULL */
};

/*
 * Calls home and serves the keeper. Return: when this clone is to end: 0 after LEAVE, 1 if the
 * connection ended. Nothing that was started here runs any more then.
 */
int executor_run(const struct executor_order *order);

#endif
