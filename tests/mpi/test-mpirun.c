/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * sf-mpirun and sf-mpilaunch with doubles of the host and of the keeper, and a script for mpiexec:
 * options, Hydra's command line and environment, input, signals, exit status, lost clones.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <pty.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "mpi-shim/mpirun.h"
#include "mpi-shim/wire.h"
#include "tests/common/harness.h"

#define HOSTS "10.7.0.2:2,10.7.0.3:1"

/* ── A keeper ── */

/* What it says; set before the process that asks is started. */
static struct {
	bool refuse, short_of, lose, unknown, hang_up;
	int status; /* EXITED's */
	const char *sentence;
} plan;
/* What it was asked, and how often. */
static struct mpi_want wanted;
static unsigned ends, launches;
static char launched[4096]; /* its strings, with spaces between */

static int listener = -1;
static pthread_t keeper;

static void say(int sock, enum mpi_type type, uint32_t number, const void *head, size_t len,
		const char *text)
{
	struct wire_payload payload = { 0 };

	if (head)
		wire_add(&payload, head, len);
	if (text)
		wire_add_string(&payload, text);
	wire_send(sock, type, number, &payload);
	wire_free(&payload);
}

static void take_launch(int sock, uint8_t *bytes, size_t len)
{
	struct mpi_counts counts;
	struct mpi_output to = { .fd = 1 };
	struct mpi_exited exited = { .status = plan.status };
	size_t count = 0;
	_cleanup_free_ char **strings =
		wire_strings(bytes + sizeof(counts), len - sizeof(counts), &count);

	memcpy(&counts, bytes, sizeof(counts));
	launches++;
	launched[0] = 0;
	for (size_t i = 0; strings && i < count && i < 2u + counts.argc; i++)
		snprintf(launched + strlen(launched), sizeof(launched) - strlen(launched), "%s ",
			 strings[i]);
	if (plan.unknown) {
		say(sock, MPI_UNKNOWN, 0, NULL, 0, NULL);
		return;
	}
	say(sock, MPI_OUTPUT, 0, &to, sizeof(to), "out of the clone");
	to.fd = 2;
	say(sock, MPI_OUTPUT, 0, &to, sizeof(to), "and errors");
	if (!plan.hang_up)
		say(sock, MPI_EXITED, 0, &exited, sizeof(exited),
		    plan.sentence ? plan.sentence : "");
}

static void take_want(int sock, const uint8_t *bytes)
{
	struct mpi_grant grant = { .clones = 2, .wanted = plan.short_of ? 3 : 2 };
	struct mpi_errno_of refused = { .error = ENOSPC };
	struct mpi_lost lost = { .id = 2, .commands = 0 };

	memcpy(&wanted, bytes, sizeof(wanted));
	if (plan.refuse) {
		say(sock, MPI_REFUSED, 0, &refused, sizeof(refused), "no host has room");
		return;
	}
	say(sock, MPI_GRANT, 7, &grant, sizeof(grant), HOSTS);
	if (plan.lose)
		say(sock, MPI_LOST, 7, &lost, sizeof(lost), "clone 2 on h2 is lost");
}

/* Serves one connection to its end. */
static void serve(int sock)
{
	for (;;) {
		_cleanup_free_ uint8_t *payload = NULL;
		struct mpi_frame frame;

		if (wire_receive(sock, &frame, &payload))
			return;
		switch (frame.type) {
		case MPI_HELLO:
			say(sock, MPI_HELLO, 0, NULL, 0, NULL);
			break;
		case MPI_WANT:
			take_want(sock, payload);
			break;
		case MPI_END:
			ends++;
			say(sock, MPI_ENDED, frame.number, NULL, 0, NULL);
			break;
		case MPI_LAUNCH:
			take_launch(sock, payload, frame.length);
			if (plan.hang_up)
				return;
			break;
		default:
			break;
		}
	}
}

