/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Inside host/mcdist: the endpoint, and what is known of each snapshot on it. */
#ifndef MCDIST_ENDPOINT_H
#define MCDIST_ENDPOINT_H

#include <sys/queue.h>

#include "host/mcdist/address.h"
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
	struct mc_seal seal, group_seal;	/* for what is sent to one, and to a group */
	struct mc_windows windows;
	struct mc_server *server;	/* or NULL */
	LIST_HEAD(, mc_fetch) fetches;
};

struct mc_push;
struct mc_debt;

TAILQ_HEAD(mc_debts, mc_debt);

/* A group that was joined, by so many. */
struct mc_joined {
	LIST_ENTRY(mc_joined) link;
	struct mc_address group;
	unsigned users;
};

struct mc_endpoint {
	struct mc_transport *transport;
	struct mc_counters *counters;
	bool unsealed;			/* for simulations: no cipher, see mc_endpoint_unseal() */
	LIST_HEAD(, mc_session) sessions;
	struct mc_debts debts[2];	/* what somebody waits for; what is ahead */
	unsigned debt_count;
	struct mc_timer pay;		/* what is ahead */
	TAILQ_HEAD(, mc_push) pushes;	/* that go on */
	unsigned push_count;
	struct mc_timer push;
	LIST_HEAD(, mc_joined) joined;
	uint64_t received_ns;		/* the datagram at hand */
	uint64_t sent_bytes;		/* of datagrams, in all */
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

/* A datagram's body is written here before mc_send(). */
static inline uint8_t *mc_body(struct mc_endpoint *ep)
{
	return ep->sending + sizeof(struct mc_header);
}

/* The session of a snapshot, made if need be. Return: mc_session_put() it; or NULL (errno). */
struct mc_session *mc_session_get(struct mc_endpoint *ep, const struct mc_snapshot *snapshot);
void mc_session_put(struct mc_session *session);

/* Joins a group, once however many want it. Return: 0 or -errno. */
int mc_endpoint_join(struct mc_endpoint *ep, const struct mc_address *group);
void mc_endpoint_leave(struct mc_endpoint *ep, const struct mc_address *group);

/* Seals what is in mc_body() and sends it. Return: 0 or -errno (-EAGAIN: no room now). */
int mc_send(struct mc_session *session, const struct mc_address *to, enum mc_type type,
	    size_t body_len);
int mc_send_as(struct mc_session *session, struct mc_seal *seal, const struct mc_address *to,
	       enum mc_type type, size_t body_len);

/*
 * Authentic, new datagrams. Return: 0, or -errno if it is not to be answered and counts as
 * dropped.
 */
int mc_server_handle_request(struct mc_server *server, const struct mc_address *from,
			     const uint8_t *body, size_t len);
int mc_server_handle_join(struct mc_server *server, const struct mc_address *from,
			  const uint8_t *body, size_t len);
int mc_server_handle_report(struct mc_server *server, const struct mc_address *from,
			    const uint8_t *body, size_t len);

struct mc_heard;
int mc_fetch_handle_pages(struct mc_session *session, const struct mc_heard *heard,
			  const uint8_t *body, size_t len);
int mc_fetch_handle_done(struct mc_session *session, size_t len);

/* The relay of those who fetch, or NULL. */
struct mc_relay *mc_fetch_relay(const struct mc_session *session);

/* The transport has room: on with what is owed to groups. */
void mc_server_pay(struct mc_server *server);

#endif
