/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Reads a pipe, writes it to a log and to a control connection. */
#define _GNU_SOURCE
#include "host/sfd/guest_console.h"

#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "host/sfd/control.h"
#include "host/sfd/guest.h"

struct guest_console {
	struct guest *guest;
	int fd, log;
	struct event *readable;
};

/* Return: false if there is nothing more now. */
static bool pass_on(struct guest_console *c)
{
	struct guest *g = c->guest;
	char text[4096];
	ssize_t got = read(c->fd, text, sizeof(text));

	if (got <= 0)
		return false;
	if (c->log >= 0)
		io_write_full(c->log, text, (size_t)got);
	if (g->owner)
		control_console(g->owner, g->vm.name, text, (size_t)got);
	return true;
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	pass_on(arg);
}

struct guest_console *guest_console_new(struct guest *g, int *fd)
{
	const struct daemon *d = g->vm.daemon;
	struct guest_console *c = calloc(1, sizeof(*c));
	char path[PATH_MAX];
	int ends[2];

	if (!c || pipe2(ends, O_CLOEXEC)) {
		free(c);
		return NULL;
	}
	c->guest = g;
	c->fd = ends[0];
	snprintf(path, sizeof(path), "%s/console.log", d->config.dir);
	c->log = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	c->readable = event_new(d->base, c->fd, EV_READ | EV_PERSIST, on_readable, c);
	*fd = ends[1];
	if (c->readable && !io_set_nonblock(c->fd, true) && !event_add(c->readable, NULL))
		return c;
	close(steal_fd(fd));
	guest_console_free(c);
	errno = ENOMEM;
	return NULL;
}

void guest_console_free(struct guest_console *c)
{
	if (!c)
		return;
	while (pass_on(c))
		;
	if (c->readable)
		event_free(c->readable);
	close(c->fd);
	cleanup_close(&c->log);
	free(c);
}
