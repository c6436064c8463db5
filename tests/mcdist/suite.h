/* SPDX-License-Identifier: GPL-2.0-or-later */
/* CUnit, as the tests here use it. */
#ifndef TESTS_MCDIST_SUITE_H
#define TESTS_MCDIST_SUITE_H

struct test {
	const char *name;
	void (*run)(void);
};

/* Runs the tests, or those whose names contain argv[1]. Return: for main(). */
int run_tests(const char *suite, const struct test *tests, unsigned count, int argc, char **argv);

#endif
