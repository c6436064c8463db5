/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A small multiplexer: a connection's watch tokens get its number in front on their way in, which
 * tells on the way out whose an event is; an answer is whose request is being served.
 */
#include "config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <xenstore.h>
#include <xen/io/xs_wire.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "host/sfd/xs_server.h"
#include "tests/common/door.h"

#define CLIENTS	      12
#define WATCHES	      8
#define PIDS	      64
#define MESSAGE_BYTES (sizeof(struct xsd_sockmsg) + XENSTORE_PAYLOAD_MAX)

struct client {
	int fd; /* -1: none */
	struct {
		char path[128], token[160]; /* path empty: none */
	} watch[WATCHES];
};

struct door {
	struct xs_server *xs;
	int listener;
	struct client client[CLIENTS];
	struct client *served; /* whose request the server is at */
	pid_t pids[PIDS];
	unsigned pid_count;
	char out[2 * MESSAGE_BYTES]; /* a message that came in parts */
	size_t out_bytes;
};

struct door *door_listen(struct xs_server *xs, const char *path)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	struct door *door = calloc(1, sizeof(*door));

	if (!door)
		return NULL;
	door->xs = xs;
	door->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	for (unsigned i = 0; i < CLIENTS; i++)
		door->client[i].fd = -1;
	snprintf(at.sun_path, sizeof(at.sun_path), "%s", path);
	unlink(path);
	if (door->listener < 0 || bind(door->listener, (struct sockaddr *)&at, sizeof(at)) ||
	    listen(door->listener, 16)) {
		free(door);
		return NULL;
	}
	return door;
}

void door_close(struct door *door)
{
	struct sockaddr_un at;
	socklen_t len = sizeof(at);

	door_drop(door);
	if (!getsockname(door->listener, (struct sockaddr *)&at, &len))
		unlink(at.sun_path);
	close(door->listener);
	free(door);
}

static void ask_server(struct door *door, uint32_t type, const char *payload, size_t len)
{
	char message[MESSAGE_BYTES];
	struct xsd_sockmsg head = { .type = type, .len = (uint32_t)len };

	memcpy(message, &head, sizeof(head));
	memcpy(message + sizeof(head), payload, len);
	if (xs_input(door->xs, message, sizeof(head) + len))
		abort();
}

static void client_end(struct door *door, struct client *c)
{
	char payload[sizeof(c->watch[0])];

	close(c->fd);
	c->fd = -1;
	door->served = NULL;
	for (unsigned i = 0; i < WATCHES; i++) {
		int len;

		if (!c->watch[i].path[0])
			continue;
		len = snprintf(payload, sizeof(payload), "%s%c%s", c->watch[i].path, 0,
			       c->watch[i].token);
		c->watch[i].path[0] = 0;
		ask_server(door, XS_UNWATCH, payload, (size_t)len + 1);
	}
}

void door_drop(struct door *door)
{
	for (unsigned i = 0; i < CLIENTS; i++) {
		if (door->client[i].fd >= 0)
			client_end(door, &door->client[i]);
	}
}

unsigned door_fds(const struct door *door, struct pollfd *fds, unsigned room)
{
	unsigned count = 0;

	if (room)
		fds[count++] = (struct pollfd){ .fd = door->listener, .events = POLLIN };
	for (unsigned i = 0; i < CLIENTS && count < room; i++) {
		if (door->client[i].fd >= 0)
			fds[count++] =
				(struct pollfd){ .fd = door->client[i].fd, .events = POLLIN };
	}
	return count;
}

static void accept_client(struct door *door)
{
	int fd = accept4(door->listener, NULL, NULL, SOCK_CLOEXEC);
	struct ucred who;
	socklen_t len = sizeof(who);

	if (fd < 0)
		return;
	if (!getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &len) && door->pid_count < PIDS)
		door->pids[door->pid_count++] = who.pid;
	for (unsigned i = 0; i < CLIENTS; i++) {
		if (door->client[i].fd < 0) {
			door->client[i].fd = fd;
			return;
		}
	}
	fprintf(stderr, "double: too many connections at once\n");
	abort();
}

