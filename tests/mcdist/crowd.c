/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Sources, members and clones. */
#include "tests/mcdist/crowd.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "host/mcdist/endpoint.h"

#define AHEAD_PAGES 7u		/* as memtap */
#define WAKE_NS 10000u		/* until a clone goes on that waited */
#define NONE UINT32_MAX

struct member;

struct clone {
	struct member *member;
	struct sim_event step;
	uint64_t at;			/* pages of its order that it has touched */
	uint64_t factor, offset;	/* its order: page i is (factor · i + offset) mod working */
	uint64_t since_ns;		/* it waits */
	uint32_t next;			/* that waits for the same page */
};

struct member {
	struct crowd *crowd;
	struct mc_transport *transport;
	struct mc_endpoint *ep;
	struct mc_fetch *fetch;
	struct mc_counters counters;
	struct sim_event begin;
	struct mc_want *wants;		/* one for each page */
	bool *here;
	uint32_t *waiting;		/* a clone that waits for the page, or NONE */
	uint64_t has;
	uint32_t node, running;
	uint64_t done_ns;
	bool excused;
	struct clone *clones;
};

struct crowd {
	struct sim *sim;
	struct crowd_config config;
	struct mc_snapshot snapshot;
	struct mc_transport *transport;
	struct mc_endpoint *ep;
	struct mc_server *server;
	struct mc_counters counters;
	struct mc_address *places;
	uint8_t *ram;
	bool *zero;
	struct member *members;
	uint32_t running;		/* members */
	bool done;
	uint64_t begun_ns, done_ns, max_ns, wrong, twice;
	struct mem_times times;
};

static struct mc_way way(const struct crowd *c, uint32_t node)
{
	return (struct mc_way){
		.mode = c->config.mode,
		.node = node,
		.nodes = c->config.members + 1,
		.places = c->places,
		.group = sim_group_address((uint16_t)c->config.number),
		.push_pages_per_s = c->config.push_pages_per_s,
		.compress = c->config.compress,
	};
}

static struct mc_endpoint *endpoint_create(const struct crowd *c, struct mc_transport *t,
					   struct mc_counters *counters)
{
	struct mc_endpoint *ep = mc_endpoint_create(t, counters);

	if (ep && !c->config.sealed)
		mc_endpoint_unseal(ep);
	return ep;
}

/* ── clones ── */

static uint64_t common_divisor(uint64_t a, uint64_t b)
{
	while (b) {
		uint64_t rest = a % b;

		a = b;
		b = rest;
	}
	return a;
}

static void draw_order(struct crowd *c, struct clone *clone)
{
	uint64_t pages = c->config.working;

	do
		clone->factor = 1 + sim_random(c->sim, pages);
	while (common_divisor(clone->factor, pages) != 1);
	clone->offset = sim_random(c->sim, pages);
}

static bool in_a_row(const struct member *m, uint64_t gfn)
{
	return gfn && (m->here[gfn - 1] || m->wants[gfn - 1].state != MC_IDLE);
}

/* As memtap does. */
static void ask(struct member *m, uint64_t gfn)
{
	bool fresh = m->wants[gfn].state == MC_IDLE;
	uint64_t end = gfn + 1 + AHEAD_PAGES;

	mc_fetch_want(m->fetch, &m->wants[gfn], MC_NOW);
	if (!fresh || !in_a_row(m, gfn))
		return;
	for (uint64_t i = gfn + 1; i < end && i < m->crowd->config.pages; i++) {
		if (m->here[i] || m->wants[i].state != MC_IDLE)
			return;
		mc_fetch_want(m->fetch, &m->wants[i], MC_AHEAD);
	}
}

static void clone_done(struct clone *clone)
{
	struct member *m = clone->member;
	struct crowd *c = m->crowd;

	if (--m->running)
		return;
	m->done_ns = sim_now_ns(c->sim) - c->begun_ns;
	if (m->excused || --c->running)
		return;
	c->done = true;
	c->done_ns = m->done_ns;
}

