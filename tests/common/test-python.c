/* SPDX-License-Identifier: GPL-2.0-or-later */
/* libsf/python/snowflock.py: libsf as Python programs see it, in the parent and in clones. */
#include "config.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "proto/xenstore-tree.h"
#include "tests/common/harness.h"

#define PREAMBLE "import errno, snowflock as sf\n"

struct program {
	pid_t pid;
	int out; /* a file with all it prints */
	char text[8192];
};

/* Starts a Python program in a VM. */
static void start(struct program *p, unsigned vm, const char *source)
{
	char name[] = "/run/test-XXXXXX", whole[4096];

	p->out = mkstemp(name);
	if (p->out < 0)
		abort();
	unlink(name);
	snprintf(whole, sizeof(whole), PREAMBLE "%s", source);
	p->pid = fork();
	if (p->pid)
		return;
	dup2(p->out, STDOUT_FILENO);
	dup2(p->out, STDERR_FILENO);
	setenv("XENSTORED_PATH", double_socket(vm), 1);
	setenv("LD_LIBRARY_PATH", getenv("SF_LIBSF"), 1);
	setenv("PYTHONPATH", getenv("SF_PYTHON"), 1);
	execlp("python3", "python3", "-B", "-c", whole, NULL);
	_exit(99);
}

