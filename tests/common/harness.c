/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See harness.h. */
#include "config.h"

#include "tests/common/harness.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "libsf/sf.h"

void harness_set_up(void)
{
	double_start();
}

void harness_tear_down(void)
{
	double_stop();
}

int harness_main(CU_SuiteInfo *suites)
{
	unsigned failed;

	if (double_prepare()) {
		fprintf(stderr, "skipped: mounting is not allowed here\n");
		return 77;
	}
	if (CU_initialize_registry() || CU_register_suites(suites))
		return 1;
	CU_basic_set_mode(CU_BRM_VERBOSE);
	CU_basic_run_tests();
	failed = CU_get_number_of_failures();
	CU_cleanup_registry();
	return failed != 0;
}

int harness_in_vm(unsigned vm, int (*run)(void *), void *arg)
{
	int status;
	pid_t pid;

	fflush(NULL);
	pid = fork();
	if (!pid) {
		setenv("XENSTORED_PATH", double_socket(vm), 1);
		status = run(arg);
		fflush(NULL);
		_exit(status);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return -1;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

bool harness_failed(int number, const char *words)
{
	int was = errno;

	if (was == number && strstr(sf_error(), words))
		return true;
	fprintf(stderr, "\n    errno %s (want %s): \"%s\" (want \"%s\")\n", strerrorname_np(was),
		strerrorname_np(number), sf_error(), words);
	return false;
}
