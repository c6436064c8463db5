/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What mcdist needs of the world: datagrams, time, and turns.
 *
 * The protocol is written against this and nothing else. There are two worlds: UDP sockets on
 * libevent (udp.c), and a simulated network with simulated time (tests/mcdist), in which the very
 * same code runs on a thousand hosts.
 *
 * One thread. Nothing here is called from within a callback of the same kind: timers fire and
 * datagrams arrive one after the other, from the world's loop.
 */
#ifndef MCDIST_TRANSPORT_H
#define MCDIST_TRANSPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

/* Where a datagram goes or comes from, in the transport's own family. */
struct mc_address {
	struct sockaddr_storage at;
	socklen_t len;
};

struct mc_transport;

/* Zeroed but for `fire` and `arg` before it is set first. `world` is the transport's own. */
struct mc_timer {
	void (*fire)(void *arg);
	void *arg;
	void *world;
};

#define MC_NEVER UINT64_MAX
#define MC_NEXT_TURN 0	/* after what is to be done already */

struct mc_transport_calls {
	/* Nanoseconds that only grow. */
	uint64_t (*now_ns)(struct mc_transport *t);
	/*
	 * Sends a datagram, to a group as well. Return: 0; -EAGAIN: there is no room, `writable`
	 * of mc_transport_events is called when there is; or another -errno, as good as lost.
	 */
	int (*send)(struct mc_transport *t, const struct mc_address *to, const void *bytes, size_t len);
	/* Begins or ends to hear what is sent to a group. Return: 0 or -errno. */
	int (*join)(struct mc_transport *t, const struct mc_address *group, bool member);
	/* When the timer fires, once; MC_NEVER: not any more. Return: 0 or -ENOMEM. */
	int (*timer_set)(struct mc_transport *t, struct mc_timer *timer, uint64_t at_ns);
	/* Frees what the transport keeps of the timer. */
	void (*timer_free)(struct mc_transport *t, struct mc_timer *timer);
	/* Pages that may be under way to us before some are lost for want of room. */
	uint32_t (*window_pages)(struct mc_transport *t);
	/* Bytes that were sent and wait still for the wire, or 0 if there is no telling. */
	uint64_t (*unsent_bytes)(struct mc_transport *t);
};

struct mc_transport_events {
	/* A datagram, which may be anything; `bytes` may be written over. */
	void (*received)(void *arg, const struct mc_address *from, uint8_t *bytes, size_t len);
	void (*writable)(void *arg);
};

/* Part of something of the world's. */
struct mc_transport {
	const struct mc_transport_calls *calls;
	const struct mc_transport_events *events;	/* set by who uses it */
	void *arg;
};

#endif
