/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The way to the keeper: the real program, with a double of the host behind libsf. */
#define _GNU_SOURCE
#include "mpi-shim/door.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "tests/common/harness.h"
#include "tests/mpi/ground.h"

/* Return: the keeper's process. */
static pid_t keeper_of(int sock)
{
	struct ucred peer = { 0 };
	socklen_t len = sizeof(peer);

	getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &peer, &len);
	return peer.pid;
}

static void programs_are_where_the_environment_says(void)
{
	_cleanup_free_ char *was = strdup(getenv("SF_MPI_LIBEXEC"));
	char path[PATH_MAX];

	setenv("SF_MPI_LIBEXEC", "/somewhere", 1);
	CU_ASSERT_STRING_EQUAL(door_program("sf-x", path, sizeof(path)), "/somewhere/sf-x");
	CU_ASSERT_PTR_NULL(door_program("sf-x", path, 15));
	unsetenv("SF_MPI_LIBEXEC");
	CU_ASSERT(door_program("sf-x", path, sizeof(path)) && strstr(path, "/snowflock/sf-x"));
	setenv("SF_MPI_LIBEXEC", was, 1);
}

static void programs_are_where_this_one_is(void)
{
	_cleanup_free_ char *was = strdup(getenv("SF_MPI_LIBEXEC"));
	char self[PATH_MAX], path[PATH_MAX], found[PATH_MAX];

	CU_ASSERT_FATAL(realpath("/proc/self/exe", self) != NULL);
	unsetenv("SF_MPI_LIBEXEC");
	CU_ASSERT_FATAL(door_program(strrchr(self, '/') + 1, path, sizeof(path)) != NULL);
	CU_ASSERT(realpath(path, found) && !strcmp(found, self));
	CU_ASSERT_PTR_NULL(door_program(strrchr(self, '/') + 1, path, 15));
	setenv("SF_MPI_LIBEXEC", was, 1);
}

static void a_launcher_starts_none(void)
{
	CU_ASSERT_EQUAL(door_open(MPI_LAUNCHER), -ENOENT);
}

static void outside_of_a_vm_there_is_none(void)
{
	CU_ASSERT_EQUAL(door_open(MPI_ASKER), -ENODEV);
}

static void a_missing_program_is_told(void)
{
	_cleanup_free_ char *was = strdup(getenv("SF_MPI_LIBEXEC"));

	setenv("SF_MPI_LIBEXEC", "/no/such", 1);
	CU_ASSERT_EQUAL(door_open(MPI_ASKER), -ENOENT);
	setenv("SF_MPI_LIBEXEC", was, 1);
}

static void one_keeper_serves_all(void)
{
	int first = door_open(MPI_ASKER), second = door_open(MPI_ASKER);
	int launcher = door_open(MPI_LAUNCHER);

	CU_ASSERT(first >= 0 && second >= 0 && launcher >= 0);
	CU_ASSERT_EQUAL(keeper_of(first), keeper_of(second));
	CU_ASSERT_EQUAL(keeper_of(first), keeper_of(launcher));
	CU_ASSERT_NOT_EQUAL(getsid(keeper_of(first)), getsid(0));
	close(first);
	close(second);
	close(launcher);
}

/* Many at once, and no keeper yet. */
static void a_crowd_gets_one_keeper(void)
{
	pid_t keepers[8], children[8];
	int go[2], told[2], sock;

	if (pipe(go) || pipe(told))
		abort();
	for (unsigned i = 0; i < 8; i++) {
		children[i] = fork();
		if (children[i])
			continue;
		close(go[1]);
		if (read(go[0], &keepers[0], 1)) /* ends for all at once */
			_exit(1);
		sock = door_open(MPI_ASKER);
		keepers[0] = sock < 0 ? -1 : keeper_of(sock);
		if (write(told[1], keepers, sizeof(keepers[0])) < 0)
			_exit(1);
		/* until the last one has told */
		close(told[1]);
		pause();
	}
	close(go[0]);
	close(go[1]);
	for (unsigned i = 0; i < 8; i++) {
		CU_ASSERT(read(told[0], &keepers[i], sizeof(keepers[i])) == sizeof(keepers[i]));
		CU_ASSERT(keepers[i] > 0 && keepers[i] == keepers[0]);
	}
	for (unsigned i = 0; i < 8; i++) {
		kill(children[i], SIGKILL);
		waitpid(children[i], NULL, 0);
	}
	close(told[0]);
	close(told[1]);
}

static void a_refusal_comes_with_its_sentence(void)
{
	const struct mpi_want want = { .ranks = 1, .per_clone = 1 };
	_cleanup_free_ char *hosts = NULL, *why = NULL;
	struct mpi_grant grant;
	uint32_t group;
	int sock = door_open(MPI_ASKER);

	double_set(0, "snowflock/net/base", "127.0.0.1");
	double_answer("ticket ", "error ENOSPC no host has room");
	CU_ASSERT_EQUAL(door_want(sock, &want, &group, &grant, &hosts, &why), -ENOSPC);
	CU_ASSERT_PTR_NULL(hosts);
	CU_ASSERT(why && strstr(why, "no host has room"));
	close(sock);
}

static void a_way_that_is_none_is_refused(void)
{
	static const char *const ways[] = { "x", "127.0.0.1:99999/00", "127.0.0.1:1/0011",
					    "300.0.0.1:1/" };

	for (size_t i = 0; i < ARRAY_SIZE(ways); i++) {
		setenv(MPI_ENV, ways[i], 1);
		CU_ASSERT_EQUAL(door_open(MPI_ASKER), -EINVAL);
		CU_ASSERT_EQUAL(door_open(MPI_LAUNCHER), -ENOENT);
	}
	unsetenv(MPI_ENV);
}

static CU_TestInfo outside[] = {
	{ "programs are where the environment says", programs_are_where_the_environment_says },
	{ "programs are where this one is", programs_are_where_this_one_is },
	{ "a launcher starts none", a_launcher_starts_none },
	{ "outside of a VM there is none", outside_of_a_vm_there_is_none },
	{ "a missing program is told", a_missing_program_is_told },
	{ "a way that is none is refused", a_way_that_is_none_is_refused },
	CU_TEST_INFO_NULL,
};

static CU_TestInfo inside[] = {
	{ "one keeper serves all", one_keeper_serves_all },
	{ "a crowd gets one keeper", a_crowd_gets_one_keeper },
	{ "a refusal comes with its sentence", a_refusal_comes_with_its_sentence },
	CU_TEST_INFO_NULL,
};

static CU_SuiteInfo suites[] = {
	{ "outside of a VM", NULL, NULL, NULL, NULL, outside },
	{ "in a VM", NULL, NULL, harness_set_up, harness_tear_down, inside },
	CU_SUITE_INFO_NULL,
};

int main(void)
{
	unsetenv(MPI_ENV);
	/* a keeper has a name, of which there is one in a network, and stops what it can see */
	if (ground_enter()) {
		fprintf(stderr, "skipped: namespaces are not allowed here\n");
		return 77;
	}
	return harness_main(suites);
}
