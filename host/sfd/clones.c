/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Prepares, starts and ends clones for their home. */
#define _GNU_SOURCE
#include "host/sfd/clones.h"

#include <arpa/inet.h>
#include <errno.h>
#include <event2/buffer.h>
#include <event2/event.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "common/log.h"
#include "host/sfd/hex.h"
#include "host/sfd/vm.h"
#include "proto/peer.h"
#include "proto/xenstore-tree.h"

#define CLONE_MAX_STREAMS 16

enum clone_state { CLONE_PREPARING, CLONE_WAITING, CLONE_LOADING, CLONE_RUNNING, CLONE_LEAVING, CLONE_GONE };
static const char *const clone_state_names[] = { "preparing", "waiting", "starting", "running", "leaving", "gone" };

struct clone {
	struct vm vm;
	struct lot *lot;
	enum clone_state state;
	unsigned id, serial;
	uint32_t pager_vm;
	bool in_pager;
	uint32_t streams[CLONE_MAX_STREAMS];	/* commands it inherited that still run */
	unsigned stream_count;
	uint32_t result_stream;
	uint64_t result_length;
	struct evbuffer *result;	/* NULL: it set none */
	bool result_whole;
	/* how it ended */
	struct event *exiting;		/* it called sf_exit(): its last output is on the way */
	const char *end;
	int status;
	char reason[WHY_BYTES];
	uint64_t end_ns;
	LIST_ENTRY(clone) entry;
};

struct lot {
	struct family *family;
	unsigned ticket;
	int file;
	unsigned preparing;
	struct peer_request *reserving;	/* answered when nobody prepares any more */
	char why[WHY_BYTES];		/* of the last that could not */
	LIST_HEAD(, clone) clones;
	LIST_ENTRY(lot) entry;
};

/* An output on its way home; the agent gets its credit when it arrived. */
struct output {
	struct family *family;
	unsigned ticket, id;
	uint32_t stream;
	unsigned channel;
	uint32_t bytes;
	struct daemon *daemon;
};

static const struct vm_kind clone_kind;

static struct clone *to_clone(struct vm *vm)
{
	return (struct clone *)vm;	/* vm is its first member */
}
_Static_assert(offsetof(struct clone, vm) == 0, "to_clone");

static struct lot *find_lot(struct family *f, unsigned ticket)
{
	struct lot *lot;

	LIST_FOREACH(lot, &f->lots, entry) {
		if (lot->ticket == ticket)
			return lot;
	}
	return NULL;
}

static struct clone *find_clone(struct lot *lot, unsigned id)
{
	struct clone *c;

	LIST_FOREACH(c, &lot->clones, entry) {
		if (c->id == id)
			return c;
	}
	return NULL;
}

int clones_lot_file(struct family *f, unsigned ticket)
{
	struct lot *lot = find_lot(f, ticket);

	return lot ? lot->file : -1;
}

/* ---- ends ---- */

/* Takes the VM away, keeps the place. */
static void clone_clear(struct clone *c)
{
	if (c->state == CLONE_GONE)
		return;
	c->state = CLONE_GONE;
	pager_forget(c->lot->family->pager, c);
	vm_stop(&c->vm);
	if (c->in_pager)
		pager_clone_gone(c->lot->family->pager, c->pager_vm);
	if (c->exiting)
		event_free(c->exiting);
	c->exiting = NULL;
	if (c->result)
		evbuffer_free(c->result);
	c->result = NULL;
}

static void send_result(struct clone *c)
{
	size_t length = c->result && c->result_whole ? evbuffer_get_length(c->result) : 0, offset = 0;
	struct family *f = c->lot->family;

	while (offset < length) {
		size_t chunk = length - offset < PEER_RESULT_CHUNK ? length - offset : PEER_RESULT_CHUNK;
		json_t *msg = json_pack("{ss si si si sI sI}", "ev", "result", "number", (int)f->number,
					"ticket", (int)c->lot->ticket, "id", (int)c->id, "offset",
					(json_int_t)offset, "length", (json_int_t)length);

		peer_send(f->home, msg, evbuffer_pullup(c->result, (ev_ssize_t)chunk), chunk);
		evbuffer_drain(c->result, chunk);
		offset += chunk;
	}
}

