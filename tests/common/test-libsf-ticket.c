/* SPDX-License-Identifier: GPL-2.0-or-later */
/* libsf: tickets, waiting for clones, how they ended and what they brought. */
#include "config.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <unistd.h>

#include "common/io.h"
#include "libsf/sf.h"
#include "proto/agent-port.h"
#include "proto/agent-socket.h"
#include "proto/xenstore-tree.h"
#include "tests/common/harness.h"

/* Well below the time after which libsf looks without having been told. */
#define PROMPT_NS 2000000000ull

/* ---- tickets ---- */

static void hints_are_in_the_request(void)
{
	struct sf_hints hints = SF_HINTS_INIT;

	CU_ASSERT(sf_request_ticket(3, NULL) > 0);
	CU_ASSERT_EQUAL(double_count("ticket 3"), 1);
	hints.vcpus = 2;
	hints.per_host = 3;
	hints.min = 1;
	CU_ASSERT(sf_request_ticket(3, &hints) > 0);
	CU_ASSERT_EQUAL(double_count("ticket 3 vcpus=2 per-host=3 min=1"), 1);
	hints.vcpus = hints.per_host = 0;
	double_forget();
	CU_ASSERT(sf_request_ticket(3, &hints) > 0);
	CU_ASSERT_EQUAL(double_count("ticket 3 min=1"), 1);
	hints.min = 4;
	CU_ASSERT_EQUAL(sf_request_ticket(3, &hints), -1);
	CU_ASSERT(harness_failed(EINVAL, "at least 4 of 3"));
}

static void hints_of_other_versions(void)
{
	struct {
		struct sf_hints known;
		unsigned future;
	} larger = { .known = SF_HINTS_INIT };
	struct sf_hints older = { .size = offsetof(struct sf_hints, min), .vcpus = 2, .min = 1000 };

	larger.known.size = sizeof(larger);
	CU_ASSERT(sf_request_ticket(1, &larger.known) > 0);
	larger.future = 1;
	CU_ASSERT_EQUAL(sf_request_ticket(1, &larger.known), -1);
	CU_ASSERT(harness_failed(E2BIG, "does not know"));
	/* what is behind the size that a caller knows is not looked at */
	CU_ASSERT(sf_request_ticket(1, &older) > 0);
	CU_ASSERT_EQUAL(double_count("ticket 1 vcpus=2"), 1);
	CU_ASSERT_EQUAL(double_count("ticket 1 vcpus=2 "), 0);
	older.size = 0;
	CU_ASSERT_EQUAL(sf_request_ticket(1, &older), -1);
	CU_ASSERT(harness_failed(EINVAL, "SF_HINTS_INIT"));
}

static void ticket_is_good_for_one_operation(void)
{
	int ticket = sf_request_ticket(2, NULL);

	CU_ASSERT_EQUAL(sf_ticket_granted(ticket), 2);
	CU_ASSERT_EQUAL(sf_last_ticket(), -1);
	CU_ASSERT(harness_failed(ECHILD, "no clones"));
	CU_ASSERT_EQUAL(sf_clone_ticket(ticket), 0);
	CU_ASSERT_EQUAL(sf_last_ticket(), ticket);
	CU_ASSERT_EQUAL(sf_clone_ticket(ticket), -1);
	CU_ASSERT(harness_failed(EBUSY, "has been used"));
	CU_ASSERT_EQUAL(sf_clone_ticket(ticket + 1), -1);
	CU_ASSERT(harness_failed(ENOENT, "no ticket"));
	CU_ASSERT_EQUAL(sf_ticket_granted(ticket + 1), -1);
	CU_ASSERT(harness_failed(ENOENT, "no ticket"));
	CU_ASSERT_EQUAL(sf_ticket_free(ticket), -1);
	CU_ASSERT(harness_failed(EBUSY, "live"));
	CU_ASSERT_EQUAL(sf_kill_ticket(ticket), 0);
	CU_ASSERT_EQUAL(sf_ticket_free(ticket), 0);
	CU_ASSERT_EQUAL(sf_ticket_free(ticket), -1);
	CU_ASSERT(harness_failed(ENOENT, "no ticket"));
}

