/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Many local XenStore clients on the one XenStore connection of the VM. */
#ifndef AGENT_XSMUX_H
#define AGENT_XSMUX_H

#include <errno.h>	/* first: xs_wire.h has its table of errors only with it */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <xen/io/xs_wire.h>

#include "agent/loop.h"

#define XSMUX_REQUESTS 256		/* under way to the server at a time */
#define XSMUX_CLIENT_REQUESTS 16	/* of one client */
#define XSMUX_CLIENT_TRANSACTIONS 16	/* open in one client */
#define XSMUX_CLIENTS 1024
#define XSMUX_BACKLOG_BYTES (1u << 20)	/* a client that leaves more than this unread is dropped */
#define XSMUX_MESSAGE_BYTES (sizeof(struct xsd_sockmsg) + XENSTORE_PAYLOAD_MAX)
#define XSMUX_OUT_BYTES (16 * 1024u)

struct xs_client;
struct xs_watch;

/* A request on its way: the req_id the server sees is its place in the table and `round`. */
struct xs_request {
	bool used;
	uint16_t round;			/* counts uses of this place */
	uint32_t type;
	uint32_t req_id;		/* the client's own */
	uint32_t tx_id;
	struct xs_client *client;	/* NULL: the agent's own, to clean up */
	struct xs_watch *watch;		/* XS_WATCH: to be forgotten if it is refused */
};

struct xsmux {
	struct source port;		/* the server */
	struct source listener;
	struct loop *loop;
	void (*idle)(void *arg);	/* called while quieting, when something changed */
	void *arg;
	bool quiet;			/* nothing is taken from clients */
	bool stalled;			/* a client is not listened to until there is room */
	bool undoing;			/* a client left, or resets, and is not cleaned up */
	uint64_t received, sent;	/* bytes on the port */
	struct xs_client *clients;	/* also those that left and are not cleaned up */
	unsigned client_count;
	uint32_t last_number;
	unsigned request_count;
	unsigned request_end;		/* places from here on were never used */
	struct xs_request requests[XSMUX_REQUESTS];
	size_t in_len;
	size_t out_head, out_tail;
	uint8_t in[XSMUX_MESSAGE_BYTES];
	uint8_t out[XSMUX_OUT_BYTES];
};

/*
 * Serves clients of the listening socket by the server behind `port_fd` (both non-blocking). `idle`
 * is called with `arg` after events on the port while it is quieting. A server that breaks the
 * protocol ends the loop.
 */
void xsmux_init(struct xsmux *mux, struct loop *loop, int port_fd, int listen_fd,
		void (*idle)(void *arg), void *arg);

/* Takes nothing more from clients; answers still come in. */
void xsmux_quiet(struct xsmux *mux);

/* True if nothing is under way and at least `expected` bytes came from the server. */
bool xsmux_is_quiet(const struct xsmux *mux, uint64_t expected);

/* Stops listening to the server too, until xsmux_resume(). */
void xsmux_freeze(struct xsmux *mux);
void xsmux_resume(struct xsmux *mux);

#endif
