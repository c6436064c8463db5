/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Inside host/mcdist: a fetch, which is a member of those who fetch, and may be a relay. */
#ifndef MCDIST_FETCH_H
#define MCDIST_FETCH_H

#include "host/mcdist/endpoint.h"
#include "host/mcdist/giver.h"
#include "host/mcdist/pace.h"

TAILQ_HEAD(mc_wants, mc_want);

struct mc_relay;

/* An authentic datagram, as far as a member cares. */
struct mc_heard {
	const struct mc_address *from;
	uint32_t sender;
	uint64_t counter;
};

/* What came from one sender since the last report. */
struct mc_tally {
	uint32_t sender;
	uint64_t reported;	/* its counter then */
	uint64_t newest;
	uint32_t received;	/* datagrams */
	uint32_t pages;
	uint64_t busy_ns;	/* what taking them in took */
};

/* member.c: whom it asks and what it says beside. */
struct mc_member {
	enum mc_mode mode;
	uint32_t node;
	struct mc_address source, parent;	/* the same, but in MC_TREE */
	struct mc_address group;		/* MC_MULTICAST */
	bool in_group;
	bool deaf;			/* what is sent to the group does not reach us */
	uint64_t deaf_ns;		/* since when, or until when it was so */
	bool in_vain;			/* a time-out was the last that happened, */
	unsigned unheard;		/* and so often one was answered to us alone */
	bool orphan;			/* the parent is silent: the source is asked */
	uint64_t orphan_ns;		/* when to try the parent again */
	unsigned silent;		/* times in a row that nothing came from whom we ask, */
	uint64_t silent_ns;		/* since the first of them */
	uint64_t patience_ns;		/* that long before the source is asked */
	bool joined;			/* pages have come */
	uint64_t join_ns;		/* how long to wait until joining again */
	uint64_t report_every_ns;
	uint32_t spread_ns;		/* what is wanted is asked for within this time */
	uint32_t source_sender;		/* even; 0: not heard yet */
	struct mc_tally tally;
	struct mc_timer join, report;
	bool report_is_due;
};

struct mc_fetch {
	LIST_ENTRY(mc_fetch) link;	/* of the session */
	struct mc_session *session;
	const struct mc_fetch_calls *calls;
	void *arg;
	struct mc_member member;
	struct mc_relay *relay;		/* MC_TREE, else NULL */
	struct mc_pace pace;
	struct mc_wants queues[2];	/* MC_QUEUED, by enum mc_urgency */
	struct mc_wants flight;		/* MC_IN_FLIGHT */
	uint32_t in_flight;
	struct mc_timer flush, timer;
	bool flush_is_set;
	uint64_t timer_ns;		/* when the timer rings; 0: it is off */
	bool answered;			/* what arrives was asked for: mc_fetch_done() told */
};

/* A page came as a reference to one that is not here: it is asked for itself. */
void mc_fetch_again(struct mc_fetch *f, uint64_t gfn);

/* ── member.c ── */

void mc_member_init(struct mc_fetch *f, const struct mc_way *way);
void mc_member_fini(struct mc_fetch *f);

/* Whom to ask: the first, and the second as well if there is one. Return: 1 or 2. */
unsigned mc_member_asks(struct mc_fetch *f, const struct mc_address *whom[2]);

/* What was asked for did not come. */
void mc_member_lost(struct mc_fetch *f);

/* Pages came, and were taken in since `since_ns`. */
void mc_member_heard(struct mc_fetch *f, const struct mc_heard *heard, uint32_t pages,
		     uint64_t since_ns);

/* ── relay.c ── */

struct mc_relay *mc_relay_create(struct mc_fetch *fetch);
void mc_relay_destroy(struct mc_relay *relay);

/* Authentic datagrams of a child. Return: as mc_server_handle_request(). */
int mc_relay_handle_request(struct mc_relay *relay, const struct mc_address *from,
			    const uint8_t *body, size_t len);
int mc_relay_handle_join(struct mc_relay *relay, const struct mc_address *from,
			 const uint8_t *body, size_t len);
int mc_relay_handle_report(struct mc_relay *relay, const struct mc_address *from,
			   const uint8_t *body, size_t len);

/* A page has arrived and is here now. */
void mc_relay_arrived(struct mc_relay *relay, uint64_t gfn);

/* All of a datagram has arrived; with `fresh`, pages that nobody here had asked for. */
void mc_relay_taken(struct mc_relay *relay, const struct mc_span *span, bool fresh);

/* All was pushed. */
void mc_relay_done(struct mc_relay *relay);

#endif