/* ---- join ---- */

struct waiter {
	pthread_t thread;
	int ticket; /* 0: sf_join() */
	int rc, number;
	_Atomic uint64_t end_ns;
};

static void *wait_in_thread(void *arg)
{
	struct waiter *w = arg;

	w->rc = w->ticket ? sf_join_ticket(w->ticket) : sf_join();
	w->number = errno;
	w->end_ns = io_now_ns();
	return NULL;
}

/* Starts a thread that joins, and waits until it does. */
static void start_waiter(struct waiter *w, int ticket)
{
	*w = (struct waiter){ .ticket = ticket };
	if (pthread_create(&w->thread, NULL, wait_in_thread, w))
		abort();
	CU_ASSERT(double_await_watches(2));
}

static void join_waits_for_the_last(void)
{
	struct waiter w;
	uint64_t ended_ns;

	CU_ASSERT_EQUAL_FATAL(sf_clone(2), 0);
	start_waiter(&w, 0);
	double_end_clone(1, 2, SF_CLONE_EXITED, 0, NULL);
	CU_ASSERT_EQUAL(sf_id(), 0); /* who waits holds up nobody */
	CU_ASSERT_EQUAL(w.end_ns, 0);
	ended_ns = io_now_ns();
	double_end_clone(1, 1, SF_CLONE_LOST, 0, "h2 does not answer");
	pthread_join(w.thread, NULL);
	CU_ASSERT_EQUAL(w.rc, 0);
	CU_ASSERT(w.end_ns - ended_ns < PROMPT_NS);
	CU_ASSERT_EQUAL(double_leftovers(), 0);
	CU_ASSERT_EQUAL(sf_join(), -1);
	CU_ASSERT(harness_failed(ECHILD, "no clones to wait for"));
}

static void join_without_clones_is_echild(void)
{
	CU_ASSERT_EQUAL(sf_join(), -1);
	CU_ASSERT(harness_failed(ECHILD, "no clones to wait for"));
	CU_ASSERT_EQUAL(sf_join_ticket(sf_request_ticket(1, NULL)), -1);
	CU_ASSERT(harness_failed(ECHILD, "no clones yet"));
	CU_ASSERT_EQUAL(sf_join_ticket(77), -1);
	CU_ASSERT(harness_failed(ENOENT, "no ticket 77"));
	CU_ASSERT_EQUAL(sf_wait_any(sf_request_ticket(1, NULL), 0), -1);
	CU_ASSERT(harness_failed(ECHILD, "no clones yet"));
	CU_ASSERT_EQUAL(sf_wait_any(77, 0), -1);
	CU_ASSERT(harness_failed(ENOENT, "no ticket 77"));
	CU_ASSERT_EQUAL(sf_wait_any(0, 0), -1);
	CU_ASSERT(harness_failed(ENOENT, "no ticket 0"));
	CU_ASSERT_EQUAL(double_leftovers(), 0);
}

static void join_waits_for_every_clone_operation(void)
{
	struct sf_status status;
	struct waiter w;

	CU_ASSERT_EQUAL_FATAL(sf_clone(1), 0);
	double_forget(); /* the ticket of the test before was given back */
	CU_ASSERT_EQUAL_FATAL(sf_clone(1), 0);
	CU_ASSERT_EQUAL_FATAL(sf_clone(1), 0);
	double_end_clone(3, 1, SF_CLONE_EXITED, 33, NULL);
	double_end_clone(1, 1, SF_CLONE_EXITED, 11, NULL);
	start_waiter(&w, 0);
	double_end_clone(2, 1, SF_CLONE_EXITED, 22, NULL);
	pthread_join(w.thread, NULL);
	CU_ASSERT_EQUAL(w.rc, 0);
	/* the last one's clones can still be asked for, the others are given back */
	CU_ASSERT_EQUAL(sf_status(1, &status), 0);
	CU_ASSERT_EQUAL(status.status, 33);
	CU_ASSERT_EQUAL(double_count("release 1"), 1);
	CU_ASSERT_EQUAL(double_count("release 2"), 1);
	CU_ASSERT_EQUAL(double_count("release 3"), 0);
	/* until the next clone */
	CU_ASSERT_EQUAL(sf_clone(1), 0);
	CU_ASSERT_EQUAL(double_count("release 3"), 1);
	double_end_clone(4, 1, SF_CLONE_EXITED, 0, NULL);
	CU_ASSERT_EQUAL(sf_join(), 0);
}

