/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Hosts that hear no multicast although they were told to: they get their pages soon, the others do
 * not wait for them, and one that hears again is one of all.
 */
#include <CUnit/CUnit.h>
#include <sodium.h>
#include <stdio.h>

#include "common/cleanup.h"
#include "tests/mcdist/crowd.h"
#include "tests/mcdist/suite.h"

#define GBIT 1000000000ull
#define SECOND_NS 1000000000ull
#define HOSTS 16u
#define WORKING 1024u

struct done {
	uint64_t others_ns;	/* the last of those who hear */
	uint64_t deaf_ns;	/* the last of those who do not */
	uint64_t sent_percent;	/* by the source, of a working set */
};

/* The last `deaf` of HOSTS hear nothing; if `until_ns` is not 0, until then. */
static struct done run(uint32_t deaf, uint64_t until_ns)
{
	struct sim_host_config host = sim_host_of_today(GBIT);
	struct crowd_config config = { .first = 1, .members = HOSTS, .clones = 4,
				       .pages = WORKING, .working = WORKING, .order = CROWD_RANDOM,
				       .think_ns = 20000, .skew_ns = 2000000,
				       .mode = MC_MULTICAST };
	struct sim *sim = sim_create(11);
	struct done d = { 0 };
	struct crowd *crowd;

	for (uint32_t i = 0; i <= HOSTS; i++) {
		host.deaf = i > HOSTS - deaf;
		CU_ASSERT_EQUAL_FATAL(sim_host_add(sim, &host), i);
	}
	crowd = crowd_create(sim, &config);
	CU_ASSERT_PTR_NOT_NULL_FATAL(crowd);
	if (until_ns) {
		sim_run(sim, crowd_is_done(crowd), until_ns);
		for (uint32_t i = 0; i <= HOSTS; i++)
			sim_host_config(sim, i)->deaf = false;
	}
	CU_ASSERT_EQUAL(sim_run(sim, crowd_is_done(crowd), 600 * SECOND_NS), 0);
	CU_ASSERT_EQUAL(crowd_result(crowd).wrong, 0);
	CU_ASSERT_EQUAL(crowd_result(crowd).lacking, 0);
	for (uint32_t i = 0; i < HOSTS; i++) {
		uint64_t *last_ns = i >= HOSTS - deaf ? &d.deaf_ns : &d.others_ns;

		if (crowd_done_ns(crowd, i) > *last_ns)
			*last_ns = crowd_done_ns(crowd, i);
	}
	d.sent_percent = sim_host_counters(sim, 0)->sent_bytes * 100 / (WORKING * MC_PAGE_BYTES);
	printf("\n    %2u deaf: others %6.1f ms, the deaf %7.1f ms, %4.2f working sets ", deaf,
	       (double)d.others_ns / 1e6, (double)d.deaf_ns / 1e6, (double)d.sent_percent / 100);
	crowd_destroy(crowd);
	sim_destroy(sim);
	return d;
}

static void test_the_others_do_not_wait(void)
{
	struct done all = run(0, 0), one = run(1, 0), some = run(4, 0);

	CU_ASSERT(one.others_ns < all.others_ns * 5 / 4);
	CU_ASSERT(some.others_ns < all.others_ns * 3 / 2);
}

/* They see that they are deaf, and do not wait for the group with each page again. */
static void test_the_deaf_get_theirs(void)
{
	struct done all = run(0, 0), one = run(1, 0), none_hears = run(HOSTS, 0);

	CU_ASSERT(one.deaf_ns < all.others_ns * 3);
	CU_ASSERT(one.sent_percent < 115 + 115);
	CU_ASSERT(none_hears.deaf_ns < all.others_ns * HOSTS * 5 / 4);
	CU_ASSERT(none_hears.sent_percent < HOSTS * 115);
}

/* Deaf for the first part of the time, it is one of all for the rest. */
static void test_one_that_hears_again(void)
{
	struct done all = run(0, 0), one = run(1, all.others_ns / 4), never = run(1, 0);

	CU_ASSERT(one.deaf_ns < all.others_ns * 3);
	CU_ASSERT(one.sent_percent < never.sent_percent - 20);
}

static const struct test tests[] = {
	{ "the others do not wait", test_the_others_do_not_wait },
	{ "the deaf get theirs", test_the_deaf_get_theirs },
	{ "one that hears again", test_one_that_hears_again },
};

int main(int argc, char **argv)
{
	if (sodium_init() < 0)
		return 99;
	return run_tests("deaf", tests, ARRAY_SIZE(tests), argc, argv);
}
