/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The XenStore multiplexer.
 *
 * The VM has one connection to its XenStore server; the guest has any number of processes that use
 * libxenstore. What tells clients apart on the shared connection:
 *
 *   req_id        replaced by the place of the request in `requests`, put back in the answer.
 *   transactions  belong to the client that began them; another's number is ENOENT here.
 *   watch tokens  get "<client number in hex>:" in front, taken off again in the events.
 *
 * A client that leaves is kept without a socket until its transactions are aborted and its watches
 * removed (undo()); these requests are the agent's own and their answers are dropped. Clients are
 * read one message at a time and only while there is room to pass it on, so memory is bounded by
 * the number of clients and no client can hold up another.
 */
#define _GNU_SOURCE
#include "agent/xsmux.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/xsclient.h"
#include "common/log.h"

#define TOKEN_PREFIX_BYTES sizeof("ffffffff:")

static void broken(struct xsmux *mux, const char *what)
{
	log_err("xenstore port: %s", what);
	loop_end(mux->loop, 1);
}

/* -- towards the server ------------------------------------------------------------------ */

static void flush(struct xsmux *mux)
{
	while (mux->out_head < mux->out_tail) {
		ssize_t put = write(mux->port.fd, mux->out + mux->out_head,
				    mux->out_tail - mux->out_head);

		if (put < 0 && errno == EINTR)
			continue;
		if (put < 0 && errno == EAGAIN)
			break;
		if (put <= 0) {
			broken(mux, put ? strerror(errno) : "closed by the host");
			return;
		}
		mux->out_head += (size_t)put;
		mux->sent += (uint64_t)put;
	}
	if (mux->out_head == mux->out_tail)
		mux->out_head = mux->out_tail = 0;
	loop_watch(mux->loop, &mux->port, EPOLLIN | (mux->out_tail ? EPOLLOUT : 0));
}

/* True if one more request of any size can be passed on. */
static bool has_room(const struct xsmux *mux)
{
	return !mux->quiet && mux->request_count < XSMUX_REQUESTS &&
	       XSMUX_OUT_BYTES - (mux->out_tail - mux->out_head) >= XSMUX_MESSAGE_BYTES;
}

static bool may_ask(const struct xs_client *client)
{
	return has_room(client->mux) && client->pending < XSMUX_CLIENT_REQUESTS && !client->reset;
}

/*
 * Finds a place for a request; there is one, as has_room() said. The first free one: the fewer
 * places are ever used, the less memory is touched.
 */
static struct xs_request *new_request(struct xsmux *mux, struct xs_client *client,
				      const struct xsd_sockmsg *head)
{
	struct xs_request *request = mux->requests;

	while (request->used)
		request++;
	if (request == mux->requests + mux->request_end)
		mux->request_end++;
	*request = (struct xs_request){ .used = true, .round = (uint16_t)(request->round + 1),
					.type = head->type, .req_id = head->req_id,
					.tx_id = head->tx_id, .client = client };
	mux->request_count++;
	if (client)
		client->pending++;
	return request;
}

/*
 * Passes a message on: `before` bytes of the payload, `prefix`, the rest. The caller has made sure
 * of room. Return: the request.
 */
static struct xs_request *pass_on(struct xsmux *mux, struct xs_client *client,
				  const struct xsd_sockmsg *head, const char *payload,
				  size_t before, const char *prefix)
{
	struct xs_request *request = new_request(mux, client, head);
	size_t prefix_len = strlen(prefix);
	struct xsd_sockmsg h = *head;
	uint8_t *at;

	if (XSMUX_OUT_BYTES - mux->out_tail < XSMUX_MESSAGE_BYTES) {
		memmove(mux->out, mux->out + mux->out_head, mux->out_tail - mux->out_head);
		mux->out_tail -= mux->out_head;
		mux->out_head = 0;
	}
	h.req_id = (uint32_t)(request - mux->requests) | (uint32_t)request->round << 16;
	h.len = head->len + (uint32_t)prefix_len;
	at = mux->out + mux->out_tail;
	memcpy(at, &h, sizeof(h));
	at += sizeof(h);
	memcpy(at, payload, before);
	memcpy(at + before, prefix, prefix_len);
	memcpy(at + before + prefix_len, payload + before, head->len - before);
	mux->out_tail += sizeof(h) + h.len;
	flush(mux);
	return request;
}