static void thread_that_waits_in_a_clone_is_told(void)
{
	uint64_t cloned_ns;
	struct waiter w;

	CU_ASSERT_EQUAL_FATAL(sf_clone(1), 0);
	start_waiter(&w, 0);
	cloned_ns = io_now_ns();
	double_set(0, "snowflock/ticket/1", NULL);
	double_set(0, "snowflock/id", "5");
	pthread_join(w.thread, NULL);
	CU_ASSERT_EQUAL(w.rc, -1);
	CU_ASSERT_EQUAL(w.number, ECHILD);
	CU_ASSERT(w.end_ns - cloned_ns < PROMPT_NS);
	CU_ASSERT_EQUAL(sf_join(), -1);
	CU_ASSERT(harness_failed(ECHILD, "no clones"));
	CU_ASSERT_EQUAL(sf_wait_any(1, -1), -1);
	CU_ASSERT(harness_failed(ECHILD, "is clone 5"));
}

static void join_outlives_a_broken_connection(void)
{
	struct waiter w;

	CU_ASSERT_EQUAL_FATAL(sf_clone(1), 0);
	start_waiter(&w, 0);
	double_drop();
	CU_ASSERT(double_await_watches(2));
	double_end_clone(1, 1, SF_CLONE_EXITED, 0, NULL);
	pthread_join(w.thread, NULL);
	CU_ASSERT_EQUAL(w.rc, 0);
}

static void on_alarm(int number)
{
	(void)number;
}

/* SIGALRM every 5 ms from now on, which a handler takes; or (false) no more. */
static void alarms(bool on)
{
	struct sigaction action = { .sa_handler = on ? on_alarm : SIG_IGN };
	struct itimerval every = { 0 };

	if (on)
		every.it_interval.tv_usec = every.it_value.tv_usec = 5000;
	sigaction(SIGALRM, &action, NULL);
	setitimer(ITIMER_REAL, &every, NULL);
}

static void signals_interrupt_waiting_for_any_only(void)
{
	struct waiter w;

	CU_ASSERT_EQUAL_FATAL(sf_clone(1), 0);
	start_waiter(&w, 0);
	for (unsigned i = 0; i < 20; i++)
		pthread_kill(w.thread, SIGALRM);
	alarms(true);
	CU_ASSERT_EQUAL(sf_wait_any(1, -1), -1);
	CU_ASSERT(harness_failed(EINTR, ""));
	CU_ASSERT_EQUAL(w.end_ns, 0);
	double_end_clone(1, 1, SF_CLONE_EXITED, 0, NULL);
	pthread_join(w.thread, NULL);
	alarms(false);
	CU_ASSERT_EQUAL(w.rc, 0);
}

/* ---- sf_wait_any() ---- */

