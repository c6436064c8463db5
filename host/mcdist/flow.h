/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How fast a source may send to a group.
 *
 * A rate, and a clock that follows it: each datagram moves the clock on by the time that it takes
 * at the rate, and what may not run ahead of the real time waits. What somebody waits for may run
 * ahead a little, so nothing that is pushed can be in its way.
 *
 * The rate grows a little in each time of reports that all is well, and shrinks by a third when a
 * member misses much; random losses of a bad link are not much. It never is higher than what
 * the slowest member can take that is not silent.
 */
#ifndef MCDIST_FLOW_H
#define MCDIST_FLOW_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/mcdist.h"

#define MC_FLOW_FIRST_PAGES_PER_S 50000u	/* 200 MB/s */
#define MC_FLOW_MIN_PAGES_PER_S 1000u
#define MC_FLOW_MAX_PAGES_PER_S 500000u
#define MC_FLOW_AHEAD_NS 20000000ull	/* how far what somebody waits for may run ahead */
#define MC_FLOW_BEHIND_NS 2000000ull	/* what was not sent in time is not made up for */
#define MC_FLOW_LOSS_PERCENT 12u	/* more is too much */

struct mc_flow_member {
	uint64_t heard_ns;		/* 0: never */
	uint32_t takes_pages_per_s;	/* 0: no telling */
};

struct mc_flow {
	uint32_t pages_per_s;
	uint64_t clock_ns;
	uint64_t slowed_ns, grown_ns;	/* when the rate last shrank, or grew */
	struct mc_flow_member *members;	/* by node */
	uint32_t member_count;		/* in `members` */
};

void mc_flow_init(struct mc_flow *flow);
void mc_flow_fini(struct mc_flow *flow);

/* Return: 0 if something may be sent that somebody waits for, or not; else when. */
uint64_t mc_flow_wait_ns(const struct mc_flow *flow, uint64_t now_ns, bool waited_for);

void mc_flow_sent(struct mc_flow *flow, uint64_t now_ns, uint64_t bytes);

/* A member's report. Return: 0 or -ENOMEM. */
int mc_flow_report(struct mc_flow *flow, uint64_t now_ns, const struct mc_report *report);

#endif
