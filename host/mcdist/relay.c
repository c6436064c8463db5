/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A member that others ask: its children in MC_TREE, neighbours in MC_MULTICAST.
 *
 * What is here is answered. For what is not, an interest is kept, and the caller wants the page as
 * if it were its own; when it arrives, who is interested gets it. In MC_MULTICAST only what was
 * missed here too is wanted so: else it is on its way, or nobody has it. An interest that is old is
 * dropped: who still lacks the page asks again. In MC_TREE what arrives without having been asked
 * for was pushed, and is passed on to the children, which are those who joined here.
 */
#include <errno.h>
#include <stdlib.h>

#include "host/mcdist/fetch.h"
#include "host/mcdist/push.h"

#define BUCKETS 1024u
#define INTERESTS_MAX 16384u
#define INTEREST_NS 2000000000ull
#define CHILDREN_MAX 16u

struct interest {
	LIST_ENTRY(interest) link;	/* of its bucket */
	TAILQ_ENTRY(interest) by_age;
	uint64_t gfn;
	uint64_t since_ns;
	struct mc_address who;
	uint32_t flags;		/* MC_RUN_… */
};

struct child {
	struct mc_address at;
	uint64_t heard_ns;	/* 0: none */
	unsigned dones;		/* said to it */
};

struct mc_relay {
	struct mc_fetch *fetch;
	struct mc_giver giver;
	LIST_HEAD(, interest) buckets[BUCKETS];
	TAILQ_HEAD(, interest) interests;	/* the oldest first */
	unsigned count;
	struct child children[CHILDREN_MAX];
	bool done;		/* all was pushed */
	struct mc_timer say_done;
};

/* To each child as often as the source says it, to those who come later as well. */
static void on_done(void *arg)
{
	struct mc_relay *r = arg;
	struct mc_session *s = r->fetch->session;
	bool again = false;

	for (unsigned i = 0; i < CHILDREN_MAX; i++) {
		struct child *c = &r->children[i];

		if (!c->heard_ns || c->dones == MC_DONES)
			continue;
		mc_send(s, &c->at, MC_DONE, 0);
		again |= ++c->dones < MC_DONES;
	}
	if (again)
		mc_timer_set(s->ep, &r->say_done, mc_now_ns(s->ep) + MC_DONE_NS);
}

struct mc_relay *mc_relay_create(struct mc_fetch *fetch)
{
	struct mc_relay *r = calloc(1, sizeof(*r));

	if (!r)
		return NULL;
	r->fetch = fetch;
	r->giver = (struct mc_giver){
		.session = fetch->session,
		.read_page = fetch->calls->read_page,
		.arg = fetch->arg,
		.also_counted = &fetch->session->ep->counters->relayed,
	};
	r->say_done = (struct mc_timer){ .fire = on_done, .arg = r };
	TAILQ_INIT(&r->interests);
	return r;
}

static void interest_free(struct mc_relay *r, struct interest *i)
{
	LIST_REMOVE(i, link);
	TAILQ_REMOVE(&r->interests, i, by_age);
	r->count--;
	free(i);
}

void mc_relay_destroy(struct mc_relay *relay)
{
	struct interest *i;

	if (!relay)
		return;
	while ((i = TAILQ_FIRST(&relay->interests)))
		interest_free(relay, i);
	mc_timer_free(relay->fetch->session->ep, &relay->say_done);
	mc_debts_drop(&relay->giver);
	free(relay);
}

static void forget_old(struct mc_relay *r, uint64_t now_ns)
{
	struct interest *i;

	while ((i = TAILQ_FIRST(&r->interests)) &&
	       (i->since_ns + INTEREST_NS < now_ns || r->count >= INTERESTS_MAX))
		interest_free(r, i);
}

static void remember(struct mc_relay *r, const struct mc_address *who, uint64_t gfn, uint32_t flags)
{
	uint64_t now_ns = mc_now_ns(r->fetch->session->ep);
	struct interest *i;

	LIST_FOREACH(i, &r->buckets[gfn % BUCKETS], link) {
		if (i->gfn == gfn && mc_address_is(&i->who, who))
			break;
	}
	if (i) {
		flags &= i->flags | ~MC_RUN_AHEAD;
		interest_free(r, i);
	}
	forget_old(r, now_ns);
	i = malloc(sizeof(*i));
	if (!i)
		return;
	*i = (struct interest){ .gfn = gfn, .since_ns = now_ns, .who = *who, .flags = flags };
	LIST_INSERT_HEAD(&r->buckets[gfn % BUCKETS], i, link);
	TAILQ_INSERT_TAIL(&r->interests, i, by_age);
	r->count++;
}

/* Would our asking for it bring it? */
static bool is_to_be_had(const struct mc_fetch *f, const struct mc_span *run)
{
	return f->member.mode == MC_TREE || mc_repair_missed(f, run->gfn);
}