static void *keep(void *arg)
{
	(void)arg;
	for (;;) {
		int sock = accept4(listener, NULL, NULL, SOCK_CLOEXEC);

		if (sock < 0)
			return NULL;
		serve(sock);
		close(sock);
	}
}

static void keeper_start(void)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	int len = snprintf(at.sun_path + 1, sizeof(at.sun_path) - 1, MPI_SOCKET, getuid());

	listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (bind(listener, (struct sockaddr *)&at,
		 (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)len)) ||
	    listen(listener, 8) || pthread_create(&keeper, NULL, keep, NULL))
		abort();
}

static void keeper_stop(void)
{
	shutdown(listener, SHUT_RDWR);
	pthread_join(keeper, NULL);
	close(listener);
}

/* ── Programs ── */

struct command {
	pid_t pid;
	int in, out, err; /* out, err: files with what it prints; in: to write into, or -1 */
	char stdout_text[8192], stderr_text[8192];
};

static int scratch(void)
{
	char name[] = "/run/test-XXXXXX";
	int fd = mkostemp(name, O_CLOEXEC);

	if (fd < 0)
		abort();
	unlink(name);
	return fd;
}

/* Writes a program. */
static void write_script(const char *path, const char *text)
{
	_cleanup_fd_ int fd = open(path, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0755);

	if (fd < 0 || dprintf(fd, "#!/bin/sh\n%s\n", text) < 0)
		abort();
}

/* What mpiexec does in this test; it finds the command line in its "$@". */
static void mpiexec_does(const char *text)
{
	write_script("/run/bin/mpiexec.hydra", text);
}

static void become(char **argv)
{
	char program[4096];

	snprintf(program, sizeof(program), "%s/%s", getenv("SF_MPI_LIBEXEC"), argv[0]);
	setenv("PATH", "/run/bin:/usr/bin:/bin", 1);
	setenv("XENSTORED_PATH", double_socket(0), 1);
	execv(program, argv);
	_exit(99);
}

/* Starts a program of the shim, words separated by '|'. `in` is as a test wishes. */
static void start(struct command *c, const char *words, int in)
{
	char copy[1024], *argv[64] = { 0 }, *save = NULL;
	unsigned count = 0;

	*c = (struct command){ .out = scratch(), .err = scratch() };
	snprintf(copy, sizeof(copy), "%s", words);
	for (char *w = strtok_r(copy, "|", &save); w; w = strtok_r(NULL, "|", &save))
		argv[count++] = w;
	c->pid = fork();
	if (c->pid)
		return;
	if (in >= 0)
		dup2(in, STDIN_FILENO);
	else
		close(STDIN_FILENO);
	dup2(c->out, STDOUT_FILENO);
	dup2(c->err, STDERR_FILENO);
	become(argv);
}

static void read_back(int fd, char *text, size_t room)
{
	ssize_t got = pread(fd, text, room - 1, 0);

	for (ssize_t i = 0; i < got; i++) {
		if (!text[i])
			text[i] = '\n'; /* the double's strings are sent with their ends */
	}
	text[got > 0 ? got : 0] = 0;
	close(fd);
}

