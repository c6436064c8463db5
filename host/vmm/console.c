/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The console's pipe: relay, and a short memory. */
#define _GNU_SOURCE
#include "host/vmm/console.h"

#include <ctype.h>
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/io.h"

#define TAIL_BYTES 512

struct console {
	struct event *readable;
	int in;
	int out;
	char tail[TAIL_BYTES];	/* the last `kept` bytes printed */
	size_t kept;
};

static void keep_tail(struct console *console, const char *text, size_t len)
{
	size_t old;

	if (len > TAIL_BYTES) {
		text += len - TAIL_BYTES;
		len = TAIL_BYTES;
	}
	old = console->kept + len > TAIL_BYTES ? TAIL_BYTES - len : console->kept;
	memmove(console->tail, console->tail + console->kept - old, old);
	memcpy(console->tail + old, text, len);
	console->kept = old + len;
}

/* A pipe that polls writable takes PIPE_BUF bytes without blocking. */
static void pass_on(struct console *console, const char *text, size_t len)
{
	struct pollfd p = { .fd = console->out, .events = POLLOUT };

	if (console->out >= 0 && poll(&p, 1, 0) == 1 && p.revents == POLLOUT)
		io_write_full(console->out, text, len);
}

/* Return: false when there is nothing to read now, or ever. */
static bool relay(struct console *console)
{
	char text[PIPE_BUF];
	ssize_t got = read(console->in, text, sizeof(text));

	if (got > 0) {
		pass_on(console, text, (size_t)got);
		keep_tail(console, text, (size_t)got);
	} else if (!got || (errno != EAGAIN && errno != EINTR)) {
		event_del(console->readable);
	}
	return got > 0;
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
	(void)fd, (void)what;
	relay(arg);
}

struct console *console_create(struct event_base *base, int in, int out)
{
	struct console *console = calloc(1, sizeof(*console));

	if (!console)
		return NULL;
	console->in = console->out = -1;
	console->readable = event_new(base, in, EV_READ | EV_PERSIST, on_readable, console);
	if (out >= 0)
		console->out = fcntl(out, F_DUPFD_CLOEXEC, 3);
	if (!console->readable || (out >= 0 && console->out < 0) || io_set_nonblock(in, true) ||
	    event_add(console->readable, NULL)) {
		console_destroy(console);
		return NULL;
	}
	console->in = in;
	return console;
}

void console_tail(struct console *console, char *text, size_t text_bytes)
{
	size_t len = 0;
	bool gap = false;

	while (relay(console))
		;
	for (size_t i = 0; i < console->kept && len + 3 < text_bytes; i++) {
		char c = console->tail[i];

		if (c == '\n') {
			gap = len;
		} else if (isprint((unsigned char)c)) {
			if (gap) {
				text[len++] = ';';
				text[len++] = ' ';
			}
			text[len++] = c;
			gap = false;
		}
	}
	text[len] = 0;
}

void console_destroy(struct console *console)
{
	if (!console)
		return;
	if (console->readable)
		event_free(console->readable);
	if (console->in >= 0)
		close(console->in);
	if (console->out >= 0)
		close(console->out);
	free(console);
}
