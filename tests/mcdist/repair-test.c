/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What gets lost is made good soon, and not at the cost of the source: pages, joinings, the word
 * that all was pushed. Each asserts what would be otherwise without the mechanism it is about.
 */
#include <CUnit/CUnit.h>
#include <sodium.h>
#include <stdio.h>

#include "common/cleanup.h"
#include "tests/mcdist/crowd.h"
#include "tests/mcdist/suite.h"

#define GBIT 1000000000ull
#define SECOND_NS 1000000000ull
#define MS_NS 1000000ull
#define HOSTS 16u
#define WORKING 512u
#define RAM (2 * WORKING)
#define PUSH_PAGES_PER_S 20000u

struct world {
	struct sim *sim;
	struct crowd_config config;
	struct crowd *crowd;
};

static struct crowd_config config(enum mc_mode mode, uint32_t members)
{
	return (struct crowd_config){ .first = 1, .members = members, .clones = 4,
				      .pages = WORKING, .working = WORKING, .order = CROWD_SAME,
				      .think_ns = 20000, .skew_ns = 2 * MS_NS, .mode = mode };
}

static struct world world(const struct crowd_config *c, uint32_t loss_ppm)
{
	struct world w = { .sim = sim_create(11), .config = *c };
	struct sim_host_config host = sim_host_of_today(GBIT);

	host.loss_ppm = loss_ppm;
	CU_ASSERT_PTR_NOT_NULL_FATAL(w.sim);
	for (uint32_t i = 0; i <= c->members; i++)
		CU_ASSERT_EQUAL_FATAL(sim_host_add(w.sim, &host), i);
	w.crowd = crowd_create(w.sim, c);
	CU_ASSERT_PTR_NOT_NULL_FATAL(w.crowd);
	return w;
}

static void pass(struct world *w, uint64_t ns)
{
	const bool never = false;

	sim_run(w->sim, &never, sim_now_ns(w->sim) + ns);
}

static void end(struct world *w)
{
	crowd_destroy(w->crowd);
	sim_destroy(w->sim);
}

/* All of it comes. Return: what the source sent, in hundredths of working sets. */
static uint64_t finish(struct world *w, struct crowd_result *r)
{
	uint64_t sent;

	CU_ASSERT_EQUAL(sim_run(w->sim, crowd_is_done(w->crowd), 60 * SECOND_NS), 0);
	*r = crowd_result(w->crowd);
	CU_ASSERT_EQUAL(r->wrong, 0);
	CU_ASSERT_EQUAL(r->lacking, 0);
	sent = sim_host_counters(w->sim, 0)->sent_bytes * 100 / (WORKING * MC_PAGE_BYTES);
	printf("\n    %3u hosts, mode %d: %7.1f ms, %6.2f working sets, p99 %.0f us, max %.0f us ",
	       w->config.members, (int)w->config.mode, (double)r->done_ns / 1e6,
	       (double)sent / 100, (double)r->p99_ns / 1e3, (double)r->max_ns / 1e3);
	end(w);
	return sent;
}

/* With more hosts more is lost, and the source does not send more. */
static void test_the_source_stays_flat(void)
{
	for (uint32_t loss_ppm = 10000; loss_ppm <= 50000; loss_ppm += 40000) {
		struct crowd_config few = config(MC_MULTICAST, 8);
		struct crowd_config many = config(MC_MULTICAST, 200);
		struct world w = world(&few, loss_ppm);
		struct crowd_result r;
		uint64_t sent = finish(&w, &r);

		w = world(&many, loss_ppm);
		CU_ASSERT(finish(&w, &r) < sent * 13 / 10);
	}
}

