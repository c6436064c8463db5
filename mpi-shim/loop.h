/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The event loop of keeper and executor: one epoll. */
#ifndef MPI_SHIM_LOOP_H
#define MPI_SHIM_LOOP_H

#include <stdint.h>
#include <sys/epoll.h>

#define LOOP_BATCH 16

/* A descriptor in the loop. It belongs to whoever embeds it; the loop never closes it. */
struct source {
	int fd;		 /* -1: none */
	uint32_t events; /* asked for (EPOLLIN…); 0: only its end */
	int watched;	 /* in the loop */
	void (*ready)(struct source *source, uint32_t events);
};

struct loop {
	int fd;
	struct epoll_event batch[LOOP_BATCH];
	int batch_len;
};

/* Return: 0 or -errno. */
int loop_init(struct loop *loop);
void loop_fini(struct loop *loop);

/* Waits for `events` on the source from now on. Return: 0 or -errno. */
int loop_watch(struct loop *loop, struct source *source, uint32_t events);

/* Takes the source out of the loop; its ready() is not called any more. */
void loop_forget(struct loop *loop, struct source *source);

/* Serves what is ready, or becomes so within `timeout_ms` (-1: for ever). Return: 0 or -errno. */
int loop_once(struct loop *loop, int timeout_ms);

#endif