/* Return: the exit status, or 128 + signal. */
static int finish(struct command *c)
{
	int status;

	if (waitpid(c->pid, &status, 0) != c->pid)
		abort();
	read_back(c->out, c->stdout_text, sizeof(c->stdout_text));
	read_back(c->err, c->stderr_text, sizeof(c->stderr_text));
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static int run(struct command *c, const char *words)
{
	_cleanup_fd_ int null = open("/dev/null", O_RDONLY | O_CLOEXEC);

	start(c, words, null);
	return finish(c);
}

/* Waits until a program has printed a word. */
static void await(struct command *c, const char *word)
{
	char text[4096] = "";

	while (!strstr(text, word)) {
		ssize_t got = pread(c->out, text, sizeof(text) - 1, 0);

		text[got > 0 ? got : 0] = 0;
		if (!strstr(text, word))
			sched_yield();
	}
}

static void set_up(void)
{
	harness_set_up();
	memset(&plan, 0, sizeof(plan));
	ends = launches = 0;
	mkdir("/run/bin", 0755);
	mpiexec_does("echo \"$*\"");
	keeper_start();
}

static void tear_down(void)
{
	keeper_stop();
	harness_tear_down();
}

/* ── sf-mpirun ── */

static void test_words(void)
{
	struct command c;
	char want[512];

	CU_ASSERT_EQUAL(
		run(&c,
		    "sf-mpirun|-n|3|-ppn|2|--min|1|--per-host|4|--mpiexec=-l|true|-x|:|-n|4|cat|y"),
		0);
	snprintf(want, sizeof(want),
		 "-rmk user -launcher rsh -launcher-exec %s/sf-mpilaunch -localhost 10.7.0.1 "
		 "-hosts " HOSTS " -l -n 3 true -x : -n 4 cat y\n",
		 getenv("SF_MPI_LIBEXEC"));
	CU_ASSERT_STRING_EQUAL(c.stdout_text, want);
	CU_ASSERT_STRING_EQUAL(c.stderr_text, "");
	CU_ASSERT_EQUAL(wanted.ranks, 7);
	CU_ASSERT_EQUAL(wanted.per_clone, 2);
	CU_ASSERT_EQUAL(wanted.min_clones, 1);
	CU_ASSERT_EQUAL(wanted.per_host, 4);
	CU_ASSERT_EQUAL(ends, 1);
}

static void test_here(void)
{
	struct command c;

	CU_ASSERT_EQUAL(run(&c, "sf-mpirun|--here|-n|2|--|true|-n"), 0);
	CU_ASSERT_PTR_NOT_NULL(strstr(c.stdout_text, "-hosts 10.7.0.1:2 -n 2 true -n\n"));
	CU_ASSERT_EQUAL(ends, 0);
}

static void test_environment(void)
{
	struct command c;

	mpiexec_does("echo ${HYDRA_IFACE-none} ${PMI_RANK-none} $SF_MPI_PER_CLONE "
		     "${SF_MPI_PER_HOST-none}; echo $LD_LIBRARY_PATH");
	setenv("HYDRA_IFACE", "eth7", 1);
	setenv("PMI_RANK", "3", 1);
	mkdir("/run/mpich", 0755);
	write_script("/run/mpich/libmpich.so.12", "");
	CU_ASSERT_EQUAL(run(&c, "sf-mpirun|-n|3|-ppn|2|--mpich|/run/mpich|true"), 0);
	unsetenv("HYDRA_IFACE");
	unsetenv("PMI_RANK");
	CU_ASSERT_PTR_NOT_NULL(strstr(c.stdout_text, "none none 2 none\n/run/mpich"));
}

static void test_wrong_usage(void)
{
	static const struct {
		const char *words, *says;
	} cases[] = {
		{ "sf-mpirun|-n|2", "no program" },
		{ "sf-mpirun|true", "how many ranks" },
		{ "sf-mpirun|-n|0|true", "a number from 1" },
		{ "sf-mpirun|-n|2|true|:|cat", "how many ranks of cat" },
		{ "sf-mpirun|-n|65536|true|:|-n|1|cat", "more than 65536 ranks" },
		{ "sf-mpirun|-n|2|true|:|-n|1", "no program behind a colon" },
		{ "sf-mpirun|-n|2|nowhere-to-be-found", "there is no such program" },
		{ "sf-mpirun|-n|2|--mpich|/run|true", "no libmpich.so.12" },
	};
	struct command c;

	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		CU_ASSERT_EQUAL(run(&c, cases[i].words), EXIT_MPIRUN);
		CU_ASSERT_PTR_NOT_NULL(strstr(c.stderr_text, cases[i].says));
		CU_ASSERT_STRING_EQUAL(c.stdout_text, "");
	}
}

