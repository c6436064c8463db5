/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Who is being given which pages, or was a moment ago.
 *
 * A host that is busy answers late, and who asked has asked again by then: both questions wait side
 * by side, or one comes while the answer to the other waits for the wire. One answer is enough.
 * Whoever truly lost it asks again later than MC_RECENT_NS after it.
 */
#ifndef MCDIST_RECENT_H
#define MCDIST_RECENT_H

#include <stdbool.h>
#include <stdint.h>

#include "host/mcdist/endpoint.h"

#define MC_RECENTS 1024u
#define MC_RECENT_NS 500000ull	/* less than MC_RTO_MIN_NS */

struct mc_recent {
	uint64_t key;		/* of both, by a hash */
	uint64_t until_ns;
	uint64_t sent_bytes;	/* by the endpoint in all, when it was given */
};

/* Zeroed at first. One that is written over is forgotten. */
struct mc_recents {
	struct mc_recent of[MC_RECENTS];
};

/* It is owed a page, was given it, or will not get it after all. */
void mc_recent_owed(struct mc_recents *r, const struct mc_endpoint *ep, const struct mc_address *to,
		    uint64_t gfn);
void mc_recent_given(struct mc_recents *r, const struct mc_endpoint *ep,
		     const struct mc_address *to, uint64_t gfn);
void mc_recent_forget(struct mc_recents *r, const struct mc_address *to, uint64_t gfn);

bool mc_recent_is(const struct mc_recents *r, const struct mc_endpoint *ep,
		  const struct mc_address *to, uint64_t gfn);

#endif
