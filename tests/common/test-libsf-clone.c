/* SPDX-License-Identifier: GPL-2.0-or-later */
/* libsf: who a VM is, cloning it, checkpoints, handlers, ending a clone. */
#include "config.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "libsf/sf.h"
#include "proto/xenstore-tree.h"
#include "tests/common/harness.h"

/* ---- outside of a managed VM ---- */

static void no_xenstore_is_enodev(void)
{
	int checkpoint;

	CU_ASSERT_EQUAL(sf_id(), -1);
	CU_ASSERT(harness_failed(ENODEV, "not a Snowflock VM"));
	CU_ASSERT_EQUAL(sf_clone(2), -1);
	CU_ASSERT(harness_failed(ENODEV, "not a Snowflock VM"));
	CU_ASSERT_EQUAL(sf_checkpoint_parent(&checkpoint), -1);
	CU_ASSERT(harness_failed(ENODEV, "not a Snowflock VM"));
	CU_ASSERT_EQUAL(sf_set_result("x", 1), -1);
	CU_ASSERT(harness_failed(ENODEV, "not a Snowflock VM"));
	CU_ASSERT_EQUAL(sf_last_ticket(), -1);
	CU_ASSERT(harness_failed(ENODEV, "not a Snowflock VM"));
}

static void xenstore_of_another_host_is_enosys(void)
{
	harness_set_up();
	double_set(0, "snowflock/version", NULL);
	CU_ASSERT_EQUAL(sf_id(), -1);
	CU_ASSERT(harness_failed(ENOSYS, "does not make clones"));
	double_set(0, "snowflock/version", "99");
	CU_ASSERT_EQUAL(sf_clone(1), -1);
	CU_ASSERT(harness_failed(ENOSYS, "version 99"));
	CU_ASSERT_EQUAL(double_count(""), 0);
	harness_tear_down();
}

/* ---- who ---- */

static void id_and_count_are_the_trees(void)
{
	CU_ASSERT_EQUAL(sf_id(), 0);
	CU_ASSERT_EQUAL(sf_count(), 0);
	double_set(0, "snowflock/id", "7");
	double_set(0, "snowflock/count", "9");
	CU_ASSERT_EQUAL(sf_id(), 7);
	CU_ASSERT_EQUAL(sf_count(), 9);
	double_set(0, "snowflock/id", "seven");
	CU_ASSERT_EQUAL(sf_id(), -1);
	CU_ASSERT(harness_failed(EPROTO, "seven"));
	CU_ASSERT_STRING_EQUAL(sf_version(), PACKAGE_VERSION);
}

static void addresses_of_parent_and_clones(void)
{
	char text[SF_ADDRESS_BYTES];

	CU_ASSERT_EQUAL(sf_address(0, text, sizeof(text)), 0);
	CU_ASSERT_STRING_EQUAL(text, "10.7.0.1");
	CU_ASSERT_EQUAL(sf_address(1, text, sizeof(text)), -1);
	CU_ASSERT(harness_failed(ENOENT, "no clone 1"));
	/* what the host wrote for the last operation comes before what can be reckoned */
	double_set(0, "snowflock/count", "300");
	CU_ASSERT_EQUAL(sf_address(260, text, sizeof(text)), 0);
	CU_ASSERT_STRING_EQUAL(text, "10.7.1.5");
	double_set(0, "snowflock/last-ticket", "4");
	double_set(0, "snowflock/ticket/4/clone/260/address", "10.9.9.9");
	CU_ASSERT_EQUAL(sf_address(260, text, sizeof(text)), 0);
	CU_ASSERT_STRING_EQUAL(text, "10.9.9.9");
	CU_ASSERT_EQUAL(sf_address_ticket(4, 260, text, sizeof(text)), 0);
	CU_ASSERT_STRING_EQUAL(text, "10.9.9.9");
	CU_ASSERT_EQUAL(sf_address_ticket(5, 260, text, sizeof(text)), -1);
	CU_ASSERT(harness_failed(ENOENT, "ticket 5 has no clone 260"));
	CU_ASSERT_EQUAL(sf_address(0, text, 8), -1);
	CU_ASSERT(harness_failed(ENOSPC, "8 bytes"));
	CU_ASSERT_EQUAL(sf_address(301, text, sizeof(text)), -1);
	CU_ASSERT(harness_failed(ENOENT, "no clone 301"));
	double_set(0, "snowflock/net", NULL);
	CU_ASSERT_EQUAL(sf_address(0, text, sizeof(text)), -1);
	CU_ASSERT(harness_failed(ENOENT, "no network"));
}