/* All miss the same, as it is lost before the switch: one asks the source, the rest each other. */
static void test_what_all_miss_is_sent_once_more(void)
{
	struct crowd_config c = config(MC_MULTICAST, 64);
	struct world w = world(&c, 0);
	struct crowd_result r;

	pass(&w, 10 * MS_NS);
	for (uint32_t i = 1; i <= c.members; i++)
		sim_host_config(w.sim, i)->loss_ppm = SIM_MILLION;
	pass(&w, MS_NS / 2);
	for (uint32_t i = 1; i <= c.members; i++)
		sim_host_config(w.sim, i)->loss_ppm = 0;
	CU_ASSERT(finish(&w, &r) < 150);
	CU_ASSERT(r.max_ns < 15 * MS_NS);
}

/* Without loss and with, in each mode, the same work. */
static void test_loss_costs_no_long_waits(void)
{
	for (enum mc_mode mode = MC_UNICAST; mode < MC_MODES; mode++) {
		struct crowd_config c = config(mode, HOSTS);
		struct world w = world(&c, 0);
		struct crowd_result without, with;

		finish(&w, &without);
		w = world(&c, 50000);
		finish(&w, &with);
		CU_ASSERT(with.done_ns < without.done_ns * 3 / 2);
		CU_ASSERT(with.p99_ns < 5 * MS_NS);
	}
}

/* Its answers come late, since it has many to give: they are asked for again, and sent once. */
static void test_who_is_busy_answers_once(void)
{
	struct crowd_config c = config(MC_UNICAST, 48);
	struct crowd_result r;
	struct world w;

	c.order = CROWD_RANDOM;
	w = world(&c, 0);
	CU_ASSERT(finish(&w, &r) < 48 * 107);
	CU_ASSERT(r.members.retries > WORKING / 2);
}

/* The source hears nothing until all have joined in vain: they are pushed to all the same. */
static void test_a_lost_join(void)
{
	for (enum mc_mode mode = MC_UNICAST; mode < MC_MODES; mode++) {
		struct crowd_config c = config(mode, HOSTS);
		struct world w;

		c.pages = RAM;
		c.push_pages_per_s = PUSH_PAGES_PER_S;
		w = world(&c, 0);
		sim_host_config(w.sim, 0)->loss_ppm = SIM_MILLION;
		pass(&w, 4 * MS_NS);
		sim_host_config(w.sim, 0)->loss_ppm = 0;
		pass(&w, 2 * SECOND_NS);
		for (uint32_t i = 0; i < HOSTS; i++)
			CU_ASSERT_EQUAL(crowd_has(w.crowd, i), RAM);
		end(&w);
	}
}

/* A leaf of the tree hears nothing when the push ends: it is told again, and gets what it lacks. */
static void test_a_lost_end_of_the_push(void)
{
	struct crowd_config c = config(MC_TREE, 3);
	struct world w;

	c.pages = RAM;
	c.push_pages_per_s = PUSH_PAGES_PER_S;
	w = world(&c, 0);
	while (crowd_has(w.crowd, 0) < RAM - 2 * MC_MAX_PAGES)
		pass(&w, MS_NS / 10);
	sim_host_config(w.sim, 3)->loss_ppm = SIM_MILLION;
	pass(&w, 20 * MS_NS);
	CU_ASSERT_EQUAL(crowd_has(w.crowd, 0), RAM);
	CU_ASSERT(crowd_has(w.crowd, 2) < RAM);
	sim_host_config(w.sim, 3)->loss_ppm = 0;
	pass(&w, SECOND_NS);
	CU_ASSERT_EQUAL(crowd_has(w.crowd, 2), RAM);
	end(&w);
}

static const struct test tests[] = {
	{ "the source stays flat", test_the_source_stays_flat },
	{ "what all miss is sent once more", test_what_all_miss_is_sent_once_more },
	{ "loss costs no long waits", test_loss_costs_no_long_waits },
	{ "who is busy answers once", test_who_is_busy_answers_once },
	{ "a lost join", test_a_lost_join },
	{ "a lost end of the push", test_a_lost_end_of_the_push },
};

int main(int argc, char **argv)
{
	if (sodium_init() < 0)
		return 99;
	return run_tests("repair", tests, ARRAY_SIZE(tests), argc, argv);
}