static void wait_any_tells_each_once(void)
{
	int ticket;

	CU_ASSERT_EQUAL_FATAL(sf_clone(3), 0);
	ticket = sf_last_ticket();
	CU_ASSERT_EQUAL(sf_wait_any(ticket, 0), -1);
	CU_ASSERT(harness_failed(ETIMEDOUT, "in time"));
	CU_ASSERT_EQUAL(sf_wait_any(ticket, 30), -1);
	CU_ASSERT(harness_failed(ETIMEDOUT, "in time"));
	double_end_clone(1, 2, SF_CLONE_EXITED, 0, NULL);
	CU_ASSERT_EQUAL(sf_wait_any(ticket, -1), 2);
	CU_ASSERT_EQUAL(sf_wait_any(ticket, 0), -1);
	double_end_clone(1, 3, SF_CLONE_KILLED, 0, "why not");
	double_drop();
	CU_ASSERT_EQUAL(sf_wait_any(ticket, -1), 3);
	double_end_clone(1, 1, SF_CLONE_EXITED, 0, NULL);
	CU_ASSERT_EQUAL(sf_wait_any(ticket, -1), 1);
	CU_ASSERT_EQUAL(sf_wait_any(ticket, -1), 0);
	CU_ASSERT_EQUAL(double_leftovers(), 0);
	CU_ASSERT_EQUAL(sf_wait_any(ticket, -1), 1);
	CU_ASSERT_EQUAL(sf_wait_any(ticket, -1), 2);
	CU_ASSERT_EQUAL(sf_wait_any(ticket, -1), 3);
	CU_ASSERT_EQUAL(sf_wait_any(ticket, -1), 0);
	CU_ASSERT_EQUAL(sf_join(), 0);
}

static void *wait_any_in_thread(void *arg)
{
	struct waiter *w = arg;

	w->rc = sf_wait_any(w->ticket, -1);
	w->end_ns = io_now_ns();
	return NULL;
}

static void wait_any_is_told_by_an_event(void)
{
	struct waiter w = { .ticket = 1 };
	uint64_t ended_ns;

	CU_ASSERT_EQUAL_FATAL(sf_clone(2), 0);
	CU_ASSERT_FATAL(!pthread_create(&w.thread, NULL, wait_any_in_thread, &w));
	CU_ASSERT(double_await_watches(2));
	CU_ASSERT_EQUAL(sf_wait_any(1, -1), -1);
	CU_ASSERT(harness_failed(EBUSY, "another thread"));
	ended_ns = io_now_ns();
	double_end_clone(1, 2, SF_CLONE_FAILED, 0, "no memory on h3");
	pthread_join(w.thread, NULL);
	CU_ASSERT_EQUAL(w.rc, 2);
	CU_ASSERT(w.end_ns - ended_ns < PROMPT_NS);
	CU_ASSERT_EQUAL(sf_kill_ticket(1), 0);
	CU_ASSERT_EQUAL(sf_join(), 0);
}

/* ---- status and results ---- */

static void status_says_how_each_ended(void)
{
	struct sf_status status;

	CU_ASSERT_EQUAL_FATAL(sf_clone(3), 0);
	CU_ASSERT_EQUAL(sf_status(1, &status), 0);
	CU_ASSERT_EQUAL(status.state, SF_STATE_RUNNING);
	CU_ASSERT(!SF_STATE_ENDED(status.state));
	CU_ASSERT_EQUAL(status.status, -1);
	CU_ASSERT_STRING_EQUAL(status.host, "h2");
	double_end_clone(1, 1, SF_CLONE_EXITED, 255, NULL);
	double_end_clone(1, 2, SF_CLONE_LOST, 0, "h2 does not answer");
	double_end_clone(1, 3, SF_CLONE_FAILED, 0, "no memory");
	CU_ASSERT_EQUAL(sf_status(1, &status), 0);
	CU_ASSERT_EQUAL(status.state, SF_STATE_EXITED);
	CU_ASSERT_EQUAL(status.status, 255);
	CU_ASSERT_EQUAL(status.result_bytes, -1);
	CU_ASSERT_STRING_EQUAL(status.reason, "");
	CU_ASSERT_EQUAL(sf_status(2, &status), 0);
	CU_ASSERT_EQUAL(status.state, SF_STATE_LOST);
	CU_ASSERT_EQUAL(status.status, -1);
	CU_ASSERT_STRING_EQUAL(status.reason, "h2 does not answer");
	CU_ASSERT_EQUAL(sf_status_ticket(1, 3, &status), 0);
	CU_ASSERT_EQUAL(status.state, SF_STATE_FAILED);
	CU_ASSERT(SF_STATE_ENDED(status.state));
	CU_ASSERT_EQUAL(sf_status(4, &status), -1);
	CU_ASSERT(harness_failed(ENOENT, "no clone 4"));
	CU_ASSERT_EQUAL(sf_status(0, &status), -1);
	CU_ASSERT(harness_failed(ENOENT, "no clone 0"));
	CU_ASSERT_EQUAL(sf_status(1, NULL), -1);
	CU_ASSERT(harness_failed(EINVAL, "no place"));
	double_set(0, "snowflock/ticket/1/clone/1/state", "dancing");
	CU_ASSERT_EQUAL(sf_status(1, &status), -1);
	CU_ASSERT(harness_failed(EPROTO, "dancing"));
	double_set(0, "snowflock/ticket/1/clone/1/state", SF_CLONE_STARTING);
	CU_ASSERT_EQUAL(sf_status(1, &status), 0);
	CU_ASSERT_EQUAL(status.state, SF_STATE_STARTING);
	CU_ASSERT_EQUAL(sf_join(), 0);
}

