/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Fetching: wanted pages are queued, asked for, waited for, asked for again.
 *
 *   MC_IDLE ── want ──→ MC_QUEUED ── the window has room ──→ MC_IN_FLIGHT ── done ──→ MC_IDLE
 *                           └────────────── its time is over ───────┘
 */
#include "host/mcdist/fetch.h"

#include <errno.h>
#include <stdlib.h>

#define MC_PASSED 3u	/* datagrams overtake each other now and then */
#define LOOK_AT 32u	/* of the oldest that are under way */

void mc_fetch_wait(struct mc_fetch *f, uint64_t due_ns)
{
	if (f->timer_ns && f->timer_ns <= due_ns)
		return;
	f->timer_ns = due_ns;
	mc_timer_set(f->session->ep, &f->timer, due_ns);
}

void mc_fetch_lost(struct mc_fetch *f, struct mc_want *w)
{
	TAILQ_REMOVE(&f->flight, w, link);
	f->in_flight--;
	f->session->ep->counters->retries++;
	mc_ask_enqueue(f, w);
}

static void on_timer(void *arg)
{
	struct mc_fetch *f = arg;
	uint64_t now_ns = mc_now_ns(f->session->ep), next_ns = UINT64_MAX;
	struct mc_want *w, *next;
	bool lost[2] = { false };	/* of the source or the parent, of a neighbour */

	f->timer_ns = 0;
	for (w = TAILQ_FIRST(&f->flight); w; w = next) {
		next = TAILQ_NEXT(w, link);
		if (w->due_ns > now_ns) {
			next_ns = w->due_ns < next_ns ? w->due_ns : next_ns;
			continue;
		}
		lost[w->of_neighbour] = true;
		w->tries++;
		mc_fetch_lost(f, w);
	}
	if (next_ns != UINT64_MAX)
		mc_fetch_wait(f, next_ns);
	if (lost[0]) {
		mc_pace_lost(&f->pace);
		mc_member_lost(f);
	}
	if (lost[1])
		mc_repair_lost(f);
	mc_ask_soon(f);
}

void mc_fetch_want(struct mc_fetch *fetch, struct mc_want *want, enum mc_urgency urgency)
{
	if (want->state != MC_IDLE && want->urgency <= urgency)
		return;
	if (want->state == MC_IN_FLIGHT) {
		want->urgency = (uint8_t)urgency;	/* when it is asked for again */
		return;
	}
	if (want->state == MC_QUEUED)
		TAILQ_REMOVE(mc_ask_queue(fetch, want), want, link);
	want->urgency = (uint8_t)urgency;
	mc_ask_enqueue(fetch, want);
	mc_ask_soon(fetch);
}

/*
 * What was asked for before a page that came, and is waited for no less, was passed by its answer.
 * After MC_PASSED of those it is lost: there is no need to wait for the time-out.
 */
static void look_for_passed(struct mc_fetch *f, const struct mc_want *came)
{
	uint64_t now_ns = mc_now_ns(f->session->ep), late_ns = mc_pace_late_ns(&f->pace);
	struct mc_want *w, *next;
	unsigned seen = 0;

	for (w = TAILQ_FIRST(&f->flight); w && w->sent_ns < came->sent_ns && seen < LOOK_AT;
	     w = next, seen++) {
		next = TAILQ_NEXT(w, link);
		if (w->tries || w->urgency > came->urgency || w->of_neighbour != came->of_neighbour)
			continue;
		if (w->passed < UINT8_MAX)
			w->passed++;
		if (w->passed < MC_PASSED || w->sent_ns + late_ns > now_ns)
			continue;
		w->tries++;
		mc_fetch_lost(f, w);
	}
}

/* Return: how long the way to who was asked and back took, or 0 if there is no telling. */
static uint64_t round_trip_ns(const struct mc_fetch *f, const struct mc_want *came)
{
	uint64_t took_ns = mc_now_ns(f->session->ep) - came->sent_ns;

	return came->tries || took_ns <= f->waited_ns ? 0 : took_ns - f->waited_ns;
}

