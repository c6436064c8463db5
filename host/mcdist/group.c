/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * When each page went to the group, and what is owed to it.
 *
 *   never ── asked for ──→ owed ── paid ──→ sent, at a time ── asked for much later, twice ──→ owed
 *
 * Who has missed a page asks its neighbours. Who asks here for one that was sent has come late, or
 * its neighbours lack it as well. It alone gets it, unless another asks for the same soon after: to
 * answer each of a thousand members would be unicast again.
 */
#include "host/mcdist/group.h"

#include <errno.h>
#include <stdlib.h>

#include "host/mcdist/flow.h"

#define NEVER 0u
#define OWED UINT16_MAX
#define TICK_NS 1000000ull
#define TICKS 65534u		/* then they begin anew: a page is taken for fresh once a minute */
#define LOCKSTEP_TICKS (MC_LOCKSTEP_NS / TICK_NS)
#define FULL_NS 1000000ull	/* the transport was full: try again after */
#define SENT (1u << (MC_TOLD - 1))	/* datagrams that later ones tell of */
#define ALONE_TICKS (MC_ALONE_NS / TICK_NS)

struct group_page {
	uint16_t sent;		/* to all: NEVER, OWED, or 1 + the tick */
	uint16_t alone;		/* to the only one who lacked it: NEVER, or 1 + the tick */
};

struct sent {
	uint64_t counter;
	struct mc_span span;
};

struct mc_group {
	struct mc_giver *giver;
	struct mc_address address;
	struct mc_flow flow;
	struct mc_debts debts[2];	/* what somebody waits for; what is ahead */
	struct mc_timer pay;
	struct sent sent[SENT];		/* what went out last, by its counter */
	struct group_page pages[];
};

static void on_pay(void *arg)
{
	mc_group_pay(arg);
}

struct mc_group *mc_group_create(struct mc_giver *giver, const struct mc_address *address)
{
	uint64_t pages = giver->session->snapshot.pages;
	struct mc_group *g = calloc(1, sizeof(*g) + pages * sizeof(g->pages[0]));

	if (!g)
		return NULL;
	g->giver = giver;
	g->address = *address;
	g->pay = (struct mc_timer){ .fire = on_pay, .arg = g };
	TAILQ_INIT(&g->debts[0]);
	TAILQ_INIT(&g->debts[1]);
	mc_flow_init(&g->flow);
	return g;
}

static void debt_free(struct mc_group *g, struct mc_debt *debt)
{
	TAILQ_REMOVE(&g->debts[debt->span.flags & MC_RUN_AHEAD ? 1 : 0], debt, link);
	free(debt);
}

void mc_group_destroy(struct mc_group *group)
{
	struct mc_debt *debt;

	if (!group)
		return;
	for (unsigned i = 0; i < 2; i++) {
		while ((debt = TAILQ_FIRST(&group->debts[i])))
			debt_free(group, debt);
	}
	mc_timer_free(group->giver->session->ep, &group->pay);
	mc_flow_fini(&group->flow);
	free(group);
}

static uint16_t tick_of(uint64_t now_ns)
{
	return (uint16_t)(1 + now_ns / TICK_NS % TICKS);
}

static uint16_t ticks_since(uint16_t then, uint16_t tick)
{
	return (uint16_t)((tick + TICKS - then) % TICKS);
}

static void mark(struct mc_group *g, const struct mc_span *span, uint16_t as)
{
	for (uint32_t i = 0; i < span->pages; i++) {
		uint16_t *sent = &g->pages[span->gfn + i].sent;

		*sent = as;
	}
}

/* Return: false if there is no memory; who asked asks again. */
static bool owe_to_all(struct mc_group *g, const struct mc_span *span)
{
	struct mc_debt *debt = malloc(sizeof(*debt));

	if (!debt)
		return false;
	*debt = (struct mc_debt){ .giver = g->giver, .span = *span };
	TAILQ_INSERT_TAIL(&g->debts[span->flags & MC_RUN_AHEAD ? 1 : 0], debt, link);
	mark(g, span, OWED);
	return true;
}

/* Whom a page goes to when a member asks for it. */
enum answer { ANSWER_NOBODY, ANSWER_ALL, ANSWER_ONE };

static enum answer answer_to(struct mc_group *g, uint64_t gfn, uint16_t tick)
{
	struct group_page *page = &g->pages[gfn];
	bool alone = page->alone == NEVER || ticks_since(page->alone, tick) >= ALONE_TICKS;

	if (page->sent == NEVER)
		return ANSWER_ALL;
	if (page->sent == OWED || ticks_since(page->sent, tick) < LOCKSTEP_TICKS)
		return ANSWER_NOBODY;
	page->alone = alone ? tick : NEVER;
	return alone ? ANSWER_ONE : ANSWER_ALL;
}