static int give_result(void *arg)
{
	if (sf_set_result("first", 5))
		return 1;
	if (sf_set_result(arg, 12))
		return 2;
	sf_exit(0);
}

static void result_of_a_clone_reaches_the_parent(void)
{
	struct sf_status status;
	size_t len = 0;
	char *data;

	CU_ASSERT_EQUAL_FATAL(sf_clone(3), 0);
	CU_ASSERT_PTR_NULL(sf_result(2, &len));
	CU_ASSERT(harness_failed(EAGAIN, "has not ended"));
	CU_ASSERT_EQUAL(harness_in_vm(2, give_result, "zero\0and all"), 128 + SIGKILL);
	data = sf_result(2, &len);
	CU_ASSERT_PTR_NOT_NULL_FATAL(data);
	CU_ASSERT_EQUAL(len, 12);
	CU_ASSERT(!memcmp(data, "zero\0and all\0", 13));
	free(data);
	data = sf_result_ticket(1, 2, NULL);
	CU_ASSERT_PTR_NOT_NULL(data);
	free(data);
	CU_ASSERT_EQUAL(sf_status(2, &status), 0);
	CU_ASSERT_EQUAL(status.result_bytes, 12);
	double_end_clone(1, 1, SF_CLONE_EXITED, 0, NULL);
	CU_ASSERT_PTR_NULL(sf_result(1, &len));
	CU_ASSERT(harness_failed(ENODATA, "without a result"));
	CU_ASSERT_PTR_NULL(sf_result(9, &len));
	CU_ASSERT(harness_failed(ENOENT, "no clone 9"));
	CU_ASSERT_EQUAL(sf_kill_ticket(1), 0);
	CU_ASSERT_EQUAL(sf_join(), 0);
	CU_ASSERT_EQUAL(double_count("joined 1"), 1);
	/* it goes with the ticket, also from the VM's memory */
	CU_ASSERT_EQUAL(access(AGENT_RESULT_DIR "/1.2", F_OK), 0);
	CU_ASSERT_EQUAL(sf_ticket_free(1), 0);
	CU_ASSERT_NOT_EQUAL(access(AGENT_RESULT_DIR "/1.2", F_OK), 0);
	CU_ASSERT_PTR_NULL(sf_result(2, &len));
	CU_ASSERT(harness_failed(ENOENT, "no clone 2"));
}

static void result_of_the_parent_is_eperm(void)
{
	CU_ASSERT_EQUAL(sf_set_result("x", 1), -1);
	CU_ASSERT(harness_failed(EPERM, "no clone"));
}

static int refused_results(void *arg)
{
	int memory = memfd_create("test", 0), ends[2];

	(void)arg;
	if (sf_set_result("x", AGENT_MAX_RESULT + 1) != -1 || !harness_failed(EFBIG, "at most"))
		return 1;
	if (ftruncate(memory, (off_t)AGENT_MAX_RESULT + 1) || sf_set_result_fd(memory) != -1 ||
	    !harness_failed(EFBIG, "at most"))
		return 2;
	if (pipe(ends) || sf_set_result_fd(ends[0]) != -1 || !harness_failed(EINVAL, "neither"))
		return 3;
	if (sf_set_result_fd(-1) != -1 || !harness_failed(EBADF, "file"))
		return 4;
	if (ftruncate(memory, 3) || sf_set_result_fd(memory))
		return 5;
	return 0;
}

