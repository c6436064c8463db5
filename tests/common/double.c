/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The double's process, and how tests talk to it.
 *
 * It is a process of its own, begun before anything else, so that its descriptors and threads are
 * not those of the program under test: libxenstore closes a lost connection in a thread, and
 * whatever got the number meanwhile. One command at a time goes over a socket and is answered,
 * at once or when what it waits for has come.
 */
#include "config.h"

#include "tests/common/double.h"

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/io.h"
#include "proto/agent-socket.h"
#include "tests/common/play.h"

#define AWAIT_NS  10000000000ull
#define MAX_FDS	  64
#define DATA_ROOM 1024

enum op {
	OP_START,
	OP_STOP,
	OP_SET,
	OP_ANSWER,
	OP_ANSWER_LATE,
	OP_AGENT,
	OP_MODULE,
	OP_END_CLONE,
	OP_DROP,
	OP_AWAIT,
	OP_COUNT,
	OP_FORGET,
	OP_AWAIT_WATCHES,
	OP_LEFTOVERS,
	OP_ARRIVED,
	OP_RESULT,
};

struct command {
	enum op op;
	unsigned a, b;
	int n;
	bool null; /* the second text is NULL */
	char text[2][256];
};

struct answer {
	long value;
	char data[DATA_ROOM];
};

static int double_sock = -1; /* the test's end of the socket */

const char *double_socket(unsigned vm)
{
	static const char *const sockets[DOUBLE_VMS] = {
		"/run/xenstored/socket",
		"/run/xenstored/clone-1",
		"/run/xenstored/clone-2",
		"/run/xenstored/clone-3",
	};

	return sockets[vm];
}

/* ---- in the double's process ---- */

/* Return: true if what an OP_AWAIT… waits for is there. */
static bool has_come(const struct play *play, const struct command *c)
{
	return c->op == OP_AWAIT ? play_count(play, c->text[0]) >= c->a
				 : play_watches(play) == c->a;
}

/* Does a command that is answered at once. Return: the value. */
static long obey(struct play **play, const struct command *c, struct answer *answer)
{
	const char *second = c->null ? NULL : c->text[1];

	switch (c->op) {
	case OP_START:
		*play = play_start();
		return 0;
	case OP_STOP:
		play_stop(*play);
		*play = NULL;
		return 0;
	case OP_SET:
		play_set(*play, c->a, c->text[0], second);
		return 0;
	case OP_ANSWER:
		play_answer(*play, c->text[0], second);
		return 0;
	case OP_ANSWER_LATE:
		play_answer_late(*play, c->text[0]);
		return 0;
	case OP_AGENT:
		play_agent(*play, c->n);
		return 0;
	case OP_MODULE:
		play_module(*play, c->n);
		return 0;
	case OP_END_CLONE:
		play_end_clone(*play, c->a, c->b, c->text[0], c->n, second);
		return 0;
	case OP_DROP:
		play_drop(*play);
		return 0;
	case OP_COUNT:
		return play_count(*play, c->text[0]);
	case OP_FORGET:
		play_forget(*play);
		return 0;
	case OP_LEFTOVERS:
		return play_leftovers(*play);
	case OP_ARRIVED:
		return play_arrived(*play);
	case OP_RESULT:
		return (long)play_result(*play, c->a, answer->data, DATA_ROOM);
	case OP_AWAIT:
	case OP_AWAIT_WATCHES:
		break;
	}
	abort();
}

static void send_answer(int sock, struct answer *answer, long value)
{
	answer->value = value;
	if (send(sock, answer, sizeof(*answer), MSG_NOSIGNAL) != sizeof(*answer))
		_exit(1);
}

/* Serves the socket and the double until the test is gone. */
static _Noreturn void live(int sock)
{
	struct play *play = NULL;
	struct command c;
	uint64_t end_ns = 0; /* of waiting for what `c` waits for; 0: it does not */

	for (;;) {
		struct pollfd fds[MAX_FDS] = { { .fd = sock, .events = POLLIN } };
		struct answer answer = { 0 };
		unsigned count = play ? play_fds(play, fds + 1, MAX_FDS - 1) : 0;

		if (poll(fds, count + 1, end_ns ? 100 : -1) < 0)
			continue;
		if (play)
			play_serve(play, fds + 1, count);
		if (fds[0].revents) {
			if (recv(sock, &c, sizeof(c), 0) != sizeof(c))
				_exit(0);
			if (c.op == OP_AWAIT || c.op == OP_AWAIT_WATCHES)
				end_ns = io_now_ns() + AWAIT_NS;
			else
				send_answer(sock, &answer, obey(&play, &c, &answer));
		}
		if (end_ns && (has_come(play, &c) || io_now_ns() > end_ns)) {
			send_answer(sock, &answer, has_come(play, &c));
			end_ns = 0;
		}
	}
}