/* Return: false if there is no memory. */
static bool give(struct mc_group *g, const struct mc_address *from, const struct mc_span *run,
		 enum answer answer)
{
	switch (answer) {
	case ANSWER_NOBODY:
		g->giver->session->ep->counters->lockstep += run->pages;
		return true;
	case ANSWER_ONE:
		mc_owe(g->giver, from, run);
		return true;
	case ANSWER_ALL:
		return owe_to_all(g, run);
	}
	return false;
}

void mc_group_asked(struct mc_group *group, const struct mc_address *from,
		    const struct mc_span *span)
{
	uint16_t tick = tick_of(mc_now_ns(group->giver->session->ep));
	struct mc_span run = { .gfn = span->gfn, .flags = span->flags };
	enum answer answer = ANSWER_NOBODY;

	if (span->flags & MC_RUN_ALONE) {
		mc_owe(group->giver, from, span);
		return;
	}
	for (uint32_t i = 0; i < span->pages; i++) {
		enum answer next = answer_to(group, span->gfn + i, tick);

		if (run.pages && next != answer) {
			if (!give(group, from, &run, answer))
				return;
			run.gfn = span->gfn + i;
			run.pages = 0;
		}
		answer = next;
		run.pages++;
	}
	give(group, from, &run, answer);
}

void mc_group_report(struct mc_group *group, const struct mc_report *report)
{
	struct mc_session *s = group->giver->session;

	if (report->sender == s->group_seal.sender)
		mc_flow_report(&group->flow, mc_now_ns(s->ep), report);
}

/* What was sent 1, 2, 4, 8 before the datagram with this counter. */
static void tell(const struct mc_group *g, uint64_t counter, struct mc_span told[MC_TOLD])
{
	for (unsigned i = 0; i < MC_TOLD; i++) {
		const struct sent *sent = &g->sent[(counter - (1u << i)) % SENT];

		told[i] = (struct mc_span){ 0 };
		if (sent->counter + (1u << i) == counter)
			told[i] = sent->span;
	}
}

/* Return: 0, or when to try again. */
static uint64_t send_to_all(struct mc_group *g, const struct mc_span *span, bool waited_for)
{
	struct mc_endpoint *ep = g->giver->session->ep;
	uint64_t now_ns = mc_now_ns(ep), wait_ns = mc_flow_wait_ns(&g->flow, now_ns, waited_for);
	uint64_t counter = g->giver->session->group_seal.counter + 1;
	struct mc_span told[MC_TOLD];
	struct mc_to to = { &g->address, told };
	ssize_t len;

	if (wait_ns)
		return wait_ns;
	tell(g, counter, told);
	len = mc_give(g->giver, &to, span);
	if (len == -EAGAIN)
		return now_ns + FULL_NS;
	if (len)
		g->sent[counter % SENT] = (struct sent){ counter, *span };
	mc_flow_sent(&g->flow, now_ns, (uint64_t)len + MC_OVERHEAD_BYTES);
	mark(g, span, tick_of(now_ns));
	return 0;
}

/* Pays one. Return: 0, or when to try again. */
static uint64_t pay(struct mc_group *g, struct mc_debt *debt)
{
	uint64_t wait_ns = send_to_all(g, &debt->span, !(debt->span.flags & MC_RUN_AHEAD));

	if (!wait_ns)
		debt_free(g, debt);
	return wait_ns;
}

void mc_group_pay(struct mc_group *group)
{
	struct mc_debt *debt;
	uint64_t wait_ns = 0;
	bool ahead = false;	/* there is more, which lets requests go first */

	while (!wait_ns && (debt = TAILQ_FIRST(&group->debts[0])))
		wait_ns = pay(group, debt);
	if (!wait_ns && (debt = TAILQ_FIRST(&group->debts[1]))) {
		wait_ns = pay(group, debt);
		ahead = !wait_ns && !TAILQ_EMPTY(&group->debts[1]);
	}
	if (wait_ns || ahead)
		mc_timer_set(group->giver->session->ep, &group->pay,
			     ahead ? MC_NEXT_TURN : wait_ns);
}

uint64_t mc_group_push(struct mc_group *group, const struct mc_span *span)
{
	uint64_t now_ns = mc_now_ns(group->giver->session->ep);

	if (!TAILQ_EMPTY(&group->debts[0]) || !TAILQ_EMPTY(&group->debts[1]))
		return now_ns + FULL_NS;
	return send_to_all(group, span, false);
}

bool mc_group_had(const struct mc_group *group, uint64_t gfn)
{
	return group->pages[gfn].sent != NEVER;
}

const struct mc_address *mc_group_address(const struct mc_group *group)
{
	return &group->address;
}
