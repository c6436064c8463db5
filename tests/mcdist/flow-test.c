/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How fast a source sends what nobody has asked for: to a group no faster than the slowest member
 * takes it in, unless that one is silent; and never in the way of what somebody waits for.
 */
#include <CUnit/CUnit.h>
#include <sodium.h>
#include <stdio.h>

#include "common/cleanup.h"
#include "host/mcdist/flow.h"
#include "tests/mcdist/crowd.h"
#include "tests/mcdist/suite.h"

#define GBIT 1000000000ull
#define SECOND_NS 1000000000ull
#define MS_NS 1000000ull
#define HOSTS 8u
#define SLOW HOSTS		/* that host, if one is; its member is the last */
#define RAM 32768u
#define PUSH_PAGES_PER_S 500000u	/* more than the wire carries */

/* ── the rate, report by report ── */

static void say(struct mc_flow *flow, uint64_t now_ns, uint32_t node, uint32_t missed_percent,
		uint32_t takes)
{
	struct mc_report report = { .node = node, .received = 100 - missed_percent,
				    .missed = missed_percent, .takes_pages_per_s = takes };

	CU_ASSERT_EQUAL(mc_flow_report(flow, now_ns, &report), 0);
}

/* A third less for much that is missed, once in a while; an eighth more for good reports. */
static void test_loss_slows_it(void)
{
	uint64_t now_ns = SECOND_NS;
	struct mc_flow flow;
	uint32_t was;

	mc_flow_init(&flow);
	for (unsigned i = 0; i < 9; i++) {
		was = flow.pages_per_s;
		now_ns += SECOND_NS;
		say(&flow, now_ns, 1, MC_FLOW_LOSS_PERCENT + 1, 0);
		CU_ASSERT_EQUAL(flow.pages_per_s, was - was / 3);
		say(&flow, now_ns + 1, 2, 100, 0);
		CU_ASSERT_EQUAL(flow.pages_per_s, was - was / 3);
	}
	say(&flow, now_ns += SECOND_NS, 1, 100, 0);
	CU_ASSERT_EQUAL(flow.pages_per_s, MC_FLOW_MIN_PAGES_PER_S);
	for (unsigned i = 0; i < 100; i++) {
		was = flow.pages_per_s;
		now_ns += SECOND_NS;
		say(&flow, now_ns, 1, MC_FLOW_LOSS_PERCENT, 0);
		CU_ASSERT(flow.pages_per_s == was + was / 8 ||
			  flow.pages_per_s == MC_FLOW_MAX_PAGES_PER_S);
	}
	CU_ASSERT_EQUAL(flow.pages_per_s, MC_FLOW_MAX_PAGES_PER_S);
	mc_flow_fini(&flow);
}

/* What the slowest can take, as long as it says so. */
static void test_the_slowest_counts(void)
{
	uint64_t now_ns = SECOND_NS;
	struct mc_flow flow;

	mc_flow_init(&flow);
	say(&flow, now_ns, 100, 0, 7000);
	say(&flow, now_ns, 1, 0, 30000);
	CU_ASSERT_EQUAL(flow.pages_per_s, 7000);
	for (unsigned i = 0; i < 9; i++)
		say(&flow, now_ns += MC_SILENT_NS / 10, 1, 0, 30000);
	CU_ASSERT_EQUAL(flow.pages_per_s, 7000);
	for (unsigned i = 0; i < 100; i++)
		say(&flow, now_ns += MC_SILENT_NS / 10, 1, 0, 30000);
	CU_ASSERT_EQUAL(flow.pages_per_s, 30000);
	mc_flow_fini(&flow);
}

/* What goes out moves the clock; what is waited for may run ahead of it a little. */
static void test_the_clock(void)
{
	uint64_t now_ns = SECOND_NS, bytes;
	struct mc_flow flow;

	mc_flow_init(&flow);
	bytes = flow.pages_per_s * (uint64_t)MC_PAGE_BYTES;
	mc_flow_sent(&flow, now_ns, (MC_FLOW_BEHIND_NS + 10 * MS_NS) * bytes / SECOND_NS);
	CU_ASSERT_EQUAL(mc_flow_wait_ns(&flow, now_ns, false), now_ns + 10 * MS_NS);
	CU_ASSERT_EQUAL(mc_flow_wait_ns(&flow, now_ns, true), 0);
	mc_flow_sent(&flow, now_ns, MC_FLOW_AHEAD_NS * bytes / SECOND_NS);
	CU_ASSERT_EQUAL(mc_flow_wait_ns(&flow, now_ns, true), now_ns + 10 * MS_NS);
	CU_ASSERT_EQUAL(mc_flow_wait_ns(&flow, now_ns + 30 * MS_NS, false), 0);
	mc_flow_fini(&flow);
}

