/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Members as processes of this machine, instead of clones: to try a program, and for the tests. Each
 * of the team's threads forks itself, so that the child is the member with its stack and TLS.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "omp-shim/team.h"

static pid_t children[OMP_MAX_MEMBERS]; /* 0: none */
static unsigned count;

static int ready(unsigned *size)
{
	if (*size > 64)
		*size = 64;
	return 0;
}

static int make(unsigned size)
{
	count = size;
	for (unsigned number = 1; number < size; number++)
		team_tell(number, TEAM_FORK);
	for (unsigned number = 1; number < size; number++)
		children[number] = team_child(number);
	children[0] = raw_fork();
	return children[0] ? 0 : 1;
}

static int address(char *text, size_t len)
{
	snprintf(text, len, "127.0.0.1");
	return 0;
}

static bool ended(unsigned number, char *why, size_t len)
{
	int status = 0;

	if (children[number] <= 0) {
		snprintf(why, len, "its process could not be made");
		return true;
	}
	if (waitpid(children[number], &status, WNOHANG) <= 0)
		return false;
	children[number] = 0;
	if (WIFSIGNALED(status))
		snprintf(why, len, "its process was ended by signal %d", WTERMSIG(status));
	else
		snprintf(why, len, "its process ended with status %d", WEXITSTATUS(status));
	return true;
}

static void end(void)
{
	for (unsigned number = 0; number < count; number++) {
		if (children[number] <= 0)
			continue;
		kill(children[number], SIGKILL);
		while (waitpid(children[number], NULL, 0) < 0 && errno == EINTR)
			;
		children[number] = 0;
	}
}

static _Noreturn void leave(int status)
{
	for (;;)
		syscall(SYS_exit_group, status);
}

const struct team_ways team_by_processes = {
	.ready = ready,
	.clone = make,
	.address = address,
	.ended = ended,
	.end = end,
	.leave = leave,
};
