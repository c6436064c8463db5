/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * mcdist among simulated hosts that lose, mix up, repeat, are slow, stop and begin again.
 *
 * Each test asserts that every wanted page arrives on every host that counts, that it is the
 * source's byte by byte, and what the source may send for it: in working sets, counted at its host's
 * interface with the headers of all frames. A working set of plain pages costs 1.04 of them.
 */
#include <CUnit/CUnit.h>
#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

#include "common/cleanup.h"
#include "tests/mcdist/crowd.h"
#include "tests/mcdist/suite.h"

#define GBIT 1000000000ull
#define SECOND_NS 1000000000ull
#define PATIENCE_NS (600 * SECOND_NS)
#define HOSTS 16u
#define WORKING 1024u
#define MOST_CROWDS 4u

struct scene {
	struct sim *sim;
	struct sim_host_config host;
	struct crowd_config config;
	struct crowd *crowd;
};

static const char *mode_name(enum mc_mode mode)
{
	static const char *const names[] = { "unicast", "multicast", "tree" };

	return names[mode];
}

static struct scene scene(enum mc_mode mode)
{
	return (struct scene){
		.host = sim_host_of_today(GBIT),
		.config = { .first = 1, .members = HOSTS, .clones = 4, .pages = WORKING,
			    .working = WORKING, .order = CROWD_SAME, .think_ns = 20000,
			    .skew_ns = 2000000, .mode = mode },
	};
}

static void begin(struct scene *s)
{
	s->sim = sim_create(11);
	CU_ASSERT_PTR_NOT_NULL_FATAL(s->sim);
	for (uint32_t i = 0; i <= s->config.members; i++)
		CU_ASSERT_EQUAL_FATAL(sim_host_add(s->sim, &s->host), i);
	s->crowd = crowd_create(s->sim, &s->config);
	CU_ASSERT_PTR_NOT_NULL_FATAL(s->crowd);
}

static void end(struct scene *s)
{
	crowd_destroy(s->crowd);
	sim_destroy(s->sim);
}

static void on_alarm(void *arg)
{
	*(bool *)arg = true;
}

/* Lets time pass, in which it is not done. */
static void pass(struct scene *s, uint64_t ns)
{
	bool over = false;
	struct sim_event alarm = { .fire = on_alarm, .arg = &over };

	CU_ASSERT_EQUAL(sim_queue_set(sim_events(s->sim), &alarm, sim_now_ns(s->sim) + ns), 0);
	CU_ASSERT_EQUAL(sim_run(s->sim, &over, UINT64_MAX), 0);
	CU_ASSERT_FALSE(*crowd_is_done(s->crowd));
}

/* What the source has sent, in hundredths of working sets. */
static uint64_t sent_percent(const struct scene *s)
{
	return sim_host_counters(s->sim, 0)->sent_bytes * 100 /
	       (s->config.working * MC_PAGE_BYTES);
}

/* All of it comes, and the source sends at most so many hundredths of working sets. */
static struct crowd_result finish(struct scene *s, uint64_t most_percent)
{
	struct crowd_result r;

	CU_ASSERT_EQUAL(sim_run(s->sim, crowd_is_done(s->crowd), PATIENCE_NS), 0);
	r = crowd_result(s->crowd);
	printf("\n    %-9s %8.1f ms, %6.2f working sets, median %.0f us, p99 %.0f us ",
	       mode_name(s->config.mode), (double)r.done_ns / 1e6, (double)sent_percent(s) / 100,
	       (double)r.median_ns / 1e3, (double)r.p99_ns / 1e3);
	CU_ASSERT_EQUAL(r.wrong, 0);
	CU_ASSERT_EQUAL(r.lacking, 0);
	CU_ASSERT(sent_percent(s) <= most_percent);
	return r;
}

/* What the source may send in each mode when nothing goes wrong. */
static const uint64_t most_percent[MC_MODES] = {
	[MC_UNICAST] = HOSTS * 115,
	[MC_MULTICAST] = 115,
	[MC_TREE] = 115,
};

#define FOR_EACH_MODE(mode) for (enum mc_mode mode = MC_UNICAST; mode < MC_MODES; mode++)

static void test_nothing_goes_wrong(void)
{
	for (unsigned order = 0; order < CROWD_ORDERS; order++) {
		FOR_EACH_MODE(mode)
		{
			struct scene s = scene(mode);

			s.config.order = (enum crowd_order)order;
			begin(&s);
			finish(&s, most_percent[mode]);
			end(&s);
		}
	}
}

