/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Inside the simulated world: what its hosts and its wire know of each other. */
#ifndef TESTS_MCDIST_WORLD_H
#define TESTS_MCDIST_WORLD_H

#include <sys/queue.h>

#include "proto/mcdist.h"
#include "tests/mcdist/sim.h"

#define SIM_GROUPS 256u

struct sim_host {
	struct sim_host_config config;
	struct sim_counters counters;
	bool on;
	uint64_t sent_ns;	/* its NIC is busy until then */
	uint64_t port_ns;	/* and the switch's port before it */
	uint64_t packet;	/* the last that was copied to its port, */
	uint64_t packet_ns;	/* and when that one is there; 0: lost */
};

/* A datagram under way, or several copies of it. */
struct sim_packet {
	TAILQ_ENTRY(sim_packet) link;	/* of those that wait for their host's NIC */
	uint64_t number;
	unsigned users;
	struct sim_endpoint *sender;
	struct sim_event sent;
	struct mc_address from, to;
	size_t len;
	uint8_t bytes[];
};

/* One copy. */
struct sim_delivery {
	STAILQ_ENTRY(sim_delivery) link;	/* of a receive buffer, or of the free ones */
	struct sim_event arrives;
	struct sim_packet *packet;
	struct sim_endpoint *to;
};

struct timer;

struct sim_endpoint {
	struct mc_transport transport;
	struct sim *sim;
	struct sim_host *host;
	uint32_t number;
	uint64_t send_bytes;		/* in the send buffer */
	bool blocked;			/* it was told -EAGAIN */
	STAILQ_HEAD(, sim_delivery) received;
	uint64_t received_bytes;	/* in the receive buffer */
	uint64_t busy_ns;		/* its thread is, until then */
	struct sim_event work;
	LIST_HEAD(, timer) timers;
};

struct sim_group {
	struct sim_endpoint **members;
	uint32_t count, room;
};

struct sim {
	struct sim_queue events;
	uint64_t now_ns;
	uint64_t random;
	uint64_t packets;
	struct sim_host **hosts;
	uint32_t host_count;
	struct sim_endpoint **endpoints;
	uint32_t endpoint_count;
	struct sim_group groups[SIM_GROUPS];
	STAILQ_HEAD(, sim_delivery) free;
	TAILQ_HEAD(, sim_packet) waiting;
	uint8_t scratch[MC_MAX_DATAGRAM];
};

struct sim_endpoint *sim_endpoint_of(const struct mc_transport *t);

/* A datagram has come to its host. Takes it over. */
void sim_endpoint_take(struct sim_endpoint *ep, struct sim_delivery *d);

/* If it was told that there is no room, and there is again: says so. */
void sim_endpoint_unblock(struct sim_endpoint *ep);

/* ── wire.c ── */

/* What a datagram takes of a socket's buffer. */
uint64_t sim_buffer_bytes(size_t len);

int sim_wire_send(struct sim_endpoint *ep, const struct mc_address *to, const void *bytes,
		  size_t len);
int sim_wire_join(struct mc_transport *t, const struct mc_address *group, bool member);
void sim_wire_leave(struct sim_endpoint *ep);
void sim_delivery_free(struct sim *sim, struct sim_delivery *d);
void sim_wire_fini(struct sim *sim);

#endif
