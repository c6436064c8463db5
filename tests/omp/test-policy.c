/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which regions go away, and when they stop doing so. */
#include "config.h"

#include <CUnit/Basic.h>
#include <stdlib.h>
#include <string.h>

#include "omp-shim/policy.h"

#define MS 1000000ull

static void body_a(void *unused)
{
	(void)unused;
}

static void body_b(void *unused)
{
	*(volatile int *)unused = 1;
}

static void a_region_is_timed_first(void)
{
	CU_ASSERT_EQUAL(policy_ask(body_a), OMP_SHORT);
	policy_ran_here(body_a, 10 * MS);
	CU_ASSERT_EQUAL(policy_ask(body_a), OMP_SHORT);
	policy_ran_here(body_a, 80 * MS);
	CU_ASSERT_EQUAL(policy_ask(body_a), OMP_NO_REASON);
	CU_ASSERT_EQUAL(policy_ask(body_b), OMP_SHORT);
}

/* What it costs here counts once it is known: 400 ms beside two members' work of 100 ms each. */
static void what_it_costs_is_learnt(void)
{
	const struct costs costs = { .clone_ns = 100 * MS, .run_ns = 400 * MS,
				     .member_cpu_ns = 200 * MS };

	omp_team.members = 2;
	policy_ran_here(body_a, 300 * MS);
	CU_ASSERT_EQUAL(policy_ask(body_a), OMP_NO_REASON);
	policy_was_away(body_a, &costs);
	CU_ASSERT_EQUAL(policy_ask(body_a), OMP_SHORT);
	policy_ran_here(body_a, 500 * MS);
	CU_ASSERT_EQUAL(policy_ask(body_a), OMP_NO_REASON);
}

static void three_failures_are_enough(void)
{
	for (unsigned i = 0; i < 3; i++) {
		CU_ASSERT_EQUAL(policy_ask(body_a), OMP_NO_REASON);
		policy_gave_up(body_a, OMP_LOST);
	}
	for (unsigned i = 0; i < 3; i++) {
		CU_ASSERT_EQUAL(policy_ask(body_a), OMP_NO_REASON);
		policy_gave_up(body_a, OMP_CONFLICT);
	}
	CU_ASSERT_EQUAL(policy_ask(body_a), OMP_GIVEN_UP);
}

int main(void)
{
	CU_TestInfo tests[] = {
		{ "a region is timed first", a_region_is_timed_first },
		{ "what it costs is learnt", what_it_costs_is_learnt },
		{ "three failures are enough", three_failures_are_enough },
		CU_TEST_INFO_NULL
	};
	CU_SuiteInfo suites[] = { { "policy", NULL, NULL, NULL, NULL, tests }, CU_SUITE_INFO_NULL };
	unsigned failed;

	setenv("SF_OMP_MIN_MS", "50", 1);
	setenv("OMP_NUM_THREADS", "3,2", 1);
	unsetenv("SF_OMP");
	unsetenv("SF_OMP_CLONES");
	if (policy_options()->members != 3 || CU_initialize_registry() || CU_register_suites(suites))
		return 1;
	CU_basic_set_mode(CU_BRM_VERBOSE);
	CU_basic_run_tests();
	failed = CU_get_number_of_failures();
	CU_cleanup_registry();
	return failed != 0;
}