static void send_ended(struct clone *c, const struct memtap_stats *stats)
{
	struct family *f = c->lot->family;
	json_t *msg = json_pack("{ss si si si ss sI sI sI sI}", "ev", "ended", "number", (int)f->number,
				"ticket", (int)c->lot->ticket, "id", (int)c->id, "state", c->end, "exit_us",
				(json_int_t)((io_now_ns() - c->end_ns) / 1000), "faults",
				(json_int_t)stats->faults, "pages_fetched", (json_int_t)stats->pages_fetched,
				"bytes_fetched", (json_int_t)stats->bytes_fetched);

	if (!strcmp(c->end, SF_CLONE_EXITED))
		json_object_set_new(msg, "status", json_integer(c->status));
	else
		json_object_set_new(msg, "reason", json_string(c->reason));
	peer_send(f->home, msg, NULL, 0);
}

/* Its counters are here: the rest of what home wants to know can go. */
static void leaving_stats(void *arg, int error, const struct memtap_reply *reply)
{
	static const struct memtap_stats none;
	struct clone *c = arg;

	send_result(c);
	send_ended(c, error ? &none : (const struct memtap_stats *)reply);
	log_info("vm %s: %s%s%s", c->vm.name, c->end, *c->reason ? ": " : "", c->reason);
	clone_clear(c);
}

static void clone_leave(struct clone *c, const char *end, int status, const char *reason)
{
	if (c->state >= CLONE_LEAVING)
		return;
	c->state = CLONE_LEAVING;
	c->end = end;
	c->status = status;
	if (!c->exiting)
		c->end_ns = io_now_ns();
	snprintf(c->reason, sizeof(c->reason), "%s", reason ? reason : "");
	if (pager_stats(c->lot->family->pager, c->pager_vm, leaving_stats, c))
		leaving_stats(c, -ENOMEM, NULL);
}

static void lot_free(struct lot *lot)
{
	struct clone *c;

	if (lot->reserving)
		peer_refuse(lot->reserving, -ECANCELED, "the ticket was given up");
	while ((c = LIST_FIRST(&lot->clones))) {
		clone_clear(c);
		LIST_REMOVE(c, entry);
		free(c);
	}
	family_file_put(lot->family, (unsigned)lot->file);
	LIST_REMOVE(lot, entry);
	free(lot);
}

void clones_family_clear(struct family *f)
{
	struct lot *lot;

	while ((lot = LIST_FIRST(&f->lots)))
		lot_free(lot);
}

void clones_home_lost(struct daemon *d, struct host *home)
{
	struct family *f, *next;

	for (f = LIST_FIRST(&d->families); f; f = next) {
		next = LIST_NEXT(f, entry);
		if (f->home != home)
			continue;
		log_warn("family %s: its home is lost, ending its clones", f->name);
		clones_family_clear(f);
		family_destroy(f);
	}
}

void clones_family_failed(struct family *f)
{
	struct lot *lot;
	struct clone *c;

	LIST_FOREACH(lot, &f->lots, entry) {
		LIST_FOREACH(c, &lot->clones, entry) {
			if (c->state == CLONE_LOADING || c->state == CLONE_RUNNING)
				clone_leave(c, SF_CLONE_LOST, 0, "its memory server could not be kept alive");
		}
	}
}

/* ---- reserve ---- */

static void reserve_settled(struct lot *lot)
{
	json_t *ready;
	struct clone *c;

	if (lot->preparing || !lot->reserving)
		return;
	ready = json_array();
	LIST_FOREACH(c, &lot->clones, entry) {
		if (c->state == CLONE_WAITING)
			json_array_append_new(ready, json_integer(c->vm.slot));
	}
	if (!json_array_size(ready)) {
		peer_refuse(lot->reserving, -ENOSPC, "%s", *lot->why ? lot->why : "no clone could be prepared");
		json_decref(ready);
	} else {
		peer_reply(lot->reserving, json_pack("{so ss}", "ready", ready, "why", lot->why));
	}
	lot->reserving = NULL;
}