void mc_fetch_done(struct mc_fetch *fetch, struct mc_want *want, bool arrived)
{
	if (want->state == MC_QUEUED)
		TAILQ_REMOVE(mc_ask_queue(fetch, want), want, link);
	if (want->state == MC_IN_FLIGHT) {
		TAILQ_REMOVE(&fetch->flight, want, link);
		fetch->in_flight--;
	}
	if (want->state == MC_IN_FLIGHT && arrived) {
		look_for_passed(fetch, want);
		mc_pace_arrived(&fetch->pace, round_trip_ns(fetch, want));
	}
	fetch->answered |= want->state == MC_IN_FLIGHT;
	want->state = MC_IDLE;
	mc_ask_soon(fetch);
}

void mc_fetch_again(struct mc_fetch *f, uint64_t gfn)
{
	struct mc_want *w;

	TAILQ_FOREACH(w, &f->flight, link) {
		if (w->gfn == gfn)
			break;
	}
	if (!w)
		return;
	w->tries++;
	mc_fetch_lost(f, w);
	mc_ask_soon(f);
}

static bool is_way(const struct mc_way *way)
{
	return way->mode < MC_MODES && way->nodes && way->nodes <= MC_MAX_MEMBERS &&
	       way->places[0].len && (way->mode != MC_MULTICAST || way->group.len);
}

/* Return: NULL (errno). */
static struct mc_session *session_to_fetch(struct mc_endpoint *ep,
					   const struct mc_snapshot *snapshot)
{
	struct mc_session *session = mc_session_get(ep, snapshot);

	if (!session || !session->server)
		return session;
	/* it would ask itself, and not believe the answer */
	mc_session_put(session);
	errno = EINVAL;
	return NULL;
}

struct mc_fetch *mc_fetch_create(struct mc_endpoint *ep, const struct mc_snapshot *snapshot,
				 const struct mc_way *way, const struct mc_fetch_calls *calls,
				 void *arg)
{
	struct mc_fetch *f;

	if (!is_way(way)) {
		errno = EINVAL;
		return NULL;
	}
	f = calloc(1, sizeof(*f));
	if (!f)
		return NULL;
	f->session = session_to_fetch(ep, snapshot);
	if (!f->session) {
		free(f);
		return NULL;
	}
	f->calls = calls;
	f->arg = arg;
	TAILQ_INIT(&f->flight);
	mc_ask_init(f);
	mc_pace_init(&f->pace, ep->transport->calls->window_pages(ep->transport));
	f->timer = (struct mc_timer){ .fire = on_timer, .arg = f };
	if (way->mode != MC_UNICAST && calls->read_page && !mc_fetch_relay(f->session))
		f->relay = mc_relay_create(f);
	LIST_INSERT_HEAD(&f->session->fetches, f, link);
	mc_member_init(f, way);
	mc_repair_init(f, way);
	return f;
}

static void forget_all(struct mc_wants *wants)
{
	struct mc_want *w;

	while ((w = TAILQ_FIRST(wants))) {
		TAILQ_REMOVE(wants, w, link);
		w->state = MC_IDLE;
	}
}

void mc_fetch_destroy(struct mc_fetch *fetch)
{
	if (!fetch)
		return;
	forget_all(&fetch->queues[MC_NOW]);
	forget_all(&fetch->queues[MC_AHEAD]);
	forget_all(&fetch->repairs);
	forget_all(&fetch->flight);
	mc_ask_fini(fetch);
	mc_repair_fini(fetch);
	mc_timer_free(fetch->session->ep, &fetch->timer);
	mc_member_fini(fetch);
	mc_relay_destroy(fetch->relay);
	LIST_REMOVE(fetch, link);
	mc_session_put(fetch->session);
	free(fetch);
}