/* ---- clone ---- */

static void parent_gets_0_and_leaves_nothing(void)
{
	CU_ASSERT_EQUAL(sf_clone(2), 0);
	CU_ASSERT_EQUAL(sf_count(), 2);
	CU_ASSERT_EQUAL(double_count("ticket 2"), 1);
	CU_ASSERT_EQUAL(double_count("clone 1"), 1);
	CU_ASSERT_EQUAL(double_arrived(), 0);
	CU_ASSERT_EQUAL(double_leftovers(), 0);
}

static void fewer_clones_than_asked_is_no_error(void)
{
	CU_ASSERT_EQUAL(sf_clone(DOUBLE_ROOM + 5), 0);
	CU_ASSERT_EQUAL(sf_count(), DOUBLE_ROOM);
	CU_ASSERT_EQUAL(sf_ticket_granted(sf_last_ticket()), DOUBLE_ROOM);
}

static void clone_gets_its_id_and_arrives(void)
{
	double_answer("clone ", "ok 2 3");
	CU_ASSERT_EQUAL(sf_clone(3), 2);
	CU_ASSERT_EQUAL(double_arrived(), 2);
	CU_ASSERT_EQUAL(double_leftovers(), 0);
	/* the tickets are the parent's */
	CU_ASSERT_EQUAL(sf_join(), -1);
	CU_ASSERT(harness_failed(ECHILD, "no clones"));
}

static void clone_works_without_its_agent(void)
{
	double_answer("clone ", "ok 1 3");
	double_agent(-1);
	CU_ASSERT_EQUAL(sf_clone(3), 1);
}

/* Clones twice, with standard error in a pipe. Return: how many of its lines tell of the module. */
static int clone_twice(void *quiet)
{
	char text[4096] = "";
	int pipe_fds[2], lines = 0;

	if (pipe(pipe_fds) || dup2(pipe_fds[1], STDERR_FILENO) < 0)
		return 99;
	if (quiet)
		setenv("SF_QUIET", "1", 1);
	if (sf_clone(1) || sf_clone(1) || write(STDERR_FILENO, "end", 3) != 3 ||
	    read(pipe_fds[0], text, sizeof(text) - 1) < 0)
		return 98;
	for (const char *at = text; (at = strstr(at, "without its kernel module")); at++)
		lines++;
	return lines;
}

static void a_missing_module_is_told_once(void)
{
	CU_ASSERT_EQUAL(harness_in_vm(0, clone_twice, NULL), 0);
	double_module(false);
	CU_ASSERT_EQUAL(harness_in_vm(0, clone_twice, NULL), 1);
	CU_ASSERT_EQUAL(harness_in_vm(0, clone_twice, "quiet"), 0);
}

static void bad_counts_are_refused_here(void)
{
	CU_ASSERT_EQUAL(sf_clone(0), -1);
	CU_ASSERT(harness_failed(EINVAL, "0 clones"));
	CU_ASSERT_EQUAL(sf_clone(1025), -1);
	CU_ASSERT(harness_failed(EINVAL, "1 to 1024"));
	CU_ASSERT_EQUAL(double_count(""), 0);
}

static const struct {
	const char *answer;
	int number;
	const char *sentence;
} refusals[] = {
	{ "error EBUSY another clone is under way", EBUSY, "another clone is under way" },
	{ "error ENOSPC no host has room", ENOSPC, "no host has room" },
	{ "error ENOTSUP a clone cannot clone", ENOTSUP, "a clone cannot clone" },
	{ "error EHOSTDOWN h3 was lost", EHOSTDOWN, "h3 was lost" },
	{ "error ETIMEDOUT the agent", ETIMEDOUT, "the agent" },
	{ "error EDQUOT too many", EDQUOT, "too many" },
	{ "error ECANCELED not yours", ECANCELED, "not yours" },
	{ "error EIO", EIO, "did not say why" },
	{ "error EFROB what is that", EIO, "what is that" },
	{ "nonsense", EPROTO, "nonsense" },
	{ "ok", EPROTO, "lacks a number" },
	{ "ok 1", EPROTO, "lacks a number" },
	{ "ok -1 3", EPROTO, "lacks a number" },
	{ "ok 99999999999 3", EPROTO, "lacks a number" },
};