static void clone_ram_registered(void *arg, int error, const struct memtap_reply *reply)
{
	struct clone *c = arg;

	(void)reply;
	c->in_pager = !error;
	vmm_ram_accept(c->vm.vmm, !error);
}

static void clone_ram_mapped(struct vm *vm, int uffd, uint64_t base)
{
	struct clone *c = to_clone(vm);
	struct family *f = vm->family;

	if (pager_clone(f->pager, (unsigned)c->lot->file, uffd, base, &c->pager_vm, clone_ram_registered, c))
		vmm_ram_accept(vm->vmm, false);
}

static void clone_ready(struct vm *vm)
{
	struct clone *c = to_clone(vm);

	c->state = CLONE_WAITING;
	c->lot->preparing--;
	reserve_settled(c->lot);
}

/* From the loop, so that the VM is not taken away under its own callback. */
static void clone_ended_later(evutil_socket_t fd, short what, void *arg)
{
	struct clone *c = arg;

	(void)fd;
	(void)what;
	if (c->state == CLONE_PREPARING) {
		c->lot->preparing--;
		snprintf(c->lot->why, sizeof(c->lot->why), "%s", c->reason);
		clone_clear(c);
		reserve_settled(c->lot);
	} else if (c->state == CLONE_WAITING) {
		clone_clear(c);
	} else if (c->state < CLONE_LEAVING) {
		char reason[WHY_BYTES];

		memcpy(reason, c->reason, sizeof(reason));
		clone_leave(c, c->state == CLONE_LOADING ? SF_CLONE_FAILED : SF_CLONE_LOST, 0, reason);
	}
}

static void clone_ended(struct vm *vm, const char *why)
{
	static const struct timeval now = { 0, 0 };
	struct clone *c = to_clone(vm);

	snprintf(c->reason, sizeof(c->reason), "%s", why);
	event_base_once(vm->daemon->base, -1, EV_TIMEOUT, clone_ended_later, c, &now);
}

static void clone_prepare(struct lot *lot, unsigned slot)
{
	struct family *f = lot->family;
	struct vm_plan plan = { .kind = &clone_kind, .slot = slot, .clone = true,
				.ram_fd = pager_file_fd(f->pager, (unsigned)lot->file),
				.charge = daemon_clone_charge(f->daemon, f->ram_bytes) };
	struct clone *c = calloc(1, sizeof(*c));

	if (!c)
		return;
	c->lot = lot;
	snprintf(c->vm.name, sizeof(c->vm.name), "%s/t%u.%u", f->name, lot->ticket, slot);
	if (vm_start(&c->vm, f, &plan, lot->why)) {
		log_warn("vm %s: not prepared: %s", c->vm.name, lot->why);
		free(c);
		return;
	}
	LIST_INSERT_HEAD(&lot->clones, c, entry);
	lot->preparing++;
}

/* Finds or makes the family a reservation is for. Return: it, or NULL with a sentence. */
static struct family *reserve_family(struct daemon *d, struct host *home, json_t *spec, char why[WHY_BYTES])
{
	json_int_t ram_bytes;
	int number, cpus, vni;
	const char *base_text;
	struct in_addr base;
	struct family *f;

	if (json_unpack(spec, "{si sI si si ss}", "number", &number, "ram_bytes", &ram_bytes, "cpus", &cpus,
			"vni", &vni, "base", &base_text) ||
	    number < 0 || ram_bytes < (1 << 20) || (uint64_t)ram_bytes > MEMTAP_MAX_RAM_BYTES ||
	    ram_bytes % (1 << 20) || cpus < 1 || cpus > 64 || vni < 1 || vni >= 1 << 24 ||
	    inet_pton(AF_INET, base_text, &base) != 1) {
		snprintf(why, WHY_BYTES, "a family that makes no sense");
		return NULL;
	}
	f = family_find(d, home, (unsigned)number);
	if (f && f->ram_bytes == (uint64_t)ram_bytes && f->cpus == (unsigned)cpus)
		return f;
	if (f) {
		snprintf(why, WHY_BYTES, "family %s is here already, and another one", f->name);
		return NULL;
	}
	return family_create(d, home, (unsigned)number, (uint64_t)ram_bytes, (unsigned)cpus, (uint32_t)vni,
			     base, why);
}

