/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Answers homes: their reservations, starts, kills, and the ends of their tickets and families. */
#define _GNU_SOURCE
#include "host/sfd/clones.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "common/log.h"
#include "host/sfd/clone.h"
#include "host/sfd/fields.h"
#include "host/sfd/guest.h"
#include "host/sfd/reserve.h"
#include "host/sfd/window.h"
#include "proto/xenstore-tree.h"

static const char *const clone_state_names[] = { "preparing", "waiting", "starting",
						 "running",   "leaving", "gone" };
_Static_assert(ARRAY_SIZE(clone_state_names) == CLONE_GONE + 1, "a name for each state");

int clones_lot_file(struct family *f, unsigned ticket)
{
	struct lot *lot = lot_find(f, ticket);

	return lot ? lot->file : -1;
}

/* ---- ends ---- */

void clones_family_end(struct family *f)
{
	while (LIST_FIRST(&f->lots))
		lot_free(LIST_FIRST(&f->lots));
	family_destroy(f);
}

void clones_home_lost(struct daemon *d, struct host *home)
{
	struct family *f, *next;

	for (f = LIST_FIRST(&d->families); f; f = next) {
		next = LIST_NEXT(f, entry);
		if (f->home != home)
			continue;
		log_warn("family %s: its home is lost, ending its clones", f->name);
		clones_family_end(f);
	}
}

void clones_family_failed(struct family *f)
{
	struct lot *lot;
	struct clone *c;

	LIST_FOREACH(lot, &f->lots, entry) {
		LIST_FOREACH(c, &lot->clones, entry)
			vm_fail(&c->vm, "its memory server could not be kept alive");
	}
}

/* ---- reserve ---- */

static bool same_disks(const struct family *f, const struct family_disks *disks)
{
	bool same = f->disk_count == disks->count;

	for (unsigned i = 0; i < f->disk_count && same; i++)
		same = f->disks[i].bytes == disks->bytes[i];
	return same;
}

/* Finds or makes the family a reservation is for. Return: it, or NULL with a sentence. */
static struct family *reserve_family(struct daemon *d, struct host *home,
				     const struct reservation *v, char why[WHY_BYTES])
{
	struct family *f = family_find(d, home, v->number);

	if (f && f->failed && LIST_EMPTY(&f->lots)) {
		family_destroy(f); /* its memtap was given up: try with another */
		f = NULL;
	}
	if (!f) {
		f = family_create(d, home, v->number, v->ram_bytes, v->cpus, v->vni, v->base,
				  &v->group, &v->disks, why);
		if (f)
			f->ipv6 = v->ipv6;
		return f;
	}
	if (!f->failed && f->ram_bytes == v->ram_bytes && f->cpus == v->cpus &&
	    f->ipv6 == v->ipv6 && same_disks(f, &v->disks))
		return f;
	snprintf(why, WHY_BYTES,
		 f->failed ? "the memory server of family %s could not be kept alive"
			   : "family %s is here already, and another one",
		 f->name);
	return NULL;
}

static void reserve(struct daemon *d, struct peer_request *r, struct reservation *v)
{
	char why[WHY_BYTES];
	struct family *f = reserve_family(d, peer_from(r), v, why);
	struct lot *lot;

	if (!f) {
		peer_refuse(r, -ENOSPC, "%s", why);
		return;
	}
	if (lot_find(f, v->ticket)) {
		peer_refuse(r, -EBUSY, "ticket %u has its share of this host already", v->ticket);
		return;
	}
	lot = lot_create(f, v->ticket, &v->window);
	if (lot)
		lot_reserve(lot, steal_ptr(&v->slots), v->count, r);
	else
		peer_refuse(r, -ENOSPC, "no file for the clones' memory: %s", strerror(errno));
}

void clones_reserve(struct daemon *d, struct peer_request *r, json_t *msg, const uint8_t *bytes,
		    size_t len)
{
	struct reservation v;
	int rc = reserve_parse(&v, msg);

	(void)bytes;
	(void)len;
	if (rc) {
		peer_refuse(r, rc, "a reservation that makes no sense");
		return;
	}
	reserve(d, r, &v);
	reserve_fini(&v);
}

/* ---- start ---- */

