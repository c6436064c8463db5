/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The UDP socket: datagrams come in, are judged, and go to the session they belong to. */
#include "config.h"

#include "host/mcdist/endpoint.h"

#include <errno.h>
#include <event2/event.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/fault.h"
#include "common/io.h"
#include "common/log.h"

#define RECEIVE_AT_ONCE 8
#define RECEIVE_ROUNDS 4		/* before others have their turn */
#define SOCKET_BUFFER_BYTES (4 << 20)	/* asked for; the system may give less */
#define BUFFER_BYTES_PER_PAGE 12288u	/* of a socket buffer, with fragments and book-keeping */
#define WINDOW_PAGES_MAX 512u

static int handle_sealed(struct mc_session *s, const struct mc_header *header, uint8_t *datagram,
			 size_t len, const struct mc_address *from)
{
	const uint8_t *body = datagram + sizeof(*header);
	size_t body_len;
	int error;

	if (header->sender == s->seal.sender)
		return -EBADMSG;	/* our own, thrown back at us */
	error = mc_unseal_datagram(s->snapshot.key, datagram, len, &body_len);
	if (error)
		return error;
	if (!mc_windows_accept(&s->windows, header->sender, header->counter))
		return -EALREADY;
	switch (header->type) {
	case MC_REQUEST:
		return s->server ? mc_server_handle(s->server, from, body, body_len) : -ENOENT;
	case MC_PAGES:
		return mc_fetch_handle(s, body, body_len);
	case MC_WAKE:
		return s->server ? mc_server_handle_wake(s->server, from, body_len) : -ENOENT;
	default:
		return -EBADMSG;
	}
}

static int handle_datagram(struct mc_endpoint *ep, uint8_t *datagram, size_t len,
			   const struct mc_address *from)
{
	struct mc_header header;
	struct mc_session *s;
	int error = mc_read_header(datagram, len, &header);

	if (error)
		return error;
	LIST_FOREACH(s, &ep->sessions, link) {
		if (s->snapshot.number == header.snapshot)
			return handle_sealed(s, &header, datagram, len, from);
	}
	return -ENOENT;
}

/* Receives once. Return: true if there may be more. */
static bool receive_some(struct mc_endpoint *ep)
{
	struct mmsghdr messages[RECEIVE_AT_ONCE] = { 0 };
	struct iovec buffers[RECEIVE_AT_ONCE];
	struct mc_address from[RECEIVE_AT_ONCE];
	int got;

	for (unsigned i = 0; i < RECEIVE_AT_ONCE; i++) {
		/* one byte more, so that a datagram that is too long is seen to be */
		buffers[i].iov_base = ep->received + i * (MC_MAX_DATAGRAM + 1);
		buffers[i].iov_len = MC_MAX_DATAGRAM + 1;
		messages[i].msg_hdr.msg_iov = &buffers[i];
		messages[i].msg_hdr.msg_iovlen = 1;
		messages[i].msg_hdr.msg_name = &from[i].at;
		messages[i].msg_hdr.msg_namelen = sizeof(from[i].at);
	}
	got = recvmmsg(ep->sock, messages, RECEIVE_AT_ONCE, MSG_DONTWAIT, NULL);
	for (int i = 0; i < got; i++) {
		int error = -EMSGSIZE;

		from[i].len = messages[i].msg_hdr.msg_namelen;
		if (messages[i].msg_len <= MC_MAX_DATAGRAM)
			error = handle_datagram(ep, buffers[i].iov_base, messages[i].msg_len,
						&from[i]);
		if (error) {
			ep->counters->dropped++;
			log_debug("mcdist: datagram of %u bytes dropped: error %d",
				  messages[i].msg_len, -error);
		}
	}
	return got == RECEIVE_AT_ONCE;
}

static void on_readable(evutil_socket_t sock, short what, void *arg)
{
	struct mc_endpoint *ep = arg;

	(void)sock;
	(void)what;
	for (unsigned i = 0; i < RECEIVE_ROUNDS && receive_some(ep); i++)
		;
}

static void on_writable(evutil_socket_t sock, short what, void *arg)
{
	(void)sock;
	(void)what;
	mc_pay_debts(arg);
}

static int socket_option(int sock, int option)
{
	int value = 0;
	socklen_t len = sizeof(value);

	return getsockopt(sock, SOL_SOCKET, option, &value, &len) < 0 ? -1 : value;
}

