/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The endpoint: datagrams come in, are judged, and go to the session they belong to. */
#include "host/mcdist/endpoint.h"

#include <errno.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "common/fault.h"
#include "common/log.h"
#include "host/mcdist/fetch.h"
#include "host/mcdist/giver.h"
#include "host/mcdist/push.h"

typedef int handle_source(struct mc_server *server, const struct mc_address *from,
			  const uint8_t *body, size_t len);
typedef int handle_relay(struct mc_relay *relay, const struct mc_address *from,
			 const uint8_t *body, size_t len);

/* What members say, to the source or to a relay. */
static const struct {
	handle_source *source;
	handle_relay *relay;
} members_say[] = {
	[MC_REQUEST] = { mc_server_handle_request, mc_relay_handle_request },
	[MC_JOIN] = { mc_server_handle_join, mc_relay_handle_join },
	[MC_REPORT] = { mc_server_handle_report, mc_relay_handle_report },
};

static int handle_body(struct mc_session *s, const struct mc_header *header,
		       const struct mc_address *from, const uint8_t *body, size_t len)
{
	struct mc_heard heard = { from, header->sender, header->counter };
	struct mc_relay *relay;

	if (header->type == MC_PAGES)
		return mc_fetch_handle_pages(s, &heard, body, len);
	if (header->type == MC_DONE)
		return mc_fetch_handle_done(s, len);
	if (header->type > MC_REPORT || !members_say[header->type].source)
		return -EBADMSG;
	if (s->server)
		return members_say[header->type].source(s->server, from, body, len);
	relay = mc_fetch_relay(s);
	return relay ? members_say[header->type].relay(relay, from, body, len) : -ENOENT;
}

static int handle_sealed(struct mc_session *s, const struct mc_header *header, uint8_t *datagram,
			 size_t len, const struct mc_address *from)
{
	size_t body_len;
	int error;

	if (header->sender == s->seal.sender || header->sender == s->group_seal.sender)
		return -EBADMSG;	/* our own, thrown back at us */
	error = s->ep->unsealed ? mc_peel_datagram(len, &body_len) :
				  mc_unseal_datagram(s->snapshot.key, datagram, len, &body_len);
	if (error)
		return error;
	if (!mc_windows_accept(&s->windows, header->sender, header->counter))
		return -EALREADY;
	return handle_body(s, header, from, datagram + sizeof(*header), body_len);
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
	int error = -EMSGSIZE;

	ep->received_ns = mc_now_ns(ep);
	if (len <= MC_MAX_DATAGRAM)
		error = handle_datagram(ep, bytes, len, from);
	if (!error)
		return;
	ep->counters->dropped++;
	log_debug("mcdist: datagram of %zu bytes dropped: error %d", len, -error);
}

static void on_writable(void *arg)
{
	struct mc_endpoint *ep = arg;
	struct mc_session *s;

	mc_pay_debts(ep);
	LIST_FOREACH(s, &ep->sessions, link) {
		if (s->server)
			mc_server_pay(s->server);
	}
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
	LIST_INIT(&ep->joined);
	mc_debts_init(ep);
	mc_pushes_init(ep);
	transport->arg = ep;
	transport->events = &events;
	return ep;
}

void mc_endpoint_destroy(struct mc_endpoint *ep)
{
	if (!ep)
		return;
	ep->transport->events = NULL;
	mc_pushes_fini(ep);
	mc_debts_fini(ep);
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
	mc_seal_init(&s->seal, snapshot->number, snapshot->key, false);
	mc_seal_init(&s->group_seal, snapshot->number, snapshot->key, true);
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
	mc_seal_fini(&session->group_seal);
	sodium_memzero(session->snapshot.key, MC_KEY_BYTES);
	free(session);
}

static struct mc_joined *joined_find(struct mc_endpoint *ep, const struct mc_address *group)
{
	struct mc_joined *j;

	LIST_FOREACH(j, &ep->joined, link) {
		if (mc_address_is(&j->group, group))
			return j;
	}
	return NULL;
}

int mc_endpoint_join(struct mc_endpoint *ep, const struct mc_address *group)
{
	struct mc_joined *j = joined_find(ep, group);
	int error;

	if (j) {
		j->users++;
		return 0;
	}
	j = calloc(1, sizeof(*j));
	if (!j)
		return -ENOMEM;
	error = ep->transport->calls->join(ep->transport, group, true);
	if (error) {
		free(j);
		return error;
	}
	j->group = *group;
	j->users = 1;
	LIST_INSERT_HEAD(&ep->joined, j, link);
	return 0;
}

void mc_endpoint_leave(struct mc_endpoint *ep, const struct mc_address *group)
{
	struct mc_joined *j = joined_find(ep, group);

	if (!j || --j->users)
		return;
	ep->transport->calls->join(ep->transport, group, false);
	LIST_REMOVE(j, link);
	free(j);
}

int mc_send(struct mc_session *session, const struct mc_address *to, enum mc_type type,
	    size_t body_len)
{
	return mc_send_as(session, &session->seal, to, type, body_len);
}

int mc_send_as(struct mc_session *session, struct mc_seal *seal, const struct mc_address *to,
	       enum mc_type type, size_t body_len)
{
	struct mc_endpoint *ep = session->ep;
	size_t len = ep->unsealed ? mc_wrap_datagram(seal, type, ep->sending, body_len) :
				    mc_seal_datagram(seal, type, ep->sending, body_len);

	if (type == MC_REQUEST && fault_hit("mcdist-drop-request"))
		return 0;
	if (type == MC_PAGES && fault_hit("mcdist-drop-reply"))
		return 0;
	if (type == MC_PAGES && fault_hit("mcdist-corrupt-reply"))
		ep->sending[len / 2] ^= 1;
	ep->sent_bytes += len;
	return ep->transport->calls->send(ep->transport, to, ep->sending, len);
}