/* As it is: the cipher, pages of zeros, pages that are equal, LZ4. */
static void test_all_of_it(void)
{
	FOR_EACH_MODE(mode)
	{
		struct scene s = scene(mode);

		s.config.sealed = true;
		s.config.compress = true;
		s.config.zero_percent = 30;
		s.config.same_percent = 30;
		s.host.loss_ppm = 20000;
		begin(&s);
		finish(&s, most_percent[mode] * 3 / 4);
		end(&s);
	}
}

static void test_two_runs_are_the_same(void)
{
	FOR_EACH_MODE(mode)
	{
		struct crowd_result results[2];

		for (unsigned i = 0; i < 2; i++) {
			struct scene s = scene(mode);

			s.host.loss_ppm = 30000;
			begin(&s);
			results[i] = finish(&s, 3 * most_percent[mode]);
			end(&s);
		}
		CU_ASSERT_EQUAL(memcmp(&results[0], &results[1], sizeof(results[0])), 0);
	}
}

static void test_loss(void)
{
	FOR_EACH_MODE(mode)
	{
		struct scene s = scene(mode);
		uint64_t done_ns;

		begin(&s);
		done_ns = finish(&s, most_percent[mode]).done_ns;
		end(&s);
		s = scene(mode);
		s.host.loss_ppm = 50000;
		begin(&s);
		CU_ASSERT(finish(&s, most_percent[mode] * 5 / 4).done_ns < done_ns * 3 / 2);
		end(&s);
	}
}

static void test_order(void)
{
	FOR_EACH_MODE(mode)
	{
		struct scene s = scene(mode);

		s.host.late_ppm = 200000;
		s.host.jitter_ns = 200000;
		begin(&s);
		finish(&s, most_percent[mode] * 5 / 4);
		end(&s);
	}
}

static void test_duplicates(void)
{
	FOR_EACH_MODE(mode)
	{
		struct scene s = scene(mode);
		struct crowd_result r;

		s.host.duplicate_ppm = 300000;
		begin(&s);
		r = finish(&s, most_percent[mode]);
		CU_ASSERT(r.members.dropped > 0);
		end(&s);
	}
}

/* Answers take longer than the first time-out: it is not too short for ever. */
static void test_a_long_way(void)
{
	FOR_EACH_MODE(mode)
	{
		struct scene s = scene(mode);

		s.host.delay_ns = 50000000;
		begin(&s);
		finish(&s, most_percent[mode] * 5 / 4);
		end(&s);
	}
}

/* One that takes 20 times as long for a page: the others do not get it all anew because of it. */
static void test_a_slow_host(void)
{
	FOR_EACH_MODE(mode)
	{
		struct scene s = scene(mode);

		begin(&s);
		sim_host_config(s.sim, HOSTS)->receive_kib_ns *= 20;
		finish(&s, most_percent[mode] * 5 / 4);
		end(&s);
	}
}

static void test_a_host_that_stops(void)
{
	FOR_EACH_MODE(mode)
	{
		struct scene s = scene(mode);
		struct crowd_result r;

		begin(&s);
		pass(&s, 15000000);
		sim_host_power(s.sim, HOSTS, false);
		crowd_excuse(s.crowd, HOSTS - 1);
		r = finish(&s, most_percent[mode] * 5 / 4);
		CU_ASSERT(r.done_ns < 5 * SECOND_NS);
		end(&s);
	}
}

/* It stopped for two seconds, and then has what it needs. */
static void test_a_host_that_comes_back(void)
{
	FOR_EACH_MODE(mode)
	{
		struct scene s = scene(mode);
		uint64_t others_ns = 0;

		begin(&s);
		pass(&s, 15000000);
		sim_host_power(s.sim, HOSTS, false);
		pass(&s, 2 * SECOND_NS);
		sim_host_power(s.sim, HOSTS, true);
		finish(&s, mode == MC_UNICAST ? most_percent[mode] : most_percent[mode] + 115);
		for (uint32_t i = 0; i < HOSTS - 1; i++) {
			if (crowd_done_ns(s.crowd, i) > others_ns)
				others_ns = crowd_done_ns(s.crowd, i);
		}
		CU_ASSERT(crowd_done_ns(s.crowd, HOSTS - 1) > others_ns);
		end(&s);
	}
}

/* Half of the others hang on it, and go to the source. */
static void test_a_relay_that_stops(void)
{
	struct scene s = scene(MC_TREE);
	struct crowd_result r;

	begin(&s);
	pass(&s, 15000000);
	sim_host_power(s.sim, 1, false);
	crowd_excuse(s.crowd, 0);
	r = finish(&s, 115 * MC_TREE_CHILDREN);
	CU_ASSERT(r.done_ns < 10 * SECOND_NS);
	end(&s);
}

