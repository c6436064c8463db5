/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A booted VM's life: boot, what its libsf asks for, what its clones' hosts tell, its end. */
#define _GNU_SOURCE
#include "host/sfd/guest.h"

#include <arpa/inet.h>
#include <errno.h>
#include <event2/event.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "common/log.h"
#include "host/sfd/clones.h"
#include "host/sfd/control.h"
#include "host/sfd/guest_console.h"
#include "host/sfd/image.h"
#include "host/sfd/probe_wire.h"
#include "host/sfd/window.h"

#define BOOT_LIMIT_S 180
#define IMAGE_BOOT_LIMIT_S 600 /* a whole system starts */
/* 10.64.0.0/10: 1024 segments of /20, FAMILIES_PER_HOST for each of the first 64 hosts. */
#define PLAN_BASE     0x0a400000u
#define PLAN_SEGMENTS 1024

static const struct vm_kind guest_kind;

static struct guest *to_guest(struct vm *vm)
{
	return (struct guest *)vm; /* vm is its first member */
}
_Static_assert(offsetof(struct guest, vm) == 0, "to_guest");

struct guest *guest_number(struct daemon *d, unsigned number)
{
	struct guest *g;

	LIST_FOREACH(g, &d->guests, entry) {
		if (g->number == number)
			return g;
	}
	return NULL;
}

struct guest *guest_find(struct daemon *d, const char *id)
{
	struct guest *g;

	LIST_FOREACH(g, &d->guests, entry) {
		if (!strcmp(g->vm.family->name, id))
			return g;
	}
	return NULL;
}

struct ticket *guest_ticket(struct guest *g, unsigned number)
{
	struct ticket *t;

	LIST_FOREACH(t, &g->tickets, entry) {
		if (t->number == number)
			return t;
	}
	return NULL;
}

struct instant *guest_instant(struct guest *g, uint64_t snapshot)
{
	struct checkpoint *c;
	struct ticket *t;

	LIST_FOREACH(t, &g->tickets, entry) {
		if (t->instant && t->instant->snapshot == snapshot)
			return t->instant;
	}
	LIST_FOREACH(c, &g->checkpoints, entry) {
		if (c->instant->snapshot == snapshot)
			return c->instant;
	}
	return NULL;
}

void guest_tell(struct guest *g, json_t *event)
{
	json_object_set_new(event, "vm", json_string(g->vm.family->name));
	if (g->watcher)
		control_event(g->watcher, event);
	else
		json_decref(event);
}

/* ---- boot ---- */

static void guest_ram_registered(void *arg, int error, const struct memtap_reply *reply)
{
	struct guest *g = arg;

	(void)reply;
	vmm_ram_accept(g->vm.vmm, !error);
}

static void guest_ram_mapped(struct vm *vm, int uffd, uint64_t base)
{
	struct guest *g = to_guest(vm);

	if (pager_parent(vm->family->pager, uffd, g->ram_fd, base, guest_ram_registered, g))
		vmm_ram_accept(vm->vmm, false);
}

static void boot_step(struct guest *g, const char *step)
{
	if (g->owner)
		control_event(g->owner, json_pack("{ss ss ss}", "ev", "boot", "vm",
						  g->vm.family->name, "step", step));
}

/* It is all that its owner waited for. */
static void guest_is_up(struct guest *g)
{
	g->up = true;
	event_del(g->boot_limit);
	log_info("vm %s: up", g->vm.name);
	if (g->boot_request)
		control_reply(g->owner, g->boot_request,
			      json_pack("{ss}", "vm", g->vm.family->name));
	json_decref(steal_ptr(&g->boot_request));
}

static void guest_ready(struct vm *vm)
{
	struct guest *g = to_guest(vm);

	boot_step(g, "kernel");
	if (!g->agent)
		guest_is_up(g);
}

