/* SPDX-License-Identifier: GPL-2.0-or-later */
/* How long to wait for an answer, and how much to ask for at once. */
#ifndef MCDIST_PACE_H
#define MCDIST_PACE_H

#include <stdint.h>

struct mc_pace {
	uint64_t srtt_ns;	/* smoothed round trip; 0: not measured yet */
	uint64_t rttvar_ns;	/* how much it varies */
	uint32_t window_pages;	/* pages that may be under way */
	uint32_t window_max;
	uint32_t lost;		/* times in a row, with no round trip measured in between */
	uint32_t credit;	/* pages that arrived since the window last grew */
};

#define MC_RTO_FIRST_NS 10000000ull	/* before anything is measured */
#define MC_RTO_MIN_NS 700000ull	/* a busy host answers late; see recent.h */
#define MC_RTO_MAX_NS 500000000ull	/* a server that came back is found in this time */
#define MC_LATE_NS 1000000ull	/* datagrams overtake each other */
#define MC_WINDOW_MIN 8u

/* `window_max`: pages that the receive buffer holds (at least MC_WINDOW_MIN). */
void mc_pace_init(struct mc_pace *pace, uint32_t window_max);

/* A page arrived `rtt_ns` after it was asked for; 0: it was asked for twice, no telling. */
void mc_pace_arrived(struct mc_pace *pace, uint64_t rtt_ns);

/* A page did not come in time. */
void mc_pace_lost(struct mc_pace *pace);

/* How long to wait for a page that has been asked for again `tries` times before. */
uint64_t mc_pace_timeout_ns(const struct mc_pace *pace, uint32_t tries);

/* After which time a page is late that was asked for once, if answers to later questions came. */
uint64_t mc_pace_late_ns(const struct mc_pace *pace);

#endif
