/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Commands that sfd runs in the guest: their terminals, pipes, signals and ends. */
#ifndef AGENT_EXEC_H
#define AGENT_EXEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "agent/loop.h"
#include "agent/port.h"

#define EXEC_OUTPUTS 2	/* stdout, stderr */

struct exec_stream;

struct execs {
	struct loop *loop;
	struct port *port;
	struct source children;		/* signalfd of SIGCHLD */
	struct exec_stream *streams;
	unsigned count;
};

/* Return: 0 or -errno. Blocks SIGCHLD. */
int execs_init(struct execs *execs, struct loop *loop, struct port *port);

/*
 * The frames of a command. `payload` is the frame's. Return: true if the stream is a command's (or
 * for exec_begin(): it now is); *error is then -EPROTO for what no sound host sends.
 */
bool exec_begin(struct execs *execs, uint32_t stream, const uint8_t *payload, size_t len,
		int *error);
bool exec_data(struct execs *execs, uint32_t stream, const uint8_t *data, size_t len, int *error);
bool exec_credit(struct execs *execs, uint32_t stream, unsigned channel, uint32_t bytes,
		 int *error);
bool exec_signal(struct execs *execs, uint32_t stream, int signal);
bool exec_winsize(struct execs *execs, uint32_t stream, const struct agent_winsize *size);
bool exec_has(const struct execs *execs, uint32_t stream);

/* The port has room again: reads more output. */
void execs_drained(struct execs *execs);

/*
 * Getting quiet: marks what has been printed so far, and then sends on as much of it as the windows
 * and the port allow. Return: true if no more of it can be sent.
 */
void execs_mark(struct execs *execs);
bool execs_drain(struct execs *execs);

/*
 * This is a clone: what was marked and not sent is the parent's to send, standard inputs are at
 * their end, windows are full.
 */
void execs_become_clone(struct execs *execs);

#endif