/* ── all of memory, pushed ── */

struct world {
	struct sim *sim;
	struct crowd_config config;
	struct crowd *crowd;
};

/* Clones look at `working` pages, and everything is pushed meanwhile, if it is. */
static struct world world(enum mc_mode mode, uint64_t working, bool push, bool slow)
{
	struct world w = {
		.sim = sim_create(11),
		.config = { .first = 1, .members = HOSTS, .clones = 1, .pages = RAM,
			    .working = working, .order = CROWD_SAME, .think_ns = MS_NS,
			    .skew_ns = MS_NS, .mode = mode,
			    .push_pages_per_s = push ? PUSH_PAGES_PER_S : 0 },
	};
	struct sim_host_config host = sim_host_of_today(GBIT);

	CU_ASSERT_PTR_NOT_NULL_FATAL(w.sim);
	for (uint32_t i = 0; i <= HOSTS; i++)
		CU_ASSERT_EQUAL_FATAL(sim_host_add(w.sim, &host), i);
	if (slow)
		sim_host_config(w.sim, SLOW)->receive_kib_ns *= 10;
	w.crowd = crowd_create(w.sim, &w.config);
	CU_ASSERT_PTR_NOT_NULL_FATAL(w.crowd);
	return w;
}

static void end(struct world *w)
{
	crowd_destroy(w->crowd);
	sim_destroy(w->sim);
}

static void all_have_all(struct world *w)
{
	const bool never = false;

	for (uint32_t i = 0; i < HOSTS && sim_now_ns(w->sim) < 60 * SECOND_NS;) {
		if (crowd_has(w->crowd, i) == RAM)
			i++;
		else
			sim_run(w->sim, &never, sim_now_ns(w->sim) + 10 * MS_NS);
	}
	for (uint32_t i = 0; i < HOSTS; i++)
		CU_ASSERT_EQUAL(crowd_has(w->crowd, i), RAM);
}

/* Half of all that is sent to the group would be lost there at the wire's rate. */
static void test_a_slow_member_is_not_flooded(void)
{
	struct world w = world(MC_MULTICAST, 16, true, true);
	const struct sim_counters *slow = sim_host_counters(w.sim, SLOW);
	uint64_t sent;

	all_have_all(&w);
	sent = sim_host_counters(w.sim, 0)->sent_bytes * 100 / (RAM * MC_PAGE_BYTES);
	printf("\n    %.0f ms, %llu datagrams lost, %.2f of memory sent ",
	       (double)sim_now_ns(w.sim) / 1e6, (unsigned long long)slow->overflowed_socket,
	       (double)sent / 100);
	CU_ASSERT(slow->overflowed_socket < RAM / MC_MAX_PAGES * 45 / 100);
	CU_ASSERT(sent < 115);
	end(&w);
}

/* The wire is full of what is pushed, and a fault takes little longer than on an idle one. */
static void test_who_waits_goes_first(void)
{
	for (enum mc_mode mode = MC_UNICAST; mode <= MC_MULTICAST; mode++) {
		struct crowd_result r[2];

		for (unsigned push = 0; push < 2; push++) {
			struct world w = world(mode, 128, push, false);

			CU_ASSERT_EQUAL(sim_run(w.sim, crowd_is_done(w.crowd), 60 * SECOND_NS), 0);
			r[push] = crowd_result(w.crowd);
			printf("\n    mode %d: %llu faults, max %.0f us; %llu pages pushed ",
			       (int)mode, (unsigned long long)r[push].faults,
			       (double)r[push].max_ns / 1e3,
			       (unsigned long long)r[push].source.pushed);
			end(&w);
		}
		CU_ASSERT(r[1].source.pushed > RAM / 16);
		CU_ASSERT(r[1].max_ns < r[0].max_ns + 5 * MS_NS);
	}
}

static const struct test tests[] = {
	{ "loss slows it", test_loss_slows_it },
	{ "the slowest counts", test_the_slowest_counts },
	{ "the clock", test_the_clock },
	{ "a slow member is not flooded", test_a_slow_member_is_not_flooded },
	{ "who waits goes first", test_who_waits_goes_first },
};

int main(int argc, char **argv)
{
	if (sodium_init() < 0)
		return 99;
	return run_tests("flow", tests, ARRAY_SIZE(tests), argc, argv);
}
