/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Whom a guest's connections to the outside reach. */
#define _GNU_SOURCE
#include "outside.h"

#include <CUnit/CUnit.h>
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <stddef.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/io.h"
#include "vm.h"

static bool readable(int fd, int ms)
{
	return poll(&(struct pollfd){ .fd = fd, .events = POLLIN }, 1, ms) > 0;
}

void outside_open(struct outside *o)
{
	struct sockaddr_in at = { .sin_family = AF_INET,
				  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(at);

	o->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	CU_ASSERT_FATAL(!bind(o->listener, (struct sockaddr *)&at, sizeof(at)) &&
			!listen(o->listener, 16) &&
			!getsockname(o->listener, (struct sockaddr *)&at, &len));
	o->port = ntohs(at.sin_port);
}

void outside_close(struct outside *o)
{
	close(o->listener);
}

int outside_accept(struct outside *o)
{
	int fd = -1;

	if (readable(o->listener, VM_WAIT_MS))
		fd = accept4(o->listener, NULL, NULL, SOCK_CLOEXEC);
	CU_ASSERT_TRUE_FATAL(fd >= 0);
	return fd;
}

uint32_t outside_count(int fd, uint32_t from, int ms)
{
	uint64_t end_ns = io_now_ns() + (uint64_t)ms * 1000000;
	uint32_t number = 0;

	while (io_now_ns() < end_ns && readable(fd, ms)) {
		if (io_read_full(fd, &number, sizeof(number)))
			break;
		CU_ASSERT_EQUAL_FATAL(number, from);
		from++;
	}
	return from;
}