static void test_refused(void)
{
	struct command c;

	plan.refuse = true;
	CU_ASSERT_EQUAL(run(&c, "sf-mpirun|-n|2|true"), EXIT_MPIRUN);
	CU_ASSERT_STRING_EQUAL(c.stderr_text, "sf-mpirun: no host has room\n");
	CU_ASSERT_STRING_EQUAL(c.stdout_text, "");
}

static void test_fewer(void)
{
	struct command c;

	plan.short_of = true;
	CU_ASSERT_EQUAL(run(&c, "sf-mpirun|-n|3|true"), 0);
	CU_ASSERT_STRING_EQUAL(c.stderr_text,
			       "sf-mpirun: 2 clones instead of 3: 3 ranks share them\n");
}

static void test_status(void)
{
	struct command c;

	mpiexec_does("exit 42");
	CU_ASSERT_EQUAL(run(&c, "sf-mpirun|-n|2|true"), 42);
	mpiexec_does("kill -SEGV $$");
	CU_ASSERT_EQUAL(run(&c, "sf-mpirun|-n|2|true"), 128 + SIGSEGV);
	CU_ASSERT_EQUAL(ends, 2);
}

static void test_input(void)
{
	int pipe_fds[2];
	struct command c;

	mpiexec_does("cat");
	if (pipe2(pipe_fds, O_CLOEXEC))
		abort();
	start(&c, "sf-mpirun|-n|2|true", pipe_fds[0]);
	close(pipe_fds[0]);
	CU_ASSERT_EQUAL(write(pipe_fds[1], "to rank 0\n", 10), 10);
	close(pipe_fds[1]);
	CU_ASSERT_EQUAL(finish(&c), 0);
	CU_ASSERT_STRING_EQUAL(c.stdout_text, "to rank 0\n");
	/* none at all: something empty, and no socket in its place */
	mpiexec_does("readlink /proc/self/fd/0");
	start(&c, "sf-mpirun|-n|2|true", -1);
	CU_ASSERT_EQUAL(finish(&c), 0);
	CU_ASSERT_STRING_EQUAL(c.stdout_text, "/dev/null\n");
}

static void test_signals(void)
{
	static const struct {
		int number;
		const char *name;
	} cases[] = { { SIGINT, "INT" },   { SIGTERM, "TERM" }, { SIGHUP, "HUP" },
		      { SIGQUIT, "QUIT" }, { SIGUSR1, "USR1" }, { SIGUSR2, "USR2" } };
	_cleanup_fd_ int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
	char script[256];
	struct command c;

	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		bool ending = cases[i].number != SIGUSR1 && cases[i].number != SIGUSR2;

		snprintf(script, sizeof(script),
			 "trap 'echo %s; exit 9' %s; echo ready; while :; do sleep 0.05; done",
			 cases[i].name, cases[i].name);
		mpiexec_does(script);
		start(&c, "sf-mpirun|-n|2|true", null);
		await(&c, "ready");
		kill(c.pid, cases[i].number);
		CU_ASSERT_EQUAL(finish(&c), ending ? 128 + cases[i].number : 9);
		CU_ASSERT_PTR_NOT_NULL(strstr(c.stdout_text, cases[i].name));
	}
	CU_ASSERT_EQUAL(ends, ARRAY_SIZE(cases));
}

/* One that does not want to end is ended by the second signal. */
static void test_second_signal(void)
{
	_cleanup_fd_ int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
	struct command c;
	uint64_t begin_ns;

	mpiexec_does("trap 'echo no' INT; echo ready; while :; do sleep 0.05; done");
	start(&c, "sf-mpirun|-n|2|true", null);
	await(&c, "ready");
	begin_ns = io_now_ns();
	kill(c.pid, SIGINT);
	await(&c, "no");
	usleep(1100000); /* sooner it would be the same one again */
	kill(c.pid, SIGINT);
	CU_ASSERT_EQUAL(finish(&c), 130);
	CU_ASSERT(io_now_ns() - begin_ns < 9000000000ull);
	CU_ASSERT_EQUAL(ends, 1);
}