void clones_reserve(struct daemon *d, struct peer_request *r, json_t *msg, const uint8_t *bytes, size_t len)
{
	json_t *spec, *slots, *slot;
	char why[WHY_BYTES];
	struct family *f;
	struct lot *lot;
	int ticket;
	size_t i;

	(void)bytes;
	(void)len;
	if (json_unpack(msg, "{so si so}", "family", &spec, "ticket", &ticket, "slots", &slots) ||
	    !json_is_array(slots) || !json_array_size(slots) || json_array_size(slots) > SF_MAX_CLONES) {
		peer_refuse(r, -EINVAL, "a reservation that makes no sense");
		return;
	}
	f = reserve_family(d, peer_from(r), spec, why);
	if (!f) {
		peer_refuse(r, -EINVAL, "%s", why);
		return;
	}
	lot = find_lot(f, (unsigned)ticket);
	if (lot && lot->reserving) {
		peer_refuse(r, -EBUSY, "ticket %d is being reserved", ticket);
		return;
	}
	if (!lot) {
		lot = calloc(1, sizeof(*lot));
		if (lot)
			lot->file = family_file_new(f);
		if (!lot || lot->file < 0) {
			peer_refuse(r, -ENOSPC, "no page file: %s", strerror(lot ? -lot->file : ENOMEM));
			free(lot);
			return;
		}
		lot->family = f;
		lot->ticket = (unsigned)ticket;
		LIST_INIT(&lot->clones);
		LIST_INSERT_HEAD(&f->lots, lot, entry);
	}
	lot->reserving = r;
	json_array_foreach(slots, i, slot) {
		json_int_t number = json_integer_value(slot);

		if (number > 0 && number <= FAMILY_MAX_SLOT)
			clone_prepare(lot, (unsigned)number);
	}
	reserve_settled(lot);
}

/* ---- start ---- */

/* What a start message says, for all of its clones. */
struct start {
	int number, ticket, file, pages, checkpoint;
	json_int_t descriptor_bytes, quiesce;
	const char *snapshot_hex, *key_hex, *verb, *request;
	json_t *cancel, *streams, *clones;
	uint64_t snapshot;
	uint8_t key[MEMTAP_KEY_BYTES];
	const uint8_t *xs_state;
	size_t xs_len;
	size_t count;
};

static int start_parse(struct start *s, json_t *msg, const uint8_t *bytes, size_t len)
{
	uint8_t snapshot[8];

	if (json_unpack(msg, "{si si si si si sI sI ss ss ss ss so so so}", "number", &s->number, "ticket",
			&s->ticket, "file", &s->file, "pages", &s->pages, "checkpoint", &s->checkpoint,
			"descriptor_bytes", &s->descriptor_bytes, "quiesce", &s->quiesce, "snapshot", &s->snapshot_hex, "key",
			&s->key_hex, "verb", &s->verb, "request", &s->request, "cancel", &s->cancel, "streams",
			&s->streams, "clones", &s->clones) ||
	    s->pages < 1 || s->pages > UINT16_MAX || s->descriptor_bytes < 1 ||
	    (uint64_t)s->descriptor_bytes > len || !json_is_array(s->cancel) || !json_is_array(s->streams) ||
	    !json_is_array(s->clones) || strlen(s->request) > SF_XS_KEY_MAX ||
	    hex_parse(s->snapshot_hex, snapshot, sizeof(snapshot)) ||
	    hex_parse(s->key_hex, s->key, sizeof(s->key)))
		return -EINVAL;
	memcpy(&s->snapshot, snapshot, sizeof(s->snapshot));
	s->xs_state = bytes + s->descriptor_bytes;
	s->xs_len = len - (size_t)s->descriptor_bytes;
	s->count = json_array_size(s->clones);
	return s->count ? 0 : -EINVAL;
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
		char path[128];

		snprintf(path, sizeof(path), SF_XS_REPLY "/%s", json_string_value(name));
		xs_host_remove(xs, path);
	}
	json_decref(names);
}

