/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Time-outs as in RFC 6298 with Karn's rule: what was asked for twice measures nothing. A time-out
 * that is too short would be so for ever; so from the second loss in a row on each is longer, until
 * an answer in time measures again. (Not from the first: datagrams do get lost.)
 *
 * The window grows by a page for every windowful that arrives and halves when one is lost.
 */
#include "host/mcdist/pace.h"

#define LOST_MAX 16u	/* time-outs are the longest by then */

void mc_pace_init(struct mc_pace *pace, uint32_t window_max)
{
	if (window_max < MC_WINDOW_MIN)
		window_max = MC_WINDOW_MIN;
	*pace = (struct mc_pace){ .window_pages = window_max, .window_max = window_max };
}

static void measure(struct mc_pace *pace, uint64_t rtt_ns)
{
	uint64_t off = rtt_ns > pace->srtt_ns ? rtt_ns - pace->srtt_ns : pace->srtt_ns - rtt_ns;

	if (!pace->srtt_ns) {
		pace->srtt_ns = rtt_ns;
		pace->rttvar_ns = rtt_ns / 2;
		return;
	}
	pace->rttvar_ns = (3 * pace->rttvar_ns + off) / 4;
	pace->srtt_ns = (7 * pace->srtt_ns + rtt_ns) / 8;
}

void mc_pace_arrived(struct mc_pace *pace, uint64_t rtt_ns)
{
	if (rtt_ns) {
		measure(pace, rtt_ns);
		pace->lost = 0;
	}
	if (pace->window_pages < pace->window_max && ++pace->credit >= pace->window_pages) {
		pace->credit = 0;
		pace->window_pages++;
	}
}

void mc_pace_lost(struct mc_pace *pace)
{
	pace->credit = 0;
	if (pace->lost < LOST_MAX)
		pace->lost++;
	pace->window_pages /= 2;
	if (pace->window_pages < MC_WINDOW_MIN)
		pace->window_pages = MC_WINDOW_MIN;
}

uint64_t mc_pace_timeout_ns(const struct mc_pace *pace, uint32_t tries)
{
	uint64_t timeout = pace->srtt_ns ? pace->srtt_ns + 4 * pace->rttvar_ns : MC_RTO_FIRST_NS;

	if (timeout < MC_RTO_MIN_NS)
		timeout = MC_RTO_MIN_NS;
	if (tries + 1 < pace->lost)
		tries = pace->lost - 1;
	while (tries-- && timeout < MC_RTO_MAX_NS)
		timeout *= 2;
	return timeout < MC_RTO_MAX_NS ? timeout : MC_RTO_MAX_NS;
}

uint64_t mc_pace_late_ns(const struct mc_pace *pace)
{
	return pace->srtt_ns ? pace->srtt_ns + 4 * pace->rttvar_ns + MC_LATE_NS : MC_RTO_FIRST_NS;
}