static uint64_t clone_page(const struct clone *clone)
{
	return (clone->factor * clone->at + clone->offset) % clone->member->crowd->config.working;
}

/* Goes on for as long as pages are there; what is lacking is looked at when its time has come. */
static void clone_steps(void *arg)
{
	struct clone *clone = arg;
	struct member *m = clone->member;
	const struct crowd_config *config = &m->crowd->config;
	uint64_t now_ns = sim_now_ns(m->crowd->sim), at_ns = now_ns;

	while (clone->at < config->working && m->here[clone_page(clone)]) {
		clone->at++;
		at_ns += config->think_ns;
	}
	if (at_ns > now_ns) {
		sim_queue_set(sim_events(m->crowd->sim), &clone->step, at_ns);
	} else if (clone->at == config->working) {
		clone_done(clone);
	} else {
		uint64_t gfn = clone_page(clone);

		clone->since_ns = now_ns;
		clone->next = m->waiting[gfn];
		m->waiting[gfn] = (uint32_t)(clone - m->clones);
		ask(m, gfn);
	}
}

static void wake(struct member *m, uint64_t gfn)
{
	struct crowd *c = m->crowd;
	uint64_t now_ns = sim_now_ns(c->sim);
	uint32_t i = m->waiting[gfn];

	for (m->waiting[gfn] = NONE; i != NONE; i = m->clones[i].next) {
		uint64_t took_ns = now_ns - m->clones[i].since_ns;

		mem_times_add(&c->times, took_ns);
		if (took_ns > c->max_ns)
			c->max_ns = took_ns;
		sim_queue_set(sim_events(c->sim), &m->clones[i].step, now_ns + WAKE_NS);
	}
}

/* ── members ── */

static void arrived(void *arg, const struct mc_arrival *a)
{
	struct member *m = arg;
	struct crowd *c = m->crowd;
	const uint8_t *truth = c->ram + a->gfn * MC_PAGE_BYTES;

	if (a->page ? memcmp(a->page, truth, MC_PAGE_BYTES) != 0 : !c->zero[a->gfn])
		c->wrong++;
	mc_fetch_done(m->fetch, &m->wants[a->gfn], true);
	if (m->here[a->gfn]) {
		c->twice++;
		return;
	}
	m->here[a->gfn] = true;
	m->has++;
	wake(m, a->gfn);
}

/* What has arrived was the same as the source's. */
static int read_page(const struct crowd *c, uint64_t gfn, uint8_t *page)
{
	if (c->zero[gfn])
		return 0;
	memcpy(page, c->ram + gfn * MC_PAGE_BYTES, MC_PAGE_BYTES);
	return 1;
}

static int read_of_member(void *arg, uint64_t gfn, uint8_t *page)
{
	const struct member *m = arg;

	return m->here[gfn] ? read_page(m->crowd, gfn, page) : -EAGAIN;
}

static void asked(void *arg, const struct mc_span *span)
{
	struct member *m = arg;

	for (uint64_t gfn = span->gfn; gfn < span->gfn + span->pages; gfn++) {
		if (!m->here[gfn])
			mc_fetch_want(m->fetch, &m->wants[gfn],
				      span->flags & MC_RUN_AHEAD ? MC_AHEAD : MC_NOW);
	}
}

static void pushed(void *arg)
{
	struct member *m = arg;

	for (uint64_t gfn = 0; gfn < m->crowd->config.pages; gfn++) {
		if (!m->here[gfn])
			mc_fetch_want(m->fetch, &m->wants[gfn], MC_AHEAD);
	}
}

static uint32_t lacks(void *arg)
{
	const struct member *m = arg;

	return (uint32_t)(m->crowd->config.pages - m->has);
}

static const struct mc_fetch_calls fetch_calls = {
	.arrived = arrived,
	.read_page = read_of_member,
	.asked = asked,
	.pushed = pushed,
	.lacks = lacks,
};