/* The tree of a VM that was just booted (proto/xenstore-tree.h). */
static int write_tree(struct guest *g)
{
	struct family *f = g->vm.family;
	struct xs_server *xs;
	char base[INET_ADDRSTRLEN], gateway[INET_ADDRSTRLEN];
	int rc = vm_xs_create(&g->vm);

	if (rc)
		return rc;
	xs = g->vm.xs;
	inet_ntop(AF_INET, &f->base, base, sizeof(base));
	inet_ntop(AF_INET, &f->gateway, gateway, sizeof(gateway));
	xs_host_printf(xs, "domid", "%u", g->vm.slot + 1);
	xs_host_write(xs, "name", g->name, false);
	xs_host_write(xs, "snowflock/version", SF_XS_VERSION, false);
	xs_host_write(xs, "snowflock/id", "0", false);
	xs_host_write(xs, "snowflock/count", "0", false);
	xs_host_printf(xs, "snowflock/limit", "%u", SF_MAX_CLONES);
	xs_host_write(xs, "snowflock/net/base", base, false);
	xs_host_printf(xs, "snowflock/net/prefix", "%u", FAMILY_PREFIX);
	xs_host_write(xs, "snowflock/net/gateway", gateway, false);
	xs_host_printf(xs, "snowflock/net/answer-port", "%u", 1973u);
	xs_host_write(xs, SF_XS_REQUEST, "", true);
	xs_host_write(xs, SF_XS_REPLY, "", true);
	return 0;
}

static int boot_limit_s(const struct guest *g)
{
	return g->images[0] ? IMAGE_BOOT_LIMIT_S : BOOT_LIMIT_S;
}

/* The guest's uninvited end, or a boot that took too long: from the loop. */
static void guest_fail_later(evutil_socket_t fd, short what, void *arg)
{
	struct guest *g = arg;
	char why[WHY_BYTES];

	(void)fd;
	(void)what;
	if (!*g->vm.why)
		snprintf(g->vm.why, sizeof(g->vm.why),
			 "its agent did not report within %d s of the boot%s", boot_limit_s(g),
			 g->images[0] ? ": is the package snowflock-guest installed in the image? "
					"sfctl run --no-agent shows its console without one" : "");
	log_err("vm %s: %s", g->vm.name, g->vm.why);
	memcpy(why, g->vm.why, sizeof(why));
	guest_destroy(g, why);
}

static void guest_ended(struct vm *vm, const char *why)
{
	struct guest *g = to_guest(vm);

	if (g->dying)
		return;
	snprintf(vm->why, sizeof(vm->why), "%s", why);
	event_active(g->boot_limit, EV_TIMEOUT, 0);
}

static void guest_disk_opened(void *arg, int error)
{
	struct guest *g = arg;

	if (error)
		guest_ended(&g->vm, "a disk of it could not be opened");
}

/* A number for the cluster's name, so that two clusters on the same hosts seldom plan the same. */
static unsigned cluster_offset(const struct daemon *d)
{
	unsigned hash = 5381;

	for (const char *c = d->config.cluster; *c; c++)
		hash = hash * 33 + (unsigned char)*c;
	return hash;
}

/*
 * Makes the guest's family in the first of this host's segments that is free here. The plan needs
 * no talk between the hosts: each has FAMILIES_PER_HOST segments of its own.
 */
static struct family *make_family(struct daemon *d, struct guest *g, const struct guest_wish *wish,
				  char why[WHY_BYTES])
{
	struct family_disks disks = { .count = wish->disk_count };
	unsigned first = cluster_offset(d) + d->self->index * FAMILIES_PER_HOST;

	for (unsigned i = 0; i < disks.count; i++)
		disks.bytes[i] = image_bytes(wish->images[i]);
	for (unsigned slot = 0; slot < FAMILIES_PER_HOST; slot++) {
		unsigned segment = (first + slot) % PLAN_SEGMENTS;
		struct in_addr base = { htonl(PLAN_BASE + (segment << (32 - FAMILY_PREFIX)) + 1) };
		/* random: other clusters on these hosts have other numbers, a frame never meets a
		 * stranger */
		uint32_t vni = 1 + randombytes_uniform((1u << 24) - 2);
		struct sockaddr_in group = probe_random_group();
		struct family *f = family_create(d, d->self, g->number, wish->mem_bytes, wish->cpus,
						 vni, base, &group, &disks, why);

		if (f)
			f->ipv6 = wish->ipv6;
		if (f || (errno != EADDRINUSE && errno != EEXIST))
			return f;
	}
	snprintf(why, WHY_BYTES,
		 "host %s has no network left for another VM: it runs %d, or others use "
		 "10.64.0.0/10",
		 d->self->name, FAMILIES_PER_HOST);
	return NULL;
}