static void count_one(int number)
{
	(void)number;
	if (write(STDOUT_FILENO, "interrupted\n", 12) < 0)
		_exit(1);
}

/* mpiexec for the next test: writes a line for each SIGINT it gets, until its input has one. */
static int count_signals(void)
{
	struct sigaction action = { .sa_handler = count_one, .sa_flags = SA_RESTART };
	char byte;

	sigaction(SIGINT, &action, NULL);
	if (write(STDOUT_FILENO, "ready\n", 6) < 0)
		return 1;
	return read(STDIN_FILENO, &byte, 1) == 1 ? 4 : 1;
}

/* Reads from a terminal until a word has come; NULL: to the end. */
static void read_terminal(int master, char *text, size_t room, const char *word)
{
	size_t len = strlen(text);
	ssize_t got;

	while ((!word || !strstr(text, word)) &&
	       (got = read(master, text + len, room - 1 - len)) > 0) {
		len += (size_t)got;
		text[len] = 0;
	}
}

/* The terminal tells the whole group: nothing is to be passed on. */
static void test_terminal(void)
{
	char self[512], script[600], text[8192] = "", *first;
	char *argv[] = { "sf-mpirun", "-q", "-n", "2", "true", NULL };
	_cleanup_fd_ int master = -1;
	int status;
	pid_t pid;

	self[readlink("/proc/self/exe", self, sizeof(self) - 1)] = 0;
	snprintf(script, sizeof(script), "exec %s --count-signals", self);
	mpiexec_does(script);
	pid = forkpty(&master, NULL, NULL, NULL);
	if (!pid)
		become(argv);
	read_terminal(master, text, sizeof(text), "ready");
	CU_ASSERT_EQUAL(write(master, "\003", 1), 1);
	read_terminal(master, text, sizeof(text), "interrupted");
	usleep(200000); /* for one that must not come */
	CU_ASSERT_EQUAL(write(master, "\n", 1), 1);
	read_terminal(master, text, sizeof(text), NULL);
	waitpid(pid, &status, 0);
	first = strstr(text, "interrupted");
	CU_ASSERT_PTR_NOT_NULL_FATAL(first);
	CU_ASSERT_PTR_NULL(strstr(first + 1, "interrupted"));
	CU_ASSERT(WIFEXITED(status) && WEXITSTATUS(status) == 130);
}

/* And one that gets no second signal by time. */
static void test_patience(void)
{
	_cleanup_fd_ int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
	struct command c;

	mpiexec_does("trap 'echo no' TERM; echo ready; while :; do sleep 0.05; done");
	start(&c, "sf-mpirun|-n|2|true", null);
	await(&c, "ready");
	kill(c.pid, SIGTERM);
	CU_ASSERT_EQUAL(finish(&c), 128 + SIGTERM);
}

static void test_lost_idle(void)
{
	struct command c;

	plan.lose = true;
	mpiexec_does("sleep 0.3");
	CU_ASSERT_EQUAL(run(&c, "sf-mpirun|-n|2|true"), 0);
	CU_ASSERT_STRING_EQUAL(c.stderr_text, "sf-mpirun: clone 2 on h2 is lost\n");
}

/* ── sf-mpilaunch ── */

#define LAUNCH "sf-mpilaunch|10.7.0.2|\"/usr/bin/proxy\"|--port|1"

