/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Pushes go by turns, a few datagrams at a time, when nobody waits for anything. */
#include "host/mcdist/push.h"

#include <errno.h>
#include <stdlib.h>

#define PUSHES_MAX 64u			/* at a time; who comes later asks page by page */
#define DATAGRAMS_AT_ONCE 2u		/* before others have their turn */
#define PAGE_NS 10000ull		/* to one: 400 MB/s */
#define BEHIND_NS 3000000ull		/* what was not sent in time is made up for, so far */
#define UNSENT_BYTES (256u << 10)	/* more waits for the wire already: 2 ms at 1 Gbit/s */
#define FULL_NS 1000000ull
#define NS_PER_S 1000000000ull

struct mc_push {
	TAILQ_ENTRY(mc_push) link;
	struct mc_giver *giver;
	struct mc_group *group;
	struct mc_address to;
	uint64_t paced_ns;		/* when to go on */
	uint64_t rest_ns;		/* a page of the rest; 0: none of it */
	uint64_t rest_gfn;		/* how far the rest is */
	unsigned dones;			/* sent */
	size_t next, count;		/* of the list */
	size_t late;			/* so much of it went out before the last one joined */
	struct mc_span spans[];
};

static void push_free(struct mc_endpoint *ep, struct mc_push *p)
{
	TAILQ_REMOVE(&ep->pushes, p, link);
	ep->push_count--;
	free(p);
}

/* Sends it. Return: 0, or when to try again. */
static uint64_t send_span(struct mc_endpoint *ep, struct mc_push *p, const struct mc_span *span)
{
	struct mc_to to = { .address = &p->to };
	uint64_t wait_ns = 0;

	if (p->group)
		wait_ns = mc_group_push(p->group, span);
	else if (mc_give(p->giver, &to, span) == -EAGAIN)
		wait_ns = mc_now_ns(ep) + FULL_NS;
	if (!wait_ns)
		ep->counters->pushed += span->pages;
	return wait_ns;
}

static bool is_had(const struct mc_push *p, uint64_t gfn)
{
	return p->group && mc_group_had(p->group, gfn);
}

/* The next pages of the rest. Return: false if there are none. */
static bool next_rest(struct mc_push *p, struct mc_span *span)
{
	uint64_t pages = p->giver->session->snapshot.pages;

	while (p->rest_gfn < pages && is_had(p, p->rest_gfn))
		p->rest_gfn++;
	*span = (struct mc_span){ .gfn = p->rest_gfn };
	while (span->pages < MC_MAX_PAGES && span->gfn + span->pages < pages &&
	       !is_had(p, span->gfn + span->pages))
		span->pages++;
	return span->pages > 0;
}

/* All is out. Return: true if the push is over. */
static bool say_done(struct mc_endpoint *ep, struct mc_push *p)
{
	if (!p->rest_ns || p->dones == MC_DONES)
		return true;
	mc_send(p->giver->session, &p->to, MC_DONE, 0);
	p->dones++;
	p->paced_ns = mc_now_ns(ep) + MC_DONE_NS;
	return false;
}

static void pace(struct mc_push *p, uint64_t now_ns, uint64_t ns)
{
	if (p->paced_ns + BEHIND_NS < now_ns)
		p->paced_ns = now_ns - BEHIND_NS;
	p->paced_ns += ns;
}

/* The next datagram. */
static void push_some(struct mc_endpoint *ep, struct mc_push *p, uint64_t now_ns)
{
	bool list = p->next < p->count;
	struct mc_span span;
	uint64_t wait_ns;

	TAILQ_REMOVE(&ep->pushes, p, link);
	TAILQ_INSERT_TAIL(&ep->pushes, p, link);
	if (list) {
		span = p->spans[p->next];
	} else if (!p->rest_ns || !next_rest(p, &span)) {
		if (say_done(ep, p))
			push_free(ep, p);
		return;
	}
	wait_ns = send_span(ep, p, &span);
	if (wait_ns) {
		p->paced_ns = wait_ns;
		return;
	}
	pace(p, now_ns, span.pages * (list ? (p->group ? 0 : PAGE_NS) : p->rest_ns));
	if (!list)
		p->rest_gfn = span.gfn + span.pages;
	else if (++p->next == p->count && p->late) {
		p->next = 0;
		p->count = p->late;
		p->late = 0;
	}
}

