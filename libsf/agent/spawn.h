/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Starting a command with pipes or on a terminal of its own. */
#ifndef AGENT_SPAWN_H
#define AGENT_SPAWN_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct spawn_request {
	char **argv;		/* NULL-ended; argv[0] is looked up in PATH */
	char **env;		/* NULL-ended, "NAME=value", over the agent's own */
	const char *cwd;	/* "": the agent's */
	bool tty;
	uint16_t rows, columns;
};

struct spawned {
	pid_t pid;		/* leader of a session and process group of its own */
	int in;			/* write end of its standard input, non-blocking */
	int out[2];		/* read ends of stdout (or the terminal) and stderr (-1 with tty) */
};

/*
 * Starts the command. A command that cannot be executed says so on its standard error and ends with
 * 127 (not found) or 126. Return: 0, the descriptors being the caller's, or -errno.
 */
int spawn(const struct spawn_request *request, struct spawned *spawned);

/*
 * The same with these standard input, output and error; `tty` must be false. Return: the leader of
 * a session and process group of its own, or -errno.
 */
pid_t spawn_on(const struct spawn_request *request, const int fds[3]);

#endif
