/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Stopping what runs: everything, without a trace, and for ever in a clone. */
#define _GNU_SOURCE
#include "libsf/silence.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/mpi/ground.h"

#define COUNTERS 64
#define HOLD_MS	 100 /* in which what runs on would be seen to */

/* In a page that all share: what each process counts, as a file's would be. */
static struct shared {
	atomic_ulong counts[COUNTERS];
	atomic_uint stops, end, sent, received;
	_Atomic pid_t receiver;
} *shared;

static void block_sigchld(void)
{
	sigset_t child;

	sigemptyset(&child);
	sigaddset(&child, SIGCHLD);
	sigprocmask(SIG_BLOCK, &child, NULL);
}

static void *count_for_ever(void *arg)
{
	for (;;)
		atomic_fetch_add((atomic_ulong *)arg, 1);
	return NULL;
}

static pid_t start(void (*run)(unsigned), unsigned arg)
{
	pid_t pid = fork();

	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		run(arg);
		_exit(0);
	}
	return pid;
}

static void end(pid_t pid)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

static void count(unsigned at)
{
	count_for_ever(&shared->counts[at]);
}

static int counts_on(void *arg)
{
	static unsigned long before;
	unsigned long now = atomic_load((atomic_ulong *)arg);
	int more = before && now != before;

	before = more ? 0 : now;
	return more;
}

static unsigned long sum(void)
{
	unsigned long all = 0;

	for (unsigned i = 0; i < COUNTERS; i++)
		all += atomic_load(&shared->counts[i]);
	return all;
}

/* True if nobody counts for a while. */
static bool is_silent(void)
{
	unsigned long before = sum();

	poll(NULL, 0, HOLD_MS);
	return sum() == before;
}

static void what_counts_stops_and_goes_on(void)
{
	struct silence silence = { 0 };
	pid_t pid = start(count, 0);

	CU_ASSERT(ground_await(counts_on, &shared->counts[0]));
	CU_ASSERT_EQUAL(silence_begin(&silence, 0, 0), 0);
	CU_ASSERT(is_silent());
	CU_ASSERT(silence_end(&silence) >= HOLD_MS * 1000);
	CU_ASSERT_EQUAL(silence.count, 0);
	CU_ASSERT(ground_await(counts_on, &shared->counts[0]));
	silence_fini(&silence);
	end(pid);
}

static void count_in_threads(unsigned at)
{
	pthread_t thread;

	for (unsigned i = 1; i < 4; i++)
		pthread_create(&thread, NULL, count_for_ever, &shared->counts[at + i]);
	count(at);
}

static void every_thread_stops(void)
{
	struct silence silence = { 0 };
	pid_t pid = start(count_in_threads, 1);

	for (unsigned i = 1; i < 5; i++)
		CU_ASSERT(ground_await(counts_on, &shared->counts[i]));
	CU_ASSERT_EQUAL(silence_begin(&silence, 0, 0), 0);
	CU_ASSERT_EQUAL(silence.count, 4);
	CU_ASSERT(is_silent());
	silence_end(&silence);
	silence_fini(&silence);
	end(pid);
}

/* A process that goes on in a child of its own, again and again: none of them is there for long. */
static void run_away(unsigned at)
{
	signal(SIGCHLD, SIG_IGN);
	while (!atomic_load(&shared->end)) {
		atomic_fetch_add(&shared->counts[at], 1);
		if (fork())
			_exit(0);
	}
}

static void what_is_born_meanwhile_stops(void)
{
	pid_t pid = start(run_away, 8);

	waitpid(pid, NULL, 0);
	CU_ASSERT(ground_await(counts_on, &shared->counts[8]));
	for (unsigned i = 0; i < 10; i++) {
		struct silence silence = { 0 };

		CU_ASSERT_EQUAL(silence_begin(&silence, 0, 0), 0);
		CU_ASSERT(is_silent());
		silence_end(&silence);
		silence_fini(&silence);
		CU_ASSERT(ground_await(counts_on, &shared->counts[8]));
	}
	atomic_store(&shared->end, 1);
}

