/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Who gives pages to others, the source or a relay, and what it owes. */
#ifndef MCDIST_GIVER_H
#define MCDIST_GIVER_H

#include "host/mcdist/coding.h"
#include "host/mcdist/endpoint.h"
#include "host/mcdist/recent.h"

struct mc_group;

struct mc_giver {
	struct mc_session *session;
	mc_read_page *read_page;
	void *arg;
	struct mc_coder *coder;		/* NULL: pages go as they are */
	struct mc_recents recents;
	uint64_t *also_counted;		/* in mc_counters, beside `served`; or NULL */
};

/* A page or a few that somebody asked for and did not get yet. */
struct mc_debt {
	TAILQ_ENTRY(mc_debt) link;
	struct mc_giver *giver;
	struct mc_address to;
	struct mc_span span;
};

#define MC_DEBTS_MAX 4096	/* more are not taken on; who asked asks again */

/*
 * Owes pages to one. They go out as soon as there is room for them: at once, if there is. Of what
 * is asked for again, what was given a moment ago or is owed already is not owed once more.
 */
void mc_owe(struct mc_giver *giver, const struct mc_address *to, const struct mc_span *span);

/* The same, as part of the last debt to that one if it is the page before. */
void mc_owe_more(struct mc_giver *giver, const struct mc_address *to, const struct mc_span *page);

/*
 * Pays until nothing is owed or the transport is full: what somebody waits for now, the rest by
 * turns.
 */
void mc_pay_debts(struct mc_endpoint *ep);

void mc_debts_init(struct mc_endpoint *ep);
void mc_debts_fini(struct mc_endpoint *ep);

/* The giver ends. */
void mc_debts_drop(struct mc_giver *giver);

/* To whom and how. */
struct mc_to {
	const struct mc_address *address;
	const struct mc_span *told;	/* to all: MC_TOLD that went out before; NULL: to one */
};

/*
 * Sends a few pages in a row. Return: their bytes on the wire, 0 if they cannot be read now (who
 * needs them asks again), or -EAGAIN if the transport is full.
 */
ssize_t mc_give(struct mc_giver *giver, const struct mc_to *to, const struct mc_span *span);

#endif
