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
#include <endian.h>
#include <errno.h>
#include <lz4.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "host/mcdist/endpoint.h"
#include "host/mcdist/pace.h"

#define JOIN_AGAIN_NS 50000000ull

TAILQ_HEAD(mc_wants, mc_want);

struct mc_fetch {
	LIST_ENTRY(mc_fetch) link;	/* of the session */
	struct mc_session *session;
	struct mc_address from;
	uint32_t node;
	const struct mc_fetch_calls *calls;
	void *arg;
	struct mc_pace pace;
	struct mc_wants queues[2];	/* MC_QUEUED, by enum mc_urgency */
	struct mc_wants flight;		/* MC_IN_FLIGHT */
	uint32_t in_flight;
	struct mc_timer flush, timer, join;
	uint64_t timer_ns;		/* when the timer rings; 0: it is off */
	bool joined;			/* pages have come */
};

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
	w->due_ns = now_ns + mc_pace_timeout_ns(&f->pace, w->tries);
	f->in_flight++;
	timer_set(f, w->due_ns);
}

static uint32_t flags_of(const struct mc_want *w)
{
	return (w->tries ? MC_RUN_AGAIN : 0) | (w->urgency == MC_AHEAD ? MC_RUN_AHEAD : 0);
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
		flags = flags_of(w);
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

static void on_flush(void *arg)
{
	struct mc_fetch *f = arg;
	struct mc_span spans[MC_MAX_RUNS];
	unsigned count;

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
	mc_timer_set(f->session->ep, &f->flush, MC_NEXT_TURN);
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
		flush_soon(f);
	}
}

static void on_join(void *arg)
{
	struct mc_join join = { 0 };
	struct mc_fetch *f = arg;
	struct mc_endpoint *ep = f->session->ep;

	join.node = f->node;
	if (f->joined)
		return;
	mc_send(f->session, &f->from, MC_JOIN, mc_write_join(mc_body(ep), &join));
	mc_timer_set(ep, &f->join, mc_now_ns(ep) + JOIN_AGAIN_NS);
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
					want->tries ? 0 : mc_now_ns(fetch->session->ep) - want->sent_ns);
	}
	want->state = MC_IDLE;
	if (!TAILQ_EMPTY(&fetch->queues[MC_NOW]) || !TAILQ_EMPTY(&fetch->queues[MC_AHEAD]))
		flush_soon(fetch);
}

/* Return: false if it is not to be had: corrupt, or equal to one that is not here. */
static bool decode(struct mc_fetch *f, const struct mc_coded *coded, uint8_t *page)
{
	uint64_t gfn;
	int got;

	if (coded->coding == MC_LZ4)
		return LZ4_decompress_safe((const char *)coded->data, (char *)page, coded->bytes,
					   MC_PAGE_BYTES) == MC_PAGE_BYTES;
	memcpy(&gfn, coded->data, sizeof(gfn));
	gfn = le64toh(gfn);
	if (gfn >= f->session->snapshot.pages || !f->calls->read_page)
		return false;
	got = f->calls->read_page(f->arg, gfn, page);
	if (!got)
		memset(page, 0, MC_PAGE_BYTES);
	return got >= 0;
}

static void take_pages(struct mc_fetch *f, struct mc_pages_reader r)
{
	uint32_t overhead = MC_OVERHEAD_BYTES + sizeof(struct mc_pages);

	for (uint32_t i = 0; i < r.span.pages; i++) {
		struct mc_coded coded = mc_next_page(&r, i);
		struct mc_arrival a = { .gfn = r.span.gfn + i, .page = coded.data };
		uint8_t page[MC_PAGE_BYTES];

		a.wire_bytes = overhead + coded.bytes +
			       (coded.data ? (uint32_t)sizeof(struct mc_page) : 0);
		overhead = 0;	/* the first page bears it */
		if (coded.data && coded.coding != MC_PLAIN) {
			if (!decode(f, &coded, page))
				continue;
			a.page = page;
		}
		f->calls->arrived(f->arg, &a);
	}
	f->joined = true;
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
	LIST_FOREACH(f, &session->fetches, link)
		take_pages(f, pages);
	return 0;
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

	if (way->mode >= MC_MODES || !way->nodes || !way->places[0].len) {
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
	f->from = way->places[0];
	f->node = way->node;
	f->calls = calls;
	f->arg = arg;
	for (unsigned i = 0; i < 2; i++)
		TAILQ_INIT(&f->queues[i]);
	TAILQ_INIT(&f->flight);
	mc_pace_init(&f->pace, ep->transport->calls->window_pages(ep->transport));
	f->flush = (struct mc_timer){ .fire = on_flush, .arg = f };
	f->timer = (struct mc_timer){ .fire = on_timer, .arg = f };
	f->join = (struct mc_timer){ .fire = on_join, .arg = f };
	LIST_INSERT_HEAD(&f->session->fetches, f, link);
	on_join(f);
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
	mc_timer_free(fetch->session->ep, &fetch->join);
	LIST_REMOVE(fetch, link);
	mc_session_put(fetch->session);
	free(fetch);
}