static void on_chld(int signal, siginfo_t *info, void *context)
{
	(void)signal;
	(void)context;
	if (info->si_code == CLD_STOPPED || info->si_code == CLD_CONTINUED)
		atomic_fetch_add(&shared->stops, 1);
}

/* A shell's part: it would hear of a child's stop. */
static void parent_of_counter(unsigned at)
{
	struct sigaction action = { .sa_sigaction = on_chld, .sa_flags = SA_SIGINFO | SA_RESTART };

	sigaction(SIGCHLD, &action, NULL);
	start(count, at);
	for (;;)
		pause();
}

static void no_parent_hears_of_it(void)
{
	struct silence silence = { 0 };
	pid_t pid = start(parent_of_counter, 9);

	CU_ASSERT(ground_await(counts_on, &shared->counts[9]));
	CU_ASSERT_EQUAL(silence_begin(&silence, 0, 0), 0);
	CU_ASSERT_EQUAL(silence.count, 2);
	silence_end(&silence);
	CU_ASSERT(ground_await(counts_on, &shared->counts[9]));
	CU_ASSERT_EQUAL(atomic_load(&shared->stops), 0);
	silence_fini(&silence);
	end(pid);
}

/* The parent of a vfork() cannot stop before its child has become another program. */
static void wait_in_vfork(unsigned at)
{
	for (;;) {
		if (!vfork()) {
			for (volatile unsigned i = 0; i < 3000000; i++)
				;
			execl("/bin/true", "true", NULL);
			_exit(1);
		}
		waitpid(-1, NULL, 0);
		atomic_fetch_add(&shared->counts[at], 1);
	}
}

static void a_vfork_is_no_deadlock(void)
{
	struct silence silence = { 0 };
	pid_t pid = start(wait_in_vfork, 10);

	CU_ASSERT(ground_await(counts_on, &shared->counts[10]));
	for (unsigned i = 0; i < 20; i++) {
		CU_ASSERT_EQUAL(silence_begin(&silence, 0, 0), 0);
		CU_ASSERT(is_silent());
		silence_end(&silence);
		for (unsigned n = 0; silence.count && n < 2000; n++) {
			silence_late(&silence);
			poll(NULL, 0, 1);
		}
		CU_ASSERT_EQUAL(silence.count, 0);
		CU_ASSERT(ground_await(counts_on, &shared->counts[10]));
	}
	silence_fini(&silence);
	end(pid);
}

