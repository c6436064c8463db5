/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Commands: output, input, windows, terminals, signals, ends. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "harness.h"

#define ROOM (4u << 20)

static char out[ROOM], err[ROOM];

static void output_and_status(void)
{
	struct guest *g = guest_boot(0);
	int status;

	guest_exec(g, 1, 0, "sh", "-c", "pwd; echo $SF_TEST; echo oops >&2; exit 3", NULL);
	status = guest_output(g, 1, out, err, ROOM);
	CU_ASSERT_TRUE(WIFEXITED(status));
	CU_ASSERT_EQUAL(WEXITSTATUS(status), 3);
	CU_ASSERT_STRING_EQUAL(out, "/\nthere\n");
	CU_ASSERT_STRING_EQUAL(err, "oops\n");
	guest_exec(g, 2, 0, "sf-no-such-command", NULL);
	status = guest_output(g, 2, out, err, ROOM);
	CU_ASSERT_EQUAL(WEXITSTATUS(status), 127);
	CU_ASSERT_PTR_NOT_NULL(strstr(err, "sf-no-such-command"));
	guest_exec(g, 3, 0, "/etc", NULL);
	CU_ASSERT_EQUAL(WEXITSTATUS(guest_output(g, 3, out, err, ROOM)), 126);
	guest_stop(g);
}

static void output_respects_the_window(void)
{
	struct guest *g = guest_boot(0);
	struct agent_credit credit = { .bytes = 1000 };
	size_t got = 0;

	guest_exec(g, 1, 0, "head", "-c", "1000000", "/dev/zero", NULL);
	while (guest_speaks(g, 200)) {
		guest_receive(g);
		got += g->frame.length;
	}
	CU_ASSERT_EQUAL(got, AGENT_WINDOW);
	guest_send(g, AGENT_CREDIT, AGENT_STDOUT, 1, &credit, sizeof(credit));
	guest_expect(g, AGENT_DATA, 1);
	CU_ASSERT_EQUAL(g->frame.length, 1000);
	credit.bytes = AGENT_WINDOW;
	guest_send(g, AGENT_CREDIT, AGENT_STDOUT, 1, &credit, sizeof(credit));
	CU_ASSERT_EQUAL(guest_output(g, 1, out, err, ROOM), 0);
	guest_stop(g);
}

static void too_much_credit_ends_the_agent(void)
{
	struct guest *g = guest_boot(0);
	struct agent_credit credit = { .bytes = 1 };

	guest_exec(g, 1, 0, "cat", NULL);
	guest_send(g, AGENT_CREDIT, AGENT_STDOUT, 1, &credit, sizeof(credit));
	CU_ASSERT_EQUAL(guest_wait(g), 1);
	guest_stop(g);
}

static void input_comes_back(void)
{
	enum { PIECE = 32768, PIECES = 64 };
	static char piece[PIECE];
	struct guest *g = guest_boot(0);
	size_t back = 0, window = AGENT_WINDOW, sent = 0;

	memset(piece, 'i', sizeof(piece));
	guest_exec(g, 1, 0, "cat", NULL);
	while (back < (size_t)PIECE * PIECES) {
		struct agent_credit credit;

		if (sent < (size_t)PIECE * PIECES && window >= PIECE) {
			guest_send(g, AGENT_DATA, AGENT_STDIN, 1, piece, PIECE);
			window -= PIECE;
			sent += PIECE;
			continue;
		}
		guest_receive(g);
		if (g->frame.type == AGENT_CREDIT) {
			window += ((struct agent_credit *)g->payload)->bytes;
			continue;
		}
		CU_ASSERT_EQUAL_FATAL(g->frame.type, AGENT_DATA);
		back += g->frame.length;
		credit.bytes = g->frame.length;
		guest_send(g, AGENT_CREDIT, AGENT_STDOUT, 1, &credit, sizeof(credit));
	}
	CU_ASSERT_TRUE(window <= AGENT_WINDOW);
	guest_send(g, AGENT_DATA, AGENT_STDIN, 1, NULL, 0);
	do {
		guest_receive(g);
	} while (g->frame.type != AGENT_EXITED);
	CU_ASSERT_EQUAL(((struct agent_status *)g->payload)->value, 0);
	guest_stop(g);
}

static void input_beyond_the_window_ends_the_agent(void)
{
	static char piece[AGENT_MAX_DATA];
	struct guest *g = guest_boot(0);

	guest_exec(g, 1, 0, "sleep", "100", NULL);
	for (int i = 0; i < 12; i++)
		guest_send(g, AGENT_DATA, AGENT_STDIN, 1, piece, sizeof(piece));
	CU_ASSERT_EQUAL(guest_wait(g), 1);
	guest_stop(g);
}

