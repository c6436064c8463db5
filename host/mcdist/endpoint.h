/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Inside host/mcdist: the socket, and what is known of each snapshot on it. */
#ifndef MCDIST_ENDPOINT_H
#define MCDIST_ENDPOINT_H

#include <sys/queue.h>
#include <sys/socket.h>

#include "host/mcdist/mcdist.h"
#include "host/mcdist/seal.h"
#include "host/mcdist/window.h"
#include "host/mcdist/wire.h"

struct event;

/* Where a datagram goes or comes from, in the socket's own family. */
struct mc_address {
	struct sockaddr_storage at;
	socklen_t len;
};

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
	struct event_base *base;
	int sock;
	sa_family_t family;
	uint32_t window_pages;		/* pages that the receive buffer holds */
	struct event *readable, *writable;
	struct mc_counters *counters;
	LIST_HEAD(, mc_session) sessions;
	TAILQ_HEAD(, mc_debt) debts;	/* in the order that they were asked for */
	unsigned debt_count;
	TAILQ_HEAD(, mc_wake) wakes;	/* that go on */
	unsigned wake_count;
	struct event *wake;
	uint8_t *received;		/* MC_RECEIVE_AT_ONCE datagrams */
	uint8_t sending[MC_MAX_DATAGRAM];
};

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
int mc_server_handle_wake(struct mc_server *server, const struct mc_address *from, size_t len);
int mc_fetch_handle(struct mc_session *session, const uint8_t *body, size_t len);

/* Pays debts until there are none or the socket is full. */
void mc_pay_debts(struct mc_endpoint *ep);

/* Sends a few pages in a row. Return: 0, sent or not, or -EAGAIN if the socket is full. */
int mc_server_send(struct mc_server *server, const struct mc_address *to,
		   const struct mc_span *span);

/* ── wake.c: pages that nobody has asked for one by one ── */

/* Return: 0 or -ENOMEM. */
int mc_wakes_init(struct mc_endpoint *ep);
void mc_wakes_fini(struct mc_endpoint *ep);

/* Begins to send these pages, unless much of that kind goes on already. Return: 0 or -ENOMEM. */
int mc_wakes_begin(struct mc_endpoint *ep, struct mc_server *server, const struct mc_address *to,
		   const struct mc_span *spans, size_t count);

/* The server ends. */
void mc_wakes_drop(struct mc_endpoint *ep, const struct mc_server *server);

#endif
