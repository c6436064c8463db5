/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Getting quiet before a clone and going on after it (proto/agent-port.h).
 *
 * The cut goes through a moment in which both ports are empty in both directions. Up to it, the
 * parent finishes what it has begun; from it on, parent and clone are told apart by AGENT_RESUME
 * alone. In a clone this is the first code that runs, and every page it touches comes over the
 * network: no allocation, no file, one netlink message.
 */
#include <errno.h>
#include <string.h>
#include <time.h>

#include "agent/agent.h"
#include "common/log.h"

#define BEHIND_NS 1000000ll	/* a clock that is further behind the host's than this is set */
#define AHEAD_NS 250000000ll	/* further ahead than the frame can have been under way */
#define NS_PER_S 1000000000ll

int quiesce_begin(struct agent *agent, const struct agent_quiesce *quiesce)
{
	if (agent->state != AGENT_RUNNING)
		return -EPROTO;
	agent->state = AGENT_QUIETING;
	agent->op = quiesce->op;
	agent->expected_bytes = quiesce->xs_sent;
	loop_hold(&agent->loop, true);
	xsmux_quiet(&agent->xsmux);
	execs_mark(&agent->execs);
	quiesce_step(agent);
	return 0;
}

void quiesce_step(void *arg)
{
	struct agent *agent = arg;
	struct agent_quiesce quiesced = { .op = agent->op, .xs_sent = agent->xsmux.sent };

	if (agent->state != AGENT_QUIETING || !execs_drain(&agent->execs) ||
	    !xsmux_is_quiet(&agent->xsmux, agent->expected_bytes))
		return;
	agent->state = AGENT_QUIET;
	xsmux_freeze(&agent->xsmux);
	port_send(&agent->port, AGENT_QUIESCED, 0, 0, &quiesced, sizeof(quiesced));
}

/*
 * Sets the clock by the host's. `realtime_ns` was true when the frame was sent, so it is a lower
 * bound: a clock behind it is wrong, one a little ahead of it may well be right.
 */
static void set_clock(uint64_t realtime_ns)
{
	int64_t host_ns = (int64_t)realtime_ns, ahead_ns;
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	ahead_ns = now.tv_sec * NS_PER_S + now.tv_nsec - host_ns;
	if (host_ns <= 0 || (ahead_ns >= -BEHIND_NS && ahead_ns <= AHEAD_NS))
		return;
	now = (struct timespec){ .tv_sec = host_ns / NS_PER_S, .tv_nsec = host_ns % NS_PER_S };
	if (clock_settime(CLOCK_REALTIME, &now))
		log_warn("clock: %s", strerror(errno));
}

int quiesce_end(struct agent *agent, const struct agent_resume *resume)
{
	bool boot = agent->state == AGENT_BOOTED;
	bool clone = !boot && resume->id != agent->id;
	struct agent_status status = { 0 };
	int error;

	if (agent->state == AGENT_RUNNING || boot != !resume->op ||
	    (!boot && resume->op != agent->op) || (clone && agent->state != AGENT_QUIET))
		return -EPROTO;
	error = netcfg_apply(&agent->netcfg, resume);
	agent->id = resume->id;
	if (!error)
		error = arrive_as(&agent->arrive, resume->id, resume->parent, resume->answer_port);
	if (!agent->netcfg.off)
		set_clock(resume->realtime_ns);
	agent->state = AGENT_RUNNING;
	if (clone) {
		local_instant(&agent->local, resume);
		transfers_become_clone(&agent->transfers);
		execs_become_clone(&agent->execs);
	}
	xsmux_resume(&agent->xsmux);
	loop_hold(&agent->loop, false);
	status.value = -error;
	port_send(&agent->port, AGENT_RESUMED, 0, 0, &status, sizeof(status));
	return 0;
}
