/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The parts of the agent, put together: who this VM is, and what serves it. */
#ifndef AGENT_AGENT_H
#define AGENT_AGENT_H

#include <stdint.h>

#include "agent/arrive.h"
#include "agent/exec.h"
#include "agent/hooks.h"
#include "agent/identity.h"
#include "agent/local.h"
#include "agent/loop.h"
#include "agent/module.h"
#include "agent/netcfg.h"
#include "agent/port.h"
#include "agent/transfer.h"
#include "agent/xsmux.h"

/*
 * The agent's states; quiesce.c alone changes them.
 *
 *   BOOTED    said hello; waits for the AGENT_RESUME with op 0     → RUNNING
 *   RUNNING   everything goes                                      → QUIETING
 *   QUIETING  nothing is taken from local clients and commands,
 *             what is under way is finished                        → QUIET, HOLDING,
 *                                                                    RUNNING (given up)
 *   HOLDING   AGENT_QUIESCED with AGENT_Q_HOLD is on its way out;
 *             as soon as it is gone the module holds the guest     → RUNNING, HOOKS, QUIET (the
 *                                                                    hold failed)
 *   QUIET     nothing is sent or received but AGENT_RESUME         → RUNNING, HOOKS
 *   HOOKS     a clone has its address and runs its hooks; nobody
 *             is told yet, and the host's frames wait              → RUNNING
 */
enum agent_state {
	AGENT_BOOTED, AGENT_RUNNING, AGENT_QUIETING, AGENT_HOLDING, AGENT_QUIET, AGENT_HOOKS
};

struct agent {
	enum agent_state state;
	uint32_t id;			/* 0 in a VM that was booted */
	uint64_t op;			/* sfd's number of the clone operation, when not RUNNING */
	uint64_t expected_bytes;	/* XenStore bytes to be received before QUIET */
	bool may_hold;			/* sfd can do its part in this operation */
	struct agent_resume resume;	/* HOOKS: as whom it goes on */
	int resume_error;		/* HOOKS: 0 or -errno, to be told sfd */
	int random_fd;			/* of reseed_open() */
	struct loop loop;
	struct module module;
	struct identity identity;
	struct hooks hooks;
	struct arrive arrive;
	struct netcfg netcfg;
	struct local local;
	struct execs execs;
	struct transfers transfers;
	struct xsmux xsmux;
	struct port port;
};

/* frames.c: what the port calls. `arg` is the agent. */
extern const struct port_handler agent_frames;

/* quiesce.c. Return: 0, or -EPROTO if it is not the time for that. */
int quiesce_begin(struct agent *agent, const struct agent_quiesce *quiesce);
int quiesce_end(struct agent *agent, const struct agent_resume *resume);
/* While QUIETING: something was finished; sees whether that was all. `arg` is the agent. */
void quiesce_step(void *arg);
/* The port has taken everything. `arg` is the agent. */
void quiesce_flushed(void *arg);
/* While HOOKS: all have ended. `arg` is the agent. */
void quiesce_hooked(void *arg);

#endif