static void refusals_are_errno_and_sentence(void)
{
	for (unsigned i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++) {
		double_answer("clone ", refusals[i].answer);
		double_forget();
		CU_ASSERT_EQUAL(sf_clone(1), -1);
		CU_ASSERT(harness_failed(refusals[i].number, refusals[i].sentence));
		/* the ticket is not kept */
		CU_ASSERT_EQUAL(double_count("release "), 1);
	}
	double_answer("ticket ", "error ENOSPC no host has room");
	double_forget();
	CU_ASSERT_EQUAL(sf_clone(1), -1);
	CU_ASSERT(harness_failed(ENOSPC, "no host has room"));
	CU_ASSERT_EQUAL(double_count("clone "), 0);
	CU_ASSERT_EQUAL(double_leftovers(), 0);
}

static void *clone_once(void *result)
{
	*(int *)result = sf_clone(1) ? errno : 0;
	return NULL;
}

/* True if this process uses next to no processor time for `ms`. */
static bool is_idle(int ms)
{
	struct timespec before, after;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &before);
	poll(NULL, 0, ms);
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &after);
	return (after.tv_sec - before.tv_sec) * 1000 + (after.tv_nsec - before.tv_nsec) / 1000000 <
	       ms / 10;
}

/* Its agent has ended, too, as it waits. */
static void second_clone_at_once_is_ebusy(void)
{
	pthread_t thread;
	int first = -1;

	double_answer("clone ", ""); /* it hangs */
	CU_ASSERT_FATAL(!pthread_create(&thread, NULL, clone_once, &first));
	CU_ASSERT_FATAL(double_await("clone ", 1));
	CU_ASSERT_EQUAL(sf_clone(1), -1);
	CU_ASSERT(harness_failed(EBUSY, "another thread"));
	/* who waits for its clone holds up nobody */
	CU_ASSERT_EQUAL(sf_id(), 0);
	CU_ASSERT(is_idle(300));
	double_answer_late("ok 0 1");
	pthread_join(thread, NULL);
	CU_ASSERT_EQUAL(first, 0);
	/* and then there is no other */
	double_answer("clone ", NULL);
	CU_ASSERT_EQUAL(sf_clone(1), 0);
	CU_ASSERT_EQUAL(double_leftovers(), 0);
}

/* ---- handlers ---- */

static char trace[64];

static void note(char c)
{
	size_t used = strlen(trace);

	if (used + 1 < sizeof(trace)) {
		trace[used] = c;
		trace[used + 1] = 0;
	}
}

static void prepare_1(void)
{
	note('a');
}

static void prepare_2(void)
{
	note('b');
}

static void parent_1(void)
{
	note('p');
}

static void parent_2(void)
{
	note('q');
}

static void child_1(void)
{
	note('x');
}

/* handlers of a clone run before it tells that it has arrived */
static void child_2(void)
{
	note(double_arrived() ? '!' : 'y');
}

static void handlers_run_around_a_clone(void)
{
	int checkpoint;

	CU_ASSERT_EQUAL_FATAL(sf_atclone(prepare_1, parent_1, child_1), 0);
	CU_ASSERT_EQUAL_FATAL(sf_atclone(prepare_2, parent_2, child_2), 0);
	CU_ASSERT_EQUAL_FATAL(sf_atclone(NULL, NULL, NULL), 0);
	CU_ASSERT_EQUAL(sf_clone(1), 0);
	CU_ASSERT_STRING_EQUAL(trace, "bapq");
	trace[0] = 0;
	double_answer("clone ", "ok 1 1");
	CU_ASSERT_EQUAL(sf_clone(1), 1);
	CU_ASSERT_STRING_EQUAL(trace, "baxy");
	trace[0] = 0;
	double_answer("clone ", "error EIO no");
	CU_ASSERT_EQUAL(sf_clone(1), -1);
	CU_ASSERT_STRING_EQUAL(trace, "bapq");
	trace[0] = 0;
	double_answer("checkpoint", "ok 4 1 2");
	double_forget();
	CU_ASSERT_EQUAL(sf_checkpoint_parent(&checkpoint), 1);
	CU_ASSERT_STRING_EQUAL(trace, "baxy");
	trace[0] = 0;
	CU_ASSERT_EQUAL(sf_clone(0), -1);
	CU_ASSERT_STRING_EQUAL(trace, "");
}

