/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* libsf's requests: one per connection. */
#define _GNU_SOURCE
#include "agent/local.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "common/log.h"
#include "proto/agent-socket.h"

struct local_client {
	struct source source;
	struct local *local;
};

static void client_end(struct local_client *client)
{
	client->local->clients--;
	loop_watch(client->local->loop, &client->source, 0);
	close(client->source.fd);
	free(client);
}

/* Answers and ends the connection. `arg`: the client. `error`: 0 or errno. */
static void client_answer(void *arg, int error)
{
	struct local_client *client = arg;
	struct agent_sock_reply reply = { .error = error };

	send(client->source.fd, &reply, sizeof(reply), MSG_NOSIGNAL | MSG_DONTWAIT);
	client_end(client);
}

/* A result; the client is answered when sfd has it. Takes the descriptor. Return: 0 or -errno. */
static int take_result(struct local_client *client, uint64_t bytes, int *fd)
{
	int error = -EBADF;

	if (!*client->local->id)
		return -EPERM;
	if (*fd >= 0)
		error = transfer_send_result(client->local->transfers, *fd, bytes, client_answer,
					     client);
	if (!error)
		*fd = -1;
	return error;
}

static int tell_arrival(struct local_client *client, uint64_t id)
{
	struct local *local = client->local;

	if (!*local->id)
		return -EPERM;
	return id == *local->id ? arrive_tell(local->arrive) : -EINVAL;
}

static void client_ready(struct source *source, uint32_t events)
{
	struct local_client *client = (struct local_client *)source;	/* its first member */
	struct agent_sock_request request;
	_cleanup_fd_ int fd = -1;
	unsigned fds;
	ssize_t got = io_recv_fds(source->fd, &request, sizeof(request), &fd, 1, &fds);
	int error = -EINVAL;

	(void)events;
	if (got == -EAGAIN)
		return;
	if (got != sizeof(request)) {
		client_end(client);
		return;
	}
	/* one request: nothing more is read */
	loop_watch(client->local->loop, source, 0);
	switch (request.op) {
	case AGENT_SOCK_RESULT:
		error = take_result(client, request.value, &fd);
		if (!error)
			return;
		break;
	case AGENT_SOCK_ARRIVED:
		error = tell_arrival(client, request.value);
		break;
	case AGENT_SOCK_FORGET:
		if (request.value <= UINT32_MAX)
			error = transfers_forget(client->local->transfers, (uint32_t)request.value);
		break;
	}
	client_answer(client, -error);
}

static void listener_ready(struct source *source, uint32_t events)
{
	struct local *local = (struct local *)source;	/* its first member */
	int fd = accept4(source->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	struct local_client *client;

	(void)events;
	if (fd < 0)
		return;
	client = local->clients < LOCAL_CLIENTS ? calloc(1, sizeof(*client)) : NULL;
	if (!client) {
		log_warn("local socket: %u clients: no more", local->clients);
		close(fd);
		return;
	}
	client->local = local;
	client->source = (struct source){ .fd = fd, .ready = client_ready };
	local->clients++;
	loop_watch(local->loop, &client->source, EPOLLIN);
}

void local_init(struct local *local, struct loop *loop, int listen_fd, const uint32_t *id,
		struct transfers *transfers, struct arrive *arrive)
{
	*local = (struct local){ .loop = loop, .id = id, .transfers = transfers, .arrive = arrive };
	local->listener = (struct source){ .fd = listen_fd, .ready = listener_ready };
	loop_watch(loop, &local->listener, EPOLLIN);
}
