/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the test programs begin and end with. */
#ifndef TESTS_KMOD_SUITE_H
#define TESTS_KMOD_SUITE_H

#include <CUnit/Basic.h>
#include <stdio.h>

/* Runs a table of tests, in order. Return: the program's exit status. */
static inline int run_suite(const char *name, const CU_TestInfo *tests)
{
	CU_SuiteInfo suites[] = { { name, NULL, NULL, NULL, NULL, (CU_TestInfo *)tests },
				  CU_SUITE_INFO_NULL };
	unsigned failed;

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (CU_initialize_registry() || CU_register_suites(suites))
		return 1;
	CU_basic_set_mode(CU_BRM_VERBOSE);
	CU_basic_run_tests();
	failed = CU_get_number_of_failures();
	CU_cleanup_registry();
	return failed ? 1 : 0;
}

#endif
