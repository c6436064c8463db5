/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A ticket's share of this host: a page file and the clones that map it. */
#include <errno.h>
#include <event2/event.h>
#include <stdlib.h>

#include "common/cleanup.h"
#include "host/sfd/clone.h"

struct lot *lot_find(struct family *f, unsigned ticket)
{
	struct lot *lot;

	LIST_FOREACH(lot, &f->lots, entry) {
		if (lot->ticket == ticket)
			return lot;
	}
	return NULL;
}

struct clone *lot_clone(struct lot *lot, unsigned id)
{
	struct clone *c;

	LIST_FOREACH(c, &lot->clones, entry) {
		if (c->id == id)
			return c;
	}
	return NULL;
}

/* Nobody prepares any more: tells home which stand ready. */
static void settle(struct lot *lot)
{
	const struct family *f = lot->family;
	json_t *ready = json_array(), *disks;
	struct clone *c;

	LIST_FOREACH(c, &lot->clones, entry) {
		if (c->state == CLONE_WAITING)
			json_array_append_new(ready, json_integer(c->vm.slot));
	}
	if (json_array_size(ready)) {
		disks = json_array();
		for (unsigned i = 0; i < f->disk_count; i++)
			json_array_append_new(disks, json_integer(f->disks[i].port));
		peer_reply(steal_ptr(&lot->reserving),
			   json_pack("{so ss si so}", "ready", ready, "why", lot->why, "pages",
				     (int)f->pages_port, "disks", disks));
		return;
	}
	json_decref(ready);
	peer_refuse(steal_ptr(&lot->reserving), -ENOSPC, "%s",
		    *lot->why ? lot->why : "no clone could be prepared");
	lot_free(lot); /* home will not come back to it */
}

/*
 * Prepares one clone, the next one at the next turn of the loop: starting a QEMU takes us
 * milliseconds, and others want answers meanwhile.
 */
static void prepare_next(evutil_socket_t fd, short what, void *arg)
{
	struct lot *lot = arg;

	(void)fd;
	(void)what;
	clone_prepare(lot, lot->slots[lot->slot_next++]);
	if (lot->slot_next < lot->slot_count)
		event_active(lot->turn, EV_TIMEOUT, 0);
	else if (!lot->preparing)
		settle(lot);
}

void lot_prepared(struct lot *lot)
{
	if (!--lot->preparing && lot->slot_next == lot->slot_count && lot->reserving)
		settle(lot);
}

/* Page files for what the clones inherit of the disks; at home they have the layers. */
static int make_disk_files(struct lot *lot, struct family *f)
{
	for (unsigned i = 0; i < f->disk_count && f->home != f->daemon->self; i++) {
		int file = pager_file_new(f->disks[i].pager);

		if (file < 0)
			return file;
		lot->disk_files[i] = (unsigned)file;
		lot->disk_file_count++;
	}
	return 0;
}

static void drop_disk_files(struct lot *lot, struct family *f)
{
	while (lot->disk_file_count) {
		unsigned i = --lot->disk_file_count;

		pager_file_gone(f->disks[i].pager, lot->disk_files[i]);
	}
}

struct lot *lot_create(struct family *f, unsigned ticket, const struct agent_window *window)
{
	struct lot *lot = calloc(1, sizeof(*lot));
	int rc;

	if (!lot)
		return NULL;
	lot->turn = evtimer_new(f->daemon->base, prepare_next, lot);
	lot->file = lot->turn ? family_file_new(f) : -ENOMEM;
	rc = lot->file < 0 ? lot->file : make_disk_files(lot, f);
	if (rc) {
		drop_disk_files(lot, f);
		if (lot->file >= 0)
			family_file_put(f, (unsigned)lot->file);
		if (lot->turn)
			event_free(lot->turn);
		errno = -rc;
		free(lot);
		return NULL;
	}
	lot->family = f;
	lot->ticket = ticket;
	lot->window = *window;
	LIST_INIT(&lot->clones);
	LIST_INSERT_HEAD(&f->lots, lot, entry);
	return lot;
}

void lot_reserve(struct lot *lot, unsigned *slots, unsigned count, struct peer_request *r)
{
	lot->slots = slots;
	lot->slot_count = count;
	lot->reserving = r;
	event_active(lot->turn, EV_TIMEOUT, 0);
}

void lot_free(struct lot *lot)
{
	if (lot->reserving)
		peer_refuse(steal_ptr(&lot->reserving), -ECANCELED, "the ticket was given up");
	while (LIST_FIRST(&lot->clones))
		clone_free(LIST_FIRST(&lot->clones));
	family_file_put(lot->family, (unsigned)lot->file);
	drop_disk_files(lot, lot->family);
	event_free(lot->turn);
	LIST_REMOVE(lot, entry);
	free(lot->slots);
	free(lot);
}
