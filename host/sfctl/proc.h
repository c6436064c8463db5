/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Processes of this machine: is it still the same one, whose is it, end it. */
#ifndef HOST_SFCTL_PROC_H
#define HOST_SFCTL_PROC_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define PROC_WORD_BYTES 64

/* A process that a daemon of a cluster started, known by SF_CLUSTER and SF_HOST in its environment.
 */
struct proc {
	pid_t pid;
	uint64_t start_ticks;
	char cluster[PROC_WORD_BYTES];
	char host[PROC_WORD_BYTES];
	char name[PROC_WORD_BYTES]; /* of the program */
};

/* When the process began, in clock ticks since the machine did. Return: 0 if there is none. */
uint64_t proc_start_ticks(pid_t pid);

/* True if the process lives and is the one that began then. A zombie does not live. */
bool proc_is(pid_t pid, uint64_t start_ticks);

/* Every process with SF_CLUSTER and SF_HOST set, but for this one. Return: 0 and *procs, the
 * caller's, or -errno. */
int proc_find(struct proc **procs, unsigned *count);

/*
 * Sends `signal` (0: none) and waits up to `wait_ms` for the process to be gone. A process id that
 * is another's by now counts as gone. Return: true if it is gone.
 */
bool proc_end(pid_t pid, uint64_t start_ticks, int signal, int wait_ms);

#endif