static void test_the_source_begins_again(void)
{
	FOR_EACH_MODE(mode)
	{
		struct scene s = scene(mode);

		begin(&s);
		pass(&s, 15000000);
		crowd_source_end(s.crowd);
		pass(&s, 300000000);
		CU_ASSERT_EQUAL(crowd_source_begin(s.crowd), 0);
		finish(&s, most_percent[mode] * 5 / 4);
		end(&s);
	}
}

/* All ask for the same at the same instant; one answer is for all. */
static void test_lockstep(void)
{
	struct scene s = scene(MC_MULTICAST);
	struct crowd_result r;

	s.config.skew_ns = 0;
	s.config.think_ns = 100000;
	begin(&s);
	r = finish(&s, 115);
	CU_ASSERT(r.source.lockstep > WORKING);
	CU_ASSERT(r.source.served < WORKING * 11 / 10);
	end(&s);
}

/* Nobody has ever asked for half of it, and it is everywhere. */
static void test_all_is_pushed(void)
{
	const bool never = false;

	FOR_EACH_MODE(mode)
	{
		struct scene s = scene(mode);

		if (mode == MC_UNICAST)
			continue;
		s.config.pages = 2 * WORKING;
		s.config.push_pages_per_s = 20000;
		s.host.loss_ppm = 5000;
		begin(&s);
		finish(&s, 2 * most_percent[mode] * 5 / 4);
		sim_run(s.sim, &never, sim_now_ns(s.sim) + 2 * SECOND_NS);
		for (uint32_t i = 0; i < HOSTS; i++)
			CU_ASSERT_EQUAL(crowd_has(s.crowd, i), s.config.pages);
		CU_ASSERT(sent_percent(&s) <= 2 * most_percent[mode] * 5 / 4);
		end(&s);
	}
}

/* Of so many, some lose each datagram: the source still does not send it to each of these. */
static void test_many_hosts(void)
{
	static const struct {
		uint32_t loss_ppm;
		uint64_t most_percent;
	} cases[] = { { 0, 160 }, { 10000, 160 }, { 50000, 165 } };

	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		struct scene s = scene(MC_MULTICAST);

		s.config.members = 200;
		s.config.pages = s.config.working = WORKING / 4;
		s.config.skew_ns = 10000000;
		s.host.loss_ppm = cases[i].loss_ppm;
		begin(&s);
		finish(&s, cases[i].most_percent);
		end(&s);
	}
}

/* Four snapshots of one host, to the same others: none is done long before the rest. */
static void test_many_snapshots(void)
{
	FOR_EACH_MODE(mode)
	{
		struct scene s = scene(mode);
		struct crowd *crowds[MOST_CROWDS];
		uint64_t first_ns = UINT64_MAX, last_ns = 0;

		/* else clones wait for the same page together, and ask for the less */
		s.config.order = CROWD_RANDOM;
		begin(&s);
		crowds[0] = s.crowd;
		for (uint32_t i = 1; i < MOST_CROWDS; i++) {
			s.config.number = i;
			crowds[i] = crowd_create(s.sim, &s.config);
			CU_ASSERT_PTR_NOT_NULL_FATAL(crowds[i]);
		}
		for (uint32_t i = 0; i < MOST_CROWDS; i++) {
			struct crowd_result r;

			s.crowd = crowds[i];
			r = finish(&s, MOST_CROWDS * most_percent[mode] * 5 / 4);
			first_ns = r.done_ns < first_ns ? r.done_ns : first_ns;
			last_ns = r.done_ns > last_ns ? r.done_ns : last_ns;
		}
		CU_ASSERT(last_ns < first_ns * 3 / 2);
		for (uint32_t i = 1; i < MOST_CROWDS; i++)
			crowd_destroy(crowds[i]);
		s.crowd = crowds[0];
		end(&s);
	}
}

/* ── who waits goes before what is ahead ── */

#define AHEAD 128u
#define TEN_GBIT (10 * GBIT)

/* A source, and one member that wants pages. */
struct pair {
	struct sim *sim;
	struct mc_endpoint *eps[2];
	struct mc_server *server;
	struct mc_fetch *fetch;
	struct mc_counters counters[2];
	struct mc_want wants[2 * AHEAD];
	unsigned arrived;
	bool done;	/* the one that is waited for has come */
};

