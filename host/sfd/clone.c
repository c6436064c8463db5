/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One clone's life on this host. */
#define _GNU_SOURCE
#include "host/sfd/clone.h"

#include <errno.h>
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "common/log.h"
#include "host/sfd/guest.h"
#include "host/sfd/window.h"

#define PREPARE_LIMIT_S 30
#define LOAD_LIMIT_S	30
#define LEAVE_LIMIT_S	5

static struct clone *to_clone(struct vm *vm)
{
	return (struct clone *)vm; /* vm is its first member */
}
_Static_assert(offsetof(struct clone, vm) == 0, "to_clone");

static void turn_within(struct clone *c, int seconds)
{
	struct timeval limit = { seconds, 0 };

	event_add(c->turn, &limit);
}

/* ---- the end ---- */

/* Its processes are gone: no memtap needs to care. */
static void leave_pagers(struct clone *c)
{
	struct family *f = c->lot->family;

	if (c->in_pager)
		pager_clone_gone(f->pager, c->pager_vm);
	for (unsigned i = 0; i < f->disk_count; i++) {
		pager_forget(f->disks[i].pager, c);
		if (c->disks[i].in_pager)
			pager_clone_gone(f->disks[i].pager, c->disks[i].pager_vm);
	}
}

void clone_clear(struct clone *c)
{
	if (c->state == CLONE_GONE)
		return;
	c->state = CLONE_GONE;
	event_del(c->turn);
	pager_forget(c->lot->family->pager, c);
	vm_stop(&c->vm);
	leave_pagers(c);
	cleanup_close(&c->window_fd);
	c->window_fd = -1;
	clone_io_clear(c);
}

/* Frees one that is in no list, and whose VM does not run. */
static void clone_drop(struct clone *c)
{
	cleanup_close(&c->window_fd);
	if (c->turn)
		event_free(c->turn);
	free(c);
}

void clone_free(struct clone *c)
{
	clone_clear(c);
	LIST_REMOVE(c, entry);
	clone_drop(c);
}

static void send_ended(const struct clone *c, const struct memtap_stats *stats)
{
	struct family *f = c->lot->family;
	json_t *msg = json_pack(
		"{ss si si si ss sI sI sI sI}", "ev", "ended", "number", (int)f->number, "ticket",
		(int)c->lot->ticket, "id", (int)c->id, "state", c->end, "exit_us",
		(json_int_t)((io_now_ns() - c->end_ns) / 1000), "faults", (json_int_t)stats->faults,
		"pages_fetched", (json_int_t)stats->pages_fetched, "bytes_fetched",
		(json_int_t)stats->bytes_fetched);

	if (!strcmp(c->end, SF_CLONE_EXITED))
		json_object_set_new(msg, "status", json_integer(c->status));
	else
		json_object_set_new(msg, "reason", json_string(c->reason));
	peer_send(f->home, msg, NULL, 0);
}

/* Home learns all about the end; `stats` may be NULL. */
static void say_farewell(struct clone *c, const struct memtap_stats *stats)
{
	static const struct memtap_stats none;

	clone_send_result(c);
	send_ended(c, stats ? stats : &none);
	log_info("vm %s: %s%s%s", c->vm.name, c->end, *c->reason ? ": " : "", c->reason);
	clone_clear(c);
}

static void leaving_stats(void *arg, int error, const struct memtap_reply *reply)
{
	say_farewell(arg, error ? NULL : (const struct memtap_stats *)reply);
}

void clone_leave(struct clone *c, const char *end, int status, const char *reason)
{
	if (c->state >= CLONE_LEAVING)
		return;
	c->state = CLONE_LEAVING;
	c->end = end;
	c->status = status;
	if (!c->exiting)
		c->end_ns = io_now_ns();
	if (reason != c->reason)
		snprintf(c->reason, sizeof(c->reason), "%s", reason ? reason : "");
	turn_within(c, LEAVE_LIMIT_S);
	if (pager_stats(c->lot->family->pager, c->pager_vm, leaving_stats, c))
		event_active(c->turn, EV_TIMEOUT, 0);
}

