/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* libsf's requests: one per connection. */
#define _GNU_SOURCE
#include "agent/local.h"

#include <errno.h>
#include <poll.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "common/log.h"
#include "proto/agent-socket.h"

#define GO_FIRST_MS 20	/* in which a process that was told comes back from its call */

struct local_client {
	struct source source;
	struct local *local;
	bool awaits, told;		/* AGENT_SOCK_AWAIT */
	char request[AGENT_REQUEST_KEY_BYTES];
	LIST_ENTRY(local_client) entry;	/* of those that wait */
};
_Static_assert(AGENT_REQUEST_KEY_BYTES == sizeof(((struct agent_resume *)0)->request), "one key");

static void client_end(struct local_client *client)
{
	client->local->clients--;
	if (client->awaits)
		LIST_REMOVE(client, entry);
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

/*
 * The client waits for an instant. From now on it is served like a port, because what it says in a
 * clone is heard before the rest of the agent goes on.
 */
static void begin_await(struct local_client *client, const struct agent_sock_await *await)
{
	const struct agent_sock_reply noted = {
		.flags = module_is_there(client->local->module) ? 0 : AGENT_SOCK_F_NO_MODULE
	};

	memcpy(client->request, await->request, sizeof(client->request));
	client->awaits = true;
	LIST_INSERT_HEAD(&client->local->awaiting, client, entry);
	client->source.port = true;
	loop_watch(client->local->loop, &client->source, EPOLLIN);
	send(client->source.fd, &noted, sizeof(noted), MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* It has sent the first datagram, or changed its mind, or ended. */
static void end_await(struct local_client *client, const struct agent_sock_request *request)
{
	struct local *local = client->local;

	if (client->told && request && request->op == AGENT_SOCK_ARRIVED &&
	    request->value == *local->id)
		arrive_later(local->arrive);
	client_end(client);
}

/* Return: 0; -errno; or 1 if the answer comes later. */
static int serve(struct local_client *client, const struct agent_sock_await *message, size_t len,
		 int *fd)
{
	const struct agent_sock_request *request = &message->head;
	struct local *local = client->local;
	int error;

	if (request->op == AGENT_SOCK_AWAIT && len == sizeof(*message)) {
		begin_await(client, message);
		return 1;
	}
	if (len != sizeof(*request))
		return -EINVAL;
	switch (request->op) {
	case AGENT_SOCK_RESULT:
		error = take_result(client, request->value, fd);
		return error ? error : 1;
	case AGENT_SOCK_ARRIVED:
		return tell_arrival(client, request->value);
	case AGENT_SOCK_FORGET:
		return request->value > UINT32_MAX ? -EINVAL :
		       transfers_forget(local->transfers, (uint32_t)request->value);
	default:
		return -EINVAL;
	}
}

static void client_ready(struct source *source, uint32_t events)
{
	struct local_client *client = (struct local_client *)source;	/* its first member */
	struct agent_sock_await message;
	_cleanup_fd_ int fd = -1;
	unsigned fds;
	ssize_t got = io_recv_fds(source->fd, &message, sizeof(message), &fd, 1, &fds);
	bool whole = got >= (ssize_t)sizeof(message.head);
	int error;

	(void)events;
	if (got == -EAGAIN)
		return;
	if (client->awaits) {
		end_await(client, whole ? &message.head : NULL);
		return;
	}
	if (!whole) {
		client_end(client);
		return;
	}
	/* one request: nothing more is read */
	loop_watch(client->local->loop, source, 0);
	error = serve(client, &message, (size_t)got, &fd);
	if (error <= 0)
		client_answer(client, -error);
}

/*
 * What is left to do here nobody waits for. Unless the process does, in a handler that uses
 * XenStore: so the time is limited.
 */
static void let_go_first(const struct local_client *client)
{
	struct pollfd said = { .fd = client->source.fd, .events = POLLIN };

	poll(&said, 1, GO_FIRST_MS);
}

void local_instant(struct local *local, const struct agent_resume *resume)
{
	const struct agent_sock_instant instant = {
		.id = resume->id, .count = resume->count, .checkpoint = resume->checkpoint,
		.parent = resume->parent, .answer_port = resume->answer_port,
	};
	struct local_client *client;

	LIST_FOREACH(client, &local->awaiting, entry) {
		if (client->told ||
		    memcmp(client->request, resume->request, sizeof(client->request)))
			continue;
		client->told = send(client->source.fd, &instant, sizeof(instant),
				    MSG_NOSIGNAL | MSG_DONTWAIT) == sizeof(instant);
		if (client->told)
			let_go_first(client);
	}
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
		struct transfers *transfers, struct arrive *arrive, const struct module *module)
{
	*local = (struct local){ .loop = loop, .id = id, .transfers = transfers, .arrive = arrive,
				 .module = module };
	local->listener = (struct source){ .fd = listen_fd, .ready = listener_ready };
	loop_watch(loop, &local->listener, EPOLLIN);
}
