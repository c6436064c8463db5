/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The MPI shim's parts among themselves: who wants clones for MPI processes, who starts something in
 * one, and the keeper, which has them.
 *
 * The *keeper* (mpi-shim/keeper*.c) is one process for each user of the VM that was booted. It asks
 * libsf for tickets, stops what else runs in the VM, clones, and is the process that comes back from
 * sf_clone_ticket() in each clone, where it becomes the *executor* (mpi-shim/executor.c). It is
 * started by the first who needs it, and ends when nobody is connected and no clone is left.
 *
 * Who connects:
 *
 *   who       from             by                                 what for
 *   asker     sf-mpirun;       UNIX socket in the VM that was     WANT, DROP, END
 *             a process that   booted; TCP from a clone
 *             calls
 *             MPI_Comm_spawn
 *   launcher  sf-mpilaunch,    UNIX socket                        LAUNCH
 *             run by Hydra
 *   executor  a clone          TCP                                START, SIGNAL, LEAVE
 *
 * The UNIX socket is SOCK_STREAM, abstract, MPI_SOCKET with the user's number: both sides look at
 * the other's SO_PEERCRED and talk to nobody but that user and root. TCP goes to the address of ID 0
 * on the network of parent and clones; its port and a token of the keeper's, made for it by
 * getrandom(), were in the memory of the clone, and are in MPI_ENV for what it starts:
 * "ADDRESS:PORT/TOKEN", the token as MPI_TOKEN_BYTES * 2 hexadecimal digits.
 *
 * Who connects speaks first: HELLO, and is answered by a HELLO without payload, or disconnected. All
 * numbers are little-endian, no frame is longer than MPI_MAX_FRAME. A peer that says what cannot be
 * is disconnected, with a line on the keeper's standard error; what it had is treated as if it had
 * died. Strings are NUL-ended, one after another, and all of a frame's payload.
 *
 * The clones of one ticket are a *group*; its number is the ticket's.
 */
#ifndef PROTO_MPI_H
#define PROTO_MPI_H

#include <stdint.h>

#define MPI_MAGIC 0x49504d46u		/* "FMPI" */
#define MPI_VERSION 1u
#define MPI_SOCKET "snowflock-mpi.%u"	/* behind a NUL byte; the user's number */
#define MPI_ENV "SF_MPI_KEEPER"
#define MPI_TOKEN_BYTES 32
#define MPI_MAX_FRAME (4u << 20)	/* bytes of payload */
#define MPI_MAX_DATA 65536u		/* bytes in one OUTPUT */
#define MPI_MAX_RANKS 65536u		/* in one WANT */
#define MPI_MAX_STRINGS 8192u		/* in one LAUNCH or START */
#define MPI_MAX_CLONES 1024u		/* of a group; as sf_request_ticket() */

struct mpi_frame {
	uint32_t length;	/* bytes of payload that follow */
	uint16_t type;		/* enum mpi_type */
	uint16_t reserved;	/* 0 */
	uint32_t number;	/* of the group, or of the command; else 0 */
};
_Static_assert(sizeof(struct mpi_frame) == 12, "no padding");

enum mpi_type {
	MPI_HELLO = 1,	/* who connects → keeper, first: struct mpi_hello; keeper → who connected: taken */

	MPI_WANT,	/* asker → keeper: struct mpi_want. One at a time on a connection */
	MPI_GRANT,	/* keeper → asker, number = group: struct mpi_grant, then one string: Hydra's list
			   of hosts, "10.64.0.2:2,10.64.0.3:1", as many ranks on each as shall be */
	MPI_REFUSED,	/* keeper → asker, to WANT: struct mpi_errno_of, then a sentence */
	MPI_DROP,	/* asker → keeper, number = group: what it wanted them for has failed. Clones of it
			   in which nothing was started end; there is no answer */
	MPI_END,	/* asker → keeper, number = group: end all clones of it */
	MPI_ENDED,	/* keeper → asker of a group, unasked as well: no clone of it is left, and its
			   ticket is given back. The group's number may be used again */
	MPI_LOST,	/* keeper → asker of a group: struct mpi_lost, then a sentence: a clone ended
			   otherwise than by LEAVE, with a command in it or none */

	MPI_LAUNCH,	/* launcher → keeper: strings: address, working directory, struct mpi_counts' argc
			   arguments, envc of the environment (NAME=VALUE); struct mpi_counts first */
	MPI_UNKNOWN,	/* keeper → launcher, to LAUNCH: no clone of the keeper's has that address */
	MPI_OUTPUT,	/* keeper → launcher, executor → keeper (number = command): struct mpi_output, bytes */
	MPI_EXITED,	/* keeper → launcher, executor → keeper (number = command): struct mpi_exited, then a
			   sentence if the command could not be started, or its clone was lost; else "" */

	MPI_START,	/* keeper → executor, number = command, 1…: as LAUNCH, without the address */
	MPI_SIGNAL,	/* keeper → executor, number = command: struct mpi_signal, to all processes of it */
	MPI_LEAVE,	/* keeper → executor: end the clone, whatever runs in it */
	MPI_TYPES
};

enum mpi_role { MPI_ASKER = 1, MPI_LAUNCHER, MPI_EXECUTOR };

struct mpi_hello {
	uint32_t magic, version;
	uint32_t role;		/* enum mpi_role */
	uint32_t group, id;	/* an executor's, else 0 */
	uint8_t token[MPI_TOKEN_BYTES]; /* by TCP; else 0 */
};
_Static_assert(sizeof(struct mpi_hello) == 52, "no padding");

struct mpi_want {
	uint32_t ranks;		/* 1…MPI_MAX_RANKS processes are to run */
	uint32_t per_clone;	/* so many on each clone; 0: as many as it has CPUs */
	uint32_t min_clones;	/* fewer are of no use; 0: any number, each with more ranks then */
	uint32_t per_host;	/* at most so many clones on one host; 0: no matter */
};

struct mpi_grant {
	uint32_t clones;	/* made */
	uint32_t wanted;	/* ranks / per_clone, rounded up: more than `clones` if room was short */
};

struct mpi_errno_of {
	int32_t error;		/* errno of libsf's call, positive */
	uint32_t reserved;
};

struct mpi_lost {
	uint32_t id;
	uint32_t commands;	/* that ran in it */
};

struct mpi_counts {
	uint32_t argc, envc;
};

struct mpi_output {
	uint32_t fd;		/* 1 or 2 */
};

struct mpi_exited {
	int32_t status;		/* as of wait(2); -1: it never ran, or was lost with its clone */
};

struct mpi_signal {
	int32_t signal;
};

#endif