/* ---- checkpoints ---- */

static void checkpoint_and_clones_of_it(void)
{
	int checkpoint = 0, ticket;

	CU_ASSERT_EQUAL(sf_checkpoint_parent(&checkpoint), 0);
	CU_ASSERT_EQUAL(checkpoint, 1);
	ticket = sf_request_ticket(2, NULL);
	CU_ASSERT_EQUAL(sf_create_clones(checkpoint, ticket), 2);
	CU_ASSERT_EQUAL(sf_create_clones(checkpoint + 5, ticket), -1);
	CU_ASSERT(harness_failed(ENOENT, "no checkpoint 6"));
	CU_ASSERT_EQUAL(sf_checkpoint_free(checkpoint), 0);
	CU_ASSERT_EQUAL(double_count("drop 1"), 1);
	CU_ASSERT_EQUAL(sf_checkpoint_parent(NULL), -1);
	CU_ASSERT(harness_failed(EINVAL, "no place"));
	CU_ASSERT_EQUAL(double_leftovers(), 0);
}

static void checkpoint_comes_back_in_its_clones(void)
{
	int checkpoint = 0;

	double_answer("checkpoint", "ok 5 3 3");
	CU_ASSERT_EQUAL(sf_checkpoint_parent(&checkpoint), 3);
	CU_ASSERT_EQUAL(checkpoint, 5);
	CU_ASSERT_EQUAL(double_arrived(), 3);
	double_set(0, "snowflock/id", "3");
	CU_ASSERT_EQUAL(sf_checkpoint_free(checkpoint), 0);
	CU_ASSERT_EQUAL(double_count("drop"), 0);
}

/* ---- the end ---- */

static int exit_with(void *arg)
{
	printf("%s", (const char *)arg); /* no newline: it waits in stdio's buffer */
	sf_exit(3);
}

static void exit_ends_a_clone(void)
{
	char text[32] = "";
	struct sf_status end;
	int out[2], saved, status;

	CU_ASSERT_EQUAL_FATAL(sf_clone(2), 0);
	CU_ASSERT_FATAL(!pipe(out));
	fflush(stdout);
	saved = dup(STDOUT_FILENO);
	dup2(out[1], STDOUT_FILENO);
	/* the double ends a VM as its host would: in the middle of what it does */
	status = harness_in_vm(2, exit_with, "last words");
	dup2(saved, STDOUT_FILENO);
	close(saved);
	close(out[1]);
	CU_ASSERT_EQUAL(status, 128 + SIGKILL);
	CU_ASSERT_EQUAL(read(out[0], text, sizeof(text) - 1), 10);
	CU_ASSERT_STRING_EQUAL(text, "last words");
	close(out[0]);
	CU_ASSERT_EQUAL(sf_status(2, &end), 0);
	CU_ASSERT_EQUAL(end.state, SF_STATE_EXITED);
	CU_ASSERT_EQUAL(end.status, 3);
}

static int quiet_exit(void *arg)
{
	if (!freopen("/dev/null", "w", stderr))
		return 99;
	sf_exit(*(int *)arg);
}

static void exit_in_the_parent_ends_the_process_alone(void)
{
	int status = 7;

	CU_ASSERT_EQUAL(harness_in_vm(0, quiet_exit, &status), 7);
	CU_ASSERT_EQUAL(double_count("exit 7"), 1);
	status = 256 + 9;
	CU_ASSERT_EQUAL(harness_in_vm(0, quiet_exit, &status), 9);
	CU_ASSERT_EQUAL(double_count("exit 9"), 1);
	CU_ASSERT_EQUAL(sf_id(), 0);
}

/* ---- processes and threads ---- */

static int child_process(void *arg)
{
	(void)arg;
	if (sf_id() != 1)
		return 1;
	if (sf_join() != -1 || errno != ECHILD)
		return 2;
	return sf_count() == 1 ? 0 : 3;
}

static int grandchild(void *arg)
{
	return harness_in_vm(1, child_process, arg);
}

