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

#define MC_NEIGHBOURS 8u

/* repair.c: what was sent to all and missed, and whom to ask for it. */
struct mc_repair {
	uint8_t *missed;		/* a bit for each page; NULL: the source is asked */
	struct mc_address neighbours[MC_NEIGHBOURS];
	uint32_t count, at;		/* of these: how many; who is asked */
	uint32_t silent;		/* questions in a row without a word from it */
	uint32_t moved;			/* neighbours in a row that were silent */
	uint64_t alone_ns;		/* all were: the source is asked until then */
};

struct mc_fetch {
	LIST_ENTRY(mc_fetch) link;	/* of the session */
	struct mc_session *session;
	const struct mc_fetch_calls *calls;
	void *arg;
	struct mc_member member;
	struct mc_repair repair;
	struct mc_relay *relay;		/* MC_TREE and MC_MULTICAST, else NULL */
	struct mc_pace pace;
	struct mc_wants queues[2];	/* MC_QUEUED, by enum mc_urgency */
	struct mc_wants repairs;	/* MC_QUEUED, for a neighbour */
	struct mc_wants flight;		/* MC_IN_FLIGHT */
	uint32_t in_flight;
	struct mc_timer ask, ask_neighbour, timer;
	bool ask_is_set;
	uint64_t timer_ns;		/* when the timer rings; 0: it is off */
	uint64_t waited_ns;		/* who gives what arrives had to wait for it */
	bool answered;			/* what arrives was asked for: mc_fetch_done() told */
};

/* The time of a want that is in flight is over, or its answer is known to be lost: it is queued. */
void mc_fetch_lost(struct mc_fetch *f, struct mc_want *w);

/* Looks at what is in flight at that time or before. */
void mc_fetch_wait(struct mc_fetch *f, uint64_t due_ns);

/* A page came as a reference to one that is not here: it is asked for itself. */
void mc_fetch_again(struct mc_fetch *f, uint64_t gfn);

/* ── ask.c ── */

void mc_ask_init(struct mc_fetch *f);
void mc_ask_fini(struct mc_fetch *f);

/* Queues a want, where it is then. */
void mc_ask_enqueue(struct mc_fetch *f, struct mc_want *w);
struct mc_wants *mc_ask_queue(struct mc_fetch *f, const struct mc_want *w);

/* Asks for what is queued, as far as the window has room. */
void mc_ask_soon(struct mc_fetch *f);

/* ── repair.c ── */

void mc_repair_init(struct mc_fetch *f, const struct mc_way *way);
void mc_repair_fini(struct mc_fetch *f);

/* What went to the group before, as a datagram to it tells. */
void mc_repair_told(struct mc_fetch *f, const struct mc_heard *heard,
		    const struct mc_span told[MC_TOLD]);

/* Has the page been sent to the group, and did not come? */
bool mc_repair_missed(const struct mc_fetch *f, uint64_t gfn);

/* Is the want one for a neighbour? */
bool mc_repair_takes(const struct mc_fetch *f, const struct mc_want *w);

/* Who is asked, if mc_repair_takes(). */
const struct mc_address *mc_repair_neighbour(const struct mc_fetch *f);

/* Pages came from somebody; what a neighbour was asked for did not come in time. */
void mc_repair_heard(struct mc_fetch *f, const struct mc_address *from);
void mc_repair_lost(struct mc_fetch *f);

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

/* Authentic datagrams of other members. Return: as mc_server_handle_request(). */
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
