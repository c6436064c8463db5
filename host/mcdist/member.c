/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A member: whom it asks, its joining and its reports.
 *
 * In MC_TREE it asks its parent. After PARENT_TRIES time-outs in a row and PARENT_SILENT_NS for each
 * node above without a word from it, the source is asked; every ORPHAN_NS the parent is asked as
 * well, and if it answers, it alone again. It is silent too while it asks above itself, again and
 * again where datagrams get lost: to be impatient then is to make the source serve all.
 *
 * In a large group of MC_MULTICAST it does not ask at once. A thousand that ask for one page at one
 * instant would keep the source busy reading; when some have asked, the answer comes to all.
 *
 * Some network may keep what is sent to the group from it. If it has asked in vain and got an answer
 * alone then, DEAF_TIMES in a row and without a word to the group, it wants its answers alone from the
 * first, until it hears something of the group. It may have been the source that was silent; so after
 * DEAF_NS it asks as before once.
 *
 * It joins until pages come; and again when the source has changed, by its sender's number.
 */
#include "host/mcdist/fetch.h"

#include "common/log.h"

#define PARENT_TRIES 3u
#define PARENT_SILENT_NS 100000000ull	/* for each node above */
#define ORPHAN_NS 100000000ull
#define DEAF_TIMES 4u
#define DEAF_NS 1000000000ull
#define JOIN_FIRST_NS 50000000ull
#define JOIN_LAST_NS 1000000000ull
#define REPORT_PER_NODE_NS 1000000ull	/* that many do not drown the source in reports */
#define REPORT_LAST_NS 250000000ull
#define SPREAD_NODES 32u		/* a group is large with more */
#define SPREAD_PER_NODE_NS 10000u
#define SPREAD_MAX_NS 10000000u
#define NS_PER_S 1000000000ull

static struct mc_endpoint *ep_of(const struct mc_fetch *f)
{
	return f->session->ep;
}

static const struct mc_address *parent_of(const struct mc_member *m)
{
	return m->orphan ? &m->source : &m->parent;
}

static void send_join(struct mc_fetch *f)
{
	struct mc_join join = { .node = f->member.node };

	mc_send(f->session, parent_of(&f->member), MC_JOIN,
		mc_write_join(mc_body(ep_of(f)), &join));
}

static void on_join(void *arg)
{
	struct mc_fetch *f = arg;
	struct mc_member *m = &f->member;

	if (m->joined)
		return;
	send_join(f);
	mc_timer_set(ep_of(f), &m->join, mc_now_ns(ep_of(f)) + m->join_ns);
	if (m->join_ns < JOIN_LAST_NS)
		m->join_ns *= 2;
}

static void join_anew(struct mc_fetch *f)
{
	f->member.joined = false;
	f->member.join_ns = JOIN_FIRST_NS;
	mc_timer_set(ep_of(f), &f->member.join, MC_NEXT_TURN);
}

/* What it could take in, with time for other things. Return: 0 if there is no telling. */
static uint32_t takes(const struct mc_tally *t)
{
	uint64_t rate = t->busy_ns ? t->pages * (NS_PER_S / 4 * 3) / t->busy_ns : 0;

	return rate < UINT32_MAX ? (uint32_t)rate : UINT32_MAX;
}

static void on_report(void *arg)
{
	struct mc_fetch *f = arg;
	struct mc_tally *t = &f->member.tally;
	uint64_t sent = t->newest - t->reported;
	struct mc_report report = { .node = f->member.node,
				    .sender = t->sender,
				    .received = t->received,
				    .takes_pages_per_s = takes(t),
				    .lacks = f->calls->lacks ? f->calls->lacks(f->arg) :
							       UINT32_MAX };

	f->member.report_is_due = false;
	/* a sender's counter tells something only if all that it sends comes to us */
	if (mc_is_group_sender(t->sender) && sent > t->received)
		report.missed = sent < UINT32_MAX ? (uint32_t)(sent - t->received) : UINT32_MAX;
	*t = (struct mc_tally){ .sender = t->sender, .reported = t->newest, .newest = t->newest };
	ep_of(f)->counters->reports++;
	mc_send(f->session, parent_of(&f->member), MC_REPORT,
		mc_write_report(mc_body(ep_of(f)), &report));
}

static uint32_t spread_ns(uint32_t nodes)
{
	if (nodes <= SPREAD_NODES)
		return 0;
	nodes -= SPREAD_NODES;
	return nodes < SPREAD_MAX_NS / SPREAD_PER_NODE_NS ? nodes * SPREAD_PER_NODE_NS :
							    SPREAD_MAX_NS;
}

static uint64_t report_every_ns(uint32_t nodes)
{
	uint64_t ns = nodes * REPORT_PER_NODE_NS;

	if (ns < MC_REPORT_NS)
		return MC_REPORT_NS;
	return ns < REPORT_LAST_NS ? ns : REPORT_LAST_NS;
}

/* How many nodes of the tree are above one, with the source. */
static unsigned levels_above(uint32_t node)
{
	unsigned levels = 0;

	for (; node; node /= MC_TREE_CHILDREN)
		levels++;
	return levels;
}