/* Each of its disks is its image, with a layer on top for what it writes. */
static int open_disks(struct guest *g)
{
	int rc = 0;

	for (unsigned i = 0; i < g->vm.family->disk_count && !rc; i++) {
		struct disk *k = g->vm.disks[i];

		rc = disk_stand_on(k, &(struct disk_stack){ .image = g->images[i] });
		if (!rc)
			rc = disk_freeze(k, NULL, NULL);
		if (!rc)
			rc = disk_open(k, guest_disk_opened, g);
	}
	return rc;
}

static int guest_start(struct guest *g, struct family *f, const struct guest_wish *wish,
		       char why[WHY_BYTES])
{
	struct vm_plan plan = { .kind = &guest_kind,
				.kernel = wish->kernel,
				.initrd = wish->initrd,
				.append = wish->append,
				.window_fd = -1,
				.console_fd = -1,
				.charge = f->ram_bytes };
	_cleanup_fd_ int console = -1;
	int rc;

	g->ram_fd = memfd_create("sf-ram", MFD_CLOEXEC);
	if (g->ram_fd < 0 || ftruncate(g->ram_fd, (off_t)f->ram_bytes) || fchmod(g->ram_fd, 0666)) {
		rc = -errno;
		snprintf(why, WHY_BYTES, "no file for the guest's memory: %s", strerror(-rc));
		return rc;
	}
	plan.ram_fd = g->ram_fd;
	snprintf(g->vm.name, sizeof(g->vm.name), "%s", f->name);
	g->vm.daemon = f->daemon;
	if (!g->agent) {
		g->console = guest_console_new(g, &console);
		plan.console_fd = console;
	}
	rc = vm_start(&g->vm, f, &plan, why);
	if (rc)
		return rc;
	rc = write_tree(g);
	if (rc)
		snprintf(why, WHY_BYTES, "no XenStore: %s", strerror(-rc));
	if (!rc) {
		rc = open_disks(g);
		if (rc)
			snprintf(why, WHY_BYTES, "its disks cannot be opened: %s", strerror(-rc));
	}
	if (rc)
		vm_stop(&g->vm);
	return rc;
}

static void guest_free(struct guest *g)
{
	if (g->ram_fd >= 0)
		close(g->ram_fd);
	guest_console_free(g->console);
	for (unsigned i = 0; i < VMM_MAX_DISKS; i++)
		image_put(g->images[i]);
	if (g->boot_limit)
		event_free(g->boot_limit);
	json_decref(g->boot_request);
	json_decref(g->records);
	free(g->slots);
	free(g);
}

int guest_boot(struct daemon *d, const struct guest_wish *wish, struct control *owner,
	       json_t *request, char why[WHY_BYTES])
{
	struct timeval limit = { 0 };
	struct guest *g = calloc(1, sizeof(*g));
	struct family *f = NULL;
	int rc = -ENOMEM;

	snprintf(why, WHY_BYTES, "out of memory");
	if (!g)
		return rc;
	g->ram_fd = -1;
	g->slots = calloc(1, FAMILY_MAX_SLOT + 1);
	g->records = json_array();
	g->number = d->next_guest++;
	g->agent = wish->agent;
	g->owner = owner;
	for (unsigned i = 0; i < wish->disk_count; i++)
		g->images[i] = image_get(wish->images[i]);
	g->next_ticket = g->next_checkpoint = g->next_op = g->next_serial = g->next_stream = 1;
	g->boot_limit = evtimer_new(d->base, guest_fail_later, g);
	if (!g->slots || !g->records || !g->boot_limit)
		goto err_guest;
	g->slots[0] = 1;
	rc = -ENOSPC;
	f = make_family(d, g, wish, why);
	if (!f)
		goto err_guest;
	snprintf(g->name, sizeof(g->name), "%.60s", wish->name ? wish->name : f->name);
	rc = guest_start(g, f, wish, why);
	if (rc)
		goto err_family;
	g->boot_request = json_incref(request);
	limit.tv_sec = boot_limit_s(g);
	event_add(g->boot_limit, &limit);
	LIST_INSERT_HEAD(&d->guests, g, entry);
	boot_step(g, "starting");
	return 0;

err_family:
	family_destroy(f);
err_guest:
	guest_free(g);
	return rc;
}

