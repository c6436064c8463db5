/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Fetching: wanted pages are queued, asked for, waited for, asked for again.
 *
 *   MC_IDLE ── want ──→ MC_QUEUED ── the window has room ──→ MC_IN_FLIGHT ── done ──→ MC_IDLE
 *                           └────────────── its time is over ───────┘
 *
 * Wants that come in one turn of the event loop leave in one request: the first makes the `flush`
 * event active, which runs after what is active already. What somebody waits for goes first, each
 * page as a run of its own so that its answer is not held up by others; pages ahead follow in runs.
 */
#include <errno.h>
#include <event2/event.h>
#include <stdlib.h>
#include <string.h>

#include "common/io.h"
#include "common/log.h"
#include "host/mcdist/endpoint.h"
#include "host/mcdist/pace.h"

TAILQ_HEAD(mc_wants, mc_want);

struct mc_fetch {
	LIST_ENTRY(mc_fetch) link;	/* of the session */
	struct mc_session *session;
	struct mc_address from;
	mc_arrived *arrived;
	void *arg;
	struct mc_pace pace;
	struct mc_wants queues[2];	/* MC_QUEUED, by enum mc_urgency */
	struct mc_wants flight;		/* MC_IN_FLIGHT */
	uint32_t in_flight;
	struct event *flush, *timer;
	uint64_t timer_ns;		/* when the timer rings; 0: it is off */
};

static void timer_set(struct mc_fetch *f, uint64_t due_ns, uint64_t now_ns)
{
	uint64_t wait_us = due_ns > now_ns ? (due_ns - now_ns) / 1000 : 0;
	struct timeval wait = { .tv_sec = (time_t)(wait_us / 1000000),
				.tv_usec = (suseconds_t)(wait_us % 1000000) };

	if (f->timer_ns && f->timer_ns <= due_ns)
		return;
	f->timer_ns = due_ns;
	event_add(f->timer, &wait);
}

static void depart(struct mc_fetch *f, struct mc_want *w, uint64_t now_ns)
{
	TAILQ_REMOVE(&f->queues[w->urgency], w, link);
	TAILQ_INSERT_TAIL(&f->flight, w, link);
	w->state = MC_IN_FLIGHT;
	w->sent_ns = now_ns;
	w->due_ns = now_ns + mc_pace_timeout_ns(&f->pace, w->tries);
	f->in_flight++;
	timer_set(f, w->due_ns, now_ns);
}

/* Takes queued wants into `spans` as far as there is room. Return: how many spans there are. */
static unsigned gather(struct mc_fetch *f, struct mc_span spans[MC_MAX_RUNS])
{
	uint64_t now_ns = io_now_ns();
	struct mc_span *run = NULL;	/* of pages ahead, that may grow */
	unsigned count = 0;

	while (f->in_flight < f->pace.window_pages) {
		struct mc_want *w = TAILQ_FIRST(&f->queues[MC_NOW]);

		if (!w)
			w = TAILQ_FIRST(&f->queues[MC_AHEAD]);
		if (!w)
			break;
		if (run && w->urgency == MC_AHEAD && w->gfn == run->gfn + run->pages &&
		    run->pages < MC_MAX_PAGES) {
			run->pages++;
		} else if (count < MC_MAX_RUNS) {
			spans[count] = (struct mc_span){ w->gfn, 1 };
			run = w->urgency == MC_AHEAD ? &spans[count] : NULL;
			count++;
		} else {
			break;
		}
		depart(f, w, now_ns);
	}
	return count;
}

static void on_flush(evutil_socket_t sock, short what, void *arg)
{
	struct mc_fetch *f = arg;
	struct mc_span spans[MC_MAX_RUNS];
	unsigned count;

	(void)sock;
	(void)what;
	while ((count = gather(f, spans))) {
		size_t len = mc_write_request(mc_body(f->session->ep), spans, count);
		int error = mc_send(f->session, &f->from, MC_REQUEST, len);

		/* as good as lost under way */
		if (error)
			log_debug("mcdist: request not sent: error %d", -error);
	}
}

static void flush_soon(struct mc_fetch *f)
{
	event_active(f->flush, EV_TIMEOUT, 0);
}

static void enqueue(struct mc_fetch *f, struct mc_want *w)
{
	w->state = MC_QUEUED;
	TAILQ_INSERT_TAIL(&f->queues[w->urgency], w, link);
}

static void on_timer(evutil_socket_t sock, short what, void *arg)
{
	struct mc_fetch *f = arg;
	uint64_t now_ns = io_now_ns(), next_ns = UINT64_MAX;
	struct mc_want *w, *next;
	bool lost = false;

	(void)sock;
	(void)what;
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
		timer_set(f, next_ns, now_ns);
	if (lost) {
		mc_pace_lost(&f->pace);
		flush_soon(f);
	}
}

