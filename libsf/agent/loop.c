/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Two nested epolls. The outer one has the ports and the inner one; holding the loop takes the
 * inner one out. So a whole agent is made quiet by one system call, and wakes by one.
 */
#include "agent/loop.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "common/log.h"

int loop_init(struct loop *loop)
{
	struct epoll_event rest = { .events = EPOLLIN };

	*loop = (struct loop){ .ports_fd = epoll_create1(EPOLL_CLOEXEC), .rest_fd = -1 };
	if (loop->ports_fd < 0)
		return -errno;
	loop->rest_fd = epoll_create1(EPOLL_CLOEXEC);
	if (loop->rest_fd < 0 || epoll_ctl(loop->ports_fd, EPOLL_CTL_ADD, loop->rest_fd, &rest))
		return -errno;
	return 0;
}

/* Forgets events of a source that were received and not yet served. */
static void drop_received(struct loop *loop, const struct source *source)
{
	for (int i = 0; i < loop->batch_len; i++) {
		if (loop->batch[i].data.ptr == source)
			loop->batch[i].data.ptr = NULL;
	}
}

void loop_watch(struct loop *loop, struct source *source, uint32_t events)
{
	struct epoll_event event = { .events = events, .data.ptr = source };
	int epoll_fd = source->port ? loop->ports_fd : loop->rest_fd;
	int op = EPOLL_CTL_MOD;

	if (source->events == events && source->active == !!events)
		return;
	if (!events)
		op = EPOLL_CTL_DEL;
	else if (!source->active)
		op = EPOLL_CTL_ADD;
	if (epoll_ctl(epoll_fd, op, source->fd, &event)) {
		log_err("loop: descriptor %d: %s", source->fd, strerror(errno));
		loop_end(loop, 1);
		return;
	}
	source->events = events;
	source->active = events;
	if (!events)
		drop_received(loop, source);
}

void loop_hold(struct loop *loop, bool held)
{
	struct epoll_event rest = { .events = EPOLLIN };

	if (loop->held == held)
		return;
	if (epoll_ctl(loop->ports_fd, held ? EPOLL_CTL_DEL : EPOLL_CTL_ADD, loop->rest_fd, &rest)) {
		log_err("loop: %s", strerror(errno));
		loop_end(loop, 1);
		return;
	}
	loop->held = held;
}

void loop_end(struct loop *loop, int status)
{
	loop->ended = true;
	loop->status = status;
}

/* Serves what one epoll has; *rest says if the inner one has something. Return: 0 or -errno. */
static int serve(struct loop *loop, int epoll_fd, int timeout_ms, bool *rest)
{
	int count = epoll_wait(epoll_fd, loop->batch, LOOP_BATCH, timeout_ms);

	*rest = false;
	if (count < 0)
		return errno == EINTR ? 0 : -errno;
	loop->batch_len = count;
	for (int i = 0; i < count && !loop->ended; i++) {
		struct source *source = loop->batch[i].data.ptr;

		if (source)
			source->ready(source, loop->batch[i].events);
		else
			*rest = true;	/* or a source that is gone: looking again does no harm */
		if (epoll_fd == loop->rest_fd && loop->held)
			break;
	}
	loop->batch_len = 0;
	return 0;
}

int loop_run(struct loop *loop)
{
	while (!loop->ended) {
		bool rest;
		int error = serve(loop, loop->ports_fd, -1, &rest);

		if (!error && rest && !loop->held && !loop->ended)
			error = serve(loop, loop->rest_fd, 0, &rest);
		if (error) {
			log_err("loop: %s", strerror(-error));
			return 1;
		}
	}
	return loop->status;
}
