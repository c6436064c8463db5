/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The endpoint: datagrams come in, are judged, and go to the session they belong to. */
#include "host/mcdist/endpoint.h"

#include <errno.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "common/fault.h"
#include "common/log.h"

static int handle_sealed(struct mc_session *s, const struct mc_header *header, uint8_t *datagram,
			 size_t len, const struct mc_address *from)
{
	const uint8_t *body = datagram + sizeof(*header);
	size_t body_len;
	int error;

	if (header->sender == s->seal.sender)
		return -EBADMSG;	/* our own, thrown back at us */
	error = s->ep->unsealed ? mc_peel_datagram(len, &body_len) :
				  mc_unseal_datagram(s->snapshot.key, datagram, len, &body_len);
	if (error)
		return error;
	if (!mc_windows_accept(&s->windows, header->sender, header->counter))
		return -EALREADY;
	switch (header->type) {
	case MC_REQUEST:
		return s->server ? mc_server_handle(s->server, from, body, body_len) : -ENOENT;
	case MC_PAGES:
		return mc_fetch_handle(s, body, body_len);
	case MC_JOIN:
		return s->server ? mc_server_handle_join(s->server, from, body, body_len) : -ENOENT;
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

static void on_received(void *arg, const struct mc_address *from, uint8_t *bytes, size_t len)
{
	struct mc_endpoint *ep = arg;
	int error = len <= MC_MAX_DATAGRAM ? handle_datagram(ep, bytes, len, from) : -EMSGSIZE;

	if (!error)
		return;
	ep->counters->dropped++;
	log_debug("mcdist: datagram of %zu bytes dropped: error %d", len, -error);
}

static void on_writable(void *arg)
{
	mc_pay_debts(arg);
}

static const struct mc_transport_events events = { on_received, on_writable };

struct mc_endpoint *mc_endpoint_create(struct mc_transport *transport,
				       struct mc_counters *counters)
{
	struct mc_endpoint *ep = calloc(1, sizeof(*ep));

	if (!ep)
		return NULL;
	ep->transport = transport;
	ep->counters = counters;
	LIST_INIT(&ep->sessions);
	TAILQ_INIT(&ep->debts);
	TAILQ_INIT(&ep->wakes);
	mc_wakes_init(ep);
	transport->arg = ep;
	transport->events = &events;
	return ep;
}

void mc_endpoint_destroy(struct mc_endpoint *ep)
{
	if (!ep)
		return;
	ep->transport->events = NULL;
	mc_wakes_fini(ep);
	free(ep);
}

void mc_endpoint_unseal(struct mc_endpoint *ep)
{
	ep->unsealed = true;
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
	size_t len = ep->unsealed ?
			     mc_wrap_datagram(&session->seal, type, ep->sending, body_len) :
			     mc_seal_datagram(&session->seal, type, ep->sending, body_len);

	if (type == MC_REQUEST && fault_hit("mcdist-drop-request"))
		return 0;
	if (type == MC_PAGES && fault_hit("mcdist-drop-reply"))
		return 0;
	if (type == MC_PAGES && fault_hit("mcdist-corrupt-reply"))
		ep->sending[len / 2] ^= 1;
	return ep->transport->calls->send(ep->transport, to, ep->sending, len);
}
