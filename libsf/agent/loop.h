/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The agent's event loop: one epoll, in which everything but the two ports can be held at once. */
#ifndef AGENT_LOOP_H
#define AGENT_LOOP_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>

#define LOOP_BATCH 16

/* A descriptor in the loop. It belongs to whoever embeds it; the loop never closes it. */
struct source {
	int fd;			/* -1: none */
	uint32_t events;	/* asked for (EPOLLIN…) */
	bool active;		/* in the loop */
	bool port;		/* goes on while the loop is held */
	void (*ready)(struct source *source, uint32_t events);
};

struct loop {
	int ports_fd;		/* epoll of the sources with `port`, and of rest_fd unless held */
	int rest_fd;		/* epoll of all the others */
	bool held;
	bool ended;
	int status;		/* of the program, when ended */
	struct epoll_event batch[LOOP_BATCH];
	int batch_len;
};

/* Return: 0 or -errno. */
int loop_init(struct loop *loop);

/* Waits for `events` on the source; 0 takes it out of the loop. Out of memory ends the loop. */
void loop_watch(struct loop *loop, struct source *source, uint32_t events);

/* While held only sources with `port` are served. */
void loop_hold(struct loop *loop, bool held);

/* Makes loop_run() return `status`. */
void loop_end(struct loop *loop, int status);

/* Serves events until loop_end(). Return: its status. */
int loop_run(struct loop *loop);

#endif
