/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The freeze: from a request in a running guest to an instant that clones can begin at.
 *
 * Only QUIET may take long (the guest's agent has to answer) and the guest runs meanwhile. From
 * there, a guest with the kernel module stands still from the moment it rings: all its CPUs are in
 * the module, until a letter lets them go (freeze_hold.c). Between the bell, or `stop`, and `cont`
 * stand the saving of the device state, the arming of the write-protection and a new top layer for
 * each disk, and nothing else: what can be made before or after is. QEMU has written what the guest
 * wrote when it says that it is saved, and is not asked to write anything until it goes on: so the
 * layers that are frozen in between are the disks of that very instant.
 *
 * QEMU takes some milliseconds to set the saving up, and the module less than one to hold the
 * guest. So both begin at the same time. If the VM was stopped before it was held after all, it
 * runs again until it rings (HOLDING), and is saved once more.
 *
 * Whatever fails, the guest goes on as it was, in the way it waits for: by a letter if it is held,
 * else by a frame to its agent.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <event2/event.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "common/log.h"
#include "host/sfd/freeze_internal.h"

#define FREEZE_QUIET_S	 5
#define FREEZE_HOLD_S	 5
#define FREEZE_STOPPED_S 30 /* for QEMU and memtap together; they take milliseconds */

void freeze_error(struct freeze *z, int error, const char *format, ...)
{
	va_list args;

	if (z->error)
		return;
	z->error = error;
	va_start(args, format);
	vsnprintf(z->why, sizeof(z->why), format, args);
	va_end(args);
}

static void freeze_free(struct freeze *z)
{
	z->guest->freeze = NULL;
	instant_put(z->instant);
	if (z->descriptor_fd >= 0)
		close(z->descriptor_fd);
	if (z->limit)
		event_free(z->limit);
	free(z);
}

/* The guest may talk again. */
static void release_guest(struct vm *vm)
{
	agent_port_hold(vm->agent, false);
	xs_hold(vm->xs, false);
}

/* A guest that was held has its letter already; an agent that was started again has its frame. */
static void wake_guest(struct freeze *z, unsigned count)
{
	struct agent_resume resume = { .op = z->op, .count = count };
	struct vm *vm = &z->guest->vm;

	if (!z->held && !z->agent_lost)
		vm_resume(vm, &resume);
	release_guest(vm);
}

/* There is no instant; the guest runs. */
static void refuse_freeze(struct freeze *z)
{
	struct guest *g = z->guest;

	log_warn("vm %s: %s failed: %s", g->vm.name, z->instant->verb, z->why);
	vm_answer_error(&g->vm, z->instant->request, z->error, "%s", z->why);
	guest_settle(g, z->instant->request);
}

static void freeze_fail(struct freeze *z)
{
	refuse_freeze(z);
	wake_guest(z, 0);
	freeze_free(z);
}

/* ---- the guest goes on ---- */

static void freeze_running(void *arg, int error, const char *why)
{
	struct freeze *z = arg;
	struct guest *g = z->guest;
	double pause_ms;

	if (error) {
		snprintf(z->why, sizeof(z->why), "it could not be continued after a clone: %.160s",
			 why);
		vm_fail(&g->vm, z->why);
		return;
	}
	if (z->error) {
		freeze_fail(z);
		return;
	}
	pause_ms = hold_pause_ms(z);
	if (z->ticket)
		ticket_start(z->ticket, z->instant, z->start_ns, pause_ms);
	/* the clones are under way: now the guest may hear of it */
	if (z->ticket)
		vm_answer(&g->vm, z->instant->request, "ok 0 %u", z->ticket->count);
	else
		instant_keep(z->instant);
	guest_settle(g, z->instant->request);
	wake_guest(z, z->ticket ? z->ticket->count : 0);
	for (unsigned i = 0; i < g->vm.family->disk_count; i++)
		disk_tidy(g->vm.disks[i]);
	freeze_free(z);
}

/* ---- stopped ---- */

static void freeze_continue(struct freeze *z)
{
	int rc = 0;

	z->stage = FREEZE_CONTINUING;
	if (z->held)
		rc = hold_release(z, z->ticket && !z->error ? z->ticket->count : 0);
	if (!rc)
		rc = vmm_cont(z->guest->vm.vmm, freeze_running, z);
	if (rc)
		freeze_running(z, rc, strerror(-rc));
}

/* One answer less is missing. */
static void freeze_settle(struct freeze *z)
{
	if (!--z->arming)
		freeze_continue(z);
}

static void freeze_armed(void *arg, int error, const struct memtap_reply *reply)
{
	struct freeze *z = arg;

	if (error)
		freeze_error(z, EIO, "the memory could not be frozen: %s", strerror(-error));
	else
		log_debug("vm %s: armed in %llu us", z->guest->vm.name,
			  (unsigned long long)reply->elapsed_ns / 1000);
	freeze_settle(z);
}

/* ---- disks ---- */

/* All of them are frozen: their memtaps may give pages to whoever asks. */
static void share_disks(struct freeze *z)
{
	const struct vm *vm = &z->guest->vm;
	struct instant *i = z->instant;

	i->disk_ms = (double)(io_now_ns() - z->arm_ns) / 1e6;
	log_info("vm %s: %u disks frozen in %.2f ms", vm->name, i->disk_count, i->disk_ms);
	for (unsigned n = 0; n < i->disk_count && !z->error; n++) {
		struct instant_disk *k = &i->disks[n];
		int rc;

		disk_frozen(vm->disks[n], &k->stack);
		rc = pager_layers(vm->family->disks[n].pager, k->file, k->snapshot, k->key,
				  &k->route, &k->stack);
		if (rc)
			freeze_error(z, EIO, "disk %u has no page server: %s", n, strerror(-rc));
	}
}

static void disk_is_frozen(void *arg, int error)
{
	struct freeze *z = arg;

	if (error)
		freeze_error(z, EIO, "a disk could not be frozen: %s", strerror(-error));
	if (!--z->freezing)
		share_disks(z);
	freeze_settle(z);
}

static void freeze_disks(struct freeze *z)
{
	const struct vm *vm = &z->guest->vm;

	for (unsigned n = 0; n < z->instant->disk_count; n++) {
		int rc = disk_freeze(vm->disks[n], disk_is_frozen, z);

		if (rc) {
			freeze_error(z, EIO, "disk %u could not be frozen: %s", n, strerror(-rc));
			continue;
		}
		z->arming++;
		z->freezing++;
	}
}

/* What the instant will need, and whether there is a place for it. Return: 0 or -errno. */
static int prepare_disks(struct freeze *z)
{
	const struct vm *vm = &z->guest->vm;
	int rc = 0;

	for (unsigned n = 0; n < vm->family->disk_count && !rc; n++)
		rc = disk_prepare(vm->disks[n]);
	return rc;
}

static int take_descriptor(struct freeze *z)
{
	off_t size = lseek(z->descriptor_fd, 0, SEEK_END);
	struct instant *i = z->instant;

	if (size <= 0)
		return -EIO;
	i->descriptor = malloc((size_t)size);
	if (!i->descriptor)
		return -ENOMEM;
	if (pread(z->descriptor_fd, i->descriptor, (size_t)size, 0) != size)
		return -EIO;
	i->descriptor_bytes = (size_t)size;
	return 0;
}

/* Stopped and saved: the instant, or what is missing for it. */
static void freeze_arm(struct freeze *z)
{
	struct instant *i = z->instant;
	_cleanup_fd_ int dead = hold_take(z);
	int rc;

	if (z->error) {
		freeze_continue(z);
		return;
	}
	z->stage = FREEZE_ARMING;
	z->arm_ns = io_now_ns();
	z->arming = 1;
	freeze_disks(z);
	/* the copy is made while memtap arms */
	rc = pager_arm(z->guest->vm.family->pager, i->file, i->snapshot, i->key, &i->route, dead, freeze_armed,
		       z);
	if (rc) {
		freeze_armed(z, rc, NULL);
		return;
	}
	rc = take_descriptor(z);
	if (rc)
		freeze_error(z, -rc, "the descriptor could not be kept: %s", strerror(-rc));
}

static void freeze_save(struct freeze *z);

void freeze_doorbell(struct guest *g)
{
	struct freeze *z = g->freeze;

	/* whoever rings at another time, or without holding, is not heard */
	if (!z || !z->window.pages || z->rung_ns || !hold_reached(z))
		return;
	z->rung_ns = io_now_ns();
	if (z->stage == FREEZE_HOLDING)
		freeze_save(z);
}

/* It was saved before its module held it, and runs again: once more, after the bell. */
static void freeze_hold(void *arg, int error, const char *why)
{
	static const struct timeval limit = { FREEZE_HOLD_S, 0 };
	struct freeze *z = arg;
	const struct vmm_times *t = vmm_times(z->guest->vm.vmm);

	if (error) {
		freeze_running(z, error, why);
		return;
	}
	z->earlier_ns = t->running_ns - t->stopped_ns;
	z->stage = FREEZE_HOLDING;
	event_add(z->limit, &limit);
	if (z->agent_lost)
		freeze_fail(z);
	else if (z->rung_ns)
		freeze_save(z);
	else
		freeze_doorbell(z->guest); /* it may have rung while nobody listened */
}

static void freeze_save_again(struct freeze *z)
{
	int rc;

	log_debug("vm %s: saved too early", z->guest->vm.name);
	z->waited = true;
	z->stage = FREEZE_CONTINUING;
	rc = vmm_cont(z->guest->vm.vmm, freeze_hold, z);
	if (rc)
		freeze_running(z, rc, strerror(-rc));
}

static void freeze_saved(void *arg, int error, const char *why)
{
	struct freeze *z = arg;

	if (!error && z->window.pages && !z->waited && !hold_reached(z)) {
		freeze_save_again(z);
		return;
	}
	if (!error) {
		freeze_arm(z);
		return;
	}
	/* it runs again, and may be held still */
	freeze_error(z, EIO, "the device state could not be saved: %.160s", why);
	z->held = z->window.pages && hold_reached(z) && !hold_release(z, 0);
	freeze_fail(z);
}

static void freeze_save(struct freeze *z)
{
	static const struct timeval limit = { FREEZE_STOPPED_S, 0 };
	int rc;

	z->stage = FREEZE_SAVING;
	event_add(z->limit, &limit);
	rc = z->instant->xs_state
		     ? vmm_save(z->guest->vm.vmm, z->descriptor_fd, freeze_saved, z)
		     : -ENOMEM;
	if (rc)
		freeze_saved(z, rc, strerror(-rc));
}

/* ---- quiet ---- */

/* Both channels are empty: cut here. */
static void freeze_cut(struct freeze *z)
{
	struct guest *g = z->guest;
	struct instant *i = z->instant;
	struct pending *p;

	i->xs_state = xs_save(g->vm.xs, &i->xs_bytes);
	i->streams = stream_list(g);
	i->quiesce = z->op;
	i->cancel = json_array();
	LIST_FOREACH(p, &g->pending, entry) {
		if (strcmp(p->key, i->request))
			json_array_append_new(i->cancel, json_string(p->key));
	}
}

void freeze_received(struct guest *g)
{
	struct freeze *z = g->freeze;

	if (!z || z->stage != FREEZE_QUIET || !z->quiesced)
		return;
	if (xs_received(g->vm.xs) != z->agent_sent || !xs_at_boundary(g->vm.xs))
		return;
	/* a guest that is about to be held can only be let go after that */
	if (z->error && !z->window.pages) {
		freeze_fail(z);
		return;
	}
	freeze_cut(z);
	freeze_save(z);
}

void freeze_quiesced(struct guest *g, const struct agent_quiesce *q)
{
	struct freeze *z = g->freeze;

	if (!z || z->stage != FREEZE_QUIET || q->op != z->op)
		return;
	z->quiesced = true;
	z->agent_sent = q->xs_sent;
	hold_expect(z, q);
	freeze_received(g);
}

/* The guest runs, and somebody in it did not do his part. */
static void quiet_too_long(struct freeze *z)
{
	if (z->stage == FREEZE_HOLDING)
		freeze_error(z, ETIMEDOUT, "the guest's kernel module did not hold it within %d s",
			     FREEZE_HOLD_S);
	else
		freeze_error(z, ETIMEDOUT, "the guest's agent did not get quiet within %d s",
			     FREEZE_QUIET_S);
	freeze_fail(z);
}

static void freeze_too_long(evutil_socket_t fd, short what, void *arg)
{
	struct freeze *z = arg;

	(void)fd;
	(void)what;
	if (z->stage <= FREEZE_HOLDING) {
		quiet_too_long(z);
		return;
	}
	snprintf(z->why, sizeof(z->why), "it could not be frozen within %d s: %s does not answer",
		 FREEZE_STOPPED_S, z->stage == FREEZE_ARMING ? "sf-memtap" : "QEMU");
	vm_fail(&z->guest->vm, z->why);
}

/* From the loop: the request came in a hook of XenStore's, whose stream must not be held there. */
static void freeze_go(evutil_socket_t fd, short what, void *arg)
{
	static const struct timeval limit = { FREEZE_QUIET_S, 0 };
	struct freeze *z = arg;
	struct vm *vm = &z->guest->vm;
	struct agent_quiesce q = { .op = z->op };

	(void)fd;
	(void)what;
	event_free(z->limit);
	z->limit = evtimer_new(vm->daemon->base, freeze_too_long, z);
	event_add(z->limit, &limit);
	xs_hold(vm->xs, true);
	q.xs_sent = xs_sent(vm->xs);
	q.flags = z->guest->window.pages ? AGENT_Q_HOLD : 0;
	agent_port_send_now(vm->agent, AGENT_QUIESCE, &q, sizeof(q));
	agent_port_hold(vm->agent, true);
}

void freeze_begin(struct guest *g, const char *key, struct ticket *ticket)
{
	static uint64_t ops;
	struct freeze *z = calloc(1, sizeof(*z));
	struct vm *vm = &g->vm;
	int rc;

	errno = ENOMEM;
	if (z) {
		z->guest = g;
		z->ticket = ticket;
		z->op = ++ops;
		z->start_ns = io_now_ns();
		z->descriptor_fd = memfd_create("sf-descriptor", MFD_CLOEXEC);
		z->instant = instant_new(g, ticket, key);
		z->limit = evtimer_new(vm->daemon->base, freeze_go, z);
	}
	rc = z && z->instant ? prepare_disks(z) : 0;
	if (rc)
		errno = -rc;
	if (!z || !z->instant || z->descriptor_fd < 0 || !z->limit || rc) {
		vm_answer_error(vm, key, ENOSPC, "no snapshot can be made: %s", strerror(errno));
		guest_settle(g, key);
		if (z)
			freeze_free(z);
		return;
	}
	if (!ticket)
		z->instant->checkpoint = g->next_checkpoint++;
	g->freeze = z;
	event_active(z->limit, EV_TIMEOUT, 0);
}

void freeze_cancel(struct guest *g)
{
	if (!g->freeze)
		return;
	pager_forget(g->vm.family->pager, g->freeze);
	for (unsigned i = 0; i < g->vm.family->disk_count; i++)
		disk_forget(g->vm.disks[i], g->freeze);
	freeze_free(g->freeze);
}

void freeze_agent_lost(struct guest *g)
{
	struct freeze *z = g->freeze;

	if (!z)
		return;
	freeze_error(z, EIO, "the guest's agent ended and was started again");
	z->agent_lost = true;
	if (z->stage <= FREEZE_HOLDING)
		freeze_fail(z);
}

struct ticket *freeze_ticket(const struct guest *g)
{
	return g->freeze ? g->freeze->ticket : NULL;
}
