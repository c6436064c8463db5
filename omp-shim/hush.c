/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The other processes of the VM stand still: sf-hush is asked by a byte, and answers by one. */
#define _GNU_SOURCE
#include "omp-shim/hush.h"

#include <errno.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/io.h"

static int hush = -1; /* the socket to it */

/* It sees that its socket ends when this process does. */
static int start(void)
{
	const char *folder = getenv("SF_LIBEXEC");
	posix_spawn_file_actions_t actions;
	_cleanup_fd_ int mine = -1, its = -1;
	char path[4096], *argv[] = { path, NULL };
	int pair[2], rc;
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
		return -errno;
	mine = pair[0];
	its = pair[1];
	snprintf(path, sizeof(path), "%s/sf-hush", folder && *folder ? folder : PKGLIBEXECDIR);
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, its, 0);
	rc = -posix_spawn(&pid, path, &actions, NULL, argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	if (rc)
		return rc;
	hush = steal_fd(&mine);
	return 0;
}

/* Return: 0 or -errno; sf-hush answers with an errno in one byte. */
static int say(char word)
{
	unsigned char answer;
	int rc = io_write_full(hush, &word, 1);

	if (!rc)
		rc = io_read_full(hush, &answer, 1);
	return rc ? rc : -answer;
}

int hush_others(void)
{
	int rc = hush < 0 ? start() : 0;

	return rc ? rc : say('s');
}

void let_others_go(void)
{
	say('g');
}