/* Where the pages of the lot's clones come from, and which nobody needs. Return: 0 or -errno. */
static int lot_source(struct lot *lot, struct start *s)
{
	struct family *f = lot->family;
	uint32_t node = route_find(&s->route, f->daemon->self->addr, f->pages_port);
	_cleanup_fd_ int dead = s->dead_bytes ? window_dead_fd(s->dead, s->dead_bytes) : -1;

	if (s->dead_bytes && dead < 0)
		return dead;
	if (f->home != f->daemon->self && !node)
		return -ENXIO; /* it is not for us */
	if (f->home != f->daemon->self) {
		s->route.at[0] = memtap_at(f->home->addr, s->pages);
		return pager_begin(f->pager, (unsigned)lot->file, s->snapshot, s->key, &s->route,
				   node, dead);
	}
	if (s->file != (unsigned)lot->file)
		return pager_begin_local(f->pager, (unsigned)lot->file, s->file, dead);
	return 0;
}

/* The same of disks, on another host than home. */
static int lot_disk_sources(struct lot *lot, struct start *s)
{
	struct family *f = lot->family;
	int rc = 0;

	for (unsigned i = 0; i < lot->disk_file_count && !rc; i++) {
		struct start_disk *k = &s->disks[i];
		uint32_t node = route_find(&k->route, f->daemon->self->addr, f->disks[i].port);

		k->route.at[0] = memtap_at(f->home->addr, k->pages);
		rc = node ? pager_begin(f->disks[i].pager, lot->disk_files[i], k->snapshot, k->key,
					&k->route, node, -1)
			  : -ENXIO;
	}
	return rc;
}

/* At home: the instant, whose layers the clones' disks stand on. */
static struct instant *lot_instant(const struct lot *lot, const struct start *s)
{
	const struct family *f = lot->family;
	struct guest *g = f->home == f->daemon->self ? guest_number(f->daemon, f->number) : NULL;

	return g ? guest_instant(g, s->snapshot) : NULL;
}

static struct clone *clone_of_slot(struct lot *lot, unsigned slot)
{
	struct clone *c;

	LIST_FOREACH(c, &lot->clones, entry) {
		if (c->vm.slot == slot && !c->id)
			return c;
	}
	return NULL;
}

/* What the clones are made of must be what they were prepared for. */
static bool start_fits(const struct lot *lot, const struct start *s)
{
	struct agent_window held = { .gfn = s->head.gfn, .pages = s->head.pages };

	return window_same(&held, &lot->window) &&
	       (!s->dead_bytes || s->dead_bytes == window_dead_bytes(lot->family->ram_bytes));
}

static void load_all(struct lot *lot, const struct start *s, int descriptor)
{
	const struct instant *instant = lot_instant(lot, s);
	struct clone *c;

	/* the QEMUs load while we write XenStore trees: first all loads, then all trees */
	for (unsigned i = 0; i < s->count; i++) {
		c = clone_of_slot(lot, s->clones[i].slot);
		if (c)
			clone_load(c, s, &s->clones[i], instant, descriptor);
	}
	LIST_FOREACH(c, &lot->clones, entry) {
		if (c->state == CLONE_LOADING && !c->vm.xs)
			clone_identify(c, s);
	}
}

/* Return: 0 if the clones are on their way, or -errno with a sentence. */
static int lot_start(struct lot *lot, struct start *s, char why[WHY_BYTES])
{
	_cleanup_fd_ int descriptor = -1;
	int rc;

	if (lot->started || lot->reserving) {
		snprintf(why, WHY_BYTES, "ticket %u has been started, or is not ready", s->ticket);
		return -EBUSY;
	}
	if (s->disk_count != lot->family->disk_count) {
		snprintf(why, WHY_BYTES, "a start with %u disks, of a family that has %u",
			 s->disk_count, lot->family->disk_count);
		return -EINVAL;
	}
	if (!start_fits(lot, s)) {
		snprintf(why, WHY_BYTES,
			 "ticket %u was prepared for another kernel module in the guest, or none",
			 s->ticket);
		return -EINVAL;
	}
	descriptor = memfd_create("sf-descriptor", MFD_CLOEXEC);
	if (descriptor < 0 || io_write_full(descriptor, s->descriptor, s->descriptor_bytes)) {
		snprintf(why, WHY_BYTES, "no memory for the descriptor");
		return -ENOMEM;
	}
	lot->started = true;
	/* before any of them loads, which touches RAM already: vmgenid writes its number there */
	rc = lot_source(lot, s);
	if (!rc)
		rc = lot_disk_sources(lot, s);
	if (rc)
		snprintf(why, WHY_BYTES, "its pages have no source: %s", strerror(-rc));
	else
		load_all(lot, s, descriptor);
	return rc;
}

