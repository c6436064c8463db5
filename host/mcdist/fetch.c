/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Fetching: wanted pages are queued, asked for, waited for, asked for again.
 *
 *   MC_IDLE ── want ──→ MC_QUEUED ── the window has room ──→ MC_IN_FLIGHT ── done ──→ MC_IDLE
 *                           └────────────── its time is over ───────┘
 *
 * Wants that come in one turn of the world's loop leave in one request: the first sets the `flush`
 * timer, which fires after what is to be done already. What somebody waits for goes first, each
 * page as a run of its own so that its answer is not held up by others; pages ahead follow in runs.
 */
#include "host/mcdist/fetch.h"

#include <errno.h>
#include <sodium.h>
#include <stdlib.h>

#include "common/log.h"

#define ALONE_TRIES 3u	/* then what is sent to all seems not to come */

#define MC_PASSED 3u	/* datagrams overtake each other now and then */
#define LOOK_AT 32u	/* of the oldest that are under way */

static void timer_set(struct mc_fetch *f, uint64_t due_ns)
{
	if (f->timer_ns && f->timer_ns <= due_ns)
		return;
	f->timer_ns = due_ns;
	mc_timer_set(f->session->ep, &f->timer, due_ns);
}

static void depart(struct mc_fetch *f, struct mc_want *w, uint64_t now_ns)
{
	TAILQ_REMOVE(&f->queues[w->urgency], w, link);
	TAILQ_INSERT_TAIL(&f->flight, w, link);
	w->state = MC_IN_FLIGHT;
	w->sent_ns = now_ns;
	w->passed = 0;
	w->due_ns = now_ns + mc_pace_timeout_ns(&f->pace, w->tries);
	f->in_flight++;
	timer_set(f, w->due_ns);
}

static uint32_t flags_of(const struct mc_fetch *f, const struct mc_want *w)
{
	bool alone = f->member.deaf || w->tries >= ALONE_TRIES;

	return (w->tries || alone ? MC_RUN_AGAIN : 0) | (alone ? MC_RUN_ALONE : 0) |
	       (w->urgency == MC_AHEAD ? MC_RUN_AHEAD : 0);
}

/* Takes queued wants into `spans` as far as there is room. Return: how many spans there are. */
static unsigned gather(struct mc_fetch *f, struct mc_span spans[MC_MAX_RUNS])
{
	uint64_t now_ns = mc_now_ns(f->session->ep);
	struct mc_span *run = NULL;	/* of pages ahead, that may grow */
	unsigned count = 0;

	while (f->in_flight < f->pace.window_pages) {
		struct mc_want *w = TAILQ_FIRST(&f->queues[MC_NOW]);
		uint32_t flags;

		if (!w)
			w = TAILQ_FIRST(&f->queues[MC_AHEAD]);
		if (!w)
			break;
		flags = flags_of(f, w);
		if (run && run->flags == flags && w->gfn == run->gfn + run->pages &&
		    run->pages < MC_MAX_PAGES) {
			run->pages++;
		} else if (count < MC_MAX_RUNS) {
			spans[count] = (struct mc_span){ w->gfn, 1, flags };
			run = w->urgency == MC_AHEAD ? &spans[count] : NULL;
			count++;
		} else {
			break;
		}
		depart(f, w, now_ns);
	}
	return count;
}

static void send_request(struct mc_fetch *f, const struct mc_span *spans, unsigned count)
{
	const struct mc_address *whom[2];
	unsigned asked = mc_member_asks(f, whom);

	for (unsigned i = 0; i < asked; i++) {
		/* written anew, since it was sealed in place */
		size_t len = mc_write_request(mc_body(f->session->ep), spans, count);
		int error = mc_send(f->session, whom[i], MC_REQUEST, len);

		/* as good as lost under way */
		if (error)
			log_debug("mcdist: request not sent: error %d", -error);
	}
}

static void on_flush(void *arg)
{
	struct mc_fetch *f = arg;
	struct mc_span spans[MC_MAX_RUNS];
	unsigned count;

	f->flush_is_set = false;
	while ((count = gather(f, spans)))
		send_request(f, spans, count);
}

