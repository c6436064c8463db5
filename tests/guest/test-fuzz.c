/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Hosts and clients that make no sense: the agent refuses, it does not crash. Frames and messages
 * are sound ones with bytes changed, so that they get further than noise would. SEED and ROUNDS in
 * the environment choose others.
 */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "harness.h"

#define FRAMES 60	/* to one agent, unless it ends before */

static unsigned number_of(const char *name, unsigned otherwise)
{
	return getenv(name) ? (unsigned)atoi(getenv(name)) : otherwise;
}

static unsigned any(unsigned below)
{
	return (unsigned)rand() % below;
}

/* Changes up to three bytes. */
static void damage(uint8_t *bytes, size_t len)
{
	for (unsigned n = any(4); n && len; n--)
		bytes[any((unsigned)len)] = (uint8_t)(any(2) ? any(256) : any(3));
}

/* A sound frame but for its damage. Nothing outside of the guest's folder can be meant by it. */
static size_t make_frame(struct guest *g, uint8_t *buf)
{
	static const struct { uint16_t type, channel; uint32_t length; } kinds[] = {
		{ AGENT_EXEC, 0, 0 },
		{ AGENT_PUT, 0, 0 },
		{ AGENT_RESULT, 0, 16 },
		{ AGENT_DATA, AGENT_STDIN, 7 },
		{ AGENT_DATA, AGENT_STDIN, 7 },
		{ AGENT_DATA, AGENT_STDIN, 0 },
		{ AGENT_SIGNAL, 0, 8 },
		{ AGENT_WINSIZE, 0, 8 },
		{ AGENT_STORED, 0, 8 },
		{ AGENT_CREDIT, AGENT_STDOUT, 8 },
		{ AGENT_QUIESCE, 0, 16 },
		{ AGENT_RESUME, 0, 48 },
	};
	unsigned kind = any(any(10) ? 10 : ARRAY_SIZE(kinds));
	struct agent_frame frame = { .type = kinds[kind].type, .stream = any(30) + 1,
				     .channel = kinds[kind].channel,
				     .length = kinds[kind].length };
	uint8_t *payload = buf + sizeof(frame);
	struct agent_exec exec = { .argc = 2, .envc = 1 };
	struct agent_result result = { .ticket = any(3), .id = any(3) + 1, .length = any(20) };
	size_t fixed = 0;	/* what may be damaged of the payload */

	memset(payload, 0, frame.length);
	if (frame.type == AGENT_EXEC) {
		fixed = sizeof(exec);
		memcpy(payload, &exec, fixed);
		memcpy(payload + fixed, "true\0x\0SF_A=b\0/", 16);
		frame.length = (uint32_t)fixed + 16;
	} else if (frame.type == AGENT_PUT) {
		fixed = sizeof(struct agent_put);
		memset(payload, 0, fixed);
		payload[8] = (uint8_t)any(20);
		frame.length = (uint32_t)fixed + 1;
		frame.length += (uint32_t)sprintf((char *)payload + fixed, "%s/put.%u", g->dir,
						  any(5));
	} else {
		fixed = frame.length;
		if (frame.type == AGENT_RESULT)
			memcpy(payload, &result, sizeof(result));
	}
	if (!any(3))
		damage(payload, fixed);
	memcpy(buf, &frame, sizeof(frame));
	if (!any(20))
		damage(buf, sizeof(frame));
	return sizeof(frame) + frame.length;
}

static size_t make_message(uint8_t *buf)
{
	struct xsd_sockmsg head = { any(2) ? any(XS_TYPE_COUNT + 2) : XS_WATCH, 1 << 16, 0, 12 };

	memcpy(buf, &head, sizeof(head));
	memcpy(buf + sizeof(head), "p\0001:t\0path\0\0", 12);
	if (!any(3))
		damage(buf, sizeof(head) + 12);
	return sizeof(head) + 12;
}

/* Reads what there is, so that the agent is not held up. Return: false at the end. */
static bool drain(int fd)
{
	char scrap[4096];
	ssize_t got;

	do {
		got = read(fd, scrap, sizeof(scrap));
	} while (got > 0);
	return got < 0 && errno == EAGAIN;
}

static void fuzz_one(void)
{
	struct guest *g = guest_boot(0);
	uint8_t buf[70000];
	int client = client_connect(g), status = 0;

	io_set_nonblock(g->port, true);
	io_set_nonblock(g->xs, true);
	io_set_nonblock(client, true);
	for (int i = 0; i < FRAMES; i++) {
		int fds[] = { g->port, g->port, g->port, client, client, any(5) ? client : g->xs };
		int fd = fds[any(ARRAY_SIZE(fds))];
		size_t len = fd == g->port ? make_frame(g, buf) : make_message(buf);

		if (write(fd, buf, len) < 0 && errno == EPIPE)
			break;
		if (!drain(g->port) || !drain(g->xs))
			break;
		drain(client);
	}
	/* whatever it is in the middle of: the end of its port ends it */
	close(client);
	shutdown(g->port, SHUT_RDWR);
	for (int i = 0; i < GUEST_WAIT_MS && !waitpid(g->pid, &status, WNOHANG); i++) {
		drain(g->xs);
		poll(NULL, 0, 1);
	}
	CU_ASSERT_TRUE(WIFEXITED(status));
	CU_ASSERT_EQUAL(WEXITSTATUS(status), 1);
	g->pid = -1;
	guest_stop(g);
}

static void nothing_crashes_it(void)
{
	unsigned seed = number_of("SEED", 1), rounds = number_of("ROUNDS", 150);

	for (unsigned i = 0; i < rounds && !CU_get_number_of_failure_records(); i++) {
		srand(seed + i);
		fuzz_one();
		if (CU_get_number_of_failure_records())
			fprintf(stderr, "it was SEED=%u ROUNDS=1\n", seed + i);
	}
}

int main(void)
{
	static const CU_TestInfo tests[] = {
		{ "nothing crashes it", nothing_crashes_it },
		CU_TEST_INFO_NULL
	};

	return run_suite("fuzz", tests);
}
