/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A local XenStore client's socket, and what has to be undone when it goes away. */
#define _GNU_SOURCE
#include "agent/xsclient.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/log.h"

struct xs_client *xs_client_create(struct xsmux *mux, int fd)
{
	struct xs_client *client = malloc(sizeof(*client));

	if (!client) {
		close(fd);
		return NULL;
	}
	/* all but the input buffer, which need not be touched yet */
	memset(client, 0, offsetof(struct xs_client, in));
	client->source.fd = fd;
	client->mux = mux;
	return client;
}

void xs_client_destroy(struct xs_client *client)
{
	while (client->watches) {
		struct xs_watch *watch = client->watches;

		client->watches = watch->next;
		free(watch);
	}
	free(client->backlog);
	free(client);
}

void xs_client_leave(struct xs_client *client, const char *why)
{
	if (client->source.fd < 0)
		return;
	if (why)
		log_warn("xenstore client %u: %s", client->number, why);
	loop_watch(client->mux->loop, &client->source, 0);
	close(client->source.fd);
	client->source.fd = -1;
	client->mux->undoing = true;
	free(steal_ptr(&client->backlog));
	client->backlog_len = client->backlog_room = 0;
}

/* Keeps bytes for later. Return: false if that would be too much. */
static bool keep(struct xs_client *client, const void *bytes, size_t len)
{
	if (client->backlog_len + len > client->backlog_room) {
		size_t room = client->backlog_len + len + 4096;
		uint8_t *bigger;

		if (room > XSMUX_BACKLOG_BYTES)
			return false;
		bigger = realloc(client->backlog, room);
		if (!bigger)
			return false;
		client->backlog = bigger;
		client->backlog_room = room;
	}
	memcpy(client->backlog + client->backlog_len, bytes, len);
	client->backlog_len += len;
	return true;
}

void xs_client_send(struct xs_client *client, const struct xsd_sockmsg *head, const void *payload,
		    uint32_t len)
{
	struct xsd_sockmsg h = *head;
	struct iovec iov[2] = { { &h, sizeof(h) }, { (void *)payload, len } };
	struct msghdr msg = { .msg_iov = iov, .msg_iovlen = 2 };
	ssize_t sent = 0;

	if (client->source.fd < 0)
		return;
	h.len = len;
	if (!client->backlog_len) {
		sent = sendmsg(client->source.fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (sent < 0 && errno != EAGAIN && errno != EINTR)
			return;	/* it is gone; reading tells */
		if (sent < 0)
			sent = 0;
	}
	for (int i = 0; i < 2; i++) {
		size_t done = (size_t)sent < iov[i].iov_len ? (size_t)sent : iov[i].iov_len;

		sent -= (ssize_t)done;
		if (done < iov[i].iov_len &&
		    !keep(client, (char *)iov[i].iov_base + done, iov[i].iov_len - done)) {
			xs_client_leave(client, "does not read its answers: dropped");
			return;
		}
	}
	if (client->backlog_len)
		loop_watch(client->mux->loop, &client->source, client->source.events | EPOLLOUT);
}

static const char *error_name(int error)
{
	for (size_t i = 0; i < ARRAY_SIZE(xsd_errors); i++) {
		if (xsd_errors[i].errnum == error)
			return xsd_errors[i].errstring;
	}
	return "EIO";
}

void xs_client_error(struct xs_client *client, const struct xsd_sockmsg *request, int error)
{
	struct xsd_sockmsg head = *request;
	const char *name = error_name(error);

	head.type = XS_ERROR;
	xs_client_send(client, &head, name, (uint32_t)strlen(name) + 1);
}

void xs_client_flush(struct xs_client *client)
{
	ssize_t sent;

	if (!client->backlog_len)
		return;
	sent = send(client->source.fd, client->backlog, client->backlog_len,
		    MSG_NOSIGNAL | MSG_DONTWAIT);
	if (sent < 0)
		return;
	client->backlog_len -= (size_t)sent;
	memmove(client->backlog, client->backlog + sent, client->backlog_len);
	if (client->backlog_len)
		return;
	free(steal_ptr(&client->backlog));
	client->backlog_room = 0;
	loop_watch(client->mux->loop, &client->source, client->source.events & ~(uint32_t)EPOLLOUT);
}

int xs_client_receive(struct xs_client *client)
{
	for (;;) {
		struct xsd_sockmsg head;
		size_t want = sizeof(head);
		ssize_t got;

		if (client->in_len >= sizeof(head)) {
			memcpy(&head, client->in, sizeof(head));
			if (head.len > XENSTORE_PAYLOAD_MAX) {
				xs_client_leave(client, "a message that is too long: dropped");
				return -1;
			}
			want += head.len;
			if (client->in_len >= want)
				return 1;
		}
		got = recv(client->source.fd, client->in + client->in_len, want - client->in_len,
			   MSG_DONTWAIT);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0 && errno == EAGAIN)
			return 0;
		if (got <= 0) {
			xs_client_leave(client, NULL);
			return -1;
		}
		client->in_len += (size_t)got;
	}
}

struct xs_watch *xs_client_add_watch(struct xs_client *client, const char *names, size_t len)
{
	struct xs_watch *watch = malloc(sizeof(*watch) + len);

	if (!watch)
		return NULL;
	watch->len = len;
	memcpy(watch->names, names, len);
	watch->next = client->watches;
	client->watches = watch;
	return watch;
}

struct xs_watch *xs_client_take_watch(struct xs_client *client, const char *names, size_t len)
{
	for (struct xs_watch **at = &client->watches; *at; at = &(*at)->next) {
		struct xs_watch *watch = *at;

		if (watch->len == len && !memcmp(watch->names, names, len)) {
			*at = watch->next;
			return watch;
		}
	}
	return NULL;
}

bool xs_client_has_tx(const struct xs_client *client, uint32_t tx_id)
{
	for (unsigned i = 0; i < client->tx_count; i++) {
		if (client->tx[i] == tx_id)
			return true;
	}
	return false;
}

void xs_client_forget_tx(struct xs_client *client, uint32_t tx_id)
{
	for (unsigned i = 0; i < client->tx_count; i++) {
		if (client->tx[i] == tx_id) {
			client->tx[i] = client->tx[--client->tx_count];
			return;
		}
	}
}
