/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A clone tells ID 0 over their network that it has arrived (proto/agent-socket.h). */
#ifndef AGENT_ARRIVE_H
#define AGENT_ARRIVE_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

#include "agent/loop.h"

struct arrive {
	struct source socket;		/* fd -1: no network */
	struct source timer;
	struct loop *loop;
	bool (*answered)(void *arg, uint32_t id, uint32_t slot);
	void *arg;
	uint32_t id;			/* who this VM is */
	struct sockaddr_in parent;	/* where ID 0 listens */
	unsigned tries_left;
	unsigned wait_ms;		/* until the next try */
};

/*
 * `answered` is called in ID 0 when clone `id` has arrived from the address `slot` beyond ours, maybe more than once; false from it
 * means not now, and the clone will ask again.
 */
void arrive_init(struct arrive *arrive, struct loop *loop,
		 bool (*answered)(void *arg, uint32_t id, uint32_t slot), void *arg);

/*
 * This VM is `id`, and ID 0 has the address `parent` (network order) and listens on `port` (host
 * order; 0: nobody does). Return: 0 or -errno.
 */
int arrive_as(struct arrive *arrive, uint32_t id, uint32_t parent, uint16_t port);

/* Tells ID 0, and tells it again until it answers. Return: 0 or -errno. */
int arrive_tell(struct arrive *arrive);

/* ID 0 was told just now and did not answer, as it should be: the same, but after a while. */
void arrive_later(struct arrive *arrive);

#endif
