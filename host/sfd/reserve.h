/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The message by which a home asks for clones to be prepared (proto/peer.h), checked. */
#ifndef HOST_SFD_RESERVE_H
#define HOST_SFD_RESERVE_H

#include <jansson.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

#include "host/sfd/family.h"
#include "proto/agent-port.h"

struct reservation {
	/* the family, if it is to be made: */
	unsigned number, cpus, vni;
	uint64_t ram_bytes;
	struct in_addr base;
	struct sockaddr_in group;
	bool ipv6;
	struct family_disks disks;
	/* the ticket's share of this host: */
	unsigned ticket;
	unsigned *slots, count;
	struct agent_window window; /* of the clones; 0 pages: none */
};

/* Return: 0, then reserve_fini() it, or -EINVAL, -ENOMEM. */
int reserve_parse(struct reservation *v, const json_t *msg);
void reserve_fini(struct reservation *v);

#endif