static struct mc_push *first_due(struct mc_endpoint *ep, uint64_t now_ns, uint64_t *next_ns)
{
	struct mc_push *p;

	*next_ns = MC_NEVER;
	TAILQ_FOREACH(p, &ep->pushes, link) {
		if (p->paced_ns <= now_ns)
			return p;
		*next_ns = p->paced_ns < *next_ns ? p->paced_ns : *next_ns;
	}
	return NULL;
}

/* Somebody waits for a page, or would have to wait behind what is pushed. */
static bool is_busy(const struct mc_endpoint *ep)
{
	return !TAILQ_EMPTY(&ep->debts[0]) || !TAILQ_EMPTY(&ep->debts[1]) ||
	       ep->transport->calls->unsent_bytes(ep->transport) > UNSENT_BYTES;
}

static void on_push(void *arg)
{
	struct mc_endpoint *ep = arg;
	uint64_t now_ns = mc_now_ns(ep), next_ns;
	struct mc_push *p;

	if (is_busy(ep)) {
		mc_timer_set(ep, &ep->push, now_ns + FULL_NS);
		return;
	}
	for (unsigned i = 0; i < DATAGRAMS_AT_ONCE && (p = first_due(ep, now_ns, &next_ns)); i++)
		push_some(ep, p, now_ns);
	if (first_due(ep, now_ns, &next_ns))
		mc_timer_set(ep, &ep->push, MC_NEXT_TURN);
	else if (next_ns != MC_NEVER)
		mc_timer_set(ep, &ep->push, next_ns);
}

void mc_pushes_init(struct mc_endpoint *ep)
{
	TAILQ_INIT(&ep->pushes);
	ep->push = (struct mc_timer){ .fire = on_push, .arg = ep };
}

void mc_pushes_fini(struct mc_endpoint *ep)
{
	mc_timer_free(ep, &ep->push);
}

static struct mc_push *push_find(const struct mc_endpoint *ep, const struct mc_push_order *order)
{
	struct mc_push *p;

	TAILQ_FOREACH(p, &ep->pushes, link) {
		if (p->giver == order->giver && p->group == order->group &&
		    (p->group || mc_address_is(&p->to, order->to)))
			return p;
	}
	return NULL;
}

int mc_push_begin(struct mc_endpoint *ep, const struct mc_push_order *order)
{
	struct mc_push *p = push_find(ep, order);

	if (p) {
		if (p->group && p->next < p->count && p->next > p->late)
			p->late = p->next;
		return 0;
	}
	if (!order->count && !order->rest_pages_per_s)
		return 0;
	if (ep->push_count >= PUSHES_MAX)
		return -EBUSY;
	p = calloc(1, sizeof(*p) + order->count * sizeof(p->spans[0]));
	if (!p)
		return -ENOMEM;
	p->giver = order->giver;
	p->group = order->group;
	p->to = p->group ? *mc_group_address(p->group) : *order->to;
	p->count = order->count;
	if (order->count)
		memcpy(p->spans, order->spans, order->count * sizeof(p->spans[0]));
	if (order->rest_pages_per_s)
		p->rest_ns = NS_PER_S / order->rest_pages_per_s + 1;
	if (order->rest_is_out)
		p->rest_gfn = p->giver->session->snapshot.pages;
	TAILQ_INSERT_TAIL(&ep->pushes, p, link);
	ep->push_count++;
	mc_timer_set(ep, &ep->push, MC_NEXT_TURN);
	return 0;
}

enum mc_push_stage mc_push_stage(const struct mc_endpoint *ep, const struct mc_group *group)
{
	const struct mc_push *p;

	TAILQ_FOREACH(p, &ep->pushes, link) {
		if (p->group == group)
			return p->next < p->count ? MC_PUSH_LIST : MC_PUSH_REST;
	}
	return MC_PUSH_NONE;
}

void mc_pushes_drop(struct mc_endpoint *ep, const struct mc_giver *giver)
{
	struct mc_push *p, *next;

	for (p = TAILQ_FIRST(&ep->pushes); p; p = next) {
		next = TAILQ_NEXT(p, link);
		if (p->giver == giver)
			push_free(ep, p);
	}
}
