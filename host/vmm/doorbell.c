/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Hears the doorbell, the first ring at once.
 *
 * A guest may ring as fast as it can. So after a ring nobody listens for a moment: that is all it
 * can take of our time. What it rings meanwhile waits in the socket, and when that is full, QEMU
 * waits, which harms this guest alone.
 */
#include "host/vmm/doorbell.h"

#include <errno.h>
#include <event2/event.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/io.h"

#define DEAF_US 1000

struct doorbell {
	int sock;
	struct event *readable;
	struct event *listen_again;
	void (*rung)(void *arg);
	void *arg;
};

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
	static const struct timeval moment = { 0, DEAF_US };
	struct doorbell *bell = arg;
	char rings[4096];
	ssize_t got = read(fd, rings, sizeof(rings));

	(void)what;
	/* At its end QEMU is ending, which is told elsewhere: no more listening. */
	if (got > 0 || (got < 0 && (errno == EAGAIN || errno == EINTR)))
		event_add(bell->listen_again, &moment);
	if (got > 0)
		bell->rung(bell->arg);
}

static void on_listen_again(evutil_socket_t fd, short what, void *arg)
{
	struct doorbell *bell = arg;

	(void)fd, (void)what;
	event_add(bell->readable, NULL);
}

struct doorbell *doorbell_create(struct event_base *base, int sock, void (*rung)(void *arg),
				 void *arg)
{
	struct doorbell *bell = calloc(1, sizeof(*bell));

	if (!bell)
		return NULL;
	*bell = (struct doorbell){ .sock = -1, .rung = rung, .arg = arg };
	bell->readable = event_new(base, sock, EV_READ, on_readable, bell);
	bell->listen_again = evtimer_new(base, on_listen_again, bell);
	if (!bell->readable || !bell->listen_again || io_set_nonblock(sock, true) ||
	    event_add(bell->readable, NULL)) {
		doorbell_destroy(bell);
		return NULL;
	}
	bell->sock = sock;
	return bell;
}

void doorbell_destroy(struct doorbell *bell)
{
	if (!bell)
		return;
	if (bell->readable)
		event_free(bell->readable);
	if (bell->listen_again)
		event_free(bell->listen_again);
	if (bell->sock >= 0)
		close(bell->sock);
	free(bell);
}
