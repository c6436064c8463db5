/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A ground of their own for tests that stop processes, name sockets, and start programs. */
#ifndef TESTS_MPI_GROUND_H
#define TESTS_MPI_GROUND_H

#include <CUnit/Basic.h>

/*
 * Goes on in a process in PID, mount and network namespaces of its own, with /proc and 127.0.0.0/8:
 * the only processes that can be seen are the test's, and all end with it. To be called first.
 * Return: 0 in there, 77 where that is not allowed.
 */
int ground_enter(void);

/* Runs the suites in there. Return: what main() returns. */
int ground_main(CU_SuiteInfo *suites);

/* Waits, as long as it takes up to 20 s, until `condition(arg)` is true. Return: whether it is. */
int ground_await(int (*condition)(void *arg), void *arg);

#endif
