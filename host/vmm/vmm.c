/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One QEMU process and its states.
 *
 * What tells us about QEMU: its end (a pidfd), its control socket (qmp.c), its shim (handover.c),
 * its output (console.c) and the guest's ringing (doorbell.c). The process's end is the one that counts: a control socket that
 * breaks only leads to it.
 *
 * Callbacks may destroy the VM they are about. So every entry from the event loop or from QMP holds
 * it (`depth`), and its memory goes when the last entry leaves.
 */
#define _GNU_SOURCE
#include "host/vmm/vmm.h"

#include <errno.h>
#include <event2/event.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "common/log.h"
#include "host/vmm/console.h"
#include "host/vmm/descriptor.h"
#include "host/vmm/doorbell.h"
#include "host/vmm/handover.h"
#include "host/vmm/launch.h"
#include "host/vmm/qmp.h"
#include "host/vmm/spawn.h"

#define EXIT_LIMIT_S 2	/* from QEMU's closing its control socket to its end */

enum call { CALL_SAVE = 1 << 0, CALL_CONT = 1 << 1, CALL_LOAD = 1 << 2 };

static const struct {
	const char *name;
	unsigned calls;		/* allowed in this state */
} states[] = {
	[VMM_STARTING] = { "starting", 0 },
	[VMM_WAITING] = { "waiting", CALL_LOAD },
	[VMM_RUNNING] = { "running", CALL_SAVE },
	[VMM_PAUSED] = { "paused", CALL_CONT },
	[VMM_ENDED] = { "ended", 0 },
};

struct vmm {
	char *name;
	struct event_base *base;
	struct vmm_events events;
	void *arg;
	enum vmm_state state;
	bool clone;
	bool busy;		/* a save, load or cont is under way */
	bool destroyed;
	unsigned depth;
	pid_t pid;		/* 0: none, or reaped */
	int pidfd;
	struct event *exited;
	struct event *overdue;	/* QEMU closed its control socket and did not end */
	struct console *console;
	struct handover *handover;
	struct doorbell *doorbell;
	struct qmp *qmp;
	struct descriptor descriptor;
	vmm_done *done;		/* of what is under way */
	void *done_arg;
	char why[160];		/* what we know about the end before it comes */
};

static void set_state(struct vmm *vm, enum vmm_state state)
{
	log_debug("vm %s: %s → %s", vm->name, states[vm->state].name, states[state].name);
	vm->state = state;
}

static void hold(struct vmm *vm)
{
	vm->depth++;
}

static void leave(struct vmm *vm)
{
	if (--vm->depth || !vm->destroyed)
		return;
	free(vm->name);
	free(vm);
}

