/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A double of the kernel module, preloaded into the agent: its device is a file that holds the
 * answer to SFK_WHERE; the test that listens at `hold` beside it is the host.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/random.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "module-double.h"

static struct sfk_prepare prepared;

static int refuse(int error)
{
	errno = error;
	return -1;
}

static int prepare(const struct sfk_prepare *prepare)
{
	if (!prepare->op || getenv("SF_DOUBLE_BUSY"))
		return refuse(EBUSY);
	prepared = *prepare;
	return 0;
}

/* Has the test know that the kernel's random numbers got new keys, and does not bother this one. */
static int note_reseed(void)
{
	int fd = open(getenv("SF_DOUBLE_RESEEDED"), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	close(fd);
	return 0;
}

static int hold(struct sfk_held *held)
{
	struct sockaddr_un host = { .sun_family = AF_UNIX };
	struct double_answer answer;
	int sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	bool heard;

	if (!prepared.op)
		return refuse(ENXIO);
	snprintf(host.sun_path, sizeof(host.sun_path), "%s", getenv("SF_DOUBLE_HOLD"));
	heard = !connect(sock, (struct sockaddr *)&host, sizeof(host)) &&
		send(sock, &prepared, sizeof(prepared), 0) == sizeof(prepared) &&
		recv(sock, &answer, sizeof(answer), 0) == sizeof(answer);
	close(sock);
	prepared.op = 0;
	if (!heard)
		return refuse(ETIMEDOUT);
	if (answer.error)
		return refuse(answer.error);
	*held = answer.held;
	return 0;
}

__attribute__((visibility("default"))) int ioctl(int fd, unsigned long request, ...)
{
	va_list args;
	void *arg;

	va_start(args, request);
	arg = va_arg(args, void *);
	va_end(args);
	switch (request) {
	case SFK_WHERE:
		if (pread(fd, arg, sizeof(struct sfk_where), 0) != sizeof(struct sfk_where))
			return refuse(ENODEV);
		return 0;
	case SFK_PREPARE:
		return prepare(arg);
	case SFK_HOLD:
		return hold(arg);
	case RNDRESEEDCRNG:
		return note_reseed();
	default:
		return (int)syscall(SYS_ioctl, fd, request, arg);
	}
}