static void member_begins(void *arg)
{
	struct member *m = arg;
	struct crowd *c = m->crowd;
	struct mc_way w = way(c, m->node);

	m->fetch = mc_fetch_create(m->ep, &c->snapshot, &w, &fetch_calls, m);
	if (!m->fetch)
		abort();
	for (uint32_t i = 0; i < c->config.clones; i++)
		sim_queue_set(sim_events(c->sim), &m->clones[i].step,
			      sim_now_ns(c->sim) + sim_random(c->sim, c->config.skew_ns));
}

static bool member_init(struct crowd *c, struct member *m, uint32_t node)
{
	uint64_t pages = c->config.pages;

	m->crowd = c;
	m->node = node;
	m->running = c->config.clones;
	m->begin.fire = member_begins;
	m->begin.arg = m;
	m->wants = calloc(pages, sizeof(*m->wants));
	m->here = calloc(pages, sizeof(*m->here));
	m->waiting = malloc(pages * sizeof(*m->waiting));
	m->clones = calloc(c->config.clones, sizeof(*m->clones));
	m->transport = sim_endpoint_add(c->sim, c->config.first + node - 1);
	if (!m->wants || !m->here || !m->waiting || !m->clones || !m->transport)
		return false;
	for (uint64_t gfn = 0; gfn < pages; gfn++) {
		m->wants[gfn].gfn = gfn;
		m->waiting[gfn] = NONE;
	}
	for (uint32_t i = 0; i < c->config.clones; i++) {
		struct clone *clone = &m->clones[i];

		clone->member = m;
		clone->step.fire = clone_steps;
		clone->step.arg = clone;
		clone->factor = c->members[0].clones[0].factor;
		clone->offset = c->members[0].clones[0].offset;
		if (c->config.order == CROWD_ROW)
			clone->factor = 1;
		else if (c->config.order == CROWD_RANDOM || !clone->factor)
			draw_order(c, clone);
	}
	c->places[node] = sim_endpoint_address(m->transport);
	m->ep = endpoint_create(c, m->transport, &m->counters);
	return m->ep;
}

static void member_fini(struct crowd *c, struct member *m)
{
	sim_queue_unset(sim_events(c->sim), &m->begin);
	for (uint32_t i = 0; m->clones && i < c->config.clones; i++)
		sim_queue_unset(sim_events(c->sim), &m->clones[i].step);
	mc_fetch_destroy(m->fetch);
	mc_endpoint_destroy(m->ep);
	if (m->transport)
		sim_endpoint_forget(m->transport);
	free(m->wants);
	free(m->here);
	free(m->waiting);
	free(m->clones);
}

void crowd_excuse(struct crowd *c, uint32_t member)
{
	struct member *m = &c->members[member];

	if (m->excused)
		return;
	m->excused = true;
	if (m->running && --c->running == 0) {
		c->done = true;
		c->done_ns = sim_now_ns(c->sim) - c->begun_ns;
	}
}

/* ── the source ── */

static int read_of_source(void *arg, uint64_t gfn, uint8_t *page)
{
	return read_page(arg, gfn, page);
}

static const struct mc_server_calls server_calls = { .read_page = read_of_source };

int crowd_source_begin(struct crowd *c)
{
	struct mc_way w = way(c, 0);

	c->ep = endpoint_create(c, c->transport, &c->counters);
	if (!c->ep)
		return -errno;
	c->server = mc_server_create(c->ep, &c->snapshot, &w, &server_calls, c);
	return c->server ? 0 : -errno;
}

void crowd_source_end(struct crowd *c)
{
	mc_server_destroy(c->server);
	mc_endpoint_destroy(c->ep);
	if (c->transport)
		sim_endpoint_forget(c->transport);
	c->server = NULL;
	c->ep = NULL;
}