/* Something was noted about it, or its time is over. It may be gone afterwards. */
static void on_turn(evutil_socket_t fd, short what, void *arg)
{
	struct clone *c = arg;
	struct lot *lot = c->lot;

	(void)fd;
	(void)what;
	switch (c->state) {
	case CLONE_PREPARING:
		if (!*c->reason)
			snprintf(c->reason, sizeof(c->reason), "a QEMU was not ready within %d s",
				 PREPARE_LIMIT_S);
		log_warn("vm %s: not prepared: %s", c->vm.name, c->reason);
		memcpy(lot->why, c->reason, sizeof(lot->why));
		clone_clear(c);
		lot_prepared(lot);
		break;
	case CLONE_WAITING:
		log_warn("vm %s: ended before it was needed: %s", c->vm.name, c->reason);
		clone_clear(c);
		break;
	case CLONE_LOADING:
		if (!*c->reason)
			snprintf(c->reason, sizeof(c->reason), "it did not run within %d s",
				 LOAD_LIMIT_S);
		clone_leave(c, SF_CLONE_FAILED, 0, c->reason);
		break;
	case CLONE_RUNNING:
		clone_leave(c, SF_CLONE_LOST, 0, c->reason);
		break;
	case CLONE_LEAVING:
		pager_forget(lot->family->pager, c);
		say_farewell(c, NULL);
		break;
	case CLONE_GONE:
		break;
	}
}

static void clone_ended(struct vm *vm, const char *why)
{
	struct clone *c = to_clone(vm);

	if (c->state >= CLONE_LEAVING)
		return; /* on its way already, with a reason of its own */
	snprintf(c->reason, sizeof(c->reason), "%s", why);
	event_active(c->turn, EV_TIMEOUT, 0);
}

/* ---- prepare ---- */

static void ram_registered(void *arg, int error, const struct memtap_reply *reply)
{
	struct clone *c = arg;

	(void)reply;
	if (error)
		c->in_pager = false;
	vmm_ram_accept(c->vm.vmm, !error);
}

static void ram_mapped(struct vm *vm, int uffd, uint64_t base)
{
	struct clone *c = to_clone(vm);
	const struct agent_window *w = &c->lot->window;
	struct pager_window window = { .fd = c->window_fd,
				       .pages = (uint32_t)w->pages,
				       .first = sfk_file_page(w->gfn) };

	c->in_pager = !pager_clone(vm->family->pager, (unsigned)c->lot->file, uffd, base, &window,
				   &c->pager_vm, ram_registered, c);
	if (!c->in_pager)
		vmm_ram_accept(vm->vmm, false);
}

/* Its QEMU or one of its disks is ready. */
static void part_ready(struct clone *c)
{
	if (c->state != CLONE_PREPARING || --c->waiting)
		return;
	event_del(c->turn);
	c->state = CLONE_WAITING;
	lot_prepared(c->lot);
}

static void clone_ready(struct vm *vm)
{
	part_ready(to_clone(vm));
}

/* ---- disks ---- */

static void disk_registered(void *arg, int error, const struct memtap_reply *reply)
{
	struct clone *c = arg;

	(void)reply;
	if (error)
		clone_ended(&c->vm, "a disk of it could not be inherited");
	else
		part_ready(c);
}

static void disk_is_inherited(void *arg, int error, int uffd, uint64_t base)
{
	static const struct pager_window none = { .fd = -1 };
	struct clone_disk *k = arg;
	struct clone *c = k->clone;
	struct lot *lot = c->lot;
	size_t n = (size_t)(k - c->disks);

	if (error)
		cleanup_close(&uffd);
	else
		error = pager_clone(lot->family->disks[n].pager, lot->disk_files[n], uffd, base,
				    &none, &k->pager_vm, disk_registered, c);
	k->in_pager = !error;
	if (error)
		clone_ended(&c->vm, "a disk of it could not be inherited");
}

/* On another host than home a disk stands on a page file, which memtap fills as it is read. */
static int inherit_disks(struct clone *c)
{
	struct lot *lot = c->lot;
	int rc = 0;

	for (unsigned i = 0; i < lot->disk_file_count && !rc; i++) {
		c->disks[i].clone = c;
		c->waiting++;
		rc = disk_inherit(c->vm.disks[i],
				  pager_file_fd(lot->family->disks[i].pager, lot->disk_files[i]),
				  disk_is_inherited, &c->disks[i]);
	}
	return rc;
}

static void disk_is_open(void *arg, int error)
{
	if (error)
		clone_ended(arg, "a disk of it could not be opened");
}