static void test_launch(void)
{
	struct command c;
	char cwd[512], want[1024];

	plan.status = 5 << 8;
	CU_ASSERT_EQUAL(run(&c, LAUNCH), 5);
	CU_ASSERT_STRING_EQUAL(c.stdout_text, "out of the clone\n");
	CU_ASSERT_STRING_EQUAL(c.stderr_text, "and errors\n");
	snprintf(want, sizeof(want), "10.7.0.2 %s /usr/bin/proxy --port 1 ",
		 getcwd(cwd, sizeof(cwd)));
	CU_ASSERT_STRING_EQUAL(launched, want);
	plan.status = SIGKILL;
	CU_ASSERT_EQUAL(run(&c, LAUNCH), 128 + SIGKILL);
}

static void test_launch_elsewhere(void)
{
	struct command c;

	write_script("/run/bin/ssh", "echo ssh \"$*\"; exit 3");
	plan.unknown = true;
	CU_ASSERT_EQUAL(run(&c, LAUNCH), 3);
	CU_ASSERT_STRING_EQUAL(c.stdout_text, "ssh -x 10.7.0.2 \"/usr/bin/proxy\" --port 1\n");
}

/* Runs sf-mpilaunch below a process of this name. Return: what ended that process; 0: nothing did.
 */
static int launch_below(const char *name, struct command *c)
{
	int status;
	pid_t pid = fork();

	if (!pid) {
		prctl(PR_SET_NAME, name);
		start(c, LAUNCH, -1);
		waitpid(c->pid, &status, 0);
		_exit(0);
	}
	waitpid(pid, &status, 0);
	return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

static void test_lost(void)
{
	struct command c;

	plan.status = -1;
	plan.sentence = "clone 1 on h2 is lost";
	CU_ASSERT_EQUAL(launch_below("mpiexec.hydra", &c), SIGTERM);
	CU_ASSERT_EQUAL(launch_below("sh", &c), 0);
	plan.hang_up = true;
	CU_ASSERT_EQUAL(launch_below("mpiexec.hydra", &c), SIGTERM);
	CU_ASSERT_EQUAL(launches, 3);
	CU_ASSERT_EQUAL(run(&c, LAUNCH), 255);
	CU_ASSERT_PTR_NOT_NULL(strstr(c.stderr_text, "the keeper has ended"));
}

int main(int argc, char **argv)
{
	CU_TestInfo mpirun_tests[] = {
		{ "Hydra gets its words", test_words },
		{ "here is this VM", test_here },
		{ "the environment confuses nobody", test_environment },
		{ "wrong usage is told", test_wrong_usage },
		{ "a refusal is told", test_refused },
		{ "fewer clones are told", test_fewer },
		{ "the exit status is mpiexec's", test_status },
		{ "standard input arrives", test_input },
		{ "signals arrive", test_signals },
		{ "a second signal ends it", test_second_signal },
		{ "so does time", test_patience },
		{ "Ctrl-C arrives once", test_terminal },
		{ "a clone lost without ranks is told", test_lost_idle },
		CU_TEST_INFO_NULL,
	};
	CU_TestInfo launch_tests[] = {
		{ "a command runs in a clone", test_launch },
		{ "other hosts are ssh's", test_launch_elsewhere },
		{ "a lost clone ends mpiexec", test_lost },
		CU_TEST_INFO_NULL,
	};
	CU_SuiteInfo suites[] = {
		{ "sf-mpirun", NULL, NULL, set_up, tear_down, mpirun_tests },
		{ "sf-mpilaunch", NULL, NULL, set_up, tear_down, launch_tests },
		CU_SUITE_INFO_NULL,
	};

	if (argc > 1 && !strcmp(argv[1], "--count-signals"))
		return count_signals();
	/* the keeper's name is this network namespace's */
	if (unshare(CLONE_NEWNET))
		return 77;
	signal(SIGPIPE, SIG_IGN);
	/* whoever runs the tests may ignore some, as nohup does */
	signal(SIGHUP, SIG_DFL);
	signal(SIGINT, SIG_DFL);
	signal(SIGQUIT, SIG_DFL);
	return harness_main(suites);
}