static void fork_begins_anew(void)
{
	CU_ASSERT_EQUAL_FATAL(sf_clone(1), 0);
	/* who gets the other VM's answers does not use this process's connection */
	CU_ASSERT_EQUAL(harness_in_vm(1, child_process, NULL), 0);
	CU_ASSERT_EQUAL(harness_in_vm(0, grandchild, NULL), 0);
	CU_ASSERT_EQUAL(sf_id(), 0);
	CU_ASSERT_EQUAL(double_leftovers(), 0);
}

static void *call_much(void *arg)
{
	char text[SF_ADDRESS_BYTES];
	long bad = 0;

	for (unsigned i = 0; i < 50; i++) {
		unsigned id = 1000 + (unsigned)(long)arg;
		char want[32];

		bad += sf_id() != 0;
		snprintf(want, sizeof(want), "no clone %u", id);
		bad += sf_address(id, text, sizeof(text)) != -1 || !strstr(sf_error(), want);
		bad += sf_request_ticket(1, NULL) < 1;
	}
	return (void *)bad;
}

static void threads_do_not_disturb_each_other(void)
{
	struct sigaction before = { .sa_handler = SIG_DFL }, after;
	pthread_t threads[6];
	long bad = 0;

	sigaction(SIGPIPE, &before, NULL);
	for (long i = 0; i < 6; i++)
		CU_ASSERT_FATAL(!pthread_create(&threads[i], NULL, call_much, (void *)i));
	for (unsigned i = 0; i < 6; i++) {
		void *result;

		pthread_join(threads[i], &result);
		bad += (long)result;
	}
	CU_ASSERT_EQUAL(bad, 0);
	CU_ASSERT_EQUAL(double_count("ticket 1"), 300);
	CU_ASSERT_EQUAL(double_leftovers(), 0);
	/* libxenstore sets SIGPIPE aside for each exchange; it must be back */
	sigaction(SIGPIPE, NULL, &after);
	CU_ASSERT(after.sa_handler == SIG_DFL);
}

static void a_new_agent_goes_unnoticed(void)
{
	CU_ASSERT_EQUAL(sf_id(), 0);
	double_drop();
	CU_ASSERT_EQUAL(sf_id(), 0);
	double_drop();
	CU_ASSERT_EQUAL(sf_clone(1), 0);
}

static CU_TestInfo outside_tests[] = {
	{ "no XenStore is ENODEV", no_xenstore_is_enodev },
	{ "XenStore of another host is ENOSYS", xenstore_of_another_host_is_enosys },
	CU_TEST_INFO_NULL
};
static CU_TestInfo tests[] = {
	{ "id and count are the tree's", id_and_count_are_the_trees },
	{ "addresses of parent and clones", addresses_of_parent_and_clones },
	{ "parent gets 0 and leaves nothing", parent_gets_0_and_leaves_nothing },
	{ "fewer clones than asked is no error", fewer_clones_than_asked_is_no_error },
	{ "clone gets its id and arrives", clone_gets_its_id_and_arrives },
	{ "clone works without its agent", clone_works_without_its_agent },
	{ "a missing module is told once", a_missing_module_is_told_once },
	{ "bad counts are refused here", bad_counts_are_refused_here },
	{ "refusals are errno and sentence", refusals_are_errno_and_sentence },
	{ "checkpoint and clones of it", checkpoint_and_clones_of_it },
	{ "checkpoint comes back in its clones", checkpoint_comes_back_in_its_clones },
	{ "exit ends a clone", exit_ends_a_clone },
	{ "exit in the parent ends the process alone", exit_in_the_parent_ends_the_process_alone },
	{ "fork begins anew", fork_begins_anew },
	{ "threads do not disturb each other", threads_do_not_disturb_each_other },
	{ "a new agent goes unnoticed", a_new_agent_goes_unnoticed },
	{ "handlers run around a clone", handlers_run_around_a_clone },
	{ "second clone at once is EBUSY", second_clone_at_once_is_ebusy },
	CU_TEST_INFO_NULL
};

int main(void)
{
	CU_SuiteInfo suites[] = {
		{ "outside", NULL, NULL, NULL, NULL, outside_tests },
		{ "clone", NULL, NULL, harness_set_up, harness_tear_down, tests },
		CU_SUITE_INFO_NULL
	};

	return harness_main(suites);
}
