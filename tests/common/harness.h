/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the tests of libsf share: a double for each test, processes to play clones, and main(). */
#ifndef TESTS_COMMON_HARNESS_H
#define TESTS_COMMON_HARNESS_H

#include <CUnit/Basic.h>
#include <stdbool.h>

#include "tests/common/double.h"

/* For CU_SuiteInfo: a fresh double before each test, and its end after it. */
void harness_set_up(void);
void harness_tear_down(void);

/* Runs suites in a private /run. Return: what main() returns: 0, 1, or 77. */
int harness_main(CU_SuiteInfo *suites);

/*
 * Runs a function in a process of its own, in VM `vm`. Return: what it returned (0–127), or 128 +
 * the signal that ended it.
 */
int harness_in_vm(unsigned vm, int (*run)(void *), void *arg);

/* True if the last libsf call failed with this errno and a sentence that contains `words`. */
bool harness_failed(int number, const char *words);

#endif