/* Writes the prefix of this client's tokens. */
static void token_prefix(const struct xs_client *client, char prefix[TOKEN_PREFIX_BYTES])
{
	snprintf(prefix, TOKEN_PREFIX_BYTES, "%x:", client->number);
}

/* -- what clients leave behind -------------------------------------------------------------- */

/* The watch is no more: no request may point to it. */
static void free_watch(struct xsmux *mux, struct xs_watch *watch)
{
	for (unsigned i = 0; i < mux->request_end; i++) {
		if (mux->requests[i].watch == watch)
			mux->requests[i].watch = NULL;
	}
	free(watch);
}

/* Undoes one thing of a client's. Return: false if there is nothing left. */
static bool undo_one(struct xsmux *mux, struct xs_client *client)
{
	struct xs_watch *watch = client->watches;
	struct xsd_sockmsg head = { 0 };
	char prefix[TOKEN_PREFIX_BYTES];

	if (client->tx_count) {
		head.type = XS_TRANSACTION_END;
		head.tx_id = client->tx[--client->tx_count];
		head.len = 2;
		pass_on(mux, NULL, &head, "F", 0, "");
		return true;
	}
	if (!watch)
		return false;
	token_prefix(client, prefix);
	head.type = XS_UNWATCH;
	head.len = (uint32_t)watch->len;
	pass_on(mux, NULL, &head, watch->names, strlen(watch->names) + 1, prefix);
	client->watches = watch->next;
	free_watch(mux, watch);
	return true;
}

/* The client has nothing left to undo: it goes, or its XS_RESET_WATCHES is answered. */
static void undone(struct xsmux *mux, struct xs_client **at)
{
	struct xs_client *client = *at;
	struct xsd_sockmsg head = { .type = XS_RESET_WATCHES, .req_id = client->reset_req_id };

	if (client->source.fd < 0) {
		*at = client->next;
		mux->client_count--;
		xs_client_destroy(client);
		return;
	}
	client->reset = false;
	mux->stalled = true;
	xs_client_send(client, &head, "OK", 3);
}

/* Goes on undoing what clients left, as far as there is room. */
static void undo(struct xsmux *mux)
{
	struct xs_client **at = &mux->clients;

	if (!mux->undoing)
		return;
	mux->undoing = false;
	while (*at) {
		struct xs_client *client = *at;

		if (client->source.fd >= 0 && !client->reset) {
			at = &client->next;
			continue;
		}
		while (has_room(mux) && undo_one(mux, client))
			;
		if (client->pending || client->watches || client->tx_count) {
			mux->undoing = true;
			at = &client->next;
			continue;
		}
		undone(mux, at);
		if (*at == client)
			at = &client->next;
	}
}

/* -- from clients ------------------------------------------------------------------------ */

/* Where the token of `path\0token\0…` begins, and in *end what follows it. Return: 0: not so. */
static size_t find_token(const char *payload, size_t len, size_t *end)
{
	const char *path_end = memchr(payload, 0, len);
	const char *token_end;

	if (!path_end)
		return 0;
	token_end = memchr(path_end + 1, 0, len - (size_t)(path_end + 1 - payload));
	if (!token_end)
		return 0;
	*end = (size_t)(token_end - payload) + 1;
	return (size_t)(path_end - payload) + 1;
}

/* XS_WATCH and XS_UNWATCH: the token gets the client's number. */
static void ask_watch(struct xs_client *client, const struct xsd_sockmsg *head, const char *payload)
{
	struct xsmux *mux = client->mux;
	char prefix[TOKEN_PREFIX_BYTES];
	struct xs_request *request;
	struct xs_watch *watch;
	size_t end, token = find_token(payload, head->len, &end);

	token_prefix(client, prefix);
	if (!token) {
		xs_client_error(client, head, EINVAL);
		return;
	}
	if (head->len + strlen(prefix) > XENSTORE_PAYLOAD_MAX) {
		xs_client_error(client, head, E2BIG);
		return;
	}
	if (head->type == XS_UNWATCH) {
		watch = xs_client_take_watch(client, payload, end);
		pass_on(mux, client, head, payload, token, prefix);
		if (watch)
			free_watch(mux, watch);
		return;
	}
	watch = xs_client_add_watch(client, payload, end);
	if (!watch) {
		xs_client_error(client, head, ENOMEM);
		return;
	}
	request = pass_on(mux, client, head, payload, token, prefix);
	request->watch = watch;
}

