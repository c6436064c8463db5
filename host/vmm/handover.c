/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Receives the guest RAM's userfaultfd from the shim, and believes nothing that came with it. */
#define _GNU_SOURCE
#include "host/vmm/handover.h"

#include <errno.h>
#include <event2/event.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "proto/uffd.h"

struct handover {
	struct event *readable;
	int sock;
	uint64_t ram_bytes;
	bool seen;
	const struct handover_handler *handler;
	void *arg;
};

static void hang_up(struct handover *handover)
{
	if (handover->readable)
		event_free(handover->readable);
	handover->readable = NULL;
	if (handover->sock >= 0)
		close(steal_fd(&handover->sock));
}

/* Return: NULL, or what is wrong with the message. */
static const char *check(const struct handover *handover, ssize_t got, unsigned nfds,
			 const struct uffd_handover *message)
{
	if (!got)
		return "QEMU ended before it mapped its RAM";
	if (got != sizeof(*message) || nfds != 1 || message->magic != UFFD_MAGIC)
		return "the shim sent a malformed message";
	if (message->page_bytes != 4096 || message->base % 4096)
		return "the shim speaks of pages that are not 4096 bytes";
	if (message->length_bytes != handover->ram_bytes ||
	    message->base + message->length_bytes < message->base)
		return "the shim mapped another amount of RAM than the VM has";
	return NULL;
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
	struct handover *handover = arg;
	struct uffd_handover message;
	unsigned nfds = 0;
	int uffd = -1;
	ssize_t got = io_recv_fds(fd, &message, sizeof(message), &uffd, 1, &nfds);
	const char *wrong;

	(void)what;
	if (got == -EAGAIN)
		return;
	wrong = check(handover, got, nfds, &message);
	if (wrong) {
		if (nfds)
			close(uffd);
		hang_up(handover);
		handover->handler->broken(handover->arg, wrong);
		return;
	}
	event_free(handover->readable);
	handover->readable = NULL;
	handover->seen = true;
	handover->handler->mapped(handover->arg, uffd, message.base, message.length_bytes);
}

struct handover *handover_create(struct event_base *base, int sock, uint64_t ram_bytes,
				 const struct handover_handler *handler, void *arg)
{
	struct handover *handover = calloc(1, sizeof(*handover));

	if (!handover)
		return NULL;
	handover->sock = -1;
	handover->ram_bytes = ram_bytes;
	handover->handler = handler;
	handover->arg = arg;
	handover->readable = event_new(base, sock, EV_READ | EV_PERSIST, on_readable, handover);
	if (!handover->readable || event_add(handover->readable, NULL)) {
		handover_destroy(handover);
		errno = ENOMEM;
		return NULL;
	}
	handover->sock = sock;
	return handover;
}

bool handover_seen(const struct handover *handover)
{
	return handover->seen;
}

void handover_accept(struct handover *handover, bool ok)
{
	const char answer = UFFD_ACK;

	/* A QEMU that is gone by now is noticed by its end. */
	if (ok && handover->sock >= 0)
		io_send_fds(handover->sock, &answer, 1, NULL, 0);
	hang_up(handover);
}

void handover_destroy(struct handover *handover)
{
	if (!handover)
		return;
	hang_up(handover);
	free(handover);
}
