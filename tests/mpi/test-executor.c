/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The executor alone, with the test as its keeper. */
#define _GNU_SOURCE
#include "mpi-shim/executor.h"

#include <arpa/inet.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/log.h"
#include "mpi-shim/wire.h"
#include "tests/mpi/ground.h"

static int sock = -1; /* to the executor */
static pid_t executor;

static void set_up(void)
{
	struct executor_order order = { .keeper.sin_family = AF_INET, .group = 5, .id = 2,
					.env = MPI_ENV "=here" };
	_cleanup_fd_ int door = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	socklen_t len = sizeof(order.keeper);

	order.keeper.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	memset(order.token, 0x5a, sizeof(order.token));
	if (bind(door, (struct sockaddr *)&order.keeper, len) || listen(door, 1) ||
	    getsockname(door, (struct sockaddr *)&order.keeper, &len))
		abort();
	executor = fork();
	if (!executor) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(door);
		_exit(executor_run(&order));
	}
	sock = accept4(door, NULL, NULL, SOCK_CLOEXEC);
	if (sock < 0)
		abort();
}

/* Return: the executor's exit status. */
static int end(void)
{
	int status = -1;

	waitpid(executor, &status, 0);
	executor = 0;
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void tear_down(void)
{
	close(sock);
	if (executor)
		CU_ASSERT_EQUAL(end(), 1);
}

static void hello(void)
{
	_cleanup_free_ uint8_t *payload = NULL;
	struct mpi_hello said;
	struct mpi_frame frame;

	CU_ASSERT_EQUAL_FATAL(wire_receive(sock, &frame, &payload), 0);
	CU_ASSERT_FATAL(frame.type == MPI_HELLO && frame.length == sizeof(said));
	memcpy(&said, payload, sizeof(said));
	CU_ASSERT(said.magic == MPI_MAGIC && said.role == MPI_EXECUTOR && said.group == 5 &&
		  said.id == 2 && said.token[31] == 0x5a);
	CU_ASSERT_EQUAL(wire_send(sock, MPI_HELLO, 0, NULL), 0);
}

static void start(uint32_t number, const char *cwd, const char *program, const char *script)
{
	struct mpi_counts counts = { .argc = 3, .envc = 1 };
	struct wire_payload payload = { 0 };

	wire_add(&payload, &counts, sizeof(counts));
	wire_add_string(&payload, cwd);
	wire_add_string(&payload, program);
	wire_add_string(&payload, "-c");
	wire_add_string(&payload, script);
	wire_add_string(&payload, "PATH=/usr/bin:/bin");
	CU_ASSERT_EQUAL(wire_send(sock, MPI_START, number, &payload), 0);
	wire_free(&payload);
}

/* Takes frames until the command has ended. Return: its status; its output in `text`. */
static int await_exit(uint32_t number, char *text, size_t size)
{
	size_t used = 0;

	for (;;) {
		_cleanup_free_ uint8_t *payload = NULL;
		struct mpi_frame frame;
		int status;

		CU_ASSERT_EQUAL_FATAL(wire_receive(sock, &frame, &payload), 0);
		CU_ASSERT_EQUAL_FATAL(frame.number, number);
		if (frame.type == MPI_OUTPUT) {
			memcpy(text + used, payload + 4, frame.length - 4);
			used += frame.length - 4;
			continue;
		}
		CU_ASSERT_EQUAL_FATAL(frame.type, MPI_EXITED);
		memcpy(&status, payload, sizeof(status));
		snprintf(text + used, size - used, "%s", payload + 4);
		return status;
	}
}

static void send_signal(uint32_t number, int signal)
{
	struct mpi_signal wanted = { .signal = signal };
	struct wire_payload payload = { 0 };

	wire_add(&payload, &wanted, sizeof(wanted));
	CU_ASSERT_EQUAL(wire_send(sock, MPI_SIGNAL, number, &payload), 0);
	wire_free(&payload);
}

static void commands_run_in_their_place(void)
{
	char text[512];

	hello();
	start(1, "/proc", "sh", "pwd; echo $" MPI_ENV "; ps -o sid= -p $$ | tr -d ' '; exit 4");
	CU_ASSERT_EQUAL(WEXITSTATUS(await_exit(1, text, sizeof(text))), 4);
	CU_ASSERT(!strncmp(text, "/proc\nhere\n", 11));
}

static void what_cannot_run_is_told(void)
{
	char text[512];

	hello();
	start(1, "/", "/no/such", "");
	CU_ASSERT_EQUAL(await_exit(1, text, sizeof(text)), -1);
	CU_ASSERT_STRING_EQUAL(text, "cannot run /no/such: No such file or directory");
	start(2, "/no/folder", "sh", "");
	CU_ASSERT_EQUAL(await_exit(2, text, sizeof(text)), -1);
	CU_ASSERT_STRING_EQUAL(text, "cannot enter /no/folder: No such file or directory");
}

static int has_ended(void *arg)
{
	return kill(*(pid_t *)arg, 0) && errno == ESRCH;
}

static void a_signal_gets_all_of_a_command(void)
{
	_cleanup_free_ uint8_t *payload = NULL;
	struct mpi_frame frame;
	char text[512];
	pid_t pid;

	hello();
	start(1, "/", "sh", "setsid sleep 1000 & echo $!; wait");
	CU_ASSERT_EQUAL_FATAL(wire_receive(sock, &frame, &payload), 0);
	pid = atoi((char *)payload + 4);
	CU_ASSERT(pid > 0 && !kill(pid, 0));
	send_signal(1, SIGTERM);
	CU_ASSERT(WIFSIGNALED(await_exit(1, text, sizeof(text))));
	CU_ASSERT(ground_await(has_ended, &pid));
	/* one that comes too late is no error */
	send_signal(1, SIGTERM);
	start(2, "/", "sh", "echo well");
	CU_ASSERT_EQUAL(await_exit(2, text, sizeof(text)), 0);
}

static void leaving_ends_what_runs(void)
{
	_cleanup_free_ uint8_t *payload = NULL;
	struct mpi_frame frame;
	pid_t pid;

	hello();
	start(1, "/", "sh", "echo $$; sleep 1000");
	CU_ASSERT_EQUAL_FATAL(wire_receive(sock, &frame, &payload), 0);
	pid = atoi((char *)payload + 4);
	CU_ASSERT_EQUAL(wire_send(sock, MPI_LEAVE, 0, NULL), 0);
	CU_ASSERT_EQUAL(end(), 0);
	CU_ASSERT(ground_await(has_ended, &pid));
}

static void a_lost_keeper_ends_it(void)
{
	hello();
	shutdown(sock, SHUT_RDWR);
	CU_ASSERT_EQUAL(end(), 1);
}

static void nonsense_ends_it(void)
{
	struct wire_payload payload = { 0 };

	hello();
	wire_add(&payload, "\377\377\377\377\377\377\377\377/", 10);
	CU_ASSERT_EQUAL(wire_send(sock, MPI_START, 1, &payload), 0);
	wire_free(&payload);
	CU_ASSERT_EQUAL(end(), 1);
}

static void a_signal_that_is_none_ends_it(void)
{
	hello();
	send_signal(1, 4711);
	CU_ASSERT_EQUAL(end(), 1);
}

static CU_TestInfo tests[] = {
	{ "commands run in their place", commands_run_in_their_place },
	{ "what cannot run is told", what_cannot_run_is_told },
	{ "a signal gets all of a command", a_signal_gets_all_of_a_command },
	{ "leaving ends what runs", leaving_ends_what_runs },
	{ "a lost keeper ends it", a_lost_keeper_ends_it },
	{ "nonsense ends it", nonsense_ends_it },
	{ "a signal that is none ends it", a_signal_that_is_none_ends_it },
	CU_TEST_INFO_NULL,
};

static CU_SuiteInfo suites[] = {
	{ "executor", NULL, NULL, set_up, tear_down, tests },
	CU_SUITE_INFO_NULL,
};

int main(void)
{
	log_init("test-executor", LOG_LVL_ERR);
	return ground_main(suites);
}