static void ticket_node(struct xs_server *xs, int ticket, const char *name, const char *format, ...)
{
	char path[96], text[64];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	snprintf(path, sizeof(path), SF_XS_TICKET "/%d/%s", ticket, name);
	xs_host_write(xs, path, text, false);
}

/* The clone's own tree: the parent's at the instant, but for who it is. */
static void write_identity(struct clone *c, const struct start *s)
{
	struct xs_server *xs = c->vm.xs;
	json_t *entry, *key;
	size_t i;

	xs_host_printf(xs, "domid", "%u", c->vm.slot + 1);
	xs_host_write(xs, "name", c->vm.name, false);
	xs_host_printf(xs, "snowflock/id", "%u", c->id);
	xs_host_printf(xs, "snowflock/count", "%zu", s->count);
	xs_host_remove(xs, SF_XS_TICKET);
	xs_host_printf(xs, "snowflock/last-ticket", "%d", s->ticket);
	json_array_foreach(s->clones, i, entry) {
		int id, slot;
		char path[96], text[INET_ADDRSTRLEN];
		struct in_addr at;

		if (json_unpack(entry, "{si si}", "id", &id, "slot", &slot))
			continue;
		at = family_address(c->vm.family, (unsigned)slot);
		snprintf(path, sizeof(path), SF_XS_TICKET "/%d/clone/%d/address", s->ticket, id);
		xs_host_write(xs, path, inet_ntop(AF_INET, &at, text, sizeof(text)), false);
	}
	ticket_node(xs, s->ticket, "state", "%s", SF_TICKET_RUNNING);
	ticket_node(xs, s->ticket, "granted", "%zu", s->count);
	ticket_node(xs, s->ticket, "running", "%zu", s->count);
	drop_replies(xs);
	json_array_foreach(s->cancel, i, key)
		vm_answer(&c->vm, json_string_value(key), "error ECANCELED asked by the parent, not by this clone");
	if (s->checkpoint)
		vm_answer(&c->vm, s->request, "ok %d %u %zu", s->checkpoint, c->id, s->count);
	else
		vm_answer(&c->vm, s->request, "ok %u %zu", c->id, s->count);
}

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
	c->state = CLONE_RUNNING;
	log_info("vm %s: running", c->vm.name);
	peer_send(f->home, json_pack("{ss si si si}", "ev", "running", "number", (int)f->number, "ticket",
				     (int)c->lot->ticket, "id", (int)c->id), NULL, 0);
}

static void clone_identify(struct clone *c, const struct start *s)
{
	struct agent_resume resume = { .op = (uint64_t)s->quiesce, .id = c->id, .count = (uint32_t)s->count,
				       .checkpoint = (uint32_t)s->checkpoint };
	json_t *stream;
	size_t i;

	json_array_foreach(s->streams, i, stream) {
		if (c->stream_count < CLONE_MAX_STREAMS)
			c->streams[c->stream_count++] = (uint32_t)json_integer_value(stream);
	}
	if (vm_xs_restore(&c->vm, s->xs_state, s->xs_len)) {
		clone_leave(c, SF_CLONE_FAILED, 0, "the parent's XenStore state made no sense");
		return;
	}
	write_identity(c, s);
	memcpy(resume.request, s->request, strlen(s->request));	/* start_parse() looked at its length */
	vm_resume(&c->vm, &resume);
	xs_hold(c->vm.xs, false);
}

/* Picks the clones of this host out of the list. */
static struct clone *assign_clone(struct lot *lot, json_t *entry)
{
	int id, slot, serial;
	struct clone *c;

	if (json_unpack(entry, "{si si si}", "id", &id, "slot", &slot, "serial", &serial) || id < 1)
		return NULL;
	LIST_FOREACH(c, &lot->clones, entry) {
		if (c->vm.slot != (unsigned)slot || c->state != CLONE_WAITING)
			continue;
		c->id = (unsigned)id;
		c->serial = (unsigned)serial;
		snprintf(c->vm.name, sizeof(c->vm.name), "%s/%d", lot->family->name, serial);
		return c;
	}
	return NULL;
}

