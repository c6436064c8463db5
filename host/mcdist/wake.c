/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Waking up: the pages that one who begins will need first are sent to it in one go.
 *
 * Nobody has asked for each of them, so nobody's window holds them back. A pace does: for each who
 * wakes up so many pages in a time, as a receiver takes in without losing any. They go out by
 * turns, a few datagrams at a time and at the lowest priority: what a clone waits for comes first.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "host/mcdist/endpoint.h"

#define WAKES_MAX 64u			/* at a time; who comes later asks page by page */
#define DATAGRAMS_AT_ONCE 4u		/* before others have their turn */
#define PAGE_NS 20000ull		/* for each who wakes up: 200 MB/s */
#define BEHIND_NS 1000000ull		/* what was not sent in time is not made up for */
#define TICK_NS 1000000ull

struct mc_wake {
	TAILQ_ENTRY(mc_wake) link;
	struct mc_server *server;
	struct mc_address to;
	uint64_t paced_ns;		/* follows the clock as pages are sent */
	size_t next, count;
	struct mc_span spans[];
};

static void wake_free(struct mc_endpoint *ep, struct mc_wake *w)
{
	TAILQ_REMOVE(&ep->wakes, w, link);
	ep->wake_count--;
	free(w);
}

static struct mc_wake *first_due(struct mc_endpoint *ep, uint64_t now_ns)
{
	struct mc_wake *w;

	TAILQ_FOREACH(w, &ep->wakes, link) {
		if (w->paced_ns <= now_ns)
			return w;
	}
	return NULL;
}

/* The next pages of it. Return: 0, or -EAGAIN if the socket is full. */
static int send_some(struct mc_endpoint *ep, struct mc_wake *w, uint64_t now_ns)
{
	const struct mc_span *span = &w->spans[w->next];
	int error = mc_server_send(w->server, &w->to, span);

	if (error)
		return error;
	if (w->paced_ns + BEHIND_NS < now_ns)
		w->paced_ns = now_ns - BEHIND_NS;
	w->paced_ns += span->pages * PAGE_NS;
	TAILQ_REMOVE(&ep->wakes, w, link);
	TAILQ_INSERT_TAIL(&ep->wakes, w, link);
	if (++w->next == w->count)
		wake_free(ep, w);
	return 0;
}

static void on_wake(void *arg)
{
	struct mc_endpoint *ep = arg;
	uint64_t now_ns = mc_now_ns(ep);
	struct mc_wake *w = NULL;
	bool full = !TAILQ_EMPTY(&ep->debts);

	for (unsigned i = 0; !full && i < DATAGRAMS_AT_ONCE && (w = first_due(ep, now_ns)); i++)
		full = send_some(ep, w, now_ns) != 0;
	if (!full && first_due(ep, now_ns))
		mc_timer_set(ep, &ep->wake, MC_NEXT_TURN);
	else if (!TAILQ_EMPTY(&ep->wakes))
		mc_timer_set(ep, &ep->wake, now_ns + TICK_NS);
}

void mc_wakes_init(struct mc_endpoint *ep)
{
	ep->wake = (struct mc_timer){ .fire = on_wake, .arg = ep };
}

void mc_wakes_fini(struct mc_endpoint *ep)
{
	mc_timer_free(ep, &ep->wake);
}

int mc_wakes_begin(struct mc_endpoint *ep, struct mc_server *server, const struct mc_address *to,
		   const struct mc_span *spans, size_t count)
{
	struct mc_wake *w;

	TAILQ_FOREACH(w, &ep->wakes, link) {
		if (w->server == server && mc_address_is(&w->to, to))
			return 0;	/* it gets them already */
	}
	if (ep->wake_count >= WAKES_MAX)
		return 0;
	w = calloc(1, sizeof(*w) + count * sizeof(spans[0]));
	if (!w)
		return -ENOMEM;
	w->server = server;
	w->to = *to;
	w->count = count;
	memcpy(w->spans, spans, count * sizeof(spans[0]));
	TAILQ_INSERT_TAIL(&ep->wakes, w, link);
	ep->wake_count++;
	mc_timer_set(ep, &ep->wake, MC_NEXT_TURN);
	return 0;
}

void mc_wakes_drop(struct mc_endpoint *ep, const struct mc_server *server)
{
	struct mc_wake *w, *next;

	for (w = TAILQ_FIRST(&ep->wakes); w; w = next) {
		next = TAILQ_NEXT(w, link);
		if (w->server == server)
			wake_free(ep, w);
	}
}