/* A run of a request of which the first page is here, or not, and so are the others. */
static void handle_run(struct mc_relay *r, const struct mc_address *from,
		       const struct mc_span *run, bool here)
{
	struct mc_fetch *f = r->fetch;

	if (here) {
		mc_owe(&r->giver, from, run);
		return;
	}
	for (uint32_t i = 0; i < run->pages; i++)
		remember(r, from, run->gfn + i, run->flags);
	if (f->calls->asked && is_to_be_had(f, run))
		f->calls->asked(f->arg, run);
}

static void handle_span(struct mc_relay *r, const struct mc_address *from,
			const struct mc_span *span)
{
	struct mc_span run = { .gfn = span->gfn, .flags = span->flags };
	uint8_t page[MC_PAGE_BYTES];
	bool here = false;

	for (uint32_t i = 0; i < span->pages; i++) {
		bool this = r->giver.read_page(r->giver.arg, span->gfn + i, page) >= 0;

		if (run.pages && this != here) {
			handle_run(r, from, &run, here);
			run.gfn = span->gfn + i;
			run.pages = 0;
		}
		here = this;
		run.pages++;
	}
	handle_run(r, from, &run, here);
}

int mc_relay_handle_request(struct mc_relay *relay, const struct mc_address *from,
			    const uint8_t *body, size_t len)
{
	struct mc_session *s = relay->fetch->session;
	struct mc_span spans[MC_MAX_RUNS];
	int count = mc_read_request(body, len, s->snapshot.pages, spans);

	if (count < 0)
		return count;
	for (int i = 0; i < count; i++)
		handle_span(relay, from, &spans[i]);
	mc_pay_debts(s->ep);
	return 0;
}

/* Notes that a child is there; `joins`: a new one as well. */
static void hear_child(struct mc_relay *r, const struct mc_address *from, bool joins)
{
	struct child *oldest = &r->children[0];

	for (unsigned i = 0; i < CHILDREN_MAX; i++) {
		struct child *c = &r->children[i];

		if (c->heard_ns && mc_address_is(&c->at, from)) {
			c->heard_ns = mc_now_ns(r->fetch->session->ep);
			return;
		}
		if (c->heard_ns < oldest->heard_ns)
			oldest = c;
	}
	if (!joins)
		return;
	*oldest = (struct child){ *from, mc_now_ns(r->fetch->session->ep), 0 };
	if (r->done)
		mc_timer_set(r->fetch->session->ep, &r->say_done, MC_NEXT_TURN);
}

int mc_relay_handle_join(struct mc_relay *relay, const struct mc_address *from,
			 const uint8_t *body, size_t len)
{
	struct mc_join join;

	if (mc_read_join(body, len, &join))
		return -EBADMSG;
	if (relay->fetch->member.mode != MC_TREE)
		return -EBADMSG;
	/* who comes later in the order; else two could feed each other for ever */
	if (join.node <= relay->fetch->member.node)
		return -EBADMSG;
	hear_child(relay, from, true);
	return 0;
}

int mc_relay_handle_report(struct mc_relay *relay, const struct mc_address *from,
			   const uint8_t *body, size_t len)
{
	struct mc_report report;

	if (mc_read_report(body, len, &report))
		return -EBADMSG;
	if (relay->fetch->member.mode != MC_TREE)
		return -EBADMSG;
	relay->fetch->session->ep->counters->reports++;
	/* it may have joined before we were there to hear it */
	hear_child(relay, from, report.node > relay->fetch->member.node);
	return 0;
}

void mc_relay_arrived(struct mc_relay *relay, uint64_t gfn)
{
	uint64_t now_ns = mc_now_ns(relay->fetch->session->ep);
	struct interest *i, *next;

	for (i = LIST_FIRST(&relay->buckets[gfn % BUCKETS]); i; i = next) {
		struct mc_span span = { .gfn = gfn, .pages = 1, .flags = i->flags };

		next = LIST_NEXT(i, link);
		if (i->gfn != gfn)
			continue;
		span.flags |= mc_waited_flags(now_ns - i->since_ns);
		mc_owe_more(&relay->giver, &i->who, &span);
		interest_free(relay, i);
	}
}

void mc_relay_taken(struct mc_relay *relay, const struct mc_span *span, bool fresh)
{
	for (unsigned i = 0; fresh && i < CHILDREN_MAX; i++) {
		struct mc_span pushed = *span;

		if (!relay->children[i].heard_ns)
			continue;
		pushed.flags = MC_RUN_AHEAD;
		mc_owe(&relay->giver, &relay->children[i].at, &pushed);
	}
	mc_pay_debts(relay->fetch->session->ep);
}

void mc_relay_done(struct mc_relay *relay)
{
	if (relay->done)
		return;
	relay->done = true;
	on_done(relay);
}