/* Remembers or forgets a watch. */
static void note_watch(struct client *c, bool on, const char *path, const char *token)
{
	for (unsigned i = 0; i < WATCHES; i++) {
		if (on && !c->watch[i].path[0]) {
			snprintf(c->watch[i].path, sizeof(c->watch[i].path), "%s", path);
			snprintf(c->watch[i].token, sizeof(c->watch[i].token), "%s", token);
			return;
		}
		if (!on && !strcmp(c->watch[i].path, path) && !strcmp(c->watch[i].token, token)) {
			c->watch[i].path[0] = 0;
			return;
		}
	}
	fprintf(stderr, "double: %s a watch on %s\n", on ? "no room for" : "there is not", path);
	abort();
}

/* Puts the client's number before the token of a watch. Return: the new length of the payload. */
static size_t mark_token(struct door *door, struct client *c, uint32_t type, char *payload)
{
	size_t path_len = strlen(payload) + 1;
	char token[160];
	int len = snprintf(token, sizeof(token), "%d:%s", (int)(c - door->client),
			   payload + path_len);

	note_watch(c, type == XS_WATCH, payload, token);
	memcpy(payload + path_len, token, (size_t)len + 1);
	return path_len + (size_t)len + 1;
}

static void serve_client(struct door *door, struct client *c)
{
	char payload[XENSTORE_PAYLOAD_MAX + 256],
		message[sizeof(payload) + sizeof(struct xsd_sockmsg)];
	struct xsd_sockmsg head;

	if (io_read_full(c->fd, &head, sizeof(head)) || head.len > XENSTORE_PAYLOAD_MAX ||
	    io_read_full(c->fd, payload, head.len)) {
		client_end(door, c);
		return;
	}
	if (head.type == XS_WATCH || head.type == XS_UNWATCH)
		head.len = (uint32_t)mark_token(door, c, head.type, payload);
	memcpy(message, &head, sizeof(head));
	memcpy(message + sizeof(head), payload, head.len);
	door->served = c;
	if (xs_input(door->xs, message, sizeof(head) + head.len))
		abort();
	door->served = NULL;
}

void door_serve(struct door *door, const struct pollfd *fds, unsigned count)
{
	for (unsigned k = 0; k < count; k++) {
		if (!fds[k].revents)
			continue;
		for (unsigned i = 0; i < CLIENTS; i++) {
			if (door->client[i].fd == fds[k].fd) {
				serve_client(door, &door->client[i]);
				break;
			}
		}
		if (fds[k].fd == door->listener)
			accept_client(door);
	}
}

static void deliver(struct door *door, const struct xsd_sockmsg *head, const char *payload)
{
	struct client *c = door->served;
	struct xsd_sockmsg out = *head;
	char event[XENSTORE_PAYLOAD_MAX];

	if (head->type == XS_WATCH_EVENT) {
		size_t path_len = strlen(payload) + 1;
		const char *token = payload + path_len, *own = strchr(token, ':') + 1;

		c = &door->client[atoi(token)];
		out.len = (uint32_t)(path_len + strlen(own) + 1);
		memcpy(event, payload, path_len);
		memcpy(event + path_len, own, strlen(own) + 1);
		payload = event;
	}
	if (!c || c->fd < 0 || io_write_full(c->fd, &out, sizeof(out)))
		return;
	io_write_full(c->fd, payload, out.len);
}

void door_send(struct door *door, const void *bytes, size_t len)
{
	struct xsd_sockmsg head;

	if (len > sizeof(door->out) - door->out_bytes)
		abort();
	memcpy(door->out + door->out_bytes, bytes, len);
	door->out_bytes += len;
	while (door->out_bytes >= sizeof(head)) {
		size_t whole;

		memcpy(&head, door->out, sizeof(head));
		whole = sizeof(head) + head.len;
		if (door->out_bytes < whole)
			return;
		deliver(door, &head, door->out + sizeof(head));
		door->out_bytes -= whole;
		memmove(door->out, door->out + whole, door->out_bytes);
	}
}

bool door_knows(const struct door *door, pid_t pid)
{
	for (unsigned i = 0; i < door->pid_count; i++) {
		if (door->pids[i] == pid)
			return true;
	}
	return false;
}

unsigned door_watches(const struct door *door)
{
	unsigned count = 0;

	for (unsigned i = 0; i < CLIENTS; i++) {
		for (unsigned k = 0; k < WATCHES; k++)
			count += door->client[i].fd >= 0 && door->client[i].watch[k].path[0];
	}
	return count;
}
