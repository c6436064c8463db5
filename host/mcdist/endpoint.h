/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Inside host/mcdist: the endpoint, and what is known of each snapshot on it. */
#ifndef MCDIST_ENDPOINT_H
#define MCDIST_ENDPOINT_H

#include <string.h>
#include <sys/queue.h>

#include "host/mcdist/mcdist.h"
#include "host/mcdist/seal.h"
#include "host/mcdist/window.h"
#include "host/mcdist/wire.h"

/* What the servers and fetches of one snapshot have in common. Lives while `users` > 0. */
struct mc_session {
	LIST_ENTRY(mc_session) link;
	struct mc_endpoint *ep;
	unsigned users;
	struct mc_snapshot snapshot;
	struct mc_seal seal;
	struct mc_windows windows;
	struct mc_server *server;	/* or NULL */
	LIST_HEAD(, mc_fetch) fetches;
};

struct mc_wake;

/* A page or a few that somebody asked for and did not get yet. */
struct mc_debt {
	TAILQ_ENTRY(mc_debt) link;
	struct mc_server *server;
	struct mc_address to;
	struct mc_span span;
};

#define MC_DEBTS_MAX 4096	/* more are not taken on; who asked asks again */

struct mc_endpoint {
	struct mc_transport *transport;
	struct mc_counters *counters;
	bool unsealed;			/* for simulations: no cipher, see mc_endpoint_unseal() */
	LIST_HEAD(, mc_session) sessions;
	TAILQ_HEAD(, mc_debt) debts;	/* in the order that they were asked for */
	unsigned debt_count;
	TAILQ_HEAD(, mc_wake) wakes;	/* that go on */
	unsigned wake_count;
	struct mc_timer wake;
	uint8_t sending[MC_MAX_DATAGRAM];
};

/*
 * For simulations alone, which run a thousand hosts in one process: datagrams have the same size
 * and header, but are neither encrypted nor authenticated. At once after creation.
 */
void mc_endpoint_unseal(struct mc_endpoint *ep);

static inline uint64_t mc_now_ns(const struct mc_endpoint *ep)
{
	return ep->transport->calls->now_ns(ep->transport);
}

/* A timer that cannot be set for want of memory does not fire; what it was for comes again. */
static inline void mc_timer_set(struct mc_endpoint *ep, struct mc_timer *timer, uint64_t at_ns)
{
	ep->transport->calls->timer_set(ep->transport, timer, at_ns);
}

static inline void mc_timer_free(struct mc_endpoint *ep, struct mc_timer *timer)
{
	ep->transport->calls->timer_free(ep->transport, timer);
}

static inline bool mc_address_is(const struct mc_address *a, const struct mc_address *b)
{
	return a->len == b->len && !memcmp(&a->at, &b->at, a->len);
}

/* A datagram's body is written here before mc_send(). */
static inline uint8_t *mc_body(struct mc_endpoint *ep)
{
	return ep->sending + sizeof(struct mc_header);
}

/* The session of a snapshot, made if need be. Return: mc_session_put() it; or NULL (errno). */
struct mc_session *mc_session_get(struct mc_endpoint *ep, const struct mc_snapshot *snapshot);
void mc_session_put(struct mc_session *session);

/* Seals what is in mc_body() and sends it. Return: 0 or -errno (-EAGAIN: no room now). */
int mc_send(struct mc_session *session, const struct mc_address *to, enum mc_type type,
	    size_t body_len);

/*
 * Authentic, new datagrams. Return: 0, or -errno if it is not to be answered and counts as
 * dropped.
 */
int mc_server_handle(struct mc_server *server, const struct mc_address *from, const uint8_t *body,
		     size_t len);
int mc_server_handle_join(struct mc_server *server, const struct mc_address *from,
			  const uint8_t *body, size_t len);
int mc_fetch_handle(struct mc_session *session, const uint8_t *body, size_t len);

/* Pays debts until there are none or the socket is full. */
void mc_pay_debts(struct mc_endpoint *ep);

/* Sends a few pages in a row. Return: 0, sent or not, or -EAGAIN if the socket is full. */
int mc_server_send(struct mc_server *server, const struct mc_address *to,
		   const struct mc_span *span);

/* ── wake.c: pages that nobody has asked for one by one ── */

void mc_wakes_init(struct mc_endpoint *ep);
void mc_wakes_fini(struct mc_endpoint *ep);

/* Begins to send these pages, unless much of that kind goes on already. Return: 0 or -ENOMEM. */
int mc_wakes_begin(struct mc_endpoint *ep, struct mc_server *server, const struct mc_address *to,
		   const struct mc_span *spans, size_t count);

/* The server ends. */
void mc_wakes_drop(struct mc_endpoint *ep, const struct mc_server *server);

#endif
