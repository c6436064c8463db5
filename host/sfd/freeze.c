/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The freeze: from a request in a running guest to an instant that clones can begin at.
 *
 * Only QUIET may take long (the guest's agent has to answer) and the guest runs meanwhile. Between
 * `stop` and `cont` stand the saving of the device state and the arming of the write-protection,
 * and nothing else: what can be made before or after is.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <event2/event.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "common/log.h"
#include "host/sfd/clones.h"
#include "host/sfd/guest.h"

#define FREEZE_QUIET_S	 5
#define FREEZE_STOPPED_S 30 /* for QEMU and memtap together; they take milliseconds */

enum freeze_stage { FREEZE_QUIET, FREEZE_SAVING, FREEZE_ARMING, FREEZE_CONTINUING };

struct freeze {
	struct guest *guest;
	enum freeze_stage stage;
	struct ticket *ticket; /* NULL: a checkpoint */
	struct instant *instant;
	uint64_t op;
	uint64_t start_ns;
	uint64_t agent_sent; /* XenStore bytes the quiet agent says it sent */
	bool quiesced;
	int descriptor_fd;
	struct event *limit;
	int error; /* the guest goes on, but there is no instant */
	char why[WHY_BYTES];
};

struct instant *instant_get(struct instant *i)
{
	i->refs++;
	return i;
}

void instant_put(struct instant *i)
{
	if (!i || --i->refs)
		return;
	family_file_put(i->guest->vm.family, i->file);
	free(i->descriptor);
	free(i->xs_state);
	json_decref(i->cancel);
	json_decref(i->streams);
	sodium_memzero(i->key, sizeof(i->key));
	free(i);
}

/* A new instant. A local share of the ticket gives its page file: what its clones map. */
static struct instant *instant_new(struct guest *g, struct ticket *ticket, const char *key)
{
	struct family *f = g->vm.family;
	int file = ticket ? clones_lot_file(f, ticket->number) : -1;
	struct instant *i = calloc(1, sizeof(*i));

	if (!i)
		return NULL;
	if (file >= 0)
		family_file_get(f, (unsigned)file);
	else
		file = family_file_new(f);
	if (file < 0) {
		free(i);
		errno = -file;
		return NULL;
	}
	i->guest = g;
	i->refs = 1;
	i->file = (unsigned)file;
	i->verb = ticket ? "clone" : "checkpoint";
	snprintf(i->request, sizeof(i->request), "%s", key);
	randombytes_buf(&i->snapshot, sizeof(i->snapshot));
	randombytes_buf(i->key, sizeof(i->key));
	return i;
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

static void wake_guest(struct freeze *z, unsigned count)
{
	struct agent_resume resume = { .op = z->op, .count = count };
	struct vm *vm = &z->guest->vm;

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

static void keep_checkpoint(struct freeze *z)
{
	struct guest *g = z->guest;
	struct checkpoint *c = calloc(1, sizeof(*c));

	if (!c) {
		vm_answer_error(&g->vm, z->instant->request, ENOMEM, "out of memory");
		return;
	}
	c->number = z->instant->checkpoint;
	c->instant = instant_get(z->instant);
	LIST_INSERT_HEAD(&g->checkpoints, c, entry);
	vm_answer(&g->vm, z->instant->request, "ok %u 0 0", c->number);
}

static void freeze_running(void *arg, int error, const char *why)
{
	struct freeze *z = arg;
	struct guest *g = z->guest;
	const struct vmm_times *t = vmm_times(g->vm.vmm);
	/* it runs while QEMU prepares the saving: the pause begins when the vCPUs stand */
	double pause_ms = (double)(t->running_ns - t->stopped_ns) / 1e6;

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
	log_info("vm %s: paused %.1f ms (save %.1f, arm and continue %.1f) after %.1f of getting "
		 "ready, descriptor %zu bytes",
		 g->vm.name, pause_ms, (double)(t->saved_ns - t->stopped_ns) / 1e6,
		 (double)(t->running_ns - t->saved_ns) / 1e6,
		 (double)(t->stopped_ns - t->stop_ns) / 1e6, z->instant->descriptor_bytes);
	if (z->ticket)
		ticket_start(z->ticket, z->instant, z->start_ns, pause_ms);
	/* the clones are under way: now the guest may hear of it */
	if (z->ticket)
		vm_answer(&g->vm, z->instant->request, "ok 0 %u", z->ticket->count);
	else
		keep_checkpoint(z);
	guest_settle(g, z->instant->request);
	wake_guest(z, z->ticket ? z->ticket->count : 0);
	freeze_free(z);
}

/* ---- stopped ---- */

static void freeze_continue(struct freeze *z)
{
	int rc;

	z->stage = FREEZE_CONTINUING;
	rc = vmm_cont(z->guest->vm.vmm, freeze_running, z);
	if (rc)
		freeze_running(z, rc, strerror(-rc));
}

static void freeze_armed(void *arg, int error, const struct memtap_reply *reply)
{
	struct freeze *z = arg;

	if (error) {
		z->error = EIO;
		snprintf(z->why, sizeof(z->why), "the memory could not be frozen: %s",
			 strerror(-error));
	} else {
		log_debug("vm %s: armed in %llu us", z->guest->vm.name,
			  (unsigned long long)reply->elapsed_ns / 1000);
	}
	freeze_continue(z);
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

static void freeze_saved(void *arg, int error, const char *why)
{
	struct freeze *z = arg;
	struct instant *i = z->instant;
	int rc;

	if (error) { /* it runs again */
		z->error = EIO;
		snprintf(z->why, sizeof(z->why), "the device state could not be saved: %s", why);
		freeze_fail(z);
		return;
	}
	z->stage = FREEZE_ARMING;
	/* the copy is made while memtap arms */
	rc = pager_arm(z->guest->vm.family->pager, i->file, i->snapshot, i->key, freeze_armed, z);
	if (rc)
		freeze_armed(z, rc, NULL);
	else
		rc = take_descriptor(z);
	if (rc) {
		z->error = -rc;
		snprintf(z->why, sizeof(z->why), "the descriptor could not be kept: %s",
			 strerror(-rc));
	}
}

/* ---- quiet ---- */

/* Both channels are empty: cut here. */
static void freeze_stop(struct freeze *z)
{
	static const struct timeval limit = { FREEZE_STOPPED_S, 0 };
	struct guest *g = z->guest;
	struct instant *i = z->instant;
	struct pending *p;
	int rc;

	z->stage = FREEZE_SAVING;
	event_add(z->limit, &limit);
	i->xs_state = xs_save(g->vm.xs, &i->xs_bytes);
	i->streams = stream_list(g);
	i->quiesce = z->op;
	i->cancel = json_array();
	LIST_FOREACH(p, &g->pending, entry) {
		if (strcmp(p->key, i->request))
			json_array_append_new(i->cancel, json_string(p->key));
	}
	rc = i->xs_state ? vmm_save(g->vm.vmm, z->descriptor_fd, freeze_saved, z) : -ENOMEM;
	if (rc) {
		z->error = EIO;
		snprintf(z->why, sizeof(z->why), "the VM cannot be stopped: %s", strerror(-rc));
		freeze_fail(z);
	}
}

void freeze_received(struct guest *g)
{
	struct freeze *z = g->freeze;

	if (!z || z->stage != FREEZE_QUIET || !z->quiesced)
		return;
	if (xs_received(g->vm.xs) == z->agent_sent && xs_at_boundary(g->vm.xs))
		freeze_stop(z);
}

void freeze_quiesced(struct guest *g, const struct agent_quiesce *q)
{
	struct freeze *z = g->freeze;

	if (!z || z->stage != FREEZE_QUIET || q->op != z->op)
		return;
	z->quiesced = true;
	z->agent_sent = q->xs_sent;
	freeze_received(g);
}

static void freeze_too_long(evutil_socket_t fd, short what, void *arg)
{
	struct freeze *z = arg;

	(void)fd;
	(void)what;
	if (z->stage != FREEZE_QUIET) {
		snprintf(z->why, sizeof(z->why),
			 "it could not be frozen within %d s: %s does not answer", FREEZE_STOPPED_S,
			 z->stage == FREEZE_ARMING ? "sf-memtap" : "QEMU");
		vm_fail(&z->guest->vm, z->why);
		return;
	}
	z->error = ETIMEDOUT;
	snprintf(z->why, sizeof(z->why), "the guest's agent did not get quiet within %d s",
		 FREEZE_QUIET_S);
	freeze_fail(z);
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
	agent_port_send_now(vm->agent, AGENT_QUIESCE, &q, sizeof(q));
	agent_port_hold(vm->agent, true);
}

void freeze_begin(struct guest *g, const char *key, struct ticket *ticket)
{
	static uint64_t ops;
	struct freeze *z = calloc(1, sizeof(*z));
	struct vm *vm = &g->vm;

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
	if (!z || !z->instant || z->descriptor_fd < 0 || !z->limit) {
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
	freeze_free(g->freeze);
}

void freeze_agent_lost(struct guest *g)
{
	struct freeze *z = g->freeze;

	if (!z || z->stage != FREEZE_QUIET)
		return;
	z->error = EIO;
	snprintf(z->why, sizeof(z->why), "the guest's agent ended and was started again");
	refuse_freeze(z);
	release_guest(&g->vm);
	freeze_free(z);
}

struct ticket *freeze_ticket(const struct guest *g)
{
	return g->freeze ? g->freeze->ticket : NULL;
}
