/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The socket of the agent for libsf in the same guest (proto/agent-socket.h). */
#ifndef AGENT_LOCAL_H
#define AGENT_LOCAL_H

#include <stdint.h>
#include <sys/queue.h>

#include "agent/arrive.h"
#include "agent/loop.h"
#include "agent/module.h"
#include "agent/transfer.h"
#include "proto/agent-port.h"

#define LOCAL_CLIENTS 128

struct local {
	struct source listener;
	struct loop *loop;
	const uint32_t *id;		/* who this VM is */
	struct transfers *transfers;
	struct arrive *arrive;
	const struct module *module;
	unsigned clients;
	LIST_HEAD(, local_client) awaiting;	/* a process each that waits for an instant */
};

/* Serves the listening SOCK_SEQPACKET socket; the rest is borrowed for as long as `local` lives. */
void local_init(struct local *local, struct loop *loop, int listen_fd, const uint32_t *id,
		struct transfers *transfers, struct arrive *arrive, const struct module *module);

/* This VM has become a clone and has its address: tells the process that asked for it. */
void local_instant(struct local *local, const struct agent_resume *resume);

#endif
