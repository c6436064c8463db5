/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* sf connect: standard input and output joined to a port of this VM, for sfctl run --publish. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "libsf/cmd/cmd.h"

#define PIECE_BYTES 4096 /* PIPE_BUF: what a pipe that is writable takes without waiting */

/* One way. Its end is passed on once nothing waits; the other way goes on. */
struct way {
	int from, to;
	bool ended; /* the end was passed on, or who is to get the bytes is gone */
	size_t head, tail;
	char bytes[PIECE_BYTES];
};

/* Nothing more goes this way: says so to who gets it. */
static void way_end(struct way *way)
{
	way->ended = true;
	if (shutdown(way->to, SHUT_WR) && errno == ENOTSOCK)
		close(way->to);
}

static void way_take(struct way *way)
{
	ssize_t got = read(way->from, way->bytes, sizeof(way->bytes));

	if (got < 0 && (errno == EINTR || errno == EAGAIN))
		return;
	way->head = 0;
	way->tail = got > 0 ? (size_t)got : 0;
	if (got <= 0)
		way_end(way);
}

static void way_give(struct way *way)
{
	size_t len = way->tail - way->head;
	ssize_t put = send(way->to, way->bytes + way->head, len, MSG_DONTWAIT | MSG_NOSIGNAL);

	if (put < 0 && errno == ENOTSOCK)
		put = write(way->to, way->bytes + way->head, len);
	if (put < 0 && (errno == EINTR || errno == EAGAIN))
		return;
	if (put < 0) /* nobody takes it any more */
		way_end(way);
	else
		way->head += (size_t)put;
}

/* What to wait for. */
static struct pollfd way_poll(const struct way *way)
{
	bool waits = way->head < way->tail;

	return (struct pollfd){ .fd = way->ended ? -1 : waits ? way->to : way->from,
				.events = waits ? POLLOUT : POLLIN };
}

/* Passes bytes both ways until both have ended, or the port takes no more. */
static void join(int port)
{
	struct way in = { .from = STDIN_FILENO, .to = port };
	struct way out = { .from = port, .to = STDOUT_FILENO };
	struct way *ways[] = { &in, &out };

	while (!in.ended || !out.ended) {
		struct pollfd polls[] = { way_poll(&in), way_poll(&out) };

		if (poll(polls, ARRAY_SIZE(polls), -1) < 0)
			continue;
		for (unsigned i = 0; i < ARRAY_SIZE(polls); i++) {
			if (polls[i].revents && polls[i].events == POLLOUT)
				way_give(ways[i]);
			else if (polls[i].revents)
				way_take(ways[i]);
		}
	}
}

int cmd_connect(int argc, char **argv)
{
	struct sockaddr_in at = { .sin_family = AF_INET,
				  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	unsigned port = 0;
	int fd;

	cmd_parse_numbers(argc, argv, "PORT",
			  "Connect standard input and output to PORT of this VM, by TCP.", 1, 1,
			  &port);
	if (port < 1 || port > UINT16_MAX)
		return cmd_complain("a port is a number from 1 to 65535");
	at.sin_port = htons((uint16_t)port);
	signal(SIGPIPE, SIG_IGN);
	fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&at, sizeof(at)))
		return cmd_complain("port %u of the VM: %s", port, strerror(errno));
	join(fd);
	close(fd);
	return EXIT_SUCCESS;
}
