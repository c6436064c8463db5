/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See loop.h. */
#include "loop.h"

#include <errno.h>
#include <stddef.h>
#include <unistd.h>

int loop_init(struct loop *loop)
{
	loop->batch_len = 0;
	loop->fd = epoll_create1(EPOLL_CLOEXEC);
	return loop->fd < 0 ? -errno : 0;
}

void loop_fini(struct loop *loop)
{
	if (loop->fd >= 0)
		close(loop->fd);
	loop->fd = -1;
}

int loop_watch(struct loop *loop, struct source *source, uint32_t events)
{
	struct epoll_event event = { .events = events, .data.ptr = source };

	if (source->watched && source->events == events)
		return 0;
	if (epoll_ctl(loop->fd, source->watched ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, source->fd, &event))
		return -errno;
	source->watched = 1;
	source->events = events;
	return 0;
}

void loop_forget(struct loop *loop, struct source *source)
{
	if (source->watched)
		epoll_ctl(loop->fd, EPOLL_CTL_DEL, source->fd, NULL);
	source->watched = 0;
	for (int i = 0; i < loop->batch_len; i++) {
		if (loop->batch[i].data.ptr == source)
			loop->batch[i].data.ptr = NULL;
	}
}

int loop_once(struct loop *loop, int timeout_ms)
{
	int count = epoll_wait(loop->fd, loop->batch, LOOP_BATCH, timeout_ms);

	if (count < 0)
		return errno == EINTR ? 0 : -errno;
	loop->batch_len = count;
	for (int i = 0; i < loop->batch_len; i++) {
		struct source *source = loop->batch[i].data.ptr;

		if (source)
			source->ready(source, loop->batch[i].events);
	}
	loop->batch_len = 0;
	return 0;
}
