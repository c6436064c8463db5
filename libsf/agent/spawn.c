/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* fork() and exec with pipes or a pseudo-terminal. */
#define _GNU_SOURCE
#include "agent/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <pty.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <termios.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/io.h"

#define USUAL_OPEN_FILES 1024	/* the soft limit programs expect; the agent raised its own */

/* Says why the command cannot run, in its own standard error, and ends. */
static void __attribute__((noreturn)) give_up(const char *what)
{
	int error = errno;

	dprintf(STDERR_FILENO, "%s: %s\n", what, strerror(error));
	_exit(error == ENOENT ? 127 : 126);
}

/* The agent is spared when memory is short (guest-image/init.c); what it runs is not. */
static void be_like_others(void)
{
	struct rlimit files;
	int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

	if (fd >= 0) {
		if (write(fd, "0", 1) < 0)
			perror("oom_score_adj");
		close(fd);
	}
	if (!getrlimit(RLIMIT_NOFILE, &files) && files.rlim_cur > USUAL_OPEN_FILES) {
		files.rlim_cur = USUAL_OPEN_FILES;
		setrlimit(RLIMIT_NOFILE, &files);
	}
}

/* In the child. */
static void __attribute__((noreturn)) become(const struct spawn_request *request, const int fds[3])
{
	sigset_t none;

	setsid();
	for (int i = 0; i < 3; i++)
		dup2(fds[i], i);
	if (request->tty)
		ioctl(STDIN_FILENO, TIOCSCTTY, 0);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_DFL);
	be_like_others();
	for (char **e = request->env; *e; e++)
		putenv(*e);
	if (*request->cwd && chdir(request->cwd))
		give_up(request->cwd);
	execvp(request->argv[0], request->argv);
	give_up(request->argv[0]);
}

pid_t spawn_on(const struct spawn_request *request, const int fds[3])
{
	pid_t pid = fork();

	if (!pid)
		become(request, fds);
	return pid < 0 ? -errno : pid;
}

/* fds[3] are the child's. Return: 0 or -errno. */
static int start(const struct spawn_request *request, const int fds[3], struct spawned *spawned)
{
	spawned->pid = spawn_on(request, fds);
	return spawned->pid < 0 ? spawned->pid : 0;
}

static int spawn_tty(const struct spawn_request *request, struct spawned *spawned)
{
	struct winsize size = { .ws_row = request->rows, .ws_col = request->columns };
	_cleanup_fd_ int master = -1, slave = -1, again = -1;
	int error;

	if (openpty(&master, &slave, NULL, NULL, &size))
		return -errno;
	/* the loop knows a descriptor once, so reading and writing have one each */
	again = fcntl(master, F_DUPFD_CLOEXEC, 3);
	if (again < 0)
		return -errno;
	error = io_set_inherit(master, false);
	if (!error)
		error = io_set_inherit(slave, false);
	if (!error)
		error = io_set_nonblock(master, true);
	if (!error)
		error = start(request, (int[]){ slave, slave, slave }, spawned);
	if (error)
		return error;
	spawned->in = steal_fd(&again);
	spawned->out[0] = steal_fd(&master);
	spawned->out[1] = -1;
	return 0;
}

static int spawn_pipes(const struct spawn_request *request, struct spawned *spawned)
{
	_cleanup_fd_ int in_r = -1, in_w = -1, out_r = -1, out_w = -1, err_r = -1, err_w = -1;
	int *ends[3][2] = { { &in_r, &in_w }, { &out_r, &out_w }, { &err_r, &err_w } };
	int error = 0;

	for (int i = 0; i < 3; i++) {
		int pair[2];

		if (pipe2(pair, O_CLOEXEC))
			return -errno;
		*ends[i][0] = pair[0];
		*ends[i][1] = pair[1];
	}
	error = io_set_nonblock(in_w, true);
	if (!error)
		error = io_set_nonblock(out_r, true);
	if (!error)
		error = io_set_nonblock(err_r, true);
	if (!error)
		error = start(request, (int[]){ in_r, out_w, err_w }, spawned);
	if (error)
		return error;
	spawned->in = steal_fd(&in_w);
	spawned->out[0] = steal_fd(&out_r);
	spawned->out[1] = steal_fd(&err_r);
	return 0;
}

int spawn(const struct spawn_request *request, struct spawned *spawned)
{
	return request->tty ? spawn_tty(request, spawned) : spawn_pipes(request, spawned);
}
