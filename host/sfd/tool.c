/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Runs a program, reads both its outputs, waits for its end. */
#define _GNU_SOURCE
#include "host/sfd/tool.h"

#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/io.h"

#define TEXT_BYTES (64u << 10)

/* One of its outputs. */
struct output {
	struct tool *tool;
	int fd;
	struct event *readable;
	char text[TEXT_BYTES];
	size_t len;
};

struct tool {
	struct tool_events events;
	void *arg;
	pid_t pid;
	struct output out, err;
	unsigned open; /* outputs that have not ended */
};

static void output_close(struct output *o)
{
	if (o->readable)
		event_free(o->readable);
	o->readable = NULL;
	cleanup_close(&o->fd);
	o->fd = -1;
}

static void tool_free(struct tool *t)
{
	output_close(&t->out);
	output_close(&t->err);
	free(t);
}

/* Both outputs are closed: so is the program. */
static void tool_ended(struct tool *t)
{
	int status = 0;

	if (waitpid(t->pid, &status, 0) != t->pid || !WIFEXITED(status))
		status = -1;
	else
		status = WEXITSTATUS(status);
	t->events.ended(t->arg, status, t->out.text, t->err.text);
	tool_free(t);
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
	struct output *o = arg;
	struct tool *t = o->tool;
	char more[4096];
	ssize_t got = read(fd, more, sizeof(more));
	size_t room = TEXT_BYTES - 1 - o->len;

	(void)what;
	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (got <= 0) {
		output_close(o);
		if (!--t->open)
			tool_ended(t);
		return;
	}
	memcpy(o->text + o->len, more, (size_t)got < room ? (size_t)got : room);
	o->len += (size_t)got < room ? (size_t)got : room;
	if (o == &t->out && t->events.printed)
		t->events.printed(t->arg, o->text);
}

/* In the child. */
static _Noreturn void become(const char *const *argv, int fd, int out, int err)
{
	sigset_t none;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	signal(SIGPIPE, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	if (dup2(out, STDOUT_FILENO) >= 0 && dup2(err, STDERR_FILENO) >= 0 &&
	    (fd < 0 || (fd == TOOL_FD ? !io_set_inherit(fd, true) : dup2(fd, TOOL_FD) >= 0)) &&
	    !close_range(fd < 0 ? TOOL_FD : TOOL_FD + 1, ~0u, 0))
		execvp(argv[0], (char *const *)argv);
	dprintf(STDERR_FILENO, "cannot run %s: %s", argv[0], strerror(errno));
	_exit(127);
}

static int output_init(struct output *o, struct tool *t, struct event_base *base, int *fd)
{
	o->tool = t;
	o->fd = steal_fd(fd);
	o->readable = event_new(base, o->fd, EV_READ | EV_PERSIST, on_readable, o);
	return o->readable && !io_set_nonblock(o->fd, true) && !event_add(o->readable, NULL)
		       ? 0
		       : -ENOMEM;
}

struct tool *tool_start(struct event_base *base, const char *const *argv, int fd,
			const struct tool_events *events, void *arg)
{
	struct tool *t = calloc(1, sizeof(*t));
	int out[2] = { -1, -1 }, err[2] = { -1, -1 };

	if (!t)
		return NULL;
	*t = (struct tool){ .events = *events, .arg = arg, .open = 2 };
	t->out.fd = t->err.fd = -1;
	if (pipe2(out, O_CLOEXEC) || pipe2(err, O_CLOEXEC) ||
	    output_init(&t->out, t, base, &out[0]) || output_init(&t->err, t, base, &err[0]))
		goto err_pipes;
	t->pid = fork();
	if (!t->pid)
		become(argv, fd, out[1], err[1]);
	if (t->pid < 0)
		goto err_pipes;
	close(out[1]);
	close(err[1]);
	return t;

err_pipes:
	for (int i = 0; i < 2; i++) {
		cleanup_close(&out[i]);
		cleanup_close(&err[i]);
	}
	tool_free(t);
	return NULL;
}

void tool_stop(struct tool *t)
{
	if (!t)
		return;
	kill(t->pid, SIGKILL);
	waitpid(t->pid, NULL, 0);
	tool_free(t);
}
