/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The rate of a group: more by an eighth while reports are good, less by a third for a bad one. */
#include "host/mcdist/flow.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define NS_PER_S 1000000000ull
#define SLOW_AGAIN_NS (3 * MC_REPORT_NS)	/* until the last time has had an effect */
#define MEMBERS_STEP 64u

void mc_flow_init(struct mc_flow *flow)
{
	*flow = (struct mc_flow){ .pages_per_s = MC_FLOW_FIRST_PAGES_PER_S };
}

void mc_flow_fini(struct mc_flow *flow)
{
	free(flow->members);
	flow->members = NULL;
	flow->member_count = 0;
}

uint64_t mc_flow_wait_ns(const struct mc_flow *flow, uint64_t now_ns, bool waited_for)
{
	uint64_t until_ns = now_ns + (waited_for ? MC_FLOW_AHEAD_NS : 0);

	return flow->clock_ns <= until_ns ? 0 : now_ns + flow->clock_ns - until_ns;
}

void mc_flow_sent(struct mc_flow *flow, uint64_t now_ns, uint64_t bytes)
{
	if (flow->clock_ns + MC_FLOW_BEHIND_NS < now_ns)
		flow->clock_ns = now_ns - MC_FLOW_BEHIND_NS;
	flow->clock_ns += bytes * NS_PER_S / MC_PAGE_BYTES / flow->pages_per_s;
}

/* Return: what the slowest member can take, of those that are not silent. */
static uint32_t slowest(const struct mc_flow *flow, uint64_t now_ns)
{
	uint32_t least = MC_FLOW_MAX_PAGES_PER_S;

	for (uint32_t i = 0; i < flow->member_count; i++) {
		const struct mc_flow_member *m = &flow->members[i];

		if (m->heard_ns && m->heard_ns + MC_SILENT_NS > now_ns && m->takes_pages_per_s &&
		    m->takes_pages_per_s < least)
			least = m->takes_pages_per_s;
	}
	return least > MC_FLOW_MIN_PAGES_PER_S ? least : MC_FLOW_MIN_PAGES_PER_S;
}

/* Return: NULL if there is no memory. */
static struct mc_flow_member *member_of(struct mc_flow *flow, uint32_t node)
{
	uint32_t count = (node / MEMBERS_STEP + 1) * MEMBERS_STEP;
	struct mc_flow_member *more;

	if (node < flow->member_count)
		return &flow->members[node];
	more = realloc(flow->members, count * sizeof(*more));
	if (!more)
		return NULL;
	memset(more + flow->member_count, 0, (count - flow->member_count) * sizeof(*more));
	flow->members = more;
	flow->member_count = count;
	return &more[node];
}

static bool is_much(const struct mc_report *report)
{
	uint64_t all = (uint64_t)report->received + report->missed;

	return (uint64_t)report->missed * 100 > all * MC_FLOW_LOSS_PERCENT;
}

int mc_flow_report(struct mc_flow *flow, uint64_t now_ns, const struct mc_report *report)
{
	struct mc_flow_member *m = member_of(flow, report->node);
	uint32_t limit;

	if (!m)
		return -ENOMEM;
	m->heard_ns = now_ns;
	m->takes_pages_per_s = report->takes_pages_per_s;
	if (!is_much(report)) {
		/* however many members report */
		if (flow->grown_ns + MC_REPORT_NS <= now_ns &&
		    flow->slowed_ns + SLOW_AGAIN_NS <= now_ns) {
			flow->grown_ns = now_ns;
			flow->pages_per_s += flow->pages_per_s / 8;
		}
	} else if (flow->slowed_ns + SLOW_AGAIN_NS <= now_ns) {
		flow->slowed_ns = now_ns;
		flow->pages_per_s -= flow->pages_per_s / 3;
	}
	limit = slowest(flow, now_ns);
	if (flow->pages_per_s > limit)
		flow->pages_per_s = limit;
	if (flow->pages_per_s < MC_FLOW_MIN_PAGES_PER_S)
		flow->pages_per_s = MC_FLOW_MIN_PAGES_PER_S;
	return 0;
}
