/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Pages that nobody has asked for one by one: first a list, then, if it is wanted, all the rest.
 *
 * They are at the lowest priority. To one they go at a pace that a receiver takes in without losing
 * any; to a group as fast as its flow allows; the rest no faster than is wanted.
 */
#ifndef MCDIST_PUSH_H
#define MCDIST_PUSH_H

#include "host/mcdist/giver.h"
#include "host/mcdist/group.h"

#define MC_DONES 3u			/* MC_DONE is said so often, as it may be lost, */
#define MC_DONE_NS 100000000ull		/* and after so long again */

struct mc_push_order {
	struct mc_giver *giver;
	struct mc_group *group;			/* or NULL: */
	const struct mc_address *to;		/* to one */
	const struct mc_span *spans;		/* the list, borrowed for the call */
	size_t count;
	uint32_t rest_pages_per_s;		/* 0: not the rest */
	bool rest_is_out;			/* it was sent already: say so */
};

void mc_pushes_init(struct mc_endpoint *ep);
void mc_pushes_fini(struct mc_endpoint *ep);

/*
 * Begins, unless that goes on already: then who came late gets the beginning of the list at its
 * end, if it is for a group. Return: 0, -EBUSY if too much of that kind goes on, or -ENOMEM.
 */
int mc_push_begin(struct mc_endpoint *ep, const struct mc_push_order *order);

/* What a push to the group does. */
enum mc_push_stage { MC_PUSH_NONE, MC_PUSH_LIST, MC_PUSH_REST };
enum mc_push_stage mc_push_stage(const struct mc_endpoint *ep, const struct mc_group *group);

/* The giver ends. */
void mc_pushes_drop(struct mc_endpoint *ep, const struct mc_giver *giver);

#endif