static void ask_transaction(struct xs_client *client, const struct xsd_sockmsg *head,
			    const char *payload)
{
	if (client->tx_count + client->tx_starting >= XSMUX_CLIENT_TRANSACTIONS) {
		xs_client_error(client, head, ENOSPC);
		return;
	}
	client->tx_starting++;
	pass_on(client->mux, client, head, payload, 0, "");
}

static void ask(struct xs_client *client, const struct xsd_sockmsg *head, const char *payload)
{
	if (head->tx_id && !xs_client_has_tx(client, head->tx_id)) {
		xs_client_error(client, head, ENOENT);
		return;
	}
	switch (head->type) {
	case XS_WATCH:
	case XS_UNWATCH:
		ask_watch(client, head, payload);
		break;
	case XS_TRANSACTION_START:
		ask_transaction(client, head, payload);
		break;
	case XS_RESET_WATCHES:
		client->reset = true;
		client->reset_req_id = head->req_id;
		client->mux->undoing = true;
		break;
	default:
		pass_on(client->mux, client, head, payload, 0, "");
		break;
	}
}

/* Listens to a client if its next request could be passed on. */
static void listen_to(struct xs_client *client)
{
	uint32_t events = client->backlog_len ? EPOLLOUT : 0;

	if (client->source.fd < 0)
		return;
	if (may_ask(client))
		events |= EPOLLIN;
	else
		client->mux->stalled = true;
	loop_watch(client->mux->loop, &client->source, events);
}

static void client_ready(struct source *source, uint32_t events)
{
	struct xs_client *client = (struct xs_client *)source;	/* its first member */
	struct xsmux *mux = client->mux;

	if (events & EPOLLOUT)
		xs_client_flush(client);
	if (events & (EPOLLHUP | EPOLLERR) && !may_ask(client))
		xs_client_leave(client, NULL);
	while (client->source.fd >= 0 && may_ask(client) && xs_client_receive(client) > 0) {
		struct xsd_sockmsg head;

		memcpy(&head, client->in, sizeof(head));
		client->in_len = 0;
		ask(client, &head, (char *)client->in + sizeof(head));
	}
	listen_to(client);
	undo(mux);
}

