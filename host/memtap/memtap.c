/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The whole of a memtap: put together, taken apart, counted. */
#include "host/memtap/memtap.h"

#include <errno.h>
#include <event2/event.h>
#include <limits.h>
#include <sched.h>
#include <stdlib.h>

#include "common/io.h"
#include "common/log.h"

/*
 * What goes on by turns (background.c, pushes, pages ahead) makes its next turn active within the
 * last one, and libevent would do all of them before it looks for faults and datagrams again. It
 * looks after this long. And what was lost is to be asked for again in less than a millisecond,
 * which is the finest it can tell without the flag.
 */
#define LOOK_US 20

static struct event_base *create_base(void)
{
	const struct timeval look = { .tv_usec = LOOK_US };
	struct event_config *config = event_config_new();
	struct event_base *base = NULL;

	if (!config)
		return NULL;
	event_config_set_max_dispatch_interval(config, &look, INT_MAX, 1);
	event_config_set_flag(config, EVENT_BASE_FLAG_PRECISE_TIMER);
	base = event_base_new_with_config(config);
	event_config_free(config);
	return base;
}

struct memtap *memtap_create(void)
{
	struct memtap *m = calloc(1, sizeof(*m));

	if (!m)
		return NULL;
	LIST_INIT(&m->files);
	LIST_INIT(&m->clones);
	m->base = create_base();
	if (!m->base || event_base_priority_init(m->base, MEM_PRIORITIES) < 0) {
		memtap_destroy(m);
		errno = ENOMEM;
		return NULL;
	}
	return m;
}

void memtap_destroy(struct memtap *m)
{
	struct mem_clone *clone;
	struct mem_file *file;

	while ((clone = LIST_FIRST(&m->clones)))
		mem_clone_destroy(clone);
	/* the order of files does not matter any more */
	LIST_FOREACH(file, &m->files, link)
		file->other = NULL;
	while ((file = LIST_FIRST(&m->files)))
		mem_file_destroy(file);
	if (m->parent_readable)
		event_free(m->parent_readable);
	snap_parent_destroy(m->parent);
	mem_background_fini(m);
	mc_endpoint_destroy(m->endpoint);
	mc_udp_destroy(m->transport);
	if (m->base)
		event_base_free(m->base);
	free(m->wake);
	free(m);
}

#define AWAKE_NS 100000ull
#define WANTED_NS 500000ull	/* who yields to who goes on now is back sooner */
#define BUSY_MIN_NS 1000000ull
#define BUSY_MAX_NS 160000000ull

void memtap_expect(struct memtap *m)
{
	uint64_t now_ns = io_now_ns();

	if (now_ns >= m->busy_ns)
		m->awake_ns = now_ns + AWAKE_NS;
}

/*
 * Lets others have the processor, if there are any. Then whoever is awake has to wait for his turn,
 * some milliseconds, where the kernel would run at once who is woken: so it is slept for a while,
 * and longer each time that others are still there.
 */
static void yield(struct memtap *m)
{
	uint64_t before_ns = io_now_ns(), now_ns;

	sched_yield();
	now_ns = io_now_ns();
	if (now_ns - before_ns < WANTED_NS) {
		if (now_ns >= m->busy_ns + m->busy_for_ns)
			m->busy_for_ns = 0;
		return;
	}
	m->awake_ns = 0;
	m->busy_for_ns = m->busy_for_ns ? 2 * m->busy_for_ns : BUSY_MIN_NS;
	if (m->busy_for_ns > BUSY_MAX_NS)
		m->busy_for_ns = BUSY_MAX_NS;
	m->busy_ns = now_ns + m->busy_for_ns;
}

void memtap_run(struct memtap *m)
{
	int flags = EVLOOP_ONCE;

	while (event_base_loop(m->base, flags) == 0 && !event_base_got_break(m->base)) {
		if (m->awake_ns && io_now_ns() >= m->awake_ns)
			m->awake_ns = 0;
		/* the processor does not fall asleep if nobody else wants it */
		if (m->awake_ns)
			yield(m);
		flags = m->awake_ns ? EVLOOP_NONBLOCK : EVLOOP_ONCE;
	}
}

