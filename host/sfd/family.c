/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Makes and takes away what a family shares on this host. */
#include "host/sfd/family.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "host/sfd/clones.h"
#include "host/sfd/guest.h"
#include "proto/peer.h"

struct family *family_find(struct daemon *d, const struct host *home, unsigned number)
{
	struct family *f;

	LIST_FOREACH(f, &d->families, entry) {
		if (f->home == home && f->number == number)
			return f;
	}
	return NULL;
}

struct in_addr family_address(const struct family *f, unsigned slot)
{
	return (struct in_addr){ .s_addr = htonl(ntohl(f->base.s_addr) + slot) };
}

/* Its memtap cannot be kept alive: whatever runs here of the family is lost. */
static void pager_failed(void *arg)
{
	struct family *f = arg;

	f->failed = true;
	clones_family_failed(f);
	if (f->home == f->daemon->self)
		guest_family_failed(f);
}

static int make_segment(struct family *f, char why[WHY_BYTES])
{
	struct daemon *d = f->daemon;
	struct vnet_config config = {
		.vni = f->vni,
		.base = f->base,
		.prefix = FAMILY_PREFIX,
		.gateway = f->gateway,
		.underlay = d->self->addr,
		.port = PEER_VXLAN_PORT,
	};
	int rc = vnet_segment_create(&config, &f->segment, why, WHY_BYTES);

	for (unsigned i = 0; !rc && i < d->host_count; i++) {
		if (&d->hosts[i] != d->self && d->hosts[i].up)
			rc = vnet_peer_add(f->segment, d->hosts[i].addr);
	}
	return rc;
}

void family_host_up(struct daemon *d, const struct host *host)
{
	struct family *f;

	LIST_FOREACH(f, &d->families, entry) {
		int rc = vnet_peer_add(f->segment, host->addr);

		if (rc)
			log_warn("family %s: host %s is not on its segment: %s", f->name,
				 host->name, strerror(-rc));
	}
}

void family_host_lost(struct daemon *d, const struct host *host)
{
	struct family *f;

	LIST_FOREACH(f, &d->families, entry)
		vnet_peer_remove(f->segment, host->addr);
}

/* A memtap for each disk. */
static int start_disks(struct family *f, const struct family_disks *disks, char why[WHY_BYTES])
{
	char name[sizeof(f->name) + 16];

	for (unsigned i = 0; i < disks->count; i++) {
		struct family_disk *k = &f->disks[f->disk_count];

		snprintf(name, sizeof(name), "%s disk %u", f->name, i);
		k->bytes = disks->bytes[i];
		k->pager = pager_start(f->daemon, name, daemon_next_uid(f->daemon), k->bytes,
				       &f->group, &k->port, pager_failed, f, why);
		if (!k->pager)
			return -EIO;
		f->disk_count++;
	}
	return 0;
}

static void stop_pagers(struct family *f)
{
	pager_stop(f->pager);
	while (f->disk_count)
		pager_stop(f->disks[--f->disk_count].pager);
}

struct family *family_create(struct daemon *d, struct host *home, unsigned number,
			     uint64_t ram_bytes, unsigned cpus, uint32_t vni, struct in_addr base,
			     const struct sockaddr_in *group, const struct family_disks *disks,
			     char why[WHY_BYTES])
{
	struct family *f = calloc(1, sizeof(*f));
	int rc;

	if (!f) {
		snprintf(why, WHY_BYTES, "out of memory");
		errno = ENOMEM;
		return NULL;
	}
	f->daemon = d;
	f->home = home;
	f->number = number;
	snprintf(f->name, sizeof(f->name), "%s.%u", home->name, number);
	f->ram_bytes = ram_bytes;
	f->cpus = cpus;
	f->vni = vni;
	f->base = base;
	f->group = *group;
	/* the last address of the segment but the broadcast */
	f->gateway.s_addr = htonl((ntohl(base.s_addr) | ((1u << (32 - FAMILY_PREFIX)) - 1)) - 1);
	LIST_INIT(&f->lots);
	f->pager = pager_start(d, f->name, daemon_next_uid(d), ram_bytes, group, &f->pages_port,
			       pager_failed, f, why);
	rc = f->pager ? start_disks(f, disks, why) : -EIO;
	if (!rc)
		rc = make_segment(f, why);
	if (rc) {
		stop_pagers(f);
		vnet_segment_destroy(f->segment);
		free(f);
		errno = -rc;
		return NULL;
	}
	LIST_INSERT_HEAD(&d->families, f, entry);
	log_info("family %s: here (memtap %d, segment %u)", f->name, pager_pid(f->pager), vni);
	return f;
}

void family_destroy(struct family *f)
{
	LIST_REMOVE(f, entry);
	log_info("family %s: gone", f->name);
	stop_pagers(f);
	vnet_segment_destroy(f->segment);
	free(f);
}

int family_file_new(struct family *f)
{
	int file = pager_file_new(f->pager);

	if (file >= 0)
		f->file_refs[file] = 1;
	return file;
}

void family_file_get(struct family *f, unsigned file)
{
	f->file_refs[file]++;
}

void family_file_put(struct family *f, unsigned file)
{
	if (!--f->file_refs[file])
		pager_file_gone(f->pager, file);
}

uint64_t families_disk_bytes(const struct daemon *d)
{
	const struct family *f;
	uint64_t bytes = 0;

	LIST_FOREACH(f, &d->families, entry) {
		for (unsigned i = 0; i < f->disk_count; i++)
			bytes += pager_stored_bytes(f->disks[i].pager);
	}
	return bytes;
}