/* A layer of its own on what it stands on; then it answers. Return: 0 or -errno. */
static int open_disks(struct clone *c, const struct instant *instant)
{
	int rc = 0;

	for (unsigned i = 0; i < c->lot->family->disk_count && !rc; i++) {
		struct disk *k = c->vm.disks[i];

		if (instant)
			rc = disk_stand_on(k, &instant->disks[i].stack);
		if (!rc)
			rc = disk_freeze(k, NULL, NULL);
		if (!rc)
			rc = disk_open(k, disk_is_open, &c->vm);
	}
	return rc;
}

/* Layers that are made beforehand need not be made at the start. */
static int prepare_disks(struct clone *c)
{
	int rc = inherit_disks(c);

	for (unsigned i = 0; i < c->lot->family->disk_count && !rc; i++)
		rc = disk_prepare(c->vm.disks[i]);
	return rc;
}

static const struct vm_kind clone_kind = {
	.ram_mapped = ram_mapped,
	.ready = clone_ready,
	.ended = clone_ended,
	.frame = clone_frame,
	.request = clone_request,
};

/* A clone that is nothing but its place. Return: NULL if there is no memory for it. */
static struct clone *clone_new(struct lot *lot, unsigned slot)
{
	struct family *f = lot->family;
	struct clone *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	c->lot = lot;
	c->window_fd = lot->window.pages ? window_create(lot->window.pages) : -1;
	c->turn = evtimer_new(f->daemon->base, on_turn, c);
	snprintf(c->vm.name, sizeof(c->vm.name), "%s/t%u.%u", f->name, lot->ticket, slot);
	if (c->turn && (!lot->window.pages || c->window_fd >= 0))
		return c;
	snprintf(lot->why, sizeof(lot->why), "no memory for a clone");
	clone_drop(c);
	return NULL;
}

void clone_prepare(struct lot *lot, unsigned slot)
{
	struct family *f = lot->family;
	struct clone *c = clone_new(lot, slot);
	struct vm_plan plan = { .kind = &clone_kind,
				.slot = slot,
				.clone = true,
				.console_fd = -1,
				.ram_fd = pager_file_fd(f->pager, (unsigned)lot->file),
				.window = lot->window,
				.charge = daemon_clone_charge(f->daemon, f->ram_bytes) +
					  window_charge(lot->window.pages) };
	char why[WHY_BYTES];
	int rc;

	if (!c)
		return;
	plan.window_fd = c->window_fd;
	if (vm_start(&c->vm, f, &plan, lot->why)) {
		log_warn("vm %s: not prepared: %s", c->vm.name, lot->why);
		clone_drop(c);
		return;
	}
	LIST_INSERT_HEAD(&lot->clones, c, entry);
	lot->preparing++;
	c->waiting = 1; /* for its QEMU */
	rc = prepare_disks(c);
	if (rc) {
		snprintf(why, sizeof(why), "its disks could not be prepared: %s", strerror(-rc));
		clone_ended(&c->vm, why);
	}
	turn_within(c, PREPARE_LIMIT_S);
}

/* ---- start ---- */

static void clone_loaded(void *arg, int error, const char *why)
{
	struct clone *c = arg;
	struct family *f = c->lot->family;

	if (c->state != CLONE_LOADING)
		return;
	if (error) {
		clone_leave(c, SF_CLONE_FAILED, 0, why);
		return;
	}
	event_del(c->turn);
	c->state = CLONE_RUNNING;
	log_info("vm %s: running", c->vm.name);
	peer_send(f->home,
		  json_pack("{ss si si si}", "ev", "running", "number", (int)f->number, "ticket",
			    (int)c->lot->ticket, "id", (int)c->id),
		  NULL, 0);
}

void clone_load(struct clone *c, const struct start *s, const struct start_clone *as,
		const struct instant *instant, int fd)
{
	int rc;

	c->id = as->id;
	c->serial = as->serial;
	snprintf(c->vm.name, sizeof(c->vm.name), "%s/%u", c->lot->family->name, as->serial);
	if (c->state != CLONE_WAITING) { /* it ended while it waited: home does not know yet */
		c->end = SF_CLONE_FAILED;
		c->end_ns = io_now_ns();
		send_ended(c, &(struct memtap_stats){ 0 });
		return;
	}
	c->state = CLONE_LOADING;
	turn_within(c, LOAD_LIMIT_S);
	rc = clone_post(c, s);
	if (!rc)
		rc = open_disks(c, instant);
	if (!rc)
		rc = vmm_load(c->vm.vmm, fd, clone_loaded, c);
	if (rc)
		clone_leave(c, SF_CLONE_FAILED, 0, strerror(-rc));
}