static void lot_source(struct lot *lot, const struct start *s)
{
	struct family *f = lot->family;

	if (f->home != f->daemon->self)
		pager_begin(f->pager, (unsigned)lot->file, s->snapshot, s->key, f->home->addr, (uint16_t)s->pages);
	else if (s->file != lot->file)
		pager_begin_local(f->pager, (unsigned)lot->file, (unsigned)s->file);
}

void clones_start(struct daemon *d, struct peer_request *r, json_t *msg, const uint8_t *bytes, size_t len)
{
	_cleanup_fd_ int descriptor = -1;
	struct start s = { 0 };
	struct family *f;
	struct clone *c;
	struct lot *lot;
	json_t *entry;
	size_t i;
	int rc = start_parse(&s, msg, bytes, len);

	f = rc ? NULL : family_find(d, peer_from(r), (unsigned)s.number);
	lot = f ? find_lot(f, (unsigned)s.ticket) : NULL;
	if (!lot) {
		peer_refuse(r, rc ? rc : -ENOENT, rc ? "a start that makes no sense" : "no such ticket here");
		return;
	}
	descriptor = memfd_create("sf-descriptor", MFD_CLOEXEC);
	if (descriptor < 0 || io_write_full(descriptor, bytes, (size_t)s.descriptor_bytes)) {
		peer_refuse(r, -ENOMEM, "no memory for the descriptor");
		return;
	}
	lot_source(lot, &s);
	/* the QEMUs load while we write XenStore trees: first all loads, then all trees */
	json_array_foreach(s.clones, i, entry) {
		c = assign_clone(lot, entry);
		if (!c)
			continue;
		c->state = CLONE_LOADING;
		rc = vmm_load(c->vm.vmm, descriptor, clone_loaded, c);
		if (rc)
			clone_leave(c, SF_CLONE_FAILED, 0, strerror(-rc));
	}
	LIST_FOREACH(c, &lot->clones, entry) {
		if (c->state == CLONE_LOADING && !c->vm.xs)
			clone_identify(c, &s);
	}
	peer_reply(r, NULL);
}

/* ---- while it runs ---- */

static void exit_quiet(evutil_socket_t fd, short what, void *arg)
{
	struct clone *c = arg;

	(void)fd;
	if (what & EV_TIMEOUT)
		log_warn("vm %s: its agent did not send the last output in time", c->vm.name);
	clone_leave(c, SF_CLONE_EXITED, c->status, NULL);
}

static void exit_begin(evutil_socket_t fd, short what, void *arg)
{
	static const struct timeval limit = { 2, 0 };
	struct clone *c = arg;
	struct agent_quiesce q = { .xs_sent = xs_sent(c->vm.xs) };

	(void)fd;
	(void)what;
	event_free(c->exiting);
	c->exiting = evtimer_new(c->vm.daemon->base, exit_quiet, c);
	event_add(c->exiting, &limit);
	xs_hold(c->vm.xs, true);
	agent_port_send_now(c->vm.agent, AGENT_QUIESCE, &q, sizeof(q));
}

/*
 * sf_exit(): what its commands printed just before is still on its way through the agent, on
 * another port. The agent is made quiet first: that sends it all.
 */
static void clone_exit(struct clone *c, int status)
{
	if (c->exiting)
		return;
	c->status = status;
	c->end_ns = io_now_ns();
	/* from the loop: only then the answer to this very write has been counted as sent */
	c->exiting = evtimer_new(c->vm.daemon->base, exit_begin, c);
	event_active(c->exiting, EV_TIMEOUT, 0);
}

static void clone_request(struct vm *vm, const char *key, const char *text, size_t len)
{
	struct clone *c = to_clone(vm);
	unsigned status;
	char rest;

	(void)len;
	if (sscanf(text, "exit %u%c", &status, &rest) == 1 && status <= 255)
		clone_exit(c, (int)status);
	else if (!strncmp(text, "exit", 4))
		vm_answer_error(vm, key, EINVAL, "an exit status is between 0 and 255");
	else
		vm_answer_error(vm, key, ENOTSUP, "a clone cannot clone: ask in the VM that was booted");
}

