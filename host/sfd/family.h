/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a VM that was booted and everything cloned from it share on one host: the segment of their
 * network, their sf-memtap, their page files, their ports. On its home a family lives as long as
 * its guest; elsewhere from the first reservation to "dismiss".
 */
#ifndef HOST_SFD_FAMILY_H
#define HOST_SFD_FAMILY_H

#include "host/sfd/daemon.h"
#include "host/sfd/pager.h"
#include "host/vnet/vnet.h"

#define FAMILY_PREFIX	  20   /* a segment has 4094 addresses */
#define FAMILY_MAX_SLOT	  4000 /* parent is slot 0; address = base + slot */
#define FAMILIES_PER_HOST 16   /* VMs that may be booted on one host: the plan of addresses */

struct lot;

/* The sizes of a family's disks, in bytes. */
struct family_disks {
	unsigned count;
	uint64_t bytes[VMM_MAX_DISKS];
};

/* What pages of a disk come from or go to on this host. */
struct family_disk {
	uint64_t bytes;
	struct pager *pager;
	uint16_t port;
};

struct family {
	struct daemon *daemon;
	struct host *home;
	unsigned number; /* home's number for it */
	char name[96];	 /* "<home>.<number>" */
	uint64_t ram_bytes;
	unsigned cpus;
	bool ipv6; /* its VMs have IPv6; set by who made it */
	uint32_t vni;
	struct in_addr base, gateway;
	struct vnet_segment *segment;
	struct pager *pager;
	struct sockaddr_in group; /* its pages' multicast */
	uint16_t pages_port;
	unsigned file_refs[MEMTAP_MAX_FILES];
	unsigned disk_count;
	struct family_disk disks[VMM_MAX_DISKS];
	LIST_HEAD(, lot) lots;
	bool failed;
	LIST_ENTRY(family) entry;
};

/* Return: the family, or NULL. */
struct family *family_find(struct daemon *d, const struct host *home, unsigned number);

/*
 * The first on this host makes it: memtap, one more for each disk, segment, peers. Return: the family, or NULL with a
 * sentence and errno (EADDRINUSE: the network of `base` is taken) and nothing left behind.
 */
struct family *family_create(struct daemon *d, struct host *home, unsigned number,
			     uint64_t ram_bytes, unsigned cpus, uint32_t vni, struct in_addr base,
			     const struct sockaddr_in *group, const struct family_disks *disks,
			     char why[WHY_BYTES]);

/* Takes everything away; its VMs must be gone. */
void family_destroy(struct family *f);

/*
 * Only hosts that are up are on the segments: what goes on running on one that was given up must
 * not meet those who take its place, under the same addresses.
 */
void family_host_up(struct daemon *d, const struct host *host);
void family_host_lost(struct daemon *d, const struct host *host);

/* Page files, counted. family_file_new: one reference, the file's number or -errno. */
int family_file_new(struct family *f);
void family_file_get(struct family *f, unsigned file);
void family_file_put(struct family *f, unsigned file);

/* What the page files of all families' disks take here: pages that clones have read of them. */
uint64_t families_disk_bytes(const struct daemon *d);

/* The address of a slot. */
struct in_addr family_address(const struct family *f, unsigned slot);

#endif