static int read_any(void *arg, uint64_t gfn, uint8_t page[MC_PAGE_BYTES])
{
	(void)arg;
	memset(page, (int)gfn | 1, MC_PAGE_BYTES);
	return 1;
}

static void on_arrival(void *arg, const struct mc_arrival *a)
{
	struct pair *p = arg;

	mc_fetch_done(p->fetch, &p->wants[a->gfn], true);
	p->arrived++;
	p->done |= a->gfn == AHEAD + 1;
}

static const struct mc_server_calls source_calls = { .read_page = read_any };
static const struct mc_fetch_calls member_calls = { .arrived = on_arrival };

static void pair_begin(struct pair *p, enum mc_mode mode)
{
	const struct sim_host_config host = sim_host_of_today(TEN_GBIT);
	struct mc_snapshot snapshot = { .number = 1, .pages = 2 * AHEAD };
	struct mc_address places[2];
	struct mc_way way = { .mode = mode, .nodes = 2, .places = places,
			      .group = sim_group_address(1) };

	*p = (struct pair){ .sim = sim_create(11) };
	CU_ASSERT_PTR_NOT_NULL_FATAL(p->sim);
	for (unsigned i = 0; i < 2; i++) {
		struct mc_transport *t =
			sim_endpoint_add(p->sim, sim_host_add(p->sim, &host));

		CU_ASSERT_PTR_NOT_NULL_FATAL(t);
		places[i] = sim_endpoint_address(t);
		p->eps[i] = mc_endpoint_create(t, &p->counters[i]);
	}
	for (uint64_t i = 0; i < 2 * AHEAD; i++)
		p->wants[i].gfn = i;
	p->server = mc_server_create(p->eps[0], &snapshot, &way, &source_calls, p);
	way.node = 1;
	p->fetch = mc_fetch_create(p->eps[1], &snapshot, &way, &member_calls, p);
	CU_ASSERT_PTR_NOT_NULL_FATAL(p->server);
	CU_ASSERT_PTR_NOT_NULL_FATAL(p->fetch);
}

static void pair_end(struct pair *p)
{
	mc_fetch_destroy(p->fetch);
	mc_server_destroy(p->server);
	for (unsigned i = 0; i < 2; i++)
		mc_endpoint_destroy(p->eps[i]);
	sim_destroy(p->sim);
}

/* So many pages ahead have been asked for when somebody comes to wait for another. */
static void test_who_waits_goes_first(void)
{
	const bool never = false;

	for (enum mc_mode mode = MC_UNICAST; mode <= MC_MULTICAST; mode++) {
		struct pair p;
		unsigned before;

		pair_begin(&p, mode);
		/* they know each other */
		sim_run(p.sim, &never, SECOND_NS);
		for (unsigned i = 0; i < AHEAD; i++)
			mc_fetch_want(p.fetch, &p.wants[i], MC_AHEAD);
		sim_run(p.sim, &never, SECOND_NS + 50000);
		mc_fetch_want(p.fetch, &p.wants[AHEAD + 1], MC_NOW);
		CU_ASSERT_EQUAL(sim_run(p.sim, &p.done, 2 * SECOND_NS), 0);
		before = p.arrived;
		printf("\n    %-9s %u pages of %u before it ", mode_name(mode), before, AHEAD);
		CU_ASSERT(before <= AHEAD / 2);
		sim_run(p.sim, &never, 2 * SECOND_NS);
		CU_ASSERT_EQUAL(p.arrived, AHEAD + 1);
		pair_end(&p);
	}
}

static const struct test tests[] = {
	{ "nothing goes wrong", test_nothing_goes_wrong },
	{ "all of it: cipher, zeros, equal pages", test_all_of_it },
	{ "two runs are the same", test_two_runs_are_the_same },
	{ "loss", test_loss },
	{ "order", test_order },
	{ "duplicates", test_duplicates },
	{ "a long way", test_a_long_way },
	{ "a slow host", test_a_slow_host },
	{ "a host that stops", test_a_host_that_stops },
	{ "a host that comes back", test_a_host_that_comes_back },
	{ "a relay that stops", test_a_relay_that_stops },
	{ "the source begins again", test_the_source_begins_again },
	{ "lockstep", test_lockstep },
	{ "who waits goes first", test_who_waits_goes_first },
	{ "all is pushed", test_all_is_pushed },
	{ "many hosts", test_many_hosts },
	{ "many snapshots", test_many_snapshots },
};

int main(int argc, char **argv)
{
	if (sodium_init() < 0)
		return 99;
	return run_tests("protocol", tests, ARRAY_SIZE(tests), argc, argv);
}