void mc_fetch_wake(struct mc_fetch *fetch)
{
	int error = mc_send(fetch->session, &fetch->from, MC_WAKE, 0);

	if (error)
		log_debug("mcdist: not sent: error %d", -error);
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

void mc_fetch_done(struct mc_fetch *fetch, struct mc_want *want, bool arrived)
{
	if (want->state == MC_QUEUED)
		TAILQ_REMOVE(&fetch->queues[want->urgency], want, link);
	if (want->state == MC_IN_FLIGHT) {
		TAILQ_REMOVE(&fetch->flight, want, link);
		fetch->in_flight--;
		if (arrived)
			mc_pace_arrived(&fetch->pace,
					want->tries ? 0 : io_now_ns() - want->sent_ns);
	}
	want->state = MC_IDLE;
	if (!TAILQ_EMPTY(&fetch->queues[MC_NOW]) || !TAILQ_EMPTY(&fetch->queues[MC_AHEAD]))
		flush_soon(fetch);
}

int mc_fetch_handle(struct mc_session *session, const uint8_t *body, size_t len)
{
	struct mc_pages_reader pages;
	struct mc_fetch *f;
	int error = mc_read_pages(body, len, session->snapshot.pages, &pages);

	if (error)
		return error;
	if (LIST_EMPTY(&session->fetches))
		return -ENOENT;
	LIST_FOREACH(f, &session->fetches, link) {
		struct mc_pages_reader r = pages;
		uint32_t overhead = MC_OVERHEAD_BYTES + sizeof(struct mc_pages);

		for (uint32_t i = 0; i < r.span.pages; i++) {
			struct mc_arrival a = { .gfn = r.span.gfn + i,
						.page = mc_next_page(&r, i) };

			a.wire_bytes = overhead + (a.page ? MC_PAGE_BYTES : 0);
			overhead = 0;	/* the first page bears it */
			f->arrived(f->arg, &a);
		}
	}
	return 0;
}

/* An IPv6 or mapped IPv4 address for the socket's own family. Return: false if it has none. */
static bool address_for(const struct mc_endpoint *ep, const struct sockaddr_in6 *in6,
			struct mc_address *out)
{
	memset(out, 0, sizeof(*out));
	if (in6->sin6_family != AF_INET6 || !in6->sin6_port)
		return false;
	if (ep->family == AF_INET) {
		struct sockaddr_in *in = (struct sockaddr_in *)&out->at;

		if (!IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr))
			return false;
		in->sin_family = AF_INET;
		in->sin_port = in6->sin6_port;
		memcpy(&in->sin_addr, &in6->sin6_addr.s6_addr[12], sizeof(in->sin_addr));
		out->len = sizeof(*in);
		return true;
	}
	memcpy(&out->at, in6, sizeof(*in6));
	out->len = sizeof(*in6);
	return true;
}

struct mc_fetch *mc_fetch_create(struct mc_endpoint *ep, const struct mc_snapshot *snapshot,
				 const struct sockaddr_in6 *from, mc_arrived *arrived, void *arg)
{
	struct mc_address address;
	struct mc_fetch *f;

	if (!address_for(ep, from, &address)) {
		errno = EINVAL;
		return NULL;
	}
	f = calloc(1, sizeof(*f));
	if (!f)
		return NULL;
	f->session = mc_session_get(ep, snapshot);
	if (f->session && f->session->server) {
		/* it would ask itself, and not believe the answer */
		mc_session_put(f->session);
		free(f);
		errno = EINVAL;
		return NULL;
	}
	f->from = address;
	f->arrived = arrived;
	f->arg = arg;
	for (unsigned i = 0; i < 2; i++)
		TAILQ_INIT(&f->queues[i]);
	TAILQ_INIT(&f->flight);
	mc_pace_init(&f->pace, ep->window_pages);
	if (f->session)
		LIST_INSERT_HEAD(&f->session->fetches, f, link);
	f->flush = event_new(ep->base, -1, 0, on_flush, f);
	f->timer = event_new(ep->base, -1, 0, on_timer, f);
	if (!f->session || !f->flush || !f->timer) {
		int error = f->session ? ENOMEM : errno;

		mc_fetch_destroy(f);
		errno = error;
		return NULL;
	}
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
	if (fetch->flush)
		event_free(fetch->flush);
	if (fetch->timer)
		event_free(fetch->timer);
	if (fetch->session) {
		LIST_REMOVE(fetch, link);
		mc_session_put(fetch->session);
	}
	free(fetch);
}
