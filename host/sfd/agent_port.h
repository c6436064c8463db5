/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The frames of the agent's port (proto/agent-port.h), sfd's end. */
#ifndef HOST_SFD_AGENT_PORT_H
#define HOST_SFD_AGENT_PORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/agent-port.h"

struct agent_port;
struct event_base;

struct agent_port_events {
	/*
	 * A frame, its payload borrowed. Payloads of fixed types have at least their struct's size,
	 * with zeros for what an agent of another version did not send in its AGENT_HELLO.
	 */
	void (*frame)(void *arg, const struct agent_frame *frame, const void *payload);
	/* The port broke, or ended (`why` is NULL); only agent_port_free() is left. */
	void (*broken)(void *arg, const char *why);
};

/* Takes `fd`. Return: the port, to agent_port_free(), or NULL. */
struct agent_port *agent_port_new(struct event_base *base, int fd,
				  const struct agent_port_events *events, void *arg);
void agent_port_free(struct agent_port *port);

/* Sends a frame; while held, it waits. `head` and `tail` follow each other; either may be NULL. */
void agent_port_send(struct agent_port *port, enum agent_type type, unsigned channel,
		     uint32_t stream, const void *head, size_t head_len, const void *tail,
		     size_t tail_len);

/* Sends a frame at once, held or not. */
void agent_port_send_now(struct agent_port *port, enum agent_type type, const void *payload,
			 size_t len);

/* While held, frames of agent_port_send() wait: the guest is to be quiet. */
void agent_port_hold(struct agent_port *port, bool held);

#endif