static void flush_soon(struct mc_fetch *f)
{
	uint64_t at_ns = MC_NEXT_TURN;

	if (f->member.spread_ns) {
		if (f->flush_is_set)
			return;
		f->flush_is_set = true;
		at_ns = mc_now_ns(f->session->ep) + randombytes_uniform(f->member.spread_ns);
	}
	mc_timer_set(f->session->ep, &f->flush, at_ns);
}

static void enqueue(struct mc_fetch *f, struct mc_want *w)
{
	w->state = MC_QUEUED;
	TAILQ_INSERT_TAIL(&f->queues[w->urgency], w, link);
}

static void on_timer(void *arg)
{
	struct mc_fetch *f = arg;
	uint64_t now_ns = mc_now_ns(f->session->ep), next_ns = UINT64_MAX;
	struct mc_want *w, *next;
	bool lost = false;

	f->timer_ns = 0;
	for (w = TAILQ_FIRST(&f->flight); w; w = next) {
		next = TAILQ_NEXT(w, link);
		if (w->due_ns > now_ns) {
			next_ns = w->due_ns < next_ns ? w->due_ns : next_ns;
			continue;
		}
		TAILQ_REMOVE(&f->flight, w, link);
		f->in_flight--;
		f->session->ep->counters->retries++;
		w->tries++;
		enqueue(f, w);
		lost = true;
	}
	if (next_ns != UINT64_MAX)
		timer_set(f, next_ns);
	if (lost) {
		mc_pace_lost(&f->pace);
		mc_member_lost(f);
		flush_soon(f);
	}
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
		TAILQ_REMOVE(&fetch->queues[want->urgency], want, link);
	want->urgency = (uint8_t)urgency;
	enqueue(fetch, want);
	if (fetch->in_flight < fetch->pace.window_pages)
		flush_soon(fetch);
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
		if (w->tries || w->urgency > came->urgency)
			continue;
		if (w->passed < UINT8_MAX)
			w->passed++;
		if (w->passed < MC_PASSED || w->sent_ns + late_ns > now_ns)
			continue;
		TAILQ_REMOVE(&f->flight, w, link);
		f->in_flight--;
		f->session->ep->counters->retries++;
		w->tries++;
		enqueue(f, w);
	}
}

void mc_fetch_done(struct mc_fetch *fetch, struct mc_want *want, bool arrived)
{
	if (want->state == MC_QUEUED)
		TAILQ_REMOVE(&fetch->queues[want->urgency], want, link);
	if (want->state == MC_IN_FLIGHT) {
		TAILQ_REMOVE(&fetch->flight, want, link);
		fetch->in_flight--;
		if (arrived)
			look_for_passed(fetch, want);
		if (arrived)
			mc_pace_arrived(&fetch->pace,
					want->tries ? 0 : mc_now_ns(fetch->session->ep) - want->sent_ns);
	}
	fetch->answered |= want->state == MC_IN_FLIGHT;
	want->state = MC_IDLE;
	if (!TAILQ_EMPTY(&fetch->queues[MC_NOW]) || !TAILQ_EMPTY(&fetch->queues[MC_AHEAD]))
		flush_soon(fetch);
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
	TAILQ_REMOVE(&f->flight, w, link);
	f->in_flight--;
	w->tries++;
	enqueue(f, w);
	flush_soon(f);
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
	for (unsigned i = 0; i < 2; i++)
		TAILQ_INIT(&f->queues[i]);
	TAILQ_INIT(&f->flight);
	mc_pace_init(&f->pace, ep->transport->calls->window_pages(ep->transport));
	f->flush = (struct mc_timer){ .fire = on_flush, .arg = f };
	f->timer = (struct mc_timer){ .fire = on_timer, .arg = f };
	if (way->mode == MC_TREE && calls->read_page && !mc_fetch_relay(f->session))
		f->relay = mc_relay_create(f);
	LIST_INSERT_HEAD(&f->session->fetches, f, link);
	mc_member_init(f, way);
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
	forget_all(&fetch->flight);
	mc_timer_free(fetch->session->ep, &fetch->flush);
	mc_timer_free(fetch->session->ep, &fetch->timer);
	mc_member_fini(fetch);
	mc_relay_destroy(fetch->relay);
	LIST_REMOVE(fetch, link);
	mc_session_put(fetch->session);
	free(fetch);
}