static int private_run(void)
{
	if (unshare(CLONE_NEWNS) && unshare(CLONE_NEWUSER | CLONE_NEWNS))
		return 77;
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
	    mount("run", "/run", "tmpfs", 0, "mode=755"))
		return 77;
	if (mkdir("/run/xenstored", 0755) || mkdir("/run/snowflock", 0755) ||
	    mkdir(AGENT_RESULT_DIR, 0755))
		return 77;
	return 0;
}

int double_prepare(void)
{
	int pair[2];
	pid_t pid;

	if (private_run())
		return 77;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair))
		return 1;
	pid = fork();
	if (!pid) {
		close(pair[0]);
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		signal(SIGPIPE, SIG_IGN); /* a client may be gone before its answer */
		live(pair[1]);
	}
	close(pair[1]);
	double_sock = pair[0];
	return pid < 0;
}

/* ---- in the test ---- */

static long ask(const struct command *c, struct answer *answer)
{
	struct answer mine;

	if (!answer)
		answer = &mine;
	if (send(double_sock, c, sizeof(*c), MSG_NOSIGNAL) != sizeof(*c) ||
	    io_read_full(double_sock, answer, sizeof(*answer))) {
		fprintf(stderr, "the double is gone\n");
		abort();
	}
	return answer->value;
}

static void put_text(struct command *c, unsigned which, const char *text)
{
	if (which)
		c->null = !text;
	snprintf(c->text[which], sizeof(c->text[which]), "%s", text ? text : "");
}

static long ask_about(enum op op, unsigned a, const char *text)
{
	struct command c = { .op = op, .a = a };

	put_text(&c, 0, text);
	return ask(&c, NULL);
}

void double_start(void)
{
	ask_about(OP_START, 0, NULL);
}

void double_stop(void)
{
	ask_about(OP_STOP, 0, NULL);
}

void double_set(unsigned vm, const char *path, const char *value)
{
	struct command c = { .op = OP_SET, .a = vm };

	put_text(&c, 0, path);
	put_text(&c, 1, value);
	ask(&c, NULL);
}

void double_answer(const char *verb, const char *answer)
{
	struct command c = { .op = OP_ANSWER };

	put_text(&c, 0, verb);
	put_text(&c, 1, answer);
	ask(&c, NULL);
}

void double_answer_late(const char *answer)
{
	ask_about(OP_ANSWER_LATE, 0, answer);
}

void double_agent(int behaviour)
{
	struct command c = { .op = OP_AGENT, .n = behaviour };

	ask(&c, NULL);
}

void double_module(bool there)
{
	struct command c = { .op = OP_MODULE, .n = there };

	ask(&c, NULL);
}

void double_end_clone(unsigned ticket, unsigned id, const char *state, int status,
		      const char *reason)
{
	struct command c = { .op = OP_END_CLONE, .a = ticket, .b = id, .n = status };

	put_text(&c, 0, state);
	put_text(&c, 1, reason);
	ask(&c, NULL);
}

void double_drop(void)
{
	ask_about(OP_DROP, 0, NULL);
}

bool double_await(const char *words, unsigned times)
{
	return ask_about(OP_AWAIT, times, words);
}

unsigned double_count(const char *words)
{
	return (unsigned)ask_about(OP_COUNT, 0, words);
}

void double_forget(void)
{
	ask_about(OP_FORGET, 0, NULL);
}

bool double_await_watches(unsigned watches)
{
	return ask_about(OP_AWAIT_WATCHES, watches, NULL);
}

unsigned double_leftovers(void)
{
	return (unsigned)ask_about(OP_LEFTOVERS, 0, NULL);
}

unsigned double_arrived(void)
{
	return (unsigned)ask_about(OP_ARRIVED, 0, NULL);
}

size_t double_result(unsigned vm, char *data, size_t room)
{
	struct command c = { .op = OP_RESULT, .a = vm };
	struct answer answer;
	size_t len = (size_t)ask(&c, &answer);

	memcpy(data, answer.data, room < DATA_ROOM ? room : DATA_ROOM);
	return len;
}
