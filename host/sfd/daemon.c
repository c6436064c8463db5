/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What belongs to the daemon as a whole: memory, users, the end. */
#define _GNU_SOURCE
#include "host/sfd/daemon.h"

#include <errno.h>
#include <event2/event.h>

#include "common/log.h"
#include "host/sfd/clones.h"
#include "host/sfd/control.h"
#include "host/sfd/guest.h"
#include "host/sfd/peers.h"

/* Users nobody else has: above those of people, containers and systemd's dynamic ones. */
#define UID_BASE 1900000000u
#define UIDS_PER_HOST 65536u

int daemon_take_memory(struct daemon *d, uint64_t bytes)
{
	if (bytes > d->mem_bytes - d->mem_used)
		return -ENOSPC;
	d->mem_used += bytes;
	return 0;
}

void daemon_give_memory(struct daemon *d, uint64_t bytes)
{
	d->mem_used -= bytes;
}

uint64_t daemon_clone_charge(const struct daemon *d, uint64_t ram_bytes)
{
	return ram_bytes / 100 * d->config.clone_percent;
}

uid_t daemon_next_uid(struct daemon *d)
{
	return UID_BASE + d->self->index * UIDS_PER_HOST + d->next_uid++ % UIDS_PER_HOST;
}

void daemon_stop(struct daemon *d)
{
	struct timeval soon = { 0, 100000 };

	if (d->stopping)
		return;
	d->stopping = true;
	log_info("stopping");
	while (LIST_FIRST(&d->guests))
		guest_destroy(LIST_FIRST(&d->guests));
	for (unsigned i = 0; i < d->host_count; i++) {
		if (&d->hosts[i] != d->self)
			clones_home_lost(d, &d->hosts[i]);
	}
	/* the others are told that our guests are gone before the links end */
	event_base_loopexit(d->base, &soon);
}
