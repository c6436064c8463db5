/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Running a program for what it prints. */
#include "host/sfctl/capture.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/cleanup.h"

extern char **environ;

/* Starts a program that prints to `out`. Return: 0 or -errno. */
static int start(const char *const argv[], int out, pid_t *pid)
{
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attributes;
	sigset_t pipe_signal;
	int error;

	sigemptyset(&pipe_signal);
	sigaddset(&pipe_signal, SIGPIPE);
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_adddup2(&actions, out, 1);
	posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0);
	posix_spawnattr_init(&attributes);
	posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF);
	posix_spawnattr_setsigdefault(&attributes, &pipe_signal);
	error = posix_spawnp(pid, argv[0], &actions, &attributes, (char *const *)argv, environ);
	posix_spawnattr_destroy(&attributes);
	posix_spawn_file_actions_destroy(&actions);
	return -error;
}

/* Reads to the end and keeps `limit` bytes of it, NUL-ended. Return: 0 or -errno. */
static int read_all(int fd, char *text, size_t limit)
{
	char rest[4096];
	size_t used = 0;

	for (;;) {
		size_t room = limit - used;
		ssize_t got = read(fd, room ? text + used : rest, room ? room : sizeof(rest));

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -errno;
		if (!got)
			break;
		used += room ? (size_t)got : 0;
	}
	text[used] = 0;
	return 0;
}

int capture(const char *const argv[], size_t limit, char **text)
{
	_cleanup_free_ char *buf = malloc(limit + 1);
	int fds[2], status, error;
	pid_t pid;

	if (!buf || pipe2(fds, O_CLOEXEC))
		return -errno;
	error = start(argv, fds[1], &pid);
	close(fds[1]);
	if (!error) {
		error = read_all(fds[0], buf, limit);
		if (waitpid(pid, &status, 0) < 0)
			error = -errno;
	}
	close(fds[0]);
	if (error)
		return error;
	if (!WIFEXITED(status))
		return -EIO;
	*text = steal_ptr(&buf);
	return WEXITSTATUS(status);
}
