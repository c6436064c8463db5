/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The command sf: what it prints and its exit status, in the parent and in clones. */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <pty.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/io.h"
#include "proto/xenstore-tree.h"
#include "tests/common/harness.h"

#define MAX_WORDS 20

struct command {
	pid_t pid;
	int out, err; /* files with what it prints */
	char stdout_text[8192], stderr_text[8192];
};

static int scratch_file(void)
{
	char name[] = "/run/test-XXXXXX";
	int fd = mkstemp(name);

	if (fd < 0)
		abort();
	unlink(name);
	return fd;
}

/* Starts `sf` in a VM with words separated by '|'; its standard error is c->err. */
static void start_with(struct command *c, unsigned vm, const char *words)
{
	char copy[512], *argv[MAX_WORDS] = { "sf" }, *save = NULL;
	unsigned count = 1;

	snprintf(copy, sizeof(copy), "%s", words);
	for (char *w = strtok_r(copy, "|", &save); w; w = strtok_r(NULL, "|", &save))
		argv[count++] = w;
	c->out = scratch_file();
	c->pid = fork();
	if (c->pid)
		return;
	dup2(c->out, STDOUT_FILENO);
	dup2(c->err, STDERR_FILENO);
	setenv("XENSTORED_PATH", double_socket(vm), 1);
	execv(getenv("SF_COMMAND"), argv);
	_exit(99);
}

static void start(struct command *c, unsigned vm, const char *words)
{
	c->err = scratch_file();
	start_with(c, vm, words);
}

static void read_back(int fd, char *text, size_t room)
{
	ssize_t got = pread(fd, text, room - 1, 0);

	text[got > 0 ? got : 0] = 0;
	close(fd);
}

