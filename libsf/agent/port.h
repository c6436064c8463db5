/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The agent's framed port (proto/agent-port.h): frames in, frames out, never blocking. */
#ifndef AGENT_PORT_H
#define AGENT_PORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/loop.h"
#include "proto/agent-port.h"

#define PORT_OUT_BYTES (128u * 1024u)
#define PORT_RESERVE_BYTES (16u * 1024u)	/* of it, for frames that are not AGENT_DATA */

struct port;

struct port_handler {
	/* A frame; `payload` (8-byte aligned) is borrowed. Return: 0, or -errno: broken host. */
	int (*frame)(void *arg, const struct agent_frame *frame, const uint8_t *payload);
	/* There is room for AGENT_DATA again. */
	void (*drained)(void *arg);
	/* What had to wait has gone out. */
	void (*flushed)(void *arg);
};

struct port {
	struct source source;
	struct loop *loop;
	const struct port_handler *handler;
	void *arg;
	bool starved;		/* somebody found no room for data */
	bool held;		/* nothing is taken from the host */
	bool taking;		/* frames are being handled */
	size_t in_len;
	size_t out_head, out_tail;	/* what waits is out[out_head..out_tail) */
	uint32_t in_pad __attribute__((aligned(8)));	/* aligns the payload of a frame at in[0] */
	uint8_t in[sizeof(struct agent_frame) + AGENT_MAX_FRAME];
	uint8_t out[PORT_OUT_BYTES];
};

_Static_assert((offsetof(struct port, in) + sizeof(struct agent_frame)) % 8 == 0, "aligned");

/* Takes a non-blocking descriptor. The handler and `arg` must live as long as the port. */
void port_init(struct port *port, struct loop *loop, int fd, const struct port_handler *handler,
	       void *arg);

/* Sends a frame that is not AGENT_DATA. Without room for it the host is broken: the loop ends. */
void port_send(struct port *port, enum agent_type type, unsigned channel, uint32_t stream,
	       const void *payload, uint32_t length);

/* Gives the stream room: AGENT_CREDIT. */
void port_credit(struct port *port, uint32_t stream, uint32_t bytes);

/*
 * Where the payload of an AGENT_DATA of up to *room bytes may be put, to be sent by
 * port_data_send(). Return: NULL if there is no room; `drained` is called when there is.
 */
uint8_t *port_data(struct port *port, size_t *room);
void port_data_send(struct port *port, unsigned channel, uint32_t stream, uint32_t length);

/* While held, frames from the host wait. May be called while one is handled. */
void port_hold(struct port *port, bool held);

/* True if the guest's kernel has taken everything that was sent. */
bool port_flushed(const struct port *port);

#endif