static void make_room(int sock, int force, int option)
{
	int bytes = SOCKET_BUFFER_BYTES;

	if (socket_option(sock, option) >= 2 * bytes)
		return;
	if (setsockopt(sock, SOL_SOCKET, force, &bytes, sizeof(bytes)) < 0)
		setsockopt(sock, SOL_SOCKET, option, &bytes, sizeof(bytes));
}

static uint32_t window_of(int sock)
{
	uint32_t pages = (uint32_t)socket_option(sock, SO_RCVBUF) / BUFFER_BYTES_PER_PAGE;

	return pages < WINDOW_PAGES_MAX ? pages : WINDOW_PAGES_MAX;
}

static bool endpoint_watch(struct mc_endpoint *ep, int sock)
{
	ep->received = malloc(RECEIVE_AT_ONCE * (MC_MAX_DATAGRAM + 1));
	ep->readable = event_new(ep->base, sock, EV_READ | EV_PERSIST, on_readable, ep);
	ep->writable = event_new(ep->base, sock, EV_WRITE, on_writable, ep);
	return ep->received && ep->readable && ep->writable && mc_wakes_init(ep) == 0 &&
	       event_add(ep->readable, NULL) == 0;
}

struct mc_endpoint *mc_endpoint_create(struct event_base *base, int sock,
				       struct mc_counters *counters)
{
	int family = socket_option(sock, SO_DOMAIN);
	struct mc_endpoint *ep;

	if (socket_option(sock, SO_TYPE) != SOCK_DGRAM ||
	    (family != AF_INET && family != AF_INET6)) {
		errno = EINVAL;
		return NULL;
	}
	ep = calloc(1, sizeof(*ep));
	if (!ep)
		return NULL;
	ep->base = base;
	ep->sock = -1;
	ep->family = (sa_family_t)family;
	ep->counters = counters;
	LIST_INIT(&ep->sessions);
	TAILQ_INIT(&ep->debts);
	TAILQ_INIT(&ep->wakes);
	if (!endpoint_watch(ep, sock)) {
		mc_endpoint_destroy(ep);
		errno = ENOMEM;
		return NULL;
	}
	make_room(sock, SO_RCVBUFFORCE, SO_RCVBUF);
	make_room(sock, SO_SNDBUFFORCE, SO_SNDBUF);
	ep->window_pages = window_of(sock);
	ep->sock = sock;
	return ep;
}

void mc_endpoint_destroy(struct mc_endpoint *ep)
{
	if (!ep)
		return;
	if (ep->readable)
		event_free(ep->readable);
	if (ep->writable)
		event_free(ep->writable);
	mc_wakes_fini(ep);
	cleanup_close(&ep->sock);
	free(ep->received);
	free(ep);
}

struct mc_session *mc_session_get(struct mc_endpoint *ep, const struct mc_snapshot *snapshot)
{
	struct mc_session *s;

	LIST_FOREACH(s, &ep->sessions, link) {
		if (s->snapshot.number != snapshot->number)
			continue;
		if (s->snapshot.pages != snapshot->pages ||
		    sodium_memcmp(s->snapshot.key, snapshot->key, MC_KEY_BYTES)) {
			errno = EINVAL;
			return NULL;
		}
		s->users++;
		return s;
	}
	s = calloc(1, sizeof(*s));
	if (!s)
		return NULL;
	s->ep = ep;
	s->users = 1;
	s->snapshot = *snapshot;
	mc_seal_init(&s->seal, snapshot->number, snapshot->key);
	LIST_INIT(&s->fetches);
	LIST_INSERT_HEAD(&ep->sessions, s, link);
	return s;
}

void mc_session_put(struct mc_session *session)
{
	if (--session->users)
		return;
	LIST_REMOVE(session, link);
	mc_seal_fini(&session->seal);
	sodium_memzero(session->snapshot.key, MC_KEY_BYTES);
	free(session);
}

int mc_send(struct mc_session *session, const struct mc_address *to, enum mc_type type,
	    size_t body_len)
{
	struct mc_endpoint *ep = session->ep;
	size_t len = mc_seal_datagram(&session->seal, type, ep->sending, body_len);

	if (type == MC_REQUEST && fault_hit("mcdist-drop-request"))
		return 0;
	if (type == MC_PAGES && fault_hit("mcdist-drop-reply"))
		return 0;
	if (type == MC_PAGES && fault_hit("mcdist-corrupt-reply"))
		ep->sending[len / 2] ^= 1;
	if (sendto(ep->sock, ep->sending, len, MSG_DONTWAIT | MSG_NOSIGNAL,
		   (const struct sockaddr *)&to->at, to->len) < 0)
		return -errno;
	return 0;
}
