/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A world for mcdist: hosts on a switch, in simulated time, thousands of them in one process.
 *
 *   endpoint ─ send buffer ─ NIC ─── delay ─── switch ─ port buffer ─ delay, jitter ─ receive
 *   buffer ─ processor ─ endpoint
 *
 * A datagram takes the time of its frames on the wire out of its host and again out of the switch's
 * port to the host that it is for. One to a group leaves its host once, and the switch copies it to
 * every port with a member. A port's buffer or a receive buffer that is full loses it; besides, each
 * receiver loses, gets twice, or gets late some at random. Each endpoint is one thread, which a
 * datagram keeps busy for a time that follows its length.
 *
 * A datagram is lost as a whole: the world knows no single frames. Two runs with the same seed are
 * the same.
 */
#ifndef TESTS_MCDIST_SIM_H
#define TESTS_MCDIST_SIM_H

#include <stdbool.h>
#include <stdint.h>

#include "host/mcdist/transport.h"
#include "tests/mcdist/queue.h"

struct sim;

#define SIM_MILLION 1000000u

/* A host and its link. */
struct sim_host_config {
	uint64_t bits_per_s;		/* each way */
	uint64_t delay_ns;		/* to the switch, and from it */
	uint64_t jitter_ns;		/* more, at random, at most */
	uint32_t loss_ppm;		/* of the datagrams that come to it, and so on */
	uint32_t duplicate_ppm;
	uint32_t late_ppm;		/* overtaken by what is sent `late_ns` after it */
	uint64_t late_ns;
	bool deaf;			/* the switch keeps from it what is sent to groups */
	uint64_t port_bytes;		/* buffer in the switch before this host */
	uint64_t send_bytes, receive_bytes;	/* buffers of a socket */
	uint64_t receive_ns, receive_kib_ns;	/* what a datagram costs, and each KiB of it */
	uint64_t send_ns, send_kib_ns;
};

/* A server of today on an Ethernet of `bits_per_s`. */
struct sim_host_config sim_host_of_today(uint64_t bits_per_s);

struct sim_counters {
	uint64_t sent_bytes;		/* on the wire, with the headers of all frames */
	uint64_t sent_datagrams;
	uint64_t received_bytes;	/* that came to the host; processed or not */
	uint64_t received_datagrams;
	uint64_t lost;			/* at random, on the way to this host */
	uint64_t overflowed_port;	/* no room in the switch */
	uint64_t overflowed_socket;	/* no room in the receive buffer */
};

/* Return: the caller's to destroy after all that uses it, or NULL. */
struct sim *sim_create(uint64_t seed);
void sim_destroy(struct sim *sim);

/* Return: the host's number, from 0; the next is one more. UINT32_MAX: no memory. */
uint32_t sim_host_add(struct sim *sim, const struct sim_host_config *config);

/* What it is like from now on. Return: borrowed, to be changed. */
struct sim_host_config *sim_host_config(struct sim *sim, uint32_t host);
const struct sim_counters *sim_host_counters(const struct sim *sim, uint32_t host);

/* A host that is off hears and says nothing, and its time stands still. */
void sim_host_power(struct sim *sim, uint32_t host, bool on);

/* An endpoint on a host, in a process of its own. Return: the world's; NULL: no memory. */
struct mc_transport *sim_endpoint_add(struct sim *sim, uint32_t host);

/* The process has died: its timers are freed by then. What came for it is gone. */
void sim_endpoint_forget(struct mc_transport *t);

struct mc_address sim_endpoint_address(const struct mc_transport *t);
struct mc_address sim_group_address(uint16_t group);

uint64_t sim_now_ns(const struct sim *sim);
struct sim_queue *sim_events(struct sim *sim);

/* A random number below `below`. */
uint64_t sim_random(struct sim *sim, uint64_t below);

/*
 * Lets time go on until `*done` is set, or `until_ns`. Return: 0; -ETIMEDOUT; -EPIPE if nothing will
 * ever happen again.
 */
int sim_run(struct sim *sim, const bool *done, uint64_t until_ns);

#endif