/* Return: 0 or -errno. */
static int open_endpoint(struct memtap *m, const int socks[2])
{
	m->transport = mc_udp_create(m->base, socks[0], socks[1]);
	if (!m->transport)
		return -errno;
	m->endpoint = mc_endpoint_create(m->transport, &m->net);
	return m->endpoint ? 0 : -errno;
}

int memtap_init(struct memtap *m, uint64_t bytes, const int socks[2], uint32_t sweep_pages_per_s,
		bool again)
{
	uint64_t pages = bytes >> SNAP_PAGE_SHIFT;
	struct snap_parent *parent = snap_parent_create(pages, &m->kept);
	int error = parent ? mem_background_init(m, sweep_pages_per_s) : -ENOMEM;

	if (!error)
		error = open_endpoint(m, socks);
	if (error) {
		mem_background_fini(m);
		snap_parent_destroy(parent);
		return error;
	}
	m->parent = parent;
	m->pages = pages;
	m->restating = again;
	if (again)
		snap_parent_hold(parent);
	return 0;
}

void memtap_resume(struct memtap *m)
{
	struct mem_file *file;

	m->restating = false;
	snap_parent_resume(m->parent);
	if (m->parent_readable)
		event_add(m->parent_readable, NULL);
	LIST_FOREACH(file, &m->files, link)
		mem_faults_ask(file);
	mem_background_kick(m);
}

static void on_parent_writes(evutil_socket_t fd, short what, void *arg)
{
	struct memtap *m = arg;
	int error = snap_parent_serve(m->parent);

	(void)fd;
	(void)what;
	/* writers that go on all the same have ended (ESRCH), or wait for memory */
	if (error && error != -ESRCH)
		mem_background_retry(m);
}

int memtap_attach_parent(struct memtap *m, int uffd, int ram_fd, uint64_t base)
{
	struct event *readable;
	int error;

	if (snap_parent_attached(m->parent))
		return -EEXIST;
	readable = event_new(m->base, uffd, EV_READ | EV_PERSIST, on_parent_writes, m);
	if (!readable)
		return -ENOMEM;
	error = snap_parent_attach(m->parent, uffd, ram_fd, base);
	if (error) {
		event_free(readable);
		return error;
	}
	m->parent_readable = readable;
	if (!m->restating)
		event_add(readable, NULL);
	mem_background_kick(m);
	return 0;
}

static void add_counters(struct memtap_stats *s, struct mem_times *times,
			 const struct mem_counters *c)
{
	s->faults += c->faults;
	s->pages_fetched += c->pages_fetched;
	s->bytes_fetched += c->bytes_fetched;
	s->pages_local += c->pages_local;
	s->pages_zero += c->pages_zero;
	s->pages_dead += c->pages_dead;
	s->retries += c->retries;
	mem_times_merge(times, &c->times);
}

static void add_network(const struct memtap *m, struct memtap_stats *s)
{
	const struct mem_file *file;

	s->served = m->net.served;
	s->multicast = m->net.multicast;
	s->pushed = m->net.pushed;
	s->relayed = m->net.relayed;
	s->same = m->net.same;
	s->compressed = m->net.compressed;
	s->lockstep = m->net.lockstep;
	s->reports = m->net.reports;
	LIST_FOREACH(file, &m->files, link) {
		s->files += file->source == MEM_REMOTE;
		s->complete += file->source == MEM_REMOTE && !file->lacking;
	}
}

void memtap_stats(const struct memtap *m, const struct mem_clone *clone, struct memtap_stats *stats)
{
	struct mem_times times = { 0 };
	const struct mem_clone *c;

	if (clone) {
		add_counters(stats, &times, &clone->counters);
	} else {
		add_counters(stats, &times, &m->gone);
		LIST_FOREACH(c, &m->clones, link)
			add_counters(stats, &times, &c->counters);
		stats->retries = m->net.retries;
		stats->dropped = m->net.dropped;
		add_network(m, stats);
		stats->parent_faults = m->kept.faults;
		stats->parent_copied = m->kept.copied;
	}
	stats->fault_ns_median = mem_times_percentile(&times, 50);
	stats->fault_ns_p99 = mem_times_percentile(&times, 99);
}
