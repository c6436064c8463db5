/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What belongs to the daemon as a whole: memory, users, the end. */
#define _GNU_SOURCE
#include "host/sfd/daemon.h"

#include <errno.h>
#include <event2/event.h>
#include <unistd.h>

#include "common/io.h"
#include "common/log.h"
#include "host/sfd/clones.h"
#include "host/sfd/control.h"
#include "host/sfd/family.h"
#include "host/sfd/guest.h"
#include "host/sfd/image.h"
#include "host/sfd/boot.h"
#include "host/sfd/peers.h"
#include "host/sfd/probe.h"

/* Users nobody else has: above those of people, containers and systemd's dynamic ones. */
#define UID_BASE      1900000000u
#define UIDS_PER_HOST 65536u
#define UID_RANGES    4096u

uint64_t daemon_free_memory(const struct daemon *d)
{
	uint64_t used = d->mem_used + families_disk_bytes(d);

	return used < d->mem_bytes ? d->mem_bytes - used : 0;
}

int daemon_take_memory(struct daemon *d, uint64_t bytes)
{
	if (bytes > daemon_free_memory(d))
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

/* A number for the cluster's name, so that two clusters on one machine seldom share users. */
static unsigned cluster_number(const struct daemon *d)
{
	unsigned hash = 5381;

	for (const char *c = d->config.cluster; *c; c++)
		hash = hash * 33 + (unsigned char)*c;
	return hash;
}

uid_t daemon_next_uid(struct daemon *d)
{
	unsigned range = (cluster_number(d) + d->self->index) % UID_RANGES;

	return UID_BASE + range * UIDS_PER_HOST + d->next_uid++ % UIDS_PER_HOST;
}

void daemon_host_up(struct daemon *d)
{
	if (!peers_complete(d) || !probe_settled(d) || d->config.ready_fd < 0)
		return;
	log_info("ready: %u hosts", d->host_count);
	if (io_write_full(d->config.ready_fd, "k", 1))
		log_warn("whoever started us does not wait any more");
	close(d->config.ready_fd);
	d->config.ready_fd = -1;
}

void daemon_stop(struct daemon *d)
{
	struct timeval soon = { 0, 100000 };

	if (d->stopping)
		return;
	d->stopping = true;
	log_info("stopping");
	while (LIST_FIRST(&d->guests))
		guest_destroy(LIST_FIRST(&d->guests), "its host's daemon was told to end");
	while (LIST_FIRST(&d->families))
		clones_family_end(LIST_FIRST(&d->families));
	boot_control_lost(NULL);
	image_forget_all();
	/* the others are told that our guests are gone before the links end */
	event_base_loopexit(d->base, &soon);
}