/* ---- frames ---- */

/* Where its kernel module has its window; a place that cannot be is none. */
static void guest_module(struct guest *g, const struct agent_window *w)
{
	bool fits = window_fits(w, g->vm.family->ram_bytes);

	if (w->pages && !fits)
		log_warn("vm %s: the window of its kernel module, %llu pages at page 0x%llx, is "
			 "not in its memory",
			 g->vm.name, (unsigned long long)w->pages, (unsigned long long)w->gfn);
	g->window = fits ? *w : (struct agent_window){ .pages = 0 };
	log_info("vm %s: %s kernel module", g->vm.name, fits ? "it has the" : "it has no");
}

static void guest_hello(struct guest *g, const struct agent_hello *hello)
{
	struct agent_resume resume = { .op = 0 };
	char why[WHY_BYTES];

	if (hello->version != AGENT_VERSION) {
		snprintf(why, sizeof(why),
			 "its agent speaks version %u, this host version %d: the guest image is of "
			 "another release",
			 hello->version, AGENT_VERSION);
		guest_ended(&g->vm, why);
		return;
	}
	guest_module(g, &hello->window);
	if (g->hello)
		freeze_agent_lost(g); /* the agent died and was started again */
	vm_resume(&g->vm, &resume);
	if (g->hello) {
		log_warn("vm %s: its agent was started again: its commands are lost", g->vm.name);
		stream_agent_lost(g);
	} else {
		boot_step(g, "agent");
	}
	g->hello = true;
}

static void guest_resumed(struct guest *g, int error)
{
	if (g->up) {
		if (error)
			log_warn("vm %s: its agent could not set up the network: %s", g->vm.name,
				 strerror(error));
		return;
	}
	if (error) {
		char why[WHY_BYTES];

		snprintf(why, sizeof(why), "its agent could not set up the network: %s",
			 strerror(error));
		guest_ended(&g->vm, why);
		return;
	}
	guest_is_up(g);
}

/* A clone reached the parent. Tickets overlap: its address and its ID together say which it is. */
static void guest_answered(struct guest *g, const struct agent_answered *a)
{
	struct ticket *t;

	LIST_FOREACH(t, &g->tickets, entry) {
		if (t->state < TICKET_RUNNING || a->id < 1 || a->id > t->count ||
		    t->children[a->id - 1].slot != a->slot)
			continue;
		ticket_answered(t, a->id);
		return;
	}
}

static void guest_frame(struct vm *vm, const struct agent_frame *f, const void *payload)
{
	struct guest *g = to_guest(vm);

	if (g->dying)
		return;
	switch (f->type) {
	case AGENT_HELLO:
		guest_hello(g, payload);
		break;
	case AGENT_MODULE:
		guest_module(g, payload);
		break;
	case AGENT_RESUMED:
		guest_resumed(g, ((const struct agent_status *)payload)->value);
		break;
	case AGENT_QUIESCED:
		freeze_quiesced(g, payload);
		break;
	case AGENT_ANSWERED:
		guest_answered(g, payload);
		break;
	default:
		stream_frame(g, f, payload);
	}
}

static void guest_received(struct vm *vm)
{
	freeze_received(to_guest(vm));
}