/* Notes why QEMU is about to end; the first reason is the one that counts. */
static void note_reason(struct vmm *vm, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
static void note_reason(struct vmm *vm, const char *format, ...)
{
	va_list ap;

	if (vm->why[0])
		return;
	va_start(ap, format);
	vsnprintf(vm->why, sizeof(vm->why), format, ap);
	va_end(ap);
}

/* Ends QEMU, which is of no use any more; `ended` follows. */
static void give_up(struct vmm *vm, const char *why)
{
	note_reason(vm, "%s", why);
	if (vm->pid)
		kill(vm->pid, SIGKILL);
}

/* What is under way is done: hands on the result. May destroy the VM: hold it. */
static void report_done(struct vmm *vm, int error, const char *why)
{
	vmm_done *done = steal_ptr(&vm->done);

	vm->busy = false;
	if (done)
		done(vm->done_arg, error, why);
}

/* --- its end --- */

static void describe_end(struct vmm *vm, int status, char *text, size_t text_bytes)
{
	char how[224], tail[512];

	console_tail(vm->console, tail, sizeof(tail));
	if (vm->why[0])
		snprintf(how, sizeof(how), "%s", vm->why);
	else if (WIFSIGNALED(status))
		snprintf(how, sizeof(how), "QEMU was killed by signal %d (%s)", WTERMSIG(status),
			 strsignal(WTERMSIG(status)));
	else
		snprintf(how, sizeof(how), "QEMU ended with status %d", WEXITSTATUS(status));
	snprintf(text, text_bytes, tail[0] ? "%s; its last output: %s" : "%s", how, tail);
}

static void on_exited(evutil_socket_t fd, short what, void *arg)
{
	struct vmm *vm = arg;
	char why[800];
	int status = 0;

	(void)fd, (void)what;
	if (TEMP_FAILURE_RETRY(waitpid(vm->pid, &status, WNOHANG)) == 0)
		return;
	vm->pid = 0;
	event_del(vm->exited);
	hold(vm);
	describe_end(vm, status, why, sizeof(why));
	log_info("vm %s: %s", vm->name, why);
	set_state(vm, VMM_ENDED);
	qmp_destroy(steal_ptr(&vm->qmp));
	handover_destroy(steal_ptr(&vm->handover));
	descriptor_abort(&vm->descriptor, why);
	if (!vm->destroyed)
		report_done(vm, -EPIPE, why);
	if (!vm->destroyed && vm->events.ended)
		vm->events.ended(vm->arg, why);
	leave(vm);
}

/* --- its RAM --- */

static void on_ram_mapped(void *arg, int uffd, uint64_t ram_base, uint64_t length_bytes)
{
	struct vmm *vm = arg;

	hold(vm);
	vm->events.ram_mapped(vm->arg, uffd, ram_base, length_bytes);
	leave(vm);
}

static void on_handover_broken(void *arg, const char *why)
{
	struct vmm *vm = arg;

	/* If QEMU has ended, its own output says more. */
	log_debug("vm %s: %s", vm->name, why);
}

static const struct handover_handler handover_handler = { on_ram_mapped, on_handover_broken };

void vmm_ram_accept(struct vmm *vm, bool ok)
{
	if (!ok)
		note_reason(vm, "nobody takes care of the guest's RAM");
	if (vm->handover)
		handover_accept(vm->handover, ok);
}

/* --- its doorbell --- */

static void on_rung(void *arg)
{
	struct vmm *vm = arg;

	hold(vm);
	if (vm->state == VMM_RUNNING && vm->events.doorbell)
		vm->events.doorbell(vm->arg);
	leave(vm);
}

/* --- its control socket --- */

static void on_first_status(void *arg, int error, const char *why, const json_t *ret)
{
	struct vmm *vm = arg;
	const char *want = vm->clone ? "inmigrate" : "running";
	const char *status = json_string_value(json_object_get(ret, "status"));

	hold(vm);
	if (error) {
		log_debug("vm %s: %s", vm->name, why);
	} else if (!status || strcmp(status, want)) {
		give_up(vm, "QEMU did not start as it was told to");
	} else {
		set_state(vm, vm->clone ? VMM_WAITING : VMM_RUNNING);
		if (vm->events.ready)
			vm->events.ready(vm->arg);
	}
	leave(vm);
}

static void on_greeted(void *arg)
{
	struct vmm *vm = arg;

	hold(vm);
	if (!handover_seen(vm->handover))
		give_up(vm, "QEMU mapped its RAM behind the shim's back");
	else if (descriptor_prepare(&vm->descriptor) ||
		 qmp_call(vm->qmp, "query-status", NULL, -1, on_first_status, vm))
		give_up(vm, "out of memory");
	leave(vm);
}

/* Stopped, and not by us: ask why. */
static void on_odd_status(void *arg, int error, const char *why, const json_t *ret)
{
	struct vmm *vm = arg;
	const char *status = json_string_value(json_object_get(ret, "status"));

	(void)why;
	if (error || !status || !strcmp(status, "running") || !strcmp(status, "shutdown"))
		return;
	note_reason(vm, "the VM stopped by itself (%.32s)", status);
	give_up(vm, "");
}

static void on_event(void *arg, const char *name, const json_t *data)
{
	struct vmm *vm = arg;
	const char *reason = json_string_value(json_object_get(data, "reason"));

	hold(vm);
	log_debug("vm %s: event %s", vm->name, name);
	if (!strcmp(name, "SHUTDOWN"))
		note_reason(vm, "the guest ended the VM (%.32s)", reason ? reason : "no reason");
	else if (!strcmp(name, "STOP") && !vm->busy && vm->state == VMM_RUNNING)
		qmp_call(vm->qmp, "query-status", NULL, -1, on_odd_status, vm);
	descriptor_event(&vm->descriptor, name, data);
	leave(vm);
}

static void on_qmp_closed(void *arg, const char *why)
{
	struct vmm *vm = arg;
	const struct timeval limit = { .tv_sec = EXIT_LIMIT_S };

	/* Mostly QEMU is just ending; if it is not, it is of no use without its control socket. */
	log_debug("vm %s: %s", vm->name, why);
	event_add(vm->overdue, &limit);
}

static void on_overdue(evutil_socket_t fd, short what, void *arg)
{
	(void)fd, (void)what;
	give_up(arg, "QEMU broke off its control connection");
}

static const struct qmp_handler qmp_handler = { on_greeted, on_event, on_qmp_closed };

/* --- calls --- */

/* Return: 0 if the call fits the VM's state, or -errno. */
static int begin_call(struct vmm *vm, enum call call, vmm_done *done, void *arg)
{
	if (!(states[vm->state].calls & call))
		return -EINVAL;
	if (vm->busy)
		return -EBUSY;
	vm->busy = true;
	vm->done = done;
	vm->done_arg = arg;
	return 0;
}

/* Return: ret, after taking the call back if it failed. */
static int call_begun(struct vmm *vm, int ret)
{
	if (ret) {
		vm->busy = false;
		vm->done = NULL;
	}
	return ret;
}

static void end_call(struct vmm *vm, int error, const char *why, enum vmm_state state)
{
	hold(vm);
	if (!error)
		set_state(vm, state);
	/* When QEMU is ending, on_exited() reports, and knows why. */
	if (error != -EPIPE)
		report_done(vm, error, why);
	leave(vm);
}

static void on_saved(void *arg, int error, const char *why)
{
	end_call(arg, error, why, VMM_PAUSED);
}

static void on_loaded(void *arg, int error, const char *why)
{
	end_call(arg, error, why, VMM_RUNNING);
}

static void on_continued(void *arg, int error, const char *why, const json_t *ret)
{
	(void)ret;
	end_call(arg, error, why, VMM_RUNNING);
}

int vmm_save(struct vmm *vm, int fd, vmm_done *done, void *arg)
{
	int ret;

	/* A clone's RAM is not shared, so it would be in the descriptor. */
	if (vm->clone)
		return -EOPNOTSUPP;
	ret = begin_call(vm, CALL_SAVE, done, arg);
	if (ret)
		return ret;
	return call_begun(vm, descriptor_save(&vm->descriptor, fd, on_saved, vm));
}

int vmm_cont(struct vmm *vm, vmm_done *done, void *arg)
{
	int ret = begin_call(vm, CALL_CONT, done, arg);

	if (ret)
		return ret;
	return call_begun(vm, qmp_call(vm->qmp, "cont", NULL, -1, on_continued, vm));
}

int vmm_load(struct vmm *vm, int fd, vmm_done *done, void *arg)
{
	int ret = begin_call(vm, CALL_LOAD, done, arg);

	if (ret)
		return ret;
	return call_begun(vm, descriptor_load(&vm->descriptor, fd, on_loaded, vm));
}

const struct vmm_times *vmm_times(const struct vmm *vm)
{
	return &vm->descriptor.times;
}

enum vmm_state vmm_state(const struct vmm *vm)
{
	return vm->state;
}

pid_t vmm_pid(const struct vmm *vm)
{
	return vm->pid;
}

/* --- its beginning and its end by us --- */

/* Takes over QEMU and its connections, piece by piece. Return: 0 or -ENOMEM. */
static int attach(struct vmm *vm, const struct vmm_config *config, struct launched *qemu)
{
	vm->pid = qemu->pid;
	vm->pidfd = steal_fd(&qemu->pidfd);
	vm->exited = event_new(vm->base, vm->pidfd, EV_READ | EV_PERSIST, on_exited, vm);
	vm->overdue = event_new(vm->base, -1, 0, on_overdue, vm);
	if (!vm->exited || !vm->overdue || event_add(vm->exited, NULL))
		return -ENOMEM;
	vm->console = console_create(vm->base, qemu->console, config->console_fd);
	if (!vm->console)
		return -ENOMEM;
	qemu->console = -1;
	vm->handover = handover_create(vm->base, qemu->handover, config->ram_bytes,
				       &handover_handler, vm);
	if (!vm->handover)
		return -ENOMEM;
	qemu->handover = -1;
	vm->doorbell = doorbell_create(vm->base, qemu->doorbell, on_rung, vm);
	if (!vm->doorbell)
		return -ENOMEM;
	qemu->doorbell = -1;
	vm->qmp = qmp_create(vm->base, qemu->qmp, &qmp_handler, vm);
	if (!vm->qmp)
		return -ENOMEM;
	qemu->qmp = -1;
	vm->descriptor.qmp = vm->qmp;
	return 0;
}

int vmm_start(struct event_base *base, const struct vmm_config *config,
	      const struct vmm_events *events, void *arg, struct vmm **vm, char *why,
	      size_t why_bytes)
{
	struct vmm *new = calloc(1, sizeof(*new));
	struct launched qemu;
	int ret;

	if (new)
		new->name = strdup(config->name);
	if (!new || !new->name) {
		free(new);
		snprintf(why, why_bytes, "out of memory");
		return -ENOMEM;
	}
	*new = (struct vmm){ .name = new->name, .base = base, .events = *events, .arg = arg,
			     .state = VMM_STARTING, .clone = config->clone, .pidfd = -1 };
	ret = launch(config, &qemu, why, why_bytes);
	if (!ret) {
		ret = attach(new, config, &qemu);
		if (ret)
			snprintf(why, why_bytes, "out of memory");
		launch_fini(&qemu);
	}
	if (ret) {
		vmm_destroy(new);
		return ret;
	}
	log_debug("vm %s: process %d", new->name, new->pid);
	*vm = new;
	return 0;
}

void vmm_destroy(struct vmm *vm)
{
	if (!vm)
		return;
	hold(vm);
	vm->destroyed = true;
	if (vm->exited)
		event_free(vm->exited);
	if (vm->overdue)
		event_free(vm->overdue);
	if (vm->pid) {
		kill(vm->pid, SIGKILL);
		spawn_reap(vm->base, vm->pid, steal_fd(&vm->pidfd));
	}
	cleanup_close(&vm->pidfd);
	qmp_destroy(vm->qmp);
	handover_destroy(vm->handover);
	doorbell_destroy(vm->doorbell);
	console_destroy(vm->console);
	leave(vm);
}