static void signals_on_their_way_arrive(void)
{
	struct silence silence = { 0 };
	pid_t pid = start(count, 11);
	int status;

	CU_ASSERT(ground_await(counts_on, &shared->counts[11]));
	CU_ASSERT_EQUAL(silence_begin(&silence, 0, 0), 0);
	kill(pid, SIGTERM);
	CU_ASSERT(is_silent());
	CU_ASSERT_EQUAL(kill(pid, 0), 0);
	silence_end(&silence);
	silence_fini(&silence);
	CU_ASSERT_EQUAL(waitpid(pid, &status, 0), pid);
	CU_ASSERT(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
}

static void on_queued(int signal)
{
	(void)signal;
	atomic_fetch_add(&shared->received, 1);
}

static void receive(unsigned unused)
{
	(void)unused;
	signal(SIGRTMIN, on_queued);
	atomic_store(&shared->receiver, getpid());
	for (;;)
		;
}

/* Sends signals that are queued, a few ahead of those that were received, until told to end. */
static void send_signals(unsigned most)
{
	while (!atomic_load(&shared->end)) {
		if (atomic_load(&shared->sent) - atomic_load(&shared->received) >= most)
			continue;
		atomic_fetch_add(&shared->sent, 1);
		sigqueue(atomic_load(&shared->receiver), SIGRTMIN, (union sigval){ 0 });
	}
}

static int all_received(void *arg)
{
	(void)arg;
	return atomic_load(&shared->sent) == atomic_load(&shared->received);
}

static int is_ready(void *arg)
{
	(void)arg;
	return atomic_load(&shared->receiver) != 0;
}

/* A thread may stop where it is about to get a signal. */
static void no_signal_is_lost(void)
{
	pid_t receiver, sender;

	atomic_store(&shared->end, 0);
	receiver = start(receive, 0);
	CU_ASSERT(ground_await(is_ready, NULL));
	sender = start(send_signals, 4);
	for (unsigned i = 0; i < 300; i++) {
		struct silence silence = { 0 };

		CU_ASSERT_EQUAL(silence_begin(&silence, 0, 0), 0);
		silence_end(&silence);
		silence_fini(&silence);
	}
	atomic_store(&shared->end, 1);
	waitpid(sender, NULL, 0);
	CU_ASSERT(atomic_load(&shared->sent) > 30);
	CU_ASSERT(ground_await(all_received, NULL));
	end(receiver);
}

/* A tracer that stops all, and dies; in a clone (keep) or in the parent. */
static void stop_and_die(unsigned keep)
{
	struct silence silence = { 0 };

	block_sigchld();
	if (silence_begin(&silence, 0, 0))
		_exit(1);
	if (keep)
		silence_keep(&silence);
	kill(getpid(), SIGKILL);
}

static void a_killed_tracer_lets_go(void)
{
	pid_t counter = start(count, 12), tracer;

	CU_ASSERT(ground_await(counts_on, &shared->counts[12]));
	tracer = start(stop_and_die, 0);
	waitpid(tracer, NULL, 0);
	CU_ASSERT(ground_await(counts_on, &shared->counts[12]));
	end(counter);
}

static void in_a_clone_they_never_go_on(void)
{
	struct silence silence = { 0 };
	pid_t pid = start(count, 13);
	pid_t tracer;
	int status;

	CU_ASSERT(ground_await(counts_on, &shared->counts[13]));
	CU_ASSERT_EQUAL(silence_begin(&silence, 0, 0), 0);
	silence_keep(&silence);
	kill(pid, SIGCONT);
	CU_ASSERT(is_silent());
	silence_fini(&silence);
	end(pid);
	/* and they end with their tracer */
	pid = start(count, 14);
	CU_ASSERT(ground_await(counts_on, &shared->counts[14]));
	tracer = fork();
	if (!tracer) {
		/* the test is traced by its child here: it is let go by the child's end */
		struct silence own = { 0 };

		block_sigchld();
		if (silence_begin(&own, 0, 0))
			_exit(1);
		ptrace(PTRACE_DETACH, getppid(), NULL, NULL);
		silence_keep(&own);
		_exit(0);
	}
	CU_ASSERT_EQUAL(waitpid(pid, &status, 0), pid);
	CU_ASSERT(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	waitpid(tracer, NULL, 0);
}

static CU_TestInfo tests[] = {
	{ "what counts stops, and goes on", what_counts_stops_and_goes_on },
	{ "every thread stops", every_thread_stops },
	{ "what is born meanwhile stops", what_is_born_meanwhile_stops },
	{ "no parent hears of it", no_parent_hears_of_it },
	{ "a vfork() is no deadlock", a_vfork_is_no_deadlock },
	{ "signals on their way arrive", signals_on_their_way_arrive },
	{ "no signal is lost", no_signal_is_lost },
	{ "a killed tracer lets go", a_killed_tracer_lets_go },
	{ "in a clone they never go on", in_a_clone_they_never_go_on },
	CU_TEST_INFO_NULL,
};

static CU_SuiteInfo suites[] = {
	{ "silence", NULL, NULL, NULL, NULL, tests },
	CU_SUITE_INFO_NULL,
};

int main(void)
{
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	block_sigchld();
	return shared == MAP_FAILED ? 1 : ground_main(suites);
}
