/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See ground.h. */
#define _GNU_SOURCE
#include "tests/mpi/ground.h"

#include <errno.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/io.h"

#define AWAIT_NS 20000000000ull

/* Waits for `pid` and ends as it did, reaping whatever else ends. */
static void __attribute__((noreturn)) end_as(pid_t pid)
{
	int status;
	pid_t got;

	while ((got = wait(&status)) != pid) {
		if (got < 0 && errno != EINTR)
			_exit(1);
	}
	_exit(WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
}

/* The parent ends as its child does; only the child returns. Return: 0 or -1. */
static int go_on_in_child(void)
{
	pid_t pid = fork();

	if (pid > 0)
		end_as(pid);
	if (!pid)
		prctl(PR_SET_PDEATHSIG, SIGKILL);
	return pid;
}

static int lo_up(void)
{
	struct ifreq lo = { .ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING };
	int sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	int rc = sock < 0 || ioctl(sock, SIOCSIFFLAGS, &lo) ? -1 : 0;

	if (sock >= 0)
		close(sock);
	return rc;
}

/* True if /proc is this PID namespace's: else a test would stop processes of the machine. */
static int proc_is_ours(void)
{
	char self[16] = "", mine[16];

	snprintf(mine, sizeof(mine), "%d", getpid());
	return readlink("/proc/self", self, sizeof(self) - 1) > 0 && !strcmp(self, mine) &&
	       getpid() < 10;
}

int ground_enter(void)
{
	int user = getuid() ? CLONE_NEWUSER : 0;

	fflush(NULL);
	if (unshare(user | CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWNET))
		return 77;
	if (go_on_in_child() || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
	    mount("proc", "/proc", "proc", 0, NULL) || lo_up())
		return 77;
	if (go_on_in_child() || !proc_is_ours())
		return 77;
	return 0;
}

int ground_main(CU_SuiteInfo *suites)
{
	unsigned failed;

	if (ground_enter()) {
		fprintf(stderr, "skipped: namespaces are not allowed here\n");
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

int ground_await(int (*condition)(void *arg), void *arg)
{
	uint64_t end_ns = io_now_ns() + AWAIT_NS;

	while (!condition(arg)) {
		if (io_now_ns() > end_ns)
			return 0;
		poll(NULL, 0, 5);
	}
	return 1;
}
