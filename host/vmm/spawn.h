/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Starts a process with little more than the descriptors it is given, and sees to its end. */
#ifndef HOST_VMM_SPAWN_H
#define HOST_VMM_SPAWN_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct event_base;

#define SPAWN_MAX_FDS 24

struct spawn {
	const char *path;
	char *const *argv;
	char *const *envp;
	const int *fds;		/* the process's descriptor i is fds[i]; -1: none */
	int fd_count;		/* at most SPAWN_MAX_FDS */
	uid_t uid;		/* user and group */
	bool kvm;		/* finds /dev/kvm */
	int oom_score_adj;	/* who goes first when memory runs out: -1000..1000 */
};

/*
 * Starts a process in its own session and its own network, mount, IPC and UTS namespaces, without
 * privileges, which the kernel kills when the caller's thread ends. What goes wrong in the new
 * process is a line on its stderr and exit status 127. Return: 0 with *pid and *pidfd (both the
 * caller's, to wait for and to close), or -errno.
 */
int spawn_process(const struct spawn *spawn, pid_t *pid, int *pidfd);

/*
 * Sees to the end of a process that was sent SIGKILL: reaps it, at once or from the event loop.
 * Takes over pid and pidfd.
 */
void spawn_reap(struct event_base *base, pid_t pid, int pidfd);

#endif