void mc_member_init(struct mc_fetch *f, const struct mc_way *way)
{
	struct mc_member *m = &f->member;
	bool tree = way->mode == MC_TREE && way->node > 0 && way->node < way->nodes;

	*m = (struct mc_member){ .mode = way->mode,
				 .node = way->node,
				 .source = way->places[0],
				 .parent = way->places[0],
				 .join_ns = JOIN_FIRST_NS,
				 .report_every_ns = report_every_ns(way->nodes),
				 .patience_ns = levels_above(way->node) * PARENT_SILENT_NS,
				 .join = { .fire = on_join, .arg = f },
				 .report = { .fire = on_report, .arg = f } };
	if (tree && way->places[way->node / MC_TREE_CHILDREN].len)
		m->parent = way->places[way->node / MC_TREE_CHILDREN];
	if (way->mode == MC_MULTICAST) {
		int error = mc_endpoint_join(ep_of(f), &way->group);

		m->group = way->group;
		m->deaf = error != 0;
		m->in_group = !error;
		m->spread_ns = m->deaf ? 0 : spread_ns(way->nodes);
		if (error)
			log_warn("mcdist: the group cannot be joined, pages come to us alone: "
				 "error %d", -error);
	}
	on_join(f);
}

void mc_member_fini(struct mc_fetch *f)
{
	if (f->member.in_group)
		mc_endpoint_leave(ep_of(f), &f->member.group);
	mc_timer_free(ep_of(f), &f->member.join);
	mc_timer_free(ep_of(f), &f->member.report);
}

unsigned mc_member_asks(struct mc_fetch *f, const struct mc_address *whom[2])
{
	struct mc_member *m = &f->member;
	uint64_t now_ns = mc_now_ns(ep_of(f));

	whom[0] = parent_of(m);
	if (!m->orphan || m->orphan_ns > now_ns)
		return 1;
	m->orphan_ns = now_ns + ORPHAN_NS;
	whom[1] = &m->parent;
	return 2;
}

void mc_member_lost(struct mc_fetch *f)
{
	struct mc_member *m = &f->member;

	m->in_vain = true;
	if (m->silent++ == 0)
		m->silent_ns = mc_now_ns(ep_of(f));
	if (m->orphan || mc_address_is(&m->parent, &m->source) || m->silent < PARENT_TRIES ||
	    m->silent_ns + m->patience_ns > mc_now_ns(ep_of(f)))
		return;
	log_info("mcdist: no word from the parent of node %u: the source is asked", m->node);
	m->orphan = true;
	m->orphan_ns = mc_now_ns(ep_of(f)) + ORPHAN_NS;
	m->silent = 0;
	join_anew(f);
}

static void set_deaf(struct mc_fetch *f, bool deaf)
{
	struct mc_member *m = &f->member;

	if (m->deaf == deaf)
		return;
	log_debug("mcdist: node %u %s", m->node,
		  deaf ? "hears nothing of its group: pages come to it alone" : "asks its group again");
	m->deaf = deaf;
	m->deaf_ns = mc_now_ns(ep_of(f));
}

/* Pages came to the group, or to us alone. */
static void heard_pages(struct mc_fetch *f, bool group)
{
	struct mc_member *m = &f->member;

	if (!m->in_group)
		return;
	if (group) {
		m->unheard = 0;
		set_deaf(f, false);
	} else if (m->in_vain) {
		if (++m->unheard >= DEAF_TIMES)
			set_deaf(f, true);
	} else if (m->deaf && m->deaf_ns + DEAF_NS < mc_now_ns(ep_of(f))) {
		m->unheard = DEAF_TIMES - 1;
		set_deaf(f, false);
	}
	m->in_vain = false;
}

/* A source that begins anew does not know us. */
static void heard_source(struct mc_fetch *f, uint32_t sender)
{
	struct mc_member *m = &f->member;

	if (mc_is_group_sender(sender) || sender == m->source_sender)
		return;
	if (m->source_sender && (!f->calls->lacks || f->calls->lacks(f->arg)))
		send_join(f);
	m->source_sender = sender;
}

static void count(struct mc_member *m, const struct mc_heard *heard, uint32_t pages,
		  uint64_t busy_ns)
{
	struct mc_tally *t = &m->tally;
	bool group = mc_is_group_sender(heard->sender);

	/* answers to us alone do not tell what was lost */
	if (m->mode == MC_MULTICAST && !group)
		return;
	if (t->sender != heard->sender)
		*t = (struct mc_tally){ .sender = heard->sender, .reported = heard->counter - 1,
					.newest = heard->counter - 1 };
	if (heard->counter > t->newest)
		t->newest = heard->counter;
	t->received++;
	t->pages += pages;
	t->busy_ns += busy_ns;
}

void mc_member_heard(struct mc_fetch *f, const struct mc_heard *heard, uint32_t pages,
		     uint64_t since_ns)
{
	struct mc_member *m = &f->member;
	uint64_t now_ns = mc_now_ns(ep_of(f));

	m->joined = true;
	heard_pages(f, mc_is_group_sender(heard->sender));
	if (mc_address_is(heard->from, parent_of(m)))
		m->silent = 0;
	if (m->orphan && mc_address_is(heard->from, &m->parent)) {
		log_info("mcdist: the parent of node %u is back", m->node);
		m->orphan = false;
		m->silent = 0;
		send_join(f);
	}
	if (mc_address_is(heard->from, &m->source))
		heard_source(f, heard->sender);
	count(m, heard, pages, now_ns - since_ns);
	if (m->report_is_due || m->mode == MC_UNICAST)
		return;
	m->report_is_due = true;
	mc_timer_set(ep_of(f), &m->report, now_ns + m->report_every_ns);
}
