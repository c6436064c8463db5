/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Instants: made by a freeze, counted by those who may begin clones there. */
#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>

#include "host/sfd/clones.h"
#include "host/sfd/guest.h"
#include "host/sfd/window.h"

/* A snapshot for each disk, that hosts of the ticket, or any, may ask for pages of. */
static int add_disks(struct instant *i, struct family *f, struct ticket *ticket)
{
	int rc = 0;

	for (unsigned n = 0; n < f->disk_count && !rc; n++) {
		struct instant_disk *k = &i->disks[n];
		int file = pager_file_new(f->disks[n].pager);

		if (file < 0)
			return file;
		i->disk_count++;
		k->file = (unsigned)file;
		rc = route_begin(&k->route, f->daemon, f->disks[n].port, ticket, (int)n);
		randombytes_buf(&k->snapshot, sizeof(k->snapshot));
		randombytes_buf(k->key, sizeof(k->key));
	}
	return rc;
}

static void drop_disks(struct instant *i)
{
	struct family *f = i->guest->vm.family;

	while (i->disk_count) {
		struct instant_disk *k = &i->disks[--i->disk_count];

		pager_file_gone(f->disks[i->disk_count].pager, k->file);
		route_fini(&k->route);
		disk_stack_fini(&k->stack);
		sodium_memzero(k->key, sizeof(k->key));
	}
}

struct instant *instant_new(struct guest *g, struct ticket *ticket, const char *key)
{
	struct family *f = g->vm.family;
	int file = ticket ? clones_lot_file(f, ticket->number) : -1;
	struct instant *i = calloc(1, sizeof(*i));
	int rc;

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
	i->disk_ms = -1;
	rc = route_begin(&i->route, g->vm.daemon, f->pages_port, ticket, ROUTE_MEMORY);
	if (!rc)
		rc = add_disks(i, f, ticket);
	if (rc) {
		instant_put(i);
		errno = -rc;
		return NULL;
	}
	i->verb = ticket ? "clone" : "checkpoint";
	snprintf(i->request, sizeof(i->request), "%s", key);
	randombytes_buf(&i->snapshot, sizeof(i->snapshot));
	randombytes_buf(i->key, sizeof(i->key));
	return i;
}

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
	route_fini(&i->route);
	drop_disks(i);
	free(i->descriptor);
	free(i->xs_state);
	free(i->dead);
	json_decref(i->cancel);
	json_decref(i->streams);
	sodium_memzero(i->key, sizeof(i->key));
	free(i);
}

void instant_keep(struct instant *i)
{
	struct guest *g = i->guest;
	struct checkpoint *c = calloc(1, sizeof(*c));

	if (!c) {
		vm_answer_error(&g->vm, i->request, ENOMEM, "out of memory");
		return;
	}
	c->number = i->checkpoint;
	c->instant = instant_get(i);
	LIST_INSERT_HEAD(&g->checkpoints, c, entry);
	vm_answer(&g->vm, i->request, "ok %u 0 0", c->number);
}

bool instant_fits(const struct instant *i, const struct ticket *t)
{
	return window_same(&i->window, &t->window);
}