/* Waits for a command. Return: its exit status, or 128 + signal. */
static int finish(struct command *c)
{
	int status;

	if (waitpid(c->pid, &status, 0) != c->pid)
		abort();
	read_back(c->out, c->stdout_text, sizeof(c->stdout_text));
	read_back(c->err, c->stderr_text, sizeof(c->stderr_text));
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/*
 * Runs `sf`. Return: true if it ended so; `out` and `err` are what it must have printed (err: in
 * part).
 */
static bool sf_does(unsigned vm, const char *words, int status, const char *out, const char *err)
{
	struct command c;
	int got;

	start(&c, vm, words);
	got = finish(&c);
	if (got == status && !strcmp(c.stdout_text, out) && strstr(c.stderr_text, err))
		return true;
	fprintf(stderr,
		"\n    sf %s: status %d (want %d), stdout \"%s\" (want \"%s\"), "
		"stderr \"%s\" (want \"%s\")\n",
		words, got, status, c.stdout_text, out, c.stderr_text, err);
	return false;
}

/* ---- the simple commands ---- */

static void clone_prints_where_it_is(void)
{
	CU_ASSERT(sf_does(0, "clone|2", 0, "0\n", ""));
	CU_ASSERT_EQUAL(double_count("ticket 2"), 1);
	CU_ASSERT(sf_does(2, "clone|2", 0, "2\n", ""));
	CU_ASSERT(sf_does(0, "clone|--min=4|--per-host=1|9", 0, "0\n", ""));
	CU_ASSERT_EQUAL(double_count("ticket 9 per-host=1 min=4"), 1);
	CU_ASSERT(sf_does(0, "ticket|7", 0, "3 3\n", ""));
	CU_ASSERT(sf_does(0, "clone|--ticket=3", 0, "0\n", ""));
	CU_ASSERT(sf_does(0, "clone|--ticket=3", 2, "", "sf clone: ticket 3 has been used\n"));
	CU_ASSERT(sf_does(0, "kill|3", 0, "", ""));
	CU_ASSERT(sf_does(0, "free|3", 0, "", ""));
	CU_ASSERT(sf_does(0, "free|3", 2, "", "no ticket 3"));
}

static void wrong_usage_is_64(void)
{
	static const char *const wrong[] = { "clone",	  "clone|0",	 "clone|1025",
					     "clone|x",	  "clone|2|3",	 "clone|--ticket=1|2",
					     "join|x",	  "exit|-1",	 "frobnicate",
					     "free",	  "result",	 "address|1|2",
					     "run",	  "run|-n|2",	 "run|true",
					     "run|:::|x", "run|true|:::" };

	for (unsigned i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		CU_ASSERT(sf_does(0, wrong[i], 64, "", "help"));
	CU_ASSERT_EQUAL(double_count(""), 0);
}

static void join_tells_of_those_that_did_not_end_well(void)
{
	CU_ASSERT(sf_does(0, "join", 2, "", "sf join: this VM has made no clones\n"));
	CU_ASSERT(sf_does(0, "clone|3", 0, "0\n", ""));
	double_end_clone(1, 1, SF_CLONE_EXITED, 0, NULL);
	double_end_clone(1, 2, SF_CLONE_EXITED, 4, NULL);
	double_end_clone(1, 3, SF_CLONE_LOST, 0, "h2 does not answer");
	CU_ASSERT(sf_does(
		0, "join", 1,
		"clone 2 on h2: exited with status 4\nclone 3 on h2: lost: h2 does not answer\n",
		""));
	CU_ASSERT(sf_does(0, "clone|1", 0, "0\n", ""));
	double_end_clone(2, 1, SF_CLONE_EXITED, 0, NULL);
	CU_ASSERT(sf_does(0, "join", 0, "", ""));
	CU_ASSERT(sf_does(
		0, "join|1", 1,
		"clone 2 on h2: exited with status 4\nclone 3 on h2: lost: h2 does not answer\n",
		""));
}

static void exit_and_results(void)
{
	struct command c;

	CU_ASSERT(sf_does(0, "clone|2", 0, "0\n", ""));
	CU_ASSERT(sf_does(0, "exit|3", 2, "", "no clone"));
	CU_ASSERT_EQUAL(double_count("exit"), 0);
	CU_ASSERT(sf_does(0, "set-result|/etc/hostname", 2, "", "no clone"));
	CU_ASSERT(sf_does(1, "set-result|/nowhere", 2, "", "/nowhere: No such file"));
	start(&c, 1, "set-result|-"); /* standard input is this test's: empty */
	CU_ASSERT_EQUAL(finish(&c), 0);
	CU_ASSERT(sf_does(1, "set-result|/proc/sys/kernel/ostype", 0, "", ""));
	CU_ASSERT(sf_does(0, "result|1", 2, "", "has not ended"));
	CU_ASSERT(sf_does(1, "exit|3", 128 + SIGKILL, "", ""));
	CU_ASSERT(sf_does(0, "result|1", 0, "Linux\n", ""));
	CU_ASSERT(sf_does(0, "result|--ticket=1|1|/run/got", 0, "", ""));
	CU_ASSERT_EQUAL(access("/run/got", R_OK), 0);
	CU_ASSERT(sf_does(0, "kill", 0, "", ""));
	CU_ASSERT(sf_does(
		0, "join", 1,
		"clone 1 on h2: exited with status 3\nclone 2 on h2: killed: by sf_kill_ticket()\n",
		""));
}

static void checkpoints(void)
{
	CU_ASSERT(sf_does(0, "checkpoint", 0, "1 0\n", ""));
	CU_ASSERT(sf_does(2, "checkpoint", 0, "1 2\n", ""));
	CU_ASSERT(sf_does(0, "ticket|2", 0, "1 2\n", ""));
	CU_ASSERT(sf_does(0, "create|1|1", 0, "2\n", ""));
	CU_ASSERT(sf_does(0, "drop|1", 0, "", ""));
	CU_ASSERT_EQUAL(double_count("drop 1"), 1);
}

static void info_shows_the_clones(void)
{
	struct command c;
	json_t *info, *clone;

	CU_ASSERT(sf_does(0, "address", 0, "10.7.0.1\n", ""));
	CU_ASSERT(sf_does(0, "address|2", 2, "", "no clone 2"));
	CU_ASSERT(sf_does(0, "clone|2", 0, "0\n", ""));
	CU_ASSERT(sf_does(0, "address|2", 0, "10.7.1.2\n", ""));
	double_end_clone(1, 2, SF_CLONE_EXITED, 4, NULL);
	start(&c, 0, "info|--json");
	CU_ASSERT_EQUAL(finish(&c), 0);
	info = json_loads(c.stdout_text, 0, NULL);
	CU_ASSERT_PTR_NOT_NULL_FATAL(info);
	CU_ASSERT_EQUAL(json_integer_value(json_object_get(info, "count")), 2);
	CU_ASSERT_STRING_EQUAL(json_string_value(json_object_get(info, "address")), "10.7.0.1");
	clone = json_array_get(
		json_object_get(json_array_get(json_object_get(info, "tickets"), 0), "clones"), 1);
	CU_ASSERT_EQUAL(json_integer_value(json_object_get(clone, "status")), 4);
	CU_ASSERT_STRING_EQUAL(json_string_value(json_object_get(clone, "state")), "exited");
	CU_ASSERT_STRING_EQUAL(json_string_value(json_object_get(clone, "address")), "10.7.1.2");
	json_decref(info);
	start(&c, 0, "info");
	CU_ASSERT_EQUAL(finish(&c), 0);
	CU_ASSERT_PTR_NOT_NULL(
		strstr(c.stdout_text, "ticket 1: running, good for 2 clones, 1 running\n"));
	CU_ASSERT_PTR_NOT_NULL(
		strstr(c.stdout_text, "10.7.1.2         h2           exited with status 4\n"));
	CU_ASSERT_PTR_NOT_NULL(strstr(c.stdout_text, access("/dev/snowflock", F_OK)
							     ? "\nmodule   none"
							     : "\nmodule   "));
}

static void a_missing_module_is_told_beside_the_answer(void)
{
	double_module(false);
	CU_ASSERT(sf_does(0, "clone|2", 0, "0\n", "without its kernel module"));
}

/* ---- sf run ---- */

/*
 * Runs `sf run` with the given words in the parent and in each of its clones, as it would find
 * itself there. Return: the exit status in the parent.
 */
static int run_everywhere(struct command *c, const char *words, unsigned clones)
{
	struct command clone[DOUBLE_VMS];
	int status;

	double_forget();
	start(c, 0, words);
	if (!double_await("clone ", 1))
		fprintf(stderr, "sf run does not clone\n");
	for (unsigned vm = 1; vm <= clones; vm++)
		start(&clone[vm], vm, words);
	status = finish(c);
	for (unsigned vm = 1; vm <= clones; vm++) {
		/* a clone prints nothing where it runs, and its VM ends with it */
		CU_ASSERT_EQUAL(finish(&clone[vm]), 128 + SIGKILL);
		CU_ASSERT_STRING_EQUAL(clone[vm].stdout_text, "");
	}
	return status;
}

static void run_brings_output_and_status_home(void)
{
	struct command c;

	CU_ASSERT_EQUAL(
		run_everywhere(&c,
			       "run|-k|-n|3|--|sh|-c|echo {} of {n} on $SF_ID of $SF_COUNT at "
			       "$SF_ADDRESS; echo oops {#} >&2; test {%} != 2",
			       3),
		1);
	CU_ASSERT_STRING_EQUAL(c.stdout_text,
			       "1 of 3 on 1 of 3 at 10.7.0.2\n"
			       "2 of 3 on 2 of 3 at 10.7.0.3\n"
			       "3 of 3 on 3 of 3 at 10.7.0.4\n");
	CU_ASSERT_STRING_EQUAL(c.stderr_text, "oops 1\noops 2\noops 3\n");
	CU_ASSERT_EQUAL(double_count("release 1"), 1);
}

static void run_gives_each_job_its_argument(void)
{
	struct command c;

	/* five jobs for three clones: none is left out, and the user is told */
	CU_ASSERT_EQUAL(
		run_everywhere(
			&c, "run|--tag|--keep-order|sh|-c|printf '%s\\nx' \"$0\"|:::|a|b c|{}||e|f",
			3),
		0);
	CU_ASSERT_STRING_EQUAL(
		c.stdout_text,
		"a\ta\na\tx\nb c\tb c\nb c\tx\n{}\t{}\n{}\tx\ne\te\ne\tx\nf\tf\nf\tx\n");
	CU_ASSERT_PTR_NOT_NULL(strstr(c.stderr_text, "3 clones instead of 5"));
	CU_ASSERT_EQUAL(run_everywhere(&c, "run|-k|-n|2|echo|<{}>{#}|:::|a|b|c", 2), 0);
	CU_ASSERT_STRING_EQUAL(c.stdout_text, "<a>1\n<b>2\n<c>3\n");
	CU_ASSERT_EQUAL(double_count("ticket 2"), 1);
}

static void run_reads_arguments_from_a_file(void)
{
	struct command c;
	int fd = open("/run/arguments", O_CREAT | O_WRONLY | O_TRUNC, 0600);

	CU_ASSERT_FATAL(write(fd, "one 1\ntwo", 9) == 9);
	close(fd);
	CU_ASSERT_EQUAL(run_everywhere(&c, "run|-k|-a|/run/arguments|echo", 2), 0);
	CU_ASSERT_STRING_EQUAL(c.stdout_text, "one 1\ntwo\n");
	CU_ASSERT(sf_does(0, "run|-a|/run/none|echo", 255, "", "/run/none"));
	CU_ASSERT(sf_does(0, "run|-a|/dev/null|echo", 0, "", ""));
}

static void run_counts_failed_jobs(void)
{
	struct command c;

	CU_ASSERT_EQUAL(run_everywhere(&c, "run|-n|3|--|no-such-command", 3), 3);
	CU_ASSERT_PTR_NOT_NULL(strstr(c.stderr_text, "sf run: no-such-command: No such file"));
	CU_ASSERT_EQUAL(run_everywhere(&c, "run|-k|sh|-c|kill -$0 $$|:::|TERM|0", 2), 1);
}

static void run_of_clones_that_bring_nothing(void)
{
	struct command c;

	start(&c, 0, "run|-n|2|--|true");
	CU_ASSERT(double_await("clone ", 1));
	double_end_clone(1, 1, SF_CLONE_LOST, 0, "h2 does not answer");
	double_end_clone(1, 2, SF_CLONE_EXITED, 125, NULL);
	CU_ASSERT_EQUAL(finish(&c), 2);
	CU_ASSERT_PTR_NOT_NULL(
		strstr(c.stderr_text, "clone 1 on h2 was lost: h2 does not answer\n"));
	CU_ASSERT_PTR_NOT_NULL(
		strstr(c.stderr_text, "clone 2 on h2 exited with status 125 and without"));
	double_answer("ticket ", "error ENOSPC no host has room");
	CU_ASSERT(sf_does(0, "run|-n|2|--|true", 255, "", "sf run: no host has room\n"));
}

static void run_kills_its_clones_when_interrupted(void)
{
	struct command c;

	start(&c, 0, "run|-n|2|--|sleep|1000");
	CU_ASSERT(double_await("clone ", 1));
	CU_ASSERT(double_await_watches(2));
	kill(c.pid, SIGINT);
	CU_ASSERT_EQUAL(finish(&c), 130);
	CU_ASSERT_EQUAL(double_count("kill 1"), 1);
	CU_ASSERT_EQUAL(double_count("release 1"), 1);
}

static void run_shows_progress_on_a_terminal(void)
{
	static const char last[] = "\r\033[Ksf run: 1 of 2 jobs done, 1 failed; 1 clones running, ";
	struct command c;
	char shown[2048] = "";
	int terminal;
	ssize_t got;

	CU_ASSERT_FATAL(!openpty(&terminal, &c.err, NULL, NULL, NULL));
	start_with(&c, 0, "run|-n|2|--|true");
	CU_ASSERT(double_await("clone ", 1));
	double_end_clone(1, 1, SF_CLONE_LOST, 0, "h2 does not answer");
	/* what is on the terminal by then; more would come with the second clone's end */
	for (size_t used = 0; !strstr(shown, last) && used < sizeof(shown) - 1;
	     used += (size_t)got) {
		got = read(terminal, shown + used, sizeof(shown) - 1 - used);
		if (got <= 0)
			break;
	}
	CU_ASSERT_PTR_NOT_NULL(
		strstr(shown, "sf run: 0 of 2 jobs done, 0 failed; 2 clones running"));
	CU_ASSERT_PTR_NOT_NULL(strstr(shown, "\r\033[Ksf: clone 1 on h2 was lost"));
	CU_ASSERT_PTR_NOT_NULL(strstr(shown, last));
	double_end_clone(1, 2, SF_CLONE_LOST, 0, "h2 does not answer");
	CU_ASSERT_EQUAL(finish(&c), 2);
	close(terminal);
}

static CU_TestInfo tests[] = {
	{ "clone prints where it is", clone_prints_where_it_is },
	{ "wrong usage is 64", wrong_usage_is_64 },
	{ "join tells of those that did not end well", join_tells_of_those_that_did_not_end_well },
	{ "exit and results", exit_and_results },
	{ "checkpoints", checkpoints },
	{ "info shows the clones", info_shows_the_clones },
	{ "a missing module is told beside the answer",
	  a_missing_module_is_told_beside_the_answer },
	{ "run brings output and status home", run_brings_output_and_status_home },
	{ "run gives each job its argument", run_gives_each_job_its_argument },
	{ "run reads arguments from a file", run_reads_arguments_from_a_file },
	{ "run counts failed jobs", run_counts_failed_jobs },
	{ "run of clones that bring nothing", run_of_clones_that_bring_nothing },
	{ "run kills its clones when interrupted", run_kills_its_clones_when_interrupted },
	{ "run shows progress on a terminal", run_shows_progress_on_a_terminal },
	CU_TEST_INFO_NULL
};

int main(void)
{
	CU_SuiteInfo suites[] = { { "sf", NULL, NULL, harness_set_up, harness_tear_down, tests },
				  CU_SUITE_INFO_NULL };
	int null = open("/dev/null", O_RDONLY);

	if (!getenv("SF_COMMAND") || dup2(null, STDIN_FILENO)) {
		fprintf(stderr, "SF_COMMAND must name the sf to be tested\n");
		return 99;
	}
	return harness_main(suites);
}