static void guest_doorbell(struct vm *vm)
{
	freeze_doorbell(to_guest(vm));
}

static const struct vm_kind guest_kind = {
	.ram_mapped = guest_ram_mapped,
	.ready = guest_ready,
	.ended = guest_ended,
	.frame = guest_frame,
	.received = guest_received,
	.doorbell = guest_doorbell,
	.request = guest_request,
};

/* ---- the end ---- */

void guest_family_failed(struct family *f)
{
	struct guest *g = guest_number(f->daemon, f->number);

	if (g)
		guest_ended(&g->vm, "its memory server could not be kept alive");
}

void guest_control_lost(struct daemon *d, struct control *control)
{
	struct guest *g, *next;

	for (g = LIST_FIRST(&d->guests); g; g = next) {
		next = LIST_NEXT(g, entry);
		stream_control_lost(g, control);
		if (g->watcher == control)
			g->watcher = NULL;
		if (g->owner != control)
			continue;
		g->owner = NULL;
		guest_destroy(g, NULL);
	}
}

/* The other hosts were told to dismiss a family: who waits for all of them? */
struct farewell {
	unsigned open;
	void (*gone)(void *arg);
	void *arg;
};

static void farewell_put(struct farewell *w)
{
	if (--w->open)
		return;
	if (w->gone)
		w->gone(w->arg);
	free(w);
}

static void dismissed(void *arg, int error, const char *why, json_t *msg, const uint8_t *bytes,
		      size_t len)
{
	(void)error;
	(void)why;
	(void)msg;
	(void)bytes;
	(void)len;
	farewell_put(arg);
}

static void dismiss_everywhere(struct daemon *d, unsigned number, void (*gone)(void *arg),
			       void *arg)
{
	struct farewell *w = calloc(1, sizeof(*w));

	if (!w)
		abort();
	*w = (struct farewell){ .open = 1, .gone = gone, .arg = arg };
	for (unsigned i = 0; i < d->host_count; i++) {
		if (&d->hosts[i] == d->self || !d->hosts[i].up)
			continue;
		w->open++;
		peer_call(&d->hosts[i],
			  json_pack("{ss si}", "op", "dismiss", "number", (int)number), NULL, 0,
			  dismissed, w);
	}
	farewell_put(w);
}

/* Whoever booted it hears why it ends, if there is anything to say. */
static void tell_owner(struct guest *g, const char *why)
{
	if (g->owner && g->boot_request)
		control_refuse(g->owner, g->boot_request, -EIO, "the VM did not come up: %s",
			       why ? why : "it was ended");
	else if (g->owner && why)
		control_event(g->owner, json_pack("{ss ss ss}", "ev", "lost", "vm",
						  g->vm.family->name, "reason", why));
	json_decref(steal_ptr(&g->boot_request));
}

static void forget_all(struct guest *g)
{
	struct checkpoint *c;
	struct pending *p;

	freeze_cancel(g);
	stream_clear(g);
	while (LIST_FIRST(&g->tickets))
		ticket_release(LIST_FIRST(&g->tickets));
	while ((c = LIST_FIRST(&g->checkpoints))) {
		LIST_REMOVE(c, entry);
		instant_put(c->instant);
		free(c);
	}
	while ((p = LIST_FIRST(&g->pending))) {
		LIST_REMOVE(p, entry);
		free(p);
	}
}

void guest_destroy_then(struct guest *g, const char *why, void (*gone)(void *arg), void *arg)
{
	struct daemon *d = g->vm.daemon;
	struct family *f = g->vm.family;
	unsigned number = g->number;

	g->dying = true;
	log_info("vm %s: ends", g->vm.name);
	tell_owner(g, why);
	forget_all(g);
	pager_forget(f->pager, g);
	vm_stop(&g->vm);
	LIST_REMOVE(g, entry);
	clones_family_end(f);
	guest_free(g);
	dismiss_everywhere(d, number, gone, arg);
}

void guest_destroy(struct guest *g, const char *why)
{
	guest_destroy_then(g, why, NULL, NULL);
}
