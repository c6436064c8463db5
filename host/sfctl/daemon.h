/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Starting and ending daemons on this machine. */
#ifndef HOST_SFCTL_DAEMON_H
#define HOST_SFCTL_DAEMON_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define DAEMON_WHY_BYTES 512
#define DAEMON_LOG "sfd.log"

/* What a daemon is started with. */
struct daemon_config {
	const char *cluster;
	const char *host;
	unsigned netns; /* embedded: the host's number; 0: it stays in our namespace */
	const char *hosts_file;
	const char *key_file;
	const char *data_dir; /* NULL: the daemon's default */
	const char *guest_dir;
	uint64_t mem_bytes; /* 0: the daemon decides */
	const char *accel;
	const char *distribution, *push, *compress; /* as sfd wants them; NULL: its default */
};

/* A daemon that was started and is not known to be ready. */
struct daemon_start {
	pid_t pid;
	int ready_fd; /* -1: it said all it had to say */
	bool ready;
	char host[64];
	char why[DAEMON_WHY_BYTES]; /* its sentence if it is not going to be ready */
	size_t why_len;
};

/*
 * Makes the daemon's folder and starts it. Return: 0, or -errno with start->why; the folder is left
 * in place then.
 */
int daemon_start(const struct daemon_config *config, struct daemon_start *start);

/*
 * Waits until each is ready. `progress` is called with the number that are. Return: 0, -ETIMEDOUT,
 * -EINTR (*stop became true) or -ECHILD (one said why it cannot); the sentences are in `starts`.
 */
int daemons_wait(struct daemon_start *starts, unsigned count, unsigned wait_ms,
		 const volatile bool *stop, void (*progress)(unsigned ready, unsigned count));

/*
 * Ends the daemons of a cluster on this machine (`host`: only that one), by request if they hear,
 * else by signal. Return: how many ran, or -errno if one does not end.
 */
int daemons_end(const char *cluster, const char *host);

#endif