static void draw_page(struct crowd *c, uint64_t gfn)
{
	uint8_t *page = c->ram + gfn * MC_PAGE_BYTES;
	uint64_t what = sim_random(c->sim, 100), word;

	if (what < c->config.zero_percent) {
		c->zero[gfn] = true;
	} else if (gfn > 1 && what < c->config.zero_percent + c->config.same_percent) {
		memcpy(page, page - 2 * MC_PAGE_BYTES, MC_PAGE_BYTES);
		c->zero[gfn] = c->zero[gfn - 2];
	} else {
		for (size_t i = 0; i < MC_PAGE_BYTES; i += sizeof(word)) {
			word = sim_random(c->sim, UINT64_MAX);
			memcpy(page + i, &word, sizeof(word));
		}
	}
}

static bool source_init(struct crowd *c)
{
	c->snapshot.number = 1000 + c->config.number;
	c->snapshot.pages = c->config.pages;
	memset(c->snapshot.key, (int)c->config.number, sizeof(c->snapshot.key));
	c->ram = calloc(c->config.pages, MC_PAGE_BYTES);
	c->zero = calloc(c->config.pages, sizeof(*c->zero));
	c->places = calloc(c->config.members + 1, sizeof(*c->places));
	c->members = calloc(c->config.members, sizeof(*c->members));
	c->transport = sim_endpoint_add(c->sim, c->config.source);
	if (!c->ram || !c->zero || !c->places || !c->members || !c->transport)
		return false;
	for (uint64_t gfn = 0; gfn < c->config.pages; gfn++)
		draw_page(c, gfn);
	c->places[0] = sim_endpoint_address(c->transport);
	return crowd_source_begin(c) == 0;
}

struct crowd *crowd_create(struct sim *sim, const struct crowd_config *config)
{
	struct crowd *c = calloc(1, sizeof(*c));
	bool fine;

	if (!c)
		return NULL;
	c->sim = sim;
	c->config = *config;
	c->running = config->members;
	c->begun_ns = sim_now_ns(sim);
	fine = source_init(c);
	for (uint32_t i = 0; fine && i < config->members; i++)
		fine = member_init(c, &c->members[i], i + 1);
	for (uint32_t i = 0; fine && i < config->members; i++)
		fine = sim_queue_set(sim_events(sim), &c->members[i].begin,
				     c->begun_ns + sim_random(sim, config->skew_ns)) == 0;
	if (fine)
		return c;
	crowd_destroy(c);
	return NULL;
}

void crowd_destroy(struct crowd *c)
{
	if (!c)
		return;
	for (uint32_t i = 0; c->members && i < c->config.members; i++)
		member_fini(c, &c->members[i]);
	crowd_source_end(c);
	free(c->members);
	free(c->places);
	free(c->zero);
	free(c->ram);
	free(c);
}

/* ── what came of it ── */

const bool *crowd_is_done(const struct crowd *c)
{
	return &c->done;
}

uint64_t crowd_has(const struct crowd *c, uint32_t member)
{
	return c->members[member].has;
}

uint64_t crowd_done_ns(const struct crowd *c, uint32_t member)
{
	return c->members[member].done_ns;
}

static void add_counters(struct mc_counters *sum, const struct mc_counters *more)
{
	sum->retries += more->retries;
	sum->dropped += more->dropped;
	sum->served += more->served;
	sum->multicast += more->multicast;
	sum->pushed += more->pushed;
	sum->relayed += more->relayed;
	sum->same += more->same;
	sum->compressed += more->compressed;
	sum->lockstep += more->lockstep;
	sum->reports += more->reports;
}

struct crowd_result crowd_result(const struct crowd *c)
{
	struct crowd_result r = {
		.done_ns = c->done_ns,
		.faults = c->times.count,
		.median_ns = mem_times_percentile(&c->times, 50),
		.p99_ns = mem_times_percentile(&c->times, 99),
		.max_ns = c->max_ns,
		.wrong = c->wrong,
		.twice = c->twice,
		.source = c->counters,
	};

	for (uint32_t i = 0; i < c->config.members; i++) {
		const struct member *m = &c->members[i];

		add_counters(&r.members, &m->counters);
		for (uint64_t gfn = 0; !m->excused && gfn < c->config.working; gfn++)
			r.lacking += !m->here[gfn];
	}
	return r;
}