static void listener_ready(struct source *source, uint32_t events)
{
	struct xsmux *mux = (struct xsmux *)((char *)source - offsetof(struct xsmux, listener));
	int fd = accept4(source->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	struct xs_client *client;

	(void)events;
	if (fd < 0)
		return;
	if (mux->client_count >= XSMUX_CLIENTS) {
		log_warn("xenstore: %u clients: no more", mux->client_count);
		close(fd);
		return;
	}
	client = xs_client_create(mux, fd);
	if (!client)
		return;
	client->source.ready = client_ready;
	client->number = ++mux->last_number;
	client->next = mux->clients;
	mux->clients = client;
	mux->client_count++;
	listen_to(client);
}

/* -- from the server --------------------------------------------------------------------- */

static void deliver_event(struct xsmux *mux, const struct xsd_sockmsg *head, char *payload)
{
	size_t end, token = find_token(payload, head->len, &end);
	unsigned long number;
	char *colon;

	if (!token)
		return;
	number = strtoul(payload + token, &colon, 16);
	for (struct xs_client *client = mux->clients; client; client = client->next) {
		size_t prefix = (size_t)(colon - payload) + 1 - token;

		if (client->number != number || *colon != ':')
			continue;
		memmove(payload + token, payload + token + prefix, head->len - token - prefix);
		xs_client_send(client, head, payload, head->len - (uint32_t)prefix);
		return;
	}
}

/* A transaction began. Return: false if the answer makes no sense. */
static bool began(struct xs_client *client, const struct xsd_sockmsg *head, const char *payload)
{
	unsigned long id;

	client->tx_starting--;
	if (head->type == XS_ERROR)
		return true;
	if (!memchr(payload, 0, head->len))
		return false;
	id = strtoul(payload, NULL, 10);
	if (!id || id > UINT32_MAX)
		return false;
	client->tx[client->tx_count++] = (uint32_t)id;
	return true;
}

/* Does what an answer means for what the client has open. Return: false if it makes no sense. */
static bool note_answer(struct xsmux *mux, const struct xs_request *request,
			const struct xsd_sockmsg *head, const char *payload)
{
	struct xs_client *client = request->client;
	struct xs_watch *watch = request->watch;
	bool refused = head->type == XS_ERROR;

	switch (request->type) {
	case XS_WATCH:
		if (!refused || !watch)
			return true;
		watch = xs_client_take_watch(client, watch->names, watch->len);
		free_watch(mux, watch);
		return true;
	case XS_TRANSACTION_START:
		return began(client, head, payload);
	case XS_TRANSACTION_END:
		if (!refused || head->len < 6 || memcmp(payload, "EINVAL", 6) != 0)
			xs_client_forget_tx(client, request->tx_id);
		return true;
	default:
		return true;
	}
}

static void deliver_answer(struct xsmux *mux, struct xsd_sockmsg *head, const char *payload)
{
	struct xs_request *request = &mux->requests[head->req_id % XSMUX_REQUESTS];
	struct xs_client *client = request->client;

	if (!request->used || head->req_id >> 16 != request->round ||
	    (head->req_id & 0xffff) >= XSMUX_REQUESTS) {
		broken(mux, "an answer that nobody asked for");
		return;
	}
	request->used = false;
	mux->request_count--;
	if (!client)
		return;
	client->pending--;
	if (!note_answer(mux, request, head, payload)) {
		broken(mux, "an answer that makes no sense");
		return;
	}
	request->watch = NULL;
	head->req_id = request->req_id;
	xs_client_send(client, head, payload, head->len);
}

/* Listens again to clients that had to wait, and goes on undoing. */
static void go_on(struct xsmux *mux)
{
	undo(mux);
	if (!mux->stalled || !has_room(mux))
		return;
	mux->stalled = false;
	for (struct xs_client *client = mux->clients; client; client = client->next)
		listen_to(client);
}

/* Reads up to the end of a message, never beyond. Return: true if mux->in is one. */
static bool receive(struct xsmux *mux)
{
	for (;;) {
		struct xsd_sockmsg head;
		size_t want = sizeof(head);
		ssize_t got;

		if (mux->in_len >= sizeof(head)) {
			memcpy(&head, mux->in, sizeof(head));
			if (head.len > XENSTORE_PAYLOAD_MAX) {
				broken(mux, "a message that is too long");
				return false;
			}
			want += head.len;
			if (mux->in_len >= want)
				return true;
		}
		got = read(mux->port.fd, mux->in + mux->in_len, want - mux->in_len);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0 && errno == EAGAIN)
			return false;
		if (got <= 0) {
			broken(mux, got ? strerror(errno) : "closed by the host");
			return false;
		}
		mux->in_len += (size_t)got;
		mux->received += (uint64_t)got;
	}
}

static void port_ready(struct source *source, uint32_t events)
{
	struct xsmux *mux = (struct xsmux *)source;	/* its first member */

	if (events & EPOLLOUT)
		flush(mux);
	while (!mux->loop->ended && receive(mux)) {
		char *payload = (char *)mux->in + sizeof(struct xsd_sockmsg);
		struct xsd_sockmsg head;

		memcpy(&head, mux->in, sizeof(head));
		mux->in_len = 0;
		if (head.type == XS_WATCH_EVENT)
			deliver_event(mux, &head, payload);
		else
			deliver_answer(mux, &head, payload);
	}
	if (mux->quiet)
		mux->idle(mux->arg);
	else
		go_on(mux);
}

/* -- around a clone ---------------------------------------------------------------------- */

void xsmux_quiet(struct xsmux *mux)
{
	mux->quiet = true;
}

bool xsmux_is_quiet(const struct xsmux *mux, uint64_t expected)
{
	/* more than expected were answers that crossed the question */
	return !mux->request_count && !mux->in_len && !mux->out_tail &&
	       (int64_t)(mux->received - expected) >= 0;
}

void xsmux_freeze(struct xsmux *mux)
{
	loop_watch(mux->loop, &mux->port, 0);
}

void xsmux_resume(struct xsmux *mux)
{
	mux->quiet = false;
	loop_watch(mux->loop, &mux->port, EPOLLIN | (mux->out_tail ? EPOLLOUT : 0));
	go_on(mux);
}

void xsmux_init(struct xsmux *mux, struct loop *loop, int port_fd, int listen_fd,
		void (*idle)(void *arg), void *arg)
{
	mux->loop = loop;
	mux->idle = idle;
	mux->arg = arg;
	mux->port = (struct source){ .fd = port_fd, .port = true, .ready = port_ready };
	mux->listener = (struct source){ .fd = listen_fd, .ready = listener_ready };
	loop_watch(loop, &mux->port, EPOLLIN);
	loop_watch(loop, &mux->listener, EPOLLIN);
}
