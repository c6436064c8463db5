/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Getting quiet before a clone and going on after it (proto/agent-port.h).
 *
 * The cut goes through a moment in which both ports are empty in both directions. Up to it, the
 * parent finishes what it has begun; from it on, parent and clone are told apart by struct
 * agent_resume alone. It comes as a frame, or, where the kernel module holds the guest, as the note
 * with which SFK_HOLD returns. In a clone this is the first code that runs, and every page it
 * touches comes over the network: no allocation, no file, and one netlink message, or none after a
 * hold, because the module has set address and clock. Unless its owner wants more to be its own:
 * then that, and the hooks, come before anybody is told.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "agent/agent.h"
#include "agent/reseed.h"
#include "common/log.h"

#define BEHIND_NS 1000000ll	/* a clock that is further behind the host's than this is set */
#define AHEAD_NS 250000000ll	/* further ahead than the frame can have been under way */
#define NS_PER_S 1000000000ll

_Static_assert(sizeof(struct agent_resume) <= SFK_NOTE_BYTES, "the letter has room for it");

int quiesce_begin(struct agent *agent, const struct agent_quiesce *quiesce)
{
	if (agent->state != AGENT_RUNNING)
		return -EPROTO;
	agent->state = AGENT_QUIETING;
	agent->op = quiesce->op;
	agent->may_hold = quiesce->flags & AGENT_Q_HOLD;
	agent->expected_bytes = quiesce->xs_sent;
	if (!agent->id) {
		/* in time: a clone is to look for neither */
		identity_read(&agent->identity);
		hooks_scan(&agent->hooks);
	}
	loop_hold(&agent->loop, true);
	xsmux_quiet(&agent->xsmux);
	execs_mark(&agent->execs);
	quiesce_step(agent);
	return 0;
}

/* Has the module get ready. Return: true if it did, with its window in *window. */
static bool prepare(struct agent *agent, struct agent_window *window)
{
	int error;

	if (!agent->may_hold)
		return false;
	error = module_prepare(&agent->module, agent->op, netcfg_nic(&agent->netcfg), window);
	if (!error)
		return true;
	*window = (struct agent_window){ .pages = 0 };
	if (module_is_there(&agent->module))
		log_warn("kernel module: it cannot hold the guest: %s", strerror(-error));
	return false;
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
	if (prepare(agent, &quiesced.window)) {
		agent->state = AGENT_HOLDING;
		quiesced.flags = AGENT_Q_HOLD;
	}
	port_send(&agent->port, AGENT_QUIESCED, 0, 0, &quiesced, sizeof(quiesced));
	if (port_flushed(&agent->port))
		quiesce_flushed(agent);
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

/* Everything goes again. `error` is what came of the network: 0 or -errno. */
static void go_on(struct agent *agent, const struct agent_resume *resume, bool clone, int error)
{
	struct agent_status status = { .value = -error };

	agent->state = AGENT_RUNNING;
	if (clone) {
		local_instant(&agent->local, resume);
		transfers_become_clone(&agent->transfers);
		execs_become_clone(&agent->execs);
	}
	module_release(&agent->module);
	xsmux_resume(&agent->xsmux);
	loop_hold(&agent->loop, false);
	port_send(&agent->port, AGENT_RESUMED, 0, 0, &status, sizeof(status));
}

void quiesce_hooked(void *arg)
{
	struct agent *agent = arg;

	go_on(agent, &agent->resume, true, agent->resume_error);
	port_hold(&agent->port, false);
}

/* This VM is `resume` from now on, and its network knows. */
static void become(struct agent *agent, const struct agent_resume *resume, bool clone, int error)
{
	agent->id = resume->id;
	if (!error)
		error = arrive_as(&agent->arrive, resume->id, resume->parent, resume->answer_port);
	if (clone)
		identity_apply(&agent->identity, resume->id);
	if (!clone || !agent->hooks.count) {
		go_on(agent, resume, clone, error);
		return;
	}
	agent->state = AGENT_HOOKS;
	agent->resume = *resume;
	agent->resume_error = error;
	port_hold(&agent->port, true);
	if (!hooks_begin(&agent->hooks, resume))
		quiesce_hooked(agent);
}

int quiesce_end(struct agent *agent, const struct agent_resume *resume)
{
	bool boot = agent->state == AGENT_BOOTED;
	bool clone = !boot && resume->id != agent->id;
	int error;

	if (agent->state == AGENT_RUNNING || agent->state == AGENT_HOOKS || boot != !resume->op ||
	    (!boot && resume->op != agent->op) || (clone && agent->state != AGENT_QUIET))
		return -EPROTO;
	error = netcfg_apply(&agent->netcfg, resume);
	if (!agent->netcfg.off)
		set_clock(resume->realtime_ns);
	if (clone && agent->random_fd >= 0)
		reseed(agent->random_fd, resume);
	become(agent, resume, clone, error);
	return 0;
}

/* What the module could not do with the NIC is done here. Return: 0 or -errno. */
static int take_network(struct agent *agent, const struct sfk_held *held,
			const struct agent_resume *resume)
{
	if (!held->network_error) {
		netcfg_take(&agent->netcfg, resume);
		return 0;
	}
	log_warn("kernel module: %s: %s: addresses are set from user space",
		 netcfg_nic(&agent->netcfg), strerror(abs(held->network_error)));
	return netcfg_apply(&agent->netcfg, resume);
}

/* Holds the guest, and goes on as the one it is then. */
static void hold(struct agent *agent)
{
	struct agent_resume resume;
	struct sfk_held held;
	int error = module_hold(&agent->module, &held);

	agent->state = AGENT_QUIET;
	if (error) {
		module_release(&agent->module);
		log_warn("kernel module: the guest was not held: %s", strerror(-error));
		return;
	}
	memcpy(&resume, held.note, sizeof(resume));
	if (resume.op != agent->op || resume.id != held.id) {
		log_err("kernel module: a letter that makes no sense");
		loop_end(&agent->loop, 1);
		return;
	}
	error = take_network(agent, &held, &resume);
	become(agent, &resume, held.clone, error);
}

void quiesce_flushed(void *arg)
{
	struct agent *agent = arg;

	if (agent->state == AGENT_HOLDING)
		hold(agent);
}