static void output_arrived(void *arg, int error, const char *why, json_t *msg, const uint8_t *bytes, size_t len)
{
	struct output *o = arg;
	struct agent_credit credit = { .bytes = o->bytes };
	struct family *f;
	struct lot *lot = NULL;
	struct clone *c = NULL;

	(void)error;
	(void)why;
	(void)msg;
	(void)bytes;
	(void)len;
	LIST_FOREACH(f, &o->daemon->families, entry) {
		if (f == o->family)
			lot = find_lot(f, o->ticket);
	}
	if (lot)
		c = find_clone(lot, o->id);
	if (c && c->vm.agent)
		agent_port_send(c->vm.agent, AGENT_CREDIT, o->channel, o->stream, &credit, sizeof(credit), NULL, 0);
	free(o);
}

static void clone_output(struct clone *c, const struct agent_frame *f, const void *payload)
{
	struct family *family = c->lot->family;
	struct output *o;

	if (!f->length)
		return;
	o = calloc(1, sizeof(*o));
	if (!o)
		return;
	*o = (struct output){ .daemon = family->daemon, .family = family, .ticket = c->lot->ticket, .id = c->id,
			      .stream = f->stream, .channel = f->channel, .bytes = f->length };
	peer_call(family->home,
		  json_pack("{ss si si si sI si}", "op", "output", "number", (int)family->number, "ticket",
			    (int)c->lot->ticket, "id", (int)c->id, "stream", (json_int_t)f->stream, "channel",
			    (int)f->channel),
		  payload, f->length, output_arrived, o);
}

static void result_begin(struct clone *c, const struct agent_frame *f, const struct agent_result *head)
{
	struct agent_status status = { 0 };

	if (head->length > AGENT_MAX_RESULT) {
		status.value = EFBIG;
		agent_port_send(c->vm.agent, AGENT_STORED, 0, f->stream, &status, sizeof(status), NULL, 0);
		return;
	}
	if (c->result)
		evbuffer_free(c->result);
	c->result = evbuffer_new();
	c->result_stream = f->stream;
	c->result_length = head->length;
	c->result_whole = !head->length;
	if (c->result_whole)
		agent_port_send(c->vm.agent, AGENT_STORED, 0, f->stream, &status, sizeof(status), NULL, 0);
}

static void result_data(struct clone *c, const struct agent_frame *f, const void *payload)
{
	struct agent_credit credit = { .bytes = f->length };
	struct agent_status stored = { 0 };

	if (!c->result || c->result_whole || f->stream != c->result_stream)
		return;
	if (!f->length || f->length > c->result_length - evbuffer_get_length(c->result)) {
		evbuffer_free(c->result);	/* given up, or more than was said: there is none */
		c->result = NULL;
		return;
	}
	evbuffer_add(c->result, payload, f->length);
	agent_port_send(c->vm.agent, AGENT_CREDIT, AGENT_STDIN, f->stream, &credit, sizeof(credit), NULL, 0);
	c->result_whole = evbuffer_get_length(c->result) == c->result_length;
	if (!c->result_whole)
		return;
	agent_port_send(c->vm.agent, AGENT_STORED, 0, f->stream, &stored, sizeof(stored), NULL, 0);
}

/* A command it inherited ended here: with the last one the clone ends as the command did. */
static void command_exited(struct clone *c, const struct agent_frame *f, const struct agent_status *end)
{
	char reason[64];

	for (unsigned i = 0; i < c->stream_count; i++) {
		if (c->streams[i] == f->stream)
			c->streams[i--] = c->streams[--c->stream_count];
	}
	if (c->stream_count)
		return;
	if (WIFEXITED(end->value)) {
		clone_leave(c, SF_CLONE_EXITED, WEXITSTATUS(end->value), NULL);
		return;
	}
	snprintf(reason, sizeof(reason), "its command was ended by signal %d", WTERMSIG(end->value));
	clone_leave(c, SF_CLONE_LOST, 0, reason);
}

