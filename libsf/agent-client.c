/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Asking the guest's agent (proto/agent-socket.h). */
#include <endian.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "libsf/internal.h"
#include "proto/agent-socket.h"

/* The agent notes a wish at once; without it the call works all the same. */
#define NOTED_TIMEOUT_MS 1000

static int agent_connect(void)
{
	struct sockaddr_un to = { .sun_family = AF_UNIX, .sun_path = AGENT_SOCKET };
	_cleanup_fd_ int sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	if (sock < 0)
		return lsf_fail(errno, "cannot make a socket: %s", strerror(errno));
	if (connect(sock, (struct sockaddr *)&to, sizeof(to)))
		return lsf_fail(ENODEV,
				"the agent of this VM cannot be reached at " AGENT_SOCKET ": %s",
				strerror(errno));
	return steal_fd(&sock);
}

/* Waits until there is something to read. Return: 0; -1 with ETIMEDOUT. */
static int await(int sock, int timeout_ms)
{
	struct pollfd ready = { .fd = sock, .events = POLLIN };
	uint64_t end_ns = io_now_ns() + (uint64_t)(timeout_ms > 0 ? timeout_ms : 0) * 1000000u;

	for (;;) {
		int64_t left_ns = (int64_t)(end_ns - io_now_ns());
		int left_ms = left_ns > 0 ? (int)(left_ns / 1000000) : 0;
		int rc = poll(&ready, 1, timeout_ms < 0 ? -1 : left_ms);

		if (rc > 0)
			return 0;
		if (!rc)
			return lsf_fail(ETIMEDOUT, "the agent of this VM does not answer");
		if (errno != EINTR)
			return lsf_fail(errno, "waiting for the agent: %s", strerror(errno));
	}
}

/* Says once in this process what is missing, unless its user wants to hear nothing. */
static void tell_no_module(void)
{
	static const char line[] =
		"snowflock: without its kernel module this VM makes clones that set address and "
		"clock late, keep the parent's connections until they time out, and fetch unused "
		"memory, too; see snowflock(7)\n";
	static atomic_flag told = ATOMIC_FLAG_INIT;
	int number = errno;

	if (!atomic_flag_test_and_set(&told) && !getenv("SF_QUIET") &&
	    write(STDERR_FILENO, line, sizeof(line) - 1) < 0)
		errno = number; /* nowhere left to say it */
}

void lsf_instant_begin(struct lsf_instant *instant, const char *key)
{
	struct agent_sock_await request = { .head = { .op = AGENT_SOCK_AWAIT } };
	struct agent_sock_reply noted;
	_cleanup_fd_ int sock = agent_connect();

	*instant = (struct lsf_instant){ .sock = -1, .udp = -1 };
	memcpy(request.request, key, strnlen(key, sizeof(request.request)));
	if (sock < 0 || send(sock, &request, sizeof(request), MSG_NOSIGNAL) != sizeof(request) ||
	    await(sock, NOTED_TIMEOUT_MS) ||
	    recv(sock, &noted, sizeof(noted), 0) != sizeof(noted) || noted.error)
		return;
	if (noted.flags & AGENT_SOCK_F_NO_MODULE)
		tell_no_module();
	instant->udp = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	instant->sock = steal_fd(&sock);
}

bool lsf_instant_told(struct lsf_instant *instant)
{
	struct agent_sock_instant told;
	ssize_t got;

	if (instant->sock < 0)
		return false;
	got = recv(instant->sock, &told, sizeof(told), MSG_DONTWAIT);
	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return false;
	if (got != sizeof(told) || told.error || !told.id) {
		/* an agent that does not know this, or that ended */
		close(instant->sock);
		instant->sock = -1;
		return false;
	}
	instant->id = told.id;
	instant->count = told.count;
	instant->checkpoint = told.checkpoint;
	instant->parent = told.parent;
	instant->answer_port = told.answer_port;
	return true;
}

void lsf_instant_arrived(struct lsf_instant *instant)
{
	struct agent_sock_request request = { .op = AGENT_SOCK_ARRIVED, .value = instant->id };
	struct agent_arrived message = { htole32(AGENT_ARRIVED_FIRST), htole32(instant->id) };
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(instant->answer_port),
				  .sin_addr = { instant->parent } };

	if (!instant->parent || !instant->answer_port)
		return;
	/* if it is lost, the agent says it again */
	if (instant->udp >= 0)
		sendto(instant->udp, &message, sizeof(message), MSG_DONTWAIT,
		       (struct sockaddr *)&to, sizeof(to));
	send(instant->sock, &request, sizeof(request), MSG_NOSIGNAL | MSG_DONTWAIT);
}

void lsf_instant_end(struct lsf_instant *instant)
{
	cleanup_close(&instant->sock);
	cleanup_close(&instant->udp);
}

int lsf_agent_ask(uint32_t op, uint64_t value, int fd, int timeout_ms)
{
	struct agent_sock_request request = { .op = op, .value = value };
	struct agent_sock_reply reply;
	_cleanup_fd_ int sock = agent_connect();
	int rc;

	if (sock < 0)
		return -1;
	rc = io_send_fds(sock, &request, sizeof(request), &fd, fd >= 0);
	if (rc < 0)
		return lsf_fail(-rc, "asking the agent: %s", strerror(-rc));
	if (await(sock, timeout_ms))
		return -1;
	if (recv(sock, &reply, sizeof(reply), 0) != sizeof(reply))
		return lsf_fail(ECONNRESET, "the agent of this VM ended before it answered");
	if (reply.error)
		return lsf_fail(reply.error, "the agent of this VM refused: %s",
				strerror(reply.error));
	return 0;
}
