/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One clone's life on this host. */
#define _GNU_SOURCE
#include "host/sfd/clone.h"

#include <arpa/inet.h>
#include <errno.h>
#include <event2/event.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/io.h"
#include "common/log.h"

#define PREPARE_LIMIT_S 30
#define LOAD_LIMIT_S	30
#define LEAVE_LIMIT_S	5

static struct clone *to_clone(struct vm *vm)
{
	return (struct clone *)vm; /* vm is its first member */
}
_Static_assert(offsetof(struct clone, vm) == 0, "to_clone");
_Static_assert(sizeof(((struct agent_resume *)NULL)->request) == SF_XS_KEY_MAX, "any key fits");

static void turn_within(struct clone *c, int seconds)
{
	struct timeval limit = { seconds, 0 };

	event_add(c->turn, &limit);
}

/* ---- the end ---- */

void clone_clear(struct clone *c)
{
	if (c->state == CLONE_GONE)
		return;
	c->state = CLONE_GONE;
	event_del(c->turn);
	pager_forget(c->lot->family->pager, c);
	vm_stop(&c->vm);
	if (c->in_pager)
		pager_clone_gone(c->lot->family->pager, c->pager_vm);
	clone_io_clear(c);
}

void clone_free(struct clone *c)
{
	clone_clear(c);
	event_free(c->turn);
	LIST_REMOVE(c, entry);
	free(c);
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

	c->in_pager = !pager_clone(vm->family->pager, (unsigned)c->lot->file, uffd, base,
				   &c->pager_vm, ram_registered, c);
	if (!c->in_pager)
		vmm_ram_accept(vm->vmm, false);
}

static void clone_ready(struct vm *vm)
{
	struct clone *c = to_clone(vm);

	if (c->state != CLONE_PREPARING)
		return;
	event_del(c->turn);
	c->state = CLONE_WAITING;
	lot_prepared(c->lot);
}

static const struct vm_kind clone_kind = {
	.ram_mapped = ram_mapped,
	.ready = clone_ready,
	.ended = clone_ended,
	.frame = clone_frame,
	.request = clone_request,
};

void clone_prepare(struct lot *lot, unsigned slot)
{
	struct family *f = lot->family;
	struct vm_plan plan = { .kind = &clone_kind,
				.slot = slot,
				.clone = true,
				.ram_fd = pager_file_fd(f->pager, (unsigned)lot->file),
				.charge = daemon_clone_charge(f->daemon, f->ram_bytes) };
	struct clone *c = calloc(1, sizeof(*c));

	if (c)
		c->turn = evtimer_new(f->daemon->base, on_turn, c);
	if (!c || !c->turn) {
		free(c);
		return;
	}
	c->lot = lot;
	snprintf(c->vm.name, sizeof(c->vm.name), "%s/t%u.%u", f->name, lot->ticket, slot);
	if (vm_start(&c->vm, f, &plan, lot->why)) {
		log_warn("vm %s: not prepared: %s", c->vm.name, lot->why);
		event_free(c->turn);
		free(c);
		return;
	}
	LIST_INSERT_HEAD(&lot->clones, c, entry);
	lot->preparing++;
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

void clone_load(struct clone *c, const struct start_clone *as, int fd)
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
	rc = vmm_load(c->vm.vmm, fd, clone_loaded, c);
	if (rc)
		clone_leave(c, SF_CLONE_FAILED, 0, strerror(-rc));
}

static void remove_reply(void *arg, const char *name)
{
	json_array_append_new(arg, json_string(name));
}

/* A clone's tree has no answers but its own. */
static void drop_replies(struct xs_server *xs)
{
	json_t *names = json_array(), *name;
	size_t i;

	xs_host_list(xs, SF_XS_REPLY, remove_reply, names);
	json_array_foreach(names, i, name) {
		char path[sizeof(SF_XS_REPLY) + 256];

		snprintf(path, sizeof(path), SF_XS_REPLY "/%s", json_string_value(name));
		xs_host_remove(xs, path);
	}
	json_decref(names);
}

static void ticket_node(struct xs_server *xs, unsigned ticket, const char *name, const char *format,
			...) __attribute__((format(printf, 4, 5)));
static void ticket_node(struct xs_server *xs, unsigned ticket, const char *name, const char *format,
			...)
{
	char path[96], text[64];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	snprintf(path, sizeof(path), SF_XS_TICKET "/%u/%s", ticket, name);
	xs_host_write(xs, path, text, false);
}

static void write_ticket(struct clone *c, const struct start *s)
{
	struct xs_server *xs = c->vm.xs;

	xs_host_remove(xs, SF_XS_TICKET);
	for (unsigned i = 0; i < s->count; i++) {
		struct in_addr at = family_address(c->vm.family, s->clones[i].slot);
		char name[48], text[INET_ADDRSTRLEN];

		snprintf(name, sizeof(name), "clone/%u/address", s->clones[i].id);
		ticket_node(xs, s->ticket, name, "%s", inet_ntop(AF_INET, &at, text, sizeof(text)));
	}
	ticket_node(xs, s->ticket, "state", "%s", SF_TICKET_RUNNING);
	ticket_node(xs, s->ticket, "granted", "%u", s->count);
	ticket_node(xs, s->ticket, "running", "%u", s->count);
}

/* The clone's own tree: the parent's at the instant, but for who it is. */
static void write_identity(struct clone *c, const struct start *s)
{
	struct xs_server *xs = c->vm.xs;
	json_t *key;
	size_t i;

	xs_host_printf(xs, "domid", "%u", c->vm.slot + 1);
	xs_host_write(xs, "name", c->vm.name, false);
	xs_host_printf(xs, "snowflock/id", "%u", c->id);
	xs_host_printf(xs, "snowflock/count", "%u", s->count);
	xs_host_printf(xs, "snowflock/last-ticket", "%u", s->ticket);
	write_ticket(c, s);
	drop_replies(xs);
	json_array_foreach(s->cancel, i, key)
		vm_answer(&c->vm, json_string_value(key),
			  "error ECANCELED asked by the parent, not by this clone");
	if (s->checkpoint)
		vm_answer(&c->vm, s->request, "ok %u %u %u", s->checkpoint, c->id, s->count);
	else
		vm_answer(&c->vm, s->request, "ok %u %u", c->id, s->count);
}

void clone_identify(struct clone *c, const struct start *s)
{
	struct agent_resume resume = {
		.op = s->quiesce, .id = c->id, .count = s->count, .checkpoint = s->checkpoint
	};
	json_t *stream;
	size_t i;

	json_array_foreach(s->streams, i, stream) {
		if (c->stream_count < AGENT_MAX_STREAMS)
			c->streams[c->stream_count++] = (uint32_t)json_integer_value(stream);
	}
	if (vm_xs_restore(&c->vm, s->xs_state, s->xs_bytes)) {
		clone_leave(c, SF_CLONE_FAILED, 0, "the parent's XenStore state made no sense");
		return;
	}
	write_identity(c, s);
	memcpy(resume.request, s->request,
	       strlen(s->request)); /* start_parse() looked at its length */
	vm_resume(&c->vm, &resume);
	xs_hold(c->vm.xs, false);
}
