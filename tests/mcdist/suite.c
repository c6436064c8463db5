/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Runs a table of tests. */
#include "tests/mcdist/suite.h"

#include <CUnit/Basic.h>
#include <CUnit/CUnit.h>
#include <string.h>

int run_tests(const char *suite, const struct test *tests, unsigned count, int argc, char **argv)
{
	unsigned failed;
	CU_pSuite s;

	if (CU_initialize_registry() != CUE_SUCCESS)
		return 99;
	s = CU_add_suite(suite, NULL, NULL);
	for (unsigned i = 0; i < count; i++) {
		if (argc < 2 || strstr(tests[i].name, argv[1]))
			CU_add_test(s, tests[i].name, tests[i].run);
	}
	CU_basic_set_mode(CU_BRM_VERBOSE);
	CU_basic_run_tests();
	failed = CU_get_number_of_failures();
	CU_cleanup_registry();
	return failed ? 1 : 0;
}
