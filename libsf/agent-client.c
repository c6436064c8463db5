/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Asking the guest's agent (proto/agent-socket.h). */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "libsf/internal.h"
#include "proto/agent-socket.h"

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