static void signals_reach_the_group(void)
{
	struct guest *g = guest_boot(0);
	struct agent_status number = { .value = SIGTERM };
	int status;

	guest_exec(g, 1, 0, "sh", "-c", "echo ready; sleep 100; echo not reached", NULL);
	guest_expect(g, AGENT_DATA, 1);
	guest_send(g, AGENT_SIGNAL, 0, 1, &number, sizeof(number));
	status = guest_output(g, 1, out, err, ROOM);
	CU_ASSERT_TRUE(WIFSIGNALED(status));
	CU_ASSERT_EQUAL(WTERMSIG(status), SIGTERM);
	/* a stream that has ended is no error */
	guest_send(g, AGENT_SIGNAL, 0, 1, &number, sizeof(number));
	guest_exec(g, 1, 0, "true", NULL);
	CU_ASSERT_EQUAL(guest_output(g, 1, out, err, ROOM), 0);
	guest_stop(g);
}

static void a_terminal_of_its_own(void)
{
	struct guest *g = guest_boot(0);
	struct agent_winsize size = { .rows = 50, .columns = 132 };
	int status;

	guest_exec(g, 1, AGENT_EXEC_TTY, "sh", "-c",
		   "tty >/dev/null && stty size </dev/tty; read x; stty size; echo got $x;"
		   "read y || exit 5",
		   NULL);
	guest_expect(g, AGENT_DATA, 1);
	CU_ASSERT_NSTRING_EQUAL(g->payload, "24 80", 5);
	guest_send(g, AGENT_WINSIZE, 0, 1, &size, sizeof(size));
	guest_send(g, AGENT_DATA, AGENT_STDIN, 1, "word\n", 5);
	guest_send(g, AGENT_DATA, AGENT_STDIN, 1, NULL, 0);
	status = guest_output(g, 1, out, err, ROOM);
	CU_ASSERT_PTR_NOT_NULL(strstr(out, "50 132"));
	CU_ASSERT_PTR_NOT_NULL(strstr(out, "got word"));
	CU_ASSERT_EQUAL(WEXITSTATUS(status), 5);
	guest_stop(g);
}

static void a_background_process_does_not_delay_the_end(void)
{
	struct guest *g = guest_boot(0);

	guest_exec(g, 1, 0, "sh", "-c", "sleep 100 & echo $!", NULL);
	CU_ASSERT_EQUAL(guest_output(g, 1, out, err, ROOM), 0);
	CU_ASSERT_TRUE(atoi(out) > 1);
	if (atoi(out) > 1)
		kill(atoi(out), SIGKILL);
	guest_stop(g);
}

static void many_at_once(void)
{
	enum { MANY = 60 };
	struct guest *g = guest_boot(0);
	int ended = 0;

	for (uint32_t i = 1; i <= MANY; i++)
		guest_exec(g, i, 0, "sh", "-c", "echo hello", NULL);
	while (ended < MANY) {
		guest_receive(g);
		if (g->frame.type == AGENT_EXITED) {
			CU_ASSERT_EQUAL(((struct agent_status *)g->payload)->value, 0);
			ended++;
		}
	}
	guest_stop(g);
}

static void malformed_frames_end_the_agent(void)
{
	static const struct agent_exec no_args = { .argc = 0 }, not_there = { .argc = 3 };
	struct guest *g = guest_boot(0);

	guest_send(g, AGENT_EXEC, 0, 1, &no_args, sizeof(no_args));
	CU_ASSERT_EQUAL(guest_wait(g), 1);
	guest_stop(g);
	g = guest_boot(0);
	guest_send(g, AGENT_EXEC, 0, 1, &not_there, sizeof(not_there));
	CU_ASSERT_EQUAL(guest_wait(g), 1);
	guest_stop(g);
	g = guest_boot(0);
	guest_send(g, AGENT_TYPES, 0, 0, NULL, 0);
	CU_ASSERT_EQUAL(guest_wait(g), 1);
	guest_stop(g);
	g = guest_boot(0);
	guest_exec(g, AGENT_STREAM_OF_AGENT | 1, 0, "true", NULL);
	CU_ASSERT_EQUAL(guest_wait(g), 1);
	guest_stop(g);
}

int main(void)
{
	static const CU_TestInfo tests[] = {
		{ "output and status", output_and_status },
		{ "output respects the window", output_respects_the_window },
		{ "too much credit ends the agent", too_much_credit_ends_the_agent },
		{ "input comes back", input_comes_back },
		{ "input beyond the window ends the agent",
		  input_beyond_the_window_ends_the_agent },
		{ "signals reach the group", signals_reach_the_group },
		{ "a terminal of its own", a_terminal_of_its_own },
		{ "a background process does not delay the end",
		  a_background_process_does_not_delay_the_end },
		{ "many at once", many_at_once },
		{ "malformed frames end the agent", malformed_frames_end_the_agent },
		CU_TEST_INFO_NULL
	};

	return run_suite("commands", tests);
}