void clones_start(struct daemon *d, struct peer_request *r, json_t *msg, const uint8_t *bytes,
		  size_t len)
{
	char why[WHY_BYTES];
	struct family *f;
	struct start s;
	struct lot *lot;
	int rc = start_parse(&s, msg, bytes, len);

	if (rc) {
		peer_refuse(r, rc, "a start that makes no sense");
		return;
	}
	f = family_find(d, peer_from(r), s.number);
	lot = f ? lot_find(f, s.ticket) : NULL;
	if (!lot) {
		peer_refuse(r, -ENOENT, "ticket %u has no share of this host any more", s.ticket);
	} else {
		rc = lot_start(lot, &s, why);
		if (rc)
			peer_refuse(r, rc, "%s", why);
		else
			peer_reply(r, NULL);
	}
	start_fini(&s);
}

/* ---- kill, release, dismiss, list ---- */

/* The family and the ticket's share a message is about; either may be NULL. */
static struct lot *message_lot(struct daemon *d, struct peer_request *r, json_t *msg,
			       struct family **family)
{
	unsigned number, ticket;

	*family = field_unsigned(msg, "number", 0, INT32_MAX, &number)
			  ? family_find(d, peer_from(r), number)
			  : NULL;
	return *family && field_unsigned(msg, "ticket", 1, INT32_MAX, &ticket)
		       ? lot_find(*family, ticket)
		       : NULL;
}

void clones_kill(struct daemon *d, struct peer_request *r, json_t *msg, const uint8_t *bytes,
		 size_t len)
{
	struct family *f;
	struct lot *lot = message_lot(d, r, msg, &f);
	uint64_t id = field_or(msg, "id", 0);
	struct clone *c;

	(void)bytes;
	(void)len;
	if (lot) {
		LIST_FOREACH(c, &lot->clones, entry) {
			if ((!id || c->id == id) &&
			    (c->state == CLONE_LOADING || c->state == CLONE_RUNNING))
				clone_leave(c, SF_CLONE_KILLED, 0, "killed on request");
		}
	}
	peer_reply(r, NULL);
}

void clones_release(struct daemon *d, struct peer_request *r, json_t *msg, const uint8_t *bytes,
		    size_t len)
{
	struct family *f;
	struct lot *lot = message_lot(d, r, msg, &f);

	(void)bytes;
	(void)len;
	if (lot)
		lot_free(lot);
	peer_reply(r, NULL);
}

void clones_dismiss(struct daemon *d, struct peer_request *r, json_t *msg, const uint8_t *bytes,
		    size_t len)
{
	struct family *f;

	(void)bytes;
	(void)len;
	message_lot(d, r, msg, &f);
	if (f && f->home != d->self)
		clones_family_end(f);
	peer_reply(r, NULL);
}

static json_t *describe_clone(const struct clone *c)
{
	const struct family *f = c->lot->family;
	struct in_addr at = family_address(f, c->vm.slot);
	char id[sizeof(f->name) + 32], text[INET_ADDRSTRLEN];

	if (c->serial)
		snprintf(id, sizeof(id), "%s/%u", f->name, c->serial);
	else
		snprintf(id, sizeof(id), "%s/-", f->name);
	return json_pack("{ss ss ss ss ss ss si sI si ss si sI so}", "id", id, "name", c->vm.name,
			 "kind", "clone", "host", f->daemon->self->name, "state",
			 clone_state_names[c->state], "parent", f->name, "clone_id", (int)c->id,
			 "mem_bytes", (json_int_t)f->ram_bytes, "cpus", (int)f->cpus, "address",
			 inet_ntop(AF_INET, &at, text, sizeof(text)), "pid",
			 (int)vmm_pid(c->vm.vmm), "uptime_ms",
			 (json_int_t)((io_now_ns() - c->vm.started_ns) / 1000000), "disks",
			 vm_describe_disks(&c->vm));
}

struct vm *clones_find(struct daemon *d, const char *id)
{
	struct family *f;
	struct lot *lot;
	struct clone *c;

	LIST_FOREACH(f, &d->families, entry) {
		LIST_FOREACH(lot, &f->lots, entry) {
			LIST_FOREACH(c, &lot->clones, entry) {
				/* one that runs is named as it is known to others */
				if (c->state == CLONE_RUNNING && !strcmp(c->vm.name, id))
					return &c->vm;
			}
		}
	}
	return NULL;
}

void clones_list(struct daemon *d, json_t *array)
{
	struct family *f;
	struct lot *lot;
	struct clone *c;

	LIST_FOREACH(f, &d->families, entry) {
		LIST_FOREACH(lot, &f->lots, entry) {
			LIST_FOREACH(c, &lot->clones, entry) {
				if (c->state != CLONE_GONE)
					json_array_append_new(array, describe_clone(c));
			}
		}
	}
}