static int refused_by_agent(void *number)
{
	return sf_set_result("x", 1) == -1 && harness_failed(*(int *)number, "agent") ? 0 : 1;
}

static void results_that_cannot_be_sent(void)
{
	int number = EPERM;
	char byte[8];

	CU_ASSERT_EQUAL(harness_in_vm(1, refused_results, NULL), 0);
	CU_ASSERT_EQUAL(double_result(1, byte, sizeof(byte)), 3);
	double_agent(EPERM);
	CU_ASSERT_EQUAL(harness_in_vm(1, refused_by_agent, &number), 0);
	double_agent(-1);
	number = ECONNRESET;
	CU_ASSERT_EQUAL(harness_in_vm(1, refused_by_agent, &number), 0);
	unlink(AGENT_SOCKET);
	number = ENODEV;
	CU_ASSERT_EQUAL(harness_in_vm(1, refused_by_agent, &number), 0);
}

static int no_clones_here(void *arg)
{
	struct sf_status status;

	(void)arg;
	if (sf_status(1, &status) != -1 || !harness_failed(ECHILD, "made no clones"))
		return 1;
	if (sf_result(1, NULL) || !harness_failed(ECHILD, "made no clones"))
		return 2;
	return 0;
}

static void status_and_result_without_clones_are_echild(void)
{
	CU_ASSERT_EQUAL(harness_in_vm(0, no_clones_here, NULL), 0);
}

static void kill_ends_what_is_left(void)
{
	struct sf_status status;

	CU_ASSERT_EQUAL_FATAL(sf_clone(2), 0);
	double_answer("kill", "error ENOENT there is no ticket 1");
	CU_ASSERT_EQUAL(sf_kill_ticket(1), -1);
	CU_ASSERT(harness_failed(ENOENT, "no ticket 1"));
	double_answer("kill", NULL);
	CU_ASSERT_EQUAL(sf_kill_ticket(1), 0);
	CU_ASSERT_EQUAL(sf_join(), 0);
	CU_ASSERT_EQUAL(sf_status(2, &status), 0);
	CU_ASSERT_EQUAL(status.state, SF_STATE_KILLED);
	CU_ASSERT_STRING_EQUAL(status.reason, "by sf_kill_ticket()");
}

static CU_TestInfo tests[] = {
	{ "status and result without clones are ECHILD",
	  status_and_result_without_clones_are_echild },
	{ "hints are in the request", hints_are_in_the_request },
	{ "hints of other versions", hints_of_other_versions },
	{ "ticket is good for one operation", ticket_is_good_for_one_operation },
	{ "join waits for the last", join_waits_for_the_last },
	{ "join without clones is ECHILD", join_without_clones_is_echild },
	{ "join waits for every clone operation", join_waits_for_every_clone_operation },
	{ "thread that waits in a clone is told", thread_that_waits_in_a_clone_is_told },
	{ "join outlives a broken connection", join_outlives_a_broken_connection },
	{ "signals interrupt waiting for any only", signals_interrupt_waiting_for_any_only },
	{ "wait_any tells each once", wait_any_tells_each_once },
	{ "wait_any is told by an event", wait_any_is_told_by_an_event },
	{ "status says how each ended", status_says_how_each_ended },
	{ "result of a clone reaches the parent", result_of_a_clone_reaches_the_parent },
	{ "result of the parent is EPERM", result_of_the_parent_is_eperm },
	{ "results that cannot be sent", results_that_cannot_be_sent },
	{ "kill ends what is left", kill_ends_what_is_left },
	CU_TEST_INFO_NULL
};

int main(void)
{
	CU_SuiteInfo suites[] = { { "ticket", NULL, NULL, harness_set_up, harness_tear_down,
				    tests },
				  CU_SUITE_INFO_NULL };

	/* the first alarm of a test may come before its handler */
	signal(SIGALRM, on_alarm);
	return harness_main(suites);
}