/* Waits for a program. Return: its exit status, or 128 + signal. */
static int finish(struct program *p)
{
	ssize_t got;
	int status;

	if (waitpid(p->pid, &status, 0) != p->pid)
		abort();
	got = pread(p->out, p->text, sizeof(p->text) - 1, 0);
	p->text[got > 0 ? got : 0] = 0;
	close(p->out);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* Return: true if the program in that VM exits with 0 and prints just this. */
static bool prints(unsigned vm, const char *source, const char *text)
{
	struct program p;
	int status;

	start(&p, vm, source);
	status = finish(&p);
	if (!status && !strcmp(p.text, text))
		return true;
	fprintf(stderr, "\n    status %d, \"%s\" (want \"%s\")\n", status, p.text, text);
	return false;
}

/*
 * Runs a program in the parent and in each of its clones, as it would find itself there. Return:
 * the exit status in the parent.
 */
static int run_everywhere(struct program *p, const char *source, unsigned clones)
{
	struct program clone[DOUBLE_VMS];
	int status;

	start(p, 0, source);
	CU_ASSERT(double_await("clone ", 1));
	for (unsigned vm = 1; vm <= clones; vm++)
		start(&clone[vm], vm, source);
	status = finish(p);
	for (unsigned vm = 1; vm <= clones; vm++) {
		CU_ASSERT_EQUAL(finish(&clone[vm]), 128 + SIGKILL);
		CU_ASSERT_STRING_EQUAL(clone[vm].text, "");
	}
	return status;
}

static void a_clone_hands_in_bytes(void)
{
	static const char source[] = "me = sf.clone(2)\n"
				     "if me:\n"
				     "    sf.set_result(b'\\0of %d' % me)\n"
				     "    sf.exit(me + 3)\n"
				     "sf.join()\n"
				     "for i in range(1, sf.count() + 1):\n"
				     "    s = sf.status(i)\n"
				     "    print(sf.result(i), s.state.name, s.status, s.host)\n";
	struct program p;

	CU_ASSERT_EQUAL(run_everywhere(&p, source, 2), 0);
	CU_ASSERT_STRING_EQUAL(p.text, "b'\\x00of 1' EXITED 4 h2\nb'\\x00of 2' EXITED 5 h2\n");
}

static void map_does_what_a_loop_would(void)
{
	struct program p;

	CU_ASSERT_EQUAL(run_everywhere(&p,
				       "told = []\n"
				       "print(sf.map(lambda x: x * x, range(5), clones=2,\n"
				       "             progress=lambda *far: told.append(far)))\n"
				       "print(told, sf.map(len, [], clones=2))\n",
				       2),
			0);
	CU_ASSERT_STRING_EQUAL(p.text, "[0, 1, 4, 9, 16]\n[(1, 2), (2, 2)] []\n");
	CU_ASSERT_EQUAL(double_count("ticket 2"), 1);
	CU_ASSERT_EQUAL(double_count("release 1"), 1);
}

static void map_tells_of_a_clone_that_failed(void)
{
	static const char source[] = "try:\n"
				     "    sf.map(lambda x: 1 // x, [1, 0], clones=2)\n"
				     "except sf.CloneError as error:\n"
				     "    print(error)\n";
	struct program p;

	CU_ASSERT_EQUAL(run_everywhere(&p, source, 2), 0);
	CU_ASSERT_PTR_NOT_NULL(strstr(p.text, "clone 2 on h2: ZeroDivisionError: "));
	CU_ASSERT_EQUAL(double_count("release 1"), 1);
	double_forget();
	start(&p, 0, source);
	CU_ASSERT(double_await("clone ", 1));
	double_end_clone(2, 1, SF_CLONE_LOST, 0, "h2 does not answer");
	double_end_clone(2, 2, SF_CLONE_EXITED, 1, NULL);
	CU_ASSERT_EQUAL(finish(&p), 0);
	CU_ASSERT_STRING_EQUAL(p.text, "clone 1 on h2: lost: h2 does not answer\n");
}

static void errors_are_exceptions(void)
{
	CU_ASSERT(prints(0,
			 "try:\n"
			 "    sf.set_result(b'x')\n"
			 "except OSError as error:\n"
			 "    print(type(error).__name__, errno.errorcode[error.errno],\n"
			 "          'no clone' in error.strerror)\n",
			 "Error EPERM True\n"));
	double_answer("ticket ", "error ENOSPC no host has room");
	CU_ASSERT(prints(0,
			 "try:\n"
			 "    sf.map(len, 'ab', clones=2)\n"
			 "except sf.Error as error:\n"
			 "    print(errno.errorcode[error.errno], error.strerror)\n",
			 "ENOSPC no host has room\n"));
}

static void tickets_checkpoints_and_the_rest(void)
{
	CU_ASSERT(prints(0,
			 "print(sf.id(), sf.count(), sf.address())\n"
			 "ticket = sf.request_ticket(9, per_host=1, min=2)\n"
			 "print(sf.ticket_granted(ticket))\n"
			 "called = []\n"
			 "sf.atclone(lambda: called.append('p'), lambda: called.append('P'))\n"
			 "print(sf.clone_ticket(ticket), called, sf.last_ticket() == ticket)\n"
			 "print(sf.address(2, ticket), sf.status(2, ticket).state.name)\n"
			 "try:\n"
			 "    sf.wait_any(ticket, 0.01)\n"
			 "except sf.Error as error:\n"
			 "    print(errno.errorcode[error.errno])\n"
			 "sf.kill_ticket(ticket)\n"
			 "sf.join(ticket)\n"
			 "print(sf.status(1, ticket).state.name)\n"
			 "sf.ticket_free(ticket)\n"
			 "point = sf.checkpoint_parent()\n"
			 "print(point.id, sf.create_clones(point.number, sf.request_ticket(1)))\n"
			 "sf.checkpoint_free(point.number)\n",
			 "0 0 10.7.0.1\n3\n0 ['p', 'P'] True\n10.7.1.2 RUNNING\nETIMEDOUT\nKILLED\n"
			 "0 1\n"));
	CU_ASSERT_EQUAL(double_count("ticket 9 per-host=1 min=2"), 1);
}

static CU_TestInfo python_tests[] = {
	{ "a clone hands in bytes", a_clone_hands_in_bytes },
	{ "map() does what a loop would", map_does_what_a_loop_would },
	{ "map() tells of a clone that failed", map_tells_of_a_clone_that_failed },
	{ "errors are exceptions", errors_are_exceptions },
	{ "tickets, checkpoints and the rest", tickets_checkpoints_and_the_rest },
	CU_TEST_INFO_NULL,
};

int main(void)
{
	CU_SuiteInfo suites[] = {
		{ "snowflock.py", NULL, NULL, harness_set_up, harness_tear_down, python_tests },
		CU_SUITE_INFO_NULL,
	};

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
	printf("skipped: Python without a sanitizer cannot load a libsf with one\n");
	return 77;
#endif
	if (!getenv("SF_LIBSF") || !getenv("SF_PYTHON")) {
		fprintf(stderr, "SF_LIBSF and SF_PYTHON must name the folders to be tested\n");
		return 99;
	}
	if (system("python3 -c 'import ctypes' >/dev/null 2>&1")) {
		printf("skipped: no python3\n");
		return 77;
	}
	return harness_main(suites);
}
