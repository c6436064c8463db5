/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What is queued becomes requests.
 *
 * Wants that come in one turn of the world's loop leave in one request: the first sets a timer,
 * which fires after what is to be done already. What somebody waits for goes first, each page as a
 * run of its own so that its answer is not held up by others; pages ahead follow in runs. What a
 * neighbour is asked for has a queue of its own (repair.c).
 */
#include "host/mcdist/fetch.h"

#include <sodium.h>

#include "common/log.h"

#define ALONE_TRIES 3u	/* then what is sent to all seems not to come */
#define EVEN_TRIES 3u	/* datagrams do get lost: time-outs become longer after that many */

static void depart(struct mc_fetch *f, struct mc_want *w, uint64_t now_ns)
{
	uint32_t longer = w->tries > EVEN_TRIES ? w->tries - EVEN_TRIES : 0;

	TAILQ_REMOVE(mc_ask_queue(f, w), w, link);
	TAILQ_INSERT_TAIL(&f->flight, w, link);
	w->state = MC_IN_FLIGHT;
	w->sent_ns = now_ns;
	w->passed = 0;
	w->repairs += w->of_neighbour;
	w->due_ns = now_ns + mc_pace_timeout_ns(&f->pace, longer);
	f->in_flight++;
	mc_fetch_wait(f, w->due_ns);
}

static uint32_t flags_of(const struct mc_fetch *f, const struct mc_want *w)
{
	/* a neighbour answers to one anyway; node 1's is the source */
	bool alone = f->member.deaf || w->of_neighbour || w->tries >= ALONE_TRIES + w->repairs;

	return (w->tries || w->repairs || alone ? MC_RUN_AGAIN : 0) | (alone ? MC_RUN_ALONE : 0) |
	       (w->urgency == MC_AHEAD ? MC_RUN_AHEAD : 0);
}

/*
 * Takes queued wants into `spans` as far as there is room: of `first`, and of `second` if there are
 * none. Return: how many spans there are.
 */
static unsigned gather(struct mc_fetch *f, const struct mc_wants *first,
		       const struct mc_wants *second, struct mc_span spans[MC_MAX_RUNS])
{
	uint64_t now_ns = mc_now_ns(f->session->ep);
	struct mc_span *run = NULL;	/* of pages ahead, that may grow */
	unsigned count = 0;

	while (f->in_flight < f->pace.window_pages) {
		struct mc_want *w = TAILQ_FIRST(first);
		uint32_t flags;

		if (!w && second)
			w = TAILQ_FIRST(second);
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

static void send_request(struct mc_fetch *f, const struct mc_address *whom,
			 const struct mc_span *spans, unsigned count)
{
	size_t len = mc_write_request(mc_body(f->session->ep), spans, count);
	int error = mc_send(f->session, whom, MC_REQUEST, len);

	/* as good as lost under way */
	if (error)
		log_debug("mcdist: request not sent: error %d", -error);
}

static void on_ask(void *arg)
{
	struct mc_fetch *f = arg;
	struct mc_span spans[MC_MAX_RUNS];
	unsigned count;

	f->ask_is_set = false;
	while ((count = gather(f, &f->queues[MC_NOW], &f->queues[MC_AHEAD], spans))) {
		const struct mc_address *whom[2];
		unsigned asked = mc_member_asks(f, whom);

		for (unsigned i = 0; i < asked; i++)
			send_request(f, whom[i], spans, count);
	}
}

static void on_ask_neighbour(void *arg)
{
	struct mc_fetch *f = arg;
	struct mc_span spans[MC_MAX_RUNS];
	unsigned count;

	while ((count = gather(f, &f->repairs, NULL, spans)))
		send_request(f, mc_repair_neighbour(f), spans, count);
}

void mc_ask_init(struct mc_fetch *f)
{
	for (unsigned i = 0; i < 2; i++)
		TAILQ_INIT(&f->queues[i]);
	TAILQ_INIT(&f->repairs);
	f->ask = (struct mc_timer){ .fire = on_ask, .arg = f };
	f->ask_neighbour = (struct mc_timer){ .fire = on_ask_neighbour, .arg = f };
}

void mc_ask_fini(struct mc_fetch *f)
{
	mc_timer_free(f->session->ep, &f->ask);
	mc_timer_free(f->session->ep, &f->ask_neighbour);
}

struct mc_wants *mc_ask_queue(struct mc_fetch *f, const struct mc_want *w)
{
	return w->of_neighbour ? &f->repairs : &f->queues[w->urgency];
}

void mc_ask_enqueue(struct mc_fetch *f, struct mc_want *w)
{
	w->state = MC_QUEUED;
	w->of_neighbour = mc_repair_takes(f, w);
	TAILQ_INSERT_TAIL(mc_ask_queue(f, w), w, link);
}

void mc_ask_soon(struct mc_fetch *f)
{
	uint64_t at_ns = MC_NEXT_TURN;

	if (f->in_flight >= f->pace.window_pages)
		return;
	if (!TAILQ_EMPTY(&f->repairs))
		mc_timer_set(f->session->ep, &f->ask_neighbour, MC_NEXT_TURN);
	if (TAILQ_EMPTY(&f->queues[MC_NOW]) && TAILQ_EMPTY(&f->queues[MC_AHEAD]))
		return;
	if (f->member.spread_ns) {
		if (f->ask_is_set)
			return;
		f->ask_is_set = true;
		at_ns = mc_now_ns(f->session->ep) + randombytes_uniform(f->member.spread_ns);
	}
	mc_timer_set(f->session->ep, &f->ask, at_ns);
}