static void clone_frame(struct vm *vm, const struct agent_frame *f, const void *payload)
{
	struct clone *c = to_clone(vm);

	if (c->state >= CLONE_LEAVING)
		return;
	switch (f->type) {
	case AGENT_DATA:
		if (f->channel == AGENT_STDIN)
			result_data(c, f, payload);
		else
			clone_output(c, f, payload);
		break;
	case AGENT_RESULT:
		result_begin(c, f, payload);
		break;
	case AGENT_QUIESCED:
		if (c->exiting)
			event_active(c->exiting, EV_READ, 0);
		break;
	case AGENT_EXITED:
		command_exited(c, f, payload);
		break;
	default:
		break;	/* HELLO of a restarted agent, RESUMED: nothing to do */
	}
}

static const struct vm_kind clone_kind = {
	.ram_mapped = clone_ram_mapped, .ready = clone_ready, .ended = clone_ended,
	.frame = clone_frame, .request = clone_request,
};

/* ---- kill, release, dismiss, list ---- */

/* The family and the ticket's share a message is about; either may be NULL. */
static struct lot *message_lot(struct daemon *d, struct peer_request *r, json_t *msg, struct family **family)
{
	int number = -1, ticket = -1;

	json_unpack(msg, "{si s?i}", "number", &number, "ticket", &ticket);
	*family = number < 0 ? NULL : family_find(d, peer_from(r), (unsigned)number);
	return *family && ticket >= 0 ? find_lot(*family, (unsigned)ticket) : NULL;
}

void clones_kill(struct daemon *d, struct peer_request *r, json_t *msg, const uint8_t *bytes, size_t len)
{
	struct family *f;
	struct lot *lot = message_lot(d, r, msg, &f);
	int id = 0;
	struct clone *c;

	(void)bytes;
	(void)len;
	json_unpack(msg, "{s?i}", "id", &id);
	if (lot) {
		LIST_FOREACH(c, &lot->clones, entry) {
			if ((!id || c->id == (unsigned)id) && c->state >= CLONE_LOADING)
				clone_leave(c, SF_CLONE_KILLED, 0, "killed on request");
		}
	}
	peer_reply(r, NULL);
}

void clones_release(struct daemon *d, struct peer_request *r, json_t *msg, const uint8_t *bytes, size_t len)
{
	struct family *f;
	struct lot *lot = message_lot(d, r, msg, &f);

	(void)bytes;
	(void)len;
	if (lot)
		lot_free(lot);
	peer_reply(r, NULL);
}

void clones_dismiss(struct daemon *d, struct peer_request *r, json_t *msg, const uint8_t *bytes, size_t len)
{
	struct family *f;

	(void)bytes;
	(void)len;
	message_lot(d, r, msg, &f);
	if (f && f->home != d->self) {
		clones_family_clear(f);
		family_destroy(f);
	}
	peer_reply(r, NULL);
}

void clones_list(struct daemon *d, json_t *array)
{
	struct family *f;
	struct lot *lot;
	struct clone *c;
	char id[sizeof(f->name) + 32], text[INET_ADDRSTRLEN];

	LIST_FOREACH(f, &d->families, entry) {
		LIST_FOREACH(lot, &f->lots, entry) {
			LIST_FOREACH(c, &lot->clones, entry) {
				struct in_addr at = family_address(f, c->vm.slot);

				if (c->state == CLONE_GONE)
					continue;
				if (c->serial)
					snprintf(id, sizeof(id), "%s/%u", f->name, c->serial);
				else
					snprintf(id, sizeof(id), "%s/-", f->name);
				json_array_append_new(
					array,
					json_pack("{ss ss ss ss ss ss si sI si ss si sI}", "id", id, "name",
						  c->vm.name, "kind", "clone", "host", d->self->name, "state",
						  clone_state_names[c->state], "parent", f->name, "clone_id",
						  (int)c->id, "mem_bytes", (json_int_t)f->ram_bytes, "cpus",
						  (int)f->cpus, "address",
						  inet_ntop(AF_INET, &at, text, sizeof(text)), "pid",
						  (int)vmm_pid(c->vm.vmm), "uptime_ms",
						  (json_int_t)((io_now_ns() - c->vm.started_ns) / 1000000)));
			}
		}
	}
}
